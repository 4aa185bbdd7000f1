"""What one listing of 10,000 jobs costs the client, over each interface; the sandbox is another process.

python tests/benchmarks/polling.py           the goals are below 0.3 s of CPU and below 120 MB
python tests/benchmarks/polling.py --jobs 1000
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from mwa_client.asvo import open_session
from mwa_client.asvo.service import Credentials, Service
from mwa_client.jobs.keys import ApiVersion

GOAL_CPU, GOAL_MB = 0.3, 120.0
POLLS = 5
SERVE = """
import sys, time
from mwa_client.sandbox import Interface, Sandbox
with Sandbox(seconds_per_state=0) as sandbox:
    for number in range(int(sys.argv[1])):
        params = {"obs_id": str(1191828584 + 8 * number), "timeres": "20", "freqres": "20",
                  "edgewidth": "80", "conversion": "ms", "allowmissing": "true", "norfi": "false"}
        sandbox.service.add(params, size=9563217, sha1=f"{number:040x}", made_by=Interface(sys.argv[2]))
    print(sandbox.url, flush=True)
    time.sleep(600)
"""


def main() -> int:
    """Measure each interface and print it; 0 where the goals are met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs in the listing (default: %(default)s)")
    parser.add_argument("--api", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.url:
        measure(ApiVersion(options.api), options.url, options.jobs)
        return 0
    is_met = True
    for api in ApiVersion:
        with practice_service(options.jobs, api) as url:
            cpu, wall, memory = measure_apart(api, url, options.jobs)
        figures = f"CPU {cpu:.3f} s, wall {wall:.3f} s, peak memory {memory:.1f} MB"
        print(f"{api.value:>4}: {options.jobs} jobs: {figures}")
        is_met &= cpu < GOAL_CPU and memory < GOAL_MB
    print(
        f"goals: CPU below {GOAL_CPU} s, peak memory below {GOAL_MB:.0f} MB: {'met' if is_met else 'NOT met'}"
    )
    return 0 if is_met else 1


def measure_apart(api: ApiVersion, url: str, jobs: int) -> tuple[float, float, float]:
    """Measure in a process of its own; return CPU and wall time in seconds, and the peak memory in MB."""
    options = ["--api", api.value, "--url", url, "--jobs", str(jobs)]
    done = subprocess.run([sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True, check=True)
    cpu, wall, memory = (float(word) for word in done.stdout.split())
    return cpu, wall, memory


def measure(api: ApiVersion, url: str, jobs: int) -> None:
    """List the jobs a few times; print the medians of CPU and wall time, and the peak memory."""
    account = Credentials("practice", "practice", "practice-key")
    costs = []
    with closing(open_session(Service(api, url, "benchmark", account))) as session:
        session.login()
        for _ in range(POLLS):
            began, began_cpu = time.perf_counter(), time.process_time()
            assert len(session.jobs()) == jobs
            costs.append((time.process_time() - began_cpu, time.perf_counter() - began))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    cpu, wall = (statistics.median(column) for column in zip(*costs))
    print(cpu, wall, memory)


@contextmanager
def practice_service(jobs: int, api: ApiVersion) -> Iterator[str]:
    """Run the sandbox as a process of its own with so many finished jobs; give its address."""
    arguments = [sys.executable, "-c", SERVE, str(jobs), api.value]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://[0-9.:]+", process.stdout.readline())
        assert found is not None
        try:
            yield found[0]
        finally:
            process.terminate()


if __name__ == "__main__":
    sys.exit(main())
