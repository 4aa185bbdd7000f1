"""Any archive, cut and resumed anywhere, becomes what `tarfile` extracts, or is refused."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tars import (
    JOB,
    MTIME,
    NAME,
    Made,
    Scene,
    as_nobody,
    extracted,
    folder,
    hard_link,
    link,
    member,
    sha1,
    tar_of,
    tree_of,
)

from mwa_client.transfer.files import ExpectedFile
from mwa_client.transfer.unpacking import unpack_part
from mwa_client.transfer.unpacking.kept import UnpackPlace
from mwa_client.transfer.unpacking.members import UnpackRefused
from mwa_client.transfer.unpacking.unpack_part import UnpackPart

FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
PART = st.sampled_from(["a", "b", "table.dat", "ä", "x" * 60, "A"])
NAMES = st.lists(PART, min_size=1, max_size=3).map("/".join)
DATA = st.one_of(st.binary(max_size=40), st.integers(0, 1500).map(bytes))
MODES = st.sampled_from([0o644, 0o600, 0o444, 0o755, 0o000, 0o4755, 0o2755, 0o1777, 0o666])
TIMES = st.sampled_from([0, 1, MTIME, MTIME + 7])
MORE = {"mode": MODES, "mtime": TIMES}
GOOD_TARGET = st.sampled_from(["a", "b", "a/b", "./a", "nowhere"])
ODD_NAMES = ["../up", "/etc/absolute", "a/../../x", "./a", "a//b", "a/", "", ".", "n" * 300, "a\nb"]
ANY_NAME = st.one_of(NAMES, st.sampled_from(ODD_NAMES))
KINDS = st.sampled_from([tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, b"Z"])


def holed(name: str, data: bytes, hole: int, **more: Any) -> Made:
    """A file with holes before, between and behind its bytes."""
    half = len(data) // 2
    places = [(hole, half), (2 * hole + half, len(data) - half)]
    size = 3 * hole + len(data)
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name}
    listed = "".join(f"{start}\n{length}\n" for start, length in places)
    packed = f"{len(places)}\n{listed}".encode().ljust(512, b"\0") + data
    return member(name, packed, pax_headers={**pax, "GNU.sparse.realsize": str(size)}, **more)


def any_member() -> st.SearchStrategy[Made]:
    more = st.fixed_dictionaries(MORE)
    targets = st.one_of(GOOD_TARGET, st.sampled_from(["../..", "/etc/passwd", "b/../..", "../a", "a/../b"]))
    both = st.one_of(NAMES, targets)
    return st.one_of(
        st.builds(lambda name, data, m: member(name, data, **m), NAMES, DATA, more),
        st.builds(lambda name, data, m: member(name, data, **m), ANY_NAME, DATA, more),
        st.builds(lambda name, m: folder(name, **m), NAMES, more),
        st.builds(lambda name, target, m: link(name, target, **m), NAMES, targets, more),
        st.builds(lambda name, target, m: hard_link(name, target, **m), NAMES, both, more),
        st.builds(lambda name, kind, m: member(name, type=kind, **m), NAMES, KINDS, more),
    )


@st.composite
def good_members(draw: st.DrawFn) -> list[Made]:
    """Members that nobody has reason to refuse."""
    members: list[Made] = []
    for number in range(draw(st.integers(0, 8))):
        base = f"{draw(NAMES)}/{number}" if draw(st.booleans()) else str(number)
        files = [each.name for each in members if each.data and "type" not in each.more]
        more = {"mode": draw(MODES), "mtime": draw(TIMES)}
        kind = draw(st.sampled_from(["file", "file", "folder", "link", "hard link", "file with holes"]))
        if kind == "folder":
            members.append(folder(base, **more))
        elif kind == "link":
            members.append(link(base, draw(GOOD_TARGET), **more))
        elif kind == "file with holes":
            members.append(holed(base, draw(st.binary(max_size=700)), draw(st.integers(0, 900)), **more))
        elif kind == "hard link" and files:
            target = draw(st.sampled_from(files))
            same = next(each for each in members if each.name == target)
            members.append(hard_link(base, target, mode=same.more["mode"], mtime=same.more["mtime"]))
        else:
            members.append(member(base, draw(DATA), **more))
    return members


@contextmanager
def small_steps(sync: int = 1500) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpack_part, "SYNC_SIZE", sync)
        patch.setattr(unpack_part, "WRITE_SIZE", 700)
        yield


@contextmanager
def scratch() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        yield path
    finally:
        _let_in(path)
        shutil.rmtree(path)


def _let_in(path: Path) -> None:
    for each in path.rglob("*"):
        if each.is_dir() and not each.is_symlink():
            each.chmod(0o700)


class Watched(UnpackPart):
    """Knows why it began anew."""

    why = "went on"

    def restart(self, etag: str = "") -> None:
        self.why = f"began anew: {sys.exc_info()[1]!r}"
        super().restart(etag)


class Killed:
    """Unpacks an archive in several runs, each ended as by a kill or a power cut."""

    def __init__(self, path: Path, archive: bytes) -> None:
        path.mkdir()
        self.place = UnpackPlace(path / f"{NAME}.unpack")
        self.archive = archive
        self.expected = ExpectedFile(JOB, NAME, len(archive), sha1(archive))
        self.refetched: list[int] = []
        self.seen: list[str] = []
        """For each run: where the one before ended, the note that it found, and why it began anew."""
        self.end = 0

    def run(self, end: int, step: int) -> None:
        part = self._take_up()
        try:
            while part.length < end:
                part.append(self.archive[part.length : min(part.length + step, end)])
            self.end = part.length
        finally:
            part.close()

    def _take_up(self) -> UnpackPart:
        part = Watched(self.place, self.expected, threading.Event(), lambda: None)
        note = self.place.note.read_text() if self.place.note.exists() else "no note"
        part.take_up()
        self.refetched.append(self.end - part.length)
        self.seen.append(f"ended at {self.end}, begun at {part.length}, {note}, {part.why}")
        return part

    def cut_power(self, spoil: int) -> None:
        """Let nothing be on the disk but what was flushed to it."""
        note = json.loads(self.place.note.read_text())
        self.place.note.write_text(json.dumps({**note, "boot": "another"}))
        kept = self.place.kept.read_bytes()
        self.place.kept.write_bytes((kept[: note["kept"]], kept, kept[: note["kept"]] + b"junk" * 300)[spoil])
        with tarfile.open(fileobj=io.BytesIO(self.archive)) as archive:
            for info in archive:
                path = self.place.members / info.name
                safe = note["synced"] - info.offset_data
                if info.isreg() and path.is_file() and safe < stored_of(info):
                    mode = stat.S_IMODE(path.stat().st_mode)
                    path.chmod(0o600)
                    data = path.read_bytes()
                    good = data[: length_of(info, max(safe, 0))]
                    path.write_bytes((good, good + bytes(len(data) - len(good)), good + b"?" * 2000)[spoil])
                    path.chmod(mode)

    def finish(self, step: int) -> tuple[int, int | None]:
        self.run(len(self.archive), step)
        part = self._take_up()
        try:
            part.append(self.archive[part.length :])
            assert part.sha1() == self.expected.sha1
            return part.complete()
        finally:
            part.close()

    def assert_sums(self) -> None:
        lines = self.place.sums.read_text(encoding="utf-8").splitlines()
        told = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
        files = [each for each in self.place.members.rglob("*") if each.is_file() and not each.is_symlink()]
        assert told == {
            each.relative_to(self.place.members).as_posix(): sha1(each.read_bytes()) for each in files
        }


CUTS = st.lists(st.tuples(st.floats(0, 1), st.integers(-1, 2)), max_size=4)
"""Where a run ends, and whether it is killed, or how what was not flushed is spoilt by a power cut."""


def data_of(info: tarfile.TarInfo) -> list[tuple[int, int]]:
    """Where a file has bytes that are no holes."""
    holes: Any = info.sparse
    return [(0, info.size)] if holes is None else [each for each in holes if each[1]]


def stored_of(info: tarfile.TarInfo) -> int:
    return sum(length for _, length in data_of(info))


def length_of(info: tarfile.TarInfo, stored: int) -> int:
    """How long a file is that has so many of its stored bytes."""
    end = 0
    for start, length in data_of(info):
        if stored > 0:
            end = start + min(length, stored)
            stored -= length
    return end


@given(good_members(), FORMATS, CUTS, st.integers(1, 2000))
@settings(max_examples=30, deadline=None)
def test_a_good_archive_becomes_what_tarfile_extracts_wherever_it_is_cut(
    members: list[Made], format: int, cuts: list[tuple[float, int]], step: int
) -> None:
    try:
        archive = tar_of(*members, format=format)
    except ValueError:  # A name is too long for this format.
        archive = tar_of(*members)
    with scratch() as path, small_steps():
        unpacking = Killed(path / "mine", archive)
        for share, spoil in sorted(cuts):
            unpacking.run(int(share * len(archive)), max(step, len(archive) // 50))
            if spoil >= 0:
                unpacking.cut_power(spoil)
        unpacking.finish(max(step, len(archive) // 50))
        assert tree_of(unpacking.place.members) == extracted(archive, path / "tarfile")
        unpacking.assert_sums()
        # A kill costs headers at the most, and what was in memory; a power cut what was not flushed.
        assert max(unpacking.refetched) <= 1500 + 700 + 4096, unpacking.seen


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("mode", [0o444, 0])
def test_a_power_cut_just_after_a_file_has_got_its_permissions(mode: int) -> None:
    archive = tar_of(member("a", bytes(3000), mode=mode), member("b", b"x" * 1500))
    for spoil in range(3):
        with as_nobody() as path, small_steps():
            unpacking = Killed(path / "mine", archive)
            unpacking.run(5000, 300)
            assert stat.S_IMODE((unpacking.place.members / "a").stat().st_mode) == mode | 0o400
            unpacking.cut_power(spoil)
            unpacking.finish(300)
            assert (unpacking.place.members / "a").stat().st_mode & 0o777 == mode
            assert 0 < max(unpacking.refetched) < 4000, unpacking.seen


@given(st.lists(any_member(), max_size=6), FORMATS, st.floats(0, 1), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_any_archive_becomes_what_tarfile_extracts_or_is_refused(
    members: list[Made], format: int, share: float, connections: int
) -> None:
    try:
        archive = tar_of(*members, format=format)
    except ValueError:
        return  # It cannot be written in this format.
    with scratch() as path, small_steps():
        scene = Scene(path / "in" / "mine", archive, connections)
        scene.source.piece = 400
        try:
            scene.fetch()
        except UnpackRefused as error:
            assert error.kept.path.read_bytes() == archive
            found = [scene.path / NAME]
        else:
            assert tree_of(scene.folder) == extracted(archive, path / "tarfile")
            scene.assert_sums(scene.folder)
            found = [scene.folder]
        assert [each for each in scene.path.iterdir() if each.name != ".mwa_client"] == found
        assert [each.name for each in path.iterdir() if each.name != "tarfile"] == ["in"]
        assert [each.name for each in (path / "in").iterdir()] == ["mine"]
        _let_in(path)
