"""The user's jobs, for Python programs: a mapping that can be made into a table."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, ValuesView
from typing import Any

from mwa_client.asvo.job import Job
from mwa_client.light_dataclasses import dataclass


@dataclass(frozen=True)
class JobColumns:
    """What a table shows of a job: no addresses, for who has the address of a product has the product.

    Attributes
    ----------
    job_id, obs_id, job_type, state
        As in `Job`; type and state as words: ``conversion``, ``Ready for Download``.
    name : str
        The product's file; several are separated by spaces. Empty until the job is ready.
    size : int or None
        Bytes of the product; None until the job is ready, and where the service does not say.
    expires : datetime or None
        When the product is removed, UTC.
    error : str
        Why the job failed.
    """

    job_id: int
    obs_id: int | None
    job_type: str
    state: str
    name: str
    size: int | None
    expires: datetime.datetime | None
    error: str

    @classmethod
    def of(cls, job: Job) -> JobColumns:
        """Return what a table shows of a job."""
        sizes = [file.size for file in job.product if file.size is not None]
        ends = job.expires_at
        return cls(
            job.job_id,
            job.obs_id,
            "" if job.job_type is None else job.job_type.label,
            job.label,
            " ".join(file.name for file in job.product),
            sum(sizes) if sizes and len(sizes) == len(job.product) else None,
            None if ends is None else datetime.datetime.fromtimestamp(ends, datetime.timezone.utc),
            job.error_text,
        )


class JobList(Mapping[int, Job]):
    """The jobs of a user by job id; ``pandas.DataFrame(jobs)`` is a table of them.

    Parameters
    ----------
    jobs : mapping of int to Job
        The jobs.

    Examples
    --------
    >>> from mwa_client.asvo.job import Job, JobState
    >>> jobs = JobList({7: Job(7, JobState.READY, obs_id=1191828584)})
    >>> jobs[7].label, list(jobs), len(jobs)
    ('Ready for Download', [7], 1)
    >>> jobs
    <1 job: 7>
    """

    def __init__(self, jobs: Mapping[int, Job]) -> None:
        self._jobs = dict(jobs)

    def __getitem__(self, job_id: int) -> Job:
        return self._jobs[job_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    def __repr__(self) -> str:
        noun = "job" if len(self) == 1 else "jobs"
        few = ", ".join(map(str, list(self._jobs)[:5])) + (", ..." if len(self) > 5 else "")
        return f"<{len(self)} {noun}{': ' if self._jobs else ''}{few}>"

    def values(self) -> _Jobs:
        """Return the jobs; they can be made into a table, too."""
        return _Jobs(self)

    def __array__(self, *options: Any, **more: Any) -> Any:
        return _columns(self._jobs.values())


class _Jobs(ValuesView[Job]):
    def __array__(self, *options: Any, **more: Any) -> Any:
        return _columns(self)


def _columns(jobs: Iterable[Job]) -> Any:
    """Return an array of `JobColumns`: what has an array, pandas takes from there; it knows dataclasses."""
    import numpy  # Here already: numpy or pandas is asking.

    rows = [JobColumns.of(job) for job in jobs]
    table = numpy.empty(len(rows), dtype=object)
    table[:] = rows
    return table
