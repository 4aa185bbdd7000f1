"""A server that does not send a product: whether it is gone, its link is dead, or this is an outage.

Between us and the store there are front ends, proxies and portals, which send pages of their own with any
status. Gone is only what the store says itself, in its own XML, or the service in its own JSON.
"""

from __future__ import annotations

import re
import time
from contextlib import closing
from typing import TYPE_CHECKING

from mwa_client.asvo.job import clean_text
from mwa_client.errors import MwaClientError, ProductGone, ServiceUnavailable
from mwa_client.json_text import read_json
from mwa_client.light_dataclasses import dataclass
from mwa_client.timing import retry_after

if TYPE_CHECKING:
    from mwa_client.asvo.stream import StreamedResponse

MOST_REFUSAL = 4096
"""Bytes of a refusal that are read: more than the store or the service ever sends."""
MOST_PIECES, REFUSAL_TIME = 16, 5.0
"""Reads and seconds that this may take: a page that comes drop by drop is not waited for."""
GONE = ("NoSuchKey",)
"""The store's codes for a product that is gone. A missing bucket is an outage of the store."""
PASSING = (
    "NoSuchBucket",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "InternalError",
)
"""The store's codes for what passes by itself, whatever status they come with."""
ERROR = re.compile(
    r"(?s)\ufeff?\s*(?:<\?xml[^>]*\?>\s*)?<Error(?:\s[^>]*)?>(?:(?!</Error>).)*?"
    r"<Code>\s*([A-Za-z0-9]{1,60})\s*</Code>.*</Error>\s*"
)


@dataclass(frozen=True)
class Refusal:
    """An answer without a product.

    Attributes
    ----------
    status : int
        The HTTP status.
    code : str
        The store's reason in its own XML, such as ``AccessDenied``; empty where that is not what came.
    words : str
        The service's reason in its own JSON; empty where that is not what came.
    retry_after : float or None
        Seconds that the server asks to wait.
    """

    status: int
    code: str
    words: str
    retry_after: float | None

    @classmethod
    def of(cls, reply: StreamedResponse) -> Refusal:
        """Read what an answer says, and close it."""
        with closing(reply):
            text = _text_of(reply)
        own = ERROR.fullmatch(text)
        return cls(reply.status, own[1] if own else "", _words_in(text), retry_after(reply.headers))

    @property
    def is_for_absence(self) -> bool:
        """Whether the status alone would mean that the product is gone."""
        return self.status in (404, 410)

    @property
    def may_be_of_link(self) -> bool:
        """Whether another link may help: this one is forbidden, or the store says what is wrong."""
        if self.status == 403:
            return True
        return bool(self.code) and self.code not in GONE + PASSING

    def of_store(self) -> MwaClientError:
        """Return the error for a refusal by the object store."""
        if self.is_for_absence and self.code in GONE:
            return self._gone(self.code)
        if self.code:
            return self._outage(
                f"The object store did not send the product (HTTP {self.status}, {self.code})."
            )
        return self._outage(f"Something other than the object store answered (HTTP {self.status}).")

    def of_service(self) -> MwaClientError:
        """Return the error for a refusal by the service, which in 2018 sent its products itself."""
        if self.is_for_absence and self.words:
            return self._gone(self.words)
        if self.words:
            return self._outage(f"The service did not send the product (HTTP {self.status}): {self.words}")
        return self._outage(f"Something other than the service answered (HTTP {self.status}).")

    def _gone(self, reason: str) -> ProductGone:
        return ProductGone(
            f"The product is gone from the server (HTTP {self.status}, {reason}).",
            "Run again with --allow-resubmit to have it made again.",
        )

    def _outage(self, what: str) -> ServiceUnavailable:
        return ServiceUnavailable(what, retry_after=self.retry_after)


def is_refusal(status: int) -> bool:
    """Say whether a status refuses the product, rather than sends it or asks to come back later."""
    return 400 <= status < 500 and status not in (408, 416, 425, 429)


def _text_of(reply: StreamedResponse) -> str:
    """Return the beginning of a body, as much as comes in a few reads."""
    room = memoryview(bytearray(MOST_REFUSAL))
    there = 0
    give_up_at = time.monotonic() + REFUSAL_TIME
    reply.hurry(REFUSAL_TIME)
    try:
        for _ in range(MOST_PIECES):
            count = reply.read_into(room[there:]) if there < len(room) else 0
            there += count or 0
            if not count or time.monotonic() >= give_up_at:
                break
    except ServiceUnavailable:
        pass  # The status is enough.
    return bytes(room[:there]).decode("utf-8", "replace")


def _words_in(text: str) -> str:
    """Return the reason in an error of the service; empty if it is none, but any web server's JSON."""
    try:
        body = read_json(text)
    except ValueError:
        return ""
    if not isinstance(body, dict) or not isinstance(body.get("error"), str):
        return ""
    reasons = [body.get(key) for key in ("error", "message", "detail")]
    return clean_text(" ".join(reason for reason in reasons if isinstance(reason, str)))
