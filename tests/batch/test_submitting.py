"""Submissions that are refused, lost, late or make no sense: no job is made twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch_runs import LISTING, OBS, OTHER, PRODUCT, SUBMISSION, PatientClock, assert_right, failure, gaps
from shared import FastClock, asked, notices, run_batch, vis

from mwa_client.batch.events import (
    Submitted,
)
from mwa_client.batch.pacing import Pacing
from mwa_client.batch.submitting import UNCLEAR_SUBMISSIONS
from mwa_client.errors import ExitStatus, LoginRefused
from mwa_client.sandbox import Sandbox


@pytest.mark.parametrize("as_json", [True, False])
def test_a_refused_submission_is_that_rows_failure(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, as_json: bool
) -> None:
    text = f"Observation {OBS} does not exist"
    fault = sandbox.faults.add("refuse_submission", obs_id=OBS, text=text, json=as_json)
    run = run_batch(sandbox, tmp_path, clock)
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED
    assert failure(run, 3) == f"The service refused: {text}"
    assert run.summary.failed[0].row.job_id is None
    assert fault.hits == 1 and len(sandbox.jobs) == len(run.summary.complete) == 2


@pytest.mark.parametrize("reset", [False, True])
def test_a_job_whose_submission_was_not_answered_is_found(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, reset: bool
) -> None:
    sandbox.faults.add("drop_reply", times=1, reset=reset)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert len(sandbox.jobs) == 1
    assert [event.found for event in run.told(Submitted)] == [True]
    assert len(notices(run)) == 2 and "not answered" in notices(run)[0]


def test_several_unanswered_submissions_make_no_job_twice(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    fault = sandbox.faults.add("drop_reply", times=5)
    run = run_batch(sandbox, tmp_path, clock, vis(*range(OBS, OBS + 8)))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert fault.hits == 5
    assert sorted(int(job.obs_id) for job in sandbox.jobs) == list(range(OBS, OBS + 8))
    assert len(notices(run)) == 2, "the trouble is said once, and its end"


@pytest.mark.parametrize("fault", ["broken_json", "null_job_id", "missing_field"])
def test_an_answer_without_a_job_id_makes_no_second_job(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, fault: str
) -> None:
    struck = sandbox.faults.add(fault, path=SUBMISSION)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert struck.hits == 2 and len(sandbox.jobs) == 2
    assert_right(sandbox, run)


def test_a_job_that_was_made_late_is_found_late(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    sandbox.faults.add("drop_reply", times=1)
    # The first listing after it does not show it yet, and comes before it is time to try again.
    sandbox.faults.add("missing_job", times=1)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), pacing=Pacing(poll=1.0))
    assert run.summary.exit_status is ExitStatus.COMPLETE


def test_submissions_that_make_no_sense_are_bounded(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    fault = sandbox.faults.add("html_reply", path=SUBMISSION, obs_id=OBS)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED
    assert fault.hits == UNCLEAR_SUBMISSIONS
    assert failure(run).startswith("Not submitted: ") and "html" in failure(run)
    assert [int(job.obs_id) for job in sandbox.jobs] == [OTHER]
    posts = [request for request in asked(sandbox, SUBMISSION) if request.form["obs_id"] == str(OBS)]
    listings = [request.started for request in asked(sandbox, LISTING)]
    for earlier, later in zip(posts, posts[1:]):
        assert any(earlier.started <= listing <= later.started for listing in listings), "looked for it first"
    assert len(notices(run)) == 1, "said once, not once a try"


def test_an_outage_of_submissions_is_waited_out_with_longer_and_longer_waits(tmp_path: Path) -> None:
    clock = PatientClock()
    with Sandbox(clock=clock.now, product_size=lambda job: 9) as sandbox:
        sandbox.faults.add("fail_call", path=SUBMISSION, status=503, times=9)
        run = run_batch(sandbox, tmp_path, clock, vis(OBS), pacing=Pacing(poll=30.0))
        assert run.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 1
        waits = [round(wait) for wait in gaps(asked(sandbox, SUBMISSION))]
    # The fast clock's chance takes off a quarter; then the next listing is waited for. Two minutes at least:
    # a proxy may say 503 of a submission that has reached the service.
    assert waits == [120, 120, 120, 180, 240, 240, 240, 240, 240]
    assert len(notices(run)) == 2
    assert "503" in notices(run)[0] and notices(run)[1] == "All jobs are submitted now."


def test_retry_after_at_a_submission_is_obeyed(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    sandbox.faults.add("busy", path=SUBMISSION, retry_after=1000, times=1)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    first, second = (request.started for request in asked(sandbox, SUBMISSION))
    assert run.summary.exit_status is ExitStatus.COMPLETE and second - first >= 1000
    listings = [request.started for request in asked(sandbox, LISTING)]
    assert sum(first < time < second for time in listings) >= 10, "they had not asked for that"


def test_who_is_asked_to_wait_does_not_send_the_other_rows(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    sandbox.faults.add("busy", path=SUBMISSION, retry_after=500, times=4)
    run = run_batch(sandbox, tmp_path, clock, vis(*range(OBS, OBS + 12)))
    posts = sorted(request.started for request in asked(sandbox, SUBMISSION))
    assert run.summary.exit_status is ExitStatus.COMPLETE and len(posts) == 16
    assert sum(post < posts[0] + 500 for post in posts) <= 4, "but for those that were under way"


def test_submissions_are_told_in_the_order_of_the_file(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    # The first answers come last.
    sandbox.faults.add("slow", path=SUBMISSION, seconds=0.3, times=1)
    sandbox.faults.add("slow", path=SUBMISSION, seconds=0.1, times=2)
    run = run_batch(sandbox, tmp_path, clock, vis(*range(OBS, OBS + 9)))
    assert [event.row.line for event in run.told(Submitted)] == list(range(1, 10))


def test_a_lost_login_while_submitting_ends_the_run(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    sandbox.faults.add("expire_session", path=SUBMISSION, times=1)
    sandbox.faults.add("refuse_login", skip=1)
    with pytest.raises(LoginRefused):
        run_batch(sandbox, tmp_path, clock, vis(OBS))
    sandbox.faults.clear()
    assert run_batch(sandbox, tmp_path, clock, vis(OBS)).summary.exit_status is ExitStatus.COMPLETE
    assert len(sandbox.jobs) == 1


def test_a_lost_login_while_downloading_ends_the_run(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    sandbox.faults.add("expire_session", path=PRODUCT, times=1)
    sandbox.faults.add("refuse_login", skip=1)
    with pytest.raises(LoginRefused):
        run_batch(sandbox, tmp_path, clock, vis(OBS))
