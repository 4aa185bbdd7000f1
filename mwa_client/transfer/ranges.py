"""Bytes in order, from one connection: ask for what is missing, and check that this is what comes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Protocol

from mwa_client.errors import (
    LoginRefused,
    MwaClientError,
    ServiceRefused,
    ServiceUnavailable,
    SessionLost,
    TransferFailed,
)
from mwa_client.light_dataclasses import dataclass
from mwa_client.timing import retry_after

LEAST_ANSWER = 1024
"""Bytes of a range that must come at least, if it has more: nobody is to be asked once for each byte."""


class Response(Protocol):
    """A server's response, its body not read yet."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; names in any case."""
        ...

    def read_into(self, space: memoryview) -> int | None:
        """Put what has arrived into `space`; return how many bytes, 0 at the end, None for none yet."""
        ...

    def close(self) -> None:
        """Drop the connection."""
        ...


class Source(Protocol):
    """Where a file's bytes come from."""

    def get(self, headers: Mapping[str, str]) -> Response:
        """Ask for the file, or with a ``Range`` header for a range of it.

        Raises
        ------
        ProductGone, ServiceRefused
            It is not to be had any more. What answers as if it were, and is not the server's own word, is no
            more than a failure that passes.
        """
        ...


class WrongAnswer(MwaClientError):
    """The server's answer to a range request cannot be right; asking again may help."""


class EmptyRange(WrongAnswer):
    """The server has no byte at the place asked for, and does not say how many it has."""


class WrongSize(MwaClientError):
    """The server has a file of another size than the service says."""


@dataclass(frozen=True)
class RangeResponse:
    """A server's response to a range request, checked: which bytes of the file it sends.

    Attributes
    ----------
    start : int
        Where in the file they begin. Zero where the server sends the whole file although a range was
        asked for.
    end : int or None
        Where they end (exclusive); None where the server does not say.
    size : int or None
        The size of the whole file, as the server has it.
    etag : str
        The server's strong ETag for the file; empty where it gives none.
    """

    start: int
    end: int | None
    size: int | None
    etag: str
    response: Response

    @property
    def takes_ranges(self) -> bool:
        """Whether the server says that it can send a part of the file."""
        units = self.response.headers.get("Accept-Ranges", "")
        return self.response.status == 206 or units.strip().lower() == "bytes"

    @property
    def tells_length(self) -> bool:
        """Whether the server says how much it sends."""
        return self.response.status != 200 or _length(self.response.headers) is not None

    def peek(self, most: int) -> tuple[bytes, RangeResponse]:
        """Return the first bytes of the body, and a response that still has them.

        Raises
        ------
        ServiceUnavailable
            The connection broke or stalled.
        """
        seen, space = 0, memoryview(bytearray(most))
        while seen < most:
            count = self.response.read_into(space[seen:])
            if count == 0:
                break
            seen += count or 0
        return bytes(space[:seen]), dataclasses.replace(
            self, response=_PeekedResponse(self.response, space[:seen])
        )

    def copy_into(self, space: Callable[[], memoryview]) -> Iterator[int]:
        """Put the bytes, as they arrive, into the memory that `space` returns; yield how many each time.

        That is 0 when none came for a moment.

        Raises
        ------
        ServiceUnavailable
            The connection broke or stalled.
        WrongSize
            More bytes came than the server had promised.
        """
        position = self.start
        while self.end is None or position < self.end:
            free = space() if self.end is None else space()[: self.end - position]
            count = self.response.read_into(free)
            if count == 0:
                break
            position += count or 0
            yield count or 0
        if self.end is not None and position < self.end:
            raise ServiceUnavailable("The connection closed early.")
        # What follows a range says nothing of the file, and a chunked answer may never say that it is over.
        if self.response.status != 206 and self.response.read_into(memoryview(bytearray(1))):
            raise WrongSize("The server sent more bytes than the file has.")


@contextmanager
def open_range(
    source: Source, start: int, size: int | None, etag: str, *, end: int | None = None, whole: bool = False
) -> Iterator[RangeResponse]:
    """Ask a source for its file from `start` to the end, or up to `end`.

    Parameters
    ----------
    source : Source
        Where the bytes come from.
    start : int
        The first byte that is missing.
    size : int or None
        The file's size, where it is known.
    etag : str
        The strong ETag that the file must still have for a part of it to be sent, or empty.
    end : int, optional
        Ask for no byte from this one on.
    whole : bool
        Ask for the whole file: ranges have not worked here.

    Yields
    ------
    RangeResponse
        What the server sends, from `start` or from zero.

    Raises
    ------
    ProductGone
        The server says itself that it has it no more.
    LoginRefused
        The session was lost, and the credentials are not accepted any more.
    TransferFailed
        The server refuses for good.
    ServiceUnavailable
        The server does not answer, or asks to come back later.
    WrongAnswer
        The answer contradicts the question.
    WrongSize
        The server's file has another size.
    """
    headers = {"Accept-Encoding": "identity"}
    wants_range = (start > 0 or end is not None) and not whole
    if wants_range:
        headers["Range"] = f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"
        if etag:
            headers["If-Range"] = etag
    try:
        response = source.get(headers)
    except LoginRefused:
        raise
    except SessionLost as error:
        # Lost again right after the login: somebody else may have logged in meanwhile.
        raise ServiceUnavailable(error.what) from error
    except ServiceRefused as error:
        if not error.is_own:
            raise ServiceUnavailable(error.what) from error
        raise TransferFailed(f"The product was refused: {error.what}", error.remedy) from error
    try:
        reply = _range_response(response, start, size, wants_range)
        if wants_range and reply.start == start:
            _check_length(reply, size if end is None else end)
        yield reply
    finally:
        response.close()


def _check_length(reply: RangeResponse, asked_end: int | None) -> None:
    """Refuse an answer that has next to nothing of what was asked for; more than that does no harm."""
    if reply.response.status != 206 or reply.end is None or asked_end is None:
        return
    if reply.end < asked_end and reply.end - reply.start < LEAST_ANSWER:
        raise WrongAnswer("The server sent next to nothing of the range that was asked for.")


def _range_response(response: Response, start: int, size: int | None, wants_range: bool) -> RangeResponse:
    """Return what the server sends, if it fits the request."""
    etag = _strong_etag(response.headers)
    length = _length(response.headers)
    if response.status == 200:
        if None in (size, length) and _is_page(response.headers):
            raise ServiceUnavailable("The server sent a web page instead of the product.")
        if None not in (size, length) and length != size:
            what = f"The server's file has {length} bytes, but the service says {size}."
            # It may be somebody else's page: bytes that are here already are not thrown away for it.
            if start or not length or _is_page(response.headers) or not _is_plain(response.headers):
                raise ServiceUnavailable(what)
            raise WrongSize(what)
        if None in (size, length) and not _is_plain(response.headers):
            raise ServiceUnavailable("The server compressed the file, although it was asked not to.")
        known = length if size is None else size
        return RangeResponse(0, known, known, etag, response)
    if wants_range and response.status == 206:
        end, total = _checked_range(response.headers.get("Content-Range", ""), start, size)
        if length not in (None, end - start):
            raise WrongAnswer("The server's Content-Length and Content-Range do not agree.")
        if None in (size, total, length) and not _is_plain(response.headers):
            raise ServiceUnavailable("The server compressed the file, although it was asked not to.")
        return RangeResponse(start, end, total, etag, response)
    if (
        wants_range
        and response.status == 416
        and _is_at_end(response.headers.get("Content-Range", ""), start)
    ):
        if size not in (None, start):
            raise WrongSize(f"The server's file has {start} bytes, but the service says {size}.")
        return RangeResponse(start, start, start, etag, _EmptyResponse())
    raise _refusal(response)


def _refusal(response: Response) -> MwaClientError:
    status = response.status
    if status in (206, 416):
        is_silent = status == 416 and not response.headers.get("Content-Range", "")
        kind = EmptyRange if is_silent else WrongAnswer
        return kind(f"The server's answer does not match the range that was asked for (HTTP {status}).")
    # A refusal for good would have come from the source as an error: what a status says by itself may pass.
    return ServiceUnavailable(
        f"The server is not available (HTTP {status}).", retry_after=retry_after(response.headers)
    )


def _checked_range(content_range: str, start: int, size: int | None) -> tuple[int, int | None]:
    """Return where a 206 response's bytes end (exclusive) and the file's size, if all of it is right."""
    match = re.fullmatch(r"\s*bytes\s+([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)\s*", content_range)
    if match is not None:
        first, last = int(match[1]), int(match[2])
        total = size if match[3] == "*" else int(match[3])
        agree = None in (size, total) or size == total
        if first == start and last >= first and agree and (total is None or last < total):
            return last + 1, total
    raise WrongAnswer("The server's answer does not match the range that was asked for (Content-Range).")


def _is_at_end(content_range: str, start: int) -> bool:
    """Say whether a 416 answer means that nothing is missing."""
    match = re.fullmatch(r"\s*bytes\s+\*/([0-9]{1,19})\s*", content_range)
    return match is not None and int(match[1]) == start


def _is_plain(headers: Mapping[str, str]) -> bool:
    """Say whether the server claims to send the bytes as they are.

    Stores repeat what an upload once said of itself (``aws-chunked``), so a claim to the contrary counts only
    where the length does not show that it is wrong.
    """
    return headers.get("Content-Encoding", "").strip().lower() in ("", "identity")


def _is_page(headers: Mapping[str, str]) -> bool:
    """Say whether an answer is meant for a person, a browser or a program; no product is."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    is_text = kind.startswith("text/") or kind.endswith(("+xml", "+json"))
    return is_text or kind in ("application/xml", "application/json")


def _length(headers: Mapping[str, str]) -> int | None:
    value = headers.get("Content-Length", "").strip()
    return int(value) if re.fullmatch(r"[0-9]{1,19}", value) else None


def _strong_etag(headers: Mapping[str, str]) -> str:
    etag = headers.get("ETag", "").strip()
    return etag if re.fullmatch(r'"[\x21\x23-\x7e]*"', etag) else ""


class _PeekedResponse:
    """A response whose first bytes were read already, and are read again."""

    def __init__(self, response: Response, seen: memoryview) -> None:
        self._response, self._seen = response, seen
        self.status, self.headers = response.status, response.headers

    def read_into(self, space: memoryview) -> int | None:
        if not self._seen:
            return self._response.read_into(space)
        count = min(len(space), len(self._seen))
        space[:count], self._seen = self._seen[:count], self._seen[count:]
        return count

    def close(self) -> None:
        self._response.close()


class _EmptyResponse:
    """The empty body of a response that says that no byte is missing."""

    status = 416
    headers: Mapping[str, str] = MappingProxyType({})

    def read_into(self, space: memoryview) -> int:
        return 0

    def close(self) -> None:
        pass
