"""Peak memory, CPU and wall time of one large product, whole processes, served by the sandbox.

python tests/benchmarks/memory.py            one product of 2 GB; the goal is below 60 MB
python tests/benchmarks/memory.py --size 100000000
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

GOAL_MB = 60.0
ROW = "obs_id=1191828584, job_type=d, download_type=vis\n"


@dataclass(frozen=True)
class Cost:
    """What a process has cost: peak memory in MB, CPU (user and system) and wall time in seconds."""

    memory: float
    cpu: float
    wall: float


def main() -> int:
    """Measure once and print it; 0 where the goal is met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=2_000_000_000, help="bytes (default: %(default)s)")
    size: int = parser.parse_args().size
    with tempfile.TemporaryDirectory(dir=roomy_place(size)) as folder, practice_service(size) as url:
        directory = Path(folder)
        (directory / "jobs.csv").write_text(ROW, encoding="utf-8")
        cost = cost_of(
            [sys.executable, "-m", "mwa_client", f"--csv={directory / 'jobs.csv'}", f"--dir={directory}"],
            {**os.environ, "ASVO_HOST": url, "ASVO_USER": "practice", "ASVO_PASS": "practice"},
        )
        arrived = (directory / "1191828584_vis.zip").stat().st_size
    assert arrived == size, f"{arrived} bytes arrived, not {size}"
    print(f"one product of {size / 1e9:.2f} GB, verified")
    print(f"peak memory {cost.memory:.1f} MB (goal: below {GOAL_MB:.0f} MB)")
    print(f"CPU {cost.cpu:.2f} s, wall {cost.wall:.2f} s ({size / cost.wall / 1e6:.0f} MB/s)")
    return 0 if cost.memory < GOAL_MB else 1


@contextmanager
def practice_service(size: int) -> Iterator[str]:
    """Run the sandbox as a process of its own, with products of so many bytes; give its address."""
    arguments = [sys.executable, "-m", "mwa_client.sandbox", "--speed=inf", f"--size={size}"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://[0-9.:]+", process.stdout.readline())
        assert found is not None
        try:
            yield found[0]
        finally:
            process.terminate()


def cost_of(arguments: list[str], environment: dict[str, str]) -> Cost:
    """Run a command to its end, which must be good, and say what it cost."""
    started = time.monotonic()
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{' '.join(arguments)} ended with {process.returncode}"
    return _cost(usage, time.monotonic() - started)


def _cost(usage: resource.struct_rusage, wall: float) -> Cost:
    return Cost(usage.ru_maxrss * 1024 / 1e6, usage.ru_utime + usage.ru_stime, wall)


def roomy_place(size: int) -> str | None:
    """Return a folder in memory where there is room: a disk's write-back makes figures swing."""
    shared = Path("/dev/shm")
    if shared.is_dir():
        room = os.statvfs(shared)
        if min(room.f_bavail * room.f_frsize, _free_memory()) > size * 1.1:
            return str(shared)
    return None


def _free_memory() -> int:
    """Return how many bytes processes can still have: the folder's own limit knows nothing of them."""
    found = re.search(r"MemAvailable:\s*([0-9]+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    sys.exit(main())
