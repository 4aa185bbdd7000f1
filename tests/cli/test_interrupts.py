"""Ctrl-C, SIGTERM, SIGHUP, once or again and again: all is kept, and it is over within two seconds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import ForkedClient
from shared import command, environment, run_command, untimed, wait_until

from mwa_client.cli.interrupts import SIGNALS, Interrupted, interrupts_caught, interrupts_held_back
from mwa_client.sandbox import Sandbox

INTERRUPTED = "Interrupted. Everything so far is kept: run the same command again to continue."
TERMINATED = "Terminated. Everything so far is kept: run the same command again to continue."
ROW = "obs_id=1191828528, job_type=d, download_type=vis\n"


def raise_signal(number: signal.Signals) -> None:
    signal.raise_signal(number)
    time.sleep(0)  # Python hears it between two steps.


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signals mean after each test what they meant before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# --- In the main thread -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (signal.SIGINT, 130, INTERRUPTED),
        (signal.SIGTERM, 143, TERMINATED),
        (signal.SIGHUP, 143, TERMINATED),
    ],
)
def test_a_signal_is_raised_and_says_how_to_go_on(number: signal.Signals, status: int, words: str) -> None:
    with pytest.raises(Interrupted) as caught, interrupts_caught():
        raise_signal(number)
    assert (caught.value.exit_status, str(caught.value)) == (status, words)


def test_a_second_one_does_not_disturb_what_is_being_put_down() -> None:
    steps = []
    with pytest.raises(Interrupted), interrupts_caught():
        try:
            raise_signal(signal.SIGINT)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                raise_signal(number)
                steps.append(number)
    assert len(steps) == 3


def test_what_must_not_be_cut_in_two_is_finished_first() -> None:
    steps = []
    with pytest.raises(Interrupted) as caught, interrupts_caught():
        with interrupts_held_back():
            with interrupts_held_back():
                raise_signal(signal.SIGTERM)
                steps.append("inner")
            steps.append("outer")
        steps.append("never")
    assert steps == ["inner", "outer"] and caught.value.exit_status == 143


def test_what_is_ignored_stays_ignored_and_handlers_come_back() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupts_caught():
        raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    with pytest.raises(KeyboardInterrupt):
        raise_signal(signal.SIGINT)


# --- Processes ----------------------------------------------------------------------------------------


HANGS = """
import hashlib
from mwa_client.cli.interrupts import Interrupted, interrupts_caught

def hang():  # No exception reaches the main thread in this call.
    hashlib.pbkdf2_hmac("sha1", b"", b"", 2**31 - 1)

with interrupts_caught():
    try:
        print("hangs", flush=True)
        hang()
    except Interrupted:
        hang()
"""


def test_a_call_that_hangs_is_left(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HANGS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "hangs\n"
    asked_at = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - asked_at < 15.0, "it would take hours"
    assert (process.returncode, errors) == (130, f"{INTERRUPTED}\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_impatient_users_lose_nothing(tmp_path: Path, number: signal.Signals) -> None:
    csv, data = tmp_path / "jobs.csv", tmp_path / "data"
    csv.write_text(ROW)
    with Sandbox(seconds_per_state=0, rate=4e6, product_size=lambda job: 3_000_000) as sandbox:
        sandbox.faults.add("stall", after=1_500_000, times=1)
        words = (f"--csv={csv}", f"--dir={data}", "--poll=0.05")
        process = ForkedClient(command(*words), environment(sandbox))
        part = data / ".mwa_client" / "1191828528_vis.zip.part"
        wait_until(lambda: part.exists() and part.stat().st_size >= 1_000_000)
        for _ in range(3):
            process.send_signal(number)
            time.sleep(0.05)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == (130 if number is signal.SIGINT else 143)
        assert untimed(errors) == f"{INTERRUPTED if number is signal.SIGINT else TERMINATED}\n", "said once"
        names = {path.name for path in (data / ".mwa_client").iterdir()}
        assert names == {"ledger.jsonl", part.name, f"{part.name}.json"}, "the lock is given back"
        kept = part.stat().st_size
        assert run_command(*words, env=environment(sandbox)).returncode == 0
        downloads = [request for request in sandbox.requests if request.path == "/api/download"]
        last = max(downloads, key=lambda request: request.started)
        assert last.range == f"bytes={kept}-" and len(sandbox.jobs) == 1


def test_nobody_has_to_read_the_last_words(tmp_path: Path) -> None:
    csv = tmp_path / "jobs.csv"
    csv.write_text(ROW)
    with Sandbox(seconds_per_state=3600.0) as sandbox:
        ear, mouth = os.pipe()
        os.set_blocking(mouth, False)
        while True:  # A pipe that is full, with a reader who does not read.
            try:
                os.write(mouth, bytes(65536))
            except BlockingIOError:
                break
        os.set_blocking(mouth, True)
        words = command(f"--csv={csv}", f"--dir={tmp_path / 'data'}", "-q")
        process = subprocess.Popen(
            words, env=environment(sandbox), stdin=subprocess.DEVNULL, stdout=mouth, stderr=mouth
        )
        wait_until(lambda: len(sandbox.jobs) == 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
        os.close(ear)
        os.close(mouth)
