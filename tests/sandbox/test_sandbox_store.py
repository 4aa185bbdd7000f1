"""The practice object store answers as the archive's does, or as another one where that is switched on."""

from __future__ import annotations

import http.client
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from shared import wait_until

from mwa_client.sandbox import Job, JobState, JobType, Sandbox
from mwa_client.sandbox.delivery import parse_range_as_ceph
from mwa_client.sandbox.products import UPLOADED_AT_ONCE, Content

OBS = 1191828584
SIZE = 1000
TIMEOUT = 20


@dataclass(frozen=True)
class Answer:
    """What came back over a connection of its own."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def code(self) -> str:
        """What the store calls an error; empty unless the error is as the archive's store writes it."""
        match = re.fullmatch(
            rb'<\?xml version="1.0" encoding="UTF-8"\?><Error><Code>(\w+)</Code><Message></Message>'
            rb"<RequestId>(.+)</RequestId><HostId>practice</HostId></Error>",
            self.body,
        )
        if match and match[2].decode() != self.headers["x-amz-request-id"]:
            return ""
        return match[1].decode() if match and self.headers["Content-Type"] == "application/xml" else ""


class Store:
    """A sandbox with one product, and a way to its object store."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.faults = sandbox.faults
        self.job = sandbox.service.add({"obs_id": str(OBS)}, JobType.VISIBILITIES, state=JobState.READY)
        self.url = self.signed(self.job)
        self.content = b"".join(self.job.content.pieces())

    def signed(self, job: Job, *, stale: bool = False) -> str:
        return self.sandbox._store.url_of(job, stale=stale)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.sandbox.object_store_url).netloc, timeout=TIMEOUT)

    def ask(self, url: str = "", method: str = "GET", **headers: str) -> Answer:
        connection = self.connect()
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(
                method, (url or self.url).partition(self.sandbox.object_store_url)[2], headers=named
            )
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()


@pytest.fixture
def store() -> Iterator[Store]:
    with Sandbox(seconds_per_state=0, product_size=lambda job: SIZE) as sandbox:
        yield Store(sandbox)


# --- Ranges ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted",
    [
        f"bytes={SIZE}-",
        f"bytes={SIZE + 5}-{SIZE + 9}",
        "bytes=200-100",
        "bytes=abc",
        "bytes=7-, 0-1",
        "bytes=5-x",
        "bytes=--5",
        "bytes=",
    ],
)
def test_a_refused_range(store: Store, wanted: str) -> None:
    answer = store.ask(Range=wanted)
    assert (answer.status, answer.code, answer.headers["Content-Range"]) == (416, "InvalidRange", None)
    assert "ETag" not in answer.headers
    store.faults.add("tell_size")
    assert store.ask(Range=wanted).headers["Content-Range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=2-4", 2, 5),
        ("bytes=990-5000", 990, SIZE),
        ("bytes=990-", 990, SIZE),
        ("bytes=-3", SIZE - 3, SIZE),
        ("bytes=-5000", 0, SIZE),
        ("bytes=2-4,6-8", 2, 5),
        ("bytes=2-4, 6-8", 2, 5),
        # Not as one would think, but as the real one does.
        ("bytes=-0", 0, SIZE),
        ("bytes=-", 1, SIZE),
        ("bytes=x-5", 0, 6),
        ("Bytes = 5 - 9", 5, 10),
    ],
)
def test_a_range_or_the_first_of_two(store: Store, wanted: str, start: int, stop: int) -> None:
    answer = store.ask(Range=wanted)
    assert (answer.status, answer.body) == (206, store.content[start:stop])
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert answer.headers["Content-Length"] == str(stop - start)


def test_a_range_of_another_unit(store: Store) -> None:
    answer = store.ask(Range="pages=1-2")
    assert (answer.status, answer.body) == (200, store.content)
    assert answer.headers["Content-Range"] == f"bytes 0-{SIZE - 1}/{SIZE}"
    assert "Content-Range" not in store.ask().headers


@pytest.mark.parametrize("wanted", ["bytes=2-4,6-8", "pages=1-2", "bytes=200-100", "bytes=abc"])
def test_a_store_that_ignores_odd_ranges(store: Store, wanted: str) -> None:
    store.faults.add("ignore_odd_ranges")
    answer = store.ask(Range=wanted)
    assert (answer.status, answer.body, answer.headers["Content-Range"]) == (200, store.content, None)


@given(st.text(st.sampled_from("bytes=-,0123456789 x"), max_size=20), st.integers(0, 1000))
def test_whatever_is_asked_for_it_is_within_the_product(wanted: str, size: int) -> None:
    part = parse_range_as_ceph(wanted, size)
    if part is not None and part[0] < part[1]:
        assert 0 <= part[0] < part[1] <= size


@pytest.mark.parametrize("condition", ['"other"', "W/{}", "Wed, 21 Oct 2015 07:28:00 GMT", "{}"])
def test_if_range_is_ignored(store: Store, condition: str) -> None:
    etag = store.ask().headers["ETag"]
    store.faults.add("change_content")
    answer = store.ask(Range="bytes=5-9", If_Range=condition.format(etag))
    now = store.job.content.changed()
    assert (answer.status, answer.body) == (206, b"".join(now.pieces(5, 10)))
    assert answer.headers["ETag"] == now.etag != etag


def test_a_store_that_heeds_if_range(store: Store) -> None:
    etag = store.ask().headers["ETag"]
    store.faults.add("heed_if_range")
    conditions = [etag, '"other"', f"W/{etag}"]
    answers = [store.ask(Range="bytes=5-9", If_Range=condition) for condition in conditions]
    assert [answer.status for answer in answers] == [206, 200, 200]


def test_a_store_that_goes_by_the_book(store: Store) -> None:
    store.faults.add("go_by_the_book")
    assert store.ask(Range="bytes=5-9", If_Range='"other"').status == 200
    assert store.ask(Range="bytes=200-100").status == 200
    beyond = store.ask(Range=f"bytes={SIZE}-")
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{SIZE}")


def test_if_match_is_heeded(store: Store) -> None:
    etag = store.ask().headers["ETag"]
    for condition in (etag, etag.strip('"')):
        assert store.ask(Range="bytes=5-9", If_Match=condition).body == store.content[5:10]
    for condition in ('"other"', f"W/{etag}", "*"):
        answer = store.ask(Range="bytes=5-9", If_Match=condition)
        assert (answer.status, answer.code) == (412, "PreconditionFailed")


def test_an_empty_object_has_no_ranges(store: Store) -> None:
    empty = store.sandbox.service.add(
        {"obs_id": str(OBS + 8)}, JobType.VISIBILITIES, state=JobState.READY, size=0
    )
    url = store.signed(empty)
    assert (store.ask(url).status, store.ask(url).body) == (200, b"")
    assert [store.ask(url, Range=wanted).status for wanted in ("bytes=0-", "bytes=-5")] == [416, 416]


# --- What is said of a product -----------------------------------------------------------------------


def test_etags_of_products_in_one_part_and_in_several(store: Store) -> None:
    assert re.fullmatch('"[0-9a-f]{32}"', store.ask().headers["ETag"])
    assert re.fullmatch('"[0-9a-f]{32}"', Content("x", UPLOADED_AT_ONCE).etag)
    large = store.sandbox.service.add(
        {"obs_id": str(OBS + 8)}, JobType.VISIBILITIES, state=JobState.READY, size=2 * UPLOADED_AT_ONCE + 1
    )
    answer = store.ask(store.signed(large), Range="bytes=0-0")
    assert re.fullmatch('"[0-9a-f]{32}-3"', answer.headers["ETag"])


def test_the_same_bytes_uploaded_otherwise(store: Store) -> None:
    before = store.ask()
    store.faults.add("uploaded_otherwise", parts=[0, 2, 7])
    answers = [store.ask() for _ in range(4)]
    tags = [answer.headers["ETag"] for answer in answers]
    assert all(answer.body == before.body for answer in answers)
    assert [re.sub("[0-9a-f]{32}", "md5", tag) for tag in tags] == ['"md5"', '"md5-2"', '"md5-7"', '"md5"']
    assert len(set(tags)) == 4
    assert tags[3] == before.headers["ETag"]


@pytest.mark.parametrize(("fault", "start"), [("weak_etag", 'W/"'), ("no_etag", None)])
def test_other_stores_etags(store: Store, fault: str, start: str | None) -> None:
    store.faults.add(fault)
    etag = store.ask().headers["ETag"]
    assert etag is None if start is None else etag.startswith(start)


@pytest.mark.parametrize("encoding", ["aws-chunked", "gzip", "binary"])
def test_a_stored_encoding_comes_back_and_the_bytes_are_plain(store: Store, encoding: str) -> None:
    assert "Content-Encoding" not in store.ask().headers
    store.faults.add("stored_encoding", encoding=encoding)
    for wanted, status, bytes_ in [("", 200, store.content), ("bytes=5-9", 206, store.content[5:10])]:
        answer = store.ask(**({"Range": wanted} if wanted else {}))
        assert (answer.status, answer.body) == (status, bytes_)
        assert answer.headers["Content-Encoding"] == encoding
        assert answer.headers["Content-Length"] == str(len(bytes_))
    assert "Content-Encoding" not in store.ask(Range="bytes=abc").headers


# --- Refusals ----------------------------------------------------------------------------------------


def test_a_403_says_why_in_its_code(store: Store) -> None:
    job, url = store.job, store.url
    codes = {
        "AccessDenied": [
            store.signed(job, stale=True),
            url.partition("?")[0],
            store.sandbox.object_store_url + "/",
        ],
        "InvalidAccessKeyId": [url.replace("AWSAccessKeyId=practice", "AWSAccessKeyId=you")],
        "SignatureDoesNotMatch": [
            url.replace("Signature=", "Signature=x"),
            url.replace("Signature=", "Signature=%C3%A9"),
            url.replace("Expires=", "Expires=1"),
            url.replace(".tar?", ".zip?"),
        ],
    }
    for code, urls in codes.items():
        for asked in urls:
            answer = store.ask(asked)
            assert (answer.status, answer.code) == (403, code), asked
    for odd in ("never", "-1", "9" * 5000, "%D9%A3"):
        answer = store.ask(re.sub("Expires=[0-9]*", f"Expires={odd}", url))
        assert (answer.status, answer.code) == (403, "AccessDenied")
    assert store.ask().status == 200


@pytest.mark.parametrize("method", ["HEAD", "PUT", "POST", "DELETE"])
def test_a_url_for_get_is_good_for_nothing_else(store: Store, method: str) -> None:
    answer = store.ask(method=method)
    assert (answer.status, answer.code) == (403, "" if method == "HEAD" else "SignatureDoesNotMatch")
    assert (answer.body == b"") is (method == "HEAD")


@pytest.mark.parametrize("credentials", ["Basic eDp5", "Bearer x.y.z", "AWS practice:c2lnbmF0dXJl"])
def test_authorization_beside_a_signature(store: Store, credentials: str) -> None:
    answer = store.ask(Authorization=credentials)
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_a_url_whose_signature_was_lost(store: Store) -> None:
    answer = store.ask(re.sub("&Signature=[^&]*", "", store.url))
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_what_is_not_there(store: Store) -> None:
    missing = store.sandbox._store.signed("/mwa-asvo/other.tar")
    elsewhere = store.sandbox._store.signed("/another/other.tar")
    answers = [store.ask(missing), store.ask(elsewhere)]
    assert [(answer.status, answer.code) for answer in answers] == [(404, "NoSuchKey"), (404, "NoSuchBucket")]
    store.faults.add("product_gone", code=["NoSuchKey", "NoSuchBucket"])
    assert [store.ask().code for _ in range(3)] == ["NoSuchKey", "NoSuchBucket", ""]
    store.sandbox.service.expire(store.job.id)
    assert (store.ask().status, store.ask().code) == (404, "NoSuchKey")


def test_too_much_to_do(store: Store) -> None:
    store.faults.add("busy", times=1)
    answer = store.ask()
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "SlowDown", None)
    store.faults.add("busy", times=1, retry_after=9)
    assert (store.ask().headers["Retry-After"], store.ask().status) == ("9", 200)


def test_a_store_that_explains(store: Store) -> None:
    store.faults.add("explain_errors", text="Request has expired & gone")
    answer = store.ask(store.signed(store.job, stale=True))
    assert b"<Code>AccessDenied</Code><Message>Request has expired &amp; gone</Message>" in answer.body
    assert store.ask().body == store.content


# --- What stands on every answer ---------------------------------------------------------------------


def test_every_answer_has_the_same_headers(store: Store) -> None:
    busy = store.faults.add("busy")
    answers = [store.ask()]
    store.faults.remove(busy)
    answers += [
        store.ask(),
        store.ask(Range="bytes=1-2"),
        store.ask(Range="bytes=abc"),
        store.ask(method="HEAD"),
    ]
    answers += [store.ask(Authorization="x"), store.ask(store.sandbox._store.signed("/mwa-asvo/no"))]
    assert [answer.status for answer in answers] == [503, 200, 206, 416, 403, 400, 404]
    for answer in answers:
        assert (answer.headers["Connection"], answer.headers["Accept-Ranges"]) == ("Keep-Alive", "bytes")
        assert (answer.headers["Server"], answer.headers.get_all("Date") is None) == (None, False)
    ids = [answer.headers["x-amz-request-id"] for answer in answers]
    assert all(re.fullmatch(r"tx[0-9a-f]{32}-default", id_) for id_ in ids)
    assert len(set(ids)) == len(ids)


def test_a_connection_serves_again_after_every_answer(store: Store) -> None:
    connection, path = store.connect(), store.url.partition(store.sandbox.object_store_url)[2]
    headers = [{"Range": "bytes=abc"}, {"Authorization": "x"}, {}, {"Range": "bytes=1-2"}]
    seen = []
    for some in headers:
        connection.request("GET", path, headers=some)
        response = connection.getresponse()
        seen.append((response.status, len(response.read()) == SIZE))
    connection.close()
    assert seen == [(416, False), (400, False), (200, True), (206, False)]
    assert len({request.connection for request in store.sandbox.requests}) == 1


def test_who_asks_to_close_is_told_so(store: Store) -> None:
    answer = store.ask(Connection="close")
    assert (answer.status, answer.headers["Connection"]) == (200, "close")


def test_what_another_party_says_in_its_place_is_not_the_stores(store: Store) -> None:
    store.faults.add("product_status", status=404)
    answer = store.ask()
    assert (answer.status, answer.code, answer.headers["x-amz-request-id"]) == (404, "", None)


def test_the_service_is_as_it_was(store: Store) -> None:
    with requests.Session() as session:
        session.post(f"{store.sandbox.url}/api/login", auth=("practice", "practice"), timeout=TIMEOUT)
        old = {"job_id": str(store.job.id), "file_name": store.job.file_name}

        def get(**headers: str) -> requests.Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return session.get(
                f"{store.sandbox.url}/api/download", params=old, headers=named, timeout=TIMEOUT
            )

        assert get(Range="bytes=5-9", If_Range='"other"').status_code == 200
        assert get(Range="bytes=abc").status_code == 200
        beyond = get(Range=f"bytes={SIZE}-")
        assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{SIZE}")
        assert "Server" in beyond.headers
        assert "x-amz-request-id" not in beyond.headers


# --- Objects and readers that stop -------------------------------------------------------------------


def test_a_damaged_object(store: Store) -> None:
    handle = store.faults.add("damaged_object", at=300, length=100, seconds=0.05)
    connection, path = store.connect(), store.url.partition(store.sandbox.object_store_url)[2]
    connection.request("GET", path)
    response = connection.getresponse()
    assert (response.status, response.headers["Content-Length"]) == (200, str(SIZE))
    with pytest.raises(http.client.IncompleteRead) as broken:
        response.read()
    assert broken.value.partial == store.content[:300]
    connection.close()
    for first in (300, 350, 399):
        answer = store.ask(Range=f"bytes={first}-")
        assert (answer.status, answer.code) == (404, "NoSuchKey")
    assert handle.hits == 4
    assert store.ask(Range="bytes=0-299").body == store.content[:300]
    assert store.ask(Range="bytes=400-").body == store.content[400:]
    with pytest.raises(http.client.IncompleteRead) as broken:
        store.ask(Range="bytes=100-350")
    assert broken.value.partial == store.content[100:300]


def test_an_object_that_is_damaged_from_the_beginning(store: Store) -> None:
    store.faults.add("damaged_object", seconds=0.05)
    began = time.monotonic()
    with pytest.raises(http.client.IncompleteRead) as broken:
        store.ask()
    assert (broken.value.partial, time.monotonic() - began >= 0.05) == (b"", True)
    assert store.ask(Range="bytes=0-").status == 404


def test_a_reader_that_stops_is_dropped() -> None:
    size = 64 << 20
    with Sandbox(seconds_per_state=0, product_size=lambda job: size, store_patience=0.1) as sandbox:
        job = sandbox.service.add({"obs_id": str(OBS)}, JobType.VISIBILITIES, state=JobState.READY)
        address = urlsplit(sandbox.object_store_url)
        path = sandbox._store.url_of(job).partition(sandbox.object_store_url)[2]
        with socket.create_connection((address.hostname, address.port), timeout=TIMEOUT) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            wait_until(lambda: bool(sandbox.requests))
        (request,) = sandbox.requests
        assert (request.status, request.body_bytes_sent < size) == (200, True)
