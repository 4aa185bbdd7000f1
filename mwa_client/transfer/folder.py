"""A product that was delivered to a file system which this host can see: copied, never moved.

The copy grows beside the ledger and gets its name at the end; a killed copy is continued. Links are copied
as links, modes are never widened, and a delivery that changes under our hands is not called a product.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from mwa_client.disk import (
    boot_id,
    disk_errors,
    json_lines,
    open_new,
    remove_tree,
    sync_directory,
    sync_path,
    walk_tree,
)
from mwa_client.errors import ServiceUnavailable, Stopped, TransferFailed
from mwa_client.pace import Backoff, Clock
from mwa_client.transfer.files import (
    FetchedFile,
    Place,
    Standing,
    rename_to_free_name,
    standing_of,
    take_other_name,
)
from mwa_client.transfer.partial import Wanted
from mwa_client.transfer.product import PROGRESS_INTERVAL, Progress, Setback, TransferEvent

if TYPE_CHECKING:
    from hashlib import _Hash

READ_SIZE = 1 << 20
"""Bytes that are copied at a time."""
SYNC_SIZE = 64 << 20
"""Bytes of one file after which it is flushed to disk: what a power cut can cost."""
FEW_FILES = 100
"""So many files are flushed to disk one by one; for more, the system is asked to write all that it has."""
TRIES = 6
"""Tries in a row to read on where a file system has failed, with waits from 1 s to 1 min between them."""


@dataclass(frozen=True)
class _Entry:
    """Something in a delivery.

    Attributes
    ----------
    name : str
        Its path below the delivery; empty for the delivery itself.
    mode : int
        What the system says it is, and who may do what with it.
    size, mtime_ns : int
        Of a file: bytes, and nanoseconds since 1970; zero for what is none.
    target : str
        Where a link leads, from the place where it is.
    """

    name: str
    mode: int
    size: int = 0
    mtime_ns: int = 0
    target: str = ""

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def permissions(self) -> int:
        """Who may do what, without set-uid and its kin; we can read it, so its copy is ours to read."""
        return self.mode & 0o777 | (0o500 if stat.S_ISDIR(self.mode) else 0o400)


def copy(
    wanted: Wanted,
    source: Path,
    place: Place,
    clock: Clock,
    stop: threading.Event,
    listen: Callable[[TransferEvent], None],
) -> tuple[FetchedFile, ...]:
    """Copy a delivered file or folder into the directory under its final name.

    Parameters
    ----------
    wanted : Wanted
        The job, the final name, and the size of all files together.
    source : Path
        What was delivered. It is only read.
    place, clock, stop, listen
        As for `mwa_client.transfer.product.fetch`.

    Returns
    -------
    tuple of FetchedFile
        The files under the final name.

    Raises
    ------
    TransferFailed
        The source cannot be read, has no files or not the size that the service says, has gone, changes
        while it is copied, or has a link that leads out of it.
    DiskFull, DirectoryUnusable, Stopped
        As for `mwa_client.transfer.product.fetch`.
    """
    there = place.names.made_by(wanted.job_id, wanted.name)
    if there and standing_of(place.directory, there) is Standing.AS_LEFT:
        _forget(wanted, place)  # A run that was killed in its last moment may have left something.
        return there
    entries = _entries_of(source)
    _check_size(wanted, source, entries)
    with _Copy(wanted, source, place, clock, stop, listen) as copying:
        copying.copy_all(entries)
        if _entries_of(source) != entries:
            raise _changed(source)
        return copying.settle(entries)


def _forget(wanted: Wanted, place: Place) -> None:
    with disk_errors(place.memory):
        remove_tree(place.part(wanted.name))
        _journal_path(place, wanted).unlink(missing_ok=True)


def _journal_path(place: Place, wanted: Wanted) -> Path:
    return place.memory / f"{wanted.name}.copied"


# --- The source ---------------------------------------------------------------------------------------


def _entries_of(source: Path) -> list[_Entry]:
    """Return all that is in a delivery; nothing is passed over in silence."""
    try:
        entries = [_entry_of(source, source)]
        if stat.S_ISDIR(entries[0].mode):
            entries += [_entry_of(source, Path(found.path)) for found in walk_tree(source)]
    except OSError as error:
        raise _unreadable(source, error) from error
    if not any(entry.is_file for entry in entries):
        raise TransferFailed(
            f"{source} has no files.", "Look at the delivery, and tell the archive's help desk."
        )
    return entries


def _entry_of(source: Path, path: Path) -> _Entry:
    state = path.lstat()
    name = "" if path == source else str(path.relative_to(source))
    if stat.S_ISREG(state.st_mode):
        return _Entry(name, state.st_mode, state.st_size, state.st_mtime_ns)
    if stat.S_ISDIR(state.st_mode):
        return _Entry(name, state.st_mode)
    if stat.S_ISLNK(state.st_mode) and name:
        return _Entry(name, state.st_mode, target=_inner_target(source, path))
    raise TransferFailed(
        f"{path} is not a file, a folder or a link.",
        "Look at the delivery, and tell the archive's help desk.",
    )


def _inner_target(source: Path, link: Path) -> str:
    """Return where a link leads that stays inside the delivery; refuse others."""
    target, root = str(link.readlink()), os.path.realpath(source)
    real = os.path.realpath(link)
    if real != root and not real.startswith(f"{root}/"):
        raise TransferFailed(
            f"{link} is a link that leads out of the delivery, to {target}.",
            "Look at the delivery, and tell the archive's help desk. Nothing outside it was read.",
        )
    # One that names its goal from the root of all must lead to the copy, not back to the delivery.
    return os.path.relpath(real, os.path.realpath(link.parent)) if target.startswith("/") else target


def _check_size(wanted: Wanted, source: Path, entries: list[_Entry]) -> None:
    size = sum(entry.size for entry in entries)
    if wanted.size not in (None, size):
        raise TransferFailed(
            f"{source} has {size} bytes, but the service says {wanted.size}.",
            "Part of it may have been purged. Look at the delivery, and tell the archive's help desk.",
        )


def _changed(path: Path) -> TransferFailed:
    return TransferFailed(
        f"{path} changed while it was copied.",
        "Run the command again when nobody writes there any more; what was copied is kept.",
    )


# --- The copy -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Copied:
    """How much of a file is copied.

    Attributes
    ----------
    size, mtime_ns : int
        The file as it was then: of another version nothing is used.
    count : int
        Bytes that are copied.
    sha1 : str
        SHA-1 of the whole; empty while it is not whole.
    synced : bool
        These bytes are known to be on disk, whatever happens.
    """

    size: int
    mtime_ns: int
    count: int
    sha1: str
    synced: bool

    def is_of(self, entry: _Entry) -> bool:
        return (self.size, self.mtime_ns) == (entry.size, entry.mtime_ns)


class _Journal:
    """Which files of a copy are finished, and how far the large ones are; one JSON object a line.

    The first line says whose copy it is, and in which boot of the machine it was made: after a power cut
    only what is known to be on disk counts.
    """

    def __init__(self, path: Path, job_id: int, source: Path) -> None:
        header = {"job_id": job_id, "source": str(source), "boot": boot_id()}
        lines: list[dict[str, Any]] = list(json_lines(path)) if path.exists() else []
        before = lines[0] if lines else {}
        self.is_continued = all(before.get(key) == header[key] for key in ("job_id", "source"))
        is_same_boot = bool(header["boot"]) and before.get("boot") == header["boot"]
        self._copied: dict[str, _Copied] = {}
        self._file: TextIO = os.fdopen(open_new(path, 0o600), "w", encoding="ascii")
        self._write(header)
        for line in lines[1:] if self.is_continued else []:
            name, copied = line.pop("name", None), _read_copied(line)
            if isinstance(name, str) and copied is not None and (copied.synced or is_same_boot):
                self.note(name, copied)

    def close(self) -> None:
        self._file.close()

    def copied(self, entry: _Entry) -> _Copied:
        """Return how much of a file is copied."""
        copied = self._copied.get(entry.name)
        nothing = _Copied(entry.size, entry.mtime_ns, 0, "", True)
        return copied if copied is not None and copied.is_of(entry) else nothing

    def note(self, name: str, copied: _Copied) -> None:
        """Note how much of a file is copied."""
        self._copied[name] = copied
        self._write({"name": name, **dataclasses.asdict(copied)})

    def _write(self, line: Mapping[str, object]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def _read_copied(line: dict[str, Any]) -> _Copied | None:
    kinds = {"size": int, "mtime_ns": int, "count": int, "sha1": str, "synced": bool}
    if line.keys() != kinds.keys() or not all(isinstance(line[key], kind) for key, kind in kinds.items()):
        return None
    return _Copied(**line)


class _Copy:
    """A copy on its way."""

    def __init__(
        self,
        wanted: Wanted,
        source: Path,
        place: Place,
        clock: Clock,
        stop: threading.Event,
        listen: Callable[[TransferEvent], None],
    ) -> None:
        self._wanted = wanted
        self._source = source
        self._place = place
        self._clock = clock
        self._stop = stop
        self._listen = listen
        self._target = place.part(wanted.name)
        self._backoff = Backoff(clock, first=1.0, cap=60.0)
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._fetched: dict[str, int] = {}
        self._modes: list[tuple[Path, int]] = []
        self._size = self._done = 0
        self._told = float("-inf")
        with disk_errors(self._target):
            place.guard()
            self._journal = _Journal(_journal_path(place, wanted), wanted.job_id, source)
            if not self._journal.is_continued:
                remove_tree(self._target)

    def __enter__(self) -> _Copy:
        return self

    def __exit__(self, *exception: object) -> None:
        self._journal.close()

    def copy_all(self, entries: list[_Entry]) -> None:
        """Copy what is missing."""
        self._size = sum(entry.size for entry in entries)
        for entry in entries:
            self._place.guard()
            self._heed_stop()
            if entry.is_file:
                self._copy_file(entry)
            elif entry.target:
                self._copy_link(entry)
            else:
                self._make_folder(entry)

    def settle(self, entries: list[_Entry]) -> tuple[FetchedFile, ...]:
        """Bring the copy to the disk, and give it its final name."""
        with disk_errors(self._target):
            self._sync(entries)
            for path, mode in reversed(self._modes[1:]):
                path.chmod(mode)
            files = self._rename(entries)
            sync_directory(self._place.directory)
            _journal_path(self._place, self._wanted).unlink(missing_ok=True)
        return files

    def _rename(self, entries: list[_Entry]) -> tuple[FetchedFile, ...]:
        """Give the copy its final name, or another one where something has that; nothing is replaced."""
        wanted = self._wanted
        while True:
            final = self._place.directory / wanted.name
            files = tuple(self._file(final, entry) for entry in entries if entry.is_file)
            self._place.guard()
            self._place.names.placing(self._place.directory, wanted.job_id, files)
            if rename_to_free_name(self._target, final):
                for _, mode in self._modes[:1]:
                    final.chmod(mode)  # Not before: a folder that is not to be written into cannot be moved.
                return files
            wanted = take_other_name(wanted, self._place, self._listen)

    def _file(self, final: Path, entry: _Entry) -> FetchedFile:
        path, mtime_ns = final / entry.name, self._path(entry).lstat().st_mtime_ns
        sha1, fetched = self._journal.copied(entry).sha1, self._fetched.get(entry.name, 0)
        return FetchedFile(path, entry.size, sha1, False, fetched, mtime_ns)

    def _path(self, entry: _Entry) -> Path:
        return self._target / entry.name if entry.name else self._target

    def _sync(self, entries: list[_Entry]) -> None:
        """Bring all to the disk that is not known to be there."""
        unsynced = [entry for entry in entries if entry.is_file and not self._journal.copied(entry).synced]
        if len(unsynced) > FEW_FILES:
            os.sync()  # One by one, twenty thousand files would take half a minute.
            return
        for path in [*map(self._path, unsynced), *(path for path, _ in self._modes)]:
            sync_path(path)

    # --- One entry ---

    def _make_folder(self, entry: _Entry) -> None:
        path = self._path(entry)
        with disk_errors(path):
            if not path.is_dir() or path.is_symlink():
                path.unlink(missing_ok=True)
                # Until the copy is finished we must be able to write there.
                path.mkdir(entry.permissions | 0o700)
            self._modes.append((path, stat.S_IMODE(path.lstat().st_mode) & entry.permissions))

    def _copy_link(self, entry: _Entry) -> None:
        path = self._path(entry)
        with disk_errors(path):
            if not (path.is_symlink() and str(path.readlink()) == entry.target):
                path.unlink(missing_ok=True)
                path.symlink_to(entry.target)

    def _copy_file(self, entry: _Entry) -> None:
        copied = self._journal.copied(entry)
        is_there = bool(copied.sha1) and _has_size(self._path(entry), entry.size)
        while not is_there:
            try:
                self._copy_content(entry)
                is_there = True
            except ServiceUnavailable as error:
                self._wait(entry, error)
        self._done += entry.size
        self._tell(self._done)

    def _copy_content(self, entry: _Entry) -> None:
        """Copy the bytes of a file, from where its copy ends."""
        with ExitStack() as open_files:
            source = self._open_source(entry, open_files)
            with disk_errors(self._path(entry)):
                target, position, digest = self._open_copy(entry, open_files)
            with _reading(self._source / entry.name):
                os.lseek(source, position, os.SEEK_SET)
            noted = position
            while True:
                with _reading(self._source / entry.name):
                    count = os.readv(source, [self._buffer])
                if not count or position + count > entry.size:
                    break
                with disk_errors(self._path(entry)):
                    self._place.guard()
                    _write_all(target, self._buffer[:count])
                    digest.update(self._buffer[:count])
                    position += count
                    self._fetched[entry.name] = self._fetched.get(entry.name, 0) + count
                    if position - noted >= SYNC_SIZE:
                        os.fsync(target)
                        noted = position
                        self._note(entry, position)
                self._backoff.reset()
                self._tell(self._done + position)
                self._heed_stop()
            state = os.fstat(source)
            if count or (position, state.st_size, state.st_mtime_ns) != (
                entry.size,
                entry.size,
                entry.mtime_ns,
            ):
                raise _changed(self._source / entry.name)
            self._finish_file(entry, target, digest.hexdigest())

    def _open_source(self, entry: _Entry, open_files: ExitStack) -> int:
        path = self._source / entry.name
        with _reading(path):
            source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            open_files.callback(os.close, source)
            state = os.fstat(source)
        if not stat.S_ISREG(state.st_mode) or (state.st_size, state.st_mtime_ns) != (
            entry.size,
            entry.mtime_ns,
        ):
            raise _changed(path)
        return source

    def _open_copy(self, entry: _Entry, open_files: ExitStack) -> tuple[int, int, _Hash]:
        """Open the copy of a file; return it with the number of its bytes that count, and their SHA-1."""
        path, digest = self._path(entry), hashlib.sha1(usedforsecurity=False)
        copied = self._journal.copied(entry)
        start = copied.count if not copied.sha1 and _has_size(path, copied.count, or_more=True) else 0
        if not start:
            remove_tree(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(path, flags, entry.permissions | 0o600)
        open_files.callback(os.close, target)
        os.ftruncate(target, start)
        while os.lseek(target, 0, os.SEEK_CUR) < start:
            digest.update(os.read(target, READ_SIZE))
            self._heed_stop()
        return target, start, digest

    def _finish_file(self, entry: _Entry, target: int, sha1: str) -> None:
        is_large = entry.size >= SYNC_SIZE
        with disk_errors(self._path(entry)):
            os.fchmod(target, stat.S_IMODE(os.fstat(target).st_mode) & entry.permissions)
            if is_large:
                os.fsync(target)
            self._note(entry, entry.size, sha1, synced=is_large)

    def _note(self, entry: _Entry, count: int, sha1: str = "", *, synced: bool = True) -> None:
        self._journal.note(entry.name, _Copied(entry.size, entry.mtime_ns, count, sha1, synced))

    # --- Small steps ---

    def _wait(self, entry: _Entry, error: ServiceUnavailable) -> None:
        """Wait before reading on: file systems of clusters hang and come back as networks do."""
        if self._backoff.tries >= TRIES:
            raise TransferFailed(
                error.what, "What was copied is kept: run the command again to go on."
            ) from error
        is_first = self._backoff.tries == 0
        waiting = self._backoff.next()
        if is_first:
            self._listen(Setback(self._wanted.job_id, self._wanted.name, error.what, waiting))
        self._clock.sleep(waiting, self._stop)
        self._heed_stop()

    def _heed_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped("The work was told to stop.")

    def _tell(self, done: int) -> None:
        now = self._clock.monotonic()
        if now - self._told >= PROGRESS_INTERVAL or done == self._size:
            self._told = now
            self._listen(Progress(self._wanted.job_id, self._wanted.name, done, self._size))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what the system says about a file of the delivery into one of our errors."""
    try:
        yield
    except OSError as error:
        if error.errno in (
            errno.EIO,
            errno.ESTALE,
            errno.ETIMEDOUT,
            errno.EAGAIN,
            errno.ENOTCONN,
            errno.ESHUTDOWN,
        ):
            raise ServiceUnavailable(f"Reading {path} failed ({error.strerror}).") from error
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> TransferFailed:
    return TransferFailed(
        f"Cannot read {error.filename or path}: {error.strerror or error}.",
        "Look whether the delivery is still there, and at its permissions.",
    )


def _has_size(path: Path, size: int, *, or_more: bool = False) -> bool:
    try:
        state = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(state.st_mode) and (state.st_size == size or (or_more and state.st_size > size))


def _write_all(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]
