"""What ``evaluate`` judges on, by the name of a public set in ALIGNSTREAM_DATA: development parts alone.

Subsamples are fixed and evenly spaced, so that every run reads the same texts. Nothing here encodes.
"""

import csv
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from alignstream.export.data.labelled import LabelledSet, check_apart, words_of
from alignstream.export.data.lines import read_lines
from alignstream.export.data.parallel import Parallel
from alignstream.export.data.public_sets import (
    DEV_LANGUAGES,
    INTENTS,
    STS_LANGUAGES,
    TICO_LANGUAGES,
    VARIABLE,
    XSID_LANGUAGES,
    PublicSets,
    read_sts,
)
from alignstream.export.data.scored_pairs import ScoredPairs
from alignstream.export.data.selection import TextSelection, choose_languages, find_language
from alignstream.export.data.terms import Terms, term_list
from alignstream.export.data.texts import evenly_spaced
from alignstream.export.data.word_pairs import WordPair, WordPairs
from alignstream.models.errors import TextError

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


class NamedSets:
    """The sets in a folder laid out as ALIGNSTREAM_DATA.

    Parameters
    ----------
    root : Path
        The folder.

    Raises
    ------
    TextError
        The folder does not exist.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise TextError(f"{root} is not a folder; set {VARIABLE} to the folder with the public sets")
        self._root = root

    def parallel(self, name: str, selection: TextSelection) -> Parallel:
        """Read a parallel set."""
        if name == "nusax-valid":
            return self._nusax_parallel(selection).limited(selection.limit)
        public = PublicSets(self._root)
        everything, usual = self._languages(name, public)
        pivot, languages = _chosen(name, everything, usual, selection)
        if name == "ntrex-dev":
            texts = public.ntrex(languages, is_dev=True, n_lines=selection.limit or 300).by_language
        elif name == "tico-19":
            texts = public.tico(languages, n_lines=selection.limit or 2100).by_language
        elif name == "sib-dev":
            texts = public.sib_dev(languages)[0]
        else:
            texts = public.xsid(languages, n_texts=selection.limit or 300)[0]
        return Parallel(name, pivot, texts).limited(selection.limit)

    def labelled(self, name: str, selection: TextSelection) -> LabelledSet:
        """Read a labelled set; SIB-200 with the pivot's training texts and their labels for a head."""
        if name == "nusax-valid":
            return self._nusax_labelled(selection)
        public = PublicSets(self._root)
        everything, usual = self._languages(name, public)
        pivot, languages = _chosen(name, everything, usual, selection)
        if name == "xsid-valid":
            texts, gold = public.xsid(languages, n_texts=selection.limit or 300)
            return LabelledSet(name, texts, dict.fromkeys(texts, gold), dict(INTENTS))
        texts, gold = public.sib_dev(languages)
        keep = evenly_spaced(len(gold), selection.limit or len(gold))
        train = public.sib_examples(pivot)
        check_apart(
            train[0],
            texts[pivot],
            lambda row: f"text {row + 1} of its training part",
            lambda row: f"{name}, text {row + 1} of {pivot}",
        )
        whole = LabelledSet(
            name,
            texts,
            dict.fromkeys(texts, gold),
            words_of({pivot: gold}),
            train=train,
            train_language=pivot,
        )
        return whole.rows(dict.fromkeys(texts, keep))

    def scored(self, selection: TextSelection) -> ScoredPairs:
        """Read the STS benchmark's development pairs."""
        languages = choose_languages(STS_LANGUAGES, selection.languages, "stsb-dev")
        return read_sts(self._root, languages, n_pairs=selection.limit)

    def words(self, selection: TextSelection) -> WordPairs:
        """Read gold word alignments of English with other languages."""
        pairs = {}
        for language in choose_languages(list(_WORD_FOLDERS), selection.languages, "word-align"):
            rows = list(self._word_rows(language))
            keep = evenly_spaced(len(rows), selection.limit or len(rows))
            pairs["en", language] = [rows[line] for line in keep]
        return WordPairs("word-align", pairs)

    def terms(self, name: str, selection: TextSelection) -> Terms:
        """Read lists of terms."""
        return self._territories(selection) if name == "cldr-territories" else self._lexicons(selection)

    def _languages(self, name: str, public: PublicSets) -> tuple[list[str], list[str]]:
        """Return all languages of a set, and those that it is usually judged in."""
        if name == "ntrex-dev":
            return public.ntrex_languages(), list(DEV_LANGUAGES)
        if name == "sib-dev":
            names = [public.sib_name(language) for language in DEV_LANGUAGES]
            return public.sib_languages(), [known for known in names if known is not None]
        if name == "tico-19":
            files = (self._root / "tico19_parallel" / "testsets").glob("tico19-test.*")
            return sorted(path.suffix[1:] for path in files), list(TICO_LANGUAGES)
        files = (self._root / "xsid" / "data" / "xSID-0.7").glob("*.valid.conll")
        return sorted(path.name.split(".")[0] for path in files), list(XSID_LANGUAGES)

    def _nusax_parallel(self, selection: TextSelection) -> Parallel:
        rows = list(_table(self._root / "nusax" / "datasets" / "mt" / "valid.csv"))
        tags = list(_NUSAX.values())
        pivot, languages = _chosen("nusax-valid", tags, tags, selection)
        columns = {
            tag: [row[name].strip() for row in rows] for name, tag in _NUSAX.items() if tag in languages
        }
        return Parallel("nusax-valid", pivot, columns)

    def _nusax_labelled(self, selection: TextSelection) -> LabelledSet:
        texts: dict[str, list[str]] = {}
        gold: dict[str, list[str]] = {}
        names = {tag: name for name, tag in _NUSAX.items()}
        for language in choose_languages(list(names), selection.languages, "nusax-valid"):
            path = self._root / "nusax" / "datasets" / "sentiment" / names[language] / "valid.csv"
            rows = list(_table(path))
            keep = evenly_spaced(len(rows), selection.limit or len(rows))
            texts[language] = [rows[line]["text"].strip() for line in keep]
            gold[language] = [rows[line]["label"] for line in keep]
        return LabelledSet("nusax-valid", texts, gold, words_of(gold))

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

    def _territories(self, selection: TextSelection) -> Terms:
        path = self._root / "cldr_localenames" / "cldr-localenames-full-48.2.0.tgz"
        try:
            with tarfile.open(path) as archive:
                files = [name for name in archive.getnames() if name.endswith("/territories.json")]
                locales = sorted({name.split("/")[2] for name in files})
                pivot, languages = _chosen("cldr-territories", locales, list(_LOCALES), selection)
                tables = {locale: _locale_names(archive, locale) for locale in languages}
        except (OSError, tarfile.TarError, KeyError, ValueError) as error:
            raise TextError(f"cannot read {path}: {error!r}") from error
        lists = {}
        for language in languages:
            if language != pivot:
                shared = [key for key in tables[pivot] if key in tables[language]]
                keep = [shared[n] for n in evenly_spaced(len(shared), selection.limit or len(shared))]
                pairs = [(tables[language][key], tables[pivot][key]) for key in keep]
                lists[language] = term_list(language, pivot, pairs)
        return Terms(
            "cldr-territories", {name: terms for name, terms in lists.items() if len(terms.pairs) > 1}
        )

    def _lexicons(self, selection: TextSelection) -> Terms:
        lists = {}
        for source in ("fi", "tr"):
            path = self._root / "panlex_bli" / "lexicons" / f"{source}-l2.zip"
            try:
                with zipfile.ZipFile(path) as archive:
                    files = sorted(
                        name for name in archive.namelist() if name.endswith(".train.500.cc.trans")
                    )
                    contents = {name: archive.read(name).decode() for name in files}
            except (OSError, zipfile.BadZipFile, ValueError) as error:
                raise TextError(f"cannot read {path}: {error}") from error
            for file, content in contents.items():
                name = file.split("/")[0]
                target = name.partition("-")[2]
                # Finnish and Turkish meet in both archives.
                if f"{target}-{source}" in lists:
                    continue
                rows = [line.split("\t") for line in content.splitlines() if line.count("\t") == 1]
                keep = [rows[n] for n in evenly_spaced(len(rows), selection.limit or len(rows))]
                lists[name] = term_list(source, target, [(row[0], row[1]) for row in keep])
        if selection.languages is not None:
            known = sorted({language for name in lists for language in name.split("-")})
            wanted = set(choose_languages(known, selection.languages, "panlex"))
            lists = {name: terms for name, terms in lists.items() if wanted & set(name.split("-"))}
        return Terms("panlex", lists)


def _chosen(
    name: str, everything: list[str], usual: list[str], selection: TextSelection
) -> tuple[str, list[str]]:
    """Return the pivot and the languages to read, the pivot among them."""
    pivot = find_language(selection.pivot or "en", everything, name)
    if selection.languages is None:
        languages = [language for language in everything if language in set(usual)]
    else:
        languages = choose_languages(everything, selection.languages, name)
    return pivot, languages if pivot in languages else [pivot, *languages]


def _table(path: Path) -> Iterator[Mapping[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TextError(f"cannot read {path}: {error}") from error


def _locale_names(archive: tarfile.TarFile, locale: str) -> dict[str, str]:
    file = archive.extractfile(f"package/main/{locale}/territories.json")
    content: Any = json.loads(file.read()) if file is not None else {}
    names: dict[str, str] = content["main"][locale]["localeDisplayNames"]["territories"]
    # Where a locale lacks a name, the file has its code.
    return {key: name for key, name in names.items() if _COUNTRY.fullmatch(key) and name != key}
