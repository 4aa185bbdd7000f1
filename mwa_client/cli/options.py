"""The options of the command: what the command line may hold, and the help that explains it."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from mwa_client import __version__
from mwa_client.cli.suggestions import (
    about_option,
    about_words,
    is_anothers_option,
    is_command,
    options_of,
    spelled_out,
    with_two_dashes,
)
from mwa_client.errors import ResultLost
from mwa_client.formatting import printable

DESCRIPTION = """\
Get data out of the archive of the MWA radio telescope. Each row of a CSV file
is a job: it is submitted, and its product is downloaded and verified.

row:   obs_id=1191828584, job_type=d, download_type=vis
check: mwa_client --csv=jobs.csv --check              (sends nothing)
try:   mwa_client --sandbox --csv=jobs.csv --dir=try  (no account needed)
run:   mwa_client --csv=jobs.csv --dir=/data/mwa      (set MWA_ASVO_API_KEY)

Run the same command again at any time: it picks up where it left off.
"""
STATUSES = """\
exit status:
  0        every product is in the directory, complete and verified
  1        no credentials, a bad option value, or the directory is not writable
  2        the service refused (or an option is unknown)
  3        the CSV file has mistakes; nothing was sent
  4        some jobs failed; the others are complete
  75       not finished: run the same command again
  130,143  interrupted or terminated; everything so far is kept

TIME is in seconds, or like 90s, 10m, 1.5h or 1d.
"""


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; exit with status 2 and a hint where it cannot be understood.

    Parameters
    ----------
    arguments : sequence of str or None
        The command line; None for the one that the program was called with.
    """
    parser = option_parser()
    words = [spelled_out(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    _look_for_slips(parser, words)
    options, unknown = parser.parse_known_args(words)
    options.listed, options.list_only = options.list_only or [], options.list_only is not None
    if options.list_only and not any(word.startswith("-") for word in unknown):
        options.listed, unknown = [*options.listed, *unknown], []  # -l --json 308874
    files = options.csv or options.obs_ids
    if unknown and files and all(Path(word).is_file() for word in unknown):
        files += unknown  # The shell has made several names of one: --csv *.csv
    elif unknown:
        parser.error(_about_unknown(parser, options, unknown))
    starts_from_rows = not (options.list_only or options.download_only or options.cancel or options.status)
    starts_from_rows = starts_from_rows and options.report is None  # Alone, it shows what was done.
    if starts_from_rows and not (options.csv or options.job or options.obs_ids):
        if options.state or options.type or options.days is not None:
            parser.error("--state, --type and --days can only be given with --list-only: add -l")
        parser.error("no job file: give --csv=jobs.csv (mwa_client --help shows examples)")
    return options


def _look_for_slips(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Answer what argparse would misread: it takes -csv for -c with the value sv."""
    options = options_of(parser)
    if words and is_command(words[0]) and not Path(words[0]).exists():
        parser.error(about_words(words))
    for word in words:
        right = with_two_dashes(word, options)
        if right is not None:
            kind = "two" if word.startswith("-") else "plain"
            parser.error(f"{word}: {kind} dashes, please: {right}")
        if is_anothers_option(word):
            parser.error(about_option(f"-{word}", options))


def _about_unknown(
    parser: argparse.ArgumentParser, options: argparse.Namespace, unknown: Sequence[str]
) -> str:
    """Say what is not understood, and what may be meant."""
    known = options_of(parser)
    if unknown[0].startswith("-"):
        return f"{about_option(unknown[0], known, *unknown[1:2])} (mwa_client --help shows the options)"
    if not options.csv and (Path(unknown[0]).is_file() or unknown[0].endswith((".csv", ".txt"))):
        return f"give the job file as --csv={unknown[0]}"
    if len(unknown) == 1 and options.dir is None and Path(unknown[0]).is_dir():
        return f"give the directory as --dir={unknown[0]}"
    return f"{about_words(unknown)} (mwa_client --help shows the options)"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        from mwa_client.display.printing import Look  # --help must not wait for it.

        look = Look.of(sys.stderr, os.environ, is_log=False)
        # Not broken into lines: what it suggests may be copied and run.
        text = replace(look, is_wrapped=False).laid_out(
            printable(f"{self.prog}: error: {_in_plain_words(message)}"), sys.stderr, 0.0
        )
        self.print_usage(sys.stderr)
        self.exit(2, f"{text}\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print the help or the version; argparse would not say that they cannot be written."""
        if file is not sys.stdout:
            super()._print_message(message, file)
            return
        try:
            print(message, end="", flush=True)
        except (OSError, ValueError) as error:
            raise ResultLost.of(error) from error


class _Command(argparse.Action):
    """Keeps the command; the first of two would be lost, though each of two job files counts."""

    def __call__(
        self, parser: argparse.ArgumentParser, options: argparse.Namespace, value: Any, word: Any = None
    ) -> None:
        if getattr(options, self.dest) is not None:
            parser.error("--then is given twice; write one command: --then='first {path} && second {path}'")
        setattr(options, self.dest, value)


def _in_plain_words(message: str) -> str:
    """Return what argparse says of an option as people would say it."""
    needs = re.fullmatch(r"argument (\S+): expected (?:at least )?one argument", message)
    if needs:
        return f"{needs[1]} needs a value"
    takes = re.fullmatch(r"argument (\S+): ignored explicit argument '(.*)'", message)
    return f"{takes[1]} takes no value, and {takes[2]} was given" if takes else message


def option_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser(
        prog="mwa_client",
        usage="mwa_client --csv=FILE [--dir=DIR] [options]",
        description=DESCRIPTION,
        epilog=STATUSES,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, 2, 28, 80),
        add_help=False,
        allow_abbrev=False,
    )
    job = parser.add_argument_group("jobs and products")
    job.add_argument(
        "-c", "--csv", metavar="FILE", action="append", help="the job file (or files); - is standard input"
    )
    job.add_argument("-d", "--dir", metavar="DIR", help="where the products go; made if missing (default: .)")
    job.add_argument("--unpack", action="store_true", help="unpack each product into a folder as it arrives")
    job.add_argument(
        "--obs-ids", metavar="FILE", action="append",
        help="a list of obs_ids; -j gives one row for all of them",
    )  # fmt: skip
    job.add_argument(
        "--then", metavar="COMMAND", action=_Command,
        help="then run this for each product; {path} stands for the product",
    )  # fmt: skip
    before = parser.add_argument_group("before the real run")
    before.add_argument("--check", action="store_true", help="check the file and show the plan; send nothing")
    before.add_argument("--sandbox", action="store_true", help="practise against a built-in service")
    part = parser.add_argument_group("do only a part")
    part.add_argument("-s", "--submit-only", action="store_true", help="submit, then exit")
    part.add_argument("--once", action="store_true", help="for cron: submit, download what is ready, exit")
    part.add_argument("--part", metavar="K/N", help="do part K of N; other nodes do the other parts")
    part.add_argument("-l", "--list-only", metavar="JOB", nargs="*", help="list your jobs, or some of them")
    part.add_argument(
        "--state", metavar="WORD", action="append", help="list those in a state: queued, ready, error"
    )
    part.add_argument(
        "--type", metavar="WORD", action="append", help="list those of a type: conversion, metadata"
    )
    part.add_argument("--days", metavar="N", help="with -l: those of the last N days")
    part.add_argument(
        "-w", "--download-only", metavar="JOB", nargs="+", action="extend",
        help="download existing jobs: job ids, obs_ids, or all that are ready",
    )  # fmt: skip
    part.add_argument(
        "--no-download", action="store_true", help="with -w or --csv: only wait until all are ready"
    )
    part.add_argument("--cancel", metavar="JOB", nargs="+", action="extend", help="cancel jobs, by job id")
    part.add_argument("-j", "--job", metavar="ROW", action="append", help="a row instead of a file")
    out = parser.add_argument_group("output")
    out.add_argument("--status", action="store_true", help="show how far each row in DIR is, without network")
    out.add_argument(
        "--report", metavar="FILE.html", help="write a page about the run; alone: about what was done in DIR"
    )
    out.add_argument("--json", action="store_true", help="one JSON object per line on standard output")
    out.add_argument("-e", "--error-file", metavar="FILE", help="write the errors to FILE as a JSON list")
    out.add_argument(
        "-q", "--quiet", action="store_true", help="show only errors and the summary, and with -s the jobs"
    )
    out.add_argument("-v", "--verbose", action="store_true", help="show each request")
    more = parser.add_argument_group("more")
    more.add_argument(
        "-ar", "--allow-resubmit", action="store_true",
        help="resubmit failed jobs, and submit even if the same job exists",
    )  # fmt: skip
    more.add_argument("--api", metavar="NAME", help="2018, v1 or v2 (default: find out)")
    more.add_argument("--parallel", metavar="N", help="downloads at a time (default: 4)")
    more.add_argument("--connections", metavar="N", help="most connections for all downloads (default: 8)")
    more.add_argument("--poll", metavar="TIME", help="time between status checks (default: 5s to 60s)")
    more.add_argument("--give-up-after", metavar="TIME", help="stop after TIME; exit 75 if jobs are left")
    more.add_argument("--wait-for-lock", metavar="TIME", help="wait up to TIME if DIR is in use")
    more.add_argument(
        "--version", action="version", version=f"mwa_client {__version__}", help="show the version"
    )
    more.add_argument("-h", "--help", action="help", help="show this help")
    return parser
