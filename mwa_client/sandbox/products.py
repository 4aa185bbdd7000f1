"""The bytes of products, invented from a seed.

Any range can be had without what stands before it, and nothing is stored.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

BLOCK_SIZE = 1 << 20
"""Bytes are made in blocks of this size."""

PAGE = 4096
"""Each page of a block begins with the number of the block."""


UPLOADED_AT_ONCE = 8 << 20
"""Products above this size were uploaded in parts of this size."""


@dataclass(frozen=True)
class Content:
    """The content of one product.

    Attributes
    ----------
    seed : str
        What the bytes are made from; another seed gives other bytes.
    size : int
        Length in bytes.
    """

    seed: str
    size: int

    @property
    def sha1(self) -> str:
        """SHA-1 of the whole content in hex; worked out when first asked for (some seconds for 2 GiB)."""
        return _sha1(self)

    @property
    def etag(self) -> str:
        """A strong entity tag; it depends on the bytes and on the parts of the upload.

        As a store gives it: 32 hex digits, and the number of parts where something large came in parts.
        """
        digest = hashlib.blake2b(f"{self.seed} {self.size}".encode(), digest_size=16).hexdigest()
        parts = -(-self.size // UPLOADED_AT_ONCE)
        return f'"{digest}-{parts}"' if parts > 1 else f'"{digest}"'

    def changed(self) -> Content:
        """Return a content of the same size with other bytes."""
        return replace(self, seed=f"{self.seed}, changed")

    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` up to, not including, `stop`, at most a block at a time."""
        stop = self.size if stop is None else stop
        block = bytearray(_pattern(self.seed, min(BLOCK_SIZE, -(-self.size // PAGE) * PAGE)))
        while start < stop:
            number, offset = divmod(start, BLOCK_SIZE)
            _stamp(block, number)
            end = min(BLOCK_SIZE, offset + stop - start)
            yield bytes(memoryview(block)[offset:end])
            start += end - offset


@functools.lru_cache(maxsize=8)
def _pattern(seed: str, length: int) -> bytes:
    return hashlib.shake_128(seed.encode()).digest(length)


def _stamp(block: bytearray, number: int) -> None:
    # Every page of it, so that a client's bytes that are off by a block are found wherever in the block.
    for index, value in enumerate(number.to_bytes(4, "big")):
        block[index::PAGE] = bytes([value]) * (len(block) // PAGE)


@functools.lru_cache(maxsize=1 << 16)
def _sha1(content: Content) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    for piece in content.pieces():
        digest.update(piece)
    return digest.hexdigest()
