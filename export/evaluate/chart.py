"""Draw an evaluation as a picture: columns by kind and what changes for each language, or layers. matplotlib."""

from pathlib import Path
from typing import Any, Final

from alignstream.export.evaluate.columns import ADAPTER, RAW
from alignstream.export.evaluate.compared import MeasureResult
from alignstream.export.evaluate.layer_report import LayerReport
from alignstream.export.evaluate.report import KINDS, LEGEND, Evaluation, TaskResult, heading
from alignstream.export.evaluate.statistics import Interval
from alignstream.models.errors import PictureError

#: Okabe and Ito's palette; order and legend distinguish the kinds without colour too.
_COLOURS: Final = {"inductive": "#0072B2", "causal": "#009E73", "transductive": "#E69F00"}
_RAW_COLOUR: Final = "#7f7f7f"
_LOSS_COLOUR: Final = "#D55E00"
_DOTS_PER_INCH: Final = 120


def check_matplotlib() -> None:
    """Refuse to draw before any work is done.

    Raises
    ------
    PictureError
        matplotlib is not installed.
    """
    _figure()


def write_png(evaluation: Evaluation, path: Path) -> None:
    """Write a picture with two panels for each measure.

    On the left the mean of each column, with the 95 % interval of its change; on the right what the adapter
    changes in each language, sorted.

    Raises
    ------
    PictureError
        matplotlib is not installed, or the file cannot be written.
    """
    Figure = _figure()
    panels = [(task, measure) for task in evaluation.tasks for measure in task.measures]
    heights = [max(1.6, 0.32 * len(measure.columns) + 1.0) for _, measure in panels]
    figure: Any = Figure(figsize=(13, sum(heights) + 0.8), layout="constrained")
    axes = figure.subplots(len(panels), 2, squeeze=False, height_ratios=heights)
    for (task, measure), (left, right) in zip(panels, axes, strict=True):
        _draw_means(left, task, measure)
        _draw_changes(right, measure)
    figure.suptitle(_plain(evaluation.headline()), fontsize=8, wrap=True)
    handles = [_patch(colour) for colour in (_RAW_COLOUR, *_COLOURS.values())]
    names = ["raw cosine (inductive)", *(f"{kind}: {LEGEND[kind]}" for kind in KINDS)]
    figure.legend(handles, names, loc="outside lower left", fontsize=7, ncols=2)
    _save(figure, path)


def write_layers_png(report: LayerReport, path: Path) -> None:
    """Write a picture of the scores by layer, a line a pooling, with the 95 % interval of the change from the best.

    Raises
    ------
    PictureError
        matplotlib is not installed, or the file cannot be written.
    """
    figure: Any = _figure()(figsize=(9, 5), layout="constrained")
    axis = figure.subplots()
    colours = (_COLOURS["inductive"], _COLOURS["transductive"])
    for colour, pooling in zip(colours, sorted({result.pooling for result in report.results}), strict=False):
        results = [result for result in report.results if result.pooling == pooling]
        axis.plot([result.layer for result in results], [result.score for result in results], color=colour,
                  marker="o", markersize=3, label=f"{pooling} pooling")  # fmt: skip
        for result in results:
            _draw_interval(axis, result.change, result.layer, result.score, is_upright=True)
    axis.plot(report.best.layer, report.best.score, marker="*", markersize=13, color=_LOSS_COLOUR, linestyle="",
              label="best")  # fmt: skip
    axis.set_xlabel("layer")
    axis.set_ylabel("score, points; bars: change from the best")
    axis.legend(fontsize=8)
    figure.suptitle(_plain(report.headline()), fontsize=8, wrap=True)
    _save(figure, path)


def _figure() -> Any:  # noqa: ANN401 (untyped library)
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 (in the embedded extra)
    except ModuleNotFoundError as error:
        raise PictureError(
            f"a picture needs {error.name}, which is not installed: pip install 'alignstream[embedded]'"
        ) from error
    return Figure


def _plain(text: str) -> str:
    # The name of a file may hold dollar signs, which would begin a formula.
    return text.replace("$", r"\$")


def _save(figure: Any, path: Path) -> None:  # noqa: ANN401 (untyped library)
    try:
        figure.savefig(path, dpi=_DOTS_PER_INCH, format="png")
    except OSError as error:
        raise PictureError(f"cannot write {path}: {error.strerror or error}") from error


def _draw_interval(axis: Any, change: Interval | None, x: float, y: float, *, is_upright: bool) -> None:  # noqa: ANN401
    if change is None or change.low is None or change.high is None:
        return
    around = [[change.mean - change.low], [change.high - change.mean]]
    sides = {"yerr" if is_upright else "xerr": around}
    axis.errorbar(x, y, **sides, color="black", capsize=2, linewidth=1)


def _draw_means(axis: Any, task: TaskResult, measure: MeasureResult) -> None:  # noqa: ANN401 (untyped library)
    for row, column in enumerate(measure.columns):
        is_raw = (column.name, column.kind) == (RAW.name, RAW.kind)
        axis.barh(row, column.mean, color=_RAW_COLOUR if is_raw else _COLOURS[column.kind], height=0.7)
        _draw_interval(axis, column.change, column.mean, row, is_upright=False)
        axis.annotate(
            f"{column.mean:.1f}", (0, row), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7,
            color="white",
        )  # fmt: skip
    axis.set_yticks(
        range(len(measure.columns)), [f"{c.name} [{c.kind}]" for c in measure.columns], fontsize=7
    )
    axis.invert_yaxis()
    title = f"{_plain(heading(task))}\n{measure.name}: mean over languages, points"
    axis.set_title(title, fontsize=8, loc="left")
    axis.tick_params(axis="x", labelsize=7)


def _draw_changes(axis: Any, measure: MeasureResult) -> None:  # noqa: ANN401 (untyped library)
    by_name = {(column.name, column.kind): column for column in measure.columns}
    raw = by_name.get((RAW.name, RAW.kind))
    others = [column for column in measure.of_kind("inductive") if column is not raw]
    shown = by_name.get((ADAPTER.name, ADAPTER.kind), others[0] if others else None)
    axis.tick_params(labelsize=7)
    if shown is None:
        axis.set_axis_off()
        return
    figures = shown.by_language
    gains = figures if raw is None else {name: figures[name] - raw.by_language[name] for name in figures}
    order = sorted(gains, key=lambda name: gains[name])
    colours = [_LOSS_COLOUR if gains[name] < 0 else _COLOURS["inductive"] for name in order]
    axis.bar(range(len(order)), [gains[name] for name in order], color=colours)
    axis.axhline(0.0, color="black", linewidth=0.6)
    axis.set_xticks(range(len(order)), order, rotation=90, fontsize=5 if len(order) > 40 else 6)
    what = "points" if raw is None else "change from raw, points"
    axis.set_title(f"{shown.name} [{shown.kind}]: {what}", fontsize=8, loc="left")


def _patch(colour: str) -> Any:  # noqa: ANN401 (untyped library)
    from matplotlib.patches import Patch  # noqa: PLC0415 (in the embedded extra)

    return Patch(color=colour)
