"""What a word on the command line that is not understood may have been meant to be."""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
from collections.abc import Sequence

OF_THE_OBSERVATORYS_CLIENT = (
    "--csv", "--dir", "--submit-only", "--list-only", "--download-only", "--error-file", "--verbose",
    "--allow-resubmit", "--help",
)  # fmt: skip
"""The long options that the observatory's client has, too; it lets people abbreviate them."""
SHORTEST_ABBREVIATION = 3
"""Letters: fewer are more likely a slip."""
ANY_DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
"""Dashes of all kinds: web pages and word processors make one long one of two short ones."""
NAMES_ELSEWHERE = {
    "--check": "dry-run dry validate verify test no-submit plan n",
    "--csv": "file input infile job-file jobfile jobs-file jobs obs-file f i",
    "--dir": "output output-dir outdir out directory destination dest download-dir download-path path o",
    "--sandbox": "practice practise demo mock simulate",
    "--submit-only": "no-wait no-download",
    "--list-only": "ls show-jobs",
    "--download-only": "wait fetch get job-id jobid resume",
    "--parallel": "threads workers concurrency concurrent processes jobs-in-parallel t",
    "--poll": "interval poll-interval poll-time refresh sleep",
    "--give-up-after": "timeout time-out max-time max-wait walltime time-limit",
    "--allow-resubmit": "force resubmit retry-failed",
    "--error-file": "errfile errors error-log",
    "--verbose": "debug log-level loglevel trace",
    "--quiet": "silent no-progress",
    "--version": "V",
}
"""What people type for some options; words of other programs and of the other two clients."""
SAID_IN_THE_ROW = "delivery delivery-format expiry-days parameters p obs-id obsid output-format"
SAID_IN_A_VARIABLE = "key api-key apikey token user username password login account"
SERVICE = {
    "host": "MWA_ASVO_HOST",
    "url": "MWA_ASVO_HOST",
    "server": "MWA_ASVO_HOST",
    "port": "MWA_ASVO_PORT",
}

DOWNLOAD_TYPES = {"submit-vis": "vis", "submit-meta": "vis_meta"}
CONVERSION = "obs_id={}, job_type=c, output=uvfits, avg_time_res=0, avg_freq_res=80, flag_edge_width=80"
VOLTAGE = "obs_id={}, job_type=v, offset=0, duration=8"
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
    return is_long and any(bare in names.split() for names in NAMES_ELSEWHERE.values())


def about_option(word: str, options: Sequence[str]) -> str:
    """Say that an option is not understood, and which one may be meant.

    Parameters
    ----------
    word : str
        The option, and its value.
    options : sequence of str
        All options that there are.
    """
    name = word.partition("=")[0]
    bare = name.lstrip("-").lower().replace("_", "-")
    if bare in SAID_IN_A_VARIABLE.split():
        # Its value may be a secret, and is not repeated.
        return f"{name} is no option: MWA_ASVO_API_KEY holds your key, or the file ~/.mwa-asvo/key"
    if bare in SERVICE:
        return f"{name} is no option: set {SERVICE[bare]}"
    if bare in SAID_IN_THE_ROW.split():
        row = f"obs_id={_OBS_ID}, job_type=d, download_type=vis, delivery=acacia"
        return f"{name} is no option: say it in the row, '{row}'"
    meant = _option_meant(bare, options)
    return f"{word} is not understood{f'; did you mean {meant}?' if meant else ''}"


def _option_meant(bare: str, options: Sequence[str]) -> str | None:
    for option, names in NAMES_ELSEWHERE.items():
        if bare in (name.lower() for name in names.split()):
            return option
    long = {option.lstrip("-"): option for option in options if option.startswith("--")}
    begun = [option for name, option in long.items() if len(bare) > 1 and name.startswith(bare)]
    if len(begun) == 1:
        return begun[0]
    close = difflib.get_close_matches(bare, long, n=1) if len(bare) > 1 else []
    return long[close[0]] if close else None


def about_words(words: Sequence[str], options: Sequence[str]) -> str:
    """Say that words are not understood, and which command may be meant.

    Parameters
    ----------
    words : sequence of str
        The words that belong to no option.
    options : sequence of str
        All options that there are.
    """
    meant = _command_meant(words[0], words[1:], options)
    if meant is None and re.fullmatch(r"[0-9, ]+", words[0]):
        meant = _command("-w", words)
    if meant is None and "=" in words[0]:
        meant = _command("-j", [" ".join(words)])
    return f"{words[0]} is not understood{f'; did you mean: {meant}' if meant else ''}"


def is_command(word: str, options: Sequence[str]) -> bool:
    """Say whether a word is what other programs call one of our options."""
    return _command_meant(word, [], options) is not None


def _command_meant(word: str, more: Sequence[str], options: Sequence[str]) -> str | None:
    """Return the command that a word of the other clients, or of a user's guess, stands for."""
    word = word.lower().replace("_", "-")
    jobs = [each for each in more if re.fullmatch("[0-9,]+", each)]
    if word in ("list", "ls", "jobs", "list-jobs", "queue"):
        return "mwa_client -l"
    if word in ("download", "wait", "get", "fetch"):
        return _command("-w", jobs or ["JOB"])
    if word in ("submit", "run", "start"):
        only = " -s" if word == "submit" else ""
        return f"mwa_client{only} {_csv([each for each in more if each not in jobs])}"
    if word in DOWNLOAD_TYPES:
        row = f"obs_id={{}}, job_type=d, download_type={DOWNLOAD_TYPES[word]}"
        return _submit(row, jobs)
    if word in ("submit-conv", "submit-volt"):
        return _submit(CONVERSION if word == "submit-conv" else VOLTAGE, jobs)
    if word == "cancel":
        return _command("--cancel", jobs or ["JOB"])
    if word in ("check", "validate", "dry-run"):
        return f"mwa_client {_csv(more)} --check"
    if word == "sandbox":
        return f"mwa_client --sandbox {_csv(more)}"
    return (
        f"mwa_client --{word}" if f"--{word}" in options and word in ("help", "version", "status") else None
    )


def _csv(files: Sequence[str]) -> str:
    return f"--csv={shlex.quote(files[0])}" if files else "--csv=jobs.csv"


def _command(option: str, values: Sequence[str]) -> str:
    return " ".join(["mwa_client", option, *map(shlex.quote, values)])


def _submit(row: str, obs_ids: Sequence[str]) -> str:
    return _command("-s", [word for obs_id in obs_ids or ["OBS"] for word in ("-j", row.format(obs_id))])


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    """Return all options that a parser knows."""
    return list(parser._option_string_actions)
