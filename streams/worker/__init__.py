"""The worker: documents in; vectors, labels and dead letters out."""
