"""The command: options in, exit status out."""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mwa_client.cli.interrupts import Interrupted, interrupts_caught
from mwa_client.cli.options import read_options
from mwa_client.cli.streams import finish_streams, mend_streams
from mwa_client.errors import ExitStatus, MwaClientError, ResultLost, ending_of
from mwa_client.formatting import json_line, printable

# The rest is imported where it is needed: --help must not wait for it.
if TYPE_CHECKING:
    from mwa_client.cli.settings import Settings
    from mwa_client.display.printing import Look

OBJECTS_PER_LOOK = 10_000
"""New objects after which Python looks for cycles among them; 700 if nobody says otherwise."""


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
    _spare_the_collector()
    _spare_own_permissions()
    mend_streams()
    try:
        options = read_options(arguments)
    except ResultLost as lost:  # The help, or the version.
        _say(*lost.final_lines)
        return int(lost.exit_status)
    try:
        # finish_streams() can be interrupted, too: it may wait for a stream that nobody reads.
        with interrupts_caught():
            exit_status = int(_run(options))
            finish_streams()
            return exit_status
    except Interrupted as interrupted:
        return int(interrupted.exit_status)


def _spare_the_collector() -> None:
    """Have Python look for cycles among its objects less often: that is a tenth of a short run."""
    gc.set_threshold(OBJECTS_PER_LOOK)
    # At the end it would look through all there are, several times.
    atexit.register(gc.freeze)


def _spare_own_permissions() -> None:
    """Let the umask take no permissions from the user alone: what nobody can read, the next run cannot."""
    os.umask(os.umask(0o077) & 0o077)


def _run(options: argparse.Namespace) -> ExitStatus:
    """Do what the options say, and print what has ended it, if something did."""
    from mwa_client.cli.tasks import perform

    is_log = False
    try:
        _silence_libraries()
        settings = _checked(options)
        if settings.output.verbose:
            _show_requests()
        is_log = settings.task.is_run
        return perform(settings, _log if is_log else _say, _show)
    except (Exception, Interrupted) as raised:
        error = ending_of(raised)
        _print_for_people(error.final_lines, _look(is_log=is_log).for_error(error))
        return error.exit_status


def _checked(options: argparse.Namespace) -> Settings:
    """Return the settings; for programs, tell which option cannot be."""
    from mwa_client.cli.settings import settings_from

    try:
        return settings_from(options)
    except MwaClientError as error:
        if options.json:
            from mwa_client.display.json_lines import JsonDisplay
            from mwa_client.timing import SystemClock

            JsonDisplay(sys.stdout, sys.stderr, SystemClock()).tell_error(error)
        raise


def _silence_libraries() -> None:
    """Keep urllib3 from logging: its warnings show whole URLs, with signatures, and what a server sent."""
    import logging

    library = logging.getLogger("urllib3")
    library.addHandler(logging.NullHandler())
    library.propagate = False


def _show_requests() -> None:
    """Log each request on standard error, in a line of its own."""
    import logging

    look = _look(is_log=False)

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return look.laid_out(printable(super().format(record)), sys.stderr, record.created)

    handler = logging.StreamHandler()
    handler.setFormatter(Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("mwa_client.asvo")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


def _say(*lines: str | Mapping[str, object]) -> None:
    """Print lines for a person on standard error."""
    _print_for_people(lines, _look(is_log=False))


def _log(*lines: str | Mapping[str, object]) -> None:
    """Print lines for a person on standard error; in a file they bear the time, as all of a run."""
    _print_for_people(lines, _look(is_log=True))


def _look(*, is_log: bool) -> Look:
    from mwa_client.display.printing import Look

    return Look.of(sys.stderr, os.environ, is_log=is_log)


def _print_for_people(lines: Sequence[str | Mapping[str, object]], look: Look) -> None:
    texts = [printable(line) if isinstance(line, str) else json_line(line) for line in lines]
    try:
        for text in texts:
            print(look.laid_out(text, sys.stderr, time.time()), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # The reader has gone; the exit status still tells how it ended.


def _show(*lines: str | Mapping[str, object]) -> None:
    """Print results on standard output, as they are: the only line breaks are those between them.

    Raises
    ------
    ResultLost
        They cannot be written.
    """
    texts = [printable(line) if isinstance(line, str) else json_line(line) for line in lines]
    try:
        print("\n".join(texts), flush=True)  # At once: each line by itself may be a call of the system.
    except (OSError, ValueError) as error:
        raise ResultLost.of(error) from error
