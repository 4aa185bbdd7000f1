"""Deliveries that this host can see: the copy is the right folder or none, and the source is only read."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared import FastClock, longest_file

from mwa_client.directory.trees import remove_tree, tree_size, walk_tree
from mwa_client.errors import DirectoryUnusable, DiskFull, Stopped, TransferFailed
from mwa_client.transfer import common, folder, journal
from mwa_client.transfer.delivered import Entry
from mwa_client.transfer.events import FileNotice, Progress, TransferEvent
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile, FetchedFile
from mwa_client.transfer.folder import FolderCopier
from mwa_client.transfer.part_hash import PartBroken
from mwa_client.transfer.standing import Standing, standing_of

NAME = "1191828584_7"
CONTENT = {
    "1191828584_ms/header": b"h" * 100,
    "1191828584_ms/table/data_1": bytes(range(256)) * 9000,
    "1191828584_ms/table/data_2": b"",
    "README": b"read me",
}
BIG = "1191828584_ms/table/data_1"
TOTAL = sum(map(len, CONTENT.values()))


def make(root: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def content_of(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def write_over(path: Path, data: bytes) -> None:
    """Write into a file in place, where it begins; its size stays."""
    with path.open("r+b") as file:
        file.write(data)


class Scene:
    """A delivery and a download directory."""

    def __init__(self, root: Path, content: dict[str, bytes] = CONTENT) -> None:
        self.source = make(root / "scratch" / "7", content)
        self.place = DownloadDirectory(root / "data", root / "data" / ".mwa_client")
        self.place.state_dir.mkdir(parents=True)
        self.final = self.place.path / NAME
        self.moves: list[Progress] = []
        self.remarks: list[str] = []
        self.stop = threading.Event()
        self.patience = -1

    def copy(self, size: int | None = None, *, stop_after: int = -1) -> tuple[FetchedFile, ...]:
        """Copy; be told to stop after so many reports of progress."""
        self.stop, self.patience = threading.Event(), stop_after
        if stop_after == 0:
            self.stop.set()
        copier = FolderCopier(self.place, FastClock(), self.stop, self.listen)
        return copier.copy(ExpectedFile(7, NAME, size, None), self.source)

    def listen(self, event: TransferEvent) -> None:
        if isinstance(event, FileNotice):
            self.remarks.append(event.text)
            return
        assert isinstance(event, Progress)
        self.moves.append(event)
        self.patience -= 1
        if self.patience == 0:
            self.stop.set()

    @property
    def left(self) -> list[str]:
        """What is left in the memory."""
        return sorted(path.name for path in self.place.state_dir.iterdir())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_folder_is_copied_and_stays_where_it_is(scene: Scene) -> None:
    files = scene.copy()
    assert content_of(scene.final) == content_of(scene.source) == CONTENT
    assert {file.path.relative_to(scene.final).as_posix(): file.size for file in files} == {
        name: len(data) for name, data in CONTENT.items()
    }
    assert {file.path.relative_to(scene.final).as_posix(): file.sha1 for file in files} == {
        name: hashlib.sha1(data).hexdigest() for name, data in CONTENT.items()
    }
    assert scene.left == [] and not any(file.verified for file in files)
    assert scene.moves[-1].done == scene.moves[-1].size == TOTAL


def test_what_is_there_is_not_copied_again(scene: Scene) -> None:
    files = scene.copy()
    before = {path: path.stat().st_ino for path in scene.final.rglob("*")}
    assert scene.copy() == files and scene.left == []
    assert {path: path.stat().st_ino for path in scene.final.rglob("*")} == before


def test_a_single_file(scene: Scene) -> None:
    data = CONTENT["1191828584_ms/table/data_1"]
    scene.source = scene.source / "1191828584_ms/table/data_1"
    scene.source.chmod(0o600)
    (file,) = scene.copy(len(data))
    assert file.path == scene.final and scene.final.read_bytes() == data == scene.source.read_bytes()
    assert scene.left == [] and scene.final.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_has_the_name_already_stays_and_the_copy_gets_another(scene: Scene, is_folder: bool) -> None:
    old = {"thesis": b"a year of work"}
    if is_folder:
        make(scene.final, old)
    else:
        scene.final.write_bytes(old["thesis"])
    files = scene.copy()
    assert content_of(scene.final) == old if is_folder else scene.final.read_bytes() == old["thesis"]
    other = scene.final.with_name(f"7_{NAME}")
    assert content_of(other) == CONTENT and {other} <= set(files[0].path.parents)
    assert scene.left == [] and other.name in scene.remarks[0]


@pytest.mark.parametrize("work", ["grown", "of the same size", "removed"])
def test_a_copy_that_the_user_has_worked_on_is_not_replaced(scene: Scene, work: str) -> None:
    scene.copy()
    readme = scene.final / "README"
    if work == "removed":
        readme.unlink()
    else:
        readme.write_bytes(b"read me, too" if work == "grown" else b"my text")
    mine = content_of(scene.final)
    scene.copy()
    assert content_of(scene.final) == mine and content_of(scene.final.with_name(f"7_{NAME}")) == CONTENT


def test_killed_at_the_last_rename(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if Path(target) == scene.final:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        scene.copy()
    assert not scene.final.exists()
    monkeypatch.undo()
    assert sum(file.fetched for file in scene.copy()) == 0
    assert content_of(scene.final) == CONTENT and scene.left == []


def test_going_on_does_not_copy_twice(scene: Scene) -> None:
    with pytest.raises(Stopped):
        scene.copy(stop_after=2)
    assert not scene.final.exists() and f"{NAME}.part" in scene.left
    total = sum(file.fetched for file in scene.copy())
    assert content_of(scene.final) == CONTENT and 0 < total < TOTAL


def copy_in_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a copy tell how far it is after each 100 kB, and be flushed after each 500 kB."""
    monkeypatch.setattr(folder, "COPY_SYNC_SIZE", 500_000)
    monkeypatch.setattr(folder, "COPY_BLOCK_SIZE", 100_000)
    monkeypatch.setattr(common, "PROGRESS_INTERVAL", 0.0)


def test_a_large_file_goes_on_in_its_middle(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_in_small_steps(monkeypatch)
    with pytest.raises(Stopped):
        scene.copy(stop_after=16)
    # What was synced counts after a power cut, too.
    monkeypatch.setattr(journal, "boot_id", lambda: "another boot")
    total = sum(file.fetched for file in scene.copy())
    assert content_of(scene.final) == CONTENT and 0 < total <= TOTAL - 1_000_000


def test_after_a_power_cut_only_what_was_synced_counts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Stopped):
        scene.copy(stop_after=3)
    for path in scene.place.part(NAME).rglob("*"):
        if path.is_file():  # As a journaling file system may leave it: the size is there, the bytes are not.
            path.write_bytes(bytes(path.stat().st_size))
    monkeypatch.setattr(journal, "boot_id", lambda: "another boot")
    assert sum(file.fetched for file in scene.copy()) == TOTAL
    assert content_of(scene.final) == CONTENT


def test_a_journal_of_another_job_or_of_nobody_counts_for_nothing(scene: Scene) -> None:
    for text in (b"", b"\xff", b"{}", b"[1]\n" * 3, b'{"job_id": 8}\n', b"[" * 100_000, b'{"job_id": 7}'):
        make(scene.place.part(NAME), {"stray": b"?", "README": b"not it"})
        (scene.place.state_dir / f"{NAME}.copied").write_bytes(text)
        scene.copy()
        assert content_of(scene.final) == CONTENT and scene.left == []
        remove_tree(scene.final)


@given(st.lists(st.integers(0, 12), max_size=6))
@settings(max_examples=25, deadline=None)
def test_any_cuts_end_in_the_right_folder_or_none(cuts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as root:
        scene = Scene(Path(root))
        for cut in cuts:
            try:
                scene.copy(stop_after=cut)
            except Stopped:
                assert not scene.final.exists() or content_of(scene.final) == CONTENT
            else:
                assert content_of(scene.final) == CONTENT
            assert content_of(scene.source) == CONTENT
        scene.copy()
        assert content_of(scene.final) == CONTENT and scene.left == []


# --- What somebody else does to the copy --------------------------------------------------------------


@pytest.mark.parametrize("when", ["meanwhile", "between two runs"])
@pytest.mark.parametrize(
    "deed",
    ["truncated", "longer", "of the same size", "removed", "a link", "a folder", "moved behind a link"],
)
def test_a_copy_that_somebody_has_changed_is_no_product(scene: Scene, deed: str, when: str) -> None:
    done: list[TransferEvent] = []
    told = scene.listen

    def disturb() -> None:
        copy = scene.place.part(NAME) / "1191828584_ms"
        header = copy / "header"
        if deed == "truncated":
            os.truncate(header, 3)
        elif deed == "longer":
            os.truncate(header, 103)
        elif deed == "of the same size":
            header.write_bytes(b"?" * 100)
            os.utime(header, ns=(1, 1))
        elif deed == "moved behind a link":
            copy.rename(scene.place.path / "elsewhere")
            copy.symlink_to(scene.place.path / "elsewhere")
        else:
            header.unlink()
            if deed == "a link":
                header.symlink_to(make(scene.place.path, {"mine": b"h" * 100}) / "mine")
            elif deed == "a folder":
                header.mkdir()

    def listen(event: TransferEvent) -> None:
        told(event)
        if isinstance(event, Progress) and event.done > 200 and not done:
            done.append(event)
            if when == "meanwhile":
                disturb()
            else:
                scene.stop.set()

    scene.listen = listen  # type: ignore[method-assign]
    if when == "meanwhile":
        with pytest.raises(DirectoryUnusable, match="was changed or replaced after it was written"):
            scene.copy()
    else:
        with pytest.raises(Stopped):
            scene.copy()
        disturb()
    assert not scene.final.exists()
    scene.copy()
    assert content_of(scene.final) == CONTENT and scene.left == []
    assert not any(path.is_symlink() for path in scene.final.rglob("*"))


def test_a_copy_that_was_only_touched_is_read_again(scene: Scene) -> None:
    with pytest.raises(Stopped):
        scene.copy(stop_after=2)
    for path in scene.place.part(NAME).rglob("*"):
        os.utime(path, ns=(1, 1))
    total = sum(file.fetched for file in scene.copy())
    assert content_of(scene.final) == CONTENT and 0 < total < TOTAL


@pytest.mark.parametrize("is_noted", [True, False])
def test_a_copy_that_was_only_touched_is_read_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, is_noted: bool
) -> None:
    with pytest.raises(Stopped):
        scene.copy(stop_after=2)
    copies = [path for path in scene.place.part(NAME).rglob("*") if path.is_file()]
    notes = scene.place.state_dir / f"{NAME}.copied"
    if is_noted:
        for path in copies:
            os.utime(path, ns=(1, 1))
    else:  # The first versions did not note the times of copies.
        notes.write_text(re.sub(', "left_ns": [0-9]*', "", notes.read_text()))
    read: list[Path] = []

    def sha1_of(path: Path, stop: threading.Event) -> str:
        read.append(path)
        return hashlib.sha1(path.read_bytes()).hexdigest()

    monkeypatch.setattr(folder, "sha1_of", sha1_of)
    files = scene.copy()
    assert content_of(scene.final) == CONTENT
    assert 0 < len(read) == len(set(read)) <= len(copies)
    assert standing_of(scene.place.path, files) is Standing.AS_LEFT


def test_a_file_that_is_cut_while_it_is_copied_is_copied_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_in_small_steps(monkeypatch)
    big = scene.place.part(NAME) / "1191828584_ms/table/data_1"

    def cut(event: TransferEvent) -> None:
        if isinstance(event, Progress) and 1_200_000 < event.done < 1_400_000:
            os.truncate(big, 0)

    with monkeypatch.context() as patch:
        patch.setattr(scene, "listen", cut)
        with pytest.raises(PartBroken, match="changed its length"):
            scene.copy()
    os.truncate(big, 2_000_000)  # As if more had been written behind what is missing.
    scene.copy()
    assert content_of(scene.final) == CONTENT and scene.left == []


@pytest.mark.parametrize("is_noted", [True, False])
def test_half_a_copy_that_somebody_has_written_into_is_begun_anew(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, is_noted: bool
) -> None:
    copy_in_small_steps(monkeypatch)
    with pytest.raises(Stopped):
        scene.copy(stop_after=16)
    notes = scene.place.state_dir / f"{NAME}.copied"
    if is_noted:
        write_over(scene.place.part(NAME) / BIG, b"?" * 1000)
    else:  # Earlier versions did not note what they had copied.
        notes.write_text(re.sub(', "sha1_so_far": "[0-9a-f]*"', "", notes.read_text()))
    total = sum(file.fetched for file in scene.copy())
    assert content_of(scene.final) == CONTENT
    assert total > TOTAL - 1000 if is_noted else total <= TOTAL - 1_000_000


def test_a_file_that_is_replaced_while_it_is_copied_is_copied_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_in_small_steps(monkeypatch)
    big = scene.place.part(NAME) / BIG
    done: list[TransferEvent] = []

    def disturb(event: TransferEvent) -> None:
        if not done and isinstance(event, Progress) and event.done > 1_200_000:
            done.append(event)
            big.rename(scene.place.path / "other")
            big.write_bytes(bytes(len(CONTENT[BIG])))

    with monkeypatch.context() as patch:
        patch.setattr(scene, "listen", disturb)
        with pytest.raises(PartBroken, match="another program replaced it"):
            scene.copy()
    assert done and not scene.final.exists()
    scene.copy()
    assert content_of(scene.final) == CONTENT and scene.left == []


def test_what_is_changed_once_it_was_looked_at_shows_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(copy: folder._Copy, entries: list[Entry]) -> tuple[FetchedFile, ...]:
        write_over(scene.place.part(NAME) / "README", b"?")
        os.utime(scene.place.part(NAME) / "README", ns=(1, 1))
        return rename(copy, entries)

    rename = folder._Copy._rename
    monkeypatch.setattr(folder._Copy, "_rename", changed)
    assert standing_of(scene.place.path, scene.copy()) is Standing.TOUCHED


def test_half_a_copy_with_a_second_name_stays_as_it_is(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_in_small_steps(monkeypatch)
    with pytest.raises(Stopped):
        scene.copy(stop_after=16)
    kept = scene.place.path / "kept"
    os.link(scene.place.part(NAME) / "1191828584_ms/table/data_1", kept)
    before = kept.read_bytes()
    scene.copy()
    assert content_of(scene.final) == CONTENT and kept.read_bytes() == before


def test_half_a_copy_that_cannot_be_read_back_is_begun_anew(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_in_small_steps(monkeypatch)
    with pytest.raises(Stopped):
        scene.copy(stop_after=16)
    answers: Iterator[bytes] = iter([CONTENT["1191828584_ms/table/data_1"][:100]])

    def read(file: int, most: int) -> bytes:
        for data in answers:
            os.lseek(file, len(data), os.SEEK_SET)
            return data
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("mwa_client.transfer.file_copy.os.read", read)
        files = scene.copy()
    assert content_of(scene.final) == CONTENT
    assert [file.sha1 for file in files] == [
        hashlib.sha1(file.path.read_bytes()).hexdigest() for file in files
    ]


@pytest.mark.parametrize("room", [100, 1500])
def test_on_a_full_disk_it_stays_known_what_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(common, "PROGRESS_INTERVAL", 0.0)
    scene = Scene(tmp_path, {f"{number:02}": b"0123456789" for number in range(20)})
    with pytest.raises(Stopped):
        scene.copy(stop_after=5)
    with longest_file(room), pytest.raises(DiskFull, match="what was downloaded is kept"):
        scene.copy()
    copied = sum(path.is_file() for path in scene.place.part(NAME).rglob("*"))
    total = sum(file.fetched for file in scene.copy())
    # One was copied, and there was no room to note it.
    assert 200 - 10 * copied <= total <= 200 - 10 * copied + 10
    assert total < 200 and content_of(scene.final) == content_of(scene.source) and scene.left == []


# --- The source ---------------------------------------------------------------------------------------


def test_a_source_that_goes_in_the_middle(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = scene.source / "README"
    monkeypatch.setattr(scene, "listen", lambda event: gone.unlink(missing_ok=True))
    # In the order of their names, README is copied after this one has told its progress.
    make(scene.source, {"0": b"first"})
    with pytest.raises(TransferFailed, match="README: No such file"):
        scene.copy()
    assert not scene.final.exists()
    monkeypatch.undo()
    gone.write_bytes(CONTENT["README"])
    scene.copy()
    assert content_of(scene.final) == {**CONTENT, "0": b"first"}


@pytest.mark.parametrize("change", ["grows", "shrinks", "is written anew", "gets a file", "loses a folder"])
def test_a_source_that_changes_meanwhile_is_no_product(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    big = scene.source / "1191828584_ms/table/data_1"
    (scene.source / "empty").mkdir()
    done: list[TransferEvent] = []

    def disturb(event: TransferEvent) -> None:
        if done or not isinstance(event, Progress) or event.done < 1_000_000:
            return
        done.append(event)
        if change == "gets a file":
            (scene.source / "another").write_bytes(b"late")
        elif change == "loses a folder":
            (scene.source / "empty").rmdir()
        else:
            size = {"grows": 2_400_000, "shrinks": 2_200_000, "is written anew": 2_304_000}[change]
            big.write_bytes(bytes(size))

    monkeypatch.setattr(common, "PROGRESS_INTERVAL", 0.0)
    monkeypatch.setattr(scene, "listen", disturb)
    with pytest.raises(TransferFailed, match="changed while it was copied"):
        scene.copy()
    assert done and not scene.final.exists()
    monkeypatch.undo()
    scene.copy()
    assert content_of(scene.final) == content_of(scene.source)


@pytest.mark.parametrize("listed", [TOTAL - 1, TOTAL + 1, 5 * TOTAL, 0])
def test_the_listed_size_is_compared(scene: Scene, listed: int) -> None:
    with pytest.raises(TransferFailed, match=f"has {TOTAL} bytes, but the service says {listed}"):
        scene.copy(listed)
    assert not scene.final.exists() and scene.left == []
    scene.copy(TOTAL)
    assert content_of(scene.final) == CONTENT


def test_an_empty_folder_is_no_product(scene: Scene, tmp_path: Path) -> None:
    scene.source = tmp_path / "scratch" / "8"
    (scene.source / "inner").mkdir(parents=True)
    with pytest.raises(TransferFailed, match="contains no files"):
        scene.copy()
    assert not scene.final.exists() and scene.left == []


def test_a_folder_that_is_gone(scene: Scene, tmp_path: Path) -> None:
    scene.source = tmp_path / "nowhere"
    with pytest.raises(TransferFailed, match="nowhere: No such file or directory"):
        scene.copy()


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
@pytest.mark.parametrize("name", ["README", "1191828584_ms"])
def test_what_cannot_be_read(scene: Scene, name: str) -> None:
    mode = (scene.source / name).stat().st_mode
    (scene.source / name).chmod(0)
    with pytest.raises(TransferFailed, match="Permission denied"):
        scene.copy()
    assert not scene.final.exists()
    (scene.source / name).chmod(mode)


def test_a_file_system_that_hangs_for_a_moment(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    readv, failures = os.readv, iter([True, False, True, True])

    def hanging(file: int, buffers: list[memoryview]) -> int:
        if next(failures, False):
            raise OSError(errno.ESTALE, "Stale file handle")
        return readv(file, buffers)

    monkeypatch.setattr(os, "readv", hanging)
    monkeypatch.setattr(scene, "listen", lambda event: None)
    scandir, stale = os.scandir, iter([True, False, True])

    def hanging_list(*path: str) -> Iterator[os.DirEntry[str]]:
        if next(stale, False):
            raise OSError(errno.ESTALE, "Stale file handle", *path)
        return scandir(*path)

    monkeypatch.setattr(os, "scandir", hanging_list)
    scene.copy()
    assert content_of(scene.final) == CONTENT
    monkeypatch.setattr(os, "readv", lambda file, buffers: hanging(-1, buffers) if failures else 0)
    failures = iter(lambda: True, None)
    remove_tree(scene.final)
    with pytest.raises(TransferFailed, match="Stale file handle"):
        scene.copy()


# --- Links, modes, and odd trees ------------------------------------------------------------------------


def test_links_that_stay_inside_are_copied_as_links(scene: Scene) -> None:
    links = {
        "to_file": "1191828584_ms/header",
        "to_folder": "1191828584_ms",
        "1191828584_ms/up": "../README",
        "1191828584_ms/table/self": "..",
        "l1": ".",
        "l2": ".",
        "broken": "nowhere",
    }
    for name, target in links.items():
        (scene.source / name).symlink_to(target)
    (scene.source / "absolute").symlink_to(scene.source / "1191828584_ms" / "header")
    scene.copy(TOTAL)
    expected = {**links, "absolute": "1191828584_ms/header"}
    copied = {path.relative_to(scene.final).as_posix(): path for path in scene.final.rglob("*")}
    assert {name: str(path.readlink()) for name, path in copied.items() if path.is_symlink()} == expected
    assert (scene.final / "absolute").read_bytes() == CONTENT["1191828584_ms/header"]


@pytest.mark.parametrize(
    "links",
    [
        {"key": "{secret}"},
        {"key": "../../secret/id_rsa"},
        {"1191828584_ms/key": "../../../secret"},
        {"home": "/"},
        {"a": "..", "1191828584_ms/b": "../a"},
        {"1191828584_ms/up": "..", "out": "1191828584_ms/up/../../secret"},
    ],
)
def test_links_that_lead_out_are_refused(scene: Scene, tmp_path: Path, links: dict[str, str]) -> None:
    secret = make(tmp_path / "secret", {"id_rsa": b"private"}) / "id_rsa"
    for name, target in links.items():
        (scene.source / name).symlink_to(target.format(secret=secret))
    with pytest.raises(TransferFailed, match="points outside the delivery"):
        scene.copy()
    assert not scene.final.exists() and scene.left == []


def test_a_link_that_leaves_and_comes_back_leads_into_the_copy(scene: Scene) -> None:
    (scene.source.parent / "back").symlink_to("7/README")
    (scene.source / "by_name").symlink_to("../7/README")
    (scene.source / "1191828584_ms" / "by_another").symlink_to("../../back")
    (scene.source / "along").symlink_to("here/../README")
    (scene.source / "here").symlink_to("1191828584_ms")
    scene.copy(TOTAL)
    for link in ("by_name", "1191828584_ms/by_another", "along"):
        assert (scene.final / link).resolve() == (scene.final / "README").resolve()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_has_left_the_delivery_since_does_not_stay_in_the_copy(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    stray = scene.source / "1191828584_ms" / "A stray"
    if kind == "link":
        stray.symlink_to("header")
    else:
        make(scene.source, {"1191828584_ms/A stray" + "/deep/file" * (kind == "folder"): b"gone soon"})
    (scene.source / "1191828584_ms").chmod(0o555)

    def killed(*arguments: object) -> bool:
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(folder, "rename_to_free_name", killed)
        scene.copy()
    (scene.source / "1191828584_ms").chmod(0o755)
    remove_tree(stray)
    (scene.source / "1191828584_ms" / "header").write_bytes(b"another one")
    files = scene.copy()
    assert content_of(scene.final) == content_of(scene.source)
    assert not os.path.lexists(scene.final / "1191828584_ms" / "A stray")
    assert len(files) == len(content_of(scene.source))


def test_a_pipe_is_not_waited_for(scene: Scene) -> None:
    os.mkfifo(scene.source / "pipe")
    with pytest.raises(TransferFailed, match="pipe is not a file"):
        scene.copy()


def test_modes_are_never_widened_and_empty_folders_arrive(scene: Scene) -> None:
    modes = {"README": 0o600, "1191828584_ms/header": 0o4750, "1191828584_ms": 0o2750, "empty": 0o500}
    (scene.source / "empty" / "inner").mkdir(parents=True)
    for name, mode in modes.items():
        (scene.source / name).chmod(mode)
    scene.source.chmod(0o550)
    scene.copy()
    for name, mode in modes.items():
        assert (scene.final / name).stat().st_mode & 0o7777 == mode & 0o755, name
    assert scene.final.stat().st_mode & 0o777 == 0o550
    assert (scene.final / "empty" / "inner").is_dir()


def test_names_that_no_suffix_fits_behind(scene: Scene) -> None:
    content = {
        "n" * 255: b"long",
        "a": b"file",
        "a.part/b": b"folder",
        "a.part.json": b"{}",
        b"\xff".decode("utf-8", "surrogateescape"): b"no UTF-8",
    }
    make(scene.source, content)
    scene.copy()
    assert content_of(scene.final) == {**CONTENT, **content}


@pytest.fixture
def few_frames() -> Iterator[int]:
    """Make Python's stack so deep."""
    usual, most = sys.getrecursionlimit(), 350
    sys.setrecursionlimit(most)
    yield most
    sys.setrecursionlimit(usual)


def test_a_tree_deeper_than_pythons_stack(scene: Scene, few_frames: int) -> None:
    deep = scene.source
    for _ in range(few_frames + 50):
        deep = deep / "d"
        deep.mkdir()
    (deep / "file").write_bytes(b"far down")
    with pytest.raises(Stopped):
        scene.copy(stop_after=2)
    scene.copy()
    assert len(list(walk_tree(scene.final))) == len(list(walk_tree(scene.source)))
    assert tree_size(scene.final) == TOTAL + len(b"far down")
    remove_tree(scene.final)  # What cleans up after the tests could not.
    remove_tree(scene.source)
    assert not scene.final.exists() and not scene.source.exists()
