"""What v1 and v2 share at the practice service: jobs and deliveries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests
import sandbox_today_steps as steps
from practice_client import TIMEOUT, Clock
from sandbox_today_steps import OBS, SIZE, VOLTAGE, WEEK, Client, ClientV1, ClientV2, fetch, said, words

from mwa_client.sandbox import Interface, Job, JobState, JobType, Sandbox, Service
from mwa_client.sandbox.folders import folder_contents
from mwa_client.sandbox.jobs import default_product_size
from mwa_client.sandbox.options import Options

client = steps.client
clock = steps.clock
sandbox = steps.sandbox
v1 = steps.v1
v2 = steps.v2


# --- Both: jobs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "work"),
    [
        ("conversion", ["preprocessing"]),
        ("download", ["downloading"]),
        ("imaging", ["preprocessing", "imaging"]),
    ],
)
def test_jobs_pass_through_todays_states(clock: Clock, kind: str, work: list[str]) -> None:
    course = ["queued", "staging", *work, "delivering", "completed"]
    keys = {"download_type": "vis"} if kind == "download" else {}
    with (
        Sandbox(clock=clock, product_size=lambda job: 9, apis=("v1", "v2")) as sandbox,
        ClientV1(sandbox) as v1,
    ):
        v1.new_job(kind, **keys)
        assert words(v1, len(course), clock) == course
        sandbox.service.remove(10001)
        with ClientV2(sandbox) as v2:
            v2.new_job(kind, **keys)
            assert words(v2, len(course) + 1, clock) == ["preparing", *course]


def test_the_times_of_a_job(clock: Clock) -> None:
    clock.now += 0.25
    with (
        Sandbox(clock=clock, seconds_per_state=10, product_size=lambda job: 9) as sandbox,
        ClientV1(sandbox) as v1,
        ClientV2(sandbox) as v2,
    ):
        v1.new_job()
        seen = []
        for seconds in (0, 10, 9, 21):
            clock.now += seconds
            row, job = v1.job(), v2.job()
            assert (row["created"], job["created"]) == ("2017-07-14T02:40:00.250000",) * 2
            assert (row["started"], row["completed"]) == (job["started"], job.get("completed"))
            assert ("completed" in job) == (job["job_state"] == "completed")
            seen.append(
                [time and time[-12:-7] for time in (row["started"], row["completed"], job["modified"])]
            )
        assert seen == [
            [None, None, "40:00"],
            ["40:10", None, "40:10"],
            ["40:10", None, "40:10"],
            ["40:10", "40:40", "40:40"],
        ]
        clock.now += 60
        sandbox.service.fail(10001, "No calibration")
        assert v1.job()["completed"].endswith("41:40.250000")
        assert v2.job()["error_text"] == "No calibration"
        sandbox.service.hold(10001, JobState.QUEUED)
        assert v1.job()["started"] is None


@pytest.mark.parametrize(
    ("state", "in_2018", "in_v1", "in_v2"),
    [
        (JobState.PREPARING, 0, "preparing", "preparing"),
        (JobState.WAITCAL, 1, "waitcal", "waitcal"),
        (JobState.PROCESSING, 1, "processing", "preprocessing"),
        (JobState.STAGED, 1, "staged", "staged"),
        (JobState.RETRIEVING, 1, "downloading", "downloading"),
        (JobState.IMAGING, 1, "imaging", "imaging"),
        (JobState.READY, 2, "completed", "completed"),
        (JobState.ERROR, 3, "error", "error"),
        (JobState.EXPIRED, 4, "expired", "completed"),
        (JobState.CANCELLED, 5, "cancelled", "cancelled"),
    ],
)
def test_each_interface_has_its_words(
    v1: ClientV1, v2: ClientV2, state: JobState, in_2018: int, in_v1: str, in_v2: str
) -> None:
    sandbox = v1.sandbox
    sandbox.service.add({"obs_id": str(OBS)}, state=state)
    with requests.Session() as old:
        old.post(f"{sandbox.url}/api/login", auth=("practice", "practice"), timeout=TIMEOUT)
        (entry,) = old.get(f"{sandbox.url}/api/get_jobs", timeout=TIMEOUT).json()
    seen = (entry["row"]["job_state"], v1.job()["job_state"], v2.job()["job_state"])
    assert seen == (in_2018, in_v1, in_v2)


def test_a_product_expires_after_a_week(v1: ClientV1, v2: ClientV2, clock: Clock) -> None:
    v1.new_job()
    clock.now += WEEK - 1
    v2.login()
    url = v1.file()["url"]
    assert fetch(url).status_code == 200
    clock.now += 1
    assert (v1.job()["job_state"], v1.job()["product"]) == ("expired", None)
    assert fetch(url).status_code == 404
    job = v2.job()
    assert (job["job_state"], fetch(job["product"]["files"][0]["url"]).status_code) == ("completed", 404)
    assert v1.new_job() == 10002, "what is lost may be asked for again"


def test_the_same_job_twice(client: Client) -> None:
    job_id = client.new_job(avg_time_res=4)
    reply = client.submit(avg_time_res=4)
    text = "Job already queued, processing or complete"
    assert reply.json()["job_id"] == job_id
    if isinstance(client, ClientV1):
        assert (reply.status_code, reply.json()) == (400, {"error": text, "error_code": 2, "job_id": job_id})
    else:
        assert (reply.status_code, reply.json()["error_code"]) == (409, "JOB_ALREADY_SUBMITTED")
    assert client.sandbox.requests[-1].job_id == job_id
    client.new_job(avg_time_res=4.5)
    client.new_job(avg_time_res=4, obs_id=OBS + 8)
    client.new_job(avg_time_res=4, delivery="scratch")
    client.new_job("imaging", avg_time_res=4)
    again = "true" if isinstance(client, ClientV1) else True
    assert client.new_job(avg_time_res=4, allow_resubmit=again) == 10006
    assert "allow_resubmit" not in client.jobs()[-1]["job_params"]


def test_what_is_the_same_in_two_interfaces(v1: ClientV1, v2: ClientV2) -> None:
    job_id = v2.new_job(avg_time_res=4, no_rfi=True)
    assert v1.submit(avg_time_res="4.0", no_rfi="true", delivery="acacia").json()["job_id"] == job_id
    meta = v1.new_job("download", download_type="vis_meta")
    assert v2.submit("download", download_type="meta").json()["job_id"] == meta
    assert v2.one(meta).json()["job_params"]["download_type"] == "meta"
    assert v1.jobs()[0]["job_params"]["no_rfi"] == "true"


@pytest.mark.parametrize("state", [JobState.ERROR, JobState.EXPIRED, JobState.CANCELLED])
def test_a_job_that_is_lost_is_no_duplicate(client: Client, state: JobState) -> None:
    job_id = client.new_job()
    client.sandbox.service.hold(job_id, state)
    assert client.new_job() == job_id + 1


def test_job_limit(clock: Clock) -> None:
    with (
        Sandbox(job_limit=2, clock=clock, product_size=lambda job: 9) as sandbox,
        ClientV1(sandbox) as v1,
        ClientV2(sandbox) as v2,
    ):
        v1.new_job(obs_id=OBS)
        v2.new_job(obs_id=OBS + 8)
        reply = v1.submit(obs_id=OBS + 16)
        text = "Job limit reached: you may have 2 unfinished jobs."
        assert (reply.status_code, reply.json()) == (400, {"error": text, "error_code": 1})
        reply = v2.submit(obs_id=OBS + 16)
        assert (reply.status_code, reply.json()["error_code"]) == (400, "JOB_LIMIT_REACHED")
        assert v1.submit(obs_id=OBS).json()["error_code"] == 2, "what is there is no new job"
        clock.now += 4
        v1.new_job(obs_id=OBS + 16)


def test_an_image_of_a_finished_job(client: Client) -> None:
    converted = client.new_job(avg_time_res=4)
    imaged = client.new_job("image", source_job_id=converted, pixel_scale=20, obs_id=OBS)
    assert client.sandbox.jobs[-1].type is JobType.IMAGING
    body = {"source_job_id": converted, "robust": 1, "obs_id": OBS}
    path = "/api/preprocessed_imaging_job" if isinstance(client, ClientV1) else "/api/v2/image_from_job"
    options = {"data": body} if isinstance(client, ClientV1) else {"json": body}
    assert client.call("POST", path, **options).json()["job_id"] == imaged + 1
    assert client.sandbox.jobs[-1].obs_id == str(OBS)
    reply = client.submit("image", source_job_id=99)
    assert (reply.status_code, reply.json()["error_code"] in (3, "JOB_NOT_FOUND")) == (404, True)
    status, text = said(client.submit("image", source_job_id=imaged))
    assert (status, text) == (400, f"Job {imaged} is not a completed conversion job")
    client.sandbox.service.hold(converted, JobState.STAGING)
    assert client.submit("image", source_job_id=converted).status_code == 400


def test_jobs_of_every_type_are_found_again(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "sandbox.json"

    def make() -> Sandbox:
        return Sandbox(state_file=file, clock=clock, product_size=lambda job: 500)

    with make() as sandbox, ClientV1(sandbox) as v1, ClientV2(sandbox) as v2:
        v2.new_job(avg_time_res=2.5, no_rfi=True)
        v1.new_job("voltage", **VOLTAGE)
        v2.new_job("beamformer")
        v2.new_job("imaging", image_size=512)
        v1.new_job("download", download_type="vis_meta")
        sandbox.service.add({"obs_id": OBS}, JobType.VISIBILITIES, state=JobState.WAITCAL, sha1="1" * 40)
        clock.now += 3
        before, listed = sandbox.jobs, v2.jobs()
    with make() as sandbox, ClientV2(sandbox) as v2:
        assert sandbox.jobs == before
        assert [job.made_by.value for job in before] == ["v2", "v1", "v2", "v2", "v1", "2018"]
        assert v2.jobs() == listed


def test_a_state_file_of_the_days_before_is_read(tmp_path: Path) -> None:
    old = {
        "id": 10001, "type": "vis", "params": {"obs_id": str(OBS)}, "created": 1.5e9, "size": 7,
        "file_name": f"{OBS}_vis.zip", "fixed_state": None, "error_text": None,
    }  # fmt: skip
    file = tmp_path / "sandbox.json"
    file.write_text(json.dumps({"next_id": 10002, "jobs": [old]}))
    (job,) = Sandbox(state_file=file).jobs
    assert (job.made_by, job.given_sha1, job.object_name) == (Interface.V2018, None, f"{OBS}_10001_vis.tar")


def test_default_sizes_of_todays_jobs_vary_a_little() -> None:
    for kind, middle in [(JobType.VOLTAGE, 3e6), (JobType.BEAMFORMER, 8e6), (JobType.IMAGING, 4e6)]:
        sizes = [default_product_size(Job(n, kind, {}, 0.0)) for n in range(10001, 10051)]
        assert len(set(sizes)) == 50
        assert 0.9 * middle <= min(sizes) <= max(sizes) <= 1.1 * middle


def test_a_job_is_under_way_or_it_is_not(clock: Clock) -> None:
    service = Service(Options(clock=clock))
    job = service.add({"obs_id": OBS}, created=clock.now + 5)
    assert service.state(job) is JobState.QUEUED, "a clock that went back"


# --- Deliveries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delivery", "root"), [("scratch", "/scratch"), ("dug", "/data")])
def test_deliveries_that_this_machine_does_not_see(client: Client, delivery: str, root: str) -> None:
    job_id = client.new_job("download", download_type="vis", delivery=delivery)
    assert client.job()["job_params"]["delivery"] == delivery
    file = client.file()
    path = f"{root}/practice/asvo/{job_id}"
    assert (file["type"], file["path"], file["size"]) == (delivery, path, SIZE)
    assert "url" not in file
    assert not Path(path).exists()


def test_deliveries_into_a_real_folder(clock: Clock, tmp_path: Path) -> None:
    root = tmp_path / "asvo"
    with (
        Sandbox(clock=clock, scratch_folder=root, product_size=lambda job: 1_000_000) as sandbox,
        ClientV1(sandbox) as v1,
        ClientV2(sandbox) as v2,
    ):
        job_id = v1.new_job("voltage", **VOLTAGE)
        v2.jobs()
        assert not root.exists()
        clock.now += 4
        assert v1.file() == {"type": "scratch", "path": str(root / str(job_id)), "size": 1_000_000}
        folder = Path(v2.file()["path"])
        found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}
        contents = folder_contents(sandbox.jobs[0])
        assert len(found) == 3
        assert found == {name: b"".join(content.pieces()) for name, content in contents.items()}
        assert sum(map(len, found.values())) == 1_000_000
        assert [path.name for path in root.iterdir()] == [str(job_id)]
        for path in folder.rglob("*.*"):
            path.unlink()
        v1.jobs()
        assert list(folder.rglob("*.*")) == [], "what is removed stays removed"


def test_deliveries_are_not_written_again_after_a_restart(clock: Clock, tmp_path: Path) -> None:
    root, state = tmp_path / "asvo", tmp_path / "state.json"
    for _ in range(2):
        with Sandbox(clock=clock, seconds_per_state=0, scratch_folder=root, state_file=state) as sandbox:
            if not sandbox.jobs:
                sandbox.service.add({"obs_id": OBS, "delivery": "dug"}, JobType.METADATA, size=9)
            with ClientV2(sandbox) as v2:
                (root / "10001" / "mine").mkdir(parents=True, exist_ok=True)
                assert v2.file()["type"] == "dug"
                assert [path.name for path in (root / "10001").iterdir()] == ["mine"]


def test_what_went_to_a_folder_is_not_in_the_store(v1: ClientV1) -> None:
    v1.new_job("download", download_type="vis", delivery="scratch")
    (job,) = v1.sandbox.jobs
    assert fetch(v1.sandbox._store.url_of(job)).status_code == 404
