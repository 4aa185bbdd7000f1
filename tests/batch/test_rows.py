"""Rows on their way: only the steps that there are, and counts that are right after each."""

from __future__ import annotations

from collections import Counter
from typing import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwa_client.batch.events import Complete, RowFailed
from mwa_client.batch.in_order import InOrder
from mwa_client.batch.records import Product
from mwa_client.batch.rows import STEPS, Row, Rows, Stage
from mwa_client.errors import JobFailed
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.keys import ApiVersion

TEXT = "".join(f"obs_id={1191828528 + number}, job_type=d, download_type=vis\n" for number in range(6))
TAKE: dict[str, Callable[[Row], None]] = {
    "check": lambda row: row.check(),
    "submit": lambda row: row.submit(),
    "defer": lambda row: row.defer(),
    "attach": lambda row: row.attach(7, 0.0),
    "renew": lambda row: row.renew(),
    "disown": lambda row: row.disown(),
    "make ready": lambda row: row.make_ready(Product((), 10 + row.place)),
    "download": lambda row: row.download(),
    "put back": lambda row: row.put_back(),
    "look again": lambda row: row.look_again(JobFailed("gone")),
    "arrive": lambda row: row.arrive(Complete(row.name, (), False)),
    "follow": lambda row: row.follow(),
    "complete": lambda row: row.complete(Complete(row.name, (), False)),
    "fail": lambda row: row.fail(RowFailed(row.name, JobFailed("no"))),
}


def some_rows() -> Rows:
    return Rows(parse(TEXT, ApiVersion.V2).jobs)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(sorted(TAKE))), max_size=60))
def test_counts_are_those_of_all_rows_after_each_step(steps: list[tuple[int, str]]) -> None:
    rows = some_rows()
    for place, name in steps:
        row = list(rows)[place]
        before = row.stage
        came_from, stage = STEPS[name]
        if before in came_from:
            TAKE[name](row)
            assert row.stage is stage
        else:
            with pytest.raises(ValueError, match=f"line {place + 1} is {before.value}, .*: {name}"):
                TAKE[name](row)
            assert row.stage is before
        for each in Stage:
            there = [row for row in rows if row.stage is each]
            assert rows.at(each) == there and rows.count(each) == len(there)
            assert rows.first_at(each, 2) == there[:2]
        assert rows.to_come == sum(row.to_come for row in rows if row.stage is Stage.READY)
        assert dict(rows.labels) == Counter(row.label for row in rows)


def test_what_is_settled_stays_so() -> None:
    assert STEPS.keys() == TAKE.keys()
    for came_from, _ in STEPS.values():
        assert Stage.COMPLETE not in came_from and Stage.FAILED not in came_from


@settings(deadline=None)
@given(st.integers(1, 6).flatmap(lambda count: st.permutations(range(count))))
def test_what_ends_first_is_told_in_the_order_in_which_it_was_begun(ends: list[int]) -> None:
    told: list[tuple[int, str]] = []
    order: InOrder[int, tuple[int, str]] = InOrder(told.append)
    for number in range(len(ends)):
        order.begin(number)
    for done, number in enumerate(ends, start=1):
        order.tell(number, (number, "has a job"))
        order.end(number)
        order.tell(number, (number, "queued"))
        # Nobody waits for one that comes later in the file.
        waiting = next((n for n in range(len(ends)) if n not in ends[:done]), len(ends))
        assert {n for n, _ in told} == set(range(waiting))
    assert [number for number, word in told if word == "has a job"] == sorted(ends)
    assert len(told) == 2 * len(ends)


def test_what_is_held_back_is_told_when_all_is_over() -> None:
    told: list[str] = []
    order: InOrder[int, str] = InOrder(told.append)
    order.begin(1)
    order.begin(2)
    order.tell(2, "two")
    assert told == []
    order.flush()
    order.tell(1, "one")
    assert told == ["two", "one"]
