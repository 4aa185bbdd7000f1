"""A contest of commands: the same task in turn and several times, what it cost, and goals for that.

Costs are those of whole processes and their children; the figures are medians.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from memory import Cost, roomy_place

TOOLS = ("curl", "wget", "aria2c")
Command = Callable[[Path], Sequence[str]]
"""Gives the command line of one who does the task, for the folder to write into."""

# A child's peak memory is at least that of the process that started it, so a small one starts it.
LAUNCH = """
import os, sys, time
quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
began = time.monotonic()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(pid, 0)
wall = time.monotonic() - began
print(os.WEXITSTATUS(status) or os.WTERMSIG(status), usage.ru_maxrss, usage.ru_utime + usage.ru_stime, wall)
"""


@dataclass(frozen=True)
class Goal:
    """A figure, and what it must not exceed, or must reach."""

    what: str
    figure: float
    bound: float
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        verdict = "PASS" if self.is_met else "FAIL"
        return f"{self.what:68}{self.figure:9.2f}   {sign} {self.bound:<6g} {verdict}"


@dataclass(frozen=True)
class Contestant:
    """Somebody who does the task.

    Attributes
    ----------
    command : Command
        What to run.
    size : int
        Bytes that must be there afterwards.
    """

    command: Command
    size: int = 0


def contest(
    contestants: Mapping[str, Contestant], environment: Mapping[str, str], times: int
) -> dict[str, Cost]:
    """Let everybody do the task in turn, several times; print and return the medians."""
    place = place_for(max(contestant.size for contestant in contestants.values()))
    costs: dict[str, list[Cost]] = {name: [] for name in contestants}
    for _ in range(times):
        for name, contestant in contestants.items():
            costs[name].append(_one_go(contestant, environment, place))
    medians = {name: _median(each) for name, each in costs.items()}
    print(f"{f'in {place}, {times} times':34}{'wall s':>9}{'CPU s':>9}{'MB/s':>9}{'peak MB':>9}")
    for name, cost in medians.items():
        size = contestants[name].size
        rate = f"{size / cost.wall / 1e6:.0f}" if size else ""
        print(f"{name:34}{cost.wall:9.3f}{cost.cpu:9.3f}{rate:>9}{cost.memory:9.1f}", flush=True)
    return medians


def _one_go(contestant: Contestant, environment: Mapping[str, str], place: str) -> Cost:
    with tempfile.TemporaryDirectory(dir=place) as folder:
        command = contestant.command(Path(folder))
        cost = cost_of(command, environment)
        arrived = sum(path.stat().st_size for path in Path(folder).glob("*.tar"))
    assert arrived == contestant.size, f"{command[0]}: {arrived} bytes came, not {contestant.size}"
    return cost


def cost_of(command: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """Run a command to its end, which must be good, and say what it and its children cost."""
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCH, *command]
    done = subprocess.run(launcher, env=environment, capture_output=True, text=True, check=True)
    status, memory, cpu, wall = map(float, done.stdout.split())
    assert status == 0, f"{' '.join(command)} ended with {status:.0f}\n{done.stderr}"
    return Cost(memory * 1024 / 1e6, cpu, wall)


def _median(costs: Sequence[Cost]) -> Cost:
    columns = ([cost.memory for cost in costs], [cost.cpu for cost in costs], [cost.wall for cost in costs])
    return Cost(*map(statistics.median, columns))


def place_for(size: int) -> str:
    """Return where to write so many bytes: in memory if as much again is left, for others need it too."""
    return roomy_place(2 * size) or tempfile.gettempdir()


def missing_tools() -> list[str]:
    """Return what is not installed of that which the client is measured against."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def installed(contestants: Mapping[str, Contestant]) -> dict[str, Contestant]:
    """Return those who can take part; their names begin with their tools."""
    missing = missing_tools()
    return {name: each for name, each in contestants.items() if name.split()[0] not in missing}
