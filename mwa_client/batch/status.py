"""How far the rows of a directory are, as the directory itself tells it: no network, and no lock."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mwa_client.asvo.job import JobState
from mwa_client.batch.estimate import MOST_LEARNT, Waits, altogether, is_at_service, kind_in
from mwa_client.batch.events import Expected
from mwa_client.batch.history import LedgerHistory, RowHistory, TimedDownload
from mwa_client.batch.ledger_file import garbage_collection_off
from mwa_client.batch.records import WrittenFile, WrittenProduct
from mwa_client.batch.rows import LABELS, NOT_SUBMITTED, Stage, Step
from mwa_client.directory.at_work import clients_at_work
from mwa_client.directory.names import name_on_disk
from mwa_client.directory.owner import Owner
from mwa_client.directory.trees import tree_size
from mwa_client.errors import MwaClientError
from mwa_client.light_dataclasses import dataclass
from mwa_client.transfer.files import DownloadDirectory
from mwa_client.transfer.standing import Standing, standing_at

if TYPE_CHECKING:
    from mwa_client.jobs.request import JobRequest

MOVED_AWAY = "Moved away"
INTERRUPTED, COMMAND_INTERRUPTED = "Download interrupted", "Command interrupted"
"""States in words for people that only a look at the directory shows."""
_COMPLETE, _FAILED = LABELS[Stage.COMPLETE], LABELS[Stage.FAILED]
_DOWNLOADING, _FOLLOWED = LABELS[Stage.DOWNLOADING], LABELS[Stage.FOLLOWED]
_AS_LEFT = frozenset((Standing.AS_LEFT,))
_WITH_PRODUCT = (LABELS[Stage.ARRIVED], _FOLLOWED, _FAILED)
_OBS_ID = re.compile(r"\bobs_id=([0-9]{1,19})\b")


class RowStatus(NamedTuple):
    """How far one row is. A tuple: there may be ten thousand of them.

    Attributes
    ----------
    line : int or None
        Its line in the job file, where one was given.
    obs_id, job_id : int or None
        Its observation and its job, where they are known.
    kind : str
        What comes of its job, in a word; empty where that is not known.
    label : str
        Its state, in words for people.
    since : float or None
        Since when it is so, in seconds since 1970.
    paths : tuple of str
        Where its product is: in the directory, or on a file system that this host cannot see.
    size : int or None
        Bytes of its product, where they are known.
    here : int
        Bytes that are here.
    unverified : int
        How many of its files the service gave no SHA-1 for.
    note : str
        What is to be said of it: why it failed, or what has become of its product.
    remedy : str
        What to do about that.
    steps : tuple of Step
        What it was before, and since when.
    downloads : tuple of TimedDownload
        The downloads of its product.
    ready_at : float or None
        When its job may be ready, in seconds since 1970: an estimate, None where nothing is known.
    """

    line: int | None
    obs_id: int | None
    job_id: int | None = None
    kind: str = ""
    label: str = NOT_SUBMITTED
    since: float | None = None
    paths: tuple[str, ...] = ()
    size: int | None = None
    here: int = 0
    unverified: int = 0
    note: str = ""
    remedy: str = ""
    steps: tuple[Step, ...] = ()
    downloads: tuple[TimedDownload, ...] = ()
    ready_at: float | None = None

    @property
    def is_complete(self) -> bool:
        """Whether its product has been fetched, and is still there."""
        return self.label == _COMPLETE

    @property
    def is_pending(self) -> bool:
        """Whether a run that goes on would do something about it."""
        return not self.is_complete and not self.is_failed

    @property
    def is_failed(self) -> bool:
        """Whether it has failed."""
        return self.label == _FAILED


@dataclass(frozen=True)
class DirectoryStatus:
    """How far the rows of a directory are.

    Attributes
    ----------
    directory : Path
        The directory.
    now : float
        When it was looked at, in seconds since 1970.
    rows : tuple of RowStatus
        The rows of the job file, where one was given; all that the directory knows, otherwise.
    others : int
        How many rows the directory knows besides.
    at_work : tuple of Owner
        The clients that are at work there.
    damaged : int
        How many lines of its ledger cannot be read.
    """

    directory: Path
    now: float
    rows: tuple[RowStatus, ...]
    others: int = 0
    at_work: tuple[Owner, ...] = ()
    damaged: int = 0

    @property
    def states(self) -> Counter[str]:
        """How many rows are in each state."""
        return Counter(row.label for row in self.rows)

    @property
    def expected(self) -> Expected:
        """When the jobs that are waited for may be ready."""
        return altogether([row.ready_at for row in self.rows if is_at_service(row.label)], self.now)

    @property
    def size(self) -> int:
        """Bytes of the products that are here."""
        return sum(row.here for row in self.rows if row.paths)


def status_of(
    directory: Path,
    state_dir: Path,
    now: float,
    requests: Sequence[JobRequest] | None = None,
    *,
    leaving: int | None = None,
) -> DirectoryStatus:
    """Look how far the rows of a directory are.

    Parameters
    ----------
    directory, state_dir : Path
        The download directory, and the folder in which it remembers.
    now : float
        The time, in seconds since 1970.
    requests : sequence of JobRequest, optional
        The rows of a job file: these are told of, also those that are not submitted yet, and no others.
    leaving : int, optional
        A process of this machine that does not count as at work any more.

    Raises
    ------
    DirectoryUnusable
        The directory is missing, or what it remembers cannot be read or is not our own.
    """
    with garbage_collection_off():
        history = LedgerHistory.of(directory, state_dir)
        owners = clients_at_work(state_dir, now)  # It may have no rows yet: the service may be out.
        at_work = tuple(each for each in owners if not (each.is_on_this_machine and each.pid == leaving))
        look = _Look(directory, state_dir, bool(at_work), now, _waits_in(history))
        rows, others = _rows_of(history, look, requests)
        return DirectoryStatus(directory, now, rows, others, at_work, history.damaged)


def _rows_of(
    history: LedgerHistory, look: _Look, requests: Sequence[JobRequest] | None
) -> tuple[tuple[RowStatus, ...], int]:
    """Return the rows that are asked for, and how many others there are."""
    if requests is None:
        return tuple(look.at(row) for row in history.rows.values()), 0
    known = _by_identity(history.rows.values())
    found = [known.get(each.identity) or known.get(each.former_identity) for each in requests]
    rows = tuple(look.at(row, request) for row, request in zip(found, requests))
    return rows, len(history.rows) - len({id(row) for row in found if row is not None})


def _waits_in(history: LedgerHistory) -> Waits:
    """Return how long jobs have taken; nothing where that is of no use, for no job is waited for."""
    waits = Waits()
    if any(is_at_service(row.label) for row in history.rows.values()):
        ready = (row for row in reversed(history.rows.values()) if not is_at_service(row.label))
        for row in islice(ready, MOST_LEARNT):
            waits.learn(kind_in(row.identity), row.steps)
    return waits


def _by_identity(rows: Iterable[RowHistory]) -> dict[str, RowHistory]:
    """Return rows by what they ask for; where several services were asked, the one that was asked last."""
    return {row.identity: row for row in sorted(rows, key=lambda row: row.steps[-1].at if row.steps else 0.0)}


@dataclass(frozen=True)
class _Look:
    """Looks at what is in a directory."""

    directory: Path
    state_dir: Path
    is_at_work: bool
    now: float
    waits: Waits

    @cached_property
    def above(self) -> str:
        """What stands before the name of a product in its path."""
        return str(self.directory / "_")[:-1]

    @cached_property
    def place(self) -> DownloadDirectory:
        """The directory as downloads see it."""
        return DownloadDirectory(self.directory, self.state_dir)

    @cached_property
    def kept(self) -> frozenset[str]:
        """The names of what the directory remembers, read once: most rows have nothing there."""
        with suppress(OSError):
            return frozenset(path.name for path in self.state_dir.iterdir())
        return frozenset()

    def at(self, row: RowHistory | None, request: JobRequest | None = None) -> RowStatus:
        identity = request.identity if request is not None else row.identity if row is not None else ""
        found, kind = _OBS_ID.search(identity), kind_in(identity)
        line, obs_id = None if request is None else request.line, None if found is None else int(found[1])
        if row is None or not row.steps:
            return RowStatus(line, obs_id, kind=kind)
        note, remedy = row.failure
        return RowStatus(
            line,
            obs_id,
            row.job_id,
            kind,
            since=row.steps[-1].at,
            steps=tuple(row.steps),
            downloads=tuple(row.downloads),
            **{"label": row.label, "note": note, "remedy": remedy, **self._of_state(row, kind)},
        )

    def _of_state(self, row: RowHistory, kind: str) -> dict[str, Any]:
        """Return what is to be said of a row of the ledger besides what it tells by itself."""
        label = row.label
        if label == _COMPLETE:
            return self._of_product(row.product, has_followed=row.has_followed)
        about = self._of_kept_product(row) or (self._of_download(row) if row.downloads else {})
        if label == _FOLLOWED and not self.is_at_work:
            about["label"] = COMMAND_INTERRUPTED
        if is_at_service(label):
            about["ready_at"] = self.waits.expect(kind, row.steps, self.now)
        return about

    def _of_product(self, product: WrittenProduct | None, *, has_followed: bool) -> dict[str, Any]:
        """Say where a product is, and whether it is still there."""
        if product is None:
            return {"note": "Its line in the ledger cannot be read.", "remedy": "The next run looks for it."}
        here = self._places_of(product.files)
        size = unverified = 0
        for file in product.files:
            size += file.size
            unverified += not file.verified
        about: dict[str, Any] = {
            "paths": (*here, *product.elsewhere),
            "size": size if product.files else None,
            "here": size,
            "unverified": unverified,
            "note": "It was delivered there." if product.elsewhere else "",
        }
        standing = frozenset(here.values())
        if standing <= _AS_LEFT:  # Most are.
            return about
        if Standing.GONE in standing:
            about["here"] = 0
            if has_followed:
                return {**about, "note": "It has been moved away since its command was done."}
            return {**about, "label": MOVED_AWAY, "note": "It was complete, and is not there now."}
        if Standing.CHANGED in standing or has_followed:
            return {**about, "note": "It has been changed since it was complete."}
        return about

    def _of_kept_product(self, row: RowHistory) -> dict[str, Any]:
        """Say where a product is whose command waits, runs, was cut off or failed; empty if it is gone."""
        product = row.product if row.label in _WITH_PRODUCT else None
        if product is None:
            return {}
        found = self._of_product(product, has_followed=False)
        return {key: found[key] for key in ("paths", "size", "here", "unverified")} if found["here"] else {}

    def _places_of(self, files: Iterable[WrittenFile]) -> dict[str, Standing]:
        """Return where the files of a product are in the directory, and how they are found there.

        A folder is not looked into: that may be a million files.
        """
        places: dict[str, Standing] = {}
        for file in files:
            name, _, is_below = file.name.partition("/")
            path = self.above + name
            if path in places:
                continue
            if is_below:
                places[path] = Standing.AS_LEFT if os.path.lexists(path) else Standing.GONE
            else:
                is_folder, is_changed = file.unpacked is not None, file.is_changed
                known = file.size, file.mtime_ns
                places[path] = standing_at(path, *known, is_folder=is_folder, is_changed=is_changed)
        return places

    def _bytes_of(self, name: str) -> int:
        """Return how many bytes are here of a file or folder that is being fetched, unpacked or not."""
        # Imported here, where a download is under way: a look at other rows need not wait for it.
        from mwa_client.transfer.part_file import bytes_in_part
        from mwa_client.transfer.unpacking.kept import unpack_place
        from mwa_client.transfer.unpacking.unpacked import bytes_in_unpacking

        part, unpacked = self.place.part(name), unpack_place(self.place, name).path
        if self.kept.isdisjoint((part.name, unpacked.name)):
            return 0
        if part.is_dir():
            return tree_size(part)
        return bytes_in_part(part) if part.exists() else bytes_in_unpacking(self.place, name)

    def _of_download(self, row: RowHistory) -> dict[str, Any]:
        """Say how much of a product is here that is being fetched, or that an interrupted run has left."""
        download = row.downloads[-1]
        here = 0
        for name in download.names:
            with suppress(MwaClientError, OSError, ValueError):
                here += self._bytes_of(name_on_disk(name))
        is_begun = row.label in (_DOWNLOADING, JobState.READY.label)
        was_cut_off = here or row.label == _DOWNLOADING
        is_interrupted = is_begun and was_cut_off and not self.is_at_work
        found = {"size": download.size, "here": here}
        return {**found, "label": INTERRUPTED} if is_interrupted else found
