"""A session with the service: submit, list, cancel, fetch; it logs in when that is needed.

It hides which interface of the service answers, and logs in again when the service has forgotten the session.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Callable, TypeVar

from mwa_client.asvo.api_client import ApiClient, Submission
from mwa_client.asvo.job import Job, ProductFile
from mwa_client.asvo.product_source import ProductSource
from mwa_client.errors import (
    BadReply,
    LoginRefused,
    ServiceMoved,
    ServiceUnavailable,
    ServiceUnreachable,
    SessionLost,
    WrongInterface,
)
from mwa_client.jobs.keys import ApiVersion, JobType
from mwa_client.timing import Clock, SystemClock

if TYPE_CHECKING:
    from mwa_client.asvo.stream import StreamedResponse

T = TypeVar("T")


class Session:
    """The service as the rest of the program sees it. Safe to use from several threads.

    Parameters
    ----------
    candidates : sequence of ApiClient
        The interfaces that the service may speak; the first one whose login is understood is used.
    clock : Clock, optional
        Time; default is the machine's.
    """

    def __init__(self, candidates: Sequence[ApiClient], clock: Clock | None = None) -> None:
        self._candidates = tuple(candidates)
        self._clock = clock or SystemClock()
        self._left_alone_until = float("-inf")
        self._interface = self._candidates[0]
        self._lock = threading.Lock()
        self._logins = 0

    @property
    def api(self) -> ApiVersion:
        """The interface that is spoken; before the login, the one that will be tried first."""
        return self._interface.api

    @property
    def service(self) -> str:
        """The service's name in the ledger."""
        return self._interface.service

    @property
    def pause(self) -> float:
        """For how many seconds the service has asked to be left alone."""
        return max(self._left_alone_until - self._clock.monotonic(), 0.0)

    def close(self) -> None:
        """Close the connections. The session at the service is left to expire."""
        for interface in self._candidates:
            interface.close()

    def close_idle(self) -> None:
        """Close the connections that are only kept for later calls."""
        for interface in self._candidates:
            interface.close_idle()

    def login(self) -> None:
        """Log in, unless that has been done.

        Raises
        ------
        LoginRefused
            The credentials are not accepted.
        ServiceError
            The service refuses or does not answer.
        """
        self._login_after(0)

    def submit(
        self, job_type: JobType, parameters: Mapping[str, str], *, allow_resubmit: bool = False
    ) -> Submission:
        """Submit one job.

        Raises
        ------
        ServiceRefused
            The service does not want this job; its words are in the message.
        ServiceOutage, JobLimitReached
            It takes no jobs at present; this one was not made.
        ServiceUnavailable
            No usable answer. The job may have been made: look for it in `jobs` before trying again.
        """
        return self._logged_in(
            lambda: self._interface.submit(job_type, parameters, allow_resubmit=allow_resubmit)
        )

    def jobs(self, known: Collection[int] = ()) -> dict[int, Job]:
        """Return every job that the service lists for this user, by job id.

        Parameters
        ----------
        known : collection of int
            Jobs to look up one by one where they are too old for the listing.

        Raises
        ------
        ServiceError
            The service refuses or does not answer.
        """
        return self._logged_in(lambda: {job.job_id: job for job in self._interface.jobs(known)})

    def job(self, job_id: int) -> Job | None:
        """Return one job, or None if the service has no job of that id.

        Raises
        ------
        ServiceError
            The service refuses or does not answer.
        """
        return self._logged_in(lambda: self._interface.job(job_id))

    def cancel(self, job_id: int) -> None:
        """Cancel a job.

        Raises
        ------
        ServiceRefused
            There is no such job, or it cannot be cancelled.
        """
        self._logged_in(lambda: self._interface.cancel(job_id))

    def source(self, job_id: int, file: ProductFile) -> ProductSource:
        """Return where the bytes of one file of a job come from."""
        return ProductSource(self, job_id, file)

    def open_product(self, job_id: int, file: ProductFile, headers: Mapping[str, str]) -> StreamedResponse:
        """Start the download of one file of a job.

        Raises
        ------
        ServiceUnavailable
            No usable answer this time.
        """
        return self._logged_in(lambda: self._interface.open_product(job_id, file, headers))

    def _logged_in(self, call: Callable[[], T]) -> T:
        """Make a call with a session; if it turns out to be lost, log in and make the call once more."""
        try:
            logins = self._login_after(0)
            try:
                return call()
            except SessionLost:
                self._login_after(logins)
                return call()
        except ServiceUnavailable as error:
            until = self._clock.monotonic() + (error.retry_after or 0.0)
            self._left_alone_until = max(self._left_alone_until, until)
            raise

    def _login_after(self, logins: int) -> int:
        """Log in unless another thread has done so since; return the number of logins so far."""
        with self._lock:
            if self._logins == logins:
                self._login()
                self._logins += 1
            return self._logins

    def _login(self) -> None:
        """Log in over the first interface that the server understands, and stay with it."""
        if self._logins:
            self._login_again()
            return
        refusals: list[WrongInterface] = []
        for candidate in self._candidates:
            try:
                candidate.login()
            except WrongInterface as error:
                refusals.append(error)
                continue
            except ServiceUnreachable:
                if refusals and isinstance(refusals[0], ServiceMoved):
                    raise refusals[0] from None  # The first refusal helps the user more.
                raise
            self._interface = candidate
            return
        raise refusals[0]

    def _login_again(self) -> None:
        try:
            self._interface.login()
        except LoginRefused as error:
            if error.is_own:
                raise
            # These credentials were good before: a web page of another server is no refusal.
            raise BadReply(error.what) from None
        except WrongInterface as error:
            # It was spoken before: what answers now is not the service.
            raise BadReply(error.what) from None
