"""What people see: bars on a terminal, plain flushed lines elsewhere, a summary at the end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any, Callable, TextIO

from mwa_client.asvo.job import JobState
from mwa_client.batch.events import (
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
from mwa_client.formatting import format_duration, format_size, printable
from mwa_client.secrecy import hide_in
from mwa_client.timing import Clock
from mwa_client.transfer.download import Progress, Setback
from mwa_client.transfer.files import Remark

HEARTBEAT = 600.0
"""Seconds after which a line says that the work goes on, where there are no bars."""
CALM = 5.0
"""Seconds between two reports of a download's progress, where a program reads them."""
TOTAL_BAR = "{n_fmt}/{total_fmt} jobs |{bar}| {desc}"
FILE_BAR = "{desc} |{bar}| {percentage:3.0f}% of {total_fmt}B, {rate_fmt}, {remaining} left"
NARROW_FILE_BAR = "{desc} {percentage:3.0f}% {rate_fmt} {remaining}"
NARROW = 72
"""Columns below which there is no room for a real bar."""
SHORTEST_BAR = 8
MARGIN = 3
"""Columns kept free at the right: the ``^C`` of an interrupt must not begin a new line among the bars."""

COMPLETE = "Download Complete"
LIFE = (
    "Not submitted",
    *(state.label for state in JobState if state.is_pending),
    JobState.READY.label,
    "Downloading",
    COMPLETE,
    *(state.label for state in (JobState.EXPIRED, JobState.CANCELLED, JobState.ERROR)),
)
"""The states of a row in the order of its life."""
SHORT = {JobState.READY.label: "Ready", COMPLETE: "Complete"}
"""Words for the bar, where there is little room."""


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
        self._begun = self._last_time = clock.monotonic()
        self._last_text = ""
        self._rows: dict[int, RowName] = {}
        self._counts: Counts | None = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        self._learn(event)
        if isinstance(event, Submitted):
            # A new job's first line is its first state.
            if event.found:
                self.line(_about("Found", event.row, "(it was there already)"))
        elif isinstance(event, StateChanged):
            self.line(_about(event.label, event.row))
        elif isinstance(event, Downloading):
            self.line(_about("Downloading", event.row, f"{event.name} ({format_size(event.size)})"))
        elif isinstance(event, Complete):
            self._show_complete(event)
        elif isinstance(event, RowFailed):
            self.line(_about("Error", event.row, event.error.what))
        elif isinstance(event, Setback):
            words = f"{event.name}: {event.reason} Going on in {event.waiting:.0f} s."
            self.line(_about("Downloading", self._row_of(event.job_id), words))
        elif isinstance(event, Notice) and not event.is_warning:
            self.line(event.text)
        elif isinstance(event, (Notice, Remark)):
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

    def _learn(self, event: Event) -> None:
        """Remember which row has which job: what a transfer tells names the job alone."""
        if isinstance(event, (Submitted, StateChanged, Downloading)):
            self._rows[event.row.job_id or 0] = event.row

    def _row_of(self, job_id: int) -> RowName:
        return self._rows.get(job_id) or RowName(0, 0, job_id)

    def _show_motion(self, event: Begun | Progress | Counts) -> None:
        """Show what moves: here a heartbeat, so that a log shows that the program lives."""
        if isinstance(event, Counts):
            self._counts = event
        now = self._clock.monotonic()
        if self._counts is not None and now - self._last_time >= HEARTBEAT:
            self.line(f"Still working after {format_duration(now - self._begun)}: {_counted(self._counts)}")

    def _show_complete(self, event: Complete) -> None:
        if self._quiet:
            return
        when = ", from an earlier run" if event.from_before else ""
        for place, files in event.products.items():
            is_verified = all(file.verified for file in files)
            proof = "verified" if is_verified else "not verified: the service gave no SHA-1"
            proof = "changed since it was complete; kept as it is" if event.is_changed else proof
            number = "" if len(files) == 1 else f"{len(files)} files, "
            size = format_size(sum(file.size for file in files))
            self.line(_about(COMPLETE, event.row, f"{place} ({number}{size}, {proof}{when})"))
        for path in event.elsewhere:
            self.line(_about(COMPLETE, event.row, f"{path} (delivered there; this host cannot see it{when})"))

    def _show_summary(self, summary: Summary) -> None:
        if summary.failed:
            self._print("There were errors:", self._errors)
            for failure in summary.failed:
                for line in _failure(failure):
                    self._print(line, self._errors)
        if summary.pending:
            self._print(summary.why_pending, self._errors)
        self._print(_summary_line(summary), self._out)

    def _print(self, text: str, stream: TextIO) -> None:
        """Print one line; what happens twice in a row is told once."""
        if text == self._last_text:
            return
        self._last_text, self._last_time = text, self._clock.monotonic()
        self._write(f"{printable(text)}\n", stream)

    def _write(self, text: str, stream: TextIO) -> None:
        try:
            stream.write(text)
            stream.flush()
        except (OSError, ValueError):
            pass  # The reader has gone (a closed pipe or terminal); the work goes on without an audience.


class BarDisplay(Display):
    """On a terminal: a bar over all, one for each running download, and the lines above them."""

    def __init__(
        self, out: TextIO, errors: TextIO, clock: Clock, *, quiet: bool = False, colour: bool = True
    ) -> None:
        from tqdm import tqdm  # Not needed by runs without a terminal.

        super().__init__(out, errors, clock, quiet=quiet)
        # Without a thread that looks after bars which forget to show themselves: ours do not.
        self._tqdm: Any = type("Bar", (tqdm,), {"monitor_interval": 0, "__str__": _trimmed(tqdm)})
        self._colour = colour
        self._total: Any = None
        self._bars: dict[tuple[int, str], Any] = {}

    def close(self) -> None:
        """Take the bars away."""
        if self._total is None:
            return
        for bar in (*self._bars.values(), self._total):
            bar.close()
        self._bars.clear()
        self._total = None
        # tqdm cleans what it has written; the terminal itself has written ^C after it.
        self._write("\r\x1b[J", self._errors)

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, (Complete, RowFailed)):
            self._close_bars(event.row.job_id)
        elif isinstance(event, Setback):
            # A bar that stands still would tell a rate that is no more; it comes back with the bytes.
            self._close_bars(event.job_id, event.name)
        elif isinstance(event, Summary):
            self.close()
        super().__call__(event)

    def _show_motion(self, event: Begun | Progress | Counts) -> None:
        if isinstance(event, Begun):
            self._total = self._bar(total=event.rows, bar_format=TOTAL_BAR)
        elif isinstance(event, Progress):
            self._move(event)
        elif self._total is not None:
            self._total.ncols = self._columns()
            self._total.n = event.done
            taken = len(TOTAL_BAR.format(n_fmt=event.done, total_fmt=event.rows, bar="", desc=""))
            words = _fitting(event, self._columns() - taken - SHORTEST_BAR)
            self._total.set_description_str(printable(words))

    def _move(self, event: Progress) -> None:
        key = (event.job_id, event.name)
        if event.done == event.size or (key in self._bars and event.done < self._bars[key].n):
            self._close_bars(*key)
        if event.done == event.size:
            return
        if key not in self._bars:
            is_narrow = self._columns() < NARROW
            self._bars[key] = self._bar(
                total=event.size,
                # A bar begins where the part file of an earlier run ends, so that the rate is true.
                initial=event.done,
                desc=_shortened(printable(event.name), max(self._columns() - 24, 10) if is_narrow else 26),
                bar_format=(NARROW_FILE_BAR if is_narrow else FILE_BAR) if event.size else None,
                unit="B",
                unit_scale=True,
            )
        bar = self._bars[key]
        bar.ncols = self._columns()
        bar.update(event.done - bar.n)

    def _close_bars(self, job_id: int | None, name: str | None = None) -> None:
        for key in [key for key in self._bars if key[0] == job_id and name in (None, key[1])]:
            self._bars.pop(key).close()
        for place, bar in enumerate(self._bars.values(), start=1):
            # tqdm leaves a gap where a bar was.
            if bar.pos != place:
                bar.clear()
                bar.pos = place
                bar.refresh()

    def _bar(self, **options: Any) -> Any:
        if self._colour:
            options["colour"] = "green"
        return self._tqdm(file=self._errors, leave=False, ncols=self._columns(), miniters=1, **options)

    def _columns(self) -> int:
        """Return how wide a bar can be now."""
        try:
            columns = os.get_terminal_size(self._errors.fileno()).columns
        except (OSError, ValueError):
            columns = 0  # The terminal has gone.
        return max((columns or 80) - MARGIN, 1)

    def _print(self, text: str, stream: TextIO) -> None:
        if self._total is None:
            super()._print(text, stream)
            return
        with self._tqdm.external_write_mode(file=self._errors):
            super()._print(text, stream)


class JsonDisplay(Display):
    """For programs: one JSON object a line, with field names that stay; notices go to the other stream."""

    def __init__(self, out: TextIO, errors: TextIO, clock: Clock) -> None:
        super().__init__(out, errors, clock, quiet=True)
        self._told: dict[tuple[int, str], float] = {}

    def __call__(self, event: Event) -> None:
        """Show one event."""
        self._learn(event)
        if isinstance(event, Submitted):
            self._tell("submitted", event.row, found=event.found)
        elif isinstance(event, StateChanged):
            self._tell("state", event.row, state=event.label)
        elif isinstance(event, Progress):
            self._tell_progress(event)
        elif isinstance(event, Complete):
            self._tell_complete(event)
        elif isinstance(event, RowFailed):
            self._tell("error", event.row, message=event.error.what, remedy=event.error.remedy)
        elif isinstance(event, Summary):
            self._tell_summary(event)
        elif isinstance(event, Notice):
            self.warn(event.text)
        elif isinstance(event, (Remark, Setback)):
            super().__call__(event)

    def _tell_progress(self, event: Progress) -> None:
        now = self._clock.monotonic()
        key = (event.job_id, event.name)
        if key in self._told and event.done != event.size and now - self._told[key] < CALM:
            return
        self._told[key] = now
        self._tell(
            "downloading", self._row_of(event.job_id), file=event.name, bytes=event.done, size=event.size
        )

    def _tell_complete(self, event: Complete) -> None:
        for file in event.files:
            self._tell(
                "complete",
                event.row,
                path=str(file.path),
                size=file.size,
                sha1=file.sha1,
                verified=file.verified,
                here=True,
                from_before=event.from_before,
                **({"changed": True} if event.is_changed else {}),
            )
        for path in event.elsewhere:
            self._tell(
                "complete",
                event.row,
                path=path,
                size=None,
                sha1=None,
                verified=False,
                here=False,
                from_before=event.from_before,
            )

    def _tell_summary(self, summary: Summary) -> None:
        self._tell(
            "summary",
            None,
            complete=len(summary.complete),
            failed=len(summary.failed),
            pending=len(summary.pending),
            elsewhere=len(summary.elsewhere),
            submitted=len(summary.submitted),
            unverified=len(summary.unverified),
            bytes=summary.size,
            directory=str(summary.directory),
            exit_status=int(summary.exit_status),
        )

    def _tell(self, event: str, row: RowName | None, **fields: object) -> None:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock.now()))
        about = {} if row is None else {"line": row.line, "obs_id": row.obs_id, "job_id": row.job_id}
        self._write(json.dumps({"event": event, "time": when, **about, **hide_in(fields)}) + "\n", self._out)


def display_for(
    out: TextIO,
    errors: TextIO,
    clock: Clock,
    environment: Mapping[str, str],
    *,
    quiet: bool = False,
    json: bool = False,
    verbose: bool = False,
) -> Display:
    """Return the display that fits: bars where `errors` is a terminal, lines elsewhere, JSON if asked for."""
    if json:
        return JsonDisplay(out, errors, clock)
    has_no_bars = environment.get("TERM") == "dumb" or environment.get("TQDM_DISABLE")
    if errors.isatty() and not (quiet or verbose or has_no_bars):
        try:
            return BarDisplay(out, errors, clock, colour=not environment.get("NO_COLOR"))
        except Exception:
            pass  # The library that draws them cannot be loaded here: lines say as much.
    return Display(out, errors, clock, quiet=quiet)


# --- Words --------------------------------------------------------------------------------------------


def _about(state: str, row: RowName, more: str = "") -> str:
    words = f"{state}: Job id: {row.job_id if row.job_id is not None else '-'} obs_id: {row.obs_id}"
    return f"{words} {more}" if more else words


def _failure(failure: RowFailed) -> list[str]:
    row = failure.row
    job = "no job" if row.job_id is None else f"job id {row.job_id}"
    line = f"line {row.line}: " if row.line else ""  # Jobs that were asked for by their ids have none.
    what, *remedy = failure.error.lines
    return [f"  {line}obs_id {row.obs_id}, {job}: {what}", *(f"      {words}" for words in remedy)]


def _counted(counts: Counts) -> str:
    return ", ".join(f"{number} {label}" for label, number in _ordered(counts))


def _fitting(counts: Counts, room: int) -> str:
    """Return as many of the counts as there is room for: errors and downloads last longest."""
    words = {label: f"{number} {SHORT.get(label, label)}" for label, number in _ordered(counts)}
    for spared in (COMPLETE, *list(words)):
        if len(", ".join(words.values())) <= room:
            break
        words.pop(spared, None)
    return ", ".join(words.values())


def _ordered(counts: Counts) -> list[tuple[str, int]]:
    """Put the states in the order of a job's life; the service works on it in those that nobody knows."""
    unknown = LIFE.index(JobState.READY.label) - 0.5
    return sorted(counts.states, key=lambda state: LIFE.index(state[0]) if state[0] in LIFE else unknown)


def _trimmed(bar: Any) -> Callable[[Any], str]:
    """Return how to write a bar so that it never wraps: tqdm before 4.61 trims none that has only words."""
    from tqdm.utils import disp_trim

    return lambda self: str(disp_trim(bar.__str__(self), self.ncols))


def _shortened(name: str, width: int) -> str:
    """Return a name of exactly this width; what is left out is in the middle."""
    if len(name) <= width:
        return name.ljust(width)
    end = (width - 2) // 2
    return f"{name[: width - 2 - end]}..{name[len(name) - end :]}"


def _summary_line(summary: Summary) -> str:
    unverified = len(summary.unverified)
    parts = [f"{len(summary.submitted)} submitted"] if summary.submitted else []
    parts += [f"{len(summary.complete)} complete"] if summary.complete or not parts else []
    parts += [f"{len(summary.elsewhere)} of them delivered elsewhere"] if summary.elsewhere else []
    parts += [f"{unverified} of the files not verified"] if unverified else []
    parts += [f"{summary.changed} changed since"] if summary.changed else []
    parts += [f"{len(summary.failed)} failed"] if summary.failed else []
    parts += [f"{len(summary.pending)} pending (run the same command again)"] if summary.pending else []
    return f"{', '.join(parts)}: {format_size(summary.size)} in {summary.directory}"
