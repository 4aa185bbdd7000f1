"""A tar's bytes again, in order, from what was kept of it and from its members."""

from __future__ import annotations

import os
from collections import deque
from typing import Callable

from mwa_client.light_dataclasses import dataclass
from mwa_client.transfer.part_hash import READ_SIZE
from mwa_client.transfer.unpacking.member_folder import MemberFolder
from mwa_client.transfer.unpacking.members import Member
from mwa_client.transfer.unpacking.tar_stream import TarStream


@dataclass(frozen=True)
class TarPiece:
    """Bytes of a tar, and where they are.

    Attributes
    ----------
    start, length : int
        Which bytes of the tar.
    data : bytes
        They themselves, where they were kept.
    member : Member or None
        Otherwise the file whose content they are.
    """

    start: int
    length: int
    data: bytes = b""
    member: Member | None = None

    @property
    def end(self) -> int:
        """Behind its last byte."""
        return self.start + self.length


class TarAgain:
    """Reads a tar's bytes again, forwards, while more of them may still be written.

    Parameters
    ----------
    kept : callable
        Returns at most so many bytes of what was kept, from a position on.
    members : MemberFolder
        The folder with the members.
    """

    def __init__(self, kept: Callable[[int, int], bytes], members: MemberFolder) -> None:
        self._kept = kept
        self._members = members
        self._stream = TarStream(self, has_content=False)
        self._pieces: deque[TarPiece] = deque()
        self._kept_position = 0
        self._opened: tuple[Member | None, int] = (None, -1)

    def read(self, most: int, position: int) -> bytes:
        """Return at most so many bytes from a position on, which is never before an earlier one.

        Nothing is returned where nothing was written.
        """
        piece = self.piece_at(position)
        if piece is None:
            return b""
        offset = position - piece.start
        count = min(most, piece.length - offset)
        if piece.member is None:
            return piece.data[offset : offset + count]
        return self._read_content(piece.member, count, offset)

    def piece_at(self, position: int) -> TarPiece | None:
        """Return the piece in which a byte is; None behind the last one that there is."""
        while True:
            while self._pieces and self._pieces[0].end <= position:
                self._pieces.popleft()
            if self._pieces:
                return self._pieces[0]
            data = self._kept(READ_SIZE, self._kept_position)
            if not data:
                self._stream.flush()
                return self._pieces[0] if self._pieces else None
            self._kept_position += len(data)
            self._stream.feed(memoryview(data))

    def _read_content(self, member: Member, most: int, offset: int) -> bytes:
        """Return at most so many bytes of a member's content, as the tar has it, from an offset on."""
        if self._opened[0] is not member:
            self.close()
            self._opened = member, self._members.open_file(member.path)
        position, length = place_of(member, offset)
        return os.pread(self._opened[1], min(most, length), position)

    def close(self) -> None:
        """Close the member that is open."""
        if self._opened[1] >= 0:
            os.close(self._opened[1])
        self._opened = None, -1

    # --- What the stream tells ------------------------------------------------------------------------

    def begin(self, raw: bytes | memoryview, member: Member) -> None:
        """Take a member's headers; its content stands in its file."""
        self.trailer(raw)
        if member.stored:
            start = self._stream.position + len(raw)
            self._pieces.append(TarPiece(start, member.stored, member=member))

    def content(self, data: memoryview) -> None:
        """Never called: what was kept has no content."""

    def end(self) -> None:
        """Nothing is to be done."""

    def trailer(self, data: bytes | memoryview) -> None:
        """Take bytes that were kept."""
        self._pieces.append(TarPiece(self._stream.position, len(data), bytes(data)))


def place_of(member: Member, offset: int) -> tuple[int, int]:
    """Return where in a file a byte of its content is, and how many stand there in a row from it on."""
    if not member.has_holes:
        return offset, member.size - offset
    for start, length in member.data:
        if offset < length:
            return start + offset, length - offset
        offset -= length
    raise ValueError("behind the end of the content")
