"""A tenant's label prototypes: refined on its stream if the set's owner allows it, and moved by its feedback."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from alignstream.models.adapter.context import Context
from alignstream.models.arrays import Matrix
from alignstream.models.labels.refinement import MIN_KEYS, refine, why_not
from alignstream.models.serving.query_adaptation import MAX_ADAPTATIONS, QueryAdaptation

#: Label sets cached per adapter and epoch.
MAX_SETS: Final = 64


class TenantLabels:
    """Prototypes of label sets under one adapter and epoch, each computed once. Use it from one thread.

    Parameters
    ----------
    adaptation : QueryAdaptation
    """

    def __init__(self, adaptation: QueryAdaptation) -> None:
        self._adaptation = adaptation
        self._prototypes: dict[tuple[str, tuple[str, ...], str, Context, bool], Matrix | None] = {}

    def prototypes(
        self, label_set: str, labels: tuple[str, ...], prototypes: Matrix, *, template: str, context: Context,
        is_fitted: bool, steady_mix: bool,
    ) -> Matrix | None:  # fmt: skip
        """Return the tenant's own prototypes of a set; None if it has none.

        Parameters
        ----------
        label_set : str
        labels : tuple of str
        prototypes : ndarray of shape (n_labels, dim), float32
            Aligned unit vectors of the labels, from their texts or from a fit.
        template, context, is_fitted
            What the prototypes were made with; part of the cache key.
        steady_mix : bool
            The set's owner declares the mix of topics steady, so prototypes may follow the stream's texts.
        """
        key = (label_set, labels, template, _plain(context), is_fitted)
        if key not in self._prototypes:
            if len(self._prototypes) >= MAX_SETS:
                self._prototypes.clear()
            self._prototypes[key] = self._make(label_set, labels, prototypes, context, steady_mix=steady_mix)
        return self._prototypes[key]

    def _make(
        self, label_set: str, labels: Sequence[str], prototypes: Matrix, context: Context, *, steady_mix: bool
    ) -> Matrix | None:
        adaptation = self._adaptation
        common = adaptation.adapter.common_direction(context)
        refined = None
        if steady_mix and self.why_not(labels, prototypes, context) is None:
            refined = refine(prototypes, adaptation.texts, common=common)
        start = prototypes if refined is None else refined
        corrected = adaptation.prototypes(label_set, labels, start, common)
        return refined if corrected is None else corrected

    def why_not(self, labels: Sequence[str], prototypes: Matrix, context: Context) -> str | None:
        """Tell why the stream's recent texts must not refine labels; None if there is no reason."""
        epoch = self._adaptation.epoch
        if not epoch.is_steady:
            return "the stream is changing"
        if epoch.n_keys < MIN_KEYS:
            return f"the texts come from {epoch.n_keys} keys; {MIN_KEYS} are needed"
        common = self._adaptation.adapter.common_direction(context)
        return why_not(labels, prototypes, self._adaptation.texts, common=common)


class TenantLabelsCache:
    """Tenant labels by adapter and epoch, each made once. Use it from one thread."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[str, str], TenantLabels] = OrderedDict()

    def find(self, adaptation: QueryAdaptation) -> TenantLabels:
        """Return the labels for an adapter and an epoch."""
        key = adaptation.adapter.version, adaptation.epoch.version
        if key not in self._made:
            self._made[key] = TenantLabels(adaptation)
            while len(self._made) > MAX_ADAPTATIONS:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return self._made[key]


def _plain(context: Context) -> Context:
    """Return a context without its language, which is the text's and not the labels'."""
    return Context(strength=context.strength, shrinkage=context.shrinkage, temperature=context.temperature)
