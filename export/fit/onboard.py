"""Bring a language into an adapter, from no example to thousands: what helps is added, what does not is refused.

A language without examples is served already: attention meets it with the prototypes that it resembles, and the
pooled map was fitted to all the others. Text gives it a prototype of its own, shrunk toward its relatives;
pairs give it a correction of the map, shrunk toward none. Each step passes the gate, or falls back to the step
before it, inside the same space.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alignstream.export.data.pair_checks import check_translations
from alignstream.export.evaluate.set_report import neighbours_kept
from alignstream.export.fit.pair_adapter import with_correction
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.language_groups import relatives
from alignstream.models.adapter.languages import language_key
from alignstream.models.adapter.steps.prototypes import PrototypeAttention
from alignstream.models.adapter.steps.step import Tuning
from alignstream.models.arrays import Array64, Matrix
from alignstream.models.checks import gate
from alignstream.models.errors import AdapterError
from alignstream.models.fit.closed_form import PairSums, shrunk_by_pairs
from alignstream.models.fit.spreads import fit_spreads

#: Texts that the mean of the relatives is worth.
FAMILY_TEXTS: Final = 10.0
#: Pairs that "no correction" is worth: chosen so that a language's own pairs do no harm in another domain.
PRIOR_PAIRS: Final = 800.0
#: λ of the correction, with as many pairs.
STRENGTH: Final = 1.0
#: Rank of the correction that is kept.
RANK: Final = 16
#: Pairs from which on half are held out; below, each is left out of its own fit.
SPLIT_PAIRS: Final = 2 * gate.MANY_PAIRS
#: Rows of similarities held at once.
_BLOCK_ROWS: Final = 1024


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One step that was tried: what was tried, whether it was taken, and why."""

    name: str
    is_taken: bool
    reason: str


@dataclasses.dataclass(frozen=True)
class Onboarded:
    """The adapter and how it came about.

    Parameters
    ----------
    adapter : Adapter
        The base where no step was taken.
    attempts : list of Attempt
    figures : dict of str to (float, float)
        On pairs, before and after: accuracy both ways, in points. After is that of two folds, each with a prototype
        and a map that the other half gave: nothing is judged on what it was fitted to.
    attention : tuple of list of (str, float)
        Before and after: the languages that its texts attend to most, with the mean weight of each. For a person to
        look at: the mean of some texts says more of their subject than of their language, so that a file in another
        language than its tag cannot be refused for where it lies.
    """

    adapter: Adapter
    attempts: list[Attempt]
    figures: dict[str, tuple[float, float]]
    attention: tuple[list[tuple[str, float]], list[tuple[str, float]]]


@dataclasses.dataclass(frozen=True)
class Examples:
    """Raw vectors of what is known of a language.

    Parameters
    ----------
    language : str
        Its tag.
    texts : ndarray of shape (n, dim), float32
        Its texts, sources of pairs among them.
    source, target : ndarray of shape (n_pairs, dim), float32
        Pairs; may be empty.
    target_language : str
        Tag of the other side.
    distractors : ndarray of shape (m, dim), float32
        Other texts in the target language.
    """

    language: str
    texts: Matrix
    source: Matrix
    target: Matrix
    target_language: str
    distractors: Matrix

    def pairs(self, rows: NDArray[np.bool_]) -> "Examples":
        """Return the same with some of the pairs."""
        return dataclasses.replace(self, source=self.source[rows], target=self.target[rows])

    def without(self, rows: NDArray[np.bool_]) -> "Examples":
        """Return the same without some of the pairs, and without the texts that are their sources."""
        held_back = {row.tobytes() for row in self.source[rows]}
        keep = [row.tobytes() not in held_back for row in self.texts]
        return dataclasses.replace(self.pairs(~rows), texts=self.texts[keep])

    def folds(self) -> list[NDArray[np.bool_]]:
        """Return which pairs each of two folds holds back; a fold without a pair is left out."""
        folds = [np.arange(len(self.source)) % 2 == turn for turn in (0, 1)]
        return [fold for fold in folds if fold.any()]


def onboard(base: Adapter, examples: Examples, *, force: bool = False) -> Onboarded:
    """Add a language to an adapter.

    Parameters
    ----------
    base : Adapter
        With prototypes.
    examples : Examples
    force : bool
        Take every step, whatever the gate says; the report says so.

    Raises
    ------
    AdapterError
        The tag names no language, or the base knows no languages.
    """
    key = language_key(examples.language)
    if key is None:
        raise AdapterError(f"{examples.language!r} is not a tag of a language, such as 'sw' or 'zh-Hant'")
    _attention(base)
    X, Y = _aligned(base, examples)
    check_translations(X.astype(np.float32), Y.astype(np.float32), "the pairs")
    attempts: list[Attempt] = []
    current = _with_prototype(base, key, examples, attempts, force=force)
    has_prototype = current is not base
    current = _with_correction(current, key, examples, attempts, force=force)
    has_map = attempts[-1].is_taken
    figures = {}
    if len(examples.source) > 1:
        before = _directions(_finds(base, examples), _finds_back(base, examples))
        after = _held_out(base, key, examples, has_prototype=has_prototype, has_map=has_map)
        figures = {name: (before[name], after[name]) for name in before}
    if current is not base:
        report: Mapping[str, Any] = {
            "method": "onboarded",
            "base": base.version,
            "language": key,
            "texts": len(examples.texts),
            "pairs": len(examples.source),
            "steps": [dataclasses.asdict(attempt) for attempt in attempts],
            "forced": force,
            "base_report": {
                name: base.report[name] for name in ("method", "settings") if name in base.report
            },
        }
        current = dataclasses.replace(current, report=report)
    attended = tuple(_attended(adapter, examples) for adapter in (base, current))
    return Onboarded(current, attempts, figures, (attended[0], attended[1]))


def _attention_at(adapter: Adapter) -> tuple[int, PrototypeAttention]:
    found = adapter.find(PrototypeAttention)
    if found is None:
        raise AdapterError(
            "the base adapter has no prototypes of languages; take one that has, such as the shipped"
        )
    return found


def _attention(adapter: Adapter) -> PrototypeAttention:
    return _attention_at(adapter)[1]


def _with_attention(adapter: Adapter, attention: PrototypeAttention) -> Adapter:
    """Return an adapter with other prototypes."""
    position, _ = _attention_at(adapter)
    return adapter.replace_step(position, attention)


def _attended(adapter: Adapter, examples: Examples) -> list[tuple[str, float]]:
    if not len(examples.texts):
        return []
    attention = _attention(adapter)
    tuning = Tuning(language=examples.language, shrinkage=1.0)
    weights = np.mean([attention.weights(x.astype(np.float64), tuning) for x in examples.texts], axis=0)
    order = np.argsort(-weights, kind="stable")[:3]
    return [(attention.languages[position], float(weights[position])) for position in order]


def _held_out(
    base: Adapter, key: str, examples: Examples, *, has_prototype: bool, has_map: bool
) -> dict[str, float]:
    """Return the accuracy of pairs, each with what the fold without it gave."""
    there, back = (np.zeros(len(examples.source), dtype=bool) for _ in range(2))
    for fold in examples.folds():
        rest = examples.without(fold)
        adapter = base
        if has_prototype:
            adapter = _with_attention(base, add_prototype(_attention(base), key, rest.texts))
        if has_map and len(rest.source):
            adapter = with_correction(adapter, key, own_map(*_aligned(adapter, rest)), rank=RANK)
        there[fold] = _finds(adapter, examples)[fold]
        back[fold] = _finds_back(adapter, examples)[fold]
    return _directions(there, back)


def _directions(there: NDArray[np.bool_], back: NDArray[np.bool_]) -> dict[str, float]:
    return {"to target": 100.0 * float(there.mean()), "from target": 100.0 * float(back.mean())}


def _with_prototype(
    base: Adapter, key: str, examples: Examples, attempts: list[Attempt], *, force: bool
) -> Adapter:
    attention = _attention(base)
    n = len(examples.texts)
    _, _, borrowed = _anchor(attention, key)
    if n == 0 and borrowed is None:
        attempts.append(
            Attempt(
                "prototype",
                False,
                "no text, and no related language with a prototype; attention serves it already",
            )
        )
        return base
    if n == 0 and key in attention.languages:
        attempts.append(Attempt("prototype", False, "no text, and the adapter has a prototype of it already"))
        return base
    candidate = _with_attention(base, add_prototype(attention, key, examples.texts))
    told = f"{n} texts" + (f", shrunk toward {borrowed}" if borrowed else "")
    verdict = _judge_prototype(base, key, candidate, examples)
    is_taken = force or verdict.is_accepted
    forced = " (forced)" if force and not verdict.is_accepted else ""
    attempts.append(Attempt("prototype", is_taken, f"{told}; {verdict.reason}{forced}"))
    return candidate if is_taken else base


def _anchor(attention: PrototypeAttention, key: str) -> tuple[Array64, float, str | None]:
    """Return where a language's prototype starts, how many texts that is worth, and what it is."""
    means = attention.means.astype(np.float64)
    if key in attention.languages:
        index = attention.languages.index(key)
        return means[index], max(FAMILY_TEXTS, attention.counts[index]), "its prototype so far"
    group, related = relatives(key, attention.languages)
    if related:
        rows = [attention.languages.index(name) for name in related]
        return (
            means[rows].mean(axis=0),
            FAMILY_TEXTS,
            f"the mean of {len(related)} related languages (CLDR group {group})",
        )
    return means.mean(axis=0), FAMILY_TEXTS, None


def add_prototype(attention: PrototypeAttention, key: str, texts: Matrix) -> PrototypeAttention:
    """Return an attention that knows a language, or knows it better.

    Parameters
    ----------
    key : str
        The language.
    texts : ndarray of shape (n, dim), float32
        Raw vectors of its texts; none makes it like its relatives.

    Notes
    -----
    Prototype and spread are shrunk toward what they were, or toward those of related languages.
    """
    n = len(texts)
    anchor, weight, _ = _anchor(attention, key)
    total = texts.sum(axis=0, dtype=np.float64)
    row = ((total + weight * anchor) / (n + weight)).astype(np.float32)
    if key in attention.languages:
        index = attention.languages.index(key)
        means, counts = attention.means.copy(), list(attention.counts)
        means[index] = row
        counts[index] += n
        return dataclasses.replace(attention, means=means, counts=tuple(counts))
    _, related = relatives(key, attention.languages)
    rows = [attention.languages.index(name) for name in related] or list(range(len(attention.languages)))
    spread = float(attention.spreads[rows].mean())

    def grown(spread: float) -> PrototypeAttention:
        return dataclasses.replace(
            attention,
            means=np.vstack([attention.means, row]),
            languages=(*attention.languages, key),
            counts=(*attention.counts, n),
            spreads=np.append(attention.spreads, np.float32(spread)),
        )

    if n:
        own = fit_spreads(grown(spread), {key: texts})[key]
        spread = (n * own + FAMILY_TEXTS * spread) / (n + FAMILY_TEXTS)
    return grown(spread)


def _with_correction(
    current: Adapter, key: str, examples: Examples, attempts: list[Attempt], *, force: bool
) -> Adapter:
    n = len(examples.source)
    if n == 0:
        attempts.append(
            Attempt("own map", False, "no pairs; the pooled map of the other languages serves it")
        )
        return current
    if n < 2:
        attempts.append(Attempt("own map", False, "one pair cannot be judged; the pooled map serves it"))
        return current
    X, Y = _aligned(current, examples)
    rank = min(RANK, current.dim)
    held_out = n >= SPLIT_PAIRS
    fitted = np.arange(n) % 2 == 0 if held_out else np.ones(n, dtype=bool)
    candidate = with_correction(current, key, own_map(X[fitted], Y[fitted]), rank=rank)
    if held_out:
        verdict = _judge(current, candidate, examples.pairs(~fitted))
    else:
        before = _margins(current, examples)
        mapped = gate.leave_one_out(n, lambda i: own_map(np.delete(X, i, 0), np.delete(Y, i, 0)), X)
        after = gate.margins(mapped.astype(np.float32), Y.astype(np.float32), _distractors(current, examples))
        verdict = gate.judge_few(before, after)
    meaning = _meaning(current, candidate, examples)
    is_taken = force or (verdict.is_accepted and meaning.is_accepted)
    how = "half held out" if held_out else "each left out of its own fit"
    forced = " (forced)" if force and not (verdict.is_accepted and meaning.is_accepted) else ""
    attempts.append(
        Attempt(
            "own map",
            is_taken,
            f"{n} pairs, {how}; {verdict.reason}; {meaning.reason}{forced}",
        )
    )
    return with_correction(current, key, own_map(X, Y), rank=rank) if is_taken else current


def own_map(X: Array64, Y: Array64) -> Array64:
    """Fit a language's own map to aligned pairs of shape (n, dim), shrunk toward none by what pairs are worth."""
    sums = PairSums.of(X, Y)
    return shrunk_by_pairs(sums, strength=STRENGTH, pairs=PRIOR_PAIRS, prior=np.eye(sums.dim))


def _aligned(adapter: Adapter, examples: Examples) -> tuple[Array64, Array64]:
    X = adapter.transform_many(examples.source, Context(language=examples.language))
    Y = adapter.transform_many(examples.target, Context(language=examples.target_language))
    return X.astype(np.float64), Y.astype(np.float64)


def _distractors(adapter: Adapter, examples: Examples) -> Matrix:
    return adapter.transform_many(examples.distractors, Context(language=examples.target_language))


def _judge_prototype(base: Adapter, key: str, candidate: Adapter, examples: Examples) -> gate.Verdict:
    """Judge a prototype on pairs, each with the prototype that the fold without it gave, and guard meaning."""
    meaning = _meaning(base, candidate, examples)
    if not len(examples.source) or not meaning.is_accepted:
        return meaning
    margins = np.zeros(len(examples.source))
    finds = np.zeros(len(examples.source), dtype=bool)
    for fold in examples.folds():
        texts = examples.without(fold).texts
        adapter = _with_attention(base, add_prototype(_attention(base), key, texts))
        margins[fold] = _margins(adapter, examples.pairs(fold))
        finds[fold] = _finds(adapter, examples)[fold]
    if len(examples.source) >= gate.MANY_PAIRS:
        return gate.judge_many(_finds(base, examples), finds)
    return gate.judge_few(_margins(base, examples), margins)


def _judge(before: Adapter, after: Adapter, held_out: Examples) -> gate.Verdict:
    return gate.judge_many(_finds(before, held_out), _finds(after, held_out))


def _margins(adapter: Adapter, examples: Examples) -> Array64:
    X, Y = _aligned(adapter, examples)
    return gate.margins(X.astype(np.float32), Y.astype(np.float32), _distractors(adapter, examples))


def _meaning(before: Adapter, after: Adapter, examples: Examples) -> gate.Verdict:
    if len(examples.texts) <= gate.N_DISTRACTORS:
        return gate.Verdict(
            True, f"{len(examples.texts)} texts are too few to compare neighbours", 0.0, 0.0, 0.0
        )
    context = Context(language=examples.language)
    kept = neighbours_kept(
        before.transform_many(examples.texts, context), after.transform_many(examples.texts, context)
    )
    return gate.judge_meaning(kept / 100.0)


def _finds(adapter: Adapter, examples: Examples) -> NDArray[np.bool_]:
    """Return which sources find their translation among all targets."""
    return _first(*_aligned(adapter, examples))


def _finds_back(adapter: Adapter, examples: Examples) -> NDArray[np.bool_]:
    """Return which targets find their translation among all sources."""
    X, Y = _aligned(adapter, examples)
    return _first(Y, X)


def _first(X: Array64, Y: Array64) -> NDArray[np.bool_]:
    found = np.empty(len(X), dtype=np.int64)
    for start in range(0, len(X), _BLOCK_ROWS):
        found[start : start + _BLOCK_ROWS] = (X[start : start + _BLOCK_ROWS] @ Y.T).argmax(axis=1)
    hits: NDArray[np.bool_] = found == np.arange(len(X))
    return hits
