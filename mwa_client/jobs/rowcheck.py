"""One row on its way to a job: what was understood of it, and everything that is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal

from mwa_client.jobs.key_table import KEY_BY_NAME, find_key, keys_of
from mwa_client.jobs.keys import ApiVersion, JobKey, JobType, Required
from mwa_client.jobs.request import CONVERSION_KEYS, JobRequest
from mwa_client.jobs.text import (
    LONGEST_EXCERPT,
    SPREADSHEET_ERROR,
    Cell,
    cells_of,
    excerpt,
    spreadsheet_error_at,
    what_is_wrong_with_error,
)
from mwa_client.jobs.values import is_within, parse_value, shortest, survives_json, text_of
from mwa_client.jobs.vocabulary import (
    meaning_of_2018,
    what_made_it_2018,
    words_to_suggest,
    written_for,
)
from mwa_client.jobs.wording import (
    FORMER_KEYS,
    did_you_mean,
    guess_name,
    in_words,
    no_longer_sent,
    number_within,
    replaced,
    requirement,
    what_is_wrong_with_value,
    with_article,
)

_COMMENT = "a comment must be on a line of its own"


class CheckedRow:
    """One row, checked for an interface.

    Parameters
    ----------
    cells : iterable of Cell
        The row.
    api : ApiVersion
        The interface that the row is checked for.
    mistakes : list of str
        What is wrong with the row already; the rest is added.

    Attributes
    ----------
    names : dict of str to str
        For each key in the row, by today's name, the name that the row uses. A key with a bad value is there,
        too, so that it is not reported as missing as well.
    values : dict of str to str
        The values that were understood, by today's name.
    written_for : ApiVersion
        `ApiVersion.V2018` or `ApiVersion.V2`, as in `JobRequest`.
    """

    def __init__(self, cells: Iterable[Cell], api: ApiVersion, mistakes: list[str]) -> None:
        # A cell without a value, as tables have them, says nothing.
        cells = [cell for cell in cells if cell.value != "" or not _is_or_was_a_key(cell.name)]
        self.api = api
        self.mistakes = mistakes
        self.job_type = _job_type_among(cells)
        self.names: dict[str, str] = {}
        self.values: dict[str, str] = {}
        self._guessed_names: dict[str, str] = {}
        self._former: dict[str, None] = {}
        keys = filter(None, (find_key(cell.name) for cell in cells if cell.value is not None))
        self._keys_given = frozenset(key.name for key in keys)
        self._words_to_suggest = words_to_suggest((cell.name for cell in cells), api)
        for cell in cells:
            self._take(cell)
        self.written_for = self._find_written_for()
        self._what_made_it_2018 = what_made_it_2018(self.names)
        self.names = {**self._guessed_names, **self.names}
        self.mistakes += self._missing_keys()
        if self.job_type:
            for check in _CHECKS_BETWEEN_KEYS:
                self.mistakes += check(self)
        former = map(no_longer_sent, self._former)
        self.warnings = [*self._words_of_2018(), *self._replaced_words(), *former, *_possible_refusals(self)]

    @classmethod
    def from_text(cls, text: str, api: ApiVersion) -> CheckedRow:
        """Check a row of a job file."""
        mistakes: list[str] = []
        return cls(list(cells_of(text, mistakes)), api, mistakes)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object], api: ApiVersion) -> CheckedRow:
        """Check a row that a Python program gives as keys and values."""
        cells = [Cell(str(name).strip(), text_of(value)) for name, value in mapping.items()]
        return cls(cells, api, [])

    @property
    def dropped(self) -> list[str]:
        """The keys that the interface has no counterpart for; they are not sent."""
        if self.api is ApiVersion.V2018:
            return []
        return [name for name in self.values if KEY_BY_NAME[name].is_only_in_2018]

    def request(self, line: int) -> JobRequest | None:
        """Return the job that the row asks for, None where it has mistakes."""
        if self.mistakes or self.job_type is None:
            return None
        values = {name: value for name, value in self.values.items() if name != "job_type"}
        allow_resubmit = values.pop("allow_resubmit", "false") == "true"
        if self.job_type is JobType.VOLTAGE:
            # The service's own default is a place where voltages cannot go.
            values.setdefault("delivery", "scratch")
            if "from_channel" in values or "to_channel" in values:
                values["channel_range"] = "true"
        obs_id, in_order = int(values["obs_id"]), tuple(values.items())
        job = JobRequest(line, self.job_type, obs_id, in_order, self.written_for, allow_resubmit)
        return replace(job, former_identity=job.identity_on(self.api)) if self.dropped else job

    def _take(self, cell: Cell) -> None:
        """Note a cell's name and value, or what is wrong with them."""
        name, text = cell
        key = find_key(name)
        if text is None and spreadsheet_error_at(name):
            self.mistakes.append(what_is_wrong_with_error(excerpt(name)))
        elif text is None and name.startswith("#"):
            self.mistakes.append(f"{excerpt(name)}: {_COMMENT}")
        elif not name or text is None:
            self._note_guess(re.split(r"[^\w-]", name, maxsplit=1)[0])
            self.mistakes.append(f"{excerpt(name or f'={text}')}: write key=value")
        elif key is None and name in FORMER_KEYS:
            self._former[name] = None
        elif key is None:
            guess = self._note_guess(name)
            self.mistakes.append(f"{excerpt(name)}: no such key{did_you_mean(guess)}")
        elif self.names.get(key.name) == name:
            self.mistakes.append(f"{name}: given more than once")
        elif key.name in self.names:
            first = self.names[key.name]
            self.mistakes.append(f"{first} and {name} are the same thing; give one")
        else:
            self.names[key.name] = name
            problem = self._take_value(key, name, text)
            if problem:
                self.mistakes.append(f"{name}={excerpt(text)}: {problem}")

    def _take_value(self, key: JobKey, name: str, text: str) -> str:
        """Keep the value of a cell; if it cannot be used, say why."""
        if self.job_type and self.job_type not in key.job_types:
            owners = " or ".join(owner.label for owner in JobType if owner in key.job_types)
            return f"belongs to {with_article(owners)} job, not to {with_article(self.job_type.label)} job"
        if spreadsheet_error_at(text):
            return SPREADSHEET_ERROR
        if "#" in text:
            return _COMMENT
        if "=" in text:
            for other in re.findall(r"(\w+)\s*=", text[:LONGEST_EXCERPT]):
                self._note_guess(other)
            return "separate the cells with commas"
        value = parse_value(key, name, text)
        if value is None:
            return what_is_wrong_with_value(key, name, text)
        if key.kind.is_number and not survives_json(value):
            return "has more digits than can be sent; give 15 or fewer"
        problem = self._impossible_on_interface(key, value)
        if not problem:
            self.values[key.name] = value
        return problem

    def _impossible_on_interface(self, key: JobKey, value: str) -> str:
        """Say why the interface cannot do what a good value asks for; empty if it can."""
        interface = f"the {self.api.value} interface"
        if self.job_type is None:
            return ""
        if not self.job_type.is_known_to(self.api):
            return f"{interface} has no {self.job_type.label} jobs" if key.name == "job_type" else ""
        if key.name_on(self.api) is None:
            # Today's default is what the service of 2018 always did where it had no key for it.
            is_2018s_way = self.api is ApiVersion.V2018 and value == key.default_of(self.job_type)
            can = key.is_only_in_2018 or key.name == "allow_resubmit" or is_2018s_way
            return "" if can else f"{interface} cannot do this"
        if self.api is ApiVersion.V2018 and value not in key.value_names.get(ApiVersion.V2018, (value,)):
            return f"{interface} cannot do this"
        limits = key.limits_on(self.api)
        is_left_out = not key.encode(shortest(key, value), self.api)
        if key.kind.is_number and not is_left_out and not is_within(shortest(key, value), limits):
            return f"must be {number_within(limits, key.unit)} on {interface}"
        return ""

    def _note_guess(self, name: str) -> str | None:
        """Note which key a misspelt name may have meant, so that it is not reported as missing as well."""
        given = self._keys_given.union(self._guessed_names)
        guess = guess_name(name[:LONGEST_EXCERPT], self.job_type, self._words_to_suggest, given)
        if guess:
            self._guessed_names[KEY_BY_NAME[guess].name] = guess
        return guess

    def _find_written_for(self) -> ApiVersion:
        if self.job_type is None or not self.job_type.is_known_to(ApiVersion.V2018):
            return ApiVersion.V2
        return written_for(self.names, self._guessed_names, self.api)

    def _missing_keys(self) -> Iterator[str]:
        any_job = (KEY_BY_NAME["obs_id"], KEY_BY_NAME["job_type"])
        keys = keys_of(self.job_type) if self.job_type else any_job
        missing = [key for key in keys if key.is_required_in(self.written_for)]
        missing = [key for key in missing if key.name not in self.names]
        in_2018 = [key for key in missing if key.required is Required.IN_2018]
        if in_2018 and self._what_made_it_2018:
            # Who writes today's words would wonder about missing words that were never heard of.
            needed = in_words(key.name_2018 or key.name for key in in_2018)
            yield f"{self._what_made_it_2018}; a row with such words must also have {needed}"
            missing = [key for key in missing if key not in in_2018]
        for key in missing:
            name = key.name_on(self.written_for) or key.name
            yield f"{name}: missing; must be {requirement(key, name)}"

    def _words_of_2018(self) -> Iterator[str]:
        if self.written_for is ApiVersion.V2018 and self._what_made_it_2018 and not self.mistakes:
            yield f"{self._what_made_it_2018}; {meaning_of_2018(self.names)}"

    def _replaced_words(self) -> Iterator[str]:
        """Tell what has replaced the words of 2019 to 2022; the interface of that time has them still."""
        for today in self.values if self.api is not ApiVersion.V1 else ():
            name = self.names[today]
            if name != today and name == KEY_BY_NAME[today].name_v1:
                yield replaced(name, today)


def _is_or_was_a_key(name: str) -> bool:
    return find_key(name) is not None or name in FORMER_KEYS


def _job_type_among(cells: Iterable[Cell]) -> JobType | None:
    given = {cell.value for cell in cells if cell.name == "job_type"}
    return next((job_type for job_type in JobType if given == {job_type.value}), None)


# --- Keys that do not go together --------------------------------------------------------------------


def _check_centre(row: CheckedRow) -> Iterator[str]:
    if "source_job_id" in row.values or ("centre" in row.names and "centre" not in row.values):
        return
    is_custom = row.values.get("centre") == "custom"
    for key in keys_of(JobType.CONVERSION):
        if key.required is not Required.WITH_CUSTOM_CENTRE:
            continue
        if is_custom and key.name not in row.names:
            name = key.name_on(row.api) or key.name
            yield f"{name}: missing; centre=custom needs it, {requirement(key, name)}"
        if not is_custom and key.name in row.values:
            yield f"{row.names[key.name]}: only with centre=custom"


def _check_channels(row: CheckedRow) -> Iterator[str]:
    first, last = "from_channel", "to_channel"
    for given, other in ((first, last), (last, first)):
        if given in row.values and other not in row.names:
            yield f"{other}: missing; {given} needs it"
    wants_range, has_range = row.values.get("channel_range"), first in row.names or last in row.names
    if wants_range == "true" and not has_range:
        yield f"{first}: missing; channel_range=true needs it"
    if wants_range == "false" and has_range:
        yield f"channel_range=false: {first} and {last} would be ignored; leave it out"
    yield from _check_order(row, first, last)


def _check_uvw_range(row: CheckedRow) -> Iterator[str]:
    yield from _check_order(row, "uvw_min", "uvw_max")


def _check_order(row: CheckedRow, low: str, high: str) -> Iterator[str]:
    if low in row.values and high in row.values and Decimal(row.values[low]) > Decimal(row.values[high]):
        yield f"{low}={row.values[low]}: must not be more than {high}={row.values[high]}"


def _check_source_job(row: CheckedRow) -> Iterator[str]:
    if "source_job_id" in row.values:
        for key in keys_of(JobType.IMAGING):
            if key.name in CONVERSION_KEYS and key.name in row.names:
                yield f"{row.names[key.name]}: not with source_job_id, whose conversion is done"


def _check_missing_files(row: CheckedRow) -> Iterator[str]:
    is_unclear = "allowmissing" in row.names and "allowmissing" not in row.values
    is_allowed = row.values.get("allowmissing") == "true"
    if row.values.get("noflagmissings") == "true" and not is_allowed and not is_unclear:
        yield "noflagmissings=true: only with allowmissing=true"


def _check_delivery(row: CheckedRow) -> Iterator[str]:
    if row.job_type is None or ("delivery" in row.names and "delivery" not in row.values):
        return
    delivery = row.values.get("delivery") or KEY_BY_NAME["delivery"].default_of(row.job_type)
    delivery_format = row.values.get("delivery_format")
    if row.job_type is JobType.VOLTAGE:
        if delivery != "scratch":
            yield f"delivery={delivery}: a voltage job delivers only to scratch"
        if delivery_format == "tar":
            yield "delivery_format=tar: a voltage job always delivers files"
    elif delivery == "acacia" and delivery_format == "files":
        yield "delivery_format=files: delivery to acacia is always a tar; give delivery=scratch"


_CHECKS_BETWEEN_KEYS = (
    _check_centre,
    _check_channels,
    _check_uvw_range,
    _check_source_job,
    _check_missing_files,
    _check_delivery,
)


def _possible_refusals(row: CheckedRow) -> Iterator[str]:
    """Warn of what the service may refuse today: it decides, and it may have learned more by then."""
    converts = row.job_type in (JobType.CONVERSION, JobType.IMAGING)
    if row.job_type and converts and row.api is ApiVersion.V2 and row.values.get("delivery") == "dug":
        # The service's schema leaves it out by mistake.
        yield f"delivery=dug: the v2 interface may refuse it for {with_article(row.job_type.label)} job"
