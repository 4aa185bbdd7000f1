"""The practice service itself: accounts, and jobs that pass through their states as time goes by.

It knows nothing of HTTP; the interfaces (``endpoints_2018`` and others) speak for it.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

from .interfaces import Interface
from .jobs import (
    ListedProduct,
    ListingRow,
    PracticeJob,
    PracticeState,
    PracticeType,
    Times,
    usual_file_name,
)
from .options import EXPIRES_AFTER, ServiceOptions
from .state_file import StateFile

FIRST_JOB_ID = 10001
MOST_JOBS = 10_000
"""Jobs that can be submitted: other programs on this machine may try to fill its disk."""
MOST_SESSIONS = 1000


class AlreadyThere(Exception):
    """The same job exists, and has not failed, expired or been cancelled."""

    def __init__(self, job: PracticeJob) -> None:
        super().__init__(f"job {job.id}")
        self.job = job


class LimitReached(Exception):
    """The limit of unfinished jobs is reached."""


class PracticeService:
    """Accounts and jobs. Safe to use from several threads.

    Parameters
    ----------
    options : ServiceOptions
        The account and how its jobs behave.

    Attributes
    ----------
    seconds_per_state : float
        As in the options; can be changed.
    user : str
        Name of the account.
    job_limit : int or None
        As in the options; can be changed.
    logins : int
        How many logins succeeded.

    Raises
    ------
    ValueError
        The state file is there and does not hold jobs.
    """

    def __init__(self, options: ServiceOptions) -> None:
        self.seconds_per_state = options.seconds_per_state
        self.user = options.user
        self.job_limit = options.job_limit
        self.logins = 0
        self._options = options
        self._lock = threading.RLock()
        self._sessions: frozenset[str] = frozenset()
        self._jobs: dict[int, PracticeJob] = {}
        self._next_id = FIRST_JOB_ID
        self._state_file = None if options.state_file is None else StateFile(options.state_file)
        if self._state_file is not None:
            jobs, self._next_id = self._state_file.load(FIRST_JOB_ID)
            self._jobs = {job.id: job for job in jobs}

    def now(self) -> float:
        """Return the time, in seconds since 1970."""
        return self._options.clock()

    # --- Accounts ------------------------------------------------------------------------------------

    @property
    def sessions(self) -> frozenset[str]:
        """The tokens of those who are logged in."""
        return self._sessions

    def knows_user(self, user: str, password: str) -> bool:
        """Return whether this is the account."""
        return (user, password) == (self.user, self._options.password)

    def knows_key(self, key: str) -> bool:
        """Return whether this is the account's key."""
        return key == self._options.api_key

    def login(self, user: str, password: str) -> str | None:
        """Return a new session's token, or None when the account is not known."""
        return self.open_session() if self.knows_user(user, password) else None

    def open_session(self) -> str:
        """Return a new session's token."""
        token = secrets.token_urlsafe(24)
        self.count_login()
        self.admit(token)
        return token

    def count_login(self) -> None:
        """Count a login."""
        with self._lock:
            self.logins += 1

    def admit(self, *tokens: str) -> None:
        """Accept these tokens from now on."""
        with self._lock:
            kept = self._sessions if len(self._sessions) < MOST_SESSIONS else frozenset()
            self._sessions = kept | set(tokens)

    def forget_sessions(self, but: frozenset[str] = frozenset()) -> None:
        """Log everybody out, except those who have one of these tokens."""
        with self._lock:
            self._sessions &= but

    # --- Jobs, for the interfaces --------------------------------------------------------------------

    def submit(
        self,
        type: PracticeType,
        params: Mapping[str, Any],
        *,
        made_by: Interface = Interface.V2018,
        allow_resubmit: bool = True,
    ) -> PracticeJob:
        """Take a new job. The same submission twice makes two jobs, if that is allowed.

        Raises
        ------
        AlreadyThere
            When the same job is there already and `allow_resubmit` is false.
        LimitReached
            When there are too many unfinished jobs for today's interfaces; that of 2018 does not count. Or
            when there are `MOST_JOBS`.
        """
        with self._lock:
            twin = None if allow_resubmit else self._twin(type, params)
            if twin is not None:
                raise AlreadyThere(twin)
            if len(self._jobs) >= MOST_JOBS or (made_by is not Interface.V2018 and self._is_full()):
                raise LimitReached
            return self.add(params, type, made_by=made_by)

    def jobs(self) -> list[PracticeJob]:
        """Return every job, oldest first."""
        with self._lock:
            return list(self._jobs.values())

    def find(self, job_id: int | None) -> PracticeJob | None:
        """Return one job, or None when there is no such job."""
        return self._jobs.get(job_id) if job_id is not None else None

    def state(self, job: PracticeJob) -> PracticeState:
        """Return the state of a job now."""
        if job.fixed_state is not None:
            return job.fixed_state
        age = self.now() - job.created
        ready_age = len(job.course) * self.seconds_per_state
        if age < ready_age:
            return job.course[self._step(job, age)]
        return PracticeState.READY if age < ready_age + EXPIRES_AFTER else PracticeState.EXPIRED

    def times(self, job: PracticeJob) -> Times:
        """Return the times of a job."""
        state = self.state(job)
        if job.fixed_state is not None:
            since = job.created if job.fixed_at is None else job.fixed_at
            started = None if state.is_waiting else job.created
            return Times(job.created, started, None if state.is_under_way else since, since)
        begun = sum(step.is_waiting for step in job.course)
        step = len(job.course) if not state.is_under_way else self._step(job, self.now() - job.created)
        modified = job.created + step * self.seconds_per_state
        started = None if state.is_waiting else job.created + begun * self.seconds_per_state
        return Times(job.created, started, None if state.is_under_way else modified, modified)

    def row(self, job: PracticeJob) -> ListingRow:
        """Return what an honest listing says about a job."""
        state = self.state(job)
        product = self.product(job) if state.has_product else None
        return ListingRow(job, state, product, age=self.now() - job.created)

    def product(self, job: PracticeJob) -> ListedProduct:
        """Return what an honest listing says about a job's product."""
        return ListedProduct(job.file_name, job.size, None if job.goes_to_folder else job.sha1)

    def put(self, job: PracticeJob) -> PracticeJob:
        """Keep a job, in the place of its earlier version, and return it."""
        with self._lock:
            if job.fixed_state is not None and job.fixed_at is None:
                job = replace(job, fixed_at=self.now())
            self._jobs[job.id] = job
            self._save()
            return job

    def _save(self) -> None:
        if self._state_file is not None:
            self._state_file.save(self._jobs.values(), self._next_id)

    def _step(self, job: PracticeJob, age: float) -> int:
        """Return how many states a job that is under way has behind it."""
        return min(max(0, int(age // self.seconds_per_state)), len(job.course) - 1)

    def _is_full(self) -> bool:
        if self.job_limit is None:
            return False
        return sum(self.state(job).is_under_way for job in self._jobs.values()) >= self.job_limit

    def _twin(self, type: PracticeType, params: Mapping[str, Any]) -> PracticeJob | None:
        """Return a job of the same type and keys that has not been lost, or None."""
        wanted = PracticeJob(0, type, params, 0.0)
        alike = (job for job in self._jobs.values() if job.type is type and job.obs_id == wanted.obs_id)
        same = (job for job in alike if _asked(job) == _asked(wanted))
        return next((job for job in same if not self.state(job).has_ended), None)

    # --- Jobs, for whoever sets the scene ------------------------------------------------------------

    def add(
        self,
        params: Mapping[str, Any],
        type: PracticeType = PracticeType.CONVERSION,
        *,
        created: float | None = None,
        size: int | None = None,
        state: PracticeState | None = None,
        error_text: str | None = None,
        sha1: str | None = None,
        url: str | None = None,
        made_by: Interface = Interface.V2018,
    ) -> PracticeJob:
        """Put a job into the service, of any age, size and state.

        Parameters
        ----------
        params : Mapping of str to object
            The keys and values of the submission; ``obs_id`` must be among them.
        type : PracticeType, optional
            What the job asks for.
        created : float, optional
            When it was submitted, in seconds since 1970; now if left out.
        size : int, optional
            Size of its product in bytes.
        state : PracticeState, optional
            The state that it is in and stays in; it follows the clock if left out.
        error_text : str, optional
            Why it failed.
        sha1 : str, optional
            What a listing says of its product; the truth if left out, which takes time to work out.
        url : str, optional
            Where today's listings say that its product is, if some other server has it; then `size` and
            `sha1` are to be those of what is there.
        made_by : Interface, optional
            The interface that it was submitted by.
        """
        with self._lock:
            now = self.now()
            job = PracticeJob(
                id=self._next_id,
                type=type,
                params=dict(params),
                created=now if created is None else created,
                file_name=usual_file_name(type, params),
                fixed_state=state,
                error_text=error_text,
                made_by=made_by,
                given_sha1=sha1,
                given_url=url,
                fixed_at=None if state is None else created,
            )
            job = replace(job, size=self._options.size_of(job) if size is None else size)
            self._next_id += 1
            return self.put(job)

    def cancel(self, job_id: int) -> None:
        """Cancel a job."""
        self._change(job_id, fixed_state=PracticeState.CANCELLED)

    def fail(self, job_id: int, text: str | None = "Practice error") -> None:
        """Let a job fail for the reason `text`."""
        self._change(job_id, fixed_state=PracticeState.ERROR, error_text=text)

    def expire(self, job_id: int) -> None:
        """Delete a job's product as too old."""
        self._change(job_id, fixed_state=PracticeState.EXPIRED)

    def hold(self, job_id: int, state: PracticeState) -> None:
        """Put a job into a state and keep it there."""
        self._change(job_id, fixed_state=state)

    def release(self, job_id: int) -> None:
        """Let a job follow the clock again."""
        self._change(job_id, fixed_state=None, error_text=None)

    def remove(self, job_id: int) -> None:
        """Remove a job."""
        with self._lock:
            del self._jobs[job_id]
            self._save()

    def _change(self, job_id: int, **changes: Any) -> None:
        with self._lock:
            self.put(replace(self._jobs[job_id], **changes, fixed_at=None))


# Keys that do not make two jobs different.
_NOT_ASKED = ("allow_resubmit", "job_type", "download_type")


def _asked(job: PracticeJob) -> dict[str, str]:
    """Return a job's keys and values in one spelling: 20, "20" and "20.0" are the same."""
    asked = {key: _plain(value) for key, value in job.params.items() if key not in _NOT_ASKED}
    return {**asked, "delivery": job.delivery}


def _plain(value: Any) -> str:
    try:
        return str(Decimal(str(value)).normalize())
    except InvalidOperation:
        return str(value).lower()
