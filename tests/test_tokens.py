"""Tokens between runs: kept privately, never trusted blindly, few logins, many clients."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import FastClock
from hypothesis import given, settings
from hypothesis import strategies as st

from mwa_client.asvo.tokens import LOGINS_A_MINUTE, Tokens, TokenStore
from mwa_client.errors import ServiceUnavailable
from mwa_client.lock import Owner

SECRET = "the-api-key-itself"


def jwt(end: float, mark: str = "x") -> str:
    payload = (
        base64.urlsafe_b64encode(json.dumps({"exp": int(end), "m": mark}).encode()).rstrip(b"=").decode()
    )
    return f"eyJhbGciOiJIUzI1NiJ9.{payload}.c2ln"


def reply(now: float, mark: str = "x", *, user: bool = True) -> dict[str, object]:
    body: dict[str, object] = {"access_token": jwt(now + 900, mark), "refresh_token": jwt(now + 604800, mark)}
    if user:
        body["user"] = {"id": 7, "login": "somebody", "email": "somebody@example.org"}
    return body


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".mwa-asvo" / "tokens.json"


def test_tokens_are_kept_for_the_next_client(path: Path, clock: FastClock) -> None:
    saved = TokenStore(path, SECRET, clock).save(reply(clock.now()))
    found = TokenStore(path, SECRET, clock).load()
    assert saved is not None
    assert found == saved
    assert found.access_until == int(clock.now() + 900)
    assert found.refresh_until == int(clock.now() + 604800)


def test_file_has_the_keys_that_the_other_clients_share(path: Path, clock: FastClock) -> None:
    TokenStore(path, SECRET, clock).save(reply(clock.now()))
    document = json.loads(path.read_text())
    assert document["user_id"] == 7
    assert document["user_login"] == "somebody"
    assert document["user_email"] == "somebody@example.org"
    assert document["access_expires_at"] == "2027-01-15T08:15:00Z"
    assert document["refresh_expires_at"] == "2027-01-22T08:00:00Z"


def test_file_and_folder_are_private_and_hold_no_secret(path: Path, clock: FastClock) -> None:
    os.umask(0o022)
    store = TokenStore(path, SECRET, clock)
    store.count_login()
    store.save(reply(clock.now()))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert SECRET not in file.read_text()


def test_repr_shows_no_token(path: Path, clock: FastClock) -> None:
    tokens = TokenStore(path, SECRET, clock).save(reply(clock.now()))
    assert tokens is not None
    assert tokens.access not in repr(tokens)
    assert tokens.refresh not in repr(tokens)


def test_a_refresh_keeps_what_is_known_of_the_user(path: Path, clock: FastClock) -> None:
    store = TokenStore(path, SECRET, clock)
    store.save(reply(clock.now()))
    path.write_text(json.dumps({**json.loads(path.read_text()), "of_a_newer_client": 1}))
    store.save(reply(clock.now() + 60, "y", user=False))
    document = json.loads(path.read_text())
    assert document["user_login"] == "somebody"
    assert document["of_a_newer_client"] == 1


def test_tokens_of_another_account_are_not_used(path: Path, clock: FastClock) -> None:
    TokenStore(path, SECRET, clock).save(reply(clock.now()))
    assert TokenStore(path, "another key", clock).load() is None


def test_tokens_written_by_another_client_are_tried(path: Path, clock: FastClock) -> None:
    path.parent.mkdir()
    path.write_text(
        json.dumps(
            {
                "access_token": "a.b.c",
                "refresh_token": "d.e.f",
                "access_expires_at": "2027-01-15T08:10:00.123456789Z",
                "refresh_expires_at": "2027-01-15T18:00:00+10:00",
            }
        )
    )
    tokens = TokenStore(path, SECRET, clock).load()
    assert tokens is not None
    assert tokens.access_until == 1.8e9 + 600
    assert tokens.refresh_until == 1.8e9


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"access_token": 1, "refresh_token": "x"}',
        '{"access_token": "a\\nb", "refresh_token": "x"}',
    ],
)
def test_a_file_that_makes_no_sense_is_no_tokens(path: Path, clock: FastClock, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    assert TokenStore(path, SECRET, clock).load() is None


@given(
    st.dictionaries(
        st.sampled_from(["access_token", "refresh_token", "access_expires_at", "user"]),
        st.text() | st.integers() | st.none(),
    )
)
@settings(max_examples=60, deadline=None)
def test_any_reply_gives_tokens_or_none(body: dict[str, object]) -> None:
    tokens = TokenStore(None, SECRET, FastClock()).save(body)
    assert tokens is None or isinstance(tokens, Tokens)


def test_an_end_that_makes_no_sense_is_long_over(path: Path, clock: FastClock) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({"access_token": "a", "refresh_token": "b", "access_expires_at": "soon"}))
    store = TokenStore(path, SECRET, clock)
    tokens = store.load()
    assert tokens is not None
    assert not store.is_good(tokens.access_until)
    assert store.is_good(clock.now() + 31)
    assert not store.is_good(clock.now() + 29)


def test_no_more_logins_than_the_service_allows(path: Path, clock: FastClock) -> None:
    for _ in range(LOGINS_A_MINUTE):
        TokenStore(path, SECRET, clock).count_login()
        clock.advance(1)
    with pytest.raises(ServiceUnavailable) as refused:
        TokenStore(path, SECRET, clock).count_login()
    assert refused.value.retry_after == pytest.approx(55)
    clock.advance(56)
    TokenStore(path, SECRET, clock).count_login()


def test_without_a_file_logins_are_counted_in_memory(clock: FastClock) -> None:
    store = TokenStore(None, SECRET, clock)
    for _ in range(LOGINS_A_MINUTE):
        store.count_login()
    with pytest.raises(ServiceUnavailable):
        store.count_login()


def test_a_home_that_cannot_be_written_is_no_obstacle(tmp_path: Path, clock: FastClock) -> None:
    (tmp_path / "file").write_text("")
    store = TokenStore(tmp_path / "file" / "tokens.json", SECRET, clock)
    with store.locked():
        store.count_login()
        assert store.save(reply(clock.now())) is not None
    assert store.load() is not None


def test_the_lock_lets_one_in_at_a_time(path: Path, clock: FastClock) -> None:
    inside: list[int] = []
    most: list[int] = []
    guard = threading.Lock()

    class RealClock(FastClock):
        def sleep(self, seconds: float, stop: threading.Event) -> None:
            time.sleep(0.002)

    def work() -> None:
        with TokenStore(path, SECRET, RealClock()).locked():
            with guard:
                inside.append(1)
                most.append(len(inside))
            time.sleep(0.002)
            with guard:
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6
    assert not path.with_name("tokens.json.lock").exists()


def test_a_lock_that_is_held_is_waited_for_and_then_reported(path: Path, clock: FastClock) -> None:
    path.parent.mkdir()
    path.with_name("tokens.json.lock").write_text("")
    with pytest.raises(ServiceUnavailable), TokenStore(path, SECRET, clock).locked():
        pass
    assert 5 < sum(clock.slept) < 60


@pytest.mark.parametrize("age", [3600, -86400], ids=["old", "from the future: the clock was put back"])
def test_a_lock_whose_owner_died_is_taken_over(path: Path, clock: FastClock, age: float) -> None:
    path.parent.mkdir()
    lock = path.with_name("tokens.json.lock")
    lock.write_text("")
    os.utime(lock, (time.time() - age, time.time() - age))
    with TokenStore(path, SECRET, clock).locked():
        assert lock.exists()
    assert not lock.exists()


def test_a_lock_of_a_client_that_was_killed_is_not_waited_for(path: Path, clock: FastClock) -> None:
    path.parent.mkdir()
    lock = path.with_name("tokens.json.lock")
    script = (
        "import os; from pathlib import Path; from mwa_client.asvo.tokens import _take\n"
        f"_take(Path({str(lock)!r})); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    owner = Owner.of(lock)
    assert owner is not None and owner.host == socket.gethostname()
    with TokenStore(path, SECRET, clock).locked():
        assert clock.slept == []
    assert not lock.exists()


ELSEWHERE = {"pid": 1, "host": "elsewhere.example", "boot": "another"}


@pytest.mark.parametrize("owner", [ELSEWHERE, dataclasses.asdict(Owner.here(0.0)), "???"])
def test_a_lock_whose_owner_may_live_is_waited_for(path: Path, clock: FastClock, owner: object) -> None:
    path.parent.mkdir()
    path.with_name("tokens.json.lock").write_text(json.dumps(owner))
    with pytest.raises(ServiceUnavailable), TokenStore(path, SECRET, clock).locked():
        pass
    assert clock.slept
