"""What a client promises is asked of one that is killed at random moments, again and again, on a bad line.

Jobs fail at once, answers are lost, the listing lags, and some clients are stopped and woken when another has
taken over. Minutes are seconds here: the listing lags by up to 0.9 of what the client allows for, as by 54 s.

python tests/benchmarks/kills.py             200 kills over the three interfaces, batches of 20 rows
python tests/benchmarks/kills.py --kills 1000 --seed 7 --api v2
python tests/benchmarks/kills.py --unpack    the same with products that are unpacked
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # What the tests share.

from ordeal import Moment, Ordeal, Outcome, let_go_wrong, practice_service, some_moment, some_rows

from mwa_client.jobs.keys import ApiVersion

RATE = 6e6
"""Bytes a second for each download: slow enough to be killed in the middle of it."""
LARGEST = 30_000_000
"""Bytes in the largest product of a batch."""
STOPS = 0.1
"""Share of the kills before which the client is only stopped, and woken when another has taken over."""


@dataclass(frozen=True)
class Result:
    """What came of all the batches over one interface."""

    api: ApiVersion
    outcomes: Sequence[Outcome]

    def sum_of(self, name: str) -> int:
        return sum(getattr(outcome, name) for outcome in self.outcomes)

    @property
    def lost(self) -> list[int]:
        return [lost for outcome in self.outcomes for lost in outcome.lost]

    @property
    def statuses(self) -> Counter[int]:
        return sum((outcome.statuses for outcome in self.outcomes), Counter())

    @property
    def broken(self) -> list[str]:
        return [promise for outcome in self.outcomes for promise in outcome.broken]


def main() -> int:
    """Kill, look, tell; 0 where every promise was kept."""
    options = _options()
    print(f"seed {options.seed}", flush=True)
    started = time.monotonic()
    results = []
    for api, kills in _shares(options.kills, [ApiVersion(name) for name in options.api]):
        results.append(Result(api, list(batches(api, kills, options))))
    show(results)
    print(f"{time.monotonic() - started:.0f} s")
    broken = [f"{result.api.value}, {promise}" for result in results for promise in result.broken]
    for promise in broken:
        print(f"\nBROKEN (seed {options.seed}): {promise}")
    return 1 if broken else 0


def batches(api: ApiVersion, kills: int, options: argparse.Namespace) -> Iterator[Outcome]:
    """Go through one batch after the other until there were so many kills."""
    for number in itertools.count(1):
        dice = random.Random(f"{options.seed} {api.value} {number}")
        outcome = one_batch(api, kills, options.rows, dice, unpack=options.unpack)
        kills -= outcome.kills
        print(f"{api.value}, batch {number}: {outcome.kills} kills, {kills} to come", flush=True)
        yield outcome
        if kills <= 0 or outcome.broken:
            return


def one_batch(
    api: ApiVersion, kills: int, count: int, dice: random.Random, *, unpack: bool = False
) -> Outcome:
    """Kill one batch at most so often, and let it come to its end."""
    rows = some_rows(dice, count, LARGEST)
    with tempfile.TemporaryDirectory() as folder, practice_service(rows, RATE) as sandbox:
        ordeal = Ordeal(sandbox, api, Path(folder), rows, unpack=unpack)
        damages = let_go_wrong(sandbox, api, rows, dice)
        moments: list[Moment] = [
            replace(some_moment(dice), asleep=dice.uniform(0.0, 3.0) if dice.random() < STOPS else None)
            for _ in range(kills)
        ]
        return ordeal.go_through(damages, iter(moments))


def show(results: Sequence[Result]) -> None:
    """Print a column for each interface."""
    lines: dict[str, Sequence[object]] = {
        "kills": [result.sum_of("kills") for result in results],
        "batches": [len(result.outcomes) for result in results],
        "runs": [sum(result.statuses.values()) for result in results],
        "stopped and woken": [result.sum_of("stops") for result in results],
        "duplicate jobs": [result.sum_of("duplicates") for result in results],
        "wrong files": [result.sum_of("wrong") for result in results],
        "unverified files": [result.sum_of("unverified") for result in results],
        "MB in the products": [f"{result.sum_of('total') / 1e6:.1f}" for result in results],
        "MB sent": [f"{result.sum_of('served') / 1e6:.1f}" for result in results],
        "... for faults, at most": [f"{result.sum_of('damage') / 1e6:.1f}" for result in results],
        "... for kills": [f"{sum(result.lost) / 1e6:.1f}" for result in results],
        "MB a kill cost: median": [f"{_median(result.lost) / 1e6:.2f}" for result in results],
        "... most": [f"{max(result.lost, default=0) / 1e6:.2f}" for result in results],
        "ended well": [result.statuses[0] + result.statuses[4] for result in results],
        "... were killed": [result.statuses[-9] for result in results],
        "... otherwise": [_others(result.statuses) for result in results],
        "broken promises": [len(result.broken) for result in results],
    }
    print(f"\n{'':26}" + "".join(f"{result.api.value:>10}" for result in results))
    for name, cells in lines.items():
        print(f"{name:26}" + "".join(f"{cell:>10}" for cell in cells))


def _others(statuses: Counter[int]) -> str:
    return " ".join(str(status) for status in sorted(statuses) if status not in (0, 4, -9)) or "0"


def _median(numbers: Sequence[int]) -> float:
    return statistics.median(numbers) if numbers else 0.0


def _shares(kills: int, apis: Sequence[ApiVersion]) -> Iterator[tuple[ApiVersion, int]]:
    """Share the kills out evenly."""
    for index, api in enumerate(apis):
        yield api, (kills + index) // len(apis)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="in all (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=20, help="in a batch, 5 or more (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1 << 30), help="default: another each time"
    )
    names = [api.value for api in ApiVersion]
    parser.add_argument("--api", nargs="+", choices=names, default=names, help="default: all")
    parser.add_argument("--unpack", action="store_true", help="let the client make folders of its products")
    options = parser.parse_args()
    if options.rows < 5:
        parser.error("--rows must be 5 or more")
    return options


if __name__ == "__main__":
    sys.exit(main())
