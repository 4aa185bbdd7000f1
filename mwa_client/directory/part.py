"""One of several clients that work in a directory side by side."""

from __future__ import annotations

from collections.abc import Collection

from mwa_client.light_dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """Which share of a batch a client works on.

    Two parts may be at work at the same time only if they have no observation in common.

    Attributes
    ----------
    number, of : int
        It is the part of this number, counted from 1, of so many.
    observations : frozenset of int
        The observations that it works on.
    """

    number: int
    of: int
    observations: Collection[int]

    @property
    def name(self) -> str:
        """How its own files are told from those of the other parts."""
        return f"part-{self.number}-of-{self.of}"

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"
