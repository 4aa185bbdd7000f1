"""The bytes of products, invented from a seed.

Any range can be had without what stands before it, and nothing is stored.
"""

from __future__ import annotations

import functools
import hashlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from mwa_client.light_dataclasses import dataclass

BLOCK_SIZE = 1 << 20
"""Bytes are made in blocks of this size."""

PAGE = 4096
"""Each page of a block begins with the number of the block."""


UPLOADED_AT_ONCE = 8 << 20
"""Products above this size were uploaded in parts of this size."""

C = TypeVar("C", bound="Content")


@dataclass(frozen=True)
class Runs:
    """Bytes that are not invented: an archive's headers, at their places.

    Attributes
    ----------
    offsets : tuple of int
        Where each begins, in order.
    texts : tuple of bytes
        The bytes of each; they do not overlap.
    """

    offsets: tuple[int, ...] = ()
    texts: tuple[bytes, ...] = ()

    def put_into(self, piece: bytearray, start: int) -> None:
        """Overwrite what of a product's bytes, from `start` on, is not invented."""
        stop = start + len(piece)
        for number in range(max(0, bisect_right(self.offsets, start) - 1), len(self.offsets)):
            offset, text = self.offsets[number], self.texts[number]
            if offset >= stop:
                return
            first, last = max(start, offset), min(stop, offset + len(text))
            if first < last:
                piece[first - start : last - start] = text[first - offset : last - offset]


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
    def runs(self) -> Runs:
        """The bytes in it that are not invented."""
        return Runs()

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

    def changed(self: C) -> C:
        """Return a content of the same size with other bytes."""
        return replace(self, seed=f"{self.seed}, changed")

    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` up to, not including, `stop`, at most a block at a time."""
        runs = self.runs
        for piece in self.invented(start, stop):
            if runs.offsets:
                runs.put_into(piece, start)
            yield bytes(piece)
            start += len(piece)

    def invented(self, start: int, stop: int | None) -> Iterator[bytearray]:
        """Yield the bytes of a range as if all were invented, at most a block at a time."""
        stop = self.size if stop is None else stop
        block = bytearray(_pattern(self.seed, min(BLOCK_SIZE, -(-self.size // PAGE) * PAGE)))
        while start < stop:
            number, offset = divmod(start, BLOCK_SIZE)
            _stamp(block, number)
            end = min(BLOCK_SIZE, offset + stop - start)
            yield block[offset:end]
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
