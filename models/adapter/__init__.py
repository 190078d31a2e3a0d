"""Adapters, which map the vectors of one encoder to aligned vectors: their steps, files and tuning."""
