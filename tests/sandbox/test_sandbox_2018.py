"""The interface of 2018 at the practice service, over real sockets."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import sandbox_2018_steps as steps
from practice_client import TIMEOUT, Clock
from sandbox_2018_steps import CONVERSION, OBS, SIZE, Client, raw_get, true_bytes

from mwa_client.sandbox import Job, JobState, JobType, Sandbox, Service
from mwa_client.sandbox.delivery import parse_range
from mwa_client.sandbox.jobs import default_product_size
from mwa_client.sandbox.options import Options
from mwa_client.sandbox.products import BLOCK_SIZE, Content

client = steps.client
clock = steps.clock
sandbox = steps.sandbox


WEEK = 7 * 86400.0


# --- Products -----------------------------------------------------------------------------------------


def test_any_range_of_a_content_is_what_stands_there() -> None:
    content = Content("job 1", 3 * BLOCK_SIZE + 17)
    whole = b"".join(content.pieces())
    assert len(whole) == content.size
    for start, stop in [
        (0, 1),
        (BLOCK_SIZE - 1, BLOCK_SIZE + 1),
        (5, 2 * BLOCK_SIZE + 5),
        (3 * BLOCK_SIZE, len(whole)),
        (9, 9),
    ]:
        assert b"".join(content.pieces(start, stop)) == whole[start:stop]


def test_no_two_blocks_are_alike_and_neither_are_their_pages() -> None:
    content = Content("job 1", 300 * BLOCK_SIZE)
    numbers = (0, 1, 2, 255, 256, 299)
    pages = {b"".join(content.pieces(n * BLOCK_SIZE + 8192, n * BLOCK_SIZE + 12288)) for n in numbers}
    assert len(pages) == len(numbers)


def test_sha1_is_true_and_bytes_depend_on_the_seed() -> None:
    content = Content("job 1", BLOCK_SIZE + 1)
    assert content.sha1 == hashlib.sha1(b"".join(content.pieces())).hexdigest()
    assert Content("job 2", BLOCK_SIZE + 1).sha1 != content.sha1
    assert content.changed().sha1 != content.sha1
    assert content.changed().etag != content.etag


def test_default_sizes_vary_a_little() -> None:
    for kind, middle in [(JobType.CONVERSION, 24e6), (JobType.VISIBILITIES, 16e6), (JobType.METADATA, 1e6)]:
        sizes = [default_product_size(Job(n, kind, {}, 0.0)) for n in range(10001, 10051)]
        assert len(set(sizes)) == 50
        assert 0.9 * middle <= min(sizes) <= max(sizes) <= 1.1 * middle


# --- Login --------------------------------------------------------------------------------------------


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


# --- Jobs ---------------------------------------------------------------------------------------------


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


# --- Ranges -------------------------------------------------------------------------------------------


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
        (f"bytes={BLOCK_SIZE - 5}-{BLOCK_SIZE + 4}", BLOCK_SIZE - 5, BLOCK_SIZE + 5),
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
