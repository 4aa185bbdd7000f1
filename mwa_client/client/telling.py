"""What a Python program is told: errors, warnings and events, in Python's words and in Python's ways."""

from __future__ import annotations

import functools
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, TypeVar, cast

from mwa_client.errors import MwaClientError, MwaClientWarning

if TYPE_CHECKING:
    from mwa_client.batch.events import Event
    from mwa_client.timing import Clock

PACKAGE = str(Path(__file__).parent.parent)

F = TypeVar("F", bound=Callable[..., Any])


def says_it_in_python_words(function: F) -> F:
    """Have the errors of a function name arguments; they are written for the command, and name options."""

    @functools.wraps(function)
    def speaking(*arguments: Any, **more: Any) -> Any:
        try:
            return function(*arguments, **more)
        except MwaClientError as error:
            from mwa_client.client.words import in_python_words

            error.reword(in_python_words)
            raise

    return cast(F, speaking)


@contextmanager
def told_in_python_words(
    clock: Clock, listen: Callable[[Event], None] | None = None, *, progress: bool = False
) -> Iterator[Callable[[Event], None]]:
    """Yield what takes each event, and tells it to the caller, a display, or else the log.

    Parameters
    ----------
    clock : Clock
        The time.
    listen : callable, optional
        The caller's own function.
    progress : bool
        Show on standard error what happens.
    """
    from mwa_client.batch.events import Notice
    from mwa_client.client.words import event_in_python_words

    with ExitStack() as open_things:
        hearers = [] if listen is None else [listen]
        if progress:
            from mwa_client.display import display_for

            display = display_for(sys.stderr, sys.stderr, clock, dict(os.environ))
            open_things.callback(display.close)
            hearers.append(display)

        def hear(event: Event) -> None:
            event = event_in_python_words(event)
            for hearer in hearers:
                hearer(event)
            if not hearers and isinstance(event, Notice) and event.is_warning:
                logging.getLogger("mwa_client").warning("%s", event.text)

        yield hear


def warn(texts: Iterable[str]) -> None:
    """Warn the caller of the package, at the line where it was called."""
    steps, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        steps, frame = steps + 1, frame.f_back
    for text in texts:
        warnings.warn(text, MwaClientWarning, stacklevel=steps)
