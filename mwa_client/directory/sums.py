"""Keep ``SHA1SUMS``: a line for each verified file of the download directory, for ``sha1sum -c``."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import BinaryIO, Callable

from mwa_client.directory.disk import disk_errors
from mwa_client.directory.lock import SUMS_LOCK, brief_lock
from mwa_client.directory.our_files import open_ours, writing_safely
from mwa_client.errors import DirectoryUnusable
from mwa_client.light_dataclasses import dataclass

NAME = "SHA1SUMS"
NAME_COLUMN = 42
"""Where the name begins in a line: after the 40 digits of a SHA-1, a space and a mode character."""
LONGEST_SUM = 1 << 16
"""The most bytes that a line may have; a path has 4096 at the most."""
SUMS_SIZE = 1 << 20
"""Bytes that are read at a time."""
_BEGINNING_OF_LINE = re.compile(rb"[0-9a-f]{0,40}|[0-9a-f]{40} [ *]?.*")


@dataclass
class _Found:
    """What a look at the file has shown.

    Attributes
    ----------
    names : dict
        The name of each line, and its SHA-1 where it is one of ours; of files in a folder, the folder's.
    missing : dict
        The lines of ours that it does not have, and their names.
    is_right : bool
        It has no line that must go.
    torn : bytes
        A last line without an end.
    """

    names: dict[bytes, bytes] = field(default_factory=dict)
    missing: dict[bytes, bytes] = field(default_factory=dict)
    is_right: bool = True
    torn: bytes = b""

    @property
    def is_long(self) -> bool:
        """Whether it has lines of files in folders."""
        return any(name.endswith(b"/") for name in self.names)


class Sha1Sums:
    """The file ``SHA1SUMS`` of a download directory.

    Each change leaves it correct, even if a crash cuts the change off. Lines that the user has added for
    other files are kept. It is read and written line by line: a folder can have a million files.

    Parameters
    ----------
    directory : Path
        The download directory.
    state_dir : Path
        A folder in it where nobody else can write, for the new file while it is being written.
    is_shared : bool
        Other clients add lines at the same time. Then the file is written anew for each line, under a lock:
        on NFS, lines that two hosts append can overwrite each other.
    guard : callable, optional
        Raises if another client has taken over the directory.
    """

    def __init__(
        self,
        directory: Path,
        state_dir: Path,
        *,
        is_shared: bool = False,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        self._guard = guard
        self._directory = directory
        self._path = directory / NAME
        self._state_dir = state_dir
        self._is_shared = is_shared
        self._listed: dict[bytes, bytes] = {}
        self._as_left: tuple[int, int, int] | None = None

    def check(self) -> None:
        """Check that the file can be written, so that an error comes now and not after hours of work.

        Raises
        ------
        DirectoryUnusable
            As `mwa_client.directory.our_files.open_ours`; or it is no list of checksums.
        """
        with disk_errors(self._path), suppress(FileNotFoundError), self._open() as file:
            for _ in _lines(file, self._path):
                pass

    def add(
        self,
        new: Mapping[str, str],
        lost: Collection[str],
        ours: Callable[[], Mapping[str, str]],
        folders: Mapping[str, Path] | None = None,
    ) -> None:
        """Add lines for verified files.

        Parameters
        ----------
        new : mapping of str to str
            Names and SHA-1s of the files to be added.
        lost : collection of str
            Names of files and folders that we no longer have, because their product had to be made anew.
        ours : callable
            Returns the names and SHA-1s of all our verified files, including the new ones, but not of those
            in folders. It is called only where the file must be written anew.
        folders : mapping of str to Path, optional
            Names of folders that are to be added, and for each a file with the lines of all that is in it.
        """
        encoded, added = _encoded(new), {os.fsencode(name): path for name, path in (folders or {}).items()}
        gone = {*map(os.fsencode, lost), *added}
        if self._is_shared:
            with brief_lock(self._state_dir / SUMS_LOCK, self._directory) as check_lock:
                # Our earlier lines are there since the first time, unless somebody has removed the file.
                is_known = self._listed and self._path.exists()
                self._rewrite(encoded if is_known else _encoded(ours()), gone, added, check_lock)
            return
        missing = {name: sha1 for name, sha1 in encoded.items() if self._listed.get(name) != sha1}
        is_new = self._listed.keys().isdisjoint([*missing, *map(_inside, added)])
        if lost or not is_new or not self._append(missing, added):
            try:
                self._rewrite(_encoded(ours()), gone, added, self._guard)
            except DirectoryUnusable:
                self._guard()  # Who has taken over has removed what was half written: that is why.
                raise

    def _append(self, new: Mapping[bytes, bytes], folders: Mapping[bytes, Path]) -> bool:
        """Add lines at the end; return False if the file is not as we left it."""
        as_left, self._as_left = self._as_left, None
        if as_left is None:
            return False
        with disk_errors(self._path), suppress(FileNotFoundError):
            handle = open_ours(self._path, os.O_WRONLY | os.O_APPEND, private=False, one_name=True)
            with os.fdopen(handle, "wb", buffering=0) as file:
                if _fingerprint(os.fstat(handle)) != as_left:
                    return False
                if new or folders:
                    self._guard()
                    try:
                        _write_all(file, b"".join(_line(name, sha1) for name, sha1 in new.items()))
                        for path in folders.values():
                            _copy(path, file)
                        os.fsync(handle)
                    except OSError:
                        os.ftruncate(handle, as_left[1])
                        raise
                self._as_left = _fingerprint(os.fstat(handle))
            self._listed.update(new)
            self._listed.update((_inside(name), b"") for name in folders)
            return True
        return False

    def _rewrite(
        self,
        ours: Mapping[bytes, bytes],
        gone: Collection[bytes],
        folders: Mapping[bytes, Path],
        check_lock: Callable[[], None] = lambda: None,
    ) -> None:
        """Write the file anew, unless it has exactly these lines already.

        Parameters
        ----------
        ours : mapping
            Names and SHA-1s of our files outside of folders.
        gone : collection of bytes
            Names of files and folders whose lines are to go.
        folders : mapping
            Names of folders whose lines come to the end.
        check_lock : callable, optional
            Raises if another client may be writing the file by now.
        """
        with disk_errors(self._path):
            found = self._look(ours, gone)
            torn = b"" if self._is_torn_line_ours(found.torn, ours) else found.torn
            is_there = self._path.exists()
            if found.is_long and found.is_right and not found.torn and not self._is_shared:
                # The lines of folders can be a million: they are not copied for one more.
                self._listed, self._as_left = {**found.names, **ours}, _fingerprint(self._path.lstat())
                if self._append({name: ours[name] for name in found.missing.values()}, folders):
                    return
            if found.torn or found.missing or folders or not (found.is_right and is_there):
                mode = self._path.lstat().st_mode & 0o666 if is_there else 0o644
                # Written where nobody else can put a link under the name of the new file.
                with writing_safely(self._path, mode=mode, made_in=self._state_dir) as file:
                    self._copy_others(file, ours, gone)
                    _write_all(file, torn + b"\n" * bool(torn))
                    for name, sha1 in sorted(ours.items()):
                        file.write(_line(name, sha1))
                    for path in folders.values():
                        _copy(path, file)
                    check_lock()
            self._as_left = _fingerprint(self._path.lstat())
        self._listed = {**found.names, **ours, **{_inside(name): b"" for name in folders}}

    def _look(self, ours: Mapping[bytes, bytes], gone: Collection[bytes]) -> _Found:
        """Look which lines of ours the file has, and whether it has any that must go."""
        found = _Found(missing={_line(name, sha1): name for name, sha1 in ours.items()})
        seen = b"/"  # The folder whose files stay; no name begins so.
        with suppress(FileNotFoundError), self._open() as file:
            for line in _lines(file, self._path):
                if not line.endswith(b"\n"):
                    found.torn = line
                elif line.startswith(seen, NAME_COLUMN) and line not in found.missing:
                    continue  # As the line before, which is so for nearly all where there are many.
                elif found.missing.pop(line, None) is None:
                    name = _name_in(line)
                    stays = line != b"\n" and not _must_go(name, ours, gone)
                    found.is_right &= stays
                    top, slash, _ = name.partition(b"/")
                    found.names[top + slash] = b""
                    seen = top + slash if stays and top and slash else b"/"
        return found

    def _copy_others(self, new: BinaryIO, ours: Mapping[bytes, bytes], gone: Collection[bytes]) -> None:
        with suppress(FileNotFoundError), self._open() as file:
            for line in _lines(file, self._path):
                if line.endswith(b"\n") and line != b"\n" and not _must_go(_name_in(line), ours, gone):
                    new.write(line)

    def _is_torn_line_ours(self, torn: bytes, ours: Mapping[bytes, bytes]) -> bool:
        """Say whether a last line without an end may be one of ours that a crash has cut off."""
        if any(_line(name, sha1).startswith(torn) for name, sha1 in ours.items()):
            return True
        # Of the lines for files in folders we know only that the folders are there, and the files were.
        name = os.fsdecode(torn[NAME_COLUMN:])
        path, is_inside = self._directory / name, "/" in name
        return (
            _BEGINNING_OF_LINE.fullmatch(torn) is not None
            and not (name and path.exists())
            and (
                is_inside
                or self._is_shared  # It may be of another part, whose files we do not know.
                or any(one.is_dir() for one in self._directory.iterdir() if one.name.startswith(name))
            )
        )

    def _open(self) -> BinaryIO:
        """Open the file for reading, which the user may have made.

        A link is refused: where others can write in the directory, it could lead to a private file, whose
        text must not be copied.
        """
        handle = open_ours(self._path, os.O_RDONLY, private=False, one_name=True)
        return os.fdopen(handle, "rb", SUMS_SIZE)


def _must_go(name: bytes, ours: Mapping[bytes, bytes], gone: Collection[bytes]) -> bool:
    return name in ours or name in gone or name.partition(b"/")[0] in gone


def _lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the lines with their ends."""
    while line := file.readline(LONGEST_SUM):
        if len(line) == LONGEST_SUM:
            raise DirectoryUnusable(
                f"Cannot use {path}: it has a line of more than {LONGEST_SUM} bytes.",
                "It is no list of checksums. Move it away, or choose another directory with --dir.",
            )
        yield line


def _name_in(line: bytes) -> bytes:
    return line[NAME_COLUMN:].rstrip(b"\n")


def _inside(folder: bytes) -> bytes:
    """Return what stands among the names for all that is in a folder."""
    return folder + b"/"


def _encoded(sums: Mapping[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): sha1.encode("ascii") for name, sha1 in sums.items()}


def _line(name: bytes, sha1: bytes) -> bytes:
    return sha1 + b"  " + name + b"\n"


def _fingerprint(state: os.stat_result) -> tuple[int, int, int]:
    """Return what shows later whether a file has been changed."""
    return state.st_ino, state.st_size, state.st_mtime_ns


def _copy(path: Path, file: BinaryIO) -> None:
    """Write what is in a file of ours into another."""
    with os.fdopen(open_ours(path, os.O_RDONLY), "rb", buffering=0) as lines:
        while data := lines.read(SUMS_SIZE):
            _write_all(file, data)


def _write_all(file: BinaryIO, data: bytes) -> None:
    with memoryview(data) as rest:
        written = 0
        while written < len(rest):
            written += file.write(rest[written:])
