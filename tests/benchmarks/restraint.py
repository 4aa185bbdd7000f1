"""Requests a second to a store that fails, with eight connections and with one.

python tests/benchmarks/restraint.py                       all failures; some 3 minutes
python tests/benchmarks/restraint.py --only '503.*' --seconds 300

A server that fails is not to be asked more often because there are more connections. Each client has a store
of its own, and several run at the same time; they are ended when the time is over.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from contest import Goal
from far_store import Far, far_store
from long_line import CLIENT, environment, files_in
from servers import File, list_job

from mwa_client.sandbox import Sandbox

SIZE = 600_000_000
MOST = 2.0
START = 10.0
"""Seconds until the first request, at most."""
AT_ONCE = 8
ONE = ("--connections=1",)


@dataclass(frozen=True)
class Case:
    """A way to fail, and how many products are wanted."""

    name: str
    far: Far
    products: int = 1


def cases() -> list[Case]:
    """Return all ways to fail."""
    found = []
    for ms in (0, 60):
        for name, far in (
            ("503", Far(round_trip=ms / 1000, failing=1.0)),
            ("cut-16kB", Far(round_trip=ms / 1000, cut_after=16_000)),
            ("cut-3MB", Far(round_trip=ms / 1000, rate=2e7, cut_after=3_000_000)),
        ):
            found += [Case(f"{name}-{ms}ms", far), Case(f"{name}-{ms}ms-four", far, 4)]
    return found


def main() -> int:
    """Measure what is asked for; 0 where every goal is met."""
    options = _options()
    chosen = [case for case in cases() if any(re.fullmatch(only, case.name) for only in options.only)]
    with tempfile.TemporaryDirectory() as name, Sandbox(seconds_per_state=0) as sandbox:
        folder = Path(name)
        files = {
            count: files_in(folder, SIZE // count, count) for count in {case.products for case in chosen}
        }
        lock = threading.Lock()

        def run(case: Case, *more: str) -> float:
            return _requests(case, files[case.products], folder, sandbox, lock, options.seconds, more)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            runs = [(case, pool.submit(run, case), pool.submit(run, case, *ONE)) for case in chosen]
    print(f"{'requests a second':24}{'several':>10}{'one':>10}")
    goals = []
    for case, several, one in runs:
        print(f"{case.name:24}{several.result():10.2f}{one.result():10.2f}")
        goals.append(Goal(f"{case.name}: requests a second / one", several.result() / one.result(), MOST))
    print("\ngoals", *goals, sep="\n")
    return 0 if all(goal.is_met for goal in goals) else 1


def _requests(
    case: Case,
    files: list[File],
    folder: Path,
    sandbox: Sandbox,
    lock: threading.Lock,
    seconds: float,
    more: tuple[str, ...],
) -> float:
    """Return the requests a second of a client, in so many seconds from the first one on."""
    with tempfile.TemporaryDirectory(dir=folder) as here:
        with far_store(folder, case.far) as store:
            with lock:
                jobs = [list_job(sandbox, store.address, file) for file in files]
            client = subprocess.Popen(
                [*CLIENT, *jobs, f"--dir={here}", "--json", *more],
                env=environment(sandbox, folder),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            with suppress(subprocess.TimeoutExpired):
                client.wait(seconds + START)
            client.send_signal(signal.SIGINT)
            client.wait()
        times: list[float] = store.seen["requests"]
        return sum(when < seconds for when in times) / seconds


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="default: %(default)s")
    parser.add_argument(
        "--only", nargs="+", default=[".*"], metavar="NAME", help="names of failures, as regular expressions"
    )
    return parser.parse_args()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
