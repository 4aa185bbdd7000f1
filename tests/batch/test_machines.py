"""Machines as they are: few threads, little memory, odd terminals, pipes, file systems and settings."""

from __future__ import annotations

import array
import errno
import fcntl
import io
import json
import os
import pty
import queue
import signal
import stat
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pexpect  # type: ignore[import-untyped]
import pytest
from shared import THREE_ROWS, FastClock, command, environment, run_batch, run_forked, untimed, wait_until

from mwa_client.batch import watching
from mwa_client.batch.events import Begun, Complete, Counts
from mwa_client.batch.products import bytes_to_come
from mwa_client.batch.workers import Workers
from mwa_client.cli.streams import PatientWriter
from mwa_client.directory import disk, our_files
from mwa_client.directory.lock import directory_lock
from mwa_client.directory.lock_file import HEARTBEAT
from mwa_client.display.bars import BarDisplay
from mwa_client.errors import NoFileOpened
from mwa_client.jobs.jobfile import read_bytes
from mwa_client.sandbox import Sandbox
from mwa_client.transfer import part_file, part_note
from mwa_client.transfer.events import Progress
from mwa_client.transfer.files import ExpectedFile

PRODUCTS = {"1191828584_ms.zip", "1191828584_vis.zip", "1191828528_vis_meta.zip"}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A practice service on the clock of the machine, whose jobs are ready at once."""
    with Sandbox(seconds_per_state=0, product_size=lambda job: 300_000 + job.id) as sandbox:
        yield sandbox


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    file = tmp_path / "jobs.csv"
    file.write_text(THREE_ROWS)
    return file


def run_with(before: str, *arguments: str | Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the client as a process that first does something to itself."""
    program = f"import sys\n{before}\nfrom mwa_client.cli.main import main\nsys.exit(main())"
    words = [sys.executable, "-c", program, *map(str, arguments)]
    return run_forked(words, env)


def assert_all_complete(done: subprocess.CompletedProcess[str], data: Path) -> None:
    assert (done.returncode, done.stderr) == (0, "")
    assert untimed(done.stdout).splitlines()[-1].startswith("3 complete")
    assert {path.name for path in data.iterdir()} - {".mwa_client", "SHA1SUMS"} == PRODUCTS


# --- Threads and memory ------------------------------------------------------------------------------

FEW_THREADS = """
import threading
start, left = threading.Thread.start, [{most}]
def start_few(self):
    if not left[0]:
        raise RuntimeError("can't start new thread")
    left[0] -= 1
    start(self)
threading.Thread.start = start_few
"""
LITTLE_MEMORY = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (400_000 << 10, 400_000 << 10))
"""


@pytest.mark.parametrize("most", range(5))
def test_all_is_done_with_as_few_threads_as_there_are(
    sandbox: Sandbox, csv: Path, tmp_path: Path, most: int
) -> None:
    data = tmp_path / "data"
    arguments = (f"--csv={csv}", f"--dir={data}", "--poll=0.05")
    done = run_with(FEW_THREADS.format(most=most), *arguments, env=environment(sandbox))
    assert_all_complete(done, data)
    assert len(sandbox.jobs) == 3


def test_all_is_done_with_little_memory(sandbox: Sandbox, csv: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    done = run_with(LITTLE_MEMORY, f"--csv={csv}", f"--dir={data}", "--poll=0.05", env=environment(sandbox))
    assert_all_complete(done, data)


def test_no_memory_at_all_is_no_mistake_of_the_program(csv: Path) -> None:
    before = (
        "from mwa_client.cli import checking\n"
        "def fail(*all, **more): raise MemoryError\n"
        "checking.read_bytes = fail"
    )
    done = run_with(before, f"--csv={csv}", "--check", env=environment())
    assert done.returncode == 1
    assert done.stderr.startswith(
        "mwa_client: The system has no more memory for this program.\nRaise the limit"
    )


@pytest.mark.parametrize("most", [0, 2, 5, 12])
def test_practising_takes_threads(csv: Path, tmp_path: Path, most: int) -> None:
    arguments = ("--sandbox", f"--csv={csv}", f"--dir={tmp_path / 'data'}")
    done = run_with(FEW_THREADS.format(most=most), *arguments, env=environment())
    assert done.returncode == 1 and "Traceback" not in done.stderr
    *_, what, remedy = done.stderr.splitlines()
    assert "needs some 24 threads" in what and "ulimit -u" in remedy


# --- Open files --------------------------------------------------------------------------------------

FEW_FILES = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
"""
UNAWARE = """
from mwa_client.batch import batch
batch.free_descriptors = lambda most: most
"""


def four_rows(tmp_path: Path) -> Path:
    csv = tmp_path / "four.csv"
    rows = (f"obs_id={1191828528 + 8 * n}, job_type=d, download_type=vis\n" for n in range(4))
    csv.write_text("".join(rows))
    return csv


@pytest.mark.parametrize(("api", "limit"), [("2018", 14), ("v1", 12), ("v2", 14)])
@pytest.mark.parametrize("before", ["", UNAWARE], ids=["known before", "met later"])
def test_all_is_done_with_few_open_files(tmp_path: Path, api: str, limit: int, before: str) -> None:
    with Sandbox(seconds_per_state=0, product_size=lambda job: 2_000_000) as sandbox:
        env = environment(sandbox)
        if api != "2018":
            env = environment(MWA_ASVO_HOST=sandbox.url, MWA_ASVO_API_KEY="practice-key", HOME=str(tmp_path))
        data = tmp_path / "data"
        words = (f"--csv={four_rows(tmp_path)}", f"--dir={data}", "--poll=0.05", f"--api={api}")
        more = ("--parallel=4", "--connections=8")
        done = run_with(FEW_FILES.format(limit=limit) + before, *words, *more, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1].startswith("4 complete") and len(sandbox.jobs) == 4
    assert len(list(data.glob("*_vis.*"))) == 4


def test_what_the_loop_looks_at_itself_waits_for_a_descriptor(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = [0]

    def lacking(*some: Any, **more: Any) -> int:
        tried[0] += 1
        if tried[0] % 4:
            raise NoFileOpened
        return bytes_to_come(*some, **more)

    monkeypatch.setattr(watching, "bytes_to_come", lacking)
    done = run_batch(sandbox, tmp_path, FastClock())
    assert len(done.summary.complete) == 3 and tried[0] == 12


def run_with_few_files(sandbox: Sandbox, tmp_path: Path, limit: int) -> subprocess.CompletedProcess[str]:
    """Run four rows with so few open files that even modules must be read before they are that few."""
    words = (f"--csv={four_rows(tmp_path)}", f"--dir={tmp_path / 'data'}", "--poll=0.05")
    before = "import mwa_client.sandbox, mwa_client.asvo.http, mwa_client.batch.batch, mwa_client.cli.tasks\n"
    return run_with(before + FEW_FILES.format(limit=limit), *words, env=environment(sandbox))


@pytest.mark.parametrize("limit", [6, 7])
def test_so_few_open_files_that_nothing_goes_on(sandbox: Sandbox, tmp_path: Path, limit: int) -> None:
    done = run_with_few_files(sandbox, tmp_path, limit)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "any more files or connections" in done.stderr and "ulimit -n" in done.stderr
    assert "internal error" not in done.stderr


def test_nine_open_files_are_enough(sandbox: Sandbox, tmp_path: Path) -> None:
    """Connections that no call uses are closed where others are needed."""
    done = run_with_few_files(sandbox, tmp_path, 9)
    assert done.returncode == 0 and "4 complete" in done.stdout, done


def test_a_part_whose_note_cannot_be_opened_now_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, wanted = tmp_path / "x.part", ExpectedFile(1, "x", 10, None)
    with part_file.open_part(part, wanted, threading.Event()) as there:
        writer = there.writer(0)
        writer.append(b"12345")
        writer.flush()

    def fail(path: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(our_files, "read_ours", fail)
        with pytest.raises(NoFileOpened), part_file.open_part(part, wanted, threading.Event()):
            pass
        assert part_file.bytes_in_part(part) == 5 and part_note.job_of_part(part) is None
    with part_file.open_part(part, wanted, threading.Event()) as there:
        assert there.present == 5


def test_workers_do_with_fewer_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_threads(monkeypatch, after=1)
    inbox: queue.Queue[object] = queue.Queue()
    workers = Workers(4, inbox)
    for number in range(5):
        workers.give(lambda number=number: number)  # type: ignore[misc]
    assert [inbox.get(timeout=5) for _ in range(5)] == list(range(5))
    workers.finish(time.monotonic() + 5)


def test_workers_without_threads_do_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_threads(monkeypatch, after=0)
    inbox: queue.Queue[object] = queue.Queue()
    workers = Workers(4, inbox)
    workers.give(lambda: 7)
    workers.give(lambda: None)
    assert (inbox.get_nowait(), inbox.empty()) == (7, True)
    workers.finish(time.monotonic())


def test_a_lock_without_a_thread_is_touched_when_it_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_threads(monkeypatch, after=0)
    clock = FastClock()
    with directory_lock(tmp_path, tmp_path / "memory", clock, print) as check:
        lock = tmp_path / "memory" / "lock"
        os.utime(lock, (0, 0))
        check()
        assert lock.stat().st_mtime == 0
        clock.advance(HEARTBEAT + 1)
        check()
        assert lock.stat().st_mtime > 0


def refuse_threads(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let the system give no more threads after so many."""
    start = threading.Thread.start
    given: list[threading.Thread] = []

    def start_few(thread: threading.Thread) -> None:
        if len(given) >= after:
            raise RuntimeError("can't start new thread")
        given.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_few)


# --- Terminals ---------------------------------------------------------------------------------------


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail where something spins for ever."""

    def fail(number: int, frame: FrameType | None) -> None:
        raise AssertionError("it does not end")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5])
def test_a_window_of_a_few_columns(columns: int) -> None:
    master, slave = pty.openpty()
    with os.fdopen(master, "rb", buffering=0), os.fdopen(slave, "w", encoding="utf-8") as stream:
        display = BarDisplay(stream, stream, FastClock())

        def resize(columns: int) -> None:
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            display(Counts(3, 1, (("Queued", 2), ("Download Complete", 1))))
            display(Progress(1, "1191828584_ms.zip", 10 * columns, 10_000))

        with within(20):
            display(Begun(3))
            for width in (80, columns, 80, columns):
                resize(width)
            display.close()


@pytest.mark.parametrize(
    "settings",
    [
        {"TQDM_MININTERVAL": "abc"},
        {"TQDM_NCOLS": ""},
        {"TQDM_UNIT_DIVISOR": "0", "TQDM_ASCII": "x", "TQDM_LOCK_ARGS": "x"},
        {"TQDM_DISABLE": "1"},
    ],
)
def test_settings_for_bars_of_other_programs(
    sandbox: Sandbox, csv: Path, tmp_path: Path, settings: dict[str, str]
) -> None:
    first, *rest = command(f"--csv={csv}", f"--dir={tmp_path / 'data'}", "--poll=0.05")
    child = pexpect.spawn(first, rest, env=environment(sandbox, **settings), encoding="utf-8", timeout=20)
    shown = child.read()
    child.close()
    assert child.exitstatus == 0, shown
    assert "3 complete" in shown
    assert ("3/3 jobs |" in shown) is ("TQDM_DISABLE" not in settings)


# --- Pipes -------------------------------------------------------------------------------------------

PIPE = 4096
"""Bytes that the pipes here take."""


@contextmanager
def pipe_that_does_not_block() -> Iterator[tuple[int, int]]:
    """A small pipe, set so by another program that has it."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ if hasattr(fcntl, "F_SETPIPE_SZ") else 1031, PIPE)
    os.set_blocking(writer, False)
    try:
        yield reader, writer
    finally:
        for end in (reader, writer):
            try:
                os.close(end)
            except OSError:
                pass  # The test has closed it.


def bytes_in(pipe: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def read_to_end(pipe: int) -> bytes:
    return b"".join(iter(lambda: os.read(pipe, 1 << 16), b""))


def test_all_events_come_through_a_pipe_that_does_not_block(
    sandbox: Sandbox, csv: Path, tmp_path: Path
) -> None:
    words = command(f"--csv={csv}", f"--dir={tmp_path / 'data'}", "--poll=0.05", "--json")
    with pipe_that_does_not_block() as (reader, writer):
        os.write(writer, b"\n" * PIPE)  # Its reader is behind from the start.
        child = subprocess.Popen(words, env=environment(sandbox), stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
        wait_until(lambda: bool(sandbox.jobs) or child.poll() is not None)
        time.sleep(0.2)
        lines = read_to_end(reader).split()
        _, errors = child.communicate(timeout=20)
    events = [json.loads(line) for line in b" ".join(lines).decode().replace("} {", "}\n{").splitlines()]
    assert (child.returncode, errors) == (0, b"")
    assert sum(event["event"] == "complete" for event in events) == 3
    assert events[-1]["event"] == "summary"


def test_a_long_answer_comes_whole_through_a_pipe_that_does_not_block(tmp_path: Path) -> None:
    csv = tmp_path / "jobs.csv"
    csv.write_text(
        "".join(f"obs_id={1191828584 + 8 * n}, job_type=d, download_type=vis\n" for n in range(60))
    )
    with pipe_that_does_not_block() as (reader, writer):
        words = command(f"--csv={csv}", "--check", "-v")
        child = subprocess.Popen(words, env=environment(), stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
        wait_until(lambda: bytes_in(reader) > PIPE // 2 or child.poll() is not None)
        text = read_to_end(reader)
        assert child.wait(20) == 0
        assert child.stderr is not None and child.stderr.read() == b""
        child.stderr.close()
    assert len(text) > PIPE
    assert text.endswith(b"Nothing was sent.\n")


def test_a_reader_who_is_absent_gets_what_it_has_missed() -> None:
    with pipe_that_does_not_block() as (reader, writer):
        stream = io.TextIOWrapper(PatientWriter(writer, patience=0.01), encoding="ascii")
        written = "".join(f"line {number}\n" for number in range(2000))
        for line in written.splitlines(keepends=True):
            stream.write(line)
            stream.flush()
        there = os.read(reader, PIPE)
        while len(there) < len(written):
            stream.flush()
            there += os.read(reader, PIPE)
        assert there.decode() == written
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            print("to nobody", file=stream, flush=True)
        stream.close()


def test_rows_from_a_pipe_that_does_not_block_are_all_read() -> None:
    first, second = THREE_ROWS[:100], THREE_ROWS[100:]
    reader, writer = os.pipe()
    os.set_blocking(reader, False)

    def write() -> None:
        for text in (first, second):
            wait_until(lambda: bytes_in(reader) == 0)
            os.write(writer, text.encode())
        os.close(writer)

    thread = threading.Thread(target=write)
    with os.fdopen(reader, "rb") as stdin:
        thread.start()
        data, _ = read_bytes("-", stdin=stdin)
        thread.join()
    assert data.decode() == THREE_ROWS


# --- File systems ------------------------------------------------------------------------------------


def refuse_for_folders(monkeypatch: pytest.MonkeyPatch, number: int, call: str) -> None:
    """Let a system call fail for every folder, as some file systems do."""
    true_fsync, true_open = os.fsync, os.open

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        true_fsync(handle)

    def open_(path: str | Path, flags: int, *rest: int, **more: int) -> int:
        if Path(path).is_dir():
            raise OSError(number, os.strerror(number))
        return true_open(path, flags, *rest, **more)

    monkeypatch.setattr(os, call, {"fsync": fsync, "open": open_}[call])


@pytest.mark.parametrize(
    ("call", "number"),
    [
        *(("fsync", number) for number in (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EIO)),
        *(("fsync", number) for number in (errno.ENOSYS, errno.EBADF, errno.EPERM, errno.EROFS)),
        ("open", errno.EACCES),
    ],
)
def test_a_folder_that_cannot_be_synced_costs_no_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    clock = FastClock()
    with Sandbox(clock=clock.now, product_size=lambda job: 3000 + job.id) as sandbox:
        refuse_for_folders(monkeypatch, number, call)
        for _ in range(2):
            run = run_batch(sandbox, tmp_path, clock)
            assert run.summary.exit_status == 0
            assert len(run.told(Complete)) == 3
        assert len(sandbox.jobs) == 3


def test_a_folder_that_is_gone_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        disk.sync_directory(tmp_path / "gone")


IN_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""The system's names have ASCII characters alone, and Python believes it."""


IN_UTF_8 = {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}


def run_in(locale: dict[str, str], sandbox: Sandbox, csv: Path, data: Path) -> str:
    words = command(f"--csv={csv}", f"--dir={data}", "--poll=0.05")
    env = environment(sandbox, **locale)
    done = subprocess.run(words, env=env, capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


@pytest.mark.parametrize("locales", [(IN_ASCII, IN_UTF_8), (IN_UTF_8, IN_ASCII)], ids=["ASCII", "UTF-8"])
def test_names_are_the_same_in_every_locale(
    sandbox: Sandbox, csv: Path, tmp_path: Path, locales: tuple[dict[str, str], ...]
) -> None:
    sandbox.faults.add("hostile_name", name="gemäß_π.tar")
    data = tmp_path / "data"
    sums = set()
    for locale in (*locales, locales[0]):
        run_in(locale, sandbox, csv, data)
        sums.add((data / "SHA1SUMS").read_bytes())
    assert len(sandbox.jobs) == 3 and len(sums) == 1
    names = {path.name for path in data.iterdir()} - {".mwa_client", "SHA1SUMS"}
    first, *others = [job.id for job in sandbox.jobs]
    assert len(names) == 3 and {f"{job}_gemäß_π.tar" for job in (first, *others)} | {"gemäß_π.tar"} > names
    assert sorted(line[42:] for line in sums.pop().decode().splitlines()) == sorted(names)
    assert len([entry for entry in sandbox.requests if entry.path == "/api/download"]) == 3


def test_what_was_begun_is_continued_in_another_locale(sandbox: Sandbox, tmp_path: Path) -> None:
    csv = tmp_path / "one.csv"
    csv.write_text(THREE_ROWS.splitlines()[0])
    sandbox.faults.add("hostile_name", name="gemäß_π.tar")
    sandbox.faults.add("cut_product", after=1000, times=1)
    sandbox.faults.add("product_gone", skip=1)
    words = command(f"--csv={csv}", f"--dir={tmp_path}", "--poll=0.05")
    env = environment(sandbox, **IN_UTF_8)
    done = subprocess.run(words, env=env, capture_output=True, timeout=20, check=False)
    assert done.returncode == 4
    sandbox.faults.clear()
    sandbox.faults.add("hostile_name", name="gemäß_π.tar")
    sandbox.reset_log()
    run_in(IN_ASCII, sandbox, csv, tmp_path)
    ranges = [entry.range for entry in sandbox.requests if entry.path == "/api/download"]
    assert ranges == ["bytes=1000-"] and (tmp_path / "gemäß_π.tar").is_file()


# --- Settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"PYTHONOPTIMIZE": "2"},
        {"PYTHONWARNINGS": "error"},
        {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error", "PYTHONWARNDEFAULTENCODING": "1"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "utf-16"},
        {"PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1"},
        {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"},
        {"PYTHONMALLOC": "debug", "PYTHONFAULTHANDLER": "1"},
        {"SSL_CERT_FILE": "/nowhere.pem", "SSL_CERT_DIR": "/nowhere"},
        IN_ASCII,
    ],
    ids=" ".join,
)
def test_settings_that_people_have(
    sandbox: Sandbox, csv: Path, tmp_path: Path, settings: dict[str, str]
) -> None:
    data = tmp_path / "data"
    done = subprocess.run(
        command(f"--csv={csv}", f"--dir={data}", "--poll=0.05"),
        env=environment(sandbox, **settings),
        capture_output=True,
        encoding="utf-16" if settings.get("PYTHONIOENCODING") == "utf-16" else "utf-8",
        timeout=20,
        check=False,
    )
    assert_all_complete(done, data)


@pytest.mark.parametrize("module", ["mwa_client", "mwa_client.sandbox"])
def test_help_without_docstrings(module: str) -> None:
    words = [sys.executable, "-OO", "-m", module, "--help"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--version" in done.stdout or "hostile name" in done.stdout
