"""What a ledger is made of: its events, what each of them means for its row, and when it was.

An entry is a JSON object: its ``time`` (UTC), the name of the ``service``, the ``event``, and what it tells.
One about a row says what the row asks for (``row``) and, where there is one, which job it has (``job_id``):

- ``intent``: it is about to be submitted, when the highest job id listed is ``after``;
- ``refused``, ``unclear``: the last submission has made no job; its answer made no sense;
- ``job``: it has this job; with null it has none any more: another was ``asked_for`` in its place, or the job
  was ``disowned``, being another's;
- ``missed``, ``listed``: a listing was without its job; the job is listed again;
- ``state``: its job is in this ``state``, and was ``completed`` at this time, where the service says so;
- ``downloading``: the download of these ``files`` begins, ``to_come`` bytes of them; the ``run`` is known by
  when it began;
- ``complete``: its product is these ``files``, or it is ``elsewhere``; unpacking an archive was ``refused``;
  the user's command for it ``waits`` for its turn; the command has it ``known_as`` what it was elsewhere;
- ``read``: its product was read again, as it had been modified; a file was found to be ``changed`` or not;
- ``waiting``: its product is here, and the user's command for it waits for its turn;
- ``then``: the ``command`` for this ``product`` begins (no ``status`` yet), has ended with a ``status``, or
  could not be ``begun``;
- ``settled``: it was complete before and counts as complete again, whatever was told since; its command was
  successful (``followed``), or none is wanted now;
- ``failed``: it has failed; why (``message``), and what to do (``remedy``).

Two are not about a row: ``name`` and ``placing`` say which job's file has which name in the directory. What a
reader does not know, it passes over.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import lru_cache

from mwa_client.asvo.job import label_of_word
from mwa_client.batch.rows import LABELS, NOT_SUBMITTED, SUBMITTED, SUBMITTING, Stage
from mwa_client.directory.names import name_on_disk
from mwa_client.timing import read_time

TIME = "%Y-%m-%dT%H:%M:%SZ"
_DAY_AND_HOUR = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}")
_REST = re.compile(r":([0-5][0-9]):([0-5][0-9])Z")
_END_OF_HOUR = len("2026-11-29T01")
MOST_NAMES = 100
"""Names of files that an entry which is only for people has at most."""
STATE_OF_JOB, READ_AGAIN = "state", "read"
_LABELS = {
    "intent": SUBMITTING,
    "refused": NOT_SUBMITTED,
    "job": SUBMITTED,
    STATE_OF_JOB: "",
    "downloading": LABELS[Stage.DOWNLOADING],
    "complete": LABELS[Stage.COMPLETE],
    "waiting": LABELS[Stage.ARRIVED],
    "then": LABELS[Stage.FOLLOWED],
    "settled": LABELS[Stage.COMPLETE],
    "failed": LABELS[Stage.FAILED],
}
TELLING = (*_LABELS, READ_AGAIN)
"""The events that tell what a row is, or what its product is."""


def label_after(entry: Mapping[str, object]) -> str:
    """Return what a row is after an entry of the ledger, in words for people; empty: what it was before."""
    event = entry.get("event")
    if event == STATE_OF_JOB:
        return label_of_word(str(entry.get("state")))
    if event == "job" and type(entry.get("job_id")) is not int:
        return NOT_SUBMITTED
    if event == "then":
        return _label_after_command(entry)
    if event == "complete" and entry.get("waits") is True:
        return LABELS[Stage.ARRIVED]
    return _LABELS.get(event, "") if isinstance(event, str) else ""


def _label_after_command(entry: Mapping[str, object]) -> str:
    status = entry.get("status")
    if status == 0:
        return LABELS[Stage.COMPLETE]
    if entry.get("begun") is False:
        return LABELS[Stage.ARRIVED]
    return LABELS[Stage.FOLLOWED if status is None else Stage.FAILED]


def followed_after(entry: Mapping[str, object], had_followed: bool, label: str) -> bool:
    """Say whether the user's command was successful for a row's product, after an entry.

    Parameters
    ----------
    entry : mapping
        The entry.
    had_followed : bool
        Whether it was so before.
    label : str
        What the row was before, in words for people.
    """
    event = entry.get("event")
    if event == "then":
        return entry.get("status") == 0
    if event == "settled":
        return entry.get("followed") is True
    if event == "complete":  # A product that was complete before is the same one, and was only read again.
        return had_followed and label == LABELS[Stage.COMPLETE]
    return had_followed


def since(entry: Mapping[str, object], at: float) -> float:
    """Return since when a row is what an entry of this time says: the service may have told of it late."""
    completed_at = entry_time(entry, "completed") if "completed" in entry else None
    return at if completed_at is None else min(completed_at, at)


def entry_time(entry: Mapping[str, object], key: str = "time") -> float | None:
    """Return when an entry was made, in seconds since 1970; None where it does not say."""
    text = entry.get(key)
    return _time_of(text) if type(text) is str else None


@lru_cache(maxsize=64)  # Many lines are of the same second.
def _time_of(text: str) -> float | None:
    # Of a time as we write it, the hour and what follows have come before.
    hour, seconds = _hour_of(text[:_END_OF_HOUR]), _seconds_of(text[_END_OF_HOUR:])
    return read_time(text) if hour is None or seconds is None else hour + seconds


@lru_cache(maxsize=1024)
def _hour_of(text: str) -> float | None:
    return read_time(f"{text}:00:00Z") if _DAY_AND_HOUR.fullmatch(text) else None


@lru_cache(maxsize=3600)
def _seconds_of(text: str) -> float | None:
    found = _REST.fullmatch(text)
    return None if found is None else 60.0 * int(found[1]) + int(found[2])


def time_as_text(moment: float) -> str:
    """Return a time, in seconds since 1970, as an entry has it."""
    return time.strftime(TIME, time.gmtime(moment))


def names_in(entry: Mapping[str, object]) -> set[str]:
    """Return under which names of the directory the files of an entry stand."""
    files, names = entry.get("files"), set()
    for file in files if isinstance(files, list) else ():
        name = file.get("name") if isinstance(file, dict) else None
        if isinstance(name, str) and (on_disk := as_on_disk(name.partition("/")[0])) is not None:
            names.add(on_disk)
    return names


def as_on_disk(name: str) -> str | None:
    """Return a name as the file system has it; None where no file can be called so."""
    try:
        return name_on_disk(name)
    except UnicodeEncodeError:
        return None
