"""The folder into which an archive's members go, and the only code that makes them there.

Permissions and times of folders, and permissions that let us read no file, are set later (`set_later.py`).
"""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from mwa_client.descriptors import may_open_many
from mwa_client.directory.disk import disk_errors, is_in_place
from mwa_client.directory.our_files import open_new
from mwa_client.transfer.part_hash import PartBroken
from mwa_client.transfer.unpacking.members import USUAL_FOLDER_MODE, Member, MemberKind, MemberRefused, Parts
from mwa_client.transfer.unpacking.set_later import SetLater

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
MOST_PARENTS = 16
"""Folders that are kept open for the next members, where the system allows many open files; else one."""
LONGEST_FULL_PATH = 4095
"""Bytes that a path can have on Linux, from the root."""
_BY_THE_ARCHIVE = {
    errno.EEXIST: "is there twice, or differs from another only in a way that this file system cannot tell",
    errno.ENOTDIR: "is to be written through a link or below a file",
    errno.ELOOP: "is to be written through a link",
    errno.ENAMETOOLONG: "has a name that is too long for this file system",
    errno.EINVAL: "has a name or a time that this file system does not take",
    errno.EILSEQ: "has a name that this file system does not take",
    errno.EISDIR: "is there twice, as a file and as a folder",
    errno.EMLINK: "has more names than this file system takes",
}
"""What the system says of a member that is at fault itself; anything else it says is about the disk."""
_LINKS_ONLY = {
    errno.ENOENT: "is a second name (a hard link) of a file that is not in the archive before it",
    errno.EPERM: "is a second name (a hard link), which this file system cannot give",
    errno.EOPNOTSUPP: "is a second name (a hard link), which this file system cannot give",
}
_NO_SYMBOLIC = "is a symbolic link, which this file system cannot make"
_SYMBOLIC = {errno.EPERM: _NO_SYMBOLIC, errno.EOPNOTSUPP: _NO_SYMBOLIC}


class MemberFolder:
    """A folder that is being filled. Only we can write in it until it has its final name.

    Parameters
    ----------
    path : Path
        The folder; made if missing.
    notes : Path
        The folder for the small files, which nobody else can write either.
    """

    def __init__(self, path: Path, notes: Path) -> None:
        self.path = path
        self._longest = LONGEST_FULL_PATH - len(os.fsencode(path.absolute())) - len(".old")
        """How long a path below it may be, so that we and its user can open it by its full name."""
        self._parents: dict[Parts, int] = {}
        """The folders that the last members went into, kept open for others, the latest last."""
        self._most_parents = MOST_PARENTS if may_open_many() else 1
        self._later = SetLater(notes)
        with disk_errors(path):
            with suppress(FileExistsError):
                path.mkdir(0o700)
            try:
                self._root = os.open(path, _DIRECTORY)
            except NotADirectoryError as error:
                raise PartBroken.because(path, "it is no folder") from error
            self.cannot_tell_case = _cannot_tell_case(notes)

    def close(self) -> None:
        """Close what is open."""
        self._leave_parents()
        self._later.close()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    # --- Making members -------------------------------------------------------------------------------

    def make(self, member: Member) -> None:
        """Make a member that has no content."""
        if member.kind is MemberKind.FOLDER:
            self.make_folder(member)
        elif member.kind is MemberKind.LINK:
            self.make_link(member)
        else:
            self.make_hard_link(member)

    def make_again(self, member: Member) -> None:
        """Make a member that has no content, or complete what a kill has left of it."""
        if member.kind is MemberKind.FOLDER or not self.has(member.path):
            self.make(member)
        elif member.kind is MemberKind.LINK:
            self._finish_link(member)
        else:
            self._finish_hard_link(member)

    def make_folder(self, member: Member) -> None:
        """Make a folder, or take one that is there; its mode and times are set by `finish`."""
        try:
            if member.path:
                parent = self._open_parent(member.path)
                try:
                    os.mkdir(member.path[-1], 0o700, dir_fd=parent)
                except FileExistsError:
                    os.close(self._enter(parent, member.path[-1]))
        except (OSError, OverflowError) as error:
            self._blame(member, error)
        self._later.add(member)

    def check_free(self, member: Member) -> None:
        """Refuse a member if something has its name already; only folders may be there twice."""
        if member.kind is MemberKind.FOLDER:
            return
        try:
            name, parent = member.path[-1], self._open_parent(member.path)
            if os.access(name, os.F_OK, dir_fd=parent, follow_symlinks=False):
                raise FileExistsError(errno.EEXIST, "a second member of this name")
        except OSError as error:
            self._blame(member, error)

    def make_file(self, member: Member) -> int:
        """Make a new file; return it, open for reading and writing."""
        try:
            parent = self._open_parent(member.path)
            return os.open(member.path[-1], _NEW_FILE, 0o600, dir_fd=parent)
        except OSError as error:
            self._blame(member, error)

    def finish_file(self, file: int, member: Member) -> None:
        """Give a complete file its permissions and its time, now where we can still read it then."""
        try:
            os.utime(file, ns=(member.mtime_ns, member.mtime_ns))
            os.fchmod(file, member.mode | stat.S_IRUSR)
        except (OSError, OverflowError) as error:
            self._blame(member, error)
        if not member.mode & stat.S_IRUSR:
            self._later.add(member)

    def make_link(self, member: Member) -> None:
        """Make a symbolic link, which was checked to lead inside."""
        try:
            parent, name = self._open_parent(member.path), member.path[-1]
            os.symlink(member.target, name, dir_fd=parent)  # type: ignore[arg-type]
        except OSError as error:
            self._blame(member, error, _SYMBOLIC)
        self._finish_link(member)

    def _finish_link(self, member: Member) -> None:
        try:
            parent, name = self._open_parent(member.path), member.path[-1]
            with suppress(NotImplementedError):
                os.utime(name, ns=(member.mtime_ns,) * 2, dir_fd=parent, follow_symlinks=False)
        except (OSError, OverflowError) as error:
            self._blame(member, error, _SYMBOLIC)

    def make_hard_link(self, member: Member) -> None:
        """Give a file that is there a second name; it takes the permissions and the time of that, too."""
        target: Parts = member.target  # type: ignore[assignment]
        try:
            state = self.state_of(target)
            if state is None or not stat.S_ISREG(state.st_mode):
                raise MemberRefused(member.name, _LINKS_ONLY[errno.ENOENT])
            source = self._walk(target[:-1], make=False)
            try:
                parent = self._open_parent(member.path)
                names = target[-1], member.path[-1]
                os.link(*names, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(source)
        except OSError as error:
            self._blame(member, error, _LINKS_ONLY)
        self._finish_hard_link(member)

    def _finish_hard_link(self, member: Member) -> None:
        try:
            file = self.open_file(member.path)
        except OSError as error:
            self._blame(member, error, _LINKS_ONLY)
        try:
            self.finish_file(file, member)
        finally:
            os.close(file)

    # --- What is there --------------------------------------------------------------------------------

    def state_of(self, path: Parts) -> os.stat_result | None:
        """Return what the system says of a member, itself and not what it leads to; None if it is missing."""
        try:
            folder = self._walk(path[:-1], make=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        try:
            return os.stat(path[-1] if path else b".", dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        finally:
            os.close(folder)

    def has(self, path: Parts) -> bool:
        """Say whether something has the name of a member."""
        return self.state_of(path) is not None

    def target_of(self, path: Parts) -> bytes:
        """Return what a symbolic link says."""
        folder = self._walk(path[:-1], make=False)
        try:
            return os.readlink(path[-1], dir_fd=folder)
        finally:
            os.close(folder)

    def recall(self, member: Member) -> None:
        """Note again what is to be set at the end, for a member that an earlier run has made."""
        if member.kind is MemberKind.FOLDER or (
            member.kind is not MemberKind.LINK and not member.mode & stat.S_IRUSR
        ):
            self._later.add(member)

    def rename(self, path: Path) -> None:
        """Rename the folder, and begin a new one in its place."""
        self._leave_parents()
        os.close(self._root)
        self._root = -1
        self.path.rename(path)
        self.path.mkdir(0o700)
        self._root = os.open(self.path, _DIRECTORY)

    def open_file(self, path: Parts, flags: int = os.O_RDONLY) -> int:
        """Open a file of the folder."""
        folder = self._walk(path[:-1], make=False)
        try:
            return os.open(path[-1], flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        finally:
            os.close(folder)

    def reopen_file(self, path: Parts) -> int:
        """Open a file of the folder for writing again, though it may have got its permissions already."""
        file = self.open_file(path)
        try:
            os.fchmod(file, 0o600)
        finally:
            os.close(file)
        return self.open_file(path, os.O_RDWR)

    def take_from(self, other: MemberFolder, path: Parts) -> None:
        """Move a member of another folder of this file system into this one, where nothing has its name."""
        folder = other._walk(path[:-1], make=False)
        try:
            os.rename(path[-1], path[-1], src_dir_fd=folder, dst_dir_fd=self._open_parent(path))
        finally:
            os.close(folder)

    def sync(self, path: Parts) -> None:
        """Flush a file to the disk."""
        file = self.open_file(path)
        try:
            os.fsync(file)
        finally:
            os.close(file)

    def sync_folder(self, path: Parts) -> None:
        """Flush the entries of a folder, and of those above it, to the disk, where that is possible."""
        for depth in range(len(path) + 1):
            folder = self._walk(path[:depth], make=False)
            try:
                with suppress(OSError):
                    os.fsync(folder)
            finally:
                os.close(folder)

    def is_in_place(self) -> bool:
        """Say whether the folder is still what has its name."""
        return is_in_place(self._root, self.path)

    # --- At the end -----------------------------------------------------------------------------------

    def forget_late(self) -> None:
        """Forget what is to be set at the end: the archive is about to be read again."""
        self._later.forget()

    def finish(self) -> tuple[int, int | None]:
        """Set permissions and times from the deepest up; return those of the folder itself, to be set last.

        A folder that is not to be written into cannot be moved, so its own come after it has been renamed.
        """
        root: tuple[int, int | None] = (USUAL_FOLDER_MODE & ~umask(), None)
        for path, mode, mtime_ns in self._later.deepest_first():
            if path:
                self._set(path, mode, mtime_ns)
            else:
                root = mode, mtime_ns
        return root

    def _set(self, path: Parts, mode: int, mtime_ns: int) -> None:
        folder = self._walk(path[:-1], make=False)
        try:
            # By its name: a file with two names, or a folder that is there twice, may let nobody in by now.
            state = os.stat(path[-1], dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(state.st_mode):
                raise OSError(errno.ELOOP, "a link in place of a member")
            os.utime(path[-1], ns=(mtime_ns, mtime_ns), dir_fd=folder)
            os.chmod(path[-1], mode | group_bit(state), dir_fd=folder)
        finally:
            os.close(folder)

    def _blame(self, member: Member, error: Exception, more: dict[int, str] | None = None) -> NoReturn:
        """Raise what an error of the system means: the member is at fault itself, or else the disk is."""
        if isinstance(error, OverflowError):
            _refuse(member, "has a time that no file system can hold")
        if isinstance(error, OSError) and (why := {**_BY_THE_ARCHIVE, **(more or {})}.get(error.errno or 0)):
            _refuse(member, why)
        with disk_errors(self.path):
            raise error

    # --- The way to a member --------------------------------------------------------------------------

    def _open_parent(self, path: Parts) -> int:
        """Return the folder that a member goes into, made if missing; it stays open for the next ones."""
        if len(b"/".join(path)) >= self._longest:
            raise OSError(errno.ENAMETOOLONG, "longer than a path can be, with where the folder is")
        parent = path[:-1]
        folder = self._parents.pop(parent, -1)
        if folder < 0:
            if len(self._parents) >= self._most_parents:
                os.close(self._parents.pop(next(iter(self._parents))))
            folder = self._walk(parent, make=True)
        self._parents[parent] = folder
        return folder

    def _leave_parents(self) -> None:
        for folder in self._parents.values():
            os.close(folder)
        self._parents = {}

    def _walk(self, path: Parts, *, make: bool) -> int:
        """Open a folder, from the top and through no link; to be closed by the caller."""
        folder = os.dup(self._root)
        for part in path:
            try:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, USUAL_FOLDER_MODE, dir_fd=folder)
                inner = self._enter(folder, part)
            finally:
                os.close(folder)
            folder = inner
        return folder

    def _enter(self, folder: int, name: bytes) -> int:
        inner = os.open(name, _DIRECTORY, dir_fd=folder)
        if self.cannot_tell_case and not _is_spelled_so(folder, name):
            os.close(inner)
            raise FileExistsError(errno.EEXIST, "the same name in other letters")
        return inner


def _refuse(member: Member, why: str) -> NoReturn:
    raise MemberRefused(member.name, why) from None


def group_bit(state: os.stat_result) -> int:
    """Return what a folder has from the one above it, and keeps: that what is made in it is its group's.

    A project's folders are often so, on a file system where each group has a quota. No archive can set it.
    """
    return state.st_mode & stat.S_ISGID if stat.S_ISDIR(state.st_mode) else 0


def umask() -> int:
    """Return what is taken from the permissions of new files; the system tells only who changes it."""
    with suppress(OSError, ValueError, StopIteration), Path("/proc/self/status").open() as lines:
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    return 0o022


def _cannot_tell_case(folder: Path) -> bool:
    """Say whether the file system takes two names for one that differ in case alone, by trying."""
    probe = folder / "case"
    os.close(open_new(probe))
    try:
        return os.path.lexists(folder / "CASE")
    finally:
        probe.unlink()


def _is_spelled_so(folder: int, name: bytes) -> bool:
    def normal(text: bytes) -> str:
        # Some file systems decompose accented letters; that is the same spelling.
        return unicodedata.normalize("NFC", text.decode("utf-8", "surrogateescape"))

    return normal(name) in {normal(os.fsencode(each)) for each in os.listdir(folder)}
