"""The command as a user meets it: real processes, a real service on a socket, a real terminal."""

from __future__ import annotations

import atexit
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from forked import ForkedClient
from shared import (
    THREE_ROWS,
    FastClock,
    command,
    environment,
    products,
    run_command,
    run_forked,
    true_bytes,
    untimed,
    wait_until,
)

from mwa_client import __version__
from mwa_client.sandbox import JobType, Sandbox

EXAMPLE = Path(__file__).parents[2] / "examples" / "jobs.csv"
ONE_ROW = "obs_id=1191828584, job_type=d, download_type=vis\n"
OBS, OTHER = "1191828584", "1191828528"
PRODUCTS = {f"{OBS}_ms.zip", f"{OBS}_vis.zip", f"{OTHER}_vis_meta.zip"}
FIVE_MISTAKES = """\
obs_id=1191828584, job_type=c, timeres=20, frqres=20, edgewidth=80, conversion=ms
# nothing wrong here
obs_id=119, job_type=d, download_type=vis
obs_id=1191828584, job_type=d, download_type=viss

obs_id=1191828584 job_type=d, download_type=vis
obs_id=1191828584, job_type=x
obs_id=1191828584, job_type=d, download_type=vis
"""
Done = subprocess.CompletedProcess[str]

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A practice service on the clock of the machine, whose jobs are ready at once."""
    with Sandbox(seconds_per_state=0, product_size=lambda job: 300_000 + job.id) as sandbox:
        yield sandbox


HELD: list[socket.socket] = []


def closed_port() -> int:
    """A port at which nobody answers: bound and not listening, so that nobody else is given it meanwhile."""
    HELD.append(socket.socket())
    atexit.register(HELD[-1].close)
    HELD[-1].bind(("127.0.0.1", 0))
    return int(HELD[-1].getsockname()[1])


def without_network(**more: str) -> dict[str, str]:
    """An environment with an account, and a way to the world that ends at once."""
    proxy = f"http://127.0.0.1:{closed_port()}"
    plain = {
        key: value for key, value in environment().items() if key.lower() not in ("no_proxy", "all_proxy")
    }
    proxies = {"HTTPS_PROXY": proxy, "https_proxy": proxy, "HTTP_PROXY": proxy, "http_proxy": proxy}
    return {**plain, **proxies, "ASVO_USER": "someone", "ASVO_PASS": "s3cret-word", **more}


def no_trace(done: Done) -> bool:
    return "Traceback" not in done.stderr and "Exception" not in done.stderr


# --- Before anything is sent -------------------------------------------------------------------------


def test_help_is_for_newcomers() -> None:
    done = run_command("--help", env=environment(COLUMNS="200"))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    first_screen = "\n".join(lines[:24])
    for wanted in ("--csv=jobs.csv", "--dir=", "--check", "--sandbox", "MWA_ASVO_API_KEY", "obs_id="):
        assert wanted in first_screen
    for status in ("0", "1", "2", "3", "4", "75", "130"):
        assert re.search(rf"^  {status}\b", done.stdout, re.M)


def test_the_row_in_the_help_is_right(tmp_path: Path) -> None:
    row = re.search(r"^row: +(.*)$", run_command("--help", env=environment()).stdout, re.M)
    assert row is not None
    checked = run_command("--csv=-", "--check", env=environment(), cwd=tmp_path, stdin=row[1].encode())
    assert checked.returncode == 0


def test_version() -> None:
    done = run_command("--version", env=environment())
    assert (done.returncode, done.stdout) == (0, f"mwa_client {__version__}\n")


def test_the_installed_script_is_the_same() -> None:
    script = Path(sys.executable).with_name("mwa_client")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=False)
    assert done.stdout == f"mwa_client {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "no job file: give --csv=jobs.csv"),
        (["--dir=x"], "no job file: give --csv=jobs.csv"),
        (["jobs.csv"], "give the job file as --csv=jobs.csv"),
        (["--csv=jobs.csv", "."], "give the directory as --dir=."),
        (["--csv=jobs.csv", "--dir=x", "."], ". is not understood"),
        (["--state=queued"], "can only be given with --list-only: add -l"),
        (["--days", "7"], "can only be given with --list-only: add -l"),
        (["--csv=jobs.csv", "--dri=x"], "--dri=x is not understood"),
        (["--csv=jobs.csv", "x"], "x is not understood"),
        (["-csv=jobs.csv", "--dir=x"], "two dashes, please: --csv=jobs.csv"),
        (["--csv=jobs.csv", "-dir", "x"], "two dashes, please: --dir"),
        (["--csv"], "-c/--csv needs a value"),
        (["--csv=jobs.csv", "--sand"], "--sand is not understood"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], hint: str, csv: Path) -> None:
    done = run_command(*arguments, env=environment(), cwd=csv.parent)
    assert done.returncode == 2
    assert done.stdout == ""
    assert hint in done.stderr.splitlines()[-1]
    assert "usage: mwa_client --csv=FILE" in done.stderr
    assert [file.name for file in csv.parent.iterdir()] == ["jobs.csv"]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--parallel=0", "--parallel=0 is not possible."),
        ("--parallel=many", "--parallel=many is not possible."),
        ("--poll=abc", "--poll=abc is not a time."),
        ("--give-up-after=-1", "--give-up-after=-1 is not a time."),
        ("--dir=", "--dir is empty."),
        ("--csv=", "--csv is empty."),
        ("--csv=none.csv", "cannot read none.csv: No such file or directory"),
        ("--csv=/", "cannot read /: Is a directory"),
    ],
)
def test_a_value_that_cannot_be(option: str, said: str, csv: Path, data: Path) -> None:
    done = run_command(f"--csv={csv}", f"--dir={data}", option, env=environment(), cwd=csv.parent)
    assert done.returncode == 1
    first, *what_to_do = done.stderr.splitlines()
    assert first == f"mwa_client: {said}"
    assert len(what_to_do) == 1
    assert not data.exists()


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "No credentials: MWA_ASVO_API_KEY is not set."),
        ({"ASVO_USER": "someone"}, "ASVO_PASS is not set"),
        ({"ASVO_PASS": "s3cret-word"}, "ASVO_USER is not set"),
    ],
)
def test_no_credentials(given: dict[str, str], missing: str, data: Path) -> None:
    done = run_command(f"--csv={EXAMPLE}", f"--dir={data}", env={**environment(), **given})
    assert done.returncode == 1
    assert missing in done.stderr
    assert not any(name in done.stderr for name in given)
    assert "s3cret-word" not in done.stderr
    assert "--sandbox" in done.stderr
    assert done.stdout == ""
    assert not data.exists()


def test_every_mistake_is_reported_and_nothing_is_sent(sandbox: Sandbox, csv: Path, data: Path) -> None:
    csv.write_text(FIVE_MISTAKES)
    done = run_command("--csv=jobs.csv", f"--dir={data}", env=environment(sandbox), cwd=csv.parent)
    assert done.returncode == 3
    assert done.stdout == ""
    *mistakes, last = done.stderr.splitlines()
    lines = [int(mistake.split(":")[1]) for mistake in mistakes]
    assert sorted(set(lines)) == [1, 3, 4, 6, 7]
    assert lines == sorted(lines)
    assert mistakes[0] == "jobs.csv:1: frqres: no such key; did you mean freqres?"
    assert "jobs.csv:4: download_type=viss: must be vis or vis_meta; did you mean vis?" in mistakes
    assert last == "Error: frqres: no such key; did you mean freqres?, Line num: 1"
    assert sandbox.requests == []
    assert not data.exists()


def test_check_shows_the_plan_and_needs_nothing(csv: Path, data: Path) -> None:
    csv.write_text(THREE_ROWS + ONE_ROW)
    done = run_command(f"--csv={csv}", f"--dir={data}", "--check", env=environment())
    assert done.returncode == 0
    assert "3 jobs on 2 observations" in done.stdout
    assert done.stdout.endswith("Nothing was sent.\n")
    assert re.fullmatch(r"Warning: .*jobs\.csv:4: asks for the same as line 2; .*\n", done.stderr)
    assert not data.exists()


def test_check_finds_mistakes(csv: Path) -> None:
    csv.write_text(FIVE_MISTAKES)
    done = run_command(f"--csv={csv}", "--check", env=environment())
    assert (done.returncode, done.stdout) == (3, "")
    assert len(done.stderr.splitlines()) >= 6


# --- The directory -----------------------------------------------------------------------------------


def test_a_directory_below_a_file(sandbox: Sandbox, csv: Path) -> None:
    for directory in (csv, csv / "data"):
        done = run_command(f"--csv={csv}", f"--dir={directory}", env=environment(sandbox))
        assert done.returncode == 1
        assert re.match(
            rf"mwa_client: Cannot write {directory}\S*: (Not a directory|File exists)\.\n", done.stderr
        )
        assert "--dir" in done.stderr.splitlines()[-1] and "permissions" not in done.stderr
        assert no_trace(done)
    assert sandbox.requests == []


def test_the_default_is_here_and_home_is_found(sandbox: Sandbox, tmp_path: Path, csv: Path) -> None:
    csv.write_text(ONE_ROW)
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    (home / "mine.csv").write_text(ONE_ROW)
    env = environment(sandbox, HOME=str(home))
    assert run_command("--csv=~/mine.csv", "--poll=0.1", env=env, cwd=here).returncode == 0
    assert products(here) == {f"{OBS}_vis.zip"}
    assert run_command("-c", csv, "-d", "~/data", "--poll=0.1", env=env, cwd=here).returncode == 0
    assert products(home / "data") == {f"{OBS}_vis.zip"}
    assert not (here / "~").exists()


def test_practice_and_real_products_are_not_mixed(sandbox: Sandbox, csv: Path, tmp_path: Path) -> None:
    csv.write_text(ONE_ROW.replace("vis", "vis_meta"))
    real, practice = tmp_path / "real", tmp_path / "practice"
    env = environment(sandbox)
    assert run_command(f"--csv={csv}", f"--dir={real}", "--poll=0.1", env=env).returncode == 0
    with interrupted("--sandbox", f"--csv={csv}", f"--dir={practice}", env=environment()) as practising:
        wait_until((practice / ".mwa_client" / "sandbox.json").exists)
        practising.terminate()
    asked = len(sandbox.requests)
    for options, what in (
        (["--sandbox", f"--dir={real}"], "real products"),
        ([f"--dir={practice}"], "practice"),
    ):
        done = run_command(f"--csv={csv}", *options, env=env)
        assert done.returncode == 1
        assert f"was used for {what}" in done.stderr
    assert len(sandbox.requests) == asked


# --- Whole runs --------------------------------------------------------------------------------------


def test_a_run_from_beginning_to_end(sandbox: Sandbox, csv: Path, data: Path) -> None:
    words = (f"--csv={csv}", f"--dir={data}", "--poll=0.1")
    done = run_command(*words, env=environment(sandbox), is_new=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert products(data) == PRODUCTS
    for job in sandbox.jobs:
        assert (data / job.file_name).read_bytes() == true_bytes(job)
    sums = subprocess.run(["sha1sum", "-c", "SHA1SUMS"], cwd=data, capture_output=True, check=False)
    assert sums.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[-1] == f"3 complete: 930.0 kB in {data}"
    for job in sandbox.jobs:
        about = f"Job id: {job.id} obs_id: {job.obs_id}"
        story = [line.partition(":")[0] for line in lines if about in line]
        wanted = ["Submitted", "Ready for Download", "Downloading", "Download Complete"]
        assert story == wanted

    sandbox.reset_log()
    again = run_command(f"--csv={csv}", f"--dir={data}", env=environment(sandbox))
    assert again.returncode == 0
    assert sandbox.requests == []
    assert again.stdout.count("from an earlier run") == 3
    assert again.stdout.splitlines()[-1] == lines[-1]


@pytest.mark.parametrize("umask", [0o777, 0o277, 0o477, 0o022])
def test_whatever_the_umask_what_is_made_is_the_users_own(
    sandbox: Sandbox, csv: Path, data: Path, umask: int
) -> None:
    env = environment(sandbox, PYTHONDONTWRITEBYTECODE="1")
    words = command(f"--csv={csv}", f"--dir={data}", "--poll=0.1")
    done = subprocess.run(words, env=env, umask=umask, capture_output=True, timeout=20, check=False)
    assert done.returncode == 0
    for path in [data, *data.rglob("*")]:
        mode, own = stat.S_IMODE(path.stat().st_mode), 0o700 if path.is_dir() else 0o600
        assert mode & own == own and not mode & umask & 0o077, path


def test_a_file_from_standard_input(sandbox: Sandbox, data: Path) -> None:
    options = (f"--dir={data}", "--poll=0.1")
    done = run_command("--csv=-", *options, env=environment(sandbox), stdin=ONE_ROW.encode())
    assert done.returncode == 0
    assert products(data) == {f"{OBS}_vis.zip"}
    wrong = run_command("--csv=-", *options, env=environment(sandbox), stdin=b"obs_id=1\n")
    assert wrong.returncode == 3
    assert wrong.stderr.startswith("standard input:1: obs_id=1: ")


def test_quiet(sandbox: Sandbox, csv: Path, data: Path) -> None:
    done = run_command("-q", f"--csv={csv}", f"--dir={data}", "--poll=0.1", env=environment(sandbox))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"3 complete: 930.0 kB in {data}\n"


def test_one_job_in_error_does_not_stop_the_others(sandbox: Sandbox, csv: Path, data: Path) -> None:
    sandbox.faults.add("job_error", text="No gpubox files", obs_id=OTHER)
    done = run_command(f"--csv={csv}", f"--dir={data}", "--poll=0.1", env=environment(sandbox))
    assert done.returncode == 4
    assert products(data) == {f"{OBS}_ms.zip", f"{OBS}_vis.zip"}
    (failed,) = [job.id for job in sandbox.jobs if job.obs_id == OTHER]
    title, what, remedy = done.stderr.splitlines()
    assert title == "There were errors:"
    assert what.startswith(f"  line 3: obs_id {OTHER}, job id {failed}: ")
    assert "No gpubox files" in what
    assert "--allow-resubmit" in remedy
    assert done.stdout.splitlines()[-1].startswith("2 complete, 1 failed: ")

    submitted = len(sandbox.jobs)
    sandbox.faults.clear()
    again = run_command(f"--csv={csv}", f"--dir={data}", "--poll=0.1", env=environment(sandbox))
    assert again.returncode == 4
    assert len(sandbox.jobs) == submitted
    anew = run_command(f"--csv={csv}", f"--dir={data}", "--poll=0.1", "-ar", env=environment(sandbox))
    assert anew.returncode == 0
    assert len(sandbox.jobs) == submitted + 1
    assert products(data) == PRODUCTS


def test_a_submission_that_is_refused_concerns_its_row(sandbox: Sandbox, csv: Path, data: Path) -> None:
    sandbox.faults.add("refuse_submission", text="Observation does not exist", obs_id=OTHER)
    done = run_command(f"--csv={csv}", f"--dir={data}", "--poll=0.1", env=environment(sandbox))
    assert done.returncode == 4
    assert f"  line 3: obs_id {OTHER}, no job: The service refused: Observation does not exist" in done.stderr
    assert "      Correct the row or take it out, then run the same command again.\n" in done.stderr
    assert len(products(data)) == 2


def test_allow_resubmit_submits_what_is_there(sandbox: Sandbox, csv: Path, tmp_path: Path) -> None:
    csv.write_text(ONE_ROW)
    sandbox.service.add({"obs_id": OBS, "download_type": "vis"}, JobType.VISIBILITIES)
    for more, jobs in ((["--poll=0.1"], 1), (["--poll=0.1", "--allow-resubmit"], 2)):
        directory = f"--dir={tmp_path / str(jobs)}"
        assert run_command(f"--csv={csv}", directory, *more, env=environment(sandbox)).returncode == 0
        assert len(sandbox.jobs) == jobs


def test_the_summary_is_the_very_last_line(sandbox: Sandbox, csv: Path, data: Path, tmp_path: Path) -> None:
    sandbox.faults.add("job_error", obs_id=OTHER)
    words = command(f"--csv={csv}", f"--dir={data}", "--poll=0.1")
    with (tmp_path / "said").open("w+") as said:
        with ForkedClient(words, environment(sandbox), stdout=said, stderr=said) as process:
            process.wait(60)
        said.seek(0)
        lines = untimed(said.read()).splitlines()
    assert lines[-1].startswith("2 complete, 1 failed: ")
    assert lines.index("There were errors:") == len(lines) - 4


# --- The service and the way to it -------------------------------------------------------------------


def test_a_wrong_password(sandbox: Sandbox, csv: Path, data: Path) -> None:
    env = environment(sandbox, ASVO_PASS="wr0ng-word")
    done = run_command(f"--csv={csv}", f"--dir={data}", env=env)
    assert done.returncode == 2
    assert "does not accept this user name and password" in done.stderr
    assert "ASVO_PASS" in done.stderr
    kept = "".join(file.read_text() for file in data.rglob("*") if file.is_file())
    assert "wr0ng" not in done.stdout + done.stderr + kept
    assert sandbox.jobs == []


def test_nobody_at_the_address_of_2018(csv: Path, data: Path) -> None:
    began = time.monotonic()
    done = run_command(f"--csv={csv}", f"--dir={data}", env=without_network())
    assert time.monotonic() - began < 60
    assert done.returncode == 2
    assert "https://asvo.mwatelescope.org:8778" in done.stderr
    assert "MWA_ASVO_API_KEY" in done.stderr
    assert "profile page" in done.stderr
    assert "s3cret-word" not in done.stderr
    assert done.stdout.startswith("0 complete, 3 pending")


def test_nobody_at_another_address(csv: Path, data: Path) -> None:
    address = f"http://127.0.0.1:{closed_port()}"
    env = environment(ASVO_HOST=address, ASVO_USER="someone", ASVO_PASS="s3cret-word")
    # On a busy machine it takes a while until the first call goes out at all.
    options = ("--poll=0.1", "--give-up-after=3")
    done = run_command(f"--csv={csv}", f"--dir={data}", *options, env=env)
    assert done.returncode == 75
    assert done.stderr.count("Cannot connect") == 1
    assert f"Cannot connect to {address} (connection refused). Trying again" in done.stderr
    assert "--give-up-after" in done.stderr.splitlines()[-1]
    assert done.stdout == "0 complete, 3 pending (run the same command again)\n"


def test_a_service_that_comes_back(sandbox: Sandbox, csv: Path, data: Path) -> None:
    sandbox.stop()
    words = command(f"--csv={csv}", f"--dir={data}", "--poll=0.1")
    with ForkedClient(words, environment(sandbox)) as process:
        assert process.stderr is not None
        assert "Cannot connect" in process.stderr.readline()
        sandbox.start()
        assert untimed(process.stderr.readline()) == "The service answers again.\n"
        assert process.wait(30) == 0
    assert products(data) == PRODUCTS


def test_giving_up_keeps_the_jobs(clock: FastClock, csv: Path, data: Path) -> None:
    with Sandbox(clock=clock.now, product_size=lambda job: 1000) as sandbox:
        options = (f"--csv={csv}", f"--dir={data}", "--poll=0.1")
        # Long enough for the submissions: one that may not have been answered is looked for for two minutes.
        done = run_command(*options, "--give-up-after=2", env=environment(sandbox))
        assert done.returncode == 75
        assert done.stdout.splitlines()[-1].startswith("0 complete, 3 pending (run the same command again)")
        clock.advance(10.0)
        assert run_command(*options, env=environment(sandbox)).returncode == 0
        assert len(sandbox.jobs) == 3


def test_a_password_in_the_address(csv: Path, data: Path) -> None:
    done = run_command(
        f"--csv={csv}", f"--dir={data}", env=without_network(ASVO_HOST="http://someone:0pen@x.example")
    )
    assert done.returncode == 1
    assert "0pen" not in done.stderr
    assert "ASVO_PASS" in done.stderr


def test_a_readable_password_is_warned_of(csv: Path, data: Path) -> None:
    env = without_network(ASVO_HOST="http://asvo.example:8778")
    done = run_command(f"--csv={csv}", f"--dir={data}", "--give-up-after=0.3", env=env)
    assert done.returncode == 75
    warning = done.stderr.splitlines()[0]
    assert warning.startswith("Warning: http://asvo.example:8778 is not encrypted")
    assert "s3cret-word" not in done.stderr


def test_no_warning_for_a_server_on_this_machine(sandbox: Sandbox, csv: Path, data: Path) -> None:
    done = run_command(
        "--csv=-", f"--dir={data}", "--poll=0.1", env=environment(sandbox), stdin=ONE_ROW.encode()
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_certificates(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    with Sandbox(seconds_per_state=0, product_size=lambda job: 1000, ssl_context=context) as sandbox:

        def run(verify: str) -> Done:
            options = (f"--dir={tmp_path / 'data'}", "--poll=0.1")
            env = environment(sandbox, SSL_VERIFY=verify)
            return run_command("--csv=-", *options, env=env, stdin=ONE_ROW.encode())

        refused = run("1")
        assert refused.returncode == 2
        assert "certificate of https://127.0.0.1" in refused.stderr
        assert sandbox.jobs == []

        trusted = run(str(tmp_path / "authority.pem"))
        assert (trusted.returncode, trusted.stderr) == (0, "")

        (tmp_path / "data" / f"{OBS}_vis.zip").unlink()
        blind = run("0")
        assert blind.returncode == 0
        (warning,) = blind.stderr.splitlines()
        assert warning.startswith("Warning: certificates are not verified (SSL_VERIFY=0)")


# --- Interruptions -----------------------------------------------------------------------------------


@contextmanager
def interrupted(*arguments: str, env: dict[str, str]) -> Iterator[ForkedClient]:
    """Run the client as a process that is brought to its end meanwhile, and wait for that."""
    with ForkedClient(command(*arguments), env) as process:
        yield process
        process.wait(20)


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (
            signal.SIGINT,
            130,
            "Interrupted. Everything so far is kept: run the same command again to continue.",
        ),
        (
            signal.SIGTERM,
            143,
            "Terminated. Everything so far is kept: run the same command again to continue.",
        ),
        (signal.SIGKILL, -9, ""),
    ],
)
def test_ended_in_the_middle_and_run_again(
    csv: Path, data: Path, number: signal.Signals, status: int, said: str
) -> None:
    csv.write_text(ONE_ROW)
    part = data / ".mwa_client" / f"{OBS}_vis.zip.part"
    options = (f"--csv={csv}", f"--dir={data}", "--poll=0.1")
    with Sandbox(seconds_per_state=0, product_size=lambda job: 3_000_000) as sandbox:
        sandbox.faults.add("stall", times=1, after=2_000_000)
        with interrupted(*options, env=environment(sandbox)) as process:
            wait_until(lambda: part.exists() and part.stat().st_size >= 1 << 20)
            process.send_signal(number)
            assert process.stderr is not None
            assert untimed(process.stderr.read()).strip() == said
        assert process.returncode == status
        assert products(data) == set()
        kept = part.stat().st_size

        done = run_command(*options, env=environment(sandbox))
        assert done.returncode == 0
        (job,) = sandbox.jobs
        assert (data / job.file_name).read_bytes() == true_bytes(job)
        paths = [request.path for request in sandbox.requests]
        assert paths.count("/api/download_vis_job") == 1
        assert sandbox.requests[-1].range == f"bytes={kept}-"


def test_a_hangup_ends_it(clock: FastClock, csv: Path, data: Path) -> None:
    with Sandbox(clock=clock.now) as sandbox:
        with interrupted(f"--csv={csv}", f"--dir={data}", env=environment(sandbox)) as process:
            wait_until(lambda: len(sandbox.jobs) == 3)
            process.send_signal(signal.SIGHUP)
            assert process.stderr is not None
            assert untimed(process.stderr.read()).startswith("Terminated. Everything so far is kept")
        assert process.returncode == 143


def test_an_ignored_hangup_stays_ignored(clock: FastClock, csv: Path, data: Path) -> None:
    csv.write_text(ONE_ROW)
    with Sandbox(clock=clock.now, product_size=lambda job: 1000) as sandbox:
        process = subprocess.Popen(
            ["nohup", *command(f"--csv={csv}", f"--dir={data}", "--poll=0.1")],
            env=environment(sandbox),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: bool(sandbox.jobs))
        process.send_signal(signal.SIGHUP)
        clock.advance(10.0)
        assert process.wait(20) == 0
    assert products(data) == {f"{OBS}_vis.zip"}


@pytest.mark.parametrize("option", ["--help", "--version", "--check"])
def test_what_needs_no_network_does_not_wait_for_it(csv: Path, option: str) -> None:
    code = """\
import sys
from mwa_client.cli.main import main
try:
    main(sys.argv[1:])
finally:
    loaded = {name.partition(".")[0] for name in sys.modules}
    print("loaded:", *sorted(loaded & {"requests", "urllib3", "tqdm"}), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, f"--csv={csv}", option],
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "loaded:\n")


def test_a_mistake_in_this_program_shows_its_place_and_no_value(csv: Path) -> None:
    code = """\
import sys
from mwa_client.cli import main as cli, tasks
def broken(*arguments):
    password = "s3cret-word"
    raise RuntimeError(password)
tasks.perform = broken
sys.exit(cli.main(sys.argv[1:]))
"""
    done = run_forked([sys.executable, "-c", code, f"--csv={csv}", "--check"], environment())
    assert (done.returncode, done.stdout) == (1, "")
    assert re.match(
        r"mwa_client: internal error: RuntimeError in \S+, line 5\.\nPlease report it\.", done.stderr
    )
    assert "s3cret-word" not in done.stderr
    assert no_trace(done)


# --- Where the words go ------------------------------------------------------------------------------


def test_lines_arrive_while_it_runs(clock: FastClock, csv: Path, data: Path) -> None:
    csv.write_text(ONE_ROW)
    with Sandbox(clock=clock.now, product_size=lambda job: 1000) as sandbox:
        options = (f"--csv={csv}", f"--dir={data}", "--poll=0.1")
        with ForkedClient(command(*options), environment(sandbox)) as process:
            assert process.stdout is not None
            # The service's clock stands still: nothing more comes until it is moved.
            heard = [untimed(process.stdout.readline()) for _ in range(2)]
            assert [line.partition(":")[0] for line in heard] == ["Submitted", "Queued"]
            for state in ("Processing", "Ready for Download"):
                assert process.poll() is None
                clock.advance(1.0)
                assert untimed(process.stdout.readline()).startswith(f"{state}: Job id: ")
            assert process.wait(20) == 0


def test_without_a_terminal_there_are_lines_alone(sandbox: Sandbox, csv: Path, data: Path) -> None:
    sandbox.faults.add("cut_product", after=[50_000, 60_000, 70_000, 80_000])
    done = run_command(f"--csv={csv}", f"--dir={data}", "--poll=0.1", env=environment(sandbox))
    assert done.returncode == 0
    assert re.search(
        r"^Downloading: Job id: \d+ obs_id: \d+ \S+\.zip: .* Continuing in 1 s\.$", done.stdout, re.M
    )
    for text in (done.stdout, done.stderr):
        assert not re.search(r"[\r\x1b\b]", text)
        lines = text.splitlines()
        assert all(line != after for line, after in zip(lines, lines[1:]))


def test_a_reader_that_leaves_does_not_end_the_run(sandbox: Sandbox, csv: Path, data: Path) -> None:
    words = command(f"--csv={csv}", f"--dir={data}", "--poll=0.1")
    with ForkedClient(words, environment(sandbox)) as process:
        assert process.stdout is not None and process.stderr is not None
        assert untimed(process.stdout.readline()).startswith("Submitted")
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(20) == 0
    assert errors == ""
    assert products(data) == PRODUCTS


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&- <&-", ">/dev/full 2>/dev/full"])
def test_streams_that_cannot_be_written(sandbox: Sandbox, csv: Path, data: Path, redirection: str) -> None:
    options = (f"--csv={csv}", f"--dir={data}", "--poll=0.1")
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command(*options)]
    done = subprocess.run(
        shell, env=environment(sandbox), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert no_trace(done)
    assert products(data) == PRODUCTS
    assert (data / ".mwa_client" / "ledger.jsonl").read_text().startswith("{")


def test_a_check_that_nobody_reads(csv: Path) -> None:
    shell = ["sh", "-c", 'exec "$@" >/dev/full', "sh", *command(f"--csv={csv}", "--check")]
    done = subprocess.run(shell, env=environment(), capture_output=True, text=True, check=False)
    assert no_trace(done)
    assert "internal error" not in done.stderr


def test_names_that_the_terminal_cannot_write(sandbox: Sandbox, csv: Path, tmp_path: Path) -> None:
    csv.write_text(ONE_ROW)
    directory = tmp_path / "dätä"
    env = environment(sandbox, PYTHONIOENCODING="ascii")
    done = run_command(f"--csv={csv}", f"--dir={directory}", "--poll=0.1", env=env)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].endswith(f"in {tmp_path}/d\\xe4t\\xe4")


# --- Practising --------------------------------------------------------------------------------------


def test_practising_killed_in_the_middle_and_again(data: Path) -> None:
    options = ("--sandbox", f"--csv={EXAMPLE}", f"--dir={data}")
    with interrupted(*options, env=environment()) as process:
        assert process.stderr is not None
        said = iter(process.stderr.readline, "")
        assert any(untimed(line).startswith("Practising: ") for line in said)
        memory = data / ".mwa_client"
        # Not all parts: the smallest product may be finished, and its part gone, between name and look.
        name = "1191828584_*_ms.tar.part"
        wait_until(lambda: any(part.stat().st_size > 2_000_000 for part in memory.glob(name)))
        process.kill()
    halfway = {file.name: file.stat().st_size for file in memory.glob("*.part")}
    assert halfway

    done = run_command(*options, env=environment())
    assert done.returncode == 0
    assert {re.sub("_[0-9]+_", "_", name) for name in products(data)} == {
        f"{OBS}_ms.tar", f"{OBS}_vis.tar", f"{OTHER}_meta.tar"
    }  # fmt: skip
    assert "Found: " in done.stdout or "Download Complete: " in done.stdout
    assert "Queued: " not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("3 complete: ")
    sums = subprocess.run(["sha1sum", "-c", "SHA1SUMS"], cwd=data, capture_output=True, check=False)
    assert sums.returncode == 0

    before = {file: file.stat().st_mtime_ns for file in data.glob("*.tar")}
    again = run_command(*options, env=environment())
    assert again.returncode == 0
    assert again.stdout.count("from an earlier run") == 3
    assert {file: file.stat().st_mtime_ns for file in data.glob("*.tar")} == before != {}


def test_a_damaged_memory_of_the_sandbox(csv: Path, data: Path) -> None:
    state = data / ".mwa_client" / "sandbox.json"
    state.parent.mkdir(parents=True)
    state.touch()
    done = run_command("--sandbox", f"--csv={csv}", f"--dir={data}", env=environment())
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [
        f"mwa_client: {state} is damaged.",
        "Remove it, or choose another directory with --dir.",
    ]
