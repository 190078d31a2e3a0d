"""Related languages, by the language groups of the Unicode CLDR: a new language may borrow from its relatives."""

import functools
import importlib.resources
import json
from collections.abc import Sequence
from typing import Final

from alignstream.models.adapter.languages import language_key

#: A group with fewer other languages says too little; its parent group is used instead.
MIN_RELATIVES: Final = 2

#: CLDR's group of all languages, which relates none of them.
_ALL: Final = "mul"


@functools.cache
def _parents() -> dict[str, str]:
    """Return the parent group of each language and group."""
    folder = importlib.resources.files("alignstream.models.adapter") / "packaged"
    groups = json.loads((folder / "language-groups.json").read_text(encoding="utf-8"))["groups"]
    return {member: group for group, members in sorted(groups.items()) for member in members.split()}


def ancestry(language: str) -> list[str]:
    """Return the groups of a language from the narrowest to the widest, as ISO 639-5 codes.

    Parameters
    ----------
    language : str
        A tag in any naming scheme.

    Returns
    -------
    list of str
        Empty for a malformed tag and for a language without a group.

    Examples
    --------
    >>> ancestry("nl")
    ['gmw', 'gem', 'ine']
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
    """Find the narrowest group of a language that has other members among ``keys``.

    Parameters
    ----------
    language : str
        A tag in any naming scheme.
    keys : sequence of str
        Language keys to choose from, such as those of a bank.

    Returns
    -------
    group : str or None
        ISO 639-5 code; None if too few keys are related.
    relatives : list of str
        Its members among ``keys``, at least two and in their order, without the language itself; else empty.

    Examples
    --------
    >>> relatives("nl", ["de-Latn", "fr-Latn", "en-Latn"])
    ('gmw', ['de-Latn', 'en-Latn'])
    """
    own = language_key(language)
    for group in ancestry(language):
        related = [key for key in keys if key != own and group in ancestry(key)]
        if len(related) >= MIN_RELATIVES:
            return group, related
    return None, []
