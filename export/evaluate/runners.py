"""One task on one set each: read its texts, encode what is not stored, judge raw vectors, align, judge again."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.export.data.texts import Parallel, evenly_spaced
from alignstream.export.evaluate import formats, tasks, within
from alignstream.export.evaluate import label_tasks as labelling
from alignstream.export.evaluate.public_tasks import Choice, NamedSets
from alignstream.export.evaluate.report import repeated_note, slipped_warning
from alignstream.export.evaluate.session import Data, Session
from alignstream.export.evaluate.word_alignment import (
    Means,
    WordTokens,
    judge_words,
    text_of,
    word_tokens,
)
from alignstream.models.arrays import Indices, Matrix
from alignstream.models.errors import EvaluationError, TextError, WrongUsage
from alignstream.models.labels.label_set import check_template, render

#: Sentences whose token vectors are asked for at once.
_SENTENCES: Final = 64
NO_TRAIN: Final = "'head' needs texts of the pivot to train on: give --train FILE beside the file to judge on"
#: Names in the cache that fitting uses too, so that nothing is encoded twice.
_PARTS: Final = {"xsid-valid": "xsid"}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a task gave: the set's name, its pivot, its sizes by language, the figures, and what to say of them."""

    name: str
    pivot: str
    n_texts: dict[str, int]
    results: tasks.Results
    notes: list[str]
    warnings: list[str]


@dataclasses.dataclass(frozen=True)
class _Lines:
    """Parallel text as vectors: raw ones until ``align`` has run, as there is memory for one copy alone.

    Parameters
    ----------
    name, pivot : str
    vectors : dict of str to ndarray of shape (n_lines, dim) or (n_distinct, dim), float32
    same : dict of str to ndarray of shape (n_lines,), int64
        By language, the first line with the text of each line; or the row of its text, where each has one.
    n_repeated : dict of str to int
        By language, the lines whose text stood before; languages without any are left out.
    """

    name: str
    pivot: str
    vectors: dict[str, Matrix]
    same: dict[str, Indices]
    n_repeated: dict[str, int]

    @property
    def sizes(self) -> dict[str, int]:
        """Lines of each language."""
        return {language: len(lines) for language, lines in self.same.items()}

    def align(self, session: Session) -> None:
        """Replace raw vectors by aligned ones."""
        for language, X in self.vectors.items():
            session.align_in_place(X, language)

    def notes(self, effect: str) -> list[str]:
        """Say how many texts stand more than once, and what follows."""
        return repeated_note(self.n_repeated, effect)


def _retrieval(session: Session, data: Data, name: str | None) -> Outcome:
    lines = _embedded(session, data, name)
    block_bytes = session.block_bytes
    raw = tasks.retrieve(
        lines.vectors, lines.pivot, is_aligned=False, same=lines.same, block_bytes=block_bytes
    )
    lines.align(session)
    aligned = tasks.retrieve(
        lines.vectors, lines.pivot, is_aligned=True, same=lines.same, block_bytes=block_bytes
    )
    found = tasks.joined(raw, aligned)
    shares = tasks.right_shares(lines.same, lines.pivot)
    return _outcome(
        lines.name,
        lines.sizes,
        found,
        pivot=lines.pivot,
        notes=lines.notes("a candidate with the text of the right one counts as right"),
        warnings=_slipped(
            tasks.at_chance(found, (tasks.TO_PIVOT, tasks.FROM_PIVOT), shares), data, lines.name
        ),
    )


def _pool(session: Session, data: Data, name: str | None) -> Outcome:
    lines = _embedded(session, data, name, is_distinct=True)
    block_bytes = session.block_bytes
    gold = {
        language: np.stack([rows, lines.same[lines.pivot]], axis=1)
        for language, rows in lines.same.items()
        if language != lines.pivot
    }

    def with_pivot(*, is_aligned: bool) -> tasks.Results:
        # Whether lines belong together shows in retrieval: the pool may be hard where they do.
        sides = {language: (lines.vectors[language], lines.vectors[lines.pivot]) for language in gold}
        return tasks.find_terms(
            sides, gold, is_aligned=is_aligned, with_corrections=False, block_bytes=block_bytes
        )

    raw = tasks.find_in_pool(lines.vectors, is_aligned=False, rows=lines.same, block_bytes=block_bytes)
    checked = with_pivot(is_aligned=False)
    lines.align(session)
    aligned = tasks.find_in_pool(lines.vectors, is_aligned=True, rows=lines.same, block_bytes=block_bytes)
    checked = tasks.joined(checked, with_pivot(is_aligned=True))
    return _outcome(
        lines.name,
        lines.sizes,
        tasks.joined(raw, aligned),
        notes=lines.notes("each text stands in the pool once"),
        warnings=_slipped(_lists_at_chance(checked, gold), data, lines.name),
    )


def _neighbours(session: Session, data: Data, name: str | None) -> Outcome:
    lines = _embedded(session, data, name, is_distinct=True)
    if few := [language for language, X in lines.vectors.items() if len(X) < 2]:
        raise TextError(f"{lines.name}: at least two texts that differ are needed in {formats.few(few)}")
    before = {
        language: within.nearest_within(X, block_bytes=session.block_bytes)
        for language, X in lines.vectors.items()
    }
    lines.align(session)
    after = {
        language: within.nearest_within(X, block_bytes=session.block_bytes)
        for language, X in lines.vectors.items()
    }
    notes = [
        "Raw is 100 by definition: what counts is the neighbours that raw vectors have.",
        *lines.notes("each counts once"),
    ]
    sizes = {language: len(X) for language, X in lines.vectors.items()}
    return _outcome(lines.name, sizes, within.kept(before, after), notes=notes)


def _labels(session: Session, data: Data, name: str | None) -> Outcome:
    check_template(session.template)
    texts = _labelled(data, name)
    labels = list(texts.words)
    raw = session.embed(_part(name, texts.name), texts.texts)
    rendered = [render(session.template, words) for words in texts.words.values()]
    prototypes = session.embed("labels", {"eng": rendered})["eng"]
    found = labelling.labels(
        raw,
        session.align_all(raw),
        (prototypes, session.align(prototypes, None)),
        {language: _positions(gold, labels) for language, gold in texts.gold.items()},
        common=session.adapter.common_direction(),
    )
    return _outcome(texts.name, _sizes(raw), found)


def _head(session: Session, data: Data, name: str | None) -> Outcome:
    texts = _labelled(data, name)
    if texts.train is None:
        raise WrongUsage(NO_TRAIN)
    train_texts, train_gold = texts.train
    labels = sorted(set(train_gold) | {label for gold in texts.gold.values() for label in gold})
    raw = session.embed(_part(name, texts.name), texts.texts)
    part = "sib-train" if name == "sib-dev" else f"{_part(name, texts.name)}-train"
    train = session.embed(part, {texts.train_language: train_texts})[texts.train_language]
    found = labelling.head(
        raw,
        session.align_all(raw),
        (train, session.align(train, texts.train_language)),
        _positions(train_gold, labels),
        {language: _positions(gold, labels) for language, gold in texts.gold.items()},
    )
    return _outcome(texts.name, _sizes(raw), found, pivot=texts.train_language)


def _terms(session: Session, data: Data, name: str | None) -> Outcome:
    lists = formats.terms_of(_own_parallel(data)) if name is None else _sets(data).terms(name, data.choice)
    if not lists.lists:
        raise TextError(f"{lists.name}: at least two pairs of terms that differ are needed")
    part = _part(name, lists.name)
    gold = {key: np.array(item.pairs, dtype=np.int64) for key, item in lists.lists.items()}
    found: tasks.Results = {}
    for key, item in lists.lists.items():
        sides = session.embed(part, {f"{key}.source": item.source, f"{key}.target": item.target})
        vectors = {key: (sides[f"{key}.source"], sides[f"{key}.target"])}
        raw = tasks.find_terms(vectors, gold, is_aligned=False, block_bytes=session.block_bytes)
        session.align_in_place(vectors[key][0], item.source_language)
        session.align_in_place(vectors[key][1], item.target_language)
        aligned = tasks.find_terms(vectors, gold, is_aligned=True, block_bytes=session.block_bytes)
        for measure, columns in tasks.joined(raw, aligned).items():
            for column, scores in columns.items():
                whole = found.setdefault(measure, {}).setdefault(column, tasks.Scores({}))
                whole.figures.update(scores.figures)
                whole.per_text.update(scores.per_text)
    pivots = {item.target_language for item in lists.lists.values()}
    return _outcome(
        lists.name,
        {key: len(item.pairs) for key, item in lists.lists.items()},
        found,
        pivot=pivots.pop() if len(pivots) == 1 else "",
        notes=["A term that stands more than once counts once, and any of its translations is right."],
        warnings=_slipped(_lists_at_chance(found, gold), data, lists.name),
    )


def _words(session: Session, data: Data, name: str | None) -> Outcome:
    if session.encode_tokens is None:
        raise EvaluationError("'words' needs token vectors, which this encoder does not give")
    if name is None:
        texts = formats.read_words(_path(data), alignments=data.alignments)
    else:
        texts = _sets(data).words(data.choice)
    tokens, gold = {}, {}
    means: dict[str, Means] = {}
    for (source, target), pairs in texts.pairs.items():
        keep = [pairs[line] for line in evenly_spaced(len(pairs), data.choice.limit or len(pairs))]
        key = f"{source}-{target}"
        sides = (
            _tokens(session, [pair.source for pair in keep]),
            _tokens(session, [pair.target for pair in keep]),
        )
        tokens[key] = list(zip(*sides, strict=True))
        gold[key] = [pair.links for pair in keep]
        own = session.token_means(source, target)
        if own is not None:
            means[key] = own
    sizes = {key: len(pairs) for key, pairs in tokens.items()}
    note = (
        "Adapter: tokens less the means of both languages that the adapter's first step subtracts from sentences (of "
        "all its languages where it does not know both); its other steps play no part."
        if means
        else "The adapter plays no part: it holds no means that fit this encoder's tokens."
    )
    notes = [
        note,
        "Token means removed: each language's tokens less their own mean over the other half of these sentence pairs.",
    ]
    return _outcome(texts.name, sizes, judge_words(tokens, gold, means or None), notes=notes)


def _similarity(session: Session, data: Data, name: str | None) -> Outcome:
    if name is None:
        texts = _scored_part(formats.read_scored(_path(data)), data.choice)
        parts = f"evaluate-{texts.name}-a", f"evaluate-{texts.name}-b"
    else:
        texts, parts = _sets(data).scored(data.choice), ("sts-a", "sts-b")
    first, second = session.embed(parts[0], texts.first), session.embed(parts[1], texts.second)
    found = within.similarity(
        {language: (first[language], second[language]) for language in first},
        {
            language: (session.align(first[language], language), session.align(second[language], language))
            for language in first
        },
        {language: np.array(scores, dtype=np.float64) for language, scores in texts.scores.items()},
    )
    return _outcome(texts.name, _sizes(first), found)


RUN: Final[Mapping[str, Callable[[Session, Data, str | None], Outcome]]] = {
    "retrieval": _retrieval,
    "pool": _pool,
    "neighbours": _neighbours,
    "labels": _labels,
    "head": _head,
    "terms": _terms,
    "words": _words,
    "similarity": _similarity,
}


def _outcome(
    name: str,
    sizes: dict[str, int],
    results: tasks.Results,
    *,
    pivot: str = "",
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> Outcome:
    return Outcome(
        name=name, pivot=pivot, n_texts=sizes, results=results, notes=list(notes), warnings=list(warnings)
    )


def _lists_at_chance(found: tasks.Results, gold: Mapping[str, Indices]) -> list[str]:
    """Return the lists whose translations are found by chance; a random term is right as often as pairs are many.

    Parameters
    ----------
    found : dict
        Of ``tasks.find_terms``.
    gold : mapping of str to ndarray of shape (n_pairs, 2), int64
        As for it: every position stands in a pair.
    """
    shares = {}
    for key, pairs in gold.items():
        n_source, n_target = pairs.max(axis=0) + 1
        shares[key] = len(np.unique(pairs[:, 0] * n_target + pairs[:, 1])) / float(n_source * n_target)
    return tasks.at_chance(found, (tasks.TO_TARGET, tasks.TO_SOURCE), shares)


def _slipped(languages: Sequence[str], data: Data, name: str) -> list[str]:
    where = name if data.path is None else str(data.path)
    return slipped_warning(languages, where, "raw and with the adapter")


def _sets(data: Data) -> NamedSets:
    if data.root is None:
        raise EvaluationError("the public sets are not there: set ALIGNSTREAM_DATA to their folder")
    return NamedSets(data.root)


def _path(data: Data) -> Path:
    if data.path is None:
        raise EvaluationError("there is no file to read")
    return data.path


def _part(name: str | None, own: str) -> str:
    """Return the name that vectors have in the cache: files of one's own never meet the named sets."""
    return f"evaluate-{own}" if name is None else _PARTS.get(name, name)


def _embedded(session: Session, data: Data, name: str | None, *, is_distinct: bool = False) -> _Lines:
    """Read and encode parallel text, each line or each distinct text; the texts themselves are let go."""
    texts = _own_parallel(data) if name is None else _sets(data).parallel(name, data.choice)
    if len(texts.by_language) < 2 or texts.n_lines < 2:
        raise TextError(f"{texts.name}: at least two languages and two lines are needed")
    same, columns, n_repeated = {}, dict(texts.by_language), {}
    for language, column in texts.by_language.items():
        first = tasks.first_lines(column)
        kept, rows = np.unique(first, return_inverse=True)
        if len(kept) < len(column):
            n_repeated[language] = len(column) - len(kept)
        if is_distinct:
            columns[language] = [column[line] for line in kept]
        same[language] = rows.astype(np.int64) if is_distinct else first
    vectors = session.embed(_part(name, texts.name), columns)
    return _Lines(texts.name, texts.pivot, vectors, same, n_repeated)


def _own_parallel(data: Data) -> Parallel:
    choice = data.choice
    texts = formats.read_parallel(_path(data), pivot=choice.pivot)
    languages = formats.choose_languages(list(texts.by_language), choice.languages, texts.name)
    kept = {
        language: column
        for language, column in texts.by_language.items()
        if language in languages or language == texts.pivot
    }
    return formats.limited(dataclasses.replace(texts, by_language=kept), choice.limit)


def _labelled(data: Data, name: str | None) -> formats.Labelled:
    if name is not None:
        return _sets(data).labelled(name, data.choice)
    choice = data.choice
    texts = formats.read_labelled(_path(data), train=data.train, pivot=choice.pivot)
    kept = _kept({language: len(items) for language, items in texts.texts.items()}, choice, texts.name)
    return dataclasses.replace(
        texts,
        texts={language: [texts.texts[language][n] for n in lines] for language, lines in kept.items()},
        gold={language: [texts.gold[language][n] for n in lines] for language, lines in kept.items()},
    )


def _scored_part(texts: formats.ScoredPairs, choice: Choice) -> formats.ScoredPairs:
    kept = _kept({language: len(items) for language, items in texts.scores.items()}, choice, texts.name)
    return formats.ScoredPairs(
        name=texts.name,
        first={language: [texts.first[language][n] for n in lines] for language, lines in kept.items()},
        second={language: [texts.second[language][n] for n in lines] for language, lines in kept.items()},
        scores={language: [texts.scores[language][n] for n in lines] for language, lines in kept.items()},
    )


def _kept(sizes: Mapping[str, int], choice: Choice, where: str) -> dict[str, list[int]]:
    """Return the lines of each language that is wanted, evenly spaced up to the limit."""
    languages = formats.choose_languages(list(sizes), choice.languages, where)
    return {
        language: evenly_spaced(sizes[language], choice.limit or sizes[language]) for language in languages
    }


def _tokens(session: Session, sentences: Sequence[Sequence[str]]) -> list[WordTokens]:
    if session.encode_tokens is None:
        raise EvaluationError("'words' needs token vectors, which this encoder does not give")
    found = []
    for start in range(0, len(sentences), _SENTENCES):
        part = sentences[start : start + _SENTENCES]
        encoded = session.encode_tokens([text_of(words) for words in part])
        found += [word_tokens(words, tokens) for words, tokens in zip(part, encoded, strict=True)]
    return found


def _positions(gold: Sequence[str], labels: Sequence[str]) -> NDArray[np.int64]:
    place = {label: position for position, label in enumerate(labels)}
    return np.array([place[label] for label in gold], dtype=np.int64)


def _sizes(vectors: Mapping[str, Matrix]) -> dict[str, int]:
    return {language: len(X) for language, X in vectors.items()}
