"""Reports on a set: raw and aligned vectors meet the same candidates, and every loss is named."""

import json

import numpy as np
import pytest
from toy_languages import DIM, ENCODER, toy_vectors

from alignstream.export.data.vector_sets import LabelledTexts
from alignstream.export.evaluate.measures import FROM_PIVOT, LABELS, MIXED_POOL, TO_PIVOT, transform_of
from alignstream.export.evaluate.set_report import Change, SetReport, judge
from alignstream.export.fit.default_adapter import NOT_USED
from alignstream.models.adapter.adapter import identity
from alignstream.models.errors import AdapterError


def test_labels_are_judged_with_aligned_label_texts() -> None:
    raw = toy_vectors(3)
    labelled = LabelledTexts(prototypes=raw["en"], gold=np.arange(3))
    report = judge("s", raw, transform_of(identity(ENCODER, DIM)), use=NOT_USED, labelled=labelled)
    assert list(report.measures) == [LABELS]
    assert report.measures[LABELS]["en"] == Change(raw=100.0, adapter=100.0)


def test_the_identity_wins_and_loses_nothing() -> None:
    report = judge("s", toy_vectors(25), transform_of(identity(ENCODER, DIM)), use=NOT_USED, pivot="en")
    for name in (TO_PIVOT, FROM_PIVOT, MIXED_POOL):
        assert report.mean(name).raw == report.mean(name).adapter
        assert report.wins(name) == report.losses(name) == []
    assert set(report.kept.values()) == {100.0}
    assert report.mean_kept == 100.0


def test_every_language_beyond_half_a_point_is_a_win_or_a_loss_by_name() -> None:
    changes = {
        "a": Change(50.0, 50.5),
        "b": Change(50.0, 50.6),
        "c": Change(50.0, 49.0),
        "d": Change(9.0, 2.0),
    }
    report = SetReport("s", NOT_USED, "en", 10, {TO_PIVOT: changes}, dict.fromkeys("abcd", 70.0))
    assert report.wins(TO_PIVOT) == ["b"]
    assert report.losses(TO_PIVOT) == ["d", "c"]
    summary = report.summary()
    assert summary["losses"] == {TO_PIVOT: ["d", "c"]}
    assert summary["measures"] == [TO_PIVOT]
    assert summary["by_language"]["d"] == [[9.0, 2.0]]
    assert json.loads(json.dumps(summary)) == summary


def test_sets_that_are_not_parallel_are_refused() -> None:
    raw = toy_vectors()
    raw["de"] = raw["de"][:-1]
    with pytest.raises(AdapterError, match="same number of lines"):
        judge("s", raw, transform_of(identity(ENCODER, DIM)), use=NOT_USED, pivot="en")
