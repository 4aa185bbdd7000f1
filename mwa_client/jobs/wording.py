"""How messages about job files are worded: what a value must be, what a misspelt one may have been."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable

from mwa_client.jobs.key_table import KEY_BY_NAME
from mwa_client.jobs.keys import JobKey, JobType, Limits, ValueKind
from mwa_client.jobs.text import LONGEST_EXCERPT
from mwa_client.jobs.values import SWITCH


def requirement(key: JobKey, name: str) -> str:
    """Say what the value that is given under one of a key's names must be.

    Examples
    --------
    >>> from mwa_client.jobs.key_table import find_key
    >>> requirement(find_key("avg_freq_res"), "avg_freq_res")
    'a number of kHz, 0 to 1280'
    """
    kind = key.kind_of_value(name)
    if kind is ValueKind.BOOLEAN:
        return _either(SWITCH)
    if kind is ValueKind.CHOICE:
        return f"{_either(key.choices)} {_plural(key.unit)}".rstrip()
    return number_within(key.limits_of_value(name), key.unit)


def number_within(limits: Limits, unit: str) -> str:
    """Describe a number within limits: ``a whole number of s, 0 to 5400``."""
    what = "a whole number" if limits.kind is ValueKind.INTEGER else "a number"
    if unit:
        what += f" of {_plural(unit)}"
    if limits.minimum is None:
        return f"{what}, {limits.maximum} or less"
    if limits.maximum is None:
        return f"{what}, {limits.minimum} or more"
    return f"{what}, {limits.minimum} to {limits.maximum}"


def _either(choices: Iterable[str]) -> str:
    *first, last = choices
    return f"{', '.join(first)} or {last}"


def _plural(unit: str) -> str:
    return {"GPS second": "GPS seconds", "pixel": "pixels"}.get(unit, unit)


def count(number: int, what: str) -> str:
    """Say how many there are: ``1 job``, ``2 jobs``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def with_article(noun: str) -> str:
    """Put the right indefinite article before a noun: ``a conversion``, ``an imaging``."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def no_counterpart(name: str, rows: int) -> str:
    """Warn that a key of 2018 is not sent to today's service, once for all the rows that have it."""
    more = f" (said once for {rows} rows)" if rows > 1 else ""
    return f"{name} has no counterpart in today's service; it is not sent{more}"


@functools.lru_cache(maxsize=1024)
def guess_name(name: str, job_type: JobType | None) -> str | None:
    """Return the name of a key that a misspelt one may have been meant to be."""
    known = [known for known, key in KEY_BY_NAME.items() if job_type is None or job_type in key.job_types]
    return _closest(name, known)


def guess_value(key: JobKey, name: str, text: str) -> str | None:
    """Return the value that a misspelt one may have been meant to be."""
    if key.kind_of_value(name) is ValueKind.BOOLEAN:
        return _closest(text, SWITCH)
    if key.name == "job_type":
        names = {name: job_type.value for job_type in JobType for name in (job_type.value, job_type.label)}
        closest = _closest(text, names)
        return names[closest] if closest else None
    return _closest(text, key.choices)


def _closest(text: str, known: Iterable[str]) -> str | None:
    by_lower_case = {name.lower(): name for name in known}
    close = difflib.get_close_matches(text.lower()[:LONGEST_EXCERPT], by_lower_case, n=1)
    return by_lower_case[close[0]] if close else None


def did_you_mean(guess: str | None) -> str:
    """Return a guess as the end of a message, nothing where there is none."""
    return f"; did you mean {guess}?" if guess else ""
