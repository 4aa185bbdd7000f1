"""The command: options in, exit status out."""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from mwa_client import __version__
from mwa_client.errors import DirectoryUnusable, ExitStatus, MwaClientError
from mwa_client.jobfile import JobFile, plan, read_file
from mwa_client.jobkeys import Api
from mwa_client.settings import Credentials, Service, Settings, service_from, settings_from

if TYPE_CHECKING:
    from mwa_client.display import Display

DESCRIPTION = """\
Get data out of the archive of the MWA radio telescope. Every row of a CSV file
is a job: it is submitted, waited for, and its product downloaded and verified.

row:   obs_id=1191828584, job_type=d, download_type=vis
check: mwa_client --csv=jobs.csv --check              (sends nothing)
try:   mwa_client --sandbox --csv=jobs.csv --dir=try  (no account needed)
run:   mwa_client --csv=jobs.csv --dir=/data/mwa      (set ASVO_USER, ASVO_PASS)

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
SANDBOX_RATE = 8e6
"""Bytes a second: slow enough for people to see what happens."""


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
    _mend_streams()
    options = _options(arguments)
    try:
        with _signals_caught():
            return int(_run(settings_from(options)))
    except MwaClientError as error:
        _say(f"mwa_client: {error}" if error.exit_status is not ExitStatus.BAD_FILE else str(error))
        return int(error.exit_status)
    except KeyboardInterrupt:
        _say("Interrupted. Everything so far is kept: run the same command again to go on.")
        return int(ExitStatus.INTERRUPTED)
    except _Terminated:
        _say("Terminated. Everything so far is kept: run the same command again to go on.")
        return int(ExitStatus.TERMINATED)
    except Exception as error:
        # A mistake in this program. The place is shown, the values are not: they could be credentials.
        where = traceback.extract_tb(error.__traceback__)[-1]
        _say(
            f"mwa_client: internal error: {type(error).__name__} "
            f"in {Path(where.filename).name}, line {where.lineno}.\n"
            "Please report it. Everything so far is kept: run the same command again to go on."
        )
        return int(ExitStatus.FAILED)


def _run(settings: Settings) -> ExitStatus:
    """Do what the options say."""
    jobs = read_file(settings.csv, Api.V2018)
    for warning in jobs.warnings:
        _say(f"Warning: {warning}")
    if settings.check:
        _say(f"{plan(jobs)}\nNothing was sent.", sys.stdout)
        return ExitStatus.COMPLETE
    if settings.sandbox:
        return _practise(settings, jobs)
    return _work(settings, jobs, service_from(os.environ))


def _practise(settings: Settings, jobs: JobFile) -> ExitStatus:
    """Run against the practice service, started for the occasion."""
    from mwa_client.ledger import MEMORY, PRACTICE, Ledger
    from mwa_client.sandbox import Sandbox

    _say("Practising: the products are small and made up; nothing goes to the real service.")
    # Opened once before the sandbox writes there: it refuses a directory with real products.
    Ledger(settings.directory, PRACTICE).close()
    account = Credentials("practice", "practice")
    state = settings.directory / MEMORY / "sandbox.json"
    try:
        sandbox = Sandbox(user=account.user, password=account.password, state_file=state, rate=SANDBOX_RATE)
    except ValueError:
        raise DirectoryUnusable(
            f"{state} is damaged.", "Remove it, or choose another directory with --dir."
        ) from None
    with sandbox:
        return _work(settings, jobs, Service(Api.V2018, sandbox.url, PRACTICE, account))


def _work(settings: Settings, jobs: JobFile, service: Service) -> ExitStatus:
    """Submit, watch and fetch, and show it."""
    from mwa_client.asvo import open_session
    from mwa_client.batch import Batch, Pacing
    from mwa_client.display import display_for
    from mwa_client.ledger import Ledger
    from mwa_client.pace import SystemClock

    clock = SystemClock()
    requests = (
        [replace(job, allow_resubmit=True) for job in jobs.jobs] if settings.allow_resubmit else jobs.jobs
    )
    pacing = Pacing(settings.parallel, settings.poll, settings.give_up_after)
    display = display_for(sys.stdout, sys.stderr, clock, os.environ, quiet=settings.quiet)
    with ExitStack() as open_things:
        ledger = open_things.enter_context(closing(Ledger(settings.directory, service.name)))
        session = open_things.enter_context(closing(open_session(service)))
        open_things.enter_context(closing(display))
        _warn_of_risks(service, display)
        return Batch(requests, session, ledger, clock, display, pacing).run().exit_status


def _warn_of_risks(service: Service, display: Display) -> None:
    if service.verify is False:
        display.warn(
            "Warning: certificates are not verified (SSL_VERIFY=0): anybody in between can read along."
        )
    if service.sends_password_in_clear:
        display.warn(
            f"Warning: {service.address} is not encrypted: anybody in between can read the password."
        )


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
    if options.csv is None:
        parser.error("no job file: give --csv=jobs.csv (mwa_client --help shows examples)")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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
    more = parser.add_argument_group("more")
    more.add_argument(
        "-ar", "--allow-resubmit", action="store_true",
        help="submit even what is there, and again what failed",
    )  # fmt: skip
    more.add_argument("--parallel", metavar="N", help="downloads at a time (default: 4)")
    more.add_argument("--poll", metavar="SECONDS", help="ask for states so often (default: 5 to 60 s)")
    more.add_argument("--give-up-after", metavar="SECONDS", help="stop then, with status 75 if jobs are left")
    more.add_argument("-q", "--quiet", action="store_true", help="show only errors and the summary")
    more.add_argument("--version", action="version", version=f"mwa_client {__version__}", help="show it")
    more.add_argument("-h", "--help", action="help", help="show this")
    return parser


class _Terminated(BaseException):
    """The system wants the program to end."""


@contextmanager
def _signals_caught() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exception, so that everything is put down in order."""

    def end(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is signal.SIG_DFL:  # nohup ignores SIGHUP, and means it.
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _mend_streams() -> None:
    """Let neither a closed stream nor a character that it does not know end the program."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _say(text: str, stream: TextIO | None = None) -> None:
    try:
        print(text, file=stream or sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # Nobody listens any more; the exit status still speaks.
