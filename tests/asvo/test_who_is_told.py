"""Credentials go to the service alone, and signatures to the store alone."""

from __future__ import annotations

import logging
from pathlib import Path
from urllib.parse import quote

import pytest
from interface_steps import (
    OBS,
    OTHER,
    REFRESH,
    TODAY,
    assert_complete,
    assert_no_secret,
    screen,
    secrets_of,
    session_with,
    stored,
)
from shared import (
    LISTING,
    FastClock,
    listed,
    run_batch,
    service_of,
    vis,
)

from mwa_client.asvo import open_session
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import JobState as StateThere
from mwa_client.sandbox import LoggedRequest, Sandbox

HARMLESS = {"host", "user-agent", "accept", "accept-encoding", "connection", "range", "if-range"}


def assert_store_was_told_nothing(sandbox: Sandbox) -> None:
    requests = stored(sandbox)
    assert requests
    known = {secret for secret in secrets_of(sandbox) if secret not in _signatures(requests)}
    for request in requests:
        assert {name.lower() for name in request.headers} <= HARMLESS
        said = " ".join([request.path, *request.headers.values(), *request.query.values()])
        assert [secret for secret in known if secret in said] == []
        assert set(request.query) <= {"AWSAccessKeyId", "Signature", "Expires"}
        assert not request.form and request.json is None and request.method == "GET"


def _signatures(requests: list[LoggedRequest]) -> set[str]:
    plain = {request.query["Signature"] for request in requests if "Signature" in request.query}
    return plain | {quote(signature, safe="") for signature in plain}


COOKIE = {ApiVersion.V1: "MWA_ASVO_SESSION=", ApiVersion.V2: "mwa_access_token="}


@TODAY
@pytest.mark.parametrize("trouble", ["none", "cut", "redirect", "stale", "dead", "to the service"])
def test_no_secret_goes_anywhere_else(
    sandbox: Sandbox,
    clock: FastClock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    api: ApiVersion,
    trouble: str,
) -> None:
    caplog.set_level(logging.DEBUG, logger="mwa_client")
    job = listed(sandbox, OBS, state=StateThere.READY)
    fails = trouble in ("dead", "to the service")
    if trouble == "cut":
        sandbox.faults.add("cut_product", after=[100_000, 50_000])
    elif trouble == "stale":
        sandbox.faults.add("expired_link", times=1)
    elif trouble == "dead":
        sandbox.faults.add("expired_link", obs_id=OBS)
    elif trouble == "redirect":
        with session_with(sandbox, api, clock) as session:
            url = session.jobs()[job.id].product[0].url
        sandbox.faults.add("redirect", url=url, times=1, obs_id=OBS)
    elif trouble == "to the service":
        sandbox.faults.add("redirect", url=f"{sandbox.url}{LISTING[api]}?stolen=1", obs_id=OBS)
    service = service_of(sandbox, api, tokens=tmp_path / "home" / "tokens.json")
    session = open_session(service, clock=clock)
    run = run_batch(sandbox, tmp_path / "out", clock, vis(OBS, OTHER), service=service)
    assert len(run.summary.failed) == fails
    assert_complete(sandbox, run, 2 - fails)
    assert_store_was_told_nothing(sandbox)
    if trouble == "redirect":
        assert len([request for request in stored(sandbox) if request.status == 302]) == 1
    if trouble == "cut":
        assert [request.range for request in stored(sandbox) if request.range] != []
    # The service is told, and nobody sends it on when the object store says so.
    for request in sandbox.requests:
        # On a fast clock a token can run out while the machine is busy; a refresh has a cookie of its own.
        if not request.store and "login" not in request.path and request.path != REFRESH:
            is_ours = request.query.get("stolen") is None
            cookie = request.headers.get("Cookie") or ""
            assert cookie.startswith(COOKIE[api]) if is_ours else cookie == ""
            assert request.headers.get("Authorization") is None
    if trouble == "to the service":
        assert [request for request in sandbox.requests if request.query.get("stolen")]
    # And nothing of it is shown or kept.
    records = [record for record in caplog.records if record.name == "mwa_client.asvo.http"]
    log = "\n".join(record.getMessage() for record in records)
    assert "GET" in log
    memory = (tmp_path / "out" / ".mwa_client" / "ledger.jsonl").read_text()
    for shown in (repr(run.events), screen(run), memory, repr(session), repr(service), log):
        assert_no_secret(sandbox, shown)
    for failed in run.summary.failed:
        assert_no_secret(sandbox, f"{failed.error!r} {failed.error}")
    session.close()
