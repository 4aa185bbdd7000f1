"""What cannot be set before all members are in place, noted in small files: permissions and times.

There is a file for each depth, so that they can be set from the deepest up, and in little memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from mwa_client.directory.disk import disk_errors
from mwa_client.transfer.part_hash import PartBroken
from mwa_client.transfer.unpacking.kept import GrowingFile
from mwa_client.transfer.unpacking.members import Member, Parts

MOST_OPEN = 20
"""Small files that are kept open for the next members."""


class SetLater:
    """Permissions and times that members get at the end.

    Parameters
    ----------
    folder : Path
        Where the small files are, which only we can write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[int, GrowingFile] = {}
        """By depth."""

    def add(self, member: Member) -> None:
        """Note permissions and time of a member."""
        depth = len(member.path)
        with disk_errors(self._folder):
            if depth not in self._open:
                if len(self._open) >= MOST_OPEN:
                    self._open.pop(next(iter(self._open))).close()
                self._open[depth] = GrowingFile(self._path(depth))
            name = [part.decode("utf-8", "surrogateescape") for part in member.path]
            line = json.dumps([name, member.mode, member.mtime_ns])
            self._open[depth].append(f"{line}\n".encode("ascii"))

    def deepest_first(self) -> Iterator[tuple[Parts, int, int]]:
        """Yield path, permissions, and time in nanoseconds since 1970, of the deepest members first.

        Raises
        ------
        PartBroken
            They are not what was noted.
        """
        for depth in sorted((int(path.suffix[1:]) for path in self._paths()), reverse=True):
            with self._path(depth).open("rb") as lines:
                for line in lines:
                    try:
                        name, mode, mtime_ns = json.loads(line)
                        path = tuple(part.encode("utf-8", "surrogateescape") for part in name)
                    except (ValueError, TypeError, AttributeError) as error:
                        why = "what was noted of its permissions was changed"
                        raise PartBroken.because(self._folder, why) from error
                    yield path, mode, mtime_ns

    def forget(self) -> None:
        """Forget all: the archive is about to be read again."""
        self.close()
        for path in self._paths():
            path.unlink()

    def close(self) -> None:
        """Close what is open."""
        for file in self._open.values():
            file.close()
        self._open = {}

    def _path(self, depth: int) -> Path:
        return self._folder / f"late.{depth}"

    def _paths(self) -> list[Path]:
        return list(self._folder.glob("late.*"))
