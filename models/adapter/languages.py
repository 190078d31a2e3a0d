"""One name for a language, whatever the naming scheme: BCP-47, ISO 639-3, FLORES-200 or CLDR.

A language is known here by its subtag and its script, ``pt-Latn``: regions share it (``pt-BR``, ``pt_PT``), so
do the codes of one language (``por``, ``por_Latn``) and the main individual language of a macrolanguage (``arb``
and ``ar``, ``swh`` and ``sw``). Scripts do not: an encoder places ``sr-Cyrl`` and ``sr-Latn`` apart.
"""

import functools
import re
from collections.abc import Sequence
from typing import Final

import langcodes
from langcodes.tag_parser import LanguageTagError

#: Tags remembered; a tag is at most a few dozen bytes.
_REMEMBERED: Final = 4096
#: The tags that say nothing about the language: undetermined, multiple, uncoded, no linguistic content.
_NO_LANGUAGE: Final = frozenset({"und", "mul", "mis", "zxx"})
#: Korean is written in Hangul with or without Han: one script to an encoder.
_SCRIPT_ALIASES: Final = {"Kore": "Hang"}
#: CLDR's distance up to which a language stands in for another: Norwegian for Bokmål (1), Dari for Persian (4).
MAX_DISTANCE: Final = 4


@functools.lru_cache(maxsize=_REMEMBERED)
def language_key(tag: str) -> str | None:
    """Return the subtag and script that a tag stands for, such as ``pt-Latn`` for ``pt_BR``.

    Parameters
    ----------
    tag : str
        A BCP-47, ISO 639-3, FLORES-200 or CLDR code. Case does not matter, ``_`` counts as ``-``.

    Returns
    -------
    str or None
        None where the tag is malformed or names no language.

    Notes
    -----
    Likely scripts and macrolanguages are those of CLDR, by the ``langcodes`` library. Pure.
    """
    try:
        language = langcodes.Language.get(tag, normalize=True).prefer_macrolanguage()
    except (LanguageTagError, ValueError):
        return None
    if language.language is None or language.language in _NO_LANGUAGE:
        return None
    script = language.script or language.maximize().script or "Zyyy"
    return f"{language.language}-{_SCRIPT_ALIASES.get(script, script)}"


def same_language(one: str, other: str) -> bool:
    """Tell whether two tags stand for one language and script, such as ``yo`` and ``yor_Latn``.

    Tags that name no language are compared as they are.
    """
    return (language_key(one) or one) == (language_key(other) or other)


def variety_key(tag: str) -> str:
    """Return a name that tells regions and dialects apart, ``pt-Latn-br``; a tag that names no language as it is."""
    key = language_key(tag)
    if key is None:
        return tag
    later = [part.lower() for part in re.split("[-_]", tag)[1:] if not (len(part) == 4 and part.isalpha())]
    return "-".join([key, *later])


@functools.lru_cache(maxsize=_REMEMBERED)
def is_known_tag(tag: str) -> bool:
    """Tell whether the first subtag of a tag is a language of the registry, or one for private use.

    Parameters
    ----------
    tag : str
        As for ``language_key``.

    Returns
    -------
    bool
        True for ``de-muc`` and ``es_LA``, as later subtags need not be registered; for ``qaa`` to ``qtz`` and for
        ``x-`` with a name; and for old tags that are registered whole, such as ``i-klingon``.

    Notes
    -----
    The registry is IANA's, as the ``langcodes`` library knows it. Pure.
    """
    first = re.split("[-_]", tag, maxsplit=1)[0]
    return langcodes.tag_is_valid(first) or langcodes.tag_is_valid(tag)


class LanguageTable:
    """Positions of languages by their keys, with the fallbacks of tags that are not among them.

    Parameters
    ----------
    keys : sequence of str
        As ``language_key`` gives them, each once.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = tuple(keys)
        self._positions = {key: position for position, key in enumerate(self.keys)}
        self.find = functools.lru_cache(maxsize=_REMEMBERED)(self._find)

    def _find(self, tag: str | None) -> int | None:
        """Return the position of a tag's language, or of the one that CLDR says stands in for it.

        Returns
        -------
        int or None
            None without a tag, for a malformed one, and where no language is near enough.
        """
        key = language_key(tag) if tag else None
        if key is None:
            return None
        position = self._positions.get(key)
        # Looking for a stand-in takes milliseconds; a tag that no registry knows has none.
        if position is None and langcodes.tag_is_valid(key):
            best, _ = langcodes.closest_match(key, self.keys, max_distance=MAX_DISTANCE)
            position = self._positions.get(best)
        return position
