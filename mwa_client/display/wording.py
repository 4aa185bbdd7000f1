"""The words and numbers that lines and bars show."""

from __future__ import annotations

from collections.abc import Sequence

from mwa_client.asvo.job import JobState
from mwa_client.batch.events import Asking, Counts, Expected, RowFailed, RowName, Summary
from mwa_client.formatting import format_about, format_seconds, format_size
from mwa_client.jobs.wording import count
from mwa_client.transfer.files import FetchedFile, FetchedFolder

COMPLETE = "Download Complete"
LIFE = (
    "Not submitted",
    "Submitting",
    "Submitted",
    *(state.label for state in JobState if state.is_pending),
    JobState.READY.label,
    "Download interrupted",
    "Downloading",
    "Waiting for the command",
    "Running the command",
    "Command interrupted",
    "Reading again",
    COMPLETE,
    "Moved away",
    *(state.label for state in (JobState.EXPIRED, JobState.CANCELLED, JobState.ERROR)),
)
"""The states of a row in the order of its life."""
SHORTER = {
    JobState.READY.label: "Ready",
    "Waiting for the command": "Arrived",
    "Running the command": "Command",
    COMPLETE: "Complete",
}
"""Shorter words for some states, for the bar, where there is little room."""


def about_row(state: str, row: RowName, more: str = "") -> str:
    """Return the line that says in which state a row is."""
    words = f"{state}: Job id: {row.job_id if row.job_id is not None else '-'} obs_id: {row.obs_id}"
    return f"{words} {more}" if more else words


def failure_lines(failure: RowFailed) -> list[str]:
    """Return what the summary says of a row that failed: what happened, and what to do."""
    row = failure.row
    job = "no job" if row.job_id is None else f"job id {row.job_id}"
    line = f"{row.place}: " if row.place else ""  # Jobs that were asked for by their ids have none.
    what, *remedy = failure.error.lines
    return [f"  {line}obs_id {row.obs_id}, {job}: {what}", *(f"      {words}" for words in remedy)]


def counts_in_words(counts: Counts) -> str:
    """Return how many rows are in each state."""
    return ", ".join(f"{number} {label}" for label, number in in_order_of_life(counts))


def counts_that_fit(counts: Counts, room: int) -> str:
    """Return as many of the counts as fit into `room` columns.

    The first to go are the complete rows, then the states from the beginning of a row's life.
    """
    words = {label: f"{number} {SHORTER.get(label, label)}" for label, number in in_order_of_life(counts)}
    for left_out in (COMPLETE, *list(words)):
        if len(", ".join(words.values())) <= room:
            break
        words.pop(left_out, None)
    return ", ".join(words.values())


def in_order_of_life(counts: Counts) -> list[tuple[str, int]]:
    """Sort the states in the order of a row's life.

    A state that we do not know stands before "Ready": it must be a step of the service's work.
    """
    return sorted(counts.states, key=lambda state: life_order(state[0]))


def life_order(label: str) -> float:
    """Return where in the order of a row's life a state stands."""
    return LIFE.index(label) if label in LIFE else LIFE.index(JobState.READY.label) - 0.5


def without_ids(name: str, row: RowName) -> str:
    """Return what a product's name says beyond the observation and the job, which were named already."""
    for number in (row.obs_id, row.job_id):
        name = name.removeprefix(f"{number}_")
    return name


def number_of_files(files: Sequence[FetchedFile]) -> str:
    """Return how many files a product has, with a comma for what follows; nothing where it is one."""
    number = sum(file.files if isinstance(file, FetchedFolder) else 1 for file in files)
    return "" if number == 1 else f"{number} files, "


def asking_in_words(asking: Asking, now: float) -> str:
    """Return when the service was last asked, or since when it has not answered and when it is asked next."""
    if asking.silent_since is None:
        return f"asked {format_seconds(now - asking.last)} ago"
    silent = format_seconds(now - asking.silent_since)
    due = asking.due - now
    return f"no answer for {silent}, asking again {'now' if due < 1 else f'in {format_seconds(due)}'}"


def expected_in_words(expected: Expected | None, now: float) -> str:
    """Return when the jobs may be ready, said as the estimate that it is; empty where that is not known.

    `now` is in seconds since 1970.
    """
    if expected is None or expected.moment is None or expected.moment <= now:
        return ""
    if expected.last is None:
        return f"starting in about {format_about(expected.moment - now)} (estimate)"
    first, last = format_about((expected.first or 0.0) - now), format_about(expected.last - now)
    which = "" if expected.known == expected.waiting else f"{expected.known} of {expected.waiting} "
    return f"{which}ready in about {last if first == last else f'{first} to {last}'} (estimate)"


def summary_line(summary: Summary) -> str:
    """Return the last line of a run: how many rows ended in which way, how much came, and where it is."""
    ends = (summary.complete, summary.failed, summary.submitted, summary.ready, summary.pending)
    if summary.error is None and not any(ends):
        return "Nothing to download: none of your jobs is ready."
    unverified = len(summary.unverified)
    again = " (run the same command again)" if summary.error is None else ""
    parts = [_submitted(summary)] if summary.submitted else []
    parts += [f"{len(summary.ready)} ready for download"] if summary.ready else []
    parts += [f"{len(summary.complete)} complete"] if summary.complete or not parts else []
    parts += [f"{len(summary.elsewhere)} of them delivered elsewhere"] if summary.elsewhere else []
    parts += [f"{unverified} of the files not verified"] if unverified else []
    parts += [f"{summary.changed} changed since"] if summary.changed else []
    parts += [f"{summary.moved} moved away since"] if summary.moved else []
    parts += [f"{len(summary.failed)} failed"] if summary.failed else []
    parts += [f"{len(summary.pending)} pending{again}"] if summary.pending else []
    has_files = any(row.files and not row.is_moved for row in summary.complete)
    where = f": {format_size(summary.size)} in {summary.directory}" if has_files else ""
    return ", ".join(parts) + where


def _submitted(summary: Summary) -> str:
    number, found = len(summary.submitted), summary.found
    words = f"{count(number, 'job')} submitted"
    if not found:
        return words
    if number == 1:
        return f"{words} before this run"
    return f"{words}, {'all' if found == number else found} of them before this run"
