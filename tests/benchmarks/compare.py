"""The client beside curl, wget and aria2c, in turn and several times: medians, ratios, and goals met or not.

python tests/benchmarks/compare.py                          all of it; some 15 minutes, 12 GB
python tests/benchmarks/compare.py --size 100000000 --times 2 --only http resume

It needs nginx, curl and ``pip install .[test]``; what is missing of the others is left out:
apt-get install nginx-light curl wget aria2
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import polling
from contest import Command, Contestant, Goal, contest, cost_of, installed, missing_tools, place_for
from memory import Cost
from servers import Nginx, list_job, nginx, slow_line

from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Sandbox

MIB = 1 << 20
RATE = 20 * MIB
"""Bytes a second of a connection on the slow line."""
WINDOW = 64 * MIB
"""What an interruption may cost."""
CALL = 0.05
"""Seconds that each call to the slow service takes."""
PYTHON, CLIENT = [sys.executable], [sys.executable, "-m", "mwa_client"]
SINGLE = "--connections=1"

ONE_AFTER_THE_OTHER = """
import sys, requests
url, rows = sys.argv[1], int(sys.argv[2])
with requests.Session() as session:
    session.post(url + "/api/api_login", auth=("mantaray-clientv2.0", "practice-key")).raise_for_status()
    for row in range(rows):
        form = {"obs_id": 1191828528 + 8 * row, "download_type": "vis", "allow_resubmit": "false"}
        session.post(url + "/api/download_vis_job", data=form).raise_for_status()
"""


@dataclass(frozen=True)
class Bench:
    """What every measurement works with."""

    size: int
    times: int
    folder: Path
    nginx: Nginx
    sandbox: Sandbox

    def environment(self, sandbox: Sandbox | None = None) -> dict[str, str]:
        """Return an environment that points the client at a practice service, and holds nothing else."""
        strange = re.compile(r"ASVO_|SSL_|_CA_BUNDLE$|_PROXY$", re.IGNORECASE)
        plain = {name: value for name, value in os.environ.items() if not strange.search(name)}
        url = (sandbox or self.sandbox).url
        ours = {"MWA_ASVO_HOST": url, "MWA_ASVO_API_KEY": "practice-key", "HOME": str(self.folder)}
        return {**plain, **ours, "SSL_VERIFY": str(self.nginx.authority)}

    def compare(
        self,
        contestants: Mapping[str, Contestant],
        *,
        sandbox: Sandbox | None = None,
        times: int | None = None,
    ) -> dict[str, Cost]:
        """Hold a contest of those who are installed."""
        return contest(installed(contestants), self.environment(sandbox), times or self.times)


def main() -> int:
    """Measure what is asked for and print it; 0 where every goal is met."""
    options = _options()
    place = place_for(4 * options.size)  # Room for its files, and for one that is fetched.
    goals: list[Goal] = []
    with tempfile.TemporaryDirectory(dir=place) as name, Sandbox(seconds_per_state=0) as sandbox:
        folder = Path(name)
        print(f"products of {options.size} bytes, {options.times} times; files in {folder.parent}")
        print("".join(f"{tool} is not installed and left out\n" for tool in missing_tools()), end="")
        with nginx(folder) as server:
            bench = Bench(options.size, options.times, folder, server, sandbox)
            for measure in map(MEASUREMENTS.__getitem__, options.only):
                print(f"\n{measure.__doc__}", flush=True)
                goals += measure(bench)
    print("\ngoals", *goals, sep="\n")
    return 0 if all(goal.is_met for goal in goals) else 1


# --- What is measured ---------------------------------------------------------------------------------


def over_http(bench: Bench) -> Iterable[Goal]:
    """One product over one connection; the client verifies it."""
    costs = bench.compare(_one_product(bench, bench.nginx.http))
    client = costs[f"mwa_client {SINGLE}"]
    yield Goal("HTTP: CPU, client / curl", client.cpu / costs["curl"].cpu, 1.15)
    yield Goal("HTTP: wall, client / (curl && sha1sum)", client.wall / costs["curl && sha1sum"].wall, 0.70)


def over_tls(bench: Bench) -> Iterable[Goal]:
    """The same, encrypted."""
    costs = bench.compare(_one_product(bench, bench.nginx.https))
    yield Goal("TLS: CPU, client / curl", costs[f"mwa_client {SINGLE}"].cpu / costs["curl"].cpu, 1.3)


def over_slow_line(bench: Bench) -> Iterable[Goal]:
    """Products over connections of 20 MiB/s each; curl fetches a part alone."""
    if not sys.platform.startswith("linux"):
        print("left out: only Linux can slow a connection down")
        return
    whole, eighth = bench.nginx.file(bench.size), bench.nginx.file(bench.size // 8)
    names = ("mwa_client", "mwa_client, 4 products at once", "aria2c -x8 -s8", "curl")
    with ExitStack() as stack:
        one, four, aria2c, curl = lines = [
            stack.enter_context(slow_line(bench.nginx.http, RATE)) for _ in names
        ]
        job = list_job(bench.sandbox, one.address, whole)
        jobs = [list_job(bench.sandbox, four.address, eighth) for _ in range(4)]
        part = eighth.size // 2
        contestants = (
            Contestant(_client("-w", job), whole.size),
            Contestant(_client("-w", *jobs), 4 * eighth.size),
            Contestant(_aria2c(f"{aria2c.address}/{whole.name}", 8), whole.size),
            Contestant(_curl(f"{curl.address}/{whole.name}", "-r", f"0-{part - 1}"), part),
        )
        costs = bench.compare(dict(zip(names, contestants)))
    for name, line in zip(names, lines):
        print(f"{name:34}{line.most:9} connections at once")
    rate = whole.size / costs["mwa_client"].wall / RATE
    yield Goal("slow line: rate of one product / rate of a connection", rate, 7, at_least=True)


def small_products(bench: Bench) -> Iterable[Goal]:
    """200 products of 100 kB, a batch whose jobs are ready; 200 curls one after the other."""
    files = [bench.nginx.file(100_000, number) for number in range(200)]
    lines = []
    for number, file in enumerate(files):
        obs_id = 1200000000 + 8 * number  # No other job must be taken for one of these.
        list_job(bench.sandbox, bench.nginx.http, file, obs_id)
        lines.append(f"obs_id={obs_id}, job_type=d, download_type=vis\n")
    csv = bench.folder / "small.csv"
    csv.write_text("".join(lines), encoding="utf-8")
    urls = " ".join(f"{bench.nginx.http}/{file.name}" for file in files)
    loop = f'cd "$0" && for url in {urls}; do curl -sSO "$url" || exit 1; done'
    size = sum(file.size for file in files)
    costs = bench.compare(
        {
            "mwa_client": Contestant(_client(f"--csv={csv}"), size),
            "curl, 200 times": Contestant(lambda folder: ["sh", "-c", loop, str(folder)], size),
        }
    )
    ratio = costs["mwa_client"].wall / costs["curl, 200 times"].wall
    yield Goal("200 products of 100 kB: wall, client / curls one after the other", ratio, 0.5)


def resumed(bench: Bench) -> Iterable[Goal]:
    """One product, ended by SIGTERM when half of it is there, then run again."""
    file = bench.nginx.file(bench.size)
    command = _client("-w", list_job(bench.sandbox, bench.nginx.http, file))
    surplus = []
    for _ in range(bench.times):
        with tempfile.TemporaryDirectory(dir=place_for(file.size)) as name:
            missing = file.size - _interrupted(command(Path(name)), bench, Path(name), file.size // 2)
            bench.nginx.forget_sent()
            cost_of(command(Path(name)), bench.environment())
            fetched = bench.nginx.sent()
        print(f"missing {missing / MIB:.1f} MiB, fetched {fetched / MIB:.1f} MiB: {fetched / missing:.4f}")
        surplus.append(fetched - missing)
    yield Goal("resume: MiB fetched that were not missing, at most", max(surplus) / MIB, WINDOW / MIB)


def submitted(bench: Bench) -> Iterable[Goal]:
    """1,000 rows submitted to a service that takes 50 ms for each call; a plain loop beside."""
    rows = 1000
    lines = (f"obs_id={1191828528 + 8 * row}, job_type=d, download_type=vis\n" for row in range(rows))
    csv = bench.folder / "submit.csv"
    csv.write_text("".join(lines), encoding="utf-8")
    with Sandbox(seconds_per_state=1e6, delay=CALL) as sandbox:

        def on_empty_service(command: Command) -> Contestant:
            def begin(folder: Path) -> Sequence[str]:
                for job in sandbox.jobs:
                    sandbox.service.remove(job.id)
                return command(folder)

            return Contestant(begin)

        loop = [*PYTHON, "-c", ONE_AFTER_THE_OTHER, sandbox.url, str(rows)]
        contestants = {
            "mwa_client -s": on_empty_service(_client("-s", "--api=v1", f"--csv={csv}")),
            "one after the other": on_empty_service(lambda folder: loop),
        }
        costs = bench.compare(contestants, sandbox=sandbox)
    ratio = costs["mwa_client -s"].wall / costs["one after the other"].wall
    yield Goal("1,000 submissions: wall, client / one after the other", ratio, 0.3)


def polled(bench: Bench) -> Iterable[Goal]:
    """One listing of 10,000 jobs, as polling.py measures it."""
    for api in ApiVersion:
        with polling.practice_service(10_000, api) as url:
            cpu, wall, memory = polling.measure_apart(api, url, 10_000)
        print(f"{api.value:>4}: CPU {cpu:.3f} s, wall {wall:.3f} s, peak memory {memory:.1f} MB", flush=True)
        yield Goal(f"poll of 10,000 jobs, {api.value}: CPU in s", cpu, polling.GOAL_CPU)
        yield Goal(f"poll of 10,000 jobs, {api.value}: peak memory in MB", memory, polling.GOAL_MB)


def started(bench: Bench) -> Iterable[Goal]:
    """What needs no network, beside a Python that does nothing."""
    csv = bench.folder / "check.csv"
    csv.write_text("obs_id=1191828584, job_type=d, download_type=vis\n", encoding="utf-8")
    ways = {"--help": ["--help"], "--version": ["--version"], "--check": ["--check", f"--csv={csv}"]}
    contestants = {f"mwa_client {way}": _plain(*CLIENT, *options) for way, options in ways.items()}
    costs = bench.compare(
        {"python -c pass": _plain(*PYTHON, "-c", "pass"), **contestants}, times=4 * bench.times
    )
    for way in ways:
        ratio = costs[f"mwa_client {way}"].wall / costs["python -c pass"].wall
        yield Goal(f"start-up: wall, client {way} / python -c pass", ratio, 3)
    for way, options in ways.items():
        yield Goal(f"start-up: modules of requests and tqdm imported by {way}", _heavy_modules(options), 0)


def in_memory(bench: Bench) -> Iterable[Goal]:
    """Four products at once."""
    file = bench.nginx.file(bench.size)
    ids = [list_job(bench.sandbox, bench.nginx.http, file) for _ in range(4)]
    name = "mwa_client, 4 products at once"
    costs = bench.compare({name: Contestant(_client("-w", *ids), 4 * file.size)}, times=1)
    yield Goal("four products at once: peak memory in MB", costs[name].memory, 100)


MEASUREMENTS: Mapping[str, Callable[[Bench], Iterable[Goal]]] = {
    "http": over_http,
    "tls": over_tls,
    "slow": over_slow_line,
    "small": small_products,
    "resume": resumed,
    "submit": submitted,
    "poll": polled,
    "start": started,
    "memory": in_memory,
}


# --- Commands -----------------------------------------------------------------------------------------


def _one_product(bench: Bench, address: str) -> dict[str, Contestant]:
    """Return everybody who can fetch one product, from one of nginx's addresses."""
    file = bench.nginx.file(bench.size)
    url, job_id = f"{address}/{file.name}", list_job(bench.sandbox, address, file)
    trust = str(bench.nginx.authority)
    curl = _curl(url, "--cacert", trust)

    def checked(folder: Path) -> Sequence[str]:
        return ["sh", "-c", '"$@" && sha1sum "$0"', str(folder / "curl.tar"), *curl(folder)]

    commands: dict[str, Command] = {
        f"mwa_client {SINGLE}": _client("-w", job_id, SINGLE),
        "mwa_client": _client("-w", job_id),
        "curl": curl,
        "curl && sha1sum": checked,
        "wget": _wget(url, f"--ca-certificate={trust}"),
        "aria2c -x1": _aria2c(url, 1, f"--ca-certificate={trust}"),
    }
    return {name: Contestant(command, file.size) for name, command in commands.items()}


def _client(*options: str) -> Command:
    return lambda folder: [*CLIENT, *options, f"--dir={folder}", "-q"]


def _curl(url: str, *options: str) -> Command:
    return lambda folder: ["curl", "-sS", *options, "-o", str(folder / "curl.tar"), url]


def _wget(url: str, *options: str) -> Command:
    return lambda folder: ["wget", "-q", *options, f"--directory-prefix={folder}", url]


def _aria2c(url: str, connections: int, *options: str) -> Command:
    how = ["-q", f"-x{connections}", f"-s{connections}", "-k1M", "--file-allocation=none", *options]
    return lambda folder: ["aria2c", *how, f"--dir={folder}", url]


def _plain(*command: str) -> Contestant:
    return Contestant(lambda folder: command)


# --- Processes ----------------------------------------------------------------------------------------


def _interrupted(command: Sequence[str], bench: Bench, folder: Path, enough: int) -> int:
    """Run a command until the part file is so long, end it, and say how long the part file is then."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=bench.environment(), stdout=quiet, stderr=quiet) as process:
        while process.poll() is None and _length_of_part(folder) < enough:
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 143, f"it ended with {process.returncode}; take a larger --size"
    return _length_of_part(folder)


def _length_of_part(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob(".mwa_client/*.part"))


def _heavy_modules(options: Sequence[str]) -> int:
    """Count the modules of requests and tqdm that the client imports."""
    command = [*PYTHON, "-X", "importtime", "-m", "mwa_client", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return len(re.findall(r"\|\s*(?:requests|tqdm)\b", done.stderr))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=2 << 30, help="bytes of a product (default: %(default)s)")
    parser.add_argument("--times", type=int, default=5, help="default: %(default)s")
    names = list(MEASUREMENTS)
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    options = parser.parse_args()
    if shutil.which("nginx") is None or shutil.which("curl") is None:
        parser.error("nginx and curl must be installed: apt-get install nginx-light curl")
    return options


if __name__ == "__main__":
    sys.exit(main())
