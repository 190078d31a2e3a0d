"""A tenant's own maps, fitted to pairs that it vouches for: they move stored vectors into another space."""

import dataclasses
import functools
import hashlib
from typing import Final

import numpy as np

from alignstream.models.adapter.steps.language_maps import LanguageMaps
from alignstream.models.adapter.steps.step import Tuning
from alignstream.models.arrays import Vector32
from alignstream.models.unit_vectors import MIN_NORM

VERSION_DIGITS: Final = 12


@dataclasses.dataclass(frozen=True, eq=False)
class TenantMap:
    """Corrections of some languages, fitted to the tenant's pairs on top of one adapter version.

    Examples
    --------
    >>> left, right = np.array([[[1], [0]]], dtype=np.float32), np.array([[[-1, 1]]], dtype=np.float32)
    >>> tenant_map = TenantMap(LanguageMaps(left, right, ("de-Latn",)), adapter_version="0123456789ab")
    >>> tenant_map.moved(np.array([1, 0], dtype=np.float32), "de")
    array([0., 1.], dtype=float32)
    """

    maps: LanguageMaps
    adapter_version: str

    def moved(self, y: Vector32, language: str | None, strength: float = 1.0) -> Vector32:
        """Correct an aligned vector if its tag names one of the languages.

        Parameters
        ----------
        y : ndarray of shape (dim,), float32
            A unit vector.
        language : str, optional
            Its tag.
        strength : float
            From 0 (no correction) to 1 (the whole correction).

        Returns
        -------
        ndarray of shape (dim,), float32
            A unit vector.
        """
        y64 = y.astype(np.float64)
        moved = y64 + strength * (self.maps.transform_one(y64, Tuning(language=language)) - y64)
        norm = max(float(np.linalg.norm(moved)), MIN_NORM)
        return (moved / norm).astype(np.float32)

    @functools.cached_property
    def version(self) -> str:
        """Version of this map, part of ``space``."""
        digest = hashlib.sha256(self.adapter_version.encode())
        for name in self.maps.languages:
            digest.update(b"\0" + name.encode())
        digest.update(self.maps.left.tobytes())
        digest.update(self.maps.right.tobytes())
        return digest.hexdigest()[:VERSION_DIGITS]
