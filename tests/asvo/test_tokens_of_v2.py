"""The tokens of v2 between runs, processes and accounts."""

from __future__ import annotations

import base64
import json
import threading
import time
from pathlib import Path

import pytest
from interface_steps import (
    DAY,
    OBS,
    OTHER,
    REFRESH,
    SIX,
    TODAY,
    assert_all_well,
    assert_one_job_each,
    session_with,
)
from shared import (
    LISTING,
    LOGIN,
    FastClock,
    asked,
    environment,
    longest_file,
    notices,
    run_batch,
    run_command,
    service_of,
    together,
    vis,
)

from mwa_client.asvo.tokens import LOGINS_A_MINUTE, TokenStore
from mwa_client.errors import (
    SessionLost,
)
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Sandbox


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return tmp_path / "home" / ".mwa-asvo" / "tokens.json"


def work(sandbox: Sandbox, clock: FastClock, tokens: Path) -> None:
    """What a short run of the client does."""
    with session_with(sandbox, ApiVersion.V2, clock, tokens=tokens) as session:
        session.jobs()


def test_the_next_run_needs_no_login(sandbox: Sandbox, clock: FastClock, tokens: Path) -> None:
    for _ in range(8):
        work(sandbox, clock, tokens)
    assert sandbox.logins == 1 and asked(sandbox, REFRESH) == []


def test_a_second_process_needs_no_login(tmp_path: Path) -> None:
    with Sandbox(seconds_per_state=0) as sandbox:
        env = environment(
            MWA_ASVO_HOST=sandbox.url, MWA_ASVO_API_KEY="practice-key", HOME=str(tmp_path), PYTHONPATH=""
        )
        for _ in range(2):
            assert run_command("-l", "--api", "v2", env=env).returncode == 0
        assert sandbox.logins == 1
    assert [path.name for path in (tmp_path / ".mwa-asvo").glob("*.lock")] == []


def test_an_old_token_is_refreshed(sandbox: Sandbox, clock: FastClock, tokens: Path) -> None:
    work(sandbox, clock, tokens)
    for times in (1, 2):
        clock.advance(1000)
        work(sandbox, clock, tokens)
        assert (sandbox.logins, len(asked(sandbox, REFRESH))) == (1, times)
    assert {r.status for r in asked(sandbox, LISTING[ApiVersion.V2])} == {200}, "no call was made in vain"
    clock.advance(8 * DAY)
    work(sandbox, clock, tokens)
    assert (sandbox.logins, len(asked(sandbox, REFRESH))) == (2, 2)


@pytest.mark.parametrize("status", [400, 401, 403, 422])
def test_a_refused_refresh_means_a_login(
    sandbox: Sandbox, clock: FastClock, tokens: Path, status: int
) -> None:
    work(sandbox, clock, tokens)
    sandbox.faults.add("refuse_refresh", status=status)
    clock.advance(1000)
    work(sandbox, clock, tokens)
    assert (sandbox.logins, len(asked(sandbox, REFRESH))) == (2, 1)


def test_a_token_that_is_refused_before_its_time(sandbox: Sandbox, clock: FastClock, tokens: Path) -> None:
    work(sandbox, clock, tokens)
    sandbox.faults.add("expire_tokens", times=1)
    work(sandbox, clock, tokens)
    assert (sandbox.logins, len(asked(sandbox, REFRESH))) == (1, 1)
    sandbox.service.forget_sessions()
    work(sandbox, clock, tokens)
    assert (sandbox.logins, len(asked(sandbox, REFRESH))) == (2, 2)


@pytest.mark.parametrize("skip", [0, 1, 5])
def test_tokens_that_expire_meanwhile(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, tokens: Path, skip: int
) -> None:
    fault = sandbox.faults.add("expire_tokens", times=2, skip=skip)
    service = service_of(sandbox, ApiVersion.V2, tokens=tokens)
    run = run_batch(sandbox, tmp_path / "out", clock, vis(*SIX), service=service)
    assert_all_well(sandbox, run, 6)
    assert_one_job_each(sandbox, *SIX)
    assert fault.hits == 2 and sandbox.logins == 1


@TODAY
@pytest.mark.parametrize("skip", [0, 4])
def test_a_session_that_is_lost_meanwhile(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, skip: int
) -> None:
    fault = sandbox.faults.add("expire_session", times=2, skip=skip)
    run = run_batch(sandbox, tmp_path, clock, vis(*SIX), api=api)
    assert_all_well(sandbox, run, 6)
    assert_one_job_each(sandbox, *SIX)
    assert fault.hits == 2 and 2 <= sandbox.logins <= 3


@TODAY
def test_a_session_that_stays_lost_is_an_error(sandbox: Sandbox, clock: FastClock, api: ApiVersion) -> None:
    sandbox.faults.add("expire_session")
    with session_with(sandbox, api, clock) as session, pytest.raises(SessionLost):
        session.jobs()
    assert len(asked(sandbox, LISTING[api])) == 2, "once more after a login, not for ever"


def test_tokens_of_another_server(sandbox: Sandbox, clock: FastClock, tokens: Path) -> None:
    with Sandbox(clock=clock.now) as other:
        work(other, clock, tokens)
    work(sandbox, clock, tokens)
    assert sandbox.logins == 1
    work(sandbox, clock, tokens)
    assert sandbox.logins == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "\x00\x00",
        '{"access_token": 7, "refresh_token": null}',
        '{"access_token": "a", "refresh_token": "b", "access_expires_at": "2099-01-01T00:00:00Z"}',
        '{"access_token": "a\\r\\nX: y", "refresh_token": "b", "access_expires_at": "2099-01-01T00:00:00Z"}',
        '{"access_token": "a", "refresh_token": "b", "refresh_expires_at": "2099-01-01T00:00:00Z"}',
        "[" * 100_000,
    ],
    ids=range(10),
)
def test_a_file_that_makes_no_sense(sandbox: Sandbox, clock: FastClock, tokens: Path, text: str) -> None:
    tokens.parent.mkdir(parents=True)
    tokens.write_text(text)
    for _ in range(2):
        work(sandbox, clock, tokens)
        assert sandbox.logins == 1


def test_a_home_without_room_is_no_obstacle(
    sandbox: Sandbox, clock: FastClock, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mwa_client.asvo.tokens.os.open", full)
    with session_with(sandbox, ApiVersion.V2, clock, tokens=tokens) as session:
        session.jobs()
        clock.advance(1000)
        session.jobs()
    assert (sandbox.logins, len(asked(sandbox, REFRESH))) == (1, 1)


def test_old_tokens_in_a_home_without_room_do_not_keep_us_out(
    sandbox: Sandbox, clock: FastClock, tokens: Path
) -> None:
    work(sandbox, clock, tokens)
    clock.advance(8 * DAY)
    for logins in (2, 3):
        with longest_file(0), session_with(sandbox, ApiVersion.V2, clock, tokens=tokens) as session:
            session.jobs()
            clock.advance(1000)
            session.jobs()
        assert (sandbox.logins, len(asked(sandbox, REFRESH))) == (logins, logins - 1)


def test_tokens_of_another_account_are_not_sent(sandbox: Sandbox, clock: FastClock, tokens: Path) -> None:
    work(sandbox, clock, tokens)
    document = json.loads(tokens.read_text())
    theirs = base64.urlsafe_b64encode(b'{"sub": "8", "exp": 4000000000}').decode().rstrip("=")
    pair = {"access_token": f"a.{theirs}.b", "refresh_token": f"c.{theirs}.d"}
    tokens.write_text(json.dumps({**document, **pair, "user_id": 8, "user_login": "another"}))
    sandbox.reset_log()
    for _ in range(2):
        work(sandbox, clock, tokens)
    assert {request.status for request in sandbox.requests} == {200}
    assert len(asked(sandbox, LOGIN[ApiVersion.V2])) == 1, "and found again beside theirs, which stay"
    assert json.loads(tokens.read_text())["user_id"] == 8


@pytest.mark.parametrize("end", [1e300, -1, "Infinity", 1.8e12])
def test_an_end_that_makes_no_sense_is_not_believed(clock: FastClock, tokens: Path, end: object) -> None:
    payload = base64.urlsafe_b64encode(f'{{"exp": {end}}}'.encode()).decode().rstrip("=")
    store = TokenStore(tokens, "key", clock)
    found = store.save({"access_token": f"a.{payload}.b", "refresh_token": "c"})
    assert found is not None and found.access_until == pytest.approx(clock.now() + 900, abs=1)


class RestingClock(FastClock):
    """A fast clock whose sleepers let other threads work."""

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        time.sleep(0.01)
        super().sleep(seconds / 100, stop)


def test_six_clients_at_once_make_one_login(tokens: Path) -> None:
    clock = RestingClock()
    with Sandbox(clock=clock.now) as sandbox:
        assert together(6, lambda: work(sandbox, clock, tokens)) == []
        assert sandbox.logins == 1
        clock.advance(1000)
        assert together(6, lambda: work(sandbox, clock, tokens)) == []
        assert (sandbox.logins, len(asked(sandbox, REFRESH))) == (1, 1)
    json.loads(tokens.read_text())
    assert not list(tokens.parent.glob("*.new")) and not list(tokens.parent.glob("*.lock"))


@TODAY
def test_the_login_limit_is_waited_out(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    fault = sandbox.faults.add("login_limit", times=2)
    started = clock.monotonic()
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert_all_well(sandbox, run, 1)
    assert fault.hits == 2 and clock.monotonic() - started >= 120
    assert len(notices(run, "until it answers")) == 1


@pytest.mark.parametrize("kept", [True, False], ids=["file", "memory"])
def test_never_more_logins_than_allowed(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, tokens: Path, kept: bool
) -> None:
    fault = sandbox.faults.add("expire_session", times=14)
    service = service_of(sandbox, ApiVersion.V2, tokens=tokens if kept else None)
    run = run_batch(sandbox, tmp_path / "out", clock, vis(OBS, OTHER), service=service)
    assert_all_well(sandbox, run, 2)
    assert fault.hits == 14
    logins = asked(sandbox, LOGIN[ApiVersion.V2])
    assert len(logins) > LOGINS_A_MINUTE and {login.status for login in logins} == {200}
    times = [login.started for login in logins]
    assert all(later - first >= 60 for first, later in zip(times, times[LOGINS_A_MINUTE:]))
