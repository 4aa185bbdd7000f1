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
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from mwa_client.directory.disk import disk_errors, sync_directory
from mwa_client.errors import DirectoryUnusable

SMALL = 1 << 16
"""Bytes that a small file of ours may have: a lock or a note has some hundred."""
BLOCK = 1 << 17
"""Bytes that are read at a time."""
OTHERS_CAN_WRITE = stat.S_IWGRP | stat.S_IWOTH


def state_directory(path: Path, mode: int = 0o755, *, below: Path | None = None) -> Path:
    """Make a folder for files of ours, or check that the one which is there is safe to use.

    Parameters
    ----------
    path : Path
        The folder. What is above it is made, too, where it is missing.
    mode : int
        The permissions of a new folder, less the umask.
    below : Path, optional
        A folder of this kind that it is in, not necessarily at once: so are those between the two.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    DirectoryUnusable
        It is a link or no folder, or somebody else can write there: whoever can decides what we take for
        verified, and where our files go.
    DiskFull
        It cannot be made.
    """
    if below is not None and path.parent != below:
        state_directory(path.parent, mode, below=below)
    with disk_errors(path):
        with suppress(FileNotFoundError):
            return _checked(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # Another client of ours was quicker.
            path.mkdir(mode)
        return _checked(path)


def open_ours(path: Path, flags: int, mode: int = 0o644, *, alone: bool = True, single: bool = False) -> int:
    """Open a file of our own, never through a link; it is made if the flags say so.

    Parameters
    ----------
    path : Path
        The file.
    flags : int
        As for `os.open`.
    mode : int
        The permissions of a new file, less the umask.
    alone : bool
        Whether it must be one that nobody else can write: its text is to be trusted.
    single : bool
        Whether it must have no second name (a hard link); one that is opened for writing never may. Where
        others have files, too, they can give any file of ours a second name there.

    Returns
    -------
    int
        The open file, to be closed by the caller.

    Raises
    ------
    DirectoryUnusable
        It is a link, no ordinary file or somebody else's; or not `alone`, or not `single`.
    OSError
        What the system says otherwise.
    """
    try:
        # Without O_NONBLOCK a FIFO would hang until somebody writes into it.
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, mode)
    except OSError as error:
        # These are what the system says of links, and of FIFOs and sockets.
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
            _refuse(path, "it is a link or no ordinary file", "Move it away")
        raise
    try:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            _refuse(path, "it is no ordinary file", "Move it away")
        _must_be_ours(path, state, alone=alone)
        if state.st_nlink > 1 and (single or flags & (os.O_WRONLY | os.O_RDWR)):
            _refuse(path, "it has a second name (a hard link)", "Move it away")
    except BaseException:
        os.close(handle)
        raise
    return handle


def open_new(path: Path, mode: int = 0o644) -> int:
    """Make a file that was not there before, for writing; what a crash has left under its name is removed.

    Only for folders where nobody but us has files: see `state_directory`.
    """
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def open_growing(path: Path) -> int:
    """Open a file of our own that grows at its end, or make it; a link is removed, what it leads to stays.

    Raises as `open_ours` does.
    """
    with suppress(FileNotFoundError):
        state = path.lstat()
        is_folder, is_file = stat.S_ISDIR(state.st_mode), stat.S_ISREG(state.st_mode)
        # The second name of a file may be a user's who wanted to keep it: it is not to be written into.
        if not is_folder and (not is_file or state.st_nlink > 1):
            path.unlink()
    return open_ours(path, os.O_RDWR | os.O_CREAT)


def read_ours(path: Path, most: int = SMALL, *, alone: bool = True, single: bool = False) -> bytes:
    """Return what is in a file of our own.

    Raises
    ------
    DirectoryUnusable
        As `open_ours`; or it has more than `most` bytes.
    OSError
        It is not there, or cannot be read.
    """
    with open(open_ours(path, os.O_RDONLY, alone=alone, single=single), "rb") as file:
        data = bytearray()
        # Asked for at once, memory for all that there may be would have to be there first.
        while len(data) <= most and (block := file.read(BLOCK)):
            data += block
    if len(data) > most:
        _refuse(path, f"it has more than {most} bytes", "Move it away")
    return bytes(data)


def write_safely(
    path: Path, text: str, sync: bool = True, *, mode: int = 0o644, made_in: Path | None = None
) -> None:
    """Write a small file so that it is at any moment the old one or the new one, never half of it.

    Parameters
    ----------
    path : Path
        The file. A link of that name is replaced, not followed.
    text : str
        What it is to hold.
    sync : bool
        Whether a power cut, too, leaves the old one or the new one; otherwise it can leave an empty file.
    mode : int
        The permissions, less the umask.
    made_in : Path, optional
        A folder of the same file system where the new file grows; it must be one that only we can write.
        Default is the file's own folder.
    """
    temporary = (made_in or path.parent) / f"{path.name}.new"
    try:
        with open(open_new(temporary, mode), "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        # On a full disk half a file is in the way.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_directory(path.parent)


def write_in_place(path: Path, text: str) -> None:
    """Write a file where others may have files, too: a new one, or over one of our own, never through a link.

    Raises
    ------
    DirectoryUnusable
        What is there is a link, no ordinary file, or somebody else's.
    OSError
        What the system says otherwise.
    """
    with open(open_ours(path, os.O_WRONLY | os.O_CREAT, alone=False), "w", encoding="utf-8") as file:
        os.ftruncate(file.fileno(), 0)
        file.write(text)


def refuse_anothers(path: Path) -> None:
    """Raise `DirectoryUnusable` if something there belongs to another user."""
    with suppress(FileNotFoundError):
        _must_be_ours(path, path.lstat(), alone=False)


def _checked(path: Path) -> Path:
    state = path.lstat()
    if not stat.S_ISDIR(state.st_mode):
        what = "a link" if stat.S_ISLNK(state.st_mode) else "no folder"
        _refuse(path, f"it is {what}, and must be a folder of its own", "Move it away")
    _must_be_ours(path, state)
    return path


def _must_be_ours(path: Path, state: os.stat_result, *, alone: bool = True) -> None:
    if state.st_uid != os.geteuid():
        _refuse(path, f"it belongs to {_user(state.st_uid)}", "Run this as that user")
    if alone and state.st_mode & OTHERS_CAN_WRITE:
        # An earlier version made it so under a umask of 002. Only the user knows whether to trust what was
        # put there since, so this is asked, not done.
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
    import pwd  # Seldom needed.

    try:
        return f"the user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"the user with the number {number}"
