"""Tables in plain text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence


def aligned(headings: Sequence[str], rows: Iterable[Sequence[str]], words: Collection[str]) -> list[str]:
    """Return the lines of a table.

    Parameters
    ----------
    headings : sequence of str
        What stands over each column.
    rows : iterable of sequence of str
        The cells of each row.
    words : collection of str
        The headings of the columns whose cells stand at the left; the others are numbers.
    """
    cells = [tuple(headings), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    places = [str.ljust if heading in words else str.rjust for heading in headings]
    return [
        "  ".join([place(cell, width) for place, cell, width in zip(places, row, widths)]).rstrip()
        for row in cells
    ]
