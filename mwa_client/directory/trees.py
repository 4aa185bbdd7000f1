"""Walk, measure and remove a folder with all that is in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def walk_tree(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield everything below a folder, each folder before its content; links are not followed.

    It does not recurse, so a tree may be deeper than Python's stack.
    """
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
        yield from inside
        waiting += [entry.path for entry in reversed(inside) if entry.is_dir(follow_symlinks=False)]


def tree_size(folder: Path) -> int:
    """Return the total size of the files below a folder, in bytes."""
    entries = (entry for entry in walk_tree(folder) if entry.is_file(follow_symlinks=False))
    return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)


def remove_tree(folder: Path) -> None:
    """Remove a folder of ours with all that is in it.

    What is missing is no error, since another client may be removing the same.
    """
    if not folder.is_dir() or folder.is_symlink():
        folder.unlink(missing_ok=True)
        return
    with suppress(FileNotFoundError):
        folder.chmod(0o700)
    folders = [folder]
    for path in folders:
        with suppress(FileNotFoundError):
            for entry in _entries(path):
                with suppress(FileNotFoundError):
                    inside = Path(entry.path)
                    if entry.is_dir(follow_symlinks=False):
                        inside.chmod(0o700)  # It may be a copy of a folder that is read-only.
                        folders.append(inside)
                    else:
                        inside.unlink()
    for path in reversed(folders):
        with suppress(FileNotFoundError):
            path.rmdir()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    # All at once: to change a folder while it is read makes some file systems leave entries out.
    with os.scandir(folder) as entries:
        return list(entries)
