"""Key quotas: a cap on how far one message key moves a tenant's means, and a check for unusual keys.

Keys can be invented, so their number proves nothing by itself. But a stream that suddenly has new keys, no keys or few
keys, and did not before, is no longer the same stream.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

#: Texts in one window of a tenant's log, and how many of them count per key.
WINDOW: Final = 256
MAX_OF_KEY: Final = 64
#: Texts in a sample that is compared with the usual figures.
SAMPLE: Final = 64
#: Samples needed before any figures are usual.
MIN_SAMPLES: Final = 3
#: Distinct keys in a sample: from MANY_KEYS on, a stream has many keys, and below FEW_KEYS it has few.
MANY_KEYS: Final = 8
FEW_KEYS: Final = 4
#: How far the share of texts without a key, or with a new key, may exceed the usual share.
MAX_ODD_SHARE: Final = 0.5
#: Keys remembered: two generations of about this many each.
_GENERATION: Final = 2048


@dataclasses.dataclass(frozen=True, slots=True)
class KeySample:
    """Figures on the keys of ``SAMPLE`` texts: shares from 0 to 1, and the number of distinct keys."""

    null_share: float
    new_share: float
    n_distinct: int


class KeyQuota:
    """Caps the influence of each key, and tracks what is usual for a tenant's keys.

    Examples
    --------
    >>> quota = KeyQuota()
    >>> sum(quota.admits(key=7) for _ in range(100))
    64
    """

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
        """Number of keys remembered."""
        return len(self._young | self._old)

    def admits(self, key: int | None) -> bool:
        """Count one text, and tell whether its key is still within its quota in this window."""
        if self._n_in_window == WINDOW:
            self._counts.clear()
            self._n_in_window = 0
        self._n_in_window += 1
        if key is None:
            return True
        self._counts[key] += 1
        return self._counts[key] <= MAX_OF_KEY

    def is_new(self, key: int | None) -> bool:
        """Tell whether a key is new, as far as is remembered, and remember it."""
        if key is None:
            return False
        known = key in self._young or key in self._old
        self._young.add(key)
        if len(self._young) > _GENERATION:
            self._young, self._old = set(), self._young
        return not known

    def anomaly(self, texts: Sequence[tuple[int | None, bool]]) -> str | None:
        """Tell what is unusual about the keys of texts, given as (key, is_new); None if nothing is."""
        sample, usual = _sample(texts), self._usual
        if self._n_samples < MIN_SAMPLES:
            return None
        if usual.n_distinct >= MANY_KEYS and sample.n_distinct < FEW_KEYS:
            return f"{len(texts)} texts have {sample.n_distinct} distinct keys; {usual.n_distinct} are usual"
        for share, before, trait in (
            (sample.null_share, usual.null_share, "no key"),
            (sample.new_share, usual.new_share, "a key never seen before"),
        ):
            if share - before > MAX_ODD_SHARE:
                return f"{share:.0%} of the texts have {trait}; {before:.0%} is usual"
        return None

    def note(self, key: int | None, *, is_new: bool) -> None:
        """Add one text to the usual figures; not called while a change is being examined."""
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
        """Return the state to store, as JSON values."""
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
        """Rebuild a quota from its stored state."""
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
