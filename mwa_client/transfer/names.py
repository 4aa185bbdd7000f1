"""Under which name a file may stand, and giving it that name.

Only what we made, and that is still as we left it, is ever replaced. Everything else is the user's.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import stat
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Callable

from mwa_client.directory.disk import disk_errors
from mwa_client.directory.names import is_no_command, name_on_disk
from mwa_client.transfer.events import FileNotice
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile, FetchedFile, FinalNames
from mwa_client.transfer.standing import Standing, sha1_of, standing_of_file

PRODUCT_ENDINGS = (".tar", ".tar.gz", ".tgz", ".zip", ".fits", ".uvfits")
"""How the names of products end."""
UNPACKED_ENDINGS = (".tar", ".zip")
"""How the names of those end that can be unpacked."""
_NO_HARD_LINKS = (
    errno.EPERM,
    errno.EACCES,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EXDEV,
    errno.EMLINK,
    errno.EINVAL,
)
"""What file systems say that know no hard links, or none from one folder into another."""


def safe_name(name: str, obs_id: int | None, job_id: int) -> str:
    """Return a product's name as it can stand in a directory.

    Only the base name counts. One that is empty, hidden, too long, unprintable, taken by this program or a
    danger in a shell (``sh -c 'work {path}'``) is replaced by the ids and its suffix.
    """
    base = re.split(r"[/\\]", name)[-1]
    usable = (
        base
        and base.isprintable()
        and base == base.strip()
        and is_no_command(base)
        and not base.startswith((".", "-"))
        and len(base.encode("utf-8")) <= 200
        and not base.upper().startswith("SHA1SUMS")
    )
    if usable:
        return name_on_disk(base)
    suffix = re.search(r"(\.tar)?\.[A-Za-z0-9]{1,8}$", base)
    return f"{obs_id or 'unknown'}_{job_id}{suffix[0] if suffix else ''}"


def folder_name(name: str) -> str:
    """Return the name of the folder that a product becomes when it is unpacked.

    Examples
    --------
    >>> folder_name("1191828584_ms.zip"), folder_name("1191828584_10001_ms.tar")
    ('1191828584_ms', '1191828584_10001_ms')
    """
    for ending in UNPACKED_ENDINGS:
        stem = name[: -len(ending)].rstrip()
        if name.lower().endswith(ending) and stem and stem.upper() != "SHA1SUMS":
            return stem
    return name


def is_tar_name(name: str) -> bool:
    """Say whether a product is to be unpacked while it arrives, by its name."""
    return name.lower().endswith(".tar") and folder_name(name) != name


def choose_name(
    expected: ExpectedFile,
    directory: DownloadDirectory,
    stop: threading.Event,
    listen: Callable[[FileNotice], None],
) -> tuple[ExpectedFile, FetchedFile | None]:
    """Decide under which name a file is to stand, given what stands there.

    Returns
    -------
    ExpectedFile
        What is expected, with another name where something that is not ours has its own.
    FetchedFile or None
        The right file, where it is there already.

    Raises
    ------
    DirectoryUnusable
        What stands there cannot be read.
    Stopped
        `stop` was set.
    """
    while True:
        path = directory.path / expected.name
        with disk_errors(path):
            try:
                state = path.lstat()
            except FileNotFoundError:
                return expected, None
            if stat.S_ISREG(state.st_mode):
                there = _Found(path, state, stop)
                if there.is_right(expected, directory.names):
                    verified = expected.sha1 is not None
                    mtime_ns = state.st_mtime_ns
                    return expected, FetchedFile(path, state.st_size, there.sha1, verified, 0, mtime_ns)
                if there.is_as_left(directory.names.made(expected.name)):
                    return expected, None  # Made by us for a job that is of no more use: it may be replaced.
                if there.is_half_fetched(expected, directory.names):
                    directory.guard()
                    listen(_move_aside(expected, path))
                    return expected, None
        expected = take_other_name(expected, directory, listen)


def take_other_name(
    expected: ExpectedFile, directory: DownloadDirectory, listen: Callable[[FileNotice], None]
) -> ExpectedFile:
    """Return the expected file under another name, because something that is not ours has its own."""
    other = directory.names.claim_another(expected.name, expected.job_id)
    path = directory.path / expected.name
    text = f"{path} is there already, and is not this product as mwa_client left it. It is kept as it is; "
    listen(FileNotice(expected.job_id, expected.name, f"{text}the product is called {other}."))
    return dataclasses.replace(expected, name=other)


def give_final_name(
    part: Path,
    expected: ExpectedFile,
    file: FetchedFile,
    directory: DownloadDirectory,
    listen: Callable[[FileNotice], None],
) -> FetchedFile:
    """Give a finished part file its final name, or another one where that has been taken meanwhile.

    Parameters
    ----------
    part : Path
        The part file; all of it is on disk.
    expected : ExpectedFile
        What it was fetched as.
    file : FetchedFile
        What it is; its path does not count yet.
    directory : DownloadDirectory
        Where it goes.

    Returns
    -------
    FetchedFile
        The file under its final name.
    """
    while True:
        file = dataclasses.replace(file, path=directory.path / expected.name)
        before = directory.names.made(expected.name)
        directory.names.placing(directory.path, expected.job_id, [file])
        with disk_errors(file.path):
            directory.guard()
            if rename_to_free_name(part, file.path):
                return file
            if any(standing_of_file(old) is Standing.AS_LEFT for old in before):
                part.replace(file.path)
                return file
        expected = take_other_name(expected, directory, listen)


def rename_to_free_name(path: Path, final: Path) -> bool:
    """Rename a file or a folder if nothing has the new name; say whether that was so."""
    try:
        # Unlike a rename, a second link never takes the place of something.
        os.link(path, final, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(final):
            return False
        path.rename(final)
        return True
    path.unlink()
    return True


class _Found:
    """A regular file that stands under the name that a product is to have."""

    def __init__(self, path: Path, state: os.stat_result, stop: threading.Event) -> None:
        self._path = path
        self._state = state
        self._stop = stop
        self._sha1 = ""

    @property
    def sha1(self) -> str:
        """The SHA-1 of the file, read when first needed; empty if we may not read it."""
        if not self._sha1:
            with suppress(PermissionError):
                self._sha1 = sha1_of(self._path, self._stop)
        return self._sha1

    def is_right(self, expected: ExpectedFile, names: FinalNames) -> bool:
        """Say whether it is the expected file: by the service's SHA-1, or else as what we left here."""
        if expected.size not in (None, self._state.st_size):
            return False
        if self._state.st_uid != os.geteuid():
            return False  # What its owner can change at any time is not verified.
        if expected.sha1 is not None:
            return self.sha1 == expected.sha1
        return any(self._is(made) for made in names.made_by(expected.job_id, expected.name))

    def is_as_left(self, made: Sequence[FetchedFile]) -> bool:
        """Say whether we made it, and nobody has changed it since."""
        return any(self._state.st_mtime_ns == file.mtime_ns and self._is(file) for file in made)

    def is_half_fetched(self, expected: ExpectedFile, names: FinalNames) -> bool:
        """Say whether it is plainly what another client has left of this product."""
        name = expected.name.lower()
        is_named_so = (
            expected.obs_id is not None and re.match(f"{expected.obs_id}(?![0-9])", name) is not None
        )
        is_a_product = is_named_so and name.endswith(PRODUCT_ENDINGS) and not names.made(expected.name)
        if not is_a_product or expected.sha1 is None or self._state.st_uid != os.geteuid():
            return False
        if expected.size not in (None, self._state.st_size):
            return True
        return self.sha1 not in ("", expected.sha1)

    def _is(self, file: FetchedFile) -> bool:
        return self._state.st_size == file.size and self.sha1 == file.sha1


def _move_aside(expected: ExpectedFile, path: Path) -> FileNotice:
    """Give another client's half-fetched product a name that nothing has, and say so."""
    aside, number = path.with_name(f"{path.name}.old"), 1
    while not rename_to_free_name(path, aside):
        number += 1
        aside = path.with_name(f"{path.name}.old{number}")
    text = (
        f"{path} has a wrong SHA-1; it looks like another client's unfinished download. "
        f"It is kept as {aside.name}."
    )
    return FileNotice(expected.job_id, expected.name, text)
