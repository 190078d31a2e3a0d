"""Two pictures: vectors before and after alignment, coloured by language; and search quality over a stream."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

from alignstream.models.arrays import Matrix, Matrix64, Vector64
from alignstream.ops.demo.translation_search import StreamQuery

_MARKERS: Final = "osD^vP*X"
#: Each point of the curves is the mean of this many queries: fewer for one language, and a third at the start.
_SMOOTHED: Final = 96
_SMOOTHED_LANGUAGE: Final = 24
_STATIC: Final = "0.45"
_ADAPTED: Final = "tab:blue"
_CHANGE: Final = "tab:red"


def project(X: Matrix) -> Matrix64:
    """Project vectors on the two directions of largest variance; shape (n, 2)."""
    centred = X.astype(np.float64) - X.mean(axis=0, dtype=np.float64)
    U, S, _ = np.linalg.svd(centred, full_matrices=False)
    projected: Matrix64 = U[:, :2] * S[:2]
    return projected


def draw(
    path: Path,
    *,
    raw: Matrix,
    aligned: Matrix,
    languages: Sequence[str],
    topics: Sequence[str],
    captions: tuple[str, str],
) -> None:
    """Draw raw and aligned vectors side by side.

    Parameters
    ----------
    path : Path
        PNG to write.
    raw, aligned : ndarray of shape (n, dim), float32
        The same texts, in the same order.
    languages, topics : sequence of str
        One for each text: they give colour and marker.
    captions : tuple of str
        The captions of the two halves.
    """
    tags, names = sorted(set(languages)), sorted(set(topics))
    colours = plt.get_cmap("gist_ncar")(np.linspace(0.03, 0.93, len(tags)))
    figure, axes = plt.subplots(1, 2, figsize=(15, 7), dpi=110)
    for axis, X, caption in zip(axes, (raw, aligned), captions, strict=True):
        points = project(X)
        for number, tag in enumerate(tags):
            for marker, topic in zip(_MARKERS, names, strict=False):
                chosen = [
                    position
                    for position in range(len(languages))
                    if languages[position] == tag and topics[position] == topic
                ]
                axis.scatter(
                    *points[chosen].T, s=22, color=colours[number], marker=marker, alpha=0.75, linewidths=0
                )
        axis.set_title(caption, fontsize=12)
        axis.set_xticks([])
        axis.set_yticks([])
    by_language = [
        Line2D([], [], marker="o", linestyle="", color=colours[number], label=tag)
        for number, tag in enumerate(tags)
    ]
    by_topic = [
        Line2D([], [], marker=marker, linestyle="", color="0.35", label=topic)
        for marker, topic in zip(_MARKERS, names, strict=False)
    ]
    figure.legend(handles=by_language, loc="lower center", ncol=14, fontsize=9, frameon=False)
    figure.legend(
        handles=by_topic,
        loc="lower center",
        ncol=len(names),
        fontsize=9,
        frameon=False,
        bbox_to_anchor=(0.5, 0.065),
    )
    figure.subplots_adjust(left=0.02, right=0.98, top=0.93, bottom=0.14, wspace=0.04)
    figure.savefig(path)
    plt.close(figure)


def draw_stream(
    path: Path,
    queries: Sequence[StreamQuery],
    epochs: Sequence[tuple[int, str]],
    *,
    newcomer: str,
    name: str,
) -> None:
    """Draw search quality over a stream: by the stored vector, by the query vector, and the gain.

    Parameters
    ----------
    path : Path
        PNG to write.
    queries : sequence of StreamQuery
        In the order of the stream, of one domain and then of another.
    epochs : sequence of tuple
        Where each epoch was first used, and why it was opened.
    newcomer, name : str
        Tag and name of the new language.
    """
    figure, (quality, gain) = plt.subplots(
        2, 1, figsize=(12, 7.5), dpi=110, sharex=True, height_ratios=(3, 2), layout="constrained"
    )
    domains = list(dict.fromkeys(query.domain for query in queries))
    for number, domain in enumerate(domains):
        of_domain = [query for query in queries if query.domain == domain]
        x, static = _smooth(of_domain, [query.static.share for query in of_domain], _SMOOTHED)
        _, adapted = _smooth(of_domain, [query.adapted.share for query in of_domain], _SMOOTHED)
        labels = ("by the stored vector", "by the query vector") if number == 0 else (None, None)
        quality.annotate(
            f" {domain}",
            (of_domain[0].position, 0.0),
            xycoords=("data", "axes fraction"),
            va="bottom",
            fontsize=11,
        )
        quality.plot(x, 100 * static, color=_STATIC, label=labels[0])
        quality.plot(x, 100 * adapted, color=_ADAPTED, label=labels[1])
        gain.plot(x, 100 * (adapted - static), color=_ADAPTED, label="all languages" if number == 0 else None)
    of_newcomer = [query for query in queries if query.language == newcomer]
    gains = [query.adapted.share - query.static.share for query in of_newcomer]
    x, gained = _smooth(of_newcomer, gains, _SMOOTHED_LANGUAGE)
    gain.plot(x, 100 * gained, color="tab:orange", label=name)
    gain.axhline(0.0, color="0.7", linewidth=0.8)
    changes = [
        query.position
        for query, before in zip(queries[1:], queries, strict=False)
        if query.domain != before.domain
    ]
    for axis in (quality, gain):
        for position, reason in epochs:
            is_drift = reason == "drift"
            axis.axvline(
                position, color=_CHANGE if is_drift else "0.8", linewidth=1.6 if is_drift else 0.9, zorder=0
            )
        for position in changes:
            axis.axvline(position, color="black", linestyle="--", linewidth=1.2)
    quality.legend(
        handles=[
            *quality.get_legend_handles_labels()[0],
            Line2D([], [], color="black", linestyle="--", label=f"new domain, and {name}"),
            Line2D([], [], color=_CHANGE, label="epoch after confirmed drift"),
            Line2D([], [], color="0.8", label="other epochs"),
        ],
        loc="center left",
        frameon=True,
    )
    gain.legend(loc="upper left", frameon=True)
    quality.set_ylabel("translations among the nearest, %")
    gain.set_ylabel("gain, points")
    gain.set_xlabel(f"texts of the stream; means of {_SMOOTHED} queries, for {name} of {_SMOOTHED_LANGUAGE}")
    quality.set_title("Search in a stream that changes: stored vectors stay put, query vectors adapt")
    figure.savefig(path)
    plt.close(figure)


def _smooth(queries: Sequence[StreamQuery], values: Sequence[float], n: int) -> tuple[Vector64, Vector64]:
    """Return where each running mean of n values ends, and the means; the first ones have at least n / 3 values."""
    sums = np.cumsum([0.0, *values])
    ends = np.arange(min(n // 3, len(values)), len(values) + 1)
    starts = np.maximum(ends - n, 0)
    positions = np.array([query.position for query in queries], dtype=np.float64)
    return positions[ends - 1], (sums[ends] - sums[starts]) / (ends - starts)
