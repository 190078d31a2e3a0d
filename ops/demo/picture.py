"""Vectors before and after alignment in two dimensions: one picture, coloured by language."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

_MARKERS: Final = "osD^vP*X"


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
