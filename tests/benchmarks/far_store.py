"""A store at the far end of a line: round trips, slow start, a rate for each connection, a link for all.

It runs as a process of its own and imitates the line by when it sends what, so that it needs no rights and no
special kernel. One thread looks at all connections every few milliseconds; the bytes go from file to socket
in the kernel, so that it is not the bottleneck.

python tests/benchmarks/far_store.py FOLDER '{"round_trip": 0.2}'     says its port and serves the files there
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = "127.0.0.1"
TICK = 0.002
FIRST_WINDOW = 10 * 1448
"""Bytes that a server sends before the first acknowledgement (RFC 6928)."""
TRICKLING = 2.0
"""Seconds for which an answer trickles before it ends."""
DOUBLING = 0.693
"""What the window grows by for each byte sent, so that it doubles in a round trip."""


@dataclass(frozen=True)
class Far:
    """What the line and the store are like.

    Attributes
    ----------
    round_trip : float
        Seconds. A new connection takes two of them (one for TCP, one for TLS) before the first request.
    rate : float
        Bytes a second of each connection.
    link : float
        Bytes a second of all of them.
    failing : float
        How many of all requests are answered with 503.
    resets : float
        How many of all answers are cut by a reset, anywhere.
    silent : float
        How many of all requests are never answered.
    slow : float
        How many of all answers trickle.
    cut_after : int
        Every answer is cut after so many bytes, if above zero.
    most : int
        More connections than these are accepted and never answered, if above zero.
    seed : int
        For what happens at random.
    """

    round_trip: float = 0.0
    rate: float = 1e12
    link: float = 1e12
    failing: float = 0.0
    resets: float = 0.0
    silent: float = 0.0
    slow: float = 0.0
    cut_after: int = 0
    most: int = 0
    seed: int = 0


@dataclass(eq=False)
class Connection:
    """One client's connection."""

    socket: socket.socket
    ready_at: float
    asked: bytes = b""
    window: float = FIRST_WINDOW
    answer: bytes = b""
    file: int = -1
    position: int = 0
    end: int = 0
    cut_at: int = 1 << 62
    begins_at: float = 0.0
    may_send: float = 0.0
    is_mute: bool = False
    trickles: bool = False
    busy: bool = False


@dataclass
class Store:
    """Serves the files of a folder over a line."""

    folder: Path
    far: Far
    requests: list[float] = field(default_factory=list)
    most_open: int = 0
    sent: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server((HERE, 0), backlog=64)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._open: list[Connection] = []
        self._files: dict[str, int] = {}
        self._dice = random.Random(self.far.seed)

    def serve(self) -> None:
        """Serve until standard input ends; then say on standard output what there was."""
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        last = time.monotonic()
        while True:
            for key, _ in self._selector.select(TICK if any(each.busy for each in self._open) else None):
                if key.fileobj is sys.stdin:
                    times = [time - self.requests[0] for time in self.requests]
                    seen = {"most": self.most_open, "requests": times, "sent": self.sent}
                    print(json.dumps(seen), flush=True)
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._hear(key.data)
            self._count()
            now = time.monotonic()
            self._send(now, min(now - last, 0.05))
            last = now
            pause = TICK - (time.monotonic() - now)
            if pause > 0 and any(each.busy for each in self._open):
                time.sleep(pause)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = Connection(sock, time.monotonic() + 2 * self.far.round_trip)
                self._open.append(connection)
                connection.is_mute = 0 < self.far.most < len(self._open)
                self._selector.register(sock, selectors.EVENT_READ, connection)

    def _count(self) -> None:
        """Count the open connections, once those are gone that were closed before the last one came."""
        if len(self._open) > self.most_open:
            for key, _ in self._selector.select(0):
                if isinstance(key.data, Connection):
                    self._hear(key.data)
            self.most_open = max(self.most_open, len(self._open))

    def _hear(self, each: Connection) -> None:
        try:
            data = each.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(each)
            return
        each.asked += data
        if b"\r\n\r\n" in each.asked and not each.busy:
            request, _, each.asked = each.asked.partition(b"\r\n\r\n")
            self._answer(each, request.decode("latin-1"))

    def _answer(self, each: Connection, request: str) -> None:
        now = time.monotonic()
        self.requests.append(now)
        far, chance = self.far, self._dice.random
        if each.is_mute or chance() < far.silent:
            return
        each.busy = True
        each.begins_at = max(now, each.ready_at) + far.round_trip
        if chance() < far.failing:
            body = b"<Error><Code>SlowDown</Code></Error>"
            head = f"HTTP/1.1 503 Slow Down\r\nContent-Length: {len(body)}\r\n\r\n"
            each.answer, each.position, each.end = head.encode() + body, 0, 0
            return
        name = request.split(" ")[1].partition("?")[0].strip("/")
        if name not in self._files:
            self._files[name] = os.open(self.folder / name, os.O_RDONLY)
        each.file = self._files[name]
        size = os.fstat(each.file).st_size
        asked = re.search(r"(?i)\r\nrange: *bytes=(\d+)-(\d*)", request)
        each.position, each.end = 0, size
        if asked:
            each.position, each.end = int(asked[1]), min(int(asked[2] or size), size - 1) + 1
        length = each.end - each.position
        head = f"HTTP/1.1 {'206 Partial Content' if asked else '200 OK'}\r\nAccept-Ranges: bytes\r\n"
        head += f'ETag: "{size:032x}"\r\nContent-Length: {length}\r\nContent-Type: application/x-tar\r\n'
        if asked:
            head += f"Content-Range: bytes {each.position}-{each.end - 1}/{size}\r\n"
        each.answer = f"{head}\r\n".encode()
        each.cut_at = each.position + far.cut_after if far.cut_after else 1 << 62
        if chance() < far.resets:
            each.cut_at = self._dice.randrange(each.position, each.end)
        each.trickles = chance() < far.slow

    def _send(self, now: float, seconds: float) -> None:
        """Send as much as the line lets through in so many seconds."""
        for each in [each for each in self._open if each.trickles and now > each.begins_at + TRICKLING]:
            self._close(each)
        sending = [each for each in self._open if each.busy and now >= each.begins_at]
        for each in sending:
            if each.answer:
                with contextlib.suppress(OSError):
                    each.socket.send(each.answer)
                each.answer, each.may_send = b"", 0.0
        left, shares = self.far.link * seconds, len(sending)
        wishes = {id(each): self._wish(each, seconds) for each in sending}
        for each in sorted(sending, key=lambda each: wishes[id(each)]):
            granted = min(wishes[id(each)], left / shares)
            left, shares = left - granted, shares - 1
            each.may_send = min(each.may_send + granted, max(4 * granted, 1 << 16))
            self._push(each)

    def _wish(self, each: Connection, seconds: float) -> float:
        rate = 1000.0 if each.trickles else self.far.rate
        if self.far.round_trip:
            rate = min(rate, each.window / self.far.round_trip)
        return min(rate * seconds, max(each.end - each.position - each.may_send, 0.0))

    def _push(self, each: Connection) -> None:
        most = min(int(each.may_send), each.end - each.position, each.cut_at - each.position)
        if most > 0:
            try:
                sent = os.sendfile(each.socket.fileno(), each.file, each.position, most)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._close(each)
                return
            each.position += sent
            each.may_send -= sent
            self.sent += sent
            each.window = min(
                each.window + DOUBLING * sent,
                max(min(self.far.rate, 2 * self.far.link) * self.far.round_trip, FIRST_WINDOW),
            )
        if each.position >= each.cut_at:
            each.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self._close(each)
        elif each.position >= each.end and not each.answer:
            each.busy = False

    def _close(self, each: Connection) -> None:
        if each in self._open:
            self._open.remove(each)
            self._selector.unregister(each.socket)
            each.socket.close()


class FarStore:
    """A `Store` in a process of its own.

    Attributes
    ----------
    address : str
        Where it listens.
    seen : dict
        After its end: the most connections at once, the seconds of each request since the first, bytes sent.
    """

    def __init__(self, folder: Path, far: Far) -> None:
        command = [sys.executable, __file__, str(folder), json.dumps(asdict(far))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._process.stdout is not None
        self.address = f"http://{HERE}:{self._process.stdout.readline().strip()}"
        self.seen: dict[str, Any] = {}

    def close(self) -> None:
        """End it."""
        out, _ = self._process.communicate("\n")
        self.seen = json.loads(out)


@contextlib.contextmanager
def far_store(folder: Path, far: Far) -> Iterator[FarStore]:
    """Run a store over the files of a folder."""
    store = FarStore(folder, far)
    with contextlib.closing(store):
        yield store


if __name__ == "__main__":
    store = Store(Path(sys.argv[1]), Far(**json.loads(sys.argv[2])))
    print(store.port, flush=True)
    store.serve()
