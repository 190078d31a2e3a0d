"""Adapters and label sets fitted to people's texts and translations."""
