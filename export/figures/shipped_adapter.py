"""Make the adapter that the package ships for the embedded encoder, from the public sets in ALIGNSTREAM_DATA.

``make adapter`` fits it again and writes its page; ``make adapter-page`` only judges the packaged one again. The
command ``tune-labels`` prints the constants of zero-shot labels that belong to it. Every subsample is fixed, so every
run reads the same texts.
"""

import argparse
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.export.data.named_sets import NamedSets
from alignstream.export.data.public_sets import TICO_LANGUAGES, XSID_LANGUAGES
from alignstream.export.data.selection import TextSelection
from alignstream.export.data.vector_sets import LabelledTexts
from alignstream.export.evaluate.measures import transform_of
from alignstream.export.evaluate.set_report import SetReport, judge
from alignstream.export.figures import program
from alignstream.export.figures.adapter_page import render_page, tried_of, tried_table
from alignstream.export.figures.shipped_bank import (
    TAG_EVIDENCE,
    BankDev,
    ChosenBank,
    choose_bank,
    gather,
    trial_rows,
)
from alignstream.export.figures.sources import (
    N_DEV_LINES,
    N_NTREX_LINES,
    N_SIB_TEXTS,
    N_TICO_LINES,
    Sources,
)
from alignstream.export.fit.adapter_output import write_adapter
from alignstream.export.fit.default_adapter import NOT_USED, USED_TO_CHOOSE
from alignstream.export.fit.pooled_map import CONSENSUS
from alignstream.models import adapter
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.context import Context
from alignstream.models.arrays import Matrix
from alignstream.models.errors import AlignstreamError
from alignstream.models.files import replace_file
from alignstream.models.labels.zero_shot import label_cosines

FOLDER: Final = Path(adapter.__file__).parent / "packaged"
FILE: Final = "multilingual-e5-small.safetensors"
#: Reviews in twelve languages of Indonesia, parallel: a domain and languages that nothing was fitted or chosen on.
REVIEWS: Final = "nusax-valid"
PAGE: Final = Path("docs/pages/measurements/adapter-default.md")


@dataclasses.dataclass(frozen=True)
class FittedShipped:
    """The adapter, the settings that were tried, and its results on each set."""

    adapter: Adapter
    choice: ChosenBank
    reports: list[SetReport]


def fit_shipped(sources: Sources) -> FittedShipped:
    """Fit the shipped adapter: settings are chosen on development texts, then it is judged on all sets."""
    bank, dev = gather(sources), sources.dev()
    commands, intents = sources.commands()
    choice = choose_bank(
        bank,
        BankDev(
            texts=dev,
            commands=commands,
            commands_pivot=XSID_LANGUAGES[0],
            intents=intents,
            similarity=sources.similarity(),
        ),
    )
    adapter = Adapter(encoder=sources.encoder, dim=choice.steps[0].dim, steps=choice.steps)
    reports = _judge(sources, adapter)
    own_report = {
        "method": "attention over language prototypes, and one map pooled over all translations",
        "settings": dataclasses.asdict(choice.settings)
        | {"tag_evidence": TAG_EVIDENCE, "consensus": CONSENSUS},
        "languages": len(bank.prototypes),
        "texts_per_language": {"NTREX-128": N_NTREX_LINES, "SIB-200": N_SIB_TEXTS},
        "mapped_texts": {
            "NTREX-128": len(bank.news) * N_NTREX_LINES,
            "SIB-200": len(bank.encyclopaedic) * N_SIB_TEXTS,
        },
        "similarity_loss": round(-choice.chosen.worst_similarity, 2),
        "runner_up": choice.runner_up.name,
        "trials": trial_rows(choice.trials),
        "sets": [report.summary() for report in reports],
    }
    return FittedShipped(dataclasses.replace(adapter, report=own_report), choice, reports)


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
    prototypes, common = adapter.transform_many(labelled.prototypes), adapter.common_direction()
    cosines = np.concatenate(
        [
            label_cosines(adapter.transform_many(X, Context(language=language)), prototypes, common)
            for language, X in texts.items()
        ]
    )
    gold = np.tile(labelled.gold, len(texts))
    is_right = gold[:, None] == np.arange(len(prototypes))
    temperatures = np.arange(2, 61) * 0.005
    losses = [_negative_log_likelihood(cosines / temperature, gold) for temperature in temperatures]
    midpoints = np.arange(-40, 161) * 0.005
    balanced = [_balanced_accuracy(cosines >= midpoint, is_right) for midpoint in midpoints]
    return float(temperatures[int(np.argmin(losses))]), float(midpoints[int(np.argmax(balanced))])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run this module as a program."""
    parser = program.parser_of("shipped_adapter", __doc__)
    parser.add_argument("command", nargs="?", choices=("fit", "judge", "tune-labels"), default="fit")
    parser.add_argument("--output", type=Path, default=FOLDER / FILE, help="the adapter's file")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page with its figures")
    program.run(parser, arguments, _run)


def _run(options: argparse.Namespace) -> Iterator[str]:
    sources = program.open_sources(options)
    if options.command == "tune-labels":
        dev = sources.dev()
        if dev.labelled is None:
            raise AlignstreamError("there are no labelled development texts to tune on")
        temperature, midpoint = tune_labels(dev.labelled, dev.topical, sources.shipped_adapter())
        yield from (f"TEMPERATURE {temperature:.3f}", f"MULTI_LABEL_MIDPOINT {midpoint:.3f}")
        return
    if options.command == "judge":
        tried = tried_of(options.page.read_text(encoding="utf-8"))
        adapter, reports = sources.shipped_adapter(), _judge(sources, sources.shipped_adapter())
        replace_file(options.page, render_page(adapter, reports, tried).encode())
        yield from _summary_lines(reports)
        return
    fitted = fit_shipped(sources)
    write_adapter(fitted.adapter, options.output, overwrite=True)
    options.page.parent.mkdir(parents=True, exist_ok=True)
    replace_file(
        options.page, render_page(fitted.adapter, fitted.reports, tried_table(fitted.choice)).encode()
    )
    size = f"{len(fitted.adapter.blob) / 1000:.0f} kB"
    yield f"{options.output}: version {fitted.adapter.version}, {size}"
    yield f"chosen: {fitted.choice.settings}; runner-up: {fitted.choice.runner_up.name}"
    yield from _summary_lines(fitted.reports)


def _judge(sources: Sources, adapter: Adapter) -> list[SetReport]:
    transform, common = transform_of(adapter), adapter.common_direction()
    tico = sources.sets.tico(TICO_LANGUAGES, n_lines=N_TICO_LINES)
    commands, intents = sources.commands()
    every, labels = sources.sets.sib_dev(sources.sets.sib_languages())
    news = sources.sets.ntrex(sources.sets.ntrex_languages(), is_dev=True, n_lines=N_DEV_LINES)
    reviews = NamedSets(sources.root).parallel(REVIEWS, TextSelection())
    return [
        judge(
            "TICO-19",
            sources.embed(tico.name, tico.by_language),
            transform,
            use=NOT_USED,
            pivot=tico.pivot,
        ),
        judge(
            "NusaX validation",
            sources.embed(reviews.name, reviews.by_language),
            transform,
            use=NOT_USED,
            pivot=reviews.pivot,
        ),
        judge(
            "xSID validation",
            commands,
            transform,
            use=USED_TO_CHOOSE,
            pivot=XSID_LANGUAGES[0],
            labelled=intents,
            common=common,
        ),
        judge(
            "NTREX-128 development",
            sources.embed(news.name, news.by_language),
            transform,
            use=USED_TO_CHOOSE,
            pivot=news.pivot,
        ),
        judge(
            "SIB-200 development",
            sources.embed("sib-dev", every),
            transform,
            use=USED_TO_CHOOSE,
            pivot=sources.sib_name("eng"),
            labelled=sources.labelled(labels, {label: label for label in labels}),
            common=common,
        ),
    ]


def _summary_lines(reports: Sequence[SetReport]) -> list[str]:
    lines = []
    for report in reports:
        for name in report.measures:
            mean, wins, losses = report.mean(name), report.wins(name), report.losses(name)
            lines.append(
                f"{report.name} ({report.use}), {name}: {mean.raw:.1f} -> {mean.adapter:.1f}, {len(wins)} wins, "
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
