"""What the download directory remembers, as it is written down: each fact is a line of a file.

The file is ``DIR/.mwa_client/ledger.jsonl`` (see `LedgerFiles`); `batch/entries.py` says what its lines mean.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import Callable

from mwa_client.batch.entries import MOST_NAMES, READ_AGAIN, time_as_text
from mwa_client.batch.ledger_files import LedgerFiles
from mwa_client.batch.memory import Memory
from mwa_client.batch.records import FetchedProduct
from mwa_client.batch.rows import LABELS, Stage
from mwa_client.directory.disk import disk_errors
from mwa_client.directory.names import name_in_text
from mwa_client.directory.our_files import state_directory
from mwa_client.directory.part import Part
from mwa_client.directory.sums import Sha1Sums
from mwa_client.errors import DirectoryUnusable, DiskFull, MwaClientError
from mwa_client.secrecy import hide
from mwa_client.transfer.files import (
    DownloadDirectory,
    ExpectedFile,
    FetchedFolder,
    FinalNames,
    describe,
)

STATE_DIR = ".mwa_client"
"""The folder of the download directory in which everything but the products stands."""
MOST_TEXT = 1000
"""Characters of a text that an entry which is only for people has at most."""
PRACTICE = "sandbox"
"""The service's name in the ledger while practising."""


class Ledger(Memory):
    """The memory of one download directory, for one service, and the file that keeps it.

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
        place = DownloadDirectory(directory, directory / STATE_DIR, check_lock, names)
        super().__init__(place, service, part)
        self.check_lock = check_lock
        self._now = now
        self._begun = time_as_text(now())
        self._file = LedgerFiles(self.place.state_dir, part)
        self._commands_begun: dict[tuple[int, str], int] = {}
        self._sums = Sha1Sums(directory, self.place.state_dir, is_shared=is_shared, guard=check_lock)
        state_directory(self.place.state_dir)
        self._read()
        with disk_errors(self._file.path):
            self._sums.check()  # Fail now rather than after hours of work, if SHA1SUMS cannot be written.
        self._file.open()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

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
            when = {} if completed_at is None else {"completed": time_as_text(completed_at)}
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

    def record_complete(
        self, identity: str, job_id: int, fetched: FetchedProduct, *, waits: bool = False
    ) -> None:
        """Record the fetched product of a row's job, and write its verified files into ``SHA1SUMS``.

        With `waits`, the user's command is still to be run for it.
        """
        entry = {"event": "complete", "row": identity, "job_id": job_id, **self._described(fetched)}
        if waits:
            entry["waits"] = True
        self.learn({**entry, "service": self._service}, json.dumps(entry))
        # SHA1SUMS first: a row that the ledger calls complete is not looked at again.
        lost = self._lost - self._folders() if self._lost else self._lost
        self._sums.add(self._verified_in(self.row(identity)), lost, self._verified, self._sums_of(fetched))
        self._lost.clear()
        self._append(entry)

    def record_read(self, identity: str, job_id: int, fetched: FetchedProduct) -> None:
        """Record what a product has turned out to be that was read again."""
        entry = {"event": READ_AGAIN, "row": identity, "job_id": job_id, **self._described(fetched)}
        self._append(entry)
        self.learn({**entry, "service": self._service}, json.dumps(entry))

    def record_command(
        self, identity: str, job_id: int, fingerprint: str, digest: str, status: int | None
    ) -> None:
        """Record that the user's command begins for a product (`status` is None), or how it has ended.

        The end of what was done is recorded also where there is no room for one more line.
        """
        about = {"row": identity, "job_id": job_id, "product": fingerprint, "command": digest}
        self.check_lock()
        entry = self._entry({"event": "then", **about, "status": status})
        begun = self._commands_begun.pop((job_id, fingerprint), 0)
        try:
            end = self._file.append(entry, sync=True)
        except DiskFull:
            if status is None or not self._file.fill_in(begun, status):
                raise
        else:
            self._commands_begun[job_id, fingerprint] = end
        self.learn(entry)

    def record_no_command(self, identity: str, job_id: int, fingerprint: str) -> None:
        """Record that the user's command that was recorded as begun was not begun after all."""
        about = {"product": fingerprint, "begun": False}
        self._record({"event": "then", "row": identity, "job_id": job_id, **about})

    def record_waiting(self, identity: str, job_id: int | None) -> None:
        """Record that a product is here, and the user's command for it waits for its turn."""
        if self.row(identity).label != LABELS[Stage.ARRIVED]:
            self._remark({"event": "waiting", "row": identity, "job_id": job_id})

    def record_settled(self, identity: str, job_id: int | None, *, has_followed: bool) -> None:
        """Record that a row is complete, and whether its command was successful, unless that is known.

        The command may have failed, say, and this run has none; or it was run for another row with that job.
        """
        row = self.row(identity)
        if row.label != LABELS[Stage.COMPLETE] or row.has_followed != has_followed:
            about = {"row": identity, "job_id": job_id, "followed": has_followed}
            self._remark({"event": "settled", **about})

    def _described(self, fetched: FetchedProduct) -> dict[str, object]:
        """Return a product as an entry has it."""
        about: dict[str, object] = {"files": [describe(self.place.path, file) for file in fetched.files]}
        if fetched.elsewhere:
            about["elsewhere"] = list(fetched.elsewhere)
        if fetched.refused:
            about["refused"] = [list(astuple(refusal)) for refusal in fetched.refused]
        if fetched.known_as:
            about["known_as"] = fetched.known_as
        return about

    def _sums_of(self, fetched: FetchedProduct) -> dict[str, Path]:
        """Return where the checksums of the files in new folders are, by the folders' names."""
        folders = (file for file in fetched.files if isinstance(file, FetchedFolder) and file.verified)
        return {self._name_of(folder): folder.sums for folder in folders if folder.sums is not None}

    def _read(self) -> None:
        """Learn what earlier runs have recorded."""
        self._file.read(self.learn)
        self._refuse_to_mix()

    def _record(self, entry: dict[str, object], *, sync: bool = True) -> None:
        self.learn(self._append(entry, sync=sync))

    def _append(self, event: dict[str, object], *, sync: bool = True) -> dict[str, object]:
        """Add a line, unless another client has taken over; without `sync` it is flushed with a later one.

        States are not synced: a listing can change a thousand at once, and the next listing has them again.
        """
        self.check_lock()
        entry = self._entry(event)
        self._file.append(entry, sync=sync)
        return entry

    def _entry(self, event: dict[str, object]) -> dict[str, object]:
        return {"time": time_as_text(self._now()), "service": self._service, **event}

    def _refuse_to_mix(self) -> None:
        """Refuse to put practice products and real ones into one directory: nobody could tell them apart."""
        is_practice = self._service == PRACTICE
        if any((service == PRACTICE) != is_practice for service in self._other_services):
            used_for = "real products" if is_practice else "practice in the sandbox"
            raise DirectoryUnusable(
                f"{self.place.path} was used for {used_for}; the two are kept apart.",
                "Choose another directory with --dir.",
            )
