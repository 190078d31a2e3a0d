"""Crash loops end at the record that causes them, and at no other."""

import logging
from pathlib import Path

import pytest

from alignstream.streams.worker.crash_journal import CrashJournal

TOPIC = "documents.v1"


def places(*offsets: int, partition: int = 0) -> list[tuple[str, int, int]]:
    return [(TOPIC, partition, offset) for offset in offsets]


def suspects(journal: CrashJournal, *offsets: int, partition: int = 0) -> list[int]:
    return [offset for offset in offsets if journal.is_suspect(TOPIC, partition, offset)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "in-flight"


def test_a_worker_that_died_with_a_batch_finds_its_records_under_suspicion(folder: Path) -> None:
    CrashJournal(folder).start(places(5, 6, 7), alone=False)
    journal = CrashJournal(folder)
    assert suspects(journal, 4, 5, 6, 7, 8) == [5, 6, 7]
    assert [journal.attempts(*place) for place in places(5, 6, 7)] == [0, 0, 0]


def test_a_finished_batch_leaves_no_note(folder: Path) -> None:
    journal = CrashJournal(folder)
    journal.start(places(5, 6), alone=False)
    journal.finish(places(5, 6))
    assert suspects(journal, 5, 6) == []
    assert list(folder.iterdir()) == []


def test_an_orderly_end_in_mid_batch_keeps_the_note(folder: Path) -> None:
    journal = CrashJournal(folder)
    journal.start(places(5, 6), alone=False)
    journal.finish(places(5))
    assert suspects(CrashJournal(folder), 5, 6) == [6]


def test_only_deaths_alone_are_counted(folder: Path) -> None:
    for _ in range(5):
        CrashJournal(folder).start(places(5, 6), alone=False)
    assert CrashJournal(folder).attempts(TOPIC, 0, 5) == 0
    for expected in (1, 2, 3):
        CrashJournal(folder).start(places(5), alone=True)
        assert CrashJournal(folder).attempts(TOPIC, 0, 5) == expected
    assert CrashJournal(folder).attempts(TOPIC, 0, 6) == 0


def test_a_record_that_lived_through_it_is_not_to_blame_but_stays_alone(folder: Path) -> None:
    """A burst of kills from outside meets a record mostly while it waits for the broker."""
    for _ in range(10):
        journal = CrashJournal(folder)
        journal.start(places(5), alone=True)
        journal.absolve(places(5))
    journal = CrashJournal(folder)
    assert journal.attempts(TOPIC, 0, 5) == 0
    assert suspects(journal, 5) == [5]


def test_a_burst_of_kills_condemns_nobody_while_the_worker_gets_anywhere(folder: Path) -> None:
    CrashJournal(folder).start(places(*range(10)), alone=False)
    for offset in range(10):
        # Killed once with each record alone, then it gets through, and is killed with the next one.
        CrashJournal(folder).start(places(offset), alone=True)
        journal = CrashJournal(folder)
        assert journal.attempts(TOPIC, 0, offset) == 1
        journal.start(places(offset), alone=True)
        journal.absolve(places(offset))
        journal.finish(places(offset))
    assert list(folder.iterdir()) == []


def test_finishing_a_record_clears_what_lies_below_it(folder: Path) -> None:
    """Notes of a former owner: another worker went on, and what lies below never comes again."""
    journal = CrashJournal(folder)
    journal.start(places(5, 6), alone=False)
    journal.start(places(5), alone=True)
    journal.finish(places(400))
    assert suspects(CrashJournal(folder), 5, 6) == []


def test_finishing_a_record_keeps_what_lies_above_it(folder: Path) -> None:
    CrashJournal(folder).start(places(5, 6, 7), alone=False)
    journal = CrashJournal(folder)
    journal.start(places(5), alone=True)
    journal.finish(places(5))
    assert suspects(CrashJournal(folder), 5, 6, 7) == [6, 7]


def test_partitions_do_not_touch_each_other(folder: Path) -> None:
    journal = CrashJournal(folder)
    journal.start([*places(5), *places(5, partition=1)], alone=False)
    journal.finish(places(9))
    assert suspects(CrashJournal(folder), 5) == []
    assert suspects(CrashJournal(folder), 5, partition=1) == [5]


def test_topics_whose_names_need_quoting_have_files_of_their_own(folder: Path) -> None:
    journal = CrashJournal(folder)
    journal.start([("a/b", 0, 1), ("a%2Fb", 0, 2)], alone=False)
    again = CrashJournal(folder)
    assert again.is_suspect("a/b", 0, 1)
    assert not again.is_suspect("a%2Fb", 0, 1)


def test_an_assignment_reads_again_what_another_worker_wrote(folder: Path) -> None:
    mine, theirs = CrashJournal(folder), CrashJournal(folder)
    assert suspects(mine, 5) == []
    theirs.start(places(5), alone=True)
    assert suspects(mine, 5) == []
    mine.assigned()
    assert suspects(mine, 5) == [5]
    assert mine.attempts(TOPIC, 0, 5) == 1


def test_a_worker_that_comes_back_late_adds_no_blame(folder: Path) -> None:
    zombie, owner = CrashJournal(folder), CrashJournal(folder)
    zombie.start(places(5, 6), alone=False)
    owner.finish(places(5, 6))
    owner.start(places(7), alone=True)
    zombie.finish(places(5, 6))  # removes the owner's note: that costs a retry in a batch, no more
    assert CrashJournal(folder).attempts(TOPIC, 0, 7) == 0


@pytest.mark.parametrize("content", [b"", b'{"in_flight":[5', b"\xff", b'{"in_flight":["a"]}', b"[]"])
def test_half_a_note_is_ignored_with_a_warning(
    folder: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    CrashJournal(folder).start(places(5), alone=True)
    (path,) = folder.iterdir()
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert suspects(CrashJournal(folder), 5) == []
    assert str(path) in caplog.text


def test_a_disk_that_refuses_does_not_stop_the_stream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    journal = CrashJournal(blocked / "in-flight")
    with caplog.at_level(logging.WARNING):
        for offset in range(3):
            journal.start(places(offset), alone=False)
            journal.finish(places(offset))
    assert "cannot write" in caplog.text or "cannot be read" in caplog.text
    assert len([record for record in caplog.records if "cannot write" in record.message]) == 1
