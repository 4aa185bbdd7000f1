"""The table of jobs: whatever the service says of them, it is aligned and says no nonsense."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest

from mwa_client.asvo.job import Delivery, Job, JobState, ProductFile
from mwa_client.display.listing import documents, table
from mwa_client.formatting import json_line
from mwa_client.jobs.keys import JobType

NOW = 1.8e9  # 2027-01-15 08:00:00 UTC
SIGNED = "https://store.example/p.tar?AWSAccessKeyId=A&Expires={ends:.0f}&Signature=s3cret"


def job(job_id: int = 7, state: JobState = JobState.READY, **more: Any) -> Job:
    raw = MappingProxyType({"id": job_id, **more.pop("raw", {})})
    return Job(job_id, state, obs_id=1191828584, job_type=JobType.DOWNLOAD, raw=raw, **more)


def last(one: Job) -> str:
    return table([one], NOW).splitlines()[1].split("  ")[-1].strip()


@pytest.mark.parametrize(
    ("url", "raw", "shown"),
    [
        (SIGNED.format(ends=NOW + 90_000), {}, "1 d 1 h"),
        (SIGNED.format(ends=NOW - 1), {}, "expired"),
        (SIGNED.format(ends=NOW + 3600), {"completed": "2027-01-15T07:00:00"}, "1 h 0 min"),
        ("https://store.example/p.tar", {"completed": "2027-01-15T07:00:00"}, "6 d 23 h"),
        ("https://store.example/p.tar", {"completed": "2027-01-15T07:00:00Z"}, "6 d 23 h"),
        ("https://store.example/p.tar", {"completed": "2027-01-15T15:00:00+08:00"}, "6 d 23 h"),
        ("https://store.example/p.tar", {"completed": "2026-12-15T07:00:00"}, "expired"),
        ("https://store.example/p.tar", {"completed": "yesterday"}, "-"),
        ("https://store.example/p.tar", {"completed": None}, "-"),
    ],
)
def test_when_it_expires(url: str, raw: dict[str, Any], shown: str) -> None:
    product = (ProductFile("p.tar", 5, delivery=Delivery.ACACIA, url=url),)
    assert last(job(product=product, raw=raw)) == shown
    assert "s3cret" not in table([job(product=product, raw=raw)], NOW)


def test_the_first_file_to_expire_counts() -> None:
    files = tuple(
        ProductFile(f"{hours}", 5, url=SIGNED.format(ends=NOW + 3600 * hours)) for hours in (9, 2, 5)
    )
    assert last(job(product=files)) == "2 h 0 min"
    assert " 15 B " in table([job(product=files)], NOW)


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_ready])
def test_what_is_not_ready_does_not_expire(state: JobState) -> None:
    assert last(job(state=state, raw={"completed": "2027-01-15T07:00:00"})) == "-"


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        ("2027-01-14T07:00:00", "1 d 1 h"),
        ("2027-01-15T07:59:00.123456Z", "0 min"),
        ("2030-01-01T00:00:00", "0 min"),
        ("never", "-"),
        (None, "-"),
        (17, "-"),
        ("", "-"),
    ],
)
def test_ages(created: object, shown: str) -> None:
    row = table([job(state=JobState.QUEUED, raw={"created": created})], NOW).splitlines()[1]
    assert [cell.strip() for cell in row.split("  ") if cell.strip()][-2] == shown


def test_nothing_known_is_a_dash() -> None:
    nothing = Job(3, JobState.UNKNOWN, state_word="polishing")
    assert table([nothing], NOW).splitlines()[1].split() == ["3", "-", "-", "Polishing", "-", "-", "-"]


def test_columns_are_aligned_and_the_newest_is_last() -> None:
    jobs = [
        job(1234567, JobState.WAITCAL),
        job(8, JobState.QUEUED, raw={"created": "2027-01-01T00:00:00"}),
        Job(90, JobState.ERROR),
    ]
    lines = table(jobs, NOW).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["8", "90", "1234567"]
    state, job_id = lines[0].index("state"), lines[0].index("job id") + len("job id")
    assert [line[state:].split("  ")[0] for line in lines[1:]] == [
        "Queued", "Error", "Waiting for calibration",
    ]  # fmt: skip
    assert all(line[:job_id].strip().isdigit() and line[job_id] == " " for line in lines[1:])
    assert not [line for line in lines if line != line.rstrip()]


def test_a_state_cannot_break_the_table() -> None:
    wicked = job(state=JobState.UNKNOWN, state_word="a\nb\x1b[2J")
    assert len(table([wicked], NOW).splitlines()) == 2 and "\x1b" not in table([wicked], NOW)


def test_json_has_the_words_of_the_service_and_what_they_mean() -> None:
    nothing = dict.fromkeys(("why_failed", "queue_place", "starts_at", "expires_at"))
    lines = documents([job(9, raw={"job_state": "completed", "strange": [1]}), job(2)])
    meaning = {"obs_id": 1191828584, "kind": "visibilities", "label": "Ready for Download", **nothing}
    assert [json.loads(json_line(line)) for line in lines] == [
        {"id": 2, **meaning},
        {"id": 9, "job_state": "completed", "strange": [1], **meaning},
    ]
    assert not [line for line in lines if "\n" in json_line(line)]


WAITING = {"queue_position_cache": 3, "estimated_start": "2027-01-15T10:05:00"}


def test_the_queue_and_the_reasons_have_columns_where_there_are_any() -> None:
    meta = MappingProxyType({"download_type": "meta"})
    jobs = [
        job(7, JobState.QUEUED, raw=WAITING),
        job(8, JobState.ERROR, error_text="no such files", raw=WAITING),
        job(9, JobState.ERROR, raw={"error_code": 7}, parameters=meta),
        job(10, JobState.QUEUED, raw={"queue_position_cache": "x", "estimated_start": "2020-01-01T00:00:00"}),
    ]
    heading, *lines = table(jobs, NOW).splitlines()
    assert heading.split() == ["job", "id", "obs_id", "type", "state", "place", "starts", "in", "size", "age",
                               "expires", "in", "why"]  # fmt: skip
    cells = [line.split("  ") for line in lines]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in cells]
    assert cells[0][4:6] == ["3", "2 h 5 min"] and cells[0][-1] == "-"
    assert cells[1][4:6] == ["-", "-"] and cells[1][-1] == "no such files"
    assert cells[2][2] == "metadata" and cells[2][-1] == "error code 7"
    assert cells[3][4:6] == ["-", "soon"]
    told = documents(jobs)
    assert (told[0]["queue_place"], told[0]["starts_at"]) == (3, "2027-01-15T10:05:00Z")
    assert (told[1]["why_failed"], told[1]["queue_place"], told[2]["kind"]) == (
        "no such files",
        None,
        "metadata",
    )


def test_no_empty_columns() -> None:
    assert table([job()], NOW).splitlines()[0].split()[-2:] == ["expires", "in"]
