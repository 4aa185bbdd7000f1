"""See who is at work in a directory, without taking part: no lock is made, taken over or touched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mwa_client.directory.lock import LOCK_NAME
from mwa_client.directory.lock_file import WATCH
from mwa_client.directory.owner import Owner
from mwa_client.errors import DirectoryUnusable


def clients_at_work(state_dir: Path, now: float) -> Iterator[Owner]:
    """Yield the owners of the locks of a directory that seem to be alive.

    On another host only the time of the last heartbeat tells that, and clocks may differ a little.

    Parameters
    ----------
    state_dir : Path
        The folder of the locks.
    now : float
        The time, in seconds since 1970.
    """
    for path in _locks_in(state_dir):
        with suppress(OSError, DirectoryUnusable):  # It has just been released, or it is not ours.
            owner = Owner.of(path)
            if owner is None or not owner.token:
                continue
            is_fresh = abs(now - path.lstat().st_mtime) < WATCH
            if owner.is_running if owner.is_on_this_machine else is_fresh:
                yield owner


def _locks_in(state_dir: Path) -> list[Path]:
    with suppress(OSError):  # No client has worked there, or the folder cannot be read.
        return sorted(each for each in state_dir.iterdir() if LOCK_NAME.fullmatch(each.name))
    return []
