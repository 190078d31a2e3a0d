"""Texts, pairs and public sets: what is read, what of it is refused, and their vectors."""
