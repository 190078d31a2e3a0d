"""The worker: turns documents into vectors, labels and dead letters."""
