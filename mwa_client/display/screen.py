"""The terminal: rows that are drawn again and again at its bottom, and lines that scroll above them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Callable, TextIO

from mwa_client.display.printing import window_of


class Screen:
    """Draws rows at the bottom of a terminal.

    The cursor stays at the beginning of the first of them: what the terminal echoes (``^C``), and rows that
    a resized window has broken in two, are overwritten by the next drawing.

    Parameters
    ----------
    stream : text stream
        The terminal.
    write : callable
        Writes a text to it.
    """

    def __init__(self, stream: TextIO, write: Callable[[str], None]) -> None:
        self._stream = stream
        self._write = write
        self._shape: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows of the window as it is now."""
        return window_of(self._stream)

    def draw(self, rows: Sequence[str]) -> None:
        """Draw the rows in the place of those that were drawn before."""
        if not (rows and self._is_ours()):
            return
        up = f"\x1b[{len(rows) - 1}A" if len(rows) > 1 else ""
        shape = (len(rows), self.size[0])
        # In one piece, and cleared before only where less is drawn than before: so it does not flicker.
        before = self._shape or shape
        clear = "\x1b[J" if shape[0] < before[0] or shape[1] != before[1] else ""
        self._write(f"\r{clear}" + "\x1b[K\n\r".join(rows) + f"\x1b[K{up}\r")
        self._shape = shape

    def clear(self) -> None:
        """Take the rows away."""
        if self._shape is not None and self._is_ours():
            self._write("\r\x1b[J")
        self._shape = None

    def _is_ours(self) -> bool:
        """Say whether the terminal is not another program's at present: we may be in the background."""
        try:
            return os.tcgetpgrp(self._stream.fileno()) == os.getpgrp()
        except (OSError, ValueError):
            return True
