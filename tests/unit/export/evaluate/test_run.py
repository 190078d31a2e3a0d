"""Running tasks: on files that anyone can make, in the memory of one copy, or refused before the work."""

import dataclasses
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_languages import (
    DIM,
    ENCODER,
    LANGUAGES,
    encode,
    encode_words,
    labelled_lines,
    toy_texts,
    toy_vectors,
    unit,
    write,
    write_parallel,
)

from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.export.data.selection import TextSelection
from alignstream.export.evaluate import exact_search
from alignstream.export.evaluate.report import Evaluation, notes, summary_rows
from alignstream.export.evaluate.run import TASKS, check, evaluate
from alignstream.export.evaluate.session import Session
from alignstream.export.evaluate.task_sets import OWN_FILE, SETS, USE
from alignstream.export.evaluate.task_texts import TaskTexts
from alignstream.models.adapter.adapter import Adapter, identity
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.language_centre import LanguageCentre
from alignstream.models.arrays import Matrix
from alignstream.models.checks import neighbours
from alignstream.models.errors import EvaluationError, TextError, WrongUsage

LABELLED = '{"text": "a", "language": "en", "label": "x"}\n'


def test_every_task_runs_on_files_that_anyone_can_make(session: Session, tmp_path: Path) -> None:
    parallel = write_parallel(tmp_path / "p.tsv")
    labelled = write(
        tmp_path / "l.jsonl",
        "".join(
            json.dumps({"text": f"{language}:{i % 3}", "language": language, "label": str(i % 3)}) + "\n"
            for language in LANGUAGES
            for i in range(9)
        ),
    )
    scored = write(
        tmp_path / "s.tsv",
        "".join(
            f"{language}\t{i % 5}\t{language}:{i}\t{language}:{i % 5}\n"
            for language in LANGUAGES
            for i in range(9)
        ),
    )
    words = write(tmp_path / "w.tsv", "en\tde\tlinks\n" + "e1 e2\td2 d1\t0-1 1-0\ne3\td3\t0-0\n" * 3)
    train = write(
        tmp_path / "t.jsonl",
        labelled_lines(*[(f"en:training {i % 3} {i}", "en", str(i % 3)) for i in range(9)]),
    )
    files = {"labels": labelled, "head": labelled, "similarity": scored, "words": words}
    with_tokens = dataclasses.replace(session, encode_tokens=encode_words, template="en:{label}")
    for task in TASKS:
        data = TaskTexts(path=files.get(task, parallel), train=train if task == "head" else None)
        found = evaluate(with_tokens, task, data)
        (result,) = found.tasks
        assert result.task == task
        assert result.use == OWN_FILE
        for measure in result.measures:
            for column in measure.columns:
                assert set(column.by_language) <= set(result.n_texts)
                assert all(-100.0 <= figure <= 100.0 for figure in column.by_language.values())


def test_neighbours_have_a_raw_column_that_is_100_by_definition(session: Session, tmp_path: Path) -> None:
    found = evaluate(session, "neighbours", TaskTexts(path=write_parallel(tmp_path / "p.tsv")))
    (task,) = found.tasks
    raw, adapter = summary_rows(task.measures[0])
    assert raw[1:3] == ["raw", "100.0"]
    assert adapter[3].startswith("-")
    assert adapter[7] == "not tested"
    assert "by definition" in notes(task)[0]


def test_repeated_lines_cost_no_points_and_are_counted(session: Session, tmp_path: Path) -> None:
    lines = write_parallel(tmp_path / "p.tsv").read_text(encoding="utf-8").splitlines()
    again = write(tmp_path / "again.tsv", "\n".join([*lines, *lines[1:11], lines[1]]) + "\n")
    for task in ("retrieval", "pool", "terms", "neighbours"):
        once, twice = (
            evaluate(session, task, TaskTexts(path=path)).tasks[0] for path in (tmp_path / "p.tsv", again)
        )
        for measure, repeated in zip(once.measures, twice.measures, strict=True):
            for column, other in zip(measure.columns, repeated.columns, strict=True):
                if all(figure == 100.0 for figure in column.by_language.values()):
                    assert other.by_language == column.by_language
        count = [
            note for note in notes(twice) if note.startswith("44 lines repeat the text of an earlier one")
        ]
        assert len(count) == (task != "terms")
        if count:
            assert "(en 11, de 11, sw 11, ta 11)" in count[0]
    before, after = (
        figures(evaluate(session, "retrieval", TaskTexts(path=path)), "adapter")
        for path in (tmp_path / "p.tsv", again)
    )
    assert min(before.values()) == min(after.values()) == 100.0
    with pytest.raises(TextError, match="two texts that differ are needed in en, de"):
        evaluate(
            session, "neighbours", TaskTexts(path=write(tmp_path / "p.tsv", "en\tde\n" + "en:1\tde:1\n" * 3))
        )


def test_lines_that_slipped_are_warned_of_with_language_and_file(session: Session, tmp_path: Path) -> None:
    columns = toy_texts(40)
    columns["sw"] = [*columns["sw"][1:], columns["sw"][0]]
    rows = ["\t".join(columns), *("\t".join(row) for row in zip(*columns.values(), strict=True))]
    slipped = write(tmp_path / "slipped.tsv", "\n".join(rows) + "\n")
    right = write_parallel(tmp_path / "p.tsv")
    for task in ("retrieval", "pool", "terms"):
        (found,) = evaluate(session, task, TaskTexts(path=slipped)).tasks
        (warning,) = found.warnings
        assert warning.startswith(
            f"{slipped}: translations of sw find each other no more often than by chance"
        )
        assert evaluate(session, task, TaskTexts(path=right)).tasks[0].warnings == []
    page = evaluate(session, "retrieval", TaskTexts(path=slipped)).to_markdown()
    assert f"Warning: {slipped}: translations of sw" in page


def test_words_use_the_means_of_an_adapter_that_has_some_and_say_so(session: Session, tmp_path: Path) -> None:
    path = write(tmp_path / "w.tsv", "en\tde\tlinks\n" + "e1 e2\td2 d1\t0-1 1-0\ne3\td3\t0-0\n" * 3)
    with_tokens = dataclasses.replace(session, encode_tokens=encode_words)
    found = evaluate(dataclasses.replace(with_tokens, is_mean=True), "words", TaskTexts(path=path))
    (task,) = found.tasks
    assert [column.name for column in task.measures[0].columns] == ["raw", "adapter", "token means removed"]
    assert notes(task)[0].startswith("Adapter: tokens less the means of both languages")
    assert "adapter toy (version" in found.headline()
    without_means = dataclasses.replace(with_tokens, is_mean=True, adapter=identity(ENCODER, DIM))
    for changed in (with_tokens, without_means):
        found = evaluate(changed, "words", TaskTexts(path=path))
        (task,) = found.tasks
        assert [column.name for column in task.measures[0].columns] == ["raw", "token means removed"]
        assert notes(task)[0].startswith("The adapter is not used")
        assert (found.adapter, found.adapter_version) == (None, None)
        assert ", no adapter;" in found.headline()
        assert "version" not in found.headline()


def test_means_of_tokens_are_those_of_the_languages_where_tags_are_used(session: Session) -> None:
    one = dataclasses.replace(session, is_mean=True).token_means("en", "deu")
    untagged = dataclasses.replace(session, is_mean=True, uses_tags=False).token_means("en", "de")
    (centre,) = session.adapter.steps
    assert isinstance(centre, LanguageCentre)
    assert one is not None
    assert untagged is not None
    np.testing.assert_allclose(one[1], centre.means[1], atol=1e-6)
    np.testing.assert_array_equal(untagged[0], untagged[1])
    np.testing.assert_allclose(untagged[0], centre.means.mean(axis=0), atol=1e-6)


def test_aligning_in_place_is_aligning(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignstream.export.evaluate.session._ROWS", 7)
    X = toy_vectors()["de"]
    expected = session.align(X, "de")
    session.align_in_place(X, "de")
    np.testing.assert_array_equal(X, expected)


@pytest.mark.parametrize("task", ["retrieval", "pool", "terms", "neighbours"])
def test_memory_grows_as_one_copy_of_the_vectors(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alignstream.export.evaluate.session._ROWS", 64)
    monkeypatch.setattr("alignstream.export.data.embedding_cache._BLOCK_ROWS", 64)
    monkeypatch.setattr(exact_search, "_ROWS", 64)
    monkeypatch.setattr(exact_search, "_BLOCK_QUERIES", 64)
    monkeypatch.setattr(neighbours, "_BLOCK_CELLS", 16 * 1024)
    dim, sizes = 512, (200, 400)
    means = unit(np.random.default_rng(0).standard_normal((2, dim))) * np.float32(0.3)
    adapter = Adapter(ENCODER, dim, (LanguageCentre(means, ("en-Latn", "de-Latn"), (60, 60)),))
    rng = np.random.default_rng(1)
    cache = EmbeddingCache(
        tmp_path,
        fingerprint=ENCODER,
        dim=dim,
        encode=lambda texts: unit(rng.standard_normal((len(texts), dim))),
    )
    session = Session(cache=cache, adapter=adapter, block_bytes=256 * 1024)
    peaks = []
    for n in sizes:
        # A text that stands twice, so that vectors cannot be taken from the cache as they are.
        rows = "".join(f"line {i % (n - 1)}\tZeile {i % (n - 1)}\n" for i in range(n))
        path = write(tmp_path / f"{n}.tsv", "en\tde\n" + rows)
        evaluate(session, task, TaskTexts(path=path))
        tracemalloc.start()
        evaluate(session, task, TaskTexts(path=path))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    by_line = (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])
    # Two sides once; texts, positions and hits take half a kilobyte. One more side would take a factor of 1.5.
    assert by_line < 1.25 * (2 * dim * 4)


def figures(found: Evaluation, column: str) -> dict[str, float]:
    (result,) = found.tasks
    return next(item for item in result.measures[0].columns if item.name == column).by_language


def test_tags_are_used_unless_they_are_not_wanted(session: Session, tmp_path: Path) -> None:
    data = TaskTexts(path=write_parallel(tmp_path / "p.tsv"))
    tagged = evaluate(session, "pool", data)
    untagged = evaluate(dataclasses.replace(session, uses_tags=False), "pool", data)
    assert figures(tagged, "raw") == figures(untagged, "raw")
    for language in LANGUAGES:
        assert figures(tagged, "adapter")[language] > figures(tagged, "raw")[language] + 20.0
        assert figures(tagged, "adapter")[language] > figures(untagged, "adapter")[language]
    assert "without language tags" in untagged.headline()


def test_label_texts_are_aligned_without_a_language(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []
    original = Adapter.transform_many

    def record(self: Adapter, X: Matrix, context: Context = Context()) -> Matrix:  # noqa: B008
        seen.append(context.language)
        return original(self, X, context)

    monkeypatch.setattr(Adapter, "transform_many", record)
    rows = "".join(
        json.dumps({"text": f"de:{i}", "language": "de", "label": str(i)}) + "\n" for i in range(3)
    )
    evaluate(session, "labels", TaskTexts(path=write(tmp_path / "l.jsonl", rows)))
    assert sorted(seen, key=str) == [None, "de"]


def test_languages_limit_and_pivot_choose_what_is_read(session: Session, tmp_path: Path) -> None:
    path = write_parallel(tmp_path / "p.tsv")
    selection = TextSelection(languages=["deu", "sw"], pivot="sw", limit=10)
    (result,) = evaluate(session, "retrieval", TaskTexts(path=path, selection=selection)).tasks
    assert (result.pivot, result.n_texts) == ("sw", {"de": 10, "sw": 10})
    with pytest.raises(TextError, match="has no language 'fr'"):
        evaluate(session, "pool", TaskTexts(path=path, selection=TextSelection(languages=["fr"])))
    with pytest.raises(TextError, match="at least two languages"):
        evaluate(session, "pool", TaskTexts(path=path, selection=TextSelection(languages=["en"])))


def test_the_same_seed_gives_the_same_report(session: Session, tmp_path: Path) -> None:
    data = TaskTexts(path=write_parallel(tmp_path / "p.tsv"))

    def run(seed: int) -> list[Any]:
        value = evaluate(dataclasses.replace(session, seed=seed), "retrieval", data).to_json()
        found: list[Any] = value["tasks"][0]["measures"]
        return found

    assert run(1) == run(1)


def test_what_cannot_be_run_is_refused(session: Session, tmp_path: Path) -> None:
    path = write_parallel(tmp_path / "p.tsv")
    for task, data, message in (
        ("dance", TaskTexts(path=path), "there is no task 'dance'"),
        ("all", TaskTexts(path=path), "no one file serves every task"),
        ("pool", TaskTexts(), "name a file, or set ALIGNSTREAM_DATA"),
        ("pool", TaskTexts(path=path, names=("ntrex-dev",)), "a file or --set, not both"),
        ("pool", TaskTexts(root=tmp_path, names=("panlex",)), "'pool' has no set 'panlex'"),
        ("all", TaskTexts(root=tmp_path, names=("nonsense",)), "there is no set 'nonsense'"),
        (
            "pool",
            TaskTexts(path=path, selection=TextSelection(languages=[])),
            "--languages names no language",
        ),
        ("pool", TaskTexts(path=path, train=path), "--train is for 'head' with a file"),
        ("head", TaskTexts(root=tmp_path, train=path), "--train is for 'head' with a file"),
        (
            "head",
            TaskTexts(path=path, train=path, alignments=path),
            "--alignments is for 'words' with a file",
        ),
        ("words", TaskTexts(path=path, selection=TextSelection(languages=["de"])), "leave --languages out"),
        ("similarity", TaskTexts(path=path, selection=TextSelection(pivot="de")), "leave --pivot out"),
        ("labels", TaskTexts(path=path, selection=TextSelection(pivot="de")), "leave --pivot out"),
    ):
        kind = EvaluationError if data == TaskTexts() else WrongUsage
        with pytest.raises(kind, match=message):
            check(task, data)
        with pytest.raises(EvaluationError, match=message):
            evaluate(session, task, data)
    with pytest.raises(EvaluationError, match="token vectors"):
        evaluate(session, "words", TaskTexts(path=path))
    rows = LABELLED + LABELLED.replace('"x"', '"y"')
    with pytest.raises(EvaluationError, match="--train FILE"):
        evaluate(session, "head", TaskTexts(path=write(tmp_path / "l.jsonl", rows)))
    with pytest.raises(TextError, match=r"nowhere is not a folder; set ALIGNSTREAM_DATA"):
        evaluate(session, "pool", TaskTexts(root=tmp_path / "nowhere"))


def test_every_set_has_a_note_and_every_task_a_set() -> None:
    assert {name for names in SETS.values() for name in names} == set(USE)
    assert set(SETS) == set(TASKS)


def test_the_identity_changes_nothing(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "cache", fingerprint=ENCODER, dim=DIM, encode=encode)
    session = Session(cache=cache, adapter=identity(ENCODER, DIM), adapter_name="identity")
    found = evaluate(session, "retrieval", TaskTexts(path=write_parallel(tmp_path / "p.tsv")))
    for measure in found.tasks[0].measures:
        (adapter,) = [column for column in measure.columns if column.name == "adapter"]
        assert adapter.change is not None
        assert (adapter.change.low, adapter.change.high) == (0.0, 0.0)
        assert adapter.wins == adapter.losses == adapter.significantly_worse == []
