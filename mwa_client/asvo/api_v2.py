"""The interface since September 2026: an API key or a password, tokens, JSON, signed URLs for products."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from mwa_client.asvo.api_client import HttpRequest, Submission, new_job_id, raise_if_wrong_interface
from mwa_client.asvo.http import HttpClient
from mwa_client.asvo.job import Job, ProductFile, read_id, read_integer
from mwa_client.asvo.replies import Allowance
from mwa_client.asvo.stream import StreamedResponse
from mwa_client.asvo.tokens import Tokens, TokenStore
from mwa_client.asvo.v1_v2 import raise_if_about_all_rows, read_job, read_jobs
from mwa_client.errors import (
    BadReply,
    JobNotNamed,
    LoginRefused,
    ServiceRefused,
    ServiceUnreachable,
    SessionLost,
    WrongInterface,
)
from mwa_client.jobs.key_table import find_key
from mwa_client.jobs.keys import ApiVersion, JobType, ValueKind

SUBMIT_PATHS = {
    JobType.CONVERSION: "/api/v2/conversion_job",
    JobType.DOWNLOAD: "/api/v2/download_vis_job",
    JobType.VOLTAGE: "/api/v2/voltage_job",
    JobType.BEAMFORMER: "/api/v2/beamformer_job",
    JobType.IMAGING: "/api/v2/imaging_job",
}
IMAGE_FROM_JOB_PATH = "/api/v2/image_from_job"
PAGE_SIZE = 500
"""The most jobs that the service lists at once."""
MOST_PAGES = 1000

ALREADY_THERE = "JOB_ALREADY_SUBMITTED"
NOT_LOGGED_IN = ("AUTH_INVALID_TOKEN", "AUTH_REQUIRED")


class ApiV2:
    """The v2 interface.

    Parameters
    ----------
    http : HttpClient
        The HTTP side of the service.
    service : str
        The service's name in the ledger.
    login_path : str
        ``/api/v2/api_login``, or ``/api/v2/login`` for user name and password.
    login_body : mapping of str to str
        The credentials, as that path wants them.
    tokens : TokenStore
        Where tokens are kept between runs.
    """

    api = ApiVersion.V2

    def __init__(
        self,
        http: HttpClient,
        *,
        service: str,
        login_path: str,
        login_body: Mapping[str, str],
        tokens: TokenStore,
    ) -> None:
        self.service = service
        self._http = http
        self._login_path = login_path
        self._login_body = login_body
        self._store = tokens
        self._tokens: Tokens | None = None
        self._refused: set[str] = set()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def close_idle(self) -> None:
        """Close the connections that are only kept for later calls."""
        self._http.close_idle()

    def login(self) -> None:
        """Get good tokens: those from the file, else refreshed ones, else those of a new login."""
        with self._store.locked():
            tokens = self._kept() or self._refreshed() or self._logged_in()
            # Cookies first: a call that fails with the old ones must not count against these tokens.
            self._http.cookies = {"mwa_access_token": tokens.access}
            self._tokens = tokens

    def submit(self, job_type: JobType, parameters: Mapping[str, str], *, allow_resubmit: bool) -> Submission:
        """Post a job as JSON; a job that is there already is no failure."""
        request = submission(job_type, parameters, allow_resubmit=allow_resubmit)
        try:
            reply = self._call(request.method, request.path, request.json)
        except ServiceRefused as error:
            raise_if_about_all_rows(error)
            if _code(error) == ALREADY_THERE:
                return _existing(error.body)
            raise
        return Submission(new_job_id(reply), existed=reply.get("error_code") == ALREADY_THERE)

    def jobs(self, known: Collection[int] = ()) -> Iterable[Job]:
        """Read the job list page by page; it has 30 days, so older known jobs are looked up one by one."""
        listed = {job.job_id: job for job in read_jobs(self._pages())}
        for job_id in known:
            if job_id not in listed:
                job = self.job(job_id)
                if job is not None:
                    listed[job_id] = job
        return listed.values()

    def job(self, job_id: int) -> Job | None:
        """Look one job up, however old it is."""
        try:
            row = self._call("GET", f"/api/v2/jobs/{job_id}")
        except SessionLost:
            raise
        except ServiceRefused:
            return None  # Not there, or another user's: that concerns one row.
        return read_job(row) if isinstance(row, dict) else None

    def cancel(self, job_id: int) -> None:
        """Cancel a job. The HTTP status decides, so cancelling a cancelled job succeeds."""
        try:
            self._call("DELETE", f"/api/v2/jobs/{job_id}")
        except BadReply:
            pass

    def open_product(self, job_id: int, file: ProductFile, headers: Mapping[str, str]) -> StreamedResponse:
        """Ask the object store for the file."""
        return self._http.open_url(file.url, headers)

    # --- Tokens ---------------------------------------------------------------------------------------

    def _kept(self) -> Tokens | None:
        tokens = self._store.load()
        if tokens is None or tokens.access in self._refused or not self._store.is_good(tokens.access_until):
            return None
        return tokens

    def _refreshed(self) -> Tokens | None:
        tokens = self._store.load()
        if tokens is None or tokens.refresh in self._refused or not self._store.is_good(tokens.refresh_until):
            return None
        self._http.cookies = {"mwa_refresh_token": tokens.refresh}
        try:
            reply = self._http.call("POST", "/api/v2/refresh", json={})
        except ServiceRefused:
            self._refused.add(tokens.refresh)  # A refused refresh means: log in again.
            return None
        return self._store.save(reply) if isinstance(reply, dict) else None

    def _logged_in(self) -> Tokens:
        self._http.cookies = {}
        self._store.count_login()
        try:
            reply = self._http.call("POST", self._login_path, json=self._login_body)
        except ServiceUnreachable:
            self._store.discount_login()
            raise
        except ServiceRefused as error:
            self._store.let_others_try()
            self._raise_login_error(error)
            raise
        if isinstance(reply, dict) and "access_token" not in reply:
            reply = {**reply, **_tokens_in_cookies(self._http.received_cookies)}
        tokens = self._store.save(reply) if isinstance(reply, dict) else None
        if tokens is None:
            raise BadReply(f"{self._http.address} accepted the login but returned no tokens.")
        return tokens

    def _raise_login_error(self, error: ServiceRefused) -> None:
        hint = "Check MWA_ASVO_HOST, or leave out --api to have the interface detected."
        try:
            raise_if_wrong_interface(error, self._http.address, self.api, hint)
        except WrongInterface:
            self._store.discount_login()
            raise
        if error.status in (400, 401, 403, 422):
            said = error.what.partition(": ")[2] or error.what  # There is no session yet to speak of.
            raise LoginRefused(
                f"{self._http.address} does not accept these credentials: {said}",
                "Check MWA_ASVO_API_KEY, or the file ~/.mwa-asvo/key; the key is on the profile page of the "
                "service's web site. If you log in with a user name, check ASVO_USER and ASVO_PASS.",
                status=error.status,
                is_own=error.is_own,
            ) from None

    # --- Calls ----------------------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        allowance: Allowance | None = None,
    ) -> Any:
        tokens = self._tokens
        try:
            return self._http.call(method, path, json=body, allowance=allowance)
        except ServiceRefused as error:
            if isinstance(error, SessionLost) or _code(error) in NOT_LOGGED_IN:
                if tokens is not None:
                    self._refused.add(tokens.access)
                raise SessionLost(error.what, status=error.status) from None
            raise

    def _pages(self) -> Iterator[object]:
        """Yield the entries of all pages of the job list."""
        offset, allowance = 0, Allowance.for_listing()
        for _ in range(MOST_PAGES):
            query = {"limit": PAGE_SIZE, "offset": offset, "sort_by": "id"}
            page = self._call("POST", "/api/v2/get_jobs", query, allowance)
            entries = page.get("jobs") if isinstance(page, dict) else None
            if not isinstance(entries, list):
                raise BadReply("The service answered with something that is not a list of jobs.")
            allowance.take(entries=len(entries))
            yield from entries
            offset += min(len(entries), PAGE_SIZE)
            total = read_integer(page.get("total_count"))
            if (
                not entries
                or (total is None and len(entries) < PAGE_SIZE)
                or (total is not None and offset >= total)
            ):
                return
        # Part of a list is none: the jobs that it lacks would be made once more.
        raise BadReply("The service's list of jobs has no end.")


def submission(job_type: JobType, parameters: Mapping[str, str], *, allow_resubmit: bool) -> HttpRequest:
    """Return the request that submits a job."""
    path = IMAGE_FROM_JOB_PATH if "source_job_id" in parameters else SUBMIT_PATHS[job_type]
    return HttpRequest("POST", path, json={**typed(parameters), "allow_resubmit": allow_resubmit})


def typed(parameters: Mapping[str, str]) -> dict[str, object]:
    """Return a job's parameters for JSON: numbers as numbers, booleans as booleans."""
    return {word: _typed(word, value) for word, value in parameters.items()}


def _typed(word: str, value: str) -> object:
    key = find_key(word)
    kind = ValueKind.CHOICE if key is None else key.kind
    if kind is ValueKind.BOOLEAN:
        return value == "true"
    if kind is ValueKind.DECIMAL:
        return float(value)
    # Image sizes are choices, but numbers in JSON.
    return int(value) if kind is ValueKind.INTEGER or value.isdigit() else value


def _code(error: ServiceRefused) -> object:
    return error.body.get("error_code") if isinstance(error.body, dict) else None


def _existing(body: object) -> Submission:
    """Return the job that exists already, if the answer names it."""
    body = body if isinstance(body, dict) else {}
    detail = body.get("detail")
    for place in (body, detail if isinstance(detail, dict) else {}):
        job_id = read_id(place.get("job_id"))
        if job_id is not None:
            return Submission(job_id, existed=True)
    raise JobNotNamed("The service has this job already, but does not give its job id.") from None


def _tokens_in_cookies(cookies: Mapping[str, str]) -> dict[str, str]:
    names = {"access_token": "mwa_access_token", "refresh_token": "mwa_refresh_token"}
    return {key: cookies[name] for key, name in names.items() if name in cookies}
