"""The names of files, as the system has them and as we write them down."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath


def name_on_disk(text: str) -> str:
    """Return a name from outside as Python has it where it is on the disk.

    To the system names are bytes. Ours are UTF-8 in every locale, so that each run finds what another has
    left; where the locale is another one, Python has other characters for the same bytes.

    Raises
    ------
    UnicodeEncodeError
        No file can be called so.
    """
    return text if text.isascii() else os.fsdecode(text.encode("utf-8", "surrogateescape"))


def name_in_text(name: str) -> str:
    """Return the name of a file as it is written down, which is the same in every locale."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "surrogateescape")


def path_below(directory: Path, name: object) -> Path:
    """Return the place of a file that was noted down, by `name_in_text`, as one below a directory.

    Raises
    ------
    ValueError
        It is absolute, hidden, has ``..`` or an empty part in it, or is no name that a file can have.
    """
    if not isinstance(name, str) or name.startswith(".") or "\0" in name:
        raise ValueError("no name of a file")
    there = name_on_disk(name)  # Raises UnicodeEncodeError, a ValueError, where no file can be called so.
    path = PurePosixPath(there)
    if path.is_absolute() or ".." in path.parts or path.as_posix() != there:
        raise ValueError("not below the directory")
    return directory / path
