"""A calm screen: many rows in one line, life while nothing happens, and a log whose lines bear the time."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared import FastClock, untimed
from some_events import MS, ROW, counts, fetched
from test_bars import Terminal, bars_on

from mwa_client.batch.events import (
    Asking,
    Begun,
    Complete,
    Counts,
    Downloading,
    Event,
    Expected,
    Notice,
    RowFailed,
    RowName,
    StateChanged,
    Submitted,
    Summary,
)
from mwa_client.display import display_for
from mwa_client.display.bars import BarDisplay
from mwa_client.display.lines import LineDisplay
from mwa_client.display.printing import Look, Looks
from mwa_client.display.wording import about_row
from mwa_client.errors import JobFailed
from mwa_client.formatting import ranges_of
from mwa_client.transfer.events import Progress, Setback

ROWS = [RowName(number, 1191828584 + 8 * number, 10000 + number) for number in range(1, 201)]


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


def together(label: str) -> list[Event]:
    return [*(StateChanged(row, label) for row in ROWS), Counts(200, 0, ((label, 200),))]


def test_two_hundred_rows_that_change_together_are_one_line(terminal: Terminal) -> None:
    show = bars_on(terminal)
    for event in (Begun(200), *together("Staging"), *together("Delivering")):
        show(event)
    *above, total = terminal.lines()
    assert above == ["200 jobs: Staging", "200 jobs: Delivering"] and total.endswith("200 Delivering")
    show.close()


def test_a_log_says_which_jobs_they_are() -> None:
    out = io.StringIO()
    show = LineDisplay(out, out, FastClock())
    for event in (Begun(200), *together("Staging")):
        show(event)
    assert out.getvalue() == "200 jobs: Staging (job ids 10001-10200)\n"
    assert ranges_of([7, 3, 1, 2, 9]) == "1-3, 7, 9"


def test_a_few_are_told_one_by_one_and_all_before_what_follows() -> None:
    out = io.StringIO()
    show = LineDisplay(out, out, FastClock())
    few: list[Event] = [StateChanged(row, "Staging") for row in ROWS[:3]]
    for event in (Begun(200), *few, Notice("Busy.")):
        show(event)
    lines = out.getvalue().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["Staging"] * 3 + ["Busy."]


@pytest.mark.parametrize("quiet", [False, True])
def test_each_submission_has_a_line_where_the_job_ids_are_the_result(quiet: bool) -> None:
    out = io.StringIO()
    show = LineDisplay(out, out, FastClock(), names_jobs=True, quiet=quiet)
    show(Begun(200))
    for row in ROWS:
        show(StateChanged(row, "Queued"))
        show(Submitted(row, found=False))
    show.close()
    lines = out.getvalue().splitlines()
    assert [line for line in lines if line.startswith("Submitted: Job id: ")] == [
        about_row("Submitted", row) for row in ROWS
    ]
    assert not quiet or len(lines) == len(ROWS)


def test_submissions_that_come_one_after_another_are_one_line(terminal: Terminal) -> None:
    clock = FastClock()
    show = bars_on(terminal, clock)
    show(Begun(200))
    for done, row in enumerate(ROWS, start=1):
        clock.advance(0.01)
        show(Submitted(row, found=False))
        left = (("Not submitted", 200 - done),) if done < 200 else ()
        show(Counts(200, 0, (*left, ("Submitted", done))))
    assert "200 jobs: Submitted" in terminal.lines()
    show.close()


def test_one_row_that_goes_fast_is_told_in_its_order() -> None:
    out = io.StringIO()
    show = LineDisplay(out, out, FastClock())
    for event in (Begun(200), StateChanged(ROW, "Queued"), StateChanged(ROW, "Staging"), counts(Staging=1)):
        show(event)
    assert [line.partition(":")[0] for line in out.getvalue().splitlines()] == ["Queued", "Staging"]


def test_there_is_life_while_nothing_happens(terminal: Terminal) -> None:
    clock = FastClock()
    show = bars_on(terminal, clock)
    now = clock.monotonic()
    show(Begun(2))
    show(Counts(2, 0, (("Staging", 1), ("Downloading", 1)), 10**9, 10**9, Asking(now, now + 60)))
    show(Progress(10001, MS, 0, 10**9))
    clock.advance(10.0)
    show(Progress(10001, MS, 5 * 10**8, 10**9))
    show.tick()
    life = terminal.lines()[0]
    assert life == "0:00:10, 1.5 GB of 2.0 GB, 500.0 MB to come in 00:10, asked 10 s ago"
    show(Expected(1, 1, clock.now() + 9000, clock.now() + 9000))
    show.tick()
    assert terminal.lines()[0] == "0:00:10, 500.0 MB to come, ready in about 2.5 h (estimate), asked 10 s ago"
    clock.advance(3600.0)
    show.tick()
    assert terminal.lines()[0].startswith("1:00:10, ") and "in about 1.5 h (estimate)" in terminal.lines()[0]
    show.close()
    assert terminal.lines() == [""]


def test_a_long_outage_says_when_it_asks_next(terminal: Terminal) -> None:
    clock = FastClock()
    show = bars_on(terminal, clock)
    now = clock.monotonic()
    show(Begun(2))
    show(Counts(2, 0, (("Staging", 2),), asking=Asking(now, now + 700, silent_since=now)))
    clock.advance(600.0)
    show.tick()
    assert terminal.lines()[0] == "0:10:00, no answer for 10 min, asking again in 100 s"
    show.close()
    log = io.StringIO()
    lines = LineDisplay(log, log, clock)
    clock.advance(600.0)
    lines(Counts(2, 0, (("Staging", 2),), asking=Asking(now, clock.monotonic() + 90, silent_since=now)))
    assert log.getvalue().endswith("2 Staging; no answer for 20 min, asking again in 90 s\n")


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_no_line_wraps(columns: int) -> None:
    terminal = Terminal(24, columns)
    show = bars_on(terminal)
    for event in (
        Begun(2),
        StateChanged(ROW, "Retrieving from archive"),
        Downloading(ROW, MS, 5),
        Complete(ROW, (fetched(verified=False),), from_before=True),
        RowFailed(ROW, JobFailed("The job failed at the service: no files for this observation at all.")),
        Notice("Cannot connect to the address of the service (refused). Trying again in 5 s."),
    ):
        show(event)
    assert terminal.lines()
    rows = terminal.raw.replace("\r", "\n").split("\n")
    assert all(len(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", row)) < columns for row in rows)
    assert "Downloading" not in terminal.raw, "the bar says it"
    assert "\x1b[31mError:\x1b[0m" in terminal.raw and "\x1b[32mDownload Complete:\x1b[0m" in terminal.raw
    assert terminal.raw.count("1191828584") == 3, "the observation is said once in a line"
    show.close()
    terminal.close()


def test_more_downloads_than_the_window_has_rows() -> None:
    terminal = Terminal(6, 80)
    show = bars_on(terminal)
    show(Begun(20))
    for number in range(12):
        show(Progress(number, f"{number:02}.tar", 5, 10))
    total, *files, more = terminal.lines()
    assert total.startswith("0/20 jobs") and len(files) == 3 and more == "and 9 more downloads"
    show.close()
    assert terminal.lines() == [""]
    terminal.close()


def test_a_pipe_gets_plain_lines_with_the_time_and_no_colour(terminal: Terminal) -> None:
    ear, mouth = os.pipe()
    with os.fdopen(ear, encoding="utf-8") as reader, os.fdopen(mouth, "w", encoding="utf-8") as pipe:
        show = display_for(pipe, terminal.stream, FastClock(), {})
        assert type(show) is LineDisplay
        show(StateChanged(ROW, "Staging"))
        show(Complete(ROW, (fetched(),), from_before=False))
        show(Summary(fetched().path.parent))
        pipe.close()
        text = reader.read()
    assert "\x1b" not in text and all(
        re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w", line) for line in text.splitlines()
    )
    assert untimed(text).startswith("Staging: Job id: 10001 obs_id: 1191828584\n")


def test_bars_where_the_lines_are_thrown_away(terminal: Terminal) -> None:
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        assert isinstance(display_for(nowhere, terminal.stream, FastClock(), {}), BarDisplay)
    other = Terminal()
    assert type(display_for(other.stream, terminal.stream, FastClock(), {})) is LineDisplay
    other.close()


def test_lines_on_a_terminal_without_bars_name_the_job_once() -> None:
    """Standard error is a file, say, or the terminal is a dumb one."""
    out = io.StringIO()
    looks = Looks(Look(is_wrapped=True))
    show = LineDisplay(out, io.StringIO(), FastClock(), looks=looks)
    show(Downloading(ROW, MS, 22_500_000))
    show(Setback(10001, MS, "Cut.", 2.0))
    show(Complete(ROW, (fetched(),), from_before=False))
    show.close()
    about = "Job id: 10001 obs_id: 1191828584 ms.zip"
    assert out.getvalue().splitlines() == [
        f"Downloading: {about} (22.5 MB)",
        f"Downloading: {about}: Cut. Continuing in 2 s.",
        f"Download Complete: {about} (22.5 MB)",
    ]
