"""What others, or a damaged disk, put where our files should be: never followed, never taken for ours."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared import FastClock, environment, run_batch, run_command

from mwa_client.batch.ledger import STATE_DIR, Ledger
from mwa_client.directory import disk, json_files, our_files
from mwa_client.directory.lock import directory_lock
from mwa_client.directory.owner import Owner
from mwa_client.errors import DirectoryBusy, DirectoryUnusable, ExitStatus
from mwa_client.sandbox import Sandbox
from mwa_client.transfer.files import ExpectedFile
from mwa_client.transfer.part_file import open_part

SERVICE = "practice.example"
ROW = "obs_id=1191828528, job_type=d, download_type=vis"
PRODUCT = "1191828528_vis.zip"
PRIVATE = b"0" * 40 + b"  nobody's business\n"


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Path]:
    """A private file of the user's, which must stay as it is."""
    path = tmp_path / "private"
    path.write_bytes(PRIVATE)
    path.chmod(0o600)
    yield path
    assert path.read_bytes() == PRIVATE and stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A download directory that others can write, with what we remember in it."""
    path = tmp_path / "data"
    (path / STATE_DIR).mkdir(parents=True)
    path.chmod(0o777)
    return path


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def give_away(path: Path) -> None:
    """Make something another user's."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a file away")
    os.chown(path, 65534, 65534, follow_symlinks=False)


def link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def dangling_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim.with_name("not there"))


def hard_link(path: Path, victim: Path) -> None:
    path.hardlink_to(victim) if hasattr(path, "hardlink_to") else os.link(victim, path)


def fifo(path: Path, victim: Path) -> None:
    os.mkfifo(path)


def folder(path: Path, victim: Path) -> None:
    path.mkdir()


Plant = Callable[[Path, Path], None]
LINKS: list[Plant] = [link, dangling_link, hard_link, fifo]


# --- The folder of what we remember -------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077])
def test_a_folder_of_ours_is_never_one_that_others_can_write(tmp_path: Path, mask: int) -> None:
    tmp_path.chmod(0o2777)
    with umask(mask):
        made = our_files.state_directory(tmp_path / "data" / STATE_DIR)
        deep = our_files.state_directory(made / "a" / "b", below=made)
    for path in (made, deep, deep.parent):
        assert mode_of(path) & 0o777 == 0o755 & ~mask
    assert our_files.state_directory(made) == made


def test_no_file_of_ours_is_one_that_others_can_write(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    with umask(0o000):
        with directory_lock(tmp_path, tmp_path / STATE_DIR, clock, print):
            held = mode_of(tmp_path / STATE_DIR / "lock")
        sandbox.faults.add("product_status", status=400)
        run_batch(sandbox, tmp_path, clock, ROW)
        sandbox.faults.clear()
        kept = [mode_of(path) for path in (tmp_path / STATE_DIR).iterdir()]
        run_batch(sandbox, tmp_path, clock, ROW)
    assert len(kept) > 1 and {held, *kept} == {0o644}
    assert mode_of(tmp_path / "SHA1SUMS") == mode_of(tmp_path / PRODUCT) == 0o644


def refused(memory: Path) -> DirectoryUnusable:
    """Both doors to the memory are shut."""
    with pytest.raises(DirectoryUnusable), directory_lock(memory.parent, memory, FastClock(), print):
        pass
    with pytest.raises(DirectoryUnusable) as caught:
        Ledger(memory.parent, SERVICE)
    assert str(memory) in caught.value.what and "--dir" in caught.value.remedy
    return caught.value


@pytest.mark.parametrize("plant", [link, dangling_link, fifo])
def test_a_memory_that_is_no_folder_is_not_used(tmp_path: Path, plant: Plant) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    plant(tmp_path / STATE_DIR, victim)
    refused(tmp_path / STATE_DIR)
    assert list(victim.iterdir()) == [] and not (tmp_path / "not there").exists()


def test_a_memory_of_another_user_is_not_used(data: Path) -> None:
    give_away(data / STATE_DIR)
    assert "belongs to" in refused(data / STATE_DIR).what
    assert list((data / STATE_DIR).iterdir()) == []


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o2775, 0o1777])
def test_a_memory_that_others_can_write_is_not_used_until_the_user_says_so(data: Path, mode: int) -> None:
    (data / STATE_DIR).chmod(mode)
    assert f"chmod -R go-w {data / STATE_DIR}" in refused(data / STATE_DIR).remedy
    (data / STATE_DIR).chmod(mode & ~0o022)
    Ledger(data, SERVICE).close()


def test_the_command_says_so_before_anything_is_sent(sandbox: Sandbox, tmp_path: Path) -> None:
    victim, data = tmp_path / "victim", tmp_path / "data"
    victim.mkdir()
    data.mkdir()
    (data / STATE_DIR).symlink_to(victim)
    done = run_command("-j", ROW, "--dir", data, env=environment(sandbox))
    assert done.returncode == 1 and "it is a symbolic link" in done.stderr and "Traceback" not in done.stderr
    assert list(victim.iterdir()) == [] and sandbox.requests == []


# --- The ledger ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("plant", [*LINKS, folder])
def test_a_ledger_that_is_no_file_of_its_own_is_not_used(data: Path, private: Path, plant: Plant) -> None:
    plant(data / STATE_DIR / "ledger.jsonl", private)
    with pytest.raises(DirectoryUnusable, match=r"ledger\.jsonl"):
        Ledger(data, SERVICE)
    assert not (private.parent / "not there").exists()


@pytest.mark.parametrize("how", ["another user's", "group", "others"])
def test_a_ledger_that_somebody_else_can_write_is_not_used(data: Path, how: str) -> None:
    path = data / STATE_DIR / "ledger.jsonl"
    path.write_text(complete(size=4))
    (data / PRODUCT).write_bytes(b"evil")
    if how == "another user's":
        give_away(path)
    else:
        path.chmod(0o664 if how == "group" else 0o646)
    with pytest.raises(DirectoryUnusable, match=r"ledger\.jsonl"):
        Ledger(data, SERVICE)


def complete(**changed: Any) -> str:
    """A line of the ledger that says that the row is complete."""
    file = {"name": PRODUCT, "size": 4, "sha1": "0" * 40, "verified": True, **changed}
    entry = {"service": SERVICE, "event": "complete", "row": ROW, "job_id": 42, "files": [file]}
    return json.dumps(entry) + "\n"


def remembered(data: Path) -> Any:
    with closing(Ledger(data, SERVICE)) as ledger:
        return ledger.row(ROW).fetched


@pytest.mark.parametrize(
    "name",
    [
        "/etc/hostname",
        "../private",
        "a/../../private",
        "a//b",
        "./a",
        "",
        ".",
        "..",
        ".mwa_client/lock",
        "a\0b",
        "\ud800",
        "a/\udfff.tar",
        7,
        None,
        ["a"],
        {"a": 1},
    ],
)
def test_a_name_in_the_ledger_never_leads_out_of_the_directory(data: Path, private: Path, name: Any) -> None:
    path = data / STATE_DIR / "ledger.jsonl"
    path.write_text(complete(name=name, size=len(PRIVATE)))
    assert remembered(data) is None
    path.write_text(complete(name="a/b c/\udce4.ms", size=len(PRIVATE)))
    assert [file.path for file in remembered(data).files] == [data / "a" / "b c" / "\udce4.ms"]


@pytest.mark.parametrize(
    "changed",
    [
        {"size": -1},
        {"size": 1e999},
        {"size": 10**400},
        {"size": 0.5},
        {"size": float("nan")},
        {"size": "4"},
        {"sha1": "0" * 40 + "\n"},
        {"sha1": "00"},
        {"sha1": 7},
        {"sha1": None},
    ],
)
def test_a_size_or_sha1_without_sense_makes_no_row_complete(data: Path, changed: dict[str, Any]) -> None:
    (data / STATE_DIR / "ledger.jsonl").write_text(complete(**changed))
    assert remembered(data) is None


def test_a_line_that_never_ends_costs_that_line_alone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "LONGEST_LINE", 1000)
    before, after = (
        json.dumps({"service": SERVICE, "event": "job", "row": row, "job_id": 7}) for row in "ab"
    )
    long = json.dumps({"service": SERVICE, "event": "job", "row": "c" * 5000, "job_id": 7})
    (data / STATE_DIR / "ledger.jsonl").write_text("\n".join([before, long, after]))
    with closing(Ledger(data, SERVICE)) as ledger:
        assert ledger.row("a").job_id == ledger.row("b").job_id == 7
        assert ledger.row("c" * 5000).job_id is None


@pytest.mark.parametrize("number", ["9" * 400, "1e999", "NaN", '"8"', "8.5", "true", "{}", "[8]", None])
def test_a_job_id_without_sense_forgets_no_job(data: Path, number: str | None) -> None:
    """Whoever forgets a job submits it once more."""
    line = json.dumps({"service": SERVICE, "event": "job", "row": ROW, "job_id": 7})
    damaged = line.replace(', "job_id": 7', "" if number is None else f', "job_id": {number}')
    (data / STATE_DIR / "ledger.jsonl").write_text(f"{line}\n{damaged}\n")
    with closing(Ledger(data, SERVICE)) as ledger:
        assert ledger.row(ROW).job_id == 7


JUNK = st.sampled_from(
    [None, True, -1, 10**400, 1e999, 0.5, "", "a/../b", "\0", "\ud800", [], [None], {"a": 1}]
)
ENTRY = st.fixed_dictionaries(
    {"event": st.sampled_from(["intent", "job", "state", "name", "complete"])},
    optional={
        **dict.fromkeys(["row", "job_id", "after", "time", "state", "name", "files", "elsewhere"], JUNK),
        "files": JUNK
        | st.lists(
            st.fixed_dictionaries({}, optional=dict.fromkeys(["name", "size", "sha1"], JUNK)), max_size=2
        ),
    },
)


@settings(max_examples=50, deadline=None)
@given(st.lists(ENTRY, max_size=4))
def test_no_ledger_is_a_surprise(
    tmp_path_factory: pytest.TempPathFactory, entries: list[dict[str, Any]]
) -> None:
    data = tmp_path_factory.mktemp("junk")
    (data / STATE_DIR).mkdir()
    lines = [json.dumps({"row": ROW, "service": SERVICE, **entry}) for entry in entries]
    (data / STATE_DIR / "ledger.jsonl").write_text("\n".join(lines))
    with closing(Ledger(data, SERVICE)) as ledger:
        row = ledger.row(ROW)
        assert row.job_id is None or isinstance(row.job_id, int)
        ledger.fetched(ROW, row.job_id)
        assert ledger.place.names.claim(PRODUCT, 42) == PRODUCT


# --- SHA1SUMS -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("plant", [*LINKS, folder])
def test_a_list_of_sums_that_is_no_file_of_its_own_is_refused_at_once(
    data: Path, private: Path, plant: Plant
) -> None:
    plant(data / "SHA1SUMS", private)
    before = (data / "SHA1SUMS").lstat()
    with pytest.raises(DirectoryUnusable, match="SHA1SUMS"):
        Ledger(data, SERVICE)
    assert (data / "SHA1SUMS").lstat().st_ino == before.st_ino
    assert not (private.parent / "not there").exists()


def test_a_list_of_sums_of_another_user_is_refused(data: Path) -> None:
    (data / "SHA1SUMS").write_bytes(PRIVATE)
    give_away(data / "SHA1SUMS")
    with pytest.raises(DirectoryUnusable, match="SHA1SUMS: it belongs to"):
        Ledger(data, SERVICE)
    assert (data / "SHA1SUMS").read_bytes() == PRIVATE


@pytest.mark.parametrize("plant", LINKS)
def test_what_is_planted_beside_the_list_of_sums_is_in_nobodys_way(
    sandbox: Sandbox, clock: FastClock, data: Path, private: Path, plant: Plant
) -> None:
    plant(data / "SHA1SUMS.new", private)
    before = (data / "SHA1SUMS.new").lstat()
    assert run_batch(sandbox, data, clock, ROW).summary.exit_status is ExitStatus.COMPLETE
    assert PRODUCT in (data / "SHA1SUMS").read_text()
    assert (data / "SHA1SUMS.new").lstat().st_ino == before.st_ino


@pytest.mark.parametrize("plant", [link, hard_link, fifo])
def test_a_list_of_sums_that_is_replaced_by_a_link_meanwhile_is_not_followed(
    sandbox: Sandbox, clock: FastClock, data: Path, private: Path, plant: Plant
) -> None:
    is_planted = threading.Event()

    def listen(event: object) -> None:
        if not is_planted.is_set():
            is_planted.set()
            plant(data / "SHA1SUMS", private)

    with pytest.raises(DirectoryUnusable, match="SHA1SUMS"):
        run_batch(sandbox, data, clock, ROW, listen=listen)
    assert is_planted.is_set() and (data / PRODUCT).exists()
    (data / "SHA1SUMS").unlink()
    sandbox.reset_log()
    assert run_batch(sandbox, data, clock, ROW).summary.exit_status is ExitStatus.COMPLETE
    assert not [request for request in sandbox.requests if request.path == "/api/download"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_private_list_of_sums_stays_private(
    sandbox: Sandbox, clock: FastClock, data: Path, mode: int
) -> None:
    (data / "SHA1SUMS").write_bytes(PRIVATE)
    (data / "SHA1SUMS").chmod(mode)
    run_batch(sandbox, data, clock, ROW)
    assert (data / "SHA1SUMS").read_bytes().startswith(PRIVATE) and mode_of(data / "SHA1SUMS") == mode


# --- Part files and their notes -----------------------------------------------------------------------


@pytest.mark.parametrize("name", [f"{PRODUCT}.part", f"{PRODUCT}.part.json", f"{PRODUCT}.part.json.new"])
@pytest.mark.parametrize("plant", LINKS)
def test_what_is_planted_as_a_part_file_is_not_followed(
    sandbox: Sandbox, clock: FastClock, data: Path, private: Path, plant: Plant, name: str
) -> None:
    plant(data / STATE_DIR / name, private)
    run = run_batch(sandbox, data, clock, ROW)
    assert run.summary.exit_status is ExitStatus.COMPLETE
    product = data / PRODUCT
    assert not product.is_symlink() and product.stat().st_nlink == 1
    assert hashlib.sha1(product.read_bytes()).hexdigest() in (data / "SHA1SUMS").read_text()
    assert not (private.parent / "not there").exists()


def test_a_part_file_of_another_user_is_not_written_into(data: Path) -> None:
    part = data / STATE_DIR / f"{PRODUCT}.part"
    part.write_bytes(b"theirs")
    give_away(part)
    opened = open_part(part, ExpectedFile(7, PRODUCT, 6, None), threading.Event())
    with pytest.raises(DirectoryUnusable, match="belongs to"), opened:
        pass
    assert part.read_bytes() == b"theirs"


@pytest.mark.parametrize(
    "changed",
    [
        {"size": "6"},
        {"size": 10**400},
        {"size": 1e999},
        {"size": -6},
        {"synced": 1e999},
        {"synced": None},
        {"job_id": "7"},
        {"job_id": None},
        {"sha1": ["x"]},
        {"boot": 7},
        {"etag": "a\r\nCookie: x"},
        {"etag": "\0"},
        {"etag": "\ud800"},
        {"etag": 5},
        {"etag": "\u20ac"},
    ],
)
def test_a_note_without_sense_vouches_for_nothing(data: Path, changed: dict[str, Any]) -> None:
    part, wanted = data / STATE_DIR / f"{PRODUCT}.part", ExpectedFile(7, PRODUCT, 6, None)
    note = {"job_id": 7, "size": 6, "sha1": None, "etag": '"x"', "synced": 3, "boot": disk.boot_id()}
    for fields, length in ((note, 3), ({**note, **changed}, 0)):
        part.write_bytes(b"abc")
        part.with_name(f"{part.name}.json").write_text(json.dumps(fields))
        with open_part(part, wanted, threading.Event()) as opened:
            assert opened.length == length


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"job_id": 7, ', "[]", "7", '{"size": 1e999}', "\0", "{" + " " * 70_000 + "}"]
)
def test_a_note_that_is_none_vouches_for_nothing(data: Path, text: str) -> None:
    part = data / STATE_DIR / f"{PRODUCT}.part"
    part.write_bytes(b"abc")
    part.with_name(f"{part.name}.json").write_text(text)
    with open_part(part, ExpectedFile(7, PRODUCT, 6, None), threading.Event()) as opened:
        assert opened.length == 0


# --- The lock -----------------------------------------------------------------------------------------


class Bounded(FastClock):
    """A clock whose waits do not go on for ever."""

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        super().sleep(seconds, stop)
        assert len(self.slept) < 1000, "waits for ever"


def taken_over(data: Path) -> None:
    """Who cannot be known is given a few seconds, then the lock is ours."""
    clock, path = Bounded(), data / STATE_DIR / "lock"
    if not path.is_symlink() or path.exists():
        os.utime(path, (clock.now(), clock.now()), follow_symlinks=False)
    with directory_lock(data, data / STATE_DIR, clock, print):
        owner = Owner.of(path)
        assert owner is not None and owner.pid == os.getpid() and not path.is_symlink()
    assert 5.0 <= sum(clock.slept) < 60.0
    assert not (data / STATE_DIR).exists()


@pytest.mark.parametrize("plant", [link, dangling_link, fifo])
def test_a_lock_that_is_no_file_is_taken_over(data: Path, private: Path, plant: Plant) -> None:
    plant(data / STATE_DIR / "lock", private)
    taken_over(data)
    assert not (private.parent / "not there").exists()


def test_a_lock_that_is_a_folder_is_said(data: Path) -> None:
    (data / STATE_DIR / "lock").mkdir()
    with (
        pytest.raises(DirectoryUnusable, match="lock"),
        directory_lock(data, data / STATE_DIR, Bounded(), print),
    ):
        pass


@pytest.mark.parametrize(
    "changed",
    [
        {"pid": 1e999},
        {"pid": float("nan")},
        {"pid": 10**400},
        {"pid": 2**70},
        {"pid": 0},
        {"pid": -1},
        {"pid": "12"},
        {"pid": [1]},
        {"pid": None},
        {"pid": 1.5},
        {"token": ""},
        {"token": "../../x"},
        {"token": "a/b"},
        {"token": "\0"},
        {"token": "\ud800"},
        {"token": "0" * 5000},
        {"token": 7},
        {"token": None},
        {"token": "0123456789ABCDEF"},
    ],
)
def test_a_lock_without_sense_is_taken_over(data: Path, changed: dict[str, Any]) -> None:
    owner = dataclasses.asdict(Owner.here(1.8e9))
    (data / STATE_DIR / "lock").write_text(json.dumps({**owner, **changed}))
    taken_over(data)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"pid": ' * 50_000, "\0", "{}" + " " * 70_000, '"x"'])
def test_a_lock_that_is_no_lock_is_taken_over(data: Path, text: str) -> None:
    (data / STATE_DIR / "lock").write_text(text)
    taken_over(data)


@pytest.mark.parametrize("plant", [link, dangling_link, fifo])
def test_what_is_planted_as_a_claim_to_a_dead_lock_is_in_nobodys_way(
    data: Path, private: Path, plant: Plant
) -> None:
    dead = dataclasses.replace(Owner.here(1.8e9), born="1")
    (data / STATE_DIR / "lock").write_text(json.dumps(dataclasses.asdict(dead)))
    plant(data / STATE_DIR / f"lock.{dead.token}", private)
    clock = Bounded(now=4e9)
    with directory_lock(data, data / STATE_DIR, clock, print):
        pass
    assert not (data / STATE_DIR).exists()


def test_the_lock_of_another_user_is_theirs(data: Path) -> None:
    path = data / STATE_DIR / "lock"
    path.write_text("whatever they wrote")
    give_away(path)
    alone = directory_lock(data, data / STATE_DIR, Bounded(), print)
    with pytest.raises(DirectoryUnusable, match="lock: it belongs to"), alone:
        pass
    assert path.read_text() == "whatever they wrote"


@pytest.mark.parametrize("plant", ["second name", "group"])
def test_a_lock_that_lives_keeps_others_out_however_its_file_looks(
    data: Path, tmp_path: Path, plant: str
) -> None:
    path = data / STATE_DIR / "lock"
    with directory_lock(data, data / STATE_DIR, Bounded(), print):
        # A copy of a directory may share its files; an earlier version wrote as the umask said.
        os.link(path, tmp_path / "backup") if plant == "second name" else path.chmod(0o664)
        with pytest.raises(DirectoryBusy), directory_lock(data, data / STATE_DIR, Bounded(), print):
            pass
    assert not path.exists()


# --- As another user ----------------------------------------------------------------------------------


@contextmanager
def as_another_user() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user for a moment")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory as /tmp is one, where everybody comes."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


def test_everybody_has_a_memory_of_their_own_in_a_shared_directory(shared: Path, clock: FastClock) -> None:
    theirs, ours = shared / "theirs", shared / "ours"
    with as_another_user(), directory_lock(theirs, theirs / STATE_DIR, clock, print):
        ledger = Ledger(theirs, SERVICE)
        ledger.record_job(ROW, 7)
        ledger.close()
    Ledger(ours, SERVICE).close()
    for user, memory in ((as_another_user, ours / STATE_DIR), (nullcontext, theirs / STATE_DIR)):
        before = sorted(memory.iterdir())
        with user():
            assert "belongs to" in refused(memory).what
        assert sorted(memory.iterdir()) == before


@pytest.mark.parametrize("name", [STATE_DIR, "SHA1SUMS"])
@pytest.mark.parametrize("plant", [link, dangling_link, fifo, folder])
def test_what_somebody_planted_in_a_shared_directory_is_said(shared: Path, name: str, plant: Plant) -> None:
    with as_another_user():
        victim = shared / "victim"
        victim.mkdir()
    plant(shared / name, victim)
    with as_another_user(), pytest.raises(DirectoryUnusable, match=name):
        Ledger(shared, SERVICE)
    assert list(victim.iterdir()) == [] and not (shared / "not there").exists()


# --- The tools ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("plant", [*LINKS, folder])
def test_a_file_that_others_could_plant_is_not_written_into(
    tmp_path: Path, private: Path, plant: Plant
) -> None:
    plant(tmp_path / "errors.json", private)
    with pytest.raises((DirectoryUnusable, OSError)):
        our_files.write_in_place(tmp_path / "errors.json", "[]\n")
    assert not (tmp_path / "not there").exists()


def test_a_file_of_our_own_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "errors.json"
    for text in ("a long text\n", "[]\n"):
        our_files.write_in_place(path, text)
        path.chmod(0o664)
        assert path.read_text() == text
    give_away(path)
    with pytest.raises(DirectoryUnusable, match="belongs to"):
        our_files.write_in_place(path, "ours")
    assert path.read_text() == "[]\n"


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "note"
    our_files.write_safely(path, "old")
    with pytest.raises(UnicodeEncodeError):
        our_files.write_safely(path, "\ud800")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_file_that_never_ends_is_read_to_its_bound(tmp_path: Path) -> None:
    with (tmp_path / "endless").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DirectoryUnusable, match="more than"):
        our_files.read_ours(tmp_path / "endless")
    assert json_files.read_document(tmp_path / "endless") is None


def test_nobody_is_told_to_use_a_directory_that_all_can_write() -> None:
    top = Path(disk.__file__).parents[1]
    texts = [*top.rglob("*.py"), *(top.parent / "examples").glob("*"), top.parent / "README.md"]
    assert [path for path in texts if path.is_file() and "--dir=/tmp" in path.read_text()] == []
