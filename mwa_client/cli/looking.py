"""Showing what the download directory knows, without the network and without its lock (--status)."""

from __future__ import annotations

from collections.abc import Sequence

from mwa_client.batch.ledger import STATE_DIR
from mwa_client.batch.status import DirectoryStatus, status_of
from mwa_client.cli.checking import RowSource, likely_apis
from mwa_client.cli.context import Show
from mwa_client.cli.settings import Settings
from mwa_client.display.status import status_documents, status_lines
from mwa_client.errors import ExitStatus
from mwa_client.jobs.request import JobRequest
from mwa_client.timing import SystemClock


def show_status(settings: Settings, say: Show, show: Show) -> ExitStatus:
    """Show what the directory knows of its rows, or of those of a job file.

    Raises
    ------
    JobFileError
        The job file has mistakes.
    DirectoryUnusable
        The directory is missing, or what it remembers cannot be read.
    """
    requests = None
    if settings.csv is not None or settings.rows:
        _, jobs = RowSource.of(settings).parse_for_one_of(likely_apis(settings))
        for warning in jobs.warnings:
            say(f"Warning: {warning}")
        requests = jobs.jobs
    status = directory_status(settings, requests)
    if settings.output.json:
        show(*status_documents(status))
    else:
        show(*status_lines(status, is_short=settings.output.quiet))
    return ExitStatus.COMPLETE


def directory_status(settings: Settings, requests: Sequence[JobRequest] | None) -> DirectoryStatus:
    """Return what the directory knows now."""
    place = settings.directory
    return status_of(place, place / STATE_DIR, SystemClock().now(), requests)
