"""From unit vectors to aligned unit vectors: the adapter value and its closed-form fit."""
