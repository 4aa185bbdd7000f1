"""Archives for the tests of unpacking, and what is compared with `tarfile`."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable

from shared import FastClock

from mwa_client.directory.disk import boot_id, sync_file_system
from mwa_client.directory.trees import remove_tree
from mwa_client.errors import ServiceUnavailable
from mwa_client.transfer.connections import ConnectionBudget
from mwa_client.transfer.download import Downloader
from mwa_client.transfer.events import TransferEvent
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile, FetchedFile, FetchedFolder

NAME, JOB = "1191828584_10001_ms.tar", 10001
FOLDER = "1191828584_10001_ms"
MTIME, NOW = 1_500_000_000, 1_600_000_000
REFUSED = 0o7002
"""The permissions that are not taken from an archive."""


@dataclass(frozen=True)
class Made:
    """A member that is put into an archive."""

    name: str
    data: bytes = b""
    more: Mapping[str, Any] = field(default_factory=dict)


def member(name: str, data: bytes = b"", **more: Any) -> Made:
    return Made(name, data, more)


def folder(name: str, **more: Any) -> Made:
    return Made(name, b"", {"type": tarfile.DIRTYPE, "mode": 0o755, **more})


def link(name: str, target: str, **more: Any) -> Made:
    return Made(name, b"", {"type": tarfile.SYMTYPE, "linkname": target, **more})


def hard_link(name: str, target: str, **more: Any) -> Made:
    return Made(name, b"", {"type": tarfile.LNKTYPE, "linkname": target, "mtime": MTIME, **more})


def tar_of(*members: Made, format: int = tarfile.PAX_FORMAT, **more: Any) -> bytes:
    """Return an archive with these members."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format, **more) as archive:
        for each in members:
            info = tarfile.TarInfo(each.name)
            info.size, info.mtime = len(each.data), MTIME
            for name, value in each.more.items():
                setattr(info, name, value)
            archive.addfile(info, io.BytesIO(each.data))
    return file.getvalue()


USUAL = (
    folder("obs.ms"),
    member("obs.ms/table.dat", b"table" * 1000, mode=0o664),
    folder("obs.ms/ANTENNA", mtime=MTIME + 5),
    member("obs.ms/ANTENNA/table.f0", bytes(range(256)) * 20),
    member("obs.ms/table.lock"),
    link("obs.ms/latest", "ANTENNA/table.f0", mtime=MTIME + 9),
    hard_link("obs.ms/same", "obs.ms/table.dat", mode=0o664),
    member("1191828584.metafits", b"SIMPLE  =" * 300, mtime=MTIME + 3),
)
"""What a product is made of, more or less."""


def tree_of(path: Path) -> dict[str, tuple[Any, ...]]:
    """Return all that a folder holds: kinds, permissions, times, contents, and which names are one file."""
    found: dict[str, Any] = {}
    numbers: dict[int, int] = {}
    for here, folders, files in os.walk(path):
        for name in (*folders, *files):
            each = Path(here) / name
            state = each.lstat()
            kind: Any = None
            if stat.S_ISLNK(state.st_mode):
                kind = str(each.readlink())
            elif stat.S_ISREG(state.st_mode):
                kind = each.read_bytes(), numbers.setdefault(state.st_ino, len(numbers))
            mode = 0 if stat.S_ISLNK(state.st_mode) else stat.S_IMODE(state.st_mode)
            # What no member says is that of the moment.
            mtime = None if state.st_mtime > NOW else state.st_mtime_ns // 1000
            found[each.relative_to(path).as_posix()] = (mode, mtime, kind)
    return {name: (*found[name][:2], _named(found[name][2], name, found)) for name in sorted(found)}


def _named(kind: Any, name: str, found: Mapping[str, Any]) -> Any:
    """Say which names are one file, whatever numbers they have."""
    if not isinstance(kind, tuple):
        return kind
    same = sorted(n for n, each in found.items() if isinstance(each[2], tuple) and each[2][1] == kind[1])
    return kind[0], tuple(same)


def extracted(archive: bytes, path: Path) -> dict[str, tuple[Any, ...]]:
    """Return what `tarfile` makes of an archive, less the permissions that are refused."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = list(tar)
        # As it always was: newer Pythons refuse or change some members unless they are told not to.
        tar.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        tar.extractall(path)
    for info in members:
        each = path / info.name
        if info.issym():  # Unlike tar, tarfile leaves their times as they are.
            os.utime(each, (info.mtime, info.mtime), follow_symlinks=False)
        else:
            each.chmod(stat.S_IMODE(each.lstat().st_mode) & ~REFUSED)
    return tree_of(path)


def sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@dataclass
class TarSource:
    """Is a `Source`: sends an archive, over any number of connections."""

    data: bytes
    piece: int = 1 << 16
    cut_after: int | None = None
    """Break off each connection after so many bytes."""
    etag: str = '"1"'
    delay: Callable[[int], float] = lambda start: 0.0
    """How many seconds each piece of an answer takes that begins there."""
    then: bytes | None = None
    """What it sends once all of a first version was sent."""
    asked: list[int] = field(default_factory=list)
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, headers: Mapping[str, str]) -> _Answer:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("Range", ""))
        if match is None and self.asked and self.then is not None:
            self.data = self.then
        size = len(self.data)
        start, end = (int(match[1]), int(match[2] or size - 1) + 1) if match else (0, size)
        with self.lock:
            self.asked.append(start)
        return _Answer(self, start, min(end, size), match is not None)


class _Answer:
    def __init__(self, source: TarSource, start: int, end: int, is_part: bool) -> None:
        self._source, self._start, self._position, self._end = source, start, start, end
        self._data = source.data
        self._to_come = end - start if source.cut_after is None else source.cut_after
        self.status = 206 if is_part else 200
        headers = {"ETag": source.etag, "Accept-Ranges": "bytes", "Content-Length": str(end - start)}
        if is_part:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(source.data)}"
        self.headers: Mapping[str, str] = MappingProxyType(headers)

    def read_into(self, space: memoryview) -> int | None:
        source = self._source
        if seconds := source.delay(self._start):
            time.sleep(seconds)
        if self._position < self._end and self._to_come <= 0:
            raise ServiceUnavailable("The connection broke.")
        count = min(len(space), self._end - self._position, source.piece, self._to_come)
        space[:count] = self._data[self._position : self._position + count]
        self._position, self._to_come = self._position + count, self._to_come - count
        with source.lock:
            source.sent += count
        return count

    def close(self) -> None:
        pass


class Scene:
    """A directory into which an archive is fetched."""

    def __init__(self, path: Path, archive: bytes, connections: int = 1) -> None:
        self.path, self.archive = path, archive
        self.place = DownloadDirectory(path, path / ".mwa_client")
        self.place.state_dir.mkdir(parents=True, exist_ok=True)
        self.source = TarSource(archive)
        self.expected = ExpectedFile(JOB, NAME, len(archive), sha1(archive))
        self.stop = threading.Event()
        self.events: list[TransferEvent] = []
        self.listen: Callable[[TransferEvent], object] = self.events.append
        self.clock = FastClock()
        self.connections = connections

    @property
    def folder(self) -> Path:
        return self.path / FOLDER

    @property
    def work(self) -> Path:
        return self.place.state_dir / f"{NAME}.unpack"

    @property
    def downloader(self) -> Downloader:
        budget = ConnectionBudget(self.connections)
        return Downloader(self.place, self.clock, self.stop, self._hear, budget)

    def _hear(self, event: TransferEvent) -> None:
        self.listen(event)

    def fetch(self, *, unpack: bool = True) -> FetchedFile:
        return self.downloader.fetch(self.expected, self.source, unpack=unpack)

    def fetch_folder(self) -> FetchedFolder:
        fetched = self.fetch()
        assert isinstance(fetched, FetchedFolder)
        return fetched

    def assert_sums(self, folder: Path) -> None:
        """There is a right line for each file of the folder."""
        lines = (self.work / "SHA1SUMS").read_text(encoding="utf-8").splitlines()
        files = [each for each in folder.rglob("*") if each.is_file() and not each.is_symlink()]
        assert sorted(lines) == sorted(
            f"{sha1(each.read_bytes())}  {each.relative_to(self.path).as_posix()}" for each in files
        )


@contextmanager
def as_nobody() -> Iterator[Path]:
    """Be a user without rights in the block, with a folder of one's own."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o777)
    # Nobody may not be able to load what Python needs for these.
    boot_id()
    sync_file_system(path)
    os.seteuid(65534)
    try:
        yield path
    finally:
        os.seteuid(0)
        remove_tree(path)
