"""A batch with --unpack: folders in place of tars and zips, now or later, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from shared import FastClock, Run, failures, listed, notices, products, run_batch, true_bytes, vis
from tars import folder, member, tar_of

from mwa_client.batch.events import Complete, Downloading
from mwa_client.batch.ledger import STATE_DIR
from mwa_client.batch.status import status_of
from mwa_client.errors import ExitStatus
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Job, Sandbox
from mwa_client.sandbox.endpoints_2018 import Endpoints2018
from mwa_client.sandbox.interfaces import Interface
from mwa_client.sandbox.jobs import ListingRow
from mwa_client.sandbox.products import Content
from mwa_client.transfer.delivered import DeliveryRoots
from mwa_client.transfer.download import Downloader
from mwa_client.transfer.files import FetchedFile, FetchedFolder
from mwa_client.transfer.unpacking.members import UnpackRefused

OBS = 1191828528
SIZE = 60_000
APIS = [ApiVersion.V2018, ApiVersion.V1, ApiVersion.V2]
TODAY = ApiVersion.V2
STEMS = {ApiVersion.V2018: f"{OBS}_vis", ApiVersion.V1: f"{OBS}_10001_vis", TODAY: f"{OBS}_10001_vis"}
ENDINGS = {ApiVersion.V2018: ".zip", ApiVersion.V1: ".tar", TODAY: ".tar"}


@pytest.fixture
def clock() -> FastClock:
    return FastClock()


@pytest.fixture
def sandbox(clock: FastClock) -> Iterator[Sandbox]:
    with Sandbox(clock=clock.now, product_size=lambda job: SIZE + job.id) as sandbox:
        yield sandbox


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def packed_in(content: bytes) -> dict[str, bytes]:
    """What the library finds in an archive."""
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            return {each.filename: packed.read(each) for each in packed.infolist() if not each.is_dir()}
    with tarfile.open(fileobj=io.BytesIO(content)) as packed_tar:
        files = ((member.name, packed_tar.extractfile(member)) for member in packed_tar if member.isfile())
        return {name.removeprefix("./"): file.read() for name, file in files if file is not None}


def check_sums(data: Path) -> int:
    """Let the real program check SHA1SUMS; return how many lines are right."""
    done = subprocess.run(
        ["sha1sum", "--check", "--strict", "SHA1SUMS"], cwd=data, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.count(": OK")


def unpack(sandbox: Sandbox, data: Path, clock: FastClock, text: str = "", **more: object) -> Run:
    return run_batch(sandbox, data, clock, text or vis(OBS), unpack=True, **more)  # type: ignore[arg-type]


def fetches(sandbox: Sandbox) -> int:
    return sum(request.store or request.path == "/api/download" for request in sandbox.requests)


def left_over(data: Path) -> set[str]:
    kept = ("ledger.jsonl", "lock")
    return {path.name for path in (data / STATE_DIR).iterdir() if path.name not in kept}


# --- Folders in place of archives ---------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_a_product_becomes_a_folder(sandbox: Sandbox, data: Path, clock: FastClock, api: ApiVersion) -> None:
    run = unpack(sandbox, data, clock, api=api)
    (job,), (done,) = sandbox.jobs, run.told(Complete)
    (folder,) = done.files
    assert run.summary.exit_status is ExitStatus.COMPLETE and products(data) == {STEMS[api]}
    assert files_in(data / STEMS[api]) == packed_in(true_bytes(job))
    assert isinstance(folder, FetchedFolder) and folder.path == data / STEMS[api]
    assert (folder.size, folder.sha1, folder.files) == (job.size, job.sha1, 8)
    assert folder.mtime_ns == folder.path.stat().st_mtime_ns
    assert check_sums(data) == 8 and not left_over(data)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("again", [True, False])
def test_a_folder_is_complete_with_or_without_the_option(
    sandbox: Sandbox, data: Path, clock: FastClock, api: ApiVersion, again: bool
) -> None:
    unpack(sandbox, data, clock, api=api)
    (data / STEMS[api] / "README of mine").write_text("The folder is its user's now.")
    (data / STEMS[api] / f"{OBS}_metafits_ppds.fits").unlink()
    sandbox.reset_log()
    run = run_batch(sandbox, data, clock, vis(OBS), api=api, unpack=again)
    (done,) = run.told(Complete)
    assert run.summary.exit_status is ExitStatus.COMPLETE and done.from_before and not sandbox.requests
    assert (data / STEMS[api] / "README of mine").exists() and products(data) == {STEMS[api]}


def test_a_folder_that_was_moved_away_is_made_again(sandbox: Sandbox, data: Path, clock: FastClock) -> None:
    unpack(sandbox, data, clock, api=TODAY)
    (data / STEMS[TODAY]).rename(data / "mine")
    run = unpack(sandbox, data, clock, api=TODAY)
    assert run.summary.exit_status is ExitStatus.COMPLETE and notices(run, "has been moved or removed")
    assert products(data) == {STEMS[TODAY], "mine"} and len(sandbox.jobs) == 1 and check_sums(data) == 8
    (data / STEMS[TODAY]).rename(data / "mine too")
    run_batch(sandbox, data, clock, vis(OBS), api=TODAY)
    assert products(data) == {f"{STEMS[TODAY]}.tar", "mine", "mine too"} and check_sums(data) == 1


@pytest.mark.parametrize("api", APIS)
def test_a_folder_of_the_users_stays_where_it_is(
    sandbox: Sandbox, data: Path, clock: FastClock, api: ApiVersion
) -> None:
    mine = data / STEMS[api]
    mine.mkdir(parents=True)
    (mine / "notes").write_text("mine")
    run = unpack(sandbox, data, clock, api=api)
    assert files_in(mine) == {"notes": b"mine"} and notices(run) == []
    other = data / f"10001_{STEMS[api]}"
    assert files_in(other) == packed_in(true_bytes(sandbox.jobs[0])) and check_sums(data) == 8
    sandbox.reset_log()
    assert unpack(sandbox, data, clock, api=api).told(Complete)[0].files[0].path == other
    assert not sandbox.requests


def test_two_products_of_one_name_become_two_folders(sandbox: Sandbox, data: Path, clock: FastClock) -> None:
    text = vis(OBS) + vis(OBS, more=", allow_resubmit=true")
    rows = (
        f"obs_id={OBS}, job_type=c, timeres={t}, freqres=20, edgewidth=80, conversion=ms\n" for t in (1, 2)
    )
    unpack(sandbox, data, clock, text.splitlines()[0] + "\n" + "".join(rows))
    # Rows are submitted at the same time: any of the three may be the first, and have job id 10001.
    conversions = [job.id for job in sandbox.jobs if job.file_name.endswith("_ms.zip")]
    names = [{f"{OBS}_vis", f"{OBS}_ms", f"{job_id}_{OBS}_ms"} for job_id in conversions]
    assert len(names) == 2 and products(data) in names
    found = {frozenset(files_in(data / name).items()) for name in products(data)}
    assert found == {frozenset(packed_in(true_bytes(job)).items()) for job in sandbox.jobs}
    assert check_sums(data) == 8 + 21 + 21


def test_products_of_every_kind_are_unpacked(sandbox: Sandbox, data: Path, clock: FastClock) -> None:
    rows = [
        f"obs_id={OBS}, job_type=c, output=ms",
        f"obs_id={OBS}, job_type=c, output=uvfits",
        f"obs_id={OBS}, job_type=d, download_type=vis_meta",
        f"obs_id={OBS}, job_type=i",
        f"obs_id={OBS}, job_type=b",
    ]
    unpack(sandbox, data, clock, "\n".join(rows), api=TODAY)
    found = {
        frozenset(files_in(path).items()) for path in data.iterdir() if path.is_dir() and path.name[0] != "."
    }
    assert (
        found == {frozenset(packed_in(true_bytes(job)).items()) for job in sandbox.jobs} and len(found) == 5
    )


# --- Archives of an earlier run -----------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_an_archive_of_an_earlier_run_is_unpacked_without_the_network(
    sandbox: Sandbox, data: Path, clock: FastClock, api: ApiVersion
) -> None:
    run_batch(sandbox, data, clock, vis(OBS), api=api)
    assert products(data) == {STEMS[api] + ENDINGS[api]} and check_sums(data) == 1
    sandbox.reset_log()
    run = unpack(sandbox, data, clock, api=api)
    assert run.summary.exit_status is ExitStatus.COMPLETE and not sandbox.requests
    assert products(data) == {STEMS[api]} and check_sums(data) == 8 and not left_over(data)
    assert files_in(data / STEMS[api]) == packed_in(true_bytes(sandbox.jobs[0]))
    assert [event.is_here for event in run.told(Downloading)] == [True]
    assert unpack(sandbox, data, clock, api=api).told(Complete)[0].from_before and not sandbox.requests


@pytest.mark.parametrize("api", APIS)
def test_an_archive_that_was_only_touched_is_unpacked_too(
    sandbox: Sandbox, data: Path, clock: FastClock, api: ApiVersion
) -> None:
    run_batch(sandbox, data, clock, vis(OBS), api=api)
    os.utime(data / (STEMS[api] + ENDINGS[api]), ns=(0, 1))
    sandbox.reset_log()
    unpack(sandbox, data, clock, api=api)
    assert products(data) == {STEMS[api]} and not sandbox.requests


@pytest.mark.parametrize("api", APIS)
def test_an_archive_that_its_user_has_changed_is_not_touched(
    sandbox: Sandbox, data: Path, clock: FastClock, api: ApiVersion
) -> None:
    run_batch(sandbox, data, clock, vis(OBS), api=api)
    path = data / (STEMS[api] + ENDINGS[api])
    path.write_bytes(path.read_bytes() + b"mine")
    run = unpack(sandbox, data, clock, api=api)
    assert run.told(Complete)[0].is_changed and products(data) == {path.name}
    assert path.read_bytes().endswith(b"mine")


def test_without_room_an_archive_stays_and_the_next_run_unpacks_it(
    sandbox: Sandbox, data: Path, clock: FastClock
) -> None:
    run_batch(sandbox, data, clock, vis(OBS), api=TODAY)
    run = unpack(sandbox, data, clock, api=TODAY, free_bytes=lambda path: 10.0)
    assert run.summary.exit_status is ExitStatus.TRY_AGAIN and "No room" in run.summary.why_pending
    assert products(data) == {f"{STEMS[TODAY]}.tar"}
    assert unpack(sandbox, data, clock, api=TODAY).summary.exit_status is ExitStatus.COMPLETE


def test_a_run_that_only_submits_unpacks_nothing(sandbox: Sandbox, data: Path, clock: FastClock) -> None:
    run_batch(sandbox, data, clock, vis(OBS), api=TODAY)
    run = unpack(sandbox, data, clock, api=TODAY, only_submit=True)
    assert run.summary.exit_status is ExitStatus.COMPLETE and products(data) == {f"{STEMS[TODAY]}.tar"}


def test_one_product_needs_room_for_itself_alone(sandbox: Sandbox, data: Path, clock: FastClock) -> None:
    size = SIZE + 10001
    assert unpack(sandbox, data, clock, api=TODAY, free_bytes=lambda path: size).summary.complete
    run = unpack(sandbox, data / "2018", clock, free_bytes=lambda path: 1.5 * size)
    assert run.summary.pending, "a zip is there until it is unpacked"
    assert unpack(sandbox, data / "2018", clock, free_bytes=lambda path: 2 * (size + 1)).summary.complete


def test_one_pass_unpacks_what_is_here_though_others_are_pending(
    sandbox: Sandbox, data: Path, clock: FastClock
) -> None:
    run_batch(sandbox, data, clock, vis(OBS), api=TODAY)
    run = unpack(sandbox, data, clock, vis(OBS, OBS + 8), api=TODAY, once=True)
    assert run.summary.exit_status is ExitStatus.TRY_AGAIN and products(data) == {STEMS[TODAY]}
    assert (
        unpack(sandbox, data, clock, vis(OBS, OBS + 8), api=TODAY).summary.exit_status is ExitStatus.COMPLETE
    )


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("is_later", [False, True])
def test_without_a_sha1_the_size_counts_and_no_file_has_a_line(
    sandbox: Sandbox, data: Path, clock: FastClock, api: ApiVersion, is_later: bool
) -> None:
    sandbox.faults.add("no_sha1")
    if is_later:
        run_batch(sandbox, data, clock, vis(OBS), api=api)
    run = unpack(sandbox, data, clock, api=api)
    assert run.summary.exit_status is ExitStatus.COMPLETE and products(data) == {STEMS[api]}
    assert run.summary.unverified == run.told(Complete)[0].files
    assert (data / "SHA1SUMS").read_text() == "" and not left_over(data)


# --- What is not unpacked -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Given(Content):
    """A product with these very bytes."""

    data: bytes = b""

    @property
    def sha1(self) -> str:
        return hashlib.sha1(self.data).hexdigest()

    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        yield self.data[start:stop]


@pytest.fixture
def give(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Have all jobs bring these bytes."""

    def change(data: bytes) -> None:
        monkeypatch.setattr(Job, "content", property(lambda job: Given("", len(data), data)))
        monkeypatch.setattr(
            sandbox.service, "_options", replace(sandbox.options, product_size=lambda job: len(data))
        )

    return change


def hostile_tar() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("good", "../evil"):
            header = tarfile.TarInfo(name)
            header.size = 1000
            archive.addfile(header, io.BytesIO(bytes(1000)))
    return packed.getvalue()


def hostile_zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("good", bytes(1000))
        archive.writestr("../evil", bytes(1000))
    return packed.getvalue()


HOSTILE = {ApiVersion.V2018: hostile_zip, ApiVersion.V1: hostile_tar, TODAY: hostile_tar}


@pytest.mark.parametrize("api", APIS)
def test_a_refused_product_is_kept_and_its_row_has_failed(
    sandbox: Sandbox, data: Path, clock: FastClock, api: ApiVersion, give: Callable[[bytes], None]
) -> None:
    give(content := HOSTILE[api]())
    name = STEMS[api] + ENDINGS[api]
    for _ in range(2):
        run = unpack(sandbox, data, clock, api=api)
        assert run.summary.exit_status is ExitStatus.JOBS_FAILED
        assert "../evil" in failures(run)[1] and name in failures(run)[1]
        (failed,) = run.summary.failed
        assert isinstance(failed.error, UnpackRefused) and failed.error.kept.path == data / name
        assert products(data) == {name} and (data / name).read_bytes() == content and check_sums(data) == 1
        assert not (data.parent / "evil").exists() and not left_over(data)
    assert fetches(sandbox) <= 2, "it was fetched again"
    sandbox.reset_log()
    assert unpack(sandbox, data, clock, api=api).summary.failed and not sandbox.requests
    run = run_batch(sandbox, data, clock, vis(OBS), api=api)
    assert run.summary.exit_status is ExitStatus.COMPLETE and not sandbox.requests
    assert status_of(data, data / STATE_DIR, clock.now()).states == {"Download Complete": 1}


@pytest.mark.parametrize("api", APIS)
def test_an_archive_of_an_earlier_run_that_is_refused(
    sandbox: Sandbox, data: Path, clock: FastClock, api: ApiVersion, give: Callable[[bytes], None]
) -> None:
    give(HOSTILE[api]())
    run_batch(sandbox, data, clock, vis(OBS), api=api)
    sandbox.reset_log()
    for _ in range(2):
        run = unpack(sandbox, data, clock, api=api)
        assert "../evil" in failures(run)[1] and products(data) == {STEMS[api] + ENDINGS[api]}
    assert not sandbox.requests and check_sums(data) == 1
    assert run_batch(sandbox, data, clock, vis(OBS), api=api).summary.exit_status is ExitStatus.COMPLETE


def test_a_refused_product_that_was_moved_away_is_fetched_again(
    sandbox: Sandbox, data: Path, clock: FastClock, give: Callable[[bytes], None]
) -> None:
    give(hostile_tar())
    unpack(sandbox, data, clock, api=TODAY)
    (data / f"{STEMS[TODAY]}.tar").unlink()
    before = fetches(sandbox)
    run = unpack(sandbox, data, clock, api=TODAY)
    assert run.summary.failed and products(data) == {f"{STEMS[TODAY]}.tar"}
    assert fetches(sandbox) > before


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "content", [b"no archive " * 5000, b"x", b"PK\3\4" + bytes(5000), b"\x1f\x8b" + bytes(99)]
)
def test_what_is_no_archive_stays_as_it_is(
    sandbox: Sandbox,
    data: Path,
    clock: FastClock,
    api: ApiVersion,
    give: Callable[[bytes], None],
    content: bytes,
) -> None:
    give(content)
    run = unpack(sandbox, data, clock, api=api)
    assert run.summary.exit_status is ExitStatus.COMPLETE
    (name,) = products(data)
    assert (data / name).read_bytes() == content and check_sums(data) == 1 and not left_over(data)
    sandbox.reset_log()
    assert unpack(sandbox, data, clock, api=api).summary.exit_status is ExitStatus.COMPLETE
    assert not sandbox.requests


def test_a_tar_that_is_called_a_zip(
    sandbox: Sandbox, data: Path, clock: FastClock, give: Callable[[bytes], None]
) -> None:
    give(tar_of(folder("obs.ms"), member("obs.ms/table.dat", b"table")))
    assert unpack(sandbox, data, clock).summary.complete
    assert products(data) == {f"{OBS}_vis"} and check_sums(data) == 1 and not left_over(data)
    give(tar_of(member("fine", b"x"), member("../up")))
    run = unpack(sandbox, data, clock, vis(OBS + 8))
    assert "leads out" in failures(run)[1] and f"{OBS + 8}_vis.zip" in products(data) and not left_over(data)


def test_a_damaged_zip_is_refused(
    sandbox: Sandbox, data: Path, clock: FastClock, give: Callable[[bytes], None]
) -> None:
    content = bytearray(hostile_zip())
    content[100] ^= 1
    give(bytes(content))
    run = unpack(sandbox, data, clock)
    assert "CRC" in failures(run)[1] and products(data) == {f"{OBS}_vis.zip"}


def test_a_delivered_folder_is_copied_as_before(tmp_path: Path, clock: FastClock) -> None:
    scratch = tmp_path / "scratch"
    with Sandbox(clock=clock.now, product_size=lambda job: SIZE, scratch_folder=scratch) as sandbox:
        listed(sandbox, OBS, delivery="scratch", made_by=Interface.V2)
        text = vis(OBS, more=", delivery=scratch")
        run = unpack(sandbox, tmp_path / "data", clock, text, api=TODAY, roots=DeliveryRoots((scratch,)))
    assert run.summary.exit_status is ExitStatus.COMPLETE and len(run.told(Complete)[0].files) == 3


# --- After a crash ------------------------------------------------------------------------------------


def forget_the_end(data: Path) -> None:
    """Take from the ledger what a crash before its last line would have cost."""
    path = data / STATE_DIR / "ledger.jsonl"
    lines = [line for line in path.read_text().splitlines() if json.loads(line)["event"] != "complete"]
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("has_sums", [True, False])
def test_a_crash_between_the_folders_name_and_the_ledger(
    sandbox: Sandbox,
    data: Path,
    clock: FastClock,
    monkeypatch: pytest.MonkeyPatch,
    api: ApiVersion,
    again: bool,
    has_sums: bool,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("mwa_client.batch.fetching.finish_unpacking", lambda place, fetched: None)
        unpack(sandbox, data, clock, api=api)
    forget_the_end(data)
    if not has_sums:
        (data / "SHA1SUMS").unlink()
    assert left_over(data)
    run = run_batch(sandbox, data, clock, vis(OBS), api=api, unpack=again)
    assert run.summary.exit_status is ExitStatus.COMPLETE and products(data) == {STEMS[api]}
    assert fetches(sandbox) == 1 and len(sandbox.jobs) == 1 and check_sums(data) == 8 and not left_over(data)


@pytest.mark.parametrize("half_removed", [False, True])
def test_what_a_crash_has_left_after_the_ledger_is_removed(
    sandbox: Sandbox, data: Path, clock: FastClock, monkeypatch: pytest.MonkeyPatch, half_removed: bool
) -> None:
    with monkeypatch.context() as patch:
        if half_removed:
            patch.setattr("mwa_client.transfer.unpacking.kept.remove_tree", lambda path: None)
        else:
            patch.setattr("mwa_client.batch.fetching.finish_unpacking", lambda place, fetched: None)
        unpack(sandbox, data, clock, api=TODAY)
    assert left_over(data)
    sandbox.reset_log()
    run_batch(sandbox, data, clock, vis(OBS), api=TODAY)
    assert not left_over(data) and not sandbox.requests and check_sums(data) == 8


def test_an_archive_that_is_moved_away_before_it_is_unpacked_is_not_complete(
    sandbox: Sandbox, data: Path, clock: FastClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(sandbox, OBS)
    fetch = Downloader.fetch

    def fetch_and_move(self: Downloader, *arguments: Any, **options: Any) -> FetchedFile:
        fetched = fetch(self, *arguments, **options)
        fetched.path.rename(data.parent / "mine.zip")
        return fetched

    with monkeypatch.context() as patch:
        patch.setattr(Downloader, "fetch", fetch_and_move)
        (what,) = failures(unpack(sandbox, data, clock, vis(OBS))).values()
    assert "moved away meanwhile" in what
    assert unpack(sandbox, data, clock, vis(OBS)).summary.exit_status is ExitStatus.COMPLETE
    assert check_sums(data) == 8


@pytest.mark.parametrize("header", [0, 1, 4, -1])
def test_a_header_that_is_damaged_on_the_way_refuses_nothing(
    sandbox: Sandbox, data: Path, clock: FastClock, header: int
) -> None:
    job = listed(sandbox, OBS, made_by=Interface.V2)
    at = [*job.content.runs.offsets[:-1], job.size - 600][header] + 100
    sandbox.faults.add("corrupt_byte", 1, at=at)
    run = unpack(sandbox, data, clock, vis(OBS, more=", delivery=acacia"), api=TODAY)
    assert run.summary.exit_status is ExitStatus.COMPLETE and products(data) == {STEMS[TODAY]}
    assert files_in(data / STEMS[TODAY]) == packed_in(true_bytes(job)) and not left_over(data)


# --- Several files in one product ---------------------------------------------------------------------


def test_each_file_of_a_product_becomes_a_folder(
    sandbox: Sandbox, data: Path, clock: FastClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Endpoints2018.document

    def of_two_files(self: Endpoints2018, row: ListingRow) -> dict[str, Any]:
        document = honest(self, row)
        if document["product"] is not None:
            (file,) = document["product"]["files"]
            # Without a SHA-1 it is another file: one that is listed twice is fetched once.
            document["product"]["files"] = [file, file[:2]]
        return document

    monkeypatch.setattr(Endpoints2018, "document", of_two_files)
    run = unpack(sandbox, data, clock)
    names = {f"{OBS}_vis", f"2_{OBS}_vis"}
    assert run.summary.exit_status is ExitStatus.COMPLETE and products(data) == names
    assert check_sums(data) == 8 and not left_over(data), "only one of them was verified"
    sandbox.reset_log()
    assert unpack(sandbox, data, clock).told(Complete)[0].from_before and not sandbox.requests
    (data / f"2_{OBS}_vis").rename(data / "mine")
    again = unpack(sandbox, data, clock)
    assert again.summary.exit_status is ExitStatus.COMPLETE and products(data) == {*names, "mine"}
    assert fetches(sandbox) == 1, "the one that is here was fetched, too"
