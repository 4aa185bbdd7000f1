"""A job file is read, whatever it is, within bounds; and the plan says what it asks for."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from job_rows import C_TODAY, DOWNLOAD, VOLTAGE
from shared import environment, run_command

from mwa_client.errors import ExitStatus, JobFileError, SettingsError
from mwa_client.jobs.jobfile import JobFile, parse, parse_row, plan, read_file
from mwa_client.jobs.keys import ApiVersion, JobType

# --- Reading ------------------------------------------------------------------------------------------


def test_a_file_is_read_and_named_as_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "my jobs.csv"
    path.write_bytes(DOWNLOAD.encode())
    jobfile = read_file(path, ApiVersion.V2)
    assert isinstance(jobfile, JobFile)
    assert jobfile.source == str(path)
    assert jobfile == read_file(str(path), ApiVersion.V2)


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_file("-", ApiVersion.V2, stdin=io.BytesIO(DOWNLOAD.encode())).source == "standard input"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(C_TODAY.encode())))
    assert read_file("-", ApiVersion.V2).jobs[0].job_type is JobType.CONVERSION
    with pytest.raises(JobFileError) as caught:
        read_file("-", ApiVersion.V2, stdin=io.BytesIO(b"obs_id"))
    assert str(caught.value).startswith("standard input:1: obs_id: write key=value\n")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.csv", "No such file or directory"),
        (50 * "a\N{NO-BREAK SPACE}b ", "No such file or directory"),
        (".", "Is a directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_said_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as caught:
        read_file(name, ApiVersion.V2)
    assert caught.value.what == f"cannot read {name}: {reason}"
    assert "--csv" in caught.value.remedy


def test_a_name_that_no_file_can_have_is_said_plainly() -> None:
    with pytest.raises(SettingsError, match=r"cannot read a\\x00b: embedded null"):
        read_file("a\0b", ApiVersion.V2)


# --- The plan -----------------------------------------------------------------------------------------


def test_the_plan_counts_jobs_by_kind_and_observations() -> None:
    rows = [C_TODAY, DOWNLOAD, DOWNLOAD.replace("vis", "vis_meta"), VOLTAGE.replace("84,", "85,"), DOWNLOAD]
    assert plan(parse("\n".join(rows), ApiVersion.V2)).splitlines() == [
        "jobs.csv: 4 jobs on 2 observations",
        "  1 conversion",
        "  2 downloads",
        "  1 voltage job",
    ]
    assert plan(parse(DOWNLOAD, ApiVersion.V2)) == "jobs.csv: 1 job on 1 observation\n  1 download"


# --- What is no job file ------------------------------------------------------------------------------


def mistakes_of(source: Callable[[], object]) -> list[str]:
    with pytest.raises(JobFileError) as caught:
        source()
    assert caught.value.exit_status is ExitStatus.BAD_FILE
    return [f"{mistake.line}: {mistake.message}" for mistake in caught.value.mistakes]


def test_a_file_that_never_ends_is_read_to_its_bound() -> None:
    said = ["1: more than 64 MB; no job file is that long"]
    assert mistakes_of(lambda: read_file("/dev/zero", ApiVersion.V2)) == said
    with Path("/dev/zero").open("rb") as endless:
        assert mistakes_of(lambda: read_file("-", ApiVersion.V2, stdin=endless)) == said


MEASURED = r"""
import re, sys
from pathlib import Path
from mwa_client.errors import JobFileError
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.keys import ApiVersion
try:
    parse(eval(sys.argv[1]), ApiVersion.V2)
except JobFileError as error:
    print(len(error.mistakes), error.mistakes[-1].message)
# Not getrusage(): what that says of a process begins with what its parent had when it started it.
print(int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="nobody says how much memory was used")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("""b'obs_id=1,"' + b'a,' * 25_000_000""", "1 a row of 50000010 characters; is a line end or"),
        ("""b'"' * 50_000_000""", "1 no jobs in"),
        ("""b'x\\n' * 25_000_000""", "10001 too many mistakes; the rest was not read"),
        ("""(b'x,' * 8000 + b'\\n') * 3000""", "10001 too many mistakes; the rest was not read"),
        ("""b'\\r' * 50_000_000""", "1 more than 250000 lines; give it in several files"),
    ],
)
def test_no_text_takes_much_memory_or_time(content: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, content], capture_output=True, text=True, timeout=30, check=True
    )
    words, megabytes = done.stdout.splitlines()
    assert words.startswith(said) and int(megabytes) < 250


def test_a_long_row_of_commas_and_a_long_comment_are_no_mistakes() -> None:
    text = "," * 16_383 + "\n#" + "x" * 100_000 + "\n" + " ," * 20_000 + "\n" + DOWNLOAD
    assert [job.line for job in parse(text, ApiVersion.V2).jobs] == [4]


def test_a_row_that_is_too_long_is_one_mistake_among_others() -> None:
    text = f"obs_id=7\n{DOWNLOAD.strip()}, {'x,' * 10_000}\n{DOWNLOAD}"
    found = mistakes_of(lambda: parse(text, ApiVersion.V2))
    assert len([one for one in found if one.startswith("2: ")]) == 1
    assert any(one.startswith("1: obs_id=7") for one in found)


@pytest.mark.parametrize(
    "cell",
    [
        "obs_id=" + "0" * 5000 + "1191828584",
        "obs_id=" + "9" * 5000,
        "obs_id=" + "0" * 5000,
        "avg_freq_res=" + "0" * 5000 + "10",
        "avg_time_res=1e999",
        "avg_time_res=1e-999",
        "avg_time_res=1e99",
        "phase_centre_ra=1e-300",
        "uvw_min=1e400",
        "phase_centre_dec=" + "0." + "0" * 5000 + "1",
    ],
)
@pytest.mark.parametrize("api", ApiVersion)
def test_a_number_that_cannot_be_written_out_is_a_mistake(api: ApiVersion, cell: str) -> None:
    word = cell.partition("=")[0]
    row = f"job_type=c, {cell}" + ("" if word == "obs_id" else ", obs_id=1191828584")
    found = mistakes_of(lambda: parse_row(row, api))
    assert any(word in one for one in found) and max(map(len, found)) < 300


@pytest.mark.parametrize("number", ["0001191828584", "0" * 25 + "1191828584"])
def test_a_few_zeros_too_many_do_no_harm(number: str) -> None:
    assert parse_row(f"obs_id={number}, job_type=d, download_type=vis", ApiVersion.V2).obs_id == 1191828584


@pytest.mark.parametrize("name", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
def test_what_a_shell_hands_over_can_be_a_job_file(name: str) -> None:
    done = run_command(f"--csv={name}", "--check", env=environment(), stdin=DOWNLOAD.encode())
    assert done.returncode == 0 and "1 job on 1 observation" in done.stdout


def test_a_pipe_can_be_a_job_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", f"echo '{DOWNLOAD.strip()}' > '{pipe}'"]):
        assert len(read_file(pipe, ApiVersion.V2).jobs) == 1
