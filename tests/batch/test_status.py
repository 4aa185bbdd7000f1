"""What a directory knows of its rows: finished, running, interrupted, damaged, foreign."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from diaries import NOON, OBS, Diary, identity, row_text

from mwa_client.batch.entries import entry_time
from mwa_client.batch.status import COMMAND_INTERRUPTED, INTERRUPTED, MOVED_AWAY, RowStatus
from mwa_client.directory.lock import directory_lock
from mwa_client.errors import DirectoryUnusable
from mwa_client.timing import SystemClock, read_time

ROW, OTHER = identity(), identity(OBS + 8)


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "data")


def only(diary: Diary) -> RowStatus:
    (row,) = diary.status().rows
    return row


def test_a_row_on_its_way(diary: Diary) -> None:
    with diary.run() as ledger:
        ledger.record_intent(ROW, after=41)
        assert (only(diary).label, only(diary).since) == ("Submitting", NOON)
        ledger.record_refused(ROW)
        assert only(diary).label == "Not submitted"
        diary.submit(ledger, ROW, 42)
        assert (only(diary).label, only(diary).job_id) == ("Submitted", 42)
        for state, label in (
            ("queued", "Queued"),
            ("staging", "Staging"),
            ("state 1", "Processing"),
            ("Polishing", "Polishing"),
            ("completed", "Ready for Download"),
        ):
            diary.now += 60.0
            ledger.record_state(ROW, 42, state)
            assert (only(diary).label, only(diary).since) == (label, diary.now)
    row = only(diary)
    assert (row.obs_id, row.job_id, row.kind, row.line) == (OBS, 42, "visibilities", None)
    assert [step.label for step in row.steps[:4]] == [
        "Submitting",
        "Not submitted",
        "Submitting",
        "Submitted",
    ]
    assert row.is_pending and not row.is_failed and not row.is_complete


def test_a_complete_row_and_its_product(diary: Diary) -> None:
    with diary.run() as ledger:
        diary.submit(ledger, ROW, 42, "completed")
        diary.begin(ledger, ROW, 42)
        begun = diary.now
        diary.now += 50.0
        file = diary.finish(ledger, ROW, 42)
    row = only(diary)
    assert (row.label, row.size, row.here, row.note) == ("Download Complete", 1000, 1000, "")
    assert row.paths == (str(file.path),) and row.is_complete
    assert [(each.begun, each.ended, each.to_come) for each in row.downloads] == [(begun, begun + 50.0, 1000)]
    assert diary.status().size == 1000 and diary.status().states == {"Download Complete": 1}


@pytest.mark.parametrize("what", ["moved", "changed", "damaged"])
def test_what_has_become_of_a_product(diary: Diary, what: str) -> None:
    with diary.run() as ledger:
        diary.submit(ledger, ROW, 42, "completed")
        file = diary.finish(ledger, ROW, 42)
    if what == "moved":
        file.path.unlink()
        assert (only(diary).label, only(diary).here, only(diary).is_pending) == (MOVED_AWAY, 0, True)
    elif what == "changed":
        file.path.write_bytes(b"mine")
        assert only(diary).is_complete and "changed" in only(diary).note
    else:
        diary.path.write_text(diary.path.read_text().replace(file.sha1, "no SHA-1"))
        assert "cannot be read" in only(diary).note


def test_a_product_whose_command_is_not_done_is_shown_as_long_as_it_is_there(diary: Diary) -> None:
    with diary.run() as ledger:
        diary.submit(ledger, ROW, 42, "completed")
        diary.begin(ledger, ROW, 42)
        file = diary.finish(ledger, ROW, 42)
        ledger.record_waiting(ROW, 42)
    there = (str(file.path),), 1000, 1000
    row = only(diary)
    assert (row.label, row.is_pending) == ("Waiting for the command", True)
    assert (row.paths, row.size, row.here) == there and diary.status().size == 1000
    with diary.run() as ledger:
        ledger.record_command(ROW, 42, "product", "command", None)
    row = only(diary)
    assert (row.label, row.is_pending) == (COMMAND_INTERRUPTED, True)
    assert (row.paths, row.size, row.here) == there and diary.status().size == 1000
    with diary.run(later=60.0) as ledger:
        diary.fail(ledger, ROW, 42, "It broke.")
    row = only(diary)
    assert (row.label, row.note) == ("Error", "It broke.")
    assert (row.paths, row.size, row.here) == there and diary.status().size == 1000
    file.path.unlink()
    row = only(diary)
    assert (row.label, row.note, row.paths, row.here) == ("Error", "It broke.", (), 0)


def test_a_failed_row_says_why_until_something_happens_to_it(diary: Diary) -> None:
    with diary.run() as ledger:
        diary.submit(ledger, ROW, 42, "error")
        diary.fail(ledger, ROW, 42, "It broke.", "Ask.")
    row = only(diary)
    assert (row.label, row.note, row.remedy, row.is_failed) == ("Error", "It broke.", "Ask.", True)
    with diary.run(later=60.0) as ledger:
        ledger.record_job_given_up(ROW, is_asked_for=True)
        diary.submit(ledger, ROW, 43, "queued")
    row = only(diary)
    assert (row.label, row.job_id, row.note, row.remedy) == ("Queued", 43, "", "")


def test_a_download_that_a_kill_has_cut_off_is_over_when_the_next_run_downloads(diary: Diary) -> None:
    with diary.run() as ledger:
        diary.submit(ledger, ROW, 42, "completed")
        diary.begin(ledger, ROW, 42)
        diary.now += 30.0
        diary.submit(ledger, OTHER, 43, "queued")
        killed = diary.now
    assert [row.label for row in diary.status().rows] == [INTERRUPTED, "Queued"], "though nothing is here"
    (diary.state_dir / "42.tar.part").write_bytes(b"x" * 300)
    row = diary.status().rows[0]
    assert (row.label, row.here, row.size, row.is_pending) == (INTERRUPTED, 300, 1000, True)
    with diary.run(later=3600.0) as ledger:
        ledger.record_state(OTHER, 43, "completed")
        diary.begin(ledger, OTHER, 43)
        diary.now += 20.0
        diary.begin(ledger, ROW, 42)
    steps = diary.status().rows[0].steps
    assert [(step.label, step.at) for step in steps[-2:]] == [
        ("Ready for Download", killed),
        ("Downloading", diary.now),
    ]


def test_a_client_at_work_is_seen_and_left_alone(diary: Diary) -> None:
    clock = SystemClock()
    with directory_lock(diary.directory, diary.state_dir, clock, print), diary.run() as ledger:
        diary.now = clock.now()
        assert [owner.pid for owner in diary.status(row_text()).at_work] == [
            os.getpid()
        ]  # Before its first row.
        diary.submit(ledger, ROW, 42, "completed")
        diary.begin(ledger, ROW, 42)
        (diary.state_dir / "42.tar.part").write_bytes(b"x" * 300)
        before = sorted(path.name for path in diary.state_dir.iterdir())
        status = diary.status()
        assert [owner.pid for owner in status.at_work] == [os.getpid()]
        assert (status.rows[0].label, status.rows[0].here) == ("Downloading", 300)
        assert sorted(path.name for path in diary.state_dir.iterdir()) == before
    assert diary.status().at_work == ()


def test_a_killed_client_is_not_at_work(diary: Diary) -> None:
    with diary.run() as ledger:
        diary.submit(ledger, ROW, 42, "queued")
    code = (
        "import os, pathlib, sys\n"
        "from mwa_client.directory.lock import directory_lock\n"
        "from mwa_client.timing import SystemClock\n"
        "place = pathlib.Path(sys.argv[1])\n"
        "with directory_lock(place, place / '.mwa_client', SystemClock(), print): os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(diary.directory)], check=True)
    diary.now = SystemClock().now()
    assert (diary.state_dir / "lock").exists() and diary.status().at_work == ()


def test_the_rows_of_a_job_file_in_its_order_with_those_not_submitted_yet(diary: Diary) -> None:
    with diary.run() as ledger:
        for number in range(3):
            diary.submit(ledger, identity(OBS + 8 * number), 42 + number, "queued")
    status = diary.status("# mine\n" + row_text(OBS + 80) + row_text(OBS + 8))
    assert [(row.line, row.obs_id, row.job_id, row.label) for row in status.rows] == [
        (2, OBS + 80, None, "Not submitted"),
        (3, OBS + 8, 43, "Queued"),
    ]
    assert status.others == 2


def test_jobs_that_were_fetched_by_their_ids_have_no_observation(diary: Diary) -> None:
    with diary.run() as ledger:
        ledger.record_job("job 42", 42, is_listed=True)
    assert (only(diary).obs_id, only(diary).job_id, only(diary).kind) == (None, 42, "")


def test_several_ledgers_are_read_as_one(diary: Diary) -> None:
    with diary.run() as ledger:
        diary.submit(ledger, ROW, 42, "queued")
    diary.path.rename(diary.path.with_name("ledger.part-1-of-2.jsonl"))
    with diary.run(later=60.0) as ledger:
        ledger.record_state(ROW, 42, "staging")
    assert [step.label for step in only(diary).steps] == ["Submitting", "Submitted", "Queued", "Staging"]


# --- Directories in which something is wrong ----------------------------------------------------------


def test_a_torn_ledger_tells_what_can_be_read(diary: Diary) -> None:
    with diary.run() as ledger:
        diary.submit(ledger, ROW, 42, "queued")
    with diary.path.open("ab") as file:
        file.write(b"\xff\x00 rubbish\n[1]\n" + b'{"time": "2027-01-15T09:00:00Z", "serv')
    status = diary.status()
    assert [row.label for row in status.rows] == ["Queued"] and status.damaged == 3


@pytest.mark.parametrize(
    "wrong",
    ['"time": 7', '"time": "never"', '"row": 5', '"job_id": "x"', '"state": null', '"event": []',
     '"event": "downloading", "files": [7, {"name": 5, "size": -1}], "to_come": "x"',
     '"event": "complete", "job_id": true', '"service": null'],
)  # fmt: skip
def test_entries_that_make_no_sense_break_nothing(diary: Diary, wrong: str) -> None:
    with diary.run() as ledger:
        diary.submit(ledger, ROW, 42, "queued")
    with diary.path.open("a") as file:
        about = f'"event": "state", "row": "{ROW}", "service": "service.example"'
        file.write(f'{{"time": "2027-01-15T09:00:00Z", {about}, {wrong}}}\n')
    assert diary.status().rows[0].obs_id == OBS


def test_a_clock_that_was_set_back_makes_no_state_shorter_than_nothing(diary: Diary) -> None:
    with diary.run() as ledger:
        diary.submit(ledger, ROW, 42, "queued")
        diary.now -= 3600.0
        ledger.record_state(ROW, 42, "staging")
    times = [step.at for step in only(diary).steps]
    assert times == sorted(times)


def test_a_directory_where_nothing_was_done(diary: Diary) -> None:
    with pytest.raises(DirectoryUnusable, match="There is no directory"):
        diary.status()
    diary.directory.mkdir()
    assert diary.status().rows == () and list(diary.directory.iterdir()) == []
    assert [row.label for row in diary.status(row_text()).rows] == ["Not submitted"]
    diary.state_dir.mkdir()  # Its ledger was removed.
    assert diary.status().rows == () and list(diary.state_dir.iterdir()) == []


@pytest.mark.parametrize("what", ["link", "file", "writable", "ledger is a link", "ledger is a fifo"])
def test_what_is_not_ours_is_not_read(diary: Diary, tmp_path: Path, what: str) -> None:
    with diary.run() as ledger:
        diary.submit(ledger, ROW, 42, "queued")
    if what == "link":
        diary.state_dir.rename(tmp_path / "elsewhere")
        diary.state_dir.symlink_to(tmp_path / "elsewhere")
    elif what == "file":
        diary.state_dir.rename(tmp_path / "elsewhere")
        diary.state_dir.write_text("mine")
    elif what == "writable":
        diary.state_dir.chmod(0o777)
    else:
        diary.path.rename(tmp_path / "elsewhere")
        os.mkfifo(diary.path) if "fifo" in what else diary.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DirectoryUnusable, match="Cannot use"):
        diary.status()


ODD_TIMES = (
    "2027-01-15T08:59:60Z", "2027-13-15T08:00:00Z", "2027-01-15T24:00:00Z", "2027-01-15T08:00:00",
    "2027W01T08+05:30:00Z", "2027-01-15T08:00:00+01:00", "2027-01-15 08:00:00Z", "0001-01-01T00:00:00Z", "",
)  # fmt: skip


@pytest.mark.parametrize("text", ["2027-01-15T08:07:15Z", *ODD_TIMES])
def test_the_time_of_an_entry_is_what_its_text_says(text: str) -> None:
    assert entry_time({"time": text}) == read_time(text)
