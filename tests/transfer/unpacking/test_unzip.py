"""A zip becomes a folder by the rules for tars: what is refused, and what is made of the rest."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import subprocess
import threading
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared import FastClock

from mwa_client.errors import DirectoryBusy, DiskFull, Stopped, VerificationFailed
from mwa_client.transfer.common import Transfers
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile, FetchedFile, FetchedFolder
from mwa_client.transfer.part_hash import PartBroken
from mwa_client.transfer.unpacking import unzip as unzipping
from mwa_client.transfer.unpacking.member_file import MemberFile
from mwa_client.transfer.unpacking.members import UnpackRefused
from mwa_client.transfer.unpacking.unzip import is_zip, unzip

JOB = 10001
WHEN = (2017, 10, 12, 7, 29, 26)


def packed(*members: tuple[zipfile.ZipInfo | str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Two members of one name.
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def member(name: str, mode: int = 0o100644, **more: Any) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, WHEN)
    info.create_system, info.external_attr = 3, mode << 16
    for key, value in more.items():
        setattr(info, key, value)
    return info


class Scene:
    """A download directory with a verified zip."""

    def __init__(self, directory: Path, data: bytes, name: str = "a.zip") -> None:
        self.directory = directory
        self.stop = threading.Event()
        self.place = DownloadDirectory(directory, directory / ".mwa_client")
        self.place.state_dir.mkdir(exist_ok=True)
        self.path = directory / name
        self.path.write_bytes(data)
        state, sha1 = self.path.stat(), hashlib.sha1(data).hexdigest()
        self.archive = FetchedFile(self.path, len(data), sha1, True, 0, state.st_mtime_ns)
        self.place.names.remember(directory, JOB, [self.archive])

    def unzip(self) -> FetchedFile:
        transfers = Transfers(self.place, FastClock(), self.stop, lambda event: None)
        return unzip(
            self.archive, ExpectedFile(JOB, self.path.name, self.archive.size, self.archive.sha1), transfers
        )

    def left(self) -> list[str]:
        return sorted(path.name for path in self.place.state_dir.iterdir())


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_files_folders_times_and_permissions(tmp_path: Path) -> None:
    scene = Scene(
        tmp_path,
        packed(
            (member("x.ms/", 0o040750), b""),
            (member("x.ms/table.dat", 0o100640), b"data" * 1000),
            (member("x.ms/set-uid", 0o106777), b""),
            (member("made by nobody/deep/er", 0), b"deeper"),
            (member("link", 0o120777), b"x.ms/table.dat"),
        ),
    )
    folder = scene.unzip()
    assert isinstance(folder, FetchedFolder) and (folder.path, folder.files) == (tmp_path / "a", 3)
    assert (folder.size, folder.sha1, folder.verified) == (
        scene.archive.size, scene.archive.sha1, True,
    )  # fmt: skip
    assert files_in(tmp_path / "a") == {
        "x.ms/table.dat": b"data" * 1000,
        "x.ms/set-uid": b"",
        "made by nobody/deep/er": b"deeper",
        "link": b"data" * 1000,
    }
    modes = {
        name: stat.S_IMODE((tmp_path / "a" / name).lstat().st_mode) for name in ("x.ms", "x.ms/table.dat")
    }
    assert modes == {"x.ms": 0o750, "x.ms/table.dat": 0o640}
    assert stat.S_IMODE((tmp_path / "a/x.ms/set-uid").stat().st_mode) == 0o775
    assert (tmp_path / "a/x.ms/table.dat").stat().st_mtime == time.mktime((*WHEN, 0, 0, -1))
    assert not scene.path.exists(), "the zip is removed"
    assert folder.sums is not None
    (tmp_path / "SHA1SUMS").write_bytes(folder.sums.read_bytes())
    done = subprocess.run(
        ["sha1sum", "-c", "--strict", "SHA1SUMS"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0 and done.stdout.count(b"OK") == 3


def test_a_time_in_utc_counts_more(tmp_path: Path) -> None:
    extra = struct.pack("<HHBl", 0x5455, 5, 1, 1_500_000_000)
    scene = Scene(tmp_path, packed((member("a", extra=b"\x99\x99\x02\x00xx" + extra), b"")))
    scene.unzip()
    assert (tmp_path / "a/a").stat().st_mtime == 1_500_000_000


def encrypted() -> bytes:
    data = bytearray(packed((member("secret"), b"x" * 100), method=zipfile.ZIP_STORED))
    for position in (6, data.index(b"PK\1\2") + 8):
        data[position] |= 1
    return bytes(data)


def cut_short() -> bytes:
    data = packed((member("a"), os.urandom(5000)))
    directory = data.index(b"PK\1\2")
    return data[:3000] + data[directory:]


def lying(size: int) -> bytes:
    data = bytearray(packed((member("a"), b"x" * 5000)))
    struct.pack_into("<L", data, data.index(b"PK\1\2") + 24, size)
    return bytes(data)


def of_unknown_method() -> bytes:
    data = bytearray(packed((member("a"), b"x")))
    for position in (8, data.index(b"PK\1\2") + 10):
        struct.pack_into("<H", data, position, 77)
    return bytes(data)


NO_LIST = packed((member("a"), b"x"))[:-22] + b"PK\5\6" + bytes(8) + b"\xff" * 6 + bytes(4)
HOSTILE = {
    "absolute": packed((member("/etc/evil"), b"")),
    "out of it": packed((member("good"), b""), (member("a/../../evil"), b"")),
    "link out": packed((member("link", 0o120777), b"../evil")),
    "absolute link": packed((member("link", 0o120777), b"/etc")),
    "endless link": packed((member("link", 0o120777), b"a" * 100_000)),
    "through a link": packed(
        (member("sub/", 0o040755), b""), (member("l", 0o120777), b"sub"), (member("l/x"), b"")
    ),
    "device": packed((member("null", 0o020666), b"")),
    "FIFO": packed((member("pipe", 0o010666), b"")),
    "twice": packed((member("a"), b"1"), (member("a"), b"2")),
    "file and folder": packed((member("a"), b"1"), (member("a/b"), b"2")),
    "control characters": packed((member("a\x1b[2J"), b"")),
    "line break": packed((member("a\nb"), b"")),
    "name of 4 kB": packed((member("n" * 4096), b"")),
    "10,000 levels": packed((member("d/" * 10_000 + "f"), b"")),
    "nameless": packed((member("."), b"")),
    "encrypted": encrypted(),
    "cut short": cut_short(),
    "larger than it says": lying(4000),
    "smaller than it says": lying(6000),
    "unknown method": of_unknown_method(),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_or_damaged_zip_is_refused_and_kept(tmp_path: Path, kind: str) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    scene = Scene(directory, HOSTILE[kind])
    with pytest.raises(UnpackRefused) as refused:
        scene.unzip()
    assert refused.value.kept == scene.archive and scene.path.read_bytes() == HOSTILE[kind]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    assert sorted(path.name for path in directory.iterdir()) == [".mwa_client", "a.zip"] and not scene.left()
    assert refused.value.what.isprintable()


def test_the_zip_is_removed_only_as_we_left_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path, packed((member("a"), b"")))
    os.utime(scene.path, ns=(0, 1))
    scene.unzip()
    assert (tmp_path / "a").is_dir() and scene.path.exists()


@pytest.mark.parametrize("data", [b"PK\3\4" + bytes(100), b"PK", b"", b"PK\5\6", NO_LIST])
def test_what_is_no_zip_stays(tmp_path: Path, data: bytes) -> None:
    scene = Scene(tmp_path, data)
    assert scene.unzip() == scene.archive and not scene.left()


def test_an_empty_zip_is_an_empty_folder(tmp_path: Path) -> None:
    scene = Scene(tmp_path, packed())
    assert (
        is_zip(scene.path)
        and isinstance(scene.unzip(), FetchedFolder)
        and not any((tmp_path / "a").iterdir())
    )


def test_too_many_files_for_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(tmp_path, packed(*((member(f"{number}"), b"") for number in range(50))))
    monkeypatch.setattr(unzipping, "LARGEST_DIRECTORY", 1000)
    with pytest.raises(UnpackRefused, match="more files"):
        scene.unzip()


def test_a_bomb_finds_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(tmp_path, packed((member("zeros"), bytes(1_000_000))))
    monkeypatch.setattr(unzipping, "free_bytes", lambda path: 500_000)
    with pytest.raises(DiskFull, match="it holds"):
        scene.unzip()
    assert scene.path.exists() and not (tmp_path / "a").exists()


def test_a_zip_of_64_bit_fields(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open(member("a"), "w", force_zip64=True) as file:
        file.write(b"x" * 1000)
    scene = Scene(tmp_path, buffer.getvalue())
    scene.unzip()
    assert files_in(tmp_path / "a") == {"a": b"x" * 1000}


def test_it_stops_when_told_to_and_begins_anew(tmp_path: Path) -> None:
    scene = Scene(tmp_path, packed((member("a"), b"x" * 1000), (member("b"), b"y")))
    scene.stop.set()
    with pytest.raises(Stopped):
        scene.unzip()
    assert scene.path.exists()
    scene.stop.clear()
    scene.unzip()
    assert files_in(tmp_path / "a") == {"a": b"x" * 1000, "b": b"y"}


def test_another_client_in_the_directory_ends_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path, packed((member("a"), b"")))

    def busy() -> None:
        raise DirectoryBusy("another client")

    scene.place = DownloadDirectory(scene.place.path, scene.place.state_dir, busy, scene.place.names)
    with pytest.raises(DirectoryBusy):
        scene.unzip()
    assert scene.path.exists() and not (tmp_path / "a").exists()


@pytest.mark.parametrize("deed", ["file", "link", "folder"])
def test_what_somebody_changes_meanwhile_gets_no_final_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deed: str
) -> None:
    monkeypatch.setattr(unzipping, "UNZIP_READ_SIZE", 1000)
    content = packed(
        (member("d/", 0o40755), b""),
        (member("link", 0o120777), b"file"),
        (member("file"), b"f" * 2000),
        (member("growing"), b"g" * 9000),
        (member("last"), b""),
    )
    scene = Scene(tmp_path, content)
    members = scene.place.state_dir / "a.zip.unpack" / "members"
    real = MemberFile.write
    done: list[MemberFile] = []

    def write(file: MemberFile, data: memoryview) -> None:
        real(file, data)
        if file.member.name != "growing" or done:
            return
        done.append(file)
        if deed in ("link", "folder"):
            path = members / ("link" if deed == "link" else "d")
            path.rename(tmp_path / "mine")
            path.symlink_to("growing" if deed == "link" else tmp_path / "mine")
            return
        with (members / "file").open("r+b") as changed:
            changed.write(b"?")

    with monkeypatch.context() as patch:
        patch.setattr(MemberFile, "write", write)
        with pytest.raises(PartBroken, match="is not as it was written"):
            scene.unzip()
    assert done and scene.path.read_bytes() == content and not (tmp_path / "a").exists()
    assert scene.left() == []
    scene.unzip()
    assert files_in(tmp_path / "a") == {
        "file": b"f" * 2000,
        "link": b"f" * 2000,
        "growing": b"g" * 9000,
        "last": b"",
    }


def test_a_zip_that_was_replaced_since_it_was_verified_is_no_product(tmp_path: Path) -> None:
    scene = Scene(tmp_path, packed((member("a"), b"true" * 1000)))
    other = packed((member("a"), b"lies" * 1000))
    scene.path.write_bytes(other)
    with pytest.raises(VerificationFailed, match="has been changed since it was verified"):
        scene.unzip()
    assert scene.path.read_bytes() == other and not (tmp_path / "a").exists() and scene.left() == []


def test_a_zip_that_was_only_touched_is_unpacked(tmp_path: Path) -> None:
    scene = Scene(tmp_path, packed((member("a"), b"true" * 1000)))
    os.utime(scene.path, ns=(1, 1))
    scene.unzip()
    assert files_in(tmp_path / "a") == {"a": b"true" * 1000} and scene.path.exists()


def test_what_stands_under_the_folders_name_stays(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    folder = Scene(tmp_path, packed((member("x"), b"1"))).unzip()
    assert folder.path == tmp_path / f"{JOB}_a" and (tmp_path / "a").read_text() == "mine"


NAMES = st.text(st.sampled_from("ab/.\\ä "), min_size=1, max_size=6)
MEMBERS = st.lists(st.tuples(NAMES, st.binary(max_size=50)), max_size=5)


@settings(max_examples=60, deadline=None)
@given(members=MEMBERS, damage=st.none() | st.tuples(st.integers(0, 400), st.integers(1, 255)))
def test_any_zip_is_what_the_library_extracts_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes]], damage: tuple[int, int] | None
) -> None:
    base = tmp_path_factory.mktemp("zips")
    data = bytearray(packed(*members))
    if damage is not None and damage[0] < len(data):
        data[damage[0]] ^= damage[1]
    directory = base / "data"
    directory.mkdir()
    scene = Scene(directory, bytes(data))
    try:
        made = scene.unzip()
    except UnpackRefused:
        made = scene.archive
    if isinstance(made, FetchedFolder) and damage is None:
        assert files_in(directory / "a") == {
            "/".join(part for part in name.split("/") if part not in ("", ".")): content
            for name, content in members
            if not name.endswith("/")
        }
    elif not isinstance(made, FetchedFolder):
        assert scene.path.read_bytes() == data and not (directory / "a").exists()
    assert [path.name for path in base.iterdir()] == ["data"]
