"""Every command line of the README does what the text around it says, against the practice service."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mwa_client import timing
from mwa_client.asvo.key_file import KEY_VARIABLE, with_key_of_file
from mwa_client.cli import practice, settings
from mwa_client.cli.main import main
from mwa_client.sandbox import JobState, JobType, Sandbox

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
OBS = 1191828584
THE_TWO = "python3 -m venv "
"""How the two lines begin that install the program: `.ci/run` runs them as they stand there."""


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.M | re.S)
    return [block for written_in, block in fenced if written_in == language]


def block_with(word: str, language: str = "sh") -> str:
    (block,) = [block for block in blocks(language) if word in block]
    return block


def lines_of_shell() -> list[str]:
    """The lines of all shell blocks but the script's, without their comments."""
    lines = [line for block in blocks("sh") if not block.startswith("#!") for line in block.splitlines()]
    return [re.split(r"\s{2,}#", line)[0] for line in lines]


def lines_in_text() -> list[str]:
    """The command lines between backquotes, those in the column of what other clients do included."""
    return re.findall(r"`(mwa_client -[^`]*)`", README)


IN_THIS_PROCESS = [
    line
    for line in dict.fromkeys([*lines_of_shell(), *lines_in_text()])
    if line.startswith("mwa_client ") and "|" not in line and "--sandbox" not in line
]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(seconds_per_state=0.0, product_size=lambda job: 5000) as sandbox:
        yield sandbox


@pytest.fixture
def job(sandbox: Sandbox) -> int:
    """A job that was there before."""
    asked_for = {"obs_id": str(OBS), "download_type": "vis"}
    return sandbox.service.add(asked_for, JobType.VISIBILITIES, state=JobState.READY).id


@pytest.fixture
def home(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home, with the job file of the README, and the programs that the command lines call."""
    for name in [name for name in os.environ if name.startswith(("ASVO_", "MWA_ASVO_", "SSL_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "jobs.csv").write_text(blocks("")[0])
    (tmp_path / "obs.txt").write_text(f"{OBS}\n1191828528\n")
    calibrate = tmp_path / "calibrate.sh"
    calibrate.write_text('#!/bin/sh\ntest -d "$1" && test -n "$2"\n')
    calibrate.chmod(0o755)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for folder in ("bin", "mwa/bin"):
        (tmp_path / folder).mkdir(parents=True)
        client = tmp_path / folder / "mwa_client"
        client.write_text(f'#!/bin/sh\nexec {sys.executable} -m mwa_client "$@"\n')
        client.chmod(0o755)
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text('#!/bin/sh\necho "$@" >>sbatch.log\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("MWA_ASVO_HOST", sandbox.url)
    monkeypatch.setenv(KEY_VARIABLE, "practice-key")
    monkeypatch.setattr(timing, "FIRST_POLL", 0.02)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shell(line: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line.replace("/data/mwa", "data")],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_every_line_of_shell_is_run_by_one_of_these_tests() -> None:
    others = [line for line in lines_of_shell() if line not in IN_THIS_PROCESS]
    kinds = {"pip": "pip install .", "export": f"export {KEY_VARIABLE}=your_key"}
    elsewhere = (THE_TWO, "mkdir -p -m 700", "mwa_client --sandbox --obs-ids=")
    left = [line for line in others if not line.startswith(elsewhere) and "| jq" not in line]
    assert left == list(kinds.values())
    assert len(IN_THIS_PROCESS) >= 10 and len(lines_in_text()) >= 8
    # `pip install .` is part of the first of the two; the key is that of all tests here.
    assert f"{THE_TWO}.venv && .venv/bin/pip install --quiet . &&" in README
    assert f"grep '^{THE_TWO}' README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.usefixtures("home", "handlers")
@pytest.mark.parametrize("line", IN_THIS_PROCESS)
def test_a_command_line(line: str, sandbox: Sandbox, job: int, capsys: pytest.CaptureFixture[str]) -> None:
    line = line.replace("/data/mwa", "data").replace("DIR", "data")
    line = re.sub(r"\bOBS\b", str(OBS), re.sub(r"\bJOB\b", str(job), line))
    if "--cancel" in line:
        sandbox.service.hold(job, JobState.QUEUED)
    program, *words = shlex.split(line)
    status = main(words)
    out, err = capsys.readouterr()
    assert (program, status) == ("mwa_client", 0), err
    if "--check" in line:
        assert "Nothing was sent." in out and not sandbox.requests
    elif "-l" in words:
        assert str(job) in out and str(OBS) in out
    elif "-s" in words:
        assert " submitted" in out and not list(Path().rglob(f"{OBS}_*"))
    elif "--cancel" in words:
        assert sandbox.jobs[0].id == job and "Cancelled" in out
    else:
        where = Path("data" if "data" in line else ".")
        rows = len(sandbox.jobs) if re.search(r" -c |--csv|--obs-ids", line) else 1
        assert out.count("Download Complete") == rows and f"{rows} complete" in out
        assert shell(f"cd {where} && sha1sum -c SHA1SUMS").returncode == 0
        assert any(path.is_dir() for path in where.glob(f"{OBS}_*")) == ("--unpack" in words)


@pytest.fixture
def at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Practice without an account, and without waiting."""
    monkeypatch.delenv(KEY_VARIABLE)
    quick = partial(Sandbox, seconds_per_state=0.0, product_size=lambda job: 5000)
    monkeypatch.setattr(practice, "Sandbox", quick)
    monkeypatch.setattr(settings, "SANDBOX_POLL", 0.02)


@pytest.mark.usefixtures("handlers", "at_once")
def test_practising(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = [line for line in lines_of_shell() if line.startswith(THE_TWO)]
    program, *words = shlex.split(first.rpartition("&& ")[2])
    assert program == ".venv/bin/mwa_client"
    assert main(words) == 0
    assert len(list((home / "practice").glob("119182*"))) == 3, "three small products"
    assert main(words) == 0
    assert "3 complete" in capsys.readouterr().out


@pytest.mark.usefixtures("handlers", "at_once")
def test_a_command_for_each_of_a_list_of_observations(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = [line for line in lines_of_shell() if line.startswith("mwa_client --sandbox --obs-ids=")]
    observations = [line for line in (home / "examples/obs.txt").read_text().split("\n") if line.isdigit()]
    assert main(shlex.split(line)[1:]) == 0 and "40 complete" in capsys.readouterr().out
    sizes = sorted((home / "practice").glob("*.size"))
    assert [size.name.split("_")[0] for size in sizes] == observations and len(observations) == 40
    for size in sizes:
        assert size.with_suffix("").is_dir() and re.fullmatch(
            rf"\d+\t{size.with_suffix('')}\n", size.read_text()
        )


def test_the_key_in_a_file(home: Path) -> None:
    done = shell(block_with("mkdir -p -m 700").strip(), "my-secret-key\n")
    assert done.returncode == 0, done.stderr
    key = home / ".mwa-asvo" / "key"
    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert with_key_of_file({"HOME": str(home)})[KEY_VARIABLE] == "my-secret-key"


@pytest.mark.usefixtures("handlers")
def test_the_line_of_the_crontab(home: Path) -> None:
    """Everything is there already, so that this run has nothing to wait for."""
    assert main(["--csv=jobs.csv", "--dir=mwa-data", "-q"]) == 0
    (line,) = [block.strip() for block in blocks("") if "--once" in block]
    when, command = re.fullmatch(r"((?:\S+ ){4}\S+) (.*)", line).groups()  # type: ignore[union-attr]
    assert when == "*/30 * * * *" and "%" not in command, "cron takes a percent sign for the end of a line"
    assert shell(command).returncode == 0
    assert "3 complete" in (home / "mwa.log").read_text()


def test_the_script_for_slurm(home: Path, sandbox: Sandbox) -> None:
    """It submits itself again until everything is there."""
    script = block_with("sbatch --begin")
    (home / "fetch.sh").write_text(script)
    for more in (1, 2, 3):
        done = shell("bash fetch.sh")
        assert done.returncode == 0, done.stderr
        log = home / "sbatch.log"
        again = log.read_text().splitlines() if log.exists() else []
        if len(again) < more:
            break
    assert again and set(again) == {"--begin=now+30minutes fetch.sh"}
    assert "3 complete" in done.stdout and len(list((home / "mwa-data").glob("119182*"))) == 3
    assert len(sandbox.jobs) == 3


@pytest.mark.usefixtures("handlers")
def test_the_script_for_an_array(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is there already, so that no task has anything to wait for."""
    assert main(["--csv=jobs.csv", "--dir=mwa-data", "-q"]) == 0
    (home / "array.sh").write_text(block_with("#SBATCH --job-name=mwa --array"))
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    for task, complete in (("0", 2), ("1", 1)):  # Of the three rows, two are on one observation.
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
        done = shell("bash array.sh")
        assert done.returncode == 0 and f"{complete} complete" in done.stdout, done


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
@pytest.mark.usefixtures("home", "handlers")
def test_the_lines_with_jq(job: int) -> None:
    paths, table = [line for line in lines_of_shell() if "| jq" in line]
    assert main(["--csv=jobs.csv", "--dir=data", "-q"]) == 0  # So that there is nothing to wait for.
    found = shell(paths).stdout.split()
    assert len(found) == 3 and all(Path(path).is_file() for path in found)
    assert f"{job}\t{OBS}\n" in shell(table).stdout


def test_the_program_in_python(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = blocks("python")
    exec(program.replace("/data/mwa", "data"), {})
    out, err = capsys.readouterr()
    state, file, folder = out.splitlines()
    assert state == "Ready for Download" and file.endswith(" True") and "3 complete" in err
    assert Path(folder.split()[0]).is_dir()


def test_the_sums_can_be_checked(home: Path, sandbox: Sandbox) -> None:
    assert "`cd DIR && sha1sum -c SHA1SUMS`" in README
    import mwa_client

    with mwa_client.login() as client:
        client.run("jobs.csv", "data")
    done = shell("cd data && sha1sum -c SHA1SUMS")
    assert done.returncode == 0 and done.stdout.count(": OK") == 3
