"""The stages of a batch, and who is told how long each took."""

from typing import Literal, Protocol

StageName = Literal["decode", "tokenize", "encode", "align", "classify"]


class Observer(Protocol):
    """Told what the pipeline does; called from the thread that runs it, must return at once."""

    def stage(self, name: StageName, seconds: float) -> None:
        """Take note of the time that a stage took for one batch."""

    def tokens(self, count: int) -> None:
        """Take note of the tokens of one batch."""
