"""Few open files: how much goes on at a time where the system allows few, and what waits for one."""

from __future__ import annotations

import threading
from typing import Callable, TypeVar

from mwa_client.asvo.session import Session
from mwa_client.batch.rows import Stage
from mwa_client.batch.updates import RowUpdates
from mwa_client.descriptors import Reserve, free_descriptors
from mwa_client.errors import OutOfDescriptors

KEPT_BACK = 2
"""Descriptors that are kept for what the loop itself must write down and look at."""
SHARED, EACH = 6, 4
"""Descriptors that all downloads need together, and each of them: for files, folders and connections."""
MANY = 40
"""With fewer descriptors, rows are submitted one at a time."""
RETRY_INTERVAL, STARVED = 0.5, 5
"""Seconds until the next try of what lacks a descriptor, and tries where nothing else is open."""
MOST_TRIES = 20
"""Tries of what lacks a descriptor, half a second apart, while all else goes on."""

T = TypeVar("T")


class OpenFiles:
    """How many downloads and submissions there may be at a time, as far as descriptors are concerned.

    Parameters
    ----------
    updates : RowUpdates
        Tells what is done with less.
    session : callable
        Returns the session with the service, whose idle connections can be closed.
    parallel : int
        Downloads at a time that were asked for.
    stop : threading.Event
        Set when the work is to stop.

    Attributes
    ----------
    parallel : int
        Downloads at a time.
    has_many : bool
        Whether there are enough for several submissions at a time.
    """

    def __init__(
        self, updates: RowUpdates, session: Callable[[], Session], parallel: int, stop: threading.Event
    ) -> None:
        free = free_descriptors(max(SHARED + EACH * min(parallel, 256), MANY))
        self.parallel = min(parallel, max((free - SHARED) // EACH, 1))
        self.has_many = free >= MANY
        self._updates = updates
        self._session = session
        self._stop = stop
        self._reserve = Reserve(KEPT_BACK)
        self._starved = 0

    def keep_reserve(self) -> None:
        """Keep a few descriptors back for what must be written down."""
        self._reserve.take()

    def give_reserve(self) -> None:
        """Let the descriptors go that were kept back."""
        self._reserve.give()

    def note_progress(self) -> None:
        """Note that something was done that needs descriptors."""
        self._starved = 0

    def do_with_less(self, error: OutOfDescriptors) -> bool:
        """Let no more downloads go on at a time than now; wait a moment where there is none.

        Returns
        -------
        bool
            Whether each download must do with the least there is: one connection.
        """
        self._session().close_idle()
        at_work = self._updates.rows.count(Stage.DOWNLOADING)
        if self.parallel > max(at_work, 1):
            self.parallel = max(at_work, 1)
            self._updates.notice(f"{error.what} Downloading fewer products at a time.")
        elif not at_work:
            self.starve(error)
            return True
        return False

    def starve(self, error: OutOfDescriptors) -> None:
        """Wait a moment, where nothing else is at work that would let go of a descriptor; not for ever."""
        self._starved += 1
        self._reserve.give()
        if self._starved > STARVED:
            raise error
        self._updates.clock.sleep(RETRY_INTERVAL, self._stop)

    def insist(self, do: Callable[[], T]) -> T:
        """Do what cannot be left out, with the descriptors that are kept back where it lacks one."""
        tries = 0
        while True:
            try:
                done = do()
                break
            except OutOfDescriptors:
                tries += 1
                if tries == MOST_TRIES:
                    raise
                self._reserve.give()
                self._session().close_idle()
                if tries > 1:
                    self._updates.clock.sleep(RETRY_INTERVAL, self._stop)
        self._reserve.take()
        return done
