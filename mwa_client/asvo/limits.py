"""Limits of one call over HTTP: how long it may take, how much may come back, and that a reply is its own.

The HTTP libraries limit each single read and nothing else: a server that sends a byte a second, or headers
without end, would never be given up. So their connections and answers are extended here by one deadline
over a whole call, wherever it is: connecting, behind a proxy, in a handshake, in headers or in the body.
"""

from __future__ import annotations

import enum
import functools
import http.client as http_client
import io
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests
import urllib3

if TYPE_CHECKING:
    from mwa_client.asvo.proxies import Proxy

CONNECT_TIMEOUT = 20.0
"""Seconds for a connection to come about."""
MOST_HEAD = 1 << 18
"""Bytes that may come before the body: interim answers, status line and headers."""


class Stage(enum.Enum):
    """How far a call has come; errors are told by it."""

    CONNECTING = "a connection is being made"
    TUNNELLING = "the proxy is asked for a way to the service"
    SECURING = "the connection is being encrypted"
    ASKING = "the request is on its way, or its answer"


class Lines:
    """The open connections of one wire, so that another thread can end what runs over them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()
        self._answered: set[str] = set()
        self.closings = 0
        """How often they were all closed."""

    def add(self, sock: Any) -> None:
        """Take up a connection that has just come about."""
        with self._lock:
            self._open.add(sock)

    def close(self) -> None:
        """End every connection, and with it the call that runs over it, whichever thread made it."""
        with self._lock:
            self.closings += 1
            sockets = list(self._open)
        for sock in sockets:
            _hang_up(sock)

    def note_answer(self, *addresses: str) -> None:
        """Note that there was an answer from there: a later failure is no mistake in the settings."""
        self._answered.update(addresses)

    def has_answered(self, address: str) -> bool:
        """Say whether there was ever an answer from an address."""
        return address in self._answered


class Call:
    """One request and its answer: until when, and how far it is.

    Parameters
    ----------
    address : str
        Who is asked, for messages.
    deadline : float
        When it must be over, on the monotonic clock.
    silence : float
        Seconds without a byte after which it is given up before that.
    lines : Lines
        Where its connection is kept.

    Attributes
    ----------
    silence : float
        As given.
    proxy : Proxy or None
        Through which it goes.
    stage : Stage
        How far it is.
    is_past_proxy : bool
        The other end of the connection is the service itself.
    cookies : list of str
        The ``Set-Cookie`` headers of the answer.
    answer : http.client.HTTPResponse or None
        What is being read.
    has_headers : bool
        The headers of the answer are here.
    """

    def __init__(self, address: str, deadline: float, silence: float, lines: Lines) -> None:
        self.address = address
        self.lines = lines
        self.proxy: Proxy | None = None
        self.stage = Stage.CONNECTING
        self.is_past_proxy = False
        self.cookies: list[str] = []
        self.answer: http_client.HTTPResponse | None = None
        self.has_headers = False
        self._closings = lines.closings
        self._deadline: float | None = deadline
        self.silence = silence
        self._socket: Any = None

    @property
    def has_deadline(self) -> bool:
        """Whether it must be over at some time, though bytes come."""
        return self._deadline is not None

    @property
    def is_closed(self) -> bool:
        """Whether all connections were closed since it has begun."""
        return self.lines.closings > self._closings

    def heed(self, sock: Any, most: float = float("inf")) -> None:
        """Let the next wait on a socket be no longer than the call may take.

        Raises
        ------
        socket.timeout
            The time is over.
        """
        self._socket = sock  # To be told when the deadline is lifted.
        if self._deadline is None:
            return
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        sock.settimeout(min(left, self.silence, most))

    def end(self) -> None:
        """End it from another thread, as if the other side had hung up."""
        if self._socket is not None:
            _hang_up(self._socket)

    def heed_closing(self) -> None:
        """Raise ``ConnectionAbortedError`` if all connections were closed meanwhile."""
        if self.is_closed:
            raise ConnectionAbortedError

    def lift_deadline(self) -> None:
        """From now on only silence counts: a product may take its time, as long as bytes come."""
        self._deadline = None
        try:
            if self._socket is not None:
                self._socket.settimeout(self.silence)
        except OSError:
            pass  # It is closed already; the next read will notice.


class _Running(threading.local):
    call: Call | None = None


_RUNNING = _Running()
_UNANSWERED: dict[threading.Thread, Call] = {}


@contextmanager
def running(call: Call) -> Iterator[None]:
    """Let the connections that this thread uses belong to a call."""
    _RUNNING.call = call
    _UNANSWERED[threading.current_thread()] = call
    try:
        yield
    finally:
        _RUNNING.call = None
        _UNANSWERED.pop(threading.current_thread(), None)


def end_call_of(thread: threading.Thread) -> None:
    """End the call that another thread waits for, if there was no answer to it yet."""
    call = _UNANSWERED.get(thread)
    if call is not None:
        call.end()


def _running_call() -> Call:
    call = _RUNNING.call
    assert call is not None, "connections are used within a call"
    return call


class Adapter(requests.adapters.HTTPAdapter):
    """What makes the connections of a `requests` session, with limits."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(*arguments, **options)
        _limit(self.poolmanager)

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        """Return the pools of connections through a proxy."""
        manager = super().proxy_manager_for(*arguments, **options)
        _limit(manager)
        return manager


def _limit(manager: Any) -> None:
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _limited(pool) for scheme, pool in pools.items()}


@functools.cache
def _limited(pool: type[Any]) -> type[Any]:
    """Return a class of connection pools whose connections heed the running call."""
    if issubclass(pool.ConnectionCls, _Connection):
        return pool
    connection = type("LimitedConnection", (_Connection, pool.ConnectionCls), {})
    return type("LimitedPool", (pool,), {"ConnectionCls": connection})


class _Arrivals(io.RawIOBase):
    """The bytes of an answer as they come from the socket, each wait for them limited."""

    def __init__(self, raw: io.RawIOBase, sock: Any, call: Call) -> None:
        self._raw, self._socket, self._call = raw, sock, call
        self._is_over = False
        self.head_left: int | None = MOST_HEAD

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, room: Any) -> int | None:
        if self._is_over:
            return None
        self._call.heed(self._socket)
        count = self._raw.readinto(room)
        if self.head_left is not None:
            self.head_left -= count or 0
            if self.head_left < 0:
                raise http_client.LineTooLong("header")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()

    def left_over(self, buffer: io.BufferedReader) -> bool:
        """Say whether more has come than was read. Nothing is read after this."""
        self._is_over = True  # So that looking into the buffer does not wait for more.
        pending = getattr(self._socket, "pending", None)
        return bool(buffer.peek(1)) or (pending is not None and pending() > 0)


class _Answer(http_client.HTTPResponse):
    """An answer that is given up at its call's deadline, and that ends where it ends.

    Interim answers (``100 Continue``, ``102 Processing``, ``103 Early Hints``) are passed over. What comes
    after the answer belongs to nothing that was asked: the connection is not used again.
    """

    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._call, self._socket = _running_call(), sock
        self._call.answer = self
        self._arrivals = _Arrivals(self.fp.detach(), sock, self._call)
        # In the size that the libraries use: what arrives early is looked for in a buffer of this size.
        self.fp = io.BufferedReader(self._arrivals, io.DEFAULT_BUFFER_SIZE)

    def begin(self) -> None:
        super().begin()
        self._arrivals.head_left, self._call.has_headers = None, True
        # Taken away: the libraries' cookie jars choke on odd ones, and drop what they find expired.
        self._call.cookies = self.headers.get_all("Set-Cookie", [])
        del self.headers["Set-Cookie"]

    def _read_status(self) -> tuple[str, int, str]:
        status: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
        while 100 <= status[1] < 200:
            if status[1] == http_client.SWITCHING_PROTOCOLS:
                raise http_client.BadStatusLine("a change of protocol that nobody has asked for")
            http_client.parse_headers(self.fp)
            status = super()._read_status()  # type: ignore[misc]
        return status

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:
            # Python would take "-1" for: all that there is.
            raise http_client.IncompleteRead(b"")
        return size

    def _read_and_discard_trailer(self) -> None:
        self._arrivals.head_left = MOST_HEAD
        super()._read_and_discard_trailer()  # type: ignore[misc]
        self._arrivals.head_left = None

    def _close_conn(self) -> None:
        try:
            if self._arrivals.left_over(self.fp):
                _hang_up(self._socket)
        except (OSError, ValueError):
            pass  # It is closed already.
        super()._close_conn()  # type: ignore[misc]


class _Connection:
    """What is added to each of the libraries' kinds of connection."""

    response_class = _Answer
    sock: Any
    port: int
    timeout: Any
    _dns_host: str
    socket_options: Any

    def _new_conn(self) -> Any:
        call = _running_call()
        call.stage, call.is_past_proxy = Stage.CONNECTING, call.proxy is None
        is_socks = hasattr(self, "_socks_options")
        sock = super()._new_conn() if is_socks else self._connected(call)  # type: ignore[misc]
        call.stage = Stage.SECURING
        call.heed(sock, CONNECT_TIMEOUT)
        return sock

    def _connected(self, call: Call) -> socket.socket:
        """Return a connection to the first address of the host that takes it: the libraries wait for each."""
        try:
            return self._first_that_answers(call)
        except socket.timeout as error:
            raise urllib3.exceptions.ConnectTimeoutError("no connection in time") from error
        except OSError as error:
            connection: Any = self
            raise urllib3.exceptions.NewConnectionError(connection, "no connection") from error

    def _first_that_answers(self, call: Call) -> socket.socket:
        failure = OSError("no address")
        give_up_at = time.monotonic() + CONNECT_TIMEOUT
        addresses = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            sock = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                left = max(give_up_at - time.monotonic(), 0.001)
                call.heed(sock, left / (len(addresses) - number))
                sock.connect(address)
                return sock
            except OSError as error:
                sock.close()
                failure = error
        raise failure

    def connect(self) -> None:
        call = _running_call()
        super().connect()  # type: ignore[misc]
        call.lines.add(self.sock)
        call.heed_closing()
        call.stage = Stage.ASKING

    def _tunnel(self) -> None:
        call = _running_call()
        call.stage = Stage.TUNNELLING
        try:
            super()._tunnel()  # type: ignore[misc]
        except BaseException:
            if call.answer is not None:
                call.answer.close()  # Python does so itself since 3.11.
            raise
        call.stage, call.is_past_proxy = Stage.SECURING, True
        call.heed(self.sock, CONNECT_TIMEOUT)

    def putrequest(self, *arguments: Any, **options: Any) -> None:
        call = _running_call()
        if self.sock is not None:  # It was used before.
            is_tunnel = getattr(self, "_tunnel_host", None) is not None
            call.stage, call.is_past_proxy = Stage.ASKING, call.proxy is None or is_tunnel
            call.heed(self.sock)
        super().putrequest(*arguments, **options)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        call = _running_call()
        if self.sock is not None:
            call.heed_closing()
            call.heed(self.sock)
        super().send(data)  # type: ignore[misc]


def _hang_up(sock: Any) -> None:
    """Let both sides of a connection see its end, without taking it from the thread that uses it."""
    sock = getattr(sock, "socket", sock)  # Encryption within encryption has the true one inside.
    if isinstance(sock, socket.socket):
        try:
            # Not an encrypted socket's own: from then on that would hand on what comes as it is.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        except OSError:
            pass  # It has ended already.
