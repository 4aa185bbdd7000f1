"""The right job, exactly once: what a row does with a job that may not be its own, or with no answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from shared import (
    LISTING,
    SUBMISSION,
    FastClock,
    Run,
    asked,
    environment,
    failures,
    notices,
    run_batch,
    run_command,
    service_of,
    vis,
)

from mwa_client.asvo import open_session
from mwa_client.batch.batch import Batch
from mwa_client.batch.events import Downloading, Event, Notice, StateChanged, Submitted
from mwa_client.batch.ledger import Ledger
from mwa_client.batch.pacing import Pacing
from mwa_client.batch.submitting import UNCLEAR_SUBMISSIONS
from mwa_client.batch.watching import MISSING_TIME
from mwa_client.errors import DirectoryBusy, ExitStatus
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import KINDS, Job, JobState, JobType, Sandbox
from mwa_client.sandbox.fault_kinds import FaultKind, Point
from mwa_client.sandbox.messages import Call, Reply

OBS, OTHER = 1191828528, 1191828584
EVERY = pytest.mark.parametrize("api", list(ApiVersion), ids=[api.value for api in ApiVersion])
TODAY = pytest.mark.parametrize("api", [ApiVersion.V1, ApiVersion.V2], ids=["v1", "v2"])
TWO_MINUTES = 120.0
READY = "Ready for Download"


ANEW = ", allow_resubmit=true"


def at_service(sandbox: Sandbox, api: ApiVersion, obs_id: int = OBS, **options: Any) -> Job:
    """A job that the service has, submitted as the client does it."""
    params: dict[str, Any] = {"obs_id": obs_id, "download_type": "vis"}
    if api is not ApiVersion.V2018:
        params["delivery"] = "acacia"
    return sandbox.service.add(params, JobType.VISIBILITIES, **options)


def remember(
    directory: Path, sandbox: Sandbox, api: ApiVersion, text: str, job_id: int, state: str = ""
) -> None:
    """Let the ledger know a row's job, and the state in which it was listed, if it ever was."""
    with closing(Ledger(directory, service_of(sandbox).name)) as ledger:
        for request in parse(text, api).jobs:
            ledger.record_job(request.identity, job_id)
            if state:
                ledger.record_state(request.identity, job_id, state)


def intend(directory: Path, sandbox: Sandbox, api: ApiVersion, text: str, after: int, at: float) -> None:
    """Let an earlier run have been killed when it had just submitted the rows."""
    with closing(Ledger(directory, service_of(sandbox).name, now=lambda: at)) as ledger:
        for request in parse(text, api).jobs:
            ledger.record_intent(request.identity, after)


def events_of(directory: Path) -> list[dict[str, Any]]:
    lines = (directory / ".mwa_client" / "ledger.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


# --- What the ledger says is checked against the world ------------------------------------------------


@EVERY
@pytest.mark.parametrize("other", ["observation", "type", "value"])
def test_a_number_that_is_another_job_now_is_let_go(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, other: str
) -> None:
    """As after a restart of a practice service, or through a tunnel that leads elsewhere."""
    text = vis(OBS)
    if other == "observation":
        stranger = at_service(sandbox, api, OTHER, state=JobState.READY)
    elif other == "type":
        stranger = sandbox.service.add({"obs_id": OBS}, JobType.CONVERSION, state=JobState.READY)
    else:
        text = f"obs_id={OBS}, job_type=c, avg_time_res=4, output=ms\n"
        (request,) = parse(text, api).jobs
        params = {**request.parameters(api), "timeres" if api is ApiVersion.V2018 else "avg_time_res": "8"}
        stranger = sandbox.service.add(params, JobType.CONVERSION, state=JobState.READY)
    remember(tmp_path, sandbox, api, text, stranger.id)
    run = run_batch(sandbox, tmp_path, clock, text, api=api)
    assert run.summary.exit_status is ExitStatus.COMPLETE
    (done,) = run.summary.complete
    assert done.row.job_id == sandbox.jobs[-1].id != stranger.id and len(sandbox.jobs) == 2
    assert f"job {stranger.id} does not belong to this row" in notices(run)[0]
    # That it was thought to be the row's stays written down, and does not count.
    assert [entry.get("disowned") for entry in events_of(tmp_path) if "disowned" in entry] == [stranger.id]
    assert run_batch(sandbox, tmp_path, clock, text, api=api).summary.complete[0].from_before


@EVERY
def test_where_its_own_job_is_listed_that_is_taken(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    stranger, own = at_service(sandbox, api, OTHER), at_service(sandbox, api)
    remember(tmp_path, sandbox, api, vis(OBS), stranger.id)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert run.summary.complete[0].row.job_id == own.id and len(sandbox.jobs) == 2


@EVERY
def test_what_a_listing_leaves_out_or_adds_contradicts_nothing(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    text = f"obs_id={OBS}, job_type=c, avg_time_res=4, avg_freq_res=80, output=ms\n"
    params = {"obs_id": OBS, "priority": 1, "user_pawsey_group": "mwaops", "flags": [], "brand_new": "yes"}
    job = sandbox.service.add(params, JobType.CONVERSION)
    remember(tmp_path, sandbox, api, text, job.id)
    run = run_batch(sandbox, tmp_path, clock, text, api=api)
    assert run.summary.complete[0].row.job_id == job.id and len(sandbox.jobs) == 1


def lists_all_as_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def another(document: dict[str, Any]) -> dict[str, Any] | None:
        """Tell another observation."""
        params = document.get("job_params")
        return None if params is None else {**document, "job_params": {**params, "obs_id": 1061311664}}

    kind = FaultKind("another", Point.DOCUMENT, frozenset({Call.LIST, Call.JOB}), another)
    monkeypatch.setitem(KINDS, "another", kind)


@EVERY
@pytest.mark.parametrize("once", [False, True])
def test_a_service_that_lists_every_job_as_another_is_not_asked_for_more_and_more(
    sandbox: Sandbox,
    clock: FastClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    api: ApiVersion,
    once: bool,
) -> None:
    lists_all_as_another(monkeypatch)
    sandbox.faults.add("another")
    for _ in range(5):
        run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api, once=once)
        clock.advance(3600.0)
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED
    # Today's service says that it has the job already, and what it lists of it is something else.
    said = "as a different one (" if api is ApiVersion.V2018 else "for this already, but it differs: "
    assert f"{said}obs_id=1061311664 instead of" in failures(run)[1]
    assert len(sandbox.jobs) <= 2


def test_a_job_that_was_right_once_is_let_go_as_often_as_the_service_begins_anew(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    api = ApiVersion.V2018
    for _ in range(3):
        stranger = at_service(sandbox, api, OTHER, state=JobState.PROCESSING)
        remember(tmp_path, sandbox, api, vis(OBS), stranger.id, "state 1")
        sandbox.service.seconds_per_state = 1e6
        run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api, once=True)
        assert run.summary.exit_status is ExitStatus.TRY_AGAIN and not run.summary.failed
    assert sum(job.obs_id == str(OBS) for job in sandbox.jobs) == 1, "the one that is its own is found again"


@EVERY
@pytest.mark.parametrize(
    ("state", "status"),
    [
        (JobState.ERROR, ExitStatus.JOBS_FAILED),
        (JobState.CANCELLED, ExitStatus.JOBS_FAILED),
        (JobState.PROCESSING, ExitStatus.COMPLETE),
        (JobState.READY, ExitStatus.COMPLETE),
    ],
)
def test_submitting_alone_looks_at_the_jobs_that_the_ledger_knows(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, state: JobState, status: ExitStatus
) -> None:
    job = at_service(sandbox, api, state=state)
    remember(tmp_path, sandbox, api, vis(OBS), job.id)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=api, only_submit=True)
    assert run.summary.exit_status is status and len(sandbox.jobs) == 2
    assert len(run.summary.submitted) == 2 - len(failures(run))
    assert not run.told(Downloading)


# --- Nothing is submitted twice -----------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("end", ["fail_at_once", "cancel_job"])
@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("lag", [0.0, 50.0])
def test_a_job_whose_answer_is_lost_and_that_comes_to_nothing_is_the_rows_failure(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, end: str, once: bool, lag: float
) -> None:
    """Today's service notices duplicates, but makes a job anew that has failed."""
    sandbox.faults.add("drop_reply", times=1)
    sandbox.faults.add(end)
    sandbox.faults.add("late_job", seconds=lag)
    for _ in range(3):
        run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api, once=once)
        clock.advance(3600.0)
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED
    assert len(sandbox.jobs) == 1 and run.summary.failed[0].row.job_id == sandbox.jobs[0].id


@EVERY
@pytest.mark.parametrize("state", [JobState.ERROR, JobState.CANCELLED, JobState.READY, JobState.PROCESSING])
def test_an_open_intent_is_answered_by_any_newer_job_dead_or_alive(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, state: JobState
) -> None:
    older = at_service(sandbox, api, state=JobState.ERROR)
    intend(tmp_path, sandbox, api, vis(OBS), older.id, clock.now())
    newer = at_service(sandbox, api, state=state)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api, once=True)
    assert [event.row.job_id for event in run.told(Submitted)] == [newer.id] and len(sandbox.jobs) == 2
    assert asked(sandbox, SUBMISSION[api]) == []


@EVERY
def test_an_open_intent_is_not_answered_by_an_older_job_that_failed(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    older = at_service(sandbox, api, state=JobState.ERROR)
    intend(tmp_path, sandbox, api, vis(OBS), older.id, clock.now())
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert run.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 2


CONVERSIONS = (
    f"obs_id={OBS}, job_type=c, avg_time_res=4, avg_freq_res=80, output=ms\n"
    f"obs_id={OBS}, job_type=c, avg_time_res=8, avg_freq_res=80, output=ms\n"
)


@TODAY
@pytest.mark.parametrize("said", [{"avg_time_res": 8}, {"avg_time_res": 8, "brand_new": 1}])
def test_an_answer_need_not_be_listed_with_all_that_was_asked(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, said: Mapping[str, object]
) -> None:
    intend(tmp_path, sandbox, api, CONVERSIONS, 10000, clock.now())
    job = sandbox.service.add({"obs_id": OBS, **said}, JobType.CONVERSION)
    run = run_batch(sandbox, tmp_path, clock, CONVERSIONS, api=api)
    assert run.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 2
    assert [row.row.line for row in run.summary.complete if row.row.job_id == job.id] == [2]


@TODAY
def test_a_job_that_could_answer_either_of_two_rows_answers_none(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    intend(tmp_path, sandbox, api, CONVERSIONS, 10000, clock.now())
    job = sandbox.service.add({"obs_id": OBS}, JobType.CONVERSION)
    run = run_batch(sandbox, tmp_path, clock, CONVERSIONS, api=api)
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert job.id not in [row.row.job_id for row in run.summary.complete]


UNFLAGGED = f"obs_id={OBS}, job_type=c, avg_time_res=4, output=ms, no_rfi=true\n"
FLAGGED = UNFLAGGED.replace(", no_rfi=true", "")
IN_2018 = {
    ", avg_time_res=4, output=": ", timeres=4, freqres=40, edgewidth=80, conversion=",
    "no_rfi": "norfi",
}


def in_words_of(api: ApiVersion, text: str) -> str:
    for today, then in IN_2018.items() if api is ApiVersion.V2018 else ():
        text = text.replace(today, then)
    return text


@EVERY
@pytest.mark.parametrize("is_changed", [True, False], ids=["row changed", "row added"])
def test_a_job_that_is_listed_without_what_its_row_asked_is_no_other_rows(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, is_changed: bool
) -> None:
    before, after = in_words_of(api, UNFLAGGED), in_words_of(api, FLAGGED)
    sandbox.faults.add("drop_params", keys="no*rfi")
    (own,) = run_batch(sandbox, tmp_path, clock, before, api=api).summary.complete
    run = run_batch(sandbox, tmp_path, clock, after if is_changed else before + after, api=api)
    assert run.summary.exit_status is ExitStatus.COMPLETE
    jobs = [done.row.job_id for done in run.summary.complete]
    assert own.row.job_id != jobs[-1] and len(jobs) == (1 if is_changed else 2)


@EVERY
def test_a_lost_answer_is_not_found_in_another_rows_job(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    before, after = in_words_of(api, UNFLAGGED), in_words_of(api, FLAGGED)
    intend(tmp_path, sandbox, api, after, 10000, clock.now())
    sandbox.faults.add("drop_params", keys="no*rfi")
    (own,) = run_batch(sandbox, tmp_path, clock, before, api=api).summary.complete
    (done,) = run_batch(sandbox, tmp_path, clock, after, api=api).summary.complete
    assert own.row.job_id == 10001 != done.row.job_id


@TODAY
def test_a_row_without_a_word_that_was_not_sent_has_the_same_job(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    """Today's service has no counterpart for that word of 2018."""
    after = in_words_of(ApiVersion.V2018, FLAGGED)
    before = after.replace("\n", ", allowmissing=true\n")
    (own,) = run_batch(sandbox, tmp_path, clock, before, api=api).summary.complete
    (done,) = run_batch(sandbox, tmp_path, clock, after, api=api).summary.complete
    assert done.row.job_id == own.row.job_id
    assert sum(request.path.endswith("/conversion_job") for request in sandbox.requests) == 1


def says_always(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, **answer: object) -> None:
    def same(document: dict[str, Any]) -> dict[str, Any]:
        """Answer every submission alike, as something in between may do that keeps answers."""
        return {**document, **answer}

    monkeypatch.setitem(KINDS, "same", FaultKind("same", Point.DOCUMENT, frozenset({Call.SUBMIT}), same))
    sandbox.faults.add("same")
    sandbox.faults.add("drop_params")


@EVERY
def test_the_same_job_for_two_rows_is_no_answer(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: ApiVersion
) -> None:
    says_always(sandbox, monkeypatch, job_id=10001)
    run = run_batch(sandbox, tmp_path, clock, in_words_of(api, UNFLAGGED + FLAGGED), api=api)
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert sorted(done.row.job_id or 0 for done in run.summary.complete) == [10001, 10002]
    assert len(notices(run, "gave job 10001, which is the job of line ")) == 1 and len(sandbox.jobs) == 2


@TODAY
def test_what_is_there_already_is_not_the_job_of_another_row(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: ApiVersion
) -> None:
    code = 2 if api is ApiVersion.V1 else "JOB_ALREADY_SUBMITTED"
    says_always(sandbox, monkeypatch, job_id=10001, error_code=code)
    run = run_batch(sandbox, tmp_path, clock, UNFLAGGED + FLAGGED, api=api)
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED and len(run.summary.complete) == 1
    (failed,) = run.summary.failed
    assert "has job 10001 for this already, but that is the job of line" in failed.error.what


@EVERY
def test_a_job_that_was_fetched_by_its_number_is_found_by_its_row(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    job = at_service(sandbox, api, state=JobState.READY)
    with closing(Ledger(tmp_path, service_of(sandbox).name)) as ledger:
        ledger.record_job(f"job {job.id}", job.id)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert run.summary.complete[0].row.job_id == job.id and len(sandbox.jobs) == 1


def test_each_job_is_written_down_as_soon_as_it_is_known(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer comes last; a kill meanwhile must not cost the others."""
    written = threading.Event()
    seen: list[bool] = []

    def wait(reply: Reply) -> Reply:
        """Answer when the others are written down."""
        seen.append(written.wait(10.0))
        return reply

    def listen(event: Event) -> None:
        if isinstance(event, Submitted):
            order.append(event.row.line)

    order: list[int] = []
    real = Ledger.record_job

    def submitted(self: Ledger, identity: str, job_id: int, **more: bool) -> None:
        real(self, identity, job_id, **more)
        if sum(entry["event"] == "job" for entry in events_of(tmp_path)) == 5:
            written.set()

    monkeypatch.setattr(Ledger, "record_job", submitted)
    monkeypatch.setitem(KINDS, "wait", FaultKind("wait", Point.REPLY, frozenset({Call.SUBMIT}), wait))
    sandbox.faults.add("wait", obs_id=OBS)
    run = run_batch(sandbox, tmp_path, clock, vis(*range(OBS, OBS + 6)), listen=listen)
    assert seen == [True] and order == [1, 2, 3, 4, 5, 6], "told in the order of the file all the same"
    assert run.summary.exit_status is ExitStatus.COMPLETE


@pytest.mark.parametrize("poll", [2.0, 90.0, None])
@pytest.mark.parametrize(("fault", "options"), [("fail_call", {"status": 502}), ("html_reply", {})])
def test_where_nobody_notices_a_duplicate_it_is_looked_for_long_enough(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, poll: float | None, fault: str, options: Any
) -> None:
    sandbox.faults.add(fault, path=SUBMISSION[ApiVersion.V2018], times=1, **options)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), pacing=Pacing(poll=poll))
    assert run.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 1
    first, second = (request.started for request in asked(sandbox, SUBMISSION[ApiVersion.V2018]))
    listings = [request.started for request in asked(sandbox, LISTING[ApiVersion.V2018])]
    assert second - first >= TWO_MINUTES and sum(first < time <= second for time in listings) >= 2


@pytest.mark.parametrize("api", [ApiVersion.V1, ApiVersion.V2], ids=["v1", "v2"])
def test_a_new_job_that_is_wanted_beside_an_old_one_is_looked_for_as_long(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    old = at_service(sandbox, api, state=JobState.READY, created=clock.now() - 3600.0)
    sandbox.faults.add("drop_reply", times=1)
    sandbox.faults.add("late_job", seconds=50.0)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, more=ANEW), api=api, pacing=Pacing(poll=2.0))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert len(sandbox.jobs) == 2 and run.summary.complete[0].row.job_id != old.id


@EVERY
@pytest.mark.parametrize("lag", [20.0, 60.0])
@pytest.mark.parametrize("poll", [2.0, None])
def test_a_listing_that_lags_makes_no_job_twice(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, lag: float, poll: float | None
) -> None:
    """From here it looks the same as a server that makes the job long after the client gave up waiting."""
    sandbox.faults.add("drop_reply", times=3)
    sandbox.faults.add("late_job", seconds=lag)
    text = vis(*range(OBS, OBS + 6))
    run = run_batch(sandbox, tmp_path, clock, text, api=api, pacing=Pacing(poll=poll))
    assert run.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 6


@EVERY
@pytest.mark.parametrize("once", [False, True])
def test_the_next_run_looks_as_long(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, once: bool
) -> None:
    sandbox.faults.add("late_job", seconds=60.0)
    intend(tmp_path, sandbox, api, vis(OBS), 10000, clock.now())
    at_service(sandbox, api)
    for _ in range(30):
        run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api, once=once, pacing=Pacing(poll=2.0))
        clock.advance(5.0)
    assert run.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 1


def test_the_next_run_submits_what_was_never_sent(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    intend(tmp_path, sandbox, ApiVersion.V2018, vis(OBS), 10000, clock.now())
    began = clock.monotonic()
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert run.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 2
    first, last = (request.started - began for request in asked(sandbox, SUBMISSION[ApiVersion.V2018]))
    assert first < 1.0 and last >= TWO_MINUTES, "the other row does not wait for it"
    (notice,) = [notice.text for notice in run.told(Notice) if "earlier run" in notice.text]
    assert "before a submission was answered" in notice and "up to 2 min," in notice


def test_the_practice_service_is_not_waited_for(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    intend(tmp_path, sandbox, ApiVersion.V2018, vis(OBS), 10000, clock.now())
    began = clock.monotonic()
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), pacing=Pacing(is_prompt=True))
    (request,) = asked(sandbox, SUBMISSION[ApiVersion.V2018])
    assert request.started - began < 30.0 and run.told(Notice) == []


@pytest.mark.parametrize(
    ("fault", "options"),
    [("refuse_submission", {}), ("busy", {"retry_after": 10}), ("outage", {})],
)
def test_a_clear_no_leaves_nothing_to_look_for(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, fault: str, options: Any
) -> None:
    """A row that was refused, and is wanted again, does not take a job of somebody else's that failed."""
    sandbox.faults.add(fault, path=SUBMISSION[ApiVersion.V2018], **options)
    run_batch(sandbox, tmp_path, clock, vis(OBS), once=True)
    sandbox.faults.clear()
    at_service(sandbox, ApiVersion.V2018, state=JobState.ERROR)
    clock.advance(60.0)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 2


@EVERY
def test_who_was_stopped_looks_at_the_lock_before_it_submits(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    """It was stopped between the line in the ledger and the request; another has taken over meanwhile."""
    is_main = threading.current_thread()

    def guard() -> None:
        if threading.current_thread() is not is_main:
            raise DirectoryBusy("The lock was lost.")

    service = service_of(sandbox, api)
    ledger = Ledger(tmp_path, service.name, guard, now=clock.now)
    with closing(ledger), closing(open_session(service, clock=clock)) as session:
        means = (lambda: session, ledger, clock, lambda event: None, Pacing())
        with pytest.raises(DirectoryBusy):
            Batch(parse(vis(OBS), api).jobs, *means).run()
    assert sandbox.jobs == [] and asked(sandbox, SUBMISSION[api]) == []


@EVERY
def test_a_row_asks_once_in_all_for_a_new_job(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    sandbox.faults.add("fail_at_once")
    statuses = []
    for _ in range(8):
        run = run_batch(sandbox, tmp_path, clock, vis(OBS, more=ANEW), api=api, once=True)
        statuses.append(int(run.summary.exit_status))
        clock.advance(1800.0)
    assert len(sandbox.jobs) == 2 and statuses[-4:] == [4, 4, 4, 4]


def test_a_person_asks_once_with_each_run(tmp_path: Path) -> None:
    csv, data = tmp_path / "jobs.csv", tmp_path / "data"
    csv.write_text(vis(OBS))
    words = (f"--csv={csv}", f"--dir={data}", "--poll=0.05", "-q", "-ar")
    with Sandbox(seconds_per_state=0, product_size=lambda job: 1000) as sandbox:
        sandbox.faults.add("fail_at_once")

        def statuses(runs: int, *more: str) -> list[int]:
            return [run_command(*words, *more, env=environment(sandbox)).returncode for _ in range(runs)]

        # In a crontab the words stand there each time, and ask once in all.
        assert statuses(4, "--once") == [75, 75, 4, 4] and len(sandbox.jobs) == 2
        assert statuses(2) == [4, 4] and len(sandbox.jobs) == 4


# --- An end that is true ------------------------------------------------------------------------------


def ticks(
    sandbox: Sandbox, directory: Path, clock: FastClock, api: ApiVersion, seconds: float, *, most: int = 12
) -> tuple[int, Run]:
    """Run a row from cron until it is at its end; return the number of passes."""
    for number in range(1, most + 1):
        run = run_batch(sandbox, directory, clock, vis(OBS), api=api, once=True)
        if not run.summary.pending:
            return number, run
        clock.advance(seconds)
    raise AssertionError(f"it is pending after {most} passes")


def hide(sandbox: Sandbox, api: ApiVersion, job: Job) -> None:
    sandbox.faults.add("missing_job", job_id=job.id)
    if api is ApiVersion.V2:
        sandbox.faults.add("fail_call", path=f"/api/v2/jobs/{job.id}", status=404)


@EVERY
@pytest.mark.parametrize("seconds", [60.0, 1800.0])
@pytest.mark.parametrize("was_listed", [True, False])
def test_pass_after_pass_a_missing_job_comes_to_its_end(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, seconds: float, was_listed: bool
) -> None:
    job = at_service(sandbox, api)
    hide(sandbox, api, job)
    remember(tmp_path, sandbox, api, vis(OBS), job.id, "queued" if was_listed else "")
    began = clock.now()
    number, run = ticks(sandbox, tmp_path, clock, api, seconds)
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED
    assert number >= 3 and clock.now() - began >= MISSING_TIME
    assert failures(run)[1] == (
        "The job is no longer listed by the service."
        if was_listed
        else "The service gave this job id, but has never listed the job."
    )
    assert len(sandbox.jobs) == 1
    # And it stays so, until the job is listed again.
    assert ticks(sandbox, tmp_path, clock, api, seconds)[0] == 1
    sandbox.faults.clear()
    assert ticks(sandbox, tmp_path, clock, api, seconds)[1].summary.exit_status is ExitStatus.COMPLETE


@EVERY
def test_listings_that_lag_or_are_empty_for_a_while_fail_nothing(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    sandbox.faults.add("late_job", seconds=25.0)
    text = vis(*range(OBS, OBS + 4))
    pacing = Pacing(poll=2.0)
    assert run_batch(sandbox, tmp_path, clock, text, api=api, pacing=pacing).summary.exit_status == 0
    assert len(sandbox.jobs) == 4


@TODAY
def test_pass_after_pass_a_ready_job_without_a_product_comes_to_its_end(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    sandbox.faults.add("null_product")
    number, run = ticks(sandbox, tmp_path, clock, api, 900.0)
    assert failures(run) == {1: "The job is ready, but has no product."} and number <= 5


@TODAY
def test_pass_after_pass_a_duplicate_without_a_number_comes_to_its_end(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    hide(sandbox, api, at_service(sandbox, api))
    sandbox.faults.add("duplicate_without_id")
    number, run = ticks(sandbox, tmp_path, clock, api, 900.0)
    assert "has this job already" in failures(run)[1] and number <= 2 * UNCLEAR_SUBMISSIONS
    assert len(sandbox.jobs) == 1


@EVERY
def test_pass_after_pass_answers_without_sense_come_to_their_end(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    fault = sandbox.faults.add("html_reply", path=SUBMISSION[api])
    _, run = ticks(sandbox, tmp_path, clock, api, 900.0, most=20)
    assert failures(run)[1].startswith("Not submitted: ") and fault.hits == UNCLEAR_SUBMISSIONS
    assert sandbox.jobs == []
    sandbox.faults.clear()
    for _ in range(3):  # The next runs try again, each once.
        clock.advance(900.0)
        run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api, once=True)
    assert len(sandbox.jobs) == 1


@EVERY
@pytest.mark.parametrize("once", [False, True])
def test_a_product_that_expires_before_its_download_is_made_anew_in_the_same_run(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, once: bool
) -> None:
    job = at_service(sandbox, api, state=JobState.READY)

    def expire(event: Event) -> None:
        if isinstance(event, StateChanged) and (event.label, event.row.job_id) == (READY, job.id):
            clock.advance(8 * 86400.0)
            sandbox.service.expire(job.id)

    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api, once=once, listen=expire)
    assert len(sandbox.jobs) == 2 and not failures(run)
    assert any("Resubmitting" in text for text in notices(run))
    expected = ExitStatus.TRY_AGAIN if once else ExitStatus.COMPLETE
    assert run.summary.exit_status is expected


@TODAY
@pytest.mark.parametrize("completed", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00"])
def test_a_time_that_stands_for_none_makes_no_job_expired(
    sandbox: Sandbox,
    clock: FastClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    api: ApiVersion,
    completed: str,
) -> None:
    """That would be a reason to have a product made anew, without asking, that is gone otherwise."""

    def no_time(document: dict[str, Any]) -> dict[str, Any] | None:
        """Say when a job was completed in the way of programs that have no null."""
        return {**document, "completed": completed} if "completed" in document else None

    kind = FaultKind("no_time", Point.DOCUMENT, frozenset({Call.LIST, Call.JOB}), no_time)
    monkeypatch.setitem(KINDS, "no_time", kind)
    at_service(sandbox, api, state=JobState.READY)
    sandbox.faults.add("no_time")
    sandbox.faults.add("product_gone")
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED and len(sandbox.jobs) == 1
    assert not notices(run, "Resubmitting")
