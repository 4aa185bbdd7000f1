"""The interface of 2017 and 2018: a password, integers for states, products from the service itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from mwa_client.asvo.api_client import HttpRequest, Submission, new_job_id, raise_if_wrong_interface
from mwa_client.asvo.http import HttpClient
from mwa_client.asvo.job import (
    JOB_TYPES,
    STATES_2018,
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
)
from mwa_client.asvo.stream import StreamedResponse
from mwa_client.asvo.v2018_v1 import cancel_with_get, list_entries
from mwa_client.errors import (
    LoginRefused,
    ServiceMoved,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnreachable,
    SessionLost,
)
from mwa_client.jobs.keys import ApiVersion, JobType

DOWNLOAD_TYPES = {1: "vis", 2: "vis_meta"}
"""What a download job fetches, if its parameters do not say it."""

SUBMIT_PATHS = {
    JobType.CONVERSION: "/api/conversion_job",
    JobType.DOWNLOAD: "/api/download_vis_job",
}


class Api2018:
    """The 2018 interface.

    Parameters
    ----------
    http : HttpClient
        The HTTP side of the service.
    service : str
        The service's name in the ledger.
    user, password : str
        The user's account.
    is_default : bool
        The address is the one of 2018 that nobody has changed. Where nobody answers there, waiting
        would not help: the service has moved on.
    """

    api = ApiVersion.V2018

    def __init__(
        self, http: HttpClient, *, service: str, user: str, password: str, is_default: bool = False
    ) -> None:
        self.service = service
        self._http = http
        self._user = user
        self._password = password
        self._is_default = is_default
        self._has_answered = False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def close_idle(self) -> None:
        """Close the connections that are only kept for later calls."""
        self._http.close_idle()

    def login(self) -> None:
        """Open a session with user name and password."""
        try:
            self._http.login("/api/login", (self._user, self._password))
        except SessionLost as error:
            raise LoginRefused(
                f"{self._http.address} does not accept this user name and password.",
                "Check ASVO_USER and ASVO_PASS.",
                status=error.status,
                is_own=error.is_own,
            ) from None
        except ServiceRefused as error:
            hint = (
                "Check ASVO_HOST and ASVO_PORT, leave out --api to have the interface detected, or set "
                "MWA_ASVO_API_KEY for today's service."
            )
            raise_if_wrong_interface(error, self._http.address, self.api, hint)
            raise
        except ServiceUnreachable as error:
            if self._is_default and not self._has_answered:
                raise _moved_on(error) from None
            raise
        self._has_answered = True

    def submit(self, job_type: JobType, parameters: Mapping[str, str], *, allow_resubmit: bool) -> Submission:
        """Post the row's keys and values as a form; this service does not notice duplicates."""
        request = submission(job_type, parameters, allow_resubmit=allow_resubmit)
        reply = self._http.call(request.method, request.path, form=request.form)
        return Submission(new_job_id(reply))

    def jobs(self, known: Collection[int] = ()) -> Iterable[Job]:
        """Read the whole job list; entries that cannot be read are skipped."""
        return list(read_listing(list_entries(self._http), _read_job))

    def job(self, job_id: int) -> Job | None:
        """Look one job up in the list: there is no other way."""
        return next((job for job in self.jobs() if job.job_id == job_id), None)

    def cancel(self, job_id: int) -> None:
        """Cancel a job."""
        cancel_with_get(self._http, job_id)

    def open_product(self, job_id: int, file: ProductFile, headers: Mapping[str, str]) -> StreamedResponse:
        """Ask the service itself for the file."""
        reply = self._http.open_path(
            "/api/download", query={"file_name": file.name, "job_id": str(job_id)}, headers=headers
        )
        if reply.status == 401:
            reply.close()
            raise SessionLost("The service does not recognise this session.", status=401)
        return reply


def submission(job_type: JobType, parameters: Mapping[str, str], *, allow_resubmit: bool) -> HttpRequest:
    """Return the request that submits a job. Every job may be made again, so `allow_resubmit` is not sent."""
    return HttpRequest("POST", SUBMIT_PATHS[job_type], form=parameters)


def _moved_on(error: ServiceUnavailable) -> ServiceMoved:
    return ServiceMoved(
        f"{error.what} This is the address of 2018; today's service takes an API key instead of a password.",
        "Set MWA_ASVO_API_KEY; the key is on the profile page of the service's web site, "
        "https://asvo.mwatelescope.org. If your service is elsewhere, set ASVO_HOST and ASVO_PORT.",
    )


def _read_job(row: dict[str, object]) -> Job | None:
    job_id = read_id(row.get("id"))
    if job_id is None:
        return None
    given = row.get("job_params")
    parameters: dict[str, object] = dict(given) if isinstance(given, dict) else {}
    state_number = read_integer(row.get("job_state"))
    type_number = read_integer(row.get("job_type"))
    if type_number in DOWNLOAD_TYPES:
        parameters["download_type"] = parameters.get("download_type") or DOWNLOAD_TYPES[type_number]
    return Job(
        job_id=job_id,
        state=STATES_2018.get(-1 if state_number is None else state_number, JobState.UNKNOWN),
        state_word="" if row.get("job_state") is None else f"state {clean_text(row['job_state'], 40)}",
        obs_id=read_id(parameters.get("obs_id")),
        job_type=JOB_TYPES.get(-1 if type_number is None else type_number),
        parameters=parameters,
        error_text=clean_text(row.get("error_text")),
        product=_read_product(row.get("product")),
        raw=row,
    )


def _read_product(product: object) -> tuple[ProductFile, ...]:
    """Read ``{"files": [[name, size], [name, size, sha1]]}``; null until the job is ready."""
    return product_of(map(_read_file, files_of(product)))


def _read_file(entry: object) -> ProductFile | None:
    if not isinstance(entry, list) or len(entry) < 2 or not isinstance(entry[0], str):
        return None
    return ProductFile(entry[0], read_size(entry[1]), read_sha1(entry[2]) if len(entry) > 2 else None)
