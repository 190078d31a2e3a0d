"""The wire format: topics, records, and how they are encoded and decoded."""
