"""Signed URLs that die, products that are gone, and a store in trouble."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import TypeVar

from interface_steps import (
    DAY,
    OBS,
    OTHER,
    TODAY,
    assert_all_well,
    assert_complete,
    assert_one_job_each,
    stored,
)
from shared import (
    FastClock,
    failures,
    run_batch,
    vis,
    wait_until,
)

from mwa_client.asvo.product_source import FRESH_LINKS
from mwa_client.errors import (
    ExitStatus,
    ProductGone,
    TransferFailed,
)
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import Sandbox
from mwa_client.timing import LAST_POLL

T = TypeVar("T")


def part_files(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (directory / ".mwa_client").glob("*.part")}


@TODAY
def test_an_expired_url_is_replaced(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    fault = sandbox.faults.add("expired_link", times=1)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert_all_well(sandbox, run, 1)
    wait_until(lambda: len(stored(sandbox)) >= 2)
    assert fault.hits == 1 and [request.status for request in stored(sandbox)] == [403, 200]
    stale, fresh = stored(sandbox)
    assert stale.query["Signature"] != fresh.query["Signature"]


class PatientClock(FastClock):
    """A fast clock that does not let time pass while the loop can only wait for its workers."""

    def receive(self, inbox: queue.Queue[T], seconds: float, *, is_coming: bool = False) -> T | None:
        if is_coming or seconds < LAST_POLL:
            return super().receive(inbox, seconds, is_coming=is_coming)
        return inbox.get(timeout=20.0)


@TODAY
def test_a_url_that_dies_between_two_stretches_of_a_download(tmp_path: Path, api: ApiVersion) -> None:
    clock = PatientClock()
    with Sandbox(clock=clock.now, link_seconds=1.0, product_size=lambda job: 300_000) as sandbox:
        sandbox.faults.add("cut_product", after=[100_000, 50_000, 0, 0])
        run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
        assert_all_well(sandbox, run, 1)
        good = [request for request in stored(sandbox) if request.status in (200, 206)]
        assert [request.range for request in good] == [None, "bytes=100000-", *["bytes=150000-"] * 3]
        assert 403 in [request.status for request in stored(sandbox)]
        assert len({request.query["Signature"] for request in good}) > 1


@TODAY
def test_a_link_that_stays_dead_is_that_rows_error_and_the_part_is_kept(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    sandbox.faults.add("cut_product", after=100_000, times=1, obs_id=OBS)
    body = "<?xml version='1.0'?><Error><Code>SignatureDoesNotMatch</Code><Message></Message></Error>"
    sandbox.faults.add("product_status", status=403, body=body, skip=1, obs_id=OBS)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=api)
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED and list(failures(run)) == [1]
    assert "SignatureDoesNotMatch" in run.summary.failed[0].error.what
    assert isinstance(run.summary.failed[0].error, TransferFailed)
    assert_complete(sandbox, run, 1)
    assert list(part_files(tmp_path).values()) == [100_000]
    first = [request for request in stored(sandbox) if f"/{OBS}_" in request.path]
    # The old link and a fresh one, some times, and each time a while later.
    assert len(first) == 1 + 2 * (FRESH_LINKS + 1)
    fresh = [request.started for request in first[2::2]]
    assert all(later - earlier >= 1.0 for earlier, later in zip(fresh, fresh[1:]))
    # Another day: what has arrived is continued, from another URL.
    sandbox.faults.clear()
    sandbox.reset_log()
    clock.advance(DAY)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=api)
    assert_all_well(sandbox, run, 2)
    (request,) = stored(sandbox)
    assert (request.range, request.status) == ("bytes=100000-", 206)
    assert request.query["Signature"] != first[0].query["Signature"]
    assert part_files(tmp_path) == {}
    assert_one_job_each(sandbox, OBS, OTHER)


@TODAY
def test_a_product_that_is_gone_is_that_rows_error(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    sandbox.faults.add("product_gone", obs_id=OBS)
    run = run_batch(sandbox, tmp_path, clock, vis(OBS, OTHER), api=api)
    assert list(failures(run)) == [1] and isinstance(run.summary.failed[0].error, ProductGone)
    assert_complete(sandbox, run, 1)
    assert len([request for request in stored(sandbox) if request.status == 404]) == 1


@TODAY
def test_the_object_store_in_trouble_is_waited_out(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    sandbox.faults.add("product_status", status=[503, 500, 429])
    run = run_batch(sandbox, tmp_path, clock, vis(OBS), api=api)
    assert_all_well(sandbox, run, 1)
    wait_until(lambda: len(stored(sandbox)) >= 4)
    assert [request.status for request in stored(sandbox)] == [503, 500, 429, 200]
