"""What people see in a log or a pipe: plain lines, flushed one by one, and a summary at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from mwa_client.batch.events import (
    Begun,
    CommandRun,
    Complete,
    Counts,
    Downloading,
    Event,
    Expected,
    Notice,
    RowFailed,
    RowName,
    StateChanged,
    Submitted,
    Summary,
)
from mwa_client.batch.rows import NOT_SUBMITTED, SUBMITTED
from mwa_client.display.display import Display
from mwa_client.display.gathering import MOST_SINGLE, Gathering
from mwa_client.display.printing import GREEN, NO_LOOKS, RED, Looks
from mwa_client.display.wording import (
    COMPLETE,
    about_row,
    asking_in_words,
    counts_in_words,
    expected_in_words,
    failure_lines,
    number_of_files,
    summary_line,
    without_ids,
)
from mwa_client.formatting import format_duration, format_size, ranges_of
from mwa_client.timing import Clock
from mwa_client.transfer.events import FileNotice, Progress, Setback
from mwa_client.transfer.files import FetchedFile

SILENCE_LIMIT = 600.0
"""Seconds without a line after which one says that the work goes on."""
LONGEST_GATHERING = 10.0
"""Seconds for which the line of a row that is submitted can wait for those of others."""
FOUND = "Found"


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
    looks : Looks
        How lines look on the two.
    names_jobs : bool
        The job ids are what is wanted: each job that is submitted or found has a line of its own, though it
        be `quiet`.
    """

    def __init__(
        self,
        out: TextIO,
        errors: TextIO,
        clock: Clock,
        *,
        quiet: bool = False,
        looks: Looks = NO_LOOKS,
        names_jobs: bool = False,
    ) -> None:
        super().__init__(out, errors, clock, looks=looks)
        self._quiet = quiet
        self._names_jobs = names_jobs
        self._begun = clock.monotonic()
        self._rows = 0
        self._counts: Counts | None = None
        self._expected: Expected | None = None
        self._gathering = Gathering()
        self._gathered_since = self._begun

    def _show(self, event: Event) -> None:
        if isinstance(event, Submitted):
            self._show_submitted(FOUND if event.found else SUBMITTED, event.row)
            return
        if isinstance(event, StateChanged):
            self._gather(event.label, event.row)
            return
        if isinstance(event, (Begun, Progress, Counts)):
            self._show_progress(event)
            return
        self._show_gathered()
        if isinstance(event, Expected):
            self._show_expected(event)
        elif isinstance(event, Downloading):
            self._show_downloading(event)
        elif isinstance(event, Complete):
            self._show_complete(event)
        elif isinstance(event, CommandRun):
            if event.status == 0:  # A failure is told with its reason.
                self._tell(about_row("Command done", event.row), GREEN)
        elif isinstance(event, RowFailed):
            self._tell(about_row("Error", event.row, event.error.what), RED)
        elif isinstance(event, Setback):
            row = self._row_of(event.job_id)
            words = f"{self._called(event.name, row)}: {event.reason} Continuing in {event.waiting:.0f} s."
            self._tell(about_row("Downloading", row, words))
        elif isinstance(event, Notice) and not event.is_warning:
            self._tell(event.text)
        elif isinstance(event, (Notice, FileNotice)):
            self.warn(event.text)
        elif isinstance(event, Summary):
            self._show_summary(event)

    def close(self) -> None:
        """Show what is still held back."""
        self._show_gathered()

    def _tell(self, text: str, colour: str = "") -> None:
        if not self._quiet:
            self._print(text, self._out, colour)

    # --- States, of which many may change together ---------------------------------------------------

    def _show_submitted(self, label: str, row: RowName) -> None:
        if self._names_jobs:
            self._show_gathered()
            self._print(_state_of(label, row), self._out)
        else:
            self._gather(label, row)

    def _gather(self, label: str, row: RowName) -> None:
        """Hold a change of state back until it is known whether others come with it."""
        if self._gathering.has(row):
            self._show_gathered()
        if self._gathering.is_empty:
            self._gathered_since = self._clock.monotonic()
        self._gathering.add(label, row)
        if self._rows <= MOST_SINGLE:
            self._show_gathered()

    def _show_gathered(self) -> None:
        """Show the changes of state that were held back: one by one, or as one line where they are many."""
        for label, rows in self._gathering.take():
            if len(rows) <= MOST_SINGLE:
                for row in rows:
                    self._tell_state(label, row)
            else:
                self._tell(self._about_rows(label, rows))

    def _tell_state(self, label: str, row: RowName) -> None:
        self._tell(_state_of(label, row))

    def _about_rows(self, label: str, rows: list[RowName]) -> str:
        """Return the line that says that several rows are in a state; a log names their jobs."""
        return f"{len(rows)} jobs: {label} (job ids {ranges_of([row.job_id or 0 for row in rows])})"

    def _is_more_coming(self) -> bool:
        """Say whether rows are still being submitted, a few at a time: then their line can wait a little."""
        if self._gathering.has_other_than(SUBMITTED) or self._counts is None:
            return False
        waited = self._clock.monotonic() - self._gathered_since
        return waited < LONGEST_GATHERING and dict(self._counts.states).get(NOT_SUBMITTED, 0) > 0

    # --- What comes, and what has come ---------------------------------------------------------------

    def _show_downloading(self, event: Downloading) -> None:
        words = f"{self._called(event.name, event.row)} ({format_size(event.size)})"
        self._tell(about_row("Unpacking" if event.is_here else "Downloading", event.row, words))

    def _show_progress(self, event: Begun | Progress | Counts) -> None:
        """Say now and then that the work goes on: a silent log looks like a program that hangs."""
        if isinstance(event, Begun):
            self._rows = event.rows
        elif isinstance(event, Counts):
            self._counts = event
            if not self._is_more_coming():
                self._show_gathered()
        now = self._clock.monotonic()
        if self._counts is not None and now - self._last_time >= SILENCE_LIMIT:
            words = [counts_in_words(self._counts), *self._life(now, self._counts)]
            self._tell(f"Still working after {format_duration(now - self._begun)}: {'; '.join(words)}")

    def _show_expected(self, expected: Expected) -> None:
        """Say when the jobs may be ready; it is sent only where that is news."""
        self._expected = expected
        words = expected_in_words(expected, self._clock.now())
        if words:
            self._tell(f"{words[0].upper()}{words[1:]}")

    def _life(self, now: float, counts: Counts) -> list[str]:
        """Return what is known beyond the counts: the wait, bytes to come, how the service answers."""
        expected = expected_in_words(self._expected, self._clock.now())
        words = [expected] if expected else []
        words += [f"{format_size(counts.to_come)} to come"] if counts.to_come else []
        if counts.asking is not None and counts.asking.silent_since is not None:
            words.append(asking_in_words(counts.asking, now))
        return words

    def _show_complete(self, event: Complete) -> None:
        if self._quiet:
            return
        when = ", from an earlier run" if event.from_before else ""
        for place, files in event.products.items():
            name = without_ids(place.name, event.row) if self._is_short else str(place)
            size = f"{number_of_files(files)}{format_size(sum(file.size for file in files))}"
            what = f"{name} ({size}{self._proof(event, files)}{when})"
            self._tell(about_row(COMPLETE, event.row, what), GREEN)
        for path in event.elsewhere:
            is_there = f"{path} (delivered there; this host cannot see it{when})"
            what = f"delivered to {path}{when}" if self._is_short else is_there
            self._tell(about_row(COMPLETE, event.row, what), GREEN)

    def _proof(self, event: Complete, files: Sequence[FetchedFile]) -> str:
        """Return how a product is known to be right, or what has become of it since."""
        short, more = "", ", verified"
        if not all(file.verified for file in files):
            short, more = ", not verified", ": the service gave no SHA-1"
        if event.is_changed:
            short, more = ", changed since", " it was complete; kept as it is"
        if event.is_moved:
            short, more = ", moved away since", " its command was done"
        return short if self._is_short else short + more

    @property
    def _is_short(self) -> bool:
        """Whether the lines go to a terminal, where they must fit; a log is searched later."""
        return self._looks.out.is_wrapped

    def _called(self, name: str, row: RowName) -> str:
        """Return the name of a product as a line shows it that has named the observation and the job."""
        return without_ids(name, row) if self._is_short else name

    def _show_summary(self, summary: Summary) -> None:
        if summary.failed:
            self._print("There were errors:", self._errors)
            for failure in summary.failed:
                for line in failure_lines(failure):
                    self._print(line, self._errors)
        if summary.error is not None:
            self._print_error(summary.error)
        elif summary.pending:
            self._print(summary.why_pending, self._errors)
        self._print(summary_line(summary), self._out)


def _state_of(label: str, row: RowName) -> str:
    # A job that the user has named is there, of course.
    return about_row(label, row, "(it was there already)" if label == FOUND and row.place else "")
