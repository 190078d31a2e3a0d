"""The learner: from observations to epochs."""
