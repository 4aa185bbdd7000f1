"""What a word on the command line that is not understood may have been meant to be."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Mapping, Sequence

from mwa_client.cli.words_elsewhere import (
    ANY_KEY,
    COMMANDS,
    IS_NO_OPTION,
    LOGIN,
    OPTIONS,
    ROW_KEYS,
    SUBMISSIONS,
)
from mwa_client.formatting import closest

OF_THE_OBSERVATORYS_CLIENT = (
    "--csv", "--dir", "--submit-only", "--list-only", "--download-only", "--error-file", "--verbose",
    "--allow-resubmit", "--help",
)  # fmt: skip
"""The long options that the observatory's client has, too; it lets people abbreviate them."""
SHORTEST_ABBREVIATION = 3
"""Letters: fewer are more likely a slip."""
ANY_DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
"""Dashes of all kinds: web pages and word processors make one long one of two short ones."""
CLOSE = 0.75
"""How alike a slip and the right word must be (1: equal); with less, a guess is a riddle."""
_OBS_ID = "1191828584"


def spelled_out(word: str) -> str:
    """Return an abbreviated option in full, as the observatory's client understands it; others as they are.

    Examples
    --------
    >>> spelled_out("--submit"), spelled_out("--error=e.json"), spelled_out("--sand")
    ('--submit-only', '--error-file=e.json', '--sand')
    """
    name, equals, value = word.partition("=")
    if name == "--errfile":
        return f"--error-file{equals}{value}"
    meant = [option for option in OF_THE_OBSERVATORYS_CLIENT if option.startswith(name)]
    is_long_enough = name.startswith("--") and len(name) >= 2 + SHORTEST_ABBREVIATION
    return f"{meant[0]}{equals}{value}" if is_long_enough and len(meant) == 1 else word


def with_two_dashes(word: str, options: Sequence[str]) -> str | None:
    """Return a long option that was given with one dash, or with a dash of another kind, as it must be.

    Examples
    --------
    >>> with_two_dashes("-csv=jobs.csv", ["--csv"]), with_two_dashes("-c", ["--csv"])
    ('--csv=jobs.csv', None)
    """
    bare = word.lstrip(ANY_DASHES)
    dashes = word[: len(word) - len(bare)]
    if not dashes or dashes == "--":
        return None
    right = spelled_out(f"--{bare}")
    if right.partition("=")[0] in options:
        return right
    return f"-{bare}" if dashes != "-" and f"-{bare[:1]}" in options else None


def is_anothers_option(word: str) -> bool:
    """Say whether a word is a long option of other programs, given with one dash: ``-dry-run`` is no -d."""
    bare = word[1:].partition("=")[0]
    is_long = re.fullmatch("-[a-z][a-z-]{2,}", word.partition("=")[0]) is not None
    return is_long and (_row_of(bare, OPTIONS) or _row_of(bare, IS_NO_OPTION)) is not None


def about_option(word: str, options: Sequence[str], value: str = "") -> str:
    """Say that an option is not understood, and which one may be meant, or what to do instead.

    Parameters
    ----------
    word : str
        The option, and its value.
    options : sequence of str
        All options that there are.
    value : str
        The word after it, which may be its value.
    """
    name, _, given = word.partition("=")
    bare = name.lstrip("-").replace("_", "-")
    if len(bare) > 1:
        bare = bare.lower()
    instead = _row_of(bare, IS_NO_OPTION) or _about_key(bare, given or value)
    if instead is not None:
        return f"{name} is not an option: {instead}"  # Its value may be a secret, and is not repeated.
    meant = _option_meant(bare, options, given or value)
    return f"{word} is not understood{f'; did you mean {meant}?' if meant else ''}"


def _about_key(bare: str, value: str) -> str | None:
    """Say how a key of a row is given, or what has become of it; None where the word is no key."""
    # Loaded when it is needed: --help must not wait for it.
    from mwa_client.jobs.key_table import find_key
    from mwa_client.jobs.keys import JobType
    from mwa_client.jobs.values import parse_value
    from mwa_client.jobs.wording import FORMER_KEYS

    name = ROW_KEYS.get(bare, bare.replace("-", "_"))
    if name in FORMER_KEYS:
        return f"leave it out: {FORMER_KEYS[name]}"
    if _row_of(bare, OPTIONS) is not None:
        return None
    key = find_key(name)
    if bare in ANY_KEY.split():
        key = find_key("avg_time_res")
    if key is None:
        return None
    kind = next(kind for kind in JobType if kind in key.job_types)
    cells = {"obs_id": _OBS_ID, "job_type": kind.value}
    if kind is JobType.DOWNLOAD or key.name in ("obs_id", "job_type"):
        cells |= {"job_type": "d", "download_type": "vis"}
    if key.name not in cells:
        cells[key.name] = parse_value(key, key.name, value) or key.default or "..."
    row = ", ".join(f"{name}={text}" for name, text in cells.items())
    return f"say it in the row, '{row}'"


def _option_meant(bare: str, options: Sequence[str], value: str) -> str | None:
    if bare in ("n", "jobs") and value.isdigit():  # So many at a time, as xargs and make have it.
        return "--parallel"
    known = _row_of(bare, OPTIONS)
    if known is not None:
        return known
    if len(bare) == 1:
        return f"-{bare.lower()}" if f"-{bare.lower()}" in options else None
    long = {option.lstrip("-"): option for option in options if option.startswith("--")}
    begun = [option for name, option in long.items() if name.startswith(bare)]
    if len(begun) == 1:
        return begun[0]
    meant = closest(bare, long, CLOSE)
    meant = meant or next((name for name in long if sorted(name) == sorted(bare)), None)  # --cvs
    if meant:
        return long[meant]
    # csv-file, poll-seconds: but not what begins with "no", which is its opposite.
    words = bare.split("-")
    named = [
        option for name, option in long.items() if words[0] != "no" and set(name.split("-")) <= set(words)
    ]
    return named[0] if len(named) == 1 else None


def _row_of(word: str, table: Mapping[str, str]) -> str | None:
    """Return what a table answers a word with, None where it does not know the word."""
    return next((answer for answer, words in table.items() if word in words.split()), None)


def about_words(words: Sequence[str]) -> str:
    """Say that words are not understood, and which command may be meant.

    Parameters
    ----------
    words : sequence of str
        The words that belong to no option.
    """
    if words[0].lower() in LOGIN.split():
        return f"{words[0]} is not needed: MWA_ASVO_API_KEY holds your key, or the file ~/.mwa-asvo/key"
    meant = _command_meant(words[0], words[1:])
    if meant is None and re.fullmatch(r"[0-9, ]+", words[0]):
        meant = _command("-w", words)
    if meant is None and "=" in words[0]:
        meant = _command("-j", [" ".join(words)])
    return f"{words[0]} is not understood{f'; did you mean: {meant}' if meant else ''}"


def is_command(word: str) -> bool:
    """Say whether a word is what other programs call one of our options."""
    return word.lower() in LOGIN.split() or _command_meant(word, []) is not None


def _command_meant(word: str, more: Sequence[str]) -> str | None:
    """Return the command that a word of another program, or of a user's guess, stands for."""
    word = word.lower().replace("_", "-")
    jobs = [each for each in more if re.fullmatch("[0-9,]+", each)]
    if word in SUBMISSIONS:
        rows = [SUBMISSIONS[word].format(obs_id) for obs_id in jobs or ["OBS"]]
        return _command("-s", [each for row in rows for each in ("-j", row)])
    command = _row_of(word, COMMANDS)
    if command is None:
        return None
    files = [each for each in more if each not in jobs and not each.startswith("-")]
    file = f"--csv={shlex.quote(files[0] if files else 'jobs.csv')}"
    names = " ".join(map(shlex.quote, jobs or ["JOB"]))
    return f"mwa_client {command.replace('FILE', file).replace('JOB', names)}"


def _command(option: str, values: Sequence[str]) -> str:
    return " ".join(["mwa_client", option, *map(shlex.quote, values)])


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    """Return all options that a parser knows."""
    return list(parser._option_string_actions)
