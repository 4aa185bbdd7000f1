"""Open, read and write files of our own so that neither a kill, a power cut nor another user can spoil them.

The state directory can be written only by our own user. The download directory may be one that others can
write, too: there anybody can put a link under a name that we are about to use. So no file of ours is ever
opened through a link, and before a byte of it counts it is checked that the file is our own.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from mwa_client.directory.disk import NOTHING_THERE, disk_errors, sync_directory, write_all
from mwa_client.errors import DirectoryUnusable

SMALL_FILE = 1 << 16
"""The most bytes that a small file of ours may have; a lock or a note has some hundred."""
BLOCK_SIZE = 1 << 17
"""Bytes that are read at a time."""
OTHERS_CAN_WRITE = stat.S_IWGRP | stat.S_IWOTH


def state_directory(path: Path, mode: int = 0o755, *, below: Path | None = None) -> Path:
    """Make a folder for files of our own, or check that an existing one is safe to use.

    Parameters
    ----------
    path : Path
        The folder. Missing folders above it are made, too.
    mode : int
        The permissions of a new folder, less the umask.
    below : Path, optional
        A folder of this kind somewhere above it; every folder between the two is made or checked as well.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    DirectoryUnusable
        It is a link or no folder, or somebody else can write there, who could then decide what we take for
        verified and where our files go.
    DiskFull
        There is no room to make it.
    """
    if below is not None and path.parent != below:
        state_directory(path.parent, mode, below=below)
    with disk_errors(path):
        with suppress(FileNotFoundError):
            return _checked(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # Another client has made it meanwhile.
            path.mkdir(mode)
        return _checked(path)


def open_ours(
    path: Path, flags: int, mode: int = 0o644, *, private: bool = True, one_name: bool = False
) -> int:
    """Open a file of our own, never through a link.

    Parameters
    ----------
    path : Path
        The file.
    flags : int
        As for `os.open`; with ``O_CREAT`` a missing file is made.
    mode : int
        The permissions of a new file, less the umask.
    private : bool
        Refuse a file that others can write: its content is going to be trusted.
    one_name : bool
        Refuse a file with a second name (a hard link), even for reading; for writing it is always refused.
        In a folder where others have files, they can give any file of ours a second name.

    Returns
    -------
    int
        The open file, to be closed by the caller.

    Raises
    ------
    DirectoryUnusable
        It is a link, no ordinary file, or somebody else's; others can write it; or it has a second name.
    OSError
        Any other error of the system.
    """
    try:
        # Without O_NONBLOCK a FIFO would hang until somebody writes into it.
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, mode)
    except OSError as error:
        # The first two stand for a link, the third for a FIFO or a socket.
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
            _refuse(path, "it is a symbolic link, or not an ordinary file", "Move it away")
        raise
    try:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            _refuse(path, "it is not an ordinary file", "Move it away")
        _must_be_ours(path, state, private=private)
        if state.st_nlink > 1 and (one_name or flags & (os.O_WRONLY | os.O_RDWR)):
            _refuse(path, "it has a second name (a hard link)", "Move it away")
    except BaseException:
        os.close(handle)
        raise
    return handle


def open_new(path: Path, mode: int = 0o644) -> int:
    """Make a new file for writing, in the place of one that a crash may have left under its name.

    Only for folders where nobody but us has files (see `state_directory`).
    """
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def open_growing(path: Path) -> int:
    """Open a file of our own for reading and writing, or make it.

    A link, or a file with a second name, is removed first; what the link leads to stays as it is.

    Raises
    ------
    DirectoryUnusable, OSError
        As `open_ours`.
    """
    with suppress(FileNotFoundError):
        state = path.lstat()
        is_folder, is_file = stat.S_ISDIR(state.st_mode), stat.S_ISREG(state.st_mode)
        # The user may have made the second name to keep the file as it is.
        if not is_folder and (not is_file or state.st_nlink > 1):
            path.unlink()
    return open_ours(path, os.O_RDWR | os.O_CREAT)


def read_ours(path: Path, most: int = SMALL_FILE, *, private: bool = True, one_name: bool = False) -> bytes:
    """Return the content of a file of our own.

    Raises
    ------
    DirectoryUnusable
        As `open_ours`; or it has more than `most` bytes.
    OSError
        It is not there, or cannot be read.
    """
    with open(open_ours(path, os.O_RDONLY, private=private, one_name=one_name), "rb") as file:
        data = bytearray()
        # A single read of `most` bytes would reserve memory for all of them first.
        while len(data) <= most and (block := file.read(BLOCK_SIZE)):
            data += block
    if len(data) > most:
        _refuse(path, f"it has more than {most} bytes", "Move it away")
    return bytes(data)


def read_if_ours(path: Path) -> bytes | None:
    """Return the content of a small file of our own, None where there is none that can be trusted.

    Raises
    ------
    NoFileOpened, DirectoryUnusable
        It cannot be read now. It may well be sound: what it vouches for must not be thrown away.
    """
    try:
        return read_ours(path)
    except DirectoryUnusable:
        return None
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return None
        with disk_errors(path):
            raise


def write_safely(
    path: Path, text: str, sync: bool = True, *, mode: int = 0o644, made_in: Path | None = None
) -> None:
    """Write a small file so that a reader sees the old content or the new, never a part of it.

    Parameters
    ----------
    text : str
        The new content.
    path, sync, mode, made_in
        As for `writing_safely`.
    """
    with writing_safely(path, sync, mode=mode, made_in=made_in) as file:
        file.write(text.encode("utf-8", "surrogateescape"))


@contextmanager
def writing_safely(
    path: Path, sync: bool = True, *, mode: int = 0o644, made_in: Path | None = None
) -> Iterator[BinaryIO]:
    """Write a file in the block so that a reader sees the old content or the new, never a part of it.

    Parameters
    ----------
    path : Path
        The file. A link of that name is replaced, not followed.
    sync : bool
        Keep this promise through a power cut, too; otherwise that can leave an empty file.
    mode : int
        The permissions, less the umask.
    made_in : Path, optional
        The folder in which the new file is written before it is renamed: one of the same file system that
        only we can write. Default is the file's own folder.
    """
    temporary = (made_in or path.parent) / f"{path.name}.new"
    try:
        with open(open_new(temporary, mode), "wb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        # Half a file would take room on a disk that is full already.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_directory(path.parent)


def write_in_place(path: Path, text: str) -> None:
    """Write a file where others may have files, too, never through a link or over a file of theirs.

    Where there is no room for all of it, it is left empty: half a text would be none.

    Raises
    ------
    DirectoryUnusable
        A link, something that is no ordinary file, or somebody else's file has the name.
    OSError
        Any other error of the system.
    """
    handle = open_ours(path, os.O_WRONLY | os.O_CREAT, private=False)
    try:
        os.ftruncate(handle, 0)
        try:
            write_all(handle, text.encode("utf-8"))
        except OSError:
            os.ftruncate(handle, 0)
            raise
    finally:
        os.close(handle)


def refuse_anothers(path: Path) -> None:
    """Raise `DirectoryUnusable` if the file at `path` exists and belongs to another user."""
    with suppress(FileNotFoundError):
        _must_be_ours(path, path.lstat(), private=False)


def refuse_foreign_folder(path: Path) -> None:
    """Raise `DirectoryUnusable` if a folder of ours is not safe to use, as `state_directory` does."""
    _checked(path)


def _checked(path: Path) -> Path:
    state = path.lstat()
    if not stat.S_ISDIR(state.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(state.st_mode) else "not a folder"
        _refuse(path, f"it is {what}, and must be a real folder", "Move it away")
    _must_be_ours(path, state)
    return path


def _must_be_ours(path: Path, state: os.stat_result, *, private: bool = True) -> None:
    if state.st_uid != os.geteuid():
        _refuse(path, f"it belongs to {_user(state.st_uid)}", "Run this as that user")
    if private and state.st_mode & OTHERS_CAN_WRITE:
        # An earlier version left it so under a umask of 002. Only the user can tell whether to trust what is
        # there now, so the permissions are not changed without asking.
        raise DirectoryUnusable(
            f"Cannot use {path}: other users can write to it.",
            "Choose another directory with --dir, or, if you trust what they may have put there, run: "
            f"chmod -R go-w {shlex.quote(str(path))}",
        )


def _refuse(path: Path, why: str, remedy: str) -> NoReturn:
    raise DirectoryUnusable(
        f"Cannot use {path}: {why}.", f"{remedy}, or choose another directory with --dir."
    )


def _user(number: int) -> str:
    import pwd  # Rarely needed, and not free to load.

    try:
        return f"the user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"the user with id {number}"
