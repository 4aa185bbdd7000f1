"""What people see on a terminal: progress bars, and the lines above them."""

from __future__ import annotations

import os
from typing import Any, Callable, TextIO

from mwa_client.batch.events import Begun, Complete, Counts, Event, RowFailed, Summary
from mwa_client.display.lines import LineDisplay
from mwa_client.display.wording import counts_that_fit, of_width
from mwa_client.formatting import printable
from mwa_client.timing import Clock
from mwa_client.transfer.events import Progress, Setback

TOTAL_BAR = "{n_fmt}/{total_fmt} jobs |{bar}| {desc}"
FILE_BAR = "{desc} |{bar}| {percentage:3.0f}% of {total_fmt}B, {rate_fmt}, {remaining} left"
NARROW_FILE_BAR = "{desc} {percentage:3.0f}% {rate_fmt} {remaining}"
NARROW = 72
"""Columns below which there is no room for a real bar."""
SHORTEST_BAR = 8
RIGHT_MARGIN = 3
"""Columns kept free at the right, so that the ``^C`` of an interrupt does not break the line of a bar."""


class BarDisplay(LineDisplay):
    """Shows a bar for the whole batch, one for each running download, and the lines above them.

    Parameters
    ----------
    out, errors, clock, quiet
        As for `LineDisplay`; the bars are drawn on `errors`, a terminal.
    colour : bool
        Draw the bars in colour.
    """

    def __init__(
        self, out: TextIO, errors: TextIO, clock: Clock, *, quiet: bool = False, colour: bool = True
    ) -> None:
        from tqdm import tqdm  # Not needed by runs without a terminal.

        super().__init__(out, errors, clock, quiet=quiet)
        # No monitor thread: it redraws bars that have stood still for long, and ours may stand still.
        self._tqdm: Any = type("Bar", (tqdm,), {"monitor_interval": 0, "__str__": _never_wrapping(tqdm)})
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
        # tqdm clears what it has written, but not the ^C that the terminal has written after it.
        self._write("\r\x1b[J", self._errors)

    def _show(self, event: Event) -> None:
        if isinstance(event, (Complete, RowFailed)):
            self._close_bars(event.row.job_id)
        elif isinstance(event, Setback):
            # The bar would go on showing the last rate; it comes back with the next bytes.
            self._close_bars(event.job_id, event.name)
        elif isinstance(event, Summary):
            self.close()
        super()._show(event)

    def _show_progress(self, event: Begun | Progress | Counts) -> None:
        if isinstance(event, Begun):
            self._total = self._new_bar(total=event.rows, bar_format=TOTAL_BAR)
        elif isinstance(event, Progress):
            self._move_bar(event)
        elif self._total is not None:
            self._total.ncols = self._columns()
            self._total.n = event.done
            taken = len(TOTAL_BAR.format(n_fmt=event.done, total_fmt=event.rows, bar="", desc=""))
            words = counts_that_fit(event, self._columns() - taken - SHORTEST_BAR)
            self._total.set_description_str(printable(words))

    def _move_bar(self, event: Progress) -> None:
        key = (event.job_id, event.name)
        if event.done == event.size or (key in self._bars and event.done < self._bars[key].n):
            self._close_bars(*key)
        if event.done == event.size:
            return
        if key not in self._bars:
            is_narrow = self._columns() < NARROW
            self._bars[key] = self._new_bar(
                total=event.size,
                # The bytes that an earlier run has left must not count for the rate.
                initial=event.done,
                desc=of_width(printable(event.name), max(self._columns() - 24, 10) if is_narrow else 26),
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
        for position, bar in enumerate(self._bars.values(), start=1):
            # tqdm leaves an empty line where a closed bar was.
            if bar.pos != position:
                bar.clear()
                bar.pos = position
                bar.refresh()

    def _new_bar(self, **options: Any) -> Any:
        if self._colour:
            options["colour"] = "green"
        return self._tqdm(file=self._errors, leave=False, ncols=self._columns(), miniters=1, **options)

    def _columns(self) -> int:
        """Return how many columns a bar may take now; a terminal can be resized."""
        try:
            columns = os.get_terminal_size(self._errors.fileno()).columns
        except (OSError, ValueError):
            columns = 0  # The terminal has gone.
        return max((columns or 80) - RIGHT_MARGIN, 1)

    def _print(self, text: str, stream: TextIO) -> None:
        if self._total is None:
            super()._print(text, stream)
            return
        with self._tqdm.external_write_mode(file=self._errors):
            super()._print(text, stream)


def _never_wrapping(bar: Any) -> Callable[[Any], str]:
    """Return how to write a bar so that it never wraps: tqdm before 4.61 trims none that has only words."""
    from tqdm.utils import disp_trim

    return lambda self: str(disp_trim(bar.__str__(self), self.ncols))
