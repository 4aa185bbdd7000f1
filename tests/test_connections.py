"""Bytes in order from several connections: whatever the server does to some of them, the file is right."""

from __future__ import annotations

import hashlib
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import pytest
from conftest import FastClock, service_of, wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mwa_client.asvo import open_session
from mwa_client.asvo.job import ProductFile
from mwa_client.errors import JobFailed, ServiceUnavailable, Stopped
from mwa_client.sandbox import JobState, Sandbox
from mwa_client.transfer import ahead as ahead_module
from mwa_client.transfer import partial, product, ranges
from mwa_client.transfer.ahead import ReadAhead
from mwa_client.transfer.connections import FIRST_REST, MEASURE, Connections, Growth
from mwa_client.transfer.files import FetchedFile, Place
from mwa_client.transfer.partial import Wanted
from mwa_client.transfer.product import Setback, TransferEvent, fetch

SIZE = 4000
CONTENT = bytes(number * 7 % 251 for number in range(SIZE))
CHANGED = bytes(reversed(CONTENT))
ETAG = '"right"'
PIECE = 100
WANTED = Wanted(10001, "1191828584_ms.zip", SIZE, hashlib.sha1(CONTENT).hexdigest())


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> Iterator[None]:
    """Let a small file come in many pieces, over as many connections as there may be."""

    def advice(self: Growth, lines: int, *measured: float) -> int:
        return 1

    def add_line(self: ReadAhead) -> None:
        first = not self._running
        plain_add_line(self)
        if first:
            # However fast the one connection is: let the others have their chance.
            wait_until(lambda: self.is_flowing or self._has_ended())

    plain_add_line = ReadAhead.add_line
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Growth, "advice", advice)
        patch.setattr(ReadAhead, "add_line", add_line)
        patch.setattr(partial, "WRITE_SIZE", 50)
        patch.setattr(ahead_module, "PIECE", PIECE)
        patch.setattr(ahead_module, "WORTHWHILE", 10)
        patch.setattr(product, "PIECE", PIECE)
        patch.setattr(product, "LEAST_AHEAD", 3 * PIECE)
        yield


# --- A server in memory ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """What the server does with one request for a piece. The default is good behaviour."""

    status: int | None = None
    cut_after: int | None = None
    content: bytes = CONTENT
    etag: str = ETAG
    heeds_range: bool = True
    content_range: str = "bytes {start}-{last}/{size}"
    stop: bool = False


GOOD = Step()


@dataclass
class Server:
    """Is a `Source`: the first request, for the whole file, is answered well; the next by these steps."""

    steps: Sequence[Step] = ()
    then: Step = GOOD
    most_open: int | None = None
    """Refuse more connections than these."""
    asked: list[tuple[int, int]] = field(default_factory=list)
    opened: int = 0
    peak: int = 0
    sent: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    hold: Callable[[int], bool] = lambda start: False
    """Whether the bytes from there on do not come."""

    def get(self, headers: Mapping[str, str]) -> Answer:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("Range", ""))
        with self.lock:
            number = len(self.asked)
            start, end = (int(match[1]), int(match[2] or SIZE - 1) + 1) if match else (0, SIZE)
            self.asked.append((start, end))
            step = self.steps[number - 1] if 0 < number <= len(self.steps) else self.then if number else GOOD
            self.opened += 1
            self.peak = max(self.peak, self.opened)
            is_refused = self.most_open is not None and self.opened > self.most_open
        if step.stop:
            self.stop.set()
        if headers.get("If-Range", step.etag) != step.etag:
            match = None
        return Answer(self, Step(status=503) if is_refused else step, start, end, match is not None)


class Answer:
    """Is an `Answer` of the transfer's."""

    def __init__(self, server: Server, step: Step, start: int, end: int, is_range: bool) -> None:
        is_part = is_range and step.heeds_range
        if not is_part:
            start, end = 0, SIZE
        self._server, self._start = server, start
        self._left = step.content[start:end]
        self._to_come = len(self._left) if step.cut_after is None else step.cut_after
        self._is_closed = False
        self.status = step.status or (206 if is_part else 200)
        self.headers = {"ETag": step.etag, "Accept-Ranges": "bytes", "Content-Length": str(len(self._left))}
        if is_part:
            told = step.content_range.format(start=start, last=end - 1, size=SIZE, later=start + 1)
            self.headers["Content-Range"] = told

    def read_into(self, room: memoryview) -> int | None:
        if self._left and self._server.hold(self._start):
            return None
        if self._left and not self._to_come:
            raise ServiceUnavailable("The connection broke.")
        count = min(len(room), len(self._left), self._to_come, 30)
        room[:count] = self._left[:count]
        self._left, self._to_come = self._left[count:], self._to_come - count
        with self._server.lock:
            self._server.sent += count
        return count

    def close(self) -> None:
        with self._server.lock:
            self._server.opened -= not self._is_closed
            self._is_closed = True


class Scene:
    """A directory, and what is told."""

    def __init__(self, directory: Path) -> None:
        self.place = Place(directory, directory / ".mwa_client")
        self.place.memory.mkdir(exist_ok=True)
        self.final = directory / WANTED.name
        self.part = self.place.part(WANTED.name)
        self.clock = FastClock()
        self.events: list[TransferEvent] = []

    def fetch(self, server: Server, connections: int = 4, **changes: Any) -> FetchedFile:
        budget = Connections(connections)
        wanted = Wanted(**{**vars(WANTED), **changes})
        try:
            return fetch(wanted, server, self.place, self.clock, server.stop, self.events.append, budget)
        finally:
            wait_until(lambda: budget._free == connections)
            assert server.opened == 0
            assert server.peak <= connections

    def assert_right(self, file: FetchedFile) -> None:
        assert self.final.read_bytes() == CONTENT
        assert (file.size, file.verified) == (SIZE, True)
        assert list(self.place.memory.iterdir()) == []
        assert not [event for event in self.events if isinstance(event, Setback)]
        assert self.clock.slept == []


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


# --- In order ----------------------------------------------------------------------------------------


def test_pieces_from_several_connections_make_the_file(scene: Scene) -> None:
    server = Server()
    file = scene.fetch(server)
    scene.assert_right(file)
    assert server.peak >= 2
    assert server.asked[0] == (0, SIZE)
    pieces = sorted(server.asked[1:])
    assert all(end - start <= PIECE for start, end in pieces)
    # Each byte behind the beginning is asked for once.
    assert [end for _, end in pieces] == [*[start for start, _ in pieces[1:]], SIZE]
    assert file.fetched == server.sent


def test_one_connection_is_one_request(scene: Scene) -> None:
    server = Server()
    scene.assert_right(scene.fetch(server, connections=1))
    assert server.asked == [(0, SIZE)]


def test_a_small_product_is_one_request(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "LEAST_AHEAD", SIZE)
    server = Server()
    scene.assert_right(scene.fetch(server))
    assert server.asked == [(0, SIZE)]


def test_what_cannot_be_told_apart_is_not_mixed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    monkeypatch.setattr(ranges, "_strong_etag", lambda headers: "")
    scene.fetch(server, sha1=None)
    assert server.asked == [(0, SIZE)]
    assert scene.final.read_bytes() == CONTENT


def read_all(reader: ReadAhead, stop: threading.Event) -> bytes:
    return b"".join(bytes(data) for data in reader.read(stop))


def started(server: Server, clock: FastClock, lines: int, start: int = 1) -> ReadAhead:
    server.asked.append((0, 0))  # The one for the whole file.
    connections = Connections(lines)
    reader = ReadAhead(server, start, SIZE, ETAG, connections, clock)
    for _ in range(lines):
        assert connections.take_another()
        reader.add_line()
    return reader


@pytest.mark.parametrize("lines", [1, 2, 8])
def test_the_reader_gives_the_bytes_in_order(clock: FastClock, lines: int) -> None:
    server = Server()
    assert read_all(started(server, clock, lines), server.stop) == CONTENT[1:]


def test_memory_is_bounded(clock: FastClock) -> None:
    server = Server()
    reader = started(server, clock, 4)
    # Nobody reads: the lines fetch what may wait, and then they wait.
    wait_until(lambda: reader.arrived == 4 * ahead_module.PIECES_A_LINE * PIECE)
    assert len(reader._window) == 4 * ahead_module.PIECES_A_LINE
    assert read_all(reader, server.stop) == CONTENT[1:]


def test_one_line_that_is_left_over_only_finishes_what_is_begun(clock: FastClock) -> None:
    server = Server()
    reader = started(server, clock, 3)
    reader.drop_lines(2)
    data = read_all(reader, server.stop)
    assert data == CONTENT[1 : 1 + len(data)]
    assert len(data) < SIZE - 1


# --- What goes wrong on some connections --------------------------------------------------------------


def test_a_piece_that_lags_is_asked_for_elsewhere(clock: FastClock) -> None:
    lagging: list[int] = []

    def hold(start: int) -> bool:
        # The first who asks for it gets only the beginning.
        if start == 1 and server.sent and (not lagging or lagging[0] == threading.get_ident()):
            lagging[:] = [threading.get_ident()]
            clock.advance(0.1)
            return True
        return False

    server = Server(hold=hold)
    data = read_all(started(server, clock, 3), server.stop)
    assert data == CONTENT[1:]
    assert [end for _, end in server.asked].count(1 + PIECE) >= 2


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_server_that_refuses_more_connections_gets_fewer(scene: Scene, most: int) -> None:
    server = Server(most_open=most)
    scene.fetch(server, connections=6)
    assert scene.final.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 429, 503])
def test_a_refusal_of_one_piece_costs_nothing(scene: Scene, status: int) -> None:
    server = Server([GOOD, GOOD, Step(status=status)])
    scene.assert_right(scene.fetch(server))


@pytest.mark.parametrize(
    "wrong",
    [
        "bytes {later}-{last}/{size}",
        "bytes {start}-{last}/9",
        "bytes {start}-{size}/{size}",
        "bytes {start}-{start}/{size}",
        "nonsense",
        "",
    ],
)
def test_a_wrong_content_range_on_one_piece(scene: Scene, wrong: str) -> None:
    server = Server([GOOD, GOOD, GOOD, Step(content_range=wrong)])
    scene.assert_right(scene.fetch(server))


@pytest.mark.parametrize("after", [0, 1, 30, 99])
def test_a_piece_that_is_cut_is_completed(scene: Scene, after: int) -> None:
    server = Server([GOOD, *3 * [Step(cut_after=after)]])
    file = scene.fetch(server)
    scene.assert_right(file)
    assert file.fetched == server.sent


def test_a_server_without_ranges_gets_one_connection(scene: Scene) -> None:
    server = Server(then=Step(heeds_range=False))
    scene.assert_right(scene.fetch(server))
    # It said that it has ranges; the connection that was there went on.
    assert server.asked[0] == (0, SIZE)


def test_another_tag_between_pieces_starts_again(scene: Scene) -> None:
    changed = Step(content=CHANGED, etag='"other"')
    server = Server([GOOD, GOOD, GOOD], then=changed)
    file = scene.fetch(server, sha1=hashlib.sha1(CHANGED).hexdigest())
    assert file.verified
    assert scene.final.read_bytes() == CHANGED


def test_a_change_that_the_server_hides_is_noticed(scene: Scene) -> None:
    server = Server([GOOD, GOOD, Step(content=CHANGED)])
    scene.assert_right(scene.fetch(server))
    assert server.asked.count((0, SIZE)) == 2


# --- Stopping and going on ----------------------------------------------------------------------------


def test_stopped_in_the_middle_and_continued(scene: Scene) -> None:
    server = Server([*5 * [GOOD], Step(stop=True)])
    server.hold = lambda start: server.stop.is_set()
    with pytest.raises(Stopped):
        scene.fetch(server)
    kept = scene.part.read_bytes()
    assert 0 < len(kept) < SIZE
    assert kept == CONTENT[: len(kept)]
    server.stop.clear()
    asked = len(server.asked)
    file = scene.fetch(server)
    scene.assert_right(file)
    assert server.asked[asked] == (len(kept), SIZE)
    assert file.fetched == SIZE - len(kept)


def test_stopped_while_nothing_comes(scene: Scene) -> None:
    def hold(start: int) -> bool:
        if start > 5 * PIECE:
            server.stop.set()
            return True
        return False

    server = Server(hold=hold)
    with pytest.raises(Stopped):
        scene.fetch(server)
    kept = scene.part.read_bytes()
    assert kept == CONTENT[: len(kept)]


def test_a_mistake_in_this_program_is_not_hidden(clock: FastClock) -> None:
    def hold(start: int) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read_all(started(Server(hold=hold), clock, 2), threading.Event())


# --- Whatever happens ---------------------------------------------------------------------------------

steps = st.one_of(
    st.just(GOOD),
    st.builds(Step, cut_after=st.integers(0, PIECE)),
    st.builds(Step, status=st.sampled_from([403, 404, 416, 429, 500, 503])),
    st.builds(Step, content_range=st.sampled_from(["bytes {later}-{last}/{size}", "", "bytes 0-1/2"])),
    st.just(Step(heeds_range=False)),
    st.just(Step(content=CHANGED)),
    st.just(Step(content=CHANGED, etag='"other"')),
    st.just(Step(stop=True)),
)


@settings(
    max_examples=120,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(steps, max_size=30), st.integers(1, 5))
def test_the_right_file_or_none(misfortunes: list[Step], connections: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder))
        server = Server(misfortunes)
        try:
            scene.fetch(server, connections)
        except (JobFailed, Stopped):
            assert not scene.final.exists()
        else:
            assert scene.final.read_bytes() == CONTENT
            return
        assert scene.fetch(Server(), connections).verified
        assert scene.final.read_bytes() == CONTENT


# --- Over real sockets, and over all downloads ----------------------------------------------------------


class Counting:
    """Counts how many answers of a source are open at a time, together with those of other sources."""

    def __init__(self, source: ranges.Source, opened: list[int], lock: threading.Lock) -> None:
        self._source, self._opened, self._lock = source, opened, lock

    def get(self, headers: Mapping[str, str]) -> ranges.Answer:
        with self._lock:
            self._opened.append(self._opened[-1] + 1)
        answer = self._source.get(headers)
        close = answer.close

        def close_and_count() -> None:
            close()
            with self._lock:
                self._opened.append(self._opened[-1] - 1)

        answer.close = close_and_count  # type: ignore[method-assign]
        return answer


def test_all_downloads_share_the_connections(clock: FastClock, tmp_path: Path) -> None:
    lock, opened, results = threading.Lock(), [0], {}
    budget, stop = Connections(3), threading.Event()
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(clock=clock.now, product_size=lambda job: SIZE))
        session = stack.enter_context(closing(open_session(service_of(sandbox))))
        jobs = [sandbox.service.add({"obs_id": "1191828584"}, state=JobState.READY) for _ in range(5)]
        place = Place(tmp_path, tmp_path / ".mwa_client")
        place.memory.mkdir()

        def work(number: int) -> None:
            job = jobs[number]
            source = session.source(job.id, ProductFile(job.file_name, SIZE, job.content.sha1))
            wanted = Wanted(job.id, f"{number}.zip", SIZE, job.content.sha1)
            counting = Counting(source, opened, lock)
            results[number] = fetch(wanted, counting, place, clock, stop, lambda event: None, budget)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        downloads = [entry for entry in sandbox.requests if entry.path == "/api/download"]
    assert [results[number].verified for number in range(5)] == 5 * [True]
    assert max(opened) <= 3
    assert {entry.status for entry in downloads} <= {200, 206}
    assert any(re.fullmatch(r"bytes=\d+-\d+", entry.range or "") for entry in downloads)


def test_a_connection_is_waited_for_and_the_wait_can_be_stopped() -> None:
    connections, stop = Connections(1), threading.Event()
    connections.take(stop)
    assert not connections.take_another()
    stop.set()
    with pytest.raises(Stopped):
        connections.take(stop)
    connections.give_back()
    connections.take(stop)


def test_who_has_several_gives_way_to_who_has_none() -> None:
    connections, stop = Connections(2), threading.Event()
    connections.take(stop)
    assert connections.take_another()
    waiting = threading.Thread(target=connections.take, args=(stop,))
    waiting.start()
    wait_until(lambda: connections.is_short)
    connections.give_back()
    waiting.join(10)
    assert not connections.is_short
    assert not connections.take_another()


# --- How many ------------------------------------------------------------------------------------------


class Link:
    """A link on which so many connections help; asks for advice as a download does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, useful: float, waiting: float = 1.0) -> None:
        monkeypatch.setattr(Growth, "advice", ADVICE)
        self.clock = FastClock()
        self.growth = Growth(self.clock)
        self.lines, self.arrived, self.waited = 1, 0, 0.0
        self._useful, self._waiting = useful, waiting

    def pass_time(self, seconds: float) -> list[int]:
        seen = []
        for _ in range(int(seconds / MEASURE)):
            self.clock.advance(MEASURE)
            self.waited += self._waiting * MEASURE
            self.arrived += int(1e7 * min(self.lines, self._useful) * MEASURE)
            self.lines += self.growth.advice(self.lines, self.arrived, self.waited)
            seen.append(self.lines)
        return seen


ADVICE = Growth.advice


def test_connections_double_while_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Link(monkeypatch, useful=8).pass_time(2.5)[-1] >= 8


def test_connections_that_do_not_help_go(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link(monkeypatch, useful=1)
    assert max(link.pass_time(FIRST_REST)) == 2
    assert link.lines == 1
    # Later it is tried again, and ever more seldom.
    assert link.pass_time(1000).count(2) < 20


def test_on_a_link_that_serves_three(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(Link(monkeypatch, useful=3).pass_time(600)[-100:]) <= {3, 4, 5}


def test_where_this_machine_is_the_limit_none_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(Link(monkeypatch, useful=8, waiting=0.5).pass_time(60)) == {1}


def test_a_clock_that_stands_still_gives_no_advice(monkeypatch: pytest.MonkeyPatch, clock: FastClock) -> None:
    monkeypatch.setattr(Growth, "advice", ADVICE)
    growth = Growth(clock)
    assert [growth.advice(1, 1000 * number, 0.0) for number in range(100)] == 100 * [0]
