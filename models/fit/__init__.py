"""Fit adapter steps: closed forms, self-learning, projections. Arrays in, steps out."""
