"""What the interfaces v1 and v2 share: states in words, products by URL or path, refusals of all rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import unquote

from mwa_client.asvo.job import (
    JOB_TYPES,
    Delivery,
    Job,
    JobState,
    ProductFile,
    clean_text,
    files_of,
    product_of,
    read_id,
    read_integer,
    read_listing,
    read_sha1,
    read_size,
    read_word,
)
from mwa_client.errors import JobLimitReached, ServiceOutage, ServiceRefused
from mwa_client.jobs.keys import JobType

JOB_LIMIT = 1
"""v1's error code for a user who has too many jobs."""

STATES = {state.value: state for state in JobState}

JOB_TYPE_WORDS = {
    "conversion": JobType.CONVERSION,
    "download": JobType.DOWNLOAD,
    "download_visibilities": JobType.DOWNLOAD,
    "download_metadata": JobType.DOWNLOAD,
    "voltage": JobType.VOLTAGE,
    "beamformer": JobType.BEAMFORMER,
    "imaging": JobType.IMAGING,
}

DOWNLOAD_TYPES: dict[object, str] = {
    1: "vis",
    2: "vis_meta",
    "download_visibilities": "vis",
    "download_metadata": "vis_meta",
}
"""What a download job fetches, if its parameters do not say it."""


def read_jobs(listing: Iterable[object]) -> Iterator[Job]:
    """Yield the jobs of a listing."""
    return read_listing(listing, read_job)


def read_job(row: dict[str, object]) -> Job | None:
    """Return the job that a row of a listing describes, or None if it has no id."""
    job_id = read_id(row.get("id"))
    if job_id is None:
        return None
    given = row.get("job_params")
    parameters: dict[str, object] = given if isinstance(given, dict) else {}
    download_type = DOWNLOAD_TYPES.get(_number_or_word(row.get("job_type")))
    if download_type is not None and parameters.get("download_type") in (None, ""):
        parameters = {**parameters, "download_type": download_type}
    return Job(
        job_id=job_id,
        state=_state(row.get("job_state")),
        state_word=clean_text(row.get("job_state"), 40),
        obs_id=read_id(parameters.get("obs_id")),
        job_type=_job_type(row.get("job_type")),
        parameters=parameters,
        error_text=clean_text(row.get("error_text")),
        product=_read_product(row.get("product"), job_id),
        raw=row,
    )


def _state(word: object) -> JobState:
    return STATES.get(read_word(word), JobState.UNKNOWN)


def _job_type(value: object) -> JobType | None:
    known = _number_or_word(value)
    return JOB_TYPES.get(known) if isinstance(known, int) else JOB_TYPE_WORDS.get(known)


def _number_or_word(value: object) -> int | str:
    number = read_integer(value)
    return read_word(value) if number is None else number


def _read_product(product: object, job_id: int) -> tuple[ProductFile, ...]:
    entries = files_of(product)
    return product_of(_read_file(entry, job_id) if isinstance(entry, dict) else None for entry in entries)


def _read_file(entry: dict[str, object], job_id: int) -> ProductFile | None:
    """Read one file; None if it has neither a URL nor a path."""
    url, path = entry.get("url"), entry.get("path")
    size, sha1 = read_size(entry.get("size")), read_sha1(entry.get("sha1"))
    if isinstance(url, str) and url:
        # Not with urlsplit, which can fail and is slow for a long listing.
        name = unquote(url.partition("?")[0]).rsplit("/", 1)[-1]
        return ProductFile(name, size, sha1, Delivery.ACACIA, url=url)
    if isinstance(path, str) and path:
        is_dug = read_word(entry.get("type")) == Delivery.DUG.value
        delivery = Delivery.DUG if is_dug else Delivery.SCRATCH
        return ProductFile(
            path.rstrip("/").rsplit("/", 1)[-1] or str(job_id), size, sha1, delivery, path=path
        )
    return None


def raise_if_about_all_rows(error: ServiceRefused) -> None:
    """Raise another error if a refusal concerns every row and will pass: an outage, the job limit.

    The texts are those of v1; if v2 has error codes for these cases, they are not known.
    """
    words = error.what.lower()
    code = error.body.get("error_code") if isinstance(error.body, dict) else None
    if "outage" in words or "staging server is down" in words:
        raise ServiceOutage(error.what) from None
    if read_integer(code) == JOB_LIMIT or "job limit" in words:
        raise JobLimitReached(error.what) from None
