"""What the interfaces of the service have in common; each has a file of its own.

An interface turns requests into calls of `Service`, and what `Service` says into replies.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import replace

from .delivery import Offer, deliver
from .fault_kinds import Point
from .faults import Faults
from .messages import Reply, Request, Target
from .service import Job, Row, Service


class Api(abc.ABC):
    """One interface of the service.

    Parameters
    ----------
    service : Service
        Who does the work.
    faults : Faults
        What goes wrong meanwhile.
    """

    def __init__(self, service: Service, faults: Faults) -> None:
        self.service = service
        self.faults = faults

    @abc.abstractmethod
    def speaks(self, request: Request) -> bool:
        """Return whether a request is meant for this interface."""

    @abc.abstractmethod
    def target(self, request: Request) -> Target:
        """Return what a request is about."""

    @abc.abstractmethod
    def answer(self, request: Request, target: Target) -> Reply:
        """Do what a request asks for and return the reply."""

    def rows(self, target: Target) -> Iterator[Row]:
        """Yield what the listing says of each job, true or not."""
        for job in self.service.jobs():
            aim = replace(target, job_id=job.id, obs_id=job.obs_id)
            row = self.faults.apply(Point.JOB, aim, self.service.row(job))
            if row.job is not job:
                self.service.put(row.job)
                row = self.service.row(row.job)
            row = self.faults.apply(Point.ROW, aim, row)
            if not row.hidden:
                yield row

    def deliver(self, request: Request, target: Target, job: Job) -> Reply:
        """Return the reply to a request for a job's product."""
        content = job.content
        return deliver(self.faults.apply(Point.OFFER, target, Offer(content, content.etag)), request)
