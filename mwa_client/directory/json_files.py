"""Read JSON files of our own: a small one as a whole, a long one line by line, skipping what is damaged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

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


def json_lines(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the objects of a file of our own that has one on each line, together with the text of the line.

    Lines that are damaged, too long, or no object are skipped.

    Raises
    ------
    DirectoryUnusable
        As `open_ours`.
    OSError
        The file is missing or cannot be read.
    """
    for text in _whole_lines(path):
        lines = text.split("\n")
        objects = _objects(text, len(lines))
        for entry, line in zip(map(_object, lines) if objects is None else objects, lines):
            if isinstance(entry, dict):
                yield entry, line


def json_objects(path: Path, note_damage: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """Yield what `json_lines` does without the texts; `note_damage` is called for each damaged line."""
    for text in _whole_lines(path):
        objects = _objects(text, text.count("\n") + 1)
        if objects is None:
            objects = [_object(line) for line in text.split("\n") if line]
        for entry in objects:
            if isinstance(entry, dict):
                yield entry
            else:
                note_damage()


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


def _objects(text: str, lines: int) -> list[object] | None:
    """Return the JSON values of a text that has so many lines; None where one is damaged, or too long."""
    if len(text) > LONGEST_LINE:
        return None
    commas = text.replace("\n", ",")
    try:
        # Parsing all lines at once takes half the time; if one is damaged, each is parsed alone.
        objects = read_strictly(f"[{commas}]")
    except ValueError:
        return None
    return objects if len(objects) == lines else None


def _object(line: str) -> object:
    """Return the JSON value of a line; None for one that is damaged, or too long."""
    try:
        return read_strictly(line) if len(line) <= LONGEST_LINE else None
    except ValueError:
        return None
