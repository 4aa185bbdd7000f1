"""Room on the disk: looked for before the first byte, and lost on the way; nothing that is there is lost."""

from __future__ import annotations

import errno
import functools
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from shared import FastClock, Run, command, environment, run_batch, run_command, run_forked, vis, wait_until

from mwa_client.asvo.job import Delivery, ProductFile
from mwa_client.batch.events import Downloading, Notice
from mwa_client.batch.products import bytes_to_come
from mwa_client.directory.disk import disk_errors, free_bytes
from mwa_client.errors import DirectoryUnusable, DiskFull, ExitStatus
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import JobState, JobType, Sandbox
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile

OBS = 1191828528
SIZE = 300_000


@pytest.fixture
def sandbox(clock: FastClock) -> Iterator[Sandbox]:
    with Sandbox(clock=clock.now, product_size=lambda job: SIZE) as sandbox:
        yield sandbox


def ready(sandbox: Sandbox, *obs_ids: int, api: ApiVersion = ApiVersion.V2018) -> None:
    """Put ready jobs into the service, each of them an hour older than the one before."""
    asked = {"download_type": "vis", **({"delivery": "acacia"} if api is not ApiVersion.V2018 else {})}
    for hours, obs_id in enumerate(obs_ids, start=2):
        made = sandbox.service.now() - hours * 3600.0
        sandbox.service.add({"obs_id": str(obs_id), **asked}, JobType.VISIBILITIES, created=made)


def disk(size: int) -> Callable[[Path], float]:
    """A disk of so many bytes; what the client remembers takes none of them."""

    def taken(directory: Path) -> int:
        sizes = 0
        for path in directory.rglob("*"):
            if path.suffix in (".zip", ".tar", ".part"):
                with suppress(FileNotFoundError):
                    sizes += path.stat().st_size
        return sizes

    # Twice, for a file that is just renamed can be missed.
    return lambda directory: float(size - max(taken(directory), taken(directory)))


def fetched(run: Run) -> list[int]:
    return sorted(row.row.obs_id for row in run.summary.complete)


# --- Before the first byte ----------------------------------------------------------------------------


@pytest.mark.parametrize("api", [ApiVersion.V1, ApiVersion.V2])
def test_what_does_not_fit_is_told_and_what_expires_first_is_fetched(
    api: ApiVersion, sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    ready(sandbox, OBS, OBS + 1, OBS + 2, api=api)
    rows = vis(OBS, OBS + 1, OBS + 2, OBS + 3)
    run = run_batch(sandbox, tmp_path, clock, rows, api=api, free_bytes=disk(2 * SIZE + 1000))
    assert run.summary.exit_status is ExitStatus.TRY_AGAIN
    assert fetched(run) == [OBS + 1, OBS + 2], "the oldest two"
    (notice,) = run.told(Notice)
    words = "3 products that are ready need 900.0 kB, and 601.0 kB is free: 299.0 kB too little."
    assert notice.text.startswith(f"No room in {tmp_path}: {words}")
    assert "soonest to expire" in notice.text and "soonest" not in run.summary.why_pending
    assert "Make room" in run.summary.why_pending
    assert len(sandbox.jobs) == 4, "jobs can be made while somebody makes room"
    assert not list((tmp_path / ".mwa_client").glob("*.part*")), "not a byte of the others was asked for"
    clock.advance(3600.0)
    last = run_batch(sandbox, tmp_path, clock, rows, api=api, free_bytes=disk(10 * SIZE))
    assert last.summary.exit_status is ExitStatus.COMPLETE and fetched(last) == [
        OBS,
        OBS + 1,
        OBS + 2,
        OBS + 3,
    ]
    assert len(sandbox.jobs) == 4 and last.told(Notice) == []


def test_one_that_is_too_large_does_not_keep_the_small_ones_out(clock: FastClock, tmp_path: Path) -> None:
    sizes = {OBS: 900_000, OBS + 1: 1000, OBS + 2: 2000}
    with Sandbox(clock=clock.now, product_size=lambda job: sizes[int(job.obs_id)]) as sandbox:
        ready(sandbox, OBS + 2, OBS + 1, OBS)
        run = run_batch(sandbox, tmp_path, clock, vis(*sizes), free_bytes=disk(500_000))
    assert fetched(run) == [OBS + 1, OBS + 2]
    assert len(run.summary.pending) == 1 and run.summary.exit_status is ExitStatus.TRY_AGAIN


def test_what_is_there_already_needs_no_room(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    ready(sandbox, OBS)
    cut = sandbox.faults.add("cut_product", after=200_000, times=1)
    refused = sandbox.faults.add("product_gone", skip=1)
    stopped = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert stopped.summary.exit_status is ExitStatus.JOBS_FAILED and cut.hits == refused.hits == 1
    part = tmp_path / ".mwa_client" / f"{OBS}_vis.zip.part"
    assert part.stat().st_size == 200_000
    sandbox.faults.clear()
    short = run_batch(sandbox, tmp_path, clock, vis(OBS), free_bytes=disk(SIZE - 1))
    assert short.summary.exit_status is ExitStatus.TRY_AGAIN and short.told(Downloading) == []
    enough = run_batch(sandbox, tmp_path, clock, vis(OBS), free_bytes=disk(SIZE))
    assert enough.summary.exit_status is ExitStatus.COMPLETE


def test_what_is_on_its_way_keeps_its_room(tmp_path: Path) -> None:
    """A product that becomes ready later may not take the room that a running download still needs."""
    is_told = threading.Event()

    class Clock(FastClock):
        def sleep(self, seconds: float, stop: threading.Event) -> None:
            """Wait before the next try of the download, until the other product has been ready meanwhile."""
            assert is_told.wait(20)
            super().sleep(seconds, stop)

    clock = Clock()
    with Sandbox(clock=clock.now, product_size=lambda job: SIZE) as sandbox:
        ready(sandbox, OBS)
        second = sandbox.service.add(
            {"obs_id": str(OBS + 1), "download_type": "vis"}, JobType.VISIBILITIES, state=JobState.PROCESSING
        )
        sandbox.faults.add("product_status", status=503, times=1)

        def listen(event: object) -> None:
            if isinstance(event, Downloading):
                sandbox.service.hold(second.id, JobState.READY)
            elif isinstance(event, Notice) and "No room" in event.text:
                is_told.set()

        room = disk(SIZE + 1000)
        run = run_batch(sandbox, tmp_path, clock, vis(OBS, OBS + 1), listen=listen, free_bytes=room)
    assert fetched(run) == [OBS]
    (notice,) = [notice for notice in run.told(Notice) if "No room" in notice.text]
    assert "1.0 kB is free" in notice.text


def test_what_nobody_knows_the_size_of_is_tried(tmp_path: Path) -> None:
    place = DownloadDirectory(tmp_path, tmp_path)
    assert bytes_to_come([(ExpectedFile(7, "name", None, "0" * 40), ProductFile("name"))], place) == 0


def test_a_folder_that_this_host_cannot_see_needs_no_room(tmp_path: Path) -> None:
    place, seen = DownloadDirectory(tmp_path, tmp_path), tmp_path / "delivered"
    wanted = ExpectedFile(7, "name", 1000, None)
    delivery = ProductFile("name", 1000, delivery=Delivery.SCRATCH, path=str(seen))
    assert bytes_to_come([(wanted, delivery)], place) == 0
    (seen / "beam").mkdir(parents=True)
    assert bytes_to_come([(wanted, delivery)], place) == 1000
    (tmp_path / "name.part" / "beam").mkdir(parents=True)
    (tmp_path / "name.part" / "beam" / "table").write_bytes(bytes(300))
    assert bytes_to_come([(wanted, delivery)], place) == 700, "what is copied already"
    (tmp_path / "name.part").rename(tmp_path / "name")
    assert bytes_to_come([(wanted, delivery)], place) == 1000, "another, smaller one has the name"


def test_the_system_says_how_much_room_there_is(tmp_path: Path) -> None:
    assert 0 < free_bytes(tmp_path) <= shutil.disk_usage(tmp_path).total
    assert free_bytes(Path("/proc")) == float("inf"), "a file system that does not say"
    with pytest.raises(DirectoryUnusable):
        free_bytes(tmp_path / "missing")


# --- On the way ---------------------------------------------------------------------------------------


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
from mwa_client.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def with_limits(sandbox: Sandbox) -> dict[str, str]:
    """The environment of a client that may write no large files: coverage data would be one."""
    return {name: value for name, value in environment(sandbox).items() if "COV" not in name}


def test_a_limit_that_is_met_on_the_way_keeps_what_is_there(tmp_path: Path) -> None:
    csv, data = tmp_path / "jobs.csv", tmp_path / "data"
    csv.write_text(vis(OBS, OBS + 1))
    sizes = {OBS: 2_500_000, OBS + 1: 1000}
    with Sandbox(seconds_per_state=0, product_size=lambda job: sizes[int(job.obs_id)]) as sandbox:
        words = [f"--csv={csv}", f"--dir={data}", "--poll=0.05"]
        limited = run_forked([sys.executable, "-c", LIMITED, *words], with_limits(sandbox))
        assert limited.returncode == 75, limited.stderr
        assert "No room left to write" in limited.stderr and "Make room" in limited.stderr
        assert "pending (run the same command again)" in limited.stdout.splitlines()[-1]
        part = data / ".mwa_client" / f"{OBS}_vis.zip.part"
        kept = part.stat().st_size
        assert 0 < kept <= 200_000
        done = run_command(*words, env=environment(sandbox))
        assert done.returncode == 0, done.stderr
        resumed = [r for r in sandbox.requests if r.path == "/api/download" and r.range]
        assert [request.range for request in resumed] == [f"bytes={kept}-"]
        assert len(sandbox.jobs) == 2


def test_a_batch_that_is_done_needs_no_room(tmp_path: Path) -> None:
    csv, data = tmp_path / "jobs.csv", tmp_path / "data"
    csv.write_text(vis(OBS))
    with Sandbox(seconds_per_state=0, product_size=lambda job: 1000) as sandbox:
        words = [f"--csv={csv}", f"--dir={data}", "--poll=0.05"]
        assert run_command(*words, env=environment(sandbox)).returncode == 0
        full = LIMITED.replace("200_000", "0")
        done = run_forked([sys.executable, "-c", full, *words], with_limits(sandbox))
        assert done.returncode == 0, done.stderr
        csv.write_text(vis(OBS, OBS + 1))
        more = run_forked([sys.executable, "-c", full, *words], with_limits(sandbox))
        assert more.returncode == 75 and "No room left" in more.stderr and len(sandbox.jobs) == 1


@functools.cache
def can_mount() -> bool:
    """Whether this user may have a small disk of its own."""
    if shutil.which("unshare") is None:
        return False
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(mount, capture_output=True, check=False).returncode == 0


FULL_DISK = """
mount -t tmpfs -o size=2m tmpfs "$DISK" || exit 99
{client}; echo "status $?"
ls "$DISK"
mount -o remount,size=16m "$DISK" || exit 99
{client}; echo "status $?"
cd "$DISK" && sha1sum -c SHA1SUMS
"""


def on_a_small_disk(script: str, sandbox: Sandbox, *words: str, at: Path) -> subprocess.CompletedProcess[str]:
    at.mkdir()
    client = " ".join(f"'{word}'" for word in command(*words))
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script.replace("{client}", client)],
        env=environment(sandbox, DISK=str(at)),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.skipif("not can_mount()", reason="needs user namespaces, for a disk that can be full")
def test_a_small_disk(tmp_path: Path) -> None:
    csv, data = tmp_path / "jobs.csv", tmp_path / "data"
    sizes = {OBS: 300_000, OBS + 1: 3_000_000, OBS + 2: 200_000}
    csv.write_text(vis(*sizes))
    with Sandbox(seconds_per_state=0, product_size=lambda job: sizes[int(job.obs_id)]) as sandbox:
        words = (f"--csv={csv}", f"--dir={data}", "--poll=0.05")
        done = on_a_small_disk(FULL_DISK, sandbox, *words, at=data)
        assert re.findall(r"^status (\d+)$", done.stdout, re.MULTILINE) == ["75", "0"], done.stderr
        first, second = done.stdout.split("status 75\n")
        assert "2 complete" in first.splitlines()[-1] and "1 pending" in first.splitlines()[-1]
        assert re.search(r"3 products that are ready need 3\.5 MB, .* MB too little\.", done.stderr)
        listed = [f"{OBS}_vis.zip", f"{OBS + 2}_vis.zip", "SHA1SUMS"]
        assert second.splitlines()[:3] == listed, "no half product has a final name"
        assert second.count(": OK") == 3 and len(sandbox.jobs) == 3
        asked = [
            request.query["file_name"] for request in sandbox.requests if request.path == "/api/download"
        ]
        assert sorted(asked) == [f"{obs_id}_vis.zip" for obs_id in sizes], "and each was asked for once"


FILLED_DISK = """
mount -t tmpfs -o size=8m tmpfs "$DISK" || exit 99
{client} & client=$!
until [ -s "$DISK/.mwa_client/{name}.part" ]; do sleep 0.02; done
head -c 8000000 /dev/zero > "$DISK/filler"
wait $client; echo "status $?"
stat -c %s "$DISK/.mwa_client/{name}.part"
{client}; echo "status $?"
rm "$DISK/filler"
{client}; echo "status $?"
cd "$DISK" && sha1sum -c SHA1SUMS
"""


@pytest.mark.skipif("not can_mount()", reason="needs user namespaces, for a disk that can be full")
def test_a_disk_that_fills_up_on_the_way(tmp_path: Path) -> None:
    csv, data = tmp_path / "jobs.csv", tmp_path / "data"
    csv.write_text(vis(OBS))
    with Sandbox(seconds_per_state=0, rate=2e6, product_size=lambda job: 6_000_000) as sandbox:
        words = (f"--csv={csv}", f"--dir={data}", "--poll=0.05", "-q")
        done = on_a_small_disk(FILLED_DISK.replace("{name}", f"{OBS}_vis.zip"), sandbox, *words, at=data)
        assert re.findall(r"^status (\d+)$", done.stdout, re.MULTILINE) == ["75", "75", "0"], done.stderr
        kept = int(re.findall(r"^(\d+)$", done.stdout, re.MULTILINE)[0])
        assert "No room left to write" in done.stderr
        assert done.stdout.count(": OK") == 1 and len(sandbox.jobs) == 1
        wait_until(lambda: len([r for r in sandbox.requests if r.path == "/api/download"]) == 2)
        asked = [request.range for request in sandbox.requests if request.path == "/api/download"]
        assert kept > 0 and sorted(asked, key=str) == sorted([None, f"bytes={kept}-"], key=str)


def test_a_file_system_that_can_hold_no_more_files_is_not_called_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SimpleNamespace(f_files=1000, f_favail=0, f_bavail=5000)
    monkeypatch.setattr(os, "statvfs", lambda path: state)
    for left, words in ((0, "can hold no more files"), (7, "no space left on device")):
        state.f_favail = left
        with pytest.raises(DiskFull, match=words), disk_errors(tmp_path / "not there"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
