"""One login a minute at most, over all parts of a batch that share a directory.

Parts on hosts that share the home directory find each other's tokens there. Those on other hosts would all
log in at the same moment, and the service allows few logins a minute for an account.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from mwa_client.directory.json_files import read_document
from mwa_client.directory.lock import LOGIN_LOCK, brief_lock
from mwa_client.directory.our_files import write_safely
from mwa_client.errors import DirectoryUnusable, DiskFull, ServiceUnavailable
from mwa_client.timing import Clock

APART = 60.0
"""Seconds between two logins."""


class LoginPace:
    """When the parts of a batch have last logged in.

    Parameters
    ----------
    state_dir : Path
        The folder of the directory that they share in which they remember.
    clock : Clock
        Time.
    """

    def __init__(self, state_dir: Path, clock: Clock) -> None:
        self._state_dir = state_dir
        self._path = state_dir / "login.json"
        self._clock = clock

    def count(self) -> None:
        """Count a login that is about to be made.

        Raises
        ------
        ServiceUnavailable
            The last one was less than a minute ago.
        """
        with self._alone():
            since = self._clock.now() - self._last()
            # The clocks of two hosts may differ.
            if abs(since) < APART:
                what = "A part of this batch has just logged in, or tried to; the next one waits a minute."
                raise ServiceUnavailable(what, retry_after=APART - max(since, 0.0))
            self._write(self._clock.now())

    def discount(self) -> None:
        """Take the last login back: it was none."""
        with self._alone():
            self._write(0.0)

    def _alone(self) -> AbstractContextManager[object]:
        return brief_lock(self._state_dir / LOGIN_LOCK, self._state_dir.parent, self._clock)

    def _last(self) -> float:
        with suppress(OSError):
            last = read_document(self._path)
            if isinstance(last, (int, float)):
                return float(last)
        return 0.0

    def _write(self, when: float) -> None:
        with suppress(OSError, DirectoryUnusable, DiskFull):
            write_safely(self._path, json.dumps(when), sync=False)
