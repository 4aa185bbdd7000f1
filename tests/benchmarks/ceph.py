"""The client against a real Ceph gateway, which is what the archive's object store is.

A cluster of one node with its objects in memory is made on this machine's loopback interface, as a user or
as root, and is gone at the end. It takes Debian's packages radosgw, ceph-mon and ceph-osd; nobody needs it
for the tests.

python tests/benchmarks/ceph.py              one product, fetched under six circumstances
python tests/benchmarks/ceph.py --install    the same, with the packages installed first (as root)
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from urllib.parse import quote, urlencode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # What the tests share.

from servers import HERE, File, _free_ports, list_job, slow_line
from shared import command, environment, wait_until

from mwa_client.sandbox import Sandbox
from mwa_client.sandbox.products import Content

PACKAGES = ("radosgw", "ceph-mon", "ceph-osd")
PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
KEY, SECRET = "practice", "practice-secret"
BUCKET = "mwa-asvo"
RATE = 12_000_000
"""Bytes a second: slow enough for something to happen in the middle of a download."""
SIZE = 36_000_000
"""Bytes of the product."""
PART = 8 << 20
"""Bytes of each part that it is uploaded in."""
LONGEST = 120.0
"""Seconds that one run of the client may take."""
CONFIG = """
[global]
fsid = {fsid}
mon host = {monitor}
public network = 127.0.0.0/8
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
run dir = {folder}/run
crash dir = {folder}/run
admin socket = {folder}/run/$name.socket
pid file = {folder}/run/$name.pid
log file = {folder}/run/$name.log
keyring = {folder}/keyring
"""


# --- The cluster -------------------------------------------------------------------------------------


class Cluster:
    """A monitor, a store of objects in memory, and the gateway before them.

    Attributes
    ----------
    address : str
        Where the gateway listens.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        first, second, self._port = _free_ports(3)
        self._monitor = f"[v2:{HERE}:{first},v1:{HERE}:{second}]"
        self._fsid = str(uuid.uuid4())
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._gateway: subprocess.Popen[bytes] | None = None
        self.address = f"http://{HERE}:{self._port}"

    def start(self) -> None:
        """Make a new cluster and wait until the gateway answers."""
        for name in ("mon", "osd", "run"):
            (self._folder / name).mkdir()
        text = CONFIG.format(fsid=self._fsid, monitor=self._monitor, folder=self._folder)
        (self._folder / "ceph.conf").write_text(text, encoding="utf-8")
        self._make_keys()
        self._run("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", self._monitor, "monmap")
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
        self._daemons.append(self._daemon("ceph-mon", "-i", "a"))
        osd = str(uuid.uuid4())
        self._run("ceph", "osd", "new", osd)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._daemons.append(self._daemon("ceph-osd", "-i", "0"))
        user = ("--uid=practice", "--display-name=practice", f"--access-key={KEY}", f"--secret={SECRET}")
        self._run("radosgw-admin", "-n", "client.rgw", "user", "create", *user)
        self.start_gateway()
        self.ask("PUT", f"/{BUCKET}")

    def stop(self) -> None:
        """End every process of it."""
        self.stop_gateway()
        for daemon in reversed(self._daemons):
            daemon.kill()
            daemon.wait()

    def start_gateway(self) -> None:
        """Start the gateway and wait until it answers."""
        endpoint = f"beast endpoint={HERE}:{self._port}"
        self._gateway = self._daemon("radosgw", "-n", "client.rgw", "--rgw-frontends", endpoint)
        wait_until(self._answers, 60.0)

    def stop_gateway(self) -> None:
        """End the gateway at once, as a crash would."""
        if self._gateway is not None:
            self._gateway.kill()
            self._gateway.wait()

    def upload(self, content: Content, name: str, *, in_parts: bool = False, encoding: str = "") -> File:
        """Put a product into the store, over what has its name, in one piece or in parts."""
        path, data = f"/{BUCKET}/{name}", b"".join(content.pieces())
        headers = {"Content-Encoding": encoding} if encoding else {}
        if in_parts:
            self._upload_parts(path, data, headers)
        else:
            self.ask("PUT", path, data, headers)
        return File(name, content.size, content.sha1)

    def query(self, name: str, seconds: float, method: str = "GET", more: str = "") -> str:
        """Return the query that signs a request for a path, good for so long."""
        expires = str(int(time.time() + seconds))
        text = f"{method}\n\n\n{expires}\n{name}{more}"
        signature = base64.b64encode(hmac.digest(SECRET.encode(), text.encode(), hashlib.sha1)).decode()
        return urlencode({"AWSAccessKeyId": KEY, "Signature": signature, "Expires": expires})

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None, more: str = ""
    ) -> tuple[bytes, str]:
        """Ask the gateway for something and return what it says, and the tag of what it was given."""
        query = self.query(path, 600.0, method, more)
        connection = http.client.HTTPConnection(HERE, self._port, timeout=30.0)
        url = f"{path}{more}{'&' if more else '?'}{query}"
        connection.request(method, url, body, headers or {})
        reply = connection.getresponse()
        said = reply.read()
        connection.close()
        assert reply.status == 200, (method, path, reply.status, said)
        return said, reply.headers.get("ETag", "")

    def _upload_parts(self, path: str, data: bytes, headers: dict[str, str]) -> None:
        said, _ = self.ask("POST", path, headers=headers, more="?uploads")
        upload = said.partition(b"<UploadId>")[2].partition(b"</UploadId>")[0].decode()
        parts = ""
        for number, start in enumerate(range(0, len(data), PART), 1):
            more = f"?partNumber={number}&uploadId={upload}"
            _, etag = self.ask("PUT", path, data[start : start + PART], more=more)
            parts += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        whole = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        self.ask("POST", path, whole, more=f"?uploadId={upload}")

    def _make_keys(self) -> None:
        self._run("ceph-authtool", "--create-keyring", "keyring")
        rights = {
            "mon.": {"mon": "allow *"},
            "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
            "client.rgw": {"mon": "allow rwx", "osd": "allow rwx"},
            "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
        }
        for name, allowed in rights.items():
            caps = [word for who, what in allowed.items() for word in ("--cap", who, what)]
            self._run("ceph-authtool", "keyring", "--gen-key", "-n", name, *caps)

    def _run(self, *words: str) -> None:
        subprocess.run(self._told(words), cwd=self._folder, capture_output=True, timeout=120, check=True)

    def _daemon(self, *words: str) -> subprocess.Popen[bytes]:
        with (self._folder / "run" / "said").open("ab") as said:
            return subprocess.Popen([*self._told(words), "-f"], cwd=self._folder, stdout=said, stderr=said)

    def _told(self, words: tuple[str, ...]) -> list[str]:
        plain = words[0] in ("ceph-authtool", "monmaptool")
        return list(words) if plain else [words[0], "-c", "ceph.conf", *words[1:]]

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HERE, self._port, timeout=5.0)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Make a cluster for as long as it is wanted."""
    # Its sockets have paths, and those may not be long.
    with tempfile.TemporaryDirectory(prefix="ceph") as folder:
        made = Cluster(Path(folder))
        try:
            made.start()
            yield made
        finally:
            made.stop()


# --- The circumstances -------------------------------------------------------------------------------


class Trial:
    """One product, listed by a practice service and delivered by the gateway over a slow line.

    Attributes
    ----------
    problems : list of str
        What was not as promised.
    """

    def __init__(self, store: Cluster, folder: Path, opened: ExitStack, **upload: object) -> None:
        self.store = store
        self.folder = folder
        self.name = f"{folder.name}.tar"
        self.content = Content(folder.name, SIZE)
        self.problems: list[str] = []
        self._upload = upload
        self._line = opened.enter_context(slow_line(store.address, RATE))
        self._sandbox = opened.enter_context(Sandbox())
        file = store.upload(self.content, self.name, **upload)  # type: ignore[arg-type]
        self._job = int(list_job(self._sandbox, self._line.address, file))
        self.list_link()

    @property
    def fetched(self) -> int:
        """How many bytes came over the line."""
        return self._line.passed

    @property
    def there(self) -> int:
        """How many bytes of the product are on the disk, not finished."""
        try:
            return sum(path.stat().st_size for path in self.folder.glob(".mwa_client/*.part"))
        except FileNotFoundError:
            return 0  # It has just become the product.

    def list_link(self, seconds: float = 600.0) -> None:
        """Let the listing have a link that is good for so long."""
        path = f"/{BUCKET}/{quote(self.name)}"
        url = f"{self._line.address}{path}?{self.store.query(path, seconds)}"
        job = self._sandbox.service.find(self._job)
        assert job is not None
        self._sandbox.service.put(replace(job, given_url=url, given_sha1=self.content.sha1))

    def overwrite(self) -> None:
        """Put other bytes of the same size in the place of the product, and list them."""
        self.content = self.content.changed()
        self.store.upload(self.content, self.name, **self._upload)  # type: ignore[arg-type]
        self.list_link()

    def start(self) -> subprocess.Popen[str]:
        """Start the client."""
        env = environment(MWA_ASVO_HOST=self._sandbox.url, MWA_ASVO_API_KEY="practice-key")
        words = command("-w", str(self._job), "--api=v2", "--connections=1", "--dir", self.folder)
        return subprocess.Popen(words, env=env, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, text=True)

    def start_and_wait_for_half(self) -> subprocess.Popen[str]:
        """Start the client and wait until half of the product is there."""
        client = self.start()
        wait_until(lambda: self.there > SIZE // 2 or client.poll() is not None, LONGEST)
        return client

    def end(self, client: subprocess.Popen[str], status: int = 0) -> None:
        """Wait for the client, and note it if its status is another, or what it leaves is not the product."""
        try:
            said, _ = client.communicate(timeout=LONGEST)
        except subprocess.TimeoutExpired:
            client.kill()
            said, _ = client.communicate()
        if client.returncode != status:
            self.problems.append(f"exit {client.returncode}, not {status}: {said.strip()[-600:]}")
        products = [path for path in self.folder.glob("*.tar") if path.stat().st_size]
        for path in products:
            if hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest() != self.content.sha1:
                self.problems.append("wrong bytes have the product's name")
        if status == 0 and len(products) != 1:
            self.problems.append(f"{len(products)} products")

    def fetched_no_more_than(self, share: float) -> None:
        """Note it if more came over the line than this share of the product."""
        if self.fetched > share * SIZE:
            self.problems.append(f"{self.fetched / SIZE:.2f} of the product was fetched, not {share}")


def download(trial: Trial) -> None:
    """Fetch it."""
    trial.end(trial.start())
    trial.fetched_no_more_than(1.02)


def resume(trial: Trial) -> None:
    """Kill the client at half, and start it again."""
    client = trial.start_and_wait_for_half()
    client.kill()
    trial.end(client, -9)
    trial.end(trial.start())
    trial.fetched_no_more_than(1.3)


def expiry(trial: Trial) -> None:
    """Break the connection at half, and let the link expire meanwhile; a listing has a fresh one."""
    ends = time.time() + 20.0  # Time enough for half of it on a busy machine.
    trial.list_link(20.0)
    client = trial.start_and_wait_for_half()
    trial.store.stop_gateway()
    time.sleep(max(0.0, ends - time.time()))
    trial.list_link()
    trial.store.start_gateway()
    trial.end(client)
    trial.fetched_no_more_than(1.3)


def overwrite(trial: Trial) -> None:
    """Kill the client at half, and put other bytes of the same size into the store before the next run."""
    client = trial.start_and_wait_for_half()
    client.kill()
    trial.end(client, -9)
    trial.overwrite()
    trial.end(trial.start())


def outage(trial: Trial) -> None:
    """Stop the gateway at half, for three seconds."""
    client = trial.start_and_wait_for_half()
    trial.store.stop_gateway()
    time.sleep(3.0)
    trial.store.start_gateway()
    trial.end(client)
    trial.fetched_no_more_than(1.3)


@dataclass(frozen=True)
class Circumstance:
    """What happens, and how the product came into the store."""

    name: str
    happens: Callable[[Trial], None]
    in_parts: bool = False
    encoding: str = ""


CIRCUMSTANCES = (
    Circumstance("download", download),
    Circumstance("download, parts, aws-chunked", download, True, "aws-chunked"),
    Circumstance("resume", resume, True),
    Circumstance("expiry", expiry),
    Circumstance("overwrite", overwrite, True),
    Circumstance("outage", outage),
)


def main() -> int:
    """Go through all circumstances; 0 where all went well."""
    if _options().install:
        _install()
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        print(f"There is no {', '.join(missing)}; apt-get install {' '.join(PACKAGES)}", file=sys.stderr)
        return 2
    failed = 0
    with cluster() as store, tempfile.TemporaryDirectory() as folder:
        for number, circumstance in enumerate(CIRCUMSTANCES):
            problems, seconds, share = go_through(circumstance, store, Path(folder) / f"product{number}")
            failed += bool(problems)
            verdict = "FAILED" if problems else "good"
            print(f"{circumstance.name:30} {verdict:8} {seconds:5.1f} s  {share:.2f} fetched", flush=True)
            for problem in problems:
                print(f"    {problem}")
    return 1 if failed else 0


def go_through(circumstance: Circumstance, store: Cluster, folder: Path) -> tuple[list[str], float, float]:
    """Return what was not as promised, the seconds that it took, and the share that was fetched."""
    folder.mkdir()
    with ExitStack() as opened:
        trial = Trial(store, folder, opened, in_parts=circumstance.in_parts, encoding=circumstance.encoding)
        began = time.monotonic()
        circumstance.happens(trial)
        return trial.problems, time.monotonic() - began, trial.fetched / SIZE


def _install() -> None:
    words = ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]
    subprocess.run(words, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--install", action="store_true", help="install Debian's packages first")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
