"""Who fetches what: whatever the order in which connections ask, receive and break, every byte has one place.

The connections run in threads, one step at a time: what happens next is decided by the test alone.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Callable

import pytest
from shared import FastClock

from mwa_client.errors import DiskFull, MwaClientError, ServiceUnavailable
from mwa_client.transfer import extra, part_file, ranges, segments
from mwa_client.transfer.common import Transfers
from mwa_client.transfer.connections import Connection, ConnectionBudget, TransferCounter
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile
from mwa_client.transfer.parallel import ParallelReader
from mwa_client.transfer.part_file import open_part
from mwa_client.transfer.part_writer import PartWriter
from mwa_client.transfer.receiving import FetchContext
from mwa_client.transfer.segments import Segment, SegmentPlan
from mwa_client.transfer.throttle import RequestThrottle
from mwa_client.transfer.tuner import ConnectionTuner

SIZE = 1000
CONTENT = bytes(number * 7 % 251 for number in range(SIZE))
WANTED = ExpectedFile(1, "x.tar", SIZE, hashlib.sha1(CONTENT).hexdigest())
LONG = 60.0


@pytest.fixture(autouse=True, scope="module")
def small_segments() -> Iterator[None]:
    """Let a small file come in many segments; connections come and go as the test says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_file, "WRITE_SIZE", 50)
        patch.setattr(part_file, "NOTE_SIZE", 200)
        patch.setattr(extra, "EXTRA_WRITE_SIZE", 30)
        patch.setattr(extra.ExtraConnections, "adjust", lambda self: None)
        sizes = {"PIECE": 10, "SHORT_SEGMENT": 100, "LONG_SEGMENT": 300, "LEAST_SPLIT": 5}
        for name, value in sizes.items():
            patch.setattr(segments, name, value)
        yield


class Line:
    """What one connection fetches; it stands still until it is told what comes next. Is a `Response`."""

    def __init__(self, stage: Stage, connection: Connection) -> None:
        self.connection = connection
        self.is_busy = False
        self.writer: PartWriter | None = None
        self.disk_is_full = False
        self._stage = stage
        self._stands, self._goes = threading.Semaphore(0), threading.Semaphore(0)
        self._is_cut, self._may_come, self._left = False, 0, memoryview(b"")
        self.status, self.headers = 200, {"ETag": '"tag"'}

    # --- For the test -------------------------------------------------------------------------------

    def ask(self, segment: Segment) -> None:
        """Let it ask for a segment, up to where it waits for the answer."""
        self.is_busy, self._is_cut, self.writer = True, False, None
        connection_thread = threading.Thread(target=self._run, args=(segment,), daemon=True)
        self._stage.lines[connection_thread] = self
        connection_thread.start()
        self._wait()

    def go_on(self, count: int) -> None:
        """Let the answer begin, or so many bytes come."""
        self._may_come = count
        self._goes.release()
        self._wait()

    def cut(self) -> None:
        """Let the connection break."""
        self._is_cut = True
        self.go_on(0)

    def _wait(self) -> None:
        assert self._stands.acquire(timeout=LONG), "a connection hangs"

    # --- In its thread ------------------------------------------------------------------------------

    def get(self, headers: Mapping[str, str]) -> Line:
        first, _, last = headers.get("Range", "bytes=0-").partition("=")[2].partition("-")
        start, end = int(first), int(last or SIZE - 1) + 1
        self._left = memoryview(CONTENT)[start:end]
        self.status = 206 if "Range" in headers else 200
        self.headers["Content-Range"] = f"bytes {start}-{end - 1}/{SIZE}"
        self._stand()
        return self

    def read_into(self, room: memoryview) -> int:
        if not self._left:
            return 0
        self._stand()
        count = min(len(room), len(self._left), self._may_come)
        room[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        pass

    def _stand(self) -> None:
        self._stands.release()
        self._goes.acquire()
        if self._is_cut:
            raise ServiceUnavailable("The connection broke.")

    def _run(self, segment: Segment) -> None:
        try:
            self._stage.fetch(self.connection, segment)
        except MwaClientError:
            pass  # As if the connection had ended, and another had come in its place.
        except BaseException as error:
            self._stage.mistakes.append(error)
        finally:
            self.connection.is_dismissed = False
            self.is_busy = False
            self._stands.release()


class Stage:
    """A download over some connections. It is the download's `Source`."""

    def __init__(self, folder: Path, connections: int) -> None:
        self.lines: dict[threading.Thread, Line] = {}
        self.mistakes: list[BaseException] = []
        self.clock, stop, budget = FastClock(), threading.Event(), ConnectionBudget(connections)
        self.opened = open_part(folder / "x.part", WANTED, stop, self._guard)
        self.part = self.opened.__enter__()
        make = self.part.writer

        def writer(start: int, buffer_size: int = 0) -> PartWriter:
            line = self.lines[threading.current_thread()]
            line.writer = make(start, buffer_size)
            return line.writer

        self.part.writer = writer  # type: ignore[method-assign]
        self.counter = TransferCounter()
        transfers = Transfers(DownloadDirectory(folder, folder), self.clock, stop, lambda event: None, budget)
        throttle = RequestThrottle(self.clock, budget, lambda: "")
        tuner = ConnectionTuner(self.clock, connections)
        self.reader = ParallelReader(
            FetchContext(transfers, WANTED, self, self.part, tuner, throttle, self.counter)
        )
        self.plan, self.lock = self.reader._plan, self.reader._changed
        self.plan.connections += [Connection() for _ in range(connections - 1)]
        self.all = [Line(self, each) for each in self.plan.connections]

    def get(self, headers: Mapping[str, str]) -> Line:
        return self.lines[threading.current_thread()].get(headers)

    def fetch(self, connection: Connection, segment: Segment) -> None:
        """Fetch a segment, as the thread of its connection does."""
        if not connection.is_first:
            self.reader._extra._fetch(connection, segment)
            return
        end = self.reader.end_of_request(segment)
        try:
            with ranges.open_range(self, segment.position, SIZE, "", end=end) as reply:
                self.reader.claim(segment, reply)
                self.reader.receive(segment, reply)
        finally:
            self.reader.release(segment)

    def _guard(self) -> None:
        line = self.lines.get(threading.current_thread())
        if line is not None and line.disk_is_full:
            line.disk_is_full = False
            raise DiskFull("There is no room left.", "Make room.")

    # --- For the test -------------------------------------------------------------------------------

    def ask(self, number: int, sharers: int = 0) -> bool:
        """Let a connection ask for what it is to fetch; say whether there was anything."""
        line = self.all[number]
        with self.lock:
            is_alone = number == 0 and not any(each.is_busy for each in self.all)
            if number:
                self.plan.limit_first(sharers or len(self.all))
            segment = self.plan.choose(line.connection, sharers or len(self.all), takes_all=is_alone)
        if segment is not None:
            line.ask(segment)
            self.assert_sound()
        return segment is not None

    def go_on(self, number: int, count: int = 0) -> None:
        """Let a connection be answered, or so many bytes come on it, or let it ask for more."""
        line = self.all[number]
        if line.is_busy:
            line.go_on(count)
            self.assert_sound()
        else:
            self.ask(number)

    def cut(self, number: int, *, disk_is_full: bool = False) -> None:
        """Let a connection break; what it has in memory perhaps cannot be written."""
        line = self.all[number]
        if line.is_busy:
            # The first connection could not go on then.
            line.disk_is_full = disk_is_full and number > 0
            line.cut()
            self.assert_sound()

    def finish(self) -> None:
        """Let all connections go on until all is here, and look at it."""
        for _ in range(SIZE):
            if self.plan.is_complete and not any(line.is_busy for line in self.all):
                break
            for number in range(len(self.all)):
                self.clock.advance(0.01)
                self.go_on(number, 7)
        else:
            raise AssertionError("it never ends")
        assert self.part.sha1() == WANTED.sha1
        assert self.counter.present == self.part.present == self.part.length == SIZE
        assert self.plan.left == 0

    def close(self) -> None:
        """End all threads."""
        for line in self.all:
            if line.is_busy:
                line.cut()
        self.reader.close()
        self.opened.__exit__(None, None, None)

    def assert_sound(self) -> None:
        """Every byte is in one place: written, in memory, on its way to one connection, or left to all."""
        assert not self.mistakes, self.mistakes
        places = [*self.plan.free]
        places += [(each.position, each.end) for each in self.plan._segments if each.is_held]
        writers = [line.writer for line in self.all if line.is_busy and line.writer is not None]
        places += [(each.written, each.position) for each in writers]
        gaps = [(start, end or SIZE) for start, end in self.part.gaps]
        places += zip([0, *(end for _, end in gaps)], [*(start for start, _ in gaps), SIZE])
        places = sorted(each for each in places if each[0] < each[1])
        assert [start for start, _ in places] == [0, *(end for _, end in places[:-1])], places
        assert places[-1][1] == SIZE
        there = self.part._path.read_bytes()
        for start, end in gaps:
            there = there[:start] + CONTENT[start:end] + there[end:]
        assert there == CONTENT


@pytest.fixture
def stage_of(tmp_path: Path) -> Iterator[Callable[[int], Stage]]:
    stages: list[Stage] = []

    def make(connections: int) -> Stage:
        stages.append(Stage(tmp_path, connections))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


@pytest.mark.parametrize(
    ("answer", "left", "length"),
    # In rounds as short as answers are quick, towards the end as well; else all is shared out at once.
    [(0.0, SIZE, 50), (0.0, 40, 10), (0.2, SIZE, 130), (0.2, 40, 100)],
)
def test_segments_are_short_where_answers_take_no_time(
    clock: FastClock, monkeypatch: pytest.MonkeyPatch, answer: float, left: int, length: int
) -> None:
    monkeypatch.setattr(segments, "QUICK_SEGMENT", 50)
    counter = TransferCounter()
    plan = SegmentPlan(clock, counter, SIZE, [(SIZE - left, SIZE)], Connection(is_first=True))
    # The first request finds out.
    assert plan.length(8) == 50
    counter.has_answer, counter.answer_time, counter.shortest_answer = True, 3 * answer, answer
    assert plan.length(8) == length


def test_the_slowest_gives_a_part_away_though_who_has_taken_one_is_slow_as_well(clock: FastClock) -> None:
    counter = TransferCounter(has_answer=True, answer_time=0.03, shortest_answer=0.01)
    slow, less_slow, quick = Connection(is_first=True, rate=2.0), Connection(rate=4.0), Connection(rate=9e6)
    plan = SegmentPlan(clock, counter, SIZE, [(0, SIZE)], slow)

    def take(connection: Connection) -> Segment:
        segment = plan.choose(connection, 1, takes_all=connection.is_first)
        assert segment is not None
        plan.claim(segment)
        return segment

    whole = take(slow)
    assert take(less_slow).taken_from is whole
    less_slow.rate = 400.0
    assert take(quick).taken_from is whole
    assert whole.left < 10


def split(stage: Stage, fetched_by: int, asked_by: int) -> tuple[Segment, Segment]:
    """Let a connection ask for the end of what another fetches; return what both are to fetch."""
    stage.ask(fetched_by, sharers=1)
    stage.go_on(fetched_by)
    for _ in range(2):
        stage.go_on(fetched_by, 10)
        stage.clock.advance(0.3)
    while stage.ask(asked_by):
        theirs = stage.plan._segments[-1].taken_from
        if theirs is not None:
            return theirs, stage.plan._segments[-1]
        while stage.all[asked_by].is_busy:
            stage.go_on(asked_by, SIZE)
    raise AssertionError("there is nothing to be split")


def go_up_to(stage: Stage, number: int, segment: Segment, position: int) -> None:
    """Let a connection receive its segment up to a position."""
    while segment.position < position:
        stage.go_on(number, position - segment.position)


def test_the_first_connection_is_answered_when_another_has_gone_into_its_part(
    stage_of: Callable[[int], Stage],
) -> None:
    stage = stage_of(2)
    theirs, mine = split(stage, fetched_by=1, asked_by=0)
    start = mine.position
    go_up_to(stage, 1, theirs, start + 20)
    stage.go_on(0)
    # The twenty come once more; they are not written behind where they belong.
    stage.go_on(0, 30)
    assert mine.position == start + 30
    stage.finish()


def test_who_breaks_before_its_part_gives_back_nothing_of_anothers(stage_of: Callable[[int], Stage]) -> None:
    stage = stage_of(3)
    theirs, _ = split(stage, fetched_by=1, asked_by=0)
    stage.cut(0)
    assert stage.ask(2)
    start = stage.plan._segments[-1].position
    go_up_to(stage, 1, theirs, start + 20)
    stage.go_on(2)
    stage.go_on(2, 10)
    stage.cut(2)
    assert all(first >= theirs.position for first, _ in stage.plan.free)
    stage.finish()


def test_the_first_connection_has_dropped_bytes_when_its_end_is_given_back(
    stage_of: Callable[[int], Stage],
) -> None:
    stage = stage_of(2)
    theirs, mine = split(stage, fetched_by=0, asked_by=1)
    go_up_to(stage, 0, theirs, mine.position + 5)
    stage.go_on(1)
    stage.go_on(1, 6)
    assert not theirs.left
    # The other cannot write what it has; meanwhile the first has read on, and had no place for it.
    stage.cut(1, disk_is_full=True)
    stage.go_on(0, 3)
    stage.go_on(0, 3)
    stage.finish()


@pytest.mark.parametrize("seed", range(40))
def test_every_byte_has_one_place_whatever_happens(stage_of: Callable[[int], Stage], seed: int) -> None:
    dice = random.Random(seed)
    connections = dice.randint(1, 4)
    stage = stage_of(connections)
    trouble, pause = dice.choice([0.0, 0.02, 0.2]), dice.choice([0.02, 0.1, 0.5])
    for _ in range(150):
        stage.clock.advance(dice.uniform(0.0, pause))
        number = dice.randrange(connections)
        if dice.random() < trouble:
            stage.cut(number, disk_is_full=dice.random() < 0.5)
        else:
            stage.go_on(number, dice.choice([1, 5, 10, 20, 40]))
    stage.finish()


@pytest.mark.parametrize("must_be_opened", [False, True])
def test_what_is_soon_done_is_not_given_to_a_line_that_must_be_opened_first(must_be_opened: bool) -> None:
    """At 300 ms that took a second and a half, for what the slower one would have had in one."""
    clock, counter = FastClock(), TransferCounter(answer_time=0.9, shortest_answer=0.3, has_answer=True)
    busy, idle = Connection(is_first=True), Connection()
    plan = SegmentPlan(clock, counter, 2000, [(0, None)], busy)
    own = plan.choose(busy, 1, takes_all=True)
    assert own is not None
    plan.claim(own)
    busy.rate, busy.last_byte_at = 1000.0, clock.monotonic()
    idle.must_be_opened = must_be_opened
    taken = plan.choose(idle, 2)
    assert (taken is None) is must_be_opened  # The two seconds that are left, less two answers.
    plan.connections.append(idle)
    busy.rate = 100.0  # Then it is worth while all the same.
    assert plan.choose(idle, 2) is not None or taken is not None
