"""The command on a terminal, which is a real one (a pty), and seen as a user sees it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect  # type: ignore[import-untyped]
import pytest
from shared import command, environment, products, run_command

from mwa_client.sandbox import Sandbox

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pexpect.ANSI import ANSI  # type: ignore[import-untyped]

EXAMPLE = Path(__file__).parents[2] / "examples" / "jobs.csv"
ONE_ROW = "obs_id=1191828584, job_type=d, download_type=vis\n"
OBS, OTHER = "1191828584", "1191828528"
PRODUCTS = {f"{OBS}_ms.zip", f"{OBS}_vis.zip", f"{OTHER}_vis_meta.zip"}

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A practice service on the clock of the machine, whose jobs are ready at once."""
    with Sandbox(seconds_per_state=0, product_size=lambda job: 300_000 + job.id) as sandbox:
        yield sandbox


class Window:
    """A terminal window in which the client runs.

    Attributes
    ----------
    pictures : list of list of str
        The screen after each piece of output, its rows without trailing space.
    """

    def __init__(self, *arguments: str, env: dict[str, str], rows: int = 24, columns: int = 80) -> None:
        self._screen: Any = ANSI(rows, columns)
        self.raw = ""
        self.pictures: list[list[str]] = []
        program, *rest = command(*arguments)
        size = (rows, columns)
        self.child: Any = pexpect.spawn(
            program, rest, env=env, dimensions=size, encoding="utf-8", timeout=30, logfile=None
        )
        self.child.logfile_read = self

    def write(self, text: str) -> None:
        """Take what the client has written; called by pexpect."""
        self.raw += text
        self._screen.write(text)
        self.pictures.append([line.rstrip() for line in str(self._screen).rstrip().split("\n")])

    def flush(self) -> None:
        """Do nothing; called by pexpect."""

    def wait(self) -> int:
        """Wait for the end; return the exit status."""
        self.child.expect(pexpect.EOF)
        self.child.close()
        return int(self.child.exitstatus)

    @property
    def picture(self) -> list[str]:
        return self.pictures[-1]

    @property
    def column(self) -> int:
        return int(self._screen.cur_c)

    def has_shown(self, *patterns: str) -> bool:
        """Say whether at some moment the last rows were these."""
        return any(
            len(picture) >= len(patterns)
            and all(re.fullmatch(p, line) for p, line in zip(patterns, picture[-len(patterns) :]))
            for picture in self.pictures
        )


LINE = re.compile(
    r"(Submitted|Found|Queued|Processing|Ready for Download|Downloading|Download Complete): "
    r"Job id: \d+ obs_id: \d+"
)
TOTAL_BAR = r"\d+/3 jobs \|[^|]*\| .*"
FILE_BAR = r"\S+\.zip +\|[^|]*\| +\d+% of \d+\.?\d*kB, (\?|[0-9.]+k)B/s(, [0-9:]+ left)?"


@pytest.fixture
def slow_sandbox() -> Iterator[Sandbox]:
    """A practice service whose products take a second or so."""
    with Sandbox(seconds_per_state=0.1, rate=400_000, product_size=lambda job: 250_000 + job.id) as sandbox:
        yield sandbox


def test_bars_on_a_terminal(slow_sandbox: Sandbox, csv: Path, data: Path) -> None:
    options = (f"--csv={csv}", f"--dir={data}", "--poll=0.1")
    window = Window(*options, env=environment(slow_sandbox), rows=40, columns=200)
    assert window.wait() == 0
    assert re.search(r"\r0/3 jobs \|[^|]*\| [1-3] (Submitted|Queued|Processing|Ready)", window.raw)
    assert window.has_shown(TOTAL_BAR, FILE_BAR, FILE_BAR, FILE_BAR), window.raw
    assert "\x1b[32m" in window.raw
    # At the end: the story, whole, and nothing else.
    *story, last = window.picture
    assert last == f"3 complete: 780.0 kB in {data}"
    assert all(LINE.match(line) for line in story), story
    assert len(set(story)) == len(story) >= 12
    assert window.column == 1


def test_a_narrow_terminal(slow_sandbox: Sandbox, csv: Path, data: Path) -> None:
    options = ("--csv=jobs.csv", "--dir=data", "--poll=0.1")
    window = Window(f"--csv={csv}", *options[1:], env=environment(slow_sandbox), rows=60, columns=40)
    assert window.wait() == 0
    narrow = r"\S+p +\d+% [0-9.?k]+B/s( [0-9:]+)?"
    assert window.has_shown(r"0/3 jobs \|[^|]*\| 3 Downloading", narrow, narrow, narrow), window.raw
    assert window.picture[-1] == "3 complete: 780.0 kB in data"
    assert not any("jobs |" in line or "%" in line for line in window.picture)


def test_no_color(sandbox: Sandbox, csv: Path, data: Path) -> None:
    options = (f"--csv={csv}", f"--dir={data}", "--poll=0.1")
    window = Window(*options, env=environment(sandbox, NO_COLOR="1"))
    assert window.wait() == 0
    assert "/3 jobs |" in window.raw
    assert not re.search(r"\x1b\[[0-9;]*m", window.raw)


def test_quiet_on_a_terminal(sandbox: Sandbox, csv: Path, data: Path) -> None:
    window = Window("-q", f"--csv={csv}", f"--dir={data}", "--poll=0.1", env=environment(sandbox))
    assert window.wait() == 0
    assert " ".join(window.raw.split()) == f"3 complete: 930.0 kB in {data}" and window.raw.endswith("\r\n")


def test_ctrl_c_on_a_terminal(sandbox: Sandbox, csv: Path, data: Path) -> None:
    sandbox.faults.add("stall", after=100_000)
    window = Window(f"--csv={csv}", f"--dir={data}", "--poll=0.1", env=environment(sandbox))
    window.child.expect(r"3 Downloading")
    for _ in range(3):
        window.child.expect(r"zip +\|")
    window.child.sendintr()
    assert window.wait() == 130
    *story, said, last = window.picture
    assert said == "Interrupted. Everything so far is kept: run the same command again to continue."
    assert last == "0 complete, 3 pending"
    assert not any("|" in line for line in story), story
    assert window.column == 1

    sandbox.faults.clear()
    assert (
        run_command(f"--csv={csv}", f"--dir={data}", "--poll=0.1", env=environment(sandbox)).returncode == 0
    )
    assert products(data) == PRODUCTS


def test_lines_into_a_file_and_bars_on_the_terminal(
    sandbox: Sandbox, csv: Path, data: Path, tmp_path: Path
) -> None:
    shell = 'exec "$@" > log'
    child = pexpect.spawn(
        "sh",
        ["-c", shell, "sh", *command(f"--csv={csv}", f"--dir={data}", "--poll=0.1")],
        env=environment(sandbox),
        encoding="utf-8",
        timeout=30,
    )
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert "/3 jobs |" in child.before
    log = (tmp_path / "log").read_text()
    last = log.splitlines()[-1]
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d 3 complete: 930.0 kB in {data}", last)
    assert not re.search(r"[\r\x1b]", log)


def test_ctrl_z_and_fg(sandbox: Sandbox, csv: Path, data: Path) -> None:
    """A shell with job control stops the program and continues it, in a window that has become narrower."""
    sandbox.faults.add("stall", after=100_000)
    shell = pexpect.spawn(
        "bash", ["--norc", "--noprofile", "-i"], env=environment(sandbox, PS1="$ "), encoding="utf-8",
        dimensions=(24, 80), timeout=30,
    )  # fmt: skip
    screen: Any = ANSI(24, 80)

    class Picture:
        def write(self, text: str) -> None:
            screen.write(text)

        def flush(self) -> None:
            pass

    shell.logfile_read = Picture()
    shell.sendline("PS1='$ '; clear; " + " ".join(command(f"--csv={csv}", f"--dir={data}", "--poll=0.1")))
    for _ in range(3):
        shell.expect(r"zip +\|")
    shell.sendcontrol("z")
    shell.expect("Stopped")
    shell.expect(r"\$ ")
    assert not any("|" in line for line in str(screen).split("\n")), "the bars are gone"
    shell.setwinsize(24, 60)
    shell.sendline("fg")
    shell.expect(r"jobs \|")
    shell.sendintr()
    shell.expect("0 complete, 3 pending")
    shell.expect(r"\$ ")
    assert not any("|" in line for line in str(screen).split("\n"))
    shell.sendline("exit")
    shell.expect(pexpect.EOF)
    shell.close()
