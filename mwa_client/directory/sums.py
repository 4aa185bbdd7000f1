"""Keep ``SHA1SUMS``: a line for each verified file of the download directory, for ``sha1sum -c``."""

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
LARGEST_FILE = 1 << 27
"""The most bytes that are read: enough for a million files."""
NAME_COLUMN = 42
"""Where the name begins in a line: after the 40 digits of a SHA-1, a space and a mode character."""


class Sha1Sums:
    """The file ``SHA1SUMS`` of a download directory.

    Each change leaves it correct, even if a crash cuts the change off. Lines that the user has added for
    other files are kept.

    Parameters
    ----------
    directory : Path
        The download directory.
    state_dir : Path
        A folder in it where nobody else can write, for the new file while it is being written.
    """

    def __init__(self, directory: Path, state_dir: Path) -> None:
        self._path = directory / NAME
        self._state_dir = state_dir
        self._listed: dict[str, str] = {}
        self._as_left: tuple[int, int, int] | None = None

    def check(self) -> None:
        """Check that the file can be written, so that an error comes now and not after hours of work.

        Raises
        ------
        DirectoryUnusable
            As `mwa_client.directory.our_files.open_ours`.
        """
        self._read()

    def add(
        self, new: Mapping[str, str], lost: Collection[str], ours: Callable[[], Mapping[str, str]]
    ) -> None:
        """Add lines for verified files.

        Parameters
        ----------
        new : mapping of str to str
            Names and SHA-1s of the files to be added.
        lost : collection of str
            Names of files that we no longer have, because their product had to be made anew.
        ours : callable
            Returns the names and SHA-1s of all our verified files, including the new ones. It is called only
            where the file must be written anew.
        """
        missing = {name: sha1 for name, sha1 in new.items() if self._listed.get(name) != sha1}
        is_appended = not lost and self._listed.keys().isdisjoint(missing) and self._append(missing)
        if not is_appended:
            self._rewrite(ours(), lost)

    def _append(self, new: Mapping[str, str]) -> bool:
        """Add lines at the end; return False if the file is not as we left it."""
        as_left, self._as_left = self._as_left, None
        if as_left is None:
            return False
        with disk_errors(self._path), suppress(FileNotFoundError):
            file = open_ours(self._path, os.O_WRONLY | os.O_APPEND, private=False, one_name=True)
            try:
                if _fingerprint(os.fstat(file)) != as_left:
                    return False
                if new:
                    _write_all(file, os.fsencode(_lines(new)))
                self._as_left = _fingerprint(os.fstat(file))
            finally:
                os.close(file)
            self._listed.update(new)
            return True
        return False

    def _rewrite(self, ours: Mapping[str, str], lost: Collection[str]) -> None:
        """Write the file anew, unless it has exactly these lines of ours already."""
        text, mode = self._read()
        *whole, torn = text.split("\n")
        wanted = {f"{sha1}  {name}": name for name, sha1 in sorted(ours.items())}
        # A last line without an end may be one of ours that a crash has cut off.
        is_torn_line_ours = any(line.startswith(torn) for line in wanted)
        lines = [line for line in (whole if is_torn_line_ours else [*whole, torn]) if line]
        others = [line for line in lines if line[NAME_COLUMN:] not in ours and line[NAME_COLUMN:] not in lost]
        is_complete = len(lines) == len(others) + len(wanted) and wanted.keys() <= set(lines)
        with disk_errors(self._path):
            if torn or not is_complete or not text:
                # Written where nobody else can put a link under the name of the new file.
                text = "".join(f"{line}\n" for line in (*others, *wanted))
                write_safely(self._path, name_in_text(text), mode=mode, made_in=self._state_dir)
            self._as_left = _fingerprint(self._path.lstat())
        self._listed = {**{line[NAME_COLUMN:]: "" for line in others}, **ours}

    def _read(self) -> tuple[str, int]:
        """Return the text and the permissions of the file, which the user may have made.

        A link is refused: where others can write in the directory, it could lead to a private file, whose
        text must not be copied.
        """
        with disk_errors(self._path), suppress(FileNotFoundError):
            data = read_ours(self._path, LARGEST_FILE, private=False, one_name=True)
            return os.fsdecode(data), self._path.lstat().st_mode & 0o666
        return "", 0o644


def _lines(sums: Mapping[str, str]) -> str:
    return "".join(f"{sha1}  {name}\n" for name, sha1 in sums.items())


def _fingerprint(state: os.stat_result) -> tuple[int, int, int]:
    """Return what shows later whether a file has been changed."""
    return state.st_ino, state.st_size, state.st_mtime_ns


def _write_all(file: int, data: bytes) -> None:
    with memoryview(data) as rest:
        written = 0
        while written < len(rest):
            written += os.write(file, rest[written:])
    os.fsync(file)
