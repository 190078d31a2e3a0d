"""The kinds of adapter step, one class per file."""
