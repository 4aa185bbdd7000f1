"""The options of the command become frozen settings, or are refused."""

from __future__ import annotations

import argparse
import enum
import re
from dataclasses import field
from pathlib import Path

from mwa_client.asvo.job_filter import JobFilter
from mwa_client.asvo.variables import read_seconds
from mwa_client.errors import SettingsError
from mwa_client.formatting import seconds_in
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.sharing import Share
from mwa_client.light_dataclasses import dataclass

DOWNLOADS, MOST_DOWNLOADS = 4, 32
"""Downloads at a time: unless the user says otherwise, and at most."""
CONNECTIONS, MOST_CONNECTIONS = 8, 32
"""Connections to fetch products with: unless the user says otherwise, and at most."""
SANDBOX_POLL = 0.5
"""Seconds between two listings in a practice run, whose jobs are ready in seconds."""


class Task(enum.Enum):
    """What the command is to do."""

    RUN = "submit, watch and fetch"
    CHECK = "check the job file"
    SUBMIT = "submit alone"
    LIST = "list the user's jobs"
    FETCH = "fetch jobs that are there"
    WAIT = "wait until jobs that are there are ready"
    CANCEL = "cancel jobs"
    STATUS = "show what the directory knows"

    @property
    def needs_rows(self) -> bool:
        """Whether it starts from a job file."""
        return self in (Task.RUN, Task.CHECK, Task.SUBMIT)

    @property
    def takes_rows(self) -> bool:
        """Whether it can be given a job file."""
        return self.needs_rows or self is Task.STATUS

    @property
    def is_to_print(self) -> bool:
        """Whether its result is what it prints; of the others it is the files, or the exit status."""
        return self not in (Task.RUN, Task.FETCH, Task.WAIT)

    @property
    def is_run(self) -> bool:
        """Whether it takes its time, and what it tells meanwhile is a log where it goes to a file."""
        return self in (Task.RUN, Task.SUBMIT, Task.FETCH, Task.WAIT)

    @property
    def needs_directory(self) -> bool:
        """Whether it writes into the download directory."""
        return self in (Task.RUN, Task.SUBMIT, Task.FETCH)


@dataclass(frozen=True)
class Input:
    """Where the rows come from.

    Attributes
    ----------
    csv : tuple of str
        The job files; ``-`` is standard input.
    rows : tuple of str
        Rows given on the command line.
    obs_ids : tuple of str
        Lists of obs_ids; then the rows are for each of them.
    """

    csv: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    obs_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Output:
    """What the user wants to see of a run, and where.

    Attributes
    ----------
    json : bool
        Write one JSON object a line to standard output, and nothing else there.
    quiet, verbose : bool
        Show only errors and the summary; show each request.
    error_file : Path or None
        Where the errors are written as a JSON list.
    report : Path or None
        Where a page about the run is written, or about what was done in the directory.
    table : bool
        Show what the directory knows; otherwise only the page is wanted.
    listed : JobFilter
        Which jobs to list.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    error_file: Path | None = None
    report: Path | None = None
    table: bool = True
    listed: JobFilter = field(default_factory=JobFilter)


@dataclass(frozen=True)
class OtherClients:
    """What to do about other clients in the directory.

    Attributes
    ----------
    share : Share or None
        Which share of the rows to work on, while others work on the other shares; None: all rows, alone.
    wait : float
        Seconds to wait at most for those who are in the way.
    """

    share: Share | None = None
    wait: float = 0.0


@dataclass(frozen=True)
class Downloads:
    """How products are fetched.

    Attributes
    ----------
    parallel : int
        Downloads at a time.
    connections : int
        The most connections to fetch products with, over all downloads.
    unpack : bool
        Make folders of the products that are tars or zips.
    only_wait : bool
        Download nothing: be content when all jobs are ready.
    then : str or None
        A command for the shell that is run for each product once it is complete.
    """

    parallel: int = DOWNLOADS
    connections: int = CONNECTIONS
    unpack: bool = False
    only_wait: bool = False
    then: str | None = None


@dataclass(frozen=True)
class Settings:
    """What the user wants of a run.

    Attributes
    ----------
    task : Task
        What to do.
    input : Input
        Where the rows come from.
    targets : tuple of str
        The jobs to fetch or cancel: job ids, obs_ids, or ``all``.
    directory : Path
        Where the products go.
    is_directory_given : bool
        Whether the user has named the directory, rather than being in it.
    api : ApiVersion or None
        The interface to speak; None: find out.
    sandbox : bool
        Practise against the built-in service.
    once : bool
        Make one pass and end: submit what is missing, fetch what is ready.
    allow_resubmit : bool
        Submit even where the same job is there already, and again where it has failed.
    output : Output
        What to show of it.
    downloads : Downloads
        How products are fetched.
    poll : float or None
        Seconds between two listings; None: adapt.
    give_up_after : float or None
        Seconds after which to stop with jobs still pending; None: never.
    others : OtherClients
        What to do about other clients in the directory.
    """

    directory: Path
    task: Task = Task.RUN
    input: Input = field(default_factory=Input)
    is_directory_given: bool = True
    targets: tuple[str, ...] = ()
    api: ApiVersion | None = None
    sandbox: bool = False
    once: bool = False
    allow_resubmit: bool = False
    output: Output = field(default_factory=Output)
    downloads: Downloads = field(default_factory=Downloads)
    poll: float | None = None
    give_up_after: float | None = None
    others: OtherClients = field(default_factory=OtherClients)


def settings_from(options: argparse.Namespace) -> Settings:
    """Check the options' values.

    Raises
    ------
    SettingsError
        A value cannot be used, or two options contradict each other.
    """
    task = _task(options)
    listed = options.download_only
    targets = {Task.FETCH: listed, Task.WAIT: listed, Task.CANCEL: options.cancel}.get(task)
    return Settings(
        task=task,
        input=Input(
            csv=tuple(str(_path("--csv", path)) for path in options.csv or ()) if task.takes_rows else (),
            rows=tuple(options.job or ()),
            obs_ids=tuple(str(_path("--obs-ids", path)) for path in options.obs_ids or ()),
        ),
        targets=() if targets is None else _targets(targets, all_allowed=task is not Task.CANCEL),
        directory=Path() if options.dir is None else _path_to_write("--dir", options.dir),
        is_directory_given=options.dir is not None,
        api=_api(options.api),
        sandbox=options.sandbox,
        once=options.once,
        allow_resubmit=options.allow_resubmit,
        output=Output(
            json=options.json,
            quiet=options.quiet,
            verbose=options.verbose,
            report=None if options.report is None else _path_to_write("--report", options.report),
            table=options.status or options.report is None,
            listed=_listed(options, task),
            error_file=None
            if options.error_file is None
            else _path_to_write("--error-file", options.error_file),
        ),
        downloads=Downloads(
            parallel=_count("--parallel", options.parallel, DOWNLOADS, MOST_DOWNLOADS),
            connections=_count("--connections", options.connections, CONNECTIONS, MOST_CONNECTIONS),
            unpack=options.unpack,
            only_wait=options.no_download,
            then=_then(options, task),
        ),
        poll=read_seconds("--poll", options.poll, SANDBOX_POLL if options.sandbox else 0.0) or None,
        give_up_after=read_seconds("--give-up-after", options.give_up_after, 0.0) or None,
        others=OtherClients(
            share=_share(options.part, task, is_practice=options.sandbox),
            wait=_wait(options.wait_for_lock),
        ),
    )


def _task(options: argparse.Namespace) -> Task:
    wanted = {
        Task.CHECK: ("--check", options.check),
        Task.SUBMIT: ("--submit-only", options.submit_only),
        Task.LIST: ("--list-only", options.list_only),
        Task.WAIT if options.no_download else Task.FETCH: ("--download-only", options.download_only),
        Task.CANCEL: ("--cancel", options.cancel),
        Task.STATUS: ("--status", options.status),
    }
    asked = [task for task, (_, is_asked) in wanted.items() if is_asked]
    names = " and ".join(wanted[task][0] for task in asked)
    if len(asked) > 1:
        raise SettingsError(f"{names} do not go together.", "Give one of them.")
    is_report_alone = options.report is not None and not options.csv and not options.job
    task = asked[0] if asked else Task.STATUS if is_report_alone else Task.RUN
    if options.report is not None and task in (Task.CHECK, Task.LIST, Task.WAIT, Task.CANCEL):
        raise SettingsError(f"--report and {names} do not go together.", "Leave out --report.")
    # Beside --list-only and --download-only a job file is ignored, as in the observatory's client.
    takes_ids = task in (Task.LIST, Task.FETCH, Task.WAIT)
    rows = {"--csv": options.csv and not takes_ids, "--job": options.job, "--obs-ids": options.obs_ids}
    given = [name for name, is_given in rows.items() if is_given]
    if not task.takes_rows and given:
        what = "no list of obs_ids" if given == ["--obs-ids"] else "no job file"
        more = f" Obs_ids can be given to {names} itself." if takes_ids and options.obs_ids else ""
        raise SettingsError(f"{names} takes {what}.", f"Leave out {' and '.join(given)}.{more}")
    if options.obs_ids and task.takes_rows and (options.csv or not options.job):
        what = (
            "--csv and --obs-ids do not go together." if options.csv else "--obs-ids has no row to go with."
        )
        raise SettingsError(what, "Give a row for all observations: -j 'job_type=d, download_type=vis'.")
    if options.csv and options.job:
        raise SettingsError("--csv and --job do not go together.", "Give one of them.")
    if options.no_download and task not in (Task.WAIT, Task.RUN):
        names = names or "--report alone"
        raise SettingsError(f"--no-download and {names} do not go together.", "Leave out --no-download.")
    if options.once and not (task.needs_directory or task is Task.WAIT):
        names = names or "--report alone"
        raise SettingsError(f"--once and {names} do not go together.", "Leave out --once.")
    return task


def _then(options: argparse.Namespace, task: Task) -> str | None:
    if options.then is None:
        return None
    if options.no_download or task not in (Task.RUN, Task.FETCH, Task.CHECK):
        what = "--then is run for products that have been downloaded, and here none are."
        raise SettingsError(what, "Leave it out.")
    from mwa_client.batch.command_text import check_command  # Most runs have no need of it.

    check_command(options.then)
    return str(options.then)


def _wait(value: str | None) -> float:
    """Return how long to wait for others; unlike other times, none at all makes sense."""
    is_none = value is not None and seconds_in(value) == 0.0
    return 0.0 if is_none else read_seconds("--wait-for-lock", value, 0.0)


def _share(value: str | None, task: Task, *, is_practice: bool) -> Share | None:
    if value is None:
        return None
    share = Share.read(value)
    if not task.needs_rows:
        raise SettingsError("--part is only for running a job file, or for checking one.", "Leave it out.")
    if is_practice:
        raise SettingsError(
            "--part and --sandbox do not go together: each practice run has a service of its own.",
            "Run python -m mwa_client.sandbox, and point all parts to it.",
        )
    return None if share.is_all else share


def _listed(options: argparse.Namespace, task: Task) -> JobFilter:
    given = {"--state": options.state, "--type": options.type, "--days": options.days}
    names = [name for name, value in given.items() if value is not None]
    if names and task is not Task.LIST:
        raise SettingsError(f"{' and '.join(names)} can only be given with --list-only.", "Add -l.")
    return JobFilter.of(options.listed, options.state or (), options.type or (), options.days)


def _targets(given: list[str], *, all_allowed: bool) -> tuple[str, ...]:
    words = [word for text in given for word in text.replace(",", " ").split() or [""]]
    if all_allowed:
        words = ["all" if word == "0" else word.lower() for word in words]
    for word in words:
        if not (re.fullmatch("[0-9]{1,19}", word) or (all_allowed and word == "all")):
            right = "a job id, an obs_id, or all" if all_allowed else "a job id"
            # Most likely the empty one is a variable of a script that was never set.
            raise SettingsError(f"{word or 'An empty word'} is not a job.", f"It must be {right}.")
    return tuple(dict.fromkeys(words))


def _api(value: str | None) -> ApiVersion | None:
    try:
        return None if value is None else ApiVersion(value)
    except ValueError:
        raise SettingsError(f"--api={value} is not an interface.", "It must be 2018, v1 or v2.") from None


def _path(name: str, value: str) -> Path:
    if not value:
        raise SettingsError(f"{name} is empty.", "Give a path, or leave the option out.")
    try:
        return Path(value).expanduser()  # Most shells leave the ~ of --dir=~/data as it is.
    except RuntimeError:
        raise SettingsError(f"{name}={value}: there is no such user.") from None


def _path_to_write(name: str, value: str) -> Path:
    """Return a path, unless it is ``-``, by which nobody means a file."""
    if value == "-":
        what = f"{name}=- is not possible: this is not written to standard output."
        raise SettingsError(what, "Give the name of a file or directory (./- if it is called so).")
    return _path(name, value)


def _count(name: str, value: str | None, default: int, most: int) -> int:
    if value is None:
        return default
    if not (re.fullmatch("[0-9]{1,9}", value) and 1 <= int(value) <= most):
        raise SettingsError(
            f"{name}={value} is not possible.", f"It must be a whole number from 1 to {most}."
        )
    return int(value)
