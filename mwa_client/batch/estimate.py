"""How long jobs may still take until they are ready: estimates, from how long earlier ones took."""

from __future__ import annotations

import re
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from mwa_client.asvo.job import JobState
from mwa_client.batch.events import Expected
from mwa_client.batch.rows import LABELS, NOT_SUBMITTED, SUBMITTED, SUBMITTING, Step, new_step
from mwa_client.jobs.keys import JobType

FEWEST = 3
"""Jobs that must have been ready before anything is said about others of their kind."""
MOST_LEARNT = 1000
"""Rows of a ledger that are learnt from: the last ones tell the most."""
SHORTEST_WAIT = 60.0
"""Seconds of the shortest wait that is worth words."""
STARTED = "Started"
"""What the first state is known as in which the service works on a job."""
_BEFORE_START = (
    SUBMITTING,
    SUBMITTED,
    *(state.label for state in (JobState.PREPARING, JobState.QUEUED, JobState.WAITCAL)),
)
_ENDS = frozenset((NOT_SUBMITTED, *LABELS.values(), *(s.label for s in JobState if not s.is_pending)))
_JOB_TYPE = re.compile(r"job_type=([a-z])\b")
_DOWNLOAD_TYPE = re.compile(r"\bdownload_type=(\S+)")


class Waits:
    """How long jobs of each kind have taken, from each of their states until they were ready."""

    def __init__(self) -> None:
        self._took: dict[tuple[str, str], list[float]] = {}
        self._steps: dict[str, list[Step]] = {}
        # Looked at when somebody asks: a ledger has a hundred thousand rows, and most runs never wait.
        self._ended: deque[tuple[str, list[Step]]] = deque(maxlen=MOST_LEARNT)

    def see(self, identity: str, at: float, label: str) -> None:
        """Take notice of what a row is from a moment on, in seconds since 1970."""
        is_over, steps = label in _ENDS, self._steps.get(identity)
        if steps is None:
            if not is_over:
                self._steps[identity] = [new_step((at, label))]
            return
        if steps[-1][1] != label:
            steps.append(new_step((at, label)))
        if is_over:
            self._ended.append((identity, self._steps.pop(identity)))

    def learn(self, kind: str, steps: Iterable[Step]) -> None:
        """Learn from what a row was, one after the other."""
        for label, seconds in times_to_ready(steps):
            insort(self._took.setdefault((kind, label), []), seconds)

    def learn_whole(self, kind: str, seconds: float) -> None:
        """Learn how long a job took from its submission until it was ready."""
        insort(self._took.setdefault((kind, SUBMITTED), []), seconds)

    def ready_at(
        self, identity: str, now: float, *, made_at: float | None = None, starts_at: float | None = None
    ) -> float | None:
        """Return when the job of a row may be ready, None where nothing is known.

        Parameters
        ----------
        identity : str
            What the row asks for.
        now : float
            The time, in seconds since 1970.
        made_at, starts_at : float, optional
            When its job was made, and when the service expects to start it.
        """
        while self._ended:
            ended, steps_of_it = self._ended.popleft()
            self.learn(kind_in(ended), steps_of_it)
        steps = self._steps.get(identity, ())
        return self.expect(kind_in(identity), steps, now, made_at=made_at, starts_at=starts_at)

    def expect(
        self,
        kind: str,
        steps: Sequence[Step],
        now: float,
        *,
        made_at: float | None = None,
        starts_at: float | None = None,
    ) -> float | None:
        """Return when a job of a kind may be ready that was one thing after the other; as `ready_at`."""
        if starts_at is not None and starts_at > now:
            work = self._left(kind, STARTED, 0.0)
            return None if work is None else starts_at + work
        if made_at is None:
            made_at = next((step.at for step in reversed(steps) if step.label == SUBMITTING), None)
        last = [(steps[-1].label, steps[-1].at)] if steps and steps[-1].label not in _ENDS else []
        whole = [] if made_at is None else [(SUBMITTED, made_at)]
        for label, since in (*last, *whole):
            # A clock may have been set back since.
            left = self._left(kind, label, max(now - since, 0.0))
            if left is not None:
                return now + left
        return None

    def _left(self, kind: str, label: str, elapsed: float) -> float | None:
        """Return the median of what was left to those that took longer than a time that has passed."""
        took = self._took.get((kind, label), [])
        longer, number = bisect_right(took, elapsed), len(took)
        if number < FEWEST or longer == number:
            return None
        return (took[(longer + number - 1) // 2] + took[(longer + number) // 2]) / 2 - elapsed


def times_to_ready(steps: Iterable[Step]) -> Iterator[tuple[str, float]]:
    """Yield how many seconds it was from the beginning of each state until the job was ready.

    Examples
    --------
    >>> list(times_to_ready([Step(0, "Submitting"), Step(5, "Staging"), Step(65, "Ready for Download")]))
    [('Submitting', 65), ('Staging', 60), ('Started', 60)]
    """
    stretch: list[Step] = []
    for step in steps:
        if step.label == JobState.READY.label:
            yield from _times_of(stretch, step.at)
        if step.label in _ENDS or step.label == SUBMITTING:
            stretch = []
        if step.label not in _ENDS:
            stretch.append(step)


def _times_of(stretch: Sequence[Step], ready: float) -> Iterator[tuple[str, float]]:
    # Of a job that was there already nobody knows since when it has been what it was seen to be first.
    unknown = 0 if stretch and stretch[0].label == SUBMITTING else 2
    has_started = any(step.label not in _BEFORE_START for step in stretch[:unknown])
    for step in stretch[unknown:]:
        if ready <= step.at:
            continue
        yield step.label, ready - step.at
        if not has_started and step.label not in _BEFORE_START:
            has_started = True
            yield STARTED, ready - step.at


def altogether(ready: Sequence[float | None], now: float, starts: Iterable[float | None] = ()) -> Expected:
    """Return what is known of several jobs together; each time may be None.

    Examples
    --------
    >>> altogether([7300.0, None, 3700.0], now=100.0)
    Expected(waiting=3, known=2, first=3700.0, last=7300.0, starts=None)
    """
    known = [moment for moment in ready if moment is not None]
    if known and max(known) - now >= SHORTEST_WAIT:
        return Expected(len(ready), len(known), min(known), max(known))
    to_start = [moment for moment in starts if moment is not None and moment - now >= SHORTEST_WAIT]
    return Expected(len(ready), starts=min(to_start, default=None))


def is_news(expected: Expected, before: Expected | None, now: float) -> bool:
    """Say whether what is expected is much different from what was expected before."""
    moment, former = expected.moment, None if before is None else before.moment
    if before is None or moment is None or former is None:
        return moment != former
    if (expected.last is None) != (before.last is None):
        return True
    return abs(moment - former) > max(10 * SHORTEST_WAIT, (moment - now) / 2)


def is_at_service(label: str) -> bool:
    """Say whether a row with this label has a job that the service is still to make ready."""
    return label not in _ENDS and label != SUBMITTING


def kind_in(identity: str) -> str:
    """Return what comes of the job that a row's identity describes, in a word; empty if it does not say."""
    letter = _JOB_TYPE.search(identity)
    download_type = _DOWNLOAD_TYPE.search(identity) if "download_type=" in identity else None
    return _kind(letter[1] if letter else "", download_type[1] if download_type else "")


@lru_cache(maxsize=64)
def _kind(letter: str, download_type: str) -> str:
    try:
        return JobType(letter).kind(download_type)
    except ValueError:
        return ""
