"""The body of a download, received piece by piece into the reader's own memory."""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import Mapping
from http import client as http_client
from typing import Callable

import requests
import urllib3

from mwa_client.asvo.call import HttpCall
from mwa_client.asvo.http_errors import errors_explained

READ_WITHOUT_READ1 = 1 << 14
"""Bytes per read with urllib3 before 2.2, which loses a half-filled buffer if the connection breaks."""
COPY_SIZE = 1 << 18
"""Bytes per read at most, where the libraries make the buffer and it has to be copied."""
POLL_INTERVAL = 1.0
"""Seconds without a byte after which `read_into` returns, so that its caller can do something else."""
TLS_RECORDS = 16
"""TLS records (at most 16 kB each) that one read may take."""


class StreamedResponse:
    """An answer whose body is read piece by piece.

    Attributes
    ----------
    status : int
        The HTTP status.
    headers : mapping
        The headers; names in any case.
    """

    def __init__(
        self,
        response: requests.Response,
        call: HttpCall,
        stall: float,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._response = response
        self._on_close = on_close
        self._call = call
        self._stall = stall
        self._direct: _DirectReader | None = None
        self._is_begun = False
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers

    def read_into(self, buffer: memoryview) -> int | None:
        """Receive into `buffer`; return the number of bytes, 0 at the end, None if none have come yet.

        Returns as soon as there are bytes, and after `POLL_INTERVAL` if there are none.

        Raises
        ------
        ServiceUnavailable
            The connection broke or nothing came for too long.
        """
        if not self._is_begun:
            self._is_begun = True
            self._direct = _DirectReader.of(self._response.raw, self._stall)
        if self._direct is not None:
            with errors_explained(self._call):
                return self._direct.read_into(buffer)
        data = self.read(min(len(buffer), COPY_SIZE))
        buffer[: len(data)] = data
        return len(data)

    def read(self, most: int) -> bytes:
        """Return what has arrived, at most `most` bytes; ``b""`` at the end.

        Raises
        ------
        ServiceUnavailable
            The connection broke or nothing came for too long.
        """
        raw = self._response.raw
        with errors_explained(self._call):
            if hasattr(raw, "read1"):
                return bytes(raw.read1(most, decode_content=False))
            return bytes(raw.read(min(most, READ_WITHOUT_READ1), decode_content=False))

    def hurry(self, seconds: float) -> None:
        """Let the body break off if it is not there in so many seconds, or nothing comes for a moment."""
        self._call.hurry(seconds, POLL_INTERVAL)

    def close(self) -> None:
        """Drop the connection. Safe to call twice, and from another thread."""
        self._response.close()
        on_close, self._on_close = self._on_close, lambda: None
        on_close()


class _DirectReader:
    """Receives the body of a plain answer from the socket, past the HTTP libraries.

    The libraries would copy each byte twice, and lose what has arrived when a read times out.
    """

    def __init__(
        self, raw: urllib3.HTTPResponse, http: http_client.HTTPResponse, socket: socket.socket, stall: float
    ) -> None:
        self._raw, self._http, self._socket = raw, http, socket
        self._left = http.length or 0
        self._stall, self._silence = stall, 0.0
        self._interval = min(POLL_INTERVAL, stall)
        self._records = TLS_RECORDS if isinstance(socket, ssl.SSLSocket) else 1
        self._buffered: memoryview | None = None

    @classmethod
    def of(cls, raw: urllib3.HTTPResponse, stall: float) -> _DirectReader | None:
        """Return a reader for an answer, or None if its body or the library does not allow one."""
        http = getattr(raw, "_fp", None)
        socket = getattr(getattr(raw, "connection", None), "sock", None)
        if not isinstance(http, http_client.HTTPResponse) or socket is None:
            return None
        return cls(raw, http, socket, stall) if http.fp and http.length and not http.chunked else None

    def read_into(self, buffer: memoryview) -> int | None:
        buffer = buffer[: self._left]
        if not buffer:
            return 0
        try:
            count = self._take_buffered(buffer) or self._receive(buffer)
        except socket.timeout:
            self._silence += self._interval
            if self._silence >= self._stall:
                raise
            return None
        if not count:
            raise ConnectionError  # The server closed the connection before the end.
        self._silence = 0.0
        self._left -= count
        if not self._left:
            self._http.close()
            self._raw.release_conn()
        return count

    def _take_buffered(self, buffer: memoryview) -> int:
        """Copy what arrived together with the headers and stands in the library's buffer."""
        if self._buffered is None:
            self._buffered = memoryview(b"")  # If this read times out, the library's buffer was empty.
            self._socket.settimeout(self._interval)
            self._buffered = memoryview(self._http.fp.read1(min(self._left, io.DEFAULT_BUFFER_SIZE)))
        count = min(len(buffer), len(self._buffered))
        buffer[:count], self._buffered = self._buffered[:count], self._buffered[count:]
        return count

    def _receive(self, buffer: memoryview) -> int:
        count = self._socket.recv_into(buffer)
        try:
            for _ in range(1, self._records):
                if not 0 < count < len(buffer):
                    break
                more = self._socket.recv_into(buffer[count:])
                if not more:
                    break
                count += more
        except OSError:
            pass  # Keep what has arrived; the next read meets the same error.
        return count
