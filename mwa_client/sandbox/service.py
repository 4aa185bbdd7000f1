"""The practice service itself: accounts, and jobs that pass through their states as time goes by.

It knows nothing of HTTP; the interfaces (``api_2018`` and others) speak for it.
"""

from __future__ import annotations

import enum
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .products import Content

EXPIRES_AFTER = 7 * 86400.0
"""Seconds from a product's being ready to its being deleted."""

FIRST_JOB_ID = 10001


class JobType(enum.Enum):
    """What a job asks for."""

    CONVERSION = "conversion"
    VISIBILITIES = "vis"
    METADATA = "vis_meta"


class JobState(enum.Enum):
    """Where a job stands."""

    QUEUED = "queued"
    PROCESSING = "processing"
    READY = "ready"
    ERROR = "error"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def has_product(self) -> bool:
        """Whether there is something to download."""
        return self is JobState.READY

    @property
    def has_ended(self) -> bool:
        """Whether there is not, and never will be again."""
        return self in (JobState.ERROR, JobState.EXPIRED, JobState.CANCELLED)


@dataclass(frozen=True)
class Job:
    """One job, as the service remembers it.

    Attributes
    ----------
    id : int
        Number of the job.
    type : JobType
        What was asked for.
    params : Mapping of str to str
        The keys and values of the submission.
    created : float
        When it was submitted, in seconds since 1970.
    size : int
        Length of its product in bytes.
    file_name : str
        Name of its product.
    fixed_state : JobState or None
        The state that it was put into; None while it follows the clock.
    error_text : str or None
        Why it failed.
    """

    id: int
    type: JobType
    params: Mapping[str, str]
    created: float
    size: int = 0
    file_name: str = ""
    fixed_state: JobState | None = None
    error_text: str | None = None

    @property
    def obs_id(self) -> str:
        """The observation that it is about."""
        return self.params["obs_id"]

    @property
    def content(self) -> Content:
        """The bytes of its product."""
        return Content(f"job {self.id}", self.size)


@dataclass(frozen=True)
class ListedProduct:
    """What a listing says about a product; `sha1` is None where it is not told."""

    name: str
    size: int
    sha1: str | None


@dataclass(frozen=True)
class Row:
    """What a listing says about a job.

    Attributes
    ----------
    job : Job
        The job.
    state : JobState or int or str
        Where it stands; a number or word is shown as it is (see the fault ``unknown_state``).
    product : ListedProduct or None
        Its product, when it is ready.
    hidden : bool
        Whether the listing leaves the job out.
    """

    job: Job
    state: JobState | int | str
    product: ListedProduct | None
    hidden: bool = False


class Service:
    """Accounts and jobs. Safe to use from several threads.

    Parameters
    ----------
    user, password : str
        The one account.
    seconds_per_state : float
        How long a job is queued, and then processing; 0 makes it ready at once.
    clock : Callable
        Gives seconds since 1970.
    product_size : Callable, optional
        Gives the size in bytes of a new job's product.
    state_file : Path, optional
        Where jobs are kept from one run to the next.

    Raises
    ------
    ValueError
        When `state_file` is there and does not hold jobs.
    """

    def __init__(
        self,
        *,
        user: str = "practice",
        password: str = "practice",
        seconds_per_state: float = 1.0,
        clock: Callable[[], float] = time.time,
        product_size: Callable[[Job], int] | None = None,
        state_file: Path | None = None,
    ) -> None:
        self.seconds_per_state = seconds_per_state
        self._account = (user, password)
        self._clock = clock
        self._product_size = product_size or default_product_size
        self._state_file = state_file
        self._lock = threading.RLock()
        self._sessions: frozenset[str] = frozenset()
        self._jobs: dict[int, Job] = {}
        self._next_id = FIRST_JOB_ID
        self._load()

    # --- Accounts ------------------------------------------------------------------------------------

    @property
    def sessions(self) -> frozenset[str]:
        """The tokens of those who are logged in."""
        return self._sessions

    def login(self, user: str, password: str) -> str | None:
        """Return a new session's token, or None when the account is not known."""
        if (user, password) != self._account:
            return None
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._sessions |= {token}
        return token

    def forget_sessions(self) -> None:
        """Log everybody out."""
        with self._lock:
            self._sessions = frozenset()

    # --- Jobs, for the interfaces --------------------------------------------------------------------

    def submit(self, type: JobType, params: Mapping[str, str]) -> Job:
        """Take a new job. The same thing asked for twice makes two jobs."""
        return self.add(params, type)

    def jobs(self) -> list[Job]:
        """Return every job, oldest first."""
        with self._lock:
            return list(self._jobs.values())

    def find(self, job_id: int | None) -> Job | None:
        """Return one job, or None when there is no such job."""
        return self._jobs.get(job_id) if job_id is not None else None

    def state(self, job: Job) -> JobState:
        """Return where a job stands now."""
        if job.fixed_state is not None:
            return job.fixed_state
        age = self._clock() - job.created
        ready_age = 2 * self.seconds_per_state
        if age < self.seconds_per_state:
            return JobState.QUEUED
        if age < ready_age:
            return JobState.PROCESSING
        return JobState.READY if age < ready_age + EXPIRES_AFTER else JobState.EXPIRED

    def row(self, job: Job) -> Row:
        """Return what an honest listing says about a job."""
        state = self.state(job)
        product = ListedProduct(job.file_name, job.size, job.content.sha1) if state.has_product else None
        return Row(job, state, product)

    def put(self, job: Job) -> None:
        """Remember a job, in the place of what was known of it."""
        with self._lock:
            self._jobs[job.id] = job
            self._save()

    # --- Jobs, for whoever sets the scene ------------------------------------------------------------

    def add(
        self,
        params: Mapping[str, str],
        type: JobType = JobType.CONVERSION,
        *,
        created: float | None = None,
        size: int | None = None,
        state: JobState | None = None,
        error_text: str | None = None,
    ) -> Job:
        """Put a job into the service, of any age, size and state.

        Parameters
        ----------
        params : Mapping of str to str
            The keys and values of the submission; ``obs_id`` must be among them.
        type : JobType, optional
            What the job asks for.
        created : float, optional
            When it was submitted, in seconds since 1970; now if left out.
        size : int, optional
            Size of its product in bytes.
        state : JobState, optional
            The state that it is in and stays in; it follows the clock if left out.
        error_text : str, optional
            Why it failed.
        """
        with self._lock:
            job = Job(
                id=self._next_id,
                type=type,
                params=dict(params),
                created=self._clock() if created is None else created,
                file_name=_file_name(type, params),
                fixed_state=state,
                error_text=error_text,
            )
            job = replace(job, size=self._product_size(job) if size is None else size)
            self._next_id += 1
            self.put(job)
            return job

    def cancel(self, job_id: int) -> None:
        """Cancel a job."""
        self._change(job_id, fixed_state=JobState.CANCELLED)

    def fail(self, job_id: int, text: str | None = "Practice error") -> None:
        """Let a job fail for the reason `text`."""
        self._change(job_id, fixed_state=JobState.ERROR, error_text=text)

    def expire(self, job_id: int) -> None:
        """Delete a job's product as too old."""
        self._change(job_id, fixed_state=JobState.EXPIRED)

    def hold(self, job_id: int, state: JobState) -> None:
        """Put a job into a state and keep it there."""
        self._change(job_id, fixed_state=state)

    def release(self, job_id: int) -> None:
        """Let a job follow the clock again."""
        self._change(job_id, fixed_state=None, error_text=None)

    def remove(self, job_id: int) -> None:
        """Forget that there was such a job."""
        with self._lock:
            del self._jobs[job_id]
            self._save()

    def _change(self, job_id: int, **changes: Any) -> None:
        with self._lock:
            self.put(replace(self._jobs[job_id], **changes))

    # --- From one run to the next --------------------------------------------------------------------

    def _load(self) -> None:
        if self._state_file is None or not self._state_file.exists():
            return
        try:
            document = json.loads(self._state_file.read_text(encoding="utf-8"))
            jobs = [_job_from_json(entry) for entry in document["jobs"]]
            self._next_id = int(document["next_id"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._state_file}: not a list of jobs ({error!r})") from error
        self._jobs = {job.id: job for job in jobs}

    def _save(self) -> None:
        if self._state_file is None:
            return
        jobs = [_job_to_json(job) for job in self._jobs.values()]
        self._state_file.parent.mkdir(parents=True, exist_ok=True)
        # A rename is all or nothing: a run that is killed here leaves the old file or the new one.
        draft = self._state_file.with_name(f"{self._state_file.name}.new")
        draft.write_text(json.dumps({"next_id": self._next_id, "jobs": jobs}), encoding="utf-8")
        draft.replace(self._state_file)


def default_product_size(job: Job) -> int:
    """Return a size in bytes: about 24 MB for a conversion, 16 MB for visibilities, 1 MB for metadata."""
    middle = {JobType.CONVERSION: 24_000_000, JobType.VISIBILITIES: 16_000_000, JobType.METADATA: 1_000_000}
    # A multiple of the id by a prime spreads the sizes over a fifth of the middle, and repeats on a rerun.
    spread = middle[job.type] // 5
    return middle[job.type] - spread // 2 + job.id * 7_919_783 % spread


def _file_name(type: JobType, params: Mapping[str, str]) -> str:
    kind = params.get("conversion", "ms") if type is JobType.CONVERSION else type.value
    return f"{params['obs_id']}_{kind}.zip"


def _job_to_json(job: Job) -> dict[str, Any]:
    fixed = job.fixed_state.value if job.fixed_state else None
    return {**asdict(job), "type": job.type.value, "fixed_state": fixed}


def _job_from_json(entry: dict[str, Any]) -> Job:
    fixed = entry["fixed_state"]
    return Job(**{**entry, "type": JobType(entry["type"]), "fixed_state": JobState(fixed) if fixed else None})
