"""The embedded encoder with the few tokens that some texts need: exported and compared within a gigabyte.

Unigram takes the most probable pieces. Without pieces that a text does not use, it takes the same ones.
"""

import json
from collections.abc import Iterable

import numpy as np
import pytest
import tokenizers

from alignstream.export.encoders import weights
from alignstream.export.encoders.parity_texts import parity_texts
from alignstream.models.encoder.artifact import GOLDEN_TEXTS

#: Pieces that are always there: the special ones in front, and the mask at the end.
N_SPECIAL = 4


def kept_ids(texts: Iterable[str]) -> list[int]:
    """Return the ids that texts need, the special ones, and a least probable piece, which prices unknown text."""
    content = weights.read_tokenizer()
    vocabulary = json.loads(content)["model"]["vocab"]
    tokenizer = tokenizers.Tokenizer.from_str(content.decode())
    ids = {id_ for text in texts for id_ in tokenizer.encode(weights.PREFIX + text).ids}
    rarest = min(range(len(vocabulary)), key=lambda id_: vocabulary[id_][1])
    return sorted(ids | set(range(N_SPECIAL)) | {rarest, len(vocabulary) - 1})


def cut(patch: pytest.MonkeyPatch) -> None:
    """Let the embedded encoder know the tokens of the parity texts alone, until the patch is undone."""
    kept = kept_ids([*(text for _, text in parity_texts()), *GOLDEN_TEXTS])
    tokenizer = json.loads(weights.read_tokenizer())
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = [vocabulary[id_] for id_ in kept]
    for token in tokenizer["added_tokens"]:
        token["id"] = kept.index(token["id"])
    tensors, blocks = weights.read_tensors_and_blocks()
    rows = blocks.reshape(weights.CONFIG["vocab_size"], -1)[kept]
    table = weights.dequantise(rows.reshape(-1)).reshape(len(kept), weights.CONFIG["hidden_size"])
    patch.setattr(weights, "read_tokenizer", lambda: json.dumps(tokenizer).encode())
    patch.setattr(
        weights, "read_tensors", lambda: tensors | {weights.WORD_TABLE: np.ascontiguousarray(table)}
    )
    patch.setitem(weights.CONFIG, "vocab_size", len(kept))
