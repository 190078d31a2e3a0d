"""Offline work: encoder artifacts and fitting. The only package that may import torch.

``data``, ``evaluate``, ``fit`` and ``encoders.embedded`` need no torch; ``train``, ``encoders.onnx_export`` and
``encoders.parity`` need the ``export`` extra.
"""
