"""Compare jobs that the service lists with what rows ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mwa_client.jobs.key_table import KEY_BY_NAME, find_key
from mwa_client.jobs.keys import VOLTAGE_DOWNLOAD, ApiVersion, JobType
from mwa_client.jobs.request import (
    NOT_PART_OF_THE_PRODUCT,
    JobRequest,
    identity_from,
    implied_values,
    keys_always_sent,
    required_keys,
)
from mwa_client.jobs.text import excerpt
from mwa_client.jobs.values import parse_listed_value, shortest
from mwa_client.jobs.wording import with_article

if TYPE_CHECKING:
    from mwa_client.asvo.job import Job

_ADDED_BY_THE_SERVICE = ("priority", "user_pawsey_group")
_NO_FLAGS: tuple[object, ...] = ("", "[]", [], {})


def identity_of(job_type: JobType, parameters: Mapping[str, object], api: ApiVersion) -> str | None:
    """Return the identity of a job that the service lists.

    Parameters
    ----------
    job_type : JobType
        The listed job's type.
    parameters : mapping of str to object
        Its ``job_params``.
    api : ApiVersion
        The interface that listed it.

    Returns
    -------
    str or None
        Equal to the `JobRequest.identity_on` the interface of a row that asks for this job; None where the
        parameters do not say all that decides the product, or hold something that this program does not know.

    Examples
    --------
    >>> identity_of(JobType.DOWNLOAD, {"obs_id": 1191828584, "download_type": "vis"}, ApiVersion.V2018)
    'job_type=d obs_id=1191828584'
    """
    if not isinstance(parameters, Mapping):
        return None
    values: dict[str, str] = {}
    for name, listed in parameters.items():
        if listed is None or _is_irrelevant(job_type, name, listed):
            continue
        key = find_key(name) if isinstance(name, str) else None
        if key is None or job_type not in key.job_types or not key.is_listed_as(name, api):
            return None
        if listed == "":
            continue
        value = parse_listed_value(key, name, listed)
        if value is None or values.setdefault(key.name, value) != value:
            return None
    if not required_keys(job_type, api) <= values.keys():
        return None
    if not keys_always_sent(job_type, values, api) <= values.keys():
        return None  # The job was made with the defaults of its day, which cannot be known any more.
    return identity_from(job_type, values, api)


def _is_irrelevant(job_type: JobType, name: object, value: object) -> bool:
    """Say whether a listed key does not say what the product is."""
    if name == "flags":
        return value in _NO_FLAGS
    if name == "download_type" and job_type is JobType.VOLTAGE:
        return value == VOLTAGE_DOWNLOAD
    return name in _ADDED_BY_THE_SERVICE or name in NOT_PART_OF_THE_PRODUCT


def contradicts(job: Job, request: JobRequest, api: ApiVersion, *, is_known: bool = False) -> str | None:
    """Say in which values a listed job differs from what a row asks for, among the keys that both give.

    This is for a job that is believed to be the row's, by the ledger or by the service's own answer; for all
    other jobs there is `identity_of`. Services leave keys out of their listings and add others, so a key that
    only one side gives is no difference. A switch that a row leaves out, however, is off: that tells the jobs
    of two rows apart.

    Parameters
    ----------
    job : Job
        The job as the service lists it.
    request : JobRequest
        What the row asks for.
    api : ApiVersion
        The interface that listed the job.
    is_known : bool
        The ledger knows the job as this row's: then only the keys that were sent for the row are compared,
        and no switch that the listing adds.

    Returns
    -------
    str or None
        The differences, ``avg_time_res=4 instead of 2``; None where there are none.
    """
    if job.job_type not in (None, request.job_type):
        assert job.job_type is not None
        return f"{with_article(job.job_type.label)} job instead of {with_article(request.job_type.label)} job"
    differing = [entry for entry in _compared(job, request, api) if entry[1] != entry[2]]
    if differing and is_known:
        sent = {key.name for name in request.parameters(api) if (key := find_key(name)) is not None}
        differing = [entry for entry in differing if entry[0] in sent]
    if job.obs_id not in (None, request.obs_id):
        differing.insert(0, ("obs_id", str(job.obs_id), str(request.obs_id)))
    differences = [f"{name}={excerpt(listed)} instead of {asked}" for name, listed, asked in differing]
    return ", ".join(differences) or None


def agreement(job: Job, request: JobRequest, api: ApiVersion) -> int:
    """Return for how many keys a listed job has the value that a row asks for."""
    return sum(listed == asked for _, listed, asked in _compared(job, request, api))


def _compared(job: Job, request: JobRequest, api: ApiVersion) -> Iterator[tuple[str, str, str]]:
    """Yield each key that both sides give, with the job's value and the row's."""
    asked = _asked_values(request, api)
    for name, value in job.parameters.items():
        key = find_key(name) if isinstance(name, str) else None
        if key is None or key.name not in asked or value in (None, ""):
            continue
        listed = parse_listed_value(key, name, value)
        if listed is not None:
            yield key.name, listed, shortest(key, asked[key.name])


def _asked_values(request: JobRequest, api: ApiVersion) -> dict[str, str]:
    """Return the values that a row gives or implies, without those that the interface decides by itself.

    A switch that is off unless it is asked for is off on every interface. Any other key that an interface
    does not have has a value of the interface's own there.
    """
    given = dict(request.values)
    implied = implied_values(request.job_type, given, request.written_for)
    relevant = {
        name: value
        for name, value in implied.items()
        if KEY_BY_NAME[name].name_on(api) is not None or value == "false"
    }
    return {name: value for name, value in {**relevant, **given}.items() if name != "obs_id"}
