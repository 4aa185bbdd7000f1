"""A diary: a ledger whose clock the tests set, for what is told of it later."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mwa_client.batch.ledger import STATE_DIR, Ledger
from mwa_client.batch.records import FetchedProduct
from mwa_client.batch.status import DirectoryStatus, status_of
from mwa_client.errors import JobFailed
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.keys import ApiVersion
from mwa_client.transfer.files import ExpectedFile, FetchedFile

NOON = 1.8e9
"""2027-01-15 08:00:00 UTC."""
OBS = 1191828584


def identity(obs_id: int = OBS) -> str:
    return f"job_type=d obs_id={obs_id}"


def row_text(obs_id: int = OBS) -> str:
    return f"obs_id={obs_id}, job_type=d, download_type=vis\n"


class Diary:
    """What runs have done in a directory, one after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state_dir = directory / STATE_DIR
        self.path = self.state_dir / "ledger.jsonl"
        self.now = NOON

    @contextmanager
    def run(self, later: float = 0.0) -> Iterator[Ledger]:
        self.now += later
        with closing(Ledger(self.directory, "service.example", now=lambda: self.now)) as ledger:
            yield ledger

    def status(self, rows: str | None = None) -> DirectoryStatus:
        requests = None if rows is None else parse(rows, ApiVersion.V2).jobs
        return status_of(self.directory, self.state_dir, self.now, requests)

    def submit(self, ledger: Ledger, row: str, job_id: int, *states: str, after: float = 10.0) -> None:
        ledger.record_intent(row, after=job_id - 1)
        self.now += after
        ledger.record_job(row, job_id)
        for state in states:
            self.now += after
            ledger.record_state(row, job_id, state)

    def begin(self, ledger: Ledger, row: str, job_id: int, size: int = 1000, name: str = "") -> None:
        file = ExpectedFile(job_id, name or f"{job_id}.tar", size, None)
        ledger.record_downloading(row, job_id, [file], to_come=size)

    def finish(
        self, ledger: Ledger, row: str, job_id: int, content: bytes = b"x" * 1000, name: str = ""
    ) -> FetchedFile:
        path = self.directory / (name or f"{job_id}.tar")
        path.write_bytes(content)
        sha1 = hashlib.sha1(content).hexdigest()
        file = FetchedFile(path, len(content), sha1, True, mtime_ns=path.stat().st_mtime_ns)
        ledger.record_complete(row, job_id, FetchedProduct((file,)))
        return file

    def fail(self, ledger: Ledger, row: str, job_id: int | None, what: str, remedy: str = "") -> None:
        ledger.record_failed(row, job_id, JobFailed(what, remedy))
