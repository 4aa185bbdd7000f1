"""Parts of a batch in one directory: who may be at work together, and who has to wait."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from desk import ELSEWHERE, Desk, dead_process
from forked import ForkedClient
from shared import FastClock, together

from mwa_client.directory import lock
from mwa_client.directory.lock import brief_lock
from mwa_client.directory.lock_file import WATCH
from mwa_client.directory.owner import Owner
from mwa_client.directory.part import Part
from mwa_client.errors import DirectoryBusy


def part(number: int, of: int, *observations: int) -> Part:
    return Part(number, of, frozenset(observations))


@pytest.fixture
def desk(tmp_path: Path, clock: FastClock) -> Desk:
    return Desk(tmp_path, clock)


def test_parts_without_a_common_observation_work_together(desk: Desk) -> None:
    with desk.alone(part(1, 2, 10, 30)) as first, desk.alone(part(2, 2, 20)) as second:
        first()
        second()
        names = sorted(path.name for path in desk.memory.iterdir())
        assert names == ["lock.part-1-of-2", "lock.part-2-of-2"]
    assert not desk.memory.exists() and desk.clock.slept == []


@pytest.mark.parametrize(
    ("at_work", "comes"),
    [
        (part(1, 4, 10, 50), part(2, 3, 20, 50)),  # The number of parts has changed, and 50 has moved.
        (part(1, 4, 10, 50), part(2, 4, 20, 10)),  # The job file has changed.
        (part(1, 4, 10), part(1, 4, 20)),  # One ledger, two clients.
        (part(1, 4, 10), None),
        (None, part(1, 4, 10)),
        (part(1, 4), None),
        (None, part(1, 4)),
    ],
)
def test_who_has_to_wait_for_whom(desk: Desk, at_work: Part | None, comes: Part | None) -> None:
    with desk.alone(at_work):
        before = {path.name: path.read_text() for path in desk.memory.iterdir()}
        with (
            pytest.raises(DirectoryBusy, match="Another mwa_client is working in") as caught,
            desk.alone(comes),
        ):
            pass
        if at_work is not None:
            assert f": part {at_work}, process" in caught.value.what
        assert {path.name: path.read_text() for path in desk.memory.iterdir()} == before
    with desk.alone(comes):
        pass


def test_a_part_that_moved_on_lets_the_next_in(desk: Desk) -> None:
    """Four parts become three: each of the three waits for those of the four that have its observations."""
    with ExitStack() as first, ExitStack() as third:
        first.enter_context(desk.alone(part(1, 4, 10, 50)))
        third.enter_context(desk.alone(part(3, 4, 30)))
        with desk.alone(part(1, 3, 20, 60)):
            pass
        with pytest.raises(DirectoryBusy), desk.alone(part(3, 3, 30, 70)):
            pass
        third.close()
        with desk.alone(part(3, 3, 30, 70)), pytest.raises(DirectoryBusy, match="part 1/4"):
            desk.alone(part(1, 3, 10, 40)).__enter__()


def test_the_lock_of_a_dead_part_is_removed_by_whom_it_hinders(desk: Desk) -> None:
    pid, birth = dead_process()
    desk.leave(name="lock.part-1-of-4", pid=pid, born=birth, part="1/4", observations=(10, 50))
    desk.leave(name="lock.part-2-of-4", pid=pid, born=birth, part="2/4", observations=(20,))
    with desk.alone(part(2, 3, 50)):
        names = sorted(path.name for path in desk.memory.iterdir())
        assert names == ["lock.part-2-of-3", "lock.part-2-of-4"], "the other one hinders nobody"
    with desk.alone():
        assert [path.name for path in desk.memory.iterdir()] == ["lock"]


def test_a_part_on_another_host_is_watched_before_it_counts_as_gone(desk: Desk) -> None:
    desk.leave(name="lock.part-1-of-4", age=WATCH + 1.0, observations=(10,), part="1/4", **ELSEWHERE)
    with desk.alone(part(1, 3, 10)):
        assert WATCH in desk.clock.slept
    assert len(desk.said) == 1 and "login2" in desk.said[0]


@pytest.mark.parametrize("observations", ["10", [10, "x"], {"10": 1}, None, [[]]])
def test_a_part_that_does_not_say_what_it_works_on_may_work_on_all(desk: Desk, observations: object) -> None:
    desk.leave(name="lock.part-1-of-4", observations=observations, part="1/4")
    with pytest.raises(DirectoryBusy), desk.alone(part(2, 4, 20)):
        pass


def test_two_that_begin_in_the_same_instant_do_not_both_leave(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has made its lock before it sees that of the other, and takes it away again."""
    gate = threading.Barrier(2)
    look, firsts = lock._excluded_by, iter([True, True])

    def look_together(mine: object) -> object:
        if next(firsts, False):
            gate.wait(20)
            found = look(mine)  # type: ignore[arg-type]
            gate.wait(20)
            assert found is not None
            return found
        return look(mine)  # type: ignore[arg-type]

    monkeypatch.setattr(lock, "_excluded_by", look_together)
    worked: list[int] = []
    numbers = itertools.count(1)

    def work() -> None:
        number = next(numbers)
        with desk.alone(part(number, 9, 10), wait=100.0):
            worked.append(number)

    assert together(2, work) == [] and len(worked) == 2


CROWD = """
import sys, time
from pathlib import Path
from mwa_client.errors import DirectoryBusy
from mwa_client.directory.lock import directory_lock
from mwa_client.directory.part import Part
from mwa_client.timing import SystemClock
directory, start, number, of = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
mine = frozenset(range(12)[number - 1 :: of]) if of > 1 else frozenset(range(12))
part = Part(number, of, mine) if of > 1 else None
time.sleep(max(start - time.time(), 0))
for _ in range(12):
    try:
        with directory_lock(directory, directory / ".mwa_client", SystemClock(), print, part=part):
            for each in mine:
                (directory / f"desk{each}").mkdir()  # Fails if somebody else sits there.
            for each in mine:
                (directory / f"desk{each}").rmdir()
            print("worked", flush=True)
    except DirectoryBusy:
        time.sleep(0.01)
"""


def test_a_crowd_of_parts_of_different_numbers_never_shares_an_observation(tmp_path: Path) -> None:
    start = str(time.time() + 0.2)
    crowd = [(1, 1), (1, 2), (2, 2), (1, 3), (2, 3), (3, 3)]
    words = [sys.executable, "-c", CROWD, str(tmp_path), start]
    processes = [ForkedClient([*words, str(number), str(of)], os.environ) for number, of in crowd]
    told = [process.communicate(timeout=60) for process in processes]
    assert [errors for _, errors in told if errors] == []
    assert any("worked" in out for out, _ in told)
    assert not (tmp_path / ".mwa_client").exists()


# --- A lock that is held for a moment -----------------------------------------------------------------


@pytest.fixture
def brief(desk: Desk) -> Iterator[Path]:
    desk.memory.mkdir()
    yield desk.memory / "lock.sums"


def test_all_get_it_one_after_the_other(desk: Desk, brief: Path) -> None:
    inside: list[int] = []

    def work() -> None:
        with brief_lock(brief, desk.directory, FastClock()) as check:
            inside.append(1)
            assert len(inside) == 1
            check()
            inside.pop()

    assert together(4, work) == []
    assert list(desk.memory.iterdir()) == []


def test_who_died_with_it_is_taken_over(desk: Desk, brief: Path) -> None:
    pid, birth = dead_process()
    desk.leave(name=brief.name, pid=pid, born=birth)
    with brief_lock(brief, desk.directory, desk.clock):
        pass
    assert list(desk.memory.iterdir()) == []


def test_who_comes_alone_clears_up_what_parts_have_died_with(desk: Desk, brief: Path) -> None:
    pid, birth = dead_process()
    for name in ("lock.sums", "lock.login", "lock.part-2-of-4"):
        desk.leave(name=name, pid=pid, born=birth, observations=(20,))
    with desk.alone(part(1, 4, 10)):
        assert brief.exists(), "a part cannot know whether another needs it"
    with desk.alone():
        assert [path.name for path in desk.memory.iterdir()] == ["lock"]


def test_who_keeps_it_for_long_is_named(desk: Desk, brief: Path) -> None:
    holder = desk.leave(name=brief.name)
    with (
        pytest.raises(DirectoryBusy, match=f"process {holder.pid}"),
        brief_lock(brief, desk.directory, desk.clock),
    ):
        pass
    assert Owner.of(brief) == holder


def test_who_was_asleep_with_it_changes_nothing(desk: Desk, brief: Path) -> None:
    with brief_lock(brief, desk.directory, desk.clock) as check:
        desk.leave(name=brief.name, **ELSEWHERE)
        desk.clock.advance(3600.0)
        with pytest.raises(DirectoryBusy, match="was lost"):
            check()
