"""The server: reads requests from sockets, logs them, and sends replies, well or as badly as a fault asks.

What the replies say is decided elsewhere.
"""

from __future__ import annotations

import logging
import math
import re
import selectors
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from .messages import Body, Reply, Request, refusal
from .options import Options
from .request_log import LogEntry, LoggedRequest, RequestLog, length_of

LOGGER = logging.getLogger("mwa_client.sandbox")
# A server inside another program must not print.
LOGGER.addHandler(logging.NullHandler())

_BURST = 1 << 18
_BURSTS_PER_SECOND = 20
_LONGEST_PAUSE = 86400.0
_LINGER = struct.Struct("ii")

# Any program on this machine can send requests, so there are limits.
MOST_BODY = 1 << 18
"""Bytes of a request's body; an honest one has some hundreds."""
MOST_HEADERS = 1 << 16
"""Bytes of a request's headers."""
MOST_CONNECTIONS = 500
_READING_SECONDS = 30.0
"""Seconds that a request may take to arrive."""
_IDLE_SECONDS = 900.0
"""Seconds that a connection may be silent."""


# --- One connection ----------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    """Serves the requests of one connection, one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _IDLE_SECONDS
    server: Server

    def setup(self) -> None:
        self.request.settimeout(self.timeout)
        # Not where connections are accepted, so that a silent client holds up nobody else.
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            pass  # The client has gone, or the server stops.

    def handle_one_request(self) -> None:
        self.server.expect(self.request, _IDLE_SECONDS)
        super().handle_one_request()

    def parse_request(self) -> bool:
        self.server.expect(self.request, _READING_SECONDS)
        if not super().parse_request():
            return False
        refusal = self._refusal()
        if refusal is not None:
            self.send_error(refusal)  # This closes the connection, whose rest is not read.
        return refusal is None

    def _refusal(self) -> int | None:
        """Return the status for a request that is too large or has no clear end, or None."""
        if length_of(self.headers) > MOST_HEADERS:
            return 431
        if "Transfer-Encoding" in self.headers:
            return 411
        if not re.fullmatch("[0-9]{1,18}", self.headers.get("Content-Length", "0")):
            return 400
        return 413 if int(self.headers.get("Content-Length", "0")) > MOST_BODY else None

    def send_response(self, code: int, message: str | None = None) -> None:
        """Begin a reply; the store sends no ``Server`` header."""
        if not self.server.is_store:
            super().send_response(code, message)
            return
        self.log_request(code)
        self.send_response_only(code, message)
        self.send_header("Date", self.date_time_string())

    def version_string(self) -> str:
        return "mwa_client-sandbox"

    def log_message(self, format: str, *args: Any) -> None:
        LOGGER.debug(format, *args)

    def _serve(self) -> None:
        request = self._read()
        entry = self.server.log_entry(request, self.request)
        try:
            reply = self.server.reply_to(request)
            entry.job_id = reply.job_id
            self._pause(reply.wire.delay)
            if reply.wire.drop:
                self._hang_up(reply.wire.reset)
            else:
                self._send(reply, entry)
        finally:
            entry.close()

    do_GET = do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815

    def _read(self) -> Request:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.expect(self.request, None)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        return Request(self.command, url.path, query, self.headers, body)

    def _send(self, reply: Reply, entry: LogEntry) -> None:
        entry.status = reply.status
        length = None if reply.wire.chunked else reply.body.length
        last = reply.body.length if reply.wire.cut_after is None else reply.wire.cut_after
        if last == 0 or self.command == "HEAD":
            entry.close()
        self._send_head(reply, length)
        if self.command != "HEAD":
            self._send_body(reply, entry, last, in_chunks=length is None)
        if reply.wire.length_error:
            self.close_connection = True

    def _send_head(self, reply: Reply, length: int | None) -> None:
        self.send_response(reply.status)
        if self.server.is_store:
            self.send_header("Connection", "close" if self.close_connection else "Keep-Alive")
        for name, value in reply.headers:
            self.send_header(name, value)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length + reply.wire.length_error))
        self.end_headers()

    def _send_body(self, reply: Reply, entry: LogEntry, last: int | None, *, in_chunks: bool) -> None:
        wire = reply.wire
        rate = self.server.rate if reply.is_product else None
        self.connection.settimeout(self.server.patience or self.timeout)
        began = time.monotonic()
        for burst in _bursts(reply.body, rate, [wire.stall_after, wire.cut_after]):
            if rate is not None:
                self._pause(began + entry.sent / rate - time.monotonic())
            if entry.sent == wire.stall_after:
                self._pause(wire.stall_seconds)
            if entry.sent == wire.cut_after:
                self._hang_up(wire.reset)
                return
            if entry.sent + len(burst) == last:
                # Before the client can have it all: whoever waits for the client finds the entry here.
                entry.close(about_to_send=len(burst))
            self._send_all(b"%x\r\n" % len(burst) + burst + b"\r\n" if in_chunks else burst)
            entry.sent += len(burst)
        if in_chunks:
            entry.close()
            self._send_all(b"0\r\n\r\n")
        self.connection.settimeout(self.timeout)

    def _send_all(self, data: bytes | memoryview) -> None:
        # Not sendall(), whose timeout is for all of it: a client may read slowly, but not stop.
        rest = memoryview(data)
        while rest:
            rest = rest[self.connection.send(rest) :]

    def _pause(self, seconds: float) -> None:
        """Wait, unless the client goes away or the server stops: then the connection becomes readable."""
        if seconds <= 0:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            if selector.select(min(seconds, _LONGEST_PAUSE)):
                raise ConnectionAbortedError("the client has gone")

    def _hang_up(self, reset: bool) -> None:
        self.close_connection = True
        if reset:
            self._let_arrive()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(1, 0))

    def _let_arrive(self) -> None:
        # A reset discards what has not arrived, and the client must get all bytes before the cut.
        deadline = time.monotonic() + 5
        while _bytes_on_the_way(self.connection) and time.monotonic() < deadline:
            self._pause(0.001)


def _bursts(body: Body, rate: float | None, marks: Iterable[int | None]) -> Iterator[memoryview]:
    """Yield the bytes of a body in short bursts, none of which crosses a mark."""
    longest = _BURST if rate is None else max(1, min(_BURST, int(rate / _BURSTS_PER_SECOND)))
    sent = 0
    for piece in body.pieces():
        rest = memoryview(piece)
        while rest:
            to_marks = [mark - sent for mark in marks if mark is not None and mark > sent]
            burst = rest[: min([longest, *to_marks])]
            yield burst
            sent += len(burst)
            rest = rest[len(burst) :]


def _bytes_on_the_way(connection: socket.socket) -> int:
    """Return how many bytes are not acknowledged; 0 if the system does not tell."""
    if not sys.platform.startswith("linux"):
        return 0
    import fcntl
    import termios

    return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0\0\0\0"))[0])


def _shut_down(connection: socket.socket) -> None:
    """Shut a connection down that another thread may be using."""
    try:
        # Not SSLSocket.shutdown, which would break the thread that reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        pass  # It has ended by itself.


# --- All connections ---------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Listens on the loopback interface and serves each connection in a thread of its own.

    Parameters
    ----------
    port : int
        Port to listen on; 0 takes a free one.
    answer : Callable
        Gives the reply to a request.
    log : RequestLog
        Where requests are logged.
    options : Options
        Among them the rate, the clock and the TLS settings.
    is_store : bool
        Be the object store.

    Attributes
    ----------
    rate : float or None
        Bytes a second for each reply that carries a product.
    patience : float or None
        Seconds after which a client that has stopped reading is dropped.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        port: int,
        answer: Callable[[Request], Reply],
        log: RequestLog,
        options: Options,
        *,
        is_store: bool = False,
    ) -> None:
        self.is_store = is_store
        self.patience = options.store_patience if is_store else None
        self.rate = options.rate
        self._log = log
        self._options = options
        self._answer = answer
        self._connections: dict[Any, tuple[int, threading.Thread]] = {}
        self._due: dict[Any, float] = {}
        self._accepted = 0
        self._lock = threading.Lock()
        self._loop = threading.Thread(target=self.serve_forever, args=(0.05,), name="sandbox", daemon=True)
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def start(self) -> None:
        """Serve, in the background."""
        self._loop.start()

    def stop(self) -> None:
        """Close all connections, at whatever point they are, and stop listening."""
        _shut_down(self.socket)  # It wakes the loop, which would notice a little later by itself.
        self.shutdown()
        self.server_close()
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            _shut_down(connection)
        deadline = time.monotonic() + 5
        for thread in [self._loop, *(thread for _, thread in connections.values())]:
            thread.join(max(0, deadline - time.monotonic()))

    def reply_to(self, request: Request) -> Reply:
        """Return the reply to a request, whatever happens."""
        try:
            return self._answer(request)
        except Exception:
            LOGGER.exception("%s %s", request.method, request.path)
            return refusal(500, "The practice service has a bug")

    def log_entry(self, request: Request, connection: Any) -> LogEntry:
        """Return the open log entry of a request; connections are numbered from 1."""
        number = self._connections[connection][0]
        return LogEntry(
            self._log,
            LoggedRequest(
                **vars(request), started=self._options.clock(), connection=number, store=self.is_store
            ),
        )

    def expect(self, connection: Any, seconds: float | None) -> None:
        """Close a connection that sends nothing for so many seconds; None for no limit."""
        with self._lock:
            self._due[connection] = math.inf if seconds is None else time.monotonic() + seconds

    # --- How socketserver wants it -------------------------------------------------------------------

    def server_bind(self) -> None:
        """Bind, without looking up the host's name as HTTPServer does: that can take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.port

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection."""
        connection, address = super().get_request()
        context = self._options.ssl_context
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def service_actions(self) -> None:
        """Hang up connections that are overdue; called several times a second."""
        with self._lock:
            late = [connection for connection, due in self._due.items() if due < time.monotonic()]
        for connection in late:
            _shut_down(connection)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take no more connections than there are threads for."""
        return len(self._connections) < MOST_CONNECTIONS

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection."""
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), name="sandbox", daemon=True
        )
        with self._lock:
            self._accepted += 1
            self._connections[request] = self._accepted, thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, in order unless it is set to be reset."""
        linger = request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size)
        if _LINGER.unpack(linger)[0]:
            self.close_request(request)
        else:
            super().shutdown_request(request)
        with self._lock:
            self._connections.pop(request, None)
            self._due.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log an error of a connection; the base class would print it."""
        LOGGER.debug("a connection of %s ended", client_address, exc_info=True)
