"""The service or the network away for minutes or days, and clocks that jump.

It is waited out and said once, nothing is lost or done twice, and ``--give-up-after`` bounds it.
"""

from __future__ import annotations

import hashlib
import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, TypeVar

import pytest
from shared import (
    LISTING,
    LOGIN,
    SUBMISSION,
    FastClock,
    Run,
    asked,
    environment,
    lines_shown,
    listed,
    notices,
    run_batch,
    run_command,
    service_of,
    vis,
)

from mwa_client.asvo import open_session
from mwa_client.asvo.pool import SessionPool
from mwa_client.batch.events import Event, RowFailed, Submitted
from mwa_client.batch.pacing import Pacing
from mwa_client.cli.main import main
from mwa_client.errors import ExitStatus, ServiceRefused
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import JobState, Sandbox
from mwa_client.timing import LAST_POLL, LONGEST_OUTAGE_WAIT
from mwa_client.transfer.events import Setback

T = TypeVar("T")

OBS = 1191828528
OTHER = 1191828584
HOUR = 3600.0
DAY = 24 * HOUR
SIZE = 300_000


EVERY = pytest.mark.parametrize("api", list(ApiVersion), ids=lambda api: api.value)


class Days(FastClock):
    """A clock for days of waiting on which things happen at their time.

    Time passes in the loop alone, and never past a moment for which a worker waits.

    Attributes
    ----------
    leap : float
        How far the wall clock is off.
    waits : list of float
        What the loop has waited, in seconds.
    is_patient : bool
        Do not let time pass while the loop can only wait for its workers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.leap = 0.0
        self.waits: list[float] = []
        self.is_patient = False
        self._plan: list[tuple[float, Callable[[], object]]] = []
        self._sleepers: list[float] = []
        self._moved = threading.Condition()

    def now(self) -> float:
        return super().now() + self.leap

    def monotonic(self) -> float:
        return super().now()

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Let something happen in so many seconds."""
        self._plan.append((self.monotonic() + seconds, action))

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        self.slept.append(seconds)
        with self._moved:
            due = self.monotonic() + seconds
            self._sleepers.append(due)
            while self.monotonic() < due and not stop.is_set():
                self._moved.wait(0.01)
            self._sleepers.remove(due)

    def receive(self, inbox: queue.Queue[T], seconds: float, *, is_coming: bool = False) -> T | None:
        if not is_coming:
            self.waits.append(seconds)
        assert len(self.waits) < 5000, "it waits without end"
        end = self.monotonic() + max(seconds, 0.0)
        while True:
            try:
                return inbox.get(timeout=0.002)
            except queue.Empty:
                pass
            if is_coming or (self.is_patient and not self._sleepers and seconds >= LAST_POLL):
                continue
            with self._moved:
                marks = [*self._sleepers, *(when for when, _ in self._plan), end]
                self.advance(max(min(marks) - self.monotonic(), 0.0))
                self._moved.notify_all()
            for due in [entry for entry in self._plan if entry[0] <= self.monotonic()]:
                self._plan.remove(due)
                due[1]()
            if self.monotonic() >= end:
                return None


@pytest.fixture
def days() -> Days:
    return Days()


@pytest.fixture
def sandbox(days: Days) -> Iterator[Sandbox]:
    """A practice service whose clock is right, whatever that of the client shows."""
    with Sandbox(clock=days.monotonic, product_size=lambda job: SIZE) as sandbox:
        yield sandbox


class Resolver:
    """The system's resolver of host names, which can be cut off. It counts what it is asked."""

    def __init__(self) -> None:
        self.is_gone = False
        self.spares_first = False
        self._first: threading.Thread | None = None
        self.asked = 0
        self._real = socket.getaddrinfo

    def __call__(self, host: Any, *arguments: Any, **options: Any) -> Any:
        self.asked += 1
        asking = threading.current_thread()
        if self._first is None:
            self._first = asking
        if self.is_gone and not (self.spares_first and asking is self._first):
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return self._real(host, *arguments, **options)

    def come_back(self) -> None:
        self.is_gone = False


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return resolver


class Outage:
    """The way to the sandbox, and how it can be barred."""

    def __init__(self, sandbox: Sandbox, resolver: Resolver, kind: str) -> None:
        self._sandbox, self._resolver, self._kind = sandbox, resolver, kind
        self._ports: list[socket.socket] = []
        self.is_on = False

    def begin(self) -> None:
        self.is_on = True
        if self._kind == "page":
            self._sandbox.faults.add("fail_call", status=503)
            return
        urls = (self._sandbox.url, self._sandbox.object_store_url)
        self._sandbox.stop()
        if self._kind == "refused":
            # Bound and not listening: nobody else can take the ports meanwhile.
            self._ports = [socket.socket() for _ in urls]
            for port, url in zip(self._ports, urls):
                port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                port.bind(("127.0.0.1", int(url.rpartition(":")[2])))
        else:
            # Only the names are gone; with them the connections that were open.
            self._sandbox.start()
            self._resolver.is_gone = True

    def end(self) -> None:
        if not self.is_on:
            return
        self.is_on = False
        self._resolver.is_gone = False
        self._sandbox.faults.clear()
        for port in self._ports:
            port.close()
        self._sandbox.start()


KINDS = {"refused": "Cannot connect", "page": "503", "no name": "No such host, or no network"}
"""How a service can be away, and what is said of it."""

KIND = pytest.mark.parametrize("kind", list(KINDS))


@pytest.fixture
def kind() -> str:
    """The kind of outage, where a test does not go through all of them."""
    return "refused"


@pytest.fixture
def outage(sandbox: Sandbox, resolver: Resolver, kind: str) -> Iterator[Outage]:
    outage = Outage(sandbox, resolver, kind)
    yield outage
    outage.end()


def on(kind: type[Event], action: Callable[[], object], times: int = 1) -> Callable[[Event], None]:
    """A listener that acts when something happens for the first time."""
    left = [action] * times

    def listen(event: Event) -> None:
        if isinstance(event, kind) and left:
            left.pop()()

    return listen


def assert_complete(sandbox: Sandbox, run: Run, *obs_ids: int) -> None:
    """Every row is complete, with the bytes of its own job, and there is one job for each."""
    assert run.summary.exit_status is ExitStatus.COMPLETE
    assert [row.row.obs_id for row in run.summary.complete] == list(obs_ids)
    for row in run.summary.complete:
        job = sandbox.service.find(row.row.job_id)
        assert job is not None and int(job.obs_id) == row.row.obs_id
        assert [hashlib.sha1(file.path.read_bytes()).hexdigest() for file in row.files] == [job.sha1]
    assert sorted(int(job.obs_id) for job in sandbox.jobs) == sorted(obs_ids)


def assert_said_once(run: Run, what: str) -> None:
    """One line says that it began, and why; one says that it is over."""
    began, ended = notices(run)
    assert what in began and "until it answers" in began
    assert ended == "The service answers again."
    lines = lines_shown(run.events)
    assert (lines.count(began), lines.count(ended)) == (1, 1)
    assert [line for line in lines if what in line] == [began]


# --- At the very first login --------------------------------------------------------------------------


@EVERY
@KIND
def test_a_service_that_is_down_at_the_start_is_waited_for(
    sandbox: Sandbox, days: Days, tmp_path: Path, outage: Outage, api: ApiVersion, kind: str
) -> None:
    outage.begin()
    days.after(2 * HOUR, outage.end)
    run = run_batch(sandbox, tmp_path, days, vis(OBS), api=api)
    assert_complete(sandbox, run, OBS)
    assert_said_once(run, KINDS[kind])


@EVERY
def test_a_login_that_gets_no_answer_is_waited_for(
    sandbox: Sandbox, days: Days, tmp_path: Path, api: ApiVersion
) -> None:
    fault = sandbox.faults.add("slow", seconds=HOUR, path=LOGIN[api], times=1)
    service = replace(service_of(sandbox, api), call_timeout=0.4)
    run = run_batch(sandbox, tmp_path, days, vis(OBS), service=service)
    assert_complete(sandbox, run, OBS)
    began, ended = notices(run)[:2]
    assert "No answer" in began and "until it answers" in began and ended == "The service answers again."
    assert fault.hits == 1


def test_starts_in_vain_are_not_counted_as_logins(
    sandbox: Sandbox, days: Days, tmp_path: Path, outage: Outage
) -> None:
    service = service_of(sandbox, ApiVersion.V2, tokens=tmp_path / "tokens.json")
    outage.begin()
    for _ in range(8):
        limit = Pacing(give_up_after=1.0)
        run = run_batch(sandbox, tmp_path, days, vis(OBS), service=service, pacing=limit)
        assert "Cannot connect" in notices(run)[0], "and not that there were too many logins"
    outage.end()
    assert_complete(sandbox, run_batch(sandbox, tmp_path, days, vis(OBS), service=service), OBS)


# --- At a submission ----------------------------------------------------------------------------------


@EVERY
def test_an_outage_that_begins_with_a_submission_makes_no_job_twice(
    sandbox: Sandbox, days: Days, tmp_path: Path, api: ApiVersion
) -> None:
    # Login and listing are answered; what comes then is not.
    sandbox.faults.add("fail_call", status=503, skip=2)
    days.after(2 * HOUR, sandbox.faults.clear)
    run = run_batch(sandbox, tmp_path, days, vis(OBS, OTHER), api=api)
    assert_complete(sandbox, run, OBS, OTHER)
    said = notices(run)
    assert "A submission was not answered" in said[0] and "until it answers" in said[1]
    assert said[2:] == ["The service answers again.", "All jobs are submitted now."]
    assert {event.found for event in run.told(Submitted)} == {False}


@EVERY
def test_an_outage_that_swallows_the_reply_to_a_submission_makes_no_job_twice(
    sandbox: Sandbox, days: Days, tmp_path: Path, api: ApiVersion
) -> None:
    sandbox.faults.add("drop_reply", times=1)
    sandbox.faults.add("fail_call", status=502, skip=1, path=LISTING[api])
    days.after(2 * HOUR, sandbox.faults.clear)
    run = run_batch(sandbox, tmp_path, days, vis(OBS), api=api)
    assert_complete(sandbox, run, OBS)
    assert len(asked(sandbox, SUBMISSION[api])) == 1, "it was looked for first, however long that took"
    assert [event.found for event in run.told(Submitted)] == [True]
    assert len(notices(run)) == 4


@EVERY
def test_names_that_are_gone_at_a_submission_are_waited_for(
    sandbox: Sandbox,
    days: Days,
    tmp_path: Path,
    resolver: Resolver,
    api: ApiVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The connections of the listings come about; those of the submissions do not, and none is idle.
    monkeypatch.setattr(SessionPool, "give_back", lambda pool, session, origin: session.close())
    resolver.spares_first = True
    resolver.is_gone = True
    days.after(600.0, resolver.come_back)
    run = run_batch(sandbox, tmp_path, days, vis(OBS, OTHER), api=api)
    assert_complete(sandbox, run, OBS, OTHER)
    began, ended = notices(run)
    assert "A submission was not answered: No such host" in began and ended == "All jobs are submitted now."


# --- While polling ------------------------------------------------------------------------------------


@EVERY
@KIND
def test_six_hours_without_the_service_are_waited_out_and_said_once(
    sandbox: Sandbox,
    days: Days,
    tmp_path: Path,
    outage: Outage,
    resolver: Resolver,
    api: ApiVersion,
    kind: str,
) -> None:
    listed(sandbox)
    tries: list[int] = []

    def begin() -> None:
        outage.begin()
        days.after(6 * HOUR, end)
        tries.append(-count())

    def count() -> int:
        return len(asked(sandbox, LISTING[api])) if kind == "page" else resolver.asked

    def end() -> None:
        tries.append(count())
        outage.end()

    run = run_batch(sandbox, tmp_path, days, vis(OBS), api=api, listen=on(Submitted, begin))
    assert_complete(sandbox, run, OBS)
    assert_said_once(run, KINDS[kind])
    # 4 s, 8 s, 15 s ... 225 s, and then again and again: the clock's chance takes off a quarter.
    assert 95 <= sum(tries) <= 108
    assert max(days.waits) <= LONGEST_OUTAGE_WAIT
    assert not run.told(RowFailed)


@EVERY
def test_a_refusal_in_the_middle_is_an_error_at_once(
    sandbox: Sandbox, days: Days, tmp_path: Path, api: ApiVersion
) -> None:
    listed(sandbox, state=JobState.PROCESSING)
    fault = sandbox.faults.add(
        "fail_call", status=403, body="Your account is closed", path=LISTING[api], skip=5
    )
    with pytest.raises(ServiceRefused, match="Your account is closed") as error:
        run_batch(sandbox, tmp_path, days, vis(OBS), api=api)
    assert error.value.exit_status is ExitStatus.REFUSED and fault.hits == 1


PAGE = "<html><head><title>Sorry</title></head><body><h1>Maintenance</h1></body></html>"


@EVERY
@pytest.mark.parametrize("status", [200, 400, 403, 404])
def test_somebodys_web_page_in_place_of_a_listing_is_waited_out(
    sandbox: Sandbox, days: Days, tmp_path: Path, api: ApiVersion, status: int
) -> None:
    listed(sandbox, state=JobState.PROCESSING)
    sandbox.faults.add("fail_call", status=status, body=PAGE, path=LISTING[api], skip=2, times=3)
    sandbox.faults.add("fail_call", status=status, body='{"error": "No', path=LISTING[api], skip=6, times=1)
    days.after(600.0, lambda: sandbox.service.release(sandbox.jobs[0].id))
    run = run_batch(sandbox, tmp_path, days, vis(OBS), api=api)
    assert_complete(sandbox, run, OBS)
    assert len(sandbox.jobs) == 1 and "The service answers again." in notices(run)


FOREIGN = ("", "null", "[]", "{}", '{"detail": "Not Found"}', '{"message": "no Route matched"}')
"""What gateways, portals and other programs answer."""
IN_PLACE_OF_A_LISTING = [
    *((400, body) for body in FOREIGN),
    *((404, "404 page not found"), (404, '{"error": "not found"}'), (405, "Method Not Allowed")),
]


@EVERY
def test_another_programs_answer_in_place_of_a_listing_is_waited_out(
    sandbox: Sandbox, days: Days, tmp_path: Path, api: ApiVersion
) -> None:
    listed(sandbox, state=JobState.PROCESSING)
    # Each of them twice; there are two good answers before and between.
    faults = [
        sandbox.faults.add(
            "fail_call", status=status, body=body, path=LISTING[api], skip=2 + 4 * place, times=2
        )
        for place, (status, body) in enumerate(IN_PLACE_OF_A_LISTING)
    ]
    days.after(HOUR, lambda: sandbox.service.release(sandbox.jobs[0].id))
    run = run_batch(sandbox, tmp_path, days, vis(OBS), api=api)
    assert_complete(sandbox, run, OBS)
    assert len(sandbox.jobs) == 1 and [fault.hits for fault in faults] == [2] * len(faults)
    assert notices(run).count("The service answers again.") == len(faults)


@EVERY
@pytest.mark.parametrize("body", [PAGE, '{"error": "Your job cannot be submitted as there', *FOREIGN])
def test_somebodys_web_page_in_place_of_an_answer_fails_no_row(
    sandbox: Sandbox, days: Days, tmp_path: Path, api: ApiVersion, body: str
) -> None:
    sandbox.faults.add("fail_call", status=400, body=body, path=SUBMISSION[api], times=2)
    run = run_batch(sandbox, tmp_path, days, vis(OBS, OBS + 8), api=api)
    assert_complete(sandbox, run, OBS, OBS + 8)
    assert len(sandbox.jobs) == 2


@EVERY
@pytest.mark.parametrize("status", [403, 404, 405])
def test_somebodys_web_page_in_place_of_a_second_login_is_waited_out(
    sandbox: Sandbox, days: Days, tmp_path: Path, api: ApiVersion, status: int
) -> None:
    listed(sandbox, state=JobState.PROCESSING)
    sandbox.faults.add("fail_call", status=status, body=PAGE, path=LOGIN[api], skip=1, times=2)
    days.after(300.0, sandbox.service.forget_sessions)
    days.after(1200.0, lambda: sandbox.service.release(sandbox.jobs[0].id))
    run = run_batch(sandbox, tmp_path, days, vis(OBS), api=api)
    assert_complete(sandbox, run, OBS)


@EVERY
def test_a_service_that_comes_and_goes_is_said_each_time(
    sandbox: Sandbox, days: Days, tmp_path: Path, api: ApiVersion
) -> None:
    listed(sandbox, state=JobState.PROCESSING)
    for skip in (1, 2):
        sandbox.faults.add("fail_call", status=503, times=3, skip=skip, path=LISTING[api])
    days.after(600.0, lambda: sandbox.service.release(sandbox.jobs[0].id))
    run = run_batch(sandbox, tmp_path, days, vis(OBS), api=api)
    assert_complete(sandbox, run, OBS)
    began, ended = notices(run)[0::2], notices(run)[1::2]
    assert len(began) == len(ended) == 2
    assert all("503" in text for text in began) and set(ended) == {"The service answers again."}


# --- During a download --------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("kind", ["refused", "no name"])
def test_a_download_goes_on_after_an_outage_where_it_was(
    sandbox: Sandbox, days: Days, tmp_path: Path, outage: Outage, api: ApiVersion, kind: str
) -> None:
    job = listed(sandbox, state=JobState.READY)
    days.is_patient = True
    sandbox.faults.add("cut_product", after=100_000, times=1)

    def begin() -> None:
        outage.begin()
        days.after(600.0, outage.end)

    run = run_batch(sandbox, tmp_path, days, vis(OBS), api=api, listen=on(Setback, begin))
    assert_complete(sandbox, run, OBS)
    (setback,) = run.told(Setback)
    assert (
        setback.waiting == 0.75
        and len([line for line in lines_shown(run.events) if "Continuing" in line]) == 1
    )
    downloads = [request for request in sandbox.requests if request.job_id == job.id and request.range]
    assert [request.range for request in downloads] == ["bytes=100000-"]
    assert 600 < sum(days.slept) < 1000 and len(days.slept) >= 9
    assert notices(run) == []


# --- Sessions -----------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("where", ["listing", "submission", "product"])
def test_a_session_that_expires_is_opened_again_without_a_word(
    sandbox: Sandbox, days: Days, tmp_path: Path, api: ApiVersion, where: str
) -> None:
    path, skip = (SUBMISSION[api], 0) if where == "submission" else (LISTING[api], 1)
    if where == "product":
        listed(sandbox, OBS, state=JobState.READY)
        listed(sandbox, OTHER, state=JobState.READY)
        # Today's products need no session, but a new link does; the service of 2018 sends them itself.
        path, skip = ("/api/download", 0) if api is ApiVersion.V2018 else (path, skip)
        sandbox.faults.add("expired_link", times=1)
    fault = sandbox.faults.add("expire_session", path=path, times=1, skip=skip)
    run = run_batch(sandbox, tmp_path, days, vis(OBS, OTHER), api=api)
    assert_complete(sandbox, run, OBS, OTHER)
    assert fault.hits == 1 and sandbox.logins == 2
    assert notices(run) == [] and not run.told(Setback)


@EVERY
def test_a_session_that_expired_during_an_outage_is_opened_again(
    sandbox: Sandbox, days: Days, tmp_path: Path, outage: Outage, api: ApiVersion
) -> None:
    listed(sandbox)

    def end() -> None:
        outage.end()
        sandbox.service.forget_sessions()

    def begin() -> None:
        outage.begin()
        days.after(HOUR, end)

    run = run_batch(sandbox, tmp_path, days, vis(OBS), api=api, listen=on(Submitted, begin))
    assert_complete(sandbox, run, OBS)
    assert_said_once(run, "Cannot connect")
    assert sandbox.logins == 2


# --- Names that cannot be found -----------------------------------------------------------------------


@pytest.fixture
def command(days: Days, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command, in this process, on the fast clock; nothing in its environment but what a test sets."""
    for name in ("ASVO_USER", "ASVO_PASS", "ASVO_HOST", "ASVO_PORT", "SSL_VERIFY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"MWA_{name}", raising=False)
    for name in ("MWA_ASVO_API_KEY", "MWA_ASVO_HTTPS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for module in ("mwa_client.cli.batch_run", "mwa_client.timing"):  # The first loads what derives from it.
        monkeypatch.setattr(f"{module}.SystemClock", lambda: days)
    (tmp_path / "jobs.csv").write_text(vis(OBS))

    def run(*options: str) -> int:
        return main([f"--csv={tmp_path / 'jobs.csv'}", f"--dir={tmp_path / 'data'}", *options])

    return run


def test_at_the_address_of_2018_a_name_that_is_gone_is_an_error_with_a_remedy(
    command: Callable[..., int],
    days: Days,
    resolver: Resolver,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ASVO_USER", "practice")
    monkeypatch.setenv("ASVO_PASS", "practice")
    resolver.is_gone = True
    assert command() == 2
    said = capsys.readouterr().err
    assert "No such host" in said and "address of 2018" in said and "MWA_ASVO_API_KEY" in said
    assert days.waits == [] and resolver.asked == 2, "the old interface and the new one, each once"


def test_at_the_address_of_today_a_name_that_is_gone_is_waited_for(
    command: Callable[..., int],
    days: Days,
    resolver: Resolver,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MWA_ASVO_API_KEY", "practice-key")
    resolver.is_gone = True
    began = days.monotonic()
    assert command(f"--give-up-after={6 * HOUR}") == 75
    assert days.monotonic() - began == 6 * HOUR
    said = capsys.readouterr()
    assert said.err.count("No such host, or no network: https://asvo.mwatelescope.org:443") == 1
    assert said.err.endswith("The time given with --give-up-after has passed.\n")
    assert "1 pending (run the same command again)" in said.out


def test_the_time_until_the_jobs_of_w_are_known_counts_towards_giving_up(
    command: Callable[..., int], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ASVO_HOST": sandbox.url, "ASVO_USER": "practice", "ASVO_PASS": "practice"}.items():
        monkeypatch.setenv(name, value)
    clock = FastClock()
    for module in ("mwa_client.cli.batch_run", "mwa_client.timing"):
        monkeypatch.setattr(f"{module}.SystemClock", lambda: clock)
    job = listed(sandbox, state=JobState.QUEUED)
    down = sandbox.faults.add("fail_call", path=LISTING[ApiVersion.V2018], times=6)
    began = clock.monotonic()
    assert command("-w", str(job.id), "--no-download", "--give-up-after=900", "--api=2018") == 75
    assert down.hits == 6 and clock.monotonic() - began == pytest.approx(900.0)


def test_a_name_that_does_not_exist_as_a_process(tmp_path: Path) -> None:
    env = environment(
        MWA_ASVO_HOST="https://no-such-host.invalid", MWA_ASVO_API_KEY="practice-key", HOME=str(tmp_path)
    )
    row = f"--job=obs_id={OBS}, job_type=d, download_type=vis"
    done = run_command(row, f"--dir={tmp_path / 'data'}", "--give-up-after=0.1", env=env)
    assert done.returncode == 75, done.stderr
    assert done.stderr.count("No such host, or no network: https://no-such-host.invalid:443") == 1
    assert "--give-up-after" in done.stderr and "run the same command again" in done.stdout


# --- Clocks that jump ---------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("leap", [DAY, -DAY, 10 * DAY], ids=["forwards", "backwards", "far forwards"])
def test_a_wall_clock_that_jumps_changes_nothing(
    sandbox: Sandbox, days: Days, tmp_path: Path, api: ApiVersion, leap: float
) -> None:
    sandbox.service.seconds_per_state = 600.0  # In all longer than the tokens of v2 are good for.
    listed(sandbox, delivery="acacia" if api is ApiVersion.V2 else None)

    def jump() -> None:
        days.leap += leap

    days.after(700.0, jump)
    days.after(1100.0, jump)
    service = service_of(sandbox, api, tokens=tmp_path / "home" / "tokens.json")
    run = run_batch(sandbox, tmp_path / "out", days, vis(OBS), service=service)
    assert_complete(sandbox, run, OBS)
    assert days.leap == 2 * leap and notices(run) == [] and not run.told(Setback)
    assert all(0 <= wait <= LAST_POLL * 1.1 for wait in days.waits) and days.slept == []
    times = [request.started for request in asked(sandbox, LISTING[api]) if request.status == 200]
    assert all(0 < later - earlier <= LAST_POLL * 1.1 for earlier, later in zip(times, times[1:]))
    # The next run finds what it needs, whatever time it is.
    sandbox.reset_log()
    days.leap = -leap
    assert run_batch(sandbox, tmp_path / "out", days, vis(OBS), service=service).summary.exit_status == 0
    assert sandbox.requests == []


@pytest.mark.parametrize("leap", [DAY, -DAY, 10 * DAY], ids=["forwards", "backwards", "far forwards"])
def test_a_wrong_wall_clock_does_not_keep_a_user_of_tokens_out(
    sandbox: Sandbox, days: Days, tmp_path: Path, leap: float
) -> None:
    service = service_of(sandbox, ApiVersion.V2, tokens=tmp_path / "tokens.json")
    for run in range(12):
        days.leap = leap if run % 2 else 0.0
        with closing(open_session(service, clock=days)) as session:
            assert session.jobs() == {}
        days.advance(20.0)
    assert {request.status for request in asked(sandbox, LOGIN[ApiVersion.V2])} == {200}


@EVERY
def test_a_laptop_that_was_asleep_goes_on_polling(
    sandbox: Sandbox, days: Days, tmp_path: Path, outage: Outage, api: ApiVersion
) -> None:
    sandbox.service.seconds_per_state = 1.5 * HOUR

    def sleep() -> None:
        # Nothing of what was open is still open afterwards.
        outage.begin()
        days.advance(5 * HOUR)
        outage.end()

    days.after(1800.0, sleep)
    days.after(6 * HOUR, sleep)
    run = run_batch(sandbox, tmp_path, days, vis(OBS, OTHER), api=api)
    assert_complete(sandbox, run, OBS, OTHER)
    assert notices(run) == [] and not run.told(RowFailed)
    assert all(0 <= wait <= LAST_POLL * 1.1 for wait in days.waits)


@EVERY
def test_a_laptop_that_was_asleep_in_a_download_goes_on_with_it(
    sandbox: Sandbox, days: Days, tmp_path: Path, outage: Outage, api: ApiVersion
) -> None:
    job = listed(sandbox, state=JobState.READY)
    days.is_patient = True
    sandbox.faults.add("cut_product", after=[100_000, 100_000], reset=True)
    run = run_batch(
        sandbox, tmp_path, days, vis(OBS), api=api, listen=on(Setback, lambda: days.advance(30 * HOUR), 2)
    )
    assert_complete(sandbox, run, OBS)
    downloads = [request.range for request in sandbox.requests if request.job_id == job.id and request.range]
    assert downloads == ["bytes=100000-", "bytes=200000-"]


# --- Giving up ----------------------------------------------------------------------------------------


def assert_given_up(run: Run, days: Days, began: float, seconds: float, pending: int = 1) -> None:
    """It ended in time, with no row failed, and says what to do."""
    assert days.monotonic() - began == pytest.approx(seconds, abs=0.01)
    assert run.summary.exit_status is ExitStatus.TRY_AGAIN
    assert len(run.summary.pending) == pending and not run.summary.failed
    *_, why, last = lines_shown(run.events)
    assert why == "The time given with --give-up-after has passed."
    assert f"{pending} pending (run the same command again)" in last


LIMIT = Pacing(give_up_after=1000.0)


@EVERY
def test_giving_up_bounds_an_outage_at_the_start(
    sandbox: Sandbox, days: Days, tmp_path: Path, outage: Outage, api: ApiVersion
) -> None:
    outage.begin()
    began = days.monotonic()
    run = run_batch(sandbox, tmp_path, days, vis(OBS, OTHER), api=api, pacing=LIMIT)
    assert_given_up(run, days, began, 1000.0, pending=2)
    assert len(notices(run)) == 1 and "Cannot connect" in notices(run)[0]
    outage.end()
    assert_complete(sandbox, run_batch(sandbox, tmp_path, days, vis(OBS, OTHER), api=api), OBS, OTHER)


@EVERY
def test_giving_up_bounds_an_outage_at_a_submission(
    sandbox: Sandbox, days: Days, tmp_path: Path, api: ApiVersion
) -> None:
    days.is_patient = True
    fault = sandbox.faults.add("fail_call", status=503, path=SUBMISSION[api])
    began = days.monotonic()
    pacing = replace(LIMIT, poll=30.0)
    run = run_batch(sandbox, tmp_path, days, vis(OBS), api=api, pacing=pacing)
    assert_given_up(run, days, began, 1000.0)
    assert 5 <= fault.hits <= 12 and len(notices(run)) == 1
    sandbox.faults.clear()
    assert_complete(sandbox, run_batch(sandbox, tmp_path, days, vis(OBS), api=api), OBS)


@EVERY
def test_giving_up_after_a_reply_that_was_lost_makes_no_job_twice(
    sandbox: Sandbox, days: Days, tmp_path: Path, api: ApiVersion
) -> None:
    sandbox.faults.add("drop_reply", times=1)
    sandbox.faults.add("fail_call", status=503, skip=1, path=LISTING[api])
    run = run_batch(sandbox, tmp_path, days, vis(OBS), api=api, pacing=LIMIT)
    assert run.summary.exit_status is ExitStatus.TRY_AGAIN and len(sandbox.jobs) == 1
    sandbox.faults.clear()
    assert_complete(sandbox, run_batch(sandbox, tmp_path, days, vis(OBS), api=api), OBS)


@EVERY
def test_giving_up_bounds_an_outage_while_polling(
    sandbox: Sandbox, days: Days, tmp_path: Path, outage: Outage, api: ApiVersion
) -> None:
    listed(sandbox)
    began = days.monotonic()
    begin = on(Submitted, outage.begin)
    run = run_batch(sandbox, tmp_path, days, vis(OBS), api=api, pacing=LIMIT, listen=begin)
    assert_given_up(run, days, began, 1000.0)
    assert len(notices(run)) == 1 and "Cannot connect" in notices(run)[0]
    outage.end()
    assert_complete(sandbox, run_batch(sandbox, tmp_path, days, vis(OBS), api=api), OBS)


@EVERY
def test_giving_up_bounds_a_download_that_keeps_failing(
    sandbox: Sandbox, days: Days, tmp_path: Path, api: ApiVersion
) -> None:
    job = listed(sandbox, state=JobState.READY)
    days.is_patient = True
    sandbox.faults.add("cut_product", after=100_000, times=1)
    sandbox.faults.add("product_status", status=503, skip=1)
    began = days.monotonic()
    limit = Pacing(give_up_after=600.0)
    run = run_batch(sandbox, tmp_path, days, vis(OBS), api=api, pacing=limit)
    assert_given_up(run, days, began, 600.0)
    assert len(run.told(Setback)) == 1 and len(days.slept) >= 8
    (part,) = (tmp_path / ".mwa_client").glob("*.part")
    assert part.stat().st_size == 100_000
    sandbox.faults.clear()
    sandbox.reset_log()
    assert_complete(sandbox, run_batch(sandbox, tmp_path, days, vis(OBS), api=api), OBS)
    ranges = [request.range for request in sandbox.requests if request.job_id == job.id and request.range]
    assert ranges == ["bytes=100000-"]


@pytest.mark.parametrize("path", [LISTING[ApiVersion.V2018], LOGIN[ApiVersion.V2018]])
@pytest.mark.parametrize("what", [f"--job=obs_id={OBS}, job_type=d, download_type=vis", "-w=all"])
def test_giving_up_does_not_wait_for_an_answer(tmp_path: Path, path: str, what: str) -> None:
    with Sandbox(seconds_per_state=0, product_size=lambda job: 10) as sandbox:
        sandbox.faults.add("slow", path=path, seconds=60.0)
        words = what.split("=", 1) if what.startswith("-w") else [what]
        began = time.monotonic()
        done = run_command(*words, f"--dir={tmp_path}", "--give-up-after=0.5", env=environment(sandbox))
        took = time.monotonic() - began
    assert done.returncode == 75 and "--give-up-after" in done.stderr, done.stderr
    # A few seconds on a busy machine, and not the minute that the answer takes.
    assert took < 30.0


def test_giving_up_as_a_process(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        env = environment(ASVO_HOST=url, ASVO_USER="practice", ASVO_PASS="practice", HOME=str(tmp_path))
        row = f"--job=obs_id={OBS}, job_type=d, download_type=vis"
        done = run_command(row, f"--dir={tmp_path / 'data'}", "--give-up-after=0.1", env=env)
    assert done.returncode == 75, done.stderr
    assert done.stderr.count(f"Cannot connect to {url}") == 1
    assert "--give-up-after" in done.stderr and "1 pending (run the same command again)" in done.stdout
