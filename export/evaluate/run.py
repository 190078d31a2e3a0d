"""Run tasks on texts: read them, encode new ones, align, judge, compare.

All texts are encoded through the cache of vectors; token vectors alone are not stored.
"""

import time
from typing import Final

from alignstream.export.data.selection import listed, quoted
from alignstream.export.evaluate.report import Evaluation, TaskResult, compare_columns
from alignstream.export.evaluate.runners import NO_TRAIN, RUN
from alignstream.export.evaluate.session import Session
from alignstream.export.evaluate.task_sets import N_DEFAULT, OWN_FILE, SETS, USE
from alignstream.export.evaluate.task_texts import TaskTexts
from alignstream.models.errors import EvaluationError, WrongUsage

ALL: Final = "all"
TASKS: Final = tuple(SETS)
#: Texts of each language of the named sets: minutes of encoding the first time, seconds afterwards.
DEFAULT_LIMIT: Final = 100


def evaluate(session: Session, task: str, texts: TaskTexts) -> Evaluation:
    """Run one task, or all of them on the named sets.

    Parameters
    ----------
    session : Session
        Encoder and adapter.
    task : str
        One of ``TASKS``, or ``ALL`` (word alignment only where the session has token vectors).
    texts : TaskTexts

    Raises
    ------
    EvaluationError
        The task is unknown, is not run on the set, or needs something that the session or the data lack.
    TextError
        A file or a set cannot be read.
    """
    check(task, texts)
    started = time.monotonic()
    # Not every encoder gives token vectors; the other tasks need none.
    every = [one for one in TASKS if one != "words" or session.encode_tokens is not None]
    wanted = every if task == ALL else [task]
    results = [
        _run(session, one, texts, name) for one in wanted for name in _names(one, texts, is_all=task == ALL)
    ]
    is_used = any(result.uses_adapter for result in results)
    return Evaluation(
        encoder=session.adapter.encoder,
        adapter=session.adapter_name if is_used else None,
        adapter_version=session.adapter.version if is_used else None,
        uses_tags=session.uses_tags,
        seed=session.seed,
        limit=texts.selection.limit,
        seconds=time.monotonic() - started,
        tasks=results,
    )


def check(task: str, texts: TaskTexts) -> None:
    """Refuse what no encoder is needed to refuse, before one is loaded.

    Raises
    ------
    WrongUsage
        The task or a set is unknown, choices contradict each other, or the task makes no use of one.
    EvaluationError
        The task has no texts.
    """
    if task not in {*SETS, ALL}:
        raise WrongUsage(f"there is no task {quoted(task)}; tasks are {', '.join(TASKS)} and {ALL}")
    if task == ALL and texts.path is not None:
        raise WrongUsage("'all' runs on the named sets, as no one file serves every task; name a task")
    if texts.path is not None and texts.names:
        raise WrongUsage("give a file or --set, not both")
    known = {name for names in SETS.values() for name in names}
    if unknown := [name for name in texts.names if name not in known]:
        raise WrongUsage(f"there is no set {quoted(unknown[0])}; sets are {listed(sorted(known))}")
    if texts.selection.languages == []:
        raise WrongUsage("--languages names no language; give tags with commas between them, such as de,sw")
    if ignored := _ignored(task, texts):
        raise WrongUsage(ignored)
    if task == "head" and texts.path is not None and texts.train is None:
        raise WrongUsage(NO_TRAIN)
    for one in TASKS if task == ALL else (task,):
        _names(one, texts, is_all=task == ALL)


def _ignored(task: str, texts: TaskTexts) -> str | None:
    """Return why the first choice without effect has none; None where all have one."""
    is_file = texts.path is not None
    if texts.train is not None and not (task == "head" and is_file):
        return "--train is for 'head' with a file; leave it out"
    if texts.alignments is not None and not (task == "words" and is_file):
        return "--alignments is for 'words' with a file; leave it out"
    if texts.selection.languages is not None and task == "words" and is_file:
        return "'words' takes both languages from the file's header; leave --languages out"
    if texts.selection.pivot is not None and (
        task in {"words", "similarity"} or (task == "labels" and is_file)
    ):
        return f"'{task}' has no pivot; leave --pivot out"
    return None


def _names(task: str, texts: TaskTexts, *, is_all: bool) -> list[str | None]:
    """Return the sets to run a task on; None means the user's own file."""
    if texts.path is not None:
        return [None]
    if texts.root is None:
        raise EvaluationError(
            f"'{task}' needs texts: name a file, or set ALIGNSTREAM_DATA to the folder with the public sets"
        )
    known = SETS[task]
    if not texts.names:
        return list(known[: N_DEFAULT.get(task, 1)])
    names = [name for name in texts.names if name in known]
    if not is_all and len(names) < len(texts.names):
        wrong = next(name for name in texts.names if name not in known)
        raise WrongUsage(f"'{task}' has no set {wrong!r}; it has {', '.join(known)}")
    return list(names)


def _run(session: Session, task: str, texts: TaskTexts, name: str | None) -> TaskResult:
    started = time.monotonic()
    outcome = RUN[task](session, texts, name)
    return TaskResult(
        task=task,
        set=outcome.name,
        use=OWN_FILE if name is None else USE[name],
        pivot=outcome.pivot,
        n_texts=outcome.n_texts,
        measures=compare_columns(outcome.results, seed=session.seed),
        seconds=time.monotonic() - started,
        notes=list(outcome.notes),
        warnings=list(outcome.warnings),
    )
