"""Sets of byte ranges: what is missing of a file, and what nobody fetches yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field

from mwa_client.light_dataclasses import dataclass


class Gaps:
    """A set of bytes, kept as ranges ``(start, end)`` that are in order and do not touch.

    Parameters
    ----------
    ranges : iterable of (int, int)
        The first byte of each, and the one behind its last. In any order, overlapping or not.

    Examples
    --------
    >>> gaps = Gaps([(0, 10), (10, 30)])
    >>> gaps.remove(5, 7)
    >>> list(gaps), gaps.total
    ([(0, 5), (7, 30)], 28)
    """

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._ranges: list[tuple[int, int]] = []
        for start, end in ranges:
            self.add(start, end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def __len__(self) -> int:
        return len(self._ranges)

    @property
    def total(self) -> int:
        """How many bytes the ranges have together."""
        return sum(end - start for start, end in self._ranges)

    @property
    def first(self) -> tuple[int, int]:
        """The range that comes first; there must be one."""
        return self._ranges[0]

    def add(self, start: int, end: int) -> None:
        """Add a range, which may be empty."""
        if start >= end:
            return
        low = high = self._low(start)
        while high < len(self._ranges) and self._ranges[high][0] <= end:
            start, end = min(start, self._ranges[high][0]), max(end, self._ranges[high][1])
            high += 1
        self._ranges[low:high] = [(start, end)]

    def remove(self, start: int, end: int) -> None:
        """Remove a range, or as much of it as is in the set."""
        if start >= end:
            return
        kept: list[tuple[int, int]] = []
        low = high = self._low(start)
        while high < len(self._ranges) and self._ranges[high][0] < end:
            first, last = self._ranges[high]
            around = (first, min(last, start)), (max(first, end), last)
            kept += [each for each in around if each[0] < each[1]]
            high += 1
        self._ranges[low:high] = kept

    def clipped(self, end: int) -> Gaps:
        """Return the part of the set that lies before `end`."""
        return Gaps((first, min(last, end)) for first, last in self._ranges)

    def without_last(self, end: int) -> int:
        """Remove the range that reaches to `end`, if there is one; return where what is before it ends."""
        if self._ranges and self._ranges[-1][1] == end:
            end = self._ranges.pop()[0]
        return end

    def _low(self, start: int) -> int:
        """Return the index of the first range that ends at `start` or behind it."""
        return next((index for index, each in enumerate(self._ranges) if each[1] >= start), len(self._ranges))


@dataclass
class Contents:
    """Which bytes of a file have been written.

    Attributes
    ----------
    missing : Gaps
        The gaps before `end`.
    end : int
        Behind the last byte that was written, or is about to be.
    least_length : int
        How long the file must be at least, or somebody else has shortened it.
    """

    missing: Gaps = field(default_factory=Gaps)
    end: int = 0
    least_length: int = 0

    @property
    def contiguous_end(self) -> int:
        """The position of the first byte that is missing."""
        return self.missing.first[0] if self.missing else self.end

    @property
    def present(self) -> int:
        """How many bytes were written."""
        return self.end - self.missing.total

    def set(self, missing: Gaps, end: int) -> None:
        """Replace all that is known, for a file of `end` bytes."""
        self.missing, self.end, self.least_length = missing, end, end

    def extend(self, end: int) -> None:
        """Let the file reach to `end`, if it is shorter; what this adds is missing."""
        if end > self.end:
            self.missing.add(self.end, end)
            self.end = end

    def add(self, start: int, end: int) -> None:
        """Note that these bytes were written."""
        self.missing.remove(start, end)
        self.least_length = max(self.least_length, end)
