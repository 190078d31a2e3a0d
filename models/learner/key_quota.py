"""Whose texts move a tenant's means: a cap on every key, and what is usual for the tenant's keys.

Keys can be invented, so their number proves nothing by itself; but a stream that suddenly consists of new keys, of no
keys, or of few, while it did not before, is not the stream that was there.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

#: Texts of one window of a tenant's log, and how many of one key count in it.
WINDOW: Final = 256
MAX_OF_KEY: Final = 64
#: Texts that are compared with what is usual.
SAMPLE: Final = 64
#: Samples before anything is usual.
MIN_SAMPLES: Final = 3
#: Distinct keys of a sample from which on a stream is one of many keys, and below which it is one of few.
MANY_KEYS: Final = 8
FEW_KEYS: Final = 4
#: By how much a share of texts without key, or with a key never seen, may exceed what is usual.
MAX_ODD_SHARE: Final = 0.5
#: Keys that are remembered: two generations of about this many.
_GENERATION: Final = 2048


@dataclasses.dataclass(frozen=True, slots=True)
class KeySample:
    """What the keys of ``SAMPLE`` texts look like: shares from 0 to 1, and how many differ."""

    null_share: float
    new_share: float
    n_distinct: int


class KeyQuota:
    """Caps the influence of keys, and knows what is usual for them."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._n_in_window = 0
        self._young: set[int] = set()
        self._old: set[int] = set()
        self._current: list[tuple[int | None, bool]] = []
        self._usual = KeySample(0.0, 0.0, 0)
        self._n_samples = 0

    @property
    def n_known(self) -> int:
        """Count the keys that are remembered."""
        return len(self._young | self._old)

    def admits(self, key: int | None) -> bool:
        """Count one text, and say whether its key may still move anything in this window."""
        if self._n_in_window == WINDOW:
            self._counts.clear()
            self._n_in_window = 0
        self._n_in_window += 1
        if key is None:
            return True
        self._counts[key] += 1
        return self._counts[key] <= MAX_OF_KEY

    def is_new(self, key: int | None) -> bool:
        """Say whether a key was never seen, as far as is remembered, and remember it."""
        if key is None:
            return False
        known = key in self._young or key in self._old
        self._young.add(key)
        if len(self._young) > _GENERATION:
            self._young, self._old = set(), self._young
        return not known

    def oddity(self, texts: Sequence[tuple[int | None, bool]]) -> str | None:
        """Say what is odd about the keys of texts, each with whether it was new; None where nothing is."""
        sample, usual = _sample(texts), self._usual
        if self._n_samples < MIN_SAMPLES:
            return None
        if usual.n_distinct >= MANY_KEYS and sample.n_distinct < FEW_KEYS:
            return f"{len(texts)} texts of {sample.n_distinct} keys, where {usual.n_distinct} are usual"
        for share, before, what in (
            (sample.null_share, usual.null_share, "no key"),
            (sample.new_share, usual.new_share, "a key never seen before"),
        ):
            if share - before > MAX_ODD_SHARE:
                return f"{share:.0%} of the texts have {what}, where {before:.0%} are usual"
        return None

    def note(self, key: int | None, *, is_new: bool) -> None:
        """Let one text count for what is usual; not called while a change is looked into."""
        self._current.append((key, is_new))
        if len(self._current) == SAMPLE:
            sample = _sample(self._current)
            self._n_samples += 1
            step = max(1.0 / self._n_samples, 0.1)
            before = self._usual
            self._usual = KeySample(
                before.null_share + step * (sample.null_share - before.null_share),
                before.new_share + step * (sample.new_share - before.new_share),
                round(before.n_distinct + step * (sample.n_distinct - before.n_distinct)),
            )
            self._current = []

    def state(self) -> dict[str, Any]:
        """Return what has to be stored: JSON values."""
        return {
            "counts": sorted(self._counts.items()),
            "n_in_window": self._n_in_window,
            "young": sorted(self._young),
            "old": sorted(self._old),
            "current": [list(text) for text in self._current],
            "usual": list(dataclasses.astuple(self._usual)),
            "n_samples": self._n_samples,
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "KeyQuota":
        """Go on from what was stored."""
        quota = cls()
        quota._counts = Counter(dict(map(tuple, state["counts"])))
        quota._n_in_window = state["n_in_window"]
        quota._young, quota._old = set(state["young"]), set(state["old"])
        quota._current = [(key, is_new) for key, is_new in state["current"]]
        quota._usual = KeySample(*state["usual"])
        quota._n_samples = state["n_samples"]
        return quota


def _sample(texts: Sequence[tuple[int | None, bool]]) -> KeySample:
    n = max(len(texts), 1)
    return KeySample(
        sum(key is None for key, _ in texts) / n,
        sum(is_new for _, is_new in texts) / n,
        len({key for key, _ in texts if key is not None}),
    )
