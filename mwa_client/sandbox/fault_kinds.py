"""What a kind of fault is, where it strikes, and the list of all kinds.

Each kind is a function in a ``faults_…`` module. It takes a thing as it should be and returns it spoilt, or
None if there is nothing to spoil. Its keywords are the options of the fault.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from mwa_client.light_dataclasses import dataclass

from .interfaces import Interface
from .messages import Call

LISTED = frozenset({Call.LIST, Call.JOB})
API = LISTED | {Call.LOGIN, Call.REFRESH, Call.SUBMIT, Call.CANCEL, Call.OBSERVATION}
ALL = API | {Call.PRODUCT}
AFTER_LOGIN = ALL - {Call.LOGIN}


class Point(enum.Enum):
    """Where a fault strikes between request and reply, and what it is given there."""

    SESSIONS = "the tokens of those who are logged in, when a request comes in"
    REQUEST = "the target of a request that has not been carried out, and will not be if it is answered"
    JOB = "what the listing is about to say of a job; it is the job itself that is changed"
    ROW = "what the listing is about to say of a job"
    DUPLICATE = "the answer to a submission of what is there already"
    DOCUMENT = "the JSON object that stands for a job, or that answers a submission"
    LISTING = "the JSON list of all jobs"
    OFFER = "a product, before it is known which part of it is wanted"
    REPLY = "a reply that is ready to be sent"


@dataclass(frozen=True)
class FaultKind:
    """One kind of fault.

    Attributes
    ----------
    name : str
        Its name.
    point : Point
        Where it strikes.
    calls : frozenset of Call
        The requests that it strikes, unless a path is given.
    spoil : Callable
        The function that does it.
    interfaces : frozenset of Interface
        The interfaces where it can strike.
    """

    name: str
    point: Point
    calls: frozenset[Call]
    spoil: Callable[..., Any]
    interfaces: frozenset[Interface] = frozenset(Interface)

    @property
    def options(self) -> Mapping[str, inspect.Parameter]:
        """The options of this kind alone."""
        parameters = inspect.signature(self.spoil).parameters
        return {name: p for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}

    @property
    def summary(self) -> str:
        """One line on what the fault does; under ``python -OO``, which has no docstrings, its name."""
        return (self.spoil.__doc__ or self.name.replace("_", " ")).splitlines()[0]


KINDS: dict[str, FaultKind] = {}
"""Every kind of fault by its name."""

_F = TypeVar("_F", bound=Callable[..., Any])


def fault(
    point: Point, calls: Iterable[Call], interfaces: Iterable[Interface] = Interface
) -> Callable[[_F], _F]:
    """Register a function as a kind of fault."""

    def register(spoil: _F) -> _F:
        kind = FaultKind(spoil.__name__, point, frozenset(calls), spoil, frozenset(interfaces))
        KINDS[kind.name] = kind
        return spoil

    return register
