"""Several connections on lines with latency, beside one connection and beside aria2c.

python tests/benchmarks/long_line.py                        all lines; some 20 minutes
python tests/benchmarks/long_line.py --only 200ms --times 1

The store imitates round trips, slow start, a rate for each connection and a link that all share.
It needs aria2c (apt-get install aria2) for the comparison; without it, that is left out.

Measured is the wall time of whole processes, from start to exit: ours with Python's start, the login, the
listing, the SHA-1 and the flush to disk; aria2c with the addresses given, and without a sum or a flush.
The package's bytecode is compiled beforehand, as pip does when it installs a release. The lines of one
connection are one download after the other over one connection.
"""

from __future__ import annotations

import argparse
import compileall
import hashlib
import os
import re
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from contest import Contestant, Goal, contest, place_for
from far_store import Far, far_store
from servers import File, list_job

import mwa_client
from mwa_client.sandbox import Sandbox
from mwa_client.sandbox.products import Content

RATE = 20e6
LINK = 40e6
CLIENT = [sys.executable, "-m", "mwa_client", "-w"]


@dataclass(frozen=True)
class Case:
    """A line, and how many products are fetched over it at once."""

    name: str
    far: Far
    products: int = 1
    least: float = 0.0
    """How many times the rate of one connection it must be, at least."""


def cases() -> list[Case]:
    """Return all lines."""
    found = []
    for ms in (0, 60, 120, 200, 300):
        each = Far(round_trip=ms / 1000, rate=RATE)
        shared = Far(round_trip=ms / 1000, link=LINK)
        found += [
            Case(f"{ms}ms", each, least=0.0 if ms else 7.5),
            Case(f"{ms}ms-four", each, 4),
            Case(f"{ms}ms-shared", shared),
            Case(f"{ms}ms-shared-four", shared, 4),
        ]
    found.append(Case("150ms-shared", Far(round_trip=0.15, link=LINK)))
    return [*found, Case("60ms-503", Far(round_trip=0.06, rate=RATE, failing=0.01))]


def main() -> int:
    """Measure what is asked for; 0 where every goal is met."""
    options = _options()
    goals: list[Goal] = []
    compileall.compile_dir(Path(mwa_client.__file__).parent, quiet=1)
    with (
        tempfile.TemporaryDirectory(dir=place_for(2 * options.size)) as name,
        Sandbox(seconds_per_state=0) as sandbox,
    ):
        folder = Path(name)
        for case in cases():
            if any(re.fullmatch(only, case.name) for only in options.only):
                files = files_in(folder, options.size // case.products, case.products)
                goals += _measure(case, files, folder, sandbox, options.times)
    print("\ngoals", *goals, sep="\n")
    return 0 if all(goal.is_met for goal in goals) else 1


def _measure(case: Case, files: list[File], folder: Path, sandbox: Sandbox, times: int) -> list[Goal]:
    print(f"\n{case.name}: {case.products} of {files[0].size} bytes", flush=True)
    size = sum(file.size for file in files)
    with far_store(folder, case.far) as store, far_store(folder, replace(case.far, failing=0.0)) as good:
        jobs = [list_job(sandbox, store.address, file) for file in files]
        aria2c = ["aria2c", "-q", "-x8", "-s8", "-k1M", f"-j{len(files)}", "--file-allocation=none", "-Z"]
        urls = [f"{store.address}/{file.name}" for file in files]
        contestants = {
            "several": Contestant(lambda here: [*CLIENT, *jobs, f"--dir={here}", "-q"], size),
            "one": Contestant(
                lambda here: [*CLIENT, *jobs, f"--dir={here}", "-q", "--connections=1", "--parallel=1"], size
            ),
        }
        if case.far.failing:
            sound = [list_job(sandbox, good.address, file) for file in files]
            contestants["without"] = Contestant(lambda here: [*CLIENT, *sound, f"--dir={here}", "-q"], size)
        if case.products > 1:
            # As many connections in all.
            aria2c[2:4] = ["-x2", "-s2"]
        if shutil.which("aria2c"):
            contestants["aria2c"] = Contestant(lambda here: [*aria2c, f"--dir={here}", *urls], size)
        costs = contest(contestants, environment(sandbox, folder), times)
    print(f"at most {store.seen['most']} connections")
    several = costs["several"].wall
    goals = [Goal(f"{case.name}: rate / one connection", costs["one"].wall / several, 0.97, at_least=True)]
    if "aria2c" in costs:
        ratio = costs["aria2c"].wall / several
        goals.append(Goal(f"{case.name}: rate / aria2c with as many", ratio, 0.95, at_least=True))
    if "without" in costs:
        ratio = costs["without"].wall / several
        goals.append(Goal(f"{case.name}: rate / without failures", ratio, 0.8, at_least=True))
    if case.least:
        times_one = costs["one"].wall / several
        goals.append(Goal(f"{case.name}: rate / one connection", times_one, case.least, at_least=True))
    goals.append(Goal(f"{case.name}: peak memory in MB", costs["several"].memory, 100.0))
    return goals


def files_in(folder: Path, size: int, count: int) -> list[File]:
    """Return files of so many bytes in the folder of the store."""
    files = []
    for number in range(count):
        path, note = folder / f"{size}_{number}.tar", folder / f"{size}_{number}.sha1"
        if not note.exists():
            digest = hashlib.sha1(usedforsecurity=False)
            with path.open("wb") as file:
                for piece in Content(f"long line {number}", size).pieces():
                    digest.update(piece)
                    file.write(piece)
            note.write_text(digest.hexdigest(), encoding="ascii")
        files.append(File(path.name, size, note.read_text(encoding="ascii")))
    return files


def environment(sandbox: Sandbox, folder: Path) -> dict[str, str]:
    strange = re.compile(r"ASVO_|SSL_|_CA_BUNDLE$|_PROXY$", re.IGNORECASE)
    plain = {name: value for name, value in os.environ.items() if not strange.search(name)}
    ours = {"MWA_ASVO_HOST": sandbox.url, "MWA_ASVO_API_KEY": "practice-key", "HOME": str(folder)}
    return {**plain, **ours}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=600_000_000, help="bytes in all (default: %(default)s)")
    parser.add_argument("--times", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--only", nargs="+", default=[".*"], metavar="NAME", help="names of lines, as regular expressions"
    )
    return parser.parse_args()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
