"""Parts of one batch in one directory, whose ledgers, names and checksums are shared."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared import FastClock, notices, products, run_batch, together, vis

from mwa_client.batch.ledger import STATE_DIR, Ledger
from mwa_client.batch.records import FetchedProduct
from mwa_client.directory.part import Part
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Sandbox
from mwa_client.transfer.files import ExpectedFile, FetchedFile, FinalNames
from mwa_client.transfer.part_file import open_part

OBS = 1191828528
SERVICE = "service.example"
EIGHT = vis(*range(OBS, OBS + 8))


def row_of(obs_id: int) -> str:
    return f"job_type=d obs_id={obs_id}"


def part(number: int, of: int, *, observations: int = 8) -> Part:
    return Part(number, of, frozenset(range(OBS, OBS + observations)[number - 1 :: of]))


@contextmanager
def opened(directory: Path, mine: Part | None = None, now: float = 1.8e9) -> Iterator[Ledger]:
    with closing(Ledger(directory, SERVICE, now=lambda: now, part=mine)) as ledger:
        yield ledger


def ledgers(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (directory / STATE_DIR).glob("ledger*.jsonl")}


def sums_are_right(directory: Path) -> int:
    """How many products ``SHA1SUMS`` vouches for; none of them may be wrong or missing."""
    told = subprocess.run(
        ["sha1sum", "-c", "--strict", "SHA1SUMS"], cwd=directory, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout.count(": OK")


# --- Ledgers ------------------------------------------------------------------------------------------

OneRun = tuple[Optional[tuple[int, int]], float, list[tuple[int, str]]]
run = st.tuples(
    st.sampled_from([None, (1, 2), (2, 2), (1, 3), (2, 3), (3, 3)]),
    st.floats(1e9, 2e9),  # No two hosts agree on the time.
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["job", "intent", "refused", "given up", "state"])),
        max_size=5,
    ),
)


@settings(deadline=None, max_examples=30)
@given(st.lists(run, max_size=8))
def test_the_later_line_counts_whatever_the_clocks_say(runs: list[OneRun]) -> None:
    """One client after the other, alone or as a part, is as one ledger with all their lines."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as single:
        job_id = 100
        for who, now, events in runs:
            mine = None if who is None else part(*who, observations=6)
            with opened(Path(folder), mine, now) as ledger, opened(Path(single)) as right:
                for place, event in events:
                    obs_id, job_id = OBS + place, job_id + 1
                    if mine is None or obs_id in mine.observations:
                        for each in (ledger, right):
                            happen(each, row_of(obs_id), event, job_id)
        with opened(Path(folder)) as ledger, opened(Path(single)) as right:
            for place in range(6):
                known, expected = ledger.row(row_of(OBS + place)), right.row(row_of(OBS + place))
                assert (known.job_id, known.state, known.tries) == (
                    expected.job_id, expected.state, expected.tries,
                )  # fmt: skip
            assert ledger.jobs_given_up() == right.jobs_given_up()


def happen(ledger: Ledger, row: str, event: str, job_id: int) -> None:
    if event == "job":
        ledger.record_job(row, job_id)
    elif event == "intent":
        ledger.record_intent(row, after=1)
    elif event == "refused":
        ledger.record_refused(row)
    elif event == "given up":
        ledger.record_job_given_up(row)
    elif event == "state" and ledger.row(row).job_id is not None:
        ledger.record_state(row, ledger.row(row).job_id or 0, f"state {job_id}")


def test_a_directory_without_parts_has_the_ledger_that_it_had(tmp_path: Path) -> None:
    for job_id in (1, 2):
        with opened(tmp_path) as ledger:
            ledger.record_job(row_of(OBS), job_id)
    assert list(ledgers(tmp_path)) == ["ledger.jsonl"]
    assert '"turn"' not in ledgers(tmp_path)["ledger.jsonl"]


def test_a_part_that_does_nothing_writes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.record_job(row_of(OBS), 1)
    with opened(tmp_path, part(1, 2)) as ledger:
        assert ledger.row(row_of(OBS)).job_id == 1
    assert list(ledgers(tmp_path)) == ["ledger.jsonl"]


@pytest.mark.parametrize("turn", ['"x"', "null", "-5", "1e400", "true", "[1]"])
def test_a_heading_that_makes_no_sense_does_no_harm(tmp_path: Path, turn: str) -> None:
    with opened(tmp_path, part(1, 2)) as ledger:
        ledger.record_job(row_of(OBS), 1)
    path = tmp_path / STATE_DIR / "ledger.part-1-of-2.jsonl"
    path.write_text(f'{{"event": "turn", "turn": {turn}}}\n{path.read_text()}')
    with opened(tmp_path, part(1, 3)) as ledger:
        assert ledger.row(row_of(OBS)).job_id == 1
        ledger.record_job(row_of(OBS), 2)
    with opened(tmp_path) as ledger:
        assert ledger.row(row_of(OBS)).job_id == 2


def test_a_torn_line_of_another_part_is_skipped(tmp_path: Path) -> None:
    with opened(tmp_path, part(1, 2)) as ledger:
        ledger.record_job(row_of(OBS), 1)
        ledger.record_job(row_of(OBS + 2), 2)
    path = tmp_path / STATE_DIR / "ledger.part-1-of-2.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    with opened(tmp_path, part(1, 3)) as ledger:
        assert ledger.row(row_of(OBS)).job_id == 1 and ledger.row(row_of(OBS + 2)).job_id is None


# --- Batches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ApiVersion)
def test_four_parts_then_three_then_all(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    """The first four are cut off at different stages of their work."""
    for number, options in enumerate([{}, {"only_submit": True}, {"once": True}], start=1):
        run_batch(sandbox, tmp_path, clock, EIGHT, api=api, share=f"{number}/4", **options)  # type: ignore[arg-type]
    assert len(sandbox.jobs) == 6
    clock.advance(3600.0)
    ends = [run_batch(sandbox, tmp_path, clock, EIGHT, api=api, share=f"{each}/3") for each in (0, 1, 2)]
    assert [end.summary.exit_status for end in ends] == [0, 0, 0]
    assert sum(len(end.summary.complete) for end in ends) == 8
    assert Counter(job.obs_id for job in sandbox.jobs) == {str(OBS + each): 1 for each in range(8)}
    assert len(products(tmp_path)) == 8 == sums_are_right(tmp_path)
    asked_before = len(sandbox.requests)
    everything = run_batch(sandbox, tmp_path, clock, EIGHT, api=api)
    assert len(everything.summary.complete) == 8 and len(sandbox.requests) == asked_before
    assert len(products(tmp_path)) == 8 == sums_are_right(tmp_path)


def test_a_lost_answer_is_looked_for_by_the_part_that_has_the_row_now(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    sandbox.faults.add("drop_reply", times=2)
    first = run_batch(sandbox, tmp_path, clock, EIGHT, share="1/4", once=True)
    assert len(first.summary.pending) == 2 and len(sandbox.jobs) == 2, "made, and the client does not know"
    for number in (1, 2, 3):
        run = run_batch(sandbox, tmp_path, clock, EIGHT, share=f"{number}/3")
        assert run.summary.exit_status == 0
    assert len(sandbox.jobs) == 8


def test_a_part_of_no_rows_is_done(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), share="2/2")
    assert run.summary.exit_status == 0 and len(sandbox.requests) == 0


# --- Names --------------------------------------------------------------------------------------------


def test_products_that_two_parts_would_give_one_name(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    """They cannot ask each other, so each puts its job's number before it, even where the name is free."""
    sandbox.faults.add("hostile_name", name="product.tar")
    for number in (1, 2):
        assert run_batch(sandbox, tmp_path, clock, EIGHT, share=f"{number}/2").summary.exit_status == 0
    assert products(tmp_path) == {f"{job.id}_product.tar" for job in sandbox.jobs}
    assert sums_are_right(tmp_path) == 8


@pytest.mark.parametrize(
    ("name", "given_name"),
    [
        ("1191828528_vis.zip", "1191828528_vis.zip"),
        ("1191828528.tar", "1191828528.tar"),
        ("42_ms.tar", "42_ms.tar"),
        ("11918285280_vis.zip", "42_11918285280_vis.zip"),  # Of another observation, as far as anybody knows.
        ("421_ms.tar", "42_421_ms.tar"),
        ("1191828536_vis.zip", "42_1191828536_vis.zip"),
        ("vis.zip", "42_vis.zip"),
    ],
)
def test_a_name_that_shows_neither_observation_nor_job(name: str, given_name: str) -> None:
    shared, alone = FinalNames("service", is_shared=True), FinalNames("service")
    assert shared.claim(name, 42, OBS) == given_name == shared.claim(name, 42, OBS)
    assert alone.claim(name, 42, OBS) == name


def test_a_name_that_a_client_alone_has_given_stays(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        assert ledger.place.names.claim("product.tar", 7, OBS) == "product.tar"
    for of in (2, 3):
        with opened(tmp_path, part(1, of)) as ledger:
            assert ledger.place.names.claim("product.tar", 7, OBS) == "product.tar"


# --- What a part leaves alone -------------------------------------------------------------------------


def test_a_part_removes_no_beginnings_of_another_part(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    """The other one may just be replacing what it has given up."""
    run_batch(sandbox, tmp_path, clock, EIGHT, only_submit=True)
    jobs = {int(job.obs_id): job for job in sandbox.jobs}
    for job in jobs.values():
        path = tmp_path / STATE_DIR / f"{job.file_name}.part"
        with open_part(
            path, ExpectedFile(job.id, job.file_name, job.size, job.sha1), threading.Event()
        ) as begun:
            begun.append(bytes(1000))
    with closing(Ledger(tmp_path, "practice.example", now=clock.now)) as ledger:
        for obs_id in jobs:
            ledger.record_job_given_up(row_of(obs_id))
    first = run_batch(sandbox, tmp_path, clock, EIGHT, share="1/4", only_submit=True)
    ours = {OBS, OBS + 4}
    assert len(notices(first, "Removed")) == 2
    left = {path.name for path in (tmp_path / STATE_DIR).glob("*.part")}
    assert left == {f"{job.file_name}.part" for obs_id, job in jobs.items() if obs_id not in ours}


# --- SHA1SUMS -----------------------------------------------------------------------------------------


def finish(ledger: Ledger, obs_id: int, job_id: int, data: bytes) -> None:
    """Put a product into the directory and record it, as a run does."""
    path = ledger.place.path / f"{obs_id}_{job_id}_vis.tar"
    path.write_bytes(data)
    file = FetchedFile(path, len(data), hashlib.sha1(data).hexdigest(), True)
    ledger.record_job(row_of(obs_id), job_id)
    ledger.record_complete(row_of(obs_id), job_id, FetchedProduct((file,)))


def test_parts_that_add_at_the_same_moment_lose_no_line(tmp_path: Path) -> None:
    (tmp_path / "SHA1SUMS").write_text(f"{hashlib.sha1(b'mine').hexdigest()}  my notes.txt\n")
    (tmp_path / "my notes.txt").write_bytes(b"mine")
    with ExitStack() as open_things:
        clients = [
            open_things.enter_context(opened(tmp_path, part(each, 4, observations=40)))
            for each in (1, 2, 3, 4)
        ]
        waiting = iter(clients)

        def work() -> None:
            ledger = next(waiting)
            assert ledger._part is not None
            for obs_id in sorted(ledger._part.observations):
                finish(ledger, obs_id, obs_id - OBS + 1, str(obs_id).encode())

        assert together(4, work) == []
    assert sums_are_right(tmp_path) == 41
    assert sorted(path.name for path in (tmp_path / STATE_DIR).iterdir()) == sorted(ledgers(tmp_path))


def test_what_another_part_has_fetched_anew_is_not_put_back(tmp_path: Path) -> None:
    """What a part has read of the others when it began may be out of date since."""
    with opened(tmp_path, part(2, 2)) as other:
        finish(other, OBS + 1, 7, b"old")
    with opened(tmp_path, part(1, 2)) as mine, opened(tmp_path, part(2, 2)) as other:
        (tmp_path / f"{OBS + 1}_7_vis.tar").unlink()
        finish(other, OBS + 1, 8, b"new")
        finish(mine, OBS, 1, b"ours")
        assert sums_are_right(tmp_path) == 2


def test_lines_that_were_there_come_back_after_somebody_removed_the_file(tmp_path: Path) -> None:
    with opened(tmp_path, part(1, 2)) as ledger:
        for place in (0, 2, 4):
            finish(ledger, OBS + place, 10 + place, b"ours")
            (tmp_path / "SHA1SUMS").unlink()
        finish(ledger, OBS + 6, 16, b"ours")
    assert sums_are_right(tmp_path) == 4


def test_what_another_part_has_fetched_again_under_the_same_name_stays(tmp_path: Path) -> None:
    with opened(tmp_path, part(2, 2)) as other:
        finish(other, OBS + 1, 7, b"old")
        finish(other, OBS + 1, 7, b"new")
    with opened(tmp_path, part(1, 2)) as mine:
        finish(mine, OBS, 1, b"ours")
    assert sums_are_right(tmp_path) == 2


@pytest.mark.parametrize(
    "torn", ["3a4f", hashlib.sha1(b"x").hexdigest(), f"{hashlib.sha1(b'x').hexdigest()}  1191828536_vi"]
)
def test_a_line_of_another_part_that_was_cut_off_is_dropped(tmp_path: Path, torn: str) -> None:
    (tmp_path / "SHA1SUMS").write_text(torn)
    with opened(tmp_path, part(1, 2)) as ledger:
        finish(ledger, OBS, 1, b"ours")
    assert sums_are_right(tmp_path) == 1 and "1191828536" not in (tmp_path / "SHA1SUMS").read_text()


def test_a_last_line_of_the_users_is_kept_without_an_end(tmp_path: Path) -> None:
    (tmp_path / "notes").write_bytes(b"mine")
    for line in (f"{hashlib.sha1(b'mine').hexdigest()}  notes", "# what I have checked"):
        (tmp_path / "SHA1SUMS").write_text(line)
        with opened(tmp_path, part(1, 2)) as ledger:
            finish(ledger, OBS, 1, b"ours")
        assert line in (tmp_path / "SHA1SUMS").read_text().splitlines()


def test_the_lines_of_the_ledgers_are_whole(tmp_path: Path) -> None:
    with opened(tmp_path, part(1, 2)) as ledger:
        together(4, lambda: ledger.record_unclear(row_of(OBS)))
    lines = ledgers(tmp_path)["ledger.part-1-of-2.jsonl"].splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["turn"] + ["unclear"] * 4
