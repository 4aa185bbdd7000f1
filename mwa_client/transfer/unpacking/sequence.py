"""Bytes that several connections bring in any order are handed on in their own order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

from mwa_client.directory.disk import disk_errors
from mwa_client.errors import Stopped
from mwa_client.transfer.gaps import Gaps
from mwa_client.transfer.part_hash import PartBroken
from mwa_client.transfer.unpacking.ring import Ring

ROOM_CHECK_INTERVAL = 0.2
"""Seconds after which a wait for room in the window looks whether the work was told to stop."""
HAND_ON_SIZE = 1 << 20
"""Bytes that are handed on at a time."""


class ByteSequence:
    """Hands on the bytes of a file in order; what comes too early waits in a ring.

    Whoever brings the next bytes hands them on itself, and what waits behind them; meanwhile the others fill
    the ring, or wait while it is full.

    Parameters
    ----------
    ring : Ring
        Holds the bytes that come too early.
    position : int
        The first byte that is to be handed on.
    take : callable
        Takes the next bytes; never called by two threads at a time.
    stop : threading.Event
        Set when the work is to stop.

    Attributes
    ----------
    position : int
        The first byte that was not handed on.
    """

    def __init__(
        self, ring: Ring, position: int, take: Callable[[memoryview], None], stop: threading.Event
    ) -> None:
        self.position = position
        self._ring = ring
        self._take = take
        self._stop = stop
        self._changed = threading.Condition()
        """Held for what follows, never during a call to the system."""
        self._ahead = Gaps()
        self._is_handing_on = False
        self._writing = 0
        self._failure: BaseException | None = None
        self._is_over = False

    @property
    def present(self) -> int:
        """How many bytes are here in all."""
        with self._changed:
            return self.position + self._ahead.total

    def check(self) -> None:
        """Raise the error that a thread met when it handed bytes on: no more can be taken."""
        if self._failure is not None:
            raise self._failure

    def write(self, start: int, data: memoryview) -> None:
        """Take bytes that stand at a position.

        Raises
        ------
        Stopped
            The work was told to stop, or this was closed.
        """
        with self._counted():
            with self._changed:
                self._wait_for_room(start + len(data))
                data = data[max(self.position - start, 0) :]
                is_next = start <= self.position and not self._is_handing_on
                self._is_handing_on = self._is_handing_on or is_next
            if is_next:
                self._hand_on(data)
            elif data:
                self._keep(start, data)

    def close(self) -> None:
        """Take nothing any more; wait until nobody writes."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._writing)
        self._ring.close()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._changed:
            if self._is_over:
                raise Stopped("The bytes so far were closed or thrown away.")
            self._writing += 1
        try:
            yield
        finally:
            with self._changed:
                self._writing -= 1
                self._changed.notify_all()

    def _wait_for_room(self, end: int) -> None:
        """Wait until the window reaches so far; needs the lock."""
        while True:
            self.check()
            if self._is_over or self._stop.is_set():
                raise Stopped("The work was told to stop.")
            if end <= self.position + self._ring.size:
                return
            self._changed.wait(ROOM_CHECK_INTERVAL)

    def _keep(self, start: int, data: memoryview) -> None:
        """Put bytes into the ring; hand them on if they have become the next ones meanwhile."""
        with disk_errors(self._ring.path):
            with self._changed:
                self._ring.open()
            self._ring.write(start, data)
        with self._changed:
            self._ahead.add(start, start + len(data))
            is_next = self._ahead.first[0] <= self.position and not self._is_handing_on
            self._is_handing_on = self._is_handing_on or is_next
        if is_next:
            self._hand_on(memoryview(b""))

    def _hand_on(self, data: memoryview) -> None:
        """Hand on these bytes, and all that wait behind them."""
        try:
            while True:
                if data:
                    self._take(data)
                with self._changed:
                    self.position += len(data)
                    self._ahead.remove(0, self.position)
                    self._changed.notify_all()
                    count = self._count_waiting()
                    self._is_handing_on = count > 0
                if not count:
                    return
                with disk_errors(self._ring.path):
                    data = memoryview(self._ring.read(self.position, count))
                if not data:
                    raise PartBroken.because(self._ring.path, "another program has shortened it")
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._is_handing_on = False
                self._changed.notify_all()
            raise

    def _count_waiting(self) -> int:
        """Return how many bytes wait to be handed on next, up to a piece."""
        if not self._ahead or self._ahead.first[0] > self.position:
            return 0
        return min(self._ahead.first[1] - self.position, HAND_ON_SIZE)
