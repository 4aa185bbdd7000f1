"""The session: one login for all, and what the replies of 2018 mean."""

from __future__ import annotations

import json
import socket
import traceback
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from shared import FastClock, asked, service_of, together, wait_until

from mwa_client import __version__
from mwa_client.asvo import open_session
from mwa_client.asvo.api_2018 import Api2018
from mwa_client.asvo.http import HttpClient
from mwa_client.asvo.job import (
    Job,
    JobState,
    ProductFile,
    clean_text,
    read_integer,
    read_sha1,
    read_size,
)
from mwa_client.asvo.service import Credentials, Service
from mwa_client.asvo.session import Session
from mwa_client.errors import (
    BadReply,
    LoginRefused,
    MwaClientError,
    ServiceError,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnreachable,
    SessionLost,
)
from mwa_client.jobs.keys import ApiVersion, JobType
from mwa_client.sandbox import JobState as AtService
from mwa_client.sandbox import Sandbox

LISTING = "/api/get_jobs"
VISIBILITIES = {"obs_id": "1191828584", "download_type": "vis"}
CONVERSION = {**VISIBILITIES, "timeres": "20", "freqres": "40", "edgewidth": "80", "conversion": "ms"}
SHA1 = "12b0933f" * 5


@pytest.fixture
def session(sandbox: Sandbox) -> Iterator[Session]:
    with closing(open_session(service_of(sandbox))) as session:
        yield session


# --- Logging in ---------------------------------------------------------------------------------------


def test_it_logs_in_when_first_needed_and_once(sandbox: Sandbox, session: Session) -> None:
    assert sandbox.requests == []
    assert session.jobs() == {}
    session.login()
    session.jobs()
    paths = [request.path for request in sandbox.requests]
    assert paths == ["/api/login", LISTING, LISTING]
    assert (session.api, session.service) == (ApiVersion.V2018, "practice.example")


def test_each_call_carries_the_cookie_and_a_name(sandbox: Sandbox, session: Session) -> None:
    job_id = session.submit(JobType.DOWNLOAD, VISIBILITIES).job_id
    session.jobs()
    sandbox.service.hold(job_id, AtService.READY)
    file = session.jobs()[job_id].product[0]
    with closing(session.source(job_id, file).get({})) as reply:
        while reply.read(1 << 20):
            pass
    session.cancel(job_id)
    login, *calls = sandbox.requests
    assert len(calls) == 5 and login.headers.get("Cookie") is None
    (token,) = sandbox.service.sessions
    assert {request.headers.get("Cookie") for request in calls} == {f"MWA_JOB_COOKIE={token}"}
    assert {request.headers.get("Authorization") for request in calls} == {None}
    agents = {request.headers.get("User-Agent") for request in sandbox.requests}
    assert agents == {f"mwa_client/{__version__}"}


def test_threads_with_a_lost_session_make_one_login(clock: FastClock) -> None:
    with (
        Sandbox(clock=clock.now, delay=0.05) as sandbox,
        closing(open_session(service_of(sandbox))) as session,
    ):
        assert together(8, session.jobs) == []
        assert len(asked(sandbox, "/api/login")) == 1
        for logins in (2, 3):
            sandbox.service.forget_sessions()
            assert together(8, session.jobs) == []
            assert len(asked(sandbox, "/api/login")) == logins
        refused = [request for request in asked(sandbox, LISTING) if request.status == 401]
        assert len(refused) > 2, "several threads had met the lost session"
        cookies = {request.headers.get("Cookie") for request in asked(sandbox, LISTING)[-8:]}
        assert len(cookies) == 1


def test_a_session_that_stays_lost_is_an_error(sandbox: Sandbox, session: Session) -> None:
    sandbox.faults.add("fail_call", path=LISTING, status=401)
    with pytest.raises(SessionLost):
        session.jobs()
    assert len(asked(sandbox, LISTING)) == 2, "once more after a login, not for ever"


def test_after_a_failed_login_the_next_call_logs_in(sandbox: Sandbox, session: Session) -> None:
    sandbox.faults.add("fail_call", path="/api/login", status=503, retry_after=17, times=1)
    with pytest.raises(ServiceUnavailable) as error:
        session.jobs()
    assert error.value.retry_after == 17
    assert session.jobs() == {}
    # The same where the session is lost on the way.
    sandbox.service.forget_sessions()
    sandbox.faults.add("fail_call", path="/api/login", status=503, times=1)
    with pytest.raises(ServiceUnavailable):
        session.jobs()
    assert session.jobs() == {}


def test_a_login_without_a_session_is_no_login(sandbox: Sandbox, session: Session) -> None:
    sandbox.faults.add("html_reply", path="/api/login", times=1)
    with pytest.raises(BadReply, match="opened no session"):
        session.login()
    session.login()


@pytest.mark.parametrize(("status", "kind"), [(401, LoginRefused), (403, ServiceRefused)])
def test_a_refused_login(sandbox: Sandbox, session: Session, status: int, kind: type[ServiceRefused]) -> None:
    sandbox.faults.add("refuse_login", status=status, text="The account is closed")
    with pytest.raises(kind) as error:
        session.login()
    assert type(error.value) is kind and error.value.status == status


# --- Where nobody answers -----------------------------------------------------------------------------


@pytest.fixture
def deserted() -> str:
    """An address at which nobody listens."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def at(address: str, *, is_default: bool) -> Api2018:
    wire = HttpClient(address, verify=True, timeout=5, stall=5, user_agent="test")
    return Api2018(wire, service="test", user="practice", password="practice", is_default=is_default)


def test_the_address_of_2018_says_that_the_service_has_moved_on(deserted: str) -> None:
    with closing(at(deserted, is_default=True)) as interface, pytest.raises(ServiceRefused) as error:
        interface.login()
    assert "Cannot connect" in error.value.what and "MWA_ASVO_API_KEY" in error.value.remedy


def test_any_other_address_is_waited_for(deserted: str) -> None:
    with closing(at(deserted, is_default=False)) as interface, pytest.raises(ServiceUnreachable):
        interface.login()


def test_an_address_that_has_answered_is_waited_for(sandbox: Sandbox) -> None:
    with closing(at(sandbox.url, is_default=True)) as interface:
        interface.login()
        sandbox.stop()
        with pytest.raises(ServiceUnreachable):
            interface.login()


# --- Submissions --------------------------------------------------------------------------------------


def test_a_submission_is_the_rows_keys_and_values(sandbox: Sandbox, session: Session) -> None:
    first = session.submit(JobType.CONVERSION, CONVERSION).job_id
    second = session.submit(JobType.DOWNLOAD, VISIBILITIES).job_id
    (conversion,) = asked(sandbox, "/api/conversion_job")
    (download,) = asked(sandbox, "/api/download_vis_job")
    assert (conversion.form, download.form) == (CONVERSION, VISIBILITIES)
    assert [job.id for job in sandbox.jobs] == [first, second]


@pytest.mark.parametrize(
    ("body", "job_id"),
    [
        ('{"job_id": 7}', 7),
        ('{"job_id": "7"}', 7),
        ('{"job_id": " 007 "}', 7),
        ('{"job_id": 7.0, "more": [1]}', 7),
        ('{"job_id": null}', None),
        ('{"job_id": true}', None),
        ('{"job_id": "x7"}', None),
        ('{"job_id": 7.5}', None),
        ('{"job_id": [7]}', None),
        ("{}", None),
        ("[]", None),
        ("7", None),
        ("null", None),
        ("", None),
        ("{", None),
        ("<html>Welcome</html>", None),
        ("[" * 100_000, None),
    ],
)
def test_the_reply_to_a_submission(sandbox: Sandbox, session: Session, body: str, job_id: int | None) -> None:
    sandbox.faults.add("fail_call", path="/api/download_vis_job", status=200, body=body)
    if job_id is not None:
        assert session.submit(JobType.DOWNLOAD, VISIBILITIES).job_id == job_id
        return
    with pytest.raises(BadReply):
        session.submit(JobType.DOWNLOAD, VISIBILITIES)


@pytest.mark.parametrize("status", [400, 404, 409, 422])
@pytest.mark.parametrize(
    "body",
    [
        "Observation 1 does not exist",
        '"Observation 1 does not exist"',
        '{"error": "Observation 1 does not exist", "error_code": 0}',
        '{"error": null, "message": " Observation 1\\n does not exist "}',
        "<html><head><title>x</title></head><p>Observation 1 <b>does not exist</b></p></html>",
    ],
)
def test_a_refusal_is_told_in_the_services_words(
    sandbox: Sandbox, session: Session, status: int, body: str
) -> None:
    sandbox.faults.add("fail_call", path="/api/download_vis_job", status=status, body=body)
    with pytest.raises(ServiceRefused) as error:
        session.submit(JobType.DOWNLOAD, VISIBILITIES)
    assert error.value.what == "The service refused: Observation 1 does not exist"
    assert error.value.status == status


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_not_a_refusal(sandbox: Sandbox, session: Session, status: int) -> None:
    sandbox.faults.add("fail_call", path="/api/download_vis_job", status=status, retry_after=3)
    with pytest.raises(ServiceUnavailable) as error:
        session.submit(JobType.DOWNLOAD, VISIBILITIES)
    assert error.value.retry_after == 3


# --- Cancelling ---------------------------------------------------------------------------------------


def test_cancelling(sandbox: Sandbox, session: Session) -> None:
    job = sandbox.service.add(VISIBILITIES, state=AtService.QUEUED)
    session.cancel(job.id)
    assert session.jobs()[job.id].state is JobState.CANCELLED
    assert [request.method for request in asked(sandbox, "/api/cancel_job")] == ["GET"]
    with pytest.raises(ServiceRefused, match="cannot be cancelled"):
        session.cancel(job.id)
    with pytest.raises(ServiceRefused, match="No such job"):
        session.cancel(job.id + 1)


def test_the_status_decides_whether_a_job_is_cancelled(sandbox: Sandbox, session: Session) -> None:
    job = sandbox.service.add(VISIBILITIES, state=AtService.QUEUED)
    sandbox.faults.add("broken_json", path="/api/cancel_job")
    session.cancel(job.id)
    assert session.jobs()[job.id].state is JobState.CANCELLED


# --- Products -----------------------------------------------------------------------------------------


def test_a_product_is_asked_for_again_where_the_session_was_lost(sandbox: Sandbox, session: Session) -> None:
    job = sandbox.service.add(VISIBILITIES, state=AtService.READY, size=1000)
    source = session.source(job.id, session.jobs()[job.id].product[0])
    sandbox.service.forget_sessions()
    with closing(source.get({"Range": "bytes=990-"})) as reply:
        assert (reply.status, reply.headers["content-range"]) == (206, "bytes 990-999/1000")
        assert reply.read(100) == b"".join(job.content.pieces(990))
    # A reply that the client drops is noted late.
    wait_until(lambda: len(asked(sandbox, "/api/download")) >= 2)
    assert sorted(request.status or 0 for request in asked(sandbox, "/api/download")) == [206, 401]


def test_what_a_product_answers_is_left_to_the_transfer(sandbox: Sandbox, session: Session) -> None:
    reply = session.open_product(1, ProductFile("no such file"), {})
    assert reply.status == 404
    reply.close()
    reply.close()


# --- The listing --------------------------------------------------------------------------------------


def read_listing(sandbox: Sandbox, session: Session, document: Any) -> dict[int, Job]:
    body = document if isinstance(document, str) else json.dumps(document)
    fault = sandbox.faults.add("fail_call", path=LISTING, status=200, body=body)
    try:
        return session.jobs()
    finally:
        sandbox.faults.remove(fault)


def read_row(sandbox: Sandbox, session: Session, **fields: Any) -> Job:
    row = {"id": 5, "job_type": 1, "job_state": 0, "job_params": VISIBILITIES, **fields}
    return read_listing(sandbox, session, [{"action": "INSERT", "table": "jobs", "row": row}])[5]


def test_a_row_as_it_was_recorded(sandbox: Sandbox, session: Session) -> None:
    row = {
        "id": 12345,
        "job_type": 0,
        "job_state": 2,
        "user_id": 7,
        "job_params": {"obs_id": "1191828584", "timeres": "20"},
        "error_text": None,
        "product": {"files": [["1191828584_ms.zip", 9563217, SHA1.upper()]]},
    }
    job = read_listing(sandbox, session, [{"action": "INSERT", "table": "jobs", "row": row}])[12345]
    assert (job.job_id, job.obs_id, job.job_type) == (12345, 1191828584, JobType.CONVERSION)
    assert job.state is JobState.READY and job.state.is_ready and not job.state.is_pending
    assert job.label == "Ready for Download" and job.state_word == "state 2"
    assert dict(job.parameters) == row["job_params"] and job.error_text == ""
    assert job.product == (ProductFile("1191828584_ms.zip", 9563217, SHA1),)


@pytest.mark.parametrize(
    "document", ["null", "{}", '{"jobs": []}', '"[]"', "7", "", "[", "<html></html>", "[" * 100_000]
)
def test_what_is_not_a_list_is_no_listing(sandbox: Sandbox, session: Session, document: str) -> None:
    with pytest.raises(BadReply):
        read_listing(sandbox, session, document)
    assert session.jobs() == {}


def test_entries_that_make_no_sense_are_passed_over(sandbox: Sandbox, session: Session) -> None:
    junk: list[Any] = [
        None, 7, "job", [], [[]], {}, {"row": None}, {"row": []}, {"row": {}}, {"row": {"id": None}},
        {"row": {"id": "five"}}, {"row": {"id": True}}, {"row": {"id": [5]}}, {"row": {"id": 5.5}},
        {"row": {"id": "\u0665"}},
    ]  # fmt: skip
    good: list[Any] = [{"row": {"id": 8}}, {"id": "9"}]
    jobs = read_listing(sandbox, session, [*junk, *good])
    assert sorted(jobs) == [8, 9]
    bare = jobs[8]
    assert bare.state is JobState.UNKNOWN and bare.label == "Unknown state" and bare.state.is_pending
    assert (bare.obs_id, bare.job_type, dict(bare.parameters), bare.product) == (None, None, {}, ())


@pytest.mark.parametrize(
    ("given", "state", "label"),
    [
        (0, JobState.QUEUED, "Queued"),
        ("0", JobState.QUEUED, "Queued"),
        (1, JobState.PROCESSING, "Processing"),
        (2, JobState.READY, "Ready for Download"),
        (3, JobState.ERROR, "Error"),
        (4, JobState.EXPIRED, "Expired"),
        ("5", JobState.CANCELLED, "Cancelled"),
        (9, JobState.UNKNOWN, "State 9"),
        (-1, JobState.UNKNOWN, "State -1"),
        ("preparing", JobState.UNKNOWN, "State preparing"),
        (None, JobState.UNKNOWN, "Unknown state"),
        (True, JobState.UNKNOWN, "State true"),
        ("\x1b[2J", JobState.UNKNOWN, "State [2j"),
        ("s" * 500, JobState.UNKNOWN, None),
        ([1], JobState.UNKNOWN, None),
    ],
)
def test_states(sandbox: Sandbox, session: Session, given: Any, state: JobState, label: str | None) -> None:
    job = read_row(sandbox, session, job_state=given)
    assert job.state is state
    assert job.label == label or (label is None and len(job.label) <= 40 and job.label.isprintable())
    assert [job.state.is_ready, job.state.is_lost, job.state.is_pending].count(True) == 1


@pytest.mark.parametrize(
    ("given", "job_type"),
    [
        (0, JobType.CONVERSION),
        (1, JobType.DOWNLOAD),
        ("2", JobType.DOWNLOAD),
        (4, None),
        ("x", None),
        (None, None),
    ],
)
def test_job_types(sandbox: Sandbox, session: Session, given: Any, job_type: JobType | None) -> None:
    assert read_row(sandbox, session, job_type=given).job_type is job_type


@pytest.mark.parametrize(
    ("product", "files"),
    [
        (None, ()),
        ({}, ()),
        ([], ()),
        ({"files": None}, ()),
        ({"files": "a.zip"}, ()),
        ({"files": []}, ()),
        ({"files": [["a.zip", 5]]}, (ProductFile("a.zip", 5),)),
        ({"files": [["a.zip", "5", SHA1]]}, (ProductFile("a.zip", 5, SHA1),)),
        ({"files": [["a.zip", None, None]]}, (ProductFile("a.zip"),)),
        ({"files": [["a.zip", -5, "abc"]]}, (ProductFile("a.zip"),)),
        ({"files": [["a.zip", 5, f" {SHA1.upper()} ", "more"]]}, (ProductFile("a.zip", 5, SHA1),)),
        ({"files": [["a", 1], ["b", 2]]}, (ProductFile("a", 1), ProductFile("b", 2))),
    ],
)
def test_products(sandbox: Sandbox, session: Session, product: Any, files: tuple[ProductFile, ...]) -> None:
    assert read_row(sandbox, session, job_state=2, product=product).product == files


@pytest.mark.parametrize(
    ("given", "text"),
    [(None, ""), ("", ""), ("No\n room\x00", "No room"), (17, "17"), ("e" * 400, "e" * 299 + "…")],
)
def test_error_texts(sandbox: Sandbox, session: Session, given: Any, text: str) -> None:
    assert read_row(sandbox, session, job_state=3, error_text=given).error_text == text


@pytest.mark.parametrize("params", [None, [], "x", {"obs_id": None}, {"obs_id": {}}, {"obs_id": "x"}])
def test_parameters_that_make_no_sense(sandbox: Sandbox, session: Session, params: Any) -> None:
    assert read_row(sandbox, session, job_params=params).obs_id is None


def test_numbers_come_in_many_forms() -> None:
    assert [read_integer(value) for value in (7, "7", " 7 ", 7.0, -7)] == [7, 7, 7, 7, -7]
    wrong: tuple[object, ...] = (
        True,
        "",
        "-7",
        "7.0",
        "\u0667",
        "1" * 20,
        7.5,
        float("nan"),
        float("inf"),
        None,
        [],
        {},
    )
    assert [read_integer(value) for value in wrong] == [None] * len(wrong)
    assert [read_size(value) for value in (0, "12", -1, None)] == [0, 12, None, None]
    assert [read_sha1(value) for value in (SHA1, SHA1[:-1], SHA1 + "0", "g" * 40, 7, None)] == [SHA1] + [
        None
    ] * 5
    assert clean_text(" a\t\u200bb\u2028c ") == "a b c" and clean_text("äöü", 2) == "ä…"


# --- Credentials --------------------------------------------------------------------------------------

PASSWORD = "correct-horse-battery"


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/api/login", {"status": 401}),
        ("/api/login", {"status": 403}),
        ("/api/login", {"status": 500}),
        ("/api/login", {"status": 200, "body": "hello"}),
        ("/api/login", {"status": 302}),
        (LISTING, {"status": 401}),
        (LISTING, {"status": 404}),
        (LISTING, {"status": 502}),
        (LISTING, {"status": 200, "body": "{"}),
    ],
)
def test_no_error_holds_a_credential(clock: FastClock, path: str, options: dict[str, Any]) -> None:
    with Sandbox(clock=clock.now, password=PASSWORD) as sandbox:
        service = service_of(sandbox, password=PASSWORD)
        sandbox.faults.add("fail_call", path=path, **options)
        with closing(open_session(service)) as session, pytest.raises(ServiceError) as error:
            session.jobs()
        secrets = [PASSWORD, "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5", *sandbox.service.sessions]
    texts = [repr(error.value), str(error.value), repr(service), repr(session), repr(vars(session))]
    texts += traceback.format_exception(error.type, error.value, error.tb)
    assert not any(secret in text for secret in secrets for text in texts)
    assert "practice" in repr(service.credentials)


def test_no_error_of_the_network_holds_a_credential(deserted: str) -> None:
    service = Service(
        ApiVersion.V2018, deserted, "x", Credentials("me", PASSWORD), call_timeout=5, stall_timeout=5
    )
    with closing(open_session(service)) as session, pytest.raises(MwaClientError) as error:
        session.login()
    shown = "".join(traceback.format_exception(error.type, error.value, error.tb)) + repr(error.value)
    assert PASSWORD not in shown and "Cannot connect" in shown
