"""The last look at every unpacked member, before the folder gets its name: all is as it was written."""

from __future__ import annotations

import os
import stat
import threading

from mwa_client.transfer.part_hash import PartBroken
from mwa_client.transfer.standing import sha1_of_open
from mwa_client.transfer.unpacking.kept import NO_SUM, SumLines, UnpackPlace
from mwa_client.transfer.unpacking.member_folder import MemberFolder
from mwa_client.transfer.unpacking.members import Member, MemberKind, Parts

COARSEST_TIME = 2_000_000_000
"""Nanoseconds to which file systems round the times of files down, at the most."""
MOST_REMEMBERED = 1000
"""Of so many files with a second name the SHA-1 is remembered."""


class Inspection:
    """Looks at all members in the order of the archive, and completes the list of their checksums.

    A file has had the archive's time since it was complete. One that has another was written into or replaced
    since: it is read, must have the SHA-1 that was computed when it came, and gets its time again.

    Parameters
    ----------
    members : MemberFolder
        The folder.
    sums : SumLines
        The checksums of its files.
    place : UnpackPlace
        Where it stands.
    stop : threading.Event
        Set when the work is to stop.
    """

    def __init__(
        self, members: MemberFolder, sums: SumLines, place: UnpackPlace, stop: threading.Event
    ) -> None:
        self._members = members
        self._sums = sums
        self._lines = sums.lines()
        self._place = place
        self._stop = stop
        self._known: dict[tuple[int, int], str] = {}
        """The SHA-1 of files with several names, by the numbers by which the file system knows them."""

    def look_at(self, member: Member) -> None:
        """Look at a member.

        Raises
        ------
        PartBroken
            It is not what was written.
        Stopped
            `stop` was set.
        """
        state = state_if_right(self._members, member, self._place)
        is_as_set = _has_its_time(member, state)
        if member.kind in (MemberKind.FILE, MemberKind.HARD_LINK):
            self._look_into(member, state, is_as_set)
        is_of_another = member.kind is MemberKind.HARD_LINK and member.mtime_ns != state.st_mtime_ns
        if member.kind is not MemberKind.FOLDER and (is_of_another or not is_as_set):
            self._members.make_again(member)

    def finish(self) -> None:
        """Note that these were all; raises as `look_at`."""
        if next(self._lines, None) is not None:
            raise self._changed_list()
        if not (self._members.is_in_place() and self._sums.is_in_place()):
            raise PartBroken.because(self._place.path, "its members or its list of checksums were replaced")

    def _changed_list(self) -> PartBroken:
        return PartBroken.because(self._place.path, "its headers or its list of checksums were changed")

    def _look_into(self, member: Member, state: os.stat_result, is_as_set: bool) -> None:
        """Read a file if that is needed to know its SHA-1, or whether it still has it."""
        line, sha1, path = next(self._lines, (0, "", ()))
        if path != member.path:
            raise self._changed_list()
        if is_as_set and sha1 != NO_SUM:
            return
        # All names of a file have the time of the last one. Of others, nothing says what was in them before.
        is_unknown = sha1 == NO_SUM and not is_as_set and state.st_nlink == 1
        if is_unknown and self._can_have_its_time(member):
            raise broken(member, self._place)
        found = self._sha1_of(member.path, state)
        if sha1 not in (NO_SUM, found) or not self._is_same_file(member, found):
            raise broken(member, self._place)
        self._sums.put(line, found, member.path)

    def _can_have_its_time(self, member: Member) -> bool:
        """Say whether the file system can hold its time: else no time says that it was changed."""
        self._members.make_again(member)
        return _has_its_time(member, state_if_right(self._members, member, self._place))

    def _is_same_file(self, member: Member, sha1: str) -> bool:
        """Say whether a second name is one of a file with the same bytes; true for what is none."""
        if member.kind is MemberKind.FILE:
            return True
        target: Parts = member.target  # type: ignore[assignment]
        state = self._members.state_of(target)
        return state is not None and stat.S_ISREG(state.st_mode) and self._sha1_of(target, state) == sha1

    def _sha1_of(self, path: Parts, state: os.stat_result) -> str:
        number = state.st_dev, state.st_ino
        if state.st_nlink > 1 and number in self._known:
            return self._known[number]
        file = self._members.open_file(path)
        try:
            sha1 = sha1_of_open(file, self._stop)
        finally:
            os.close(file)
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known[number] = sha1
        return sha1


def state_if_right(members: MemberFolder, member: Member, place: UnpackPlace) -> os.stat_result:
    """Return what the system says of a member, if all but the bytes of files is as it was written.

    Raises
    ------
    PartBroken
        It is not there, or is something else.
    """
    state = members.state_of(member.path)
    if state is None or not _is_right(members, member, state):
        raise broken(member, place)
    return state


def broken(member: Member, place: UnpackPlace) -> PartBroken:
    """Return the error for a member that is not what was written."""
    return PartBroken.because(place.path, f"{member.name} is not as it was written")


def _has_its_time(member: Member, state: os.stat_result) -> bool:
    return 0 <= member.mtime_ns - state.st_mtime_ns < COARSEST_TIME


def _is_right(members: MemberFolder, member: Member, state: os.stat_result) -> bool:
    if member.kind is MemberKind.FILE:
        return stat.S_ISREG(state.st_mode) and state.st_size == member.size
    if member.kind is MemberKind.FOLDER:
        return stat.S_ISDIR(state.st_mode)
    if member.kind is MemberKind.LINK:
        return stat.S_ISLNK(state.st_mode) and members.target_of(member.path) == member.target
    return stat.S_ISREG(state.st_mode)
