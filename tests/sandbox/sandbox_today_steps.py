"""Clients of v1 and v2 for the tests of the practice service, and the service that they talk to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from practice_client import TIMEOUT, Clock, PracticeClient

from mwa_client.sandbox import Sandbox

OBS = 1191828584
SIZE = 200_003
DAY = 86400.0
WEEK = 7 * DAY
KEY = "practice-key"
PATHS = {
    "conversion": "conversion_job",
    "download": "download_vis_job",
    "voltage": "voltage_job",
    "beamformer": "beamformer_job",
    "imaging": "imaging_job",
    "image": "preprocessed_imaging_job",
}


class Client(PracticeClient):
    """What the clients of both interfaces have to do."""

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


VOLTAGE = {"offset": "0", "duration": "8", "from_channel": "109", "to_channel": "109"}
