"""Which job of a listing is taken for a row, and when a new one is made."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from batch_runs import ANEW, OBS, OTHER, SUBMISSION, assert_right
from shared import FastClock, listed, notices, run_batch, service_of, vis

from mwa_client.batch.events import (
    Submitted,
)
from mwa_client.batch.ledger import Ledger
from mwa_client.errors import ExitStatus
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import JobState, JobType, Sandbox


def test_a_listed_job_with_the_same_parameters_is_taken(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    run_batch(sandbox, tmp_path / "one", clock)
    jobs = sandbox.jobs
    run = run_batch(sandbox, tmp_path / "two", clock)  # Another directory: nothing in its ledger.
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert sandbox.jobs == jobs
    assert [event.found for event in run.told(Submitted)] == [True] * 3
    assert_right(sandbox, run)


@pytest.mark.parametrize("state", [JobState.ERROR, JobState.EXPIRED, JobState.CANCELLED])
def test_a_listed_job_that_came_to_nothing_is_not_taken(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, state: JobState
) -> None:
    listed(sandbox, state=state)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert [event.found for event in run.told(Submitted)] == [False] and len(sandbox.jobs) == 2


def test_of_several_listed_jobs_the_ready_one_is_taken(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    listed(sandbox, state=JobState.PROCESSING)
    ready = listed(sandbox, state=JobState.READY)
    listed(sandbox, state=JobState.PROCESSING)
    listed(sandbox, state=JobState.ERROR)
    # The same observation, but other things asked of it.
    sandbox.service.add({"obs_id": str(OBS), "download_type": "vis_meta"}, JobType.METADATA)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert [row.row.job_id for row in run.summary.complete] == [ready.id] and len(sandbox.jobs) == 5


def test_of_several_listed_jobs_that_run_the_newest_is_taken(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    jobs = [listed(sandbox) for _ in range(3)]
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert [row.row.job_id for row in run.summary.complete] == [jobs[-1].id] and len(sandbox.jobs) == 3


def test_allow_resubmit_makes_a_new_job(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    old = listed(sandbox, state=JobState.READY)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, more=ANEW))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert len(sandbox.jobs) == 2 and run.summary.complete[0].row.job_id != old.id
    # But it is done once: the next run has nothing to do.
    sandbox.reset_log()
    assert run_batch(sandbox, tmp_path, clock, vis(OBS, more=ANEW)).summary.complete[0].from_before
    assert sandbox.requests == []


@pytest.mark.parametrize("fault", ["drop_reply", "broken_json"])
def test_allow_resubmit_makes_one_job_where_its_answer_is_lost(
    clock: FastClock, tmp_path: Path, fault: str
) -> None:
    with Sandbox(clock=clock.now, seconds_per_state=400, product_size=lambda job: 9) as sandbox:
        old = listed(sandbox, state=JobState.READY)
        sandbox.faults.add(fault, path=SUBMISSION, times=1)
        run = run_batch(sandbox, tmp_path, clock, vis(OBS, more=ANEW))
        assert run.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 2
        assert [row.row.job_id for row in run.summary.complete] == [sandbox.jobs[1].id] != [old.id]


def test_allow_resubmit_makes_a_new_job_after_an_outage(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    old = listed(sandbox, state=JobState.READY)
    sandbox.faults.add("fail_call", path=SUBMISSION, status=503, times=2)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, more=ANEW))
    assert len(sandbox.jobs) == 2, "the submission that was not carried out is made up for"
    assert run.summary.complete[0].row.job_id != old.id


def test_allow_resubmit_finds_its_new_job_after_a_crash(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    old = listed(sandbox, state=JobState.READY)
    service = service_of(sandbox)
    identity = parse(vis(OBS), ApiVersion.V2018).jobs[0].identity
    with closing(Ledger(tmp_path, service.name)) as ledger:
        ledger.record_intent(identity, after=old.id)  # And then the power went.
    new = listed(sandbox)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, more=ANEW))
    assert [row.row.job_id for row in run.summary.complete] == [new.id] and len(sandbox.jobs) == 2


@pytest.mark.parametrize("trouble", ["error", "cancelled", "missing", "no product", "gone"])
def test_a_failed_job_is_reported_again_and_resubmitted_if_wanted(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, trouble: str
) -> None:
    job = listed(sandbox, OTHER)
    if trouble == "error":
        sandbox.service.fail(job.id, "No room")
    elif trouble == "cancelled":
        sandbox.service.cancel(job.id)
    elif trouble == "missing":
        sandbox.faults.add("missing_job", job_id=job.id)
    elif trouble == "no product":
        sandbox.faults.add("null_product", job_id=job.id)
    else:
        sandbox.faults.add("product_gone", job_id=job.id)
    identity = parse(vis(OTHER), ApiVersion.V2018).jobs[0].identity
    with closing(Ledger(tmp_path, service_of(sandbox).name)) as ledger:
        ledger.record_job(identity, job.id)
    for _ in range(2):
        run = run_batch(sandbox, tmp_path, clock, vis(OTHER))
        assert run.summary.exit_status is ExitStatus.JOBS_FAILED
        assert run.summary.failed[0].row.job_id == job.id and len(sandbox.jobs) == 1
    run = run_batch(sandbox, tmp_path, clock, vis(OTHER, more=ANEW))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert len(sandbox.jobs) == 2 and len(notices(run)) == 1
    assert_right(sandbox, run)


def test_allow_resubmit_resubmits_once_in_a_run(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    sandbox.faults.add("job_error")
    text = vis(OBS, more=ANEW)
    assert run_batch(sandbox, tmp_path, clock, text).summary.exit_status is ExitStatus.JOBS_FAILED
    assert len(sandbox.jobs) == 1, "a job of this run that failed is not tried again by it"
    assert run_batch(sandbox, tmp_path, clock, text).summary.exit_status is ExitStatus.JOBS_FAILED
    assert len(sandbox.jobs) == 2
