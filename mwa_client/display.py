"""What people see: bars on a terminal, plain flushed lines elsewhere, a summary at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

from mwa_client.events import (
    Begun,
    Complete,
    Counts,
    Downloading,
    Event,
    Notice,
    RowFailed,
    RowName,
    StateChanged,
    Submitted,
    Summary,
)
from mwa_client.pace import Clock
from mwa_client.transfer.product import Progress, Setback

HEARTBEAT = 600.0
"""Seconds after which a line says that the work goes on, where there are no bars."""
TOTAL_BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} jobs{postfix}"


class Display:
    """Plain lines: one for each thing that happens, the state word first.

    Parameters
    ----------
    out : text stream
        Where the lines go.
    errors : text stream
        Where errors and warnings go.
    clock : Clock
        Time, for the heartbeat.
    quiet : bool
        Only errors and the summary.
    """

    def __init__(self, out: TextIO, errors: TextIO, clock: Clock, *, quiet: bool = False) -> None:
        self._out = out
        self._errors = errors
        self._clock = clock
        self._quiet = quiet
        self._last_line = clock.monotonic()
        self._lines: dict[int, int] = {}

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Submitted):
            words = "Found" if event.found else "Submitted"
            self._name_job(event.row)
            self.line(_about(words, event.row))
        elif isinstance(event, StateChanged):
            self.line(_about(event.label, event.row))
        elif isinstance(event, Downloading):
            self.line(_about("Downloading", event.row, f"{event.name} ({_bytes(event.size)})"))
        elif isinstance(event, Complete):
            self._show_complete(event)
        elif isinstance(event, RowFailed):
            self.line(_about("Error", event.row, event.error.what))
        elif isinstance(event, Setback):
            words = f"{event.name}: {event.reason} Going on in {event.waiting:.0f} s."
            self.line(f"Downloading: Job id: {event.job_id} {words}")
        elif isinstance(event, Notice):
            self.warn(event.text)
        elif isinstance(event, Summary):
            self._show_summary(event)
        else:
            self._show_motion(event)

    def line(self, text: str) -> None:
        """Show a line of the story."""
        if not self._quiet:
            self._print(text, self._out)

    def warn(self, text: str) -> None:
        """Show a line that concerns the whole batch."""
        self._print(text, self._errors)

    def close(self) -> None:
        """Leave the terminal as it was."""

    def _name_job(self, row: RowName) -> None:
        if row.job_id is not None:
            self._lines[row.job_id] = row.line

    def _show_motion(self, event: Begun | Progress | Counts) -> None:
        """Show what moves: here a heartbeat, so that a log shows that the program lives."""
        if isinstance(event, Counts) and self._clock.monotonic() - self._last_line >= HEARTBEAT:
            self.line(f"Waiting: {_counted(event)}")

    def _show_complete(self, event: Complete) -> None:
        for file in event.files:
            proof = "verified" if file.verified else "not verified: the service gave no SHA-1"
            when = ", from an earlier run" if event.from_before else ""
            words = f"{file.path} ({_bytes(file.size)}, {proof}{when})"
            self.line(_about("Download Complete", event.row, words))

    def _show_summary(self, summary: Summary) -> None:
        if summary.failed:
            self._print("There were errors:", self._errors)
            for failure in summary.failed:
                self._print(_failure(failure), self._errors)
        if summary.pending:
            self._print(summary.why_pending, self._errors)
        self._print(_summary_line(summary), self._out)

    def _print(self, text: str, stream: TextIO) -> None:
        self._last_line = self._clock.monotonic()
        try:
            print(text, file=stream, flush=True)
        except (OSError, ValueError):
            pass  # The reader has gone (a closed pipe or terminal); the work goes on without an audience.


class BarDisplay(Display):
    """On a terminal: a bar over all, one for each running download, and the lines above them."""

    def __init__(
        self, out: TextIO, errors: TextIO, clock: Clock, *, quiet: bool = False, colour: bool = True
    ) -> None:
        super().__init__(out, errors, clock, quiet=quiet)
        self._colour = colour
        self._total: Any = None
        self._bars: dict[tuple[int, str], Any] = {}

    def close(self) -> None:
        """Take the bars away."""
        for bar in [*self._bars.values(), *([self._total] if self._total is not None else [])]:
            bar.close()
        self._bars.clear()
        self._total = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, (Complete, RowFailed)):
            self._close_bars(event.row.job_id)
        if isinstance(event, Summary):
            self.close()
        super().__call__(event)

    def _show_motion(self, event: Begun | Progress | Counts) -> None:
        if isinstance(event, Begun):
            self._total = self._bar(total=event.rows, bar_format=TOTAL_BAR)
        elif isinstance(event, Counts) and self._total is not None:
            self._total.n = event.done
            self._total.set_postfix_str(_counted(event))
        elif isinstance(event, Progress):
            self._move(event)

    def _move(self, event: Progress) -> None:
        key = (event.job_id, event.name)
        if key not in self._bars:
            # A bar begins where the part file of an earlier run ends, so that the rate is true.
            self._bars[key] = self._bar(
                total=event.size, initial=event.done, desc=event.name, unit="B", unit_scale=True
            )
        bar = self._bars[key]
        if event.done < bar.n:
            bar.reset(total=event.size)
        bar.update(event.done - bar.n)
        if event.done == event.size:
            bar.close()
            del self._bars[key]

    def _close_bars(self, job_id: int | None) -> None:
        for key in [key for key in self._bars if key[0] == job_id]:
            self._bars.pop(key).close()

    def _bar(self, **options: Any) -> Any:
        from tqdm import tqdm  # Not needed by runs without a terminal.

        if self._colour:
            options["colour"] = "green"
        return tqdm(file=self._errors, leave=False, dynamic_ncols=True, **options)

    def _print(self, text: str, stream: TextIO) -> None:
        if self._total is None:
            super()._print(text, stream)
            return
        from tqdm import tqdm

        with tqdm.external_write_mode(file=self._errors):
            super()._print(text, stream)


def display_for(
    out: TextIO, errors: TextIO, clock: Clock, environment: Mapping[str, str], *, quiet: bool
) -> Display:
    """Return the display that fits: bars where `errors` is a terminal, lines elsewhere."""
    if errors.isatty() and not quiet:
        return BarDisplay(out, errors, clock, colour=not environment.get("NO_COLOR"))
    return Display(out, errors, clock, quiet=quiet)


# --- Words --------------------------------------------------------------------------------------------


def _about(state: str, row: RowName, more: str = "") -> str:
    words = f"{state}: Job id: {row.job_id if row.job_id is not None else '-'} obs_id: {row.obs_id}"
    return f"{words} {more}" if more else words


def _failure(failure: RowFailed) -> str:
    row = failure.row
    job = "no job" if row.job_id is None else f"job id {row.job_id}"
    lines = [f"  line {row.line}: obs_id {row.obs_id}, {job}: {failure.error.what}"]
    return "\n".join(lines + ([f"      {failure.error.remedy}"] if failure.error.remedy else []))


def _counted(counts: Counts) -> str:
    return ", ".join(f"{number} {label}" for label, number in counts.states)


def _summary_line(summary: Summary) -> str:
    unverified = len(summary.unverified)
    parts = [f"{len(summary.complete)} complete"]
    parts += [f"{unverified} of its files not verified"] if unverified else []
    parts += [f"{len(summary.failed)} failed"] if summary.failed else []
    parts += [f"{len(summary.pending)} pending (run the same command again)"] if summary.pending else []
    return f"{', '.join(parts)}: {_bytes(summary.size)} in {summary.directory}"


def _bytes(size: int | None) -> str:
    if size is None:
        return "size not known"
    if size < 1000:
        return f"{size} B"
    amount = float(size)
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= 1000.0
        if amount < 999.95 or unit == "TB":
            break
    return f"{amount:.1f} {unit}"
