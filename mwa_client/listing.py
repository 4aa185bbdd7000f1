"""The user's jobs as a table for people, or as JSON for programs."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable

from mwa_client.asvo.job import Job
from mwa_client.words import duration, size_in_words

HEADINGS = ("job id", "obs_id", "type", "state", "size", "age", "expires in")
LINK_LIFE = 7 * 86400.0
"""Seconds for which a product can be fetched, where its URL does not say it."""


def table(jobs: Iterable[Job], now: float) -> str:
    """Return an aligned table of jobs, the newest last.

    Parameters
    ----------
    jobs : iterable of Job
        The jobs.
    now : float
        Seconds since 1970, for ages.
    """
    rows = [HEADINGS, *(_row(job, now) for job in sorted(jobs, key=lambda job: job.job_id))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if heading in ("type", "state") else cell.rjust(width)
            for cell, width, heading in zip(row, widths, HEADINGS)
        ).rstrip()
        for row in rows
    )


def json_lines(jobs: Iterable[Job]) -> list[str]:
    """Return a JSON object for each job: the service's own words, plus ``obs_id``."""
    newest_last = sorted(jobs, key=lambda job: job.job_id)
    return [json.dumps({**job.raw, "obs_id": job.obs_id}) for job in newest_last]


def _row(job: Job, now: float) -> tuple[str, ...]:
    sizes = [file.size for file in job.product]
    size = sum(size for size in sizes if size is not None)
    created = _time(job.raw.get("created"))
    return (
        str(job.job_id),
        "-" if job.obs_id is None else str(job.obs_id),
        "-" if job.job_type is None else job.job_type.label,
        job.label,
        size_in_words(size) if sizes else "-",
        "-" if created is None else duration(now - created),
        _expiry(job, now),
    )


def _expiry(job: Job, now: float) -> str:
    if not job.state.is_ready:
        return "-"
    signed = [re.search(r"[?&]Expires=([0-9]{1,12})", file.url) for file in job.product]
    ends = [float(match[1]) for match in signed if match is not None]
    completed = _time(job.raw.get("completed"))
    if not ends and completed is not None:
        ends = [completed + LINK_LIFE]
    if not ends:
        return "-"
    return duration(min(ends) - now) if min(ends) > now else "expired"


def _time(text: object) -> float | None:
    """Return a time of the service, which is UTC without saying so, in seconds since 1970."""
    try:
        when = datetime.datetime.fromisoformat(str(text).replace("Z", ""))
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=datetime.timezone.utc)).timestamp()
