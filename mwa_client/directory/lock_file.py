"""A file that only one client can make: it is the lock of whoever has made it.

Its owner touches the file while alive; when the owner is gone, another client takes it over. ``flock`` is
not enough: on Lustre and on some NFS mounts it succeeds for everyone.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Callable

from mwa_client.directory.disk import disk_errors
from mwa_client.directory.our_files import open_ours
from mwa_client.directory.owner import Owner
from mwa_client.errors import DirectoryBusy, DirectoryUnusable, DiskFull
from mwa_client.timing import Clock

HEARTBEAT = 15.0
"""Seconds between two touches of a lock."""
WATCH = 50.0
"""Seconds without a heartbeat after which we take an owner on another host for gone."""
WATCH_UNREADABLE = 5.0
"""The same for a lock that names no owner, because the client that made it died before it could write."""
RETRY_DELAY = 0.05
"""Seconds before another try where somebody else is changing the lock."""


class LockFile:
    """A lock file, and this process's claim to it.

    Parameters
    ----------
    path : Path
        The file.
    directory : Path
        The download directory, for the messages.
    me : Owner
        This process.
    clock : Clock
        The time.
    say : callable
        Called with a message when it takes a while to see whether an owner is alive.

    Attributes
    ----------
    has_heartbeat_thread : bool
        Whether a thread touches the file; otherwise `check` does.
    """

    def __init__(
        self, path: Path, directory: Path, me: Owner, clock: Clock, say: Callable[[str], None]
    ) -> None:
        self.path = path
        self.me = me
        self.has_heartbeat_thread = False
        self._directory = directory
        self._clock = clock
        self._say = say
        self._is_lost = False
        self._last_beat = clock.now()

    def acquire(self) -> None:
        """Make the file; raise `DirectoryBusy` if an owner who is alive has it."""
        with disk_errors(self.path):
            while not self._make(self.path):
                owner = Owner.of(self.path)
                if owner is not None:  # Otherwise it has just been released.
                    self.remove_if_gone(self.path, owner)
        self._is_lost = False

    def remove_if_gone(self, path: Path, owner: Owner) -> None:
        """Remove a lock whose owner is gone; raise `DirectoryBusy` if the owner is alive."""
        if self._is_gone(path, owner):
            self._remove(path, owner)
        elif owner.token:
            raise self.busy(owner)
        else:
            self.pause()  # Its maker is about to write into it.

    def busy(self, owner: Owner) -> DirectoryBusy:
        """Return the error that says who has to be waited for."""
        return DirectoryBusy(
            f"Another mwa_client is working in {self._directory}: {owner}.",
            "Let it finish (--wait-for-lock TIME waits for it), or choose another directory with --dir.",
        )

    def pause(self) -> None:
        """Wait a moment, so that somebody else can finish what it is doing with a lock."""
        self._clock.sleep(RETRY_DELAY * (1.0 + self._clock.chance()), threading.Event())

    def release(self) -> None:
        """Remove the file, if it is still ours; from now on `check` raises, whoever asks."""
        self._is_lost = True
        try:
            self._remove(self.path, self.me)
        except DiskFull:
            # A full disk has no room for a claim, so no other client can be taking the lock over.
            with suppress(OSError):
                self.path.unlink()
        except DirectoryUnusable:
            pass  # The directory is out of reach; the lock counts as stale once this process has ended.

    def check(self) -> None:
        """Raise `DirectoryBusy` if the file is no longer ours."""
        if abs(self._clock.now() - self._last_beat) > (
            2 * HEARTBEAT if self.has_heartbeat_thread else HEARTBEAT
        ):
            self._beat()  # A late heartbeat: the process was suspended, or there is no heartbeat thread.
        if self._is_lost:
            raise DirectoryBusy(
                f"The lock of {self._directory} was lost: {Owner.of(self.path) or 'it was removed'}.",
                "Everything so far is kept: run the same command again to continue.",
            )

    def beat_until(self, ended: threading.Event) -> None:
        """Touch the file every `HEARTBEAT` seconds until the event is set."""
        while not ended.wait(HEARTBEAT):
            self._beat()

    def _beat(self) -> None:
        try:
            owner = Owner.of(self.path)
            if owner is None or owner.token != self.me.token:
                self._is_lost = True
            else:
                os.utime(self.path)
        except (OSError, DirectoryUnusable):
            pass  # A file server may hang and come back: the next heartbeat tries again.
        finally:
            self._last_beat = self._clock.now()

    def _make(self, path: Path) -> bool:
        """Make a lock or claim with us as its owner; return False if the file exists already."""
        with disk_errors(path):
            try:
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            except FileExistsError:
                return False
            try:
                self.me.write_into(file)
                os.fsync(file)
            except OSError:
                path.unlink()
                raise
            finally:
                os.close(file)
            owner = Owner.of(path)
        return owner is not None and owner.token == self.me.token

    def _remove(self, path: Path, owner: Owner) -> None:
        """Remove the file of this owner, and of no other.

        Only the client that has made the file's claim may remove it: otherwise two clients that find the same
        dead owner could remove each other's new lock.
        """
        claim = path.with_name(f"{path.name}.{claim_word(owner)}")
        if not self._make(claim):
            claimer = Owner.of(claim)
            if claimer is not None and self._is_gone(claim, claimer):
                self._remove(claim, claimer)
            else:
                self.pause()
            return
        with disk_errors(path):
            current = Owner.of(path)
            if current is not None and current.token == owner.token:
                path.unlink()
            claim.unlink(missing_ok=True)

    def _is_gone(self, path: Path, owner: Owner) -> bool:
        """Say whether the owner of a file has ended, or has not touched the file for long."""
        if owner.is_on_this_machine:
            return not owner.is_running
        patience = WATCH if owner.token else WATCH_UNREADABLE
        touched = _touched(path)
        if touched is None or abs(self._clock.now() - touched) < patience:
            return False
        if owner.token:
            self._say(
                f"Waiting {patience:.0f} s to see whether another mwa_client is still running: {owner}."
            )
        # The clocks of two hosts may differ, so an old time proves nothing; one that stays the same does.
        self._clock.sleep(patience, threading.Event())
        return _touched(path) == touched


def claim_word(owner: Owner) -> str:
    """Return how the claim to remove an owner's lock ends: with the token, where that can be read."""
    return owner.token or "unreadable"


def _touched(path: Path) -> float | None:
    """Return when a file was last touched; None if it is missing."""
    with suppress(OSError, DirectoryUnusable):
        os.close(open_ours(path, os.O_RDONLY))  # NFS asks its server for the time only on opening.
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return None
