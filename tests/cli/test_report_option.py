"""`--report`: a page at the beginning of a run, now and then, and at its end, and never over another file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

import pytest
from diaries import OBS, Diary, identity, row_text
from shared import FastClock, environment

from mwa_client.cli import main as cli
from mwa_client.cli.report_file import INTERVAL, Reporter, check_report_file, write_report
from mwa_client.errors import SettingsError
from mwa_client.sandbox import Sandbox
from mwa_client.timing import SystemClock

Command = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    for name in [*environment(), *os.environ]:
        if name.startswith(("ASVO_", "MWA_ASVO_")):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def command(*words: object) -> tuple[int, str, str]:
        try:
            status = cli.main([*map(str, words)])
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        assert "internal error" not in err
        return status, out, err

    return command


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory in which something has been done."""
    diary = Diary(tmp_path / "data")
    with diary.run() as ledger:
        diary.submit(ledger, identity(), 42, "queued")
    return diary.directory


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- The file -----------------------------------------------------------------------------------------


def test_a_page_of_ours_is_replaced(page: Path) -> None:
    write_report(page, "<p>one</p>")
    page.chmod(0o600)  # For this user's eyes alone: so it stays.
    write_report(page, "<p>two</p>")
    assert page.read_text().endswith("-->\n<p>two</p>") and page.stat().st_mode & 0o777 == 0o600
    assert page.read_text().startswith("<!doctype html>") and names(page.parent) == {"report.html"}


def users_files(page: Path) -> dict[str, Callable[[], object]]:
    other = page.parent / "precious"

    def ours_and_more() -> None:
        write_report(page, "<p>one</p>")
        page.write_text(page.read_text() + "<p>my notes</p>")

    def ours_and_less() -> None:
        write_report(page, "<p>one</p>")
        page.write_text(page.read_text()[:-1])

    def ours_elsewhere() -> None:
        write_report(other, "<p>one</p>")
        page.symlink_to(other)

    return {
        "text": lambda: page.write_text("mine"),
        "html": lambda: page.write_text("<!doctype html>\n<html>mine</html>"),
        "empty": page.touch,
        "worked on": ours_and_more,
        "torn": ours_and_less,
        "folder": page.mkdir,
        "link": ours_elsewhere,
        "dangling": lambda: page.symlink_to(other),
        "fifo": lambda: os.mkfifo(page),
    }


@pytest.mark.parametrize("kind", users_files(Path()))
def test_what_is_the_users_stays(page: Path, data: Path, command: Command, kind: str) -> None:
    users_files(page)[kind]()

    def everything() -> list[tuple[str, bytes | None, int]]:
        paths = sorted(page.parent.iterdir())
        return [
            (path.name, path.read_bytes() if path.is_file() else None, path.lstat().st_ino) for path in paths
        ]

    before = everything()
    with pytest.raises(SettingsError, match="another --report"):
        check_report_file(page)
    with pytest.raises(SettingsError, match="another --report"):
        write_report(page, "<p>two</p>")
    status, out, err = command("--report", page, f"--dir={data}")
    assert status == 1 and out == "" and "another --report" in err
    assert everything() == before


def test_what_a_kill_left_half_written_is_removed(page: Path, data: Path, command: Command) -> None:
    write_report(page, "<p>one</p>")
    begun = page.read_bytes()
    page.unlink()
    left = {  # What is in it, how old it is, and whether it is ours.
        ".report.html.0123456789abcdef.new": (begun[:200], 9000, True),
        ".report.html.0123456789abcde0.new": (b"", 9000, True),
        ".report.html.0123456789abcde1.new": (begun, 5, False),
        ".report.html.0123456789abcde2.new": (b"mine", 9000, False),
        ".report.html.mine.new": (begun, 9000, False),
        ".other.html.0123456789abcdef.new": (begun, 9000, False),
    }
    now = SystemClock().now()
    for name, (content, age, _) in left.items():
        (page.parent / name).write_bytes(content)
        os.utime(page.parent / name, (now - age, now - age))
    assert command("--report", page, f"--dir={data}")[0] == 0
    kept = {name for name, (_, _, is_ours) in left.items() if not is_ours}
    assert names(page.parent) - {"data", "home"} == {"report.html", *kept}


def test_a_second_name_keeps_what_it_had(page: Path) -> None:
    write_report(page, "<p>one</p>")
    kept = page.with_name("kept.html")
    os.link(page, kept)
    write_report(page, "<p>two</p>")
    assert "one" in kept.read_text() and "two" in page.read_text()


def test_what_comes_between_the_look_and_the_writing_stays(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        real(handle)
        page.write_text("mine")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(SettingsError):
        write_report(page, "<p>one</p>")
    assert page.read_text() == "mine" and names(page.parent) == {"report.html"}


def test_nowhere_to_write(page: Path, data: Path, command: Command) -> None:
    status, _, err = command("--report", page.parent / "missing" / "r.html", f"--dir={data}")
    assert status == 1 and "there is no directory" in err
    assert command("--report=", f"--dir={data}")[0] == 1


# --- When it is written -------------------------------------------------------------------------------


def test_every_few_minutes_and_less_often_where_it_takes_long(page: Path) -> None:
    clock = FastClock()
    said: list[str] = []
    made: list[float] = []

    def slow() -> str:
        made.append(clock.now())
        clock.advance(30.0)
        return "<p>page</p>"

    reporter = Reporter(page, slow, clock, said.append)
    for _ in range(100):
        reporter.write_if_due()
        clock.advance(INTERVAL / 4)
    assert len(made) == 2 and said == []
    made.clear()

    def fast() -> str:
        made.append(clock.now())
        return "<p>page</p>"

    quick = Reporter(page, fast, clock, said.append)
    for _ in range(9):
        quick.write_if_due()
        clock.advance(INTERVAL / 4)
    assert len(made) == 3


def test_a_run_goes_on_without_its_page_and_says_so_once(page: Path) -> None:
    said: list[str] = []
    reporter = Reporter(page, lambda: "<p>page</p>", FastClock(), said.append)
    reporter.write()
    page.write_text("mine")
    reporter.write()
    reporter.write()
    broken = Reporter(page, lambda: str(1 // 0), FastClock(), said.append)
    broken.write()
    assert page.read_text() == "mine" and len(said) == 2
    assert "was not replaced" in said[0] and "ZeroDivisionError" in said[1]


@pytest.mark.parametrize("options", [(), ("--json",), ("-s",), ("--once",)])
def test_a_run_leaves_a_page_about_its_rows(
    tmp_path: Path, page: Path, command: Command, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    jobs = tmp_path / "jobs.csv"
    jobs.write_text(row_text() + row_text(OBS + 8))
    with Sandbox(seconds_per_state=0, product_size=lambda job: 3000) as sandbox:
        monkeypatch.setenv("MWA_ASVO_HOST", sandbox.url)
        monkeypatch.setenv("MWA_ASVO_API_KEY", "practice-key")
        status, out, err = command(
            f"--csv={jobs}", f"--dir={tmp_path / 'data'}", "--poll=0.05", "--report", page, *options
        )
    text = page.read_text()
    assert "Warning" not in err and status in (0, 75)
    assert "of 2 rows complete" in text and str(OBS + 8) in text and "at work" not in text
    if not options:
        assert "2 of 2 rows complete." in text and " 2 complete: " in out.splitlines()[-1]
    # Alone, from the ledger, it says the same.
    assert command("--report", page, f"--dir={tmp_path / 'data'}")[:2] == (0, "")
    assert "of 2 rows complete" in page.read_text()


def test_a_run_that_ends_with_an_error_leaves_its_page_too(
    tmp_path: Path, page: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = tmp_path / "jobs.csv"
    jobs.write_text(row_text())
    with Sandbox(seconds_per_state=0) as sandbox:
        monkeypatch.setenv("MWA_ASVO_HOST", sandbox.url)
        monkeypatch.setenv("MWA_ASVO_API_KEY", "wrong-key")
        status, _, err = command(f"--csv={jobs}", f"--dir={tmp_path / 'data'}", "--report", page)
    assert status == 2 and "accept" in err and "0 of 1 row complete, 1 to come." in page.read_text()


def test_with_the_status_and_alone(page: Path, data: Path, command: Command) -> None:
    status, out, err = command("--report", page, f"--dir={data}")
    assert (status, out, err) == (0, "", f"Wrote {page}.\n") and page.stat().st_size > 3000
    status, out, _ = command("--status", "--report", page, f"--dir={data}")
    assert status == 0 and "1 row: 1 Queued" in out


@pytest.mark.parametrize("options", [("--check",), ("-l",), ("--cancel", "7"), ("--once",)])
def test_what_has_no_page(page: Path, command: Command, options: tuple[str, ...]) -> None:
    rows = ("-j", "obs_id=1191828584, job_type=d, download_type=vis") if "--check" in options else ()
    status, out, err = command("--report", page, *options, *rows)
    assert status == 1 and out == "" and "do not go together" in err and not page.exists()
