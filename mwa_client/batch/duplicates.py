"""One submission; where the service answers that it has this job already, which job it means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from mwa_client.asvo.api_client import Submission
from mwa_client.asvo.job import Job
from mwa_client.asvo.session import Session
from mwa_client.errors import JobDiffers, JobNotNamed
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.listed import agreement, contradicts, identity_of
from mwa_client.jobs.request import JobRequest

HOW_TO_HAVE_ANOTHER = "To have a new job made, run again with --allow-resubmit, or give allow_resubmit=true."
NOTHING_LISTED: Mapping[int, Job] = MappingProxyType({})


def submit(
    session: Session,
    request: JobRequest,
    *,
    allow_resubmit: bool = False,
    listed: Mapping[int, Job] = NOTHING_LISTED,
) -> Submission:
    """Submit a job; where the service has it already, check that it asks for the same.

    Parameters
    ----------
    session : Session
        The service; logged in, so that it is known which interface it speaks.
    request : JobRequest
        The job.
    allow_resubmit : bool
        Make a new job even if the service has one already.
    listed : mapping of int to Job
        The latest listing, by job id; jobs in it are not requested again.

    Raises
    ------
    JobDiffers
        The job that the service takes for the same was asked for something else.
    JobNotNamed
        The service does not say which job it has, and its list does not either.
    ServiceError
        As `mwa_client.asvo.session.Session.submit`.
    """
    api = session.api
    try:
        submission = session.submit(request.job_type, request.parameters(api), allow_resubmit=allow_resubmit)
    except JobNotNamed:
        meant = _job_meant(session.jobs().values(), request, api)
        if meant is None:
            raise
        return Submission(meant.job_id, existed=True)
    if submission.existed:
        job = listed.get(submission.job_id) or session.job(submission.job_id)
        difference = None if job is None else contradicts(job, request, api)
        if difference is not None:
            raise JobDiffers(
                f"The service has job {submission.job_id} for this already, but it differs: {difference}.",
                HOW_TO_HAVE_ANOTHER,
            )
    return submission


def _same_job(jobs: Iterable[Job], request: JobRequest, api: ApiVersion) -> Job | None:
    """Return a job that asks for exactly what the row asks for: a ready one, else the newest."""
    wanted = request.identity_on(api)
    same = [
        job
        for job in jobs
        if not job.state.is_lost
        and job.job_type is not None
        and identity_of(job.job_type, job.parameters, api) == wanted
    ]
    return max(same, key=lambda job: (job.state.is_ready, job.job_id), default=None)


def _job_meant(jobs: Iterable[Job], request: JobRequest, api: ApiVersion) -> Job | None:
    """Return the job that the service means without naming it: the one that agrees in most keys."""
    listed = [job for job in jobs if not job.state.is_lost and job.obs_id == request.obs_id]
    same = _same_job(listed, request, api)
    if same is not None:
        return same
    # The listing may leave keys out, so look for the jobs that contradict nothing.
    agreeing = [(agreement(job, request, api), job) for job in listed if not contradicts(job, request, api)]
    most = max((number for number, _ in agreeing), default=0)
    best = [job for number, job in agreeing if number == most]
    return best[0] if len(best) == 1 else None
