"""What an archive may put into a folder, and how it gets there; one set of rules for tar and zip.

An archive is hostile until proven otherwise. Every name is taken apart and walked from the folder's own
descriptor, one part after the other and never through a link, so that nothing can land outside whatever links
the archive has made before. Nothing is ever replaced: a second member of one name is refused.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, NamedTuple

from mwa_client.errors import JobFailed, MwaClientError
from mwa_client.formatting import printable

if TYPE_CHECKING:
    from mwa_client.transfer.files import FetchedFile

Parts = tuple[bytes, ...]
"""The parts of a path below the folder, from the top; bytes, since that is what a name is to the system."""
LONGEST_PART = 255
"""Bytes that one part of a path can have on every file system in use."""
LONGEST_PATH_BELOW = 4000
"""Bytes that a member's path can have. Linux opens no path of more than 4096, the folder's own included."""
KEPT_BITS = 0o775
"""The permissions that are taken from an archive: no set-uid, set-gid, sticky bit, nor others' writing."""
USUAL_FILE_MODE, USUAL_FOLDER_MODE = 0o664, 0o775
"""Permissions where the archive says none, less the umask."""
_CONTROL_CHARACTER = re.compile(rb"[\x00-\x1f\x7f]")


class MemberRefused(MwaClientError):
    """A member of an archive that is not unpacked, and with it the whole archive.

    Attributes
    ----------
    member : str
        Its name, as the archive has it.
    why : str
        What is wrong with it: ``is a device``.
    """

    def __init__(self, member: str, why: str) -> None:
        self.member = printable(member[:300])
        self.why = why
        super().__init__(f"The member {self.member!r} {why}.")


class NoArchive(MemberRefused):
    """Not even the first bytes are those of an archive."""


class UnpackRefused(JobFailed):
    """A product was not unpacked, because of a member that is not safe; it is kept as it came, verified.

    Attributes
    ----------
    member : str
        The member's name.
    why : str
        What is wrong with it.
    kept : FetchedFile
        The archive under its final name.
    """

    def __init__(self, member: str, why: str, kept: FetchedFile) -> None:
        self.member = member
        self.why = why
        self.kept = kept
        super().__init__(
            f"{kept.path.name} was not unpacked: its member {member!r} {why}.",
            "The archive is kept, complete and verified. Look at it with care before you unpack it yourself, "
            "and tell the archive's help desk.",
        )


class MemberKind(enum.Enum):
    """What a member is; other kinds are refused."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    HARD_LINK = "hard link"


class Member(NamedTuple):
    """One entry of an archive, checked. It is a tuple, as none is made in less time: there may be a million.

    Attributes
    ----------
    name : str
        Its name as the archive has it, for messages.
    path : tuple of bytes
        Where it goes, below the folder; empty for the folder itself.
    kind : MemberKind
        What it is.
    mode : int
        Its permissions, without those that are never taken.
    mtime_ns : int
        When it was last modified, in nanoseconds since 1970.
    size : int
        Of a file: its bytes, holes included.
    target : bytes or tuple of bytes
        Of a link: what it says. Of a hard link: the path of the file that gets a second name.
    data : tuple of (int, int)
        Of a file with holes: offset and length of each part that is none, in order.
    has_holes : bool
        Whether `data` counts.
    """

    name: str
    path: Parts
    kind: MemberKind
    mode: int
    mtime_ns: int
    size: int = 0
    target: bytes | Parts = b""
    data: tuple[tuple[int, int], ...] = ()
    has_holes: bool = False

    @property
    def stored(self) -> int:
        """How many bytes of content the archive has for it."""
        if self.kind is not MemberKind.FILE:
            return 0
        return sum(length for _, length in self.data) if self.has_holes else self.size


def member_path(name: str, shown: str = "") -> Parts:
    """Return where a member goes, below the folder.

    Parameters
    ----------
    name : str
        The name as the archive has it, undecodable bytes as surrogates.
    shown : str, optional
        The member whose name it is, where that is another one.

    Raises
    ------
    MemberRefused
        It is absolute, has ``..`` or control characters, or is one that no file can have.
    """
    shown = shown or name
    try:
        encoded = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise MemberRefused(shown, "has a name that no file can have") from None
    if encoded.startswith(b"/"):
        raise MemberRefused(shown, "has an absolute name")
    # In a list of checksums or on a terminal, these would be taken for something else.
    if _CONTROL_CHARACTER.search(encoded):
        raise MemberRefused(shown, "has a name with control characters")
    parts = encoded.split(b"/")
    if b"" in parts or b"." in parts:
        parts = [part for part in parts if part not in (b"", b".")]
    if b".." in parts:
        raise MemberRefused(shown, "has a name that leads out of the folder (..)")
    if len(encoded) > LONGEST_PATH_BELOW or (parts and len(max(parts, key=len)) > LONGEST_PART):
        raise MemberRefused(shown, f"has a name that is too long ({len(encoded)} bytes)")
    return tuple(parts)


def check_link(path: Parts, target: bytes, shown: str) -> None:
    """Refuse a symbolic link that leads outside, or that could once other links are there.

    Every member stands in real folders, never behind a link. So ``..`` at the beginning climbs up those, and
    what follows goes down, through other links at the most, which were checked, too. Only ``..`` behind a
    name could climb from wherever a link of that name has led.

    Raises
    ------
    MemberRefused
        It does, or says nothing that can be followed.
    """
    if not target or b"\0" in target or len(target) > LONGEST_PATH_BELOW:
        raise MemberRefused(shown, "is a link that no file system can hold")
    parts = [part for part in target.split(b"/") if part not in (b"", b".")]
    ups = next((number for number, part in enumerate(parts) if part != b".."), len(parts))
    if target.startswith(b"/") or ups > len(path) - 1 or b".." in parts[ups:]:
        raise MemberRefused(shown, f"is a link that leads out of the folder, or may ({_text(target)})")


def path_text(path: Parts) -> str:
    """Return a path below the folder as it is written into our files."""
    return b"/".join(path).decode("utf-8", "surrogateescape")


def _text(target: bytes) -> str:
    return printable(target[:100].decode("utf-8", "replace"))
