"""What is done with less where a limit leaves little memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

SIZE = """
import resource, sys, threading
from mwa_client.memory import SPARE_MEMORY, has_spare_memory
from mwa_client.threads import has_started

def size():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

def limit(more):
    resource.setrlimit(resource.RLIMIT_AS, (size() + more, resource.RLIM_INFINITY))

def limit_data(more):
    with open("/proc/self/status") as file:
        (data,) = (int(line.split()[1]) << 10 for line in file if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (data + more, resource.RLIM_INFINITY))
"""
SPARE = f"""{SIZE}
print(has_spare_memory())
limit(SPARE_MEMORY // 2)
print(has_spare_memory())
limit(2 * SPARE_MEMORY)
print(has_spare_memory())
"""
SPARE_DATA = SPARE.replace("\nlimit(", "\nlimit_data(")
SPARED = "True False True"
THREADS = f"""{SIZE}
limit(1 << 30)
before, gate = size(), threading.Barrier(9)

def work():
    there = [bytearray(1000) for _ in range(1000)]
    gate.wait()
    gate.wait()

for _ in range(8):
    assert has_started(threading.Thread(target=work))
gate.wait()
print((size() - before) // 8 < 32 << 20)
gate.wait()
"""
WORKERS = f"""{SIZE}
import queue
from mwa_client.batch.workers import Workers
gate = threading.Event()
workers = Workers(8, queue.Queue())
limit(SPARE_MEMORY + (24 << 20))
for _ in range(8):
    workers.give(gate.wait)
# Each has 8 MiB for its stack, and needs about as much to do what it is there for.
print(1 <= threading.active_count() - 1 <= 4)
gate.set()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, and a limit of Linux")
@pytest.mark.parametrize(
    ("code", "said"), [(SPARE, SPARED), (SPARE_DATA, SPARED), (THREADS, "True"), (WORKERS, "True")]
)
def test_a_limit_is_noticed_and_threads_take_little_of_it(code: str, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == (said.split(), "")
