"""Which of the listed jobs a person wants to see, the same on each interface of the service."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from mwa_client.asvo.job import Job, JobState, read_moment
from mwa_client.errors import ServiceRefused, SettingsError
from mwa_client.formatting import closest
from mwa_client.jobs.keys import ApiVersion, JobType
from mwa_client.light_dataclasses import dataclass

T = TypeVar("T")
DAY = 86400.0
MOST_DAYS, LISTED_DAYS_OF_V2 = 36500.0, 30.0
FIRST_OBS_ID = 888888889
"""Below it a number can only be a job id."""


def _plain(word: str) -> str:
    """Return a word by which it can be looked up: in lower case, without spaces and marks."""
    return re.sub("[^a-z0-9]", "", word.lower())


_PENDING = frozenset(state for state in JobState if state.is_pending)
_KNOWN_STATES = [state for state in JobState if state is not JobState.UNKNOWN]
_STATES: Mapping[str, frozenset[JobState]] = {
    **{_plain(state.label): frozenset({state}) for state in _KNOWN_STATES},
    **{_plain(state.value): frozenset({state}) for state in _KNOWN_STATES},
    "ready": frozenset({JobState.READY}),
    "failed": frozenset({JobState.ERROR}),
    "canceled": frozenset({JobState.CANCELLED}),
    "pending": _PENDING,
    "waiting": _PENDING,
}
_DOWNLOADS = frozenset({"visibilities", "metadata"})
_KINDS: Mapping[str, frozenset[str]] = {
    **{name: frozenset({each.label}) for each in JobType for name in (each.value, each.label)},
    "d": _DOWNLOADS,
    "download": _DOWNLOADS,
    **dict.fromkeys(
        ("visibilities", "visibility", "vis", "downloadvisibilities"), frozenset({"visibilities"})
    ),
    **dict.fromkeys(("metadata", "meta", "vismeta", "downloadmetadata"), frozenset({"metadata"})),
    **dict.fromkeys(("voltages", "volt", "downloadvoltage"), frozenset({JobType.VOLTAGE.label})),
    **dict.fromkeys(("image", "images"), frozenset({JobType.IMAGING.label})),
}
SHOWN_STATES = (*(state.label for state in _KNOWN_STATES), "pending")
SHOWN_KINDS = (
    JobType.CONVERSION.label,
    "visibilities",
    "metadata",
    *(each.label for each in (JobType.VOLTAGE, JobType.BEAMFORMER, JobType.IMAGING)),
)
"""The words that a person is told of, of all that are understood."""


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are wanted. What is empty, or None, leaves none out.

    Attributes
    ----------
    numbers : tuple of int
        Job ids and obs_ids.
    states : frozenset of JobState
        Where the job stands.
    kinds : frozenset of str
        What comes of it, as `JobType.kind` says it.
    days : float or None
        How many days ago it was made, at most.
    """

    numbers: tuple[int, ...] = ()
    states: frozenset[JobState] = frozenset()
    kinds: frozenset[str] = frozenset()
    days: float | None = None

    @classmethod
    def of(
        cls,
        numbers: Iterable[str] = (),
        states: Iterable[str] = (),
        kinds: Iterable[str] = (),
        days: str | None = None,
    ) -> JobFilter:
        """Read the words of the command line; several can be in one, with commas between them.

        Raises
        ------
        SettingsError
            A word is not understood.
        """
        return cls(
            tuple(map(_number, _words(numbers))),
            frozenset().union(*(_known("state", word, _STATES, SHOWN_STATES) for word in _words(states))),
            frozenset().union(*(_known("type", word, _KINDS, SHOWN_KINDS) for word in _words(kinds))),
            None if days is None else _days(days),
        )

    @property
    def job_ids(self) -> list[int]:
        """The job ids that are wanted; they can be looked up one by one where a list has them no more."""
        return [number for number in self.numbers if number < FIRST_OBS_ID]

    def takes(self, job: Job, now: float) -> bool:
        """Say whether a job is wanted; one that says too little to tell is not.

        Parameters
        ----------
        job : Job
            The job.
        now : float
            The time, in seconds since 1970.
        """
        if self.numbers and not {job.job_id, job.obs_id} & set(self.numbers):
            return False
        if self.states and job.state not in self.states:
            return False
        if self.kinds and kind_of(job) not in self.kinds:
            return False
        if self.days is None:
            return True
        created = created_at(job)
        return created is not None and created >= now - self.days * DAY

    def check_listed(self, jobs: Collection[Job]) -> None:
        """Fail where none of these jobs has a job id or obs_id that is wanted.

        Raises
        ------
        ServiceRefused
            It says which.
        """
        known = {job.job_id for job in jobs} | {job.obs_id for job in jobs}
        unknown = [number for number in self.numbers if number not in known]
        if unknown:
            raise not_listed(*unknown)


def not_listed(*numbers: int) -> ServiceRefused:
    """Return the error that no job has one of these numbers, nor its observation where it can be that of one.

    Examples
    --------
    >>> not_listed(42).what
    'The service lists no job 42.'
    """
    return ServiceRefused(" ".join(map(_not_listed, numbers)), "mwa_client -l shows your jobs.")


def _not_listed(number: int) -> str:
    either = "" if number < FIRST_OBS_ID else f", nor any on observation {number}"
    return f"The service lists no job {number}{either}."


def not_shown(wanted: JobFilter, jobs: Collection[Job], api: ApiVersion) -> Iterator[str]:
    """Yield what a person must know who looks for a job and does not find it."""
    if wanted.days is None:
        return
    undated = sum(created_at(job) is None for job in jobs)
    if undated:
        yield f"The service does not say of {undated} jobs when they were made: --days leaves them out."
    if api is ApiVersion.V2 and wanted.days > LISTED_DAYS_OF_V2:
        yield "The service lists the jobs of the last 30 days alone."


def kind_of(job: Job) -> str | None:
    """Return what comes of a job, in a word; None for a type that this program does not know."""
    return None if job.job_type is None else job.job_type.kind(job.parameters.get("download_type"))


def created_at(job: Job) -> float | None:
    """Return when a job was made, in seconds since 1970; the service of 2018 does not say it."""
    return read_moment(job.raw.get("created"))


def _words(texts: Iterable[str]) -> list[str]:
    return [word.strip() for text in texts for word in text.split(",")]


def _number(word: str) -> int:
    if not re.fullmatch("[0-9]{1,19}", word):
        raise SettingsError(
            f"{word or 'An empty word'} is not a job.",
            "--list-only takes job ids and obs_ids; use --state, --type or --days to list others.",
        )
    return int(word)


def _known(what: str, word: str, known: Mapping[str, frozenset[T]], shown: Sequence[str]) -> frozenset[T]:
    found = known.get(_plain(word))
    if found is not None:
        return found
    guess = closest(word, shown, plain=_plain)
    hint = f"Did you mean {guess}? " if guess else ""
    raise SettingsError(
        f"--{what}={word[:40]}: there is no such {what}.", f"{hint}There are: {', '.join(shown)}."
    )


def _days(text: str) -> float:
    number = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)[ ]*(?:d|days?)?", text.strip())
    if number is None or not 0 < float(number[1]) <= MOST_DAYS:
        raise SettingsError(
            f"--days={text[:40]} is not possible.", "It must be a number of days, like 7 or 0.5."
        )
    return float(number[1])
