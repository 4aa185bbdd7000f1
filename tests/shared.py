"""What the tests share: a clock on which a week passes in a second, runs against the sandbox."""

from __future__ import annotations

import io
import os
import queue
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, TypeVar

from forked import ForkedClient, is_like_ours

from mwa_client.asvo import open_session
from mwa_client.asvo.service import Credentials, Service
from mwa_client.batch.batch import Batch
from mwa_client.batch.events import Event, Notice, Summary
from mwa_client.batch.ledger import Ledger
from mwa_client.batch.pacing import Pacing
from mwa_client.display.lines import LineDisplay
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.sharing import Share
from mwa_client.sandbox import Job, JobType, LoggedRequest, Sandbox

T = TypeVar("T")

THREE_ROWS = """\
obs_id=1191828584, job_type=c, timeres=20, freqres=20, edgewidth=80, conversion=ms
obs_id=1191828584, job_type=d, download_type=vis
obs_id=1191828528, job_type=d, download_type=vis_meta
"""

LOGIN = {ApiVersion.V2018: "/api/login", ApiVersion.V1: "/api/api_login", ApiVersion.V2: "/api/v2/api_login"}
LISTING = {
    ApiVersion.V2018: "/api/get_jobs",
    ApiVersion.V1: "/api/get_jobs",
    ApiVersion.V2: "/api/v2/get_jobs",
}
SUBMISSION = {
    ApiVersion.V2018: "/api/download_vis_job",
    ApiVersion.V1: "/api/download_vis_job",
    ApiVersion.V2: "/api/v2/download_vis_job",
}
"""Where each interface is asked, and what for."""


class FastClock:
    """A clock whose waits take no time. It stands still while nobody waits."""

    def __init__(self, now: float = 1.8e9) -> None:
        self._now = now
        self._lock = threading.Lock()
        self.slept: list[float] = []

    def now(self) -> float:
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        return self.now()

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        self.slept.append(seconds)
        self.advance(seconds)

    def receive(self, inbox: queue.Queue[T], seconds: float, *, is_coming: bool = False) -> T | None:
        try:
            # Real threads get a real moment; only when they are silent does the time pass.
            return inbox.get(timeout=20.0 if is_coming else 0.01)
        except queue.Empty:
            self.advance(max(seconds, 0.0))
            return None

    def chance(self) -> float:
        return 0.5


def service_of(
    sandbox: Sandbox,
    api: ApiVersion = ApiVersion.V2018,
    *,
    password: str = "practice",
    key: str = "practice-key",
    stall_timeout: float = 5.0,
    tokens: Path | None = None,
) -> Service:
    """How to reach a sandbox; today's interfaces by key."""
    return Service(
        api=api,
        address=sandbox.url,
        name="practice.example",
        credentials=Credentials("practice", password) if api is ApiVersion.V2018 else Credentials(key=key),
        call_timeout=5.0,
        stall_timeout=stall_timeout,
        tokens=tokens,
    )


@dataclass
class Run:
    """One run of a batch: how it ended and what it told."""

    summary: Summary
    events: list[Event] = field(default_factory=list)

    def told(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]


def run_batch(
    sandbox: Sandbox,
    directory: Path,
    clock: FastClock,
    text: str = THREE_ROWS,
    *,
    api: ApiVersion = ApiVersion.V2018,
    pacing: Pacing | None = None,
    service: Service | None = None,
    listen: Callable[[Event], None] = lambda event: None,
    once: bool = False,
    share: str | None = None,
    **more: Any,
) -> Run:
    """Run a job file, or a share of it, against a sandbox, in this process, on the fast clock."""
    service = service or service_of(sandbox, api)
    events: list[Event] = []

    def hear(event: Event) -> None:
        events.append(event)
        listen(event)

    jobs = parse(text, service.api).jobs
    part = None if share is None else Share.read(share).part(jobs)
    if part is not None:
        jobs = tuple(job for job in jobs if job.obs_id in part.observations)
    ledger = Ledger(directory, service.name, now=clock.now, part=part)
    with closing(ledger), closing(open_session(service, clock=clock)) as session:
        means = (lambda: session, ledger, clock, hear, pacing or Pacing())
        return Run(Batch(jobs, *means, once=once, **more).run(), events)


def vis(*obs_ids: int, more: str = "") -> str:
    """A job file with one visibility download for each observation."""
    return "".join(f"obs_id={obs_id}, job_type=d, download_type=vis{more}\n" for obs_id in obs_ids)


def listed(sandbox: Sandbox, obs_id: int = 1191828528, *, delivery: str | None = None, **options: Any) -> Job:
    """A job that is at the service before the client comes."""
    asked_for = {"obs_id": str(obs_id), "download_type": "vis"}
    if delivery is not None:
        asked_for["delivery"] = delivery
    return sandbox.service.add(asked_for, JobType.VISIBILITIES, **options)


def asked(sandbox: Sandbox, path: str) -> list[LoggedRequest]:
    """What the service was asked at one of its paths."""
    return [request for request in sandbox.requests if request.path == path]


def lines_shown(events: Iterable[Event]) -> list[str]:
    """The lines that a person would have read."""
    stream = io.StringIO()
    display = LineDisplay(stream, stream, FastClock())
    for event in events:
        display(event)
    return stream.getvalue().splitlines()


def true_bytes(job: Job) -> bytes:
    """The product of a job of the sandbox, as it should arrive."""
    return b"".join(job.content.pieces())


def products(directory: Path) -> set[str]:
    """What a user sees in the download directory, apart from the checksums."""
    return {file.name for file in directory.iterdir() if not file.name.startswith((".", "SHA1"))}


def notices(run: Run, word: str = "") -> list[str]:
    """The notices of a run that have a word in them."""
    return [event.text for event in run.told(Notice) if word in event.text]


def failures(run: Run) -> dict[int, str]:
    """What has gone wrong, by the line of the row."""
    return {failed.row.line: failed.error.what for failed in run.summary.failed}


def command(*arguments: str | Path) -> list[str]:
    """The command line of the client, as a process of its own."""
    return [sys.executable, "-m", "mwa_client", *map(str, arguments)]


def environment(sandbox: Sandbox | None = None, **more: str) -> dict[str, str]:
    """An environment that points the client at a sandbox, and at nothing else."""
    ours = ("ASVO_", "MWA_ASVO_", "SSL_")
    plain = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    if sandbox is not None:
        plain |= {"ASVO_HOST": sandbox.url, "ASVO_USER": "practice", "ASVO_PASS": "practice"}
    return {**plain, **more}


def run_command(
    *arguments: str | Path,
    env: dict[str, str],
    cwd: Path | None = None,
    stdin: bytes = b"",
    is_new: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run the client as a process and wait for it; its lines are given without their times.

    It has read its modules when it starts, unless what counts at the start is given in `env`, or `is_new`.
    """
    words = command(*arguments)
    if is_like_ours(env) and not is_new:
        return run_forked(words, env, cwd, stdin)
    done = subprocess.run(
        words, env=env, cwd=cwd, input=stdin.decode(), capture_output=True, text=True, timeout=15, check=False
    )
    return finished(words, done.returncode, done.stdout, done.stderr)


def run_forked(
    words: list[str], env: dict[str, str], cwd: Path | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[str]:
    """Run a process that has read the client's modules when it starts, and wait for it, as `run_command`."""
    with ForkedClient(words, env, cwd, given=stdin) as process:
        stdout, stderr = process.communicate(timeout=20)
    return finished(words, process.wait(), stdout, stderr)


def finished(words: list[str], status: int, stdout: str, stderr: str) -> subprocess.CompletedProcess[str]:
    """Say how a client has ended; its lines are given without their times."""
    return subprocess.CompletedProcess(words, status, untimed(stdout), untimed(stderr))


def untimed(text: str) -> str:
    """Return the lines of a log without the time of day that each begins with."""
    return re.sub(r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", text)


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for another process or thread, as short as possible; fail when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what the test waited for did not happen"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Say whether a process lives; one that has ended and that nobody has asked about does not."""
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except FileNotFoundError:  # It has ended just now, or this system has no such file.
            return not Path("/proc/self/stat").exists()
    return False


def together(calls: int, call: Callable[[], object]) -> list[BaseException]:
    """Make a call in several threads at the same moment; return what went wrong."""
    gate = threading.Barrier(calls)
    errors: list[BaseException] = []

    def work() -> None:
        gate.wait()
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return errors


@contextmanager
def longest_file(size: int) -> Iterator[None]:
    """The system writes no file of this process beyond this size: what fits is written, then an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
