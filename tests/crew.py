"""A batch that several parts work on, on two machines, killed now and then, while their number changes.

What the test of that and its benchmark share.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from forked import ForkedClient
from ordeal import HURRIED, PATIENCE, SLOWEST, Wanted, environment_of, sha1_of, wait_until_noted

from mwa_client.errors import ExitStatus
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Sandbox

WATCH = 4.0
"""Seconds for which a part watches the lock of one on the other machine; so many processes touch it late."""
ENDS = (ExitStatus.COMPLETE, ExitStatus.TRY_AGAIN, -signal.SIGKILL)


@dataclass
class Findings:
    """What came of it.

    Attributes
    ----------
    statuses : Counter of int
        How the processes ended.
    logins : list of float
        When each login was asked for.
    broken : list of str
        The promises that were broken.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    logins: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def most_logins_a_minute(self) -> int:
        return max(
            (sum(first <= each < first + 60.0 for each in self.logins) for first in self.logins), default=0
        )


class Crew:
    """The parts of one batch in one directory."""

    def __init__(
        self,
        sandbox: Sandbox,
        folder: Path,
        rows: Sequence[Wanted],
        dice: random.Random,
        *,
        api: ApiVersion = ApiVersion.V2,
        machines: int = 2,
    ) -> None:
        self.findings = Findings()
        self._api, self._machines = api, machines
        self._sandbox, self._folder, self._rows, self._dice = sandbox, folder, rows, dice
        self._directory = folder / "data"
        self._lock = threading.Lock()
        (folder / "jobs.csv").write_text("".join(row.text for row in rows))

    def go_through(self, numbers: Sequence[int], kills: int, longest: float) -> Findings:
        """Work with these numbers of parts, one after the other; the next come while the last are at work.

        Parameters
        ----------
        numbers : sequence of int
            So many parts at first, then so many.
        kills : int
            How often each part is killed, after at most `longest` seconds, before it is left alone.
        """
        earlier: list[threading.Thread] = []
        for place, of in enumerate(numbers):
            is_last = place == len(numbers) - 1
            parts = [
                threading.Thread(target=self._work, args=(f"{number}/{of}", kills, longest, is_last))
                for number in range(place % 2, place % 2 + of)  # From 0, then from 1.
            ]
            for part in parts:
                part.start()
            for part in earlier:
                part.join()
            time.sleep(0.0 if is_last else self._dice.uniform(0.5, 1.0) * longest)
            earlier = parts
        for part in earlier:
            part.join()
        self._check()
        return self.findings

    def _work(self, part: str, kills: int, longest: float, is_last: bool) -> None:
        """Start a part until it has been killed so often; the last ones go on until they are complete."""
        moments = [self._dice.uniform(0.2, longest) for _ in range(kills)]
        status: int | None = None
        for moment in moments:
            status = self._run(part, moment)
        deadline = time.monotonic() + PATIENCE
        while is_last and status != ExitStatus.COMPLETE:
            status = self._run(part, None)
            if time.monotonic() > deadline:
                self._complain(f"part {part} gets nowhere: {status}")
                return

    def _run(self, part: str, moment: float | None) -> int:
        number = int(part.partition("/")[0])
        hurried = {"MWA_ASVO_API_TIMEOUT": str(3 * SLOWEST), "SLOWEST": str(SLOWEST), "WATCH": str(WATCH)}
        words = [f"--csv={self._folder / 'jobs.csv'}", f"--dir={self._directory}", "--poll=0.1"]
        log = self._folder / f"{part.replace('/', '-of-')}.log"
        with log.open("w") as output:
            process = ForkedClient(
                [
                    *(sys.executable, "-c", HURRIED, *words),
                    *(f"--part={part}", "--wait-for-lock=60", f"--api={self._api.value}"),
                ],
                {
                    **environment_of(self._sandbox, self._api, self._folder),
                    **hurried,
                    "MACHINE": f"login{number % self._machines}",
                },
                stdout=output,
                stderr=output,
            )
        try:
            status = process.wait(PATIENCE if moment is None else moment)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
            if moment is None:
                self._complain(f"part {part} gets nowhere:\n{log.read_text()[-1500:]}")
        with self._lock:
            self.findings.statuses[status] += 1
        if status not in ENDS:
            self._complain(f"part {part} ended with {status}:\n{log.read_text()[-1500:]}")
        return status

    def _complain(self, what: str) -> None:
        with self._lock:
            self.findings.broken.append(what)

    def _check(self) -> None:
        """Every product is there once, ``SHA1SUMS`` is complete, and nothing is left behind."""
        wait_until_noted(self._sandbox)
        jobs, memory = self._sandbox.jobs, self._directory / ".mwa_client"
        made, wanted = Counter(int(job.obs_id) for job in jobs), Counter(row.obs_id for row in self._rows)
        if made != wanted:
            self._complain(f"jobs too many: {dict(made - wanted)}, too few: {dict(wanted - made)}")
        products = [path for path in self._directory.iterdir() if path.name not in (memory.name, "SHA1SUMS")]
        if Counter(map(sha1_of, products)) != Counter(job.content.sha1 for job in jobs):
            self._complain("the files in the directory are not the jobs' products")
        sums = (self._directory / "SHA1SUMS").read_text().splitlines()
        right = sorted(f"{sha1_of(path)}  {path.name}" for path in products)
        if sorted(sums) != right:
            self._complain(f"SHA1SUMS has {sums}, and should have {right}")
        left = sorted(
            path.name for path in memory.iterdir() if not path.name.startswith(("ledger.", "login."))
        )
        # A claim of a process that was killed is removed by the next one; the locks of parts that were killed
        # and are no more hinder nobody.
        if [name for name in left if not name.startswith("lock.")]:
            self._complain(f"left behind: {left}")
        asked = [request for request in self._sandbox.requests if request.path == "/api/v2/api_login"]
        self.findings.logins = sorted(request.started for request in asked)
        if self.findings.most_logins_a_minute > 1:
            self._complain(f"{self.findings.most_logins_a_minute} logins in a minute")
