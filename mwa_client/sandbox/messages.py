"""Requests and replies, apart from the bytes on a socket that carry them.

A reply also says how it goes over the wire, so that a fault is a change to a reply and nothing more.
"""

from __future__ import annotations

import base64
import binascii
import enum
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from email.message import Message
from http.cookies import CookieError, SimpleCookie
from typing import Any, Protocol
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from mwa_client.light_dataclasses import dataclass

from .interfaces import Interface

_REQUEST_ID = "x-amz-request-id"


class Call(enum.Enum):
    """What a request is for, whichever interface it speaks."""

    LOGIN = "login"
    REFRESH = "refresh"
    SUBMIT = "submit"
    LIST = "list"
    JOB = "job"
    CANCEL = "cancel"
    OBSERVATION = "observation"
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
        """The keys and values of a body that is a form."""
        if self.headers.get_content_type() != "application/x-www-form-urlencoded":
            return {}
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    @property
    def json(self) -> Any:
        """The value of a body that is JSON; None for another body."""
        if self.headers.get_content_type() != "application/json":
            return None
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User name and password by HTTP Basic."""
        scheme, _, encoded = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return (user, password) if colon else None

    def cookie(self, name: str) -> str | None:
        """Return the value of a cookie, or None."""
        try:
            morsel = SimpleCookie(self.headers.get("Cookie", "")).get(name)
        except CookieError:
            return None
        return morsel.value if morsel else None


@dataclass(frozen=True)
class Target:
    """What a request is about. Faults choose by it what they strike.

    Attributes
    ----------
    path : str
        Path of the request.
    call : Call
        What it is for.
    job_id, obs_id : int or None, str or None
        The job, the observation that it is about.
    interface : Interface
        How it is spoken; the shape of a refusal follows.
    client : str or None
        For a login with a key, the client's name and version.
    delivery : str or None
        For a submission, where the product is to go.
    """

    path: str
    call: Call
    job_id: int | None = None
    obs_id: str | None = None
    interface: Interface = Interface.V2018
    client: str | None = None
    delivery: str | None = None


class Body(Protocol):
    """The body of a reply; `length` is None if it is not known beforehand."""

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
    """How a reply is sent. The default is as it should be.

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

    def with_cookie(self, name: str, value: str, *, max_age: int | None = None) -> Reply:
        """Return this reply with one more cookie to be set."""
        age = "" if max_age is None else f"; Max-Age={max_age}"
        return replace(
            self, headers=(*self.headers, ("Set-Cookie", f"{name}={value}; Path=/{age}; HttpOnly"))
        )

    def on_wire(self, **changes: Any) -> Reply:
        """Return this reply with a changed `Wire`."""
        return replace(self, wire=replace(self.wire, **changes))


@dataclass(frozen=True)
class JsonAnswer:
    """A status and the JSON object that goes with it."""

    status: int
    document: dict[str, Any]


def text_reply(status: int, text: str, content_type: str = "text/plain") -> Reply:
    """Return a reply that carries some text."""
    return Reply(status, (("Content-Type", f"{content_type}; charset=utf-8"),), Text(text.encode()))


def json_reply(status: int, document: object) -> Reply:
    """Return a reply that carries a JSON document."""
    return Reply(status, (("Content-Type", "application/json"),), Text(json.dumps(document).encode()))


def refusal(
    status: int,
    why: str,
    interface: Interface = Interface.V2018,
    *,
    v1: int | None = None,
    v2: str = "REFUSED",
    **more: Any,
) -> Reply:
    """Return a refusal in the form of an interface.

    Parameters
    ----------
    status : int
        HTTP status.
    why : str
        The reason, for people.
    interface : Interface, optional
        Whose shape; 2018 knows no codes.
    v1 : int, optional
        What v1 gives as ``error_code``.
    v2 : str, optional
        What v2 gives as ``error_code``.
    **more
        What else today's interfaces say.
    """
    if interface is Interface.V1:
        code = {} if v1 is None else {"error_code": v1}
        return json_reply(status, {"error": why, **code, **more})
    if interface is Interface.V2:
        document = {"error_code": v2, "message": why, **more, "request_id": secrets.token_hex(8)}
        return json_reply(status, document)
    if interface is Interface.STORE:
        return xml_refusal(status, v2, why)
    return json_reply(status, {"error": why})


def xml_refusal(status: int, code: str, why: str = "") -> Reply:
    """Return a refusal of an object store; the archive's gives a code and leaves the message empty."""
    request_id = _request_id()
    said = f"<Code>{escape(code)}</Code><Message>{escape(why)}</Message>"
    where = f"<RequestId>{request_id}</RequestId><HostId>practice</HostId>"
    text = f'<?xml version="1.0" encoding="UTF-8"?><Error>{said}{where}</Error>'
    reply = Reply(status, (("Content-Type", "application/xml"),), Text(text.encode()))
    return of_the_store(reply.with_header(_REQUEST_ID, request_id))


def of_the_store(reply: Reply) -> Reply:
    """Return a reply with the headers that the object store puts on every reply."""
    if not any(name == _REQUEST_ID for name, _ in reply.headers):
        reply = reply.with_header(_REQUEST_ID, _request_id())
    return reply.with_header("Accept-Ranges", "bytes")


def _request_id() -> str:
    return f"tx{secrets.token_hex(16)}-default"
