"""The stages that every kind of message shares: tokenize and encode, with failures kept to the text that fails."""

from collections.abc import Callable, Sequence

from alignstream.models.arrays import Matrix, Vector32
from alignstream.models.encoder.artifact import GOLDEN_TEXTS
from alignstream.models.encoder.protocol import Encoder
from alignstream.models.encoder.tokenizer import Tokens
from alignstream.models.errors import EncoderFailed, InferenceError
from alignstream.streams.observe.stages import Observer


class Encoding:
    """Texts to tokens and unit vectors. Used from one thread at a time.

    Parameters
    ----------
    encoder : Encoder
    clock : callable
        Seconds, monotonic, for the durations of stages.
    observer : Observer
        Told about durations.
    """

    def __init__(self, encoder: Encoder, *, clock: Callable[[], float], observer: Observer) -> None:
        self.encoder = encoder
        self.clock = clock
        self.observer = observer

    def __call__(self, texts: Sequence[str]) -> tuple[Sequence[Tokens], list[Vector32 | None]]:
        """Encode texts; the vector of one that fails alone is None.

        Raises
        ------
        EncoderFailed
            The encoder fails on everything: the caller must not dead-letter good records for it.
        """
        start = self.clock()
        tokens = self.encoder.tokenize(texts)
        self.observer.tokens(sum(len(item.input_ids) for item in tokens))
        tokenized = self.clock()
        self.observer.stage("tokenize", tokenized - start)
        vectors, error = self._bisect(tokens)
        if error is not None and all(x is None for x in vectors):
            self.check(error)
        self.observer.stage("encode", self.clock() - tokenized)
        return tokens, vectors

    def labels(self, texts: Sequence[str]) -> Matrix:
        """Encode a few texts at once, all or none: shape (n, dim), float32."""
        return self.encoder.encode(self.encoder.tokenize(texts))

    def _bisect(self, tokens: Sequence[Tokens]) -> tuple[list[Vector32 | None], InferenceError | None]:
        """Encode; on failure halve until the texts that fail stand alone. Return the first error as well."""
        try:
            return list(self.encoder.encode(tokens)), None
        except InferenceError as error:
            if len(tokens) == 1:
                return [None], error
            middle = len(tokens) // 2
            return [*self._bisect(tokens[:middle])[0], *self._bisect(tokens[middle:])[0]], error

    def check(self, error: InferenceError) -> None:
        """Raise unless the encoder still works on a text that it encoded when it was loaded.

        Raises
        ------
        EncoderFailed
            It does not.
        """
        try:
            self.encoder.encode(self.encoder.tokenize(GOLDEN_TEXTS[:1]))
        except InferenceError:
            raise EncoderFailed(f"the encoder fails on every text: {error}") from error
