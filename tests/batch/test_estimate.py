"""How long a wait may be: from earlier jobs, from what the service says, and never out of nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from diaries import NOON, OBS, Diary, identity
from hypothesis import given
from hypothesis import strategies as st
from shared import FastClock, listed, run_batch, vis

from mwa_client.batch.estimate import FEWEST, Waits, altogether, is_news, times_to_ready
from mwa_client.batch.events import Event, Expected, StateChanged
from mwa_client.batch.pacing import Pacing
from mwa_client.batch.rows import LABELS, Step
from mwa_client.display.json_lines import JsonDisplay
from mwa_client.display.lines import LineDisplay
from mwa_client.display.status import status_documents, status_lines
from mwa_client.display.wording import expected_in_words
from mwa_client.formatting import utc
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Sandbox

READY = "Ready for Download"
VISIBILITIES = "visibilities"
WHOLE = ("Submitting", "Submitted", "Queued", "Staging", READY)


def steps(*times: float, labels: tuple[str, ...] = WHOLE) -> list[Step]:
    return [Step(at, label) for at, label in zip(times, labels)]


def taught(*took: float) -> Waits:
    """Each job was submitted at once, queued for half of its time, and staged for the other."""
    waits = Waits()
    for seconds in took:
        waits.learn(VISIBILITIES, steps(0, 0, 0, seconds / 2, seconds))
    return waits


# --- What was, and what is expected of it -----------------------------------------------------------------


def test_each_state_tells_how_long_it_was_until_the_job_was_ready() -> None:
    assert list(times_to_ready(steps(0, 1, 11, 31, 91))) == [
        ("Submitting", 91), ("Submitted", 90), ("Queued", 80), ("Staging", 60), ("Started", 60),
    ]  # fmt: skip
    assert list(times_to_ready(steps(0, 1, 11, 31))) == []
    failed = steps(0, 1, 11, 31, 91, labels=(*WHOLE[:4], "Error"))
    assert list(times_to_ready([*failed, Step(99, READY)])) == []


def test_of_a_job_that_was_there_already_the_first_state_tells_nothing() -> None:
    found = steps(0, 5, 65, 95, labels=("Submitted", "Staging", "Imaging", READY))
    assert list(times_to_ready(found)) == [("Imaging", 30)]
    assert list(times_to_ready(steps(0, 0, labels=("Submitted", READY)))) == []


def test_the_median_of_those_that_took_longer() -> None:
    waits = taught(600, 1000, 1400)
    assert waits.expect(VISIBILITIES, steps(100, 100, 100), now=100) == 1100
    assert waits.expect(VISIBILITIES, steps(100, 100, 100, 600), now=700) == 600 + 500
    assert waits.expect(VISIBILITIES, steps(100, 100, 100), now=900) == (1100 + 1500) / 2
    assert waits.expect(VISIBILITIES, steps(100, 100, 100), now=1600) is None, "longer than all before"
    assert waits.expect(VISIBILITIES, steps(9000, 9000, 9000), now=100) == 1100, "the clock was set back"


def test_no_estimate_where_nothing_is_known() -> None:
    waits = taught(*[1000.0] * (FEWEST - 1))
    assert waits.expect(VISIBILITIES, steps(0, 0, 0), now=10) is None
    waits.learn_whole(VISIBILITIES, 1000.0)  # As of a job that the service lists.
    assert waits.expect(VISIBILITIES, steps(0, 0, 0), now=10) == 1000
    assert waits.expect(VISIBILITIES, steps(0, 0, 0, 10, labels=(*WHOLE[:3], "Polishing")), now=10) == 1000
    assert waits.expect(VISIBILITIES, steps(0, 0, labels=("Submitted", "Queued")), now=10) is None
    assert waits.expect(VISIBILITIES, steps(0, labels=("Queued",)), now=10, made_at=5) == 1005
    assert waits.expect("metadata", steps(0, 0, 0), now=10) is None
    assert waits.expect(VISIBILITIES, [], now=10) is None
    assert taught(*[1000.0] * 3).expect(VISIBILITIES, steps(0, 0, 0, 500, 1000), now=1001) is None


def test_what_the_service_says_of_the_start_counts_more() -> None:
    waits = taught(600, 1000, 1400)
    assert waits.expect(VISIBILITIES, steps(0, 0, 0), now=10, starts_at=5000) == 5500
    assert waits.expect(VISIBILITIES, steps(0, 0, 0), now=10, starts_at=5) == 1000, "that has passed"
    assert Waits().expect(VISIBILITIES, steps(0, 0, 0), now=10, starts_at=5000) is None


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.sampled_from([*WHOLE, *LABELS.values(), "Odd"])), max_size=12)
)
def test_any_history_gives_times_that_can_be(odd: list[tuple[float, str]]) -> None:
    history = sorted(Step(at, label) for at, label in odd)
    assert all(seconds > 0 for _, seconds in times_to_ready(history))
    waits = taught(100, 200, 300)
    waits.learn(VISIBILITIES, history)
    moment = waits.expect(VISIBILITIES, history, now=2e9)
    assert moment is None or moment > 2e9


# --- What is said of it -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (altogether([7300.0], 100.0), "ready in about 2 h (estimate)"),
        (altogether([7300.0, 7400.0], 100.0), "ready in about 2 h (estimate)"),
        (altogether([7300.0, 1900.0], 100.0), "ready in about 30 min to 2 h (estimate)"),
        (altogether([7300.0, None], 100.0), "1 of 2 ready in about 2 h (estimate)"),
        (altogether([None], 100.0, [2500.0, None]), "starting in about 40 min (estimate)"),
        (altogether([130.0], 100.0), ""),
        (altogether([], 100.0), ""),
    ],
)
def test_an_estimate_is_said_as_one(expected: Expected, words: str) -> None:
    assert expected_in_words(expected, 100.0) == words
    assert expected_in_words(expected, 9999.0) == "", "it has passed"


def test_only_a_large_change_is_news() -> None:
    nothing, long, later, much = (altogether([end], 0.0) for end in (None, 7200.0, 9000.0, 15000.0))
    assert not is_news(nothing, None, 0.0) and is_news(long, None, 0.0) and is_news(nothing, long, 0.0)
    assert not is_news(later, long, 0.0) and is_news(much, long, 0.0)


# --- Whole runs -------------------------------------------------------------------------------------------


RARELY = Pacing(poll=300.0)


def test_the_second_batch_of_a_directory_is_estimated(tmp_path: Path) -> None:
    clock, told, shown = FastClock(), io.StringIO(), io.StringIO()
    first, second = (vis(*(OBS + 8 * number for number in numbers)) for numbers in (range(3), range(3, 5)))
    with Sandbox(clock=clock.now, seconds_per_state=1800, product_size=lambda job: 9) as sandbox:
        assert not run_batch(sandbox, tmp_path, clock, first, pacing=RARELY).told(Expected)
        displays = (JsonDisplay(told, told, clock), LineDisplay(shown, shown, clock))

        def listen(event: Event) -> None:
            for display in displays:
                display(event)

        run = run_batch(sandbox, tmp_path, clock, second, pacing=RARELY, listen=listen)
    ready_at = clock.now()  # The products are tiny.
    *estimates, last = run.told(Expected)
    assert [(each.waiting, each.known) for each in estimates] == [(2, 2)] and last.waiting == 0
    assert estimates[0].last == pytest.approx(ready_at, abs=300)
    lines = [line for line in shown.getvalue().splitlines() if "(estimate)" in line]
    assert lines[0] == "Ready in about 1 h (estimate)"
    assert all(line.startswith("Still working") for line in lines[1:])
    documents = [json.loads(line) for line in told.getvalue().splitlines() if '"estimate"' in line]
    assert [each["last_ready"] for each in documents] == [utc(estimates[0].last), None]


def test_the_first_batch_is_estimated_from_the_jobs_that_the_service_lists(tmp_path: Path) -> None:
    clock = FastClock()
    with Sandbox(clock=clock.now, seconds_per_state=600, product_size=lambda job: 9) as sandbox:
        for number in range(3):
            listed(sandbox, OBS + 8 * number)
        clock.advance(9000)
        begun = clock.now()
        run = run_batch(sandbox, tmp_path, clock, vis(OBS + 99), api=ApiVersion.V1, pacing=RARELY)
    assert run.told(Expected)[0].last == pytest.approx(begun + 2 * 600, abs=10), "as long as they took"


def test_what_v2_says_of_the_start(tmp_path: Path) -> None:
    clock = FastClock()
    with Sandbox(clock=clock.now, seconds_per_state=600) as sandbox:
        runs = [run_batch(sandbox, tmp_path, clock, vis(OBS), api=ApiVersion.V2, once=True) for _ in range(2)]
    (expected,) = runs[1].told(Expected)
    assert expected.last is None and expected.starts is not None and expected.starts > clock.now()


def test_a_run_that_comes_late_learns_when_the_job_was_ready(tmp_path: Path) -> None:
    """A run at night sees in the morning what was ready in the evening: the wait was not all that time."""
    diary = Diary(tmp_path)
    with diary.run() as ledger:
        for number in range(3):
            row = identity(OBS + 8 * number)
            diary.submit(ledger, row, number + 1, "queued", after=0.0)
            ledger.record_state(row, number + 1, "queued")
        diary.now += 36000
        for number in range(3):
            ledger.record_state(identity(OBS + 8 * number), number + 1, "completed", NOON + 7200)
        diary.submit(ledger, identity(OBS + 99), 99, "queued", after=0.0)
        assert ledger.waits.ready_at(identity(OBS + 99), diary.now) == diary.now + 7200
        diary.now += 600
        last = diary.status().rows[-1]
        assert (last.label, last.ready_at) == ("Queued", diary.now + 6600)
        lines = status_lines(diary.status())
        assert lines[4].endswith("ready in about 2 h (estimate)")
        assert "Ready in about 2 h (estimate), from earlier jobs here." in lines
        documents = list(status_documents(diary.status()))
        assert [document.get("estimated_ready") for document in documents] == [
            None, None, None, utc(diary.now + 6600), None,
        ]  # fmt: skip


def test_a_short_practice_says_nothing_of_it(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> None:
    run_batch(sandbox, tmp_path, clock, vis(OBS, OBS + 8, OBS + 16))
    run = run_batch(sandbox, tmp_path, clock, vis(OBS + 24, OBS + 32))
    assert run.told(StateChanged) and not run.told(Expected)
