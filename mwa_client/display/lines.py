"""What people see in a log or a pipe: plain lines, flushed one by one, and a summary at the end."""

from __future__ import annotations

from typing import TextIO

from mwa_client.batch.events import (
    Begun,
    Complete,
    Counts,
    Downloading,
    Event,
    Notice,
    RowFailed,
    StateChanged,
    Submitted,
    Summary,
)
from mwa_client.display.display import Display
from mwa_client.display.wording import COMPLETE, about_row, counts_in_words, failure_lines, summary_line
from mwa_client.formatting import format_duration, format_size
from mwa_client.timing import Clock
from mwa_client.transfer.events import FileNotice, Progress, Setback
from mwa_client.transfer.files import FetchedFolder

SILENCE_LIMIT = 600.0
"""Seconds without a line after which one says that the work goes on."""


class LineDisplay(Display):
    """Shows a line for each thing that happens; it begins with the state of the job.

    Parameters
    ----------
    out : text stream
        Where the lines go.
    errors : text stream
        Where errors and warnings go.
    clock : Clock
        The time, for the heartbeat.
    quiet : bool
        Show only errors and the summary.
    """

    def __init__(self, out: TextIO, errors: TextIO, clock: Clock, *, quiet: bool = False) -> None:
        super().__init__(out, errors, clock)
        self._quiet = quiet
        self._begun = clock.monotonic()
        self._counts: Counts | None = None

    def _show(self, event: Event) -> None:
        if isinstance(event, Submitted):
            # A new job is shown by its first state.
            if event.found:
                self._tell(about_row("Found", event.row, "(it was there already)"))
        elif isinstance(event, StateChanged):
            self._tell(about_row(event.label, event.row))
        elif isinstance(event, Downloading):
            words = f"{event.name} ({format_size(event.size)})"
            self._tell(about_row("Unpacking" if event.is_here else "Downloading", event.row, words))
        elif isinstance(event, Complete):
            self._show_complete(event)
        elif isinstance(event, RowFailed):
            self._tell(about_row("Error", event.row, event.error.what))
        elif isinstance(event, Setback):
            words = f"{event.name}: {event.reason} Going on in {event.waiting:.0f} s."
            self._tell(about_row("Downloading", self._row_of(event.job_id), words))
        elif isinstance(event, Notice) and not event.is_warning:
            self._tell(event.text)
        elif isinstance(event, (Notice, FileNotice)):
            self.warn(event.text)
        elif isinstance(event, Summary):
            self._show_summary(event)
        else:
            self._show_progress(event)

    def _tell(self, text: str) -> None:
        if not self._quiet:
            self._print(text, self._out)

    def _show_progress(self, event: Begun | Progress | Counts) -> None:
        """Say now and then that the work goes on: a silent log looks like a program that hangs."""
        if isinstance(event, Counts):
            self._counts = event
        now = self._clock.monotonic()
        if self._counts is not None and now - self._last_time >= SILENCE_LIMIT:
            self._tell(
                f"Still working after {format_duration(now - self._begun)}: {counts_in_words(self._counts)}"
            )

    def _show_complete(self, event: Complete) -> None:
        if self._quiet:
            return
        when = ", from an earlier run" if event.from_before else ""
        for place, files in event.products.items():
            is_verified = all(file.verified for file in files)
            proof = "verified" if is_verified else "not verified: the service gave no SHA-1"
            proof = "changed since it was complete; kept as it is" if event.is_changed else proof
            count = sum(file.files if isinstance(file, FetchedFolder) else 1 for file in files)
            number = "" if count == 1 else f"{count} files, "
            size = format_size(sum(file.size for file in files))
            self._tell(about_row(COMPLETE, event.row, f"{place} ({number}{size}, {proof}{when})"))
        for path in event.elsewhere:
            self._tell(
                about_row(COMPLETE, event.row, f"{path} (delivered there; this host cannot see it{when})")
            )

    def _show_summary(self, summary: Summary) -> None:
        if summary.failed:
            self._print("There were errors:", self._errors)
            for failure in summary.failed:
                for line in failure_lines(failure):
                    self._print(line, self._errors)
        why = (summary.why_pending,) if summary.pending else ()
        for line in why if summary.error is None else summary.error.final_lines:
            self._print(line, self._errors)
        self._print(summary_line(summary), self._out)
