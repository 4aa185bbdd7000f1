"""Four parts of one batch at once, on two machines, each killed now and then; then they become three.

It must show every product once, ``SHA1SUMS`` complete, one login a minute at most. Meanwhile calls are lost,
products are cut, tokens expire.

python tests/benchmarks/parts.py                  40 observations, 3 batches
python tests/benchmarks/parts.py --batches 10 --kills 8 --seed 7
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # What the tests share.

from crew import Crew, Findings
from ordeal import FIRST_OBS, KINDS, Wanted

from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Sandbox

LARGEST = 4_000_000
"""Bytes in the largest product."""
RATE = 1.5e6
"""Bytes a second for each download: slow enough to be killed in the middle of it."""


def main() -> int:
    """Go through some batches and tell what came of them; 0 where every promise was kept."""
    options = _options()
    print(f"seed {options.seed}", flush=True)
    broken = []
    for number in range(1, options.batches + 1):
        started = time.monotonic()
        dice = random.Random(f"{options.seed} {number}")
        numbers = tuple(map(int, options.parts.split(",")))
        findings = one_batch(options.rows, options.kills, dice, ApiVersion(options.api), numbers)
        killed = findings.statuses.pop(-9, 0)
        print(
            f"batch {number}: {options.rows} observations, parts {options.parts}, {killed} kills, other ends "
            f"{dict(findings.statuses)}, logins {len(findings.logins)} "
            f"(most in a minute {findings.most_logins_a_minute}), broken promises {len(findings.broken)}, "
            f"{time.monotonic() - started:.0f} s",
            flush=True,
        )
        broken += findings.broken
    for promise in broken:
        print(f"\nBROKEN (seed {options.seed}): {promise}")
    return 1 if broken else 0


def one_batch(
    count: int, kills: int, dice: random.Random, api: ApiVersion, numbers: tuple[int, ...]
) -> Findings:
    """Take one batch through its kills and to its end."""
    rows = [
        Wanted(FIRST_OBS + 8 * place, KINDS[place % 2], int(LARGEST ** dice.uniform(0.6, 1.0)))
        for place in range(count)
    ]
    sizes = {str(row.obs_id): row.size for row in rows}
    service = Sandbox(
        seconds_per_state=0.3, rate=RATE, product_size=lambda job: sizes[job.obs_id], delay=0.01
    )
    with tempfile.TemporaryDirectory() as folder, service as sandbox:
        few = max(count // 8, 1)
        for name, fault in (
            ("drop_reply", {"times": few}),
            ("fail_call", {"times": few, "path": "*_job", "status": 502}),
            ("broken_json", {"times": few, "path": "*/get_jobs"}),
            ("expire_tokens" if api is ApiVersion.V2 else "expire_session", {"times": 2}),
            ("cut_product", {"after": [dice.randrange(1, 500_000) for _ in range(few)]}),
        ):
            sandbox.faults.add(name, skip=dice.randrange(count // 2), **fault)
        return Crew(sandbox, Path(folder), rows, dice, api=api).go_through(numbers, kills, longest=4.0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--rows", type=int, default=40, help="observations in a batch (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=5, help="of each part (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1 << 30), help="default: another each time"
    )
    parser.add_argument(
        "--api",
        default="v2",
        help="2018: each submission makes a job there, and each process logs in (default: v2)",
    )
    parser.add_argument(
        "--parts", default="4,3", help="how many at first, and then; 1 is a run without parts (default: 4,3)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
