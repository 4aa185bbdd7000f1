"""Every option of the command, against all interfaces of the service, over real sockets."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable
from urllib.parse import urlencode

import pytest
from forked import ForkedClient
from json_events import FIELDS
from shared import command, environment, products, run_command, run_forked, untimed

from mwa_client.batch import watching
from mwa_client.batch.ledger import STATE_DIR
from mwa_client.cli import main as cli
from mwa_client.directory.lock import directory_lock
from mwa_client.sandbox import JobState, JobType, Sandbox
from mwa_client.timing import SystemClock

OBS, OTHER, THIRD = 1191828584, 1191828528, 1191829000
APIS = ("2018", "v1", "v2")
TODAYS = ("v1", "v2")
VIS = {"obs_id": str(OBS), "download_type": "vis"}
OTHER_VIS = {**VIS, "obs_id": str(OTHER)}
ONE_ROW = f"obs_id={OBS}, job_type=d, download_type=vis"
SCRATCH_ROW = f"{ONE_ROW}, delivery=scratch"
SECRETS = ("practice-key", "Bearer", "eyJ", "Signature=", "Authorization")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """Standard output as JSON, every line of it."""
        return [json.loads(line) for line in self.out.splitlines()]

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tokens and products out of the repository, and the user's account out of the tests."""
    monkeypatch.chdir(tmp_path)
    for name in [*environment(), *os.environ]:
        if name.startswith(("ASVO_", "MWA_ASVO_", "SSL_")):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A practice service whose jobs are ready at once and which delivers where this host can see it."""
    with Sandbox(
        seconds_per_state=0, product_size=lambda job: 300_000, scratch_folder=tmp_path / "scratch"
    ) as sandbox:
        yield sandbox


Run = Callable[..., Done]


@pytest.fixture
def run(
    sandbox: Sandbox,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """The command in this process; without an account it is given today's key."""
    monkeypatch.setenv("ASVO_HOST", sandbox.url)
    monkeypatch.setenv("ASVO_USER", "practice")
    monkeypatch.setenv("ASVO_PASS", "practice")
    monkeypatch.setenv("MWA_ASVO_HOST", sandbox.url)
    monkeypatch.setenv("MWA_ASVO_API_KEY", "practice-key")
    monkeypatch.setenv("MWA_ASVO_SCRATCH_ROOTS", str(data.parent / "scratch"))

    def run(*arguments: object, surprise: bool = False) -> Done:
        try:
            status = cli.main([*map(str, arguments), f"--dir={data}", "--poll=0.05"])
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        assert ("internal error" in err) is surprise
        return Done(status, untimed(out), untimed(err))

    return run


def todays(sandbox: Sandbox, tmp_path: Path, **more: str) -> dict[str, str]:
    """The environment of a process that has today's key alone."""
    account = {"MWA_ASVO_HOST": sandbox.url, "MWA_ASVO_API_KEY": "practice-key"}
    places = {"HOME": str(tmp_path / "home"), "MWA_ASVO_SCRATCH_ROOTS": str(tmp_path / "scratch")}
    return {**environment(), **account, **places, **more}


def brought(sandbox: Sandbox, directory: Path) -> set[int]:
    """The jobs whose products stand in the directory, every byte of them."""
    files = {(directory / name).read_bytes() for name in products(directory)}
    jobs = {job.id for job in sandbox.jobs if b"".join(job.content.pieces()) in files}
    assert len(jobs) == len(files)
    return jobs


def fetched(sandbox: Sandbox) -> list[str]:
    """The requests for products so far."""
    return [
        entry.path
        for entry in sandbox.requests
        if entry.store or ("download" in entry.path.rsplit("/", 1)[-1] and entry.method == "GET")
    ]


def add(sandbox: Sandbox, params: dict[str, str] = VIS, **more: Any) -> int:
    return sandbox.service.add(params, JobType.VISIBILITIES, size=1000, **more).id


# --- Submitting alone --------------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_submit_only_and_the_rest_later(sandbox: Sandbox, run: Run, csv: Path, data: Path, api: str) -> None:
    for job_type in range(3):  # Jobs of others, so that the ids mean something.
        sandbox.service.add({"obs_id": str(THIRD + job_type)})
    done = run("--csv", csv, "-s", "--api", api)
    ids = [job.id for job in sandbox.jobs][3:]
    assert done.status == 0 and len(ids) == 3
    # Where a listing comes before the last answer, the states of the first jobs are told, too.
    assert sorted(set(map(int, re.findall(r"Job id: (\d+)", done.out)))) == ids
    assert done.out.splitlines()[-1].startswith("3 jobs submitted")
    assert fetched(sandbox) == [] and products(data) == set()
    again = run("--csv", csv, "--submit-only", "--api", api)
    assert again.status == 0 and again.out.count("Found: ") == 3 and fetched(sandbox) == []
    whole = run("--csv", csv, "--api", api)
    assert whole.status == 0 and whole.out.splitlines()[-1].startswith("3 complete")
    assert len(sandbox.jobs) == 6 and len(products(data)) == 3


def test_submit_only_fetches_nothing_that_is_ready(sandbox: Sandbox, run: Run, data: Path) -> None:
    sandbox.service.seconds_per_state = 0
    add(sandbox)
    done = run("-j", ONE_ROW, "-s", "--poll", "0.05")
    assert done.status == 0 and len(sandbox.jobs) == 1
    assert fetched(sandbox) == [] and products(data) == set()


@pytest.mark.parametrize("api", TODAYS)
def test_submitting_what_somebody_else_has_submitted_attaches(
    sandbox: Sandbox, run: Run, csv: Path, data: Path, tmp_path: Path, api: str
) -> None:
    assert run("--csv", csv, "-s", "--api", api).status == 0
    elsewhere = cli.main(["--csv", str(csv), "--dir", str(tmp_path / "else"), "--api", api])
    assert elsewhere == 0 and len(sandbox.jobs) == 3
    assert len(products(tmp_path / "else")) == 3 and products(data) == set()


# --- Listing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_the_table(sandbox: Sandbox, run: Run, api: str) -> None:
    now = time.time()
    old = sandbox.service.add({"obs_id": str(OBS)}, created=now - 90_000, size=22_500_000).id
    failed = add(sandbox, OTHER_VIS, state=JobState.ERROR, error_text="no such files")
    waiting = add(sandbox, state=JobState.QUEUED)
    done = run("-l", "--api", api)
    heading, *rows = done.out.splitlines()
    assert (done.status, done.err) == (0, "")
    queue = ["place", "starts", "in"] if api == "v2" else []
    headings = ["job", "id", "obs_id", "type", "state", *queue, "size", "age", "expires", "in", "why"]
    assert heading.split() == headings
    assert [int(row.split()[0]) for row in rows] == sorted([old, failed, waiting])
    cells = {int(row.split()[0]): re.split(r" {2,}", row.strip()) for row in rows}
    assert (
        cells[old][:2] == [str(old), str(OBS)]
        and "22.5 MB" in cells[old]
        and ("-" if api == "2018" else "1 d 1 h") in cells[old]
    )
    # In 2018 the service did not say when a job was made or had ended.
    assert "Ready for Download" in cells[old]
    assert re.fullmatch(r"-" if api == "2018" else r"[56] d \d+ h", cells[old][-2])
    assert "Error" in cells[failed] and cells[failed][-2:] == ["-", "no such files"]
    assert "Queued" in cells[waiting] and "-" in cells[waiting]
    if api == "v2":
        assert cells[waiting][4] == "1" and cells[waiting][5] in ("0 min", "soon")
    # Each column begins or ends where its heading does.
    for column, is_left in (("obs_id", False), ("type", True), ("state", True), ("age", False)):
        place = heading.index(column) + (0 if is_left else len(column) - 1)
        assert all(row[place] != " " and row[place - 1 if is_left else place + 1] == " " for row in rows)


@pytest.mark.parametrize("api", APIS)
def test_the_list_as_json(sandbox: Sandbox, run: Run, api: str) -> None:
    ids = [add(sandbox), add(sandbox, OTHER_VIS, state=JobState.ERROR)]
    done = run("-l", "--json", "--api", api)
    jobs = done.events
    assert (done.status, done.err) == (0, "")
    assert [(job["id"], job["obs_id"]) for job in jobs] == list(zip(ids, (OBS, OTHER)))
    theirs = {"id", "job_type", "job_state", "product", "error_text"}
    meaning = {"kind", "label", "why_failed", "queue_place", "starts_at", "expires_at"}
    assert all(theirs | meaning <= set(job) for job in jobs)
    assert [(job["kind"], job["label"]) for job in jobs] == [
        ("visibilities", "Ready for Download"), ("visibilities", "Error"),
    ]  # fmt: skip


@pytest.mark.parametrize("api", APIS)
def test_some_of_the_list(sandbox: Sandbox, run: Run, api: str) -> None:
    five_days_ago = time.time() - 5 * 86400
    meta = sandbox.service.add({"obs_id": str(OBS), "download_type": "vis_meta"}, JobType.METADATA).id
    old = sandbox.service.add(OTHER_VIS, JobType.VISIBILITIES, created=five_days_ago).id
    failed = add(sandbox, OTHER_VIS, state=JobState.ERROR, error_text="no such files")
    conversion = sandbox.service.add({"obs_id": str(THIRD)}, state=JobState.QUEUED).id

    def listed(*words: object) -> set[int]:
        done = run("-l", "--api", api, "--json", *words)
        assert done.status == 0
        return {job["id"] for job in done.events}

    assert listed() == {meta, old, failed, conversion}
    assert listed("--state", "error") == listed("--state=Error,CANCELLED") == {failed}
    assert listed("--state", "Ready for Download", "--state", "failed") == {meta, old, failed}
    assert listed("--state=pending") == {conversion}
    assert listed("--type=metadata") == {meta} and listed("--type", "download") == {meta, old, failed}
    assert listed("--type=c,meta") == {meta, conversion}
    assert listed(OTHER) == {old, failed} and listed(old, f"{meta},{THIRD}") == {old, meta, conversion}
    assert listed(OTHER, "--state=error", "--type=vis") == {failed}
    assert listed(OTHER, "--state=queued") == set()
    assert listed("--days=4.5d") == (set() if api == "2018" else {meta, failed, conversion})
    done = run("-l", "--api", api, "--days=40", OBS, 99)
    assert "mwa_client: The service lists no job 99.\nmwa_client -l shows your jobs.\n" in done.err
    assert done.status == 2
    assert ("--days leaves them out" in done.err) is (api == "2018")
    assert ("last 30 days alone" in done.err) is (api == "v2")
    assert run("-l", "--api", api, "--state=staging").out == "None of your 4 jobs matches.\n"


def test_the_only_job_is_none_of_those_that_are_wanted(sandbox: Sandbox, run: Run) -> None:
    assert run("-l", "--state=staging").out == "No jobs.\n"
    add(sandbox, state=JobState.QUEUED)
    assert run("-l", "--state=staging").out == "Your only job does not match.\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-l", "--state=quued"], "Did you mean Queued? There are: Preparing, Queued,"),
        (["-l", "--state="], "there is no such state"),
        (["-l", "--type=vsibilities"], "Did you mean visibilities? There are: conversion, visibilities,"),
        (["-l", "--type", "x"], "--type=x: there is no such type"),
        (["-l", "--days=0"], "--days=0 is not possible"),
        (["-l", "--days=a week"], "It must be a number of days"),
        (["-l", "--days=1e99"], "It must be a number of days"),
        (["-l", "jobs.csv"], "jobs.csv is not a job"),
        (["-l", "all"], "all is not a job"),
        (["-w", "5", "--state=error"], "--state can only be given with --list-only"),
        (["--cancel", "5", "--type=c", "--days=3"], "--type and --days can only be given with --list-only"),
    ],
)
def test_filters_that_cannot_be(sandbox: Sandbox, run: Run, words: list[str], told: str) -> None:
    done = run(*words)
    assert done.status == 1 and done.out == "" and told in done.err and sandbox.requests == []


@pytest.mark.parametrize("api", APIS)
def test_an_empty_list(run: Run, api: str) -> None:
    assert run("-l", "--api", api) == Done(0, "No jobs.\n", "")
    assert run("-l", "--json", "--api", api) == Done(0, "", "")


def test_listing_leaves_no_trace(sandbox: Sandbox, run: Run, data: Path) -> None:
    add(sandbox)
    assert run("-l").status == 0 and not data.exists()


# --- Waiting alone -----------------------------------------------------------------------------------


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Sandbox]:
    """A practice service whose jobs take a moment."""
    with Sandbox(seconds_per_state=0.05, scratch_folder=tmp_path / "scratch") as sandbox:
        yield sandbox


@pytest.mark.parametrize("api", APIS)
def test_waiting_until_a_job_is_ready(
    slow: Sandbox, run: Run, data: Path, monkeypatch: pytest.MonkeyPatch, api: str
) -> None:
    monkeypatch.setenv("ASVO_HOST", slow.url)
    monkeypatch.setenv("MWA_ASVO_HOST", slow.url)
    job = slow.service.add(VIS, JobType.VISIBILITIES).id
    done = run("-w", job, "--no-download", "--api", api)
    assert done.status == 0 and done.out.splitlines()[-1] == "1 ready for download"
    assert f"Ready for Download: Job id: {job}" in done.out
    assert not data.exists() and fetched(slow) == []


@pytest.mark.parametrize("api", APIS)
def test_waiting_for_jobs_of_which_some_fail(sandbox: Sandbox, run: Run, data: Path, api: str) -> None:
    ready, failed = add(sandbox), add(sandbox, OTHER_VIS, state=JobState.ERROR, error_text="no such files")
    done = run("-w", ready, failed, "--no-download", "--api", api, "--json")
    (summary,) = done.told("summary")
    assert done.status == 4 and (summary["ready"], summary["failed"], summary["bytes"]) == (1, 1, 0)
    assert summary["directory"] == str(data) and "no such files" in done.told("error")[0]["message"]
    assert not data.exists() and fetched(sandbox) == []


def test_waiting_for_all_is_for_those_that_are_not_ready_yet(sandbox: Sandbox, run: Run) -> None:
    add(sandbox)
    add(sandbox, OTHER_VIS, state=JobState.ERROR)
    assert run("-w", "all", "--no-download").out.splitlines()[-1] == "1 ready for download"
    add(sandbox, state=JobState.QUEUED)
    done = run("-w", "all", "--no-download", "--once")
    assert done.status == 75 and done.out.splitlines()[-1].startswith("1 ready for download, 1 pending")
    assert run("-w", "all", "--no-download", "--give-up-after=0.2").status == 75


def test_waiting_beside_a_client_that_is_at_work(sandbox: Sandbox, run: Run, data: Path) -> None:
    job = add(sandbox)
    with directory_lock(data, data / STATE_DIR, SystemClock(), print):
        assert run("-w", job).status == 75
        assert run("-w", job, "--no-download").status == 0


def test_a_job_file_whose_jobs_are_only_waited_for(sandbox: Sandbox, run: Run, csv: Path, data: Path) -> None:
    done = run("-c", csv, "--no-download")
    assert done.status == 0 and done.out.splitlines()[-1] == "3 ready for download"
    assert products(data) == set() and fetched(sandbox) == []
    assert run("-c", csv).status == 0 and len(sandbox.jobs) == 3 and len(products(data)) == 3
    assert run("-c", csv, "--no-download").out.splitlines()[-1].startswith("3 complete")


@pytest.mark.parametrize(
    "words", [["-l"], ["--cancel", "5"], ["-s", "-j", ONE_ROW], ["--check", "-j", ONE_ROW]]
)
def test_what_downloads_nothing_anyway(sandbox: Sandbox, run: Run, words: list[str]) -> None:
    done = run(*words, "--no-download")
    assert done.status == 1 and "--no-download and" in done.err and sandbox.requests == []


# --- Fetching what is there --------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_fetch_by_job_id(sandbox: Sandbox, run: Run, data: Path, api: str) -> None:
    add(sandbox, OTHER_VIS)
    wanted = add(sandbox)
    done = run("-w", wanted, "--api", api)
    assert done.status == 0 and done.out.splitlines()[-1].startswith("1 complete")
    assert brought(sandbox, data) == {wanted} and len(sandbox.jobs) == 2
    assert len(fetched(sandbox)) == 1
    assert run("-w", wanted, "--api", api).status == 0 and len(fetched(sandbox)) == 1


def test_fetch_waits_out_an_outage(sandbox: Sandbox, run: Run, data: Path) -> None:
    wanted = add(sandbox)
    down = sandbox.faults.add("fail_call", path="/api/get_jobs", times=3)
    pass_ = run("-w", wanted, "--once", "--api=2018")
    assert pass_.status == 75 and "Run the same command again." in pass_.err and down.hits == 1
    brief = run("-w", wanted, "--give-up-after=0.001", "--api=2018")
    assert brief.status == 75 and down.hits == 2
    done = run("-w", wanted, "--api=2018")
    assert done.status == 0 and down.hits == 3 and done.err.count("until it answers") == 1
    assert brought(sandbox, data) == {wanted}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["{0}", "{1}"], {0, 1}),
        (["{0},{1}"], {0, 1}),
        (["{0}, {2}", "{0}"], {0, 2}),
        ([str(OTHER)], {1}),
        ([str(OBS), str(OTHER)], {0, 1, 2}),
        (["all"], {0, 1, 2}),
        (["all", "{0}"], {0, 1, 2}),
    ],
)
def test_fetch_several(
    sandbox: Sandbox, run: Run, data: Path, api: str, targets: list[str], expected: set[int]
) -> None:
    ids = [add(sandbox), add(sandbox, OTHER_VIS), add(sandbox, {**VIS, "download_type": "vis_meta"})]
    add(sandbox, {**VIS, "obs_id": str(THIRD)}, state=JobState.ERROR)
    add(sandbox, {**VIS, "obs_id": str(THIRD)}, state=JobState.QUEUED)
    done = run("-w", *[target.format(*ids) for target in targets], "--api", api)
    assert done.status == 0, done.err
    assert brought(sandbox, data) == {ids[number] for number in expected}


def test_fetch_given_twice_is_both(sandbox: Sandbox, run: Run, data: Path) -> None:
    ids = add(sandbox), add(sandbox, OTHER_VIS)
    assert run("-w", ids[0], "-w", ids[1]).status == 0 and len(products(data)) == 2


def test_all_of_nothing(sandbox: Sandbox, run: Run, data: Path) -> None:
    add(sandbox, state=JobState.QUEUED)
    done = run("-w", "all")
    assert done.status == 0 and done.out == "Nothing to download: none of your jobs is ready.\n"
    assert not (data / ".mwa_client").exists()


@pytest.mark.parametrize("api", APIS)
def test_a_named_job_is_waited_for(sandbox: Sandbox, data: Path, tmp_path: Path, api: str) -> None:
    job = add(sandbox, state=JobState.PROCESSING)
    account = {"ASVO_HOST": sandbox.url, "ASVO_USER": "practice", "ASVO_PASS": "practice"}
    words = command("-w", str(job), f"--dir={data}", "--poll=0.05", f"--api={api}")
    with ForkedClient(words, todays(sandbox, tmp_path, **account)) as process:
        assert process.stdout is not None
        assert untimed(process.stdout.readline()).startswith("Found: ")
        assert untimed(process.stdout.readline()) in (
            f"{word}: Job id: {job} obs_id: {OBS}\n" for word in ("Processing", "Preprocessing")
        )
        assert process.poll() is None and fetched(sandbox) == []
        sandbox.service.hold(job, JobState.READY)
        assert "Download Complete" in process.stdout.read()
        assert process.wait(15) == 0
    assert brought(sandbox, data) == {job}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("target", ["4711", str(THIRD)])
def test_fetch_what_nobody_knows(sandbox: Sandbox, run: Run, data: Path, api: str, target: str) -> None:
    job = add(sandbox)
    done = run("-w", job, target, "--api", api)
    assert done.status == 2 and f"no job {target}" in done.err
    assert fetched(sandbox) == []


def test_fetch_a_job_that_failed(sandbox: Sandbox, run: Run) -> None:
    job = add(sandbox, state=JobState.ERROR, error_text="the tape broke")
    done = run("-w", job)
    assert done.status == 4 and "the tape broke" in done.err
    assert f"  obs_id {OBS}, job id {job}: " in done.err and "line 0" not in done.err
    assert "-w submits nothing" in done.err and "--allow-resubmit" not in done.err


def test_fetch_an_observation_whose_jobs_all_failed(sandbox: Sandbox, run: Run) -> None:
    add(sandbox, state=JobState.ERROR)
    add(sandbox, state=JobState.CANCELLED)
    done = run("-w", OBS)
    assert done.status == 2 and f"on observation {OBS} has failed" in done.err
    good = add(sandbox)
    assert run("-w", OBS).out.splitlines()[-2].startswith(f"Download Complete: Job id: {good} ")


@pytest.mark.parametrize("word", ["abc", "-3", "1.5", "some", ""])
def test_fetch_no_job_at_all(sandbox: Sandbox, run: Run, word: str) -> None:
    done = run("-w", word) if word != "-3" else run("-w=-3")
    assert done.status in (1, 2) and done.err and sandbox.requests == []


# --- The error file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_the_error_file(sandbox: Sandbox, run: Run, csv: Path, tmp_path: Path, api: str) -> None:
    errors = tmp_path / "errors.json"
    errors.write_text('[{"obs_id": 1, "job_id": 2, "result": "what an earlier run left"}]')
    sandbox.faults.add("job_error", obs_id=OTHER, text="the tape broke")
    done = run("--csv", csv, "-e", errors, "--api", api)
    failed = next(job.id for job in sandbox.jobs if str(job.obs_id) == str(OTHER))
    (entry,) = json.loads(errors.read_text())
    assert done.status == 4 and set(entry) == {"obs_id", "job_id", "result"}
    assert (entry["obs_id"], entry["job_id"]) == (str(OTHER), failed) and "the tape broke" in entry["result"]


@pytest.mark.parametrize("what", [["-c", "jobs.csv"], ["-w", "all"], ["-l"], ["-s", "-c", "jobs.csv"]])
def test_the_error_file_is_written_without_errors(
    run: Run, csv: Path, tmp_path: Path, what: list[str]
) -> None:
    assert run(*what, "--error-file", tmp_path / "errors.json").status == 0
    assert json.loads((tmp_path / "errors.json").read_text()) == []


@pytest.mark.parametrize(
    ("row", "key", "status", "says"),
    [
        (ONE_ROW, "wrong-key", 2, "does not accept these credentials"),
        (f"{ONE_ROW}, frqres=2", "practice-key", 3, "frqres"),
        (ONE_ROW, "", 1, "credentials"),
    ],
)
def test_the_error_file_of_a_run_that_could_not_be(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    row: str,
    key: str,
    status: int,
    says: str,
) -> None:
    monkeypatch.setenv("MWA_ASVO_API_KEY", key)
    monkeypatch.delenv("ASVO_USER")
    done = run("-j", row, "-e", tmp_path / "errors.json")
    (entry,) = json.loads((tmp_path / "errors.json").read_text())
    assert done.status == status
    assert entry["obs_id"] is None and entry["job_id"] is None and says in entry["result"].lower()
    assert "wrong-key" not in entry["result"] + done.err


@pytest.mark.parametrize("api", APIS)
def test_the_error_file_of_a_run_that_ended_early(
    sandbox: Sandbox, run: Run, csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: str
) -> None:
    """What had failed before the surprise is listed on the screen and in the file, and then the surprise."""
    sandbox.faults.add("job_error", obs_id=OTHER, text="the tape broke")
    real = watching.Watching._watch

    def watch(self: watching.Watching, row: Any, *listed: Any) -> bool:
        if any(row.result for row in self._updates.rows):
            raise OverflowError("a value")
        return real(self, row, *listed)

    monkeypatch.setattr(watching.Watching, "_watch", watch)
    csv.write_text(
        f"{ONE_ROW.replace(str(OBS), str(OTHER))}\n{ONE_ROW}\n{ONE_ROW.replace(str(OBS), str(THIRD))}"
    )
    done = run("--csv", csv, "-e", tmp_path / "errors.json", "--api", api, "--json", surprise=True)
    first, last = json.loads((tmp_path / "errors.json").read_text())
    assert done.status == 1
    assert first["obs_id"] == str(OTHER) and "the tape broke" in first["result"]
    assert (last["obs_id"], last["job_id"]) == (None, None)
    assert last["result"].startswith("internal error: OverflowError in test_tasks.py, line ")
    (summary,) = done.told("summary")
    assert (summary["exit_status"], summary["failed"], summary["pending"]) == (1, 1, 2)
    assert last["result"] in done.err and "Please report it." in done.err and "a value" not in done.err


def test_an_error_file_that_cannot_be_written(sandbox: Sandbox, run: Run, tmp_path: Path) -> None:
    done = run("-j", ONE_ROW, "-e", tmp_path / "no" / "errors.json")
    assert done.status == 1 and done.err.count("errors.json: No such file or directory") == 1, "said once"
    assert "--error-file" in done.err and sandbox.requests == []


# --- Cancelling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_cancel_several(sandbox: Sandbox, run: Run, api: str) -> None:
    ids = [add(sandbox, state=JobState.QUEUED) for _ in range(3)]
    done = run("--cancel", f"{ids[0]},{ids[2]}", "--api", api)
    assert (done.status, done.err) == (0, "")
    assert done.out == "".join(f"Cancelled: Job id: {job}\n" for job in (ids[0], ids[2]))
    assert [sandbox.service.state(job) for job in sandbox.jobs] == [
        JobState.CANCELLED, JobState.QUEUED, JobState.CANCELLED,
    ]  # fmt: skip


@pytest.mark.parametrize("api", APIS)
def test_cancel_what_nobody_knows(sandbox: Sandbox, run: Run, api: str) -> None:
    job = add(sandbox, state=JobState.QUEUED)
    done = run("--cancel", "4711", job, "--api", api)
    assert done.status == 2 and "Not cancelled: 4711: " in done.err
    assert done.out == f"Cancelled: Job id: {job}\n"
    assert sandbox.service.state(sandbox.jobs[0]) is JobState.CANCELLED


def test_cancel_takes_job_ids_alone(sandbox: Sandbox, run: Run) -> None:
    done = run("--cancel", "all")
    assert done.status == 1 and "It must be a job id." in done.err and sandbox.requests == []


def test_cancelled_as_json(sandbox: Sandbox, run: Run) -> None:
    job = add(sandbox, state=JobState.QUEUED)
    done = run("--cancel", job, "--json")
    assert done.status == 0 and done.events == [{"event": "cancelled", "job_id": job}]


# --- Rows on the command line ------------------------------------------------------------------------


def test_rows_without_a_file(sandbox: Sandbox, run: Run, data: Path) -> None:
    done = run("-j", ONE_ROW, "--job", ONE_ROW.replace(str(OBS), str(OTHER)))
    assert done.status == 0 and brought(sandbox, data) == {job.id for job in sandbox.jobs}
    assert {str(job.obs_id) for job in sandbox.jobs} == {str(OBS), str(OTHER)}


def test_mistakes_in_rows(sandbox: Sandbox, run: Run) -> None:
    done = run("-j", f"{ONE_ROW}, frqres=2", "-j", "obs_id=3, job_type=d, download_type=vis")
    assert done.status == 3 and sandbox.requests == []
    assert "row:1: frqres" in done.err and "row:2: obs_id=3" in done.err
    assert done.err.splitlines()[-1].startswith("Error: ")


def test_an_empty_row(run: Run) -> None:
    assert run("-j", "").status == 3


def test_warnings_are_shown(run: Run) -> None:
    row = f"obs_id={OBS}, job_type=c, timeres=20, freqres=20, edgewidth=80, conversion=ms, nostats=true"
    done = run("-j", row, "--json")
    assert done.status == 0 and "Warning: row:1: nostats has no equivalent" in done.err
    assert done.told("summary")[0]["complete"] == 1


# --- JSON --------------------------------------------------------------------------------------------


def check_events(done: Done) -> None:
    """Every line is an event with exactly the fields that are documented, and the summary is the last."""
    for event in done.events:
        assert set(event) == FIELDS[event["event"]] | {"event", "time"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", event["time"])
    assert [event["event"] for event in done.events].index("summary") == len(done.events) - 1


@pytest.mark.parametrize("api", APIS)
def test_events(sandbox: Sandbox, run: Run, csv: Path, data: Path, api: str) -> None:
    done = run("--csv", csv, "--json", "--api", api)
    check_events(done)
    assert (done.status, done.err) == (0, "")
    assert {event["event"] for event in done.events} == set(FIELDS) - {"error", "then", "estimate"}
    assert [event["found"] for event in done.told("submitted")] == [False] * 3
    assert {event["line"] for event in done.told("submitted")} == {1, 2, 3}
    assert "Ready for Download" in {event["state"] for event in done.told("state")}
    for event in done.told("complete"):
        path = Path(event["path"])
        assert path.stat().st_size == event["size"] == 300_000 and event["here"] and event["verified"]
        assert f"{event['sha1']}  {path.name}" in (data / "SHA1SUMS").read_text()
        mine = [move for move in done.told("downloading") if move["job_id"] == event["job_id"]]
        # Calm: the beginning, the end, and nothing between them in so short a time.
        assert 1 <= len(mine) <= 3 and mine[-1]["bytes"] == mine[-1]["size"] == 300_000
        assert mine[-1]["obs_id"] == event["obs_id"] and mine[-1]["line"] == event["line"]
    (summary,) = done.told("summary")
    assert (summary["complete"], summary["failed"], summary["exit_status"]) == (3, 0, 0)
    assert summary["bytes"] == 900_000 and summary["directory"] == str(data)
    again = run("--csv", csv, "--json", "--api", api)
    check_events(again)
    assert [event["from_before"] for event in again.told("complete")] == [True] * 3


def test_events_of_a_run_with_errors(sandbox: Sandbox, run: Run, csv: Path) -> None:
    sandbox.faults.add("job_error", obs_id=OTHER, text="the tape broke")
    done = run("--csv", csv, "--json", "-q")
    check_events(done)
    (error,) = done.told("error")
    assert done.status == 4 and error["obs_id"] == OTHER and error["line"] == 3
    assert "the tape broke" in error["message"] and error["remedy"]
    assert done.events[-1]["failed"] == 1 and done.events[-1]["exit_status"] == 4


def test_events_of_submitting_alone(run: Run, csv: Path) -> None:
    done = run("--csv", csv, "--json", "-s")
    check_events(done)
    assert {event["event"] for event in done.events} - {"state"} == {"submitted", "summary"}
    assert done.events[-1]["submitted"] == 3 and done.events[-1]["complete"] == 0


def test_events_while_the_service_is_away(sandbox: Sandbox, run: Run) -> None:
    sandbox.faults.add("fail_call", path="/api/v2/get_jobs", times=1)
    done = run("-j", ONE_ROW, "--json")
    check_events(done)
    assert done.status == 0 and "Trying again" in done.err and "answers again" in done.err


WIRE = {
    "2018": [
        ("/api/conversion_job", {"obs_id": "1191828584", "timeres": "20", "freqres": "20", "edgewidth": "80",
                                 "conversion": "ms", "allowmissing": "true", "flagdcchannels": "true"}),
        ("/api/download_vis_job", {"obs_id": "1191828584", "download_type": "vis"}),
        ("/api/download_vis_job", {"obs_id": "1191828528", "download_type": "vis_meta"}),
    ],
    "v1": [
        ("/api/conversion_job", {"obs_id": "1191828584", "avg_time_res": "20", "avg_freq_res": "20",
                                 "flag_edge_width": "80", "output": "ms", "no_flag_dc": "false",
                                 "centre": "phase", "delivery": "acacia", "allow_resubmit": "false"}),
        ("/api/download_vis_job", {"obs_id": "1191828584", "download_type": "vis", "delivery": "acacia",
                                   "allow_resubmit": "false"}),
        ("/api/download_vis_job", {"obs_id": "1191828528", "download_type": "vis_meta", "delivery": "acacia",
                                   "allow_resubmit": "false"}),
    ],
    "v2": [
        ("/api/v2/conversion_job", {"obs_id": 1191828584, "avg_time_res": 20.0, "avg_freq_res": 20.0,
                                    "flag_edge_width": 80.0, "output": "ms", "no_flag_dc": False,
                                    "centre": "phase", "delivery": "acacia", "allow_resubmit": False}),
        ("/api/v2/download_vis_job", {"obs_id": 1191828584, "download_type": "vis", "delivery": "acacia",
                                      "allow_resubmit": False}),
        ("/api/v2/download_vis_job", {"obs_id": 1191828528, "download_type": "meta", "delivery": "acacia",
                                      "allow_resubmit": False}),
    ],
}  # fmt: skip
"""What each row of the example becomes on each interface."""

EXAMPLE = Path(__file__).parents[2] / "examples" / "jobs.csv"


@pytest.mark.parametrize("api", WIRE)
def test_a_check_shows_the_request_of_each_row(sandbox: Sandbox, run: Run, api: str) -> None:
    done = run("--csv", EXAMPLE, "--check", "-v", "--json", "--api", api)
    (checked,) = done.events
    assert [(entry["line"], entry["method"]) for entry in checked["requests"]] == [
        (line, "POST") for line in (5, 8, 11)
    ]
    shown = [(entry["path"], entry["body"]) for entry in checked["requests"]]
    assert json.dumps(shown, sort_keys=True) == json.dumps(WIRE[api], sort_keys=True), "1 is not true"
    text = run("--csv", EXAMPLE, "--check", "-v", "--api", api).out.splitlines()
    assert f"The requests to the {api} interface:" in text and text[-1] == "Nothing was sent."
    lines = [line for line in text if line.startswith(f"{EXAMPLE}:")][1:]
    for line, number, (path, body) in zip(lines, (5, 8, 11), shown):
        sent = json.dumps(body) if api == "v2" else urlencode(body)
        assert line == f"{EXAMPLE}:{number}: POST {path} {sent}"
    assert len(lines) == 3 and sandbox.requests == []


@pytest.mark.parametrize("api", WIRE)
def test_what_a_check_shows_is_what_is_sent(
    sandbox: Sandbox, run: Run, data: Path, tmp_path: Path, api: str
) -> None:
    rows = EXAMPLE.read_text()
    if api != "2018":
        rows += "obs_id=1191828584, job_type=v, offset=0, duration=8, from_channel=9, to_channel=11\n"
        rows += "obs_id=1191828584, job_type=b\nobs_id=1191828584, job_type=i, delivery=scratch\n"
    csv = tmp_path / "every.csv"
    csv.write_text(rows)
    (checked,) = run("--csv", csv, "--check", "-v", "--json", "--api", api, "-ar").events
    assert run("--csv", csv, "-s", "--api", api, "-ar").status == 0
    sent = [request for request in sandbox.requests if request.path.endswith("_job")]
    for entry in checked["requests"]:
        same = [request for request in sent if request.path == entry["path"]]
        bodies = [request.json if api == "v2" else request.form for request in same]
        assert entry["body"] in bodies


def test_a_check_shows_the_command_for_the_first_row(sandbox: Sandbox, run: Run, csv: Path) -> None:
    """What is known only when there is a job and a product stays as it is."""
    arguments = ("--csv", csv, "--check", "--then", "./calibrate.sh {path} {obs_id} {line} {job_id}")
    then = "./calibrate.sh {path} 1191828584 1 {job_id}"
    assert run(*arguments).out.splitlines()[-2:] == [f"Then, for the first row: {then}", "Nothing was sent."]
    assert run(*arguments, "--json").events[0]["then"] == then and sandbox.requests == []
    doubt = "./calibrate.sh, which --then is to run, is no file that may be executed"
    assert doubt in run(*arguments, "--json").events[0]["warnings"][0]
    refused = run(*arguments[:-1], "./calibrate.sh {path} &")
    assert refused.status == 1 and "Leave out the &" in refused.err


def test_a_check_of_rows_is_told_by_their_numbers(run: Run) -> None:
    rows = [f"obs_id={number}, job_type=d, download_type=vis" for number in (1191828584, 1191828528)]
    done = run("-j", rows[0], "-j", rows[1], "--check", "-v", "--api", "v1")
    assert "row:2: POST /api/download_vis_job obs_id=1191828528&download_type=vis&" in done.out


def test_a_check_as_json(sandbox: Sandbox, run: Run, csv: Path) -> None:
    done = run("--csv", csv, "--check", "--json")
    assert done.status == 0 and done.events == [{"event": "checked", "jobs": 3, "warnings": []}]
    assert sandbox.requests == []


def test_a_refused_login_is_an_event_and_a_message(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MWA_ASVO_API_KEY", "wrong-key")
    done = run("-j", ONE_ROW, "--json")
    check_events(done)
    (error, summary) = done.events
    assert done.status == summary["exit_status"] == 2 and "MWA_ASVO_API_KEY" in done.err
    assert (error["line"], error["job_id"]) == (None, None) and "MWA_ASVO_API_KEY" in error["remedy"]
    assert (summary["complete"], summary["failed"], summary["pending"]) == (0, 0, 1)


# --- What is shown -----------------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_requests_are_shown_and_no_secret(sandbox: Sandbox, csv: Path, tmp_path: Path, api: str) -> None:
    account = {"ASVO_HOST": sandbox.url, "ASVO_USER": "practice", "ASVO_PASS": "practice"}
    arguments = ["--csv", csv, "--dir", tmp_path / "data", "--api", api, "--poll=0.05", "-v"]
    done = run_command(*map(str, arguments), env=todays(sandbox, tmp_path, **account))
    assert done.returncode == 0
    paths = {entry.path for entry in sandbox.requests if not entry.store}
    assert paths and all(path in done.stderr for path in paths)
    for line in done.stderr.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", line), line
    said = done.stdout + done.stderr
    secrets = list(SECRETS)
    for file in (tmp_path / "home").rglob("tokens*.json"):
        kept = json.loads(file.read_text())
        if isinstance(kept, dict):
            secrets += [kept["access_token"], kept["refresh_token"]]
    assert len(secrets) - len(SECRETS) == (2 if api == "v2" else 0)
    assert not [secret for secret in secrets if secret in said]
    assert "3 complete" in done.stdout.splitlines()[-1]


def test_quiet(sandbox: Sandbox, run: Run, csv: Path) -> None:
    sandbox.faults.add("job_error", obs_id=OTHER, text="the tape broke")
    done = run("--csv", csv, "-q")
    assert (
        done.status == 4 and len(done.out.splitlines()) == 1 and done.out.startswith("2 complete, 1 failed")
    )
    assert "the tape broke" in done.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-s", "-l"], "--submit-only and --list-only"),
        (["-l", "-w", "all"], "--list-only and --download-only"),
        (["--cancel", "3", "-w", "3"], "--download-only and --cancel"),
        (["--check", "-s", "-c", "jobs.csv"], "--check and --submit-only"),
        (["-c", "jobs.csv", "-j", ONE_ROW], "--csv and --job"),
        (["-j", ONE_ROW, "-w", "all"], "--download-only takes no job file"),
        (["-c", "jobs.csv", "--cancel", "3"], "--cancel takes no job file"),
        (["-c", "jobs.csv", "--api", "v3"], "--api=v3"),
        (["-c", "jobs.csv", "-e", ""], "--error-file is empty"),
    ],
)
def test_options_that_contradict_each_other(
    sandbox: Sandbox, run: Run, csv: Path, options: list[str], says: str
) -> None:
    done = run(*options)
    assert done.status == 1 and says in done.err and done.out == "" and sandbox.requests == []


@pytest.mark.parametrize("api", TODAYS)
def test_allow_resubmit(sandbox: Sandbox, run: Run, csv: Path, tmp_path: Path, api: str) -> None:
    assert run("--csv", csv, "-s", "--api", api).status == 0
    fresh = ["--csv", str(csv), "--dir", str(tmp_path / "fresh"), "--api", api, "--poll=0.05", "-ar"]
    assert cli.main(fresh) == 0 and len(sandbox.jobs) == 6
    assert cli.main(fresh) == 0 and len(sandbox.jobs) == 6, "what is complete is not made again"


def test_allow_resubmit_of_what_failed(sandbox: Sandbox, run: Run) -> None:
    fault = sandbox.faults.add("job_error")
    assert run("-j", ONE_ROW).status == 4
    sandbox.faults.remove(fault)
    assert run("-j", ONE_ROW).status == 4 and len(sandbox.jobs) == 1
    assert run("-j", ONE_ROW, "--allow-resubmit").status == 0 and len(sandbox.jobs) == 2


# --- Which interface ---------------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_an_interface_by_name(sandbox: Sandbox, run: Run, csv: Path, data: Path, api: str) -> None:
    done = run("--csv", csv, "--api", api)
    assert done.status == 0 and len(products(data)) == 3
    assert {job.made_by.value for job in sandbox.jobs} == {api}


def test_a_key_finds_v2(sandbox: Sandbox, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("-j", ONE_ROW).status == 0
    assert [job.made_by.value for job in sandbox.jobs] == ["v2"]


def test_a_key_finds_v1_where_there_is_no_v2(run: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(seconds_per_state=0, apis=["v1"], product_size=lambda job: 1000) as old:
        monkeypatch.setenv("MWA_ASVO_HOST", old.url)
        assert run("-j", ONE_ROW).status == 0
        assert [job.made_by.value for job in old.jobs] == ["v1"]
        assert brought(old, data) == {old.jobs[0].id}


def test_an_account_finds_2018(sandbox: Sandbox, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MWA_ASVO_API_KEY")
    assert run("-j", ONE_ROW).status == 0
    assert [job.made_by.value for job in sandbox.jobs] == ["2018"]


@pytest.mark.parametrize("options", [[], ["--api", "v2"], ["--api", "v1"]])
def test_a_row_of_2018_that_today_cannot_do(sandbox: Sandbox, run: Run, options: list[str]) -> None:
    bad = f"obs_id={OBS}, job_type=c, timeres=20, freqres=20, edgewidth=900, conversion=ms"
    done = run("-j", ONE_ROW, "-j", bad, *options)
    assert done.status == 3 and "row:2: edgewidth=900" in done.err and sandbox.requests == []
    assert run("-j", bad, "--api", "2018").status == 0


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (f"obs_id={OBS}, job_type=c, timeres=40, freqres=20, edgewidth=80, conversion=ms", "timeres=40"),
        (f"obs_id={OBS}, job_type=b, mode=MWAX_BEAMFORMER", "mode=MWAX_BEAMFORMER"),
    ],
)
def test_what_v1_cannot_do_is_found_after_the_login(
    run: Run, monkeypatch: pytest.MonkeyPatch, bad: str, says: str
) -> None:
    with Sandbox(seconds_per_state=0, apis=["v1"]) as old:
        monkeypatch.setenv("MWA_ASVO_HOST", old.url)
        done = run("-j", ONE_ROW, "-j", bad)
        assert old.logins == 1 and old.jobs == []
    assert done.status == 3 and f"row:2: {says}" in done.err and "v1 interface" in done.err


@pytest.mark.parametrize("has_key", [True, False])
def test_practising_is_todays_unless_told_otherwise(
    sandbox: Sandbox, run: Run, data: Path, monkeypatch: pytest.MonkeyPatch, has_key: bool
) -> None:
    if not has_key:  # What is left is an account of 2018, which means nothing to the practice service.
        monkeypatch.delenv("MWA_ASVO_API_KEY")
    done = run("--sandbox", "-j", ONE_ROW.replace("=vis", "=vis_meta"), "-s")
    (job,) = json.loads((data / ".mwa_client" / "sandbox.json").read_text())["jobs"]
    assert done.status == 0 and job["made_by"] == "v2"
    assert run("--sandbox", "-j", ONE_ROW.replace("=vis", "=vis_meta"), "--api", "v1", "-s").status == 0
    assert run("--sandbox", "-j", SCRATCH_ROW, "--check").status == 0
    assert run("--sandbox", "-j", SCRATCH_ROW, "--api", "2018").status == 3
    assert sandbox.requests == []


@pytest.mark.parametrize("options", [[], ["--api", "2018"], ["--api", "v1"], ["--api", "v2"]])
def test_practising_with_the_rows_of_2018(run: Run, data: Path, options: list[str]) -> None:
    example = Path(__file__).parents[2] / "examples" / "jobs.csv"
    done = run("--sandbox", "--csv", example, "-s", *options)
    jobs = json.loads((data / ".mwa_client" / "sandbox.json").read_text())["jobs"]
    assert done.status == 0 and len(jobs) == 3
    assert {job["made_by"] for job in jobs} == {options[-1] if options else "v2"}


@pytest.mark.parametrize(
    ("account", "options", "judged_by"),
    [
        ([], [], "v2"),
        ([], ["--sandbox"], "v2"),
        ([], ["--api", "2018"], "2018"),
        (["ASVO_USER", "ASVO_PASS"], [], "2018"),
        (["ASVO_USER", "ASVO_PASS"], ["--sandbox"], "v2"),
        (["ASVO_USER", "ASVO_PASS"], ["--api", "v1"], "v1"),
        (["ASVO_USER", "ASVO_PASS", "MWA_ASVO_API_KEY"], [], "v2"),
    ],
)
def test_which_interface_a_check_judges_by(
    run: Run, monkeypatch: pytest.MonkeyPatch, account: list[str], options: list[str], judged_by: str
) -> None:
    for name in ("ASVO_USER", "ASVO_PASS", "MWA_ASVO_API_KEY"):
        if name not in account:
            monkeypatch.delenv(name)
    done = run("-j", ONE_ROW, "--check", "-v", *options)
    assert f"The requests to the {judged_by} interface:" in done.out


def test_a_check_says_what_the_likeliest_interface_would_refuse(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MWA_ASVO_API_KEY", raising=False)
    done = run("-j", f"obs_id={OBS}, job_type=c", "--check", "--json")
    (event,) = done.events
    (warning,) = event["warnings"]
    assert done.status == 0 and warning in done.err
    assert "the 2018 interface" in warning and "row:1: timeres: missing" in warning


# --- Deliveries --------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", TODAYS)
def test_a_delivery_that_this_host_can_see(
    sandbox: Sandbox, run: Run, data: Path, tmp_path: Path, api: str
) -> None:
    done = run("-j", SCRATCH_ROW, "--api", api, "--json")
    (job,) = sandbox.jobs
    source = tmp_path / "scratch" / str(job.id)
    target = data / f"{OBS}_{job.id}"
    check_events(done)
    assert done.status == 0 and contents(target) == contents(source) and len(contents(source)) == 3
    assert products(data) == {target.name} and fetched(sandbox) == []
    assert {event["path"] for event in done.told("complete")} == {
        str(target / name) for name in contents(source)
    }
    assert all(event["here"] and event["obs_id"] == OBS for event in done.told("complete"))
    assert all(event["obs_id"] == OBS and event["line"] == 1 for event in done.told("downloading"))
    asked = len(sandbox.requests)
    again = run("-j", SCRATCH_ROW, "--api", api)
    assert again.status == 0 and "from an earlier run" in again.out and len(sandbox.requests) == asked


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("delivery", ["scratch", "dug"])
@pytest.mark.parametrize("api", TODAYS)
def test_a_delivery_that_this_host_cannot_see(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch, api: str, delivery: str
) -> None:
    with Sandbox(seconds_per_state=0) as far:
        monkeypatch.setenv("MWA_ASVO_HOST", far.url)
        row = f"{ONE_ROW}, delivery={delivery}"
        done = run("-j", row, "--api", api, "--json")
        check_events(done)
        (complete,) = done.told("complete")
        assert done.status == 0 and complete["here"] is False and complete["size"] is None
        assert complete["path"].endswith(f"/practice/asvo/{far.jobs[0].id}")
        assert done.events[-1]["elsewhere"] == 1 and done.events[-1]["complete"] == 1
        asked = len(far.requests)
        again = run("-j", row, "--api", api)
        assert again.status == 0 and len(far.requests) == asked
        assert f"{complete['path']} (delivered there" in again.out
        assert "1 of them delivered elsewhere" in again.out.splitlines()[-1]
    assert products(data) == set()


KILLED = """
import os, signal, sys
from mwa_client.transfer.file_copy import FileCopy
write = FileCopy.write
def write_some(copy, data):
    write(copy, data)
    if copy.position > 1_000_000:
        os.kill(os.getpid(), signal.SIGKILL)
FileCopy.write = write_some
from mwa_client.cli.main import main
sys.exit(main())
"""
"""The client, which is killed when it has copied a megabyte of a file."""


def test_killed_in_the_middle_of_copying_and_run_again(tmp_path: Path, data: Path) -> None:
    size = 10_000_000
    with Sandbox(
        seconds_per_state=0, product_size=lambda job: size, scratch_folder=tmp_path / "scratch"
    ) as sandbox:
        words, env = ("-j", SCRATCH_ROW, f"--dir={data}", "--poll=0.05"), todays(sandbox, tmp_path)
        memory = data / ".mwa_client"

        def copied() -> int:
            return sum(path.stat().st_size for path in memory.rglob("*data_1*") if path.suffix != ".json")

        killed = run_forked([sys.executable, "-c", KILLED, *words], env)
        assert killed.returncode == -9 and products(data) == set() and copied() > 0
        done = run_command(*words, env=env)
        (job,) = sandbox.jobs
        target, source = data / f"{OBS}_{job.id}", tmp_path / "scratch" / str(job.id)
        assert done.returncode == 0 and contents(target) == contents(source)
        assert not list(memory.rglob("*.part")) and not list(memory.rglob("*.copied"))


def test_a_delivery_that_is_gone(sandbox: Sandbox, run: Run, tmp_path: Path, data: Path) -> None:
    assert run("-j", SCRATCH_ROW, "-s").status == 0
    (job,) = sandbox.jobs
    run("-l")  # The sandbox delivers when it is asked for the first time.
    source = tmp_path / "scratch" / str(job.id)
    for path in source.rglob("*.dat"):
        path.unlink()
    done = run("-j", SCRATCH_ROW, "-j", ONE_ROW)
    assert done.status == 4 and "contains no files" in done.err
    assert brought(sandbox, data) == {job.id for job in sandbox.jobs[1:]}
