"""What the page about a batch shows, as numbers: spans of time, how long states took, bytes and rates."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from mwa_client.batch.rows import LABELS, Stage
from mwa_client.batch.status import DirectoryStatus, RowStatus
from mwa_client.light_dataclasses import dataclass

LAST_STATES = (LABELS[Stage.COMPLETE], LABELS[Stage.FAILED], "Expired", "Cancelled")
"""States in which a row does not wait for anything."""


class Span(NamedTuple):
    """A row was in a state from one moment to another, in seconds since 1970."""

    label: str
    begun: float
    ended: float

    @property
    def length(self) -> float:
        """How long, in seconds."""
        return self.ended - self.begun


@dataclass(frozen=True)
class StateTimes:
    """How long a state took, in seconds, over all rows that have left it or are still in it."""

    label: str
    rows: int
    median: float
    longest: float


@dataclass(frozen=True)
class Traffic:
    """How many bytes came, and how fast.

    Attributes
    ----------
    begun, step : float
        When the first interval begins, in seconds since 1970, and how long each is.
    rates : tuple of float
        Bytes a second in each interval.
    total : float
        Bytes in all.
    busy : float
        Seconds in which something was downloaded.
    """

    begun: float
    step: float
    rates: tuple[float, ...]
    total: float
    busy: float

    @property
    def mean(self) -> float:
        """Bytes a second while something was downloaded."""
        return self.total / self.busy if self.busy else 0.0


def ends_of(status: DirectoryStatus) -> tuple[float, float]:
    """Return when the batch began, and until when something is known of it: now, if a client is at work."""
    firsts = [row.steps[0].at for row in status.rows if row.steps]
    lasts = [row.steps[-1].at for row in status.rows if row.steps]
    begun = min(firsts, default=status.now)
    ended = status.now if status.at_work or not lasts else max(lasts)
    return begun, max(ended, begun + 1.0)


def spans_of(row: RowStatus, until: float) -> Iterator[Span]:
    """Yield the times that a row was in each state; the last state has no end."""
    for step, after in zip(row.steps, row.steps[1:]):
        yield Span(step.label, step.at, after.at)
    if row.steps:
        last = row.steps[-1]
        yield Span(last.label, last.at, last.at if last.label in LAST_STATES else max(until, last.at))


def state_times(rows: Iterable[RowStatus], until: float) -> list[StateTimes]:
    """Return how long each state took, for the states that rows are expected to leave."""
    taken: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        in_row: defaultdict[str, float] = defaultdict(float)
        for span in spans_of(row, until):
            if span.label not in LAST_STATES:
                in_row[span.label] += span.length
        for label, seconds in in_row.items():
            taken[label].append(seconds)
    return [StateTimes(label, len(each), statistics.median(each), max(each)) for label, each in taken.items()]


def counts_over_time(rows: Sequence[RowStatus], moments: Sequence[float]) -> dict[str, list[int]]:
    """Return how many rows were in each state at each moment; a row that had not begun is in none."""
    changes: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(moments) + 1))
    for row in rows:
        for step, after in zip(row.steps, (*row.steps[1:], None)):
            first = bisect_left(moments, step.at)
            last = len(moments) if after is None else bisect_left(moments, after.at)
            changes[step.label][first] += 1
            changes[step.label][last] -= 1
    return {label: _sums(each)[:-1] for label, each in changes.items()}


def traffic_of(rows: Iterable[RowStatus], until: float, intervals: int = 120) -> Traffic | None:
    """Return how the bytes came; None where nothing has been downloaded, as far as is known."""
    pieces = list(_pieces(rows, until))
    if not pieces:
        return None
    begun = min(piece[0] for piece in pieces)
    ended = max(until, *(piece[1] for piece in pieces))  # What came in the last second has lasted it.
    step = max(ended - begun, 1.0) / intervals
    amounts = [0.0] * intervals
    for start, end, size in pieces:
        _spread(amounts, (start - begun) / step, (end - begun) / step, size)
    rates = tuple(amount / step for amount in amounts)
    return Traffic(begun, step, rates, sum(piece[2] for piece in pieces), _covered(pieces))


def _pieces(rows: Iterable[RowStatus], until: float) -> Iterator[tuple[float, float, float]]:
    """Yield beginning, end and bytes of each download; times are known to the second."""
    for row in rows:
        for download in row.downloads:
            if download.ended is not None:
                yield download.begun, max(download.ended, download.begun + 1.0), float(download.to_come)
        if row.label == LABELS[Stage.DOWNLOADING] and row.downloads and row.size is not None:
            download = row.downloads[-1]
            came = row.here - max(row.size - download.to_come, 0)
            if came > 0:
                yield download.begun, max(until, download.begun + 1.0), float(came)


def _spread(amounts: list[float], start: float, end: float, size: float) -> None:
    """Add an amount to the intervals between two places, evenly."""
    end = min(end, float(len(amounts)))
    start = min(start, end - 1e-9)
    each = size / (end - start)
    for place in range(int(start), min(int(end) + 1, len(amounts))):
        amounts[place] += each * max(min(end, place + 1.0) - max(start, float(place)), 0.0)


def _covered(pieces: Iterable[tuple[float, float, float]]) -> float:
    """Return how many seconds at least one of the pieces lasted."""
    covered, until = 0.0, float("-inf")
    for start, end, _ in sorted(pieces):
        covered += max(end - max(start, until), 0.0)
        until = max(until, end)
    return covered


def _sums(numbers: Iterable[int]) -> list[int]:
    sums, total = [], 0
    for number in numbers:
        total += number
        sums.append(total)
    return sums
