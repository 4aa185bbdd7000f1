"""What the directory remembers of products that were unpacked: the folder, and a line for each file in it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mwa_client.batch.ledger import STATE_DIR, Ledger
from mwa_client.batch.records import FetchedProduct
from mwa_client.transfer.files import FetchedFile, FetchedFolder
from mwa_client.transfer.standing import Standing, standing_of

ROW = "job_type=d obs_id=1191828528"
NAMES = ("table.dat", "ANTENNA/table.dat")


@contextmanager
def opened(directory: Path) -> Iterator[Ledger]:
    with closing(Ledger(directory, "service.example")) as ledger:
        yield ledger


def make_folder(ledger: Ledger, name: str, text: str = "") -> FetchedFolder:
    """Make what an unpacked product is, with its checksums beside it."""
    path, lines = ledger.place.path / name, []
    for inner in NAMES:
        file = path / inner
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{name} {inner} {text}")
        lines.append(f"{hashlib.sha1(file.read_bytes()).hexdigest()}  {name}/{inner}\n")
    sums = ledger.place.state_dir / f"{name}.unpack" / "SHA1SUMS"
    sums.parent.mkdir(exist_ok=True)
    sums.write_text("".join(lines))
    known = path, 100, "a" * 40, True, 100, path.stat().st_mtime_ns
    return FetchedFolder(*known, files=len(NAMES), sums=sums)


def finish(ledger: Ledger, row: str, job_id: int, *files: FetchedFile) -> None:
    ledger.record_complete(row, job_id, FetchedProduct(files))


def good_lines(directory: Path) -> list[str]:
    done = subprocess.run(
        ["sha1sum", "--check", "--strict", "SHA1SUMS"],
        cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.partition(": OK")[0] for line in done.stdout.splitlines()]


def test_a_folder_is_remembered_as_one(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        folder = make_folder(ledger, "a")
        finish(ledger, ROW, 1, folder)
    with opened(tmp_path) as ledger:
        known = ledger.row(ROW).fetched
        assert known == FetchedProduct((replace(folder, fetched=0, sums=None),))
        assert standing_of(tmp_path, known.files) is Standing.AS_LEFT
    assert good_lines(tmp_path) == [f"a/{name}" for name in NAMES]


def test_what_is_done_deep_in_a_folder_is_its_users_affair(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        folder = make_folder(ledger, "a")
    (folder.path / "ANTENNA" / "table.dat").unlink()
    assert standing_of(tmp_path, [folder]) is Standing.AS_LEFT
    (folder.path / "mine").touch()
    os.utime(folder.path, ns=(0, 1))
    assert standing_of(tmp_path, [folder]) is Standing.CHANGED
    folder.path.rename(tmp_path / "elsewhere")
    assert standing_of(tmp_path, [folder]) is Standing.GONE
    folder.path.write_text("no folder")
    assert standing_of(tmp_path, [folder]) is Standing.CHANGED


def test_a_tar_that_became_a_folder_has_no_line_any_more(tmp_path: Path) -> None:
    tar = FetchedFile(tmp_path / "a.tar", 5, hashlib.sha1(b"bytes").hexdigest(), True)
    with opened(tmp_path) as ledger:
        tar.path.write_bytes(b"bytes")
        finish(ledger, ROW, 1, tar)
        tar.path.unlink()
        finish(ledger, ROW, 1, make_folder(ledger, "a"))
        finish(ledger, "another", 2, make_folder(ledger, "b"))
    assert good_lines(tmp_path) == [f"{top}/{name}" for top in "ab" for name in NAMES]


@pytest.mark.parametrize("is_new_run", [False, True])
def test_a_folder_that_was_made_anew_has_its_new_lines_alone(tmp_path: Path, is_new_run: bool) -> None:
    with opened(tmp_path) as ledger:
        finish(ledger, ROW, 1, make_folder(ledger, "a"))
        finish(ledger, ROW, 1, make_folder(ledger, "a", "anew"))
        if not is_new_run:
            finish(ledger, "another", 2, make_folder(ledger, "b"))
    with opened(tmp_path) as ledger:  # All that it has ever lost is read again.
        finish(ledger, "another", 2, make_folder(ledger, "b"))
        finish(ledger, ROW, 1, replace(make_folder(ledger, "a", "anew"), sums=None))
    assert sorted(good_lines(tmp_path)) == sorted(f"{top}/{name}" for top in "ab" for name in NAMES)


def test_files_in_a_folder_without_a_known_sha1_have_no_lines(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        finish(ledger, ROW, 1, replace(make_folder(ledger, "a"), verified=False))
    assert (tmp_path / "SHA1SUMS").read_text() == ""


@pytest.mark.parametrize("files", ["many", [], None, {}])
def test_a_number_of_files_that_makes_no_sense(tmp_path: Path, files: object) -> None:
    with opened(tmp_path) as ledger:
        finish(ledger, ROW, 1, make_folder(ledger, "a"))
    path = tmp_path / STATE_DIR / "ledger.jsonl"
    entry = json.loads(path.read_text().splitlines()[-1])
    entry["files"][0]["unpacked"] = files
    path.write_text(json.dumps(entry) + "\n")
    with opened(tmp_path) as ledger:
        known = ledger.row(ROW).fetched
        assert known is None or files is None, "half a product is none"
