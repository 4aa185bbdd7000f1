"""The practice service's table of keys, held against the published one."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from mwa_client.sandbox.keys import FORMS_V1, FORMS_V2, FieldKind, Key

LETTERS = {
    "c": ["conversion_job"],
    "d": ["download_vis_job"],
    "v": ["voltage_job"],
    "b": ["beamformer_job"],
    "i": ["imaging_job", "image_from_job"],
}


KINDS = {
    "integer": FieldKind.WHOLE,
    "decimal": FieldKind.NUMBER,
    "boolean": FieldKind.SWITCH,
    "choice": FieldKind.CHOICE,
}


def table() -> list[dict[str, str]]:
    with (Path(__file__).parents[1] / "data" / "job_keys.csv").open(encoding="utf-8", newline="") as lines:
        return [row for row in csv.DictReader(lines) if not row["key"].startswith("(")]


def keys_of(orders: Any, path: str) -> dict[str, Key]:
    return {key.name: key for key in orders[path].keys}


@pytest.mark.parametrize(
    "row", [row for row in table() if row["key"] not in ("", "job_type")], ids=lambda row: row["key"]
)
def test_v2_knows_every_key_of_the_table(row: dict[str, str]) -> None:
    letters = LETTERS if row["job_type"] == "any" else [row["job_type"]]
    for path in [path for letter in letters for path in LETTERS[letter]]:
        if row["key"] == "source_job_id" and path != "image_from_job":
            continue
        key = keys_of(FORMS_V2, path)[row["key"]]
        assert key.kind is KINDS[row["kind"]]
        if key.kind is FieldKind.CHOICE:
            choices = [word.replace("vis_meta", "meta") for word in row["choices"].split("|")]
            assert {str(choice) for choice in key.choices} <= set(choices)
            continue
        assert key.minimum == (float(row["minimum"]) if row["minimum"] else None)
        assert key.maximum == (float(row["maximum"]) if row["maximum"] else None)


def test_each_interface_knows_the_keys_of_the_table_and_no_others() -> None:
    rows = table()
    for orders, column in ((FORMS_V2, "key"), (FORMS_V1, "v1_key")):
        for letter, paths in LETTERS.items():
            common = {row[column] for row in rows if row["job_type"] == "any"}
            own = {row[column] for row in rows if row["job_type"] == letter}
            if letter == "i":
                own |= {row[column] for row in rows if row["job_type"] == "c"} - {"output"}
            if letter == "v" and column == "v1_key":
                own.add("download_type")  # It is always volt.
            path = paths[0]
            known = set(keys_of(orders, path)) | {"job_type"}
            assert known == (common | own) - {"", "source_job_id"}, path
