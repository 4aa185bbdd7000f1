"""The command with --unpack: what it shows, what --json says, and jobs that are there already."""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from shared import FastClock, environment, lines_shown, products, run_forked, untimed

from mwa_client import MwaClientError, login
from mwa_client.batch.events import Complete, Downloading, RowName
from mwa_client.cli import main as cli
from mwa_client.sandbox import JobType, Sandbox
from mwa_client.sandbox.archives import Planned
from mwa_client.sandbox.interfaces import Interface
from mwa_client.transfer.files import FetchedFile, FetchedFolder

OBS = 1191828584
ROW = f"obs_id={OBS}, job_type=d, download_type=vis"
FOLDER = f"{OBS}_10001_vis"
HOSTILE_ROW = "obs_id=1191828888, job_type=d, download_type=vis"
"""Of an observation that no other test has: the practice service remembers what its archives are like."""

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(seconds_per_state=0, product_size=lambda job: 100_000) as sandbox:
        yield sandbox


@pytest.fixture
def run(
    sandbox: Sandbox, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """The command in this process, with today's key."""
    for name, value in environment(None, MWA_ASVO_HOST=sandbox.url, MWA_ASVO_API_KEY="practice-key").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(data.parent / "home"))

    def run(*arguments: object) -> tuple[int, str]:
        status = cli.main([*map(str, arguments), f"--dir={data}", "--poll=0.05"])
        return status, capsys.readouterr().out

    return run


def complete(out: str) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in out.splitlines()]
    return [event for event in events if event["event"] == "complete"]


def test_lines_show_the_folder_and_how_many_files_it_has(run: Run, data: Path) -> None:
    status, out = run("-j", ROW, "--unpack")
    assert status == 0 and products(data) == {FOLDER}
    assert f"{data / FOLDER} (8 files, 100.0 kB, verified)" in out
    assert untimed(out).splitlines()[-1].startswith("1 complete: ")


def test_json_has_the_folder_as_path_and_the_number_of_files(run: Run, sandbox: Sandbox, data: Path) -> None:
    for from_before in (False, True):
        status, out = run("-j", ROW, "--unpack", "--json")
        (event,) = complete(out)
        assert status == 0 and event["path"] == str(data / FOLDER) and event["files"] == 8
        assert (event["size"], event["sha1"]) == (100_000, sandbox.jobs[0].sha1)
        assert event["from_before"] is from_before and event["verified"]


@pytest.mark.parametrize("target", ["10001", str(OBS), "all"])
def test_jobs_that_are_there_are_unpacked_too(run: Run, sandbox: Sandbox, data: Path, target: str) -> None:
    params = {"obs_id": str(OBS), "download_type": "vis", "delivery": "acacia"}
    sandbox.service.add(params, JobType.VISIBILITIES, made_by=Interface.V2)
    status, _ = run("-w", target)
    assert status == 0 and products(data) == {f"{FOLDER}.tar"}
    status, out = run("-w", target, "--unpack")
    assert status == 0 and products(data) == {FOLDER} and "Unpacking: " in out
    assert sum(request.store for request in sandbox.requests) == 1


def test_a_refused_product_ends_the_command_with_4(
    run: Run, sandbox: Sandbox, data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("mwa_client.sandbox.archives._tar_header", _hostile_header)
    status, out = run("-j", HOSTILE_ROW, "--unpack", "--json", "-e", tmp_path / "errors.json")
    (error,) = [event for event in map(json.loads, out.splitlines()) if event["event"] == "error"]
    assert status == 4 and "/etc/" in error["message"] and "absolute" in error["message"]
    assert "kept" in error["remedy"] and products(data) == {"1191828888_10001_vis.tar"}
    (told,) = json.loads((tmp_path / "errors.json").read_text())
    assert "/etc/" in told["result"]
    assert run("-j", HOSTILE_ROW)[0] == 0 and run("-j", HOSTILE_ROW, "--unpack")[0] == 4


def _hostile_header(file: Planned, size: int, mtime: int) -> bytes:
    header = tarfile.TarInfo(f"/etc/{file.name}")
    header.size = size
    return header.tobuf(tarfile.GNU_FORMAT)


def test_the_python_api_returns_the_folder(
    sandbox: Sandbox, clock: FastClock, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(data.parent / "home"))
    with login(key="practice-key", api="v2", host=sandbox.url) as client:
        client._clock = clock
        job_id = client.submit(ROW)
        (folder,) = client.download(job_id, data, unpack=True)
        assert isinstance(folder, FetchedFolder) and folder.path == data / FOLDER and folder.files == 8
        (again,) = client.download(job_id, data)
        assert isinstance(again, FetchedFolder) and again.path == folder.path
        monkeypatch.setattr("mwa_client.sandbox.archives._tar_header", _hostile_header)
        other = client.submit(HOSTILE_ROW.replace("888,", "896,"))
        with pytest.raises(MwaClientError, match="was not unpacked"):
            client.download(other, data, unpack=True)
        summary = client.run([HOSTILE_ROW.replace("888,", "904,")], data, unpack=True)
    assert len(summary.failed) == 1 and summary.exit_status == 4


def test_what_lines_say_of_files_and_folders() -> None:
    row, directory = RowName(1, OBS, 7), Path("/data")
    folder = FetchedFolder(directory / "a", 1000, "a" * 40, True, files=20_000)
    one = FetchedFolder(directory / "b", 1000, "a" * 40, True, files=1)
    file = FetchedFile(directory / "c.tar", 1000, "a" * 40, True)
    events = [Complete(row, (each,), False, directory=directory) for each in (folder, one, file)]
    shown = [line.rpartition("(")[2] for line in lines_shown(events)]
    assert shown == ["20000 files, 1.0 kB, verified)", "1.0 kB, verified)", "1.0 kB, verified)"]
    downloading = [Downloading(row, "c.tar", 1000), Downloading(row, "c.tar", 1000, is_here=True)]
    assert [line.split(":")[0] for line in lines_shown(downloading)] == ["Downloading", "Unpacking"]


HURRIED = """
import functools, sys
from mwa_client.cli import practice
practice.Sandbox = functools.partial(practice.Sandbox, seconds_per_state=0.05)
from mwa_client.cli.main import main
sys.exit(main())
"""
"""The client, which practises with a service that needs no seconds for a job."""


def test_a_real_process_in_practice(data: Path, tmp_path: Path) -> None:
    row = f"obs_id={OBS}, job_type=d, download_type=vis_meta"
    arguments = ("--sandbox", "-j", row, "--unpack", "--dir", str(data))
    done = run_forked([sys.executable, "-c", HURRIED, *arguments], environment(HOME=str(tmp_path)))
    assert done.returncode == 0, done.stderr
    (name,) = products(data)
    assert {path.name for path in (data / name).iterdir()} >= {f"{OBS}.metafits", "README"}
