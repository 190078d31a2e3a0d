"""The demonstration: real text in many languages through the whole service."""
