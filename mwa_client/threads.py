"""Threads on a machine that may have no more of them: a limit of the user's or of a batch system's."""

from __future__ import annotations

import threading


def can_start(count: int) -> bool:
    """Say whether so many threads can run at the same time, besides those that do."""
    over = threading.Event()
    threads: list[threading.Thread] = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=over.wait, daemon=True)
            if not has_started(thread):
                return False
            threads.append(thread)
        return True
    finally:
        over.set()
        for thread in threads:
            thread.join()


def has_started(thread: threading.Thread) -> bool:
    """Start a thread if there is one to be had, and say whether it was.

    Whoever asks can do without: with fewer of them, later, or by doing the work itself.
    """
    from mwa_client.memory import share_memory  # Not at the start of the program, which may need no thread.

    share_memory()
    try:
        thread.start()
    except (RuntimeError, MemoryError):  # This is how Python says that the system gives no more.
        return False
    return True
