"""Files that neither a kill, a power cut nor another user can spoil, and the disk's errors in our words.

What we remember lies in folders that only our own user can write. A download directory may be one that
others can write, too: there anybody can put a link under a name that we are about to use. So no file of
ours is ever opened through a link, and what is read is checked to be a file of our own before a byte of it
counts.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NoReturn

from mwa_client.descriptors import OUT_OF_THEM
from mwa_client.errors import DirectoryUnusable, DiskFull, NoFileOpened
from mwa_client.json_text import read_strictly

SMALL = 1 << 16
"""Bytes that a small file of ours may have: a lock or a note has some hundred."""
BLOCK = 1 << 17
"""Bytes of a file that are read together."""
LONGEST_LINE = 1 << 24
"""Bytes that a line may have: a delivery of 100,000 files is one line of the ledger."""
OTHERS_CAN_WRITE = stat.S_IWGRP | stat.S_IWOTH


# --- Folders ------------------------------------------------------------------------------------------


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


def refuse_anothers(path: Path) -> None:
    """Raise `DirectoryUnusable` if something there belongs to another user."""
    with suppress(FileNotFoundError):
        _must_be_ours(path, path.lstat(), alone=False)


# --- Opening ------------------------------------------------------------------------------------------


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


# --- Writing ------------------------------------------------------------------------------------------


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


def sync_directory(directory: Path) -> None:
    """Bring a directory's entries to the disk, so that a power cut does not undo a rename; if that can be.

    Many file systems cannot do it, and each says so in its own way; a directory that we may write need not
    be one that we may open. What stands there is as true as before, it only may not outlive a power cut: the
    next run would see that, and fetch it again. So whatever the system says is passed over, unless it says
    that the directory is not there any more.
    """
    try:
        _sync(directory)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
            raise


def sync_path(path: Path) -> None:
    """Bring a file's bytes, or a directory's entries, to the disk."""
    if path.is_dir():
        sync_directory(path)
    else:
        _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- Reading ------------------------------------------------------------------------------------------


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


def read_document(path: Path, most: int = SMALL, *, alone: bool = True) -> object:
    """Return what a small JSON file of our own says; None where that makes no sense, whatever is there.

    Raises
    ------
    OSError
        It is not there, or cannot be read.
    """
    try:
        return read_strictly(read_ours(path, most, alone=alone).decode("utf-8"))
    except (DirectoryUnusable, ValueError):
        return None


def json_lines(path: Path) -> Iterator[tuple[dict[str, object], str]]:
    """Yield the objects of a file of our own that has one a line, each with its line.

    What is no object, or too long, is passed over.

    Raises
    ------
    DirectoryUnusable
        As `open_ours`.
    OSError
        It is not there, or cannot be read.
    """
    for text in _whole_lines(path):
        lines = text.split("\n")
        if len(text) > LONGEST_LINE:
            lines = [line for line in lines if len(line) <= LONGEST_LINE]
            text = "\n".join(lines)
        for entry, line in zip(_objects(text, lines), lines):
            if isinstance(entry, dict):
                yield entry, line


def _whole_lines(path: Path) -> Iterator[str]:
    """Yield a file in pieces that end where a line ends; one that is too long is passed over."""
    with open(open_ours(path, os.O_RDONLY), "rb") as file:
        rest, is_too_long = b"", False
        while block := file.read(BLOCK):
            whole, end, begun = block.rpartition(b"\n")
            if end:
                text = rest + whole
                if is_too_long:
                    text = text.partition(b"\n")[2]
                yield text.decode("utf-8", "replace")
            rest, is_too_long = (begun, False) if end else (rest + begun, is_too_long)
            if len(rest) > LONGEST_LINE:
                rest, is_too_long = b"", True
        if not is_too_long:
            yield rest.decode("utf-8", "replace")


def _objects(text: str, lines: list[str]) -> list[object]:
    """Return what each line says; None for a line that makes no sense."""
    commas = text.replace("\n", ",")
    try:
        # Many at once take half the time; where one is damaged, they are read one by one.
        objects = read_strictly(f"[{commas}]")
    except ValueError:
        objects = []
    return objects if len(objects) == len(lines) else [_object(line) for line in lines]


def _object(line: str) -> object:
    try:
        return read_strictly(line)
    except ValueError:
        return None


def name_on_disk(text: str) -> str:
    """Return a name from outside as Python has it where it is on the disk.

    To the system names are bytes. Ours are UTF-8 in every locale, so that each run finds what another has
    left; where the locale is another one, Python has other characters for the same bytes.

    Raises
    ------
    UnicodeEncodeError
        No file can be called so.
    """
    return text if text.isascii() else os.fsdecode(text.encode("utf-8", "surrogateescape"))


def name_in_text(name: str) -> str:
    """Return the name of a file as it is written down, which is the same in every locale."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "surrogateescape")


def path_below(directory: Path, name: object) -> Path:
    """Return the place of a file that was noted down, by `name_in_text`, as one below a directory.

    Raises
    ------
    ValueError
        It is absolute, hidden, has ``..`` or an empty part in it, or is no name that a file can have.
    """
    if not isinstance(name, str) or name.startswith(".") or "\0" in name:
        raise ValueError("no name of a file")
    there = name_on_disk(name)  # Raises UnicodeEncodeError, a ValueError, where no file can be called so.
    path = PurePosixPath(there)
    if path.is_absolute() or ".." in path.parts or path.as_posix() != there:
        raise ValueError("not below the directory")
    return directory / path


# --- The disk -----------------------------------------------------------------------------------------


def free_bytes(directory: Path) -> float:
    """Return how many bytes there is room for; infinite where the system does not say. Knows no quotas."""
    with disk_errors(directory):
        state = os.statvfs(directory)
    return float(state.f_bavail * state.f_frsize) if state.f_blocks else float("inf")


@cache
def boot_id() -> str:
    """Return what names this boot of this machine; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """Turn what the operating system says about a file into one of our errors.

    Raises
    ------
    DiskFull
        No room, or no quota.
    NoFileOpened
        No more files can be opened.
    DirectoryUnusable
        Anything else.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(
                f"No room left to write {path} ({(error.strerror or '').lower()}).",
                "Make room, then run the same command again; what was fetched is kept.",
            ) from error
        if error.errno in OUT_OF_THEM:
            raise NoFileOpened from error
        raise DirectoryUnusable(
            f"Cannot write {path}: {error.strerror or error}.",
            "Check the directory's permissions, or choose another with --dir.",
        ) from error


def walk_tree(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield everything below a folder, each folder before what is in it; links are not followed.

    However deep the tree is, this takes no more of Python's stack.
    """
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
        yield from inside
        waiting += [entry.path for entry in reversed(inside) if entry.is_dir(follow_symlinks=False)]


def tree_size(folder: Path) -> int:
    """Return the size of all files below a folder, in bytes."""
    entries = (entry for entry in walk_tree(folder) if entry.is_file(follow_symlinks=False))
    return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)


def remove_tree(folder: Path) -> None:
    """Remove a folder of ours and all that is in it, if it is there."""
    folders = [str(folder)]
    if not folder.is_dir() or folder.is_symlink():
        folder.unlink(missing_ok=True)
        return
    folder.chmod(0o700)
    for entry in walk_tree(folder):
        if entry.is_dir(follow_symlinks=False):
            Path(entry.path).chmod(0o700)  # The copy of one that its owner cannot write into.
            folders.append(entry.path)
        else:
            Path(entry.path).unlink()
    for path in reversed(folders):
        Path(path).rmdir()
