"""The practice service, over real sockets: the wire as it should be, and each fault as it should not."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import requests
import trustme

from mwa_client.sandbox import KINDS, Faults, Job, JobState, JobType, LoggedRequest, Sandbox, Service
from mwa_client.sandbox.__main__ import main, parse_fault
from mwa_client.sandbox.delivery import parse_range
from mwa_client.sandbox.jobs import default_product_size
from mwa_client.sandbox.options import Options
from mwa_client.sandbox.products import BLOCK, Content

OBS = "1191828584"
CONVERSION = {"obs_id": OBS, "timeres": "20", "freqres": "40", "edgewidth": "80", "conversion": "ms"}
SIZE = 3_000_001
WEEK = 7 * 86400.0
TIMEOUT = 20.0


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_500_000_000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """The little that a client has to do."""

    def __init__(self, sandbox: Sandbox, *, login: bool = True) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.trust_env = False
        if login:
            assert self.login().status_code == 200

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.sandbox.url + path, timeout=TIMEOUT, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.session.post(self.sandbox.url + path, timeout=TIMEOUT, **options)

    def login(self, user: str = "practice", password: str = "practice") -> requests.Response:
        return self.post("/api/login", auth=(user, password))

    def submit(self, **changes: str) -> requests.Response:
        return self.post("/api/conversion_job", data={**CONVERSION, **changes})

    def new_job(self, **changes: str) -> int:
        job_id = self.submit(**changes).json()["job_id"]
        assert isinstance(job_id, int)
        return job_id

    def rows(self) -> list[Any]:
        return [entry["row"] for entry in self.get("/api/get_jobs").json()]

    def row(self) -> Any:
        (row,) = self.rows()
        return row

    def download(
        self, job_id: int, name: str = f"{OBS}_ms.zip", *, path: str = "/api/download", **headers: str
    ) -> requests.Response:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        named.setdefault("Accept-Encoding", "identity")
        return self.get(path, params={"file_name": name, "job_id": job_id}, headers=named)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> Iterator[Sandbox]:
    with Sandbox(seconds_per_state=0, clock=clock, product_size=lambda job: SIZE) as sandbox:
        yield sandbox


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    with Client(sandbox) as client:
        yield client


def true_bytes(sandbox: Sandbox, start: int = 0, stop: int | None = None) -> bytes:
    (job,) = sandbox.jobs
    return b"".join(job.content.pieces(start, stop))


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def raw_get(sandbox: Sandbox, head: str) -> bytes:
    """Send a request word for word and return everything that comes back until the end."""
    port = int(sandbox.url.rpartition(":")[2])
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode())
        while True:
            try:
                data = connection.recv(1 << 16)
            except ConnectionResetError:
                return received + b"<reset>"
            if not data:
                return received
            received += data


def product_head(client: Client, job_id: int, extra: str = "") -> str:
    cookie = client.session.cookies["MWA_JOB_COOKIE"]
    path = f"/api/download?file_name={OBS}_ms.zip&job_id={job_id}"
    return f"GET {path} HTTP/1.1\nHost: x\nUser-Agent: raw\nCookie: MWA_JOB_COOKIE={cookie}\n{extra}\n"


# --- Products ----------------------------------------------------------------------------------------


def test_any_range_of_a_content_is_what_stands_there() -> None:
    content = Content("job 1", 3 * BLOCK + 17)
    whole = b"".join(content.pieces())
    assert len(whole) == content.size
    for start, stop in [(0, 1), (BLOCK - 1, BLOCK + 1), (5, 2 * BLOCK + 5), (3 * BLOCK, len(whole)), (9, 9)]:
        assert b"".join(content.pieces(start, stop)) == whole[start:stop]


def test_no_two_blocks_are_alike_and_neither_are_their_pages() -> None:
    content = Content("job 1", 300 * BLOCK)
    numbers = (0, 1, 2, 255, 256, 299)
    pages = {b"".join(content.pieces(n * BLOCK + 8192, n * BLOCK + 12288)) for n in numbers}
    assert len(pages) == len(numbers)


def test_sha1_is_true_and_bytes_depend_on_the_seed() -> None:
    content = Content("job 1", BLOCK + 1)
    assert content.sha1 == hashlib.sha1(b"".join(content.pieces())).hexdigest()
    assert Content("job 2", BLOCK + 1).sha1 != content.sha1
    assert content.changed().sha1 != content.sha1
    assert content.changed().etag != content.etag


def test_default_sizes_vary_a_little() -> None:
    for kind, middle in [(JobType.CONVERSION, 24e6), (JobType.VISIBILITIES, 16e6), (JobType.METADATA, 1e6)]:
        sizes = [default_product_size(Job(n, kind, {}, 0.0)) for n in range(10001, 10051)]
        assert len(set(sizes)) == 50
        assert 0.9 * middle <= min(sizes) <= max(sizes) <= 1.1 * middle


# --- Login -------------------------------------------------------------------------------------------


def test_login_gives_a_cookie_that_opens_the_door(sandbox: Sandbox) -> None:
    with Client(sandbox, login=False) as client:
        assert client.get("/api/get_jobs").status_code == 401
        reply = client.login()
        assert reply.status_code == 200
        assert reply.headers["Set-Cookie"].startswith("MWA_JOB_COOKIE=")
        assert "HttpOnly" in reply.headers["Set-Cookie"]
        assert client.rows() == []
        client.session.cookies.set("MWA_JOB_COOKIE", "stale", domain="127.0.0.1", path="/")
        assert client.get("/api/get_jobs").status_code == 401


def test_each_login_is_a_session_of_its_own(sandbox: Sandbox) -> None:
    with Client(sandbox) as one, Client(sandbox) as other:
        assert one.session.cookies["MWA_JOB_COOKIE"] != other.session.cookies["MWA_JOB_COOKIE"]
        assert one.rows() == other.rows() == []


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Basic",
        "Basic %%%",
        "Basic " + base64.b64encode(b"practice").decode(),
        "Basic " + base64.b64encode(b"practice:wrong").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Bearer " + base64.b64encode(b"practice:practice").decode(),
    ],
)
def test_bad_credentials_are_401(sandbox: Sandbox, authorization: str | None) -> None:
    with Client(sandbox, login=False) as client:
        headers = {"Authorization": authorization} if authorization else {}
        reply = client.post("/api/login", headers=headers)
    assert reply.status_code == 401
    assert "Set-Cookie" not in reply.headers


def test_a_broken_cookie_header_is_no_session(sandbox: Sandbox) -> None:
    with Client(sandbox, login=False) as client:
        assert client.get("/api/get_jobs", headers={"Cookie": "a[]=;;=\x7f"}).status_code == 401


def test_no_user_agent_is_403(sandbox: Sandbox) -> None:
    reply = raw_get(sandbox, "POST /api/login HTTP/1.1\nHost: x\nConnection: close\n\n")
    assert reply.startswith(b"HTTP/1.1 403 ")


# --- Jobs --------------------------------------------------------------------------------------------


def test_a_submission_makes_a_job_and_twice_makes_two(client: Client) -> None:
    first = client.submit(norfi="true")
    assert first.status_code == 200
    assert first.json() == {"job_id": 10001}
    assert client.new_job(norfi="true") == 10002
    assert [row["job_params"] for row in client.rows()] == [{**CONVERSION, "norfi": "true"}] * 2


@pytest.mark.parametrize(
    ("path", "form", "job_type", "name"),
    [
        ("/api/conversion_job", CONVERSION, 0, f"{OBS}_ms.zip"),
        ("/api/conversion_job", {**CONVERSION, "conversion": "uvfits"}, 0, f"{OBS}_uvfits.zip"),
        ("/api/download_vis_job", {"obs_id": OBS, "download_type": "vis"}, 1, f"{OBS}_vis.zip"),
        ("/api/download_vis_job", {"obs_id": OBS, "download_type": "vis_meta"}, 2, f"{OBS}_vis_meta.zip"),
    ],
)
def test_a_row_of_the_listing(
    client: Client, path: str, form: dict[str, str], job_type: int, name: str
) -> None:
    job_id = client.post(path, data=form).json()["job_id"]
    (entry,) = client.get("/api/get_jobs").json()
    assert entry == {
        "action": "INSERT",
        "table": "jobs",
        "row": {
            "id": job_id,
            "job_type": job_type,
            "job_state": 2,
            "user_id": 7,
            "job_params": form,
            "error_text": None,
            "product": {"files": [[name, SIZE, client.sandbox.jobs[0].content.sha1]]},
        },
    }
    whole = client.download(job_id, name).content
    assert hashlib.sha1(whole).hexdigest() == entry["row"]["product"]["files"][0][2]


@pytest.mark.parametrize(
    ("path", "changes", "word"),
    [
        ("/api/conversion_job", {"obs_id": None}, "obs_id"),
        ("/api/conversion_job", {"timeres": None, "edgewidth": ""}, "timeres, edgewidth"),
        ("/api/conversion_job", {"conversion": "fits"}, "conversion"),
        ("/api/conversion_job", {"obs_id": "orion"}, "obs_id"),
        ("/api/download_vis_job", {}, "download_type"),
        ("/api/download_vis_job", {"download_type": "all"}, "download_type"),
    ],
)
def test_a_bad_submission_is_400_and_says_why(
    client: Client, path: str, changes: dict[str, Any], word: str
) -> None:
    reply = client.post(path, data={**CONVERSION, **changes})
    assert reply.status_code == 400
    assert word in reply.json()["error"]
    assert client.rows() == []


def test_a_submission_must_be_a_form(client: Client) -> None:
    assert client.post("/api/conversion_job", json=CONVERSION).status_code == 400


def test_cancel(client: Client) -> None:
    job_id = client.new_job()
    assert client.get(f"/api/cancel_job?job_id={job_id}").status_code == 200
    assert client.row()["job_state"] == 5
    again = client.get(f"/api/cancel_job?job_id={job_id}")
    assert (again.status_code, "cancelled" in again.json()["error"]) == (400, True)
    for unknown in ("999", "x", ""):
        assert client.get(f"/api/cancel_job?job_id={unknown}").status_code == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_wrong_methods_and_paths(client: Client, method: str) -> None:
    reply = client.session.request(method, f"{client.sandbox.url}/api/conversion_job", timeout=TIMEOUT)
    assert (reply.status_code, reply.headers["Allow"]) == (405, "POST")
    reply = client.session.request(method, f"{client.sandbox.url}/nowhere", timeout=TIMEOUT)
    assert reply.status_code == 404
    assert [entry.status for entry in client.sandbox.requests[1:]] == [405, 404]


def test_jobs_pass_through_their_states_by_the_clock(clock: Clock) -> None:
    with (
        Sandbox(seconds_per_state=10, clock=clock, product_size=lambda job: 5) as sandbox,
        Client(sandbox) as client,
    ):
        job_id = client.new_job()
        seen = []
        for seconds in (0, 9, 1, 10, WEEK - 1, 1):
            clock.now += seconds
            row = client.row()
            seen.append((row["job_state"], row["product"] is not None, client.download(job_id).status_code))
        assert seen == [
            (0, False, 404),
            (0, False, 404),
            (1, False, 404),
            (2, True, 200),
            (2, True, 200),
            (4, False, 410),
        ]


def test_the_scene_can_be_set(clock: Clock) -> None:
    service = Service(Options(clock=clock))
    old = service.add({"obs_id": OBS}, JobType.METADATA, created=clock.now - WEEK - 2, size=12)
    assert (service.state(old), old.file_name, old.size) == (JobState.EXPIRED, f"{OBS}_vis_meta.zip", 12)
    failed = service.add({"obs_id": OBS}, state=JobState.ERROR, error_text="No")
    assert service.state(failed).has_ended
    changes: list[tuple[Callable[[int], None], JobState]] = [
        (service.fail, JobState.ERROR),
        (service.expire, JobState.EXPIRED),
        (service.cancel, JobState.CANCELLED),
        (lambda job_id: service.hold(job_id, JobState.READY), JobState.READY),
        (service.release, JobState.QUEUED),
    ]
    job_id = service.add({"obs_id": OBS}).id
    for change, state in changes:
        change(job_id)
        job = service.find(job_id)
        assert job is not None
        assert service.state(job) is state
    service.fail(job_id, "No calibration")
    assert service.jobs()[-1].error_text == "No calibration"
    service.remove(job_id)
    assert service.find(job_id) is None
    assert [job.id for job in service.jobs()] == [old.id, failed.id]


def test_an_error_is_listed_with_its_text(client: Client) -> None:
    client.sandbox.service.fail(client.new_job(), "Observation is not public")
    row = client.row()
    assert (row["job_state"], row["error_text"], row["product"]) == (3, "Observation is not public", None)


# --- From one run to the next ------------------------------------------------------------------------


def test_jobs_are_found_again_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "not yet there" / "sandbox.json"

    def make() -> Sandbox:
        return Sandbox(state_file=file, clock=clock, product_size=lambda job: 50_000)

    with make() as sandbox, Client(sandbox) as client:
        kept, failed, cancelled = (client.new_job() for _ in range(3))
        sandbox.service.fail(failed, "Why")
        client.get(f"/api/cancel_job?job_id={cancelled}")
        before, url = sandbox.jobs, sandbox.url
        clock.now += 2
        half = client.download(kept, Range="bytes=0-24999").content
        etag = client.download(kept).headers["ETag"]
    # Nothing was said at the end: the file is what a kill leaves behind.
    with make() as sandbox, Client(sandbox) as client:
        assert sandbox.jobs == before
        assert sandbox.url != url or sandbox.requests
        assert [row["job_state"] for row in client.rows()] == [2, 3, 5]
        rest = client.download(kept, Range="bytes=25000-", If_Range=etag)
        assert rest.status_code == 206
        assert hashlib.sha1(half + rest.content).hexdigest() == client.rows()[0]["product"]["files"][0][2]
        assert client.new_job() == cancelled + 1
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"jobs": [{"id": 1}], "next_id": 2}'])
def test_a_state_file_that_is_something_else_is_not_overwritten(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sandbox.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"sandbox\.json"):
        Sandbox(state_file=file)
    assert file.read_text() == text


@pytest.mark.parametrize("name", ["sandbox.json", "sandbox.json.new"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe"])
def test_nothing_is_written_or_read_through_what_is_planted(tmp_path: Path, name: str, kind: str) -> None:
    private, planted = tmp_path / "private", tmp_path / "state" / name
    private.write_text('{"jobs": [], "next_id": 500}')
    planted.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(planted)
    else:
        planted.symlink_to(private if kind == "link" else tmp_path / "not there")
    state = planted.with_name("sandbox.json")
    if planted == state:
        with pytest.raises(ValueError, match="not a list of jobs"):
            Sandbox(state_file=state)
    else:
        made = Sandbox(state_file=state).service.add({"obs_id": "1191828528"}, JobType.VISIBILITIES)
        assert [job.id for job in Sandbox(state_file=state).jobs] == [made.id]
    assert private.read_text() == '{"jobs": [], "next_id": 500}' and not (tmp_path / "not there").exists()


def test_the_same_sandbox_can_be_away_for_a_while(sandbox: Sandbox, client: Client) -> None:
    job_id, url = client.new_job(), sandbox.url
    sandbox.stop()
    sandbox.stop()
    with pytest.raises(requests.ConnectionError):
        client.get("/api/get_jobs")
    sandbox.start()
    sandbox.start()
    assert sandbox.url == url
    assert client.row()["id"] == job_id


# --- Ranges ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=10-", (10, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=20-10", None),
        ("bytes=-", None),
        ("bytes=1-2,5-6", None),
        ("bytes=a-b", None),
        ("items=1-2", None),
        ("", None),
        (None, None),
    ],
)
def test_parse_range(header: str | None, expected: tuple[int, int] | None) -> None:
    assert parse_range(header, 100) == expected


def test_the_whole_product(client: Client) -> None:
    reply = client.download(client.new_job())
    assert reply.status_code == 200
    assert reply.headers["Content-Length"] == str(SIZE)
    assert reply.headers["Accept-Ranges"] == "bytes"
    assert reply.headers["ETag"].startswith('"')
    assert "Content-Range" not in reply.headers
    assert reply.content == true_bytes(client.sandbox)


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-99", 0, 100),
        (f"bytes={BLOCK - 5}-{BLOCK + 4}", BLOCK - 5, BLOCK + 5),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        ("bytes=-7", SIZE - 7, SIZE),
        (f"bytes=0-{10 * SIZE}", 0, SIZE),
    ],
)
def test_a_part_of_the_product(client: Client, wanted: str, start: int, stop: int) -> None:
    reply = client.download(client.new_job(), Range=wanted)
    assert reply.status_code == 206
    assert reply.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert reply.headers["Content-Length"] == str(stop - start)
    assert reply.content == true_bytes(client.sandbox, start, stop)


@pytest.mark.parametrize("wanted", [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}", "bytes=-0"])
def test_a_range_that_is_not_there(client: Client, wanted: str) -> None:
    reply = client.download(client.new_job(), Range=wanted)
    assert reply.status_code == 416
    assert reply.headers["Content-Range"] == f"bytes */{SIZE}"


def test_if_range(client: Client) -> None:
    job_id = client.new_job()
    etag = client.download(job_id, Range="bytes=0-0").headers["ETag"]
    conditions = [etag, '"other"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"]
    replies = [client.download(job_id, Range="bytes=5-9", If_Range=condition) for condition in conditions]
    assert [reply.status_code for reply in replies] == [206, 200, 200, 200]


def test_files_that_are_not_there(client: Client) -> None:
    job_id = client.new_job()
    assert client.download(job_id, "other.zip").status_code == 404
    assert client.download(job_id + 1).status_code == 404
    assert client.get("/api/download").status_code == 404
    client.sandbox.service.expire(job_id)
    assert client.download(job_id).status_code == 410
    client.session.cookies.clear()
    assert client.download(job_id).status_code == 401


# --- Faults in general -------------------------------------------------------------------------------


def test_unknown_faults_and_options_are_named() -> None:
    faults = Faults()
    with pytest.raises(ValueError, match=r"no such fault: flood; there are: .*cut_product.*stall"):
        faults.add("flood")
    with pytest.raises(ValueError, match="no such option: behind; there are: after, reset, times"):
        faults.add("cut_product", behind=3)
    with pytest.raises(ValueError, match="after must be int, not 'soon'"):
        faults.add("cut_product", after=[3, "soon"])
    with pytest.raises(ValueError, match="redirect: needs url"):
        faults.add("redirect")
    with pytest.raises(ValueError, match="whole numbers"):
        faults.add("busy", times="often")  # type: ignore[arg-type]
    assert list(faults) == []


def test_every_fault_has_a_line_and_options_whose_kinds_are_known() -> None:
    needed: dict[str, Any] = {"redirect": {"url": "x"}, "slow": {"seconds": 1}, "cut_product": {"after": 1}}
    needed |= {"late_job": {"seconds": 30.0}, "add_param": {"key": "x"}}
    faults = Faults()
    for name, kind in KINDS.items():
        assert kind.summary.endswith(".")
        defaults = {key: p.default for key, p in kind.options.items() if p.default is not p.empty}
        assert name in repr(faults.add(name, **{**defaults, **needed.get(name, {})}))
    assert [fault.kind.name for fault in faults] == list(KINDS)


def test_times_and_skip(client: Client) -> None:
    handle = client.sandbox.faults.add("fail_call", times=2, skip=1, path="/api/get_jobs")
    statuses = [client.get("/api/get_jobs").status_code for _ in range(5)]
    assert statuses == [200, 500, 500, 200, 200]
    assert handle.hits == 2


def test_a_list_gives_a_value_for_each_hit(client: Client) -> None:
    handle = client.sandbox.faults.add("fail_call", status=[500, 502, 503])
    assert [client.get("/api/get_jobs").status_code for _ in range(4)] == [500, 502, 503, 200]
    assert handle.hits == 3


def test_remove_and_clear(client: Client) -> None:
    faults = client.sandbox.faults
    first, second = faults.add("fail_call"), faults.add("html_reply")
    assert client.get("/api/get_jobs").status_code == 500
    faults.remove(first)
    assert "html" in client.get("/api/get_jobs").headers["Content-Type"]
    faults.clear()
    assert client.rows() == []
    assert (first.hits, second.hits, list(faults)) == (1, 1, [])


def test_aims(client: Client) -> None:
    faults = client.sandbox.faults
    one, two = client.new_job(), client.new_job(obs_id="1191828599")
    by_obs = faults.add("missing_job", obs_id=1191828599)
    assert [row["id"] for row in client.rows()] == [one]
    by_job = faults.add("product_status", job_id=one)
    assert client.download(two, "1191828599_ms.zip").status_code == 200
    assert client.download(one).status_code == 404
    by_path = faults.add("busy", path="/api/*_job")
    assert client.submit().status_code == 503
    assert client.get("/api/get_jobs").status_code == 200
    by_form = faults.add("refuse_submission", obs_id="1234567890")
    faults.remove(by_path)
    assert client.submit(obs_id="1234567890").status_code == 400
    assert client.submit().status_code == 200
    assert [fault.hits for fault in (by_obs, by_job, by_path, by_form)] == [2, 1, 1, 1]


# --- Faults of calls ---------------------------------------------------------------------------------


def test_refuse_login(sandbox: Sandbox) -> None:
    sandbox.faults.add("refuse_login", times=1, text="Account is locked")
    with Client(sandbox, login=False) as client:
        reply = client.login()
        assert (reply.status_code, reply.json()["error"]) == (401, "Account is locked")
        assert client.login().status_code == 200


def test_fail_call(client: Client) -> None:
    client.sandbox.faults.add("fail_call", times=1, status=502, retry_after=17)
    reply = client.submit()
    assert (reply.status_code, reply.headers["Retry-After"]) == (502, "17")
    assert "<h1>502" in reply.text
    assert client.rows() == []
    client.sandbox.faults.add("fail_call", body="Sorry")
    assert client.submit().text == "Sorry"


def test_drop_reply(client: Client) -> None:
    client.sandbox.faults.add("drop_reply", times=1)
    assert client.submit(edgewidth="").status_code == 400
    with pytest.raises(requests.ConnectionError):
        client.submit()
    assert client.row()["id"] == 10001
    dropped = client.sandbox.requests[-2]
    assert (dropped.path, dropped.status, dropped.job_id) == ("/api/conversion_job", None, 10001)
    client.sandbox.faults.add("drop_reply", path="/api/get_jobs", reset=True)
    with pytest.raises(requests.ConnectionError, match="reset"):
        client.rows()


def test_refuse_submission(client: Client) -> None:
    client.sandbox.faults.add("refuse_submission", times=1, text="Observation 1 does not exist")
    reply = client.submit()
    assert (reply.status_code, reply.json()) == (400, {"error": "Observation 1 does not exist"})
    client.sandbox.faults.add("refuse_submission", json=False, status=403, text="Full outage")
    reply = client.submit()
    assert (reply.status_code, reply.text) == (403, "Full outage")
    assert client.rows() == []


def test_html_reply(client: Client) -> None:
    client.sandbox.faults.add("html_reply", times=1)
    reply = client.get("/api/get_jobs")
    assert (reply.status_code, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert reply.text.startswith("<!DOCTYPE html>")


def test_broken_json(client: Client) -> None:
    handle = client.sandbox.faults.add("broken_json")
    client.login()
    assert handle.hits == 0, "a reply without a body cannot be broken"
    reply = client.get("/api/get_jobs")
    assert reply.status_code == 200
    with pytest.raises(ValueError):
        reply.json()


def test_busy(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("busy", retry_after=30)
    for reply in (client.get("/api/get_jobs"), client.download(job_id)):
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "30")


def test_slow_answers_late_and_a_client_that_leaves_is_noticed(client: Client) -> None:
    client.sandbox.faults.add("slow", seconds=[0.05, 3600], path="/api/get_jobs")
    began = time.monotonic()
    assert client.rows() == []
    assert time.monotonic() - began >= 0.05
    with pytest.raises(requests.ReadTimeout):
        client.session.get(f"{client.sandbox.url}/api/get_jobs", timeout=0.05)
    eventually(lambda: len(client.sandbox.requests) == 3)
    assert client.sandbox.requests[-1].status is None


def test_expire_session(client: Client) -> None:
    job_id = client.new_job()
    handle = client.sandbox.faults.add("expire_session", times=1, path="/api/download")
    assert client.get("/api/get_jobs").status_code == 200
    assert client.download(job_id).status_code == 401
    assert client.get("/api/get_jobs").status_code == 401
    assert client.login().status_code == 200
    assert client.download(job_id).status_code == 200
    assert handle.hits == 1


# --- Faults of jobs and listings ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "state", "text"),
    [
        ("job_error", {"text": "Staging failed"}, 3, "Staging failed"),
        ("job_error", {"text": None}, 3, None),
        ("expire_job", {}, 4, None),
        ("cancel_job", {}, 5, None),
    ],
)
def test_what_becomes_of_a_job_is_for_good(
    client: Client, name: str, options: dict[str, Any], state: int, text: str | None
) -> None:
    job_id = client.new_job()
    handle = client.sandbox.faults.add(name, times=1, **options)
    for _ in range(2):
        row = client.row()
        assert (row["job_state"], row["error_text"], row["product"]) == (state, text, None)
    assert client.download(job_id).status_code in (404, 410)
    client.sandbox.faults.clear()
    assert (client.row()["job_state"], handle.hits) == (state, 1)


def test_a_job_ends_in_error_when_it_was_about_to_be_ready(clock: Clock) -> None:
    with Sandbox(seconds_per_state=10, clock=clock) as sandbox, Client(sandbox) as client:
        client.new_job()
        sandbox.faults.add("job_error")
        sandbox.faults.add("expire_job")
        states = []
        for _ in range(3):
            states.append(client.row()["job_state"])
            clock.now += 10
        assert states == [0, 1, 3]
        sandbox.faults.add("cancel_job")
        assert client.row()["job_state"] == 3


def test_hostile_name(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("hostile_name", times=1, name="../../.ssh/evil")
    assert client.row()["product"]["files"][0][0] == "../../.ssh/evil"
    assert client.download(job_id, "../../.ssh/evil").content == true_bytes(client.sandbox)
    assert client.download(job_id).status_code == 404


def test_listings_that_do_not_tell_the_truth(client: Client) -> None:
    client.new_job()
    name, size, sha1 = client.row()["product"]["files"][0]

    def files(fault: str, **options: Any) -> Any:
        handle = client.sandbox.faults.add(fault, times=1, **options)
        row = client.row()
        assert handle.hits == 1
        return row["product"] and row["product"]["files"]

    assert files("null_product") is None
    assert files("no_sha1") == [[name, size]]
    assert files("wrong_size", by=-5) == [[name, size - 5, sha1]]
    assert files("wrong_sha1") == [[name, size, "0" * 40]]
    assert files("strings_for_numbers") == [[name, str(size), sha1]]
    assert client.row()["product"]["files"] == [[name, size, sha1]]


def test_lies_about_products_wait_until_there_is_one(clock: Clock) -> None:
    names = ("null_product", "no_sha1", "wrong_size", "wrong_sha1")
    with Sandbox(seconds_per_state=10, clock=clock) as sandbox, Client(sandbox) as client:
        client.new_job()
        handles = [sandbox.faults.add(name) for name in names]
        assert client.row()["product"] is None
    assert [handle.hits for handle in handles] == [0, 0, 0, 0]


def test_missing_job_and_unknown_state(client: Client) -> None:
    one, two = client.new_job(), client.new_job()
    client.sandbox.faults.add("missing_job", times=1, job_id=one)
    client.sandbox.faults.add("unknown_state", times=1, state="thinking", job_id=two)
    row = client.row()
    assert (row["id"], row["job_state"], row["product"]) == (two, "thinking", None)
    assert [row["job_state"] for row in client.rows()] == [2, 2]


def test_late_job(client: Client, clock: Clock) -> None:
    job = client.new_job()
    client.sandbox.faults.add("late_job", seconds=30.0)
    assert client.rows() == []
    clock.now += 29.0
    assert client.rows() == []
    clock.now += 2.0
    assert [row["id"] for row in client.rows()] == [job]


def test_fail_at_once(client: Client) -> None:
    client.sandbox.service.seconds_per_state = 1000.0
    one, two = client.new_job(), client.new_job()
    fault = client.sandbox.faults.add("fail_at_once", times=1, text="no tape")
    assert [(row["id"], row["job_state"]) for row in client.rows()] == [(one, 3), (two, 0)]
    assert client.rows()[0]["error_text"] == "no tape" and fault.hits == 1
    client.sandbox.faults.clear()
    assert client.rows()[0]["job_state"] == 3, "for good"


def test_strings_for_numbers(client: Client) -> None:
    client.sandbox.faults.add("strings_for_numbers")
    assert client.submit().json() == {"job_id": "10001"}
    row = client.row()
    assert (row["id"], row["job_type"], row["job_state"], row["error_text"]) == ("10001", "0", "2", None)


def test_missing_field_and_null_job_id(client: Client) -> None:
    faults = client.sandbox.faults
    faults.add("missing_field", times=1)
    assert client.submit().json() == {}
    faults.add("null_job_id", times=1)
    assert client.submit().json() == {"job_id": None}
    faults.add("missing_field", times=1, field="job_state")
    assert ["job_state" in row for row in client.rows()] == [False, True]


def test_extra_job_rows(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("extra_job_rows")
    entries = client.get("/api/get_jobs").json()
    assert entries[-1]["row"]["id"] == job_id
    assert None in entries
    assert {"row": None} in entries
    assert any(isinstance(entry, str) for entry in entries)


# --- Faults of products ------------------------------------------------------------------------------


def test_cut_product(client: Client) -> None:
    job_id = client.new_job()
    handle = client.sandbox.faults.add("cut_product", after=[0, 1000, 2_000_000])
    for after in (0, 1000, 2_000_000):
        head, _, body = raw_get(client.sandbox, product_head(client, job_id)).partition(b"\r\n\r\n")
        assert f"Content-Length: {SIZE}".encode() in head
        assert body == true_bytes(client.sandbox, 0, after)
        assert client.sandbox.requests[-1].body_bytes_sent == after
    assert client.download(job_id).content == true_bytes(client.sandbox)
    assert handle.hits == 3


def test_cut_product_with_a_reset(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("cut_product", after=1_500_000, reset=True)
    reply = raw_get(client.sandbox, product_head(client, job_id))
    assert reply.endswith(b"<reset>")
    assert reply.partition(b"\r\n\r\n")[2] == true_bytes(client.sandbox, 0, 1_500_000) + b"<reset>"
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        client.download(job_id)


def test_cut_product_spares_replies_that_are_shorter(client: Client) -> None:
    job_id = client.new_job()
    handle = client.sandbox.faults.add("cut_product", after=1000)
    assert len(client.download(job_id, Range="bytes=0-999").content) == 1000
    assert client.download(job_id + 1).status_code == 404
    assert handle.hits == 0


def test_ignore_range(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("ignore_range")
    reply = client.download(job_id, Range="bytes=10-19")
    assert (reply.status_code, len(reply.content)) == (200, SIZE)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, f"bytes 11-20/{SIZE}"),
        ({"shift": -10}, f"bytes 0-9/{SIZE}"),
        ({"total": 5}, "bytes 10-19/5"),
        ({"shift": 2, "total": 5}, "bytes 12-21/5"),
        ({"header": "garbage"}, "garbage"),
        ({"header": ""}, None),
    ],
)
def test_lie_in_content_range(client: Client, options: dict[str, Any], expected: str | None) -> None:
    job_id = client.new_job()
    handle = client.sandbox.faults.add("lie_in_content_range", **options)
    assert "Content-Range" not in client.download(job_id).headers
    reply = client.download(job_id, Range="bytes=10-19")
    assert (reply.status_code, reply.headers.get("Content-Range")) == (206, expected)
    assert reply.content == true_bytes(client.sandbox, 10, 20)
    assert handle.hits == 1


def test_etags(client: Client) -> None:
    job_id = client.new_job()
    etag = client.download(job_id).headers["ETag"]

    def part() -> tuple[int, str | None]:
        reply = client.download(job_id, Range="bytes=0-9", If_Range=etag)
        assert reply.content[:10] == true_bytes(client.sandbox, 0, 10)
        return reply.status_code, reply.headers.get("ETag")

    seen = []
    for name in ("weak_etag", "change_etag", "no_etag"):
        client.sandbox.faults.add(name, times=1)
        seen.append(part())
    assert seen == [(200, f"W/{etag}"), (200, '"another"'), (200, None)]
    assert part() == (206, etag)
    client.sandbox.faults.add("no_etag")
    handle = client.sandbox.faults.add("weak_etag")
    assert (part(), handle.hits) == ((200, None), 0)


def test_change_content(client: Client) -> None:
    job_id = client.new_job()
    sha1 = client.row()["product"]["files"][0][2]
    right = client.download(job_id)
    client.sandbox.faults.add("change_content", times=1)
    wrong = client.download(job_id)
    assert len(wrong.content) == SIZE
    assert hashlib.sha1(wrong.content).hexdigest() != sha1
    assert wrong.headers["ETag"] != right.headers["ETag"]
    assert client.row()["product"]["files"][0][2] == sha1
    assert client.download(job_id).content == right.content


def test_corrupt_byte(client: Client) -> None:
    job_id = client.new_job()
    at = BLOCK + 3
    handle = client.sandbox.faults.add("corrupt_byte", at=at, times=1)
    assert client.download(job_id, Range=f"bytes=0-{at - 1}").content == true_bytes(client.sandbox, 0, at)
    wrong = client.download(job_id).content
    right = true_bytes(client.sandbox)
    assert [n for n in range(at - 9, at + 9) if wrong[n] != right[n]] == [at]
    assert wrong[:at] + wrong[at + 1 :] == right[:at] + right[at + 1 :]
    assert client.download(job_id).content == right
    assert handle.hits == 1


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("name", "change"), [("long_body", 100), ("short_body", -100)])
def test_a_body_that_is_not_as_long_as_promised(
    client: Client, name: str, change: int, chunked: bool
) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add(name, by=100, chunked=chunked)
    reply = client.download(job_id)
    assert len(reply.content) == SIZE + change
    assert reply.headers.get("Content-Length") == (None if chunked else str(SIZE + change))
    reply = client.download(job_id, Range="bytes=500-999")
    assert reply.headers["Content-Range"] == f"bytes 500-999/{SIZE}"
    assert reply.content == true_bytes(client.sandbox, 500, 1000 + change)
    assert client.download(job_id + 1).status_code == 404


def test_a_body_cannot_be_shorter_than_empty(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("short_body", by=2 * SIZE)
    reply = client.download(job_id)
    assert (reply.content, reply.headers["Content-Length"]) == (b"", "0")


@pytest.mark.parametrize("by", [10, -10])
def test_wrong_content_length(client: Client, by: int) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("wrong_content_length", by=by)
    head, _, body = raw_get(client.sandbox, product_head(client, job_id)).partition(b"\r\n\r\n")
    assert f"Content-Length: {SIZE + by}".encode() in head
    assert body == true_bytes(client.sandbox)


def test_chunked(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("chunked")
    reply = client.download(job_id)
    assert reply.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in reply.headers
    assert reply.content == true_bytes(client.sandbox)


def test_gzip(client: Client) -> None:
    job_id = client.new_job()
    handle = client.sandbox.faults.add("gzip")
    client.sandbox.faults.add("corrupt_byte")
    client.sandbox.faults.add("long_body")
    client.sandbox.faults.add("short_body")
    assert client.download(job_id + 1).status_code == 404
    reply = client.session.get(
        f"{client.sandbox.url}/api/download",
        params={"file_name": f"{OBS}_ms.zip", "job_id": str(job_id)},
        headers={"Accept-Encoding": "identity"},
        stream=True,
        timeout=TIMEOUT,
    )
    with reply:
        packed = reply.raw.read(decode_content=False)
    assert reply.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed) == true_bytes(client.sandbox)
    assert handle.hits == 1


def test_stall_goes_on_later(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("stall", after=1000, seconds=0.05)
    began = time.monotonic()
    assert client.download(job_id).content == true_bytes(client.sandbox)
    assert time.monotonic() - began >= 0.05


def test_stall_delivers_what_comes_before_and_then_nothing(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("stall", after=1000)
    with client.session.get(
        f"{client.sandbox.url}/api/download",
        params={"file_name": f"{OBS}_ms.zip", "job_id": str(job_id)},
        stream=True,
        timeout=(TIMEOUT, 0.1),
    ) as reply:
        assert reply.raw.read(1000) == true_bytes(client.sandbox, 0, 1000)
        with pytest.raises(requests.ConnectionError, match="timed out"):
            next(reply.iter_content(1000))
    client.session.close()
    eventually(lambda: len(client.sandbox.requests) == 3)
    assert client.sandbox.requests[-1].body_bytes_sent == 1000


def test_product_status(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("product_status", status=[403, 410])
    assert [client.download(job_id).status_code for _ in range(3)] == [403, 410, 200]
    client.sandbox.faults.add("product_status", status=416, total=77, body="", retry_after=3)
    reply = client.download(job_id)
    assert (reply.status_code, reply.headers["Content-Range"], reply.text) == (416, "bytes */77", "")
    assert reply.headers["Retry-After"] == "3"


def test_redirect(client: Client) -> None:
    job_id = client.new_job()
    with Sandbox() as other:
        client.sandbox.faults.add("redirect", url=f"{other.url}/elsewhere")
        reply = client.download(job_id)
        assert (reply.status_code, reply.history[0].status_code) == (404, 302)
        assert other.requests[0].path == "/elsewhere"


def test_a_rate_holds_products_back_and_nothing_else() -> None:
    sandbox = Sandbox(seconds_per_state=0, rate=1e6, product_size=lambda job: 100_000)
    with sandbox, Client(sandbox) as client:
        job_id = client.new_job()
        began = time.monotonic()
        assert len(client.download(job_id).content) == 100_000
        assert time.monotonic() - began >= 0.05
        assert client.download(job_id, Range="bytes=0-9").status_code == 206
        assert client.sandbox.requests[-1].connection == 1


def test_a_delay_holds_calls_back() -> None:
    with Sandbox(seconds_per_state=0, delay=0.03, product_size=lambda job: 100) as sandbox:
        began = time.monotonic()
        with Client(sandbox) as client:
            client.new_job()
            assert time.monotonic() - began >= 0.06


# --- The server --------------------------------------------------------------------------------------


def test_requests_are_noted(client: Client, clock: Clock) -> None:
    job_id = client.new_job()
    clock.now += 5
    client.download(job_id, Range="bytes=10-19")
    login, submission, download = client.sandbox.requests
    assert isinstance(download, LoggedRequest)
    assert (login.method, login.path, login.status) == ("POST", "/api/login", 200)
    assert login.headers["authorization"].startswith("Basic ")
    assert (submission.form, submission.job_id) == (CONVERSION, job_id)
    assert download.query == {"file_name": f"{OBS}_ms.zip", "job_id": str(job_id)}
    assert (download.status, download.range, download.body_bytes_sent) == (206, "bytes=10-19", 10)
    assert (download.job_id, download.headers.get("COOKIE", "")[:14]) == (job_id, "MWA_JOB_COOKIE")
    assert download.started - submission.started == 5
    client.sandbox.reset_log()
    assert client.sandbox.requests == []


def test_one_connection_serves_many_requests(client: Client, sandbox: Sandbox) -> None:
    job_id = client.new_job()
    client.download(job_id)
    client.rows()
    with Client(sandbox):
        pass
    assert [entry.connection for entry in sandbox.requests] == [1, 1, 1, 1, 2]


def test_the_log_file_has_no_credentials(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    with Sandbox(password="s3cr3t", log_file=file) as sandbox, Client(sandbox, login=False) as client:
        assert client.login(password="s3cr3t").status_code == 200
        client.post("/api/conversion_job?api_key=s3cr3t", data={"password": "s3cr3t", "obs_id": OBS})
        cookie = client.session.cookies["MWA_JOB_COOKIE"]
    text = file.read_text()
    assert cookie not in text
    assert "s3cr3t" not in text
    assert base64.b64encode(b"practice:s3cr3t").decode() not in text
    first, second = map(json.loads, text.splitlines())
    assert (first["path"], first["status"]) == ("/api/login", 200)
    assert second["form"] == {"password": "***", "obs_id": OBS}


def test_many_clients_at_once(sandbox: Sandbox) -> None:
    def work() -> None:
        with Client(sandbox) as client:
            for _ in range(5):
                assert client.download(client.new_job(), Range="bytes=0-99").status_code == 206

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [job.id for job in sandbox.jobs] == list(range(10001, 10041))
    assert sum(entry.status == 206 for entry in sandbox.requests) == 40


@pytest.mark.parametrize("where", ["idle", "slow", "stalled", "unread"])
def test_stop_ends_connections_wherever_they_are(where: str) -> None:
    def big(job: Job) -> int:
        return 1 << 33

    threads = threading.active_count()
    sandbox = Sandbox(seconds_per_state=0, product_size=big)
    sandbox.start()
    with Client(sandbox) as client:
        job_id = client.new_job()
        if where == "slow":
            sandbox.faults.add("slow", seconds=1e9)
        if where == "stalled":
            sandbox.faults.add("stall")
        connection = socket.create_connection(("127.0.0.1", int(sandbox.url.rpartition(":")[2])), TIMEOUT)
        with connection:
            if where != "idle":
                connection.sendall(product_head(client, job_id).replace("\n", "\r\n").encode())
            if where in ("stalled", "unread"):
                assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
            began = time.monotonic()
            sandbox.stop()
            assert time.monotonic() - began < 4
            assert threading.active_count() == threads
            # What was sent may still be read; after that there is an end, orderly or not.
            connection.settimeout(TIMEOUT)
            try:
                while connection.recv(1 << 20):
                    pass
            except ConnectionResetError:
                pass


def test_a_bug_is_a_500_and_prints_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def explode() -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(client.sandbox.service, "jobs", explode)
    assert client.get("/api/get_jobs").status_code == 500
    assert raw_get(client.sandbox, "nonsense\n\n") != b""
    assert raw_get(client.sandbox, "GET //[ HTTP/1.1\nUser-Agent: x\nConnection: close\n\n") is not None
    assert capfd.readouterr() == ("", "")


def test_tls(clock: Clock, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with Sandbox(
        seconds_per_state=0, ssl_context=server_side, clock=clock, product_size=lambda job: SIZE
    ) as sandbox:
        assert sandbox.url.startswith("https://127.0.0.1:")
        with Client(sandbox, login=False) as client:
            with pytest.raises(requests.exceptions.SSLError):
                client.login()
            client.session.verify = str(bundle)
            client.login()
            job_id = client.new_job()
            sandbox.faults.add("cut_product", after=[2_000_000, 2_000_000], reset=True)
            for _ in range(2):
                with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
                    client.download(job_id)
            assert client.download(job_id).content == true_bytes(sandbox)
            sandbox.faults.add("stall")
            with pytest.raises(requests.ConnectionError):
                client.session.get(
                    f"{sandbox.url}/api/download",
                    params={"file_name": f"{OBS}_ms.zip", "job_id": str(job_id)},
                    timeout=0.2,
                )
            with socket.create_connection(("127.0.0.1", int(sandbox.url.rpartition(":")[2])), TIMEOUT):
                sandbox.stop()
    assert capfd.readouterr() == ("", "")


def test_a_taken_port(sandbox: Sandbox) -> None:
    with pytest.raises(OSError, match="in use"):
        Sandbox(port=int(sandbox.url.rpartition(":")[2])).start()


# --- python -m mwa_client.sandbox --------------------------------------------------------------------


def test_parse_fault() -> None:
    assert parse_fault("extra_job_rows") == ("extra_job_rows", {})
    assert parse_fault("cut_product:after=[1,2],times=2") == ("cut_product", {"after": [1, 2], "times": 2})
    text = "job_error:text=No data, sorry,obs_id=1191828584"
    assert parse_fault(text) == ("job_error", {"text": "No data, sorry", "obs_id": 1191828584})
    with pytest.raises(ValueError, match="name=value"):
        parse_fault("cut_product:1000")


def test_main_serves_until_it_is_interrupted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = ""

    def wait() -> None:
        nonlocal said
        said = capsys.readouterr().out
        url = said.split("ASVO_HOST=")[1].split()[0]
        reply = requests.post(f"{url}/api/login", auth=("practice", "practice"), timeout=TIMEOUT)
        assert reply.status_code == 503
        raise KeyboardInterrupt

    options = ["--fault", "busy:times=1", "--speed", "inf", "--size", "5", "--log", str(tmp_path / "log")]
    assert main(options, wait) == 0
    assert "ASVO_USER=practice ASVO_PASS=practice" in said
    assert (tmp_path / "log").exists()


def test_main_refuses_what_it_cannot_do(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--fault", "flood"], ["--speed", "0"], ["--rate", "much"]):
        with pytest.raises(SystemExit) as caught:
            main(options)
        assert caught.value.code == 2
    assert "no such fault: flood" in capsys.readouterr().err
    assert main(["--port", sandbox.url.rpartition(":")[2]]) == 1
    assert "Cannot listen" in capsys.readouterr().err


def test_help_lists_the_faults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in KINDS)
    assert "url (needed)" in said


def test_a_run_that_is_killed_finds_its_jobs(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    command = [sys.executable, "-m", "mwa_client.sandbox", "--state", str(state), "--speed", "inf"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}

    def run(end: signal.Signals) -> int:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            host, _, port = process.stdout.readline().split("//")[1].split(";")[0].partition(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT)
            secret = base64.b64encode(b"practice:practice").decode()
            connection.request(
                "POST", "/api/login", headers={"User-Agent": "x", "Authorization": f"Basic {secret}"}
            )
            reply = connection.getresponse()
            reply.read()
            cookie = reply.headers["Set-Cookie"].split(";")[0]
            form = f"obs_id={OBS}&download_type=vis"
            headers = {
                "User-Agent": "x",
                "Cookie": cookie,
                "Content-Type": "application/x-www-form-urlencoded",
            }
            connection.request("POST", "/api/download_vis_job", form, headers)
            job_id = json.loads(connection.getresponse().read())["job_id"]
            connection.close()
            process.send_signal(end)
            assert process.wait(TIMEOUT) == (0 if end is signal.SIGINT else -end)
            assert isinstance(job_id, int)
            return job_id

    assert [run(signal.SIGKILL), run(signal.SIGINT)] == [10001, 10002]
