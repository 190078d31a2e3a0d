"""Encoder artifacts: assembled from wheels, or exported through optimum and compared with torch."""
