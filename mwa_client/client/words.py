"""Messages for Python programs: the program's messages speak of the command, and here that is put right.

Whoever raises an error or sends an event writes it for the command, which nearly everybody uses. The Python
API rewrites every text that leaves it with `in_python_words`, and nobody else has to know.
"""

from __future__ import annotations

import re
from dataclasses import replace

from mwa_client.batch.events import Event, Notice, RowFailed, Summary

PHRASES = {
    "Give the job file with --csv=FILE.": "Give the path of a job file, or a list of rows.",
    "To practise without an account, add --sandbox.": (
        "To practise without an account, run: python -m mwa_client.sandbox"
    ),
    "mwa_client -l shows your jobs.": "client.jobs() has your jobs.",
    "Run the same command again": "Call it again",
    "run the same command again": "call it again",
    "The same command looks": "The same call looks",
    "the same command": "the same call",
    "Run again with --allow-resubmit": "Call it again with --allow-resubmit",
    "run again with --allow-resubmit": "call it again with --allow-resubmit",
    "run with --allow-resubmit": "call it with --allow-resubmit",
    "the next run": "the next call",
    "An earlier run": "An earlier call",
}
"""What is said otherwise in Python; the longer phrases come before those that they contain."""
SWITCHES = ("allow-resubmit", "once", "unpack")
"""Options without a value."""
OTHER_NAMES = {"csv": "jobs", "dir": "directory"}
"""Options whose argument has another name."""

_OPTION = re.compile(r"(?<![\w/.-])--([a-z]+(?:-[a-z]+)*)(?:=| ([0-9]+|[A-Z]+)\b)?")


def in_python_words(text: str) -> str:
    """Return a message of the command as it is for a Python program: with arguments instead of options.

    Examples
    --------
    >>> in_python_words("Choose another directory with --dir.")
    'Choose another directory with directory=.'
    >>> in_python_words("The time given with --give-up-after has passed.")
    'The time given with give_up_after= has passed.'
    >>> in_python_words("do less at a time: --parallel 1 --connections 1.")
    'do less at a time: parallel=1 connections=1.'
    """
    for phrase, in_python in PHRASES.items():
        text = text.replace(phrase, in_python)
    return _OPTION.sub(_argument, text)


def _argument(option: re.Match[str]) -> str:
    name = OTHER_NAMES.get(option[1], option[1]).replace("-", "_")
    return f"{name}=True" if option[1] in SWITCHES else f"{name}={option[2] or ''}"


def event_in_python_words(event: Event) -> Event:
    """Return an event with its texts, and the messages of its errors, as they are for a Python program."""
    if isinstance(event, Notice):
        return replace(event, text=in_python_words(event.text))
    if isinstance(event, RowFailed):
        event.error.reword(in_python_words)
    return summary_in_python_words(event) if isinstance(event, Summary) else event


def summary_in_python_words(summary: Summary) -> Summary:
    """Return a summary with its texts as they are for a Python program."""
    for failure in summary.failed:
        failure.error.reword(in_python_words)
    return replace(summary, why_pending=in_python_words(summary.why_pending))
