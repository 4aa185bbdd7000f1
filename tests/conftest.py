"""Fixtures of all tests."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared import THREE_ROWS, FastClock

from mwa_client.cli.interrupts import SIGNALS
from mwa_client.cli.main import OBJECTS_PER_LOOK
from mwa_client.sandbox import Sandbox
from mwa_client.secrecy import _Known

# What a shell starts in the background, or with nohup, ignores these; the processes of the tests must not.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The tests flush 36,000 times, and wait for the disk meanwhile. Memory does as well, where there is enough of
# it; --basetemp=FOLDER chooses a disk all the same.
MEMORY, ROOM = Path("/dev/shm"), 2 << 30


def takes_all(folder: Path) -> bool:
    """Say whether what the tests write can be in a folder; some of it are programs."""
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        return False
    return shutil.disk_usage(folder).free >= ROOM and not os.statvfs(folder).f_flag & os.ST_NOEXEC


if takes_all(MEMORY):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

gc.set_threshold(OBJECTS_PER_LOOK)


def pytest_collection_finish() -> None:
    """Spare Python looking through all tests again and again for cycles that could be removed."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def clock() -> FastClock:
    return FastClock()


@pytest.fixture
def sandbox(clock: FastClock) -> Iterator[Sandbox]:
    """A practice service on the fast clock, with products of some 300 kB."""
    with Sandbox(clock=clock.now, product_size=lambda job: 300_000 + job.id) as sandbox:
        yield sandbox


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """A job file with three rows."""
    file = tmp_path / "jobs.csv"
    file.write_text(THREE_ROWS)
    return file


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A download directory that is not there yet."""
    return tmp_path / "data"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another working directory than the repository's, which stays clean whatever a test leaves behind."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def no_log_is_left() -> Iterator[None]:
    """What -v adds to the log of a test does not write into the next test's standard error."""
    yield
    logging.getLogger("mwa_client.asvo").handlers.clear()


@pytest.fixture(autouse=True)
def no_secret_is_left() -> Iterator[None]:
    """The secrets of a test are not struck out of the texts of the next: in the end it would be thousands."""
    before = {name: getattr(_Known, name) for name in ("sure", "words", "in_foreign_words")}
    yield
    with _Known.lock:
        for name, known in before.items():
            setattr(_Known, name, known)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Signals mean after the test what they meant before: a program that is ending ignores them."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
