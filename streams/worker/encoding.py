"""The stages that all kinds of message share: tokenize and encode. A text that fails does not affect the others."""

from collections.abc import Callable, Sequence

from alignstream.models.arrays import Matrix, Vector32
from alignstream.models.encoder.artifact import GOLDEN_TEXTS
from alignstream.models.encoder.protocol import Encoder
from alignstream.models.encoder.tokenizer import Tokens
from alignstream.models.errors import EncoderFailed, InferenceError
from alignstream.streams.observe.stages import Observer


class Encoding:
    """The encoder with its stages timed: texts in, tokens and unit vectors out. Used from one thread at a time.

    Parameters
    ----------
    encoder : Encoder
    clock : callable
        Returns monotonic seconds, for the durations of stages.
    observer : Observer
        Receives the durations.
    """

    def __init__(self, encoder: Encoder, *, clock: Callable[[], float], observer: Observer) -> None:
        self.encoder = encoder
        self.clock = clock
        self.observer = observer

    def __call__(self, texts: Sequence[str]) -> tuple[Sequence[Tokens], list[Vector32 | None]]:
        """Encode texts; a text on which the encoder fails has the vector None.

        Raises
        ------
        EncoderFailed
            The encoder fails on every text; the caller must not dead-letter the records.
        """
        start = self.clock()
        tokens = self.encoder.tokenize(texts)
        self.observer.tokens(sum(len(text_tokens.input_ids) for text_tokens in tokens))
        tokenized = self.clock()
        self.observer.stage("tokenize", tokenized - start)
        vectors, error = self._bisect(tokens)
        if error is not None and all(x is None for x in vectors):
            self.check(error)
        self.observer.stage("encode", self.clock() - tokenized)
        return tokens, vectors

    def labels(self, texts: Sequence[str]) -> Matrix:
        """Encode a few texts, all or none: ndarray of shape (n, dim), float32."""
        return self.encoder.encode(self.encoder.tokenize(texts))

    def _bisect(self, tokens: Sequence[Tokens]) -> tuple[list[Vector32 | None], InferenceError | None]:
        """Encode; on failure, halve the batch until the failing texts are isolated. Also return the first error."""
        try:
            return list(self.encoder.encode(tokens)), None
        except InferenceError as error:
            if len(tokens) == 1:
                return [None], error
            middle = len(tokens) // 2
            return [*self._bisect(tokens[:middle])[0], *self._bisect(tokens[middle:])[0]], error

    def check(self, error: InferenceError) -> None:
        """Check that the encoder still works on a text that it encoded when it was loaded.

        Raises
        ------
        EncoderFailed
            The encoder fails on that text too.
        """
        try:
            self.encoder.encode(self.encoder.tokenize(GOLDEN_TEXTS[:1]))
        except InferenceError:
            raise EncoderFailed(f"the encoder fails on every text: {error}") from error
