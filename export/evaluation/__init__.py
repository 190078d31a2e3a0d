"""Evaluation: what vectors and adapters are worth, task by task, against raw cosine on the same candidates."""
