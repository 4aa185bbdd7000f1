"""Real processes that work on parts of one batch, and are killed while the number of parts changes."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
from crew import Crew
from forked import ForkedClient
from ordeal import FIRST_OBS, KINDS, Wanted
from shared import command, environment, vis, wait_until

from mwa_client.cli.main import main
from mwa_client.sandbox import Sandbox


def test_three_parts_that_become_two_do_nothing_twice_and_nothing_wrong(tmp_path: Path) -> None:
    # tests/benchmarks/parts.py does the same at greater length.
    seed = 20180613
    dice = random.Random(seed)
    rows = [Wanted(FIRST_OBS + 8 * place, KINDS[0], 10_000 * dice.randrange(1, 100)) for place in range(9)]
    sizes = {str(row.obs_id): row.size for row in rows}
    service = Sandbox(seconds_per_state=0.1, rate=1e6, product_size=lambda job: sizes[job.obs_id])
    with service as sandbox:
        sandbox.faults.add("drop_reply", times=2, skip=2)
        sandbox.faults.add("expire_tokens", times=1, skip=8)
        findings = Crew(sandbox, tmp_path, rows, dice, machines=1).go_through((3, 2), kills=1, longest=1.5)
    assert findings.broken == [], (seed, "\n".join(findings.broken))
    assert findings.statuses[0] >= 2 and len(findings.logins) == 1


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Run the command in this process, whose start takes no time."""

    def run(*words: str, env: dict[str, str]) -> int:
        for name in [name for name in os.environ if name not in env]:
            monkeypatch.delenv(name)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        return main(list(words))

    yield run


def test_a_part_and_who_must_not_work_beside_it(
    tmp_path: Path, here: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    csv, data = tmp_path / "jobs.csv", tmp_path / "data"
    csv.write_text(vis(*range(FIRST_OBS, FIRST_OBS + 6)))
    with Sandbox(seconds_per_state=0, product_size=lambda job: 1000) as sandbox:
        env = environment(sandbox)
        stall = sandbox.faults.add("stall", after=0)
        words = (f"--csv={csv}", f"--dir={data}", "--poll=0.05")
        with ForkedClient(command(*words, "--part=0/3"), env) as first:
            wait_until(lambda: stall.hits > 0)
            asked = len(sandbox.requests)
            for other in (["--part=3/3"], ["--part=1/2"], []):
                assert here(*words, *other, env=env) == 75
                assert f"part 3/3, process {first.pid} on" in capfd.readouterr().err
            assert len(sandbox.jobs) == 2 and len(sandbox.requests) == asked
            sandbox.faults.clear()
            assert here(*words, "--part=1/3", env=env) == 0
            assert "Part 1/3: 2 of 6 jobs, on 2 observations." in capfd.readouterr().err
        assert here(*words, env=env) == 0
        assert len(sandbox.jobs) == 6 and len((data / "SHA1SUMS").read_text().splitlines()) == 6
        assert [path.name for path in (data / ".mwa_client").glob("lock*")] == []


def test_a_share_that_cannot_be_is_told_before_anything_is_sent(
    tmp_path: Path, here: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    csv = tmp_path / "jobs.csv"
    csv.write_text(vis(FIRST_OBS, FIRST_OBS + 1))
    with Sandbox() as sandbox:
        env = environment(sandbox)
        words = (f"--csv={csv}", f"--dir={tmp_path / 'data'}")
        assert here(*words, "--part=5/4", env=env) == 1
        assert "--part=5/4 is not a part" in capfd.readouterr().err
        array = {"ID": "2", "COUNT": "2", "MIN": "0", "MAX": "2"}
        slurm = {**env, **{f"SLURM_ARRAY_TASK_{word}": value for word, value in array.items()}}
        assert here(*words, "--part=2/2", env=slurm) == 1
        assert "some parts would be left out" in capfd.readouterr().err
        assert len(sandbox.requests) == 0 and not (tmp_path / "data").exists()
