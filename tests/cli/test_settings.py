"""Options of the command line: what each value comes to mean, and what is said of those that mean nothing."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import pytest

from mwa_client.cli.settings import Downloads, Input, OtherClients, Output, Settings, Task, settings_from
from mwa_client.errors import SettingsError
from mwa_client.formatting import seconds_in, time_in_short


def settings(**given: object) -> Settings:
    """Settings from options; what is not given is as on a bare command line."""
    numbers = ("parallel", "connections", "poll", "give_up_after", "wait_for_lock")
    flags = ["check", "sandbox", "allow_resubmit", "quiet", "verbose", "json"]
    flags += ["submit_only", "list_only", "once", "status", "no_download", "unpack"]
    others = ("api", "job", "download_only", "cancel", "error_file", "part", "report", "obs_ids", "then")
    filters = ("state", "type", "days")
    bare: dict[str, object] = {"csv": ["jobs.csv"], "dir": None, "listed": []}
    bare |= dict.fromkeys(flags, False) | dict.fromkeys(others + filters + numbers)
    return settings_from(argparse.Namespace(**{**bare, **given}))


@pytest.mark.parametrize(
    ("given", "task"),
    [
        ({}, Task.RUN),
        ({"check": True}, Task.CHECK),
        ({"submit_only": True}, Task.SUBMIT),
        ({"csv": None, "list_only": True}, Task.LIST),
        ({"csv": None, "download_only": ["1", "2,all"]}, Task.FETCH),
        ({"csv": None, "cancel": ["7"]}, Task.CANCEL),
        ({"csv": None, "status": True}, Task.STATUS),
        ({"status": True}, Task.STATUS),
    ],
)
def test_options_mean_a_task(given: dict[str, object], task: Task) -> None:
    assert settings(**given).task is task


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"check": True, "submit_only": True}, "--check and --submit-only do not go together"),
        ({"cancel": ["7"]}, "--cancel takes no job file"),
        (
            {"csv": None, "download_only": ["7"], "obs_ids": ["a.txt"]},
            "--download-only takes no list of obs_ids",
        ),
        ({"list_only": True, "obs_ids": ["a.txt"]}, "--list-only takes no list of obs_ids"),
        ({"csv": None, "list_only": True, "job": ["obs_id=1"]}, "--list-only takes no job file"),
        ({"csv": None, "list_only": True, "once": True}, "--once and --list-only do not go together"),
        ({"job": ["obs_id=1"]}, "--csv and --job do not go together"),
        ({"csv": None, "download_only": ["everything"]}, "everything is not a job"),
        ({"csv": None, "cancel": ["all"]}, "all is not a job"),
        ({"api": "v3"}, "--api=v3 is not an interface"),
        ({"error_file": ""}, "--error-file is empty"),
        ({"error_file": "-"}, "--error-file=- is not possible"),
        ({"report": "-"}, "--report=- is not possible"),
    ],
)
def test_options_that_contradict_each_other_or_mean_nothing(given: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        settings(**given)


def test_targets_are_numbers_or_all_once_each() -> None:
    assert settings(csv=None, download_only=["3", "1,2 3", "all"]).targets == ("3", "1", "2", "all")


def test_bare_options() -> None:
    assert settings() == Settings(
        input=Input(csv=("jobs.csv",)),
        is_directory_given=False,
        directory=Path(),
        downloads=Downloads(parallel=4, connections=8, unpack=False),
        poll=None,
        give_up_after=None,
    )


def test_all_options() -> None:
    switches = {"submit_only": True, "once": True, "sandbox": True, "allow_resubmit": True, "unpack": True}
    switches["quiet"] = True
    numbers = {
        "parallel": "32",
        "connections": "16",
        "poll": "0.5",
        "give_up_after": "1e3",
        "wait_for_lock": "60",
    }
    given = settings(csv=["-"], dir="/tmp/x", **numbers, **switches)
    assert given == Settings(
        input=Input(csv=("-",)),
        directory=Path("/tmp/x"),
        task=Task.SUBMIT,
        sandbox=True,
        once=True,
        allow_resubmit=True,
        output=Output(quiet=True),
        downloads=Downloads(32, 16, unpack=True),
        poll=0.5,
        give_up_after=1000.0,
        others=OtherClients(wait=60.0),
    )


def test_the_sandbox_is_asked_more_often() -> None:
    assert settings(sandbox=True).poll == 0.5
    assert settings(sandbox=True, poll="3").poll == 3.0


def test_home_directories_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    given = settings(csv=["~/jobs.csv", "b.csv"], dir="~/data")
    assert given.input == Input(csv=(str(tmp_path / "jobs.csv"), "b.csv"))
    assert given.directory == tmp_path / "data"
    with pytest.raises(SettingsError, match="no such user"):
        settings(dir="~nobody-has-this-name/data")


@pytest.mark.parametrize("name", ["csv", "dir"])
def test_an_empty_path_is_a_mistake(name: str) -> None:
    with pytest.raises(SettingsError, match=f"--{name} is empty"):
        settings(**{name: [""] if name == "csv" else ""})


@pytest.mark.parametrize("value", ["0", "33", "-1", "2.5", "four", "", "²", "9" * 5000])
def test_numbers_of_downloads_that_cannot_be(value: str) -> None:
    with pytest.raises(SettingsError, match=f"^--parallel={value} is not possible") as caught:
        settings(parallel=value)
    assert "1 to 32" in caught.value.remedy


def test_who_does_not_want_to_wait_for_the_directory_may_say_so() -> None:
    assert settings(wait_for_lock="0").others.wait == 0.0 == settings().others.wait
    assert settings(wait_for_lock="0s").others.wait == 0.0


NO_TIMES = ["abc", "-5", "nan", "inf", "1e99", "5x", "h", "1m1h", "1_0", "10 20", "1001d", "00:10:00"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *itertools.product(["poll", "give_up_after", "wait_for_lock"], NO_TIMES),
        ("poll", "0"),
        ("give_up_after", "0s"),
    ],
)
def test_times_that_cannot_be(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^--{name.replace('_', '-')}={value} is not a time") as caught:
        settings(**{name: value})
    assert "90 (seconds), 90s, 10m, 1.5h or 1d" in caught.value.remedy


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400), ("1.5h", 5400), ("1h30m", 5400),
     (" 5 s", 5), ("2H", 7200), (".5m", 30), ("1e3", 1000), ("1000d", 86_400_000)],
)  # fmt: skip
def test_times_as_people_write_them(value: str, seconds: float) -> None:
    given = settings(poll=value, give_up_after=value, wait_for_lock=value)
    assert (given.poll, given.give_up_after, given.others.wait) == (seconds, seconds, seconds)
    assert seconds_in(time_in_short(seconds)) == seconds


@pytest.mark.parametrize("option", ["list_only", "download_only"])
def test_a_job_file_beside_a_list_or_a_download_is_ignored(option: str) -> None:
    given = settings(csv=["none.csv"], **{option: ["1"]})
    assert given.input == Input() and not given.task.needs_rows


def test_all_that_is_ready_can_be_said_in_three_ways() -> None:
    assert settings(csv=None, download_only=["0"]).targets == ("all",)
    assert settings(csv=None, download_only=["ALL", "All", "0", "7"]).targets == ("all", "7")
    assert settings(csv=None, cancel=["0"]).targets == ("0",)


@pytest.mark.parametrize("task", [{}, {"download_only": ["all"], "csv": None}, {"check": True}])
def test_a_command_may_follow_where_products_are_downloaded(task: dict[str, object]) -> None:
    assert settings(then="work {path}", **task).downloads.then == "work {path}"


@pytest.mark.parametrize(
    "task",
    [
        {"submit_only": True},
        {"no_download": True},
        {"list_only": True, "csv": None},
        {"cancel": ["1"], "csv": None},
        {"status": True},
    ],
)
def test_a_command_that_would_never_run_is_refused(task: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="here none are"):
        settings(then="work {path}", **task)


@pytest.mark.parametrize("command", ["", " ", "\n"])
def test_an_empty_command_is_refused(command: str) -> None:
    with pytest.raises(SettingsError, match="--then is empty"):
        settings(then=command)
