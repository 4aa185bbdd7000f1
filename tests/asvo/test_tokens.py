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
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared import FastClock, longest_file

from mwa_client.asvo.tokens import LOGINS_A_MINUTE, Tokens, TokenStore
from mwa_client.directory.owner import Owner
from mwa_client.errors import ServiceUnavailable

SECRET = "the-api-key-itself"


def jwt(end: float | None, mark: str = "x", **claims: object) -> str:
    fields = {"m": mark, **claims} if end is None else {"exp": int(end), "m": mark, **claims}
    payload = base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJIUzI1NiJ9.{payload}.c2ln"


def reply(
    now: float, mark: str = "x", *, user: bool = True, number: int = 7, **claims: object
) -> dict[str, object]:
    """What the service answers to a login, or to a refresh, which names no user."""
    body: dict[str, object] = {
        "access_token": jwt(now + 900, mark, **claims),
        "refresh_token": jwt(now + 604800, mark, **claims),
    }
    if user:
        login = "somebody" if number == 7 else f"user{number}"
        body["user"] = {"id": number, "login": login, "email": f"{login}@example.org"}
    return body


def of_another_client(path: Path, body: dict[str, object], **more: object) -> dict[str, object]:
    """Write a tokens file as the other clients do."""
    user = body.get("user")
    whose = {f"user_{key}": value for key, value in user.items()} if isinstance(user, dict) else {}
    document = {key: value for key, value in body.items() if key != "user"} | whose | more
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))
    return document


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


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2027-01-15T08:10:00.123456789Z", 600.0),
        ("2027-01-15T18:00:00+10:00", 0.0),
        ("2027-01-15T08:10:00+00:00Z", 600.0),
        ("2027-01-15t08:10:00z", 600.0),
        ("2027-01-15 08:10:00", 600.0),
    ],
)
def test_times_are_read_as_the_other_clients_write_them(
    path: Path, clock: FastClock, text: str, end: float
) -> None:
    TokenStore(path, SECRET, clock).save(reply(clock.now(), sub="7"))
    pair = {"access_token": jwt(None, "y", sub="7"), "refresh_token": jwt(None, "z", sub="7")}
    of_another_client(path, dict(pair), access_expires_at=text, refresh_expires_at=text)
    tokens = TokenStore(path, SECRET, clock).load()
    assert tokens is not None and tokens.access == pair["access_token"]
    assert tokens.access_until == tokens.refresh_until == 1.8e9 + end


@pytest.mark.parametrize("text", ["2027-01-15T08:10:00+00:00Z", "2099-01-01T00:00:00Z", "soon", "", None, 7])
def test_what_counts_is_the_end_that_the_token_itself_says(
    path: Path, clock: FastClock, text: object
) -> None:
    TokenStore(path, SECRET, clock).save(reply(clock.now()))
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "access_expires_at": text, "refresh_expires_at": text}))
    tokens = TokenStore(path, SECRET, clock).load()
    assert tokens is not None
    assert (tokens.access_until, tokens.refresh_until) == (1.8e9 + 900, 1.8e9 + 604800)


# --- Whose they are -----------------------------------------------------------------------------------

SHARED_KEYS = {"access_token", "refresh_token", "access_expires_at", "refresh_expires_at"} | {
    "user_id", "user_login", "user_email"
}  # fmt: skip


def test_no_key_of_ours_is_in_the_shared_file(path: Path, clock: FastClock) -> None:
    store = TokenStore(path, SECRET, clock)
    store.save(reply(clock.now()))
    assert set(json.loads(path.read_text())) == SHARED_KEYS
    store.save(reply(clock.now(), "y", user=False))
    assert set(json.loads(path.read_text())) == SHARED_KEYS


def test_a_key_that_an_earlier_version_added_goes(path: Path, clock: FastClock) -> None:
    store = TokenStore(path, SECRET, clock)
    store.save(reply(clock.now()))
    path.write_text(json.dumps({**json.loads(path.read_text()), "mwa_client_account": "0123456789ab"}))
    store.save(reply(clock.now(), "y", user=False))
    assert set(json.loads(path.read_text())) == SHARED_KEYS


def test_two_accounts_in_one_home_keep_out_of_each_others_way(path: Path, clock: FastClock) -> None:
    ours = TokenStore(path, "our key", clock).save(reply(clock.now(), "ours", sub="7"))
    theirs = TokenStore(path, "their key", clock).save(reply(clock.now(), "theirs", sub="8", number=8))
    assert json.loads(path.read_text())["user_id"] == 7, "the first one's are good, and stay"
    for _ in range(2):
        assert TokenStore(path, "our key", clock).load() == ours is not None
        assert TokenStore(path, "their key", clock).load() == theirs is not None
    renewed = TokenStore(path, "their key", clock).save(reply(clock.now() + 60, "r", user=False, sub="8"))
    assert TokenStore(path, "their key", clock).load() == renewed != theirs
    assert json.loads(path.read_text())["user_id"] == 7


def test_tokens_of_another_account_are_not_used(path: Path, clock: FastClock) -> None:
    TokenStore(path, SECRET, clock).save(reply(clock.now()))
    assert TokenStore(path, "another key", clock).load() is None


@pytest.mark.parametrize(
    ("ours", "theirs", "is_ours"),
    [
        # What the JWT says, against what it said when we logged in.
        ({"sub": "7"}, {"sub": "7"}, True),
        ({"sub": "7"}, {"sub": 7}, True),
        ({"sub": "7"}, {"sub": "8"}, False),
        ({"sub": "somebody"}, {"sub": "somebody"}, True),
        ({"sub": "b7e1"}, {"sub": "c0ff"}, False),
        ({"user_id": 7}, {"user_id": 8}, False),
        ({"sub": "access", "login": "somebody"}, {"sub": "access", "login": "user8"}, False),
        # Where it says nothing, what the client that wrote the file says.
        ({}, {"file": 7}, True),
        ({}, {"file": 8}, False),
        ({"sub": "7"}, {"file": 7}, True),
        # Both, and they do not agree.
        ({"sub": "one for all"}, {"sub": "one for all", "file": 8}, False),
        # Nothing says whose it is: it may be anybody's.
        ({}, {}, False),
        ({"sub": "7"}, {"sub": None}, False),
        ({"sub": "7"}, {"sub": ["7"]}, False),
        ({}, {"sub": "7"}, False),
    ],
)
def test_tokens_that_another_client_wrote_are_used_if_they_are_ours(
    path: Path, clock: FastClock, ours: dict[str, object], theirs: dict[str, object], is_ours: bool
) -> None:
    TokenStore(path, SECRET, clock).save(reply(clock.now(), **ours))  # type: ignore[arg-type]
    claims = {key: value for key, value in theirs.items() if key != "file"}
    more = {} if "file" not in theirs else {"user_id": theirs["file"]}
    body = reply(clock.now(), "y", user=False, **claims)  # type: ignore[arg-type]
    before = of_another_client(path, body, **more)
    tokens = TokenStore(path, SECRET, clock).load()
    assert (tokens is not None) == is_ours
    assert tokens is None or tokens.access == body["access_token"]
    saved = TokenStore(path, SECRET, clock).save(reply(clock.now(), "z", **ours))  # type: ignore[arg-type]
    assert (json.loads(path.read_text()) == before) == (not is_ours), "who it belongs to still needs it"
    assert TokenStore(path, SECRET, clock).load() == saved is not None


def test_tokens_of_a_user_who_is_not_known_yet_are_not_used(path: Path, clock: FastClock) -> None:
    body = reply(clock.now(), sub="7")
    of_another_client(path, body)
    assert TokenStore(path, SECRET, clock).load() is None, "only a login tells who has this key"
    store = TokenStore(path, SECRET, clock)
    store.save(reply(clock.now(), "y", sub="7"))
    of_another_client(path, body)
    found = TokenStore(path, SECRET, clock).load()
    assert found is not None and found.access == body["access_token"]


def test_tokens_of_another_account_that_are_over_make_room(path: Path, clock: FastClock) -> None:
    of_another_client(path, reply(clock.now() - 604800, number=8, sub="8"), of_a_newer_client=1)
    TokenStore(path, SECRET, clock).save(reply(clock.now(), sub="7"))
    assert json.loads(path.read_text())["user_id"] == 7
    assert set(json.loads(path.read_text())) == SHARED_KEYS, "nothing of the other account is left"


def test_the_file_of_our_own_does_not_grow_for_ever(path: Path, clock: FastClock) -> None:
    for number in range(30):
        TokenStore(path, f"key {number}", clock).save(reply(clock.now(), number=number, sub=str(number)))
    accounts = json.loads(path.with_name("mwa_client_tokens.json").read_text())
    assert len(accounts) == 20
    assert TokenStore(path, "key 29", clock).load() is not None
    assert stat.S_IMODE(path.with_name("mwa_client_tokens.json").stat().st_mode) == 0o600


# --- Damage -------------------------------------------------------------------------------------------


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
    store = TokenStore(path, SECRET, clock)
    store.save(reply(clock.now(), sub="7"))
    pair = {"access_token": jwt(None, sub="7"), "refresh_token": jwt(None, sub="7")}
    of_another_client(path, dict(pair), access_expires_at="soon")
    tokens = store.load()
    assert tokens is not None
    assert not store.is_good(tokens.access_until)
    assert store.is_good(clock.now() + 31)
    assert not store.is_good(clock.now() + 29)


@pytest.mark.parametrize(
    "accounts", ["[]", "7", '{"%s": 7}', '{"%s": {"claims": 7, "document": "x"}}', "[" * 9999]
)
def test_a_file_of_our_own_that_makes_no_sense_knows_nobody(
    path: Path, clock: FastClock, accounts: str
) -> None:
    store = TokenStore(path, SECRET, clock)
    store.save(reply(clock.now(), sub="7"))
    own = path.with_name("mwa_client_tokens.json")
    (mark,) = json.loads(own.read_text())
    own.write_text(accounts.replace("%s", mark))
    assert store.load() is None
    assert store.save(reply(clock.now(), "y", sub="7")) == store.load() is not None


@pytest.mark.parametrize(
    "text", ["[" + "9" * 400 + "]", "[1e999, NaN]", '["x", null, [], true]', "{}", "7", "[" * 9999, "\0", ""]
)
def test_a_file_of_logins_that_makes_no_sense_counts_none(path: Path, clock: FastClock, text: str) -> None:
    path.parent.mkdir()
    path.with_name("mwa_client_logins.json").write_text(text)
    for _ in range(LOGINS_A_MINUTE):
        TokenStore(path, SECRET, clock).count_login()
    with pytest.raises(ServiceUnavailable) as caught:
        TokenStore(path, SECRET, clock).count_login()
    assert caught.value.lines == ("The service allows only 5 logins a minute.", "Try again in 60 s.")


# --- What others put there ----------------------------------------------------------------------------


def link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def dangling_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim.with_name("not there"))


def second_name(path: Path, victim: Path) -> None:
    os.link(victim, path)


def fifo(path: Path, victim: Path) -> None:
    os.mkfifo(path)


def folder(path: Path, victim: Path) -> None:
    path.mkdir()


def anothers(path: Path, victim: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a file away")
    path.write_bytes(victim.read_bytes())
    os.chown(path, 65534, 65534)


Plant = Callable[[Path, Path], None]
OURS = ("tokens.json", "mwa_client_tokens.json", "mwa_client_logins.json")
PLACES = [*OURS, *(f"{name}.new" for name in OURS), "tokens.json.lock"]


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("plant", [link, dangling_link, second_name, fifo, folder, anothers])
def test_what_is_planted_is_not_followed_and_in_nobodys_way(
    path: Path, tmp_path: Path, clock: FastClock, name: str, plant: Plant
) -> None:
    victim = tmp_path / "private"
    content = json.dumps(of_another_client(victim, reply(clock.now(), "evil")))
    os.utime(victim, (time.time() - 100, time.time() - 100))
    path.parent.mkdir(mode=0o700)
    plant(path.with_name(name), victim)
    if plant is anothers and name.endswith(".lock"):
        os.utime(path.with_name(name), (time.time() - 100, time.time() - 100))
    store = TokenStore(path, SECRET, clock)
    with store.locked():
        assert store.load() is None
        store.count_login()
        saved = store.save(reply(clock.now()))
    assert saved == store.load() is not None and clock.slept == []
    assert victim.read_text() == content and not (tmp_path / "not there").exists()


@pytest.mark.parametrize("plant", [link, dangling_link, fifo])
def test_a_folder_that_is_none_is_not_used(
    path: Path, tmp_path: Path, clock: FastClock, plant: Plant
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    plant(path.parent, victim)
    used_in_memory_alone(path, clock)
    assert list(victim.iterdir()) == [] and not (tmp_path / "not there").exists()


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o1777, None])
def test_a_folder_that_others_can_write_is_not_used(path: Path, clock: FastClock, mode: int | None) -> None:
    path.parent.mkdir()
    if mode is None:
        if os.geteuid() != 0:
            pytest.skip("needs root, to give a folder away")
        os.chown(path.parent, 65534, 65534)
    else:
        path.parent.chmod(mode)
    of_another_client(path, reply(clock.now(), "evil"))
    before = path.read_text()
    used_in_memory_alone(path, clock)
    assert [file.name for file in path.parent.iterdir()] == ["tokens.json"] and path.read_text() == before


def used_in_memory_alone(path: Path, clock: FastClock) -> None:
    store = TokenStore(path, SECRET, clock)
    with store.locked():
        assert store.load() is None
        store.count_login()
        assert store.save(reply(clock.now())) == store.load() is not None


# --- A home without room ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10])
def test_tokens_that_cannot_be_saved_count_all_the_same(path: Path, clock: FastClock, size: int) -> None:
    """The old file must not be read back in their place."""
    old = TokenStore(path, SECRET, clock).save(reply(clock.now() - 604800))
    before = path.read_text()
    store = TokenStore(path, SECRET, clock)
    assert old is not None and store.load() == old
    with longest_file(size):
        new = store.save(reply(clock.now(), "y"))
        assert new is not None and new != old and store.load() == new
        for _ in range(LOGINS_A_MINUTE):
            store.count_login()
        with pytest.raises(ServiceUnavailable):
            store.count_login()
        store.discount_login()
        store.count_login()
    assert path.read_text() == before and not list(path.parent.glob("*.new"))
    newest = store.save(reply(clock.now() + 60, "z"))
    assert store.load() == newest == TokenStore(path, SECRET, clock).load(), "room was made"


# --- Logins -------------------------------------------------------------------------------------------


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
