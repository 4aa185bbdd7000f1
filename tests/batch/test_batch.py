"""The polling loop against the sandbox: every row to a verified file, or to a clear word why not."""

from __future__ import annotations

import hashlib
import io
import queue
import re
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared import FastClock, Run, environment, notices, run_batch, run_command, service_of, vis, wait_until

from mwa_client.asvo.api_client import Submission
from mwa_client.asvo.session import Session
from mwa_client.batch import products
from mwa_client.batch.events import (
    Begun,
    Complete,
    Counts,
    Downloading,
    Event,
    Notice,
    RowFailed,
    StateChanged,
    Submitted,
    Summary,
)
from mwa_client.batch.ledger import Ledger
from mwa_client.batch.pacing import Pacing
from mwa_client.batch.submitting import UNCLEAR_SUBMISSIONS
from mwa_client.batch.watching import MISSING_TIME
from mwa_client.display.lines import LineDisplay
from mwa_client.errors import ExitStatus, LoginRefused, ServiceRefused
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import KINDS, Job, JobState, JobType, LoggedRequest, Sandbox
from mwa_client.sandbox.fault_kinds import FaultKind, Point
from mwa_client.sandbox.messages import Body, Call, Reply
from mwa_client.timing import FIRST_POLL, LAST_POLL, LONGEST_OUTAGE_WAIT, Backoff, PollTimes
from mwa_client.transfer import download

T = TypeVar("T")

LISTING = "/api/get_jobs"
SUBMISSION = "/api/download_vis_job"
PRODUCT = "/api/download"
OBS = 1191828528
OTHER = 1191828584


class PatientClock(FastClock):
    """A fast clock that does not let time pass while the loop can only wait for its workers."""

    def receive(self, inbox: queue.Queue[T], seconds: float, *, is_coming: bool = False) -> T | None:
        if is_coming or seconds < LAST_POLL:
            return super().receive(inbox, seconds, is_coming=is_coming)
        return inbox.get(timeout=20.0)


ANEW = ", allow_resubmit=true"


def listed(sandbox: Sandbox, obs_id: int = OBS, **options: Any) -> Job:
    """A job that is at the service before the client comes."""
    return sandbox.service.add(
        {"obs_id": str(obs_id), "download_type": "vis"}, JobType.VISIBILITIES, **options
    )


def asked(sandbox: Sandbox, path: str) -> list[LoggedRequest]:
    return [request for request in sandbox.requests if request.path == path]


def gaps(requests: list[LoggedRequest]) -> list[float]:
    """Seconds between requests, as the fast clock had them."""
    times = [request.started for request in requests]
    return [later - earlier for earlier, later in zip(times, times[1:])]


def sha1_of(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


def final_names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {".mwa_client", "SHA1SUMS"}


def assert_right(sandbox: Sandbox, run: Run) -> None:
    """Every file of every complete row is that of its job, and nothing else stands in the directory."""
    names = set()
    for row in run.summary.complete:
        job = sandbox.service.find(row.row.job_id)
        assert job is not None and int(job.obs_id) == row.row.obs_id
        assert [sha1_of(file.path) for file in row.files] == [job.content.sha1]
        names |= {file.path.name for file in row.files}
    assert final_names(run.summary.directory) == names


def labels(run: Run, line: int = 1) -> list[str]:
    return [event.label for event in run.told(StateChanged) if event.row.line == line]


def failure(run: Run, line: int = 1) -> str:
    return next(failed.error.what for failed in run.summary.failed if failed.row.line == line)


def screen(run: Run) -> list[str]:
    """The lines that a person would have read."""
    stream = io.StringIO()
    display = LineDisplay(stream, stream, FastClock())
    for event in run.events:
        display(event)
    return stream.getvalue().splitlines()


def assert_nothing_said_twice(run: Run) -> None:
    # A setback is another one when bytes have arrived in between.
    lines = [line for line in screen(run) if not line.startswith(" ") and "Going on in" not in line]
    assert len(lines) == len(set(lines))


# --- All goes well ------------------------------------------------------------------------------------


def test_three_rows_become_verified_files(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    run = run_batch(sandbox, tmp_path, clock)
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert len(run.summary.complete) == len(sandbox.jobs) == 3
    assert not run.summary.failed and not run.summary.pending and not run.summary.unverified
    assert all(file.verified for row in run.summary.complete for file in row.files)
    assert run.summary.size == sum(job.size for job in sandbox.jobs)
    assert run.told(Begun) == [Begun(3)]
    assert run.told(Counts)[-1] == Counts(3, 3, (("Download Complete", 3),))
    assert_right(sandbox, run)
    assert [path.name for path in (tmp_path / ".mwa_client").iterdir()] == ["ledger.jsonl"]


def test_states_are_told_once_each_in_order(tmp_path: Path) -> None:
    clock = PatientClock()
    with Sandbox(clock=clock.now, seconds_per_state=1000, product_size=lambda job: 10_000) as sandbox:
        run = run_batch(sandbox, tmp_path, clock, pacing=Pacing(poll=50.0))
    for line in (1, 2, 3):
        story = [
            event.label if isinstance(event, StateChanged) else type(event).__name__
            for event in run.events
            if isinstance(event, (Submitted, StateChanged, Downloading, Complete)) and event.row.line == line
        ]
        expected = ["Submitted", "Queued", "Processing", "Ready for Download", "Downloading", "Complete"]
        assert story == expected
    assert_nothing_said_twice(run)
    words = [line.partition(":")[0] for line in screen(run)[:-1]]
    assert set(words) == {
        "Queued", "Processing", "Ready for Download", "Downloading", "Download Complete"
    }  # fmt: skip


def test_a_finished_batch_needs_no_network(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    run_batch(sandbox, tmp_path, clock)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    sandbox.reset_log()
    run = run_batch(sandbox, tmp_path, clock)
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert sandbox.requests == []
    assert [row.from_before for row in run.summary.complete] == [True, True, True]
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    sandbox.stop()
    assert run_batch(sandbox, tmp_path, clock).summary.exit_status is ExitStatus.COMPLETE


def test_rows_that_ask_for_the_same_are_one_job(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    text = vis(OBS) + f"job_type = d ,download_type=vis,obs_id= {OBS},\n" + vis(OTHER)
    run = run_batch(sandbox, tmp_path, clock, text)
    assert len(sandbox.jobs) == len(run.summary.complete) == 2
    assert run.summary.exit_status is ExitStatus.COMPLETE


def test_ids_and_sizes_and_states_may_be_strings(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    fault = sandbox.faults.add("strings_for_numbers")
    run = run_batch(sandbox, tmp_path, clock)
    assert run.summary.exit_status is ExitStatus.COMPLETE and not run.summary.unverified
    assert fault.hits > 3
    assert_right(sandbox, run)


def test_entries_without_sense_are_passed_over(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    fault = sandbox.faults.add("extra_job_rows")
    # Old jobs of which the listing does not say what they are; none of them is the row's.
    for name in ("id", "job_state", "job_type", "job_params", "product"):
        sandbox.faults.add("missing_field", field=name, job_id=listed(sandbox).id)
    run = run_batch(sandbox, tmp_path, clock, vis(OTHER))
    assert run.summary.exit_status is ExitStatus.COMPLETE and fault.hits > 1
    assert len(sandbox.jobs) == 6
    assert_right(sandbox, run)


# --- Jobs that come to nothing ------------------------------------------------------------------------


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
    assert failure(run, 2).endswith("was cancelled.") and labels(run, 2) == ["Queued", "Cancelled"]
    assert len(run.summary.complete) == 1 and len(sandbox.jobs) == 2
    assert_nothing_said_twice(run)


def test_an_expired_job_is_submitted_anew(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    sandbox.faults.add("expire_job", times=1)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    _, second = sandbox.jobs
    assert [row.row.job_id for row in run.summary.complete] == [second.id]
    assert notices(run) == ["Submitting line 1 anew: The job has expired."]
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
    said = "is no longer listed by the service." if was_listed else "and has not listed it."
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
    assert labels(run) == ["Queued", label, "Ready for Download"]


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


# --- Submitting ---------------------------------------------------------------------------------------


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


# --- Finding jobs -------------------------------------------------------------------------------------


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


# --- Listings that fail -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("fail_call", {"status": 500}),
        ("fail_call", {"status": 429}),
        ("fail_call", {"status": 302}),
        ("busy", {"retry_after": 1}),
        ("html_reply", {}),
        ("broken_json", {}),
        ("fail_call", {"status": 200, "body": '{"jobs": []}'}),
    ],
)
@pytest.mark.parametrize("skip", [0, 1])
def test_an_outage_is_waited_out_and_said_once(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, fault: str, options: dict[str, Any], skip: int
) -> None:
    struck = sandbox.faults.add(fault, path=LISTING, times=9, skip=skip, **options)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE and struck.hits == 9
    assert len(notices(run)) == 2
    assert "until it answers" in notices(run)[0] and notices(run)[1] == "The service answers again."
    waits = gaps(asked(sandbox, LISTING))[skip : skip + 9]
    # The fast clock's chance takes off a quarter.
    assert waits == pytest.approx([min(5.0 * 2**n, 300) * 0.75 for n in range(9)], abs=0.5)
    assert_nothing_said_twice(run)


def test_retry_after_at_a_listing_is_obeyed(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    sandbox.faults.add("busy", path=LISTING, retry_after=[120, 777])
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    first, second = gaps(asked(sandbox, LISTING))[:2]
    assert 120 <= first < 125 and 777 <= second < 782
    assert "120 s" in notices(run)[0]


@pytest.mark.parametrize("fault", ["fail_call", "html_reply"])
def test_a_login_that_is_not_answered_is_waited_out(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, fault: str
) -> None:
    struck = sandbox.faults.add(fault, path="/api/login", times=3)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE and struck.hits == 3
    assert len(notices(run)) == 2


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refused_listing_is_an_error_at_once(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, status: int
) -> None:
    sandbox.faults.add("fail_call", path=LISTING, status=status, body="No, says the firewall")
    with pytest.raises(ServiceRefused, match="No, says the firewall") as error:
        run_batch(sandbox, tmp_path, clock)
    assert error.value.status == status and error.value.exit_status is ExitStatus.REFUSED
    assert len(asked(sandbox, LISTING)) == 1 and not sandbox.jobs


def test_a_wrong_password_is_an_error_at_once(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    with pytest.raises(LoginRefused, match="ASVO_PASS"):
        run_batch(sandbox, tmp_path, clock, service=service_of(sandbox, password="wrong"))
    assert len(sandbox.requests) == 1
    (tmp_path / "jobs.csv").write_text(vis(OBS))
    done = run_command(
        f"--csv={tmp_path / 'jobs.csv'}", f"--dir={tmp_path}", env=environment(sandbox, ASVO_PASS="wrong-pw")
    )
    assert done.returncode == 2 and "user name and password" in done.stderr
    assert "wrong-pw" not in done.stdout + done.stderr


@pytest.mark.parametrize("path", [LISTING, SUBMISSION, PRODUCT])
def test_a_lost_session_is_opened_again(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, path: str
) -> None:
    fault = sandbox.faults.add("expire_session", path=path, times=1)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert len(sandbox.jobs) == 2 and notices(run) == []
    assert fault.hits == 1 and len(asked(sandbox, "/api/login")) == 2


def test_a_session_that_is_lost_again_at_once_costs_no_row(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    sandbox.faults.add("expire_session", path=SUBMISSION, times=3)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert len(sandbox.jobs) == 1 and len(asked(sandbox, SUBMISSION)) == 4


# --- Pace ---------------------------------------------------------------------------------------------


def test_polls_get_rarer_while_nothing_changes(clock: FastClock, tmp_path: Path) -> None:
    with Sandbox(clock=clock.now, seconds_per_state=900, product_size=lambda job: 9) as sandbox:
        run_batch(sandbox, tmp_path, clock, vis(OBS))
        times = [request.started for request in asked(sandbox, LISTING)]
        created = sandbox.jobs[0].created
    states = [max(int((time - created) // 900), 0) for time in times]
    assert states[0] == states[1] == 0 and states[-1] == 2
    waits = gaps(asked(sandbox, LISTING))
    expected = FIRST_POLL
    for index in range(1, len(waits)):  # The wait that follows listing `index`.
        is_news = states[index] != states[index - 1]
        expected = FIRST_POLL if is_news else min(expected * 1.3, LAST_POLL)
        assert waits[index] == pytest.approx(expected, abs=0.01)
    assert max(waits[1:]) == pytest.approx(LAST_POLL) and states.count(1) > 10


def test_a_fixed_interval_is_kept(clock: FastClock, tmp_path: Path) -> None:
    with Sandbox(clock=clock.now, seconds_per_state=100, product_size=lambda job: 9) as sandbox:
        run_batch(sandbox, tmp_path, clock, vis(OBS), pacing=Pacing(poll=7.0))
        waits = gaps(asked(sandbox, LISTING))[1:]
    assert len(waits) >= 14 and waits == pytest.approx([7.0] * len(waits), abs=0.01)


@pytest.mark.parametrize(("chance", "part"), [(0.0, 1.0), (0.999, 0.5)])
def test_waits_are_spread_by_chance(
    clock: FastClock, monkeypatch: pytest.MonkeyPatch, chance: float, part: float
) -> None:
    monkeypatch.setattr(clock, "chance", lambda: chance)
    backoff = Backoff(clock, first=5.0, cap=LONGEST_OUTAGE_WAIT)
    waits = [backoff.next() for _ in range(9)]
    assert waits == pytest.approx([min(5.0 * 2**tries, 300.0) * part for tries in range(9)], rel=0.01)
    assert backoff.next(at_least=1000.0) == 1000.0
    polls = PollTimes(clock, None)
    polls.succeeded(True)
    assert polls.remaining() == pytest.approx(FIRST_POLL * (0.9 + 0.2 * chance), abs=0.01)


def test_one_listing_serves_all_rows(clock: FastClock, tmp_path: Path) -> None:
    with Sandbox(clock=clock.now, seconds_per_state=20, product_size=lambda job: 9) as sandbox:
        run = run_batch(sandbox, tmp_path, clock, vis(*range(OBS, OBS + 25)))
        assert len(run.summary.complete) == 25
        assert min(gaps(asked(sandbox, LISTING))) >= FIRST_POLL
        assert len(asked(sandbox, LISTING)) < 50 and len(asked(sandbox, "/api/login")) == 1


@dataclass
class Watched:
    """Counts the products that are being sent at the same time."""

    body: Body
    now: list[Body]
    most: list[int]

    @property
    def length(self) -> int | None:
        return self.body.length

    def pieces(self) -> Iterator[bytes]:
        self.now.append(self.body)
        self.most.append(len(self.now))
        try:
            yield from self.body.pieces()
        finally:
            self.now.remove(self.body)


@pytest.mark.parametrize("parallel", [1, 3])
def test_only_so_many_downloads_at_a_time(
    clock: FastClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parallel: int
) -> None:
    most: list[int] = []
    now: list[Body] = []

    def watch(reply: Reply) -> Reply:
        """Count it."""
        return replace(reply, body=Watched(reply.body, now, most))

    monkeypatch.setitem(KINDS, "watch", FaultKind("watch", Point.REPLY, frozenset({Call.PRODUCT}), watch))
    with Sandbox(clock=clock.now, rate=1e6, product_size=lambda job: 70_000 * parallel) as sandbox:
        sandbox.faults.add("watch")
        run = run_batch(sandbox, tmp_path, clock, vis(*range(OBS, OBS + 5)), pacing=Pacing(parallel=parallel))
        assert run.summary.exit_status is ExitStatus.COMPLETE
    assert max(most) == parallel and len(most) == 5


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


NO_MEMORY = "The system gives this program no more memory."


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
    broken = does(download.fetch, lambda wanted, *rest: wanted.name == f"{OBS}_vis.zip", surprise)
    with monkeypatch.context() as patch:
        patch.setattr("mwa_client.batch.products.fetch", broken)
        run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED
    assert [row.row.obs_id for row in run.summary.complete] == [OTHER]
    kind = type(surprise).__name__
    if isinstance(surprise, MemoryError):
        assert failure(run) == NO_MEMORY
    else:
        assert re.fullmatch(rf"internal error: {kind} in test_batch\.py, line \d+\.", failure(run))
        assert any("Please report it. It came by way of products.py, line" in line for line in screen(run))
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


# --- Files --------------------------------------------------------------------------------------------


def test_a_product_without_sha1_is_complete_but_not_verified(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    sandbox.faults.add("no_sha1", obs_id=OBS)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert [file.path.name for file in run.summary.unverified] == [f"{OBS}_vis.zip"]
    assert any("not verified: the service gave no SHA-1" in line for line in screen(run))
    assert "1 of " in screen(run)[-1] and "not verified" in screen(run)[-1]
    assert str(OBS) not in (tmp_path / "SHA1SUMS").read_text()
    assert_right(sandbox, run)
    # And it stays so.
    again = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert len(again.summary.unverified) == 1


CONVERSIONS = "".join(
    f"obs_id={OBS}, job_type=c, timeres={timeres}, freqres=40, edgewidth=80, conversion=ms\n"
    for timeres in (4, 8, 16)
)


def test_products_of_one_name_stand_side_by_side(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    lines = CONVERSIONS.splitlines()
    # Over three runs, and the last one begins with the middle row.
    run_batch(sandbox, tmp_path, clock, lines[0])
    run_batch(sandbox, tmp_path, clock, "\n".join(lines[:2]))
    run = run_batch(sandbox, tmp_path, clock, "\n".join([lines[1], lines[0], lines[2]]))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    first, second, third = (job.id for job in sandbox.jobs)
    name = f"{OBS}_ms.zip"
    assert final_names(tmp_path) == {name, f"{second}_{name}", f"{third}_{name}"}
    assert_right(sandbox, run)
    assert run.summary.complete[1].row.job_id == first
    assert run.summary.complete[1].files[0].path.name == name


def test_names_are_kept_when_a_run_is_begun_again(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    fault = sandbox.faults.add("product_status", status=403)
    assert len(run_batch(sandbox, tmp_path, clock, CONVERSIONS).summary.failed) == 3
    sandbox.faults.remove(fault)
    run = run_batch(sandbox, tmp_path, clock, "\n".join(reversed(CONVERSIONS.splitlines())))
    assert run.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 3
    assert len(final_names(tmp_path)) == 3
    assert_right(sandbox, run)


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.zip",
        "/etc/evil",
        "..",
        ".",
        "",
        ".bashrc",
        "..\\..\\evil.zip",
        "-rf",
        "SHA1SUMS",
        ".mwa_client/ledger.jsonl",
        "a\nb.zip",
        "x\x00y",
        "n" * 300,
        "ä" * 150,
        " ",
    ],
)
def test_no_name_leads_out_of_the_directory(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, name: str
) -> None:
    sandbox.faults.add("hostile_name", name=name)
    directory = tmp_path / "deep" / "down"
    run = run_batch(sandbox, directory, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    product = run.summary.complete[0].files[0].path
    memory = directory / ".mwa_client" / "ledger.jsonl"
    assert written == {product, directory / "SHA1SUMS", memory}
    assert product.parent == directory and not product.name.startswith((".", "-"))
    assert sha1_of(product) == sandbox.jobs[0].content.sha1
    assert product.name in (directory / "SHA1SUMS").read_text()
    assert run_batch(sandbox, directory, clock, vis(OBS)).summary.complete[0].from_before


def test_a_product_that_was_removed_is_fetched_again(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    run_batch(sandbox, tmp_path, clock)
    (tmp_path / f"{OTHER}_vis.zip").unlink()
    sandbox.reset_log()
    run = run_batch(sandbox, tmp_path, clock)
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert sorted(row.from_before for row in run.summary.complete) == [False, True, True]
    assert len(asked(sandbox, PRODUCT)) == 1 and len(sandbox.jobs) == 3
    assert_right(sandbox, run)
    (notice,) = run.told(Notice)
    assert f"{OTHER}_vis.zip was complete on 2027-01-15" in notice.text and "again" in notice.text


def test_a_file_that_is_right_already_is_not_fetched(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    run_batch(sandbox, tmp_path / "one", clock, vis(OBS))
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / f"{OBS}_vis.zip").rename(tmp_path / "two" / f"{OBS}_vis.zip")
    sandbox.reset_log()
    run = run_batch(sandbox, tmp_path / "two", clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE and not run.summary.unverified
    assert asked(sandbox, PRODUCT) == []


# --- Any trouble at all -------------------------------------------------------------------------------

OUTCOMES: dict[str, tuple[ExitStatus, tuple[tuple[str, dict[str, Any]], ...]]] = {
    "well": (ExitStatus.COMPLETE, ()),
    "error": (ExitStatus.JOBS_FAILED, (("job_error", {}),)),
    "error without a word": (ExitStatus.JOBS_FAILED, (("job_error", {"text": None}),)),
    "cancelled": (ExitStatus.JOBS_FAILED, (("cancel_job", {}),)),
    "expired once": (ExitStatus.COMPLETE, (("expire_job", {"times": 1}),)),
    "expired for ever": (ExitStatus.JOBS_FAILED, (("expire_job", {}),)),
    "missing": (ExitStatus.JOBS_FAILED, (("missing_job", {}),)),
    "missing twice": (ExitStatus.COMPLETE, (("missing_job", {"times": 2}),)),
    "no product": (ExitStatus.JOBS_FAILED, (("null_product", {}),)),
    "refused": (ExitStatus.JOBS_FAILED, (("refuse_submission", {}),)),
    "no sense": (ExitStatus.JOBS_FAILED, (("html_reply", {"path": SUBMISSION}),)),
    "unanswered": (ExitStatus.COMPLETE, (("drop_reply", {"times": 1}),)),
    "wrong": (ExitStatus.JOBS_FAILED, (("wrong_sha1", {}),)),
    "wrong once": (ExitStatus.COMPLETE, (("corrupt_byte", {"times": 1}),)),
    "gone": (ExitStatus.JOBS_FAILED, (("product_gone", {}),)),
    "somebody's page": (ExitStatus.COMPLETE, (("product_status", {"status": [404, 400, 410, 200]}),)),
    "forbidden": (ExitStatus.JOBS_FAILED, (("product_status", {"status": 403}),)),
    "cut": (ExitStatus.COMPLETE, (("cut_product", {"after": [10, 1000, 0]}),)),
    "odd state": (ExitStatus.COMPLETE, (("unknown_state", {"times": 4}),)),
    "stuck": (ExitStatus.TRY_AGAIN, (("unknown_state", {}),)),
}
"""What can become of a row: how it ends, and the faults, aimed at its observation, that bring it about."""

TROUBLES: dict[str, tuple[str, dict[str, Any]]] = {
    "listing": ("fail_call", {"path": LISTING, "times": 2, "skip": 1}),
    "nonsense": ("html_reply", {"path": LISTING, "times": 1}),
    "broken": ("broken_json", {"path": LISTING, "times": 1, "skip": 2}),
    "session": ("expire_session", {"times": 1, "skip": 3}),
    "login": ("fail_call", {"path": "/api/login", "times": 1}),
    "submission": ("busy", {"path": SUBMISSION, "times": 2, "retry_after": 30}),
    "product": ("busy", {"path": PRODUCT, "times": 1}),
    "strings": ("strings_for_numbers", {}),
    "junk": ("extra_job_rows", {}),
}


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    outcomes=st.lists(st.sampled_from(sorted(OUTCOMES)), min_size=1, max_size=6),
    troubles=st.sets(st.sampled_from(sorted(TROUBLES)), max_size=3),
    anew=st.booleans(),
)
def test_every_row_ends_in_one_place(
    tmp_path_factory: pytest.TempPathFactory, outcomes: list[str], troubles: set[str], anew: bool
) -> None:
    clock = FastClock()
    text = vis(*range(OBS, OBS + len(outcomes)), more=ANEW if anew else "")
    is_stuck = "stuck" in outcomes
    pacing = Pacing(give_up_after=1500.0 if is_stuck else None)
    with Sandbox(clock=clock.now, product_size=lambda job: 2000 + job.id) as sandbox:
        for number, outcome in enumerate(outcomes):
            for name, options in OUTCOMES[outcome][1]:
                sandbox.faults.add(name, obs_id=OBS + number, **options)
        for trouble in sorted(troubles):
            name, options = TROUBLES[trouble]
            sandbox.faults.add(name, **options)
        run = run_batch(sandbox, tmp_path_factory.mktemp("batch"), clock, text, pacing=pacing)
        summary = run.summary
        assert_right(sandbox, run)
    ended = {row.row.line: ExitStatus.COMPLETE for row in summary.complete}
    ended |= {row.row.line: ExitStatus.JOBS_FAILED for row in summary.failed}
    ended |= {row.line: ExitStatus.TRY_AGAIN for row in summary.pending}
    assert sorted(ended) == list(range(1, len(outcomes) + 1))
    assert len(summary.complete) + len(summary.failed) + len(summary.pending) == len(outcomes)
    for number, outcome in enumerate(outcomes):
        # Where the time is limited, a row that takes long may not be at its end yet.
        allowed = {OUTCOMES[outcome][0]} | ({ExitStatus.TRY_AGAIN} if is_stuck else set())
        assert ended[number + 1] in allowed, outcome
    statuses = set(ended.values())
    worst = next(s for s in (75, 4, 0) if ExitStatus(s) in statuses)
    assert summary.exit_status == worst
    assert run.events[-1] is summary
    assert sorted(run.told(RowFailed), key=lambda failed: failed.row.line) == list(summary.failed)
    assert bool(summary.why_pending) == bool(summary.pending)
    lines = [line for line in screen(run) if "Going on in" not in line]
    assert all(line != following for line, following in zip(lines, lines[1:]))
