"""Generators of our own tables and of the shipped adapter: for maintainers, not in the wheel."""
