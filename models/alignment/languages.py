"""One name for a language, whatever the naming scheme: BCP-47, ISO 639-3, FLORES-200 or CLDR.

A language is known here by its subtag and its script, ``pt-Latn``: regions share it (``pt-BR``, ``pt_PT``), so
do the codes of one language (``por``, ``por_Latn``) and the main individual language of a macrolanguage (``arb``
and ``ar``, ``swh`` and ``sw``). Scripts do not: an encoder places ``sr-Cyrl`` and ``sr-Latn`` apart.
"""

import functools
from typing import Final

import langcodes
from langcodes.tag_parser import LanguageTagError

#: Tags remembered; a tag is at most a few dozen bytes.
_REMEMBERED: Final = 4096
#: The tags that say nothing about the language: undetermined, multiple, uncoded, no linguistic content.
_NO_LANGUAGE: Final = frozenset({"und", "mul", "mis", "zxx"})


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
    script = language.script or language.maximize().script
    return f"{language.language}-{script}"
