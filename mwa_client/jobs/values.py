"""The values of job keys: text becomes a value in today's form, or is refused."""

from __future__ import annotations

import enum
import numbers
import re
from contextlib import suppress
from decimal import Decimal
from functools import lru_cache

from mwa_client.jobs.keys import JobKey, Limits, ValueKind

LONGEST_NUMBER_TEXT = 40
"""Characters of the longest number: no digit beyond them could matter."""
SWITCH = ("true", "false")
"""The values of a boolean."""

_TRUE_ELSEWHERE = (
    "WAHR|VRAI|VERDADERO|VERDADEIRO|VERO|CERT|ADEVĂRAT|WAAR|SANT|SAND|SANN|TOSI|TÕENE|PATIESS|"
    "PRAWDA|PRAVDA|IGAZ|DOĞRU|ИСТИНА|ІСТИНА|ΑΛΗΘΗΣ|ΑΛΗΘΕΣ"
)
_FALSE_ELSEWHERE = (
    "FALSCH|FAUX|FALSO|FALS|ONWAAR|FALSKT|FALSK|USANN|EPÄTOSI|VÄÄR|APLAMS|"
    "FAŁSZ|NEPRAVDA|HAMIS|YANLIŞ|ЛОЖЬ|ХИБНІСТЬ|ΨΕΥΔΗΣ|ΨΕΥΔΕΣ"
)
"""What spreadsheets write for true and false in other languages."""
_INTEGER = re.compile("[0-9]+")
_TO_WHOLE = re.compile(r"([0-9]+)\.0*")
_SCIENTIFIC = re.compile(r"[0-9](?:\.([0-9]*))?[eE]\+?([0-9]{1,2})")
# Three digits of exponent are more than any number that a computer keeps, and keep the text short.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?0*[0-9]{1,3})?")


def parse_value(key: JobKey, name: str, text: str) -> str | None:
    """Return the value that a row gives under one of a key's names.

    Returns
    -------
    str or None
        The value in today's form; a number under a name of 2018 stays as it was written. None where the text
        is no value of the key.

    Examples
    --------
    >>> from mwa_client.jobs.key_table import find_key
    >>> parse_value(find_key("centre"), "usepcentre", "true")
    'pointing'
    >>> parse_value(find_key("avg_time_res"), "avg_time_res", "2e0")
    '2'
    """
    kind = key.kind_of_value(name)
    if kind is ValueKind.BOOLEAN:
        switch = text.lower()
        return key.decode(switch, name) if switch in SWITCH else None
    if kind is ValueKind.CHOICE:
        choice = key.decode(text, name)
        return choice if choice in key.choices else None
    text = "".join(text.split())  # Some write a long number in groups of digits.
    if not is_within(text, key.limits_of_value(name)):
        return None
    return text if name == key.name_2018 else shortest(key, text)


def parse_listed_value(key: JobKey, name: str, value: object) -> str | None:
    """Return the value that the service lists for a job under one of a key's names.

    A listing may have numbers and booleans as such or as text, and numbers beyond today's limits.

    Returns
    -------
    str or None
        The value in today's form, None where it makes no sense.
    """
    if not isinstance(value, (str, int, float)):
        return None
    if isinstance(value, str) and len(value) > LONGEST_NUMBER_TEXT:
        return _parse_listed_value(key, name, value)
    return _parse_and_remember(key, name, value)


def _parse_listed_value(key: JobKey, name: str, value: str | float) -> str | None:
    text = text_of(value)
    if key.kind.is_number:
        return shortest(key, text) if _NUMBER.fullmatch(text) else None
    if key.kind_of_value(name) is ValueKind.BOOLEAN:
        text = {"1": "true", "0": "false"}.get(text, text)
    return parse_value(key, name, text)


# The jobs of a listing are alike: most of what they say comes again. To it, 1 and True are two values.
_parse_and_remember = lru_cache(maxsize=1024, typed=True)(_parse_listed_value)


def switch_in_english(text: str) -> str | None:
    """Return the value of a boolean that a spreadsheet has written in its own language; None if it is none.

    Examples
    --------
    >>> switch_in_english("FALSCH"), switch_in_english("vrai"), switch_in_english("maybe")
    ('false', 'true', None)
    """
    for switch, words in zip(SWITCH, (_TRUE_ELSEWHERE, _FALSE_ELSEWHERE)):
        if re.fullmatch(words, text, re.IGNORECASE):
            return switch
    return None


def whole_number(text: str) -> str:
    """Return a whole number that a program has written as a float as a whole number; another text as it is.

    Examples
    --------
    >>> whole_number("1191828584.0"), whole_number("1.191828584e+09"), whole_number("1.19E+09")
    ('1191828584', '1191828584', '1.19E+09')
    """
    if whole := _TO_WHOLE.fullmatch(text):
        return whole[1]
    scientific = _SCIENTIFIC.fullmatch(text)
    # With fewer digits it may have been rounded, and would be another observation.
    if scientific and len(scientific[1] or "") >= int(scientific[2]):
        number = Decimal(text)
        return str(int(number)) if number == int(number) else text
    return text


def may_be_rounded(text: str) -> bool:
    """Say whether a program has written a whole number as a float that may lack its last digits."""
    return bool(_SCIENTIFIC.fullmatch(text.replace(",", "."))) and whole_number(text) == text


def is_within(text: str, limits: Limits) -> bool:
    """Say whether a text is a number within limits."""
    if not _is_number(text, _INTEGER if limits.kind is ValueKind.INTEGER else _NUMBER):
        return False
    number = Decimal(text)
    is_above_minimum = limits.minimum is None or number >= limits.minimum
    return is_above_minimum and (limits.maximum is None or number <= limits.maximum)


def _is_number(text: str, pattern: re.Pattern[str]) -> bool:
    """Say whether a text is a number that can be written out, with or without its exponent."""
    if len(text) > LONGEST_NUMBER_TEXT or not pattern.fullmatch(text):
        return False
    number = Decimal(text)
    return not number or abs(number.adjusted()) <= LONGEST_NUMBER_TEXT


def survives_json(number: str) -> bool:
    """Say whether a number is still the same after it was sent as JSON, which most programs read as a float.

    Examples
    --------
    >>> survives_json("0.1"), survives_json("0.12345678901234567890")
    (True, False)
    """
    return Decimal(repr(float(number))) == Decimal(number)


def shortest(key: JobKey, value: str) -> str:
    """Return a number in its shortest form, in which 20, 020, 20.0 and 2e1 are the same; else the value."""
    if not key.kind.is_number:
        return value
    return _shortest(value) if len(value) > LONGEST_NUMBER_TEXT else _shortest_and_remember(value)


def _shortest(number: str) -> str:
    text = format(Decimal(number), "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


_shortest_and_remember = lru_cache(maxsize=1024)(_shortest)


def text_of(value: object) -> str:
    """Return a value of a Python program, or of the service's JSON, as it would be written in a row.

    Examples
    --------
    >>> text_of(True), text_of(2.0), text_of(None), text_of(float("nan"))
    ('true', '2', '', '')
    """
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None or _is_missing(value):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        with suppress(OverflowError):  # No float is as large.
            value = int(float(value)) if float(value).is_integer() else value
    # Unlike str(), Decimal writes an integer of any length.
    return str(Decimal(int(value)) if isinstance(value, numbers.Integral) else value).strip()


def _is_missing(value: object) -> bool:
    """Say whether a value is what tables have where nothing is: not a number, not a time, not available."""
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA is neither equal to itself nor unequal.
        return True
    except (ValueError, ArithmeticError):  # An array, or a number that signals that it is none.
        return False
