"""The end of the demonstration, as a person reads it."""

from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table

#: What stands beside the text in the table of examples, borders included.
_OTHER_COLUMNS_CELLS = 56

FIGURES = {
    "r_precision": "translations among the nearest texts of all languages (R-precision)",
    "english_counterpart": "the English counterpart among the English texts",
    "label_accuracy": "zero-shot label right",
}


def show(console: Console, report: dict[str, Any]) -> None:
    """Print the report: texts with labels, figures, dead letters, latencies."""
    table = Table(title="one text a language")
    table.add_column("language", no_wrap=True, min_width=10)
    table.add_column("text", no_wrap=True)
    table.add_column("label", no_wrap=True, min_width=22)
    table.add_column("score", no_wrap=True, min_width=5)
    table.add_column("", no_wrap=True, min_width=1)
    for example in report["examples"]:
        label = example["label"] or "none"
        is_right = label == example["topic"]
        table.add_row(
            example["language"],
            _cut(example["text"], max(console.width - _OTHER_COLUMNS_CELLS, 12)),
            label if is_right else f"[yellow]{label}[/]",
            f"{example['score']:.2f}",
            "[green]✓[/]" if is_right else "[yellow]✗[/]",
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
    start = 'eval "$(alignstream up --show)"' if is_running else "make demo-up"
    remark = "point this shell at the stack" if is_running else "the same, and leave it running"
    lines = (
        "",
        "[bold]What to try next[/]",
        f"  {'export PATH=$PWD/.venv/bin:$PATH':<42}# so that the shell finds alignstream",
        f"  {start:<42}# {remark}",
        "  echo 'Guten Morgen' | alignstream produce - --language de --labels greeting,news",
        "  alignstream tail vectors.aligned.v1 labels.zero-shot.v1 --from-beginning",
        "  alignstream encode FILE --output vectors.npz --format npz",
        "  alignstream deadletters list; alignstream doctor",
    )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _cut(text: str, n_cells: int = 52) -> str:
    """Cut a text to a width on the screen, where some characters take two cells and some none."""
    return text if cell_len(text) <= n_cells else set_cell_size(text, n_cells - 1).rstrip() + "…"


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
