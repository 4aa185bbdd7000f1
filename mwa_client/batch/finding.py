"""Finding the listed job that belongs to a row: each listing is indexed once, for all rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mwa_client.asvo.job import Job
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.listed import contradicts, identity_of
from mwa_client.jobs.request import JobRequest


class Finder:
    """An index of the latest listing: its jobs by what they ask for."""

    def __init__(self) -> None:
        self._api = ApiVersion.V2
        self._identities: dict[int, tuple[Mapping[str, object], str | None]] = {}
        self._same: dict[str, list[Job]] = {}
        self._unclaimed: dict[int, list[Job]] = {}

    def read(
        self,
        listing: Mapping[int, Job],
        api: ApiVersion,
        asked: Mapping[str, int],
        taken: Collection[int],
    ) -> None:
        """Index a listing.

        Parameters
        ----------
        listing : mapping of int to Job
            The jobs by their ids.
        api : ApiVersion
            The interface that has listed them.
        asked : mapping of str to int
            The identities of the rows without a job, worded as `identity_of` words those of listed jobs; the
            observation of each.
        taken : collection of int
            The jobs that other rows have already. They are no other row's, whatever the listing leaves out of
            what they were asked.
        """
        observations = set(asked.values())
        self._api, self._same, self._unclaimed = api, {}, {}
        for job in listing.values():
            if job.obs_id not in observations or job.job_id in taken:
                continue
            identity = self._identity(job)
            if identity is not None and identity in asked:
                self._same.setdefault(identity, []).append(job)
            else:
                self._unclaimed.setdefault(job.obs_id or 0, []).append(job)

    def same(self, identity: str) -> list[Job]:
        """Return the listed jobs that ask for exactly what this identity says."""
        return self._same.get(identity, [])

    def answer(self, identity: str, request: JobRequest, after: int) -> Job | None:
        """Return the job that a submission whose answer was lost has made: its id is above `after`.

        Services leave keys out of their listings and add others. So where no job has exactly the same keys,
        one that contradicts none of them is taken.
        """
        newer = [job for job in self.same(identity) if job.job_id > after]
        if not newer:
            newer = [
                job
                for job in self._unclaimed.get(request.obs_id, [])
                if job.job_id > after and contradicts(job, request, self._api) is None
            ]
        return max(newer, key=_worth, default=None)

    def _identity(self, job: Job) -> str | None:
        """Return what a job asks for. Slow to work out, so it is kept from one listing to the next."""
        if job.job_type is None:
            return None
        parameters, identity = self._identities.get(job.job_id, (None, None))
        if parameters != job.parameters:
            identity = identity_of(job.job_type, job.parameters, self._api)
            self._identities[job.job_id] = job.parameters, identity
        return identity


def _worth(job: Job) -> tuple[bool, int]:
    """Rank jobs: one that has not failed or expired above one that has, then the newest highest."""
    return not job.state.is_lost, job.job_id
