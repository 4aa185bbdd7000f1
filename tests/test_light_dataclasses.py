"""Our dataclasses are those of the standard library in all that the program uses of them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, field
from pathlib import Path
from typing import Any, Callable

import pytest

import mwa_client
from mwa_client import light_dataclasses
from mwa_client.light_dataclasses import dataclass as light


def family(dataclass: Callable[..., Any]) -> dict[str, Any]:
    """Return classes of each kind that the program has."""

    @dataclass(frozen=True)
    class Base:
        number: int
        name: str = field(default="", repr=False)
        remarks: list[str] = field(default_factory=list, compare=False)

    @dataclass(frozen=True)
    class Longer(Base):
        more: float = 0.0

    @dataclass(frozen=True)
    class Nothing:
        pass

    @dataclass
    class Changeable:
        inner: Any = None

    @dataclass(eq=False)
    class Itself:
        number: int = 0

    @dataclass(frozen=True)
    class Worded:
        word: str

        def __repr__(self) -> str:
            return "???"

    return {each.__name__: each for each in (Base, Longer, Nothing, Changeable, Itself, Worded)}


OURS, THEIRS = family(light), family(dataclasses.dataclass)
MADE: list[tuple[str, tuple[Any, ...]]] = [
    ("Base", (1, "a")),
    ("Base", (1, "b")),
    ("Base", (1, "a", ["remark"])),
    ("Longer", (1, "a")),
    ("Longer", (1, "a", [], 2.0)),
    ("Nothing", ()),
    ("Changeable", (1,)),
    ("Changeable", ()),
    ("Itself", (1,)),
    ("Worded", ("x",)),
]


def relations(some: list[Any], others: list[Any]) -> list[list[tuple[bool, object]]]:
    """Say of each two whether they are equal, and whether their hashes are; the latter may not exist."""

    def have_one_hash(one: object, other: object) -> object:
        try:
            return hash(one) == hash(other)
        except TypeError:
            return TypeError

    return [[(one == other, have_one_hash(one, other)) for one in some] for other in others]


def test_objects_are_shown_compared_and_hashed_as_those_of_the_standard_library() -> None:
    ours = [OURS[name](*values) for name, values in MADE]
    theirs = [THEIRS[name](*values) for name, values in MADE]
    assert list(map(repr, ours)) == list(map(repr, theirs))
    # Two objects of each: equal ones need not be the same.
    assert relations(ours, copy.deepcopy(ours)) == relations(theirs, copy.deepcopy(theirs))


@pytest.mark.parametrize("change", [lambda it: setattr(it, "number", 2), lambda it: setattr(it, "new", 2)])
def test_a_frozen_object_cannot_be_changed(change: Callable[[Any], None]) -> None:
    thing = OURS["Longer"](1)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field"):
        change(thing)
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'number'"):
        del thing.number
    assert thing == OURS["Longer"](1)


def test_the_tools_of_the_standard_library_take_them() -> None:
    thing = OURS["Longer"](1, "a", ["x"], more=3.0)
    assert dataclasses.replace(thing, number=2) == OURS["Longer"](2, "a", ["x"], 3.0)
    assert dataclasses.asdict(thing) == {"number": 1, "name": "a", "remarks": ["x"], "more": 3.0}
    heir = dataclasses.make_dataclass("Heir", ["own"], bases=(OURS["Worded"],), frozen=True)
    assert repr(heir("a", 1)) == "Heir(word='a', own=1)"
    circle = OURS["Changeable"]()
    circle.inner = circle
    assert repr(circle).endswith("Changeable(inner=...)")


@pytest.mark.parametrize("name", OURS)
def test_the_signature_is_that_of_the_standard_library(name: str) -> None:
    ours, theirs = family(light)[name], THEIRS[name]
    assert [each.name for each in dataclasses.fields(ours)] == [
        each.name for each in dataclasses.fields(theirs)
    ]
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))


def test_threads_that_make_the_first_objects_at_once_get_whole_ones() -> None:
    for _ in range(20):
        longer, together = family(light)["Longer"], threading.Barrier(4)

        def first(longer: Any = longer, together: threading.Barrier = together) -> str:
            together.wait(10)
            return repr(longer(1, "a", ["x"], more=3.0))

        with ThreadPoolExecutor(4) as pool:
            made = [pool.submit(first) for _ in range(4)]
        assert {each.result() for each in made} == {repr(THEIRS["Longer"](1, "a", ["x"], more=3.0))}


@pytest.mark.parametrize("dataclass", [light, dataclasses.dataclass])
def test_a_class_that_only_inherits_has_its_own_beginning_and_attributes(
    dataclass: Callable[..., Any],
) -> None:
    begun = []

    class Counted(family(dataclass)["Base"]):  # type: ignore[misc]
        def __init__(self, word: str, more: str) -> None:
            begun.append(word)
            super().__init__(len(word + more))
            self.word = self.passing = word
            del self.passing

    counted = Counted("a", "b")
    assert (counted.number, counted.word, begun) == (2, "a", ["a"])
    with pytest.raises(FrozenInstanceError):
        counted.number = 1
    with pytest.raises(FrozenInstanceError):
        del counted.name


@pytest.mark.parametrize("name", ["Base", "Longer"])
@pytest.mark.parametrize("last", ["make", "fields", "_init_of"])
def test_a_class_is_made_later_where_making_it_was_cut_short(
    monkeypatch: pytest.MonkeyPatch, last: str, name: str
) -> None:
    done = getattr(light_dataclasses, last)

    def cut(*args: Any, **kwargs: Any) -> None:
        done(*args, **kwargs)
        raise MemoryError

    made, shown = family(light)[name], repr(THEIRS[name](1))
    monkeypatch.setattr(light_dataclasses, last, cut)
    for _ in range(2):
        with pytest.raises(MemoryError):
            made(1)
    monkeypatch.undo()
    assert repr(made(1)) == shown
    assert made(1).remarks is not made(1).remarks


def test_they_can_be_pickled() -> None:
    from mwa_client.batch.events import RowName

    row = RowName(3, 1065880128, source="jobs.csv")
    assert pickle.loads(pickle.dumps(row)) == row


@pytest.mark.parametrize("name", sorted(OURS))
def test_an_object_that_was_not_made_here_is_whole(name: str) -> None:
    """As where it was unpickled in another process."""
    whole = []
    for made in (family(light)[name], family(dataclasses.dataclass)[name]):
        thing = made.__new__(made)
        values = [(each.name, None) for each in dataclasses.fields(THEIRS[name])]
        vars(thing).update(values)
        has = [getattr(type(thing), "__match_args__", None)]
        if hasattr(copy, "replace"):
            has.append(repr(copy.replace(thing)))
        whole.append((has, repr(thing), dataclasses.asdict(thing)))
    assert whole[0] == whole[1]


def test_all_of_the_program_uses_them() -> None:
    package = Path(mwa_client.__file__).parent
    pattern = re.compile(r"^from dataclasses import .*\bdataclass\b", re.MULTILINE)
    using = {path.name for path in package.rglob("*.py") if pattern.search(path.read_text(encoding="utf-8"))}
    assert using == {"light_dataclasses.py"}
