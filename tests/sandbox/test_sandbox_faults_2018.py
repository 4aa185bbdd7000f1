"""Each fault of the practice service, seen over the interface of 2018."""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
import sandbox_2018_steps as steps
from practice_client import TIMEOUT, Clock
from sandbox_2018_steps import OBS, SIZE, Client, product_head, raw_get, true_bytes

from mwa_client.sandbox import KINDS, Faults, Sandbox
from mwa_client.sandbox.products import BLOCK_SIZE

client = steps.client
clock = steps.clock
sandbox = steps.sandbox


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# --- Faults in general --------------------------------------------------------------------------------


def test_unknown_faults_and_options_are_named() -> None:
    faults = Faults()
    with pytest.raises(ValueError, match="no such fault: cut_produce; did you mean cut_product"):
        faults.add("cut_produce")
    with pytest.raises(ValueError, match="no such option: behind; there are: after, reset, times"):
        faults.add("cut_product", behind=3)
    with pytest.raises(ValueError, match="after must be a whole number, not 'soon'"):
        faults.add("cut_product", after=[3, "soon"])
    with pytest.raises(ValueError, match="redirect: needs url"):
        faults.add("redirect")
    with pytest.raises(ValueError, match="whole numbers"):
        faults.add("busy", times="often")  # type: ignore[arg-type]
    assert list(faults) == []


def test_every_fault_has_a_line_and_options_whose_kinds_are_known() -> None:
    needed: dict[str, Any] = {"redirect": {"url": "x"}, "slow": {"seconds": 1}, "cut_product": {"after": 1}}
    needed |= {"late_job": {"seconds": 30.0}, "add_param": {"key": "x"}}
    faults = Faults()
    for name, kind in KINDS.items():
        assert kind.summary.endswith(".")
        defaults = {key: p.default for key, p in kind.options.items() if p.default is not p.empty}
        assert name in repr(faults.add(name, **{**defaults, **needed.get(name, {})}))
    assert [fault.kind.name for fault in faults] == list(KINDS)


def test_times_and_skip(client: Client) -> None:
    handle = client.sandbox.faults.add("fail_call", times=2, skip=1, path="/api/get_jobs")
    statuses = [client.get("/api/get_jobs").status_code for _ in range(5)]
    assert statuses == [200, 500, 500, 200, 200]
    assert handle.hits == 2


def test_a_list_gives_a_value_for_each_hit(client: Client) -> None:
    handle = client.sandbox.faults.add("fail_call", status=[500, 502, 503])
    assert [client.get("/api/get_jobs").status_code for _ in range(4)] == [500, 502, 503, 200]
    assert handle.hits == 3


def test_remove_and_clear(client: Client) -> None:
    faults = client.sandbox.faults
    first, second = faults.add("fail_call"), faults.add("html_reply")
    assert client.get("/api/get_jobs").status_code == 500
    faults.remove(first)
    assert "html" in client.get("/api/get_jobs").headers["Content-Type"]
    faults.clear()
    assert client.rows() == []
    assert (first.hits, second.hits, list(faults)) == (1, 1, [])


def test_aims(client: Client) -> None:
    faults = client.sandbox.faults
    one, two = client.new_job(), client.new_job(obs_id="1191828599")
    by_obs = faults.add("missing_job", obs_id=1191828599)
    assert [row["id"] for row in client.rows()] == [one]
    by_job = faults.add("product_status", job_id=one)
    assert client.download(two, "1191828599_ms.zip").status_code == 200
    assert client.download(one).status_code == 404
    by_path = faults.add("busy", path="/api/*_job")
    assert client.submit().status_code == 503
    assert client.get("/api/get_jobs").status_code == 200
    by_form = faults.add("refuse_submission", obs_id="1234567890")
    faults.remove(by_path)
    assert client.submit(obs_id="1234567890").status_code == 400
    assert client.submit().status_code == 200
    assert [fault.hits for fault in (by_obs, by_job, by_path, by_form)] == [2, 1, 1, 1]


# --- Faults of calls ----------------------------------------------------------------------------------


def test_refuse_login(sandbox: Sandbox) -> None:
    sandbox.faults.add("refuse_login", times=1, text="Account is locked")
    with Client(sandbox, login=False) as client:
        reply = client.login()
        assert (reply.status_code, reply.json()["error"]) == (401, "Account is locked")
        assert client.login().status_code == 200


def test_fail_call(client: Client) -> None:
    client.sandbox.faults.add("fail_call", times=1, status=502, retry_after=17)
    reply = client.submit()
    assert (reply.status_code, reply.headers["Retry-After"]) == (502, "17")
    assert "<h1>502" in reply.text
    assert client.rows() == []
    client.sandbox.faults.add("fail_call", body="Sorry")
    assert client.submit().text == "Sorry"


def test_drop_reply(client: Client) -> None:
    client.sandbox.faults.add("drop_reply", times=1)
    assert client.submit(edgewidth="").status_code == 400
    with pytest.raises(requests.ConnectionError):
        client.submit()
    assert client.row()["id"] == 10001
    dropped = client.sandbox.requests[-2]
    assert (dropped.path, dropped.status, dropped.job_id) == ("/api/conversion_job", None, 10001)
    client.sandbox.faults.add("drop_reply", path="/api/get_jobs", reset=True)
    with pytest.raises(requests.ConnectionError, match="reset"):
        client.rows()


def test_refuse_submission(client: Client) -> None:
    client.sandbox.faults.add("refuse_submission", times=1, text="Observation 1 does not exist")
    reply = client.submit()
    assert (reply.status_code, reply.json()) == (400, {"error": "Observation 1 does not exist"})
    client.sandbox.faults.add("refuse_submission", json=False, status=403, text="Full outage")
    reply = client.submit()
    assert (reply.status_code, reply.text) == (403, "Full outage")
    assert client.rows() == []


def test_html_reply(client: Client) -> None:
    client.sandbox.faults.add("html_reply", times=1)
    reply = client.get("/api/get_jobs")
    assert (reply.status_code, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert reply.text.startswith("<!DOCTYPE html>")


def test_broken_json(client: Client) -> None:
    handle = client.sandbox.faults.add("broken_json")
    client.login()
    assert handle.hits == 0, "a reply without a body cannot be broken"
    reply = client.get("/api/get_jobs")
    assert reply.status_code == 200
    with pytest.raises(ValueError):
        reply.json()


def test_busy(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("busy", retry_after=30)
    for reply in (client.get("/api/get_jobs"), client.download(job_id)):
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "30")


def test_slow_answers_late_and_a_client_that_leaves_is_noticed(client: Client) -> None:
    client.sandbox.faults.add("slow", seconds=[0.05, 3600], path="/api/get_jobs")
    began = time.monotonic()
    assert client.rows() == []
    assert time.monotonic() - began >= 0.05
    with pytest.raises(requests.ReadTimeout):
        client.session.get(f"{client.sandbox.url}/api/get_jobs", timeout=0.05)
    eventually(lambda: len(client.sandbox.requests) == 3)
    assert client.sandbox.requests[-1].status is None


def test_expire_session(client: Client) -> None:
    job_id = client.new_job()
    handle = client.sandbox.faults.add("expire_session", times=1, path="/api/download")
    assert client.get("/api/get_jobs").status_code == 200
    assert client.download(job_id).status_code == 401
    assert client.get("/api/get_jobs").status_code == 401
    assert client.login().status_code == 200
    assert client.download(job_id).status_code == 200
    assert handle.hits == 1


# --- Faults of jobs and listings ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "state", "text"),
    [
        ("job_error", {"text": "Staging failed"}, 3, "Staging failed"),
        ("job_error", {"text": None}, 3, None),
        ("expire_job", {}, 4, None),
        ("cancel_job", {}, 5, None),
    ],
)
def test_what_becomes_of_a_job_is_for_good(
    client: Client, name: str, options: dict[str, Any], state: int, text: str | None
) -> None:
    job_id = client.new_job()
    handle = client.sandbox.faults.add(name, times=1, **options)
    for _ in range(2):
        row = client.row()
        assert (row["job_state"], row["error_text"], row["product"]) == (state, text, None)
    assert client.download(job_id).status_code in (404, 410)
    client.sandbox.faults.clear()
    assert (client.row()["job_state"], handle.hits) == (state, 1)


def test_a_job_ends_in_error_when_it_was_about_to_be_ready(clock: Clock) -> None:
    with Sandbox(seconds_per_state=10, clock=clock) as sandbox, Client(sandbox) as client:
        client.new_job()
        sandbox.faults.add("job_error")
        sandbox.faults.add("expire_job")
        states = []
        for _ in range(3):
            states.append(client.row()["job_state"])
            clock.now += 10
        assert states == [0, 1, 3]
        sandbox.faults.add("cancel_job")
        assert client.row()["job_state"] == 3


def test_hostile_name(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("hostile_name", times=1, name="../../.ssh/evil")
    assert client.row()["product"]["files"][0][0] == "../../.ssh/evil"
    assert client.download(job_id, "../../.ssh/evil").content == true_bytes(client.sandbox)
    assert client.download(job_id).status_code == 404


def test_listings_that_do_not_tell_the_truth(client: Client) -> None:
    client.new_job()
    name, size, sha1 = client.row()["product"]["files"][0]

    def files(fault: str, **options: Any) -> Any:
        handle = client.sandbox.faults.add(fault, times=1, **options)
        row = client.row()
        assert handle.hits == 1
        return row["product"] and row["product"]["files"]

    assert files("null_product") is None
    assert files("no_sha1") == [[name, size]]
    assert files("wrong_size", by=-5) == [[name, size - 5, sha1]]
    assert files("wrong_sha1") == [[name, size, "0" * 40]]
    assert files("strings_for_numbers") == [[name, str(size), sha1]]
    assert client.row()["product"]["files"] == [[name, size, sha1]]


def test_lies_about_products_wait_until_there_is_one(clock: Clock) -> None:
    names = ("null_product", "no_sha1", "wrong_size", "wrong_sha1")
    with Sandbox(seconds_per_state=10, clock=clock) as sandbox, Client(sandbox) as client:
        client.new_job()
        handles = [sandbox.faults.add(name) for name in names]
        assert client.row()["product"] is None
    assert [handle.hits for handle in handles] == [0, 0, 0, 0]


def test_missing_job_and_unknown_state(client: Client) -> None:
    one, two = client.new_job(), client.new_job()
    client.sandbox.faults.add("missing_job", times=1, job_id=one)
    client.sandbox.faults.add("unknown_state", times=1, state="thinking", job_id=two)
    row = client.row()
    assert (row["id"], row["job_state"], row["product"]) == (two, "thinking", None)
    assert [row["job_state"] for row in client.rows()] == [2, 2]


def test_late_job(client: Client, clock: Clock) -> None:
    job = client.new_job()
    client.sandbox.faults.add("late_job", seconds=30.0)
    assert client.rows() == []
    clock.now += 29.0
    assert client.rows() == []
    clock.now += 2.0
    assert [row["id"] for row in client.rows()] == [job]


def test_fail_at_once(client: Client) -> None:
    client.sandbox.service.seconds_per_state = 1000.0
    one, two = client.new_job(), client.new_job()
    fault = client.sandbox.faults.add("fail_at_once", times=1, text="no tape")
    assert [(row["id"], row["job_state"]) for row in client.rows()] == [(one, 3), (two, 0)]
    assert client.rows()[0]["error_text"] == "no tape" and fault.hits == 1
    client.sandbox.faults.clear()
    assert client.rows()[0]["job_state"] == 3, "for good"


def test_strings_for_numbers(client: Client) -> None:
    client.sandbox.faults.add("strings_for_numbers")
    assert client.submit().json() == {"job_id": "10001"}
    row = client.row()
    assert (row["id"], row["job_type"], row["job_state"], row["error_text"]) == ("10001", "0", "2", None)


def test_missing_field_and_null_job_id(client: Client) -> None:
    faults = client.sandbox.faults
    faults.add("missing_field", times=1)
    assert client.submit().json() == {}
    faults.add("null_job_id", times=1)
    assert client.submit().json() == {"job_id": None}
    faults.add("missing_field", times=1, field="job_state")
    assert ["job_state" in row for row in client.rows()] == [False, True]


def test_extra_job_rows(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("extra_job_rows")
    entries = client.get("/api/get_jobs").json()
    assert entries[-1]["row"]["id"] == job_id
    assert None in entries
    assert {"row": None} in entries
    assert any(isinstance(entry, str) for entry in entries)


# --- Faults of products -------------------------------------------------------------------------------


def test_cut_product(client: Client) -> None:
    job_id = client.new_job()
    handle = client.sandbox.faults.add("cut_product", after=[0, 1000, 2_000_000])
    for after in (0, 1000, 2_000_000):
        head, _, body = raw_get(client.sandbox, product_head(client, job_id)).partition(b"\r\n\r\n")
        assert f"Content-Length: {SIZE}".encode() in head
        assert body == true_bytes(client.sandbox, 0, after)
        assert client.sandbox.requests[-1].body_bytes_sent == after
    assert client.download(job_id).content == true_bytes(client.sandbox)
    assert handle.hits == 3


def test_cut_product_with_a_reset(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("cut_product", after=1_500_000, reset=True)
    reply = raw_get(client.sandbox, product_head(client, job_id))
    assert reply.endswith(b"<reset>")
    assert reply.partition(b"\r\n\r\n")[2] == true_bytes(client.sandbox, 0, 1_500_000) + b"<reset>"
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        client.download(job_id)


def test_cut_product_spares_replies_that_are_shorter(client: Client) -> None:
    job_id = client.new_job()
    handle = client.sandbox.faults.add("cut_product", after=1000)
    assert len(client.download(job_id, Range="bytes=0-999").content) == 1000
    assert client.download(job_id + 1).status_code == 404
    assert handle.hits == 0


def test_ignore_range(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("ignore_range")
    reply = client.download(job_id, Range="bytes=10-19")
    assert (reply.status_code, len(reply.content)) == (200, SIZE)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, f"bytes 11-20/{SIZE}"),
        ({"shift": -10}, f"bytes 0-9/{SIZE}"),
        ({"total": 5}, "bytes 10-19/5"),
        ({"shift": 2, "total": 5}, "bytes 12-21/5"),
        ({"header": "garbage"}, "garbage"),
        ({"header": ""}, None),
    ],
)
def test_lie_in_content_range(client: Client, options: dict[str, Any], expected: str | None) -> None:
    job_id = client.new_job()
    handle = client.sandbox.faults.add("lie_in_content_range", **options)
    assert "Content-Range" not in client.download(job_id).headers
    reply = client.download(job_id, Range="bytes=10-19")
    assert (reply.status_code, reply.headers.get("Content-Range")) == (206, expected)
    assert reply.content == true_bytes(client.sandbox, 10, 20)
    assert handle.hits == 1


def test_etags(client: Client) -> None:
    job_id = client.new_job()
    etag = client.download(job_id).headers["ETag"]

    def part() -> tuple[int, str | None]:
        reply = client.download(job_id, Range="bytes=0-9", If_Range=etag)
        assert reply.content[:10] == true_bytes(client.sandbox, 0, 10)
        return reply.status_code, reply.headers.get("ETag")

    seen = []
    for name in ("weak_etag", "change_etag", "no_etag"):
        client.sandbox.faults.add(name, times=1)
        seen.append(part())
    assert seen == [(200, f"W/{etag}"), (200, '"another"'), (200, None)]
    assert part() == (206, etag)
    client.sandbox.faults.add("no_etag")
    handle = client.sandbox.faults.add("weak_etag")
    assert (part(), handle.hits) == ((200, None), 0)


def test_change_content(client: Client) -> None:
    job_id = client.new_job()
    sha1 = client.row()["product"]["files"][0][2]
    right = client.download(job_id)
    client.sandbox.faults.add("change_content", times=1)
    wrong = client.download(job_id)
    assert len(wrong.content) == SIZE
    assert hashlib.sha1(wrong.content).hexdigest() != sha1
    assert wrong.headers["ETag"] != right.headers["ETag"]
    assert client.row()["product"]["files"][0][2] == sha1
    assert client.download(job_id).content == right.content


def test_corrupt_byte(client: Client) -> None:
    job_id = client.new_job()
    at = BLOCK_SIZE + 3
    handle = client.sandbox.faults.add("corrupt_byte", at=at, times=1)
    assert client.download(job_id, Range=f"bytes=0-{at - 1}").content == true_bytes(client.sandbox, 0, at)
    wrong = client.download(job_id).content
    right = true_bytes(client.sandbox)
    assert [n for n in range(at - 9, at + 9) if wrong[n] != right[n]] == [at]
    assert wrong[:at] + wrong[at + 1 :] == right[:at] + right[at + 1 :]
    assert client.download(job_id).content == right
    assert handle.hits == 1


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("name", "change"), [("long_body", 100), ("short_body", -100)])
def test_a_body_that_is_not_as_long_as_promised(
    client: Client, name: str, change: int, chunked: bool
) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add(name, by=100, chunked=chunked)
    reply = client.download(job_id)
    assert len(reply.content) == SIZE + change
    assert reply.headers.get("Content-Length") == (None if chunked else str(SIZE + change))
    reply = client.download(job_id, Range="bytes=500-999")
    assert reply.headers["Content-Range"] == f"bytes 500-999/{SIZE}"
    assert reply.content == true_bytes(client.sandbox, 500, 1000 + change)
    assert client.download(job_id + 1).status_code == 404


def test_a_body_cannot_be_shorter_than_empty(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("short_body", by=2 * SIZE)
    reply = client.download(job_id)
    assert (reply.content, reply.headers["Content-Length"]) == (b"", "0")


@pytest.mark.parametrize("by", [10, -10])
def test_wrong_content_length(client: Client, by: int) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("wrong_content_length", by=by)
    head, _, body = raw_get(client.sandbox, product_head(client, job_id)).partition(b"\r\n\r\n")
    assert f"Content-Length: {SIZE + by}".encode() in head
    assert body == true_bytes(client.sandbox)


def test_chunked(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("chunked")
    reply = client.download(job_id)
    assert reply.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in reply.headers
    assert reply.content == true_bytes(client.sandbox)


def test_gzip(client: Client) -> None:
    job_id = client.new_job()
    handle = client.sandbox.faults.add("gzip")
    client.sandbox.faults.add("corrupt_byte")
    client.sandbox.faults.add("long_body")
    client.sandbox.faults.add("short_body")
    assert client.download(job_id + 1).status_code == 404
    reply = client.session.get(
        f"{client.sandbox.url}/api/download",
        params={"file_name": f"{OBS}_ms.zip", "job_id": str(job_id)},
        headers={"Accept-Encoding": "identity"},
        stream=True,
        timeout=TIMEOUT,
    )
    with reply:
        packed = reply.raw.read(decode_content=False)
    assert reply.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed) == true_bytes(client.sandbox)
    assert handle.hits == 1


def test_stall_goes_on_later(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("stall", after=1000, seconds=0.05)
    began = time.monotonic()
    assert client.download(job_id).content == true_bytes(client.sandbox)
    assert time.monotonic() - began >= 0.05


def test_stall_delivers_what_comes_before_and_then_nothing(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("stall", after=1000)
    with client.session.get(
        f"{client.sandbox.url}/api/download",
        params={"file_name": f"{OBS}_ms.zip", "job_id": str(job_id)},
        stream=True,
        timeout=(TIMEOUT, 0.1),
    ) as reply:
        assert reply.raw.read(1000) == true_bytes(client.sandbox, 0, 1000)
        with pytest.raises(requests.ConnectionError, match="timed out"):
            next(reply.iter_content(1000))
    client.session.close()
    eventually(lambda: len(client.sandbox.requests) == 3)
    assert client.sandbox.requests[-1].body_bytes_sent == 1000


def test_product_status(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("product_status", status=[403, 410])
    assert [client.download(job_id).status_code for _ in range(3)] == [403, 410, 200]
    client.sandbox.faults.add("product_status", status=416, total=77, body="", retry_after=3)
    reply = client.download(job_id)
    assert (reply.status_code, reply.headers["Content-Range"], reply.text) == (416, "bytes */77", "")
    assert reply.headers["Retry-After"] == "3"


def test_redirect(client: Client) -> None:
    job_id = client.new_job()
    with Sandbox() as other:
        client.sandbox.faults.add("redirect", url=f"{other.url}/elsewhere")
        reply = client.download(job_id)
        assert (reply.status_code, reply.history[0].status_code) == (404, 302)
        assert other.requests[0].path == "/elsewhere"


def test_a_rate_holds_products_back_and_nothing_else() -> None:
    sandbox = Sandbox(seconds_per_state=0, rate=1e6, product_size=lambda job: 100_000)
    with sandbox, Client(sandbox) as client:
        job_id = client.new_job()
        began = time.monotonic()
        assert len(client.download(job_id).content) == 100_000
        assert time.monotonic() - began >= 0.05
        assert client.download(job_id, Range="bytes=0-9").status_code == 206
        assert client.sandbox.requests[-1].connection == 1


def test_a_delay_holds_calls_back() -> None:
    with Sandbox(seconds_per_state=0, delay=0.03, product_size=lambda job: 100) as sandbox:
        began = time.monotonic()
        with Client(sandbox) as client:
            client.new_job()
            assert time.monotonic() - began >= 0.06
