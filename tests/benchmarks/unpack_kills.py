"""The client with --unpack, killed at random moments on a bad line: folders like those of tar, nothing twice.

Each folder is compared with what tar makes of the same product: names, bytes, permissions and times.

python tests/benchmarks/unpack_kills.py             200 kills over the three interfaces, batches of 12 rows
python tests/benchmarks/unpack_kills.py --kills 1000 --seed 7 --api v2
"""

from __future__ import annotations

import itertools
import random
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # What the tests share.

import kills
from ordeal import (
    Ordeal,
    Outcome,
    Wanted,
    let_go_wrong,
    practice_service,
    sha1_of,
    some_moment,
    some_rows,
)

from mwa_client.errors import ExitStatus
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Job, JobState, Sandbox
from mwa_client.transfer.files import DownloadDirectory
from mwa_client.transfer.part_file import bytes_in_part
from mwa_client.transfer.part_note import note_path, read_note
from mwa_client.transfer.unpacked import bytes_in_unpacking

TAR = ("tar", "--delay-directory-restore")
"""Without this a folder has the time of the unpacking where its files do not come right behind it."""
Tree = Mapping[str, tuple[int, int, str]]
"""Permissions, time and content of each file and folder; a folder has no content."""


class UnpackOrdeal(Ordeal):
    """A batch of products that are unpacked, whose client is killed until all is there."""

    def __init__(self, sandbox: Sandbox, api: ApiVersion, folder: Path, rows: Sequence[Wanted]) -> None:
        super().__init__(sandbox, api, folder, rows)
        self._command += ["--unpack", "--connections=4"]
        self._scratch = folder / "reference"
        self._trees: dict[str, Tree] = {}

    def _on_disk(self) -> dict[int, int]:
        place = DownloadDirectory(self.directory, self.memory)
        sizes = {}
        for job in self.jobs():
            there = 0
            for name in self._names_of(job.id):
                final = self.directory / name
                if final.is_dir():
                    there = job.size
                elif final.exists():
                    there = max(there, final.stat().st_size)
                there = max(there, bytes_in_unpacking(place, name) + bytes_in_part(self._part(name)))
            sizes[job.id] = min(there, job.size)
        return sizes

    def _names_of(self, job_id: int) -> list[str]:
        return [
            entry["name"]
            for entry in self.remembered()
            if entry["event"] == "name" and entry["job_id"] == job_id
        ]

    def _where_to_go_on(self) -> dict[int, int]:
        places = self._on_disk()
        for job_id in places:
            for name in self._names_of(job_id):
                note = read_note(note_path(self._part(name)))
                if note is not None and note.missing:
                    places[job_id] = note.missing[0][0]
        return places

    def _check_names(self) -> None:
        for path in self.products():
            state = path.stat()
            known = (path, state.st_ino, state.st_size, state.st_mtime_ns)
            if known not in self._seen_right:
                if self._is_right(path):
                    self._seen_right.add(known)
                else:
                    self.outcome.wrong += 1
                    self._complain(f"{path.name} is no job's product")

    def _is_right(self, path: Path) -> bool:
        if path.is_dir():
            tree = tree_of(path)
            return any(self._tree_of(job) == tree for job in self.jobs())
        return sha1_of(path) in {job.content.sha1 for job in self.jobs()}

    def _tree_of(self, job: Job) -> Tree:
        """Return what `tar` or `unzip` makes of a job's product."""
        key = job.content.sha1  # A fault gives a job other content.
        if key not in self._trees:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch.mkdir()
            archive = self._scratch / "archive"
            archive.write_bytes(b"".join(job.content.pieces()))
            out = self._scratch / "out"
            out.mkdir()
            is_zip = archive.read_bytes()[:2] == b"PK"
            unpack = ["unzip", "-q", "{}", "-d"] if is_zip else [*TAR, "-xf", "{}", "-C"]
            command = [*(str(archive) if word == "{}" else word for word in unpack), str(out)]
            done = subprocess.run(command, capture_output=True, check=False)
            self._trees[key] = tree_of(out) if done.returncode == 0 else {}
        return self._trees[key]

    def check_end(self, status: int | None) -> None:
        """All is there, right, once, and nothing else."""
        dead = [job for job in self.jobs() if job.fixed_state is JobState.ERROR]
        if status != (ExitStatus.JOBS_FAILED if dead else ExitStatus.COMPLETE):
            self._complain(f"exit status {status}, and {len(dead)} jobs have failed")
        self._check_jobs()
        jobs, outcome = [job for job in self.jobs() if job not in dead], self.outcome
        self._check_listed()
        if len(self.products()) != len(jobs):
            self._complain(f"{len(self.products())} products are there, not {len(jobs)}")
        left = sorted(path.name for path in self.memory.iterdir())
        if left != ["ledger.jsonl"]:
            self._complain(f"left behind: {left}")
        outcome.total = sum(job.size for job in jobs)
        most = outcome.total + sum(outcome.lost) + outcome.damage
        if outcome.served > most:
            self._complain(f"{outcome.served} bytes were sent, {most} were needed")

    def _check_listed(self) -> None:
        sums = subprocess.run(
            ["sha1sum", "-c", "SHA1SUMS"], cwd=self.directory, capture_output=True, text=True, check=False
        )
        good = {line[: -len(": OK")] for line in sums.stdout.splitlines() if line.endswith(": OK")}
        files = [each for path in self.products() for each in (path, *path.rglob("*")) if each.is_file()]
        names = {each.relative_to(self.directory).as_posix() for each in files}
        self.outcome.unverified = len(names - good)
        if sums.returncode or names != good:
            self._complain(f"SHA1SUMS: {sums.stderr}, not in it: {names - good}, not there: {good - names}")


def tree_of(path: Path) -> Tree:
    """Return all that a folder holds, with its permissions and times."""
    found = {}
    for each in path.rglob("*"):
        state = each.lstat()
        is_folder = stat.S_ISDIR(state.st_mode)
        content = "" if is_folder else sha1_of(each)
        found[each.relative_to(path).as_posix()] = stat.S_IMODE(state.st_mode), int(state.st_mtime), content
    return found


def batches(api: ApiVersion, count: int, rows: int, seed: int) -> Iterator[Outcome]:
    """Go through one batch after the other until there were so many kills."""
    for number in itertools.count(1):
        dice = random.Random(f"{seed} {api.value} {number}")
        wanted = some_rows(dice, rows, kills.LARGEST)
        with tempfile.TemporaryDirectory() as folder, practice_service(wanted, kills.RATE) as sandbox:
            ordeal = UnpackOrdeal(sandbox, api, Path(folder), wanted)
            damages = let_go_wrong(sandbox, api, wanted, dice)
            moments = (some_moment(dice, longest=2.0) for _ in range(count))
            outcome = ordeal.go_through(damages, moments)
        count -= outcome.kills
        print(f"{api.value}, batch {number}: {outcome.kills} kills, {count} to come", flush=True)
        yield outcome
        if count <= 0 or outcome.broken:
            return


def main() -> int:
    """Kill, look, tell; 0 where every promise was kept."""
    options = kills.options_of(__doc__ or "", rows=12)
    print(f"seed {options.seed}", flush=True)
    started = time.monotonic()
    results = [
        kills.Result(api, list(batches(api, count, options.rows, options.seed)))
        for api, count in kills.shares(options.kills, [ApiVersion(name) for name in options.api])
    ]
    kills.show(results)
    print(f"{time.monotonic() - started:.0f} s")
    broken = [f"{result.api.value}, {promise}" for result in results for promise in result.broken]
    for promise in broken:
        print(f"\nBROKEN (seed {options.seed}): {promise}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
