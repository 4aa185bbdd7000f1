"""What is the user's stays the user's: nothing that we did not make is replaced or paid for twice."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared import FastClock, Run, environment, longest_file, run_batch, run_command

from mwa_client.asvo.job import Job, ProductFile
from mwa_client.asvo.job import JobState as State
from mwa_client.asvo.variables import services_from
from mwa_client.batch.events import Complete, Counts, Notice
from mwa_client.batch.ledger import Ledger
from mwa_client.batch.pacing import Pacing
from mwa_client.batch.products import bytes_to_come, name_files
from mwa_client.batch.status import status_of
from mwa_client.cli.error_file import write_errors
from mwa_client.errors import ExitStatus, JobFailed, SettingsError, Stopped
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import JobState, JobType, Sandbox
from mwa_client.transfer import names, standing
from mwa_client.transfer.delivered import DeliveryRoots, roots_from
from mwa_client.transfer.events import FileNotice
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile, FetchedFile, FinalNames
from mwa_client.transfer.standing import Standing, standing_of

OBS = 1191828528
VIS = f"obs_id={OBS}, job_type=d, download_type=vis"
SCRATCH = f"{VIS}, delivery=scratch"
TODAYS = [ApiVersion.V1, ApiVersion.V2]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.fixture
def sandbox(clock: FastClock, scratch: Path) -> Iterator[Sandbox]:
    with Sandbox(clock=clock.now, product_size=lambda job: 30_000, scratch_folder=scratch) as sandbox:
        yield sandbox


@pytest.fixture
def run(sandbox: Sandbox, clock: FastClock, data: Path, scratch: Path) -> Any:
    def run(text: str = VIS, **options: Any) -> Run:
        return run_batch(sandbox, data, clock, text, roots=DeliveryRoots((scratch,)), **options)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".mwa_client" not in path.parts
    }


def files_read_again(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the list in which each file is noted from now on that is read again."""
    real, read = standing.sha1_of, list[Path]()

    def sha1_of(path: Path, stop: threading.Event) -> str:
        read.append(path)
        return real(path, stop)

    monkeypatch.setattr(standing, "sha1_of", sha1_of)
    return read


def product_of(sandbox: Sandbox, number: int = -1) -> bytes:
    return b"".join(sandbox.jobs[number].content.pieces())


# --- What the user has done to a product ----------------------------------------------------------------


@pytest.mark.parametrize("api", TODAYS)
@pytest.mark.parametrize("work", ["a file grows", "a file is added and one edited", "a file is removed"])
def test_work_in_a_delivered_folder_is_kept(
    run: Any, sandbox: Sandbox, data: Path, api: ApiVersion, work: str
) -> None:
    run(SCRATCH, api=api)
    (folder,) = [path for path in data.iterdir() if path.is_dir() and path.name != ".mwa_client"]
    (first, *_) = sorted(path for path in folder.rglob("*.dat"))
    if work == "a file is removed":
        first.unlink()
    else:
        first.write_bytes(first.read_bytes() + b"calibrated")
    if work == "a file is added and one edited":
        (folder / "notes.txt").write_text("a week of work")
    mine = contents(data)
    sandbox.reset_log()
    again = run(SCRATCH, api=api)
    assert again.summary.exit_status is ExitStatus.COMPLETE and contents(data) == mine
    assert again.summary.complete[0].is_changed and again.summary.changed == 1
    assert len(sandbox.jobs) == 1 and sandbox.requests == []


@pytest.mark.parametrize("api", ApiVersion)
@pytest.mark.parametrize(
    "work", ["appended", "shortened", "edited at its size", "made a link", "made a folder"]
)
def test_a_product_that_was_changed_is_kept_and_not_fetched_again(
    run: Any, sandbox: Sandbox, data: Path, tmp_path: Path, api: ApiVersion, work: str
) -> None:
    (file,) = run(api=api).summary.complete[0].files
    path, sums = file.path, (data / "SHA1SUMS").read_bytes()
    if work == "appended":
        path.write_bytes(path.read_bytes() + b"x")
    elif work == "shortened":
        path.write_bytes(path.read_bytes()[:-1])
    elif work == "edited at its size":
        path.write_bytes(bytes(30_000))
    elif work == "made a link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.unlink()
        path.mkdir()
    sandbox.reset_log()
    again = run(api=api)
    assert again.summary.exit_status is ExitStatus.COMPLETE and again.summary.complete[0].is_changed
    assert sandbox.requests == [] and (data / "SHA1SUMS").read_bytes() == sums
    sandbox.service.expire(sandbox.jobs[0].id)
    assert run(api=api).summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 1


@pytest.mark.parametrize("is_edited", [False, True])
def test_a_product_that_was_modified_is_read_again_once(
    run: Any, sandbox: Sandbox, data: Path, monkeypatch: pytest.MonkeyPatch, is_edited: bool
) -> None:
    (file,) = run().summary.complete[0].files
    content, read = file.path.read_bytes(), files_read_again(monkeypatch)
    file.path.write_bytes(content[::-1] if is_edited else content)
    sandbox.reset_log()
    assert run(only_submit=True).summary.exit_status is ExitStatus.COMPLETE and read == []
    for is_first in (True, False):
        again = run()
        assert any("Reading again" in dict(counts.states) for counts in again.told(Counts)) is is_first
        (complete,) = again.summary.complete
        assert complete.from_before and complete.is_changed is is_edited and read == [file.path]
        expected = Standing.CHANGED if is_edited else Standing.AS_LEFT
        assert standing_of(data, complete.files) is expected
        (row,) = status_of(data, data / ".mwa_client", 0.0).rows
        assert row.is_complete and bool(row.note) is is_edited
    file.path.write_bytes(content)  # Somebody has put it right again.
    assert not run().summary.complete[0].is_changed and len(read) == 2
    assert sandbox.requests == []


def test_what_time_does_not_allow_to_read_again_is_said_and_not_read_twice(
    run: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(run(SCRATCH, api=ApiVersion.V2).summary.complete[0].files, key=lambda file: file.size)
    for file in files:
        os.utime(file.path, (1, 1))
    real, read = standing.sha1_of, list[Path]()

    def sha1_of(path: Path, stop: threading.Event) -> str:
        if len(read) == 2:
            stop.wait(10.0)
            raise Stopped("The work was told to stop.")
        read.append(path)
        return real(path, stop)

    with monkeypatch.context() as patch:
        patch.setattr(standing, "sha1_of", sha1_of)
        cut = run(SCRATCH, api=ApiVersion.V2, pacing=Pacing(give_up_after=60.0)).summary
    assert cut.exit_status is ExitStatus.TRY_AGAIN and len(cut.pending) == 1
    assert "A product that was modified has to be read again, which takes longer" in cut.why_pending
    again = files_read_again(monkeypatch)
    assert run(SCRATCH, api=ApiVersion.V2).summary.exit_status is ExitStatus.COMPLETE
    assert again == [file.path for file in files[2:]] and len(again) > 0


def test_no_download_waits_for_what_is_read_again(
    run: Any, sandbox: Sandbox, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"obs_id={OBS + 8 * number}, job_type=d, download_type=vis" for number in range(6)]
    for complete in run("\n".join(rows[:5])).summary.complete:
        os.utime(complete.files[0].path, (1, 1))
    real, has_come = standing.sha1_of, threading.Event()

    def sha1_of(path: Path, stop: threading.Event) -> str:
        has_come.wait(10.0)
        return real(path, stop)

    def listen(event: object) -> None:
        if isinstance(event, Complete) and not event.from_before:
            has_come.set()

    monkeypatch.setattr(standing, "sha1_of", sha1_of)
    done = run("\n".join(rows), listen=listen)
    assert len(done.summary.complete) == 6 and not done.summary.changed
    assert [complete.from_before for complete in done.told(Complete)] == [False] + 5 * [True]


def test_of_a_folder_in_which_somebody_works_no_more_is_read_than_must_be(
    run: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(run(SCRATCH, api=ApiVersion.V2).summary.complete[0].files, key=lambda file: file.size)
    read, ledger = files_read_again(monkeypatch), data / ".mwa_client" / "ledger.jsonl"
    for file in files:
        file.path.write_bytes(file.path.read_bytes()[::-1])
    assert run(SCRATCH, api=ApiVersion.V2).summary.changed == 1 and len(files) > 1
    size = ledger.stat().st_size
    os.utime(files[0].path, (1, 1))
    assert run(SCRATCH, api=ApiVersion.V2).summary.changed == 1 and ledger.stat().st_size == size
    assert read == [files[0].path]


def test_allow_resubmit_fetches_what_was_changed_and_keeps_the_users(
    run: Any, sandbox: Sandbox, data: Path
) -> None:
    (file,) = run().summary.complete[0].files
    file.path.write_bytes(b"mine")
    again = run(f"{VIS}, allow_resubmit=true", api=ApiVersion.V1)
    assert again.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 1
    (new,) = again.summary.complete[0].files
    assert new.path != file.path and new.path.read_bytes() == product_of(sandbox)
    assert file.path.read_bytes() == b"mine"
    assert not run(f"{VIS}, allow_resubmit=true", api=ApiVersion.V1).summary.changed


# --- What has the name already ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["jobs.csv", "thesis", "errors.json", "a.tar", f"{OBS}.txt"])
@pytest.mark.parametrize("what", ["file", "empty file", "folder", "link", "broken link", "pipe"])
def test_what_the_user_has_there_is_not_replaced(
    run: Any, sandbox: Sandbox, data: Path, tmp_path: Path, name: str, what: str
) -> None:
    mine, private = data / name, tmp_path / "private"
    private.write_bytes(b"private")
    if what == "folder":
        mine.mkdir()
        (mine / "chapter1").write_bytes(b"three years of work")
    elif what == "pipe":
        os.mkfifo(mine)
    elif "link" in what:
        mine.symlink_to(private if what == "link" else tmp_path / "nowhere")
    else:
        mine.write_bytes(b"" if what == "empty file" else b"three years of work")
    before = mine.lstat()
    sandbox.faults.add("hostile_name", name=name)
    done = run()
    (file,) = done.summary.complete[0].files
    assert done.summary.exit_status is ExitStatus.COMPLETE
    assert file.path == data / f"{sandbox.jobs[0].id}_{name}"
    assert file.path.read_bytes() == product_of(sandbox)
    assert mine.lstat().st_ino == before.st_ino and private.read_bytes() == b"private"
    assert mine.lstat().st_mtime_ns == before.st_mtime_ns
    assert not (tmp_path / "nowhere").exists()
    (remark,) = done.told(FileNotice)
    assert str(mine) in remark.text and file.path.name in remark.text
    assert run().summary.complete[0].from_before


@pytest.mark.parametrize("api", TODAYS)
def test_a_delivery_does_not_replace_a_folder(
    run: Any, sandbox: Sandbox, data: Path, scratch: Path, api: ApiVersion
) -> None:
    asked = {"obs_id": str(OBS), "delivery": "scratch", "delivery_format": "tar", "download_type": "vis"}
    job = sandbox.service.add(asked, JobType.VISIBILITIES, state=JobState.READY)
    (data / f"{OBS}_{job.id}").mkdir()
    (data / f"{OBS}_{job.id}" / "thesis.tex").write_text("mine")
    run(SCRATCH, api=api)
    assert contents(data)[f"{OBS}_{job.id}/thesis.tex"] == b"mine"
    copied = data / f"{job.id}_{OBS}_{job.id}"
    assert contents(copied) == contents(scratch / str(job.id))


def test_what_comes_to_stand_there_during_the_download_is_not_replaced(
    run: Any, sandbox: Sandbox, data: Path
) -> None:
    sandbox.faults.add("hostile_name", name="a.zip")
    mine = data / "a.zip"

    def interfere(event: object) -> None:
        if type(event).__name__ == "Downloading":
            mine.write_bytes(b"came later")

    done = run(listen=interfere)
    (file,) = done.summary.complete[0].files
    assert mine.read_bytes() == b"came later" and file.path.read_bytes() == product_of(sandbox)
    assert file.path != mine and done.summary.exit_status is ExitStatus.COMPLETE


@pytest.mark.parametrize("has_hard_links", [True, False])
def test_our_own_product_of_a_lost_job_is_replaced(
    run: Any, sandbox: Sandbox, data: Path, monkeypatch: pytest.MonkeyPatch, has_hard_links: bool
) -> None:
    if not has_hard_links:
        monkeypatch.setattr(os, "link", _no_hard_links)
    run()
    ledger = data / ".mwa_client" / "ledger.jsonl"
    (row,) = {json.loads(line)["row"] for line in ledger.read_text().splitlines() if '"intent"' in line}
    forgotten = {"event": "job", "service": "practice.example", "row": row, "job_id": None}
    with ledger.open("a") as file:
        file.write(json.dumps(forgotten) + "\n")
    sandbox.service.expire(sandbox.jobs[0].id)
    done = run()
    (file,) = done.summary.complete[0].files
    assert len(sandbox.jobs) == 2 and [path.name for path in data.glob("*.zip")] == [f"{OBS}_vis.zip"]
    assert file.path.read_bytes() == product_of(sandbox)
    assert (data / "SHA1SUMS").read_text() == f"{sandbox.jobs[1].content.sha1}  {OBS}_vis.zip\n"


def _no_hard_links(*names: object, **options: object) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("size", ["smaller", "of the same size", "larger"])
@pytest.mark.parametrize("api", ApiVersion)
def test_what_another_client_left_half_fetched_is_moved_aside(
    run: Any, sandbox: Sandbox, data: Path, api: ApiVersion, size: str
) -> None:
    name = f"{OBS}_half.tar"
    half = bytes({"smaller": 10_000, "of the same size": 30_000, "larger": 30_001}[size])
    (data / name).write_bytes(half)
    sandbox.faults.add("hostile_name", name=name)
    done = run(api=api)
    assert (data / name).read_bytes() == product_of(sandbox) and (data / f"{name}.old").read_bytes() == half
    assert f"{name}.old" in done.told(FileNotice)[0].text and done.summary.exit_status is ExitStatus.COMPLETE


def test_a_name_once_given_is_kept(tmp_path: Path) -> None:
    names = FinalNames("service")
    assert names.claim("a.tar", 7) == "a.tar"
    assert names.claim_another("a.tar", 7) == "7_a.tar" == names.claim("a.tar", 7)
    assert names.claim_another("7_a.tar", 7) == "7_2_a.tar"


# --- Moved away since -------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ApiVersion)
@pytest.mark.parametrize("once", [True, False])
def test_a_product_that_was_complete_is_not_paid_for_twice(
    run: Any, sandbox: Sandbox, data: Path, api: ApiVersion, once: bool
) -> None:
    run(api=api)
    for path in data.glob(f"*{OBS}*"):
        path.unlink()
    sandbox.service.expire(sandbox.jobs[0].id)
    done = run(api=api, once=once)
    assert done.summary.exit_status is ExitStatus.JOBS_FAILED and len(sandbox.jobs) == 1
    (failure,) = done.summary.failed
    assert "was complete on 2027-01-15" in failure.error.what and "--allow-resubmit" in failure.error.remedy
    anew = run(f"{VIS}, allow_resubmit=true", api=ApiVersion.V1 if api is ApiVersion.V2018 else api)
    assert anew.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 2


@pytest.mark.parametrize("api", ApiVersion)
def test_while_the_service_has_it_a_removed_product_is_fetched_again(
    run: Any, sandbox: Sandbox, data: Path, api: ApiVersion
) -> None:
    run(api=api)
    (path,) = data.glob(f"*{OBS}*")
    path.unlink()
    done = run(api=api)
    assert done.summary.exit_status is ExitStatus.COMPLETE and path.read_bytes() == product_of(sandbox)
    assert any(f"{path.name} was complete on" in notice.text for notice in done.told(Notice))
    assert len(sandbox.jobs) == 1


def test_submitting_alone_does_not_mind_what_was_moved_away(run: Any, sandbox: Sandbox, data: Path) -> None:
    run()
    (data / f"{OBS}_vis.zip").unlink()
    done = run(only_submit=True)
    assert done.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 1
    assert not list(data.glob("*.zip"))


# --- The service does not choose local paths ----------------------------------------------------------------


@pytest.mark.parametrize("api", TODAYS)
@pytest.mark.parametrize("asks", [VIS, SCRATCH])
@pytest.mark.parametrize(
    "path",
    ["{home}/.ssh/id_rsa", "x", "../x", "/", "{data}", "{data}/thesis", "{above}", "{scratch}", "{link}"],
)
def test_a_path_that_nobody_asked_for_is_not_copied(
    run: Any,
    sandbox: Sandbox,
    data: Path,
    tmp_path: Path,
    scratch: Path,
    api: ApiVersion,
    asks: str,
    path: str,
) -> None:
    key = tmp_path / "home" / ".ssh" / "id_rsa"
    key.parent.mkdir(parents=True)
    key.write_bytes(b"private")
    (data / "thesis").mkdir()
    (data / "thesis" / "tex").write_bytes(b"mine")
    scratch.mkdir(exist_ok=True)
    (scratch / "link").symlink_to(key.parent)
    places = {"home": tmp_path / "home", "data": data, "above": tmp_path, "scratch": scratch}
    places["link"] = scratch / "link"
    sandbox.faults.add("other_path", at=path.format(**places), size=7)
    before = contents(data)
    done = run(asks, api=api)
    assert done.summary.exit_status is ExitStatus.JOBS_FAILED and contents(data) == before
    assert "says that the product is at" in done.summary.failed[0].error.what


@pytest.mark.parametrize("api", TODAYS)
def test_a_delivery_is_complete_elsewhere_only_until_this_host_sees_it(
    run: Any, sandbox: Sandbox, data: Path, scratch: Path, api: ApiVersion
) -> None:
    delivery = scratch / "mwa" / "7"
    sandbox.faults.add("other_path", at=str(delivery), size=5)
    for is_first in (True, False):
        unseen = run(SCRATCH, api=api)
        assert unseen.summary.exit_status is ExitStatus.COMPLETE
        assert unseen.summary.elsewhere == (str(delivery),)
        assert unseen.summary.complete[0].from_before is not is_first
    delivery.mkdir(parents=True)
    (delivery / "file").write_bytes(b"bytes")
    seen = run(SCRATCH, api=api)
    assert seen.summary.exit_status is ExitStatus.COMPLETE and not seen.summary.elsewhere
    assert contents(data / "7") == {"file": b"bytes"}
    shutil.rmtree(scratch)
    assert run(SCRATCH, api=api).summary.complete[0].from_before


@pytest.mark.parametrize("api", TODAYS)
def test_what_was_delivered_elsewhere_stays_complete_when_its_job_expires(
    run: Any, sandbox: Sandbox, scratch: Path, api: ApiVersion
) -> None:
    sandbox.faults.add("other_path", at=str(scratch / "mwa" / "7"), size=5)
    run(SCRATCH, api=api)
    (scratch / "mwa" / "7").mkdir(parents=True)
    sandbox.service.expire(sandbox.jobs[0].id)
    done = run(SCRATCH, api=api)
    assert done.summary.exit_status in (ExitStatus.COMPLETE, ExitStatus.JOBS_FAILED)
    assert len(sandbox.jobs) == 1


@pytest.mark.parametrize("api", TODAYS)
def test_a_purged_delivery_is_not_complete(
    run: Any, sandbox: Sandbox, data: Path, scratch: Path, api: ApiVersion
) -> None:
    def purge(event: object) -> None:
        for path in scratch.rglob("data_1.dat"):
            path.write_bytes(b"5 bys")

    done = run(SCRATCH, api=api, listen=purge)
    assert done.summary.exit_status is ExitStatus.JOBS_FAILED
    assert "bytes, but the service says 30000" in done.summary.failed[0].error.what


@pytest.mark.parametrize("kind", ["purged as a whole", "a link to nowhere"])
def test_a_delivery_that_this_host_would_see_is_not_complete_elsewhere(
    run: Any, sandbox: Sandbox, data: Path, scratch: Path, kind: str
) -> None:
    sandbox.faults.add("other_path", at=str(scratch / "mwa" / "asvo" / "7"), size=5)
    (scratch / "mwa" / "asvo").mkdir(parents=True)
    if kind == "a link to nowhere":
        (scratch / "mwa" / "asvo" / "7").symlink_to(scratch / "mwa" / "nothing")
    for _ in range(2):
        done = run(SCRATCH, api=ApiVersion.V1)
        assert done.summary.exit_status is ExitStatus.JOBS_FAILED and not contents(data).keys() - {"SHA1SUMS"}
        assert "does not exist" in done.summary.failed[0].error.what


ROOTS = DeliveryRoots((Path("/scratch"), Path("/data"), Path("/mnt/R&D")), (Path("/data/home/me"),))


@pytest.mark.parametrize(
    ("path", "is_right"),
    [
        ("/scratch/mwa/asvo/7", True),
        ("/data/mwa/asvo/7", True),
        ("/scratch", False),
        ("/scratchy/7", False),
        ("/scratch/../home/me/.ssh", False),
        ("scratch/7", False),
        ("", False),
        ("/scratch/\0", False),
        ("/scratch/mwa/$(rm -rf mwa)", False),
        ("/scratch/mwa/a\nb", False),
        ("/mnt/R&D/7", True),
        ("/home/me/.ssh/id_rsa", False),
        ("/data/home/me/.ssh/id_rsa", False),
        ("/data/home", False),
        ("/data/home/me", False),
        ("/scratch/me/products", False),
        ("/scratch/me", False),
        ("/scratch/me/products/7", False),
    ],
)
def test_where_deliveries_can_be(path: str, is_right: bool) -> None:
    try:
        ROOTS.check(path, Path("/scratch/me/products"))
    except JobFailed:
        assert not is_right
    else:
        assert is_right


def test_a_root_that_is_named_counts_even_in_the_home(tmp_path: Path) -> None:
    roots = roots_from(f"{tmp_path}/home/deliveries: ", f"{tmp_path}/home")
    assert roots.roots == (Path("/scratch"), Path("/data"), tmp_path / "home" / "deliveries")
    roots.check(f"{tmp_path}/home/deliveries/7", tmp_path / "data")
    with pytest.raises(JobFailed):
        roots.check(f"{tmp_path}/home/7", tmp_path / "data")


@pytest.mark.parametrize("words", ["scratch", "/", "/scratch:../x", "/a/../b"])
def test_roots_that_are_none(words: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        roots_from(words, None)


@given(st.text(max_size=30))
def test_no_path_is_a_surprise(path: str) -> None:
    try:
        ROOTS.check(path, Path("/scratch/me"))
    except JobFailed:
        return
    assert path.startswith(("/scratch/", "/data/"))


# --- The error file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["job file", "text", "another JSON", "link", "broken link", "folder"])
def test_an_error_file_replaces_nothing_else(tmp_path: Path, sandbox: Sandbox, kind: str) -> None:
    jobs, target, errors = tmp_path / "jobs.csv", tmp_path / "private", tmp_path / "errors.json"
    jobs.write_text(VIS)
    target.write_text("[]")
    if kind == "folder":
        errors.mkdir()
    elif "link" in kind:
        errors.symlink_to(target if kind == "link" else tmp_path / "nowhere")
    elif kind == "job file":
        errors = jobs
    else:
        errors.write_text("my notes" if kind == "text" else '{"obs_id": 1}')
    before = errors.lstat()
    done = run_command(f"--csv={jobs}", "-e", errors, f"--dir={tmp_path / 'data'}", env=environment(sandbox))
    assert done.returncode == 1 and str(errors) in done.stderr and "--error-file" in done.stderr
    assert errors.lstat().st_mtime_ns == before.st_mtime_ns and jobs.read_text() == VIS
    assert target.read_text() == "[]" and not (tmp_path / "nowhere").exists() and sandbox.jobs == []


def test_an_error_file_is_written_over_an_earlier_one_and_into_pipes(tmp_path: Path) -> None:
    path = tmp_path / "errors.json"
    one: dict[str, object] = {"obs_id": 1, "job_id": None, "result": "it failed"}
    for errors in ([], [one], [], [one, one]):
        write_errors(path, errors)
        assert json.loads(path.read_text()) == errors
    path.write_text("")
    write_errors(path, [one])
    assert json.loads(path.read_text()) == [one]
    write_errors(Path("/dev/null"), [one])
    read, write = os.pipe()
    write_errors(Path(f"/dev/fd/{write}"), [one])
    assert json.loads(os.read(read, 1000)) == [one]
    os.close(read)
    os.close(write)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(SettingsError):  # Nobody reads it: that must not hang.
        write_errors(pipe, [one])


def test_a_list_of_errors_that_was_cut_off_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "errors.json"
    errors: list[dict[str, object]] = [{"obs_id": "1", "job_id": n, "result": "no " * 50} for n in range(100)]
    with longest_file(4096), pytest.raises(SettingsError, match="large"):
        write_errors(path, errors)
    assert path.read_text() == ""
    write_errors(path, errors)
    for size in (300, 4096):  # As a kill may leave it.
        os.truncate(path, size)
        write_errors(path, errors)
        assert json.loads(path.read_text()) == errors


@pytest.mark.parametrize("option", ["--error-file", "--report"])
@pytest.mark.parametrize(
    "name", ["SHA1SUMS", ".mwa_client/ledger.jsonl", ".mwa_client/x/errors", "link/lock"]
)
def test_what_a_directory_has_for_itself_is_no_file_of_an_option(
    tmp_path: Path, sandbox: Sandbox, option: str, name: str
) -> None:
    data = tmp_path / "data"
    (data / ".mwa_client").mkdir(parents=True)
    (data / "link").symlink_to(".mwa_client")
    jobs = tmp_path / "jobs.csv"
    jobs.write_text(VIS)
    words = (f"--csv={jobs}", f"{option}={data / name}", f"--dir={data}")
    done = run_command(*words, env=environment(sandbox))
    assert done.returncode == 1 and "mwa_client has a file of its own there" in done.stderr
    assert sandbox.jobs == [] and not (data / name).exists()


def test_the_errors_and_the_page_have_a_file_each(tmp_path: Path, sandbox: Sandbox) -> None:
    path = tmp_path / "one"
    words = ("--job", VIS.strip(), f"--error-file={path}", f"--report={path}", f"--dir={tmp_path / 'data'}")
    done = run_command(*words, env=environment(sandbox))
    assert done.returncode == 1 and "name the same file" in done.stderr
    assert sandbox.jobs == [] and not path.exists()


def test_a_product_is_not_overwritten_by_the_error_file(run: Any, sandbox: Sandbox, data: Path) -> None:
    sandbox.faults.add("hostile_name", name="errors.json")
    run()
    content = (data / "errors.json").read_bytes()
    with pytest.raises(SettingsError, match="not a list of errors"):
        write_errors(data / "errors.json", [])
    assert (data / "errors.json").read_bytes() == content == product_of(sandbox)


def test_a_file_is_as_it_was_left(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"bytes")
    sha1 = hashlib.sha1(b"bytes").hexdigest()
    file = FetchedFile(path, 5, sha1, True, mtime_ns=path.stat().st_mtime_ns)
    assert standing_of(tmp_path, [file]) is Standing.AS_LEFT
    os.utime(path, ns=(0, 0))
    assert standing_of(tmp_path, [file]) is Standing.TOUCHED
    path.write_bytes(b"other")
    assert standing_of(tmp_path, [file]) is Standing.TOUCHED
    path.write_bytes(b"others")
    assert standing_of(tmp_path, [file]) is Standing.CHANGED
    path.unlink()
    assert standing_of(tmp_path, [file]) is Standing.GONE


# --- More of the kinds above ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        ["a.tar", "a.tar"],
        ["a.tar", "b.tar", "4_a.tar", "a.tar"],
        ["x", "7_x"],
        ["7_x", "x"],
        ["A.tar", "a.tar"],
        ["", "", ".hidden", "-x"],
        ["2_a", "a", "a", "3_a", "a"],
    ],
)
def test_each_file_of_a_product_has_a_name_of_its_own(tmp_path: Path, given: list[str]) -> None:
    files = tuple(ProductFile(name, 1) for name in given)
    job = Job(7, State.READY, obs_id=OBS, product=files)
    named = []
    for _ in range(2):
        ledger = Ledger(tmp_path / "data", "practice.example")
        named.append([wanted.name for wanted, _ in name_files(job, ledger.place, "acacia", ROOTS)])
        ledger.close()
    assert len({name.casefold() for name in named[0]}) == len(given) and named[0] == named[1]


@given(st.lists(st.text("x7_A.", max_size=6), max_size=8))
def test_any_names_of_a_product_stay_as_many(given: list[str]) -> None:
    place = DownloadDirectory(Path("data"), Path("data/.mwa_client"))
    job = Job(7, State.READY, obs_id=OBS, product=tuple(ProductFile(name, 1) for name in given))
    for _ in range(2):
        assert len(name_files(job, place, "acacia", ROOTS)) == len(given)


@pytest.mark.parametrize("path", ["/scratch/\ud800", "/scratch/" + "a/" * 200_000, "/scratch/" + "a" * 10**6])
def test_a_path_that_no_file_has_concerns_its_row_and_costs_no_time(path: str) -> None:
    with pytest.raises(JobFailed) as caught:
        ROOTS.check(path, Path("/data/me"))
    assert len(caught.value.what) < 500 and not ROOTS.is_visible(path)


@pytest.mark.parametrize("words", ["//", "///", "/scratch://", "/.", " / "])
def test_the_root_of_all_is_no_root_however_it_is_written(words: str) -> None:
    with pytest.raises(ValueError, match="/"):
        roots_from(words, None)


def test_a_root_that_leads_to_the_root_of_all_lets_nothing_in(tmp_path: Path) -> None:
    (tmp_path / "all").symlink_to("/")
    with pytest.raises(JobFailed):
        roots_from(f"{tmp_path}/all", None).check(f"{tmp_path}/all/etc/passwd", tmp_path / "data")


@pytest.mark.parametrize("home", [None, "", "/", "/somewhere/else"])
def test_the_home_is_private_whatever_the_environment_says(home: str | None, tmp_path: Path) -> None:
    real = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    environment = {"MWA_ASVO_API_KEY": "k", "MWA_ASVO_SCRATCH_ROOTS": "/root:/home:/Users"}
    environment |= {} if home is None else {"HOME": home}
    (service, *_) = services_from(environment, ApiVersion.V1)
    with pytest.raises(JobFailed):
        service.delivery_roots.check(str(real / ".ssh" / "id_rsa"), tmp_path / "data")


def test_a_link_to_a_large_tree_is_not_walked(run: Any, sandbox: Sandbox, data: Path, tmp_path: Path) -> None:
    sandbox.faults.add("hostile_name", name="thesis")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "large").write_bytes(bytes(30_000))  # As large as the product: it must not count as that.
    (data / "thesis").symlink_to(tree)
    place = Ledger(data, "practice.example").place
    wanted = ExpectedFile(1, "thesis", 30_000, None)
    assert bytes_to_come([(wanted, ProductFile("thesis", 30_000))], place) == 30_000
    (complete,) = run().summary.complete
    assert complete.files[0].path.name.endswith("_thesis") and (data / "thesis").is_symlink()


def test_a_file_that_nobody_lets_us_read_is_not_ours(
    run: Any, sandbox: Sandbox, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = standing.sha1_of

    def refused(path: Path, stop: threading.Event) -> str:
        if path.parent == data and path.stat().st_mode & 0o777 == 0:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, stop)

    for room in (names, standing):
        monkeypatch.setattr(room, "sha1_of", refused)
    sandbox.faults.add("hostile_name", name=f"{OBS}_7_vis.tar")
    mine = data / f"{OBS}_7_vis.tar"
    mine.write_bytes(b"x" * 30_000)
    mine.chmod(0)
    (complete,) = run().summary.complete
    assert complete.files[0].path != mine and complete.files[0].path.read_bytes() == product_of(sandbox)
    mine.chmod(0o600)
    assert mine.read_bytes() == b"x" * 30_000 and not list(data.glob("*.old"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
@pytest.mark.parametrize("api", ApiVersion)
def test_another_users_right_bytes_are_not_our_product(
    run: Any, sandbox: Sandbox, data: Path, api: ApiVersion
) -> None:
    (first,) = run(api=api).summary.complete[0].files
    shutil.rmtree(data / ".mwa_client")
    os.chown(first.path, 12346, 12346)  # What its owner can change at any time is not verified.
    (again,) = run(api=api).summary.complete[0].files
    assert again.path != first.path and again.path.read_bytes() == first.path.read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
def test_another_users_file_of_our_size_and_time_is_not_as_we_left_it(run: Any, data: Path) -> None:
    (file,) = run().summary.complete[0].files
    state = file.path.stat()
    file.path.write_bytes(bytes(state.st_size))
    os.utime(file.path, ns=(state.st_atime_ns, state.st_mtime_ns))
    os.chown(file.path, 12346, 12346)
    assert standing_of(data, [file]) is Standing.CHANGED
    assert run().summary.complete[0].is_changed
