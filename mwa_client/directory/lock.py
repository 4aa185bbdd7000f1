"""Let one client at a time work in a directory, on all the hosts that share its file system.

The lock is a file that only one client can make. Its owner touches it while alive; when the owner is gone,
another client takes the lock over. ``flock`` is not enough: on Lustre and on some NFS mounts it succeeds for
everyone.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from mwa_client.directory.disk import boot_id, disk_errors
from mwa_client.directory.json_files import read_document
from mwa_client.directory.our_files import open_ours, refuse_anothers, state_directory
from mwa_client.errors import DirectoryBusy, DirectoryUnusable, DiskFull
from mwa_client.threads import has_started
from mwa_client.timing import Clock

HEARTBEAT = 15.0
"""Seconds between two touches of the lock."""
WATCH = 50.0
"""Seconds without a heartbeat after which we take an owner on another host for gone."""
WATCH_UNREADABLE = 5.0
"""The same for a lock that names no owner, because the client that made it died before it could write."""
RETRY_DELAY = 0.05
"""Seconds before another try where somebody else is changing the lock."""
LARGEST_PID = 2**31 - 1
"""The largest process number that a system gives."""
TOKEN = re.compile(r"[0-9a-f]{16}")
CLAIM_NAME = re.compile(r"lock(\.([0-9a-f]{16}|unreadable))+")
"""The name of a claim: ``lock``, and the token of the owner whose lock, or claim, it allows to remove."""


@dataclass(frozen=True)
class Owner:
    """The process that has made a lock, as the lock's file describes it.

    Attributes
    ----------
    host : str
        The host's name, for people.
    pid : int
        The number of the process.
    boot : str
        The id of its machine's boot; empty where the system has none.
    space : str
        The process namespace that the number belongs to, as each container on a machine counts its own.
    born : str
        When the process started, in clock ticks since the boot, as a system gives its numbers again.
    since : str
        When the lock was made, in UTC.
    token : str
        A random name of this lock; empty if the file cannot be read.
    """

    host: str = ""
    pid: int = 0
    boot: str = ""
    space: str = ""
    born: str = ""
    since: str = ""
    token: str = ""

    @classmethod
    def here(cls, now: float) -> Owner:
        """Return this process as the owner of a new lock."""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        pid, token = os.getpid(), secrets.token_hex(8)
        return cls(socket.gethostname(), pid, boot_id(), _process_space(), _birth(pid) or "", since, token)

    @classmethod
    def of(cls, lock: Path) -> Owner | None:
        """Return the owner of a lock file; None if there is no file, an empty `Owner` if it cannot be read.

        Raises
        ------
        DirectoryUnusable
            The file belongs to another user.
        """
        try:
            refuse_anothers(lock)
            entry = read_document(lock, private=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):  # NFS reports a removed file as stale.
                return None
            raise
        if not isinstance(entry, dict):
            return cls()
        words = {field.name: entry.get(field.name, "") for field in dataclasses.fields(cls)}
        pid = words.pop("pid")
        is_sound = isinstance(pid, int) and 0 < pid <= LARGEST_PID and TOKEN.fullmatch(str(words["token"]))
        return cls(pid=pid, **{name: str(word)[:200] for name, word in words.items()}) if is_sound else cls()

    def write_into(self, file: int) -> None:
        """Write this owner into a lock file that has just been made."""
        os.write(file, (json.dumps(dataclasses.asdict(self)) + "\n").encode())

    @property
    def is_gone(self) -> bool:
        """Whether its process has provably ended: it ran on this machine, and is no longer there."""
        return self.is_on_this_machine and not self.is_running

    @property
    def is_on_this_machine(self) -> bool:
        """Whether its process number is one of this machine, boot and namespace."""
        return bool(self.boot and self.space) and (self.boot, self.space) == (boot_id(), _process_space())

    @property
    def is_running(self) -> bool:
        """Whether the process is still running; to be asked only if it is on this machine."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            # The process has another user, and the system may hide when it started.
            return _birth(self.pid) in (self.born, None)
        return _birth(self.pid) == self.born

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}" if self.token else "nobody knows who"


@contextmanager
def directory_lock(
    directory: Path, state_dir: Path, clock: Clock, say: Callable[[str], None]
) -> Iterator[Callable[[], None]]:
    """Hold the lock of a directory, so that no other client works in it.

    Parameters
    ----------
    directory : Path
        The download directory, for the messages.
    state_dir : Path
        The folder of the lock; made if it is missing.
    clock : Clock
        The time.
    say : callable
        Called with a message when it takes a while to see whether the lock's owner is alive.

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
    lock = _Lock(directory, state_directory(state_dir) / "lock", clock, say)
    lock.acquire()
    ended = threading.Event()
    try:
        lock.has_heartbeat_thread = has_started(
            threading.Thread(target=lock.beat_until, args=(ended,), daemon=True)
        )
        yield lock.check
    finally:
        ended.set()
        lock.release()


class _Lock:
    """The lock file of a directory, and this process's claim to it.

    Attributes
    ----------
    has_heartbeat_thread : bool
        Whether a thread touches the file; otherwise `check` does.
    """

    def __init__(self, directory: Path, path: Path, clock: Clock, say: Callable[[str], None]) -> None:
        self._directory = directory
        self._path = path
        self._clock = clock
        self._say = say
        self._me = Owner.here(clock.now())
        self.has_heartbeat_thread = False
        self._is_lost = False
        self._last_beat = clock.now()

    def acquire(self) -> None:
        """Make the lock; raise `DirectoryBusy` if an owner who is alive has it."""
        with disk_errors(self._path):
            while not self._make(self._path):
                owner = Owner.of(self._path)
                if owner is not None:  # Otherwise it has just been released.
                    self._take_over(owner)
            for claim in self._path.parent.iterdir():
                # Left by a client that died while it removed an earlier lock. A claim to our own lock would
                # have our token in its name.
                if CLAIM_NAME.fullmatch(claim.name) and self._me.token not in claim.name:
                    claim.unlink(missing_ok=True)

    def _take_over(self, owner: Owner) -> None:
        """Remove the lock of an owner who is gone; raise `DirectoryBusy` for one who is alive."""
        if self._is_gone(self._path, owner):
            self._remove(self._path, owner)
        elif owner.token:
            raise DirectoryBusy(
                f"Another mwa_client is working in {self._directory}: {owner}.",
                "Let it finish, or choose another directory with --dir.",
            )
        else:
            self._clock.sleep(RETRY_DELAY, threading.Event())  # Its maker is about to write into it.

    def release(self) -> None:
        """Remove the lock, if it is still ours."""
        try:
            self._remove(self._path, self._me)
        except DiskFull:
            # A full disk has no room for a claim, so no other client can be taking the lock over.
            with suppress(OSError):
                self._path.unlink()
        except DirectoryUnusable:
            pass  # The directory is out of reach; the lock counts as stale once this process has ended.

    def check(self) -> None:
        """Raise `DirectoryBusy` if the lock is no longer ours."""
        if abs(self._clock.now() - self._last_beat) > (
            2 * HEARTBEAT if self.has_heartbeat_thread else HEARTBEAT
        ):
            self._beat()  # A late heartbeat: the process was suspended, or there is no heartbeat thread.
        if self._is_lost:
            raise DirectoryBusy(
                f"The lock of {self._directory} was lost: {Owner.of(self._path) or 'it was removed'}.",
                "Everything so far is kept: run the same command again to go on.",
            )

    def beat_until(self, ended: threading.Event) -> None:
        """Touch the lock every `HEARTBEAT` seconds until the event is set."""
        while not ended.wait(HEARTBEAT):
            self._beat()

    def _beat(self) -> None:
        try:
            owner = Owner.of(self._path)
            if owner is None or owner.token != self._me.token:
                self._is_lost = True
            else:
                os.utime(self._path)
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
                self._me.write_into(file)
                os.fsync(file)
            except OSError:
                path.unlink()
                raise
            finally:
                os.close(file)
            owner = Owner.of(path)
        return owner is not None and owner.token == self._me.token

    def _remove(self, path: Path, owner: Owner) -> None:
        """Remove the file of this owner, and of no other.

        Only the client that has made the file's claim may remove it: otherwise two clients that find the same
        dead owner could remove each other's new lock.
        """
        claim = path.with_name(f"{path.name}.{owner.token or 'unreadable'}")
        if not self._make(claim):
            claimer = Owner.of(claim)
            if claimer is not None and self._is_gone(claim, claimer):
                self._remove(claim, claimer)
            else:
                self._clock.sleep(RETRY_DELAY, threading.Event())
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
            self._say(f"Watching for {patience:.0f} s whether another mwa_client is alive: {owner}.")
        # The clocks of two hosts may differ, so an old time proves nothing; one that stays the same does.
        self._clock.sleep(patience, threading.Event())
        return _touched(path) == touched


def _touched(path: Path) -> float | None:
    """Return when a file was last touched; None if it is missing."""
    with suppress(OSError, DirectoryUnusable):
        os.close(open_ours(path, os.O_RDONLY))  # NFS asks its server for the time only on opening.
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return None


def _birth(pid: int) -> str | None:
    """Return when a process started, in clock ticks since the boot; None if it has ended."""
    try:
        words = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return None
    # proc(5): field 3 is the state, field 22 the start. A zombie has ended.
    return None if words[0] in "ZX" else words[19]


def _process_space() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
