"""The interface v1 at the practice service, and which interface a request is meant for."""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

import pytest
import requests
import sandbox_today_steps as steps
from practice_client import TIMEOUT
from sandbox_today_steps import OBS, SIZE, VOLTAGE, ClientV1, ClientV2, fetch, said

from mwa_client.sandbox import Interface, JobState, Sandbox

client = steps.client
clock = steps.clock
sandbox = steps.sandbox
v1 = steps.v1
v2 = steps.v2


# --- Who is meant -------------------------------------------------------------------------------------


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


# --- v1: login and calls ------------------------------------------------------------------------------


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


# --- v1: jobs -----------------------------------------------------------------------------------------


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
