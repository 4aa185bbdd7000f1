"""What is asked and what is answered: requests and replies, before and after they are bytes on a socket.

A reply also says how it goes over the wire, so that a fault is a change to a reply and nothing more.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from email.message import Message
from http.cookies import CookieError, SimpleCookie
from typing import Any, Protocol
from urllib.parse import parse_qsl


class Call(enum.Enum):
    """What a request is for, whichever interface it speaks."""

    LOGIN = "login"
    SUBMIT = "submit"
    LIST = "list"
    CANCEL = "cancel"
    PRODUCT = "product"
    OTHER = "other"


@dataclass(frozen=True)
class Request:
    """One request. `query` and `form` keep the last value of a key that is given twice."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Message
    body: bytes = b""

    @property
    def form(self) -> dict[str, str]:
        """The body's keys and values, when it is a form."""
        if self.headers.get_content_type() != "application/x-www-form-urlencoded":
            return {}
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def cookie(self, name: str) -> str | None:
        """Return the value of a cookie, or None."""
        try:
            morsel = SimpleCookie(self.headers.get("Cookie", "")).get(name)
        except CookieError:
            return None
        return morsel.value if morsel else None


@dataclass(frozen=True)
class Target:
    """What a request is about; faults are aimed with it."""

    path: str
    call: Call
    job_id: int | None = None
    obs_id: str | None = None


class Body(Protocol):
    """What a reply carries; `length` is None when it is not known beforehand."""

    @property
    def length(self) -> int | None:
        """Length in bytes."""

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes."""


@dataclass(frozen=True)
class Text:
    """A body that is held in memory."""

    data: bytes

    @property
    def length(self) -> int:
        """Length in bytes."""
        return len(self.data)

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes."""
        if self.data:
            yield self.data


@dataclass(frozen=True)
class Wire:
    """How a reply goes over the wire. The default is good behaviour.

    Attributes
    ----------
    delay : float
        Seconds of silence before the reply.
    drop : bool
        Hang up and send no reply at all.
    chunked : bool
        Send chunks and no ``Content-Length``.
    length_error : int
        How far ``Content-Length`` is from the truth, in bytes.
    stall_after, stall_seconds : int or None, float
        Say nothing for so long when so many bytes of the body are sent.
    cut_after : int or None
        Hang up when so many bytes of the body are sent.
    reset : bool
        Hang up with a reset instead of an orderly end.
    """

    delay: float = 0.0
    drop: bool = False
    chunked: bool = False
    length_error: int = 0
    stall_after: int | None = None
    stall_seconds: float = 0.0
    cut_after: int | None = None
    reset: bool = False


@dataclass(frozen=True)
class Reply:
    """One reply. ``Content-Length`` is not among the headers: it follows from the body and the wire.

    Attributes
    ----------
    status : int
        HTTP status.
    headers : tuple of pairs of str
        Header lines.
    body : Body
        What it carries.
    wire : Wire
        How it is sent.
    job_id : int or None
        The job that it is about.
    is_product : bool
        Whether it carries bytes of a product.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: Body
    wire: Wire = Wire()
    job_id: int | None = None
    is_product: bool = False

    def with_header(self, name: str, value: str | None) -> Reply:
        """Return this reply with a header set, or left out when `value` is None."""
        others = tuple(header for header in self.headers if header[0].lower() != name.lower())
        return replace(self, headers=others if value is None else (*others, (name, value)))

    def on_wire(self, **changes: Any) -> Reply:
        """Return this reply, sent in another way; see `Wire`."""
        return replace(self, wire=replace(self.wire, **changes))


def text_reply(status: int, text: str, content_type: str = "text/plain") -> Reply:
    """Return a reply that carries some text."""
    return Reply(status, (("Content-Type", f"{content_type}; charset=utf-8"),), Text(text.encode()))


def json_reply(status: int, document: object) -> Reply:
    """Return a reply that carries a JSON document."""
    return Reply(status, (("Content-Type", "application/json"),), Text(json.dumps(document).encode()))


def refusal(status: int, why: str) -> Reply:
    """Return a reply that says no."""
    return json_reply(status, {"error": why})
