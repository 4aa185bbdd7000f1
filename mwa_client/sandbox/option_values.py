"""What the options of the practice service's command may be, and what is said of a value that cannot be."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from pathlib import Path

from .options import APIS

SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
"""What may follow a number of bytes: ``3M``."""
HIGHEST_PORT = 65535


def port(text: str) -> int:
    """Return the number of a port."""
    return _whole(text, f"a port, a whole number from 0 (a free one) to {HIGHEST_PORT}", most=HIGHEST_PORT)


def how_many(text: str) -> int:
    """Return a number of things."""
    return _whole(text, "a whole number, 0 or more")


def size(text: str) -> int:
    """Return a number of bytes: ``22500000``, ``22.5M``."""
    number = _bytes(text)
    if number is None or number != int(number):
        raise _wrong(text, "a number of bytes, 0 or more, such as 5000 or 3M")
    return int(number)


def rate(text: str) -> float:
    """Return a number of bytes a second."""
    number = _bytes(text)
    if not number:
        raise _wrong(text, "a number of bytes per second, above 0, such as 500000 or 3M")
    return number


def speed(text: str) -> float:
    """Return a number of states a second; infinity makes a job ready at once."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:  # NaN is not, either.
        raise _wrong(text, "a number above 0, or inf")
    return number


def names(text: str) -> tuple[str, ...]:
    """Return the names of interfaces."""
    given = tuple(name for name in re.split("[ ,]+", text.strip().lower()) if name)
    if not given or not set(given) <= set(APIS):
        raise _wrong(text, f"one or several of {', '.join(APIS)}, with commas")
    return given


def file(text: str) -> Path:
    """Return the path of a file that can be made or is there."""
    path = Path(text)
    if not text or path.is_dir() or not path.parent.is_dir():
        raise _wrong(text, "a file in a directory that exists")
    return path


def folder(text: str) -> Path:
    """Return the path of a folder that can be made or is there."""
    path = Path(text)
    if not text or (path.exists() and not path.is_dir()):
        raise _wrong(text, "a folder")
    return path


def _bytes(text: str) -> float | None:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?(?:e[0-9]{1,2})?) ?([kmgt]?)b?", text.strip().lower())
    return None if found is None else float(found[1]) * SUFFIXES[found[2]]


def _whole(text: str, right: str, most: int = 10**9) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) > most:
        raise _wrong(text, right)
    return int(text)


def _wrong(text: str, right: str) -> ArgumentTypeError:
    return ArgumentTypeError(f"{text or 'an empty word'} is not possible; it must be {right}")
