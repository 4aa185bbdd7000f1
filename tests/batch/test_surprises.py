"""One job of the listing that makes no sense at all, and the others, which it must not concern."""

from __future__ import annotations

import io
import itertools
import stat
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from shared import FastClock, run_batch, service_of, vis

from mwa_client.asvo import open_session
from mwa_client.asvo.job import MAX_INTEGER, clean_text, read_id, read_integer, read_size
from mwa_client.batch.pacing import Pacing
from mwa_client.batch.watching import MISSING_TIME
from mwa_client.display.lines import LineDisplay
from mwa_client.display.listing import table
from mwa_client.jobs.keys import ApiVersion
from mwa_client.json_text import read_json
from mwa_client.sandbox import KINDS, Sandbox
from mwa_client.sandbox.fault_kinds import LISTED, FaultKind, Point
from mwa_client.sandbox.messages import Reply, text_reply
from mwa_client.timing import read_time
from mwa_client.transfer.delivered import Entry
from mwa_client.transfer.journal import Copied, Journal

OBS, OTHER = 1191828528, 1191828584


def nested(depth: int = 940) -> Any:
    """Lists in lists, nearly as many as a reader of JSON can take."""
    value: Any = "deep"
    for level in range(depth):
        value = [value] if level % 2 else {"deeper": value}
    return value


ODD: dict[str, Any] = {
    "huge": 10**400,
    "just too large": 2**63,
    "negative": -1,
    "none": 0,
    "huge float": 1e300,
    "infinite": float("inf"),
    "not a number": float("nan"),
    "fraction": 0.5,
    "digits": "9" * 400,
    "truth": True,
    "null": None,
    "list": [],
    "mapping": {},
    "long": "x" * 100_000,
    "surrogate": "\ud800",
    "control": "\x1b[2J\r\n\x00",
    "deep": nested(500),
    "list of lists": [[[]]],
}
PLACES = [
    ("id",), ("job_state",), ("job_type",), ("job_params",), ("error_text",), ("product",), ("created",),
    ("completed",), ("job_params", "obs_id"), ("job_params", "timeres"), ("product", "files"),
    *(("product", "files", 0, part) for part in ("url", "path", "size", "sha1", "type", 0, 1, 2)),
]  # fmt: skip
ROW = {
    ApiVersion.V2018: {"job_state": 2, "job_type": 1, "product": {"files": [["a.zip", 5]]}},
    ApiVersion.V1: {
        "job_state": "completed",
        "job_type": 1,
        "product": {"files": [{"url": "//x/a", "size": 5}]},
    },
    ApiVersion.V2: {
        "job_state": "completed",
        "job_type": 1,
        "product": {"files": [{"path": "/s/a", "size": 5}]},
    },
}


def with_odd(row: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The row with a value in place of one of its own, however deep; None where it has no such place."""
    if not place:
        return value
    try:
        inner = row[place[0]]
    except (KeyError, IndexError, TypeError):
        inner = None if isinstance(row, dict) and len(place) == 1 else row
    if inner is row:
        return None
    odd = with_odd(inner, place[1:], value)
    if isinstance(row, dict):
        return {**row, place[0]: odd}
    return [odd if number == place[0] else old for number, old in enumerate(row)]


@pytest.mark.parametrize("api", ApiVersion)
def test_odd_jobs_in_a_listing_spoil_no_other(
    sandbox: Sandbox, clock: FastClock, monkeypatch: pytest.MonkeyPatch, api: ApiVersion
) -> None:
    row = {"job_params": {"obs_id": OBS, "download_type": "vis"}, "error_text": None, **ROW[api]}
    odd = [
        with_odd({**row, "id": 1000 + number}, place, value)
        for number, (place, value) in enumerate(itertools.product(PLACES, ODD.values()))
    ]
    good = {**row, "id": 7}
    entries = [*odd, *ODD.values(), *({"row": value} for value in ODD.values()), good]

    def spoil(listing: list[Any]) -> list[Any]:
        """Put them there."""
        return entries

    monkeypatch.setitem(KINDS, "odd", FaultKind("odd", Point.LISTING, LISTED, spoil))
    sandbox.faults.add("odd")
    with closing(open_session(service_of(sandbox, api), clock=clock)) as session:
        jobs = session.jobs()
    assert jobs[7].obs_id == OBS and jobs[7].state.is_ready and len(jobs[7].product) == 1
    assert all(0 < job.job_id <= MAX_INTEGER for job in jobs.values())
    assert all(0 <= (file.size or 0) <= MAX_INTEGER for job in jobs.values() for file in job.product)
    assert len(jobs) > 200  # Most are odd in one place and well in the others.
    shown = table(jobs.values(), clock.now())
    assert len(shown.splitlines()) == len(jobs) + 1 and max(map(len, shown.splitlines())) < 160


ODD_IN_A_RUN = ["huge", "infinite", "deep", "digits", "surrogate", "control", "list of lists"]


@pytest.mark.parametrize("api", ApiVersion)
@pytest.mark.parametrize("field", ["size", "id", "product"])
def test_odd_jobs_spoil_the_run_of_no_other(
    sandbox: Sandbox,
    clock: FastClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    api: ApiVersion,
    field: str,
) -> None:
    def spoil(document: dict[str, Any], odd: str) -> dict[str, Any]:
        """Give it something odd."""
        if field != "size":
            return {**document, field: ODD[odd]}
        files = (document.get("product") or {}).get("files", [])
        sized = [
            {**file, "size": ODD[odd]} if api is not ApiVersion.V2018 else [file[0], ODD[odd]]
            for file in files
        ]
        return {**document, "product": {"files": sized}}

    faults = []
    for number, odd in enumerate(ODD_IN_A_RUN):
        kind = FaultKind(odd, Point.DOCUMENT, LISTED, partial(spoil, odd=odd))
        monkeypatch.setitem(KINDS, odd, kind)
        faults.append(sandbox.faults.add(odd, obs_id=OBS + 8 * number))
    rows = vis(*(OBS + 8 * number for number in range(len(ODD_IN_A_RUN))), OTHER)
    run = run_batch(sandbox, tmp_path, clock, rows, api=api, pacing=Pacing(give_up_after=2 * MISSING_TIME))
    assert OTHER in [row.row.obs_id for row in run.summary.complete]
    assert all(fault.hits for fault in faults)
    assert not any("internal error" in failed.error.what for failed in run.summary.failed)
    stream = io.StringIO()
    display = LineDisplay(stream, stream, clock)
    for event in run.events:
        display(event)
    assert "Download Complete" in stream.getvalue()


@pytest.mark.parametrize(
    "odd", [{"count": 2**63}, {"count": 6}, {"count": -1}, {"sha1": "x"}, {"sha1": "0" * 41}]
)
def test_a_journal_with_a_number_that_cannot_be(tmp_path: Path, odd: dict[str, Any]) -> None:
    file, source = tmp_path / "journal", Path("/scratch/x/7")
    with closing(Journal(file, 7, source)) as journal:
        journal.note("a", replace(Copied(5, 7, 3, "", True), **odd))
        journal.note("b", Copied(5, 7, 3, "", True))
    with closing(Journal(file, 7, source)) as journal:
        counts = [journal.copied(Entry(name, stat.S_IFREG, 5, 7)).count for name in "ab"]
    assert counts == [0, 3]


def test_numbers_have_bounds() -> None:
    assert [read_integer(n) for n in (MAX_INTEGER, -MAX_INTEGER, str(MAX_INTEGER))] == [
        MAX_INTEGER,
        -MAX_INTEGER,
        MAX_INTEGER,
    ]
    for huge in (MAX_INTEGER + 1, -MAX_INTEGER - 1, str(MAX_INTEGER + 1), 2.0**63, 1e300, 10**400, 10**5000):
        assert read_integer(huge) is None and read_size(huge) is None and read_id(huge) is None
    assert [read_id(n) for n in (1, "1", 0, "0", -1, False)] == [1, 1, None, None, None, None]


LEVELS = 100_000


@pytest.mark.parametrize(
    ("odd", "read"),
    [
        ("NaN", None),
        ("-Infinity", None),
        ("1e999", None),
        ("9" * 5000, None),
        ("-" + "9" * 5000, None),
        ("1" + "0" * 20, 10**20),
        ("1.5", 1.5),
        ('"[{\\"]}"', '[{"]}'),
    ],
)
def test_json_with_a_value_that_makes_no_sense(odd: str, read: object) -> None:
    assert read_json(f'[{{"a": {odd}}}, 7]') == [{"a": read}, 7]


@pytest.mark.parametrize("deep", ["[" * LEVELS + "]" * LEVELS, '{"[":' * LEVELS + "1" + "}" * LEVELS])
def test_json_that_is_nested_too_deep_is_read_without_that(deep: str) -> None:
    read = read_json(f'[{{"a": {deep}, "b": "]}}"}}, 7]')
    assert read[1] == 7 and read[0]["b"] == "]}"
    assert len(str(read)) < 1000


@pytest.mark.parametrize(
    "text", ["", "[" * LEVELS, '{"a": ', "nothing", "[1,]", '"', "]" * LEVELS, '["' * LEVELS]
)
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError):
        read_json(text)


@pytest.mark.parametrize("api", ApiVersion)
@pytest.mark.parametrize("odd", ["[" * LEVELS + "]" * LEVELS, "9" * 5000, "NaN", "1e999"])
def test_a_listing_with_an_odd_value_is_read(
    sandbox: Sandbox, clock: FastClock, monkeypatch: pytest.MonkeyPatch, api: ApiVersion, odd: str
) -> None:
    rows = f'[{{"id": {odd}}}, {{"id": 8, "error_text": {odd}}}, {{"id": 7}}]'
    body = rows if api is not ApiVersion.V2 else f'{{"jobs": {rows}, "total_count": 3}}'

    def spoil(reply: Reply) -> Reply:
        """Answer this."""
        return text_reply(200, body, "application/json")

    monkeypatch.setitem(KINDS, "odd", FaultKind("odd", Point.REPLY, LISTED, spoil))
    sandbox.faults.add("odd")
    with closing(open_session(service_of(sandbox, api), clock=clock)) as session:
        assert sorted(session.jobs()) == [7, 8]


def test_texts_that_are_none_are_read_all_the_same() -> None:
    assert clean_text(nested()) in ("", clean_text(nested())) and len(clean_text(nested())) <= 300
    assert len(clean_text("x" * 10**6)) == 300 and clean_text({"code": 7}) == "{'code': 7}"
    for odd in ODD.values():
        assert len(clean_text(odd)) <= 300
        assert read_time(odd) is None
