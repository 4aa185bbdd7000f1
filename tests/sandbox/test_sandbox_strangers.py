"""The practice service and those on the same machine: they can talk to it, and hurt nobody with it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

import pytest
import requests
from shared import wait_until

from mwa_client.asvo.service import Service
from mwa_client.cli.practice import practice_service
from mwa_client.cli.settings import Settings
from mwa_client.sandbox import Job, JobType, Sandbox, request_log
from mwa_client.sandbox import server as serving
from mwa_client.sandbox import service as serves
from mwa_client.sandbox.folders import Folders

OBS = 1191828584
VIS = {"obs_id": str(OBS), "download_type": "vis"}
CONVERSION = {"obs_id": str(OBS), "timeres": "20", "freqres": "40", "edgewidth": "80", "conversion": "ms"}


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    folder = tmp_path / "a" / "b" / "scratch"
    with Sandbox(seconds_per_state=0, product_size=lambda job: 300, scratch_folder=folder) as sandbox:
        yield sandbox


@contextmanager
def raw(sandbox: Sandbox, text: bytes) -> Iterator[socket.socket]:
    """A connection over which something was said."""
    port = int(sandbox.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(text)
        yield connection


def heard(connection: socket.socket) -> bytes:
    """All that the service says until it hangs up."""
    said = b""
    try:
        while True:
            piece = connection.recv(65536)
            if not piece:
                return said
            said += piece
    except ConnectionResetError:
        return said


LOGINS: dict[str, tuple[str, dict[str, Any]]] = {
    "2018": ("/api/login", {"auth": ("practice", "practice")}),
    "v1": ("/api/api_login", {"auth": ("x", "practice-key")}),
    "v2": ("/api/v2/api_login", {"json": {"login": "x", "password": "practice-key"}}),
}


@contextmanager
def someone(sandbox: Sandbox, api: str) -> Iterator[Callable[..., requests.Response]]:
    """Somebody who is logged in; gives a function that calls."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers["User-Agent"] = "x"
        path, how = LOGINS[api]
        assert session.post(sandbox.url + path, timeout=20, **how).status_code == 200

        def call(method: str, path: str, **more: Any) -> requests.Response:
            return session.request(method, sandbox.url + path, timeout=20, **more)

        yield call


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nUser-Agent: x\r\nConnection: close\r\n\r\n".encode()


def answers(sandbox: Sandbox) -> bool:
    with raw(sandbox, get("/api/get_jobs")) as connection:
        return heard(connection).startswith(b"HTTP/1.1 401")


def files_below(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


# --- Where it writes ---------------------------------------------------------------------------------

ELSEWHERE = ["../../x", "/etc/x", "..", "a/b", "\0", "x" * 5000, "../" * 50 + "tmp/x", "\n", "CON:"]


@pytest.mark.parametrize("words", ELSEWHERE)
@pytest.mark.parametrize("key", ["output", "conversion", "obs_id", "delivery"])
def test_no_submission_chooses_where_files_go(sandbox: Sandbox, tmp_path: Path, words: str, key: str) -> None:
    form = {**CONVERSION, "delivery": "scratch", "output": "ms", key: words}
    with someone(sandbox, "2018") as call:
        assert call("POST", "/api/conversion_job", data=form).status_code in (200, 400)
        assert call("POST", "/api/conversion_job", data=CONVERSION).status_code == 200
    with someone(sandbox, "v2") as call:
        assert call("POST", "/api/v2/get_jobs", json={}).status_code == 200
    assert all(tmp_path / "a" / "b" / "scratch" in file.parents for file in files_below(tmp_path))


@pytest.mark.parametrize("words", ELSEWHERE)
def test_no_word_of_a_job_leads_out_of_its_folder(tmp_path: Path, words: str) -> None:
    root = tmp_path / "a" / "b"
    for job_type in (JobType.CONVERSION, JobType.VOLTAGE):
        params = {"obs_id": words, "output": words, "delivery": "scratch"}
        folder = Path(Folders(root).deliver(Job(7, job_type, params, 0.0, size=300)))
        assert folder == root / "7" and len(files_below(folder)) == 3
    assert files_below(tmp_path) == files_below(root / "7")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "%2e%2e/x", "\0", "x" * 4000])
def test_no_name_leads_to_a_file(sandbox: Sandbox, name: str) -> None:
    job = sandbox.service.add(VIS, JobType.VISIBILITIES)
    with someone(sandbox, "2018") as call:
        query = {"file_name": name, "job_id": job.id}
        assert call("GET", "/api/download", params=query).status_code == 404


# --- What it reads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/login", "/api/conversion_job", "/api/v2/api_login", "/nothing"])
@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Content-Length: 300000000", 413),
        (f"Content-Length: {serving.MOST_BODY + 1}", 413),
        ("Content-Length: " + "9" * 5000, 400),
        ("Content-Length: -1", 400),
        ("Content-Length: many", 400),
        ("Transfer-Encoding: chunked", 411),
        ("\r\n".join(f"X-{number}: {'x' * 10_000}" for number in range(50)), 431),
        ("\r\n".join(f"X-{number}: x" for number in range(1000)), 431),
        ("X: " + "x" * 100_000, 431),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_request_that_is_too_much(sandbox: Sandbox, path: str, header: str, status: int) -> None:
    request = f"POST {path} HTTP/1.1\r\nUser-Agent: x\r\n{header}\r\n\r\n"
    with raw(sandbox, request.encode()) as connection:
        # What had been sent and was not read can end the connection before the answer is here.
        said = heard(connection)
        assert said.startswith(f"HTTP/1.1 {status} ".encode()) or (not said and status == 431)
    assert answers(sandbox)


@pytest.mark.parametrize(
    "said", [b"", b"GET ", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"]
)
def test_a_request_that_never_ends(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(serving, "_READING_SECONDS", 0.1)
    monkeypatch.setattr(serving, "_IDLE_SECONDS", 0.1)
    with raw(sandbox, said) as connection:
        assert heard(connection) == b""
    wait_until(lambda: sandbox.connections == 0)


def test_a_body_that_drips(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_READING_SECONDS", 0.3)
    with raw(sandbox, b"POST /api/login HTTP/1.1\r\nContent-Length: 100000\r\n\r\n") as connection:
        connection.settimeout(0.02)

        def has_ended() -> bool:
            try:
                connection.sendall(b"x")
                return connection.recv(1) == b""
            except socket.timeout:
                return False
            except OSError:
                return True

        wait_until(has_ended)


def test_a_reply_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_READING_SECONDS", 0.2)
    with Sandbox(delay=0.5) as slow, someone(slow, "2018") as call:
        assert call("GET", "/api/get_jobs").status_code == 200


def test_connections_have_a_number(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MOST_CONNECTIONS", 2)
    with raw(sandbox, b"GET"), raw(sandbox, b"GET"):
        wait_until(lambda: sandbox.connections == 2)
        with raw(sandbox, b"") as third:
            assert heard(third) == b""
    wait_until(lambda: sandbox.connections == 0)
    assert answers(sandbox)


def test_what_is_noted_has_a_size(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log, "MOST_LOGGED", 50_000)
    for number in range(30):
        with raw(sandbox, get(f"/{number}")) as one:
            heard(one)
    wait_until(lambda: sandbox.connections == 0)
    kept = [request.path for request in sandbox.requests]
    assert 10 < len(kept) < 30 and kept[-1] == "/29"


# --- What it keeps -----------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["2018", "v1", "v2"])
def test_jobs_have_a_number(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, api: str) -> None:
    monkeypatch.setattr(serves, "MOST_JOBS", 2)
    path = "/api/v2/download_vis_job" if api == "v2" else "/api/download_vis_job"
    with someone(sandbox, api) as call:
        statuses = []
        for number in range(4):
            row = {"obs_id": OBS + number, "download_type": "vis"}
            statuses.append(call("POST", path, **{"json" if api == "v2" else "data": row}).status_code)
    assert statuses[:2] == [200, 200] and all(status in (400, 503) for status in statuses[2:])
    assert len(sandbox.jobs) == 2


def test_sessions_have_a_number(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serves, "MOST_SESSIONS", 5)
    for _ in range(20):
        with someone(sandbox, "2018"):
            pass
    assert 1 <= len(sandbox.service.sessions) <= 6


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e400", "1" + "0" * 4000, "1" + "0" * 30]
)
@pytest.mark.parametrize("key", ["avg_time_res", "robust", "clean_iterations", "obs_id", "channels_out"])
def test_numbers_that_no_json_can_hold(sandbox: Sandbox, number: str, key: str) -> None:
    fields = {"obs_id": str(OBS), key: number}
    body = ",".join(f'"{name}": {value}' for name, value in fields.items())
    with someone(sandbox, "v2") as call:
        headers = {"Content-Type": "application/json"}
        assert call("POST", "/api/v2/imaging_job", data=f"{{{body}}}", headers=headers).status_code == 422
        assert call("POST", "/api/v2/get_jobs", json={}).json()["jobs"] == []


@pytest.mark.parametrize(
    "more", [{f"k{n}": "x" for n in range(100)}, {"x": "y" * 10_000}, {"y" * 10_000: "x"}]
)
def test_forms_are_short(sandbox: Sandbox, more: dict[str, str]) -> None:
    with someone(sandbox, "2018") as call:
        assert call("POST", "/api/download_vis_job", data={**VIS, **more}).status_code == 400
    assert sandbox.jobs == []


@pytest.mark.parametrize(
    "state", ["[]", "{}", "7", '{"jobs": [7], "next_id": 1}', '{"jobs": ["x"], "next_id": 1}', "[" * 100_000,
              '{"jobs": [], "next_id": 1e999}', '{"jobs": {}, "next_id": []}', '"\\ud800"', "\x80"]
)  # fmt: skip
def test_a_state_that_makes_no_sense(tmp_path: Path, state: str) -> None:
    file = tmp_path / "state.json"
    file.write_text(state, encoding="latin-1")
    with pytest.raises(ValueError, match="not a list of jobs"):
        Sandbox(state_file=file)


# --- Who is let in -----------------------------------------------------------------------------------


def test_the_account_of_a_practice_run_is_known_to_nobody(tmp_path: Path) -> None:
    seen: set[str] = set()

    def logs_in(service: Service, password: str, key: str) -> list[bool]:
        by_password = requests.post(f"{service.address}/api/login", auth=("practice", password), timeout=20)
        body = {"login": "x", "password": key}
        by_key = requests.post(f"{service.address}/api/v2/api_login", json=body, timeout=20)
        return [by_password.ok, by_key.ok]

    for _ in range(2):
        with practice_service(Settings(tmp_path, sandbox=True), lambda *lines: None) as service:
            account = service.credentials
            assert logs_in(service, "practice", "practice-key") == [False, False]
            assert logs_in(service, account.password, account.key) == [True, True]
            seen |= {account.password, account.key}
    assert len(seen) == 4
    assert not any(secret in file.read_text() for secret in seen for file in files_below(tmp_path))


def test_practice_deliveries_are_found_whatever_way_leads_to_the_directory(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    directory = tmp_path / "jobs" / ".." / "data"
    with practice_service(Settings(directory, sandbox=True), lambda *lines: None) as service:
        (root,) = service.delivery_roots.roots
        delivered = root / "scratch" / "practice" / "asvo" / "7"
        assert service.delivery_roots.check(str(delivered), directory) == delivered
