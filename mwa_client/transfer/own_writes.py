"""Notice whether another program writes into a file while we write it: its times change in between."""

from __future__ import annotations

import os
import threading

Times = tuple[int, int]
"""When a file was last modified, and when anything of it was last changed, in nanoseconds since 1970."""


class OwnWrites:
    """Looks at a file's times before and after each of our writes.

    What comes at the same moment as a write of ours, or while several threads of ours write without a pause
    between them, is not noticed. Can be used from several threads.

    Parameters
    ----------
    file : int
        The open file, as we have left it.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._lock = threading.Lock()
        """Held for what follows, never during a call to the system."""
        self._left: Times | None = self._times()
        """The times that our last write has left; None while somebody of us writes."""
        self._writing = self._begun = 0
        self._is_disturbed = False

    def begin(self) -> None:
        """Note that a write of ours begins."""
        with self._lock:
            self._writing += 1
            self._begun += 1
            begun, left, self._left = self._begun, self._left, None
        if left is not None and self._times() != left:
            with self._lock:
                # Otherwise it may be another thread of ours that has written meanwhile.
                self._is_disturbed = self._is_disturbed or begun == self._begun

    def end(self) -> None:
        """Note that a write of ours has ended."""
        with self._lock:
            self._writing -= 1
            begun, is_last = self._begun, not self._writing
        if is_last:
            times = self._times()
            with self._lock:
                if begun == self._begun:
                    self._left = times

    def were_disturbed(self) -> bool:
        """Say whether somebody else has written since this was last asked; asked while none of us writes."""
        self.begin()
        self.end()
        with self._lock:
            was_disturbed, self._is_disturbed = self._is_disturbed, False
            return was_disturbed

    def _times(self) -> Times:
        state = os.fstat(self._file)
        return state.st_mtime_ns, state.st_ctime_ns
