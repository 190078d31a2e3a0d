"""The worker: from documents to vectors, labels and dead letters."""
