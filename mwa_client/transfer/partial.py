"""The part file and its note: the bytes so far, whose they are, and how far they can be trusted.

A kill at any moment leaves a part file that the next run continues; so does a power cut, from the last
byte that is known to be on disk.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from mwa_client.disk import boot_id, disk_errors, open_growing, read_document, sync_directory, write_safely
from mwa_client.errors import DirectoryBusy, DirectoryUnusable, DiskFull, Stopped

if TYPE_CHECKING:
    from hashlib import _Hash

WRITE_SIZE = 1 << 20
"""Bytes that are written and hashed at a time."""
SYNC_SIZE = 64 << 20
"""Bytes after which the part file is flushed to disk: what a power cut can cost."""


@dataclass(frozen=True)
class Wanted:
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
        How many bytes are known to be on disk, whatever happens.
    boot : str
        The boot of the machine that wrote them: within it, every byte in the file can be trusted.
    """

    job_id: int
    size: int | None
    sha1: str | None
    etag: str = ""
    synced: int = 0
    boot: str = ""

    def belongs_to(self, wanted: Wanted) -> bool:
        """Say whether these bytes are the beginning of the wanted file."""
        return (self.job_id, self.size, self.sha1) == (wanted.job_id, wanted.size, wanted.sha1)


class PartFile:
    """The beginning of a file, growing at its end. Made by `open_part`.

    Attributes
    ----------
    length : int
        Bytes so far.
    """

    def __init__(self, path: Path, wanted: Wanted, stop: threading.Event, guard: Callable[[], None]) -> None:
        self._path = path
        self._guard = guard
        self._note_path = _note_path(path)
        self._note = Note(wanted.job_id, wanted.size, wanted.sha1, boot=boot_id())
        self._buffer = memoryview(bytearray(WRITE_SIZE))
        self._pending = 0
        self._written = 0
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._old: _OldBytes | None = None
        self._file = -1
        self._stop = stop

    @property
    def length(self) -> int:
        """Bytes so far."""
        return self._written + self._pending

    @property
    def etag(self) -> str:
        """The strong ETag of the bytes so far; empty where the server gave none."""
        return self._note.etag if self.length else ""

    def room(self) -> memoryview:
        """Return the memory where the next bytes are to be put; `grow` says how many were."""
        return self._buffer[self._pending :]

    def grow(self, count: int) -> None:
        """Add at the end so many bytes that were put into `room`.

        Raises
        ------
        DiskFull
            There is no room left; what is there is kept.
        """
        self._pending += count
        if self._pending == len(self._buffer):
            self._write_pending()
            if self._written - self._note.synced >= SYNC_SIZE:
                self.sync()

    def append(self, data: bytes | memoryview) -> None:
        """Add bytes at the end; raises as `grow` does."""
        rest = memoryview(data)
        while rest:
            room = self.room()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            self.grow(count)
            rest = rest[count:]

    def restart(self, etag: str = "") -> None:
        """Throw the bytes away and begin again, for content with this ETag."""
        self._pending = 0
        self._written = 0
        self._forget_old()
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._guard()
        with disk_errors(self._path):
            os.ftruncate(self._file, 0)
        # A note on the disk that vouches for bytes must not outlive them.
        self._write_note(dataclasses.replace(self._note, etag=etag, synced=0), sync=self._note.synced > 0)

    def sync(self) -> None:
        """Bring every byte to the disk, and note how many they are."""
        self._write_pending()
        with disk_errors(self._path):
            os.fsync(self._file)
        self._write_note(dataclasses.replace(self._note, synced=self._written), sync=True)

    def sha1(self) -> str:
        """Return the SHA-1 of the bytes so far; wait for those of an earlier run to be read.

        Raises
        ------
        DirectoryUnusable
            They could not be read.
        Stopped
            The work was told to stop.
        """
        self._write_pending()
        if self._old is not None:
            with disk_errors(self._path):
                self._old.wait(self._stop)
        return self._sha1.hexdigest()

    def become(self, settle: Callable[[Path, int], Path]) -> None:
        """Have the finished part file given its final name, and make that last.

        Parameters
        ----------
        settle : callable
            Gives it that name: is told the part file and its modification time in nanoseconds since 1970, and
            returns the final path.
        """
        self._write_pending()
        self._guard()
        with disk_errors(self._path):
            os.fsync(self._file)
            state = os.fstat(self._file)
            if state.st_size != self._written:
                raise OSError(errno.EIO, "the part file was changed while it was written")
            final = settle(self._path, state.st_mtime_ns)
            sync_directory(final.parent)
            self._note_path.unlink(missing_ok=True)
        self._close()

    def discard(self) -> None:
        """Remove the part file and its note."""
        remove_part(self._path)
        self._close()

    def _open(self, wanted: Wanted) -> None:
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
            if trusted < there:
                os.ftruncate(self._file, trusted)
            self._written = trusted
            if trusted:
                self._old = _OldBytes(self._file, self._sha1, trusted)
            note = dataclasses.replace(note, synced=min(note.synced, trusted), boot=boot_id())
            self._write_note(note, sync=note.synced > 0)

    def _write_pending(self) -> None:
        # Forget them first: after a failed write the bytes are fetched again, not written twice.
        view, self._pending = self._buffer[: self._pending], 0
        if view:
            self._guard()
        with disk_errors(self._path):
            while view:
                # At its own place: who slept while another took over writes what is there already.
                written = os.pwrite(self._file, view, self._written)
                self._written += written
                if self._old is None or self._old.has_caught_up(self._written):
                    self._old = None
                    self._sha1.update(view[:written])
                view = view[written:]

    def _write_note(self, note: Note, sync: bool = False) -> None:
        self._note = note
        with disk_errors(self._note_path):
            write_safely(self._note_path, json.dumps(dataclasses.asdict(note)) + "\n", sync)

    def _keep(self) -> None:
        """Keep every byte that has arrived, through a reboot too; what ended the work is told, not this."""
        if self._file >= 0:
            with suppress(DiskFull, DirectoryUnusable, DirectoryBusy):
                self.sync()

    def _forget_old(self) -> None:
        if self._old is not None:
            self._old.cancel()
            self._old = None

    def _close(self) -> None:
        self._forget_old()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class _OldBytes:
    """Hashes what an earlier run has left, beside the download, and what is appended until it catches up.

    Parameters
    ----------
    file : int
        The open part file.
    sha1 : hashlib hash
        Belongs to this object until it has caught up.
    length : int
        Bytes in the file.
    """

    def __init__(self, file: int, sha1: _Hash, length: int) -> None:
        self._file, self._sha1 = file, sha1
        self._position, self._length = 0, length
        self._error: OSError | None = None
        self._is_cancelled = self._is_done = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="old bytes", daemon=True)
        self._thread.start()

    def has_caught_up(self, length: int) -> bool:
        """Say whether all but the bytes written last are hashed; if not, these are hashed here, too."""
        with self._lock:
            if not self._is_done:
                self._length = length
            return self._is_done

    def wait(self, stop: threading.Event) -> None:
        """Wait until all is hashed."""
        while self._thread.is_alive():
            if stop.is_set():
                raise Stopped("The work was told to stop.")
            self._thread.join(0.2)
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Give it up, and let go of the file."""
        self._is_cancelled = True
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._is_cancelled and self._is_behind():
                most = min(WRITE_SIZE, self._length - self._position)
                data = os.pread(self._file, most, self._position)
                if not data:
                    raise OSError(errno.EIO, "the part file became shorter while it was read")
                self._sha1.update(data)
                self._position += len(data)
        except OSError as error:
            self._error = error

    def _is_behind(self) -> bool:
        with self._lock:
            self._is_done = self._position == self._length
            return not self._is_done


@contextmanager
def open_part(
    path: Path, wanted: Wanted, stop: threading.Event, guard: Callable[[], None] = lambda: None
) -> Iterator[PartFile]:
    """Open the part file of a wanted file, with what an earlier run left of it.

    Parameters
    ----------
    path : Path
        The part file; its note stands beside it.
    wanted : Wanted
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


def remove_part(path: Path) -> None:
    """Remove a part file and its note, as far as they are there."""
    with disk_errors(path):
        path.unlink(missing_ok=True)
        _note_path(path).unlink(missing_ok=True)


def _note_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _read_note(path: Path) -> Note | None:
    """Return the note, or None where there is none that can be read."""
    try:
        fields = read_document(path)
    except OSError:
        return None
    if not isinstance(fields, dict):
        return None
    note = {field.name: fields.get(field.name, field.default) for field in dataclasses.fields(Note)}
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
    return Note(**note) if is_sound else None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0
