"""The registry of adapters, label sets and epochs: in memory or in Redis, under one set of laws."""
