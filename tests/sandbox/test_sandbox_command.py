"""The practice service as a command of its own."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import sandbox_2018_steps as steps
from practice_client import TIMEOUT
from sandbox_2018_steps import OBS

from mwa_client.sandbox import KINDS, Sandbox
from mwa_client.sandbox.__main__ import main, parse_fault
from mwa_client.sandbox.option_values import rate, size

clock = steps.clock
sandbox = steps.sandbox


def test_parse_fault() -> None:
    assert parse_fault("extra_job_rows") == ("extra_job_rows", {})
    assert parse_fault("cut_product:after=[1,2],times=2") == ("cut_product", {"after": [1, 2], "times": 2})
    text = "job_error:text=No data, sorry,obs_id=1191828584"
    assert parse_fault(text) == ("job_error", {"text": "No data, sorry", "obs_id": 1191828584})
    with pytest.raises(ValueError, match="name=value"):
        parse_fault("cut_product:1000")


def test_main_serves_until_it_is_interrupted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = ""

    def wait() -> None:
        nonlocal said
        said = capsys.readouterr().out
        url = said.split("ASVO_HOST=")[1].split()[0]
        reply = requests.post(f"{url}/api/login", auth=("practice", "practice"), timeout=TIMEOUT)
        assert reply.status_code == 503
        raise KeyboardInterrupt

    options = ["--fault", "busy:times=1", "--speed", "inf", "--size", "5", "--log", str(tmp_path / "log")]
    assert main(options, wait) == 0
    assert "ASVO_USER=practice ASVO_PASS=practice" in said
    assert (tmp_path / "log").exists()


def test_main_refuses_what_it_cannot_do(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", sandbox.url.rpartition(":")[2]]) == 1
    assert "Cannot listen" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "right"),
    [
        (
            "--rate",
            "3X",
            "3X is not possible; it must be a number of bytes per second, above 0, such as 500000 or 3M",
        ),
        ("--rate", "0", "0 is not possible"),
        ("--rate", "nan", "nan is not possible"),
        ("--size", "-5", "-5 is not possible; it must be a number of bytes, 0 or more, such as 5000 or 3M"),
        ("--size", "1.5", "1.5 is not possible"),
        (
            "--port",
            "99999",
            "99999 is not possible; it must be a port, a whole number from 0 (a free one) to 65535",
        ),
        ("--port", "", "an empty word is not possible"),
        ("--speed", "0", "0 is not possible; it must be a number above 0, or inf"),
        ("--speed", "fast", "fast is not possible"),
        ("--job-limit", "-1", "-1 is not possible; it must be a whole number, 0 or more"),
        ("--apis", "v9", "v9 is not possible; it must be one or several of 2018, v1, v2, with commas"),
        ("--apis", ",", ", is not possible"),
        ("--state", "none/file", "none/file is not possible; it must be a file in a directory that exists"),
        ("--log", ".", ". is not possible"),
        ("--scratch-folder", "file", "file is not possible; it must be a folder"),
        ("--fault", "flood", "no such fault: flood; python -m mwa_client.sandbox --help lists them"),
        ("--state", "file", "file: not a list of jobs"),
    ],
)
def test_a_bad_value_is_told_in_plain_words(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    option: str,
    value: str,
    right: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("{")
    with pytest.raises(SystemExit) as caught:
        main([f"{option}={value}"])
    said = capsys.readouterr().err.splitlines()[-1]
    assert caught.value.code == 2 and right in said
    assert "invalid" not in said
    assert "(" not in said or "free" in said, "no Python"


def test_bytes_are_taken_with_a_letter() -> None:
    assert [size("3M"), size("22.5 MB"), size("5e3"), rate("500k")] == [3_000_000, 22_500_000, 5000, 5e5]


def test_help_lists_the_faults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in KINDS)
    assert "url (required)" in said


def test_a_run_that_is_killed_finds_its_jobs(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    command = [sys.executable, "-m", "mwa_client.sandbox", "--state", str(state), "--speed", "inf"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}

    def run(end: signal.Signals) -> int:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            host, _, port = process.stdout.readline().split("//")[1].split(";")[0].partition(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT)
            secret = base64.b64encode(b"practice:practice").decode()
            connection.request(
                "POST", "/api/login", headers={"User-Agent": "x", "Authorization": f"Basic {secret}"}
            )
            reply = connection.getresponse()
            reply.read()
            cookie = reply.headers["Set-Cookie"].split(";")[0]
            form = f"obs_id={OBS}&download_type=vis"
            headers = {
                "User-Agent": "x",
                "Cookie": cookie,
                "Content-Type": "application/x-www-form-urlencoded",
            }
            connection.request("POST", "/api/download_vis_job", form, headers)
            job_id = json.loads(connection.getresponse().read())["job_id"]
            connection.close()
            process.send_signal(end)
            assert process.wait(TIMEOUT) == (0 if end is signal.SIGINT else -end)
            assert isinstance(job_id, int)
            return job_id

    assert [run(signal.SIGKILL), run(signal.SIGINT)] == [10001, 10002]
