"""What one row asks for, and what makes two rows one job."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from types import MappingProxyType

from mwa_client.jobs.key_table import KEY_BY_NAME, keys_of
from mwa_client.jobs.keys import ApiVersion, JobKey, JobType
from mwa_client.jobs.values import shortest
from mwa_client.light_dataclasses import dataclass


@dataclass(frozen=True)
class JobRequest:
    """What one row asks for.

    Attributes
    ----------
    line : int
        Line of the file, from 1.
    job_type : JobType
        What the job does.
    obs_id : int
        Observation id: the GPS second at which the observation started.
    values : tuple of (str, str)
        Keys and values in the order of the row, without ``job_type`` and ``allow_resubmit``. Keys and
        choices have today's names, booleans are in lower case; a number under a name of 2018 stands as it
        was written, others in their shortest form. The values do not depend on the interface.
    written_for : ApiVersion
        `ApiVersion.V2018` where the row uses the names of 2018, else `ApiVersion.V2`. It decides which value
        a missing key has.
    allow_resubmit : bool
        Submit even if the same job is already there.
    former_identity : str
        Under which identity the first versions of this program knew the row, where that was another one.
    source : str
        The job file, where there are several.
    """

    line: int
    job_type: JobType
    obs_id: int
    values: tuple[tuple[str, str], ...]
    written_for: ApiVersion
    allow_resubmit: bool = False
    former_identity: str = field(default="", compare=False)
    source: str = field(default="", compare=False)

    @property
    def place(self) -> str:
        """Where the row stands, for messages: ``line 3``, or ``line 3 of b.csv``."""
        return where_of(self.line, self.source)

    @property
    def identity(self) -> str:
        """What is asked for, in one form for all the ways to ask for it, on whichever interface.

        Keys are sorted, numbers are in their shortest form, and what equals today's default is left out::

            job_type=c obs_id=1191828584 avg_freq_res=20 avg_time_res=20
        """
        return identity_from(self.job_type, dict(self.values), self.written_for)

    @property
    def delivery(self) -> str:
        """Where the product is to be delivered to: ``acacia``, ``scratch``, ``dug``."""
        return dict(self.values).get("delivery") or KEY_BY_NAME["delivery"].default_of(self.job_type) or ""

    def identity_on(self, api: ApiVersion) -> str:
        """Return what an interface is asked for, in the form of `identity`.

        It differs from `identity` in a row with keys of 2018 that today's service has no counterpart for.
        The job that the interface lists for the row has this identity (`mwa_client.jobs.listed.identity_of`).
        """
        known = {name: value for name, value in self.values if KEY_BY_NAME[name].name_on(api) is not None}
        return identity_from(self.job_type, known, self.written_for)

    def parameters(self, api: ApiVersion) -> dict[str, str]:
        """Return the form that asks an interface for this job, without job type and ``allow_resubmit``.

        Parameters
        ----------
        api : ApiVersion
            The interface that the row was checked for.

        Returns
        -------
        dict of str to str
            The interface's keys and values, in the order of the row. A key that the row leaves out is added
            where the row and the interface may imply different values for it.
        """
        sent = dict(self.values)
        meant = implied_values(self.job_type, sent, self.written_for)
        implied_there = implied_values(self.job_type, sent, api)
        always = keys_always_sent(self.job_type, {**meant, **sent}, api)
        sent.update(
            {
                name: value
                for name, value in meant.items()
                if name in always or implied_there.get(name) != value
            }
        )
        return {there: value for name, text in sent.items() for there, value in _encoded(name, text, api)}


def _encoded(name: str, value: str, api: ApiVersion) -> Iterator[tuple[str, str]]:
    """Yield the name and value that an interface has for one of today's, if it has any."""
    key = KEY_BY_NAME[name]
    name_there = key.name_on(api)
    # The 2018 service is sent a number exactly as the row has it.
    sent = key.encode(value if api is ApiVersion.V2018 else shortest(key, value), api)
    if name_there is not None and sent:
        yield name_there, sent


def where_of(line: int, source: str) -> str:
    """Say where a row stands; of several job files, in which."""
    return f"line {line} of {source}" if source else f"line {line}"


# --- What makes two rows one job ----------------------------------------------------------------------

NOT_PART_OF_THE_PRODUCT = ("job_type", "allow_resubmit")
"""Keys that do not say what the product is."""

CONVERSION_KEYS = frozenset(
    key.name
    for key in KEY_BY_NAME.values()
    if JobType.CONVERSION in key.job_types and JobType.DOWNLOAD not in key.job_types
)
"""The keys that describe a conversion, and nothing else."""


def identity_from(job_type: JobType, values: Mapping[str, str], written_for: ApiVersion) -> str:
    """Return `JobRequest.identity` of the values that a row or a listing gives.

    Parameters
    ----------
    job_type : JobType
        What the job does.
    values : mapping of str to str
        Today's names and values.
    written_for : ApiVersion
        The interface that decides which value a missing key has.
    """
    complete = {name: shortest(KEY_BY_NAME[name], value) for name, value in values.items()}
    complete.update(implied_values(job_type, values, written_for))
    defaults = _defaults(job_type)
    parts = [f"job_type={job_type.value}", f"obs_id={complete.pop('obs_id')}"]
    parts += [f"{name}={value}" for name, value in sorted(complete.items()) if value != defaults.get(name)]
    return " ".join(parts)


def identity_asked_for(identity: str, api: ApiVersion) -> str:
    """Return `JobRequest.identity_on` an interface of the rows that have an identity."""
    return _unknown_to(api).sub("", identity)


@functools.cache
def _unknown_to(api: ApiVersion) -> re.Pattern[str]:
    names = [key.name for key in KEY_BY_NAME.values() if key.name_on(api) is None]
    return re.compile(f" (?:{'|'.join(names)})=[^ ]*")


def implied_values(job_type: JobType, values: Mapping[str, str], api: ApiVersion) -> dict[str, str]:
    """Return the values that an interface takes for the keys that are missing."""
    implied = _all_implied_values(job_type, api)
    names = implied.keys() - values.keys() - _not_applicable(values)
    return {name: value for name, value in implied.items() if name in names}


def keys_always_sent(job_type: JobType, values: Mapping[str, str], api: ApiVersion) -> frozenset[str]:
    """Return the keys that an interface must be sent, whatever value it takes where they are left out."""
    names = _all_keys_always_sent(job_type, api) - _not_applicable(values)
    # A product in an object store has one format only, and so have voltages.
    has_one_format = job_type is JobType.VOLTAGE or values.get("delivery") == "acacia"
    return names - {"delivery_format"} if has_one_format else names


@functools.cache
def required_keys(job_type: JobType, api: ApiVersion) -> frozenset[str]:
    """Return the keys that an interface has no default for."""
    return frozenset(key.name for key in _product_keys(job_type) if key.is_required_in(api))


def _not_applicable(values: Mapping[str, str]) -> frozenset[str]:
    # An image of a finished conversion job has no conversion left to describe.
    return CONVERSION_KEYS if "source_job_id" in values else frozenset()


def _product_keys(job_type: JobType) -> Iterator[JobKey]:
    """Yield the keys that say what the product of a job is."""
    return (key for key in keys_of(job_type) if key.name not in NOT_PART_OF_THE_PRODUCT)


@functools.cache
def _all_implied_values(job_type: JobType, api: ApiVersion) -> Mapping[str, str]:
    implied = {key.name: key.implied_value(api, job_type) for key in _product_keys(job_type)}
    return MappingProxyType({name: value for name, value in implied.items() if value is not None})


@functools.cache
def _defaults(job_type: JobType) -> Mapping[str, str | None]:
    return MappingProxyType({key.name: key.default_of(job_type) for key in _product_keys(job_type)})


@functools.cache
def _all_keys_always_sent(job_type: JobType, api: ApiVersion) -> frozenset[str]:
    if api is ApiVersion.V2018:
        return frozenset()
    keys = [key for key in _product_keys(job_type) if key.is_always_sent(job_type)]
    return frozenset(key.name for key in keys if key.name_on(api) is not None)
