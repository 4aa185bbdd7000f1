"""How many columns a text takes on a terminal: a character may take two of them, or none."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache


def columns_of(text: str) -> int:
    """Return how many columns a printable text takes.

    Examples
    --------
    >>> columns_of("vis.tar"), columns_of("\u89b3\u6e2c.tar"), columns_of("e\u0301")
    (7, 8, 1)
    """
    return len(text) if text.isascii() else sum(map(_columns_of_one, text))


def widest(texts: Sequence[str]) -> int:
    """Return how many columns the widest of some printable texts takes."""
    # One look at all of them: most tables are in ASCII, and may have ten thousand rows.
    return max(map(len if "".join(texts).isascii() else columns_of, texts))


def filled(text: str, width: int, *, at_left: bool = True) -> str:
    """Return a text with spaces behind it, or before it, so that it takes this many columns."""
    return all_filled([text], width, at_left=at_left)[0]


def all_filled(texts: Sequence[str], width: int, *, at_left: bool = True) -> list[str]:
    """Return each of some texts as `filled` does."""
    fill = str.ljust if at_left else str.rjust
    if "".join(texts).isascii():
        return [fill(text, width) for text in texts]
    return [fill(text, width + len(text) - columns_of(text)) for text in texts]


def of_width(name: str, width: int) -> str:
    """Return a name filled up to exactly this width, or its end: there the names of products differ.

    Examples
    --------
    >>> of_width("vis.tar", 8), of_width("long_vis.tar", 8), of_width("\u89b3\u6e2c.tar", 7)
    ('vis.tar ', '..is.tar', '...tar ')
    """
    if columns_of(name) <= width:
        return filled(name, width)
    begin, room = len(name), width - 2
    while begin and (room := room - columns_of(name[begin - 1])) >= 0:
        begin -= 1
    return filled(f"..{name[begin:]}", width)


def pieces(word: str, width: int) -> list[str]:
    """Return a word as pieces of at most this width; the first ones are full.

    Examples
    --------
    >>> pieces("vis.tar", 8), pieces("long_vis.tar", 8), pieces("\u89b3\u6e2c.tar", 3)
    (['vis.tar'], ['long_vis', '.tar'], ['観', '測.', 'tar'])
    """
    if columns_of(word) <= width:
        return [word]
    found = [""]
    for character in word:
        if found[-1] and columns_of(found[-1] + character) > width:
            found.append("")
        found[-1] += character
    return found


@lru_cache(maxsize=1024)
def _columns_of_one(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):  # It is put on the one before it.
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
