"""A whole batch against the sandbox: every row to a verified file, or to a clear word why not."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from batch_runs import (
    ANEW,
    LISTING,
    OBS,
    OTHER,
    PRODUCT,
    SUBMISSION,
    PatientClock,
    assert_nothing_said_twice,
    assert_right,
    final_names,
    screen,
    sha1_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared import FastClock, asked, listed, run_batch, vis, wait_until

from mwa_client.batch.events import (
    Begun,
    Complete,
    Counts,
    Downloading,
    Notice,
    RowFailed,
    StateChanged,
    Submitted,
)
from mwa_client.batch.pacing import Pacing
from mwa_client.errors import ExitStatus
from mwa_client.sandbox import Sandbox


def test_three_rows_become_verified_files(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    run = run_batch(sandbox, tmp_path, clock)
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert len(run.summary.complete) == len(sandbox.jobs) == 3
    assert not run.summary.failed and not run.summary.pending and not run.summary.unverified
    assert all(file.verified for row in run.summary.complete for file in row.files)
    assert run.summary.size == sum(job.size for job in sandbox.jobs)
    assert run.told(Begun) == [Begun(3)]
    assert run.told(Counts)[-1] == Counts(3, 3, (("Download Complete", 3),))
    assert_right(sandbox, run)
    assert [path.name for path in (tmp_path / ".mwa_client").iterdir()] == ["ledger.jsonl"]


def test_states_are_told_once_each_in_order(tmp_path: Path) -> None:
    clock = PatientClock()
    with Sandbox(clock=clock.now, seconds_per_state=1000, product_size=lambda job: 10_000) as sandbox:
        run = run_batch(sandbox, tmp_path, clock, pacing=Pacing(poll=50.0))
    for line in (1, 2, 3):
        story = [
            event.label if isinstance(event, StateChanged) else type(event).__name__
            for event in run.events
            if isinstance(event, (Submitted, StateChanged, Downloading, Complete)) and event.row.line == line
        ]
        expected = ["Submitted", "Queued", "Processing", "Ready for Download", "Downloading", "Complete"]
        assert story == expected
    assert_nothing_said_twice(run)
    words = [line.partition(":")[0] for line in screen(run)[:-1]]
    assert set(words) == {
        "Submitted", "Queued", "Processing", "Ready for Download", "Downloading", "Download Complete"
    }  # fmt: skip


def test_a_finished_batch_needs_no_network(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    run_batch(sandbox, tmp_path, clock)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    sandbox.reset_log()
    run = run_batch(sandbox, tmp_path, clock)
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert sandbox.requests == []
    assert [row.from_before for row in run.summary.complete] == [True, True, True]
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    sandbox.stop()
    assert run_batch(sandbox, tmp_path, clock).summary.exit_status is ExitStatus.COMPLETE


def test_rows_that_ask_for_the_same_are_one_job(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    text = vis(OBS) + f"job_type = d ,download_type=vis,obs_id= {OBS},\n" + vis(OTHER)
    run = run_batch(sandbox, tmp_path, clock, text)
    assert len(sandbox.jobs) == len(run.summary.complete) == 2
    assert run.summary.exit_status is ExitStatus.COMPLETE


def test_ids_and_sizes_and_states_may_be_strings(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    fault = sandbox.faults.add("strings_for_numbers")
    run = run_batch(sandbox, tmp_path, clock)
    assert run.summary.exit_status is ExitStatus.COMPLETE and not run.summary.unverified
    assert fault.hits > 3
    assert_right(sandbox, run)


def test_entries_without_sense_are_passed_over(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    fault = sandbox.faults.add("extra_job_rows")
    # Old jobs of which the listing does not say what they are; none of them is the row's.
    for name in ("id", "job_state", "job_type", "job_params", "product"):
        sandbox.faults.add("missing_field", field=name, job_id=listed(sandbox).id)
    run = run_batch(sandbox, tmp_path, clock, vis(OTHER))
    assert run.summary.exit_status is ExitStatus.COMPLETE and fault.hits > 1
    assert len(sandbox.jobs) == 6
    assert_right(sandbox, run)


def test_a_product_without_sha1_is_complete_but_not_verified(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    sandbox.faults.add("no_sha1", obs_id=OBS)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert [file.path.name for file in run.summary.unverified] == [f"{OBS}_vis.zip"]
    assert any("not verified: the service gave no SHA-1" in line for line in screen(run))
    assert "1 of " in screen(run)[-1] and "not verified" in screen(run)[-1]
    assert str(OBS) not in (tmp_path / "SHA1SUMS").read_text()
    assert_right(sandbox, run)
    # And it stays so.
    again = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert len(again.summary.unverified) == 1


CONVERSIONS = "".join(
    f"obs_id={OBS}, job_type=c, timeres={timeres}, freqres=40, edgewidth=80, conversion=ms\n"
    for timeres in (4, 8, 16)
)


def test_products_of_one_name_stand_side_by_side(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    lines = CONVERSIONS.splitlines()
    # Over three runs, and the last one begins with the middle row.
    run_batch(sandbox, tmp_path, clock, lines[0])
    run_batch(sandbox, tmp_path, clock, "\n".join(lines[:2]))
    run = run_batch(sandbox, tmp_path, clock, "\n".join([lines[1], lines[0], lines[2]]))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    first, second, third = (job.id for job in sandbox.jobs)
    name = f"{OBS}_ms.zip"
    assert final_names(tmp_path) == {name, f"{second}_{name}", f"{third}_{name}"}
    assert_right(sandbox, run)
    assert run.summary.complete[1].row.job_id == first
    assert run.summary.complete[1].files[0].path.name == name


def test_names_are_kept_when_a_run_is_begun_again(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    fault = sandbox.faults.add("product_status", status=403)
    assert len(run_batch(sandbox, tmp_path, clock, CONVERSIONS).summary.failed) == 3
    sandbox.faults.remove(fault)
    run = run_batch(sandbox, tmp_path, clock, "\n".join(reversed(CONVERSIONS.splitlines())))
    assert run.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 3
    assert len(final_names(tmp_path)) == 3
    assert_right(sandbox, run)


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.zip",
        "/etc/evil",
        "..",
        ".",
        "",
        ".bashrc",
        "..\\..\\evil.zip",
        "-rf",
        "SHA1SUMS",
        ".mwa_client/ledger.jsonl",
        "a\nb.zip",
        "x\x00y",
        "n" * 300,
        "ä" * 150,
        " ",
    ],
)
def test_no_name_leads_out_of_the_directory(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, name: str
) -> None:
    sandbox.faults.add("hostile_name", name=name)
    directory = tmp_path / "deep" / "down"
    run = run_batch(sandbox, directory, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    product = run.summary.complete[0].files[0].path
    memory = directory / ".mwa_client" / "ledger.jsonl"
    assert written == {product, directory / "SHA1SUMS", memory}
    assert product.parent == directory and not product.name.startswith((".", "-"))
    assert sha1_of(product) == sandbox.jobs[0].content.sha1
    assert product.name in (directory / "SHA1SUMS").read_text()
    assert run_batch(sandbox, directory, clock, vis(OBS)).summary.complete[0].from_before


def test_a_product_that_was_removed_is_fetched_again(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    run_batch(sandbox, tmp_path, clock)
    (tmp_path / f"{OTHER}_vis.zip").unlink()
    sandbox.reset_log()
    run = run_batch(sandbox, tmp_path, clock)
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert sorted(row.from_before for row in run.summary.complete) == [False, True, True]
    assert len(asked(sandbox, PRODUCT)) == 1 and len(sandbox.jobs) == 3
    assert_right(sandbox, run)
    (notice,) = run.told(Notice)
    assert f"{OTHER}_vis.zip was complete on 2027-01-15" in notice.text and "again" in notice.text


def test_a_file_that_is_right_already_is_not_fetched(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    run_batch(sandbox, tmp_path / "one", clock, vis(OBS))
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / f"{OBS}_vis.zip").rename(tmp_path / "two" / f"{OBS}_vis.zip")
    sandbox.reset_log()
    run = run_batch(sandbox, tmp_path / "two", clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE and not run.summary.unverified
    assert asked(sandbox, PRODUCT) == []


OUTCOMES: dict[str, tuple[ExitStatus, tuple[tuple[str, dict[str, Any]], ...]]] = {
    "well": (ExitStatus.COMPLETE, ()),
    "error": (ExitStatus.JOBS_FAILED, (("job_error", {}),)),
    "error without a word": (ExitStatus.JOBS_FAILED, (("job_error", {"text": None}),)),
    "cancelled": (ExitStatus.JOBS_FAILED, (("cancel_job", {}),)),
    "expired once": (ExitStatus.COMPLETE, (("expire_job", {"times": 1}),)),
    "expired for ever": (ExitStatus.JOBS_FAILED, (("expire_job", {}),)),
    "missing": (ExitStatus.JOBS_FAILED, (("missing_job", {}),)),
    "missing twice": (ExitStatus.COMPLETE, (("missing_job", {"times": 2}),)),
    "no product": (ExitStatus.JOBS_FAILED, (("null_product", {}),)),
    "refused": (ExitStatus.JOBS_FAILED, (("refuse_submission", {}),)),
    "no sense": (ExitStatus.JOBS_FAILED, (("html_reply", {"path": SUBMISSION}),)),
    "unanswered": (ExitStatus.COMPLETE, (("drop_reply", {"times": 1}),)),
    "wrong": (ExitStatus.JOBS_FAILED, (("wrong_sha1", {}),)),
    "wrong once": (ExitStatus.COMPLETE, (("corrupt_byte", {"times": 1}),)),
    "gone": (ExitStatus.JOBS_FAILED, (("product_gone", {}),)),
    "somebody's page": (ExitStatus.COMPLETE, (("product_status", {"status": [404, 400, 410, 200]}),)),
    "forbidden": (ExitStatus.JOBS_FAILED, (("product_status", {"status": 403}),)),
    "cut": (ExitStatus.COMPLETE, (("cut_product", {"after": [10, 1000, 0]}),)),
    "odd state": (ExitStatus.COMPLETE, (("unknown_state", {"times": 4}),)),
    "stuck": (ExitStatus.TRY_AGAIN, (("unknown_state", {}),)),
}
"""What can become of a row: how it ends, and the faults, aimed at its observation, that bring it about."""
TROUBLES: dict[str, tuple[str, dict[str, Any]]] = {
    "listing": ("fail_call", {"path": LISTING, "times": 2, "skip": 1}),
    "nonsense": ("html_reply", {"path": LISTING, "times": 1}),
    "broken": ("broken_json", {"path": LISTING, "times": 1, "skip": 2}),
    "session": ("expire_session", {"times": 1, "skip": 3}),
    "login": ("fail_call", {"path": "/api/login", "times": 1}),
    "submission": ("busy", {"path": SUBMISSION, "times": 2, "retry_after": 30}),
    "product": ("busy", {"path": PRODUCT, "times": 1}),
    "strings": ("strings_for_numbers", {}),
    "junk": ("extra_job_rows", {}),
}


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    outcomes=st.lists(st.sampled_from(sorted(OUTCOMES)), min_size=1, max_size=6),
    troubles=st.sets(st.sampled_from(sorted(TROUBLES)), max_size=3),
    anew=st.booleans(),
)
def test_every_row_ends_in_one_place(
    tmp_path_factory: pytest.TempPathFactory, outcomes: list[str], troubles: set[str], anew: bool
) -> None:
    clock = FastClock()
    text = vis(*range(OBS, OBS + len(outcomes)), more=ANEW if anew else "")
    is_stuck = "stuck" in outcomes
    pacing = Pacing(give_up_after=1500.0 if is_stuck else None)
    with Sandbox(clock=clock.now, product_size=lambda job: 2000 + job.id) as sandbox:
        for number, outcome in enumerate(outcomes):
            for name, options in OUTCOMES[outcome][1]:
                sandbox.faults.add(name, obs_id=OBS + number, **options)
        for trouble in sorted(troubles):
            name, options = TROUBLES[trouble]
            sandbox.faults.add(name, **options)
        run = run_batch(sandbox, tmp_path_factory.mktemp("batch"), clock, text, pacing=pacing)
        summary = run.summary
        assert_right(sandbox, run)
    ended = {row.row.line: ExitStatus.COMPLETE for row in summary.complete}
    ended |= {row.row.line: ExitStatus.JOBS_FAILED for row in summary.failed}
    ended |= {row.line: ExitStatus.TRY_AGAIN for row in summary.pending}
    assert sorted(ended) == list(range(1, len(outcomes) + 1))
    assert len(summary.complete) + len(summary.failed) + len(summary.pending) == len(outcomes)
    for number, outcome in enumerate(outcomes):
        # Where the time is limited, a row that takes long may not be at its end yet.
        allowed = {OUTCOMES[outcome][0]} | ({ExitStatus.TRY_AGAIN} if is_stuck else set())
        assert ended[number + 1] in allowed, outcome
    statuses = set(ended.values())
    worst = next(s for s in (75, 4, 0) if ExitStatus(s) in statuses)
    assert summary.exit_status == worst
    assert run.events[-1] is summary
    assert sorted(run.told(RowFailed), key=lambda failed: failed.row.line) == list(summary.failed)
    assert bool(summary.why_pending) == bool(summary.pending)
    lines = [line for line in screen(run) if "Continuing in" not in line]
    assert all(line != following for line, following in zip(lines, lines[1:]))


def test_a_batch_leaves_no_thread_behind(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    def workers() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "worker"}

    before = workers()
    assert run_batch(sandbox, tmp_path, clock).summary.exit_status is ExitStatus.COMPLETE
    wait_until(lambda: workers() <= before)
