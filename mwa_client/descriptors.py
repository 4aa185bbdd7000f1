"""Open files and connections, where few are allowed: ``ulimit -n``, or a system that is full."""

from __future__ import annotations

import errno
import os
import resource
from contextlib import suppress

OUT_OF_THEM = (errno.EMFILE, errno.ENFILE)
"""What the system says where no more files and connections can be opened."""
MANY_OPEN_FILES = 512
"""Open files with which a few more or less do not matter; the usual limit is 1024."""


class Reserve:
    """A few descriptors that are kept open, and given up where something that is needed lacks one.

    Parameters
    ----------
    count : int
        How many.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: list[int] = []

    def take(self) -> int:
        """Keep as many as there are, up to `count`; return how many they are."""
        with suppress(OSError):
            while len(self._held) < self._count:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        return len(self._held)

    def give(self) -> None:
        """Give them up."""
        while self._held:
            with suppress(OSError):
                os.close(self._held.pop())


def free_descriptors(most: int) -> int:
    """Return how many files can be opened now, besides those that are open; no more are tried than `most`."""
    tried = Reserve(most)
    try:
        return tried.take()
    finally:
        tried.give()


def may_open_many() -> bool:
    """Say whether so many files may be open that some can be kept open only to save time."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit == resource.RLIM_INFINITY or limit >= MANY_OPEN_FILES
