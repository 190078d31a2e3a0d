"""The promises about queries that adapt to a stream, and whether they hold. Pure."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from alignstream.export.evaluate.measures import LABELS
from alignstream.export.evaluate.prequential.replay_report import (
    Goal,
    HostileDamage,
    ReplayedSegment,
    ReplayedStream,
)
from alignstream.export.evaluate.prequential.stream_replay import EPOCHS, IDEAL, STATIC, WITH_HUBNESS

#: Points of the ideal's gain below which a share of it says nothing.
MIN_GAIN: Final = 0.5
#: Bounds of the promises, in points; the first is a share.
KEPT_SHARE: Final = 0.9
HOME_LOSS: Final = 0.2
TOPIC_LOSS: Final = 1.0
HOSTILE_LOSS: Final = 0.5
OTHERS_LOSS: Final = 0.1


def goals(streams: Sequence[ReplayedStream], hostile: Sequence[HostileDamage]) -> list[Goal]:
    """Return each promise, with its figures and whether it holds."""
    changed = [
        (stream, segment)
        for stream in streams
        for segment in stream.segments
        if segment.is_change and not segment.is_home
    ]
    return [
        *(goal for stream, segment in changed for goal in _kept(stream, segment)),
        *_at_home(streams),
        *_of_topics(streams),
        *(goal for damage in hostile for goal in _of_hostile(damage)),
    ]


def _kept(stream: ReplayedStream, segment: ReplayedSegment) -> list[Goal]:
    """Judge how much of the ideal's gain over static epochs by doubling keep: the mean of the measures."""
    kept = []
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
        kept.append(
            Goal(
                f"share of the ideal's gain that epochs keep, {stream.name.lower()}, {what}",
                f"at least {KEPT_SHARE:.0%}",
                f"{gain / most:.0%} ({gain:+.2f} of {most:+.2f})",
                gain >= KEPT_SHARE * most,
            )
        )
    return kept


def _at_home(streams: Sequence[ReplayedStream]) -> list[Goal]:
    home = [
        (
            measure.mean(EPOCHS.name) - measure.mean(STATIC.name),
            f"{stream.name}, {segment.name}, {measure.name}",
        )
        for stream in streams
        for segment in stream.segments
        if segment.is_home
        for measure in segment.measures
    ]
    if not home:
        return []
    worst, where = min(home, key=lambda change: change[0])
    mean = np.mean([change for change, _ in home])
    return [
        Goal(
            "search at home, before a change and after it",
            f"at most {HOME_LOSS:g} points lost",
            f"{mean:+.2f} on average, at worst {worst:+.2f} ({where})",
            worst >= -HOME_LOSS,
        )
    ]


def _of_topics(streams: Sequence[ReplayedStream]) -> list[Goal]:
    """Judge search in streams whose topics are labelled."""
    searched = []
    for stream in streams:
        for segment in stream.segments:
            if all(measure.name != LABELS for measure in segment.measures):
                continue
            changes = {
                measure.name: measure.mean(EPOCHS.name) - measure.mean(STATIC.name)
                for measure in segment.measures
                if measure.name != LABELS
            }
            searched.append(
                Goal(
                    f"search, {stream.name.lower()}",
                    f"at most {TOPIC_LOSS:g} point lost",
                    ", ".join(f"{name} {change:+.2f}" for name, change in changes.items()),
                    min(changes.values()) >= -TOPIC_LOSS,
                )
            )
    return searched


def _of_hostile(damage: HostileDamage) -> list[Goal]:
    change = damage.epochs - damage.static
    return [
        Goal(
            f"search of the language attacked, {damage.kind}",
            f"at most {HOSTILE_LOSS:g} points lost",
            f"{change:+.2f}",
            change >= -HOSTILE_LOSS,
        ),
        Goal(
            f"search of other languages, {damage.kind}",
            f"at most {OTHERS_LOSS:g} points lost",
            f"{damage.others:+.2f}",
            damage.others >= -OTHERS_LOSS,
        ),
    ]
