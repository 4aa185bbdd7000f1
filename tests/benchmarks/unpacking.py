"""What --unpack costs beside a plain verified download, and beside curl, tee, sha1sum and tar in one pipe.

python tests/benchmarks/unpacking.py                  2 GiB in 200 files, 1 GiB in 20,000; some minutes, 12 GB
python tests/benchmarks/unpacking.py --share 0.1 --times 1

Wall and CPU of whole processes, medians of one run; then the most room that is taken on the disk. It needs
nginx, curl, GNU tar and ``pip install .[test]``.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from compare import CLIENT, Bench
from contest import Command, Goal, cost_of, place_for
from memory import Cost
from servers import File, list_job, nginx

from mwa_client.sandbox import Sandbox

MIB = 1 << 20
PIPE = 'set -o pipefail; curl -sS "$1" | tee >(sha1sum > "$0/sum") | tar -x -C "$0"'
CASES = ((2048 * MIB, 200, 1.15, 1.0), (1024 * MIB, 20_000, None, 1.3))
"""Bytes, files, and the goals: wall / that of the plain download, wall / that of the pipe."""
MOST_MEMORY, MOST_ROOM = 60.0, 1.02


def main() -> int:
    """Measure, and say which goals are met."""
    options = _options()
    goals: list[Goal] = []
    for size, files, plain, pipe in CASES:
        goals += measure(int(size * options.share), int(files * options.share), plain, pipe, options.times)
    print("\ngoals", *goals, sep="\n")
    return 0 if all(goal.is_met for goal in goals) else 1


def measure(size: int, files: int, plain: float | None, pipe: float, times: int) -> Iterator[Goal]:
    """Let each fetch the same product, in turn."""
    place = place_for(4 * size)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place)))
        sandbox = stack.enter_context(Sandbox(seconds_per_state=0))
        server = stack.enter_context(nginx(folder))
        file = make_tar(folder / "files", size, files)
        bench = Bench(size, times, folder, server, sandbox)
        job = list_job(sandbox, server.http, file)
        commands: dict[str, Command] = {
            "mwa_client": lambda into: [*CLIENT, "-w", job, f"--dir={into}", "-q"],
            "mwa_client --unpack": lambda into: [*CLIENT, "-w", job, "--unpack", f"--dir={into}", "-q"],
            "curl | tee | tar": lambda into: ["bash", "-c", PIPE, str(into), f"{server.http}/{file.name}"],
        }
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        for _ in range(times):
            for name, command in commands.items():
                with tempfile.TemporaryDirectory(dir=place) as into:
                    costs[name].append(cost_of(command(Path(into)), bench.environment()))
        what = f"{size / MIB:.0f} MiB in {files} files"
        print(f"\n{what}, in {place}, {times} times")
        print(f"{'':24}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}")
        medians = {
            name: sorted(each, key=lambda cost: cost.wall)[len(each) // 2] for name, each in costs.items()
        }
        for name, cost in medians.items():
            print(f"{name:24}{cost.wall:9.2f}{cost.cpu:9.2f}{cost.memory:9.1f}", flush=True)
        ours = medians["mwa_client --unpack"]
        if plain is not None:
            yield Goal(f"{what}: wall / plain download", ours.wall / medians["mwa_client"].wall, plain)
        yield Goal(f"{what}: wall / pipe", ours.wall / medians["curl | tee | tar"].wall, pipe)
        yield Goal(f"{what}: peak memory in MB", ours.memory, MOST_MEMORY)
        with tempfile.TemporaryDirectory(dir=place) as into:
            room = most_room(commands["mwa_client --unpack"](Path(into)), bench, Path(into))
        yield Goal(f"{what}: room on the disk / product", room / file.size, MOST_ROOM)


def make_tar(folder: Path, size: int, files: int) -> File:
    """Make a tar of so many files, in ten folders, with bytes that differ."""
    path, digest = folder / "product.tar", hashlib.sha1(usedforsecurity=False)
    each, noise = size // files, random.Random(1).randbytes(16 * MIB)
    with path.open("wb") as file, tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT) as archive:
        for number in range(files):
            info = tarfile.TarInfo(f"1191828528.ms/{number % 10}/table.f{number}")
            info.size, info.mtime = each, 1_500_000_000
            start = number * 4093 % (len(noise) - each)
            archive.addfile(info, io.BytesIO(noise[start : start + each]))
    with path.open("rb") as made:
        while data := made.read(MIB):
            digest.update(data)
    return File(path.name, path.stat().st_size, digest.hexdigest())


def most_room(command: Sequence[str], bench: Bench, folder: Path) -> int:
    """Run a command, and return the most bytes that its folder has held on the way."""
    most = 0
    with subprocess.Popen(command, env=bench.environment(), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, _room_of(folder))
            time.sleep(0.1)
    assert process.returncode == 0
    return most


def _paths_in(folder: Path) -> Iterator[Path]:
    """Return what stands in a folder while it changes: what is renamed meanwhile is left out."""
    return (Path(where) / name for where, _, names in os.walk(folder) for name in names)


def _room_of(folder: Path) -> int:
    room = 0
    for path in _paths_in(folder):
        try:
            state = path.lstat()
        except FileNotFoundError:
            continue
        room += min(state.st_size, state.st_blocks * 512) if path.is_file() else 0
    return room


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=3, help="how often each (default: %(default)s)")
    parser.add_argument("--share", type=float, default=1.0, help="of the bytes and the files (default: all)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
