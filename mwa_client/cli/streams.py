"""Standard streams that another program has a say in: closed, in another encoding, or set not to block."""

from __future__ import annotations

import io
import os
import select
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

PATIENCE = 60.0
"""Seconds without a byte taken after which a reader counts as absent; what it has missed waits for it."""
MOST_WAITING = 1 << 20
"""Bytes that wait for a reader who is absent; what is written beyond them is lost."""
BLOCK = 1 << 16
"""Bytes that are written at a time."""
LOOK, MOMENT = 1.0, 0.002
"""Seconds after which it is tried whether there is room, and between two tries where there seems to be."""


def mend_streams() -> None:
    """Let no state in which a standard stream can be end the program, or lose a part of what is written."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            if stream is getattr(sys, f"__{name}__"):  # Not one that a program which calls us has put there.
                setattr(sys, name, _patient(stream))


def finish_streams() -> None:
    """Give a reader who has fallen behind a last chance, before the program ends."""
    for stream in (sys.stdout, sys.stderr):
        writer = getattr(stream, "buffer", None)
        if isinstance(writer, PatientWriter):
            with suppress(OSError, ValueError):
                stream.flush()
                writer.finish()


def _patient(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a stream that writes to the same place, all of it, whatever somebody has set that to."""
    try:
        stream.flush()
        writer = PatientWriter(stream.fileno())
    except (OSError, ValueError):
        return stream
    return io.TextIOWrapper(
        writer,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class PatientWriter(io.BufferedIOBase):
    """Writes to an open file, and waits where that cannot take more at the moment.

    Whether a pipe or a terminal blocks is not ours alone: every program that has it open can change that,
    at any time, for all of them.

    Parameters
    ----------
    file : int
        The open file. It stays open.
    patience : float
        Seconds to wait for a reader who takes nothing. After that nobody waits for it any more until it takes
        something again; then it gets what it has missed.
    """

    def __init__(self, file: int, patience: float = PATIENCE) -> None:
        self._file = self.name = file
        self._patience = patience
        self._lock = threading.RLock()
        self._waiting = bytearray()
        self._is_absent = False

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def fileno(self) -> int:
        """Return the open file."""
        return self._file

    def isatty(self) -> bool:
        """Say whether it is a terminal."""
        return os.isatty(self._file)

    def write(self, data: object) -> int:
        """Write all of it, or keep for later what a reader who is absent does not take.

        Raises
        ------
        OSError
            The reader has gone.
        """
        view = memoryview(data)  # type: ignore[arg-type]
        with self._lock:
            if len(self._waiting) < MOST_WAITING:
                self._waiting += view
            self._write_waiting()
        return view.nbytes

    def flush(self) -> None:
        """Write what is waiting, as `write` does."""
        with self._lock:
            self._write_waiting()

    def finish(self) -> None:
        """Write what is waiting, and wait once more for a reader who was absent."""
        self._is_absent = False
        self.flush()

    def close(self) -> None:
        """Write what is waiting, if that can be."""
        with suppress(OSError):
            super().close()

    def _write_waiting(self) -> None:
        last = time.monotonic()
        while self._waiting:
            try:
                written = os.write(self._file, bytes(self._waiting[:BLOCK]))
            except BlockingIOError:
                self._is_absent = self._is_absent or time.monotonic() - last >= self._patience
                if self._is_absent:
                    return
                self._wait()
            except OSError:
                self._waiting.clear()  # Nobody will ever read it.
                raise
            else:
                del self._waiting[:written]
                self._is_absent, last = False, time.monotonic()

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._file, select.POLLOUT)
        if poll.poll(min(self._patience, LOOK) * 1000):
            time.sleep(MOMENT)  # Some say at once that there is room, and have too little.
