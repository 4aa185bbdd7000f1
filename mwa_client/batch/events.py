"""The events of a batch, as small dataclasses: the batch sends them, and a display shows them."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Union

from mwa_client.errors import ExitStatus, MwaClientError
from mwa_client.jobs.request import where_of
from mwa_client.light_dataclasses import dataclass
from mwa_client.transfer.events import FileNotice, Progress, Setback
from mwa_client.transfer.files import FetchedFile, by_name


@dataclass(frozen=True)
class RowName:
    """Which row of the job file something happened to.

    Attributes
    ----------
    line : int
        The row's line number, from 1.
    obs_id : int
        The observation.
    job_id : int or None
        The row's job, once it has one.
    source : str
        The job file, where there are several.
    """

    line: int
    obs_id: int
    job_id: int | None = None
    source: str = ""

    @property
    def place(self) -> str:
        """Where the row stands: ``line 3``; empty for a job that was asked for by its id."""
        return where_of(self.line, self.source) if self.line else ""


@dataclass(frozen=True)
class Begun:
    """The batch begins, with this number of rows."""

    rows: int


@dataclass(frozen=True)
class Submitted:
    """A row has a job: a new one, or, where `found`, one that existed already."""

    row: RowName
    found: bool


@dataclass(frozen=True)
class StateChanged:
    """The state of a row has changed; `label` names the new state in words for people."""

    row: RowName
    label: str


@dataclass(frozen=True)
class Downloading:
    """The download of one file of a row's product begins.

    Attributes
    ----------
    is_here : bool
        An earlier run has downloaded it, and now it is unpacked.
    """

    row: RowName
    name: str
    size: int | None
    is_here: bool = False


@dataclass(frozen=True)
class Complete:
    """A row is complete.

    Attributes
    ----------
    files : tuple of FetchedFile
        Its files in the directory.
    from_before : bool
        Whether an earlier run had completed it.
    elsewhere : tuple of str
        What was delivered to file systems that this host cannot see: where it is.
    directory : Path
        The download directory.
    is_changed : bool
        Somebody has changed its files since an earlier run completed it. They are kept as they are.
    is_moved : bool
        They are not there any more: the command of an earlier run has had them, and that is its own affair.
    fingerprint : str
        As of `FetchedProduct`.
    """

    row: RowName
    files: tuple[FetchedFile, ...]
    from_before: bool
    elsewhere: tuple[str, ...] = ()
    directory: Path = Path()
    is_changed: bool = False
    is_moved: bool = False
    fingerprint: str = ""

    @property
    def products(self) -> dict[Path, list[FetchedFile]]:
        """The files, by the file or folder of the download directory that they are in."""
        grouped = by_name(self.directory, self.files)
        return {self.directory / name: files for name, files in grouped.items()}


@dataclass(frozen=True)
class CommandRun:
    """The user's command begins for a row's product, or has ended.

    Attributes
    ----------
    log : Path
        Where its output is.
    status : int or None
        Its exit status, or the signal that has ended it as a negative number; None: it begins.
    """

    row: RowName
    log: Path
    status: int | None = None


@dataclass(frozen=True)
class RowFailed:
    """A row cannot be completed."""

    row: RowName
    error: MwaClientError


@dataclass(frozen=True)
class Notice:
    """Something that concerns the whole batch: an outage, its end, a warning.

    Attributes
    ----------
    is_warning : bool
        Whether it is shown even with --quiet.
    """

    text: str
    is_warning: bool = True


@dataclass(frozen=True)
class Asking:
    """When the service was asked for the states of the jobs. All times are by the clock for intervals.

    Attributes
    ----------
    last : float
        When it was last asked.
    due : float
        When it is asked again.
    silent_since : float or None
        Since when it has not answered; None: it has answered the last time.
    """

    last: float
    due: float
    silent_since: float | None = None


@dataclass(frozen=True)
class Counts:
    """How many rows are in each state; sent whenever one of the numbers has changed.

    Attributes
    ----------
    states : tuple of (str, int)
        A state's label and the number of rows in it, in the order of a job's life.
    here : int
        Bytes of the products that are complete.
    to_come : int
        Bytes that were missing of the others when they became ready, as far as their sizes are known.
    asking : Asking or None
        When the service was last asked; None: not yet in this run.
    """

    rows: int
    done: int
    states: tuple[tuple[str, int], ...]
    here: int = field(default=0, compare=False)
    to_come: int = field(default=0, compare=False)
    asking: Asking | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Expected:
    """When the jobs that are waited for may be ready; sent when it is known, and when it is much changed.

    All times are estimates, in seconds since 1970.

    Attributes
    ----------
    waiting : int
        How many are waited for.
    known : int
        Of how many there is an estimate.
    first, last : float or None
        When the first and the last of those may be ready; None where there is no estimate.
    starts : float or None
        Where there is none: when the service may start the first of them, as it says itself.
    """

    waiting: int
    known: int = 0
    first: float | None = None
    last: float | None = None
    starts: float | None = None

    @property
    def moment(self) -> float | None:
        """The latest of the times; None where nothing is known."""
        return self.starts if self.last is None else self.last


@dataclass(frozen=True)
class Summary:
    """How a batch ended.

    Attributes
    ----------
    complete : tuple of Complete
        The rows whose products are in the directory.
    failed : tuple of RowFailed
        The rows that cannot be completed, in order of the file.
    submitted : tuple of RowName
        The rows that have a job, in a run that only submits.
    found : int
        How many of those had their job before this run.
    ready : tuple of RowName
        The rows whose jobs are ready for download, in a run that only waits for that.
    pending : tuple of RowName
        The rows that a later run will complete.
    directory : Path
        Where the products are.
    why_pending : str
        Why the pending rows are not finished, in words for people.
    error : MwaClientError or None
        What has ended the run early: an error that concerns all rows, or a signal (`Interruption`).
    """

    directory: Path
    complete: tuple[Complete, ...] = ()
    failed: tuple[RowFailed, ...] = ()
    submitted: tuple[RowName, ...] = ()
    pending: tuple[RowName, ...] = ()
    why_pending: str = field(default="")
    error: MwaClientError | None = None
    found: int = 0
    ready: tuple[RowName, ...] = ()

    @property
    def exit_status(self) -> ExitStatus:
        """The exit status that says how it ended."""
        if self.error is not None:
            return self.error.exit_status
        if self.pending:
            return ExitStatus.TRY_AGAIN
        return ExitStatus.JOBS_FAILED if self.failed else ExitStatus.COMPLETE

    @property
    def size(self) -> int:
        """Bytes of all complete products that are there."""
        return sum(file.size for row in self.complete if not row.is_moved for file in row.files)

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """The paths of the products that were delivered to a file system which this host cannot see."""
        return tuple(path for row in self.complete for path in row.elsewhere)

    @property
    def changed(self) -> int:
        """How many rows have products that somebody has changed since they were complete."""
        return sum(row.is_changed for row in self.complete)

    @property
    def moved(self) -> int:
        """How many rows have products that were moved away after their command was done."""
        return sum(row.is_moved for row in self.complete)

    @property
    def unverified(self) -> tuple[FetchedFile, ...]:
        """The files for which the service gave no SHA-1."""
        return tuple(file for row in self.complete for file in row.files if not file.verified)


Event = Union[
    Begun,
    Submitted,
    StateChanged,
    Downloading,
    Progress,
    Setback,
    FileNotice,
    Complete,
    CommandRun,
    RowFailed,
    Notice,
    Counts,
    Expected,
    Summary,
]
