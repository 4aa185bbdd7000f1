"""What is noted about a row on its way: its submissions, how its job is looked for, what it had before."""

from __future__ import annotations

from mwa_client.batch.records import FetchedProduct
from mwa_client.errors import MwaClientError
from mwa_client.light_dataclasses import dataclass


@dataclass
class Attempts:
    """Submissions of a row in this run that have made no job, as far as is known.

    Attributes
    ----------
    deferred : int
        How many came to nothing, for whatever passing reason.
    ended_at : float or None
        When the last of them ended, by the clock for intervals.
    """

    deferred: int = 0
    ended_at: float | None = None


@dataclass
class Watch:
    """How long a row's job has been looked for in the listings. All times are by the clock for intervals.

    Attributes
    ----------
    since : float
        When the row got its job.
    missing_since : float or None
        Since when the listings have not had it.
    product_gone : MwaClientError or None
        Why its product could not be fetched, where the next listing is to tell what has become of the job.
    """

    since: float = float("-inf")
    missing_since: float | None = None
    product_gone: MwaClientError | None = None


@dataclass
class History:
    """What a row had before its present job.

    Attributes
    ----------
    has_earlier_job : bool
        Its present job was submitted by an earlier run.
    was_renewed : bool
        A lost job has been given up for a new one in this run.
    lost_job : int or None
        That lost job.
    fetched : FetchedProduct or None
        What an earlier run has brought for it, where that is not in the directory as it was left.
    end_if_unlisted : MwaClientError or None
        How the row ends where no listed job can be its: it has been complete before, and no new job is
        submitted.
    """

    has_earlier_job: bool = False
    was_renewed: bool = False
    lost_job: int | None = None
    fetched: FetchedProduct | None = None
    end_if_unlisted: MwaClientError | None = None
