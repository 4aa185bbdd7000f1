"""Downloads over several connections from a store that does everything wrong, at random, again and again.

python tests/benchmarks/rough_line.py                    200 runs; some 10 minutes
python tests/benchmarks/rough_line.py --runs 1000 --seed 7

Resets, refusals, requests that are never answered, answers that trickle, connections that are accepted and
never served, small and large products, more downloads than connections. Whatever happens: no internal error,
every connection given back, all bytes right.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # It is also run by a test.

from far_store import Far, FarStore, far_store

from mwa_client.asvo.call import abort_call_of
from mwa_client.asvo.http import HttpClient
from mwa_client.errors import JobFailed
from mwa_client.timing import SystemClock
from mwa_client.transfer import ranges
from mwa_client.transfer.connections import ConnectionBudget
from mwa_client.transfer.download import Downloader
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile

STALL = 0.5
"""Seconds without a byte after which a connection is dropped here."""
HASTE = 50.0
"""How many times faster waits between tries pass."""
PATIENCE = 120.0
SIZES = (1, 5_000, 200_000, 3_000_000, 14_000_000, 20_000_000)


class HastyClock(SystemClock):
    """A clock whose waits pass quickly, and which is ahead by what they were shorter."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        """Return the time as those who have waited know it."""
        return super().monotonic() + self._ahead

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        """Wait a fraction of what was asked for."""
        until = self.monotonic() + seconds
        super().sleep(seconds / HASTE, stop)
        with self._lock:  # Several may wait at once: the last to be ready decides.
            self._ahead = max(self._ahead, until - super().monotonic())


class Source:
    """One file of the store."""

    host = "store"

    def __init__(self, wire: HttpClient, url: str) -> None:
        self._wire, self._url = wire, url

    def get(self, headers: Mapping[str, str]) -> ranges.Response:
        """Ask for it."""
        return self._wire.open_url(self._url, headers)

    def cancel(self, thread: threading.Thread) -> None:
        """End what another thread waits for."""
        abort_call_of(thread)


def main() -> int:
    """Go through it; 0 where all held."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    broken = 0
    with tempfile.TemporaryDirectory() as name:
        for number in range(options.runs):
            wrong = go_through(Path(name), random.Random(f"{options.seed} {number}"))
            broken += len(wrong)
            print(f"run {number}: {'; '.join(wrong) or 'right'}", flush=True)
    print(f"{broken} promises broken in {options.runs} runs")
    return 1 if broken else 0


def go_through(folder: Path, dice: random.Random) -> list[str]:
    """Make one run; return what was wrong."""
    far = some_line(dice)
    with far_store(folder, far) as store, tempfile.TemporaryDirectory(dir=folder) as name:
        wire = HttpClient(store.address, verify=True, timeout=STALL, stall=STALL, user_agent="rough")
        with closing(wire):
            return [f"{what} ({far})" for what in _run(folder, Path(name), store, wire, dice)]


def some_line(dice: random.Random) -> Far:
    """Return a line with some misfortunes."""

    def perhaps(most: float) -> float:
        return dice.uniform(0, most) if dice.random() < 0.4 else 0.0

    return Far(
        round_trip=dice.choice([0.0, 0.0, 0.01, 0.05]),
        rate=dice.choice([2e7, 5e7, 1e12]),
        link=dice.choice([1e8, 1e12]),
        failing=perhaps(0.3),
        resets=perhaps(0.5),
        silent=perhaps(0.1),
        slow=perhaps(0.1),
        cut_after=dice.choice([0, 0, 0, 0, 0, 2_000_000]),
        most=dice.choice([0, 0, 0, 1, 2, 3]),
        seed=dice.randrange(1 << 30),
    )


def _run(folder: Path, here: Path, store: FarStore, wire: HttpClient, dice: random.Random) -> list[str]:
    most, count = dice.randint(1, 8), dice.randint(1, 6)
    place, budget, stop = DownloadDirectory(here, here / ".memory"), ConnectionBudget(most), threading.Event()
    place.state_dir.mkdir()
    clock = HastyClock()
    wrong: list[str] = []

    def work(number: int, size: int) -> None:
        name, sha1 = _file(folder, size)
        wanted = ExpectedFile(number, f"{number}.tar", size, sha1)
        source = Source(wire, f"{store.address}/{name}")
        try:
            file = Downloader(place, clock, stop, lambda event: None, budget).fetch(wanted, source)
            if hashlib.sha1(file.path.read_bytes()).hexdigest() != sha1:
                wrong.append("wrong bytes")
        except JobFailed:
            pass  # It was asked for often enough.
        except BaseException as error:
            wrong.append(f"{type(error).__name__}: {error}")

    threads = [
        threading.Thread(target=work, args=(number, dice.choice(SIZES)), daemon=True)
        for number in range(count)
    ]
    for thread in threads:
        thread.start()
    if not _have_ended(threads, PATIENCE):
        stop.set()
        wrong.append(f"not finished after {PATIENCE:.0f} s")
        _have_ended(threads, PATIENCE)  # The folder is about to be removed.
    deadline = time.monotonic() + 10 * STALL
    while budget.free != most and time.monotonic() < deadline:
        time.sleep(0.01)
    if budget.free != most:
        wrong.append(f"{most - budget.free} connections were not given back")
    return wrong


def _have_ended(threads: list[threading.Thread], seconds: float) -> bool:
    """Wait for threads; say whether all of them have ended within so many seconds."""
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0.0))
    return not any(thread.is_alive() for thread in threads)


def _file(folder: Path, size: int) -> tuple[str, str]:
    path = folder / f"{size}.tar"
    data = random.Random(size).randbytes(size)
    if not path.exists():
        path.write_bytes(data)
    return path.name, hashlib.sha1(data).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
