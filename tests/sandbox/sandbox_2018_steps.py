"""A client of 2018 for the tests of the practice service, and the service that it talks to."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from practice_client import TIMEOUT, Clock, PracticeClient

from mwa_client.sandbox import Sandbox

OBS = "1191828584"
CONVERSION = {"obs_id": OBS, "timeres": "20", "freqres": "40", "edgewidth": "80", "conversion": "ms"}
SIZE = 3_000_001


class Client(PracticeClient):
    """The little that a client has to do."""

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.call("GET", path, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.call("POST", path, **options)

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
