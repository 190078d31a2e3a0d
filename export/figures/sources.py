"""The public sets as vectors: those that the shipped adapter is fitted on, chosen on and judged on.

Every subsample is fixed, so that every run reads the same texts.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.export.data.public_sets import (
    DEV_LANGUAGES,
    INTENTS,
    STS_LANGUAGES,
    TEMPLATE,
    XSID_LANGUAGES,
    PublicSets,
    read_sts,
)
from alignstream.export.data.vector_sets import DevTexts, LabelledTexts, ScoredVectors
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.shipped import packaged_adapter
from alignstream.models.arrays import Matrix
from alignstream.models.errors import AlignstreamError
from alignstream.models.labels.label_set import render

#: Lines of each language of NTREX-128, and texts of each that only SIB-200 has: all there are.
N_NTREX_LINES: Final = 600
N_SIB_TEXTS: Final = 701
#: Texts of each language that tells domain from language.
N_BRIDGE_TEXTS: Final = 100
N_DEV_LINES: Final = 100
N_TICO_LINES: Final = 120
N_XSID_TEXTS: Final = 100
N_STS_PAIRS: Final = 1500

#: Languages whose SIB-200 texts are encoded too, though NTREX-128 has them: they tell domain from language.
BRIDGE_LANGUAGES: Final = DEV_LANGUAGES[:20]


class Sources:
    """The public sets as vectors.

    Parameters
    ----------
    root : Path
        ALIGNSTREAM_DATA.
    cache : EmbeddingCache
        Gives the vectors.
    encoder : str
        Fingerprint of the encoder.
    """

    def __init__(self, root: Path, cache: EmbeddingCache, *, encoder: str) -> None:
        self.sets = PublicSets(root)
        self.root = root
        self.encoder = encoder
        self.cache = cache

    def shipped_adapter(self) -> Adapter:
        """Return the adapter that the package ships for the encoder.

        Raises
        ------
        AlignstreamError
            There is none.
        """
        shipped = packaged_adapter(self.encoder)
        if shipped is None:
            raise AlignstreamError("the package ships no adapter for this encoder; fit it: make adapter")
        return shipped

    def embed(self, part: str, by_language: Mapping[str, Sequence[str]]) -> dict[str, Matrix]:
        """Return vectors by language, encoded or from the cache."""
        named = {f"{part}.{language}": texts for language, texts in by_language.items()}
        vectors = self.cache.embed_with_progress(named, title=part)
        return {language: vectors[f"{part}.{language}"] for language in by_language}

    def ntrex_fit(self) -> dict[str, Matrix]:
        """Return NTREX-128's lines that may be fitted on: by language, row by row translations."""
        texts = self.sets.ntrex(self.sets.ntrex_languages(), is_dev=False, n_lines=N_NTREX_LINES)
        return self.embed(texts.name, texts.by_language)

    def sib_only_languages(self) -> list[str]:
        """Return SIB-200's languages that NTREX-128 lacks."""
        shared = {self.sets.sib_name(language) for language in self.sets.ntrex_languages()}
        return [language for language in self.sets.sib_languages() if language not in shared]

    def sib_fit(self) -> dict[str, Matrix]:
        """Return SIB-200's training texts of English and of the languages that NTREX-128 lacks, row by row."""
        languages = [self.sib_name("eng"), *self.sib_only_languages()]
        return self.embed("sib-train", self.sets.sib_train(languages, n_lines=N_SIB_TEXTS))

    def bridge(self) -> dict[str, Matrix]:
        """Return SIB-200's training texts of languages that both sets have, by NTREX-128's names."""
        names = {language: self.sib_name(language) for language in BRIDGE_LANGUAGES}
        vectors = self.embed("sib-train", self.sets.sib_train(list(names.values()), n_lines=N_BRIDGE_TEXTS))
        return {language: vectors[name] for language, name in names.items()}

    def sib_name(self, language: str) -> str:
        """Return SIB-200's name of a language that is known to be in both sets."""
        name = self.sets.sib_name(language)
        if name is None:
            raise AlignstreamError(f"SIB-200 has no language {language!r}")
        return name

    def dev(self) -> DevTexts:
        """Return the texts that settings are chosen on: NTREX-128's and SIB-200's development parts."""
        parallel = self.sets.ntrex(DEV_LANGUAGES, is_dev=True, n_lines=N_DEV_LINES)
        texts, labels = self.sets.sib_dev([self.sib_name(language) for language in DEV_LANGUAGES])
        return DevTexts(
            parallel=self.embed(parallel.name, parallel.by_language),
            pivot=parallel.pivot,
            topical=self.embed("sib-dev", texts),
            labelled=self.labelled(labels, {label: label for label in labels}),
        )

    def commands(self) -> tuple[dict[str, Matrix], LabelledTexts]:
        """Return xSID's validation part: commands to an assistant by language, and their intents."""
        texts, intents = self.sets.xsid(XSID_LANGUAGES, n_texts=N_XSID_TEXTS)
        return self.embed("xsid", texts), self.labelled(intents, INTENTS)

    def labelled(self, gold: Sequence[str], words: Mapping[str, str]) -> LabelledTexts:
        """Return vectors of label texts, and the position of each text's label among them."""
        labels = sorted(words)
        texts = [render(TEMPLATE, words[label]) for label in labels]
        return LabelledTexts(
            prototypes=self.embed("labels", {"eng": texts})["eng"],
            gold=np.array([labels.index(label) for label in gold], dtype=np.int64),
        )

    def similarity(self) -> dict[str, ScoredVectors]:
        """Return development pairs of the STS benchmark by language: a guard, nothing is fitted on them."""
        pairs = read_sts(self.root, STS_LANGUAGES, n_pairs=N_STS_PAIRS)
        first, second = self.embed("sts-a", pairs.first), self.embed("sts-b", pairs.second)
        return {
            language: ScoredVectors(first[language], second[language], np.array(scores))
            for language, scores in pairs.scores.items()
        }
