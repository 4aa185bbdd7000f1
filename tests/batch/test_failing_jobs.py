"""Jobs that fail, expire, are cancelled or disappear: each is the failure of its own row."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch_runs import (
    OBS,
    OTHER,
    PRODUCT,
    PatientClock,
    assert_nothing_said_twice,
    assert_right,
    failure,
    final_names,
    screen,
)
from shared import FastClock, Run, asked, listed, notices, run_batch, vis

from mwa_client.batch.events import (
    StateChanged,
)
from mwa_client.batch.pacing import Pacing
from mwa_client.batch.watching import MISSING_TIME
from mwa_client.errors import ExitStatus
from mwa_client.sandbox import Sandbox


def labels(run: Run, line: int = 1) -> list[str]:
    return [event.label for event in run.told(StateChanged) if event.row.line == line]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("No obs locations found", "failed at the service: No obs locations found"),
        (None, "failed at the service, and the service does not say why."),
        ("two\nlines\x1b[31m", "failed at the service: two lines [31m"),
    ],
)
def test_a_job_in_error_leaves_the_others_alone(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, text: str | None, said: str
) -> None:
    sandbox.faults.add("job_error", text=text, obs_id=OBS)
    run = run_batch(sandbox, tmp_path, clock)
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED
    assert [row.row.line for row in run.summary.complete] == [1, 2]
    assert failure(run, 3) == f"The job {said}"
    assert_right(sandbox, run)
    assert_nothing_said_twice(run)
    errors = [line for line in screen(run) if line.startswith("Error")]
    assert len(errors) == 1 and said in errors[0]
    assert len(sandbox.jobs) == 3


def test_a_cancelled_job_is_that_rows_failure(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    sandbox.faults.add("cancel_job", obs_id=OBS)
    run = run_batch(sandbox, tmp_path, clock, vis(OTHER, OBS))
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED
    assert failure(run, 2).endswith("was cancelled.") and labels(run, 2) == ["Cancelled"]
    assert len(run.summary.complete) == 1 and len(sandbox.jobs) == 2
    assert_nothing_said_twice(run)


def test_an_expired_job_is_submitted_anew(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    sandbox.faults.add("expire_job", times=1)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    _, second = sandbox.jobs
    assert [row.row.job_id for row in run.summary.complete] == [second.id]
    assert notices(run) == ["Resubmitting line 1: The job has expired."]
    assert final_names(tmp_path) == {second.file_name}, "the name of the expired product is free again"
    assert_right(sandbox, run)


def test_a_job_that_expires_twice_has_failed(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    fault = sandbox.faults.add("expire_job", obs_id=OBS)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED
    assert fault.hits == 2 and len(sandbox.jobs) == 3
    assert failure(run) == "The job has expired."
    assert "allow-resubmit" not in run.summary.failed[0].error.remedy
    # The next run has another try.
    sandbox.faults.clear()
    assert run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER)).summary.exit_status is ExitStatus.COMPLETE
    assert len(sandbox.jobs) == 4


def test_an_expired_job_gives_way_to_a_listed_one(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    old = listed(sandbox)
    run_batch(sandbox, tmp_path, clock, vis(OBS))
    (tmp_path / old.file_name).unlink()
    sandbox.service.expire(old.id)
    new = listed(sandbox)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert [row.row.job_id for row in run.summary.complete] == [new.id]
    assert len(sandbox.jobs) == 2, "a job that is there already is not made again"


@pytest.mark.parametrize("was_listed", [False, True])
def test_a_job_missing_from_three_listings_and_for_minutes_has_failed(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, was_listed: bool
) -> None:
    sandbox.service.seconds_per_state = 1000.0 if was_listed else 1.0
    fault = sandbox.faults.add("missing_job", obs_id=OBS, skip=int(was_listed))
    began = clock.monotonic()
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED
    assert fault.hits >= 3 and clock.monotonic() - began >= MISSING_TIME
    said = "is no longer listed by the service." if was_listed else "but has never listed the job."
    assert said in failure(run)
    assert "looks for it again" in run.summary.failed[0].error.remedy
    assert len(run.summary.complete) == 1 and len(sandbox.jobs) == 2


def test_a_job_that_comes_back_after_two_listings_is_fine(tmp_path: Path) -> None:
    clock = PatientClock()
    with Sandbox(clock=clock.now, seconds_per_state=100, product_size=lambda job: 9) as sandbox:
        # Twice gone, once seen, twice gone: never three in a row.
        first = sandbox.faults.add("missing_job", times=2)
        second = sandbox.faults.add("missing_job", times=2, skip=3)
        run = run_batch(sandbox, tmp_path, clock, vis(OBS), pacing=Pacing(poll=10.0))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert first.hits == second.hits == 2


def test_a_ready_job_without_a_product_is_waited_for(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    fault = sandbox.faults.add("null_product", times=2)
    assert run_batch(sandbox, tmp_path, clock, vis(OBS)).summary.exit_status is ExitStatus.COMPLETE
    assert fault.hits == 2


def test_a_job_that_never_gets_a_product_has_failed(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    sandbox.faults.add("null_product", obs_id=OBS)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED
    assert failure(run) == "The job is ready, but has no product."
    assert not asked(sandbox, PRODUCT)[1:]


@pytest.mark.parametrize(("state", "label"), [(9, "State 9"), ("preparing", "State preparing")])
def test_an_unknown_state_goes_by_its_own_name_and_is_waited_on(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, state: int | str, label: str
) -> None:
    sandbox.faults.add("unknown_state", state=state, times=8)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert labels(run) == [label, "Ready for Download"]


def test_a_product_that_is_gone_fails_its_row(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    sandbox.faults.add("product_gone", obs_id=OBS)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED and "410" in failure(run)
    assert_right(sandbox, run)


def test_what_is_wrong_twice_never_gets_a_final_name(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    sandbox.faults.add("wrong_sha1", obs_id=OBS)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED and "wrong SHA-1" in failure(run)
    assert_right(sandbox, run)
