"""Run tasks on texts: read them, encode what is not stored, align, judge, compare.

All texts are encoded through the cache of vectors; token vectors alone are not stored.
"""

import time
from typing import Final

from alignstream.export.evaluate import formats
from alignstream.export.evaluate.public_tasks import N_DEFAULT, SETS, USE
from alignstream.export.evaluate.report import Evaluation, TaskResult, measures
from alignstream.export.evaluate.runners import NO_TRAIN, RUN
from alignstream.export.evaluate.session import Data, Session
from alignstream.models.errors import EvaluationError, WrongUsage

ALL: Final = "all"
TASKS: Final = tuple(SETS)
#: Texts of each language of the named sets: minutes of encoding the first time, seconds afterwards.
DEFAULT_LIMIT: Final = 100


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
    is_used = any(result.uses_adapter for result in results)
    return Evaluation(
        encoder=session.adapter.encoder,
        adapter=session.adapter_name if is_used else None,
        adapter_version=session.adapter.version if is_used else None,
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
    WrongUsage
        The task or a set is unknown, choices contradict each other, or the task makes no use of one.
    EvaluationError
        The task has no texts.
    """
    if task not in {*SETS, ALL}:
        raise WrongUsage(f"there is no task {formats.shown(task)}; tasks are {', '.join(TASKS)} and {ALL}")
    if task == ALL and data.path is not None:
        raise WrongUsage("'all' runs on the named sets, as no one file serves every task; name a task")
    if data.path is not None and data.names:
        raise WrongUsage("give a file or --set, not both")
    known = {name for names in SETS.values() for name in names}
    if unknown := [name for name in data.names if name not in known]:
        raise WrongUsage(
            f"there is no set {formats.shown(unknown[0])}; sets are {formats.few(sorted(known))}"
        )
    if data.choice.languages == []:
        raise WrongUsage("--languages names no language; give tags with commas between them, such as de,sw")
    if ignored := _ignored(task, data):
        raise WrongUsage(ignored)
    if task == "head" and data.path is not None and data.train is None:
        raise WrongUsage(NO_TRAIN)
    for item in TASKS if task == ALL else (task,):
        _names(item, data, is_all=task == ALL)


def _ignored(task: str, data: Data) -> str | None:
    """Return why a choice would be without effect, the first there is."""
    is_file = data.path is not None
    if data.train is not None and not (task == "head" and is_file):
        return "--train is for 'head' with a file; leave it out"
    if data.alignments is not None and not (task == "words" and is_file):
        return "--alignments is for 'words' with a file; leave it out"
    if data.choice.languages is not None and task == "words" and is_file:
        return "'words' takes both languages from the file's header; leave --languages out"
    if data.choice.pivot is not None and (task in {"words", "similarity"} or (task == "labels" and is_file)):
        return f"'{task}' has no pivot; leave --pivot out"
    return None


def _names(task: str, data: Data, *, is_all: bool) -> list[str | None]:
    """Return the sets to run a task on; None stands for the user's own file."""
    if data.path is not None:
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
        raise WrongUsage(f"'{task}' has no set {wrong!r}; it has {', '.join(known)}")
    return list(names)


def _run(session: Session, task: str, data: Data, name: str | None) -> TaskResult:
    started = time.monotonic()
    outcome = RUN[task](session, data, name)
    return TaskResult(
        task=task,
        set=outcome.name,
        use=formats.OWN_FILE if name is None else USE[name],
        pivot=outcome.pivot,
        n_texts=outcome.n_texts,
        measures=measures(outcome.results, seed=session.seed),
        seconds=time.monotonic() - started,
        notes=outcome.notes,
        warnings=outcome.warnings,
    )
