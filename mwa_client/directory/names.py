"""The names of files, as the system has them and as we write them down."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath

_OF_THE_SHELL = re.compile("[`$;&|<>\"'\\x00-\\x1f]")
"""Signs with which a part of a name can be a command of its own."""


def is_no_command(name: str) -> bool:
    """Say whether a name is just a name, even where a script or another machine's shell reads it once more.

    Examples
    --------
    >>> is_no_command("1191828584_10001_ms.tar"), is_no_command("a $(rm b).tar")
    (True, False)
    """
    return not _OF_THE_SHELL.search(name)


def name_on_disk(text: str) -> str:
    """Return the string with which Python finds the file of this name on the disk.

    To the system a name is bytes. We always write it in UTF-8, so that runs in different locales find each
    other's files; in a locale that is not UTF-8 Python has another string for the same bytes.

    Raises
    ------
    UnicodeEncodeError
        No file can have this name.
    """
    return text if text.isascii() else os.fsdecode(text.encode("utf-8", "surrogateescape"))


def name_in_text(name: str) -> str:
    """Return the name of a file as it is written into our files, the same in every locale."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "surrogateescape")


def name_below(name: object) -> str:
    """Return the name below a directory, as the system has it, that was written down by `name_in_text`.

    Raises
    ------
    ValueError
        The name is absolute or hidden, has ``..`` or an empty part, or is one that no file can have.
    """
    if not isinstance(name, str) or name.startswith(".") or "\0" in name:
        raise ValueError("not the name of a file")
    on_disk = name_on_disk(name)  # A UnicodeEncodeError is a ValueError.
    if name and "/" not in name:
        return on_disk  # Most are so, and a ledger may have a hundred thousand of them.
    path = PurePosixPath(on_disk)
    if path.is_absolute() or ".." in path.parts or path.as_posix() != on_disk:
        raise ValueError("not below the directory")
    return on_disk
