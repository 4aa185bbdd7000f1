"""What the arguments of the Python API may be: whatever a notebook has at hand, or one of our own errors."""

from __future__ import annotations

import math
import operator
import re
from datetime import timedelta
from typing import SupportsFloat

from mwa_client.errors import SettingsError
from mwa_client.formatting import seconds_in

LONGEST_SHOWN = 60


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
        return int(value) if re.fullmatch(r"\s*[0-9]{1,19}\s*", value) else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and value >= 0 else None
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
    return number if number >= 0 else None


def _shown(name: str, value: object) -> str:
    text = repr(value)
    return f"{name}={text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + '...'}"
