"""What stands under a final name: whose it is, whether it is still as we left it, and who may replace it.

Only what we made, and that is still as we left it, is ever replaced. Everything else is the user's.
"""

from __future__ import annotations

import dataclasses
import enum
import errno
import hashlib
import os
import re
import stat
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Union

from mwa_client.directory.disk import disk_errors
from mwa_client.directory.names import name_in_text
from mwa_client.errors import Stopped
from mwa_client.transfer.part_file import WRITE_SIZE, ExpectedFile

PRODUCT_ENDINGS = (".tar", ".tar.gz", ".tgz", ".zip", ".fits", ".uvfits")
"""How the names of products end."""


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
    """

    path: Path
    size: int
    sha1: str
    verified: bool
    fetched: int = 0
    mtime_ns: int | None = None


class Standing(enum.Enum):
    """How a product that we put into the directory is found there later."""

    AS_LEFT = "as we left it"
    TOUCHED = "of the same size, but modified at another time: only its bytes can tell"
    CHANGED = "changed since"
    GONE = "moved or removed since"


@dataclass(frozen=True)
class Remark:
    """Something about a product that the user should know."""

    job_id: int
    name: str
    text: str


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
    """

    def __init__(
        self, service: str = "", record: Callable[[dict[str, object]], object] = lambda entry: None
    ) -> None:
        self._service = service
        self._record = record
        self._owners: dict[str, str] = {}
        self._made: dict[str, tuple[int, Made]] = {}
        self._lock = threading.RLock()

    def claim(self, name: str, job_id: int) -> str:
        """Return the name under which a job's file is to stand, which no other job's file has.

        A file that had to be given another name once keeps that name.
        """
        with self._lock:
            renamed = f"{job_id}_{name}"
            if self._owners.get(renamed.casefold()) == self._owner(job_id):
                return renamed
            return name if self._own(name, job_id) else self.claim_another(name, job_id)

    def claim_another(self, name: str, job_id: int) -> str:
        """Return another name for a job's file, because something that is not ours has this one."""
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
        """Take over from the ledger that a name is a job's."""
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
        """Record what is about to be put under its final name; a kill just after that must not disown it."""
        with self._lock:
            described = [describe(directory, file) for file in files]
            self._record({"event": "placing", "job_id": job_id, "files": described})
            self.remember(directory, job_id, files)

    def remember(self, directory: Path, job_id: int, files: Iterable[FetchedFile]) -> None:
        """Take over what we put into the directory, by the name of the file or folder there."""
        with self._lock:
            for name, inside in by_name(directory, files).items():
                self._made[name] = job_id, tuple(inside)

    def remember_unread(self, names: Iterable[str], job_id: int, read: Callable[[str], Files]) -> None:
        """Take over what we put under these names for a job; it is read when somebody asks."""
        with self._lock:
            for name in names:
                self._made[name] = job_id, read

    def made_by(self, job_id: int, name: str) -> Files:
        """Return what we put under a name for a job; nothing where we did not."""
        with self._lock:
            maker, files = self._made.get(name, (None, ()))
            return _read(files, name) if maker == job_id else ()

    def made(self, name: str) -> Files:
        """Return what we put under a name, for whatever job; nothing where we did not."""
        with self._lock:
            return _read(self._made.get(name, (None, ()))[1], name)

    def _own(self, name: str, job_id: int) -> bool:
        """Make a name a job's, if it is no other's; say whether it is."""
        if name.casefold() not in self._owners:
            self._owners[name.casefold()] = self._owner(job_id)
            self._record({"event": "name", "name": name_in_text(name), "job_id": job_id})
        return self._owners[name.casefold()] == self._owner(job_id)

    def _owner(self, job_id: int | None) -> str:
        return f"{self._service} {job_id}"


@dataclass(frozen=True)
class DownloadDirectory:
    """Where files go.

    Attributes
    ----------
    directory : Path
        Where finished products stand.
    memory : Path
        Where their part files stand meanwhile; on the same file system.
    guard : callable
        Raises `DirectoryBusy` if another client works there; called before each change.
    names : FinalNames
        Which job has which name, and what we put there.
    """

    directory: Path
    memory: Path
    guard: Callable[[], None] = lambda: None
    names: FinalNames = field(default_factory=FinalNames)

    def part(self, name: str) -> Path:
        """Return where the part file of a product stands."""
        return self.memory / f"{name}.part"


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
    """Return a file as the ledger has it."""
    return {
        "name": name_in_text(file.path.relative_to(directory).as_posix()),
        "size": file.size,
        "sha1": file.sha1,
        "verified": file.verified,
        "mtime_ns": file.mtime_ns,
    }


# --- How it is found later ----------------------------------------------------------------------------


def standing_of(directory: Path, files: Sequence[FetchedFile]) -> Standing:
    """Say how a product stands in the directory, without reading its bytes.

    Parameters
    ----------
    directory : Path
        The download directory.
    files : sequence of FetchedFile
        The product as we left it.
    """
    names = by_name(directory, files)
    if any(not os.path.lexists(directory / name) for name in names):
        return Standing.GONE
    found = {_standing_of_file(file) for file in files}
    if found & {Standing.CHANGED, Standing.GONE}:  # A file that is missing from a folder changed the folder.
        return Standing.CHANGED
    return Standing.TOUCHED if Standing.TOUCHED in found else Standing.AS_LEFT


def read_again(files: Sequence[FetchedFile], stop: threading.Event) -> tuple[FetchedFile, ...] | None:
    """Read a touched product again; return it with its new times, or None where its bytes have changed.

    Raises
    ------
    Stopped
        `stop` was set.
    """
    again = []
    for file in files:
        if _standing_of_file(file) is Standing.TOUCHED:
            try:
                state = file.path.lstat()
                if sha1_of(file.path, stop) != file.sha1:
                    return None
            except OSError:
                return None  # Whoever took away the right to read it has changed it.
            file = dataclasses.replace(file, mtime_ns=state.st_mtime_ns)
        again.append(file)
    return tuple(again)


def _standing_of_file(file: FetchedFile) -> Standing:
    try:
        state = file.path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return Standing.GONE
    except OSError:
        return Standing.CHANGED
    # Sizes and times are the owner's to choose: another user's file is none that we left.
    is_ours = stat.S_ISREG(state.st_mode) and state.st_uid == os.geteuid()
    if not is_ours or state.st_size != file.size:
        return Standing.CHANGED
    return Standing.AS_LEFT if state.st_mtime_ns == file.mtime_ns else Standing.TOUCHED


def sha1_of(path: Path, stop: threading.Event) -> str:
    """Return the SHA-1 of a file, which is no link.

    Raises
    ------
    Stopped
        `stop` was set.
    OSError
        It cannot be read.
    """
    digest = hashlib.sha1(usedforsecurity=False)
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb", buffering=0) as file:
        while data := file.read(WRITE_SIZE):
            digest.update(data)
            if stop.is_set():
                raise Stopped("The work was told to stop.")
    return digest.hexdigest()


# --- Under which name a file may stand ----------------------------------------------------------------


def choose_name(
    wanted: ExpectedFile, place: DownloadDirectory, stop: threading.Event, listen: Callable[[Remark], None]
) -> tuple[ExpectedFile, FetchedFile | None]:
    """Decide under which name a file is to stand, given what stands there.

    Returns
    -------
    ExpectedFile
        What is wanted, with another name where something that is not ours has its own.
    FetchedFile or None
        The right file, where it is there already.

    Raises
    ------
    DirectoryUnusable
        What stands there cannot be read.
    Stopped
        `stop` was set.
    """
    while True:
        path = place.directory / wanted.name
        with disk_errors(path):
            try:
                state = path.lstat()
            except FileNotFoundError:
                return wanted, None
            if stat.S_ISREG(state.st_mode):
                there = _Found(path, state, stop)
                if there.is_right(wanted, place.names):
                    verified = wanted.sha1 is not None
                    mtime_ns = state.st_mtime_ns
                    return wanted, FetchedFile(path, state.st_size, there.sha1, verified, 0, mtime_ns)
                if there.is_as_left(place.names.made(wanted.name)):
                    return wanted, None  # Made by us for a job that is of no more use: it may be replaced.
                if there.is_half_fetched(wanted, place.names):
                    place.guard()
                    listen(_moved_aside(wanted, path))
                    return wanted, None
        wanted = take_other_name(wanted, place, listen)


def take_other_name(
    wanted: ExpectedFile, place: DownloadDirectory, listen: Callable[[Remark], None]
) -> ExpectedFile:
    """Return what is wanted with another name, because something that is not ours has its own."""
    other = place.names.claim_another(wanted.name, wanted.job_id)
    path = place.directory / wanted.name
    text = f"{path} is there already, and is not this product as we made it. It stays as it is; "
    listen(Remark(wanted.job_id, wanted.name, f"{text}the product is called {other}."))
    return dataclasses.replace(wanted, name=other)


def settle(
    part: Path,
    wanted: ExpectedFile,
    file: FetchedFile,
    place: DownloadDirectory,
    listen: Callable[[Remark], None],
) -> FetchedFile:
    """Give a finished part file its final name, or another one where that has been taken meanwhile.

    Parameters
    ----------
    part : Path
        The part file; all of it is on disk.
    wanted : ExpectedFile
        What it was fetched as.
    file : FetchedFile
        What it is; its path does not count yet.
    place : DownloadDirectory
        Where it goes.

    Returns
    -------
    FetchedFile
        The file under its final name.
    """
    while True:
        file = dataclasses.replace(file, path=place.directory / wanted.name)
        before = place.names.made(wanted.name)
        place.names.placing(place.directory, wanted.job_id, [file])
        with disk_errors(file.path):
            place.guard()
            if rename_to_free_name(part, file.path):
                return file
            if any(_standing_of_file(old) is Standing.AS_LEFT for old in before):
                part.replace(file.path)
                return file
        wanted = take_other_name(wanted, place, listen)


def rename_to_free_name(path: Path, final: Path) -> bool:
    """Rename a file or a folder if nothing has the new name; say whether that was so."""
    try:
        # Unlike a rename, a second link never takes the place of something.
        os.link(path, final, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(final):
            return False
        path.rename(final)
        return True
    path.unlink()
    return True


_NO_HARD_LINKS = (
    errno.EPERM,
    errno.EACCES,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EXDEV,
    errno.EMLINK,
    errno.EINVAL,
)
"""What file systems say that know no hard links, or none from one folder into another."""


class _Found:
    """A regular file that stands under the name that a product is to have."""

    def __init__(self, path: Path, state: os.stat_result, stop: threading.Event) -> None:
        self._path = path
        self._state = state
        self._stop = stop
        self._sha1 = ""

    @property
    def sha1(self) -> str:
        """Its SHA-1, read once, and only if that can decide something; empty where we may not read it."""
        if not self._sha1:
            with suppress(PermissionError):
                self._sha1 = sha1_of(self._path, self._stop)
        return self._sha1

    def is_right(self, wanted: ExpectedFile, names: FinalNames) -> bool:
        """Say whether it is the wanted file: by the service's SHA-1, or else as the one that we left here."""
        if wanted.size not in (None, self._state.st_size):
            return False
        if self._state.st_uid != os.geteuid():
            return False  # What its owner can change at any time is not verified.
        if wanted.sha1 is not None:
            return self.sha1 == wanted.sha1
        return any(self._is(made) for made in names.made_by(wanted.job_id, wanted.name))

    def is_as_left(self, made: Sequence[FetchedFile]) -> bool:
        """Say whether we made it, and nobody has changed it since."""
        return any(self._state.st_mtime_ns == file.mtime_ns and self._is(file) for file in made)

    def is_half_fetched(self, wanted: ExpectedFile, names: FinalNames) -> bool:
        """Say whether it is plainly what another client has left of this product."""
        name = wanted.name.lower()
        is_named_so = wanted.obs_id is not None and re.match(f"{wanted.obs_id}(?![0-9])", name) is not None
        is_a_product = is_named_so and name.endswith(PRODUCT_ENDINGS) and not names.made(wanted.name)
        if not is_a_product or wanted.sha1 is None or self._state.st_uid != os.geteuid():
            return False
        if wanted.size not in (None, self._state.st_size):
            return True
        return self.sha1 not in ("", wanted.sha1)

    def _is(self, file: FetchedFile) -> bool:
        return self._state.st_size == file.size and self.sha1 == file.sha1


def _moved_aside(wanted: ExpectedFile, path: Path) -> Remark:
    """Give another client's half-fetched product another name, which nothing has."""
    aside, number = path.with_name(f"{path.name}.old"), 1
    while not rename_to_free_name(path, aside):
        number += 1
        aside = path.with_name(f"{path.name}.old{number}")
    text = (
        f"{path} has a wrong SHA-1; another client has not finished it, it seems. It is kept as {aside.name}."
    )
    return Remark(wanted.job_id, wanted.name, text)
