"""The practice service as today's interfaces see it: v1, v2 and the object store, over real sockets."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from mwa_client.sandbox import Interface, Job, JobState, JobType, LoggedRequest, Sandbox, Service
from mwa_client.sandbox.__main__ import main
from mwa_client.sandbox.folders import folder_contents
from mwa_client.sandbox.jobs import default_product_size
from mwa_client.sandbox.keys import FORMS_V1, FORMS_V2, FieldKind, Key
from mwa_client.sandbox.options import Options
from mwa_client.sandbox.products import Content
from mwa_client.sandbox.tokens import payload_of

OBS = 1191828584
SIZE = 200_003
DAY = 86400.0
WEEK = 7 * DAY
TIMEOUT = 20.0
KEY = "practice-key"
FULL_OUTAGE = "Your job cannot be submitted as there is a full outage in progress."


PATHS = {
    "conversion": "conversion_job",
    "download": "download_vis_job",
    "voltage": "voltage_job",
    "beamformer": "beamformer_job",
    "imaging": "imaging_job",
    "image": "preprocessed_imaging_job",
}

C = TypeVar("C", bound="Client")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_500_000_000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """What the clients of both interfaces have to do."""

    def __init__(self, sandbox: Sandbox, *, login: bool = True) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.trust_env = False
        if login:
            assert self.login().status_code == 200

    def __enter__(self: C) -> C:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, self.sandbox.url + path, timeout=TIMEOUT, **options)

    def login(self) -> requests.Response:
        raise NotImplementedError

    def submit(self, kind: str = "conversion", **keys: Any) -> requests.Response:
        raise NotImplementedError

    def cancel(self, job_id: object) -> requests.Response:
        raise NotImplementedError

    def listing(self) -> requests.Response:
        raise NotImplementedError

    def jobs(self) -> list[Any]:
        raise NotImplementedError

    def new_job(self, kind: str = "conversion", **keys: Any) -> int:
        reply = self.submit(kind, **keys)
        assert reply.status_code == 200, reply.text
        job_id = reply.json()["job_id"]
        assert isinstance(job_id, int)
        return job_id

    def job(self) -> Any:
        (job,) = self.jobs()
        return job

    def file(self) -> Any:
        (file,) = self.job()["product"]["files"]
        return file


class ClientV1(Client):
    """Forms and a cookie."""

    def login(self, name: str = "mantaray-clientv2.0", key: str = KEY) -> requests.Response:
        return self.call("POST", "/api/api_login", auth=(name, key))

    def submit(self, kind: str = "conversion", **keys: Any) -> requests.Response:
        form = {"obs_id": OBS, "allow_resubmit": "false", **keys}
        return self.call("POST", f"/api/{PATHS[kind]}", data=form)

    def cancel(self, job_id: object) -> requests.Response:
        return self.call("GET", "/api/cancel_job", params={"job_id": str(job_id)})

    def listing(self) -> requests.Response:
        return self.call("GET", "/api/get_jobs")

    def jobs(self) -> list[Any]:
        return [entry["row"] for entry in self.listing().json()]


class ClientV2(Client):
    """JSON and tokens."""

    def post(self, path: str, body: object) -> requests.Response:
        return self.call("POST", f"/api/v2/{path}", json=body)

    def login(self, name: str = "mantaray-clientv2.0", key: str = KEY) -> requests.Response:
        return self.post("api_login", {"login": name, "password": key})

    def submit(self, kind: str = "conversion", **keys: Any) -> requests.Response:
        path = "image_from_job" if kind == "image" else PATHS[kind]
        return self.post(path, {"obs_id": OBS, "allow_resubmit": False, **keys})

    def cancel(self, job_id: object) -> requests.Response:
        return self.call("DELETE", f"/api/v2/jobs/{job_id}")

    def listing(self, **wanted: object) -> requests.Response:
        return self.post("get_jobs", wanted)

    def jobs(self, **wanted: object) -> list[Any]:
        jobs = self.listing(**wanted).json()["jobs"]
        assert isinstance(jobs, list)
        return jobs

    def one(self, job_id: object) -> requests.Response:
        return self.call("GET", f"/api/v2/jobs/{job_id}")

    def refresh(self) -> requests.Response:
        return self.call("POST", "/api/v2/refresh")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> Iterator[Sandbox]:
    with Sandbox(seconds_per_state=0, clock=clock, product_size=lambda job: SIZE) as sandbox:
        yield sandbox


@pytest.fixture
def v1(sandbox: Sandbox) -> Iterator[ClientV1]:
    with ClientV1(sandbox) as client:
        yield client


@pytest.fixture
def v2(sandbox: Sandbox) -> Iterator[ClientV2]:
    with ClientV2(sandbox) as client:
        yield client


@pytest.fixture(params=[ClientV1, ClientV2], ids=["v1", "v2"])
def client(request: pytest.FixtureRequest, sandbox: Sandbox) -> Iterator[Client]:
    with request.param(sandbox) as client:
        yield client


def fetch(url: str, method: str = "GET", **headers: str) -> requests.Response:
    """Ask the object store, with nothing but the URL."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return requests.request(method, url, headers={"Accept-Encoding": "identity", **named}, timeout=TIMEOUT)


def said(reply: requests.Response) -> tuple[int, Any]:
    """The status and the words of a refusal, in either interface's shape."""
    body = reply.json()
    return reply.status_code, body.get("error", body.get("message"))


def words(client: Client, seconds: int, clock: Clock, step: float = 1.0) -> list[str]:
    """The states of the one job that are seen, one listing a step."""
    seen = []
    for _ in range(seconds):
        seen.append(client.job()["job_state"])
        clock.now += step
    return seen


# --- Who is meant ------------------------------------------------------------------------------------


def test_all_interfaces_on_one_port_know_the_same_jobs(sandbox: Sandbox) -> None:
    with ClientV1(sandbox) as v1, ClientV2(sandbox) as v2, requests.Session() as old:
        assert old.post(f"{sandbox.url}/api/login", auth=("practice", "practice"), timeout=TIMEOUT).ok
        form = {"obs_id": OBS, "timeres": "20", "freqres": "40", "edgewidth": "80", "conversion": "ms"}
        reply = old.post(f"{sandbox.url}/api/conversion_job", data=form, timeout=TIMEOUT)
        assert (reply.status_code, reply.json()) == (200, {"job_id": 10001})
        v1.new_job()
        v2.new_job(avg_time_res=4)
        rows = [entry["row"] for entry in old.get(f"{sandbox.url}/api/get_jobs", timeout=TIMEOUT).json()]
        assert [row["job_state"] for row in rows] == [2, 2, 2]
        assert rows[0]["product"]["files"][0][0] == f"{OBS}_ms.zip"
        for listed in (v1.jobs(), v2.jobs(sort_by="id")):
            assert [job["id"] for job in listed] == [10001, 10002, 10003]
            assert [job["job_state"] for job in listed] == ["completed"] * 3
            assert f"/{OBS}_10001_ms.tar?" in listed[0]["product"]["files"][0]["url"]
        assert [job.made_by for job in sandbox.jobs] == [Interface.V2018, Interface.V1, Interface.V2]
        assert sandbox.logins == 3


@pytest.mark.parametrize(
    ("apis", "statuses"),
    [
        (("2018",), (200, 404, 404)),
        (("v1",), (404, 200, 404)),
        (("v2",), (404, 404, 200)),
        (("v1", "v2"), (404, 200, 200)),
    ],
)
def test_a_sandbox_may_speak_some_interfaces_only(apis: tuple[str, ...], statuses: tuple[int, ...]) -> None:
    with (
        Sandbox(apis=apis) as sandbox,
        ClientV1(sandbox, login=False) as v1,
        ClientV2(sandbox, login=False) as v2,
    ):
        old = v1.call("POST", "/api/login", auth=("practice", "practice"))
        assert (old.status_code, v1.login().status_code, v2.login().status_code) == statuses
        expected = 401 if apis == ("2018",) else 200 if "v1" in apis else 404
        v1.session.cookies.pop("MWA_JOB_COOKIE", None)
        assert v1.call("GET", "/api/get_jobs").status_code == expected


def test_an_interface_that_there_is_none_of() -> None:
    with pytest.raises(ValueError, match="no such api: v3; there are: 2018, v1, v2"):
        Sandbox(apis=("v1", "v3"))
    with pytest.raises(ValueError, match="there are"):
        Sandbox(apis=())


# --- v1: login and calls -----------------------------------------------------------------------------


def test_v1_login(sandbox: Sandbox) -> None:
    with ClientV1(sandbox, login=False) as v1:
        assert v1.listing().status_code == 401
        assert v1.login(key="wrong").status_code == 401
        assert v1.login(name="").status_code == 401
        assert v1.call("POST", "/api/api_login").status_code == 401
        assert sandbox.logins == 0
        assert v1.login(name="giant-squidv2.5.1").headers["Set-Cookie"].endswith("; Path=/; HttpOnly")
        assert v1.jobs() == []
        sandbox.faults.add("expire_session", times=1, api="v1")
        assert said(v1.listing()) == (401, "Not logged in")
        assert v1.login().status_code == 200
        assert v1.jobs() == []
        assert sandbox.logins == 2


def test_v1_wrong_methods(v1: ClientV1) -> None:
    for path, method in [("api_login", "GET"), ("voltage_job", "GET"), ("get_jobs", "POST")]:
        reply = v1.call(method, f"/api/{path}")
        assert reply.status_code == 405
        assert reply.headers["Allow"] != method


def test_v1_no_user_agent_is_403(v1: ClientV1) -> None:
    reply = v1.call("GET", "/api/get_jobs", headers={"User-Agent": ""})
    assert reply.status_code == 403


# --- v1: jobs ----------------------------------------------------------------------------------------

VOLTAGE = {"offset": "0", "duration": "8", "from_channel": "109", "to_channel": "109"}


@pytest.mark.parametrize(
    ("kind", "form", "number", "name", "more"),
    [
        ("conversion", {"avg_time_res": "4", "output": "uvfits"}, 0, "uvfits", {"job_type": "conversion"}),
        ("download", {"download_type": "vis"}, 1, "vis", {"job_type": "download"}),
        ("download", {"download_type": "vis_meta"}, 2, "meta", {"job_type": "download"}),
        ("beamformer", {}, 5, "beamformer", {"job_type": "beamformer"}),
        ("imaging", {"image_size": "512", "no_rfi": "true"}, 6, "image", {"job_type": "imaging"}),
    ],
)
def test_v1_a_row_of_the_listing(
    v1: ClientV1, kind: str, form: dict[str, str], number: int, name: str, more: dict[str, str]
) -> None:
    job_id = v1.new_job(kind, **form)
    (entry,) = v1.listing().json()
    row = entry["row"]
    file = row["product"]["files"][0]
    assert entry == {"action": "INSERT", "table": "jobs", "row": row}
    assert row == {
        "id": job_id,
        "job_type": number,
        "job_state": "completed",
        "user_id": 7,
        "job_params": {
            "obs_id": str(OBS), **form, **more,
            "delivery": "acacia", "priority": 1, "user_pawsey_group": "practice",
        },
        "error_code": None,
        "error_text": None,
        "created": "2017-07-14T02:40:00",
        "started": "2017-07-14T02:40:00",
        "completed": "2017-07-14T02:40:00",
        "product": {
            "files": [{"type": "acacia", "url": file["url"], "size": SIZE, "sha1": v1.sandbox.jobs[0].sha1}]
        },
    }  # fmt: skip
    assert urlsplit(file["url"]).path == f"/mwa-asvo/{OBS}_{job_id}_{name}.tar"
    assert hashlib.sha1(fetch(file["url"]).content).hexdigest() == file["sha1"]


def test_v1_voltage_goes_to_scratch(v1: ClientV1) -> None:
    job_id = v1.new_job("voltage", **VOLTAGE)
    row = v1.job()
    assert (row["job_type"], row["job_params"]["delivery"]) == (3, "scratch")
    assert v1.file() == {"type": "scratch", "path": f"/scratch/practice/asvo/{job_id}", "size": SIZE}
    assert said(v1.submit("voltage", **VOLTAGE, delivery="acacia"))[0] == 400


@pytest.mark.parametrize(
    ("kind", "form", "text"),
    [
        ("conversion", {"obs_id": ""}, "obs_id: must be a whole number"),
        ("conversion", {"obs_id": "5"}, "obs_id: must be 888888889 or more"),
        ("conversion", {"timeres": "20"}, "timeres: unknown field"),
        ("conversion", {"avg_time_res": "64"}, "avg_time_res: must be 32 or less"),
        ("conversion", {"avg_time_res": "nan"}, "avg_time_res: must be a number"),
        ("conversion", {"output": "fits"}, "output: must be one of ms, uvfits"),
        ("conversion", {"no_rfi": "yes"}, "no_rfi: must be true or false"),
        ("conversion", {"allow_resubmit": "True"}, "allow_resubmit: must be true or false"),
        ("conversion", {"centre": "custom"}, "field required with centre=custom"),
        ("download", {}, "Download Type: Expected not None"),
        ("download", {"download_type": "meta"}, "download_type: must be one of vis, vis_meta"),
        ("voltage", {"offset": "0"}, "duration: field required"),
        ("imaging", {"image_size": "500"}, "image_size: must be one of 512, 1024"),
        ("image", {"obs_id": str(OBS)}, "source_job_id: field required"),
    ],
)
def test_v1_invalid_input_is_code_0(v1: ClientV1, kind: str, form: dict[str, str], text: str) -> None:
    reply = v1.submit(kind, **form)
    assert (reply.status_code, reply.json()["error_code"]) == (400, 0)
    assert text in reply.json()["error"]
    assert v1.jobs() == []


def test_v1_the_type_of_the_job_may_be_sent_too(v1: ClientV1) -> None:
    v1.new_job("download", download_type="vis", job_type="d")
    assert v1.job()["job_params"]["job_type"] == "download"


def test_v1_cancel(v1: ClientV1) -> None:
    v1.sandbox.service.seconds_per_state = 10
    job_id = v1.new_job()
    assert v1.cancel(job_id).status_code == 200
    assert v1.job()["job_state"] == "cancelled"
    again = v1.cancel(job_id)
    assert (again.status_code, again.text) == (400, f"Job {job_id} cannot be cancelled: it is cancelled")
    for unknown in ("999", "x", ""):
        reply = v1.cancel(unknown)
        assert (reply.status_code, reply.json()["error_code"]) == (404, 3)
    done = v1.sandbox.service.add({"obs_id": OBS}, state=JobState.READY)
    assert "completed" in v1.cancel(done.id).text


# --- v2: login and tokens ----------------------------------------------------------------------------


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


# --- v2: jobs ----------------------------------------------------------------------------------------


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
    assert v2.one(10001).json() == job
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


# --- Both: jobs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "work"),
    [
        ("conversion", ["preprocessing"]),
        ("download", ["downloading"]),
        ("imaging", ["preprocessing", "imaging"]),
    ],
)
def test_jobs_pass_through_todays_states(clock: Clock, kind: str, work: list[str]) -> None:
    course = ["queued", "staging", *work, "delivering", "completed"]
    keys = {"download_type": "vis"} if kind == "download" else {}
    with (
        Sandbox(clock=clock, product_size=lambda job: 9, apis=("v1", "v2")) as sandbox,
        ClientV1(sandbox) as v1,
    ):
        v1.new_job(kind, **keys)
        assert words(v1, len(course), clock) == course
        sandbox.service.remove(10001)
        with ClientV2(sandbox) as v2:
            v2.new_job(kind, **keys)
            assert words(v2, len(course) + 1, clock) == ["preparing", *course]


def test_the_times_of_a_job(clock: Clock) -> None:
    clock.now += 0.25
    with (
        Sandbox(clock=clock, seconds_per_state=10, product_size=lambda job: 9) as sandbox,
        ClientV1(sandbox) as v1,
        ClientV2(sandbox) as v2,
    ):
        v1.new_job()
        seen = []
        for seconds in (0, 10, 9, 21):
            clock.now += seconds
            row, job = v1.job(), v2.job()
            assert (row["created"], job["created"]) == ("2017-07-14T02:40:00.250000",) * 2
            assert (row["started"], row["completed"]) == (job["started"], job.get("completed"))
            assert ("completed" in job) == (job["job_state"] == "completed")
            seen.append(
                [time and time[-12:-7] for time in (row["started"], row["completed"], job["modified"])]
            )
        assert seen == [
            [None, None, "40:00"],
            ["40:10", None, "40:10"],
            ["40:10", None, "40:10"],
            ["40:10", "40:40", "40:40"],
        ]
        clock.now += 60
        sandbox.service.fail(10001, "No calibration")
        assert v1.job()["completed"].endswith("41:40.250000")
        assert v2.job()["error_text"] == "No calibration"
        sandbox.service.hold(10001, JobState.QUEUED)
        assert v1.job()["started"] is None


@pytest.mark.parametrize(
    ("state", "in_2018", "in_v1", "in_v2"),
    [
        (JobState.PREPARING, 0, "preparing", "preparing"),
        (JobState.WAITCAL, 1, "waitcal", "waitcal"),
        (JobState.PROCESSING, 1, "processing", "preprocessing"),
        (JobState.STAGED, 1, "staged", "staged"),
        (JobState.RETRIEVING, 1, "downloading", "downloading"),
        (JobState.IMAGING, 1, "imaging", "imaging"),
        (JobState.READY, 2, "completed", "completed"),
        (JobState.ERROR, 3, "error", "error"),
        (JobState.EXPIRED, 4, "expired", "completed"),
        (JobState.CANCELLED, 5, "cancelled", "cancelled"),
    ],
)
def test_each_interface_has_its_words(
    v1: ClientV1, v2: ClientV2, state: JobState, in_2018: int, in_v1: str, in_v2: str
) -> None:
    sandbox = v1.sandbox
    sandbox.service.add({"obs_id": str(OBS)}, state=state)
    with requests.Session() as old:
        old.post(f"{sandbox.url}/api/login", auth=("practice", "practice"), timeout=TIMEOUT)
        (entry,) = old.get(f"{sandbox.url}/api/get_jobs", timeout=TIMEOUT).json()
    seen = (entry["row"]["job_state"], v1.job()["job_state"], v2.job()["job_state"])
    assert seen == (in_2018, in_v1, in_v2)


def test_a_product_expires_after_a_week(v1: ClientV1, v2: ClientV2, clock: Clock) -> None:
    v1.new_job()
    clock.now += WEEK - 1
    v2.login()
    url = v1.file()["url"]
    assert fetch(url).status_code == 200
    clock.now += 1
    assert (v1.job()["job_state"], v1.job()["product"]) == ("expired", None)
    assert fetch(url).status_code == 404
    job = v2.job()
    assert (job["job_state"], fetch(job["product"]["files"][0]["url"]).status_code) == ("completed", 404)
    assert v1.new_job() == 10002, "what is lost may be asked for again"


def test_the_same_job_twice(client: Client) -> None:
    job_id = client.new_job(avg_time_res=4)
    reply = client.submit(avg_time_res=4)
    text = "Job already queued, processing or complete"
    assert reply.json()["job_id"] == job_id
    if isinstance(client, ClientV1):
        assert (reply.status_code, reply.json()) == (400, {"error": text, "error_code": 2, "job_id": job_id})
    else:
        assert (reply.status_code, reply.json()["error_code"]) == (409, "JOB_ALREADY_SUBMITTED")
    assert client.sandbox.requests[-1].job_id == job_id
    client.new_job(avg_time_res=4.5)
    client.new_job(avg_time_res=4, obs_id=OBS + 8)
    client.new_job(avg_time_res=4, delivery="scratch")
    client.new_job("imaging", avg_time_res=4)
    again = "true" if isinstance(client, ClientV1) else True
    assert client.new_job(avg_time_res=4, allow_resubmit=again) == 10006
    assert "allow_resubmit" not in client.jobs()[-1]["job_params"]


def test_what_is_the_same_in_two_interfaces(v1: ClientV1, v2: ClientV2) -> None:
    job_id = v2.new_job(avg_time_res=4, no_rfi=True)
    assert v1.submit(avg_time_res="4.0", no_rfi="true", delivery="acacia").json()["job_id"] == job_id
    meta = v1.new_job("download", download_type="vis_meta")
    assert v2.submit("download", download_type="meta").json()["job_id"] == meta
    assert v2.one(meta).json()["job_params"]["download_type"] == "meta"
    assert v1.jobs()[0]["job_params"]["no_rfi"] == "true"


@pytest.mark.parametrize("state", [JobState.ERROR, JobState.EXPIRED, JobState.CANCELLED])
def test_a_job_that_is_lost_is_no_duplicate(client: Client, state: JobState) -> None:
    job_id = client.new_job()
    client.sandbox.service.hold(job_id, state)
    assert client.new_job() == job_id + 1


def test_job_limit(clock: Clock) -> None:
    with (
        Sandbox(job_limit=2, clock=clock, product_size=lambda job: 9) as sandbox,
        ClientV1(sandbox) as v1,
        ClientV2(sandbox) as v2,
    ):
        v1.new_job(obs_id=OBS)
        v2.new_job(obs_id=OBS + 8)
        reply = v1.submit(obs_id=OBS + 16)
        text = "Job limit reached: you may have 2 unfinished jobs."
        assert (reply.status_code, reply.json()) == (400, {"error": text, "error_code": 1})
        reply = v2.submit(obs_id=OBS + 16)
        assert (reply.status_code, reply.json()["error_code"]) == (400, "JOB_LIMIT_REACHED")
        assert v1.submit(obs_id=OBS).json()["error_code"] == 2, "what is there is no new job"
        clock.now += 4
        v1.new_job(obs_id=OBS + 16)


def test_an_image_of_a_finished_job(client: Client) -> None:
    converted = client.new_job(avg_time_res=4)
    imaged = client.new_job("image", source_job_id=converted, pixel_scale=20, obs_id=OBS)
    assert client.sandbox.jobs[-1].type is JobType.IMAGING
    body = {"source_job_id": converted, "robust": 1, "obs_id": OBS}
    path = "/api/preprocessed_imaging_job" if isinstance(client, ClientV1) else "/api/v2/image_from_job"
    options = {"data": body} if isinstance(client, ClientV1) else {"json": body}
    assert client.call("POST", path, **options).json()["job_id"] == imaged + 1
    assert client.sandbox.jobs[-1].obs_id == str(OBS)
    reply = client.submit("image", source_job_id=99)
    assert (reply.status_code, reply.json()["error_code"] in (3, "JOB_NOT_FOUND")) == (404, True)
    status, text = said(client.submit("image", source_job_id=imaged))
    assert (status, text) == (400, f"Job {imaged} is not a completed conversion job")
    client.sandbox.service.hold(converted, JobState.STAGING)
    assert client.submit("image", source_job_id=converted).status_code == 400


def test_jobs_of_every_type_are_found_again(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "sandbox.json"

    def make() -> Sandbox:
        return Sandbox(state_file=file, clock=clock, product_size=lambda job: 500)

    with make() as sandbox, ClientV1(sandbox) as v1, ClientV2(sandbox) as v2:
        v2.new_job(avg_time_res=2.5, no_rfi=True)
        v1.new_job("voltage", **VOLTAGE)
        v2.new_job("beamformer")
        v2.new_job("imaging", image_size=512)
        v1.new_job("download", download_type="vis_meta")
        sandbox.service.add({"obs_id": OBS}, JobType.VISIBILITIES, state=JobState.WAITCAL, sha1="1" * 40)
        clock.now += 3
        before, listed = sandbox.jobs, v2.jobs()
    with make() as sandbox, ClientV2(sandbox) as v2:
        assert sandbox.jobs == before
        assert [job.made_by.value for job in before] == ["v2", "v1", "v2", "v2", "v1", "2018"]
        assert v2.jobs() == listed


def test_a_state_file_of_the_days_before_is_read(tmp_path: Path) -> None:
    old = {
        "id": 10001, "type": "vis", "params": {"obs_id": str(OBS)}, "created": 1.5e9, "size": 7,
        "file_name": f"{OBS}_vis.zip", "fixed_state": None, "error_text": None,
    }  # fmt: skip
    file = tmp_path / "sandbox.json"
    file.write_text(json.dumps({"next_id": 10002, "jobs": [old]}))
    (job,) = Sandbox(state_file=file).jobs
    assert (job.made_by, job.given_sha1, job.object_name) == (Interface.V2018, None, f"{OBS}_10001_vis.tar")


def test_default_sizes_of_todays_jobs_vary_a_little() -> None:
    for kind, middle in [(JobType.VOLTAGE, 3e6), (JobType.BEAMFORMER, 8e6), (JobType.IMAGING, 4e6)]:
        sizes = [default_product_size(Job(n, kind, {}, 0.0)) for n in range(10001, 10051)]
        assert len(set(sizes)) == 50
        assert 0.9 * middle <= min(sizes) <= max(sizes) <= 1.1 * middle


def test_a_job_is_under_way_or_it_is_not(clock: Clock) -> None:
    service = Service(Options(clock=clock))
    job = service.add({"obs_id": OBS}, created=clock.now + 5)
    assert service.state(job) is JobState.QUEUED, "a clock that went back"


# --- The object store --------------------------------------------------------------------------------


def test_store_the_whole_and_its_parts(v1: ClientV1) -> None:
    v1.new_job()
    url = v1.file()["url"]
    true = b"".join(v1.sandbox.jobs[0].content.pieces())
    assert url.startswith(v1.sandbox.object_store_url)
    assert v1.sandbox.object_store_url != v1.sandbox.url
    whole = fetch(url)
    assert (whole.status_code, whole.content == true) == (200, True)
    assert whole.headers["Accept-Ranges"] == "bytes"
    etag = whole.headers["ETag"]
    assert etag.startswith('"')
    part = fetch(url, Range="bytes=5-9", If_Range=etag)
    assert (part.status_code, part.content) == (206, true[5:10])
    assert part.headers["Content-Range"] == f"bytes 5-9/{SIZE}"
    assert fetch(url, Range="bytes=5-9", If_Range='"other"').content == true[5:10]
    beyond = fetch(url, Range=f"bytes={SIZE}-")
    assert (beyond.status_code, "Content-Range" in beyond.headers) == (416, False)


def test_store_signed_for_get_alone(v1: ClientV1) -> None:
    v1.new_job()
    url = v1.file()["url"]
    for method in ("HEAD", "PUT", "DELETE", "POST", "OPTIONS"):
        assert fetch(url, method).status_code == 403
    assert fetch(url).status_code == 200


def test_store_wrong_signatures(v1: ClientV1, clock: Clock) -> None:
    first, second = v1.new_job(), v1.new_job(obs_id=OBS + 8)
    url = v1.jobs()[0]["product"]["files"][0]["url"]
    expires = int(parse_qs(urlsplit(url).query)["Expires"][0])
    assert expires == clock.now + WEEK
    wrong = [
        url.replace("Signature=", "Signature=x"),
        url.replace(f"Expires={expires}", f"Expires={expires + 1}"),
        url.replace(f"Expires={expires}", "Expires=never"),
        url.replace(f"{OBS}_{first}", f"{OBS + 8}_{second}"),
        url.replace("AWSAccessKeyId=practice", "AWSAccessKeyId=you"),
        url.partition("?")[0],
        v1.sandbox.object_store_url,
    ]
    for reply in map(fetch, wrong):
        assert (reply.status_code, reply.headers["Content-Type"]) == (403, "application/xml")
        assert "<Error><Code>" in reply.text
    assert fetch(wrong[0]).text.count("SignatureDoesNotMatch") == 1


def test_store_links_die_and_a_listing_has_fresh_ones(clock: Clock) -> None:
    with (
        Sandbox(seconds_per_state=0, clock=clock, link_seconds=60, product_size=lambda job: 9) as sandbox,
        ClientV1(sandbox) as v1,
    ):
        v1.new_job()
        url = v1.file()["url"]
        clock.now += 59
        assert fetch(url).status_code == 200
        clock.now += 1
        reply = fetch(url)
        assert (reply.status_code, "<Code>AccessDenied</Code>" in reply.text) == (403, True)
        fresh = v1.file()["url"]
        assert fresh != url
        assert fetch(fresh).status_code == 200


@pytest.mark.parametrize("kind", [ClientV1, ClientV2])
def test_a_product_can_be_with_another_server(sandbox: Sandbox, kind: type[Client]) -> None:
    url = "http://127.0.0.1:8080/product.tar"
    sandbox.service.add(
        {"obs_id": OBS}, JobType.VISIBILITIES, state=JobState.READY, size=9, sha1="2" * 40, url=url
    )
    with kind(sandbox) as client:
        assert client.file() == {"type": "acacia", "url": url, "size": 9, "sha1": "2" * 40}


def test_store_what_is_not_there(v1: ClientV1) -> None:
    job_id = v1.new_job()
    url = v1.file()["url"]
    v1.sandbox.service.expire(job_id)
    gone = fetch(url)
    assert (gone.status_code, "NoSuchKey" in gone.text) == (404, True)
    v1.sandbox.service.remove(job_id)
    assert fetch(url).status_code == 404


def test_store_links_hold_when_the_sandbox_was_away(v1: ClientV1) -> None:
    v1.new_job()
    url, store = v1.file()["url"], v1.sandbox.object_store_url
    v1.sandbox.stop()
    with pytest.raises(requests.ConnectionError):
        fetch(url)
    v1.sandbox.start()
    assert v1.sandbox.object_store_url == store
    assert fetch(url).status_code == 200


def test_store_a_taken_port(sandbox: Sandbox) -> None:
    taken = int(sandbox.object_store_url.rpartition(":")[2])
    other = Sandbox(store_port=taken)
    with pytest.raises(OSError, match="in use"):
        other.start()
    with pytest.raises(requests.ConnectionError):
        requests.get(other.url, timeout=TIMEOUT)


def test_store_requests_are_noted_apart(v1: ClientV1) -> None:
    job_id = v1.new_job()
    fetch(v1.file()["url"], Range="bytes=0-9", Cookie="a=b")
    last = v1.sandbox.requests[-1]
    assert isinstance(last, LoggedRequest)
    assert (last.store, last.job_id, last.status, last.range) == (True, job_id, 206, "bytes=0-9")
    assert (last.body_bytes_sent, last.headers["cookie"]) == (10, "a=b")
    assert set(last.query) == {"AWSAccessKeyId", "Signature", "Expires"}
    assert [entry.store for entry in v1.sandbox.requests[:-1]] == [False] * 3


def test_store_product_faults_work_there_too(v1: ClientV1) -> None:
    job_id = v1.new_job()
    url = v1.file()["url"]
    true = fetch(url).content
    faults = v1.sandbox.faults
    handles = [faults.add("cut_product", after=1000, times=1, api="store", obs_id=OBS)]
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        fetch(url)
    handles.append(faults.add("ignore_range", times=1, job_id=job_id))
    assert fetch(url, Range="bytes=1-2").status_code == 200
    handles.append(faults.add("corrupt_byte", times=1, path="/mwa-asvo/*"))
    assert fetch(url).content[:2] == bytes([true[0] ^ 0xFF, true[1]])
    handles.append(faults.add("weak_etag", times=1))
    assert fetch(url).headers["ETag"].startswith("W/")
    handles.append(faults.add("busy", times=1, retry_after=9))
    assert fetch(url).headers["Retry-After"] == "9"
    handles.append(faults.add("product_status", times=1, status=403))
    assert fetch(url).status_code == 403
    assert [handle.hits for handle in handles] == [1] * 6
    assert fetch(url).content == true


def test_store_a_product_goes_elsewhere(v1: ClientV1) -> None:
    v1.new_job()
    url = v1.file()["url"]
    with Sandbox() as other:
        v1.sandbox.faults.add("redirect", url=f"{other.object_store_url}/else")
        assert fetch(url).status_code == 403
        assert other.requests[0].store


# --- Deliveries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delivery", "root"), [("scratch", "/scratch"), ("dug", "/data")])
def test_deliveries_that_this_machine_does_not_see(client: Client, delivery: str, root: str) -> None:
    job_id = client.new_job("download", download_type="vis", delivery=delivery)
    assert client.job()["job_params"]["delivery"] == delivery
    file = client.file()
    path = f"{root}/practice/asvo/{job_id}"
    assert (file["type"], file["path"], file["size"]) == (delivery, path, SIZE)
    assert "url" not in file
    assert not Path(path).exists()


def test_deliveries_into_a_real_folder(clock: Clock, tmp_path: Path) -> None:
    root = tmp_path / "asvo"
    with (
        Sandbox(clock=clock, scratch_folder=root, product_size=lambda job: 1_000_000) as sandbox,
        ClientV1(sandbox) as v1,
        ClientV2(sandbox) as v2,
    ):
        job_id = v1.new_job("voltage", **VOLTAGE)
        v2.jobs()
        assert not root.exists()
        clock.now += 4
        assert v1.file() == {"type": "scratch", "path": str(root / str(job_id)), "size": 1_000_000}
        folder = Path(v2.file()["path"])
        found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}
        contents = folder_contents(sandbox.jobs[0])
        assert len(found) == 3
        assert found == {name: b"".join(content.pieces()) for name, content in contents.items()}
        assert sum(map(len, found.values())) == 1_000_000
        assert [path.name for path in root.iterdir()] == [str(job_id)]
        for path in folder.rglob("*.*"):
            path.unlink()
        v1.jobs()
        assert list(folder.rglob("*.*")) == [], "what is removed stays removed"


def test_deliveries_are_not_written_again_after_a_restart(clock: Clock, tmp_path: Path) -> None:
    root, state = tmp_path / "asvo", tmp_path / "state.json"
    for _ in range(2):
        with Sandbox(clock=clock, seconds_per_state=0, scratch_folder=root, state_file=state) as sandbox:
            if not sandbox.jobs:
                sandbox.service.add({"obs_id": OBS, "delivery": "dug"}, JobType.METADATA, size=9)
            with ClientV2(sandbox) as v2:
                (root / "10001" / "mine").mkdir(parents=True, exist_ok=True)
                assert v2.file()["type"] == "dug"
                assert [path.name for path in (root / "10001").iterdir()] == ["mine"]


def test_what_went_to_a_folder_is_not_in_the_store(v1: ClientV1) -> None:
    v1.new_job("download", download_type="vis", delivery="scratch")
    (job,) = v1.sandbox.jobs
    assert fetch(v1.sandbox._store.url_of(job)).status_code == 404


# --- Faults: logins and tokens -----------------------------------------------------------------------


def test_unknown_client(sandbox: Sandbox) -> None:
    handle = sandbox.faults.add("unknown_client", name="mantaray*")
    for kind in (ClientV1, ClientV2):
        with kind(sandbox, login=False) as client:
            assert said(client.login()) == (
                403,
                "Client mantaray-clientv2.0 is not supported; please upgrade",
            )
            assert client.login(name="giant-squidv2.5.1").status_code == 200
    with ClientV2(sandbox, login=False) as v2:
        assert v2.post("login", {"username": "practice", "password": "practice"}).status_code == 200
        assert v2.post("api_login", []).status_code == 422
    assert handle.hits == 2


def test_refuse_login(client: Client) -> None:
    client.sandbox.faults.add("refuse_login", times=1, text="Account is locked")
    assert said(client.login()) == (401, "Account is locked")
    assert client.login().status_code == 200


def test_login_limit(client: Client) -> None:
    client.sandbox.faults.add("login_limit", times=1, retry_after=17)
    reply = client.login()
    assert (reply.status_code, reply.headers["Retry-After"]) == (429, "17")
    client.sandbox.faults.add("login_limit", times=1, retry_after=None)
    assert "Retry-After" not in client.login().headers
    assert client.login().status_code == 200


def test_expire_tokens(v1: ClientV1, v2: ClientV2) -> None:
    handle = v2.sandbox.faults.add("expire_tokens", times=1)
    assert v1.jobs() == []
    for _ in range(2):
        assert v2.listing().json()["error_code"] == "AUTH_INVALID_TOKEN"
    assert v2.refresh().status_code == 200
    assert v2.jobs() == []
    assert v1.jobs() == []
    assert handle.hits == 1


def test_expire_session_takes_everything(v1: ClientV1, v2: ClientV2) -> None:
    v2.sandbox.faults.add("expire_session", times=1, path="/api/v2/get_jobs")
    for reply in (v2.listing(), v2.refresh()):
        assert (reply.status_code, reply.json()["error_code"]) == (401, "AUTH_INVALID_TOKEN")
    assert v1.listing().status_code == 401
    assert v2.login().status_code == 200
    assert v2.jobs() == []


def test_refuse_refresh(v2: ClientV2) -> None:
    v2.sandbox.faults.add("refuse_refresh", times=1)
    reply = v2.refresh()
    assert (reply.status_code, reply.json()["error_code"]) == (401, "AUTH_INVALID_TOKEN")
    assert v2.refresh().status_code == 200


def test_fail_call_with_pages(client: Client) -> None:
    client.sandbox.faults.add("fail_call", status=[502, 503])
    for status in (502, 503):
        reply = client.listing()
        assert (reply.status_code, f"<h1>{status}" in reply.text) == (status, True)
    assert client.jobs() == []


# --- Faults: submissions -----------------------------------------------------------------------------


def code_of(client: Client, v1: int, v2: str) -> int | str:
    return v1 if isinstance(client, ClientV1) else v2


def test_outage(client: Client) -> None:
    client.sandbox.faults.add("outage", times=1)
    client.sandbox.faults.add("outage", times=1, text="The staging server is down", status=503, code="DOWN")
    first, second = client.submit(), client.submit()
    assert said(first) == (400, FULL_OUTAGE)
    assert first.json()["error_code"] == code_of(client, 0, "SERVICE_OUTAGE")
    assert said(second) == (503, "The staging server is down")
    assert second.json()["error_code"] == code_of(client, 0, "DOWN")
    assert client.new_job() == 10001


def test_partial_outage(client: Client) -> None:
    handle = client.sandbox.faults.add("partial_outage")
    status, text = said(client.submit())
    assert (status, text[:59]) == (400, "Your job cannot be submitted as there is a partial outage, ")
    assert text.endswith("please use a delivery location other than acacia.")
    assert client.submit("image", source_job_id=1).status_code == 400
    client.new_job(delivery="scratch")
    client.new_job("voltage", offset=0, duration=8)
    assert handle.hits == 2
    client.sandbox.faults.add("partial_outage", delivery="scratch")
    assert said(client.submit("voltage", offset=0, duration=9))[1].endswith("other than scratch.")


def test_obs_not_found(client: Client) -> None:
    client.sandbox.faults.add("obs_not_found", obs_id=OBS + 8)
    client.new_job()
    reply = client.submit(obs_id=OBS + 8)
    assert said(reply) == (
        code_of(client, 400, "404") and reply.status_code,
        f"Observation {OBS + 8} does not exist",
    )
    assert (reply.status_code, reply.json()["error_code"]) == (
        (400, 0) if isinstance(client, ClientV1) else (404, "OBSID_NOT_FOUND")
    )
    if isinstance(client, ClientV2):
        path = f"/api/v2/observation/metadata/{OBS + 8}"
        assert client.call("GET", path).json()["error_code"] == "OBSID_NOT_FOUND"
    client.sandbox.faults.clear()
    client.sandbox.faults.add("obs_not_found", text="No obs locations found", obs_id=OBS)
    assert said(client.submit())[1] == "No obs locations found"


def test_faults_find_the_observation_of_a_source_job(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("obs_not_found", obs_id=OBS)
    body = {"source_job_id": job_id}
    if isinstance(client, ClientV2):
        assert client.post("image_from_job", body).status_code == 404
        assert client.post("image_from_job", {"source_job_id": "x"}).status_code == 422
    else:
        assert client.call("POST", "/api/preprocessed_imaging_job", data=body).status_code == 400


def test_permission_denied(client: Client) -> None:
    client.sandbox.faults.add("permission_denied", times=1)
    reply = client.submit()
    assert said(reply) == (403, "Permission denied")
    if isinstance(client, ClientV1):
        assert reply.json() == {"error": "Permission denied"}
    else:
        assert reply.json()["error_code"] == "PERMISSION_DENIED"


def test_refuse_submission(client: Client) -> None:
    faults = client.sandbox.faults
    faults.add("refuse_submission", times=1)
    faults.add("refuse_submission", times=1, code=1, text="Limit")
    faults.add("refuse_submission", times=1, code="ODD", text="Odd")
    faults.add("refuse_submission", times=1, json=False)
    codes = [client.submit().json()["error_code"] for _ in range(3)]
    usual = code_of(client, 0, "OBSID_NOT_FOUND")
    assert codes == [usual, code_of(client, 1, "OBSID_NOT_FOUND"), code_of(client, 0, "ODD")]
    assert client.submit().text == "Observation does not exist"


def test_duplicate_answers(client: Client) -> None:
    job_id = client.new_job()
    faults = client.sandbox.faults
    words = "Job already queued or processing."
    faults.add("duplicate_reply", status=[200, 404], text=[None, words])
    first, second = client.submit(), client.submit()
    assert said(first) == (200, "Job already queued, processing or complete")
    assert said(second) == (404, words)
    assert first.json()["job_id"] == second.json()["job_id"] == job_id
    faults.add("duplicate_without_id", times=1)
    third = client.submit()
    assert third.json()["error_code"] == code_of(client, 2, "JOB_ALREADY_SUBMITTED")
    assert "job_id" not in third.json()
    assert len(client.jobs()) == 1


def test_drop_reply(client: Client) -> None:
    client.sandbox.faults.add("drop_reply", times=1)
    with pytest.raises(requests.ConnectionError):
        client.submit()
    assert client.job()["id"] == 10001


def test_documents_of_submissions(client: Client) -> None:
    faults = client.sandbox.faults
    for name in ("strings_for_numbers", "null_job_id", "missing_field"):
        faults.add(name, times=1)
        job_id = client.submit(obs_id=OBS + len(name)).json().get("job_id", "nothing")
        assert job_id == {"strings_for_numbers": "10001", "null_job_id": None}.get(name, "nothing")


# --- Faults: listings --------------------------------------------------------------------------------


def spoilt(client: Client, fault: str, **options: Any) -> Any:
    """The one job as a fault shows it, once."""
    handle = client.sandbox.faults.add(fault, times=1, **options)
    job = client.job()
    assert handle.hits == 1
    return job


def test_listings_that_do_not_tell_the_truth(client: Client) -> None:
    job_id = client.new_job()
    file = client.file()

    def files(fault: str, **options: Any) -> Any:
        return spoilt(client, fault, **options)["product"]["files"]

    assert spoilt(client, "null_product")["product"] is None
    assert "product" not in spoilt(client, "missing_product")
    assert files("missing_product", empty=True) == []
    assert files("no_sha1") == [{key: value for key, value in file.items() if key != "sha1"}]
    assert files("wrong_sha1") == [{**file, "sha1": "0" * 40}]
    assert files("wrong_size", by=2) == [{**file, "size": SIZE + 2}]
    assert files("unknown_delivery") == [{"type": "tape", "size": SIZE, "sha1": file["sha1"]}]
    assert spoilt(client, "unknown_state", state="polishing")["job_state"] == "polishing"
    assert spoilt(client, "unknown_job_type")["job_type"] == 99
    assert spoilt(client, "unknown_job_type", type="gridding")["job_type"] == "gridding"
    assert "job_state" not in spoilt(client, "missing_field", field="job_state")
    strings = spoilt(client, "strings_for_numbers")
    assert (strings["id"], strings["product"]["files"][0]["size"]) == (str(job_id), str(SIZE))
    assert strings["job_params"]["obs_id"] == str(OBS)
    client.sandbox.faults.add("missing_job", times=1)
    assert client.jobs() == []
    assert client.file() == file


def test_faults_of_products_wait_until_there_is_one(client: Client) -> None:
    client.sandbox.service.seconds_per_state = 60
    client.new_job()
    names = ("missing_product", "unknown_delivery", "expired_link", "null_error_text", "null_product")
    handles = [client.sandbox.faults.add(name) for name in names]
    assert client.job()["product"] is None
    assert [handle.hits for handle in handles] == [0] * len(names)


def test_obs_id_as_string(v1: ClientV1, v2: ClientV2) -> None:
    v2.new_job()
    assert spoilt(v2, "obs_id_as_string")["job_params"]["obs_id"] == str(OBS)
    assert v2.job()["job_params"]["obs_id"] == OBS
    v2.sandbox.faults.add("obs_id_as_string")
    assert v1.job()["job_params"]["obs_id"] == str(OBS)


def test_errors_with_and_without_words(client: Client) -> None:
    client.sandbox.service.fail(client.new_job(), "Staging failed")
    assert (client.job()["job_state"], client.job()["error_text"]) == ("error", "Staging failed")
    assert spoilt(client, "null_error_text")["error_text"] is None
    assert client.job()["product"] is None


@pytest.mark.parametrize(("name", "word"), [("job_error", "error"), ("cancel_job", "cancelled")])
def test_what_becomes_of_a_job_is_for_good(client: Client, name: str, word: str) -> None:
    client.new_job()
    client.sandbox.faults.add(name, times=1)
    assert [client.job()["job_state"] for _ in range(2)] == [word, word]


def test_hostile_name(client: Client) -> None:
    client.new_job()
    client.sandbox.faults.add("hostile_name", times=1, name="../../.ssh/a b?&é")
    url = client.file()["url"]
    assert "/mwa-asvo/..%2F..%2F.ssh%2Fa%20b%3F%26%C3%A9?" in url
    assert fetch(url).content == b"".join(client.sandbox.jobs[0].content.pieces())


def test_extra_job_rows(client: Client) -> None:
    client.new_job()
    client.sandbox.faults.add("extra_job_rows")
    body = client.listing().json()
    entries = body if isinstance(body, list) else body["jobs"]
    assert len(entries) == 7
    assert None in entries


def test_one_job_can_be_asked_for_with_faults(v2: ClientV2) -> None:
    job_id = v2.new_job()
    handle = v2.sandbox.faults.add("unknown_state", state="polishing", job_id=job_id, times=1)
    assert v2.one(job_id).json()["job_state"] == "polishing"
    v2.sandbox.faults.add("missing_job", path="/api/v2/jobs/*")
    assert v2.one(job_id).json()["error_code"] == "JOB_NOT_FOUND"
    assert v2.job()["job_state"] == "completed"
    assert handle.hits == 1


# --- Faults: links -----------------------------------------------------------------------------------


def test_expired_link(client: Client) -> None:
    client.new_job()
    stale = spoilt(client, "expired_link")["product"]["files"][0]["url"]
    for _ in range(2):
        assert fetch(stale).status_code == 403
    assert fetch(client.file()["url"]).status_code == 200
    client.new_job("download", download_type="vis", delivery="scratch")
    assert client.sandbox.faults.add("expired_link", job_id=10002).hits == 0
    assert len(client.jobs()) == 2


def test_product_gone(v1: ClientV1) -> None:
    job_id = v1.new_job()
    v1.sandbox.faults.add("product_gone", times=2)
    gone = fetch(v1.file()["url"])
    assert (gone.status_code, "NoSuchKey" in gone.text) == (404, True)
    params: dict[str, Any] = {"job_id": job_id, "file_name": f"{OBS}_ms.zip"}
    with requests.Session() as old:
        old.post(f"{v1.sandbox.url}/api/login", auth=("practice", "practice"), timeout=TIMEOUT)
        assert old.get(f"{v1.sandbox.url}/api/download", params=params, timeout=TIMEOUT).status_code == 410


def test_a_fault_may_be_for_one_interface(v1: ClientV1, v2: ClientV2) -> None:
    faults = v1.sandbox.faults
    faults.add("fail_call", api="v2")
    assert v1.listing().status_code == 200
    assert v2.listing().status_code == 500
    with pytest.raises(ValueError, match="no such api here: v1"):
        faults.add("expire_tokens", api="v1")
    with pytest.raises(ValueError, match="no such api here: v3"):
        faults.add("outage", api="v3")


def test_a_refusal_of_the_store_is_xml(v1: ClientV1) -> None:
    v1.new_job()
    url = v1.file()["url"]
    v1.sandbox.faults.add("outage", path="/mwa-asvo/*", text="a < b", status=503)
    reply = fetch(url)
    assert (reply.status_code, "<Message>a &lt; b</Message>" in reply.text) == (503, True)


# --- The log, the clock, the command -----------------------------------------------------------------


def test_the_log_has_json_and_no_credentials(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    with (
        Sandbox(seconds_per_state=0, log_file=file, product_size=lambda job: 9, api_key="s3cr3t") as sandbox,
        ClientV2(sandbox, login=False) as v2,
        ClientV1(sandbox, login=False) as v1,
    ):
        assert v2.login(key="s3cr3t").status_code == 200
        assert v1.login(key="s3cr3t").status_code == 200
        v2.new_job()
        v2.post("get_jobs", [1])
        url = v2.file()["url"]
        fetch(url)
        secrets = [*v1.session.cookies.values(), *v2.session.cookies.values(), "s3cr3t"]
        secrets.append(parse_qs(urlsplit(url).query)["Signature"][0])
    text = file.read_text()
    assert not any(secret in text for secret in secrets)
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines[0]["json"] == {"login": "mantaray-clientv2.0", "password": "***"}
    assert lines[2]["json"] == {"obs_id": OBS, "allow_resubmit": False}
    assert (lines[3]["json"], lines[1]["json"]) == ([1], None)
    assert (lines[-1]["store"], lines[-1]["query"]["Signature"]) == (True, "***")
    assert sandbox.requests[2].json == {"obs_id": OBS, "allow_resubmit": False}


@pytest.mark.parametrize("kind", [ClientV1, ClientV2])
def test_ten_thousand_jobs_are_listed_quickly(sandbox: Sandbox, kind: type[Client]) -> None:
    for number in range(10_000):
        sandbox.service.add({"obs_id": OBS + number}, size=10**9, sha1="a" * 40, made_by=Interface.V1)
    with kind(sandbox) as client:
        began = time.process_time()
        if isinstance(client, ClientV2):
            pages = [client.jobs(limit=500, offset=n, sort_by="id") for n in range(0, 10_000, 500)]
            jobs = [job for page in pages for job in page]
        else:
            jobs = client.jobs()
        assert time.process_time() - began < 5
    assert len({job["id"] for job in jobs}) == 10_000
    assert jobs[-1]["product"]["files"][0]["sha1"] == "a" * 40


def test_the_sha1_of_small_products_is_cheap() -> None:
    began = time.process_time()
    sums = {Content(f"job {number}", 500).sha1 for number in range(2000)}
    assert len(sums) == 2000
    assert time.process_time() - began < 2


def test_the_command_speaks_all_or_some(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said: list[str] = []

    def wait() -> None:
        said.append(capsys.readouterr().out)
        url = said[-1].split("MWA_ASVO_HOST=")[1].split()[0]
        reply = requests.post(f"{url}/api/api_login", auth=("client", KEY), timeout=TIMEOUT)
        assert reply.status_code == 200
        raise KeyboardInterrupt

    assert main([], wait) == 0
    assert main(["--apis", "v1, v2", "--scratch-folder", str(tmp_path), "--job-limit", "3"], wait) == 0
    assert f"MWA_ASVO_API_KEY={KEY}" in said[0]
    assert "ASVO_USER=practice" in said[0]
    assert "ASVO_USER" not in said[1]
    with pytest.raises(SystemExit):
        main(["--apis", "v3"])
    assert "no such api: v3" in capsys.readouterr().err

    def refuse() -> None:
        assert "MWA_ASVO_HOST" not in capsys.readouterr().out
        raise KeyboardInterrupt

    assert main(["--apis", "2018"], refuse) == 0


# --- The keys ----------------------------------------------------------------------------------------

LETTERS = {
    "c": ["conversion_job"],
    "d": ["download_vis_job"],
    "v": ["voltage_job"],
    "b": ["beamformer_job"],
    "i": ["imaging_job", "image_from_job"],
}
KINDS = {
    "integer": FieldKind.WHOLE,
    "decimal": FieldKind.NUMBER,
    "boolean": FieldKind.SWITCH,
    "choice": FieldKind.CHOICE,
}


def table() -> list[dict[str, str]]:
    with (Path(__file__).parents[1] / "data" / "job_keys.csv").open(encoding="utf-8", newline="") as lines:
        return [row for row in csv.DictReader(lines) if not row["key"].startswith("(")]


def keys_of(orders: Any, path: str) -> dict[str, Key]:
    return {key.name: key for key in orders[path].keys}


@pytest.mark.parametrize(
    "row", [row for row in table() if row["key"] not in ("", "job_type")], ids=lambda row: row["key"]
)
def test_v2_knows_every_key_of_the_table(row: dict[str, str]) -> None:
    letters = LETTERS if row["job_type"] == "any" else [row["job_type"]]
    for path in [path for letter in letters for path in LETTERS[letter]]:
        if row["key"] == "source_job_id" and path != "image_from_job":
            continue
        key = keys_of(FORMS_V2, path)[row["key"]]
        assert key.kind is KINDS[row["kind"]]
        if key.kind is FieldKind.CHOICE:
            choices = [word.replace("vis_meta", "meta") for word in row["choices"].split("|")]
            assert {str(choice) for choice in key.choices} <= set(choices)
            continue
        assert key.minimum == (float(row["minimum"]) if row["minimum"] else None)
        assert key.maximum == (float(row["maximum"]) if row["maximum"] else None)


def test_each_interface_knows_the_keys_of_the_table_and_no_others() -> None:
    rows = table()
    for orders, column in ((FORMS_V2, "key"), (FORMS_V1, "v1_key")):
        for letter, paths in LETTERS.items():
            common = {row[column] for row in rows if row["job_type"] == "any"}
            own = {row[column] for row in rows if row["job_type"] == letter}
            if letter == "i":
                own |= {row[column] for row in rows if row["job_type"] == "c"} - {"output"}
            if letter == "v" and column == "v1_key":
                own.add("download_type")  # It is always volt.
            path = paths[0]
            known = set(keys_of(orders, path)) | {"job_type"}
            assert known == (common | own) - {"", "source_job_id"}, path
