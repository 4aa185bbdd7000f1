"""What many rows cost: the loop with 20,000 of them, SHA1SUMS with 10,000 products, a ledger of 100,000 rows.

python tests/benchmarks/many_rows.py             prints each figure beside its goal
python tests/benchmarks/many_rows.py --rows 2000

The service's answers are made up in this process, so that what is measured is the client's own work; what it
costs to read a listing from the wire is measured by polling.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from mwa_client.asvo.api_client import Submission
from mwa_client.asvo.job import Job, JobState
from mwa_client.asvo.session import Session
from mwa_client.batch.batch import Batch
from mwa_client.batch.ledger import Ledger
from mwa_client.batch.pacing import Pacing
from mwa_client.batch.records import FetchedProduct
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.keys import ApiVersion, JobType
from mwa_client.jobs.request import JobRequest
from mwa_client.timing import SystemClock
from mwa_client.transfer.files import FetchedFile

T = TypeVar("T")

FIRST_GOAL, POLL_GOAL, TURN_GOAL = 3.0, 0.5, 0.001
"""Seconds of CPU. The first poll of a run compares each row with its job, and records what it finds."""
SUMS_GOAL = 10.0
"""Seconds of CPU for 10,000 products, each of which is synced to the disk twice."""
READ_GOAL, MEMORY_GOAL = 2.0, 300.0
"""Seconds of CPU, and MB."""
SERVICE = "practice.example"
FIRST_OBS = 1061311664
TURNS = 200
POLLS = 5
LEDGER_LINES = 7
"""A row's lines in the ledger: its intent, its job, three states, a name, and that it is complete."""


class Stopped(Exception):
    """Enough was measured."""


class Stopwatch(SystemClock):
    """The machine's clock, which does not wait, and notes the CPU time that passes between two waits."""

    def __init__(self, polls: int, turns: int) -> None:
        self.polls: list[float] = []
        self.turns: list[float] = []
        self._wanted = polls, turns
        self._ahead = 0.0
        self._began: float | None = None
        self._is_poll = False

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead

    def now(self) -> float:
        return super().now() + self._ahead

    def receive(self, inbox: queue.Queue[T], seconds: float, *, is_coming: bool = False) -> T | None:
        if self._began is not None:
            (self.polls if self._is_poll else self.turns).append(time.thread_time() - self._began)
        if len(self.polls) >= self._wanted[0] and len(self.turns) >= self._wanted[1]:
            raise Stopped
        message = inbox.get() if is_coming else None
        self._is_poll = is_coming
        if not is_coming and len(self.turns) % 20 == 19:
            self._ahead += seconds  # Let the next listing be due.
        self._began = time.thread_time()
        return message


class MadeUp(Session):
    """A service that lists what it was told to, and takes no job."""

    def __init__(self, listing: Mapping[int, Job], api: ApiVersion) -> None:
        self._listing = dict(listing)
        self._api = api

    @property
    def api(self) -> ApiVersion:
        return self._api

    def jobs(self, known: Collection[int] = ()) -> dict[int, Job]:
        return dict(self._listing)

    def submit(
        self, job_type: JobType, parameters: Mapping[str, str], *, allow_resubmit: bool = False
    ) -> Submission:
        threading.Event().wait()
        raise AssertionError


def main() -> int:
    """Measure all and print it; 0 where the goals are met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000, help="rows of the batch (default: %(default)s)")
    parser.add_argument("--products", type=int, default=10_000, help="for SHA1SUMS (default: %(default)s)")
    parser.add_argument(
        "--ledger", type=int, default=100_000, help="rows of the ledger (default: %(default)s)"
    )
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read_ledger(options.read)
        return 0
    figures = [
        *loop("watched, each on its own observation", rows(options.rows, is_one=False), is_known=True),
        *loop("watched, on one observation", rows(options.rows, is_one=True), is_known=True),
        *loop("looked for, on one observation", rows(options.rows, is_one=True), is_known=False),
        sums(options.products),
        *ledger(options.ledger),
    ]
    return 0 if all(figures) else 1


def tell(what: str, value: float, goal: float, unit: str) -> bool:
    """Print a figure; say whether it is below its goal."""
    is_met = value < goal
    print(f"{what:68} {value:9.3f} {unit}  (goal {goal:g}{'' if is_met else ': NOT met'})", flush=True)
    return is_met


# --- The loop -----------------------------------------------------------------------------------------


def rows(count: int, *, is_one: bool) -> Sequence[JobRequest]:
    """Return conversions that differ in observation, or in where on the sky they are to point."""
    lines = (
        f"obs_id={FIRST_OBS if is_one else FIRST_OBS + 8 * number}, job_type=c, avg_time_res=4, "
        f"avg_freq_res=80, output=ms, centre=custom, phase_centre_ra={number % 360}.{number // 360:03}, "
        "phase_centre_dec=-27"
        for number in range(count)
    )
    return parse("\n".join(lines), ApiVersion.V2).jobs


def listing_of(requests: Sequence[JobRequest], api: ApiVersion) -> dict[int, Job]:
    """Return a job that is at work for each."""
    jobs = {}
    for job_id, request in enumerate(requests, start=10001):
        said = MappingProxyType({**request.parameters(api), "obs_id": request.obs_id})
        jobs[job_id] = Job(job_id, JobState.PROCESSING, "processing", request.obs_id, request.job_type, said)
    return jobs


def loop(what: str, requests: Sequence[JobRequest], *, is_known: bool) -> list[bool]:
    """Measure polls and turns of the loop with all these rows."""
    api = ApiVersion.V2
    listing = listing_of(requests, api)
    clock = Stopwatch(POLLS, TURNS)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        if is_known:
            write_ledger(directory, requests, listing)
        with closing(Ledger(directory, SERVICE)) as memory:
            session = MadeUp(listing, api)
            batch = Batch(requests, lambda: session, memory, clock, lambda event: None, Pacing(poll=5.0))
            try:
                batch.run()
            except Stopped:
                pass
    first, *later = clock.polls
    turn = sorted(clock.turns)[len(clock.turns) // 2]
    number = f"{len(requests)} rows {what}"
    return [
        tell(f"{number}: first poll", first, FIRST_GOAL, "s CPU"),
        tell(f"{number}: a poll", max(later), POLL_GOAL, "s CPU"),
        tell(f"{number}: a turn", turn, TURN_GOAL, "s CPU"),
    ]


def write_ledger(directory: Path, requests: Sequence[JobRequest], listing: Mapping[int, Job]) -> None:
    """Let the ledger know each row's job."""
    memory = directory / ".mwa_client"
    memory.mkdir(mode=0o700)
    with (memory / "ledger.jsonl").open("w") as file:
        for job_id, request in zip(listing, requests):
            file.write(line("job", row=request.identity, job_id=job_id))


def line(event: str, **more: Any) -> str:
    """Return a line of the ledger."""
    entry = {"time": "2026-10-01T00:00:00Z", "service": SERVICE, "event": event, **more}
    return json.dumps(entry) + "\n"


# --- The ledger ---------------------------------------------------------------------------------------


def sums(count: int) -> bool:
    """Measure what it costs to finish so many products, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        with closing(Ledger(directory, SERVICE)) as memory:
            began = time.process_time()
            for number in range(count):
                path = directory / f"{FIRST_OBS + 8 * number}_{number}_vis.tar"
                path.touch()
                file = FetchedFile(path, 0, hashlib.sha1(str(number).encode()).hexdigest(), True)
                memory.record_complete(
                    f"job_type=d obs_id={FIRST_OBS + 8 * number}", number, FetchedProduct((file,))
                )
            cost = time.process_time() - began
        assert len((directory / "SHA1SUMS").read_text().splitlines()) == count
    return tell(f"SHA1SUMS and ledger of {count} products, one after the other", cost, SUMS_GOAL, "s CPU")


def ledger(count: int) -> list[bool]:
    """Measure in a process of its own what it costs to read a ledger of so many complete rows."""
    with tempfile.TemporaryDirectory() as folder:
        memory = Path(folder) / ".mwa_client"
        memory.mkdir(mode=0o700)
        with (memory / "ledger.jsonl").open("w") as file:
            for number in range(count):
                file.writelines(lines_of_row(number))
        size = (memory / "ledger.jsonl").stat().st_size / 1e6
        done = subprocess.run(
            [sys.executable, __file__, "--read", folder], stdout=subprocess.PIPE, text=True, check=True
        )
    seconds, megabytes = (float(word) for word in done.stdout.split())
    what = f"a ledger of {count} rows ({count * LEDGER_LINES} lines, {size:.0f} MB)"
    return [
        tell(f"{what}: to read it", seconds, READ_GOAL, "s CPU"),
        tell(f"{what}: memory", megabytes, MEMORY_GOAL, "MB"),
    ]


def lines_of_row(number: int) -> list[str]:
    """Return what the ledger has of a complete row."""
    row, job_id = f"job_type=d obs_id={FIRST_OBS + 8 * number}", 500_000 + number
    name = f"{FIRST_OBS + 8 * number}_{job_id}_vis.tar"
    file = {"name": name, "size": 9563217, "sha1": f"{number:040x}", "verified": True}
    states = ("queued", "processing", "completed")
    return [
        line("intent", row=row, after=job_id - 1),
        line("job", row=row, job_id=job_id),
        *(line("state", row=row, job_id=job_id, state=state) for state in states),
        line("name", name=name, job_id=job_id),
        line("complete", row=row, job_id=job_id, files=[file]),
    ]


def read_ledger(directory: Path) -> None:
    """Read a ledger; print the seconds of CPU that it took and the peak memory of this process in MB."""
    began = time.process_time()
    with closing(Ledger(directory, SERVICE)):
        seconds = time.process_time() - began
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


if __name__ == "__main__":
    sys.exit(main())
