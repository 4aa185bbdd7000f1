"""What an earlier run has unpacked, read from the headers that it has kept: every member, in order."""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mwa_client.directory.trees import walk_tree
from mwa_client.errors import Stopped
from mwa_client.transfer.part_hash import READ_SIZE, PartBroken
from mwa_client.transfer.unpacking.inspection import Inspection, state_if_right
from mwa_client.transfer.unpacking.kept import NO_SUM, GrowingFile, UnpackNote, UnpackPlace
from mwa_client.transfer.unpacking.member_folder import MemberFolder
from mwa_client.transfer.unpacking.members import Member, MemberKind, MemberRefused
from mwa_client.transfer.unpacking.tar_stream import TarStream

if TYPE_CHECKING:
    from mwa_client.transfer.unpacking.unpack import Unpacker


class Recall:
    """Goes through the members that an earlier run has made, and checks that they are there.

    After a kill, what was written is there. After a power cut, only what the note says: of the members behind
    it, some may be there. So those that count are moved into a new folder, one by one, and the others are
    thrown away with the old one.

    Parameters
    ----------
    unpacker : Unpacker
        Is told what it must know of each member.
    place : UnpackPlace
        Where they are.
    note : UnpackNote
        How far they can be trusted.

    Attributes
    ----------
    last : Member or None
        The last of them, which may be incomplete or not made yet.
    """

    def __init__(self, unpacker: Unpacker, place: UnpackPlace, note: UnpackNote) -> None:
        self._unpacker = unpacker
        self._place = place
        self._members = unpacker.members
        self._old: MemberFolder | None = None
        self.last: Member | None = None
        self._is_of_this_boot = note.is_of_this_boot
        self._trusted = note.kept

    def read(self, size: int | None, stop: threading.Event) -> TarStream:
        """Go through all of them; return the stream that stands behind the last.

        Raises
        ------
        PartBroken
            They are not what was written.
        """
        kept, stream = self._unpacker.kept, TarStream(self, size, has_content=False)
        if not self._is_of_this_boot or os.path.lexists(self._place.old_members):
            if not self._is_of_this_boot:
                if kept.length < self._trusted:
                    raise PartBroken.because(self._place.path, "what was kept of its headers is incomplete")
                kept.cut(self._trusted)
            self._begin_anew()
        try:
            position = _go_through(kept, stream, self._place, stop)
        finally:
            if self._old is not None:
                self._old.close()
        kept.cut(position - stream.held)
        return stream

    def begin(self, raw: bytes | memoryview, member: Member) -> None:
        """Check the member before, which must be complete; take the next."""
        self._check_last()
        self.last = member
        line = self._unpacker.count(member)
        if self._old is not None:
            self._take_from_old(self._old, member)
        self._members.recall(member)
        sums, has_line = self._unpacker.sums, member.kind in (MemberKind.FILE, MemberKind.HARD_LINK)
        if has_line and not sums.has_sum(line, member.path):
            sums.put(line, NO_SUM, member.path)

    def content(self, data: memoryview) -> None:
        """Never called: what was kept has no content."""

    def end(self) -> None:
        """Nothing is to be done: whether a member is complete shows when the next one comes."""

    def trailer(self, data: memoryview) -> None:
        """Check the last member, which must be complete."""
        self._check_last()

    def _check_last(self) -> None:
        if self.last is not None:
            state_if_right(self._members, self.last, self._place)

    def _begin_anew(self) -> None:
        """Have a new folder for the members that count; the old one stays where a crash has cut this off."""
        if not os.path.lexists(self._place.old_members):
            self._members.rename(self._place.old_members)
        self._old = MemberFolder(self._place.old_members, self._place.path)

    def _take_from_old(self, old: MemberFolder, member: Member) -> None:
        if member.kind is MemberKind.FILE:
            with suppress(FileNotFoundError):  # An earlier try has taken it, or it is not made yet.
                self._members.take_from(old, member.path)
        else:
            self._members.make_again(member)


class LastLook:
    """Has an `Inspection` look at all members, as their headers were kept.

    Parameters
    ----------
    inspection : Inspection
        Looks at each.
    place : UnpackPlace
        Where they stand.
    """

    def __init__(self, inspection: Inspection, place: UnpackPlace) -> None:
        self._inspection = inspection
        self._place = place

    def read(self, kept: GrowingFile, size: int | None, stop: threading.Event) -> None:
        """Look at all of them.

        Raises
        ------
        PartBroken
            They are not what was written.
        Stopped
            `stop` was set.
        """
        _go_through(kept, TarStream(self, size, has_content=False), self._place, stop)
        self._inspection.finish()

    def begin(self, raw: bytes | memoryview, member: Member) -> None:
        """Look at a member."""
        self._inspection.look_at(member)

    def content(self, data: memoryview) -> None:
        """Never called: what was kept has no content."""

    def end(self) -> None:
        """Nothing is to be done."""

    def trailer(self, data: memoryview) -> None:
        """Nothing is to be done."""


def _go_through(kept: GrowingFile, stream: TarStream, place: UnpackPlace, stop: threading.Event) -> int:
    """Have a stream read all headers as they were kept; return how many bytes they are."""
    position = 0
    try:
        while data := kept.read(READ_SIZE, position):
            stream.feed(memoryview(data))
            position += len(data)
            if stop.is_set():
                raise Stopped("The work was told to stop.")
        stream.flush()
    except MemberRefused as error:
        raise PartBroken.because(place.path, f"its headers were changed ({error.why})") from error
    return position


def let_us_in(folder: Path) -> None:
    """Let us read and write a folder of ours and all in it again, whose permissions were set already."""
    folder.chmod(0o700)
    for entry in walk_tree(folder):
        if not entry.is_symlink():
            mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
            Path(entry.path).chmod(mode | (0o700 if entry.is_dir(follow_symlinks=False) else 0o400))
