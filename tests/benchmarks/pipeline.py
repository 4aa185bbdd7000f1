"""From a list of observations to a command that has run for each, with a client that is killed on the way.

It must show that each product's command was completed exactly once as the ledger has it, was never at work
twice at a time, and made what it should; no product wrong, no job twice. Some commands fail at first.

python tests/benchmarks/pipeline.py             40 observations, 20 kills, on v2 and on the interface of 2018
python tests/benchmarks/pipeline.py --unpack --api v1 --kills 40 --seed 7
"""

from __future__ import annotations

import argparse
import random
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # What the tests share.

from ordeal import FIRST_OBS, NEVER, SEEN, Moment, Ordeal, Wanted

from mwa_client.errors import ExitStatus
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Sandbox

ASKS = "job_type=d, download_type=vis"
LARGEST = 3_000_000
"""Bytes in the largest product."""
RATE = 3e6
"""Bytes a second for each download: slow enough to be killed in the middle of it."""
MOST_FAILING_RUNS = 5
"""Runs after which a command that fails is not tried again."""
SUM = """\
if [ -d "$1" ]; then cd "$1" && find . -type f | LC_ALL=C sort | xargs -d '\\n' sha1sum | sha1sum
else sha1sum < "$1"; fi
"""
"""One checksum for a file, or for all that is in a folder."""
WORK = """\
#!/bin/sh
# What the user does with a product; he notes when, and whether somebody else is at it.
path=$1 obs_id=$2 line=$3 here=$4
echo "begin $obs_id" >> "$here/diary"
exec 9> "$here/$obs_id.lock"
flock -n 9 || echo "overlap $obs_id" >> "$here/diary"
if [ $((line % 10)) = 3 ] && [ ! -e "$here/$obs_id.tried" ]; then
    touch "$here/$obs_id.tried"
    echo "no luck"
    exit 3
fi
"$here/sum.sh" "$path" > "$here/$obs_id.new" || exit 1
sleep 0.$((line % 5))
mv "$here/$obs_id.new" "$here/$obs_id.sum"
echo "end $obs_id" >> "$here/diary"
"""


class Pipeline(Ordeal):
    """A list of observations, and a command for each; it begins in folders whose names have to be quoted."""

    def __init__(
        self, sandbox: Sandbox, api: ApiVersion, folder: Path, rows: list[Wanted], *, unpack: bool
    ) -> None:
        super().__init__(sandbox, api, folder, rows, unpack=unpack)
        self.here = folder / "here"
        self.here.mkdir()
        for name, text in (("work.sh", WORK), ("sum.sh", f"#!/bin/sh\n{SUM}")):
            (self.here / name).write_text(text)
            (self.here / name).chmod(0o755)
        listed = folder / "obs.txt"
        listed.write_text("".join(f"{row.obs_id}\n" for row in rows))
        work, here = (shlex.quote(str(path)) for path in (self.here / "work.sh", self.here))
        then = f"{work} {{path}} {{obs_id}} {{line}} {here}"
        place = next(i for i, word in enumerate(self._command) if word.startswith("--csv="))
        self._command[place : place + 1] = ["--obs-ids", str(listed), "-j", ASKS, "--then", then]

    def diary(self) -> list[list[str]]:
        """What the commands have noted."""
        path = self.here / "diary"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def commands(self) -> dict[int, list[int | None]]:
        """What the ledger says of the command for each job: begun (None), or how it ended."""
        told: dict[int, list[int | None]] = defaultdict(list)
        for entry in self.remembered():
            if entry["event"] == "then":
                told[entry["job_id"]].append(entry.get("status"))
        return told

    def run_to_the_end(self, moments: list[Moment]) -> None:
        """Kill the client at each of the moments, and go on until no command fails any more."""
        left, status = iter(moments), None
        while status != ExitStatus.COMPLETE and self.outcome.statuses[4] < MOST_FAILING_RUNS:
            status = self.run_once(set(), next(left, None))
        self.check_end(status)
        self._check_commands()

    def _check_commands(self) -> None:
        """Each was successful once, and nothing came after that; what it made is that of the product."""
        told, noted = self.commands(), Counter((word, int(obs_id)) for word, obs_id in self.diary())
        observation = {job.id: int(job.obs_id) for job in self.jobs()}
        products = {int(path.name.split("_")[0]): path for path in self.products()}
        for job_id, obs_id in observation.items():
            ends = told[job_id]
            if ends.count(0) != 1 or ends[-1] != 0:
                self._complain(f"the ledger has of the command for job {job_id}: {ends}")
            if not 1 <= noted["end", obs_id] <= noted["begin", obs_id] <= ends.count(None):
                self._complain(f"the command for {obs_id} has run otherwise: {ends}, {noted}")
            if noted["overlap", obs_id]:
                self._complain(f"the command for {obs_id} was at work twice at a time")
            made = (self.here / f"{obs_id}.sum").read_text()
            again = subprocess.run(
                [self.here / "sum.sh", products[obs_id]], capture_output=True, text=True, check=True
            )
            if made != again.stdout:
                self._complain(
                    f"the command for {obs_id} has made {made}, and should have made {again.stdout}"
                )


SEEN["commands"] = lambda ordeal: len(ordeal.diary()) if isinstance(ordeal, Pipeline) else 0


def main() -> int:
    """Go through a batch for each interface and tell what came of it; 0 where every promise was kept."""
    options = _options()
    print(f"seed {options.seed}", flush=True)
    broken = []
    for name in options.api:
        started = time.monotonic()
        dice = random.Random(f"{options.seed} {name}")
        pipeline = one_batch(ApiVersion(name), options.rows, options.kills, dice, unpack=options.unpack)
        show(name, pipeline, options.rows, time.monotonic() - started)
        broken += [f"{name}, {promise}" for promise in pipeline.outcome.broken]
    for promise in broken:
        print(f"\nBROKEN (seed {options.seed}): {promise}")
    return 1 if broken else 0


def show(name: str, pipeline: Pipeline, count: int, seconds: float) -> None:
    """Print the figures of one batch."""
    noted, told = Counter(word for word, _ in pipeline.diary()), pipeline.commands().values()
    outcome = pipeline.outcome
    ends = {status: times for status, times in outcome.statuses.items() if status != -9}
    figures = {
        "observations": count,
        "kills": outcome.kills,
        "other ends": ends,
        "commands begun": noted["begin"],
        "come to their end": noted["end"],
        "failed": sum(each.count(3) for each in told),
        "done in the ledger": sum(each.count(0) for each in told),
        "wrong products": outcome.wrong,
        "jobs too many": outcome.duplicates,
        "broken promises": len(outcome.broken),
        "seconds": round(seconds),
    }
    print(f"{name}: {', '.join(f'{what} {figure}' for what, figure in figures.items())}", flush=True)


def one_batch(api: ApiVersion, count: int, kills: int, dice: random.Random, *, unpack: bool) -> Pipeline:
    """Take one batch through its kills and to its end."""
    rows = [
        Wanted(FIRST_OBS + 8 * place, ASKS, int(LARGEST ** dice.uniform(0.6, 1.0))) for place in range(count)
    ]
    sizes = {str(row.obs_id): row.size for row in rows}
    service = Sandbox(
        seconds_per_state=0.2, rate=RATE, product_size=lambda job: sizes[job.obs_id], delay=0.01
    )
    with tempfile.TemporaryDirectory(prefix="it's $HOME; ") as folder, service as sandbox:
        few = max(count // 8, 1)
        for name, fault in (
            ("drop_reply", {"times": few}),
            ("fail_call", {"times": few, "path": "*_job", "status": 502}),
            ("broken_json", {"times": few, "path": "*/get_jobs"}),
            ("cut_product", {"after": [dice.randrange(1, 500_000) for _ in range(few)]}),
        ):
            sandbox.faults.add(name, skip=dice.randrange(max(count // 2, 1)), **fault)
        pipeline = Pipeline(sandbox, api, Path(folder), rows, unpack=unpack)
        pipeline.run_to_the_end([_some_moment(dice) for _ in range(kills)])
        return _without_folder(pipeline)


def _without_folder(pipeline: Pipeline) -> Pipeline:
    """Keep what is to be told of it, as its folder goes."""
    diary, commands = pipeline.diary(), pipeline.commands()
    pipeline.diary, pipeline.commands = lambda: diary, lambda: commands  # type: ignore[method-assign]
    return pipeline


def _some_moment(dice: random.Random) -> Moment:
    """Return a moment at which something is half done, most often a command, or any soon after the start."""
    more, then = dice.choice([1, 1, 2, 3]), dice.choice([0.0, 0.0, 0.003, 0.02, 0.1])
    if dice.random() < 0.6:
        return Moment("commands", more, then, 20.0)
    what, latest = dice.choice(["lines", "parts", "products", "time"]), dice.uniform(0.5, 4.0)
    return Moment("jobs", NEVER, 0.0, latest) if what == "time" else Moment(what, more, then, latest)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=40, help="observations (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="at most, of each batch (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1 << 30), help="default: another each time"
    )
    names = [api.value for api in ApiVersion]
    parser.add_argument("--api", nargs="+", choices=names, default=["v2", "2018"], help="default: v2 2018")
    parser.add_argument("--unpack", action="store_true", help="let the client make folders of its products")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
