"""The learner: observations in, epochs out."""
