"""The crash journal breaks crash loops: it notes which records were in flight when the worker died.

Before a batch is encoded, its offsets are written to disk; after it is acknowledged, they are removed. A worker
that finds such a note processes those records one at a time. A record is given up only if it killed the worker
often enough *while processed alone, and while being encoded*. Kills from outside, a broker that refuses records, or
an encoder that fails on every text do not count.

There is one file per partition, because a partition belongs to one worker at a time.
"""

import contextlib
import logging
import urllib.parse
from collections.abc import Iterable
from pathlib import Path

import msgspec

from alignstream.models.files import replace_file

logger = logging.getLogger(__name__)


class InFlightNote(msgspec.Struct):
    """The records of one partition that were in flight, and how often each was tried alone.

    ``attempts`` counts, by offset, how often the worker started on the record alone and did not finish.
    """

    in_flight: list[int] = msgspec.field(default_factory=list)
    attempts: dict[int, int] = msgspec.field(default_factory=dict)


class CrashJournal:
    """Notes on disk, one per partition. Used only by the agents.

    Parameters
    ----------
    folder : Path
        Folder of the notes; created if missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._notes: dict[tuple[str, int], InFlightNote] = {}
        self._is_writable = True

    def _path(self, topic: str, partition: int) -> Path:
        return self._folder / f"{urllib.parse.quote(topic, safe='')}-{partition}.json"

    def assigned(self) -> None:
        """Forget the notes in memory: another worker may have changed those of newly assigned partitions."""
        self._notes.clear()

    def _note(self, topic: str, partition: int) -> InFlightNote:
        key = (topic, partition)
        if key not in self._notes:
            path = self._path(topic, partition)
            note = InFlightNote()
            with contextlib.suppress(FileNotFoundError):
                try:
                    note = msgspec.json.decode(path.read_bytes(), type=InFlightNote)
                except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
                    if isinstance(error, FileNotFoundError):
                        raise
                    # A power cut may leave half a note. Ignoring it only means taking the next batch as a whole.
                    logger.warning("crash journal: %s cannot be read and is ignored", path)
            self._notes[key] = note
        return self._notes[key]

    def is_suspect(self, topic: str, partition: int, offset: int) -> bool:
        """Return whether a record was in flight when a worker died."""
        note = self._note(topic, partition)
        return offset in note.in_flight or offset in note.attempts

    def attempts(self, topic: str, partition: int, offset: int) -> int:
        """Return how often the worker started on a record alone and did not finish."""
        return self._note(topic, partition).attempts.get(offset, 0)

    def start(self, offsets: Iterable[tuple[str, int, int]], *, alone: bool) -> None:
        """InFlightNote records (topic, partition, offset) as in flight, before they can kill the worker."""
        touched: dict[tuple[str, int], InFlightNote] = {}
        for topic, partition, offset in offsets:
            note = self._note(topic, partition)
            if alone:
                note.attempts[offset] = note.attempts.get(offset, 0) + 1
            elif offset not in note.in_flight:
                note.in_flight.append(offset)
            touched[topic, partition] = note
        self._write(touched)

    def absolve(self, offsets: Iterable[tuple[str, int, int]]) -> None:
        """InFlightNote that records are not to blame if the process ends now; they are still processed alone."""
        touched: dict[tuple[str, int], InFlightNote] = {}
        for topic, partition, offset in offsets:
            note = self._note(topic, partition)
            if note.attempts.get(offset):
                note.attempts[offset] = 0
                touched[topic, partition] = note
        self._write(touched)

    def finish(self, offsets: Iterable[tuple[str, int, int]]) -> None:
        """Remove records from the notes, once their outputs are confirmed."""
        touched: dict[tuple[str, int], InFlightNote] = {}
        for topic, partition, offset in offsets:
            note = self._note(topic, partition)
            # Partitions are processed in order: lower offsets are finished too, and never come again.
            note.attempts = {later: n for later, n in note.attempts.items() if later > offset}
            note.in_flight = [later for later in note.in_flight if later > offset]
            touched[topic, partition] = note
        self._write(touched)

    def _write(self, touched: dict[tuple[str, int], InFlightNote]) -> None:
        try:
            for (topic, partition), note in touched.items():
                self._write_one(self._path(topic, partition), note)
        except OSError as error:
            # A full disk must not stop the stream: without notes, all that is lost is the way out of crash loops.
            if self._is_writable:
                logger.warning("crash journal: cannot write to %s: %s", self._folder, error.strerror)
            self._is_writable = False
        else:
            self._is_writable = True

    def _write_one(self, path: Path, note: InFlightNote) -> None:
        if not note.in_flight and not note.attempts:
            path.unlink(missing_ok=True)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        # A note must survive the process, not the machine.
        replace_file(path, msgspec.json.encode(note), is_durable=False)
