"""The end of the demonstration, as a person reads it."""

from typing import Any

from rich.console import Console
from rich.table import Table

FIGURES = {
    "r_precision": "translations among the nearest texts of all languages (R-precision)",
    "english_counterpart": "the English counterpart among the English texts",
    "label_accuracy": "zero-shot label right",
}


def show(console: Console, report: dict[str, Any]) -> None:
    """Print the report: texts with labels, figures, dead letters, latencies."""
    table = Table(title="one text a language")
    table.add_column("language")
    table.add_column("text", no_wrap=True, overflow="ellipsis", max_width=40)
    for heading in ("label", "score", ""):
        table.add_column(heading, no_wrap=True)
    for example in report["examples"]:
        mark = "[green]✓[/]" if example["label"] == example["topic"] else f"[yellow]{example['topic']}[/]"
        table.add_row(
            example["language"],
            example["text"],
            example["label"] or "none",
            f"{example['score']:.2f}",
            mark,
        )
    console.print(table)
    table = Table(
        "", "raw", "aligned", title=f"{report['n_texts']} texts in {report['n_languages']} languages"
    )
    for name, meaning in FIGURES.items():
        raw, aligned = (report["figures"][kind][name] for kind in ("raw", "aligned"))
        table.add_row(meaning, f"{raw:.1%}", f"[bold]{aligned:.1%}[/]")
    console.print(table)
    table = Table(
        "bad record", "dead-letter reason", "message", title="dead letters: nothing is lost, all else went on"
    )
    for letter in report["dead_letters"]:
        mark = "[green]" if letter["as_expected"] else "[red]"
        table.add_row(letter["name"], f"{mark}{letter['reason']}[/]", _cut(letter["message"]))
    console.print(table)
    table = Table(
        "stage", "p50", "p99", title=f"{report['throughput_documents_per_second']:.0f} documents a second"
    )
    for stage, figures in report["latency_seconds"].items():
        unit = "a record, waiting included" if stage == "end to end" else "a batch"
        table.add_row(f"{stage} ({unit})", _duration(figures["p50"]), _duration(figures["p99"]))
    console.print(table)
    console.print(f"picture: {report['picture']}", highlight=False, soft_wrap=True)


def what_next(console: Console, *, is_running: bool) -> None:
    """Say what to try now."""
    console.print("\n[bold]What to try next[/]")
    if is_running:
        console.print('  eval "$(alignstream up --show)"          # point this shell at the running stack')
    else:
        console.print("  make demo-up                              # the same, and leave it running")
    console.print("  echo 'Guten Morgen' | alignstream produce - --language de --labels greeting,news")
    console.print("  alignstream tail vectors.aligned.v1 labels.zero-shot.v1 --follow --from-beginning")
    console.print("  alignstream encode FILE --output vectors.npz --format npz")
    console.print("  alignstream deadletters list; alignstream doctor", highlight=False)


def _cut(text: str, width: int = 52) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
