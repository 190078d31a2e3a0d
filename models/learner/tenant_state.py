"""What is known about one tenant's stream under one encoder, and when that is worth an epoch.

Texts enter in the order of the log. Everything here is a function of them, without clock or chance: the same log gives
the same epochs.
"""

import dataclasses
from collections import Counter, OrderedDict, deque
from typing import Final, Literal

import numpy as np

from alignstream.models.arrays import Array64, Vector32, Vector64
from alignstream.models.learner.bank import Bank
from alignstream.models.learner.drift import WINDOW, DriftTest, Finding
from alignstream.models.learner.key_quota import KeyQuota
from alignstream.models.learner.means import KEPT_TEXTS, MAX_LANGUAGES, RunningMeans
from alignstream.models.learner.observed import Example, Pair, Text
from alignstream.models.serving.epoch import Epoch, LabelExamples, MeanKey, Memory, TaggedVectors

Reason = Literal["doubling", "drift", "feedback", "interval", "manual", "reset"]

#: Texts before the first epoch; each later epoch comes when the texts have doubled.
FIRST_EPOCH_TEXTS: Final = 32
#: Doubling also counts by language, so that a late language does not wait until all texts have doubled: an epoch is due
#: when the languages whose own texts have doubled bring this many new texts.
GROWN_TEXTS: Final = 32
#: Fewest new texts of each of these languages.
LEAST_TEXTS: Final = 8
#: Weight of a language's mean, in texts, from which the stream is tested against it.
TESTED_FROM: Final = 8.0
#: Number of texts at which half of the common shift of a change is believed.
SHIFT_PRIOR: Final = 20.0
#: Most pairs and examples that a tenant keeps; the oldest are dropped.
MAX_PAIRS: Final = 1000
MAX_EXAMPLES: Final = 2000
#: Most bytes of either, as 16-bit floats: large vectors must fit into an epoch too.
MAX_FEEDBACK_BYTES: Final = 1_600_000
#: Share of pairs and examples that must be new before the next epoch; fewer new ones wait for a tick.
FEEDBACK_SHARE: Final = 0.25

#: Texts that make up a confirmed change: two windows.
_CHANGED_TEXTS: Final = 2 * WINDOW


@dataclasses.dataclass(frozen=True, slots=True)
class Recent:
    """A recent text: the mean that it counts for, its vector, and the key of its message."""

    mean_key: MeanKey
    vector: Vector32
    key: int | None
    is_new_key: bool


class TenantState:
    """The state of one tenant. Use it from one thread.

    Parameters
    ----------
    dim : int
        Embedding dimension.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.means = RunningMeans(dim)
        self.drift = DriftTest()
        self.key_quota = KeyQuota()
        self.bank = Bank()
        self.pairs: OrderedDict[str, Pair] = OrderedDict()
        self.examples: OrderedDict[str, Example] = OrderedDict()
        #: Texts learned since the stream last changed, and the number at which the next epoch is due.
        self.n_texts = 0
        self.next_at = FIRST_EPOCH_TEXTS
        #: All texts; those over their key's quota; those whose tag was not believed, by language.
        self.n_seen = 0
        self.n_capped = 0
        self.doubtful: Counter[str] = Counter()
        #: Number of the last epoch; texts and feedback since then.
        self.number = 0
        self.n_since = 0
        self.n_feedback = 0
        #: Texts by mean since the stream last changed, and how many of them came since the last epoch.
        self.counts: Counter[MeanKey] = Counter()
        self.counts_since: Counter[MeanKey] = Counter()
        #: Why learning is suspended: what is unusual about a change. None: it is not.
        self.suspended: str | None = None
        #: Frozen by a person: it keeps learning, but publishes nothing.
        self.is_frozen = False
        #: Languages whose means a person froze.
        self.frozen_languages: list[str] = []
        self.last_finding: Finding | None = None
        self.n_drifts = 0
        #: The last texts, of which a confirmed change consists.
        self.recent: deque[Recent] = deque(maxlen=_CHANGED_TEXTS)
        #: Consecutive windows without a change while suspended.
        self.n_calm = 0
        #: Why an epoch is due, whatever the counts; None: by the counts.
        self.requested_reason: Reason | None = None

    @property
    def due(self) -> Reason | None:
        """Why an epoch should be opened now; None if there is no reason."""
        if self.requested_reason is not None:
            return self.requested_reason
        if self.n_texts >= self.next_at or self._has_grown():
            return "doubling"
        kept = len(self.pairs) + len(self.examples)
        if self.n_feedback and self.n_feedback >= FEEDBACK_SHARE * kept:
            return "feedback"
        return None

    def _has_grown(self) -> bool:
        """Tell whether languages whose own texts have doubled since the last epoch bring enough for another."""
        grown = 0
        for key, n_since in self.counts_since.items():
            if n_since >= max(LEAST_TEXTS, self.counts[key] - n_since):
                grown += n_since
        return grown >= GROWN_TEXTS

    @property
    def is_behind(self) -> bool:
        """Whether some feedback is in no epoch yet; the next tick makes one due."""
        return self.n_feedback > 0

    def tick(self, *, is_live: bool) -> None:
        """Note that time has passed: an epoch is due for whatever waits."""
        if self.n_feedback:
            self.requested_reason = self.requested_reason or "feedback"
        elif is_live and self.n_since:
            self.requested_reason = self.requested_reason or "interval"

    def request_epoch(self) -> None:
        """Note that a person has asked for an epoch."""
        self.requested_reason = "manual"

    # -- texts ---------------------------------------------------------------------------------------

    def learn_text(self, text: Text) -> None:
        """Count one text, and learn from it unless something speaks against that."""
        self.n_seen += 1
        is_new_key = self.key_quota.is_new(text.key)
        if not self.key_quota.admits(text.key):
            self.n_capped += 1
            return
        if text.contradicts_tag:
            # Counted by language for people to read, and capped like means: tags come from outside.
            name = text.language or ""
            is_room = name in self.doubtful or len(self.doubtful) < MAX_LANGUAGES
            self.doubtful[name if is_room else ""] += 1
            return
        if text.language is None and text.nearest_language is not None:
            mean_key = MeanKey(text.nearest_language, is_inferred=True)
        else:
            mean_key = MeanKey(text.language or "")
        recent = Recent(mean_key, text.vector, text.key, is_new_key)
        self.recent.append(recent)
        if self._test_for_change(recent) or self.suspended:
            return
        self._learn(recent)
        self.n_texts += 1
        self.n_since += 1

    def _learn(self, recent: Recent) -> None:
        language, is_inferred = recent.mean_key
        if language in self.frozen_languages:
            return
        if self.means.add(recent.mean_key, recent.vector):
            self.counts[recent.mean_key] += 1
            self.counts_since[recent.mean_key] += 1
            self.bank.add("" if is_inferred else language, recent.vector)

    def _test_for_change(self, recent: Recent) -> bool:
        """Test the stream for a change, and begin again after one; return whether this text is dealt with."""
        if self.means.weight(recent.mean_key) < TESTED_FROM:
            return False
        finding = self.drift.add(self.means.residual(recent.mean_key, recent.vector))
        if finding is None:
            if not self.drift.is_suspicious and not self.suspended:
                self.key_quota.note(recent.key, is_new=recent.is_new_key)
            return False
        self.last_finding = finding
        if self.suspended:
            self.n_calm = 0 if finding.is_above else self.n_calm + 1
            if self.n_calm >= 2:
                self.suspended, self.n_calm = None, 0
            return False
        if not finding.is_confirmed:
            return False
        anomaly = self.key_quota.anomaly([(text.key, text.is_new_key) for text in self.recent])
        if anomaly is not None:
            self.suspended, self.n_calm = anomaly, 0
            return True
        self._begin_again()
        return True

    def _begin_again(self) -> None:
        """Begin again with the texts of a confirmed change, starting from what was learned before."""
        self.n_drifts += 1
        tested = [text for text in self.recent if self.means.weight(text.mean_key) >= TESTED_FROM]
        if tested:
            common = np.mean([self.means.residual(text.mean_key, text.vector) for text in tested], axis=0)
            self.means.shift(common * (len(tested) / (len(tested) + SHIFT_PRIOR)))
        self.means.soften()
        self.bank.clear()
        self.counts = Counter({key: min(n, int(KEPT_TEXTS)) for key, n in self.counts.items()})
        self.counts_since.clear()
        for text in self.recent:
            self._learn(text)
        self.drift.reset()
        self.n_texts = len(self.recent)
        self.next_at = 2 * self.n_texts
        self.n_since += 1
        self.requested_reason = "drift"

    # -- feedback ------------------------------------------------------------------------------------

    def learn_pair(self, pair: Pair) -> None:
        """Add one pair of translations."""
        self._keep(self.pairs, pair.id, pair, min(MAX_PAIRS, MAX_FEEDBACK_BYTES // (4 * self.dim)))

    def learn_example(self, example: Example) -> None:
        """Add one labelled text."""
        limit = min(MAX_EXAMPLES, MAX_FEEDBACK_BYTES // (2 * self.dim))
        self._keep(self.examples, example.id, example, limit)

    def delete_pair(self, pair_id: str) -> bool:
        """Forget one pair; return whether it existed."""
        if self.pairs.pop(pair_id, None) is None:
            return False
        self.n_feedback += 1
        self.requested_reason = "feedback"
        return True

    def _keep(self, kept: OrderedDict, name: str, value: object, limit: int) -> None:  # type: ignore[type-arg]
        kept.pop(name, None)
        kept[name] = value
        if len(kept) > limit:
            kept.popitem(last=False)
        self.n_feedback += 1

    # -- a person --------------------------------------------------------------------------------------

    def freeze_language(self, language: str, *, is_frozen: bool) -> None:
        """Freeze or unfreeze the mean of one language, given by its key."""
        others = {name for name in self.frozen_languages if name != language}
        if is_frozen and len(others) < MAX_LANGUAGES:
            others.add(language)
        self.frozen_languages = sorted(others)

    def thaw(self) -> None:
        """Resume publishing, and learning if it was suspended."""
        self.is_frozen, self.suspended, self.n_calm = False, None, 0
        self.drift.reset()

    def evict(self) -> None:
        """Keep only what takes little memory: means, pairs and examples."""
        self.bank.clear()
        self.recent.clear()
        self.drift = DriftTest()
        self.key_quota = KeyQuota()
        self.suspended, self.n_calm = None, 0

    def reset(self, language: str | None = None) -> None:
        """Forget what was learned from unlabelled texts, of one language or of all; pairs and examples stay."""
        self.means.forget(language)
        self.bank.clear(language)
        self.drift.reset()
        self.recent.clear()
        for key in [key for key in self.counts if language in {None, key.language}]:
            del self.counts[key], self.counts_since[key]
        if language is None:
            self.n_texts, self.next_at = 0, FIRST_EPOCH_TEXTS
            self.key_quota = KeyQuota()
            self.suspended = None
        self.requested_reason = "reset"

    # -- an epoch --------------------------------------------------------------------------------------

    def epoch(self, *, encoder: str, tenant: str, reason: Reason) -> Epoch:
        """Return a candidate epoch of the current state, under the next number."""
        bank_languages, bank = self.bank.stacked(self.dim)
        pairs, examples = list(self.pairs.values()), list(self.examples.values())
        return Epoch(
            encoder=encoder,
            tenant=tenant,
            number=self.number + 1,
            dim=self.dim,
            reason=reason,
            languages=self.means.languages,
            means=self.means.means.astype(np.float32),
            weights=tuple(float(weight) for weight in self.means.weights),
            dependence=self.drift.dependence,
            n_keys=self.key_quota.n_known,
            is_steady=self.suspended is None and not self.drift.is_suspicious,
            bank=TaggedVectors(bank, bank_languages),
            memory=Memory(
                self._rows([(pair.source.vector, pair.source.language) for pair in pairs]),
                self._rows([(pair.target.vector, pair.target.language) for pair in pairs]),
                tuple(pair.id for pair in pairs),
                tuple((pair.source.text, pair.target.text) for pair in pairs),
            ),
            examples=LabelExamples(
                self._rows([(example.vector, example.language) for example in examples]),
                tuple(example.label_set for example in examples),
                tuple(example.label for example in examples),
            ),
        )

    def _rows(self, tagged: list[tuple[Vector32, str | None]]) -> TaggedVectors:
        vectors = (
            np.stack([vector for vector, _ in tagged]).astype(np.float16)
            if tagged
            else np.zeros((0, self.dim), dtype=np.float16)
        )
        return TaggedVectors(vectors, tuple(language or "" for _, language in tagged))

    def note_epoch(self) -> None:
        """Note that an epoch was published or refused: the next one waits until the texts have doubled again."""
        self.number += 1
        self.requested_reason = None
        self.n_since = 0
        self.n_feedback = 0
        self.counts_since.clear()
        while self.next_at <= self.n_texts:
            self.next_at *= 2
        self.drift.calibrate(self._residuals(), seed=self.number)

    def _residuals(self) -> Array64:
        """Return the bank's texts minus the mean of their language among them."""
        by_language: dict[str, list[Vector64]] = {}
        for language, vector in self.bank:
            by_language.setdefault(language, []).append(vector.astype(np.float64))
        parts = []
        for vectors in by_language.values():
            if len(vectors) > 1:
                X = np.stack(vectors)
                # Minus the mean of the others: a text's own share in the mean would make its residual too short.
                parts.append((X - X.mean(axis=0)) * (len(X) / (len(X) - 1)))
        return np.concatenate(parts) if parts else np.zeros((0, self.dim))
