"""What the service needs of an encoder: four things, so that its fake in the tests is small."""

from collections.abc import Sequence
from typing import Protocol

from alignstream.models.arrays import Matrix
from alignstream.models.encoder.tokenizer import Tokens


class Encoder(Protocol):
    """What the service needs of an encoder. Called from one thread at a time, never the event loop."""

    @property
    def fingerprint(self) -> str:
        """Name the space that the vectors live in."""

    @property
    def dim(self) -> int:
        """Count the numbers of a vector."""

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenize texts, in order; cheap against ``encode``."""

    def encode(self, tokens: Sequence[Tokens]) -> Matrix:
        """Return unit vectors of shape (n, dim), in order; raises ``InferenceError``."""
