"""The command: options in, exit status out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TextIO

from mwa_client.cli.interrupts import Interrupted, interrupts_caught
from mwa_client.cli.options import read_options
from mwa_client.cli.streams import finish_streams, mend_streams
from mwa_client.errors import ExitStatus, InternalError, MwaClientError
from mwa_client.formatting import json_line, printable

# The rest is imported where it is needed: --help must not wait for it.


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
    options = read_options(arguments)
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
        if settings.output.verbose:
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
