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
    from mwa_client.directory.part import Part
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
        The API key for today's service; default is ``MWA_ASVO_API_KEY``, or the file ``~/.mwa-asvo/key``.
    api : str, optional
        The interface to use, ``2018``, ``v1`` or ``v2``; default is the one that answers.
    host : str, optional
        Host name or URL; default is ``MWA_ASVO_HOST`` (``ASVO_HOST`` for 2018), or the service's address.
    port : int, optional
        Default is ``MWA_ASVO_PORT`` (``ASVO_PORT``), or the service's port.

    Raises
    ------
    CredentialsMissing
        Neither the arguments nor the environment have a key, or a user name and password.
    SettingsError
        An argument or a variable has a value that cannot be used, or others can read the key's file.
    LoginRefused
        The service does not accept the account.
    ServiceError
        The service refuses the call or does not answer.
    """
    from mwa_client.asvo.key_file import with_key_of_file
    from mwa_client.asvo.variables import services_from

    environment = dict(os.environ)
    if user is not None:
        # An account that is given counts more than a key that happens to be in the environment.
        environment.pop("MWA_ASVO_API_KEY", None)
    given = {"ASVO_USER": user, "ASVO_PASS": password, "MWA_ASVO_API_KEY": key}
    for family in ("ASVO", "MWA_ASVO"):
        given |= {f"{family}_HOST": host, f"{family}_PORT": None if port is None else str(port)}
    environment |= {name: value for name, value in given.items() if value is not None}
    if user is None:
        environment = dict(with_key_of_file(environment))
    client = Client(*services_from(environment, None if api is None else _version(api)))
    client.login()
    return client


class Client:
    """A session with the service, for Python programs; `login` returns one.

    Parameters
    ----------
    services : Service
        The ways to reach the service, in the order to try them.
    """

    def __init__(self, *services: Service) -> None:
        from mwa_client.asvo import open_session

        self._session = open_session(*services)
        self._call_timeout = services[0].call_timeout
        self._delivery_roots = services[0].delivery_roots

    def login(self) -> None:
        """Log in now rather than with the first call; raises what the function `login` raises."""
        self._session.login()

    def close(self) -> None:
        """Close the connections; a ``with`` block does so at its end."""
        self._session.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def submit(self, row: str | Mapping[str, object]) -> int:
        """Submit one job and return its job id.

        If today's service has the same job already, that job's id is returned; the service of 2018 makes a
        new job.

        Parameters
        ----------
        row : str or mapping
            A row as in a job file, ``"obs_id=1191828584, job_type=d, download_type=vis"``, or its keys and
            values as a mapping.

        Raises
        ------
        JobFileError
            The row has mistakes; nothing was sent.
        JobDiffers
            The service returned the id of a job that was asked for something else.
        ServiceRefused
            The service does not want this job.
        ServiceUnavailable
            No usable answer. The job may exist all the same: look for it in `jobs` before trying again.
        """
        from mwa_client.batch.duplicates import submit
        from mwa_client.jobs.jobfile import parse_row

        self._session.login()  # Before the login it is not known which interface the row is for.
        request = parse_row(row, self._session.api)
        return submit(self._session, request, allow_resubmit=request.allow_resubmit).job_id

    def jobs(self) -> dict[int, Job]:
        """Return every job that the service lists for the user, by job id."""
        return self._session.jobs()

    def cancel(self, job_id: int) -> None:
        """Cancel a job; raises `ServiceRefused` if the job does not exist or cannot be cancelled."""
        self._session.cancel(job_id)

    def download(
        self, job_id: int, directory: str | Path = ".", *, connections: int = 8
    ) -> tuple[FetchedFile, ...]:
        """Download the product of a ready job into a directory, complete and verified.

        A download that an earlier call has begun is continued; files that you have changed since stay as they
        are.

        Parameters
        ----------
        job_id : int
            The job.
        directory : str or Path
            Where the product goes; made if missing.
        connections : int
            The most connections to use for the product; only as many are used as make it faster.

        Raises
        ------
        NotFinished
            The job is not ready yet, or another client is working in the directory.
        JobFailed
            The job has failed, its product is gone, or the product arrived wrong twice.
        ServiceRefused
            The service lists no such job.
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
        part: str | None = None,
        wait_for_lock: float = 0.0,
        listen: Callable[[Event], None] = lambda event: None,
    ) -> Summary:
        """Run a job file as the command does: submit, watch, download and verify every row.

        Parameters
        ----------
        csv : str or Path
            The job file.
        directory : str or Path
            Where the products go; made if missing.
        parallel : int
            Downloads at a time.
        connections : int
            The most connections to use, over all downloads; only as many are used as make it faster.
        once : bool
            Make one pass and return: submit what is missing, download what is ready.
        part : str, optional
            The share of the rows to work on, ``"2/4"``, while other clients work on the others. The part of
            the number 0 is the last one, so they may be counted from 0 or from 1.
        wait_for_lock : float
            Seconds to wait at most until no other client works in the directory.
        listen : callable, optional
            Called with each event of `mwa_client.batch.events` as it happens.

        Returns
        -------
        Summary
            What is complete, what has failed, and why; `exit_status` is 0 if all is complete and verified.

        Raises
        ------
        JobFileError
            The file has mistakes; nothing was sent.
        SettingsError
            The file cannot be read, `parallel` or `connections` is below 1, or `part` is none.
        ServiceError
            The service does not let the user in.
        DirectoryUnusable, DiskFull
            The directory cannot be written.
        DirectoryBusy
            Another client is working in the directory.
        """
        from mwa_client.batch.batch import Batch
        from mwa_client.batch.pacing import Pacing
        from mwa_client.jobs.jobfile import parse, read_bytes
        from mwa_client.jobs.sharing import Share
        from mwa_client.timing import SystemClock

        _must_be_positive("parallel", parallel)
        _must_be_positive("connections", connections)
        data, source = read_bytes(csv)
        jobs = parse(data, self._session.api, source).jobs
        share = None if part is None else Share.read(part)
        ours = None if share is None or share.is_all else share.part(jobs)
        if ours is not None:
            jobs = tuple(job for job in jobs if job.obs_id in ours.observations)

        def check(api: ApiVersion) -> None:
            parse(data, api, source)

        pacing = Pacing(parallel, connections=connections, call_timeout=self._call_timeout)
        with self._open_ledger(Path(directory), ours, wait_for_lock) as ledger:
            parts = (lambda: self._session, ledger, SystemClock(), listen, pacing)
            return Batch(jobs, *parts, check=check, once=once, roots=self._delivery_roots).run()

    @contextmanager
    def _open_ledger(self, directory: Path, part: Part | None = None, wait: float = 0.0) -> Iterator[Ledger]:
        """Open the ledger of a directory, with the directory's lock held."""
        from mwa_client.batch.ledger import STATE_DIR, Ledger
        from mwa_client.directory.lock import directory_lock
        from mwa_client.timing import SystemClock

        means, service = (directory, directory / STATE_DIR, SystemClock()), self._session.service
        lock = directory_lock(*means, lambda text: None, part=part, wait=wait)
        with lock as check_lock, closing(Ledger(directory, service, check_lock, part=part)) as ledger:
            yield ledger


def _version(api: str) -> ApiVersion:
    from mwa_client.jobs.keys import ApiVersion

    try:
        return ApiVersion(api)
    except ValueError:
        known = ", ".join(each.value for each in ApiVersion)
        raise SettingsError(
            f"api={api!r} is no interface of the service.", f"It must be one of: {known}."
        ) from None


def _must_be_positive(name: str, value: int) -> None:
    if value < 1:
        raise SettingsError(f"{name}={value} cannot be.", "It must be 1 or more.")
