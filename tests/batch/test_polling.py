"""Listings that fail, and how often the service is asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from batch_runs import LISTING, OBS, OTHER, PRODUCT, SUBMISSION, assert_nothing_said_twice, gaps
from shared import FastClock, asked, environment, notices, run_batch, run_command, service_of, vis

from mwa_client.batch.pacing import Pacing
from mwa_client.errors import ExitStatus, LoginRefused, ServiceRefused
from mwa_client.sandbox import KINDS, Sandbox
from mwa_client.sandbox.fault_kinds import FaultKind, Point
from mwa_client.sandbox.messages import Body, Call, Reply
from mwa_client.timing import FIRST_POLL, LAST_POLL, LONGEST_OUTAGE_WAIT, Backoff, PollTimes


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("fail_call", {"status": 500}),
        ("fail_call", {"status": 429}),
        ("fail_call", {"status": 302}),
        ("busy", {"retry_after": 1}),
        ("html_reply", {}),
        ("broken_json", {}),
        ("fail_call", {"status": 200, "body": '{"jobs": []}'}),
    ],
)
@pytest.mark.parametrize("skip", [0, 1])
def test_an_outage_is_waited_out_and_said_once(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, fault: str, options: dict[str, Any], skip: int
) -> None:
    struck = sandbox.faults.add(fault, path=LISTING, times=9, skip=skip, **options)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE and struck.hits == 9
    assert len(notices(run)) == 2
    assert "until it answers" in notices(run)[0] and notices(run)[1] == "The service answers again."
    waits = gaps(asked(sandbox, LISTING))[skip : skip + 9]
    # The fast clock's chance takes off a quarter.
    assert waits == pytest.approx([min(5.0 * 2**n, 300) * 0.75 for n in range(9)], abs=0.5)
    assert_nothing_said_twice(run)


def test_retry_after_at_a_listing_is_obeyed(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    sandbox.faults.add("busy", path=LISTING, retry_after=[120, 777])
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    first, second = gaps(asked(sandbox, LISTING))[:2]
    assert 120 <= first < 125 and 777 <= second < 782
    assert "120 s" in notices(run)[0]


@pytest.mark.parametrize("fault", ["fail_call", "html_reply"])
def test_a_login_that_is_not_answered_is_waited_out(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, fault: str
) -> None:
    struck = sandbox.faults.add(fault, path="/api/login", times=3)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE and struck.hits == 3
    assert len(notices(run)) == 2


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refused_listing_is_an_error_at_once(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, status: int
) -> None:
    sandbox.faults.add("fail_call", path=LISTING, status=status, body="No, says the firewall")
    with pytest.raises(ServiceRefused, match="No, says the firewall") as error:
        run_batch(sandbox, tmp_path, clock)
    assert error.value.status == status and error.value.exit_status is ExitStatus.REFUSED
    assert len(asked(sandbox, LISTING)) == 1 and not sandbox.jobs


def test_a_wrong_password_is_an_error_at_once(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    with pytest.raises(LoginRefused, match="ASVO_PASS"):
        run_batch(sandbox, tmp_path, clock, service=service_of(sandbox, password="wrong"))
    assert len(sandbox.requests) == 1
    (tmp_path / "jobs.csv").write_text(vis(OBS))
    done = run_command(
        f"--csv={tmp_path / 'jobs.csv'}", f"--dir={tmp_path}", env=environment(sandbox, ASVO_PASS="wrong-pw")
    )
    assert done.returncode == 2 and "user name and password" in done.stderr
    assert "wrong-pw" not in done.stdout + done.stderr


@pytest.mark.parametrize("path", [LISTING, SUBMISSION, PRODUCT])
def test_a_lost_session_is_opened_again(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, path: str
) -> None:
    fault = sandbox.faults.add("expire_session", path=path, times=1)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert len(sandbox.jobs) == 2 and notices(run) == []
    assert fault.hits == 1 and len(asked(sandbox, "/api/login")) == 2


def test_a_session_that_is_lost_again_at_once_costs_no_row(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    sandbox.faults.add("expire_session", path=SUBMISSION, times=3)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS))
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert len(sandbox.jobs) == 1 and len(asked(sandbox, SUBMISSION)) == 4


def test_polls_get_rarer_while_nothing_changes(clock: FastClock, tmp_path: Path) -> None:
    with Sandbox(clock=clock.now, seconds_per_state=900, product_size=lambda job: 9) as sandbox:
        run_batch(sandbox, tmp_path, clock, vis(OBS))
        times = [request.started for request in asked(sandbox, LISTING)]
        created = sandbox.jobs[0].created
    states = [max(int((time - created) // 900), 0) for time in times]
    assert states[0] == states[1] == 0 and states[-1] == 2
    waits = gaps(asked(sandbox, LISTING))
    expected = FIRST_POLL
    for index in range(1, len(waits)):  # The wait that follows listing `index`.
        # The first listing after the submission is the first to say that the job is queued.
        is_news = states[index] != states[index - 1] or index == 1
        expected = FIRST_POLL if is_news else min(expected * 1.3, LAST_POLL)
        assert waits[index] == pytest.approx(expected, abs=0.01)
    assert max(waits[1:]) == pytest.approx(LAST_POLL) and states.count(1) > 10


def test_a_fixed_interval_is_kept(clock: FastClock, tmp_path: Path) -> None:
    with Sandbox(clock=clock.now, seconds_per_state=100, product_size=lambda job: 9) as sandbox:
        run_batch(sandbox, tmp_path, clock, vis(OBS), pacing=Pacing(poll=7.0))
        waits = gaps(asked(sandbox, LISTING))[1:]
    assert len(waits) >= 14 and waits == pytest.approx([7.0] * len(waits), abs=0.01)


@pytest.mark.parametrize(("chance", "part"), [(0.0, 1.0), (0.999, 0.5)])
def test_waits_are_spread_by_chance(
    clock: FastClock, monkeypatch: pytest.MonkeyPatch, chance: float, part: float
) -> None:
    monkeypatch.setattr(clock, "chance", lambda: chance)
    backoff = Backoff(clock, first=5.0, cap=LONGEST_OUTAGE_WAIT)
    waits = [backoff.next() for _ in range(9)]
    assert waits == pytest.approx([min(5.0 * 2**tries, 300.0) * part for tries in range(9)], rel=0.01)
    assert backoff.next(at_least=1000.0) == 1000.0
    backoff.reset()
    # Eight requests at once, and then one at a time.
    waits = [backoff.next(requests=8), backoff.next(), backoff.next()]
    assert waits == pytest.approx([20.0 * part, 40.0 * part, 80.0 * part], rel=0.01)
    polls = PollTimes(clock, None)
    polls.succeeded(True)
    assert polls.remaining() == pytest.approx(FIRST_POLL * (0.9 + 0.2 * chance), abs=0.01)


def test_one_listing_serves_all_rows(clock: FastClock, tmp_path: Path) -> None:
    with Sandbox(clock=clock.now, seconds_per_state=20, product_size=lambda job: 9) as sandbox:
        run = run_batch(sandbox, tmp_path, clock, vis(*range(OBS, OBS + 25)))
        assert len(run.summary.complete) == 25
        assert min(gaps(asked(sandbox, LISTING))) >= FIRST_POLL
        assert len(asked(sandbox, LISTING)) < 50 and len(asked(sandbox, "/api/login")) == 1


@dataclass
class Watched:
    """Counts the products that are being sent at the same time."""

    body: Body
    now: list[Body]
    most: list[int]

    @property
    def length(self) -> int | None:
        return self.body.length

    def pieces(self) -> Iterator[bytes]:
        self.now.append(self.body)
        self.most.append(len(self.now))
        try:
            yield from self.body.pieces()
        finally:
            self.now.remove(self.body)


@pytest.mark.parametrize("parallel", [1, 3])
def test_only_so_many_downloads_at_a_time(
    clock: FastClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parallel: int
) -> None:
    most: list[int] = []
    now: list[Body] = []

    def watch(reply: Reply) -> Reply:
        """Count it."""
        return replace(reply, body=Watched(reply.body, now, most))

    monkeypatch.setitem(KINDS, "watch", FaultKind("watch", Point.REPLY, frozenset({Call.PRODUCT}), watch))
    with Sandbox(clock=clock.now, rate=1e6, product_size=lambda job: 70_000 * parallel) as sandbox:
        sandbox.faults.add("watch")
        run = run_batch(sandbox, tmp_path, clock, vis(*range(OBS, OBS + 5)), pacing=Pacing(parallel=parallel))
        assert run.summary.exit_status is ExitStatus.COMPLETE
    assert max(most) == parallel and len(most) == 5
