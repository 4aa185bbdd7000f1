"""No job is made twice, over any interface: what is at the service already is found and attached to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from interface_steps import DAY, EVERY, OBS, OTHER, TODAY, assert_all_well, assert_one_job_each, remember
from shared import (
    LISTING,
    SUBMISSION,
    FastClock,
    asked,
    failures,
    listed,
    notices,
    run_batch,
    vis,
)

from mwa_client.batch.events import Downloading, Notice, Submitted
from mwa_client.errors import (
    ExitStatus,
)
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import JobState as StateThere
from mwa_client.sandbox import JobType as TypeThere
from mwa_client.sandbox import Sandbox

CONVERSION = {
    ApiVersion.V2018: "timeres=4, freqres=40, edgewidth=80, conversion=ms",
    ApiVersion.V1: "avg_time_res=4, avg_freq_res=40, no_rfi=true",
    ApiVersion.V2: "avg_time_res=4, avg_freq_res=40, no_rfi=true",
}
"""The same kind of row in the words of each interface."""


OF_TODAY = {
    "obs_id": OBS,
    "job_type": "conversion",
    "avg_time_res": "4.0",
    "avg_freq_res": 40,
    "no_rfi": "True",
    "flag_edge_width": 80.0,
    "no_flag_dc": False,
    "output": "ms",
    "centre": "phase",
    "delivery": "acacia",
    "delivery_format": "tar",
    "priority": 1,
    "user_pawsey_group": "mwaops",
}


IN_THE_WEB_PAGES_WORDS: dict[ApiVersion, dict[str, Any]] = {
    ApiVersion.V2018: {
        "obs_id": str(OBS),
        "timeres": "4.0",
        "freqres": 40,
        "edgewidth": "080",
        "conversion": "ms",
        "norfi": "0",
        "calibrate": False,
    },
    ApiVersion.V1: OF_TODAY,
    ApiVersion.V2: {**OF_TODAY, "custom_centre_ra": None, "no_cable_delay": 0},
}
"""What a web page may have submitted for it: other spellings, defaults spelled out, harmless keys."""


def conversion(api: ApiVersion, more: str = "") -> str:
    return f"obs_id={OBS}, job_type=c, {CONVERSION[api]}{more}\n"


@EVERY
@pytest.mark.parametrize("state", [StateThere.QUEUED, StateThere.READY], ids=["queued", "ready"])
def test_a_job_of_the_web_page_is_attached_to(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, state: StateThere
) -> None:
    job = sandbox.service.add(IN_THE_WEB_PAGES_WORDS[api], TypeThere.CONVERSION)
    if state is StateThere.READY:
        sandbox.service.hold(job.id, state)
    run = run_batch(sandbox, tmp_path, clock, conversion(api), api=api)
    assert_all_well(sandbox, run, 1)
    assert [(event.row.job_id, event.found) for event in run.told(Submitted)] == [(job.id, True)]
    assert [other.id for other in sandbox.jobs] == [job.id]


@EVERY
def test_a_job_that_differs_in_one_value_is_not_attached_to(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    word = "timeres" if api is ApiVersion.V2018 else "avg_time_res"
    other = sandbox.service.add({**IN_THE_WEB_PAGES_WORDS[api], word: "8"}, TypeThere.CONVERSION)
    run = run_batch(sandbox, tmp_path, clock, conversion(api), api=api)
    assert_all_well(sandbox, run, 1)
    assert run.summary.complete[0].row.job_id != other.id and len(sandbox.jobs) == 2


@EVERY
def test_two_identical_rows_are_one_job(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    again = conversion(api).replace("=4,", " = 04 ,")
    run = run_batch(sandbox, tmp_path, clock, conversion(api) + vis(OTHER) + again, api=api)
    assert_all_well(sandbox, run, 2)
    assert_one_job_each(sandbox, OBS, OTHER)


@EVERY
def test_a_lost_reply_leads_to_a_listing_and_no_second_job(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    sandbox.faults.add("drop_reply", times=1)
    run = run_batch(sandbox, tmp_path, clock, conversion(api), api=api)
    assert_all_well(sandbox, run, 1)
    submitted = [request for request in sandbox.requests if request.path.endswith("/conversion_job")]
    assert len(submitted) == len(sandbox.jobs) == 1
    later = [request for request in asked(sandbox, LISTING[api]) if request.started > submitted[0].started]
    assert later and [event.found for event in run.told(Submitted)] == [True]


@EVERY
@pytest.mark.parametrize("made", [True, False], ids=["made", "not made"])
@pytest.mark.parametrize("more", ["", ", allow_resubmit=true"], ids=["", "anew"])
def test_a_client_that_died_before_the_reply_finds_its_job(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, made: bool, more: str
) -> None:
    old = listed(sandbox, OTHER, state=StateThere.READY)

    def die(event: object) -> None:
        if isinstance(event, Notice):
            raise KeyboardInterrupt

    if made:
        sandbox.faults.add("drop_reply", times=1)
    else:
        sandbox.faults.add(
            "fail_call", status=503, path=SUBMISSION[api].replace("download_vis", "conversion")
        )
    with pytest.raises(KeyboardInterrupt):
        run_batch(sandbox, tmp_path, clock, conversion(api, more), api=api, listen=die)
    assert len(sandbox.jobs) == 1 + made
    assert '"intent"' in (tmp_path / ".mwa_client" / "ledger.jsonl").read_text()
    sandbox.faults.clear()
    run = run_batch(sandbox, tmp_path, clock, conversion(api, more), api=api)
    assert_all_well(sandbox, run, 1)
    assert [event.found for event in run.told(Submitted)] == [made]
    assert [job.id for job in sandbox.jobs] == [old.id, run.summary.complete[0].row.job_id]


@EVERY
@pytest.mark.parametrize(
    "state", [StateThere.ERROR, StateThere.CANCELLED, None], ids=["error", "cancelled", "expired"]
)
def test_a_listed_job_that_came_to_nothing_is_not_attached_to(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, state: StateThere | None
) -> None:
    # Two, of which the older must not be tried when the newer has turned out to have expired.
    for age in (12, 11):
        listed(sandbox, OBS, state=state, created=clock.now() - age * DAY)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert_all_well(sandbox, run, 1)
    assert_one_job_each(sandbox, OBS, OBS, OBS)
    assert [row.row.job_id for row in run.summary.complete] == [sandbox.jobs[-1].id]


@EVERY
def test_an_own_job_that_has_expired_is_submitted_anew(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    old = listed(sandbox, OBS)
    remember(tmp_path, sandbox, api, vis(OBS), old)
    clock.advance(8 * DAY)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert_all_well(sandbox, run, 1)
    assert len(notices(run, "Resubmitting")) == 1
    assert_one_job_each(sandbox, OBS, OBS)


@TODAY
def test_a_job_that_expires_before_its_download_begins_is_submitted_anew(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    old = listed(sandbox, OBS, created=clock.now() - DAY)

    def wait_long(event: object) -> None:
        if isinstance(event, Downloading) and event.row.job_id == old.id:
            clock.advance(7 * DAY)

    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api, listen=wait_long)
    assert_all_well(sandbox, run, 1)
    assert len(notices(run, "Resubmitting")) == 1
    assert_one_job_each(sandbox, OBS, OBS)


@EVERY
@pytest.mark.parametrize("state", [StateThere.ERROR, StateThere.CANCELLED], ids=["error", "cancelled"])
def test_an_own_job_that_failed_is_reported_and_submitted_anew_only_if_wanted(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, state: StateThere
) -> None:
    old = listed(sandbox, OBS, state=state)
    remember(tmp_path, sandbox, api, vis(OBS), old)
    for _ in range(2):
        run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=api)
        assert run.summary.exit_status is ExitStatus.JOBS_FAILED and list(failures(run)) == [1]
        assert "--allow-resubmit" in run.summary.failed[0].error.remedy
        assert asked(sandbox, SUBMISSION[api])[1:] == [], "the other row alone was submitted"
        assert_one_job_each(sandbox, OBS, OTHER)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, more=", allow_resubmit=true"), api=api)
    assert_all_well(sandbox, run, 1)
    assert_one_job_each(sandbox, OBS, OBS, OTHER)
