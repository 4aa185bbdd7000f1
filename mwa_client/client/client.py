"""The Python API: a session with the service that submits, lists, cancels, waits for and downloads jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from mwa_client.client.arguments import directory_in, job_id_in, number_in, seconds_given
from mwa_client.client.telling import says_it_in_python_words, told_in_python_words, warn
from mwa_client.errors import JobFailed, NotFinished, SettingsError

# The rest is imported where it is needed: `import mwa_client` must not wait for it.
if TYPE_CHECKING:
    from mwa_client.asvo.job import Job
    from mwa_client.asvo.job_list import JobList
    from mwa_client.asvo.service import Service
    from mwa_client.batch.events import Event, Summary
    from mwa_client.batch.ledger import Ledger
    from mwa_client.directory.part import Part
    from mwa_client.jobs.given_rows import GivenRow, GivenRows
    from mwa_client.jobs.keys import ApiVersion
    from mwa_client.timing import Clock
    from mwa_client.transfer.files import FetchedFile


class Client:
    """A session with the service, for Python programs; `login` returns one.

    Parameters
    ----------
    services : Service
        The ways to reach the service, in the order to try them.
    """

    def __init__(self, *services: Service) -> None:
        from mwa_client.asvo import open_session
        from mwa_client.timing import SystemClock

        self._clock: Clock = SystemClock()
        self._session = open_session(*services, clock=self._clock)
        self._submitted: set[int] = set()
        self._call_timeout = services[0].call_timeout
        self._delivery_roots = services[0].delivery_roots

    @says_it_in_python_words
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

    @says_it_in_python_words
    def submit(self, row: GivenRow) -> int:
        """Submit one job and return its job id.

        If today's service has the same job already, that job's id is returned; the service of 2018 makes a
        new job.

        Parameters
        ----------
        row : str or mapping
            A row as in a job file, ``"obs_id=1191828584, job_type=d, download_type=vis"``, or its keys and
            values as a mapping, in which None and NaN count as left out.

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
        from mwa_client.jobs.given_rows import rows_as_text
        from mwa_client.jobs.jobfile import parse

        self._session.login()  # Before the login it is not known which interface the row is for.
        text, source = rows_as_text([row])
        given = parse(text, self._session.api, source)
        warn(given.warnings)
        if len(given.jobs) != 1:
            raise SettingsError(f"{len(given.jobs)} rows were given.", "Submit one at a time.")
        request = given.jobs[0]
        job_id = submit(self._session, request, allow_resubmit=request.allow_resubmit).job_id
        self._submitted.add(job_id)
        return job_id

    @says_it_in_python_words
    def jobs(self) -> JobList:
        """Return every job that the service lists for the user, by job id.

        Examples
        --------
        >>> import mwa_client
        >>> client = mwa_client.login()
        >>> jobs = client.jobs()
        >>> [job.obs_id for job in jobs.values() if job.state.is_ready]
        []
        >>> import pandas
        >>> table = pandas.DataFrame(jobs)  # job_id, obs_id, job_type, state, name, size, expires, error
        >>> client.close()
        """
        from mwa_client.asvo.job_list import JobList

        return JobList(self._session.jobs())

    @says_it_in_python_words
    def wait(self, job_id: int, *, timeout: float | str | None = None, progress: bool = False) -> Job:
        """Wait until the product of a job is ready; outages of the service are waited out.

        Parameters
        ----------
        job_id : int
            The job.
        timeout : float or str, optional
            Seconds (or a text like ``10m``) to wait at most; default is as long as it takes, maybe days.
        progress : bool
            Show on standard error how the job's state changes.

        Returns
        -------
        Job
            The job, which is ready for `download`.

        Raises
        ------
        JobFailed
            The job has failed, was cancelled, or has expired.
        NotFinished
            The time has passed.
        ServiceRefused
            The service lists no such job.

        Examples
        --------
        >>> import mwa_client
        >>> with mwa_client.login() as client:
        ...     job_id = client.submit("obs_id=1191828584, job_type=d, download_type=vis")
        ...     print(client.wait(job_id).label)
        ...     files = client.download(job_id, "data")
        Ready for Download
        """
        from mwa_client.batch.events import Notice, RowName, StateChanged
        from mwa_client.batch.waiting import wait_until_ready

        job_id, seconds = job_id_in(job_id), seconds_given("timeout", timeout)
        ends = float("inf") if seconds is None else self._clock.monotonic() + seconds
        with told_in_python_words(self._clock, progress=progress) as listen:
            return wait_until_ready(
                self._session,
                job_id,
                self._clock,
                ends=ends,
                is_new=job_id in self._submitted,
                tell=lambda text: listen(Notice(text)),
                show=lambda job: listen(StateChanged(RowName(0, job.obs_id or 0, job.job_id), job.label)),
            )

    @says_it_in_python_words
    def cancel(self, job_id: int) -> None:
        """Cancel a job; raises `ServiceRefused` if the job does not exist or cannot be cancelled."""
        self._session.cancel(job_id_in(job_id))

    @says_it_in_python_words
    def download(
        self, job_id: int, directory: str | Path = ".", *, connections: int = 8, unpack: bool = False
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
        unpack : bool
            Make a folder of the product while it arrives: a `FetchedFolder` with its number of `files`.

        Raises
        ------
        NotFinished
            The job is not ready yet, or another client is working in the directory.
        JobFailed
            The job has failed, its product is gone, or the product arrived wrong twice.
        ServiceRefused
            The service lists no such job.
        """
        from mwa_client.asvo.job_filter import not_listed
        from mwa_client.batch.batch import Batch
        from mwa_client.batch.pacing import Pacing
        from mwa_client.batch.rows import ListedJob

        place = directory_in(directory)
        job_id, connections = job_id_in(job_id), number_in("connections", connections)
        job = self._session.jobs(known=(job_id,)).get(job_id)
        if job is None:
            raise not_listed(job_id)
        if job.state.is_lost:
            raise JobFailed(f"Job {job_id}: {job.label}. {job.error_text}".strip())
        if not job.state.is_ready or not job.product:
            remedy = f"Wait for it with client.wait({job_id}), or try again later."
            raise NotFinished(f"Job {job_id} is not ready for download: {job.label}.", remedy)
        pacing = Pacing(1, connections=connections, call_timeout=self._call_timeout)
        with self._open_ledger(place) as ledger:
            parts = (lambda: self._session, ledger, self._clock, lambda event: None, pacing)
            rows = [ListedJob.of(job, self._session.api)]
            summary = Batch(rows, *parts, unpack=unpack, once=True, roots=self._delivery_roots).run()
        for failure in summary.failed:
            raise failure.error
        if summary.pending:
            raise NotFinished(summary.why_pending, "Call it again later; what was downloaded is kept.")
        if summary.elsewhere:
            raise NotFinished(
                f"Job {job_id} was delivered to {', '.join(summary.elsewhere)}, which this host cannot see.",
                "Call this on a host that can.",
            )
        return summary.complete[0].files

    @says_it_in_python_words
    def run(
        self,
        jobs: GivenRows,
        directory: str | Path = ".",
        *,
        parallel: int = 4,
        connections: int = 8,
        unpack: bool = False,
        then: str | None = None,
        once: bool = False,
        allow_resubmit: bool = False,
        give_up_after: float | str | None = None,
        part: str | None = None,
        wait_for_lock: float | str = 0.0,
        progress: bool = False,
        listen: Callable[[Event], None] | None = None,
    ) -> Summary:
        """Run jobs as the command does: submit, watch, download and verify every row.

        Warnings about the rows are reported with Python's `warnings`, as `MwaClientWarning`. What
        happens during the run (an outage, say) goes to `listen` and is shown with `progress`; without either,
        it is logged by the logger ``mwa_client``.

        Parameters
        ----------
        jobs : path, str, iterable or table
            A job file; or rows, each as text (``"obs_id=1191828584, job_type=c, output=ms"``) or as a mapping
            of keys and values, in which None and NaN count as left out; or a pandas DataFrame, a row for each
            job.
        directory : str or Path
            Where the products go; made if missing.
        parallel : int
            Downloads at a time.
        connections : int
            The most connections to use, over all downloads; only as many are used as make it faster.
        unpack : bool
            Make folders of the products that are tars or zips, as for `download`.
        then : str, optional
            A command that the shell runs for each product that is complete, once as far as can be known; in
            it, ``{path}``, ``{obs_id}``, ``{job_id}`` and ``{line}`` are replaced. Where it fails, the row
            has failed.
        once : bool
            Make one pass and return: submit what is missing, download what is ready.
        allow_resubmit : bool
            Submit failed jobs again, and submit even if the same job exists already.
        give_up_after : float or str, optional
            Seconds (or a text like ``2h``) after which to return, with rows still pending; default is never.
        part : str, optional
            The share of the rows to work on, ``"2/4"``, while other clients work on the others. Part 0
            is the same as the last one, so they may be counted from 0 or from 1.
        wait_for_lock : float or str
            Seconds (or a text like ``10m``) to wait at most until no other client works in the directory.
        progress : bool
            Show on standard error what happens: bars on a terminal, lines elsewhere, in a notebook for
            instance.
        listen : callable, optional
            Called with each event of `mwa_client.batch.events` as it happens.

        Returns
        -------
        Summary
            What is complete, what has failed, and why; `exit_status` is 0 if all is complete and verified.

        Raises
        ------
        JobFileError
            The rows have mistakes; nothing was sent.
        SettingsError
            The file cannot be read, or an argument has a value that cannot be used.
        ServiceError
            The service does not let the user in.
        DirectoryUnusable, DiskFull
            The directory cannot be written.
        DirectoryBusy
            Another client is working in the directory.

        Examples
        --------
        >>> import mwa_client
        >>> observations = [1191828584, 1191828528]
        >>> rows = [{"obs_id": obs_id, "job_type": "d", "download_type": "vis"} for obs_id in observations]
        >>> with mwa_client.login() as client:
        ...     summary = client.run(rows, "data")
        >>> len(summary.complete), len(summary.failed)
        (2, 0)
        >>> all(file.verified for done in summary.complete for file in done.files)
        True
        """
        from mwa_client.batch.batch import Batch
        from mwa_client.batch.events import Notice
        from mwa_client.batch.pacing import Pacing
        from mwa_client.batch.shell import ShellCommand
        from mwa_client.client.words import summary_in_python_words
        from mwa_client.jobs.given_rows import rows_as_text
        from mwa_client.jobs.jobfile import parse
        from mwa_client.jobs.sharing import Share

        place = directory_in(directory)
        parallel, connections = number_in("parallel", parallel), number_in("connections", connections)
        give_up_after = seconds_given("give_up_after", give_up_after)
        patience = seconds_given("wait_for_lock", wait_for_lock) or 0.0
        command = ShellCommand.of(then, os.environ)
        text, source = rows_as_text(jobs)
        expected = self._session.api
        given = parse(text, expected, source)
        warn(given.warnings)
        requests = [replace(job, allow_resubmit=True) if allow_resubmit else job for job in given.jobs]

        share = None if part is None else Share.read(str(part))
        ours = None if share is None or share.is_all else share.part(requests)
        if ours is not None:
            requests = [job for job in requests if job.obs_id in ours.observations]

        def check(api: ApiVersion) -> None:
            if api is not expected:
                warn(each for each in parse(text, api, source).warnings if each not in given.warnings)

        pacing = Pacing(
            parallel, give_up_after=give_up_after, connections=connections, call_timeout=self._call_timeout
        )
        with ExitStack() as open_things:
            hear = open_things.enter_context(told_in_python_words(self._clock, listen, progress=progress))
            opening = self._open_ledger(place, lambda text: hear(Notice(text)), part=ours, wait=patience)
            ledger = open_things.enter_context(opening)
            batch = Batch(
                requests,
                lambda: self._session,
                ledger,
                self._clock,
                hear,
                pacing,
                check=check,
                unpack=unpack,
                then=command,
                once=once,
                is_asked_again=allow_resubmit and not once,
                roots=self._delivery_roots,
            )
            return summary_in_python_words(batch.run())

    @contextmanager
    def _open_ledger(
        self,
        directory: Path,
        say: Callable[[str], None] = lambda text: None,
        *,
        part: Part | None = None,
        wait: float = 0.0,
    ) -> Iterator[Ledger]:
        """Open the ledger of a directory, with the directory's lock held."""
        from mwa_client.batch.ledger import STATE_DIR, Ledger
        from mwa_client.directory.lock import directory_lock

        lock = directory_lock(directory, directory / STATE_DIR, self._clock, say, part=part, wait=wait)
        service = self._session.service
        with lock as check_lock, closing(Ledger(directory, service, check_lock, part=part)) as ledger:
            yield ledger
