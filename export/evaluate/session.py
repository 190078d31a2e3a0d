"""What every task of an evaluation needs: an encoder behind its cache, and the adapter that is judged."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.export.data.public_sets import TEMPLATE
from alignstream.export.evaluate.exact_search import BLOCK_BYTES
from alignstream.export.evaluate.word_alignment import Means, SpannedVectors
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import NEUTRAL, Context
from alignstream.models.arrays import Matrix
from alignstream.models.attention.token_attention import language_centres

#: Rows that are aligned at once into their place.
_ROWS: Final = 4096

EncodeTokens = Callable[[Sequence[str]], Sequence[SpannedVectors]]


@dataclasses.dataclass(frozen=True)
class Session:
    """The encoder behind its cache, and the adapter that is judged.

    Parameters
    ----------
    cache : EmbeddingCache
        Gives the vectors.
    adapter : Adapter
        An adapter of the same encoder.
    adapter_name : str
        As it was asked for.
    uses_tags : bool
        Whether the adapter is told the language of each text.
    seed : int
        Seed of the bootstrap.
    template : str
        The sentence in which labels are embedded.
    block_bytes : int
        Memory of a search.
    encode_tokens : callable, optional
        Texts to token vectors; word alignment needs it.
    is_mean : bool
        Whether the encoder's vectors are means of its tokens, so that an adapter's means are those of tokens too.
    """

    cache: EmbeddingCache
    adapter: Adapter
    adapter_name: str = "adapter"
    uses_tags: bool = True
    seed: int = 0
    template: str = TEMPLATE
    block_bytes: int = BLOCK_BYTES
    encode_tokens: EncodeTokens | None = None
    is_mean: bool = False

    def embed(self, part: str, by_name: Mapping[str, Sequence[str]]) -> dict[str, Matrix]:
        """Return raw vectors by name, encoded or from the cache: new arrays."""
        named = {f"{part}.{name}": texts for name, texts in by_name.items()}
        vectors = self.cache.embed_with_progress(named, title=f"encoding {part}")
        return {name: vectors[f"{part}.{name}"] for name in by_name}

    def align(self, X: Matrix, language: str | None) -> Matrix:
        """Return aligned vectors, in one new array; the language counts where tags are used."""
        context = Context(language=language) if self.uses_tags else NEUTRAL
        Y = np.empty_like(X)
        for start in range(0, len(X), _ROWS):
            Y[start : start + _ROWS] = self.adapter.transform_many(X[start : start + _ROWS], context)
        return Y

    def align_all(self, vectors: Mapping[str, Matrix]) -> dict[str, Matrix]:
        """Return aligned vectors by language."""
        return {language: self.align(X, language) for language, X in vectors.items()}

    def align_in_place(self, X: Matrix, language: str | None) -> None:
        """Replace vectors by aligned ones, so that no second copy is needed; as ``align`` otherwise."""
        for start in range(0, len(X), _ROWS):
            X[start : start + _ROWS] = self.align(X[start : start + _ROWS], language)

    def token_means(self, source: str, target: str) -> Means | None:
        """Return what the adapter subtracts from unit token vectors of two languages, as ``alignstream compare`` does.

        None if the adapter does not start with means, or the encoder's vectors are not means of tokens.
        """
        if not self.is_mean:
            return None
        one = np.eye(1, self.adapter.dim, dtype=np.float32)
        tags = (source, target) if self.uses_tags else (None, None)
        return language_centres(self.adapter, one, one, *tags)
