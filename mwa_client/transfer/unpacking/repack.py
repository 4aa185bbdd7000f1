"""Make a tar again of what was unpacked of it, as an ordinary part file.

That is done for a product that is not to be unpacked after all. It takes the room of one window, or of a few
writes where there is no more: a member's content is copied from its end, and the member is cut once the copy
is on the disk. A kill at any moment costs nothing, either: what a member does not have any more, the part
file has.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack

from mwa_client.directory.disk import disk_errors, free_bytes, sync_file_system
from mwa_client.errors import Stopped
from mwa_client.transfer.common import Transfers
from mwa_client.transfer.files import ExpectedFile
from mwa_client.transfer.part_file import SYNC_SIZE, WRITE_SIZE, PartFile, open_part
from mwa_client.transfer.part_hash import PartBroken
from mwa_client.transfer.unpacking.kept import GrowingFile, UnpackNote, UnpackPlace, remove_unpack_place
from mwa_client.transfer.unpacking.member_file import length_of, taken_of
from mwa_client.transfer.unpacking.member_folder import MemberFolder
from mwa_client.transfer.unpacking.members import Member
from mwa_client.transfer.unpacking.tar_again import TarAgain, TarPiece, place_of
from mwa_client.transfer.unpacking.unpack_part import UnpackPart, open_unpacking

LEAST_ROOM = 4 * WRITE_SIZE
"""Bytes of room with less of which members lose at once what was copied of them."""


def repack(place: UnpackPlace, note: UnpackNote, expected: ExpectedFile, transfers: Transfers) -> None:
    """Make a part file of what was unpacked, and remove that.

    Parameters
    ----------
    place : UnpackPlace
        Where it was unpacked.
    note : UnpackNote
        What the note there says.
    expected : ExpectedFile
        The tar.
    transfers : Transfers
        The directory, and whether to stop.

    Raises
    ------
    DiskFull, DirectoryUnusable, Stopped
        What was not copied yet stays.
    """
    directory = transfers.directory
    if not note.is_repacking:
        # Only what is whole counts; and a power cut must not take what is about to be the only copy.
        with open_unpacking(place, expected, transfers.stop, directory.guard) as part:
            note = begin_repacking(part)
    with ExitStack() as stack, disk_errors(place.path):
        members = MemberFolder(place.members, place.path)
        stack.callback(members.close)
        kept = GrowingFile(place.kept)
        stack.callback(kept.close)
        again = TarAgain(kept.read, members)
        stack.callback(again.close)
        part_path = directory.part(expected.name)
        with open_part(part_path, expected, transfers.stop, directory.guard) as file:
            _Copy(again, members, file, transfers).copy(note.synced)
            file.note_etag(note.etag)
    remove_unpack_place(place, directory.guard)


def begin_repacking(part: UnpackPart) -> UnpackNote:
    """Flush what was unpacked to the disk, and note that a tar is made of it from now on."""
    position = part.position
    with disk_errors(part.place.path):
        sync_file_system(part.place.path)
    part.write_note(sync=True, is_repacking=True, is_finishing=False, synced=position)
    return part.note


class _Copy:
    """Copies what was unpacked into a part file."""

    def __init__(self, again: TarAgain, members: MemberFolder, part: PartFile, transfers: Transfers) -> None:
        self._again = again
        self._members = members
        self._part = part
        self._transfers = transfers
        self._copied = 0
        """Bytes since the part file was flushed to the disk."""
        self._cuts: list[tuple[Member, int]] = []
        """What members are to be cut to then."""

    def copy(self, end: int) -> None:
        """Copy all that is there of a tar's first bytes, up to `end`."""
        position = 0
        while position < end and (piece := self._again.piece_at(position)) is not None:
            if piece.member is None:
                self._write(piece.start, piece.data)
            else:
                self._copy_content(piece, piece.member, min(piece.end, end) - piece.start)
            position = piece.end
        self._flush()

    def _copy_content(self, piece: TarPiece, member: Member, most: int) -> None:
        """Copy a member's content from its end."""
        state = self._members.state_of(member.path)
        if state is None or not stat.S_ISREG(state.st_mode):
            return
        here = min(taken_of(member, state.st_size), most)
        if here <= 0:
            return
        file = self._members.open_file(member.path)
        try:
            os.fchmod(file, 0o600)  # It is going to be cut.
            while here:
                before = max(here - WRITE_SIZE, 0)
                self._write(piece.start + before, self._read(member, file, before, here))
                here = before
                if self._cuts and self._cuts[-1][0] is member:
                    self._cuts.pop()
                self._cuts.append((member, length_of(member, here)))
                if self._copied >= SYNC_SIZE or free_bytes(self._members.path) < LEAST_ROOM:
                    self._flush()
        finally:
            os.close(file)

    def _read(self, member: Member, file: int, start: int, end: int) -> bytes:
        """Return content of a member, as the tar has it."""
        data = b""
        while start + len(data) < end:
            position, length = place_of(member, start + len(data))
            piece = os.pread(file, min(length, end - start - len(data)), position)
            if not piece:
                raise PartBroken.because(self._members.path, f"{member.name} was changed while it was copied")
            data += piece
        return data

    def _write(self, position: int, data: bytes) -> None:
        if self._transfers.stop.is_set():
            raise Stopped("The work was told to stop.")
        writer = self._part.writer(position, max(len(data), 1))
        writer.append(data)
        writer.flush()
        self._copied += len(data)

    def _flush(self) -> None:
        """Flush the part file to the disk, and let members lose what it has."""
        self._part.sync()
        self._transfers.directory.guard()
        for member, length in self._cuts:
            file = self._members.open_file(member.path, os.O_WRONLY)
            try:
                os.ftruncate(file, length)
            finally:
                os.close(file)
        self._cuts, self._copied = [], 0
