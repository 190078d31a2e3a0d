"""From texts to token ids with the published ``tokenizer.json``, without transformers."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tokenizers

from alignstream.models.errors import ArtifactCorrupt


@dataclasses.dataclass(frozen=True, slots=True)
class Tokens:
    """The token ids of one text, truncated at the encoder's limit.

    ``dropped`` counts the tokens beyond the limit.
    """

    input_ids: tuple[int, ...]
    dropped: int


class Tokenizer:
    """The tokenizer of one artifact; thread-safe, because it does not change after construction.

    Parameters
    ----------
    path : Path
        A verified ``tokenizer.json``.
    prefix : str
        Put before every text, as in the model's training (``"query: "`` for e5).
    max_tokens : int
        Longest sequence, special tokens included.

    Raises
    ------
    ArtifactCorrupt
        The file is not a tokenizer.
    """

    def __init__(self, path: Path, *, prefix: str, max_tokens: int) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ArtifactCorrupt(f"{path} is not a tokenizer: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self._special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        self._prefix = prefix

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenize texts in order."""
        encodings = self._tokenizer.encode_batch([self._prefix + text for text in texts])
        return [
            Tokens(
                input_ids=tuple(encoding.ids),
                dropped=sum(len(rest.ids) - self._special for rest in encoding.overflowing),
            )
            for encoding in encodings
        ]
