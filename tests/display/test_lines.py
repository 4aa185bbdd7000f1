"""What people see in a log, from the events alone."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from shared import FastClock, run_batch, untimed
from some_events import MS, NO_JOB, OTHER, ROW, VIS, counts, fetched

from mwa_client.batch.events import (
    Begun,
    Complete,
    Downloading,
    Event,
    Notice,
    RowFailed,
    RowName,
    StateChanged,
    Submitted,
    Summary,
)
from mwa_client.display.display import Display
from mwa_client.display.json_lines import JsonDisplay
from mwa_client.display.lines import LineDisplay
from mwa_client.display.printing import Look, Looks
from mwa_client.errors import JobFailed, JobFileError, Mistake, MwaClientError
from mwa_client.sandbox import Sandbox
from mwa_client.transfer.events import Progress, Setback


class Log:
    """A display that writes lines, and what it has written."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.clock = FastClock()
        self.out, self.errors = io.StringIO(), io.StringIO()
        self.display = LineDisplay(self.out, self.errors, self.clock, quiet=quiet)

    def show(self, *events: Event) -> list[str]:
        """Show events; return the lines that came of them, from both streams."""
        before = len(self.out.getvalue()), len(self.errors.getvalue())
        for event in events:
            self.display(event)
        return (self.out.getvalue()[before[0] :] + self.errors.getvalue()[before[1] :]).splitlines()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Submitted(ROW, found=True), "Found: Job id: 10001 obs_id: 1191828584 (it was there already)"),
        (Submitted(replace(ROW, line=0), found=True), "Found: Job id: 10001 obs_id: 1191828584"),
        (StateChanged(ROW, "Processing"), "Processing: Job id: 10001 obs_id: 1191828584"),
        (
            Downloading(ROW, MS, 22_500_000),
            "Downloading: Job id: 10001 obs_id: 1191828584 1191828584_ms.zip (22.5 MB)",
        ),
        (
            Downloading(ROW, MS, None),
            "Downloading: Job id: 10001 obs_id: 1191828584 1191828584_ms.zip (size not known)",
        ),
        (
            Complete(ROW, (fetched(),), from_before=False),
            "Download Complete: Job id: 10001 obs_id: 1191828584 /data/1191828584_ms.zip (22.5 MB, verified)",
        ),
        (
            Complete(ROW, (fetched(),), from_before=True),
            "Download Complete: Job id: 10001 obs_id: 1191828584 /data/1191828584_ms.zip "
            "(22.5 MB, verified, from an earlier run)",
        ),
        (
            Complete(ROW, (fetched(verified=False),), from_before=False),
            "Download Complete: Job id: 10001 obs_id: 1191828584 /data/1191828584_ms.zip "
            "(22.5 MB, not verified: the service gave no SHA-1)",
        ),
        (RowFailed(NO_JOB, JobFailed("Refused.")), "Error: Job id: - obs_id: 1191828520 Refused."),
    ],
)
def test_one_line_for_an_event(log: Log, event: Event, line: str) -> None:
    assert log.show(event) == [line]
    assert log.errors.getvalue() == ""


def test_a_new_job_is_submitted_and_no_more_until_the_service_says_so(log: Log) -> None:
    assert log.show(Submitted(ROW, found=False)) == ["Submitted: Job id: 10001 obs_id: 1191828584"]


def test_a_setback_names_the_row(log: Log) -> None:
    log.show(Downloading(ROW, MS, 5), Downloading(OTHER, VIS, 5))
    assert log.show(Setback(10001, MS, "The connection broke.", 2.2)) == [
        "Downloading: Job id: 10001 obs_id: 1191828584 1191828584_ms.zip: The connection broke. "
        "Continuing in 2 s."
    ]


def test_what_concerns_the_whole_batch_goes_to_standard_error(log: Log) -> None:
    assert log.show(Notice("The service answers again.")) == ["The service answers again."]
    assert log.out.getvalue() == ""


def test_motion_alone_is_no_line(log: Log) -> None:
    assert log.show(Begun(3), counts(Queued=3), Progress(10001, MS, 5, 10), Progress(10001, MS, 10, 10)) == []


def test_a_line_never_repeats_the_last(log: Log) -> None:
    setback = Setback(10001, MS, "The connection broke.", 1.0)
    log.show(Downloading(ROW, MS, 10))
    assert len(log.show(setback, Progress(10001, MS, 5, 10), setback, setback)) == 1
    assert len(log.show(Notice("Busy."), Notice("Busy."))) == 1
    assert len(log.show(setback)) == 1


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_951, "1.0 MB"),
        (117_016_360_960, "117.0 GB"),
        (1_100_000_000_000, "1.1 TB"),
        (5_000_000_000_000_000, "5000.0 TB"),
    ],
)
def test_sizes(log: Log, size: int, shown: str) -> None:
    assert log.show(Downloading(ROW, MS, size))[0].endswith(f"({shown})")


def test_heartbeat_at_most_every_ten_minutes(log: Log) -> None:
    still = counts(1, Queued=2, Download_Complete=1)
    assert log.show(Begun(3), StateChanged(ROW, "Queued"), still) == [
        "Queued: Job id: 10001 obs_id: 1191828584"
    ]
    heard: list[str] = []
    for _ in range(131):  # 2 hours and 11 minutes
        log.clock.advance(60.0)
        heard += log.show(still)
    assert len(heard) == 13
    assert heard[0] == "Still working after 10 min: 2 Queued, 1 Download Complete"
    assert heard[-1] == "Still working after 2 h 10 min: 2 Queued, 1 Download Complete"
    assert len(set(heard)) == len(heard)


def test_no_heartbeat_while_there_are_other_lines(log: Log) -> None:
    heard: list[str] = []
    for number in range(30):
        log.clock.advance(300.0)
        heard += log.show(StateChanged(ROW, f"State {number}"), counts(Queued=3))
    assert len(heard) == 30
    assert not any(line.startswith("Still") for line in heard)


def test_a_long_download_has_a_heartbeat(log: Log) -> None:
    log.show(Begun(1), counts(rows=1, Downloading=1))
    heard: list[str] = []
    for done in range(0, 7200, 10):
        log.clock.advance(10.0)
        heard += log.show(Progress(10001, MS, done, 10**12))
    assert len(heard) == 12
    assert heard[0] == "Still working after 10 min: 1 Downloading"


def test_a_whole_run_that_waits_has_a_heartbeat(tmp_path: Path) -> None:
    out, clock = io.StringIO(), FastClock()
    display = LineDisplay(out, out, clock)
    with Sandbox(clock=clock.now, seconds_per_state=1800.0, product_size=lambda job: 1000) as sandbox:
        run_batch(sandbox, tmp_path, clock, listen=display)
    lines = out.getvalue().splitlines()
    heard = [line for line in lines if line.startswith("Still working after")]
    assert 4 <= len(heard) <= 6, lines  # Two states of half an hour.
    assert len(set(lines)) == len(lines)


def test_a_long_outage_has_a_heartbeat(tmp_path: Path) -> None:
    out, clock = io.StringIO(), FastClock()
    display = LineDisplay(out, out, clock)
    with Sandbox(clock=clock.now, seconds_per_state=10.0, product_size=lambda job: 1000) as sandbox:
        sandbox.faults.add("fail_call", path="/api/get_jobs", skip=2, times=24)
        run_batch(sandbox, tmp_path, clock, listen=display)
    heard = [line for line in out.getvalue().splitlines() if line.startswith("Still working after")]
    assert 5 <= len(heard) <= 9, "so that a log shows that somebody is there"


def test_quiet_shows_errors_and_the_summary_alone() -> None:
    log = Log(quiet=True)
    failed = RowFailed(ROW, JobFailed("Job 10001 failed.", "Look at it."))
    done = Complete(OTHER, (fetched(),), from_before=False)
    log.show(Begun(2), Submitted(ROW, found=False), StateChanged(ROW, "Queued"), failed, done)
    log.clock.advance(1e5)
    log.show(counts(Queued=3))
    assert log.out.getvalue() + log.errors.getvalue() == ""
    log.show(Notice("An outage."), Summary(Path("/data"), (done,), (failed,)))
    assert log.out.getvalue() == "1 complete, 1 failed: 22.5 MB in /data\n"
    assert "An outage.\n" in log.errors.getvalue()
    assert "Job 10001 failed." in log.errors.getvalue()


def test_summary_of_success(log: Log) -> None:
    done = Complete(ROW, (fetched(),), from_before=False)
    assert log.show(Summary(Path("/data"), (done,))) == ["1 complete: 22.5 MB in /data"]
    assert log.errors.getvalue() == ""


def test_summary_of_everything_that_can_be_said(log: Log) -> None:
    log.show(
        Summary(
            directory=Path("/data/mwa"),
            complete=(
                Complete(ROW, (fetched(), fetched(VIS, verified=False)), from_before=False),
                Complete(OTHER, (fetched(size=10**12),), from_before=True),
            ),
            failed=(
                RowFailed(RowName(9, 1191828528, 10009), JobFailed("No gpubox files.", "Look at it.")),
                RowFailed(NO_JOB, JobFailed("The service refused: no such observation.")),
            ),
            pending=(RowName(12, 1191828530, 10010),),
            why_pending="No room left.",
        )
    )
    assert log.errors.getvalue().splitlines() == [
        "There were errors:",
        "  line 9: obs_id 1191828528, job id 10009: No gpubox files.",
        "      Look at it.",
        "  line 7: obs_id 1191828520, no job: The service refused: no such observation.",
        "No room left.",
    ]
    assert log.out.getvalue() == (
        "2 complete, 1 of the files not verified, 2 failed, 1 pending (run the same command again): "
        "1.0 TB in /data/mwa\n"
    )


@pytest.mark.parametrize(
    ("error", "is_timed"), [(JobFileError("jobs.csv", [Mistake(3, "no")]), False), (JobFailed("No."), True)]
)
def test_mistakes_in_a_file_begin_with_its_name_whenever_they_are_found(
    error: MwaClientError, is_timed: bool
) -> None:
    errors = io.StringIO()
    display = LineDisplay(io.StringIO(), errors, FastClock(), looks=Looks(Look(), Look(is_timed=True)))
    display(Summary(Path("/data"), error=error))
    lines = errors.getvalue().splitlines()
    assert (lines != list(error.final_lines)) is is_timed
    assert untimed(errors.getvalue()).splitlines() == list(error.final_lines)


class GoneStream(io.StringIO):
    """A stream whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_the_work_goes_on_without_an_audience() -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (GoneStream(), closed):
        display = LineDisplay(stream, stream, FastClock())
        display(StateChanged(ROW, "Queued"))
        display(Notice("An outage."))
        display(Summary(Path("/data")))
        display.close()


@pytest.mark.parametrize("kind", [LineDisplay, JsonDisplay])
def test_what_is_no_warning_is_seen_by_whoever_looks(kind: type[Display]) -> None:
    out, errors = io.StringIO(), io.StringIO()
    kind(out, errors, FastClock())(Notice("It will be downloaded again.", is_warning=False))
    seen, other = (errors, out) if kind is JsonDisplay else (out, errors)
    assert (seen.getvalue(), other.getvalue()) == ("It will be downloaded again.\n", "")


def test_the_states_stand_in_the_order_of_a_life(log: Log) -> None:
    log.show(counts(Error=1, Downloading=2, State_9=3, Queued=4, Ready_for_Download=5, Not_submitted=6))
    log.clock.advance(600.0)
    assert log.show(counts(Error=1, Downloading=2, State_9=3, Queued=4, Ready_for_Download=5)) == [
        "Still working after 10 min: 4 Queued, 3 State 9, 5 Ready for Download, 2 Downloading, 1 Error"
    ]
