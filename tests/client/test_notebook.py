"""The Python API as a notebook uses it: tables in, tables out, waiting, warnings, progress."""

from __future__ import annotations

import copy
import io
import logging
import pickle
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from shared import THREE_ROWS, FastClock

import mwa_client
from mwa_client.errors import ExitStatus, JobFailed, JobFileError, NotFinished, ServiceRefused, SettingsError
from mwa_client.jobs.given_rows import rows_as_text
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import JobState, JobType, Sandbox

OBS, OTHER = 1191828584, 1191828528
VIS = {"obs_id": OBS, "job_type": "d", "download_type": "vis"}
SECRET = "&Signature="


def frame(content: Any) -> Any:
    """Make a table; pandas takes a second to load, and each process that runs tests reads this file."""
    import pandas

    return pandas.DataFrame(content)


@pytest.fixture
def client(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[mwa_client.Client]:
    monkeypatch.setenv("HOME", str(tmp_path))
    with mwa_client.login(key="practice-key", host=sandbox.url) as client:
        client._clock = clock
        yield client


@pytest.fixture
def ready(sandbox: Sandbox) -> int:
    """A job that is ready."""
    return sandbox.service.add({"obs_id": str(OBS), "download_type": "vis"}, JobType.VISIBILITIES,
                               state=JobState.READY).id  # fmt: skip


# --- Jobs ---------------------------------------------------------------------------------------------


def test_jobs_become_a_table(client: mwa_client.Client, ready: int) -> None:
    jobs = client.jobs()
    for table in (frame(jobs), frame(jobs.values())):
        (row,) = table.to_dict("records")
        assert (row["job_id"], row["obs_id"], row["job_type"]) == (ready, OBS, "download")
        assert (row["state"], row["size"]) == ("Ready for Download", 300_000 + ready)
        assert row["expires"].tzinfo is not None and row["error"] == ""
        assert SECRET in jobs[ready].product[0].url and SECRET not in table.to_string()


def test_no_jobs_become_an_empty_table(client: mwa_client.Client) -> None:
    assert frame(client.jobs()).empty and client.jobs() == {}


def test_jobs_can_be_pickled_and_copied(client: mwa_client.Client, ready: int) -> None:
    jobs = client.jobs()
    for again in (pickle.loads(pickle.dumps(jobs)), copy.copy(jobs), copy.deepcopy(jobs)):
        assert again == jobs == {ready: jobs[ready]}
    job = jobs[ready]
    for one in (pickle.loads(pickle.dumps(job)), copy.deepcopy(job)):
        assert one == job and one.raw == job.raw
    assert asdict(job)["parameters"] == job.parameters
    assert SECRET not in repr(jobs) + repr(job)


def test_what_a_run_returns_can_be_pickled(client: mwa_client.Client, ready: int, tmp_path: Path) -> None:
    summary = client.run([VIS], tmp_path)
    assert pickle.loads(pickle.dumps(summary)) == copy.deepcopy(summary) == summary
    assert frame(summary.complete[0].files)["size"].tolist() == [300_000 + ready]


# --- Rows ---------------------------------------------------------------------------------------------

FRAME = {
    "obs_id": [float(OBS), float(OTHER)],
    "job_type": ["d", "c"],
    "download_type": ["vis", None],
    "avg_time_res": [float("nan"), 4.0],
    "no_rfi": [None, True],
}
"""As pandas makes it of a sheet with holes: numbers are floats, and what is missing is NaN."""
AS_TEXT = [
    f"obs_id={OBS}, job_type=d, download_type=vis",
    f"obs_id={OTHER}, job_type=c, avg_time_res=4, no_rfi=true",
]


def of_numpy(path: Path) -> list[dict[str, Any]]:
    import numpy
    import pandas

    return [
        {**VIS, "obs_id": numpy.int64(OBS)},
        {"obs_id": numpy.uint32(OTHER), "job_type": numpy.str_("c"), "avg_time_res": numpy.float32(4),
         "no_rfi": numpy.bool_(True), "avg_freq_res": pandas.NA, "output": pandas.NaT},
    ]  # fmt: skip


GIVEN: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "name": str,
    "open file": lambda path: io.StringIO("\n".join(AS_TEXT)),
    "bytes in memory": lambda path: io.BytesIO("\n".join(AS_TEXT).encode()),
    "texts": lambda path: AS_TEXT,
    "generator": lambda path: iter(AS_TEXT),
    "one text": lambda path: "\n".join(AS_TEXT),
    "requests": lambda path: list(parse("\n".join(AS_TEXT), ApiVersion.V2).jobs),
    "table": lambda path: frame(FRAME),
    "table with NA": lambda path: frame(FRAME).convert_dtypes(),
    "records": lambda path: frame(FRAME).to_dict("records"),
    "numpy": of_numpy,
}


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_rows_in_any_form(
    client: mwa_client.Client, sandbox: Sandbox, tmp_path: Path, given: Callable[[Path], Any]
) -> None:
    file = tmp_path / "jobs.csv"
    file.write_text("\n".join(AS_TEXT))
    summary = client.run(given(file), tmp_path / "data")
    assert summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 2
    first, second = sorted(
        (dict(job.params) for job in sandbox.jobs), key=lambda params: "avg_time_res" in params
    )
    assert (first["obs_id"], first["download_type"]) == (OBS, "vis")
    assert (second["obs_id"], second["avg_time_res"], second["no_rfi"]) == (OTHER, 4, True)


def test_one_mapping_is_one_row(client: mwa_client.Client, sandbox: Sandbox, tmp_path: Path) -> None:
    client.run(VIS, tmp_path, once=True)
    assert client.submit(VIS) == sandbox.jobs[0].id and len(sandbox.jobs) == 1


def test_no_mapping_is_taken_for_an_empty_line_or_a_comment() -> None:
    for lost in ({}, {"obs_id": None, "job_type": float("nan")}, {"#": 1}, {"#N/A": 1, **VIS}):
        with pytest.raises(mwa_client.errors.JobFileError) as caught:
            parse(rows_as_text([VIS, lost])[0], ApiVersion.V2)
        assert {mistake.line for mistake in caught.value.mistakes} == {2}


def test_a_request_means_the_same_again() -> None:
    """What a row of 2018 leaves out has another meaning than in a row of today."""
    rows = f"{THREE_ROWS}obs_id={OBS}, job_type=c, avg_time_res=8, allow_resubmit=true\n"
    requests = parse(rows, ApiVersion.V2).jobs
    again = parse(rows_as_text(requests)[0], ApiVersion.V2).jobs
    assert [each.parameters(ApiVersion.V2) for each in again] == [
        each.parameters(ApiVersion.V2) for each in requests
    ]
    assert [each.allow_resubmit for each in again] == [False, False, False, True]
    assert [each.written_for for each in again] == [each.written_for for each in requests]


@pytest.mark.parametrize("given", [None, 7, b"obs_id=7", [None], [7], [[VIS]], io.StringIO])
def test_what_is_no_row_is_answered_by_one_of_our_errors(
    client: mwa_client.Client, sandbox: Sandbox, tmp_path: Path, given: Any
) -> None:
    with pytest.raises(SettingsError, match=r"not a row|neither a job file|not text") as caught:
        client.run(given, tmp_path / "data")
    assert "list of rows" in caught.value.remedy
    assert not sandbox.jobs and not (tmp_path / "data").exists()


def test_mistakes_have_the_number_of_the_row(client: mwa_client.Client, tmp_path: Path) -> None:
    with pytest.raises(JobFileError, match="row:2: obs_id=7: must be") as caught:
        client.run([VIS, {**VIS, "obs_id": 7}], tmp_path)
    assert [mistake.line for mistake in caught.value.mistakes] == [2]
    for nothing in (frame([]), frame([VIS]).iloc[:0], list[Any]()):
        with pytest.raises(JobFileError, match="no rows were given"):
            client.run(nothing, tmp_path)
    with pytest.raises(JobFileError, match="row:1"):
        client.run([{**VIS, "download_type": f"vis\nobs_id={OTHER}, job_type=d"}, VIS], tmp_path)


def test_the_headers_of_a_table_are_understood_as_in_a_job_file(
    client: mwa_client.Client, sandbox: Sandbox, tmp_path: Path, clock: FastClock
) -> None:
    table = frame([{"Obs ID": OBS, "JOB_TYPE": "d", "download type": "vis"}])
    assert client.run(table, tmp_path, once=True).exit_status == 75
    (job,) = sandbox.jobs
    assert str(job.params["obs_id"]) == str(OBS) and job.params["download_type"] == "vis"
    with pytest.raises(JobFileError, match="row:1: Obs ID: no such key"):
        client.run(frame([{**VIS, "Obs ID": OTHER}]), tmp_path)


def test_a_file_that_is_not_there(client: mwa_client.Client, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read none\.csv") as caught:
        client.run("none.csv", tmp_path)
    assert caught.value.remedy == "Give the path of a job file, or a list of rows."


# --- Warnings, the log, progress ----------------------------------------------------------------------

WITH_A_WORD_OF_2018 = {"obs_id": OBS, "job_type": "c", "timeres": 4, "freqres": 40, "edgewidth": 80,
                       "conversion": "ms", "nostats": True, "flagdcchannels": True}  # fmt: skip


def test_warnings_name_the_line_of_the_caller(client: mwa_client.Client, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.submit(WITH_A_WORD_OF_2018)
        client.run([WITH_A_WORD_OF_2018], tmp_path)
    ours = [each for each in caught if issubclass(each.category, mwa_client.MwaClientWarning)]
    assert {each.filename for each in ours} == {__file__}
    said = [str(each.message) for each in ours]
    assert sum("nostats has no equivalent" in text for text in said) == 2


def test_certificates_that_are_not_verified_are_warned_of(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSL_VERIFY", "0")
    with pytest.warns(mwa_client.MwaClientWarning, match="certificates are not verified"):
        mwa_client.login(key="practice-key", host=sandbox.url).close()


def test_an_outage_is_logged_where_nobody_listens(
    client: mwa_client.Client, sandbox: Sandbox, ready: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.faults.add("fail_call", status=503, path="*get_jobs", times=1)
    assert client.run([VIS], tmp_path).exit_status is ExitStatus.COMPLETE
    assert any(
        "Trying again in" in record.message for record in caplog.records if record.name == "mwa_client"
    )
    assert all(record.levelno <= logging.WARNING for record in caplog.records)


def test_progress_is_shown_on_standard_error(
    client: mwa_client.Client, ready: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client.run([VIS], tmp_path)
    assert capsys.readouterr() == ("", "")
    client.run([VIS], tmp_path / "again", progress=True)
    out, err = capsys.readouterr()
    assert not out and "Download Complete" in err and "1 complete" in err


# --- Waiting ------------------------------------------------------------------------------------------


def test_wait(client: mwa_client.Client, sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    job_id = client.submit(VIS)
    job = client.wait(job_id)
    assert (job.job_id, job.label) == (job_id, "Ready for Download") and clock.slept
    assert client.download(job_id, tmp_path)[0].verified


def test_wait_shows_each_state_once(
    client: mwa_client.Client, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.faults.add("fail_call", status=503, path="*get_jobs", times=2)
    job_id = client.submit(VIS)
    client.wait(job_id, progress=True)
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == len(set(shown)) and sum("Trying again" in line for line in shown) == 1
    assert "Ready for Download: " in shown[-1] and str(job_id) in shown[-1]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (JobState.ERROR, "failed at the service"),
        (JobState.CANCELLED, "cancelled"),
    ],
)
def test_wait_for_a_job_that_is_lost(
    client: mwa_client.Client, sandbox: Sandbox, state: JobState, words: str
) -> None:
    job = sandbox.service.add({"obs_id": str(OBS), "download_type": "vis"}, JobType.VISIBILITIES, state=state)
    with pytest.raises((JobFailed, ServiceRefused), match=words) as caught:
        client.wait(job.id)
    assert "--" not in str(caught.value)


def test_wait_for_a_job_that_has_expired(client: mwa_client.Client, ready: int, clock: FastClock) -> None:
    """v2 has no word for that: the job stays complete."""
    clock.advance(8 * 86400)
    with pytest.raises(JobFailed, match=f"Job {ready} has expired"):
        client.wait(ready)


def test_wait_for_a_job_that_nobody_knows(client: mwa_client.Client) -> None:
    for ask in (client.wait, client.download):
        with pytest.raises(ServiceRefused) as caught:
            ask(999)
        assert caught.value.lines == ("The service lists no job 999.", "client.jobs() has your jobs.")


def test_wait_no_longer_than_that(client: mwa_client.Client, sandbox: Sandbox, clock: FastClock) -> None:
    job = sandbox.service.add({"obs_id": str(OBS), "download_type": "vis"}, JobType.VISIBILITIES,
                              state=JobState.QUEUED)  # fmt: skip
    sandbox.service.hold(job.id, JobState.QUEUED)
    began = clock.monotonic()
    with pytest.raises(NotFinished, match=f"Job {job.id} is not ready yet: Queued"):
        client.wait(job.id, timeout=600)
    assert 500 < clock.monotonic() - began <= 600


def test_wait_for_a_job_that_the_list_does_not_have_yet(
    client: mwa_client.Client, sandbox: Sandbox, clock: FastClock
) -> None:
    job_id = client.submit(VIS)
    sandbox.faults.add("missing_job", job_id=job_id, times=2)
    assert client.wait(job_id).state.is_ready


# --- Arguments ----------------------------------------------------------------------------------------


def test_job_ids_and_times_of_any_kind(client: mwa_client.Client, ready: int) -> None:
    import numpy

    for job_id in (ready, numpy.int64(ready), str(ready), float(ready)):
        for timeout in (5, "5s", timedelta(seconds=5), numpy.float32(5)):
            assert client.wait(job_id, timeout=timeout).job_id == ready  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda client: client.wait("abc"), "job_id='abc' is not a job id"),
        (lambda client: client.cancel(None), "job_id=None is not a job id"),
        (lambda client: client.download(1.5), "job_id=1.5 is not a job id"),
        (lambda client: client.wait(1, timeout="soon"), "timeout='soon' is not a time"),
        (lambda client: client.wait(1, timeout=-1), "timeout=-1 is not a time"),
        (lambda client: client.run([VIS], give_up_after=float("nan")), "give_up_after=nan is not a time"),
        (lambda client: client.run([VIS], wait_for_lock=[]), "wait_for_lock=[] is not a time"),
        (lambda client: client.run([VIS], parallel="x"), "parallel='x' is not possible"),
        (lambda client: client.run([VIS], connections=2.5), "connections=2.5 is not possible"),
        (lambda client: client.run([VIS], part=(1, 2)), "part=(1, 2) is not a part"),
        (lambda client: mwa_client.login(key=5), "key is of type int"),  # type: ignore[arg-type]
        (lambda client: mwa_client.login(key="x", host="::"), "host=:: is not an address"),
        (lambda client: mwa_client.login(key="x", host="a", port=99999), "port=99999 is not a port"),
        (lambda client: mwa_client.login(key="x", api="3"), "api='3' is not an interface"),
    ],
)  # fmt: skip
def test_an_argument_that_cannot_be_is_one_of_our_errors(
    client: mwa_client.Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., Any],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as caught:
        call(client)
    assert says in str(caught.value) and "ASVO" not in str(caught.value)
    assert list(tmp_path.iterdir()) in ([], [tmp_path / ".mwa-asvo"])
