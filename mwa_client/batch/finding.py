"""Which of the jobs that the service lists a row is looking for: one index for all rows, once a listing."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mwa_client.asvo.job import Job
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.listed import contradicts, identity_of
from mwa_client.jobs.request import JobRequest


class Finder:
    """The jobs of the last listing, by what they ask for."""

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
        """Make the index of a listing.

        Parameters
        ----------
        listing : mapping of int to Job
            The jobs by their ids.
        api : ApiVersion
            The interface that has listed them.
        asked : mapping of str to int
            What is looked for, as the identities of listed jobs say it, and the observation of each.
        taken : collection of int
            The jobs that are known to be those of other rows.
        """
        observations = set(asked.values())
        self._api, self._same, self._unclaimed = api, {}, {}
        for job in listing.values():
            if job.obs_id not in observations:
                continue
            identity = self._identity(job)
            if identity is not None and identity in asked:
                self._same.setdefault(identity, []).append(job)
            elif job.job_id not in taken:
                self._unclaimed.setdefault(job.obs_id or 0, []).append(job)

    def same(self, identity: str) -> list[Job]:
        """Return the jobs that ask for exactly the same."""
        return self._same.get(identity, [])

    def answer(self, identity: str, request: JobRequest, after: int) -> Job | None:
        """Return the job that an unanswered submission has made: its id is above `after`.

        Services leave keys out of what they list, and add some; so what contradicts nothing will do, where
        there is no job that says exactly the same.
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
        """Return what a job asks for; it takes a while to work out, and does not change between listings."""
        if job.job_type is None:
            return None
        parameters, identity = self._identities.get(job.job_id, (None, None))
        if parameters != job.parameters:
            identity = identity_of(job.job_type, job.parameters, self._api)
            self._identities[job.job_id] = job.parameters, identity
        return identity


def _worth(job: Job) -> tuple[bool, int]:
    """Rank jobs: one that lives before one that came to nothing, then the newest."""
    return not job.state.is_lost, job.job_id
