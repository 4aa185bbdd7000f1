"""An answer of the API that says no, as one of our errors with the service's own words in it."""

from __future__ import annotations

import re

import requests

from mwa_client.asvo import replies
from mwa_client.asvo.call import HttpCall
from mwa_client.asvo.http_errors import errors_explained
from mwa_client.asvo.job import clean_text
from mwa_client.errors import BadReply, MwaClientError, ServiceRefused, ServiceUnavailable, SessionLost
from mwa_client.json_text import read_json
from mwa_client.secrecy import hide, hide_in
from mwa_client.timing import retry_after

MOST_OF_BODY = 20_000
"""Characters of a refusal that is no JSON which are looked at."""

OWN_KEYS = ("error", "error_code", "field_errors")
"""A refusal in the service's JSON has one of these; ``detail`` or ``message`` alone is any web server's."""


def error_of(response: requests.Response, call: HttpCall, address: str) -> MwaClientError:
    """Return the error for an answer whose status is not a success.

    Returns
    -------
    BadReply
        For a redirect: the API sends none.
    SessionLost
        For 401.
    ServiceUnavailable
        For a status that asks to come back later.
    ServiceRefused
        For every other 4xx.
    """
    status = response.status_code
    if 300 <= status < 400:
        return BadReply(f"{address} redirects to another address; is it the right one?")
    # Not response.text, which believes whatever character set the reply claims to be in.
    text = read_beginning(response, call).decode("utf-8-sig", "replace")
    body = _body_of(text)
    said = _explanation(response, text, body) + _reference(response, body)
    if call.proxy is not None and not call.is_past_proxy:
        said += f" (asked through {call.proxy})"
    if status == 401:
        what = f"The service does not recognise this session: {said}"
        return SessionLost(what, status=status, body=body, is_own=_is_own(body, status))
    if status in (408, 425, 429) or status >= 500:
        wait = retry_after(response.headers)
        return ServiceUnavailable(f"The service is not available: {said}", retry_after=wait)
    return ServiceRefused(
        f"The service refused: {said}", status=status, body=body, is_own=_is_own(body, status)
    )


def not_json(response: requests.Response) -> BadReply:
    """Return the error for an answer that should have been JSON."""
    kind = clean_text(response.headers.get("Content-Type", "something else"), 60)
    broken = "broken JSON, as " if "json" in kind.lower() else ""
    return BadReply(f"The service answered with {broken}{kind} where JSON was expected.")


def read_beginning(response: requests.Response, call: HttpCall) -> bytes:
    """Return the beginning of a body. If that is the whole body, the connection can be used again."""
    data = bytearray()
    try:
        with errors_explained(call):
            for piece in replies.pieces_of(response):
                data += piece
                if len(data) > replies.MOST_OF_REFUSAL:
                    break
    except MwaClientError:
        pass  # The status has said what matters.
    return bytes(data[: replies.MOST_OF_REFUSAL])


def _body_of(text: str) -> object:
    """Return a refusal's JSON, or its text if it is none, without the secrets that it may quote."""
    try:
        return hide_in(read_json(text), is_foreign=True)
    except ValueError:
        return hide(text, is_foreign=True)[:MOST_OF_BODY]


def _is_own(body: object, status: int) -> bool:
    """Say whether a refusal looks like the service's own: an error in its JSON, or plain text.

    Web pages, other programs' JSON and empty answers come from what stands in between. Bad credentials are
    refused with 401, and it is not known that there is a body.
    """
    if isinstance(body, dict):
        return any(body.get(key) is not None for key in OWN_KEYS)
    if not isinstance(body, str) or body.lstrip().startswith(("<", "{", "[")):
        return False
    return bool(body.strip()) or status == 401


def _explanation(response: requests.Response, text: str, body: object) -> str:
    """Return the service's own words for a refusal, from JSON, HTML or plain text."""
    if isinstance(body, dict):
        said = [body[key] for key in ("error", "message", "detail", "suggestion") if _is_text(body.get(key))]
        fields = body.get("field_errors")
        for entry in fields if isinstance(fields, list) else []:
            if isinstance(entry, dict):
                said.append(f"{entry.get('field')}: {entry.get('message')}")
        if said:
            return clean_text(" ".join(said))
    text = body if isinstance(body, str) else text[:MOST_OF_BODY]
    if "<" in text:
        text = re.sub(r"(?si)<(style|script|head)\b.*?</\1>", " ", text)
        text = re.sub(r"(?s)<[^>]*>", " ", text)
    return clean_text(text) or clean_text(f"HTTP {response.status_code} {response.reason or ''}")


def _reference(response: requests.Response, body: object) -> str:
    """Return what the help desk will ask for: the error's code and the request's id, where they are known."""
    known = body if isinstance(body, dict) else {}
    references = {
        "error_code": known.get("error_code"),
        "request_id": known.get("request_id") or response.headers.get("x-request-id"),
    }
    # v1 gives code 0 to every error that has no code of its own.
    said = [
        f"{name} {clean_text(value, 60)}" for name, value in references.items() if value not in (None, "", 0)
    ]
    return f" ({', '.join(said)})" if said else ""


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
