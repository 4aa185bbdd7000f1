"""The client is killed at each step that it makes on disk and on the wire, one step after the other.

python tests/benchmarks/steps.py                       all steps on all interfaces: some 15 minutes
python tests/benchmarks/steps.py --api v2 --every 10   each tenth step on one of them

A step is a moment before or after a write, a sync, a rename, a removal, a file that is opened for writing, a
request or its answer. The run after the kill is killed too, at a random step; the third is left alone.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from ordeal import CONVERSION, FIRST_OBS, KINDS, Damage, Ordeal, Outcome, Wanted, practice_service

from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Sandbox

ROWS = (
    Wanted(FIRST_OBS, f"{CONVERSION}, timeres=10, conversion=ms", 2_500_000),
    Wanted(FIRST_OBS, f"{CONVERSION}, timeres=20, conversion=ms", 2_500_000),
    Wanted(FIRST_OBS + 8, KINDS[1], 0),
    Wanted(FIRST_OBS + 16, f"{KINDS[0]}, allow_resubmit=true", 5000),
)
KILLER = """
import http.client, os, signal, sys, threading

AT, lock, steps = int(os.environ["KILL_AT"]), threading.Lock(), 0

def step():
    global steps
    with lock:
        steps += 1
        if steps == AT:
            os.kill(os.getpid(), signal.SIGKILL)

def watch(owner, name, counts=lambda *given: True):
    plain = getattr(owner, name)
    def watched(*given, **more):
        if not counts(*given):
            return plain(*given, **more)
        step()
        try:
            return plain(*given, **more)
        finally:
            step()
    setattr(owner, name, watched)

if AT and any("mwa_client" in word for word in sys.orig_argv):
    for name in ("write", "fsync", "replace", "rename", "unlink", "ftruncate", "mkdir", "rmdir"):
        watch(os, name)
    watch(os, "open", lambda path, flags=0, *more: flags & (os.O_WRONLY | os.O_RDWR))
    watch(http.client.HTTPConnection, "endheaders")
    watch(http.client.HTTPConnection, "getresponse")
"""
"""Runs in the client before the client itself does, as its ``sitecustomize``."""


def main() -> int:
    """Kill at each step and print what came of it; 0 where no promise was broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    apis = [api.value for api in ApiVersion]
    parser.add_argument("--api", nargs="+", choices=apis, default=apis, help="interfaces (default: all)")
    parser.add_argument("--every", type=int, default=1, help="each so manyth step (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="for the second kill (default: %(default)s)")
    parser.add_argument("--unpack", action="store_true", help="let the client make folders of its products")
    options = parser.parse_args()
    is_kept = True
    for name in options.api:
        step, kills, broken = 1, 0, []
        while True:
            dice = random.Random(f"{options.seed} {name} {step}")
            outcome = killed_at(step, ApiVersion(name), dice, unpack=options.unpack)
            broken += [f"step {step}: {what}" for what in outcome.broken]
            kills += outcome.kills
            if not outcome.kills:
                break  # The run has no such step: all of them are done.
            step += options.every
        print(f"{name:>4}: killed at each of {step - 1} steps, {kills} kills, {len(broken)} broken promises")
        print("\n".join(broken), end="\n" if broken else "", flush=True)
        is_kept &= not broken
    return 0 if is_kept else 1


def killed_at(step: int, api: ApiVersion, dice: random.Random, *, unpack: bool = False) -> Outcome:
    """Kill a run at a step and the next at a random one; return what came of the batch in the end."""
    with tempfile.TemporaryDirectory() as folder, practice_service(ROWS, rate=1e9) as sandbox:
        sandbox.service.seconds_per_state = 0.02
        (Path(folder) / "sitecustomize.py").write_text(KILLER)
        ordeal = Ordeal(sandbox, api, Path(folder), ROWS, unpack=unpack)
        environment = ordeal.environment
        environment["PYTHONPATH"] = f"{folder}:{environment.get('PYTHONPATH', '')}"
        damages = _misfortunes(sandbox, step)
        for at in (step, dice.randint(1, 140), 0):
            environment["KILL_AT"] = str(at)
            status = ordeal.run_once({damage.row.obs_id for damage in damages})
            if status is not None:
                break
        ordeal.outcome.damage = sum(damage.cost for damage in damages)
        ordeal.check_end(status)
        return ordeal.outcome


def _misfortunes(sandbox: Sandbox, step: int) -> list[Damage]:
    """Switch faults on with some of the steps, so that what mends them is killed too."""
    if step % 3 == 0:
        sandbox.faults.add("drop_reply", times=1)
    if step % 2 == 0:
        return []
    damaged = sandbox.faults.add("corrupt_byte", 1, job_id=10002, at=100)
    cut = sandbox.faults.add("cut_product", after=[1_100_000], job_id=10002)
    return [Damage(damaged, ROWS[0]), Damage(cut, ROWS[0])]


if __name__ == "__main__":
    sys.exit(main())
