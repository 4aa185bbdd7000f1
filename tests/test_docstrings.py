"""The examples in docstrings (``>>>``) show what really happens."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import mwa_client
from mwa_client import timing
from mwa_client.sandbox import Sandbox

MODULES = [
    "mwa_client",
    *sorted(
        module.name
        for module in pkgutil.walk_packages(mwa_client.__path__, "mwa_client.")
        if not module.name.endswith("__main__")
    ),
]
TALKING = ("mwa_client", "mwa_client.client.client")
"""Modules whose examples talk to the service."""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The practice service, where a user's environment says that the service is, and a job file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(timing, "FIRST_POLL", 0.02)
    Path("jobs.csv").write_text("obs_id=1191828528, job_type=d, download_type=vis_meta\n")
    with Sandbox(seconds_per_state=0.0, product_size=lambda job: 5000) as sandbox:
        monkeypatch.setenv("MWA_ASVO_HOST", sandbox.url)
        monkeypatch.setenv("MWA_ASVO_API_KEY", "practice-key")
        yield


def examples_in(name: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name))
    return [test for test in found if test.examples]


def run_examples(name: str) -> None:
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    for test in examples_in(name):
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)


def test_there_are_examples() -> None:
    assert sum(len(examples_in(name)) for name in MODULES) >= 10
    assert all(examples_in(name) for name in TALKING)


@pytest.mark.parametrize("name", [name for name in MODULES if name not in TALKING])
def test_examples_are_true(name: str) -> None:
    run_examples(name)


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("name", TALKING)
def test_examples_that_talk_to_the_service_are_true(name: str) -> None:
    run_examples(name)
