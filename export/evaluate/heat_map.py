"""Show the attention between the tokens of two texts: as lines of text, and as a picture (with matplotlib)."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from alignstream.models.attention.token_attention import Link, TokenAttention
from alignstream.models.errors import PictureError

_DOTS_PER_INCH: Final = 120
#: A picture is never wider or higher, in inches; tokens then get smaller.
_MAX_INCHES: Final = 40.0
_TOKEN_INCHES: Final = 0.32
_MARGIN_INCHES: Final = 1.6
_LABEL_POINTS: Final = 9.0
_POINTS_PER_INCH: Final = 72.0
#: Fallback fonts beyond matplotlib's own; scripts come in separate families.
_FALLBACK: Final = "Noto "
_MAX_FAMILIES: Final = 12
#: What matplotlib says of a character that no font has; older versions word it as the second.
_MISSING_GLYPH: Final = (r"Glyph \d+ .* missing from", r"Matplotlib currently does not support .* natively")


def parts(text: str, spans: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """Return the characters of each span, with those that a terminal would act on replaced."""
    return tuple(_clean(text[start:end]) for start, end in spans)


def to_text(
    links: Sequence[Link], left: Sequence[str], right: Sequence[str], *, unit: str = "tokens"
) -> list[str]:
    """Return links as lines, with their confidences, and the items without a link.

    Parameters
    ----------
    links : sequence of Link
        In any order.
    left, right : sequence of str
        Tokens or words of either text, that the links are positions in.
    unit : str
        Their name in the output.
    """
    width = max((len(left[link.a]) for link in links), default=0)
    lines = [
        f"{link.confidence:.2f}  {left[link.a]:<{width}} - {right[link.b]}"
        for link in sorted(links, key=lambda link: (link.a, link.b))
    ]
    if not lines:
        lines = ["no links"]
    for side, names, linked in (
        ("A", left, {link.a for link in links}),
        ("B", right, {link.b for link in links}),
    ):
        lone = [name for position, name in enumerate(names) if position not in linked]
        lines.append(f"unaligned {unit} of {side}: {'  '.join(lone) or 'none'}")
    return lines


def write_png(attention: TokenAttention, left: Sequence[str], right: Sequence[str], path: Path) -> None:
    """Write a heat map of the attention: the tokens of the first text down, of the second across, links framed.

    Parameters
    ----------
    attention : TokenAttention
        Its ``weights`` are drawn, from 0 (white) to 1.
    left, right : sequence of str
        The tokens of either text.
    path : Path
        Replaced if it is there.

    Raises
    ------
    PictureError
        matplotlib is not installed, or the file cannot be written.

    Notes
    -----
    Characters that neither matplotlib's font nor an installed Noto font has are drawn as boxes.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 (in the embedded extra)
        from matplotlib.patches import Rectangle  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise PictureError(
            f"a picture needs {error.name}, which is not installed: pip install 'alignstream[embedded]'"
        ) from error
    n, m = attention.weights.shape
    if (len(left), len(right)) != (n, m):
        raise ValueError(f"{len(left)} and {len(right)} tokens do not fit weights of shape {(n, m)}")
    size = tuple(min(_TOKEN_INCHES * count + _MARGIN_INCHES, _MAX_INCHES) for count in (m + 2, n))
    points = min(_LABEL_POINTS, (_MAX_INCHES - _MARGIN_INCHES) / max(n, m) * _POINTS_PER_INCH * 0.8)
    figure: Any = Figure(figsize=size, layout="constrained")
    axis = figure.add_subplot()
    image = axis.imshow(attention.weights, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    for link in attention.links:
        frame = Rectangle((link.b - 0.5, link.a - 0.5), 1, 1, fill=False, edgecolor="#D55E00", linewidth=1.2)
        axis.add_patch(frame)
    families = _families("".join((*left, *right)))
    axis.set_xticks(range(m), right, rotation=90, fontsize=points, fontfamily=families)
    axis.set_yticks(range(n), left, fontsize=points, fontfamily=families)
    for label in (*axis.get_xticklabels(), *axis.get_yticklabels()):
        label.set_parse_math(False)  # a token may hold a dollar sign
    axis.xaxis.tick_top()
    figure.colorbar(image, ax=axis, label="attention").ax.tick_params(labelsize=7)
    figure.supxlabel(f"token attention score {attention.score:.3f}; links framed", fontsize=8)
    try:
        with warnings.catch_warnings():
            for message in _MISSING_GLYPH:
                warnings.filterwarnings("ignore", message=message, category=UserWarning)
            figure.savefig(path, dpi=_DOTS_PER_INCH, format="png")
    except OSError as error:
        raise PictureError(f"cannot write {path}: {error.strerror or error}") from error


def _families(characters: str) -> list[str]:
    """Return matplotlib's own font, and installed Noto families for the characters that it lacks."""
    from matplotlib.font_manager import fontManager, get_font  # noqa: PLC0415 (in the embedded extra)

    own = "DejaVu Sans"
    missing = _lacking(get_font(fontManager.findfont(own)), set(map(ord, characters)))
    families = [own]
    entries = [entry for entry in fontManager.ttflist if entry.name.startswith(_FALLBACK)]
    # Sans before Serif, upright and regular before the rest, then by name: the same fonts on every run.
    entries.sort(key=lambda entry: ("Sans" not in entry.name, entry.style, str(entry.weight), entry.name))
    for entry in entries:
        if not missing or len(families) > _MAX_FAMILIES:
            break
        if entry.name in families:
            continue
        left = _lacking(get_font(entry.fname), missing)
        if left < missing:
            families.append(entry.name)
            missing = left
    return families


def _lacking(font: Any, wanted: Iterable[int]) -> set[int]:  # noqa: ANN401 (untyped library)
    return set(wanted) - set(font.get_charmap())


def _clean(text: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in text)
