"""What people see, from the events alone: the lines of a log, and the picture on a real terminal."""

from __future__ import annotations

import codecs
import fcntl
import io
import os
import pty
import re
import select
import struct
import termios
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shared import FastClock, run_batch, wait_until
from tqdm import tqdm

from mwa_client.batch.events import (
    Begun,
    Complete,
    Counts,
    Downloading,
    Event,
    Notice,
    RowFailed,
    RowName,
    StateChanged,
    Submitted,
    Summary,
)
from mwa_client.display import display_for
from mwa_client.display.bars import BarDisplay
from mwa_client.display.display import Display
from mwa_client.display.json_lines import JsonDisplay
from mwa_client.display.lines import LineDisplay
from mwa_client.errors import JobFailed
from mwa_client.sandbox import Sandbox
from mwa_client.transfer.download import Progress, Setback
from mwa_client.transfer.files import FetchedFile

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # It warns that there are better ones; this one is here already.
    from pexpect.ANSI import ANSI  # type: ignore[import-untyped]

ROW = RowName(line=3, obs_id=1191828584, job_id=10001)
OTHER = RowName(line=4, obs_id=1191828528, job_id=10002)
NO_JOB = RowName(line=7, obs_id=1191828520)
MS, VIS = "1191828584_ms.zip", "1191828528_vis.zip"


def fetched(name: str = MS, size: int = 22_500_000, verified: bool = True) -> FetchedFile:
    return FetchedFile(Path("/data") / name, size, "0" * 40, verified)


def counts(done: int = 0, rows: int = 3, **states: int) -> Counts:
    """Counts by label; an underscore stands for a space."""
    return Counts(rows, done, tuple((label.replace("_", " "), n) for label, n in states.items()))


# --- Lines -------------------------------------------------------------------------------------------


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


def test_a_new_job_is_told_by_its_first_state(log: Log) -> None:
    assert log.show(Submitted(ROW, found=False)) == []


def test_a_setback_names_the_row(log: Log) -> None:
    log.show(Downloading(ROW, MS, 5), Downloading(OTHER, VIS, 5))
    assert log.show(Setback(10001, MS, "The connection broke.", 2.2)) == [
        "Downloading: Job id: 10001 obs_id: 1191828584 1191828584_ms.zip: The connection broke. "
        "Going on in 2 s."
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
    kind(out, errors, FastClock())(Notice("It is fetched again.", is_warning=False))
    seen, other = (errors, out) if kind is JsonDisplay else (out, errors)
    assert (seen.getvalue(), other.getvalue()) == ("It is fetched again.\n", "")


# --- A terminal --------------------------------------------------------------------------------------


class Terminal:
    """A real pseudo-terminal and the picture on its screen.

    Attributes
    ----------
    stream : text stream
        The side that a program writes to.
    raw : str
        All that was written.
    """

    def __init__(self, rows: int = 24, columns: int = 80) -> None:
        self._master, self._slave = pty.openpty()
        self.resize(rows, columns)
        self.stream = os.fdopen(self._slave, "w", encoding="utf-8")
        self.raw = ""
        self._screen: Any = ANSI(rows, columns)
        self._marks = 0
        self._is_open = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self) -> None:
        """Close the window, with the program still running in it."""
        if self._is_open:
            self._is_open = False
            self._reader.join()
            os.close(self._master)

    def close(self) -> None:
        self.hang_up()
        try:
            self.stream.close()
        except OSError:
            pass  # Something was left to be written.

    def lines(self) -> list[str]:
        """What is on the screen, without the empty rows at its end."""
        before = self._marks
        # A bell goes the way of everything else: when it has arrived, the rest has, too.
        self.stream.write("\a")
        self.stream.flush()
        wait_until(lambda: self._marks > before)
        text: str = str(self._screen)
        return [line.rstrip() for line in text.rstrip().split("\n")]

    @property
    def cursor(self) -> tuple[int, int]:
        """Row and column of the cursor, from 1."""
        return self._screen.cur_r, self._screen.cur_c

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()
        while self._is_open:
            if not select.select([self._master], [], [], 0.02)[0]:
                continue
            text = decoder.decode(os.read(self._master, 65536))
            self.raw += text.replace("\a", "")
            self._screen.write(text.replace("\a", ""))
            self._marks += text.count("\a")


@pytest.fixture(autouse=True)
def no_bars_left() -> Iterator[None]:
    """Close the bars of a test that failed: they would take the places of the next one's."""
    yield
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


def bars_on(terminal: Terminal, **options: bool) -> BarDisplay:
    return BarDisplay(terminal.stream, terminal.stream, FastClock(), **options)


def test_bars_where_there_is_a_terminal_and_lines_elsewhere(terminal: Terminal) -> None:
    file, tty = io.StringIO(), terminal.stream
    assert isinstance(display_for(file, tty, FastClock(), {}, quiet=False), BarDisplay)
    for errors, environment, quiet in (
        (file, {}, False),
        (tty, {}, True),
        (tty, {"TERM": "dumb"}, False),
    ):
        assert type(display_for(tty, errors, FastClock(), environment, quiet=quiet)) is LineDisplay


def test_a_bar_over_all_and_one_for_each_running_download(terminal: Terminal) -> None:
    show = bars_on(terminal)
    show(Begun(3))
    show(counts(1, Downloading=2, Download_Complete=1))
    show(Progress(10001, MS, 0, 20_000_000))
    show(Progress(10002, VIS, 8_000_000, 16_000_000))
    time.sleep(0.15)
    show(Progress(10001, MS, 5_000_000, 20_000_000))
    show(Progress(10002, VIS, 12_000_000, 16_000_000))
    total, first, second = terminal.lines()
    assert re.fullmatch(r"1/3 jobs \|█+\S? +\| 2 Downloading, 1 Complete", total)
    pattern = r"{} +\|█+\S? *\| +{}% of {}MB, [0-9.]+[kM]B/s, 00:0\d left"
    assert re.fullmatch(pattern.format(MS, 25, "20.0"), first)
    assert re.fullmatch(pattern.format(VIS, 75, "16.0"), second)
    assert first.index("|") == second.index("|")
    show.close()


def test_lines_scroll_above_the_bars(terminal: Terminal) -> None:
    show = bars_on(terminal)
    show(Begun(9))
    for number in range(40):
        show(StateChanged(ROW, f"State {number}"))
        show(counts(0, 9, Queued=9))
        show(Progress(10001, MS, number, 100))
    *above, total, bar = terminal.lines()
    assert above == [f"State {number}: Job id: 10001 obs_id: 1191828584" for number in range(18, 40)]
    assert total.startswith("0/9 jobs |")
    assert bar.startswith(MS)
    show.close()
    assert terminal.lines() == above


def test_the_terminal_is_left_clean(terminal: Terminal) -> None:
    show = bars_on(terminal)
    done = Complete(ROW, (fetched(),), from_before=False)
    show(Begun(2))
    show(Progress(10001, MS, 5, 10))
    show(Progress(10002, VIS, 5, 10))
    show(done)
    assert [line[:8] for line in terminal.lines()] == ["Download", "5 MB, ve", "0/2 jobs", VIS[:8]]
    show(Summary(Path("/data"), (done,), pending=(OTHER,), why_pending="Over."))
    show.close()
    assert terminal.lines() == [
        "Download Complete: Job id: 10001 obs_id: 1191828584 /data/1191828584_ms.zip (22.",
        "5 MB, verified)",
        "Over.",
        "1 complete, 1 pending (run the same command again): 22.5 MB in /data",
    ]
    assert terminal.cursor == (5, 1)
    assert 0 < terminal.raw.rfind("\x1b[32m") < terminal.raw.rfind("\x1b[0m")


def test_no_color_has_bars_without_colours(terminal: Terminal) -> None:
    tty = terminal.stream
    for environment, has_colour in (({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)):
        show = display_for(tty, tty, FastClock(), environment, quiet=False)
        show(Begun(2))
        show(counts(1, 2, Queued=1, Error=1))
        (total,) = terminal.lines()
        assert total.startswith("1/2 jobs |")
        assert bool(re.search(r"\x1b\[[0-9;]*m", terminal.raw)) is has_colour
        show.close()


@pytest.mark.parametrize("columns", [40, 60, 74, 75, 80, 120])
def test_nothing_wraps_in_any_terminal(columns: int) -> None:
    terminal = Terminal(24, columns)
    show = bars_on(terminal)
    long = "1191828584_308874_" + "a-very-long-name-" * 4 + "vis_meta.tar"
    states = {"Not_submitted": 11, "Queued": 111, "Waiting_for_calibration": 5, "Retrieving_from_archive": 6}
    states |= {
        "Processing": 7,
        "Ready_for_Download": 8,
        "Downloading": 9,
        "Download_Complete": 10,
        "Error": 2,
    }
    show(Begun(169))
    show(counts(12, 169, **states))
    for job_id, name in ((1, MS), (2, long), (3, "x")):
        show(Progress(job_id, name, 100_000_000_000, 400_000_000_000))
    time.sleep(0.12)
    for job_id, name in ((1, MS), (2, long), (3, "x")):
        show(Progress(job_id, name, 100_000_500_000, 400_000_000_000))
    lines = terminal.lines()
    assert len(lines) == 4
    assert all(len(line) <= columns - 3 for line in lines), "the ^C of an interrupt needs a place"
    assert lines[0].startswith("12/169 jobs |")
    assert lines[0].endswith("2 Error")
    assert "119182" in lines[1] and "s.zip" in lines[1]
    assert ".." in lines[2] and ".tar" in lines[2]
    # How long a big download takes is there to its last digit.
    assert all(re.search(r"25% .*B/s,? +[0-9]+:[0-9:]+( left)?$", line) for line in lines[1:])
    show.close()
    assert terminal.lines() == [""]
    terminal.close()


def test_a_tiny_terminal_has_tiny_bars() -> None:
    terminal = Terminal(24, 20)
    show = bars_on(terminal)
    show(Begun(3))
    show(counts(1, Waiting_for_calibration=2, Download_Complete=1))
    show(Progress(10001, MS, 5, 10))
    assert [line[:6] for line in terminal.lines()] == ["1/3 jo", "1191.."]
    show.close()
    terminal.close()


def test_the_states_stand_in_the_order_of_a_life(log: Log) -> None:
    log.show(counts(Error=1, Downloading=2, State_9=3, Queued=4, Ready_for_Download=5, Not_submitted=6))
    log.clock.advance(600.0)
    assert log.show(counts(Error=1, Downloading=2, State_9=3, Queued=4, Ready_for_Download=5)) == [
        "Still working after 10 min: 4 Queued, 3 State 9, 5 Ready for Download, 2 Downloading, 1 Error"
    ]


def test_a_resized_terminal_is_noticed(terminal: Terminal) -> None:
    show = bars_on(terminal)
    show(Begun(3))
    show(counts(Processing=3))
    assert len(terminal.lines()[0]) == 77
    terminal.resize(24, 50)
    show(counts(1, Processing=2, Download_Complete=1))
    assert len(terminal.lines()[0]) == 47
    show.close()


def test_a_bar_that_ends_leaves_no_gap(terminal: Terminal) -> None:
    show = bars_on(terminal)
    show(Begun(4))
    for job_id in (1, 2, 3):
        show(Progress(job_id, f"{job_id}.zip", 5, 10))
    show(Progress(2, "2.zip", 10, 10))
    assert [line[:5] for line in terminal.lines()] == ["0/4 j", "1.zip", "3.zip"]
    show(Progress(4, "4.zip", 1, 10))
    show(RowFailed(RowName(1, 1191828584, 1), JobFailed("Gone.")))
    assert [line[:5] for line in terminal.lines()] == ["Error", "0/4 j", "3.zip", "4.zip"]
    show.close()


def test_a_bar_that_waits_goes_and_comes_back_with_the_bytes(terminal: Terminal) -> None:
    show = bars_on(terminal)
    show(Begun(1))
    show(Downloading(ROW, MS, 100))
    show(Progress(10001, MS, 50, 100))
    show(Setback(10001, MS, "The connection broke.", 60.0))
    assert len(terminal.lines()) == 4  # Two lines of the story, of which one is long, and the bar over all.
    show(Progress(10001, MS, 51, 100))
    assert terminal.lines()[-1].startswith(MS)
    assert "51%" in terminal.lines()[-1]
    show.close()


def test_a_download_that_begins_anew_goes_back(terminal: Terminal) -> None:
    show = bars_on(terminal)
    show(Begun(1))
    show(Progress(10001, MS, 90, 100))
    time.sleep(0.12)
    show(Progress(10001, MS, 10, 100))
    assert "10%" in terminal.lines()[-1]
    show.close()


def test_a_download_of_unknown_size_shows_what_has_come(terminal: Terminal) -> None:
    show = bars_on(terminal)
    show(Begun(1))
    show(Progress(10001, MS, 0, None))
    time.sleep(0.12)
    show(Progress(10001, MS, 7_000_000, None))
    assert re.match(rf"{MS} .*7\.00M", terminal.lines()[-1])
    show.close()
    assert terminal.lines() == [""]


def test_an_empty_product_has_no_bar(terminal: Terminal) -> None:
    show = bars_on(terminal)
    show(Begun(1))
    show(Progress(10001, MS, 0, 0))
    assert len(terminal.lines()) == 1
    show.close()


def test_more_bars_than_rows() -> None:
    terminal = Terminal(8, 80)
    show = bars_on(terminal)
    show(Begun(20))
    for number in range(20):
        show(Progress(number, f"{number:02}.zip", 5, 10))
    for number in range(20):
        show(Progress(number, f"{number:02}.zip", 10, 10))
        show(StateChanged(ROW, f"State {number}"))
    show.close()
    lines = terminal.lines()
    assert lines[-1] == "State 19: Job id: 10001 obs_id: 1191828584"
    assert not any("zip" in line or "jobs" in line for line in lines)
    terminal.close()


def test_a_terminal_that_goes_does_not_end_the_work() -> None:
    terminal = Terminal()
    show = bars_on(terminal)
    show(Begun(2))
    show(Progress(10001, MS, 5, 10))
    assert len(terminal.lines()) == 2
    terminal.hang_up()
    show(StateChanged(ROW, "Queued"))
    show(counts(1, 2, Queued=1))
    show(Progress(10001, MS, 6, 10))
    show(Progress(10002, VIS, 6, 10))
    show(Summary(Path("/data")))
    show.close()
    with pytest.raises(OSError):
        os.write(terminal.stream.fileno(), b"x")  # It was really gone.
    terminal.close()
