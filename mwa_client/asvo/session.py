"""A session with the service: submit, jobs, cancel and products, logged in when it is needed.

It hides which interface of the service answers, and mends a session that has expired.
"""

from __future__ import annotations

import json as jsonlib
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Protocol, TypeVar
from urllib.parse import urlencode, urlsplit

from mwa_client.asvo.job import Job, ProductFile
from mwa_client.asvo.refused import Refusal, is_refusal
from mwa_client.errors import (
    BadReply,
    LoginRefused,
    MwaClientError,
    ProductGone,
    ServiceMoved,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnreachable,
    SessionLost,
    WrongInterface,
)
from mwa_client.jobs.keys import ApiVersion, JobType

if TYPE_CHECKING:
    from mwa_client.asvo.http import StreamedResponse

T = TypeVar("T")

FRESH_LINKS = 3
"""Fresh links that must be refused, each a while after the last, before a product counts as refused."""
LINK_PAUSE = 1.0
"""Seconds before the next of them, at least."""


@dataclass(frozen=True)
class Submission:
    """What came of a submission.

    Attributes
    ----------
    existed : bool
        The service had a job for the same already; this is its id.
    """

    job_id: int
    existed: bool = False


@dataclass(frozen=True)
class HttpRequest:
    """A request as it goes over the wire, with a form or a JSON object for its body."""

    method: str
    path: str
    form: Mapping[str, str] | None = None
    json: Mapping[str, object] | None = None

    @property
    def body(self) -> Mapping[str, object]:
        """What is sent, by its keys."""
        return self.form or self.json or {}

    def __str__(self) -> str:
        return f"{self.method} {self.path} {urlencode(self.form) if self.form else jsonlib.dumps(self.json)}"


class ApiClient(Protocol):
    """What each interface of the service can do, in its own words on the wire.

    Every call raises `SessionLost` where logging in again would help.
    """

    @property
    def api(self) -> ApiVersion:
        """Which interface this is."""
        ...

    @property
    def service(self) -> str:
        """The service's name in what the client remembers: jobs of one are not looked for at another."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...

    def close_idle(self) -> None:
        """Close the connections that are only kept for later calls."""
        ...

    def login(self) -> None:
        """Open a session; raise `WrongInterface` where the server speaks another one."""
        ...

    def submit(self, job_type: JobType, parameters: Mapping[str, str], *, allow_resubmit: bool) -> Submission:
        """Submit a job whose parameters are in this interface's words."""
        ...

    def jobs(self, known: Collection[int] = ()) -> Iterable[Job]:
        """List the user's jobs, the `known` ones also where they are too old for the listing."""
        ...

    def job(self, job_id: int) -> Job | None:
        """Look one job up; None where there is none."""
        ...

    def cancel(self, job_id: int) -> None:
        """Cancel a job."""
        ...

    def open_product(self, job_id: int, file: ProductFile, headers: Mapping[str, str]) -> StreamedResponse:
        """Start the download of one file of a job."""
        ...


class Session:
    """The service as the rest of the program sees it. Safe to use from several threads.

    Parameters
    ----------
    candidates : sequence of ApiClient
        The interfaces that the service may speak; the first one whose login is understood is used.
    """

    def __init__(self, candidates: Sequence[ApiClient]) -> None:
        self._candidates = tuple(candidates)
        self._interface = self._candidates[0]
        self._lock = threading.Lock()
        self._logins = 0

    @property
    def api(self) -> ApiVersion:
        """The interface that is spoken; before the login, the one that will be tried first."""
        return self._interface.api

    @property
    def service(self) -> str:
        """The service's name in what the client remembers."""
        return self._interface.service

    def close(self) -> None:
        """Close the connections. The session at the service is left to expire."""
        for interface in self._candidates:
            interface.close()

    def close_idle(self) -> None:
        """Close the connections that are only kept for later calls."""
        for interface in self._candidates:
            interface.close_idle()

    def login(self) -> None:
        """Log in, if that has not happened yet.

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
        """Return one job, None where the service has none of that id.

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
        logins = self._login_after(0)
        try:
            return call()
        except SessionLost:
            self._login_after(logins)
            return call()

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
                    raise refusals[0] from None  # Nobody there either: what was said first helps more.
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
            # These credentials were good before, and somebody's web page is no word of the service's.
            raise BadReply(error.what) from None


class ProductSource:
    """Where the bytes of one file of a job come from, for the transfer to ask."""

    def __init__(self, session: Session, job_id: int, file: ProductFile) -> None:
        self._session = session
        self._job_id = job_id
        self._file = file
        self._lock = threading.Lock()
        self._refused: ProductFile | None = None
        self._refusals = 0

    @property
    def host(self) -> str:
        """Whom it is asked of, for what holds for all requests to one host."""
        return urlsplit(self._file.url).netloc if self._file.url else self._session.service

    def get(self, headers: Mapping[str, str]) -> StreamedResponse:
        """Ask for the file, or a range of it; where its signed URL has died, with a new one.

        Raises
        ------
        ServiceUnavailable
            It is not to be had this time.
        ProductGone
            The store or the service says itself that it has it no more.
        ServiceRefused
            It was refused again and again.
        """
        file = self._file
        reply = self._session.open_product(self._job_id, file, headers)
        if not is_refusal(reply.status):
            return reply
        refusal = Refusal.of(reply)
        if not file.url:
            raise self._refusal_of_service(refusal)
        if refusal.status != 403:
            raise refusal.of_store()
        file = self._instead_of(file)
        reply = self._session.open_product(self._job_id, file, headers)
        if not is_refusal(reply.status):
            self._refusals = 0
            return reply
        refusal = Refusal.of(reply)
        raise self._refusal_of_link(file, refusal) if refusal.status == 403 else refusal.of_store()

    def give_up(self, thread: threading.Thread) -> None:
        """End the request that another thread has made and that was not answered yet."""
        from mwa_client.asvo.limits import end_call_of  # Loaded by now, for there was a request.

        end_call_of(thread)

    def _instead_of(self, old: ProductFile) -> ProductFile:
        """Return the file with a new signed URL; several threads that need one ask for it once."""
        with self._lock:
            if self._file is old:
                self._file = self._listed_anew()
            return self._file

    def _refusal_of_service(self, refusal: Refusal) -> MwaClientError:
        """Return what to make of a refusal of the service itself; its listing knows more than a page."""
        error = refusal.of_service()
        if refusal.is_for_absence and not isinstance(error, ProductGone):
            self._listed_anew()
        return error

    def _refusal_of_link(self, file: ProductFile, refusal: Refusal) -> MwaClientError:
        """Return what to make of a fresh link that is refused; several threads that meet it count as one."""
        if not refusal.code:
            return refusal.of_store()
        with self._lock:
            if self._refused is not file:
                self._refused, self._refusals = file, self._refusals + 1
        if self._refusals > FRESH_LINKS:
            return ServiceRefused(
                f"the store does not accept its link ({refusal.code}), nor {FRESH_LINKS} fresh ones."
            )
        return ServiceUnavailable(
            f"The store does not accept a fresh link ({refusal.code}).",
            retry_after=max(refusal.retry_after or 0.0, LINK_PAUSE),
        )

    def _listed_anew(self) -> ProductFile:
        """Return the file as a new listing of its job has it, with a new signed URL.

        Raises
        ------
        ProductGone
            The listing says that the job will bring nothing any more.
        ServiceUnavailable
            It does not have the file: a listing can lag, or be somebody's page.
        """
        try:
            job = self._session.jobs(known=(self._job_id,)).get(self._job_id)
        except ServiceRefused as error:
            if error.is_own:
                raise
            raise ServiceUnavailable(error.what) from error
        if job is not None and job.state.is_lost:
            raise ProductGone(
                f"The service lists the job as {job.label}.", "Run the command again to have it made anew."
            )
        for file in job.product if job is not None else ():
            if (file.name, file.size) == (self._file.name, self._file.size):
                return file
        raise ServiceUnavailable("The service does not list the product just now.", retry_after=LINK_PAUSE)
