"""The rows that a Python program gives, in whichever form, as the text of a job file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, Union, runtime_checkable

from mwa_client.errors import SettingsError
from mwa_client.jobs.jobfile import read_bytes
from mwa_client.jobs.key_table import KEY_BY_NAME
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.request import JobRequest
from mwa_client.jobs.table import names_of_columns
from mwa_client.jobs.text import NO_FILE
from mwa_client.jobs.values import text_of

RIGHT = (
    "Give the path of a job file, or a list of rows, each as text (obs_id=1191828584, job_type=d, "
    "download_type=vis) or as a mapping of keys and values."
)


@runtime_checkable
class RowTable(Protocol):
    """A table with one row for each job, as a pandas DataFrame is."""

    def to_dict(self, orient: str) -> object:
        """Return the rows, where `orient` is ``records``, as a list of mappings."""
        ...


@runtime_checkable
class OpenFile(Protocol):
    """A job file that is open already, or its text in memory (`io.StringIO`)."""

    def read(self) -> object:
        """Return all of its text."""
        ...


GivenRow = Union[str, Mapping[str, object], JobRequest]
GivenRows = Union[str, "os.PathLike[str]", GivenRow, Iterable[GivenRow], RowTable, OpenFile]
"""A job file (its path, or open), one row, many rows, or a table of them."""


def rows_as_text(given: GivenRows) -> tuple[bytes | str, str]:
    """Return rows as the text of a job file, and its name for messages.

    Parameters
    ----------
    given : str, path, row, iterable of rows, table or open file
        Text with an equals sign that is no file's name is a row. In a mapping, None and NaN mean: not said.

    Raises
    ------
    SettingsError
        The file cannot be read, or something is neither a file nor a row.

    Examples
    --------
    >>> rows_as_text([{"obs_id": 1191828584, "job_type": "d", "download_type": "vis", "delivery": None}])
    ('obs_id=1191828584, job_type=d, download_type=vis', 'row')
    """
    if isinstance(given, os.PathLike) or (isinstance(given, str) and not _is_row(given)):
        return read_bytes(os.fspath(given))
    if isinstance(given, RowTable) and not isinstance(given, Mapping):
        return rows_as_text(_of_table(given.to_dict("records")))  # type: ignore[arg-type]
    if isinstance(given, OpenFile) and not isinstance(given, type):
        content = given.read()
        if isinstance(content, (str, bytes)):
            return content, str(getattr(given, "name", NO_FILE))
        raise SettingsError(f"What was read of {type(given).__name__} is not text.", RIGHT)
    if isinstance(given, (str, Mapping, JobRequest)):
        given = [given]
    if not isinstance(given, Iterable) or isinstance(given, (bytes, bytearray)):
        raise SettingsError(f"{type(given).__name__} is neither a job file nor rows.", RIGHT)
    return "\n".join(map(_text_of_row, given)), NO_FILE


def _of_table(rows: object) -> object:
    """Return the rows of a table with its headers as keys: they are understood as in a job file."""
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], Mapping):
        return rows
    headers = [str(header).strip() for header in rows[0]]
    names = [name or header for name, header in zip(names_of_columns(headers), headers)]
    if len(set(names)) < len(names):
        return rows  # Two mean the same key, which is a mistake.
    return [dict(zip(names, row.values())) for row in rows]


def _is_row(text: str) -> bool:
    try:
        return "=" in text and not Path(text).exists()
    except (OSError, ValueError):  # Too long for a path, or with a zero byte.
        return True


def _text_of_row(row: object) -> str:
    if isinstance(row, str):
        return row
    if isinstance(row, JobRequest):
        return ", ".join(_cells_of_request(row))
    if isinstance(row, Mapping):
        cells = ((str(name).strip(), text_of(value)) for name, value in row.items())
        # A line break in a value must not begin another row.
        text = ", ".join(" ".join(f"{name}={text}".split()) for name, text in cells if text)
        # Nor must the row be taken for an empty line or a comment. A cell without a value says nothing.
        return text if text and not text.startswith("#") else f"obs_id=, {text}"
    raise SettingsError(f"{type(row).__name__} is not a row.", RIGHT)


def _cells_of_request(request: JobRequest) -> Iterator[str]:
    """Yield the cells in the words that the row had: they decide what it means to leave one out."""
    yield f"job_type={request.job_type.value}"
    for name, value in request.values:
        key = KEY_BY_NAME[name]
        there = key.name_on(request.written_for) if request.written_for is ApiVersion.V2018 else None
        yield f"{there}={key.encode(value, request.written_for)}" if there else f"{name}={value}"
    if request.allow_resubmit:
        yield "allow_resubmit=true"
