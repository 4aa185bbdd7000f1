"""Which interface a server speaks, and with which credentials."""

from __future__ import annotations

import base64
import socket
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from interface_steps import EXAMPLE, OTHER, TODAY, VISIBILITIES, session_with
from shared import (
    LOGIN,
    FastClock,
    asked,
    command,
    environment,
    listed,
    run_batch,
    run_command,
    service_of,
)

from mwa_client.asvo import open_session
from mwa_client.asvo.service import Credentials, Service
from mwa_client.asvo.tokens import LOGINS_A_MINUTE
from mwa_client.asvo.variables import services_from
from mwa_client.errors import (
    ExitStatus,
    LoginRefused,
    ServiceMoved,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnreachable,
    WrongInterface,
)
from mwa_client.jobs.keys import ApiVersion, JobType
from mwa_client.sandbox import Sandbox

# --- Which interface ----------------------------------------------------------------------------------


@pytest.fixture
def deserted() -> str:
    """An address at which nobody listens."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def both(sandbox: Sandbox, **options: Any) -> tuple[Service, Service]:
    return service_of(sandbox, ApiVersion.V2, **options), service_of(sandbox, ApiVersion.V1, **options)


@pytest.mark.parametrize(
    ("apis", "found"),
    [
        (("v1",), ApiVersion.V1),
        (("2018", "v1"), ApiVersion.V1),
        (("v1", "v2"), ApiVersion.V2),
        (("v2",), ApiVersion.V2),
    ],
)
def test_a_key_finds_its_interface(
    clock: FastClock, tmp_path: Path, apis: tuple[str, ...], found: ApiVersion
) -> None:
    with Sandbox(clock=clock.now, apis=apis) as sandbox:
        job = listed(sandbox)
        with closing(open_session(*both(sandbox), clock=clock)) as session:
            assert list(session.jobs()) == [job.id]
            assert session.api is found
            sandbox.service.forget_sessions()
            assert list(session.jobs()) == [job.id]
        tried = [request.path for request in sandbox.requests if "login" in request.path]
    assert tried == ([LOGIN[ApiVersion.V2]] if found is ApiVersion.V1 else []) + [LOGIN[found]] * 2, (
        "it was found out once"
    )


def test_405_means_the_other_interface_too(sandbox: Sandbox, clock: FastClock) -> None:
    sandbox.faults.add("fail_call", path=LOGIN[ApiVersion.V2], status=405)
    with closing(open_session(*both(sandbox), clock=clock)) as session:
        session.login()
        assert session.api is ApiVersion.V1


def test_asking_for_the_interface_is_no_login(clock: FastClock, tmp_path: Path) -> None:
    """A server of v1 counts no logins of v2; many runs in a minute need not wait."""
    with Sandbox(clock=clock.now, apis=("v1",)) as sandbox:
        for _ in range(LOGINS_A_MINUTE + 3):
            with closing(
                open_session(*both(sandbox, tokens=tmp_path / "tokens.json"), clock=clock)
            ) as session:
                session.login()
                assert session.api is ApiVersion.V1


@pytest.mark.parametrize("status", [500, 503])
def test_a_service_in_trouble_is_not_taken_for_another_interface(
    sandbox: Sandbox, clock: FastClock, status: int
) -> None:
    sandbox.faults.add("fail_call", path=LOGIN[ApiVersion.V2], status=status, times=1)
    session = open_session(*both(sandbox), clock=clock)
    with closing(session), pytest.raises(ServiceUnavailable):
        session.login()
        session.login()
        assert session.api is ApiVersion.V2


def of_2018(address: str) -> Service:
    return Service(
        ApiVersion.V2018, address, "practice.example", Credentials("practice", "practice"), is_default=True
    )


def test_where_2018_is_gone_the_user_logs_in_to_v2(sandbox: Sandbox, clock: FastClock, deserted: str) -> None:
    by_user = replace(service_of(sandbox, ApiVersion.V2), credentials=Credentials("practice", "practice"))
    with closing(open_session(of_2018(deserted), by_user, clock=clock)) as session:
        session.login()
        assert session.api is ApiVersion.V2
        assert session.submit(JobType.DOWNLOAD, VISIBILITIES).job_id == sandbox.jobs[0].id
    (login,) = asked(sandbox, "/api/v2/login")
    assert login.json == {"username": "practice", "password": "practice"}


def by_account(sandbox: Sandbox) -> dict[str, str]:
    return {"ASVO_HOST": sandbox.url, "ASVO_USER": "practice", "ASVO_PASS": "practice"}


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_that_knows_no_2018_login_is_asked_for_that_of_v2(
    sandbox: Sandbox, clock: FastClock, status: int
) -> None:
    sandbox.faults.add("fail_call", path=LOGIN[ApiVersion.V2018], status=status)
    with closing(open_session(*services_from(by_account(sandbox)), clock=clock)) as session:
        session.login()
        assert session.api is ApiVersion.V2
    assert [request.path for request in sandbox.requests] == [LOGIN[ApiVersion.V2018], "/api/v2/login"]
    # By hand it is that interface or none.
    by_hand = open_session(*services_from(by_account(sandbox), ApiVersion.V2018), clock=clock)
    with closing(by_hand), pytest.raises(WrongInterface, match="does not offer the 2018 interface") as error:
        by_hand.login()
    assert error.value.status == status and "--api" in error.value.remedy


@pytest.mark.parametrize("status", [401, 500, 503])
def test_a_server_that_knows_2018_is_not_asked_for_v2(
    sandbox: Sandbox, clock: FastClock, status: int
) -> None:
    sandbox.faults.add("fail_call", path=LOGIN[ApiVersion.V2018], status=status)
    session = open_session(*services_from(by_account(sandbox)), clock=clock)
    with closing(session), pytest.raises((LoginRefused, ServiceUnavailable)):
        session.login()
    assert [request.path for request in sandbox.requests] == [LOGIN[ApiVersion.V2018]]


TODAYS_ROW = f"obs_id={OTHER}, job_type=d, download_type=vis, delivery=scratch"


def test_rows_are_judged_by_the_interface_that_answers(tmp_path: Path) -> None:
    row = (f"--job={TODAYS_ROW}", "--dir", tmp_path / "out", "--poll", "0.05", "--submit-only")
    with Sandbox(apis=("v2",)) as sandbox:
        env = environment(sandbox, HOME=str(tmp_path))
        done = run_command(*row, env=env)
        assert done.returncode == 0, done.stderr
        assert [job.delivery for job in sandbox.jobs] == ["scratch"]
        checked = run_command(row[0], "--check", env=env)
        assert checked.returncode == 0, checked.stderr
        by_hand = run_command(*row, "--api", "2018", env=env)
        assert by_hand.returncode == 3 and "the 2018 interface cannot do this" in by_hand.stderr
    with Sandbox() as sandbox:
        env = environment(sandbox, HOME=str(tmp_path))
        late = subprocess.run(command(*row, "--json"), env=env, capture_output=True, text=True, timeout=15)
        assert late.returncode == 3 and not sandbox.jobs
        lines = late.stderr.splitlines()
        assert [line.partition(": ")[0] for line in lines] == ["row:1", "Error"], "as compilers print them"
        assert all("the 2018 interface cannot do this" in line for line in lines)
    with_typo = run_command(f"{row[0]}, fromat=tar", "--check", env=environment())
    assert with_typo.returncode == 3 and "fromat: no such key" in with_typo.stderr
    assert "cannot do this" not in with_typo.stderr, "only what is wrong wherever it is sent"


def test_a_server_of_v1_alone_wants_a_key(clock: FastClock) -> None:
    with Sandbox(clock=clock.now, apis=("v1",)) as sandbox:
        session = open_session(*services_from(by_account(sandbox)), clock=clock)
        with closing(session), pytest.raises(WrongInterface, match="2018 interface") as error:
            session.login()
    assert "MWA_ASVO_API_KEY" in error.value.remedy and error.value.exit_status is ExitStatus.REFUSED


@pytest.mark.parametrize(("first", "then"), [("account", "key"), ("key", "account")])
@pytest.mark.parametrize("todays", ["v1", "v2"])
def test_what_is_complete_is_complete_whichever_interface_is_expected(
    tmp_path: Path, todays: str, first: str, then: str
) -> None:
    speaks = ("v1", "2018") if todays == "v1" else ("v2",)
    with Sandbox(seconds_per_state=0, product_size=lambda job: 3000 + job.id, apis=speaks) as sandbox:
        key = {"MWA_ASVO_HOST": sandbox.url, "MWA_ASVO_API_KEY": "practice-key"}
        ways = {"account": environment(sandbox), "key": {**environment(), **key}}
        options = ("--csv", EXAMPLE, "--dir", tmp_path / "out", "--poll", "0.05")
        done = run_command(*options, env={**ways[first], "HOME": str(tmp_path)})
        assert done.returncode == 0, done.stderr
        assert len(sandbox.jobs) == 3
        sandbox.reset_log()
        again = run_command(*options, env={**ways[then], "HOME": str(tmp_path)})
        assert again.returncode == 0, again.stderr
        assert sandbox.requests == []


def test_where_nobody_is_left_the_key_is_named(clock: FastClock, deserted: str) -> None:
    todays = replace(of_2018(deserted), api=ApiVersion.V2)
    session = open_session(of_2018(deserted), todays, clock=clock)
    with closing(session), pytest.raises(ServiceMoved) as error:
        session.login()
    assert "MWA_ASVO_API_KEY" in error.value.remedy and error.value.exit_status is ExitStatus.REFUSED


def test_todays_service_is_waited_for(clock: FastClock, deserted: str) -> None:
    todays = replace(of_2018(deserted), api=ApiVersion.V2, credentials=Credentials(key="practice-key"))
    session = open_session(todays, replace(todays, api=ApiVersion.V1), clock=clock)
    with closing(session), pytest.raises(ServiceUnreachable):
        session.login()


# --- Credentials --------------------------------------------------------------------------------------


@TODAY
def test_a_wrong_key(sandbox: Sandbox, clock: FastClock, tmp_path: Path, api: ApiVersion) -> None:
    service = service_of(sandbox, api, key="wrong-key-QZX9")
    with pytest.raises(LoginRefused) as error:
        run_batch(sandbox, tmp_path, clock, service=service)
    assert error.value.exit_status is ExitStatus.REFUSED and "MWA_ASVO_API_KEY" in error.value.remedy
    assert "QZX9" not in f"{error.value!r} {error.value}"
    assert len(sandbox.requests) == 1, "once, and no other interface"


def test_a_wrong_key_is_not_tried_at_the_next_interface(sandbox: Sandbox, clock: FastClock) -> None:
    session = open_session(*both(sandbox, key="wrong-key-QZX9"), clock=clock)
    with closing(session), pytest.raises(LoginRefused):
        session.login()
    assert [request.path for request in sandbox.requests] == [LOGIN[ApiVersion.V2]]


def test_a_wrong_key_as_a_command(sandbox: Sandbox, tmp_path: Path) -> None:
    env = environment(MWA_ASVO_HOST=sandbox.url, MWA_ASVO_API_KEY="wrong-key-QZX9", HOME=str(tmp_path))
    done = run_command("--csv", EXAMPLE, "--dir", tmp_path / "out", "-v", env=env)
    assert done.returncode == 2
    assert "MWA_ASVO_API_KEY" in done.stderr and "QZX9" not in done.stdout + done.stderr


@TODAY
def test_a_client_that_the_service_does_not_know(sandbox: Sandbox, clock: FastClock, api: ApiVersion) -> None:
    sandbox.faults.add("unknown_client", name="mantaray*")
    with session_with(sandbox, api, clock) as session, pytest.raises(ServiceRefused) as error:
        session.login()
    assert "mantaray-clientv2.0 is not supported" in error.value.what
    assert error.value.exit_status is ExitStatus.REFUSED


@TODAY
@pytest.mark.parametrize("name", ["mantaray-clientv2.0", "giant-squidv2.5.1", "own_client"])
def test_the_service_is_told_the_clients_name(
    sandbox: Sandbox, clock: FastClock, api: ApiVersion, name: str
) -> None:
    service = replace(service_of(sandbox, api), client_name=name)
    with closing(open_session(service, clock=clock)) as session:
        session.login()
    (login,) = asked(sandbox, LOGIN[api])
    if api is ApiVersion.V1:
        told = base64.b64decode(login.headers["Authorization"].split()[1]).decode()
        assert told == f"{name}:practice-key" and not login.form
    else:
        assert login.json == {"login": name, "password": "practice-key"}
        assert login.headers.get("Authorization") is None
