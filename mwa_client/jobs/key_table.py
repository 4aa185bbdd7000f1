"""The table of job keys: every key of every interface.

To teach the program a new key, add an entry to `KEYS`; nothing else needs to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

from mwa_client.jobs.keys import ApiVersion, JobKey, JobType, Limits, Required, ValueKind

_C, _D, _V, _B, _I = (frozenset({job_type}) for job_type in JobType)
_ANY = frozenset(JobType)
# An imaging job converts first, so it has the keys of a conversion.
_CONVERSION = _C | _I

_INTEGER, _DECIMAL, _BOOLEAN, _CHOICE = ValueKind

_WHOLE_FROM_0 = Limits(ValueKind.INTEGER, minimum=0)
_WHOLE_FROM_1 = Limits(ValueKind.INTEGER, minimum=1)

KEYS: tuple[JobKey, ...] = (
    # --- Every job ---
    JobKey(
        "obs_id", _ANY, _INTEGER, name_v1="obs_id", name_2018="obs_id",
        minimum=888888889, maximum=9999999999, unit="GPS second", required=Required.ALWAYS,
        meaning="observation id: the GPS second at which the observation started",
    ),
    JobKey(
        "job_type", _ANY, _CHOICE, name_v1="job_type", name_2018="job_type",
        choices=tuple(job_type.value for job_type in JobType), required=Required.ALWAYS,
        meaning="c conversion; d download; v voltage; b beamformer; i imaging",
    ),
    JobKey(
        "delivery", _ANY, _CHOICE, name_v1="delivery",
        choices=("acacia", "scratch", "dug"), default="acacia", other_defaults={JobType.VOLTAGE: "scratch"},
        meaning="where the product goes",
    ),
    JobKey(
        "delivery_format", _ANY, _CHOICE, name_v1="delivery_format",
        choices=("tar", "files"), default="tar", other_defaults={JobType.VOLTAGE: "files"},
        meaning="tar or single files",
    ),
    JobKey(
        "allow_resubmit", _ANY, _BOOLEAN, name_v1="allow_resubmit", default="false",
        meaning="submit even if the same job is already there",
    ),
    # --- Conversion ---
    JobKey(
        "avg_time_res", _CONVERSION, _DECIMAL, name_v1="avg_time_res", name_2018="timeres",
        minimum=0, unit="s", required=Required.IN_2018, default="2",
        api_limits={
            ApiVersion.V2018: _WHOLE_FROM_1, ApiVersion.V1: Limits(ValueKind.DECIMAL, Decimal("0.5"), 32),
        },
        value_names={ApiVersion.V1: {"0": ""}},  # Without the key, v1 keeps the correlator's own resolution.
        meaning="average in time",
    ),
    JobKey(
        "avg_freq_res", _CONVERSION, _DECIMAL, name_v1="avg_freq_res", name_2018="freqres",
        minimum=0, maximum=1280, unit="kHz", required=Required.IN_2018, default="40",
        api_limits={ApiVersion.V2018: _WHOLE_FROM_1},
        meaning="average in frequency",
    ),
    JobKey(
        "flag_edge_width", _CONVERSION, _DECIMAL, name_v1="flag_edge_width", name_2018="edgewidth",
        minimum=0, maximum=640, unit="kHz", required=Required.IN_2018, default="80",
        api_limits={ApiVersion.V2018: _WHOLE_FROM_0},
        meaning="flag the edges of each coarse channel; 0 flags none",
    ),
    JobKey(
        "output", _C, _CHOICE, name_v1="output", name_2018="conversion",
        choices=("ms", "uvfits"), required=Required.IN_2018, default="ms",
        meaning="CASA measurement set or UVFITS",
    ),
    JobKey(
        "centre", _CONVERSION, _CHOICE, name_v1="centre", name_2018="usepcentre",
        choices=("phase", "pointing", "custom"), default="phase",
        value_names={ApiVersion.V2018: {"phase": "false", "pointing": "true"}},
        meaning="phase centre",
    ),
    JobKey(
        "custom_centre_ra", _CONVERSION, _DECIMAL, name_v1="phase_centre_ra",
        minimum=0, maximum=Decimal("359.999999"), unit="deg", required=Required.WITH_CUSTOM_CENTRE,
        meaning="right ascension ICRS J2000",
    ),
    JobKey(
        "custom_centre_dec", _CONVERSION, _DECIMAL, name_v1="phase_centre_dec",
        minimum=-90, maximum=90, unit="deg", required=Required.WITH_CUSTOM_CENTRE,
        meaning="declination ICRS J2000",
    ),
    JobKey(
        "apply_di_cal", _CONVERSION, _BOOLEAN, name_v1="apply_di_cal", name_2018="calibrate",
        default="false", other_defaults={JobType.IMAGING: "true", ApiVersion.V1: "false"},
        meaning="apply a direction-independent calibration; the job fails where there is none",
    ),
    JobKey(
        "no_apply_amps", _CONVERSION, _BOOLEAN, default="false",
        meaning="do not apply the calibration's amplitudes",
    ),
    JobKey(
        "no_rfi", _CONVERSION, _BOOLEAN, name_v1="no_rfi", name_2018="norfi", default="false",
        meaning="do not detect RFI",
    ),
    JobKey(
        "no_geometry_delay", _CONVERSION, _BOOLEAN, name_v1="no_geometric_delay", name_2018="nogeom",
        default="false", meaning="do not correct the geometric delays",
    ),
    JobKey(
        "no_cable_delay", _CONVERSION, _BOOLEAN, name_v1="no_cable_delay", default="false",
        meaning="do not correct the cable delays",
    ),
    JobKey(
        "no_digital_gains", _CONVERSION, _BOOLEAN, name_v1="no_digital_gains", name_2018="nosbgains",
        default="false", meaning="do not correct the digital gains",
    ),
    JobKey(
        "no_passband_gains", _CONVERSION, _BOOLEAN, name_v1="no_passband_gains", name_2018="sbpassband",
        default="false", meaning="no passband correction",
    ),
    JobKey(
        "no_flag_dc", _CONVERSION, _BOOLEAN, name_v1="no_flag_dc", name_2018="flagdcchannels",
        default="false", other_defaults={ApiVersion.V2018: "true"},
        value_names={ApiVersion.V2018: {"true": "false", "false": "true"}},
        meaning="do not flag the centre channel of each coarse channel",
    ),
    # --- Conversion, 2018 alone ---
    JobKey(
        "nostats", _CONVERSION, _BOOLEAN, name_2018="nostats", default="false",
        meaning="do not collect statistics",
    ),
    JobKey(
        "noantennapruning", _CONVERSION, _BOOLEAN, name_2018="noantennapruning",
        default="false", meaning="keep the flagged antennas",
    ),
    JobKey(
        "noflagautos", _CONVERSION, _BOOLEAN, name_2018="noflagautos",
        default="false", meaning="do not flag auto-correlations",
    ),
    JobKey(
        "noflagmissings", _CONVERSION, _BOOLEAN, name_2018="noflagmissings",
        default="false", meaning="do not flag missing gpubox files",
    ),
    JobKey(
        "allowmissing", _CONVERSION, _BOOLEAN, name_2018="allowmissing",
        default="false", meaning="go on when gpubox files are missing",
    ),
    # --- Download ---
    JobKey(
        "download_type", _D, _CHOICE, name_v1="download_type", name_2018="download_type",
        choices=("vis", "vis_meta"), required=Required.ALWAYS, default="vis",
        value_names={ApiVersion.V2: {"vis_meta": "meta"}},
        meaning="vis: visibilities and metadata; vis_meta: metadata alone",
    ),
    # --- Voltage ---
    JobKey(
        "offset", _V, _INTEGER, name_v1="offset",
        minimum=0, maximum=5400, unit="s", required=Required.ALWAYS,
        meaning="seconds from the start of the observation",
    ),
    JobKey(
        "duration", _V, _INTEGER, name_v1="duration", minimum=0, unit="s", required=Required.ALWAYS,
        meaning="seconds of voltages",
    ),
    JobKey(
        "from_channel", _V, _INTEGER, name_v1="from_channel", minimum=0, maximum=255,
        meaning="first receiver coarse channel (times 1.28 MHz); inclusive",
    ),
    JobKey(
        "to_channel", _V, _INTEGER, name_v1="to_channel", minimum=0, maximum=255,
        meaning="last receiver coarse channel",
    ),
    JobKey(
        "channel_range", _V, _BOOLEAN, name_v1="channel_range", default="false",
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
        "source_job_id", _I, _INTEGER, name_v1="source_job_id", minimum=1,
        meaning="image this finished conversion job instead of the raw data",
    ),
    JobKey(
        "image_size", _I, _CHOICE, name_v1="image_size",
        choices=("512", "1024", "2048", "3072", "4096", "8192"), unit="pixel", default="3072",
        meaning="width and height of the image",
    ),
    JobKey(
        "pixel_scale", _I, _DECIMAL, name_v1="pixel_scale",
        minimum=10, maximum=120, unit="arcsec", default="20", meaning="size of a pixel",
    ),
    JobKey(
        "weighting", _I, _CHOICE, name_v1="weighting",
        choices=("natural", "uniform", "briggs"), default="briggs",
    ),
    JobKey(
        "robust", _I, _DECIMAL, name_v1="robust",
        minimum=-2, maximum=2, default="-0.5", meaning="used with briggs",
    ),
    JobKey(
        "clean_iterations", _I, _INTEGER, name_v1="clean_iterations",
        minimum=0, maximum=1000000, default="100000",
    ),
    JobKey(
        "abs_threshold", _I, _DECIMAL, name_v1="clean_threshold",
        minimum=0, maximum=10, unit="Jy", default="0.001", meaning="stop cleaning at this flux",
    ),
    JobKey(
        "auto_threshold", _I, _DECIMAL, name_v1="auto_threshold",
        minimum=Decimal("0.1"), maximum=5, unit="sigma", default="0.5",
        meaning="stop cleaning at this multiple of the noise",
    ),
    JobKey("nmiter", _I, _INTEGER, minimum=1, maximum=500, default="10"),
    JobKey("mgain", _I, _DECIMAL, minimum=Decimal("0.1"), maximum=1, default="0.8"),
    JobKey("auto_mask", _I, _INTEGER, minimum=2, maximum=512, default="3"),
    JobKey("wstack_nwlayers", _I, _INTEGER, name_v1="nwlayers", minimum=32, maximum=512, meaning="w-layers"),
    JobKey(
        "multiscale", _I, _BOOLEAN, name_v1="multiscale", default="false",
        other_defaults={ApiVersion.V1: "true"},
    ),
    JobKey("apply_primary_beam", _I, _BOOLEAN, name_v1="apply_primary_beam", default="true"),
    JobKey("uvw_min", _I, _DECIMAL, maximum=100, default="75"),
    JobKey("uvw_max", _I, _DECIMAL, minimum=1, maximum=5000),
    JobKey("join_polarizations", _I, _BOOLEAN, default="false"),
    JobKey("channels_out", _I, _INTEGER, minimum=1, default="4"),
    JobKey("join_channels", _I, _BOOLEAN, default="true"),
    JobKey("pol", _I, _CHOICE, choices=("XX", "YY", "XXYY"), default="XXYY"),
    JobKey(
        "output_mode", _I, _CHOICE, name_v1="output_mode",
        choices=("fits", "all_fits", "all_files"), default="fits",
        meaning="the final image; all FITS files; also the measurement set",
    ),
)  # fmt: skip

KEY_BY_NAME: Mapping[str, JobKey] = MappingProxyType(
    {name: key for key in KEYS for name in (key.name, key.name_v1, key.name_2018) if name}
)
"""The keys by their names on all interfaces; no name stands for two keys."""

_KEYS_OF = {job_type: tuple(key for key in KEYS if job_type in key.job_types) for job_type in JobType}


def find_key(name: str) -> JobKey | None:
    """Return the key that has a name on any interface, None where there is none.

    Examples
    --------
    >>> find_key("timeres").name
    'avg_time_res'
    """
    return KEY_BY_NAME.get(name)


def keys_of(job_type: JobType) -> tuple[JobKey, ...]:
    """Return the keys that a job type has, in the order of the table."""
    return _KEYS_OF[job_type]
