"""The practice service's object store: signed URLs and what they open."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import sandbox_today_steps as steps
from practice_client import TIMEOUT, Clock
from sandbox_today_steps import OBS, SIZE, WEEK, Client, ClientV1, ClientV2, fetch

from mwa_client.sandbox import JobState, JobType, LoggedRequest, Sandbox

client = steps.client
clock = steps.clock
sandbox = steps.sandbox
v1 = steps.v1


def test_store_the_whole_and_its_parts(v1: ClientV1) -> None:
    v1.new_job()
    url = v1.file()["url"]
    true = b"".join(v1.sandbox.jobs[0].content.pieces())
    assert url.startswith(v1.sandbox.object_store_url)
    assert v1.sandbox.object_store_url != v1.sandbox.url
    whole = fetch(url)
    assert (whole.status_code, whole.content == true) == (200, True)
    assert whole.headers["Accept-Ranges"] == "bytes"
    etag = whole.headers["ETag"]
    assert etag.startswith('"')
    part = fetch(url, Range="bytes=5-9", If_Range=etag)
    assert (part.status_code, part.content) == (206, true[5:10])
    assert part.headers["Content-Range"] == f"bytes 5-9/{SIZE}"
    assert fetch(url, Range="bytes=5-9", If_Range='"other"').content == true[5:10]
    beyond = fetch(url, Range=f"bytes={SIZE}-")
    assert (beyond.status_code, "Content-Range" in beyond.headers) == (416, False)


def test_store_signed_for_get_alone(v1: ClientV1) -> None:
    v1.new_job()
    url = v1.file()["url"]
    for method in ("HEAD", "PUT", "DELETE", "POST", "OPTIONS"):
        assert fetch(url, method).status_code == 403
    assert fetch(url).status_code == 200


def test_store_wrong_signatures(v1: ClientV1, clock: Clock) -> None:
    first, second = v1.new_job(), v1.new_job(obs_id=OBS + 8)
    url = v1.jobs()[0]["product"]["files"][0]["url"]
    expires = int(parse_qs(urlsplit(url).query)["Expires"][0])
    assert expires == clock.now + WEEK
    wrong = [
        url.replace("Signature=", "Signature=x"),
        url.replace(f"Expires={expires}", f"Expires={expires + 1}"),
        url.replace(f"Expires={expires}", "Expires=never"),
        url.replace(f"{OBS}_{first}", f"{OBS + 8}_{second}"),
        url.replace("AWSAccessKeyId=practice", "AWSAccessKeyId=you"),
        url.partition("?")[0],
        v1.sandbox.object_store_url,
    ]
    for reply in map(fetch, wrong):
        assert (reply.status_code, reply.headers["Content-Type"]) == (403, "application/xml")
        assert "<Error><Code>" in reply.text
    assert fetch(wrong[0]).text.count("SignatureDoesNotMatch") == 1


def test_store_links_die_and_a_listing_has_fresh_ones(clock: Clock) -> None:
    with (
        Sandbox(seconds_per_state=0, clock=clock, link_seconds=60, product_size=lambda job: 9) as sandbox,
        ClientV1(sandbox) as v1,
    ):
        v1.new_job()
        url = v1.file()["url"]
        clock.now += 59
        assert fetch(url).status_code == 200
        clock.now += 1
        reply = fetch(url)
        assert (reply.status_code, "<Code>AccessDenied</Code>" in reply.text) == (403, True)
        fresh = v1.file()["url"]
        assert fresh != url
        assert fetch(fresh).status_code == 200


@pytest.mark.parametrize("kind", [ClientV1, ClientV2])
def test_a_product_can_be_with_another_server(sandbox: Sandbox, kind: type[Client]) -> None:
    url = "http://127.0.0.1:8080/product.tar"
    sandbox.service.add(
        {"obs_id": OBS}, JobType.VISIBILITIES, state=JobState.READY, size=9, sha1="2" * 40, url=url
    )
    with kind(sandbox) as client:
        assert client.file() == {"type": "acacia", "url": url, "size": 9, "sha1": "2" * 40}


def test_store_what_is_not_there(v1: ClientV1) -> None:
    job_id = v1.new_job()
    url = v1.file()["url"]
    v1.sandbox.service.expire(job_id)
    gone = fetch(url)
    assert (gone.status_code, "NoSuchKey" in gone.text) == (404, True)
    v1.sandbox.service.remove(job_id)
    assert fetch(url).status_code == 404


def test_store_links_hold_when_the_sandbox_was_away(v1: ClientV1) -> None:
    v1.new_job()
    url, store = v1.file()["url"], v1.sandbox.object_store_url
    v1.sandbox.stop()
    with pytest.raises(requests.ConnectionError):
        fetch(url)
    v1.sandbox.start()
    assert v1.sandbox.object_store_url == store
    assert fetch(url).status_code == 200


def test_store_a_taken_port(sandbox: Sandbox) -> None:
    taken = int(sandbox.object_store_url.rpartition(":")[2])
    other = Sandbox(store_port=taken)
    with pytest.raises(OSError, match="in use"):
        other.start()
    with pytest.raises(requests.ConnectionError):
        requests.get(other.url, timeout=TIMEOUT)


def test_store_requests_are_noted_apart(v1: ClientV1) -> None:
    job_id = v1.new_job()
    fetch(v1.file()["url"], Range="bytes=0-9", Cookie="a=b")
    last = v1.sandbox.requests[-1]
    assert isinstance(last, LoggedRequest)
    assert (last.store, last.job_id, last.status, last.range) == (True, job_id, 206, "bytes=0-9")
    assert (last.body_bytes_sent, last.headers["cookie"]) == (10, "a=b")
    assert set(last.query) == {"AWSAccessKeyId", "Signature", "Expires"}
    assert [entry.store for entry in v1.sandbox.requests[:-1]] == [False] * 3


def test_store_product_faults_work_there_too(v1: ClientV1) -> None:
    job_id = v1.new_job()
    url = v1.file()["url"]
    true = fetch(url).content
    faults = v1.sandbox.faults
    handles = [faults.add("cut_product", after=1000, times=1, api="store", obs_id=OBS)]
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        fetch(url)
    handles.append(faults.add("ignore_range", times=1, job_id=job_id))
    assert fetch(url, Range="bytes=1-2").status_code == 200
    handles.append(faults.add("corrupt_byte", times=1, path="/mwa-asvo/*"))
    assert fetch(url).content[:2] == bytes([true[0] ^ 0xFF, true[1]])
    handles.append(faults.add("weak_etag", times=1))
    assert fetch(url).headers["ETag"].startswith("W/")
    handles.append(faults.add("busy", times=1, retry_after=9))
    assert fetch(url).headers["Retry-After"] == "9"
    handles.append(faults.add("product_status", times=1, status=403))
    assert fetch(url).status_code == 403
    assert [handle.hits for handle in handles] == [1] * 6
    assert fetch(url).content == true


def test_store_a_product_goes_elsewhere(v1: ClientV1) -> None:
    v1.new_job()
    url = v1.file()["url"]
    with Sandbox() as other:
        v1.sandbox.faults.add("redirect", url=f"{other.object_store_url}/else")
        assert fetch(url).status_code == 403
        assert other.requests[0].store
