"""Today's interfaces, v1 and v2, from the login to the verified file: the same batch, in other words."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from interface_steps import (
    DAY,
    EVERY,
    EXAMPLE,
    OBS,
    OTHER,
    SIX,
    TODAY,
    VISIBILITIES,
    assert_all_well,
    assert_complete,
    assert_no_secret,
    assert_one_job_each,
    remember,
    screen,
    session_with,
)
from shared import (
    LISTING,
    LOGIN,
    SUBMISSION,
    FastClock,
    Run,
    asked,
    environment,
    failures,
    listed,
    notices,
    products,
    run_batch,
    run_command,
    vis,
)

from mwa_client.asvo.job import JobState
from mwa_client.batch.events import RowFailed, StateChanged, Submitted
from mwa_client.errors import (
    ExitStatus,
    ServiceRefused,
)
from mwa_client.jobs.keys import ApiVersion, JobType
from mwa_client.sandbox import KINDS, LoggedRequest, Sandbox
from mwa_client.sandbox import JobState as StateThere
from mwa_client.sandbox.fault_kinds import FaultKind, Point
from mwa_client.sandbox.messages import Call


def body_of(request: LoggedRequest) -> dict[str, Any]:
    return request.json if request.json is not None else dict(request.form)


def labels(run: Run, line: int = 1) -> list[str]:
    return [event.label for event in run.told(StateChanged) if event.row.line == line]


# --- The same batch, in three interfaces --------------------------------------------------------------


ONCE_V1 = {"delivery": "acacia", "allow_resubmit": "false"}


ONCE_V2 = {"delivery": "acacia", "allow_resubmit": False}


REQUESTS: dict[ApiVersion, list[tuple[str, dict[str, object]]]] = {
    ApiVersion.V2018: [
        (
            "/api/conversion_job",
            {
                "obs_id": "1191828584",
                "timeres": "20",
                "freqres": "20",
                "edgewidth": "80",
                "conversion": "ms",
                "allowmissing": "true",
                "flagdcchannels": "true",
            },
        ),
        ("/api/download_vis_job", {"obs_id": "1191828584", "download_type": "vis"}),
        ("/api/download_vis_job", {"obs_id": "1191828528", "download_type": "vis_meta"}),
    ],
    ApiVersion.V1: [
        (
            "/api/conversion_job",
            {
                "obs_id": "1191828584",
                "avg_time_res": "20",
                "avg_freq_res": "20",
                "flag_edge_width": "80",
                "output": "ms",
                "no_flag_dc": "false",
                "centre": "phase",
                **ONCE_V1,
            },
        ),
        ("/api/download_vis_job", {"obs_id": "1191828584", "download_type": "vis", **ONCE_V1}),
        ("/api/download_vis_job", {"obs_id": "1191828528", "download_type": "vis_meta", **ONCE_V1}),
    ],
    ApiVersion.V2: [
        (
            "/api/v2/conversion_job",
            {
                "obs_id": 1191828584,
                "avg_time_res": 20.0,
                "avg_freq_res": 20.0,
                "flag_edge_width": 80.0,
                "output": "ms",
                "no_flag_dc": False,
                "centre": "phase",
                **ONCE_V2,
            },
        ),
        ("/api/v2/download_vis_job", {"obs_id": 1191828584, "download_type": "vis", **ONCE_V2}),
        ("/api/v2/download_vis_job", {"obs_id": 1191828528, "download_type": "meta", **ONCE_V2}),
    ],
}


def exactly(body: dict[str, object]) -> str:
    """A body such that 1, True and "1" are three things."""
    return json.dumps(body, sort_keys=True)


@EVERY
def test_the_example_completes_in_the_words_of_each_interface(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    run = run_batch(sandbox, tmp_path, clock, EXAMPLE.read_text(), api=api)
    assert_all_well(sandbox, run, 3)
    sent = [
        (request.path, exactly(body_of(request))) for request in sandbox.requests if "_job" in request.path
    ]
    sent = [entry for entry in sent if "get_jobs" not in entry[0]]
    assert sorted(sent) == sorted((path, exactly(body)) for path, body in REQUESTS[api])


@EVERY
def test_the_example_as_a_command(tmp_path: Path, api: ApiVersion) -> None:
    with Sandbox(seconds_per_state=0.01, product_size=lambda job: 30_000 + job.id) as sandbox:
        env = environment(
            sandbox, MWA_ASVO_HOST=sandbox.url, MWA_ASVO_API_KEY="practice-key", HOME=str(tmp_path / "home")
        )
        options = ("--api", api.value, "--csv", EXAMPLE, "--dir", tmp_path / "out", "--poll", "0.2", "-v")
        done = run_command(*options, env=env)
        assert done.returncode == 0, done.stderr
        products = {path for path in (tmp_path / "out").iterdir() if path.suffix in (".tar", ".zip")}
        found = {hashlib.sha1(path.read_bytes()).hexdigest() for path in products}
        assert found == {job.content.sha1 for job in sandbox.jobs} and len(found) == 3
        assert asked(sandbox, LOGIN[api])
        assert_no_secret(sandbox, done.stdout + done.stderr)


@TODAY
def test_a_second_run_asks_nobody(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    run_batch(sandbox, tmp_path, clock, api=api)
    sandbox.reset_log()
    assert_all_well(sandbox, run_batch(sandbox, tmp_path, clock, api=api), 3)
    assert sandbox.requests == []


# --- What the service says of jobs --------------------------------------------------------------------


@TODAY
def test_a_state_that_nobody_has_seen_is_shown_and_waited_on(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    fault = sandbox.faults.add("unknown_state", state="polishing", times=4, obs_id=OBS)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=api)
    assert_all_well(sandbox, run, 2)
    assert fault.hits == 4 and labels(run).count("Polishing") == 1 and "Polishing" not in labels(run, 2)


@TODAY
def test_a_failed_job_without_a_reason(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    sandbox.faults.add("job_error", obs_id=OBS)
    fault = sandbox.faults.add("null_error_text")
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=api)
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED and fault.hits
    assert failures(run) == {1: "The job failed at the service, and the service does not say why."}
    assert_complete(sandbox, run, 1)


@TODAY
@pytest.mark.parametrize(
    ("fault", "options"),
    [("missing_product", {}), ("missing_product", {"empty": True}), ("unknown_delivery", {})],
    ids=["left out", "empty", "tape"],
)
def test_a_ready_job_without_a_product_is_that_rows_error(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, fault: str, options: dict[str, Any]
) -> None:
    handle = sandbox.faults.add(fault, obs_id=OBS, **options)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=api)
    assert failures(run) == {1: "The job is ready, but has no product."}
    assert_complete(sandbox, run, 1)
    assert handle.hits >= 3


@TODAY
def test_a_product_that_comes_late_is_fetched(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    fault = sandbox.faults.add("missing_product", times=2)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert_all_well(sandbox, run, 1)
    assert fault.hits == 2


@EVERY
@pytest.mark.parametrize("word", [99, "holography", None])
def test_a_job_type_that_nobody_has_heard_of(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, word: object
) -> None:
    stranger = listed(sandbox, OBS, state=StateThere.READY)
    sandbox.faults.add("unknown_job_type", type=word, job_id=stranger.id)
    sandbox.faults.add("unknown_job_type", type=word, obs_id=OTHER)
    run = run_batch(sandbox, tmp_path, clock, vis(OTHER), api=api)
    assert_all_well(sandbox, run, 1)
    with session_with(sandbox, api, clock) as session:
        jobs = session.jobs()
    assert jobs[stranger.id].job_type is None and jobs[stranger.id].obs_id == OBS


@TODAY
def test_ids_and_sizes_may_be_strings(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    fault = sandbox.faults.add("strings_for_numbers")
    run = run_batch(sandbox, tmp_path, clock, EXAMPLE.read_text(), api=api)
    assert_all_well(sandbox, run, 3)
    assert fault.hits > 3


@TODAY
def test_entries_without_sense_are_passed_over(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    fault = sandbox.faults.add("extra_job_rows")
    assert_all_well(sandbox, run_batch(sandbox, tmp_path, clock, api=api), 3)
    assert fault.hits > 1


@EVERY
def test_a_job_that_is_missing_from_three_listings_is_that_rows_error(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    gone, shy = listed(sandbox, OBS), listed(sandbox, OTHER)
    remember(tmp_path, sandbox, api, vis(OBS, OTHER), gone, shy)
    forever = sandbox.faults.add("missing_job", job_id=gone.id, path=LISTING[api])
    twice = sandbox.faults.add("missing_job", job_id=shy.id, path=LISTING[api], times=2)
    if api is ApiVersion.V2:
        # What the listing leaves out is asked for singly.
        sandbox.faults.add("fail_call", path=f"/api/v2/jobs/{gone.id}", status=404)
        sandbox.faults.add("fail_call", path=f"/api/v2/jobs/{shy.id}", status=404, times=2)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=api)
    assert failures(run) == {1: "The job is no longer listed by the service."}
    assert_complete(sandbox, run, 1)
    assert forever.hits >= 3 and twice.hits == 2
    assert_one_job_each(sandbox, OBS, OTHER)


# --- Refusals and outages -----------------------------------------------------------------------------


@TODAY
@pytest.mark.parametrize("fault", ["outage", "partial_outage"])
def test_an_outage_is_waited_out_and_told_once(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, fault: str
) -> None:
    sandbox.faults.add(fault, times=12)
    started = clock.monotonic()
    run = run_batch(sandbox, tmp_path, clock, vis(*SIX), api=api)
    assert_all_well(sandbox, run, 6)
    assert_one_job_each(sandbox, *SIX)
    assert len(notices(run, "outage")) == 1
    assert notices(run, "outage")[0].endswith("s, until it ends.")
    assert notices(run, "submitted now") == ["All jobs are submitted now."]
    assert clock.monotonic() - started > 30, "it did not hammer"
    assert len(asked(sandbox, SUBMISSION[api])) == 12 + 6


@TODAY
def test_other_texts_of_an_outage(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    text = "Unable to submit: the staging server is down and also acacia is unavailable!"
    sandbox.faults.add("outage", text=text, code="ANYTHING", times=3)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert_all_well(sandbox, run, 1)
    assert len(notices(run, text)) == 1


@TODAY
def test_at_the_job_limit_the_rest_is_submitted_as_jobs_finish(
    clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    size = 5_000
    with Sandbox(
        clock=clock.now, seconds_per_state=30, job_limit=2, product_size=lambda job: size
    ) as sandbox:
        run = run_batch(sandbox, tmp_path, clock, vis(*SIX), api=api)
        assert_all_well(sandbox, run, 6)
        assert_one_job_each(sandbox, *SIX)
        refused = [request for request in asked(sandbox, SUBMISSION[api]) if request.status == 400]
    assert len(notices(run, "limit")) == 1
    assert notices(run, "limit")[0].endswith("The other rows will be submitted as jobs finish.")
    # Three rounds of some two minutes each, a few tries in each, at most four rows to a try.
    assert 1 <= len(refused) <= 60


@TODAY
@pytest.mark.parametrize(
    ("fault", "said", "code"),
    [
        ("obs_not_found", f"Observation {OBS} does not exist", "OBSID_NOT_FOUND"),
        ("permission_denied", "Permission denied", "PERMISSION_DENIED"),
    ],
)
def test_a_refused_row_leaves_the_others_alone(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, fault: str, said: str, code: str
) -> None:
    handle = sandbox.faults.add(fault, obs_id=OBS)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER, OTHER + 8), api=api)
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED
    # What the help desk asks for: v2 gives every error a code, and every request a number.
    quoted = rf" \(error_code {code}, request_id [0-9a-f]{{16}}\)" if api is ApiVersion.V2 else ""
    assert list(failures(run)) == [1]
    assert re.fullmatch(f"The service refused: {said}{quoted}", failures(run)[1])
    assert_complete(sandbox, run, 2)
    assert handle.hits == 1, "a refusal is not asked for again"
    assert run.told(RowFailed) == list(run.summary.failed)


@TODAY
@pytest.mark.parametrize("where", ["login", "listing", "submission"])
def test_pages_of_the_proxy_are_waited_out(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, where: str
) -> None:
    path = {"login": LOGIN, "listing": LISTING, "submission": SUBMISSION}[where][api]
    fault = sandbox.faults.add("fail_call", path=path, status=[502, 503, 502])
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=api)
    assert_all_well(sandbox, run, 2)
    assert fault.hits == 3
    assert_one_job_each(sandbox, OBS, OTHER)
    assert "<" not in screen(run)


@TODAY
def test_a_submission_without_an_answer_is_looked_for(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    fault = sandbox.faults.add("drop_reply", times=2)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=api)
    assert_all_well(sandbox, run, 2)
    assert fault.hits == 2
    assert_one_job_each(sandbox, OBS, OTHER)


# --- Duplicates ---------------------------------------------------------------------------------------


@TODAY
@pytest.mark.parametrize("status", [200, 400, 409])
@pytest.mark.parametrize("text", [None, "Job already queued or processing."])
def test_what_is_there_already_is_attached_to(
    sandbox: Sandbox, clock: FastClock, api: ApiVersion, status: int, text: str | None
) -> None:
    sandbox.faults.add("duplicate_reply", status=status, text=text)
    with session_with(sandbox, api, clock) as session:
        first = session.submit(JobType.DOWNLOAD, VISIBILITIES)
        second = session.submit(JobType.DOWNLOAD, VISIBILITIES)
    assert (first.existed, second.existed) == (False, True)
    assert first.job_id == second.job_id == sandbox.jobs[0].id
    assert_one_job_each(sandbox, OBS)


@TODAY
@pytest.mark.parametrize("named", [True, False], ids=["named", "not named"])
def test_a_row_attaches_to_a_job_that_was_not_listed_yet(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, named: bool
) -> None:
    job = listed(sandbox, OBS, state=StateThere.READY)
    sandbox.faults.add("missing_job", times=1, obs_id=OBS)
    if not named:
        sandbox.faults.add("duplicate_without_id")
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert_all_well(sandbox, run, 1)
    assert [(event.row.job_id, event.found) for event in run.told(Submitted)] == [(job.id, True)]
    assert len(asked(sandbox, SUBMISSION[api])) == 1
    assert_one_job_each(sandbox, OBS)


@TODAY
def test_a_duplicate_that_is_never_found_is_given_up(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    listed(sandbox, OBS, state=StateThere.READY)
    sandbox.faults.add("missing_job", obs_id=OBS)
    sandbox.faults.add("duplicate_without_id")
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=api)
    assert list(failures(run)) == [1] and "has this job already" in failures(run)[1]
    assert_complete(sandbox, run, 1)
    tries = [r for r in asked(sandbox, SUBMISSION[api]) if str(body_of(r)["obs_id"]) == str(OBS)]
    assert len(tries) == 5


@TODAY
def test_allow_resubmit_makes_a_new_job(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    old = listed(sandbox, OBS, state=StateThere.READY)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, more=", allow_resubmit=true"), api=api)
    assert_all_well(sandbox, run, 1)
    (request,) = asked(sandbox, SUBMISSION[api])
    assert body_of(request)["allow_resubmit"] == ("true" if api is ApiVersion.V1 else True)
    assert [row.row.job_id for row in run.summary.complete] == [sandbox.jobs[-1].id] != [old.id]
    assert_one_job_each(sandbox, OBS, OBS)


def test_an_expired_job_is_made_anew(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    sandbox.faults.add("expire_job", times=1)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=ApiVersion.V1)
    assert_all_well(sandbox, run, 1)
    sent = [body_of(request)["allow_resubmit"] for request in asked(sandbox, SUBMISSION[ApiVersion.V1])]
    assert sent == ["false", "true"], "the service may take the expired job for the same one"
    assert len(notices(run, "Resubmitting")) == 1


@EVERY
def test_a_no_that_comes_with_a_yes_is_told_in_its_own_words(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    """The status is 200, and what is said is that there will be no job."""
    sandbox.faults.add("refuse_submission", status=200, text=f"Observation {OBS} does not exist")
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    said = f"The service gave no job id, but says: Observation {OBS} does not exist."
    assert failures(run) == {1: f"Not submitted: {said}"} and said in notices(run)[0]


@EVERY
def test_a_file_that_is_listed_twice_is_fetched_once(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: ApiVersion
) -> None:
    def twice(document: dict[str, Any]) -> dict[str, Any] | None:
        """List each file of a product twice, with another signature."""
        files = (document.get("product") or {}).get("files") or []
        again = [
            {**file, "url": file["url"] + "&again=1"} if isinstance(file, dict) else file for file in files
        ]
        return {**document, "product": {"files": files + again}} if files else None

    kind = FaultKind("twice", Point.DOCUMENT, frozenset({Call.LIST, Call.JOB}), twice)
    monkeypatch.setitem(KINDS, "twice", kind)
    sandbox.faults.add("twice")
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert_all_well(sandbox, run, 1)
    (complete,) = run.summary.complete
    assert len(complete.files) == 1 and products(tmp_path) == {complete.files[0].path.name}


# --- Listings, and cancelling -------------------------------------------------------------------------


@pytest.mark.parametrize("with_junk", [False, True])
def test_all_pages_are_read(sandbox: Sandbox, clock: FastClock, with_junk: bool) -> None:
    if with_junk:
        sandbox.faults.add("extra_job_rows")
    ids = {listed(sandbox, OBS + number, state=StateThere.QUEUED).id for number in range(1203)}
    with session_with(sandbox, ApiVersion.V2, clock) as session:
        assert set(session.jobs()) == ids
    pages = [request.json for request in asked(sandbox, LISTING[ApiVersion.V2])]
    assert [page["offset"] for page in pages] == [0, 500, 1000]
    assert all(1 <= page["limit"] <= 500 for page in pages)


@TODAY
def test_a_long_listing_is_read(sandbox: Sandbox, clock: FastClock, api: ApiVersion) -> None:
    ids = {listed(sandbox, OBS + number, state=StateThere.QUEUED).id for number in range(1000)}
    with session_with(sandbox, api, clock) as session:
        assert set(session.jobs()) == ids


@TODAY
def test_a_known_job_that_is_too_old_for_the_listing(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    old = listed(sandbox, OBS, created=clock.now() - 40 * DAY, state=StateThere.READY)
    listed(sandbox, OBS + 1, created=clock.now() - 40 * DAY, state=StateThere.READY)
    remember(tmp_path, sandbox, api, vis(OBS), old)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=api)
    assert_all_well(sandbox, run, 2)
    assert run.summary.complete[0].row.job_id == old.id and len(sandbox.jobs) == 3
    singly = {request.path for request in sandbox.requests if request.path.startswith("/api/v2/jobs/")}
    assert singly == (set() if api is ApiVersion.V1 else {f"/api/v2/jobs/{old.id}"})


@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_a_known_job_that_is_not_to_be_had_is_that_rows_error(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, status: int
) -> None:
    old = listed(sandbox, OBS, created=clock.now() - 40 * DAY, state=StateThere.READY)
    remember(tmp_path, sandbox, ApiVersion.V2, vis(OBS), old)
    fault = sandbox.faults.add("fail_call", path=f"/api/v2/jobs/{old.id}", status=status)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=ApiVersion.V2)
    assert failures(run) == {1: "The job is no longer listed by the service."}
    assert_complete(sandbox, run, 1)
    assert fault.hits >= 3


@TODAY
def test_cancelling(sandbox: Sandbox, clock: FastClock, api: ApiVersion) -> None:
    job = listed(sandbox, state=StateThere.QUEUED)
    done = listed(sandbox, OTHER, state=StateThere.READY)
    with session_with(sandbox, api, clock) as session:
        session.cancel(job.id)
        assert session.jobs()[job.id].state is JobState.CANCELLED
        if api is ApiVersion.V2:
            session.cancel(job.id)
        else:
            with pytest.raises(ServiceRefused, match="cannot be cancelled"):
                session.cancel(job.id)
        with pytest.raises(ServiceRefused, match="not found") as error:
            session.cancel(99_999)
        assert error.value.status == 404
        with pytest.raises(ServiceRefused) as error:
            session.cancel(done.id)
        assert error.value.status == 400
        sandbox.faults.add("broken_json", times=1)
        sandbox.service.hold(done.id, StateThere.QUEUED)
        session.cancel(done.id)
        assert session.jobs()[done.id].state is JobState.CANCELLED


@TODAY
def test_cancelling_in_a_session_that_was_lost(sandbox: Sandbox, clock: FastClock, api: ApiVersion) -> None:
    job = listed(sandbox, state=StateThere.QUEUED)
    with session_with(sandbox, api, clock) as session:
        session.login()
        sandbox.service.forget_sessions()
        session.cancel(job.id)
        assert session.jobs()[job.id].state is JobState.CANCELLED
