"""The ledgers of a directory: that of the client that works alone, and one of each part of a batch.

All are read, and one is written. Which of two lines about a row is the later one does not depend on the
clocks of the hosts: a client reads every ledger before it writes, and heads its own lines with the number of
its turn, which is above all that it has read. Two clients that are at work together have no row in common, so
it does not matter if their turns have the same number.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, Callable, TypeVar

from mwa_client.batch.ledger_file import LedgerFile, garbage_collection_off
from mwa_client.directory.disk import disk_errors
from mwa_client.directory.part import Part

LEDGER_NAME = re.compile(r"ledger(\.part-[0-9]+-of-[0-9]+)?\.jsonl")
TURN = "turn"
"""The event that heads the lines of a client."""

T = TypeVar("T")


class LedgerFiles:
    """Every ledger of a directory to read, and the one of this client to append to.

    Parameters
    ----------
    state_dir : Path
        Where the ledgers are.
    part : Part, optional
        The part whose ledger is this client's; default is the client that works alone.

    Attributes
    ----------
    path : Path
        The ledger of this client.
    """

    def __init__(self, state_dir: Path, part: Part | None = None) -> None:
        self.path = state_dir / ("ledger.jsonl" if part is None else f"ledger.{part.name}.jsonl")
        self._own = LedgerFile(self.path)
        self._is_alone = part is None
        self._last_turn = 0

    def read(self, take: Callable[[dict[str, Any], str], None]) -> None:
        """Pass each entry of all ledgers and the text of its line to `take`, the oldest turn first.

        Raises
        ------
        DirectoryUnusable
            A ledger cannot be read.
        """
        with disk_errors(self.path), garbage_collection_off():
            others = [path for path in self._others() if path != self.path]
            self._is_alone = self._is_alone and not others
            if not others:  # It is in order, and may have a million lines.
                for entry, text in _lines(self.path):
                    if entry.get("event") == TURN:
                        self._last_turn = _turn_in(entry, self._last_turn)
                    else:
                        take(entry, text)
                return
            for turn, entry, text in in_turn([_lines(path) for path in [self.path, *others]]):
                self._last_turn = turn
                take(entry, text)

    def open(self) -> None:
        """Open the own ledger for appending, as `LedgerFile.open`.

        Raises
        ------
        DirectoryUnusable
            It cannot be written, or it is not ours.
        """
        heading = {} if self._is_alone else {"event": TURN, TURN: self._last_turn + 1}
        self._own.open(heading)

    def close(self) -> None:
        """Close the own ledger."""
        self._own.close()

    def append(self, entry: Mapping[str, object], *, sync: bool) -> int:
        """Add a line to the own ledger, as `LedgerFile.append`."""
        return self._own.append(entry, sync=sync)

    def fill_in(self, end: int, value: int) -> bool:
        """Give the last field of a line of the own ledger a value, as `LedgerFile.fill_in`."""
        return self._own.fill_in(end, value)

    def _others(self) -> list[Path]:
        with suppress(FileNotFoundError):
            return sorted(path for path in self.path.parent.iterdir() if LEDGER_NAME.fullmatch(path.name))
        return []


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    with suppress(FileNotFoundError):
        yield from LedgerFile(path).lines()


def in_turn(ledgers: Sequence[Iterable[tuple[dict[str, Any], T]]]) -> Iterator[tuple[int, dict[str, Any], T]]:
    """Yield the entries of several ledgers, those of the earliest turn first.

    Parameters
    ----------
    ledgers : sequence of iterable of (dict, object)
        The entries of each ledger, in order; what comes with an entry is passed on.

    Yields
    ------
    (int, dict, object)
        The number of the turn, the entry, what came with it.
    """
    numbered = [_numbered(ledger) for ledger in ledgers]
    return heapq.merge(*numbered, key=lambda line: line[0]) if len(numbered) > 1 else chain(*numbered)


def _numbered(ledger: Iterable[tuple[dict[str, Any], T]]) -> Iterator[tuple[int, dict[str, Any], T]]:
    """Yield the entries of one ledger with their turns, which never go down."""
    turn = 0
    for entry, more in ledger:
        if entry.get("event") == TURN:
            turn = _turn_in(entry, turn)
        else:
            yield turn, entry, more


def _turn_in(entry: Mapping[str, Any], before: int) -> int:
    """Return the number of the turn that an entry heads: never less than the one before."""
    number = entry.get(TURN)
    return max(before, number) if isinstance(number, int) else before
