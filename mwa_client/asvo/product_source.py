"""The source of one product file: the service or the object store, asked for the file or a range of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mwa_client.asvo.address import origin_of
from mwa_client.asvo.job import ProductFile
from mwa_client.asvo.product_refusal import Refusal, is_refusal
from mwa_client.errors import (
    LinkNotRenewed,
    MwaClientError,
    OutOfDescriptors,
    ProductGone,
    ServiceRefused,
    ServiceUnavailable,
)

if TYPE_CHECKING:
    from mwa_client.asvo.session import Session
    from mwa_client.asvo.stream import StreamedResponse

FRESH_LINKS = 3
"""Fresh links that must be refused, each a while after the last, before a product counts as refused."""
LINK_PAUSE = 1.0
"""Seconds before the next fresh link is tried, at least."""


class ProductSource:
    """Where one file of a job comes from. A signed URL that has died is replaced by a fresh one."""

    def __init__(self, session: Session, job_id: int, file: ProductFile) -> None:
        self._session = session
        self._job_id = job_id
        self._file = file
        self._lock = threading.Lock()
        self._refusals = _Refusals()

    @property
    def host(self) -> str:
        """The host that sends the file; some limits hold for all requests to one host."""
        if not self._file.url:
            return self._session.service
        try:
            origin = origin_of(self._file.url)
        except ServiceRefused:
            return ""  # Who asks for the file is told why.
        return f"{origin.host}:{origin.port}"

    def get(self, headers: Mapping[str, str]) -> StreamedResponse:
        """Request the file, or a range of it; if its signed URL has died, by a fresh one.

        Raises
        ------
        ServiceUnavailable
            The file could not be had this time.
        ProductGone
            The store or the service says itself that it no longer has the file.
        ServiceRefused
            Fresh links were refused again and again.
        """
        file = self._file
        reply = self._session.open_product(self._job_id, file, headers)
        if not is_refusal(reply.status):
            self._refusals.count = 0
            return reply
        refusal = Refusal.of(reply)
        if not file.url:
            raise self._refusal_of_service(refusal)
        if not refusal.may_be_of_link:
            raise refusal.of_store()
        file = self._replacement_of(file)
        reply = self._session.open_product(self._job_id, file, headers)
        if not is_refusal(reply.status):
            self._refusals.count = 0
            return reply
        refusal = Refusal.of(reply)
        raise self._refusal_of_link(refusal) if refusal.may_be_of_link else refusal.of_store()

    def cancel(self, thread: threading.Thread) -> None:
        """End the request that another thread has made, if its answer has not begun."""
        from mwa_client.asvo.call import abort_call_of  # Loaded already if there is a request.

        abort_call_of(thread)

    def _replacement_of(self, old: ProductFile) -> ProductFile:
        """Return the file with a new signed URL; several threads that need one list the job once."""
        with self._lock:
            if self._file is old:
                self._file = self._renewed()
            return self._file

    def _renewed(self) -> ProductFile:
        """Return the file with a new signed URL, unless the service has asked to be left alone."""
        pause = self._session.pause
        if pause > 0:
            raise LinkNotRenewed("The service has asked to wait before it is asked again.", retry_after=pause)
        try:
            return self._relisted()
        except OutOfDescriptors:
            raise
        except ServiceUnavailable as error:
            raise LinkNotRenewed(error.what, error.remedy, retry_after=error.retry_after) from error

    def _refusal_of_service(self, refusal: Refusal) -> MwaClientError:
        """Return the error for a refusal by the service; the job list decides if it does not say why."""
        error = refusal.of_service()
        if refusal.is_for_absence and not isinstance(error, ProductGone):
            self._relisted()
        return error

    def _refusal_of_link(self, refusal: Refusal) -> MwaClientError:
        """Return the error for a fresh link that is refused."""
        if not refusal.code:
            return refusal.of_store()
        reason = f"HTTP {refusal.status}, {refusal.code}"
        self._refusals.count += 1
        if self._refusals.count > FRESH_LINKS:
            return ServiceRefused(
                f"the store does not accept its link ({reason}), nor {FRESH_LINKS} fresh ones."
            )
        return ServiceUnavailable(
            f"The store does not accept a fresh link ({reason}).",
            retry_after=max(refusal.retry_after or 0.0, LINK_PAUSE),
        )

    def _relisted(self) -> ProductFile:
        """Return the file as a new listing of its job has it, with a new signed URL.

        Raises
        ------
        ProductGone
            The listing says that the job failed, expired or was cancelled.
        ServiceUnavailable
            The listing does not have the file: it can lag behind, or be another server's page.
        """
        try:
            job = self._session.jobs(known=(self._job_id,)).get(self._job_id)
        except ServiceRefused as error:
            if error.is_own:
                raise
            raise ServiceUnavailable(error.what) from error
        if job is not None and job.state.is_lost:
            raise ProductGone(
                f"The service lists the job as {job.label}.",
                "Run the same command again to have it made again.",
            )
        for file in job.product if job is not None else ():
            if (file.name, file.size) == (self._file.name, self._file.size):
                return file
        raise ServiceUnavailable(
            "The service does not list the product at the moment.", retry_after=LINK_PAUSE
        )


class _Refusals(threading.local):
    """How many fresh links were refused in a row, of those that this thread has asked for.

    A further connection can be refused where the first one is served; that must not use up the first one's
    tries.
    """

    count = 0
