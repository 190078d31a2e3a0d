"""The gate before an adapter is published: judged on the demonstration's texts, which nothing was fitted on.

Thirty-five texts in twenty-seven languages, each a translation of the others: enough to see an adapter that
loses translations or scrambles a language, not to tell two good ones apart.
"""

import dataclasses
from collections.abc import Mapping
from typing import Final

import numpy as np

from alignstream.export.embedding_cache import EmbeddingCache
from alignstream.export.evaluate import neighbours_kept
from alignstream.models.alignment import gate
from alignstream.models.alignment.adapter import Adapter, identity
from alignstream.models.alignment.context import Context
from alignstream.models.alignment.members import Matrix
from alignstream.models.encoder.artifact import read_manifest
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.errors import AdapterError
from alignstream.ops.demo.sample import load_sample
from alignstream.ops.encoder import artifact_folder
from alignstream.streams.settings import Settings

PIVOT: Final = "en"


@dataclasses.dataclass(frozen=True)
class GateReport:
    """What the gate says.

    Parameters
    ----------
    is_accepted : bool
    reasons : list of str
        What speaks for it, or against it, a sentence each.
    languages : dict of str to str
        The languages that it makes significantly worse, each with its reason.
    """

    is_accepted: bool
    reasons: list[str]
    languages: dict[str, str]


def sample_vectors(settings: Settings, encoder: str) -> dict[str, Matrix]:
    """Return the raw vectors of the demonstration's texts by language, encoded or from the cache.

    Raises
    ------
    AdapterError
        The encoder in use is not the one that the adapter was fitted on.
    """
    folder = artifact_folder(settings)
    fingerprint = read_manifest(folder).fingerprint
    if fingerprint != encoder:
        raise AdapterError(
            f"the gate cannot judge an adapter of encoder {encoder[:12]}: {fingerprint[:12]} is in use here; set "
            "ALIGNSTREAM_ARTIFACT to its folder, or add --force"
        )
    found = OnnxEncoder(folder, threads=settings.threads, max_batch_tokens=settings.max_batch_tokens)
    cache = EmbeddingCache(
        settings.cache_dir, fingerprint=fingerprint, dim=found.dim, encode=found.encode_texts
    )
    sample = load_sample()
    named = {f"sample.{tag}": [item.text[tag] for item in sample.texts] for tag in sample.languages}
    vectors = cache.embed_with_progress(named, title="encoding texts for the gate")
    return {tag: vectors[f"sample.{tag}"] for tag in sample.languages}


def judge(candidate: Adapter, incumbent: Adapter | None, vectors: Mapping[str, Matrix]) -> GateReport:
    """Judge an adapter against the one that it would replace, or against vectors as encoded.

    Parameters
    ----------
    vectors : mapping of str to ndarray of shape (n_texts, dim), float32
        Raw vectors by language tag, row by row translations.
    """
    before = incumbent or identity(candidate.encoder, candidate.dim)
    found = {name: _aligned(adapter, vectors) for name, adapter in (("before", before), ("after", candidate))}
    others = [tag for tag in vectors if tag != PIVOT]
    hits = {
        name: {tag: _finds(aligned[tag], aligned[PIVOT]) for tag in others} for name, aligned in found.items()
    }
    verdict = gate.judge_many(
        *(np.concatenate([hits[name][tag] for tag in others]) for name in ("before", "after"))
    )
    worse = gate.holm(
        np.array([gate.worse_p_value(hits["before"][tag], hits["after"][tag]) for tag in others])
    )
    languages = {
        tag: f"finds {hits['after'][tag].mean():.0%} of its translations, {hits['before'][tag].mean():.0%} before"
        for tag, is_worse in zip(others, worse, strict=True)
        if is_worse
    }
    kept = {tag: neighbours_kept(X, found["after"][tag]) / 100.0 for tag, X in vectors.items()}
    lowest = min(kept, key=lambda tag: kept[tag])
    meaning = gate.judge_meaning(kept[lowest])
    reasons = [
        f"against {'vectors as encoded' if incumbent is None else f'version {incumbent.version}'}: {verdict.reason}",
        f"in {lowest}, the language that changes most, {meaning.reason}",
        *(f"{tag} {reason}" for tag, reason in languages.items()),
    ]
    return GateReport(verdict.is_accepted and meaning.is_accepted and not languages, reasons, languages)


def _aligned(adapter: Adapter, vectors: Mapping[str, Matrix]) -> dict[str, Matrix]:
    return {tag: adapter.transform_many(X, Context(language=tag)) for tag, X in vectors.items()}


def _finds(X: Matrix, Y: Matrix) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = (X @ Y.T).argmax(axis=1) == np.arange(len(X))
    return found
