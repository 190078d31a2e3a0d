"""Offline work: encoder artifacts and fitting. The only package that may import torch.

``encoders/embedded``, ``fit`` and ``evaluate`` need no torch; ``train``, ``encoders/onnx_export`` and
``encoders/parity`` need the ``export`` extra.
"""
