"""Read JSON files of our own: a small one as a whole, a long one line by line, skipping what is damaged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

from mwa_client.directory.our_files import BLOCK_SIZE, SMALL_FILE, open_ours, read_ours
from mwa_client.errors import DirectoryUnusable
from mwa_client.json_text import read_strictly

LONGEST_LINE = 1 << 24
"""The most bytes that a line may have; a delivery of 100,000 files is one line of the ledger."""


def read_document(path: Path, most: int = SMALL_FILE, *, private: bool = True) -> object:
    """Return the content of a small JSON file of our own; None where it is damaged or not ours.

    Raises
    ------
    OSError
        The file is missing or cannot be read.
    """
    try:
        return read_strictly(read_ours(path, most, private=private).decode("utf-8"))
    except (DirectoryUnusable, ValueError):
        return None


def json_lines(
    path: Path, note_damage: Callable[[str], None] = lambda line: None
) -> Iterator[tuple[dict[str, object], str]]:
    """Yield the objects of a file of our own that has one on each line, together with the text of the line.

    Lines that are damaged, too long, or no object are skipped; `note_damage` is told of damaged ones.

    Raises
    ------
    DirectoryUnusable
        As `open_ours`.
    OSError
        The file is missing or cannot be read.
    """
    for text in _whole_lines(path):
        lines = text.split("\n")
        if len(text) > LONGEST_LINE:
            lines = [line for line in lines if len(line) <= LONGEST_LINE]
            text = "\n".join(lines)
        for entry, line in zip(_objects(text, lines), lines):
            if isinstance(entry, dict):
                yield entry, line
            elif line:
                note_damage(line)


def _whole_lines(path: Path) -> Iterator[str]:
    """Yield the text of a file in pieces that end where a line ends, without the lines that are too long."""
    with os.fdopen(open_ours(path, os.O_RDONLY), "rb") as file:
        rest, is_too_long = b"", False
        while block := file.read(BLOCK_SIZE):
            whole, end, begun = block.rpartition(b"\n")
            if end:
                text = rest + whole
                if is_too_long:
                    text = text.partition(b"\n")[2]
                yield text.decode("utf-8", "replace")
            rest, is_too_long = (begun, False) if end else (rest + begun, is_too_long)
            if len(rest) > LONGEST_LINE:
                rest, is_too_long = b"", True
        if not is_too_long:
            yield rest.decode("utf-8", "replace")


def _objects(text: str, lines: list[str]) -> list[object]:
    """Return the JSON value of each line; None for a damaged line."""
    commas = text.replace("\n", ",")
    try:
        # Parsing all lines at once takes half the time; if one is damaged, each is parsed alone.
        objects = read_strictly(f"[{commas}]")
    except ValueError:
        objects = []
    return objects if len(objects) == len(lines) else [_object(line) for line in lines]


def _object(line: str) -> object:
    try:
        return read_strictly(line)
    except ValueError:
        return None
