"""What people see on a real terminal, drawn from events."""

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
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shared import FastClock, wait_until
from some_events import MS, OTHER, ROW, VIS, counts, fetched
from tqdm import tqdm

from mwa_client.batch.events import (
    Begun,
    Complete,
    Downloading,
    RowFailed,
    RowName,
    StateChanged,
    Summary,
)
from mwa_client.display import display_for
from mwa_client.display.bars import BarDisplay
from mwa_client.display.lines import LineDisplay
from mwa_client.errors import JobFailed
from mwa_client.transfer.events import Progress, Setback

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # It warns that there are better ones; this one is here already.
    from pexpect.ANSI import ANSI  # type: ignore[import-untyped]


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


def bars_on(terminal: Terminal, clock: FastClock | None = None, **options: Any) -> BarDisplay:
    return BarDisplay(terminal.stream, terminal.stream, clock or FastClock(), **options)


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
    clock = FastClock()
    show = bars_on(terminal, clock)
    show(Begun(3))
    show(counts(1, Downloading=2, Download_Complete=1))
    show(Progress(10001, MS, 0, 20_000_000))
    show(Progress(10002, VIS, 8_000_000, 16_000_000))
    clock.advance(0.15)
    show(Progress(10001, MS, 5_000_000, 20_000_000))
    show(Progress(10002, VIS, 12_000_000, 16_000_000))
    total, first, second = terminal.lines()
    assert re.fullmatch(r"1/3 jobs \|█+\S? +\| 2 Downloading, 1 Complete", total)
    pattern = r"{} +\|█+\S? *\| +{}% of {}MB, [0-9.]+[kM]B/s{}"
    # A connection begins slowly: how long the rest will take is said when the rate is steady.
    assert re.fullmatch(pattern.format(MS, 25, "20.0", ""), first)
    assert re.fullmatch(pattern.format(VIS, 75, "16.0", ""), second)
    assert first.index("|") == second.index("|")
    clock.advance(3.0)
    show(Progress(10001, MS, 15_000_000, 20_000_000))
    assert re.fullmatch(pattern.format(MS, 75, "20.0", r", 00:0\d left"), terminal.lines()[2])
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
    assert [line[:8] for line in terminal.lines()] == ["Download", "0/2 jobs", VIS[:8]]
    show(Summary(Path("/data"), (done,), pending=(OTHER,), why_pending="Over."))
    show.close()
    assert terminal.lines() == [
        "Download Complete: Job id: 10001 obs_id: 1191828584 ms.zip (22.5 MB)",
        "Over.",
        "1 complete, 1 pending (run the same command again): 22.5 MB in /data",
    ]
    assert terminal.cursor == (4, 1)
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
    clock = FastClock()
    show = bars_on(terminal, clock)
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
    clock.advance(3.0)
    for job_id, name in ((1, MS), (2, long), (3, "x")):
        show(Progress(job_id, name, 100_000_500_000, 400_000_000_000))
    shown = terminal.lines()
    assert len(shown) == 5
    assert all(len(line) <= columns - 3 for line in shown), "the ^C of an interrupt needs a place"
    lines = shown[1:]
    assert lines[0].startswith("12/169 jobs |")
    assert lines[0].endswith("2 Error")
    assert "8584_ms.zip" in lines[1], "the end of a name tells what it is"
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
    assert [line[:6] for line in terminal.lines()] == ["1/3 jo", "..4_ms"]
    show.close()
    terminal.close()


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
    assert len(terminal.lines()) == 3  # One line of the story, which is long, and the bar over all.
    show(Progress(10001, MS, 51, 100))
    assert terminal.lines()[-1].startswith(MS)
    assert "51%" in terminal.lines()[-1]
    show.close()


def test_a_download_that_begins_anew_goes_back(terminal: Terminal) -> None:
    clock = FastClock()
    show = bars_on(terminal, clock)
    show(Begun(1))
    show(Progress(10001, MS, 90, 100))
    clock.advance(0.12)
    show(Progress(10001, MS, 10, 100))
    assert "10%" in terminal.lines()[-1]
    show.close()


def test_a_download_of_unknown_size_shows_what_has_come(terminal: Terminal) -> None:
    clock = FastClock()
    show = bars_on(terminal, clock)
    show(Begun(1))
    show(Progress(10001, MS, 0, None))
    clock.advance(0.12)
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
