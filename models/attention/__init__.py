"""Attention between the tokens and words of two texts."""
