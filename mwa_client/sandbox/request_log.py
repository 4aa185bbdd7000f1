"""The log of requests: what was asked, by which connection, and what was sent."""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from email.message import Message
from pathlib import Path
from typing import Any

from mwa_client.light_dataclasses import dataclass

from .messages import Request

_SECRET = re.compile("pass|pwd|key|token|secret|signature", re.IGNORECASE)
MOST_LOGGED = 64 << 20
"""Bytes of requests that are kept in memory; the oldest are forgotten."""


@dataclass(frozen=True)
class LoggedRequest(Request):
    """One request and its reply; logged when the reply has ended or the connection broke.

    Attributes
    ----------
    status : int or None
        Status of the reply; None if not even that was sent.
    body_bytes_sent : int
        Bytes of the reply's body that were handed to the network.
    job_id : int or None
        The job that was asked about or made.
    started : float
        When the request came in, by the sandbox's clock.
    connection : int
        Number of the connection that it came by; service and object store count each for itself.
    store : bool
        Whether the object store was asked, not the service.
    """

    status: int | None = None
    body_bytes_sent: int = 0
    job_id: int | None = None
    started: float = 0.0
    connection: int = 0
    store: bool = False

    @property
    def range(self) -> str | None:
        """The ``Range`` header."""
        return self.headers.get("Range")

    @property
    def size(self) -> int:
        """Bytes of memory that it takes, roughly."""
        return 2000 + len(self.path) + 20 * len(self.body) + 2 * length_of(self.headers)


class RequestLog:
    """All requests, in memory and, without credentials, in a file of one JSON object a line."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._entries: deque[LoggedRequest] = deque()
        self._size = 0
        self._lock = threading.Lock()

    def append(self, entry: LoggedRequest) -> None:
        """Add one request."""
        with self._lock:
            self._entries.append(entry)
            self._size += entry.size
            while self._size > MOST_LOGGED:
                self._size -= self._entries.popleft().size
            if self._file is not None:
                with self._file.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(_without_credentials(entry)) + "\n")

    def entries(self) -> list[LoggedRequest]:
        """Return the requests so far."""
        with self._lock:
            return list(self._entries)

    def clear(self) -> None:
        """Forget the requests; the file stays."""
        with self._lock:
            self._entries.clear()
            self._size = 0


def _without_credentials(entry: LoggedRequest) -> dict[str, Any]:
    return {
        "time": round(entry.started, 3),
        "method": entry.method,
        "path": entry.path,
        "query": _masked(entry.query),
        "form": _masked(entry.form),
        "json": _masked(entry.json) if isinstance(entry.json, dict) else entry.json,
        "user_agent": entry.headers.get("User-Agent"),
        "range": entry.range,
        "status": entry.status,
        "body_bytes_sent": entry.body_bytes_sent,
        "job_id": entry.job_id,
        "connection": entry.connection,
        "store": entry.store,
    }


def _masked(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: "***" if _SECRET.search(key) else value for key, value in values.items()}


class LogEntry:
    """The entry of a request that is being answered. It is logged once, with what is known by then.

    Attributes
    ----------
    status, job_id : int or None
        As in `LoggedRequest`.
    sent : int
        Bytes of the body sent so far.
    """

    def __init__(self, log: RequestLog, request: LoggedRequest) -> None:
        self.status: int | None = None
        self.job_id: int | None = None
        self.sent = 0
        self._log = log
        self._request = request
        self._is_closed = False

    def close(self, about_to_send: int = 0) -> None:
        """Log the request, unless it is logged already."""
        if not self._is_closed:
            self._is_closed = True
            sent = self.sent + about_to_send
            self._log.append(
                replace(self._request, status=self.status, body_bytes_sent=sent, job_id=self.job_id)
            )


def length_of(headers: Message) -> int:
    """Return the length of all headers, in characters."""
    return sum(len(name) + len(value) for name, value in headers.items())
