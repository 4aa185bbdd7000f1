"""The user's jobs as a table for people, or as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable

from mwa_client.asvo.job import Job
from mwa_client.display.columns import aligned
from mwa_client.formatting import format_duration, format_size
from mwa_client.timing import read_time

HEADINGS = ("job id", "obs_id", "type", "state", "size", "age", "expires in")


def table(jobs: Iterable[Job], now: float) -> str:
    """Return an aligned table of jobs, the newest last.

    Parameters
    ----------
    jobs : iterable of Job
        The jobs.
    now : float
        Seconds since 1970, for ages.
    """
    rows = (_row(job, now) for job in sorted(jobs, key=lambda job: job.job_id))
    return "\n".join(aligned(HEADINGS, rows, ("type", "state")))


def documents(jobs: Iterable[Job]) -> list[dict[str, object]]:
    """Return a JSON object for each job: the service's own words, plus ``obs_id``."""
    newest_last = sorted(jobs, key=lambda job: job.job_id)
    return [{**job.raw, "obs_id": job.obs_id} for job in newest_last]


def _row(job: Job, now: float) -> tuple[str, ...]:
    sizes = [file.size for file in job.product]
    size = sum(size for size in sizes if size is not None)
    created = read_time(job.raw.get("created"))
    return (
        str(job.job_id),
        "-" if job.obs_id is None else str(job.obs_id),
        "-" if job.job_type is None else job.job_type.label,
        job.label,
        format_size(size) if sizes else "-",
        "-" if created is None else format_duration(now - created),
        _expiry(job, now),
    )


def _expiry(job: Job, now: float) -> str:
    if job.expires_at is None:
        return "-"
    return format_duration(job.expires_at - now) if job.expires_at > now else "expired"
