"""A few runs over several connections against a store that does everything wrong."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from rough_line import go_through  # type: ignore[import-not-found, unused-ignore]


@pytest.mark.parametrize("seed", [0, 6, 11, 12, 13])
def test_whatever_the_store_does_all_bytes_are_right(tmp_path: Path, seed: int) -> None:
    assert go_through(tmp_path, random.Random(seed)) == []
