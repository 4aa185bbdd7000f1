"""The part file: the bytes of a file so far, kept so that a kill at any moment costs next to nothing.

A kill at any moment leaves a part file that the next run continues; so does a power cut, from what is
known to be on disk.

Several connections write to one part file, each at a position of its own, so that there are gaps between what
they have written. The note beside the file says where. A gap is noted before anything is written behind it,
so that the note may list too many gaps, never too few.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable

from mwa_client.directory.disk import boot_id, disk_errors, length_so_far, sync_directory
from mwa_client.directory.our_files import open_growing
from mwa_client.errors import DirectoryBusy, DirectoryUnusable, DiskFull, Stopped
from mwa_client.transfer.files import ExpectedFile
from mwa_client.transfer.gaps import Contents, Gaps
from mwa_client.transfer.part_hash import PartBroken, PartHasher, part_changed
from mwa_client.transfer.part_note import Note, NoteFile, Ranges, note_of, note_path, read_note
from mwa_client.transfer.part_writer import PartWriter

WRITE_SIZE = 1 << 20
"""Bytes that are written and hashed at a time."""
SYNC_SIZE = 64 << 20
"""Bytes after which the part file is flushed to disk: what a power cut can cost."""
NOTE_SIZE = 4 << 20
"""Bytes after which the gaps are noted anew while there are some: what a kill can cost."""


class PartFile:
    """The bytes of a file so far. Made by `open_part`; each thread writes with a `PartWriter` of its own.

    Attributes
    ----------
    generation : int
        How often all was thrown away: who still writes must not write into the new bytes.
    window : int
        How far ahead of the first byte that is missing others may be fetched: what is written out of order is
        read again for its SHA-1, and should still be in the machine's memory then.
    """

    window = 2 << 30

    def __init__(
        self, path: Path, expected: ExpectedFile, stop: threading.Event, guard: Callable[[], None]
    ) -> None:
        self._path = path
        self._stop = stop
        self._guard = guard
        note = Note(expected.job_id, expected.size, expected.sha1, boot=boot_id())
        self._note_file = NoteFile(note_path(path), note, guard)
        self._file = -1
        self._changed = threading.Condition()
        """Held for what follows, never during a call to the system."""
        self._contents = Contents()
        self._unsynced = self._unnoted = 0
        self._is_syncing = False
        self._writing = 0
        """How many threads are writing."""
        self.generation = 0
        self._hasher = self._new_hasher()
        self._tail: PartWriter | None = None

    @property
    def length(self) -> int:
        """Bytes from the beginning up to the first one that is missing."""
        if self._tail is not None:
            return self._tail.position
        with self._changed:
            return self._contents.contiguous_end

    @property
    def present(self) -> int:
        """Bytes in all, not counting the gaps."""
        with self._changed:
            return self._contents.present

    @property
    def gaps(self) -> list[tuple[int, int | None]]:
        """The first byte of each gap and the one behind its last; the last gap has no known end."""
        with self._changed:
            return [*self._contents.missing, (self._contents.end, None)]

    @property
    def etag(self) -> str:
        """The strong ETag of the bytes so far; empty where there is no single one."""
        return self._note_file.note.etag if self.length or self.present else ""

    def writer(self, start: int, buffer_size: int = 0) -> PartWriter:
        """Return what writes bytes into the file from `start` on, through a buffer of so many bytes."""
        return PartWriter(self, start, buffer_size or WRITE_SIZE)

    def append(self, data: bytes | memoryview) -> None:
        """Add bytes at the end.

        Raises
        ------
        DiskFull
            There is no room left; what is there is kept.
        """
        if self._tail is None:
            self._tail = self.writer(self.length)
        self._tail.append(data)

    def beginning(self, most: int) -> bytes:
        """Return the first bytes of the file, at most so many."""
        with self._changed:
            most = min(most, self._contents.contiguous_end)
        with disk_errors(self._path):
            return os.pread(self._file, most, 0)

    def note_etag(self, etag: str) -> None:
        """Note the ETag of all bytes, here or about to come; empty where they may not be of one version."""
        note = self._note_file.note
        if etag != note.etag:
            new = dataclasses.replace(note, etag=etag)
            self._note_file.replace(new, self._list_gaps, sync=note.synced > 0)

    def restart(self, etag: str = "") -> None:
        """Throw the bytes away and begin again, for content with this ETag."""
        self._tail = None
        self._hasher.stop()
        with self._changed:
            self.generation += 1
            self._changed.wait_for(lambda: not self._writing)
            self._contents.set(Gaps(), 0)
            self._unsynced = self._unnoted = 0
        self._hasher = self._new_hasher()
        self._guard()
        with disk_errors(self._path):
            os.ftruncate(self._file, 0)
        # A note on the disk that vouches for bytes must not outlive them.
        before = self._note_file.note
        note = dataclasses.replace(before, etag=etag, synced=0, missing=())
        self._note_file.replace(note, self._list_gaps, sync=before.synced > 0)

    def sync(self) -> None:
        """Flush every byte to the disk, and note how far the file can be trusted."""
        self._flush()
        with self._changed:
            end, missing = self._contents.end, tuple(self._contents.missing)
            self._unsynced = 0
        with disk_errors(self._path):
            os.fsync(self._file)
        note = dataclasses.replace(self._note_file.note, synced=end, missing=missing)
        self._note_file.replace(note, self._list_gaps, sync=True)

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

    def finish(self, rename: Callable[[Path, int], Path]) -> None:
        """Have the complete part file renamed, and flush that to the disk.

        Parameters
        ----------
        rename : callable
            Gives it that name: is told the part file and its modification time in nanoseconds since 1970, and
            returns the final path.
        """
        self._flush()
        self._guard()
        with disk_errors(self._path):
            os.fsync(self._file)
            self._check_identity()
            final = rename(self._path, os.fstat(self._file).st_mtime_ns)
            sync_directory(final.parent)
            with suppress(DirectoryBusy):  # Then the note is another client's by now.
                self._note_file.remove()
        self._close()

    def discard(self) -> None:
        """Remove the part file and its note."""
        remove_part(self._path, self._guard)
        self._close()

    # --- What its writers need ------------------------------------------------------------------------

    def write(self, data: memoryview, writer: PartWriter) -> None:
        """Write bytes at the writer's position."""
        start = writer.written
        self._announce(start, start + len(data), writer.generation)
        try:
            self._guard()
            with disk_errors(self._path):
                # Asked before the file's size, for meanwhile others write.
                least_length = self._contents.least_length
                if length_so_far(self._file) < least_length:
                    raise PartBroken.because(
                        self._path, "another program shortened it while it was being written"
                    )
                while data:
                    # At a position of its own, never at the end of the file: if another client took over
                    # while this one slept, the same bytes are written again, to no harm.
                    count = os.pwrite(self._file, data, writer.written)
                    self._has_written(writer.written, data[:count])
                    writer.written, data = writer.written + count, data[count:]
        finally:
            self._stop_writing()
        self._sync_or_note_if_due()

    def _announce(self, start: int, end: int, generation: int) -> None:
        """Count one more writer; if its bytes leave a gap before them, note that on the disk first."""
        with self._changed:
            if self._file < 0 or generation != self.generation:
                raise Stopped("The part file was closed or begun anew.")
            self._writing += 1
            leaves_gap = start > self._contents.end
            if not leaves_gap:
                self._contents.extend(end)
        if not leaves_gap:
            return
        try:
            with self._note_file.lock:
                with self._changed:
                    self._contents.extend(end)
                self._note_file.add_gaps(self._list_gaps)
        except BaseException:
            self._stop_writing()
            raise

    def _stop_writing(self) -> None:
        with self._changed:
            self._writing -= 1
            self._changed.notify_all()

    def _has_written(self, start: int, data: memoryview) -> None:
        with self._changed:
            self._contents.add(start, start + len(data))
            self._unsynced += len(data)
            self._unnoted += len(data)
        self._hasher.follow(start, data)

    def _sync_or_note_if_due(self) -> None:
        with self._changed:
            must_sync = self._unsynced >= SYNC_SIZE and not self._is_syncing
            self._is_syncing = self._is_syncing or must_sync
            least_unnoted = NOTE_SIZE if self._contents.missing else 1
            must_note = self._unnoted >= least_unnoted and self._note_file.has_gaps
        if must_sync:
            try:
                self.sync()
            finally:
                self._is_syncing = False
        elif must_note and self._note_file.lock.acquire(blocking=False):
            try:
                self._note_file.add_gaps(self._list_gaps)
            finally:
                self._note_file.lock.release()

    def _flush(self) -> None:
        if self._tail is not None:
            self._tail.flush()

    def _new_hasher(self) -> PartHasher:
        def read(most: int, position: int) -> bytes:
            return os.pread(self._file, most, position)

        return PartHasher(self._path, self._contents, self._changed, read)

    # --- The file and its note ------------------------------------------------------------------------

    def _open(self, expected: ExpectedFile) -> None:
        """Take up the bytes of an earlier run where they can be trusted, or begin anew."""
        with disk_errors(self._path):
            note = read_note(self._note_file.path)
            self._file = open_growing(self._path)
            size = os.fstat(self._file).st_size
            if note is None or not note.belongs_to(expected):
                self.restart()
                return
            is_same_boot = bool(note.boot) and note.boot == boot_id()
            trusted = size if is_same_boot else min(size, note.synced)
            if note.size is not None and trusted > note.size:
                trusted = 0
            missing = Gaps(note.missing).clipped(trusted)
            trusted = missing.without_last(trusted)
            if trusted < size:
                os.ftruncate(self._file, trusted)
            self._contents.set(missing, trusted)
            synced = min(note.synced, trusted)
            note = dataclasses.replace(note, synced=synced, boot=boot_id(), missing=tuple(missing))
            self._note_file.replace(note, self._list_gaps, sync=note.synced > 0)
            self._hasher.catch_up()

    def _list_gaps(self) -> Ranges:
        """Return the gaps for the note, which then has all that was written."""
        with self._changed:
            self._unnoted = 0
            return tuple(self._contents.missing)

    def _check_identity(self) -> None:
        """Raise an error if what is about to get the final name is not the file that was written."""
        written, there = os.fstat(self._file), self._path.lstat()
        if (written.st_dev, written.st_ino) != (there.st_dev, there.st_ino):
            raise part_changed(self._path, "was replaced by another file while it was being written")
        if written.st_size != self._contents.end or self._contents.missing:
            raise part_changed(self._path, "was changed while it was being written")

    def _keep(self) -> None:
        """Flush what has arrived to the disk; an error here must not hide the one that ended the work."""
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


@contextmanager
def open_part(
    path: Path, expected: ExpectedFile, stop: threading.Event, guard: Callable[[], None] = lambda: None
) -> Iterator[PartFile]:
    """Open the part file of an expected file, with what an earlier run left of it.

    Parameters
    ----------
    path : Path
        The part file; its note stands beside it.
    expected : ExpectedFile
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
    part = PartFile(path, expected, stop, guard)
    try:
        part._open(expected)
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
        note = note_of(path)
        return size - (Gaps(note.missing).clipped(size).total if note is not None else 0)


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
        for each in (path, note_path(path)):
            if os.path.lexists(each):
                guard()
                each.unlink(missing_ok=True)
