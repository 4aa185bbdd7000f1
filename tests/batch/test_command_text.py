"""The command of `--then` as text: a real shell reads each value as it is, or the command is refused."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwa_client.batch.command_text import check_command, fill_in, missing_program
from mwa_client.batch.shell import SHELL
from mwa_client.errors import SettingsError

VALUES = {"path": ["/a b/$x"], "obs_id": ["1191828528"], "job_id": ["7"], "line": ["3"]}

# In each of these places, the shell is to print the path and a full stop.
SHOW = "printf '%s.' "
PLACES = (
    SHOW + "{path}",
    SHOW + '"{path}"',
    SHOW + "'{path}'",
    SHOW + '"$(printf %s. {path})"',
    SHOW + '"$(printf %s. "{path}")"',
    SHOW + "\"$(printf %s. '{path}')\"",
    "( " + SHOW + "{path} )",
    "(cd / && " + SHOW + "{path})# isn't shown",
    "{ " + SHOW + "{path}; }",
    "x={path}; " + SHOW + '"$x"',
    'x="{path}"; ' + SHOW + '"${x:-"it\'s"}"',
    "case {path} in {path}) " + SHOW + "{path};; esac",
    "for each in {path}; do " + SHOW + '"$each"; done',
    'sh -c \'printf "%s." "$1"\' - {path}',
    SHOW + "\\\n{path} # {path}",
    SHOW + "{path}<<'EOF'\nit's {obs_id}\nEOF\n",
)
# What may stand before, and must not spoil the quoting.
BEFORE = (
    "# it's a comment\n",
    "#\"\n",
    ": # `\n",
    ": it\\'s \\\" \\` \\\\ \\#'#'\n",
    ": a#b'c'd#\"e\"#`:`#'\n'#'; '\n",
    ': "it\'s # no comment" $# ${#x} $$\n',
    ": '\\' '\"'\n",
    ': "\\"" "\\\\" "${x:-}}" ${x:-\'}\'} ${x#\\}}\n',
    ": `echo \"it's\"` \"`echo \\\"it's\\\"`\"\n",
    ": $(: # it's )\n) $(: $(: \")\" ')')) $((1 + (2 << 1) & 3))\n",
    "case x in a) : ;; (b) : ;; x) : \"'\" ;; esac\n",
    "if true; then :; fi; ! false && { :; } || exit 9; ",
    ": {line} '{line}' \"{line}\" `: {line}` {}{other}${line:-{line}}\n",
    ": & p=$!; : ok >/dev/null 2>&1; wait $p\n",
    ": & p=$!; if ! : ok wait a b; then :; else : wait; wait 2>/dev/null -- $(echo $p & wait $!) >&2; fi;",
    "case x in x) : & wait $!;; esac; (: & wait \"$!\"); : $((1 & 2)); wait; (wait $p 2>/dev/null) || :;",
    "x=$(cat </dev/null) 3>&1 <&- 3>&-;",
    "\\\n\t # it's\n",
)  # fmt: skip
NAMES = (
    st.text("'\"`$()\\{} ;&|*?~#!\n\t-=<>[]a", min_size=1, max_size=12)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
    | st.sampled_from(["-n", "--", "{path}", "$(exit 9)", "`exit 9`", "a\n", "\\", "'", "''", "%s"])
)


def said(template: str) -> str:
    """What is wrong with a command, and what to do about it."""
    with pytest.raises(SettingsError) as refused:
        check_command(template)
    return f"{refused.value.what} {refused.value.remedy}"


@settings(max_examples=40, deadline=None)
@given(name=NAMES, before=st.lists(st.sampled_from(BEFORE), max_size=3), place=st.sampled_from(PLACES))
def test_the_shell_reads_every_name_as_it_is(name: str, before: list[str], place: str) -> None:
    template = "".join(before) + place
    filled = fill_in(template, {**VALUES, "path": [name]})
    done = subprocess.run([SHELL, "-c", filled], capture_output=True, check=False, timeout=20, cwd="/")
    expected = f"{name}.." if "printf %s." in place else f"{name}."
    assert (done.stdout.decode(), done.stderr.decode(), done.returncode) == (expected, "", 0), filled


@pytest.mark.parametrize("text", [*BEFORE, *PLACES])
def test_these_are_no_reason_to_refuse_a_command(text: str) -> None:
    check_command(text + SHOW + "{path}" if text in BEFORE else text)


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("work", "work '/a b/$x'"),
        ("work {path} {obs_id} {job_id} {line}", "work '/a b/$x' 1191828528 7 3"),
        ('work "{path}.log"', """work ""'/a b/$x'".log\""""),
        ("work '{path}' '{line}'", "work '''/a b/$x''' '3'"),
        (r"echo \"{path}\"", r"""echo \"'/a b/$x'\""""),
        ("echo it\\'s {path}", "echo it\\'s '/a b/$x'"),
        ("awk '{print}' {path}", "awk '{print}' '/a b/$x'"),
        ("echo ${path} ${line:-x} {obs_id}", "echo ${path} ${line:-x} 1191828528"),
        ("echo ${path} $${line}", "echo ${path} $$3"),
        ("echo ${path}", "echo ${path} '/a b/$x'"),
        ("echo {{obs_id}} {other} {}", "echo {1191828528} {other} {}"),
        ("echo \\{path} {line}", "echo \\{path} 3"),
        ("echo {line} # not {path}", "echo 3 # not {path}"),
        ("work\n", "work '/a b/$x'"),
        ("work $(nproc; date) \"a;b\" 'c|d' \\; x#y", "work $(nproc; date) \"a;b\" 'c|d' \\; x#y '/a b/$x'"),
    ],
)
def test_placeholders_are_replaced_and_nothing_else(template: str, filled: str) -> None:
    check_command(template)
    assert fill_in(template, VALUES) == filled


def test_a_product_of_several_files_is_several_words() -> None:
    assert fill_in("work {path}", {"path": ["/a b", "/c"]}) == "work '/a b' /c"


def test_what_is_not_known_yet_stays_as_it_is() -> None:
    assert fill_in("work", {"line": ["3"]}) == "work {path}"
    assert fill_in("work '{path}' {line}", {"line": ["3"]}) == "work '{path}' 3"


def test_a_number_that_is_not_known_is_an_empty_word() -> None:
    assert fill_in("test '{line}' {line}", {"line": [""]}) == "test '''''' ''"


@pytest.mark.parametrize(
    "template",
    [
        "work;",
        "work | tee log",
        "work > log",
        "work # note",
        "work # {path}",
        "a && b",
        "a\nb",
        "(work)",
        "work \\",
    ],
)
def test_the_path_is_appended_to_nothing_but_one_command(template: str) -> None:
    assert "where the product belongs" in said(template) and "Write {path} where it belongs" in said(template)


@pytest.mark.parametrize(
    "template",
    [
        "work {path} &",
        "work {path}&\n",
        "nohup work {path} > log 2>&1 & # go on",
        "(work {path} &)",
        "{ work {path} & }\n",
        "a {path} && b &",
        "work {path} & echo waiting for nothing",
        "work & echo {path}",
    ],
)
def test_a_command_that_the_shell_does_not_wait_for_is_refused(template: str) -> None:
    assert "does not wait" in said(template) and "Leave out the &" in said(template)


@pytest.mark.parametrize(
    "template",
    [
        "a {path} & b & wait",
        "a {path} & b; wait && echo done",
        "a {path} & p=$!; b & q=$!; wait $p $q",
        "(a {path} & wait) # for all",
        "for f in {path}; do a $f & done; wait 2>/dev/null; true",
        "a {path} & if b; then wait; fi",
        "a {path} & wait -n",
        "a & x=1 wait\necho {path}",
    ],
)
def test_a_wait_that_hides_a_failure_is_refused(template: str) -> None:
    assert "hides a failure" in said(template) and "wait $p" in said(template)


@pytest.mark.parametrize("template", ["work {path} &> log", "work {path} &>>log; true"])
def test_what_only_bash_takes_for_a_redirection_is_refused(template: str) -> None:
    assert "does not wait" in said(template) and "> file 2>&1" in said(template)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("work `dirname {path}`", "backquotes"),
        ("work \"`dirname '{path}'`\"", "backquotes"),
        ("work ${1:-{path}}", "${...}"),
        ("cat <<EOF\n{path}\nEOF\n", "here-document"),
        ("work $'\\n' {path}", "$'...'"),
        ('echo "${x:-\'}" {path}', "quotes within"),
        ('echo "$(case x in a) :;; esac) {path}"', "case within brackets"),
    ],
)
def test_a_path_of_which_the_quoting_cannot_be_told_is_refused(template: str, why: str) -> None:
    assert why in said(template) and "script.sh {path}" in said(template)
    check_command(template.replace("{path}", "{line}"))  # A number needs no quoting.


@pytest.mark.parametrize("template", ["work {path} {obsid}", "work '{ obs_id }'", 'work "{OBS_ID}"'])
def test_what_is_nearly_a_placeholder_is_refused(template: str) -> None:
    assert "would not be replaced. Write {obs_id}." in said(template)
    check_command(template.replace("{", "${") + " {path}")  # A variable of the shell, if a strange one.
    assert "not clear where the product belongs" in said("find . -exec work {} +")


@pytest.mark.parametrize(
    "template", ["work {path} '", 'work "{path}', "work $(echo {path}", "work {path} | ", "if {path}"]
)
def test_what_the_shell_cannot_read_is_refused(template: str) -> None:
    assert "shell cannot read" in said(template)


@pytest.mark.parametrize("template", ["", " ", "\n"])
def test_an_empty_command_is_refused(template: str) -> None:
    assert "--then is empty" in said(template)


@pytest.mark.parametrize("template", [5, Path("work.sh"), ["work", "{path}"]])
def test_what_is_no_text_is_refused(template: Any) -> None:
    with pytest.raises(SettingsError, match=r"--then is a .*, not text"):
        check_command(template)


@pytest.mark.parametrize(
    ("template", "why"), [("a\0b", "character"), ("a\ud800", "character"), ("a" * 200_000, "too long")]
)
def test_what_cannot_be_given_to_a_program_is_refused(template: str, why: str) -> None:
    assert why in said(template)


def test_ten_kilobytes_are_a_command() -> None:
    template = "true \\\n" + "xxxxxxxxx " * 1_000
    check_command(template)
    assert fill_in(template, {"path": ["/a"]}).endswith("x /a")


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("no-such-program {path}", "no-such-program"),
        ("no-such-program\t| cat {path}", "no-such-program"),
        ("{here}/plain {path}", "{here}/plain"),
        ("{here}/script {path}", ""),
        ("script {path}", ""),
        ("if true; then no-such-program {path}; fi", ""),
        ("work() { no-such-program {path}; }; work", ""),
        ("WORD=1 no-such-program {path}", ""),
        ("~/no-such-program {path}", ""),
        ('"$HOME/no such program" {path}', ""),
    ],
)
def test_a_program_that_cannot_be_run_is_found_out(tmp_path: Path, command: str, missing: str) -> None:
    for name, mode in (("plain", 0o644), ("script", 0o755)):
        (tmp_path / name).touch(mode)
    found = missing_program(command.replace("{here}", str(tmp_path)), f"{tmp_path}:{os.defpath}")
    assert found == missing.replace("{here}", str(tmp_path))
