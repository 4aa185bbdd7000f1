"""The words of a job: every key of every interface, its kind, its limits, its default.

To teach the program a new key, add a line to `KEYS`; nothing else needs to know.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType


class ApiVersion(enum.Enum):
    """The interfaces that the service has had; how the rest of the program names them."""

    V2018 = "2018"
    """Password; 2017 to the end of 2018."""
    V1 = "v1"
    """API key; since the end of 2018."""
    V2 = "v2"
    """API key and tokens; since September 2026."""


class JobType(enum.Enum):
    """What a job does; the value is the letter that stands in a row."""

    CONVERSION = "c"
    DOWNLOAD = "d"
    VOLTAGE = "v"
    BEAMFORMER = "b"
    IMAGING = "i"

    @property
    def label(self) -> str:
        """The word that people use for it."""
        return self.name.lower()

    @property
    def noun(self) -> str:
        """What one such job is called when they are counted."""
        return (
            f"{self.label} job"
            if self in (JobType.VOLTAGE, JobType.BEAMFORMER, JobType.IMAGING)
            else self.label
        )

    def is_known_to(self, api: ApiVersion) -> bool:
        """Say whether an interface has such jobs: 2018 has conversions and downloads alone."""
        return api is not ApiVersion.V2018 or self in (JobType.CONVERSION, JobType.DOWNLOAD)


class Kind(enum.Enum):
    """What a value looks like."""

    INTEGER = "integer"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    CHOICE = "choice"

    @property
    def is_number(self) -> bool:
        """Whether values have an order and limits."""
        return self in (Kind.INTEGER, Kind.DECIMAL)


class Required(enum.Enum):
    """When a row must have a key."""

    NO = ""
    ALWAYS = "yes"
    IN_2018 = "2018"
    """In a row in 2018 words: that service had no default."""
    WITH_CUSTOM_CENTRE = "with centre=custom"


@dataclass(frozen=True)
class Limits:
    """The numbers that are allowed, both ends included; None is no limit."""

    kind: Kind
    minimum: int | Decimal | None = None
    maximum: int | Decimal | None = None


@dataclass(frozen=True, eq=False)
class JobKey:
    """One key of a job, in all its spellings.

    Attributes
    ----------
    word : str
        Today's word (v2); for a key that only 2018 had, its word there.
    v1, word_2018 : str or None
        The words of the other two interfaces; None where they have no such key.
    jobs : frozenset of JobType
        The job types that have it.
    kind : Kind
        What its values look like.
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
        What it is for.
    only_2018 : bool
        Today's service has no counterpart.
    defaults : mapping of JobType to str
        Job types that have another default.
    assumed : mapping of ApiVersion to str
        Interfaces that take another default.
    limits : mapping of ApiVersion to Limits
        Interfaces that have other limits.
    named : mapping of ApiVersion to mapping of str to str
        Interfaces that call a value (of `choices`, or true and false) by another name.
    """

    word: str
    jobs: frozenset[JobType]
    kind: Kind
    v1: str | None = None
    word_2018: str | None = None
    minimum: int | Decimal | None = None
    maximum: int | Decimal | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""
    required: Required = Required.NO
    default: str | None = None
    meaning: str = ""
    only_2018: bool = False
    defaults: Mapping[JobType, str] = field(default_factory=dict)
    assumed: Mapping[ApiVersion, str] = field(default_factory=dict)
    limits: Mapping[ApiVersion, Limits] = field(default_factory=dict)
    named: Mapping[ApiVersion, Mapping[str, str]] = field(default_factory=dict)

    def spelled(self, api: ApiVersion) -> str | None:
        """Return the key's word on an interface, None where the interface has no such key."""
        today = None if self.only_2018 else self.word
        return {ApiVersion.V2018: self.word_2018, ApiVersion.V1: self.v1, ApiVersion.V2: today}[api]

    def is_word_of(self, api: ApiVersion, word: str) -> bool:
        """Say whether a word stands for the key on an interface; v1 and v2 list each other's jobs."""
        if api is ApiVersion.V2018:
            return word == self.word_2018
        return self.spelled(api) is not None and word in (self.word, self.v1)

    def vocabulary(self, word: str) -> ApiVersion | None:
        """Return whose word it is: `ApiVersion.V2018` or `V2` (today's), None where both have it."""
        if word != self.word_2018:
            return ApiVersion.V2
        return None if self.spelled(ApiVersion.V2) == word else ApiVersion.V2018

    def kind_as(self, word: str) -> Kind:
        """Return the kind of the value beside one of the key's words.

        A choice of today may have been a switch in 2018: ``centre`` was ``usepcentre=true``.
        """
        if self.kind.is_number:
            return self.limits_as(word).kind
        switched = self.vocabulary(word) is ApiVersion.V2018 and ApiVersion.V2018 in self.named
        return Kind.BOOLEAN if switched else self.kind

    def limits_as(self, word: str) -> Limits:
        """Return the limits that come with one of the key's words."""
        return self.limits_on(self.vocabulary(word) or ApiVersion.V2)

    def limits_on(self, api: ApiVersion) -> Limits:
        """Return the limits of an interface."""
        return self.limits.get(api, Limits(self.kind, self.minimum, self.maximum))

    def is_required_in(self, vocabulary: ApiVersion) -> bool:
        """Say whether a row in the words of an interface must have the key."""
        if self.required is Required.IN_2018:
            return vocabulary is ApiVersion.V2018
        return self.required is Required.ALWAYS

    def default_of(self, job_type: JobType) -> str | None:
        """Return today's default for a job type, None where there is none."""
        return self.defaults.get(job_type, self.default)

    def meant_on(self, api: ApiVersion, job_type: JobType) -> str | None:
        """Return what an interface takes a missing key to mean, None where it must be told."""
        if self.is_required_in(api):
            return None
        return self.assumed.get(api, self.default_of(job_type))

    def is_always_stated(self, job_type: JobType) -> bool:
        """Say whether v1 and v2 are told the key even where a row leaves it out.

        The two do not agree on what a missing key means, and their defaults have moved; only a switch that is
        off on both unless it is asked for can be left out.
        """
        if self.default_of(job_type) is None:
            return False
        meant = {self.meant_on(api, job_type) for api in (ApiVersion.V1, ApiVersion.V2)}
        return not (self.kind is Kind.BOOLEAN and meant == {"false"})

    def said_on(self, api: ApiVersion, value: str) -> str:
        """Return the name of a value on an interface."""
        return self.named.get(api, {}).get(value, value)

    def heard(self, word: str, value: str) -> str:
        """Return today's name of a value that stands beside one of the key's words."""
        names = self.named.get(self.vocabulary(word) or ApiVersion.V2, {})
        return {name: meant for meant, name in names.items()}.get(value, value)


VOLTAGE_DOWNLOAD = "volt"
"""What v1 wants as the ``download_type`` of a voltage job."""

_C, _D, _V, _B, _I = (frozenset({job_type}) for job_type in JobType)
_ANY = frozenset(JobType)
# An imaging job converts first, so it has the keys of a conversion.
_CONVERSION = _C | _I

_INTEGER, _DECIMAL, _BOOLEAN, _CHOICE = Kind

_WHOLE_FROM_0 = Limits(Kind.INTEGER, minimum=0)
_WHOLE_FROM_1 = Limits(Kind.INTEGER, minimum=1)

KEYS: tuple[JobKey, ...] = (
    # --- Every job ---
    JobKey(
        "obs_id", _ANY, _INTEGER, v1="obs_id", word_2018="obs_id",
        minimum=888888889, maximum=9999999999, unit="GPS second", required=Required.ALWAYS,
        meaning="observation id: the GPS second at which the observation started",
    ),
    JobKey(
        "job_type", _ANY, _CHOICE, v1="job_type", word_2018="job_type",
        choices=tuple(job_type.value for job_type in JobType), required=Required.ALWAYS,
        meaning="c conversion; d download; v voltage; b beamformer; i imaging",
    ),
    JobKey(
        "delivery", _ANY, _CHOICE, v1="delivery",
        choices=("acacia", "scratch", "dug"), default="acacia", defaults={JobType.VOLTAGE: "scratch"},
        meaning="where the product goes",
    ),
    JobKey(
        "delivery_format", _ANY, _CHOICE, v1="delivery_format",
        choices=("tar", "files"), default="tar", defaults={JobType.VOLTAGE: "files"},
        meaning="tar or single files",
    ),
    JobKey(
        "allow_resubmit", _ANY, _BOOLEAN, v1="allow_resubmit", default="false",
        meaning="submit even if the same job is already there",
    ),
    # --- Conversion ---
    JobKey(
        "avg_time_res", _CONVERSION, _DECIMAL, v1="avg_time_res", word_2018="timeres",
        minimum=0, unit="s", required=Required.IN_2018, default="2",
        limits={ApiVersion.V2018: _WHOLE_FROM_1, ApiVersion.V1: Limits(Kind.DECIMAL, Decimal("0.5"), 32)},
        meaning="average in time",
    ),
    JobKey(
        "avg_freq_res", _CONVERSION, _DECIMAL, v1="avg_freq_res", word_2018="freqres",
        minimum=0, maximum=1280, unit="kHz", required=Required.IN_2018, default="40",
        limits={ApiVersion.V2018: _WHOLE_FROM_1},
        meaning="average in frequency",
    ),
    JobKey(
        "flag_edge_width", _CONVERSION, _DECIMAL, v1="flag_edge_width", word_2018="edgewidth",
        minimum=0, maximum=640, unit="kHz", required=Required.IN_2018, default="80",
        limits={ApiVersion.V2018: _WHOLE_FROM_0},
        meaning="flag the edges of each coarse channel; 0 flags none",
    ),
    JobKey(
        "output", _C, _CHOICE, v1="output", word_2018="conversion",
        choices=("ms", "uvfits"), required=Required.IN_2018, default="ms",
        meaning="CASA measurement set or UVFITS",
    ),
    JobKey(
        "centre", _CONVERSION, _CHOICE, v1="centre", word_2018="usepcentre",
        choices=("phase", "pointing", "custom"), default="phase",
        named={ApiVersion.V2018: {"phase": "false", "pointing": "true"}},
        meaning="phase centre",
    ),
    JobKey(
        "custom_centre_ra", _CONVERSION, _DECIMAL, v1="phase_centre_ra",
        minimum=0, maximum=Decimal("359.999999"), unit="deg", required=Required.WITH_CUSTOM_CENTRE,
        meaning="right ascension ICRS J2000",
    ),
    JobKey(
        "custom_centre_dec", _CONVERSION, _DECIMAL, v1="phase_centre_dec",
        minimum=-90, maximum=90, unit="deg", required=Required.WITH_CUSTOM_CENTRE,
        meaning="declination ICRS J2000",
    ),
    JobKey(
        "apply_di_cal", _CONVERSION, _BOOLEAN, v1="apply_di_cal", word_2018="calibrate",
        default="false", defaults={JobType.IMAGING: "true"}, assumed={ApiVersion.V1: "false"},
        meaning="apply a direction-independent calibration; the job fails where there is none",
    ),
    JobKey(
        "no_apply_amps", _CONVERSION, _BOOLEAN, default="false",
        meaning="do not apply the calibration's amplitudes",
    ),
    JobKey(
        "no_rfi", _CONVERSION, _BOOLEAN, v1="no_rfi", word_2018="norfi", default="false",
        meaning="do not detect RFI",
    ),
    JobKey(
        "no_geometry_delay", _CONVERSION, _BOOLEAN, v1="no_geometric_delay", word_2018="nogeom",
        default="false", meaning="do not correct the geometric delays",
    ),
    JobKey(
        "no_cable_delay", _CONVERSION, _BOOLEAN, v1="no_cable_delay", default="false",
        meaning="do not correct the cable delays",
    ),
    JobKey(
        "no_digital_gains", _CONVERSION, _BOOLEAN, v1="no_digital_gains", word_2018="nosbgains",
        default="false", meaning="do not correct the digital gains",
    ),
    JobKey(
        "no_passband_gains", _CONVERSION, _BOOLEAN, v1="no_passband_gains", word_2018="sbpassband",
        default="false", meaning="no passband correction",
    ),
    JobKey(
        "no_flag_dc", _CONVERSION, _BOOLEAN, v1="no_flag_dc", word_2018="flagdcchannels",
        default="false", assumed={ApiVersion.V2018: "true"},
        named={ApiVersion.V2018: {"true": "false", "false": "true"}},
        meaning="do not flag the centre channel of each coarse channel",
    ),
    # --- Conversion, 2018 alone ---
    JobKey(
        "nostats", _CONVERSION, _BOOLEAN, word_2018="nostats", only_2018=True, default="false",
        meaning="do not collect statistics",
    ),
    JobKey(
        "noantennapruning", _CONVERSION, _BOOLEAN, word_2018="noantennapruning", only_2018=True,
        default="false", meaning="keep the flagged antennas",
    ),
    JobKey(
        "noflagautos", _CONVERSION, _BOOLEAN, word_2018="noflagautos", only_2018=True,
        default="false", meaning="do not flag auto-correlations",
    ),
    JobKey(
        "noflagmissings", _CONVERSION, _BOOLEAN, word_2018="noflagmissings", only_2018=True,
        default="false", meaning="do not flag missing gpubox files",
    ),
    JobKey(
        "allowmissing", _CONVERSION, _BOOLEAN, word_2018="allowmissing", only_2018=True,
        default="false", meaning="go on when gpubox files are missing",
    ),
    # --- Download ---
    JobKey(
        "download_type", _D, _CHOICE, v1="download_type", word_2018="download_type",
        choices=("vis", "vis_meta"), required=Required.ALWAYS, default="vis",
        named={ApiVersion.V2: {"vis_meta": "meta"}},
        meaning="vis: visibilities and metadata; vis_meta: metadata alone",
    ),
    # --- Voltage ---
    JobKey(
        "offset", _V, _INTEGER, v1="offset",
        minimum=0, maximum=5400, unit="s", required=Required.ALWAYS,
        meaning="seconds from the start of the observation",
    ),
    JobKey(
        "duration", _V, _INTEGER, v1="duration", minimum=0, unit="s", required=Required.ALWAYS,
        meaning="seconds of voltages",
    ),
    JobKey(
        "from_channel", _V, _INTEGER, v1="from_channel", minimum=0, maximum=255,
        meaning="first receiver coarse channel (times 1.28 MHz); inclusive",
    ),
    JobKey(
        "to_channel", _V, _INTEGER, v1="to_channel", minimum=0, maximum=255,
        meaning="last receiver coarse channel",
    ),
    JobKey(
        "channel_range", _V, _BOOLEAN, v1="channel_range", default="false",
        meaning="true where from_channel or to_channel is given: without it they are ignored",
    ),
    # --- Beamformer ---
    JobKey(
        "mode", _B, _CHOICE,
        choices=("MWAX_BEAMFORMER", "MWAX_CORR_BF"), default="MWAX_BEAMFORMER",
        meaning="observing mode",
    ),
    # --- Imaging ---
    JobKey(
        "source_job_id", _I, _INTEGER, v1="source_job_id", minimum=1,
        meaning="image this finished conversion job instead of the raw data",
    ),
    JobKey(
        "image_size", _I, _CHOICE, v1="image_size",
        choices=("512", "1024", "2048", "3072", "4096", "8192"), unit="pixel", default="3072",
        meaning="width and height of the image",
    ),
    JobKey(
        "pixel_scale", _I, _DECIMAL, v1="pixel_scale",
        minimum=10, maximum=120, unit="arcsec", default="20", meaning="size of a pixel",
    ),
    JobKey(
        "weighting", _I, _CHOICE, v1="weighting",
        choices=("natural", "uniform", "briggs"), default="briggs",
    ),
    JobKey(
        "robust", _I, _DECIMAL, v1="robust",
        minimum=-2, maximum=2, default="-0.5", meaning="used with briggs",
    ),
    JobKey(
        "clean_iterations", _I, _INTEGER, v1="clean_iterations",
        minimum=0, maximum=1000000, default="100000",
    ),
    JobKey(
        "abs_threshold", _I, _DECIMAL, v1="clean_threshold",
        minimum=0, maximum=10, unit="Jy", default="0.001", meaning="stop cleaning at this flux",
    ),
    JobKey(
        "auto_threshold", _I, _DECIMAL, v1="auto_threshold",
        minimum=Decimal("0.1"), maximum=5, unit="sigma", default="0.5",
        meaning="stop cleaning at this multiple of the noise",
    ),
    JobKey("nmiter", _I, _INTEGER, minimum=1, maximum=500, default="10"),
    JobKey("mgain", _I, _DECIMAL, minimum=Decimal("0.1"), maximum=1, default="0.8"),
    JobKey("auto_mask", _I, _INTEGER, minimum=2, maximum=512, default="3"),
    JobKey("wstack_nwlayers", _I, _INTEGER, v1="nwlayers", minimum=32, maximum=512, meaning="w-layers"),
    JobKey("multiscale", _I, _BOOLEAN, v1="multiscale", default="false", assumed={ApiVersion.V1: "true"}),
    JobKey("apply_primary_beam", _I, _BOOLEAN, v1="apply_primary_beam", default="true"),
    JobKey("uvw_min", _I, _DECIMAL, maximum=100, default="75"),
    JobKey("uvw_max", _I, _DECIMAL, minimum=1, maximum=5000),
    JobKey("join_polarizations", _I, _BOOLEAN, default="false"),
    JobKey("channels_out", _I, _INTEGER, minimum=1, default="4"),
    JobKey("join_channels", _I, _BOOLEAN, default="true"),
    JobKey("pol", _I, _CHOICE, choices=("XX", "YY", "XXYY"), default="XXYY"),
    JobKey(
        "output_mode", _I, _CHOICE, v1="output_mode",
        choices=("fits", "all_fits", "all_files"), default="fits",
        meaning="the final image; all FITS files; also the measurement set",
    ),
)  # fmt: skip

BY_WORD: Mapping[str, JobKey] = MappingProxyType(
    {word: key for key in KEYS for word in (key.word, key.v1, key.word_2018) if word}
)
"""Every word of every interface; no word means two things."""

_KEYS_OF = {job_type: tuple(key for key in KEYS if job_type in key.jobs) for job_type in JobType}


def find(word: str) -> JobKey | None:
    """Return the key that a word of any interface stands for, None where there is none."""
    return BY_WORD.get(word)


def keys_of(job_type: JobType) -> tuple[JobKey, ...]:
    """Return the keys that a job type has, in the order of the table."""
    return _KEYS_OF[job_type]
