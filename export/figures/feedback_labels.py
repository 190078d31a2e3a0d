"""What a tenant's label examples do to zero-shot labels of the public sets, run by run."""

import dataclasses
from collections.abc import Mapping
from typing import Final

import numpy as np

from alignstream.export.figures.feedback_learning import learn, stored_by_language
from alignstream.export.figures.label_figures import LANGUAGES, other_commands
from alignstream.export.figures.sources import Sources
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.languages import language_key
from alignstream.models.arrays import Indices, Matrix
from alignstream.models.errors import AlignstreamError
from alignstream.models.labels.zero_shot import label_cosines
from alignstream.models.learner.observed import Example

#: Languages that examples are in, by SIB-200's names.
EXAMPLE_LANGUAGES: Final = ("eng_Latn", "fra_Latn", "swh_Latn")

_SET: Final = "figures"


@dataclasses.dataclass(frozen=True)
class ExampleTask:
    """Labels, texts to give as examples, and texts to judge on.

    Parameters
    ----------
    adapter : Adapter
    labels : tuple of str
    prototypes : ndarray of shape (n_labels, dim), float32
        Aligned.
    examples : mapping of str to ndarray of shape (n, dim), float32
        As encoded, by language.
    example_labels : ndarray of shape (n,), int64
        The same for all languages.
    judged : mapping of str to ndarray of shape (n_judged, dim), float32
        Aligned, by language.
    gold : ndarray of shape (n_judged,), int64
    """

    adapter: Adapter
    labels: tuple[str, ...]
    prototypes: Matrix
    examples: Mapping[str, Matrix]
    example_labels: Indices
    judged: Mapping[str, Matrix]
    gold: Indices

    def rows(self, n: int, seed: int) -> Indices:
        """Return n texts of every label, or all if there are fewer."""
        rng = np.random.default_rng(seed)
        chosen = []
        for label in range(len(self.labels)):
            own = np.flatnonzero(self.example_labels == label)
            chosen.append(rng.choice(own, min(n, len(own)), replace=False))
        return np.concatenate(chosen)

    def right(self, rows: Indices, language: str) -> dict[str, float]:
        """Return right labels by language, in points, after these texts of a language were given."""
        common = self.adapter.common_direction()
        prototypes = self.prototypes
        if len(rows):
            key = language_key(language)
            given = [
                Example(str(row), _SET, self.labels[self.example_labels[row]], x, key)
                for row, x in zip(rows.tolist(), self.examples[language][rows], strict=True)
            ]
            adaptation = learn(self.adapter, examples=given).adaptation
            moved = None
            if adaptation is not None:
                moved = adaptation.prototypes(_SET, self.labels, prototypes, common)
            prototypes = prototypes if moved is None else moved
        return {
            name: 100.0 * float((label_cosines(Y, prototypes, common).argmax(axis=1) == self.gold).mean())
            for name, Y in self.judged.items()
        }

    def drawn(self, n: int, language: str, seeds: int) -> list[dict[str, float]]:
        """Return right labels after n examples of every label, for each draw."""
        return [self.right(self.rows(n, seed), language) for seed in range(seeds)]

    def one_sided(self, n: int, language: str, seeds: int) -> list[dict[str, float]]:
        """Return right labels after n examples of one label alone, for each label and draw."""
        runs = []
        for seed in range(seeds):
            rows = self.rows(n, seed)
            for label in range(len(self.labels)):
                own = rows[self.example_labels[rows] == label]
                if len(own):
                    runs.append(self.right(own, language))
        return runs


def topic_examples(sources: Sources, adapter: Adapter) -> ExampleTask:
    """Return SIB-200: training texts as examples, development texts to judge on."""
    texts, gold = sources.sets.sib_dev(LANGUAGES)
    given = {language: sources.sets.sib_examples(language) for language in EXAMPLE_LANGUAGES}
    first = given[EXAMPLE_LANGUAGES[0]][1]
    if any(labels != first for _, labels in given.values()):
        raise AlignstreamError("SIB-200's training parts do not hold the same sentences in all languages")
    labelled = sources.labelled(gold, {label: label for label in gold})
    labels = tuple(sorted(set(gold)))
    return ExampleTask(
        adapter, labels, adapter.transform_many(labelled.prototypes),
        sources.embed("sib-train", {language: column for language, (column, _) in given.items()}),
        np.array([labels.index(label) for label in first]),
        stored_by_language(adapter, sources.embed("sib-dev", texts)), labelled.gold,
    )  # fmt: skip


def command_examples(sources: Sources, adapter: Adapter) -> ExampleTask:
    """Return xSID: English commands as examples, others in 15 languages to judge on."""
    vectors, labelled = sources.commands()
    others = other_commands(sources)
    return ExampleTask(
        adapter, others.labels, adapter.transform_many(labelled.prototypes), {"en": others.vectors},
        others.gold, stored_by_language(adapter, vectors), labelled.gold,
    )  # fmt: skip
