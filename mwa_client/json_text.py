"""JSON from outside: what makes no sense in it becomes None, and the rest is read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from sys import intern
from typing import Any, TypeVar

T = TypeVar("T")

LONGEST_NUMBER = 30
"""Digits from which on a whole number makes no sense; some thousands of them cannot even be read."""
DEEPEST = 50
"""Levels of lists and objects in each other below which nothing that makes sense can be."""
SHORT = 32
"""Characters below which a text is likely to come again."""
_PIECES = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]|[^"\[\]{}]+|"', re.DOTALL)


def read_json(text: str) -> Any:
    """Return what a text of JSON says.

    A number that is none (``NaN``, ``1e999``, a thousand digits) is None, and so is what is nested so deep
    that Python could not read it: one odd entry of a long listing must not hide the others.

    Raises
    ------
    ValueError
        It is no JSON.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        return _DECODER.decode("".join(_shallow(text)))


def read_strictly(text: str) -> Any:
    """Return what a text of JSON says of which all must make sense: one that we have written ourselves.

    Raises
    ------
    ValueError
        It is no JSON, is nested too deep, or has a number that is none.
    """
    try:
        return _STRICT_DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_value(text: str, start: int) -> tuple[Any, int]:
    """Return the JSON value that begins somewhere in a text, and where it ends.

    It is read as `read_json` does it. What it shares with others of its kind is kept in memory once.

    Raises
    ------
    ValueError
        There is none, or not all of it.
    """
    try:
        return _SHARING_DECODER.raw_decode(text, start)
    except RecursionError:
        end = _end_of(text, start)
        return _DECODER.decode("".join(_shallow(text[start:end]))), end


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object whose names and short texts are those of others that have the same."""
    return {
        intern(name): intern(value) if type(value) is str and len(value) < SHORT else value
        for name, value in pairs
    }


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= LONGEST_NUMBER else None


def _decimal(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _no_constant(word: str) -> None:
    return None


def _whole(digits: str) -> int:
    """Return a whole number; as `_integer`, in one step, for a ledger has hundreds of thousands of them."""
    if len(digits) > LONGEST_NUMBER:
        raise ValueError("a number that is none")
    return int(digits)


def _or_refuse(read: Callable[[str], T | None]) -> Callable[[str], T]:
    def strict(digits: str) -> T:
        number = read(digits)
        if number is None:
            raise ValueError("a number that is none")
        return number

    return strict


# Made once: a ledger has hundreds of thousands of lines.
_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_decimal, parse_constant=_no_constant)
_SHARING_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_decimal, parse_constant=_no_constant
)
_STRICT_DECODER = json.JSONDecoder(
    parse_int=_whole,
    parse_float=_or_refuse(_decimal),
    parse_constant=_or_refuse(_no_constant),
)


def _end_of(text: str, start: int) -> int:
    """Return where a list or an object ends that begins there."""
    depth = 0
    for match in _PIECES.finditer(text, start):
        depth += (match[0] in ("[", "{")) - (match[0] in ("]", "}"))
        if depth <= 0:
            return match.end()
    raise ValueError("it does not end")


def _shallow(text: str) -> Iterator[str]:
    """Yield a text of JSON in pieces, with null in place of what is nested too deep."""
    depth = 0
    for piece in (match[0] for match in _PIECES.finditer(text)):
        depth += piece in ("[", "{")
        if depth <= DEEPEST:
            yield piece
        elif depth == DEEPEST + 1 and piece in ("[", "{"):
            yield "null"
        depth -= piece in ("]", "}")
