"""Completion in real shells, and a manual page that a real ``man`` can read, both made from the options."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pexpect  # type: ignore[import-untyped]
import pytest

from mwa_client.cli.manual import COMPLETION_PLACES, completion, man_page
from mwa_client.cli.options import option_parser

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
NEEDS_ZSH = pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")

COMPLETED = {
    "--submit": "--submit-only",
    "--allow-r": "--allow-resubmit",
    "--csv jo": r"jobs\ of\ june.csv",
    "-c jo": r"jobs\ of\ june.csv",
    "--csv=jo": r"=jobs\ of\ june.csv",
    "--dir pro": "products/",
    "--dir=pro": "=products/",
    "--api v": "v",
    "--api 2": "2018",
    "-w a": "all",
    "-w 10001 --js": "--json",
}
"""What is typed, and how it ends after the tabulator."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a job file, a directory of products, and the completion's file as it is installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "jobs of june.csv").touch()
    (tmp_path / "products").mkdir()
    for place in COMPLETION_PLACES:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(completion())
    return tmp_path


def test_bash_completes(folder: Path) -> None:
    script = folder / COMPLETION_PLACES[0]
    ask = (
        'complete_line() { local line="mwa_client $1"; COMP_LINE=$line; COMP_POINT=${#line};'
        ' eval "COMP_WORDS=(${line//=/ = })"; [ "${line: -1}" = " " ] && COMP_WORDS+=("");'
        ' COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _mwa_client; printf "%s\\n" "${COMPREPLY[@]}"; }; '
    )
    for words, end in COMPLETED.items():
        line = f"source {script} && {ask} complete_line '{words}'"
        done = subprocess.run(["bash", "--norc", "-c", line], capture_output=True, text=True, check=True)
        offered = done.stdout.split("\n")
        wanted = end.replace("\\", "").lstrip("=").rstrip("/")
        assert wanted in offered or (words == "--api v" and {"v1", "v2"} <= set(offered)), (words, offered)


def terminal(*shell: str) -> Any:
    spawned = pexpect.spawn(shell[0], list(shell[1:]), encoding="utf-8", timeout=20, dimensions=(24, 200))
    spawned.delaybeforesend = None  # It is ready: its prompt was seen.
    return spawned


def test_bash_in_a_terminal(folder: Path) -> None:
    shell = terminal("bash", "--norc", "--noprofile", "-i")
    try:
        shell.sendline(f"PS1='ready% '; bind 'set enable-bracketed-paste off'; source {COMPLETION_PLACES[0]}")
        shell.sendline("mwa_client() { printf '<%s>' \"$@\"; }; echo set up")
        shell.expect("\r\nset up\r\n")
        for words, program_gets in {
            "--submit": "<--submit-only>",
            "--csv=jo": "<--csv=jobs of june.csv>",
            "-d pro": "<-d><products/>",
            "-w 10001 al": "<-w><10001><all>",
        }.items():
            shell.expect_exact("ready% ")
            shell.send(f"mwa_client {words}\t")
            shell.send("\r")
            shell.expect_exact(program_gets)
    finally:
        shell.close(force=True)


@NEEDS_ZSH
def test_zsh_in_a_terminal(folder: Path) -> None:
    shell = terminal("zsh", "-f", "-i")
    try:
        shell.sendline("PS1='ready%% '; unsetopt zle_bracketed_paste prompt_cr prompt_sp; setopt no_beep")
        # Reading what completes other commands, too, would take most of the time.
        shell.sendline("fpath=(${fpath:#*/Completion/(AIX|BSD|Debian|Linux|X|Zsh)})")
        shell.sendline(
            f"fpath=({folder / COMPLETION_PLACES[1]}(:h) $fpath); autoload -Uz compinit && compinit -u -D"
        )
        shell.sendline("mwa_client() { printf '<%s>' \"$@\" }; echo set up")
        shell.expect("\r\nset up\r\n")
        for words, program_gets in {
            "--submit": "<--submit-only>",
            "--csv=jo": "<--csv=jobs of june.csv>",
            "-d pro": "<-d><products/?>",
            "-w 10001 al": "<-w><10001><all>",
            "-l --js": "<-l><--json>",
            "--cancel 1 2 3 --js": "<--cancel><1><2><3><--json>",
            "--api 2": "<--api><2018>",
        }.items():
            shell.expect_exact("ready% ")
            shell.send(f"mwa_client {words}\t")
            shell.send("\r")
            shell.expect(program_gets)
    finally:
        shell.close(force=True)


def test_every_option_is_completed_and_explained() -> None:
    script, page = completion(), man_page(README)
    for action in option_parser()._actions:
        if action.help != "==SUPPRESS==":
            assert re.search(rf"[ ']{action.option_strings[-1]}[ ']", script), action.option_strings
            for name in action.option_strings:
                assert f"\\fB{name}\\fR".replace("-", r"\-") in page
    for status in (0, 1, 2, 3, 4, 75):
        assert f"\n.TP\n\\fB{status}\\fR\n" in page
    assert r"\fBMWA_ASVO_API_KEY\fR" in page and r"\-\-check" in page.partition(".SH EXAMPLES")[2]


@pytest.mark.parametrize(
    "reader", [["groff", "-man", "-Tutf8", "-ww"], ["mandoc", "-Tlint"]], ids=["groff", "mandoc"]
)
def test_the_page_can_be_read(reader: list[str]) -> None:
    if shutil.which(reader[0]) is None:
        pytest.skip(f"{reader[0]} is not installed")
    done = subprocess.run(reader, input=man_page(README), capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr
    assert "mwa_client" in done.stdout


def test_both_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    packaging = SimpleNamespace(setup=given.update, find_packages=lambda include: [])
    monkeypatch.setitem(sys.modules, "setuptools", packaging)
    runpy.run_path(str(ROOT / "setup.py"))
    files = {
        f"{place}/{Path(name).name}": ROOT / name for place, names in given["data_files"] for name in names
    }
    assert set(files) == {"share/man/man1/mwa_client.1", *(f"share/{place}" for place in COMPLETION_PLACES)}
    assert {path.read_text() for path in files.values()} == {completion(), man_page(README)}


def test_making_them_needs_nothing_but_python() -> None:
    """They are made while the package is being installed, when its dependencies are not there yet."""
    code = "from mwa_client.cli.manual import completion, man_page; print(len(completion() + man_page('')))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
