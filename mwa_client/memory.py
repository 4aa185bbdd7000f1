"""Memory, where little is allowed: ``ulimit -v``, or the limit of a batch system."""

from __future__ import annotations

import functools
import resource
from contextlib import suppress

SPARE_MEMORY = 64 << 20
"""Bytes that must be left for a thread that is not needed: its stack has 8 MiB, its buffers and what it asks
for another, and whoever is needed must still get some."""
LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
M_ARENA_MAX = -8
"""What the GNU C library calls the number of its heaps."""


def has_spare_memory() -> bool:
    """Say whether there is memory for one more thread that the work could go on without."""
    if not _is_limited():
        return True
    import mmap  # Few machines have a limit.

    try:
        # Private, as a thread's own memory is: what is shared does not count for each limit.
        mmap.mmap(-1, SPARE_MEMORY, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, MemoryError):
        return False
    return True


@functools.cache
def share_memory() -> None:
    """Let all threads take their memory from one place where it is limited, before the first is started.

    The GNU C library sets 64 MiB of addresses apart for each thread, used or not; they count for the limit.
    """
    if _is_limited():
        with suppress(ImportError, OSError, AttributeError):  # Another C library has no such thing.
            import ctypes

            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _is_limited() -> bool:
    return any(resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in LIMITS)
