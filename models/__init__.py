"""Encoder, adapters, labels, learning and the registry: arrays in, arrays out.

Imports none of our other packages, no Kafka client, no event loop and no torch.
"""
