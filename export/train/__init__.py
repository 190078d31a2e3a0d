"""Refiners of a linear map: gradient descent from a closed form, kept only where development pairs improve."""
