"""A product that is unpacked while it arrives: to its connections, what a part file is."""

from __future__ import annotations

import dataclasses
import errno
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Callable

from mwa_client.directory.disk import boot_id, disk_errors
from mwa_client.directory.our_files import state_directory
from mwa_client.errors import DirectoryBusy, DirectoryUnusable, DiskFull, Stopped
from mwa_client.transfer.files import ExpectedFile
from mwa_client.transfer.gaps import Contents, Gaps
from mwa_client.transfer.part_file import SYNC_SIZE, WRITE_SIZE
from mwa_client.transfer.part_hash import PartBroken, PartHasher
from mwa_client.transfer.part_writer import PartWriter
from mwa_client.transfer.unpacking.kept import (
    UnpackNote,
    UnpackPlace,
    read_unpack_note,
    remove_unpack_place,
    write_unpack_note,
)
from mwa_client.transfer.unpacking.members import MemberRefused
from mwa_client.transfer.unpacking.ring import Ring
from mwa_client.transfer.unpacking.sequence import ByteSequence
from mwa_client.transfer.unpacking.tar_again import TarAgain
from mwa_client.transfer.unpacking.unpack import Unpacker

LEAST_WINDOW, MOST_WINDOW = 16 << 20, 64 << 20
"""How far ahead of the first byte that is missing others may be fetched: the ring takes so much room."""
SHARE_OF_WINDOW = 64
"""The ring is no larger than this part of the product, unless that is very little."""
SLACK = 2 << 20
"""Bytes of the ring beyond the window: connections write what they have gathered, not byte for byte."""


class UnpackPart:
    """A product that is unpacked while it arrives. Made by `open_unpacking`.

    Parameters
    ----------
    place : UnpackPlace
        Where it stands meanwhile.
    expected : ExpectedFile
        The tar.
    stop : threading.Event
        Set when the work is to stop.
    guard : callable
        Raises `DirectoryBusy` if another client works in the directory; called before each change.

    Attributes
    ----------
    place : UnpackPlace
        Where it stands.
    generation : int
        How often all was thrown away.
    window : int
        How far ahead of the first byte that is missing others may be fetched.
    note : UnpackNote
        What the note on the disk says.
    """

    def __init__(
        self, place: UnpackPlace, expected: ExpectedFile, stop: threading.Event, guard: Callable[[], None]
    ) -> None:
        self.place = place
        self.generation = 0
        self.window = min(max((expected.size or 0) // SHARE_OF_WINDOW, LEAST_WINDOW), MOST_WINDOW)
        self.note = UnpackNote(expected.job_id, expected.size, expected.sha1)
        self._expected = expected
        self._stop = stop
        self._guard = guard
        self._unsynced = 0
        self._contents = Contents()
        """What is here in order; held with its condition for each look."""
        self._changed = threading.Condition()
        self._beside: ThreadPoolExecutor | None = ThreadPoolExecutor(1, "sha1")
        self._tail: PartWriter | None = None
        self._unpacker: Unpacker | None = None
        self._sequence, self._hasher = self._begin(0)

    @property
    def length(self) -> int:
        """Bytes from the beginning up to the first one that is missing."""
        return self._sequence.position if self._tail is None else self._tail.position

    @property
    def present(self) -> int:
        """Bytes in all, not counting the gaps."""
        return self._sequence.present

    @property
    def gaps(self) -> list[tuple[int, int | None]]:
        """What is missing: at the beginning of a download that is all behind the first byte."""
        return [(self._sequence.position, None)]

    @property
    def etag(self) -> str:
        """The strong ETag of the bytes so far; empty where there is no single one."""
        return self.note.etag if self.present else ""

    @property
    def position(self) -> int:
        """How many bytes of the tar have been unpacked, or kept."""
        return self._need_unpacker().position

    @property
    def files(self) -> int:
        """How many files have been unpacked."""
        return self._need_unpacker().files

    def writer(self, start: int, buffer_size: int = 0) -> PartWriter:
        """Return what writes bytes from `start` on, through a buffer of so many bytes."""
        return PartWriter(self, start, buffer_size or WRITE_SIZE)

    def append(self, data: bytes | memoryview) -> None:
        """Add bytes at the end."""
        if self._tail is None:
            self._tail = self.writer(self.length)
        self._tail.append(data)

    def write(self, data: memoryview, writer: PartWriter) -> None:
        """Write bytes at the writer's position."""
        sequence = self._sequence
        if writer.generation != self.generation:
            raise Stopped("All that had come was thrown away.")
        sequence.write(writer.written, data)
        writer.written += len(data)

    def beginning(self, most: int) -> bytes:
        """Return the first bytes of the tar, at most so many."""
        unpacker = self._need_unpacker()
        again, data = TarAgain(unpacker.kept.read, unpacker.members), b""
        with disk_errors(self.place.path):
            try:
                most = min(most, self.length)
                while len(data) < most and (piece := again.read(most - len(data), len(data))):
                    data += piece
            finally:
                again.close()
        return data

    def note_etag(self, etag: str) -> None:
        """Note the ETag of all bytes, here or about to come; empty where they may not be of one version."""
        if etag != self.note.etag:
            self.write_note(etag=etag)

    def restart(self, etag: str = "") -> None:
        """Throw away every byte."""
        self._end()
        self.generation += 1
        remove_unpack_place(self.place, self._guard)
        with disk_errors(self.place.path):
            state_directory(self.place.path, 0o700)
        self.write_note(
            etag=etag,
            synced=0,
            kept=0,
            is_finishing=False,
            is_repacking=False,
            final=None,
        )
        self._unpacker = Unpacker(self.place, self._expected.size, self._stop)
        self._sequence, self._hasher = self._begin(0)

    def sha1(self) -> str:
        """Return the SHA-1 of the tar; wait for bytes that are still to be read again."""
        if self._tail is not None:
            self._tail.flush()
        return self._hasher.result(self._stop)

    def check(self) -> None:
        """Raise an error if it is known that this cannot become what it must."""
        self._sequence.check()
        self._hasher.check()

    def discard(self) -> None:
        """Remove all of it."""
        self.close()
        remove_unpack_place(self.place, self._guard)

    def complete(self) -> tuple[int, int | None]:
        """Complete the folder, and flush it to the disk; return its own permissions and time.

        Raises
        ------
        MemberRefused
            The archive breaks off.
        PartBroken
            Somebody has changed what was unpacked: it was thrown away.
        """
        self._guard()
        unpacker = self._need_unpacker()
        unpacker.end_stream()
        try:
            synced, kept = unpacker.sync()
            # Permissions that let nobody in may be set from now on.
            self.write_note(sync=True, is_finishing=True, synced=synced, kept=kept)
            return unpacker.finish()
        except PartBroken:
            self.discard()
            raise

    def write_note(self, *, sync: bool = False, **changes: object) -> None:
        """Change the note; on request so that no power cut can undo that."""
        note = dataclasses.replace(self.note, boot=boot_id(), **changes)  # type: ignore[arg-type]
        with disk_errors(self.place.note):
            self._guard()
            # Once it vouches for bytes, a power cut must leave it whole.
            write_unpack_note(self.place, note, sync=sync or note.synced > 0)
        self.note = note

    def close(self) -> None:
        """Close all files; what is here stays."""
        self._end()
        if self._beside is not None:
            self._beside.shutdown()
            self._beside = None

    # --- Small steps ----------------------------------------------------------------------------------

    def take_up(self) -> None:
        """Go on from what an earlier run has left, where it can be trusted, or begin anew."""
        with disk_errors(self.place.path):
            state_directory(self.place.path, 0o700)
            note = read_unpack_note(self.place)
            if note is None or not note.belongs_to(self._expected):
                self.restart()
                return
            self.note = note
            try:
                self._unpacker = Unpacker(self.place, self._expected.size, self._stop)
                self._unpacker.recall(note, self._expected.size)
            except (PartBroken, MemberRefused):
                self.restart()
                return
        self.write_note(is_finishing=False, synced=min(note.synced, self._unpacker.position))
        self._sequence, self._hasher = self._begin(self._unpacker.position)
        self._hasher.catch_up()

    def keep(self) -> None:
        """Flush what has arrived to the disk; an error here must not hide the one that ended the work."""
        self._sequence.close()
        if self._unpacker is not None and not self.note.is_finishing:
            with suppress(DiskFull, DirectoryUnusable, DirectoryBusy):
                self._sync()

    def _begin(self, position: int) -> tuple[ByteSequence, PartHasher]:
        ring = Ring(self.place.ring, self.window + SLACK)
        with self._changed:
            self._contents.set(Gaps(), position)
        self._unsynced = 0
        unpacker = self._unpacker

        def read(most: int, start: int) -> bytes:
            try:
                return b"" if unpacker is None else unpacker.again.read(most, start)
            except MemberRefused as error:  # It was read before: somebody has changed it since.
                raise OSError(errno.EIO, error.what) from error

        hasher = PartHasher(self.place.path, self._contents, self._changed, read)
        return ByteSequence(ring, position, self._take, self._stop), hasher

    def _end(self) -> None:
        self._hasher.stop()
        self._sequence.close()
        if self._unpacker is not None:
            self._unpacker.close()
            self._unpacker = None
        self._tail = None

    def _take(self, data: memoryview) -> None:
        """Unpack the next bytes; meanwhile another thread computes the SHA-1 of the tar."""
        unpacker, start = self._need_unpacker(), self._sequence.position
        self._guard()
        hashing = self._hash_beside(start, data)
        try:
            unpacker.feed(data)
        finally:
            hashing()
            with self._changed:
                self._contents.set(Gaps(), unpacker.position)
            self._hasher.catch_up()
        self._unsynced += len(data)
        if self._unsynced >= SYNC_SIZE:
            self._sync()

    def _hash_beside(self, start: int, data: memoryview) -> Callable[[], None]:
        """Begin to hash; return what waits for the end."""
        hasher = self._hasher
        if self._beside is not None:
            with suppress(RuntimeError):  # The system gives no more threads.
                return self._beside.submit(hasher.follow, start, data).result
        return lambda: hasher.follow(start, data)

    def _sync(self) -> None:
        self._unsynced = 0
        synced, kept = self._need_unpacker().sync()
        self.write_note(sync=True, synced=synced, kept=kept)

    def _need_unpacker(self) -> Unpacker:
        if self._unpacker is None:
            raise Stopped("The bytes so far were closed.")
        return self._unpacker


@contextmanager
def open_unpacking(
    place: UnpackPlace, expected: ExpectedFile, stop: threading.Event, guard: Callable[[], None]
) -> Iterator[UnpackPart]:
    """Open what is unpacked of a product, with what an earlier run has left of it.

    Raises
    ------
    DirectoryUnusable, DiskFull
        It cannot be written.
    Stopped
        `stop` was set.
    """
    part = UnpackPart(place, expected, stop, guard)
    try:
        part.take_up()
        try:
            yield part
        finally:
            part.keep()
    finally:
        part.close()
