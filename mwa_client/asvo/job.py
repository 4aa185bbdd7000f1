"""What the service says about a job: its state and its product, and how answers are read.

Everything here is read tolerantly: ids come as numbers or strings, fields can be missing or null.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from functools import lru_cache
from typing import Callable

from mwa_client.jobs.keys import JobType
from mwa_client.light_dataclasses import dataclass
from mwa_client.secrecy import hide
from mwa_client.timing import read_time

MAX_INTEGER = 2**63 - 1
"""The largest number that makes sense as an id or a size; no file system and no database has larger ones."""
PLAUSIBLE_TIMES = 1e9, 1e11
"""Seconds since 1970 between which a time makes sense (2001 to 5138); null may come as the year 1 or 1970."""
PRODUCT_LIFE = 7 * 86400.0
"""Seconds after the end of a job for which its product can be fetched."""


class JobState(enum.Enum):
    """Where a job stands. The value is the word of today's service, the label is what people see."""

    PREPARING = "preparing"
    QUEUED = "queued"
    WAITCAL = "waitcal"
    STAGING = "staging"
    STAGED = "staged"
    RETRIEVING = "downloading"
    PREPROCESSING = "preprocessing"
    PROCESSING = "processing"
    IMAGING = "imaging"
    DELIVERING = "delivering"
    READY = "completed"
    ERROR = "error"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    UNKNOWN = ""
    """A state that this program does not know. New ones have come without notice, so it is waited on."""

    # An enum's own hash is written in Python, and the label of a state is looked up all the time.
    __hash__ = object.__hash__

    @property
    def label(self) -> str:
        """The words that people see."""
        return _LABELS[self]

    @property
    def is_ready(self) -> bool:
        """The product can be fetched."""
        return self is JobState.READY

    @property
    def is_lost(self) -> bool:
        """The job will never have a product (again)."""
        return self in (JobState.ERROR, JobState.EXPIRED, JobState.CANCELLED)

    @property
    def is_pending(self) -> bool:
        """The service is still working on it, as far as we know."""
        return not self.is_ready and not self.is_lost


_LABELS = {
    JobState.PREPARING: "Preparing",
    JobState.QUEUED: "Queued",
    JobState.WAITCAL: "Waiting for calibration",
    JobState.STAGING: "Staging",
    JobState.STAGED: "Staged",
    # The service's "downloading" is its own fetch from the archive, not the user's.
    JobState.RETRIEVING: "Retrieving from archive",
    JobState.PREPROCESSING: "Preprocessing",
    JobState.PROCESSING: "Processing",
    JobState.IMAGING: "Imaging",
    JobState.DELIVERING: "Delivering",
    JobState.READY: "Ready for Download",
    JobState.ERROR: "Error",
    JobState.EXPIRED: "Expired",
    JobState.CANCELLED: "Cancelled",
    JobState.UNKNOWN: "Unknown state",
}


class Delivery(enum.Enum):
    """Where the service has put a product."""

    SERVICE = "service"
    """The service itself sends it (2018)."""
    ACACIA = "acacia"
    """An object store; a signed URL, which dies after 7 days."""
    SCRATCH = "scratch"
    """A folder of the archive's supercomputer centre."""
    DUG = "dug"
    """A folder of another computer centre."""

    @property
    def is_folder(self) -> bool:
        """The product is on a file system that this host may or may not see."""
        return self in (Delivery.SCRATCH, Delivery.DUG)


@dataclass(frozen=True)
class ProductFile:
    """One file of a finished job.

    Attributes
    ----------
    name : str
        The name that the service gave. It comes from outside: make it safe before using it as a path.
    size : int or None
        Size in bytes.
    sha1 : str or None
        SHA-1 of the whole file, 40 lower-case hexadecimal digits.
    delivery : Delivery
        Where it is.
    url : str
        Its signed URL, where it is in an object store. Not shown by ``repr``: who has it has the file.
    path : str
        The file or folder, where it is on a file system.
    """

    name: str
    size: int | None = None
    sha1: str | None = None
    delivery: Delivery = Delivery.SERVICE
    url: str = field(default="", repr=False)
    path: str = ""


@dataclass(frozen=True)
class Job:
    """One job as the service lists it.

    Attributes
    ----------
    job_id : int
        The service's number for the job.
    state : JobState
        Where it stands.
    state_word : str
        The service's own word (or number) for the state.
    obs_id : int or None
        The observation: the GPS second at which it started.
    job_type : JobType or None
        None for a type that this program does not know.
    parameters : mapping of str to object
        What was asked for, in the service's words.
    error_text : str
        Why it failed; empty when the service does not say.
    product : tuple of ProductFile
        The files to fetch; empty until the job is ready.
    raw : mapping of str to object
        The service's own words for the job, all of them.
    """

    job_id: int
    state: JobState
    state_word: str = ""
    obs_id: int | None = None
    job_type: JobType | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)
    error_text: str = ""
    product: tuple[ProductFile, ...] = ()
    raw: Mapping[str, object] = field(default_factory=dict, repr=False)

    @property
    def label(self) -> str:
        """The state in words for people; an unknown state is shown by the service's own word."""
        if self.state is JobState.UNKNOWN and self.state_word:
            return clean_text(self.state_word, 40).capitalize()
        return self.state.label

    @property
    def starts_at(self) -> float | None:
        """When the service expects to start it, in seconds since 1970; v2 alone says so."""
        return read_moment(self.raw.get("estimated_start")) if self.state.is_pending else None

    @property
    def completed_at(self) -> float | None:
        """When it was completed, in seconds since 1970; today's service alone says so."""
        return read_moment(self.raw.get("completed")) if self.state.is_ready else None

    @property
    def expires_at(self) -> float | None:
        """When its product expires, in seconds since 1970; None if that is not known.

        Today's service says when a job was completed; v2 has no state for what comes after that.
        """
        if not self.state.is_ready:
            return None
        signed = [re.search(r"[?&]Expires=([0-9]{1,12})", file.url) for file in self.product]
        ends = [float(match[1]) for match in signed if match is not None and _is_plausible(float(match[1]))]
        completed = self.completed_at
        # A link that is signed anew with each listing outlives the product.
        return min(ends if completed is None else [*ends, completed + PRODUCT_LIFE], default=None)


# --- Reading the service's answers --------------------------------------------------------------------


JOB_TYPES = {
    0: JobType.CONVERSION,
    1: JobType.DOWNLOAD,
    2: JobType.DOWNLOAD,
    3: JobType.VOLTAGE,
    5: JobType.BEAMFORMER,
    6: JobType.IMAGING,
}
"""Job types by the service's numbers; 4 is the cancellation of another job."""


STATES_2018 = {
    0: JobState.QUEUED,
    1: JobState.PROCESSING,
    2: JobState.READY,
    3: JobState.ERROR,
    4: JobState.EXPIRED,
    5: JobState.CANCELLED,
}
"""States of jobs by the numbers of the service of 2018."""


@lru_cache(maxsize=256)
def label_of_word(word: str) -> str:
    """Return the words that people see for the `Job.state_word` that the ledger has."""
    number = word.removeprefix("state ")
    if number != word and number.isdigit() and int(number) in STATES_2018:
        return STATES_2018[int(number)].label
    try:
        return JobState(read_word(word)).label
    except ValueError:
        return clean_text(word, 40).capitalize()


def read_listing(
    listing: Iterable[object], read_job: Callable[[dict[str, object]], Job | None]
) -> Iterator[Job]:
    """Yield the jobs of a listing, with or without an envelope; entries that cannot be read are skipped."""
    for entry in listing:
        row = entry.get("row", entry) if isinstance(entry, dict) else None
        job = read_job(row) if isinstance(row, dict) else None
        if job is not None:
            yield job


def files_of(product: object) -> list[object]:
    """Return the entries of a product; it is null until the job is ready."""
    files = product.get("files") if isinstance(product, dict) else None
    return files if isinstance(files, list) else []


def product_of(files: Iterable[ProductFile | None]) -> tuple[ProductFile, ...]:
    """Return the files of a product, each once, however often it is listed.

    A product of which one file cannot be read (None) counts as none, since half of it is of no use.
    """
    known: dict[tuple[object, ...], ProductFile] = {}
    for file in files:
        if file is None:
            return ()
        # What follows the question mark is the signature, which may differ.
        address = file.path, file.url.partition("?")[0]
        known.setdefault((file.name, file.size, file.sha1, *address), file)
    return tuple(known.values())


def read_integer(value: object) -> int | None:
    """Return a whole number that came as a number or a string; None if it is none or beyond `MAX_INTEGER`."""
    if isinstance(value, str):
        is_number = re.fullmatch(r"\s*[0-9]{1,19}\s*", value) is not None
    elif isinstance(value, float):
        is_number = value.is_integer()
    else:
        is_number = isinstance(value, int) and not isinstance(value, bool)
    number = int(value) if is_number else None  # type: ignore[call-overload]
    return number if number is not None and abs(number) <= MAX_INTEGER else None


def read_size(value: object) -> int | None:
    """Return a size in bytes, or None if the value is none."""
    size = read_integer(value)
    return size if size is not None and size >= 0 else None


def read_id(value: object) -> int | None:
    """Return a job id or an obs_id, which are above 0, or None."""
    return read_size(value) or None


def read_moment(value: object) -> float | None:
    """Return a time in seconds since 1970, or None where it is none, or none that makes sense."""
    moment = read_time(value)
    return moment if moment is not None and _is_plausible(moment) else None


def _is_plausible(moment: float) -> bool:
    earliest, latest = PLAUSIBLE_TIMES
    return earliest < moment < latest


def read_word(value: object) -> str:
    """Return a word in lower case, to be looked up; empty if the value is no text."""
    return value.strip().lower() if isinstance(value, str) else ""


def read_sha1(value: object) -> str | None:
    """Return a SHA-1 as 40 lower-case hexadecimal digits, or None."""
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9a-fA-F]{40}\s*", value):
        return value.strip().lower()
    return None


def clean_text(text: object, most: int = 300) -> str:
    """Return any value as one printable line of at most `most` characters, without secrets."""
    try:
        # Secrets first, so that none is cut in two; then cut, since it may have millions of characters.
        line = "" if text is None else hide(str(text), is_foreign=True)[: 100 * most]
    except (ValueError, RecursionError):
        return ""  # A number of thousands of digits, or very deeply nested lists.
    if not line.isprintable():
        line = "".join(character if character.isprintable() else " " for character in line)
    line = " ".join(line.split())
    return line if len(line) <= most else line[: most - 1] + "…"
