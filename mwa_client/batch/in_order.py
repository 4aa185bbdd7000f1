"""Sends the events of work done in parallel in the order in which the work was begun."""

from __future__ import annotations

from dataclasses import field
from typing import Callable, Generic, TypeVar

from mwa_client.light_dataclasses import dataclass

Subject = TypeVar("Subject")
AnyEvent = TypeVar("AnyEvent")


@dataclass
class _Waiting(Generic[AnyEvent]):
    events: list[AnyEvent] = field(default_factory=list)
    has_ended: bool = False


class InOrder(Generic[Subject, AnyEvent]):
    """Sends the events of subjects in the order in which these were begun, whichever ends first.

    Four submissions run at a time, and their lines still appear in the order of the job file.

    Parameters
    ----------
    listen : callable
        Is called with each event, at once or when its turn has come.
    """

    def __init__(self, listen: Callable[[AnyEvent], None]) -> None:
        self._listen = listen
        self._held: dict[Subject, _Waiting[AnyEvent]] = {}

    def begin(self, subject: Subject) -> None:
        """From now on, hold back the events of this subject until all subjects begun before it have ended."""
        self._held[subject] = _Waiting()

    def tell(self, subject: Subject, event: AnyEvent) -> None:
        """Send an event, or hold it back until the turn of its subject."""
        held = self._held.get(subject)
        if held is None or subject is next(iter(self._held)):
            self._listen(event)
        else:
            held.events.append(event)

    def end(self, subject: Subject) -> None:
        """Note that a subject has ended, and send the events that were held back because of it."""
        if subject in self._held:
            self._held[subject].has_ended = True
        while self._held:
            first, held = next(iter(self._held.items()))
            self._tell_all(held)
            if not held.has_ended:
                return
            del self._held[first]

    def flush(self) -> None:
        """Send all events that are held back, and forget which subjects have begun."""
        waiting, self._held = list(self._held.values()), {}
        for held in waiting:
            self._tell_all(held)

    def _tell_all(self, held: _Waiting[AnyEvent]) -> None:
        events, held.events = held.events, []
        for event in events:
            self._listen(event)
