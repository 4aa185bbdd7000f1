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
        # finish_streams() can be interrupted, too: it may wait for a stream that nobody reads.
        with interrupts_caught():
            exit_status = int(_run(options))
            finish_streams()
            return exit_status
    except Interrupted as interrupted:
        return int(interrupted.exit_status)


def _run(options: argparse.Namespace) -> ExitStatus:
    """Do what the options say, and print every error."""
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
    """Keep urllib3 from logging: its warnings show whole URLs, with signatures, and what a server sent."""
    import logging

    library = logging.getLogger("urllib3")
    library.addHandler(logging.NullHandler())
    library.propagate = False


def _show_requests() -> None:
    """Log each request on standard error, in a line of its own."""
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
    # Mistakes in a file are printed as compilers print them: file, line, mistake.
    _say(first if error.exit_status is ExitStatus.BAD_FILE else f"mwa_client: {first}", *more)


def _say(*lines: str | Mapping[str, object], stream: TextIO | None = None) -> None:
    """Print lines, and JSON objects as lines; the only line breaks are those between them."""
    texts = [printable(line) if isinstance(line, str) else json_line(line) for line in lines]
    try:
        print(*texts, sep="\n", file=stream or sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # The reader has gone; the exit status still tells how it ended.
