"""Whatever server, process and machine do: the right file under the final name, or none.

The server is in memory and the files are a few bytes, so that thousands of misfortunes can be lived through;
some of them again over a real socket. What a power cut leaves follows from what was brought to the disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from shared import FastClock, service_of

from mwa_client.asvo import open_session
from mwa_client.asvo.job import ProductFile
from mwa_client.directory.disk import boot_id
from mwa_client.errors import (
    JobFailed,
    LoginRefused,
    MwaClientError,
    ServiceRefused,
    ServiceUnavailable,
    SessionLost,
    Stopped,
    VerificationFailed,
)
from mwa_client.sandbox import JobState, Sandbox
from mwa_client.transfer import part_file
from mwa_client.transfer.download import Downloader
from mwa_client.transfer.events import Setback, TransferEvent
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile, FetchedFile
from mwa_client.transfer.names import safe_name
from mwa_client.transfer.part_filler import TRIES_WITHOUT_PROGRESS
from mwa_client.transfer.ranges import WrongSize

NAME = "1191828584_ms.zip"
SIZE = 24
CONTENT = bytes(range(1, SIZE + 1))
CHANGED = bytes(range(101, SIZE + 101))
WANTED = ExpectedFile(10001, NAME, SIZE, hashlib.sha1(CONTENT).hexdigest())
ETAG, OTHER_ETAG = '"right"', '"other"'

FAST = Path("/dev/shm")


def patient(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


@pytest.fixture(autouse=True, scope="module")
def small_writes() -> Iterator[None]:
    """Let a file of a few bytes be written and synced in many steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_file, "WRITE_SIZE", 3)
        patch.setattr(part_file, "SYNC_SIZE", 7)
        yield


# --- A server that does as it is told ----------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """What a server does with one request. The default is good behaviour."""

    error: Callable[[], Exception] | None = None
    status: int | None = None
    total: int | None = None
    """What a 416 tells."""
    content: bytes = CONTENT
    etag: str | None = ETAG
    starts_off: int = 0
    """How far from the start that was asked for a range begins; it says so."""
    heeds_range: bool = True
    heeds_condition: bool = True
    content_range: str | None = None
    """A lie, with what is true in its braces."""
    tells_length: bool = True
    length_error: int = 0
    surplus: int = 0
    flipped: int | None = None
    packed: bool = False
    cut_after: int | None = None
    cut_in_order: bool = False
    stop_after: int | None = None
    piece: int = SIZE


GOOD = Step()


class Server:
    """Is a `Source`: does one step a request, and then always the last thing."""

    def __init__(self, steps: list[Step], last: Step | list[Step] = GOOD) -> None:
        self.steps = list(steps)
        self.last = last if isinstance(last, list) else [last]
        self.requests = 0
        self.sent = 0
        self.stop = threading.Event()

    def get(self, headers: Mapping[str, str]) -> Answer:
        assert headers["Accept-Encoding"] == "identity"
        step = self.steps.pop(0) if self.steps else self.last[self.requests % len(self.last)]
        self.requests += 1
        if step.error is not None:
            raise step.error()
        return Answer(self, step, headers)


class Answer:
    """Is an `Answer` of the transfer's."""

    def __init__(self, server: Server, step: Step, asked: Mapping[str, str]) -> None:
        self._server, self._step = server, step
        start, size = _start(step, asked), len(step.content)
        if step.status is not None:
            self.status, body = step.status, b"<h1>an error</h1>"
        elif start is None:
            self.status, body = 200, step.content
        else:
            self.status, body = (206, step.content[start:]) if start < size else (416, b"")
        self.headers = _headers(step, self.status, start, len(body))
        if step.surplus and self.status in (200, 206):
            body = body[: step.surplus] if step.surplus < 0 else body + bytes(step.surplus)
        if step.flipped is not None and step.flipped < len(body):
            body = body[: step.flipped] + b"\xff" + body[step.flipped + 1 :]
        self._body, self._position = body, 0

    def read_into(self, room: memoryview) -> int:
        step = self._step
        end = len(self._body) if step.cut_after is None else min(step.cut_after, len(self._body))
        data = self._body[self._position : min(self._position + min(len(room), step.piece), end)]
        self._position += len(data)
        self._server.sent += len(data)
        if step.stop_after is not None and self._position >= step.stop_after:
            self._server.stop.set()
        if not data and self._position < len(self._body) and not step.cut_in_order:
            raise ServiceUnavailable("The connection broke.")
        room[: len(data)] = data
        return len(data)

    def close(self) -> None:
        pass


def _start(step: Step, asked: Mapping[str, str]) -> int | None:
    if "Range" not in asked or not step.heeds_range:
        return None
    if step.heeds_condition and asked.get("If-Range", step.etag) != step.etag:
        return None
    return max(int(asked["Range"][len("bytes=") : -1]) + step.starts_off, 0)


def _headers(step: Step, status: int, start: int | None, length: int) -> dict[str, str]:
    headers = {} if step.etag is None else {"ETag": step.etag}
    size = len(step.content)
    if step.tells_length:
        headers["Content-Length"] = str(max(length + step.length_error, 0))
    if step.packed:
        headers["Content-Encoding"] = "gzip"
    if status == 206 and start is not None:
        told = step.content_range or "bytes {start}-{last}/{size}"
        headers["Content-Range"] = told.format(
            start=start, last=size - 1, size=size, later=start + 1, earlier=start - 1, more=size + 1
        )
    if status == 416:
        headers["Content-Range"] = f"bytes */{size if step.total is None else step.total}"
    return headers


# --- A machine that can fail -------------------------------------------------------------------------


class Killed(BaseException):
    """The process is no more."""


@dataclass
class Death:
    """When a process ends: before which of its calls to the system. And whether the power fails, too."""

    at_call: int
    power: bool
    # What of the unsynced has reached the disk all the same.
    keeps_note: int = 0
    keeps_bytes: int = 0
    as_zeros: bool = False


class Machine:
    """Runs processes in a directory. Knows what is safe on the disk, and leaves no more after a power cut."""

    def __init__(self, directory: Path) -> None:
        self.place = DownloadDirectory(directory, directory / ".mwa_client")
        self.place.state_dir.mkdir()
        self.part = self.place.state_dir / f"{NAME}.part"
        self.note = self.place.state_dir / f"{NAME}.part.json"
        self.final = directory / NAME
        self._safe_part = b""
        self._not_cut_yet: bytes | None = None
        """What stands on the disk as long as the last truncation has not reached it."""
        self._safe_note: bytes | None = None
        self._at_death: dict[Path, bytes] = {}

    def run(self, server: Server, wanted: ExpectedFile, death: Death | None = None) -> FetchedFile | None:
        """Let a process fetch until it ends; return the file, None where there is none."""
        server.stop.clear()
        try:
            with self._calls_watched(death):
                return Downloader(self.place, FastClock(), server.stop, lambda told: None).fetch(
                    wanted, server
                )
        except MwaClientError as error:
            assert not isinstance(error, WrongSize)
            return None
        except Killed:
            assert death is not None
            self._leave(self._at_death)
            if death.power:
                self._lose_power(death)
            return None

    def carry_away(self) -> None:
        """Let the user move a finished file elsewhere, and want it again."""
        if self.final.exists():
            self.final.unlink()
            self._safe_part, self._not_cut_yet, self._safe_note = b"", None, None

    @contextmanager
    def _calls_watched(self, death: Death | None) -> Iterator[None]:
        calls = 0

        def watched(call: Callable[..., Any]) -> Callable[..., Any]:
            def watch(*arguments: Any) -> Any:
                nonlocal calls
                calls += 1
                if death is not None and calls == death.at_call:
                    self._at_death = self._files()
                if death is not None and calls >= death.at_call:
                    # Here the stack unwinds all the same; what it still does comes to nothing.
                    raise Killed
                result = call(*arguments)
                if call is fsync:
                    self._is_safe(arguments[0])
                if call is ftruncate:
                    self._not_cut_yet = self._safe_part if self._not_cut_yet is None else self._not_cut_yet
                    self._safe_part = self._safe_part[: arguments[1]]
                return result

            return watch

        fsync, ftruncate = os.fsync, os.ftruncate
        with pytest.MonkeyPatch.context() as patch:
            for name in ("fsync", "ftruncate", "write", "replace", "unlink"):
                patch.setattr(os, name, watched(getattr(os, name)))
            yield

    def _is_safe(self, handle: int) -> None:
        files = self._files()
        state = os.fstat(handle)
        if self.part in files and self.part.stat().st_ino == state.st_ino:
            self._safe_part, self._not_cut_yet = files[self.part], None
        if state.st_ino == self.place.state_dir.stat().st_ino:
            # The note's own bytes were synced before it got its name.
            self._safe_note = files.get(self.note)

    def _files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.place.path.rglob("*") if path.is_file()}

    def _leave(self, files: dict[Path, bytes]) -> None:
        for path in self._files():
            path.unlink()
        for path, content in files.items():
            path.write_bytes(content)

    def _lose_power(self, death: Death) -> None:
        """Leave what is safe, and of the rest something."""
        files = self._files()
        if self._not_cut_yet is not None and death.keeps_bytes == 0:
            now = self._not_cut_yet
        else:
            # What was appended since may be there, or be a hole.
            more = files.get(self.part, b"")[len(self._safe_part) :][: death.keeps_bytes]
            now = self._safe_part + (bytes(len(more)) if death.as_zeros else more)
        # The note is the last one that was synced, a later one, or the name of a later one without its bytes.
        notes = [self._safe_note, files.get(self.note), b""]
        note = notes[death.keeps_note]
        left = {self.part: now} if self.part in files else {}
        if note is not None:
            left[self.note] = note.replace(boot_id().encode(), b"the boot before") if boot_id() else note
        if self.final in files:
            is_safe = files[self.final] == self._safe_part
            left[self.final] = files[self.final] if is_safe else bytes(len(files[self.final]))
        self._leave(left)
        # What stands there now has survived: no later power cut brings back what was before it.
        self._safe_part, self._not_cut_yet, self._safe_note = now, None, left.get(self.note)

    def assert_sane(self, *others: bytes) -> None:
        """The right file or none, and nothing that does not belong here."""
        assert not self.final.exists() or self.final.read_bytes() in (CONTENT, *others)
        names = {path.name for path in self._files()}
        assert names <= {NAME, self.part.name, self.note.name, f"{self.note.name}.new"}


@contextmanager
def machine() -> Iterator[Machine]:
    directory = Path(tempfile.mkdtemp(dir=FAST if FAST.is_dir() else None))
    try:
        yield Machine(directory)
    finally:
        shutil.rmtree(directory)


# --- What can happen ---------------------------------------------------------------------------------

offsets = st.integers(0, SIZE)


def steps_with(*changes: st.SearchStrategy[tuple[str, Any]]) -> st.SearchStrategy[Step]:
    """Steps that differ from good behaviour in a few ways."""
    return st.lists(st.one_of(*changes), max_size=4).map(lambda chosen: Step(**dict(chosen)))


def change(name: str, *values: Any) -> st.SearchStrategy[tuple[str, Any]]:
    """A field of a step with one of these values, or of what a strategy gives."""
    given = values[0] if isinstance(values[0], st.SearchStrategy) else st.sampled_from(values)
    return st.tuples(st.just(name), given)


MISFORTUNES = (
    change("cut_after", offsets),
    change("stop_after", offsets),
    change("heeds_range", False),
    change("tells_length", False),
    change("etag", OTHER_ETAG, f"W/{ETAG}", None),
    change("piece", 1, 5),
)
"""Servers and networks that are no good, but never lie."""

honest_steps = steps_with(
    *MISFORTUNES,
    change("error", lambda: ServiceUnavailable("Cannot connect.")),
    change("status", 429, 500, 503),
)

hostile_steps = steps_with(
    *MISFORTUNES,
    change(
        "error",
        lambda: ServiceUnavailable("Busy.", retry_after=5.0),
        lambda: SessionLost("Who are you?", status=401),
        lambda: LoginRefused("Wrong password."),
        lambda: ServiceRefused("No.", status=403),
    ),
    change("status", 200, 204, 206, 301, 400, 403, 404, 410, 416, 429, 500, 503),
    change("total", st.integers(0, SIZE + 1)),
    change("content", CHANGED, CONTENT[:-3], CONTENT + b"more", b""),
    change("etag", "no quotes", '"two" "tags"', ""),
    change("heeds_condition", False),
    change(
        "content_range",
        "bytes {later}-{last}/{size}",
        "bytes {earlier}-{last}/{size}",
        "bytes {start}-{size}/{size}",
        "bytes {start}-{last}/{more}",
        "bytes {start}-{start}/{size}",
        "bytes {start}-{last}/*",
        "bytes {start}-{last}",
        "bytes */{size}",
        "nonsense",
    ),
    change("starts_off", -SIZE, -3, -1, 1, 3),
    change("length_error", -3, -1, 1, 3),
    change("surplus", st.integers(-SIZE, 5)),
    change("flipped", offsets),
    change("packed", True),
    change("cut_in_order", True),
)
"""Servers that do anything."""

deaths = st.builds(
    Death,
    at_call=st.integers(1, 30),
    power=st.booleans(),
    keeps_note=st.integers(0, 2),
    keeps_bytes=offsets,
    as_zeros=st.booleans(),
)


@dataclass(frozen=True)
class Life:
    """One run of the program: what the server does with its requests, and what ends it."""

    steps: list[Step]
    then: Step
    death: Death | None


AWAY = Step(error=lambda: ServiceUnavailable("Cannot connect."))


def lives_with(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Life]]:
    life = st.builds(
        Life, st.lists(steps, max_size=5), st.sampled_from([AWAY, AWAY, GOOD]), st.none() | deaths
    )
    return st.lists(life, min_size=1, max_size=4)


# --- What holds --------------------------------------------------------------------------------------


@patient(50)
@given(lives_with(hostile_steps))
def test_never_a_wrong_file(lives: list[Life]) -> None:
    with machine() as here:
        for life in lives:
            here.carry_away()
            here.run(Server(life.steps, life.then), WANTED, life.death)
            here.assert_sane()
        # Whatever has happened, one run with a server that behaves ends right.
        server = Server([])
        file = here.run(server, WANTED)
        assert file is not None
        assert here.final.read_bytes() == CONTENT
        assert (file.verified, file.fetched) == (True, server.sent)
        assert list(here.place.state_dir.iterdir()) == []
        # At worst, what an earlier run had left was wrong, and all is fetched anew.
        assert server.requests <= 2
        assert server.sent < 2 * SIZE
        event(f"{server.requests} requests in the end")


@patient(50)
@given(lives_with(honest_steps))
def test_even_without_a_sha1_nothing_gets_mixed_up(lives: list[Life]) -> None:
    wanted = replace(WANTED, sha1=None)
    with machine() as here:
        for life in lives:
            here.carry_away()
            here.run(Server(life.steps, life.then), wanted, life.death)
            here.assert_sane()
        there = len(here.part.read_bytes()) if here.part.exists() else 0
        server = Server([])
        file = here.run(server, wanted)
        assert file is not None
        assert here.final.read_bytes() == CONTENT
        assert not file.verified
        assert server.sent <= SIZE
        event(f"{'some' if there else 'none'} of it was there")


def test_an_error_is_known_by_its_status_however_it_is_packed() -> None:
    with machine() as here:
        told: list[TransferEvent] = []
        server = Server([replace(GOOD, status=404, packed=True)])
        file = Downloader(here.place, FastClock(), server.stop, told.append).fetch(WANTED, server)
        assert file.verified and here.final.read_bytes() == CONTENT
    assert any(isinstance(event, Setback) and "HTTP 404" in event.reason for event in told)


PAGE = b"<html>down for maintenance</html>"


@pytest.mark.parametrize("etag", [None, OTHER_ETAG])
def test_a_page_of_no_length_costs_no_byte_that_is_there(etag: str | None) -> None:
    page = Step(content=PAGE, etag=etag, heeds_range=False, tells_length=False)
    server = Server([replace(GOOD, cut_after=18), page, page])
    with machine() as here:
        file = here.run(server, WANTED)
        assert file is not None and here.final.read_bytes() == CONTENT
    # Each byte of the product was sent once.
    assert server.sent <= SIZE + 4 * len(PAGE)


@pytest.mark.parametrize("cut", [None, 10])
def test_an_encoding_that_is_not_true_is_not_believed(cut: int | None) -> None:
    server = Server([replace(GOOD, packed=True, cut_after=cut), replace(GOOD, packed=True)])
    with machine() as here:
        file = here.run(server, WANTED)
        assert file is not None and file.fetched == SIZE
        assert here.final.read_bytes() == CONTENT


versions = steps_with(
    change("cut_after", offsets),
    change("stop_after", offsets),
    change("heeds_range", False),
    change("heeds_condition", False),
    change("tells_length", False),
    change("piece", 1, 5),
    change("content", CHANGED),
).map(lambda step: replace(step, etag=ETAG if step.content is CONTENT else OTHER_ETAG))
"""A server that has now the one and now the other version of a file, and tells which by its tag."""


@patient(45)
@given(lives_with(versions))
def test_versions_of_a_file_are_never_mixed(lives: list[Life]) -> None:
    with machine() as here:
        for life in lives:
            here.carry_away()
            here.run(Server(life.steps, life.then), replace(WANTED, sha1=None), life.death)
            here.assert_sane(CHANGED)
        assert here.run(Server([]), WANTED)


@patient(45)
@given(offsets, deaths)
def test_bytes_are_not_taken_for_those_of_another_version(cut: int, death: Death) -> None:
    wanted = replace(WANTED, sha1=None)
    with machine() as here:
        here.run(Server([replace(GOOD, cut_after=cut)], AWAY), wanted)
        other = Server([], replace(GOOD, content=CHANGED, etag=OTHER_ETAG, piece=1))
        here.run(other, wanted, replace(death, power=True))
        here.assert_sane(CHANGED)
        here.carry_away()
        assert here.run(Server([]), wanted)
        here.assert_sane()


@patient(35)
@given(st.lists(honest_steps.map(lambda step: replace(step, heeds_range=True, etag=ETAG)), max_size=12))
def test_no_byte_is_fetched_twice_where_ranges_work(steps: list[Step]) -> None:
    server = Server(steps)
    with machine() as here:
        for _ in range(len(steps) + 1):
            if here.run(server, WANTED):
                break
        assert here.final.read_bytes() == CONTENT
        assert server.sent == SIZE


@patient(35)
@given(st.lists(hostile_steps, min_size=1, max_size=4))
def test_it_ends(steps: list[Step]) -> None:
    endless = [replace(step, stop_after=None) for step in steps]
    server = Server([], endless)
    with machine() as here:
        here.run(server, WANTED)
        here.assert_sane()
    # Twice, each byte that was not there before buys a full budget of tries.
    assert server.requests <= 2 * (SIZE + 1) * (TRIES_WITHOUT_PROGRESS + 1)


@patient(35)
@given(st.integers(1, SIZE - 1), st.booleans(), st.sampled_from([1, 5, SIZE]))
def test_a_server_that_begins_again_and_cuts_costs_little(cut: int, in_order: bool, piece: int) -> None:
    server = Server([], Step(heeds_range=False, cut_after=cut, cut_in_order=in_order, piece=piece))
    with machine() as here:
        assert here.run(server, WANTED) is None
        assert here.part.read_bytes() == CONTENT[:cut]
    assert server.requests == TRIES_WITHOUT_PROGRESS + 1
    assert server.sent == cut * server.requests


@patient(45)
@given(st.lists(deaths, min_size=1, max_size=6), st.booleans())
def test_a_kill_costs_what_was_in_memory_and_a_power_cut_what_was_not_synced(
    deaths: list[Death], power: bool
) -> None:
    deaths = [replace(death, power=power, keeps_note=0) for death in deaths]
    server = Server([], replace(GOOD, piece=1))
    with machine() as here:
        for death in deaths:
            here.run(server, WANTED, death)
        if here.run(server, WANTED) is None:
            pytest.fail("the server behaves")
    in_memory, not_synced = part_file.WRITE_SIZE, part_file.SYNC_SIZE + part_file.WRITE_SIZE
    assert server.sent <= SIZE + len(deaths) * (not_synced if power else in_memory)


@patient(90)
@given(st.text() | st.text(alphabet="./\\ -SHA1UMSab\n\0\x1b\ud800é", max_size=300), st.integers(1, 10**9))
def test_a_safe_name_is_safe(name: str, job_id: int) -> None:
    safe = safe_name(name, 1191828584, job_id)
    assert Path(safe).name == safe
    assert 0 < len(f"{job_id}_2_{safe}.part.json.new".encode()) <= 255
    assert safe.isprintable()
    assert safe[0] not in ".- "
    # Neither that file nor its draft, on file systems that know no case either.
    assert safe.casefold() not in ("sha1sums", "sha1sums.new")
    assert safe_name(safe, 1191828584, job_id) == safe
    # Only the base name counts.
    assert safe_name(f"../{name}", 1191828584, job_id) == safe


# --- The same over a real socket ---------------------------------------------------------------------

REAL_SIZE = 20_000


@dataclass(frozen=True)
class Trouble:
    """A fault of the sandbox."""

    name: str
    options: Mapping[str, Any]


def trouble(name: str, **options: st.SearchStrategy[Any]) -> st.SearchStrategy[Trouble]:
    return st.builds(Trouble, st.just(name), st.fixed_dictionaries(options))


real_offsets = st.integers(0, REAL_SIZE)
troubles = st.one_of(
    trouble("cut_product", after=real_offsets, reset=st.booleans()),
    trouble("ignore_range"),
    trouble("chunked"),
    trouble("lie_in_content_range", shift=st.sampled_from([-1, 1])),
    trouble("lie_in_content_range", total=st.sampled_from([0, REAL_SIZE - 1, REAL_SIZE + 1])),
    trouble("lie_in_content_range", header=st.sampled_from(["", "bytes */*", "nonsense"])),
    trouble("product_status", status=st.sampled_from([403, 404, 410, 416, 429, 500, 503])),
    trouble("product_status", status=st.just(416), total=real_offsets),
    trouble("change_etag"),
    trouble("change_content"),
    trouble("weak_etag"),
    trouble("no_etag"),
    trouble("corrupt_byte", at=real_offsets),
    trouble("long_body", by=st.integers(1, 500), chunked=st.booleans()),
    trouble("short_body", by=st.integers(1, 500), chunked=st.booleans()),
    trouble("wrong_content_length", by=st.sampled_from([-10, 10])),
    trouble("gzip"),
    trouble("busy", retry_after=st.integers(0, 100)),
)


@pytest.fixture(scope="module")
def real_sandbox(small_writes: None) -> Iterator[Sandbox]:
    with Sandbox() as sandbox, pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_file, "WRITE_SIZE", REAL_SIZE // 30)
        patch.setattr(part_file, "SYNC_SIZE", REAL_SIZE // 10)
        yield sandbox


@patient(20)
@given(
    st.lists(st.tuples(troubles, st.integers(1, 3), st.integers(0, 3), st.booleans()), max_size=6),
    st.integers(1, 3),
)
def test_never_a_wrong_file_over_a_real_socket(
    real_sandbox: Sandbox, struck: list[tuple[Trouble, int, int, bool]], runs: int
) -> None:
    job = real_sandbox.service.add({"obs_id": "1191828584"}, state=JobState.READY, size=REAL_SIZE)
    content = b"".join(job.content.pieces())
    wanted = ExpectedFile(job.id, NAME, REAL_SIZE, job.content.sha1)
    with ExitStack() as stack:
        here = stack.enter_context(machine())
        session = stack.enter_context(closing(open_session(service_of(real_sandbox))))
        stack.callback(real_sandbox.faults.clear)
        source = session.source(job.id, ProductFile(job.file_name, wanted.size, wanted.sha1))

        def run() -> FetchedFile:
            return Downloader(here.place, FastClock(), threading.Event(), lambda told: None).fetch(
                wanted, source
            )

        for fault, times, skip, for_good in struck:
            limit = None if for_good else times
            real_sandbox.faults.add(fault.name, limit, skip=skip, path="/api/download", **fault.options)
        for _ in range(runs):
            try:
                run()
            except (JobFailed, Stopped) as error:
                event(type(error).__name__)
                assert not here.final.exists()
                assert not isinstance(error, VerificationFailed) or not here.part.exists()
            else:
                event("complete")
                break
            finally:
                assert not here.final.exists() or here.final.read_bytes() == content
        real_sandbox.faults.clear()
        assert run().verified
        assert here.final.read_bytes() == content
        assert list(here.place.state_dir.iterdir()) == []
