"""SHA1SUMS with the files of folders in it: a line for each, whatever a crash has left, in little memory."""

from __future__ import annotations

import hashlib
import subprocess
import tracemalloc
from pathlib import Path

import pytest

from mwa_client.directory.sums import LONGEST_SUM, Sha1Sums
from mwa_client.errors import DirectoryBusy, DirectoryUnusable

OTHER = "a" * 40 + "  mine/of my own.dat"


def make_folder(directory: Path, name: str, *, files: int = 5, text: str = "") -> Path:
    """Make a folder with files, and the file with their lines."""
    lines = []
    for number in range(files):
        path = directory / name / f"inner {number % 2}" / f"{number}.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{name} {number} {text}".encode())
        sha1 = hashlib.sha1(path.read_bytes()).hexdigest()
        lines.append(f"{sha1}  {path.relative_to(directory).as_posix()}\n")
    sums = directory / ".mwa_client" / f"{name}.sums"
    sums.parent.mkdir(exist_ok=True)
    sums.write_text("".join(lines))
    return sums


def lines_of(directory: Path) -> list[str]:
    return (directory / "SHA1SUMS").read_text().splitlines()


def add(
    sums: Sha1Sums, *folders: Path, new: dict[str, str] | None = None, lost: tuple[str, ...] = ()
) -> None:
    new = new or {}
    sums.add(new, lost, lambda: new, {path.stem: path for path in folders})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / ".mwa_client").mkdir()
    return tmp_path


def opened(directory: Path) -> Sha1Sums:
    return Sha1Sums(directory, directory / ".mwa_client")


def test_each_file_of_a_folder_has_a_line(directory: Path) -> None:
    sums = opened(directory)
    add(sums, make_folder(directory, "first"))
    inode = (directory / "SHA1SUMS").stat().st_ino
    add(sums, make_folder(directory, "second ä"))
    assert (directory / "SHA1SUMS").stat().st_ino == inode, "it was written anew"
    done = subprocess.run(
        ["sha1sum", "-c", "SHA1SUMS"], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout.count(": OK") == 10


@pytest.mark.parametrize("kept", [0, 3, 41, 45, 60, 130, 200])
def test_what_a_crash_has_left_of_a_folders_lines_is_made_whole(directory: Path, kept: int) -> None:
    (directory / "SHA1SUMS").write_text(f"{OTHER}\n")
    folder = make_folder(directory, "first")
    add(opened(directory), folder)
    whole = (directory / "SHA1SUMS").read_bytes()
    (directory / "SHA1SUMS").write_bytes(whole[: len(OTHER) + 1 + kept])
    add(opened(directory), folder)
    assert (directory / "SHA1SUMS").read_bytes() == whole


@pytest.mark.parametrize("kept", [3, 41, 45, 60])
def test_a_torn_line_is_not_kept_where_another_product_comes_first(directory: Path, kept: int) -> None:
    folder = make_folder(directory, "first")
    (directory / "SHA1SUMS").write_bytes(folder.read_bytes()[:kept])
    add(opened(directory), second := make_folder(directory, "second"))
    assert lines_of(directory) == second.read_text().splitlines()


def test_a_folder_that_is_made_anew_has_only_its_new_lines(directory: Path) -> None:
    (directory / "SHA1SUMS").write_text(f"{OTHER}\n")
    sums = opened(directory)
    add(sums, make_folder(directory, "first", files=7))
    add(sums, anew := make_folder(directory, "first", files=3, text="anew"))
    assert lines_of(directory) == [OTHER, *anew.read_text().splitlines()]
    add(sums, new={"first.tar": "b" * 40}, lost=("first",))
    assert lines_of(directory) == [OTHER, "b" * 40 + "  first.tar"]


def test_files_and_folders_with_names_that_begin_alike(directory: Path) -> None:
    sums = opened(directory)
    add(sums, make_folder(directory, "a"), make_folder(directory, "a b"), new={"a.tar": "c" * 40})
    add(sums, lost=("a",), new={"a.tar": "c" * 40})
    assert {line[42:].split("/")[0] for line in lines_of(directory)} == {"a b", "a.tar"}


def test_a_last_line_of_the_users_without_an_end_stays(directory: Path) -> None:
    (directory / "mine").mkdir()
    (directory / "mine" / "of my own.dat").write_bytes(b"")
    (directory / "SHA1SUMS").write_text(OTHER)
    add(opened(directory), folder := make_folder(directory, "first"))
    assert lines_of(directory) == [OTHER, *folder.read_text().splitlines()]


def test_many_files_need_little_memory(directory: Path) -> None:
    path = directory / ".mwa_client" / "large.sums"
    with path.open("w") as file:
        file.writelines(f"{number:040x}  large/inner/file number {number}.dat\n" for number in range(50_000))
    tracemalloc.start()
    try:
        add(sums := opened(directory), path)
        add(sums, new={"a.zip": "b" * 40}, lost=("gone",))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(lines_of(directory)) == 50_001 and path.stat().st_size > 3_500_000
    assert peak < 4_000_000


def test_a_file_that_is_no_list_of_checksums_is_refused_at_once(directory: Path) -> None:
    (directory / "SHA1SUMS").write_bytes(bytes(LONGEST_SUM))
    with pytest.raises(DirectoryUnusable, match="line of more than"):
        opened(directory).check()


def test_a_later_run_adds_to_a_long_list_without_writing_it_anew(directory: Path) -> None:
    add(opened(directory), make_folder(directory, "first"), new={"a.tar": "c" * 40})
    inode, before = (directory / "SHA1SUMS").stat().st_ino, lines_of(directory)
    sums = opened(directory)
    ours = {"a.tar": "c" * 40, "b.tar": "d" * 40}
    sums.add({"b.tar": "d" * 40}, (), lambda: ours)
    add(sums, second := make_folder(directory, "second"))
    assert lines_of(directory) == [*before, "d" * 40 + "  b.tar", *second.read_text().splitlines()]
    assert (directory / "SHA1SUMS").stat().st_ino == inode
    add(opened(directory), lost=("first",), new=ours)
    assert not any("first/" in line for line in lines_of(directory))


def test_a_client_that_has_lost_the_directory_on_the_way_says_so(directory: Path) -> None:
    new = directory / ".mwa_client" / "SHA1SUMS.new"
    new.parent.mkdir(exist_ok=True)

    def guard() -> None:
        if not new.exists():
            raise DirectoryBusy("Another client is at work.", "Wait for it.")
        new.unlink()  # As the one does that takes over, at this moment.

    with pytest.raises(DirectoryBusy):
        add(Sha1Sums(directory, new.parent, guard=guard), new={"a.tar": "0" * 40})
    assert not (directory / "SHA1SUMS").exists()


def test_a_client_that_has_lost_the_directory_adds_no_line(directory: Path) -> None:
    """Stopped for a while, say: what it fetched, another has unpacked and removed meanwhile."""

    def guard() -> None:
        raise DirectoryBusy("Another client is at work.", "Wait for it.")

    add(opened(directory), make_folder(directory, "first"))
    before = lines_of(directory)
    for sums in (lost := Sha1Sums(directory, directory / ".mwa_client", guard=guard), lost):
        with pytest.raises(DirectoryBusy):
            add(sums, new={"first.zip": "0" * 40})
    assert lines_of(directory) == before
