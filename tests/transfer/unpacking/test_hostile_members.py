"""Each kind of hostile archive is refused and kept as a verified tar; nothing outside of it is touched."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
from tars import MTIME, NAME, USUAL, Made, Scene, extracted, folder, hard_link, link, member, tar_of, tree_of

from mwa_client.transfer.files import FetchedFolder
from mwa_client.transfer.unpacking import member_folder, unpack
from mwa_client.transfer.unpacking.kept import UnpackPlace
from mwa_client.transfer.unpacking.member_folder import MemberFolder
from mwa_client.transfer.unpacking.members import (
    Member,
    MemberKind,
    MemberRefused,
    UnpackRefused,
    member_path,
)
from mwa_client.transfer.unpacking.tar_stream import MOST_HEADER, TarStream
from mwa_client.transfer.unpacking.unpack import Unpacker

BLOCK = 512


def refused(path: Path, archive: bytes) -> UnpackRefused:
    """Fetch an archive that is to be refused, look that only the tar stands there, and return the error."""
    outside = path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"theirs")
    scene = Scene(outside / "downloads", archive)
    with pytest.raises(UnpackRefused) as refusal:
        scene.fetch()
    assert refusal.value.kept.path == scene.path / NAME
    assert refusal.value.kept.path.read_bytes() == archive
    assert refusal.value.kept.verified
    assert sorted(each.name for each in scene.path.iterdir()) == sorted([".mwa_client", NAME])
    assert list(scene.place.state_dir.iterdir()) == []
    assert sorted(each.name for each in outside.iterdir()) == ["downloads", "file"]
    assert (outside / "file").read_bytes() == b"theirs"
    assert (outside / "file").stat().st_nlink == 1
    return refusal.value


HOSTILE: dict[str, tuple[tuple[Made, ...], str]] = {
    "absolute": ((member("/tmp/absolute", b"x"),), "absolute name"),
    "absolute folder": ((folder("/tmp/absolute"),), "absolute name"),
    "up": ((member("../file", b"x"),), "leads out"),
    "up in the middle": ((folder("a"), member("a/../../file", b"x")), "leads out"),
    "up and down again": ((folder("a"), member("a/../b", b"x")), "leads out"),
    "link to a file outside": ((link("a", "../file"),), "leads out"),
    "link to an absolute place": ((link("a", "/etc/passwd"),), "leads out"),
    "link that climbs behind a name": ((link("a", "."), link("b", "a/../../file")), "leads out"),
    "link in a folder": ((link("d/a", "../../file"),), "leads out"),
    "link that says nothing": ((link("a", ""),), "no file system can hold"),
    "write through a link": ((folder("d"), link("a", "d"), member("a/x", b"x")), "through a link"),
    "folder through a link": ((folder("d"), link("a", "d"), folder("a/x")), "through a link"),
    "folder in place of a link": ((folder("d"), link("a", "d"), folder("a")), "through a link"),
    "file below a file": ((member("a", b"x"), member("a/b", b"x")), "below a file"),
    "hard link to outside": ((hard_link("a", "../file"),), "leads out"),
    "hard link to an absolute place": ((hard_link("a", "/etc/passwd"),), "absolute"),
    "hard link to nothing": ((hard_link("a", "b"),), "not in the archive before it"),
    "hard link to a link": ((link("b", "c"), hard_link("a", "b")), "not in the archive before it"),
    "hard link through a link": (
        (member("d/f", b"x"), link("l", "d"), hard_link("a", "l/f")),
        "not in the archive before it",
    ),
    "hard link to itself": ((hard_link("a", "a"),), "not in the archive before it"),
    "device": ((member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),), "a device"),
    "disk": ((member("sda", type=tarfile.BLKTYPE, devmajor=8),), "a device"),
    "FIFO": ((member("fifo", type=tarfile.FIFOTYPE),), "a FIFO"),
    "kind that nobody knows": ((member("odd", type=b"Z"),), "kind that is not unpacked"),
    "volume label": ((member("label", type=b"V"),), "kind that is not unpacked"),
    "name of 4 kB": ((member("d/" + "n" * 4090, b"x"),), "too long"),
    "path of 4 kB": ((member("/".join(["n" * 200] * 20), b"x"),), "too long"),
    "10,000 levels": ((member("d/" * 10_000 + "f", b"x"),), "too long"),
    "two of one name": ((member("a", b"x"), member("a", b"y")), "twice"),
    "two of one name, written otherwise": ((member("a", b"x"), member("./a", b"y")), "twice"),
    "a link of the same name": ((member("a", b"x"), link("a", "b")), "twice"),
    "a file in place of a folder": ((folder("a"), member("a", b"y")), "twice"),
    "a folder in place of a file": ((member("a", b"y"), folder("a")), "below a file"),
    "line break": ((member("a\nb", b"x"),), "control characters"),
    "escape": ((member("a\x1b[2J", b"x"),), "control characters"),
    "no name": ((member("", b"x"),), "only a folder can have"),
    "time that no file can have": ((member("a", b"x", mtime=1 << 70),), "time"),
    "time that no folder can have": ((folder("a", mtime=1 << 70),), "time"),
    "time that the folder itself cannot have": ((folder(".", mtime=1 << 70),), "time"),
    "time that no link can have": ((link("a", "b", mtime=-(1 << 70)),), "time"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_member_is_refused(kind: str, tmp_path: Path) -> None:
    members, why = HOSTILE[kind]
    archive = tar_of(*USUAL, *members, member("after", b"z" * 3000), format=tarfile.GNU_FORMAT)
    error = refused(tmp_path, archive)
    assert why in error.why
    assert error.exit_status == 4


def test_a_hostile_first_member_is_refused(tmp_path: Path) -> None:
    assert "absolute" in refused(tmp_path, tar_of(member("/a", b"x"))).why


def test_permissions_that_are_never_taken(tmp_path: Path) -> None:
    modes = {"setuid": 0o4755, "setgid": 0o2755, "sticky": 0o1755, "others": 0o666}
    members = [member(name, b"x", mode=mode) for name, mode in modes.items()]
    scene = Scene(tmp_path, tar_of(folder("d", mode=0o3777), *members))
    scene.fetch()
    found = {each.name: stat.S_IMODE(each.stat().st_mode) for each in scene.folder.iterdir()}
    assert found == {"d": 0o775, "setuid": 0o755, "setgid": 0o755, "sticky": 0o755, "others": 0o664}


def test_links_that_stay_inside_are_made(tmp_path: Path) -> None:
    members = (
        *(folder(name) for name in ("a", "a/b")),
        member("a/b/f", b"x"),
        *(
            link(f"a/b/{n}", target)
            for n, target in enumerate(["../../a/b/f", "f", "../..", "./f", "nowhere"])
        ),
    )
    scene = Scene(tmp_path / "in", tar_of(*members))
    scene.fetch()
    assert tree_of(scene.folder) == extracted(scene.archive, tmp_path / "tarfile")


# --- Archives that lie -------------------------------------------------------------------------------


def header_of(name: str, size: int, **more: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = size, MTIME
    for key, value in more.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def checksummed(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:BLOCK])
    return bytes(header)


GOOD = tar_of(*USUAL, format=tarfile.GNU_FORMAT)
BODY = GOOD[: -len(GOOD) + len(GOOD.rstrip(b"\0")) + -len(GOOD.rstrip(b"\0")) % BLOCK or None]
"""Without its end."""
END = bytes(2 * BLOCK)
NEGATIVE = checksummed(bytearray(header_of("a", 0)[:124] + b"\xff" * 12 + header_of("a", 0)[136:]))


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        (BODY + header_of("big", 1 << 40) + b"x" * 5000 + END, "beyond the archive's end"),
        (BODY + header_of("big", 2000) + b"x" * 1000, "beyond the archive's end"),
        (BODY + NEGATIVE + END, "below zero"),
        (BODY, "breaks off"),
        (BODY + header_of("torn", 5)[:300], "breaks off"),
        (BODY[:-BLOCK] if BODY[-BLOCK:] != bytes(BLOCK) else BODY[: -2 * BLOCK], "beyond the archive's end"),
        (GOOD + b"more", "more bytes follow"),
        (GOOD + GOOD, "more bytes follow"),
        (BODY + bytes(BLOCK) + GOOD, "more bytes follow"),
        (BODY + header_of("bad", 0).replace(b"bad", b"sad", 1) + END, "broken"),
        (BODY + b"junk" * 128 + END, "broken"),
        (BODY + header_of("x", 1 << 33, type=tarfile.XHDTYPE) + END, "without end"),
        (BODY + header_of("x", 4 << 20, type=tarfile.GNUTYPE_LONGNAME) + bytes(5 << 20), "without end"),
        (BODY + 3000 * (header_of("g", 0, type=tarfile.XGLTYPE)) + END, "broken"),
        (BODY + header_of("x", 512, type=tarfile.XHDTYPE) + b"junk".ljust(512, b"\0") + END, "broken"),
    ],
    ids=["size", "cut short", "negative", "no end", "torn header", "cut content", "bytes behind",
         "two in one",
         "behind one empty block", "checksum", "junk", "endless pax", "endless name", "chain", "pax alone"],
)  # fmt: skip
def test_an_archive_that_lies_is_refused(archive: bytes, why: str, tmp_path: Path) -> None:
    assert why in refused(tmp_path, archive).why


def test_what_is_no_tar_stays_a_file(tmp_path: Path) -> None:
    for number, data in enumerate([b"", b"SIMPLE  =", b"text" * 1000, b"PK\3\4" * 500]):
        scene = Scene(tmp_path / str(number), data)
        fetched = scene.fetch()
        assert not isinstance(fetched, FetchedFolder)
        assert fetched.path.read_bytes() == data
        assert fetched.path == scene.path / NAME
        assert list(scene.place.state_dir.iterdir()) == []


def test_an_empty_tar_is_an_empty_folder(tmp_path: Path) -> None:
    scene = Scene(tmp_path, bytes(10240))
    assert scene.fetch_folder().files == 0
    assert list(scene.folder.iterdir()) == []


# --- Bounds ------------------------------------------------------------------------------------------


class Nothing:
    """Is told the parts of a tar, and does nothing."""

    def begin(self, raw: object, member: Member) -> None: ...

    def content(self, data: memoryview) -> None: ...

    def end(self) -> None: ...

    def trailer(self, data: memoryview) -> None: ...


def test_many_members_take_no_more_memory_than_few(tmp_path: Path) -> None:
    unpacker = Unpacker(UnpackPlace(tmp_path), None, threading.Event())
    try:
        for number in range(600):
            unpacker.feed(memoryview(header_of(f"{number % 7}/{number}", 0)))
        held = sum(len(value) for value in vars(unpacker).values() if isinstance(value, (list, dict, set)))
        assert held <= unpack.FEW_MEMBERS + 1
        unpacker.feed(memoryview(END))
        unpacker.end_stream()
        unpacker.finish()
    finally:
        unpacker.close()
    assert len(list((tmp_path / "members").rglob("*"))) == 607


@pytest.mark.parametrize("kind", ["holes", "names"])
def test_headers_are_bounded(kind: str) -> None:
    stream = TarStream(Nothing())
    with pytest.raises(MemberRefused, match="without end"):
        if kind == "names":
            stream.feed(memoryview(header_of("x", MOST_HEADER, type=tarfile.GNUTYPE_LONGNAME)))
            stream.feed(memoryview(bytes(BLOCK)))
        else:
            more = bytearray(header_of("x", 0, type=tarfile.GNUTYPE_SPARSE))
            more[482] = 1
            stream.feed(memoryview(checksummed(more)))
            for _ in range(2 * MOST_HEADER // BLOCK):
                stream.feed(memoryview(b"\0" * 504 + b"\1" + b"\0" * 7))


@pytest.mark.parametrize("where", ["first", "later"])
def test_digits_without_end_take_no_time_without_end(where: str, tmp_path: Path) -> None:
    digits = b"1" * 900_000
    extended = header_of("x", len(digits), type=tarfile.XHDTYPE) + digits + bytes(-len(digits) % BLOCK)
    before = header_of("before", 0) if where == "later" else b""
    assert "broken" in refused(tmp_path, before + extended + header_of("a", 0) + END).why


def test_headers_for_all_members_are_bounded_together(tmp_path: Path) -> None:
    archive = b"".join(
        tarfile.TarInfo.create_pax_global_header({f"key{number}": "v" * 3000}) + header_of(f"{number}", 0)
        for number in range(4)
    )
    assert "without end" in refused(tmp_path, archive + END).why


def test_a_path_that_only_its_parts_could_open_is_refused(tmp_path: Path) -> None:
    place = UnpackPlace(tmp_path / ("d" * 200))
    place.path.mkdir()
    room = member_folder.LONGEST_FULL_PATH - len(os.fsencode(place.old_members))
    folders = "/".join(["n" * 100] * 50)[: room - 9].rstrip("/")
    fits = f"{folders}/{'f' * (room - len(folders) - 2)}"
    unpacker = Unpacker(place, None, threading.Event())
    try:
        with pytest.raises(MemberRefused, match="too long"):
            unpacker.feed(memoryview(tar_of(member(fits), member(f"{fits}f"), format=tarfile.GNU_FORMAT)))
    finally:
        unpacker.close()
    place.members.rename(place.old_members)
    assert (place.old_members / fits).stat().st_size == 0


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_link_is_refused_where_the_file_system_makes_none(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def symlink(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "symlink", symlink)
    assert "cannot make" in refused(tmp_path, tar_of(*USUAL)).why


@pytest.mark.parametrize(("size", "why"), [(1 << 29, "not have room"), (1 << 31, "far larger")])
def test_a_file_of_holes_is_refused_where_it_would_not_have_room_or_is_huge(
    size: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "free_bytes", lambda path: 1e6 if size < 1 << 30 else float("inf"))
    pax = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.realsize": str(size),
        "GNU.sparse.name": "b",
    }
    bomb = member("bomb", b"0\n".ljust(BLOCK, b"\0"), pax_headers=pax)
    assert why in refused(tmp_path, tar_of(*USUAL, bomb)).why


@pytest.mark.parametrize("form", ["gnu", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix"])
def test_files_with_holes_are_unpacked(form: str, tmp_path: Path) -> None:
    if shutil.which("tar") is None or b"GNU tar" not in subprocess.check_output(["tar", "--version"]):
        pytest.skip("there is no GNU tar")
    source = tmp_path / "source"
    source.mkdir()
    with (source / "holes").open("wb") as file:
        for number in range(40):
            file.seek(number << 16)
            file.write(b"data" * 300)
        file.truncate(4 << 20)
    for name, data in (("few", b"data"), ("none", b"")):
        (source / name).write_bytes(data)
        os.truncate(source / name, 1 << 20)
    (source / "plain").write_bytes(b"plain" * 999)
    for each in source.iterdir():
        os.utime(each, (MTIME, MTIME))
    where = tmp_path / "made.tar"
    names = "holes few none plain"
    subprocess.run(f"tar -S --format={form} -C {source} -cf {where} {names}", shell=True, check=True)
    assert where.stat().st_size < 1 << 20
    scene = Scene(tmp_path / "in", where.read_bytes())
    scene.source.piece, scene.source.cut_after = 1000, 60_000
    scene.fetch()
    assert tree_of(scene.folder) == extracted(scene.archive, tmp_path / "tarfile")
    scene.assert_sums(scene.folder)
    assert (scene.folder / "holes").stat().st_blocks * 512 < 2 << 20


def test_only_a_header_of_ustar_has_the_beginning_of_a_name(tmp_path: Path) -> None:
    """With ``--incremental``, GNU tar has times there."""
    header = bytearray(header_of("with_times", 0))
    header[345:369] = b"14237000000\0" * 2
    scene = Scene(tmp_path, checksummed(header) + header_of("plain", 0) + END)
    scene.fetch()
    assert sorted(tree_of(scene.folder)) == ["plain", "with_times"]


# --- A file system that cannot tell A from a ---------------------------------------------------------


def test_names_that_differ_in_case_are_two_where_the_file_system_can_tell(tmp_path: Path) -> None:
    scene = Scene(
        tmp_path / "in", tar_of(member("table", b"1"), member("TABLE", b"2"), member("A/x"), member("a/x"))
    )
    scene.fetch()
    assert tree_of(scene.folder) == extracted(scene.archive, tmp_path / "tarfile")


def test_folders_that_differ_in_case_are_refused_where_it_cannot_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is refused by the file system itself there; a folder would take the files of both."""
    monkeypatch.setattr(member_folder, "_cannot_tell_case", lambda folder: True)
    monkeypatch.setattr(member_folder, "_is_spelled_so", lambda folder, name: name != b"a")
    assert "in a way" in refused(tmp_path, tar_of(folder("a"), member("a/x"))).why


def test_how_a_name_is_spelled_is_read_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "Ä").mkdir()
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        spelled = [member_folder._is_spelled_so(handle, name.encode()) for name in ("Ä", "A\u0308", "ä")]
    finally:
        os.close(handle)
    assert spelled == [True, True, False]


def test_whether_case_counts_is_found_by_trying(tmp_path: Path) -> None:
    (tmp_path / "CASE").write_bytes(b"")
    assert member_folder._cannot_tell_case(tmp_path)
    (tmp_path / "CASE").unlink()
    assert not member_folder._cannot_tell_case(tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- The rules by themselves -------------------------------------------------------------------------


def test_the_parts_of_a_name() -> None:
    assert member_path("./a//b/") == (b"a", b"b")
    assert member_path("a\udce9") == (b"a\xe9",)
    assert member_path(".") == ()
    with pytest.raises(MemberRefused, match="no file can have"):
        member_path("a\ud800")


def test_a_link_made_in_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    """Even where a link gets there without the rules, nothing is written through it."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "members").mkdir()
    (tmp_path / "members" / "d").symlink_to("../outside")
    members = MemberFolder(tmp_path / "members", tmp_path)
    try:
        with pytest.raises(MemberRefused):
            members.make_file(Member("d/x", (b"d", b"x"), MemberKind.FILE, 0o644, 0))
        with pytest.raises(MemberRefused):
            members.make(Member("d/y", (b"d", b"y"), MemberKind.FOLDER, 0o644, 0))
    finally:
        members.close()
    assert list((tmp_path / "outside").iterdir()) == []
