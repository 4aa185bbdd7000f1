"""The part file and its note: what a kill, a power cut or a full disk leaves, and what is made of it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared import longest_file

from mwa_client.directory.disk import boot_id
from mwa_client.errors import DirectoryBusy, DirectoryUnusable, DiskFull, Stopped
from mwa_client.transfer import part_file
from mwa_client.transfer.files import ExpectedFile
from mwa_client.transfer.gaps import Gaps
from mwa_client.transfer.part_file import PartFile, open_part
from mwa_client.transfer.part_hash import PartBroken
from mwa_client.transfer.part_note import Note, NoteFile

CONTENT = bytes(range(256)) * 40
SHA1 = hashlib.sha1(CONTENT).hexdigest()


def named(final: Path) -> Callable[[Path, int], Path]:
    """Give a part file this name, whatever stands there."""
    return lambda part, mtime_ns: part.replace(final)


WANTED = ExpectedFile(10001, "1191828584_ms.zip", len(CONTENT), SHA1)
ANOTHER_BOOT = "11111111-2222-3333-4444-555555555555"

KILLED_WHILE_WRITING = """
import os, signal, sys, threading
from pathlib import Path
from mwa_client.transfer.files import ExpectedFile
from mwa_client.transfer.part_file import open_part

with open_part(Path(sys.argv[1]), ExpectedFile(10001, "x", 1 << 30, None), threading.Event()) as part:
    part.restart('"tag"')
    for number in range(7):
        part.append(bytes([number]) * (1 << 19))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "1191828584_ms.zip.part"


def note_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def note_of(path: Path) -> Any:
    return json.loads(note_path(path).read_text(encoding="utf-8"))


def change_note(path: Path, **changes: object) -> None:
    note_path(path).write_text(json.dumps({**note_of(path), **changes}), encoding="utf-8")


@contextmanager
def opened(
    path: Path, wanted: ExpectedFile = WANTED, stop: threading.Event | None = None
) -> Iterator[PartFile]:
    with open_part(path, wanted, stop or threading.Event()) as part:
        yield part


def leave(path: Path, length: int, *, etag: str = '"tag"', wanted: ExpectedFile = WANTED) -> None:
    """Leave a part file as an earlier run does."""
    with opened(path, wanted) as part:
        part.restart(etag)
        part.append(CONTENT[:length])


class Syncs:
    """Notes what is brought to the disk, and how long it was; it is brought there all the same."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[int, int]] = []
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self)

    def __call__(self, handle: int) -> None:
        state = os.fstat(handle)
        self.seen.append((state.st_ino, state.st_size))
        self._fsync(handle)

    def of(self, path: Path) -> list[int]:
        return [size for number, size in self.seen if number == path.stat().st_ino]


# --- From nothing to the finished file ---------------------------------------------------------------


def test_the_note_stands_before_the_first_byte(path: Path) -> None:
    with opened(path) as part:
        assert (part.length, part.etag) == (0, "")
        assert path.read_bytes() == b""
        assert note_of(path) == {
            "job_id": 10001,
            "size": len(CONTENT),
            "sha1": SHA1,
            "etag": "",
            "synced": 0,
            "boot": boot_id(),
        }


def test_the_tag_is_in_the_note_before_its_first_byte(path: Path) -> None:
    with opened(path) as part:
        part.restart('"tag"')
        assert note_of(path)["etag"] == '"tag"'
        # Without bytes there is nothing that the server's file could have changed from.
        assert part.etag == ""
        part.append(b"x")
        assert part.etag == '"tag"'


def test_bytes_in_order_become_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_file, "WRITE_SIZE", 1000)
    final = path.with_name("final.zip")
    final.write_bytes(b"what an older client left there")
    with opened(path) as part:
        for start in range(0, len(CONTENT), 333):
            part.append(CONTENT[start : start + 333])
            assert part.length == min(start + 333, len(CONTENT))
        assert part.sha1() == SHA1
        part.finish(named(final))
    assert final.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["final.zip"]


def test_the_file_is_on_the_disk_before_it_has_its_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    final = path.with_name("final.zip")
    with opened(path) as part:
        part.append(CONTENT)
        syncs = Syncs(monkeypatch)
        part.finish(named(final))
    assert syncs.of(final) == [len(CONTENT)]
    assert len(syncs.of(final.parent)) == 1


def test_the_note_counts_only_what_is_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_file, "WRITE_SIZE", 100)
    monkeypatch.setattr(part_file, "SYNC_SIZE", 1000)
    with opened(path) as part:
        syncs = Syncs(monkeypatch)
        counted = []
        for start in range(0, 2600, 100):
            part.append(CONTENT[start : start + 100])
            counted.append(note_of(path)["synced"])
        assert syncs.of(path) == [1000, 2000]
        assert syncs.of(note_path(path))
    assert counted == [0] * 9 + [1000] * 10 + [2000] * 7


def test_restart_forgets_bytes_and_hash(path: Path) -> None:
    with opened(path) as part:
        part.append(b"something else")
        part.sha1()
        part.restart('"new"')
        assert (part.length, path.stat().st_size, note_of(path)["etag"]) == (0, 0, '"new"')
        part.append(CONTENT)
        assert part.sha1() == SHA1
    assert path.read_bytes() == CONTENT


def test_discard_removes_both(path: Path) -> None:
    with opened(path) as part:
        part.append(CONTENT)
        part.discard()
    assert list(path.parent.iterdir()) == []


def test_what_somebody_else_has_removed_is_gone_too(path: Path) -> None:
    with opened(path) as part:
        part.append(CONTENT)
        path.unlink()
        note_path(path).unlink()
        part.discard()
    with opened(path) as part:
        part.append(CONTENT)
        note_path(path).unlink()
        part.finish(named(path.with_name("final.zip")))
    assert path.with_name("final.zip").read_bytes() == CONTENT


# --- Somebody else -----------------------------------------------------------------------------------


def test_without_the_lock_nothing_is_written(path: Path) -> None:
    """A client that slept while another one took over the directory."""

    def guard() -> None:
        if is_asleep:
            raise DirectoryBusy("The lock was lost.")

    is_asleep = False
    with open_part(path, WANTED, threading.Event(), guard) as part:
        part.append(CONTENT[:5000])
        part.sync()
        is_asleep = True
        path.write_bytes(b"of the other")
        part.append(CONTENT[5000:])
        for change in (part.sync, part.restart, lambda: part.finish(named(path.with_name("final.zip")))):
            with pytest.raises(DirectoryBusy):
                change()
    assert [file.name for file in path.parent.iterdir() if file.suffix != ".json"] == [path.name]
    assert path.read_bytes() == b"of the other"


def test_what_two_have_written_gets_no_final_name(path: Path) -> None:
    with opened(path) as part:
        part.append(CONTENT)
        part.sync()
        with path.open("ab") as file:
            file.write(b"of the other")
        with pytest.raises(DirectoryUnusable, match="was changed while it was being written"):
            part.finish(named(path.with_name("final.zip")))
    assert not path.with_name("final.zip").exists()


def test_two_who_write_the_same_do_not_spoil_it(path: Path) -> None:
    with opened(path) as one:
        one.append(CONTENT[:4000])
        one.sync()
        with opened(path) as other:
            other.append(CONTENT[4000:6000])
            other.sync()
            one.append(CONTENT[4000:])
            one.sync()
            other.append(CONTENT[6000:])
            assert other.sha1() == SHA1
            other.finish(named(path.with_name("final.zip")))
    assert path.with_name("final.zip").read_bytes() == CONTENT


# --- What an earlier run has left --------------------------------------------------------------------


@pytest.mark.parametrize("error", [Stopped, KeyboardInterrupt, RuntimeError])
def test_whatever_ends_the_work_the_bytes_are_kept(path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), opened(path) as part:
        part.restart('"tag"')
        part.append(CONTENT[:5000])
        raise error("in the middle")
    # They are on the disk, too: a machine is often shut down after its programs were told to stop.
    assert note_of(path)["synced"] == 5000
    with opened(path) as part:
        assert (part.length, part.etag) == (5000, '"tag"')
        part.append(CONTENT[5000:])
        assert part.sha1() == SHA1


def test_a_kill_keeps_what_was_written(path: Path) -> None:
    process = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], check=False, timeout=60)
    assert process.returncode == -signal.SIGKILL
    with opened(path, ExpectedFile(10001, "x", 1 << 30, None)) as part:
        # The last half MiB was still in memory.
        assert (part.length, part.etag) == (3 << 20, '"tag"')
        expected = b"".join(bytes([number]) * (1 << 19) for number in range(6))
        assert part.sha1() == hashlib.sha1(expected).hexdigest()
    assert path.read_bytes() == expected


def test_after_a_power_cut_only_bytes_on_the_disk_are_trusted(path: Path) -> None:
    leave(path, 4000)
    # Beyond byte 3000, the file system had made room but written nothing.
    path.write_bytes(CONTENT[:3000] + bytes(1000))
    change_note(path, boot=ANOTHER_BOOT, synced=3000)
    with opened(path) as part:
        assert part.length == 3000
        assert path.stat().st_size == 3000
        assert (note_of(path)["boot"], note_of(path)["synced"]) == (boot_id(), 3000)
        part.append(CONTENT[3000:])
        assert part.sha1() == SHA1
    assert path.read_bytes() == CONTENT


def test_within_one_boot_all_bytes_are_trusted(path: Path) -> None:
    leave(path, 4000)
    change_note(path, synced=3000)
    with opened(path) as part:
        assert part.length == 4000
        assert note_of(path)["synced"] == 3000


@pytest.mark.skipif(not boot_id(), reason="this system does not name its boots")
def test_a_boot_without_a_name_is_another_boot(path: Path) -> None:
    leave(path, 4000)
    change_note(path, boot="", synced=3000)
    with opened(path) as part:
        assert part.length == 3000


def test_a_machine_that_does_not_name_its_boots_trusts_the_disk_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_file, "boot_id", lambda: "")
    leave(path, 4000)
    change_note(path, synced=3000)
    with opened(path) as part:
        assert part.length == 3000


def test_a_file_shorter_than_the_note_says_is_as_long_as_it_is(path: Path) -> None:
    leave(path, 4000)
    os.truncate(path, 2500)
    change_note(path, boot=ANOTHER_BOOT)
    with opened(path) as part:
        assert part.length == 2500
        assert note_of(path)["synced"] == 2500


def test_a_note_without_its_file_is_worth_nothing(path: Path) -> None:
    leave(path, 4000)
    path.unlink()
    with opened(path) as part:
        assert (part.length, part.etag, note_of(path)["synced"]) == (0, "", 0)


def test_taking_up_does_not_put_the_note_at_risk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(path, 4000)
    syncs = Syncs(monkeypatch)
    with opened(path):
        assert syncs.of(note_path(path)), "a power cut now would empty the note, and all would be lost"


def test_a_note_that_vouches_for_bytes_does_not_outlive_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(path, 4000)
    with opened(path) as part:
        syncs = Syncs(monkeypatch)
        part.restart('"new"')
        assert syncs.of(note_path(path)), "after a power cut, the old note would vouch for the new bytes"
        syncs.seen.clear()
        part.append(b"x")
        part.restart('"newer"')
        assert syncs.seen == [], "nothing was vouched for: there is nothing to wait for"


@pytest.mark.parametrize(
    "changes",
    [{"job_id": 10002}, {"size": len(CONTENT) + 1}, {"size": None}, {"sha1": "0" * 40}, {"sha1": None}],
)
def test_bytes_of_another_file_are_not_taken(path: Path, changes: dict[str, Any]) -> None:
    leave(path, 4000)
    other = replace(WANTED, **changes)
    with opened(path, other) as part:
        assert (part.length, part.etag, path.stat().st_size) == (0, "", 0)
        assert {key: note_of(path)[key] for key in changes} == changes
        part.append(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"{}",
        b'{"job_id": 10001}',
        b"\xff\xfe\x00",
        b"\0" * 200,
        "cut in the middle",
        {"synced": -1},
        {"synced": "many"},
        {"synced": None},
        {"etag": 5},
        {"etag": None},
    ],
)
def test_a_note_that_cannot_be_read_is_none(path: Path, garbage: bytes | str | dict[str, Any]) -> None:
    leave(path, 4000)
    if isinstance(garbage, dict):
        change_note(path, **garbage)
    elif isinstance(garbage, str):
        note_path(path).write_bytes(note_path(path).read_bytes()[:60])
    else:
        note_path(path).write_bytes(garbage)
    with opened(path) as part:
        assert (part.length, path.stat().st_size) == (0, 0)
        part.append(CONTENT)
        assert part.sha1() == SHA1


def test_a_note_of_a_later_version_is_understood(path: Path) -> None:
    leave(path, 4000)
    change_note(path, connections=4)
    with opened(path) as part:
        assert part.length == 4000


def test_a_part_that_is_too_long_is_not_trusted(path: Path) -> None:
    leave(path, 4000)
    with path.open("ab") as file:
        file.write(CONTENT)
    with opened(path) as part:
        assert (part.length, path.stat().st_size, note_of(path)["synced"]) == (0, 0, 0)


def test_a_part_of_a_file_of_unknown_size_can_have_any_length(path: Path) -> None:
    wanted = replace(WANTED, size=None)
    leave(path, len(CONTENT), wanted=wanted)
    with opened(path, wanted) as part:
        assert (part.length, part.sha1()) == (len(CONTENT), SHA1)


@pytest.mark.parametrize("boot", ["this", "another"])
def test_stopping_while_old_bytes_are_read_changes_nothing(
    path: Path, boot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(path, 4000)
    if boot == "another":
        change_note(path, boot=ANOTHER_BOOT)
    stop, has_stopped = threading.Event(), threading.Event()

    def read(handle: int, most: int, offset: int) -> bytes:
        stop.set()
        assert has_stopped.wait(10)
        return pread(handle, most, offset)

    pread = os.pread
    monkeypatch.setattr(os, "pread", read)
    with pytest.raises(Stopped), opened(path, stop=stop) as part:
        assert stop.wait(10)
        try:
            part.sha1()
        finally:
            has_stopped.set()
    assert (path.read_bytes(), note_of(path)["etag"]) == (CONTENT[:4000], '"tag"')
    monkeypatch.undo()
    with opened(path) as part:
        part.append(CONTENT[4000:])
        assert part.sha1() == SHA1


def test_a_part_that_shrinks_while_it_is_read_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(path, 4000)
    monkeypatch.setattr(os, "pread", lambda handle, most, offset: b"")
    with pytest.raises(DirectoryUnusable, match=r"became shorter|Input/output"), opened(path) as part:
        part.append(CONTENT[4000:])
        part.sha1()


def test_old_bytes_are_read_beside_the_new_ones(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(path, 4000)
    monkeypatch.setattr(part_file, "WRITE_SIZE", 100)
    may_read = threading.Event()

    def read(handle: int, most: int, offset: int) -> bytes:
        assert may_read.wait(10)
        return pread(handle, most, offset)

    pread = os.pread
    monkeypatch.setattr(os, "pread", read)
    with opened(path) as part:
        part.append(CONTENT[4000:9000])
        # All of it is in the file, and none of the old is read yet.
        assert (part.length, path.stat().st_size) == (9000, 9000)
        may_read.set()
        part.append(CONTENT[9000:])
        assert part.sha1() == SHA1


def test_new_bytes_are_hashed_in_memory_once_the_old_are_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(path, 4000)
    reads: list[int] = []

    def read(handle: int, most: int, offset: int) -> bytes:
        reads.append(offset)
        return pread(handle, most, offset)

    pread = os.pread
    monkeypatch.setattr(os, "pread", read)
    with opened(path) as part:
        part.sha1()
        part.append(CONTENT[4000:])
        assert part.sha1() == SHA1
    assert reads == [0]


def test_old_bytes_that_are_thrown_away_are_not_waited_for(path: Path) -> None:
    leave(path, 4000)
    with opened(path) as part:
        part.restart('"new"')
        part.append(CONTENT)
        assert part.sha1() == SHA1


# --- Disks and directories ---------------------------------------------------------------------------


def test_a_full_disk(path: Path) -> None:
    leave(path, 0)
    with opened(path) as part:
        with longest_file(0), pytest.raises(DiskFull, match="No room left") as caught:
            part.append(bytes(part_file.WRITE_SIZE))
        assert "Make room" in caught.value.remedy
        # What was not written does not count, and is not written twice later.
        assert (part.length, part.sha1()) == (0, hashlib.sha1(b"").hexdigest())


def test_a_full_disk_at_the_very_end_does_not_hide_what_ended_the_work(path: Path) -> None:
    leave(path, 0)
    with ExitStack() as limits, pytest.raises(Stopped), opened(path) as part:
        part.append(b"a few bytes that are still in memory")
        limits.enter_context(longest_file(0))
        raise Stopped("The work was told to stop.")
    assert path.stat().st_size == 0


def test_no_room_for_the_note(path: Path) -> None:
    leave(path, 4000)
    with longest_file(10), pytest.raises(DiskFull, match=r"part\.json"), opened(path):
        pytest.fail("the note was not written")
    assert {file.name for file in path.parent.iterdir()} == {path.name, note_path(path).name}
    with opened(path) as part:
        assert part.length == 4000


def test_no_room_for_all_of_a_list_of_gaps(path: Path) -> None:
    """What the system takes the beginning of is not written."""
    note = NoteFile(path, Note(10001, None, None), lambda: None)
    note.replace(note.note, lambda: ())
    with longest_file(path.stat().st_size + 5), pytest.raises(DiskFull):
        note.add_gaps(lambda: ((1000, 6000),))


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"in the way")
    with pytest.raises(DirectoryUnusable, match="Not a directory") as caught, opened(file / "x.part"):
        pytest.fail("there is no such place")
    assert "--dir" in caught.value.remedy
    assert file.read_bytes() == b"in the way"


def test_a_directory_under_the_final_name(path: Path) -> None:
    final = path.with_name("final.zip")
    final.mkdir()
    with pytest.raises(DirectoryUnusable, match="directory"), opened(path) as part:
        part.append(CONTENT)
        part.finish(named(final))
    with opened(path) as part:
        assert (part.length, part.sha1()) == (len(CONTENT), SHA1)
        final.rmdir()
        part.finish(named(final))
    assert final.read_bytes() == CONTENT


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")
def test_no_file_stays_open(path: Path, tmp_path: Path) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (iterdir keeps one open itself)

    before = count()
    leave(path, 4000)
    with opened(path) as part:
        part.append(CONTENT[4000:])
        part.finish(named(tmp_path / "final.zip"))
    with opened(path) as part:
        part.discard()
    with pytest.raises(Stopped), opened(path):
        raise Stopped("in the middle")
    stop = threading.Event()
    stop.set()
    leave(path, 10)
    with opened(path, stop=stop):
        pass
    assert count() == before


# --- What becomes of it is what was written -----------------------------------------------------------


@pytest.mark.parametrize("to", [0, 3000])
def test_a_part_that_somebody_shortens_is_given_up(
    path: Path, monkeypatch: pytest.MonkeyPatch, to: int
) -> None:
    monkeypatch.setattr(part_file, "WRITE_SIZE", 100)
    with pytest.raises(PartBroken, match="shortened"), opened(path) as part:
        part.append(CONTENT[:5000])
        os.truncate(path, to)
        # It would be as long as it must be in the end, and hashed as it came.
        part.append(CONTENT[5000:])


def test_no_write_asks_for_times(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To know them, NFS brings all that was written to the server first, so that each write takes long."""
    asked: list[int] = []

    def fstat(file: int, really: Callable[[int], os.stat_result] = os.fstat) -> os.stat_result:
        asked.append(file)
        return really(file)

    with opened(path) as part:
        monkeypatch.setattr(os, "fstat", fstat)
        for start in range(0, len(CONTENT), 1000):
            part.append(CONTENT[start : start + 1000])
            part.sha1()
        assert asked == []


def test_a_part_that_is_shortened_in_the_last_moment_gets_no_final_name(path: Path) -> None:
    final = path.with_name("final.zip")
    with pytest.raises(DirectoryUnusable, match="was changed"), opened(path) as part:
        part.append(CONTENT)
        assert part.sha1() == SHA1
        os.truncate(path, len(CONTENT) - 1)
        part.finish(named(final))
    assert not final.exists()


def test_a_part_that_is_replaced_gets_no_final_name(path: Path) -> None:
    final, other = path.with_name("final.zip"), path.with_name("copy")
    with pytest.raises(DirectoryUnusable, match="was replaced"), opened(path) as part:
        part.append(CONTENT)
        other.write_bytes(bytes(len(CONTENT)))
        other.replace(path)
        part.finish(named(final))
    assert not final.exists()
    assert path.read_bytes() == bytes(len(CONTENT))


def test_without_the_lock_the_note_of_another_client_stays(path: Path) -> None:
    def guard() -> None:
        if is_asleep:
            raise DirectoryBusy("The lock was lost.")

    is_asleep = False
    with open_part(path, WANTED, threading.Event(), guard) as part:
        part.append(CONTENT[:5000])
        part.sync()
        is_asleep = True
        note_path(path).write_text("of the other")
        for change in (part.sync, part.discard, lambda: part.note_etag('"new"')):
            with pytest.raises(DirectoryBusy):
                change()
    assert note_path(path).read_text() == "of the other"
    assert path.read_bytes() == CONTENT[:5000]


# --- Several who write ----------------------------------------------------------------------------------


def test_where_its_thread_has_no_memory_the_hash_is_computed_without_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(handle: int, most: int, offset: int) -> bytes:
        if threading.current_thread().name == "sha1":
            raise MemoryError
        return pread(handle, most, offset)

    pread, stop = os.pread, threading.Event()
    leave(path, 4000)
    monkeypatch.setattr(os, "pread", read)
    give_up = threading.Timer(20.0, stop.set)
    give_up.start()
    with open_part(path, WANTED, stop) as part:
        part.append(CONTENT[4000:])
        assert part.sha1() == SHA1
    give_up.cancel()


def test_what_comes_out_of_order_is_hashed_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_file, "NOTE_SIZE", 500)
    places = [(start, CONTENT[start : start + 100]) for start in range(0, len(CONTENT), 100)]
    with opened(path) as part:
        for start, data in [*places[1::3], *places[::3], *places[2::3]]:
            writer = part.writer(start, 64)
            writer.append(data)
            writer.flush()
        assert (part.length, part.present) == (len(CONTENT), len(CONTENT))
        assert part.sha1() == SHA1
        part.finish(named(path.with_name("final.zip")))
    assert path.with_name("final.zip").read_bytes() == CONTENT


def test_after_a_power_cut_only_what_was_synced_beyond_a_gap_is_trusted(path: Path) -> None:
    with opened(path) as part:
        for start in (6000, 0):
            writer = part.writer(start)
            writer.append(CONTENT[start : start + 1000])
            writer.flush()
        part.sync()
        writer = part.writer(8000)
        writer.append(CONTENT[8000:9000])
        writer.flush()
    note = json.loads(note_path(path).read_text(encoding="utf-8").splitlines()[0])
    note_path(path).write_text(json.dumps({**note, "boot": ANOTHER_BOOT, "synced": 7000}))
    with opened(path) as part:
        assert list(part.gaps) == [(1000, 6000), (7000, None)]
        assert (part.length, part.present) == (1000, 2000)
    assert part_file.bytes_in_part(path) == 2000


@pytest.mark.parametrize("torn", ["[[10", "null", "[[5, 4, 3]]", '[["a", "b"]]', "[[-5, 7]]"])
def test_a_torn_list_of_gaps_does_not_count(path: Path, torn: str) -> None:
    with opened(path) as part:
        writer = part.writer(6000)
        writer.append(CONTENT[6000:7000])
        writer.flush()
    with note_path(path).open("a") as note:
        note.write(torn)
    with opened(path) as part:
        assert list(part.gaps) == [(0, 6000), (7000, None)]


ranges_of_bytes = st.lists(
    st.tuples(st.booleans(), st.integers(0, 60), st.integers(0, 20)).map(
        lambda each: (each[0], each[1], each[1] + each[2])
    )
)


@given(ranges_of_bytes)
def test_gaps_are_sets_of_bytes(steps: list[tuple[bool, int, int]]) -> None:
    gaps, expected = Gaps(), set()
    for adds, start, end in steps:
        if adds:
            gaps.add(start, end)
            expected |= set(range(start, end))
        else:
            gaps.remove(start, end)
            expected -= set(range(start, end))
        ranges = list(gaps)
        assert {place for first, last in ranges for place in range(first, last)} == expected
        assert gaps.total == len(expected)
        assert all(first < last for first, last in ranges)
        assert all(one[1] < other[0] for one, other in zip(ranges, ranges[1:]))
