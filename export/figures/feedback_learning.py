"""A tenant's feedback on its way through the service: its state, an epoch with its maps, both gates, what serves."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.languages import language_key
from alignstream.models.arrays import Indices, Matrix
from alignstream.models.learner.observed import Example, Pair, Side
from alignstream.models.learner.regression_check import judge_epoch
from alignstream.models.learner.tenant_map_fit import MapVerdict, fit_tenant_map
from alignstream.models.learner.tenant_state import TenantState
from alignstream.models.serving.epoch import Epoch
from alignstream.models.serving.query_adaptation import QueryAdaptation


@dataclasses.dataclass(frozen=True)
class Learned:
    """What a worker serves to a tenant after its feedback, and the verdicts of the gates.

    Parameters
    ----------
    adaptation : QueryAdaptation or None
        None: the gate refused the epoch.
    judged : tuple of MapVerdict
        Maps, by language.
    """

    adaptation: QueryAdaptation | None
    judged: tuple[MapVerdict, ...]

    @property
    def is_accepted(self) -> bool:
        """Whether the epoch serves, with all the maps that were fitted."""
        return self.adaptation is not None and all(one.verdict.is_accepted for one in self.judged)


def epoch_of(adapter: Adapter, pairs: Iterable[Pair] = (), examples: Iterable[Example] = ()) -> Epoch:
    """Return the epoch of a tenant's feedback, without maps and before any gate."""
    state = TenantState(adapter.dim)
    for pair in pairs:
        state.learn_pair(pair)
    for example in examples:
        state.learn_example(example)
    return state.epoch(encoder=adapter.encoder, tenant="default", reason="feedback")


def learn(
    adapter: Adapter, pairs: Iterable[Pair] = (), examples: Iterable[Example] = (), *, with_maps: bool = True
) -> Learned:
    """Take in a tenant's feedback and open an epoch, as the learner does.

    Parameters
    ----------
    adapter : Adapter
    pairs, examples : iterable
    with_maps : bool
        Without, pairs are remembered only: as those are that name no language on the side that would move.
    """
    candidate = epoch_of(adapter, pairs, examples)
    judged: list[MapVerdict] = []
    if with_maps:
        tenant_map, judged = fit_tenant_map(candidate.memory, candidate.bank, adapter)
        candidate = dataclasses.replace(candidate, tenant_map=tenant_map)
    refusal = judge_epoch(candidate, None, adapter)
    return Learned(QueryAdaptation(adapter, candidate) if refusal is None else None, tuple(judged))


def pairs_of(
    X: Matrix, Y: Matrix, language: str, *, targets: Sequence[int] | None = None, pivot: str = "en"
) -> list[Pair]:
    """Return row by row pairs of a language with English.

    Parameters
    ----------
    X, Y : ndarray of shape (n, dim), float32
        As encoded.
    language, pivot : str
    targets : sequence of int, optional
        Rows of Y that count as right.
    """
    rows = range(len(X)) if targets is None else targets
    one, other = language_key(language), language_key(pivot)
    return [
        Pair(f"{row:04}", Side(x, one), Side(Y[target], other))
        for row, (x, target) in enumerate(zip(X, rows, strict=True))
    ]


def shuffled(n: int, share: float, seed: int) -> list[int]:
    """Return row numbers in order, except that a share of them, at least two, are permuted."""
    rows = list(range(n))
    chosen = np.random.default_rng(seed).choice(n, max(2, round(share * n)), replace=False)
    for row, other in zip(chosen, np.roll(chosen, 1), strict=True):
        rows[row] = int(other)
    return rows


def right_points(Q: Matrix, C: Matrix, gold: Indices) -> float:
    """Return how many rows of Q have the row of C that gold names as their nearest, in points."""
    return 100.0 * float(((Q @ C.T).argmax(axis=1) == gold).mean())


def stored(adaptation: QueryAdaptation | None, adapter: Adapter, X: Matrix, language: str) -> Matrix:
    """Return vectors to store, shape (n, dim), float32."""
    context = Context(language=language)
    transform = adapter.transform_one if adaptation is None else adaptation.vector
    return np.stack([transform(x, context) for x in X])


def stored_by_language(adapter: Adapter, vectors: Mapping[str, Matrix]) -> dict[str, Matrix]:
    """Return the vectors that the adapter alone stores, by language."""
    return {language: stored(None, adapter, X, language) for language, X in vectors.items()}


def asked(adaptation: QueryAdaptation, X: Matrix, language: str) -> Matrix:
    """Return query vectors, shape (n, dim), float32."""
    context = Context(language=language)
    return np.stack([adaptation.query(x, context) for x in X])
