"""Who may work in a directory at the same time, on all the hosts that share its file system.

One client alone, or several parts of a batch that have no observation in common. Each has a lock file of its
own, and looks for the locks of the others only when its own is there: of two that begin in the same instant,
at least one sees the other.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable

from mwa_client.directory.disk import disk_errors
from mwa_client.directory.lock_file import LockFile, claim_word
from mwa_client.directory.our_files import state_directory
from mwa_client.directory.owner import Owner
from mwa_client.directory.part import Part
from mwa_client.errors import DirectoryBusy, DirectoryUnusable
from mwa_client.formatting import format_duration
from mwa_client.threads import has_started
from mwa_client.timing import Backoff, Clock, SystemClock

LOCK_NAME = re.compile(r"lock(\.part-[0-9]+-of-[0-9]+)?")
"""The name of a lock: of the client that works alone, or of a part."""
CLAIM_NAME = re.compile(r"(lock(?:\.[a-z0-9-]+)*)\.([0-9a-f]{16}|unreadable)")
"""The name of a claim: that of the lock, or claim, that it allows to remove, and the token of its owner."""
SUMS_LOCK, LOGIN_LOCK = "lock.sums", "lock.login"
"""Locks that parts hold for a moment: to write ``SHA1SUMS``, and to log in."""
BRIEF_LOCKS = (SUMS_LOCK, LOGIN_LOCK)
LONGEST_HOLD = 120.0
"""Seconds to wait at most for a lock that is held for a moment; its owner may have died on another host."""
LONGEST_WAIT = 5.0
"""Seconds between two looks whether the directory is free."""


@contextmanager
def directory_lock(
    directory: Path,
    state_dir: Path,
    clock: Clock,
    say: Callable[[str], None],
    *,
    part: Part | None = None,
    wait: float = 0.0,
) -> Iterator[Callable[[], None]]:
    """Hold the lock of a directory, so that no other client does the same work there.

    A folder in which nothing is left in the end is removed.

    Parameters
    ----------
    directory : Path
        The download directory, for the messages.
    state_dir : Path
        The folder of the lock; made if it is missing.
    clock : Clock
        The time.
    say : callable
        Called with a message when it takes a while to see whether a lock's owner is alive, or until that one
        has finished.
    part : Part, optional
        The part of the batch that this client works on. Default is all of it, which nobody else may then.
    wait : float
        Seconds to wait at most until the others have finished.

    Yields
    ------
    callable
        ``check_lock``, to be called before each change in the directory. It raises `DirectoryBusy` if
        another client has taken the lock over, because this process was suspended and seemed to be gone.

    Raises
    ------
    DirectoryBusy
        Another client is working there.
    DirectoryUnusable, DiskFull
        The lock cannot be made.
    """
    path = state_dir / ("lock" if part is None else f"lock.{part.name}")
    lock = LockFile(path, directory, Owner.here(clock.now(), part), clock, _once_each(say))
    _enter_within(wait, lock, clock, say)
    ended = threading.Event()
    try:
        lock.has_heartbeat_thread = has_started(
            threading.Thread(target=lock.beat_until, args=(ended,), daemon=True)
        )
        yield lock.check
    finally:
        ended.set()
        lock.release()
        with suppress(OSError):
            state_dir.rmdir()


@contextmanager
def brief_lock(path: Path, directory: Path, clock: Clock | None = None) -> Iterator[Callable[[], None]]:
    """Hold a lock for a moment, while a file is written that several clients share; wait for it if need be.

    Parameters
    ----------
    path : Path
        The lock.
    directory : Path
        The download directory, for the messages.
    clock : Clock, optional
        The time; default is the machine's.

    Yields
    ------
    callable
        To be called before the file is changed. It raises `DirectoryBusy` if this process was suspended, and
        another has the lock now.

    Raises
    ------
    DirectoryBusy
        Somebody has held it for long: its process may be stopped.
    """
    clock = clock or SystemClock()
    lock = LockFile(path, directory, Owner.here(clock.now()), clock, lambda text: None)
    ends = clock.monotonic() + LONGEST_HOLD
    while True:
        try:
            lock.acquire()
            break
        except DirectoryBusy:
            if clock.monotonic() > ends:
                raise
            lock.pause()
    try:
        yield lock.check
    finally:
        lock.release()


def _enter_within(seconds: float, lock: LockFile, clock: Clock, say: Callable[[str], None]) -> None:
    """Enter a directory as soon as it is free, or raise `DirectoryBusy` when the time has passed."""
    ends, waits, told = clock.monotonic() + seconds, Backoff(clock, first=0.5, cap=LONGEST_WAIT), ""
    while True:
        state_directory(lock.path.parent)
        try:
            _enter(lock)
            return
        except DirectoryUnusable as error:
            # Another client may have just left the folder, and have removed it, as nothing was in it.
            if not isinstance(error.__cause__, FileNotFoundError) or clock.monotonic() > ends + LONGEST_WAIT:
                raise
            lock.pause()
        except DirectoryBusy as busy:
            left = ends - clock.monotonic()
            if left <= 0:
                raise
            if busy.what != told:
                told = busy.what
                most = f"{left:.0f} s" if left < 120 else format_duration(left)
                say(f"{busy.what} Waiting until it has finished, for up to {most}.")
            clock.sleep(min(waits.next(), left), threading.Event())


def _enter(lock: LockFile) -> None:
    """Make our lock, unless somebody is at work whom it excludes: then raise `DirectoryBusy`."""
    while True:
        lock.acquire()
        try:
            found = _excluded_by(lock)
            if found is None:
                _remove_old_claims(lock)
                return
        except BaseException:
            lock.release()
            raise
        lock.release()
        # Two that begin in the same instant may both see each other, and both let go: so look again.
        lock.pause()
        with disk_errors(lock.path):
            path, owner = found
            current = Owner.of(path)
            if current is not None and current.token == owner.token:
                lock.remove_if_gone(path, owner)


def _excluded_by(lock: LockFile) -> tuple[Path, Owner] | None:
    """Return another's lock that excludes ours, and its owner; None if there is none."""
    with disk_errors(lock.path):
        for path in sorted(lock.path.parent.iterdir()):
            if LOCK_NAME.fullmatch(path.name) and path != lock.path:
                owner = Owner.of(path)
                if owner is not None and lock.me.excludes(owner):
                    return path, owner
    return None


def _remove_old_claims(lock: LockFile) -> None:
    """Remove what clients have left that died while they removed a lock: the lock it was for is gone.

    Who is alone also removes the locks for a moment that parts have died with.
    """
    state_dir, is_alone = lock.path.parent, lock.me.observations is None
    with disk_errors(state_dir):
        for claim in state_dir.iterdir():
            if is_alone and claim.name in BRIEF_LOCKS:
                claim.unlink(missing_ok=True)
            found = CLAIM_NAME.fullmatch(claim.name)
            if found:
                owner = Owner.of(state_dir / found[1])
                if owner is None or claim_word(owner) != found[2]:
                    claim.unlink(missing_ok=True)


def _once_each(say: Callable[[str], None]) -> Callable[[str], None]:
    """Return a function that says each text the first time only."""
    said: set[str] = set()

    def say_new(text: str) -> None:
        if text not in said:
            said.add(text)
            say(text)

    return say_new
