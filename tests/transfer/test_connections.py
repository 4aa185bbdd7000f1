"""Bytes in order from several connections: whatever the server does to some of them, the file is right."""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared import FastClock, service_of, wait_until

from mwa_client.asvo import open_session
from mwa_client.asvo.job import ProductFile
from mwa_client.errors import (
    JobFailed,
    LoginRefused,
    MwaClientError,
    ProductGone,
    ServiceUnavailable,
    Stopped,
    TransferFailed,
)
from mwa_client.sandbox import JobState, Sandbox
from mwa_client.transfer import extra, part_file, part_note, ranges, segments, tuner
from mwa_client.transfer.connections import ConnectionBudget
from mwa_client.transfer.download import Downloader
from mwa_client.transfer.events import Setback, TransferEvent
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile, FetchedFile
from mwa_client.transfer.part_file import open_part
from mwa_client.transfer.throttle import FIRST_TROUBLE, LAST_TROUBLE, SERVED, RequestThrottle
from mwa_client.transfer.tuner import FIRST_REST, ConnectionTuner, Measured

SIZE = 4000
CONTENT = bytes(number * 7 % 251 for number in range(SIZE))
CHANGED = bytes(reversed(CONTENT))
ETAG = '"right"'
PIECE = 100
WANTED = ExpectedFile(10001, "1191828584_ms.zip", SIZE, hashlib.sha1(CONTENT).hexdigest())
UPDATE = ConnectionTuner.update


@pytest.fixture(autouse=True, scope="module")
def small_segments() -> Iterator[None]:
    """Let a small file come in many segments, over as many connections as there may be."""

    def update(self: ConnectionTuner, seen: Measured) -> None:
        if not self._has_begun and seen.left >= tuner.LEAST_AHEAD:
            self.expect_long_line(seen.left)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConnectionTuner, "update", update)
        patch.setattr(part_file, "WRITE_SIZE", 50)
        patch.setattr(part_file, "NOTE_SIZE", 200)
        patch.setattr(tuner, "LEAST_EACH", 1)
        patch.setattr(tuner, "LEAST_AHEAD", 300)
        for name, value in {
            "PIECE": 10,
            "SHORT_SEGMENT": PIECE,
            "LONG_SEGMENT": PIECE,
            "LEAST_SPLIT": 20,
        }.items():
            patch.setattr(segments, name, value)
        patch.setattr(extra, "EXTRA_WRITE_SIZE", 50)
        patch.setattr(extra, "ADJUST_INTERVAL", -1.0)
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
    first: Step = GOOD
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
    others_first: bool = True
    """Whether the first connection waits a moment for another one."""
    waited: int = 0

    def get(self, headers: Mapping[str, str]) -> Answer:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("Range", ""))
        with self.lock:
            number = len(self.asked)
            start, end = (int(match[1]), int(match[2] or SIZE - 1) + 1) if match else (0, SIZE)
            self.asked.append((start, end))
            step = self.steps[number - 1] if 0 < number <= len(self.steps) else self.then
            step = step if number else self.first
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
        self._number = len(server.asked) - 1
        self.status = step.status or (206 if is_part else 200)
        self.headers = {"ETag": step.etag, "Accept-Ranges": "bytes", "Content-Length": str(len(self._left))}
        if is_part:
            told = step.content_range.format(start=start, last=end - 1, size=SIZE, later=start + 1)
            self.headers["Content-Range"] = told

    def read_into(self, room: memoryview) -> int | None:
        if self._left and (self._server.hold(self._start) or self._waits()):
            time.sleep(0.001)
            return None
        if self._left and not self._to_come:
            raise ServiceUnavailable("The connection broke.")
        count = min(len(room), len(self._left), self._to_come, 30)
        room[:count] = self._left[:count]
        self._left, self._to_come = self._left[count:], self._to_come - count
        with self._server.lock:
            self._server.sent += count
        return count

    def _waits(self) -> bool:
        """However fast the first connection is: let the others have their chance."""
        server = self._server
        if not server.others_first or self._number or not server.sent or len(server.asked) > 1:
            return False
        server.waited += 1
        return server.waited < 100

    def close(self) -> None:
        with self._server.lock:
            self._server.opened -= not self._is_closed
            self._is_closed = True


class Scene:
    """A directory, and what is told."""

    def __init__(self, directory: Path) -> None:
        self.place = DownloadDirectory(directory, directory / ".mwa_client")
        self.place.state_dir.mkdir(exist_ok=True)
        self.final = directory / WANTED.name
        self.part = self.place.part(WANTED.name)
        self.clock = FastClock()
        self.events: list[TransferEvent] = []

    def fetch(self, server: Server, connections: int = 4, **changes: Any) -> FetchedFile:
        budget = ConnectionBudget(connections)
        server.others_first = server.others_first and connections > 1
        wanted = ExpectedFile(**{**vars(WANTED), **changes})
        try:
            return Downloader(self.place, self.clock, server.stop, self.events.append, budget).fetch(
                wanted, server
            )
        finally:
            wait_until(lambda: budget._free == connections)
            assert server.opened == 0
            assert server.peak <= connections

    def leave(self, length: int) -> None:
        """Let an earlier run have fetched so many bytes."""
        with open_part(self.part, WANTED, threading.Event()) as part:
            part.append(CONTENT[:length])

    def assert_right(self, file: FetchedFile, *, is_told: bool = False) -> None:
        assert self.final.read_bytes() == CONTENT
        assert (file.size, file.verified) == (SIZE, True)
        assert list(self.place.state_dir.iterdir()) == []
        assert is_told or not [event for event in self.events if isinstance(event, Setback)]
        # Where the others have just finished, one that was refused is the last, and waits for a moment.
        assert sum(self.clock.slept) <= 1.0


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


# --- Each to its place -------------------------------------------------------------------------------


def test_segments_from_several_connections_make_the_file(scene: Scene) -> None:
    server = Server()
    file = scene.fetch(server)
    scene.assert_right(file)
    assert server.peak >= 2
    assert server.asked[0] == (0, SIZE)
    assert len(server.asked) >= 3
    # What comes too late is not counted.
    assert SIZE <= file.fetched <= server.sent


def test_one_connection_is_one_request(scene: Scene) -> None:
    server = Server()
    scene.assert_right(scene.fetch(server, connections=1))
    assert server.asked == [(0, SIZE)]


def test_a_small_product_is_one_request(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuner, "LEAST_AHEAD", SIZE + 1)
    server = Server(others_first=False)
    scene.assert_right(scene.fetch(server))
    assert server.asked == [(0, SIZE)]


@pytest.mark.parametrize(("downloads", "asked"), [(1, SIZE // 4), (2, SIZE // 2), (8, SIZE)])
def test_of_much_the_first_connection_asks_for_its_part(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, downloads: int, asked: int
) -> None:
    monkeypatch.setattr(extra, "MUCH", SIZE)
    monkeypatch.setattr(segments, "LONG_SEGMENT", SIZE)
    server, budget = Server(others_first=False), ConnectionBudget(4)
    with ExitStack() as others:
        for number in range(1, downloads):
            others.enter_context(budget.joined(number))
        file = Downloader(scene.place, scene.clock, server.stop, scene.events.append, budget).fetch(
            WANTED, server
        )
    scene.assert_right(file)
    # It ends there, so that the connection can be used again.
    assert server.asked[0] == (0, asked)


def test_what_cannot_be_told_apart_is_not_mixed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(others_first=False)
    monkeypatch.setattr(ranges, "_strong_etag", lambda headers: "")
    scene.fetch(server, sha1=None)
    assert server.asked == [(0, SIZE)]
    assert scene.final.read_bytes() == CONTENT


# --- An optional connection hurts nobody ---------------------------------------------------------------


def test_others_take_over_from_a_first_connection_that_trickles(scene: Scene) -> None:
    server = Server()

    def hold(start: int) -> bool:
        if start == 0 and server.sent > 200:
            scene.clock.advance(0.5)  # It brings nothing, and time passes.
            return True
        return False

    server.hold = hold
    scene.assert_right(scene.fetch(server))


def test_a_server_that_never_answers_further_connections(scene: Scene) -> None:
    answered = threading.Event()

    class Silent(Server):
        def get(self, headers: Mapping[str, str]) -> Answer:
            if len(self.asked) >= 1:
                self.asked.append((0, 0))
                assert answered.wait(20)
                raise ServiceUnavailable("No answer in time.")
            return super().get(headers)

    server = Silent()
    threading.Timer(0.3, answered.set).start()
    scene.assert_right(scene.fetch(server))
    # The stream that flows is not given up for what nobody brings.
    assert server.asked[0] == (0, SIZE)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_without_threads_one_connection_does(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def start(self: threading.Thread) -> None:
        raise error

    monkeypatch.setattr(threading.Thread, "start", start)
    scene.part.write_bytes(CONTENT[:500])
    server = Server(others_first=False)
    scene.assert_right(scene.fetch(server))
    assert server.asked == [(0, SIZE)]


def test_where_there_is_no_memory_for_more_the_server_is_not_asked_again_and_again(scene: Scene) -> None:
    server = Server(others_first=False)

    def hold(start: int) -> bool:
        if threading.current_thread() is not threading.main_thread():
            raise MemoryError
        time.sleep(0.001)  # The others have their chance.
        return False

    server.hold = hold
    scene.assert_right(scene.fetch(server))
    assert server.asked[0] == (0, SIZE)
    assert len(server.asked) <= 4


def test_without_memory_to_spare_one_connection_does(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "has_spare_memory", lambda: False)
    server = Server(others_first=False)
    scene.assert_right(scene.fetch(server))
    assert server.asked == [(0, SIZE)]


def test_where_the_first_has_no_memory_beside_others_it_goes_on_alone(scene: Scene) -> None:
    server, failed = Server(), []

    def hold(start: int) -> bool:
        if threading.current_thread() is threading.main_thread() and server.opened > 1:
            failed.append(start)
            raise MemoryError
        return False

    server.hold = hold
    scene.assert_right(scene.fetch(server))
    assert len(failed) == 1


def test_where_there_is_no_memory_for_one_connection_it_is_said(scene: Scene) -> None:
    def hold(start: int) -> bool:
        raise MemoryError

    with pytest.raises(MemoryError):
        scene.fetch(Server(hold=hold))


def test_without_descriptors_one_connection_does(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "DESCRIPTORS", 1 << 20)
    server = Server(others_first=False)
    scene.assert_right(scene.fetch(server))
    assert server.asked == [(0, SIZE)]


@pytest.mark.parametrize("error", [ProductGone("gone"), TransferFailed("refused"), LoginRefused("no")])
def test_a_link_that_has_expired_meanwhile_does_not_stop_the_stream(
    scene: Scene, error: MwaClientError
) -> None:
    class Expired(Server):
        def get(self, headers: Mapping[str, str]) -> Answer:
            answer = super().get(headers)
            if len(self.asked) > 1:
                answer.close()
                raise error
            return answer

    server = Expired()
    scene.assert_right(scene.fetch(server))
    assert server.asked[0] == (0, SIZE)


# --- What goes wrong on some connections --------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_server_that_refuses_more_connections_gets_fewer(scene: Scene, most: int) -> None:
    server = Server(most_open=most)
    scene.fetch(server, connections=6)
    assert scene.final.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 429, 503])
def test_a_refusal_of_one_segment_costs_nothing(scene: Scene, status: int) -> None:
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
    # It is told where the first connection is the quickest, and meets it.
    scene.assert_right(scene.fetch(server), is_told=True)


@dataclass
class Odd(Server):
    """Changes each answer to a request for a range, which is all right as far as its headers say."""

    change: Callable[[Answer], None] = lambda answer: None

    def get(self, headers: Mapping[str, str]) -> Answer:
        answer = super().get(headers)
        if answer.status == 206:
            self.change(answer)
        return answer


def test_a_server_that_heeds_only_where_a_range_begins(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "MUCH", 1)

    def go_on(answer: Answer) -> None:
        answer._left = CONTENT[answer._start :]
        answer._to_come = len(answer._left)
        answer.headers["Content-Length"] = str(len(answer._left))
        answer.headers["Content-Range"] = f"bytes {answer._start}-{SIZE - 1}/{SIZE}"

    server = Odd(change=go_on)
    scene.leave(1000)
    scene.assert_right(scene.fetch(server))
    assert min(start for start, _ in server.asked) == 1000 and len(server.asked) > 2


@pytest.mark.parametrize("then", ["more", "nothing"])
def test_what_follows_a_range_says_nothing_of_the_file(scene: Scene, then: str) -> None:
    def go_on(answer: Answer) -> None:
        read_range, left = answer.read_into, [len(answer._left)]

        def read_into(room: memoryview) -> int | None:
            if left[0]:
                count = read_range(room)
                left[0] -= count or 0
                return count
            if then == "more":
                room[:1] = b"!"
                return 1
            raise ServiceUnavailable("No answer in time.")

        answer.read_into = read_into  # type: ignore[method-assign]
        del answer.headers["Content-Length"]

    server = Odd(change=go_on)
    scene.leave(1000)
    scene.assert_right(scene.fetch(server))
    assert server.sent < SIZE


def test_a_server_that_sends_a_byte_at_a_time_is_not_asked_once_for_each(scene: Scene) -> None:
    def cut(answer: Answer) -> None:
        answer._left = answer._left[:1]
        answer.headers["Content-Length"] = "1"
        answer.headers["Content-Range"] = f"bytes {answer._start}-{answer._start}/{SIZE}"

    server = Odd(change=cut)
    scene.leave(1000)
    scene.fetch(server)
    assert scene.final.read_bytes() == CONTENT
    assert len(server.asked) < 30


@pytest.mark.parametrize("after", [0, 1, 30, 99])
def test_a_segment_that_is_cut_is_completed(scene: Scene, after: int) -> None:
    server = Server([*3 * [Step(cut_after=after)]])
    file = scene.fetch(server)
    scene.assert_right(file)
    # What comes too late is not counted.
    assert SIZE <= file.fetched <= server.sent


def test_a_server_without_ranges_gets_one_connection(scene: Scene) -> None:
    server = Server(then=Step(heeds_range=False))
    scene.assert_right(scene.fetch(server))
    # It said that it has ranges; the connection that was there went on.
    assert server.asked[0] == (0, SIZE)


def test_what_is_here_is_not_thrown_away_for_one_answer_without_its_range(scene: Scene) -> None:
    cut = Step(cut_after=500)
    server = Server([cut, Step(heeds_range=False), cut], first=cut)
    file = scene.fetch(server, connections=1)
    assert scene.final.read_bytes() == CONTENT and file.fetched == SIZE
    assert [start for start, _ in server.asked] == [0, 500, 1000, 1000, 1500]


def test_where_only_further_connections_bring_wrong_bytes_the_product_is_fetched_over_one(
    scene: Scene,
) -> None:
    class Mirrors(Server):
        def get(self, headers: Mapping[str, str]) -> Answer:
            is_first = threading.current_thread() is threading.main_thread()
            self.first = self.then = GOOD if is_first else Step(content=CHANGED)
            return super().get(headers)

    server = Mirrors()
    scene.assert_right(scene.fetch(server), is_told=True)
    assert server.asked.count((0, SIZE)) == 2 and server.asked[-1] == (0, SIZE)


def test_another_tag_between_pieces_starts_again(scene: Scene) -> None:
    changed = Step(content=CHANGED, etag='"other"')
    server = Server([GOOD, GOOD, GOOD], then=changed)
    file = scene.fetch(server, sha1=hashlib.sha1(CHANGED).hexdigest())
    assert file.verified
    assert scene.final.read_bytes() == CHANGED


def test_a_change_that_the_server_hides_is_noticed(scene: Scene) -> None:
    server = Server([GOOD, GOOD, Step(content=CHANGED)])
    # That depends on whether bytes of the wrong content are used at all.
    scene.assert_right(scene.fetch(server), is_told=True)


# --- Stopping and going on ----------------------------------------------------------------------------


def kept_of(part: Path) -> int:
    """Return how many bytes a part file has, all of which must be right."""
    data = part.read_bytes()
    note = part_note.read_note(part.with_name(f"{part.name}.json"))
    assert note is not None
    missing = {place for start, end in note.missing for place in range(start, end)}
    there = [place for place in range(len(data)) if place not in missing]
    assert all(data[place] == CONTENT[place] for place in there)
    return len(there)


def test_stopped_in_the_middle_and_continued(scene: Scene) -> None:
    server = Server()

    def hold(start: int) -> bool:
        if server.sent >= SIZE // 2:
            server.stop.set()
        return server.stop.is_set()

    server.hold = hold
    with pytest.raises(Stopped):
        scene.fetch(server)
    server.hold = lambda start: False
    kept = kept_of(scene.part)
    assert 0 < kept < SIZE
    server.stop.clear()
    asked = len(server.asked)
    server.peak = 0
    file = scene.fetch(server, connections=1)
    scene.assert_right(file)
    # Each gap is asked for, and nothing else.
    assert sum(end - start for start, end in server.asked[asked:]) == SIZE - kept
    assert file.fetched == SIZE - kept


def test_stopped_while_nothing_comes(scene: Scene) -> None:
    def hold(start: int) -> bool:
        if len(server.asked) > 3:
            server.stop.set()
            return True
        return False

    server = Server(hold=hold)
    with pytest.raises(Stopped):
        scene.fetch(server)
    kept_of(scene.part)


def test_a_mistake_in_this_program_is_not_hidden(scene: Scene) -> None:
    def hold(start: int) -> bool:
        if start:
            raise ZeroDivisionError
        return False

    with pytest.raises(ZeroDivisionError):
        scene.fetch(Server(hold=lambda start: hold(start) or len(scene.events) < 2))


KILLED = """
import os, signal, sys, threading
from pathlib import Path
from mwa_client.transfer import part_file
from mwa_client.transfer.files import ExpectedFile
from mwa_client.transfer.part_file import open_part
part_file.NOTE_SIZE = 1000
content = bytes(number * 7 % 251 for number in range(4000)) * 10
with open_part(Path(sys.argv[1]), ExpectedFile(1, "x", 40000, None), threading.Event()) as part:
    writers = [(start, part.writer(start, 100)) for start in (0, 30000, 10000, 20000)]
    for step in range(0, 5000, 100):
        for start, writer in writers:
            writer.append(content[start + step : start + step + 100])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_keeps_what_several_have_written(tmp_path: Path) -> None:
    path = tmp_path / "x.part"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    content = CONTENT * 10
    with open_part(path, ExpectedFile(1, "x", 40_000, None), threading.Event()) as part:
        # The last list of gaps is a thousand bytes old at most.
        assert 20_000 - 1100 <= part.present <= 20_000
        assert part.length >= 4700
        for start, end in part.gaps:
            writer = part.writer(start)
            writer.append(content[start : end or 40_000])
            writer.flush()
        assert part.sha1() == hashlib.sha1(content).hexdigest()
    assert path.read_bytes() == content


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
    max_examples=60,
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

    def get(self, headers: Mapping[str, str]) -> ranges.Response:
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
    budget, stop = ConnectionBudget(3), threading.Event()
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(clock=clock.now, product_size=lambda job: SIZE))
        session = stack.enter_context(closing(open_session(service_of(sandbox))))
        jobs = [sandbox.service.add({"obs_id": "1191828584"}, state=JobState.READY) for _ in range(5)]
        place = DownloadDirectory(tmp_path, tmp_path / ".mwa_client")
        place.state_dir.mkdir()

        def work(number: int) -> None:
            job = jobs[number]
            source = session.source(job.id, ProductFile(job.file_name, SIZE, job.content.sha1))
            wanted = ExpectedFile(job.id, f"{number}.zip", SIZE, job.content.sha1)
            counting = Counting(source, opened, lock)
            results[number] = Downloader(place, clock, stop, lambda event: None, budget).fetch(
                wanted, counting
            )

        threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        downloads = [entry for entry in sandbox.requests if entry.path == "/api/download"]
    assert [results[number].verified for number in range(5)] == 5 * [True]
    assert max(opened) <= 3
    assert {entry.status for entry in downloads} <= {200, 206}


def test_a_connection_is_waited_for_and_the_wait_can_be_stopped() -> None:
    budget, stop = ConnectionBudget(1), threading.Event()
    budget.acquire(stop)
    assert not budget.try_acquire()
    stop.set()
    with pytest.raises(Stopped):
        budget.acquire(stop)
    budget.release()
    budget.acquire(stop)


def test_who_has_several_gives_way_to_who_has_none() -> None:
    budget, stop = ConnectionBudget(2), threading.Event()
    budget.acquire(stop)
    assert budget.try_acquire()
    waiting = threading.Thread(target=budget.acquire, args=(stop,))
    waiting.start()
    wait_until(lambda: budget.is_short)
    budget.release()
    waiting.join(10)
    assert not budget.is_short
    assert not budget.try_acquire()


def test_each_download_has_a_share() -> None:
    budget = ConnectionBudget(8)
    with budget.joined("first"):
        assert budget.share == 8
        with budget.joined("second"), budget.joined("third"):
            assert budget.share == 8 // 3
            budget.note_need("third", has_too_few=True)
            assert budget.is_wanted
        assert (budget.is_wanted, budget.share) == (False, 8)
        # Who has left needs nothing.
        budget.note_need("third", has_too_few=True)
        assert not budget.is_wanted


# --- Throttle -----------------------------------------------------------------------------------------


def throttle_of(clock: FastClock, budget: ConnectionBudget, host: str) -> RequestThrottle:
    return RequestThrottle(clock, budget, lambda: host)


def test_a_pause_is_that_of_the_host_which_sends_the_product_now(clock: FastClock) -> None:
    hosts, budget = ["store"], ConnectionBudget(8)
    moving, staying = RequestThrottle(clock, budget, lambda: hosts[-1]), throttle_of(clock, budget, "store")
    hosts.append("another")  # A fresh link leads there.
    moving.failed(60.0)
    assert (moving.pause(), staying.pause()) == (60.0, 0.0)
    assert staying.allows_request() and not throttle_of(clock, budget, "another").allows_request()


def test_after_a_failure_they_ask_one_at_a_time(clock: FastClock) -> None:
    restraint = RequestThrottle(clock, ConnectionBudget(8), lambda: "store")
    asked = 0
    for _ in range(1000):
        for _ in range(8):
            if restraint.allows_request():
                restraint.note_request()
                restraint.failed(None)
                asked += 1
        clock.advance(0.1)
    # In 100 seconds one connection alone asks some 100 times.
    assert 6 <= asked <= 10
    clock.advance(LAST_TROUBLE)
    for _ in range(3):
        restraint.went_well(SERVED)
        restraint.note_request()
        assert not restraint.allows_request()
    restraint.went_well(SERVED)
    assert all(restraint.allows_request() for _ in range(8))


def test_a_host_that_asks_to_be_left_alone_is_left_alone_by_all(clock: FastClock) -> None:
    budget = ConnectionBudget(8)
    one, other, elsewhere = (throttle_of(clock, budget, host) for host in ("store", "store", "another"))
    one.failed(60.0)
    assert (other.pause(), elsewhere.pause()) == (60.0, 0.0)
    clock.advance(59)
    assert not other.allows_request()
    assert elsewhere.allows_request()
    clock.advance(1)
    assert other.allows_request()


def test_who_waits_for_a_connection_meanwhile_leaves_the_host_alone_too(
    tmp_path: Path,
) -> None:
    budget, stop = ConnectionBudget(1), threading.Event()
    asked_at: list[float] = []
    asleep: list[float] = []

    class Clock(FastClock):
        """The time of a pause passes when all three sleep, or one has not heard of it."""

        def sleep(self, seconds: float, stop: threading.Event) -> None:
            asleep.append(seconds)
            wait_until(lambda: len(asleep) == 3 or len(asked_at) > 1)
            super().sleep(seconds, stop)

    clock = Clock()

    class Busy(Server):
        host = "store"

        def get(self, headers: Mapping[str, str]) -> Answer:
            asked_at.append(clock.monotonic())
            answer = super().get(headers)
            if len(asked_at) == 1:
                wait_until(lambda: budget.is_short)
                answer.status = 429
                answer.headers = {"Retry-After": "60"}
            return answer

    server = Busy()
    place = DownloadDirectory(tmp_path, tmp_path / ".mwa_client")
    place.state_dir.mkdir()

    def work(name: str) -> None:
        wanted = ExpectedFile(**{**vars(WANTED), "name": name})
        Downloader(place, clock, stop, lambda event: None, budget).fetch(wanted, server)

    threads = [threading.Thread(target=work, args=(f"{number}.zip",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert {path.name for path in tmp_path.glob("*.zip")} == {"0.zip", "1.zip", "2.zip"}
    assert len(asked_at) == 4 and asked_at[1] - asked_at[0] >= 60.0


def test_restraint_is_shared_by_all_downloads_from_a_host(clock: FastClock) -> None:
    budget = ConnectionBudget(8)
    one, other, elsewhere = (throttle_of(clock, budget, host) for host in ("store", "store", "another"))
    one.failed(None)
    other.failed(None)  # Together with the first.
    assert not other.allows_request() and elsewhere.allows_request()
    clock.advance(FIRST_TROUBLE)
    assert other.allows_request()
    other.note_request()
    assert not one.allows_request()
    other.went_well(SERVED // 2)
    one.failed(None)
    other.went_well(SERVED // 2)  # Not enough since the last failure.
    clock.advance(FIRST_TROUBLE)
    assert not one.allows_request()
    # Downloads that wait do not try again together, and none waits for one that comes much later.
    assert [one.plan_try(each) for each in (300.0, 1.0, 1.0, 0.8)] == [300.0, 1.0, 1.5, 2.0]
    assert elsewhere.plan_try(1.0) == 1.0


def test_a_server_that_cuts_every_answer_is_asked_no_more_than_twice_as_often(scene: Scene) -> None:
    def rate(connections: int) -> float:
        server = Server(first=Step(cut_after=500), then=Step(cut_after=16))
        began = scene.clock.monotonic()
        scene.fetch(server, connections)
        scene.final.unlink()
        return len(server.asked) / (scene.clock.monotonic() - began)

    assert rate(8) <= 2 * rate(1)


# --- How many ------------------------------------------------------------------------------------------


class Link:
    """A link on which so many connections help; its tuner looks as a download does."""

    def __init__(
        self,
        useful: Callable[[int], float],
        *,
        most: int = 8,
        waiting: float = 1.0,
        answer_time: float = 0.0,
        left: int = 1 << 40,
    ) -> None:
        self.clock = FastClock()
        self.tuner = ConnectionTuner(self.clock, most)
        self.lines, self.arrived, self.waited, self.left = 1, 0, 0.0, left
        self.fastest = 0.0
        self._useful, self._waiting, self._answer_time = useful, waiting, answer_time

    def pass_time(self, seconds: float) -> list[int]:
        """Return how many connections were read from at each look."""
        seen = []
        for _ in range(int(seconds / 0.05)):
            self.clock.advance(0.05)
            reading = min(self.tuner.active, self.lines)
            rate = 1e7 * self._useful(reading)
            self.fastest = max(self.fastest, rate / reading)
            self.waited += self._waiting * 0.05
            self.arrived += int(rate * 0.05)
            measured = (reading, self.arrived, self.waited, self.left, self._answer_time, self.fastest)
            UPDATE(self.tuner, Measured(*measured))
            self.lines = self.tuner.target
            seen.append(reading)
        return seen


def test_all_are_taken_where_one_is_slow() -> None:
    assert Link(lambda lines: lines).pass_time(0.5)[-1] == 8


def test_on_a_long_line_none_is_waited_for() -> None:
    assert Link(lambda lines: lines, answer_time=0.1).pass_time(0.1)[-1] == 8


def test_where_each_pays_all_stay() -> None:
    seen = Link(lambda lines: lines, answer_time=0.2).pass_time(3600)
    # What it costs to find that out again and again.
    assert sum(seen) / len(seen) > 7.9


@pytest.mark.parametrize("answer_time", [0.0, 0.1])
def test_where_one_is_best_it_is_one(answer_time: float) -> None:
    link = Link(lambda lines: 1 / lines, answer_time=answer_time)
    seen = link.pass_time(120 if answer_time else 20)
    assert min(seen) == 1 and set(seen[-100:]) <= {1, 2}
    # Later it is tried again, and ever more seldom.
    later = link.pass_time(3600)
    assert 1 < max(later) <= 2
    assert later.count(2) < len(later) / 50


def test_on_a_link_that_serves_three() -> None:
    seen = Link(lambda lines: min(lines, 3)).pass_time(600)[-2000:]
    assert sum(min(each, 3) for each in seen) > 2.9 * len(seen)


def test_after_a_refusal_there_are_more_again_soon() -> None:
    link = Link(lambda lines: lines)
    link.pass_time(5)
    link.tuner.refused(7)
    assert link.pass_time(FIRST_REST - 1)[-1] == 7
    assert link.pass_time(10)[-1] == 8


def test_where_this_machine_is_the_limit_none_is_tried() -> None:
    assert set(Link(lambda lines: lines, waiting=0.5).pass_time(60)) == {1}


def test_for_little_none_is_tried() -> None:
    assert set(Link(lambda lines: lines, left=299).pass_time(60)) == {1}


def test_a_clock_that_stands_still_changes_nothing(clock: FastClock) -> None:
    one = ConnectionTuner(clock, 8)
    for number in range(100):
        UPDATE(one, Measured(number % 3, 1000 * number))
    assert (one.target, one.active) == (1, 1)
