"""A row of the job file on its way: where it stands, which job it has, how it ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mwa_client.asvo.job import Job, ProductFile
from mwa_client.events import Complete, RowFailed, RowName
from mwa_client.jobfile import JobRequest, identity_of
from mwa_client.jobkeys import Api
from mwa_client.transfer.partial import Wanted


class Stage(enum.Enum):
    """Where a row stands in this program. What the service says of its job is another matter."""

    WANTED = "not submitted yet"
    SUBMITTING = "being submitted"
    WATCHED = "at the service"
    READY = "ready for download"
    DOWNLOADING = "being downloaded"
    COMPLETE = "complete"
    FAILED = "failed"

    @property
    def is_at_work(self) -> bool:
        """A worker has it in hand."""
        return self in (Stage.SUBMITTING, Stage.DOWNLOADING)

    @property
    def is_settled(self) -> bool:
        """Nothing more will happen to the row."""
        return self in (Stage.COMPLETE, Stage.FAILED)


@dataclass(frozen=True)
class ListedJob:
    """A job that is at the service already, as a row: it is watched and fetched, never submitted.

    Attributes
    ----------
    identity : str
        What it asks for, where that can be read; it is known to the ledger by that.
    """

    job_id: int
    obs_id: int
    identity: str
    line: int = 0
    allow_resubmit: bool = False

    @classmethod
    def of(cls, job: Job, api: Api) -> ListedJob:
        """Return a job of a listing as a row."""
        identity = None if job.job_type is None else identity_of(job.job_type, job.parameters, api)
        return cls(job.job_id, job.obs_id or 0, identity or f"job {job.job_id}")


@dataclass
class Row:
    """One row of the job file and how far it has come. Only the loop's thread changes it.

    Attributes
    ----------
    label : str
        Its state in words for people.
    files : tuple of (Wanted, ProductFile)
        What is to be fetched, once it is ready.
    to_come : int
        Bytes that are missing of them, as far as their sizes are known; then, not since.
    missing : int
        Listings in a row without its job.
    put_off : int
        Submissions that came to nothing, for whatever passing reason.
    unclear : int
        Submissions whose answers made no sense.
    from_before : bool
        Its job was submitted by an earlier run.
    was_renewed : bool
        Its lost job has been given up for a new one in this run.
    lost_job : int or None
        That job.
    """

    request: JobRequest | ListedJob
    stage: Stage = Stage.WANTED
    job: Job | None = None
    job_id: int | None = None
    label: str = "Not submitted"
    files: tuple[tuple[Wanted, ProductFile], ...] = ()
    to_come: int = 0
    missing: int = 0
    unclear: int = 0
    put_off: int = 0
    from_before: bool = False
    was_renewed: bool = False
    lost_job: int | None = None
    result: Complete | RowFailed | None = None

    @property
    def name(self) -> RowName:
        """Which row this is, for people."""
        return RowName(self.request.line, self.request.obs_id, self.job_id)
