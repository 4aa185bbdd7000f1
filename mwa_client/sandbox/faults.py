"""The faults that are switched on, which requests they strike, and how often."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from dataclasses import fields
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from mwa_client.formatting import closest
from mwa_client.light_dataclasses import dataclass

# Each module adds its kinds to KINDS; `--help` lists them in this order.
from . import faults_in_calls, faults_in_products, faults_of_today  # noqa: F401
from .fault_kinds import KINDS, FaultKind, Point
from .messages import Reply, Target

_TYPES: dict[str, type | tuple[type, ...]] = {
    "int": int,
    "float": (int, float),
    "str": str,
    "bool": bool,
    "None": type(None),
}
_IN_WORDS = {
    "int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false", "None": "null",
}  # fmt: skip

_T = TypeVar("_T")


@dataclass(frozen=True)
class Aim:
    """Which requests a fault strikes, and how often: the options that every fault takes.

    Attributes
    ----------
    times : int or None
        How often it strikes; without end if None.
    skip : int
        How many requests that it could have struck it lets pass first.
    path : str or None
        Strike the requests with this path (``*`` and ``?`` as in a shell), not the usual ones.
    obs_id, job_id : int or str or None
        Strike only what is about this observation, this job.
    api : str or None
        Strike only this interface: ``2018``, ``v1``, ``v2``, or ``store`` for the object store.
    """

    times: int | None = None
    skip: int = 0
    path: str | None = None
    obs_id: int | str | None = None
    job_id: int | str | None = None
    api: str | None = None

    def check(self, kind: FaultKind) -> None:
        """Raise ``ValueError`` if a kind of fault cannot be aimed like this."""
        if not isinstance(self.times, (int, type(None))) or not isinstance(self.skip, int):
            raise ValueError(f"{kind.name}: times and skip must be whole numbers")
        if self.api is not None and self.api not in {interface.value for interface in kind.interfaces}:
            raise ValueError(f"{kind.name}: no such api here: {self.api}")

    def matches(self, kind: FaultKind, target: Target) -> bool:
        """Return whether a fault of a kind strikes a request, or one job in a listing."""
        if self.path is None:
            if target.call not in kind.calls:
                return False
        elif not fnmatchcase(target.path, self.path):
            return False
        if self.api not in (None, target.interface.value) or target.interface not in kind.interfaces:
            return False
        return _agrees(self.obs_id, target.obs_id) and _agrees(self.job_id, target.job_id)


COMMON_OPTIONS = tuple(field.name for field in fields(Aim))
"""The options that every fault takes."""


class Fault:
    """One fault that is switched on. `Faults.add` makes it.

    Attributes
    ----------
    hits : int
        How often it has struck.
    """

    def __init__(self, kind: FaultKind, aim: Aim, options: dict[str, Any]) -> None:
        self.kind = kind
        self.aim = aim
        self.options = options
        self.hits = 0
        # A list of values is used up, one value a hit.
        lists = [len(value) for value in options.values() if isinstance(value, list)]
        self._most = min([*lists, *([] if aim.times is None else [aim.times])], default=None)
        self._passed = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"<fault {self.kind.name}{options}, {self.hits} hits>"

    def strike(self, thing: Any) -> Any | None:
        """Return the thing spoilt, or None if it stays as it is."""
        with self._lock:
            if self._most is not None and self.hits >= self._most:
                return None
            spoilt = self.kind.spoil(thing, **self._current_options())
            if spoilt is None:
                return None
            if self._passed < self.aim.skip:
                self._passed += 1
                return None
            self.hits += 1
            return spoilt

    def _current_options(self) -> dict[str, Any]:
        return {
            name: value[self.hits] if isinstance(value, list) else value
            for name, value in self.options.items()
        }


class Faults:
    """All faults that are switched on, in the order of `add`."""

    def __init__(self) -> None:
        self._active: tuple[Fault, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._active)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._active)

    def add(self, name: str, /, times: int | None = None, **options: Any) -> Fault:
        """Switch a fault on.

        Parameters
        ----------
        name : str
            Its name; `KINDS` has them all.
        times : int, optional
            How often it strikes; without end if left out.
        **options
            The other attributes of `Aim`, and the options of the fault itself. A list gives one value for
            each hit; after the last, the fault is over.

        Returns
        -------
        Fault
            A handle that counts the hits.

        Raises
        ------
        ValueError
            When there is no such fault, or it has no such option, or the option no such value.

        Examples
        --------
        >>> faults = Faults()
        >>> handle = faults.add("cut_product", after=[1000, 5000], obs_id=1191828584)
        >>> handle.hits
        0
        """
        kind = _known_kind(name)
        aim = Aim(times, **{option: options.pop(option) for option in COMMON_OPTIONS if option in options})
        _check_options(kind, options)
        aim.check(kind)
        fault = Fault(kind, aim, options)
        self._active = (*self._active, fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Switch one fault off."""
        self._active = tuple(other for other in self._active if other is not fault)

    def clear(self) -> None:
        """Switch all faults off."""
        self._active = ()

    def answer(self, target: Target) -> Reply | None:
        """Return the reply of the first fault that answers instead of the service, or None."""
        for fault in self._aimed(Point.REQUEST, target):
            reply: Reply | None = fault.strike(target)
            if reply is not None:
                return reply
        return None

    def apply(self, point: Point, target: Target, thing: _T) -> _T:
        """Return a thing as it is after all faults at this point."""
        for fault in self._aimed(point, target):
            spoilt: _T | None = fault.strike(thing)
            if spoilt is not None:
                thing = spoilt
        return thing

    def _aimed(self, point: Point, target: Target) -> Iterator[Fault]:
        return (
            fault
            for fault in self._active
            if fault.kind.point is point and fault.aim.matches(fault.kind, target)
        )


def _agrees(wanted: int | str | None, found: int | str | None) -> bool:
    return wanted is None or str(wanted) == str(found)


def _known_kind(name: str) -> FaultKind:
    if name not in KINDS:
        guess = closest(name, KINDS)
        remedy = f"did you mean {guess}?" if guess else "python -m mwa_client.sandbox --help lists them"
        raise ValueError(f"no such fault: {name}; {remedy}")
    return KINDS[name]


def _check_options(kind: FaultKind, options: dict[str, Any]) -> None:
    known = kind.options
    for name, value in options.items():
        if name not in known:
            names = ", ".join([*known, *COMMON_OPTIONS])
            raise ValueError(f"{kind.name}: no such option: {name}; there are: {names}")
        for single in value if isinstance(value, list) else [value]:
            if not any(isinstance(single, _TYPES[word]) for word in known[name].annotation.split(" | ")):
                right = " or ".join(_IN_WORDS[word] for word in known[name].annotation.split(" | "))
                raise ValueError(f"{kind.name}: {name} must be {right}, not {single!r}")
    missing = [n for n, p in known.items() if p.default is inspect.Parameter.empty and n not in options]
    if missing:
        raise ValueError(f"{kind.name}: needs {', '.join(missing)}")
