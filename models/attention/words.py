"""Word boundaries from characters alone: no dictionary, any script."""

import unicodedata
from typing import Final

#: Scripts written without spaces between words, in which every token stays a word of its own.
_UNSPACED: Final = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x109F),  # Tibetan, Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Lanna
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9FF),  # Myanmar
    (0xAA60, 0xAADF),  # Myanmar, Tai Viet
    (0xF900, 0xFAFF),  # Han
    (0xFF66, 0xFF9F),  # half-width Katakana
    (0x20000, 0x3FFFF),  # Han
)
#: Zero-width non-joiner and joiner, which occur inside words of Persian and of Indian scripts.
_JOINERS: Final = "\u200c\u200d"


def word_spans(text: str, tokens: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Merge adjacent tokens into words within runs of letters, digits and marks.

    Parameters
    ----------
    text : str
        The text that the tokens come from.
    tokens : tuple of (int, int)
        Characters of each token, in order: start, and end (exclusive).

    Returns
    -------
    tuple of (int, int)
        Characters of each word, in order. Punctuation and symbols are words of their own, and so are the tokens of
        scripts without spaces, whose characters do not show where words end.

    Examples
    --------
    >>> word_spans("unhappy, no", ((0, 2), (2, 7), (7, 8), (9, 11)))
    ((0, 7), (7, 8), (9, 11))
    """
    words: list[tuple[int, int]] = []
    for start, end in tokens:
        if words and start <= words[-1][1] and (start < words[-1][1] or _joins(text, start)):
            words[-1] = (words[-1][0], max(words[-1][1], end))
        else:
            words.append((start, end))
    return tuple(words)


def _joins(text: str, position: int) -> bool:
    """Tell whether the characters before and at a position belong to one word."""
    before, after = text[position - 1], text[position]
    if unicodedata.category(after)[0] == "M":
        return True
    return _in_word(before) and _in_word(after) and not (_is_unspaced(before) or _is_unspaced(after))


def _in_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN" or character in _JOINERS


def _is_unspaced(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in _UNSPACED)
