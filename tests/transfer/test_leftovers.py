"""Beginnings of products whose jobs are lost are removed, and that is said; all others stay."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from shared import FastClock, Run, run_batch

from mwa_client.batch.events import Notice
from mwa_client.batch.ledger import STATE_DIR
from mwa_client.sandbox import Sandbox
from mwa_client.transfer.files import ExpectedFile
from mwa_client.transfer.part_file import open_part

ONE_ROW = "obs_id=1191828584, job_type=d, download_type=vis\n"
OTHER_ROW = "obs_id=1191828528, job_type=d, download_type=vis\n"
PART, OTHER_PART = "1191828584_vis.zip.part", "1191828528_vis.zip.part"


def begun(sandbox: Sandbox, directory: Path, clock: FastClock, rows: str = ONE_ROW) -> Path:
    """Leave the beginning of each row's product behind; return the folder where it is."""
    run_batch(sandbox, directory, clock, rows, only_submit=True)
    for job in sandbox.jobs:
        path = directory / STATE_DIR / f"{job.file_name}.part"
        wanted = ExpectedFile(job.id, job.file_name, job.size, job.sha1)
        with open_part(path, wanted, threading.Event()) as part:
            part.append(bytes(1000))
    return directory / STATE_DIR


def removed(run: Run) -> list[str]:
    return [notice.text for notice in run.told(Notice) if notice.text.startswith("Removed")]


@pytest.mark.parametrize(("fault", "status"), [("expire_job", 0), ("cancel_job", 4), ("job_error", 4)])
def test_what_was_fetched_of_a_lost_job_is_removed(
    sandbox: Sandbox, tmp_path: Path, clock: FastClock, fault: str, status: int
) -> None:
    memory = begun(sandbox, tmp_path, clock, ONE_ROW + OTHER_ROW)
    [job_id] = [job.id for job in sandbox.jobs if str(job.obs_id) == "1191828584"]
    sandbox.faults.add("hostile_name", name="another.zip")
    sandbox.faults.add(fault, job_id=job_id)
    run = run_batch(sandbox, tmp_path, clock, ONE_ROW)
    assert run.summary.exit_status == status
    [text] = removed(run)
    assert text.startswith("Removed ") and f"of 1191828584_vis.zip: job {job_id} is lost" in text
    assert not any((memory / name).exists() for name in (PART, f"{PART}.json"))
    assert all((memory / name).exists() for name in (OTHER_PART, f"{OTHER_PART}.json"))


def test_what_an_earlier_version_left_is_removed(sandbox: Sandbox, tmp_path: Path, clock: FastClock) -> None:
    memory = begun(sandbox, tmp_path, clock)
    kept = {name: (memory / name).read_bytes() for name in (PART, f"{PART}.json")}
    [job] = sandbox.jobs
    sandbox.faults.add("expire_job", job_id=job.id)
    sandbox.faults.add("hostile_name", name="another.zip")
    assert run_batch(sandbox, tmp_path, clock, ONE_ROW).summary.exit_status == 0
    for name, data in kept.items():
        (memory / name).write_bytes(data)
    (memory / "strange.part").write_bytes(b"nobody knows whose this is")
    assert len(removed(run_batch(sandbox, tmp_path, clock, ONE_ROW))) == 1
    assert not (memory / PART).exists() and (memory / "strange.part").exists()
    assert removed(run_batch(sandbox, tmp_path, clock, ONE_ROW)) == []
