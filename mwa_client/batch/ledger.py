"""What the download directory remembers: which row has which job, and which files are verified.

Each fact is a line of ``DIR/.mwa_client/ledger.jsonl`` (see `LedgerFiles`). What a line says is learnt in one
place, whether it was read from the file or has just been written (`Ledger._learn`).
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any, Callable

from mwa_client.batch.estimate import Waits
from mwa_client.batch.ledger_file import entry_time
from mwa_client.batch.ledger_files import LedgerFiles
from mwa_client.batch.records import CommandRecord, FetchedProduct, RowRecord, UnreadProduct
from mwa_client.directory.disk import disk_errors
from mwa_client.directory.names import name_in_text, name_on_disk
from mwa_client.directory.our_files import state_directory
from mwa_client.directory.part import Part
from mwa_client.directory.sums import Sha1Sums
from mwa_client.errors import DirectoryUnusable, DiskFull, MwaClientError
from mwa_client.secrecy import hide
from mwa_client.transfer.files import (
    DownloadDirectory,
    ExpectedFile,
    FetchedFile,
    FetchedFolder,
    FinalNames,
    describe,
)

STATE_DIR = ".mwa_client"
"""The folder of the download directory in which everything but the products stands."""
TIME = "%Y-%m-%dT%H:%M:%SZ"
MOST_NAMES, MOST_TEXT = 100, 1000
"""Names of files, and characters of a text, that an entry which is only for people has at most."""
OBSERVATION = re.compile(r"\bobs_id=([0-9]+)")
"""Where the identity of a row names its observation."""
PRACTICE = "sandbox"
"""The service's name in the ledger while practising."""


class Ledger:
    """The memory of one download directory, for one service.

    Each ``record_`` method has the name of the event that it appends; a fact that is known is not appended.

    Parameters
    ----------
    directory : Path
        The download directory. It is made if it is missing.
    service : str
        The service's name. What another service has done is kept, but does not count here.
    check_lock : callable
        Raises `DirectoryBusy` if another client works in the directory; called before each new line.
    now : callable
        The time, in seconds since 1970.
    part : Part, optional
        The part of the batch that this client works on, while others may work on other parts. Default is that
        it works alone in the directory.

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
        check_lock: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
        part: Part | None = None,
    ) -> None:
        is_shared = part is not None
        names = FinalNames(service, lambda entry: self._append(entry, sync=False), is_shared=is_shared)
        self.place = DownloadDirectory(directory, directory / STATE_DIR, check_lock, names)
        self.check_lock = check_lock
        self._now = now
        self._begun = _as_text(now())
        self._service = service
        self._part = part
        self._file = LedgerFiles(self.place.state_dir, part)
        self._rows: dict[str, RowRecord] = {}
        self._commands: dict[tuple[int, str], CommandRecord] = {}
        self._given_up: dict[int, str] = {}
        self._sums = Sha1Sums(directory, self.place.state_dir, is_shared=is_shared)
        self._lost: set[str] = set()
        self.waits = Waits()
        state_directory(self.place.state_dir)
        self._read()
        with disk_errors(self._file.path):
            self._sums.check()  # Fail now rather than after hours of work, if SHA1SUMS cannot be written.
        self._file.open()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def row(self, identity: str) -> RowRecord:
        """Return what is recorded about a row, which is identified by what it asks for."""
        return self._rows.get(identity) or RowRecord()

    def fetched(self, identity: str, job_id: int | None) -> FetchedProduct | None:
        """Return the fetched product of a row's job, wherever it is now; None where it is not complete."""
        row = self.row(identity)
        return row.fetched if job_id is not None and row.job_id == job_id else None

    def record_intent(self, identity: str, after: int) -> None:
        """Record that a row is about to be submitted, when the highest job id listed is `after`."""
        first = self.row(identity).intended_after
        self._record({"event": "intent", "row": identity, "after": after if first is None else first})

    def record_refused(self, identity: str) -> None:
        """Record that the latest submission has made no job: it was refused, or it was never sent."""
        if self.row(identity).tries:
            self._record({"event": "refused", "row": identity}, sync=False)

    def record_unclear(self, identity: str) -> None:
        """Record that the answer to a submission made no sense."""
        self._record({"event": "unclear", "row": identity}, sync=False)

    def record_job(self, identity: str, job_id: int, *, is_listed: bool = False) -> None:
        """Record a row's job; with `is_listed` unsynced, as a listing has the job if the line is lost."""
        if self.row(identity).job_id != job_id:
            self._record({"event": "job", "row": identity, "job_id": job_id}, sync=not is_listed)

    def jobs_given_up(self) -> set[int]:
        """Return the jobs that our rows once had, that have been given up, and that no row has now."""
        if not self._given_up:
            return set()
        ours = {job_id for job_id, identity in self._given_up.items() if self._is_ours(identity)}
        return ours - {row.job_id for row in self._rows.values()}

    def record_job_given_up(self, identity: str, *, is_asked_for: bool = False) -> None:
        """Record that a row's job will bring nothing and the row needs another, which may use the same names.

        With `is_asked_for`, because the user has asked to resubmit a job that failed.
        """
        self._record({"event": "job", "row": identity, "job_id": None, "asked_for": is_asked_for})

    def record_job_disowned(self, identity: str, job_id: int) -> None:
        """Record that the job a row was attached to was listed with other parameters, so it is another's."""
        self._record({"event": "job", "row": identity, "job_id": None, "disowned": job_id})

    def record_missed(self, identity: str, most: int) -> None:
        """Record a listing without a row's job, or one that answers its submission; `most` at most."""
        if self.row(identity).missed < most:
            self._record({"event": "missed", "row": identity}, sync=False)

    def record_listed(self, identity: str) -> None:
        """Record that a row's job is listed again."""
        if self.row(identity).missed:
            self._record({"event": "listed", "row": identity}, sync=False)

    def record_state(self, identity: str, job_id: int, state: str, completed_at: float | None = None) -> None:
        """Record a change of state, and when the job was completed, where the service says so."""
        if self.row(identity).state != state:
            when = {} if completed_at is None else {"completed": _as_text(completed_at)}
            about = {"row": identity, "job_id": job_id, "state": state}
            self._record({"event": "state", **about, **when}, sync=False)

    def record_downloading(
        self, identity: str, job_id: int, files: Iterable[ExpectedFile], to_come: int
    ) -> None:
        """Record that the download of a row's product begins, and how many bytes are to come.

        A download that a kill has cut off has no end here; the time at which the run began tells that the
        downloads of earlier runs are over.
        """
        described = [{"name": name_in_text(file.name), "size": file.size} for file in files]
        about = {"files": described[:MOST_NAMES], "to_come": to_come, "run": self._begun}
        self._remark({"event": "downloading", "row": identity, "job_id": job_id, **about})

    def record_failed(self, identity: str, job_id: int | None, error: MwaClientError) -> None:
        """Record why a row has failed, unless that is what was recorded last."""
        what, remedy = hide(error.what)[:MOST_TEXT], hide(error.remedy)[:MOST_TEXT]
        if self.row(identity).failure != what:
            about = {"message": what, "remedy": remedy}
            self._remark({"event": "failed", "row": identity, "job_id": job_id, **about})

    def _remark(self, entry: dict[str, object]) -> None:
        """Record what is only for people to read: no run ends because there is no room for it."""
        with suppress(DiskFull, DirectoryUnusable):
            self._record(entry, sync=False)

    def record_complete(self, identity: str, job_id: int, fetched: FetchedProduct) -> None:
        """Record the fetched product of a row's job, and write its verified files into ``SHA1SUMS``."""
        described = [describe(self.place.path, file) for file in fetched.files]
        entry: dict[str, object] = {
            "event": "complete",
            "row": identity,
            "job_id": job_id,
            "files": described,
        }
        if fetched.elsewhere:
            entry["elsewhere"] = list(fetched.elsewhere)
        if fetched.refused:
            entry["refused"] = [list(astuple(refusal)) for refusal in fetched.refused]
        self._learn({**entry, "service": self._service}, json.dumps(entry))
        # SHA1SUMS first: a row that the ledger calls complete is not looked at again.
        lost = self._lost - self._folders() if self._lost else self._lost
        self._sums.add(self._verified_in(self.row(identity)), lost, self._verified, self._sums_of(fetched))
        self._lost.clear()
        self._append(entry)

    def command(self, job_id: int | None, fingerprint: str) -> CommandRecord | None:
        """Return what is recorded about the user's command for a product; None where it was never begun."""
        return self._commands.get((job_id or 0, fingerprint))

    def record_command(
        self, identity: str, job_id: int, fingerprint: str, digest: str, status: int | None
    ) -> None:
        """Record that the user's command begins for a product (`status` is None), or how it has ended."""
        about = {"product": fingerprint, "command": digest, "status": status}
        self._record({"event": "then", "row": identity, "job_id": job_id, **about})

    def record_no_command(self, identity: str, job_id: int, fingerprint: str) -> None:
        """Record that the user's command that was recorded as begun was not begun after all."""
        about = {"product": fingerprint, "begun": False}
        self._record({"event": "then", "row": identity, "job_id": job_id, **about})

    def record_waiting(self, identity: str, job_id: int | None) -> None:
        """Record that a product is here, and the user's command for it waits for its turn."""
        self._remark({"event": "waiting", "row": identity, "job_id": job_id})

    def _verified(self) -> dict[str, str]:
        """Return the names and SHA-1s of all our verified files."""
        ours = [row for identity, row in self._rows.items() if self._is_ours(identity)]
        return {name: sha1 for row in ours for name, sha1 in self._verified_in(row).items()}

    def _is_ours(self, identity: str) -> bool:
        """Say whether a row is of our part: what we know of another part's may be out of date."""
        if self._part is None:
            return True
        found = OBSERVATION.search(identity)
        return found is not None and int(found[1]) in self._part.observations

    def complete_folders(self) -> set[tuple[int, str]]:
        """Return the job and the name of each product that was unpacked and is complete."""
        return {
            (row.job_id or 0, name_in_text(file.path.name))
            for row in self._rows.values()
            for file in (row.fetched.files if row.fetched is not None else ())
            if isinstance(file, FetchedFolder)
        }

    def _folders(self) -> set[str]:
        """Return the names of all our verified folders: the lines of what is in them stay."""
        return {name for row in self._rows.values() for name in self._verified_in(row, FetchedFolder)}

    def _sums_of(self, fetched: FetchedProduct) -> dict[str, Path]:
        """Return where the checksums of the files in new folders are, by the folders' names."""
        folders = (file for file in fetched.files if isinstance(file, FetchedFolder) and file.verified)
        return {self._name_of(folder): folder.sums for folder in folders if folder.sums is not None}

    def _read(self) -> None:
        """Learn what earlier runs have recorded."""
        were_practice: set[bool] = set()

        def take(entry: dict[str, Any], line: str) -> None:
            self._learn(entry, line)
            if entry.get("service") is not None:
                were_practice.add(entry["service"] == PRACTICE)

        self._file.read(take)
        self._refuse_to_mix(were_practice)

    def _record(self, entry: dict[str, object], *, sync: bool = True) -> None:
        self._learn(self._append(entry, sync=sync))

    def _append(self, event: dict[str, object], *, sync: bool = True) -> dict[str, object]:
        """Add a line, unless another client has taken over; without `sync` it is flushed with a later one.

        States are not synced: a listing can change a thousand at once, and the next listing has them again.
        """
        self.check_lock()
        entry = {"time": _as_text(self._now()), "service": self._service, **event}
        self._file.append(entry, sync=sync)
        return entry

    def _learn(self, entry: dict[str, object], line: str = "") -> None:
        """Learn what an entry says; `line` is its text."""
        event, job_id, identity, product = entry.get("event"), entry.get("job_id"), entry.get("row"), None
        if event in ("name", "placing", "complete"):
            product = UnreadProduct(self.place.path, line)
            self._learn_names(entry, product)
        if entry.get("service") != self._service or not isinstance(identity, str):
            return
        if job_id is not None and type(job_id) is not int:  # Nor a boolean.
            return  # Taken for none, it would be a reason to submit the row once more.
        row = self._rows.get(identity)
        if row is None:
            row = self._rows[identity] = RowRecord()
        row.failure = str(entry.get("message")) if event == "failed" else ""
        self.waits.take(entry, identity)
        if event == "state":
            row.state = sys.intern(str(entry.get("state")))
        elif event == "job" and "job_id" in entry:
            self._learn_job(row, entry, job_id)
        elif event == "intent":
            after = entry.get("after")
            row.note_intent(after if isinstance(after, int) else 0, entry_time(entry))
        elif event == "complete":
            row.job_id = row.job_id if job_id is None else job_id
            self._learn_complete(row, entry, product)
        elif event == "then" and job_id is not None:
            self._learn_command(entry, job_id)
        elif event == "refused":
            row.note_refused()
        elif event == "unclear":
            row.unclear += 1
        elif event == "missed":
            row.note_missed(entry_time(entry))
        elif event == "listed":
            row.missed, row.missed_since = 0, None

    def _learn_names(self, entry: dict[str, object], product: UnreadProduct) -> None:
        """Learn which job has which name in the directory, for jobs of every service."""
        job_id = entry.get("job_id")
        if not isinstance(job_id, int):
            return
        if entry.get("event") == "name":
            name = _on_disk(str(entry.get("name")))
            if name is not None:
                self.place.names.learn(name, job_id, str(entry.get("service")))
        else:
            self.place.names.remember_unread(_names_in(entry), job_id, product.under)

    def _learn_job(self, row: RowRecord, entry: dict[str, object], job_id: int | None) -> None:
        if job_id is None:
            if row.job_id is not None and "disowned" not in entry:
                self._given_up[row.job_id] = str(entry.get("row"))
            self.place.names.release(row.job_id)
            row.renewals += entry.get("asked_for") is True
            row.disowned += "disowned" in entry
        row.note_job(job_id)

    def _learn_complete(
        self, row: RowRecord, entry: dict[str, object], product: UnreadProduct | None
    ) -> None:
        if row.product is not None and self._is_ours(str(entry.get("row"))):
            # The row had a product before, which had to be made anew: its names may be no longer in use.
            self._lost |= self._verified_in(row).keys() | self._verified_in(row, FetchedFolder).keys()
        row.product, row.completed_at = product, entry_time(entry)

    def _learn_command(self, entry: dict[str, object], job_id: int) -> None:
        product, status = (job_id, str(entry.get("product"))), entry.get("status")
        if entry.get("begun") is False:
            self._commands.pop(product, None)
            return
        known = CommandRecord(str(entry.get("command")), status if type(status) is int else None)
        self._commands[product] = known

    def _name_of(self, file: FetchedFile) -> str:
        return file.path.relative_to(self.place.path).as_posix()

    def _verified_in(self, row: RowRecord, kind: type[FetchedFile] = FetchedFile) -> dict[str, str]:
        """Return the names and SHA-1s of a row's verified files, or of what is of another kind."""
        fetched = row.fetched
        files = () if fetched is None else fetched.files
        return {self._name_of(file): file.sha1 for file in files if file.verified and type(file) is kind}

    def _refuse_to_mix(self, were_practice: set[bool]) -> None:
        """Refuse to put practice products and real ones into one directory: nobody could tell them apart."""
        if were_practice and were_practice != {self._service == PRACTICE}:
            used_for = "practice in the sandbox" if True in were_practice else "real products"
            raise DirectoryUnusable(
                f"{self.place.path} was used for {used_for}; the two are kept apart.",
                "Choose another directory with --dir.",
            )


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


def _as_text(moment: float) -> str:
    return time.strftime(TIME, time.gmtime(moment))
