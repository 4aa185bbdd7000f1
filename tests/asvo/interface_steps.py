"""What the tests of the interfaces share: the scene at the service, and what a run must have come to."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from shared import FastClock, Run, lines_shown, service_of

from mwa_client.asvo import open_session
from mwa_client.asvo.session import Session
from mwa_client.batch.ledger import Ledger
from mwa_client.errors import (
    ExitStatus,
)
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Job as AtService
from mwa_client.sandbox import LoggedRequest, Sandbox

EXAMPLE = Path(__file__).parents[2] / "examples" / "jobs.csv"
OBS = 1191828528
OTHER = 1191828584
VISIBILITIES = {"obs_id": str(OBS), "download_type": "vis"}
DAY = 86400.0
REFRESH = "/api/v2/refresh"
EVERY = pytest.mark.parametrize("api", list(ApiVersion), ids=lambda api: api.value)
TODAY = pytest.mark.parametrize("api", [ApiVersion.V1, ApiVersion.V2], ids=lambda api: api.value)


SIX = tuple(range(OBS, OBS + 6))


def session_with(sandbox: Sandbox, api: ApiVersion, clock: FastClock, **options: Any) -> closing[Session]:
    return closing(open_session(service_of(sandbox, api, **options), clock=clock))


def stored(sandbox: Sandbox) -> list[LoggedRequest]:
    """What the object store was asked, in that order: a reply that the client drops is noted late."""
    asked = (entry for entry in sandbox.requests if entry.store)
    return sorted(asked, key=lambda entry: (entry.started, entry.connection))


def assert_complete(sandbox: Sandbox, run: Run, rows: int) -> None:
    """So many rows are complete, each with the bytes of its own job."""
    assert len(run.summary.complete) == rows
    for row in run.summary.complete:
        job = sandbox.service.find(row.row.job_id)
        assert job is not None and int(job.obs_id) == row.row.obs_id
        found = [hashlib.sha1(file.path.read_bytes()).hexdigest() for file in row.files]
        assert found == [job.content.sha1]
        assert all(file.verified for file in row.files)


def assert_all_well(sandbox: Sandbox, run: Run, rows: int) -> None:
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert_complete(sandbox, run, rows)


def assert_one_job_each(sandbox: Sandbox, *obs_ids: int) -> None:
    assert sorted(int(job.obs_id) for job in sandbox.jobs) == sorted(obs_ids)


def secrets_of(sandbox: Sandbox) -> set[str]:
    """Everything that must not be seen: the key, every token that there was, every signature."""
    secrets = {"practice-key", *sandbox.service.sessions}
    for request in sandbox.requests:
        cookies = request.headers.get("Cookie") or ""
        secrets |= {cookie.partition("=")[2] for cookie in cookies.split("; ") if cookie}
        if request.headers.get("Authorization"):
            secrets.add(request.headers["Authorization"].split()[-1])
        if "Signature" in request.query:
            secrets |= {request.query["Signature"], quote(request.query["Signature"], safe="")}
    return secrets


def assert_no_secret(sandbox: Sandbox, text: str) -> None:
    secrets = secrets_of(sandbox)
    assert len(secrets) > 2 and all(len(secret) > 8 for secret in secrets)
    assert [secret for secret in secrets if secret in text] == []


def screen(run: Run) -> str:
    return "".join(f"{line}\n" for line in lines_shown(run.events))


def remember(directory: Path, sandbox: Sandbox, api: ApiVersion, text: str, *jobs: AtService) -> None:
    """Let the directory know the jobs of an earlier run, which had seen them listed."""
    with closing(Ledger(directory, service_of(sandbox).name)) as ledger:
        for request, job in zip(parse(text, api).jobs, jobs):
            ledger.record_job(request.identity, job.id)
            ledger.record_state(request.identity, job.id, "queued")
