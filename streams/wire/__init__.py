"""Bytes and records: the topics, what they carry, and how it is read and written."""
