"""Every answer has a limit in time and in bytes, and belongs to the request that it answers."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Callable
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mwa_client.asvo import product_refusal, replies
from mwa_client.asvo.address import origin_of, redirected
from mwa_client.asvo.call import abort_call_of
from mwa_client.asvo.http import HttpClient
from mwa_client.asvo.product_refusal import Refusal
from mwa_client.asvo.replies import Allowance, _memory_of
from mwa_client.asvo.stream import StreamedResponse
from mwa_client.errors import (
    BadReply,
    MwaClientError,
    ServiceError,
    ServiceRefused,
    ServiceUnavailable,
    SessionLost,
    Stopped,
)
from mwa_client.json_text import read_json

LISTING = "/api/get_jobs"
SHORT = 0.3
"""Seconds that a call may take here; each server below would go on for ever."""
OK = b"HTTP/1.1 200 OK\r\n"

Serve = Callable[[socket.socket], None]


class Server:
    """Answers each request with what comes next, over as many connections as there are."""

    def __init__(self, *answers: bytes | Serve) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.sent = 0
        self._answers = iter(answers)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while self._take_request(connection):
                    answer = next(self._answers, None)
                    if answer is None:
                        return
                    if isinstance(answer, bytes):
                        connection.sendall(answer)
                    else:
                        answer(connection)
            except OSError:
                pass  # The client has had enough.

    def _take_request(self, connection: socket.socket) -> bool:
        request = b""
        while b"\r\n\r\n" not in request:
            data = connection.recv(1 << 16)
            if not data:
                return False
            request += data
        self.requests.append(request)
        return True

    def drip(self, first: bytes, then: bytes = b"x", pause: float = 0.02) -> Serve:
        """Send something, and then a little again and again."""

        def serve(connection: socket.socket) -> None:
            connection.sendall(first)
            while not self._over.wait(pause):
                connection.sendall(then)

        return serve

    def flood(self, first: bytes, then: bytes) -> Serve:
        """Send something, and then more and more."""

        def serve(connection: socket.socket) -> None:
            connection.sendall(first)
            while not self._over.is_set():
                connection.sendall(then)
                self.sent += len(then)

        return serve


@contextmanager
def server_of(*answers: bytes | Callable[[Server], Serve]) -> Iterator[Server]:
    server = Server()
    server._answers = iter([each if isinstance(each, bytes) else each(server) for each in answers])
    with server:
        yield server


def wire_to(server: Server, *, timeout: float = 5.0, stall: float = 5.0) -> HttpClient:
    return HttpClient(server.url, verify=True, timeout=timeout, stall=stall, user_agent="test")


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Expect what follows to take no longer, with room for a loaded machine."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds + 20


def read_all(reply: StreamedResponse) -> bytes:
    data, room = b"", memoryview(bytearray(1 << 16))
    count = reply.read_into(room)
    while count != 0:
        data += bytes(room[: count or 0])
        count = reply.read_into(room)
    return data


# --- Time ---------------------------------------------------------------------------------------------

DRIPS: dict[str, tuple[bytes, bytes]] = {
    "status line": (b"", b"H"),
    "header": (OK + b"X: ", b"y"),
    "headers": (OK, b"A: b\r\n"),
    "body": (OK + b"Content-Length: 1000000\r\n\r\n[", b" "),
    "body without an end": (OK + b"\r\n[", b" "),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n", b"1\r\n \r\n"),
    "chunk size": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "trailers": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n", b"A: b\r\n"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "other interim answers": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
    "zipped": (OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"[")[:11], b"\0"),
}


@pytest.mark.parametrize("what", ["call", "entries", "login"])
def test_an_answer_that_drips_is_given_up(what: str) -> None:
    def ask(name: str) -> None:
        with server_of(lambda server: server.drip(*DRIPS[name])) as server:  # noqa: SIM117
            with closing(wire_to(server, timeout=SHORT)) as wire, within(SHORT):
                try:
                    if what == "call":
                        wire.call("GET", LISTING)
                    elif what == "entries":
                        list(wire.list_entries(LISTING))
                    else:
                        wire.login("/api/login", ("user", "word"))
                except ServiceUnavailable as error:
                    assert server.url in error.what or "opened no session" in error.what, name
                else:
                    pytest.fail(f"{name}: that is no answer")

    # All at once, for each takes its time.
    with ThreadPoolExecutor(len(DRIPS)) as pool:
        list(pool.map(ask, DRIPS))


@pytest.mark.parametrize("status", [400, 401, 500])
def test_an_error_page_that_drips_is_still_that_error(status: int) -> None:
    head = f"HTTP/1.1 {status} X\r\nContent-Length: 1000\r\n\r\nno calibration ".encode()
    kind = {400: ServiceRefused, 401: SessionLost, 500: ServiceUnavailable}[status]
    with server_of(lambda server: server.drip(head)) as server:  # noqa: SIM117
        with closing(wire_to(server, timeout=SHORT)) as wire, within(SHORT):
            with pytest.raises(kind) as caught:
                wire.call("GET", LISTING)
    assert type(caught.value) is kind


@pytest.mark.parametrize("name", ["body", "body without an end", "chunks", "chunk size", "trailers"])
def test_a_page_in_place_of_a_product_that_drips_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # Each drop comes well before anybody would call it silence.
    monkeypatch.setattr(product_refusal, "REFUSAL_TIME", SHORT)
    monkeypatch.setattr(product_refusal, "MOST_PIECES", 1_000_000)
    head, then = (part.replace(b"200 OK", b"403 X") for part in DRIPS[name])
    with server_of(lambda server: server.drip(head, then)) as server:  # noqa: SIM117
        with closing(wire_to(server, timeout=60.0, stall=60.0)) as wire, within(SHORT):
            refusal = Refusal.of(wire.open_url(server.url + "/x", {}))
    assert (refusal.status, refusal.code) == (403, "")


@pytest.mark.parametrize("name", ["status line", "header", "headers", "interim answers"])
def test_the_headers_of_a_product_that_drip_are_given_up(name: str) -> None:
    with server_of(lambda server: server.drip(*DRIPS[name])) as server:  # noqa: SIM117
        with closing(wire_to(server, timeout=SHORT, stall=SHORT)) as wire, within(SHORT):
            with pytest.raises(ServiceUnavailable):
                wire.open_url(server.url + "/x", {})


def test_a_product_may_take_longer_than_a_call_as_long_as_bytes_come() -> None:
    def slowly(connection: socket.socket) -> None:
        connection.sendall(OK + b"Content-Length: 20\r\n\r\n")
        for _ in range(20):
            time.sleep(0.03)
            connection.sendall(b"x")

    with server_of(lambda server: slowly) as server, closing(wire_to(server, timeout=0.2, stall=0.4)) as wire:
        assert read_all(wire.open_url(server.url + "/x", {})) == b"x" * 20


def test_a_chunked_product_may_take_longer_too() -> None:
    def slowly(connection: socket.socket) -> None:
        connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(20):
            time.sleep(0.03)
            connection.sendall(b"1\r\nx\r\n")
        connection.sendall(b"0\r\n\r\n")

    with server_of(lambda server: slowly) as server, closing(wire_to(server, timeout=0.2, stall=0.4)) as wire:
        assert read_all(wire.open_url(server.url + "/x", {})) == b"x" * 20


def test_an_answer_that_is_only_too_long_names_the_setting() -> None:
    with server_of(lambda server: server.drip(*DRIPS["body"])) as server:  # noqa: SIM117
        with closing(wire_to(server, timeout=SHORT)) as wire, pytest.raises(ServiceUnavailable) as caught:
            wire.call("GET", LISTING)
    assert caught.value.what == f"Only a part of the answer from {server.url} arrived in time."
    assert "MWA_ASVO_API_TIMEOUT" in caught.value.remedy


def test_a_connection_that_was_used_before_has_a_new_deadline() -> None:
    answers = [answer(b"[]")] * 3
    with server_of(*answers) as server, closing(wire_to(server, timeout=1.0)) as wire:
        for _ in range(3):
            assert wire.call("GET", LISTING) == []
            time.sleep(0.4)
        assert server.connections == 1


def test_a_connection_to_one_server_is_not_taken_away_for_a_call_to_another() -> None:
    page = answer(b"[]")
    with server_of(page, page) as store, server_of(page) as service, closing(wire_to(service)) as wire:

        def fetch() -> None:
            with closing(wire.open_url(f"{store.url}/x", {})) as reply:
                assert read_all(reply) == b"[]"

        fetch()
        with closing(wire.open_path("/x", query={}, headers={})):
            fetch()
        assert (store.connections, len(store.requests)) == (1, 2)


def hang_up(server: Server) -> Serve:
    return lambda connection: connection.shutdown(socket.SHUT_RDWR)


def break_off(server: Server) -> Serve:
    def serve(connection: socket.socket) -> None:
        connection.sendall(answer(b"[]")[:20])
        connection.shutdown(socket.SHUT_RDWR)

    return serve


def test_a_connection_that_the_server_has_closed_meanwhile_costs_nothing() -> None:
    page = answer(b"[]")
    with server_of(page, hang_up, page, hang_up, page) as server, closing(wire_to(server)) as wire:
        assert wire.call("GET", LISTING) == []
        assert wire.call("GET", LISTING) == []
        with closing(wire.open_url(f"{server.url}/x", {})) as reply:
            assert read_all(reply) == b"[]"
        assert (server.connections, len(server.requests)) == (3, 5)


@pytest.mark.parametrize(("method", "end"), [("POST", hang_up), ("GET", break_off)])
def test_what_may_have_been_done_is_not_asked_for_twice(method: str, end: Callable[[Server], Serve]) -> None:
    page = answer(b"[]")
    with server_of(page, end, page) as server, closing(wire_to(server)) as wire:
        wire.call(method, LISTING)
        with pytest.raises(ServiceUnavailable):
            wire.call(method, LISTING)
        assert len(server.requests) == 2


def test_a_new_connection_that_is_closed_is_not_tried_again_at_once() -> None:
    with server_of(hang_up, hang_up) as server, closing(wire_to(server)) as wire:
        with pytest.raises(ServiceUnavailable):
            wire.call("GET", LISTING)
        assert len(server.requests) == 1


def test_a_call_that_was_ended_on_purpose_is_not_made_again() -> None:
    asking, page = threading.Event(), answer(b"[]")

    def wait(connection: socket.socket) -> None:
        asking.set()
        connection.recv(1)

    with server_of(page, lambda server: wait, page) as server, closing(wire_to(server)) as wire:
        wire.call("GET", LISTING)
        with ThreadPoolExecutor(1) as pool:
            threads: list[threading.Thread] = []

            def ask() -> None:
                threads.append(threading.current_thread())
                wire.call("GET", LISTING)

            asked = pool.submit(ask)
            assert asking.wait(20)
            abort_call_of(threads[0])
            with pytest.raises(ServiceUnavailable):
                asked.result(20)
        assert len(server.requests) == 2


def test_closing_the_wire_ends_what_other_threads_are_asking() -> None:
    errors: list[BaseException] = []

    def ask(wire: HttpClient) -> None:
        try:
            list(wire.list_entries(LISTING))
        except BaseException as error:
            errors.append(error)

    for name in ("status line", "body", "chunks"):
        with server_of(lambda server, name=name: server.drip(*DRIPS[name])) as server:  # type: ignore[misc]
            wire = wire_to(server, timeout=60)
            thread = threading.Thread(target=ask, args=(wire,))
            thread.start()
            while not server.requests:
                time.sleep(0.01)
            with within(1):
                wire.close()
                thread.join(10)
            assert not thread.is_alive()
    assert [type(error) for error in errors] == [Stopped] * 3


def test_closing_the_wire_ends_a_download() -> None:
    with server_of(lambda server: server.drip(OK + b"Content-Length: 1000000\r\n\r\n")) as server:
        wire = wire_to(server, timeout=60)
        reply = wire.open_url(server.url + "/x", {})
        assert reply.read_into(memoryview(bytearray(1)))
        wire.close()
        with closing(reply), pytest.raises(Stopped):
            read_all(reply)


# --- Bytes --------------------------------------------------------------------------------------------

BOMBS = {
    "blanks": (b"[", b" "),
    "zeros": (b"[0", b",0"),
    "empty lists": (b"[[]", b",[]"),
    "empty objects": (b"[{}", b",{}"),
    "brackets": (b"[", b"["),
    "a word": (b'["', b"a"),
    "a number": (b"[", b"1"),
    "a page": (b"<html>", b"<br>"),
    "an object": (b'{"a": 0', b',"a": 0'),
    "jobs": (b'[{"id": 1}', b',{"id": 1}'),
    "nulls": (b"", b"\0"),
}

PROBE = """
import resource, sys, time
from mwa_client.asvo.call import abort_call_of
from mwa_client.asvo.http import HttpClient
from mwa_client.errors import MwaClientError

wire = HttpClient(sys.argv[1], verify=True, timeout=20, stall=20, user_agent="test")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
kept = []
for what in sys.argv[2].split():
    try:
        if what == "entries":
            kept = [entry for entry in wire.list_entries("/x") if isinstance(entry, dict)]
        elif what == "open":
            wire.open_path("/x", query={}, headers={}).close()
        elif what == "login":
            wire.login("/x", ("a", "b"))
        else:
            wire.call("GET", "/x")
    except MwaClientError as error:
        print(type(error).__name__)
    else:
        print("fine")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def cost_of(server: Server, *what: str) -> tuple[list[str], int]:
    """Ask a server, in a process of its own; return what came of each call, and the megabytes it took."""
    run = subprocess.run(
        [sys.executable, "-c", PROBE, server.url, " ".join(what)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    *outcomes, megabytes = run.stdout.split()
    return outcomes, int(megabytes)


def zipped(first: bytes, then: bytes, megabytes: int = 12) -> bytes:
    """Pack so much, without ever having it all."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    piece = then * ((1 << 20) // len(then))
    middle = b"".join(packer.compress(piece) for _ in range(megabytes))
    return packer.compress(first) + middle + packer.flush()


def test_nothing_that_unpacks_to_more_than_makes_sense_costs_memory() -> None:
    packed = [zipped(*bomb) for bomb in BOMBS.values()]
    answers = [answer(body, "Content-Encoding: gzip") for body in packed]
    long = answer(zipped(*BOMBS["blanks"], 250), "Content-Encoding: gzip")
    with server_of(*answers, *answers, long, long) as server:
        outcomes, megabytes = cost_of(
            server, *["entries"] * len(BOMBS), *["call"] * len(BOMBS), "entries", "call"
        )
    assert outcomes == ["BadReply"] * (2 * len(BOMBS) + 2)
    assert megabytes < 120


def test_a_body_without_end_is_not_read_for_ever() -> None:
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    head = OK + b"Transfer-Encoding: chunked\r\nSet-Cookie: a=b\r\n\r\n1\r\n[\r\n"
    with server_of(*[lambda server: server.flood(head, chunk)] * 3) as server:
        outcomes, megabytes = cost_of(server, "entries", "call", "login")
    assert outcomes == ["BadReply", "BadReply", "fine"]
    assert megabytes < 50


@pytest.mark.parametrize("status", [401, 404, 503, 302])
def test_of_an_error_page_only_the_beginning_is_read(status: int) -> None:
    head = f"HTTP/1.1 {status} X\r\nLocation: /y\r\n\r\n".encode()
    with server_of(lambda server: server.flood(head, b"x" * 65536)) as server:
        with closing(wire_to(server)) as wire, within(1), pytest.raises(ServiceError):
            wire.call("GET", LISTING)
        time.sleep(0.05)
        assert server.sent < 20_000_000, "but for what lies in the buffers between us, nobody reads it"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_body_of_a_redirect_is_not_read(status: int) -> None:
    head = f"HTTP/1.1 {status} X\r\nLocation: /there\r\n\r\n".encode()
    with server_of(lambda server: server.flood(head, b"x" * 65536), answer(b"bytes")) as server:
        with closing(wire_to(server)) as wire, within(1):
            assert read_all(wire.open_path("/x", query={}, headers={})) == b"bytes"
        assert server.sent < 20_000_000
    assert server.connections == 2


@pytest.mark.parametrize("packing", ["deflate", "gzip", "br", "x"])
def test_a_redirect_that_is_said_to_be_packed(packing: str) -> None:
    moved = answer(b"short", "Location: /there", f"Content-Encoding: {packing}", status="302 Found")
    with server_of(moved, answer(b"bytes")) as server, closing(wire_to(server)) as wire:
        assert read_all(wire.open_path("/x", query={}, headers={})) == b"bytes"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 10_000 + b"\r\n\r\n"),
        (OK, b"A: b\r\n" * 1000),
        (OK + b"A: ", b"x" * 10_000),
        (b"", b"x" * 10_000),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n", b"A: b\r\n" * 1000),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2", b";x" * 10_000),
    ],
)
def test_headers_without_end(first: bytes, then: bytes) -> None:
    flood = [lambda server: server.flood(first, then)] * 2
    with server_of(*flood) as server, closing(wire_to(server, timeout=30)) as wire, within(2):
        with pytest.raises(ServiceUnavailable):
            wire.call("GET", LISTING)
        with pytest.raises(ServiceUnavailable):
            read_all(wire.open_path("/x", query={}, headers={}))
        assert server.sent < 20_000_000


ROW = {
    "action": "INSERT", "table": "jobs",
    "row": {
        "job_type": 0, "job_state": "completed", "user_id": 1065,
        "job_params": {
            "obs_id": "1339896408", "job_type": "conversion", "avg_time_res": "2", "avg_freq_res": "80",
            "flag_edge_width": "80", "output": "ms", "delivery": "acacia", "priority": 1,
            "user_pawsey_group": "mwaops", "centre": "pointing", "apply_di_cal": "false",
        },
        "error_code": None, "error_text": None, "created": "2022-06-22T01:56:38.635146",
        "started": "2022-06-22T01:56:38.635146", "completed": "2022-06-22T01:56:38.635146",
        "first_name": "A", "last_name": "Person", "modified": "2022-06-22T01:56:38.635146",
        "product": {"files": [{
            "type": "acacia", "size": 931112960, "sha1": "12b0933f" * 5,
            "url": "https://ingest.pawsey.org.au/mwa-asvo/1339896408_575929_vis.tar?AWSAccessKeyId="
            "0123456789abcdef0123456789abcdef&Signature=0123456789abcdef0123456789ab%3D&Expires=1656467844",
        }]},
    },
}  # fmt: skip


def test_an_honest_list_of_100_000_jobs_is_read() -> None:
    # The same entry again and again: what is measured is what may be read, not what it is.
    allowance = Allowance.for_listing()
    row = json.dumps({**ROW, "id": 575929})
    allowance.take(100_000 * (len(row) + 2), 100_000 * _memory_of(row), 100_000)
    with (
        server_of(answer(f"[{', '.join([row] * 3000)}]".encode())) as server,
        closing(wire_to(server)) as wire,
    ):
        assert list(wire.list_entries(LISTING)) == [{**ROW, "id": 575929}] * 3000


@pytest.mark.parametrize("packing", ["gzip", "x-gzip", "GZIP", "deflate"])
def test_packed_answers(packing: str) -> None:
    body = json.dumps([ROW] * 300).encode()
    packed = (
        zlib.compress(body) if packing == "deflate" else gzip.compress(body[:999]) + gzip.compress(body[999:])
    )
    answers = [answer(packed, f"Content-Encoding: {packing}")] * 2
    with server_of(*answers) as server, closing(wire_to(server)) as wire:
        assert wire.call("GET", LISTING) == list(wire.list_entries(LISTING)) == [ROW] * 300
        assert server.connections == 1
    assert b"Accept-Encoding: gzip\r\n" in server.requests[0]


@pytest.mark.parametrize("packing", ["br", "zstd", "gzip, gzip", "aws-chunked", "\xff"])
def test_answers_that_are_packed_otherwise(packing: str) -> None:
    with server_of(answer(b"[]", f"Content-Encoding: {packing}")) as server, closing(wire_to(server)) as wire:  # noqa: SIM117
        with pytest.raises(BadReply, match="compressed"):
            wire.call("GET", LISTING)


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_packed_answer_that_ends_early(cut: int) -> None:
    head = OK + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n"
    packed = gzip.compress(json.dumps(ROW).encode())

    def serve(connection: socket.socket) -> None:
        connection.sendall(head + packed[:-cut])
        connection.shutdown(socket.SHUT_RDWR)

    with server_of(lambda server: serve) as server, closing(wire_to(server)) as wire:  # noqa: SIM117
        with pytest.raises(ServiceUnavailable, match="closed early"):
            wire.call("GET", LISTING)


# --- Lists, entry by entry ----------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


class Pieces:
    """A response whose body comes in pieces of one size."""

    headers: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, body: bytes, size: int) -> None:
        self.raw = self
        self._body, self._size = body, size

    def read(self, most: int, decode_content: bool) -> bytes:
        piece, self._body = self._body[: self._size], self._body[self._size :]
        return piece


def entries_in(body: bytes, size: int = 7, *, at_once: bool = False) -> list[object]:
    with patch.object(replies, "MOST_AT_ONCE", replies.MOST_AT_ONCE if at_once else -1):
        return list(replies.read_entries(Pieces(body, size), Allowance.for_listing()))  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(JSON, max_size=5),
    st.booleans(),
    st.integers(1, 50),
    st.sampled_from(["", " ", "\n\t", "\ufeff"]),
)
def test_a_list_is_read_as_the_library_reads_it(
    entries: list[object], is_ascii: bool, size: int, before: str
) -> None:
    text = json.dumps(entries, ensure_ascii=is_ascii, indent=1 if before.isspace() else None)
    body = f"{before}{text}{before.strip(chr(0xFEFF))}".encode("utf-8", "surrogatepass")
    right = json.loads(text.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
    assert entries_in(body, size) == entries_in(body, size, at_once=True) == right


@settings(max_examples=100, deadline=None)
@given(st.text('[]{},:"0123456789 \\natruefls\n', max_size=20))
@example("[1,]")
@example("[,1]")
@example("[1 2]")
@example("[1]2")
@example("[[]")
@example("[")
@example('{"a": []}')
@example("[" * 1500)
def test_what_is_no_list_is_read_as_none(text: str) -> None:
    try:
        right = read_json(text)
    except ValueError:
        right = None
    for at_once in (True, False):
        try:
            found = entries_in(text.encode(), 3, at_once=at_once)
        except (replies.NotJson, replies.NotAList):
            found = None
        assert found == (right if isinstance(right, list) else None)


def test_a_number_of_many_digits_is_that_entrys_trouble() -> None:
    body = b'[{"id": 1, "size": ' + b"9" * 5000 + b'}, {"id": 2}]'
    for at_once in (True, False):
        assert entries_in(body, 65536, at_once=at_once) == [{"id": 1, "size": None}, {"id": 2}]


def test_json_with_a_mark_at_its_beginning_is_read() -> None:
    answers = [answer(b"\xef\xbb\xbf" + body) for body in (b'{"job_id": 7}', b"[1, 2]")]
    with server_of(*answers) as server, closing(wire_to(server)) as wire:
        assert wire.call("GET", "/x") == {"job_id": 7}
        assert list(wire.list_entries("/x")) == [1, 2]


@pytest.mark.parametrize("body", [b'{"job_id": 7', b"[1, 2", b"[1,, 2]", b"{'job_id': 7}"])
def test_broken_json_is_called_that(body: bytes) -> None:
    answers = [answer(body, "Content-Type: application/json")] * 2
    with server_of(*answers) as server, closing(wire_to(server)) as wire:
        for ask in (lambda: wire.call("GET", "/x"), lambda: list(wire.list_entries("/x"))):
            with pytest.raises(BadReply, match="broken JSON"):
                ask()


# --- A reply belongs to its request -------------------------------------------------------------------

INTERIM = [
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nContent-Length: 7\r\n\r\n",
    b"HTTP/1.1 199 Whatever\r\n\r\n",
]


@pytest.mark.parametrize("interim", [*INTERIM, b"".join(INTERIM)])
def test_interim_answers_are_passed_over(interim: bytes) -> None:
    answers = [interim + answer(b'{"job_id": %d}' % number) for number in range(4)]
    with server_of(*answers, interim + answer(b"bytes")) as server, closing(wire_to(server)) as wire:
        assert [wire.call("POST", "/x", form={"a": "b"})["job_id"] for _ in range(4)] == [0, 1, 2, 3]
        assert read_all(wire.open_path("/x", query={}, headers={})) == b"bytes"
        assert server.connections == 1


def test_a_change_of_protocol_is_no_answer() -> None:
    switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
    with server_of(switching) as server, closing(wire_to(server)) as wire:  # noqa: SIM117
        with pytest.raises(ServiceUnavailable, match="not valid"):
            wire.call("GET", "/x")


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "204 No Content"])
def test_what_comes_after_an_answer_is_nobodys(status: str) -> None:
    first = answer(b'{"job_id": 1}', status=status) + answer(b'{"job_id": 2}')
    with server_of(first, answer(b'{"job_id": 3}')) as server, closing(wire_to(server)) as wire:
        try:
            assert wire.call("POST", "/x", form={"a": "1"}) == {"job_id": 1}
        except MwaClientError:
            assert status != "200 OK"
        assert wire.call("POST", "/x", form={"a": "3"}) == {"job_id": 3}
        assert server.connections == 2


def test_what_comes_after_a_product_is_nobodys() -> None:
    with server_of(answer(b"bytes") + answer(b"other"), answer(b"third")) as server:  # noqa: SIM117
        with closing(wire_to(server)) as wire:
            assert read_all(wire.open_path("/x", query={}, headers={})) == b"bytes"
            assert read_all(wire.open_path("/x", query={}, headers={})) == b"third"


@pytest.mark.parametrize(
    "cookie",
    [
        "Path=/; Max-Age=0",
        "Max-Age=-1",
        "Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        "Expires=nonsense; Max-Age=x; Version=ö",
        "Domain=asvo.mwatelescope.org",
        "Domain=https://elsewhere.example; Secure; HttpOnly; SameSite=Strict",
        "Path=/elsewhere",
        "",
    ],
)
def test_the_cookie_of_a_login_is_the_session(cookie: str) -> None:
    login = answer(b"OK", f"Set-Cookie: MWA_JOB_COOKIE=abc=; {cookie}", "Set-Cookie: other=1")
    with server_of(login, answer(b"[]")) as server, closing(wire_to(server)) as wire:
        wire.login("/api/login", ("user", "word"))
        assert wire.call("GET", LISTING) == []
    assert b"Cookie: MWA_JOB_COOKIE=abc=; other=1\r\n" in server.requests[1]


@pytest.mark.parametrize("cookie", ["MWA_JOB_COOKIE=", "=x", "", "MWA_JOB_COOKIE=\x01", "a b=c", ";"])
def test_what_is_no_cookie_is_no_session(cookie: str) -> None:
    with server_of(answer(b"OK", f"Set-Cookie: {cookie}")) as server, closing(wire_to(server)) as wire:  # noqa: SIM117
        with pytest.raises(BadReply, match="opened no session"):
            wire.login("/api/login", ("user", "word"))


# --- Where redirects lead -----------------------------------------------------------------------------


def test_once_a_redirect_has_left_the_service_nothing_of_ours_is_sent() -> None:
    def moved(location: str) -> bytes:
        return answer(b"", f"Location: {location}", status="302 Found")

    login = answer(b"OK", "Set-Cookie: MWA_JOB_COOKIE=abc")
    with server_of(moved("/ignored")) as store, server_of() as service:
        store._answers = iter([moved(f"{service.url}/back")])
        service._answers = iter([login, moved("/within"), moved(f"{store.url}/x"), answer(b"bytes")])
        with closing(wire_to(service)) as wire:
            wire.login("/api/login", ("user", "word"))
            assert read_all(wire.open_path("/api/download", query={}, headers={})) == b"bytes"
    _, asked, within_it, back = service.requests
    assert b"Cookie: MWA_JOB_COOKIE=abc" in asked
    assert b"Cookie: MWA_JOB_COOKIE=abc" in within_it
    assert b"GET /back" in back
    assert b"Cookie" not in back and b"Cookie" not in store.requests[0]


ODD = [
    "http://other\\@service/x",
    "//other\\@service/x",
    "\\\\other/x",
    "/\\other/x",
    "http://user@service/x",
    "http://user:word@service/x",
    "http://service@other/x",
    "http://ser\tvice/x",
    "/a\tb",
    "http://ser vice/x",
    "http://service:port/x",
    "http://service:99999/x",
    "http://service:0/x",
    "http://service:/x",
    "http://[::1/x",
    "http://[service]/x",
    "http://service%2eother/x",
    "http://\uff53ervice/x",
    "http://a..b/x",
    f"http://{'x' * 64}/x",
    "http:///x",
    "file:///etc/passwd",
    "ftp://service/x",
    "javascript:alert(1)",
    "http://",
]


@pytest.mark.parametrize("location", ODD)
def test_a_redirect_that_can_be_read_in_two_ways_is_refused(location: str) -> None:
    moved = answer(b"", "Location: X", status="302 Found").replace(b" X", b" " + location.encode())
    login = answer(b"OK", "Set-Cookie: MWA_JOB_COOKIE=abc")
    with server_of(login, moved, answer(b"bytes")) as server, closing(wire_to(server)) as wire:
        wire.login("/api/login", ("user", "word"))
        with pytest.raises(ServiceRefused, match="not an address"):
            wire.open_path("/x", query={}, headers={})
        with pytest.raises(ServiceRefused, match="not an address"):
            wire.open_url(location, {})
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("location", "there"),
    [
        ("/b?c#d", "http://service:81/b?c#d"),
        ("b", "http://service:81/a/b"),
        ("?b", "http://service:81/a/x?b"),
        ("//other/b", "http://other/b"),
        ("HTTPS://Other:443/b", "HTTPS://Other:443/b"),
        ("http://[::1]:80/b", "http://[::1]:80/b"),
        ("/gr\xc3\xb6\xc3\x9fe", "http://service:81/größe"),
        ("http://other/a@b", "http://other/a@b"),
        ("http://other?a@b", "http://other?a@b"),
    ],
)
def test_where_a_redirect_leads(location: str, there: str) -> None:
    assert redirected("http://service:81/a/x", location) == there


@settings(max_examples=100, deadline=None)
@given(st.text("htps:/\\@.[]?#%a0\t \xff", max_size=15).map("http://{}".format))
def test_what_is_an_address_is_read_alike_by_all(url: str) -> None:
    from urllib.parse import urlsplit

    from urllib3.util import parse_url

    try:
        origin = origin_of(url)
    except ServiceRefused:
        return
    theirs, others = parse_url(url), urlsplit(url)
    assert (
        (theirs.host or "").lower() == origin.host == (f"[{h}]" if ":" in (h := others.hostname or "") else h)
    )
    assert (theirs.port or 80) == (others.port or 80) == origin.port


# --- Whatever else comes ------------------------------------------------------------------------------

LINES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 302 X\r\n",
        b"HTTP/1.1 100 C\r\n",
        b"HTTP/9.9 200\r\n",
        b"HTTP/1.1 204 X\r\n",
        b"HTTP/1.1 304 X\r\n",
        b"HTTP/1.1 401 X\r\n",
        b"HTTP/1.1 999 X\r\n",
        b"HTTP/1.1 0 X\r\n",
        b"Location: /x\r\n",
        b"Location: http://[\r\n",
        b"Content-Encoding: deflate\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 1e9\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: x\r\n",
        b"Set-Cookie: a=b\r\n",
        b"Set-Cookie: \xff=\xfe; Expires=\xff\r\n",
        b"Content-Type: text/html; charset=\xff\r\n",
        b"Retry-After: 1e400\r\n",
        b"Retry-After: Mon, 99 Xxx 99999 99:99:99 GMT\r\n",
        b"Connection: close\r\n",
        b": x\r\n",
        b" folded\r\n",
        b"no colon\r\n",
        b"\r\n",
        b"\n",
        b"5\r\nhello\r\n",
        b"-5\r\n",
        b"-1\r\n",
        b"0\r\n\r\n",
        b"ffffffffffffffffff\r\n",
        b"1_0\r\n",
        b"+5\r\n",
        b" 5 \r\n",
        b"[]",
        b"[{}]",
        b"{",
        b"\x1f\x8b\x08",
        b"\0" * 9,
        b"\xef\xbb\xbf[]",
        b"\x15\x03\x01\x00\x02\x02\x46",
    ]
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(LINES | st.binary(max_size=6), max_size=9).map(b"".join))
@example(OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello")
@example(OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nhello")
@example(b"HTTP/1.1 302 X\r\nLocation: /x\r\nContent-Encoding: deflate\r\nContent-Length: 5\r\n\r\nabcde")
def test_no_answer_is_more_than_one_calls_trouble(raw: bytes) -> None:
    def once(connection: socket.socket) -> None:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)

    for what in ("call", "entries", "login", "open"):
        with (
            server_of(*[lambda server: once] * 7) as server,
            closing(wire_to(server, timeout=1, stall=1)) as wire,
        ):
            try:
                if what == "call":
                    wire.call("GET", "/x")
                elif what == "entries":
                    list(wire.list_entries("/x"))
                elif what == "login":
                    wire.login("/x", ("a", "b"))
                else:
                    read_all(wire.open_path("/x", query={}, headers={}))
            except MwaClientError as error:
                assert error.what
