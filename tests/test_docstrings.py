"""The examples in docstrings (``>>>``) show what really happens."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import mwa_client

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(mwa_client.__path__, "mwa_client.")
    if not module.name.endswith("__main__")
)


def examples_in(name: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name))
    return [test for test in found if test.examples]


def test_there_are_examples() -> None:
    assert sum(len(examples_in(name)) for name in MODULES) >= 10


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name: str) -> None:
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    for test in examples_in(name):
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)
