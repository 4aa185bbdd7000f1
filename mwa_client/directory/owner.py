"""Who holds a lock: a process on a machine, and whether it is still there."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import secrets
import socket
import time
from pathlib import Path

from mwa_client.directory.disk import boot_id, write_all
from mwa_client.directory.json_files import read_document
from mwa_client.directory.our_files import refuse_anothers
from mwa_client.directory.part import Part
from mwa_client.light_dataclasses import dataclass

LARGEST_PID = 2**31 - 1
"""The largest process number that a system gives."""
LARGEST_LOCK = 1 << 24
"""The most bytes that a lock file may have: it can name a hundred thousand observations."""
TOKEN = re.compile(r"[0-9a-f]{16}")
WORDS = ("host", "boot", "space", "born", "since", "token", "part")
"""What a lock file says in words; the rest are numbers."""


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
    part : str
        Which part of a batch it works on (``2/4``); empty where it works on all.
    observations : tuple of int or None
        The observations of that part; None where it works on all, or may do so.
    """

    host: str = ""
    pid: int = 0
    boot: str = ""
    space: str = ""
    born: str = ""
    since: str = ""
    token: str = ""
    part: str = ""
    observations: tuple[int, ...] | None = None

    @classmethod
    def here(cls, now: float, part: Part | None = None) -> Owner:
        """Return this process as the owner of a new lock."""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        pid, token = os.getpid(), secrets.token_hex(8)
        me = cls(socket.gethostname(), pid, boot_id(), _process_space(), _birth(pid) or "", since, token)
        if part is None:
            return me
        return dataclasses.replace(me, part=str(part), observations=tuple(sorted(part.observations)))

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
            entry = read_document(lock, LARGEST_LOCK, private=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):  # NFS reports a removed file as stale.
                return None
            raise
        if not isinstance(entry, dict):
            return cls()
        words = {name: str(entry.get(name, ""))[:200] for name in WORDS}
        pid, observations = entry.get("pid"), entry.get("observations")
        if not (isinstance(pid, int) and 0 < pid <= LARGEST_PID and TOKEN.fullmatch(words["token"])):
            return cls()
        are_known = isinstance(observations, list) and all(isinstance(each, int) for each in observations)
        share = tuple(observations or ()) if are_known else None
        return cls(pid=pid, observations=share, **words)

    def write_into(self, file: int) -> None:
        """Write this owner into a lock file that has just been made."""
        write_all(file, f"{json.dumps(dataclasses.asdict(self))}\n".encode())

    def excludes(self, other: Owner) -> bool:
        """Say whether the two must not work at the same time: they may have an observation in common."""
        if self.observations is None or other.observations is None:
            return True
        return not set(self.observations).isdisjoint(other.observations)

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
        if not self.token:
            return "its owner is unknown"
        part = f"part {self.part}, " if self.part else ""
        return f"{part}process {self.pid} on {self.host}, since {self.since}"


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
