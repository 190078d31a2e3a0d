"""Write ``docs/pages/measurements/alignment.md``: every figure comes from the comparison, none by hand."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Final

from alignstream.export.evaluate.report import markdown_table
from alignstream.export.evaluate.statistics import TIE_POINTS
from alignstream.models.adapter.adapter import Adapter

SHIPPED: Final = "**shipped**: and a pooled map"
#: Methods whose figures are shown language by language.
IN_DETAIL: Final = (
    "raw cosine", "centring by tag", "attention", SHIPPED, "attention, own ridge, 600 pairs",
    "attention, own Procrustes, 600 pairs",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class MethodFigures:
    """One method on everything, in points; per language where it is compared per language."""

    name: str
    needs: str
    to_english: dict[str, float]
    from_english: dict[str, float]
    pool: float
    news: float
    topics: float
    intents: float
    similarity: float
    worst_similarity: float
    microseconds: float

    @property
    def in_detail(self) -> bool:
        """Whether the page shows its figures language by language."""
        return self.name in IN_DETAIL or self.name.startswith("shipped, symmetric")

    def line(self) -> str:
        """Return the row for a terminal."""
        return (
            f"{self.name:44} {statistics.fmean(self.to_english.values()):5.1f} "
            f"{statistics.fmean(self.from_english.values()):5.1f} {self.pool:5.1f} {self.news:5.1f} {self.topics:5.1f} "
            f"{self.intents:5.1f} {self.similarity:+5.1f} {self.worst_similarity:+5.1f} {self.microseconds:5.0f}"
        )


@dataclasses.dataclass(frozen=True)
class LowResource:
    """One language, left out of everything and brought in: accuracy by test, method and pairs, in points."""

    language: str
    accuracy: Mapping[tuple[str, str, int], float]


_HEAD: Final = """\
# What each method does

<!-- Written by `make compare`; changes made here are lost. -->

Every alignment method of this project on the same texts, with the embedded encoder and shipped adapter
`{version}`. Fitted on NTREX-128's lines (news) and SIB-200's training texts (encyclopaedic); judged on TICO-19
(medicine, {n} languages, nothing fitted or chosen on it, though methods were compared on it while they were
developed), NTREX-128's development lines, SIB-200's development texts (zero-shot topics), xSID's validation commands
(zero-shot intents) and the multilingual STS benchmark's development pairs (similarity within a language).
Points are percent. Nothing here sees the texts it is judged on: there is no transductive column.

- **to en**, **from en**: a text's translation is the nearest of {lines}; average over languages. **wins / losses**:
  languages that change by more than {tie} points against raw cosine, in either direction of retrieval together.
- **pool**: R-precision among the texts of all {n} languages at once.
- **news**: retrieval both ways on NTREX-128's development lines.
- **similarity**: change of Spearman's correlation with people's judgements within a language: average, and the
  language that loses most. The guard of what is shipped is -0.5.
- **µs**, **share**: the time for one vector on one thread, and as a share of encoding one of these texts on one
  thread ({encode_ms:.1f} ms), as measured in this run. The service's own figures are in performance.md.
"""

_READ: Final = """\
## What to read from it

- **Attention over prototypes is as good as centring by gold tags, and needs none.** With wrong tags centring is
  lost, attention is not: a tag is evidence.
- **Full centring costs similarity within a language**, whatever the method. Keeping a share of the common part
  gives most of it back, the pooled map the rest, and labels gain on the way.
- **The pooled map needs no pairs of the language**, and in another domain it is worth about what a language's own
  ridge of 600 pairs is. An orthogonal map of its own loses the mixed pool, half blended it does little harm.
- **Whitening** of everything helps nothing; of what differs between translations it helps retrieval a little, and
  costs labels.
- **Self-learning** finds the translations in shuffled comparable text by itself and is worth about what true pairs
  are; on texts that are not comparable it refuses.
- **InfoNCE and translation ranking**, refined from the shipped map on the pairs of all languages, find more
  translations than any closed form, and pay for it with labels and with similarity within a language: they learn
  to tell one sentence from all others, and drop what related sentences share. The guard would refuse them as a
  default; for search alone they are worth a try. `alignstream train` does the same for the map of one language.
- **An adversary** without pairs changes next to nothing: started at the identity it does no harm, and no good.
- **A translation memory** changes little where the map is good already, and costs labels of other domains a little;
  it is there for wording that a tenant wants to have its way at once.
"""

_LOW: Final = """\
## Low-resource languages: how many pairs are needed

{n} languages, each left out of the prototypes and of the pooled map, then brought in with its first pairs of
NTREX-128, as `alignstream onboard` does (*prototype*: from the source side alone; *onboarded*: with a map of its own,
shrunk toward none). Accuracy both ways, averaged; **news** is the domain of the pairs, **TICO-19** is not
({m} of the languages).
"""


def render(
    rows: Sequence[MethodFigures], low: Sequence[LowResource], shipped: Adapter, *, encode_microseconds: float
) -> str:
    """Return the page as Markdown.

    Parameters
    ----------
    encode_microseconds : float
        What encoding one of the texts takes on one thread.
    """
    raw = rows[0]
    parts = [
        _HEAD.format(
            version=shipped.version,
            n=len(raw.to_english) + 1,
            lines=120,
            tie=TIE_POINTS,
            encode_ms=encode_microseconds / 1000.0,
        ),
        _methods(rows, encode_microseconds),
        _READ,
        _languages(rows),
        _low(low),
        _per_language(low),
    ]
    return "\n".join(parts)


def _methods(rows: Sequence[MethodFigures], encode_microseconds: float) -> str:
    raw = rows[0]
    head = [
        "method", "needs", "to en", "from en", "wins / losses", "pool", "news", "topics", "intents", "similarity",
        "µs", "share",
    ]  # fmt: skip
    lines = []
    for row in rows:
        changes = [
            (row.to_english[name] + row.from_english[name] - raw.to_english[name] - raw.from_english[name])
            / 2.0
            for name in raw.to_english
        ]
        wins = sum(change > TIE_POINTS for change in changes)
        losses = sum(change < -TIE_POINTS for change in changes)
        lines.append([
            row.name, row.needs, f"{statistics.fmean(row.to_english.values()):.1f}",
            f"{statistics.fmean(row.from_english.values()):.1f}", f"{wins} / {losses}", f"{row.pool:.1f}",
            f"{row.news:.1f}", f"{row.topics:.1f}", f"{row.intents:.1f}",
            f"{row.similarity:+.1f} ({row.worst_similarity:+.1f})", f"{row.microseconds:.0f}",
            f"{row.microseconds / encode_microseconds:.2%}",
        ])  # fmt: skip
    return _table(head, lines)


def _languages(rows: Sequence[MethodFigures]) -> str:
    """Return the figures of each language on TICO-19, of the methods that could be a default, losses bold."""
    raw = rows[0]
    shown = [row for row in rows if row.in_detail]
    lines = []
    for language in raw.to_english:
        first = (raw.to_english[language] + raw.from_english[language]) / 2.0
        cells = []
        for row in shown:
            value = (row.to_english[language] + row.from_english[language]) / 2.0
            text = f"{value:.1f}"
            cells.append(f"**{text}**" if value < first - TIE_POINTS else text)
        lines.append([language, *cells])
    return (
        "## By language\n\nRetrieval on TICO-19, the mean of both directions; losses against raw cosine are bold.\n\n"
        + _table(["language", *(row.name.replace("**", "") for row in shown)], lines)
    )


def _low(low: Sequence[LowResource]) -> str:
    counts = sorted({n for language in low for _, _, n in language.accuracy})
    head = ["test", "method", *(f"{n} pairs" for n in counts)]
    lines = []
    for test in ("news", "TICO-19"):
        for name in ("nothing", "prototype", "onboarded", "Procrustes"):
            cells = []
            for n in counts:
                key = test, name, n
                values = [language.accuracy[key] for language in low if key in language.accuracy]
                cells.append(f"{statistics.fmean(values):.1f}" if values else "")
            lines.append([test, "raw cosine" if name == "nothing" else name, *cells])
    m = sum(("TICO-19", "nothing", 0) in language.accuracy for language in low)
    return _LOW.format(n=len(low), m=m) + "\n" + _table(head, lines)


def _per_language(low: Sequence[LowResource]) -> str:
    counts = sorted({n for language in low for _, _, n in language.accuracy})
    head = ["language", "raw", *(f"onboarded, {n}" for n in counts)]
    lines = [
        [
            language.language,
            f"{language.accuracy['news', 'nothing', 0]:.1f}",
            *(f"{language.accuracy['news', 'onboarded', n]:.1f}" for n in counts),
        ]
        for language in low
    ]
    return "By language, on news:\n\n" + _table(head, lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([*markdown_table(head, rows), ""])
