"""The log, the clock and the command of the practice service, as today's interfaces use them."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import sandbox_today_steps as steps
from practice_client import TIMEOUT
from sandbox_today_steps import KEY, OBS, Client, ClientV1, ClientV2, fetch

from mwa_client.sandbox import Interface, Sandbox
from mwa_client.sandbox.__main__ import main
from mwa_client.sandbox.products import Content

client = steps.client
clock = steps.clock
sandbox = steps.sandbox
v1 = steps.v1
v2 = steps.v2


def test_the_log_has_json_and_no_credentials(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    with (
        Sandbox(seconds_per_state=0, log_file=file, product_size=lambda job: 9, api_key="s3cr3t") as sandbox,
        ClientV2(sandbox, login=False) as v2,
        ClientV1(sandbox, login=False) as v1,
    ):
        assert v2.login(key="s3cr3t").status_code == 200
        assert v1.login(key="s3cr3t").status_code == 200
        v2.new_job()
        v2.post("get_jobs", [1])
        url = v2.file()["url"]
        fetch(url)
        secrets = [*v1.session.cookies.values(), *v2.session.cookies.values(), "s3cr3t"]
        secrets.append(parse_qs(urlsplit(url).query)["Signature"][0])
    text = file.read_text()
    assert not any(secret in text for secret in secrets)
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines[0]["json"] == {"login": "mantaray-clientv2.0", "password": "***"}
    assert lines[2]["json"] == {"obs_id": OBS, "allow_resubmit": False}
    assert (lines[3]["json"], lines[1]["json"]) == ([1], None)
    assert (lines[-1]["store"], lines[-1]["query"]["Signature"]) == (True, "***")
    assert sandbox.requests[2].json == {"obs_id": OBS, "allow_resubmit": False}


@pytest.mark.parametrize("kind", [ClientV1, ClientV2])
def test_thousands_of_jobs_are_listed(sandbox: Sandbox, kind: type[Client]) -> None:
    for number in range(2_000):
        sandbox.service.add({"obs_id": OBS + number}, size=10**9, sha1="a" * 40, made_by=Interface.V1)
    with kind(sandbox) as client:
        if isinstance(client, ClientV2):
            pages = [client.jobs(limit=500, offset=n, sort_by="id") for n in range(0, 2_000, 500)]
            jobs = [job for page in pages for job in page]
        else:
            jobs = client.jobs()
    assert len({job["id"] for job in jobs}) == 2_000
    assert jobs[-1]["product"]["files"][0]["sha1"] == "a" * 40


def test_the_sha1_of_small_products_is_cheap() -> None:
    """Each is made of the few bytes that there are; with blocks of a megabyte, this would take minutes."""
    assert len({Content(f"job {number}", 500).sha1 for number in range(2000)}) == 2000


def test_the_command_speaks_all_or_some(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said: list[str] = []

    def wait() -> None:
        said.append(capsys.readouterr().out)
        url = said[-1].split("MWA_ASVO_HOST=")[1].split()[0]
        reply = requests.post(f"{url}/api/api_login", auth=("client", KEY), timeout=TIMEOUT)
        assert reply.status_code == 200
        raise KeyboardInterrupt

    assert main([], wait) == 0
    assert main(["--apis", "v1, v2", "--scratch-folder", str(tmp_path), "--job-limit", "3"], wait) == 0
    assert f"MWA_ASVO_API_KEY={KEY}" in said[0]
    assert "ASVO_USER=practice" in said[0]
    assert "ASVO_USER" not in said[1]
    with pytest.raises(SystemExit):
        main(["--apis", "v3"])
    assert "it must be one or several of 2018, v1, v2" in capsys.readouterr().err

    def refuse() -> None:
        assert "MWA_ASVO_HOST" not in capsys.readouterr().out
        raise KeyboardInterrupt

    assert main(["--apis", "2018"], refuse) == 0
