"""Write the page about the shipped adapter: every figure comes from the fit, none by hand."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from alignstream.export.evaluate import TIE_POINTS, SetReport
from alignstream.export.fit import CLOSE_POINTS, Trial
from alignstream.models.alignment.adapter import Adapter

_HEAD: Final = """\
# The default adapter

<!-- Written by `make adapter`; changes made here are lost. -->

The adapter that alignstream ships for its embedded encoder. It subtracts one centre from every vector and
removes the directions in which languages differ. It knows no language tags and was fitted on monolingual text
alone. Version `{version}`, {size_kb:.0f} kB, {rank} directions removed.

All figures are points (percent), with the vectors as encoded and with the adapter. A win or a loss is a
language that changes by more than {tie} points.

- **to pivot**, **from pivot**: a text in one language, the nearest among the English ones, and the other way.
- **mixed pool**: a text's translations among all texts of all languages at once (R-precision). Here language
  itself gets in the way: raw vectors find texts of the same language first.
- **labels**: the right zero-shot label, with English label texts in "This text is about ...".
- **neighbours kept**: of a text's ten nearest within its own language, those that stay among the ten nearest.
  The adapter changes what is near within one language too; vectors as encoded stay available as `identity`.
"""

_FITTED: Final = """\
## What it was fitted on

Texts: {texts_per_language} of each language, the same ones in all, so that topics cancel between languages. They
are lines of NTREX-128 (news) that are not development lines, and training texts of SIB-200 (encyclopaedic)
without their labels. SIB-200 is built on FLORES-200: figures of this adapter on either are those of an adapter
that has seen their domain.

Three choices of language means were tried, each at every rank:

- *NTREX-128, as they are*: its {n_ntrex} languages.
- *NTREX-128, between the domains*: news and encyclopaedia differ nearly as much as languages do. The difference is
  measured on {n_bridge} languages that both sets have, and the means are moved half of it, so that the centre lies
  between the two.
- *NTREX-128 and SIB-200, between the domains*: the {n_sib} languages that only SIB-200 has join, moved the other
  half.

The score is the average of the four measures on NTREX-128's development lines and SIB-200's development texts,
over {n_dev} languages; the first choice and the smallest rank within {close} of the best score were taken. Chosen:
**{means}**, rank **{rank}**.
"""

_LIMITS: Final = """\
## Limits

- Gains are relative to this encoder. Where it does not know a language, the adapter adds no knowledge.
- A centre belongs to a domain: on texts far from news and encyclopaedias it is less exact. Fit one on your
  own texts with `alignstream fit default`.
- {n_lines} lines a language: one text is {point:.1f} points, so single languages move by chance. The averages
  are firmer.
"""

_AGAIN: Final = """\
## Fit it again

`ALIGNSTREAM_DATA=<folder> make adapter` writes the adapter and this page. Sources: NTREX-128 (CC BY-SA 4.0)
and SIB-200 (texts of FLORES-200, CC BY-SA 4.0), judged on TICO-19 (CC0) and xSID (CC BY-SA 4.0).
"""


def render_page(
    adapter: Adapter, choices: Mapping[str, Sequence[Trial]], reports: Sequence[SetReport]
) -> str:
    """Return the page as Markdown.

    Parameters
    ----------
    adapter : Adapter
        With the report of the fit.
    choices : mapping of str to sequence of Trial
        What was tried on development texts, by the choice of means.
    reports : sequence of SetReport
        The sets it was judged on, the most telling first.
    """
    report: Mapping[str, Any] = adapter.report
    counts = report["languages"]
    parts = [
        _HEAD.format(
            version=adapter.version, size_kb=len(adapter.blob) / 1000, rank=report["rank"], tie=TIE_POINTS
        ),
        _overview(reports),
        *(_set_section(item) for item in reports),
        _FITTED.format(
            texts_per_language=report["texts_per_language"],
            n_ntrex=counts["NTREX-128"],
            n_sib=counts["SIB-200 only"],
            n_bridge=counts["both, to tell domain from language"],
            n_dev=len(reports[-1].kept),
            close=CLOSE_POINTS,
            means=report["means"],
            rank=report["rank"],
        ),
        *(_choice_table(name, trials) for name, trials in choices.items()),
        _offsets(report["offsets"]),
        _LIMITS.format(n_lines=reports[0].n_lines, point=100 / reports[0].n_lines),
        _AGAIN,
    ]
    return "\n".join(parts)


def _overview(reports: Sequence[SetReport]) -> str:
    rows = []
    for item in reports:
        for name in item.measures:
            mean, losses = item.mean(name), item.losses(name)
            rows.append([
                f"{item.name} ({item.use})", name, str(len(item.measures[name])), f"{mean.raw:.1f}",
                f"{mean.adapter:.1f}", str(len(item.wins(name))), ", ".join(losses) or "none",
            ])  # fmt: skip
    head = ["set", "measure", "languages", "raw", "adapter", "wins", "losses"]
    return "## In short\n\n" + _table(head, rows)


def _set_section(item: SetReport) -> str:
    rows = []
    for language in sorted(item.kept):
        cells = []
        for by_language in item.measures.values():
            change = by_language.get(language)
            if change is None:
                cells.append("")
                continue
            gain = change.adapter - change.raw
            text = f"{change.raw:.1f} → {change.adapter:.1f}"
            cells.append(f"**{text}**" if gain < -TIE_POINTS else text)
        rows.append([language, *cells, f"{item.kept[language]:.1f}"])
    kept = statistics.fmean(item.kept.values())
    means = [item.mean(name) for name in item.measures]
    rows.append(["mean", *(f"{mean.raw:.1f} → {mean.adapter:.1f}" for mean in means), f"{kept:.1f}"])
    return f"## {item.name}: {item.use}\n\n{item.n_lines} texts a language; losses are bold.\n\n" + _table(
        ["language", *item.measures, "neighbours kept"], rows
    )


def _choice_table(name: str, trials: Sequence[Trial]) -> str:
    rows = [
        [str(trial.rank), *(f"{figure:.1f}" for figure in trial.measures.values()), f"{trial.score:.2f}"]
        for trial in trials
    ]
    return f"Tried: {name}.\n\n" + _table(["rank", *trials[0].measures, "score"], rows)


def _offsets(offsets: Mapping[str, Sequence[float]]) -> str:
    before = statistics.fmean(item[0] for item in offsets.values())
    after = statistics.fmean(item[1] for item in offsets.values())
    farthest = sorted(offsets, key=lambda language: -offsets[language][1])[:10]
    return (
        f"The means of {len(offsets)} languages lie {before:.3f} from that of English on average, and {after:.3f} "
        f"after the projection. Farthest then: {', '.join(f'{name} {offsets[name][1]:.3f}' for name in farthest)}.\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
