"""Examples of a language as vectors, and how an adapter does on them: which pairs are found, what meaning stays."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from alignstream.export.evaluate.exact_search import nearest
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.arrays import Array64, Matrix
from alignstream.models.checks import gate
from alignstream.models.checks.neighbours import neighbours_kept


@dataclasses.dataclass(frozen=True)
class LanguageExamples:
    """Raw vectors of the texts and pairs of a language.

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

    def pairs(self, rows: NDArray[np.bool_]) -> "LanguageExamples":
        """Return the same with some of the pairs."""
        return dataclasses.replace(self, source=self.source[rows], target=self.target[rows])

    def without(self, rows: NDArray[np.bool_]) -> "LanguageExamples":
        """Return the same without some of the pairs, and without the texts that are their sources."""
        held_back = {row.tobytes() for row in self.source[rows]}
        keep = [row.tobytes() not in held_back for row in self.texts]
        return dataclasses.replace(self.pairs(~rows), texts=self.texts[keep])

    def folds(self) -> list[NDArray[np.bool_]]:
        """Return which pairs each of two folds holds back; a fold without a pair is left out."""
        folds = [np.arange(len(self.source)) % 2 == turn for turn in (0, 1)]
        return [fold for fold in folds if fold.any()]

    def aligned(self, adapter: Adapter) -> tuple[Matrix, Matrix]:
        """Return both sides of the pairs as an adapter aligns them, each of shape (n_pairs, dim), float32."""
        return (
            adapter.transform_many(self.source, Context(language=self.language)),
            adapter.transform_many(self.target, Context(language=self.target_language)),
        )

    def aligned_distractors(self, adapter: Adapter) -> Matrix:
        """Return the distractors as an adapter aligns them."""
        return adapter.transform_many(self.distractors, Context(language=self.target_language))

    def margins(self, adapter: Adapter) -> Array64:
        """Return by how much each pair is nearer than distractors are (``gate.margins``); shape (n_pairs,)."""
        return gate.margins(*self.aligned(adapter), self.aligned_distractors(adapter))

    def finds(self, adapter: Adapter) -> NDArray[np.bool_]:
        """Return which sources find their translation among all targets; shape (n_pairs,)."""
        X, Y = self.aligned(adapter)
        return _finds_own(X, Y)

    def finds_back(self, adapter: Adapter) -> NDArray[np.bool_]:
        """Return which targets find their translation among all sources; shape (n_pairs,)."""
        X, Y = self.aligned(adapter)
        return _finds_own(Y, X)

    def judge_meaning(self, before: Adapter, after: Adapter) -> gate.Verdict:
        """Judge whether texts of the language keep their neighbours; with too few texts, accept."""
        if len(self.texts) <= gate.N_DISTRACTORS:
            reason = f"{len(self.texts)} texts are too few to compare neighbours"
            return gate.Verdict(True, reason, 0.0, 0.0, 0.0)
        context = Context(language=self.language)
        kept = neighbours_kept(
            before.transform_many(self.texts, context), after.transform_many(self.texts, context)
        )
        return gate.judge_meaning(kept)


def _finds_own(X: Matrix, Y: Matrix) -> NDArray[np.bool_]:
    finds: NDArray[np.bool_] = nearest(X, Y) == np.arange(len(X))
    return finds
