"""One request and its answer while it runs: its deadline, how far it has come, and how to abort it."""

from __future__ import annotations

import enum
import http.client as http_client
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mwa_client.asvo.proxies import Proxy


class CallStage(enum.Enum):
    """How far a call has come. Error messages depend on it."""

    CONNECTING = "a connection is being made"
    TUNNELLING = "the proxy is asked to connect to the service"
    SECURING = "the connection is being encrypted"
    ASKING = "the request is being sent, or its answer received"


class OpenSockets:
    """The open sockets of one `HttpClient`, so that another thread can end every call that uses them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[Any] = weakref.WeakSet()
        self.closings = 0
        """How many times `close` was called: a call that began before the last time has been ended by it."""

    def add(self, sock: Any) -> None:
        """Add a socket that has just been connected."""
        with self._lock:
            self._sockets.add(sock)

    def close(self) -> None:
        """Shut every connection down, which ends the calls that run over them, in whichever thread."""
        with self._lock:
            self.closings += 1
            sockets = list(self._sockets)
        for sock in sockets:
            shut_down(sock)


class HttpCall:
    """One request and its answer.

    Parameters
    ----------
    address : str
        The server's address as messages show it.
    deadline : float
        When the call must be over, on the monotonic clock.
    silence : float
        Seconds without a byte after which the call is given up before its deadline.
    sockets : OpenSockets
        Where the call's connection is registered.
    answered : set of str
        The addresses (of servers and proxies) that have ever answered.

    Attributes
    ----------
    address, silence, sockets
        As given.
    proxy : Proxy or None
        The proxy that the request goes through.
    stage : CallStage
        How far the call has come.
    is_past_proxy : bool
        The other end of the connection is the service itself.
    cookies : list of str
        The ``Set-Cookie`` headers of the answer.
    answer : http.client.HTTPResponse or None
        The answer that is being read.
    may_be_stale : bool
        The connection was kept alive, and no byte has come since: the server may have just closed it.
    has_headers : bool
        The headers of the answer have arrived.
    """

    def __init__(
        self, address: str, deadline: float, silence: float, sockets: OpenSockets, answered: set[str]
    ) -> None:
        self.address = address
        self.silence = silence
        self.sockets = sockets
        self.proxy: Proxy | None = None
        self.stage = CallStage.CONNECTING
        self.is_past_proxy = False
        self.cookies: list[str] = []
        self.answer: http_client.HTTPResponse | None = None
        self.may_be_stale = self.has_headers = False
        self._answered = answered
        self._closings = sockets.closings
        self._deadline: float | None = deadline
        self._socket: Any = None

    @property
    def has_deadline(self) -> bool:
        """Whether the call must be over at some time even if bytes keep coming."""
        return self._deadline is not None

    @property
    def is_closed(self) -> bool:
        """Whether all connections were closed since the call began."""
        return self.sockets.closings > self._closings

    def raise_if_closed(self) -> None:
        """Raise ``ConnectionAbortedError`` if all connections were closed since the call began."""
        if self.is_closed:
            raise ConnectionAbortedError

    def limit_wait(self, sock: Any, most: float = float("inf")) -> None:
        """Set a socket's time-out so that its next wait ends with the call at the latest.

        Raises
        ------
        socket.timeout
            The deadline has passed.
        """
        self._socket = sock  # `remove_deadline` and `abort` need the socket that is used now.
        if self._deadline is None:
            return
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        sock.settimeout(min(left, self.silence, most))

    def remove_deadline(self) -> None:
        """Limit only silence from now on: a product may take its time as long as bytes come."""
        self._deadline = None
        try:
            if self._socket is not None:
                self._socket.settimeout(self.silence)
        except OSError:
            pass  # The socket is closed already; the next read will notice.

    def hurry(self, seconds: float, silence: float) -> None:
        """Let the call be over in so many seconds, and be given up after so many of silence."""
        self._deadline, self.silence = time.monotonic() + seconds, min(self.silence, silence)

    def abort(self) -> None:
        """End the call from another thread, as if the server had closed the connection."""
        self.may_be_stale = False
        if self._socket is not None:
            shut_down(self._socket)

    def note_answer(self) -> None:
        """Remember that this server, or its proxy, answers: a later failure is no mistake in the settings."""
        self._answered.add(self.address)
        if self.proxy is not None:
            self._answered.add(self.proxy.place)

    def has_answered(self, address: str) -> bool:
        """Say whether an address has ever answered."""
        return address in self._answered


# --- The call of a thread ------------------------------------------------------------------------------


class _Current(threading.local):
    call: HttpCall | None = None


_CURRENT = _Current()
_UNANSWERED: dict[threading.Thread, HttpCall] = {}


@contextmanager
def running(call: HttpCall) -> Iterator[None]:
    """Make `call` the one that the connections used by this thread belong to."""
    _CURRENT.call = call
    _UNANSWERED[threading.current_thread()] = call
    try:
        yield
    finally:
        _CURRENT.call = None
        _UNANSWERED.pop(threading.current_thread(), None)


def current_call() -> HttpCall:
    """Return the call that this thread is making."""
    call = _CURRENT.call
    assert call is not None, "connections are used within a call"
    return call


def abort_call_of(thread: threading.Thread) -> None:
    """End the call that another thread is making, if its answer has not begun."""
    call = _UNANSWERED.get(thread)
    if call is not None:
        call.abort()


def shut_down(sock: Any) -> None:
    """Let both sides of a connection see its end, without closing the socket that a thread is using."""
    sock = getattr(sock, "socket", sock)  # TLS within TLS holds the real socket inside.
    if isinstance(sock, socket.socket):
        try:
            # Not SSLSocket.shutdown: after that the socket would hand on encrypted bytes as they are.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        except OSError:
            pass  # The connection has ended already.
