"""Read translations to fit on: TSV, JSON lines, TMX and Moses' pairs of plain files, with the line of every pair.

Nothing here encodes or fits. Errors that show in the text alone are refused here, naming file and line: cells
that are missing, duplicate pairs, the same text on both sides, text that is in the development set too.
"""

import dataclasses
import xml.sax
import xml.sax.handler
import xml.sax.xmlreader
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from alignstream.export.data.lines import (
    JSON_SUFFIXES,
    MAX_LINE_BYTES,
    check_language,
    check_unicode,
    read_lines,
    read_objects,
)
from alignstream.export.data.texts import normalised
from alignstream.models.adapter.languages import same_language
from alignstream.models.errors import TextError

#: More pairs than this no longer change a closed-form map; they would only cost encoding.
MAX_PAIRS: Final = 1_000_000
#: Up to this many pairs with equal sides are names and numbers; more mean a copied column.
MAX_EQUAL_SHARE: Final = 0.2

_XML_LANGUAGE: Final = "xml:lang"


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Translations between two languages.

    Parameters
    ----------
    name : str
        File or files, for messages.
    source_language, target_language : str
        Tags as in the file.
    source, target : list of str
        Item i of one translates item i of the other.
    lines : list of int
        Line of each pair in its file, from 1.
    """

    name: str
    source_language: str
    target_language: str
    source: list[str]
    target: list[str]
    lines: list[int]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.lines)


_Row = tuple[int, str, str, str, str]


def read_pairs(path: Path, *, target: str | None = None) -> Pairs:
    """Read translations between two languages.

    Parameters
    ----------
    path : Path
        ``.tsv``: a header with two language tags, then two texts a line. ``.jsonl``: objects with ``source``,
        ``target``, ``source_language`` and ``target_language``. ``.tmx``: translation units. Anything else: the
        common prefix of two plain files (Moses), ``<path>.<language>`` each.
    target : str, optional
        Which of the two languages is the target, by any of its tags: ``en`` for ``eng_Latn``. Default: the
        second one; of Moses' files, English or the second by name.

    Raises
    ------
    TextError
        A file is missing, not UTF-8, malformed or empty, holds other than two languages, an unknown tag, or a
        pair twice.
    """
    name, rows = _open(path)
    pairs = _collect(name, rows)
    if target is not None and not same_language(target, pairs.target_language):
        if not same_language(target, pairs.source_language):
            raise TextError(
                f"{name}: pairs of {pairs.source_language} and {pairs.target_language}; "
                f"neither is the target language {target!r}"
            )
        pairs = dataclasses.replace(
            pairs,
            source_language=pairs.target_language,
            target_language=pairs.source_language,
            source=pairs.target,
            target=pairs.source,
        )
    _check_columns(pairs)
    return pairs


def check_overlap(fit: Pairs, dev: Pairs) -> None:
    """Refuse evaluation texts that are also training texts, ignoring case, width and spacing.

    Raises
    ------
    TextError
        A source or a target text of one is in the other; the message names both lines.
    """
    for side in ("source", "target"):
        known = {normalised(text): line for text, line in zip(getattr(dev, side), dev.lines, strict=True)}
        for text, line in zip(getattr(fit, side), fit.lines, strict=True):
            if normalised(text) in known:
                raise TextError(
                    f"{fit.name}, line {line}: this {side} text is line {known[normalised(text)]} of {dev.name} too; "
                    "remove it from one file, or the figures are meaningless"
                )


def _open(path: Path) -> tuple[str, Iterator[_Row]]:
    if path.suffix.lower() == ".tmx":
        return str(path), iter(_read_tmx(path))
    if path.suffix.lower() in JSON_SUFFIXES:
        return str(path), _read_json_lines(path)
    try:
        is_table = path.suffix.lower() in {".tsv", ".tab"} or path.is_file()
    except OSError as error:
        raise TextError(f"cannot read {path}: {error.strerror or error}") from error
    if is_table:
        return str(path), _read_tsv(path)
    first, second = _moses_files(path)
    return f"{first} and {second.name}", _read_moses(first, second)


def _collect(name: str, rows: Iterator[_Row]) -> Pairs:
    languages: tuple[str, str] | None = None
    seen: dict[tuple[str, str], int] = {}
    source: list[str] = []
    target: list[str] = []
    lines: list[int] = []
    for line, source_language, target_language, one, other in rows:
        if languages is None:
            languages = (source_language, target_language)
            _check_two_languages(*languages, f"{name}, line {line}")
        if not all(map(same_language, languages, (source_language, target_language))):
            raise TextError(
                f"{name}, line {line}: a pair of {source_language} and {target_language} among pairs of "
                f"{languages[0]} and {languages[1]}; one file holds two languages, always in the same order"
            )
        pair = (normalised(one), normalised(other))
        if pair in seen:
            raise TextError(
                f"{name}, line {line}: the pair of line {seen[pair]} again, but for case and spacing at most; a pair "
                "that occurs twice counts twice: keep one of them"
            )
        if len(lines) == MAX_PAIRS:
            raise TextError(f"{name}: more than {MAX_PAIRS} pairs; a sample of them gives the same map")
        seen[pair] = line
        source.append(one)
        target.append(other)
        lines.append(line)
    if languages is None:
        raise TextError(f"{name}: there are no pairs")
    return Pairs(name, *languages, source, target, lines)


def _check_two_languages(one: str, other: str, where: str) -> None:
    if same_language(one, other):
        both = repr(one) if one == other else f"one language, {one!r} and {other!r}"
        raise TextError(f"{where}: both sides are {both}; pairs of two languages are needed")


def _check_columns(pairs: Pairs) -> None:
    equal = [
        line
        for one, other, line in zip(pairs.source, pairs.target, pairs.lines, strict=True)
        if normalised(one) == normalised(other)
    ]
    if len(equal) > MAX_EQUAL_SHARE * len(pairs):
        raise TextError(
            f"{pairs.name}, line {equal[0]}: {pairs.source_language} and {pairs.target_language} are the same text, "
            f"as in {len(equal)} of {len(pairs)} pairs; was a column copied?"
        )


def _read_tsv(path: Path) -> Iterator[_Row]:
    lines = read_lines(path)
    _, header = next(lines, (1, ""))
    tags = header.split("\t")
    if len(tags) != 2:
        raise TextError(
            f"{path}, line 1: a header of two language tags with a tab between them is needed, such as 'sw<TAB>en'"
        )
    source_language, target_language = (check_language(tag, path, 1, is_header=True) for tag in tags)
    _check_two_languages(source_language, target_language, f"{path}, line 1")
    for number, line in lines:
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != 2 or not all(cells):
            raise TextError(
                f"{path}, line {number}: two texts with a tab between them are needed, none blank, but there are "
                f"{sum(map(bool, cells))} in {len(cells)} cells"
            )
        yield number, source_language, target_language, cells[0], cells[1]


def _read_json_lines(path: Path) -> Iterator[_Row]:
    needed = ("source_language", "target_language", "source", "target")
    for number, record in read_objects(path):
        values = [record.get(name) for name in needed]
        strings = [value.strip() for value in values if isinstance(value, str)]
        if len(strings) != len(needed) or not all(strings):
            raise TextError(
                f"{path}, line {number}: an object with strings {', '.join(needed)} is needed, none blank"
            )
        check_unicode("".join(strings), path, number)
        one, other = (check_language(tag, path, number) for tag in strings[:2])
        yield number, one, other, strings[2], strings[3]


def _moses_files(prefix: Path) -> tuple[Path, Path]:
    files = sorted(path for path in prefix.parent.glob(f"{prefix.name}.*") if path.is_file())
    if len(files) != 2:
        names = ", ".join(path.name for path in files) or "none"
        raise TextError(
            f"{prefix} is not a file, and Moses needs two plain files {prefix.name}.<language>; found: {names}"
        )
    english = [path for path in files if same_language(path.suffix[1:], "en")]
    if english and english[0] == files[0]:
        files.reverse()
    return files[0], files[1]


def _read_moses(first: Path, second: Path) -> Iterator[_Row]:
    languages = [check_language(path.suffix[1:], path, None) for path in (first, second)]
    columns = [[line.strip() for _, line in read_lines(path)] for path in (first, second)]
    if len(columns[0]) != len(columns[1]):
        raise TextError(
            f"{first} has {len(columns[0])} lines, {second} {len(columns[1])}; line i of one translates line i of "
            "the other, so they must have the same number of lines"
        )
    for number, (one, other) in enumerate(zip(*columns, strict=True), start=1):
        if not one and not other:
            continue
        if not one or not other:
            raise TextError(
                f"{first if not one else second}, line {number}: blank, but the other side is not"
            )
        yield number, languages[0], languages[1], one, other


class _TmxHandler(xml.sax.handler.ContentHandler):
    """Collect ``<tu>`` of two ``<tuv xml:lang>`` with a ``<seg>`` each; inline codes are left out."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.rows: list[_Row] = []
        self._path = path
        self._header_language = ""
        self._variants: list[tuple[str, str]] = []
        self._language = ""
        self._text: list[str] | None = None
        self._n_bytes = 0
        self._line = 0
        self._codes = 0

    def startElement(self, name: str, attrs: xml.sax.xmlreader.AttributesImpl) -> None:  # noqa: N802 (the library's name)
        """Open an element."""
        if name == "header":
            self._header_language = attrs.get("srclang", "")
        elif name == "tu":
            self._line = int(self._locator.getLineNumber() or 0)  # type: ignore[attr-defined]
            self._variants = []
        elif name == "tuv":
            tag = attrs.get(_XML_LANGUAGE) or attrs.get("lang") or ""
            self._language = check_language(tag, self._path, self._line)
        elif name == "seg":
            self._text = []
            self._n_bytes = 0
        elif name in {"bpt", "ept", "it", "ph", "ut"}:
            self._codes += 1

    def characters(self, content: str) -> None:
        """Take text of a segment."""
        if self._text is not None and self._codes == 0:
            self._n_bytes += len(content.encode())
            if self._n_bytes > MAX_LINE_BYTES:
                raise TextError(
                    f"{self._path}, line {self._line}: a segment longer than {MAX_LINE_BYTES} bytes; a unit holds one "
                    "text and its translation: split it"
                )
            self._text.append(content)

    def endElement(self, name: str) -> None:  # noqa: N802 (the library's name)
        """Close an element."""
        if name in {"bpt", "ept", "it", "ph", "ut"}:
            self._codes -= 1
        elif name == "seg" and self._text is not None:
            text = " ".join("".join(self._text).split())
            self._variants.append((self._language, text))
            self._text = None
        elif name == "tu":
            self._unit()

    def _unit(self) -> None:
        if len(self._variants) != 2 or not all(text for _, text in self._variants):
            raise TextError(
                f"{self._path}, line {self._line}: a translation unit must have two variants, each with text, "
                f"but has {sum(bool(text) for _, text in self._variants)}"
            )
        # Tools write variants in any order; the header says which language is the source.
        source = self._header_language
        first, second = sorted(self._variants, key=lambda variant: not same_language(variant[0], source))
        self.rows.append((self._line, first[0], second[0], first[1], second[1]))


def _read_tmx(path: Path) -> list[_Row]:
    handler = _TmxHandler(path)
    try:
        # Expat since 2.4.1 limits the amplification of entities by itself.
        parser = xml.sax.make_parser()  # noqa: S317
        # A memory is data: no external entity or document type is fetched for it.
        parser.setFeature(xml.sax.handler.feature_external_ges, False)
        parser.setFeature(xml.sax.handler.feature_external_pes, False)
        parser.setContentHandler(handler)
        with path.open("rb") as file:
            parser.parse(file)
    except OSError as error:
        raise TextError(f"cannot read {path}: {error.strerror or error}") from error
    except xml.sax.SAXParseException as error:
        raise TextError(f"{path}, line {error.getLineNumber()}: not TMX: {error.getMessage()}") from error
    except (LookupError, ValueError) as error:
        # Expat asks Python for an encoding that it does not know itself.
        raise TextError(
            f"{path}, line 1: the encoding that the file declares cannot be read ({error}); convert the file to UTF-8"
        ) from error
    return handler.rows
