"""What the interfaces 2018 and v1 share: how jobs are listed and cancelled."""

from __future__ import annotations

from collections.abc import Iterator

from mwa_client.asvo.http import HttpClient
from mwa_client.errors import BadReply


def list_entries(http: HttpClient) -> Iterator[object]:
    """Yield the entries of the job list."""
    return http.list_entries("/api/get_jobs")


def cancel_with_get(http: HttpClient, job_id: int) -> None:
    """Cancel a job. This has been a GET since June 2018."""
    try:
        http.call("GET", "/api/cancel_job", query={"job_id": str(job_id)})
    except BadReply:
        pass  # The status was 200, which decides; nothing is known of the body.
