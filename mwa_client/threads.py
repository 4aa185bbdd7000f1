"""Threads on a machine that may have no more of them: a limit of the user's or of a batch system's."""

from __future__ import annotations

import threading


def has_started(thread: threading.Thread) -> bool:
    """Start a thread if there is one to be had, and say whether it was.

    Whoever asks can do without: with fewer of them, later, or by doing the work itself.
    """
    try:
        thread.start()
    except (RuntimeError, MemoryError):  # This is how Python says that the system gives no more.
        return False
    return True
