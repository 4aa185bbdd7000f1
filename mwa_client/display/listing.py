"""The user's jobs as a table for people, or as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable

from mwa_client.asvo.job import Job, clean_text, read_id
from mwa_client.asvo.job_filter import created_at, kind_of
from mwa_client.display.columns import aligned
from mwa_client.formatting import format_duration, format_size, utc

HEADINGS = ("job id", "obs_id", "type", "state", "place", "starts in", "size", "age", "expires in", "why")
AT_THE_LEFT = ("type", "state", "why")
IF_ANY = ("place", "starts in", "why")
"""Columns that are shown only where one of the jobs has something in them."""
UNKNOWN = "-"


def table(jobs: Iterable[Job], now: float, width: int | None = None) -> str:
    """Return an aligned table of jobs, the newest last.

    Parameters
    ----------
    jobs : iterable of Job
        The jobs.
    now : float
        Seconds since 1970, for ages.
    width : int, optional
        Columns that a line may have; default is any number.
    """
    rows = [_row(job, now) for job in sorted(jobs, key=lambda job: job.job_id)]
    shown = [
        place
        for place, heading in enumerate(HEADINGS)
        if heading not in IF_ANY or any(row[place] != UNKNOWN for row in rows)
    ]
    cells = ([row[place] for place in shown] for row in rows)
    return "\n".join(aligned([HEADINGS[place] for place in shown], cells, AT_THE_LEFT, width))


def documents(jobs: Iterable[Job]) -> list[dict[str, object]]:
    """Return a JSON object for each job: the service's own words, and what they mean, alike for all services.

    Added are ``obs_id``, ``kind`` (what comes of it), ``label`` (its state in words), ``why_failed``,
    ``queue_place``, ``starts_at`` and ``expires_at`` (in UTC); null where the service does not say.
    """
    return [{**job.raw, **_meaning(job)} for job in sorted(jobs, key=lambda job: job.job_id)]


def _meaning(job: Job) -> dict[str, object]:
    return {
        "obs_id": job.obs_id,
        "kind": kind_of(job),
        "label": job.label,
        "why_failed": _why(job) or None,
        "queue_place": _place(job),
        "starts_at": utc(job.starts_at),
        "expires_at": utc(job.expires_at),
    }


def _row(job: Job, now: float) -> tuple[str, ...]:
    sizes = [file.size for file in job.product]
    size = sum(size for size in sizes if size is not None)
    created, place, start = created_at(job), _place(job), job.starts_at
    return (
        str(job.job_id),
        UNKNOWN if job.obs_id is None else str(job.obs_id),
        kind_of(job) or UNKNOWN,
        job.label,
        UNKNOWN if place is None else str(place),
        UNKNOWN if start is None else format_duration(start - now) if start > now else "soon",
        format_size(size) if sizes else UNKNOWN,
        UNKNOWN if created is None else format_duration(now - created),
        _expiry(job, now),
        _why(job) or UNKNOWN,
    )


def _why(job: Job) -> str:
    """Return why a job has failed, in the service's words; empty where it has not, or nobody says."""
    if not job.state.is_lost:
        return ""
    code = job.raw.get("error_code")
    return job.error_text or ("" if code in (None, "") else f"error code {clean_text(code, 40)}")


def _place(job: Job) -> int | None:
    """Return a waiting job's place in the queue, where the service tells it (v2)."""
    return read_id(job.raw.get("queue_position_cache")) if job.state.is_pending else None


def _expiry(job: Job, now: float) -> str:
    if job.expires_at is None:
        return UNKNOWN
    return format_duration(job.expires_at - now) if job.expires_at > now else "expired"
