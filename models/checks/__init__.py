"""What must hold before something is published: one definition of each measure."""
