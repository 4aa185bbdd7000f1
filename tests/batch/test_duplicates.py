"""Rows meet jobs that are there already: attached to, where they were asked for exactly the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from shared import FastClock, Run, environment, run_batch, run_command, service_of

from mwa_client import Client
from mwa_client.asvo.v1_v2 import read_job
from mwa_client.batch.events import Submitted
from mwa_client.batch.ledger import Ledger
from mwa_client.batch.losing import why_lost
from mwa_client.errors import BadReply, ExitStatus, JobDiffers, JobFileError, JobNotNamed
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Job, JobState, JobType, Sandbox

OBS = 1191828584
TODAY = pytest.mark.parametrize("api", [ApiVersion.V1, ApiVersion.V2], ids=lambda api: api.value)
RIGHT: dict[str, object] = {
    "obs_id": OBS,
    "avg_time_res": 2,
    "avg_freq_res": 80,
    "flag_edge_width": 80,
    "output": "uvfits",
    "centre": "phase",
    "delivery": "acacia",
}
IN_2018 = f"obs_id={OBS}, job_type=c, timeres=20, freqres=20, edgewidth=80, conversion=ms, allowmissing=true"
ROW = f"obs_id={OBS}, job_type=c, avg_time_res=2, avg_freq_res=80, output=uvfits"


def there(sandbox: Sandbox, params: dict[str, Any], kind: JobType = JobType.CONVERSION) -> Job:
    """A finished job that somebody has made before the client comes."""
    return sandbox.service.add(params, kind, state=JobState.READY)


def run(
    sandbox: Sandbox, tmp_path: Path, clock: FastClock, api: ApiVersion, row: str = ROW, **options: Any
) -> Run:
    return run_batch(sandbox, tmp_path / "data", clock, f"{row}\n", api=api, **options)


def attached(run: Run) -> list[tuple[int | None, bool]]:
    return [(event.row.job_id, event.found) for event in run.told(Submitted)]


@TODAY
def test_a_job_that_was_asked_the_same_is_attached_to(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    job = there(sandbox, RIGHT)
    assert attached(run(sandbox, tmp_path, clock, api)) == [(job.id, True)]
    assert [request.path for request in sandbox.requests if request.path.endswith("_job")] == []


@TODAY
@pytest.mark.parametrize("lacking", [key for key in RIGHT if key not in ("obs_id", "delivery")])
def test_a_job_made_with_a_default_that_nobody_knows_is_not_attached_to(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, lacking: str
) -> None:
    other = there(sandbox, {key: value for key, value in RIGHT.items() if key != lacking})
    done = run(sandbox, tmp_path, clock, api)
    assert done.summary.exit_status is ExitStatus.COMPLETE
    assert attached(done) == [(other.id + 1, False)]


@TODAY
@pytest.mark.parametrize("delivery", ["scratch", "dug"])
def test_a_job_that_goes_elsewhere_is_not_attached_to(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, delivery: str
) -> None:
    other = there(sandbox, {**RIGHT, "delivery": delivery})
    assert attached(run(sandbox, tmp_path, clock, api)) == [(other.id + 1, False)]


@TODAY
@pytest.mark.parametrize("more", [{"no_apply_amps": True}, {"brand_new": 1}, {"flags": ["x"]}])
def test_a_job_that_was_asked_more_is_not_attached_to(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, more: dict[str, Any]
) -> None:
    other = there(sandbox, {**RIGHT, **more})
    if "flags" in more and api is ApiVersion.V2:
        sandbox.faults.add("add_param", job_id=other.id, key="flags", value="x")
    assert attached(run(sandbox, tmp_path, clock, api)) == [(other.id + 1, False)]


@TODAY
@pytest.mark.parametrize("added", [("priority", 1), ("user_pawsey_group", "mwaops"), ("flags", "")])
def test_what_the_service_adds_is_harmless(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, added: tuple[str, Any]
) -> None:
    job = there(sandbox, RIGHT)
    sandbox.faults.add("add_param", key=added[0], value=added[1])
    assert attached(run(sandbox, tmp_path, clock, api)) == [(job.id, True)]


@TODAY
@pytest.mark.parametrize("listed_type", [2, "2", "download_metadata"])
def test_metadata_are_attached_to_by_the_type_of_their_job(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, listed_type: int | str
) -> None:
    job = there(sandbox, {"obs_id": OBS, "delivery": "acacia"}, JobType.METADATA)
    sandbox.faults.add("unknown_job_type", type=listed_type)
    row = f"obs_id={OBS}, job_type=d, download_type=vis_meta"
    assert attached(run(sandbox, tmp_path, clock, api, row)) == [(job.id, True)]
    assert len(sandbox.jobs) == 1


# --- "This job already" -------------------------------------------------------------------------------


@TODAY
@pytest.mark.parametrize("names_it", [True, False], ids=["named", "not named"])
def test_a_duplicate_is_found_though_the_listing_leaves_keys_out(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, names_it: bool
) -> None:
    there(sandbox, {**RIGHT, "avg_time_res": 4})
    job = there(sandbox, RIGHT)
    there(sandbox, {"obs_id": OBS, "delivery": "acacia", "download_type": "vis"}, JobType.VISIBILITIES)
    sandbox.faults.add("drop_params", keys="[!a]*")
    if not names_it:
        sandbox.faults.add("duplicate_without_id")
    done = run(sandbox, tmp_path, clock, api)
    assert attached(done) == [(job.id, True)] and len(sandbox.jobs) == 3
    assert done.summary.exit_status is ExitStatus.COMPLETE


@TODAY
@pytest.mark.parametrize("was_listed", [True, False])
def test_a_duplicate_that_was_asked_something_else_is_not_attached_to(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, was_listed: bool
) -> None:
    job = there(sandbox, RIGHT)
    if not was_listed:
        sandbox.faults.add("missing_job", times=1)
    sandbox.faults.add("add_param", key="delivery", value="scratch")
    done = run(sandbox, tmp_path, clock, api)
    assert done.summary.exit_status is ExitStatus.JOBS_FAILED and attached(done) == []
    (failure,) = done.summary.failed
    assert isinstance(failure.error, JobDiffers)
    assert f"has job {job.id} for this already" in failure.error.what
    assert "delivery=scratch instead of acacia" in failure.error.what
    assert "--allow-resubmit" in failure.error.remedy
    sandbox.faults.clear()
    again = run(sandbox, tmp_path, clock, api, f"{ROW}, allow_resubmit=true")
    assert attached(again) == [(job.id + 1, False)]


@pytest.fixture
def client_of(sandbox: Sandbox) -> Callable[[ApiVersion], Client]:
    return lambda api: Client(service_of(sandbox, api))


@TODAY
@pytest.mark.parametrize("names_it", [True, False], ids=["named", "not named"])
@pytest.mark.parametrize("drops", ["x", "[!a]*"], ids=["all listed", "some left out"])
def test_a_program_finds_a_duplicate_as_the_command_does(
    sandbox: Sandbox, client_of: Callable[[ApiVersion], Client], api: ApiVersion, names_it: bool, drops: str
) -> None:
    there(sandbox, {**RIGHT, "avg_time_res": 4})
    job = there(sandbox, RIGHT)
    sandbox.faults.add("drop_params", keys=drops)
    if not names_it:
        sandbox.faults.add("duplicate_without_id")
    with client_of(api) as client:
        assert client.submit(ROW) == job.id
    assert len(sandbox.jobs) == 2


@TODAY
def test_a_program_is_told_in_what_a_duplicate_differs(
    sandbox: Sandbox, client_of: Callable[[ApiVersion], Client], api: ApiVersion
) -> None:
    there(sandbox, RIGHT)
    sandbox.faults.add("add_param", key="avg_time_res", value="4")
    with client_of(api) as client, pytest.raises(JobDiffers, match="avg_time_res=4 instead of 2"):
        client.submit(ROW)


@TODAY
def test_a_duplicate_that_is_nowhere_to_be_found(
    sandbox: Sandbox, client_of: Callable[[ApiVersion], Client], api: ApiVersion
) -> None:
    there(sandbox, RIGHT)
    sandbox.faults.add("duplicate_without_id")
    sandbox.faults.add("missing_job")
    with client_of(api) as client, pytest.raises(JobNotNamed, match="does not give its job id") as caught:
        client.submit(ROW)
    assert isinstance(caught.value, BadReply)


@TODAY
def test_of_two_that_may_be_meant_none_is_taken(
    sandbox: Sandbox, client_of: Callable[[ApiVersion], Client], api: ApiVersion
) -> None:
    there(sandbox, RIGHT)
    there(sandbox, {**RIGHT, "avg_time_res": 4})
    sandbox.faults.add("duplicate_without_id")
    sandbox.faults.add("drop_params", keys="*")
    with client_of(api) as client, pytest.raises(JobNotNamed):
        client.submit(ROW)


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("No calibration", 17, ": No calibration (error_code 17)"),
        ("No calibration", None, ": No calibration"),
        (None, "NO_CAL", ", and the service does not say why (error_code NO_CAL)."),
        (None, None, ", and the service does not say why."),
    ],
)
def test_the_code_of_a_failed_job_is_quoted(text: str | None, code: object, said: str) -> None:
    job = read_job({"id": 7, "job_state": "error", "error_text": text, "error_code": code})
    assert job is not None and why_lost(job).what == f"The job failed at the service{said}"


def test_what_the_schema_of_today_forbids_is_the_services_to_refuse(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    done = run(sandbox, tmp_path, clock, ApiVersion.V2, f"{ROW}, delivery=dug")
    (failure,) = done.summary.failed
    assert "delivery: must be one of acacia, scratch" in failure.error.what
    assert done.summary.exit_status is ExitStatus.JOBS_FAILED and len(sandbox.requests) == 3
    assert run(sandbox, tmp_path, clock, ApiVersion.V1, f"{ROW}, delivery=dug").summary.exit_status != 4


# --- Another interface than was expected --------------------------------------------------------------


def test_rows_that_turn_out_to_ask_for_the_same_are_one_job(tmp_path: Path) -> None:
    plain = IN_2018.replace(", allowmissing=true", "")
    csv = tmp_path / "jobs.csv"
    options = ("--csv", csv, "--dir", tmp_path / "data", "--poll", "0.05")
    with Sandbox(seconds_per_state=0, product_size=lambda job: 300_000, apis=("v2",)) as sandbox:
        env = environment(sandbox, HOME=str(tmp_path))
        for rows in ((plain, IN_2018), (IN_2018, plain), (IN_2018, plain, f"{plain}, nostats=true")):
            csv.write_text("\n".join(rows))
            done = run_command(*options, env=env)
            assert done.returncode == 0, done.stderr
            assert "1 complete" in done.stdout and "they are one job" in done.stderr
            assert len([request for request in sandbox.requests if request.store]) == 1
        assert len(sandbox.jobs) == 1


def test_rows_that_the_interface_cannot_do_are_mistakes_though_another_was_expected(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    both = [service_of(sandbox, api) for api in (ApiVersion.V2, ApiVersion.V1)]
    sandbox.faults.add("fail_call", path="/api/v2/api_login", status=404)
    csv = tmp_path / "jobs.csv"
    csv.write_text(f"{ROW}, no_apply_amps=true\n")
    with Client(*both) as client, pytest.raises(JobFileError, match="the v1 interface cannot do this"):
        client.run(csv, tmp_path / "data")
    with Client(*both) as client, pytest.raises(JobFileError, match="the v1 interface cannot do this"):
        client.submit(f"{ROW}, no_apply_amps=true")
    with Client(*both) as client:
        assert client.submit(ROW) == sandbox.jobs[0].id
    (sent,) = [request for request in sandbox.requests if request.path.endswith("_job")]
    assert sent.path == "/api/conversion_job" and sent.form["avg_freq_res"] == "80"


# --- What earlier versions remembered -----------------------------------------------------------------

FORMER = f"job_type=c obs_id={OBS} avg_freq_res=20 avg_time_res=20 no_flag_dc=true"


@TODAY
def test_a_row_finds_what_an_earlier_version_remembered_of_it(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    (request,) = parse(IN_2018, api).jobs
    assert request.former_identity == FORMER != request.identity
    plain = IN_2018.replace(", allowmissing=true", "")
    assert run(sandbox, tmp_path, clock, api, plain).summary.exit_status is ExitStatus.COMPLETE
    sandbox.reset_log()
    for _ in range(2):
        done = run(sandbox, tmp_path, clock, api, IN_2018)
        assert done.summary.exit_status is ExitStatus.COMPLETE and sandbox.requests == []


def test_a_row_of_2018_is_not_taken_for_another_one(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    plain = IN_2018.replace(", allowmissing=true", "")
    for row in (plain, IN_2018, plain):
        assert run(sandbox, tmp_path, clock, ApiVersion.V2018, row).summary.exit_status is ExitStatus.COMPLETE
    assert [job.params.get("allowmissing") for job in sandbox.jobs] == [None, "true"]


@TODAY
def test_what_was_under_way_is_taken_up_under_the_new_name(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    (request,) = parse(IN_2018, api).jobs
    job = there(sandbox, dict(request.parameters(api)))
    with closing(Ledger(tmp_path / "data", service_of(sandbox, api).name)) as ledger:
        ledger.record_job(FORMER, job.id)
    done = run(sandbox, tmp_path, clock, api, IN_2018)
    assert attached(done) == [(job.id, True)] and len(sandbox.jobs) == 1
    with closing(Ledger(tmp_path / "intent", service_of(sandbox, api).name)) as ledger:
        ledger.record_intent(FORMER, after=job.id)
    anew = run_batch(sandbox, tmp_path / "intent", clock, f"{IN_2018}, allow_resubmit=true", api=api)
    assert anew.summary.exit_status is ExitStatus.COMPLETE
