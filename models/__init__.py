"""What can be said without a network: encoder, alignment, tasks, registry.

Arrays in, arrays out. Imports none of our other packages, no Kafka client and no event loop, never torch.
"""
