"""Turns a product into a reply: the whole product, or the range of it that was asked for.

Ranges and validators as RFC 9110 (sections 13 and 14) has them, or as the archive's object store does.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from mwa_client.light_dataclasses import dataclass

from .messages import Body, Reply, Request, text_reply, xml_refusal
from .products import Content

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?\d{1,18}", re.ASCII)


@dataclass(frozen=True)
class Manner:
    """How a server answers a request for a range of a product.

    Attributes
    ----------
    heeds_if_range : bool
        Whether the part is sent only if ``If-Range`` names the bytes that there are now, as RFC 9110 has it.
    ignores_odd_ranges : bool
        Whether the whole is sent for a range that cannot be read, for two ranges and for another unit than
        bytes, as RFC 9110 has it.
    tells_size : bool
        Whether a refused range comes with a ``Content-Range`` that tells the size.
    has_xml : bool
        Whether a range is refused in XML.
    heeds_if_match : bool
        Whether nothing is sent if ``If-Match`` names other bytes than there are now.
    """

    heeds_if_range: bool = True
    ignores_odd_ranges: bool = True
    tells_size: bool = True
    has_xml: bool = False
    heeds_if_match: bool = False


BY_THE_BOOK = Manner()
CEPH = Manner(
    heeds_if_range=False, ignores_odd_ranges=False, tells_size=False, has_xml=True, heeds_if_match=True
)
"""Ceph's gateway, release 16.2."""


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
    manner : Manner
        How a request for a part is taken.
    """

    content: Content
    etag: str | None
    media_type: str
    ranges: bool = True
    manner: Manner = BY_THE_BOOK


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
    """A body that is compressed as it is sent."""

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
    """Return the reply to a request for a product: 200, 206, 412 or 416."""
    size = offer.content.size
    tag = request.headers.get("If-Match")
    if offer.manner.heeds_if_match and tag is not None and tag.strip('"') != (offer.etag or "").strip('"'):
        return xml_refusal(412, "PreconditionFailed")
    headers = [("Content-Type", offer.media_type), ("Accept-Ranges", "bytes")]
    if offer.etag is not None:
        headers.append(("ETag", offer.etag))
    wanted = _wanted_range(offer, request)
    if wanted is None:
        if size and _is_of_another_unit(offer, request):
            headers.append(("Content-Range", f"bytes 0-{size - 1}/{size}"))
        return Reply(200, tuple(headers), Part(offer.content, 0, size), is_product=True)
    start, stop = wanted
    if start >= stop:
        return _not_satisfiable(offer)
    headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{size}"))
    return Reply(206, tuple(headers), Part(offer.content, start, stop), is_product=True)


def _not_satisfiable(offer: Offer) -> Reply:
    manner = offer.manner
    reply = xml_refusal(416, "InvalidRange") if manner.has_xml else text_reply(416, "Range not satisfiable")
    return reply.with_header("Content-Range", f"bytes */{offer.content.size}") if manner.tells_size else reply


def _wanted_range(offer: Offer, request: Request) -> tuple[int, int] | None:
    """Return the range to send, None for all; an empty range stands for one that is refused."""
    if not offer.ranges or request.method != "GET":
        return None
    # The comparison is strong: a weak tag equals nothing, itself included.
    condition = request.headers.get("If-Range") if offer.manner.heeds_if_range else None
    if condition is not None and (condition != offer.etag or condition.startswith("W/")):
        return None
    header = request.headers.get("Range")
    if offer.manner.ignores_odd_ranges:
        return parse_range(header, offer.content.size)
    return parse_range_as_ceph(header, offer.content.size)


def _is_of_another_unit(offer: Offer, request: Request) -> bool:
    """Say whether the server answers a range in another unit than bytes with a ``Content-Range``."""
    header = request.headers.get("Range")
    is_noticed = header is not None and offer.ranges and not offer.manner.ignores_odd_ranges
    return is_noticed and parse_range_as_ceph(header, offer.content.size) is None


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
    if first and last and int(last) < int(first):
        return None
    return _bounds(first, last, size)


def parse_range_as_ceph(header: str | None, size: int) -> tuple[int, int] | None:
    """Return where a range starts and stops; an empty one if it is refused, None for another unit.

    Numbers are read as C's ``atoll`` reads them: what follows a number is ignored, and a text without one is
    zero. So of several ranges the first counts, if it has an end.

    Examples
    --------
    >>> parse_range_as_ceph("bytes=2-4,6-8", 10), parse_range_as_ceph("bytes=abc", 10)
    ((2, 5), (0, 0))
    """
    unit, equals, wanted = (header or "").partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return None
    first, dash, last = wanted.partition("-")
    end = _as_in_c(last) if last else -1
    # Without a first byte, the end is how many bytes are wanted; without either, it is still -1.
    start = _as_in_c(first) if first else max(0, size - end) if end > 0 else -end
    is_backwards = bool(first) and 0 <= end < start
    if not dash or (last and end < 0) or is_backwards or start >= size:
        return 0, 0
    return start, min(size, end + 1) if first and last else size


def _as_in_c(text: str) -> int:
    match = _NUMBER.match(text)
    return int(match[0]) if match else 0


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
