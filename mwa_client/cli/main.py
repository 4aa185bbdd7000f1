"""The command: options in, exit status out."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NoReturn, TextIO

from mwa_client import __version__
from mwa_client.cli.interrupts import Interrupted, interrupts_caught
from mwa_client.cli.streams import finish_streams, mend_streams
from mwa_client.errors import ExitStatus, InternalError, MwaClientError
from mwa_client.formatting import json_line, printable

# The rest is imported where it is needed: --help must not wait for it.

DESCRIPTION = """\
Get data out of the archive of the MWA radio telescope. Every row of a CSV file
is a job: it is submitted, waited for, and its product downloaded and verified.

row:   obs_id=1191828584, job_type=d, download_type=vis
check: mwa_client --csv=jobs.csv --check              (sends nothing)
try:   mwa_client --sandbox --csv=jobs.csv --dir=try  (no account needed)
run:   mwa_client --csv=jobs.csv --dir=/data/mwa      (set MWA_ASVO_API_KEY)

Run the same command again at any time: it goes on where it was.
"""
STATUSES = """\
exit status:
  0        every product is in the directory, complete and verified
  1        no credentials, a bad value, or a directory that cannot be written
  2        the service refused (or an option is not known)
  3        the CSV file has mistakes; nothing was sent
  4        some jobs failed; the others are complete
  75       not finished: run the same command again
  130,143  interrupted, terminated; everything so far is kept
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line; default is the one that the program was called with.

    Returns
    -------
    int
        The exit status, one of `ExitStatus`.
    """
    mend_streams()
    options = _options(arguments)
    try:
        with interrupts_caught():  # Around the last words, too: a stream that nobody reads could hold them.
            exit_status = int(_run(options))
            finish_streams()
            return exit_status
    except Interrupted as interrupted:  # It came while they were said.
        return int(interrupted.exit_status)


def _run(options: argparse.Namespace) -> ExitStatus:
    """Do what the options say; whatever goes wrong is said."""
    from mwa_client.cli.settings import settings_from
    from mwa_client.cli.tasks import perform

    try:
        _silence_libraries()
        settings = settings_from(options)
        if settings.verbose:
            _show_requests()
        return perform(settings, _say, partial(_say, stream=sys.stdout))
    except MwaClientError as error:
        _say_error(error)
        return error.exit_status
    except Interrupted as interrupted:
        _say(str(interrupted))
        return interrupted.exit_status
    except Exception as error:
        _say_error(InternalError.of(error))
        return ExitStatus.FAILED


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; end with status 2 and a hint where that cannot be done."""
    parser = _parser()
    words = sys.argv[1:] if arguments is None else arguments
    for word in words:
        if re.match(r"-(csv|dir)\b", word):  # It would be taken for -c or -d, and the rest for its value.
            parser.error(f"{word}: two dashes, please: -{word}")
    options, unknown = parser.parse_known_args(words)
    if unknown and not options.csv and not unknown[0].startswith("-"):
        parser.error(f"give the job file as --csv={unknown[0]}")
    if unknown:
        parser.error(f"{unknown[0]} is not understood (mwa_client --help shows the options)")
    starts_from_rows = not (options.list_only or options.download_only or options.cancel)
    if starts_from_rows and options.csv is None and not options.job:
        parser.error("no job file: give --csv=jobs.csv (mwa_client --help shows examples)")
    return options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mwa_client",
        usage="mwa_client --csv=FILE [--dir=DIR] [options]",
        description=DESCRIPTION,
        epilog=STATUSES,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, 2, 28, 80),
        add_help=False,
        allow_abbrev=False,
    )
    job = parser.add_argument_group("the job")
    job.add_argument("-c", "--csv", metavar="FILE", help="the job file; - is standard input")
    job.add_argument(
        "-d", "--dir", metavar="DIR", default=".", help="where the products go; made if missing (default: .)"
    )
    before = parser.add_argument_group("before the real run")
    before.add_argument("--check", action="store_true", help="check the file, show the plan, send nothing")
    before.add_argument("--sandbox", action="store_true", help="practise against a built-in service")
    part = parser.add_argument_group("only a part of it")
    part.add_argument("-s", "--submit-only", action="store_true", help="submit, do not wait")
    part.add_argument("--once", action="store_true", help="one pass, for cron: submit, fetch what is ready")
    part.add_argument("-l", "--list-only", action="store_true", help="list your jobs")
    part.add_argument(
        "-w", "--download-only", metavar="JOB", nargs="+", action="extend",
        help="fetch jobs that are there: job ids, obs_ids, or all that are ready",
    )  # fmt: skip
    part.add_argument("--cancel", metavar="JOB", nargs="+", action="extend", help="cancel jobs, by job id")
    part.add_argument("-j", "--job", metavar="ROW", action="append", help="a row, in place of a file")
    out = parser.add_argument_group("what comes out")
    out.add_argument("--json", action="store_true", help="one JSON object a line on standard output")
    out.add_argument("-e", "--error-file", metavar="FILE", help="write the errors there as a JSON list")
    out.add_argument("-q", "--quiet", action="store_true", help="show only errors and the summary")
    out.add_argument("-v", "--verbose", action="store_true", help="show each request")
    more = parser.add_argument_group("more")
    more.add_argument(
        "-ar", "--allow-resubmit", action="store_true",
        help="submit even what is there, and again what failed",
    )  # fmt: skip
    more.add_argument("--api", metavar="NAME", help="2018, v1 or v2 (default: find out)")
    more.add_argument("--parallel", metavar="N", help="downloads at a time (default: 4)")
    more.add_argument("--connections", metavar="N", help="at most, for all of them (default: 8)")
    more.add_argument("--poll", metavar="SECONDS", help="ask for states so often (default: 5 to 60 s)")
    more.add_argument("--give-up-after", metavar="SECONDS", help="stop then, with status 75 if jobs are left")
    more.add_argument("--version", action="version", version=f"mwa_client {__version__}", help="show it")
    more.add_argument("-h", "--help", action="help", help="show this")
    return parser


def _silence_libraries() -> None:
    """Let the library that speaks HTTP warn of nothing: it would show whole URLs, and what a server sent."""
    import logging

    library = logging.getLogger("urllib3")
    library.addHandler(logging.NullHandler())
    library.propagate = False


def _show_requests() -> None:
    """Show each request on standard error, a line for each."""
    import logging

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return printable(super().format(record))

    handler = logging.StreamHandler()
    handler.setFormatter(Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("mwa_client.asvo")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


def _say_error(error: MwaClientError) -> None:
    first, *more = error.lines
    # What is wrong in a file is said as compilers say it: file, line, mistake.
    _say(first if error.exit_status is ExitStatus.BAD_FILE else f"mwa_client: {first}", *more)


def _say(*lines: str | Mapping[str, object], stream: TextIO | None = None) -> None:
    """Print lines, and JSON objects as lines; the only line breaks are those between them."""
    texts = [printable(line) if isinstance(line, str) else json_line(line) for line in lines]
    try:
        print(*texts, sep="\n", file=stream or sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # Nobody listens any more; the exit status still speaks.
