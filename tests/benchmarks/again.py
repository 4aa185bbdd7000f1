"""The same command again: on a finished batch, and by two clients in the same instant.

python tests/benchmarks/again.py             the goals: no request, below 0.2 s of CPU; one of two works
python tests/benchmarks/again.py --rows 1000 --pairs 200
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mwa_client.sandbox import Sandbox

GOAL_CPU = 0.2
RUNS = 11


def main() -> int:
    """Measure both and print them; 0 where the goals are met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20, help="rows of the batch (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=50, help="times that two start (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, practice_service() as sandbox:
        is_met = finished_batch(sandbox, Path(folder), options.rows)
        is_met &= pairs(sandbox, Path(folder), options.pairs)
    print(f"goals: {'met' if is_met else 'NOT met'}")
    return 0 if is_met else 1


@contextmanager
def practice_service() -> Iterator[Sandbox]:
    """Run the sandbox, point every process that is started here at it, and at nothing else."""
    with Sandbox(seconds_per_state=0, product_size=lambda job: 1000) as sandbox:
        plain = {name: value for name, value in os.environ.items() if "ASVO_" not in name}
        os.environ.clear()
        os.environ.update(plain, ASVO_HOST=sandbox.url, ASVO_USER="practice", ASVO_PASS="practice")
        yield sandbox


def client(csv: Path, directory: Path) -> list[str]:
    """Return the command."""
    return [sys.executable, "-m", "mwa_client", f"--csv={csv}", f"--dir={directory}", "--poll=0.1", "-q"]


def finished_batch(sandbox: Sandbox, folder: Path, rows: int) -> bool:
    """Run a batch to its end, then again and again; say what the further runs cost."""
    csv = folder / "jobs.csv"
    text = (f"obs_id={1191828528 + 8 * row}, job_type=d, download_type=vis\n" for row in range(rows))
    csv.write_text("".join(text))
    command = client(csv, folder / "data")
    subprocess.run(command, check=True, capture_output=True)
    asked, costs, statuses = len(sandbox.requests), [], set()
    for _ in range(RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        statuses.add(subprocess.run(command, check=False, capture_output=True).returncode)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    asked = len(sandbox.requests) - asked
    cpu = statistics.median(costs)
    print(f"a finished batch of {rows} rows, run again {RUNS} times: exit {statuses}, {asked} requests,")
    print(f"    CPU {cpu:.3f} s (median; from {min(costs):.3f} to {max(costs):.3f} s; goal {GOAL_CPU} s)")
    return statuses == {0} and asked == 0 and cpu < GOAL_CPU


def pairs(sandbox: Sandbox, folder: Path, count: int) -> bool:
    """Start two clients in the same instant, many times; say how many of them worked."""
    csv = folder / "pair.csv"
    csv.write_text("obs_id=1191828584, job_type=d, download_type=vis_meta\n")
    sandbox.faults.add("slow", path="/api/login", seconds=60.0)
    workers: list[int] = []
    for number in range(count):
        command = client(csv, folder / f"pair {number}")
        pair = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)
        ]
        workers.append(2 - sum(_is_told_to_wait(process) for process in _sorted(pair)))
        for process in pair:
            process.send_signal(signal.SIGTERM)
            process.communicate()
    wrong = [number for number in workers if number != 1]
    print(
        f"two clients in the same instant, {count} times: one worked, the other exited with 75 and said why:"
    )
    print(f"    {workers.count(1)} times; two workers: {workers.count(2)}, none: {workers.count(0)}")
    return not wrong


def _sorted(pair: list[subprocess.Popen[bytes]]) -> list[subprocess.Popen[bytes]]:
    """Return a pair when one of it has ended, that one first; or after long enough that both work."""
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline and all(process.poll() is None for process in pair):
        time.sleep(0.01)
    time.sleep(0.2)  # Should the other one end too, it does so now.
    return sorted(pair, key=lambda process: process.poll() is None)


def _is_told_to_wait(process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is None:
        return False
    assert process.stderr is not None
    return process.returncode == 75 and b"Another mwa_client is working in" in process.stderr.read()


if __name__ == "__main__":
    sys.exit(main())
