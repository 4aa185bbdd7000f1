"""The keys that v1 and v2 know, from ``job_keys.csv``, and the check of a submission against them.

The table is the practice service's own, not the client's: it is there to find the client's mistakes.
"""

from __future__ import annotations

import csv
import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mwa_client.light_dataclasses import dataclass

from .jobs import PracticeType

_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(\d{1,18}(\.\d*)?|\.\d+)(e[+-]?\d{1,2})?", re.ASCII | re.IGNORECASE)


class FieldKind(enum.Enum):
    """The kind of a value."""

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
    kind : FieldKind
        What its value is.
    minimum, maximum : float or None
        Limits of a number, or of the length of a text, both included.
    choices : tuple of str or int
        The values of a choice.
    is_needed : bool
        Whether there is no default.
    """

    name: str
    kind: FieldKind
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str | int, ...] = ()
    is_needed: bool = False

    def error_in(self, value: object) -> str | None:
        """Return what is wrong with a value from JSON, or None."""
        if self.kind is FieldKind.CHOICE:
            fits = any(type(value) is type(choice) and value == choice for choice in self.choices)
            return None if fits else f"must be one of {', '.join(map(str, self.choices))}"
        if type(value) not in _TYPES[self.kind] or not _is_finite(value):
            return f"must be {self.kind.value}"
        measure = len(value) if isinstance(value, str) else value
        assert isinstance(measure, (int, float))
        # "not >=" instead of "<", because NaN, which Python's JSON lets through, compares false.
        if self.minimum is not None and not measure >= self.minimum:
            return f"must be {self.minimum:.10g} or more"
        if self.maximum is not None and not measure <= self.maximum:
            return f"must be {self.maximum:.10g} or less"
        return None

    def read(self, text: str) -> object:
        """Return the value that a form's text stands for; the text itself if it cannot be read."""
        if self.kind is FieldKind.WHOLE and _WHOLE.fullmatch(text):
            return int(text)
        if self.kind is FieldKind.NUMBER and _DECIMAL.fullmatch(text):
            return float(text)
        if self.kind is FieldKind.SWITCH and text in ("true", "false"):
            return text == "true"
        return next((choice for choice in self.choices if str(choice) == text), text)


def _is_finite(value: object) -> bool:
    """Return whether a number is finite and fits in 64 bits, so that every JSON reader takes it."""
    return not isinstance(value, (int, float)) or abs(value) < 2**63


_TYPES: dict[FieldKind, tuple[type, ...]] = {
    FieldKind.WHOLE: (int,),
    FieldKind.NUMBER: (int, float),
    FieldKind.SWITCH: (bool,),
    FieldKind.TEXT: (str,),
}


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one key of a submission."""

    key: str
    message: str
    is_missing: bool = False


@dataclass(frozen=True)
class JobForm:
    """What one path of an interface takes: jobs of one type, with these keys."""

    type: PracticeType
    keys: tuple[Key, ...]


def field_errors(keys: Iterable[Key], values: Mapping[str, Any]) -> Iterator[FieldError]:
    """Yield every error in values from JSON; null counts as left out."""
    known = {key.name: key for key in keys}
    for name, value in values.items():
        error = known[name].error_in(value) if name in known and value is not None else None
        if name not in known:
            error = "unknown field"
        if error is not None:
            yield FieldError(name, error)
    for key in known.values():
        if key.is_needed and values.get(key.name) is None:
            yield FieldError(key.name, "field required", is_missing=True)
    if values.get("centre") == "custom":
        for name in (name for name in _CUSTOM_CENTRE if name in known):
            if values.get(name) is None:
                yield FieldError(name, "field required with centre=custom", is_missing=True)


def from_form(keys: Iterable[Key], form: Mapping[str, str]) -> dict[str, object]:
    """Return the values of a form, each read as its key's kind."""
    known = {key.name: key for key in keys}
    return {name: known[name].read(text) if name in known else text for name, text in form.items()}


# --- The table ---------------------------------------------------------------------------------------


def text(name: str, minimum: int | None = None, maximum: int | None = None, *, needed: bool = False) -> Key:
    """Return a key whose value is a text of so many characters."""
    return Key(name, FieldKind.TEXT, minimum, maximum, is_needed=needed)


_CUSTOM_CENTRE = ("custom_centre_ra", "custom_centre_dec", "phase_centre_ra", "phase_centre_dec")

_JOBS = {
    "conversion": (PracticeType.CONVERSION, "conversion_job"),
    "download": (PracticeType.VISIBILITIES, "download_vis_job"),
    "voltage": (PracticeType.VOLTAGE, "voltage_job"),
    "beamformer": (PracticeType.BEAMFORMER, "beamformer_job"),
    "imaging": (PracticeType.IMAGING, "imaging_job"),
    "image_from_job": (PracticeType.IMAGING, "image_from_job"),
}
"""The jobs of the table: their type, and the last part of the path that they are submitted to."""
_V1_PATHS = {"image_from_job": "preprocessed_imaging_job"}
"""The paths that v1 calls otherwise."""


def _read_table() -> list[tuple[Key, dict[str, str]]]:
    """Return the keys of ``job_keys.csv``, each with its row: the interfaces and jobs that have it."""
    with Path(__file__).with_name("job_keys.csv").open(encoding="utf-8", newline="") as file:
        return [(_key(row), row) for row in csv.DictReader(file)]


def _key(row: dict[str, str]) -> Key:
    return Key(
        row["key"],
        FieldKind[row["kind"].upper()],
        float(row["minimum"]) if row["minimum"] else None,
        float(row["maximum"]) if row["maximum"] else None,
        tuple(int(choice) if choice.isdecimal() else choice for choice in row["choices"].split()),
        is_needed=row["needed"] == "needed",
    )


_TABLE = _read_table()


def _forms(interface: str, paths: Mapping[str, str]) -> Mapping[str, JobForm]:
    forms = {}
    for job, (job_type, path) in _JOBS.items():
        rows = (entry for entry in _TABLE if interface in entry[1]["interfaces"].split())
        keys = tuple(key for key, row in rows if job in row["jobs"].split())
        forms[paths.get(path, path)] = JobForm(job_type, keys)
    return forms


FORMS_V1 = _forms("v1", _V1_PATHS)
"""What v1 takes, by the last part of the path."""
FORMS_V2 = _forms("v2", {})
"""What v2 takes, by the last part of the path."""
