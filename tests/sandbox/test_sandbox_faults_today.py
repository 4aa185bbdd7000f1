"""The faults of today's service: tokens, outages, listings, links."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import sandbox_today_steps as steps
from practice_client import TIMEOUT
from sandbox_today_steps import OBS, SIZE, Client, ClientV1, ClientV2, fetch, said

from mwa_client.sandbox import Sandbox

client = steps.client
clock = steps.clock
sandbox = steps.sandbox
v1 = steps.v1
v2 = steps.v2


FULL_OUTAGE = "Your job cannot be submitted as there is a full outage in progress."


# --- Faults: logins and tokens ------------------------------------------------------------------------


def test_unknown_client(sandbox: Sandbox) -> None:
    handle = sandbox.faults.add("unknown_client", name="mantaray*")
    for kind in (ClientV1, ClientV2):
        with kind(sandbox, login=False) as client:
            assert said(client.login()) == (
                403,
                "Client mantaray-clientv2.0 is not supported; please upgrade",
            )
            assert client.login(name="giant-squidv2.5.1").status_code == 200
    with ClientV2(sandbox, login=False) as v2:
        assert v2.post("login", {"username": "practice", "password": "practice"}).status_code == 200
        assert v2.post("api_login", []).status_code == 422
    assert handle.hits == 2


def test_refuse_login(client: Client) -> None:
    client.sandbox.faults.add("refuse_login", times=1, text="Account is locked")
    assert said(client.login()) == (401, "Account is locked")
    assert client.login().status_code == 200


def test_login_limit(client: Client) -> None:
    client.sandbox.faults.add("login_limit", times=1, retry_after=17)
    reply = client.login()
    assert (reply.status_code, reply.headers["Retry-After"]) == (429, "17")
    client.sandbox.faults.add("login_limit", times=1, retry_after=None)
    assert "Retry-After" not in client.login().headers
    assert client.login().status_code == 200


def test_expire_tokens(v1: ClientV1, v2: ClientV2) -> None:
    handle = v2.sandbox.faults.add("expire_tokens", times=1)
    assert v1.jobs() == []
    for _ in range(2):
        assert v2.listing().json()["error_code"] == "AUTH_INVALID_TOKEN"
    assert v2.refresh().status_code == 200
    assert v2.jobs() == []
    assert v1.jobs() == []
    assert handle.hits == 1


def test_expire_session_takes_everything(v1: ClientV1, v2: ClientV2) -> None:
    v2.sandbox.faults.add("expire_session", times=1, path="/api/v2/get_jobs")
    for reply in (v2.listing(), v2.refresh()):
        assert (reply.status_code, reply.json()["error_code"]) == (401, "AUTH_INVALID_TOKEN")
    assert v1.listing().status_code == 401
    assert v2.login().status_code == 200
    assert v2.jobs() == []


def test_refuse_refresh(v2: ClientV2) -> None:
    v2.sandbox.faults.add("refuse_refresh", times=1)
    reply = v2.refresh()
    assert (reply.status_code, reply.json()["error_code"]) == (401, "AUTH_INVALID_TOKEN")
    assert v2.refresh().status_code == 200


def test_fail_call_with_pages(client: Client) -> None:
    client.sandbox.faults.add("fail_call", status=[502, 503])
    for status in (502, 503):
        reply = client.listing()
        assert (reply.status_code, f"<h1>{status}" in reply.text) == (status, True)
    assert client.jobs() == []


# --- Faults: submissions ------------------------------------------------------------------------------


def code_of(client: Client, v1: int, v2: str) -> int | str:
    return v1 if isinstance(client, ClientV1) else v2


def test_outage(client: Client) -> None:
    client.sandbox.faults.add("outage", times=1)
    client.sandbox.faults.add("outage", times=1, text="The staging server is down", status=503, code="DOWN")
    first, second = client.submit(), client.submit()
    assert said(first) == (400, FULL_OUTAGE)
    assert first.json()["error_code"] == code_of(client, 0, "SERVICE_OUTAGE")
    assert said(second) == (503, "The staging server is down")
    assert second.json()["error_code"] == code_of(client, 0, "DOWN")
    assert client.new_job() == 10001


def test_partial_outage(client: Client) -> None:
    handle = client.sandbox.faults.add("partial_outage")
    status, text = said(client.submit())
    assert (status, text[:59]) == (400, "Your job cannot be submitted as there is a partial outage, ")
    assert text.endswith("please use a delivery location other than acacia.")
    assert client.submit("image", source_job_id=1).status_code == 400
    client.new_job(delivery="scratch")
    client.new_job("voltage", offset=0, duration=8)
    assert handle.hits == 2
    client.sandbox.faults.add("partial_outage", delivery="scratch")
    assert said(client.submit("voltage", offset=0, duration=9))[1].endswith("other than scratch.")


def test_obs_not_found(client: Client) -> None:
    client.sandbox.faults.add("obs_not_found", obs_id=OBS + 8)
    client.new_job()
    reply = client.submit(obs_id=OBS + 8)
    assert said(reply) == (
        code_of(client, 400, "404") and reply.status_code,
        f"Observation {OBS + 8} does not exist",
    )
    assert (reply.status_code, reply.json()["error_code"]) == (
        (400, 0) if isinstance(client, ClientV1) else (404, "OBSID_NOT_FOUND")
    )
    if isinstance(client, ClientV2):
        path = f"/api/v2/observation/metadata/{OBS + 8}"
        assert client.call("GET", path).json()["error_code"] == "OBSID_NOT_FOUND"
    client.sandbox.faults.clear()
    client.sandbox.faults.add("obs_not_found", text="No obs locations found", obs_id=OBS)
    assert said(client.submit())[1] == "No obs locations found"


def test_faults_find_the_observation_of_a_source_job(client: Client) -> None:
    job_id = client.new_job()
    client.sandbox.faults.add("obs_not_found", obs_id=OBS)
    body = {"source_job_id": job_id}
    if isinstance(client, ClientV2):
        assert client.post("image_from_job", body).status_code == 404
        assert client.post("image_from_job", {"source_job_id": "x"}).status_code == 422
    else:
        assert client.call("POST", "/api/preprocessed_imaging_job", data=body).status_code == 400


def test_permission_denied(client: Client) -> None:
    client.sandbox.faults.add("permission_denied", times=1)
    reply = client.submit()
    assert said(reply) == (403, "Permission denied")
    if isinstance(client, ClientV1):
        assert reply.json() == {"error": "Permission denied"}
    else:
        assert reply.json()["error_code"] == "PERMISSION_DENIED"


def test_refuse_submission(client: Client) -> None:
    faults = client.sandbox.faults
    faults.add("refuse_submission", times=1)
    faults.add("refuse_submission", times=1, code=1, text="Limit")
    faults.add("refuse_submission", times=1, code="ODD", text="Odd")
    faults.add("refuse_submission", times=1, json=False)
    codes = [client.submit().json()["error_code"] for _ in range(3)]
    usual = code_of(client, 0, "OBSID_NOT_FOUND")
    assert codes == [usual, code_of(client, 1, "OBSID_NOT_FOUND"), code_of(client, 0, "ODD")]
    assert client.submit().text == "Observation does not exist"


def test_duplicate_answers(client: Client) -> None:
    job_id = client.new_job()
    faults = client.sandbox.faults
    words = "Job already queued or processing."
    faults.add("duplicate_reply", status=[200, 404], text=[None, words])
    first, second = client.submit(), client.submit()
    assert said(first) == (200, "Job already queued, processing or complete")
    assert said(second) == (404, words)
    assert first.json()["job_id"] == second.json()["job_id"] == job_id
    faults.add("duplicate_without_id", times=1)
    third = client.submit()
    assert third.json()["error_code"] == code_of(client, 2, "JOB_ALREADY_SUBMITTED")
    assert "job_id" not in third.json()
    assert len(client.jobs()) == 1


def test_drop_reply(client: Client) -> None:
    client.sandbox.faults.add("drop_reply", times=1)
    with pytest.raises(requests.ConnectionError):
        client.submit()
    assert client.job()["id"] == 10001


def test_documents_of_submissions(client: Client) -> None:
    faults = client.sandbox.faults
    for name in ("strings_for_numbers", "null_job_id", "missing_field"):
        faults.add(name, times=1)
        job_id = client.submit(obs_id=OBS + len(name)).json().get("job_id", "nothing")
        assert job_id == {"strings_for_numbers": "10001", "null_job_id": None}.get(name, "nothing")


# --- Faults: listings ---------------------------------------------------------------------------------


def spoilt(client: Client, fault: str, **options: Any) -> Any:
    """The one job as a fault shows it, once."""
    handle = client.sandbox.faults.add(fault, times=1, **options)
    job = client.job()
    assert handle.hits == 1
    return job


def test_listings_that_do_not_tell_the_truth(client: Client) -> None:
    job_id = client.new_job()
    file = client.file()

    def files(fault: str, **options: Any) -> Any:
        return spoilt(client, fault, **options)["product"]["files"]

    assert spoilt(client, "null_product")["product"] is None
    assert "product" not in spoilt(client, "missing_product")
    assert files("missing_product", empty=True) == []
    assert files("no_sha1") == [{key: value for key, value in file.items() if key != "sha1"}]
    assert files("wrong_sha1") == [{**file, "sha1": "0" * 40}]
    assert files("wrong_size", by=2) == [{**file, "size": SIZE + 2}]
    assert files("unknown_delivery") == [{"type": "tape", "size": SIZE, "sha1": file["sha1"]}]
    assert spoilt(client, "unknown_state", state="polishing")["job_state"] == "polishing"
    assert spoilt(client, "unknown_job_type")["job_type"] == 99
    assert spoilt(client, "unknown_job_type", type="gridding")["job_type"] == "gridding"
    assert "job_state" not in spoilt(client, "missing_field", field="job_state")
    strings = spoilt(client, "strings_for_numbers")
    assert (strings["id"], strings["product"]["files"][0]["size"]) == (str(job_id), str(SIZE))
    assert strings["job_params"]["obs_id"] == str(OBS)
    client.sandbox.faults.add("missing_job", times=1)
    assert client.jobs() == []
    assert client.file() == file


def test_faults_of_products_wait_until_there_is_one(client: Client) -> None:
    client.sandbox.service.seconds_per_state = 60
    client.new_job()
    names = ("missing_product", "unknown_delivery", "expired_link", "null_error_text", "null_product")
    handles = [client.sandbox.faults.add(name) for name in names]
    assert client.job()["product"] is None
    assert [handle.hits for handle in handles] == [0] * len(names)


def test_obs_id_as_string(v1: ClientV1, v2: ClientV2) -> None:
    v2.new_job()
    assert spoilt(v2, "obs_id_as_string")["job_params"]["obs_id"] == str(OBS)
    assert v2.job()["job_params"]["obs_id"] == OBS
    v2.sandbox.faults.add("obs_id_as_string")
    assert v1.job()["job_params"]["obs_id"] == str(OBS)


def test_errors_with_and_without_words(client: Client) -> None:
    client.sandbox.service.fail(client.new_job(), "Staging failed")
    assert (client.job()["job_state"], client.job()["error_text"]) == ("error", "Staging failed")
    assert spoilt(client, "null_error_text")["error_text"] is None
    assert client.job()["product"] is None


@pytest.mark.parametrize(("name", "word"), [("job_error", "error"), ("cancel_job", "cancelled")])
def test_what_becomes_of_a_job_is_for_good(client: Client, name: str, word: str) -> None:
    client.new_job()
    client.sandbox.faults.add(name, times=1)
    assert [client.job()["job_state"] for _ in range(2)] == [word, word]


def test_hostile_name(client: Client) -> None:
    client.new_job()
    client.sandbox.faults.add("hostile_name", times=1, name="../../.ssh/a b?&é")
    url = client.file()["url"]
    assert "/mwa-asvo/..%2F..%2F.ssh%2Fa%20b%3F%26%C3%A9?" in url
    assert fetch(url).content == b"".join(client.sandbox.jobs[0].content.pieces())


def test_extra_job_rows(client: Client) -> None:
    client.new_job()
    client.sandbox.faults.add("extra_job_rows")
    body = client.listing().json()
    entries = body if isinstance(body, list) else body["jobs"]
    assert len(entries) == 7
    assert None in entries


def test_one_job_can_be_asked_for_with_faults(v2: ClientV2) -> None:
    job_id = v2.new_job()
    handle = v2.sandbox.faults.add("unknown_state", state="polishing", job_id=job_id, times=1)
    assert v2.one(job_id).json()["job_state"] == "polishing"
    v2.sandbox.faults.add("missing_job", path="/api/v2/jobs/*")
    assert v2.one(job_id).json()["error_code"] == "JOB_NOT_FOUND"
    assert v2.job()["job_state"] == "completed"
    assert handle.hits == 1


# --- Faults: links ------------------------------------------------------------------------------------


def test_expired_link(client: Client) -> None:
    client.new_job()
    stale = spoilt(client, "expired_link")["product"]["files"][0]["url"]
    for _ in range(2):
        assert fetch(stale).status_code == 403
    assert fetch(client.file()["url"]).status_code == 200
    client.new_job("download", download_type="vis", delivery="scratch")
    assert client.sandbox.faults.add("expired_link", job_id=10002).hits == 0
    assert len(client.jobs()) == 2


def test_product_gone(v1: ClientV1) -> None:
    job_id = v1.new_job()
    v1.sandbox.faults.add("product_gone", times=2)
    gone = fetch(v1.file()["url"])
    assert (gone.status_code, "NoSuchKey" in gone.text) == (404, True)
    params: dict[str, Any] = {"job_id": job_id, "file_name": f"{OBS}_ms.zip"}
    with requests.Session() as old:
        old.post(f"{v1.sandbox.url}/api/login", auth=("practice", "practice"), timeout=TIMEOUT)
        assert old.get(f"{v1.sandbox.url}/api/download", params=params, timeout=TIMEOUT).status_code == 410


def test_a_fault_may_be_for_one_interface(v1: ClientV1, v2: ClientV2) -> None:
    faults = v1.sandbox.faults
    faults.add("fail_call", api="v2")
    assert v1.listing().status_code == 200
    assert v2.listing().status_code == 500
    with pytest.raises(ValueError, match="no such api here: v1"):
        faults.add("expire_tokens", api="v1")
    with pytest.raises(ValueError, match="no such api here: v3"):
        faults.add("outage", api="v3")


def test_a_refusal_of_the_store_is_xml(v1: ClientV1) -> None:
    v1.new_job()
    url = v1.file()["url"]
    v1.sandbox.faults.add("outage", path="/mwa-asvo/*", text="a < b", status=503)
    reply = fetch(url)
    assert (reply.status_code, "<Message>a &lt; b</Message>" in reply.text) == (503, True)
