"""Messages in a Python program name arguments; those of the command name options."""

from __future__ import annotations

import ast
import importlib
import pickle
import pkgutil
import re
from collections.abc import Iterator
from copy import copy, deepcopy
from pathlib import Path

import pytest

import mwa_client
from mwa_client.batch.events import Notice, RowFailed, RowName, Summary
from mwa_client.client.words import event_in_python_words, in_python_words, summary_in_python_words
from mwa_client.errors import (
    InternalError,
    JobFailed,
    JobFileError,
    Mistake,
    MwaClientError,
    NotCancelled,
    OutOfMemory,
    ServiceRefused,
)
from mwa_client.transfer.files import FetchedFile
from mwa_client.transfer.unpacking.members import UnpackRefused

PACKAGE = Path(mwa_client.__file__).parent
BELOW_THE_COMMAND = [
    path
    for room in ("asvo", "batch", "directory", "jobs", "transfer", "client")
    for path in sorted((PACKAGE / room).rglob("*.py"))
    if path.name != "words.py"
] + [PACKAGE / "errors.py"]
AN_OPTION = re.compile(r"(?<![\w<-])--[a-z]")
A_COMMAND = re.compile(r"(?<!is )\b[Rr]un (again|with|it|the same)\b|\b(same|a|another) command\b(?! line)")
"""Not every command: ``then`` has one too."""


def texts_of(path: Path) -> Iterator[str]:
    """Every literal text of a module, docstrings excepted; what is filled in is an ellipsis."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from [node.value] if id(node) not in inner | docstrings else []


@pytest.mark.parametrize("path", BELOW_THE_COMMAND, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_no_message_names_an_option_or_the_command(path: Path) -> None:
    texts = [in_python_words(text) for text in texts_of(path) if " " in text]
    assert [text for text in texts if AN_OPTION.search(text) or A_COMMAND.search(text)] == []


def test_there_are_messages_that_would() -> None:
    texts = [text for path in BELOW_THE_COMMAND for text in texts_of(path)]
    assert sum(bool(AN_OPTION.search(text)) for text in texts) > 10
    assert sum(bool(A_COMMAND.search(text)) for text in texts) > 10


@pytest.mark.parametrize(
    ("for_the_command", "in_python"),
    [
        ("Give the job file with --csv=FILE.", "Give the path of a job file, or a list of rows."),
        ("Choose another directory with --dir.", "Choose another directory with directory=."),
        ("The time given with --give-up-after has passed.", "The time given with give_up_after= has passed."),
        ("It is kept: run the same command again to continue.", "It is kept: call it again to continue."),
        ("--parallel 1 --connections 1. Everything", "parallel=1 connections=1. Everything"),
        ("Run again with --allow-resubmit to", "Call it again with allow_resubmit=True to"),
        (
            "Slurm: --part=$SLURM_ARRAY_TASK_ID/4, or --dir=/data",
            "Slurm: part=$SLURM_ARRAY_TASK_ID/4, or directory=/data",
        ),
        ("or leave out --api to have", "or leave out api= to have"),
        ("A name--with dashes, /data/--x and 5--6 stay.", "A name--with dashes, /data/--x and 5--6 stay."),
    ],
)
def test_what_is_said_otherwise(for_the_command: str, in_python: str) -> None:
    assert in_python_words(for_the_command) == in_python
    assert in_python_words(in_python) == in_python, "events and errors may pass by more than once"


def test_events_and_the_summary_are_reworded() -> None:
    notice = event_in_python_words(Notice("The next run: add --once."))
    assert notice == Notice("The next run: add once=True.")
    failure = RowFailed(RowName(1, 7), JobFailed("Gone.", "Run again with --allow-resubmit."))
    summary = Summary(Path("data"), failed=(failure,), why_pending="The time given with --give-up-after")
    assert summary_in_python_words(summary).why_pending == "The time given with give_up_after="
    assert str(failure.error) == "Gone.\nCall it again with allow_resubmit=True."


# --- Errors go from process to process ----------------------------------------------------------------


def kinds_of_error() -> list[type[MwaClientError]]:
    for module in pkgutil.walk_packages(mwa_client.__path__, "mwa_client."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, waiting = [], [MwaClientError]
    while waiting:
        found.append(waiting.pop())
        waiting += found[-1].__subclasses__()
    return sorted(set(found), key=lambda kind: kind.__name__)


def example_of(kind: type[MwaClientError]) -> MwaClientError:
    if issubclass(kind, UnpackRefused):
        return kind("../evil", "leads out of the folder", FetchedFile(Path("a.tar"), 5, "", verified=True))
    if issubclass(kind, JobFileError):
        return kind("jobs.csv", [Mistake(2, "frqres: no such key"), Mistake(1, "x")])
    if issubclass(kind, NotCancelled):
        return kind(["7: It is over."])
    for arguments in (("What happened.", "What to do."), ("What happened.",), ()):
        try:
            return kind(*arguments)
        except TypeError:
            continue
    raise AssertionError(f"no example of {kind.__name__}")


@pytest.mark.parametrize("kind", kinds_of_error(), ids=lambda kind: kind.__name__)
def test_an_error_survives_a_pool_of_processes(kind: type[MwaClientError]) -> None:
    error = example_of(kind)
    for again in (pickle.loads(pickle.dumps(error)), copy(error), deepcopy(error)):
        assert type(again) is kind and again.args == error.args
        assert (str(again), again.lines, vars(again)) == (str(error), error.lines, vars(error))


def test_what_an_error_holds_comes_along() -> None:
    error = ServiceRefused("No.", status=404, body={"error": "no"}, is_own=False)
    again = pickle.loads(pickle.dumps(error))
    assert (again.status, again.body, again.is_own) == (404, {"error": "no"}, False)
    internal = pickle.loads(pickle.dumps(InternalError.of(ValueError("x"))))
    assert isinstance(internal, InternalError) and isinstance(
        pickle.loads(pickle.dumps(OutOfMemory())), OutOfMemory
    )
