"""The API key in ``~/.mwa-asvo/key``: read where no variable holds one, refused where others can read it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from shared import run_command, service_of

import mwa_client
from mwa_client.asvo.key_file import KEY_VARIABLE, with_key_of_file
from mwa_client.errors import SettingsError
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Sandbox

KEY = "k3y-word-in-a-file"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    (folder / ".mwa-asvo").mkdir(parents=True)
    return folder


def keep(home: Path, content: bytes, mode: int = 0o600) -> Path:
    path = home / ".mwa-asvo" / "key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("content", [KEY, f"{KEY}\n", f"\ufeff{KEY}\r\n".lstrip("\ufeff"), f"  {KEY}  \n\n"])
def test_the_key_is_what_the_file_holds(home: Path, content: str) -> None:
    keep(home, content.encode())
    assert with_key_of_file({"HOME": str(home)}) == {"HOME": str(home), KEY_VARIABLE: KEY}


def test_a_key_that_is_set_counts_more_than_the_file(home: Path) -> None:
    keep(home, b"", 0o644)  # It is not even looked at.
    environment = {"HOME": str(home), KEY_VARIABLE: "another"}
    assert with_key_of_file(environment) == environment


def test_without_a_file_or_a_home_nothing_changes(home: Path) -> None:
    for environment in ({"HOME": str(home)}, {"HOME": str(home / "not there")}, {"HOME": ""}, {}):
        assert with_key_of_file(environment) == environment


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o611, 0o666])
def test_a_key_that_others_can_reach_is_refused_with_the_command_that_mends_it(home: Path, mode: int) -> None:
    path = keep(home, KEY.encode(), mode)
    with pytest.raises(SettingsError) as caught:
        with_key_of_file({"HOME": str(home)})
    assert f"chmod 600 {path}" in str(caught.value) and KEY not in str(caught.value)


NO_KEYS = (
    *(b"", b"\n", b"two words", b"one\ntwo\n", b"x" * 5000, b"\xff\xfe\x00k"),
    *(b'"words"', b"'words'\n", b"MWA_ASVO_API_KEY=words\n"),
)


@pytest.mark.parametrize("content", NO_KEYS)
def test_what_is_no_key_is_said(home: Path, content: bytes) -> None:
    path = keep(home, content)
    with pytest.raises(SettingsError, match="does not hold an API key") as caught:
        with_key_of_file({"HOME": str(home)})
    assert str(path) in str(caught.value) and "words" not in str(caught.value)


def test_a_pipe_or_a_folder_of_that_name_is_neither_waited_for_nor_read(home: Path) -> None:
    path = home / ".mwa-asvo" / "key"
    os.mkfifo(path, 0o600)
    with pytest.raises(SettingsError, match="is not a file"):
        with_key_of_file({"HOME": str(home)})
    path.unlink()
    path.mkdir()
    with pytest.raises(SettingsError, match="is not a file"):
        with_key_of_file({"HOME": str(home)})


def test_the_command_needs_nothing_but_the_file(sandbox: Sandbox, home: Path, csv: Path, data: Path) -> None:
    key = service_of(sandbox, ApiVersion.V2).credentials.key
    keep(home, f"{key}\n".encode())
    environment = {"HOME": str(home), "MWA_ASVO_HOST": sandbox.url, "PATH": os.environ["PATH"]}
    done = run_command(f"--csv={csv}", f"--dir={data}", "--submit-only", "--poll=0.05", env=environment)
    assert done.returncode == 0, done.stderr
    assert len(sandbox.jobs) == 3 and key not in done.stdout + done.stderr


def test_the_python_api_reads_it_too(sandbox: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(home, service_of(sandbox, ApiVersion.V2).credentials.key.encode())
    for name in (KEY_VARIABLE, "ASVO_USER", "ASVO_PASS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MWA_ASVO_HOST", sandbox.url)
    with mwa_client.login() as client:
        assert client.jobs() == {}


def test_an_interface_that_there_is_not_is_one_of_our_errors() -> None:
    with pytest.raises(SettingsError, match="api='v9' is not an interface") as caught:
        mwa_client.login(key=KEY, api="v9")
    assert "2018, v1, v2" in str(caught.value)
