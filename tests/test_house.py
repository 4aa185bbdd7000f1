"""How the program is laid out: small files, imports that go down, one thing for each public name."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import mwa_client

PACKAGE = Path(mwa_client.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES, MOST_ATTRIBUTES = 400, 15
FLOORS = {
    "cli": 4,
    "client": 4,
    "display": 3,
    "batch": 2,
    "jobs": 1,
    "asvo": 1,
    "transfer": 1,
    "directory": 1,
}
"""Who may import whom: a folder imports from its own floor and from those below; all else is the ground."""
CONTRIBUTING = PACKAGE.parent / "CONTRIBUTING.md"
PARALLEL = {"SUBMIT_PATHS", "submission", "ALREADY_THERE", "IMAGE_FROM_JOB_PATH", "DOWNLOAD_TYPES"}
"""Names that each interface of the service has for the same thing of its own."""


def name_of(module: Path) -> str:
    return ".".join(module.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def room_of(name: str) -> str:
    """The folder, or the file at the top, that a module belongs to."""
    return name.partition(".")[2].partition(".")[0]


@functools.cache
def tree_of(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"))


def imports_of(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def attributes_of(definition: ast.ClassDef) -> set[str]:
    own = {node.target.id for node in definition.body if isinstance(node, ast.AnnAssign)
           and isinstance(node.target, ast.Name)}  # fmt: skip
    set_on_self = {
        node.attr
        for node in ast.walk(definition)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    return own | set_on_self


def public_names_of(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                yield from (each.id for each in ast.walk(target) if isinstance(each, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def test_a_module_can_be_read_in_one_sitting() -> None:
    lines = {name_of(module): len(module.read_text(encoding="utf-8").splitlines()) for module in MODULES}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_a_class_can_be_kept_in_mind() -> None:
    classes = [
        node for module in MODULES for node in ast.walk(tree_of(module)) if isinstance(node, ast.ClassDef)
    ]
    assert {each.name: n for each in classes if (n := len(attributes_of(each))) > MOST_ATTRIBUTES} == {}


def test_imports_go_down() -> None:
    wrong = []
    for module in MODULES:
        room = room_of(name_of(module))
        if room in ("", "__main__", "sandbox"):
            continue
        floor = FLOORS.get(room, 0)
        ours = {each for each in imports_of(tree_of(module)) if each.startswith("mwa_client.")}
        practising = room in ("cli", "client")
        wrong += [
            f"{name_of(module)} imports {each}"
            for each in ours
            if FLOORS.get(room_of(each), 0) > floor or (room_of(each) == "sandbox" and not practising)
        ]
    assert wrong == []


@pytest.mark.parametrize("room", ["jobs", "batch", "asvo", "transfer", "directory", "display"])
def test_only_the_command_and_the_python_api_read_the_environment(room: str) -> None:
    reading = [path.name for path in (PACKAGE / room).rglob("*.py") if "os.environ" in path.read_text()]
    assert reading == []


def test_a_public_name_stands_for_one_thing() -> None:
    """The practice service is a program of its own, and speaks of jobs and states in its own right."""
    where: dict[str, list[str]] = defaultdict(list)
    for module in MODULES:
        if room_of(name_of(module)) != "sandbox":
            for name in public_names_of(tree_of(module)):
                if not name.startswith("_") and name not in PARALLEL and len(name) > 1:
                    where[name].append(name_of(module))
    assert {name: modules for name, modules in where.items() if len(modules) > 1} == {}


def test_every_file_that_contributors_are_sent_to_is_there() -> None:
    """A bare file name stands in the folder of the path before it, as a reader takes it."""
    folder, missing = PACKAGE, []
    for name in re.findall(r"`([A-Za-z0-9_./-]+\.(?:py|csv|md))`", CONTRIBUTING.read_text(encoding="utf-8")):
        tops = (PACKAGE, PACKAGE.parent, PACKAGE.parent / "tests" / "benchmarks", folder)
        is_new = "NEW" in name  # It is to be made; only its folder is there.
        found = [
            top / name for top in tops if (top / name).is_file() or (is_new and (top / name).parent.is_dir())
        ]
        folder = found[0].parent if found else folder
        missing += [] if found else [name]
    assert missing == []


def test_nothing_that_a_run_has_made_is_kept_in_the_repository() -> None:
    root = PACKAGE.parent
    if not (root / ".git").exists():
        pytest.skip("not a clone")
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True)
    products = [name for name in listed.stdout.split() if name.endswith((".tar", "SHA1SUMS", ".jsonl"))]
    assert products == []
