"""What a stream stores, and what a query finds among it. Pure: arrays in, figures out."""

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.export.evaluate.measures import FROM_PIVOT, MIXED_POOL, TO_PIVOT
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.languages import language_key
from alignstream.models.arrays import Matrix, Vector32
from alignstream.models.errors import ReplayError
from alignstream.models.serving.query_adaptation import QueryAdaptation

#: A group of messages that have no translation in the stream, and are not stored either.
NO_GROUP: Final = -1
MEASURES: Final = (TO_PIVOT, FROM_PIVOT, MIXED_POOL)
#: By measure, then by language: one value from 0 to 1 a query, in the order of the stream.
PerQuery = dict[str, dict[str, list[float]]]


@dataclasses.dataclass(frozen=True, eq=False)
class Messages:
    """Texts in the order of a stream.

    Parameters
    ----------
    vectors : ndarray of shape (n, dim), float32
        Unit vectors as encoded.
    languages : tuple of str
        What each is reported under.
    tags : tuple of str or None
        What each message says of its language.
    groups : ndarray of shape (n,), int64
        Translations of each other share one; ``NO_GROUP``: learned from, but neither stored nor looked up.
    gold : ndarray of shape (n,), int64, optional
        Position of each text's label.
    """

    vectors: Matrix
    languages: tuple[str, ...]
    tags: tuple[str | None, ...]
    groups: NDArray[np.int64]
    gold: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.vectors), len(self.languages), len(self.tags), len(self.groups)}
        if len(lengths) != 1 or (self.gold is not None and len(self.gold) != len(self.groups)):
            raise ReplayError(f"messages have parts of {sorted(lengths)} rows")

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self.groups)


class StreamIndex:
    """Stored vectors among which translations are looked up.

    Parameters
    ----------
    messages : Messages
        The stored messages; those without a group are left out.
    Y : ndarray of shape (n, dim), float32
        Their unit vectors, as stored.
    pivot : str
    """

    def __init__(self, messages: Messages, Y: Matrix, pivot: str) -> None:
        self.rows = np.flatnonzero(messages.groups != NO_GROUP)
        self.Y = Y[self.rows]
        self.languages = np.array(messages.languages, dtype=object)[self.rows]
        self.keys = [tag_key(messages.tags[row]) for row in self.rows]
        self._groups = messages.groups[self.rows]
        self._pivot = pivot
        self._columns = {
            name: np.flatnonzero(self.languages == name) for name in dict.fromkeys(self.languages)
        }
        self._members = {
            name: frozenset(self._groups[columns].tolist()) for name, columns in self._columns.items()
        }
        self._sizes = dict(
            zip(*map(np.ndarray.tolist, np.unique(self._groups, return_counts=True)), strict=True)
        )

    def penalty(self, adaptation: QueryAdaptation) -> Vector32 | None:
        """Return half the hubness of every stored vector, shape (n,); None where the epoch's bank is too small."""
        hubness = [adaptation.hubness(y, key) for y, key in zip(self.Y, self.keys, strict=True)]
        if None in hubness:
            return None
        half: Vector32 = (np.array(hubness) / 2.0).astype(np.float32)
        return half

    def look_up(
        self, Q: Matrix, positions: NDArray[np.int64], penalty: Vector32 | None, into: PerQuery
    ) -> None:
        """Look up queries and add what they found.

        Parameters
        ----------
        Q : ndarray of shape (n, dim), float32
            Unit vectors.
        positions : ndarray of shape (n,), int64
            Which stored vector is each query's own text: it does not find itself.
        penalty : ndarray of shape (n_stored,), float32, optional
            Subtracted from the cosines.
        into : PerQuery
            Texts whose nearest vector of the pivot is a translation (``TO_PIVOT``); queries of the pivot, by the
            language in which they look (``FROM_PIVOT``); R-precision among everything (``MIXED_POOL``).
        """
        scores = Q @ self.Y.T
        if penalty is not None:
            scores -= penalty
        scores[np.arange(len(Q)), positions] = -np.inf
        for row, position in zip(scores, positions.tolist(), strict=True):
            language, group = self.languages[position], int(self._groups[position])
            others = (
                [self._pivot]
                if language != self._pivot
                else [name for name in self._columns if name != language]
            )
            for name in others:
                if group in self._members.get(name, ()):
                    columns = self._columns[name]
                    is_right = self._groups[columns[row[columns].argmax()]] == group
                    measure, by = (FROM_PIVOT, name) if language == self._pivot else (TO_PIVOT, language)
                    into.setdefault(measure, {}).setdefault(by, []).append(float(is_right))
            n_others = self._sizes[group] - 1
            if n_others:
                nearest = np.argpartition(row, -n_others)[-n_others:]
                share = float((self._groups[nearest] == group).mean())
                into.setdefault(MIXED_POOL, {}).setdefault(language, []).append(share)


def stored_vectors(adapter: Adapter, messages: Messages) -> Matrix:
    """Return the stored vector of every message, shape (n, dim), float32: the adapter alone, with its tag."""
    Y = np.empty_like(messages.vectors)
    for row, (x, tag) in enumerate(zip(messages.vectors, messages.tags, strict=True)):
        Y[row] = adapter.transform_one(x, Context(language=tag))
    return Y


def quality(adapter: Adapter, sample: Messages, pivot: str, adaptation: QueryAdaptation | None) -> float:
    """Return the mean of the three measures, in points, over a sample looked up among itself by cosine."""
    Y = stored_vectors(adapter, sample)
    index = StreamIndex(sample, Y, pivot)
    Q = Y
    if adaptation is not None:
        Q = np.stack([
            adaptation.query(x, Context(language=tag))
            for x, tag in zip(sample.vectors, sample.tags, strict=True)
        ])  # fmt: skip
    per_query: PerQuery = {}
    index.look_up(Q[index.rows], np.arange(len(index.rows)), None, per_query)
    means = [
        np.mean([np.mean(values) for values in per_query[name].values()])
        for name in MEASURES
        if name in per_query
    ]
    return 100.0 * float(np.mean(means))


def tag_key(tag: str | None) -> str | None:
    """Return the key of a tag; None without a tag."""
    return None if tag is None else language_key(tag)


def concatenated(one: Messages, other: Messages) -> Messages:
    """Return messages one after the other, without their labels."""
    return Messages(
        np.concatenate([one.vectors, other.vectors]),
        one.languages + other.languages,
        one.tags + other.tags,
        np.concatenate([one.groups, other.groups]),
    )
