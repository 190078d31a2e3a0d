"""Check the texts that training without pairs is given. numpy and torch are not needed."""

from collections.abc import Sequence
from typing import Final

from alignstream.export.data.pairs import Pairs
from alignstream.export.data.texts import normalised
from alignstream.models.errors import TextError

#: Share of the shorter side's texts that may be on the other side too, as names and numbers are.
_MAX_COMMON: Final = 0.1


def check_texts(source: Sequence[str], target: Sequence[str], dev: Pairs) -> None:
    """Refuse texts to train on that are judged on, and two sides that hold the same texts.

    Raises
    ------
    TextError
        With the line of the development pairs, and what to do.
    """
    sides = {"source": set(map(normalised, source)), "target": set(map(normalised, target))}
    common = len(sides["source"] & sides["target"])
    if common > _MAX_COMMON * min(map(len, sides.values())):
        raise TextError(f"{common} texts are on both sides; each side needs texts of its own language alone")
    for side, texts in sides.items():
        for text, line in zip(getattr(dev, side), dev.lines, strict=True):
            if normalised(text) in texts:
                raise TextError(
                    f"{dev.name}, line {line}: this {side} text is among the {side} texts that are trained on; "
                    "remove it from one file, or the figures are meaningless"
                )
