"""Deliveries that this host can see: the copy is the right folder or none, and the source is only read."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

import pytest
from conftest import FastClock
from hypothesis import given, settings
from hypothesis import strategies as st

from mwa_client.errors import Stopped, TransferFailed
from mwa_client.transfer import folder
from mwa_client.transfer.partial import Wanted
from mwa_client.transfer.product import FetchedFile, Place, Progress, TransferEvent

NAME = "1191828584_7"
CONTENT = {
    "1191828584_ms/header": b"h" * 100,
    "1191828584_ms/table/data_1": bytes(range(256)) * 9000,
    "1191828584_ms/table/data_2": b"",
    "README": b"read me",
}


def make(root: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def content_of(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


class Scene:
    """A delivery and a download directory."""

    def __init__(self, root: Path, content: dict[str, bytes] = CONTENT) -> None:
        self.source = make(root / "scratch" / "7", content)
        self.place = Place(root / "data", root / "data" / ".mwa_client")
        self.place.memory.mkdir(parents=True)
        self.final = self.place.directory / NAME
        self.moves: list[Progress] = []
        self.stop = threading.Event()
        self.patience = -1

    def copy(self, size: int | None = None, *, stop_after: int = -1) -> tuple[FetchedFile, ...]:
        """Copy; be told to stop after so many reports of progress."""
        self.stop, self.patience = threading.Event(), stop_after
        if stop_after == 0:
            self.stop.set()
        return folder.copy(
            Wanted(7, NAME, size, None), self.source, self.place, FastClock(), self.stop, self.listen
        )

    def listen(self, event: TransferEvent) -> None:
        assert isinstance(event, Progress)
        self.moves.append(event)
        self.patience -= 1
        if self.patience == 0:
            self.stop.set()

    @property
    def left(self) -> list[str]:
        """What is left in the memory."""
        return sorted(path.name for path in self.place.memory.iterdir())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_folder_is_copied_and_stays_where_it_is(scene: Scene) -> None:
    files = scene.copy()
    assert content_of(scene.final) == content_of(scene.source) == CONTENT
    assert {file.path.relative_to(scene.final).as_posix(): file.size for file in files} == {
        name: len(data) for name, data in CONTENT.items()
    }
    assert scene.left == [] and not any(file.verified for file in files)


def test_what_is_there_is_not_copied_again(scene: Scene) -> None:
    scene.copy()
    before = {path: path.stat().st_ino for path in scene.final.rglob("*")}
    files = scene.copy()
    assert {path: path.stat().st_ino for path in scene.final.rglob("*")} == before
    assert sum(file.fetched for file in files) == 0 and len(files) == len(CONTENT)


def test_a_single_file(scene: Scene) -> None:
    data = CONTENT["1191828584_ms/table/data_1"]
    scene.source = scene.source / "1191828584_ms/table/data_1"
    (file,) = scene.copy(len(data))
    assert file.path == scene.final and scene.final.read_bytes() == data == scene.source.read_bytes()
    assert scene.left == []


def test_another_folder_of_that_name_is_replaced_by_a_complete_one_alone(scene: Scene) -> None:
    old = {"from": b"an older client", "1191828584_ms/header": b"short"}
    make(scene.final, old)
    with pytest.raises(Stopped):
        scene.copy(stop_after=1)
    assert content_of(scene.final) == old
    scene.copy()
    assert content_of(scene.final) == CONTENT and scene.left == []


def test_killed_between_the_two_renames(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    make(scene.final, {"older": b"one"})
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
    scene.copy()
    assert content_of(scene.final) == CONTENT and scene.left == []


def test_going_on_does_not_copy_twice(scene: Scene) -> None:
    with pytest.raises(Stopped):
        scene.copy(stop_after=3)
    assert not scene.final.exists() and f"{NAME}.part" in scene.left
    total = sum(file.fetched for file in scene.copy())
    assert content_of(scene.final) == CONTENT and total < sum(map(len, CONTENT.values()))


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


def test_an_empty_folder_is_no_product(scene: Scene, tmp_path: Path) -> None:
    scene.source = tmp_path / "scratch" / "8"
    (scene.source / "inner").mkdir(parents=True)
    with pytest.raises(TransferFailed, match="has no files"):
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


def test_links_count_as_what_they_lead_to(scene: Scene, tmp_path: Path) -> None:
    outside = make(tmp_path / "outside", {"deep/file": b"linked"})
    (scene.source / "to_file").symlink_to(outside / "deep" / "file")
    (scene.source / "to_folder").symlink_to(outside)
    scene.copy()
    assert content_of(scene.final) == {**CONTENT, "to_file": b"linked", "to_folder/deep/file": b"linked"}
    assert not [path for path in scene.final.rglob("*") if path.is_symlink()]


def test_a_link_to_nowhere_is_not_passed_over(scene: Scene) -> None:
    (scene.source / "broken").symlink_to("nowhere")
    with pytest.raises(TransferFailed, match="broken: No such file"):
        scene.copy()
    assert not scene.final.exists()


def test_links_in_a_circle(scene: Scene) -> None:
    (scene.source / "again").symlink_to(scene.source)
    with pytest.raises(TransferFailed, match="symbolic links"):
        scene.copy()


def test_a_pipe_is_not_waited_for(scene: Scene) -> None:
    os.mkfifo(scene.source / "pipe")
    with pytest.raises(TransferFailed, match="pipe is not a file"):
        scene.copy()


@pytest.mark.parametrize(
    ("path", "visible"), [("{here}", True), ("{here}/no", False), ("relative", False), ("/a\0b", False)]
)
def test_what_is_visible(tmp_path: Path, path: str, visible: bool) -> None:
    assert folder.is_visible(path.format(here=tmp_path)) is visible
