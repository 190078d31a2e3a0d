"""Make the adapter that the package ships for the embedded encoder, from the public sets in ALIGNSTREAM_DATA.

``python -m alignstream.export.shipped`` fits it again and writes its page; ``... tune-labels`` prints the
constants of zero-shot labels that belong to it. Every subsample is fixed, so every run reads the same texts.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import platformdirs
from numpy.typing import NDArray
from rich.console import Console

from alignstream.export.adapter_page import render_page
from alignstream.export.datasets import PublicSets
from alignstream.export.embedded import cached_artifact
from alignstream.export.embedding_cache import EmbeddingCache
from alignstream.export.evaluate import LabelledTexts, SetReport, judge
from alignstream.export.fit import (
    CLOSE_POINTS,
    NOT_USED,
    USED_TO_CHOOSE,
    DevTexts,
    Trial,
    choose_rank,
    fit_adapter,
    write_adapter,
)
from alignstream.models import alignment
from alignstream.models.alignment.adapter import Adapter
from alignstream.models.alignment.members import Matrix
from alignstream.models.alignment.projection import language_means
from alignstream.models.alignment.shipped import packaged_adapter
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.errors import AlignstreamError
from alignstream.models.tasks.labels import render

FOLDER: Final = Path(alignment.__file__).parent / "packaged"
FILE: Final = "multilingual-e5-small.safetensors"
PAGE: Final = Path("docs") / "adapter-default.md"

#: Texts of a language's mean. All languages have the same ones, so their topics cancel between languages.
N_FIT_TEXTS: Final = 80
N_DEV_LINES: Final = 100
N_TICO_LINES: Final = 120
N_XSID_TEXTS: Final = 100

#: Languages of the development texts, by NTREX-128's names: 14 families, 16 scripts, many low-resource.
DEV_LANGUAGES: Final = (
    "eng", "deu", "fra", "rus", "pol", "ell", "arb", "heb", "fas", "hin", "ben", "tam", "kat", "hye", "tur",
    "kaz", "fin", "hun", "jpn", "kor", "zho-CN", "vie", "tha", "ind", "swa", "yor", "hau", "amh", "som",
    "zul", "wol", "mya", "uig", "eus",
)  # fmt: skip
#: Languages whose SIB-200 texts are encoded too, though NTREX-128 has them: they tell domain from language.
BRIDGE_LANGUAGES: Final = DEV_LANGUAGES[:20]
TICO_LANGUAGES: Final = (
    "en", "am", "ar", "bn", "ckb", "es_LA", "fa", "fr", "ha", "hi", "id", "km", "ku", "lg", "ln", "my", "ne",
    "om", "pt_BR", "ru", "so", "sw", "ta", "tl", "ur", "zh", "zu",
)  # fmt: skip
XSID_LANGUAGES: Final = (
    "en", "ar", "da", "de", "de-st", "gsw", "id", "it", "kk", "lt", "nap", "nl", "sr", "tr", "zh",
)  # fmt: skip

TEMPLATE: Final = "This text is about {label}."
#: xSID names its intents as code does; these are the words for them.
INTENTS: Final = {
    "weather/find": "the weather",
    "alarm/set_alarm": "setting an alarm",
    "alarm/cancel_alarm": "cancelling an alarm",
    "alarm/show_alarms": "showing the alarms",
    "alarm/snooze_alarm": "snoozing an alarm",
    "alarm/modify_alarm": "changing an alarm",
    "reminder/set_reminder": "setting a reminder",
    "reminder/cancel_reminder": "cancelling a reminder",
    "reminder/show_reminders": "showing the reminders",
    "AddToPlaylist": "adding a song to a playlist",
    "BookRestaurant": "booking a restaurant",
    "PlayMusic": "playing music",
    "RateBook": "rating a book",
    "SearchCreativeWork": "finding a film, a book or a song",
    "SearchScreeningEvent": "film showings at the cinema",
}

Means = dict[str, NDArray[np.float64]]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The adapter, what was tried on the way, and how it does on each set."""

    adapter: Adapter
    choices: dict[str, list[Trial]]
    reports: list[SetReport]


class Sources:
    """The public sets as vectors.

    Parameters
    ----------
    root : Path
        ALIGNSTREAM_DATA.
    cache : EmbeddingCache
        Gives the vectors.
    encoder : str
        Fingerprint of the encoder.
    """

    def __init__(self, root: Path, cache: EmbeddingCache, *, encoder: str) -> None:
        self.sets = PublicSets(root)
        self.encoder = encoder
        self._cache = cache

    def embed(self, part: str, by_language: Mapping[str, Sequence[str]]) -> dict[str, Matrix]:
        """Return vectors by language, encoded or from the cache."""
        named = {f"{part}.{language}": texts for language, texts in by_language.items()}
        vectors = self._cache.embed_with_progress(named, title=part)
        return {language: vectors[f"{part}.{language}"] for language in by_language}

    def ntrex_means(self) -> Means:
        """Return the means of NTREX-128's languages on lines that may be fitted on."""
        texts = self.sets.ntrex(self.sets.ntrex_languages(), is_dev=False, n_lines=N_FIT_TEXTS)
        return dict(zip(*language_means(self.embed(texts.name, texts.by_language)), strict=True))

    def sib_only_languages(self) -> list[str]:
        """Return SIB-200's languages that NTREX-128 lacks."""
        shared = {self.sets.sib_name(language) for language in self.sets.ntrex_languages()}
        return [language for language in self.sets.sib_languages() if language not in shared]

    def sib_means(self, languages: Sequence[str]) -> Means:
        """Return the means of languages on SIB-200's training texts."""
        texts = self.sets.sib_train(languages, n_lines=N_FIT_TEXTS)
        return dict(zip(*language_means(self.embed("sib-train", texts)), strict=True))

    def sib_name(self, language: str) -> str:
        """Return SIB-200's name of a language that is known to be in both sets."""
        name = self.sets.sib_name(language)
        if name is None:
            raise AlignstreamError(f"SIB-200 has no language {language!r}")
        return name

    def dev(self) -> DevTexts:
        """Return what rank and means are chosen on: NTREX-128's and SIB-200's development parts."""
        parallel = self.sets.ntrex(DEV_LANGUAGES, is_dev=True, n_lines=N_DEV_LINES)
        texts, labels = self.sets.sib_dev([self.sib_name(language) for language in DEV_LANGUAGES])
        return DevTexts(
            parallel=self.embed(parallel.name, parallel.by_language),
            pivot=parallel.pivot,
            topical=self.embed("sib-dev", texts),
            labelled=self.labelled(labels, {label: label for label in labels}),
        )

    def labelled(self, gold: Sequence[str], words: Mapping[str, str]) -> LabelledTexts:
        """Return vectors of label texts, and the position of each text's label among them."""
        labels = sorted(words)
        texts = [render(TEMPLATE, words[label]) for label in labels]
        return LabelledTexts(
            prototypes=self.embed("labels", {"eng": texts})["eng"],
            gold=np.array([labels.index(label) for label in gold], dtype=np.int64),
        )


def fit_shipped(sources: Sources) -> Fitted:
    """Fit the shipped adapter: every choice of language means at every rank, the best on development texts.

    NTREX-128 is news, SIB-200 encyclopaedic: the difference of the two, measured on languages that both
    have, is as large as that between languages. Each set's means are moved half of it, to the middle, so that
    domain neither counts as language nor decides where the centre lies.
    """
    ntrex = sources.ntrex_means()
    sib = sources.sib_means(sources.sib_only_languages())
    bridge = sources.sib_means([sources.sib_name(language) for language in BRIDGE_LANGUAGES])
    shift = np.mean(
        [bridge[sources.sib_name(language)] - ntrex[language] for language in BRIDGE_LANGUAGES], axis=0
    )
    from_ntrex = {language: mean + shift / 2 for language, mean in ntrex.items()}
    from_sib = {language: mean - shift / 2 for language, mean in sib.items()}
    candidates: dict[str, Means] = {
        "NTREX-128, as they are": ntrex,
        "NTREX-128, between the domains": from_ntrex,
        "NTREX-128 and SIB-200, between the domains": {**from_ntrex, **from_sib},
    }
    dev = sources.dev()
    found = {name: choose_rank(_stack(means), dev) for name, means in candidates.items()}
    scores = {name: max(trial.score for trial in trials) for name, (_, trials) in found.items()}
    name = next(name for name, score in scores.items() if score >= max(scores.values()) - CLOSE_POINTS)
    rank = found[name][0]
    choices = {name: trials for name, (_, trials) in found.items()}

    chosen = candidates[name]
    draft = fit_adapter(_stack(chosen), rank=rank, encoder="")
    # Within one set, so that the domain cancels.
    apart = {language: mean - ntrex["eng"] for language, mean in ntrex.items()}
    apart |= {language: mean - bridge[sources.sib_name("eng")] for language, mean in sib.items()}
    reports = _judge(sources, dev, draft)
    report = {
        "method": "centre and low-rank projection",
        "means": name,
        "texts_per_language": N_FIT_TEXTS,
        "languages": {
            "NTREX-128": len(ntrex),
            "SIB-200 only": len(sib),
            "both, to tell domain from language": len(bridge),
        },
        "rank": rank,
        "rank_from": "NTREX-128 development lines and SIB-200 development texts",
        "offsets": {language: offset(apart[language], draft) for language in sorted(chosen)},
        "sets": [item.summary() for item in reports],
    }
    return Fitted(
        adapter=fit_adapter(_stack(chosen), rank=rank, encoder=sources.encoder, report=report),
        choices=choices,
        reports=reports,
    )


def offset(difference: NDArray[np.float64], adapter: Adapter) -> list[float]:
    """Return how far a language's mean lies from English, and what the projection leaves of that.

    Parameters
    ----------
    difference : ndarray of shape (dim,), float64
        The language's mean less that of English, on the same texts.
    adapter : Adapter
        Its centre cancels in differences; what follows the centre is applied.
    """
    left = difference
    for member in adapter.members[1:]:
        left = member.transform_one(left)
    return [round(float(np.linalg.norm(x)), 4) for x in (difference, left)]


def tune_labels(
    labelled: LabelledTexts, texts: Mapping[str, Matrix], adapter: Adapter
) -> tuple[float, float]:
    """Choose the constants of zero-shot labels on development texts.

    Returns
    -------
    temperature : float
        The lowest mean negative log-likelihood of the right label, among steps of 0.005.
    midpoint : float
        The cosine from which on a label applies: the best mean of true positive and true negative rate,
        averaged over labels, among steps of 0.005.
    """
    prototypes = adapter.transform_many(labelled.prototypes).astype(np.float64)
    cosines = np.concatenate(
        [adapter.transform_many(X).astype(np.float64) @ prototypes.T for X in texts.values()]
    )
    gold = np.tile(labelled.gold, len(texts))
    is_right = gold[:, None] == np.arange(len(prototypes))
    temperatures = np.arange(2, 61) * 0.005
    losses = [_negative_log_likelihood(cosines / temperature, gold) for temperature in temperatures]
    midpoints = np.arange(-40, 161) * 0.005
    balanced = [_balanced_accuracy(cosines >= midpoint, is_right) for midpoint in midpoints]
    return float(temperatures[int(np.argmin(losses))]), float(midpoints[int(np.argmax(balanced))])


def open_sources(data: Path, cache_dir: Path, *, threads: int) -> Sources:
    """Open the public sets, the embedded encoder and the cache of vectors."""
    encoder = OnnxEncoder(cached_artifact(cache_dir), threads=threads)
    cache = EmbeddingCache(
        cache_dir, fingerprint=encoder.fingerprint, dim=encoder.dim, encode=encoder.encode_texts
    )
    return Sources(data, cache, encoder=encoder.fingerprint)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run this module as a program."""
    parser = argparse.ArgumentParser(prog="python -m alignstream.export.shipped", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("fit", "tune-labels"), default="fit")
    parser.add_argument("--data", type=Path, default=os.environ.get("ALIGNSTREAM_DATA"))
    parser.add_argument("--output", type=Path, default=FOLDER / FILE, help="the adapter's file")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page with its figures")
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=os.environ.get("ALIGNSTREAM_CACHE_DIR") or platformdirs.user_cache_dir("alignstream"),
    )
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("name the folder with the public sets: --data or ALIGNSTREAM_DATA")
    try:
        sources = open_sources(options.data, options.cache_dir, threads=options.threads)
        run = _tune_labels if options.command == "tune-labels" else _fit
        lines = run(sources, options)
    except AlignstreamError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
    for line in lines:
        Console(highlight=False, soft_wrap=True).print(line, markup=False)


def _fit(sources: Sources, options: argparse.Namespace) -> list[str]:
    fitted = fit_shipped(sources)
    write_adapter(fitted.adapter, options.output, overwrite=True)
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(render_page(fitted.adapter, fitted.choices, fitted.reports), encoding="utf-8")
    size = f"{len(fitted.adapter.blob) / 1000:.0f} kB"
    return [f"{options.output}: version {fitted.adapter.version}, {size}", *_summary_lines(fitted)]


def _tune_labels(sources: Sources, _: argparse.Namespace) -> list[str]:
    dev, adapter = sources.dev(), packaged_adapter(sources.encoder)
    if adapter is None or dev.labelled is None:
        raise AlignstreamError("there is no shipped adapter for this encoder yet; fit it first")
    temperature, midpoint = tune_labels(dev.labelled, dev.topical, adapter)
    return [f"TEMPERATURE {temperature:.3f}", f"MULTI_LABEL_MIDPOINT {midpoint:.3f}"]


def _stack(means: Means) -> NDArray[np.float64]:
    return np.stack([means[language] for language in sorted(means)])


def _judge(sources: Sources, dev: DevTexts, adapter: Adapter) -> list[SetReport]:
    transform = adapter.transform_many
    tico = sources.sets.tico(TICO_LANGUAGES, n_lines=N_TICO_LINES)
    commands, intents = sources.sets.xsid(XSID_LANGUAGES, n_texts=N_XSID_TEXTS)
    return [
        judge(
            "TICO-19",
            sources.embed(tico.name, tico.by_language),
            transform,
            use=NOT_USED,
            pivot=tico.pivot,
        ),
        judge(
            "xSID validation",
            sources.embed("xsid", commands),
            transform,
            use=NOT_USED,
            labelled=sources.labelled(intents, INTENTS),
        ),
        judge("NTREX-128 development", dev.parallel, transform, use=USED_TO_CHOOSE, pivot=dev.pivot),
        judge("SIB-200 development", dev.topical, transform, use=USED_TO_CHOOSE, labelled=dev.labelled),
    ]


def _summary_lines(fitted: Fitted) -> list[str]:
    report: Mapping[str, Any] = fitted.adapter.report
    lines = [f"means: {report['means']}; rank {report['rank']}"]
    for item in fitted.reports:
        for name in item.measures:
            mean, wins, losses = item.mean(name), item.wins(name), item.losses(name)
            lines.append(
                f"{item.name} ({item.use}), {name}: {mean.raw:.1f} -> {mean.adapter:.1f}, {len(wins)} wins, "
                f"{len(losses)} losses" + (f" ({', '.join(losses)})" if losses else "")
            )
    return lines


def _negative_log_likelihood(scaled: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
    highest = scaled.max(axis=1)
    total = highest + np.log(np.exp(scaled - highest[:, None]).sum(axis=1))
    return float((total - scaled[np.arange(len(gold)), gold]).mean())


def _balanced_accuracy(is_accepted: NDArray[np.bool_], is_right: NDArray[np.bool_]) -> float:
    true_positive = (is_accepted & is_right).sum(axis=0) / is_right.sum(axis=0)
    true_negative = (~is_accepted & ~is_right).sum(axis=0) / (~is_right).sum(axis=0)
    return float(((true_positive + true_negative) / 2).mean())


if __name__ == "__main__":
    main()
