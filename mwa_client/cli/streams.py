"""Standard streams that are shared with other programs: closed, in another encoding, or set not to block."""

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
"""Seconds without progress after which a reader counts as absent; what it has missed is kept for it."""
MOST_WAITING = 1 << 20
"""Bytes that are kept for an absent reader; what is written beyond them is lost."""
WRITE_BLOCK = 1 << 16
"""Bytes that are written at a time."""
ROOM_TIMEOUT = 1.0
"""Seconds to wait for room before trying to write anyway."""
RETRY_PAUSE = 0.002
"""Seconds between two tries, for systems that report room where there is too little."""


def mend_streams() -> None:
    """Make standard output and error safe to write to, in whatever state they were handed over.

    Neither a character that a stream's encoding lacks, nor a full pipe ends the program or loses text. A
    closed standard output refuses every line, so that a task whose result is lost can tell; what is said on a
    closed standard error is lost.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if name == "stdout" else mode
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            if stream is getattr(sys, f"__{name}__"):  # A calling program may have put its own there.
                setattr(sys, name, _patient(stream))


def width_of_results() -> int | None:
    """Return the columns that a result may have on a terminal; None where it goes to a file."""
    if not sys.stdout.isatty():
        return None
    from mwa_client.display.printing import window_of

    return window_of(sys.stdout)[0] - 1


def finish_streams() -> None:
    """Before the program ends, wait once more for readers that have fallen behind."""
    for stream in (sys.stdout, sys.stderr):
        writer = getattr(stream, "buffer", None)
        if isinstance(writer, PatientWriter):
            with suppress(OSError, ValueError):
                stream.flush()
                writer.finish()


def _patient(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a stream that writes everything to the same file, even where that is set not to block."""
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
    """Writes to an open file, and waits where the file cannot take more at the moment.

    Whether a pipe or a terminal blocks is a setting of the pipe itself: every program that has it open can
    change it, at any time, for all of them.

    Parameters
    ----------
    file : int
        Descriptor of the open file, which is not closed.
    patience : float
        Seconds to wait for a reader that takes nothing. After that no write waits any more, until the reader
        takes something again; then it gets what it has missed.
    """

    def __init__(self, file: int, patience: float = PATIENCE) -> None:
        self._file = self.name = file
        self._patience = patience
        self._lock = threading.RLock()
        self._unwritten = bytearray()
        self._is_absent = False

    def writable(self) -> bool:
        """Return True: the stream can be written to."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the open file."""
        return self._file

    def isatty(self) -> bool:
        """Say whether the file is a terminal."""
        return os.isatty(self._file)

    def write(self, data: object) -> int:
        """Write all of the data, or keep what an absent reader does not take.

        Raises
        ------
        OSError
            The reader has gone.
        """
        view = memoryview(data)  # type: ignore[arg-type]
        with self._lock:
            if len(self._unwritten) < MOST_WAITING:
                self._unwritten += view
            self._write_out()
        return view.nbytes

    def flush(self) -> None:
        """Write what is kept, as `write` does."""
        with self._lock:
            self._write_out()

    def finish(self) -> None:
        """Write what is kept, and wait once more for an absent reader."""
        self._is_absent = False
        self.flush()

    def close(self) -> None:
        """Write what is kept, if the reader is still there."""
        with suppress(OSError):
            super().close()

    def _write_out(self) -> None:
        last = time.monotonic()
        while self._unwritten:
            try:
                written = os.write(self._file, bytes(self._unwritten[:WRITE_BLOCK]))
            except BlockingIOError:
                self._is_absent = self._is_absent or time.monotonic() - last >= self._patience
                if self._is_absent:
                    return
                self._wait()
            except OSError:
                self._unwritten.clear()  # The reader has gone.
                raise
            else:
                del self._unwritten[:written]
                self._is_absent, last = False, time.monotonic()

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._file, select.POLLOUT)
        if poll.poll(min(self._patience, ROOM_TIMEOUT) * 1000):
            time.sleep(RETRY_PAUSE)
