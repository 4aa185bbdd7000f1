"""Today's interfaces, v1 and v2, from the login to the verified file: the same batch, in other words."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import queue
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote

import pytest
from conftest import (
    LISTING,
    LOGIN,
    SUBMISSION,
    FastClock,
    Run,
    environment,
    longest_file,
    run_batch,
    run_command,
    service_of,
    together,
    wait_until,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mwa_client.asvo import open_session
from mwa_client.asvo.api_client import Submission
from mwa_client.asvo.api_v1 import ApiV1
from mwa_client.asvo.api_v2 import ApiV2
from mwa_client.asvo.http import HttpClient
from mwa_client.asvo.job import Job, JobState
from mwa_client.asvo.product_source import FRESH_LINKS
from mwa_client.asvo.session import Session
from mwa_client.asvo.tokens import LOGINS_A_MINUTE, TokenStore
from mwa_client.asvo.v1_v2 import read_job, read_jobs
from mwa_client.batch.events import Downloading, Notice, RowFailed, StateChanged, Submitted
from mwa_client.batch.ledger import Ledger
from mwa_client.cli.settings import Credentials, Service, services_from
from mwa_client.display.lines import Display
from mwa_client.errors import (
    BadReply,
    ExitStatus,
    LoginRefused,
    ProductGone,
    ServiceMoved,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnreachable,
    SessionLost,
    TransferFailed,
    WrongInterface,
)
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.keys import ApiVersion, JobType
from mwa_client.sandbox import Job as AtService
from mwa_client.sandbox import JobState as StateThere
from mwa_client.sandbox import JobType as TypeThere
from mwa_client.sandbox import LoggedRequest, Sandbox
from mwa_client.timing import LAST_POLL

T = TypeVar("T")

EXAMPLE = Path(__file__).parents[2] / "examples" / "jobs.csv"
OBS = 1191828528
OTHER = 1191828584
VISIBILITIES = {"obs_id": str(OBS), "download_type": "vis"}
DAY = 86400.0

REFRESH = "/api/v2/refresh"

EVERY = pytest.mark.parametrize("api", list(ApiVersion), ids=lambda api: api.value)
TODAY = pytest.mark.parametrize("api", [ApiVersion.V1, ApiVersion.V2], ids=lambda api: api.value)


def vis(*obs_ids: int, more: str = "") -> str:
    """A job file with one visibility download for each observation."""
    return "".join(f"obs_id={obs_id}, job_type=d, download_type=vis{more}\n" for obs_id in obs_ids)


SIX = tuple(range(OBS, OBS + 6))


def listed(sandbox: Sandbox, obs_id: int = OBS, **options: Any) -> AtService:
    """A job that is at the service before the client comes."""
    return sandbox.service.add({**VISIBILITIES, "obs_id": str(obs_id)}, TypeThere.VISIBILITIES, **options)


def session_with(sandbox: Sandbox, api: ApiVersion, clock: FastClock, **options: Any) -> closing[Session]:
    return closing(open_session(service_of(sandbox, api, **options), clock=clock))


def asked(sandbox: Sandbox, path: str) -> list[LoggedRequest]:
    return [request for request in sandbox.requests if request.path == path]


def stored(sandbox: Sandbox) -> list[LoggedRequest]:
    """What the object store was asked, in that order: a reply that the client drops is noted late."""
    return sorted((entry for entry in sandbox.requests if entry.store), key=lambda entry: entry.connection)


def body_of(request: LoggedRequest) -> dict[str, Any]:
    return request.json if request.json is not None else dict(request.form)


def notices(run: Run, word: str) -> list[str]:
    return [event.text for event in run.told(Notice) if word in event.text]


def labels(run: Run, line: int = 1) -> list[str]:
    return [event.label for event in run.told(StateChanged) if event.row.line == line]


def failures(run: Run) -> dict[int, str]:
    return {failed.row.line: failed.error.what for failed in run.summary.failed}


def assert_complete(sandbox: Sandbox, run: Run, rows: int) -> None:
    """So many rows are complete, each with the bytes of its own job."""
    assert len(run.summary.complete) == rows
    for row in run.summary.complete:
        job = sandbox.service.find(row.row.job_id)
        assert job is not None and int(job.obs_id) == row.row.obs_id
        found = [hashlib.sha1(file.path.read_bytes()).hexdigest() for file in row.files]
        assert found == [job.content.sha1]
        assert all(file.verified for file in row.files)


def assert_all_well(sandbox: Sandbox, run: Run, rows: int) -> None:
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert_complete(sandbox, run, rows)


def assert_one_job_each(sandbox: Sandbox, *obs_ids: int) -> None:
    assert sorted(int(job.obs_id) for job in sandbox.jobs) == sorted(obs_ids)


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


# --- Who is told what ---------------------------------------------------------------------------------

HARMLESS = {"host", "user-agent", "accept", "accept-encoding", "connection", "range", "if-range"}


def secrets_of(sandbox: Sandbox) -> set[str]:
    """Everything that must not be seen: the key, every token that there was, every signature."""
    secrets = {"practice-key", *sandbox.service.sessions}
    for request in sandbox.requests:
        cookies = request.headers.get("Cookie") or ""
        secrets |= {cookie.partition("=")[2] for cookie in cookies.split("; ") if cookie}
        if request.headers.get("Authorization"):
            secrets.add(request.headers["Authorization"].split()[-1])
        if "Signature" in request.query:
            secrets |= {request.query["Signature"], quote(request.query["Signature"], safe="")}
    return secrets


def assert_no_secret(sandbox: Sandbox, text: str) -> None:
    secrets = secrets_of(sandbox)
    assert len(secrets) > 2 and all(len(secret) > 8 for secret in secrets)
    assert [secret for secret in secrets if secret in text] == []


def assert_store_was_told_nothing(sandbox: Sandbox) -> None:
    requests = stored(sandbox)
    assert requests
    known = {secret for secret in secrets_of(sandbox) if secret not in _signatures(requests)}
    for request in requests:
        assert {name.lower() for name in request.headers} <= HARMLESS
        said = " ".join([request.path, *request.headers.values(), *request.query.values()])
        assert [secret for secret in known if secret in said] == []
        assert set(request.query) <= {"AWSAccessKeyId", "Signature", "Expires"}
        assert not request.form and request.json is None and request.method == "GET"


def _signatures(requests: list[LoggedRequest]) -> set[str]:
    plain = {request.query["Signature"] for request in requests if "Signature" in request.query}
    return plain | {quote(signature, safe="") for signature in plain}


def screen(run: Run) -> str:
    stream = io.StringIO()
    display = Display(stream, stream, FastClock())
    for event in run.events:
        display(event)
    return stream.getvalue()


COOKIE = {ApiVersion.V1: "MWA_ASVO_SESSION=", ApiVersion.V2: "mwa_access_token="}


@TODAY
@pytest.mark.parametrize("trouble", ["none", "cut", "redirect", "stale", "dead", "to the service"])
def test_no_secret_goes_anywhere_else(
    sandbox: Sandbox,
    clock: FastClock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    api: ApiVersion,
    trouble: str,
) -> None:
    caplog.set_level(logging.DEBUG, logger="mwa_client")
    job = listed(sandbox, OBS, state=StateThere.READY)
    fails = trouble in ("dead", "to the service")
    if trouble == "cut":
        sandbox.faults.add("cut_product", after=[100_000, 50_000])
    elif trouble == "stale":
        sandbox.faults.add("expired_link", times=1)
    elif trouble == "dead":
        sandbox.faults.add("expired_link", obs_id=OBS)
    elif trouble == "redirect":
        with session_with(sandbox, api, clock) as session:
            url = session.jobs()[job.id].product[0].url
        sandbox.faults.add("redirect", url=url, times=1, obs_id=OBS)
    elif trouble == "to the service":
        sandbox.faults.add("redirect", url=f"{sandbox.url}{LISTING[api]}?stolen=1", obs_id=OBS)
    service = service_of(sandbox, api, tokens=tmp_path / "home" / "tokens.json")
    session = open_session(service, clock=clock)
    run = run_batch(sandbox, tmp_path / "out", clock, vis(OBS, OTHER), service=service)
    assert len(run.summary.failed) == fails
    assert_complete(sandbox, run, 2 - fails)
    assert_store_was_told_nothing(sandbox)
    if trouble == "redirect":
        assert len([request for request in stored(sandbox) if request.status == 302]) == 1
    if trouble == "cut":
        assert [request.range for request in stored(sandbox) if request.range] != []
    # The service is told, and nobody sends it on when the object store says so.
    for request in sandbox.requests:
        # On a fast clock a token can run out while the machine is busy; a refresh has a cookie of its own.
        if not request.store and "login" not in request.path and request.path != REFRESH:
            is_ours = request.query.get("stolen") is None
            cookie = request.headers.get("Cookie") or ""
            assert cookie.startswith(COOKIE[api]) if is_ours else cookie == ""
            assert request.headers.get("Authorization") is None
    if trouble == "to the service":
        assert [request for request in sandbox.requests if request.query.get("stolen")]
    # And nothing of it is shown or kept.
    records = [record for record in caplog.records if record.name == "mwa_client.asvo.http"]
    log = "\n".join(record.getMessage() for record in records)
    assert "GET" in log
    memory = (tmp_path / "out" / ".mwa_client" / "ledger.jsonl").read_text()
    for shown in (repr(run.events), screen(run), memory, repr(session), repr(service), log):
        assert_no_secret(sandbox, shown)
    for failed in run.summary.failed:
        assert_no_secret(sandbox, f"{failed.error!r} {failed.error}")
    session.close()


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
    assert notices(run, "outage")[0].endswith("Trying again until it is over.")
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
    assert notices(run, "limit")[0].endswith("The other rows are submitted as jobs finish.")
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
    assert len(notices(run, "anew")) == 1


# --- Exactly once -------------------------------------------------------------------------------------


CONVERSION = {
    ApiVersion.V2018: "timeres=4, freqres=40, edgewidth=80, conversion=ms",
    ApiVersion.V1: "avg_time_res=4, avg_freq_res=40, no_rfi=true",
    ApiVersion.V2: "avg_time_res=4, avg_freq_res=40, no_rfi=true",
}
"""The same kind of row in the words of each interface."""

OF_TODAY = {
    "obs_id": OBS,
    "job_type": "conversion",
    "avg_time_res": "4.0",
    "avg_freq_res": 40,
    "no_rfi": "True",
    "flag_edge_width": 80.0,
    "no_flag_dc": False,
    "output": "ms",
    "centre": "phase",
    "delivery": "acacia",
    "delivery_format": "tar",
    "priority": 1,
    "user_pawsey_group": "mwaops",
}
IN_THE_WEB_PAGES_WORDS: dict[ApiVersion, dict[str, Any]] = {
    ApiVersion.V2018: {
        "obs_id": str(OBS),
        "timeres": "4.0",
        "freqres": 40,
        "edgewidth": "080",
        "conversion": "ms",
        "norfi": "0",
        "calibrate": False,
    },
    ApiVersion.V1: OF_TODAY,
    ApiVersion.V2: {**OF_TODAY, "custom_centre_ra": None, "no_cable_delay": 0},
}
"""What a web page may have submitted for it: other spellings, defaults spelled out, harmless keys."""


def conversion(api: ApiVersion, more: str = "") -> str:
    return f"obs_id={OBS}, job_type=c, {CONVERSION[api]}{more}\n"


@EVERY
@pytest.mark.parametrize("state", [StateThere.QUEUED, StateThere.READY], ids=["queued", "ready"])
def test_a_job_of_the_web_page_is_attached_to(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, state: StateThere
) -> None:
    job = sandbox.service.add(IN_THE_WEB_PAGES_WORDS[api], TypeThere.CONVERSION)
    if state is StateThere.READY:
        sandbox.service.hold(job.id, state)
    run = run_batch(sandbox, tmp_path, clock, conversion(api), api=api)
    assert_all_well(sandbox, run, 1)
    assert [(event.row.job_id, event.found) for event in run.told(Submitted)] == [(job.id, True)]
    assert [other.id for other in sandbox.jobs] == [job.id]


@EVERY
def test_a_job_that_differs_in_one_value_is_not_attached_to(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    word = "timeres" if api is ApiVersion.V2018 else "avg_time_res"
    other = sandbox.service.add({**IN_THE_WEB_PAGES_WORDS[api], word: "8"}, TypeThere.CONVERSION)
    run = run_batch(sandbox, tmp_path, clock, conversion(api), api=api)
    assert_all_well(sandbox, run, 1)
    assert run.summary.complete[0].row.job_id != other.id and len(sandbox.jobs) == 2


@EVERY
def test_two_identical_rows_are_one_job(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    again = conversion(api).replace("=4,", " = 04 ,")
    run = run_batch(sandbox, tmp_path, clock, conversion(api) + vis(OTHER) + again, api=api)
    assert_all_well(sandbox, run, 2)
    assert_one_job_each(sandbox, OBS, OTHER)


@EVERY
def test_a_lost_reply_leads_to_a_listing_and_no_second_job(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    sandbox.faults.add("drop_reply", times=1)
    run = run_batch(sandbox, tmp_path, clock, conversion(api), api=api)
    assert_all_well(sandbox, run, 1)
    submitted = [request for request in sandbox.requests if request.path.endswith("/conversion_job")]
    assert len(submitted) == len(sandbox.jobs) == 1
    later = [request for request in asked(sandbox, LISTING[api]) if request.started > submitted[0].started]
    assert later and [event.found for event in run.told(Submitted)] == [True]


@EVERY
@pytest.mark.parametrize("made", [True, False], ids=["made", "not made"])
@pytest.mark.parametrize("more", ["", ", allow_resubmit=true"], ids=["", "anew"])
def test_a_client_that_died_before_the_reply_finds_its_job(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, made: bool, more: str
) -> None:
    old = listed(sandbox, OTHER, state=StateThere.READY)

    def die(event: object) -> None:
        if isinstance(event, Notice):
            raise KeyboardInterrupt

    if made:
        sandbox.faults.add("drop_reply", times=1)
    else:
        sandbox.faults.add(
            "fail_call", status=503, path=SUBMISSION[api].replace("download_vis", "conversion")
        )
    with pytest.raises(KeyboardInterrupt):
        run_batch(sandbox, tmp_path, clock, conversion(api, more), api=api, listen=die)
    assert len(sandbox.jobs) == 1 + made
    assert '"intent"' in (tmp_path / ".mwa_client" / "ledger.jsonl").read_text()
    sandbox.faults.clear()
    run = run_batch(sandbox, tmp_path, clock, conversion(api, more), api=api)
    assert_all_well(sandbox, run, 1)
    assert [event.found for event in run.told(Submitted)] == [made]
    assert [job.id for job in sandbox.jobs] == [old.id, run.summary.complete[0].row.job_id]


@EVERY
@pytest.mark.parametrize(
    "state", [StateThere.ERROR, StateThere.CANCELLED, None], ids=["error", "cancelled", "expired"]
)
def test_a_listed_job_that_came_to_nothing_is_not_attached_to(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, state: StateThere | None
) -> None:
    # Two, of which the older must not be tried when the newer has turned out to have expired.
    for age in (12, 11):
        listed(sandbox, OBS, state=state, created=clock.now() - age * DAY)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert_all_well(sandbox, run, 1)
    assert_one_job_each(sandbox, OBS, OBS, OBS)
    assert [row.row.job_id for row in run.summary.complete] == [sandbox.jobs[-1].id]


@EVERY
def test_an_own_job_that_has_expired_is_submitted_anew(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    old = listed(sandbox, OBS)
    remember(tmp_path, sandbox, api, vis(OBS), old)
    clock.advance(8 * DAY)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert_all_well(sandbox, run, 1)
    assert len(notices(run, "anew")) == 1
    assert_one_job_each(sandbox, OBS, OBS)


@TODAY
def test_a_job_that_expires_before_its_download_begins_is_submitted_anew(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    old = listed(sandbox, OBS, created=clock.now() - DAY)

    def wait_long(event: object) -> None:
        if isinstance(event, Downloading) and event.row.job_id == old.id:
            clock.advance(7 * DAY)

    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api, listen=wait_long)
    assert_all_well(sandbox, run, 1)
    assert len(notices(run, "anew")) == 1
    assert_one_job_each(sandbox, OBS, OBS)


@EVERY
@pytest.mark.parametrize("state", [StateThere.ERROR, StateThere.CANCELLED], ids=["error", "cancelled"])
def test_an_own_job_that_failed_is_reported_and_submitted_anew_only_if_wanted(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, state: StateThere
) -> None:
    old = listed(sandbox, OBS, state=state)
    remember(tmp_path, sandbox, api, vis(OBS), old)
    for _ in range(2):
        run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=api)
        assert run.summary.exit_status is ExitStatus.JOBS_FAILED and list(failures(run)) == [1]
        assert "--allow-resubmit" in run.summary.failed[0].error.remedy
        assert asked(sandbox, SUBMISSION[api])[1:] == [], "the other row alone was submitted"
        assert_one_job_each(sandbox, OBS, OTHER)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, more=", allow_resubmit=true"), api=api)
    assert_all_well(sandbox, run, 1)
    assert_one_job_each(sandbox, OBS, OBS, OTHER)


# --- Which interface ----------------------------------------------------------------------------------


@pytest.fixture
def deserted() -> str:
    """An address at which nobody listens."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def both(sandbox: Sandbox, **options: Any) -> tuple[Service, Service]:
    return service_of(sandbox, ApiVersion.V2, **options), service_of(sandbox, ApiVersion.V1, **options)


@pytest.mark.parametrize(
    ("apis", "found"),
    [
        (("v1",), ApiVersion.V1),
        (("2018", "v1"), ApiVersion.V1),
        (("v1", "v2"), ApiVersion.V2),
        (("v2",), ApiVersion.V2),
    ],
)
def test_a_key_finds_its_interface(
    clock: FastClock, tmp_path: Path, apis: tuple[str, ...], found: ApiVersion
) -> None:
    with Sandbox(clock=clock.now, apis=apis) as sandbox:
        job = listed(sandbox)
        with closing(open_session(*both(sandbox), clock=clock)) as session:
            assert list(session.jobs()) == [job.id]
            assert session.api is found
            sandbox.service.forget_sessions()
            assert list(session.jobs()) == [job.id]
        tried = [request.path for request in sandbox.requests if "login" in request.path]
    assert tried == ([LOGIN[ApiVersion.V2]] if found is ApiVersion.V1 else []) + [LOGIN[found]] * 2, (
        "it was found out once"
    )


def test_405_means_the_other_interface_too(sandbox: Sandbox, clock: FastClock) -> None:
    sandbox.faults.add("fail_call", path=LOGIN[ApiVersion.V2], status=405)
    with closing(open_session(*both(sandbox), clock=clock)) as session:
        session.login()
        assert session.api is ApiVersion.V1


def test_asking_for_the_interface_is_no_login(clock: FastClock, tmp_path: Path) -> None:
    """A server of v1 counts no logins of v2; many runs in a minute need not wait."""
    with Sandbox(clock=clock.now, apis=("v1",)) as sandbox:
        for _ in range(LOGINS_A_MINUTE + 3):
            with closing(
                open_session(*both(sandbox, tokens=tmp_path / "tokens.json"), clock=clock)
            ) as session:
                session.login()
                assert session.api is ApiVersion.V1


@pytest.mark.parametrize("status", [500, 503])
def test_a_service_in_trouble_is_not_taken_for_another_interface(
    sandbox: Sandbox, clock: FastClock, status: int
) -> None:
    sandbox.faults.add("fail_call", path=LOGIN[ApiVersion.V2], status=status, times=1)
    session = open_session(*both(sandbox), clock=clock)
    with closing(session), pytest.raises(ServiceUnavailable):
        session.login()
        session.login()
        assert session.api is ApiVersion.V2


def of_2018(address: str) -> Service:
    return Service(
        ApiVersion.V2018, address, "practice.example", Credentials("practice", "practice"), is_default=True
    )


def test_where_2018_is_gone_the_user_logs_in_to_v2(sandbox: Sandbox, clock: FastClock, deserted: str) -> None:
    by_user = replace(service_of(sandbox, ApiVersion.V2), credentials=Credentials("practice", "practice"))
    with closing(open_session(of_2018(deserted), by_user, clock=clock)) as session:
        session.login()
        assert session.api is ApiVersion.V2
        assert session.submit(JobType.DOWNLOAD, VISIBILITIES).job_id == sandbox.jobs[0].id
    (login,) = asked(sandbox, "/api/v2/login")
    assert login.json == {"username": "practice", "password": "practice"}


def by_account(sandbox: Sandbox) -> dict[str, str]:
    return {"ASVO_HOST": sandbox.url, "ASVO_USER": "practice", "ASVO_PASS": "practice"}


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_that_knows_no_2018_login_is_asked_for_that_of_v2(
    sandbox: Sandbox, clock: FastClock, status: int
) -> None:
    sandbox.faults.add("fail_call", path=LOGIN[ApiVersion.V2018], status=status)
    with closing(open_session(*services_from(by_account(sandbox)), clock=clock)) as session:
        session.login()
        assert session.api is ApiVersion.V2
    assert [request.path for request in sandbox.requests] == [LOGIN[ApiVersion.V2018], "/api/v2/login"]
    # By hand it is that interface or none.
    by_hand = open_session(*services_from(by_account(sandbox), ApiVersion.V2018), clock=clock)
    with closing(by_hand), pytest.raises(WrongInterface, match="does not speak the 2018 interface") as error:
        by_hand.login()
    assert error.value.status == status and "--api" in error.value.remedy


@pytest.mark.parametrize("status", [401, 500, 503])
def test_a_server_that_knows_2018_is_not_asked_for_v2(
    sandbox: Sandbox, clock: FastClock, status: int
) -> None:
    sandbox.faults.add("fail_call", path=LOGIN[ApiVersion.V2018], status=status)
    session = open_session(*services_from(by_account(sandbox)), clock=clock)
    with closing(session), pytest.raises((LoginRefused, ServiceUnavailable)):
        session.login()
    assert [request.path for request in sandbox.requests] == [LOGIN[ApiVersion.V2018]]


TODAYS_ROW = f"obs_id={OTHER}, job_type=d, download_type=vis, delivery=scratch"


def test_rows_are_judged_by_the_interface_that_answers(tmp_path: Path) -> None:
    row = (f"--job={TODAYS_ROW}", "--dir", tmp_path / "out", "--poll", "0.05", "--submit-only")
    with Sandbox(apis=("v2",)) as sandbox:
        env = environment(sandbox, HOME=str(tmp_path))
        done = run_command(*row, env=env)
        assert done.returncode == 0, done.stderr
        assert [job.delivery for job in sandbox.jobs] == ["scratch"]
        checked = run_command(row[0], "--check", env=env)
        assert checked.returncode == 0, checked.stderr
        by_hand = run_command(*row, "--api", "2018", env=env)
        assert by_hand.returncode == 3 and "the 2018 interface cannot do this" in by_hand.stderr
    with Sandbox() as sandbox:
        done = run_command(*row, env=environment(sandbox, HOME=str(tmp_path)))
        assert done.returncode == 3 and "the 2018 interface cannot do this" in done.stderr
        assert not sandbox.jobs
    with_typo = run_command(f"{row[0]}, fromat=tar", "--check", env=environment())
    assert with_typo.returncode == 3 and "fromat: no such key" in with_typo.stderr
    assert "cannot do this" not in with_typo.stderr, "only what is wrong wherever it is sent"


def test_a_server_of_v1_alone_wants_a_key(clock: FastClock) -> None:
    with Sandbox(clock=clock.now, apis=("v1",)) as sandbox:
        session = open_session(*services_from(by_account(sandbox)), clock=clock)
        with closing(session), pytest.raises(WrongInterface, match="2018 interface") as error:
            session.login()
    assert "MWA_ASVO_API_KEY" in error.value.remedy and error.value.exit_status is ExitStatus.REFUSED


@pytest.mark.parametrize(("first", "then"), [("account", "key"), ("key", "account")])
@pytest.mark.parametrize("todays", ["v1", "v2"])
def test_what_is_complete_is_complete_whichever_interface_is_expected(
    tmp_path: Path, todays: str, first: str, then: str
) -> None:
    speaks = ("v1", "2018") if todays == "v1" else ("v2",)
    with Sandbox(seconds_per_state=0, product_size=lambda job: 3000 + job.id, apis=speaks) as sandbox:
        key = {"MWA_ASVO_HOST": sandbox.url, "MWA_ASVO_API_KEY": "practice-key"}
        ways = {"account": environment(sandbox), "key": {**environment(), **key}}
        options = ("--csv", EXAMPLE, "--dir", tmp_path / "out", "--poll", "0.05")
        done = run_command(*options, env={**ways[first], "HOME": str(tmp_path)})
        assert done.returncode == 0, done.stderr
        assert len(sandbox.jobs) == 3
        sandbox.reset_log()
        again = run_command(*options, env={**ways[then], "HOME": str(tmp_path)})
        assert again.returncode == 0, again.stderr
        assert sandbox.requests == []


def test_where_nobody_is_left_the_key_is_named(clock: FastClock, deserted: str) -> None:
    todays = replace(of_2018(deserted), api=ApiVersion.V2)
    session = open_session(of_2018(deserted), todays, clock=clock)
    with closing(session), pytest.raises(ServiceMoved) as error:
        session.login()
    assert "MWA_ASVO_API_KEY" in error.value.remedy and error.value.exit_status is ExitStatus.REFUSED


def test_todays_service_is_waited_for(clock: FastClock, deserted: str) -> None:
    todays = replace(of_2018(deserted), api=ApiVersion.V2, credentials=Credentials(key="practice-key"))
    session = open_session(todays, replace(todays, api=ApiVersion.V1), clock=clock)
    with closing(session), pytest.raises(ServiceUnreachable):
        session.login()


# --- Credentials --------------------------------------------------------------------------------------


@TODAY
def test_a_wrong_key(sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion) -> None:
    service = service_of(sandbox, api, key="wrong-key-0815")
    with pytest.raises(LoginRefused) as error:
        run_batch(sandbox, tmp_path, clock, service=service)
    assert error.value.exit_status is ExitStatus.REFUSED and "MWA_ASVO_API_KEY" in error.value.remedy
    assert "0815" not in f"{error.value!r} {error.value}"
    assert len(sandbox.requests) == 1, "once, and no other interface"


def test_a_wrong_key_is_not_tried_at_the_next_interface(sandbox: Sandbox, clock: FastClock) -> None:
    session = open_session(*both(sandbox, key="wrong-key-0815"), clock=clock)
    with closing(session), pytest.raises(LoginRefused):
        session.login()
    assert [request.path for request in sandbox.requests] == [LOGIN[ApiVersion.V2]]


def test_a_wrong_key_as_a_command(sandbox: Sandbox, tmp_path: Path) -> None:
    env = environment(MWA_ASVO_HOST=sandbox.url, MWA_ASVO_API_KEY="wrong-key-0815", HOME=str(tmp_path))
    done = run_command("--csv", EXAMPLE, "--dir", tmp_path / "out", "-v", env=env)
    assert done.returncode == 2
    assert "MWA_ASVO_API_KEY" in done.stderr and "0815" not in done.stdout + done.stderr


@TODAY
def test_a_client_that_the_service_does_not_know(sandbox: Sandbox, clock: FastClock, api: ApiVersion) -> None:
    sandbox.faults.add("unknown_client", name="mantaray*")
    with session_with(sandbox, api, clock) as session, pytest.raises(ServiceRefused) as error:
        session.login()
    assert "mantaray-clientv2.0 is not supported" in error.value.what
    assert error.value.exit_status is ExitStatus.REFUSED


@TODAY
@pytest.mark.parametrize("name", ["mantaray-clientv2.0", "giant-squidv2.5.1", "own_client"])
def test_the_service_is_told_the_clients_name(
    sandbox: Sandbox, clock: FastClock, api: ApiVersion, name: str
) -> None:
    service = replace(service_of(sandbox, api), client_name=name)
    with closing(open_session(service, clock=clock)) as session:
        session.login()
    (login,) = asked(sandbox, LOGIN[api])
    if api is ApiVersion.V1:
        told = base64.b64decode(login.headers["Authorization"].split()[1]).decode()
        assert told == f"{name}:practice-key" and not login.form
    else:
        assert login.json == {"login": name, "password": "practice-key"}
        assert login.headers.get("Authorization") is None


# --- The tokens of v2 ---------------------------------------------------------------------------------


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return tmp_path / "home" / ".mwa-asvo" / "tokens.json"


def work(sandbox: Sandbox, clock: FastClock, tokens: Path) -> None:
    """What a short run of the client does."""
    with session_with(sandbox, ApiVersion.V2, clock, tokens=tokens) as session:
        session.jobs()


def test_the_next_run_needs_no_login(sandbox: Sandbox, clock: FastClock, tokens: Path) -> None:
    for _ in range(8):
        work(sandbox, clock, tokens)
    assert sandbox.logins == 1 and asked(sandbox, REFRESH) == []


def test_a_second_process_needs_no_login(tmp_path: Path) -> None:
    with Sandbox(seconds_per_state=0) as sandbox:
        env = environment(
            MWA_ASVO_HOST=sandbox.url, MWA_ASVO_API_KEY="practice-key", HOME=str(tmp_path), PYTHONPATH=""
        )
        for _ in range(2):
            assert run_command("-l", "--api", "v2", env=env).returncode == 0
        assert sandbox.logins == 1
    assert [path.name for path in (tmp_path / ".mwa-asvo").glob("*.lock")] == []


def test_an_old_token_is_refreshed(sandbox: Sandbox, clock: FastClock, tokens: Path) -> None:
    work(sandbox, clock, tokens)
    for times in (1, 2):
        clock.advance(1000)
        work(sandbox, clock, tokens)
        assert (sandbox.logins, len(asked(sandbox, REFRESH))) == (1, times)
    assert {r.status for r in asked(sandbox, LISTING[ApiVersion.V2])} == {200}, "no call was made in vain"
    clock.advance(8 * DAY)
    work(sandbox, clock, tokens)
    assert (sandbox.logins, len(asked(sandbox, REFRESH))) == (2, 2)


@pytest.mark.parametrize("status", [400, 401, 403, 422])
def test_a_refused_refresh_means_a_login(
    sandbox: Sandbox, clock: FastClock, tokens: Path, status: int
) -> None:
    work(sandbox, clock, tokens)
    sandbox.faults.add("refuse_refresh", status=status)
    clock.advance(1000)
    work(sandbox, clock, tokens)
    assert (sandbox.logins, len(asked(sandbox, REFRESH))) == (2, 1)


def test_a_token_that_is_refused_before_its_time(sandbox: Sandbox, clock: FastClock, tokens: Path) -> None:
    work(sandbox, clock, tokens)
    sandbox.faults.add("expire_tokens", times=1)
    work(sandbox, clock, tokens)
    assert (sandbox.logins, len(asked(sandbox, REFRESH))) == (1, 1)
    sandbox.service.forget_sessions()
    work(sandbox, clock, tokens)
    assert (sandbox.logins, len(asked(sandbox, REFRESH))) == (2, 2)


@pytest.mark.parametrize("skip", [0, 1, 5])
def test_tokens_that_expire_meanwhile(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, tokens: Path, skip: int
) -> None:
    fault = sandbox.faults.add("expire_tokens", times=2, skip=skip)
    service = service_of(sandbox, ApiVersion.V2, tokens=tokens)
    run = run_batch(sandbox, tmp_path / "out", clock, vis(*SIX), service=service)
    assert_all_well(sandbox, run, 6)
    assert_one_job_each(sandbox, *SIX)
    assert fault.hits == 2 and sandbox.logins == 1


@TODAY
@pytest.mark.parametrize("skip", [0, 4])
def test_a_session_that_is_lost_meanwhile(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, skip: int
) -> None:
    fault = sandbox.faults.add("expire_session", times=2, skip=skip)
    run = run_batch(sandbox, tmp_path, clock, vis(*SIX), api=api)
    assert_all_well(sandbox, run, 6)
    assert_one_job_each(sandbox, *SIX)
    assert fault.hits == 2 and 2 <= sandbox.logins <= 3


@TODAY
def test_a_session_that_stays_lost_is_an_error(sandbox: Sandbox, clock: FastClock, api: ApiVersion) -> None:
    sandbox.faults.add("expire_session")
    with session_with(sandbox, api, clock) as session, pytest.raises(SessionLost):
        session.jobs()
    assert len(asked(sandbox, LISTING[api])) == 2, "once more after a login, not for ever"


def test_tokens_of_another_server(sandbox: Sandbox, clock: FastClock, tokens: Path) -> None:
    with Sandbox(clock=clock.now) as other:
        work(other, clock, tokens)
    work(sandbox, clock, tokens)
    assert sandbox.logins == 1
    work(sandbox, clock, tokens)
    assert sandbox.logins == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "\x00\x00",
        '{"access_token": 7, "refresh_token": null}',
        '{"access_token": "a", "refresh_token": "b", "access_expires_at": "2099-01-01T00:00:00Z"}',
        '{"access_token": "a\\r\\nX: y", "refresh_token": "b", "access_expires_at": "2099-01-01T00:00:00Z"}',
        '{"access_token": "a", "refresh_token": "b", "refresh_expires_at": "2099-01-01T00:00:00Z"}',
        "[" * 100_000,
    ],
    ids=range(10),
)
def test_a_file_that_makes_no_sense(sandbox: Sandbox, clock: FastClock, tokens: Path, text: str) -> None:
    tokens.parent.mkdir(parents=True)
    tokens.write_text(text)
    for _ in range(2):
        work(sandbox, clock, tokens)
        assert sandbox.logins == 1


def test_a_home_without_room_is_no_obstacle(
    sandbox: Sandbox, clock: FastClock, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mwa_client.asvo.tokens.os.open", full)
    with session_with(sandbox, ApiVersion.V2, clock, tokens=tokens) as session:
        session.jobs()
        clock.advance(1000)
        session.jobs()
    assert (sandbox.logins, len(asked(sandbox, REFRESH))) == (1, 1)


def test_old_tokens_in_a_home_without_room_do_not_keep_us_out(
    sandbox: Sandbox, clock: FastClock, tokens: Path
) -> None:
    work(sandbox, clock, tokens)
    clock.advance(8 * DAY)
    for logins in (2, 3):
        with longest_file(0), session_with(sandbox, ApiVersion.V2, clock, tokens=tokens) as session:
            session.jobs()
            clock.advance(1000)
            session.jobs()
        assert (sandbox.logins, len(asked(sandbox, REFRESH))) == (logins, logins - 1)


def test_tokens_of_another_account_are_not_sent(sandbox: Sandbox, clock: FastClock, tokens: Path) -> None:
    work(sandbox, clock, tokens)
    document = json.loads(tokens.read_text())
    theirs = base64.urlsafe_b64encode(b'{"sub": "8", "exp": 4000000000}').decode().rstrip("=")
    pair = {"access_token": f"a.{theirs}.b", "refresh_token": f"c.{theirs}.d"}
    tokens.write_text(json.dumps({**document, **pair, "user_id": 8, "user_login": "another"}))
    sandbox.reset_log()
    for _ in range(2):
        work(sandbox, clock, tokens)
    assert {request.status for request in sandbox.requests} == {200}
    assert len(asked(sandbox, LOGIN[ApiVersion.V2])) == 1, "and found again beside theirs, which stay"
    assert json.loads(tokens.read_text())["user_id"] == 8


@pytest.mark.parametrize("end", [1e300, -1, "Infinity", 1.8e12])
def test_an_end_that_makes_no_sense_is_not_believed(clock: FastClock, tokens: Path, end: object) -> None:
    payload = base64.urlsafe_b64encode(f'{{"exp": {end}}}'.encode()).decode().rstrip("=")
    store = TokenStore(tokens, "key", clock)
    found = store.save({"access_token": f"a.{payload}.b", "refresh_token": "c"})
    assert found is not None and found.access_until == pytest.approx(clock.now() + 900, abs=1)


class RestingClock(FastClock):
    """A fast clock whose sleepers let other threads work."""

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        time.sleep(0.01)
        super().sleep(seconds / 100, stop)


def test_six_clients_at_once_make_one_login(tokens: Path) -> None:
    clock = RestingClock()
    with Sandbox(clock=clock.now) as sandbox:
        assert together(6, lambda: work(sandbox, clock, tokens)) == []
        assert sandbox.logins == 1
        clock.advance(1000)
        assert together(6, lambda: work(sandbox, clock, tokens)) == []
        assert (sandbox.logins, len(asked(sandbox, REFRESH))) == (1, 1)
    json.loads(tokens.read_text())
    assert not list(tokens.parent.glob("*.new")) and not list(tokens.parent.glob("*.lock"))


@TODAY
def test_the_login_limit_is_waited_out(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    fault = sandbox.faults.add("login_limit", times=2)
    started = clock.monotonic()
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert_all_well(sandbox, run, 1)
    assert fault.hits == 2 and clock.monotonic() - started >= 120
    assert len(notices(run, "until it answers")) == 1


@pytest.mark.parametrize("kept", [True, False], ids=["file", "memory"])
def test_never_more_logins_than_allowed(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, tokens: Path, kept: bool
) -> None:
    fault = sandbox.faults.add("expire_session", times=14)
    service = service_of(sandbox, ApiVersion.V2, tokens=tokens if kept else None)
    run = run_batch(sandbox, tmp_path / "out", clock, vis(OBS, OTHER), service=service)
    assert_all_well(sandbox, run, 2)
    assert fault.hits == 14
    logins = asked(sandbox, LOGIN[ApiVersion.V2])
    assert len(logins) > LOGINS_A_MINUTE and {login.status for login in logins} == {200}
    times = [login.started for login in logins]
    assert all(later - first >= 60 for first, later in zip(times, times[LOGINS_A_MINUTE:]))


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


def remember(directory: Path, sandbox: Sandbox, api: ApiVersion, text: str, *jobs: AtService) -> None:
    """Let the directory know the jobs of an earlier run, which had seen them listed."""
    with closing(Ledger(directory, service_of(sandbox).name)) as ledger:
        for request, job in zip(parse(text, api).jobs, jobs):
            ledger.submitted(request.identity, job.id)
            ledger.changed(request.identity, job.id, "queued")


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


# --- Signed URLs --------------------------------------------------------------------------------------


def part_files(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (directory / ".mwa_client").glob("*.part")}


@TODAY
def test_an_expired_url_is_replaced(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    fault = sandbox.faults.add("expired_link", times=1)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert_all_well(sandbox, run, 1)
    wait_until(lambda: len(stored(sandbox)) >= 2)
    assert fault.hits == 1 and [request.status for request in stored(sandbox)] == [403, 200]
    stale, fresh = stored(sandbox)
    assert stale.query["Signature"] != fresh.query["Signature"]


class PatientClock(FastClock):
    """A fast clock that does not let time pass while the loop can only wait for its workers."""

    def receive(self, inbox: queue.Queue[T], seconds: float, *, is_coming: bool = False) -> T | None:
        if is_coming or seconds < LAST_POLL:
            return super().receive(inbox, seconds, is_coming=is_coming)
        return inbox.get(timeout=20.0)


@TODAY
def test_a_url_that_dies_between_two_stretches_of_a_download(tmp_path: Path, api: ApiVersion) -> None:
    clock = PatientClock()
    with Sandbox(clock=clock.now, link_seconds=1.0, product_size=lambda job: 300_000) as sandbox:
        sandbox.faults.add("cut_product", after=[100_000, 50_000, 0, 0])
        run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
        assert_all_well(sandbox, run, 1)
        good = [request for request in stored(sandbox) if request.status in (200, 206)]
        assert [request.range for request in good] == [None, "bytes=100000-", *["bytes=150000-"] * 3]
        assert 403 in [request.status for request in stored(sandbox)]
        assert len({request.query["Signature"] for request in good}) > 1


@TODAY
def test_a_link_that_stays_dead_is_that_rows_error_and_the_part_is_kept(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    sandbox.faults.add("cut_product", after=100_000, times=1, obs_id=OBS)
    body = "<?xml version='1.0'?><Error><Code>SignatureDoesNotMatch</Code><Message></Message></Error>"
    sandbox.faults.add("product_status", status=403, body=body, skip=1, obs_id=OBS)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=api)
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED and list(failures(run)) == [1]
    assert "SignatureDoesNotMatch" in run.summary.failed[0].error.what
    assert isinstance(run.summary.failed[0].error, TransferFailed)
    assert_complete(sandbox, run, 1)
    assert list(part_files(tmp_path).values()) == [100_000]
    first = [request for request in stored(sandbox) if f"/{OBS}_" in request.path]
    # The old link and a fresh one, some times, and each time a while later.
    assert len(first) == 1 + 2 * (FRESH_LINKS + 1)
    fresh = [request.started for request in first[2::2]]
    assert all(later - earlier >= 1.0 for earlier, later in zip(fresh, fresh[1:]))
    # Another day: what has arrived is continued, from another URL.
    sandbox.faults.clear()
    sandbox.reset_log()
    clock.advance(DAY)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=api)
    assert_all_well(sandbox, run, 2)
    (request,) = stored(sandbox)
    assert (request.range, request.status) == ("bytes=100000-", 206)
    assert request.query["Signature"] != first[0].query["Signature"]
    assert part_files(tmp_path) == {}
    assert_one_job_each(sandbox, OBS, OTHER)


@TODAY
def test_a_product_that_is_gone_is_that_rows_error(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    sandbox.faults.add("product_gone", obs_id=OBS)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=api)
    assert list(failures(run)) == [1] and isinstance(run.summary.failed[0].error, ProductGone)
    assert_complete(sandbox, run, 1)
    assert len([request for request in stored(sandbox) if request.status == 404]) == 1


@TODAY
def test_the_object_store_in_trouble_is_waited_out(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    sandbox.faults.add("product_status", status=[503, 500, 429])
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert_all_well(sandbox, run, 1)
    wait_until(lambda: len(stored(sandbox)) >= 4)
    assert [request.status for request in stored(sandbox)] == [503, 500, 429, 200]


# --- Whatever comes over the wire ---------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["", "http://[", "http://\u2100", "//x/%zz", "\ud800", "7", " 7 ", "completed", "1" * 30]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FILES = st.fixed_dictionaries({}, optional=dict.fromkeys(("type", "url", "path", "size", "sha1"), VALUES))
PRODUCTS = VALUES | st.fixed_dictionaries({"files": VALUES | st.lists(FILES | VALUES, max_size=2)})
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "id": VALUES | st.integers(),
        "job_type": VALUES,
        "job_state": VALUES,
        "job_params": VALUES | st.fixed_dictionaries({"obs_id": VALUES}),
        "error_text": VALUES,
        "product": PRODUCTS,
    },
)
ENTRIES = VALUES | ROWS | st.fixed_dictionaries({"row": ROWS | VALUES})


class Said:
    """An HTTP client to which the service gives one answer, whatever it is asked."""

    def __init__(self, document: object) -> None:
        self.address = "https://practice.example"
        self.cookies: dict[str, str] = {}
        self.received_cookies: dict[str, str] = {}
        self._document = document

    def call(self, *arguments: object, **options: object) -> object:
        return self._document

    def list_entries(self, path: str) -> Iterator[object]:
        if not isinstance(self._document, list):
            raise BadReply("no list")
        yield from self._document


def interfaces(document: object) -> Iterator[ApiV1 | ApiV2]:
    wire = cast(HttpClient, Said(document))
    yield ApiV1(wire, service="x", key="k", client_name="c")
    store = TokenStore(None, "k", FastClock())
    yield ApiV2(wire, service="x", login_path="/l", login_body={}, tokens=store)


@settings(max_examples=150, deadline=None)
@given(row=ROWS)
@example(row={"id": 1, "product": {"files": [{"url": "http://["}]}})
def test_any_row_is_read(row: dict[str, object]) -> None:
    job = read_job(row)
    assert job is None or (isinstance(job, Job) and isinstance(job.label, str))


@settings(max_examples=80, deadline=None)
@given(entries=st.lists(ENTRIES, max_size=4))
def test_any_listing_is_read(entries: list[object]) -> None:
    jobs = list(read_jobs(entries))
    assert len(jobs) <= len(entries)
    for document in (entries, {"jobs": entries}, {"jobs": entries, "total_count": len(entries)}):
        for interface in interfaces(document):
            try:
                found = list(interface.jobs())
            except BadReply:
                continue
            assert {job.job_id for job in found} == {job.job_id for job in jobs}


@settings(max_examples=100, deadline=None)
@given(
    document=VALUES
    | st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("job_id", "error", "error_code", "jobs", "total_count", "access_token", "refresh_token", "user"),
            VALUES,
        ),
    )
)
def test_any_answer_is_understood_or_called_bad(document: object) -> None:
    for interface in interfaces(document):
        try:
            assert isinstance(
                interface.submit(JobType.DOWNLOAD, VISIBILITIES, allow_resubmit=False), Submission
            )
        except BadReply:
            pass
        try:
            assert isinstance(list(interface.jobs(known=[1])), list)
        except BadReply:
            pass
    _, v2 = interfaces(document)
    try:
        v2.login()
    except BadReply:
        pass
