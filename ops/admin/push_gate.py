"""The gate that an adapter passes before it is published.

It judges by the texts in ``gate_texts``, on which nothing was fitted: 35 texts, each in 27 languages. That is enough
to recognise an adapter that loses translations or scrambles a language, and not enough to tell two good ones apart. A
language that its own map makes worse falls back to the pooled map, inside the same space. Given pairs of texts with
people's scores, it also judges meaning within languages.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from alignstream.export.data.scored_pairs import read_scored
from alignstream.export.data.vector_sets import ScoredVectors
from alignstream.export.evaluate.measures import similarity, transform_of
from alignstream.models.adapter.adapter import Adapter, identity
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.languages import language_key
from alignstream.models.arrays import Mask, Matrix
from alignstream.models.checks import gate
from alignstream.models.checks.neighbours import neighbours_kept
from alignstream.models.checks.significance import holm, worse_p_value
from alignstream.models.encoder.artifact import read_manifest
from alignstream.models.errors import AdapterError
from alignstream.ops.admin.encoder_choice import artifact_folder, open_cache, open_encoder
from alignstream.ops.admin.gate_texts import load_texts
from alignstream.streams.settings import Settings

PIVOT: Final = "en"
#: Languages whose figures a verdict names.
MAX_NAMED: Final = 5


@dataclasses.dataclass(frozen=True)
class GateReport:
    """What the gate says.

    Parameters
    ----------
    adapter : Adapter
        The candidate, or the candidate without the maps that made languages worse.
    is_accepted : bool
    reasons : list of str
        The reasons for and against it, one sentence each.
    fell_back : dict of str to str
        The languages that lost their own map, each with the reason.
    """

    adapter: Adapter
    is_accepted: bool
    reasons: list[str]
    fell_back: dict[str, str]


@dataclasses.dataclass(frozen=True)
class GateEvidence:
    """Raw vectors by which an adapter is judged.

    Parameters
    ----------
    translations : mapping of str to ndarray of shape (n_texts, dim), float32
        By language tag; row i of every language has the same meaning.
    scored : mapping of str to ScoredVectors
        Pairs with people's scores by language; may be empty.
    """

    translations: Mapping[str, Matrix]
    scored: Mapping[str, ScoredVectors] = dataclasses.field(default_factory=dict)


def gather(settings: Settings, encoder: str, *, scored: Path | None = None) -> GateEvidence:
    """Return the vectors by which an adapter is judged, encoded now or taken from the cache.

    Parameters
    ----------
    scored : Path, optional
        Scored pairs, in the format of ``alignstream evaluate similarity``.

    Raises
    ------
    AdapterError
        The encoder in use is not the one that the adapter was fitted for.
    TextError
        The scored pairs cannot be read.
    """
    fingerprint = read_manifest(artifact_folder(settings)).fingerprint
    if fingerprint != encoder:
        raise AdapterError(
            f"the gate cannot judge an adapter of encoder {encoder[:12]}: here {fingerprint[:12]} is in use; set "
            "ALIGNSTREAM_ARTIFACT to the folder of its encoder, or add --force"
        )
    pairs = None if scored is None else read_scored(scored)
    cache = open_cache(settings, open_encoder(settings))
    gate_texts = load_texts()
    named = {f"sample.{tag}": [text.text[tag] for text in gate_texts.texts] for tag in gate_texts.languages}
    if pairs is not None:
        named |= {f"scored.first.{tag}": texts for tag, texts in pairs.first.items()}
        named |= {f"scored.second.{tag}": texts for tag, texts in pairs.second.items()}
    vectors = cache.embed_with_progress(named, title="encoding texts for the gate")
    return GateEvidence(
        {tag: vectors[f"sample.{tag}"] for tag in gate_texts.languages},
        {
            tag: ScoredVectors(
                vectors[f"scored.first.{tag}"], vectors[f"scored.second.{tag}"], np.array(scores)
            )
            for tag, scores in (pairs.scores if pairs is not None else {}).items()
        },
    )


def judge(candidate: Adapter, incumbent: Adapter | None, evidence: GateEvidence) -> GateReport:
    """Judge an adapter against the one that it would replace, or against vectors as encoded.

    If its own map makes a language worse, the adapter is judged once more without that map.
    """
    before = incumbent or identity(candidate.encoder, candidate.dim)
    against = "vectors as encoded" if incumbent is None else f"version {incumbent.version}"
    report, worse = _judge(candidate, before, evidence, against)
    keys = {tag: str(language_key(tag)) for tag in worse}
    with_own_map = {key for step in candidate.steps for key in step.own_languages}
    blamed = {tag: reason for tag, reason in worse.items() if keys[tag] in with_own_map}
    if report.is_accepted or not blamed:
        return report
    reduced = without_maps(candidate, [keys[tag] for tag in blamed], blamed)
    second_report, _ = _judge(reduced, before, evidence, against)
    fallbacks = [fallback_message(tag, reason) for tag, reason in blamed.items()]
    return dataclasses.replace(second_report, reasons=[*fallbacks, *second_report.reasons], fell_back=blamed)


def fallback_message(tag: str, reason: str) -> str:
    """Say that a language falls back to the pooled map, and why."""
    return f"{tag} falls back to the pooled map: with its own it {reason}"


def without_maps(adapter: Adapter, keys: list[str], reasons: Mapping[str, str]) -> Adapter:
    """Return the adapter without own maps for the languages ``keys``; its report says why."""
    steps = [step.without_languages(keys) for step in adapter.steps]
    report = {**adapter.report, "fell_back": dict(reasons)}
    return dataclasses.replace(
        adapter, steps=tuple(step for step in steps if step is not None), report=report
    )


def _judge(
    candidate: Adapter, before: Adapter, evidence: GateEvidence, against: str
) -> tuple[GateReport, dict[str, str]]:
    """Return the report on a candidate, and the languages that it makes significantly worse."""
    vectors = evidence.translations
    others = [tag for tag in vectors if tag != PIVOT]
    after = _aligned(candidate, vectors)
    hits_before, hits_after = (_hits(aligned, others) for aligned in (_aligned(before, vectors), after))
    verdict = gate.judge_many(*(np.concatenate(list(hits.values())) for hits in (hits_before, hits_after)))
    worse = holm(np.array([worse_p_value(hits_before[tag], hits_after[tag]) for tag in others]))
    languages = {
        tag: f"finds {hits_after[tag].mean():.0%} of its translations, {hits_before[tag].mean():.0%} before"
        for tag, is_worse in zip(others, worse, strict=True)
        if is_worse
    }
    kept = {tag: neighbours_kept(X, after[tag]) for tag, X in vectors.items()}
    lowest = min(kept, key=lambda tag: kept[tag])
    meaning = gate.judge_meaning(kept[lowest])
    reasons = [
        f"against {against}: {verdict.reason}",
        f"in {lowest}, the language that changes most, {meaning.reason}",
        *(f"{tag} {reason}" for tag, reason in list(languages.items())[:MAX_NAMED]),
    ]
    if len(languages) > MAX_NAMED:
        reasons.append(f"and {len(languages) - MAX_NAMED} more languages are worse")
    changes = _similarity_changes(candidate, evidence.scored)
    is_similar = all(change >= -gate.MAX_SIMILARITY_LOSS for change in changes.values())
    if changes:
        least = min(changes, key=lambda tag: changes[tag])
        reasons.append(
            f"similarity within {least}, the worst of {len(changes)} languages, changes by {changes[least]:+.2f} "
            f"points of Spearman's correlation against vectors as encoded; {-gate.MAX_SIMILARITY_LOSS:+.1f} is allowed"
        )
    is_accepted = verdict.is_accepted and meaning.is_accepted and is_similar and not languages
    return GateReport(candidate, is_accepted, reasons, {}), languages


def _similarity_changes(candidate: Adapter, scored: Mapping[str, ScoredVectors]) -> dict[str, float]:
    """Return by how many points the correlation with people's scores changes against raw vectors."""
    raw, aligned = similarity(scored).figures, similarity(scored, transform_of(candidate)).figures
    return {tag: aligned[tag] - raw[tag] for tag in scored}


def _aligned(adapter: Adapter, vectors: Mapping[str, Matrix]) -> dict[str, Matrix]:
    return {tag: adapter.transform_many(X, Context(language=tag)) for tag, X in vectors.items()}


def _hits(aligned: Mapping[str, Matrix], tags: list[str]) -> dict[str, Mask]:
    """Return which texts of each language have their translation as the nearest pivot text."""
    return {
        tag: (aligned[tag] @ aligned[PIVOT].T).argmax(axis=1) == np.arange(len(aligned[tag])) for tag in tags
    }
