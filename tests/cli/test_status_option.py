"""`--status`: what the directory knows, on the screen and as JSON, without account and without network."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Callable

import pytest
from diaries import OBS, Diary, identity, row_text
from json_events import STATUS_FIELDS

from mwa_client.cli import main as cli

WHAT, AT = "product, or why not", "2027-01-15 08:01"
Look = Callable[..., "tuple[int, list[str], str]"]


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "data")


@pytest.fixture
def look(
    diary: Diary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Look:
    """Ask for the status with no account at all, in UTC."""
    for name in list(os.environ):
        if name.startswith(("ASVO_", "MWA_ASVO_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()

    def look(*options: object) -> tuple[int, list[str], str]:
        try:
            status = cli.main(["--status", f"--dir={diary.directory}", *map(str, options)])
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        return status, out.splitlines(), err

    return look


@pytest.fixture
def busy(diary: Diary) -> Diary:
    """Four rows: complete, failed, queued, and one that is being fetched."""
    with diary.run() as ledger:
        for number, state in enumerate(("completed", "error", "queued", "completed")):
            diary.submit(ledger, identity(OBS + 8 * number), 42 + number, state)
        diary.finish(ledger, identity(OBS), 42)
        diary.fail(ledger, identity(OBS + 8), 43, "It\nbroke.", "Ask.")
        diary.begin(ledger, identity(OBS + 24), 45)
    (diary.state_dir / "45.tar.part").write_bytes(b"x" * 300)
    return diary


def test_a_table_what_to_do_and_the_sums(busy: Diary, look: Look) -> None:
    status, out, err = look()
    assert (status, err) == (0, "")
    assert out == [
        f"job id      obs_id  type          state                 {'since':>16}  {'size':>15}  {WHAT}",
        f"    42  1191828584  visibilities  Download Complete     {AT}           1.0 kB  42.tar",
        f"    43  1191828592  visibilities  Error                 {AT[:-1]}0                -  It\\nbroke.",
        f"    44  1191828600  visibilities  Queued                {AT}                -",
        f"    45  1191828608  visibilities  Download interrupted  {AT}  300 B of 1.0 kB",
        "What to do (1 row): Ask.",
        f"4 rows: 1 Queued, 1 Download interrupted, 1 Download Complete, 1 Error; 1.0 kB in {busy.directory}",
        "No client is at work here: run the same command again to continue.",
    ]  # fmt: skip
    assert look("-q")[1] == out[-2:]


def test_json_has_a_line_for_each_row_and_the_sums(busy: Diary, look: Look) -> None:
    status, out, err = look("--json")
    events = [json.loads(line) for line in out]
    assert (status, err) == (0, "") and [event["event"] for event in events] == ["row"] * 4 + ["status"]
    assert all(set(event) - {"event", "time"} == STATUS_FIELDS[event["event"]] for event in events)
    complete, failed, _, fetched, sums = events
    assert complete["paths"] == [str(busy.directory / "42.tar")] and complete["bytes"] == 1000
    assert (failed["message"], failed["remedy"], failed["state"]) == ("It\nbroke.", "Ask.", "Error")
    assert (fetched["bytes"], fetched["size"], fetched["since"]) == (300, 1000, "2027-01-15T08:01:20Z")
    assert (sums["complete"], sums["failed"], sums["pending"], sums["bytes"]) == (1, 1, 2, 1000)
    assert sums["states"] == {
        "Queued": 1, "Download interrupted": 1, "Download Complete": 1, "Error": 1,
    }  # fmt: skip


def test_a_job_file_shows_its_own_rows_with_their_lines(busy: Diary, look: Look, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs.csv"
    jobs.write_text(row_text(OBS + 800) + "\n" + row_text(OBS + 16))
    status, out, _ = look("-c", jobs)
    assert status == 0 and [line.split()[:2] for line in out[1:3]] == [["1", "-"], ["3", "44"]]
    assert "Not submitted" in out[1] and "Queued" in out[2]
    assert out[3].startswith("2 rows: 1 Not submitted, 1 Queued; 0 B")
    assert out[4] == "3 more rows are known here: --status without a job file or list shows them, too."
    jobs.write_text("obs_id=7\n")
    assert look("-c", jobs)[0] == 3


def test_nothing_is_made_and_nothing_changed(busy: Diary, look: Look) -> None:
    def everything() -> list[tuple[str, int, int]]:
        paths = [busy.directory, *busy.directory.rglob("*")]
        return sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths)

    before = everything()
    busy.state_dir.chmod(0o555)
    busy.directory.chmod(0o555)
    try:
        assert look()[0] == look("--json")[0] == 0
    finally:
        busy.directory.chmod(0o755)
        busy.state_dir.chmod(0o755)
    assert everything() == before


def test_directories_without_a_ledger(diary: Diary, look: Look) -> None:
    status, out, err = look()
    assert status == 1 and out == [] and "There is no directory" in err and not diary.directory.exists()
    diary.directory.touch()
    status, out, err = look()
    assert status == 1 and out == [] and "Not a directory" in err
    diary.directory.unlink()
    diary.directory.mkdir()
    status, out, err = look()
    assert (status, err) == (0, "") and out == [
        f"Nothing has been done in {diary.directory} yet: it has no rows."
    ]
    assert [json.loads(line)["rows"] for line in look("--json")[1]] == [0]


def test_damage_is_said(busy: Diary, look: Look) -> None:
    with busy.path.open("ab") as file:
        file.write(b"torn")
    status, out, _ = look()
    assert status == 0 and out[-1].startswith("Warning: 1 line of the ledger cannot be read")


def test_a_foreign_folder_is_an_error(busy: Diary, look: Look, tmp_path: Path) -> None:
    busy.state_dir.rename(tmp_path / "elsewhere")
    busy.state_dir.symlink_to(tmp_path / "elsewhere")
    status, out, err = look()
    assert status == 1 and out == [] and "it is a symbolic link" in err


@pytest.mark.parametrize("options", [["-l"], ["--check"], ["-w", "5"], ["--once"]])
def test_what_does_not_go_together(busy: Diary, look: Look, options: list[str]) -> None:
    status, out, err = look(*options)
    assert status == 1 and out == [] and "do not go together" in err
