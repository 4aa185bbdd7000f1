"""The file of the ledger: one JSON object a line, only ever appended to, and readable after any crash."""

from __future__ import annotations

import gc
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mwa_client.directory.disk import disk_errors, length_so_far, write_all
from mwa_client.directory.json_files import json_lines
from mwa_client.directory.our_files import open_ours
from mwa_client.errors import DirectoryUnusable


class LedgerFile:
    """The lines of a ledger. Safe to append to from several threads.

    Parameters
    ----------
    path : Path
        Where the file is. It is made with its first line: a run that records nothing leaves none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._is_closed = False
        self._heading: Mapping[str, object] = {}
        self._writing = threading.Lock()

    def lines(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield each entry and the text of its line, the oldest first.

        A line that cannot be read (a torn last one, say) is skipped.

        Raises
        ------
        DirectoryUnusable
            The file is not ours.
        OSError
            It is missing or cannot be read.
        """
        return json_lines(self._path)

    def open(self, heading: Mapping[str, object]) -> None:
        """Open the file for appending, if it is there.

        Parameters
        ----------
        heading : mapping
            A line that is written before the first one that is appended; empty for none.

        Raises
        ------
        DirectoryUnusable
            The file cannot be written, or it is not ours.
        """
        with disk_errors(self._path), suppress(FileNotFoundError):
            self._descriptor = open_ours(self._path, os.O_RDWR | os.O_APPEND)
        self._heading = heading

    def close(self) -> None:
        """Close the file for good.

        A worker that comes to its end after the run must not write any more: another file may have the
        descriptor by then.
        """
        with self._writing:
            self._is_closed = True
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1

    def append(self, entry: Mapping[str, object], *, sync: bool) -> int:
        """Add a line, and return where it ends. Without `sync` it may reach the disk only with a later one.

        Raises
        ------
        DiskFull, DirectoryUnusable
            The line cannot be written.
        """
        line = json.dumps(entry) + "\n"
        with self._writing, disk_errors(self._path):
            if self._is_closed:
                raise DirectoryUnusable(
                    f"The run that writes {self._path} is over.", "Run the same command again."
                )
            if self._descriptor < 0:
                self._descriptor = open_ours(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            self._look_at_end()
            if self._heading:
                line = f"{json.dumps(self._heading)}\n{line}"
            write_all(self._descriptor, line.encode("utf-8"))
            self._heading = {}
            if sync:
                os.fsync(self._descriptor)
            return length_so_far(self._descriptor)

    def fill_in(self, end: int, value: int) -> bool:
        """Give the last field of a line, which is null, a value. That takes no room on the disk.

        Parameters
        ----------
        end : int
            Where the line ends, as `append` has returned it.
        value : int
            A number of four characters at the most.

        Returns
        -------
        bool
            Whether there is such a line.

        Raises
        ------
        DiskFull, DirectoryUnusable
            It cannot be written.
        """
        before, after = b"null}\n", f"{value:<4}}}\n".encode()
        with self._writing, disk_errors(self._path):
            # What is open for appending can be written at its end alone.
            handle = open_ours(self._path, os.O_RDWR)
            try:
                is_there = end >= len(before) and os.pread(handle, len(before), end - len(before)) == before
                if is_there:
                    os.pwrite(handle, after, end - len(before))
                    os.fsync(handle)
            finally:
                os.close(handle)
        return is_there

    def _look_at_end(self) -> None:
        """Fail where the file has been removed; end a last line that a crash or a full disk has cut off."""
        state = os.fstat(self._descriptor)
        if not state.st_nlink:
            raise DirectoryUnusable(
                f"{self._path} has been removed meanwhile: what is written into it is lost.",
                "See that nothing removes it, not --then either, and run the same command again.",
            )
        if state.st_size and os.pread(self._descriptor, 1, state.st_size - 1) != b"\n":
            os.write(self._descriptor, b"\n")


@contextmanager
def garbage_collection_off() -> Iterator[None]:
    """Switch the garbage collector off: every entry is kept, and it would take a fifth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
