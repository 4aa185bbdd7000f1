"""The Python API: what its docstring shows works, and each error is the one that it promises."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shared import THREE_ROWS, FastClock, true_bytes

import mwa_client
from mwa_client import timing
from mwa_client.batch.events import Begun, Complete, Event, Submitted
from mwa_client.errors import (
    CredentialsMissing,
    ExitStatus,
    JobFailed,
    JobFileError,
    LoginRefused,
    NotFinished,
    ServiceRefused,
    ServiceUnreachable,
    SettingsError,
)
from mwa_client.sandbox import Job, JobState, JobType, Sandbox

OBS = 1191828584
VIS = {"obs_id": str(OBS), "download_type": "vis"}
PASSWORD = "s3cret-word"


@pytest.fixture
def sandbox(clock: FastClock) -> Iterator[Sandbox]:
    """A practice service where time stands still, with an account of our own."""
    with Sandbox(
        user="someone", password=PASSWORD, clock=clock.now, product_size=lambda job: 50_000
    ) as sandbox:
        yield sandbox


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[mwa_client.Client]:
    with mwa_client.login("someone", PASSWORD, host=sandbox.url) as client:
        yield client


@pytest.fixture
def logged_in_by_environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ASVO_HOST", sandbox.url), ("ASVO_USER", "someone"), ("ASVO_PASS", PASSWORD)):
        monkeypatch.setenv(name, value)


def add_three(sandbox: Sandbox) -> list[Job]:
    """The jobs of `THREE_ROWS`, at the service before the client comes, and ready."""
    ready = JobState.READY
    conversion = {"timeres": "20", "freqres": "20", "edgewidth": "80", "conversion": "ms"}
    metadata = {"obs_id": "1191828528", "download_type": "vis_meta"}
    return [
        sandbox.service.add({"obs_id": str(OBS), **conversion}, JobType.CONVERSION, state=ready),
        sandbox.service.add(VIS, JobType.VISIBILITIES, state=ready),
        sandbox.service.add(metadata, JobType.METADATA, state=ready),
    ]


# --- Logging in --------------------------------------------------------------------------------------


def test_login_by_arguments(sandbox: Sandbox) -> None:
    port = int(sandbox.url.rpartition(":")[2])
    with mwa_client.login("someone", PASSWORD, host="http://127.0.0.1", port=port) as client:
        assert client.jobs() == {}
    assert [request.path for request in sandbox.requests] == ["/api/login", "/api/get_jobs"]


@pytest.mark.usefixtures("logged_in_by_environment")
def test_login_by_environment(sandbox: Sandbox) -> None:
    with mwa_client.login() as client:
        assert client.jobs() == {}
    assert len(sandbox.requests) == 2


@pytest.mark.usefixtures("logged_in_by_environment")
def test_arguments_go_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASVO_USER", "bob")
    monkeypatch.setenv("ASVO_PASS", "another")
    with mwa_client.login("someone", PASSWORD) as client:
        assert client.jobs() == {}


def test_a_wrong_password_is_refused_and_not_repeated(sandbox: Sandbox) -> None:
    with pytest.raises(LoginRefused) as caught:
        mwa_client.login("someone", "wr0ng-word", host=sandbox.url)
    assert "user name and password" in caught.value.what
    assert "wr0ng" not in f"{caught.value} {caught.value!r}"
    assert caught.value.exit_status is ExitStatus.REFUSED


def test_login_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASVO_USER", raising=False)
    monkeypatch.delenv("ASVO_PASS", raising=False)
    with pytest.raises(CredentialsMissing, match="ASVO_PASS is not set") as caught:
        mwa_client.login("someone")
    assert isinstance(caught.value, mwa_client.MwaClientError)


def test_login_where_nobody_answers(sandbox: Sandbox) -> None:
    sandbox.stop()
    with pytest.raises(ServiceUnreachable, match="Cannot connect"):
        mwa_client.login("someone", PASSWORD, host=sandbox.url)


def test_no_repr_shows_the_password(client: mwa_client.Client) -> None:
    session = client._session
    shown = f"{client!r} {client} {session!r} {session._interface!r} {vars(client)} {vars(session)}"
    assert PASSWORD not in shown


def test_a_with_block_closes_the_connections(sandbox: Sandbox) -> None:
    with mwa_client.login("someone", PASSWORD, host=sandbox.url) as client:
        client.jobs()
        client.jobs()
        assert {request.connection for request in sandbox.requests} == {1}
    client.jobs()  # It would have taken the old one if that were open.
    assert sandbox.requests[-1].connection == 2
    client.close()


# --- Jobs --------------------------------------------------------------------------------------------


def test_submit_a_mapping_and_a_text(client: mwa_client.Client, sandbox: Sandbox) -> None:
    first = client.submit({"obs_id": OBS, "job_type": "d", "download_type": "vis"})
    second = client.submit(f"obs_id={OBS}, job_type=d, download_type=vis")
    assert [job.id for job in sandbox.jobs] == [first, second]
    assert all(dict(job.params) == VIS for job in sandbox.jobs)
    assert client.jobs()[first].label == "Queued"


def test_numbers_and_switches_of_a_mapping(client: mwa_client.Client, sandbox: Sandbox) -> None:
    row = {"obs_id": OBS, "job_type": "c", "timeres": 20, "freqres": 40, "edgewidth": 80, "conversion": "ms"}
    client.submit({**row, "allowmissing": True})
    assert sandbox.jobs[0].params["timeres"] == "20"
    assert sandbox.jobs[0].params["allowmissing"] == "true"


def test_a_row_with_mistakes_is_not_sent(client: mwa_client.Client, sandbox: Sandbox) -> None:
    sandbox.reset_log()
    with pytest.raises(JobFileError) as caught:
        client.submit({"obs_id": 7, "job_type": "d", "download_type": "viss"})
    assert [mistake.message.partition(":")[0] for mistake in caught.value.mistakes] == [
        "obs_id=7",
        "download_type=viss",
    ]
    assert sandbox.requests == []


def test_a_submission_that_the_service_refuses(client: mwa_client.Client, sandbox: Sandbox) -> None:
    sandbox.faults.add("refuse_submission", text="No such observation")
    with pytest.raises(ServiceRefused, match="No such observation") as caught:
        client.submit(f"obs_id={OBS}, job_type=d, download_type=vis")
    assert caught.value.status == 400


def test_jobs_as_time_goes_by(client: mwa_client.Client, sandbox: Sandbox, clock: FastClock) -> None:
    job_id = client.submit(f"obs_id={OBS}, job_type=d, download_type=vis")
    seen = []
    for _ in range(3):
        job = client.jobs()[job_id]
        seen.append(job.label)
        clock.advance(1.0)
    assert seen == ["Queued", "Processing", "Ready for Download"]
    assert (job.obs_id, job.product[0].size) == (OBS, 50_000)


def test_cancel(client: mwa_client.Client, sandbox: Sandbox) -> None:
    job_id = client.submit(f"obs_id={OBS}, job_type=d, download_type=vis")
    client.cancel(job_id)
    assert client.jobs()[job_id].label == "Cancelled"
    with pytest.raises(ServiceRefused):
        client.cancel(999)


# --- Products ----------------------------------------------------------------------------------------


def test_download(client: mwa_client.Client, sandbox: Sandbox, tmp_path: Path) -> None:
    job = sandbox.service.add(VIS, JobType.VISIBILITIES, state=JobState.READY)
    (file,) = client.download(job.id, tmp_path / "new" / "data")
    assert file.path == tmp_path / "new" / "data" / f"{OBS}_vis.zip"
    assert file.path.read_bytes() == true_bytes(job)
    assert (file.size, file.verified, file.fetched) == (50_000, True, 50_000)
    assert file.sha1 == hashlib.sha1(true_bytes(job)).hexdigest()


def test_download_again_fetches_nothing(client: mwa_client.Client, sandbox: Sandbox, tmp_path: Path) -> None:
    job = sandbox.service.add(VIS, JobType.VISIBILITIES, state=JobState.READY)
    client.download(job.id, tmp_path)
    sandbox.reset_log()
    (file,) = client.download(job.id, str(tmp_path))
    assert (file.fetched, file.verified) == (0, True)
    assert not any(request.path == "/api/download" for request in sandbox.requests)


def test_download_keeps_what_the_user_has_changed(
    client: mwa_client.Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    job = sandbox.service.add(VIS, JobType.VISIBILITIES, state=JobState.READY)
    (file,) = client.download(job.id, tmp_path)
    file.path.write_bytes(b"mine")
    sandbox.reset_log()
    (again,) = client.download(job.id, tmp_path)
    assert again.path == file.path and file.path.read_bytes() == b"mine"
    assert not any(request.path == "/api/download" for request in sandbox.requests)


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.PROCESSING])
def test_download_of_a_job_that_is_not_ready(
    client: mwa_client.Client, sandbox: Sandbox, tmp_path: Path, state: JobState
) -> None:
    job = sandbox.service.add(VIS, JobType.VISIBILITIES, state=state)
    with pytest.raises(NotFinished, match=f"Job {job.id} is not ready for download: {state.value.title()}"):
        client.download(job.id, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_download_of_a_ready_job_without_a_product(
    client: mwa_client.Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    job = sandbox.service.add(VIS, JobType.VISIBILITIES, state=JobState.READY)
    sandbox.faults.add("null_product")
    with pytest.raises(NotFinished):
        client.download(job.id, tmp_path)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (JobState.ERROR, "Error. No gpubox files"),
        (JobState.EXPIRED, "Expired"),
        (JobState.CANCELLED, "Cancelled"),
    ],
)
def test_download_of_a_job_that_is_lost(
    client: mwa_client.Client, sandbox: Sandbox, tmp_path: Path, state: JobState, word: str
) -> None:
    text = "No gpubox files" if state is JobState.ERROR else None
    job = sandbox.service.add(VIS, JobType.VISIBILITIES, state=state, error_text=text)
    with pytest.raises(JobFailed, match=f"Job {job.id}: {word}"):
        client.download(job.id, tmp_path)


def test_download_of_a_job_that_nobody_knows(client: mwa_client.Client, tmp_path: Path) -> None:
    with pytest.raises(ServiceRefused, match="no job 999"):
        client.download(999, tmp_path)


# --- A whole file ------------------------------------------------------------------------------------


def test_run_a_file(client: mwa_client.Client, sandbox: Sandbox, tmp_path: Path) -> None:
    csv, data = tmp_path / "jobs.csv", tmp_path / "data"
    csv.write_text(THREE_ROWS)
    jobs = add_three(sandbox)
    events: list[Event] = []
    summary = client.run(csv, data, parallel=2, listen=events.append)
    assert summary.exit_status is ExitStatus.COMPLETE
    assert [done.row.line for done in summary.complete] == [1, 2, 3]
    assert (summary.failed, summary.pending, summary.size) == ((), (), 150_000)
    files = [file.path for done in summary.complete for file in done.files]
    assert [file.read_bytes() for file in files] == [true_bytes(job) for job in jobs]
    assert events[0] == Begun(3)
    assert [event.found for event in events if isinstance(event, Submitted)] == [True] * 3
    assert sum(isinstance(event, Complete) for event in events) == 3
    assert events[-1] == summary
    sums = subprocess.run(["sha1sum", "-c", "SHA1SUMS"], cwd=data, capture_output=True, check=False)
    assert sums.returncode == 0

    sandbox.reset_log()
    again = client.run(str(csv), str(data))
    assert all(done.from_before for done in again.complete)
    assert sandbox.requests == []


def test_run_with_a_job_that_fails(
    client: mwa_client.Client, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "FIRST_POLL", 0.05)  # It looks again before it gives a product up.
    csv = tmp_path / "jobs.csv"
    csv.write_text(THREE_ROWS)
    jobs = add_three(sandbox)
    sandbox.faults.add("product_gone", job_id=jobs[1].id)
    summary = client.run(csv, tmp_path)
    assert summary.exit_status is ExitStatus.JOBS_FAILED
    assert len(summary.complete) == 2
    (failure,) = summary.failed
    assert (failure.row.line, failure.row.obs_id, failure.row.job_id) == (2, OBS, jobs[1].id)
    assert isinstance(failure.error, JobFailed)


def test_run_a_file_with_mistakes(client: mwa_client.Client, sandbox: Sandbox, tmp_path: Path) -> None:
    csv = tmp_path / "jobs.csv"
    csv.write_text("obs_id=7\n")
    sandbox.reset_log()
    with pytest.raises(JobFileError) as caught:
        client.run(csv, tmp_path / "data")
    assert len(caught.value.mistakes) == 2
    assert sandbox.requests == []
    assert not (tmp_path / "data").exists()


def test_run_with_settings_that_cannot_be(client: mwa_client.Client, tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text(THREE_ROWS)
    with pytest.raises(SettingsError, match="cannot read"):
        client.run(tmp_path / "none.csv", tmp_path)
    with pytest.raises(SettingsError, match="parallel=0"):
        client.run(tmp_path / "jobs.csv", tmp_path, parallel=0)


@pytest.mark.parametrize("directory", ["", None, 7, b"data", "a\0b", "a\ud800b", "~nobody-of-that-name/x"])
def test_a_directory_that_cannot_be(
    client: mwa_client.Client,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    directory: Any,
) -> None:
    """An empty one is most likely a variable that was never set, and not the directory of the notebook."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="is no directory"):
        client.run(THREE_ROWS, directory)
    with pytest.raises(SettingsError, match="is no directory"):
        client.download(10001, directory)
    assert sandbox.jobs == [] and list(tmp_path.iterdir()) == []


def test_a_directory_in_the_home(
    client: mwa_client.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on the command line: who removes a folder that is called ~ removes everything."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    client.run(THREE_ROWS, "~/data", once=True)
    assert (tmp_path / "home" / "data").is_dir() and list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "job_id", [-1, 2**63, 10**5000, 1e300, float("nan"), True, "10001x", [10001]], ids=lambda value: ""
)
def test_a_job_id_that_cannot_be(client: mwa_client.Client, sandbox: Sandbox, job_id: Any) -> None:
    sandbox.reset_log()
    for call in (client.cancel, client.wait, client.download):
        with pytest.raises(SettingsError, match="is not a job id"):
            call(job_id)
    assert sandbox.requests == []


def test_the_package_is_there_at_once() -> None:
    code = "import sys, mwa_client; print('requests' in sys.modules, mwa_client.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"False {mwa_client.__version__}\n"
