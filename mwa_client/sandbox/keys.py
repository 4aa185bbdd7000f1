"""The keys that today's interfaces know, and the check of a submission against them.

v2 is told in JSON and is strict about it; v1 is told the same in a form, with some keys of other names.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .jobs import JobType

_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(\d{1,18}(\.\d*)?|\.\d+)(e[+-]?\d{1,2})?", re.ASCII | re.IGNORECASE)


class Kind(enum.Enum):
    """What a value is."""

    WHOLE = "a whole number"
    NUMBER = "a number"
    SWITCH = "true or false"
    CHOICE = "one of"
    TEXT = "text"


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes
    ----------
    name : str
        Its name.
    kind : Kind
        What its value is.
    minimum, maximum : float or None
        Limits of a number, or of the length of a text, both included.
    choices : tuple of str or int
        The values of a choice.
    is_needed : bool
        Whether there is no default.
    """

    name: str
    kind: Kind
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str | int, ...] = ()
    is_needed: bool = False

    def trouble_with(self, value: object) -> str | None:
        """Return what is wrong with a value from JSON, if something is."""
        if self.kind is Kind.CHOICE:
            fits = any(type(value) is type(choice) and value == choice for choice in self.choices)
            return None if fits else f"must be one of {', '.join(map(str, self.choices))}"
        if type(value) not in _TYPES[self.kind] or not _is_finite(value):
            return f"must be {self.kind.value}"
        measure = len(value) if isinstance(value, str) else value
        assert isinstance(measure, (int, float))
        # "Not within" and not "beyond": NaN, which JSON lets through, is neither.
        if self.minimum is not None and not measure >= self.minimum:
            return f"must be {self.minimum:.10g} or more"
        if self.maximum is not None and not measure <= self.maximum:
            return f"must be {self.maximum:.10g} or less"
        return None

    def read(self, text: str) -> object:
        """Return the value of a text from a form; the text itself where it does not fit."""
        if self.kind is Kind.WHOLE and _WHOLE.fullmatch(text):
            return int(text)
        if self.kind is Kind.NUMBER and _DECIMAL.fullmatch(text):
            return float(text)
        if self.kind is Kind.SWITCH and text in ("true", "false"):
            return text == "true"
        return next((choice for choice in self.choices if str(choice) == text), text)


def _is_finite(value: object) -> bool:
    """Return whether a number is one that a file of JSON can hold, and every reader take for one."""
    return not isinstance(value, (int, float)) or abs(value) < 2**63


_TYPES: dict[Kind, tuple[type, ...]] = {
    Kind.WHOLE: (int,),
    Kind.NUMBER: (int, float),
    Kind.SWITCH: (bool,),
    Kind.TEXT: (str,),
}


@dataclass(frozen=True)
class Mistake:
    """What is wrong with one key of a submission."""

    key: str
    message: str
    is_missing: bool = False


@dataclass(frozen=True)
class Order:
    """What one address of an interface takes: jobs of one type, with these keys."""

    type: JobType
    keys: tuple[Key, ...]


def mistakes(keys: Iterable[Key], values: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield every mistake in values from JSON; null counts as left out."""
    known = {key.name: key for key in keys}
    for name, value in values.items():
        trouble = known[name].trouble_with(value) if name in known and value is not None else None
        if name not in known:
            trouble = "unknown field"
        if trouble is not None:
            yield Mistake(name, trouble)
    for key in known.values():
        if key.is_needed and values.get(key.name) is None:
            yield Mistake(key.name, "field required", is_missing=True)
    if values.get("centre") == "custom":
        for name in (name for name in _CUSTOM_CENTRE if name in known):
            if values.get(name) is None:
                yield Mistake(name, "field required with centre=custom", is_missing=True)


def from_form(keys: Iterable[Key], form: Mapping[str, str]) -> dict[str, object]:
    """Return the values of a form, read as their keys want them."""
    known = {key.name: key for key in keys}
    return {name: known[name].read(text) if name in known else text for name, text in form.items()}


# --- The table, in v2's words ------------------------------------------------------------------------


def _whole(name: str, minimum: int | None = None, maximum: int | None = None, *, needed: bool = False) -> Key:
    return Key(name, Kind.WHOLE, minimum, maximum, is_needed=needed)


def _number(name: str, minimum: float | None = None, maximum: float | None = None) -> Key:
    return Key(name, Kind.NUMBER, minimum, maximum)


def _switch(name: str) -> Key:
    return Key(name, Kind.SWITCH)


def _choice(name: str, *choices: str | int) -> Key:
    return Key(name, Kind.CHOICE, choices=choices)


def text(name: str, minimum: int | None = None, maximum: int | None = None, *, needed: bool = False) -> Key:
    """Return a key whose value is a text of so many characters."""
    return Key(name, Kind.TEXT, minimum, maximum, is_needed=needed)


_OBS_ID = _whole("obs_id", 888_888_889, 9_999_999_999, needed=True)
_EVERY = (_choice("delivery_format", "tar", "files"), _switch("allow_resubmit"))
_ANYWHERE = _choice("delivery", "acacia", "scratch", "dug")
_NOT_DUG = _choice("delivery", "acacia", "scratch")
_CUSTOM_CENTRE = ("custom_centre_ra", "custom_centre_dec", "phase_centre_ra", "phase_centre_dec")

_CONVERSION = (
    _number("avg_time_res", 0),
    _number("avg_freq_res", 0, 1280),
    _number("flag_edge_width", 0, 640),
    _choice("centre", "phase", "pointing", "custom"),
    _number("custom_centre_ra", 0, 359.999999),
    _number("custom_centre_dec", -90, 90),
    _switch("apply_di_cal"),
    _switch("no_apply_amps"),
    _switch("no_rfi"),
    _switch("no_geometry_delay"),
    _switch("no_cable_delay"),
    _switch("no_digital_gains"),
    _switch("no_passband_gains"),
    _switch("no_flag_dc"),
)
_VOLTAGE = (
    _whole("offset", 0, 5400, needed=True),
    _whole("duration", 0, needed=True),
    _whole("from_channel", 0, 255),
    _whole("to_channel", 0, 255),
    _switch("channel_range"),
    _choice("delivery", "scratch"),
)
_IMAGING = (
    _choice("image_size", 512, 1024, 2048, 3072, 4096, 8192),
    _number("pixel_scale", 10, 120),
    _choice("weighting", "natural", "uniform", "briggs"),
    _number("robust", -2, 2),
    _whole("clean_iterations", 0, 1_000_000),
    _number("abs_threshold", 0, 10),
    _number("auto_threshold", 0.1, 5),
    _whole("nmiter", 1, 500),
    _number("mgain", 0.1, 1),
    _whole("auto_mask", 2, 512),
    _whole("wstack_nwlayers", 32, 512),
    _switch("multiscale"),
    _switch("apply_primary_beam"),
    _number("uvw_min", None, 100),
    _number("uvw_max", 1, 5000),
    _switch("join_polarizations"),
    _whole("channels_out", 1),
    _switch("join_channels"),
    _choice("pol", "XX", "YY", "XXYY"),
    _choice("output_mode", "fits", "all_fits", "all_files"),
)
_SOURCE = (_whole("source_job_id", 1, needed=True), _OBS_ID)

ORDERS_V2: Mapping[str, Order] = {
    "conversion_job": Order(
        JobType.CONVERSION, (_OBS_ID, *_CONVERSION, _choice("output", "ms", "uvfits"), _NOT_DUG, *_EVERY)
    ),
    "download_vis_job": Order(
        JobType.VISIBILITIES, (_OBS_ID, _choice("download_type", "vis", "meta"), _ANYWHERE, *_EVERY)
    ),
    "voltage_job": Order(JobType.VOLTAGE, (_OBS_ID, *_VOLTAGE, *_EVERY)),
    "beamformer_job": Order(
        JobType.BEAMFORMER,
        (_OBS_ID, _choice("mode", "MWAX_BEAMFORMER", "MWAX_CORR_BF"), _ANYWHERE, *_EVERY),
    ),
    "imaging_job": Order(JobType.IMAGING, (_OBS_ID, *_CONVERSION, *_IMAGING, _NOT_DUG, *_EVERY)),
    "image_from_job": Order(JobType.IMAGING, (*_SOURCE, *_IMAGING, _NOT_DUG, *_EVERY)),
}
"""What v2 takes, by the last part of the path."""

_V1_KEYS = {
    "custom_centre_ra": _number("phase_centre_ra", 0, 359.999999),
    "custom_centre_dec": _number("phase_centre_dec", -90, 90),
    "no_geometry_delay": _switch("no_geometric_delay"),
    "abs_threshold": _number("clean_threshold", 0, 10),
    "wstack_nwlayers": _whole("nwlayers", 32, 512),
    "avg_time_res": _number("avg_time_res", 0.5, 32),
    "download_type": replace(_choice("download_type", "vis", "vis_meta"), is_needed=True),
    "delivery": _ANYWHERE,
}
_V2_ONLY = {
    "no_apply_amps", "mode", "nmiter", "mgain", "auto_mask", "uvw_min", "uvw_max", "join_polarizations",
    "channels_out", "join_channels", "pol",
}  # fmt: skip
_V1_PATHS = {"image_from_job": "preprocessed_imaging_job"}


def _order_v1(order: Order) -> Order:
    keys = [_V1_KEYS.get(key.name, key) for key in order.keys if key.name not in _V2_ONLY]
    if order.type is JobType.VOLTAGE:
        keys = [_choice("delivery", "scratch") if key.name == "delivery" else key for key in keys]
        keys.append(_choice("download_type", "volt"))
    # Some clients send the type of the job as well, which the path says already.
    return Order(order.type, (*keys, text("job_type")))


ORDERS_V1: Mapping[str, Order] = {
    _V1_PATHS.get(path, path): _order_v1(order) for path, order in ORDERS_V2.items()
}
"""What v1 takes, by the last part of the path."""
