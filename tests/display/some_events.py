"""Rows, files and counts that the tests of lines and bars share."""

from __future__ import annotations

from pathlib import Path

from mwa_client.batch.events import Counts, RowName
from mwa_client.transfer.files import FetchedFile

ROW = RowName(line=3, obs_id=1191828584, job_id=10001)
OTHER = RowName(line=4, obs_id=1191828528, job_id=10002)
NO_JOB = RowName(line=7, obs_id=1191828520)
MS, VIS = "1191828584_ms.zip", "1191828528_vis.zip"


def fetched(name: str = MS, size: int = 22_500_000, verified: bool = True) -> FetchedFile:
    return FetchedFile(Path("/data") / name, size, "0" * 40, verified)


def counts(done: int = 0, rows: int = 3, **states: int) -> Counts:
    """Counts by label; an underscore stands for a space."""
    return Counts(rows, done, tuple((label.replace("_", " "), n) for label, n in states.items()))
