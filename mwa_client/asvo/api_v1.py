"""The interface since the end of 2018: an API key, a session cookie, signed URLs for products."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from mwa_client.asvo.api_client import HttpRequest, Submission, new_job_id, raise_if_wrong_interface
from mwa_client.asvo.http import HttpClient
from mwa_client.asvo.job import Job, ProductFile, read_id, read_integer, read_word
from mwa_client.asvo.stream import StreamedResponse
from mwa_client.asvo.v1_v2 import raise_if_about_all_rows, read_jobs
from mwa_client.asvo.v2018_v1 import cancel_with_get, list_entries
from mwa_client.errors import (
    JobNotNamed,
    LoginRefused,
    ServiceRefused,
    SessionLost,
)
from mwa_client.jobs.keys import VOLTAGE_DOWNLOAD, ApiVersion, JobType

SUBMIT_PATHS = {
    JobType.CONVERSION: "/api/conversion_job",
    JobType.DOWNLOAD: "/api/download_vis_job",
    JobType.VOLTAGE: "/api/voltage_job",
    JobType.BEAMFORMER: "/api/beamformer_job",
    JobType.IMAGING: "/api/imaging_job",
}
IMAGE_FROM_JOB_PATH = "/api/preprocessed_imaging_job"

ALREADY_THERE = 2


class ApiV1:
    """The v1 interface.

    Parameters
    ----------
    http : HttpClient
        The HTTP side of the service.
    service : str
        The service's name in the ledger.
    key : str
        The user's API key.
    client_name : str
        The client name and version that the service is told. It may refuse one that it does not know.
    """

    api = ApiVersion.V1

    def __init__(self, http: HttpClient, *, service: str, key: str, client_name: str) -> None:
        self.service = service
        self._http = http
        self._key = key
        self._client_name = client_name

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def close_idle(self) -> None:
        """Close the connections that are only kept for later calls."""
        self._http.close_idle()

    def login(self) -> None:
        """Open a session with the API key."""
        try:
            self._http.login("/api/api_login", (self._client_name, self._key))
        except SessionLost as error:
            raise LoginRefused(
                f"{self._http.address} does not accept this API key.",
                "Check MWA_ASVO_API_KEY, or the file ~/.mwa-asvo/key; the key is on the profile page of the "
                "service's web site.",
                status=error.status,
                is_own=error.is_own,
            ) from None
        except ServiceRefused as error:
            hint = "Check MWA_ASVO_HOST, or leave out --api to have the interface detected."
            raise_if_wrong_interface(error, self._http.address, self.api, hint)
            raise

    def submit(self, job_type: JobType, parameters: Mapping[str, str], *, allow_resubmit: bool) -> Submission:
        """Post a job as a form; a job that is there already is no failure: its id comes back."""
        request = submission(job_type, parameters, allow_resubmit=allow_resubmit)
        try:
            return _answer(self._http.call(request.method, request.path, form=request.form))
        except ServiceRefused as error:
            raise_if_about_all_rows(error)
            if isinstance(error.body, dict) and _is_already_there(error.body):
                return _answer(error.body)
            raise

    def jobs(self, known: Collection[int] = ()) -> Iterable[Job]:
        """Read the whole job list."""
        return list(read_jobs(list_entries(self._http)))

    def job(self, job_id: int) -> Job | None:
        """Look one job up in the list: there is no other way."""
        return next((job for job in self.jobs() if job.job_id == job_id), None)

    def cancel(self, job_id: int) -> None:
        """Cancel a job."""
        cancel_with_get(self._http, job_id)

    def open_product(self, job_id: int, file: ProductFile, headers: Mapping[str, str]) -> StreamedResponse:
        """Ask the object store for the file."""
        return self._http.open_url(file.url, headers)


def submission(job_type: JobType, parameters: Mapping[str, str], *, allow_resubmit: bool) -> HttpRequest:
    """Return the request that submits a job."""
    path = IMAGE_FROM_JOB_PATH if "source_job_id" in parameters else SUBMIT_PATHS[job_type]
    form = {**parameters, "allow_resubmit": "true" if allow_resubmit else "false"}
    if job_type is JobType.VOLTAGE:
        form["download_type"] = VOLTAGE_DOWNLOAD
    return HttpRequest("POST", path, form=form)


def _answer(body: object) -> Submission:
    existed = isinstance(body, dict) and _is_already_there(body)
    if existed and isinstance(body, dict) and read_id(body.get("job_id")) is None:
        raise JobNotNamed("The service has this job already, but does not give its job id.")
    return Submission(new_job_id(body), existed)


def _is_already_there(body: dict[str, object]) -> bool:
    code, words = body.get("error_code"), read_word(body.get("error"))
    return read_integer(code) == ALREADY_THERE or words.startswith("job already")
