"""Jobs as the service keeps them, and as a listing shows them.

They know nothing of the time, and nothing of HTTP.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from mwa_client.light_dataclasses import dataclass

from .archives import Archive
from .interfaces import Interface
from .products import Content


class PracticeType(enum.Enum):
    """What a job asks for."""

    CONVERSION = "conversion"
    VISIBILITIES = "vis"
    METADATA = "vis_meta"
    VOLTAGE = "voltage"
    BEAMFORMER = "beamformer"
    IMAGING = "imaging"

    @property
    def number(self) -> int:
        """The number of the type in every interface."""
        return _NUMBERS[self]

    @property
    def usual_delivery(self) -> str:
        """The delivery of a job whose submission names none."""
        return "scratch" if self is PracticeType.VOLTAGE else "acacia"

    @property
    def is_download(self) -> bool:
        """Whether the job delivers files of the archive unchanged."""
        return self in (PracticeType.VISIBILITIES, PracticeType.METADATA)


# 4 is a job that cancels another.
_NUMBERS = dict(zip(PracticeType, (0, 1, 2, 3, 5, 6)))


class PracticeState(enum.Enum):
    """The state of a job."""

    PREPARING = "preparing"
    QUEUED = "queued"
    WAITCAL = "waitcal"
    STAGING = "staging"
    STAGED = "staged"
    RETRIEVING = "downloading"
    """The service fetches the files from the archive."""
    PROCESSING = "processing"
    """The one word for all work until March 2025."""
    PREPROCESSING = "preprocessing"
    IMAGING = "imaging"
    DELIVERING = "delivering"
    READY = "ready"
    ERROR = "error"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_waiting(self) -> bool:
        """Whether the work has not begun."""
        return self in (PracticeState.PREPARING, PracticeState.QUEUED)

    @property
    def has_product(self) -> bool:
        """Whether there is something to download."""
        return self is PracticeState.READY

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing to download, now or later."""
        return self in (PracticeState.ERROR, PracticeState.EXPIRED, PracticeState.CANCELLED)

    @property
    def is_under_way(self) -> bool:
        """Whether there may be something to download later."""
        return not self.has_product and not self.has_ended


@dataclass(frozen=True)
class PracticeJob:
    """One job as the service keeps it.

    Attributes
    ----------
    id : int
        Number of the job.
    type : PracticeType
        What was asked for.
    params : Mapping of str to object
        The keys and values of the submission; the values are text unless it came as JSON.
    created : float
        When it was submitted, in seconds since 1970.
    size : int
        Length of its product in bytes.
    file_name : str
        Name of its product.
    fixed_state : PracticeState or None
        The state that it was put into; None while it follows the clock.
    error_text : str or None
        Why it failed.
    made_by : Interface
        The interface that it was submitted by; today's jobs pass through more states.
    given_sha1 : str or None
        SHA-1 to be told of its product; None for the true one.
    given_url : str or None
        Where today's listings say that its product is; None for the object store.
    fixed_at : float or None
        When it was put into its state, in seconds since 1970.
    """

    id: int
    type: PracticeType
    params: Mapping[str, Any]
    created: float
    size: int = 0
    file_name: str = ""
    fixed_state: PracticeState | None = None
    error_text: str | None = None
    made_by: Interface = Interface.V2018
    given_sha1: str | None = None
    given_url: str | None = None
    fixed_at: float | None = None

    @property
    def obs_id(self) -> str:
        """The observation that it is about."""
        return str(self.params["obs_id"])

    @property
    def content(self) -> Content:
        """The bytes of its product: a zip if it was submitted by the interface of 2018, else a tar."""
        is_zip = self.made_by is Interface.V2018
        return Archive(f"job {self.id}", self.size, self.obs_id, self.kind, is_zip)

    @property
    def sha1(self) -> str:
        """SHA-1 of its product, in hex."""
        return self.given_sha1 or self.content.sha1

    @property
    def delivery(self) -> str:
        """Where its product goes: ``acacia``, ``scratch`` or ``dug``."""
        return str(self.params.get("delivery") or self.type.usual_delivery)

    @property
    def goes_to_folder(self) -> bool:
        """Whether its product is a folder on somebody's file system, not a file to download."""
        return self.delivery != "acacia"

    @property
    def kind(self) -> str:
        """The kind of product in the names of today's files."""
        if self.type is PracticeType.CONVERSION:
            return str(self.params.get("output") or self.params.get("conversion") or "ms")
        names = {PracticeType.METADATA: "meta", PracticeType.IMAGING: "image"}
        return names.get(self.type) or str(self.type.value)

    @property
    def object_name(self) -> str:
        """Name of its product in the object store."""
        if self.file_name != usual_file_name(self.type, self.params):
            return self.file_name  # The fault hostile_name gave it another.
        return f"{self.obs_id}_{self.id}_{self.kind}.tar"

    @property
    def course(self) -> tuple[PracticeState, ...]:
        """The states that it passes through until it is ready."""
        return _COURSES[self.made_by, self.type]


_WORK: dict[PracticeType, tuple[PracticeState, ...]] = {
    PracticeType.CONVERSION: (PracticeState.PREPROCESSING,),
    PracticeType.VISIBILITIES: (PracticeState.RETRIEVING,),
    PracticeType.METADATA: (PracticeState.RETRIEVING,),
    PracticeType.VOLTAGE: (PracticeState.RETRIEVING,),
    PracticeType.BEAMFORMER: (PracticeState.PREPROCESSING,),
    PracticeType.IMAGING: (PracticeState.PREPROCESSING, PracticeState.IMAGING),
}


def _course(made_by: Interface, type: PracticeType) -> tuple[PracticeState, ...]:
    if made_by is Interface.V2018:
        return PracticeState.QUEUED, PracticeState.PROCESSING
    start = (PracticeState.PREPARING,) if made_by is Interface.V2 else ()
    return (*start, PracticeState.QUEUED, PracticeState.STAGING, *_WORK[type], PracticeState.DELIVERING)


_COURSES = {(made_by, type): _course(made_by, type) for made_by in Interface for type in PracticeType}


@dataclass(frozen=True)
class Times:
    """The times of a job, in seconds since 1970; None for what has not happened yet."""

    created: float
    started: float | None
    completed: float | None
    modified: float


@dataclass(frozen=True)
class ListedProduct:
    """What a listing says about a product.

    Attributes
    ----------
    name : str
        Name of the file.
    size : int
        Size in bytes.
    sha1 : str or None
        None where it is not told.
    link_is_stale : bool
        Whether the URL, where it has one, is one that has expired.
    path : str or None
        A path that is told in place of where the product is.
    """

    name: str
    size: int
    sha1: str | None
    link_is_stale: bool = False
    path: str | None = None


@dataclass(frozen=True)
class ListingRow:
    """What a listing says about a job.

    Attributes
    ----------
    job : PracticeJob
        The job.
    state : PracticeState or int or str
        Where it stands; a number or word is shown as it is (see the fault ``unknown_state``).
    product : ListedProduct or None
        Its product, when it is ready.
    hidden : bool
        Whether the listing leaves the job out.
    age : float
        Seconds since the job was submitted.
    """

    job: PracticeJob
    state: PracticeState | int | str
    product: ListedProduct | None
    hidden: bool = False
    age: float = 0.0


def usual_file_name(type: PracticeType, params: Mapping[str, Any]) -> str:
    """Return the name that a product had in 2018, when two jobs on one observation could share one."""
    conversion = params.get("conversion") or params.get("output") or "ms"
    kind = conversion if type is PracticeType.CONVERSION else type.value
    return f"{params['obs_id']}_{kind}.zip"


_SIZES = {
    PracticeType.CONVERSION: 24_000_000,
    PracticeType.VISIBILITIES: 16_000_000,
    PracticeType.METADATA: 1_000_000,
    PracticeType.VOLTAGE: 3_000_000,
    PracticeType.BEAMFORMER: 8_000_000,
    PracticeType.IMAGING: 4_000_000,
}


def default_product_size(job: PracticeJob) -> int:
    """Return a size in bytes: about 24 MB for a conversion, 16 MB for visibilities, 1 MB for metadata."""
    # The id times a prime spreads the sizes over a fifth of the middle, the same in every run.
    middle = _SIZES[job.type]
    spread = middle // 5
    return middle - spread // 2 + job.id * 7_919_783 % spread
