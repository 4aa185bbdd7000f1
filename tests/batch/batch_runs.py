"""What the tests of a batch share: job files, jobs that are listed already, and what a run has said."""

from __future__ import annotations

import hashlib
import queue
from pathlib import Path
from typing import TypeVar

from shared import FastClock, Run, lines_shown

from mwa_client.sandbox import LoggedRequest, Sandbox
from mwa_client.timing import LAST_POLL

T = TypeVar("T")
LISTING = "/api/get_jobs"
SUBMISSION = "/api/download_vis_job"
PRODUCT = "/api/download"
OBS = 1191828528
OTHER = 1191828584


class PatientClock(FastClock):
    """A fast clock that does not let time pass while the loop can only wait for its workers."""

    def receive(self, inbox: queue.Queue[T], seconds: float, *, is_coming: bool = False) -> T | None:
        if is_coming or seconds < LAST_POLL:
            return super().receive(inbox, seconds, is_coming=is_coming)
        return inbox.get(timeout=20.0)


ANEW = ", allow_resubmit=true"


def gaps(requests: list[LoggedRequest]) -> list[float]:
    """Seconds between requests, as the fast clock had them."""
    times = [request.started for request in requests]
    return [later - earlier for earlier, later in zip(times, times[1:])]


def sha1_of(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


def final_names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {".mwa_client", "SHA1SUMS"}


def assert_right(sandbox: Sandbox, run: Run) -> None:
    """Every file of every complete row is that of its job, and nothing else stands in the directory."""
    names = set()
    for row in run.summary.complete:
        job = sandbox.service.find(row.row.job_id)
        assert job is not None and int(job.obs_id) == row.row.obs_id
        assert [sha1_of(file.path) for file in row.files] == [job.content.sha1]
        names |= {file.path.name for file in row.files}
    assert final_names(run.summary.directory) == names


def failure(run: Run, line: int = 1) -> str:
    return next(failed.error.what for failed in run.summary.failed if failed.row.line == line)


def screen(run: Run) -> list[str]:
    """The lines that a person would have read."""
    return lines_shown(run.events)


def assert_nothing_said_twice(run: Run) -> None:
    # A setback is another one when bytes have arrived in between.
    lines = [line for line in screen(run) if not line.startswith(" ") and "Continuing in" not in line]
    assert len(lines) == len(set(lines))
