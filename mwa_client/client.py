"""The Python API: log in to the service, then submit, list, cancel and download jobs, or run a job file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from mwa_client.errors import JobFailed, NotFinished, ServiceRefused, SettingsError

# The rest is imported where it is needed: `import mwa_client` must not wait for it.
if TYPE_CHECKING:
    from mwa_client.asvo.job import Job
    from mwa_client.asvo.service import Service
    from mwa_client.batch.events import Event, Summary
    from mwa_client.batch.ledger import Ledger
    from mwa_client.jobs.keys import ApiVersion
    from mwa_client.transfer.files import FetchedFile


def login(
    user: str | None = None,
    password: str | None = None,
    *,
    key: str | None = None,
    api: str | None = None,
    host: str | None = None,
    port: int | None = None,
) -> Client:
    """Log in to the service.

    Parameters
    ----------
    user, password : str, optional
        An account of 2018; default is ``ASVO_USER`` and ``ASVO_PASS`` of the environment.
    key : str, optional
        The API key for today's service; default is ``MWA_ASVO_API_KEY``.
    api : str, optional
        The interface to speak, ``2018``, ``v1`` or ``v2``; default is to find out.
    host : str, optional
        Host name or URL; default is ``MWA_ASVO_HOST`` (``ASVO_HOST`` for 2018), or the service's address.
    port : int, optional
        Default is ``MWA_ASVO_PORT`` (``ASVO_PORT``), or the service's port.

    Raises
    ------
    CredentialsMissing
        No key, or no user name or password.
    LoginRefused
        They are not accepted.
    ServiceError
        The service refuses or does not answer.
    """
    from mwa_client.asvo.variables import services_from
    from mwa_client.jobs.keys import ApiVersion

    environment = dict(os.environ)
    if user is not None:
        # An account that is given counts more than a key that happens to be in the environment.
        environment.pop("MWA_ASVO_API_KEY", None)
    given = {"ASVO_USER": user, "ASVO_PASS": password, "MWA_ASVO_API_KEY": key}
    for family in ("ASVO", "MWA_ASVO"):
        given |= {f"{family}_HOST": host, f"{family}_PORT": None if port is None else str(port)}
    environment |= {name: value for name, value in given.items() if value is not None}
    client = Client(*services_from(environment, None if api is None else ApiVersion(api)))
    client.login()
    return client


class Client:
    """The service, for Python programs. Made by `login`.

    Parameters
    ----------
    services : Service
        The ways to the service to try, in order, and the account there.
    """

    def __init__(self, *services: Service) -> None:
        from mwa_client.asvo import open_session

        self._session = open_session(*services)
        self._call_timeout = services[0].call_timeout
        self._delivery_roots = services[0].delivery_roots

    def login(self) -> None:
        """Log in now rather than with the first call; raises as the function `login` does."""
        self._session.login()

    def close(self) -> None:
        """Close the connections. A ``with`` block does it by itself."""
        self._session.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def submit(self, row: str | Mapping[str, object]) -> int:
        """Submit one job and return its job id.

        Where today's service has the same job already, its id is returned; that of 2018 makes a new one.

        Parameters
        ----------
        row : str or mapping
            What a row of a job file holds: ``"obs_id=1191828584, job_type=d, download_type=vis"``, or the
            same as a mapping.

        Raises
        ------
        JobFileError
            The row has mistakes; nothing was sent.
        JobDiffers
            The job that the service takes for the same was asked for something else.
        ServiceRefused
            The service does not want this job.
        ServiceUnavailable
            No usable answer. The job may have been made: look for it in `jobs` before trying again.
        """
        from mwa_client.batch.duplicates import submit
        from mwa_client.jobs.jobfile import parse_row

        self._session.login()  # Only then it is known which interface the row is for.
        request = parse_row(row, self._session.api)
        return submit(self._session, request, allow_resubmit=request.allow_resubmit).job_id

    def jobs(self) -> dict[int, Job]:
        """Return every job that the service lists for the user, by job id."""
        return self._session.jobs()

    def cancel(self, job_id: int) -> None:
        """Cancel a job; `ServiceRefused` if there is none or it cannot be cancelled."""
        self._session.cancel(job_id)

    def download(
        self, job_id: int, directory: str | Path = ".", *, connections: int = 8
    ) -> tuple[FetchedFile, ...]:
        """Bring the product of a ready job into a directory, complete and verified.

        What an earlier call has left there is continued; what you have changed since stays as it is.

        Parameters
        ----------
        job_id : int
            The job.
        directory : str or Path
            Where its product goes; made if missing.
        connections : int
            The most connections to fetch it with; as many are used as help.

        Raises
        ------
        NotFinished
            The job is not ready yet, or another client is working in the directory.
        JobFailed
            It has failed, its product is gone, or it arrived wrong twice.
        ServiceRefused
            There is no such job.
        """
        from mwa_client.batch.batch import Batch
        from mwa_client.batch.pacing import Pacing
        from mwa_client.batch.rows import ListedJob
        from mwa_client.timing import SystemClock

        _must_be_positive("connections", connections)
        job = self._session.jobs(known=(job_id,)).get(job_id)
        if job is None:
            raise ServiceRefused(f"The service lists no job {job_id}.")
        if job.state.is_lost:
            raise JobFailed(f"Job {job_id}: {job.label}. {job.error_text}".strip())
        if not job.state.is_ready or not job.product:
            raise NotFinished(f"Job {job_id} is not ready for download: {job.label}.", "Try again later.")
        pacing = Pacing(1, connections=connections, call_timeout=self._call_timeout)
        with self._open_ledger(Path(directory)) as ledger:
            parts = (lambda: self._session, ledger, SystemClock(), lambda event: None, pacing)
            rows = [ListedJob.of(job, self._session.api)]
            summary = Batch(rows, *parts, once=True, roots=self._delivery_roots).run()
        for failure in summary.failed:
            raise failure.error
        if summary.pending:
            raise NotFinished(summary.why_pending, "Call it again later; what was fetched is kept.")
        if summary.elsewhere:
            raise NotFinished(
                f"Job {job_id} was delivered to {', '.join(summary.elsewhere)}, which this host cannot see.",
                "Call this on a host that can.",
            )
        return summary.complete[0].files

    def run(
        self,
        csv: str | Path,
        directory: str | Path = ".",
        *,
        parallel: int = 4,
        connections: int = 8,
        once: bool = False,
        listen: Callable[[Event], None] = lambda event: None,
    ) -> Summary:
        """Do what the command does with a job file: submit, watch, fetch, verify.

        Parameters
        ----------
        csv : str or Path
            The job file.
        directory : str or Path
            Where the products go; made if missing.
        parallel : int
            Downloads at a time.
        connections : int
            The most connections to fetch products with, over all downloads; as many are used as help.
        once : bool
            One pass: submit what is missing, fetch what is ready, return.
        listen : callable, optional
            Is told each event of `mwa_client.batch.events` as it happens.

        Returns
        -------
        Summary
            What is complete, what has failed, and why; `exit_status` is 0 if all is complete and verified.

        Raises
        ------
        JobFileError
            The file has mistakes; nothing was sent.
        SettingsError
            The file cannot be read, or `parallel` or `connections` is below 1.
        ServiceError
            The service refuses to let us in.
        DirectoryUnusable, DiskFull
            The directory cannot be written.
        DirectoryBusy
            Another client is working there.
        """
        from mwa_client.batch.batch import Batch
        from mwa_client.batch.pacing import Pacing
        from mwa_client.jobs.jobfile import parse, read_bytes
        from mwa_client.timing import SystemClock

        _must_be_positive("parallel", parallel)
        _must_be_positive("connections", connections)
        data, source = read_bytes(csv)
        jobs = parse(data, self._session.api, source).jobs

        def check(api: ApiVersion) -> None:
            parse(data, api, source)

        pacing = Pacing(parallel, connections=connections, call_timeout=self._call_timeout)
        with self._open_ledger(Path(directory)) as ledger:
            parts = (lambda: self._session, ledger, SystemClock(), listen, pacing)
            return Batch(jobs, *parts, check=check, once=once, roots=self._delivery_roots).run()

    @contextmanager
    def _open_ledger(self, directory: Path) -> Iterator[Ledger]:
        """Open the ledger of a directory, with the directory's lock held."""
        from mwa_client.batch.ledger import MEMORY, Ledger
        from mwa_client.directory.lock import directory_lock
        from mwa_client.timing import SystemClock

        lock = directory_lock(directory, directory / MEMORY, SystemClock(), lambda text: None)
        with lock as check_lock, closing(Ledger(directory, self._session.service, check_lock)) as ledger:
            yield ledger


def _must_be_positive(name: str, value: int) -> None:
    if value < 1:
        raise SettingsError(f"{name}={value} cannot be.", "It must be 1 or more.")
