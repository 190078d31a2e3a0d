"""What adapters are fitted on and settings are chosen on: parts of the public sets in ALIGNSTREAM_DATA.

Nothing here encodes or fits. Subsamples are fixed and evenly spaced, so that every run reads the same texts.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from alignstream.export.data.lines import read_lines
from alignstream.export.data.parallel import Parallel
from alignstream.export.data.scored_pairs import ScoredPairs
from alignstream.export.data.texts import evenly_spaced
from alignstream.models.errors import TextError

#: Environment variable that names the folder with the public sets.
VARIABLE: Final = "ALIGNSTREAM_DATA"
#: Languages of the development texts, by NTREX-128's names: 14 families, 16 scripts, many low-resource.
DEV_LANGUAGES: Final = (
    "eng", "deu", "fra", "rus", "pol", "ell", "arb", "heb", "fas", "hin", "ben", "tam", "kat", "hye", "tur",
    "kaz", "fin", "hun", "jpn", "kor", "zho-CN", "vie", "tha", "ind", "swa", "yor", "hau", "amh", "som",
    "zul", "wol", "mya", "uig", "eus",
)  # fmt: skip
TICO_LANGUAGES: Final = (
    "en", "am", "ar", "bn", "ckb", "es_LA", "fa", "fr", "ha", "hi", "id", "km", "ku", "lg", "ln", "my", "ne",
    "om", "pt_BR", "ru", "so", "sw", "ta", "tl", "ur", "zh", "zu",
)  # fmt: skip
XSID_LANGUAGES: Final = (
    "en", "ar", "da", "de", "de-st", "gsw", "id", "it", "kk", "lt", "nap", "nl", "sr", "tr", "zh",
)  # fmt: skip
STS_LANGUAGES: Final = ("de", "en", "es", "fr", "it", "ja", "nl", "pl", "pt", "ru", "zh")

#: The sentence that labels of the public sets are embedded in.
TEMPLATE: Final = "This text is about {label}."
#: xSID names its intents as code does; these are the words for them.
INTENTS: Final = {
    "weather/find": "the weather",
    "alarm/set_alarm": "setting an alarm",
    "alarm/cancel_alarm": "cancelling an alarm",
    "alarm/show_alarms": "showing the alarms",
    "alarm/snooze_alarm": "snoozing an alarm",
    "alarm/modify_alarm": "changing an alarm",
    "reminder/set_reminder": "setting a reminder",
    "reminder/cancel_reminder": "cancelling a reminder",
    "reminder/show_reminders": "showing the reminders",
    "AddToPlaylist": "adding a song to a playlist",
    "BookRestaurant": "booking a restaurant",
    "PlayMusic": "playing music",
    "RateBook": "rating a book",
    "SearchCreativeWork": "finding a film, a book or a song",
    "SearchScreeningEvent": "film showings at the cinema",
}

#: NTREX-128 variants of a language in the same script: it would count twice among the means.
_NTREX_VARIANTS: Final = frozenset({"eng-GB", "eng-IN", "eng-US", "fra-CA", "por-BR", "spa-MX"})
#: SIB-200 names of NTREX-128 languages whose three letters differ.
_SIB_NAMES: Final = {
    "aze-Latn": "azj_Latn", "fas": "pes_Arab", "fil": "tgl_Latn", "fuc": "fuv_Latn", "lav": "lvs_Latn",
    "mlg": "plt_Latn", "mon": "khk_Cyrl", "msa": "zsm_Latn", "nep": "npi_Deva", "orm": "gaz_Latn",
    "pus": "pbt_Arab", "sqi": "als_Latn", "swa": "swh_Latn", "uzb": "uzn_Latn", "zho-CN": "zho_Hans",
    "zho-TW": "zho_Hant", "arb": "arb_Arab",
}  # fmt: skip


class PublicSets:
    """The public sets in a folder laid out as ALIGNSTREAM_DATA.

    Parameters
    ----------
    root : Path
        Holds ``ntrex128``, ``sib200``, ``tico19_parallel``, ``xsid`` and ``overlap``.

    Raises
    ------
    TextError
        A set is not there.
    """

    def __init__(self, root: Path) -> None:
        self._ntrex = root / "ntrex128" / "NTREX-128"
        self._sib = root / "sib200" / "data" / "annotated"
        self._tico = root / "tico19_parallel" / "testsets"
        self._xsid = root / "xsid" / "data" / "xSID-0.7"
        self._ntrex_dev = root / "overlap" / "ntrex_dev_lines.txt"
        for path in (self._ntrex, self._sib, self._tico, self._xsid, self._ntrex_dev):
            if not path.exists():
                raise TextError(
                    f"{path} is not there; set ALIGNSTREAM_DATA to the folder with the public sets"
                )
        self._dev_lines = {int(line) for _, line in read_lines(self._ntrex_dev) if line}

    def ntrex_languages(self) -> list[str]:
        """Return the languages of NTREX-128, each once."""
        names = {path.name.split(".")[1] for path in self._ntrex.glob("newstest2019-ref.*.txt")}
        return sorted((names - _NTREX_VARIANTS) | {"eng"})

    def sib_languages(self) -> list[str]:
        """Return the languages of SIB-200."""
        return sorted(path.name for path in self._sib.iterdir() if path.is_dir())

    def sib_name(self, ntrex_language: str) -> str | None:
        """Return the SIB-200 name of a language of NTREX-128, or None if it is not there."""
        if ntrex_language in _SIB_NAMES:
            return _SIB_NAMES[ntrex_language]
        letters, _, script = ntrex_language.partition("-")
        names = [name for name in self.sib_languages() if name.startswith(f"{letters}_{script}")]
        return names[0] if len(names) == 1 else None

    def ntrex(self, languages: Sequence[str], *, is_dev: bool, n_lines: int) -> Parallel:
        """Read NTREX-128: the development lines, or the others, which may be fitted on."""
        columns = {language: self._read_ntrex(language) for language in languages}
        n_total = len(next(iter(columns.values())))
        lines = [line for line in range(n_total) if (line in self._dev_lines) == is_dev]
        keep = [lines[position] for position in evenly_spaced(len(lines), n_lines)]
        return Parallel(
            name="ntrex-dev" if is_dev else "ntrex-fit",
            pivot="eng",
            by_language={language: [column[line] for line in keep] for language, column in columns.items()},
        )

    def sib_train(self, languages: Sequence[str], *, n_lines: int) -> dict[str, list[str]]:
        """Read texts of SIB-200's training part, without their labels; the same sentences in all languages."""
        rows = {language: sorted(self._read_sib(language, "train")) for language in languages}
        return {
            language: [table[position][1] for position in evenly_spaced(len(table), n_lines)]
            for language, table in rows.items()
        }

    def sib_examples(self, language: str) -> tuple[list[str], list[str]]:
        """Read all texts of SIB-200's training part with their labels: to judge fits of labels, never adapters."""
        table = sorted(self._read_sib(language, "train"))
        return [text for _, text, _ in table], [label for _, _, label in table]

    def sib_topics(self, language: str) -> dict[str, list[str]]:
        """Read SIB-200's training texts of a language by topic, in the order of its file."""
        by_topic: dict[str, list[str]] = {}
        for _, text, topic in self._read_sib(language, "train"):
            by_topic.setdefault(topic, []).append(text)
        return by_topic

    def sib_dev(self, languages: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
        """Read SIB-200's development part: texts by language, and the labels that all languages share."""
        rows = {language: sorted(self._read_sib(language, "dev")) for language in languages}
        labels = {tuple(label for _, _, label in table) for table in rows.values()}
        if len(labels) != 1:
            raise TextError(f"{self._sib}: the dev files do not hold the same sentences in all languages")
        texts = {language: [text for _, text, _ in table] for language, table in rows.items()}
        return texts, list(labels.pop())

    def tico(self, languages: Sequence[str], *, n_lines: int) -> Parallel:
        """Read TICO-19: another domain than anything that is fitted on."""
        columns = {
            language: [line for _, line in read_lines(self._tico / f"tico19-test.{language}")]
            for language in languages
        }
        lengths = {len(column) for column in columns.values()}
        if len(lengths) != 1:
            raise TextError(f"{self._tico}: the files differ in their number of lines")
        keep = evenly_spaced(lengths.pop(), n_lines)
        return Parallel(
            name="tico-19",
            pivot="en",
            by_language={language: [column[line] for line in keep] for language, column in columns.items()},
        )

    def xsid(self, languages: Sequence[str], *, n_texts: int) -> tuple[dict[str, list[str]], list[str]]:
        """Read xSID's validation part: commands to an assistant by language, and the intents they share."""
        texts: dict[str, list[str]] = {}
        intents: dict[str, list[str]] = {}
        for language in languages:
            path = self._xsid / f"{language}.valid.conll"
            fields = [line[2:].partition(" = ") for _, line in read_lines(path) if line.startswith("# ")]
            texts[language] = [value for name, _, value in fields if name == "text"]
            intents[language] = [value for name, _, value in fields if name == "intent"]
        first = intents[languages[0]]
        for language, values in intents.items():
            if values != first or len(texts[language]) != len(first):
                raise TextError(f"{self._xsid}: {language} does not hold the sentences of {languages[0]}")
        keep = evenly_spaced(len(first), n_texts)
        return (
            {language: [column[position] for position in keep] for language, column in texts.items()},
            [first[position] for position in keep],
        )

    def _read_ntrex(self, language: str) -> list[str]:
        part = "src" if language == "eng" else "ref"
        return [line for _, line in read_lines(self._ntrex / f"newstest2019-{part}.{language}.txt")]

    def _read_sib(self, language: str, split: str) -> list[tuple[int, str, str]]:
        path = self._sib / language / f"{split}.tsv"
        table = csv.DictReader((line for _, line in read_lines(path)), delimiter="\t", quoting=csv.QUOTE_NONE)
        try:
            return [(int(row["index_id"]), row["text"], row["category"]) for row in table]
        except (KeyError, TypeError, ValueError) as error:
            raise TextError(f"{path}: columns index_id, category and text are needed ({error})") from error


def read_sts(root: Path, languages: Sequence[str], *, n_pairs: int | None = None) -> ScoredPairs:
    """Read development pairs of the multilingual STS benchmark.

    Parameters
    ----------
    root : Path
        ALIGNSTREAM_DATA.
    languages : sequence of str
        Some of ``STS_LANGUAGES``.
    n_pairs : int, optional
        Pairs of each language at most.

    Raises
    ------
    TextError
        A file is missing, or differs from the benchmark's.
    """
    pairs = ScoredPairs("stsb-dev", {}, {}, {})
    for language in languages:
        path = root / "stsb_multi_mt" / "data" / f"stsb-{language}-dev.csv"
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file))
            keep = [rows[position] for position in evenly_spaced(len(rows), n_pairs or len(rows))]
            pairs.first[language] = [row[0] for row in keep]
            pairs.second[language] = [row[1] for row in keep]
            pairs.scores[language] = [float(row[2]) for row in keep]
        except (OSError, ValueError, IndexError) as error:
            raise TextError(f"cannot read {path}: {error}") from error
    return pairs
