"""Runs that end early: time is up, an interrupt, or an error that nobody expected."""

from __future__ import annotations

import re
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any, Callable

import pytest
from batch_runs import OBS, OTHER, SUBMISSION, T, assert_right, failure, final_names, screen
from shared import FastClock, Run, listed, run_batch, service_of, vis, wait_until

from mwa_client.asvo.api_client import Submission
from mwa_client.asvo.session import Session
from mwa_client.batch import products
from mwa_client.batch.events import (
    Complete,
    Counts,
    Event,
    RowFailed,
    Summary,
)
from mwa_client.batch.ledger import Ledger
from mwa_client.batch.pacing import Pacing
from mwa_client.errors import ExitStatus
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import JobState, Sandbox
from mwa_client.transfer.download import Downloader


def test_giving_up_leaves_rows_pending(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    stuck = listed(sandbox, OBS, state=JobState.PROCESSING)
    run_batch(sandbox, tmp_path, clock, vis(OTHER))
    started = clock.monotonic()
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), pacing=Pacing(give_up_after=600.0))
    assert clock.monotonic() - started == pytest.approx(600, abs=0.01)
    assert run.summary.exit_status is ExitStatus.TRY_AGAIN
    assert [row.job_id for row in run.summary.pending] == [stuck.id]
    assert len(run.summary.complete) == 1 and not run.summary.failed
    assert "--give-up-after" in run.summary.why_pending
    sandbox.service.release(stuck.id)
    assert run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER)).summary.exit_status is ExitStatus.COMPLETE
    assert len(sandbox.jobs) == 2


def test_giving_up_keeps_what_an_unfinished_download_has(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    sandbox.faults.add("stall", after=200_000, times=1)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), pacing=Pacing(give_up_after=600.0))
    assert run.summary.exit_status is ExitStatus.TRY_AGAIN and final_names(tmp_path) == set()
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert_right(sandbox, run)


def test_a_submission_that_is_answered_in_the_last_moment_is_kept(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    sandbox.faults.add("slow", path=SUBMISSION, seconds=0.2)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), pacing=Pacing(give_up_after=1.0))
    assert [row.job_id for row in run.summary.pending] == [sandbox.jobs[0].id]
    with closing(Ledger(tmp_path, service_of(sandbox).name)) as ledger:
        assert ledger.row(parse(vis(OBS), ApiVersion.V2018).jobs[0].identity).job_id == sandbox.jobs[0].id


def test_a_download_that_ends_in_the_last_moment_is_kept(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    done: list[Complete] = []

    def interrupt(event: Event) -> None:
        if isinstance(event, Complete):
            done.append(event)
            if len(done) == 1:
                wait_until(lambda: len(final_names(tmp_path)) == 2)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), listen=interrupt)
    assert len(done) == 2
    sandbox.reset_log()
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert run.summary.exit_status is ExitStatus.COMPLETE and sandbox.requests == []


SURPRISES = [
    ZeroDivisionError("p4ss"),
    OverflowError("p4ss"),
    zlib.error("p4ss"),
    RecursionError(),
    MemoryError(),
]
NO_MEMORY = "The system has no more memory for this program."


def does(call: Callable[..., T], when: Callable[..., bool], surprise: Exception) -> Callable[..., T]:
    """The same function, which is surprised by some of what it is given."""

    def surprised(*arguments: Any, **options: Any) -> T:
        if when(*arguments):
            raise surprise
        return call(*arguments, **options)

    return surprised


@pytest.mark.parametrize("surprise", SURPRISES, ids=lambda surprise: type(surprise).__name__)
def test_a_surprise_in_a_download_concerns_one_row(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, surprise: Exception
) -> None:
    broken = does(Downloader.fetch, lambda self, wanted, *rest: wanted.name == f"{OBS}_vis.zip", surprise)
    with monkeypatch.context() as patch:
        patch.setattr(Downloader, "fetch", broken)
        run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED
    assert [row.row.obs_id for row in run.summary.complete] == [OTHER]
    kind = type(surprise).__name__
    if isinstance(surprise, MemoryError):
        assert failure(run) == NO_MEMORY
    else:
        assert re.fullmatch(rf"internal error: {kind} in test_giving_up\.py, line \d+\.", failure(run))
        assert any("Please report it. It was called from products.py, line" in line for line in screen(run))
    assert "p4ss" not in "".join(screen(run))
    # Nothing is remembered of it: the next run fetches what is missing.
    assert run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER)).summary.exit_status is ExitStatus.COMPLETE
    assert len(sandbox.jobs) == 2


@pytest.mark.parametrize("surprise", SURPRISES, ids=lambda surprise: type(surprise).__name__)
@pytest.mark.parametrize("was_made", [False, True])
def test_a_surprise_in_a_submission_concerns_one_row(
    sandbox: Sandbox,
    clock: FastClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    surprise: Exception,
    was_made: bool,
) -> None:
    real = Session.submit

    def submit(session: Session, job_type: Any, parameters: Any, **options: Any) -> Submission:
        is_odd = parameters["obs_id"] == str(OBS)
        made = real(session, job_type, parameters, **options) if was_made or not is_odd else None
        if is_odd or made is None:
            raise surprise
        return made

    with monkeypatch.context() as patch:
        patch.setattr(Session, "submit", submit)
        run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED
    assert [row.row.obs_id for row in run.summary.complete] == [OTHER]
    is_memory = isinstance(surprise, MemoryError)
    assert (NO_MEMORY if is_memory else f"internal error: {type(surprise).__name__}") in failure(run)
    assert "p4ss" not in failure(run)
    # Whether it was made is looked for before anything is submitted.
    clock.advance(60.0)
    assert run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER)).summary.exit_status is ExitStatus.COMPLETE
    assert len(sandbox.jobs) == 2


def test_a_surprise_in_the_loop_ends_the_run_and_all_is_kept(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.faults.add("job_error", obs_id=OTHER)
    third = 1191829000
    events: list[Event] = []

    def is_time(job: Any, *rest: Any) -> bool:
        return job.obs_id == OBS and any(isinstance(event, RowFailed) for event in events)

    with monkeypatch.context() as patch:
        patch.setattr(
            "mwa_client.batch.watching.name_files", does(products.name_files, is_time, OverflowError("p4ss"))
        )
        with pytest.raises(OverflowError):
            run_batch(sandbox, tmp_path, clock, vis(OTHER, OBS, third), listen=events.append)
    summary = events[-1]
    assert isinstance(summary, Summary) and summary.exit_status is ExitStatus.FAILED
    assert [failed.row.obs_id for failed in summary.failed] == [OTHER]
    assert len(summary.failed) + len(summary.pending) + len(summary.complete) == 3
    assert summary.error is not None and "OverflowError in " in summary.error.what
    assert isinstance(events[-2], Counts)
    lines = screen(Run(summary, events))
    assert "There were errors:" in lines and not any("p4ss" in line for line in lines)
    # Every job is known to the next run.
    again = run_batch(sandbox, tmp_path, clock, vis(OBS, third))
    assert again.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 3


def test_what_a_listener_raises_reaches_the_caller(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    class Enough(Exception):
        pass

    def listen(event: Event) -> None:
        if isinstance(event, (Complete, Summary)):
            raise Enough

    with pytest.raises(Enough):
        run_batch(sandbox, tmp_path, clock, vis(OBS), listen=listen)
    sandbox.reset_log()
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE and sandbox.requests == []
