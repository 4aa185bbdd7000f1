"""How messages about job files are worded: what a value must be, what a misspelt one may have been."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from mwa_client.formatting import closest
from mwa_client.jobs.key_table import KEY_BY_NAME
from mwa_client.jobs.keys import ApiVersion, JobKey, JobType, Limits, ValueKind
from mwa_client.jobs.values import SWITCH, may_be_rounded, switch_in_english

FORMER_KEYS = {
    "expiry_days": "each product is kept for 7 days",
    "priority": "the service decides",
    "staging_count": "it never was for users",
}
"""Keys that rows had once or may have been copied with from a list of jobs, and why they are not sent."""
UNITS = {
    "s": "seconds",
    "GPS second": "GPS seconds",
    "kHz": "kHz",
    "deg": "degrees",
    "arcsec": "arcseconds",
    "pixel": "pixels",
    "Jy": "Jy",
    "sigma": "sigma",
}
"""The units of the table of keys, as they stand after a number in a sentence."""


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
        return f"{_either(key.choices)} {UNITS.get(key.unit, key.unit)}".rstrip()
    return number_within(key.limits_of_value(name), key.unit)


def number_within(limits: Limits, unit: str) -> str:
    """Describe a number within limits: ``a whole number of seconds, 0 to 5400``."""
    what = "a whole number" if limits.kind is ValueKind.INTEGER else "a number"
    if unit:
        what += f" of {UNITS.get(unit, unit)}"
    if limits.minimum is None:
        return f"{what}, {limits.maximum} or less"
    if limits.maximum is None:
        return f"{what}, {limits.minimum} or more"
    return f"{what}, {limits.minimum} to {limits.maximum}"


def _either(choices: Iterable[str]) -> str:
    *first, last = choices
    return f"{', '.join(first)} or {last}"


def in_words(names: Iterable[str]) -> str:
    """Return names as one phrase: ``timeres, freqres and edgewidth``; empty where there are none."""
    *first, last = list(names) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def count(number: int, what: str) -> str:
    """Say how many there are: ``1 job``, ``2 jobs``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def with_article(noun: str) -> str:
    """Put the right indefinite article before a noun: ``a conversion``, ``an imaging``."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def no_counterpart(name: str) -> str:
    """Warn that a key of 2018 is not sent to today's service."""
    return f"{name} has no equivalent in today's service, and is not sent"


def no_longer_sent(name: str) -> str:
    """Warn that a key of earlier years is not sent."""
    return f"{name}: no longer a key, and is not sent: {FORMER_KEYS[name]}"


def replaced(name: str, today: str) -> str:
    """Tell what has replaced a name that a key had between 2018 and today."""
    return f"{name}: a word of 2019 to 2022 (today: {today}); it is understood as before"


def said_once(warning: str, rows: int) -> str:
    """Return a warning that holds for a number of rows."""
    return f"{warning} (reported once for {rows} rows)" if rows > 1 else warning


@functools.lru_cache(maxsize=1024)
def guess_name(
    name: str, job_type: JobType | None, words_of: ApiVersion | None, given: frozenset[str] = frozenset()
) -> str | None:
    """Return the name of a key that a misspelt one may have been meant to be.

    Parameters
    ----------
    name : str
        The misspelt name.
    job_type : JobType or None
        The job type whose keys are considered; None: all keys.
    words_of : ApiVersion or None
        The interface whose name for the key is returned; None: the name that is closest.
    given : frozenset of str
        The keys, by today's name, that are there already: none of them can be meant.

    Examples
    --------
    >>> guess_name("time_res", JobType.CONVERSION, ApiVersion.V2)
    'avg_time_res'
    """
    known = [
        known
        for known, key in KEY_BY_NAME.items()
        if (job_type is None or job_type in key.job_types) and key.name not in given
    ]
    guess = closest(name, known) or _with_the_words_of(name, known)
    if guess is None or words_of is None:
        return guess
    key = KEY_BY_NAME[guess]
    if words_of is not ApiVersion.V2018 and guess == key.name_v1:
        return guess
    return key.name_on(words_of) or key.name


def _with_the_words_of(name: str, known: Iterable[str]) -> str | None:
    """Return the one name that has all the words of another in it: ``custom_centre_ra`` for ``ra``."""
    words = set(name.lower().replace("-", "_").split("_"))
    found = [other for other in known if words <= set(other.split("_"))]
    return found[0] if len({KEY_BY_NAME[other].name for other in found}) == 1 else None


def what_is_wrong_with_value(key: JobKey, name: str, text: str) -> str:
    """Say what a value must be that cannot be used, and what may have become of it on its way here.

    Examples
    --------
    >>> from mwa_client.jobs.key_table import find_key
    >>> what_is_wrong_with_value(find_key("no_rfi"), "no_rfi", "WAHR")
    'must be true or false, in English (spreadsheets in other languages translate them); did you mean true?'
    """
    must = f"must be {requirement(key, name)}"
    if key.kind is ValueKind.INTEGER and may_be_rounded(text):
        return f"{must}; it was rounded: have the spreadsheet show all digits of the column"
    if key.kind.is_number and "," in text:
        return f"{must}; write it without a comma"
    if key.kind_of_value(name) is ValueKind.BOOLEAN and (switch := switch_in_english(text)):
        return f"{must}, in English (spreadsheets in other languages translate them){did_you_mean(switch)}"
    return must + did_you_mean(guess_value(key, name, text))


def guess_value(key: JobKey, name: str, text: str) -> str | None:
    """Return the value that a misspelt one may have been meant to be."""
    if key.kind_of_value(name) is ValueKind.BOOLEAN:
        return closest(text, SWITCH)
    if key.name == "job_type":
        names = {name: job_type.value for job_type in JobType for name in (job_type.value, job_type.label)}
        guess = closest(text, names)
        return names[guess] if guess else None
    return closest(text, key.choices)


def did_you_mean(guess: str | None) -> str:
    """Return a guess as the end of a message, nothing where there is none."""
    return f"; did you mean {guess}?" if guess else ""
