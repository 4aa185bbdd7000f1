"""Where the bytes of a download go: into a part file, or into what unpacks them as they come."""

from __future__ import annotations

from typing import Protocol

from mwa_client.transfer.part_writer import PartWriter


class ProductPart(Protocol):
    """What has come of a file; `mwa_client.transfer.part_file.PartFile` says what each of these does.

    Attributes
    ----------
    generation : int
        How often all was thrown away.
    window : int
        How far ahead of the first byte that is missing others may be written.
    """

    generation: int
    window: int

    @property
    def length(self) -> int:
        """Bytes from the beginning up to the first one that is missing."""
        ...

    @property
    def present(self) -> int:
        """Bytes in all, not counting the gaps."""
        ...

    @property
    def gaps(self) -> list[tuple[int, int | None]]:
        """The first byte of each gap and the one behind its last; the last gap has no known end."""
        ...

    @property
    def etag(self) -> str:
        """The strong ETag of the bytes so far; empty where there is no single one."""
        ...

    def writer(self, start: int, buffer_size: int = 0) -> PartWriter:
        """Return what writes bytes from `start` on."""
        ...

    def write(self, data: memoryview, writer: PartWriter) -> None:
        """Write bytes at the writer's position, and move that."""
        ...

    def beginning(self, most: int) -> bytes:
        """Return the first bytes, at most so many."""
        ...

    def note_etag(self, etag: str) -> None:
        """Note the ETag of all bytes, here or about to come."""
        ...

    def restart(self, etag: str = "") -> None:
        """Throw away every byte."""
        ...

    def sha1(self) -> str:
        """Return the SHA-1 of the bytes so far."""
        ...

    def check(self) -> None:
        """Raise an error if it is known that this cannot become what it must."""
        ...

    def discard(self) -> None:
        """Remove all of it."""
        ...
