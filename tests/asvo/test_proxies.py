"""Proxies and certificates: whose fault it is, where to look, and what is worth waiting for."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Callable

import pytest
import trustme
from shared import FastClock, environment, run_command

from mwa_client.asvo.http import HttpClient
from mwa_client.asvo.proxies import Proxy, is_on_this_machine
from mwa_client.errors import MwaClientError, ServiceRefused, ServiceUnavailable, ServiceUnreachable
from mwa_client.sandbox import Sandbox

SERVICE = "https://asvo.example:443"
PLAIN = "http://asvo.example:8778"
SECRET = "s3cr3t"
LISTING = "/api/get_jobs"

Serve = Callable[[socket.socket, bytes], None]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.lower().endswith("_proxy") or name.endswith("_CA_BUNDLE") or name == "SSL_CERT_FILE":
            monkeypatch.delenv(name)


@contextmanager
def proxy_that(serve: Serve, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A proxy that does something with each request; yield its host and port."""

    def work(connection: socket.socket) -> None:
        try:
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True)
            with connection:
                serve(connection, head_from(connection))
        except OSError:
            connection.close()

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=work, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def head_from(connection: socket.socket) -> bytes:
    """Receive a request's head. Python 3.9 sends the lines of a CONNECT one by one."""
    head = connection.recv(1 << 16)
    while head.startswith(b"CONNECT ") and b"\r\n\r\n" not in head:
        more = connection.recv(1 << 16)
        if not more:
            break
        head += more
    return head


def says(answer: bytes) -> Serve:
    return lambda connection, request: connection.sendall(answer)


def refuses(status: int) -> Serve:
    return says(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())


def leads_to(target: tuple[str, int]) -> Serve:
    """Open a way to somewhere, whatever was asked for."""

    def serve(connection: socket.socket, request: bytes) -> None:
        assert request.startswith(b"CONNECT asvo.example:443 ")
        with socket.create_connection(target) as there:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 squid\r\n\r\n")
            back = threading.Thread(target=copy, args=(there, connection), daemon=True)
            back.start()
            copy(connection, there)
            back.join(5)

    return serve


def copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def port_of(sandbox: Sandbox) -> int:
    return int(sandbox.url.rpartition(":")[2])


def ask(address: str = SERVICE, *, verify: bool | str = True, timeout: float = 5.0, times: int = 1) -> object:
    wire = HttpClient(address, verify=verify, timeout=timeout, stall=timeout, user_agent="test")
    with closing(wire):
        for _ in range(times):
            reply = wire.call("GET", LISTING, query={"token": SECRET})
    return reply


@contextmanager
def fails(kind: type[MwaClientError], *words: str) -> Iterator[None]:
    with pytest.raises(MwaClientError) as caught:
        yield
    error = caught.value
    assert type(error) is kind
    for word in words:
        assert word in str(error), str(error)
    assert SECRET not in f"{error} {error!r}"


@pytest.fixture(params=["user:s3cr3t@", "user:p@ss/s3cr3t@", "s3cr3t@", ""])
def account(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- A proxy that does not do its work ----------------------------------------------------------------


@pytest.mark.parametrize("status", [407, 400, 401, 403, 404, 405])
def test_a_proxy_that_refuses_will_refuse_again(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with proxy_that(refuses(status)) as place:
        monkeypatch.setenv("https_proxy", f"http://user:{SECRET}@{place}")
        with fails(ServiceRefused, place, "https_proxy", f"HTTP {status}"):
            ask()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_proxy_that_cannot_get_through_now_may_later(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with proxy_that(refuses(status)) as place:
        monkeypatch.setenv("ALL_PROXY", f"http://user:{SECRET}@{place}")
        with fails(ServiceUnreachable, place, "all_proxy", f"HTTP {status}"):
            ask()


def test_a_proxy_that_wants_a_name_for_a_plain_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy_that(refuses(407)) as place:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:{SECRET}@{place}")
        with fails(ServiceRefused, place, "http_proxy", "name and password"):
            ask(PLAIN)


def test_a_proxy_that_knew_the_name_before_may_know_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]"])
    forgets = b"HTTP/1.1 407 X\r\nContent-Length: 0\r\n\r\n"
    with proxy_that(lambda connection, request: connection.sendall(next(answers, forgets))) as place:
        monkeypatch.setenv("all_proxy", f"http://user:{SECRET}@{place}")
        with closing(HttpClient(PLAIN, verify=True, timeout=5.0, stall=5.0, user_agent="test")) as wire:
            assert wire.call("GET", LISTING) == []
            with fails(ServiceUnreachable, place, "all_proxy", "name and password"):
                wire.call("GET", LISTING)
            # In a tunnel, too.
            with fails(ServiceUnreachable, place, "all_proxy", "name and password"):
                wire.open_url(f"{SERVICE}/x", {})


@pytest.mark.parametrize("status", [502, 503, 403])
def test_what_comes_through_a_proxy_is_said_to(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with proxy_that(refuses(status)) as place:
        monkeypatch.setenv("http_proxy", f"http://user:{SECRET}@{place}")
        with fails(ServiceRefused if status == 403 else ServiceUnavailable, place, "http_proxy"):
            ask(PLAIN)


@pytest.mark.parametrize("address", [SERVICE, PLAIN])
def test_a_proxy_that_is_down(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("all_proxy", f"http://user:{SECRET}@{place}")
        with fails(ServiceUnreachable, f"proxy {place} (all_proxy) does not answer (connection refused)"):
            ask(address)


@pytest.mark.parametrize("address", [SERVICE, PLAIN])
def test_a_proxy_that_does_not_exist(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("all_proxy", f"http://user:{SECRET}@no-such-proxy.invalid:3128")
    with fails(ServiceRefused, "no-such-proxy.invalid:3128 (all_proxy) cannot be found"):
        ask(address)


@pytest.mark.parametrize(
    "proxy",
    [
        "foo://{}proxy:3128",
        "http://{}proxy:99999",
        "http://{}proxy:port",
        "http://{}",
        "http://{}[",
        "http://{}pro xy:3128",
        "{}proxy:0",
        "file:///{}etc/passwd",
        "socks9://{}proxy:1",
    ],
)
def test_what_is_no_address_of_a_proxy(monkeypatch: pytest.MonkeyPatch, proxy: str, account: str) -> None:
    monkeypatch.setenv("https_proxy", proxy.format(account))
    with fails(ServiceRefused, "https_proxy"):
        ask()


def test_a_proxy_that_needs_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "socks", None)
    monkeypatch.setattr("requests.adapters.SOCKSProxyManager", _no_socks)
    monkeypatch.setenv("https_proxy", f"socks5://user:{SECRET}@127.0.0.1:1080")
    with fails(ServiceRefused, "PySocks", "127.0.0.1:1080 (https_proxy)"):
        ask()


def _no_socks(*arguments: object, **options: object) -> object:
    from requests.exceptions import InvalidSchema

    raise InvalidSchema("Missing dependencies for SOCKS support.")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"\0" * 99,
    ],
)
def test_a_proxy_that_answers_nonsense(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    with proxy_that(says(answer)) as place:
        monkeypatch.setenv("https_proxy", f"http://user:{SECRET}@{place}")
        with pytest.raises(ServiceUnavailable) as caught:
            ask()
    assert place in caught.value.what and SECRET not in str(caught.value)


def test_a_proxy_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def drip(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not over.wait(0.02):
            connection.sendall(b"A: b\r\n")

    with proxy_that(drip) as place:
        monkeypatch.setenv("https_proxy", f"http://user:{SECRET}@{place}")
        with fails(ServiceUnreachable, place, "no answer in time"):
            ask(timeout=0.3)
        over.set()


def test_a_handshake_behind_a_proxy_has_the_same_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def silent(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        over.wait(10)

    with proxy_that(silent) as place:
        monkeypatch.setenv("https_proxy", f"http://{place}")
        with pytest.raises(ServiceUnavailable, match="asvo.example"):  # noqa: RUF043
            ask(timeout=0.3)
        over.set()


# --- Encrypted where it should not be, and the other way round ----------------------------------------


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def server_side(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def bundle_of(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


@pytest.mark.parametrize("address", [SERVICE, PLAIN])
def test_a_plain_proxy_that_is_spoken_to_encrypted(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    with proxy_that(refuses(400)) as place:
        monkeypatch.setenv("all_proxy", f"https://user:{SECRET}@{place}")
        with fails(ServiceRefused, place, "all_proxy", "does not use encryption", "http://"):
            ask(address)


def test_a_proxy_with_a_certificate_of_nobody(monkeypatch: pytest.MonkeyPatch, authority: trustme.CA) -> None:
    with proxy_that(refuses(400), server_side(authority, "127.0.0.1")) as place:
        monkeypatch.setenv("https_proxy", f"https://user:{SECRET}@{place}")
        with fails(ServiceRefused, f"certificate of the proxy {place} (https_proxy)"):
            ask()


ALERT = b"\x15\x03\x01\x00\x02\x02\x46"


def test_an_encrypted_proxy_that_is_spoken_to_in_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy_that(says(ALERT)) as place:
        monkeypatch.setenv("https_proxy", f"http://user:{SECRET}@{place}")
        with fails(ServiceRefused, place, "https_proxy", "accepts only encrypted connections", "https://"):
            ask()


def test_an_encrypted_service_that_is_spoken_to_in_plain() -> None:
    with (
        proxy_that(says(ALERT)) as place,
        fails(ServiceRefused, place, "accepts only encrypted connections", "https://"),
    ):
        ask(f"http://{place}")


def test_a_plain_service_that_is_spoken_to_encrypted() -> None:
    with (
        proxy_that(refuses(400)) as place,
        fails(ServiceRefused, place, "does not use encryption", "http://"),
    ):
        ask(f"https://{place}")


def test_a_service_that_has_answered_before_is_waited_for() -> None:
    answers = iter([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]", ALERT])
    with proxy_that(lambda connection, request: connection.sendall(next(answers))) as place:  # noqa: SIM117
        with fails(ServiceUnavailable, place):
            ask(f"http://{place}", times=2)


# --- A proxy that does its work -----------------------------------------------------------------------


def test_through_a_proxy_to_an_encrypted_service(
    monkeypatch: pytest.MonkeyPatch, authority: trustme.CA, tmp_path: Path, clock: FastClock
) -> None:
    context = server_side(authority, "asvo.example")
    with Sandbox(clock=clock.now, ssl_context=context) as sandbox:  # noqa: SIM117
        with proxy_that(leads_to(("127.0.0.1", port_of(sandbox)))) as place:
            monkeypatch.setenv("https_proxy", f"http://user:{SECRET}@{place}")
            wire = HttpClient(
                SERVICE, verify=bundle_of(authority, tmp_path), timeout=5, stall=5, user_agent="test"
            )
            with closing(wire):
                wire.login("/api/login", ("practice", "practice"))
                assert wire.call("GET", LISTING) == []
                wire.close()
            with fails(ServiceRefused, "certificate of https://asvo.example:443"):
                ask()


def test_an_encrypted_proxy_to_an_encrypted_service(
    monkeypatch: pytest.MonkeyPatch, authority: trustme.CA, tmp_path: Path, clock: FastClock
) -> None:
    with Sandbox(clock=clock.now, ssl_context=server_side(authority, "asvo.example")) as sandbox:
        way = leads_to(("127.0.0.1", port_of(sandbox)))
        with proxy_that(way, server_side(authority, "127.0.0.1")) as place:
            monkeypatch.setenv("https_proxy", f"https://user:{SECRET}@{place}")
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle_of(authority, tmp_path))
            with closing(HttpClient(SERVICE, verify=True, timeout=5, stall=5, user_agent="test")) as wire:
                wire.login("/api/login", ("practice", "practice"))
                assert wire.call("GET", LISTING) == []


# --- This machine is never asked for through a proxy --------------------------------------------------


def test_the_sandbox_is_not_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch, clock: FastClock) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Sandbox(clock=clock.now, user="practice", password="practice") as sandbox:
        for host in ("127.0.0.1", "localhost"):
            with closing(
                HttpClient(
                    f"http://{host}:{port_of(sandbox)}", verify=True, timeout=5, stall=5, user_agent="t"
                )
            ) as wire:
                wire.login("/api/login", ("practice", "practice"))
                assert wire.call("GET", LISTING) == []


def test_the_first_command_of_the_readme_works_behind_a_proxy(tmp_path: Path) -> None:
    env = environment(http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9", ALL_PROXY="foo://x")
    row = "--job=obs_id=1191828584, job_type=d, download_type=vis"
    done = run_command("--sandbox", row, f"--dir={tmp_path}", "--submit-only", env=env)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.9.9.9",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "[::1]",
        "::1",
        "[::ffff:127.0.0.1]",
    ],
)
def test_this_machine(host: str) -> None:
    assert is_on_this_machine(host)


@pytest.mark.parametrize(
    "host", ["128.0.0.1", "asvo.example", "localhost.example", "notlocalhost", "[::2]", "0", ""]
)
def test_another_machine(host: str) -> None:
    assert not is_on_this_machine(host)


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("http://proxy.example:3128", "proxy.example:3128"),
        ("proxy.example:3128", "proxy.example:3128"),
        ("http://u:p@proxy.example:3128/", "proxy.example:3128"),
        ("u:p@proxy.example", "proxy.example"),
        ("http://u:a@b://c@proxy.example:1?x", "proxy.example:1"),
        ("HTTPS://[::1]:3128", "[::1]:3128"),
        ("socks5h://u:p@proxy:1080", "proxy:1080"),
    ],
)
def test_what_is_shown_of_a_proxy(proxy: str, shown: str) -> None:
    found = Proxy.of("https://asvo.example/x?Signature=y", {"https": proxy, "all": "http://other:1"})
    assert found is not None and str(found) == f"the proxy {shown} (https_proxy)"
    assert "u:" not in f"{found!r} {found.hint}"


def test_which_proxy_is_chosen() -> None:
    both = {"http": "http://plain:1", "all": "http://all:2"}
    assert str(Proxy.of("http://asvo.example/x", both)) == "the proxy plain:1 (http_proxy)"
    assert str(Proxy.of("https://asvo.example/x", both)) == "the proxy all:2 (all_proxy)"
    assert Proxy.of("https://asvo.example/x", {"http": "http://plain:1"}) is None


# --- Authorities --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("what", ["garbage", "empty", "binary", "missing", "fifo", "dots"])
def test_a_bundle_that_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, what: str, authority: trustme.CA
) -> None:
    bundle = tmp_path / "ca.pem"
    if what == "fifo":
        os.mkfifo(bundle)
    elif what != "missing":
        bundle.write_bytes(
            {
                "garbage": b"no certificate",
                "empty": b"",
                "binary": b"\0" * 999,
                "dots": b"-----BEGIN CERTIFICATE-----\n...",
            }[what]
        )
    monkeypatch.setenv(name, str(bundle))
    with proxy_that(refuses(200), server_side(authority, "127.0.0.1")) as place:  # noqa: SIM117
        with fails(ServiceRefused, name, "CA certificates"):
            ask(f"https://{place}")
    # It is of no matter where nothing is encrypted.
    with proxy_that(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")) as place:
        assert ask(f"http://{place}") == []


def test_a_directory_of_authorities_without_any(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: trustme.CA
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    with proxy_that(refuses(200), server_side(authority, "127.0.0.1")) as place:  # noqa: SIM117
        with fails(ServiceRefused, f"certificate of https://{place}", "REQUESTS_CA_BUNDLE"):
            ask(f"https://{place}")


def test_a_bundle_that_others_use_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: trustme.CA
) -> None:
    (tmp_path / "garbage.pem").write_text("no certificate", encoding="utf-8")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "garbage.pem"))
    answer = says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
    with proxy_that(answer, server_side(authority, "127.0.0.1")) as place:
        assert ask(f"https://{place}", verify=bundle_of(authority, tmp_path)) == []
        with fails(ServiceRefused, "cannot be verified"):
            ask(f"https://{place}")
