"""Compare hidden layers and poolings of an encoder before it is exported. Needs the ``export`` extra.

Models that were trained to fill in words align languages best in their middle layers. Vectors of hidden layers are
no artifact's, so they are not kept in the cache.
"""

import contextlib
import re
import shlex
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import torch
import transformers

from alignstream.export import hub, weights
from alignstream.export.datasets import Parallel
from alignstream.export.evaluate import FROM_PIVOT, TO_PIVOT, mixed_pool, retrieval
from alignstream.export.sentence_transformers import read_recipe
from alignstream.export.weights import ExportError
from alignstream.models.alignment.members import Matrix

POOLINGS: Final = ("mean", "cls")
#: Texts of one forward pass; longer batches gain nothing on a CPU.
_BATCH: Final = 32
_MAX_TOKENS: Final = 512
_E5: Final = re.compile(r"(^|[-_/.])e5[-_]")
_MIN_NORM: Final = 1e-12
#: transformers annotates some of its functions and not others; taken as untyped throughout.
_library: Any = transformers


class LayerResult(msgspec.Struct, frozen=True):
    """One layer and pooling: means over languages, raw cosine, in points.

    Parameters
    ----------
    layer : int
        From 1, as ``alignstream export onnx --layer`` counts.
    pooling : str
        ``mean`` or ``cls``.
    to_pivot, from_pivot, mixed_pool : float
    """

    layer: int
    pooling: str
    to_pivot: float
    from_pivot: float
    mixed_pool: float

    @property
    def score(self) -> float:
        """The mean of both directions, averaged with the mixed pool: what the best is chosen by."""
        return ((self.to_pivot + self.from_pivot) / 2 + self.mixed_pool) / 2


class LayerReport(msgspec.Struct, frozen=True):
    """What comparing layers found.

    Parameters
    ----------
    model : str
        As it was named.
    set, pivot : str
        The parallel text.
    n_lines : int
        Of each language.
    languages : list of str
    results : list of LayerResult
        By layer, then pooling.
    best : LayerResult
        The highest score; of equals the lowest layer, which is the fastest.
    command : str
        Exports that layer.
    """

    model: str
    set: str
    pivot: str
    n_lines: int
    languages: list[str]
    results: list[LayerResult]
    best: LayerResult
    command: str


class _Model(NamedTuple):
    tokenizer: Any
    model: Any
    prefix: str


def compare_layers(model: str, texts: Parallel, *, poolings: Sequence[str] = POOLINGS) -> LayerReport:
    """Measure retrieval both ways and the mixed pool for every hidden layer and pooling.

    Dense layers that a sentence-transformers folder puts after pooling are left out: they belong to its last layer.

    Parameters
    ----------
    model : str
        A local folder (transformers or sentence-transformers), a hub name, or ``embedded``.
    texts : Parallel
        Translations, line by line.
    poolings : sequence of str
        Of ``POOLINGS``.

    Raises
    ------
    ExportError
        The model cannot be loaded, or a pooling is unknown.
    """
    unknown = [pooling for pooling in poolings if pooling not in POOLINGS]
    if unknown or not poolings:
        raise ExportError(
            f"unknown pooling {', '.join(unknown)!r}; layers are compared by {', '.join(POOLINGS)}"
        )
    by_language = texts.by_language
    lines = [text for column in by_language.values() for text in column]
    with _opened(model) as opened:
        pooled = _encode(opened, lines, poolings)
    results = []
    for (layer, pooling), X in sorted(pooled.items()):
        vectors = {
            language: X[position * texts.n_lines : (position + 1) * texts.n_lines]
            for position, language in enumerate(by_language)
        }
        results.append(_judge(layer, pooling, vectors, texts.pivot))
    best = max(results, key=lambda item: (round(item.score, 6), -item.layer))
    return LayerReport(
        model=model,
        set=texts.name,
        pivot=texts.pivot,
        n_lines=texts.n_lines,
        languages=list(by_language),
        results=results,
        best=best,
        command=f"alignstream export onnx --model {shlex.quote(model)} --layer {best.layer} --pooling {best.pooling} "
        "--output FOLDER",
    )


def _judge(layer: int, pooling: str, vectors: dict[str, Matrix], pivot: str) -> LayerResult:
    both = retrieval(vectors, pivot)
    return LayerResult(
        layer=layer,
        pooling=pooling,
        to_pivot=statistics.fmean(both[TO_PIVOT].values()),
        from_pivot=statistics.fmean(both[FROM_PIVOT].values()),
        mixed_pool=statistics.fmean(mixed_pool(vectors).values()),
    )


@contextlib.contextmanager
def _opened(name: str) -> Iterator[_Model]:
    """Load a model with its tokenizer and the prefix of its texts."""
    with contextlib.ExitStack() as stack:
        if name == weights.EMBEDDED:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alignstream-")))
            weights.write_checkpoint(folder)
        else:
            folder = Path(name).resolve() if Path(name).is_dir() else hub.download(name)[0]
        recipe = read_recipe(folder)
        lowered = name.lower()
        is_e5 = name == weights.EMBEDDED or (_E5.search(lowered) is not None and "instruct" not in lowered)
        before = _library.logging.get_verbosity()
        _library.logging.set_verbosity_error()
        try:
            tokenizer = _library.AutoTokenizer.from_pretrained(recipe.encoder, local_files_only=True)
            model = _library.AutoModel.from_pretrained(
                recipe.encoder, local_files_only=True, dtype=torch.float32
            )
        except Exception as error:  # transformers raises whatever its parts raise
            raise ExportError(f"{name}: no model can be loaded from {recipe.encoder}: {error}") from error
        finally:
            _library.logging.set_verbosity(before)
        model.eval()
        yield _Model(tokenizer, model, weights.PREFIX if is_e5 else recipe.prompt or "")


def _encode(opened: _Model, texts: Sequence[str], poolings: Sequence[str]) -> dict[tuple[int, str], Matrix]:
    """Return unit vectors of shape (n_texts, dim) of every layer, from 1, and pooling."""
    limit = min(_MAX_TOKENS, int(opened.tokenizer.model_max_length))
    # Texts of like length share a batch, so that little is padded.
    order = sorted(range(len(texts)), key=lambda position: len(texts[position]))
    found: dict[tuple[int, str], Matrix] = {}
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        inputs = opened.tokenizer(
            [opened.prefix + texts[position] for position in rows],
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=limit,
        )
        with torch.no_grad():
            states = opened.model(**inputs, output_hidden_states=True).hidden_states
        mask = inputs["attention_mask"].unsqueeze(2).float()
        # The first state is that of the embeddings, below layer 1.
        for layer, state in enumerate(states[1:], start=1):
            for pooling in poolings:
                pooled = state[:, 0] if pooling == "cls" else (state * mask).sum(1) / mask.sum(1)
                unit = pooled / pooled.norm(dim=1, keepdim=True).clamp_min(_MIN_NORM)
                shape = (len(texts), unit.shape[1])
                found.setdefault((layer, pooling), np.empty(shape, dtype=np.float32))[rows] = unit.numpy()
    return found
