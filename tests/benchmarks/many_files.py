"""A delivered folder of many small files, copied beside ``cp -r`` and ``sync``.

python tests/benchmarks/many_files.py                    20,000 files; about a minute
python tests/benchmarks/many_files.py --dir /scratch     on another file system

Ours also takes the SHA-1 of each file, notes it, and looks whether the delivery changes meanwhile. Both are
whole processes, in turn; the figures are medians.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from contest import Goal, cost_of
from memory import Cost

from mwa_client.timing import SystemClock
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile
from mwa_client.transfer.folder import FolderCopier

FILES_IN_A_FOLDER = 100
MOST = 4096
"""Bytes of the largest file."""


def main() -> int:
    """Measure and print; 0 where the goals are met."""
    options = _options()
    if options.copy:
        _copy(*map(Path, options.copy))
        return 0
    costs: dict[str, list[Cost]] = {"ours": [], "cp": []}
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        source = Path(name) / "delivery"
        _make(source, options.files)
        os.sync()
        commands: dict[str, Callable[[str], list[str]]] = {
            "ours": lambda here: [sys.executable, __file__, "--copy", str(source), here],
            "cp": lambda here: ["sh", "-c", f"cp -r {source} {here}/copy && sync"],
        }
        for _ in range(options.times):
            for each, command in commands.items():
                with tempfile.TemporaryDirectory(dir=name) as here:
                    costs[each].append(cost_of(command(here), os.environ))
                    there = sum(path.is_file() for path in Path(here).glob("copy/**/*"))
                    assert there == options.files, f"{each}: {there} files"
    wall = {each: statistics.median(cost.wall for cost in some) for each, some in costs.items()}
    cpu = {each: statistics.median(cost.cpu for cost in some) for each, some in costs.items()}
    for each in costs:
        print(f"{each:6}{wall[each]:9.2f} s wall{cpu[each]:9.2f} s CPU")
    goals = [
        Goal("wall, ours / cp -r and sync", wall["ours"] / wall["cp"], 2.0),
        Goal("CPU, ours / cp -r and sync", cpu["ours"] / cpu["cp"], 2.0),
    ]
    print("\ngoals", *goals, sep="\n")
    return 0 if all(goal.is_met for goal in goals) else 1


def _make(source: Path, count: int) -> None:
    dice = random.Random(1)
    for number in range(count):
        folder = source / f"table{number // FILES_IN_A_FOLDER}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(dice.randbytes(dice.randrange(MOST)))


def _copy(source: Path, here: Path) -> None:
    place = DownloadDirectory(here, here / ".mwa_client")
    place.state_dir.mkdir()
    expected = ExpectedFile(7, "copy", None, None)
    FolderCopier(place, SystemClock(), threading.Event(), lambda event: None).copy(expected, source)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=20_000, help="default: %(default)s")
    parser.add_argument("--times", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where (default: %(default)s)")
    parser.add_argument("--copy", nargs=2, metavar=("SOURCE", "HERE"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
