"""What compare.py fetches from: nginx with files, a line to it that is slow, and the practice service.

All of it listens on 127.0.0.1 alone, on free ports, without root, and ends where the ``with`` ends.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trustme

from mwa_client.sandbox import Interface, JobType, Sandbox
from mwa_client.sandbox.products import Content

HERE = "127.0.0.1"
NGINX = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 256; }}
http {{
    sendfile on;
    default_type application/x-tar;
    log_format sizes "$body_bytes_sent";
    access_log {folder}/access.log sizes;  # A line a request is all that it costs.
    client_body_temp_path {folder}/client;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    root {folder}/files;
    server {{ listen {here}:{http}; }}
    server {{
        listen {here}:{https} ssl;
        ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.pem;
    }}
}}
"""


@dataclass(frozen=True)
class File:
    """A file that nginx has."""

    name: str
    size: int
    sha1: str


@dataclass(frozen=True)
class Nginx:
    """A web server, and where it keeps its things.

    Attributes
    ----------
    http, https : str
        Its addresses.
    authority : Path
        Whom to trust, so that its certificate is good.
    """

    folder: Path
    http: str
    https: str
    authority: Path

    def file(self, size: int, number: int = 0) -> File:
        """Return a file of so many bytes, made when it is first asked for; another number, other bytes."""
        name = f"product_{size}_{number}.tar"
        path, note = self.folder / "files" / name, self.folder / f"{name}.sha1"
        if not note.exists():
            digest = hashlib.sha1(usedforsecurity=False)
            with path.open("wb") as file:
                for piece in Content(f"benchmark {number}", size).pieces():
                    digest.update(piece)
                    file.write(piece)
            note.write_text(digest.hexdigest(), encoding="ascii")
        return File(name, size, note.read_text(encoding="ascii"))

    def forget_sent(self) -> None:
        """Begin to count anew what is sent."""
        time.sleep(0.5)  # It notices only then that a request was dropped.
        (self.folder / "access.log").write_text("", encoding="ascii")

    def sent(self) -> int:
        """Return how many bytes of files were sent."""
        time.sleep(0.5)  # It notes a request after its last byte.
        return sum(map(int, (self.folder / "access.log").read_text(encoding="ascii").split()))


@contextmanager
def nginx(folder: Path) -> Iterator[Nginx]:
    """Run nginx as a process of the user's own, with its things in a folder."""
    (folder / "files").mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    authority.issue_cert(HERE).private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    http, https = _free_ports(2)
    config = folder / "nginx.conf"
    user = "" if os.geteuid() else "user root;"  # Or it would become one who may not see the files.
    text = NGINX.format(user=user, folder=folder, here=HERE, http=http, https=https)
    config.write_text(text, encoding="utf-8")
    with subprocess.Popen(["nginx", "-c", str(config), "-e", str(folder / "error.log")]) as process:
        try:
            _wait_for(http)
            yield Nginx(folder, f"http://{HERE}:{http}", f"https://{HERE}:{https}", folder / "authority.pem")
        finally:
            process.terminate()


class SlowLine:
    """A way to a server on which each connection has the same rate, whatever it is used for.

    nginx has ``limit_rate``, but that is for each request, and its waits come on top of what the sending
    takes: on a busy machine it gives half of what it says. Here the kernel sees to it; Linux alone does.

    Parameters
    ----------
    address : str
        Address of the server.
    rate : int
        Bytes a second for each connection.

    Attributes
    ----------
    address : str
        Where to connect to.
    most : int
        How many connections there were at once.
    passed : int
        How many bytes came from the server.
    """

    SO_MAX_PACING_RATE = 47
    """From Linux's headers; Python does not have it."""

    def __init__(self, address: str, rate: int) -> None:
        self._to = (HERE, int(address.rpartition(":")[2]))
        self._rate = rate
        self._listener = socket.create_server((HERE, 0))
        self.address = f"http://{HERE}:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._open = self.most = self.passed = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # That is how it is closed.
            while True:
                near, _ = self._listener.accept()
                near.setsockopt(socket.SOL_SOCKET, self.SO_MAX_PACING_RATE, self._rate)
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        self._count(1)
        with suppress(OSError), near, socket.create_connection(self._to) as far:  # There may be nobody.
            asks = threading.Thread(target=_pass_on, args=(near, far), daemon=True)
            asks.start()
            _pass_on(far, near, self._note_passed)
            asks.join()
        self._count(-1)

    def _note_passed(self, count: int) -> None:
        with self._lock:
            self.passed += count

    def _count(self, change: int) -> None:
        with self._lock:
            self._open += change
            self.most = max(self.most, self._open)


@contextmanager
def slow_line(address: str, rate: int) -> Iterator[SlowLine]:
    """Open a slow line to a server."""
    with closing(SlowLine(address, rate)) as line:
        yield line


def _pass_on(
    source: socket.socket, sink: socket.socket, note: Callable[[int], None] = lambda count: None
) -> None:
    """Pass bytes on until one of the two is closed, then close the other."""
    buffer = memoryview(bytearray(1 << 18))
    with suppress(OSError):
        while True:
            count = source.recv_into(buffer)
            if not count:
                break
            sink.sendall(buffer[:count])
            note(count)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def list_job(sandbox: Sandbox, address: str, file: File, obs_id: int = 1191828584) -> str:
    """Put a finished job into the service whose product is a file of this server; return its id."""
    job = sandbox.service.add(
        {"obs_id": str(obs_id), "download_type": "vis"},
        JobType.VISIBILITIES,
        size=file.size,
        sha1=file.sha1,
        url=f"{address}/{file.name}",
        made_by=Interface.V2,
    )
    return str(job.id)


def _free_ports(count: int) -> list[int]:
    # All are held until the last one is known, or the same could come twice.
    holders = [socket.create_server((HERE, 0)) for _ in range(count)]
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10.0
    while True:
        try:
            with closing(socket.create_connection((HERE, port))):
                return
        except OSError:
            assert time.monotonic() < deadline, "nginx does not listen"
            time.sleep(0.01)
