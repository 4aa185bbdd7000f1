"""The text of a job file: bytes become rows, and a row becomes cells."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple

from mwa_client.errors import Mistake

MOST_LINES = 250_000
"""Lines of the longest job file that is accepted, empty ones and comments included."""
LONGEST_ROW = 1 << 14
"""Bytes of the longest row: one with all keys has some thousand; the commas of the widest sheet fit."""
NO_FILE = "row"
"""What messages call a row that was given without a file."""
LONGEST_EXCERPT = 60
"""Characters of the user's text that a message repeats."""
SPREADSHEET_ERROR = "an error of the spreadsheet, not a value; correct the cell, or remove the row"

_LINE_END = re.compile(rb"\r\n|\r|\n")
_OTHER_SEPARATOR = re.compile(r"(?<=[^\s=,;])[ ]*[;\t][;\t ]*(?=\w+\s*=|\Z)")
"""Semicolons and tabs between cells, as some spreadsheets write them; no key and no value has one in it."""
_FOR_EXCEL = re.compile(r'\s*"?sep=[,;\t]?"?[,;\s]*', re.IGNORECASE)
"""The first line in which Excel is told what separates the cells."""
_SPREADSHEET, _TABLE = "a spreadsheet's own format, not text; save the sheet", "not text; save the table"
_FORMATS = {
    b"PK\x03\x04": f"{_SPREADSHEET} as CSV in UTF-8",  # Excel of today, LibreOffice.
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": f"{_SPREADSHEET} as CSV in UTF-8",  # Excel as it was.
    b"SIMPLE  =": f"FITS, {_TABLE} as CSV",
    b"\x89HDF\r\n": f"HDF5, {_TABLE} as CSV",
    b"PAR1": f"Parquet, {_TABLE} as CSV",
    b"\x1f\x8b": "compressed, not text; unpack it with gunzip",
}
"""How files begin that are no text, and what to do."""
_CONTENT = re.compile(r'[^\s",;]')
_SPREADSHEET_ERROR = re.compile(
    r"""\#(?: (?i:N/A) | [^\W\d_a-z]/[^\W\d_a-z]{1,4} | NV | HIÁNYZIK | YOK
             | GETTING_DATA | [^\s,;"#a-z]+[!?] ) (?= [ ]* (?: [,;\t"'#\d] | \Z ))
    | \#{2,} (?= [ ]* (?: [,;\t"] | \Z ))""",
    re.VERBOSE,
)
"""What spreadsheets write for a value that they do not have, or have no room for, alone in its cell."""
_RUNS = re.compile("#+")
_QUOTED_CELL = re.compile(r'\s*"((?:[^"]|"")*)"\s*(?:,|\Z)')


class Cell(NamedTuple):
    """One cell of a row, ``key=value``, as it was written."""

    name: str
    value: str | None
    """None where the cell has no equals sign."""


def rows_of(
    data: bytes | str, mistakes: list[Mistake], longest: int = LONGEST_ROW, ornament: int = 1
) -> Iterator[tuple[int, str]]:
    """Yield line number and text of every row that is neither empty nor a comment.

    A row that begins with a spreadsheet's error, such as ``#N/A``, looks like a comment, and is a mistake.

    Parameters
    ----------
    data : bytes or str
        The text of a job file; bytes are UTF-8, with or without a byte order mark.
    mistakes : list of Mistake
        What cannot be read is added here.
    longest : int
        Bytes of the longest row that is read.
    ornament : int
        So many ``#`` alone on a line are for the eye; fewer, but not one, are what a spreadsheet writes where
        its column is too narrow for a number.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    for signature, meaning in _FORMATS.items():
        if raw.startswith(signature):
            mistakes.append(Mistake(1, meaning))
            return
    if b"\0" in raw or raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        before = sum(1 for _ in _LINE_END.finditer(raw, 0, max(raw.find(b"\0"), 0)))
        what = "not plain text (UTF-16, perhaps); save the file as CSV in UTF-8"
        mistakes.append(Mistake(before + 1, what))
        return
    for line, encoded in enumerate(_lines(raw), start=1):
        if line > MOST_LINES:
            mistakes.append(Mistake(line, f"more than {MOST_LINES} lines; give it in several files"))
            return
        if len(encoded) > longest:
            beginning = encoded.lstrip(b' \t",;')[:longest].decode("utf-8", "replace")
            if _is_content(line, beginning, mistakes, ornament):
                what = f"a row of {len(encoded)} characters; is a line end or a quotation mark missing?"
                mistakes.append(Mistake(line, what))
            continue
        try:
            text = encoded.decode("utf-8")
        except UnicodeDecodeError as error:
            byte = f"0x{encoded[error.start]:02x}"
            mistakes.append(Mistake(line, f"not UTF-8 text (byte {byte}); save the file as UTF-8"))
            continue
        if _is_content(line, text, mistakes, ornament) and not (line == 1 and _FOR_EXCEL.fullmatch(text)):
            yield line, text


def _is_content(line: int, text: str, mistakes: list[Mistake], ornament: int) -> bool:
    """Say whether a line is more than nothing or a comment; what only looks like a comment is a mistake."""
    content = _CONTENT.search(text)
    if content is None or content[0] != "#":
        return content is not None
    error = spreadsheet_error_at(text, content.start())
    if error and not _is_ornament(text, ornament):
        mistakes.append(Mistake(line, what_is_wrong_with_error(error)))
    return False


def _is_ornament(text: str, ornament: int) -> bool:
    """Say whether a line has nothing but ``#``, for the eye, and is no row of columns that are too narrow."""
    runs = _RUNS.findall(text)
    return not _CONTENT.search(text.replace("#", "")) and len(runs) == 1 and len(runs[0]) >= ornament


def spreadsheet_error_at(text: str, place: int = 0) -> str:
    """Return the error of a spreadsheet that begins at a place of a text, empty where there is none.

    Examples
    --------
    >>> spreadsheet_error_at("#N/A, c"), spreadsheet_error_at("#N/A are left out")
    ('#N/A', '')
    """
    found = _SPREADSHEET_ERROR.match(text, place)
    return found[0] if found else ""


def what_is_wrong_with_error(error: str) -> str:
    """Say that a cell has an error of a spreadsheet in place of a value."""
    return f"{error}: {SPREADSHEET_ERROR}"


def comments_above(data: bytes | str, line: int) -> Iterator[tuple[int, str]]:
    """Yield line number and text, without the ``#``, of each comment above a line."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    for number, encoded in zip(range(1, line), _lines(raw)):
        text = encoded[:LONGEST_ROW].decode("utf-8", "replace").strip()
        if text.startswith("#"):
            yield number, text.lstrip("# ")


def _lines(raw: bytes) -> Iterator[bytes]:
    start = 0
    for end in _LINE_END.finditer(raw):
        yield raw[start : end.start()].removeprefix(codecs.BOM_UTF8)
        start = end.end()
    yield raw[start:].removeprefix(codecs.BOM_UTF8)


def cells_of(row: str, mistakes: list[str]) -> Iterator[Cell]:
    """Yield the cells of a row that are not empty.

    Parameters
    ----------
    row : str
        The text of the row.
    mistakes : list of str
        What cannot be read is added here.

    Examples
    --------
    >>> list(cells_of("obs_id=1191828584, job_type = d", []))
    [Cell(name='obs_id', value='1191828584'), Cell(name='job_type', value='d')]
    """
    if '"' not in row:
        row = _OTHER_SEPARATOR.sub(",", row)
    for text in _cell_texts(row, mistakes):
        name, equals, value = text.partition("=")
        yield Cell(name.strip(), value.strip() if equals else None)


def _cell_texts(row: str, mistakes: list[str]) -> Iterator[str]:
    """Yield the text of each cell.

    No key and no value contains a comma or a quotation mark, so a whole row in one pair of quotation marks
    is understood as well.
    """
    at = 0
    while at < len(row):
        quoted = _QUOTED_CELL.match(row, at)
        end = quoted.end() if quoted else row.find(",", at) + 1 or len(row)
        content = quoted[1].replace('""', '"') if quoted else row[at:end]
        at = end
        for part in content.split(","):
            text = part.strip()
            if quoted:
                text = text.strip('"').strip()
            elif text.startswith('"'):
                mistakes.append(f"{excerpt(text)}: a quotation mark is not closed")
                text = text.lstrip('"').strip()
            if text:
                yield text


def excerpt(text: str) -> str:
    """Return text of the user's as a message may repeat it: not too long, and without control characters."""
    short = text if len(text) <= LONGEST_EXCERPT else text[:LONGEST_EXCERPT] + "..."
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in short
    )
