"""Packaging of mwa_client: ``pip install .`` gives the command, its manual page and its completion."""

import re
import sys
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "mwa_client/__init__.py").read_text(encoding="utf-8"))
assert VERSION is not None

TEST = [
    "pytest>=7",
    "pytest-xdist>=3",
    "pytest-cov>=5",
    "hypothesis>=6",
    "pexpect>=4.8",
    "trustme>=1",
    "pandas>=2",
]
LINT = ["ruff", "mypy", "types-requests", "types-tqdm"]


def manual_files() -> list[tuple[str, list[str]]]:
    """Make the files that shells and ``man`` read, and say where each of them goes."""
    sys.path.insert(0, str(HERE))
    from mwa_client.cli import manual

    page = manual.man_page((HERE / "README.md").read_text(encoding="utf-8"))
    texts = {"man/man1/mwa_client.1": page} | dict.fromkeys(manual.COMPLETION_PLACES, manual.completion())
    for place, text in texts.items():
        path = HERE / "build" / "share" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [(f"share/{Path(place).parent}", [f"build/share/{place}"]) for place in texts]


setup(
    name="mwa-client",
    version=VERSION.group(1),
    description="Batch client for the archive of the Murchison Widefield Array (MWA ASVO)",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    package_dir={"": "."},  # An editable installation is then one line for Python to read, not a program.
    packages=find_packages(include=["mwa_client", "mwa_client.*"]),
    package_data={"mwa_client": ["py.typed"], "mwa_client.sandbox": ["job_keys.csv"]},
    data_files=manual_files(),
    python_requires=">=3.9",
    install_requires=["requests>=2.25", "tqdm>=4.60"],
    extras_require={"test": TEST, "lint": LINT},
    entry_points={"console_scripts": ["mwa_client = mwa_client.cli.main:main"]},
    classifiers=[
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Astronomy",
        "Typing :: Typed",
    ],
)
