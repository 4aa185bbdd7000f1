"""The part file and its note: the bytes so far, whose they are, and how far they can be trusted.

A kill at any moment leaves a part file that the next run continues; so does a power cut, from what is
known to be on disk.

Several connections write to one part file, each at a place of its own, so that there are gaps between what
they have written. The note says where: its first line is the note proper, which is replaced as a whole; each
further line is a later list of the gaps. A gap is noted before anything is written behind it, so that a list
may say too much, never too little.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from mwa_client.descriptors import OUT_OF_THEM
from mwa_client.directory.disk import boot_id, disk_errors, sync_directory
from mwa_client.directory.our_files import open_growing, open_ours, read_ours, write_safely
from mwa_client.errors import DirectoryBusy, DirectoryUnusable, DiskFull, Stopped
from mwa_client.json_text import read_strictly
from mwa_client.threads import has_started
from mwa_client.transfer.gaps import Gaps

if TYPE_CHECKING:
    from hashlib import _Hash

WRITE_SIZE = 1 << 20
"""Bytes that are written and hashed at a time."""
SYNC_SIZE = 64 << 20
"""Bytes after which the part file is flushed to disk: what a power cut can cost."""
READ_SIZE = 1 << 18
"""Bytes that are read again at a time; they then stay in the processor's memory."""
NOTE_SIZE = 4 << 20
"""Bytes after which the gaps are noted anew while there are some: what a kill can cost."""
MOMENT = 0.2
"""Seconds after which a wait looks up, to see whether the work was told to stop."""


@dataclass(frozen=True)
class ExpectedFile:
    """What a file must be.

    Attributes
    ----------
    job_id : int
        The job whose product it is.
    name : str
        Its final name in the download directory, already made safe.
    size : int or None
        Size in bytes, where the service says it.
    sha1 : str or None
        SHA-1 of the whole file, where the service says it.
    obs_id : int or None
        The observation, where it is known.
    """

    job_id: int
    name: str
    size: int | None
    sha1: str | None
    obs_id: int | None = None


@dataclass(frozen=True)
class Note:
    """What stands beside a part file: whose bytes they are.

    Attributes
    ----------
    etag : str
        The strong ETag that the server gave for these bytes; empty where it gave none.
    synced : int
        So far, every byte that is not missing is known to be on disk, whatever happens.
    boot : str
        The boot of the machine that wrote them: within it, every byte in the file can be trusted.
    missing : tuple of (int, int)
        The gaps: first byte of each, and the one behind its last.
    """

    job_id: int
    size: int | None
    sha1: str | None
    etag: str = ""
    synced: int = 0
    boot: str = ""
    missing: tuple[tuple[int, int], ...] = ()

    def belongs_to(self, wanted: ExpectedFile) -> bool:
        """Say whether these bytes are the beginning of the wanted file."""
        return (self.job_id, self.size, self.sha1) == (wanted.job_id, wanted.size, wanted.sha1)


class PartBroken(DirectoryUnusable):
    """The part file is not what was written, or cannot be read: only a new one will do."""


class PartFile:
    """The beginning of a file, and pieces of what follows. Made by `open_part`.

    It can be written from several threads, by a `PartWriter` for each.

    Attributes
    ----------
    length : int
        Bytes from the beginning on up to the first one that is missing.
    """

    def __init__(
        self, path: Path, wanted: ExpectedFile, stop: threading.Event, guard: Callable[[], None]
    ) -> None:
        self._path = path
        self._guard = guard
        self._note_path = _note_path(path)
        self._note = Note(wanted.job_id, wanted.size, wanted.sha1, boot=boot_id())
        self._file = -1
        self._changed = threading.Condition()
        """Held for what follows, never during a call to the system."""
        self._missing = Gaps()
        self._end = 0
        """Behind the last byte that was written, or is about to be."""
        self._reached = 0
        """How long the file must be at least, or somebody else has shortened it."""
        self._unsynced = self._unnoted = 0
        self._is_syncing = self._has_noted_gaps = False
        self._writing = 0
        self._generation = 0
        self._noting = threading.RLock()
        self._hasher = _Hasher(self)
        self._tail: PartWriter | None = None
        self._stop = stop

    @property
    def length(self) -> int:
        """Bytes from the beginning on up to the first one that is missing."""
        return self._tail.position if self._tail is not None else self._mark

    @property
    def there(self) -> int:
        """Bytes in all."""
        with self._changed:
            return self._end - self._missing.total

    @property
    def gaps(self) -> list[tuple[int, int | None]]:
        """What is missing: the first byte of each gap, and the one behind its last; nobody knows the end."""
        with self._changed:
            return [*self._missing, (self._end, None)]

    @property
    def etag(self) -> str:
        """The strong ETag of the bytes so far; empty where there is no single one."""
        return self._note.etag if self.length or self.there else ""

    def writer(self, start: int, most: int = 0) -> PartWriter:
        """Return what puts bytes into the file from there on, through a buffer of so many bytes."""
        return PartWriter(self, start, most or WRITE_SIZE)

    def append(self, data: bytes | memoryview) -> None:
        """Add bytes at the end.

        Raises
        ------
        DiskFull
            There is no room left; what is there is kept.
        """
        if self._tail is None:
            self._tail = self.writer(self._mark)
        self._tail.append(data)

    def forget_etag(self) -> None:
        """Note that the bytes are not all of one version, as far as the server can tell."""
        self.note_etag("")

    def beginning(self, most: int) -> bytes:
        """Return the first bytes, at most so many."""
        with disk_errors(self._path):
            return os.pread(self._file, min(most, self._mark), 0)

    def note_etag(self, etag: str) -> None:
        """Note the ETag of the bytes that are about to come."""
        if etag != self._note.etag:
            self._write_note(dataclasses.replace(self._note, etag=etag), sync=self._note.synced > 0)

    def restart(self, etag: str = "") -> None:
        """Throw the bytes away and begin again, for content with this ETag."""
        self._tail = None
        self._hasher.stop()
        with self._changed:
            # Who still writes must not write into the new bytes.
            self._generation += 1
            self._changed.wait_for(lambda: not self._writing)
            self._missing, self._end, self._reached = Gaps(), 0, 0
            self._unsynced = self._unnoted = 0
        self._hasher = _Hasher(self)
        self._guard()
        with disk_errors(self._path):
            os.ftruncate(self._file, 0)
        # A note on the disk that vouches for bytes must not outlive them.
        note = dataclasses.replace(self._note, etag=etag, synced=0, missing=())
        self._write_note(note, sync=self._note.synced > 0)

    def sync(self) -> None:
        """Bring every byte to the disk, and note which they are."""
        self._flush()
        with self._changed:
            end, missing = self._end, tuple(self._missing)
            self._unsynced = 0
        with disk_errors(self._path):
            os.fsync(self._file)
        self._write_note(dataclasses.replace(self._note, synced=end, missing=missing), sync=True)

    def sha1(self) -> str:
        """Return the SHA-1 of the bytes so far; wait for those that are still to be read again.

        Raises
        ------
        PartBroken
            They could not be read.
        Stopped
            The work was told to stop.
        """
        self._flush()
        return self._hasher.result(self._stop)

    def check(self) -> None:
        """Raise `PartBroken` if it is known that the file cannot become what it must."""
        self._hasher.check()

    def become(self, settle: Callable[[Path, int], Path]) -> None:
        """Have the finished part file given its final name, and make that last.

        Parameters
        ----------
        settle : callable
            Gives it that name: is told the part file and its modification time in nanoseconds since 1970, and
            returns the final path.
        """
        self._flush()
        self._guard()
        with disk_errors(self._path):
            os.fsync(self._file)
            self._check_identity()
            final = settle(self._path, os.fstat(self._file).st_mtime_ns)
            sync_directory(final.parent)
            with suppress(DirectoryBusy):  # Then it is another client's by now.
                self._guard()
                self._note_path.unlink(missing_ok=True)
        self._close()

    def discard(self) -> None:
        """Remove the part file and its note."""
        remove_part(self._path, self._guard)
        self._close()

    # --- What its writers need ------------------------------------------------------------------------

    def _write(self, data: memoryview, writer: PartWriter) -> None:
        """Write bytes at their place."""
        start = writer.written
        self._announce(start, start + len(data), writer.generation)
        try:
            self._guard()
            with disk_errors(self._path):
                reached = self._reached  # First, for meanwhile others write.
                if os.fstat(self._file).st_size < reached:
                    raise _broken(self._path, "somebody else has shortened it while it was written")
                while data:
                    # At its own place: who slept while another took over writes what is there already.
                    count = os.pwrite(self._file, data, writer.written)
                    self._has_written(writer.written, data[:count])
                    writer.written, data = writer.written + count, data[count:]
        finally:
            with self._changed:
                self._writing -= 1
                self._changed.notify_all()
        self._keep_up()

    def _announce(self, start: int, end: int, generation: int) -> None:
        """Take note of what is about to be written, on the disk where it leaves a gap before it."""
        with self._changed:
            if self._file < 0 or generation != self._generation:
                raise Stopped("The part file was given up.")
            self._writing += 1
            leaves_gap = start > self._end
            if end > self._end and not leaves_gap:
                self._missing.add(self._end, end)
                self._end = end
        if not leaves_gap:
            return
        try:
            with self._noting:
                with self._changed:
                    if end > self._end:
                        self._missing.add(self._end, end)
                        self._end = end
                self._note_gaps()
        except BaseException:
            with self._changed:
                self._writing -= 1
                self._changed.notify_all()
            raise

    def _has_written(self, start: int, data: memoryview) -> None:
        end = start + len(data)
        with self._changed:
            self._missing.remove(start, end)
            self._reached = max(self._reached, end)
            self._unsynced += len(data)
            self._unnoted += len(data)
        self._hasher.follow(start, data)

    def _keep_up(self) -> None:
        """Sync and note what has been written, where it is time to."""
        with self._changed:
            is_due = self._unsynced >= SYNC_SIZE and not self._is_syncing
            self._is_syncing = self._is_syncing or is_due
            has_gaps = len(self._missing) > 0
            must_note = self._unnoted >= (NOTE_SIZE if has_gaps else 1) and self._has_noted_gaps
        if is_due:
            try:
                self.sync()
            finally:
                self._is_syncing = False
        elif must_note and self._noting.acquire(blocking=False):
            try:
                self._note_gaps()
            finally:
                self._noting.release()

    @property
    def _mark(self) -> int:
        with self._changed:
            return self._missing.first[0] if self._missing else self._end

    def _flush(self) -> None:
        if self._tail is not None:
            self._tail.flush()

    # --- The file and its note ------------------------------------------------------------------------

    def _open(self, wanted: ExpectedFile) -> None:
        """Take up the bytes of an earlier run where they can be trusted, or begin anew."""
        with disk_errors(self._path):
            note = _read_note(self._note_path)
            self._file = open_growing(self._path)
            there = os.fstat(self._file).st_size
            if note is None or not note.belongs_to(wanted):
                self.restart()
                return
            is_same_boot = bool(note.boot) and note.boot == boot_id()
            trusted = there if is_same_boot else min(there, note.synced)
            if note.size is not None and trusted > note.size:
                trusted = 0
            missing = Gaps(note.missing).clipped(trusted)
            trusted = missing.without_last(trusted)
            if trusted < there:
                os.ftruncate(self._file, trusted)
            self._missing, self._end, self._reached = missing, trusted, trusted
            synced = min(note.synced, trusted)
            note = dataclasses.replace(note, synced=synced, boot=boot_id(), missing=tuple(missing))
            self._write_note(note, sync=note.synced > 0)
            self._hasher.catch_up()

    def _write_note(self, note: Note, sync: bool = False) -> None:
        # Meanwhile no gap is made that it does not know.
        with self._noting, disk_errors(self._note_path):
            self._guard()
            with self._changed:
                missing = tuple(self._missing)
                self._unnoted = 0
            self._note = note
            lines = [json.dumps(_fields_of(note))]
            if missing != note.missing:
                lines.append(json.dumps(missing))
            self._has_noted_gaps = bool(missing)
            write_safely(self._note_path, "".join(f"{line}\n" for line in lines), sync)

    def _note_gaps(self) -> None:
        """Add a line to the note that says where the gaps are now."""
        with self._noting, disk_errors(self._note_path):
            self._guard()
            with self._changed:
                missing = tuple(self._missing)
                self._unnoted = 0
            self._has_noted_gaps = bool(missing)
            file = open_ours(self._note_path, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(file, f"{json.dumps(missing)}\n".encode())
            finally:
                os.close(file)

    def _check_identity(self) -> None:
        """Raise an error if what is about to get the final name is not the file that was written."""
        written, there = os.fstat(self._file), self._path.lstat()
        if (written.st_dev, written.st_ino) != (there.st_dev, there.st_ino):
            raise _changed(self._path, "was replaced by another file while it was written")
        if written.st_size != self._end or self._missing:
            raise _changed(self._path, "was changed while it was written")

    def _keep(self) -> None:
        """Keep every byte that has arrived, through a reboot too; what ended the work is told, not this."""
        if self._file >= 0:
            with suppress(DiskFull, DirectoryUnusable, DirectoryBusy):
                self.sync()

    def _close(self) -> None:
        self._hasher.stop()
        with self._changed:
            self._changed.wait_for(lambda: not self._writing)
            if self._file >= 0:
                os.close(self._file)
                self._file = -1


class PartWriter:
    """Puts bytes into a part file, in order, from some place on. For one thread.

    Attributes
    ----------
    position : int
        Where the next byte goes.
    written : int
        Up to where all is in the file; the rest is in memory.
    """

    def __init__(self, part: PartFile, start: int, most: int) -> None:
        self._part = part
        self.generation = part._generation
        self._buffer = memoryview(bytearray(most))
        self._pending = 0
        self.written = start

    @property
    def position(self) -> int:
        """Where the next byte goes."""
        return self.written + self._pending

    def room(self) -> memoryview:
        """Return the memory where the next bytes are to be put; `grow` says how many were."""
        return self._buffer[self._pending :]

    def grow(self, count: int, skip: int = 0) -> None:
        """Add so many bytes that were put into `room`, behind some that do not count.

        Raises
        ------
        DiskFull
            There is no room left; what is there is kept.
        PartBroken
            The file is not what was written.
        """
        if skip:
            room = self.room()
            room[:count] = room[skip : skip + count]
        self._pending += count
        if self._pending == len(self._buffer):
            self.flush()

    def skip_to(self, position: int) -> None:
        """Go on at another place, where nothing is in memory."""
        assert position == self.position or not self._pending
        self.written = position - self._pending

    def append(self, data: bytes | memoryview) -> None:
        """Add bytes; raises as `grow` does."""
        rest = memoryview(data)
        while rest:
            room = self.room()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            self.grow(count)
            rest = rest[count:]

    def flush(self) -> None:
        """Write what is in memory; raises as `grow` does."""
        # Forget it first: after a failed write the bytes are fetched again, not written twice.
        view, self._pending = self._buffer[: self._pending], 0
        if view:
            self._part._write(view, self)


class _Hasher:
    """Computes the SHA-1 of a part file, in order: of what is just written, or else read again from the file.

    What an earlier run has left is read beside the download, and so is what was written out of order.
    """

    def __init__(self, part: PartFile) -> None:
        self._part = part
        self._sha1: _Hash = hashlib.sha1(usedforsecurity=False)
        self._position = 0
        self._is_busy = False
        self._is_over = False
        self._error: OSError | None = None
        self._changed = part._changed
        self._thread: threading.Thread | None = None

    def follow(self, start: int, data: memoryview) -> None:
        """Hash what was just written, or leave it to be read again when its turn comes."""
        with self._changed:
            is_next = start == self._position and not self._is_busy and self._error is None
            self._is_busy = self._is_busy or is_next
        if is_next:
            self._sha1.update(data)
            with self._changed:
                self._position += len(data)
                self._is_busy = False
        self.catch_up()

    def catch_up(self) -> None:
        """Have read what is there in order and not hashed yet, beside all else."""
        with self._changed:
            self._changed.notify_all()
            if self._thread is None and self._is_behind() and not self._is_over:
                thread = threading.Thread(target=self._run, name="sha1", daemon=True)
                if has_started(thread):  # Otherwise it is done in the end.
                    self._thread = thread

    def result(self, stop: threading.Event) -> str:
        """Return the SHA-1 of all that is there in order."""
        while True:
            with self._changed:
                if self._thread is not None and self._is_behind() and not stop.is_set():
                    self._changed.wait(MOMENT)
                is_behind, is_read_beside = self._is_behind(), self._thread is not None
            self.check()
            if not is_behind:
                return self._sha1.hexdigest()
            if stop.is_set():
                raise Stopped("The work was told to stop.")
            if not is_read_beside:
                self._read_on()

    def check(self) -> None:
        """Raise `PartBroken` if the file could not be read."""
        if self._error is not None:
            why = (self._error.strerror or str(self._error)).lower()
            raise _broken(self._part._path, f"it cannot be read back ({why})") from self._error

    def stop(self) -> None:
        """Give it up, and let go of the file."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _is_behind(self) -> bool:
        mark = self._part._missing.first[0] if self._part._missing else self._part._end
        return self._error is None and (self._is_busy or self._position < mark)

    def _run(self) -> None:
        while self._error is None:
            with self._changed:
                while not self._is_over and (self._is_busy or not self._is_behind()):
                    self._changed.wait()
                if self._is_over:
                    return
            self._read_on()

    def _read_on(self) -> None:
        """Hash one stretch, read from the file."""
        with self._changed:
            if self._is_busy or not self._is_behind():
                return
            self._is_busy = True
            mark = self._part._missing.first[0] if self._part._missing else self._part._end
            most = min(READ_SIZE, mark - self._position)
        count = 0
        try:
            data = os.pread(self._part._file, most, self._position)
            if not data:
                raise OSError(errno.EIO, "the part file became shorter while it was read")
            self._sha1.update(data)
            count = len(data)
        except OSError as error:
            self._error = error
        finally:
            with self._changed:
                self._position += count
                self._is_busy = False
                self._changed.notify_all()


@contextmanager
def open_part(
    path: Path, wanted: ExpectedFile, stop: threading.Event, guard: Callable[[], None] = lambda: None
) -> Iterator[PartFile]:
    """Open the part file of a wanted file, with what an earlier run left of it.

    Parameters
    ----------
    path : Path
        The part file; its note stands beside it.
    wanted : ExpectedFile
        What the file must become. Bytes of anything else are thrown away.
    stop : threading.Event
        Set when the work is to stop.
    guard : callable
        Raises `DirectoryBusy` if another client works in the directory; called before each change.

    Raises
    ------
    DirectoryUnusable, DiskFull
        The files cannot be written.
    Stopped
        `stop` was set.
    """
    part = PartFile(path, wanted, stop, guard)
    try:
        part._open(wanted)
        try:
            yield part
        finally:
            part._keep()
    finally:
        part._close()


def bytes_in_part(path: Path) -> int:
    """Return how many bytes a part file has, not counting the gaps in it; 0 where there is none."""
    with disk_errors(path):
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return 0
        note = _glance_at_note(path)
        return size - (Gaps(note.missing).clipped(size).total if note is not None else 0)


def job_of_part(path: Path) -> int | None:
    """Return the job whose bytes a part file has; None where there is no note that can be read."""
    note = _glance_at_note(path)
    return None if note is None else note.job_id


def remove_part(path: Path, guard: Callable[[], None] = lambda: None) -> None:
    """Remove a part file and its note, as far as they are there.

    Parameters
    ----------
    path : Path
        The part file.
    guard : callable
        As for `open_part`.
    """
    with disk_errors(path):
        for each in (path, _note_path(path)):
            if os.path.lexists(each):
                guard()
                each.unlink(missing_ok=True)


def _glance_at_note(path: Path) -> Note | None:
    try:
        return _read_note(_note_path(path))
    except OSError:
        return None


def _note_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _fields_of(note: Note) -> dict[str, object]:
    fields = dataclasses.asdict(note)
    if not note.missing:
        del fields["missing"]
    return fields


def _read_note(path: Path) -> Note | None:
    """Return the note with the gaps as they were noted last, or None where there is none that can be read."""
    try:
        first, *later = read_ours(path).decode("utf-8").split("\n")
        fields = read_strictly(first)
        if not isinstance(fields, dict):
            return None
        note = {field.name: fields.get(field.name, field.default) for field in dataclasses.fields(Note)}
        note["missing"] = _ranges(note["missing"])
    except (OSError, ValueError, TypeError, DirectoryUnusable) as error:
        if isinstance(error, OSError) and error.errno in OUT_OF_THEM:
            raise  # It may well be sound.
        return None
    is_sound = (
        _is_count(note["job_id"])
        and (note["size"] is None or _is_count(note["size"]))
        and (note["sha1"] is None or isinstance(note["sha1"], str))
        # It goes into a header of the next request.
        and isinstance(note["etag"], str)
        and note["etag"].isascii()
        and note["etag"].isprintable()
        and _is_count(note["synced"])
        and isinstance(note["boot"], str)
    )
    if not is_sound:
        return None
    if note["boot"] and note["boot"] == boot_id():
        # After a power cut only the first line counts: what it says was synced together with it.
        note["missing"] = _last_gaps(later, note["missing"])
    return Note(**note)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _last_gaps(lines: Iterable[str], otherwise: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    for line in lines:
        with suppress(ValueError, TypeError):  # A last line may be torn.
            otherwise = _ranges(read_strictly(line))
    return otherwise


def _ranges(pairs: Iterable[Iterable[int]]) -> tuple[tuple[int, int], ...]:
    ranges = tuple((start, end) for start, end in pairs)
    if not all(_is_count(each) for pair in ranges for each in pair):
        raise ValueError("no ranges of bytes")
    return tuple(Gaps(ranges))


def _broken(path: Path, why: str) -> PartBroken:
    return PartBroken(
        f"The part file {path} is of no use: {why}.",
        "If this repeats, check the disk, or choose another directory with --dir.",
    )


def _changed(path: Path, how: str) -> DirectoryUnusable:
    return DirectoryUnusable(
        f"The part file {path} {how}.",
        "Let no other program change what is in .mwa_client, then run the same command again.",
    )
