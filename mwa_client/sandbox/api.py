"""What the interfaces of the service have in common; each has a file of its own.

An interface turns requests into calls of `Service`, and what `Service` says into replies.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from .delivery import BY_THE_BOOK, Manner, Offer, deliver
from .fault_kinds import Point
from .faults import Faults
from .interfaces import Interface
from .jobs import Job, Row
from .messages import Reply, Request, Target
from .service import Service

USER_ID = 7


class Party(abc.ABC):
    """Somebody who can be asked: an interface of the service, or the object store.

    Parameters
    ----------
    service : Service
        Who does the work.
    faults : Faults
        What goes wrong meanwhile.
    """

    interface: Interface
    product_type = "application/zip"
    """Media type of products."""
    manner: Manner = BY_THE_BOOK
    """How a request for a part of a product is taken."""

    def __init__(self, service: Service, faults: Faults) -> None:
        self.service = service
        self.faults = faults

    @abc.abstractmethod
    def target(self, request: Request) -> Target:
        """Return what a request is about."""

    @abc.abstractmethod
    def answer(self, request: Request, target: Target) -> Reply:
        """Do what a request asks for and return the reply."""

    def deliver(self, request: Request, target: Target, job: Job) -> Reply:
        """Return the reply to a request for a job's product."""
        content = job.content
        offer = Offer(content, content.etag, self.product_type, manner=self.manner)
        return deliver(self.faults.apply(Point.OFFER, target, offer), request)


class Api(Party):
    """One interface of the service."""

    cookie: str | None = None
    """The cookie that holds the session."""

    @abc.abstractmethod
    def speaks(self, request: Request) -> bool:
        """Return whether a request is meant for this interface."""

    @abc.abstractmethod
    def document(self, row: Row) -> dict[str, Any]:
        """Return the JSON object that stands for a job."""

    def familiarity(self, request: Request) -> int:
        """Return 2 for a request with a session of this interface, 1 for one that had one, else 0."""
        token = request.cookie(self.cookie) if self.cookie else None
        if token is None:
            return 0
        return 2 if token in self.service.sessions else 1

    def rows(self, target: Target, jobs: Iterable[Job]) -> Iterator[Row]:
        """Yield what the listing says of each job, true or not."""
        for job in jobs:
            row = self.service.row(job)
            if self.faults:
                row = self._spoilt(replace(target, job_id=job.id, obs_id=job.obs_id), row)
            if not row.hidden:
                yield row

    def _spoilt(self, aim: Target, honest: Row) -> Row:
        row = self.faults.apply(Point.JOB, aim, honest)
        if row.job is not honest.job:
            row = self.service.row(self.service.put(row.job))
        return self.faults.apply(Point.ROW, aim, row)

    def documents(self, target: Target, rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
        """Yield the JSON object that stands for each job."""
        for row in rows:
            document = self.document(row)
            if self.faults:
                aim = replace(target, job_id=row.job.id, obs_id=row.job.obs_id)
                document = self.faults.apply(Point.DOCUMENT, aim, document)
            yield document

    def envelopes(self, target: Target) -> list[Any]:
        """Return the listing of all jobs, each in the wrapping that 2018 and v1 have."""
        documents = self.documents(target, self.rows(target, self.service.jobs()))
        entries = [{"action": "INSERT", "table": "jobs", "row": document} for document in documents]
        return self.faults.apply(Point.LISTING, target, entries)
