"""Running a batch: the rows of a job file, or jobs that the service has already (--download-only)."""

from __future__ import annotations

import math
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Callable, Optional, TypeVar, Union

from mwa_client.asvo import open_session
from mwa_client.asvo.job_filter import FIRST_OBS_ID, not_listed
from mwa_client.batch.batch import Batch
from mwa_client.batch.events import Event, RowFailed, Summary
from mwa_client.batch.ledger import Ledger
from mwa_client.batch.pacing import Pacing
from mwa_client.batch.rows import ListedJob
from mwa_client.batch.shell import ShellCommand
from mwa_client.batch.watching import Listed
from mwa_client.batch.workers import Workers
from mwa_client.cli.context import TaskContext
from mwa_client.cli.interrupts import Interrupted, interrupts_held_back
from mwa_client.cli.settings import Settings, Task
from mwa_client.cli.terminal import Stopping, TickingClock
from mwa_client.display import display_for
from mwa_client.errors import ExitStatus, NotFinished, ResultLost, ServiceRefused, ServiceUnavailable
from mwa_client.formatting import trying_again
from mwa_client.jobs.keys import ApiVersion
from mwa_client.timing import FIRST_POLL, Clock, Outage, SystemClock

if TYPE_CHECKING:
    from mwa_client.asvo.job import Job, JobState
    from mwa_client.asvo.session import Session
    from mwa_client.cli.checking import RowSource
    from mwa_client.jobs.jobfile import JobFile
    from mwa_client.jobs.request import JobRequest

LEAST_ANSWER_TIME = 1.0
"""The least number of seconds that is allowed for an answer."""

T = TypeVar("T")
Wanted = tuple[Sequence[Union["JobRequest", ListedJob]], Optional[Listed]]
"""What a batch is to work on, and the listing from which that was chosen."""


def run_rows(context: TaskContext, source: RowSource, jobs: JobFile, expected: ApiVersion) -> ExitStatus:
    """Submit the rows and, unless only that is wanted, watch and fetch the jobs.

    Parameters
    ----------
    context : TaskContext
        What to work with.
    source : RowSource
        The text of the rows.
    jobs : JobFile
        The rows as they were parsed for the interface that is expected to answer.
    expected : ApiVersion
        That interface.
    """

    def check(api: ApiVersion, say: Callable[[str], None]) -> None:
        if api is not expected:
            for warning in source.parse(api).warnings:
                if warning not in jobs.warnings:
                    say(f"Warning: {warning}")

    force = context.settings.allow_resubmit
    requests = [replace(job, allow_resubmit=True) if force else job for job in jobs.jobs]
    return _run_batch(context, lambda connect: (requests, None), check, requests)


def fetch_jobs(context: TaskContext) -> ExitStatus:
    """Fetch jobs of the service: the named ones, waiting where they are not ready, or all ready ones.

    Where only the waiting is wanted, nothing is fetched, and the download directory is not touched.
    """

    def wanted(connect: Callable[[], Session]) -> Wanted:
        is_waiting = context.settings.task is Task.WAIT
        return _ask_until_answered(
            context, lambda: _chosen(connect(), context.settings.targets, with_pending=is_waiting)
        )

    return _run_batch(context, wanted)


def _run_batch(
    context: TaskContext,
    wanted: Callable[[Callable[[], Session]], Wanted],
    check: Callable[[ApiVersion, Callable[[str], None]], None] = lambda api, say: None,
    rows: Sequence[JobRequest] | None = None,
) -> ExitStatus:
    """Run a batch and show it; `rows` are those that its report is about, all where none are named."""
    settings, clock = context.settings, SystemClock()
    output, environment = settings.output, dict(os.environ)
    looks = {"quiet": output.quiet, "json": output.json, "verbose": output.verbose}
    looks["names_jobs"] = settings.task is Task.SUBMIT  # Nobody may know them otherwise.
    with _not_in_environment("TQDM_"):  # The user has set them for other programs' bars.
        display = display_for(sys.stdout, sys.stderr, clock, environment, **looks)

    stopping = Stopping(display.pause, display.tick)

    def tick() -> None:
        with interrupts_held_back(), stopping.held_back():
            display.tick()

    def show(event: Event) -> None:
        if isinstance(event, Summary):
            event = replace(event, directory=settings.directory)  # Where the user looks for products.
        if isinstance(event, RowFailed):
            context.ending.failed.append(event)
        # A bar that is only half drawn could not be removed.
        with interrupts_held_back(), stopping.held_back():
            display(event)
            if display.lost is not None:
                context.ending.lost = ResultLost.of(display.lost)
            if isinstance(event, Summary):
                context.ending.summary = event
        report_if_due()

    pacing = Pacing(
        settings.downloads.parallel,
        settings.poll,
        settings.give_up_after,
        settings.downloads.connections,
        context.services[0].call_timeout,
        is_prompt=settings.sandbox,
    )
    with ExitStack() as open_things:
        session = cache(
            lambda: open_things.enter_context(closing(open_session(*context.services, clock=clock)))
        )
        place = settings.directory
        if settings.task is Task.WAIT:  # It has no need of the directory, where others may be at work.
            place = Path(open_things.enter_context(TemporaryDirectory()))
        ledger = Ledger(place, context.services[0].name, context.check_lock, part=context.part)
        open_things.callback(ledger.close)
        report_if_due = open_things.enter_context(_reports(settings, rows, clock, display.warn))
        open_things.callback(display.close)
        if display.is_moving:
            open_things.enter_context(stopping.caught())
        begun = clock.monotonic()
        requests, listing = wanted(session)
        batch = Batch(
            requests,
            session,
            ledger,
            TickingClock(tick) if display.is_moving else clock,
            show,
            pacing.after(clock.monotonic() - begun),
            check=lambda api: check(api, display.warn),
            only_submit=settings.task is Task.SUBMIT,
            only_wait=settings.downloads.only_wait,
            unpack=settings.downloads.unpack,
            once=settings.once,
            # A crontab repeats the same command all night, and means one new job by it, not one each time.
            is_asked_again=settings.allow_resubmit and not settings.once,
            then=ShellCommand.of(settings.downloads.then, environment),
            roots=context.services[0].delivery_roots,
        )
        try:
            summary = batch.run(listing)
        except (Exception, Interrupted):
            if context.ending.summary is None or output.json:
                raise
            summary = context.ending.summary  # It has told people what was raised.
    return summary.exit_status


def _reports(
    settings: Settings, rows: Sequence[JobRequest] | None, clock: Clock, warn: Callable[[str], None]
) -> AbstractContextManager[Callable[[], None]]:
    """Have the page about a run written before and after the block, and when it is due; or no page."""
    path = settings.output.report
    if path is None:
        return nullcontext(lambda: None)
    from mwa_client.cli.looking import reports  # Takes a while, and is seldom needed.

    return reports(path, settings, rows, clock, warn)


@contextmanager
def _not_in_environment(prefix: str) -> Iterator[None]:
    """Hide the environment variables with a prefix from libraries that are loaded in the block."""
    hidden = {name: value for name, value in os.environ.items() if name.startswith(prefix)}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


# --- Which jobs to fetch ------------------------------------------------------------------------------


def _chosen(session: Session, targets: Sequence[str], *, with_pending: bool) -> Wanted:
    """Return the listed jobs that the user has named, by job id, by obs_id, or as ``all``, and the listing.

    All are those that are ready, and also those that will be, `with_pending`.
    """
    begun = SystemClock().monotonic()
    numbers = [int(target) for target in targets if target != "all"]
    listing = session.jobs(known=[number for number in numbers if number < FIRST_OBS_ID])
    chosen: dict[int, Job] = {}
    for number in numbers:
        found = [job for job in listing.values() if number in (job.job_id, job.obs_id)]
        if not found:
            raise not_listed(number)
        usable = [job for job in found if number == job.job_id or not job.state.is_lost]
        if not usable:
            raise ServiceRefused(
                f"Every job on observation {number} has failed, expired or been cancelled.",
                f"mwa_client -l {number} shows them, and why.",
            )
        chosen |= {job.job_id: job for job in usable}
    if "all" in targets:
        wanted = [job for job in listing.values() if _is_of_all(job.state, with_pending)]
        chosen |= {job.job_id: job for job in wanted}
    rows = [ListedJob.of(chosen[job_id], session.api) for job_id in sorted(chosen)]
    return rows, Listed(begun, listing)


def _is_of_all(state: JobState, with_pending: bool) -> bool:
    return state.is_ready or (with_pending and state.is_pending)


def _ask_until_answered(context: TaskContext, ask: Callable[[], T]) -> T:
    """Ask the service until it answers, with the waits of the polling loop.

    Raises
    ------
    NotFinished
        The time to give up has come, or the run is a single pass.
    """
    settings, clock = context.settings, SystemClock()
    outage, ends = Outage(clock, first=settings.poll or FIRST_POLL), math.inf
    if settings.give_up_after is not None:
        ends = clock.monotonic() + settings.give_up_after
    while True:
        try:
            return _ask_within(ends - clock.monotonic(), ask)
        except ServiceUnavailable as error:
            is_first, waiting = not outage.is_on, outage.failed(error.retry_after)
            if settings.once or clock.monotonic() + waiting > ends:
                raise NotFinished(error.what, "Run the same command again.") from error
            if is_first:
                context.say(trying_again(error.what, waiting))
            clock.sleep(waiting, threading.Event())


def _ask_within(seconds: float, ask: Callable[[], T]) -> T:
    """Ask in a thread, and stop waiting for the answer after a time (`LEAST_ANSWER_TIME` at least)."""
    if seconds == math.inf:
        return ask()
    answers: queue.Queue[tuple[T] | BaseException] = queue.Queue()
    worker = Workers(1, answers)
    worker.give(lambda: (ask(),))
    try:
        answer = answers.get(timeout=max(seconds, LEAST_ANSWER_TIME))
    except queue.Empty:
        raise NotFinished(
            "The time given with --give-up-after is over, and the service has not answered.",
            "Run the same command again.",
        ) from None
    finally:
        worker.finish(deadline=time.monotonic())  # It ends with its answer, whoever still wants that.
    if isinstance(answer, BaseException):
        raise answer
    return answer[0]
