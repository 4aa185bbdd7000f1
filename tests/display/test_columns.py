"""A table on a terminal: no line is wider than the window, and nothing is lost."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
from pathlib import Path

import pytest
from diaries import OBS, Diary, identity, row_text
from tqdm.utils import disp_len

from mwa_client.cli.main import main
from mwa_client.cli.streams import width_of_results
from mwa_client.display.columns import aligned
from mwa_client.display.printing import wrapped
from mwa_client.display.status import status_lines

HEADINGS, WORDS = ("job id", "state", "size", "why"), ("state", "why")
WHY = "It broke, and nobody knows why; it will not be tried again."
ROWS = [("300001", "Download Complete", "1.0 kB", ""), ("7", "Error", "-", WHY)]


@pytest.mark.parametrize("width", range(20, 110, 7))
def test_no_line_is_wider_than_the_window_and_no_word_is_lost(width: int) -> None:
    lines = aligned(HEADINGS, ROWS, WORDS, width)
    assert max(map(len, lines)) <= width
    assert " ".join(lines).split() == " ".join(" ".join(row) for row in (HEADINGS, *ROWS)).split()
    assert all(line.strip() for line in lines)


def test_a_table_that_is_a_little_too_wide_stays_a_table() -> None:
    table = aligned(HEADINGS, ROWS, WORDS)
    narrow = aligned(HEADINGS, ROWS, WORDS, max(map(len, table)) - len(HEADINGS) + 1)
    assert len(narrow) == len(table) == 3
    assert narrow[0] == "job id state               size why" and narrow[2].startswith("     7 Error     ")


@pytest.mark.parametrize("width", range(20, 110, 7))
def test_signs_of_two_columns_count_as_two(width: int) -> None:
    rows = [
        ("1", "待機中", "-", "観測データ" * 8 + "_vis.tar"),
        ("2", "Ready", "-", "eine schöne 望遠鏡 " * 4),
    ]
    lines = aligned(HEADINGS, rows, WORDS, width)
    assert max(map(disp_len, lines)) <= width and "データ_vis.tar" in "".join("".join(lines).split())
    assert max(map(disp_len, wrapped(rows[1][-1], width))) <= width
    in_a_file = [line.partition("-")[0] for line in aligned(HEADINGS, rows, WORDS)[1:]]
    assert len(set(map(disp_len, in_a_file))) == 1


def test_a_text_is_broken_in_its_column_and_a_long_word_within() -> None:
    lines = aligned(HEADINGS, [*ROWS, ("8", "Ready", "-", "x" * 60 + "_vis.tar (new)")], WORDS, 63)
    assert lines[2:] == [
        "     7  Error                   -  It broke, and nobody knows",
        "                                   why; it will not be tried",
        "                                   again.",
        "     8  Ready                   -  " + "x" * 28,
        " " * 35 + "x" * 28,
        " " * 35 + "xxxx_vis.tar (new)",
    ]
    assert aligned(HEADINGS, ROWS, WORDS)[2].endswith(WHY), "a file takes lines of any length"
    assert aligned(("id", "name"), [("1", "\x1b[2J")], ("name",), 30)[1] == "1  \\x1b[2J".rjust(11)


@pytest.mark.parametrize("width", [39, 79])
def test_the_status_fits_and_a_file_has_it_in_full(tmp_path: Path, width: int) -> None:
    diary = Diary(tmp_path / "data")
    name = "long_" * 20 + "vis.tar"
    with diary.run() as ledger:
        diary.submit(ledger, identity(), 42, "completed")
        diary.finish(ledger, identity(), 42, name=name)
        diary.submit(ledger, identity(OBS + 8), 43, "error")
        diary.fail(ledger, identity(OBS + 8), 43, "It broke.", WHY)
    status = diary.status(row_text() + row_text(OBS + 8) + row_text(OBS + 16))
    lines = status_lines(status, width=width)
    table = [line for line in lines if str(tmp_path) not in line]  # A word that is longer stays whole.
    assert max(map(len, table)) <= width and name in "".join("".join(lines).split())
    assert name in "\n".join(status_lines(status))


def test_the_width_of_results_is_that_of_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert width_of_results() is None
    diary = Diary(tmp_path)
    with diary.run() as ledger:
        diary.submit(ledger, identity(), 42, "completed")
        diary.finish(ledger, identity(), 42, name="long_" * 8 + "vis.tar")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    with os.fdopen(slave, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert width_of_results() == 39
        assert main(["--status", "--dir", str(tmp_path)]) == 0
        sys.stdout.flush()
        shown = os.read(master, 65536).decode().splitlines()
    os.close(master)
    assert "long_" * 8 + "vis.tar" in "".join("".join(shown).split())
    assert shown[0] == "job id      obs_id  type"
    assert max(len(line) for line in shown if str(tmp_path) not in line) <= 39
