"""Texts, pairs and public sets: reading, checking, and their vectors."""
