"""What the command can be asked to do, each task from its settings to its exit status."""

from __future__ import annotations

import math
import os
import queue
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Callable, Protocol, TypeVar

from mwa_client.cli.error_file import check_error_file, write_errors
from mwa_client.cli.settings import Credentials, Service, Settings, Task, services_from
from mwa_client.errors import (
    DirectoryBusy,
    DirectoryUnusable,
    DiskFull,
    ExitStatus,
    InternalError,
    JobFileError,
    LoginRefused,
    MwaClientError,
    NotCancelled,
    NotFinished,
    ServiceRefused,
    ServiceUnavailable,
    SettingsError,
)
from mwa_client.jobs.jobfile import JobFile, parse, plan, read_bytes
from mwa_client.jobs.keys import ApiVersion
from mwa_client.secrecy import hide

# The rest is imported where it is needed: checking a file must not wait for it.
if TYPE_CHECKING:
    from mwa_client.asvo.api_client import HttpRequest
    from mwa_client.asvo.job import Job
    from mwa_client.asvo.session import Session
    from mwa_client.batch.events import Event, RowFailed
    from mwa_client.batch.rows import ListedJob
    from mwa_client.jobs.request import JobRequest

MOMENT = 1.0
"""Seconds that an answer has at least, where the time for all is shorter."""
SANDBOX_THREADS = 24
"""Threads for the sandbox and the client: with fewer, the sandbox may leave a connection unanswered."""
SANDBOX_RATE = 8e6
"""Bytes a second: slow enough for people to see what happens."""


class Show(Protocol):
    """Shows lines, or JSON objects as lines. A line break inside of one is no line break of ours."""

    def __call__(self, *lines: str | Mapping[str, object]) -> None:
        """Show them."""
        ...


T = TypeVar("T")


def perform(settings: Settings, say: Show, show: Show) -> ExitStatus:
    """Do what the settings say.

    Parameters
    ----------
    settings : Settings
        What the user wants.
    say : callable
        Shows a line that is no result: a warning, a remark.
    show : callable
        Shows a result.

    Raises
    ------
    MwaClientError
        It cannot be done; the error knows its exit status.
    """
    check_error_file(settings.error_file)
    failed: list[RowFailed] = []
    try:
        return _perform(settings, say, show, failed)
    except DirectoryBusy:
        raise  # The file is that of the other client, which is at work.
    except MwaClientError as error:
        write_errors(settings.error_file, _errors_of(failed, error))
        raise
    except Exception as error:
        surprise = InternalError.of(error)
        write_errors(settings.error_file, _errors_of(failed, surprise))
        raise surprise from error


def _perform(settings: Settings, say: Show, show: Show, failed: list[RowFailed]) -> ExitStatus:
    if settings.task.needs_rows:
        rows = _Rows.of(settings)
        # Before anything else, and before the service is known for sure: what is wrong is said at once.
        api, jobs = rows.read_for_one_of(_likely_apis(settings))
        for warning in jobs.warnings:
            say(f"Warning: {warning}")
        if settings.task is Task.CHECK:
            write_errors(settings.error_file, [])
            show(*_checked(settings, jobs, api))
            return ExitStatus.COMPLETE
        return _at_the_service(
            settings, say, failed, lambda means: _run_rows(settings, means, rows, jobs, api, say)
        )
    does = {Task.LIST: _list, Task.FETCH: _fetch, Task.CANCEL: _cancel}[settings.task]
    return _at_the_service(settings, say, failed, lambda means: does(settings, means, show))


# --- The job file -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rows:
    """The text of the rows, to be read again if the service turns out to be another than was thought."""

    data: bytes | str
    source: str

    @classmethod
    def of(cls, settings: Settings) -> _Rows:
        if settings.csv is not None:
            return cls(*read_bytes(settings.csv))
        return cls("\n".join(settings.rows), "row")

    def read(self, api: ApiVersion) -> JobFile:
        return parse(self.data, api, self.source)

    def read_for_one_of(self, apis: Sequence[ApiVersion]) -> tuple[ApiVersion, JobFile]:
        """Read the rows for the first interface that can do what they ask.

        Raises
        ------
        JobFileError
            None of them can; the mistakes are those for the interface that finds the fewest.
        """
        errors = []
        for api in apis:
            try:
                return api, self.read(api)
            except JobFileError as error:
                errors.append(error)
        raise min(errors, key=lambda error: len(error.mistakes))


def _likely_apis(settings: Settings) -> tuple[ApiVersion, ...]:
    """Return the interfaces that may be spoken, the likeliest first: nothing is asked of the network here."""
    if settings.api is not None:
        return (settings.api,)
    if settings.sandbox:
        return (ApiVersion.V2018,)
    return (
        (ApiVersion.V2, ApiVersion.V1)
        if os.environ.get("MWA_ASVO_API_KEY")
        else (ApiVersion.V2018, ApiVersion.V2)
    )


def _checked(settings: Settings, jobs: JobFile, api: ApiVersion) -> list[str | Mapping[str, object]]:
    """Say what a good job file asks for; if wanted, with the request that would be made for each row."""
    requests = list(_requests(settings, jobs, api)) if settings.verbose else []
    if not settings.json:
        shown = [f"{jobs.source}:{line}: {request}" for line, request in requests]
        heading = [f"The requests to the {api.value} interface:"] if shown else []
        return [*plan(jobs).split("\n"), *heading, *shown, "Nothing was sent."]
    checked = {"event": "checked", "jobs": len(jobs.jobs), "warnings": list(jobs.warnings)}
    if settings.verbose:
        checked["requests"] = [
            {"line": line, "method": request.method, "path": request.path, "body": dict(request.body)}
            for line, request in requests
        ]
    return [checked]


def _requests(settings: Settings, jobs: JobFile, api: ApiVersion) -> Iterator[tuple[int, HttpRequest]]:
    from mwa_client.asvo import submission_of

    for job in jobs.jobs:
        again = settings.allow_resubmit or job.allow_resubmit
        yield job.line, submission_of(job, api, allow_resubmit=again)


# --- The service --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Means:
    """What a task works with: the ways to the service, the guard of the directory's lock, a voice.

    The rows that fail are noted in `failed`, so that they are not forgotten where the run ends early.
    """

    services: Sequence[Service]
    guard: Callable[[], None]
    say: Show
    failed: list[RowFailed]


def _at_the_service(
    settings: Settings, say: Show, failed: list[RowFailed], work: Callable[[_Means], ExitStatus]
) -> ExitStatus:
    """Work at the real service, or at the sandbox; alone in the directory, if the task writes there."""
    with ExitStack() as open_things:
        services = () if settings.sandbox else _real_services(settings, say)
        guard = open_things.enter_context(_alone(settings, say))
        # At once: hours of work must not end with a file that cannot be written.
        write_errors(settings.error_file, [])
        if settings.sandbox:
            services = open_things.enter_context(_practice(settings, say))
        return work(_Means(services, guard, say, failed))


def _real_services(settings: Settings, say: Show) -> tuple[Service, ...]:
    services = services_from(os.environ, settings.api)
    if services[0].verify is False:
        say("Warning: certificates are not verified (SSL_VERIFY=0): anybody in between can read along.")
    for service in services:
        if service.sends_password_in_clear:
            say(f"Warning: {service.address} is not encrypted: anybody in between can read the password.")
            break
    return services


@contextmanager
def _alone(settings: Settings, say: Show) -> Iterator[Callable[[], None]]:
    """Hold the directory's lock while a task writes there; yield its guard."""
    changes_sandbox = settings.sandbox and settings.task is Task.CANCEL
    if not (settings.task.needs_directory or changes_sandbox):
        yield lambda: None
        return
    from mwa_client.batch.ledger import MEMORY
    from mwa_client.directory.lock import directory_lock
    from mwa_client.timing import SystemClock

    lock = directory_lock(settings.directory, settings.directory / MEMORY, SystemClock(), say)
    with ExitStack() as open_things:
        try:
            guard = open_things.enter_context(lock)
        except DiskFull as error:
            guard = partial(_fail, error)  # Where all is done, nothing need be written.
        yield guard


def _fail(error: MwaClientError) -> None:
    raise error


@contextmanager
def _practice(settings: Settings, say: Show) -> Iterator[tuple[Service, ...]]:
    """Run the sandbox; yield the way to it."""
    from mwa_client.batch.ledger import MEMORY, PRACTICE, Ledger
    from mwa_client.sandbox import Sandbox
    from mwa_client.threads import can_start

    if not can_start(SANDBOX_THREADS):
        raise SettingsError(
            f"To practise takes some {SANDBOX_THREADS} threads, and the system gives this program fewer.",
            "Raise the limit (ulimit -u, or the batch system's), or practise on another machine.",
        )
    from mwa_client.transfer.delivered import DeliveryRoots

    say("Practising: the products are small and made up; nothing goes to the real service.")
    # Opened once before the sandbox writes there: it refuses a directory with real products.
    Ledger(settings.directory, PRACTICE).close()
    # New ones for each run: whoever is on this machine can talk to the service, and shall not be let in.
    account = Credentials("practice", token_urlsafe(16), token_urlsafe(16))
    memory = Path(os.path.realpath(settings.directory)) / MEMORY  # Whatever ".." and links are on the way.
    try:
        sandbox = Sandbox(
            user=account.user,
            password=account.password,
            api_key=account.key,
            state_file=memory / "sandbox.json",
            scratch_folder=memory / "sandbox_scratch",
            rate=SANDBOX_RATE,
        )
    except ValueError:
        raise DirectoryUnusable(
            f"{memory / 'sandbox.json'} is damaged.", "Remove it, or choose another directory with --dir."
        ) from None
    with sandbox:
        roots = DeliveryRoots((memory / "sandbox_scratch",))
        api = settings.api or ApiVersion.V2018
        yield (Service(api, sandbox.url, PRACTICE, account, delivery_roots=roots),)


# --- The tasks ----------------------------------------------------------------------------------------


def _run_rows(
    settings: Settings, means: _Means, rows: _Rows, jobs: JobFile, expected: ApiVersion, say: Show
) -> ExitStatus:
    """Submit the rows and, unless only that is wanted, watch and fetch them."""

    def check(api: ApiVersion) -> None:
        if api is not expected:
            for warning in rows.read(api).warnings:
                if warning not in jobs.warnings:
                    say(f"Warning: {warning}")

    requests = [replace(job, allow_resubmit=True) if settings.allow_resubmit else job for job in jobs.jobs]
    return _run_batch(settings, means, lambda connect: requests, check)


def _fetch(settings: Settings, means: _Means, show: Show) -> ExitStatus:
    """Fetch jobs that are there: the named ones, waiting where they are not ready, or all ready ones."""

    def wanted(connect: Callable[[], Session]) -> Sequence[ListedJob]:
        return _patiently(settings, means.say, lambda: _listed(connect(), settings.targets))

    return _run_batch(settings, means, wanted)


def _patiently(settings: Settings, say: Show, ask: Callable[[], T]) -> T:
    """Ask the service until it answers, as the polling loop does."""
    from mwa_client.timing import FIRST_POLL, Outage, SystemClock

    clock = SystemClock()
    outage, ends = Outage(clock, first=settings.poll or FIRST_POLL), math.inf
    if settings.give_up_after is not None:
        ends = clock.monotonic() + settings.give_up_after
    while True:
        try:
            return _within(ends - clock.monotonic(), ask)
        except ServiceUnavailable as error:
            is_first, waiting = not outage.is_on, outage.failed(error.retry_after)
            if settings.once or clock.monotonic() + waiting > ends:
                raise NotFinished(error.what, "Run the same command again.") from error
            if is_first:
                say(f"{error.what} Trying again in {waiting:.0f} s, until it answers.")
            clock.sleep(waiting, threading.Event())


def _within(seconds: float, ask: Callable[[], T]) -> T:
    """Ask, and wait no longer than so many seconds (but a moment) for the answer, however it drips."""
    if seconds == math.inf:
        return ask()
    from mwa_client.batch.workers import Workers

    answers: queue.Queue[tuple[T] | BaseException] = queue.Queue()
    Workers(1, answers).give(lambda: (ask(),))
    try:
        answer = answers.get(timeout=max(seconds, MOMENT))
    except queue.Empty:
        raise NotFinished(
            "The time given with --give-up-after is over, and the service has not answered.",
            "Run the same command again.",
        ) from None
    if isinstance(answer, BaseException):
        raise answer
    return answer[0]


def _listed(session: Session, targets: Sequence[str]) -> list[ListedJob]:
    from mwa_client.batch.rows import ListedJob

    numbers = [int(target) for target in targets if target != "all"]
    listing = session.jobs(known=[number for number in numbers if number < FIRST_OBS_ID])
    wanted: dict[int, Job] = {}
    for number in numbers:
        found = [job for job in listing.values() if number in (job.job_id, job.obs_id)]
        if not found:
            raise ServiceRefused(f"The service lists no job {number}, and none on an observation {number}.")
        alive = [job for job in found if number == job.job_id or not job.state.is_lost]
        if not alive:
            raise ServiceRefused(f"Every job on observation {number} has failed, expired or been cancelled.")
        wanted |= {job.job_id: job for job in alive}
    if "all" in targets:
        wanted |= {job.job_id: job for job in listing.values() if job.state.is_ready}
    return [ListedJob.of(wanted[job_id], session.api) for job_id in sorted(wanted)]


FIRST_OBS_ID = 888888889
"""Below it a number can only be a job id."""


def _run_batch(
    settings: Settings,
    means: _Means,
    wanted: Callable[[Callable[[], Session]], Sequence[JobRequest | ListedJob]],
    check: Callable[[ApiVersion], None] = lambda api: None,
) -> ExitStatus:
    """Run a batch, show it, and write its errors into the error file."""
    from mwa_client.asvo import open_session
    from mwa_client.batch.batch import Batch
    from mwa_client.batch.events import RowFailed
    from mwa_client.batch.ledger import Ledger
    from mwa_client.batch.pacing import Pacing
    from mwa_client.cli.interrupts import interrupts_held_back
    from mwa_client.display.lines import display_for
    from mwa_client.timing import SystemClock

    clock = SystemClock()
    environment = dict(os.environ)
    looks = {"quiet": settings.quiet, "json": settings.json, "verbose": settings.verbose}
    with _not_in_environment("TQDM_"):  # They are about other programs' bars, or nonsense.
        display = display_for(sys.stdout, sys.stderr, clock, environment, **looks)

    def show(event: Event) -> None:
        if isinstance(event, RowFailed):
            means.failed.append(event)
        with interrupts_held_back():  # Half a bar cannot be taken away.
            display(event)

    pacing = Pacing(
        settings.parallel,
        settings.poll,
        settings.give_up_after,
        settings.connections,
        means.services[0].call_timeout,
        is_prompt=settings.sandbox,
    )
    with ExitStack() as open_things:
        session = cache(
            lambda: open_things.enter_context(closing(open_session(*means.services, clock=clock)))
        )
        ledger = Ledger(settings.directory, means.services[0].name, means.guard)
        open_things.callback(ledger.close)
        open_things.callback(display.close)
        batch = Batch(
            wanted(session),
            session,
            ledger,
            clock,
            show,
            pacing,
            check=check,
            only_submit=settings.task is Task.SUBMIT,
            once=settings.once,
            # In a crontab the same words stand for a whole night, and ask for one new job in all.
            is_asked_again=settings.allow_resubmit and not settings.once,
            roots=means.services[0].delivery_roots,
        )
        summary = batch.run()
    write_errors(settings.error_file, _errors_of(summary.failed))
    return summary.exit_status


@contextmanager
def _not_in_environment(prefix: str) -> Iterator[None]:
    """Let libraries that are loaded here not find variables that begin so."""
    hidden = {name: value for name, value in os.environ.items() if name.startswith(prefix)}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def _list(settings: Settings, means: _Means, show: Show) -> ExitStatus:
    from mwa_client.asvo import open_session
    from mwa_client.display.listing import documents, table
    from mwa_client.timing import SystemClock

    with closing(open_session(*means.services)) as session:
        jobs = session.jobs().values()
    if not settings.json:
        show(*table(jobs, SystemClock().now()).split("\n") if jobs else ["No jobs."])
    elif jobs:
        show(*documents(jobs))
    return ExitStatus.COMPLETE


def _cancel(settings: Settings, means: _Means, show: Show) -> ExitStatus:
    """Cancel each of the jobs that can be; then say which could not."""
    from mwa_client.asvo import open_session

    refusals: list[str] = []
    with closing(open_session(*means.services)) as session:
        for target in settings.targets:
            try:
                session.cancel(int(target))
            except LoginRefused:
                raise
            except ServiceRefused as error:
                refusals.append(f"{target}: {' '.join(error.lines)}")
                continue
            event = {"event": "cancelled", "job_id": int(target)}
            show(event if settings.json else f"Cancelled: Job id: {target}")
    if refusals:
        raise NotCancelled(refusals)
    return ExitStatus.COMPLETE


# --- What comes out -----------------------------------------------------------------------------------


def _errors_of(
    failed: Iterable[RowFailed], ended_by: MwaClientError | None = None
) -> list[dict[str, object]]:
    """Return the errors of the rows, and at the end the one that concerns them all, where there is one."""
    errors: list[dict[str, object]] = [
        {"obs_id": failure.row.obs_id, "job_id": failure.row.job_id, "result": hide(failure.error.what)}
        for failure in failed
    ]
    if ended_by is not None:
        errors.append({"obs_id": None, "job_id": None, "result": hide(ended_by.what)})
    return errors
