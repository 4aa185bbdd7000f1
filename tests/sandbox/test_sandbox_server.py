"""The practice service's server: connections, the log, TLS, starting and stopping."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
import requests
import sandbox_2018_steps as steps
import trustme
from practice_client import TIMEOUT, Clock
from sandbox_2018_steps import CONVERSION, OBS, SIZE, Client, product_head, raw_get, true_bytes

from mwa_client.sandbox import Job, LoggedRequest, Sandbox

client = steps.client
clock = steps.clock
sandbox = steps.sandbox


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
            assert time.monotonic() - began < 30
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
