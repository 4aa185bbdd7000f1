"""Showing what the download directory knows, without the network and without its lock (--status)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from mwa_client.batch.ledger import STATE_DIR
from mwa_client.batch.ledger_file import garbage_collection_off
from mwa_client.batch.status import DirectoryStatus, status_of
from mwa_client.cli.context import Show
from mwa_client.cli.report_file import Reporter, remove_unfinished_pages, write_report
from mwa_client.cli.settings import Settings
from mwa_client.cli.streams import width_of_results
from mwa_client.display.status import status_documents, status_lines
from mwa_client.errors import ExitStatus
from mwa_client.timing import Clock, SystemClock

if TYPE_CHECKING:
    from mwa_client.jobs.request import JobRequest


def show_status(settings: Settings, say: Show, show: Show) -> ExitStatus:
    """Show what the directory knows of its rows, or of those of a job file.

    Raises
    ------
    JobFileError
        The job file has mistakes.
    DirectoryUnusable
        The directory is missing, or what it remembers cannot be read.
    """
    # A short life with many objects: looking for garbage among them would take longer than all else.
    with garbage_collection_off():
        return _show_status(settings, say, show)


def _show_status(settings: Settings, say: Show, show: Show) -> ExitStatus:
    requests = None
    if settings.input.csv or settings.input.rows:
        from mwa_client.cli.checking import RowSource, likely_apis

        _, jobs = RowSource.of(settings).parse_for_one_of(likely_apis(settings))
        for warning in jobs.warnings:
            say(f"Warning: {warning}")
        requests = jobs.jobs
    status = directory_status(settings, requests)
    if settings.output.report is not None:
        remove_unfinished_pages(settings.output.report, status.now)
        write_report(settings.output.report, _page(status))
        say(f"Wrote {settings.output.report}.")
    if settings.output.table and settings.output.json:
        show(*status_documents(status))
    elif settings.output.table:
        show(*status_lines(status, is_short=settings.output.quiet, width=width_of_results()))
    return ExitStatus.COMPLETE


def directory_status(
    settings: Settings, requests: Sequence[JobRequest] | None, *, leaving: int | None = None
) -> DirectoryStatus:
    """Return what the directory knows now; `leaving` is a process that does not count as at work."""
    place = settings.directory
    return status_of(place, place / STATE_DIR, SystemClock().now(), requests, leaving=leaving)


@contextmanager
def reports(
    path: Path,
    settings: Settings,
    requests: Sequence[JobRequest] | None,
    clock: Clock,
    say: Callable[[str], None],
) -> Iterator[Callable[[], None]]:
    """Write the page about a run before and after the block; yield what writes it meanwhile, if it is due."""

    def page(leaving: int | None = None) -> str:
        return _page(directory_status(settings, requests, leaving=leaving))

    remove_unfinished_pages(path, clock.now())
    reporter = Reporter(path, page, clock, say)
    reporter.write()
    try:
        yield reporter.write_if_due
    finally:
        Reporter(path, lambda: page(os.getpid()), clock, say).write()


def _page(status: DirectoryStatus) -> str:
    from mwa_client.display.report.page import report_page  # Takes a while, and is seldom needed.

    return report_page(status)
