"""Lists of terms in two languages, and which terms translate each other. Nothing here encodes."""

import dataclasses
from collections.abc import Sequence

from alignstream.export.data.parallel import Parallel


@dataclasses.dataclass(frozen=True)
class TermList:
    """Terms of two languages and which translate each other.

    Parameters
    ----------
    source_language, target_language : str
        Tags.
    source, target : list of str
        Distinct terms.
    pairs : list of (int, int)
        Positions in both; every term is in at least one.
    """

    source_language: str
    target_language: str
    source: list[str]
    target: list[str]
    pairs: list[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Terms:
    """Lists of terms by name: that of the language, or of both where no pivot is among them."""

    name: str
    lists: dict[str, TermList]


def terms_of(texts: Parallel) -> Terms:
    """Take parallel text as lists of terms: each language with the pivot; a single pair makes no list."""
    pivot = texts.by_language[texts.pivot]
    lists = {
        language: term_list(language, texts.pivot, list(zip(column, pivot, strict=True)))
        for language, column in texts.by_language.items()
        if language != texts.pivot
    }
    return Terms(texts.name, {name: terms for name, terms in lists.items() if len(terms.pairs) > 1})


def term_list(source_language: str, target_language: str, pairs: Sequence[tuple[str, str]]) -> TermList:
    """Make a list of terms; pairs of identical strings say nothing about meaning and are left out.

    Examples
    --------
    >>> term_list("de", "en", [("Bank", "bank"), ("Ufer", "shore"), ("Ufer", "bank")]).pairs
    [(0, 0), (0, 1)]
    """
    distinct = dict.fromkeys((one, other) for one, other in pairs if one.casefold() != other.casefold())
    source = list(dict.fromkeys(one for one, _ in distinct))
    target = list(dict.fromkeys(other for _, other in distinct))
    rows, columns = ({term: n for n, term in enumerate(side)} for side in (source, target))
    return TermList(
        source_language,
        target_language,
        source,
        target,
        [(rows[one], columns[other]) for one, other in distinct],
    )
