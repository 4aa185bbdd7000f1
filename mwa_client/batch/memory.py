"""What a ledger tells a run: which row has which job, what has been fetched, and which commands were run.

What a line says is learnt in one place, whether it was read from the file or has just been written.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection

from mwa_client.batch.entries import (
    READ_AGAIN,
    STATE_OF_JOB,
    as_on_disk,
    entry_time,
    followed_after,
    label_after,
    names_in,
    since,
)
from mwa_client.batch.estimate import Waits
from mwa_client.batch.records import CommandRecord, FetchedProduct, RowRecord, UnreadProduct
from mwa_client.directory.names import name_in_text
from mwa_client.directory.part import Part
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.request import identity_asked_for
from mwa_client.transfer.files import DownloadDirectory, FetchedFile, FetchedFolder

OBSERVATION = re.compile(r"\bobs_id=([0-9]+)")
"""Where the identity of a row names its observation."""
BY_JOB = re.compile("job [0-9]+")
"""The identity of a row that is known by its job alone."""
_MAKING = ("placing", "complete", READ_AGAIN)
"""The events that say what we have put into the directory."""


class Memory:
    """What is known of the rows of one download directory, for one service.

    Parameters
    ----------
    place : DownloadDirectory
        The directory. Which job has which name there is learnt for it, too.
    service : str
        The service's name. What another service has done does not count.
    part : Part, optional
        The part of the batch that this client works on; default is that it works alone in the directory.

    Attributes
    ----------
    place : DownloadDirectory
        The directory.
    waits : Waits
        How long jobs have taken.
    """

    def __init__(self, place: DownloadDirectory, service: str, part: Part | None = None) -> None:
        self.place = place
        self.waits = Waits()
        self._service = service
        self._part = part
        self._rows: dict[str, RowRecord] = {}
        self._commands: dict[tuple[int, str], CommandRecord] = {}
        self._given_up: dict[int, str] = {}
        self._lost: set[str] = set()
        self._other_services: set[str] = set()

    def row(self, identity: str) -> RowRecord:
        """Return what is recorded about a row, which is identified by what it asks for."""
        return self._rows.get(identity) or RowRecord()

    def fetched(self, identity: str, job_id: int | None) -> FetchedProduct | None:
        """Return the fetched product of a row's job, wherever it is now; None where it is not complete."""
        row = self.row(identity)
        return row.fetched if job_id is not None and row.job_id == job_id else None

    def jobs_given_up(self) -> set[int]:
        """Return the jobs that our rows once had, that have been given up, and that no row has now."""
        if not self._given_up:
            return set()
        ours = {job_id for job_id, identity in self._given_up.items() if self._is_ours(identity)}
        return ours - {row.job_id for row in self._rows.values()}

    def jobs_of_others(self, asked: Collection[str], api: ApiVersion) -> set[int]:
        """Return the jobs of the rows that ask an interface for something else than these identities say.

        A row that is known by its job alone may ask for any of it.
        """
        return {
            row.job_id
            for identity, row in self._rows.items()
            if row.job_id is not None
            and identity_asked_for(identity, api) not in asked
            and not BY_JOB.fullmatch(identity)
        }

    def command(self, job_id: int | None, fingerprint: str) -> CommandRecord | None:
        """Return what is recorded about the user's command for a product; None where it was never begun."""
        return self._commands.get((job_id or 0, fingerprint))

    def complete_folders(self) -> set[tuple[int, str]]:
        """Return the job and the name of each product that was unpacked and is complete."""
        return {
            (row.job_id or 0, name_in_text(file.path.name))
            for row in self._rows.values()
            for file in (row.fetched.files if row.fetched is not None else ())
            if isinstance(file, FetchedFolder)
        }

    def learn(self, entry: dict[str, object], line: str = "") -> None:
        """Learn what an entry says; `line` is its text."""
        get = entry.get
        event, job_id, identity, product = get("event"), get("job_id"), get("row"), None
        is_state = event == STATE_OF_JOB  # Most are.
        if event == "name":
            self._learn_name(entry)
        elif not is_state and event in _MAKING:
            product = UnreadProduct(self.place.path, line)
            self._learn_made(entry, product)
        if (service := get("service")) != self._service:
            if service is not None:
                self._other_services.add(str(service))
            return
        if not isinstance(identity, str):
            return
        if job_id is not None and type(job_id) is not int:  # Nor a boolean.
            return  # Taken for none, it would be a reason to submit the row once more.
        row = self._rows.get(identity)
        if row is None:
            row = self._rows[identity] = RowRecord()
        label = label_after(entry)
        if is_state:
            row.failure = ""
            row.state = sys.intern(str(get("state")))
        else:
            row.failure = str(get("message")) if event == "failed" else ""
            row.has_followed = followed_after(entry, row.has_followed, row.label)
            self._learn_about_row(row, event, entry, job_id, product)
        if label:
            row.label = label
            at = entry_time(entry)
            if at is not None:
                self.waits.see(identity, since(entry, at), label)

    def _learn_about_row(
        self,
        row: RowRecord,
        event: object,
        entry: dict[str, object],
        job_id: int | None,
        product: UnreadProduct | None,
    ) -> None:
        """Learn what an entry says of a row besides the state of its job."""
        if event == "job" and "job_id" in entry:
            self._learn_job(row, entry, job_id)
        elif event == "intent":
            after = entry.get("after")
            row.note_intent(after if isinstance(after, int) else 0, entry_time(entry))
        elif event == "complete":
            row.job_id = row.job_id if job_id is None else job_id
            self._learn_complete(row, entry, product)
        elif event == READ_AGAIN and row.job_id == job_id:
            row.product = product
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

    def _learn_name(self, entry: dict[str, object]) -> None:
        """Learn which job has a name in the directory, for jobs of every service."""
        job_id, name = entry.get("job_id"), as_on_disk(str(entry.get("name")))
        if isinstance(job_id, int) and name is not None:
            self.place.names.learn(name, job_id, str(entry.get("service")))

    def _learn_made(self, entry: dict[str, object], product: UnreadProduct) -> None:
        """Learn under which names a job's files stand in the directory."""
        job_id = entry.get("job_id")
        if isinstance(job_id, int):
            self.place.names.remember_unread(names_in(entry), job_id, product.under)

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

    def _is_ours(self, identity: str) -> bool:
        """Say whether a row is of our part: what we know of another part's may be out of date."""
        if self._part is None:
            return True
        found = OBSERVATION.search(identity)
        return found is not None and int(found[1]) in self._part.observations

    def _verified(self) -> dict[str, str]:
        """Return the names and SHA-1s of all our verified files."""
        ours = [row for identity, row in self._rows.items() if self._is_ours(identity)]
        return {name: sha1 for row in ours for name, sha1 in self._verified_in(row).items()}

    def _folders(self) -> set[str]:
        """Return the names of all our verified folders: the lines of what is in them stay."""
        return {name for row in self._rows.values() for name in self._verified_in(row, FetchedFolder)}

    def _name_of(self, file: FetchedFile) -> str:
        return file.path.relative_to(self.place.path).as_posix()

    def _verified_in(self, row: RowRecord, kind: type[FetchedFile] = FetchedFile) -> dict[str, str]:
        """Return the names and SHA-1s of a row's verified files, or of what is of another kind."""
        fetched = row.fetched
        files = () if fetched is None else fetched.files
        return {self._name_of(file): file.sha1 for file in files if file.verified and type(file) is kind}
