"""However a run ends, the counts, the list of errors, the error file and the events are there and true."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Callable

import pytest
from json_events import FIELDS
from shared import command, environment, untimed, vis

from mwa_client.batch.batch import Batch
from mwa_client.batch.watching import Listed
from mwa_client.cli import main as cli
from mwa_client.errors import DirectoryBusy, DiskFull, LoginRefused
from mwa_client.sandbox import JobState, JobType, Sandbox

OBS, FAILS, WAITS = 1191828584, 1191828528, 1191829000
ROWS = vis(OBS, FAILS, WAITS)
"""One row is complete, one has failed, one is waited for: then the run ends."""

POLL = ("--poll=0.02", "--give-up-after=20")
"""Should the run not end as it is to, the test must."""

Main = Callable[..., "tuple[int, str, str]"]

pytestmark = pytest.mark.usefixtures("handlers")


@pytest.fixture
def main(
    sandbox: Sandbox, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Main:
    """The command in this process: its exit status, and what it has written."""
    monkeypatch.chdir(data.parent)
    for name in list(os.environ):
        if name.startswith(("ASVO_", "MWA_ASVO_", "SSL_")):
            monkeypatch.delenv(name)
    for name, value in {"HOST": sandbox.url, "USER": "practice", "PASS": "practice"}.items():
        monkeypatch.setenv(f"ASVO_{name}", value)

    def main(*words: object) -> tuple[int, str, str]:
        status = cli.main([*map(str, words), f"--dir={data}", *POLL])
        out, err = capsys.readouterr()
        return status, untimed(out), untimed(err)

    return main


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(seconds_per_state=0, product_size=lambda job: 1000) as sandbox:
        sandbox.faults.add("job_error", obs_id=FAILS, text="the tape broke")
        held = sandbox.service.add({"obs_id": str(WAITS), "download_type": "vis"}, JobType.VISIBILITIES)
        sandbox.service.hold(held.id, JobState.PROCESSING)
        yield sandbox


def signal_of(number: signal.Signals) -> Callable[[], None]:
    return lambda: signal.raise_signal(number)


def error_of(error: Exception) -> Callable[[], None]:
    def end() -> None:
        raise error

    return end


ENDS = {
    "Ctrl-C": (signal_of(signal.SIGINT), 130, "Interrupted. Everything so far is kept"),
    "SIGTERM": (signal_of(signal.SIGTERM), 143, "Terminated. Everything so far is kept"),
    "SIGHUP": (signal_of(signal.SIGHUP), 143, "Terminated. Everything so far is kept"),
    "login refused": (error_of(LoginRefused("Not you.", "Look at the key.")), 2, "mwa_client: Not you."),
    "lock taken": (error_of(DirectoryBusy("Another client works here.")), 75, "Another client works here."),
    "disk full": (error_of(DiskFull("No room left to write x.", "Make room.")), 75, "No room left to write"),
    "a mistake of ours": (error_of(KeyError("p4ss")), 1, "internal error: KeyError"),
}


@pytest.fixture(params=ENDS)
def end(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Have the run end when one row is complete and another has failed."""
    act, status, words = ENDS[request.param]
    take = Batch._take

    def taking(self: Batch, message: object) -> None:
        take(self, message)
        settled = [row for row in self._updates.rows if row.result is not None]
        if isinstance(message, Listed) and len(settled) == 2:
            act()

    monkeypatch.setattr(Batch, "_take", taking)
    return status, words


def test_people_are_told_all(main: Main, end: tuple[int, str], tmp_path: Path) -> None:
    status, words = end
    errors_file = tmp_path / "errors.json"
    (tmp_path / "jobs.csv").write_text(ROWS)
    ended, out, err = main("-c", "jobs.csv", "-e", errors_file)
    assert ended == status
    title, failed, remedy, said, *more = err.splitlines()
    assert title == "There were errors:" and "the tape broke" in failed and remedy.startswith("      ")
    assert words in said and len(more) <= 1 and "p4ss" not in err
    assert out.splitlines()[-1] == f"1 complete, 1 failed, 1 pending: 1.0 kB in {tmp_path / 'data'}"
    first, *others = json.loads(errors_file.read_text())
    assert first["obs_id"] in (FAILS, str(FAILS)) and "the tape broke" in first["result"]
    # A signal is no error; what else ends a run is one that has no row.
    assert [(entry["obs_id"], entry["result"] in said) for entry in others] == (
        [] if status in (130, 143) else [(None, True)]
    )


def test_programs_are_told_all(main: Main, end: tuple[int, str], tmp_path: Path) -> None:
    status, words = end
    (tmp_path / "jobs.csv").write_text(ROWS)
    ended, out, err = main("-c", "jobs.csv", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert all(set(event) == FIELDS[event["event"]] | {"event", "time"} for event in events)
    summary = events[-1]
    assert [event["event"] for event in events].index("summary") == len(events) - 1
    counts = {key: summary[key] for key in ("complete", "failed", "pending", "bytes")}
    assert counts == {"complete": 1, "failed": 1, "pending": 1, "bytes": 1000}
    assert summary["exit_status"] == ended == status
    fatal = [event for event in events if event["event"] == "error" and event["line"] is None]
    assert len(fatal) == (0 if status in (130, 143) else 1)
    assert all(event["message"] in err for event in fatal) and words in err and err.count(words) == 1


def test_the_error_file_of_the_client_that_took_over_stays(
    main: Main, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    errors_file = tmp_path / "errors.json"
    theirs = '[{"obs_id": "1", "job_id": 2, "result": "theirs"}]'

    def work(self: Batch, listing: object) -> None:
        errors_file.write_text(theirs)
        raise DirectoryBusy("Another client works here.")

    monkeypatch.setattr(Batch, "_work", work)
    assert main("-j", vis(OBS).strip(), "-e", errors_file)[0] == 75
    assert errors_file.read_text() == theirs


@pytest.mark.parametrize(
    ("words", "status", "lines"),
    [
        (["-w", "4711"], 2, [None]),
        (["-l", "--parallel=0"], 1, [None]),
        (["-j", "obs_id=1191828584, job_type=d, frqres=2, x=1"], 3, [1, 1]),
        (["--cancel", "4711"], 2, [None]),
        (["-c", "none.csv"], 1, [None]),
    ],
)
def test_what_ends_it_before_it_begins_is_an_event(
    main: Main, words: list[str], status: int, lines: list[int | None]
) -> None:
    ended, out, err = main(*words, "--json")
    events = [json.loads(line) for line in out.splitlines()]
    errors = [event for event in events if event["event"] == "error"]
    assert ended == status and all(set(event) == FIELDS["error"] | {"event", "time"} for event in errors)
    assert len(errors) >= len(lines) and {event["line"] for event in errors} == set(lines)
    assert errors[0]["message"] in err
    assert [event["exit_status"] for event in events if event["event"] == "summary"] in ([], [status])


def test_a_directory_in_use_is_an_event_with_what_is_pending(
    main: Main, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    from mwa_client.directory.lock import directory_lock
    from mwa_client.timing import SystemClock

    with directory_lock(data, data / ".mwa_client", SystemClock(), lambda text: None):
        ended, out, err = main("-j", vis(OBS).strip(), "--json")
    error, summary = map(json.loads, out.splitlines())
    assert ended == summary["exit_status"] == 75 and summary["pending"] == 1
    assert error["message"] in err and summary["directory"] == str(data)


# --- Results that cannot be written -------------------------------------------------------------------


def into(target: str, *words: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the command with its standard output going somewhere."""
    shell = ["bash", "-o", "pipefail", "-c", f'"$@" {target}', "bash", *command(*map(str, words))]
    return subprocess.run(shell, env=env, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    "words",
    [["-l"], ["-l", "--json"], ["--help"], ["--version"], ["-j", vis(OBS).strip(), "--check"],
     ["-j", vis(OBS).strip(), "--json", "--poll=0.05"]],
)  # fmt: skip
def test_a_result_that_cannot_be_written_is_no_success(
    sandbox: Sandbox, data: Path, words: list[str]
) -> None:
    done = into("> /dev/full", *words, "-d", data, env=environment(sandbox))
    assert done.returncode == 1
    assert untimed(done.stderr) == "mwa_client: Cannot write to standard output (no space left on device).\n"


@pytest.mark.parametrize(
    ("words", "done"),
    [
        (
            ["-s", "-j", vis(OBS).strip(), "-j", vis(OBS + 8).strip()],
            "These jobs were submitted: 10002-10003.",
        ),
        (["-s", "--json", "-j", vis(OBS).strip()], "These jobs were submitted: 10002."),
        (["--cancel", "10001", "10003"], "These jobs were cancelled: 10001, 10003."),
        (["--status"], ""),
    ],
)
@pytest.mark.parametrize("reader", ["full", "gone", "none"])
def test_no_job_is_lost_with_what_could_not_be_written(
    main: Main,
    sandbox: Sandbox,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    done: str,
    reader: str,
) -> None:
    if "--cancel" in words:
        for _ in range(2):
            held = sandbox.service.add({"obs_id": str(WAITS), "download_type": "vis"}, JobType.VISIBILITIES)
            sandbox.service.hold(held.id, JobState.QUEUED)
    data.mkdir()
    ends = os.pipe()
    os.close(ends[0])
    with open("/dev/full" if reader == "full" else ends[1], "w") as stream:  # noqa: PTH123
        monkeypatch.setattr("sys.stdout", None if reader == "none" else stream)
        status, _, err = main(*words)
        for each in (sys.stdout, stream):
            with suppress(OSError):
                each.close()
    reasons = {"full": "no space left on device", "none": "it is closed"}
    reason = (
        [f"mwa_client: Cannot write to standard output ({reasons[reader]})."] if reader in reasons else []
    )
    assert (status, err.splitlines()) == (1, [*reason, *([done] if done else [])])


@pytest.mark.parametrize("words", [["-l"], ["--help"]])
def test_a_reader_who_has_seen_enough_is_no_news(sandbox: Sandbox, words: list[str]) -> None:
    process = subprocess.Popen(
        command(*words), env=environment(sandbox), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert (process.stderr.read(), process.wait(20)) == (b"", 1)
    process.stderr.close()


def test_the_story_of_a_run_is_not_its_result(sandbox: Sandbox, data: Path) -> None:
    words = ("-j", vis(OBS).strip(), "--poll=0.05", "-d", data)
    assert into("> /dev/full", *words, env=environment(sandbox)).returncode == 0
    assert len(list(data.glob("*.zip"))) == 1


@pytest.mark.parametrize("words", [["-l"], ["-l", "--json"], ["--cancel", "5"]])
def test_practising_without_a_job_leaves_nothing(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    status = cli.main(["--sandbox", *words])
    assert status == (2 if "--cancel" in words else 0), capsys.readouterr()
    assert list(tmp_path.iterdir()) == []
