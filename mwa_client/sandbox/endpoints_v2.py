"""The interface since 2026: an API key, tokens, JSON in and out.

Products are fetched from the object store, or stand in a folder.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from .endpoints import USER_ID
from .endpoints_today import GROUP, METADATA_WORDS, EndpointsToday, moment, state_word
from .fault_kinds import Point
from .faults import Faults
from .folders import Folders
from .interfaces import Interface
from .jobs import ListedProduct, ListingRow, PracticeJob, PracticeState, PracticeType
from .keys import FieldError, FieldKind, Key, field_errors, text
from .messages import JsonAnswer, Reply, Request, Target, json_reply
from .object_store import ObjectStore
from .routes import route_of
from .service import PracticeService
from .tokens import TokenKind, TokenMaker, is_in_time, is_of_kind

_LOGINS_A_MINUTE = 5
LISTED_DAYS = 30
"""Jobs that are older are not listed."""
WAITING = ("preparing", "queued")
"""The states, in v2's words, in which a job has a place in the queue."""

_KEY_LOGIN = (text("login", 1, 36, needed=True), text("password", 1, needed=True))
_USER_LOGIN = (text("username", 1, 16, needed=True), text("password", 1, 16, needed=True))

# The interface has words of its own for two of the states.
_WORDS: dict[PracticeState | int | str, str] = {
    PracticeState.PROCESSING: PracticeState.PREPROCESSING.value,
    PracticeState.EXPIRED: "completed",
}
_ORDERINGS = ("id", "created", "job_type")

_LISTING = (
    Key("days", FieldKind.WHOLE, 1, LISTED_DAYS),
    Key("limit", FieldKind.WHOLE, 1, 500),
    Key("offset", FieldKind.WHOLE, 0),
    Key("sort_by", FieldKind.CHOICE, choices=_ORDERINGS),
    text("job_state"),
    Key("job_type", FieldKind.WHOLE, 0),
    text("date_from"),
    text("date_to"),
)


class EndpointsV2(EndpointsToday):
    """The interface v2, with tokens and JSON."""

    interface = Interface.V2
    cookie = TokenKind.ACCESS.cookie

    def __init__(
        self, service: PracticeService, faults: Faults, store: ObjectStore, folders: Folders
    ) -> None:
        super().__init__(service, faults, store, folders)
        self._tokens = TokenMaker()
        self._recent_logins: list[float] = []
        self._lock = threading.Lock()

    def params(self, request: Request) -> Mapping[str, Any]:
        """Return the keys and values of the body."""
        return request.json if isinstance(request.json, dict) else {}

    def job_id_beside(self, request: Request) -> str:
        """Return nothing: v2 has job ids in the path alone."""
        return ""

    def client_name(self, request: Request) -> str | None:
        """Return the client's name and version, if the login is by API key."""
        login = self.params(request).get("login") if _is_by_key(request) else None
        return None if login is None else str(login)

    # --- Tokens --------------------------------------------------------------------------------------

    def _login(self, request: Request, target: Target) -> Reply:
        wait = self._wait_before_login()
        if wait > 0:
            text = f"At most {_LOGINS_A_MINUTE} logins a minute"
            return self.refuse(429, text, v2="RATE_LIMIT_EXCEEDED").with_header("Retry-After", str(wait))
        body, by_key = request.json, _is_by_key(request)
        found = _errors_in(_KEY_LOGIN if by_key else _USER_LOGIN, body)
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

    def _refresh(self, request: Request, target: Target) -> Reply:
        return self._refusal_of(request, TokenKind.REFRESH) or self._with_tokens({})

    def refusal_of_session(self, request: Request) -> Reply | None:
        """Return the refusal of a request that has no good access token, or None."""
        return self._refusal_of(request, TokenKind.ACCESS)

    def _wait_before_login(self) -> int:
        """Count a login and return 0, or return the seconds until there may be another."""
        now = self.service.now()
        with self._lock:
            self._recent_logins = [then for then in self._recent_logins if now - 60 < then <= now]
            if len(self._recent_logins) < _LOGINS_A_MINUTE:
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
        """Return the refusal of a request without a good token of this kind, or None."""
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
        route, body = route_of(self.interface, request), request.json
        assert route is not None and route.form is not None
        found = _errors_in(route.form.keys, body)
        if found:
            return self._invalid(found)
        given = {key: value for key, value in body.items() if value is not None}
        return self.take(target, route.form, given, again=bool(body.get("allow_resubmit")))

    def accepted(self, job: PracticeJob) -> dict[str, Any]:
        """Return the answer to a submission that made a job."""
        return {"job_id": job.id, "status": "success", "message": "Job submitted"}

    def already_there(self, job: PracticeJob) -> JsonAnswer:
        """Return the answer to a submission of a job that is there already."""
        text = "Job already queued, processing or complete"
        return JsonAnswer(409, {"error_code": "JOB_ALREADY_SUBMITTED", "message": text, "job_id": job.id})

    def _list(self, request: Request, target: Target) -> Reply:
        found = _errors_in(_LISTING, request.json)
        if found:
            return self._invalid(found)
        wanted = {key: value for key, value in request.json.items() if value is not None}
        try:
            jobs = self._chosen(wanted)
        except ValueError as error:
            return self._invalid([FieldError("date_from or date_to", str(error))])
        start = wanted.get("offset", 0)
        page = jobs[start : start + wanted.get("limit", 100)]
        documents = list(self._with_places(self.documents(target, page)))
        listing = self.faults.apply(Point.LISTING, target, documents)
        return json_reply(200, {"jobs": listing, "total_count": len(jobs)})

    def _with_places(self, documents: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Add what only a list says: a waiting job's place in the queue, and when it is likely to start."""
        place, a_place = 0, max(self.service.seconds_per_state, 1.0)
        for document in documents:
            is_waiting = document.get("job_state") in WAITING
            place += is_waiting
            starts = moment(self.service.now() + place * a_place) if is_waiting else None
            yield {
                **document,
                "client": "practice",
                "priority_score": 1,
                "queue_position_cache": place if is_waiting else None,
                "estimated_start": starts,
            }

    def _chosen(self, wanted: Mapping[str, Any]) -> list[PracticeJob]:
        """Return the jobs that a listing asks for, in the order that it asks for."""
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

    def _job(self, request: Request, target: Target) -> Reply:
        job = self.service.find(target.job_id)
        document = next(self.documents(target, [job] if job else []), None)
        return self.no_such_job(target.job_id) if document is None else json_reply(200, document)

    def _cancel(self, request: Request, target: Target) -> Reply:
        job = self.service.find(target.job_id)
        if job is None:
            return self.no_such_job(target.job_id)
        state = self.service.state(job)
        if state is PracticeState.CANCELLED:
            said = {"status": "failed", "message": "Job is cancelled already"}
        elif not state.is_under_way:
            return self.refuse(400, f"Job {job.id} is {_word(state)}", v2="JOB_NOT_CANCELLABLE")
        else:
            self.service.cancel(job.id)
            said = {"status": "success", "message": "Job cancelled"}
        return json_reply(200, {"job_id": job.id, **said})

    def document(self, row: ListingRow) -> dict[str, Any]:
        """Return the JSON object for a job in a listing."""
        job, times = row.job, self.service.times(row.job)
        # A missing time is null or absent in the real service, so both occur here.
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

    def _product(self, row: ListingRow) -> ListedProduct | None:
        # There is no word for a product that has expired: the job stays complete, its file is gone.
        return self.service.product(row.job) if row.state is PracticeState.EXPIRED else row.product

    def _observation(self, request: Request, target: Target) -> Reply:
        obs_id = target.obs_id or ""
        if not obs_id.isdecimal() or not 888_888_889 <= int(obs_id) <= 9_999_999_999:
            return self.refuse(404, f"Observation {obs_id} does not exist", v2="OBSID_NOT_FOUND")
        said = {"obs_id": int(obs_id), "mode": "MWAX_CORRELATOR", "duration": 120}
        return json_reply(200, {**said, "total_archived_data_bytes": 40_000_000_000 + int(obs_id)})

    def _invalid(self, found: list[FieldError]) -> Reply:
        missing = any(error.is_missing for error in found)
        return self.refuse(
            422,
            "The request is not valid",
            v2="VALID_MISSING_FIELD" if missing else "VALID_INVALID_FIELD",
            field_errors=[{"field": error.key, "message": error.message} for error in found],
        )


def _is_by_key(request: Request) -> bool:
    return request.path.endswith("/api_login")


def _errors_in(keys: Iterable[Key], body: object) -> list[FieldError]:
    if not isinstance(body, dict):
        return [FieldError("body", "must be a JSON object")]
    return list(field_errors(keys, body))


def _word(state: PracticeState | int | str) -> int | str:
    return _WORDS.get(state) or state_word(state)


def _params(job: PracticeJob) -> dict[str, Any]:
    """Return the keys of the submission, and those that the service adds."""
    obs_id = int(job.obs_id) if job.obs_id.isdecimal() else job.obs_id
    params = {**job.params, "obs_id": obs_id}
    if params.get("download_type") in METADATA_WORDS:
        params["download_type"] = "meta"
    return {**params, "flags": []} if job.type is PracticeType.CONVERSION else params


def _seconds(text: str | None, otherwise: float) -> float:
    if text is None:
        return otherwise
    given = datetime.fromisoformat(text)
    return (given if given.tzinfo else given.replace(tzinfo=timezone.utc)).timestamp()
