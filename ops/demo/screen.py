"""What a person sees of the demonstration: the results of the first act, and the second act as it goes on."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from alignstream.ops.demo.demo_documents import CLINIC, EVERYDAY
from alignstream.ops.demo.second_act import SecondAct
from alignstream.ops.demo.translation_search import MEASURES

#: Width of everything but the text in the table of examples, borders included.
_OTHER_COLUMNS_CELLS = 56
#: The same in the table of dead letters.
_DEAD_LETTER_COLUMNS_CELLS = 49

FIGURES = {
    "r_precision": "translations among the nearest texts of all languages (R-precision)",
    "english_counterpart": "nearest English text is the translation",
    "label_accuracy": "zero-shot label is right",
}


def show_first_act(console: Console, report: dict[str, Any]) -> None:
    """Print the report of the first act: texts with labels, figures, dead letters, latencies."""
    table = Table(title="one example for each language")
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
    table = Table(title="bad records are dead-lettered: nothing is lost, and the rest goes on")
    for heading in ("bad record", "dead-letter reason", "message"):
        table.add_column(heading, no_wrap=True)
    for letter in report["dead_letters"]:
        mark = "[green]" if letter["as_expected"] else "[red]"
        message = _cut(letter["message"], max(console.width - _DEAD_LETTER_COLUMNS_CELLS, 12))
        table.add_row(letter["name"], f"{mark}{letter['reason']}[/]", Text(message))
    console.print(table)
    table = Table(
        "stage", "p50", "p99", title=f"{report['throughput_documents_per_second']:.0f} documents per second"
    )
    for stage, figures in report["latency_seconds"].items():
        unit = "per record, with waiting" if stage == "end to end" else "per batch"
        table.add_row(f"{stage} ({unit})", _duration(figures["p50"]), _duration(figures["p99"]))
    console.print(table)
    console.print(f"picture: {report['picture']}", highlight=False, soft_wrap=True)


@contextlib.contextmanager
def live(console: Console, act: SecondAct) -> Iterator[Callable[[], None]]:
    """Show the second act while it goes on: a table on a terminal, else one line for each epoch."""
    if console.is_terminal:
        with Live(_stage(act), console=console, refresh_per_second=4, transient=True) as shown:
            yield lambda: shown.update(_stage(act))
        return
    shown_epochs: set[int] = set()

    def show_epochs() -> None:
        for number, epoch in act.epochs.items():
            if number not in shown_epochs:
                shown_epochs.add(number)
                console.print(
                    f"  epoch {number} ({epoch.reason}) after {act.learned_before(epoch.position)} texts",
                    highlight=False,
                )

    yield show_epochs


def _stage(act: SecondAct) -> Group:
    if act.n_stored < act.n_texts:
        return Group(Text(f"  {act.n_stored} of {act.n_texts} texts stored; nothing is learned from them"))
    return Group(
        by_epoch(act.rows(), act.newcomer_name),
        Text(f"  {len(act.queries)} of {act.n_texts} texts streamed"),
    )


def by_epoch(rows: list[dict[str, Any]], newcomer: str) -> Table:
    """Return the table of search quality by domain and epoch."""
    table = Table(
        title="translations found by the stored vector → by the query vector, %",
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
    )
    for heading in ("epoch", "opened by", "texts"):
        table.add_column(heading, no_wrap=True)
    table.add_column("queries", justify="right")
    for heading in ("any\nlanguage", "to\nEnglish", "from\nEnglish", f"{newcomer},\nany language"):
        table.add_column(heading, no_wrap=True, justify="right")
    domain = None
    for row in rows:
        if row["domain"] != domain:
            domain = row["domain"]
            table.add_section()
            table.add_row(f"[italic]{domain}[/]")
        style = "red" if row["reason"] == "drift" else ""
        table.add_row(
            f"{row['epoch']:>5}",
            Text(row["reason"] or "", style),
            Text("" if row["n_learned"] is None else str(row["n_learned"]), style),
            str(row["n_queries"]),
            *(_pair(row["all"], name) for name in MEASURES),
            _pair(row["newcomer"], "r_precision"),
        )
    return table


def show_second_act(console: Console, report: dict[str, Any]) -> None:
    """Print the report of the second act: quality by epoch and by domain, and what happened."""
    name = report["newcomer"]["name"]
    console.print(by_epoch(report["by_epoch"], name))
    table = Table(
        "",
        EVERYDAY,
        CLINIC,
        f"{name} (in clinic)",
        title="the whole stream: found by the stored vector → by the query vector, %",
    )
    for measure, meaning in MEASURES.items():
        table.add_row(
            meaning,
            *(_pair(report["by_domain"][domain], measure) for domain in (EVERYDAY, CLINIC)),
            _pair(report["by_newcomer"], measure),
        )
    console.print(table)
    drift = next((epoch for epoch in report["epochs"] if epoch["reason"] == "drift"), None)
    if drift is None:
        console.print("the change of domain was not confirmed as drift")
    else:
        n_before = int(report["by_domain"][EVERYDAY]["r_precision"]["n"])
        console.print(
            f"the change of domain was confirmed as drift after {drift['n_learned'] - n_before} texts; it opened epoch "
            f"{drift['number']}",
            highlight=False,
            soft_wrap=True,
        )
    for number, reason in report["refused"].items():
        console.print(f"epoch {number} was refused by its regression check: {reason}", highlight=False)
    if report["suspended"] is not None:
        console.print(f"learning was suspended: {report['suspended']}", highlight=False)
    console.print(
        f"stored vectors that changed in the meantime: {report['n_stored_vectors_moved']} of {report['n_texts']}",
        highlight=False,
    )
    console.print(f"picture: {report['picture']}", highlight=False, soft_wrap=True)


def _pair(figures: dict[str, dict[str, float]], name: str) -> str:
    figure = figures.get(name)
    if figure is None:
        return ""
    static, adapted = round(100 * figure["static"], 1), round(100 * figure["following"], 1)
    style = "green" if adapted > static else "yellow" if adapted < static else "default"
    return f"{static:.1f}→[{style}]{adapted:.1f}[/]"


def show_next_steps(console: Console, *, is_running: bool) -> None:
    """Print commands to try next."""
    start = 'eval "$(alignstream up --show)"' if is_running else "make demo-up"
    remark = "point this shell at the stack" if is_running else "the same demo; leaves its stack running"
    lines = (
        "",
        "[bold]What to try next[/]",
        f"  {'export PATH=$PWD/.venv/bin:$PATH':<42}# let the shell find alignstream",
        f"  {start:<42}# {remark}",
        "  echo 'Guten Morgen' | alignstream produce - --language de --labels greeting,news",
        "  alignstream tail vectors.aligned.v1 labels.zero-shot.v1 --from-beginning",
        "  alignstream encode FILE --output vectors.npz --format npz",
        "  alignstream state show; alignstream deadletters list; alignstream doctor",
    )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _cut(text: str, n_cells: int) -> str:
    """Cut a text to a width in cells: some characters take two, and some none."""
    return text if cell_len(text) <= n_cells else set_cell_size(text, n_cells - 1).rstrip() + "…"


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
