"""A tar's bytes, in order, become files in a folder."""

from __future__ import annotations

import errno
import os
import threading

from mwa_client.directory.disk import NOTHING_THERE, disk_errors, free_bytes, sync_file_system
from mwa_client.directory.trees import remove_tree
from mwa_client.transfer.part_hash import PartBroken
from mwa_client.transfer.unpacking.inspection import Inspection
from mwa_client.transfer.unpacking.kept import NO_SUM, GrowingFile, SumLines, UnpackNote, UnpackPlace
from mwa_client.transfer.unpacking.member_file import MemberFile, length_of, taken_of
from mwa_client.transfer.unpacking.member_folder import MemberFolder
from mwa_client.transfer.unpacking.members import Member, MemberKind, MemberRefused, Parts
from mwa_client.transfer.unpacking.recall import LastLook, Recall, let_us_in
from mwa_client.transfer.unpacking.tar_again import TarAgain
from mwa_client.transfer.unpacking.tar_stream import TarStream

FEW_MEMBERS = 20
"""So many members are flushed to the disk one by one; for more, the whole file system is."""
MOST_HOLES, SLIGHT_HOLES = 16, 1 << 30
"""So many times the archive's size may be holes in its files, and so many bytes in any archive.

They take no room, but whoever reads them, as for their SHA-1, may need days."""


class Unpacker:
    """Makes the members of a tar whose bytes it is fed, and keeps all other bytes beside them.

    Parameters
    ----------
    place : UnpackPlace
        Where; what an earlier run has left there is taken up by `recall`.
    size : int or None
        The size of the tar, where it is known.
    stop : threading.Event
        Set when the work is to stop.

    Attributes
    ----------
    kept : GrowingFile
        The bytes that are not content of files.
    members : MemberFolder
        The folder with the members.
    sums : SumLines
        The checksums of the files.
    again : TarAgain
        The bytes of the tar so far, for one reader.
    files : int
        How many files there are.
    """

    def __init__(self, place: UnpackPlace, size: int | None, stop: threading.Event) -> None:
        self._place = place
        self._size = size
        self._stop = stop
        self.files = 0
        with disk_errors(place.path):
            self.members = MemberFolder(place.members, place.path)
            self.kept = GrowingFile(place.kept)
            self.sums = SumLines(place.sums)
        self.again = TarAgain(self.kept.read, self.members)
        self._stream = TarStream(self, size)
        self._file: MemberFile | None = None
        self._continued: MemberFile | None = None
        """A file that an earlier run has begun, and whose SHA-1 is still computed."""
        self._holes = 0
        """Bytes of the holes in files."""
        self._most_holes = float("inf") if size is None else SLIGHT_HOLES + MOST_HOLES * size
        self._unsynced: list[Parts] = []
        self._new_sums: list[tuple[int, str, Parts]] = []
        """Checksums that are not in their lines yet. A kill may lose them: then the files are read again."""

    @property
    def position(self) -> int:
        """How many bytes of the tar are here: what was fed, but for the beginning of incomplete headers."""
        return self._stream.position

    def feed(self, data: memoryview) -> None:
        """Take the next bytes of the tar.

        Raises
        ------
        MemberRefused
            It has a member that is not unpacked; all before it is here.
        DiskFull, DirectoryUnusable
            It cannot be written.
        """
        with disk_errors(self._place.members):
            self._stream.feed(data)
            self._put_sums()

    def sync(self) -> tuple[int, int]:
        """Flush all to the disk; return how many bytes of the tar are here, and how many of them kept.

        Raises
        ------
        PartBroken
            Somebody has moved a member away, or put a link in its place.
        """
        with disk_errors(self._place.members):
            here = self.position, self.kept.length
            self._put_sums()
            if self._file is not None:
                self._unsynced.append(self._file.member.path)
            if len(self._unsynced) > FEW_MEMBERS:
                sync_file_system(self._place.path)
            else:
                self._sync_members()
                self.sums.sync()
                self.kept.sync()
            self._unsynced = []
            return here

    def _sync_members(self) -> None:
        try:
            for path in self._unsynced:
                self.members.sync(path)
            for folder in {path[:-1] for path in self._unsynced}:
                self.members.sync_folder(folder)
        except OSError as error:
            if error.errno not in (*NOTHING_THERE, errno.ELOOP):
                raise
            raise PartBroken.because(self._place.path, "a member was moved or replaced") from error

    def end_stream(self) -> None:
        """Note that all of the tar has come.

        Raises
        ------
        MemberRefused
            It breaks off.
        """
        self._stream.finish()

    def finish(self) -> tuple[int, int | None]:
        """Complete checksums, permissions and times; return permissions and time of the folder itself.

        Raises
        ------
        PartBroken
            Somebody has changed what was unpacked.
        """
        with disk_errors(self._place.members):
            self._put_sums()
            if self._continued is not None:
                if sha1 := self._continued.sha1_when_known():
                    self.sums.put(self._continued.line, sha1, self._continued.member.path)
                self._continued.close()
            inspection = Inspection(self.members, self.sums, self._place, self._stop)
            LastLook(inspection, self._place).read(self.kept, self._size, self._stop)
            return self.members.finish()

    def close(self) -> None:
        """Close all files."""
        for file in (self._file, self._continued):
            if file is not None:
                file.close()
        self._file = self._continued = None
        self.again.close()
        self.sums.close()
        self.kept.close()
        self.members.close()

    # --- What the stream tells ------------------------------------------------------------------------

    def begin(self, raw: bytes | memoryview, member: Member) -> None:
        """Make a member; its headers are kept before, so that after a kill we know of all that is there."""
        before = self.kept.length
        self._check_room(member)
        self.members.check_free(member)
        self.kept.append(raw)
        try:
            self._make(member, self.count(member))
        except MemberRefused:
            self.kept.cut(before)
            raise

    def content(self, data: memoryview) -> None:
        """Write content of the present file."""
        assert self._file is not None
        self._file.write(data)

    def end(self) -> None:
        """Complete the present file, if the member is one."""
        file = self._file
        if file is None:
            return
        sha1 = file.finish()
        self.members.finish_file(file.file, file.member)
        if len(self._unsynced) <= FEW_MEMBERS:
            self._unsynced.append(file.member.path)
        if sha1:
            self._new_sums.append((file.line, sha1, file.member.path))
            file.close()
        else:
            self._continued = file
        self._file = None  # Not before: where the disk is full, `close` closes it.

    def trailer(self, data: memoryview) -> None:
        """Keep what is behind the last member."""
        self.kept.append(data)

    def count(self, member: Member) -> int:
        """Count a member; return where its line of checksums is, if it is a file."""
        if member.kind not in (MemberKind.FILE, MemberKind.HARD_LINK):
            return 0
        self.files += 1
        self._holes += member.size - member.stored if member.has_holes else 0
        return self.sums.reserve(member.path)

    def _make(self, member: Member, line: int) -> None:
        if member.kind is MemberKind.FILE:
            self._file = MemberFile(self.members.make_file(member), member, line, self._stop)
        else:
            self.members.make(member)
            if member.kind is MemberKind.HARD_LINK:
                self.sums.put(line, NO_SUM, member.path)

    def _put_sums(self) -> None:
        """Write the checksums of all files that are complete since: many cost no more than one."""
        self.sums.put_all(self._new_sums)
        self._new_sums = []

    def _check_room(self, member: Member) -> None:
        """Refuse holes that no copy would have room for, or that are far larger than all else."""
        if member.has_holes:
            holes = self._holes + member.size - member.stored
            if holes > self._most_holes:
                raise MemberRefused(member.name, "has holes that are far larger than the archive")
            if holes > free_bytes(self._place.path):
                raise MemberRefused(member.name, "has holes that would not have room as bytes")

    # --- What an earlier run has left -----------------------------------------------------------------

    def recall(self, note: UnpackNote, size: int | None) -> None:
        """Go on from what an earlier run has left.

        Raises
        ------
        PartBroken
            It is not what was written.
        """
        with disk_errors(self._place.members):
            if note.is_finishing:
                let_us_in(self._place.members)
            self.members.forget_late()
            self.sums.length = 0
            recalled = Recall(self, self._place, note)
            self._stream = recalled.read(size, self._stop)
            last, left = recalled.last, 0
            if last is not None and last.kind is MemberKind.FILE:
                left = self._open_last(last, note)
            elif last is not None:
                self.members.make_again(last)
            self._stream.go_on(self, left)
            if self._file is not None and not left:
                self.end()
            self.sums.cut(self.sums.length)
            remove_tree(self._place.old_members)

    def _open_last(self, last: Member, note: UnpackNote) -> int:
        """Open the last file that was made, or was to be; return how much of its content is missing."""
        state = self.members.state_of(last.path)
        size = 0 if state is None else state.st_size
        if note.is_of_this_boot:
            taken = taken_of(last, size)
        else:
            taken = min(note.synced - (self._stream.position - last.stored), last.stored)
        if taken < 0 or size < length_of(last, taken):
            raise PartBroken.because(self._place.path, f"{last.name} is not as it was written")
        if state is None:
            file = self.members.make_file(last)
        elif taken == last.stored and size == last.size:
            file = self.members.open_file(last.path)  # Its permissions may have been set.
        else:
            file = self.members.reopen_file(last.path)
            os.ftruncate(file, length_of(last, taken))
        self._file = MemberFile(file, last, self.sums.last_line, self._stop, taken)
        return last.stored - taken
