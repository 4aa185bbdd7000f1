"""A product is unpacked while it arrives: over the whole of a download, whatever ends it in between."""

from __future__ import annotations

from pathlib import Path

import pytest
from tars import FOLDER, NAME, USUAL, Scene, extracted, member, sha1, tar_of, tree_of

from mwa_client.transfer.files import FetchedFile, FetchedFolder
from mwa_client.transfer.unpacked import UnpackRefused, finish_unpacked


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "downloads", tar_of(*USUAL))


def test_a_product_becomes_a_folder_like_that_of_tar(scene: Scene, tmp_path: Path) -> None:
    folder = scene.fetch_folder()
    assert (folder.path, folder.size, folder.sha1) == (scene.folder, len(scene.archive), sha1(scene.archive))
    assert folder.verified
    assert (folder.fetched, folder.files) == (len(scene.archive), 5)
    assert tree_of(scene.folder) == extracted(scene.archive, tmp_path / "tarfile")
    assert scene.sums() == scene.true_sums()
    finish_unpacked(scene.place, folder)
    assert list(scene.place.state_dir.iterdir()) == []
    assert [each.name for each in scene.path.iterdir() if each.name != ".mwa_client"] == [FOLDER]


def test_a_refused_product_is_kept_as_a_verified_tar(tmp_path: Path) -> None:
    scene = Scene(tmp_path, tar_of(*USUAL, member("../outside", b"x"), member("after", b"y" * 5000)))
    with pytest.raises(UnpackRefused) as refusal:
        scene.fetch()
    assert refusal.value.member == "../outside"
    kept = refusal.value.kept
    assert isinstance(kept, FetchedFile)
    assert not isinstance(kept, FetchedFolder)
    assert kept.path == tmp_path / NAME
    assert kept.path.read_bytes() == scene.archive
    assert list(scene.place.state_dir.iterdir()) == []
    assert not (tmp_path.parent / "outside").exists()
