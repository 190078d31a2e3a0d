"""What is promised of following a stream, and whether it holds. Pure."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from alignstream.export.evaluate.prequential.replay import EPOCHS, IDEAL, STATIC, WITH_HUBNESS
from alignstream.export.evaluate.prequential.replay_report import (
    CausalSegment,
    CausalStream,
    Goal,
    Hostile,
)
from alignstream.export.evaluate.tasks import LABELS

#: Points of the ideal's gain below which a share of it says nothing.
MIN_GAIN: Final = 0.5
#: Bounds of what is promised, in points; of the first a share.
KEPT_SHARE: Final = 0.9
HOME_LOSS: Final = 0.2
TOPIC_LOSS: Final = 1.0
HOSTILE_LOSS: Final = 0.5
OTHERS_LOSS: Final = 0.1


def goals(streams: Sequence[CausalStream], hostile: Sequence[Hostile]) -> list[Goal]:
    """Say what holds of what is promised, each with its figures."""
    found = []
    for stream in streams:
        for segment in stream.segments:
            if segment.is_change and not segment.is_home:
                found += _kept(stream, segment)
    home = [
        (
            f"{stream.name}, {segment.name}",
            measure.name,
            measure.mean(EPOCHS.name) - measure.mean(STATIC.name),
        )
        for stream in streams
        for segment in stream.segments
        if segment.is_home
        for measure in segment.measures
    ]
    if home:
        worst = min(home, key=lambda item: item[2])
        found.append(
            Goal(
                "search at home, before a change and after it",
                f"at most {HOME_LOSS:g} points lost",
                f"{np.mean([change for _, _, change in home]):+.2f} on average, at worst {worst[2]:+.2f} "
                f"({worst[0]}, {worst[1]})",
                worst[2] >= -HOME_LOSS,
            )
        )
    for stream in streams:
        for segment in stream.segments:
            measures = [item for item in segment.measures if item.name != LABELS]
            if any(item.name == LABELS for item in segment.measures):
                changes = [item.mean(EPOCHS.name) - item.mean(STATIC.name) for item in measures]
                cells = ", ".join(
                    f"{item.name} {one:+.2f}" for item, one in zip(measures, changes, strict=True)
                )
                found.append(
                    Goal(f"search, {stream.name.lower()}", f"at most {TOPIC_LOSS:g} point lost", cells,
                         min(changes) >= -TOPIC_LOSS)
                )  # fmt: skip
    for item in hostile:
        change = item.epochs - item.static
        found.append(
            Goal(f"search of the language attacked, {item.kind}", f"at most {HOSTILE_LOSS:g} points lost",
                 f"{change:+.2f}", change >= -HOSTILE_LOSS)
        )  # fmt: skip
        found.append(
            Goal(f"search of other languages, {item.kind}", f"at most {OTHERS_LOSS:g} points lost",
                 f"{item.others:+.2f}", item.others >= -OTHERS_LOSS)
        )  # fmt: skip
    return found


def _kept(stream: CausalStream, segment: CausalSegment) -> list[Goal]:
    """Judge how much of the ideal's gain over static epochs by doubling keep: the mean of the measures."""
    found = []
    for epochs, ideal, what in (
        (EPOCHS, IDEAL, "by cosine"),
        (WITH_HUBNESS[EPOCHS], WITH_HUBNESS[IDEAL], "with hubness"),
    ):
        means = [
            float(np.mean([measure.mean(column.name) for measure in segment.measures]))
            for column in (STATIC, epochs, ideal)
        ]
        gain, most = means[1] - means[0], means[2] - means[0]
        if most < MIN_GAIN:
            continue
        found.append(
            Goal(
                f"share of the ideal's gain that epochs keep, {stream.name.lower()}, {what}",
                f"at least {KEPT_SHARE:.0%}",
                f"{gain / most:.0%} ({gain:+.2f} of {most:+.2f})",
                gain >= KEPT_SHARE * most,
            )
        )
    return found
