"""Compare an artifact with the torch model it came from: same token ids, same vectors, in many scripts.

The reference is computed by torch and transformers alone, one text at a time, without padding: nothing of
the graph, of its pooling or of its batching takes part in it.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from alignstream.export.encoders.parity_texts import SCRIPTS, parity_texts
from alignstream.export.encoders.pooling import Activation, Dense
from alignstream.models.encoder.artifact import Pooling
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.encoder.tokenizer import Tokens
from alignstream.models.errors import ParityError

#: float32 sums in another order differ in the last bits: measured 1.2e-7 at most on unit vectors and 1.6e-6 on
#: tokens after twelve layers. A wrong pooling or layer differs by more than 1e-2 (a test holds that).
MAX_DIFFERENCE: Final = 1e-4
MIN_COSINE: Final = 0.99999
#: The same for single tokens, as a share of the largest number of the text (token vectors are not normalised).
MAX_TOKEN_DIFFERENCE: Final = 1e-3

#: Lengths in tokens at which a text is cut, below what special tokens and a prefix allow.
SHORTEST: Final = (1, 2, 3)

Vector = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Reference:
    """A torch encoder with everything that makes one vector of a text.

    ``tokenizer`` is transformers' own; ``pooler`` is the model's own module, used for ``pooling="pooler"``.
    """

    model: torch.nn.Module
    tokenizer: Any
    pooler: torch.nn.Module | None
    pooling: Pooling
    dense: tuple[Dense, ...]
    prefix: str
    max_tokens: int

    def token_ids(self, text: str) -> list[int]:
        """Tokenize one text as transformers does, cut at ``max_tokens``."""
        encoded = self.tokenizer(self.prefix + text, truncation=True, max_length=self.max_tokens)
        return [int(token) for token in encoded["input_ids"]]

    def encode(self, token_ids: Sequence[int]) -> tuple[Vector, Vector]:
        """Return the unit vector of shape (dim,) and the token vectors of shape (n_tokens, hidden)."""
        with torch.no_grad():
            input_ids = torch.tensor([list(token_ids)], dtype=torch.long)
            hidden = self.model(
                input_ids=input_ids, attention_mask=torch.ones_like(input_ids)
            ).last_hidden_state
            if self.pooling == "mean":
                pooled = hidden.mean(dim=1)
            elif self.pooling == "pooler" and self.pooler is not None:
                pooled = self.pooler(hidden)
            else:
                pooled = hidden[:, 0]
            for layer in self.dense:
                bias = None if layer.bias is None else torch.from_numpy(layer.bias)
                pooled = torch.nn.functional.linear(pooled, torch.from_numpy(layer.weight), bias)
                pooled = _ACTIVATIONS[layer.activation](pooled)
            x = torch.nn.functional.normalize(pooled, dim=1)[0]
        return x.numpy().astype(np.float32), hidden[0].numpy().astype(np.float32)


_ACTIVATIONS: Final[dict[Activation, Callable[[torch.Tensor], torch.Tensor]]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "gelu": torch.nn.functional.gelu,
    "identity": lambda pooled: pooled,
}


@dataclasses.dataclass(frozen=True)
class Expected:
    """What torch gives for one text: token ids, the unit vector, and the vectors of the tokens."""

    script: str
    text: str
    token_ids: list[int]
    vector: Vector
    token_vectors: Vector


def expected(reference: Reference) -> list[Expected]:
    """Encode ``parity_texts`` with torch, and the second of them cut to ``SHORTEST`` lengths.

    Special tokens and a prefix make every text longer than a token; one is cut, to compare from 1 token on.
    """
    pairs = parity_texts()
    items = [(script, text, reference.token_ids(text)) for script, text in pairs]
    script, text, token_ids = items[1]
    items += [(script, text, token_ids[:length]) for length in SHORTEST]
    return [
        Expected(script, text, token_ids, *reference.encode(token_ids)) for script, text, token_ids in items
    ]


def compare(encoder: OnnxEncoder, expected: Sequence[Expected]) -> dict[str, Any]:
    """Compare an artifact with what torch gives.

    Parameters
    ----------
    encoder : OnnxEncoder
    expected : sequence of Expected
        From ``expected``; the torch model may be gone by now.

    Returns
    -------
    dict
        JSON-able: ``largest_difference`` (absolute, between unit vectors), ``lowest_cosine``,
        ``largest_token_difference`` (share of the largest number of the text), how many texts, scripts and
        tokens, and ``per_text``.

    Raises
    ------
    ParityError
        A token id differs, or a vector differs by more than the tolerance.
    """
    whole = expected[: -len(SHORTEST)]
    for item, own_tokens in zip(whole, encoder.tokenize([item.text for item in whole]), strict=True):
        if item.token_ids != list(own_tokens.input_ids):
            raise ParityError(
                f"the artifact's tokenizer gives other ids than transformers' for {item.script} text "
                f"{item.text[:40]!r}; the model's tokenizer.json does not say all that its tokenizer does"
            )
    tokens = [Tokens(input_ids=tuple(item.token_ids), dropped=0) for item in expected]
    X = encoder.encode(tokens)
    rows: list[dict[str, Any]] = []
    for item, own_tokens, ours in zip(expected, tokens, X, strict=True):
        (our_vectors,) = encoder.token_matrices([own_tokens])
        rows.append(
            {
                "script": item.script,
                "tokens": len(item.token_ids),
                "difference": float(np.abs(item.vector - ours).max()),
                "cosine": _cosine(item.vector, ours),
                "token_difference": float(
                    np.abs(our_vectors - item.token_vectors).max() / np.abs(item.token_vectors).max()
                ),
            }
        )
    lengths = [int(row["tokens"]) for row in rows]
    report: dict[str, Any] = {
        "texts": len(rows),
        "scripts": len(SCRIPTS),
        "shortest_tokens": min(lengths),
        "longest_tokens": max(lengths),
        "largest_difference": max(row["difference"] for row in rows),
        "lowest_cosine": min(row["cosine"] for row in rows),
        "largest_token_difference": max(row["token_difference"] for row in rows),
        "max_difference": MAX_DIFFERENCE,
        "min_cosine": MIN_COSINE,
        "max_token_difference": MAX_TOKEN_DIFFERENCE,
        "per_text": rows,
    }
    check(report)
    return report


def _cosine(x: Vector, y: Vector) -> float:
    x64, y64 = x.astype(np.float64), y.astype(np.float64)
    return float(x64 @ y64 / (np.linalg.norm(x64) * np.linalg.norm(y64)))


def check(report: dict[str, Any]) -> None:
    """Refuse a report above the tolerance.

    Raises
    ------
    ParityError
        A figure is worse than its limit, or is not a number.
    """
    # Written so that NaN fails.
    is_equal = (
        report["largest_difference"] <= MAX_DIFFERENCE
        and report["lowest_cosine"] >= MIN_COSINE
        and report["largest_token_difference"] <= MAX_TOKEN_DIFFERENCE
    )
    if not is_equal:
        raise ParityError(
            "the exported graph does not give torch's vectors: largest difference "
            f"{report['largest_difference']:.2e} (limit {MAX_DIFFERENCE:.0e}), lowest cosine "
            f"{report['lowest_cosine']:.6f} (limit {MIN_COSINE}), largest token difference "
            f"{report['largest_token_difference']:.2e} (limit {MAX_TOKEN_DIFFERENCE:.0e}); nothing was written"
        )
