"""The parts of a batch log in a minute apart, where they cannot use each other's tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from interface_steps import OBS
from shared import FastClock, asked, notices, run_batch, service_of, vis

from mwa_client.asvo.login_pace import APART, LoginPace
from mwa_client.errors import LoginRefused, ServiceUnavailable
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Sandbox


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / ".mwa_client"
    folder.mkdir(parents=True)
    return folder


def waits_for(pace: LoginPace) -> float | None:
    try:
        pace.count()
    except ServiceUnavailable as error:
        return error.retry_after
    return None


def test_the_next_login_is_a_minute_later(state_dir: Path, clock: FastClock) -> None:
    first, second = LoginPace(state_dir, clock), LoginPace(state_dir, clock)
    assert waits_for(first) is None
    clock.advance(20.0)
    assert waits_for(second) == pytest.approx(40.0) == waits_for(first)
    clock.advance(40.0)
    assert waits_for(second) is None
    second.discount()
    assert waits_for(first) is None, "that one was none"


@pytest.mark.parametrize("text", ["", "[]", '"x"', "-1e999", "1e999", "null", "{"])
def test_a_file_that_makes_no_sense_blocks_nobody(state_dir: Path, clock: FastClock, text: str) -> None:
    (state_dir / "login.json").write_text(text)
    assert waits_for(LoginPace(state_dir, clock)) is None


@pytest.mark.parametrize(("ahead", "waits"), [(30.0, APART), (3600.0, None)])
def test_another_hosts_clock_that_is_ahead_blocks_for_a_minute_at_most(
    state_dir: Path, clock: FastClock, ahead: float, waits: float | None
) -> None:
    (state_dir / "login.json").write_text(json.dumps(clock.now() + ahead))
    assert waits_for(LoginPace(state_dir, clock)) == waits


def test_parts_on_hosts_with_homes_of_their_own(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, state_dir: Path
) -> None:
    rows = vis(*range(OBS, OBS + 3))
    for number in (1, 2, 3):
        service = replace(
            service_of(sandbox, ApiVersion.V2, tokens=tmp_path / f"home{number}" / "tokens.json"),
            shared_dir=state_dir,
        )
        run = run_batch(sandbox, tmp_path / "data", clock, rows, share=f"{number}/3", service=service)
        assert run.summary.exit_status == 0
        logins = [request.started for request in asked(sandbox, "/api/v2/api_login")]
        assert len(logins) == number
        # The next one is started a second after this one was let in.
        clock.advance(logins[-1] + 1.0 - clock.now())
    assert [later - earlier >= APART for earlier, later in zip(logins, logins[1:])] == [True, True]


def test_a_refused_key_is_refused_to_all_parts_at_once(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, state_dir: Path
) -> None:
    service = replace(
        service_of(sandbox, ApiVersion.V2, key="wrong", tokens=tmp_path / "home" / "tokens.json"),
        shared_dir=state_dir,
    )
    rows = vis(*range(OBS, OBS + 3))
    for number in (1, 2, 3):
        with pytest.raises(LoginRefused):
            run_batch(sandbox, tmp_path / "data", clock, rows, share=f"{number}/3", service=service)
    assert clock.now() - 1.8e9 < APART


def test_a_part_that_has_to_wait_says_so_once_and_then_works(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, state_dir: Path
) -> None:
    LoginPace(state_dir, clock).count()
    service = replace(service_of(sandbox, ApiVersion.V2), shared_dir=state_dir)
    begun = clock.now()
    run = run_batch(sandbox, tmp_path / "data", clock, vis(OBS), share="1/2", service=service)
    (said,) = notices(run, "A part of this batch")
    assert run.summary.exit_status == 0 and "Trying again in" in said
    (login,) = asked(sandbox, "/api/v2/api_login")
    assert login.started - begun >= APART
