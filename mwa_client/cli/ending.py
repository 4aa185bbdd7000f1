"""How a run ends: what is known of it, wherever it ends, and who is told."""

from __future__ import annotations

import sys
from dataclasses import field
from typing import TYPE_CHECKING

from mwa_client.cli.error_file import errors_of, mark_of, write_errors
from mwa_client.cli.settings import Settings
from mwa_client.errors import DirectoryBusy, MwaClientError, ResultLost
from mwa_client.formatting import ranges_of
from mwa_client.light_dataclasses import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mwa_client.batch.events import RowFailed, RowName, Summary
    from mwa_client.cli.context import Show


class ResultLostAfter(ResultLost):
    """What was done could not be written to standard output, and is told with the error."""

    done: tuple[str, ...] = ()

    @property
    def final_lines(self) -> tuple[str, ...]:
        """What happened, unless nobody wants to know, and what was done all the same."""
        return (*super().final_lines, *self.done)


@dataclass
class Ending:
    """What is known so far of how a run ends.

    Attributes
    ----------
    rows : sequence of RowName
        What was asked for, as far as it was read.
    failed : list of RowFailed
        The rows that have failed.
    summary : Summary or None
        The summary, once it has been shown; with it everything was said.
    mark : object
        What the error file looked like when this run had written it.
    cancelled : list of int
        The jobs that were cancelled.
    lost : ResultLost or None
        Why something could not be written to standard output.
    """

    rows: Sequence[RowName] = ()
    failed: list[RowFailed] = field(default_factory=list)
    summary: Summary | None = None
    mark: object = None
    cancelled: list[int] = field(default_factory=list)
    lost: ResultLost | None = None

    @property
    def told(self) -> MwaClientError | None:
        """What has ended the run early, where the summary has told it."""
        return None if self.summary is None else self.summary.error


def begin_error_file(settings: Settings, ending: Ending) -> None:
    """Write the error file, empty: hours of work must not end with a file that cannot be written."""
    write_errors(settings.output.error_file, [])
    ending.mark = mark_of(settings.output.error_file)


def lost_result(settings: Settings, ending: Ending) -> ResultLost | None:
    """Return the error of a run whose result should have been printed, and could not be; else None.

    What was done at the service is said with it, so that no job id is lost with the output.
    """
    if ending.lost is None or not (settings.output.json or settings.task.is_to_print):
        return None
    submitted = () if ending.summary is None else ending.summary.submitted
    done = {"submitted": [row.job_id or 0 for row in submitted], "cancelled": ending.cancelled}
    told = (f"These jobs were {what}: {ranges_of(job_ids)}." for what, job_ids in done.items() if job_ids)
    error = ResultLostAfter(ending.lost.what)
    error.is_told, error.done = ending.lost.is_told, tuple(told)
    return error


def tell_of_the_end(settings: Settings, ending: Ending, error: MwaClientError | None, say: Show) -> None:
    """Write the error file; for programs, tell what has ended the run, unless its summary did.

    Parameters
    ----------
    error : MwaClientError or None
        What has ended the run early.
    say : Show
        Shows what cannot be written.
    """
    lost = lost_result(settings, ending)
    if lost is not None and not isinstance(error, ResultLost):  # Else it is told as what has ended the run.
        say(*lost.final_lines)
    path = settings.output.error_file
    has_begun = ending.mark is not None
    is_ours = has_begun and mark_of(path) == ending.mark
    # A client that has taken over the directory may have written its own errors meanwhile.
    if is_ours if isinstance(error, DirectoryBusy) else (has_begun or error is not None):
        try:
            write_errors(path, errors_of(ending.failed, error))
        except MwaClientError as unwritten:
            if error is ending.told:  # Else what is being raised says more.
                raise
            if error is None or unwritten.lines != error.lines:
                say(*unwritten.final_lines)
    if error is None or ending.summary is not None or not settings.output.json:
        return
    from mwa_client.batch.events import Summary
    from mwa_client.display.json_lines import JsonDisplay
    from mwa_client.timing import SystemClock

    display = JsonDisplay(sys.stdout, sys.stderr, SystemClock())
    if settings.task.needs_directory:
        display(Summary(settings.directory, pending=tuple(ending.rows), error=error))
    else:
        display.tell_error(error)
