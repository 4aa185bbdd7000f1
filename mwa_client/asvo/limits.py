"""The HTTP libraries' connections and answers, extended by one deadline for a whole call.

The libraries limit each single read and nothing else: a server that sends a byte a second, or headers
without end, would never be given up. The deadline holds wherever a call is: connecting, behind a proxy, in
a handshake, in headers or in the body.
"""

from __future__ import annotations

import functools
import http.client as http_client
import io
import socket
import time
from typing import Any

import requests
import urllib3

from mwa_client.asvo.call import CallStage, HttpCall, current_call, shut_down

CONNECT_TIMEOUT = 20.0
"""Seconds for a connection to be made."""
MOST_HEAD = 1 << 18
"""Bytes that may come before the body: interim answers, status line and headers."""


class LimitedAdapter(requests.adapters.HTTPAdapter):
    """Makes the connections of a `requests` session, with limits."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(*arguments, **options)
        _limit_pools(self.poolmanager)

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        """Return the pools of connections through a proxy."""
        manager = super().proxy_manager_for(*arguments, **options)
        _limit_pools(manager)
        return manager

    def close(self) -> None:
        """Close the connections that no call uses; the library leaves open what an error still refers to."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118  The library's mapping cannot be iterated over.
                pool = manager.pools.get(key)
                if pool is not None:
                    pool.close()
        super().close()


def _limit_pools(manager: Any) -> None:
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _limited_pool(pool) for scheme, pool in pools.items()}


@functools.cache
def _limited_pool(pool: type[Any]) -> type[Any]:
    """Return a class of connection pools whose connections keep to the limits of the current call."""
    if issubclass(pool.ConnectionCls, _LimitedConnection):
        return pool
    connection = type("LimitedConnection", (_LimitedConnection, pool.ConnectionCls), {})
    return type("LimitedPool", (pool,), {"ConnectionCls": connection})


class _LimitedInput(io.RawIOBase):
    """The bytes of an answer as they come from the socket; no wait for them outlasts the call."""

    def __init__(self, raw: io.RawIOBase, sock: Any, call: HttpCall) -> None:
        self._raw, self._socket, self._call = raw, sock, call
        self._is_stopped = False
        self.head_left: int | None = MOST_HEAD

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: Any) -> int | None:
        if self._is_stopped:
            return None
        self._call.limit_wait(self._socket)
        count = self._raw.readinto(buffer)
        if count:
            self._call.may_be_stale = False
        if self.head_left is not None:
            self.head_left -= count or 0
            if self.head_left < 0:
                raise http_client.LineTooLong("header")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()

    def has_more(self, reader: io.BufferedReader) -> bool:
        """Say whether more has arrived than was read by `reader`. Nothing is read after this."""
        self._is_stopped = True  # So that peek() does not wait for more.
        pending = getattr(self._socket, "pending", None)
        return bool(reader.peek(1)) or (pending is not None and pending() > 0)


class _LimitedResponse(http_client.HTTPResponse):
    """An answer that is given up at its call's deadline, and that nothing may follow.

    Interim answers (``100 Continue``, ``102 Processing``, ``103 Early Hints``) are skipped. Bytes after the
    end of an answer belong to no request of ours: a connection that brought some is not used again.
    """

    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._call, self._socket = current_call(), sock
        self._call.answer = self
        self._input = _LimitedInput(self.fp.detach(), sock, self._call)
        # The size that the libraries use: StreamedResponse looks for early bytes in a buffer of this size.
        self.fp = io.BufferedReader(self._input, io.DEFAULT_BUFFER_SIZE)

    def begin(self) -> None:
        super().begin()
        self._input.head_left, self._call.has_headers = None, True
        # Removed here: the libraries' cookie jars fail on odd ones and drop what they take for expired.
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
            # Python would read "-1" as: everything there is.
            raise http_client.IncompleteRead(b"")
        return size

    def _read_and_discard_trailer(self) -> None:
        self._input.head_left = MOST_HEAD
        super()._read_and_discard_trailer()  # type: ignore[misc]
        self._input.head_left = None

    def _close_conn(self) -> None:
        try:
            if self._input.has_more(self.fp):
                shut_down(self._socket)
        except (OSError, ValueError):
            pass  # The answer is closed already.
        super()._close_conn()  # type: ignore[misc]


class _LimitedConnection:
    """Added to each of the libraries' classes of connections, to keep to the limits of the current call."""

    response_class = _LimitedResponse
    sock: Any
    port: int
    timeout: Any
    _dns_host: str
    socket_options: Any

    def _new_conn(self) -> Any:
        call = current_call()
        call.stage, call.is_past_proxy = CallStage.CONNECTING, call.proxy is None
        call.may_be_stale = False
        is_socks = hasattr(self, "_socks_options")
        sock = super()._new_conn() if is_socks else self._open_socket(call)  # type: ignore[misc]
        call.stage = CallStage.SECURING
        call.limit_wait(sock, CONNECT_TIMEOUT)
        return sock

    def _open_socket(self, call: HttpCall) -> socket.socket:
        """Return a socket connected to the host; each of its addresses gets a share of `CONNECT_TIMEOUT`."""
        try:
            return self._connect_to_first(call)
        except socket.timeout as error:
            raise urllib3.exceptions.ConnectTimeoutError("no connection in time") from error
        except OSError as error:
            connection: Any = self
            raise urllib3.exceptions.NewConnectionError(connection, "no connection") from error

    def _connect_to_first(self, call: HttpCall) -> socket.socket:
        failure = OSError("no address")
        give_up_at = time.monotonic() + CONNECT_TIMEOUT
        addresses = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            sock = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                left = max(give_up_at - time.monotonic(), 0.001)
                call.limit_wait(sock, left / (len(addresses) - number))
                sock.connect(address)
                return sock
            except OSError as error:
                sock.close()
                failure = error
        raise failure

    def connect(self) -> None:
        call = current_call()
        super().connect()  # type: ignore[misc]
        call.sockets.add(self.sock)
        call.raise_if_closed()
        call.stage = CallStage.ASKING

    def _tunnel(self) -> None:
        call = current_call()
        call.stage = CallStage.TUNNELLING
        try:
            super()._tunnel()  # type: ignore[misc]
        except BaseException:
            if call.answer is not None:
                call.answer.close()  # Python 3.11 and later do so themselves.
            raise
        call.stage, call.is_past_proxy = CallStage.SECURING, True
        call.limit_wait(self.sock, CONNECT_TIMEOUT)

    def putrequest(self, *arguments: Any, **options: Any) -> None:
        call = current_call()
        if self.sock is not None:  # A kept-alive connection.
            is_tunnel = getattr(self, "_tunnel_host", None) is not None
            is_older = call.stage is CallStage.CONNECTING  # For none was made for this call.
            call.stage, call.is_past_proxy = CallStage.ASKING, call.proxy is None or is_tunnel
            call.may_be_stale = is_older
            call.limit_wait(self.sock)
        super().putrequest(*arguments, **options)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        call = current_call()
        if self.sock is not None:
            call.raise_if_closed()
            call.limit_wait(self.sock)
        super().send(data)  # type: ignore[misc]
