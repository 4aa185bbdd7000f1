"""The interface since 2026: an API key, tokens, JSON in and out.

Products are fetched from the object store, or stand in a folder.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from .api import USER_ID
from .fault_kinds import Point
from .faults import Faults
from .folders import Folders
from .interfaces import Interface
from .jobs import Job, JobState, JobType, ListedProduct, Row
from .keys import ORDERS_V2, Key, Kind, Mistake, mistakes, text
from .messages import Answer, Call, Reply, Request, Target, json_reply
from .object_store import ObjectStore
from .service import Service
from .today import GROUP, METADATA_WORDS, TodaysApi, moment, state_word
from .tokens import TokenKind, TokenMaker, is_in_time, is_of_kind

ROOT = "/api/v2/"
LOGINS_A_MINUTE = 5
LISTED_DAYS = 30
"""Jobs that are older are not listed."""

_CALLS = {
    "api_login": ("POST", Call.LOGIN),
    "login": ("POST", Call.LOGIN),
    "refresh": ("POST", Call.REFRESH),
    "get_jobs": ("POST", Call.LIST),
    **dict.fromkeys(ORDERS_V2, ("POST", Call.SUBMIT)),
}

_KEY_LOGIN = (text("login", 1, 36, needed=True), text("password", 1, needed=True))
_USER_LOGIN = (text("username", 1, 16, needed=True), text("password", 1, 16, needed=True))

# The interface has words of its own for two of the states.
_WORDS: dict[JobState | int | str, str] = {
    JobState.PROCESSING: JobState.PREPROCESSING.value,
    JobState.EXPIRED: "completed",
}
_ORDERINGS = ("id", "created", "job_type")

_LISTING = (
    Key("days", Kind.WHOLE, 1, LISTED_DAYS),
    Key("limit", Kind.WHOLE, 1, 500),
    Key("offset", Kind.WHOLE, 0),
    Key("sort_by", Kind.CHOICE, choices=_ORDERINGS),
    text("job_state"),
    Key("job_type", Kind.WHOLE, 0),
    text("date_from"),
    text("date_to"),
)


class ApiV2(TodaysApi):
    """The interface with tokens."""

    interface = Interface.V2
    cookie = TokenKind.ACCESS.cookie

    def __init__(self, service: Service, faults: Faults, store: ObjectStore, folders: Folders) -> None:
        super().__init__(service, faults, store, folders)
        self._tokens = TokenMaker()
        self._recent_logins: list[float] = []
        self._lock = threading.Lock()

    def speaks(self, request: Request) -> bool:
        """Return whether a request is meant for this interface."""
        return request.path.startswith(ROOT)

    # --- What is asked for ---------------------------------------------------------------------------

    def target(self, request: Request) -> Target:
        """Return what a request is about."""
        tail = request.path[len(ROOT) :]
        body = _body(request)
        if tail in _CALLS:
            call = _CALLS[tail][1]
            return Target(
                request.path,
                call,
                obs_id=self.asked_obs_id(body) if call is Call.SUBMIT else None,
                interface=self.interface,
                client=str(body["login"]) if tail == "api_login" and "login" in body else None,
                delivery=_delivery(tail, body) if call is Call.SUBMIT else None,
            )
        kind, _, number = tail.rpartition("/")
        if kind == "jobs" and number.isdecimal():
            job = self.service.find(int(number))
            call = Call.CANCEL if request.method == "DELETE" else Call.JOB
            return Target(request.path, call, int(number), job.obs_id if job else None, self.interface)
        if kind == "observation/metadata":
            return Target(request.path, Call.OBSERVATION, obs_id=number, interface=self.interface)
        return Target(request.path, Call.OTHER, interface=self.interface)

    def answer(self, request: Request, target: Target) -> Reply:
        """Do what a request asks for and return the reply."""
        tail = request.path[len(ROOT) :]
        if target.call is Call.OTHER:
            return self.refuse(404, "Not found", v2="NOT_FOUND")
        method = _CALLS[tail][0] if tail in _CALLS else "DELETE" if target.call is Call.CANCEL else "GET"
        if request.method != method:
            return self.refuse(405, f"Use {method}", v2="METHOD_NOT_ALLOWED").with_header("Allow", method)
        if target.call is Call.LOGIN:
            return self._login(request, by_key=tail == "api_login")
        if target.call is Call.REFRESH:
            return self._refusal_of(request, TokenKind.REFRESH) or self._with_tokens({})
        return self._refusal_of(request, TokenKind.ACCESS) or self._answer_user(request, target)

    def _answer_user(self, request: Request, target: Target) -> Reply:
        if target.call is Call.SUBMIT:
            return self._submit(request, target)
        if target.call is Call.LIST:
            return self._list(request, target)
        if target.call is Call.OBSERVATION:
            return self._observation(target)
        return self._cancel(target) if target.call is Call.CANCEL else self._job(target)

    # --- Tokens --------------------------------------------------------------------------------------

    def _login(self, request: Request, *, by_key: bool) -> Reply:
        wait = self._wait_before_login()
        if wait > 0:
            text = f"At most {LOGINS_A_MINUTE} logins a minute"
            return self.refuse(429, text, v2="RATE_LIMIT_EXCEEDED").with_header("Retry-After", str(wait))
        body = request.json
        found = _mistakes(_KEY_LOGIN if by_key else _USER_LOGIN, body)
        if found:
            return self._invalid(found)
        known = (
            self.service.knows_key(body["password"])
            if by_key
            else self.service.knows_user(body["username"], body["password"])
        )
        if not known:
            return self.refuse(401, "Invalid credentials", v2="AUTH_INVALID_CREDENTIALS")
        self.service.count_login()
        return self._with_tokens({"user": self._user()})

    def _wait_before_login(self) -> int:
        """Count a login; return 0, or how many seconds are to pass before there may be another."""
        now = self.service.now()
        with self._lock:
            self._recent_logins = [then for then in self._recent_logins if now - 60 < then <= now]
            if len(self._recent_logins) < LOGINS_A_MINUTE:
                self._recent_logins.append(now)
                return 0
            return int(self._recent_logins[0] + 60 - now) + 1

    def _with_tokens(self, more: dict[str, Any]) -> Reply:
        now = self.service.now()
        tokens = {kind: self._tokens.make(kind, now) for kind in TokenKind}
        self.service.admit(*tokens.values())
        said = {f"{kind.value}_token": token for kind, token in tokens.items()}
        reply = json_reply(200, {**said, "token_type": "bearer", **more})
        for kind, token in tokens.items():
            reply = reply.with_cookie(kind.cookie, token, max_age=kind.seconds)
        return reply

    def _refusal_of(self, request: Request, kind: TokenKind) -> Reply | None:
        """Return a refusal when a request does not carry a token of a kind that is still good."""
        token = request.cookie(kind.cookie)
        if token is None:
            return self.refuse(401, "Not authenticated", v2="AUTH_REQUIRED")
        known = token in self.service.sessions and is_of_kind(token, kind)
        if not known or not is_in_time(token, self.service.now()):
            return self.refuse(401, "Invalid or expired token", v2="AUTH_INVALID_TOKEN")
        return None

    def _user(self) -> dict[str, Any]:
        return {
            "id": USER_ID,
            "login": self.service.user,
            "email": f"{self.service.user}@example.org",
            "is_superuser": False,
            "pawsey_group": GROUP,
            "dug_group": GROUP,
        }

    # --- Jobs ----------------------------------------------------------------------------------------

    def _submit(self, request: Request, target: Target) -> Reply:
        order, body = ORDERS_V2[request.path[len(ROOT) :]], request.json
        found = _mistakes(order.keys, body)
        if found:
            return self._invalid(found)
        given = {key: value for key, value in body.items() if value is not None}
        return self.place(target, order, given, again=bool(body.get("allow_resubmit")))

    def accepted(self, job: Job) -> dict[str, Any]:
        """Return what is said of a job that was taken."""
        return {"job_id": job.id, "status": "success", "message": "Job submitted"}

    def already_there(self, job: Job) -> Answer:
        """Return what is said when the job is there already."""
        text = "Job already queued, processing or complete"
        return Answer(409, {"error_code": "JOB_ALREADY_SUBMITTED", "message": text, "job_id": job.id})

    def _list(self, request: Request, target: Target) -> Reply:
        found = _mistakes(_LISTING, request.json)
        if found:
            return self._invalid(found)
        wanted = {key: value for key, value in request.json.items() if value is not None}
        try:
            jobs = self._chosen(wanted)
        except ValueError as error:
            return self._invalid([Mistake("date_from or date_to", str(error))])
        start = wanted.get("offset", 0)
        page = jobs[start : start + wanted.get("limit", 100)]
        documents = list(self.documents(target, self.rows(target, page)))
        listing = self.faults.apply(Point.LISTING, target, documents)
        return json_reply(200, {"jobs": listing, "total_count": len(jobs)})

    def _chosen(self, wanted: Mapping[str, Any]) -> list[Job]:
        """Return the jobs that are wanted, in the order that is."""
        days = wanted.get("days", LISTED_DAYS)
        first = max(self.service.now() - days * 86400, _seconds(wanted.get("date_from"), 0.0))
        last = _seconds(wanted.get("date_to"), float("inf"))
        jobs = [job for job in self.service.jobs() if first <= job.created <= last]
        if "job_type" in wanted:
            jobs = [job for job in jobs if job.type.number == wanted["job_type"]]
        if "job_state" in wanted:
            jobs = [job for job in jobs if _word(self.service.state(job)) == wanted["job_state"]]
        ordering = wanted.get("sort_by")
        if ordering is None:
            return jobs[::-1]  # The newest first.
        if ordering == "created":
            return sorted(jobs, key=lambda job: job.created)
        return jobs if ordering == "id" else sorted(jobs, key=lambda job: job.type.number)

    def _job(self, target: Target) -> Reply:
        job = self.service.find(target.job_id)
        rows = self.rows(target, [job] if job else [])
        document = next(self.documents(target, rows), None)
        return self.no_such_job(target.job_id) if document is None else json_reply(200, document)

    def _cancel(self, target: Target) -> Reply:
        job = self.service.find(target.job_id)
        if job is None:
            return self.no_such_job(target.job_id)
        state = self.service.state(job)
        if state is JobState.CANCELLED:
            said = {"status": "failed", "message": "Job is cancelled already"}
        elif not state.is_under_way:
            return self.refuse(400, f"Job {job.id} is {_word(state)}", v2="JOB_NOT_CANCELLABLE")
        else:
            self.service.cancel(job.id)
            said = {"status": "success", "message": "Job cancelled"}
        return json_reply(200, {"job_id": job.id, **said})

    def document(self, row: Row) -> dict[str, Any]:
        """Return the JSON object that stands for a job."""
        job, times = row.job, self.service.times(row.job)
        # What has not happened yet is null or left out; clients have to live with both.
        completed = {} if times.completed is None else {"completed": moment(times.completed)}
        return {
            "id": job.id,
            "user_id": USER_ID,
            "first_name": "practice",
            "last_name": "account",
            "job_type": job.type.number,
            "job_state": _word(row.state),
            "job_params": _params(job),
            "product": self.files(row, self._product(row)),
            "error_code": None,
            "error_text": job.error_text,
            "created": moment(times.created),
            "started": moment(times.started),
            **completed,
            "modified": moment(times.modified),
        }

    def _product(self, row: Row) -> ListedProduct | None:
        # There is no word for a product that has expired: the job stays complete, its file is gone.
        return self.service.product(row.job) if row.state is JobState.EXPIRED else row.product

    def _observation(self, target: Target) -> Reply:
        obs_id = target.obs_id or ""
        if not obs_id.isdecimal() or not 888_888_889 <= int(obs_id) <= 9_999_999_999:
            return self.refuse(404, f"Observation {obs_id} does not exist", v2="OBSID_NOT_FOUND")
        said = {"obs_id": int(obs_id), "mode": "MWAX_CORRELATOR", "duration": 120}
        return json_reply(200, {**said, "total_archived_data_bytes": 40_000_000_000 + int(obs_id)})

    def _invalid(self, found: list[Mistake]) -> Reply:
        missing = any(mistake.is_missing for mistake in found)
        return self.refuse(
            422,
            "The request is not valid",
            v2="VALID_MISSING_FIELD" if missing else "VALID_INVALID_FIELD",
            field_errors=[{"field": mistake.key, "message": mistake.message} for mistake in found],
        )


def _body(request: Request) -> dict[str, Any]:
    body = request.json
    return body if isinstance(body, dict) else {}


def _mistakes(keys: Iterable[Key], body: object) -> list[Mistake]:
    if not isinstance(body, dict):
        return [Mistake("body", "must be a JSON object")]
    return list(mistakes(keys, body))


def _delivery(tail: str, body: Mapping[str, Any]) -> str:
    usual = "scratch" if ORDERS_V2[tail].type is JobType.VOLTAGE else "acacia"
    return str(body.get("delivery") or usual)


def _word(state: JobState | int | str) -> int | str:
    return _WORDS.get(state) or state_word(state)


def _params(job: Job) -> dict[str, Any]:
    """Return what was asked for, as it came, and what the service adds to it."""
    obs_id = int(job.obs_id) if job.obs_id.isdecimal() else job.obs_id
    params = {**job.params, "obs_id": obs_id}
    if params.get("download_type") in METADATA_WORDS:
        params["download_type"] = "meta"
    return {**params, "flags": []} if job.type is JobType.CONVERSION else params


def _seconds(text: str | None, otherwise: float) -> float:
    if text is None:
        return otherwise
    given = datetime.fromisoformat(text)
    return (given if given.tzinfo else given.replace(tzinfo=timezone.utc)).timestamp()
