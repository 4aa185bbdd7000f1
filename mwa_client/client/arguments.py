"""What the arguments of the Python API may be: whatever a notebook has at hand, or one of our own errors."""

from __future__ import annotations

import math
import operator
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import SupportsFloat

from mwa_client.errors import SettingsError
from mwa_client.formatting import seconds_in

LONGEST_SHOWN = 60
LARGEST_GIVEN = 2**63 - 1
"""The largest number that makes sense."""


def job_id_in(value: object) -> int:
    """Return the job id that an argument means: an integer of any kind, or as text or float.

    Examples
    --------
    >>> job_id_in("10001"), job_id_in(10001.0)
    (10001, 10001)
    """
    number = _whole(value)
    if number is None:
        raise SettingsError(
            f"{_shown('job_id', value)} is not a job id.",
            "It must be a whole number, as `submit` returns it.",
        )
    return number


def number_in(name: str, value: object) -> int:
    """Return how many of something there may be: 1 or more."""
    number = _whole(value)
    if not number:
        raise SettingsError(
            f"{_shown(name, value)} is not possible.", "It must be a whole number, 1 or more."
        )
    return number


def seconds_given(name: str, value: object) -> float | None:
    """Return a time in seconds: a number, a text as on the command line, or a `timedelta`; None stays None.

    Examples
    --------
    >>> seconds_given("timeout", 90), seconds_given("timeout", "10m"), seconds_given("timeout", None)
    (90.0, 600.0, None)
    """
    if value is None:
        return None
    seconds = None
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        seconds = seconds_in(value)
    elif isinstance(value, SupportsFloat):
        seconds = float(value)
    if seconds is None or math.isnan(seconds) or seconds < 0:
        raise SettingsError(
            f"{_shown(name, value)} is not a time.", "Give seconds, or a text like 90s, 10m or 1.5h."
        )
    return seconds


def directory_in(value: object) -> Path:
    """Return the directory that an argument means; as on the command line, ``~`` is the user's home."""
    try:
        path = Path(os.fspath(value)).expanduser()  # type: ignore[call-overload]
        is_possible = value != "" and b"\0" not in os.fsencode(path)
    except (TypeError, ValueError, RuntimeError):  # Bytes, a lone surrogate, or no such user.
        is_possible = False
    if not is_possible:
        raise SettingsError(f"{_shown('directory', value)} is no directory.", "Give a path, as text.")
    return path


def text_in(name: str, value: object) -> str | None:
    """Return an argument that must be text; None stays None."""
    if value is None or isinstance(value, str):
        return value
    # It may be a secret, and is not shown.
    raise SettingsError(f"{name} is of type {type(value).__name__}.", "It must be text.")


def _whole(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        number = int(value) if re.fullmatch(r"\s*[0-9]{1,19}\s*", value) else -1
    elif isinstance(value, float):
        number = int(value) if value.is_integer() else -1
    else:
        try:
            number = operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            return None
    return number if 0 <= number <= LARGEST_GIVEN else None


def _shown(name: str, value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # A number of thousands of digits, or something of the caller's own.
        text = f"<{type(value).__name__}>"
    return f"{name}={text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + '...'}"
