"""What the learner goes on from when its log is damaged."""

import hashlib

import numpy as np
import pytest

from alignstream.streams import observations
from alignstream.streams.codec import half_vector_field
from alignstream.streams.epoch_log import EpochLog, EpochV1, StateV1, Summary, Version
from alignstream.streams.learning import Frozen, Learning, Opened
from alignstream.streams.observations import Control, ObservationsV1, ObservedText, Source

DIM = 8
PLACE = ("encoder", "tenant")


def damaged(*, is_frozen: bool = False) -> EpochLog:
    """Return a log with a state of which a part is missing, and epochs up to 7, of which an older one serves."""
    log = EpochLog()
    gone = hashlib.sha256(b"gone").hexdigest()
    log.states[PLACE] = StateV1(
        term=1, encoder=PLACE[0], tenant=PLACE[1], dim=DIM, position=90, sections={"core": [gone]},
        summary=Summary(),
    )  # fmt: skip
    current, newest = (
        Version(number=number, reason="doubling", position=9, sha256=gone, size_bytes=4, parts=[gone])
        for number in (5, 7)
    )
    log.epochs[PLACE] = EpochV1(
        term=1, encoder=PLACE[0], tenant=PLACE[1], current=current, history=[newest], is_frozen=is_frozen
    )
    return log


def texts(learning: Learning, offset: int) -> list[object]:
    draw = np.random.default_rng(offset)
    items = []
    for number in range(32):
        x = draw.standard_normal(DIM).astype(np.float32)
        vector = half_vector_field((x / np.linalg.norm(x)).astype(np.float32))
        items.append(ObservedText(Source("documents.v1", 0, 32 * offset + number), PLACE[1], vector))
    value = observations.encode(ObservationsV1(encoder=PLACE[0], dim=DIM, texts=tuple(items)))
    return list(learning.take(offset, 1000, value))


def test_a_state_that_cannot_be_read_begins_anew_and_its_epochs_are_numbered_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    learning = Learning.restored(damaged(), lambda *_: None, max_tenants=10)
    assert "begins anew" in caplog.text
    assert texts(learning, 89) == [], "observations that were in it are not learned again"
    (opened,) = texts(learning, 90)
    assert isinstance(opened, Opened)
    assert (opened.epoch.number, len(opened.epoch.bank)) == (8, 32)
    assert learning.dirty()


def test_a_state_that_cannot_be_read_stays_frozen() -> None:
    learning = Learning.restored(damaged(is_frozen=True), lambda *_: None, max_tenants=10)
    assert texts(learning, 90) == []
    control = Control(id="thaw", action="thaw", tenant=PLACE[1])
    frozen, opened = learning.take(91, 2000, observations.encode(ObservationsV1(control=control)))
    assert isinstance(frozen, Frozen)
    assert (frozen.is_frozen, frozen.moment) == (False, (2000, 92))
    assert isinstance(opened, Opened)
    assert opened.epoch.number == 8
