"""Talking to the service: one session, whichever of its interfaces answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mwa_client import __version__
from mwa_client.jobs.keys import ApiVersion
from mwa_client.secrecy import keep_secret

# The rest is imported when a session is opened: a run with nothing to do must not wait for it.
if TYPE_CHECKING:
    from mwa_client.asvo.api_client import ApiClient, HttpRequest
    from mwa_client.asvo.service import Service
    from mwa_client.asvo.session import Session
    from mwa_client.jobs.request import JobRequest
    from mwa_client.timing import Clock


def open_session(*services: Service, clock: Clock | None = None) -> Session:
    """Return a session with a service; it logs in when it is first needed.

    Parameters
    ----------
    services : Service
        Address, interface and credentials; several are tried in order until one is understood.
    clock : Clock, optional
        Time; default is the machine's.
    """
    from mwa_client.asvo.session import Session
    from mwa_client.timing import SystemClock

    clock = clock or SystemClock()
    return Session([_interface(service, clock) for service in services], clock)


def submission_of(request: JobRequest, api: ApiVersion, *, allow_resubmit: bool = False) -> HttpRequest:
    """Return the request that would submit a job over an interface; nothing is sent.

    Parameters
    ----------
    request : JobRequest
        The job.
    api : ApiVersion
        The interface.
    allow_resubmit : bool
        Have it made even if it is there already.
    """
    from mwa_client.asvo import api_2018, api_v1, api_v2

    submission = {
        ApiVersion.V2018: api_2018.submission,
        ApiVersion.V1: api_v1.submission,
        ApiVersion.V2: api_v2.submission,
    }[api]
    return submission(request.job_type, request.parameters(api), allow_resubmit=allow_resubmit)


def _interface(service: Service, clock: Clock) -> ApiClient:
    from mwa_client.asvo.api_2018 import Api2018
    from mwa_client.asvo.api_v1 import ApiV1
    from mwa_client.asvo.api_v2 import ApiV2
    from mwa_client.asvo.http import HttpClient
    from mwa_client.asvo.login_pace import LoginPace
    from mwa_client.asvo.tokens import TokenStore

    http = HttpClient(
        service.address,
        verify=service.verify,
        timeout=service.call_timeout,
        stall=service.stall_timeout,
        user_agent=f"mwa_client/{__version__}",
    )
    account = service.credentials
    keep_secret(account.key, user=service.client_name)
    if service.api is ApiVersion.V2018:
        return Api2018(
            http,
            service=service.name,
            user=account.user,
            password=account.password,
            is_default=service.is_default,
        )
    if service.api is ApiVersion.V1:
        return ApiV1(http, service=service.name, key=account.key, client_name=service.client_name)
    pace = None if service.shared_dir is None else LoginPace(service.shared_dir, clock)
    tokens = TokenStore(service.tokens, account.key or f"{account.user} {account.password}", clock, pace)
    if account.key:
        path, body = "/api/v2/api_login", {"login": service.client_name, "password": account.key}
    else:
        path, body = "/api/v2/login", {"username": account.user, "password": account.password}
    return ApiV2(http, service=service.name, login_path=path, login_body=body, tokens=tokens)
