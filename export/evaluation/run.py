"""Run tasks on texts: read them, encode what is not stored, align, judge, compare.

All texts are encoded through the cache of vectors; token vectors alone are not stored.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alignstream.export.datasets import Parallel, TextError, evenly_spaced
from alignstream.export.evaluation import formats, tasks
from alignstream.export.evaluation.report import Evaluation, TaskResult, measures
from alignstream.export.evaluation.session import Data, EvaluationError, Session
from alignstream.export.evaluation.sets import N_DEFAULT, SETS, USE, Choice, NamedSets
from alignstream.export.evaluation.words import WordTokens, judge_words, text_of, word_tokens
from alignstream.models.alignment.members import Matrix
from alignstream.models.tasks.labels import check_template, render

ALL: Final = "all"
TASKS: Final = tuple(SETS)
#: Texts of each language of the named sets: minutes of encoding the first time, seconds afterwards.
DEFAULT_LIMIT: Final = 100
#: Sentences whose token vectors are asked for at once.
_SENTENCES: Final = 64
#: Names in the cache that fitting uses too, so that nothing is encoded twice.
_PARTS: Final = {"xsid-valid": "xsid"}


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What a task gave: the set's name, its pivot, its sizes by language, and the figures."""

    name: str
    pivot: str
    n_texts: dict[str, int]
    results: tasks.Results


def evaluate(session: Session, task: str, data: Data) -> Evaluation:
    """Run one task, or all of them on the named sets.

    Parameters
    ----------
    session : Session
        Encoder and adapter.
    task : str
        One of ``TASKS``, or ``ALL`` (word alignment only where the session has token vectors).
    data : Data
        Texts.

    Raises
    ------
    EvaluationError
        The task is unknown, has no such set, or needs what the session or the data lack.
    TextError
        A file or a set cannot be read.
    """
    check(task, data)
    started = time.monotonic()
    # Not every encoder gives token vectors; the other tasks need none.
    every = [item for item in TASKS if item != "words" or session.encode_tokens is not None]
    wanted = every if task == ALL else [task]
    results = [
        _run(session, item, data, name) for item in wanted for name in _names(item, data, is_all=task == ALL)
    ]
    return Evaluation(
        encoder=session.adapter.encoder,
        adapter=session.adapter_name,
        adapter_version=session.adapter.version,
        uses_tags=session.uses_tags,
        seed=session.seed,
        limit=data.choice.limit,
        seconds=time.monotonic() - started,
        tasks=results,
    )


def check(task: str, data: Data) -> None:
    """Refuse what no encoder is needed to refuse, before one is loaded.

    Raises
    ------
    EvaluationError
        The task is unknown, or has no texts or no such set.
    """
    if task not in {*SETS, ALL}:
        raise EvaluationError(f"there is no task {task!r}; tasks are {', '.join(TASKS)} and {ALL}")
    if task == ALL and data.path is not None:
        raise EvaluationError("'all' runs on the named sets, as no one file serves every task; name a task")
    known = {name for names in SETS.values() for name in names}
    if unknown := [name for name in data.names if name not in known]:
        raise EvaluationError(f"there is no set {unknown[0]!r}; sets are {', '.join(sorted(known))}")
    for item in TASKS if task == ALL else (task,):
        _names(item, data, is_all=task == ALL)


def _names(task: str, data: Data, *, is_all: bool) -> list[str | None]:
    """Return the sets to run a task on; None stands for the user's own file."""
    if data.path is not None:
        if data.names:
            raise EvaluationError("give a file or --set, not both")
        return [None]
    if data.root is None:
        raise EvaluationError(
            f"'{task}' needs texts: name a file, or set ALIGNSTREAM_DATA to the folder with the public sets"
        )
    known = SETS[task]
    if not data.names:
        return list(known[: N_DEFAULT.get(task, 1)])
    names = [name for name in data.names if name in known]
    if not is_all and len(names) < len(data.names):
        wrong = next(name for name in data.names if name not in known)
        raise EvaluationError(f"'{task}' has no set {wrong!r}; it has {', '.join(known)}")
    return list(names)


def _run(session: Session, task: str, data: Data, name: str | None) -> TaskResult:
    started = time.monotonic()
    outcome = _RUN[task](session, data, name)
    return TaskResult(
        task=task,
        set=outcome.name,
        use=formats.OWN_FILE if name is None else USE[name],
        pivot=outcome.pivot,
        n_texts=outcome.n_texts,
        measures=measures(outcome.results, seed=session.seed),
        seconds=time.monotonic() - started,
    )


def _retrieval(session: Session, data: Data, name: str | None) -> _Outcome:
    texts, raw, aligned = _parallel(session, data, name)
    found = tasks.retrieval(raw, aligned, texts.pivot, block_bytes=session.block_bytes)
    return _outcome(texts.name, _sizes(raw), found, pivot=texts.pivot)


def _pool(session: Session, data: Data, name: str | None) -> _Outcome:
    texts, raw, aligned = _parallel(session, data, name)
    found = tasks.mixed_pool(raw, aligned, block_bytes=session.block_bytes)
    return _outcome(texts.name, _sizes(raw), found)


def _neighbours(session: Session, data: Data, name: str | None) -> _Outcome:
    texts, raw, aligned = _parallel(session, data, name)
    found = tasks.neighbours(raw, aligned, block_bytes=session.block_bytes)
    return _outcome(texts.name, _sizes(raw), found)


def _labels(session: Session, data: Data, name: str | None) -> _Outcome:
    check_template(session.template)
    texts = _labelled(data, name)
    labels = list(texts.words)
    raw = session.embed(_part(name, texts.name), texts.texts)
    rendered = [render(session.template, words) for words in texts.words.values()]
    prototypes = session.embed("labels", {"eng": rendered})["eng"]
    found = tasks.labels(
        raw,
        session.align_all(raw),
        (prototypes, session.align(prototypes, None)),
        {language: _positions(gold, labels) for language, gold in texts.gold.items()},
        common=session.adapter.common_direction(),
    )
    return _outcome(texts.name, _sizes(raw), found)


def _head(session: Session, data: Data, name: str | None) -> _Outcome:
    texts = _labelled(data, name)
    if texts.train is None:
        raise EvaluationError(
            "'head' needs texts of the pivot to train on: give --train FILE beside the file to judge on"
        )
    train_texts, train_gold = texts.train
    labels = sorted(set(train_gold) | {label for gold in texts.gold.values() for label in gold})
    raw = session.embed(_part(name, texts.name), texts.texts)
    part = "sib-train" if name == "sib-dev" else f"{_part(name, texts.name)}-train"
    train = session.embed(part, {texts.train_language: train_texts})[texts.train_language]
    found = tasks.head(
        raw,
        session.align_all(raw),
        (train, session.align(train, texts.train_language)),
        _positions(train_gold, labels),
        {language: _positions(gold, labels) for language, gold in texts.gold.items()},
    )
    return _outcome(texts.name, _sizes(raw), found, pivot=texts.train_language)


def _terms(session: Session, data: Data, name: str | None) -> _Outcome:
    lists = formats.terms_of(_own_parallel(data)) if name is None else _sets(data).terms(name, data.choice)
    if not lists.lists:
        raise TextError(f"{lists.name}: at least two pairs of terms that differ are needed")
    part = _part(name, lists.name)
    raw, aligned, gold = {}, {}, {}
    for key, item in lists.lists.items():
        sides = session.embed(part, {f"{key}.source": item.source, f"{key}.target": item.target})
        source, target = sides[f"{key}.source"], sides[f"{key}.target"]
        raw[key] = source, target
        aligned[key] = (
            session.align(source, item.source_language),
            session.align(target, item.target_language),
        )
        gold[key] = np.array(item.pairs, dtype=np.int64)
    found = tasks.terms(raw, aligned, gold, block_bytes=session.block_bytes)
    pivots = {item.target_language for item in lists.lists.values()}
    sizes = {key: len(item.pairs) for key, item in lists.lists.items()}
    return _outcome(lists.name, sizes, found, pivot=pivots.pop() if len(pivots) == 1 else "")


def _words(session: Session, data: Data, name: str | None) -> _Outcome:
    if session.encode_tokens is None:
        raise EvaluationError("'words' needs token vectors, which this encoder does not give")
    if name is None:
        texts = formats.read_words(_path(data), alignments=data.alignments)
    else:
        texts = _sets(data).words(data.choice)
    tokens, gold = {}, {}
    for (source, target), pairs in texts.pairs.items():
        keep = [pairs[line] for line in evenly_spaced(len(pairs), data.choice.limit or len(pairs))]
        key = f"{source}-{target}"
        sides = (
            _tokens(session, [pair.source for pair in keep]),
            _tokens(session, [pair.target for pair in keep]),
        )
        tokens[key] = list(zip(*sides, strict=True))
        gold[key] = [pair.links for pair in keep]
    sizes = {key: len(pairs) for key, pairs in tokens.items()}
    return _outcome(texts.name, sizes, judge_words(tokens, gold))


def _similarity(session: Session, data: Data, name: str | None) -> _Outcome:
    if name is None:
        texts = _scored_part(formats.read_scored(_path(data)), data.choice)
        parts = f"evaluate-{texts.name}-a", f"evaluate-{texts.name}-b"
    else:
        texts, parts = _sets(data).scored(data.choice), ("sts-a", "sts-b")
    first, second = session.embed(parts[0], texts.first), session.embed(parts[1], texts.second)
    found = tasks.similarity(
        {language: (first[language], second[language]) for language in first},
        {
            language: (session.align(first[language], language), session.align(second[language], language))
            for language in first
        },
        {language: np.array(scores, dtype=np.float64) for language, scores in texts.scores.items()},
    )
    return _outcome(texts.name, _sizes(first), found)


_RUN: Final[Mapping[str, Callable[[Session, Data, str | None], _Outcome]]] = {
    "retrieval": _retrieval,
    "pool": _pool,
    "neighbours": _neighbours,
    "labels": _labels,
    "head": _head,
    "terms": _terms,
    "words": _words,
    "similarity": _similarity,
}


def _outcome(name: str, sizes: dict[str, int], results: tasks.Results, *, pivot: str = "") -> _Outcome:
    return _Outcome(name=name, pivot=pivot, n_texts=sizes, results=results)


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


def _parallel(
    session: Session, data: Data, name: str | None
) -> tuple[Parallel, dict[str, Matrix], dict[str, Matrix]]:
    texts = _own_parallel(data) if name is None else _sets(data).parallel(name, data.choice)
    if len(texts.by_language) < 2 or texts.n_lines < 2:
        raise TextError(f"{texts.name}: at least two languages and two lines are needed")
    raw = session.embed(_part(name, texts.name), texts.by_language)
    return texts, raw, session.align_all(raw)


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
