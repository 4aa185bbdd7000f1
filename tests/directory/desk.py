"""A download directory for one or several clients to work in, as the tests of its locks use it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

from shared import FastClock

from mwa_client.directory import owner as owners
from mwa_client.directory.lock import directory_lock
from mwa_client.directory.owner import Owner
from mwa_client.directory.part import Part

ELSEWHERE: dict[str, Any] = {"host": "login2", "boot": "another-boot", "space": "pid:[1]"}


@dataclasses.dataclass
class Desk:
    """A download directory for one or several clients to work in."""

    directory: Path
    clock: FastClock
    said: list[str] = dataclasses.field(default_factory=list)

    @property
    def memory(self) -> Path:
        return self.directory / ".mwa_client"

    @property
    def path(self) -> Path:
        return self.memory / "lock"

    @contextmanager
    def alone(self, part: Part | None = None, wait: float = 0.0) -> Iterator[Callable[[], None]]:
        means = (self.directory, self.memory, self.clock, self.said.append)
        with directory_lock(*means, part=part, wait=wait) as guard:
            yield guard

    def leave(self, *, age: float = 0.0, name: str = "lock", **changed: object) -> Owner:
        """Leave a lock as this process would have, but for what is changed; touched so many seconds ago."""
        owner = dataclasses.replace(Owner.here(self.clock.now()), **changed)  # type: ignore[arg-type]
        self.memory.mkdir(exist_ok=True)
        (self.memory / name).write_text(json.dumps(dataclasses.asdict(owner)))
        self.touch(age, name)
        return owner

    def touch(self, age: float = 0.0, name: str = "lock") -> None:
        when = self.clock.now() - age
        os.utime(self.memory / name, (when, when))

    def owner(self) -> dict[str, object]:
        owner: dict[str, object] = json.loads(self.path.read_text())
        return owner


def dead_process() -> tuple[int, str]:
    """The number and the birth of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    birth = owners._birth(process.pid)
    process.communicate()
    assert birth is not None
    return process.pid, birth
