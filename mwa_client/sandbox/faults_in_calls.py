"""Faults of the API: requests that are refused, replies that are lost, jobs and listings that go wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .fault_kinds import AFTER_LOGIN, ALL, API, LISTED, Point, fault
from .interfaces import Interface
from .jobs import ListingRow, PracticeState
from .messages import Call, Reply, Target, Text, refusal, text_reply, xml_refusal

_PAGE = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"


def _page(status: int, body: str | None, retry_after: int | str | None = None) -> Reply:
    title = "Welcome" if status == 200 else f"{status} from the proxy"
    reply = text_reply(status, _PAGE.format(title) if body is None else body, "text/html")
    return reply if retry_after is None else reply.with_header("Retry-After", str(retry_after))


# --- Requests that are not carried out ---------------------------------------------------------------


@fault(Point.REQUEST, {Call.LOGIN})
def refuse_login(target: Target, *, status: int = 401, text: str = "Unauthorized") -> Reply:
    """Refuse the login."""
    return refusal(status, text, target.interface, v2="AUTH_INVALID_CREDENTIALS")


@fault(Point.REQUEST, {Call.SUBMIT})
def refuse_submission(
    target: Target,
    *,
    status: int = 400,
    text: str = "Observation does not exist",
    json: bool = True,
    code: int | str | None = None,
) -> Reply:
    """Refuse a submission and say why, in JSON or as plain text; `code` is a number in v1, a word in v2."""
    if not json:
        return text_reply(status, text)
    v1 = code if isinstance(code, int) else 0
    v2 = code if isinstance(code, str) else "OBSID_NOT_FOUND"
    return refusal(status, text, target.interface, v1=v1, v2=v2)


@fault(Point.REQUEST, API)
def fail_call(
    target: Target, *, status: int = 500, body: str | None = None, retry_after: int | str | None = None
) -> Reply:
    """Answer with an error, an HTML page unless told otherwise."""
    return _page(status, body, retry_after)


@fault(Point.REQUEST, API)
def html_reply(target: Target, *, body: str | None = None) -> Reply:
    """Answer 200 with an HTML page, as hotel networks do."""
    return _page(200, body)


@fault(Point.REQUEST, ALL)
def busy(target: Target, *, retry_after: int | str | None = None) -> Reply:
    """Answer 503, products included; the service says when to come back (1), the store only if told to."""
    if target.interface is not Interface.STORE:
        return _page(503, None, 1 if retry_after is None else retry_after)
    reply = xml_refusal(503, "SlowDown")
    return reply if retry_after is None else reply.with_header("Retry-After", str(retry_after))


@fault(Point.REQUEST, {Call.PRODUCT})
def product_status(
    target: Target,
    *,
    status: int = 404,
    body: str | None = None,
    retry_after: int | str | None = None,
    total: int | None = None,
) -> Reply:
    """Answer a request for a product with an error; `total` is the size that a 416 tells."""
    reply = _page(status, body, retry_after)
    return reply if total is None else reply.with_header("Content-Range", f"bytes */{total}")


@fault(Point.REQUEST, {Call.PRODUCT})
def redirect(target: Target, *, url: str, status: int = 302) -> Reply:
    """Send a request for a product elsewhere."""
    return text_reply(status, "").with_header("Location", url)


@fault(Point.SESSIONS, AFTER_LOGIN)
def expire_session(sessions: frozenset[str]) -> frozenset[str] | None:
    """Forget everybody's session: 401 until the next login."""
    return frozenset() if sessions else None


# --- Replies that do not arrive, or not as they were -------------------------------------------------


@fault(Point.REPLY, {Call.SUBMIT})
def drop_reply(reply: Reply, *, reset: bool = False) -> Reply | None:
    """Carry out a submission, then hang up without a reply."""
    return None if reply.status >= 400 else reply.on_wire(drop=True, reset=reset)


@fault(Point.REPLY, ALL)
def slow(reply: Reply, *, seconds: float) -> Reply:
    """Carry out a request, then wait before answering."""
    return reply.on_wire(delay=reply.wire.delay + seconds)


@fault(Point.REPLY, API)
def broken_json(reply: Reply) -> Reply | None:
    """Send the first half of a reply as if it were all."""
    if not isinstance(reply.body, Text) or not reply.body.data:
        return None
    return replace(reply, body=Text(reply.body.data[: len(reply.body.data) // 2]))


# --- What becomes of jobs ----------------------------------------------------------------------------


@fault(Point.JOB, LISTED)
def job_error(row: ListingRow, *, text: str | None = "Practice error") -> ListingRow | None:
    """Let a job that was about to be ready end in error, for good."""
    return _ended(row, PracticeState.ERROR, text) if row.state is PracticeState.READY else None


@fault(Point.JOB, LISTED)
def fail_at_once(row: ListingRow, *, text: str | None = "Practice error") -> ListingRow | None:
    """Let a job that has not ended end in error the first time that it is listed, for good."""
    if isinstance(row.state, PracticeState) and row.state.has_ended:
        return None
    return _ended(row, PracticeState.ERROR, text)


@fault(Point.JOB, LISTED)
def expire_job(row: ListingRow) -> ListingRow | None:
    """Let a job that was about to be ready be expired, for good."""
    return _ended(row, PracticeState.EXPIRED) if row.state is PracticeState.READY else None


@fault(Point.JOB, LISTED)
def cancel_job(row: ListingRow) -> ListingRow | None:
    """Let somebody else cancel a job, for good."""
    if isinstance(row.state, PracticeState) and row.state.has_ended:
        return None
    return _ended(row, PracticeState.CANCELLED)


def _ended(row: ListingRow, state: PracticeState, text: str | None = None) -> ListingRow:
    return replace(row, state=state, job=replace(row.job, fixed_state=state, error_text=text))


@fault(Point.JOB, LISTED)
def hostile_name(row: ListingRow, *, name: str = "../../evil") -> ListingRow | None:
    """Give a job's product a name that means harm, for good; it can be fetched under that name."""
    return None if row.job.file_name == name else replace(row, job=replace(row.job, file_name=name))


# --- Listings that do not tell the truth -------------------------------------------------------------


@fault(Point.ROW, {Call.LIST})
def missing_job(row: ListingRow) -> ListingRow:
    """Leave a job out of the listing."""
    return replace(row, hidden=True)


@fault(Point.ROW, {Call.LIST})
def late_job(row: ListingRow, *, seconds: float) -> ListingRow | None:
    """Leave a job out of the listing for so long after its submission."""
    return replace(row, hidden=True) if row.age < seconds else None


@fault(Point.ROW, LISTED)
def unknown_state(row: ListingRow, *, state: int | str = 9) -> ListingRow:
    """Show a job in a state that nobody has heard of."""
    return replace(row, state=state, product=None)


@fault(Point.ROW, LISTED)
def null_product(row: ListingRow) -> ListingRow | None:
    """Show a job as ready, without a product."""
    return replace(row, product=None) if row.product else None


@fault(Point.ROW, LISTED)
def no_sha1(row: ListingRow) -> ListingRow | None:
    """Leave out the SHA-1 of a product, as the oldest replies did."""
    return replace(row, product=replace(row.product, sha1=None)) if row.product else None


@fault(Point.ROW, LISTED)
def wrong_sha1(row: ListingRow, *, sha1: str = "0" * 40) -> ListingRow | None:
    """Tell a wrong SHA-1 of a product."""
    return replace(row, product=replace(row.product, sha1=sha1)) if row.product else None


@fault(Point.ROW, LISTED)
def wrong_size(row: ListingRow, *, by: int = 1) -> ListingRow | None:
    """Tell a size of a product that is so many bytes too large (below zero: too small)."""
    return replace(row, product=replace(row.product, size=row.product.size + by)) if row.product else None


@fault(Point.LISTING, {Call.LIST})
def extra_job_rows(entries: list[Any]) -> list[Any]:
    """Put entries into the listing that make no sense, before the others."""
    return [None, "job", 7, {}, {"row": None}, {"row": {"job_state": 2}}, *entries]


# --- JSON that is not as agreed ----------------------------------------------------------------------


@fault(Point.DOCUMENT, LISTED | {Call.SUBMIT})
def missing_field(document: dict[str, Any], *, field: str = "job_id") -> dict[str, Any] | None:
    """Leave a field out of the jobs in the listing, or ``job_id`` out of the reply to a submission."""
    if field not in document:
        return None
    return {key: value for key, value in document.items() if key != field}


@fault(Point.DOCUMENT, {Call.SUBMIT})
def null_job_id(document: dict[str, Any]) -> dict[str, Any]:
    """Take a submission and answer that its job's id is null."""
    return {**document, "job_id": None}


@fault(Point.DOCUMENT, LISTED | {Call.SUBMIT})
def strings_for_numbers(document: dict[str, Any]) -> dict[str, Any]:
    """Write all numbers as strings: ids, states, sizes."""
    return {key: _stringed(value) for key, value in document.items()}


def _stringed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stringed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_stringed(inner) for inner in value]
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
