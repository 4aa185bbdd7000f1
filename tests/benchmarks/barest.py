"""The CPU time of a download beside that of the barest C program: read (or SSL_read), SHA-1, write.

python tests/benchmarks/barest.py                        over HTTP and over TLS; some 2 minutes, 3 GB

Both fetch the same file from nginx on this machine, over one connection. Compared is the CPU time of whole
processes, less what the same command needs for a product of one byte: Python's start, the login, the listing
and the handshake are measured elsewhere, and cost as much whatever the product's size. The figures with the
start are printed, too.

It needs nginx, gcc and OpenSSL's headers (apt-get install nginx-light gcc libssl-dev).
"""

from __future__ import annotations

import argparse
import compileall
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from compare import Bench
from contest import Contestant, Goal, place_for
from memory import Cost
from servers import HERE, File, list_job, nginx

import mwa_client
from mwa_client.sandbox import Sandbox

CLIENT = [sys.executable, "-m", "mwa_client"]
GOALS = {"http": 1.10, "tls": 1.20}


def main() -> int:
    """Measure and print; 0 where every goal is met."""
    options = _options()
    goals: list[Goal] = []
    compileall.compile_dir(Path(mwa_client.__file__).parent, quiet=1)
    with tempfile.TemporaryDirectory(dir=place_for(2 * options.size)) as name:
        folder = Path(name)
        program = _built(folder)
        if isinstance(program, str):
            print(program)
            return 1
        with Sandbox(seconds_per_state=0) as sandbox, nginx(folder) as server:
            bench = Bench(options.size, options.times, folder, server, sandbox)
            for way, bound in GOALS.items():
                print(f"\n{way}: {options.size} bytes over one connection", flush=True)
                goals.append(_measure(bench, program, way, bound))
    print("\ngoals", *goals, sep="\n")
    return 0 if all(goal.is_met for goal in goals) else 1


def _built(folder: Path) -> Path | str:
    """Return the C program, built in a folder; or what is missing for that."""
    program, source = folder / "barest", Path(__file__).with_suffix(".c")
    missing = [tool for tool in ("gcc", "nginx") if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} not installed: apt-get install nginx-light gcc libssl-dev"
    command = ["gcc", "-O2", "-Wall", "-o", str(program), str(source), "-lssl", "-lcrypto"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        return (
            f"It cannot be built; are OpenSSL's headers there (apt-get install libssl-dev)?\n{built.stderr}"
        )
    return program


def _measure(bench: Bench, program: Path, way: str, bound: float) -> Goal:
    large = bench.compare(_contestants(bench, program, way, bench.nginx.file(bench.size)))
    small = bench.compare(_contestants(bench, program, way, bench.nginx.file(1)))
    with_start = large["mwa_client"].cpu / large["barest"].cpu
    print(f"{way}: CPU, client / barest, with the start of both: {with_start:.2f}")
    ratio = _spent(large, small, "mwa_client") / _spent(large, small, "barest")
    return Goal(f"{way}: CPU, client / barest C program", ratio, bound)


def _spent(large: dict[str, Cost], small: dict[str, Cost], name: str) -> float:
    return large[name].cpu - small[name].cpu


def _contestants(bench: Bench, program: Path, way: str, file: File) -> dict[str, Contestant]:
    server = bench.nginx
    address = server.https if way == "tls" else server.http
    job = list_job(bench.sandbox, address, file)
    port = address.rpartition(":")[2]
    authority = [str(server.authority)] if way == "tls" else []
    return {
        "mwa_client": Contestant(
            lambda here: [*CLIENT, "-w", job, f"--dir={here}", "-q", "--connections=1"], file.size
        ),
        "barest": Contestant(
            lambda here: [str(program), HERE, port, f"/{file.name}", f"{here}/out.tar", *authority], file.size
        ),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1 << 30, help="bytes (default: %(default)s)")
    parser.add_argument("--times", type=int, default=5, help="default: %(default)s")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
