"""The file that keeps the jobs of the practice service from one run to the next."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .interfaces import Interface
from .jobs import PracticeJob, PracticeState, PracticeType

LONGEST_STATE = 1 << 26
"""Characters that the file may have."""
_NOT_JOBS = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading a file that does not hold jobs can raise."""


class StateFile:
    """The file, at a path that the user gave."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, first_id: int) -> tuple[list[PracticeJob], int]:
        """Return the jobs and the next job's id; none and `first_id` if there is no file.

        Raises
        ------
        ValueError
            The file does not hold jobs.
        """
        try:
            document = json.loads(_text_of(self._path))
            return [_job_from_json(entry) for entry in document["jobs"]], int(document["next_id"])
        except FileNotFoundError:
            return [], first_id
        except _NOT_JOBS as error:
            raise ValueError(f"{self._path}: not a list of jobs as --state keeps it") from error

    def save(self, jobs: Iterable[PracticeJob], next_id: int) -> None:
        """Write the jobs."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # A rename is all or nothing: a run that is killed here leaves the old file or the new one.
        draft = self._path.with_name(f"{self._path.name}.new")
        draft.unlink(missing_ok=True)
        with draft.open("x", encoding="utf-8") as file:
            file.write(json.dumps({"next_id": next_id, "jobs": [_job_to_json(job) for job in jobs]}))
        draft.replace(self._path)


def _text_of(path: Path) -> str:
    """Return the text of an ordinary file; a link, a pipe or a device is an error."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), encoding="utf-8") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not an ordinary file")
        text = file.read(LONGEST_STATE + 1)
    if len(text) > LONGEST_STATE:
        raise ValueError("too long")
    return text


def _job_to_json(job: PracticeJob) -> dict[str, Any]:
    fixed = job.fixed_state.value if job.fixed_state else None
    return {**asdict(job), "type": job.type.value, "fixed_state": fixed, "made_by": job.made_by.value}


def _job_from_json(entry: dict[str, Any]) -> PracticeJob:
    fixed = entry["fixed_state"]
    return PracticeJob(
        **{
            **entry,
            "type": PracticeType(entry["type"]),
            "fixed_state": PracticeState(fixed) if fixed else None,
            "made_by": Interface(entry.get("made_by", Interface.V2018.value)),
        }
    )
