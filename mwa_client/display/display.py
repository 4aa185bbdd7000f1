"""What every display does: write whole lines at once, and know which row a job belongs to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TextIO

from mwa_client.batch.events import Downloading, Event, RowName, StateChanged, Submitted
from mwa_client.display.printing import NO_LOOKS, Look, Looks
from mwa_client.errors import MwaClientError
from mwa_client.formatting import printable
from mwa_client.timing import Clock


class Display(ABC):
    """Shows the events of a run.

    Parameters
    ----------
    out : text stream
        Where the story of the run goes.
    errors : text stream
        Where errors and warnings go.
    clock : Clock
        The time.
    looks : Looks
        How lines look on the two.

    Attributes
    ----------
    lost : Exception or None
        Why something could not be written to `out`.
    """

    is_moving = False
    """Whether it shows something that moves by itself, and wants to be told of it (`tick`)."""

    def __init__(self, out: TextIO, errors: TextIO, clock: Clock, *, looks: Looks = NO_LOOKS) -> None:
        self._out = out
        self._errors = errors
        self._clock = clock
        self._looks = looks
        self._last_text = ""
        self._last_time = clock.monotonic()
        self._row_of_job: dict[int, RowName] = {}
        self.lost: Exception | None = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, (Submitted, StateChanged, Downloading)):
            # The events of a transfer name only the job.
            self._row_of_job[event.row.job_id or 0] = event.row
        self._show(event)

    def warn(self, text: str) -> None:
        """Write a line that concerns the whole batch to the error stream."""
        self._print(text, self._errors)

    def close(self) -> None:  # noqa: B027  (lines leave nothing behind)
        """Leave the terminal as it was."""

    @abstractmethod
    def _show(self, event: Event) -> None:
        """Show one event, once it is known which row its job belongs to."""

    def _row_of(self, job_id: int) -> RowName:
        return self._row_of_job.get(job_id) or RowName(0, 0, job_id)

    def pause(self) -> None:  # noqa: B027
        """Leave the terminal to others while the program is stopped."""

    def tick(self) -> None:  # noqa: B027  (most have nothing that moves)
        """Show that time passes; called now and then while nothing happens."""

    def _print_error(self, error: MwaClientError) -> None:
        """Print what has ended the run early."""
        for line in error.final_lines:
            self._print(line, self._errors, look=self._looks.errors.for_error(error))

    def _print(self, text: str, stream: TextIO, colour: str = "", look: Look | None = None) -> None:
        """Print one line, unless it is the same as the last; `look` is for a line unlike others there."""
        if text == self._last_text:
            return
        self._last_text, self._last_time = text, self._clock.monotonic()
        look = look or (self._looks.out if stream is self._out else self._looks.errors)
        self._write(f"{look.laid_out(printable(text), stream, self._clock.now(), colour)}\n", stream)

    def _write(self, text: str, stream: TextIO) -> None:
        try:
            stream.write(text)
            stream.flush()
        except (OSError, ValueError) as error:
            # Nobody reads any more (a closed pipe or terminal): the work goes on all the same.
            if stream is self._out:
                self.lost = error
