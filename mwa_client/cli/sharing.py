"""The rows of this client, where several share a batch (--part), and what a Slurm array says about it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace

from mwa_client.cli.context import Show
from mwa_client.cli.settings import Settings
from mwa_client.directory.part import Part
from mwa_client.errors import SettingsError
from mwa_client.jobs.jobfile import JobFile
from mwa_client.jobs.sharing import Share
from mwa_client.jobs.wording import count


def share_out(jobs: JobFile, settings: Settings, say: Show) -> tuple[Part | None, JobFile]:
    """Return our part of a job file, and the job file with our rows alone; say how many they are.

    Without ``--part`` there is no part, and all rows are ours.

    Raises
    ------
    SettingsError
        The share is one of a Slurm array whose numbers leave shares out.
    """
    share = settings.others.share
    if share is None:
        return None, jobs
    check_array(share, os.environ)
    part = share.part(jobs.jobs)
    ours = tuple(job for job in jobs.jobs if job.obs_id in part.observations)
    on = count(len(part.observations), "observation")
    if not settings.output.quiet:
        say(f"Part {part}: {len(ours)} of {count(len(jobs.jobs), 'job')}, on {on}.")
    return part, replace(jobs, jobs=ours)


def check_array(share: Share, environment: Mapping[str, str]) -> None:
    """Refuse a share that comes from a Slurm array with gaps, as in a second run of a few tasks alone.

    Slurm counts the tasks of such an array, so some shares would be nobody's, and all tasks would succeed.
    """
    words = [environment.get(f"SLURM_ARRAY_TASK_{word}", "") for word in ("ID", "COUNT", "MIN", "MAX")]
    if not all(re.fullmatch("[0-9]{1,9}", word) for word in words):
        return
    number, tasks, first, last = map(int, words)
    if (number or tasks, tasks) != (share.number, share.of):
        return  # It is from somewhere else.
    if last - first + 1 != tasks or first > 1:
        raise SettingsError(
            f"The array has {tasks} tasks with numbers from {first} to {last}: some parts would be left out.",
            "Number all tasks from 0 or 1 without gaps, or write how many parts there are: "
            "--part=$SLURM_ARRAY_TASK_ID/4. Then single tasks can be run again.",
        )
