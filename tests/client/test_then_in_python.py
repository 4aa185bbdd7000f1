"""run(then="..."): a command for each product, as the command's --then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from shared import service_of, vis

from mwa_client import Client, timing
from mwa_client.errors import SettingsError
from mwa_client.sandbox import Sandbox


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(seconds_per_state=0, product_size=lambda job: 1000) as sandbox:
        yield sandbox


def test_a_command_follows_each_product(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "FIRST_POLL", 0.02)
    monkeypatch.setenv("ASVO_PASS", "secret")
    monkeypatch.setenv("OF_MINE", "mine")
    row, done = vis(1191828528).strip(), tmp_path / "done"
    then = f"echo $OF_MINE {{obs_id}} {{path}} ${{ASVO_PASS-none}} >> {done}"
    with closing(Client(service_of(sandbox))) as client:
        for _ in range(2):
            (complete,) = client.run([row], tmp_path / "data", then=then).complete
        assert done.read_text() == f"mine 1191828528 {complete.files[0].path.absolute()} none\n"
        (failed,) = client.run([row], tmp_path / "more", then="exit 3 {path}").failed
        assert "command of then= ended with exit status 3" in failed.error.what
        assert "Call it again: the product stays" in failed.error.remedy


def test_a_command_that_cannot_be_is_refused_before_anything_is_sent(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with closing(Client(service_of(sandbox))) as client:
        sandbox.reset_log()
        with pytest.raises(SettingsError, match="command of then="):
            client.run([vis(1191828528).strip()], tmp_path / "data", then="work | tee log")
    assert sandbox.requests == [] and not (tmp_path / "data").exists()
