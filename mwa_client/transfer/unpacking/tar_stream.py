"""Take a tar apart while it arrives: headers, content, and what is behind its end.

`tarfile` reads the headers, but for those of plain files (`plain_header.py`); what is here decides where they
are, and refuses what `tarfile` would let pass.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable
from typing import NoReturn, Protocol

from mwa_client.transfer.unpacking.members import (
    KEPT_BITS,
    Member,
    MemberKind,
    MemberRefused,
    NoArchive,
    check_link,
    member_path,
)
from mwa_client.transfer.unpacking.plain_header import plain_file

BLOCK = 512
FEW_TRIES = 8
"""So many times incomplete headers are tried again as soon as there is what they lacked."""
MOST_HEADER = 1 << 20
"""The most bytes that the headers of one member may have; long names and lists of holes are in them."""
MOST_GLOBAL = 1 << 13
"""The most characters of the headers for all members: each member is read with all of them."""
MOST_DIGITS = 400
"""The most digits in a row in an extended header; no name and no number has more.

For some versions of `tarfile` twice as many take four times as long: a million take hours."""
_ZEROS = bytes(BLOCK)
_DIGITS = re.compile(rb"[0-9]+")
_LAST_SECOND = (1 << 63) - 1
"""What the system has room for, in seconds since 1970."""
_SECONDS = re.compile(r"(-?)([0-9]{1,18})(?:\.([0-9]*))?")
_FIRST_NAME = "(the first)"


class TarSink(Protocol):
    """What is told the parts of a tar, in order. Together they are all of its bytes."""

    def begin(self, raw: bytes | memoryview, member: Member) -> None:
        """Take a member's headers, with the padding before them."""
        ...

    def content(self, data: memoryview) -> None:
        """Take the next bytes of the member's content."""
        ...

    def end(self) -> None:
        """Note that the member's content is complete; called for each member."""
        ...

    def trailer(self, data: memoryview) -> None:
        """Take bytes from the end mark on."""
        ...


class TarStream:
    """Takes a tar apart. It is fed the bytes in order, in pieces of any length.

    Parameters
    ----------
    sink : TarSink
        Is told the parts.
    size : int or None
        How many bytes the tar has, where that is known.
    has_content : bool
        Whether the content of files is among the bytes. Without it, they are what was kept of a tar beside
        its members.

    Attributes
    ----------
    position : int
        Where in the tar the next byte stands. While headers are incomplete, where they begin.
    """

    def __init__(self, sink: TarSink, size: int | None = None, *, has_content: bool = True) -> None:
        self.position = 0
        self._sink = sink
        self._size = size
        self._has_content = has_content
        self._left = 0
        """Bytes of content that are still to come."""
        self._padding = 0
        """Bytes between the last content and the next header."""
        self._held = bytearray()
        """The beginning of headers whose rest is still to come."""
        self._needed = BLOCK
        self._tries = 0
        """How often these headers were tried and found incomplete."""
        self._is_over = False
        self._beginning = b""
        """The first block, until its member is known."""
        self._last_name = _FIRST_NAME
        self._reader = _HeaderReader()
        # Two empty blocks are the shortest tar.
        self._archive = tarfile.TarFile(
            fileobj=io.BytesIO(bytes(2 * BLOCK)), encoding="utf-8", errors="surrogateescape"
        )
        self._archive.fileobj = self._reader  # type: ignore[assignment]

    @property
    def held(self) -> int:
        """Bytes that were fed and not passed on yet, since there is more to come of the headers."""
        return len(self._held)

    def feed(self, data: memoryview) -> None:
        """Take the next bytes.

        Raises
        ------
        MemberRefused
            The archive has what is not unpacked; what was before that member has been passed on.
        """
        while data:
            if self._left:
                piece = data[: self._left]
                self._sink.content(piece)
                self._left -= len(piece)
                self.position += len(piece)
                data = data[len(piece) :]
                if not self._left:
                    self._sink.end()
            elif self._is_over:
                self._pass_on_end(data)
                return
            else:
                data = self._take_header(data)

    def go_on(self, sink: TarSink, left: int) -> None:
        """Have content from now on, for another sink: first, so many bytes of the last member."""
        self._sink = sink
        self._has_content = True
        self._held.clear()
        self._left = left
        self.position -= left

    def flush(self) -> None:
        """Pass on headers that are complete, though more was awaited with them; raises as `feed` does."""
        held = bytes(self._held)
        if held and (used := self._parse(memoryview(held))):
            self._held.clear()
            self.feed(memoryview(held[used:]))

    def finish(self) -> None:
        """Refuse an archive that does not end as one; called when all bytes were fed.

        Raises
        ------
        MemberRefused
            It breaks off.
        """
        self.flush()
        if not self._is_over:
            self._refuse("is the last one before the archive breaks off")

    # --- Headers --------------------------------------------------------------------------------------

    def _take_header(self, data: memoryview) -> memoryview:
        """Take the headers at the beginning of the data, or as much as there is; return what follows."""
        if not self._held:
            used = self._parse(data)
            if used:
                return data[used:]
            self._held += data
            return data[:0]
        count = self._needed - len(self._held)
        self._held += data[:count]
        if len(self._held) >= self._needed:
            held = bytes(self._held)
            if used := self._parse(memoryview(held)):
                self._held.clear()
                if used < len(held):
                    return memoryview(held[used:] + data[count:])
        return data[count:]

    def _parse(self, data: memoryview) -> int:
        """Parse headers behind the padding; return how many bytes they are, 0 if some are missing."""
        start = self._padding
        self._needed = start + BLOCK
        if len(data) < self._needed:
            return 0
        if not self.position:
            self._beginning = bytes(data[:BLOCK])
        if data[start : start + BLOCK] == _ZEROS:
            self._check_zeros(data[:start])
            self._is_over = True
            self._pass_on(data[: start + BLOCK])
            return start + BLOCK
        if not self._archive.pax_headers and (plain := plain_file(bytes(data[start : self._needed]))):
            self._tries = 0
            self._begin(data[: self._needed], plain, plain.size + -plain.size % BLOCK)
            return start + BLOCK
        self._reader.load(data, start)
        try:
            info = _Header.fromtarfile(self._archive)
        except _MoreNeeded as more:
            if more.end > MOST_HEADER:
                self._refuse("is followed by headers without end")
            # A long list of holes is read block by block. To begin anew with each would take hours.
            self._tries += 1
            self._needed = more.end + (len(data) // 2 if self._tries > FEW_TRIES else 0)
            return 0
        except MemoryError:
            raise  # That is not the header's fault.
        except Exception as error:
            # tarfile has many errors for a header that lies, and not only its own.
            self._refuse(f"is followed by a header that is broken ({type(error).__name__})", error)
        if sum(len(key) + len(value) for key, value in self._archive.pax_headers.items()) > MOST_GLOBAL:
            self._refuse("is followed by headers for all members without end")
        self._tries = 0
        used = self._reader.position
        self._begin(data[:used], member_of(info), self._archive.offset - used)
        return used

    def _begin(self, raw: memoryview, member: Member, padded: int) -> None:
        stored = member.stored
        if stored + -stored % BLOCK != padded:
            raise MemberRefused(member.name, "has a size that its own headers contradict")
        if self._size is not None and self.position + len(raw) + padded > self._size:
            raise MemberRefused(member.name, "has a size that goes beyond the archive's end")
        self._last_name = member.name
        self._sink.begin(raw, member)
        self.position += len(raw)
        self._padding = padded - stored
        if not self._has_content:
            self.position += stored
        else:
            self._left = stored
        if not self._left:
            self._sink.end()

    def _refuse(self, why: str, cause: Exception | None = None) -> NoReturn:
        is_tar = self.position > 0 or begins_as_tar(self._beginning)
        raise (MemberRefused if is_tar else NoArchive)(self._last_name, why) from cause

    # --- The end --------------------------------------------------------------------------------------

    def _pass_on_end(self, data: memoryview) -> None:
        self._check_zeros(data)
        self._pass_on(data)

    def _pass_on(self, data: memoryview) -> None:
        self._sink.trailer(data)
        self.position += len(data)

    def _check_zeros(self, data: memoryview) -> None:
        """Refuse bytes behind the end: they could be a second archive, which would be lost."""
        if self._is_over and bytes(data).strip(b"\0"):
            raise MemberRefused(self._last_name, "is the last one, but more bytes follow the archive's end")


class _MoreNeeded(Exception):
    """The headers go on behind what is there."""

    def __init__(self, end: int) -> None:
        super().__init__(end)
        self.end = end


_KIND = slice(156, 157)
"""Where a header says what it is."""
_NAME_LENGTH, _MAGIC, _USTAR = 100, slice(257, 263), b"ustar\0"
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


class _Header(tarfile.TarInfo):
    """A header as `tarfile` reads it, but that only one of ustar has the beginning of a long name at its end.

    GNU tar has times there (``--incremental``), of which `tarfile` makes a folder.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        info = super().frombuf(buf, encoding, errors)
        if buf[_MAGIC] != _USTAR:
            name = bytes(buf[:_NAME_LENGTH]).partition(b"\0")[0].decode(encoding, errors)
            info.name = name.rstrip("/") if info.isdir() else name
        return info


class _HeaderReader:
    """The bytes that there are of some headers, as a file for `tarfile`."""

    def __init__(self) -> None:
        self._data = memoryview(b"")
        self.position = 0

        self._kind = b""

    def load(self, data: memoryview, start: int) -> None:
        self._data, self.position, self._kind = data, start, b""

    def read(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self._data) or count < 0:
            raise _MoreNeeded(end if count >= 0 else MOST_HEADER + 1)
        piece = bytes(self._data[self.position : end])
        if self._kind in _EXTENDED and any(len(run[0]) > MOST_DIGITS for run in _DIGITS.finditer(piece)):
            raise ValueError("more digits than any number has")
        self._kind = piece[_KIND]
        self.position = end
        return piece

    def tell(self) -> int:
        return self.position


def begins_as_tar(beginning: bytes) -> bool:
    """Say whether a file with this first block is a tar, whatever else is in it."""
    try:
        tarfile.TarInfo.frombuf(beginning, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def member_of(info: tarfile.TarInfo) -> Member:
    """Return what `tarfile` has read of a member, checked.

    Raises
    ------
    MemberRefused
        It is of a kind that is not unpacked, or has a name or a target that leads outside.
    """
    name, mode, mtime_ns = info.name, info.mode & KEPT_BITS, _mtime_ns(info)
    if info.isdir():
        return Member(name, member_path(name), MemberKind.FOLDER, mode, mtime_ns)
    path = member_path(name)
    if not path or name.endswith("/"):
        raise MemberRefused(name, "has a name that only a folder can have")
    if info.issym():
        target = info.linkname.encode("utf-8", "surrogateescape")
        check_link(path, target, name)
        return Member(name, path, MemberKind.LINK, mode, mtime_ns, target=target)
    if info.islnk():
        inside = member_path(info.linkname, name)
        return Member(name, path, MemberKind.HARD_LINK, mode, mtime_ns, target=inside)
    if not info.isreg():
        raise MemberRefused(name, f"is {_KINDS.get(info.type, 'of a kind that is not unpacked')}")
    if info.size < 0:
        raise MemberRefused(name, "has a size below zero")
    data = _data_of(info)
    return Member(
        name, path, MemberKind.FILE, mode, mtime_ns, info.size, data=data, has_holes=info.sparse is not None
    )


_KINDS = {tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a FIFO"}


def _data_of(info: tarfile.TarInfo) -> tuple[tuple[int, int], ...]:
    """Return where a file with holes has bytes; refuse a list of them that is out of order."""
    end, data = 0, []
    holes: Iterable[tuple[int, int]] = info.sparse or ()  # type: ignore[assignment]
    for start, length in holes:
        if not length:
            continue  # GNU's headers have four places; those that are not needed are empty.
        if start < end or length < 0 or start + length > info.size:
            raise MemberRefused(info.name, "has holes that overlap or lie outside of it")
        end = start + length
        data.append((start, length))
    return tuple(data)


def _mtime_ns(info: tarfile.TarInfo) -> int:
    mtime_ns = _said_mtime_ns(info)
    if mtime_ns is None or abs(mtime_ns) > _LAST_SECOND * 1_000_000_000:
        raise MemberRefused(info.name, "has a time that no file system can hold")
    return mtime_ns


def _said_mtime_ns(info: tarfile.TarInfo) -> int | None:
    # As a number, tarfile has lost the last digits.
    match = _SECONDS.fullmatch(info.pax_headers.get("mtime", ""))
    if match is None:
        try:
            return int(info.mtime * 1_000_000_000)
        except (OverflowError, ValueError):
            return None
    sign, whole, fraction = match.groups()
    mtime_ns = int(whole) * 1_000_000_000 + int((fraction or "").ljust(9, "0")[:9])
    return -mtime_ns if sign else mtime_ns
