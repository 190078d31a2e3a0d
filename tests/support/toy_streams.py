"""Toy streams to replay: meanings in four languages, a domain that moves each language, and an adapter for them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from alignstream.export.evaluate.prequential.public_streams import StreamLines
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.steps.language_centre import LanguageCentre
from alignstream.models.arrays import Matrix

ENCODER: Final = "e" * 64
DIM: Final = 24
TAGS: Final = ("en", "de", "sw", "ta")
KEYS: Final = ("en-Latn", "de-Latn", "sw-Latn", "ta-Taml")


def unit(X: Matrix) -> Matrix:
    """Divide rows by their length."""
    rows: Matrix = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
    return rows


def bias(tag: str) -> Matrix:
    """Return what a language adds to every text."""
    return np.random.default_rng(TAGS.index(tag)).standard_normal(DIM).astype(np.float32)


def lines(n: int, *, seed: int, domain: float = 0.0, noise: float = 0.8) -> StreamLines:
    """Meanings, and what languages and a domain add to them; the domain adds to each language its own too."""
    rng = np.random.default_rng(seed)
    meanings = rng.standard_normal((n, DIM))
    common = np.random.default_rng(99).standard_normal(DIM)
    vectors = {}
    for tag in TAGS:
        own = np.random.default_rng(50 + TAGS.index(tag)).standard_normal(DIM)
        X = meanings + 2.0 * bias(tag) + noise * rng.standard_normal((n, DIM)) + domain * (common + 2.0 * own)
        vectors[tag] = unit(X.astype(np.float32))
    return StreamLines("en", vectors, {tag: [f"{tag} {line}" for line in range(n)] for tag in TAGS})


def toy_adapter() -> Adapter:
    """Return what removes the bias of a language where the tag says which."""
    means = np.stack([X.mean(axis=0) for X in lines(200, seed=7).by_language.values()])
    return Adapter(encoder=ENCODER, dim=DIM, steps=(LanguageCentre(means, KEYS, (200,) * 4),))


def encode(texts: Sequence[str]) -> Matrix:
    """Encode texts, which are ``tag line``: vectors of ``lines``."""
    news = lines(60, seed=1, domain=0.5)
    return np.stack([news.by_language[tag][int(line)] for tag, line in map(str.split, texts)])


def write_records(path: Path, records: Sequence[Any]) -> Path:
    """Write JSON lines; a string stands for itself."""
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in records))
    return path


def write_stream(path: Path) -> Path:
    """Write a stream of 240 texts in four languages."""
    return write_records(
        path,
        [{"text": f"{tag} {line}", "language": tag, "group": line} for line in range(60) for tag in TAGS],
    )
