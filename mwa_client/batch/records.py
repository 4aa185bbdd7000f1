"""What the ledger records about a row, and about the product of its job."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, NamedTuple

from mwa_client.asvo.job import ProductFile
from mwa_client.directory.names import name_below
from mwa_client.json_text import read_strictly
from mwa_client.light_dataclasses import dataclass
from mwa_client.transfer.files import ExpectedFile, FetchedFile, FetchedFolder, by_name
from mwa_client.transfer.unpacking.members import UnpackRefused

ProductFiles = Sequence[tuple[ExpectedFile, ProductFile]]
"""Each file of a product as it is to be here, and where it comes from."""
_SHA1 = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class Product:
    """What is to be fetched for a row whose job is ready.

    Attributes
    ----------
    files : sequence of (ExpectedFile, ProductFile)
        Each file, and where it comes from.
    to_come : int
        Bytes that there must be room for, as of when the row became ready, as far as sizes are known.
    is_here : bool
        An earlier run has fetched all of it; it is only to be unpacked.
    """

    files: ProductFiles
    to_come: int
    is_here: bool = False


@dataclass(frozen=True)
class RefusedArchive:
    """Why an archive was not unpacked.

    Attributes
    ----------
    name : str
        The archive's name in the directory.
    member : str
        The member that is not unpacked.
    why : str
        What is wrong with it.
    """

    name: str
    member: str
    why: str


@dataclass(frozen=True)
class FetchedProduct:
    """The product of a row's job, once it has been fetched.

    Attributes
    ----------
    files : tuple of FetchedFile
        The files in the directory.
    elsewhere : tuple of str
        What was delivered to file systems that this host cannot see: where it is.
    refused : tuple of RefusedArchive
        Which of the files were to be unpacked and could not be.
    known_as : str
        The fingerprint that it had when it was first complete, where it was elsewhere then and is here now;
        empty otherwise.
    """

    files: tuple[FetchedFile, ...] = ()
    elsewhere: tuple[str, ...] = ()
    refused: tuple[RefusedArchive, ...] = ()
    known_as: str = ""

    @property
    def fingerprint(self) -> str:
        """What tells this product from another one, should a service ever begin its job ids anew."""
        if self.known_as:
            return self.known_as
        parts = sorted((*(file.sha1 for file in self.files), *self.elsewhere))
        return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    @property
    def refusal(self) -> UnpackRefused | None:
        """Why it was not unpacked, as an error; None where there is no reason."""
        for one in self.refused:
            for file in self.files:
                if file.path.name == one.name:
                    return UnpackRefused(one.member, one.why, file)
        return None


@dataclass(frozen=True)
class CommandRecord:
    """What the ledger has recorded about the user's command for a product.

    Attributes
    ----------
    digest : str
        Which command it was.
    status : int or None
        Its exit status, or the signal that has ended it as a negative number; None: it was begun, and has
        not ended as far as is known.
    """

    digest: str
    status: int | None


class UnreadProduct:
    """A fetched product as its line in the ledger, which is parsed when somebody asks for the product.

    A ledger can have a hundred thousand such lines, and a run needs few of them.

    Parameters
    ----------
    directory : Path
        The download directory.
    line : str
        The line.
    """

    __slots__ = ("_directory", "_line")

    def __init__(self, directory: Path, line: str) -> None:
        self._directory = directory
        self._line = line

    @property
    def fetched(self) -> FetchedProduct | None:
        """The product; None where a part of the line cannot be read, for half a product is no product."""
        return read_product(self._directory, read_strictly(self._line))

    def under(self, name: str) -> tuple[FetchedFile, ...]:
        """Return the files that were put under this name in the directory."""
        fetched = self.fetched
        return () if fetched is None else tuple(by_name(self._directory, fetched.files).get(name, ()))


class WrittenFile(NamedTuple):
    """A file of a product as an entry of the ledger tells of it.

    Attributes
    ----------
    name : str
        Its name below the directory, as the system has it.
    size, sha1, verified, mtime_ns, is_changed : int, str, bool, int or None, bool
        As of a `FetchedFile`.
    unpacked : int or None
        How many files are in it, where it is a folder that was unpacked.
    """

    name: str
    size: int
    sha1: str
    verified: bool
    mtime_ns: int | None
    is_changed: bool
    unpacked: int | None


class WrittenProduct(NamedTuple):
    """A product as an entry of the ledger tells of it: less to make than a `FetchedProduct`.

    Attributes
    ----------
    files : tuple of WrittenFile
        Its files in the directory.
    elsewhere, refused, known_as : tuple, tuple, str
        As of a `FetchedProduct`.
    """

    files: tuple[WrittenFile, ...]
    elsewhere: tuple[str, ...]
    refused: tuple[RefusedArchive, ...]
    known_as: str


def written_product(entry: Mapping[str, Any]) -> WrittenProduct | None:
    """Return the product that an entry of the ledger tells of.

    It is None where a part of the entry makes no sense, for half a product is no product.
    """
    files, elsewhere, refused = entry.get("files"), entry.get("elsewhere"), entry.get("refused")
    try:
        written = WrittenProduct(
            tuple(map(_read_file, files)) if isinstance(files, list) else (),
            tuple(map(str, elsewhere)) if isinstance(elsewhere, list) else (),
            tuple(RefusedArchive(*map(str, one)) for one in refused) if isinstance(refused, list) else (),
            str(entry.get("known_as") or ""),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return written if written.files or written.elsewhere else None


def read_product(directory: Path, entry: Mapping[str, Any]) -> FetchedProduct | None:
    """Return `written_product` with the paths that its files have in a directory."""
    written = written_product(entry)
    if written is None:
        return None
    files = tuple(_fetched(directory, file) for file in written.files)
    return FetchedProduct(files, *written[1:])


def _read_file(file: Mapping[str, Any]) -> WrittenFile:
    size, sha1, mtime_ns, unpacked = file["size"], file["sha1"], file.get("mtime_ns"), file.get("unpacked")
    if not (isinstance(size, int) and size >= 0 and _SHA1.fullmatch(sha1)):
        raise ValueError("no size or no SHA-1")
    return WrittenFile(
        name_below(file["name"]),
        size,
        sha1,
        file["verified"] is True,
        mtime_ns if isinstance(mtime_ns, int) else None,
        file.get("changed") is True,
        None if unpacked is None else int(unpacked),
    )


def _fetched(directory: Path, file: WrittenFile) -> FetchedFile:
    known = directory / file.name, file.size, file.sha1, file.verified, 0, file.mtime_ns, file.is_changed
    return FetchedFile(*known) if file.unpacked is None else FetchedFolder(*known, files=file.unpacked)


@dataclass
class RowRecord:
    """What the ledger has recorded about one row.

    Attributes
    ----------
    job_id : int or None
        Its job at the service, once submitted.
    state : str
        The last state that was seen of that job, in the service's word.
    product : UnreadProduct or None
        The product of that job, once it has been fetched.
    intended_after : int or None
        Set while the answer to a submission is not known: the highest job id that was listed before it. If
        the submission made a job, its id is higher.
    intended_at : float or None
        When that submission was begun, in seconds since 1970; the latest one, if it was tried again.
    completed_at : float or None
        When the product was complete, in seconds since 1970.
    tries : int
        Submissions of which it is not known whether they have made a job.
    unclear : int
        Submissions whose answers made no sense, since the row last had a job.
    missed : int
        Consecutive listings without its job, or, before it has one, without any job that its submission may
        have made. The ledger stops counting where a higher number would change nothing.
    missed_since : float or None
        When the first of these listings was, in seconds since 1970.
    renewals : int
        Jobs that have failed and were made anew because the user asked for it.
    disowned : int
        Jobs that the row was attached to, and that the service then listed with other parameters.
    label : str
        What it is by what was recorded last, in words for people.
    has_followed : bool
        The user's command was successful for its product.
    failure : str
        Why it has failed, as long as nothing has happened to it since.
    """

    job_id: int | None = None
    state: str = ""
    product: UnreadProduct | None = None
    intended_after: int | None = None
    intended_at: float | None = None
    completed_at: float | None = None
    tries: int = 0
    unclear: int = 0
    missed: int = 0
    missed_since: float | None = None
    renewals: int = 0
    disowned: int = 0
    label: str = field(default="", compare=False)
    has_followed: bool = False
    failure: str = field(default="", compare=False)

    @property
    def fetched(self) -> FetchedProduct | None:
        """The product of that job, once it has been fetched; None where its line cannot be read."""
        return None if self.product is None else self.product.fetched

    def note_intent(self, after: int, at: float | None) -> None:
        """Note that a submission was begun."""
        self.intended_after, self.intended_at = after, at
        self.tries += 1
        self.missed, self.missed_since = 0, None

    def note_refused(self) -> None:
        """Note that the last submission has made no job."""
        self.tries -= 1
        if self.tries <= 0:
            self.tries, self.intended_after, self.intended_at = 0, None, None

    def note_job(self, job_id: int | None) -> None:
        """Note which job the row has, or that it has none any more."""
        self.job_id, self.state = job_id, ""
        self.tries, self.unclear, self.intended_after, self.intended_at = 0, 0, None, None
        self.missed, self.missed_since = 0, None

    def note_missed(self, at: float | None) -> None:
        """Note a listing without the row's job."""
        self.missed += 1
        if at is not None:
            self.missed_since = min(at, self.missed_since or at)
