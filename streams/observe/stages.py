"""The stages of a batch, and the observer that records how long each takes."""

from typing import Literal, Protocol

StageName = Literal["decode", "tokenize", "encode", "align", "classify"]


class Observer(Protocol):
    """A receiver of the pipeline's timings. Called from the pipeline's thread; must return immediately."""

    def stage(self, name: StageName, seconds: float) -> None:
        """Record how long a stage took for one batch, in seconds."""

    def tokens(self, count: int) -> None:
        """Record the number of tokens in one batch."""
