"""The client is ended while a command of `--then` runs: so is the command, and the next run runs it again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from shared import command, environment, is_alive, wait_until

from mwa_client.cli import main as cli
from mwa_client.sandbox import Sandbox

ROW = "obs_id=1191828584, job_type=d, download_type=vis"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(seconds_per_state=0, product_size=lambda job: 1000) as sandbox:
        yield sandbox


def is_gone(pid: int) -> bool:
    return not is_alive(pid)


def test_a_client_that_is_ended_takes_the_command_with_it(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("-j", ROW, f"--dir={tmp_path}/data", "--poll=0.05")
    ours = environment(MWA_ASVO_HOST=sandbox.url, MWA_ASVO_API_KEY="practice-key", HOME=str(tmp_path))
    pids = tmp_path / "pids"
    then = f"sleep 100 & p=$!; echo $$ $p {{line}} > {pids}.new; mv {pids}.new {pids}; wait $p"
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        client = subprocess.Popen(
            command(*arguments, f"--then={then}"),
            env=ours,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        wait_until(pids.exists)
        os.killpg(client.pid, number)
        told, _ = client.communicate(timeout=20)
        assert client.returncode == status, told
        assert ("was cut off when an earlier run ended. It is run again." in told) is (
            number != signal.SIGINT
        )
        for pid in pids.read_text().split()[:2]:
            wait_until(partial(is_gone, int(pid)))
        pids.unlink()
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    assert cli.main([*arguments, "--then=echo {path}"]) == 0
    assert "was cut off" in capsys.readouterr().out
    entries = map(json.loads, (tmp_path / "data/.mwa_client/ledger.jsonl").read_text().splitlines())
    assert [entry["status"] for entry in entries if entry["event"] == "then"] == [None, None, None, None, 0]
    assert len(sandbox.jobs) == 1
