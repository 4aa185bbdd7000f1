"""How a line for a person is printed: with the time in a log; coloured and broken at words on a terminal.

Whoever prints such a line, before, during or after a run, has it laid out by a `Look`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TextIO

from mwa_client.display.widths import columns_of
from mwa_client.errors import JobFileError, MwaClientError
from mwa_client.light_dataclasses import dataclass

TIME_OF_DAY = "%Y-%m-%d %H:%M:%S"
"""How the lines of a log begin, in local time; a log of cron grows for weeks."""
RED, GREEN, YELLOW, PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
COLOUR_OF_WORDS = {"mwa_client:": RED, "Error:": RED, "There were errors:": RED, "Warning:": YELLOW}
"""The colours of lines that begin with these words, wherever they come from."""
INDENT = 2
"""Columns by which the further lines of a long text are set in."""
_IN_ONE_PIECE = re.compile(r"( *)((?:(?<!\w)'[^']+'(?!\w)|[0-9] (?:[kMGT]?B|s|min|h|d)\b|[^ ])+)")
"""Spaces, and what follows them up to where a line may be broken."""


@dataclass(frozen=True)
class Look:
    """How the lines on one stream look.

    Attributes
    ----------
    is_timed : bool
        Each begins with the date and time, as in a log.
    is_coloured : bool
        Errors are red, what is complete is green.
    is_wrapped : bool
        Long ones are broken between words, as on a terminal.
    """

    is_timed: bool = False
    is_coloured: bool = False
    is_wrapped: bool = False

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str], *, is_log: bool = True) -> Look:
        """Return the look for a stream.

        Parameters
        ----------
        stream : text stream
            Where the lines go.
        environment : mapping
            The environment variables: ``TERM=dumb`` and ``NO_COLOR`` mean no colours.
        is_log : bool
            What does not go to a terminal is the log of a run, not an answer given at once.
        """
        is_terminal = stream.isatty()
        has_colours = not (environment.get("NO_COLOR") or environment.get("TERM") == "dumb")
        return cls(is_log and not is_terminal, is_terminal and has_colours, is_terminal)

    def for_error(self, error: MwaClientError) -> Look:
        """Return the look for the lines of an error; those about a job file are read as a compiler's."""
        return replace(self, is_timed=False) if isinstance(error, JobFileError) else self

    def laid_out(self, text: str, stream: TextIO, now: float, colour: str = "") -> str:
        """Return a line as it is printed.

        Parameters
        ----------
        text : str
            The line, without a line break.
        stream : text stream
            Where it goes; a terminal tells its width.
        now : float
            Seconds since 1970.
        colour : str
            The colour of its first words; the empty one leaves it to these words.
        """
        lines = wrapped(text, window_of(stream)[0] - 1) if self.is_wrapped else [text]
        if self.is_coloured:
            lines[0] = coloured(lines[0], colour or _colour_of(text))
        if self.is_timed:
            lines[0] = f"{time.strftime(TIME_OF_DAY, time.localtime(now))} {lines[0]}"
        return "\n".join(lines)


@dataclass(frozen=True)
class Looks:
    """How lines look on standard output, and on standard error."""

    out: Look = Look()
    errors: Look = Look()


NO_LOOKS = Looks()


def window_of(stream: TextIO) -> tuple[int, int]:
    """Return columns and rows of a terminal's window as it is now."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        columns = rows = 0  # The terminal has gone.
    return columns or 80, rows or 24


def wrapped(text: str, columns: int) -> list[str]:
    """Return a text as lines that fit, broken between words; the further ones are set in.

    What is quoted stays in one piece, as it may be copied and run; so does a number with its unit. No sign is
    replaced, and only a plain space is a place to break: other spaces may belong to the name of a file.
    """
    room, margin = max(columns, 20), text[: len(text) - len(text.lstrip(" "))]
    lines: list[str] = []
    for spaces, piece in _IN_ONE_PIECE.findall(text):
        if not lines:
            lines = [margin + piece]
        elif columns_of(lines[-1]) + len(spaces) + columns_of(piece) <= room:
            lines[-1] += spaces + piece
        else:
            lines.append(margin + " " * INDENT + piece)
    return lines or [text]


def coloured(text: str, colour: str) -> str:
    """Return a text with its first words, up to a colon, in a colour."""
    head, colon, rest = text.partition(":")
    return f"{colour}{head}{colon}{PLAIN}{rest}" if colour else text


def _colour_of(text: str) -> str:
    return next((colour for beginning, colour in COLOUR_OF_WORDS.items() if text.startswith(beginning)), "")
