"""The encoder protocol: four members, so that a fake for tests is small."""

from collections.abc import Sequence
from typing import Protocol

from alignstream.models.arrays import Matrix
from alignstream.models.encoder.tokenizer import Tokens


class Encoder(Protocol):
    """What the service needs from an encoder. Called from one thread at a time, never from the event loop."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the encoder, which names its vector space."""

    @property
    def dim(self) -> int:
        """Embedding dimension."""

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenize texts in order; cheap compared with ``encode``."""

    def encode(self, tokens: Sequence[Tokens]) -> Matrix:
        """Return unit vectors of shape (n, dim), in order; raises ``InferenceError``."""
