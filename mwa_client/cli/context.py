"""What every task of the command works with: the service, the directory, a way to show results."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Callable, Protocol

from mwa_client.asvo.key_file import with_key_of_file
from mwa_client.asvo.service import Service, risks_of
from mwa_client.asvo.variables import services_from
from mwa_client.cli.ending import Ending, begin_error_file
from mwa_client.cli.settings import Settings, Task
from mwa_client.errors import DirectoryUnusable, DiskFull, MwaClientError
from mwa_client.light_dataclasses import dataclass

# The rest is imported where it is needed: checking a file must not wait for it.
if TYPE_CHECKING:
    from mwa_client.directory.part import Part


class Show(Protocol):
    """Shows lines of text, and JSON objects as lines; a line break within a text is not shown as one."""

    def __call__(self, *lines: str | Mapping[str, object]) -> None:
        """Show them."""
        ...


@dataclass(frozen=True)
class TaskContext:
    """What a task works with.

    Attributes
    ----------
    settings : Settings
        What the user wants.
    services : sequence of Service
        The ways to reach the service, in the order to try them.
    check_lock : callable
        Raises if this process does not hold the lock of the download directory any more.
    say : Show
        Shows a remark or a warning.
    show : Show
        Shows a result.
    ending : Ending
        What is known so far of how the run ends, in case it ends early.
    part : Part or None
        The part of the rows that this client works on, while others work on the others.
    """

    settings: Settings
    services: Sequence[Service]
    check_lock: Callable[[], None]
    say: Show
    show: Show
    ending: Ending
    part: Part | None


@contextmanager
def open_context(
    settings: Settings, say: Show, show: Show, ending: Ending, part: Part | None = None
) -> Iterator[TaskContext]:
    """Hold the directory's lock if the task writes there, and run the practice service if it is wanted."""
    with ExitStack() as open_things:
        services = () if settings.sandbox else _real_services(settings, say)
        is_passing = part is None and _leaves_no_record(settings)
        if is_passing:
            settings = replace(settings, directory=open_things.enter_context(_passing_directory()))
        check_lock = open_things.enter_context(_lock(settings, say, part))
        begin_error_file(settings, ending)
        if settings.sandbox:
            from mwa_client.cli.practice import practice_service

            services = (open_things.enter_context(practice_service(settings, say)),)
            if is_passing:
                say("The practice jobs are gone when this command has ended; with --dir they are kept there.")
        if part is not None:
            from mwa_client.batch.ledger import STATE_DIR

            services = tuple(replace(each, shared_dir=settings.directory / STATE_DIR) for each in services)
        yield TaskContext(settings, services, check_lock, say, show, ending, part)


def _real_services(settings: Settings, say: Show) -> tuple[Service, ...]:
    services = services_from(with_key_of_file(os.environ), settings.api)
    for risk in risks_of(services):
        say(f"Warning: {risk}")
    return services


def _leaves_no_record(settings: Settings) -> bool:
    """Say whether a run leaves the directory as it is: it only submits, and nobody has named a directory.

    Where earlier runs have left their record, it goes on from there.
    """
    from mwa_client.batch.ledger import STATE_DIR

    is_used = os.path.lexists(settings.directory / STATE_DIR)
    return settings.task is Task.SUBMIT and not settings.is_directory_given and not is_used


@contextmanager
def _passing_directory() -> Iterator[Path]:
    """Make a directory that is gone at the end."""
    try:
        directory = TemporaryDirectory(prefix="mwa_client-")
    except OSError as error:
        what = f"Cannot make a temporary directory: {error.strerror}."
        raise DirectoryUnusable(what, "Name a directory with --dir.") from error
    with directory as name:
        yield Path(name)


@contextmanager
def _lock(settings: Settings, say: Show, part: Part | None) -> Iterator[Callable[[], None]]:
    """Hold the directory's lock while a task writes there; yield the function that checks the lock."""
    changes_sandbox = False
    if settings.sandbox and settings.task is Task.CANCEL:
        from mwa_client.cli.practice import remembers

        changes_sandbox = remembers(settings)
    if not (settings.task.needs_directory or changes_sandbox):
        yield lambda: None
        return
    from mwa_client.batch.ledger import STATE_DIR
    from mwa_client.directory.lock import directory_lock
    from mwa_client.timing import SystemClock

    place, wait = settings.directory, settings.others.wait
    lock = directory_lock(place, place / STATE_DIR, SystemClock(), say, part=part, wait=wait)
    with ExitStack() as open_things:
        try:
            check_lock = open_things.enter_context(lock)
        except DiskFull as error:
            check_lock = partial(_fail, error)  # If everything is complete already, nothing need be written.
        yield check_lock


def _fail(error: MwaClientError) -> None:
    raise error
