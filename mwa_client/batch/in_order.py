"""What happens to several rows at once, told in the order in which it was begun."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Generic, TypeVar

Subject = TypeVar("Subject")
Event = TypeVar("Event")


@dataclass
class _Held(Generic[Event]):
    events: list[Event] = field(default_factory=list)
    has_ended: bool = False


class InOrder(Generic[Subject, Event]):
    """Tells what happens to those who were begun earlier first, whoever comes to an end first.

    Parameters
    ----------
    listen : callable
        Is told each event, at once or when its turn has come.
    """

    def __init__(self, listen: Callable[[Event], None]) -> None:
        self._listen = listen
        self._held: dict[Subject, _Held[Event]] = {}

    def begin(self, subject: Subject) -> None:
        """Hold back from now on what happens to this one while one that was begun before it has not ended."""
        self._held[subject] = _Held()

    def tell(self, subject: Subject, event: Event) -> None:
        """Tell an event, or hold it back."""
        held = self._held.get(subject)
        if held is None or subject is next(iter(self._held)):
            self._listen(event)
        else:
            held.events.append(event)

    def end(self, subject: Subject) -> None:
        """Note that this one has come to its end; tell what has waited for that."""
        if subject in self._held:
            self._held[subject].has_ended = True
        while self._held:
            first, held = next(iter(self._held.items()))
            self._tell_all(held)
            if not held.has_ended:
                return
            del self._held[first]

    def flush(self) -> None:
        """Tell everything that is held back, and hold back no more of those who have been begun."""
        waiting, self._held = list(self._held.values()), {}
        for held in waiting:
            self._tell_all(held)

    def _tell_all(self, held: _Held[Event]) -> None:
        events, held.events = held.events, []
        for event in events:
            self._listen(event)
