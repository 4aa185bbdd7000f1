"""The note beside a part file: whose bytes it has, where gaps are, and how far the bytes can be trusted.

The first line of a note is the note proper, which is replaced as a whole; each further line is a later list
of the gaps, which is added. After a power cut only the first line counts.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Callable

from mwa_client.directory.disk import boot_id, disk_errors, write_all
from mwa_client.directory.our_files import open_ours, read_if_ours, write_safely
from mwa_client.errors import MwaClientError
from mwa_client.json_text import read_strictly
from mwa_client.light_dataclasses import dataclass
from mwa_client.transfer.files import ExpectedFile
from mwa_client.transfer.gaps import Gaps

Ranges = tuple[tuple[int, int], ...]
"""The first byte of each range, and the one behind its last."""


@dataclass(frozen=True)
class Note:
    """What the note beside a part file says: whose bytes it has, and which can be trusted.

    Attributes
    ----------
    etag : str
        The strong ETag that the server gave for these bytes; empty where it gave none.
    synced : int
        So far, every byte that is not missing is known to be on disk, whatever happens.
    boot : str
        The boot of the machine that wrote them: within it, every byte in the file can be trusted.
    missing : tuple of (int, int)
        The gaps: first byte of each, and the one behind its last.
    """

    job_id: int
    size: int | None
    sha1: str | None
    etag: str = ""
    synced: int = 0
    boot: str = ""
    missing: Ranges = ()

    def belongs_to(self, expected: ExpectedFile) -> bool:
        """Say whether these bytes are the beginning of the expected file."""
        return (self.job_id, self.size, self.sha1) == (expected.job_id, expected.size, expected.sha1)


class NoteFile:
    """The note of a part file, as it stands on the disk.

    Attributes
    ----------
    path : Path
        Where it stands.
    note : Note
        What its first line says.
    lock : threading.RLock
        Held while the note is written, so that meanwhile no gap is made that it does not have.
    has_gaps : bool
        Whether the gaps that were noted last are any.
    """

    def __init__(self, path: Path, note: Note, guard: Callable[[], None]) -> None:
        self.path = path
        self.note = note
        self.lock = threading.RLock()
        self.has_gaps = False
        self._guard = guard

    def replace(self, note: Note, list_gaps: Callable[[], Ranges], sync: bool = False) -> None:
        """Write the whole note anew.

        Parameters
        ----------
        note : Note
            What it is to say.
        list_gaps : callable
            Returns the gaps; asked with the lock held.
        sync : bool
            Whether the note must be on disk before this returns.
        """
        with self.lock, disk_errors(self.path):
            self._guard()
            missing = list_gaps()
            self.note = note
            lines = [json.dumps(_fields_of(note))]
            if missing != note.missing:
                lines.append(json.dumps(missing))
            self.has_gaps = bool(missing)
            write_safely(self.path, "".join(f"{line}\n" for line in lines), sync)

    def add_gaps(self, list_gaps: Callable[[], Ranges]) -> None:
        """Add a line that says where the gaps are now; `list_gaps` is as for `replace`."""
        with self.lock, disk_errors(self.path):
            self._guard()
            missing = list_gaps()
            self.has_gaps = bool(missing)
            file = open_ours(self.path, os.O_WRONLY | os.O_APPEND)
            try:
                write_all(file, f"{json.dumps(missing)}\n".encode())
            finally:
                os.close(file)

    def remove(self) -> None:
        """Remove the note."""
        self._guard()
        self.path.unlink(missing_ok=True)


def note_path(path: Path) -> Path:
    """Return where the note of a part file stands."""
    return path.with_name(path.name + ".json")


def note_of(path: Path) -> Note | None:
    """Return the note of a part file, or None where there is none that can be read now."""
    try:
        return read_note(note_path(path))
    except (OSError, MwaClientError):
        return None


def job_of_part(path: Path) -> int | None:
    """Return the job whose bytes a part file has; None where there is no note that can be read."""
    note = note_of(path)
    return None if note is None else note.job_id


def _fields_of(note: Note) -> dict[str, object]:
    fields = dataclasses.asdict(note)
    if not note.missing:
        del fields["missing"]
    return fields


def read_note(path: Path) -> Note | None:
    """Return the note with the gaps as they were noted last, or None where there is none that can be read."""
    content = read_if_ours(path)
    if content is None:
        return None
    try:
        first, *later = content.decode("utf-8").split("\n")
        fields = read_strictly(first)
        if not isinstance(fields, dict):
            return None
        note = {field.name: fields.get(field.name, field.default) for field in dataclasses.fields(Note)}
        note["missing"] = _ranges(note["missing"])
    except (ValueError, TypeError):
        return None
    is_sound = (
        _is_count(note["job_id"])
        and (note["size"] is None or _is_count(note["size"]))
        and (note["sha1"] is None or isinstance(note["sha1"], str))
        # It goes into a header of the next request.
        and isinstance(note["etag"], str)
        and note["etag"].isascii()
        and note["etag"].isprintable()
        and _is_count(note["synced"])
        and isinstance(note["boot"], str)
    )
    if not is_sound:
        return None
    if note["boot"] and note["boot"] == boot_id():
        # After a power cut only the first line counts: what it says was synced together with it.
        note["missing"] = _last_gaps(later, note["missing"])
    return Note(**note)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _last_gaps(lines: Iterable[str], otherwise: Ranges) -> Ranges:
    for line in lines:
        with suppress(ValueError, TypeError):  # A last line may be torn.
            otherwise = _ranges(read_strictly(line))
    return otherwise


def _ranges(pairs: Iterable[Iterable[int]]) -> Ranges:
    ranges = tuple((start, end) for start, end in pairs)
    if not all(_is_count(each) for pair in ranges for each in pair):
        raise ValueError("no ranges of bytes")
    return tuple(Gaps(ranges))
