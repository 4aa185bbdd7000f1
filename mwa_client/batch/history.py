"""What a ledger tells of each row from its first line to its last, for people to look at.

Only reading: nothing is made, locked or changed, and a client may be at work meanwhile.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mwa_client.asvo.job import JobState, read_size
from mwa_client.batch.entries import (
    MOST_NAMES,
    READ_AGAIN,
    STATE_OF_JOB,
    TELLING,
    entry_time,
    followed_after,
    label_after,
    since,
)
from mwa_client.batch.ledger_file import garbage_collection_off
from mwa_client.batch.ledger_files import LEDGER_NAME, in_turn
from mwa_client.batch.records import WrittenProduct, written_product
from mwa_client.batch.rows import LABELS, NOT_SUBMITTED, Stage, Step, new_step
from mwa_client.directory.json_files import json_objects
from mwa_client.directory.our_files import refuse_foreign_folder
from mwa_client.errors import DirectoryUnusable
from mwa_client.light_dataclasses import dataclass

NO_FAILURE = ("", "")


class Run(NamedTuple):
    """A run that downloads: in which ledger it writes, and when it began, as it is written there."""

    ledger: str
    begun: str


@dataclass
class TimedDownload:
    """The download of a row's product.

    Attributes
    ----------
    begun : float
        In seconds since 1970.
    to_come : int
        Bytes that were missing then.
    run : Run
        The run that it belongs to.
    names : tuple of str
        The names of its files in the directory, as text.
    size : int or None
        Bytes of all its files, where they are known.
    ended : float or None
        When the product was complete; None where it was not.
    """

    begun: float
    to_come: int
    run: Run
    names: tuple[str, ...] = ()
    size: int | None = None
    ended: float | None = None


class RowHistory:
    """What has happened to one row. There may be ten thousand of them.

    Parameters
    ----------
    service : str
        The service's name in the ledger.
    identity : str
        What the row asks for.

    Attributes
    ----------
    steps : list of Step
        What it was, and since when, from the beginning.
    label : str
        What it is now.
    job_id : int or None
        Its job.
    downloads : list of TimedDownload
        The downloads of its product, the last one is the present one.
    has_followed : bool
        The user's command was run for it, and was successful.
    failure : tuple of (str, str)
        Why it has failed, and what to do; both empty if it has not.
    completion : dict or None
        The entry that tells of its product, once it is complete.
    """

    __slots__ = (
        "completion",
        "downloads",
        "failure",
        "has_followed",
        "identity",
        "job_id",
        "label",
        "service",
        "steps",
    )

    def __init__(self, service: str, identity: str) -> None:
        self.service, self.identity = service, identity
        self.steps: list[Step] = []
        self.label = NOT_SUBMITTED
        self.job_id: int | None = None
        self.downloads: list[TimedDownload] = []
        self.has_followed = False
        self.failure = NO_FAILURE
        self.completion: dict[str, Any] | None = None

    @property
    def product(self) -> WrittenProduct | None:
        """Its product, once it is complete; None also where its entry makes no sense."""
        return None if self.completion is None else written_product(self.completion)

    def step(self, at: float, label: str) -> None:
        """Note what it is from now on; a clock that was set back does not make it shorter than nothing."""
        steps = self.steps
        if steps and at < (before := steps[-1][0]):
            at = before
        steps.append(new_step((at, label)))
        self.label = label

    def cut_off(self, run: Run, at: float) -> None:
        """Note that its download was over at a moment, without an end of its own, if it was of this run."""
        if self.label == LABELS[Stage.DOWNLOADING] and self.downloads and self.downloads[-1].run == run:
            self.step(at, JobState.READY.label)


class LedgerHistory:
    """All that the ledgers of a directory tell.

    Attributes
    ----------
    rows : dict
        Each `RowHistory` by service and identity, in the order in which they came.
    damaged : int
        How many lines cannot be read.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], RowHistory] = {}
        self.damaged = 0
        self._times_in: defaultdict[str, list[float]] = defaultdict(list)
        self._times: list[float] = []
        self._ledger = ""
        self._runs: dict[str, Run] = {}

    @classmethod
    def of(cls, directory: Path, state_dir: Path) -> LedgerHistory:
        """Read the ledgers of a directory; it has no rows where none is there.

        Raises
        ------
        DirectoryUnusable
            The directory is missing, or what is there cannot be read or is not our own.
        """
        history = cls()
        try:
            ledgers = ledgers_in(directory, state_dir)
            with garbage_collection_off():
                history._read(ledgers)
        except FileNotFoundError:
            raise DirectoryUnusable(f"There is no directory {directory}.", "Check --dir.") from None
        except OSError as error:
            raise DirectoryUnusable(
                f"Cannot read {error.filename or directory}: {error.strerror}.", "Check --dir."
            ) from None
        return history

    def _read(self, ledgers: list[Path]) -> None:
        if len(ledgers) == 1:  # It is in order, and there may be a hundred thousand lines.
            name = ledgers[0].name
            for entry in json_objects(ledgers[0], self._note_damage):
                self.take(entry, name)
            return
        for _, entry, ledger in in_turn([self._lines(path) for path in ledgers]):
            self.take(entry, ledger)

    def _lines(self, path: Path) -> Iterator[tuple[dict[str, Any], str]]:
        return ((entry, path.name) for entry in json_objects(path, self._note_damage))

    def take(self, entry: dict[str, Any], ledger: str) -> None:
        """Learn what an entry tells of its row; `ledger` is the name of the file that it is in."""
        get = entry.get
        event, identity, service = get("event"), get("row"), get("service")
        if event != STATE_OF_JOB and event not in TELLING:  # Most are states.
            return
        if type(identity) is not str or type(service) is not str:
            return
        if ledger != self._ledger:
            self._ledger, self._times = ledger, self._times_in[ledger]
        at, times = entry_time(entry), self._times
        if at is None:
            return
        if not times or at > times[-1]:
            times.append(at)
        row = self.rows.get((service, identity))
        if row is None:
            row = self.rows[service, identity] = RowHistory(service, identity)
        if event == READ_AGAIN:
            row.completion = entry
            return
        if event != STATE_OF_JOB:
            self._take_about_row(row, event, entry, at, ledger)
        elif row.failure is not NO_FAILURE:
            row.failure = NO_FAILURE
        label = label_after(entry)
        if label and (label != row.label or not row.steps):
            row.step(since(entry, at), label)

    def _take_about_row(
        self, row: RowHistory, event: str, entry: dict[str, Any], at: float, ledger: str
    ) -> None:
        """Learn what an entry tells besides the row's new state."""
        row.failure = NO_FAILURE
        row.has_followed = followed_after(entry, row.has_followed, row.label)
        if event == "job":
            row.job_id = job_id if type(job_id := entry.get("job_id")) is int else None
        elif event == "downloading":
            self._take_download(row, entry, at, ledger)
        elif event == "complete":
            self._take_complete(row, entry, at)
        elif event == "failed":
            row.failure = str(entry.get("message") or ""), str(entry.get("remedy") or "")

    def _take_download(self, row: RowHistory, entry: dict[str, Any], at: float, ledger: str) -> None:
        begun = str(entry.get("run"))
        run = before = self._runs.get(ledger)
        if run is None or run.begun != begun:
            run = self._runs[ledger] = Run(ledger, begun)
        if before is not None and before is not run:
            # Nothing is written when a run is killed: its downloads were over with its last line.
            over = self._last_before(entry_time(entry, "run") or at, ledger)
            for other in self.rows.values():
                other.cut_off(before, over)
        row.downloads.append(_read_download(entry, at, run))

    def _last_before(self, moment: float, ledger: str) -> float:
        times = self._times_in[ledger]
        return times[max(bisect_left(times, moment) - 1, 0)]

    def _take_complete(self, row: RowHistory, entry: dict[str, Any], at: float) -> None:
        job_id = entry.get("job_id")
        row.job_id = job_id if type(job_id) is int else row.job_id
        row.completion = entry
        if row.label == LABELS[Stage.DOWNLOADING] and row.downloads:
            row.downloads[-1].ended = at

    def _note_damage(self) -> None:
        self.damaged += 1


def ledgers_in(directory: Path, state_dir: Path) -> list[Path]:
    """Return the ledgers of a directory; none where no client has worked there.

    Raises
    ------
    DirectoryUnusable
        The folder of the ledgers is a link, or somebody else's.
    OSError
        The directory is missing, or it cannot be read.
    """
    directory.stat()  # Of a missing directory it would be wrong to say that nothing was done there.
    try:
        os.lstat(state_dir)
    except FileNotFoundError:  # Where it cannot be looked for, nobody knows what was done.
        return []
    refuse_foreign_folder(state_dir)
    with suppress(FileNotFoundError):  # A client that had nothing to write down has just removed it.
        return sorted(path for path in state_dir.iterdir() if LEDGER_NAME.fullmatch(path.name))
    return []


def _read_download(entry: dict[str, Any], at: float, run: Run) -> TimedDownload:
    to_come, listed = read_size(entry.get("to_come")) or 0, entry.get("files")
    names: list[str] = []
    sizes: list[int | None] = []
    for file in listed if isinstance(listed, list) else ():
        if isinstance(file, dict):
            sizes.append(read_size(file.get("size")))
            if isinstance(name := file.get("name"), str):
                names.append(name)
    known = [size for size in sizes if size is not None]
    size = sum(known) if known and len(known) == len(sizes) < MOST_NAMES else None
    return TimedDownload(at, to_come, run, tuple(names), size)
