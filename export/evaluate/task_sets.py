"""The public sets that each task is judged on, and a remark on each for the reader."""

from collections.abc import Mapping
from typing import Final

_PARALLEL: Final = ("ntrex-dev", "tico-19", "sib-dev", "xsid-valid", "nusax-valid")
#: The sets that each task can use; the first ``N_DEFAULT`` of them without ``--set``.
SETS: Final[Mapping[str, tuple[str, ...]]] = {
    "retrieval": _PARALLEL,
    "pool": _PARALLEL,
    "neighbours": _PARALLEL,
    "labels": ("sib-dev", "xsid-valid", "nusax-valid"),
    "head": ("sib-dev",),
    "terms": ("cldr-territories", "panlex"),
    "words": ("word-align",),
    "similarity": ("stsb-dev",),
}
N_DEFAULT: Final[Mapping[str, int]] = {"retrieval": 2, "pool": 2, "neighbours": 1, "labels": 3, "terms": 2}
#: Beside each set's figures.
USE: Final[Mapping[str, str]] = {
    "ntrex-dev": "NTREX-128, 300 development lines: settings of the shipped adapter were chosen on some of them",
    "tico-19": "TICO-19: another domain, nothing was fitted or chosen on it",
    "sib-dev": "SIB-200 development, built on FLORES-200: settings of the shipped adapter were chosen on it, and "
    "languages that NTREX-128 lacks were fitted on its training texts, without their labels",
    "xsid-valid": "xSID validation: settings of the shipped adapter were chosen on some of it",
    "nusax-valid": "NusaX validation: nothing was fitted or chosen on it",
    "cldr-territories": "names of countries from CLDR: nothing was fitted or chosen on them",
    "panlex": "PanLex lexicons, training part of 500: nothing was fitted or chosen on them",
    "word-align": "gold alignments with English, training and validation parts: nothing was fitted on their links",
    "stsb-dev": "STS benchmark development: a guard when settings of the shipped adapter were chosen",
}
#: Beside the figures of people's own files, which nothing was chosen on here.
OWN_FILE: Final = "given by the user"
