"""The page about a batch, as a file (--report). It never takes the place of a file that we did not make."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable

from mwa_client.directory.our_files import open_new, read_ours
from mwa_client.errors import DirectoryUnusable, InternalError, MwaClientError, SettingsError
from mwa_client.timing import Clock
from mwa_client.transfer.names import rename_to_free_name

MARK = (
    "<!doctype html>\n<!-- mwa_client made this page, and replaces it as long as it is unchanged: "
    "the SHA-1 of what follows is {} -->\n"
)
"""How each page begins: by that we know it again, and see whether somebody has worked on it."""
LARGEST_PAGE = 1 << 28
"""Bytes of the largest file that is looked at; a page about 10,000 rows has some 8 million."""
INTERVAL, LARGEST_SHARE = 120.0, 0.02
"""Seconds between two pages during a run, and the most of its time that is spent on them."""
UNFINISHED_FOR = 600.0
"""Seconds after which a page that has not got its name will get none: its writer was killed."""
CHOOSE_ANOTHER = "Choose another --report."


def check_report_file(path: Path | None) -> None:
    """Refuse to write a page over something else than a page of ours as we left it.

    Raises
    ------
    SettingsError
        Something else is there, or nothing can be written there.
    """
    if path is None:
        return
    with _file_errors(path):
        _page_there(path)
        if not path.parent.is_dir():
            raise SettingsError(f"Cannot write {path}: there is no directory {path.parent}.", CHOOSE_ANOTHER)


def write_report(path: Path, page: str) -> None:
    """Write a page so that a reader sees the old one or the new, and never half of one.

    Raises
    ------
    SettingsError
        As `check_report_file`.
    """
    body = page.encode("utf-8", "replace")
    mark = MARK.format(hashlib.sha1(body, usedforsecurity=False).hexdigest())
    temporary = path.with_name(f"{_temporary_prefix(path)}{secrets.token_hex(8)}.new")
    with _file_errors(path):
        try:
            with os.fdopen(open_new(temporary), "wb") as file:
                file.write(mark.encode() + body)
                file.flush()
                os.fsync(file.fileno())
            _put(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def remove_unfinished_pages(path: Path, now: float) -> None:
    """Remove the pages that a kill has left half written: ours, as their name and their beginning show.

    One that is younger than `UNFINISHED_FOR` seconds may be another client's that is about to get its name.
    """
    name = re.compile(rf"{re.escape(_temporary_prefix(path))}[0-9a-f]{{16}}\.new")
    mark = MARK.partition("{}")[0].encode()
    with suppress(OSError), os.scandir(path.parent) as entries:
        for found in [Path(entry.path) for entry in entries if name.fullmatch(entry.name)]:
            with suppress(OSError, DirectoryUnusable):
                begun = read_ours(found, LARGEST_PAGE, private=False)[: len(mark)]
                if mark.startswith(begun) and now - found.lstat().st_mtime > UNFINISHED_FOR:
                    found.unlink()


def _temporary_prefix(path: Path) -> str:
    return f".{path.name[:100]}."


class Reporter:
    """Writes the page at the beginning of a run, every few minutes, and at the end.

    Parameters
    ----------
    path : Path
        Where the page goes.
    page : callable
        Returns the page as it is now.
    clock : Clock
        The time.
    say : callable
        Is told, once, why a page cannot be written: the run goes on without it.
    """

    def __init__(self, path: Path, page: Callable[[], str], clock: Clock, say: Callable[[str], None]) -> None:
        self._path = path
        self._page = page
        self._clock = clock
        self._say = say
        self._due = float("-inf")
        self._has_failed = False

    def write_if_due(self) -> None:
        """Write the page if the last one is old enough."""
        if self._clock.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Write the page now."""
        begun = self._clock.monotonic()
        try:
            write_report(self._path, self._page())
        except Exception as error:  # Not even a mistake in the page may end a run.
            if not self._has_failed:
                known = error if isinstance(error, MwaClientError) else InternalError.of(error)
                self._say(f"Warning: no report. {' '.join(known.lines)}")
            self._has_failed = True
        ended = self._clock.monotonic()
        self._due = ended + max(INTERVAL, (ended - begun) / LARGEST_SHARE)


def _put(temporary: Path, path: Path) -> None:
    """Give a new page its name, if nothing but an earlier page of ours has it."""
    there = _page_there(path)
    if there is None:
        if not rename_to_free_name(temporary, path):
            _refuse(path)
        return
    temporary.chmod(stat.S_IMODE(there.st_mode))
    temporary.replace(path)


def _page_there(path: Path) -> os.stat_result | None:
    """Return the state of the page of ours that is there; None where nothing is.

    Raises
    ------
    SettingsError
        Something else is there.
    """
    try:
        state = path.lstat()
        data = read_ours(path, LARGEST_PAGE, private=False)
    except FileNotFoundError:
        return None
    before, _, after = re.escape(MARK).partition(re.escape("{}"))
    mark = re.match(f"{before}([0-9a-f]{{40}}){after}".encode(), data)
    if mark is None or mark[1] != _sha1(data[mark.end() :]):
        _refuse(path)
    return state


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest().encode()


def _refuse(path: Path) -> None:
    what = f"{path} already exists and is not an unchanged report of mwa_client; it was not replaced."
    raise SettingsError(what, CHOOSE_ANOTHER)


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except DirectoryUnusable as error:
        raise SettingsError(error.what, CHOOSE_ANOTHER) from None
    except OSError as error:
        raise SettingsError(f"Cannot write {path}: {error.strerror}.", CHOOSE_ANOTHER) from None
