"""Run one task on one set: read its texts, encode new ones, judge raw vectors, align, judge again."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from alignstream.export.data.selection import listed
from alignstream.export.data.vector_sets import ScoredVectors
from alignstream.export.evaluate import chance, measures
from alignstream.export.evaluate.columns import (
    ADAPTER,
    RAW,
    Results,
    in_column,
    joined,
    plain_column,
    with_corrections,
)
from alignstream.export.evaluate.exact_search import nearest
from alignstream.export.evaluate.head import head_accuracy
from alignstream.export.evaluate.measures import Scores
from alignstream.export.evaluate.report import repeated_note, slipped_warning
from alignstream.export.evaluate.session import Session
from alignstream.export.evaluate.task_texts import (
    TaskTexts,
    cache_part,
    distinct_lines,
    encode_lines,
    read_lines_of,
)
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

#: Sentences whose token vectors are computed at once.
_SENTENCES: Final = 64
NO_TRAIN: Final = (
    "'head' needs texts of the pivot to train on: give --train FILE besides the file to judge on"
)
_NO_TOKENS: Final = "'words' needs token vectors, which this encoder does not give"


@dataclasses.dataclass(frozen=True)
class TaskOutcome:
    """The results of a task.

    Parameters
    ----------
    name, pivot : str
        The set, and its pivot where the task has one.
    n_texts : dict of str to int
        By language.
    results : dict
        Figures by measure and column.
    notes, warnings : sequence of str
        What to say of the figures, and of the texts.
    """

    name: str
    n_texts: dict[str, int]
    results: Results
    pivot: str = ""
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()


def _retrieval(session: Session, texts: TaskTexts, name: str | None) -> TaskOutcome:
    lines = encode_lines(session, texts, name)

    def judged(*, is_aligned: bool) -> Results:
        return with_corrections(
            lambda find: measures.retrieval(lines.vectors, lines.pivot, same=lines.same, find=find),
            is_aligned=is_aligned,
            block_bytes=session.block_bytes,
        )

    raw = judged(is_aligned=False)
    lines.align(session)
    results = joined(raw, judged(is_aligned=True))
    shares = chance.right_shares(lines.same, lines.pivot)
    return TaskOutcome(
        lines.name,
        lines.sizes,
        results,
        pivot=lines.pivot,
        notes=lines.notes("a candidate with the text of the right one counts as right"),
        warnings=_slipped(chance.at_chance(results, results, shares), texts, lines.name),
    )


def _pool(session: Session, texts: TaskTexts, name: str | None) -> TaskOutcome:
    lines = encode_lines(session, texts, name, is_distinct=True)
    gold = {
        language: np.stack([rows, lines.same[lines.pivot]], axis=1)
        for language, rows in lines.same.items()
        if language != lines.pivot
    }

    def judged(*, is_aligned: bool) -> tuple[Results, Results]:
        """Return the pool, and retrieval as a check: where lines are alike the pool is hard, but retrieval is not."""
        sides = {language: (lines.vectors[language], lines.vectors[lines.pivot]) for language in gold}
        column = plain_column(is_aligned=is_aligned)
        pool = measures.mixed_pool(lines.vectors, rows=lines.same, block_bytes=session.block_bytes)
        with_pivot = measures.term_retrieval(sides, gold, find=_plain_find(session))
        return in_column(column, {measures.MIXED_POOL: pool}), in_column(column, with_pivot)

    raw, raw_check = judged(is_aligned=False)
    lines.align(session)
    aligned, aligned_check = judged(is_aligned=True)
    check = joined(raw_check, aligned_check)
    return TaskOutcome(
        lines.name,
        lines.sizes,
        joined(raw, aligned),
        notes=lines.notes("each text is in the pool once"),
        warnings=_slipped(chance.at_chance(check, check, chance.right_term_shares(gold)), texts, lines.name),
    )


def _neighbours(session: Session, texts: TaskTexts, name: str | None) -> TaskOutcome:
    parallel = read_lines_of(texts, name)
    columns, _, n_repeated = distinct_lines(parallel, is_distinct=True)
    if few := [language for language, column in columns.items() if len(column) < 2]:
        raise TextError(f"{parallel.name}: at least two texts that differ are needed in {listed(few)}")
    part, kept = cache_part(name, parallel.name), {}
    # One language at a time: raw and aligned vectors are both needed, and there is no memory for two copies of all.
    for language, column in columns.items():
        X = session.embed(part, {language: column})[language]
        kept[language] = measures.neighbours_kept(X, session.align(X, language))
    results: Results = {measures.NEIGHBOURS: {RAW: Scores(dict.fromkeys(kept, 100.0)), ADAPTER: Scores(kept)}}
    notes = [
        "Raw is 100 by definition: the neighbours among raw vectors are the reference.",
        *repeated_note(n_repeated, "each counts once"),
    ]
    sizes = {language: len(column) for language, column in columns.items()}
    return TaskOutcome(parallel.name, sizes, results, notes=notes)


def _labels(session: Session, texts: TaskTexts, name: str | None) -> TaskOutcome:
    check_template(session.template)
    labelled = texts.labelled(name)
    labels = list(labelled.words)
    raw = session.embed(cache_part(name, labelled.name), labelled.texts)
    rendered = [render(session.template, words) for words in labelled.words.values()]
    prototypes = session.embed("labels", {"eng": rendered})["eng"]
    gold = {language: _positions(column, labels) for language, column in labelled.gold.items()}
    aligned = measures.label_accuracy(
        session.align_all(raw),
        session.align(prototypes, None),
        gold,
        common=session.adapter.common_direction(),
    )
    columns = {RAW: measures.label_accuracy(raw, prototypes, gold), ADAPTER: aligned}
    return TaskOutcome(labelled.name, _sizes(raw), {measures.LABELS: columns})


def _head(session: Session, texts: TaskTexts, name: str | None) -> TaskOutcome:
    labelled = texts.labelled(name)
    if labelled.train is None:
        raise WrongUsage(NO_TRAIN)
    train_texts, train_labels = labelled.train
    labels = sorted(set(train_labels) | {label for column in labelled.gold.values() for label in column})
    own = cache_part(name, labelled.name)
    raw = session.embed(own, labelled.texts)
    part = "sib-train" if name == "sib-dev" else f"{own}-train"
    train = session.embed(part, {labelled.train_language: train_texts})[labelled.train_language]
    gold = {language: _positions(column, labels) for language, column in labelled.gold.items()}
    train_gold = _positions(train_labels, labels)
    columns = {
        RAW: head_accuracy(raw, gold, train=train, train_gold=train_gold),
        ADAPTER: head_accuracy(
            session.align_all(raw),
            gold,
            train=session.align(train, labelled.train_language),
            train_gold=train_gold,
        ),
    }
    return TaskOutcome(labelled.name, _sizes(raw), {measures.HEAD: columns}, pivot=labelled.train_language)


def _terms(session: Session, texts: TaskTexts, name: str | None) -> TaskOutcome:
    terms = texts.terms(name)
    if not terms.lists:
        raise TextError(f"{terms.name}: at least two pairs of terms that differ are needed")
    part = cache_part(name, terms.name)
    gold = {key: np.array(one_list.pairs, dtype=np.int64) for key, one_list in terms.lists.items()}
    results: Results = {}
    for key, one_list in terms.lists.items():
        sides = session.embed(part, {f"{key}.source": one_list.source, f"{key}.target": one_list.target})
        vectors = {key: (sides[f"{key}.source"], sides[f"{key}.target"])}

        def judged(vectors: dict[str, tuple[Matrix, Matrix]] = vectors, *, is_aligned: bool) -> Results:
            return with_corrections(
                lambda find: measures.term_retrieval(vectors, gold, find=find),
                is_aligned=is_aligned,
                block_bytes=session.block_bytes,
            )

        raw = judged(is_aligned=False)
        session.align_in_place(vectors[key][0], one_list.source_language)
        session.align_in_place(vectors[key][1], one_list.target_language)
        for measure, columns in joined(raw, judged(is_aligned=True)).items():
            for column, scores in columns.items():
                whole = results.setdefault(measure, {}).setdefault(column, Scores({}))
                whole.figures.update(scores.figures)
                whole.per_text.update(scores.per_text)
    pivots = {one_list.target_language for one_list in terms.lists.values()}
    by_chance = chance.at_chance(results, results, chance.right_term_shares(gold))
    return TaskOutcome(
        terms.name,
        {key: len(pairs) for key, pairs in gold.items()},
        results,
        pivot=pivots.pop() if len(pivots) == 1 else "",
        notes=["A repeated term counts once, and any of its translations is right."],
        warnings=_slipped(by_chance, texts, terms.name),
    )


def _words(session: Session, texts: TaskTexts, name: str | None) -> TaskOutcome:
    if session.encode_tokens is None:
        raise EvaluationError(_NO_TOKENS)
    set_name, by_languages = texts.words(name)
    tokens, gold = {}, {}
    means: dict[str, Means] = {}
    for (source, target), pairs in by_languages.items():
        key = f"{source}-{target}"
        sides = (
            _tokens(session, [pair.source for pair in pairs]),
            _tokens(session, [pair.target for pair in pairs]),
        )
        tokens[key] = list(zip(*sides, strict=True))
        gold[key] = [pair.links for pair in pairs]
        own = session.token_means(source, target)
        if own is not None:
            means[key] = own
    note = (
        "Adapter: tokens less the means of both languages that the adapter's first step subtracts from sentences (of "
        "all its languages where it does not know both); its other steps play no part."
        if means
        else "The adapter is not used: it holds no means that fit this encoder's tokens."
    )
    notes = [
        note,
        "Token means removed: each language's tokens less their own mean over the other half of these sentence pairs.",
    ]
    sizes = {key: len(pairs) for key, pairs in tokens.items()}
    return TaskOutcome(set_name, sizes, judge_words(tokens, gold, means or None), notes=notes)


def _similarity(session: Session, texts: TaskTexts, name: str | None) -> TaskOutcome:
    pairs = texts.scored(name)
    own = cache_part(name, pairs.name)
    parts = ("sts-a", "sts-b") if name is not None else (f"{own}-a", f"{own}-b")
    first, second = session.embed(parts[0], pairs.first), session.embed(parts[1], pairs.second)
    scored = {
        language: ScoredVectors(first[language], second[language], np.array(scores, dtype=np.float64))
        for language, scores in pairs.scores.items()
    }
    columns = {
        RAW: measures.similarity(scored),
        ADAPTER: measures.similarity(scored, session.align),
    }
    return TaskOutcome(pairs.name, _sizes(first), {measures.SIMILARITY: columns})


RUN: Final[Mapping[str, Callable[[Session, TaskTexts, str | None], TaskOutcome]]] = {
    "retrieval": _retrieval,
    "pool": _pool,
    "neighbours": _neighbours,
    "labels": _labels,
    "head": _head,
    "terms": _terms,
    "words": _words,
    "similarity": _similarity,
}


def _plain_find(session: Session) -> measures.Find:
    return lambda Q, C: nearest(Q, C, block_bytes=session.block_bytes)


def _slipped(languages: Sequence[str], texts: TaskTexts, name: str) -> list[str]:
    where = name if texts.path is None else str(texts.path)
    return slipped_warning(languages, where, "raw and with the adapter")


def _tokens(session: Session, sentences: Sequence[Sequence[str]]) -> list[WordTokens]:
    if session.encode_tokens is None:
        raise EvaluationError(_NO_TOKENS)
    tokens = []
    for start in range(0, len(sentences), _SENTENCES):
        part = sentences[start : start + _SENTENCES]
        encoded = session.encode_tokens([text_of(words) for words in part])
        tokens += [word_tokens(words, vectors) for words, vectors in zip(part, encoded, strict=True)]
    return tokens


def _positions(gold: Sequence[str], labels: Sequence[str]) -> Indices:
    place = {label: position for position, label in enumerate(labels)}
    return np.array([place[label] for label in gold], dtype=np.int64)


def _sizes(vectors: Mapping[str, Matrix]) -> dict[str, int]:
    return {language: len(X) for language, X in vectors.items()}
