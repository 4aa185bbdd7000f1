"""Which files of a copy are finished, and how far the large ones are: a killed copy can be continued."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from itertools import starmap
from pathlib import Path
from typing import Any

from mwa_client.directory.disk import boot_id, write_all
from mwa_client.directory.json_files import json_lines
from mwa_client.directory.names import name_in_text, name_on_disk
from mwa_client.directory.our_files import open_ours, write_safely
from mwa_client.light_dataclasses import dataclass
from mwa_client.transfer.delivered import Entry


@dataclass(frozen=True)
class Copied:
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
    left_ns : int
        The copy's own time when it was finished, in nanoseconds since 1970; zero where that was not noted.
    sha1_so_far : str
        SHA-1 of the bytes that are copied, while it is not whole; empty where that was not noted.
    """

    size: int
    mtime_ns: int
    count: int
    sha1: str
    synced: bool
    left_ns: int = 0
    sha1_so_far: str = ""

    def is_of(self, entry: Entry) -> bool:
        """Say whether this was copied from the file as it is now."""
        return (self.size, self.mtime_ns) == (entry.size, entry.mtime_ns)


class Journal:
    """Which files of a copy are finished, and how far the large ones are; one JSON object a line.

    The first line says whose copy it is, and in which boot of the machine it was made: after a power cut
    only what is known to be on disk counts.
    """

    def __init__(self, path: Path, job_id: int, source: Path) -> None:
        header = {"job_id": job_id, "source": name_in_text(str(source)), "boot": boot_id()}
        lines: list[dict[str, Any]] = [entry for entry, _ in json_lines(path)] if path.exists() else []
        before = lines[0] if lines else {}
        self.is_continued = all(before.get(key) == header[key] for key in ("job_id", "source"))
        is_same_boot = bool(header["boot"]) and before.get("boot") == header["boot"]
        self._copied: dict[str, Copied] = {}
        for line in lines[1:] if self.is_continued else []:
            name, copied = line.pop("name", None), _read_copied(line)
            if isinstance(name, str) and copied is not None and (copied.synced or is_same_boot):
                with suppress(UnicodeEncodeError):  # No file can be called so.
                    self._copied[name_on_disk(name)] = copied
        # On a disk that is full by now, the former journal stays: it says what need not be copied again.
        write_safely(
            path, "".join([_line(header), *starmap(_line_of, self._copied.items())]), False, mode=0o600
        )
        self._file = open_ours(path, os.O_WRONLY | os.O_APPEND)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def copied(self, entry: Entry) -> Copied:
        """Return how much of a file is copied."""
        copied = self._copied.get(entry.name)
        nothing = Copied(entry.size, entry.mtime_ns, 0, "", True)
        return copied if copied is not None and copied.is_of(entry) else nothing

    def note(self, name: str, copied: Copied) -> None:
        """Note how much of a file is copied."""
        self._copied[name] = copied
        write_all(self._file, _line_of(name, copied).encode("ascii"))


def _line(content: Mapping[str, object]) -> str:
    return json.dumps(content) + "\n"


def _line_of(name: str, copied: Copied) -> str:
    return _line({"name": name_in_text(name), **vars(copied)})


def _read_copied(line: dict[str, Any]) -> Copied | None:
    kinds = {
        "size": int,
        "mtime_ns": int,
        "count": int,
        "sha1": str,
        "synced": bool,
        "left_ns": int,
        "sha1_so_far": str,
    }
    line = {"left_ns": 0, "sha1_so_far": "", **line}  # Earlier versions did not note these.
    if line.keys() != kinds.keys() or not all(isinstance(line[key], kind) for key, kind in kinds.items()):
        return None
    is_sound = 0 <= line["count"] <= line["size"] and re.fullmatch("([0-9a-f]{40})?", line["sha1"])
    return Copied(**line) if is_sound else None
