"""What v1 and v2 have in common: jobs of every type, states in words, products outside the service."""

from __future__ import annotations

import abc
import functools
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from .endpoints import Endpoints
from .fault_kinds import Point
from .faults import Faults
from .folders import Folders
from .jobs import ListedProduct, ListingRow, PracticeJob, PracticeState, PracticeType
from .keys import JobForm
from .messages import JsonAnswer, Reply, Target, json_reply
from .object_store import ObjectStore
from .service import AlreadyThere, LimitReached, PracticeService

GROUP = "practice"
"""The user's group at the computer centres."""

METADATA_WORDS = ("meta", "vis_meta")


class EndpointsToday(Endpoints):
    """An interface of today's service.

    Parameters
    ----------
    service : PracticeService
        The accounts and jobs.
    faults : Faults
        What is to go wrong.
    store : ObjectStore
        Has the products that are downloaded.
    folders : Folders
        Has the products that are delivered to a folder.
    """

    def __init__(
        self, service: PracticeService, faults: Faults, store: ObjectStore, folders: Folders
    ) -> None:
        super().__init__(service, faults)
        self.store = store
        self.folders = folders

    # --- Submissions ---------------------------------------------------------------------------------

    def take(self, target: Target, form: JobForm, params: Mapping[str, Any], *, again: bool) -> Reply:
        """Take a job whose keys have been checked, or refuse it; `again` allows the same job twice."""
        params = {key: value for key, value in params.items() if key != "allow_resubmit"}
        if "source_job_id" in params:
            refused = self._refusal_of_source(int(params["source_job_id"]))
            if refused is not None:
                return refused
        metadata = params.get("download_type") in METADATA_WORDS
        job_type = PracticeType.METADATA if metadata else form.type
        try:
            job = self.service.submit(job_type, params, made_by=self.interface, allow_resubmit=again)
        except AlreadyThere as there:
            return self._duplicate(target, there.job)
        except LimitReached:
            text = f"Job limit reached: you may have {self.service.job_limit} unfinished jobs."
            return self.refuse(400, text, v1=1, v2="JOB_LIMIT_REACHED")
        return self.accept(target, job, self.accepted(job))

    def _refusal_of_source(self, job_id: int) -> Reply | None:
        source = self.service.find(job_id)
        if source is None:
            return self.no_such_job(job_id)
        if source.type is not PracticeType.CONVERSION or not self.service.state(source).has_product:
            return self.refuse(400, f"Job {job_id} is not a completed conversion job")
        return None

    def _duplicate(self, target: Target, job: PracticeJob) -> Reply:
        aim = replace(target, job_id=job.id)
        answer = self.faults.apply(Point.DUPLICATE, aim, self.already_there(job))
        return replace(json_reply(answer.status, answer.document), job_id=job.id)

    @abc.abstractmethod
    def accepted(self, job: PracticeJob) -> dict[str, Any]:
        """Return the answer to a submission that made a job."""

    @abc.abstractmethod
    def already_there(self, job: PracticeJob) -> JsonAnswer:
        """Return the answer to a submission of a job that is there already."""

    # --- Refusals ------------------------------------------------------------------------------------

    def no_such_job(self, job_id: object) -> Reply:
        """Return the reply to a request about a job that is not there."""
        return self.refuse(404, f"Job {job_id} not found", v1=3, v2="JOB_NOT_FOUND")

    # --- Listings ------------------------------------------------------------------------------------

    def files(self, row: ListingRow, product: ListedProduct | None) -> dict[str, Any] | None:
        """Return what a listing says of a product, None if there is none."""
        if product is None:
            return None
        if product.path is not None:
            return {"files": [{"type": "scratch", "path": product.path, "size": product.size}]}
        if row.job.goes_to_folder:
            path = self.folders.deliver(row.job)
            return {"files": [{"type": row.job.delivery, "path": path, "size": product.size}]}
        url = row.job.given_url or self.store.url_of(row.job, stale=product.link_is_stale)
        entry = {"type": "acacia", "url": url, "size": product.size}
        return {"files": [entry if product.sha1 is None else {**entry, "sha1": product.sha1}]}


def state_word(state: PracticeState | int | str) -> int | str:
    """Return the word for a state; a fault's own word or number is returned as it is."""
    if not isinstance(state, PracticeState):
        return state
    return "completed" if state is PracticeState.READY else str(state.value)


@functools.lru_cache(maxsize=1 << 16)
def moment(seconds: float | None) -> str | None:
    """Return a time in ISO 8601, in UTC and without a zone.

    Examples
    --------
    >>> moment(1_500_000_000.25)
    '2017-07-14T02:40:00.250000'
    """
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None).isoformat()
