"""Bytes that came too early to be unpacked: kept in a file of bounded size, which is used in a circle."""

from __future__ import annotations

import os
from pathlib import Path

from mwa_client.directory.our_files import open_growing


class Ring:
    """Holds the bytes of a file that lie within one window, wherever the window is at the time.

    It need not survive a crash: what is in it is fetched again. Its file appears with its first byte.

    Parameters
    ----------
    path : Path
        Its file, in a folder of our own.
    size : int
        Bytes of the window.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self._file = -1

    def open(self) -> None:
        """Make its file, if it has none."""
        if self._file < 0:
            self._file = open_growing(self.path)

    def write(self, position: int, data: memoryview) -> None:
        """Put bytes there that stand at a position of the file."""
        while data:
            place = position % self.size
            count = os.pwrite(self._file, data[: self.size - place], place)
            position, data = position + count, data[count:]

    def read(self, position: int, most: int) -> bytes:
        """Return at most so many bytes from a position on; fewer where the circle closes."""
        place = position % self.size
        return os.pread(self._file, min(most, self.size - place), place)

    def close(self) -> None:
        """Remove its file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self.path.unlink(missing_ok=True)
