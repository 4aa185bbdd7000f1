"""What scripts for the observatory's client rely on, and several job files at once."""

from __future__ import annotations

import io
import json
import logging
import os
import shlex
from pathlib import Path
from typing import Callable

import pytest
from shared import environment, products, untimed, vis

from mwa_client.cli import main as cli
from mwa_client.sandbox import Sandbox

OBS, OTHER = 1191828584, 1191828528
Run = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def run(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """The command in this process, in a directory of its own, without --dir."""
    for name in os.environ:
        if name.startswith(("ASVO_", "MWA_ASVO_")):
            monkeypatch.delenv(name)
    for name, value in environment(sandbox).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(logging.getLogger("mwa_client.asvo"), "handlers", [])  # For -v.
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            status = cli.main([*map(str, arguments), "--poll=0.05"])
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        return status, untimed(out), untimed(err)

    return run


@pytest.fixture
def sandbox() -> object:
    with Sandbox(seconds_per_state=0, product_size=lambda job: 1000) as sandbox:
        yield sandbox


def written(name: str, text: str) -> Path:
    Path(name).write_text(text)
    return Path(name)


# --- Habits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("submit", ["-s", "--submit-only", "--submit"])
def test_submitting_writes_nothing_where_one_is(sandbox: Sandbox, run: Run, submit: str) -> None:
    written("jobs.csv", vis(OBS, OTHER))
    for _ in range(2):
        status, out, _ = run("-c", "jobs.csv", submit)
        assert status == 0 and out.splitlines()[-1].startswith("2 jobs submitted")
        assert "mwa_client-" not in out, "nobody wants to know of the temporary directory"
        assert [file.name for file in Path().iterdir()] == ["jobs.csv"]
    assert len(sandbox.jobs) == 2, "what the service lists is found again"
    status, out, _ = run("-c", "jobs.csv", "-d", "data")
    assert status == 0 and len(products(Path("data"))) == len(sandbox.jobs) == 2


def test_practising_to_submit_leaves_nothing_here_and_says_so(run: Run) -> None:
    status, out, err = run("--sandbox", "-j", vis(OBS).strip(), "-s")
    assert (status, list(Path().iterdir())) == (0, []) and out.endswith("1 job submitted\n")
    assert "with --dir they are kept" in err


def test_submitting_where_there_is_a_record_goes_on_from_it(sandbox: Sandbox, run: Run) -> None:
    written("jobs.csv", vis(OBS))
    assert run("-c", "jobs.csv")[0] == 0
    written("jobs.csv", vis(OBS, OTHER))
    assert run("-c", "jobs.csv", "-s")[0] == 0
    assert len(sandbox.jobs) == 2
    assert "Queued" in Path(".mwa_client", "ledger.jsonl").read_text() or len(sandbox.jobs) == 2


def test_no_room_for_a_temporary_directory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    status, _, err = run("-j", vis(OBS).strip(), "-s")
    assert status == 1 and "Cannot make a temporary directory" in err and "--dir" in err


@pytest.mark.parametrize("every", ["0", "all", "ALL"])
@pytest.mark.parametrize("option", ["-w", "--download", "--download-only"])
def test_all_that_is_ready(sandbox: Sandbox, run: Run, option: str, every: str) -> None:
    assert run("-j", vis(OBS).strip(), "-s")[0] == 0
    assert run(option, every, "-c", "none.csv", "-d", "data")[0] == 0
    assert len(products(Path("data"))) == 1


@pytest.mark.parametrize("option", ["-l", "--list", "--list-only"])
def test_a_job_file_beside_a_list_is_not_read(sandbox: Sandbox, run: Run, option: str) -> None:
    assert run("-c", "none.csv", option) == (0, "No jobs.\n", "")


@pytest.mark.parametrize("option", ["-e", "--error", "--error-file", "--errfile"])
def test_the_error_file_has_the_observation_as_text(sandbox: Sandbox, run: Run, option: str) -> None:
    sandbox.faults.add("job_error", text="the tape broke", obs_id=OTHER)
    written("jobs.csv", vis(OBS, OTHER))
    assert run("-c", "jobs.csv", option, "errors.json", "-d", "data")[0] == 4
    ((entry),) = json.loads(Path("errors.json").read_text())
    assert (entry["obs_id"], type(entry["job_id"])) == (str(OTHER), int) and "tape" in entry["result"]
    written("jobs.csv", vis(OBS))
    assert run("-c", "jobs.csv", option, "errors.json", "-d", "data")[0] == 0
    assert json.loads(Path("errors.json").read_text()) == []


def test_the_conversion_of_the_other_client_averages_no_time(run: Run) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    row = readme.partition("| `giant-squid submit-conv OBS` | `mwa_client -s -j '")[2].partition("'")[0]
    for api, time_res in (("v1", {}), ("v2", {"avg_time_res": 0})):
        command = ("-j", row.replace("OBS", str(OBS)), "--check", "-v", "--json", "--api", api)
        status, out, _ = run(*command)
        (request,) = json.loads(out)["requests"]
        assert status == 0 and request["body"]["output"] == "uvfits"
        assert {float(request["body"][name]) for name in ("avg_freq_res", "flag_edge_width")} == {80}
        assert {name: value for name, value in request["body"].items() if name == "avg_time_res"} == time_res


# --- Several job files -------------------------------------------------------------------------------


def test_two_job_files_are_one_batch(sandbox: Sandbox, run: Run) -> None:
    written("a.csv", vis(OBS))
    written("b.csv", f"# the same as in a.csv, then another\n{vis(OBS, OTHER)}")
    for options in (
        ["-c", "a.csv", "-c", "b.csv"],
        ["--csv=a.csv", "b.csv"],
        ["-c", "a.csv", "--csv", "b.csv"],
    ):
        status, out, err = run(*options, "-d", "data")
        assert (status, out.splitlines()[-1][:11]) == (0, "2 complete:")
        assert err == "Warning: b.csv:2: asks for the same as line 1 of a.csv; they are one job\n"
    assert len(sandbox.jobs) == len(products(Path("data"))) == 2


def test_mistakes_name_the_file_that_they_are_in(sandbox: Sandbox, run: Run) -> None:
    written("b.csv", f"{vis(OBS)}obs_id=1, job_type=d, download_type=vis\n")
    written("a.csv", f"\n\n{vis(OBS).replace('vis', 'viss')}")
    written("c.csv", "# nothing\n")
    status, out, err = run("-c", "b.csv", "-c", "a.csv", "-c", "c.csv")
    lines = err.splitlines()
    assert (status, out, sandbox.requests) == (3, "", [])
    assert lines[0].startswith("b.csv:2: obs_id=1: must be")
    assert lines[1].startswith("a.csv:3: download_type=viss: must be")
    assert lines[2] == "c.csv:1: no jobs in c.csv"
    assert lines[3].startswith("Error: obs_id=1: must be") and lines[3].endswith("Line num: 2")


def test_failures_name_the_file_that_they_are_in(sandbox: Sandbox, run: Run) -> None:
    sandbox.faults.add("job_error", text="the tape broke", obs_id=OTHER)
    written("a.csv", vis(OBS))
    written("b.csv", f"\n{vis(OTHER)}")
    options = ("-c", "a.csv", "-c", "b.csv", "-d", "data", "-e", "errors.json")
    status, _, err = run(*options)
    assert status == 4 and f"  line 2 of b.csv: obs_id {OTHER}, job id" in err
    assert [entry["obs_id"] for entry in json.loads(Path("errors.json").read_text())] == [str(OTHER)]
    _, out, _ = run(*options, "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert {(event["csv"], event["line"]) for event in events if "line" in event} == {
        ("a.csv", 1),
        ("b.csv", 2),
    }


def test_one_file_given_twice_is_read_once(run: Run) -> None:
    written("a.csv", vis(OBS, OTHER))
    assert run("-c", "a.csv", "-c", "./a.csv", "--check") == (
        0, "a.csv: 2 jobs on 2 observations\n  2 downloads\nNothing was sent.\n", ""
    )  # fmt: skip


def test_standard_input_twice_is_read_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(vis(OBS, OTHER).encode())))
    written("a.csv", vis(OBS + 8))
    status, out, err = run("-c", "-", "-c", "a.csv", "-c", "-", "--check")
    assert (status, err) == (0, "") and out.startswith("standard input and a.csv: 3 jobs on 3 observations")


def test_the_plan_of_several_files(run: Run) -> None:
    names = [f"{letter}.csv" for letter in "abcde"]
    for number, name in enumerate(names):
        written(name, vis(OBS + 8 * number))
    assert run("-c", "a.csv", "b.csv", "--check")[1].startswith("a.csv and b.csv: 2 jobs on 2 observations")
    _, out, _ = run("-c", *names, "--check", "-v", "--json")
    assert [request["csv"] for request in json.loads(out)["requests"]] == names
    assert run("-c", *names, "--check")[1].startswith("5 job files: 5 jobs on 5 observations")


def test_many_repeated_rows_are_counted(run: Run) -> None:
    written("a.csv", vis(*range(OBS, OBS + 800, 8)))
    Path("b.csv").write_bytes(Path("a.csv").read_bytes())
    status, _, err = run("-c", "a.csv", "b.csv", "--check")
    assert status == 0 and len(err.splitlines()) == 21
    assert err.splitlines()[-1].startswith("Warning: b.csv:21: asks for the same as an earlier row, too; ")
    assert err.endswith("(reported once for 80 rows)\n")


@pytest.mark.parametrize(
    ("wrong", "rest"), [(20, ""), (21, "... and 1 more mistake"), (40, "... and 20 more")]
)
def test_the_report_of_mistakes_ends_somewhere(run: Run, wrong: int, rest: str) -> None:
    written("jobs.csv", vis(*range(100, 100 + wrong)))
    status, out, err = run("-c", "jobs.csv", "--check")
    lines = err.splitlines()
    assert status == 3 and out == ""
    assert sum(line.startswith("jobs.csv:") for line in lines) == 20
    assert lines[20].startswith(rest or "Error: ") and lines[-1].endswith("Line num: 1")


# --- A list of observations --------------------------------------------------------------------------


def test_a_list_of_observations_with_one_row_for_all(sandbox: Sandbox, run: Run) -> None:
    written("obs.txt", f"{OBS}\n{OTHER}\n")
    row = "job_type=d, download_type=vis"
    status, out, _ = run("--obs-ids", "obs.txt", "-j", row, "--check")
    assert status == 0 and out.startswith("obs.txt: 2 jobs on 2 observations\n  2 downloads\n")
    for _ in range(2):
        assert run("--obs-ids=obs.txt", "-j", row, "-d", "data")[0] == 0
    assert len(sandbox.jobs) == len(products(Path("data"))) == 2


def test_the_line_that_a_bare_list_is_answered_with_works(run: Run) -> None:
    written("my obs.txt", f"{OBS}\n{OTHER}\n")
    status, _, err = run("--csv=my obs.txt", "--check")
    command = err.splitlines()[0].partition("row for all of them: ")[2]
    assert status == 3 and run(*shlex.split(command), "--check")[0] == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--obs-ids", "obs.txt"], "--obs-ids has no row to go with"),
        (["--obs-ids", "obs.txt", "-c", "jobs.csv"], "--csv and --obs-ids do not go together"),
        (["--obs-ids", "obs.txt", "-j", "job_type=d", "-l"], "--list-only takes no job file"),
        (["--obs-ids", "none.txt", "-j", "job_type=d"], "Give the list of obs_ids with --obs-ids=FILE."),
        (
            ["--obs-ids", "8,9", "-j", "job_type=d"],
            "standard input: echo 8 9 | mwa_client --obs-ids=- -j ROW",
        ),
        (["--obs-ids", "", "-j", "job_type=d"], "--obs-ids is empty"),
    ],
)
def test_a_list_that_cannot_be_used(run: Run, options: list[str], says: str) -> None:
    status, out, err = run(*options)
    assert (status, out) == (1, "") and says in err


def test_a_table_is_a_job_file(run: Run) -> None:
    written("jobs.csv", f"obs_id;job_type;download_type\n{OBS};d;vis\n{OTHER};d;vis_meta\n")
    status, out, err = run("--csv=jobs.csv", "--check")
    assert (status, err) == (0, "") and out.startswith("jobs.csv: 2 jobs on 2 observations")
