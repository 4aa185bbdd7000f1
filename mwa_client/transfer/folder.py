"""A product that was delivered to a file system which this host can see: copied, never moved.

Each file takes the way of a download (part file, resume, rename); the folder gets its name at the end.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from mwa_client.disk import disk_errors, sync_directory
from mwa_client.errors import ServiceUnavailable, TransferFailed
from mwa_client.pace import Clock
from mwa_client.transfer.partial import Wanted
from mwa_client.transfer.product import FetchedFile, Place, TransferEvent, fetch


def is_visible(path: str) -> bool:
    """Say whether this host can see a delivered file or folder."""
    try:
        return Path(path).is_absolute() and os.access(path, os.R_OK)
    except ValueError:
        return False


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
        The job and the final name.
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
        The source cannot be read, has no files, or has gone.
    DiskFull, DirectoryUnusable, Stopped
        As for `mwa_client.transfer.product.fetch`.
    """
    if source.is_file():
        return (fetch(wanted, FileSource(source), place, clock, stop, listen),)
    files = _files_below(source)
    final, part = place.directory / wanted.name, place.memory / f"{wanted.name}.part"
    pieces = place.memory / f"{wanted.name}.pieces"
    copied_to = final if _has_all(final, files) else part
    copies = []
    for relative, size in files:
        with disk_errors(copied_to):
            (copied_to / relative).parent.mkdir(parents=True, exist_ok=True)
            (pieces / relative).parent.mkdir(parents=True, exist_ok=True)
        file = fetch(
            Wanted(wanted.job_id, relative.name, size, None),
            FileSource(source / relative),
            Place((copied_to / relative).parent, (pieces / relative).parent, place.guard),
            clock,
            stop,
            listen,
        )
        copies.append(FetchedFile(final / relative, file.size, file.sha1, False, file.fetched))
    with disk_errors(final):
        if copied_to is part:
            _swap(part, final, place)
        shutil.rmtree(pieces, ignore_errors=True)
    return tuple(copies)


class FileSource:
    """A file on this host as a source of bytes.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, headers: Mapping[str, str]) -> FileAnswer:
        """Open the file, from where a ``Range`` header says."""
        start = re.fullmatch(r"bytes=([0-9]+)-", headers.get("Range", ""))
        try:
            return FileAnswer(self._path, int(start[1]) if start else 0)
        except OSError as error:
            raise TransferFailed(
                f"Cannot read {self._path}: {error.strerror}.", "Look whether the delivery is still there."
            ) from error


class FileAnswer:
    """An open file, as an answer to a request for it."""

    def __init__(self, path: Path, start: int) -> None:
        self._path = path
        self._file = path.open("rb", buffering=0)
        state = os.fstat(self._file.fileno())
        self._file.seek(start)
        self.status = 206 if start else 200
        fields = {
            "Content-Length": str(max(state.st_size - start, 0)),
            "ETag": f'"{state.st_size}-{state.st_mtime_ns}"',
        }
        if start:
            fields["Content-Range"] = f"bytes {start}-{state.st_size - 1}/{state.st_size}"
        self.headers: Mapping[str, str] = MappingProxyType(fields)

    def read_into(self, room: memoryview) -> int:
        """Put the next bytes into `room`; return how many, 0 at the end."""
        try:
            return self._file.readinto(room) or 0
        except OSError as error:
            # File systems of clusters hang and come back as networks do.
            raise ServiceUnavailable(f"Reading {self._path} failed ({error.strerror}).") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _files_below(folder: Path) -> list[tuple[Path, int]]:
    """Return every file below a folder, relative to it, with its size; links count as what they lead to.

    Nothing is passed over in silence: a folder that lacks a file would look like the whole product.
    """
    try:
        paths = sorted(
            Path(parent) / name
            for parent, _, names in os.walk(folder, onerror=_raise, followlinks=True)
            for name in names
        )
        files = [(path.relative_to(folder), path.stat().st_size) for path in paths]
    except OSError as error:
        raise TransferFailed(
            f"Cannot read {error.filename or folder}: {error.strerror}.", "Look at its permissions."
        ) from error
    strange = [path for path in paths if not path.is_file()]
    if strange or not files:
        what = f"{strange[0]} is not a file" if strange else f"{folder} has no files"
        raise TransferFailed(f"{what}.", "Look at the delivery, and tell the archive's help desk.")
    return files


def _raise(error: OSError) -> None:
    raise error


def _has_all(folder: Path, files: list[tuple[Path, int]]) -> bool:
    """Say whether a folder has all the files, with their sizes."""
    try:
        return folder.is_dir() and all((folder / name).stat().st_size == size for name, size in files)
    except OSError:
        return False


def _swap(part: Path, final: Path, place: Place) -> None:
    """Give the finished folder its final name, in place of what an older client left there."""
    old = place.memory / f"{final.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    part.rename(final)
    sync_directory(place.directory)
    shutil.rmtree(old, ignore_errors=True)
