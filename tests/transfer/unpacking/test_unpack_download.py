"""A product is unpacked while it arrives: over the whole of a download, whatever ends it in between."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from shared import longest_file, wait_until
from tars import (
    FOLDER,
    JOB,
    MTIME,
    NAME,
    USUAL,
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

from mwa_client.asvo.job import ProductFile
from mwa_client.batch.products import bytes_to_come
from mwa_client.directory.trees import remove_tree, tree_size
from mwa_client.errors import DirectoryUnusable, DiskFull, Stopped, VerificationFailed
from mwa_client.transfer import extra, part_file, segments, tuner
from mwa_client.transfer.events import FileNotice, Progress, TransferEvent
from mwa_client.transfer.files import FetchedFile, FetchedFolder, FinalNames
from mwa_client.transfer.leftovers import remove_leftovers
from mwa_client.transfer.part_hash import PartBroken
from mwa_client.transfer.tuner import ConnectionTuner
from mwa_client.transfer.unpacking import kept, repack, sequence, unpack_part
from mwa_client.transfer.unpacking.kept import NO_SUM, UnpackPlace, read_unpack_note, write_unpack_note
from mwa_client.transfer.unpacking.member_folder import MemberFolder
from mwa_client.transfer.unpacking.members import UnpackRefused
from mwa_client.transfer.unpacking.unpacked import bytes_in_unpacking, finish_unpacked, remove_unpacking

MANY = (*USUAL, *(member(f"obs.ms/{number}/data", bytes([number]) * 9000) for number in range(40)))
HOSTILE = (*MANY, member("../outside", b"x"), member("after", b"y" * 50_000))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "downloads", tar_of(*USUAL))


@pytest.fixture
def many(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "downloads", tar_of(*MANY))


def assert_right(scene: Scene, folder: FetchedFile, where: str = FOLDER) -> None:
    """The folder is that of `tarfile`, and nothing else is left."""
    assert isinstance(folder, FetchedFolder)
    path = scene.path / where
    assert (folder.path, folder.sha1) == (path, sha1(scene.archive))
    assert tree_of(path) == extracted(scene.archive, scene.path.parent / "tarfile")
    scene.assert_sums(path)
    finish_unpacked(scene.place, folder)
    assert list(scene.place.state_dir.iterdir()) == []


def stopped_after(scene: Scene, share: float, *, unpack: bool = True) -> int:
    """Let a run be told to stop when it has so much of the product; return how many bytes it has taken."""
    before = scene.source.sent

    def listen(event: TransferEvent) -> None:
        if isinstance(event, Progress) and event.done >= share * len(scene.archive):
            scene.stop.set()

    scene.listen = listen
    with pytest.raises(Stopped):
        scene.fetch(unpack=unpack)
    scene.stop.clear()
    scene.listen = scene.events.append
    return scene.source.sent - before


@pytest.fixture(autouse=True)
def always_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mwa_client.transfer.common.PROGRESS_INTERVAL", 0.0)
    monkeypatch.setattr(unpack_part, "WRITE_SIZE", 4000)


# --- When all goes well ------------------------------------------------------------------------------


def test_a_product_becomes_a_folder_like_that_of_tar(scene: Scene) -> None:
    folder = scene.fetch_folder()
    assert (folder.size, folder.fetched, folder.files) == (len(scene.archive), len(scene.archive), 5)
    assert folder.verified
    assert folder.mtime_ns == scene.folder.stat().st_mtime_ns
    assert_right(scene, folder)
    assert [each.name for each in scene.path.iterdir() if each.name != ".mwa_client"] == [FOLDER]


def test_without_a_sha1_from_the_service_it_is_not_called_verified(scene: Scene) -> None:
    scene.expected = replace(scene.expected, sha1=None)
    folder = scene.fetch_folder()
    assert not folder.verified
    assert_right(scene, folder)


def test_the_folder_itself_is_a_member_too(tmp_path: Path) -> None:
    scene = Scene(tmp_path, tar_of(folder(".", mode=0o2550), member("./a", b"x"), folder("./d", mode=0o500)))
    scene.fetch()
    state = scene.folder.stat()
    assert (stat.S_IMODE(state.st_mode), state.st_mtime) == (0o550, MTIME)
    assert stat.S_IMODE((scene.folder / "d").stat().st_mode) == 0o500


def test_nothing_stands_under_the_final_name_before_all_is_verified(many: Scene) -> None:
    seen: set[str] = set()
    many.listen = lambda event: seen.update(each.name for each in many.path.iterdir())
    many.fetch()
    assert seen == {".mwa_client"}
    assert stat.S_IMODE(many.work.stat().st_mode) == 0o700


@pytest.mark.parametrize("by", [-1, 1])
def test_what_somebody_changes_meanwhile_gets_no_final_name(many: Scene, by: int) -> None:
    def listen(event: TransferEvent) -> None:
        if isinstance(event, Progress) and event.done == len(many.archive):
            file = next(each for each in (many.work / "members").rglob("*") if each.is_file())
            os.truncate(file, file.stat().st_size + by)

    many.listen = listen
    with pytest.raises(PartBroken, match="is not as it was written"):
        many.fetch()
    assert not many.folder.exists()
    many.listen = many.events.append
    assert_right(many, many.fetch_folder())


def test_no_more_room_is_taken_than_that_of_the_product(tmp_path: Path) -> None:
    scene = Scene(tmp_path, tar_of(*(member(f"d/{number}", b"x" * 300_000) for number in range(20))))
    most = 0

    def listen(event: TransferEvent) -> None:
        nonlocal most
        most = max(most, tree_size(scene.path))

    scene.listen = listen
    scene.fetch()
    assert len(scene.archive) * 0.9 < most <= 1.02 * len(scene.archive)


# --- Several connections -----------------------------------------------------------------------------


@contextmanager
def many_connections(window: int) -> Iterator[None]:
    """Have connections at once, however short the product is, and a small window."""

    def update(self: ConnectionTuner, measured: object) -> None:
        self.target = self.active = self.most

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConnectionTuner, "update", update)
        patch.setattr(tuner, "LEAST_EACH", 1)
        patch.setattr(tuner, "LEAST_AHEAD", 300)
        for name, value in {
            "PIECE": 1000,
            "SHORT_SEGMENT": 3000,
            "LONG_SEGMENT": 9000,
            "LEAST_SPLIT": 20,
        }.items():
            patch.setattr(segments, name, value)
        patch.setattr(extra, "EXTRA_WRITE_SIZE", 1000)
        patch.setattr(extra, "ADJUST_INTERVAL", -1.0)
        for name in ("LEAST_WINDOW", "MOST_WINDOW"):
            patch.setattr(unpack_part, name, window)
        patch.setattr(unpack_part, "SLACK", 8000)
        patch.setattr(sequence, "HAND_ON_SIZE", 700)
        yield


@pytest.mark.parametrize("connections", [2, 3, 7])
def test_several_connections_fill_one_folder(connections: int, tmp_path: Path) -> None:
    scene = Scene(tmp_path / "downloads", tar_of(*MANY), connections)
    scene.source.piece = 500
    scene.source.delay = lambda start: 0.0005 if start == 0 else 0.0
    with many_connections(window=30_000):
        folder = scene.fetch_folder()
    assert len(scene.source.asked) > connections
    assert folder.fetched < 1.5 * len(scene.archive)
    assert_right(scene, folder)


def test_nothing_is_asked_for_beyond_the_window(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "downloads", tar_of(*MANY), 4)
    scene.source.piece = 500
    scene.source.delay = lambda start: 0.002 if start == 0 else 0.0
    ahead = []
    write = sequence.ByteSequence.write

    def watched(self: sequence.ByteSequence, start: int, data: memoryview) -> None:
        ahead.append(start + len(data) - self.position)
        write(self, start, data)

    with many_connections(window=30_000), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequence.ByteSequence, "write", watched)
        folder = scene.fetch_folder()
    assert 10_000 < max(ahead) <= 30_000 + 8000
    assert_right(scene, folder)


def test_a_connection_that_breaks_everywhere_costs_no_byte_twice(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "downloads", tar_of(*MANY))
    scene.source.cut_after = 7001
    folder = scene.fetch_folder()
    assert folder.fetched == len(scene.archive)
    assert_right(scene, folder)


# --- Ended and begun again ---------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99])
def test_what_a_run_has_unpacked_is_not_fetched_again(share: float, many: Scene) -> None:
    many.source.piece = 1000
    taken = stopped_after(many, share)
    there = bytes_in_unpacking(many.place, NAME)
    assert taken - 4096 <= there <= taken
    folder = many.fetch_folder()
    assert folder.fetched == len(many.archive) - there
    assert_right(many, folder)


def test_bytes_of_another_product_are_thrown_away(many: Scene, tmp_path: Path) -> None:
    stopped_after(many, 0.5)
    many.expected = replace(many.expected, job_id=JOB + 1)
    assert many.fetch_folder().fetched == len(many.archive)


@pytest.mark.parametrize("change", ["member", "size", "kept", "note", "link", "gone"])
def test_what_somebody_has_changed_is_fetched_anew(change: str, many: Scene) -> None:
    many.source.piece = 1000
    stopped_after(many, 0.7)
    table = many.work / "members" / "obs.ms" / "table.dat"
    if change == "member":
        table.chmod(0o600)
        table.write_bytes(b"TABLE" * 1000)
    elif change == "size":
        table.write_bytes(b"short")
    elif change == "kept":
        (many.work / "kept").write_bytes(b"junk" * 500)
    elif change == "note":
        (many.work / "note.json").write_text("{}")
    elif change == "link":
        table.unlink()
        table.symlink_to("/etc/passwd")
    else:
        table.unlink()
    assert_right(many, many.fetch())
    assert Path("/etc/passwd").stat().st_size > 0


def test_a_wrong_sha1_twice_leaves_nothing(scene: Scene) -> None:
    scene.expected = replace(scene.expected, sha1="0" * 40)
    with pytest.raises(VerificationFailed):
        scene.fetch()
    assert [each.name for each in scene.path.iterdir()] == [".mwa_client"]
    assert list(scene.place.state_dir.iterdir()) == []
    assert scene.source.sent == 2 * len(scene.archive)


def test_a_changed_version_is_found_by_its_sha1(many: Scene) -> None:
    """Another ETag alone says nothing: two servers of one store can have different ones."""
    many.source.piece = 1000
    stopped_after(many, 0.5)
    good = many.archive
    many.source.data = tar_of(*MANY[:-1], member("obs.ms/39/data", b"?" * 9000))
    many.source.etag = '"2"'
    many.source.then = good
    assert_right(many, many.fetch())


def test_a_disk_that_fills_up_keeps_what_is_there(tmp_path: Path) -> None:
    big = member("big", b"x" * 400_000)
    scene = Scene(tmp_path / "downloads", tar_of(*USUAL, big, member("last", b"y" * 1000)))
    with longest_file(300_000), pytest.raises(DiskFull) as full:
        scene.fetch()
    assert "kept" in full.value.remedy
    there = bytes_in_unpacking(scene.place, NAME)
    assert there > 300_000
    folder = scene.fetch_folder()
    assert folder.fetched == len(scene.archive) - there
    assert_right(scene, folder)


KILLED = """
import sys, time
from pathlib import Path
from tars import Scene
path, archive = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
scene = Scene(path, archive)
# It has written two pieces of what it gathers, and some of the third, when nothing comes any more.
scene.source.delay = lambda start: 0 if scene.source.sent < 2_500_000 else 600
scene.fetch()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")
def test_what_is_read_again_for_its_sha1_is_left_open_by_nobody(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "downloads", tar_of(member("big", b"x" * 300_000)))
    stopped_after(scene, 0.5)
    assert_right(scene, scene.fetch())
    assert_none_open(scene)


def assert_none_open(scene: Scene) -> None:
    numbers = Path("/proc/self/fd").iterdir()
    assert not [each for each in numbers if str(scene.path) in os.path.realpath(each)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")
def test_a_disk_that_is_full_at_the_end_of_a_file_leaves_none_open(
    many: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patch, pytest.raises(DiskFull):
        patch.setattr("mwa_client.transfer.unpacking.unpack.SumLines.put_all", full)
        many.fetch()
    assert_none_open(many)
    assert_right(many, many.fetch())


@pytest.mark.parametrize("there", [len(NO_SUM) - 1, len(NO_SUM), len(f"{NO_SUM}  obs.ms/")])
def test_a_line_of_checksums_that_was_cut_off_is_written_anew(there: int, many: Scene) -> None:
    """A disk that fills up, or a kill, can end a write anywhere."""
    stopped_after(many, 0.5)
    sums = many.work / "sums"
    *whole, last = sums.read_bytes().splitlines(keepends=True)
    assert last.endswith(b"/data\n")
    os.truncate(sums, sum(map(len, whole)) + there)
    assert_right(many, many.fetch())


@pytest.mark.parametrize("has_lost_power", [False, True])
@pytest.mark.parametrize("left_out", ["_finish_link", "_finish_hard_link"])
def test_a_link_that_was_only_made_gets_its_time(
    left_out: str, has_lost_power: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = hard_link if left_out == "_finish_hard_link" else link
    scene = Scene(tmp_path / "downloads", tar_of(member("a", b"a"), kind("b", "a", mtime=MTIME + 5)))
    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(MemberFolder, left_out, _interrupt)
            scene.fetch()
        if has_lost_power:
            note = read_unpack_note(UnpackPlace(scene.work))
            assert note is not None
            write_unpack_note(UnpackPlace(scene.work), replace(note, boot="another"), sync=False)
    assert_right(scene, scene.fetch())


def test_a_part_file_that_was_only_begun_is_not_left_behind(many: Scene) -> None:
    """A kill leaves one where the first header came damaged: nothing of the tar was unpacked then."""
    with part_file.open_part(many.place.part(NAME), many.expected, many.stop):
        pass
    assert many.place.part(NAME).exists()
    assert_right(many, many.fetch())
    assert [path.name for path in many.place.state_dir.glob(f"{NAME}.part*")] == []


def test_a_killed_process_costs_next_to_nothing(tmp_path: Path) -> None:
    members = [*MANY, member("big", bytes(range(256)) * 12_000)]
    scene = Scene(tmp_path / "downloads", tar_of(*members))
    (tmp_path / "archive").write_bytes(scene.archive)
    paths = os.pathsep.join([str(Path(__file__).parent.parent), *sys.path])
    command = [sys.executable, "-c", KILLED, str(scene.path), str(tmp_path / "archive")]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}) as process:
        wait_until(lambda: bytes_in_unpacking(scene.place, NAME) > 2_000_000)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    there = bytes_in_unpacking(scene.place, NAME)
    assert there < len(scene.archive)
    folder = scene.fetch_folder()
    assert len(scene.archive) - there <= folder.fetched <= len(scene.archive) - there + 4096
    assert_right(scene, folder)


# --- Names -------------------------------------------------------------------------------------------


def test_what_is_the_users_stays_the_users(scene: Scene) -> None:
    scene.folder.mkdir()
    (scene.folder / "notes").write_text("mine")
    assert_right(scene, scene.fetch(), f"{JOB}_{FOLDER}")
    assert (scene.folder / "notes").read_text() == "mine"
    assert [each.name for each in scene.events if isinstance(each, FileNotice)] == [FOLDER]


@pytest.mark.parametrize("kind", ["file", "empty folder", "link", "dangling link"])
def test_nothing_is_replaced_by_the_folder(kind: str, scene: Scene, tmp_path: Path) -> None:
    if kind == "file":
        scene.folder.write_text("mine")
    elif kind == "empty folder":
        scene.folder.mkdir()
    else:
        (tmp_path / "elsewhere").mkdir()
        scene.folder.symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nowhere"))
    before = scene.folder.lstat()
    assert_right(scene, scene.fetch(), f"{JOB}_{FOLDER}")
    assert scene.folder.lstat() == before or kind == "link"
    assert not list((tmp_path / "elsewhere").iterdir()) if kind == "link" else True


def test_a_crash_after_the_rename_is_not_one_fetch_more(scene: Scene) -> None:
    first = scene.fetch_folder()
    scene.folder.chmod(0o700)  # As if the crash had come right behind the rename.
    again = scene.fetch_folder()
    assert again == replace(first, fetched=0)
    assert stat.S_IMODE(scene.folder.stat().st_mode) != 0o700
    assert len(scene.source.asked) == 1
    assert scene.fetch(unpack=False) == again
    assert_right(scene, again)


def test_a_crash_before_the_rename_is_not_one_fetch_more(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mwa_client.transfer.unpacking.unpacked.rename_to_free_name", _interrupt)
        scene.fetch()
    fetched = scene.fetch_folder()
    assert fetched.fetched == 0
    assert_right(scene, fetched)


def test_a_folder_that_was_replaced_since_is_fetched_anew(scene: Scene) -> None:
    scene.fetch()
    scene.folder.rename(scene.path / "kept")
    scene.folder.mkdir()
    assert_right(scene, scene.fetch(), f"{JOB}_{FOLDER}")
    assert list(scene.folder.iterdir()) == []


def test_a_kill_while_permissions_are_set_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = (folder("shut", mode=0), member("shut/file", b"x" * 900, mode=0), member("free", b"y"))
    scene = Scene(tmp_path / "downloads", tar_of(*members))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mwa_client.transfer.unpacking.to_folder.give_folder_name", _interrupt)
        scene.fetch()
    fetched = scene.fetch_folder()
    assert fetched.fetched == 0
    assert stat.S_IMODE((scene.folder / "shut").stat().st_mode) == 0
    assert_right(scene, fetched)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_its_size_is_known_even_where_its_permissions_let_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    with as_nobody() as path:
        scene = Scene(path / "d", tar_of(folder("shut", mode=0), member("shut/file", b"x" * 900)))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("mwa_client.transfer.unpacking.to_folder.give_folder_name", _interrupt)
            scene.fetch()
        assert bytes_in_unpacking(scene.place, NAME) == len(scene.archive)


@pytest.mark.parametrize("unpack", [True, False])
def test_a_crash_after_the_rename_is_not_one_fetch_more_where_a_file_of_the_users_has_its_name(
    scene: Scene, unpack: bool
) -> None:
    (scene.path / NAME).write_bytes(b"mine")
    first = scene.fetch_folder()
    assert scene.fetch(unpack=unpack) == replace(first, fetched=0)
    assert len(scene.source.asked) == 1
    assert sorted(each.name for each in scene.path.iterdir()) == [".mwa_client", f"{JOB}_{FOLDER}", NAME]
    assert (scene.path / NAME).read_bytes() == b"mine"


def test_another_version_is_unpacked_while_it_arrives_too(many: Scene) -> None:
    stopped_after(many, 0.5)
    many.archive = many.source.data = tar_of(*MANY, member("new", b"n" * 500))
    many.expected = replace(many.expected, size=len(many.archive), sha1=sha1(many.archive))
    seen: list[bool] = []
    many.listen = lambda event: seen.append(many.place.part(NAME).exists())
    assert_right(many, many.fetch())
    assert seen and not any(seen)


@pytest.mark.parametrize("until", range(2))
def test_a_kill_while_all_is_thrown_away_leaves_nothing_that_counts(
    until: int, many: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_after(many, 0.5)
    many.archive = many.source.data = tar_of(*MANY, member("new", b"n" * 500))
    many.expected = replace(many.expected, size=len(many.archive), sha1=sha1(many.archive))
    removed: list[Path] = []

    def remove(path: Path) -> None:
        if len(removed) == until:
            raise KeyboardInterrupt
        removed.append(path)
        remove_tree(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(kept, "remove_tree", remove)
        many.fetch()
    # What the killed run was about to expect is expected no more: what is left must not be taken for that.
    many.archive = many.source.data = tar_of(*MANY)
    many.expected = replace(many.expected, size=len(many.archive), sha1=sha1(many.archive))
    assert_right(many, many.fetch())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_without_the_rights_of_root_it_works_the_same() -> None:
    members = (
        folder(".", mode=0o555),
        folder("shut", mode=0),
        folder("shut/in", mode=0o111),
        member("shut/in/file", b"x" * 900, mode=0),
        member("readonly", b"y" * 5000, mode=0o444),
        hard_link("same", "readonly", mode=0o444),
        member("secret", b"s" * 700, mode=0),
        hard_link("secret too", "secret", mode=0),
        folder("twice", mode=0),
        folder("twice", mode=0),
    )
    with as_nobody() as path:
        for kind in ("fetched", "stopped", "refused"):
            extra = (member("../up"),) if kind == "refused" else ()
            scene = Scene(path / kind, tar_of(*members, member("last", b"z" * 30_000), *extra))
            scene.source.piece = 1000
            if kind != "fetched":
                stopped_after(scene, 0.5)
            if kind == "refused":
                with pytest.raises(UnpackRefused):
                    scene.fetch()
                assert (scene.path / NAME).read_bytes() == scene.archive
            else:
                scene.fetch()
                modes = {each.name: stat.S_IMODE(each.lstat().st_mode) for each in scene.folder.iterdir()}
                shut = dict.fromkeys(("shut", "secret", "secret too", "twice"), 0)
                assert modes == {**shut, "readonly": 0o444, "same": 0o444, "last": 0o644}
                assert stat.S_IMODE(scene.folder.stat().st_mode) == 0o555


# --- A tar that is there already ---------------------------------------------------------------------


def test_a_tar_of_an_earlier_run_is_unpacked_from_the_disk(scene: Scene) -> None:
    tar = scene.fetch(unpack=False)
    assert tar.path == scene.path / NAME
    scene.source.asked.clear()
    folder = scene.fetch()
    assert scene.source.asked == []
    assert not tar.path.exists()
    assert_right(scene, folder)


def test_a_tar_of_the_users_is_unpacked_and_stays(scene: Scene) -> None:
    tar = scene.path / NAME
    tar.write_bytes(scene.archive)
    folder = scene.fetch()
    assert scene.source.asked == []
    assert tar.read_bytes() == scene.archive
    assert_right(scene, folder)


def test_a_tar_that_was_touched_since_stays(scene: Scene) -> None:
    tar = scene.fetch(unpack=False)
    os.utime(tar.path, (1, 1))
    assert_right(scene, scene.fetch())
    assert tar.path.exists()


def test_unpacking_from_the_disk_goes_on_where_it_was_ended(many: Scene) -> None:
    many.fetch(unpack=False)
    many.source.asked.clear()
    stopped_after(many, 0.5)
    there = bytes_in_unpacking(many.place, NAME)
    assert there > 0
    assert_right(many, many.fetch())
    assert many.source.asked == []


def test_a_crash_before_the_tar_is_removed_leaves_none(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = scene.fetch(unpack=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mwa_client.transfer.download.remove_archive", _interrupt)
        scene.fetch()
    assert tar.path.exists()
    assert scene.folder.exists()
    folder = scene.fetch()
    assert not tar.path.exists()
    assert_right(scene, folder)


def _interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_a_refused_tar_on_the_disk_stays(tmp_path: Path) -> None:
    scene = Scene(tmp_path, tar_of(*HOSTILE))
    tar = scene.fetch(unpack=False)
    with pytest.raises(UnpackRefused) as refusal:
        scene.fetch()
    assert refusal.value.kept == replace(tar, fetched=0)
    assert list(scene.place.state_dir.iterdir()) == []
    assert tar.path.read_bytes() == scene.archive


def test_a_product_begun_as_a_file_is_not_fetched_again(many: Scene) -> None:
    many.source.piece = 1000
    taken = stopped_after(many, 0.5, unpack=False)
    assert_right(many, many.fetch())
    assert many.source.sent == len(many.archive) or taken > many.source.sent - len(many.archive)
    assert not (many.path / NAME).exists()


# --- Back to a tar -----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99])
def test_without_the_option_what_was_unpacked_becomes_a_tar_again(share: float, many: Scene) -> None:
    many.source.piece = 1000
    stopped_after(many, share)
    there = bytes_in_unpacking(many.place, NAME)
    tar = many.fetch(unpack=False)
    assert tar.path.read_bytes() == many.archive
    assert tar.fetched == len(many.archive) - there
    assert list(many.place.state_dir.iterdir()) == []


def test_what_was_unpacked_needs_its_room_once_when_it_stays_a_tar(
    many: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, files = len(many.archive), [(many.expected, ProductFile(NAME))]
    stopped_after(many, 0.5)
    there = bytes_in_unpacking(many.place, NAME)
    assert there > 0.4 * size and bytes_to_come(files, many.place) == size - there
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(repack._Copy, "_flush", _interrupt)
        many.fetch(unpack=False)
    for unpack in (False, True):
        assert bytes_to_come(files, many.place, unpack=unpack) == size - there


def test_a_note_that_cannot_be_read_just_now_costs_nothing(
    many: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_after(many, 0.5)
    there = bytes_in_unpacking(many.place, NAME)

    def unreadable(path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch, pytest.raises(DirectoryUnusable, match=r"note\.json"):
        patch.setattr("mwa_client.directory.our_files.read_ours", unreadable)
        many.fetch()
    assert many.fetch().fetched == len(many.archive) - there


def test_what_others_put_in_the_folders_place_stays_as_it_is(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = scene.path / "mine"
    mine.mkdir(0o700)

    def swapped(path: Path, final: Path) -> bool:
        path.rename(scene.path / "moved")
        final.symlink_to(mine)
        return True

    monkeypatch.setattr("mwa_client.transfer.unpacking.unpacked.rename_to_free_name", swapped)
    with pytest.raises(DirectoryUnusable):
        scene.fetch()
    assert stat.S_IMODE(mine.stat().st_mode) == 0o700


def test_what_is_made_in_a_groups_folder_is_the_groups(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "downloads", tar_of(folder("explicit"), member("implied/file", b"x")))
    scene.path.chmod(0o2775)
    scene.place.state_dir.chmod(0o2755)
    unpacked = scene.fetch_folder().path
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (unpacked, *sorted(unpacked.iterdir()))]
    assert [mode & 0o7000 for mode in modes] == [stat.S_ISGID] * 3 and modes[1] == 0o2755


def test_a_refused_product_is_fetched_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path, tar_of(*HOSTILE))
    scene.source.piece = 1000
    with pytest.raises(UnpackRefused) as refusal:
        scene.fetch()
    assert refusal.value.kept.path.read_bytes() == scene.archive
    assert scene.source.sent <= len(scene.archive) + 4096
    assert refusal.value.kept.fetched <= 60_000


@pytest.mark.parametrize(("window", "free"), [(20_000, 1e9), (64 << 20, 1000)])
def test_a_refused_product_takes_the_room_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int, free: float
) -> None:
    """Even one large member is cut while it is copied; where there is little room, after each write."""
    monkeypatch.setattr(repack, "SYNC_SIZE", window)
    monkeypatch.setattr(repack, "WRITE_SIZE", 10_000)
    monkeypatch.setattr(repack, "free_bytes", lambda path: free)
    scene = Scene(tmp_path, tar_of(member("big", b"x" * 700_000), *HOSTILE))
    most, sync = 0, part_file.PartFile.sync

    def watched(self: part_file.PartFile) -> None:
        nonlocal most
        most = max(most, sum(each.stat().st_blocks * 512 for each in scene.path.rglob("*") if each.is_file()))
        sync(self)

    monkeypatch.setattr(part_file.PartFile, "sync", watched)
    with pytest.raises(UnpackRefused):
        scene.fetch()
    assert most < len(scene.archive) + 250_000  # Each small file takes a block.


def test_of_a_refused_product_nothing_stays_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is unpacked once more from the tar, for which there may be no room."""
    scene = Scene(tmp_path, tar_of(*HOSTILE))

    def full_disk(*_: object) -> None:
        raise DiskFull("No room.", "Make room.")

    monkeypatch.setattr("mwa_client.transfer.unpacking.to_folder._feed_from", full_disk)
    with pytest.raises(UnpackRefused, match="outside"):
        scene.fetch()
    assert list(scene.place.state_dir.iterdir()) == []


@pytest.mark.parametrize("number", range(1, 8))
def test_a_kill_while_the_tar_is_made_again_costs_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repack, "SYNC_SIZE", 40_000)
    monkeypatch.setattr(repack, "WRITE_SIZE", 15_000)
    scene = Scene(tmp_path, tar_of(member("big", b"x" * 90_000), *HOSTILE))
    flushes, flush = 0, repack._Copy._flush

    def killed(self: repack._Copy) -> None:
        nonlocal flushes
        flushes += 1
        if flushes == number:
            raise KeyboardInterrupt
        flush(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(repack._Copy, "_flush", killed)
        scene.fetch()
    before = scene.source.sent
    with pytest.raises(UnpackRefused) as refusal:
        scene.fetch()
    assert refusal.value.kept.path.read_bytes() == scene.archive
    assert scene.source.sent <= len(scene.archive) + before - (len(scene.archive) - 60_000)


# --- Leftovers ---------------------------------------------------------------------------------------


def test_what_is_left_of_a_lost_job_is_removed(many: Scene) -> None:
    stopped_after(many, 0.5)
    assert remove_leftovers(many.place, [JOB + 1]) == []
    (removed,) = remove_leftovers(many.place, [JOB])
    assert (removed.name, removed.job_id) == (NAME, JOB)
    assert removed.size > 0
    assert list(many.place.state_dir.iterdir()) == []


def test_a_folder_that_has_its_name_is_no_leftover(scene: Scene) -> None:
    scene.fetch()
    assert remove_leftovers(scene.place, [JOB]) == []
    assert scene.folder.exists()
    assert scene.work.exists()


def test_what_is_unpacked_can_be_removed(many: Scene) -> None:
    stopped_after(many, 0.5)
    remove_unpacking(many.place, NAME)
    remove_unpacking(many.place, NAME)
    assert bytes_in_unpacking(many.place, NAME) == 0
    assert list(many.place.state_dir.iterdir()) == []


def test_a_work_folder_that_is_a_link_is_not_followed(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    scene.work.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DirectoryUnusable):
        scene.fetch()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_names_are_recorded_before_the_rename(scene: Scene) -> None:
    entries: list[dict[str, object]] = []
    scene.place = replace(scene.place, names=FinalNames("", lambda entry: entries.append(dict(entry))))
    scene.fetch()
    placing = [entry for entry in entries if entry["event"] == "placing"]
    assert [entry["files"][0]["name"] for entry in placing] == [FOLDER]  # type: ignore[index]
