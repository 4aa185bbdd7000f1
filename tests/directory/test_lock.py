"""One working client per directory: who gets the lock, who is told to wait, and who is taken over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import ELSEWHERE, Desk, dead_process
from forked import ForkedClient
from shared import THREE_ROWS, FastClock, command, environment, run_command, wait_until

from mwa_client.directory import lock_file
from mwa_client.directory import owner as owners
from mwa_client.directory.disk import boot_id
from mwa_client.directory.lock_file import HEARTBEAT, WATCH, LockFile
from mwa_client.directory.owner import Owner
from mwa_client.errors import DirectoryBusy, DirectoryUnusable, ExitStatus
from mwa_client.sandbox import Sandbox


@pytest.fixture
def desk(tmp_path: Path, clock: FastClock) -> Desk:
    return Desk(tmp_path, clock)


# --- One at a time ------------------------------------------------------------------------------------


def test_the_lock_says_whose_it_is_and_goes_with_the_work(desk: Desk) -> None:
    with desk.alone():
        owner = desk.owner()
        assert (owner["pid"], owner["boot"]) == (os.getpid(), boot_id())
        assert owner["since"] == "2027-01-15T08:00:00Z"
        (desk.memory / "mine").touch()
    assert list(desk.memory.iterdir()) == [desk.memory / "mine"]
    (desk.memory / "mine").unlink()
    with desk.alone():
        pass
    assert not desk.memory.exists(), "nothing was in it"


def test_a_folder_that_another_client_removes_as_we_come_is_made_anew(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire, left = LockFile.acquire, [1, 1]

    def acquire_late(lock: LockFile) -> None:
        if left:
            left.pop()
            desk.memory.rmdir()
        acquire(lock)

    monkeypatch.setattr(LockFile, "acquire", acquire_late)
    with desk.alone():
        assert desk.owner()["pid"] == os.getpid() and not left


def test_the_second_is_told_who_where_and_since_when(desk: Desk) -> None:
    with desk.alone():
        before = desk.path.read_text()
        with pytest.raises(DirectoryBusy) as caught, desk.alone():
            pass
        assert f"process {os.getpid()} on {os.uname().nodename}, since 2027-01-15" in caught.value.what
        assert str(desk.directory) in caught.value.what and "--dir" in caught.value.remedy
        assert "(--wait-for-lock TIME waits for it)" in caught.value.remedy
        assert caught.value.exit_status is ExitStatus.TRY_AGAIN
        assert desk.path.read_text() == before, "the first one keeps it"
    with desk.alone():
        pass


def test_who_has_left_is_let_nowhere_any_more(desk: Desk) -> None:
    with desk.alone() as check:
        check()
    for _ in range(2):
        with pytest.raises(DirectoryBusy):
            check()
        with desk.alone() as another:  # It is another one's now, and that is let in.
            another()


def test_a_directory_that_cannot_be_written_is_told(desk: Desk) -> None:
    desk.memory.write_text("a file where a folder should be")
    with pytest.raises(DirectoryUnusable), desk.alone():
        pass


# --- Owners who are gone ------------------------------------------------------------------------------


def test_a_dead_owner_is_taken_over_at_once(desk: Desk) -> None:
    pid, birth = dead_process()
    desk.leave(pid=pid, born=birth)
    with desk.alone():
        assert desk.owner()["pid"] == os.getpid()
    assert desk.clock.slept == [] and not desk.memory.exists()


def test_a_number_that_another_process_has_now_is_no_life(desk: Desk) -> None:
    desk.leave(born="1")
    with desk.alone():
        assert desk.owner()["born"] != "1"


def test_a_zombie_is_dead(desk: Desk) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
    wait_until(lambda: owners._birth(process.pid) is None)
    desk.leave(pid=process.pid, born="1")
    with desk.alone():
        assert desk.owner()["pid"] == os.getpid()
    process.wait()


def test_a_process_of_somebody_else_is_alive_although_nothing_is_known_of_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(pid: int, number: int) -> None:
        raise PermissionError

    desk.leave(pid=1, born="7")
    monkeypatch.setattr(os, "kill", forbid)
    monkeypatch.setattr(owners, "_birth", lambda pid: None)
    with pytest.raises(DirectoryBusy):
        Desk(desk.directory, desk.clock).alone().__enter__()


# --- Other hosts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("age", [0.0, WATCH - 1.0, -WATCH + 1.0])
def test_an_owner_on_another_host_who_was_heard_of_lately_is_alive(desk: Desk, age: float) -> None:
    desk.leave(age=age, pid=dead_process()[0], **ELSEWHERE)
    with pytest.raises(DirectoryBusy, match="on login2, since"), desk.alone():
        pass
    assert desk.clock.slept == [], "nobody waits to be told that"


@pytest.mark.parametrize("age", [WATCH + 1.0, 1e6, -1e6])
def test_an_owner_on_another_host_is_taken_over_after_a_silent_watch(desk: Desk, age: float) -> None:
    desk.leave(age=age, **ELSEWHERE)
    with desk.alone():
        assert desk.owner()["boot"] == boot_id()
    assert desk.clock.slept == [WATCH] and WATCH > 3 * HEARTBEAT
    assert len(desk.said) == 1 and "login2" in desk.said[0]
    assert not desk.memory.exists()


def test_an_owner_whose_clock_is_wrong_is_alive_while_he_touches_the_lock(desk: Desk) -> None:
    class Beaten(FastClock):
        def sleep(self, seconds: float, stop: threading.Event) -> None:
            super().sleep(seconds, stop)
            desk.touch(age=86_000.0)

    desk.leave(age=86_400.0, **ELSEWHERE)
    desk.clock = Beaten()
    with pytest.raises(DirectoryBusy, match="login2"), desk.alone():
        pass


def test_a_process_number_means_nothing_in_another_container(desk: Desk) -> None:
    desk.leave(pid=dead_process()[0], space="pid:[1]")
    with pytest.raises(DirectoryBusy), desk.alone():
        pass


@pytest.mark.parametrize("content", ["", '{"host": "lo', "[]", '{"pid": "x"}', '{"pid": null}'])
def test_a_lock_that_nobody_can_read_is_given_a_few_seconds(desk: Desk, content: str) -> None:
    desk.memory.mkdir()
    desk.path.write_text(content)
    desk.touch()
    with desk.alone():
        assert desk.owner()["pid"] == os.getpid()
    assert 5.0 <= sum(desk.clock.slept) < 15.0 and desk.said == []


# --- Takeovers ----------------------------------------------------------------------------------------


def test_only_one_may_remove_a_dead_lock(desk: Desk) -> None:
    pid, birth = dead_process()
    owner = desk.leave(pid=pid, born=birth)
    desk.leave(name=f"lock.{owner.token}")  # Another client, alive, is just taking it over.
    seen = []

    class Impatient(FastClock):
        def sleep(self, seconds: float, stop: threading.Event) -> None:
            seen.append(desk.owner()["token"])
            desk.leave()  # It has got it.

    desk.clock = Impatient()
    with pytest.raises(DirectoryBusy), desk.alone():
        pass
    assert seen == [owner.token], "left where it was while the other was at it"


def test_who_died_over_a_takeover_does_not_block_the_next(desk: Desk) -> None:
    pid, birth = dead_process()
    owner = desk.leave(pid=pid, born=birth)
    claim = desk.leave(name=f"lock.{owner.token}", pid=pid, born=birth)
    desk.leave(name=f"lock.{owner.token}.{claim.token}", pid=pid, born=birth)
    with desk.alone():
        assert [path.name for path in desk.memory.iterdir()] == ["lock"]


def test_a_takeover_that_comes_too_late_removes_nothing(desk: Desk) -> None:
    with desk.alone():
        holder = desk.path.read_text()
        me = Owner.here(desk.clock.now())
        late = LockFile(desk.path, desk.directory, me, desk.clock, desk.said.append)
        late._remove(desk.path, Owner(token="0123456789abcdef"))  # What it had seen is long gone.
        assert desk.path.read_text() == holder


RACE = """
import os, sys, time
from pathlib import Path
from mwa_client.errors import DirectoryBusy
from mwa_client.directory.lock import directory_lock
from mwa_client.timing import SystemClock
directory, start = Path(sys.argv[1]), float(sys.argv[2])
time.sleep(max(start - time.time(), 0))
for _ in range(5000 if sys.argv[3:] else 25):
    try:
        with directory_lock(directory, directory / ".mwa_client", SystemClock(), print):
            (directory / "desk").mkdir()  # Fails if somebody else sits there.
            (directory / "desk").rmdir()
            print("worked", flush=True)
            if sys.argv[3:]:
                os._exit(0)  # Without giving anything back.
    except DirectoryBusy:
        time.sleep(0.002)
"""


@pytest.mark.parametrize("leaves", [(), ("dies",)])
def test_many_at_once_work_one_at_a_time(tmp_path: Path, leaves: tuple[str, ...]) -> None:
    start = str(time.time() + 0.2)
    words = [sys.executable, "-c", RACE, str(tmp_path), start, *leaves]
    processes = [ForkedClient(words, os.environ) for _ in range(6)]
    told = [process.communicate(timeout=60) for process in processes]
    assert [errors for _, errors in told if errors] == []
    lines = [line for out, _ in told for line in out.splitlines()]
    assert set(lines) == {"worked"}
    assert len(lines) == 6 if leaves else len(lines) > 6, "who dies is followed by the next"
    assert [path.name for path in tmp_path.iterdir()] == ([".mwa_client"] if leaves else [])


# --- A lock that is lost ------------------------------------------------------------------------------


def test_who_was_asleep_too_long_stops_when_somebody_else_has_the_lock(desk: Desk) -> None:
    with desk.alone() as guard:
        guard()
        desk.leave(**ELSEWHERE)
        other = desk.path.read_text()
        desk.clock.advance(3600.0)  # The laptop was closed.
        with pytest.raises(DirectoryBusy, match=r"was lost: process \d+ on login2") as caught:
            guard()
        assert "run the same command again" in caught.value.remedy
    assert desk.path.read_text() == other, "and leaves it alone"


def test_who_was_asleep_goes_on_when_the_lock_is_still_there(desk: Desk) -> None:
    with desk.alone() as guard:
        desk.clock.advance(3600.0)
        guard()
        assert abs(desk.path.stat().st_mtime - time.time()) < 60.0, "and is touched again"


def test_a_lock_that_was_removed_by_hand_is_lost(desk: Desk) -> None:
    with desk.alone() as guard:
        desk.path.unlink()
        desk.clock.advance(3600.0)
        with pytest.raises(DirectoryBusy, match="it was removed"):
            guard()


def test_the_lock_is_touched_while_the_work_goes_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_file, "HEARTBEAT", 0.01)
    with desk.alone():
        desk.touch(age=1e9)
        old = desk.path.stat().st_mtime
        wait_until(lambda: desk.path.stat().st_mtime > old)


# --- The command --------------------------------------------------------------------------------------


@pytest.fixture
def quick_sandbox() -> Iterator[Sandbox]:
    with Sandbox(seconds_per_state=0, product_size=lambda job: 100_000) as sandbox:
        yield sandbox


def test_two_commands_at_once(quick_sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox = quick_sandbox
    csv, data = tmp_path / "jobs.csv", tmp_path / "data"
    csv.write_text(THREE_ROWS)
    sandbox.faults.add("stall", after=0)
    words = command(f"--csv={csv}", f"--dir={data}", "--poll=0.05")
    with ForkedClient(words, environment(sandbox)) as first:
        wait_until(lambda: (data / ".mwa_client" / "lock").exists() and len(sandbox.jobs) == 3)
        asked = len(sandbox.requests)
        second = run_command(f"--csv={csv}", f"--dir={data}", env=environment(sandbox))
        assert second.returncode == 75
        message = f"Another mwa_client is working in {data}: process {first.pid} on "
        assert message in second.stderr and "Traceback" not in second.stderr
        again = run_command("-w", "all", f"--dir={data}", env=environment(sandbox))
        assert again.returncode == 75 and "Another mwa_client" in again.stderr
        errors = tmp_path / "errors.json"
        errors.write_text("what the first one wrote")
        run_command(f"--csv={csv}", f"--dir={data}", f"-e={errors}", env=environment(sandbox))
        assert errors.read_text() == "what the first one wrote"
        logins = [request for request in sandbox.requests[asked:] if request.path == "/api/login"]
        assert logins == [], "who is told to wait has asked the service for nothing"
        for harmless in (["--list-only"], [f"--csv={csv}", "--check"]):
            assert run_command(*harmless, f"--dir={data}", env=environment(sandbox)).returncode == 0
    sandbox.faults.clear()
    last = run_command(f"--csv={csv}", f"--dir={data}", "--poll=0.05", env=environment(sandbox))
    assert last.returncode == 0, last.stderr
    assert len(sandbox.jobs) == 3 and not (data / ".mwa_client" / "lock").exists()


def test_started_in_the_same_instant_one_works(quick_sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox = quick_sandbox
    csv = tmp_path / "jobs.csv"
    csv.write_text(THREE_ROWS)
    for attempt in range(4):
        data = tmp_path / str(attempt)
        stalls = sandbox.faults.add("slow", path="/api/login", seconds=60.0)
        words = command(f"--csv={csv}", f"--dir={data}", "-q")
        pair = [ForkedClient(words, environment(sandbox)) for _ in range(2)]
        wait_until(lambda: any(process.poll() is not None for process in pair))  # noqa: B023
        busy, working = sorted(pair, key=lambda process: process.poll() is None)
        wait_until(lambda: stalls.hits == 1)  # noqa: B023
        assert busy.returncode == 75 and f"process {working.pid} on" in busy.communicate()[1]
        working.send_signal(signal.SIGTERM)
        working.communicate()
        assert working.returncode == 143
        sandbox.faults.clear()
