"""Fit steps to vectors: closed forms, self-learning, projections. Arrays in, steps out."""
