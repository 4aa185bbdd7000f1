"""Sizes, times and texts as people see them."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Callable

from mwa_client.secrecy import hide, hide_in

LONGEST_WORD = 60
"""Characters of a misspelt word that are compared with others."""
_UNSHOWN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""What Unicode calls control and format characters, lone surrogates, and ends of lines and paragraphs."""


def printable(text: str) -> str:
    r"""Return a text as the one line in which it can be shown: all that is printed goes through here.

    Names and words from outside could hold a line break and a line of ours after it, could steer the
    terminal, or show themselves in another order than they are; whatever does that is shown by its number
    (``\x1b``). Secrets are struck out.
    """
    text = hide(text)
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    is_harmless = unicodedata.category(character) not in _UNSHOWN
    return character if is_harmless else character.encode("unicode_escape").decode()


def closest(
    word: str, known: Iterable[str], likeness: float = 0.6, plain: Callable[[str], str] = str.lower
) -> str | None:
    """Return the known word that a misspelt one may have been meant to be; None if it is like none of them.

    Parameters
    ----------
    word : str
        What was written.
    known : iterable of str
        What could have been meant.
    likeness : float
        How like it the known word must be, from 0 to 1.
    plain : callable
        Gives a word without what does not count.
    """
    import difflib  # Only mistakes need it.

    plainly = {plain(each): each for each in known}
    close = difflib.get_close_matches(plain(word)[:LONGEST_WORD], plainly, n=1, cutoff=likeness)
    return plainly[close[0]] if close else None


def json_line(document: Mapping[str, object]) -> str:
    """Return an object as one line of JSON, in ASCII and without secrets."""
    return json.dumps(hide_in(document))


def format_size(size: int | None) -> str:
    """Return a number of bytes: ``22.5 MB``."""
    if size is None:
        return "size not known"
    if size < 1000:
        return f"{size} B"
    amount = float(size)
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= 1000.0
        if amount < 999.95 or unit == "TB":
            break
    return f"{amount:.1f} {unit}"


def format_seconds(seconds: float) -> str:
    """Return a number of seconds: ``42 s``; from two minutes on, as `format_duration` does."""
    return f"{max(seconds, 0.0):.0f} s" if seconds < 120 else format_duration(seconds)


_SECONDS_IN = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_NUMBER = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_TIME = re.compile("".join(rf"(?:{_NUMBER}\s*{unit}\s*)?" for unit in _SECONDS_IN), re.I)
_PLAIN = re.compile(rf"{_NUMBER}(?:e[0-9]+)?", re.I)


def seconds_in(text: str) -> float | None:
    """Return the number of seconds that a person has written, None where the text is no time.

    Examples
    --------
    >>> seconds_in("90"), seconds_in("10m"), seconds_in("1.5h"), seconds_in("1d12h"), seconds_in("soon")
    (90.0, 600.0, 5400.0, 129600.0, None)
    """
    text = text.strip()
    if _PLAIN.fullmatch(text):
        return float(text)
    parts = _TIME.fullmatch(text) if text else None
    if parts is None:
        return None
    return sum(float(number or 0) * seconds for number, seconds in zip(parts.groups(), _SECONDS_IN.values()))


def time_in_short(seconds: float) -> str:
    """Return a time as a person may write it for `seconds_in`.

    Examples
    --------
    >>> time_in_short(90), time_in_short(5400), time_in_short(0.5)
    ('1m30s', '1h30m', '0.5s')
    """
    words, left = "", seconds
    for unit, length in _SECONDS_IN.items():
        number = left if unit == "s" else left // length
        left -= number * length
        words += f"{number:g}{unit}" if number else ""
    return words or "0s"


def format_duration(seconds: float) -> str:
    """Return a number of seconds in the two units that matter: ``3 d 4 h``."""
    minutes = max(int(seconds), 0) // 60
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def format_about(seconds: float) -> str:
    """Return a number of seconds as it is said of an estimate, with one or two digits that matter.

    Examples
    --------
    >>> [format_about(seconds) for seconds in (130, 1900, 8000, 30000, 200000)]
    ['2 min', '30 min', '2 h', '8 h', '2 d']
    """
    minutes = max(seconds, 60.0) / 60
    if minutes < 55:
        return f"{round(minutes) if minutes < 9.5 else 5 * round(minutes / 5)} min"
    hours = minutes / 60
    if hours < 36:
        return f"{max(round(2 * hours) / 2, 1) if hours < 4 else round(hours):g} h"
    return f"{round(hours / 24)} d"


def utc(moment: float | None) -> str | None:
    """Return a moment as programs read it: ``2026-11-29T01:45:00Z``."""
    return None if moment is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def as_sentence(text: str) -> str:
    """Return a text that another sentence can follow; what a service says may have no full stop.

    Examples
    --------
    >>> as_sentence("The service is not available: 503"), as_sentence("It is down!")
    ('The service is not available: 503.', 'It is down!')
    """
    return text if text.endswith((".", "!", "?")) else f"{text}."


def trying_again(why: str, seconds: float, until: str = "it answers") -> str:
    """Say why the service must be asked again, and when that will be.

    Examples
    --------
    >>> trying_again("The service is not available: 503", 5.0)
    'The service is not available: 503. Trying again in 5 s, until it answers.'
    """
    return f"{as_sentence(why)} Trying again in {seconds:.0f} s, until {until}."


def ranges_of(numbers: list[int]) -> str:
    """Return numbers as ranges: ``10001-10007, 10012``."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
