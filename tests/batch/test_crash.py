"""Real processes that are killed, interrupted or starved, and the same command again."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from forked import ForkedClient
from ordeal import (
    Ordeal,
    let_go_wrong,
    practice_service,
    sha1_of,
    some_moment,
    some_rows,
)
from shared import FastClock, command, environment, run_batch, run_command, untimed, vis, wait_until

from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Job, LoggedRequest, Sandbox
from mwa_client.transfer import connections
from mwa_client.transfer.part_file import WRITE_SIZE

OBS = 1191828528
PRODUCT = "/api/download"
MEGABYTE = 1_000_000


def products(directory: Path) -> list[Path]:
    """What stands in the directory under a final name."""
    ours = (".mwa_client", "SHA1SUMS", "SHA1SUMS.new")
    return [path for path in directory.iterdir() if path.name not in ours] if directory.exists() else []


def downloads(sandbox: Sandbox) -> list[LoggedRequest]:
    """The requests for products, in that order: one whose client was killed is noted late."""
    asked = [request for request in sandbox.requests if request.path == PRODUCT]
    return sorted(asked, key=lambda request: request.connection)


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class Place:
    """A job file, a directory, and the command that brings the one into the other."""

    def __init__(self, folder: Path, text: str, *options: str) -> None:
        self.directory = folder / "data"
        self.csv = folder / "jobs.csv"
        self.csv.write_text(text)
        self.arguments = (f"--csv={self.csv}", f"--dir={self.directory}", "--poll=0.05", *options)

    def memory(self) -> list[str]:
        return sorted(path.name for path in (self.directory / ".mwa_client").iterdir())

    def part(self, job: Job) -> Path:
        return self.directory / ".mwa_client" / f"{job.file_name}.part"

    def run(self, sandbox: Sandbox) -> subprocess.CompletedProcess[str]:
        return run_command(*self.arguments, env=environment(sandbox))

    def running(self, sandbox: Sandbox) -> ForkedClient:
        return ForkedClient(command(*self.arguments), environment(sandbox))


# --- SIGKILL ------------------------------------------------------------------------------------------


def test_a_killed_download_is_continued(tmp_path: Path) -> None:
    size = 8 * MEGABYTE + 17
    place = Place(tmp_path, vis(OBS))
    with Sandbox(seconds_per_state=0, rate=5e6, product_size=lambda job: size) as sandbox:
        with place.running(sandbox) as process:
            wait_until(lambda: bool(sandbox.jobs) and size_of(place.part(sandbox.jobs[0])) >= 4 * MEGABYTE)
            process.kill()
            process.wait()
        (job,) = sandbox.jobs
        kept = size_of(place.part(job))
        assert 4 * MEGABYTE <= kept < size and products(place.directory) == []
        wait_until(lambda: len(downloads(sandbox)) == 1)
        done = place.run(sandbox)
        assert done.returncode == 0, done.stderr
        first, second = downloads(sandbox)
        assert (first.range, second.range) == (None, f"bytes={kept}-")
        assert second.headers["If-Range"] == job.content.etag
        assert (second.status, second.body_bytes_sent) == (206, size - kept)
        # What was on the way, and what was not written yet, is all that is fetched again.
        assert first.body_bytes_sent + second.body_bytes_sent <= size + 3 * WRITE_SIZE
        assert [sha1_of(path) for path in products(place.directory)] == [job.content.sha1]
        assert place.memory() == ["ledger.jsonl"]
        assert len(sandbox.jobs) == 1


@pytest.mark.parametrize("api", ApiVersion)
def test_kills_at_random_moments_do_nothing_twice_and_nothing_wrong(tmp_path: Path, api: ApiVersion) -> None:
    # tests/benchmarks/kills.py does the same at greater length.
    seed = f"20180613 {api.value}"
    dice = random.Random(seed)
    rows = some_rows(dice, 5, largest=2_500_000)
    with practice_service(rows, rate=2e6) as sandbox:
        ordeal = Ordeal(sandbox, api, tmp_path, rows)
        damages = let_go_wrong(sandbox, api, rows, dice)
        # Then it is left alone. It may be done before that, too.
        outcome = ordeal.go_through(damages, iter([some_moment(dice, longest=0.6) for _ in range(5)]))
    assert outcome.broken == [], (seed, "\n".join(outcome.broken))
    assert (outcome.duplicates, outcome.wrong, outcome.unverified) == (0, 0, 0)
    # Jobs may have failed at the service; that they did once is all there is to it.
    ended = [status for status in outcome.statuses if status != -signal.SIGKILL]
    assert ended in ([0], [4]) and outcome.statuses[-signal.SIGKILL] == outcome.kills
    assert outcome.served <= outcome.total + sum(outcome.lost) + outcome.damage


# --- Ctrl-C and SIGTERM -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "status", "is_stalled"),
    [(signal.SIGINT, 130, False), (signal.SIGTERM, 143, False), (signal.SIGINT, 130, True)],
)
def test_an_interrupted_download_is_kept(
    tmp_path: Path, number: signal.Signals, status: int, is_stalled: bool
) -> None:
    size = 5 * MEGABYTE
    place = Place(tmp_path, vis(OBS))
    with Sandbox(seconds_per_state=0, rate=4e6, product_size=lambda job: size) as sandbox:
        if is_stalled:
            sandbox.faults.add("stall", after=2_500_000, times=1)
        with place.running(sandbox) as process:
            wait_until(lambda: bool(sandbox.jobs) and size_of(place.part(sandbox.jobs[0])) >= 2 * MEGABYTE)
            if is_stalled:
                time.sleep(0.3)  # For the rest of what comes to come.
            process.send_signal(number)
            output, errors = process.communicate(timeout=20)
        assert process.returncode == status
        word = "Interrupted" if number is signal.SIGINT else "Terminated"
        last_line = untimed(errors).splitlines()[-1]
        assert last_line.startswith(f"{word}. Everything so far is kept: run the same command")
        assert "Traceback" not in output + errors
        kept = size_of(place.part(sandbox.jobs[0]))
        assert kept >= 2 * MEGABYTE and products(place.directory) == []
        done = place.run(sandbox)
        assert done.returncode == 0, done.stderr
        assert downloads(sandbox)[-1].range == f"bytes={kept}-"
        assert [sha1_of(path) for path in products(place.directory)] == [sandbox.jobs[0].content.sha1]
        assert len(sandbox.jobs) == 1


@pytest.mark.parametrize("path", ["/api/login", "/api/get_jobs", "/api/download_vis_job"])
def test_an_interrupt_does_not_wait_for_an_answer(tmp_path: Path, path: str) -> None:
    place = Place(tmp_path, vis(OBS))
    with Sandbox(seconds_per_state=0, product_size=lambda job: 10) as sandbox:
        slow = sandbox.faults.add("slow", path=path, seconds=60.0, times=1)
        with place.running(sandbox) as process:
            wait_until(lambda: slow.hits == 1)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
        assert process.returncode == 130
        assert place.run(sandbox).returncode == 0
        assert len(sandbox.jobs) == 1, "the submission that was given up is found again"


# --- A bad line ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
def test_products_that_are_cut_again_and_again_arrive(
    clock: FastClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reset: bool
) -> None:
    # On the fast clock an hour can pass while a few bytes are on their way: no connection is too slow then.
    monkeypatch.setattr(connections, "SLOW_FOR", float("inf"))
    dice = random.Random(7)
    sizes = {OBS: 3_000_000, OBS + 1: 1, OBS + 2: 1_048_577}
    with Sandbox(clock=clock.now, product_size=lambda job: sizes[int(job.obs_id)]) as sandbox:
        cuts = {
            obs_id: sandbox.faults.add(
                "cut_product",
                # Of what is left at the time; a cut beyond the end does not happen.
                after=[dice.randrange(0, max(size // 8, 1)) for _ in range(10)],
                reset=reset,
                obs_id=obs_id,
            )
            for obs_id, size in sizes.items()
        }
        run = run_batch(sandbox, tmp_path, clock, vis(*sizes))
        assert run.summary.exit_status == 0
        for row in run.summary.complete:
            job = sandbox.service.find(row.row.job_id)
            assert job is not None and [sha1_of(file.path) for file in row.files] == [job.content.sha1]
        assert cuts[OBS].hits == cuts[OBS + 1].hits == 10
        sent = sum(request.body_bytes_sent for request in downloads(sandbox))
        # A reset takes what has come and was not read yet with it.
        lost = sum(sizes.values()) if reset else 0
        assert sum(sizes.values()) <= sent <= sum(sizes.values()) + lost, "no byte was fetched twice"
