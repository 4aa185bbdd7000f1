"""Faults of products: other bytes than the listing promises, too many or too few, and lost connections."""

from __future__ import annotations

from dataclasses import replace

from .delivery import Gzipped, Offer, Part
from .fault_kinds import Point, fault
from .messages import Call, Reply

# --- Products that are not what they were ------------------------------------------------------------


@fault(Point.OFFER, {Call.PRODUCT})
def change_content(offer: Offer) -> Offer:
    """Send other bytes of the same size, with an entity tag of their own; the listing is not changed."""
    content = offer.content.changed()
    return replace(offer, content=content, etag=content.etag)


@fault(Point.OFFER, {Call.PRODUCT})
def change_etag(offer: Offer, *, etag: str = '"another"') -> Offer:
    """Send the right bytes with another entity tag."""
    return replace(offer, etag=etag)


@fault(Point.OFFER, {Call.PRODUCT})
def weak_etag(offer: Offer) -> Offer | None:
    """Send a weak entity tag."""
    return replace(offer, etag=f"W/{offer.etag}") if offer.etag else None


@fault(Point.OFFER, {Call.PRODUCT})
def no_etag(offer: Offer) -> Offer:
    """Send no entity tag."""
    return replace(offer, etag=None)


@fault(Point.OFFER, {Call.PRODUCT})
def ignore_range(offer: Offer) -> Offer:
    """Send the whole product, whatever part was asked for."""
    return replace(offer, ranges=False)


# --- Bytes that go astray ----------------------------------------------------------------------------


@fault(Point.REPLY, {Call.PRODUCT})
def lie_in_content_range(
    reply: Reply, *, shift: int | None = None, total: int | None = None, header: str | None = None
) -> Reply | None:
    """Send the right part with a ``Content-Range`` that is shifted, or has another total, or is `header`.

    An empty `header` leaves it out.
    """
    part = reply.body
    if reply.status != 206 or not isinstance(part, Part):
        return None
    if header is None:
        moved = 1 if shift is None and total is None else shift or 0
        size = part.content.size if total is None else total
        header = f"bytes {part.start + moved}-{part.stop - 1 + moved}/{size}"
    return reply.with_header("Content-Range", header or None)


@fault(Point.REPLY, {Call.PRODUCT})
def corrupt_byte(reply: Reply, *, at: int = 0) -> Reply | None:
    """Send one byte of a product wrong, the one at this offset in the file."""
    part = reply.body
    if not isinstance(part, Part) or not part.start <= at < part.stop:
        return None
    return replace(reply, body=replace(part, flipped=at))


@fault(Point.REPLY, {Call.PRODUCT})
def long_body(reply: Reply, *, by: int = 1, chunked: bool = False) -> Reply | None:
    """Send more bytes than the listing and ``Content-Range`` promise, in a reply of that length."""
    if not isinstance(reply.body, Part):
        return None
    return replace(reply, body=replace(reply.body, surplus=by)).on_wire(chunked=chunked)


@fault(Point.REPLY, {Call.PRODUCT})
def short_body(reply: Reply, *, by: int = 1, chunked: bool = False) -> Reply | None:
    """Send fewer bytes than the listing and ``Content-Range`` promise, in a reply of that length."""
    if not isinstance(reply.body, Part):
        return None
    return replace(reply, body=replace(reply.body, surplus=-by)).on_wire(chunked=chunked)


@fault(Point.REPLY, {Call.PRODUCT})
def wrong_content_length(reply: Reply, *, by: int = 1) -> Reply:
    """Send a ``Content-Length`` that is so many bytes too large (below zero: too small), then hang up."""
    return reply.on_wire(length_error=by)


@fault(Point.REPLY, {Call.PRODUCT})
def chunked(reply: Reply) -> Reply:
    """Send a product in chunks, without a ``Content-Length``."""
    return reply.on_wire(chunked=True)


@fault(Point.REPLY, {Call.PRODUCT})
def gzip(reply: Reply) -> Reply | None:
    """Send a product compressed, although nobody asked for that."""
    if not isinstance(reply.body, Part):
        return None
    return replace(reply, body=Gzipped(reply.body)).with_header("Content-Encoding", "gzip")


@fault(Point.REPLY, {Call.PRODUCT})
def cut_product(reply: Reply, *, after: int, reset: bool = False) -> Reply | None:
    """Hang up when so many bytes of a longer reply are sent, in order or with a reset."""
    if not reply.is_product or not _is_within(reply, after):
        return None
    return reply.on_wire(cut_after=after, reset=reset)


@fault(Point.REPLY, {Call.PRODUCT})
def stall(reply: Reply, *, after: int = 0, seconds: float = 3600.0) -> Reply | None:
    """Fall silent when so many bytes of a reply are sent, and go on later."""
    return reply.on_wire(stall_after=after, stall_seconds=seconds) if _is_within(reply, after) else None


def _is_within(reply: Reply, after: int) -> bool:
    return reply.body.length is None or after < reply.body.length
