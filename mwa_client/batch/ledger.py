"""What the download directory remembers: which row has which job, and which files are verified.

One JSON object a line in ``DIR/.mwa_client/ledger.jsonl``, appended and flushed to disk; a line that
cannot be read (a torn last one, say) is passed over.
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable

from mwa_client.directory.disk import (
    disk_errors,
    json_lines,
    name_on_disk,
    open_ours,
    path_below,
    state_directory,
)
from mwa_client.directory.sums import Sums
from mwa_client.errors import DirectoryUnusable
from mwa_client.json_text import read_strictly
from mwa_client.timing import read_time
from mwa_client.transfer.files import DownloadDirectory, FetchedFile, FinalNames, by_name, describe

MEMORY = ".mwa_client"
SUMS = "SHA1SUMS"
TIME = "%Y-%m-%dT%H:%M:%SZ"
PRACTICE = "sandbox"
"""The service's name in the ledger while practising."""


@dataclass(frozen=True)
class FetchedProduct:
    """What a row's job has brought.

    Attributes
    ----------
    files : tuple of FetchedFile
        The files in the directory.
    elsewhere : tuple of str
        What was delivered to file systems that this host cannot see: where it is.
    """

    files: tuple[FetchedFile, ...] = ()
    elsewhere: tuple[str, ...] = ()


class Brought:
    """What a row's job has brought, as a line of the ledger says it; it is read when somebody asks.

    A ledger can have a hundred thousand such lines, and few are of interest.

    Parameters
    ----------
    directory : Path
        The download directory.
    line : str
        The line.
    """

    __slots__ = ("_directory", "_line")

    def __init__(self, directory: Path, line: str) -> None:
        self._directory = directory
        self._line = line

    @property
    def fetched(self) -> FetchedProduct | None:
        """The files and places; None where a part cannot be read: half a product is no product."""
        entry = read_strictly(self._line)
        files, elsewhere = entry.get("files"), entry.get("elsewhere")
        try:
            fetched = FetchedProduct(
                tuple(self._read_file(file) for file in (files if isinstance(files, list) else [])),
                tuple(str(path) for path in (elsewhere if isinstance(elsewhere, list) else [])),
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        return fetched if fetched.files or fetched.elsewhere else None

    def under(self, name: str) -> tuple[FetchedFile, ...]:
        """Return the files that were put under this name in the directory."""
        fetched = self.fetched
        return () if fetched is None else tuple(by_name(self._directory, fetched.files).get(name, ()))

    def _read_file(self, file: dict[str, Any]) -> FetchedFile:
        path, size, sha1 = path_below(self._directory, file["name"]), file["size"], file["sha1"]
        if not (isinstance(size, int) and size >= 0 and re.fullmatch("[0-9a-f]{40}", sha1)):
            raise ValueError("no size or no SHA-1")
        mtime_ns = file.get("mtime_ns")
        is_time = isinstance(mtime_ns, int)
        return FetchedFile(path, size, sha1, file["verified"] is True, mtime_ns=mtime_ns if is_time else None)


@dataclass
class RowRecord:
    """What is known of one row.

    Attributes
    ----------
    job_id : int or None
        Its job at the service, once submitted.
    state : str
        The last state that was seen of that job, in the service's word.
    brought : Brought or None
        What that job has brought, once it is complete.
    intended_after : int or None
        A submission was begun and its answer is not known. If it made a job, that has a higher id than
        this one, the highest that was listed before.
    intended_at : float or None
        When it was begun, in seconds since 1970; the last time, if it was tried again.
    completed_at : float or None
        When what was fetched was complete, in seconds since 1970.
    tries : int
        Submissions of which it is not known whether they have made a job.
    unclear : int
        Submissions whose answers made no sense, since the row last had a job.
    missed : int
        Listings in a row without its job, or, before it has one, without any that answers the intent. No more
        are counted than somebody needs to know of.
    missed_since : float or None
        When the first of these listings was, in seconds since 1970.
    renewals : int
        Jobs that have failed and were made anew because the user asked for it.
    disowned : int
        Jobs that were thought to be the row's, and that the service listed as another's.
    """

    job_id: int | None = None
    state: str = ""
    brought: Brought | None = None
    intended_after: int | None = None
    intended_at: float | None = None
    completed_at: float | None = None
    tries: int = 0
    unclear: int = 0
    missed: int = 0
    missed_since: float | None = None
    renewals: int = 0
    disowned: int = 0

    @property
    def fetched(self) -> FetchedProduct | None:
        """What that job has brought, once it is complete; None where that can't be read."""
        return None if self.brought is None else self.brought.fetched

    def intend(self, after: int, at: float | None) -> None:
        """Learn of a submission that was begun."""
        self.intended_after, self.intended_at = after, at
        self.tries += 1
        self.missed, self.missed_since = 0, None

    def withdraw(self) -> None:
        """Learn that the last submission has made no job."""
        self.tries -= 1
        if self.tries <= 0:
            self.tries, self.intended_after, self.intended_at = 0, None, None

    def attach(self, job_id: int | None) -> None:
        """Learn of the row's job, or that it has none any more."""
        self.job_id, self.state = job_id, ""
        self.tries, self.unclear, self.intended_after, self.intended_at = 0, 0, None, None
        self.missed, self.missed_since = 0, None

    def miss(self, at: float | None) -> None:
        """Learn of a listing without the row's job."""
        self.missed += 1
        if at is not None:
            self.missed_since = min(at, self.missed_since or at)


class Ledger:
    """The memory of one download directory, for one service.

    Parameters
    ----------
    directory : Path
        The download directory. It is made if it is missing.
    service : str
        The service's name. What another service has done is kept, but does not count here.
    guard : callable
        Raises `DirectoryBusy` if another client works in the directory; called before each new line.
    now : callable
        The time, in seconds since 1970.

    Raises
    ------
    DirectoryUnusable
        The directory cannot be made or written, or it was used for practice and this is not practice
        (or the other way round).
    """

    def __init__(
        self,
        directory: Path,
        service: str,
        guard: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        names = FinalNames(service, lambda entry: self._append(entry, sync=False))
        self.place = DownloadDirectory(directory, directory / MEMORY, guard, names)
        self.guard = guard
        self._now = now
        self._service = service
        self._path = self.place.memory / "ledger.jsonl"
        self._rows: dict[str, RowRecord] = {}
        self._given_up: set[int] = set()
        self._writing = threading.Lock()
        self._sums = Sums(directory, self.place.memory)
        self._lost: set[str] = set()
        state_directory(self.place.memory)
        were_practice: set[bool] = set()
        with disk_errors(self._path), suppress(FileNotFoundError), _nothing_thrown_away():
            for entry, line in json_lines(self._path):
                self._learn(entry, line)
                if entry.get("service") is not None:
                    were_practice.add(entry["service"] == PRACTICE)
        self._refuse_to_mix(were_practice)
        with disk_errors(self._path):
            self._sums.check()  # At once: hours of work must not end with a file that cannot be written.
            self._file = open_ours(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def row(self, identity: str) -> RowRecord:
        """Return what is known of a row; it is known by what it asks for."""
        return self._rows.get(identity) or RowRecord()

    def fetched(self, identity: str, job_id: int | None) -> FetchedProduct | None:
        """Return what a row's job has brought, wherever that is now; None where it is not complete."""
        row = self.row(identity)
        return row.fetched if job_id is not None and row.job_id == job_id else None

    def intend(self, identity: str, after: int) -> None:
        """Record that a row is about to be submitted, when the highest job id listed is `after`."""
        first = self.row(identity).intended_after
        self._record({"event": "intent", "row": identity, "after": after if first is None else first})

    def withdraw(self, identity: str) -> None:
        """Record that the submission that was intended last has made no job: it was refused, or not sent."""
        if self.row(identity).tries:
            self._record({"event": "refused", "row": identity}, sync=False)

    def unclear(self, identity: str) -> None:
        """Record that the answer to a submission made no sense."""
        self._record({"event": "unclear", "row": identity}, sync=False)

    def submitted(self, identity: str, job_id: int, *, is_listed: bool = False) -> None:
        """Record a row's job; one that a listing shows is found there again if the line is lost."""
        if self.row(identity).job_id != job_id:
            self._record({"event": "job", "row": identity, "job_id": job_id}, sync=not is_listed)

    def given_up(self) -> set[int]:
        """Return the jobs that rows had, that were lost, and that no row has now."""
        return self._given_up - {row.job_id for row in self._rows.values()} if self._given_up else set()

    def forget_job(self, identity: str, *, is_asked_for: bool = False) -> None:
        """Record that a row's job is of no more use and it needs another, which may have its names.

        With `is_asked_for` because the user has asked for a new one in the place of one that failed.
        """
        self._record({"event": "job", "row": identity, "job_id": None, "asked_for": is_asked_for})

    def disown(self, identity: str, job_id: int) -> None:
        """Record that a job which was thought to be a row's is another's."""
        self._record({"event": "job", "row": identity, "job_id": None, "disowned": job_id})

    def missed(self, identity: str, most: int) -> None:
        """Record a listing without a row's job, or without an answer to its intent; at most so many."""
        if self.row(identity).missed < most:
            self._record({"event": "missed", "row": identity}, sync=False)

    def listed(self, identity: str) -> None:
        """Record that a row's job is listed again."""
        if self.row(identity).missed:
            self._record({"event": "listed", "row": identity}, sync=False)

    def changed(self, identity: str, job_id: int, state: str) -> None:
        """Record a change of state."""
        if self.row(identity).state != state:
            self._record({"event": "state", "row": identity, "job_id": job_id, "state": state}, sync=False)

    def finished(self, identity: str, job_id: int, fetched: FetchedProduct) -> None:
        """Record what a row's job has brought, and write its verified files into ``SHA1SUMS``."""
        described = [describe(self.place.directory, file) for file in fetched.files]
        entry: dict[str, object] = {
            "event": "complete",
            "row": identity,
            "job_id": job_id,
            "files": described,
        }
        if fetched.elsewhere:
            entry["elsewhere"] = list(fetched.elsewhere)
        self._learn({**entry, "service": self._service}, json.dumps(entry))
        # SHA1SUMS first: a row that the ledger calls complete is not looked at again.
        self._sums.add(self._verified_in(self.row(identity)), self._lost, self._verified)
        self._lost.clear()
        self._append(entry)

    def _verified(self) -> dict[str, str]:
        """Return the names and SHA-1s of all our verified files."""
        return {name: sha1 for row in self._rows.values() for name, sha1 in self._verified_in(row).items()}

    def _record(self, entry: dict[str, object], *, sync: bool = True) -> None:
        self._learn(self._append(entry, sync=sync))

    def _append(self, event: dict[str, object], *, sync: bool = True) -> dict[str, object]:
        """Add a line; without `sync` it comes to the disk with the next one.

        A listing can change the states of a thousand jobs at once, and the next one tells them again.
        """
        self.guard()
        entry = {"time": time.strftime(TIME, time.gmtime(self._now())), "service": self._service, **event}
        line = json.dumps(entry) + "\n"
        with self._writing, disk_errors(self._path), memoryview(line.encode("utf-8")) as rest:
            self._mend_torn_line()
            written = 0
            while written < len(rest):
                written += os.write(self._file, rest[written:])
            if sync:
                os.fsync(self._file)
        return entry

    def _learn(self, entry: dict[str, object], line: str = "") -> None:
        """Take over what an entry says; `line` is its text."""
        event, job_id, identity, brought = entry.get("event"), entry.get("job_id"), entry.get("row"), None
        if event in ("name", "placing", "complete"):
            brought = Brought(self.place.directory, line)
            self._learn_names(entry, brought)
        if entry.get("service") != self._service or not isinstance(identity, str):
            return
        if job_id is not None and type(job_id) is not int:  # Nor a boolean.
            return  # Taken for none, it would be a reason to submit the row once more.
        row = self._rows.get(identity)
        if row is None:
            row = self._rows[identity] = RowRecord()
        if event == "state":
            row.state = sys.intern(str(entry.get("state")))
        elif event == "job" and "job_id" in entry:
            self._learn_job(row, entry, job_id)
        elif event == "intent":
            after = entry.get("after")
            row.intend(after if isinstance(after, int) else 0, _time(entry.get("time")))
        elif event == "complete":
            row.job_id = row.job_id if job_id is None else job_id
            self._learn_complete(row, entry, brought)
        elif event == "refused":
            row.withdraw()
        elif event == "unclear":
            row.unclear += 1
        elif event == "missed":
            row.miss(_time(entry.get("time")))
        elif event == "listed":
            row.missed, row.missed_since = 0, None

    def _learn_names(self, entry: dict[str, object], brought: Brought) -> None:
        """Take over which name is whose, for jobs of every service."""
        job_id = entry.get("job_id")
        if not isinstance(job_id, int):
            return
        if entry.get("event") == "name":
            name = _on_disk(str(entry.get("name")))
            if name is not None:
                self.place.names.learn(name, job_id, str(entry.get("service")))
        else:
            self.place.names.remember_unread(_names_in(entry), job_id, brought.under)

    def _learn_job(self, row: RowRecord, entry: dict[str, object], job_id: int | None) -> None:
        if job_id is None:
            if row.job_id is not None and "disowned" not in entry:
                self._given_up.add(row.job_id)
            self.place.names.release(row.job_id)
            row.renewals += entry.get("asked_for") is True
            row.disowned += "disowned" in entry
        row.attach(job_id)

    def _learn_complete(self, row: RowRecord, entry: dict[str, object], brought: Brought | None) -> None:
        if row.brought is not None:
            # Names that were its own and are no more belonged to a product that had to be made anew.
            self._lost |= self._verified_in(row).keys()
        row.brought, row.completed_at = brought, _time(entry.get("time"))

    def _name_of(self, file: FetchedFile) -> str:
        return file.path.relative_to(self.place.directory).as_posix()

    def _verified_in(self, row: RowRecord) -> dict[str, str]:
        fetched = row.fetched
        files = () if fetched is None else fetched.files
        return {self._name_of(file): file.sha1 for file in files if file.verified}

    def _refuse_to_mix(self, were_practice: set[bool]) -> None:
        """Keep practice products and real ones apart: nobody could tell them from each other."""
        if were_practice and were_practice != {self._service == PRACTICE}:
            used_for = "practice in the sandbox" if True in were_practice else "real products"
            raise DirectoryUnusable(
                f"{self.place.directory} was used for {used_for}; the two are kept apart.",
                "Choose another directory with --dir.",
            )

    def _mend_torn_line(self) -> None:
        """End a last line that a crash or a full disk has cut off, so that the next starts on its own."""
        length = os.fstat(self._file).st_size
        if length and os.pread(self._file, 1, length - 1) != b"\n":
            os.write(self._file, b"\n")


def _names_in(entry: dict[str, object]) -> set[str]:
    """Return under which names of the directory the files of an entry stand."""
    files = entry.get("files")
    described = files if isinstance(files, list) else []
    names = [file.get("name") for file in described if isinstance(file, dict)]
    tops = [name.partition("/")[0] for name in names if isinstance(name, str)]
    return {name for name in map(_on_disk, tops) if name is not None}


def _on_disk(name: str) -> str | None:
    try:
        return name_on_disk(name)
    except UnicodeEncodeError:
        return None  # No file can be called so.


def _time(value: object) -> float | None:
    return _time_of(value) if isinstance(value, str) else None


# Many lines are of the same second.
_time_of = lru_cache(maxsize=1024)(read_time)


@contextmanager
def _nothing_thrown_away() -> Iterator[None]:
    """Keep Python from looking for garbage: where all is kept, that takes a fifth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
