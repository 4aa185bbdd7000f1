"""The client as a process of its own that need not read its modules first, which is most of a short run.

A process with a single thread has read them, and forks for each client that a test starts. That is a real
process in all the rest: it has a number, an environment, a directory and streams of its own, and can be
killed. A program that is given with ``-c`` finds the modules read, too: what others have imported from
them by name, it cannot change.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from threading import Lock, Thread
from typing import IO, Any, Union

Stream = Union[int, IO[Any]]
PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
AT_START = ("PYTHON", "LC_", "LANG", "TZ", "OPENSSL", "MALLOC", "LD_")
"""What the names of the variables begin with that count before a program's first line."""
OURS = dict(os.environ)
"""The environment before any test has changed it."""
_LENGTH, _STATUS = struct.Struct("!I"), struct.Struct("!i")


def is_like_ours(env: Mapping[str, str]) -> bool:
    """Say whether a process would begin with these variables as this one did."""
    return _at_start(env) == _at_start(OURS)


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(AT_START)}


# --- In the tests -------------------------------------------------------------------------------------


class ForkedClient:
    """A client that runs, with what the tests need of `subprocess.Popen`, under the same names.

    Parameters
    ----------
    words : sequence of str
        The command line: this Python; ``-m mwa_client``, or ``-c`` and a program; the arguments.
    env : mapping
        All of its environment.
    cwd : Path, optional
        Its working directory.
    given : bytes
        What it reads from standard input; a pipe has to take it all at once.
    stdout, stderr : int or file
        `PIPE`, `DEVNULL`, or what can be written to.

    Attributes
    ----------
    stdout, stderr : text file or None
        What it writes, where that is a pipe.
    """

    def __init__(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        cwd: Path | None = None,
        *,
        given: bytes = b"",
        stdout: Stream = PIPE,
        stderr: Stream = PIPE,
    ) -> None:
        assert words[0] == sys.executable and words[1] in ("-m", "-c"), words
        assert is_like_ours(env), "what counts at the start needs a process from the start"
        self.args = list(words)
        self.returncode: int | Any = None
        wanted = {"words": self.args[1:], "env": dict(env), "cwd": str(cwd or Path.cwd())}
        with ExitStack() as given_away:
            self.stdout, out = _opened(stdout, given_away)
            self.stderr, err = _opened(stderr, given_away)
            self._told, theirs = socket.socketpair()
            given_away.callback(theirs.close)
            with _STARTING:
                forking = _forking()
            forking.ask(wanted, [theirs.fileno(), _pipe_with(given, given_away), out, err])
        self.pid = self._number()

    def poll(self) -> int | None:
        """Return the exit status, or minus the signal that has ended it; None while it runs."""
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; raises `subprocess.TimeoutExpired`."""
        status = self._ended(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return status

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end, and return the rest of what it has written, or raise `TimeoutExpired`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        written = {"stdout": "", "stderr": ""}

        def read(name: str, stream: IO[str]) -> None:
            with stream:
                written[name] = stream.read()

        streams = [(name, getattr(self, name)) for name in written]
        threads = [Thread(target=read, args=each, daemon=True) for each in streams if each[1] is not None]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_left(deadline))
        self.wait(_left(deadline))
        return written["stdout"], written["stderr"]

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> ForkedClient:
        return self

    def __exit__(self, *error: object) -> None:
        """See to it that nothing of it is left."""
        self.kill()
        self.wait()
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self._told.settimeout(timeout)
            try:
                self.returncode = self._number()
            except (BlockingIOError, socket.timeout):
                return None
            self._told.close()
        return self.returncode

    def _number(self) -> int:
        told = self._told.recv(_STATUS.size)
        assert told, "the process that forks has ended"
        return int(_STATUS.unpack(told)[0])


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)


def _opened(stream: Stream, given_away: ExitStack) -> tuple[IO[str] | None, int]:
    """Return what to read here, if it is a pipe, and the descriptor that is given away."""
    reader = None
    if stream == PIPE:
        end, stream = os.pipe()
        reader = os.fdopen(end, encoding="utf-8")
        given_away.callback(os.close, stream)
    elif stream == DEVNULL:
        stream = os.open(os.devnull, os.O_WRONLY)
        given_away.callback(os.close, stream)
    return reader, stream if isinstance(stream, int) else stream.fileno()


def _pipe_with(given: bytes, given_away: ExitStack) -> int:
    reader, writer = os.pipe()
    given_away.callback(os.close, reader)
    with os.fdopen(writer, "wb", buffering=0) as pipe:
        assert len(given) <= 1 << 16
        pipe.write(given)
    return reader


class _Forking:
    """The process that forks, as long as this one lives."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._lock = Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=OURS,
                stdin=DEVNULL,
                stdout=DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def ask(self, wanted: dict[str, Any], descriptors: list[int]) -> None:
        text = json.dumps(wanted).encode()
        with self._lock:
            socket.send_fds(self._socket, [_LENGTH.pack(len(text))], descriptors)
            self._socket.sendall(text)

    def end(self) -> None:
        self._socket.close()
        self._process.wait()


_STARTING = Lock()


@functools.cache
def _forking() -> _Forking:
    forking = _Forking()
    atexit.register(forking.end)
    return forking


# --- In the process that forks ------------------------------------------------------------------------


class _Server:
    """Forks for each request, and tells how each process has ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._woken, self._wakes = os.pipe()
        os.set_blocking(self._wakes, False)
        self._running: dict[int, socket.socket] = {}

    def serve(self) -> dict[str, Any] | None:
        """Return what is wanted of it in a process that was forked; None when no more will be asked for."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Of a Ctrl-C that ends the tests, they will tell.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wakes)
        with selectors.DefaultSelector() as selector:
            for source in (self._control.fileno(), self._woken):
                selector.register(source, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if self._woken in ready:
                    os.read(self._woken, 1 << 10)
                    self._tell_of_ends()
                if self._control.fileno() in ready:
                    wanted, descriptors = self._next_request()
                    if wanted is None or self._fork(descriptors) == 0:
                        return wanted

    def _next_request(self) -> tuple[dict[str, Any] | None, list[int]]:
        length, descriptors, _, _ = socket.recv_fds(self._control, _LENGTH.size, 4)
        if not length:
            return None, []
        left = _LENGTH.unpack(length)[0]
        text = b""
        while len(text) < left:
            text += self._control.recv(left - len(text))
        return json.loads(text), list(descriptors)

    def _fork(self, descriptors: list[int]) -> int:
        told, *streams = descriptors
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            for mine in (self._woken, self._wakes, *descriptors):
                os.close(mine)
            for other in self._running.values():
                other.close()
        else:
            self._running[pid] = socket.socket(fileno=told)
            self._running[pid].send(_STATUS.pack(pid))
            for stream in streams:
                os.close(stream)
        return pid

    def _tell_of_ends(self) -> None:
        for pid in list(self._running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with self._running.pop(pid) as told, suppress(OSError):
                    told.send(_STATUS.pack(os.waitstatus_to_exitcode(status)))


def _read_modules() -> None:
    import mwa_client

    for module in pkgutil.walk_packages(mwa_client.__path__, "mwa_client."):
        if not module.name.endswith("__main__"):
            import_module(module.name)


def _begin(wanted: dict[str, Any]) -> None:
    """Be what Python is when it begins with the command line that is wanted."""
    os.environ.clear()
    os.environ.update(wanted["env"])
    os.chdir(wanted["cwd"])
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        old = getattr(sys, name)
        buffering = 1 if name == "stderr" or os.isatty(number) else -1
        new = os.fdopen(number, mode, buffering, old.encoding, old.errors, closefd=False)
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    kind, what, *sys.argv[1:] = wanted["words"]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv[0] = "-c"
        exec(what, {"__name__": "__main__"})


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as control:
        _read_modules()
        wanted = _Server(control).serve()
    if wanted is not None:
        _begin(wanted)
