"""What a job key is: its names, the values that it takes, its limits and defaults on each interface.

The keys themselves are in `mwa_client.jobs.key_table`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal
from functools import cached_property

from mwa_client.light_dataclasses import dataclass


class ApiVersion(enum.Enum):
    """The interfaces that the archive's service has had."""

    V2018 = "2018"
    """User name and password; from 2017 to the end of 2018."""
    V1 = "v1"
    """API key; since the end of 2018."""
    V2 = "v2"
    """API key and tokens; since September 2026."""

    # An enum's own hash is written in Python, and a listing has interfaces and types looked up all the time.
    __hash__ = object.__hash__


class JobType(enum.Enum):
    """What a job does; the value is the letter that stands in a row."""

    CONVERSION = "c"
    DOWNLOAD = "d"
    VOLTAGE = "v"
    BEAMFORMER = "b"
    IMAGING = "i"

    __hash__ = object.__hash__

    @property
    def label(self) -> str:
        """The job type in a word."""
        return self.name.lower()

    @property
    def noun(self) -> str:
        """What one such job is called when jobs are counted: ``download``, ``voltage job``."""
        return (
            f"{self.label} job"
            if self in (JobType.VOLTAGE, JobType.BEAMFORMER, JobType.IMAGING)
            else self.label
        )

    def kind(self, download_type: object) -> str:
        """Return what comes of a job, in a word: of downloads, visibilities and metadata are told apart."""
        if self is not JobType.DOWNLOAD:
            return self.label
        return "metadata" if "meta" in str(download_type).lower() else "visibilities"

    def is_known_to(self, api: ApiVersion) -> bool:
        """Say whether an interface has jobs of this type: 2018 has conversions and downloads alone."""
        return api is not ApiVersion.V2018 or self in (JobType.CONVERSION, JobType.DOWNLOAD)


class ValueKind(enum.Enum):
    """What a value looks like."""

    INTEGER = "integer"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    CHOICE = "choice"

    @property
    def is_number(self) -> bool:
        """Whether values have an order and limits."""
        return self in (ValueKind.INTEGER, ValueKind.DECIMAL)


class Required(enum.Enum):
    """When a row must have a key."""

    NO = ""
    ALWAYS = "yes"
    IN_2018 = "2018"
    """In a row written for 2018: that service had no default."""
    WITH_CUSTOM_CENTRE = "with centre=custom"


@dataclass(frozen=True)
class Limits:
    """The numbers that are allowed, both ends included; None is no limit."""

    kind: ValueKind
    minimum: int | Decimal | None = None
    maximum: int | Decimal | None = None


@dataclass(frozen=True, eq=False)
class JobKey:
    """One key of a job, with its name on each interface.

    Within the program a value is the one of today's interface (v2); `decode` and `encode` translate from and
    to the others.

    Attributes
    ----------
    name : str
        Name on v2; for a key that only 2018 had, its name there.
    job_types : frozenset of JobType
        The job types that have the key.
    kind : ValueKind
        What its values look like.
    name_v1, name_2018 : str or None
        Names on the other two interfaces; None where they have no such key.
    minimum, maximum : int or Decimal, optional
        Limits in `unit`, both included.
    choices : tuple of str
        The values of a choice.
    unit : str
        Unit of the value, empty for a pure number.
    required : Required
        When a row must have it.
    default : str, optional
        What v2 takes where the key is left out.
    meaning : str
        What the key is for.
    other_defaults : mapping of JobType or ApiVersion to str
        Job types and interfaces that have another default; an interface counts more than a job type.
    api_limits : mapping of ApiVersion to Limits
        Interfaces that have other limits.
    value_names : mapping of ApiVersion to mapping of str to str
        Interfaces that call a value by another name; the empty one stands for leaving the key out.
    """

    name: str
    job_types: frozenset[JobType]
    kind: ValueKind
    name_v1: str | None = None
    name_2018: str | None = None
    minimum: int | Decimal | None = None
    maximum: int | Decimal | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""
    required: Required = Required.NO
    default: str | None = None
    meaning: str = ""
    other_defaults: Mapping[JobType | ApiVersion, str] = field(default_factory=dict)
    api_limits: Mapping[ApiVersion, Limits] = field(default_factory=dict)
    value_names: Mapping[ApiVersion, Mapping[str, str]] = field(default_factory=dict)

    @cached_property
    def is_only_in_2018(self) -> bool:
        """Whether today's service has no counterpart."""
        return self.name_v1 is None and self.name == self.name_2018

    def name_on(self, api: ApiVersion) -> str | None:
        """Return the key's name on an interface, None where the interface has no such key."""
        return self._names[api]

    @cached_property
    def _names(self) -> Mapping[ApiVersion, str | None]:
        today = None if self.is_only_in_2018 else self.name
        return {ApiVersion.V2018: self.name_2018, ApiVersion.V1: self.name_v1, ApiVersion.V2: today}

    def is_listed_as(self, name: str, api: ApiVersion) -> bool:
        """Say whether an interface may list the key under a name; v1 and v2 list each other's jobs."""
        if api is ApiVersion.V2018:
            return name == self.name_2018
        return self.name_on(api) is not None and name in (self.name, self.name_v1)

    def interface_of(self, name: str) -> ApiVersion | None:
        """Return which interface one of the key's names belongs to.

        Returns
        -------
        ApiVersion or None
            `ApiVersion.V2018`; `ApiVersion.V2` for a name of v1 or v2; None where 2018 and v2 share the name.
        """
        if name != self.name_2018:
            return ApiVersion.V2
        return None if self.name_on(ApiVersion.V2) == name else ApiVersion.V2018

    def kind_of_value(self, name: str) -> ValueKind:
        """Return the kind of the value that is given under one of the key's names.

        A choice of today may have been a switch in 2018: ``centre`` was ``usepcentre=true``.
        """
        if self.kind.is_number:
            return self.limits_of_value(name).kind
        is_switch = self.interface_of(name) is ApiVersion.V2018 and ApiVersion.V2018 in self.value_names
        return ValueKind.BOOLEAN if is_switch else self.kind

    def limits_of_value(self, name: str) -> Limits:
        """Return the limits of the value that is given under one of the key's names."""
        return self.limits_on(self.interface_of(name) or ApiVersion.V2)

    def limits_on(self, api: ApiVersion) -> Limits:
        """Return the limits of an interface."""
        return self.api_limits.get(api, Limits(self.kind, self.minimum, self.maximum))

    def is_required_in(self, written_for: ApiVersion) -> bool:
        """Say whether a row that is written for an interface must have the key."""
        if self.required is Required.IN_2018:
            return written_for is ApiVersion.V2018
        return self.required is Required.ALWAYS

    def default_of(self, job_type: JobType) -> str | None:
        """Return today's default for a job type, None where there is none."""
        return self.other_defaults.get(job_type, self.default)

    def implied_value(self, api: ApiVersion, job_type: JobType) -> str | None:
        """Return the value that an interface takes where the key is left out, None where it takes none."""
        if self.is_required_in(api):
            return None
        return self.other_defaults.get(api, self.default_of(job_type))

    def is_always_sent(self, job_type: JobType) -> bool:
        """Say whether v1 and v2 are sent the key even where a row leaves it out.

        The two imply different values for some keys, and their defaults have changed in the past. Only a
        switch that both take to be off can safely be left out.
        """
        if self.default_of(job_type) is None:
            return False
        implied = {self.implied_value(api, job_type) for api in (ApiVersion.V1, ApiVersion.V2)}
        return not (self.kind is ValueKind.BOOLEAN and implied == {"false"})

    def encode(self, value: str, api: ApiVersion) -> str:
        """Translate a value of today into an interface's."""
        return self.value_names.get(api, {}).get(value, value)

    def decode(self, value: str, name: str) -> str:
        """Translate a value that is given under one of the key's names into today's."""
        names = self.value_names.get(self.interface_of(name) or ApiVersion.V2, {})
        return {there: today for today, there in names.items()}.get(value, value)


VOLTAGE_DOWNLOAD = "volt"
"""What v1 wants as the ``download_type`` of a voltage job."""
