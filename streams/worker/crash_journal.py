"""Crash loops broken: which records were in hand when the worker died, and how often each died alone.

Before a batch is encoded its offsets are noted on disk; after it is acknowledged the note is removed. A
worker that finds a note takes those records one at a time. Only a record that killed the worker often enough
*while it was alone, and while it was being encoded* is given up: a burst of kills from outside, a broker that
refuses, or an encoder that is broken for every text, condemn nobody.

One file a partition: a partition belongs to one worker at a time, whichever it is.
"""

import contextlib
import logging
import urllib.parse
from collections.abc import Iterable
from pathlib import Path

import msgspec

from alignstream.models.files import replace_file

logger = logging.getLogger(__name__)


class Note(msgspec.Struct):
    """The records of one partition that were in hand, and how often each was tried alone.

    ``attempts`` counts, by offset, the times that the record was started alone and did not live through it.
    """

    in_hand: list[int] = msgspec.field(default_factory=list)
    attempts: dict[int, int] = msgspec.field(default_factory=dict)


class CrashJournal:
    """Notes on disk, one a partition. Used from the agent alone.

    Parameters
    ----------
    folder : Path
        Where the notes are kept; made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._notes: dict[tuple[str, int], Note] = {}
        self._is_writable = True

    def _path(self, topic: str, partition: int) -> Path:
        return self._folder / f"{urllib.parse.quote(topic, safe='')}-{partition}.json"

    def assigned(self) -> None:
        """Forget what is in memory: another worker may have written since these partitions were ours."""
        self._notes.clear()

    def _note(self, topic: str, partition: int) -> Note:
        key = (topic, partition)
        if key not in self._notes:
            path = self._path(topic, partition)
            note = Note()
            with contextlib.suppress(FileNotFoundError):
                try:
                    note = msgspec.json.decode(path.read_bytes(), type=Note)
                except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
                    if isinstance(error, FileNotFoundError):
                        raise
                    # Half a note is what a power cut leaves: it only costs taking the next batch whole.
                    logger.warning("crash journal: %s is unreadable, ignored", path)
            self._notes[key] = note
        return self._notes[key]

    def is_suspect(self, topic: str, partition: int, offset: int) -> bool:
        """Say whether a record was in hand when a worker died."""
        note = self._note(topic, partition)
        return offset in note.in_hand or offset in note.attempts

    def attempts(self, topic: str, partition: int, offset: int) -> int:
        """Return how often a record was started alone and did not live through it."""
        return self._note(topic, partition).attempts.get(offset, 0)

    def start(self, offsets: Iterable[tuple[str, int, int]], *, alone: bool) -> None:
        """Note records as in hand: (topic, partition, offset) each, before anything can kill the worker."""
        touched: dict[tuple[str, int], Note] = {}
        for topic, partition, offset in offsets:
            note = self._note(topic, partition)
            if alone:
                note.attempts[offset] = note.attempts.get(offset, 0) + 1
            elif offset not in note.in_hand:
                note.in_hand.append(offset)
            touched[topic, partition] = note
        self._write(touched)

    def absolve(self, offsets: Iterable[tuple[str, int, int]]) -> None:
        """Note that records are not to blame for whatever ends the process now; they are still taken alone."""
        touched: dict[tuple[str, int], Note] = {}
        for topic, partition, offset in offsets:
            note = self._note(topic, partition)
            if note.attempts.get(offset):
                note.attempts[offset] = 0
                touched[topic, partition] = note
        self._write(touched)

    def finish(self, offsets: Iterable[tuple[str, int, int]]) -> None:
        """Remove records from the notes: their outputs are confirmed."""
        touched: dict[tuple[str, int], Note] = {}
        for topic, partition, offset in offsets:
            note = self._note(topic, partition)
            # A partition is worked through in order: what lies below is finished too, and never comes again.
            note.attempts = {other: n for other, n in note.attempts.items() if other > offset}
            note.in_hand = [other for other in note.in_hand if other > offset]
            touched[topic, partition] = note
        self._write(touched)

    def _write(self, touched: dict[tuple[str, int], Note]) -> None:
        try:
            for (topic, partition), note in touched.items():
                self._write_one(self._path(topic, partition), note)
        except OSError as error:
            # A full disk must not stop the stream: without notes only the way out of a crash loop is missing.
            if self._is_writable:
                logger.warning("crash journal: cannot write in %s: %s", self._folder, error.strerror)
            self._is_writable = False
        else:
            self._is_writable = True

    def _write_one(self, path: Path, note: Note) -> None:
        if not note.in_hand and not note.attempts:
            path.unlink(missing_ok=True)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        # It must outlive the process, not the machine.
        replace_file(path, msgspec.json.encode(note), is_durable=False)
