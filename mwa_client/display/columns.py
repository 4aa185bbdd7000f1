"""Tables in plain text: a line for each row in a file, and laid out to the window on a terminal."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property

from mwa_client.display.widths import all_filled, columns_of, filled, of_width, pieces, widest
from mwa_client.formatting import printable
from mwa_client.light_dataclasses import dataclass

SPACE = "  "
"""What stands between two columns, and before the further lines of a row."""
NARROWEST_TEXT = 24
"""Columns that are enough for the text at the end of a row: what is longer is broken between words."""
NARROWEST_WINDOW = 20


def aligned(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    words: Collection[str],
    width: int | None = None,
) -> list[str]:
    """Return the lines of a table.

    Parameters
    ----------
    headings : sequence of str
        What stands over each column.
    rows : iterable of sequence of str
        The cells of each row.
    words : collection of str
        The headings of the columns whose cells stand at the left; the others are numbers.
    width : int, optional
        Columns that a line may have. Where the table is too wide, one space stands between columns, not two.
        A row that still does not fit goes on in lines that are set in: the text in its last cell is broken
        between words, and a word that is longer than a line within. Default is a line for each row, however
        long.
    """
    cells = [tuple(headings), *map(tuple, rows)]
    if width is not None:
        cells = [tuple(map(printable, row)) for row in cells]  # As it will be shown, so it is measured.
    columns = list(zip(*cells))
    widths = [widest(column) for column in columns]
    at_left = [heading in words for heading in headings]
    between, filled_columns = len(widths) - 1, sum(widths)
    if width is None or filled_columns + between <= width:
        space = SPACE if width is None or filled_columns + between * len(SPACE) <= width else " "
        about = zip(columns, widths, at_left)
        placed = (all_filled(column, wide, at_left=is_left) for column, wide, is_left in about)
        return [space.join(row).rstrip(" ") for row in zip(*placed)]
    layout = _Layout(widths, at_left, max(width, NARROWEST_WINDOW))
    return [line for row in cells for line in layout.lines(row)]


@dataclass(frozen=True)
class _Layout:
    """How the rows of a table are broken into lines that fit."""

    widths: Sequence[int]
    at_left: Sequence[bool]
    width: int

    @cached_property
    def parts(self) -> list[slice]:
        """The columns on each line of a row."""
        least = [*self.widths[:-1], min(self.widths[-1], NARROWEST_TEXT if self.at_left[-1] else self.width)]
        begins, used = [0], least[0]
        for column, more in enumerate(least[1:], start=1):
            used += len(SPACE) + more
            if used > self.width:
                begins.append(column)
                used = len(SPACE) + more
        return [slice(begin, end) for begin, end in zip(begins, (*begins[1:], len(least)))]

    def lines(self, row: Sequence[str]) -> Iterator[str]:
        """Yield the lines of a row."""
        for part in self.parts:
            begin = SPACE if part.start else ""
            room = self.width - len(begin)
            about = zip(row[part], self.widths[part], self.at_left[part])
            cells = [filled(cell, wide, at_left=is_left) for cell, wide, is_left in about]
            if part.stop < len(row) or not self.at_left[-1]:
                line = SPACE.join(cells).rstrip(" ")
                fits = columns_of(line) <= room
                yield begin + (line if fits else of_width(line.lstrip(" "), room).rstrip(" "))
                continue
            begin += "".join(cell + SPACE for cell in cells[:-1])
            used = columns_of(begin)
            first, *more = _fitting(row[-1], self.width - used)
            if first or cells[:-1]:
                yield (begin + first).rstrip(" ")
            yield from (" " * used + line for line in more)


def _fitting(text: str, room: int) -> list[str]:
    """Return a text as lines that fit: broken between words, and a word that is longer than a line within."""
    lines = [""]
    for word in itertools.chain.from_iterable(pieces(each, room) for each in text.split(" ")):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if columns_of(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return [line.rstrip(" ") for line in lines]
