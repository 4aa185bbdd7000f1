"""`--then`: a command for each product, once as far as can be known, whatever comes in between."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from shared import (
    FastClock,
    Run,
    failures,
    is_alive,
    lines_shown,
    listed,
    longest_file,
    notices,
    products,
    run_batch,
    service_of,
    vis,
    wait_until,
)  # fmt: skip

from mwa_client.asvo import open_session
from mwa_client.batch.batch import Batch
from mwa_client.batch.events import CommandRun, Complete, Event
from mwa_client.batch.fetching import Fetching
from mwa_client.batch.history import LedgerHistory
from mwa_client.batch.ledger import Ledger
from mwa_client.batch.pacing import Pacing
from mwa_client.batch.records import read_product
from mwa_client.batch.rows import LABELS, ListedJob, Stage
from mwa_client.batch.shell import GUARD_SCRIPT, ShellCommand
from mwa_client.batch.status import COMMAND_INTERRUPTED, status_of
from mwa_client.errors import DirectoryUnusable, ExitStatus, Interruption, JobFailed
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Sandbox
from mwa_client.transfer import standing
from mwa_client.transfer.delivered import DeliveryRoots

OBS, OTHER = 1191828528, 1191828584
DONE = LABELS[Stage.COMPLETE]
PLAIN = {"PATH": os.environ["PATH"]}


@pytest.fixture
def sandbox(clock: FastClock) -> Iterator[Sandbox]:
    with Sandbox(clock=clock.now, product_size=lambda job: 3000) as sandbox:
        yield sandbox


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def run(sandbox: Sandbox, clock: FastClock, data: Path) -> Any:
    def run(then: str | None, text: str = vis(OBS), **options: Any) -> Run:
        command = None if then is None else ShellCommand(then, PLAIN)
        return run_batch(sandbox, data, clock, text, then=command, **options)

    return run


def run_rows(
    sandbox: Sandbox,
    clock: FastClock,
    data: Path,
    rows: list[ListedJob],
    then: str | None,
    *,
    api: ApiVersion = ApiVersion.V2018,
    **options: Any,
) -> Run:
    """Fetch jobs that are listed."""
    service, events = service_of(sandbox, api), list[Any]()
    command = None if then is None else ShellCommand(then, PLAIN)
    ledger = Ledger(data, service.name, now=clock.now)
    with closing(ledger), closing(open_session(service, clock=clock)) as session:
        means = (lambda: session, ledger, clock, events.append, Pacing())
        batch = Batch(rows, *means, then=command, **options)
        return Run(batch.run(), events)


def commands_of(data: Path) -> list[tuple[int, int | None]]:
    """Job and exit status of each beginning and each end of a command in the ledger."""
    (ledger,) = (data / ".mwa_client").glob("ledger*.jsonl")
    lines = [line for line in ledger.read_text().splitlines() if line.endswith("}")]
    entries = [entry for entry in map(json.loads, lines) if entry["event"] == "then"]
    return [(entry["job_id"], entry.get("status")) for entry in entries]


def product_of(entry: dict[str, Any], data: Path) -> str:
    product = read_product(data, entry)
    assert product is not None
    return product.fingerprint


def cut(data: Path, words: str) -> None:
    """Take the lines with these words out of the ledger, as if a kill had come before them."""
    ledger = data / ".mwa_client" / "ledger.jsonl"
    ledger.write_text("".join(line for line in ledger.read_text().splitlines(True) if words not in line))


def states_of(data: Path) -> dict[str, int]:
    return dict(status_of(data, data / ".mwa_client", 0.0).states)


def log_of(data: Path, job_id: int) -> str:
    return (data / ".mwa_client" / "then" / f"{job_id}.log").read_text()


def test_a_command_is_not_shown_where_it_may_hold_a_password() -> None:
    command = ShellCommand("work --token=abc", {"TOKEN": "secret"})
    assert "secret" not in repr(command) and "abc" not in command.digest


# --- Once for each product ------------------------------------------------------------------------------


def test_each_product_has_its_command_once(run: Any, sandbox: Sandbox, data: Path, tmp_path: Path) -> None:
    then = f"echo {{path}} {{obs_id}} {{job_id}} {{line}} | tee -a {tmp_path}/done; pwd >&2; cat"
    first = run(then, vis(OBS, OTHER))
    assert first.summary.exit_status is ExitStatus.COMPLETE and len(first.summary.complete) == 2
    wanted = {
        f"{row.files[0].path.absolute()} {row.row.obs_id} {row.row.job_id} {row.row.line}"
        for row in first.summary.complete
    }
    assert set((tmp_path / "done").read_text().splitlines()) == wanted
    for row in first.summary.complete:
        assert log_of(data, row.row.job_id or 0).splitlines() == [
            f"{row.files[0].path.absolute()} {row.row.obs_id} {row.row.job_id} {row.row.line}",
            str(Path.cwd()),
        ]
    assert sorted((job, str(status)) for job, status in commands_of(data)) == sorted(
        (job.id, status) for job in sandbox.jobs for status in ("None", "0")
    )
    assert sum("Command done" in line for line in lines_shown(first.events)) == 2
    sandbox.reset_log()
    again = run(then, vis(OBS, OTHER))
    assert again.summary.exit_status is ExitStatus.COMPLETE and sandbox.requests == []
    assert len((tmp_path / "done").read_text().splitlines()) == 2 and len(commands_of(data)) == 4
    assert again.told(CommandRun) == []
    # Until it is begun, the directory calls no row complete.
    entries = map(json.loads, (data / ".mwa_client" / "ledger.jsonl").read_text().splitlines())
    events = [entry["event"] for entry in entries if entry.get("job_id") == commands_of(data)[0][0]]
    assert events[-3:] == ["complete", "then", "then"]
    cut(data, '"then"')
    assert states_of(data) == {LABELS[Stage.ARRIVED]: 2}


def test_products_of_runs_without_a_command_get_it_too(run: Any, sandbox: Sandbox, data: Path) -> None:
    run(None)
    sandbox.reset_log()
    assert run("true").summary.exit_status is ExitStatus.COMPLETE
    assert [status for _, status in commands_of(data)] == [None, 0] and sandbox.requests == []


def test_a_command_that_fails_is_tried_again_alone(run: Any, sandbox: Sandbox, data: Path) -> None:
    first = run("printf 'the disk is\\033 made of cheese\\n\\033\\n'; echo >&2; exit 3")
    assert first.summary.exit_status is ExitStatus.JOBS_FAILED
    (failed,) = first.summary.failed
    assert failed.error.what == "The command of --then ended with exit status 3: the disk is made of cheese"
    assert f"{data}/.mwa_client/then/{failed.row.job_id}.log" in failed.error.remedy
    (product,) = products(data)
    sandbox.reset_log()
    cut(data, '"failed"')
    assert states_of(data) == {LABELS[Stage.FAILED]: 1}, "a kill came before it was recorded why"
    again = run("kill -9 $$")
    assert failures(again) == {1: "The command of --then was ended by the signal SIGKILL."}
    last = run("test -f {path}")
    assert last.summary.exit_status is ExitStatus.COMPLETE and products(data) == {product}
    assert sandbox.requests == [] and len(sandbox.jobs) == 1
    assert [status for _, status in commands_of(data)] == [None, 3, None, -9, None, 0]


@pytest.mark.parametrize("last", ["waiting", "cut off", "failed"])
def test_a_run_without_a_command_settles_rows_and_a_later_one_with_it_still_runs_it(
    run: Any, data: Path, tmp_path: Path, last: str
) -> None:
    run("exit 3" if last == "failed" else None, vis(OBS, OTHER))
    ledger = data / ".mwa_client" / "ledger.jsonl"
    for line in ledger.read_text().splitlines() if last != "failed" else ():
        entry = json.loads(line)
        if entry["event"] == "complete":
            about = {key: entry[key] for key in ("time", "service", "row", "job_id")}
            product = {"product": product_of(entry, data), "command": "", "status": None}
            event = {"event": "waiting"} if last == "waiting" else {"event": "then", **product}
            ledger.write_text(ledger.read_text() + json.dumps({**about, **event}) + "\n")
    unsettled = states_of(data)
    assert DONE not in unsettled
    run(None, vis(OBS, OTHER), only_submit=True)
    assert states_of(data) == unsettled, "submitting says nothing of commands"
    run(None)
    assert states_of(data) == {**unsettled, DONE: 1, next(iter(unsettled)): 1}, "a row that is not in the run"
    run(None, vis(OBS, OTHER))
    settled = ledger.read_text()
    assert states_of(data) == {DONE: 2} and settled.count('"settled"') == 2
    run(None, vis(OBS, OTHER))
    assert ledger.read_text() == settled
    for _ in range(2):
        assert run(f"echo {{line}} >> {tmp_path}/done", vis(OBS, OTHER)).summary.exit_status == 0
    assert sorted((tmp_path / "done").read_text().split()) == ["1", "2"] and states_of(data) == {DONE: 2}


def test_one_failure_stops_no_other_row(run: Any, data: Path) -> None:
    done = run("test {line} != 2", vis(OBS, OTHER, OTHER + 8))
    assert done.summary.exit_status is ExitStatus.JOBS_FAILED
    assert sorted(row.row.line for row in done.summary.complete) == [1, 3] and set(failures(done)) == {2}


def test_another_command_is_said_once_and_not_run_again(run: Any, data: Path) -> None:
    run("true", vis(OBS, OTHER))
    again = run("false", vis(OBS, OTHER))
    assert again.summary.exit_status is ExitStatus.COMPLETE
    assert len(notices(again, "has changed since earlier runs")) == 1 and len(commands_of(data)) == 4


def test_two_rows_that_are_one_job_have_one_command(
    sandbox: Sandbox, clock: FastClock, data: Path, tmp_path: Path
) -> None:
    job = listed(sandbox)
    rows = [ListedJob(job.id, OBS, identity) for identity in ("one", "two")]
    then = f"echo {{job_id}} >> {tmp_path}/done"
    run_rows(sandbox, clock, data, rows[:1], None)
    done = run_rows(sandbox, clock, data, rows, then)
    assert len(done.summary.complete) == 2 and (tmp_path / "done").read_text() == f"{job.id}\n"
    assert states_of(data) == {DONE: 2}
    assert commands_of(data) == [(job.id, None), (job.id, 0)], "recorded as run once"
    for row in done.summary.complete[:1]:
        row.files[0].path.unlink()
    assert states_of(data) == {DONE: 2}, "what becomes of it after its command does not matter, for both"


def test_two_rows_that_are_one_job_have_one_failure(
    sandbox: Sandbox, clock: FastClock, data: Path, tmp_path: Path
) -> None:
    job = listed(sandbox)
    rows = [ListedJob(job.id, OBS, identity) for identity in ("one", "two")]
    run_rows(sandbox, clock, data, rows[:1], None)
    for times in (1, 2):
        failed = run_rows(sandbox, clock, data, rows, f"echo {{job_id}} >> {tmp_path}/done; exit 7").summary
        assert len(failed.failed) == 2 and "exit status 7" in failed.failed[1].error.what
        assert (tmp_path / "done").read_text() == f"{job.id}\n" * times


def test_a_new_job_of_a_row_has_a_new_product(run: Any, sandbox: Sandbox, data: Path) -> None:
    run("true")
    run("false", vis(OBS) + vis(OTHER))
    assert [job for job, _ in commands_of(data)] == [job.id for job in sandbox.jobs for _ in range(2)]


def test_a_job_id_that_begins_anew_is_another_product(tmp_path: Path, clock: FastClock) -> None:
    command = ShellCommand("true", PLAIN)
    for obs_id in (OBS, OTHER):
        with Sandbox(clock=clock.now, product_size=lambda job: 3000) as sandbox:
            assert run_batch(sandbox, tmp_path, clock, vis(obs_id), then=command).summary.complete
    assert [status for _, status in commands_of(tmp_path)] == [None, 0, None, 0]
    assert len({job for job, _ in commands_of(tmp_path)}) == 1


def test_so_many_at_a_time_while_downloads_go_on(run: Any, tmp_path: Path) -> None:
    """All commands wait until the third product is there, which hinders no download."""
    then = f": {{path}}; until [ -e {tmp_path}/go ]; do sleep 0.02; done"
    at_work, most, complete = set[int](), 0, 0

    def listen(event: Any) -> None:
        nonlocal most, complete
        if isinstance(event, CommandRun):
            (at_work.add if event.status is None else at_work.remove)(event.row.line)
            most = max(most, len(at_work))
        elif isinstance(event, Complete):
            complete += 1
            if complete == 3:
                (tmp_path / "go").touch()

    done = run(then, vis(OBS, OTHER, OTHER + 8), pacing=Pacing(parallel=2), listen=listen)
    assert done.summary.exit_status is ExitStatus.COMPLETE
    assert (most, at_work, len(done.told(CommandRun))) == (2, set(), 6)


def test_a_single_pass_runs_the_commands_of_what_it_fetches(run: Any, clock: FastClock, data: Path) -> None:
    assert run("true", once=True).summary.exit_status is ExitStatus.TRY_AGAIN
    clock.advance(3600)
    assert run("true", once=True).summary.exit_status is ExitStatus.COMPLETE
    assert [status for _, status in commands_of(data)] == [None, 0]


def test_a_run_that_only_submits_runs_none(run: Any, data: Path) -> None:
    run(None)
    assert run("false", only_submit=True).summary.exit_status is ExitStatus.COMPLETE
    assert commands_of(data) == []


# --- What the command does with the product -------------------------------------------------------------


@pytest.mark.parametrize("then", ["mv {path} {path}.mine", "rm {path}", "true {path}"])
def test_what_was_moved_away_afterwards_is_not_fetched_again(
    run: Any, sandbox: Sandbox, data: Path, then: str
) -> None:
    done = run(then)
    assert done.summary.exit_status is ExitStatus.COMPLETE
    done.summary.complete[0].files[0].path.unlink(missing_ok=True)
    sums = (data / "SHA1SUMS").read_text()
    sandbox.service.expire(sandbox.jobs[0].id)
    sandbox.reset_log()
    for command in (then, None):
        again = run(command)
        assert again.summary.exit_status is ExitStatus.COMPLETE and again.summary.moved == 1
        assert lines_shown(again.events)[-1] == "1 complete, 1 moved away since"
    assert sandbox.requests == [] and len(sandbox.jobs) == 1
    assert (data / "SHA1SUMS").read_text() == sums
    status = status_of(data, data / ".mwa_client", 2e9)
    assert status.rows[0].is_complete and status.rows[0].here == 0


@pytest.mark.parametrize("then", ["touch {path}", "tr a-m n-z <{path} >{path}.new; mv {path}.new {path}"])
@pytest.mark.parametrize("is_done", [True, False])
def test_what_a_command_has_modified_is_not_read(
    run: Any, sandbox: Sandbox, data: Path, monkeypatch: pytest.MonkeyPatch, then: str, is_done: bool
) -> None:
    then = then if is_done else f"{then}; false"
    status = run(then).summary.exit_status
    sums = (data / "SHA1SUMS").read_bytes()
    sandbox.reset_log()
    monkeypatch.setattr(standing, "sha1_of", None)
    for command in (then, None) if is_done else (then,):
        again = run(command)
        assert again.summary.exit_status == status and sandbox.requests == []
        assert again.told(Complete)[0].is_changed and (data / "SHA1SUMS").read_bytes() == sums
    (row,) = status_of(data, data / ".mwa_client", 2e9).rows
    assert row.is_complete is is_done and (not is_done or "changed since" in row.note)


def test_a_command_that_was_run_for_a_delivery_elsewhere_is_not_run_for_its_copy(
    run: Any, sandbox: Sandbox, data: Path, tmp_path: Path
) -> None:
    delivery = tmp_path / "scratch" / "7"
    sandbox.faults.add("other_path", at=str(delivery), size=5)
    roots = DeliveryRoots((tmp_path / "scratch",))
    scratch = {"text": vis(OBS, more=", delivery=scratch"), "roots": roots, "api": ApiVersion.V2}
    assert run("echo {path}", **scratch).summary.elsewhere == (str(delivery),)
    delivery.mkdir(parents=True)
    (delivery / "file").write_bytes(b"bytes")
    for _ in range(2):
        assert run("echo {path}", **scratch).summary.exit_status is ExitStatus.COMPLETE
    assert [status for _, status in commands_of(data)] == [None, 0]
    assert (data / "7" / "file").read_bytes() == b"bytes" and states_of(data) == {DONE: 1}


@pytest.mark.parametrize("share", [None, "1/2"])
@pytest.mark.parametrize("status", [0, 3])
def test_where_there_is_no_room_for_its_end_a_command_has_ended_all_the_same(
    run: Any, data: Path, share: str | None, status: int
) -> None:
    count, limits = data.parent / "count", ExitStack()

    def fill_the_disk(event: Event) -> None:
        if isinstance(event, CommandRun) and event.status is None:
            (ledger,) = (data / ".mwa_client").glob("ledger*.jsonl")
            limits.enter_context(longest_file(ledger.stat().st_size + 10))

    then = f"echo {{obs_id}} >>{shlex.quote(str(count))}; exit {status}"
    text = vis(OBS, OTHER) if share else vis(OBS)
    with limits:
        run(then, text=text, share=share, listen=fill_the_disk)
    assert [end for _, end in commands_of(data)] == [status]
    again = run(then, text=text, share=share)
    assert count.read_text() == f"{OBS}\n" * (1 if status == 0 else 2)
    assert again.summary.exit_status is (ExitStatus.COMPLETE if status == 0 else ExitStatus.JOBS_FAILED)
    assert not notices(again, "was cut off")


def test_a_copy_that_is_made_once_more_is_still_what_it_was_elsewhere(
    run: Any, sandbox: Sandbox, clock: FastClock, data: Path, tmp_path: Path
) -> None:
    delivery = tmp_path / "scratch" / "7"
    sandbox.faults.add("other_path", at=str(delivery), size=5)
    roots = DeliveryRoots((tmp_path / "scratch",))
    scratch = {"text": vis(OBS, more=", delivery=scratch"), "roots": roots, "api": ApiVersion.V2}
    run("echo {path}", **scratch)
    delivery.mkdir(parents=True)
    (delivery / "file").write_bytes(b"bytes")
    run("echo {path}", **scratch)
    shutil.rmtree(data / "7")
    with closing(open_session(service_of(sandbox, ApiVersion.V2), clock=clock)) as session:
        rows = [ListedJob.of(job, ApiVersion.V2) for job in session.jobs().values()]
    again = run_rows(sandbox, clock, data, rows, None, api=ApiVersion.V2, roots=roots)
    assert again.summary.exit_status is ExitStatus.COMPLETE and (data / "7" / "file").exists()
    assert run("echo {path}", **scratch).summary.exit_status is ExitStatus.COMPLETE
    assert [status for _, status in commands_of(data)] == [None, 0]


def test_what_was_moved_away_without_success_is_fetched_again(run: Any, sandbox: Sandbox, data: Path) -> None:
    assert run("rm {path}; exit 1").summary.exit_status is ExitStatus.JOBS_FAILED
    again = run("test -f {path}")
    assert again.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 1
    assert len(notices(again, "has been moved or removed since. It will be downloaded again, if")) == 1


def test_who_names_a_job_gets_its_product_back(
    run: Any, sandbox: Sandbox, clock: FastClock, data: Path
) -> None:
    (complete,) = run("rm {path}").summary.complete
    row = ListedJob(complete.row.job_id or 0, OBS, f"job_type=d obs_id={OBS}")
    assert run_rows(sandbox, clock, data, [row], "rm {path}").summary.moved == 1
    assert run_rows(sandbox, clock, data, [row], None).summary.moved == 0
    assert complete.files[0].path.exists() and len(commands_of(data)) == 2


def test_a_product_that_was_moved_away_and_has_expired_is_not_made_anew(
    run: Any, sandbox: Sandbox, data: Path
) -> None:
    (complete,) = run(None).summary.complete
    away = complete.files[0].path.rename(data.parent / "away")
    sandbox.service.expire(sandbox.jobs[0].id)
    failed = run(None)
    assert failed.summary.exit_status is ExitStatus.JOBS_FAILED and len(sandbox.jobs) == 1
    assert "was complete on 20" in failures(failed)[1] and "The service no longer has" in failures(failed)[1]
    assert "--allow-resubmit" in failed.summary.failed[0].error.remedy
    assert states_of(data) == {LABELS[Stage.FAILED]: 1}
    put_back = away.rename(complete.files[0].path)
    assert run(None).summary.exit_status is ExitStatus.COMPLETE and states_of(data) == {DONE: 1}
    put_back.unlink()
    anew = run("true", vis(OBS, more=", allow_resubmit=true"))
    assert anew.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 2


# --- Cut off --------------------------------------------------------------------------------------------


def test_what_has_ended_is_recorded_whoever_interrupts_twice(
    run: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid, begun = tmp_path / "pid", list[Event]()

    def interrupt(*ignored: object) -> None:
        raise KeyboardInterrupt

    def listen(event: Event) -> None:
        if begun:
            wait_until(lambda: pid.exists() and not is_alive(int(pid.read_text())))
            interrupt()
        if isinstance(event, CommandRun):
            begun.append(event)

    then = f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {pid}; : {{path}}"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Fetching, "finish", interrupt)
        run(then, listen=listen)
    assert [status for _, status in commands_of(data)] == [None, 0]
    assert run(then).summary.exit_status is ExitStatus.COMPLETE and len(commands_of(data)) == 2


@pytest.mark.parametrize("is_stubborn", [False, True])
def test_what_runs_when_the_work_ends_is_ended_and_run_again(
    run: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_stubborn: bool
) -> None:
    trap = "trap '' TERM; " if is_stubborn else ""
    monkeypatch.setattr("mwa_client.batch.shell.GUARD_SCRIPT", GUARD_SCRIPT.replace("sleep 3", "sleep 0.1"))
    monkeypatch.setattr("mwa_client.batch.shell.TIME_TO_STOP", 0.1)
    monkeypatch.setattr("mwa_client.batch.shell.LOOK_INTERVAL", 0.02)
    then = f"{trap}sleep 100 & echo $$ $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pids; wait; wait"

    begun: list[Any] = []

    def listen(event: Any) -> None:
        """Interrupt with the first event after the command has begun."""
        if begun:
            wait_until((tmp_path / "pids").exists)
            raise Interruption
        if isinstance(event, CommandRun):
            begun.append(event)

    with pytest.raises(Interruption):
        run(then, listen=listen)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    wait_until(lambda: not any(map(is_alive, pids)))
    assert [status for _, status in commands_of(data)] == [None]
    status = status_of(data, data / ".mwa_client", 2e9)
    assert status.rows[0].label == COMMAND_INTERRUPTED and status.rows[0].is_pending
    again = run("true")
    assert again.summary.exit_status is ExitStatus.COMPLETE and len(notices(again, "was cut off")) == 1
    assert [status for _, status in commands_of(data)] == [None, None, 0]
    history = LedgerHistory.of(data, data / ".mwa_client")
    assert [row.label for row in history.rows.values()] == ["Download Complete"]


def test_the_guard_ends_what_is_left_when_this_program_is_gone(tmp_path: Path) -> None:
    program = (
        "import os\n"
        "from mwa_client.batch.shell import Guard\n"
        "guard, (begun, output) = Guard(), os.pipe()\n"
        "made = [guard.start('echo; exec sleep 100 >/dev/null 2>&1', output, os.environ) for _ in '12']\n"
        "while made[2:] != [b'\\n'] * 2:\n"
        "    made.append(os.read(begun, 1))\n"
        "guard.forget(made[0].pid)\n"
        "print(*(each.pid for each in made[:2]), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    forgotten, watched = map(int, done.stdout.split())
    wait_until(lambda: not is_alive(watched))
    assert is_alive(forgotten)
    os.kill(forgotten, signal.SIGKILL)


@pytest.mark.parametrize("script", ["exit 0", "exit 1"])
def test_a_guard_that_does_not_live_hinders_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr("mwa_client.batch.shell.GUARD_SCRIPT", script)
    command = ShellCommand("true", PLAIN)
    for _ in range(2):
        assert command.run({"path": ["x"]}, tmp_path / "then" / "1.log", threading.Event()) == 0
    command.close()


def test_processes_of_an_earlier_run_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mwa_client.batch.shell.TIME_TO_DIE", 0.3)
    log = tmp_path / "then" / "1.log"
    command = ShellCommand("sleep 100 & echo $!; : {path}", PLAIN)
    assert command.run({"path": ["x"]}, log, threading.Event()) == 0
    sleeper = int(log.read_text())
    with pytest.raises(JobFailed, match="its processes are still at work"):
        command.run({"path": ["x"]}, log, threading.Event())
    os.kill(sleeper, signal.SIGKILL)
    monkeypatch.setattr("mwa_client.batch.shell.TIME_TO_DIE", 20.0)
    assert ShellCommand("echo {path}", PLAIN).run({"path": ["x"]}, log, threading.Event()) == 0
    assert log.read_text() == "x\n"
    command.close()


# --- What is in the way ---------------------------------------------------------------------------------


@pytest.mark.parametrize("planted", ["a link", "a second name", "a folder"])
def test_a_log_is_written_through_no_link(tmp_path: Path, planted: str) -> None:
    log, mine = tmp_path / "then" / "1.log", tmp_path / "mine"
    log.parent.mkdir()
    mine.write_text("mine")
    if planted == "a link":
        log.symlink_to(mine)
    elif planted == "a second name":
        os.link(mine, log)
    else:
        log.mkdir()
    with pytest.raises(DirectoryUnusable):
        ShellCommand("echo hello", PLAIN).run({"path": ["x"]}, log, threading.Event())
    assert mine.read_text() == "mine"


def test_a_row_whose_log_cannot_be_written_fails_and_the_product_stays(
    run: Any, sandbox: Sandbox, data: Path
) -> None:
    run(None)
    (data / ".mwa_client" / "then").write_text("a file")
    failed = run("true")
    assert failed.summary.exit_status is ExitStatus.JOBS_FAILED and "then" in failures(failed)[1]
    (data / ".mwa_client" / "then").unlink()
    assert not status_of(data, data / ".mwa_client", 2e9).rows[0].is_complete
    again = run("true")
    assert again.summary.exit_status is ExitStatus.COMPLETE and len(sandbox.jobs) == 1
    assert notices(again, "cut off") == []


@pytest.mark.parametrize("is_cut_off", [False, True])
def test_a_command_that_could_not_be_started_was_not_begun(
    run: Any, data: Path, monkeypatch: pytest.MonkeyPatch, is_cut_off: bool
) -> None:
    """What is said of it the next time depends on what was before."""

    def listen(event: Any) -> None:
        if isinstance(event, CommandRun):
            raise Interruption

    if is_cut_off:
        with pytest.raises(Interruption):
            run("true", listen=listen)
    with monkeypatch.context() as patched:
        patched.setattr("mwa_client.batch.shell.SHELL", str(data / "no shell"))
        assert "cannot be started" in failures(run("true"))[1]
    assert len(notices(run("true"), "was cut off")) == is_cut_off


def test_a_command_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mwa_client.batch.shell.SHELL", str(tmp_path / "no shell"))
    with pytest.raises(JobFailed, match="cannot be started"):
        ShellCommand("true").run({"path": ["x"]}, tmp_path / "then" / "1.log", threading.Event())
