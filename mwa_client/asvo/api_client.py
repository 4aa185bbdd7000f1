"""What every interface of the service can do, and what all of them share."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

from mwa_client.asvo.job import Job, ProductFile, clean_text, read_id
from mwa_client.errors import BadReply, ServiceRefused, WrongInterface
from mwa_client.formatting import as_sentence
from mwa_client.jobs.keys import ApiVersion, JobType
from mwa_client.light_dataclasses import dataclass

if TYPE_CHECKING:
    from mwa_client.asvo.stream import StreamedResponse


@dataclass(frozen=True)
class Submission:
    """The service's answer to a submission.

    Attributes
    ----------
    job_id : int
        The job's id.
    existed : bool
        The service already had a job for the same request; `job_id` is the id of that one.
    """

    job_id: int
    existed: bool = False


@dataclass(frozen=True)
class HttpRequest:
    """A request of the API whose body is a form or a JSON object."""

    method: str
    path: str
    form: Mapping[str, str] | None = None
    json: Mapping[str, object] | None = None

    @property
    def body(self) -> Mapping[str, object]:
        """The keys and values that are sent."""
        return self.form or self.json or {}

    def __str__(self) -> str:
        return f"{self.method} {self.path} {urlencode(self.form) if self.form else jsonlib.dumps(self.json)}"


class ApiClient(Protocol):
    """What the program needs of an interface of the service; each interface has a class of its own.

    Every method raises `SessionLost` where logging in again would help.
    """

    @property
    def api(self) -> ApiVersion:
        """Which interface this is."""
        ...

    @property
    def service(self) -> str:
        """The service's name in the ledger: a job of one service is not looked for at another."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...

    def close_idle(self) -> None:
        """Close the connections that are only kept for later calls."""
        ...

    def login(self) -> None:
        """Open a session; raise `WrongInterface` if the server does not speak this interface."""
        ...

    def submit(self, job_type: JobType, parameters: Mapping[str, str], *, allow_resubmit: bool) -> Submission:
        """Submit a job whose parameters have this interface's names and values."""
        ...

    def jobs(self, known: Collection[int] = ()) -> Iterable[Job]:
        """List the user's jobs; look up those `known` jobs that are too old for the listing."""
        ...

    def job(self, job_id: int) -> Job | None:
        """Look one job up; None where there is none."""
        ...

    def cancel(self, job_id: int) -> None:
        """Cancel a job."""
        ...

    def open_product(self, job_id: int, file: ProductFile, headers: Mapping[str, str]) -> StreamedResponse:
        """Start the download of one file of a job."""
        ...


def new_job_id(reply: object) -> int:
    """Return the id of a job that the service has just made.

    Raises
    ------
    BadReply
        The answer does not say it.
    """
    job_id = read_id(reply.get("job_id")) if isinstance(reply, dict) else None
    if job_id is None:
        said = clean_text(reply.get("error") or reply.get("message")) if isinstance(reply, dict) else ""
        if said:
            raise BadReply(as_sentence(f"The service gave no job id, but says: {said}"))
        raise BadReply("The service accepted the job but did not give its job id.")
    return job_id


def raise_if_wrong_interface(error: ServiceRefused, address: str, api: ApiVersion, hint: str) -> None:
    """Raise `WrongInterface` if a login was refused because its path does not exist.

    Parameters
    ----------
    error : ServiceRefused
        The refusal.
    address : str
        The server that was asked.
    api : ApiVersion
        The interface that was tried.
    hint : str
        What the user can do.
    """
    if error.status in (404, 405):
        raise WrongInterface(
            f"{address} does not offer the {api.value} interface (HTTP {error.status}).",
            hint,
            status=error.status,
        ) from None
