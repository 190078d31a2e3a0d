"""Which part of a set is wanted: its languages, its pivot, and how many texts of each."""

import dataclasses
from collections.abc import Sequence
from typing import Final

from alignstream.models.adapter.languages import language_key
from alignstream.models.errors import TextError

#: Names, and characters of one name, that a message holds at most: it must stay readable.
_MAX_NAMES: Final = 20
_MAX_CHARACTERS: Final = 40


@dataclasses.dataclass(frozen=True)
class TextSelection:
    """The wanted part of a set.

    Parameters
    ----------
    languages : list of str, optional
        Tags. Default: the set's usual languages.
    pivot : str, optional
        Tag of the language that retrieval goes to and from. Default: the set's own.
    limit : int, optional
        Texts of each language at most. Default: all.
    """

    languages: list[str] | None = None
    pivot: str | None = None
    limit: int | None = None


def find_language(wanted: str, languages: Sequence[str], where: str) -> str:
    """Return the name that a set has for a language: the same, or another code of it.

    Raises
    ------
    TextError
        There is none.

    Examples
    --------
    >>> find_language("en", ["deu", "eng"], "the set")
    'eng'
    """
    if wanted in languages:
        return wanted
    key = language_key(wanted)
    for name in languages:
        if key is not None and language_key(name) == key:
            return name
    raise TextError(f"{where} has no language {quoted(wanted)}; it has {listed(languages)}")


def choose_languages(languages: Sequence[str], wanted: Sequence[str] | None, where: str) -> list[str]:
    """Return the wanted languages in the set's order; None wants all of them.

    Raises
    ------
    TextError
        One is not there.
    """
    if wanted is None:
        return list(languages)
    names = {find_language(tag, languages, where) for tag in wanted}
    return [name for name in languages if name in names]


def listed(names: Sequence[str]) -> str:
    """Return names for a message with commas between them: twenty at most, and how many more there are.

    Examples
    --------
    >>> listed(["de", "sw"])
    'de, sw'
    """
    listing = ", ".join(names[:_MAX_NAMES])
    return listing if len(names) <= _MAX_NAMES else f"{listing} and {len(names) - _MAX_NAMES} more"


def quoted(name: str) -> str:
    """Return a user's input for a message: in quotes, and shortened if long."""
    return repr(name if len(name) <= _MAX_CHARACTERS else name[:_MAX_CHARACTERS] + "…")
