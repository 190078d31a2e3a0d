"""The learner: turns observations into epochs."""
