"""Deliveries to file systems: where they may be, and what is in one. Nothing here is changed.

The service names a path, but it does not choose: a path counts only below a root that deliveries are known to
go to, and never where the user's own files are.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from mwa_client.directory.names import is_no_command, name_on_disk
from mwa_client.directory.trees import walk_tree
from mwa_client.errors import JobFailed, MwaClientError, ServiceUnavailable, TransferFailed
from mwa_client.light_dataclasses import dataclass

USUAL_ROOTS = (Path("/scratch"), Path("/data"))
"""Where the service delivers to: ``/scratch/<group>/asvo/<job id>``, ``/data/<group>/asvo/<job id>``."""
TOP = Path("/")
PASSING_ERRORS = (
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.ENOTCONN,
    errno.ESHUTDOWN,
)
"""What the system says of file systems of clusters that hang, and come back as networks do."""
LONGEST_PATH = 4095
"""Bytes that a path can have; Linux opens none that is longer."""


@dataclass(frozen=True)
class DeliveryRoots:
    """The folders below which deliveries are found.

    Attributes
    ----------
    roots : tuple of Path
        The folders.
    private : tuple of Path
        Folders that no delivery is ever copied from, nor from one that holds them: the user's home.
    """

    roots: tuple[Path, ...] = USUAL_ROOTS
    private: tuple[Path, ...] = ()

    def check(self, path: str, directory: Path) -> Path:
        """Refuse a path that cannot be a delivery; return where it really is, whatever links are on the way.

        Parameters
        ----------
        path : str
            What the service says.
        directory : Path
            The download directory.

        Raises
        ------
        JobFailed
            It is not absolute, not below a root, or where the user's own files are.
        """
        remedy = (
            "If deliveries do go there, add the folder above it to MWA_ASVO_SCRATCH_ROOTS; "
            "otherwise tell the archive's help desk."
        )
        if not _is_plain(path):
            raise JobFailed(
                f"The service says that the product is at {path[:300]}, which is not an absolute path.",
                remedy,
            )
        # Both ways, for a link on the way must not lead out, nor must "/scratch" itself be one that does.
        there = name_on_disk(path)
        written, real = _from_the_top(there), _real(there)
        roots = [root for root in self.roots if _is_below(written, root)]
        real_roots = [root for root in map(_real, roots) if root != TOP]
        if not any(_is_below(real, root) for root in real_roots):
            below = ", ".join(map(str, self.roots))
            raise JobFailed(
                f"The service says that the product is at {path}, but deliveries are below {below}.", remedy
            )
        if not any(is_no_command(str(written.relative_to(root))) for root in roots):
            raise JobFailed(
                f"The service says that the product is at {path[:300]}, which has signs of the shell.",
                "Nothing was copied. Tell the archive's help desk.",
            )
        for folder in map(_real, (directory, *self.private)):
            # A root that somebody has put into the folder is meant.
            is_meant = any(_is_below(root, folder) and _is_below(real, root) for root in real_roots)
            if real == folder or real in folder.parents or (_is_below(real, folder) and not is_meant):
                raise JobFailed(
                    f"The service says that the product is at {path}, where your own files are.",
                    "Nothing was copied. Tell the archive's help desk.",
                )
        return real

    def is_visible(self, path: str) -> bool:
        """Say whether this host can see a delivered file or folder."""
        return is_readable(path)

    def should_be_visible(self, path: str) -> bool:
        """Say whether this host has the folder that a delivery is to be in, which is no root itself.

        Other hosts can have a root of the same name, which is another file system.
        """
        if not _is_plain(path):
            return False
        there = name_on_disk(path)
        parent = _from_the_top(there).parent
        return os.path.lexists(there) or (
            _is_folder(parent) and any(_is_below(parent, r) for r in self.roots)
        )


def is_readable(path: str) -> bool:
    """Say whether a path of the service exists on this host, and we may read it."""
    return _is_plain(path) and os.access(name_on_disk(path), os.R_OK)


def roots_from(words: str, *homes: str | None) -> DeliveryRoots:
    """Return the usual roots and those that the user names.

    Parameters
    ----------
    words : str
        Folders, separated by colons: ``/astro:/mnt/scratch``.
    *homes : str or None
        The user's home, as the environment says it and as the system does.

    Raises
    ------
    ValueError
        One of them is not an absolute path, or is the root of all.
    """
    given = [word.strip() for word in words.split(":") if word.strip()]
    for word in given:
        if not _is_plain(word) or _from_the_top(word) == TOP:
            raise ValueError(word)
    return DeliveryRoots((*USUAL_ROOTS, *map(_from_the_top, given)), _absolute(homes))


def _absolute(folders: Iterable[str | None]) -> tuple[Path, ...]:
    return tuple(Path(folder) for folder in folders if folder and Path(folder).is_absolute())


def _is_plain(path: str) -> bool:
    try:
        is_short = len(path.encode("utf-8", "surrogateescape")) <= LONGEST_PATH
    except UnicodeEncodeError:
        return False  # No file can be called so.
    return is_short and path.startswith("/") and "\0" not in path and ".." not in Path(path).parts


def _from_the_top(path: str) -> Path:
    # To Python two slashes at the beginning are a place of their own; to Linux they are one.
    return Path("/" + path.lstrip("/"))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # We may not look.


def _is_below(path: Path, folder: Path) -> bool:
    return folder in path.parents


def _real(path: str | Path) -> Path:
    return Path(os.path.realpath(path))


# --- What is in one ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A file, folder or link in a delivery.

    Attributes
    ----------
    name : str
        Its path below the delivery; empty for the delivery itself.
    mode : int
        What the system says it is, and who may do what with it.
    size, mtime_ns : int
        Of a file: bytes, and nanoseconds since 1970; zero for what is none.
    target : str
        Where a link leads, from the place where it is.
    """

    name: str
    mode: int
    size: int = 0
    mtime_ns: int = 0
    target: str = ""

    @property
    def is_file(self) -> bool:
        """Whether this is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def permissions(self) -> int:
        """Who may do what, without set-uid and its kin; we can read it, so its copy is ours to read."""
        return self.mode & 0o777 | (0o500 if stat.S_ISDIR(self.mode) else 0o400)


def entries_of(source: Path) -> list[Entry]:
    """Return every entry of a delivery, each folder before what is in it; an odd one is an error.

    Raises
    ------
    TransferFailed
        It cannot be read, has no files, has a link that leads out of it, or something that is neither a file
        nor a folder.
    ServiceUnavailable
        It cannot be read for the moment.
    """
    try:
        entries = [_entry_of(source, str(source), source.lstat())]
        if stat.S_ISDIR(entries[0].mode):
            found = walk_tree(source)
            entries += [_entry_of(source, one.path, one.stat(follow_symlinks=False)) for one in found]
    except OSError as error:
        raise unreadable(source, error) from error
    if not any(entry.is_file for entry in entries):
        raise TransferFailed(
            f"{source} contains no files.", "Check the delivery, and tell the archive's help desk."
        )
    return entries


def _entry_of(source: Path, path: str, state: os.stat_result) -> Entry:
    name = path[len(str(source)) + 1 :]
    if stat.S_ISREG(state.st_mode):
        return Entry(name, state.st_mode, state.st_size, state.st_mtime_ns)
    if stat.S_ISDIR(state.st_mode):
        return Entry(name, state.st_mode)
    if stat.S_ISLNK(state.st_mode) and name:
        return Entry(name, state.st_mode, target=_inner_target(source, Path(path)))
    raise TransferFailed(
        f"{path} is not a file, a folder or a link.",
        "Check the delivery, and tell the archive's help desk.",
    )


def _inner_target(source: Path, link: Path) -> str:
    """Return where a link leads; refuse one that leads out of the delivery."""
    target, root = str(link.readlink()), os.path.realpath(source)
    real = os.path.realpath(link)
    if real != root and not real.startswith(f"{root}/"):
        raise TransferFailed(
            f"{link} is a symbolic link that points outside the delivery, to {target}.",
            "Check the delivery, and tell the archive's help desk. Nothing outside it was read.",
        )
    if not target.startswith("/") and ".." not in Path(target).parts:
        return target
    # It may lead out of the delivery and back into it by name, which would lead elsewhere from the copy.
    return os.path.relpath(real, os.path.realpath(link.parent))


def unreadable(path: str | Path, error: OSError) -> MwaClientError:
    """Return the error for a file or folder that the system does not let us read, for good or for now."""
    if error.errno in PASSING_ERRORS:
        return ServiceUnavailable(f"Reading {error.filename or path} failed ({error.strerror}).")
    return TransferFailed(
        f"Cannot read {error.filename or path}: {error.strerror or error}.",
        "Check that the delivery is still there, and its permissions.",
    )
