"""A session with the service: submit, jobs, cancel and products, logged in when it is needed.

It hides which interface of the service answers, and mends a session that has expired.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Callable, Protocol, TypeVar

from mwa_client.asvo.job import Job, ProductFile
from mwa_client.asvo.wire import Reply
from mwa_client.errors import SessionLost
from mwa_client.jobkeys import Api, JobType

T = TypeVar("T")


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


class Interface(Protocol):
    """What each interface of the service can do, in its own words on the wire.

    Every call raises `SessionLost` where logging in again would help.
    """

    @property
    def api(self) -> Api:
        """Which interface this is."""
        ...

    @property
    def service(self) -> str:
        """The service's name in what the client remembers: jobs of one are not looked for at another."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...

    def login(self) -> None:
        """Open a session."""
        ...

    def submit(self, job_type: JobType, parameters: Mapping[str, str]) -> int:
        """Submit a job whose parameters are in this interface's words; return its id."""
        ...

    def jobs(self) -> Iterable[Job]:
        """List the user's jobs."""
        ...

    def cancel(self, job_id: int) -> None:
        """Cancel a job."""
        ...

    def open_product(self, job_id: int, file: ProductFile, headers: Mapping[str, str]) -> Reply:
        """Start the download of one file of a job."""
        ...


class Session:
    """The service as the rest of the program sees it. Safe to use from several threads.

    Parameters
    ----------
    interface : Interface
        The interface to speak.
    """

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._lock = threading.Lock()
        self._logins = 0

    @property
    def api(self) -> Api:
        """The interface that is spoken."""
        return self._interface.api

    @property
    def service(self) -> str:
        """The service's name in what the client remembers."""
        return self._interface.service

    def close(self) -> None:
        """Close the connections. The session at the service is left to expire."""
        self._interface.close()

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

    def submit(self, job_type: JobType, parameters: Mapping[str, str]) -> int:
        """Submit one job and return its id.

        Raises
        ------
        ServiceRefused
            The service does not want this job; its words are in the message.
        ServiceUnavailable
            No usable answer. The job may have been made: look for it in `jobs` before trying again.
        """
        return self._logged_in(lambda: self._interface.submit(job_type, parameters))

    def jobs(self) -> dict[int, Job]:
        """Return every job that the service lists for this user, by job id.

        Raises
        ------
        ServiceError
            The service refuses or does not answer.
        """
        return self._logged_in(lambda: {job.job_id: job for job in self._interface.jobs()})

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

    def open_product(self, job_id: int, file: ProductFile, headers: Mapping[str, str]) -> Reply:
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
                self._interface.login()
                self._logins += 1
            return self._logins


class ProductSource:
    """Where the bytes of one file of a job come from, for the transfer to ask."""

    def __init__(self, session: Session, job_id: int, file: ProductFile) -> None:
        self._session = session
        self._job_id = job_id
        self._file = file

    def get(self, headers: Mapping[str, str]) -> Reply:
        """Ask for the file, or a range of it."""
        return self._session.open_product(self._job_id, self._file, headers)
