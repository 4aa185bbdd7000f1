"""A job file as spreadsheets and pandas write it: a header row of keys, and a row of values for each job."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator

from mwa_client.errors import Mistake
from mwa_client.jobs.key_table import KEY_BY_NAME, find_key
from mwa_client.jobs.keys import ApiVersion, ValueKind
from mwa_client.jobs.rowcheck import CheckedRow
from mwa_client.jobs.text import Cell, excerpt
from mwa_client.jobs.values import whole_number
from mwa_client.jobs.vocabulary import words_to_suggest
from mwa_client.jobs.wording import FORMER_KEYS, did_you_mean, guess_name
from mwa_client.light_dataclasses import dataclass

DELIMITERS = (",", ";", "\t")
NOT_SAID = ("", "nan", "none", "null", "na", "n/a", "<na>", "nat")
"""What spreadsheets and pandas write where there is no value, in lower case."""
_UNNAMED = re.compile(r"Unnamed: ?\d+(_level_\d+)?")
"""The header that pandas gives to a column without one."""
_DECIMAL_COMMA = re.compile(r"([+-]?[0-9]+),([0-9]+([eE][+-]?[0-9]+)?)")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
"""What may be meant as thousands, too."""
_RUN_TOGETHER = {name.replace("_", ""): name for name in KEY_BY_NAME if "_" in name}
_SWITCHES = {"1": "true", "1.0": "true", "0": "false", "0.0": "false"}
"""How pandas may write a column of booleans."""


@dataclass(frozen=True)
class Table:
    """The header of a table.

    Attributes
    ----------
    line : int
        Its line.
    delimiter : str
        What separates the cells.
    names : tuple of str
        The key of each column; empty for one that counts the rows, if it is the first, or has no values.
    """

    line: int
    delimiter: str
    names: tuple[str, ...]

    @classmethod
    def from_header(cls, line: int, text: str) -> Table | None:
        """Return the table that a file's first row is the header of, None where it is no header.

        A header has the name of a key in it, and no equals sign. Capitals do not count, nor what separates
        the words.

        Examples
        --------
        >>> Table.from_header(1, "Obs ID;job_type").names
        ('obs_id', 'job_type')
        """
        if "=" in text:
            return None
        found = {delimiter: names_of_columns(_cells(text, delimiter) or []) for delimiter in DELIMITERS}
        best, names = max(found.items(), key=lambda each: _known_names(each[1]))
        return cls(line, best, names) if _known_names(names) else None

    def mistakes(self, api: ApiVersion) -> list[str]:
        """Return what is wrong with the header."""
        known = [name for name in self.names if find_key(name) is not None]
        suggested = words_to_suggest(known, api)
        wrong = [f"{name}: given more than once" for name in dict.fromkeys(known) if known.count(name) > 1]
        given = frozenset(KEY_BY_NAME[name].name for name in known)
        for name in self.names:
            if name and find_key(name) is None and name not in FORMER_KEYS:
                guess = did_you_mean(guess_name(name, None, suggested, given))
                remedy = f"{guess} If not, remove the column" if guess else "; remove the column"
                wrong.append(f"{excerpt(name)}: no such key{remedy}")
        for name in ("obs_id", "job_type"):
            if name not in known and not wrong:
                wrong.append(f"{name}: missing; the table must have a column for it")
        return wrong

    def rows(
        self, lines: Iterable[tuple[int, str]], api: ApiVersion, mistakes: list[Mistake]
    ) -> Iterator[tuple[int, CheckedRow]]:
        """Yield line and content of each row below the header.

        Parameters
        ----------
        lines : iterable of (int, str)
            Line number and text of each row.
        api : ApiVersion
            The interface that the rows are checked for.
        mistakes : list of Mistake
            What cannot be read is added here, and where there is no row at all.
        """
        is_empty = True
        for line, text in lines:
            texts = _cells(text, self.delimiter)
            if texts is not None and (self._is_header(texts) or not any(texts)):
                continue
            is_empty = False
            if texts is None:
                mistakes.append(Mistake(line, f"{excerpt(text)}: a quotation mark is not closed"))
            elif lost := self._lost(texts):
                mistakes.append(Mistake(line, lost))
            else:
                yield line, self._row(texts, api)
        if is_empty:
            mistakes.append(Mistake(self.line, "this is the header of a table that has no rows"))

    def _lost(self, texts: list[str]) -> str:
        """Say what of a row no column has room for, or what it lacks altogether; empty if nothing."""
        if any(texts[len(self.names) :]):
            return f"{len(texts)} values, and the header on line {self.line} has {len(self.names)} columns"
        for column, (name, text) in enumerate(zip(self.names, texts), start=1):
            if not name and column > 1 and text.lower() not in NOT_SAID:
                where = f"column {column} has no name in the header on line {self.line}"
                return f"{excerpt(text)}: {where}; give it the name of a key, or remove it"
        has_values = any(name and text.lower() not in NOT_SAID for name, text in zip(self.names, texts))
        return "" if has_values else "a row without values; fill it in, or remove it"

    def _is_header(self, texts: list[str]) -> bool:
        """Say whether a row is the header; it is there again where tables were put together."""
        return names_of_columns(text if name else "" for name, text in zip(self.names, texts)) == self.names

    def _row(self, texts: list[str], api: ApiVersion) -> CheckedRow:
        with_point = [text if self.delimiter == "," else _with_point(text) for text in texts]
        cells = [Cell(name, _value(name, text)) for name, text in zip(self.names, with_point) if name]
        return CheckedRow(cells, api, [])


def names_of_columns(headers: Iterable[str]) -> tuple[str, ...]:
    """Return the name of the key that each header means; empty for a column that has none."""
    names = [_key_name(header) for header in headers]
    return ("", *names[1:]) if names and names[0] == "index" else tuple(names)


def _key_name(header: str) -> str:
    if _UNNAMED.fullmatch(header):
        return ""
    words = re.findall(r"[^\s_-]+", header.lower())
    meant = (header, "_".join(words), _RUN_TOGETHER.get("".join(words), header))
    return next((name for name in meant if find_key(name)), header)


def _known_names(names: Iterable[str]) -> int:
    return sum(find_key(name) is not None for name in names)


def _cells(text: str, delimiter: str) -> list[str] | None:
    """Return the cells of a row, None where a quotation mark is missing."""
    try:
        (row,) = csv.reader([text.strip(" ")], delimiter=delimiter, skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        return None
    return [_bare(cell) for cell in row]


def _bare(text: str) -> str:
    """Return a cell without what makes a spreadsheet take it for text: ``="1191828584"``."""
    formula = re.fullmatch(r'="(.*)"', text.strip())
    return (formula[1] if formula else text).strip().lstrip("'").strip()


def _value(name: str, text: str) -> str:
    """Return a value as it is written in a row."""
    if text.lower() in NOT_SAID:
        return ""
    key = find_key(name)
    kind = key.kind_of_value(name) if key else None
    if kind is ValueKind.BOOLEAN:
        return _SWITCHES.get(text, text)
    # A column with a gap becomes one of floats in pandas.
    return whole_number(text) if kind in (ValueKind.INTEGER, ValueKind.CHOICE) else text


def _with_point(text: str) -> str:
    """Return a number with a decimal comma as one with a point; one that may have thousands stays."""
    comma = _DECIMAL_COMMA.fullmatch(text)
    return f"{comma[1]}.{comma[2]}" if comma and not _THOUSANDS.fullmatch(text) else text
