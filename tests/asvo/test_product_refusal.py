"""Products that are not sent: gone is what the store says in its own words; all else is an outage."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shared import LISTING, FastClock, Run, run_batch, service_of, vis

from mwa_client.asvo import open_session
from mwa_client.asvo.job import ProductFile
from mwa_client.asvo.product_refusal import ERROR
from mwa_client.asvo.product_source import FRESH_LINKS
from mwa_client.batch.events import RowFailed
from mwa_client.batch.pacing import Pacing
from mwa_client.errors import (
    ExitStatus,
    LinkNotRenewed,
    ProductGone,
    ServiceRefused,
    ServiceUnavailable,
    TransferFailed,
)
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import JobState, JobType, Sandbox
from mwa_client.transfer.connections import ConnectionBudget
from mwa_client.transfer.download import Downloader
from mwa_client.transfer.events import Setback, TransferEvent
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile

OBS = 1191828528
FORTY = tuple(range(OBS, OBS + 40))
EVERY = pytest.mark.parametrize("api", list(ApiVersion), ids=lambda api: api.value)
TODAY = pytest.mark.parametrize("api", [ApiVersion.V1, ApiVersion.V2], ids=lambda api: api.value)

PAGE = "<html><head><title>Sorry</title></head><body><h1>Maintenance</h1></body></html>"
STRANGE = {
    "page": PAGE,
    "nothing": "",
    "text": "404 page not found",
    "json": '{"error": "NoSuchKey"}',
    "other xml": "<?xml version='1.0'?><Fault><Code>NoSuchKey</Code></Fault>",
    "page that quotes": f"<html><pre><Error><Code>NoSuchKey</Code></Error></pre>{PAGE}</html>",
    "cut": "<?xml version='1.0'?><Error><Code>NoSuchKey</Code><Message></Mess",
    "without code": "<Error><Message>NoSuchKey</Message></Error>",
    "no bucket": "<?xml version='1.0'?><Error><Code>NoSuchBucket</Code><Message></Message></Error>",
}
OWN = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message></Message>'
    "<RequestId>tx1-default</RequestId></Error>"
)


@pytest.fixture
def small(clock: FastClock) -> Iterator[Sandbox]:
    """A practice service whose products are small."""
    with Sandbox(clock=clock.now, product_size=lambda job: 2000 + job.id) as sandbox:
        yield sandbox


def add_ready(sandbox: Sandbox, *obs_ids: int) -> None:
    for obs_id in obs_ids:
        sandbox.service.add(
            {"obs_id": str(obs_id), "download_type": "vis"}, JobType.VISIBILITIES, state=JobState.READY
        )


def assert_complete(sandbox: Sandbox, run: Run, rows: int) -> None:
    assert run.summary.exit_status is ExitStatus.COMPLETE, run.told(RowFailed)
    assert len(run.summary.complete) == rows == len(sandbox.jobs)
    for done in run.summary.complete:
        job = next(job for job in sandbox.jobs if job.id == done.row.job_id)
        assert done.files[0].path.read_bytes() == b"".join(job.content.pieces())


# --- Forty rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api", "status", "count"),
    [
        (ApiVersion.V2, 404, 40),
        *((ApiVersion.V2, status, 10) for status in (400, 403, 410, 200)),
        (ApiVersion.V1, 404, 10),
        (ApiVersion.V2018, 404, 10),
    ],
)
def test_many_ready_rows_and_a_while_of_somebodys_page(
    small: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, status: int, count: int
) -> None:
    ready = FORTY[:count]
    add_ready(small, *ready)
    for obs_id in ready[::2]:
        small.faults.add("product_status", status=status, body=PAGE, times=3, obs_id=obs_id)
    run = run_batch(small, tmp_path, clock, vis(*ready), api=api)
    assert_complete(small, run, count)
    # Said once for each product that meets it; nobody is told to resubmit.
    met = [setback.job_id for setback in run.told(Setback)]
    assert len(met) == len(set(met)) == count // 2
    assert "resubmit" not in str(run.events)


@EVERY
def test_one_pass_waits_it_out_too(small: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion) -> None:
    add_ready(small, OBS, OBS + 1)
    run_batch(small, tmp_path, clock, vis(OBS, OBS + 1), api=api, only_submit=True)
    small.faults.add("product_status", status=404, body=PAGE, times=4)
    assert_complete(small, run_batch(small, tmp_path, clock, vis(OBS, OBS + 1), api=api, once=True), 2)


@EVERY
@pytest.mark.parametrize("status", [404, 400, 403, 410])
def test_an_outage_that_lasts_is_that_rows_failure_with_an_honest_remedy(
    small: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, status: int
) -> None:
    add_ready(small, OBS, OBS + 1)
    small.faults.add("cut_product", after=1000, times=1, obs_id=OBS)
    small.faults.add("product_status", status=status, body=PAGE, skip=1, obs_id=OBS)
    run = run_batch(small, tmp_path, clock, vis(OBS, OBS + 1), api=api, pacing=Pacing(parallel=1))
    assert run.summary.exit_status is ExitStatus.JOBS_FAILED and len(run.summary.complete) == 1
    (failed,) = run.summary.failed
    assert isinstance(failed.error, TransferFailed) and f"HTTP {status}" in failed.error.what
    assert "run the same command again" in failed.error.remedy and "resubmit" not in str(failed.error)
    # Another day: what has arrived is continued.
    small.faults.clear()
    small.reset_log()
    assert_complete(small, run_batch(small, tmp_path, clock, vis(OBS, OBS + 1), api=api), 2)
    (asked,) = [entry.range for entry in small.requests if entry.store or entry.path == "/api/download"]
    assert asked == "bytes=1000-"


# --- Whose words they are ---------------------------------------------------------------------------


@TODAY
@pytest.mark.parametrize("status", [404, 410])
def test_what_is_not_the_stores_own_word_passes(
    small: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, status: int
) -> None:
    told = dict(zip(FORTY, STRANGE.values()))
    add_ready(small, *told)
    faults = [
        small.faults.add("product_status", status=status, body=body, times=5, obs_id=obs_id)
        for obs_id, body in told.items()
    ]
    run = run_batch(small, tmp_path, clock, vis(*told), api=api)
    assert_complete(small, run, len(told))
    assert [fault.hits for fault in faults] == [5] * len(told)
    setbacks = run.told(Setback)
    assert sorted(setback.job_id for setback in setbacks) == [job.id for job in small.jobs]
    assert all(f"HTTP {status}" in setback.reason for setback in setbacks)


@TODAY
def test_the_stores_own_word_is_believed_at_once(
    small: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    add_ready(small, OBS)
    fault = small.faults.add("product_status", status=404, body=OWN.format("NoSuchKey"))
    run = run_batch(small, tmp_path, clock, vis(OBS), api=api)
    (failed,) = run.summary.failed
    assert isinstance(failed.error, ProductGone) and "NoSuchKey" in failed.error.what
    assert fault.hits == 1 and not run.told(Setback)


@TODAY
@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "InvalidRequest"), (400, "ExpiredToken"), (403, "AccessDenied"), (405, "MethodNotAllowed")],
)
def test_what_the_store_itself_refuses_is_tried_a_few_times_and_not_for_twenty_minutes(
    small: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, status: int, code: str
) -> None:
    add_ready(small, OBS)
    fault = small.faults.add("product_status", status=status, body=OWN.format(code))
    run = run_batch(small, tmp_path, clock, vis(OBS), api=api)
    (failed,) = run.summary.failed
    assert f"HTTP {status}, {code}" in failed.error.what and "resubmit" not in str(failed.error)
    assert fault.hits == 8  # The old link and a fresh one, four times.


@TODAY
@pytest.mark.parametrize("code", ["RequestTimeout", "SlowDown", "OperationAborted"])
def test_what_the_store_says_will_pass_is_waited_out(
    small: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, code: str
) -> None:
    add_ready(small, OBS)
    small.faults.add("product_status", status=400, body=OWN.format(code), times=10)
    assert_complete(small, run_batch(small, tmp_path, clock, vis(OBS), api=api), 1)


@pytest.mark.parametrize("body", ['{"detail": "Not Found"}', '{"message": "no Route matched"}'])
def test_another_programs_json_in_the_place_of_the_service_of_2018_passes(
    small: Sandbox, clock: FastClock, tmp_path: Path, body: str
) -> None:
    add_ready(small, OBS)
    small.faults.add("product_status", status=404, body=body, times=3)
    run = run_batch(small, tmp_path, clock, vis(OBS), api=ApiVersion.V2018)
    assert_complete(small, run, 1)


@TODAY
@pytest.mark.parametrize(("status", "code"), [(400, "InvalidArgument"), (404, "NoSuchBucket")])
def test_the_stores_own_reason_is_told(
    small: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, status: int, code: str
) -> None:
    add_ready(small, OBS)
    small.faults.add("product_status", status=status, body=OWN.format(code))
    run = run_batch(small, tmp_path, clock, vis(OBS), api=api)
    (failed,) = run.summary.failed
    assert f"HTTP {status}, {code}" in failed.error.what and "resubmit" not in str(failed.error)


@TODAY
@pytest.mark.parametrize("status", [200, 400, 403, 404])
def test_somebodys_page_in_place_of_the_listing_with_a_fresh_link(
    small: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, status: int
) -> None:
    add_ready(small, OBS)
    small.faults.add("expired_link", times=1)
    small.faults.add("fail_call", path=LISTING[api], status=status, body=PAGE, skip=1, times=2)
    assert_complete(small, run_batch(small, tmp_path, clock, vis(OBS), api=api), 1)


@TODAY
@pytest.mark.parametrize("odd", ["missing_job", "null_product"])
def test_a_listing_that_lags_has_the_fresh_link_a_little_later(
    small: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion, odd: str
) -> None:
    add_ready(small, OBS)
    small.faults.add("expired_link", times=1)
    small.faults.add(odd, skip=1, times=2)
    assert_complete(small, run_batch(small, tmp_path, clock, vis(OBS), api=api), 1)


@TODAY
def test_a_job_that_is_cancelled_meanwhile_is_that_rows_error(
    small: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    add_ready(small, OBS)
    small.faults.add("expired_link", times=1)
    small.faults.add("cancel_job", skip=1)
    run = run_batch(small, tmp_path, clock, vis(OBS), api=api)
    (failed,) = run.summary.failed
    assert "cancelled" in failed.error.what


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.text(max_size=200))
@example("<html>", "</html>")
@example("", "<")
@example("<?xml version='1.0'?><a>", "</a>")
def test_only_a_whole_answer_of_the_stores_is_its_own(before: str, after: str) -> None:
    own = OWN.format("NoSuchKey")
    match = ERROR.fullmatch(own)
    assert match is not None and match[1] == "NoSuchKey"
    if before.strip() and "<?xml" not in before and before.strip() != "\ufeff":
        assert ERROR.fullmatch(before + own) is None
    if after.strip() and not after.rstrip().endswith("</Error>"):
        assert ERROR.fullmatch(own + after) is None
    assert all(ERROR.fullmatch(own[:end]) is None for end in range(len(own)))


@TODAY
def test_what_the_service_asks_for_while_a_link_is_renewed_holds_for_the_service(
    small: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    add_ready(small, OBS, OBS + 1)
    first, other = small.jobs
    place = DownloadDirectory(tmp_path, tmp_path / ".mwa_client")
    place.state_dir.mkdir()
    budget, pauses = ConnectionBudget(1), []
    with closing(open_session(service_of(small, api), clock=clock)) as session:
        dead = small.faults.add("expired_link")
        jobs = session.jobs()
        small.faults.remove(dead)
        file, another = jobs[first.id].product[0], jobs[other.id].product[0]
        source, elsewhere = session.source(first.id, file), session.source(other.id, another)
        small.faults.add("fail_call", path=LISTING[api], status=429, retry_after=60, times=1)
        small.reset_log()

        def listen(event: TransferEvent) -> None:
            if isinstance(event, Setback):
                pauses.append((event.waiting, budget.pace_of(source.host).pause(clock.monotonic())))
                # Another product whose link has died does not ask the service meanwhile.
                with pytest.raises(LinkNotRenewed) as caught:
                    elsewhere.get({})
                assert caught.value.retry_after == pytest.approx(60.0)
                assert len([entry for entry in small.requests if entry.path == LISTING[api]]) == 1

        wanted = ExpectedFile(first.id, file.name, file.size, file.sha1)
        fetched = Downloader(place, clock, threading.Event(), listen, budget).fetch(wanted, source)
    assert fetched.verified
    ((waited, pause),) = pauses
    assert waited == pytest.approx(60.0) and pause == 0.0


@TODAY
def test_links_that_were_refused_to_further_connections_leave_the_first_its_tries(
    small: Sandbox, clock: FastClock, api: ApiVersion
) -> None:
    add_ready(small, OBS)
    (job,) = small.jobs
    with closing(open_session(service_of(small, api), clock=clock)) as session:
        source = session.source(job.id, session.jobs()[job.id].product[0])
        source.get({}).close()
        fault = small.faults.add("product_status", status=403, body=OWN.format("AccessDenied"))
        for _ in range(2 * FRESH_LINKS):
            with ThreadPoolExecutor(1) as further, pytest.raises(ServiceUnavailable):
                further.submit(source.get, {}).result()
        for _ in range(FRESH_LINKS):
            with pytest.raises(ServiceUnavailable):
                source.get({})
        small.faults.remove(fault)
        source.get({}).close()
        # Served again: what was refused before counts no more.
        small.faults.add("product_status", status=403, body=OWN.format("AccessDenied"))
        for _ in range(FRESH_LINKS):
            with pytest.raises(ServiceUnavailable):
                source.get({})
        with pytest.raises(ServiceRefused, match="AccessDenied"):
            source.get({})


@pytest.mark.parametrize(
    "url",
    ["https://[::1/x.tar", "https://sto\u2100re.org/x.tar", "http://store:99999/x.tar", "file:///x.tar"],
)
def test_a_link_that_is_no_address_is_refused_and_no_internal_error(
    small: Sandbox, clock: FastClock, tmp_path: Path, url: str
) -> None:
    add_ready(small, OBS)
    (job,) = small.jobs
    place = DownloadDirectory(tmp_path, tmp_path / ".mwa_client")
    place.state_dir.mkdir()
    with closing(open_session(service_of(small, ApiVersion.V1), clock=clock)) as session:
        file = replace(session.jobs()[job.id].product[0], url=url)
        source = session.source(job.id, file)
        wanted = ExpectedFile(job.id, file.name, file.size, file.sha1)
        with pytest.raises(TransferFailed, match="is not an address that can be used"):
            Downloader(place, clock, threading.Event(), lambda event: None).fetch(wanted, source)


def test_one_store_is_known_by_each_way_to_write_its_address(small: Sandbox, clock: FastClock) -> None:
    urls = ["https://store.org/a.tar?x", "HTTPS://STORE.ORG:443/b.tar", "http://store.org/c.tar"]
    with closing(open_session(service_of(small, ApiVersion.V1), clock=clock)) as session:
        files = [ProductFile("a.tar", 1, None, url=url) for url in urls]
        hosts = [session.source(1, file).host for file in files]
    assert hosts == ["store.org:443", "store.org:443", "store.org:80"]


# --- Several connections ----------------------------------------------------------------------------


@TODAY
@pytest.mark.parametrize("status", [404, 400, 403, 410])
def test_several_connections_that_meet_a_page(
    clock: FastClock, tmp_path: Path, api: ApiVersion, status: int
) -> None:
    size = 30 << 20
    with Sandbox(clock=clock.now, product_size=lambda job: size) as sandbox:
        add_ready(sandbox, OBS)
        (job,) = sandbox.jobs
        sandbox.faults.add("product_status", status=status, body=PAGE, skip=1, times=3)
        sandbox.faults.add("cut_product", after=5 << 20, times=2)
        session = open_session(service_of(sandbox, api), clock=clock)
        file = session.jobs()[job.id].product[0]
        place = DownloadDirectory(tmp_path, tmp_path / ".mwa_client")
        place.state_dir.mkdir()
        told: list[TransferEvent] = []
        wanted = ExpectedFile(job.id, file.name, file.size, file.sha1)
        try:
            downloader = Downloader(place, clock, threading.Event(), told.append, ConnectionBudget(4))
            fetched = downloader.fetch(wanted, session.source(job.id, file))
        finally:
            session.close()
    assert fetched.verified and fetched.size == size


@TODAY
def test_the_connections_of_one_product_ask_for_a_fresh_link_once(
    clock: FastClock, tmp_path: Path, api: ApiVersion
) -> None:
    with Sandbox(clock=clock.now, product_size=lambda job: 5000) as sandbox:
        add_ready(sandbox, OBS)
        (job,) = sandbox.jobs
        session = open_session(service_of(sandbox, api), clock=clock)
        file = session.jobs()[job.id].product[0]
        source = session.source(job.id, replace(file, url=file.url.replace("Expires=", "Expires=1")))
        sandbox.reset_log()
        gate, statuses = threading.Barrier(6), []

        def ask() -> None:
            gate.wait()
            reply = source.get({"Range": "bytes=0-9"})
            statuses.append(reply.status)
            reply.close()

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        session.close()
        assert statuses == [206] * 6
        assert len([entry for entry in sandbox.requests if entry.path == LISTING[api]]) == 1
