"""run(part="K/N"): several Python programs share a batch, as the command's --part does."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from shared import FastClock, run_batch, service_of, vis

from mwa_client import Client
from mwa_client.directory.lock import directory_lock
from mwa_client.errors import DirectoryBusy, SettingsError
from mwa_client.sandbox import Sandbox

THREE = vis(1191828528, 1191828529, 1191828530)


def test_each_program_has_its_share(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    csv, data = tmp_path / "jobs.csv", tmp_path / "data"
    csv.write_text(THREE)
    for share in ("1/2", "2/2"):
        run_batch(sandbox, data, clock, THREE, share=share)
    with closing(Client(service_of(sandbox))) as client:
        shares = [client.run(csv, data, part=f"{number}/2") for number in (0, 1)]
        assert [len(share.complete) for share in shares] == [1, 2]
        assert len(client.run(csv, data, part="1/1").complete) == 3 == len(sandbox.jobs)
        with pytest.raises(SettingsError, match="3/2 is not a part"):
            client.run(csv, data, part="3/2")
        alone = directory_lock(data, data / ".mwa_client", clock, print)
        with alone, pytest.raises(DirectoryBusy):
            client.run(csv, data, part="1/2", wait_for_lock=0.1)
