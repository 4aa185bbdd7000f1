"""A batch whose client is killed again and again, and what must be true of it all the same.

The rows, the misfortunes, the moments and the checks that the test of kills and its benchmark share.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Union
from urllib.parse import urlsplit

from forked import ForkedClient, is_like_ours
from shared import environment, wait_until
from unpacked_products import content_of, contents_of, files_in, unpacked_content_of

from mwa_client.cli.settings import CONNECTIONS, DOWNLOADS
from mwa_client.errors import ExitStatus
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Fault, Job, JobState, JobType, LoggedRequest, Sandbox
from mwa_client.transfer import extra
from mwa_client.transfer.files import DownloadDirectory
from mwa_client.transfer.names import folder_name
from mwa_client.transfer.part_file import NOTE_SIZE, WRITE_SIZE, bytes_in_part
from mwa_client.transfer.part_note import note_path, read_note
from mwa_client.transfer.unpacking.unpack_part import MOST_WINDOW
from mwa_client.transfer.unpacking.unpacked import bytes_in_unpacking

FIRST_OBS = 1191828528
Client = Union[ForkedClient, "subprocess.Popen[bytes]"]
PATIENCE = 120.0
"""Seconds after which a client that was left alone gets nowhere."""
HURRIED = """
import os, sys
from mwa_client.batch import pacing
from mwa_client.directory import at_work, lock_file, owner
pacing.SLOWEST_ANSWER = pacing.SLOWEST_LISTING = float(os.environ["SLOWEST"])
lock_file.HEARTBEAT = float(os.environ["WATCH"]) / 5
lock_file.WATCH = at_work.WATCH = float(os.environ["WATCH"])
owner.boot_id = lambda: os.environ["MACHINE"]
from mwa_client.cli.main import main
sys.exit(main())
"""
"""The client, with shorter waits: how long it looks for a job, and watches a lock, in practice takes minutes.

It also takes itself to be on the machine that it is told.
"""
WATCH = 1.0
"""Seconds for which it watches another's lock."""
SLOWEST = 1.0
"""Seconds in which the practice service surely makes a job, and in which it surely lists it."""


# --- What is wanted -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """A row of the job file, and the size of its product in bytes."""

    obs_id: int
    asks: str
    size: int

    @property
    def text(self) -> str:
        return f"obs_id={self.obs_id}, {self.asks}\n"


CONVERSION = "job_type=c, freqres=20, edgewidth=80"
KINDS = (
    "job_type=d, download_type=vis",
    "job_type=d, download_type=vis_meta",
    f"{CONVERSION}, timeres=20, conversion=uvfits",
    f"{CONVERSION}, timeres=4, conversion=ms",
)


def some_rows(dice: random.Random, count: int, largest: int) -> list[Wanted]:
    """Return rows (3 or more) with products from nothing at all to the largest."""
    sizes = [largest, 0, 1, WRITE_SIZE, WRITE_SIZE + 1][: count // 2]
    sizes += [int(largest ** dice.uniform(0.6, 1.0)) for _ in range(count - len(sizes))]
    dice.shuffle(sizes)
    rows = [Wanted(FIRST_OBS + 8 * i, dice.choice(KINDS), size) for i, size in enumerate(sizes)]
    # Two whose products had one name in 2018, and one that wants its own though there is such a job.
    rows[0] = Wanted(FIRST_OBS, f"{CONVERSION}, timeres=10, conversion=ms", sizes[0])
    rows[1] = Wanted(FIRST_OBS, f"{CONVERSION}, timeres=20, conversion=ms", sizes[0])
    rows[-1] = Wanted(rows[-1].obs_id, f"{KINDS[0]}, allow_resubmit=true", sizes[-1])
    return rows


@contextmanager
def practice_service(rows: Sequence[Wanted], rate: float) -> Iterator[Sandbox]:
    """Run a sandbox whose products have the sizes of the rows, with a job that is like the last row's."""
    sizes = {str(row.obs_id): row.size for row in rows}
    with Sandbox(
        seconds_per_state=0.1, rate=rate, product_size=lambda job: sizes[job.obs_id], delay=0.01
    ) as sandbox:
        old = {"obs_id": str(rows[-1].obs_id), "download_type": "vis"}
        # An old one, which even a listing that lags has had for long.
        sandbox.service.add(old, JobType.VISIBILITIES, state=JobState.READY, created=time.time() - 3600.0)
        yield sandbox


# --- What goes wrong besides --------------------------------------------------------------------------


@dataclass(frozen=True)
class Damage:
    """A fault after which bytes that have arrived are worth nothing, and the most that it costs."""

    fault: Fault
    row: Wanted

    @property
    def cost(self) -> int:
        # What was there before is thrown away for other bytes, and these for the right ones.
        return 2 * self.row.size if self.fault.hits else 0


def let_go_wrong(
    sandbox: Sandbox, api: ApiVersion, rows: Sequence[Wanted], dice: random.Random
) -> list[Damage]:
    """Switch faults on, each to strike a few times and somewhere on the way; return those that cost bytes."""
    few = max(len(rows) // 6, 1)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("drop_reply", {"times": few}),
        ("drop_reply", {"times": few, "reset": True}),
        ("null_job_id", {"times": 1}),
        ("broken_json", {"times": 1, "path": "*_job"}),
        ("fail_call", {"times": few, "path": "*_job", "status": 502}),
        ("fail_call", {"times": few, "path": "*/get_jobs"}),
        ("busy", {"times": 1, "path": "*/get_jobs", "retry_after": 1}),
        ("broken_json", {"times": few, "path": "*/get_jobs"}),
        ("html_reply", {"times": 1, "path": "*/get_jobs"}),
        ("unknown_state", {"times": 3}),
        ("strings_for_numbers", {"times": 5}),
        *_particular_to(api),
    ]
    # The listing lags, and by less than the client takes a listing to lag at most.
    sandbox.faults.add("late_job", seconds=dice.uniform(0.0, 0.9 * SLOWEST))
    products: list[tuple[str, dict[str, Any]]] = [
        ("cut_product", {"after": [dice.randrange(1, 2_000_000) for _ in range(len(rows) // 3)]}),
        ("cut_product", {"after": [0, 5, 100_000][:few], "reset": True}),
        ("stall", {"times": few, "after": 50_000, "seconds": 0.5}),
        ("product_status", {"times": few, "status": 503, "retry_after": 0}),
        ("no_etag", {"times": 1}),
    ]
    for most, faults in ((6, calls), (len(rows) // 2, products)):
        for name, options in faults:
            sandbox.faults.add(name, skip=dice.randrange(most), **options)
    # The first two share an observation, and a fault is aimed by it.
    targets = dice.sample([row for row in rows[2:-1] if row.size > 1], k=min(3, len(rows) - 5))
    # The answers of these are lost, too, now and then.
    for row in dice.sample([row for row in rows[2:-1] if row not in targets], k=few):
        sandbox.faults.add("fail_at_once", obs_id=row.obs_id)
    damages = []
    for name, row in zip(("corrupt_byte", "change_content", "ignore_range"), targets):
        options = {"at": dice.randrange(row.size)} if name == "corrupt_byte" else {}
        damages.append(Damage(sandbox.faults.add(name, 1, obs_id=row.obs_id, **options), row))
    return damages


def _particular_to(api: ApiVersion) -> Iterator[tuple[str, dict[str, Any]]]:
    if api is ApiVersion.V2:
        # Each login counts here: there are few a minute. A token that has ended is only renewed.
        yield "expire_tokens", {"times": 3}
        yield "refuse_refresh", {"times": 1}
    else:
        yield "expire_session", {"times": 4}
    if api is not ApiVersion.V2018:
        # In 2018 nobody had heard of outages: a refusal was a refusal.
        yield "outage", {"times": 1}
        yield "expired_link", {"times": 2}


# --- The ordeal ---------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What came of one batch.

    Attributes
    ----------
    duplicates, wrong, unverified : int
        Jobs too many; files under a final name that were no job's product; such that ``SHA1SUMS`` does not
        vouch for at the end.
    total, served, damage : int
        Bytes in all products; bytes that were sent; the most that the faults can have cost of them.
    lost : list of int
        Bytes that each kill has cost.
    stops : int
        Times that the client was stopped, and woken when another had taken over.
    statuses : Counter of int
        How the processes ended.
    broken : list of str
        The promises that were broken.
    """

    duplicates: int = 0
    wrong: int = 0
    unverified: int = 0
    total: int = 0
    served: int = 0
    damage: int = 0
    stops: int = 0
    lost: list[int] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return len(self.lost)


class Ordeal:
    """One batch in one directory, whose client is killed and started again until all is there."""

    def __init__(
        self,
        sandbox: Sandbox,
        api: ApiVersion,
        folder: Path,
        rows: Sequence[Wanted],
        *,
        unpack: bool = False,
    ) -> None:
        self.sandbox = sandbox
        self.directory = folder / "data"
        self.memory = self.directory / ".mwa_client"
        self.outcome = Outcome()
        self._rows = rows
        self._before = {job.id for job in sandbox.jobs}
        self._log = folder / "client.log"
        self._command = [
            sys.executable,
            "-c",
            HURRIED,
            f"--csv={folder / 'jobs.csv'}",
            f"--dir={self.directory}",
            "--poll=0.05",
            f"--api={api.value}",
            *(["--unpack"] if unpack else []),
        ]
        self._unpack = unpack
        hurried = {"MWA_ASVO_API_TIMEOUT": str(SLOWEST), "SLOWEST": str(SLOWEST), "WATCH": str(WATCH)}
        hurried["MACHINE"] = "login1"
        self.environment = {**environment_of(sandbox, api, folder), **hurried}
        self._kept: dict[int, int] = {}
        self._first_missing: dict[int, int] = {}
        self._seen_right: set[tuple[object, ...]] = set()
        self._is_disturbed = False
        (folder / "jobs.csv").write_text("".join(row.text for row in rows))

    def go_through(self, damages: Sequence[Damage], moments: Iterator[Moment]) -> Outcome:
        """Kill the client at each of the moments, as long as there is work, and leave the last one alone."""
        damaged = {damage.row.obs_id for damage in damages}
        status: int | None = None
        while status is None:
            status = self.run_once(damaged, next(moments, None))
        self.outcome.damage += sum(damage.cost for damage in damages)
        self.check_end(status)
        return self.outcome

    def run_once(self, damaged: set[int], moment: Moment | None = None) -> int | None:
        """Run the client, kill it at a moment, and look at what it has left; None if it was killed."""
        if moment is not None and moment.asleep is not None:
            return self._run_stopped(moment, moment.asleep)
        status = self._run(moment)
        self._check_after_run(damaged, is_killed=status is None)
        return status

    def _run_stopped(self, moment: Moment, asleep: float) -> int | None:
        """Stop the client at a moment, let one on another machine take over, and wake the first one."""
        first = self._start()
        self._await(moment, first)
        first.send_signal(signal.SIGSTOP)
        time.sleep(WATCH)  # A lock that was just touched is somebody's who is alive.
        second = self._start(MACHINE="login2")
        try:
            wait_until(lambda: self._owner() == second.pid or second.poll() is not None, PATIENCE)
            time.sleep(asleep)
            first.send_signal(signal.SIGCONT)
            status = first.wait(PATIENCE)
            if status not in (ExitStatus.COMPLETE, ExitStatus.JOBS_FAILED, ExitStatus.TRY_AGAIN):
                self._complain(f"exit status {status} of the one that was stopped")
            time.sleep(moment.then)
        finally:
            for process in (first, second):
                process.kill()
                process.wait()
        time.sleep(WATCH)  # Nobody knows at once that one on another machine is gone.
        self.outcome.statuses.update((first.returncode, second.returncode))
        self.outcome.stops += 1
        # Two have written the same files for a moment: what they spoil is fetched again.
        self.outcome.damage += sum(row.size for row in self._rows)
        self._is_disturbed = True
        self._check_after_run(set(), is_killed=True)
        return None if second.returncode == -signal.SIGKILL else second.returncode

    def _owner(self) -> int | None:
        """Return the process that has the lock."""
        try:
            return int(json.loads((self.memory / "lock").read_text())["pid"])
        except (OSError, ValueError):
            return None

    def _start(self, **more: str) -> Client:
        env = {**self.environment, **more}
        with self._log.open("w") as log:
            if is_like_ours(env):
                return ForkedClient(self._command, env, stdout=log, stderr=log)
            return subprocess.Popen(self._command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _run(self, moment: Moment | None) -> int | None:
        """Run the client until it ends or is killed; return how it ended, None where it was killed."""
        process = self._start()
        gets_nowhere = False
        try:
            if moment is None:
                process.wait(PATIENCE)
            else:
                self._await(moment, process)
        except subprocess.TimeoutExpired:
            gets_nowhere = True
            self._complain(f"it gets nowhere in {PATIENCE:.0f} s")
        finally:
            process.kill()
            process.wait()
        self.outcome.statuses[process.returncode] += 1
        was_killed = process.returncode == -signal.SIGKILL and not gets_nowhere
        return None if was_killed else process.returncode

    def _await(self, moment: Moment, process: Client) -> None:
        deadline = time.monotonic() + moment.latest
        count = SEEN[moment.what]
        enough = count(self) + moment.more
        while process.poll() is None and time.monotonic() < deadline:
            if count(self) >= enough:
                time.sleep(moment.then)
                return
            time.sleep(0.0005)

    # --- What can be seen -----------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """The jobs that the client has made."""
        return [job for job in self.sandbox.jobs if job.id not in self._before]

    def products(self) -> list[Path]:
        """What stands in the directory under a final name."""
        ours = (self.memory.name, "SHA1SUMS", "SHA1SUMS.new")
        there = self.directory.iterdir() if self.directory.exists() else ()
        return [path for path in there if path.name not in ours]

    def remembered(self) -> list[dict[str, Any]]:
        """The lines of the ledger."""
        try:
            lines = (self.memory / "ledger.jsonl").read_text().split("\n")
        except FileNotFoundError:
            return []
        return [entry for entry in map(_json_of, lines) if entry]

    def product_requests(self) -> list[LoggedRequest]:
        """The requests for products in this run whose replies have ended, in the order of asking."""
        asked = [request for request in self.sandbox.requests if _is_for_product(request)]
        return sorted(asked, key=lambda request: request.started)

    def _on_disk(self) -> dict[int, int]:
        """How many bytes of each job's product are there, under its final name or in its part file."""
        sizes, whole = {}, {job.id: job.size for job in self.sandbox.jobs}
        for job_id, name in self._names().items():
            final = self.directory / name
            folder = self.directory / folder_name(name)
            if final.exists() or folder.exists():
                sizes[job_id] = whole[job_id] if folder.is_dir() else final.stat().st_size
            else:
                place = DownloadDirectory(self.directory, self.memory)
                unpacked = bytes_in_unpacking(place, name) if self._unpack else 0
                sizes[job_id] = max(bytes_in_part(self._part(name)), unpacked)
        return sizes

    def _where_to_go_on(self) -> dict[int, int]:
        """The first byte of each job's product that is missing."""
        places = self._on_disk()
        for job_id, name in self._names().items():
            note = read_note(note_path(self._part(name)))
            if note is not None and note.missing:
                places[job_id] = note.missing[0][0]
        return places

    def _names(self) -> dict[int, str]:
        named = [entry for entry in self.remembered() if entry["event"] == "name"]
        # The first name is the archive's; a folder that it becomes has another.
        return {entry["job_id"]: entry["name"] for entry in reversed(named)}

    def _part(self, name: str) -> Path:
        return self.memory / f"{name}.part"

    # --- What must be true ----------------------------------------------------------------------------

    def _complain(self, what: str) -> None:
        said = self._log.read_text().strip()[-2000:]
        self.outcome.broken.append(f"after {self.outcome.kills} kills: {what}\n{said}")

    def _check_after_run(self, damaged: set[int], *, is_killed: bool) -> None:
        wait_until_noted(self.sandbox)
        self._check_names()
        self._check_bytes(damaged, is_killed=is_killed)
        self.sandbox.reset_log()

    def _check_names(self) -> None:
        """Nothing wrong may ever stand under a final name."""
        right = {content for job in self.jobs() for content in contents_of(job)}
        for path in self.products():
            state = path.stat()
            known = (path, state.st_ino, state.st_size, state.st_mtime_ns)
            if known in self._seen_right:
                continue
            if content_of(path) in right:
                self._seen_right.add(known)
            else:
                self.outcome.wrong += 1
                self._complain(f"{path.name} is no job's product")

    def _check_bytes(self, damaged: set[int], *, is_killed: bool) -> None:
        """A run goes on where the last one was killed; what a kill costs is what was not written yet."""
        on_disk, lost = self._on_disk(), 0
        jobs = [] if self._is_disturbed else self.jobs()
        whole = {job.id: job for job in jobs if int(job.obs_id) not in damaged}
        requests: dict[int, list[LoggedRequest]] = {}
        for request in self.product_requests():
            self.outcome.served += _product_bytes(request)
            requests.setdefault(request.job_id or 0, []).append(request)
        for job_id, asked in requests.items():
            kept, there = self._kept.get(job_id, 0), on_disk.get(job_id, 0)
            wasted = max(sum(map(_product_bytes, asked)) - (there - kept), 0)
            lost += wasted
            first = self._first_missing.get(job_id, 0)
            if job_id in whole and not _goes_on(asked[0], first, whole[job_id].size):
                self._complain(f"job {job_id} was there up to {first}, {asked[0].range} was asked for")
            if job_id in whole and wasted > window(unpack=self._unpack):
                self._complain(f"{wasted} bytes of job {job_id} had arrived and were not on disk")
        for job_id in whole:
            if on_disk.get(job_id, 0) < self._kept.get(job_id, 0):
                self._complain(f"bytes of job {job_id} were on disk, and are not any more")
        self._kept, self._first_missing = on_disk, self._where_to_go_on()
        if is_killed:
            self.outcome.lost.append(lost)

    def check_end(self, status: int | None) -> None:
        """All is there, right, once, and nothing else."""
        dead = [job for job in self.jobs() if job.fixed_state is JobState.ERROR]
        if status != (ExitStatus.JOBS_FAILED if dead else ExitStatus.COMPLETE):
            self._complain(f"exit status {status}, and {len(dead)} jobs have failed")
        self._check_jobs()
        jobs, outcome = [job for job in self.jobs() if job not in dead], self.outcome
        self._check_sums(sum(map(files_in, jobs)) if self._unpack else len(self._rows) - len(dead))
        found = Counter(content_of(path) for path in self.products())
        expected = unpacked_content_of if self._unpack else (lambda job: job.content.sha1)
        if found != Counter(map(expected, jobs)):
            self._complain("the files in the directory are not the jobs' products")
        # What the commands of --then have said is kept.
        left = sorted(path.name for path in self.memory.iterdir() if path.name != "then")
        if self._is_disturbed:
            # One that was stopped may have written where it stood in a product that was complete by then.
            left = [name for name in left if ".part" not in name and ".unpack" not in name]
        if left != ["ledger.jsonl"]:
            self._complain(f"left behind: {left}")
        outcome.total = sum(job.size for job in jobs)
        most = outcome.total + sum(outcome.lost) + outcome.damage
        if outcome.served > most:
            self._complain(f"{outcome.served} bytes were sent, {most} were needed")
        if sum(outcome.lost) > outcome.kills * DOWNLOADS * window(unpack=self._unpack):
            self._complain(f"{outcome.kills} kills cost {sum(outcome.lost)} bytes")

    def _check_jobs(self) -> None:
        made = Counter(int(job.obs_id) for job in self.jobs())
        wanted = Counter(row.obs_id for row in self._rows)
        self.outcome.duplicates = sum((made - wanted).values())
        if made != wanted:
            self._complain(f"jobs too many: {dict(made - wanted)}, jobs too few: {dict(wanted - made)}")

    def _check_sums(self, files: int) -> None:
        sums = subprocess.run(
            ["sha1sum", "-c", "SHA1SUMS"], cwd=self.directory, capture_output=True, text=True, check=False
        )
        good = {line[: -len(": OK")] for line in sums.stdout.splitlines() if line.endswith(": OK")}
        tops = {name.partition("/")[0] for name in good}
        unverified = [path.name for path in self.products() if path.name not in tops]
        self.outcome.unverified = len(unverified)
        if sums.returncode or unverified or len(good) != files:
            self._complain(f"SHA1SUMS: {sums.stdout}{sums.stderr}, not in it: {unverified}")


# --- When it is killed --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """When to kill: so long after so many more of something are there, or at the latest so long after start.

    Attributes
    ----------
    what : str
        Of what there are more; see `SEEN`.
    more : int
        How many more.
    then : float
        Seconds from then to the kill.
    latest : float
        Seconds from the start of the process after which nothing is waited for any more.
    asleep : float or None
        It is not killed but stopped, and woken so many seconds after a client on another machine has taken
        over; that one is killed.
    """

    what: str
    more: int
    then: float
    latest: float
    asleep: float | None = None


NEVER = 1 << 30
SEEN: dict[str, Callable[[Ordeal], int]] = {
    "jobs": lambda ordeal: len(ordeal.sandbox.jobs),
    "lines": lambda ordeal: len(ordeal.remembered()),
    "parts": lambda ordeal: (
        len(list(ordeal.memory.glob("*.part"))) + len(list(ordeal.memory.glob("*.unpack")))
    ),
    "replies": lambda ordeal: len(ordeal.product_requests()),
    "products": lambda ordeal: len(ordeal.products()),
}
"""What can be counted from outside: jobs at the service, lines in the ledger, products sent, final names."""


def some_moment(dice: random.Random, longest: float = 1.0) -> Moment:
    """Return any moment after the start, or one of those at which something is half done."""
    if dice.random() < 0.4:
        return Moment("jobs", NEVER, 0.0, dice.uniform(0.05, longest))
    more, then = dice.choice([1, 1, 2, 5]), dice.choice([0.0, 0.0, 0.003, 0.02])
    return Moment(dice.choice(list(SEEN)), more, then, longest)


# --- Small things -------------------------------------------------------------------------------------


def environment_of(sandbox: Sandbox, api: ApiVersion, home: Path) -> dict[str, str]:
    """The environment of a user of one interface."""
    if api is ApiVersion.V2018:
        return environment(sandbox, HOME=str(home))
    return environment(MWA_ASVO_HOST=sandbox.url, MWA_ASVO_API_KEY="practice-key", HOME=str(home))


def wait_until_noted(sandbox: Sandbox) -> None:
    """Wait until all that a client had asked for which has ended is done and noted."""
    for url in (sandbox.url, sandbox.object_store_url):
        address = urlsplit(url)
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=20) as knock:
            # Connections are taken up in order: when this one is answered, the client's have been.
            knock.shutdown(socket.SHUT_WR)
            knock.recv(1)
    wait_until(lambda: sandbox.connections == 0)


def window(*, unpack: bool = False) -> int:
    """The most bytes of one download that can be on their way: in the client, and in all its sockets.

    What is unpacked as it comes has a window of bytes that have come before others, too.
    """
    sockets = 0
    for direction in ("rmem", "wmem"):
        limits = Path(f"/proc/sys/net/ipv4/tcp_{direction}")
        sockets += int(limits.read_text().split()[-1]) if limits.exists() else 8 << 20
    # Of what is written out of order, a kill may lose what was not noted yet.
    ahead = MOST_WINDOW if unpack else 0
    return WRITE_SIZE + NOTE_SIZE + CONNECTIONS * (2 * extra.EXTRA_WRITE_SIZE + sockets) + ahead


def sha1_of(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


def _json_of(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}  # The client is just writing it, or was killed there.
    return entry if isinstance(entry, dict) else {}


def _is_for_product(request: LoggedRequest) -> bool:
    return request.store or request.path == "/api/download"


def _product_bytes(request: LoggedRequest) -> int:
    return request.body_bytes_sent if request.status in (200, 206) else 0


def _goes_on(request: LoggedRequest, first: int, size: int) -> bool:
    """Whether the first request of a run begins at what is missing."""
    if request.range is None:
        return first == 0
    return first < size and request.range.startswith(f"bytes={first}-")
