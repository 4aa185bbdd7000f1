"""What a directory knows of its rows, as a table for people or as JSON for programs (``--status``)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache

from mwa_client.batch.estimate import altogether
from mwa_client.batch.status import DirectoryStatus, RowStatus
from mwa_client.display.columns import aligned
from mwa_client.display.printing import wrapped
from mwa_client.display.wording import expected_in_words, life_order
from mwa_client.formatting import format_size, printable, utc
from mwa_client.jobs.wording import count

STATUS_HEADINGS = ("line", "job id", "obs_id", "type", "state", "since", "size", "product, or why not")
WORD_HEADINGS = ("type", "state", STATUS_HEADINGS[-1])


def status_lines(status: DirectoryStatus, *, is_short: bool = False, width: int | None = None) -> list[str]:
    """Return what a directory knows: a table of the rows, what to do about failures, and the sums.

    Parameters
    ----------
    status : DirectoryStatus
        What it knows.
    is_short : bool
        The sums alone.
    width : int, optional
        Columns that a line may have; default is any number.
    """
    has_table = bool(status.rows) and not is_short
    texts = [*(_remedies(status.rows) if has_table else ()), *sums(status)]
    broken = texts if width is None else [line for text in texts for line in wrapped(printable(text), width)]
    return [*(_table(status, width) if has_table else ()), *broken]


def sums(status: DirectoryStatus) -> list[str]:
    """Return how many rows are in which state, and who is at work on them."""
    place = status.directory
    lines = [_counts(status)] if status.rows else [f"Nothing has been done in {place} yet: it has no rows."]
    if status.others:
        is_are, them = ("is", "it") if status.others == 1 else ("are", "them")
        more = f"{count(status.others, 'more row')} {is_are} known here"
        lines.append(f"{more}: --status without a job file or list shows {them}, too.")
    words = expected_in_words(status.expected, status.now)
    lines += [f"{words[0].upper()}{words[1:]}, from earlier jobs here."] if words else []
    lines += [f"A client is at work here: {owner}." for owner in status.at_work]
    if not status.at_work and any(row.is_pending for row in status.rows):
        lines.append("No client is at work here: run the same command again to continue.")
    if status.damaged:
        damaged = f"{count(status.damaged, 'line')} of the ledger cannot be read"
        lines.append(f"Warning: {damaged}; what only they told is missing here.")
    return lines


def status_documents(status: DirectoryStatus) -> Iterator[dict[str, object]]:
    """Yield a JSON object for each row, and last one with the sums."""
    for row in status.rows:
        yield {
            "event": "row",
            "line": row.line,
            "obs_id": row.obs_id,
            "job_id": row.job_id,
            "type": row.kind or None,
            "state": row.label,
            "since": utc(row.since),
            "paths": list(row.paths),
            "size": row.size,
            "bytes": row.here,
            "unverified": row.unverified,
            "estimated_ready": utc(row.ready_at),
            "message": row.note,
            "remedy": row.remedy,
        }
    yield {
        "event": "status",
        "time": utc(status.now),
        "directory": str(status.directory),
        "rows": len(status.rows),
        "complete": sum(row.is_complete for row in status.rows),
        "failed": sum(row.is_failed for row in status.rows),
        "pending": sum(row.is_pending for row in status.rows),
        "states": dict(in_life_order(status.states)),
        "bytes": status.size,
        "other_rows": status.others,
        "at_work": [str(owner) for owner in status.at_work],
        "damaged_lines": status.damaged,
    }


def local_time(moment: float | None) -> str:
    """Return a moment as people read it, in the time of this machine: ``2026-11-29 01:45``."""
    return "-" if moment is None else _local_minute(moment // 60)


@lru_cache(maxsize=1024)
def _local_minute(minute: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(60 * minute))


def in_life_order(states: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return how many rows are in which state, in the order of a row's life."""
    return sorted(states.items(), key=lambda state: life_order(state[0]))


def _table(status: DirectoryStatus, width: int | None) -> list[str]:
    has_lines = any(row.line is not None for row in status.rows)
    first = 0 if has_lines else 1
    above = f"{status.directory}/"
    rows = (_cells(row, above, status.now)[first:] for row in status.rows)
    return aligned(STATUS_HEADINGS[first:], rows, WORD_HEADINGS, width)


def _cells(row: RowStatus, above: str, now: float) -> tuple[str, ...]:
    paths, about = ", ".join([path.removeprefix(above) for path in row.paths]), row.note
    if paths:
        about = f"{paths} ({about})" if about else paths
    elif not about and row.ready_at is not None:
        about = expected_in_words(altogether([row.ready_at], now), now)
    return (
        "-" if row.line is None else str(row.line),
        "-" if row.job_id is None else str(row.job_id),
        "-" if row.obs_id is None else str(row.obs_id),
        row.kind or "-",
        row.label,
        local_time(row.since),
        _size(row),
        about,
    )


def _size(row: RowStatus) -> str:
    if row.size is None:
        return "-"
    if row.here in (0, row.size) or row.is_complete:
        return format_size(row.size)
    return f"{format_size(row.here)} of {format_size(row.size)}"


def _remedies(rows: tuple[RowStatus, ...]) -> list[str]:
    """Return what to do about the rows that have failed, once for all that need the same."""
    remedies = Counter(row.remedy for row in rows if row.is_failed and row.remedy)
    return [f"What to do ({count(number, 'row')}): {remedy}" for remedy, number in remedies.items()]


def _counts(status: DirectoryStatus) -> str:
    states = ", ".join(f"{number} {label}" for label, number in in_life_order(status.states))
    return f"{count(len(status.rows), 'row')}: {states}; {format_size(status.size)} in {status.directory}"
