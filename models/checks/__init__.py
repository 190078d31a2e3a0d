"""Checks before publishing, with one definition of each measure."""
