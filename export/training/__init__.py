"""Refiners of a linear map: gradient descent from a closed form, kept only where development pairs improve.

``curves``, ``judge`` and ``placing`` need no torch; ``losses``, ``loop``, ``checkpoint``, ``refine``,
``adversarial`` and ``train`` need the ``export`` extra.
"""
