"""One file of an archive while its content arrives: its bytes, its holes, and its SHA-1 on the way past."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

from mwa_client.directory.disk import length_so_far
from mwa_client.errors import Stopped
from mwa_client.transfer.gaps import Contents, Gaps
from mwa_client.transfer.part_hash import PartBroken, PartHasher
from mwa_client.transfer.unpacking.members import Member

_HOLE = bytes(1 << 20)


class MemberFile:
    """A file of an archive; its content arrives in order.

    Parameters
    ----------
    file : int
        The file, open for reading and writing.
    member : Member
        What it must become.
    line : int
        Where its line in the list of checksums is.
    stop : threading.Event
        Set when the work is to stop.
    taken : int
        How many bytes of its content an earlier run has written. Their SHA-1 is computed beside the download.
    """

    def __init__(self, file: int, member: Member, line: int, stop: threading.Event, taken: int = 0) -> None:
        self.file = file
        self.member = member
        self.line = line
        self._stop = stop
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._hashed = 0
        self._pieces = [*reversed(member.data)]
        """Of a file with holes: where its next bytes go, the last first."""
        self._is_continued = taken > 0
        self._length = os.fstat(file).st_size if taken or member.has_holes else 0
        if member.has_holes:
            self._places(taken)
        self._behind: PartHasher | None = None
        if taken and not member.has_holes:
            self._contents = Contents(Gaps(), taken, taken)
            self._changed = threading.Condition()
            self._behind = PartHasher(Path(member.name), self._contents, self._changed, self._read)
            self._behind.catch_up()

    def write(self, data: memoryview) -> None:
        """Write the next bytes of content."""
        if not self.member.has_holes:
            self._write_piece(self._length, data)
            return
        for position, count in self._places(len(data)):
            self._write_piece(position, data[:count])
            data = data[count:]

    def finish(self) -> str:
        """Let the file have its length; return its SHA-1, or nothing where that is still computed."""
        if self._length != self.member.size:  # It ends with a hole.
            os.ftruncate(self.file, self.member.size)
        if self._is_continued:
            return ""
        self._hash_hole(self.member.size)
        return self._sha1.hexdigest()

    def sha1_when_known(self) -> str:
        """Return the SHA-1 of a file that an earlier run has begun; empty where it must be read again.

        Raises
        ------
        PartBroken, Stopped
            As `mwa_client.transfer.part_hash.PartHasher.result`.
        """
        return "" if self._behind is None else self._behind.result(self._stop)

    def close(self) -> None:
        """Close the file."""
        if self._behind is not None:
            self._behind.stop()
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def _places(self, count: int) -> list[tuple[int, int]]:
        """Return where the next bytes of a file with holes go, position and how many each; they are taken."""
        places = []
        while count:
            start, length = self._pieces.pop()
            taken = min(length, count)
            if taken < length:
                self._pieces.append((start + taken, length - taken))
            places.append((start, taken))
            count -= taken
        return places

    def _write_piece(self, position: int, data: memoryview) -> None:
        end, rest = position + len(data), data
        if self._length and length_so_far(self.file) != self._length:
            why = "another program changed its length while it was being written"
            raise PartBroken.because(Path(self.member.name), why)
        while rest:
            rest = rest[os.pwrite(self.file, rest, end - len(rest)) :]
        self._length = end
        if self._behind is not None:
            with self._changed:
                self._contents.extend(end)
                self._contents.add(position, end)
            self._behind.follow(position, data)
        elif not self._is_continued:
            self._hash_hole(position)
            self._sha1.update(data)
            self._hashed = end

    def _read(self, most: int, position: int) -> bytes:
        return os.pread(self.file, most, position)

    def _hash_hole(self, end: int) -> None:
        """Hash the zeros that a file has where nothing was written, up to `end`."""
        while self._hashed < end:
            if self._stop.is_set():
                raise Stopped("The work was told to stop.")
            count = min(end - self._hashed, len(_HOLE))
            self._sha1.update(_HOLE[:count])
            self._hashed += count


def taken_of(member: Member, size: int) -> int:
    """Return how many bytes of a member's content a file of this size has; -1 if it has too many.

    Content is written in order, and the file gets its full length only at the end.
    """
    if not member.has_holes:
        return size if size <= member.size else -1
    if size > member.size:
        return -1
    return sum(min(max(size - start, 0), length) for start, length in member.data)


def length_of(member: Member, taken: int) -> int:
    """Return how long a member's file is while it has so many bytes of content."""
    if not member.has_holes:
        return taken
    end = 0
    for start, length in member.data:
        if taken <= 0:
            break
        end = start + min(length, taken)
        taken -= length
    return end
