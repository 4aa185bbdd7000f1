"""What the practice service remembers from one run to the next."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import requests
import sandbox_2018_steps as steps
from practice_client import Clock
from sandbox_2018_steps import Client

from mwa_client.sandbox import JobType, Sandbox

client = steps.client
clock = steps.clock
sandbox = steps.sandbox


def test_jobs_are_found_again_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "not yet there" / "sandbox.json"

    def make() -> Sandbox:
        return Sandbox(state_file=file, clock=clock, product_size=lambda job: 50_000)

    with make() as sandbox, Client(sandbox) as client:
        kept, failed, cancelled = (client.new_job() for _ in range(3))
        sandbox.service.fail(failed, "Why")
        client.get(f"/api/cancel_job?job_id={cancelled}")
        before, url = sandbox.jobs, sandbox.url
        clock.now += 2
        half = client.download(kept, Range="bytes=0-24999").content
        etag = client.download(kept).headers["ETag"]
    # Nothing was said at the end: the file is what a kill leaves behind.
    with make() as sandbox, Client(sandbox) as client:
        assert sandbox.jobs == before
        assert sandbox.url != url or sandbox.requests
        assert [row["job_state"] for row in client.rows()] == [2, 3, 5]
        rest = client.download(kept, Range="bytes=25000-", If_Range=etag)
        assert rest.status_code == 206
        assert hashlib.sha1(half + rest.content).hexdigest() == client.rows()[0]["product"]["files"][0][2]
        assert client.new_job() == cancelled + 1
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"jobs": [{"id": 1}], "next_id": 2}'])
def test_a_state_file_that_is_something_else_is_not_overwritten(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sandbox.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"sandbox\.json"):
        Sandbox(state_file=file)
    assert file.read_text() == text


@pytest.mark.parametrize("name", ["sandbox.json", "sandbox.json.new"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe"])
def test_nothing_is_written_or_read_through_what_is_planted(tmp_path: Path, name: str, kind: str) -> None:
    private, planted = tmp_path / "private", tmp_path / "state" / name
    private.write_text('{"jobs": [], "next_id": 500}')
    planted.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(planted)
    else:
        planted.symlink_to(private if kind == "link" else tmp_path / "not there")
    state = planted.with_name("sandbox.json")
    if planted == state:
        with pytest.raises(ValueError, match="not a list of jobs"):
            Sandbox(state_file=state)
    else:
        made = Sandbox(state_file=state).service.add({"obs_id": "1191828528"}, JobType.VISIBILITIES)
        assert [job.id for job in Sandbox(state_file=state).jobs] == [made.id]
    assert private.read_text() == '{"jobs": [], "next_id": 500}' and not (tmp_path / "not there").exists()


def test_the_same_sandbox_can_be_away_for_a_while(sandbox: Sandbox, client: Client) -> None:
    job_id, url = client.new_job(), sandbox.url
    sandbox.stop()
    sandbox.stop()
    with pytest.raises(requests.ConnectionError):
        client.get("/api/get_jobs")
    sandbox.start()
    sandbox.start()
    assert sandbox.url == url
    assert client.row()["id"] == job_id
