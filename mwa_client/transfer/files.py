"""What a file must be, where it goes, what it is once it stands there, and which job has which name."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import field
from pathlib import Path
from typing import Callable, Union

from mwa_client.directory.names import name_in_text
from mwa_client.light_dataclasses import dataclass


@dataclass(frozen=True)
class ExpectedFile:
    """A file that is to be fetched: its name, and the size and SHA-1 that it must have.

    Attributes
    ----------
    job_id : int
        The job whose product it is.
    name : str
        Its final name in the download directory, already made safe.
    size : int or None
        Size in bytes, where the service says it.
    sha1 : str or None
        SHA-1 of the whole file, where the service says it.
    obs_id : int or None
        The observation, where it is known.
    """

    job_id: int
    name: str
    size: int | None
    sha1: str | None
    obs_id: int | None = None


@dataclass(frozen=True)
class FetchedFile:
    """A file that stands in the download directory under its final name.

    Attributes
    ----------
    path : Path
        Where it is.
    size : int
        Size in bytes.
    sha1 : str
        SHA-1 of the whole file, as computed here.
    verified : bool
        Whether the service gave a SHA-1 and it agrees. Otherwise only the size was compared.
    fetched : int
        Bytes that this run took from the network for it.
    mtime_ns : int or None
        When it was last modified, in nanoseconds since 1970, as we left it; None where that was not recorded.
    is_changed : bool
        Its bytes were found to be others when it was read again, with that time: somebody has worked on it.
    """

    path: Path
    size: int
    sha1: str
    verified: bool
    fetched: int = 0
    mtime_ns: int | None = None
    is_changed: bool = False


@dataclass(frozen=True)
class FetchedFolder(FetchedFile):
    """A product that was unpacked: a folder that stands in the download directory under its final name.

    `size`, `sha1` and `verified` are those of the archive. `mtime_ns` is that of the folder itself, so that
    it shows what was put right into it or taken out of it since, and nothing of what happened deeper in.

    Attributes
    ----------
    files : int
        How many files are in it.
    sums : Path or None
        A file with a line for each of them, as for ``SHA1SUMS``; None once the lines are there.
    """

    files: int = 0
    sums: Path | None = None


Files = tuple[FetchedFile, ...]

Made = Union[Files, Callable[[str], Files]]
"""What stands under a name, or what reads it where it was written down."""


class FinalNames:
    """Which job's product has which name in a directory, and what we put under it.

    Names that differ in case alone count as one: some file systems cannot tell them apart. Safe to use
    from several threads.

    Parameters
    ----------
    service : str
        The service whose jobs these are.
    record : callable
        Is told each new fact, as an entry for the ledger.
    is_shared : bool
        Other clients give names to products of other observations meanwhile: a name that shows neither its
        observation nor its job may be given by them, too.
    """

    def __init__(
        self,
        service: str = "",
        record: Callable[[dict[str, object]], object] = lambda entry: None,
        *,
        is_shared: bool = False,
    ) -> None:
        self._is_shared = is_shared
        self._service = service
        self._record = record
        self._owners: dict[str, str] = {}
        self._made: dict[str, tuple[int, Made]] = {}
        self._lock = threading.RLock()

    def claim(self, name: str, job_id: int, obs_id: int | None = None) -> str:
        """Return the name under which a job's file is to stand, which no other job's file has.

        A file that had to be given another name once keeps that name.
        """
        with self._lock:
            renamed = f"{job_id}_{name}"
            if self._owners.get(renamed.casefold()) == self._owner(job_id):
                return renamed
            is_free = self._owners.get(name.casefold()) != self._owner(job_id)
            if self._is_shared and is_free and not re.match(f"({obs_id}|{job_id})(?![0-9])", name):
                return self.claim_another(name, job_id)
            return name if self._own(name, job_id) else self.claim_another(name, job_id)

    def claim_another(self, name: str, job_id: int) -> str:
        """Return another name for a job's file, where something that is not ours already has `name`."""
        with self._lock:
            own = f"{job_id}_"
            if not name.startswith(own):
                candidate, number = own + name, 1
            else:
                candidate, number = f"{own}2_{name.removeprefix(own)}", 2
            while candidate == name or not self._own(candidate, job_id):
                number += 1
                candidate = f"{own}{number}_{name.removeprefix(own)}"
            return candidate

    def learn(self, name: str, job_id: int, service: str) -> None:
        """Note that a name is a job's, as the ledger says."""
        with self._lock:
            self._owners.setdefault(name.casefold(), f"{service} {job_id}")

    def may_have(self, name: str, job_id: int) -> bool:
        """Say whether a name is a job's, or nobody's."""
        with self._lock:
            return self._owners.get(name.casefold()) in (None, self._owner(job_id))

    def release(self, job_id: int | None) -> None:
        """Let other jobs have the names of a job that is of no more use."""
        with self._lock:
            lost = self._owner(job_id)
            self._owners = {name: owner for name, owner in self._owners.items() if owner != lost}

    def placing(self, directory: Path, job_id: int, files: Sequence[FetchedFile]) -> None:
        """Record files before they get their final names, so that after a kill they are known as ours."""
        with self._lock:
            described = [describe(directory, file) for file in files]
            self._record({"event": "placing", "job_id": job_id, "files": described})
            self.remember(directory, job_id, files)

    def remember(self, directory: Path, job_id: int, files: Iterable[FetchedFile]) -> None:
        """Note files that we put into the directory, by the name of the file or folder there."""
        with self._lock:
            for name, inside in by_name(directory, files).items():
                self._made[name] = job_id, tuple(inside)

    def remember_unread(self, names: Iterable[str], job_id: int, read: Callable[[str], Files]) -> None:
        """Note that an earlier run put files under these names for a job; `read` finds them when needed."""
        with self._lock:
            for name in names:
                self._made[name] = job_id, read

    def made_by(self, job_id: int, name: str) -> Files:
        """Return the files that we put under a name for a job; none if we did not."""
        with self._lock:
            maker, files = self._made.get(name, (None, ()))
            return _read(files, name) if maker == job_id else ()

    def made(self, name: str) -> Files:
        """Return the files that we put under a name for any job; none if we did not."""
        with self._lock:
            return _read(self._made.get(name, (None, ()))[1], name)

    def _own(self, name: str, job_id: int) -> bool:
        """Give a name to a job unless another job has it; say whether the job has it now."""
        if name.casefold() not in self._owners:
            self._owners[name.casefold()] = self._owner(job_id)
            self._record({"event": "name", "name": name_in_text(name), "job_id": job_id})
        return self._owners[name.casefold()] == self._owner(job_id)

    def _owner(self, job_id: int | None) -> str:
        return f"{self._service} {job_id}"


@dataclass(frozen=True)
class DownloadDirectory:
    """The directory into which products are fetched.

    Attributes
    ----------
    path : Path
        The directory: finished products stand in it.
    state_dir : Path
        Where their part files stand meanwhile, and what is remembered; on the same file system.
    guard : callable
        Raises `DirectoryBusy` if another client works there; called before each change.
    names : FinalNames
        Which job has which name, and what we put there.
    """

    path: Path
    state_dir: Path
    guard: Callable[[], None] = lambda: None
    names: FinalNames = field(default_factory=FinalNames)

    def part(self, name: str) -> Path:
        """Return where the part file of a product stands."""
        return self.state_dir / f"{name}.part"


def _read(made: Made, name: str) -> Files:
    return made(name) if callable(made) else made


def by_name(directory: Path, files: Iterable[FetchedFile]) -> dict[str, list[FetchedFile]]:
    """Return files by the name of the file or folder of the directory that they are in."""
    grouped: dict[str, list[FetchedFile]] = {}
    above = f"{directory}/".replace("//", "/") if directory != Path() else ""
    for file in files:
        name = str(file.path).removeprefix(above)
        grouped.setdefault(name if name.startswith("/") else name.partition("/")[0], []).append(file)
    return grouped


def describe(directory: Path, file: FetchedFile) -> dict[str, object]:
    """Return a file, or a folder that was unpacked, as the ledger has it."""
    return {
        "name": name_in_text(file.path.relative_to(directory).as_posix()),
        "size": file.size,
        "sha1": file.sha1,
        "verified": file.verified,
        "mtime_ns": file.mtime_ns,
        **({"unpacked": file.files} if isinstance(file, FetchedFolder) else {}),
        **({"changed": True} if file.is_changed else {}),
    }
