"""Where adapters and label sets are kept and fetched from: memory or Redis, under one set of laws."""
