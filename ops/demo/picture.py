"""Two pictures: vectors before and after alignment, coloured by language; and search quality over a stream."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

from alignstream.ops.demo.search import Judged

_MARKERS: Final = "osD^vP*X"
#: Queries of which a point of the curves is the mean; of one language alone fewer have to do, and at a start a third.
_SMOOTHED: Final = 96
_SMOOTHED_LANGUAGE: Final = 24
_STATIC: Final = "0.45"
_FOLLOWING: Final = "tab:blue"
_CHANGE: Final = "tab:red"


def project(X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the two directions of largest variance: shape (n, 2)."""
    centred = X.astype(np.float64) - X.mean(axis=0, dtype=np.float64)
    U, S, _ = np.linalg.svd(centred, full_matrices=False)
    projected: NDArray[np.float64] = U[:, :2] * S[:2]
    return projected


def draw(
    path: Path,
    *,
    raw: NDArray[np.float32],
    aligned: NDArray[np.float32],
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
        Of each text: colour and marker.
    captions : tuple of str
        Above the two halves.
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
    judged: Sequence[Judged],
    epochs: Sequence[tuple[int, str]],
    *,
    newcomer: str,
    name: str,
) -> None:
    """Draw search quality over a stream: by the stored vector, by the query vector, and what that gains.

    Parameters
    ----------
    path : Path
        PNG to write.
    judged : sequence of Judged
        In the order of the stream, of one domain and then of another.
    epochs : sequence of tuple
        Where each epoch was first used, and why it was opened.
    newcomer, name : str
        Tag and name of the language that appears.
    """
    figure, (quality, gain) = plt.subplots(
        2, 1, figsize=(12, 7.5), dpi=110, sharex=True, height_ratios=(3, 2), layout="constrained"
    )
    domains = list(dict.fromkeys(item.domain for item in judged))
    for number, domain in enumerate(domains):
        items = [item for item in judged if item.domain == domain]
        x, static = _smooth(items, [item.static.share for item in items], _SMOOTHED)
        _, following = _smooth(items, [item.following.share for item in items], _SMOOTHED)
        labels = ("by the stored vector", "by the query vector") if number == 0 else (None, None)
        quality.annotate(
            f" {domain}",
            (items[0].position, 0.0),
            xycoords=("data", "axes fraction"),
            va="bottom",
            fontsize=11,
        )
        quality.plot(x, 100 * static, color=_STATIC, label=labels[0])
        quality.plot(x, 100 * following, color=_FOLLOWING, label=labels[1])
        gain.plot(
            x, 100 * (following - static), color=_FOLLOWING, label="all languages" if number == 0 else None
        )
    own = [item for item in judged if item.language == newcomer]
    x, gained = _smooth(own, [item.following.share - item.static.share for item in own], _SMOOTHED_LANGUAGE)
    gain.plot(x, 100 * gained, color="tab:orange", label=name)
    gain.axhline(0.0, color="0.7", linewidth=0.8)
    changes = [
        item.position
        for item, before in zip(judged[1:], judged, strict=False)
        if item.domain != before.domain
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
            Line2D([], [], color="black", linestyle="--", label=f"another domain, and {name}"),
            Line2D([], [], color=_CHANGE, label="epoch on confirmed drift"),
            Line2D([], [], color="0.8", label="other epochs"),
        ],
        loc="center left",
        frameon=True,
    )
    gain.legend(loc="upper left", frameon=True)
    quality.set_ylabel("translations among the nearest, %")
    gain.set_ylabel("gained, points")
    gain.set_xlabel(f"texts of the stream; means of {_SMOOTHED} queries, of {name} {_SMOOTHED_LANGUAGE}")
    quality.set_title("Search in a stream that changes: what is stored stays, the queries follow")
    figure.savefig(path)
    plt.close(figure)


def _smooth(
    items: Sequence[Judged], values: Sequence[float], n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return running means of n values, at a start of a third of it or more, and where each of them ends."""
    sums = np.cumsum([0.0, *values])
    ends = np.arange(min(n // 3, len(values)), len(values) + 1)
    starts = np.maximum(ends - n, 0)
    positions = np.array([item.position for item in items], dtype=np.float64)
    return positions[ends - 1], (sums[ends] - sums[starts]) / (ends - starts)
