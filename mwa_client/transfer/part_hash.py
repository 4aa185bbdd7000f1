"""The SHA-1 of a part file, computed in order while the file is fetched."""

from __future__ import annotations

import errno
import hashlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from mwa_client.errors import DirectoryUnusable, Stopped
from mwa_client.memory import has_spare_memory
from mwa_client.threads import has_started
from mwa_client.transfer.gaps import Contents

if TYPE_CHECKING:
    from hashlib import _Hash

READ_SIZE = 1 << 18
"""Bytes that are read again at a time; they then stay in the processor's memory."""
HASH_CHECK_INTERVAL = 0.2
"""Seconds after which a wait looks whether the work was told to stop."""


class PartBroken(DirectoryUnusable):
    """The part file is not what was written, or cannot be read: it must be fetched anew."""

    @classmethod
    def because(cls, path: Path, why: str) -> PartBroken:
        """Return the error for a part file that is of no use."""
        return cls(
            f"The part file {path} cannot be used: {why}.",
            "If this happens again, check the disk, or choose another directory with --dir.",
        )


def part_changed(path: Path, how: str) -> DirectoryUnusable:
    """Return the error for a part file that somebody else has changed."""
    return DirectoryUnusable(
        f"The part file {path} {how}.",
        "Let no other program change what is in .mwa_client, then run the same command again.",
    )


class PartHasher:
    """Computes the SHA-1 of a part file in order, from the bytes just written where they come next.

    A thread reads the others again from the file while the download goes on: what an earlier run has left,
    and what was written out of order.

    Parameters
    ----------
    path : Path
        The part file, as errors name it.
    contents : Contents
        Which of its bytes are there.
    changed : threading.Condition
        Held for every look at `contents`, and told of each change.
    read : callable
        Returns at most so many bytes of the file from a position on.
    """

    def __init__(
        self,
        path: Path,
        contents: Contents,
        changed: threading.Condition,
        read: Callable[[int, int], bytes],
    ) -> None:
        self._path = path
        self._contents = contents
        self._changed = changed
        self._read = read
        self._sha1: _Hash = hashlib.sha1(usedforsecurity=False)
        self._position = 0
        self._is_busy = False
        self._is_over = False
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None

    def follow(self, start: int, data: memoryview) -> None:
        """Hash what was just written if it comes next; otherwise leave it to be read again later."""
        with self._changed:
            is_next = start == self._position and not self._is_busy and self._error is None
            self._is_busy = self._is_busy or is_next
        if is_next:
            self._sha1.update(data)
            with self._changed:
                self._position += len(data)
                self._is_busy = False
        self.catch_up()

    def catch_up(self) -> None:
        """Let a thread read what is there in order and was not hashed yet."""
        with self._changed:
            self._changed.notify_all()
            if self._thread is None and self._is_behind() and not self._is_over and has_spare_memory():
                thread = threading.Thread(target=self._run, name="sha1", daemon=True)
                if has_started(thread):  # Without a thread, `result` reads it.
                    self._thread = thread

    def result(self, stop: threading.Event) -> str:
        """Return the SHA-1 of all bytes before the first gap.

        Raises
        ------
        PartBroken
            They could not be read.
        Stopped
            `stop` was set.
        """
        while True:
            with self._changed:
                if self._thread is not None and self._is_behind() and not stop.is_set():
                    self._changed.wait(HASH_CHECK_INTERVAL)
                is_behind, has_thread = self._is_behind(), self._thread is not None
            self.check()
            if not is_behind:
                return self._sha1.hexdigest()
            if stop.is_set():
                raise Stopped("The work was told to stop.")
            if not has_thread:
                self._hash_more()

    def check(self) -> None:
        """Raise `PartBroken` if the file could not be read."""
        if self._error is not None:
            why = (self._error.strerror or str(self._error)).lower()
            raise PartBroken.because(self._path, f"it cannot be read back ({why})") from self._error

    def stop(self) -> None:
        """Stop hashing, and wait for the thread to end."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _is_behind(self) -> bool:
        return self._error is None and (self._is_busy or self._position < self._contents.contiguous_end)

    def _run(self) -> None:
        try:
            self._hash_until_over()
        except MemoryError:
            with self._changed:
                self._thread = None  # Who wants the result reads the rest, or has no memory for it either.

    def _hash_until_over(self) -> None:
        while self._error is None:
            with self._changed:
                while not self._is_over and (self._is_busy or not self._is_behind()):
                    self._changed.wait()
                if self._is_over:
                    return
            self._hash_more()

    def _hash_more(self) -> None:
        """Read the next bytes from the file and hash them."""
        with self._changed:
            if self._is_busy or not self._is_behind():
                return
            self._is_busy = True
            most = min(READ_SIZE, self._contents.contiguous_end - self._position)
        count = 0
        try:
            data = self._read(most, self._position)
            if not data:
                raise OSError(errno.EIO, "the part file became shorter while it was being read")
            self._sha1.update(data)
            count = len(data)
        except OSError as error:
            self._error = error
        finally:
            with self._changed:
                self._position += count
                self._is_busy = False
                self._changed.notify_all()
