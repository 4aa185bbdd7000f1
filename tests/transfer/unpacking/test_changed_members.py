"""Another program changes what was unpacked before the folder has its name: that is noticed, or harmless."""

from __future__ import annotations

import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest
from tars import MTIME, USUAL, Scene, extracted, folder, hard_link, member, sha1, tar_of, tree_of

from mwa_client.directory.our_files import state_directory
from mwa_client.errors import Stopped
from mwa_client.transfer.events import Progress, Setback, TransferEvent
from mwa_client.transfer.part_hash import PartBroken
from mwa_client.transfer.unpacking import inspection, unpack_part
from mwa_client.transfer.unpacking.kept import UnpackPlace, read_unpack_note, write_unpack_note
from mwa_client.transfer.unpacking.ring import Ring
from mwa_client.transfer.unpacking.unpack_part import open_unpacking

MEMBERS = (
    *USUAL,
    folder("empty"),
    member("obs.ms/odd", b"odd" * 2000, pax_headers={"mtime": "1500000000.123456789"}),
    hard_link("obs.ms/other", "obs.ms/odd", mtime=1_400_000_000),
    member("obs.ms/big", bytes(range(250)) * 400),
    member("obs.ms/late", b"late"),
)


def write_over(path: Path, data: bytes = b"?" * 10) -> None:
    """Write into a file in place, where it begins; its size stays."""
    with path.open("r+b") as file:
        file.write(data)


def replace_file(path: Path) -> None:
    size = path.stat().st_size
    path.unlink()
    path.write_bytes(b"?" * size)


def replace_by_link(path: Path, to: Path) -> None:
    path.rename(to)
    path.symlink_to(to)


def new_target(path: Path) -> None:
    path.unlink()
    path.symlink_to("table.dat")


def file_for_link(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"?")


def replace_all(path: Path) -> None:
    path.rename(path.with_name("before"))
    shutil.copytree(path.with_name("before"), path, symlinks=True)
    write_over(path / "obs.ms/ANTENNA/table.f0")


DEEDS: dict[str, Callable[[Path], object]] = {
    "rewritten": lambda top: write_over(top / "obs.ms/ANTENNA/table.f0"),
    "replaced": lambda top: replace_file(top / "obs.ms/table.dat"),
    "behind a link": lambda top: replace_by_link(top / "1191828584.metafits", top.parent.parent / "mine"),
    "folder behind a link": lambda top: replace_by_link(top / "obs.ms/ANTENNA", top.parent.parent / "mine"),
    "empty folder behind a link": lambda top: replace_by_link(top / "empty", top.parent.parent / "mine"),
    "folder removed": lambda top: (top / "empty").rmdir(),
    "link leads elsewhere": lambda top: new_target(top / "obs.ms/latest"),
    "file in place of a link": lambda top: file_for_link(top / "obs.ms/latest"),
    "second name replaced": lambda top: replace_file(top / "obs.ms/same"),
    "rewritten by its second name": lambda top: write_over(top / "obs.ms/other"),
    "growing file replaced": lambda top: replace_file(top / "obs.ms/big"),
    "growing file cut": lambda top: os.truncate(top / "obs.ms/big", 10),
    "all members replaced": replace_all,
    "its list of checksums cut": lambda top: os.truncate(top.parent / "sums", 100),
    "its list of checksums replaced": lambda top: replace_file(top.parent / "sums"),
    "what is set later cut": lambda top: os.truncate(top.parent / "late.1", 5),
    "its headers cut": lambda top: os.truncate(top.parent / "kept", 1500),
}


BETWEEN = [deed for deed in DEEDS if not deed.startswith("growing")]


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mwa_client.transfer.common.PROGRESS_INTERVAL", 0.0)
    monkeypatch.setattr(unpack_part, "WRITE_SIZE", 4000)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path / "downloads", tar_of(*MEMBERS))
    scene.source.piece = 4000
    return scene


def once(scene: Scene, do: Callable[[], object], at: int) -> list[int]:
    """Have something done once, as soon as so many bytes have come; return where it is noted that it was."""
    done: list[int] = []

    def listen(event: TransferEvent) -> None:
        scene.events.append(event)
        if isinstance(event, Progress) and event.done >= at and not done:
            done.append(event.done)
            do()

    scene.listen = listen
    return done


def assert_right(scene: Scene) -> None:
    assert tree_of(scene.folder) == extracted(scene.archive, scene.path.parent / "tarfile")
    scene.assert_sums(scene.folder)


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("left", [60_000, 0])
@pytest.mark.parametrize("deed", DEEDS)
def test_what_is_changed_meanwhile_is_fetched_anew(
    scene: Scene, deed: str, left: int, is_known: bool
) -> None:
    """While the last file but one is half here, and when all is; whether its SHA-1 was said or not."""
    scene.expected = scene.expected if is_known else replace(scene.expected, sha1=None)
    done = once(scene, lambda: DEEDS[deed](scene.work / "members"), len(scene.archive) - left)
    scene.fetch()
    assert done and scene.source.sent > 1.5 * len(scene.archive)
    (told,) = (event.reason for event in scene.events if isinstance(event, Setback))
    assert told.endswith("Downloading it again.")
    assert_right(scene)


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("deed", [*BETWEEN, "all behind a link"])
def test_what_is_changed_between_two_runs_is_fetched_anew(scene: Scene, deed: str, is_known: bool) -> None:
    scene.expected = scene.expected if is_known else replace(scene.expected, sha1=None)
    once(scene, scene.stop.set, len(scene.archive) - 60_000)
    with pytest.raises(Stopped):
        scene.fetch()
    scene.stop.clear()
    if deed == "all behind a link":
        replace_by_link(scene.work / "members", scene.path / "mine")
    else:
        DEEDS[deed](scene.work / "members")
    scene.fetch()
    # What is noted beside the members is made again.
    assert (scene.source.sent > 1.3 * len(scene.archive)) is not deed.startswith(("its list", "what is set"))
    assert_right(scene)


def test_a_member_that_was_replaced_while_the_tar_was_made_again_is_fetched_anew(scene: Scene) -> None:
    once(scene, scene.stop.set, len(scene.archive) - 60_000)
    with pytest.raises(Stopped):
        scene.fetch()
    scene.stop.clear()
    place = UnpackPlace(scene.work)
    note = read_unpack_note(place)
    assert note is not None
    write_unpack_note(place, replace(note, is_repacking=True), sync=False)
    replace_by_link(place.members / "obs.ms/table.dat", scene.path / "mine")
    assert scene.fetch(unpack=False).path.read_bytes() == scene.archive


def test_what_came_early_and_was_cut_is_fetched_anew(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []

    def read(ring: Ring, position: int, most: int) -> bytes:
        if not done:
            done.append(position)
            os.truncate(ring.path, 0)
        return real(ring, position, most)

    real = Ring.read
    monkeypatch.setattr(Ring, "read", read)
    place = UnpackPlace(scene.work)
    state_directory(place.path, 0o700)
    with open_unpacking(place, scene.expected, scene.stop, lambda: None) as part:
        early = part.writer(4000)
        early.append(scene.archive[4000:9000])
        early.flush()
        with pytest.raises(PartBroken, match="shortened"):
            part.append(scene.archive[:4000])
    assert done


@pytest.mark.parametrize("left", [60_000, 0])
def test_what_was_only_touched_is_read_and_gets_its_time_again(scene: Scene, left: int) -> None:
    def touch() -> None:
        for each in (scene.work / "members").rglob("*"):
            os.utime(each, ns=(1, 1), follow_symlinks=False)

    done = once(scene, touch, len(scene.archive) - left)
    scene.fetch()
    assert done and scene.source.sent == len(scene.archive)
    assert_right(scene)


def test_what_nobody_has_touched_is_not_read(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(inspection, "sha1_of_open", lambda file, stop: read.append(file))
    scene.archive = tar_of(*(each for each in MEMBERS if each.more.get("type") != tarfile.LNKTYPE))
    scene.source.data = scene.archive
    scene.expected = replace(scene.expected, size=len(scene.archive), sha1=sha1(scene.archive))
    scene.fetch()
    assert read == []
    assert_right(scene)


@pytest.mark.parametrize("step", [1000, 1_000_000, 1_000_000_000, 2_000_000_000])
def test_times_that_the_file_system_rounds_are_right(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    real = os.utime
    read: list[int] = []

    def rounded(path: Any, *, ns: tuple[int, int], **more: Any) -> None:
        real(path, ns=(ns[0] // step * step, ns[1] // step * step), **more)

    monkeypatch.setattr("mwa_client.transfer.unpacking.member_folder.os.utime", rounded)
    monkeypatch.setattr(inspection, "sha1_of_open", lambda file, stop: read.append(file))
    scene.archive = tar_of(*(each for each in MEMBERS if each.more.get("type") != tarfile.LNKTYPE))
    scene.source.data = scene.archive
    scene.expected = replace(scene.expected, size=len(scene.archive), sha1=sha1(scene.archive))
    scene.fetch()
    assert read == [] and (scene.folder / "obs.ms/odd").stat().st_mtime_ns % step == 0


def test_where_no_time_can_be_set_none_says_that_a_file_was_changed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file that was continued by a run that was stopped as well, only its time could tell."""
    monkeypatch.setattr("mwa_client.transfer.unpacking.member_folder.os.utime", lambda path, **more: None)
    for left in (60_000, 5_000):
        once(scene, scene.stop.set, len(scene.archive) - left)
        with pytest.raises(Stopped):
            scene.fetch()
        scene.stop.clear()
    scene.listen = scene.events.append
    scene.fetch()
    assert scene.source.sent < 1.2 * len(scene.archive)
    assert not any(isinstance(event, Setback) for event in scene.events)
    scene.assert_sums(scene.folder)


@pytest.mark.parametrize("later", [-1, 1])
def test_a_second_name_of_nearly_the_same_time_decides_it(tmp_path: Path, later: int) -> None:
    names = member("file", b"file"), hard_link("name", "file", mtime=MTIME + later)
    scene = Scene(tmp_path / "downloads", tar_of(*names))
    scene.fetch()
    assert_right(scene)
