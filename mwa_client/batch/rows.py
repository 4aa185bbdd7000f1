"""The rows of the job file on their way: where each stands, which job it has, how it ended.

A row's stage changes in one place, by named steps; a step that a row cannot take is an error. `Rows` counts
them, so that nobody has to look at thousands of rows to know how many stand where.
"""

from __future__ import annotations

import enum
import functools
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Callable, NamedTuple

from mwa_client.asvo.job import Job
from mwa_client.batch.events import Complete, RowFailed, RowName
from mwa_client.batch.records import Product
from mwa_client.batch.row_notes import Attempts, History, Watch
from mwa_client.errors import MwaClientError
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.listed import identity_of
from mwa_client.jobs.request import JobRequest
from mwa_client.light_dataclasses import dataclass


class Stage(enum.Enum):
    """Where a row stands in this program. What the service says of its job is another matter."""

    WANTED = "not submitted yet"
    SUBMITTING = "being submitted"
    CHECKING = "complete by an earlier run; its bytes are read again"
    WATCHED = "at the service"
    READY = "ready for download"
    DOWNLOADING = "being downloaded"
    ARRIVED = "complete, and its command is to be run"
    FOLLOWED = "complete, and its command is running"
    COMPLETE = "complete"
    FAILED = "failed"

    # An enum's own hash is written in Python, and stages are looked up all the time.
    __hash__ = object.__hash__


AT_WORK = (Stage.SUBMITTING, Stage.CHECKING, Stage.DOWNLOADING, Stage.ARRIVED, Stage.FOLLOWED)
"""A worker has the row in hand, or will have as soon as one is free."""
SETTLED = (Stage.COMPLETE, Stage.FAILED)
"""Nothing more will happen to the row."""
_BEFORE_ARRIVAL = (Stage.WANTED, Stage.CHECKING, Stage.WATCHED, Stage.DOWNLOADING)

STEPS: dict[str, tuple[tuple[Stage, ...], Stage]] = {
    "check": ((Stage.WANTED,), Stage.CHECKING),
    "submit": ((Stage.WANTED,), Stage.SUBMITTING),
    "defer": ((Stage.SUBMITTING,), Stage.WANTED),
    "attach": ((Stage.WANTED, Stage.CHECKING, Stage.SUBMITTING), Stage.WATCHED),
    "renew": ((Stage.WATCHED,), Stage.WANTED),
    "disown": ((Stage.WATCHED,), Stage.WANTED),
    "make ready": ((Stage.WANTED, Stage.CHECKING, Stage.WATCHED), Stage.READY),
    "download": ((Stage.READY,), Stage.DOWNLOADING),
    "put back": ((Stage.DOWNLOADING,), Stage.READY),
    "look again": ((Stage.DOWNLOADING,), Stage.WATCHED),
    "arrive": (_BEFORE_ARRIVAL, Stage.ARRIVED),
    "follow": ((Stage.ARRIVED,), Stage.FOLLOWED),
    "complete": ((*_BEFORE_ARRIVAL, Stage.ARRIVED, Stage.FOLLOWED), Stage.COMPLETE),
    "fail": (tuple(stage for stage in Stage if stage not in SETTLED), Stage.FAILED),
}
"""From where each step leads where."""
NOT_SUBMITTED = "Not submitted"
SUBMITTING, SUBMITTED = "Submitting", "Submitted"
"""States in words for people: it is not known yet whether the service has made a job; it has."""
LABELS = {
    Stage.CHECKING: "Reading again",
    Stage.DOWNLOADING: "Downloading",
    Stage.ARRIVED: "Waiting for the command",
    Stage.FOLLOWED: "Running the command",
    Stage.COMPLETE: "Download Complete",
    Stage.FAILED: "Error",
}
"""The states in words for people that this program gives, whatever the service says of the job."""


class Step(NamedTuple):
    """What a row was from a moment on, in words for people; the moment is in seconds since 1970."""

    at: float
    label: str


new_step: Callable[[tuple[float, str]], Step] = functools.partial(tuple.__new__, Step)
"""Makes a `Step` without the function in Python that a named tuple is made by: a ledger has a million."""


@dataclass(frozen=True)
class ListedJob:
    """A job that is at the service already, as a row: it is watched and fetched, never submitted.

    Attributes
    ----------
    identity : str
        What it asks for, where that can be read; it is known to the ledger by that.
    """

    job_id: int
    obs_id: int
    identity: str
    line: int = 0
    source: str = ""
    allow_resubmit: bool = False
    delivery: str = ""
    """Where it was asked to be delivered to; empty where the listing does not say."""

    @classmethod
    def of(cls, job: Job, api: ApiVersion) -> ListedJob:
        """Return a job of a listing as a row."""
        identity = None if job.job_type is None else identity_of(job.job_type, job.parameters, api)
        delivery = str(job.parameters.get("delivery") or "")
        return cls(job.job_id, job.obs_id or 0, identity or f"job {job.job_id}", delivery=delivery)


class Row:
    """One row of the job file and how far it has come. Only the loop's thread changes it.

    Attributes
    ----------
    request : JobRequest or ListedJob
        What is wanted.
    identity : str
        What it is known by to the ledger.
    place : int
        Which of all the rows it is, from 0.
    job : Job or None
        Its job, as the last listing that had it said.
    job_id : int or None
        The number of its job.
    attempts : Attempts
        Its submissions in this run.
    watch : Watch
        How its job is found in the listings.
    history : History
        What came before its present job.
    product : Product or None
        What is to be fetched, once the job is ready.
    arrived : Complete or None
        Its product, where a command is to be run for it.
    result : Complete or RowFailed or None
        How it ended.
    """

    def __init__(self, request: JobRequest | ListedJob, place: int, rows: Rows) -> None:
        self.request = request
        self.identity = request.identity
        self.place = place
        self.job: Job | None = None
        self.job_id: int | None = None
        self.attempts = Attempts()
        self.watch = Watch()
        self.history = History()
        self.product: Product | None = None
        self.arrived: Complete | None = None
        self.result: Complete | RowFailed | None = None
        self._rows = rows
        self._stage = Stage.WANTED
        self._state = NOT_SUBMITTED
        self._asked: dict[ApiVersion, str] = {}

    def asked_on(self, api: ApiVersion) -> str:
        """Return what an interface is asked for, as `identity_of` says it of a listed job."""
        if api not in self._asked:
            request = self.request
            self._asked[api] = request.identity_on(api) if isinstance(request, JobRequest) else self.identity
        return self._asked[api]

    @property
    def name(self) -> RowName:
        """Which row this is, for people."""
        return RowName(self.request.line, self.request.obs_id, self.job_id, self.request.source)

    @property
    def stage(self) -> Stage:
        """Where it stands."""
        return self._stage

    @property
    def label(self) -> str:
        """Its state in words for people: the stage says it, or the service."""
        return LABELS.get(self._stage, self._state)

    @property
    def to_come(self) -> int:
        """Bytes that are to be fetched."""
        return 0 if self.product is None else self.product.to_come

    @property
    def expires_at(self) -> float:
        """When its product is removed, in seconds since 1970; infinity where nobody says."""
        expires_at = None if self.job is None else self.job.expires_at
        return float("inf") if expires_at is None else expires_at

    def see_state(self, label: str) -> None:
        """Note the state of its job, in words for people."""
        before, self._state = self.label, label
        self._rows.relabel(before, self.label)

    # --- Steps ----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Take the step: a worker reads again what an earlier run has completed."""
        self._step("check")

    def submit(self) -> None:
        """Take the step: a worker is about to submit it."""
        self._step("submit")

    def defer(self) -> None:
        """Take the step: its submission came to nothing this time."""
        self._step("defer")

    def attach(self, job_id: int, now: float) -> None:
        """Take the step: it has a job at the service."""
        self._step("attach")
        self.job_id, self.watch = job_id, Watch(since=now)

    def renew(self) -> None:
        """Take the step: its job will bring nothing, and it needs another."""
        self._step("renew")
        self.history.was_renewed, self.history.lost_job = True, self.job_id
        self._let_go()

    def disown(self) -> None:
        """Take the step: the job that it was thought to have is another's."""
        self._step("disown")
        self._let_go()

    def make_ready(self, product: Product) -> None:
        """Take the step: its product can be fetched, or is here and can be unpacked."""
        if (
            self._stage in STEPS["make ready"][0]
        ):  # The step counts its bytes; a wrong one must not change them.
            self.product = product
        self._step("make ready")

    def download(self) -> None:
        """Take the step: a worker fetches its product."""
        self._step("download")

    def put_back(self) -> None:
        """Take the step: its product could not be fetched now, for want of room."""
        self._step("put back")

    def look_again(self, gone: MwaClientError) -> None:
        """Take the step: its product is gone, and the next listing tells what has become of its job."""
        self._state = self.label  # So that its state at the service is told once more.
        self._step("look again")
        self.watch.product_gone = gone

    def arrive(self, result: Complete) -> None:
        """Take the step: all of its product is here, and a command is to be run for it."""
        self._step("arrive")
        self.arrived = result

    def follow(self) -> None:
        """Take the step: the command is run."""
        self._step("follow")

    def complete(self, result: Complete) -> None:
        """Take the last step: all of its product is here."""
        self._step("complete")
        self.result = result

    def fail(self, result: RowFailed) -> None:
        """Take the last step: it cannot be completed."""
        self._step("fail")
        self.result = result

    def _let_go(self) -> None:
        self.job_id = self.job = None
        self.watch = Watch()
        self.history.has_earlier_job = False
        self.see_state(NOT_SUBMITTED)

    def _step(self, name: str) -> None:
        before, after = STEPS[name]
        if self._stage not in before:
            raise ValueError(f"line {self.request.line} is {self._stage.value}, no step from there: {name}")
        label = self.label
        self._rows.move(self, self._stage, after)
        self._stage = after
        self._rows.relabel(label, self.label)


class Rows:
    """All rows, in the order of the file, and how many stand where.

    Parameters
    ----------
    requests : iterable of JobRequest or ListedJob
        What is wanted, in order.

    Attributes
    ----------
    to_come : int
        Bytes that are missing of the products of all rows that are ready, as far as their sizes are known.
    """

    def __init__(self, requests: Iterable[JobRequest | ListedJob]) -> None:
        self._rows = [Row(request, place, self) for place, request in enumerate(requests)]
        self._at: dict[Stage, list[int]] = {stage: [] for stage in Stage}
        self._at[Stage.WANTED] = list(range(len(self._rows)))
        self._labels = Counter(row.label for row in self._rows)
        self._dropped: set[int] = set()
        self.to_come = 0

    def __len__(self) -> int:
        return len(self._rows) - len(self._dropped)

    def __iter__(self) -> Iterator[Row]:
        return (row for row in self._rows if row.place not in self._dropped)

    def at(self, stage: Stage) -> list[Row]:
        """Return the rows at a stage, in the order of the file."""
        return [self._rows[place] for place in self._at[stage]]

    def first_at(self, stage: Stage, most: int) -> list[Row]:
        """Return the first rows at a stage."""
        return [self._rows[place] for place in self._at[stage][:most]]

    def count(self, *stages: Stage) -> int:
        """Return how many rows are at these stages."""
        return sum(len(self._at[stage]) for stage in stages)

    @property
    def labels(self) -> tuple[tuple[str, int], ...]:
        """Each state in words for people, and the number of rows in it."""
        return tuple(self._labels.items())

    def drop(self, row: Row) -> None:
        """Forget a row that has no job: it has turned out to ask for the same as another one."""
        places = self._at[Stage.WANTED]
        del places[bisect_left(places, row.place)]
        self._dropped.add(row.place)
        self._forget_label(row.label)

    def move(self, row: Row, before: Stage, after: Stage) -> None:
        """Count a row at the stage to which its step leads. Only `Row` calls this."""
        places = self._at[before]
        del places[bisect_left(places, row.place)]
        insort(self._at[after], row.place)
        self.to_come += row.to_come * ((after is Stage.READY) - (before is Stage.READY))

    def relabel(self, before: str, after: str) -> None:
        """Count a row under its new label. Only `Row` calls this."""
        if before == after:
            return
        self._labels[after] += 1
        self._forget_label(before)

    def _forget_label(self, label: str) -> None:
        self._labels[label] -= 1
        if not self._labels[label]:
            del self._labels[label]
