"""A product becomes a reply: whole, or the part of it that was asked for.

Ranges and validators as RFC 9110 (sections 13 and 14) has them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from .messages import Body, Reply, Request, text_reply
from .products import Content

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


@dataclass(frozen=True)
class Offer:
    """A product as the server holds it.

    Attributes
    ----------
    content : Content
        Its bytes.
    etag : str or None
        Its entity tag, quotes and all.
    media_type : str
        What it is said to be.
    ranges : bool
        Whether parts of it can be had.
    """

    content: Content
    etag: str | None
    media_type: str
    ranges: bool = True


@dataclass(frozen=True)
class Part:
    """The bytes of a product from `start` up to `stop`.

    Attributes
    ----------
    content : Content
        The whole.
    start, stop : int
        Offsets in bytes.
    flipped : int or None
        Offset in the product of a byte that comes out wrong.
    surplus : int
        Bytes too many at the end or, below zero, too few.
    """

    content: Content
    start: int
    stop: int
    flipped: int | None = None
    surplus: int = 0

    @property
    def length(self) -> int:
        """Length in bytes."""
        return max(0, self.stop - self.start + self.surplus)

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes."""
        offset = self.start
        for piece in self.content.pieces(self.start, self.start + self.length):
            if self.flipped is not None and offset <= self.flipped < offset + len(piece):
                wrong = bytearray(piece)
                wrong[self.flipped - offset] ^= 0xFF
                piece = bytes(wrong)
            yield piece
            offset += len(piece)


@dataclass(frozen=True)
class Gzipped:
    """Another body, compressed."""

    inner: Body

    @property
    def length(self) -> None:
        """Not known before it is made."""
        return

    def pieces(self) -> Iterator[bytes]:
        """Yield the compressed bytes."""
        packer = zlib.compressobj(level=1, wbits=31)
        for piece in self.inner.pieces():
            packed = packer.compress(piece)
            if packed:
                yield packed
        yield packer.flush()


def deliver(offer: Offer, request: Request) -> Reply:
    """Return the reply to a request for a product: 200, 206 or 416."""
    size = offer.content.size
    headers = [("Content-Type", offer.media_type), ("Accept-Ranges", "bytes")]
    if offer.etag is not None:
        headers.append(("ETag", offer.etag))
    wanted = _wanted_range(offer, request)
    if wanted is None:
        return Reply(200, tuple(headers), Part(offer.content, 0, size), is_product=True)
    start, stop = wanted
    if start >= stop:
        return text_reply(416, "Range not satisfiable").with_header("Content-Range", f"bytes */{size}")
    headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{size}"))
    return Reply(206, tuple(headers), Part(offer.content, start, stop), is_product=True)


def _wanted_range(offer: Offer, request: Request) -> tuple[int, int] | None:
    """Return what to send, None for all of it; an empty range cannot be satisfied."""
    if not offer.ranges or request.method != "GET":
        return None
    # The comparison is strong: a weak tag equals nothing, itself included.
    condition = request.headers.get("If-Range")
    if condition is not None and (condition != offer.etag or condition.startswith("W/")):
        return None
    return parse_range(request.headers.get("Range"), offer.content.size)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return where a range starts and stops, None for a header that is to be ignored.

    Examples
    --------
    >>> parse_range("bytes=2-4", 10), parse_range("bytes=-3", 10), parse_range("pages=1-2", 10)
    ((2, 5), (7, 10), None)
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size
