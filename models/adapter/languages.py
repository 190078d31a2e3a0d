"""One key per language, whatever the naming scheme: BCP-47, ISO 639-3, FLORES-200 or CLDR.

A key is the language subtag and the script, such as ``pt-Latn``. Regions share a key (``pt-BR``, ``pt_PT``), and so
do the codes of one language (``por``, ``por_Latn``) and a macrolanguage and its main language (``ar`` and ``arb``,
``sw`` and ``swh``). Scripts do not: an encoder places ``sr-Cyrl`` and ``sr-Latn`` apart.
"""

import contextlib
import functools
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Final

import langcodes
from langcodes import language_distance
from langcodes.tag_parser import LanguageTagError

#: Tags cached; a tag takes a few dozen bytes at most.
_REMEMBERED: Final = 4096
#: Tags that the library may cache in turn, a kilobyte or two each, before its caches are emptied.
_LIBRARY_REMEMBERS: Final = 4 * _REMEMBERED
_LIBRARY_LOCK: Final = threading.Lock()
#: Tags that name no language: undetermined, multiple, uncoded, no linguistic content.
_NO_LANGUAGE: Final = frozenset({"und", "mul", "mis", "zxx"})
#: Korean is written in Hangul with or without Han: one script to an encoder.
_SCRIPT_ALIASES: Final = {"Kore": "Hang"}
#: Largest CLDR distance at which one language stands in for another: Norwegian for Bokmål (1), Dari for Persian (4).
MAX_DISTANCE: Final = 4


@functools.lru_cache(maxsize=_REMEMBERED)
def language_key(tag: str) -> str | None:
    """Return the subtag and script that a tag stands for, such as ``pt-Latn`` for ``pt_BR``.

    Parameters
    ----------
    tag : str
        A BCP-47, ISO 639-3, FLORES-200 or CLDR code. Case does not matter, and ``_`` counts as ``-``.

    Returns
    -------
    str or None
        None if the tag is malformed or names no language.

    Notes
    -----
    Likely scripts and macrolanguages come from CLDR, through the ``langcodes`` library. Pure.

    Examples
    --------
    >>> [language_key(tag) for tag in ("pt_BR", "swh", "zh-TW", "und")]
    ['pt-Latn', 'sw-Latn', 'zh-Hant', None]
    """
    with _library():
        try:
            language = langcodes.Language.get(tag, normalize=True).prefer_macrolanguage()
        except (LanguageTagError, ValueError):
            return None
        if language.language is None or language.language in _NO_LANGUAGE:
            return None
        script = language.script or language.maximize().script or "Zyyy"
    return f"{language.language}-{_SCRIPT_ALIASES.get(script, script)}"


@contextlib.contextmanager
def _library() -> Iterator[None]:
    """Use langcodes from one thread at a time, and empty its caches when they are large.

    They never forget a tag, and anyone may invent tags; emptied under another thread, they would fail it.
    """
    with _LIBRARY_LOCK:
        for cache in (
            langcodes.Language._INSTANCES,  # noqa: SLF001 (the library has no way to bound them)
            langcodes.Language._PARSE_CACHE,  # noqa: SLF001 (likewise)
            language_distance._DISTANCE_CACHE,  # noqa: SLF001 (likewise)
        ):
            if len(cache) > _LIBRARY_REMEMBERS:
                cache.clear()
        yield


def same_language(one: str, other: str) -> bool:
    """Tell whether two tags stand for the same language and script, such as ``yo`` and ``yor_Latn``.

    Tags that name no language are compared as strings.

    Examples
    --------
    >>> same_language("yo", "yor_Latn"), same_language("sr-Cyrl", "sr-Latn")
    (True, False)
    """
    return (language_key(one) or one) == (language_key(other) or other)


def variety_key(tag: str) -> str:
    """Return a key that keeps region and dialect; a tag that names no language stays unchanged.

    Examples
    --------
    >>> variety_key("pt_BR"), variety_key("?")
    ('pt-Latn-br', '?')
    """
    key = language_key(tag)
    if key is None:
        return tag
    later = [part.lower() for part in re.split("[-_]", tag)[1:] if not (len(part) == 4 and part.isalpha())]
    return "-".join([key, *later])


@functools.lru_cache(maxsize=_REMEMBERED)
def is_known_tag(tag: str) -> bool:
    """Tell whether a tag starts with a registered or private-use language subtag.

    Parameters
    ----------
    tag : str
        As in ``language_key``.

    Returns
    -------
    bool
        Also True for ``de-muc`` and ``es_LA``, since later subtags need not be registered; for ``qaa`` to ``qtz`` and
        names that start with ``x-``; and for old tags that are registered as a whole, such as ``i-klingon``.

    Notes
    -----
    The registry is IANA's, as shipped with the ``langcodes`` library. Pure.
    """
    first = re.split("[-_]", tag, maxsplit=1)[0]
    with _library():
        return langcodes.tag_is_valid(first) or langcodes.tag_is_valid(tag)


class LanguageTable:
    """Positions of languages by key, with fallbacks for tags of other languages.

    Parameters
    ----------
    keys : sequence of str
        From ``language_key``, each once.

    Examples
    --------
    >>> table = LanguageTable(["nb-Latn", "fa-Arab"])
    >>> table.find("no"), table.find("prs"), table.find("ja")
    (0, 1, None)
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = tuple(keys)
        self._positions = {key: position for position, key in enumerate(self.keys)}
        self.find = functools.lru_cache(maxsize=_REMEMBERED)(self._find)

    def _find(self, tag: str | None) -> int | None:
        """Return the position of a tag's language, or of the language that stands in for it by CLDR.

        Returns
        -------
        int or None
            None without a tag, for a malformed tag, and if no language is near enough.
        """
        key = language_key(tag) if tag else None
        if key is None:
            return None
        position = self._positions.get(key)
        if position is None:
            with _library():
                # Looking for a stand-in takes milliseconds, and an unregistered tag has none.
                if langcodes.tag_is_valid(key):
                    best, _ = langcodes.closest_match(key, self.keys, max_distance=MAX_DISTANCE)
                    position = self._positions.get(best)
        return position
