"""Add a language to an adapter, from no example to thousands: steps that help are taken, others refused.

A language without examples is served already: attention represents it by the prototypes that it resembles, and the
pooled map was fitted to all the others. Text gives it a prototype of its own, shrunk toward its relatives;
pairs give it a correction of the map, shrunk toward no correction. Each step passes the gate, or falls back to the step
before it, inside the same space.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alignstream.export.data.pair_checks import check_translations
from alignstream.export.fit.language_examples import LanguageExamples
from alignstream.export.fit.language_prototype import add_prototype, anchor_of
from alignstream.export.fit.pair_adapter import checked_key, with_correction
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.steps.prototypes import PrototypeAttention
from alignstream.models.adapter.steps.step import Tuning
from alignstream.models.arrays import Array64
from alignstream.models.checks import gate
from alignstream.models.errors import AdapterError
from alignstream.models.fit.closed_form import PairSums, shrunk_by_pairs

#: Pairs that "no correction" is worth: chosen so that a language's own pairs do no harm in another domain.
PRIOR_PAIRS: Final = 800.0
#: λ of the correction, with as many pairs.
STRENGTH: Final = 1.0
#: Rank of the correction that is kept.
RANK: Final = 16
#: Pairs from which on half are held out; below, each is left out of its own fit.
SPLIT_PAIRS: Final = 2 * gate.MANY_PAIRS


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One step that was tried: its name, whether it was taken, and why."""

    name: str
    is_taken: bool
    reason: str


@dataclasses.dataclass(frozen=True)
class Onboarded:
    """The adapter and how it came about.

    Parameters
    ----------
    adapter : Adapter
        The base if no step was taken.
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


def onboard(base: Adapter, examples: LanguageExamples, *, force: bool = False) -> Onboarded:
    """Add a language to an adapter.

    Parameters
    ----------
    base : Adapter
        With prototypes.
    examples : LanguageExamples
    force : bool
        Take every step, even those that the gate refuses; the report says so.

    Raises
    ------
    AdapterError
        The tag names no language, or the base knows no languages.
    """
    key = checked_key(examples.language)
    _attention(base)
    check_translations(*examples.aligned(base), "the pairs")
    attempts: list[Attempt] = []
    current = _with_prototype(base, key, examples, attempts, force=force)
    has_prototype = current is not base
    current = _with_own_map(current, key, examples, attempts, force=force)
    has_map = attempts[-1].is_taken
    figures = {}
    if len(examples.source) > 1:
        before = _both_ways(examples.finds(base), examples.finds_back(base))
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


def own_map(X: Array64, Y: Array64) -> Array64:
    """Fit a language's own map to aligned pairs of shape (n, dim), shrunk toward the identity, less with more pairs."""
    sums = PairSums.of(X, Y)
    return shrunk_by_pairs(sums, strength=STRENGTH, pairs=PRIOR_PAIRS, prior=np.eye(sums.dim))


def _attention_at(adapter: Adapter) -> tuple[int, PrototypeAttention]:
    placed = adapter.find(PrototypeAttention)
    if placed is None:
        raise AdapterError(
            "the base adapter has no prototypes of languages; take one that has, such as the shipped"
        )
    return placed


def _attention(adapter: Adapter) -> PrototypeAttention:
    return _attention_at(adapter)[1]


def _with_attention(adapter: Adapter, attention: PrototypeAttention) -> Adapter:
    """Return an adapter with other prototypes."""
    position, _ = _attention_at(adapter)
    return adapter.replace_step(position, attention)


def _attended(adapter: Adapter, examples: LanguageExamples) -> list[tuple[str, float]]:
    if not len(examples.texts):
        return []
    attention = _attention(adapter)
    tuning = Tuning(language=examples.language, shrinkage=1.0)
    weights = np.mean([attention.weights(x.astype(np.float64), tuning) for x in examples.texts], axis=0)
    order = np.argsort(-weights, kind="stable")[:3]
    return [(attention.languages[position], float(weights[position])) for position in order]


def _held_out(
    base: Adapter, key: str, examples: LanguageExamples, *, has_prototype: bool, has_map: bool
) -> dict[str, float]:
    """Return the accuracy of pairs, each judged with the adapter of the fold without it."""
    there, back = (np.zeros(len(examples.source), dtype=bool) for _ in range(2))
    for fold in examples.folds():
        rest = examples.without(fold)
        adapter = base
        if has_prototype:
            adapter = _with_attention(base, add_prototype(_attention(base), key, rest.texts))
        if has_map and len(rest.source):
            X, Y = rest.aligned(adapter)
            W = own_map(X.astype(np.float64), Y.astype(np.float64))
            adapter = with_correction(adapter, key, W, rank=RANK)
        there[fold] = examples.finds(adapter)[fold]
        back[fold] = examples.finds_back(adapter)[fold]
    return _both_ways(there, back)


def _both_ways(there: NDArray[np.bool_], back: NDArray[np.bool_]) -> dict[str, float]:
    return {"to target": 100.0 * float(there.mean()), "from target": 100.0 * float(back.mean())}


def _with_prototype(
    base: Adapter, key: str, examples: LanguageExamples, attempts: list[Attempt], *, force: bool
) -> Adapter:
    attention = _attention(base)
    n = len(examples.texts)
    borrowed = anchor_of(attention, key).source
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
    source = f"{n} texts" + (f", shrunk toward {borrowed}" if borrowed else "")
    verdict = _judge_prototype(base, key, candidate, examples)
    is_taken = force or verdict.is_accepted
    forced = " (forced)" if force and not verdict.is_accepted else ""
    attempts.append(Attempt("prototype", is_taken, f"{source}; {verdict.reason}{forced}"))
    return candidate if is_taken else base


def _with_own_map(
    current: Adapter, key: str, examples: LanguageExamples, attempts: list[Attempt], *, force: bool
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
    X, Y = (side.astype(np.float64) for side in examples.aligned(current))
    rank = min(RANK, current.dim)
    is_split = n >= SPLIT_PAIRS
    fitted = np.arange(n) % 2 == 0 if is_split else np.ones(n, dtype=bool)
    candidate = with_correction(current, key, own_map(X[fitted], Y[fitted]), rank=rank)
    if is_split:
        held_out = examples.pairs(~fitted)
        verdict = gate.judge_many(held_out.finds(current), held_out.finds(candidate))
    else:
        mapped = gate.leave_one_out(n, lambda i: own_map(np.delete(X, i, 0), np.delete(Y, i, 0)), X)
        after = gate.margins(
            mapped.astype(np.float32), Y.astype(np.float32), examples.aligned_distractors(current)
        )
        verdict = gate.judge_few(examples.margins(current), after)
    meaning = examples.judge_meaning(current, candidate)
    is_accepted = verdict.is_accepted and meaning.is_accepted
    how = "half held out" if is_split else "each left out of its own fit"
    forced = " (forced)" if force and not is_accepted else ""
    reason = f"{n} pairs, {how}; {verdict.reason}; {meaning.reason}{forced}"
    is_taken = force or is_accepted
    attempts.append(Attempt("own map", is_taken, reason))
    return with_correction(current, key, own_map(X, Y), rank=rank) if is_taken else current


def _judge_prototype(base: Adapter, key: str, candidate: Adapter, examples: LanguageExamples) -> gate.Verdict:
    """Judge a prototype on pairs, each with the prototype that the fold without it gave, and guard meaning."""
    meaning = examples.judge_meaning(base, candidate)
    if not len(examples.source) or not meaning.is_accepted:
        return meaning
    margins = np.zeros(len(examples.source))
    finds = np.zeros(len(examples.source), dtype=bool)
    for fold in examples.folds():
        texts = examples.without(fold).texts
        adapter = _with_attention(base, add_prototype(_attention(base), key, texts))
        margins[fold] = examples.pairs(fold).margins(adapter)
        finds[fold] = examples.finds(adapter)[fold]
    if len(examples.source) >= gate.MANY_PAIRS:
        return gate.judge_many(examples.finds(base), finds)
    return gate.judge_few(examples.margins(base), margins)
