"""The interface v2 at the practice service."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import sandbox_today_steps as steps
from practice_client import TIMEOUT, Clock
from sandbox_today_steps import DAY, KEY, OBS, SIZE, WEEK, ClientV2, fetch

from mwa_client.sandbox import JobState, JobType, Sandbox
from mwa_client.sandbox.tokens import payload_of

client = steps.client
clock = steps.clock
sandbox = steps.sandbox
v2 = steps.v2


# --- v2: login and tokens -----------------------------------------------------------------------------


def test_v2_login_gives_tokens_in_body_and_cookies(sandbox: Sandbox, clock: Clock) -> None:
    with ClientV2(sandbox, login=False) as v2:
        reply = v2.login()
        body = reply.json()
        assert set(body) == {"access_token", "refresh_token", "token_type", "user"}
        assert body["token_type"] == "bearer"
        assert body["user"] == {
            "id": 7, "login": "practice", "email": "practice@example.org", "is_superuser": False,
            "pawsey_group": "practice", "dug_group": "practice",
        }  # fmt: skip
        assert v2.session.cookies["mwa_access_token"] == body["access_token"]
        assert v2.session.cookies["mwa_refresh_token"] == body["refresh_token"]
        assert payload_of(body["access_token"])["exp"] == clock.now + 900
        assert payload_of(body["refresh_token"])["exp"] == clock.now + WEEK
        header = base64.urlsafe_b64decode(body["access_token"].split(".")[0] + "==")
        assert json.loads(header) == {"alg": "HS256", "typ": "JWT"}
        assert "Max-Age=900" in reply.headers["Set-Cookie"]


def test_v2_login_of_the_web_page(sandbox: Sandbox) -> None:
    with ClientV2(sandbox, login=False) as v2:
        assert v2.post("login", {"username": "practice", "password": "wrong"}).status_code == 401
        too_long = v2.post("login", {"username": "x" * 17, "password": "p"})
        assert too_long.json()["field_errors"] == [{"field": "username", "message": "must be 16 or less"}]
        reply = v2.post("login", {"username": "practice", "password": "practice"})
        assert reply.json()["user"]["login"] == "practice"
        assert v2.jobs() == []


@pytest.mark.parametrize(
    ("body", "status", "code", "fields"),
    [
        ({"login": "c", "password": "wrong"}, 401, "AUTH_INVALID_CREDENTIALS", []),
        ({"login": "", "password": KEY}, 422, "VALID_INVALID_FIELD", ["login"]),
        ({"login": "c" * 37, "password": KEY}, 422, "VALID_INVALID_FIELD", ["login"]),
        ({"login": 7, "password": KEY}, 422, "VALID_INVALID_FIELD", ["login"]),
        ({"password": KEY}, 422, "VALID_MISSING_FIELD", ["login"]),
        ({}, 422, "VALID_MISSING_FIELD", ["login", "password"]),
        ([], 422, "VALID_INVALID_FIELD", ["body"]),
    ],
)
def test_v2_bad_logins(sandbox: Sandbox, body: Any, status: int, code: str, fields: list[str]) -> None:
    with ClientV2(sandbox, login=False) as v2:
        reply = v2.post("api_login", body)
        error = reply.json()
        assert (reply.status_code, error["error_code"]) == (status, code)
        assert [entry["field"] for entry in error.get("field_errors", [])] == fields
        assert error["message"]
        assert error["request_id"]
        assert "Set-Cookie" not in reply.headers
        assert sandbox.logins == 0


def test_v2_five_logins_a_minute(sandbox: Sandbox, clock: Clock) -> None:
    with ClientV2(sandbox, login=False) as v2:
        for _ in range(5):
            assert v2.login().status_code == 200
            clock.now += 2
        reply = v2.login()
        assert (reply.status_code, reply.headers["Retry-After"]) == (429, "51")
        assert reply.json()["error_code"] == "RATE_LIMIT_EXCEEDED"
        clock.now += 51
        assert v2.login().status_code == 200
        assert sandbox.logins == 6


def test_v2_access_ends_and_is_renewed(v2: ClientV2, clock: Clock) -> None:
    clock.now += 899
    assert v2.listing().status_code == 200
    clock.now += 1
    reply = v2.listing()
    assert (reply.status_code, reply.json()["error_code"]) == (401, "AUTH_INVALID_TOKEN")
    old = v2.session.cookies["mwa_access_token"]
    renewed = v2.refresh().json()
    assert set(renewed) == {"access_token", "refresh_token", "token_type"}
    assert renewed["access_token"] != old
    assert v2.jobs() == []
    clock.now += WEEK
    assert v2.refresh().json()["error_code"] == "AUTH_INVALID_TOKEN"
    assert v2.sandbox.logins == 1


@pytest.mark.parametrize("token", ["", "a.b", "a.!.c", "a.bnVsbA.c", "a.b.c"])
def test_v2_tokens_that_are_none(v2: ClientV2, token: str) -> None:
    refresh = v2.session.cookies["mwa_refresh_token"]
    v2.session.cookies.clear()
    for reply in (v2.listing(), v2.refresh()):
        assert (reply.status_code, reply.json()["error_code"]) == (401, "AUTH_REQUIRED")
    for wrong in (token, refresh):
        reply = v2.call("GET", "/api/v2/jobs/1", headers={"Cookie": f"mwa_access_token={wrong}"})
        assert (reply.status_code, reply.json()["error_code"]) == (401, "AUTH_INVALID_TOKEN")
    assert payload_of(token) == {}


def test_v2_tokens_of_another_server_are_refused(v2: ClientV2) -> None:
    with Sandbox() as other, ClientV2(other) as elsewhere:
        v2.session.cookies.set(
            "mwa_access_token", elsewhere.session.cookies["mwa_access_token"], domain="127.0.0.1"
        )
        headers = {"Cookie": f"mwa_access_token={elsewhere.session.cookies['mwa_access_token']}"}
        reply = requests.post(f"{v2.sandbox.url}/api/v2/get_jobs", json={}, headers=headers, timeout=TIMEOUT)
        assert reply.json()["error_code"] == "AUTH_INVALID_TOKEN"


def test_v2_wrong_methods_and_paths(v2: ClientV2) -> None:
    reply = v2.call("GET", "/api/v2/get_jobs")
    assert (reply.status_code, reply.headers["Allow"]) == (405, "POST")
    assert v2.call("POST", "/api/v2/jobs/1").headers["Allow"] == "GET"
    assert v2.call("POST", f"/api/v2/observation/metadata/{OBS}").status_code == 405
    for path in ("nowhere", "jobs/x", "jobs/"):
        reply = v2.call("GET", f"/api/v2/{path}")
        assert (reply.status_code, reply.json()["error_code"]) == (404, "NOT_FOUND")


# --- v2: jobs -----------------------------------------------------------------------------------------


def test_v2_tells_of_the_queue(v2: ClientV2) -> None:
    for state in (JobState.QUEUED, JobState.ERROR, JobState.QUEUED):
        v2.sandbox.service.add({"obs_id": str(OBS)}, state=state)
    jobs = v2.jobs(sort_by="id")
    assert [job["queue_position_cache"] for job in jobs] == [1, None, 2]
    assert jobs[0]["estimated_start"] < jobs[2]["estimated_start"] and jobs[1]["estimated_start"] is None
    assert "queue_position_cache" not in v2.one(jobs[0]["id"]).json()


@pytest.mark.parametrize(
    ("kind", "body", "number", "name", "more"),
    [
        ("conversion", {"avg_time_res": 4, "output": "uvfits"}, 0, "uvfits", {"flags": []}),
        ("download", {"download_type": "vis"}, 1, "vis", {}),
        ("download", {}, 1, "vis", {}),
        ("download", {"download_type": "meta"}, 2, "meta", {}),
        ("beamformer", {"mode": "MWAX_CORR_BF", "delivery": "acacia"}, 5, "beamformer", {}),
        ("imaging", {"image_size": 512, "robust": -1, "no_rfi": True}, 6, "image", {}),
    ],
)
def test_v2_a_job(
    v2: ClientV2, kind: str, body: dict[str, Any], number: int, name: str, more: dict[str, Any]
) -> None:
    reply = v2.submit(kind, **body, delivery_format=None)
    assert (reply.status_code, reply.json()) == (
        200, {"job_id": 10001, "status": "success", "message": "Job submitted"},
    )  # fmt: skip
    job = v2.job()
    file = job["product"]["files"][0]
    assert job == {
        "id": 10001,
        "user_id": 7,
        "first_name": "practice",
        "last_name": "account",
        "client": "practice",
        "priority_score": 1,
        "queue_position_cache": None,
        "estimated_start": None,
        "job_type": number,
        "job_state": "completed",
        "job_params": {"obs_id": OBS, **body, **more},
        "product": {
            "files": [{"type": "acacia", "url": file["url"], "size": SIZE, "sha1": v2.sandbox.jobs[0].sha1}]
        },
        "error_code": None,
        "error_text": None,
        "created": "2017-07-14T02:40:00",
        "started": "2017-07-14T02:40:00",
        "completed": "2017-07-14T02:40:00",
        "modified": "2017-07-14T02:40:00",
    }
    in_lists = ("client", "priority_score", "queue_position_cache", "estimated_start")
    assert v2.one(10001).json() == {key: job[key] for key in job if key not in in_lists}
    assert urlsplit(file["url"]).path == f"/mwa-asvo/{OBS}_10001_{name}.tar"
    assert hashlib.sha1(fetch(file["url"]).content).hexdigest() == file["sha1"]


@pytest.mark.parametrize(
    ("kind", "body", "fields"),
    [
        ("conversion", {"obs_id": str(OBS)}, ["obs_id"]),
        ("conversion", {"obs_id": 12}, ["obs_id"]),
        ("conversion", {"obs_id": float(OBS)}, ["obs_id"]),
        ("conversion", {"allow_resubmit": "false"}, ["allow_resubmit"]),
        ("conversion", {"avg_time_res": "2"}, ["avg_time_res"]),
        ("conversion", {"avg_freq_res": 1281}, ["avg_freq_res"]),
        ("conversion", {"avg_freq_res": -0.5, "no_rfi": 1}, ["avg_freq_res", "no_rfi"]),
        ("conversion", {"timeres": 2, "job_type": "c"}, ["timeres", "job_type"]),
        ("conversion", {"delivery": "dug"}, ["delivery"]),
        ("conversion", {"flag_edge_width": True}, ["flag_edge_width"]),
        ("download", {"download_type": "vis_meta"}, ["download_type"]),
        ("voltage", {"offset": 0, "duration": 8, "delivery": "acacia"}, ["delivery"]),
        ("imaging", {"image_size": "512"}, ["image_size"]),
        ("imaging", {"image_size": 513}, ["image_size"]),
    ],
)
def test_v2_fields_of_a_wrong_kind(v2: ClientV2, kind: str, body: dict[str, Any], fields: list[str]) -> None:
    reply = v2.submit(kind, **body)
    error = reply.json()
    assert (reply.status_code, error["error_code"]) == (422, "VALID_INVALID_FIELD")
    assert [entry["field"] for entry in error["field_errors"]] == fields
    assert all(entry["message"] for entry in error["field_errors"])
    assert v2.jobs() == []


@pytest.mark.parametrize(
    ("kind", "body", "fields"),
    [
        ("conversion", {"obs_id": None}, ["obs_id"]),
        ("voltage", {}, ["offset", "duration"]),
        ("image", {}, ["source_job_id"]),
        ("image", {"source_job_id": 3, "obs_id": None}, ["obs_id"]),
        ("conversion", {"centre": "custom", "custom_centre_ra": 10}, ["custom_centre_dec"]),
    ],
)
def test_v2_fields_that_are_missing(v2: ClientV2, kind: str, body: dict[str, Any], fields: list[str]) -> None:
    reply = v2.submit(kind, **body)
    assert (reply.status_code, reply.json()["error_code"]) == (422, "VALID_MISSING_FIELD")
    assert [entry["field"] for entry in reply.json()["field_errors"]] == fields


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (f"obs_id={OBS}", "application/x-www-form-urlencoded"),
        (f'{{"obs_id": {OBS}}}', "text/plain"),
        ("{", "application/json"),
        ("7", "application/json"),
        (f'{{"obs_id": {OBS}, "avg_time_res": NaN}}', "application/json"),
    ],
)
def test_v2_bodies_must_be_json(v2: ClientV2, body: str, kind: str) -> None:
    for path in ("conversion_job", "get_jobs"):
        reply = v2.call("POST", f"/api/v2/{path}", data=body, headers={"Content-Type": kind})
        assert reply.status_code == 422


def test_v2_cancel(v2: ClientV2) -> None:
    v2.sandbox.service.seconds_per_state = 10
    job_id = v2.new_job()
    done = v2.sandbox.service.add({"obs_id": OBS}, state=JobState.READY)
    reply = v2.cancel(job_id)
    assert (reply.status_code, reply.json()["status"]) == (200, "success")
    assert v2.one(job_id).json()["job_state"] == "cancelled"
    again = v2.cancel(job_id)
    assert (again.status_code, again.json()["job_id"], again.json()["status"]) == (200, job_id, "failed")
    assert (v2.cancel(done.id).status_code, v2.cancel(done.id).json()["error_code"]) == (
        400,
        "JOB_NOT_CANCELLABLE",
    )
    for reply in (v2.cancel(99), v2.one(99)):
        assert (reply.status_code, reply.json()["error_code"]) == (404, "JOB_NOT_FOUND")


def test_v2_observation(v2: ClientV2) -> None:
    known = v2.call("GET", f"/api/v2/observation/metadata/{OBS}").json()
    assert {"total_archived_data_bytes", "mode", "duration"} < set(known)
    for unknown in ("12", "orion"):
        reply = v2.call("GET", f"/api/v2/observation/metadata/{unknown}")
        assert (reply.status_code, reply.json()["error_code"]) == (404, "OBSID_NOT_FOUND")


def test_v2_pages(v2: ClientV2, clock: Clock) -> None:
    add = v2.sandbox.service.add
    for number in range(7):
        add(
            {"obs_id": OBS},
            JobType.METADATA if number == 3 else JobType.CONVERSION,
            created=clock.now - number,
        )
    add({"obs_id": OBS}, created=clock.now - 31 * DAY)
    cancelled = add({"obs_id": OBS}, state=JobState.CANCELLED, created=clock.now - 5 * DAY)

    def ids(**wanted: object) -> tuple[list[int], int]:
        body = v2.listing(**wanted).json()
        return [job["id"] - 10000 for job in body["jobs"]], body["total_count"]

    assert ids() == ([9, 7, 6, 5, 4, 3, 2, 1], 8)
    assert ids(limit=3, offset=0, sort_by="id") == ([1, 2, 3], 8)
    assert ids(limit=3, offset=6, sort_by="id") == ([7, 9], 8)
    assert ids(limit=3, offset=9, sort_by="id") == ([], 8)
    assert ids(limit=2, sort_by="created") == ([9, 7], 8)
    assert ids(sort_by="job_type")[0][-1] == 4
    assert ids(days=1)[1] == 7
    assert ids(job_type=2) == ([4], 1)
    assert ids(job_state="cancelled", job_type=None) == ([9], 1)
    assert ids(job_state="completed")[1] == 7
    assert ids(date_from="2017-07-14T02:39:58", sort_by="id") == ([1, 2, 3], 3)
    assert ids(date_to="2017-07-10T00:00:00+00:00") == ([9], 1)
    assert v2.one(10008).json()["job_state"] == "completed", "an old job is not listed, and yet there"
    assert v2.one(cancelled.id).json()["started"] == "2017-07-09T02:40:00"


@pytest.mark.parametrize(
    "wanted",
    [{"days": 31}, {"days": 0}, {"limit": 501}, {"limit": "9"}, {"offset": -1}, {"sort_by": "size"},
     {"page": 2}, {"date_from": "yesterday"}, {"job_type": "c"}],
)  # fmt: skip
def test_v2_listings_that_there_are_none_of(v2: ClientV2, wanted: dict[str, Any]) -> None:
    reply = v2.listing(**wanted)
    assert (reply.status_code, reply.json()["error_code"]) == (422, "VALID_INVALID_FIELD")
    assert next(iter(wanted)) in reply.json()["field_errors"][0]["field"]
