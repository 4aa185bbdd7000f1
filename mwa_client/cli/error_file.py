"""The error file, which scripts read (--error-file). Each run writes it anew, and never over another file."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mwa_client.directory.our_files import read_ours, write_in_place
from mwa_client.errors import DirectoryUnusable, Interruption, MwaClientError, SettingsError
from mwa_client.json_text import read_json
from mwa_client.secrecy import hide

if TYPE_CHECKING:
    from mwa_client.batch.events import RowFailed

LARGEST = 1 << 24
"""Bytes of the largest file that is looked at: a thousand errors take some hundred kB."""
BEGINNING = b'[\n  {\n    "obs_id": '
"""How each list begins that is not empty; by that one is known again which a kill has cut off."""
REMEDY = "Choose another --error-file."


def write_errors(path: Path | None, errors: list[dict[str, object]]) -> None:
    """Write the errors as a JSON list; an empty one where there are none.

    Parameters
    ----------
    path : Path or None
        The file; None writes nothing.
    errors : list of dict
        ``{"obs_id", "job_id", "result"}`` for each.

    Raises
    ------
    SettingsError
        The file cannot be written, or it is something else than an error file: a job file, say, or a link.
    """
    if path is None:
        return
    check_error_file(path)
    text = json.dumps(errors, indent=2) + "\n"
    with _disk_errors(path):
        if _is_stream(path):
            _write_into(path, text)
        else:
            write_in_place(path, text)


def mark_of(path: Path | None) -> object:
    """Return what tells whether somebody else has written the error file since; None where there is none."""
    try:
        state = None if path is None else path.stat()
    except OSError:
        return None
    return None if state is None else (state.st_ino, state.st_size, state.st_mtime_ns)


def check_error_file(path: Path | None) -> None:
    """Refuse to write the errors over something else than an error file.

    Raises
    ------
    SettingsError
        As `write_errors`.
    """
    if path is None or _is_stream(path):
        return
    with _disk_errors(path):
        if not _may_be_written(path):
            what = f"{path} already exists and is not a list of errors; it was not changed."
            raise SettingsError(what, REMEDY)


def errors_of(failed: Iterable[RowFailed], ended_by: MwaClientError | None = None) -> list[dict[str, object]]:
    """Return the errors to write: those of the rows, and last the one that ended the run, if one did."""
    errors: list[dict[str, object]] = [
        {"obs_id": str(failure.row.obs_id), "job_id": failure.row.job_id, "result": hide(failure.error.what)}
        for failure in failed
    ]
    if ended_by is not None and not isinstance(ended_by, Interruption):
        errors.append({"obs_id": None, "job_id": None, "result": hide(ended_by.what)})
    return errors


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except DirectoryUnusable as error:
        raise SettingsError(error.what, REMEDY) from None
    except OSError as error:
        raise SettingsError(f"Cannot write {path}: {error.strerror}.", REMEDY) from None


def _is_stream(path: Path) -> bool:
    """Say whether it is a device or a pipe (``/dev/stderr``, ``>(jq .)``), where nothing is replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    is_named_directly = not path.is_symlink() or path.is_relative_to("/dev") or path.is_relative_to("/proc")
    return is_named_directly and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _write_into(path: Path, text: str) -> None:
    # Opening a pipe that nobody reads would wait for ever.
    handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    os.set_blocking(handle, True)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)


def _may_be_written(path: Path) -> bool:
    """Say whether nothing is there, or what an earlier run has written."""
    try:
        data = read_ours(path, LARGEST, private=False)
    except FileNotFoundError:
        return True
    if not data.strip():
        return True
    try:
        entries = read_json(data.decode("utf-8"))
    except ValueError:
        return data.startswith(BEGINNING)
    if not isinstance(entries, list):
        return False
    return all(isinstance(entry, dict) and "result" in entry for entry in entries)
