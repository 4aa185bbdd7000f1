"""What the download directory remembers, and what it makes of a memory that is damaged."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from shared import THREE_ROWS, FastClock, longest_file, run_batch, service_of

from mwa_client.batch.ledger import PRACTICE, STATE_DIR, Ledger
from mwa_client.batch.records import FetchedProduct, RowRecord
from mwa_client.directory import json_files
from mwa_client.errors import DirectoryUnusable, DiskFull, ExitStatus, JobFailed
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import KINDS, JobType, Sandbox
from mwa_client.sandbox.fault_kinds import FaultKind, Point
from mwa_client.sandbox.messages import Call, Reply
from mwa_client.transfer.files import ExpectedFile, FetchedFile

SERVICE = "service.example:8778"
ROW = "job_type=d obs_id=1191828528"


def finish(ledger: Ledger, row: str, job_id: int, files: Iterable[FetchedFile]) -> None:
    ledger.record_complete(row, job_id, FetchedProduct(tuple(files)))


def files_of(ledger: Ledger, row: str) -> tuple[FetchedFile, ...]:
    fetched = ledger.fetched(row, ledger.row(row).job_id)
    return () if fetched is None else fetched.files


ONE_ROW = "obs_id=1191828528, job_type=d, download_type=vis"


def path_of(directory: Path) -> Path:
    return directory / STATE_DIR / "ledger.jsonl"


def entries(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path_of(directory).read_text().splitlines()]


@dataclass
class Book:
    """A ledger that is opened for each thing that is done with it, as by one run after the other."""

    directory: Path
    service: str = SERVICE
    now: float = 1.8e9

    @contextmanager
    def opened(self) -> Iterator[Ledger]:
        with closing(Ledger(self.directory, self.service, now=lambda: self.now)) as ledger:
            yield ledger

    def row(self, identity: str = ROW) -> RowRecord:
        with self.opened() as ledger:
            return ledger.row(identity)

    def claim(self, name: str, job_id: int) -> str:
        with self.opened() as ledger:
            return ledger.place.names.claim(name, job_id)

    def file(self, name: str, content: bytes, *, verified: bool = True) -> FetchedFile:
        path = self.directory / name
        path.write_bytes(content)
        return FetchedFile(path, len(content), hashlib.sha1(content).hexdigest(), verified)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path / "data")


def check_sums(directory: Path) -> subprocess.CompletedProcess[str]:
    """What the real program says of SHA1SUMS."""
    return subprocess.run(
        ["sha1sum", "--check", "--strict", "SHA1SUMS"],
        cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip


# --- Rows and jobs ------------------------------------------------------------------------------------


def test_a_row_and_its_job_are_remembered(book: Book) -> None:
    assert book.row() == RowRecord()
    with book.opened() as ledger:
        ledger.record_intent(ROW, after=41)
    assert book.row() == RowRecord(intended_after=41, intended_at=1.8e9, tries=1)
    book.now += 60.0
    with book.opened() as ledger:
        ledger.record_intent(ROW, after=43)  # A second try of the same submission.
    assert book.row() == RowRecord(intended_after=41, intended_at=1.8e9 + 60.0, tries=2)
    with book.opened() as ledger:
        ledger.record_job(ROW, 42)
    assert book.row() == RowRecord(job_id=42)
    with book.opened() as ledger:
        ledger.record_state(ROW, 42, "state 1")
        assert ledger.row("another row") == RowRecord()
    assert book.row() == RowRecord(job_id=42, state="state 1")
    with book.opened() as ledger:
        ledger.record_job_given_up(ROW)
    assert book.row() == RowRecord()
    assert [entry["event"] for entry in entries(book.directory)] == [
        "intent",
        "intent",
        "job",
        "state",
        "job",
    ]


def test_what_is_known_is_not_written_again(book: Book) -> None:
    for _ in range(3):
        with book.opened() as ledger:
            ledger.record_job(ROW, 42)
            ledger.record_state(ROW, 42, "state 1")
            assert ledger.place.names.claim("a.zip", 42) == "a.zip"
    assert [entry["event"] for entry in entries(book.directory)] == ["job", "state", "name"]


def test_the_intent_is_on_disk_before_the_submission(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []

    def look(reply: Reply) -> Reply:
        """Look at what the ledger says while the service takes a submission."""
        rows = {entry["row"] for entry in entries(tmp_path) if entry["event"] == "intent"}
        seen.append(rows)
        return reply

    monkeypatch.setitem(KINDS, "look", FaultKind("look", Point.REPLY, frozenset({Call.SUBMIT}), look))
    sandbox.faults.add("look")
    run_batch(sandbox, tmp_path, clock)
    rows = {job.identity for job in parse(THREE_ROWS, ApiVersion.V2018).jobs}
    # Each before its own, so all of them before the last.
    assert len(seen) == 3 and all(before for before in seen) and seen[-1] == rows


def test_rows_keep_their_jobs_wherever_they_stand(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    first = run_batch(sandbox, tmp_path, clock)
    jobs = {row.row.obs_id: row.row.job_id for row in first.summary.complete if row.row.line != 2}
    sandbox.reset_log()
    moved = (
        "# the same rows, in another order and hand\n\n"
        "download_type=vis_meta , job_type=d,obs_id=1191828528,\r\n"
        "conversion=ms, edgewidth=80, freqres=020, timeres=20, job_type=c, obs_id=1191828584\n"
    )
    run = run_batch(sandbox, tmp_path, clock, moved)
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert [row.row.line for row in run.summary.complete] == [3, 4]
    assert {row.row.obs_id: row.row.job_id for row in run.summary.complete} == jobs
    assert sandbox.requests == []
    added = run_batch(sandbox, tmp_path, clock, moved + THREE_ROWS)
    assert added.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 3


def test_what_another_service_has_done_does_not_count(book: Book) -> None:
    other = Book(book.directory, "elsewhere.example")
    with other.opened() as ledger:
        ledger.record_job(ROW, 42)
        assert ledger.place.names.claim("a.zip", 42) == "a.zip"
        finish(ledger, ROW, 42, [other.file("a.zip", b"their bytes")])
    assert book.row() == RowRecord()
    with book.opened() as ledger:
        assert files_of(ledger, ROW) == ()
        # But its files stand there: job 42 here is another job.
        assert ledger.place.names.claim("a.zip", 42) == "42_a.zip"
        finish(ledger, ROW, 42, [book.file("42_a.zip", b"our bytes")])
    with other.opened() as ledger:
        assert [file.path.name for file in files_of(ledger, ROW)] == ["a.zip"]
    done = check_sums(book.directory)
    assert done.returncode == 0 and done.stdout.splitlines() == ["a.zip: OK", "42_a.zip: OK"]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [(PRACTICE, SERVICE, "practice in the sandbox"), (SERVICE, PRACTICE, "real products")],
)
def test_practice_and_the_real_thing_are_kept_apart(
    tmp_path: Path, first: str, second: str, words: str
) -> None:
    with Book(tmp_path, first).opened() as ledger:
        ledger.record_job(ROW, 1)
    with pytest.raises(DirectoryUnusable, match=words):
        Ledger(tmp_path, second)
    assert Book(tmp_path, first).row().job_id == 1
    # An empty memory is anybody's.
    Ledger(tmp_path / "new", first).close()
    Ledger(tmp_path / "new", second).close()


def test_a_directory_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DirectoryUnusable, match="file"):
        Ledger(tmp_path / "file", SERVICE)
    (tmp_path / "data" / STATE_DIR / "ledger.jsonl").mkdir(parents=True)
    with pytest.raises(DirectoryUnusable, match=r"ledger\.jsonl|data"):
        Ledger(tmp_path / "data", SERVICE)


# --- Damage -------------------------------------------------------------------------------------------


def test_a_ledger_that_was_removed_meanwhile_is_no_place_to_write_into(book: Book) -> None:
    with book.opened() as ledger:
        ledger.record_job(ROW, 1)
        ledger.place.state_dir.joinpath("ledger.jsonl").unlink()
        with pytest.raises(DirectoryUnusable, match=r"ledger\.jsonl has been removed meanwhile"):
            ledger.record_job(ROW, 2)


def test_a_torn_last_line_costs_that_line_alone(book: Book) -> None:
    with book.opened() as ledger:
        ledger.record_job("first", 1)
        ledger.record_job("second", 2)
    whole = path_of(book.directory).read_bytes()
    start = whole.index(b"\n") + 1
    for length in range(start, len(whole) - 1):
        path_of(book.directory).write_bytes(whole[:length])
        with book.opened() as ledger:
            assert ledger.row("first").job_id == 1 and ledger.row("second").job_id is None
            ledger.record_job("third", 3)
        assert book.row("first").job_id == 1 and book.row("third").job_id == 3
    # Only the end of the line is missing: then nothing is.
    path_of(book.directory).write_bytes(whole[:-1])
    assert book.row("second").job_id == 2


def test_lines_without_sense_are_passed_over(book: Book) -> None:
    with book.opened() as ledger:
        ledger.record_job(ROW, 42)
    junk = [
        b"\x00" * 512,
        b"\xff\xfe\x80",
        b"",
        b"{",
        b"[1, 2]",
        b"null",
        b"42",
        b'"job"',
        b"{}",
        b"[" * 100_000,
        json.dumps({"service": SERVICE, "event": "job", "row": ["a"], "job_id": 7}).encode(),
        json.dumps({"service": SERVICE, "event": "job", "row": None}).encode(),
        json.dumps({"service": SERVICE, "event": "name", "name": 7, "job_id": "x"}).encode(),
        json.dumps({"service": ["?"], "event": {"a": 1}, "row": ROW, "job_id": 7}).encode(),
    ]
    with path_of(book.directory).open("ab") as file:
        file.write(b"\n".join(junk) + b"\n")
    assert book.row() == RowRecord(job_id=42)


def test_what_a_later_version_writes_does_no_harm(book: Book) -> None:
    with book.opened() as ledger:
        ledger.record_job(ROW, 42)
        finish(ledger, ROW, 42, [book.file("a.zip", b"bytes")])
    changed = [{**entry, "version": 9, "more": {"deep": [1]}} for entry in entries(book.directory)]
    for file in changed[-1]["files"]:
        file["blake3"] = "abc"
    changed.append({"service": SERVICE, "event": "archived", "row": ROW, "job_id": 43})
    path_of(book.directory).write_text("".join(json.dumps(entry) + "\n" for entry in changed))
    with book.opened() as ledger:
        assert ledger.row(ROW).job_id == 42
        assert [file.path.name for file in files_of(ledger, ROW)] == ["a.zip"]


@pytest.mark.parametrize(
    "files",
    [
        None,
        [],
        "a.zip",
        [None],
        ["a.zip"],
        [{"name": "a.zip", "size": 5, "sha1": "0" * 40}],
        [{"name": "a.zip", "size": "many", "sha1": "0" * 40, "verified": True}],
        [{"name": "a.zip", "size": float("inf"), "sha1": "0" * 40, "verified": True}],
        [{"name": "a.zip", "size": 5, "sha1": "0" * 40, "verified": True}, {"name": "b.zip"}],
    ],
)
def test_a_row_is_complete_only_where_every_file_can_be_read(book: Book, files: Any) -> None:
    book.directory.mkdir()
    book.file("a.zip", b"bytes")
    with book.opened() as ledger:
        ledger.record_job(ROW, 42)
    entry = {"service": SERVICE, "event": "complete", "row": ROW, "job_id": 42, "files": files}
    with path_of(book.directory).open("a") as file:
        file.write(json.dumps(entry) + "\n")
    with book.opened() as ledger:
        assert files_of(ledger, ROW) == () and ledger.row(ROW).job_id == 42


def test_an_intent_of_an_earlier_version_counts_as_one(book: Book) -> None:
    path_of(book.directory).parent.mkdir(parents=True)
    path_of(book.directory).write_text(json.dumps({"service": SERVICE, "event": "intent", "row": ROW}))
    assert book.row() == RowRecord(intended_after=0, tries=1)


def test_a_line_that_did_not_fit_spoils_no_other(book: Book) -> None:
    with book.opened() as ledger:
        ledger.record_job("first", 1)
        before = path_of(book.directory).stat().st_size
        with longest_file(before + 20), pytest.raises(DiskFull):
            ledger.record_job("second", 2)
        assert path_of(book.directory).stat().st_size == before + 20, "half of it was written"
        assert ledger.row("second").job_id is None, "what is not on disk is not known"
        ledger.record_job("third", 3)
    assert (book.row("first").job_id, book.row("third").job_id) == (1, 3)


def test_after_the_run_nothing_is_written_any_more(book: Book, tmp_path: Path) -> None:
    """A worker may come to its end later, and another file may have the descriptor by then."""
    with book.opened() as ledger:
        ledger.record_job("first", 1)
    before = path_of(book.directory).read_bytes()
    with (tmp_path / "thesis.tex").open("ab+") as file, pytest.raises(DirectoryUnusable, match="is over"):
        ledger.place.names.placing(book.directory, 1, [book.file("a.zip", b"a")])
    assert Path(file.name).read_bytes() == b"" and path_of(book.directory).read_bytes() == before


# --- Names --------------------------------------------------------------------------------------------


def test_a_name_belongs_to_one_job(book: Book) -> None:
    assert book.claim("a.zip", 1) == "a.zip"
    assert book.claim("a.zip", 2) == "2_a.zip"
    assert book.claim("A.ZIP", 3) == "3_A.ZIP", "some file systems cannot tell them apart"
    assert book.claim("4_a.zip", 1) == "4_a.zip"
    assert book.claim("a.zip", 4) == "4_2_a.zip"
    for _ in range(2):  # In every later run as well.
        names = [book.claim("a.zip", job_id) for job_id in (4, 2, 1)]
        assert names == ["4_2_a.zip", "2_a.zip", "a.zip"]


def test_the_name_of_a_job_that_is_of_no_use_is_free(book: Book) -> None:
    with book.opened() as ledger:
        ledger.record_job(ROW, 1)
    assert book.claim("a.zip", 1) == "a.zip"
    with book.opened() as ledger:
        ledger.record_job_given_up(ROW)
        assert ledger.place.names.claim("a.zip", 2) == "a.zip"
    assert book.claim("a.zip", 1) == "1_a.zip"


# --- Files --------------------------------------------------------------------------------------------


def test_what_a_row_has_brought_is_remembered_with_its_times(book: Book) -> None:
    book.directory.mkdir()
    files = (book.file("a.zip", b"bytes"), book.file("b.zip", b"more bytes", verified=False))
    files = (replace(files[0], mtime_ns=files[0].path.stat().st_mtime_ns), files[1])
    with book.opened() as ledger:
        finish(ledger, ROW, 42, files)
        assert files_of(ledger, ROW) == files
        assert ledger.fetched(ROW, 43) is None, "another job has brought nothing yet"
    with book.opened() as ledger:
        assert files_of(ledger, ROW) == files
        assert ledger.row(ROW).completed_at == book.now
        assert ledger.place.names.made("a.zip") == files[:1]


def test_sha1sums_is_true(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    sandbox.faults.add("hostile_name", name="a name  with *blanks and ümlaut.zip", obs_id=1191828528)
    run_batch(sandbox, tmp_path, clock)
    done = check_sums(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == 3
    lines = (tmp_path / "SHA1SUMS").read_bytes()
    (tmp_path / "1191828584_vis.zip").unlink()
    run_batch(sandbox, tmp_path, clock)
    assert (tmp_path / "SHA1SUMS").read_bytes() == lines and check_sums(tmp_path).returncode == 0


def test_lines_of_others_in_sha1sums_stay(book: Book) -> None:
    book.directory.mkdir()
    sums = book.directory / "SHA1SUMS"
    mine = hashlib.sha1(b"my own").hexdigest()
    (book.directory / "mine.dat").write_bytes(b"my own")
    foreign = [
        f"{mine}  mine.dat".encode(),
        f"{mine} *mine.dat".encode(),
        b"# checked by hand \xe4\xff",
        b"a line with a \x0c form feed and a \xe2\x80\xa8 separator",
        f"SHA1 (mine.dat) = {mine}".encode(),
    ]
    stale = b"0" * 40 + b"  a.zip"
    sums.write_bytes(b"\n".join([*foreign, stale]))  # No line end at the end.
    with book.opened() as ledger:
        finish(ledger, ROW, 42, [book.file("b.zip", b"other bytes")])
        finish(ledger, "another", 43, [book.file("a.zip", b"bytes")])
        finish(ledger, ROW, 42, [book.file("b.zip", b"other bytes")])
    lines = sums.read_bytes().split(b"\n")
    assert lines == [
        *foreign,
        f"{hashlib.sha1(b'bytes').hexdigest()}  a.zip".encode(),
        f"{hashlib.sha1(b'other bytes').hexdigest()}  b.zip".encode(),
        b"",
    ]
    done = subprocess.run(
        ["sha1sum", "--check", "SHA1SUMS"],
        cwd=book.directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["mine.dat: OK"] * 2 + ["mine.dat: OK", "a.zip: OK", "b.zip: OK"]


def test_sha1sums_forgets_a_product_that_had_to_be_made_anew(book: Book) -> None:
    book.directory.mkdir()
    with book.opened() as ledger:
        ledger.record_job(ROW, 1)
        finish(ledger, ROW, 1, [book.file("1_vis.tar", b"bytes")])
    (book.directory / "1_vis.tar").unlink()
    with book.opened() as ledger:
        ledger.record_job_given_up(ROW)
        ledger.record_job(ROW, 2)
        finish(ledger, ROW, 2, [book.file("2_vis.tar", b"bytes")])
    done = check_sums(book.directory)
    assert done.returncode == 0 and done.stdout == "2_vis.tar: OK\n"


def test_files_that_are_not_verified_are_not_in_sha1sums(book: Book) -> None:
    book.directory.mkdir()
    with book.opened() as ledger:
        finish(ledger, ROW, 1, [book.file("a.zip", b"bytes", verified=False)])
    assert "a.zip" not in (book.directory / "SHA1SUMS").read_text()


def test_a_row_is_not_complete_before_sha1sums_says_so(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    # The run ends when SHA1SUMS is written, as by a crash there.
    draft = tmp_path / STATE_DIR / "SHA1SUMS.new"
    draft.mkdir(parents=True)
    with pytest.raises(DirectoryUnusable):
        run_batch(sandbox, tmp_path, clock, ONE_ROW)
    draft.rmdir()
    run = run_batch(sandbox, tmp_path, clock, ONE_ROW)
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert check_sums(tmp_path).stdout.count(": OK") == 1 and len(sandbox.jobs) == 1


def test_a_product_that_the_ledger_missed_is_not_fetched_again(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    run_batch(sandbox, tmp_path, clock)
    kept = [entry for entry in entries(tmp_path) if entry["event"] != "complete"]
    path_of(tmp_path).write_text("".join(json.dumps(entry) + "\n" for entry in kept))
    sandbox.reset_log()
    run = run_batch(sandbox, tmp_path, clock)
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert {request.path for request in sandbox.requests} == {"/api/login", "/api/get_jobs"}
    assert len([entry for entry in entries(tmp_path) if entry["event"] == "complete"]) == 3


def test_a_lost_ledger_makes_no_job_twice(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    run_batch(sandbox, tmp_path, clock)
    path_of(tmp_path).unlink()
    sandbox.reset_log()
    run = run_batch(sandbox, tmp_path, clock)
    assert run.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 3
    assert not [request for request in sandbox.requests if request.path == "/api/download"]


def test_no_file_holds_a_credential(clock: FastClock, tmp_path: Path) -> None:
    password = "correct-horse-battery"
    with Sandbox(clock=clock.now, password=password, product_size=lambda job: 5000) as sandbox:
        sandbox.service.add({"obs_id": "1191828584", "download_type": "vis"}, JobType.VISIBILITIES)
        sandbox.faults.add("drop_reply", times=1)
        sandbox.faults.add("expire_session", times=1, skip=4)
        sandbox.faults.add("product_status", status=403, obs_id=1191828584)
        run_batch(sandbox, tmp_path, clock, service=service_of(sandbox, password=password))
        secrets = [password, *sandbox.service.sessions]
    assert len(secrets) == 2
    files = [Path(folder) / name for folder, _, names in os.walk(tmp_path) for name in names]
    assert len(files) >= 3
    for file in files:
        content = file.read_bytes()
        assert not any(secret.encode() in content or secret in file.name for secret in secrets)


# --- Many lines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "\n", '\n{"torn', "\n\n\n"])
@pytest.mark.parametrize("block", [7, 64, 1000, 1 << 17])
def test_a_ledger_is_read_the_same_in_pieces_of_any_size(
    book: Book, monkeypatch: pytest.MonkeyPatch, block: int, end: str
) -> None:
    monkeypatch.setattr(json_files, "BLOCK_SIZE", block)
    path_of(book.directory).parent.mkdir(parents=True)
    lines = []
    for number in range(40):
        entry = {"service": SERVICE, "event": "job", "row": f"row {number} ä\u2028", "job_id": number}
        lines.append(json.dumps(entry, ensure_ascii=number % 2 == 0))
        # Two that make no sense alone, and would in a list with the others.
        lines += ['{"a": [1', "2]}", '{"b": 1}, {"c": 2}'] if number == 20 else []
    path_of(book.directory).write_text("\n".join(lines) + end, encoding="utf-8")
    with book.opened() as ledger:
        assert [ledger.row(f"row {number} ä\u2028").job_id for number in range(40)] == list(range(40))


def test_sha1sums_grows_by_a_line_for_each_product(book: Book) -> None:
    book.directory.mkdir()
    (book.directory / "mine.dat").write_bytes(b"my own")
    path, files = book.directory / "SHA1SUMS", []
    with book.opened() as ledger:
        for number in range(20):
            finish(ledger, f"row {number}", number, [book.file(f"{number}.zip", b"bytes %d" % number)])
            files.append(path.stat().st_ino)
            if number == 10:
                with path.open("a") as file:  # The user adds a line meanwhile.
                    file.write(f"{hashlib.sha1(b'my own').hexdigest()}  mine.dat\n")
    changes = [number for number in range(1, 20) if files[number] != files[number - 1]]
    assert changes == [11], "written anew only after somebody else's change"
    done = check_sums(book.directory)
    assert done.returncode == 0 and done.stdout.count(": OK") == 21


@pytest.mark.parametrize("kept", [1, 30, 45, 47])
def test_a_line_of_sha1sums_that_a_crash_cut_off_is_made_whole(book: Book, kept: int) -> None:
    book.directory.mkdir()
    with book.opened() as ledger:
        finish(ledger, "first", 1, [book.file("a.zip", b"bytes")])
        finish(ledger, "second", 2, [book.file("b.zip", b"more bytes")])
    path = book.directory / "SHA1SUMS"
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[: first + kept])
    with book.opened() as ledger:
        finish(ledger, "second", 2, [book.file("b.zip", b"more bytes")])
    assert path.read_bytes() == whole


# --- What is only for people --------------------------------------------------------------------------


def test_why_a_row_failed_is_written_down_once_until_something_happens_to_it(book: Book) -> None:
    error = JobFailed("It broke.", "Ask.")
    for _ in range(3):  # As by a crontab.
        with book.opened() as ledger:
            ledger.record_job(ROW, 42)
            ledger.record_state(ROW, 42, "error")
            ledger.record_failed(ROW, 42, error)
    with book.opened() as ledger:
        ledger.record_downloading(ROW, 42, [ExpectedFile(42, "a.tar", 5, None)], to_come=5)
        ledger.record_failed(ROW, 42, error)
    told = [{**entry, "time": "", "service": ""} for entry in entries(book.directory)]
    failed = {"time": "", "service": "", "event": "failed", "row": ROW, "job_id": 42,
              "message": "It broke.", "remedy": "Ask."}  # fmt: skip
    assert told[2:] == [failed, {
        "time": "", "service": "", "event": "downloading", "row": ROW, "job_id": 42,
        "files": [{"name": "a.tar", "size": 5}], "to_come": 5, "run": "2027-01-15T08:00:00Z",
    }, failed]  # fmt: skip
    assert book.row() == RowRecord(job_id=42, state="error")


def test_a_full_disk_keeps_nobody_from_failing(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    with book.opened() as ledger:
        monkeypatch.setattr(os, "write", full_disk)
        ledger.record_failed(ROW, 42, JobFailed("It broke."))
        with pytest.raises(DiskFull):
            ledger.record_job(ROW, 42)


def full_disk(handle: int, data: bytes) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")
