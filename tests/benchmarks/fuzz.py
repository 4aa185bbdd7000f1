"""Answers and files that nobody would send or write: each is read, or ends in an error that is documented.

python tests/benchmarks/fuzz.py                    a minute over all that is read from outside
python tests/benchmarks/fuzz.py --seconds 600
python tests/benchmarks/fuzz.py --only ledger

Each kind is a process of its own; what it finds is shown with the smallest input that does it.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import random
import socketserver
import stat
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Callable

sys.path.insert(0, str(Path(__file__).parent.parent))

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from shared import FastClock, run_batch

from mwa_client.asvo import api_2018, open_session, v1_v2
from mwa_client.asvo.job import Job, ProductFile, read_listing
from mwa_client.asvo.service import Credentials, Service
from mwa_client.asvo.tokens import TokenStore
from mwa_client.batch.ledger import STATE_DIR, Ledger
from mwa_client.batch.pacing import Pacing
from mwa_client.cli.error_file import write_errors
from mwa_client.directory.lock import directory_lock
from mwa_client.directory.owner import Owner
from mwa_client.display.json_lines import JsonDisplay
from mwa_client.display.lines import LineDisplay
from mwa_client.display.listing import documents, table
from mwa_client.errors import MwaClientError
from mwa_client.formatting import json_line, printable
from mwa_client.jobs.jobfile import parse, plan, read_file
from mwa_client.jobs.key_table import KEY_BY_NAME
from mwa_client.jobs.keys import ApiVersion, JobType
from mwa_client.jobs.listed import identity_of
from mwa_client.json_text import read_json
from mwa_client.sandbox import KINDS, Sandbox
from mwa_client.sandbox.fault_kinds import LISTED, FaultKind, Point
from mwa_client.transfer.delivered import Entry
from mwa_client.transfer.files import ExpectedFile
from mwa_client.transfer.journal import Copied, Journal
from mwa_client.transfer.part_file import open_part

MOST_MB = 300.0
OBS = 1191828528
SHA1 = "12b0933f" * 5
Check = Callable[[Any], None]

# --- What may come ------------------------------------------------------------------------------------

ODD_TEXTS = (
    "", "\0", "\ud800", "\x1b[2J", "a/../b", "/etc/passwd", "..", "x" * 5000, "\u202e",
    "2018-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", SHA1, "completed", "9" * 400,
)  # fmt: skip
TEXTS = st.one_of(st.text(st.characters(exclude_categories=()), max_size=20), st.sampled_from(ODD_TEXTS))
ODD_NUMBERS = (
    10**400, -(10**400), 2**63, 2**63 - 1, 2**64, 0, -1, OBS, 10001, float("inf"), float("nan"), 1e300, 0.5,
)  # fmt: skip
NUMBERS = st.one_of(st.sampled_from(ODD_NUMBERS), st.integers(-3, 10))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES: st.SearchStrategy[Any] = st.one_of(
    SCALARS,
    NUMBERS,
    st.lists(SCALARS, max_size=2),
    st.dictionaries(TEXTS, SCALARS, max_size=2),
    st.just([[{"a": []}]]),
)
ODD_JSON = (
    b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000, b"9" * 10_000, b"\xef\xbb\xbf{}",
    b"\x80", b"null", b"7", b"",
)  # fmt: skip


GONE = object()
Place = tuple[Any, ...]


def documents_like(sound: Any) -> st.SearchStrategy[Any]:
    """JSON that is nearly what it should be: one or two of its values, at any depth, are others, or gone."""
    place = st.sampled_from(list(places_in(sound)))
    change = st.tuples(place, st.one_of(VALUES, VALUES, VALUES, st.just(GONE)))
    return st.lists(change, max_size=2).map(lambda changes: with_all(sound, changes))


def places_in(value: Any) -> Iterator[Place]:
    yield ()
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from ((key, *place) for place in places_in(one))


def with_all(sound: Any, changes: list[tuple[Place, Any]]) -> Any:
    for place, value in changes:
        sound = with_other(sound, place, value)
    return None if sound is GONE else sound


def with_other(value: Any, place: Place, other: Any) -> Any:
    """The value with another one at a place, if it still has that place."""
    if not place:
        return other
    if isinstance(value, dict) and place[0] in value:
        changed = {**value, place[0]: with_other(value[place[0]], place[1:], other)}
        return {key: one for key, one in changed.items() if one is not GONE}
    if isinstance(value, list) and place[0] in range(len(value)):
        changed_list = [
            with_other(one, place[1:], other) if at == place[0] else one for at, one in enumerate(value)
        ]
        return [one for one in changed_list if one is not GONE]
    return value


def texts_of_json(document: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """JSON as it is written, now and then cut, doubled or too deep."""
    written = document.map(lambda value: json.dumps(value).encode())
    return st.one_of(*[written] * 8, spoilt(written), st.sampled_from(ODD_JSON))


@st.composite
def spoilt(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that are cut, put together anew, or hold others."""
    data = draw(whole)
    for _ in range(draw(st.integers(1, 3))):
        at, end = sorted(draw(st.integers(0, len(data))) for _ in range(2))
        data = data[:at] + draw(st.one_of(st.binary(max_size=4), st.just(data[at:end] * 2))) + data[end:]
    return data


SIGNED = "http://127.0.0.1:1/a.tar?Signature=x&Expires=2000000000"
FILE: dict[ApiVersion, Any] = {
    ApiVersion.V2018: ["a_vis.zip", 5, SHA1],
    ApiVersion.V1: {"type": "acacia", "url": SIGNED, "size": 5, "sha1": SHA1},
    ApiVersion.V2: {"type": "scratch", "path": "/scratch/x/1", "size": 5, "sha1": None},
}


def job_of(api: ApiVersion) -> dict[str, Any]:
    """A job as an honest listing has it."""
    return {
        "id": 77777,  # Not that of another job: whose it is then nobody can know.
        "job_type": 1,
        "job_state": 2 if api is ApiVersion.V2018 else "completed",
        "user_id": 7,
        "job_params": {"obs_id": OBS, "download_type": "vis", "delivery": "acacia"},
        "error_text": None,
        "error_code": 0,
        "created": "2026-01-01T00:00:00",
        "completed": "2026-01-01T00:00:00",
        "product": {"files": [FILE[api]]},
    }


def listings(api: ApiVersion) -> st.SearchStrategy[bytes]:
    """A listing with some jobs."""
    job = documents_like(job_of(api))
    if api is ApiVersion.V2:
        jobs = st.lists(job, min_size=3, max_size=9)
        page = st.builds(
            lambda jobs, total: {"jobs": jobs, "total_count": total}, jobs, st.one_of(st.just(3), SCALARS)
        )
        return texts_of_json(st.one_of(page, page, page, page, VALUES))
    envelope = st.builds(lambda row: {"action": "INSERT", "table": "jobs", "row": row}, job)
    return texts_of_json(
        st.one_of(st.lists(st.one_of(envelope, envelope, job, VALUES), min_size=3, max_size=9))
    )


REFUSAL = {
    "error": "no",
    "error_code": 2,
    "detail": {"job_id": 7},
    "field_errors": [{"field": "x"}],
    "job_id": 7,
}
ODD_BODIES = (
    b"[]", b"{}", b'{"job_id": 5}', b"<html>no</html>", gzip.compress(bytes(30_000_000), 1), b"x" * 300_000,
    zlib.compress(bytes(30_000_000), 1)[:-9],
)  # fmt: skip
BODIES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(ODD_BODIES),
    texts_of_json(documents_like(REFUSAL)),
    texts_of_json(documents_like({"access_token": "a.b.c", "refresh_token": "a.b.c", "user": {"id": 7}})),
)
STATUSES = (
    b"200 OK", b"206 Partial", b"302 Found", b"304", b"400 Bad", b"401 No", b"404 No", b"409 There",
    b"422 Bad", b"500 Broken", b"503 Busy", b"999 x", b"-1", b"two hundred", b"204 No",
    b"100 Continue\r\n\r\nHTTP/1.1 200 OK",
)  # fmt: skip
CHUNK_SIZES = (b"-5", b"0", b"5", b"zz", b"", b"f" * 18, b"5;x=y", b"0x5", b" 5", b"9" * 5000)
NAMES = (
    b"Content-Length", b"Content-Encoding", b"Transfer-Encoding", b"Content-Type", b"Set-Cookie", b"Location",
    b"Retry-After", b"Content-Range", b"ETag", b"Date", b"Connection", b"X-Y",
)  # fmt: skip
WORDS = (
    b"0", b"-1", b"5", b"9" * 30, b"gzip", b"deflate", b"br", b"gzip, gzip, gzip", b"chunked", b"identity",
    b"application/json; charset=\xff", b"a=b; Path=/", b"a=\x01", b"MWA_JOB_COOKIE=x; Path=/",
    b"//127.0.0.1:1/x", b"http://[::1",
    b"http://a\\@127.0.0.1:1/", b"http://127.0.0.1:99999/", b"/again", b"bytes 0-4/5",
    b"bytes 5-1/*", b"bytes */5", b'"x"', b"Fri, 31 Dec 99999 23:59:59 GMT", b"1e999", b"x" * 70_000,
)  # fmt: skip
HEADERS = st.one_of(
    st.builds(
        lambda name, value: name + b": " + value,
        st.sampled_from(NAMES),
        st.one_of(st.binary(max_size=10), st.sampled_from(WORDS)),
    ),
    st.binary(max_size=12),
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """The bytes of an answer over HTTP, some of them right."""
    status = draw(st.sampled_from(STATUSES))
    headers, body = draw(st.lists(HEADERS, max_size=4)), draw(BODIES)
    form = draw(st.integers(0, 4))
    if form == 0:
        headers.append(b"Transfer-Encoding: chunked")
        size = draw(st.sampled_from(CHUNK_SIZES))
        body = size + b"\r\n" + body + b"\r\n0\r\n\r\n"
    elif form == 1:
        packed = draw(st.sampled_from([b"gzip", b"deflate"]))
        headers.append(b"Content-Encoding: " + packed)
        body = gzip.compress(body) if packed == b"gzip" else zlib.compress(body)
        body = body[: len(body) - draw(st.integers(0, 9))]
    elif form > 2:
        headers.append(b"Content-Length: %d" % len(body))
    answer = (
        b"HTTP/1.1 " + status + b"\r\n" + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body
    )
    is_spoilt = len(answer) < 10_000 and draw(st.integers(0, 3)) == 0
    return draw(spoilt(st.just(answer))) if is_spoilt else answer


# --- Who sends it -------------------------------------------------------------------------------------


class Answering(socketserver.ThreadingTCPServer):
    """Gives the same bytes to whoever asks, and hangs up."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.answers: dict[bytes, bytes] = {}
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: the client may hang up when it likes."""


class Asked(socketserver.BaseRequestHandler):
    server: Answering

    def handle(self) -> None:
        said = b""
        while b"\r\n\r\n" not in said:
            piece = self.request.recv(65536)
            if not piece:
                return
            said += piece
        path = said.split(b" ", 2)[1].partition(b"?")[0]
        self.request.sendall(self.server.answers.get(path, self.server.answers[b""]))


def sound(body: bytes, more: str = "") -> bytes:
    """A good answer."""
    headers = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}"
    head = f"HTTP/1.1 200 OK\r\n{headers}\r\n"
    return head.encode() + body


LOGINS = {
    b"/api/login": sound(b"", "Set-Cookie: MWA_JOB_COOKIE=x; Path=/\r\n"),
    b"/api/api_login": sound(b"", "Set-Cookie: MWA_ASVO_SESSION=x; Path=/\r\n"),
    b"/api/v2/api_login": sound(b'{"access_token": "a.b.c", "refresh_token": "d.e.f", "user": {"id": 7}}'),
}
LISTING = {
    ApiVersion.V2018: b"/api/get_jobs",
    ApiVersion.V1: b"/api/get_jobs",
    ApiVersion.V2: b"/api/v2/get_jobs",
}


def service_at(url: str, api: ApiVersion) -> Service:
    account = Credentials("user", "passw0rd-1") if api is ApiVersion.V2018 else Credentials(key="passw0rd-1")
    return Service(api, url, "x.example", account, call_timeout=2.0, stall_timeout=2.0)


# --- What reads it: each gives a strategy and what is done with an input ------------------------------


@contextmanager
def http() -> Iterator[tuple[st.SearchStrategy[Any], Check]]:
    """Answers over HTTP, to each call of each interface."""
    server = Answering()

    def check(given: tuple[ApiVersion, bytes, bool]) -> None:
        api, answer, is_login_sound = given
        server.answers = {**(LOGINS if is_login_sound else {}), b"": answer}
        file = ProductFile("a.tar", 5, url="" if api is ApiVersion.V2018 else f"{server.url}/a.tar")
        with closing(open_session(service_at(server.url, api), clock=FastClock())) as session:
            for call in (
                session.login,
                session.jobs,
                lambda: session.submit(JobType.DOWNLOAD, {"obs_id": str(OBS), "download_type": "vis"}),
                lambda: session.cancel(5),
                lambda: drain(session.open_product(5, file, {"Range": "bytes=0-"})),
            ):
                with documented():
                    call()

    yield st.tuples(st.sampled_from(ApiVersion), answers(), st.sampled_from([True, True, False])), check
    server.shutdown()


def drain(reply: Any) -> None:
    room = memoryview(bytearray(100_000))
    try:
        for _ in range(50):
            if reply.read_into(room) == 0:
                break
    finally:
        reply.close()


@contextmanager
def listing() -> Iterator[tuple[st.SearchStrategy[Any], Check]]:
    """Listings, through the session of each interface, and what is shown of them."""
    server = Answering()

    def check(given: tuple[ApiVersion, bytes]) -> None:
        api, body = given
        server.answers = {**LOGINS, b"": sound(b"{}"), LISTING[api]: sound(body)}
        with documented(), closing(open_session(service_at(server.url, api), clock=FastClock())) as session:
            jobs = session.jobs(known=(3,))
            table(jobs.values(), 1.8e9)
            for document in documents(jobs.values()):
                strictly(json_line(document))
            for job in jobs.values():
                read_all_of(job, api)

    yield st.sampled_from(ApiVersion).flatmap(lambda api: st.tuples(st.just(api), listings(api))), check
    server.shutdown()


@contextmanager
def rows() -> Iterator[tuple[st.SearchStrategy[Any], Check]]:
    """Rows of listings straight to their readers: hundreds for each number that chance begins with."""
    odd_values: tuple[Any, ...] = (
        *ODD_NUMBERS,
        *ODD_TEXTS,
        None,
        True,
        [],
        {},
        [[{"a": []}]],
        [[]] * 3,
        GONE,
    )
    read = {
        ApiVersion.V2018: api_2018._read_job,
        ApiVersion.V1: v1_v2.read_job,
        ApiVersion.V2: v1_v2.read_job,
    }

    def check(first: int) -> None:
        chance = random.Random(first)
        for _ in range(300):
            api = chance.choice(list(ApiVersion))
            places = list(places_in(job_of(api)))[1:]
            changes = [
                (chance.choice(places), chance.choice(odd_values)) for _ in range(chance.randint(0, 3))
            ]
            row = read_json(json.dumps(with_all(job_of(api), changes)))
            try:
                for job in read_listing([row, {"row": row}], read[api]):
                    read_all_of(job, api)
                    table([job], 1.8e9)
                    strictly(json_line(documents([job])[0]))
            except Exception as error:
                raise AssertionError(f"{api}: {row!a:.3000}") from error
            ENDED["well"] += 1

    yield st.integers(0, 2**32), check


def strictly(text: str) -> Any:
    """Read JSON as other programs do, which know no NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    assert "\n" not in text and text.isascii()
    return json.loads(text, parse_constant=refuse)


def read_all_of(job: Job, api: ApiVersion) -> None:
    assert 0 < job.job_id < 2**63 and (job.obs_id is None or 0 < job.obs_id < 2**63)
    printable(f"{job.label} {job.error_text} {job.expires_at} {job.state.is_ready}")
    if job.job_type is not None:
        identity_of(job.job_type, job.parameters, api)


@contextmanager
def run() -> Iterator[tuple[st.SearchStrategy[Any], Check]]:
    """Whole runs, where the listing says odd things of a job: the others are completed all the same."""

    def check(given: tuple[ApiVersion, Any]) -> None:
        api, odd = given
        clock = FastClock()
        served = Sandbox(clock=clock.now, product_size=lambda job: 3000)
        with tempfile.TemporaryDirectory() as folder, served as sandbox:

            def spoil(document: dict[str, Any]) -> Any:
                """Say this."""
                return {**document, **odd} if isinstance(odd, dict) else odd

            KINDS["odd"] = FaultKind("odd", Point.DOCUMENT, LISTED, spoil)
            sandbox.faults.add("odd", obs_id=OBS)
            rows = "".join(f"obs_id={obs_id}, job_type=d, download_type=vis\n" for obs_id in (OBS, OBS + 8))
            done = run_batch(sandbox, Path(folder), clock, rows, api=api, pacing=Pacing(give_up_after=900.0))
        assert OBS + 8 in [row.row.obs_id for row in done.summary.complete], done.summary
        assert not any("internal error" in row.error.what for row in done.summary.failed), done.summary
        ENDED.update(type(row.error).__name__ for row in done.summary.failed)
        ENDED["well"] += len(done.summary.complete)
        stream = io.StringIO()
        for display in (LineDisplay(stream, stream, clock), JsonDisplay(io.StringIO(), stream, clock)):
            for event in done.events:
                display(event)

    keys = ("id", "job_state", "job_params", "product", "error_text", "completed", "job_type")

    def jobs(api: ApiVersion) -> st.SearchStrategy[Any]:
        return documents_like({key: job_of(api)[key] for key in keys})

    yield st.sampled_from(ApiVersion).flatmap(lambda api: st.tuples(st.just(api), jobs(api))), check


GIVEN = (str(OBS), "d", "c", "vis", "true", "ms", "20", "1e9", "0" * 5000, "9" * 5000, '"', "nan", "-0")
PAIRS = st.tuples(
    st.one_of(st.sampled_from(sorted(KEY_BY_NAME)), TEXTS),
    st.sampled_from(["=", "=", "=", "==", " = ", ""]),
    st.one_of(TEXTS, st.sampled_from(GIVEN)),
)
ROW = st.lists(PAIRS, max_size=6).map(lambda pairs: ", ".join("".join(pair) for pair in pairs))


@contextmanager
def jobfile() -> Iterator[tuple[st.SearchStrategy[Any], Check]]:
    """Job files, as bytes and from the disk."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "jobs.csv"

        def check(given: tuple[ApiVersion, bytes]) -> None:
            api, data = given
            file.write_bytes(data)
            with documented():
                plan(parse(data, api))
            with documented():
                for job in read_file(file, api).jobs:
                    assert job.identity and json_line(dict(job.parameters(api)))

        good = b"obs_id=1191828528, job_type=d, download_type=vis"
        rows = ROW.map(lambda row: row.encode("utf-8", "surrogateescape" if row.isprintable() else "replace"))
        line = st.one_of(rows, st.just(good), spoilt(st.just(good)), st.binary(max_size=30))
        ends = st.sampled_from([b"\n", b"\r\n", b"\r", b"\0"])
        lines = st.builds(lambda end, some: end.join(some), ends, st.lists(line, max_size=4))
        starts = st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xff\xfe", b'"'])
        yield st.tuples(st.sampled_from(ApiVersion), st.builds(lambda a, b: a + b, starts, lines)), check


FETCHED = {"name": "a.tar", "size": 5, "sha1": SHA1, "verified": True, "mtime_ns": 5}
EVENTS = (
    "intent",
    "refused",
    "unclear",
    "missed",
    "listed",
    "job",
    "state",
    "complete",
    "name",
    "placing",
    "x",
)
ENTRY = {
    "time": "2026-01-01T00:00:00Z", "service": "x.example", "row": "i", "job_id": 10001,
    "after": 5, "state": "x", "files": [FETCHED], "elsewhere": ["/x"], "name": "a.tar",
    "asked_for": True, "disowned": True,
}  # fmt: skip
ENTRIES = st.one_of(*(documents_like({"event": event, **ENTRY}) for event in EVENTS), VALUES)


@contextmanager
def ledger() -> Iterator[tuple[st.SearchStrategy[Any], Check]]:
    """Ledgers: those that the client writes, spoilt, and lines of all sorts."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        file = directory / STATE_DIR / "ledger.jsonl"
        with closing(Ledger(directory, "x.example")) as written:
            written.record_intent("i", after=5)
            written.record_job("i", 10001)
            written.record_state("i", 10001, "completed")
        honest = file.read_bytes()

        def check(data: bytes) -> None:
            file.write_bytes(data)
            with documented(), closing(Ledger(directory, "x.example")) as ledger:
                row = ledger.row("i")
                ledger.fetched("i", row.job_id)
                ledger.record_intent("i", after=7)
                ledger.record_job("i", 10002)
                ledger.record_missed("i", 3)
                ledger.record_job_given_up("i")

        lines = st.lists(texts_of_json(ENTRIES), max_size=5).map(b"\n".join)
        yield (
            st.one_of(lines, spoilt(st.just(honest)), st.builds(lambda a, b: a + b, st.just(honest), lines)),
            check,
        )


@contextmanager
def lock() -> Iterator[tuple[st.SearchStrategy[Any], Check]]:
    """Locks of others."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        file = directory / STATE_DIR / "lock"
        here = vars(Owner.here(1.8e9))

        def check(data: bytes) -> None:
            file.parent.mkdir(exist_ok=True)  # A lock that is given back takes an empty folder along.
            file.write_bytes(data)
            with documented():
                owner = Owner.of(file)
                printable(f"{owner} {owner is not None and owner.is_gone}")
            if b"[" in data[:1] or owner is None or not owner.token:
                os.utime(file, (1.0, 1.0))
            alone = directory_lock(directory, directory / STATE_DIR, FastClock(), lambda text: None)
            with documented(), alone as guard:
                guard()

        yield (
            texts_of_json(st.one_of(documents_like(here), documents_like({**here, "pid": 1}), VALUES)),
            check,
        )


@contextmanager
def notes() -> Iterator[tuple[st.SearchStrategy[Any], Check]]:
    """Notes of part files, with some bytes beside them."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "a.tar.part"
        wanted = ExpectedFile(10001, "a.tar", 5, SHA1)
        note = {"job_id": 10001, "size": 5, "sha1": SHA1, "etag": '"x"', "synced": 3, "boot": ""}

        def check(given: tuple[bytes, bytes]) -> None:
            said, there = given
            part.with_name("a.tar.part.json").write_bytes(said)
            part.write_bytes(there)
            with documented(), open_part(part, wanted, threading.Event()) as file:
                assert 0 <= file.length <= max(len(there), 5)

        yield st.tuples(texts_of_json(documents_like(note)), st.binary(max_size=8)), check


@contextmanager
def journal() -> Iterator[tuple[st.SearchStrategy[Any], Check]]:
    """Journals of copies that were cut off."""
    with tempfile.TemporaryDirectory() as folder:
        file, source = Path(folder) / "1.journal", Path("/scratch/x/1")
        with closing(Journal(file, 10001, source)) as written:
            written.note("a", Copied(5, 7, 3, "", True))
        head, line = map(json.loads, file.read_bytes().splitlines())

        def check(data: bytes) -> None:
            file.write_bytes(data)
            with documented(), closing(Journal(file, 10001, source)) as journal:
                copied = journal.copied(Entry("a", stat.S_IFREG | 0o644, 5, 7))
                assert 0 <= copied.count <= 5 and len(copied.sha1) in (0, 40), copied

        lines = st.lists(texts_of_json(documents_like(line)), max_size=3)
        heads = texts_of_json(st.one_of(st.just(head), documents_like(head)))
        yield st.builds(lambda first, others: b"\n".join([first, *others, b""]), heads, lines), check


@contextmanager
def tokens() -> Iterator[tuple[st.SearchStrategy[Any], Check]]:
    """The files that hold tokens, logins and accounts."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / ".mwa-asvo"
        home.mkdir(mode=0o700)
        token, ends = "a.eyJleHAiOiAyMDAwMDAwMDAwfQ.c", "2033-01-01T00:00:00Z"
        pair = {"access_token": token, "refresh_token": token, "user_id": 7, "user_login": "x"}
        shared = {**pair, "access_expires_at": ends, "refresh_expires_at": ends}

        def check(given: dict[str, bytes]) -> None:
            for name, data in given.items():
                (home / name).write_bytes(data)
                (home / name).chmod(0o600)
            store = TokenStore(home / "tokens.json", "passw0rd-1", FastClock())
            with documented(), store.locked():
                store.load()
                store.count_login()
                store.discount_login()
                store.save({"access_token": "a.b.c", "refresh_token": "d.e.f", "user": {"id": 7}})
                store.load()

        account = documents_like({"x": {"logins": [1.8e9], "mark": "x"}})
        others = texts_of_json(st.one_of(st.lists(SCALARS, max_size=7), VALUES, account))
        names = ("mwa_client_logins.json", "mwa_client_accounts.json", "mwa_client.json")
        files = {"tokens.json": texts_of_json(documents_like(shared)), **dict.fromkeys(names, others)}
        yield st.fixed_dictionaries(files), check


@contextmanager
def errorfile() -> Iterator[tuple[st.SearchStrategy[Any], Check]]:
    """What stands where the errors are to be written: another's file stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "errors.json"

        def check(data: bytes) -> None:
            file.write_bytes(data)
            try:
                with documented():
                    write_errors(file, [{"obs_id": None, "job_id": None, "result": "\ud800"}])
            finally:
                left = file.read_bytes()
            assert left == data or strictly(left.decode("ascii").replace("\n", " ").strip())

        errors = st.lists(documents_like({"obs_id": 1, "job_id": 2, "result": "x"}), max_size=3)
        yield texts_of_json(st.one_of(errors, VALUES)), check


KINDS_OF_INPUT = {
    made.__name__: made
    for made in (http, listing, rows, run, jobfile, ledger, lock, notes, journal, tokens, errorfile)
}


# --- How it is run ------------------------------------------------------------------------------------

ENDED: Counter[str] = Counter()
"""How often what ended how."""


@contextmanager
def documented() -> Iterator[None]:
    """Let only the errors pass that are documented."""
    try:
        yield
        ENDED["well"] += 1
    except MwaClientError as error:
        str(error), repr(error)
        assert "internal error" not in error.what, error
        ENDED[type(error).__name__] += 1


def fuzz(kind: str, seconds: float, first_seed: int) -> int:
    """Try one kind of input for so long; say what was done."""
    ends = time.monotonic() + seconds
    tried = 0
    with KINDS_OF_INPUT[kind]() as (inputs, check):

        def counted(value: Any) -> None:
            nonlocal tried
            tried += 1
            check(value)

        rounds = 0
        while not rounds or time.monotonic() < ends:
            once = settings(
                max_examples=10 if kind == "run" else 100,
                deadline=None,
                database=None,
                print_blob=False,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            )
            seed(first_seed + rounds)(once(given(inputs)(counted)))()
            rounds += 1
    print(f"{tried} inputs; ended: {', '.join(f'{name} {number}' for name, number in ENDED.most_common(6))}")
    return 0


def tried_in_a_process(kind: str, seconds: float, first_seed: int) -> bool:
    """Try one kind in a process of its own; print how it went, and return whether all was well."""
    arguments = [sys.executable, __file__, f"--child={kind}", f"--seconds={seconds}", f"--seed={first_seed}"]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(arguments, stdout=said, stderr=subprocess.STDOUT)
        killer = threading.Timer(10 * seconds + 120, process.kill)
        killer.start()
        _, status, usage = os.wait4(process.pid, 0)
        killer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        lines = said.read().splitlines()
    memory = usage.ru_maxrss * 1024 / 1e6
    print(f"{kind:10} {memory:5.0f} MB  {lines[-1] if lines else ''}", flush=True)
    if process.returncode:
        words = "it did not end" if process.returncode < 0 else "found"
        print("\n".join([f"--- {words}, seed {first_seed}:", *lines[-60:]]))
    if memory >= MOST_MB:
        print(f"--- more than {MOST_MB:.0f} MB, seed {first_seed}")
    return process.returncode == 0 and memory < MOST_MB


def main() -> int:
    """Try all kinds; 0 where nothing was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="altogether (default: %(default)g)")
    parser.add_argument("--only", choices=KINDS_OF_INPUT, action="append", help="this kind of input")
    parser.add_argument("--seed", type=int, default=None, help="to see the same again")
    parser.add_argument("--child", choices=KINDS_OF_INPUT, help=argparse.SUPPRESS)
    options = parser.parse_args()
    first_seed = random.randrange(10**9) if options.seed is None else options.seed
    if options.child:
        return fuzz(options.child, options.seconds, first_seed)
    kinds = options.only or list(KINDS_OF_INPUT)
    found = [kind for kind in kinds if not tried_in_a_process(kind, options.seconds / len(kinds), first_seed)]
    print(
        f"found something in: {', '.join(found)}"
        if found
        else f"nothing found; memory below {MOST_MB:.0f} MB"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
