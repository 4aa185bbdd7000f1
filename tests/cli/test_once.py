"""``--once``: one pass for cron, again and again, until all is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from shared import FastClock, Run, environment, run_batch, run_command, vis

from mwa_client.batch.events import Notice
from mwa_client.batch.pacing import Pacing
from mwa_client.errors import ExitStatus
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import JobState, Sandbox

OBS = 1191828528
APIS = list(ApiVersion)


ROWS = vis(OBS, OBS + 1, OBS + 2)


def listings(sandbox: Sandbox) -> int:
    return sum(bool(re.search(r"get_jobs|/jobs\b", request.path)) for request in sandbox.requests)


def counts(run: Run) -> tuple[int, int, int]:
    summary = run.summary
    return len(summary.complete), len(summary.failed), len(summary.pending)


@pytest.mark.parametrize("api", APIS)
def test_pass_after_pass_until_all_is_there(
    api: ApiVersion, sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    first = run_batch(sandbox, tmp_path, clock, ROWS, api=api, once=True)
    assert counts(first) == (0, 0, 3) and first.summary.exit_status is ExitStatus.TRY_AGAIN
    waits = "The service has not finished all jobs; the next run will check again."
    assert first.summary.why_pending == waits
    assert len(sandbox.jobs) == 3 and listings(sandbox) == 1
    clock.advance(1.0)
    assert counts(run_batch(sandbox, tmp_path, clock, ROWS, api=api, once=True)) == (0, 0, 3)
    clock.advance(3600.0)
    last = run_batch(sandbox, tmp_path, clock, ROWS + vis(OBS + 3), api=api, once=True)
    assert counts(last) == (3, 0, 1) and len(sandbox.jobs) == 4
    clock.advance(3600.0)
    assert (
        run_batch(sandbox, tmp_path, clock, ROWS + vis(OBS + 3), api=api, once=True).summary.exit_status == 0
    )
    asked = len(sandbox.requests)
    again = run_batch(sandbox, tmp_path, clock, ROWS + vis(OBS + 3), api=api, once=True)
    assert counts(again) == (4, 0, 0) and len(sandbox.requests) == asked, "nothing is asked where all is done"


def test_all_that_is_ready_is_fetched_in_one_pass(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    text = vis(*range(OBS, OBS + 6))
    run_batch(sandbox, tmp_path, clock, text, once=True)
    clock.advance(3600.0)
    run = run_batch(sandbox, tmp_path, clock, text, once=True, pacing=Pacing(parallel=2))
    assert counts(run) == (6, 0, 0) and listings(sandbox) == 2


@pytest.mark.parametrize("api", APIS)
def test_a_service_that_is_down_is_asked_once(
    api: ApiVersion, sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    sandbox.faults.add("fail_call")
    run = run_batch(sandbox, tmp_path, clock, ROWS, api=api, once=True)
    assert counts(run) == (0, 0, 3) and run.summary.exit_status is ExitStatus.TRY_AGAIN
    assert "did not answer" in run.summary.why_pending
    (notice,) = run.told(Notice)
    assert "Trying again" not in notice.text
    assert len(sandbox.requests) == 1
    sandbox.faults.clear()
    assert counts(run_batch(sandbox, tmp_path, clock, ROWS, api=api, once=True)) == (0, 0, 3)
    assert len(sandbox.jobs) == 3


@pytest.mark.parametrize("api", APIS)
def test_a_lost_reply_is_looked_for_by_the_next_pass(
    api: ApiVersion, sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    sandbox.faults.add("drop_reply", times=1)
    run_batch(sandbox, tmp_path, clock, vis(OBS), api=api, once=True)
    assert len(sandbox.jobs) == 1
    clock.advance(3600.0)
    assert run_batch(sandbox, tmp_path, clock, vis(OBS), api=api, once=True).summary.exit_status == 0
    assert len(sandbox.jobs) == 1


def test_an_expired_job_is_made_anew_in_the_same_pass(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    """Of v2, which has no word for it: the job is complete, and its product is gone."""
    run_batch(sandbox, tmp_path, clock, vis(OBS), api=ApiVersion.V2, once=True)
    clock.advance(30 * 86400.0)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=ApiVersion.V2, once=True)
    assert counts(run) == (0, 0, 1) and len(sandbox.jobs) == 2
    clock.advance(3600.0)
    assert (
        run_batch(sandbox, tmp_path, clock, vis(OBS), api=ApiVersion.V2, once=True).summary.exit_status == 0
    )
    assert len(sandbox.jobs) == 2


def test_a_pass_says_why_it_leaves(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    sandbox.faults.add("fail_call", path="/api/download_vis_job")
    refused = run_batch(sandbox, tmp_path, clock, vis(OBS), once=True)
    assert "Not all rows could be submitted" in refused.summary.why_pending
    assert all("before trying again" not in notice.text for notice in refused.told(Notice))
    sandbox.faults.clear()
    for _ in range(2):  # Whether the service has made the job after all is looked for twice.
        clock.advance(120.0)
        run_batch(sandbox, tmp_path, clock, vis(OBS), once=True)
    assert len(sandbox.jobs) == 1
    clock.advance(3600.0)
    sandbox.faults.add("product_status", status=503)
    pacing = Pacing(give_up_after=1.0)
    late = run_batch(sandbox, tmp_path, clock, vis(OBS), once=True, pacing=pacing)
    assert late.summary.why_pending == "The time given with --give-up-after has passed."


def test_what_fails_is_told_when_the_rest_is_there(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    run_batch(sandbox, tmp_path, clock, ROWS, once=True)
    sandbox.faults.add("job_error", obs_id=OBS)
    clock.advance(3600.0)
    run = run_batch(sandbox, tmp_path, clock, ROWS, once=True)
    assert counts(run) == (2, 1, 0) and run.summary.exit_status is ExitStatus.JOBS_FAILED


def test_the_command(tmp_path: Path) -> None:
    csv, data = tmp_path / "jobs.csv", tmp_path / "data"
    csv.write_text(ROWS)
    with Sandbox(seconds_per_state=3600.0, product_size=lambda job: 1000) as sandbox:
        words = (f"--csv={csv}", f"--dir={data}", "--once", "-q")
        first = run_command(*words, env=environment(sandbox))
        assert first.returncode == 75, first.stderr
        assert first.stdout == "0 complete, 3 pending (run the same command again)\n"
        for job in sandbox.jobs:
            sandbox.service.hold(job.id, JobState.READY)
        fetched = run_command(
            "-w", str(sandbox.jobs[0].id), f"--dir={data}", "--once", env=environment(sandbox)
        )
        assert fetched.returncode == 0
        second = run_command(*words, env=environment(sandbox))
        assert (second.returncode, second.stderr) == (0, "")
        asked = len(sandbox.requests)
        third = run_command(*words, env=environment(sandbox))
        assert (third.returncode, third.stderr, len(sandbox.requests)) == (0, "", asked)
        assert len(sandbox.jobs) == 3


# --- What the README says to paste --------------------------------------------------------------------

README = Path(__file__).parents[2] / "README.md"


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def shell(script: str, sandbox: Sandbox, home: Path) -> int:
    """Run a script as cron or Slurm would: at home, with a short environment."""
    given = {key: value for key, value in environment(sandbox).items() if "ASVO" in key}
    path = f"{home / 'mwa' / 'bin'}:/usr/bin:/bin"
    env = {**given, "HOME": str(home), "PATH": path, "PYTHONPATH": str(README.parent)}
    return subprocess.run(["bash", "-c", script], env=env, cwd=home, timeout=30, check=False).returncode


def test_the_crontab_line_and_the_slurm_script_do_what_they_say(tmp_path: Path) -> None:
    section = README.read_text().partition("## From cron")[2]
    (cron,) = re.findall(r"^\*/30 \* \* \* \* (.+)$", section, re.MULTILINE)
    slurm, _array = re.findall(r"```sh\n(#!/bin/bash\n.+?)```", section, re.DOTALL)
    program(tmp_path / "mwa/bin/mwa_client", f'exec {sys.executable} -m mwa_client "$@"')
    program(tmp_path / "mwa/bin/sbatch", 'echo "$@" >> sbatch.log')
    (tmp_path / "jobs.csv").write_text(ROWS)
    with Sandbox(seconds_per_state=3600.0, product_size=lambda job: 1000) as sandbox:
        assert shell(cron, sandbox, tmp_path) == 75
        assert "3 pending" in (tmp_path / "mwa.log").read_text()
        assert shell(slurm, sandbox, tmp_path) == 0
        assert (tmp_path / "sbatch.log").read_text() == "--begin=now+30minutes fetch.sh\n"
        for job in sandbox.jobs:
            sandbox.service.hold(job.id, JobState.READY)
        assert shell(cron, sandbox, tmp_path) == 0
        assert shell(slurm, sandbox, tmp_path) == 0
        for place in ("mwa-data/SHA1SUMS", "mwa-data/.mwa_client/ledger.jsonl"):
            assert (tmp_path / place).exists()
        assert len((tmp_path / "sbatch.log").read_text().splitlines()) == 1, "all is there: no other job"
        assert len(sandbox.jobs) == 3
        (tmp_path / "jobs.csv").write_text("obs_id=1\n")
        assert shell(slurm, sandbox, tmp_path) == 3, "a mistake is not tried again and again"
