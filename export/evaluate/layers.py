"""Compare hidden layers and poolings of an encoder before it is exported. Needs the ``export`` extra.

Models that were trained to fill in words align languages best in their middle layers. Vectors of hidden layers are
no artifact's, so they are not kept in the cache.
"""

import contextlib
import shlex
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import torch
import transformers

from alignstream.export.data.parallel import Parallel
from alignstream.export.encoders import hub, weights
from alignstream.export.encoders.sentence_transformers import read_recipe
from alignstream.export.evaluate.chance import at_chance, first_lines, right_shares
from alignstream.export.evaluate.columns import RAW, in_column
from alignstream.export.evaluate.layer_report import POOLINGS, LayerReport, LayerResult
from alignstream.export.evaluate.measures import FROM_PIVOT, TO_PIVOT, Measured, mixed_pool, retrieval
from alignstream.export.evaluate.report import repeated_note, slipped_warning
from alignstream.export.evaluate.statistics import bootstrap_interval
from alignstream.models.arrays import Indices, Matrix
from alignstream.models.checks.significance import DRAWS
from alignstream.models.errors import ExportError

#: Texts of one forward pass; longer batches gain nothing on a CPU.
_BATCH: Final = 32
_MAX_TOKENS: Final = 512
_MIN_NORM: Final = 1e-12
#: Characters of what a library says of a model that cannot be loaded: some list every model there is.
_MAX_REASON: Final = 200
#: transformers annotates some of its functions and not others; taken as untyped throughout.
_library: Any = transformers


class _Model(NamedTuple):
    tokenizer: Any
    model: Any
    prefix: str


def compare_layers(
    model: str, texts: Parallel, *, poolings: Sequence[str] = POOLINGS, seed: int = 0
) -> LayerReport:
    """Measure retrieval both ways and the mixed pool for every hidden layer and pooling.

    Dense layers that a sentence-transformers folder puts after pooling are left out: they belong to its last layer.

    Parameters
    ----------
    model : str
        A local folder (transformers or sentence-transformers), a hub name, or ``embedded``.
    texts : Parallel
        Translations, line by line; repeated texts cost no points.
    poolings : sequence of str
        Some of ``POOLINGS``.
    seed : int
        Seed of the bootstrap over languages.

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
    started = time.monotonic()
    by_language = texts.by_language
    lines = [text for column in by_language.values() for text in column]
    same = {language: first_lines(column) for language, column in by_language.items()}
    with _opened(model) as opened:
        pooled = _encode(opened, lines, poolings)
    shares = right_shares(same, texts.pivot)
    slipped = list(shares)
    results = []
    for (layer, pooling), X in sorted(pooled.items()):
        vectors = {
            language: X[position * texts.n_lines : (position + 1) * texts.n_lines]
            for position, language in enumerate(by_language)
        }
        both_ways = retrieval(vectors, texts.pivot, same=same)
        by_chance = at_chance(in_column(RAW, both_ways), both_ways, shares)
        slipped = [language for language in slipped if language in by_chance]
        results.append(_judge(layer, pooling, vectors, both_ways, same))
    best = max(results, key=lambda result: (round(result.score, 6), -result.layer))
    n_repeated = {language: len(lines) - len(np.unique(lines)) for language, lines in same.items()}
    return LayerReport(
        model=model,
        set=texts.name,
        pivot=texts.pivot,
        n_lines=texts.n_lines,
        languages=list(by_language),
        results=[result if result is best else _compared(result, best, seed) for result in results],
        best=best,
        command=f"alignstream export onnx --model {shlex.quote(model)} --layer {best.layer} --pooling {best.pooling} "
        "--output FOLDER",
        seed=seed,
        n_draws=DRAWS,
        seconds=time.monotonic() - started,
        notes=repeated_note(n_repeated, "a candidate with the text of the right one counts as right"),
        warnings=slipped_warning(slipped, str(texts.file or texts.name), "at any layer"),
    )


def _judge(
    layer: int,
    pooling: str,
    vectors: Mapping[str, Matrix],
    both_ways: Measured,
    same: Mapping[str, Indices],
) -> LayerResult:
    to_pivot, from_pivot = (both_ways[measure].figures for measure in (TO_PIVOT, FROM_PIVOT))
    distinct = {language: np.unique(lines, return_inverse=True) for language, lines in same.items()}
    pool = mixed_pool(
        {language: X[distinct[language][0]] for language, X in vectors.items()},
        rows={language: rows.astype(np.int64) for language, (_, rows) in distinct.items()},
    ).figures
    # The pivot has no retrieval, so that all is over the other languages.
    languages = list(to_pivot)
    return LayerResult(
        layer=layer,
        pooling=pooling,
        to_pivot=statistics.fmean(to_pivot.values()),
        from_pivot=statistics.fmean(from_pivot.values()),
        mixed_pool=statistics.fmean(pool[language] for language in languages),
        by_language={
            language: ((to_pivot[language] + from_pivot[language]) / 2 + pool[language]) / 2
            for language in languages
        },
    )


def _compared(result: LayerResult, best: LayerResult, seed: int) -> LayerResult:
    changes = [figure - best.by_language[language] for language, figure in result.by_language.items()]
    return msgspec.structs.replace(result, change=bootstrap_interval(np.array(changes), seed=seed))


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
        before = _library.logging.get_verbosity()
        _library.logging.set_verbosity_error()
        try:
            tokenizer = _library.AutoTokenizer.from_pretrained(recipe.encoder, local_files_only=True)
            model = _library.AutoModel.from_pretrained(
                recipe.encoder, local_files_only=True, dtype=torch.float32
            )
        except Exception as error:  # transformers raises any error of its parts
            reason = " ".join(str(error).split())
            if len(reason) > _MAX_REASON:
                reason = f"{reason[:_MAX_REASON]}…"
            raise ExportError(f"{name}: no model can be loaded from {recipe.encoder}: {reason}") from error
        finally:
            _library.logging.set_verbosity(before)
        model.eval()
        yield _Model(tokenizer, model, weights.e5_prefix(name) or recipe.prompt or "")


def _encode(opened: _Model, texts: Sequence[str], poolings: Sequence[str]) -> dict[tuple[int, str], Matrix]:
    """Return unit vectors of shape (n_texts, dim) of every layer, from 1, and pooling."""
    limit = min(_MAX_TOKENS, int(opened.tokenizer.model_max_length))
    # Texts of like length share a batch, so that little is padded.
    order = sorted(range(len(texts)), key=lambda position: len(texts[position]))
    pooled_texts: dict[tuple[int, str], Matrix] = {}
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
                X = pooled_texts.setdefault((layer, pooling), np.empty(shape, dtype=np.float32))
                X[rows] = unit.numpy()
    return pooled_texts
