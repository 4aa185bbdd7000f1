"""The tests on each Python that is there, with the oldest and the newest of both dependencies.

``nox`` runs all of it; ``nox -s "tests-3.9(oldest)"`` one; ``nox -- tests/cli`` some files.
"""

import nox

PYTHONS = ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]
DEPENDENCIES = {"oldest": ["requests==2.25.0", "tqdm==4.60.0"], "newest": ["requests", "tqdm"]}

nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests", "lint"]


@nox.session(python=PYTHONS)
@nox.parametrize("dependencies", [nox.param(words, id=name) for name, words in DEPENDENCIES.items()])
def tests(session: nox.Session, dependencies: list[str]) -> None:
    """Run the tests."""
    session.install("--upgrade", "-e", ".[test]", *dependencies)
    session.run("pytest", "-n", "2", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests and see what they leave out; it takes half as long again."""
    session.install("-e", ".[test]")
    session.run("pytest", "-n", "2", "--cov")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and types."""
    session.install("-e", ".[test,lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Run the benchmarks that need nothing more, or one: ``nox -s benchmarks -- kills.py --kills 30``."""
    session.install("-e", ".[test]")
    alone = ["again.py", "memory.py", "polling.py", "many_rows.py", "fuzz.py", "kills.py"]
    for name, *options in [session.posargs] if session.posargs else [[name] for name in alone]:
        session.run("python", f"tests/benchmarks/{name}", *options)
