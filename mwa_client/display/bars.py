"""What people see on a terminal: progress bars, and the lines above them."""

from __future__ import annotations

from typing import Any, Callable, TextIO

from mwa_client.batch.events import (
    Begun,
    Complete,
    Counts,
    Downloading,
    Event,
    Expected,
    RowFailed,
    RowName,
    Summary,
)
from mwa_client.display.lines import LineDisplay
from mwa_client.display.printing import Look, Looks
from mwa_client.display.rates import STEADY_AFTER, Rate
from mwa_client.display.screen import Screen
from mwa_client.display.widths import of_width
from mwa_client.display.wording import asking_in_words, counts_that_fit, expected_in_words
from mwa_client.formatting import format_size, printable
from mwa_client.light_dataclasses import dataclass
from mwa_client.timing import Clock
from mwa_client.transfer.events import Progress, Setback

TOTAL_BAR = "{n_fmt}/{total_fmt} jobs |{bar}| {desc}"
FILE_BAR = "{desc} |{bar}| {percentage:3.0f}% of {total_fmt}B, {rate_fmt}"
TIME_LEFT = ", {remaining} left"
NARROW_FILE_BAR = "{desc} {percentage:3.0f}% {rate_fmt}"
NARROW_TIME_LEFT = " {remaining}"
UNSIZED_FILE_BAR = "{desc} {n_fmt}B, {rate_fmt}"
NARROW = 72
"""Columns below which there is no room for a real bar."""
SHORTEST_BAR = 8
NAME_WIDTH = 26
RIGHT_MARGIN = 3
"""Columns kept free at the right: what the terminal echoes must not break a row in two."""
REDRAW_INTERVAL = 0.1
"""Seconds between two drawings for nothing but bytes that have come."""
QUIET_START = 2.0
"""Seconds after which the row with the clock appears: a short run needs none."""


@dataclass
class _Running:
    """A download that is under way."""

    size: int | None
    first: int
    done: int
    rate: Rate
    drawn_at: float


class BarDisplay(LineDisplay):
    """Shows a bar for the whole batch, one for each running download, and the lines above them.

    Parameters
    ----------
    out, errors, clock, quiet, looks, names_jobs
        As for `LineDisplay`; the bars are drawn on `errors`, a terminal.
    colour : bool
        Draw the bars in colour.
    is_beside : bool
        The lines appear on the same terminal as the bars: they are kept short, and say nothing that the bars
        say.
    """

    is_moving = True

    def __init__(
        self,
        out: TextIO,
        errors: TextIO,
        clock: Clock,
        *,
        quiet: bool = False,
        looks: Looks | None = None,
        colour: bool = True,
        is_beside: bool = True,
        names_jobs: bool = False,
    ) -> None:
        from tqdm import tqdm  # Not needed by runs without a terminal.
        from tqdm.utils import disp_trim

        if looks is None:
            look = Look(is_coloured=colour, is_wrapped=True)
            looks = Looks(look if is_beside else Look(), look)
        super().__init__(out, errors, clock, quiet=quiet, looks=looks, names_jobs=names_jobs)
        self._bar: Callable[..., Any] = tqdm.format_meter
        self._trim: Callable[[str, int], str] = disp_trim
        self._is_ascii = not str(errors.encoding or "").lower().startswith("utf")
        self._colour = "green" if colour else None
        self._is_beside = is_beside
        self._screen = Screen(errors, lambda text: self._write(text, errors))
        self._is_drawing = False
        self._running: dict[tuple[int, str], _Running] = {}
        self._fetching_since = 0.0
        """When the first of the running downloads began, by the clock for intervals."""

    def close(self) -> None:
        """Take the bars away."""
        super().close()
        self._is_drawing = False
        self._running.clear()
        self._screen.clear()

    def pause(self) -> None:
        """Take the bars away while the program is stopped; the next tick brings them back."""
        self._screen.clear()

    def tick(self) -> None:
        """Draw the bars again: the clock has moved, or the window has another size."""
        if self._counts is not None and not self._is_more_coming():
            self._show_gathered()
        self._draw()

    def _show(self, event: Event) -> None:
        if isinstance(event, (Complete, RowFailed)):
            self._end(event.row.job_id)
        elif isinstance(event, Setback):
            # The bar would go on showing the last rate; it comes back with the next bytes.
            self._end(event.job_id, event.name)
        elif isinstance(event, Summary):
            self.close()
        super()._show(event)
        if isinstance(event, (Complete, RowFailed, Setback)):
            self._draw()

    def _show_progress(self, event: Begun | Progress | Counts) -> None:
        if isinstance(event, Begun):
            self._rows, self._is_drawing = event.rows, True
        elif isinstance(event, Progress):
            self._is_drawing = True
            if not self._note_bytes(event):
                return
        else:
            self._counts = event
            if not self._is_more_coming():
                self._show_gathered()
        self._draw()

    def _note_bytes(self, event: Progress) -> bool:
        """Note how far a download is; return whether that is worth a drawing."""
        key, now = (event.job_id, event.name), self._clock.monotonic()
        running = self._running.get(key)
        if event.done == event.size:
            return self._running.pop(key, None) is not None
        if running is not None and event.done >= running.done:
            running.done = event.done
            is_due = now - running.drawn_at >= REDRAW_INTERVAL
            running.drawn_at = now if is_due else running.drawn_at
            return is_due
        if not self._running:
            self._fetching_since = now
        # The bytes that an earlier run has left must not count for the rate.
        self._running[key] = _Running(event.size, event.done, event.done, Rate(now, event.done), now)
        return True

    def _end(self, job_id: int | None, name: str | None = None) -> None:
        for key in [key for key in self._running if key[0] == job_id and name in (None, key[1])]:
            del self._running[key]

    # --- Drawing --------------------------------------------------------------------------------------

    def _draw(self) -> None:
        if not self._is_drawing:
            return
        now, (columns, height) = self._clock.monotonic(), self._screen.size
        width = max(columns - RIGHT_MARGIN, 1)
        for running in self._running.values():
            running.rate.look(now, running.done)
        rows = [self._total_bar(width)] if self._rows else []
        if now - self._begun >= QUIET_START:
            rows.insert(0, self._life_row(now, width))
        files = [self._file_bar(name, running, width) for (_, name), running in self._running.items()]
        most = max(height - 1 - len(rows), 0)
        if len(files) > most:  # What is higher than the window could not be drawn over.
            files = files[: max(most - 1, 0)] + [f"and {len(files) - max(most - 1, 0)} more downloads"][:most]
        self._screen.draw([self._trim(row, width) for row in rows + files])

    def _total_bar(self, width: int) -> str:
        done, rows, words = 0, self._rows, ""
        if self._counts is not None:
            done, rows = self._counts.done, self._counts.rows
            taken = len(TOTAL_BAR.format(n_fmt=done, total_fmt=rows, bar="", desc=""))
            words = printable(counts_that_fit(self._counts, width - taken - SHORTEST_BAR))
        return str(
            self._bar(done, rows, 0, width, words, self._is_ascii, bar_format=TOTAL_BAR, colour=self._colour)
        )

    def _file_bar(self, name: str, running: _Running, width: int) -> str:
        is_narrow = width + RIGHT_MARGIN < NARROW
        room = max(width + RIGHT_MARGIN - 24, 10) if is_narrow else NAME_WIDTH
        form = UNSIZED_FILE_BAR if running.size is None else NARROW_FILE_BAR if is_narrow else FILE_BAR
        if running.rate.is_steady and running.size is not None:  # Until then, what is left is a guess.
            form += NARROW_TIME_LEFT if is_narrow else TIME_LEFT
        return str(
            self._bar(
                running.done,
                running.size,
                1.0,
                width,
                of_width(printable(name), room),
                self._is_ascii,
                unit="B",
                unit_scale=True,
                rate=running.rate.value or None,
                bar_format=form,
                colour=self._colour,
            )
        )

    def _life_row(self, now: float, width: int) -> str:
        """Return the row that shows that the program lives: the clock, the bytes, when it has last asked."""
        minutes, seconds = divmod(int(now - self._begun), 60)
        clock = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
        counts = self._counts
        if counts is None:
            return clock
        asked = [] if counts.asking is None else [asking_in_words(counts.asking, now)]
        come = sum(running.done - running.first for running in self._running.values())
        here, to_come = counts.here + come, max(counts.to_come - come, 0)
        is_steady = bool(self._running) and now - self._fetching_since >= STEADY_AFTER
        rate = sum(running.rate.value or 0.0 for running in self._running.values()) if is_steady else 0.0
        so_far = [f"{format_size(here)} of {format_size(here + to_come)}"] if here + to_come else []
        rest = [f"{format_size(to_come)} to come"] if to_come else []
        time_left = [f"{rest[0]} in {self._bar_time(to_come / rate)}"] if rest and rate > 1.0 else rest
        in_words = expected_in_words(self._expected, self._clock.now())
        wait = [in_words] if in_words else []
        for words in (
            [*so_far, *time_left, *wait, *asked],
            [*time_left, *wait, *asked],
            [*rest, *wait, *asked],
            [*wait, *asked],
            wait or asked,
            asked,
            [],
        ):
            row = ", ".join([clock, *words])
            if len(row) <= width:
                break
        return row

    @staticmethod
    def _bar_time(seconds: float) -> str:
        from tqdm import tqdm

        return str(tqdm.format_interval(min(seconds, 3.6e6)))

    # --- Lines above the bars -------------------------------------------------------------------------

    def _show_downloading(self, event: Downloading) -> None:
        if event.is_here or not self._is_beside:
            super()._show_downloading(event)

    def _show_expected(self, expected: Expected) -> None:
        self._expected = expected  # The row with the clock says it all the time.
        if not self._is_beside:
            super()._show_expected(expected)

    def _about_rows(self, label: str, rows: list[RowName]) -> str:
        return f"{len(rows)} jobs: {label}" if self._is_beside else super()._about_rows(label, rows)

    def _print(self, text: str, stream: TextIO, colour: str = "", look: Look | None = None) -> None:
        if self._is_beside or stream is self._errors:
            self._screen.clear()
        super()._print(text, stream, colour, look)
        self._draw()
