"""Faults of today's service: tokens, outages, what listings say, signed links, the object store."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any
from xml.sax.saxutils import escape

from .delivery import BY_THE_BOOK, Offer, Part
from .fault_kinds import API, LISTED, Point, fault
from .interfaces import Interface
from .jobs import ListingRow
from .messages import Call, JsonAnswer, Reply, Target, Text, refusal, xml_refusal
from .tokens import TokenKind, is_of_kind

STORE = frozenset({Interface.STORE})
TODAY = frozenset({Interface.V1, Interface.V2})
V2 = frozenset({Interface.V2})
_NOT_SUBMITTED = "Your job cannot be submitted as there is a"


# --- Logins and tokens -------------------------------------------------------------------------------


@fault(Point.REQUEST, {Call.LOGIN}, TODAY)
def unknown_client(target: Target, *, name: str = "*", status: int = 403) -> Reply | None:
    """Refuse the login of a client that is called so (``*`` and ``?`` as in a shell)."""
    if target.client is None or not fnmatchcase(target.client, name):
        return None
    text = f"Client {target.client} is not supported; please upgrade"
    return refusal(status, text, target.interface, v1=0, v2="AUTH_UNKNOWN_CLIENT")


@fault(Point.REQUEST, {Call.LOGIN})
def login_limit(target: Target, *, retry_after: int | str | None = 60) -> Reply:
    """Refuse a login because there were too many."""
    reply = refusal(429, "At most 5 logins a minute", target.interface, v2="RATE_LIMIT_EXCEEDED")
    return reply if retry_after is None else reply.with_header("Retry-After", str(retry_after))


@fault(Point.SESSIONS, API - {Call.LOGIN, Call.REFRESH}, V2)
def expire_tokens(sessions: frozenset[str]) -> frozenset[str] | None:
    """Refuse every access token that there is; refresh tokens stay good."""
    left = frozenset(token for token in sessions if not is_of_kind(token, TokenKind.ACCESS))
    return left if left != sessions else None


@fault(Point.REQUEST, {Call.REFRESH}, V2)
def refuse_refresh(target: Target, *, status: int = 401, code: str = "AUTH_INVALID_TOKEN") -> Reply:
    """Refuse to give new tokens for a refresh token."""
    return refusal(status, "Invalid or expired token", target.interface, v2=code)


# --- Deliveries --------------------------------------------------------------------------------------


@fault(Point.ROW, LISTED, TODAY)
def other_path(
    row: ListingRow, *, at: str = "/scratch/practice/asvo/1", size: int | None = None
) -> ListingRow | None:
    """Tell that a product is at a path, wherever it was to go; `size` is told instead of its own."""
    if row.product is None:
        return None
    told = row.product.size if size is None else size
    return replace(row, product=replace(row.product, path=at, size=told))


# --- Submissions -------------------------------------------------------------------------------------


@fault(Point.REQUEST, {Call.SUBMIT})
def outage(
    target: Target,
    *,
    text: str = f"{_NOT_SUBMITTED} full outage in progress.",
    status: int = 400,
    code: str = "SERVICE_OUTAGE",
) -> Reply:
    """Take no job; `code` is what v2 calls it."""
    return refusal(status, text, target.interface, v1=0, v2=code)


@fault(Point.REQUEST, {Call.SUBMIT}, TODAY)
def partial_outage(
    target: Target, *, delivery: str = "acacia", status: int = 400, code: str = "SERVICE_OUTAGE"
) -> Reply | None:
    """Take no job whose product is to go there."""
    if target.delivery != delivery:
        return None
    text = f"{_NOT_SUBMITTED} partial outage, please use a delivery location other than {delivery}."
    return refusal(status, text, target.interface, v1=0, v2=code)


@fault(Point.REQUEST, {Call.SUBMIT, Call.OBSERVATION})
def obs_not_found(target: Target, *, text: str | None = None) -> Reply:
    """Know nothing of an observation; give the fault an `obs_id`."""
    status = 404 if target.interface is Interface.V2 else 400
    text = f"Observation {target.obs_id} does not exist" if text is None else text
    return refusal(status, text, target.interface, v1=0, v2="OBSID_NOT_FOUND")


@fault(Point.REQUEST, {Call.SUBMIT})
def permission_denied(target: Target, *, status: int = 403) -> Reply:
    """Refuse a submission without a code; v2 has one."""
    return refusal(status, "Permission denied", target.interface, v2="PERMISSION_DENIED")


@fault(Point.DUPLICATE, {Call.SUBMIT}, TODAY)
def duplicate_reply(answer: JsonAnswer, *, status: int = 200, text: str | None = None) -> JsonAnswer:
    """Say with another status, or in other words, that a job is there already."""
    key = "error" if "error" in answer.document else "message"
    document = answer.document if text is None else {**answer.document, key: text}
    return JsonAnswer(status, document)


@fault(Point.DUPLICATE, {Call.SUBMIT}, TODAY)
def duplicate_without_id(answer: JsonAnswer) -> JsonAnswer:
    """Say that a job is there already, and not which one."""
    return replace(answer, document={k: v for k, v in answer.document.items() if k != "job_id"})


# --- Listings ----------------------------------------------------------------------------------------


@fault(Point.DOCUMENT, LISTED)
def null_error_text(document: dict[str, Any]) -> dict[str, Any] | None:
    """Do not say why a job failed."""
    return {**document, "error_text": None} if document.get("error_text") is not None else None


@fault(Point.DOCUMENT, LISTED)
def unknown_job_type(document: dict[str, Any], *, type: int | str | None = 99) -> dict[str, Any]:
    """Show a job of a type that nobody has heard of."""
    return {**document, "job_type": type}


@fault(Point.DOCUMENT, LISTED)
def drop_params(document: dict[str, Any], *, keys: str = "*") -> dict[str, Any] | None:
    """Leave keys out of what a job was asked (``*`` and ``?`` as in a shell); its observation stays."""
    params: dict[str, Any] = document.get("job_params") or {}
    left = {key: value for key, value in params.items() if key == "obs_id" or not fnmatchcase(key, keys)}
    return {**document, "job_params": left} if left != params else None


@fault(Point.DOCUMENT, LISTED)
def add_param(
    document: dict[str, Any], *, key: str, value: int | float | str | bool | None = None
) -> dict[str, Any] | None:
    """Say that a job was asked a key more, or something else by it."""
    params = document.get("job_params")
    return None if params is None else {**document, "job_params": {**params, key: value}}


@fault(Point.DOCUMENT, LISTED, TODAY)
def unknown_delivery(document: dict[str, Any], *, type: str = "tape") -> dict[str, Any] | None:
    """Show a product that went somewhere that nobody has heard of, without a URL or a path."""
    files = _files(document)
    if not files:
        return None
    kept = [{key: value for key, value in file.items() if key not in ("url", "path")} for file in files]
    return {**document, "product": {"files": [{**file, "type": type} for file in kept]}}


@fault(Point.DOCUMENT, LISTED)
def missing_product(document: dict[str, Any], *, empty: bool = False) -> dict[str, Any] | None:
    """Leave the product of a job that is ready out, or say that it has no files."""
    if not document.get("product"):
        return None
    left = {key: value for key, value in document.items() if key != "product"}
    return {**left, "product": {"files": []}} if empty else left


@fault(Point.DOCUMENT, LISTED, V2)
def obs_id_as_string(document: dict[str, Any]) -> dict[str, Any]:
    """Write the observation in a job's parameters as text."""
    params = document["job_params"]
    return {**document, "job_params": {**params, "obs_id": str(params["obs_id"])}}


def _files(document: dict[str, Any]) -> list[dict[str, Any]]:
    product = document.get("product")
    return list(product["files"]) if product else []


# --- The object store --------------------------------------------------------------------------------


@fault(Point.ROW, LISTED, TODAY)
def expired_link(row: ListingRow) -> ListingRow | None:
    """List a URL that has expired; a later listing has a good one."""
    if row.product is None or row.job.goes_to_folder:
        return None
    return replace(row, product=replace(row.product, link_is_stale=True))


@fault(Point.REQUEST, {Call.PRODUCT})
def product_gone(target: Target, *, code: str = "NoSuchKey") -> Reply:
    """Have lost a product that is listed; `code` is what the store calls that."""
    if target.interface is Interface.STORE:
        return xml_refusal(404, code)
    return refusal(410, "The product is gone", target.interface)


@fault(Point.REPLY, {Call.PRODUCT}, STORE)
def stored_encoding(reply: Reply, *, encoding: str = "aws-chunked") -> Reply | None:
    """Repeat the ``Content-Encoding`` that an upload gave; the bytes are plain all the same."""
    return reply.with_header("Content-Encoding", encoding) if isinstance(reply.body, Part) else None


@fault(Point.OFFER, {Call.PRODUCT}, STORE)
def uploaded_otherwise(offer: Offer, *, parts: int = 2) -> Offer:
    """Give the tag of an upload of the same bytes in so many parts; 0 for one that was not in parts."""
    digest = hashlib.md5(f"{offer.content} {parts}".encode(), usedforsecurity=False).hexdigest()
    return replace(offer, etag=f'"{digest}-{parts}"' if parts else f'"{digest}"')


@fault(Point.REPLY, {Call.PRODUCT}, STORE)
def damaged_object(
    reply: Reply, *, at: int = 0, length: int = 4 << 20, seconds: float = 65.0
) -> Reply | None:
    """Have lost bytes of a product: silence there, then the end; a range that begins among them gets 404."""
    part = reply.body
    if not isinstance(part, Part) or not part.start < at + length or not at < part.stop:
        return None
    if reply.status == 206 and part.start >= at:
        return xml_refusal(404, "NoSuchKey")
    there = max(0, at - part.start)
    return reply.on_wire(stall_after=there, stall_seconds=seconds, cut_after=there)


# --- Object stores that are not the archive's --------------------------------------------------------


@fault(Point.OFFER, {Call.PRODUCT}, STORE)
def heed_if_range(offer: Offer) -> Offer:
    """Send a part only if ``If-Range`` names the bytes that there are now, and the whole otherwise."""
    return replace(offer, manner=replace(offer.manner, heeds_if_range=True))


@fault(Point.OFFER, {Call.PRODUCT}, STORE)
def tell_size(offer: Offer) -> Offer:
    """Tell the size in the ``Content-Range`` of a 416."""
    return replace(offer, manner=replace(offer.manner, tells_size=True))


@fault(Point.OFFER, {Call.PRODUCT}, STORE)
def ignore_odd_ranges(offer: Offer) -> Offer:
    """Send the whole for a range that cannot be read, for two ranges, and for another unit than bytes."""
    return replace(offer, manner=replace(offer.manner, ignores_odd_ranges=True))


@fault(Point.OFFER, {Call.PRODUCT}, STORE)
def go_by_the_book(offer: Offer) -> Offer:
    """Take a request for a part as RFC 9110 has it, in everything."""
    return replace(offer, manner=BY_THE_BOOK)


@fault(Point.REPLY, {Call.PRODUCT}, STORE)
def explain_errors(reply: Reply, *, text: str = "Practice error") -> Reply | None:
    """Say why in the ``<Message>`` of an error."""
    if not isinstance(reply.body, Text) or b"<Message></Message>" not in reply.body.data:
        return None
    message = f"<Message>{escape(text)}</Message>".encode()
    return replace(reply, body=Text(reply.body.data.replace(b"<Message></Message>", message)))
