"""Offline work: encoder artifacts and fitting. The only package that may import torch.

``embedded``, ``fit`` and ``evaluate`` need no torch; ``onnx`` and ``parity`` need the ``export`` extra.
"""
