"""One working client per directory, on all the hosts that share its file system.

The lock is a file that only one can make. Its owner touches it while alive; from an owner who is gone it is
taken over. ``flock`` is not enough: on Lustre and on some NFS mounts it succeeds for everyone.
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
"""Seconds without a heartbeat after which an owner on another host counts as gone."""
WATCH_UNREADABLE = 5.0
"""The same for a lock that does not say whose it is: its maker died before it could write."""
GLANCE = 0.05
"""Seconds before another look where somebody else is changing the lock."""


MOST_PROCESSES = 2**31 - 1
"""The largest number that a process can have."""
TOKEN = re.compile(r"[0-9a-f]{16}")
CLAIM = re.compile(r"lock(\.([0-9a-f]{16}|unreadable))+")
"""The names of claims to a lock: whose it is, and, where that claim's maker died too, whose that was."""


@dataclass(frozen=True)
class Owner:
    """Who has a lock.

    Attributes
    ----------
    host : str
        The host's name, for people.
    pid : int
        The process.
    boot : str
        The boot of its machine; empty where the system does not say.
    space : str
        What the process's number is unique in: containers on one machine have numbers of their own.
    born : str
        When the process started, in the machine's ticks: numbers of processes are used again.
    since : str
        When the lock was made, UTC.
    token : str
        Names this lock among all others; empty if the file cannot be read.
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
        """Return this process as an owner."""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        pid, token = os.getpid(), secrets.token_hex(8)
        return cls(socket.gethostname(), pid, boot_id(), _process_space(), _birth(pid) or "", since, token)

    @classmethod
    def of(cls, lock: Path) -> Owner | None:
        """Return whose a lock file is; None if there is no such file, nobody if it makes no sense.

        Raises
        ------
        DirectoryUnusable
            It is another user's, who may well be alive.
        """
        try:
            refuse_anothers(lock)
            entry = read_document(lock, alone=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):  # The second is what NFS says of the first.
                return None
            raise
        if not isinstance(entry, dict):
            return cls()
        words = {field.name: entry.get(field.name, "") for field in dataclasses.fields(cls)}
        pid = words.pop("pid")
        is_sound = isinstance(pid, int) and 0 < pid <= MOST_PROCESSES and TOKEN.fullmatch(str(words["token"]))
        return cls(pid=pid, **{name: str(word)[:200] for name, word in words.items()}) if is_sound else cls()

    def write_into(self, file: int) -> None:
        """Write who we are into a lock file that has just been made."""
        os.write(file, (json.dumps(dataclasses.asdict(self)) + "\n").encode())

    @property
    def is_gone(self) -> bool:
        """Whether its process is provably no more: it was on this machine, and is not there."""
        return self.is_on_this_machine and not self.is_running

    @property
    def is_on_this_machine(self) -> bool:
        """Whether its process number means something here."""
        return bool(self.boot and self.space) and (self.boot, self.space) == (boot_id(), _process_space())

    @property
    def is_running(self) -> bool:
        """Whether the process is there, on this machine."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            # Another user's, of whom the system may not tell us more.
            return _birth(self.pid) in (self.born, None)
        return _birth(self.pid) == self.born

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}" if self.token else "nobody knows who"


@contextmanager
def directory_lock(
    directory: Path, memory: Path, clock: Clock, say: Callable[[str], None]
) -> Iterator[Callable[[], None]]:
    """Work in a directory while nobody else does.

    Parameters
    ----------
    directory : Path
        The download directory, for the messages.
    memory : Path
        Where the lock is; made if it is missing.
    clock : Clock
        Time.
    say : callable
        Is told when an owner must be watched for a while.

    Yields
    ------
    callable
        To be called now and then: raises `DirectoryBusy` if the lock has been lost all the same, because
        this process was asleep for long and somebody else has taken it for gone.

    Raises
    ------
    DirectoryBusy
        Another client is working there.
    DirectoryUnusable, DiskFull
        The lock cannot be made.
    """
    lock = _Lock(directory, state_directory(memory) / "lock", clock, say)
    lock.acquire()
    ended = threading.Event()
    try:
        lock.has_heart = has_started(threading.Thread(target=lock.beat_until, args=(ended,), daemon=True))
        yield lock.check
    finally:
        ended.set()
        lock.release()


class _Lock:
    """The lock file of a directory, and this process's claim to it.

    Attributes
    ----------
    has_heart : bool
        Whether a thread touches it; otherwise that is done whenever it is checked.
    """

    def __init__(self, directory: Path, path: Path, clock: Clock, say: Callable[[str], None]) -> None:
        self._directory = directory
        self._path = path
        self._clock = clock
        self._say = say
        self._me = Owner.here(clock.now())
        self.has_heart = False
        self._is_lost = False
        self._beaten = clock.now()

    def acquire(self) -> None:
        """Make the lock, once nobody who is alive has it."""
        with disk_errors(self._path):
            while not self._make(self._path):
                owner = Owner.of(self._path)
                if owner is not None:  # Otherwise it has just been given back.
                    self._take_over(owner)
            for claim in self._path.parent.iterdir():
                # Who died over a claim to an earlier lock left it; a claim to ours would carry our token.
                if CLAIM.fullmatch(claim.name) and self._me.token not in claim.name:
                    claim.unlink(missing_ok=True)

    def _take_over(self, owner: Owner) -> None:
        """Remove the lock of an owner who is gone; tell who it is that is not."""
        if self._is_gone(self._path, owner):
            self._remove(self._path, owner)
        elif owner.token:
            raise DirectoryBusy(
                f"Another mwa_client is working in {self._directory}: {owner}.",
                "Let it finish, or choose another directory with --dir.",
            )
        else:
            self._clock.sleep(GLANCE, threading.Event())  # Its maker is just writing who it is.

    def release(self) -> None:
        """Give the lock back, if it is still ours."""
        try:
            self._remove(self._path, self._me)
        except DiskFull:
            # There is no room for a claim, so nobody else can have one.
            with suppress(OSError):
                self._path.unlink()
        except DirectoryUnusable:
            pass  # The directory has gone; whoever looks for the lock sees that its owner has, too.

    def check(self) -> None:
        """Raise `DirectoryBusy` if the lock is not ours any more."""
        if abs(self._clock.now() - self._beaten) > (2 * HEARTBEAT if self.has_heart else HEARTBEAT):
            self._beat()  # The heart has stood still: so has the whole process, perhaps. Or there is none.
        if self._is_lost:
            raise DirectoryBusy(
                f"The lock of {self._directory} was lost: {Owner.of(self._path) or 'it was removed'}.",
                "Everything so far is kept: run the same command again to go on.",
            )

    def beat_until(self, ended: threading.Event) -> None:
        """Show now and then that we are alive."""
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
            pass  # File servers hang and come back; the next beat tells more.
        finally:
            self._beaten = self._clock.now()

    def _make(self, path: Path) -> bool:
        """Make a file that says that it is ours; return False if it is there already."""
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
        """Remove this owner's file and no other: only who has made the claim to it may do that.

        Two who find the same dead owner must not remove each other's new lock.
        """
        claim = path.with_name(f"{path.name}.{owner.token or 'unreadable'}")
        if not self._make(claim):
            claimer = Owner.of(claim)
            if claimer is not None and self._is_gone(claim, claimer):
                self._remove(claim, claimer)
            else:
                self._clock.sleep(GLANCE, threading.Event())
            return
        with disk_errors(path):
            there = Owner.of(path)
            if there is not None and there.token == owner.token:
                path.unlink()
            claim.unlink(missing_ok=True)

    def _is_gone(self, path: Path, owner: Owner) -> bool:
        """Say whether the owner of a file is provably gone, or has given no sign of life for long."""
        if owner.is_on_this_machine:
            return not owner.is_running
        patience = WATCH if owner.token else WATCH_UNREADABLE
        touched = _touched(path)
        if touched is None or abs(self._clock.now() - touched) < patience:
            return False
        if owner.token:
            self._say(f"Watching for {patience:.0f} s whether another mwa_client is alive: {owner}.")
        # Clocks of hosts differ, so no time stamp proves anything: only that it stays as it is.
        self._clock.sleep(patience, threading.Event())
        return _touched(path) == touched


def _touched(path: Path) -> float | None:
    """Return when a file was touched, whatever it is; opened first, since NFS asks its server only then."""
    with suppress(OSError, DirectoryUnusable):
        os.close(open_ours(path, os.O_RDONLY))
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return None


def _birth(pid: int) -> str | None:
    """Return when a process was started, in the machine's ticks since its boot; None if it is not there."""
    try:
        words = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return None
    # proc(5): field 3 is the state, field 22 the start; a zombie works no more.
    return None if words[0] in "ZX" else words[19]


def _process_space() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
