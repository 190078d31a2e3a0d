"""The public sets in ALIGNSTREAM_DATA by name: development parts alone, as nothing held out is read here.

Subsamples are fixed and evenly spaced, so that every run reads the same texts. Nothing here encodes.
"""

import csv
import dataclasses
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from alignstream.export.data.public_sets import PublicSets
from alignstream.export.data.public_vectors import (
    DEV_LANGUAGES,
    INTENTS,
    STS_LANGUAGES,
    TICO_LANGUAGES,
    XSID_LANGUAGES,
)
from alignstream.export.data.texts import Parallel, evenly_spaced, read_lines
from alignstream.export.evaluate.formats import (
    Labelled,
    ScoredPairs,
    Terms,
    WordPairs,
    check_apart,
    choose_languages,
    find_language,
    limited,
    term_list,
    words_of,
)
from alignstream.export.evaluate.word_alignment import WordPair
from alignstream.models.errors import TextError

#: Set by the environment.
VARIABLE: Final = "ALIGNSTREAM_DATA"
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
#: What a reader should know of each set beside its figures.
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

#: CLDR's locales of the languages that settings are chosen in, and a few more.
_LOCALES: Final = (
    "de", "fr", "ru", "pl", "el", "ar", "he", "fa", "hi", "bn", "ta", "ka", "hy", "tr", "kk", "fi", "hu", "ja",
    "ko", "zh", "vi", "th", "id", "sw", "yo", "ha", "am", "so", "zu", "my", "ug", "eu", "en",
)  # fmt: skip
_COUNTRY: Final = re.compile(r"[A-WY][A-Z]|XK")
_NUSAX: Final = {
    "english": "en", "indonesian": "id", "acehnese": "ace", "balinese": "ban", "banjarese": "bjn",
    "buginese": "bug", "javanese": "jv", "madurese": "mad", "minangkabau": "min", "ngaju": "nij",
    "sundanese": "su", "toba_batak": "bbc",
}  # fmt: skip
_WORD_FOLDERS: Final = {
    "cs": "en-cz/czenali", "sv": "en-sv/swedish", "es": "en-es/es_golden", "pt": "en-pt/pt_golden",
    "hi": "en-hi/hindi",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which part of a set is wanted: languages (None: the set's usual ones), the pivot, and texts of each."""

    languages: list[str] | None = None
    pivot: str | None = None
    limit: int | None = None


class NamedSets:
    """The sets in a folder laid out as ALIGNSTREAM_DATA.

    Parameters
    ----------
    root : Path
        The folder.

    Raises
    ------
    TextError
        There is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise TextError(f"{root} is no folder; set {VARIABLE} to the folder with the public sets")
        self._root = root

    def parallel(self, name: str, choice: Choice) -> Parallel:
        """Read a parallel set."""
        if name == "nusax-valid":
            return limited(self._nusax_parallel(choice), choice.limit)
        public = PublicSets(self._root)
        everything, usual = self._languages(name, public)
        pivot, languages = _chosen(name, everything, usual, choice)
        if name == "ntrex-dev":
            found = public.ntrex(languages, is_dev=True, n_lines=choice.limit or 300)
        elif name == "tico-19":
            found = public.tico(languages, n_lines=choice.limit or 2100)
        elif name == "sib-dev":
            found = Parallel(name, pivot, public.sib_dev(languages)[0])
        else:
            found = Parallel(name, pivot, public.xsid(languages, n_texts=choice.limit or 300)[0])
        return limited(dataclasses.replace(found, pivot=pivot), choice.limit)

    def labelled(self, name: str, choice: Choice) -> Labelled:
        """Read a labelled set; SIB-200 with the pivot's training texts and their labels for a head."""
        if name == "nusax-valid":
            return self._nusax_labelled(choice)
        public = PublicSets(self._root)
        everything, usual = self._languages(name, public)
        pivot, languages = _chosen(name, everything, usual, choice)
        if name == "xsid-valid":
            texts, gold = public.xsid(languages, n_texts=choice.limit or 300)
            return Labelled(name, texts, dict.fromkeys(texts, gold), dict(INTENTS))
        texts, gold = public.sib_dev(languages)
        keep = evenly_spaced(len(gold), choice.limit or len(gold))
        train = self._sib_train(pivot)
        check_apart(
            train[0],
            texts[pivot],
            lambda row: f"text {row + 1} of its training part",
            lambda row: f"{name}, text {row + 1} of {pivot}",
        )
        return Labelled(
            name,
            {language: [column[line] for line in keep] for language, column in texts.items()},
            {language: [gold[line] for line in keep] for language in texts},
            words_of({pivot: gold}),
            train=train,
            train_language=pivot,
        )

    def scored(self, choice: Choice) -> ScoredPairs:
        """Read the STS benchmark's development pairs."""
        found = ScoredPairs("stsb-dev", {}, {}, {})
        for language in choose_languages(list(STS_LANGUAGES), choice.languages, "stsb-dev"):
            path = self._root / "stsb_multi_mt" / "data" / f"stsb-{language}-dev.csv"
            try:
                with path.open(encoding="utf-8", newline="") as file:
                    rows = list(csv.reader(file))
                keep = [rows[line] for line in evenly_spaced(len(rows), choice.limit or len(rows))]
                found.first[language] = [row[0] for row in keep]
                found.second[language] = [row[1] for row in keep]
                found.scores[language] = [float(row[2]) for row in keep]
            except (OSError, ValueError, IndexError) as error:
                raise TextError(f"cannot read {path}: {error}") from error
        return found

    def words(self, choice: Choice) -> WordPairs:
        """Read gold word alignments of English with other languages."""
        pairs = {}
        for language in choose_languages(list(_WORD_FOLDERS), choice.languages, "word-align"):
            rows = list(self._word_rows(language))
            keep = evenly_spaced(len(rows), choice.limit or len(rows))
            pairs["en", language] = [rows[line] for line in keep]
        return WordPairs("word-align", pairs)

    def terms(self, name: str, choice: Choice) -> Terms:
        """Read lists of terms."""
        return self._territories(choice) if name == "cldr-territories" else self._lexicons(choice)

    def sib_topics(self, language: str) -> dict[str, list[str]]:
        """Read SIB-200's training texts of a language by topic: streams of one topic are made of them."""
        found: dict[str, list[str]] = {}
        for text, topic in zip(*self._sib_train(language), strict=True):
            found.setdefault(topic, []).append(text)
        return found

    def _languages(self, name: str, public: PublicSets) -> tuple[list[str], list[str]]:
        """Return all languages of a set, and those that it is usually judged in."""
        if name == "ntrex-dev":
            return public.ntrex_languages(), list(DEV_LANGUAGES)
        if name == "sib-dev":
            names = [public.sib_name(language) for language in DEV_LANGUAGES]
            return public.sib_languages(), [item for item in names if item is not None]
        if name == "tico-19":
            files = (self._root / "tico19_parallel" / "testsets").glob("tico19-test.*")
            return sorted(path.suffix[1:] for path in files), list(TICO_LANGUAGES)
        files = (self._root / "xsid" / "data" / "xSID-0.7").glob("*.valid.conll")
        return sorted(path.name.split(".")[0] for path in files), list(XSID_LANGUAGES)

    def _sib_train(self, language: str) -> tuple[list[str], list[str]]:
        rows = list(_table(self._root / "sib200" / "data" / "annotated" / language / "train.tsv", "\t"))
        return [row["text"] for row in rows], [row["category"] for row in rows]

    def _nusax_parallel(self, choice: Choice) -> Parallel:
        rows = list(_table(self._root / "nusax" / "datasets" / "mt" / "valid.csv", ","))
        tags = list(_NUSAX.values())
        pivot, languages = _chosen("nusax-valid", tags, tags, choice)
        columns = {
            tag: [row[name].strip() for row in rows] for name, tag in _NUSAX.items() if tag in languages
        }
        return Parallel("nusax-valid", pivot, columns)

    def _nusax_labelled(self, choice: Choice) -> Labelled:
        texts: dict[str, list[str]] = {}
        gold: dict[str, list[str]] = {}
        names = {tag: name for name, tag in _NUSAX.items()}
        for language in choose_languages(list(names), choice.languages, "nusax-valid"):
            path = self._root / "nusax" / "datasets" / "sentiment" / names[language] / "valid.csv"
            rows = list(_table(path, ","))
            keep = evenly_spaced(len(rows), choice.limit or len(rows))
            texts[language] = [rows[line]["text"].strip() for line in keep]
            gold[language] = [rows[line]["label"] for line in keep]
        return Labelled("nusax-valid", texts, gold, words_of(gold))

    def _word_rows(self, language: str) -> Iterator[WordPair]:
        for part in ("train", "valid"):
            name = f"{_WORD_FOLDERS[language]}.jsonl"
            path = self._root / "word_align_binaryalign" / "datasets" / "processed" / part / name
            for number, line in read_lines(path):
                try:
                    row = json.loads(line)
                    source, target = tuple(row["src_words"]), tuple(row["tgt_words"])
                    # Hindi's gold has links to no word (-1) and one beyond its sentence.
                    links = frozenset(
                        (int(one), int(other))
                        for one, other in row["alignment"]
                        if 0 <= one < len(source) and 0 <= other < len(target)
                    )
                    yield WordPair(source, target, links)
                except (ValueError, KeyError, TypeError) as error:
                    raise TextError(f"{path}, line {number}: not an aligned pair: {error!r}") from error

    def _territories(self, choice: Choice) -> Terms:
        path = self._root / "cldr_localenames" / "cldr-localenames-full-48.2.0.tgz"
        try:
            with tarfile.open(path) as archive:
                names = archive.getnames()
                locales = sorted({item.split("/")[2] for item in names if item.endswith("/territories.json")})
                pivot, languages = _chosen("cldr-territories", locales, list(_LOCALES), choice)
                tables = {locale: _locale_names(archive, locale) for locale in languages}
        except (OSError, tarfile.TarError, KeyError, ValueError) as error:
            raise TextError(f"cannot read {path}: {error!r}") from error
        lists = {}
        for language in languages:
            if language != pivot:
                shared = [key for key in tables[pivot] if key in tables[language]]
                keep = [shared[n] for n in evenly_spaced(len(shared), choice.limit or len(shared))]
                pairs = [(tables[language][key], tables[pivot][key]) for key in keep]
                lists[language] = term_list(language, pivot, pairs)
        return Terms("cldr-territories", {name: item for name, item in lists.items() if len(item.pairs) > 1})

    def _lexicons(self, choice: Choice) -> Terms:
        lists = {}
        for source in ("fi", "tr"):
            path = self._root / "panlex_bli" / "lexicons" / f"{source}-l2.zip"
            try:
                with zipfile.ZipFile(path) as archive:
                    files = sorted(
                        item for item in archive.namelist() if item.endswith(".train.500.cc.trans")
                    )
                    contents = {item: archive.read(item).decode() for item in files}
            except (OSError, zipfile.BadZipFile, ValueError) as error:
                raise TextError(f"cannot read {path}: {error}") from error
            for file, content in contents.items():
                name = file.split("/")[0]
                target = name.partition("-")[2]
                # Finnish and Turkish meet in both archives.
                if f"{target}-{source}" in lists:
                    continue
                rows = [line.split("\t") for line in content.splitlines() if line.count("\t") == 1]
                keep = [rows[n] for n in evenly_spaced(len(rows), choice.limit or len(rows))]
                lists[name] = term_list(source, target, [(row[0], row[1]) for row in keep])
        if choice.languages is not None:
            wanted = set(choose_languages(sorted({item for name in lists for item in name.split("-")}),
                                          choice.languages, "panlex"))  # fmt: skip
            lists = {name: item for name, item in lists.items() if wanted & set(name.split("-"))}
        return Terms("panlex", lists)


def _chosen(name: str, everything: list[str], usual: list[str], choice: Choice) -> tuple[str, list[str]]:
    """Return the pivot and the languages to read, the pivot among them."""
    pivot = find_language(choice.pivot or "en", everything, name)
    if choice.languages is None:
        languages = [language for language in everything if language in set(usual)]
    else:
        languages = choose_languages(everything, choice.languages, name)
    return pivot, languages if pivot in languages else [pivot, *languages]


def _table(path: Path, delimiter: str) -> Iterator[Mapping[str, str]]:
    # Quotes are text in the TSV files.
    quoting: Literal[0, 3] = 3 if delimiter == "\t" else 0
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file, delimiter=delimiter, quoting=quoting)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TextError(f"cannot read {path}: {error}") from error


def _locale_names(archive: tarfile.TarFile, locale: str) -> dict[str, str]:
    file = archive.extractfile(f"package/main/{locale}/territories.json")
    content: Any = json.loads(file.read()) if file is not None else {}
    names: dict[str, str] = content["main"][locale]["localeDisplayNames"]["territories"]
    # A name that a locale lacks stands there as its code.
    return {key: name for key, name in names.items() if _COUNTRY.fullmatch(key) and name != key}
