"""The kinds of step that an adapter is made of, one class a file."""
