"""Which languages are related, by the language groups of the Unicode CLDR: whom a new language may borrow from."""

import functools
import importlib.resources
import json
from collections.abc import Sequence
from typing import Final

from alignstream.models.adapter.languages import language_key

#: A group with fewer other languages than this says too little; its parent is asked.
MIN_RELATIVES: Final = 2

#: CLDR's group of all languages: being in it relates nobody.
_ALL: Final = "mul"


@functools.cache
def _parents() -> dict[str, str]:
    """Return the group that each language or group stands in."""
    folder = importlib.resources.files("alignstream.models.adapter") / "packaged"
    groups = json.loads((folder / "language-groups.json").read_text(encoding="utf-8"))["groups"]
    return {member: group for group, members in sorted(groups.items()) for member in members.split()}


def ancestry(language: str) -> list[str]:
    """Return the groups of a language from the nearest to the widest, as ISO 639-5 codes.

    Parameters
    ----------
    language : str
        A tag in any naming.

    Returns
    -------
    list of str
        Empty for a malformed tag and for a language that stands alone.
    """
    key = language_key(language)
    if key is None:
        return []
    groups: list[str] = []
    current = _parents().get(key.partition("-")[0])
    while current not in (None, _ALL) and current not in groups:
        groups.append(str(current))
        current = _parents().get(current)
    return groups


def relatives(language: str, keys: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the nearest group of a language that has others among ``keys``, and these others.

    Parameters
    ----------
    language : str
        A tag in any naming.
    keys : sequence of str
        Language keys to choose from, such as those of a bank.

    Returns
    -------
    group : str or None
        ISO 639-5 code; None where no related language is known.
    relatives : list of str
        At least two, in the order of ``keys``; the language itself is not among them.
    """
    own = language_key(language)
    for group in ancestry(language):
        related = [key for key in keys if key != own and group in ancestry(key)]
        if len(related) >= MIN_RELATIVES:
            return group, related
    return None, []
