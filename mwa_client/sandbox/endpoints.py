"""What the interfaces of the service have in common; each has a file of its own.

An interface turns requests into calls of `PracticeService`, and their results into replies.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from .delivery import BY_THE_BOOK, Manner, Offer, deliver
from .fault_kinds import Point
from .faults import Faults
from .interfaces import Interface
from .jobs import ListingRow, PracticeJob
from .messages import Call, Reply, Request, Target, json_reply, refusal
from .routes import Route, route_of
from .service import PracticeService

USER_ID = 7


class Responder(abc.ABC):
    """Answers requests: one interface of the service, or the object store.

    Parameters
    ----------
    service : PracticeService
        The accounts and jobs.
    faults : Faults
        What is to go wrong.
    """

    interface: Interface
    product_type = "application/zip"
    """Media type of products."""
    manner: Manner = BY_THE_BOOK
    """How a request for a part of a product is answered."""

    def __init__(self, service: PracticeService, faults: Faults) -> None:
        self.service = service
        self.faults = faults

    @abc.abstractmethod
    def target(self, request: Request) -> Target:
        """Return what a request is about."""

    @abc.abstractmethod
    def answer(self, request: Request, target: Target) -> Reply:
        """Do what a request asks for and return the reply."""

    def deliver(self, request: Request, target: Target, job: PracticeJob) -> Reply:
        """Return the reply to a request for a job's product."""
        content = job.content
        offer = Offer(content, content.etag, self.product_type, manner=self.manner)
        return deliver(self.faults.apply(Point.OFFER, target, offer), request)


class Endpoints(Responder):
    """One interface of the service; the method that answers a call is named after it, as `_login` is."""

    cookie: str = ""
    """The cookie that holds the session."""

    # --- Requests ------------------------------------------------------------------------------------

    def target(self, request: Request) -> Target:
        """Return what a request is about."""
        route = route_of(self.interface, request)
        if route is None:
            return Target(request.path, Call.OTHER, interface=self.interface)
        given = route.number_in(request.path) or self.job_id_beside(request)
        job_id = int(given) if given.isdecimal() and route.call is not Call.OBSERVATION else None
        job = self.service.find(job_id)
        target = Target(request.path, route.call, job_id, job.obs_id if job else None, self.interface)
        if route.call is Call.LOGIN:
            return replace(target, client=self.client_name(request))
        if route.call is Call.OBSERVATION:
            return replace(target, obs_id=given)
        if route.call is not Call.SUBMIT:
            return target
        params = self.params(request)
        return replace(target, obs_id=self._obs_id_in(params), delivery=_delivery(route, params))

    def answer(self, request: Request, target: Target) -> Reply:
        """Do what a request asks for and return the reply."""
        route = route_of(self.interface, request)
        if route is None:
            return self.refuse(404, "Not found", v2="NOT_FOUND")
        if request.method != route.method:
            reply = self.refuse(405, f"Use {route.method}", v1=None, v2="METHOD_NOT_ALLOWED")
            return reply.with_header("Allow", route.method)
        refused = None if route.call in (Call.LOGIN, Call.REFRESH) else self.refusal_of_session(request)
        return refused or getattr(self, f"_{route.call.value}")(request, target)

    @abc.abstractmethod
    def params(self, request: Request) -> Mapping[str, Any]:
        """Return the keys and values that a submission gives."""

    def job_id_beside(self, request: Request) -> str:
        """Return the job id that a request has outside its path; 2018 and v1 have it in the query."""
        return request.query.get("job_id", "")

    def client_name(self, request: Request) -> str | None:
        """Return the client's name and version, if a login gives them."""
        return None

    def _obs_id_in(self, params: Mapping[str, Any]) -> str | None:
        """Return the observation of a submission, or of its source job."""
        if params.get("obs_id") is not None:
            return str(params["obs_id"])
        source = str(params.get("source_job_id"))
        job = self.service.find(int(source)) if source.isdecimal() else None
        return job.obs_id if job else None

    # --- Sessions ------------------------------------------------------------------------------------

    def familiarity(self, request: Request) -> int:
        """Return 2 for a request with a session of this interface, 1 for one that had one, else 0."""
        token = request.cookie(self.cookie)
        if token is None:
            return 0
        return 2 if token in self.service.sessions else 1

    def refusal_of_session(self, request: Request) -> Reply | None:
        """Return the refusal of a request that has no session, or None."""
        if request.cookie(self.cookie) in self.service.sessions:
            return None
        return self.refuse(401, "Not logged in", v1=None)

    # --- Replies -------------------------------------------------------------------------------------

    def refuse(self, status: int, why: str, *, v1: int | None = 0, v2: str = "REFUSED", **more: Any) -> Reply:
        """Return a refusal in the form of this interface; see `refusal`."""
        return refusal(status, why, self.interface, v1=v1, v2=v2, **more)

    def accept(self, target: Target, job: PracticeJob, document: dict[str, Any]) -> Reply:
        """Return the reply to a submission that made a job."""
        document = self.faults.apply(Point.DOCUMENT, replace(target, job_id=job.id), document)
        return replace(json_reply(200, document), job_id=job.id)

    @abc.abstractmethod
    def document(self, row: ListingRow) -> dict[str, Any]:
        """Return the JSON object for a job in a listing."""

    def rows(self, target: Target, jobs: Iterable[PracticeJob]) -> Iterator[ListingRow]:
        """Yield what the listing says of each job, true or not."""
        for job in jobs:
            row = self.service.row(job)
            if self.faults:
                row = self._with_faults(replace(target, job_id=job.id, obs_id=job.obs_id), row)
            if not row.hidden:
                yield row

    def _with_faults(self, aim: Target, honest: ListingRow) -> ListingRow:
        row = self.faults.apply(Point.JOB, aim, honest)
        if row.job is not honest.job:
            row = self.service.row(self.service.put(row.job))
        return self.faults.apply(Point.ROW, aim, row)

    def documents(self, target: Target, jobs: Iterable[PracticeJob]) -> Iterator[dict[str, Any]]:
        """Yield the JSON object for each job that the listing shows."""
        for row in self.rows(target, jobs):
            document = self.document(row)
            if self.faults:
                aim = replace(target, job_id=row.job.id, obs_id=row.job.obs_id)
                document = self.faults.apply(Point.DOCUMENT, aim, document)
            yield document


class CookieEndpoints(Endpoints):
    """The two older interfaces: HTTP Basic, a cookie, forms, and a listing whose jobs are in an envelope."""

    def params(self, request: Request) -> Mapping[str, Any]:
        """Return the keys and values of the form."""
        return request.form

    def _list(self, request: Request, target: Target) -> Reply:
        documents = self.documents(target, self.service.jobs())
        entries = [{"action": "INSERT", "table": "jobs", "row": document} for document in documents]
        return json_reply(200, self.faults.apply(Point.LISTING, target, entries))


def _delivery(route: Route, params: Mapping[str, Any]) -> str | None:
    if route.form is None:
        return None
    return str(params.get("delivery") or route.form.type.usual_delivery)
