"""--wait-for-lock: a client waits until the directory is free, and says for whom."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from desk import ELSEWHERE, Desk
from forked import ForkedClient
from shared import FastClock, command, environment, wait_until

from mwa_client.directory.owner import Owner
from mwa_client.errors import DirectoryBusy
from mwa_client.sandbox import Sandbox


class Calendar(FastClock):
    """A clock on which things happen at certain times."""

    def __init__(self, **things: object) -> None:
        super().__init__()
        self.begun = self.now()
        self.due: list[tuple[float, object]] = []

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        super().sleep(seconds, stop)
        while self.due and self.now() - self.begun >= self.due[0][0]:
            self.due.pop(0)[1]()  # type: ignore[operator]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, Calendar())


def test_it_waits_until_the_other_has_finished(desk: Desk) -> None:
    first = ExitStack()
    first.enter_context(desk.alone())
    assert isinstance(desk.clock, Calendar)
    desk.clock.due = [(90.0, first.close)]
    with desk.alone(wait=300.0):
        waited = desk.clock.now() - desk.clock.begun
        assert 90.0 <= waited <= 100.0
    (said,) = desk.said
    assert f"process {os.getpid()} on" in said and "Waiting until it has finished, for up to 5 min" in said


def test_the_time_passes_and_it_leaves(desk: Desk) -> None:
    with desk.alone():
        begun = desk.clock.now()
        with pytest.raises(DirectoryBusy, match="Another mwa_client is working"), desk.alone(wait=45.0):
            pass
        assert desk.clock.now() - begun == pytest.approx(45.0)
        assert desk.said[0].endswith("for up to 45 s.") and len(desk.said) == 1
        assert [path.name for path in desk.memory.iterdir()] == ["lock"], "it stays whose it was"


def test_each_one_that_it_waits_for_is_named_once(desk: Desk) -> None:
    desk.leave(**{**ELSEWHERE, "host": "login2"})
    assert isinstance(desk.clock, Calendar)

    def follow() -> None:
        desk.leave(**{**ELSEWHERE, "host": "login3"})

    desk.clock.due = [(20.0, follow), (40.0, desk.path.unlink)]
    with desk.alone(wait=100.0):
        pass
    assert [("login2" in text, "login3" in text) for text in desk.said] == [(True, False), (False, True)]


def test_one_that_dies_meanwhile_is_taken_over(desk: Desk) -> None:
    """Its clock is an hour behind: that it is alive shows only by watching, which is said once."""
    desk.leave(age=3600.0, **ELSEWHERE)
    assert isinstance(desk.clock, Calendar)
    desk.clock.due = [(at, lambda at=at: desk.touch(3600.0 - at)) for at in (15.0, 60.0, 100.0)]
    with desk.alone(wait=1000.0):
        assert Owner.of(desk.path) is not None
        assert 100.0 < desk.clock.now() - desk.clock.begun < 250.0
    assert sum("50 s to see whether" in text for text in desk.said) == 1


def test_the_command_waits_and_an_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    csv, data = tmp_path / "jobs.csv", tmp_path / "data"
    csv.write_text("obs_id=1191828528, job_type=d, download_type=vis\n")
    desk = Desk(data, FastClock())
    data.mkdir()
    with Sandbox(seconds_per_state=0, product_size=lambda job: 1000) as sandbox:
        words = command(f"--csv={csv}", f"--dir={data}", "--wait-for-lock=60", "--poll=0.05")
        with desk.alone():
            waiting = [ForkedClient(words, environment(sandbox)) for _ in range(2)]
            for process in waiting:
                assert process.stderr is not None
                line = process.stderr.readline()
                assert f"process {os.getpid()} on" in line and "Waiting until" in line
            waiting[0].send_signal(signal.SIGINT)
            _, said = waiting[0].communicate(timeout=2.0)
            assert waiting[0].returncode == 130 and "Traceback" not in said
            assert len(sandbox.requests) == 0
        assert waiting[1].wait(20) == 0
        waiting[1].communicate()
        assert len(sandbox.jobs) == 1
    wait_until(lambda: not (data / ".mwa_client" / "lock").exists())
