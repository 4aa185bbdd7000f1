"""One call over HTTP: what comes back, what does not leave, and which error says what went wrong."""

from __future__ import annotations

import email.utils
import gc
import os
import socket
import ssl
import sys
import threading
import time
import traceback
import weakref
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
import urllib3
from shared import FastClock, wait_until

from mwa_client.asvo import http as http_module
from mwa_client.asvo import limits, stream
from mwa_client.asvo.http import HttpClient
from mwa_client.asvo.stream import StreamedResponse
from mwa_client.errors import (
    BadReply,
    MwaClientError,
    ServiceError,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnreachable,
    SessionLost,
    SettingsError,
)
from mwa_client.sandbox import Job, JobState, Sandbox
from mwa_client.timing import retry_after

SECRET = "s3cr3t"
ACCOUNT = ("practice", SECRET)
LISTING = "/api/get_jobs"
SIZE = 100_000
HAS_READ1 = hasattr(urllib3.HTTPResponse, "read1")
NOWHERE = "127.0.0.1:9"
"""An address that no test connects to."""


def wire_to(
    address: str, *, verify: bool | str = True, timeout: float = 5.0, stall: float = 5.0
) -> HttpClient:
    return HttpClient(address, verify=verify, timeout=timeout, stall=stall, user_agent="mwa_client/test")


@pytest.fixture
def sandbox(clock: FastClock) -> Iterator[Sandbox]:
    with Sandbox(clock=clock.now, password=SECRET, product_size=lambda job: SIZE) as sandbox:
        yield sandbox


@pytest.fixture
def wire(sandbox: Sandbox) -> Iterator[HttpClient]:
    """A wire to the sandbox, logged in."""
    with closing(wire_to(sandbox.url)) as wire:
        wire.login("/api/login", ACCOUNT)
        yield wire


@pytest.fixture
def job(sandbox: Sandbox) -> Job:
    return sandbox.service.add({"obs_id": "1191828584"}, state=JobState.READY)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.lower().endswith("_proxy") or name.endswith("_CA_BUNDLE") or name == "NETRC":
            monkeypatch.delenv(name)


def open_product(wire: HttpClient, job: Job) -> StreamedResponse:
    query = {"file_name": job.file_name, "job_id": str(job.id)}
    return wire.open_path("/api/download", query=query, headers={"Accept-Encoding": "identity"})


def content_of(job: Job) -> bytes:
    return b"".join(job.content.pieces())


def read_all(reply: StreamedResponse) -> bytes:
    data = b""
    while True:
        piece = reply.read(1 << 20)
        if not piece:
            return data
        data += piece


class RawServer:
    """Answers each connection with the next of these bytes, as they are, and hangs up."""

    def __init__(self, *answers: bytes, hang_up: bool = True) -> None:
        self.connections: list[socket.socket] = []
        self._answers = answers
        self._hang_up = hang_up
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> RawServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.join(5)
        for connection in [self._socket, *self.connections]:
            connection.close()

    def _serve(self) -> None:
        for answer in self._answers:
            connection, _ = self._socket.accept()
            self.connections.append(connection)
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(1 << 16)
            connection.sendall(answer)
            if self._hang_up:
                connection.close()


def answer(head: str, body: bytes = b"") -> bytes:
    return head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body


@contextmanager
def fails(kind: type[MwaClientError], match: str = ".") -> Iterator[list[MwaClientError]]:
    """Expect exactly this kind of error, one that tells nothing that is secret."""
    errors: list[MwaClientError] = []
    with pytest.raises(MwaClientError, match=match) as caught:
        yield errors
    error = caught.value
    errors.append(error)
    assert type(error) is kind
    for words in (str(error), repr(error), "".join(traceback.format_exception(None, error, None))):
        for secret in (SECRET, "MWA_JOB_COOKIE", b64encode(f"practice:{SECRET}".encode()).decode()):
            assert secret not in words
        # Nor what the libraries say: their messages hold whole URLs.
        assert "urllib3" not in words
        assert "HTTPConnectionPool" not in words
    assert error.__suppress_context__ or error.__context__ is None
    assert error.__cause__ is None


# --- Login, calls, cookies ---------------------------------------------------------------------------


def test_login_opens_the_door(sandbox: Sandbox) -> None:
    with closing(wire_to(sandbox.url)) as wire:
        with fails(SessionLost):
            wire.call("GET", LISTING)
        wire.login("/api/login", ACCOUNT)
        assert wire.call("GET", LISTING) == []
    before, login, after = sandbox.requests
    assert before.headers["Cookie"] is None
    assert login.headers["Authorization"] == "Basic " + b64encode(f"practice:{SECRET}".encode()).decode()
    assert after.headers["Cookie"].startswith("MWA_JOB_COOKIE=")
    assert after.headers["Authorization"] is None
    assert {entry.headers["User-Agent"] for entry in sandbox.requests} == {"mwa_client/test"}


def test_a_form_and_its_answer(wire: HttpClient, sandbox: Sandbox) -> None:
    form = {"obs_id": "1191828584", "download_type": "vis"}
    reply = wire.call("POST", "/api/download_vis_job", form=form)
    assert reply == {"job_id": sandbox.jobs[0].id}
    assert sandbox.requests[-1].form == form


def test_a_query(wire: HttpClient, sandbox: Sandbox, job: Job) -> None:
    sandbox.service.release(job.id)
    assert wire.call("GET", "/api/cancel_job", query={"job_id": str(job.id)}) == {"job_id": job.id}


def test_one_login_serves_all_threads(wire: HttpClient, sandbox: Sandbox) -> None:
    listings: list[Any] = []
    threads = [threading.Thread(target=lambda: listings.append(wire.call("GET", LISTING))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert listings == [[]] * 4
    assert len({entry.connection for entry in sandbox.requests}) <= 4


def test_close_ends_all_connections() -> None:
    reply = answer("HTTP/1.1 200 OK\nContent-Length: 2", b"[]")
    with RawServer(reply, reply, hang_up=False) as server:
        wire = wire_to(server.url)
        download = wire.open_path("/api/download", query={}, headers={})
        wire.call("GET", LISTING)
        download.read(2)
        assert [is_open(connection) for connection in server.connections] == [True, True]
        wire.close()
        assert [is_open(connection) for connection in server.connections] == [False, False]


def test_nothing_stays_open_because_somebody_keeps_an_error(sandbox: Sandbox) -> None:
    with closing(wire_to(sandbox.url)) as wire:
        with fails(SessionLost) as errors:
            wire.call("GET", LISTING)
        (sock,) = wire._sockets._sockets
    assert errors and sock.fileno() == -1


def test_no_thread_keeps_a_connection_that_another_could_use(
    wire: HttpClient, sandbox: Sandbox, job: Job
) -> None:
    def fetch() -> None:
        reply = open_product(wire, job)
        read_all(reply)
        reply.close()

    for work in (fetch, lambda: wire.call("GET", LISTING), fetch):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert {entry.connection for entry in sandbox.requests} == {1}


def test_connections_that_were_closed_to_spare_descriptors_are_forgotten(
    wire: HttpClient, sandbox: Sandbox
) -> None:
    for _ in range(5):
        wire.call("GET", LISTING)
        (session,) = map(weakref.ref, wire._sessions._sessions)
        wire.close_idle()
        gc.collect()
        assert session() is None
    wire.call("GET", LISTING)
    assert {entry.connection for entry in sandbox.requests} == {1, 2, 3, 4, 5, 6}


def is_open(connection: socket.socket) -> bool:
    """Say whether the other side has not hung up."""
    connection.settimeout(0.05)
    try:
        return connection.recv(1) != b""
    except socket.timeout:
        return True


def test_the_next_call_goes_by_the_same_connection(wire: HttpClient, sandbox: Sandbox, job: Job) -> None:
    wire.call("GET", LISTING)
    for _ in range(2):
        reply = open_product(wire, job)
        assert read_all(reply) == content_of(job)
        # Another read at the end has nothing to wait for.
        assert reply.read(1) == b""
        reply.close()
    wire.call("GET", LISTING)
    assert {entry.connection for entry in sandbox.requests} == {1}


def test_a_login_without_a_session_is_a_bad_reply() -> None:
    head = "HTTP/1.1 200 OK\nContent-Length: 2\nConnection: close"
    with RawServer(answer(head, b"OK")) as server, closing(wire_to(server.url)) as wire:  # noqa: SIM117
        with fails(BadReply, "opened no session"):
            wire.login("/api/login", ACCOUNT)


def test_a_login_that_is_refused(sandbox: Sandbox) -> None:
    with closing(wire_to(sandbox.url)) as wire, fails(SessionLost, "Wrong user name or password") as errors:
        wire.login("/api/login", ("practice", "wrong"))
    assert isinstance(errors[0], ServiceRefused)
    assert errors[0].status == 401


@pytest.mark.parametrize("password", ["pässwörd", "пароль", "密码🔑", "a:b c%2F?&=", "\udcff\udcfe"])
def test_any_password_can_be_sent(clock: FastClock, password: str) -> None:
    with Sandbox(clock=clock.now, user="jürgen", password=password) as sandbox:
        with closing(wire_to(sandbox.url)) as wire:
            if password.isprintable():
                wire.login("/api/login", ("jürgen", password))
                assert wire.call("GET", LISTING) == []
            else:
                # Bytes that are no UTF-8, as the environment gives them: they arrive as they are.
                with pytest.raises(SessionLost):
                    wire.login("/api/login", ("jürgen", password))
        (sent,) = {entry.headers["Authorization"] for entry in sandbox.requests} - {None}
    assert sent == "Basic " + b64encode(f"jürgen:{password}".encode("utf-8", "surrogateescape")).decode()


def test_a_password_from_netrc_is_not_sent(
    sandbox: Sandbox, wire: HttpClient, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert requests.utils.get_netrc_auth(sandbox.url) == ("somebody", "else")
    sandbox.reset_log()
    wire.call("GET", LISTING)
    open_product(wire, job).close()
    wire.login("/api/login", ACCOUNT)
    wait_until(lambda: len(sandbox.requests) == 3)
    sent = {entry.path: entry.headers["Authorization"] for entry in sandbox.requests}
    assert sent == {
        LISTING: None,
        "/api/download": None,
        "/api/login": "Basic " + b64encode(f"practice:{SECRET}".encode()).decode(),
    }


def test_proxies_are_taken_from_the_environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", sandbox.url)
    with closing(wire_to("http://asvo.example:8778")) as wire:
        wire.login("/api/login", ACCOUNT)
        assert wire.call("GET", LISTING) == []
    assert {entry.headers["Host"] for entry in sandbox.requests} == {"asvo.example:8778"}


def test_nothing_of_it_is_shown(wire: HttpClient) -> None:
    cookie = wire.cookies["MWA_JOB_COOKIE"]
    assert cookie not in repr(wire)
    assert SECRET not in repr(vars(wire))


# --- Other hosts -------------------------------------------------------------------------------------


def test_a_redirect_to_another_origin_carries_no_cookie(
    wire: HttpClient, sandbox: Sandbox, clock: FastClock, job: Job
) -> None:
    # The same host name and another port is what a cookie jar takes for the same.
    with Sandbox(clock=clock.now) as other:
        sandbox.faults.add("redirect", url=f"{other.url}/api/download?job_id=1&Signature={SECRET}")
        reply = open_product(wire, job)
        assert (reply.status, read_all(reply)) == (401, b'{"error": "Not logged in"}')
        (received,) = other.requests
    assert received.query == {"job_id": "1", "Signature": SECRET}
    assert received.headers["Cookie"] is None
    assert received.headers["Authorization"] is None
    assert received.headers["User-Agent"] == "mwa_client/test"
    assert received.headers["Accept-Encoding"] == "identity"
    # The first request, to the service itself, had it.
    assert sandbox.requests[-1].headers["Cookie"].startswith("MWA_JOB_COOKIE=")


def test_a_redirect_within_the_service_carries_the_cookie(
    wire: HttpClient, sandbox: Sandbox, job: Job
) -> None:
    query = f"file_name={job.file_name}&job_id={job.id}"
    sandbox.faults.add("redirect", url=f"/api/download?{query}", times=1)
    reply = open_product(wire, job)
    assert (reply.status, read_all(reply)) == (200, content_of(job))
    assert len({entry.headers["Cookie"] for entry in sandbox.requests if entry.path != "/api/login"}) == 1


def test_what_another_host_sets_is_not_kept(wire: HttpClient, sandbox: Sandbox, job: Job) -> None:
    ours = wire.cookies
    head = "HTTP/1.1 200 OK\nSet-Cookie: MWA_JOB_COOKIE=theirs; Path=/\nContent-Length: 2\nConnection: close"
    with RawServer(answer(head, b"OK")) as server:
        sandbox.faults.add("redirect", url=server.url, times=1)
        assert read_all(open_product(wire, job)) == b"OK"
    assert wire.cookies == ours
    assert wire.call("GET", LISTING) != []
    assert "theirs" not in sandbox.requests[-1].headers["Cookie"]


def test_elsewhere_is_told_nothing_even_at_the_same_address(
    wire: HttpClient, sandbox: Sandbox, job: Job
) -> None:
    reply = wire.open_url(f"{sandbox.url}/api/download?job_id={job.id}&Signature={SECRET}", {})
    assert (reply.status, read_all(reply)) == (401, b'{"error": "Not logged in"}')
    assert sandbox.requests[-1].headers["Cookie"] is None


def test_redirects_in_a_circle(wire: HttpClient, sandbox: Sandbox, job: Job) -> None:
    fault = sandbox.faults.add("redirect", url="/api/download")
    with fails(BadReply, "loop"):
        open_product(wire, job)
    assert fault.hits == http_module.MOST_REDIRECTS + 1


@pytest.mark.parametrize(
    "url", ["http://[", "http://h:99999/", "ftp://h/", "file:///etc/passwd", "/x", "", "http://"]
)
def test_an_address_that_is_none(url: str) -> None:
    with closing(wire_to(f"http://{NOWHERE}")) as wire, fails(ServiceRefused, "not an address"):
        wire.open_url(url, {})


def test_a_call_does_not_follow_redirects(wire: HttpClient, sandbox: Sandbox, clock: FastClock) -> None:
    with Sandbox(clock=clock.now) as other:
        sandbox.faults.add("redirect", url=f"{other.url}/?{SECRET}", path=LISTING)
        with fails(BadReply, "is it the right one"):
            wire.call("GET", LISTING)
        assert other.requests == []


# --- Refusals and outages ----------------------------------------------------------------------------

KINDS: dict[int, type[ServiceError]] = {
    300: BadReply,
    302: BadReply,
    304: BadReply,
    400: ServiceRefused,
    401: SessionLost,
    403: ServiceRefused,
    404: ServiceRefused,
    405: ServiceRefused,
    408: ServiceUnavailable,
    409: ServiceRefused,
    422: ServiceRefused,
    425: ServiceUnavailable,
    429: ServiceUnavailable,
    500: ServiceUnavailable,
    502: ServiceUnavailable,
    503: ServiceUnavailable,
    504: ServiceUnavailable,
    599: ServiceUnavailable,
}


@pytest.mark.parametrize("status", KINDS)
def test_each_status_has_its_error(wire: HttpClient, sandbox: Sandbox, status: int) -> None:
    sandbox.faults.add("fail_call", status=status, body="No calibration today")
    with fails(KINDS[status]) as errors:
        wire.call("GET", LISTING)
    if KINDS[status] is not BadReply:
        assert "No calibration today" in errors[0].what
    if isinstance(errors[0], ServiceRefused):
        assert errors[0].status == status


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds(wire: HttpClient, sandbox: Sandbox, status: int) -> None:
    sandbox.faults.add("fail_call", status=status, retry_after=77)
    with fails(ServiceUnavailable) as errors:
        wire.call("GET", LISTING)
    assert isinstance(errors[0], ServiceUnavailable)
    assert errors[0].retry_after == 77


def test_retry_after_as_a_date(wire: HttpClient, sandbox: Sandbox) -> None:
    date = email.utils.formatdate(time.time() + 77, usegmt=True)
    sandbox.faults.add("fail_call", status=503, retry_after=date)
    with fails(ServiceUnavailable) as errors:
        wire.call("GET", LISTING)
    assert isinstance(errors[0], ServiceUnavailable)
    assert errors[0].retry_after == pytest.approx(77, abs=5)


def test_retry_after_as_a_date_of_an_old_kind_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Australia/Perth")
    time.tzset()
    try:
        date = "Sun, 06 Nov 1994 08:48:37 GMT"
        for later in ("Sun Nov  6 08:49:37 1994", "Sunday, 06-Nov-94 08:49:37 GMT", date.replace("48", "49")):
            assert retry_after({"Retry-After": later, "Date": date}) == 60.0
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("leap", [86400.0, -86400.0], ids=["ahead", "behind"])
def test_retry_after_as_a_date_is_by_the_clock_of_who_says_it(
    wire: HttpClient, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, leap: float
) -> None:
    right = time.time()
    sandbox.faults.add("fail_call", status=503, retry_after=email.utils.formatdate(right + 77, usegmt=True))
    monkeypatch.setattr("mwa_client.timing.time.time", lambda: right + leap)
    monkeypatch.setattr(
        "mwa_client.sandbox.server._Handler.date_time_string",
        lambda handler, timestamp=None: email.utils.formatdate(right, usegmt=True),
    )
    with fails(ServiceUnavailable) as errors:
        wire.call("GET", LISTING)
    assert isinstance(errors[0], ServiceUnavailable)
    assert errors[0].retry_after == pytest.approx(77, abs=1)


@pytest.mark.parametrize("retry_after", [None, "soon", "", "-5"])
def test_no_retry_after(wire: HttpClient, sandbox: Sandbox, retry_after: str | None) -> None:
    sandbox.faults.add("fail_call", status=503, retry_after=retry_after)
    with fails(ServiceUnavailable) as errors:
        wire.call("GET", LISTING)
    assert isinstance(errors[0], ServiceUnavailable)
    assert errors[0].retry_after is None


PAGE = """<!DOCTYPE html><HTML><HEAD><TITLE>502</TITLE><STYLE>h1 {color: red}</STYLE></HEAD>
<body onload="x()"><script>alert("hello")</script><h1>Bad
gateway</h1><p>try <b>later</b></p></body></HTML>"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"error": "Observation 7 does not exist"}', "Observation 7 does not exist"),
        ('{"error": "", "message": "No such job"}', "No such job"),
        ('{"detail": "Not found"}', "Not found"),
        (
            '{"message": "Invalid.", "field_errors": [{"field": "obs_id", "message": "missing"}, 7]}',
            "Invalid. obs_id: missing",
        ),
        ('{"field_errors": {}}', '{"field_errors": {}}'),
        ('{"error": "At the limit", "error_code": 1}', "At the limit (error_code 1)"),
        ('{"error": "No such job", "error_code": 0}', "No such job"),
        ('{"error": "No such job", "error_code": null, "request_id": ""}', "No such job"),
        (
            '{"message": "No such job.", "error_code": "JOB_NOT_FOUND", "request_id": "5f\\u0007e1"}',
            "No such job. (error_code JOB_NOT_FOUND, request_id 5f e1)",
        ),
        ('"Just a string"', "Just a string"),
        ("Plain\twords\r\n on two lines", "Plain words on two lines"),
        (PAGE, "Bad gateway try later"),
        ("", "HTTP 400 Bad Request"),
        ("<html></html>", "HTTP 400 Bad Request"),
        ("[" * 100_000, None),
        ("{" + "x" * 1000, "…"),
        ("\x1b[31mred\x07 alert\x00", "[31mred alert"),
        ("<head" * 2000, None),
    ],
)
def test_the_services_own_words_are_told(
    wire: HttpClient, sandbox: Sandbox, body: str, said: str | None
) -> None:
    sandbox.faults.add("fail_call", status=400, body=body)
    with fails(ServiceRefused) as errors:
        wire.call("GET", LISTING)
    what = errors[0].what
    assert what.isprintable()
    assert len(what) < 350
    if said == "…":
        assert what.endswith("…")
    elif said is not None:
        assert what == f"The service refused: {said}"


@pytest.mark.parametrize(
    ("status", "kind"), [(400, ServiceRefused), (401, SessionLost), (502, ServiceUnavailable)]
)
def test_the_number_of_a_request_is_in_every_answers_head(status: int, kind: type[MwaClientError]) -> None:
    head = f"HTTP/1.1 {status} No\nx-request-id: 5fe1\nContent-Length: 4"
    quoted = fails(kind, match=r": Oops \(request_id 5fe1\)")
    with RawServer(answer(head, b"Oops")) as server, closing(wire_to(server.url)) as wire, quoted:
        wire.call("GET", LISTING)


@pytest.mark.parametrize("charset", ["utf-16", "no-such", "idna", "hex", "a\0b", "undefined"])
@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_character_set_that_is_a_lie(charset: str, status: int) -> None:
    head = f"HTTP/1.1 {status} X\nContent-Type: text/plain; charset={charset}\nConnection: close"
    body = "Größe < 7 \xff".encode() + b"\xff"
    with RawServer(answer(head, body)) as server, closing(wire_to(server.url)) as wire:
        kind = {200: BadReply, 400: ServiceRefused, 500: ServiceUnavailable}[status]
        with fails(kind) as errors:
            wire.call("GET", LISTING)
    if status != 200:
        assert "Größe < 7" in errors[0].what


# --- Answers that are none ---------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["html_reply", "broken_json"])
def test_no_json_is_a_bad_reply(wire: HttpClient, sandbox: Sandbox, job: Job, fault: str) -> None:
    sandbox.faults.add(fault)
    with fails(BadReply, "where JSON was expected") as errors:
        wire.call("GET", LISTING)
    assert ("text/html" if fault == "html_reply" else "application/json") in errors[0].what


@pytest.mark.parametrize("body", ["", "[" * 100_000, "\0", "{]", "\ufeff", "nonsense"])
def test_json_that_cannot_be_read(wire: HttpClient, sandbox: Sandbox, body: str) -> None:
    sandbox.faults.add("html_reply", body=body)
    with fails(BadReply):
        wire.call("GET", LISTING)


@pytest.mark.parametrize("reset", [False, True])
def test_a_reply_that_is_lost(wire: HttpClient, sandbox: Sandbox, reset: bool) -> None:
    sandbox.faults.add("drop_reply", reset=reset)
    with fails(ServiceUnavailable, "broke"):
        wire.call("POST", "/api/download_vis_job", form={"obs_id": "7", "download_type": "vis"})
    # Only the caller can know what to do about a job that was made.
    assert len(sandbox.jobs) == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        answer("HTTP/1.1 200 OK\nContent-Length: 100", b"[]"),
        answer("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"zz\r\n"),
        answer("HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Length: 2", b"[]"),
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    ],
    ids=range(8),
)
def test_what_is_no_http(raw: bytes) -> None:
    with RawServer(raw) as server, closing(wire_to(server.url)) as wire:  # noqa: SIM117
        with fails(ServiceUnavailable, server.url):
            wire.call("GET", f"{LISTING}?{SECRET}")


def test_a_call_that_takes_too_long(sandbox: Sandbox) -> None:
    sandbox.faults.add("slow", seconds=3600)
    with closing(wire_to(sandbox.url, timeout=0.1)) as wire, fails(ServiceUnavailable, "in time"):
        wire.call("GET", LISTING, query={"token": SECRET})


def test_a_refused_connection() -> None:
    with socket.socket() as taken:
        # Bound and not listening: nobody else can take the port meanwhile.
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with closing(wire_to(url)) as wire:
            with fails(ServiceUnreachable, rf"Cannot connect to {url} \(connection refused\)"):
                wire.call("GET", LISTING, query={"token": SECRET})
            with fails(ServiceUnreachable):
                wire.login("/api/login", ACCOUNT)
            with fails(ServiceUnreachable):
                wire.open_path("/api/download", query={"token": SECRET}, headers={})


def test_an_unknown_host() -> None:
    with closing(wire_to("http://no-such-host.invalid:8778")) as wire:  # noqa: SIM117
        with fails(ServiceUnreachable, r"No such host, or no network: http://no-such-host\.invalid:8778"):
            wire.call("GET", LISTING, query={"token": SECRET})


def test_a_host_name_that_cannot_be() -> None:
    with closing(wire_to(f"http://{'x' * 70}.example:8778")) as wire, fails(ServiceRefused, "not an address"):
        wire.call("GET", LISTING)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems refuse at once")
def test_a_connection_that_does_not_come_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECT_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        # Nobody accepts, and the queue is full.
        waiting = [socket.socket() for _ in range(4)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(address)
        with closing(wire_to(f"http://127.0.0.1:{address[1]}")) as wire:  # noqa: SIM117
            with fails(ServiceUnreachable, "no answer in"):
                wire.call("GET", LISTING)
        for connection in waiting:
            connection.close()


# --- A stream of bytes -------------------------------------------------------------------------------


def test_bytes_are_given_as_they_come(wire: HttpClient, sandbox: Sandbox, job: Job) -> None:
    if not HAS_READ1:
        pytest.skip("urllib3 before 2.2 waits for a full buffer")
    sandbox.faults.add("stall", after=1000)
    began = time.monotonic()
    with closing(open_product(wire, job)) as reply:
        data = reply.read(1 << 20)
        while len(data) < 1000:
            data += reply.read(1 << 20)
    assert data == content_of(job)[:1000]
    assert time.monotonic() - began < 30


def test_never_more_bytes_than_asked_for(wire: HttpClient, job: Job) -> None:
    with closing(open_product(wire, job)) as reply:
        pieces = [reply.read(7), reply.read(1), reply.read(1000)]
    assert [len(piece) for piece in pieces] == [7, 1, 1000]
    assert b"".join(pieces) == content_of(job)[:1008]


@pytest.mark.skipif(not HAS_READ1, reason="urllib3 before 2.2 loses the last bytes")
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_breaks(
    wire: HttpClient, sandbox: Sandbox, job: Job, chunked: bool, reset: bool
) -> None:
    if chunked:
        sandbox.faults.add("chunked")
    sandbox.faults.add("cut_product", after=5000, reset=reset)
    with closing(open_product(wire, job)) as reply:
        data = b""
        with fails(ServiceUnavailable, "broke"):
            while len(data) <= 5000:
                data += reply.read(1 << 20)
    assert data == content_of(job)[:5000]


@pytest.mark.parametrize("cut", [1 << 14, 50_000])
def test_an_old_library_loses_little_when_a_connection_breaks(
    wire: HttpClient, sandbox: Sandbox, job: Job, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    if HAS_READ1:
        monkeypatch.delattr(urllib3.HTTPResponse, "read1")
        monkeypatch.delattr(urllib3.response.BaseHTTPResponse, "read1")
    sandbox.faults.add("cut_product", after=cut, reset=True)
    with closing(open_product(wire, job)) as reply:
        data = b""
        with fails(ServiceUnavailable, "broke"):
            while len(data) <= cut:
                data += reply.read(1 << 20)
    assert data == content_of(job)[: cut - cut % (1 << 14)]


def test_a_connection_that_stalls(sandbox: Sandbox, job: Job) -> None:
    sandbox.faults.add("stall", after=5000)
    with closing(wire_to(sandbox.url, stall=0.2)) as wire:
        wire.login("/api/login", ACCOUNT)
        with closing(open_product(wire, job)) as reply, fails(ServiceUnavailable, "in time"):
            read_all(reply)


def read_into(reply: StreamedResponse, most: int) -> bytes | None:
    room = memoryview(bytearray(most))
    count = reply.read_into(room)
    return None if count is None else bytes(room[:count])


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("most", [1, 7, 5000, 1 << 20])
def test_bytes_are_put_where_they_belong(
    wire: HttpClient, sandbox: Sandbox, job: Job, most: int, chunked: bool
) -> None:
    if chunked:
        sandbox.faults.add("chunked")
    data, pieces = b"", 0
    with closing(open_product(wire, job)) as reply:
        piece = read_into(reply, most)
        while piece and pieces < 20_000:
            data, pieces = data + piece, pieces + 1
            piece = read_into(reply, most)
    assert data == content_of(job)[: 20_000 * most]


def test_after_a_body_was_put_there_the_connection_is_used_again(
    wire: HttpClient, sandbox: Sandbox, job: Job
) -> None:
    for _ in range(3):
        reply = open_product(wire, job)
        while read_into(reply, 30_000):
            pass
        assert read_into(reply, 1) == b""
        reply.close()
    wire.call("GET", LISTING)
    assert {entry.connection for entry in sandbox.requests} == {1}


@pytest.mark.parametrize("early", [b"", b"so much"])
def test_a_quiet_moment_costs_no_byte(monkeypatch: pytest.MonkeyPatch, early: bytes) -> None:
    monkeypatch.setattr(stream, "POLL_INTERVAL", 0.05)
    head = answer("HTTP/1.1 200 OK\nContent-Length: 100", early)
    with RawServer(head, hang_up=False) as server, closing(wire_to(server.url, stall=0.3)) as wire:  # noqa: SIM117
        with closing(wire.open_url(server.url, {})) as reply:
            if early:
                assert read_into(reply, 100) == early
            assert read_into(reply, 100) is None
            server.connections[0].sendall(b"xyz")
            assert read_into(reply, 100) == b"xyz"
            with fails(ServiceUnavailable, "in time"):
                while read_into(reply, 100) is None:
                    pass


def test_a_body_that_ends_early_is_noticed(wire: HttpClient, sandbox: Sandbox, job: Job) -> None:
    sandbox.faults.add("cut_product", after=5000)
    with closing(open_product(wire, job)) as reply:
        data = b""
        with fails(ServiceUnavailable, "closed early"):
            while len(data) <= 5000:
                data += read_into(reply, 1 << 20) or b""
    assert data == content_of(job)[:5000]


def test_bytes_are_given_as_they_are(wire: HttpClient, sandbox: Sandbox, job: Job) -> None:
    sandbox.faults.add("gzip")
    with closing(open_product(wire, job)) as reply:
        assert reply.headers["content-encoding"] == "gzip"
        assert read_all(reply)[:2] == b"\x1f\x8b"


def test_a_refusal_is_an_answer_here(wire: HttpClient, sandbox: Sandbox, job: Job) -> None:
    sandbox.faults.add("product_status", status=410, body="gone")
    with closing(open_product(wire, job)) as reply:
        assert (reply.status, read_all(reply)) == (410, b"gone")


def test_closing_twice_and_from_another_thread(wire: HttpClient, sandbox: Sandbox, job: Job) -> None:
    sandbox.faults.add("stall", after=5000)
    reply = open_product(wire, job)
    assert reply.read(10) == content_of(job)[:10]
    thread = threading.Thread(target=reply.close)
    thread.start()
    thread.join()
    reply.close()
    # The server notices that nobody listens any more.
    wait_until(lambda: any(entry.path == "/api/download" for entry in sandbox.requests))


# --- Certificates ------------------------------------------------------------------------------------


@contextmanager
def encrypted(
    clock: FastClock, name: str = "127.0.0.1", **options: Any
) -> Iterator[tuple[Sandbox, trustme.CA]]:
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, **options).configure_cert(server_side)
    with Sandbox(clock=clock.now, password=SECRET, ssl_context=server_side) as sandbox:
        yield sandbox, authority


def test_an_unknown_authority_is_refused_and_nothing_is_sent(clock: FastClock) -> None:
    with encrypted(clock) as (sandbox, _), closing(wire_to(sandbox.url)) as wire:
        with fails(ServiceRefused, f"certificate of {sandbox.url} cannot be verified") as errors:
            wire.login("/api/login", ACCOUNT)
        assert "SSL_VERIFY=0" in errors[0].remedy
        with fails(ServiceRefused, "cannot be verified"):
            wire.open_path("/api/download", query={}, headers={})
        assert sandbox.requests == []


def test_a_known_authority(clock: FastClock, tmp_path: Path) -> None:
    with encrypted(clock) as (sandbox, authority):
        bundle = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(bundle))
        job = sandbox.service.add({"obs_id": "7"}, state=JobState.READY, size=SIZE)
        with closing(wire_to(sandbox.url, verify=str(bundle))) as wire:
            wire.login("/api/login", ACCOUNT)
            assert len(wire.call("GET", LISTING)) == 1
            with closing(open_product(wire, job)) as reply:
                assert read_all(reply) == content_of(job)


def test_an_encrypted_connection_that_was_kept_is_replaced_and_a_new_one_is_not(clock: FastClock) -> None:
    with encrypted(clock) as (sandbox, _), closing(wire_to(sandbox.url, verify=False)) as wire:
        wire.login("/api/login", ACCOUNT)
        wire.close_idle()
        sandbox.faults.add("drop_reply", path=LISTING, times=1)
        with fails(ServiceUnavailable):
            wire.call("GET", LISTING)
        assert wire.call("GET", LISTING) == []
        sandbox.faults.add("drop_reply", path=LISTING, times=1)
        assert wire.call("GET", LISTING) == []
        wait_until(lambda: len(sandbox.requests) == 5)
        assert [entry.connection for entry in sandbox.requests] == [1, 2, 3, 3, 4]


def test_the_check_can_be_switched_off(clock: FastClock) -> None:
    with encrypted(clock) as (sandbox, _), closing(wire_to(sandbox.url, verify=False)) as wire:
        wire.login("/api/login", ACCOUNT)
        assert wire.call("GET", LISTING) == []


def test_a_certificate_for_another_host(clock: FastClock, tmp_path: Path) -> None:
    with encrypted(clock, "asvo.example") as (sandbox, authority):
        bundle = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(bundle))
        with closing(wire_to(sandbox.url, verify=str(bundle))) as wire:  # noqa: SIM117
            with fails(ServiceRefused, "cannot be verified"):
                wire.login("/api/login", ACCOUNT)


def test_a_server_that_does_not_encrypt(sandbox: Sandbox) -> None:
    with closing(wire_to(sandbox.url.replace("http:", "https:"))) as wire:  # noqa: SIM117
        with fails(ServiceRefused, "encrypted connection .* does not use encryption"):
            wire.login("/api/login", ACCOUNT)
    assert all("Authorization" not in entry.headers for entry in sandbox.requests)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_authorities_that_are_none(tmp_path: Path, content: str | None) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content, encoding="utf-8")
    with fails(SettingsError, r"ca\.pem"):
        wire_to(f"https://{NOWHERE}", verify=str(bundle))


def test_a_directory_of_authorities(tmp_path: Path) -> None:
    wire_to(f"https://{NOWHERE}", verify=str(tmp_path)).close()


def test_a_bundle_in_the_environment_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with closing(wire_to(f"https://{NOWHERE}")) as wire, fails(ServiceRefused, "REQUESTS_CA_BUNDLE"):
        wire.call("GET", LISTING)
