"""Write the page about the shipped adapter: every figure is measured, none is typed by hand."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from alignstream.export.data.public_sets import DEV_LANGUAGES
from alignstream.export.evaluate.report import markdown_table
from alignstream.export.evaluate.set_report import SetReport
from alignstream.export.evaluate.statistics import TIE_POINTS
from alignstream.export.figures.shipped_bank import MAX_SIMILARITY_LOSS, MIN_POINTS_KEPT, ChosenBank
from alignstream.models.adapter.adapter import Adapter
from alignstream.models.errors import AlignstreamError

_TRIED: Final = "tried"

_HEAD: Final = """\
# The default adapter

<!-- Written by `make adapter` and `make adapter-page`; changes made here are lost. -->

The adapter that alignstream ships for its embedded encoder. It subtracts from every vector what attention over
the prototypes of {languages} languages finds of them, divides by how far that language spreads, gives every text
the same share ({common:g}) of what all texts have in common, and multiplies by one map that was fitted to translations
in all languages together. A message's language tag is
evidence for the attention, not a command: texts without a tag, with a wrong one, or in a language that has no
prototype are aligned too. Version `{version}`, {size_kb:.0f} kB.

All figures are points (percent), with the vectors as encoded and with the adapter. A win or a loss is a
language that changes by more than {tie} points.

- **to pivot**, **from pivot**: a text in one language, the nearest among the English ones, and the other way.
- **mixed pool R-precision**: a text's translations among all texts of all languages at once. Here language
  itself gets in the way: raw vectors find texts of the same language first.
- **label accuracy**: the right zero-shot label, with English label texts in "This text is about ...".
- **neighbours kept**: of a text's ten nearest within its own language, those that were as near before as its ten
  nearest were (cosines within 0.001 count as equal). The adapter changes what is near within one language too;
  vectors as encoded stay available as `identity`.
"""

_FITTED: Final = """\
## What it was fitted on

Prototypes: the means of {n_ntrex_lines} lines of NTREX-128 (news) that are not development lines, and of {n_sib_texts}
training texts of SIB-200 (encyclopaedic), without their labels, for languages that only SIB-200 has. News and
encyclopaedia differ nearly as much as languages do; the difference is measured on languages that both sets have,
and the means of each set are moved half of it. Spreads are made comparable likewise.

The map: {n_news:,} texts of NTREX-128 and {n_encyclopaedic:,} of SIB-200, each mapped halfway between its English
version and the mean of its versions in all languages, each language counting the same. SIB-200 is built on
FLORES-200: figures on SIB-200 and NTREX-128 are those of an adapter that has seen
their domains, and of languages that only SIB-200 has it has seen texts of the same articles.

## What was chosen, and on what

Settings were tried on NTREX-128's development lines and SIB-200's development texts in {n_dev} languages, and on
xSID's commands, a domain that nothing was fitted on (*commands*: from the others to English); the score is the
average of the measures. The guard comes first: within no language of the STS benchmark (1,500 development pairs
each) may Spearman's correlation with people's judgements fall by more than {guard} points, and {kept:.0f} of a
hundred neighbours must stay. Chosen: **common {common:g}, temperature {temperature:g}, ridge {strength:g}**; the
runner-up: **{runner_up}**. TICO-19 took no part in the choice of settings, but methods were compared on it while
this one was developed.
"""

_LIMITS: Final = """\
## Limits

- Gains are relative to this encoder. Where it does not know a language, the adapter adds no knowledge.
- Prototypes belong to domains: on texts far from news and encyclopaedias they are less exact. Fit an adapter on
  your own texts with `alignstream fit`.
- {n_lines} lines a language: one text is {point:.1f} points, so single languages move by chance. The averages
  are firmer.
"""

_AGAIN: Final = """\
## Fit it again

`ALIGNSTREAM_DATA=<folder> make adapter` fits the adapter and writes it and this page; `make adapter-page` judges the
shipped one and writes the page again, but for the table of what was tried. Sources: NTREX-128 (CC BY-SA 4.0)
and SIB-200 (texts of FLORES-200, CC BY-SA 4.0), judged on TICO-19 (CC0), NusaX and xSID (CC BY-SA 4.0) and, as the
guard alone, the multilingual STS benchmark.
"""


def render_page(adapter: Adapter, reports: Sequence[SetReport], tried: str) -> str:
    """Return the page as Markdown.

    Parameters
    ----------
    adapter : Adapter
        With the report of the fit.
    reports : sequence of SetReport
        The sets it was judged on, the most telling first.
    tried : str
        The table of what was tried on development texts, from ``tried_table`` or ``tried_of``.
    """
    report: Mapping[str, Any] = adapter.report
    settings: Mapping[str, float] = report["settings"]
    parts = [
        _HEAD.format(
            version=adapter.version,
            size_kb=len(adapter.blob) / 1000,
            tie=TIE_POINTS,
            languages=report["languages"],
            common=settings["common"],
        ),
        _overview(reports),
        *map(_set_section, reports),
        _FITTED.format(
            n_ntrex_lines=report["texts_per_language"]["NTREX-128"],
            n_sib_texts=report["texts_per_language"]["SIB-200"],
            n_news=report["mapped_texts"]["NTREX-128"],
            n_encyclopaedic=report["mapped_texts"]["SIB-200"],
            n_dev=len(DEV_LANGUAGES),
            guard=MAX_SIMILARITY_LOSS,
            kept=MIN_POINTS_KEPT,
            common=settings["common"],
            temperature=settings["temperature"],
            strength=settings["strength"],
            runner_up=report["runner_up"],
        ),
        tried,
        _LIMITS.format(n_lines=reports[0].n_lines, point=100 / reports[0].n_lines),
        _AGAIN,
    ]
    return "\n".join(parts)


def _overview(reports: Sequence[SetReport]) -> str:
    rows = []
    for report in reports:
        for name in report.measures:
            mean, losses = report.mean(name), report.losses(name)
            rows.append([
                f"{report.name} ({report.use})", name, str(len(report.measures[name])), f"{mean.raw:.1f}",
                f"{mean.adapter:.1f}", str(len(report.wins(name))), ", ".join(losses) or "none",
            ])  # fmt: skip
    head = ["set", "measure", "languages", "raw", "adapter", "wins", "losses"]
    return "## In short\n\n" + _table(head, rows)


def _set_section(report: SetReport) -> str:
    rows = []
    for language in sorted(report.kept):
        cells = []
        for by_language in report.measures.values():
            change = by_language.get(language)
            if change is None:
                cells.append("")
                continue
            text = f"{change.raw:.1f} → {change.adapter:.1f}"
            cells.append(f"**{text}**" if change.gain < -TIE_POINTS else text)
        rows.append([language, *cells, f"{report.kept[language]:.1f}"])
    means = [report.mean(name) for name in report.measures]
    rows.append(
        ["mean", *(f"{mean.raw:.1f} → {mean.adapter:.1f}" for mean in means), f"{report.mean_kept:.1f}"]
    )
    head = ["language", *report.measures, "neighbours kept"]
    return (
        f"## {report.name}: {report.use}\n\n{report.n_lines} texts a language; losses are bold.\n\n"
        + _table(head, rows)
    )


def tried_table(choice: ChosenBank) -> str:
    """Return the table of what a fit tried, the chosen settings in bold."""
    rows = []
    for trial in choice.trials:
        name = f"**{trial.name}**" if trial is choice.chosen else trial.name
        guard = f"{trial.worst_similarity:+.2f}"
        cells = [f"{figure:.1f}" for figure in trial.measures.values()]
        rows.append([
            name, *cells, f"{trial.score:.2f}", f"{trial.kept:.1f}", guard if trial.is_safe else f"{guard} (refused)",
        ])  # fmt: skip
    head = [_TRIED, *choice.chosen.measures, "score", "neighbours kept", "worst change of similarity"]
    return _table(head, rows)


def tried_of(page: str) -> str:
    """Return the table of what was tried as it stands in a page: only a fit can measure it again.

    Raises
    ------
    AlignstreamError
        The page has no such table.
    """
    _, head, rest = page.partition(f"| {_TRIED} |")
    if not head:
        raise AlignstreamError(
            f"the page has no table of what was {_TRIED}: fit the adapter again with 'make adapter'"
        )
    return head + rest.partition("\n\n")[0] + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([*markdown_table(head, rows), ""])
