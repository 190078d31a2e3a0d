"""The course of a training run, pass by pass: as JSON, and as a picture. No torch."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from alignstream.models.errors import TrainingError
from alignstream.models.files import replace_file, replacing

JSON_FILE: Final = "curves.json"
PNG_FILE: Final = "curves.png"
_DOTS_PER_INCH: Final = 120
_COLOUR: Final = "#0072B2"
_BEST_COLOUR: Final = "#D55E00"


@dataclasses.dataclass(frozen=True)
class Point:
    """One pass over the texts.

    Parameters
    ----------
    number : int
        From 1; 0 is the start.
    figures : mapping of str to float
        ``accuracy`` (points) and ``margin`` on development pairs; from pass 1 on ``loss``; and
        the loss's own: ``csls``, ``orthogonality`` and ``discriminator`` of the adversarial one.
    """

    number: int
    figures: Mapping[str, float]


def to_json(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return passes as JSON values, in order."""
    return [{"pass": point.number, **point.figures} for point in points]


def from_json(rows: Any) -> tuple[Point, ...]:  # noqa: ANN401 (JSON)
    """Read what ``to_json`` gave.

    Raises
    ------
    TrainingError
        It is something else.
    """
    try:
        points = tuple(
            Point(
                number=int(row["pass"]),
                figures={name: float(value) for name, value in row.items() if name != "pass"},
            )
            for row in rows
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TrainingError(f"not the curves of a training run: {str(error)[:100]}") from error
    if not points or [point.number for point in points] != list(range(len(points))):
        raise TrainingError("not the curves of a training run: passes are missing")
    return points


def write_curves(points: Sequence[Point], folder: Path, *, title: str, best_pass: int) -> tuple[Path, Path]:
    """Write ``curves.json`` and ``curves.png``, each whole or not at all; files of these names are replaced.

    Parameters
    ----------
    title : str
        Stands above the picture.
    best_pass : int
        Marked in the picture.

    Raises
    ------
    TrainingError
        matplotlib is not installed, or the disk refuses.
    """
    text = json.dumps({"title": title, "best_pass": best_pass, "passes": to_json(points)}, indent=1)
    written = folder / JSON_FILE, folder / PNG_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(written[0], f"{text}\n".encode())
        with replacing(written[1]) as temporary:
            _draw(points, temporary, title=title, best_pass=best_pass)
    except OSError as error:
        raise TrainingError(f"cannot write curves to {folder}: {error.strerror or error}") from error
    return written


def check_curves(folder: Path) -> None:
    """Refuse a folder that curves cannot be written to, before any work is done; it is made where it is missing.

    Raises
    ------
    TrainingError
        matplotlib is not installed, or the folder cannot be made or written to.
    """
    _figure_class()
    probe = folder / f".{JSON_FILE}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise TrainingError(f"cannot write curves to {folder}: {error.strerror or error}") from error


def _figure_class() -> Any:  # noqa: ANN401 (untyped library)
    try:
        # The Agg canvas draws without a display, and without pyplot's global state.
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 (in the embedded extra)
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"curves need {error.name}, which is not installed: pip install 'alignstream[embedded]'"
        ) from error

    def make(**options: Any) -> Any:  # noqa: ANN401
        figure = Figure(**options)
        FigureCanvasAgg(figure)
        return figure

    return make


def _draw(points: Sequence[Point], path: Path, *, title: str, best_pass: int) -> None:
    names = [name for name in points[-1].figures if name != "loss"]
    if len(points) > 1:
        names.insert(0, "loss")
    figure = _figure_class()(figsize=(3.4 * len(names), 3.0), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        rows = [(point.number, point.figures[name]) for point in points if name in point.figures]
        axis.plot(*zip(*rows, strict=True), color=_COLOUR, marker="o", markersize=3)
        axis.axvline(best_pass, color=_BEST_COLOUR, linestyle="--", linewidth=1)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("pass", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(f"{title}; the line marks pass {best_pass}, which is kept", fontsize=9)
    # Without the software's version the same curves give the same bytes for longer.
    figure.savefig(path, dpi=_DOTS_PER_INCH, format="png", metadata={"Software": None})
