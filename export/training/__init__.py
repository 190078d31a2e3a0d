"""Refiners of a linear map: gradient descent from a closed form, kept only where development pairs improve.

``curves``, ``judge`` and ``texts`` need no torch; ``losses``, ``loop``, ``checkpoint``, ``refine``,
``adversarial`` and ``adapters`` need the ``export`` extra.
"""
