"""A toy encoder with language bias, texts in its languages, and the adapter that takes the bias away."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.steps.language_centre import LanguageCentre
from alignstream.models.arrays import Matrix

ENCODER: Final = "e" * 64
DIM: Final = 32
LANGUAGES: Final = ("en", "de", "sw", "ta")


def direction(name: str) -> Matrix:
    """Return a direction that follows from a name alone."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    x: Matrix = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    return x / np.float32(np.linalg.norm(x))


def unit(X: NDArray[Any]) -> Matrix:
    """Divide rows by their length."""
    rows: Matrix = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
    return rows


def encode(texts: Sequence[str], noise: float = 0.6) -> Matrix:
    """Encode texts, which are ``language:meaning``: the sum of both and of what is the text's own."""
    rows = []
    for text in texts:
        language, _, meaning = text.partition(":")
        x = direction(f"language {language}") * np.float32(1.5) + direction(meaning)
        rows.append(x + direction(text) * np.float32(noise))
    return unit(np.stack(rows))


def toy_texts(n: int = 30, languages: Sequence[str] = LANGUAGES, part: str = "") -> dict[str, list[str]]:
    """Return the same n texts in every language."""
    return {language: [f"{language}:{part}{i}" for i in range(n)] for language in languages}


def toy_vectors(n: int = 30, languages: Sequence[str] = LANGUAGES, part: str = "") -> dict[str, Matrix]:
    """Return their vectors."""
    return {language: encode(texts) for language, texts in toy_texts(n, languages, part).items()}


def toy_adapter() -> Adapter:
    """Return what removes the bias of a language where the tag says which."""
    means = np.stack([X.mean(axis=0) for X in toy_vectors(60).values()])
    keys = ("en-Latn", "de-Latn", "sw-Latn", "ta-Taml")
    return Adapter(encoder=ENCODER, dim=DIM, steps=(LanguageCentre(means, keys, (60,) * 4),))


def quarters(rng: np.random.Generator, n: int) -> Matrix:
    """Return unit vectors whose products are exact in float32, in any order of sums; many of them are equal."""
    signs = rng.integers(0, 2, size=(n, 16)) * 2 - 1
    signs[:, 3:] = 1
    X: Matrix = (signs * 0.25).astype(np.float32)
    return X


def write(path: Path, text: str) -> Path:
    """Write a file, with its folder where there is none; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_parallel(path: Path, n: int = 30) -> Path:
    """Write toy texts as a table of parallel text."""
    columns = toy_texts(n)
    rows = ["\t".join(columns), *("\t".join(row) for row in zip(*columns.values(), strict=True))]
    return write(path, "\n".join(rows) + "\n")


class Tokens(NamedTuple):
    """What an encoder says of a text's tokens."""

    spans: tuple[tuple[int, int], ...]
    vectors: Matrix


def encode_words(texts: Sequence[str]) -> list[Tokens]:
    """Encode two tokens a word, spaces with the token behind them; one language's tokens share a wide direction.

    Words are a language's first letter and a meaning, such as ``d7``.
    """
    tokens = []
    for text in texts:
        spans, rows, start = [], [], 0
        for word in text.split(" "):
            end = start + len(word)
            for part, span in enumerate(((max(0, start - 1), start + 1), (start + 1, end))):
                spans.append(span)
                rows.append(
                    direction(f"{word[1:]} {part}")
                    + np.float32(2.0) * direction(f"language {word[0]}")
                    + np.float32(0.5) * direction(f"{word} {part}")
                )
            start = end + 1
        tokens.append(Tokens(tuple(spans), np.stack(rows)))
    return tokens


def labelled_lines(*rows: tuple[str, str, str]) -> str:
    """Return text, language and label of each row as JSON lines."""
    return "".join(
        json.dumps({"text": text, "language": language, "label": label}) + "\n"
        for text, language, label in rows
    )
