"""Write bytes into a part, gathered in a buffer until there are enough of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mwa_client.transfer.product_part import ProductPart


class PartWriter:
    """Writes bytes into a part file, in order, from some position on. For one thread.

    Attributes
    ----------
    position : int
        Where the next byte goes.
    written : int
        All before it is in the file; what is between it and `position` is in memory.
    """

    def __init__(self, part: ProductPart, start: int, buffer_size: int) -> None:
        self._part = part
        self.generation = part.generation
        self._buffer = memoryview(bytearray(buffer_size))
        self._pending = 0
        self.written = start

    @property
    def position(self) -> int:
        """Where the next byte goes."""
        return self.written + self._pending

    def space(self) -> memoryview:
        """Return the memory into which the next bytes are to be put; `commit` says how many were."""
        return self._buffer[self._pending :]

    def commit(self, count: int, skip: int = 0) -> None:
        """Add so many bytes that were put into `space`, behind `skip` bytes that are dropped.

        Raises
        ------
        DiskFull
            There is no room left; what is there is kept.
        PartBroken
            The file is not what was written.
        """
        if skip:
            space = self.space()
            space[:count] = space[skip : skip + count]
        self._pending += count
        if self._pending == len(self._buffer):
            self.flush()

    def skip_to(self, position: int) -> None:
        """Go on at another position; nothing may be in memory then."""
        assert position == self.position or not self._pending
        self.written = position - self._pending

    def append(self, data: bytes | memoryview) -> None:
        """Add bytes; raises as `commit` does."""
        rest = memoryview(data)
        while rest:
            space = self.space()
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            self.commit(count)
            rest = rest[count:]

    def flush(self) -> None:
        """Write what is in memory; raises as `commit` does."""
        # Forget it first: after a failed write the bytes are fetched again, not written twice.
        view, self._pending = self._buffer[: self._pending], 0
        if view:
            self._part.write(view, self)
