"""Reports: every column stands with its kind, and is compared with raw cosine on the same texts of the same run."""

import json
from pathlib import Path

import numpy as np
import pytest
from toy_languages import write_parallel

from alignstream.export.data.selection import TextSelection
from alignstream.export.evaluate.chart import write_png
from alignstream.export.evaluate.columns import ADAPTER, RAW, Column
from alignstream.export.evaluate.measures import Scores, mean_scores
from alignstream.export.evaluate.report import KINDS, Evaluation, compare_columns, notes, summary_rows
from alignstream.export.evaluate.run import evaluate
from alignstream.export.evaluate.session import Session
from alignstream.export.evaluate.task_texts import TaskTexts


def evaluation(seed: int = 0) -> Evaluation:
    return Evaluation("e" * 64, "toy", "v", True, seed, None, 1.0, [])


def test_wins_losses_and_the_interval_are_against_raw_on_the_same_texts() -> None:
    raw = {f"l{i}": np.arange(200) < 100 for i in range(6)}
    after = raw | {"l1": np.arange(200) < 140, "l2": np.arange(200) < 101, "l3": np.arange(200) < 60}
    (found,) = compare_columns(
        {"m": {Column("z", "causal"): mean_scores(raw), ADAPTER: mean_scores(after),
               RAW: mean_scores(raw)}}, seed=0,
    )  # fmt: skip
    assert [column.kind for column in found.columns] == ["inductive", "inductive", "causal"]
    adapter = next(column for column in found.columns if column.name == "adapter")
    assert (adapter.wins, adapter.losses, adapter.significantly_worse) == (["l1"], ["l3"], ["l3"])
    assert adapter.change is not None
    assert adapter.change.low is not None
    assert adapter.change.high is not None
    assert adapter.change.low < adapter.change.mean < adapter.change.high
    assert adapter.change.mean == pytest.approx((20 + 0.5 - 20) / 6)
    baseline = next(column for column in found.columns if column.name == "raw")
    assert (baseline.change, baseline.wins, baseline.losses) == (None, [], [])
    (without,) = compare_columns({"m": {RAW: Scores({"a": 1.0}), ADAPTER: Scores({"a": 2.0})}}, seed=0)
    assert without.columns[1].significantly_worse is None


def test_without_languages_to_resample_there_is_no_interval_and_the_reason_is_said(
    session: Session, tmp_path: Path
) -> None:
    data = TaskTexts(path=write_parallel(tmp_path / "p.tsv"), selection=TextSelection(languages=["de"]))
    found = evaluate(session, "retrieval", data)
    (task,) = found.tasks
    (adapter,) = [row for row in summary_rows(task.measures[0]) if row[1] == "adapter"]
    assert adapter[4] == "none"
    assert notes(task) == [
        "There is no 95 % interval: it is drawn over languages, and there is one language."
    ]
    assert notes(task)[0] in found.to_markdown()
    value = found.to_json()["tasks"][0]["measures"][0]["columns"][1]["change"]
    assert (value["low"], value["high"]) == (None, None)
    pytest.importorskip("matplotlib")
    write_png(found, tmp_path / "found.png")


def test_every_output_names_the_kind_of_every_column(session: Session, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = evaluate(session, "retrieval", TaskTexts(path=write_parallel(tmp_path / "p|q.tsv")))
    value = found.to_json()
    assert json.loads(json.dumps(value)) == value
    (measure, _) = value["tasks"][0]["measures"]
    assert {(column["name"], column["kind"]) for column in measure["columns"]} >= {
        ("raw", "inductive"), ("adapter", "inductive"), ("adapter + stream mean", "causal"),
        ("raw + CSLS", "transductive"),
    }  # fmt: skip
    assert (value["seed"], value["n_draws"], value["uses_tags"], value["adapter"]) == (0, 2000, True, "toy")
    assert value["seconds"] > 0.0
    page = found.to_markdown()
    for kind in KINDS:
        assert f"**{kind}**" in page
        assert f"| {kind} |" in page
    assert "| language | raw [inductive] | adapter [inductive] | adapter + stream mean [causal] |" in page
    assert "## retrieval: p|q.tsv" in page
    picture = tmp_path / "found.png"
    write_png(found, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert evaluation().headline().startswith("Encoder eeeeeeeeeeee, adapter toy (version v)")
