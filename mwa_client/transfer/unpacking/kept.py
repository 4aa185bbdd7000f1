"""What stands beside the members of a product while it is unpacked: bytes kept, checksums, and a note.

Kept is every byte of the tar that is not content of a file: headers, padding, the end. With the members these
make the tar again. Headers are kept before their member is made: after a kill they name every member that is
there, and at the most one that is not.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mwa_client.directory.disk import boot_id, disk_errors, is_in_place, sync_directory
from mwa_client.directory.our_files import open_growing, read_if_ours, write_safely
from mwa_client.directory.trees import remove_tree
from mwa_client.json_text import read_strictly
from mwa_client.light_dataclasses import dataclass
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile
from mwa_client.transfer.part_hash import READ_SIZE
from mwa_client.transfer.unpacking.members import Parts

GONE_ENDING = ".gone"
"""How the names of folders end that are being removed."""
NO_SUM = "0" * 40
"""What a line of checksums has until the file's SHA-1 is known."""


@dataclass(frozen=True)
class UnpackPlace:
    """Where a product stands while it is unpacked.

    Attributes
    ----------
    path : Path
        The folder for all that belongs to it, which only we can look into.
    """

    path: Path

    @property
    def gone(self) -> Path:
        """Another name for all of it, from the moment on that it counts for nothing and is being removed."""
        return self.path.with_name(f"{self.path.name}{GONE_ENDING}")

    @property
    def members(self) -> Path:
        """The folder that is going to be the product."""
        return self.path / "members"

    @property
    def old_members(self) -> Path:
        """Members of which it is not known after a power cut whether they are whole."""
        return self.path / "members.old"

    @property
    def kept(self) -> Path:
        """What of the tar is not content of files."""
        return self.path / "kept"

    @property
    def sums(self) -> Path:
        """A line with the SHA-1 of each file, its name below the folder."""
        return self.path / "sums"

    @property
    def final_sums(self) -> Path:
        """The same lines with the names below the download directory."""
        return self.path / "SHA1SUMS"

    @property
    def ring(self) -> Path:
        """Bytes that have come before those that stand before them."""
        return self.path / "ring"

    @property
    def note(self) -> Path:
        """Whose bytes these are."""
        return self.path / "note.json"


def unpack_place(directory: DownloadDirectory, name: str) -> UnpackPlace:
    """Return where a product of this name is unpacked."""
    return UnpackPlace(directory.state_dir / f"{name}.unpack")


def remove_unpack_place(place: UnpackPlace, guard: Callable[[], None] = lambda: None) -> None:
    """Remove what is unpacked of a product, or what was left of that; a missing one is no error."""
    with disk_errors(place.path):
        if place.path.is_dir() and not place.path.is_symlink():
            guard()
            # All at once: the note must not vouch for half of the rest, nor the rest stay without a note.
            remove_tree(place.gone)
            place.path.rename(place.gone)
            sync_directory(place.path.parent)
            remove_tree(place.gone)


def remove_gone(state_dir: Path) -> None:
    """Go on with removing what a kill has left of places that count for nothing any more."""
    for path in state_dir.glob(f"*.unpack{GONE_ENDING}"):
        with disk_errors(path):
            remove_tree(path)


class GrowingFile:
    """A file of ours that grows at its end, and can be cut.

    Parameters
    ----------
    path : Path
        The file; made if missing.

    Attributes
    ----------
    length : int
        How many of its bytes count; the next one is written behind them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_growing(path)
        self.length = os.fstat(self._file).st_size

    def append(self, data: bytes | memoryview) -> None:
        """Write bytes at the end."""
        self.write(self.length, data)
        self.length += len(data)

    def write(self, position: int, data: bytes | bytearray | memoryview) -> None:
        """Write bytes at a position."""
        rest = memoryview(data)
        while rest:
            count = os.pwrite(self._file, rest, position)
            position, rest = position + count, rest[count:]

    def read(self, most: int, position: int) -> bytes:
        """Return at most so many bytes from a position on."""
        return os.pread(self._file, most, position)

    def cut(self, length: int) -> None:
        """Let nothing count from a position on."""
        os.ftruncate(self._file, length)
        self.length = length

    def is_in_place(self) -> bool:
        """Say whether it is still what has its name."""
        return is_in_place(self._file, self._path)

    def sync(self) -> None:
        """Flush it to the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class SumLines(GrowingFile):
    """A line for each file, in the order of the archive: its SHA-1 and its name below the folder."""

    last_line = 0
    """Where the last line is."""

    def reserve(self, path: Parts) -> int:
        """Have room for one more line; return where."""
        self.last_line = self.length
        self.length += len(_sum_line(NO_SUM, path))
        return self.last_line

    def put(self, position: int, sha1: str, path: Parts) -> None:
        """Write the line for which there was room at a position."""
        self.put_all([(position, sha1, path)])

    def put_all(self, lines: Iterable[tuple[int, str, Parts]]) -> None:
        """Write lines, in order: position, SHA-1 and path of each. Neighbours are written at once."""
        start, text = 0, bytearray()
        for position, sha1, path in lines:
            if position != start + len(text):
                self.write(start, text)
                start, text = position, bytearray()
            text += _sum_line(sha1, path)
        self.write(start, text)

    def lines(self) -> Iterator[tuple[int, str, Parts]]:
        """Yield position, SHA-1 and path of each line, however long the list is."""
        position, held = 0, b""
        while position + len(held) < self.length:
            data = self.read(READ_SIZE, position + len(held))
            if not data:
                return  # Somebody has cut it.
            held += data
            *whole, held = held.split(b"\n")
            for line in whole:
                sha1, _, path = line.partition(b"  ")
                yield position, sha1.decode("ascii", "replace"), tuple(path.split(b"/"))
                position += len(line) + 1

    def has_sum(self, position: int, path: Parts) -> bool:
        """Say whether the line of a path, at a position, is whole and has a SHA-1.

        A full disk or a kill can end a write anywhere, also between the SHA-1 and the end of the name.
        """
        without = _sum_line(NO_SUM, path)
        line = self.read(len(without), position)
        digits, rest = line[: len(NO_SUM)], line[len(NO_SUM) :]
        return digits.isalnum() and rest == without[len(NO_SUM) :] and line != without


def _sum_line(sha1: str, path: Parts) -> bytes:
    return b"%b  %b\n" % (sha1.encode("ascii"), b"/".join(path))


@dataclass(frozen=True)
class FinalFolder:
    """A folder as it gets its final name.

    Attributes
    ----------
    name : str
        Its name.
    inode : int
        The number by which the file system knows it.
    mode, mtime_ns : int
        Its own permissions and time.
    files : int
        How many files are in it.
    size, sha1 : int, str
        Those of the whole archive.
    """

    name: str
    inode: int
    mode: int
    mtime_ns: int
    files: int
    size: int
    sha1: str


@dataclass(frozen=True)
class UnpackNote:
    """Whose bytes these are, how far they can be trusted, and what is to become of them.

    Attributes
    ----------
    job_id, size, sha1, etag, boot
        As in `mwa_client.transfer.part_note.Note`.
    synced : int
        So far, every byte of the tar is known to be on disk, whatever happens.
    kept : int
        So many of them are among the bytes that are kept.
    is_finishing : bool
        Whether all is here, and permissions may have been set that let nobody in.
    is_repacking : bool
        Whether the tar is made again of all this, as an ordinary part file: members lose what it has.
    final : FinalFolder or None
        What the folder is about to become, or is.
    """

    job_id: int
    size: int | None
    sha1: str | None
    etag: str = ""
    boot: str = ""
    synced: int = 0
    kept: int = 0
    is_finishing: bool = False
    is_repacking: bool = False
    final: FinalFolder | None = None

    def belongs_to(self, expected: ExpectedFile) -> bool:
        """Say whether these bytes are the beginning of the expected file."""
        return (self.job_id, self.size, self.sha1) == (expected.job_id, expected.size, expected.sha1)

    @property
    def is_of_this_boot(self) -> bool:
        """Whether the machine has not been started anew since, so that whatever was written is there."""
        return bool(self.boot) and self.boot == boot_id()


def write_unpack_note(place: UnpackPlace, note: UnpackNote, *, sync: bool) -> None:
    """Write the note anew, on request so that no power cut can undo it."""
    write_safely(place.note, f"{json.dumps(dataclasses.asdict(note))}\n", sync)


def read_unpack_note(place: UnpackPlace) -> UnpackNote | None:
    """Return the note, or None where there is none that can be read."""
    content = read_if_ours(place.note)
    if content is None:
        return None
    try:
        fields = read_strictly(content.decode("ascii"))
        if not isinstance(fields, dict):
            return None
        final = fields.pop("final", None)
        note = UnpackNote(**fields, final=None if final is None else FinalFolder(**final))
        return note if _is_sound(note) else None
    except (ValueError, TypeError):
        return None


def _is_sound(note: UnpackNote) -> bool:
    kinds: tuple[Any, ...] = (int, (int, type(None)), (str, type(None)), str, str, int, int, bool, bool)
    values = dataclasses.astuple(note)[: len(kinds)]
    is_sound = all(isinstance(value, kind) for value, kind in zip(values, kinds)) and all(
        value >= 0 for value in values if isinstance(value, int)
    )
    # The ETag goes into a header of the next request.
    is_sound = is_sound and note.etag.isascii() and note.etag.isprintable()
    final = note.final
    if final is None or not is_sound:
        return is_sound
    numbers = (final.inode, final.mode, final.mtime_ns, final.files, final.size)
    texts = (final.name, final.sha1)
    is_sound = all(isinstance(each, int) for each in numbers) and all(isinstance(each, str) for each in texts)
    return is_sound and bool(final.name) and "/" not in final.name and not final.name.startswith(".")
