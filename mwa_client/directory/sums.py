"""``SHA1SUMS``: a line for each verified product of the download directory, for ``sha1sum -c``."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Callable

from mwa_client.directory.disk import disk_errors
from mwa_client.directory.names import name_in_text
from mwa_client.directory.our_files import open_ours, read_ours, write_safely

NAME = "SHA1SUMS"
MOST = 1 << 27
"""Bytes of it that are read: a line for each of a million files."""
NAME_FROM = 42
"""Where the name begins in a line: after 40 digits and two characters."""


class Sums:
    """The file, which is true after each change of it, even if that is cut off.

    Lines for other files, which somebody else wrote, stay.

    Parameters
    ----------
    directory : Path
        The download directory.
    memory : Path
        A folder in it where nobody else can write.
    """

    def __init__(self, directory: Path, memory: Path) -> None:
        self._path = directory / NAME
        self._memory = memory
        self._said: dict[str, str] = {}
        self._as_left: tuple[int, int, int] | None = None

    def check(self) -> None:
        """Raise an error now rather than after hours of work, if the file could not be written.

        Raises
        ------
        DirectoryUnusable
            As `mwa_client.directory.disk.open_ours`.
        """
        self._there()

    def add(
        self, new: Mapping[str, str], lost: Collection[str], ours: Callable[[], Mapping[str, str]]
    ) -> None:
        """Write that some files are there.

        Parameters
        ----------
        new : mapping of str to str
            Names and SHA-1s of files of which that has not been written.
        lost : collection of str
            Names that were ours and are no more: they belonged to a product that had to be made anew.
        ours : callable
            Returns names and SHA-1s of all our files, with the new ones.
        """
        unsaid = {name: sha1 for name, sha1 in new.items() if self._said.get(name) != sha1}
        is_appended = not lost and self._said.keys().isdisjoint(unsaid) and self._append(unsaid)
        if not is_appended:
            self._rewrite(ours(), lost)

    def _append(self, new: Mapping[str, str]) -> bool:
        """Add lines at the end; return False where the file is not as we left it."""
        as_left, self._as_left = self._as_left, None
        if as_left is None:
            return False
        with disk_errors(self._path), suppress(FileNotFoundError):
            file = open_ours(self._path, os.O_WRONLY | os.O_APPEND, alone=False, single=True)
            try:
                if _state(os.fstat(file)) != as_left:
                    return False
                if new:
                    _write_all(file, os.fsencode(_lines(new)))
                self._as_left = _state(os.fstat(file))
            finally:
                os.close(file)
            self._said.update(new)
            return True
        return False

    def _rewrite(self, ours: Mapping[str, str], lost: Collection[str]) -> None:
        """Write the file anew, unless it says all this already."""
        text, mode = self._there()
        *whole, torn = text.split("\n")
        wanted = {f"{sha1}  {name}": name for name, sha1 in sorted(ours.items())}
        # A crash can have cut off the last line that was added; it is a piece of one of these.
        is_piece = any(line.startswith(torn) for line in wanted)
        lines = [line for line in (whole if is_piece else [*whole, torn]) if line]
        others = [line for line in lines if line[NAME_FROM:] not in ours and line[NAME_FROM:] not in lost]
        is_said = len(lines) == len(others) + len(wanted) and wanted.keys() <= set(lines)
        with disk_errors(self._path):
            if torn or not is_said or not text:
                # It grows where nobody else can put anything in its way.
                text = "".join(f"{line}\n" for line in (*others, *wanted))
                write_safely(self._path, name_in_text(text), mode=mode, made_in=self._memory)
            self._as_left = _state(self._path.lstat())
        self._said = {**{line[NAME_FROM:]: "" for line in others}, **ours}

    def _there(self) -> tuple[str, int]:
        """Return the text and the permissions of the file, where the user may have one already.

        Others may be able to write in the directory: a link of that name may lead to a private file, whose
        text must not be copied, and is not ours to replace.
        """
        with disk_errors(self._path), suppress(FileNotFoundError):
            data = read_ours(self._path, MOST, alone=False, single=True)
            return os.fsdecode(data), self._path.lstat().st_mode & 0o666
        return "", 0o644


def _lines(sums: Mapping[str, str]) -> str:
    return "".join(f"{sha1}  {name}\n" for name, sha1 in sums.items())


def _state(state: os.stat_result) -> tuple[int, int, int]:
    """Return by what a file can be known again, as it was left."""
    return state.st_ino, state.st_size, state.st_mtime_ns


def _write_all(file: int, data: bytes) -> None:
    with memoryview(data) as rest:
        written = 0
        while written < len(rest):
            written += os.write(file, rest[written:])
    os.fsync(file)
