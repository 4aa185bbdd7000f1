"""Whatever the service answers is understood or called bad."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from interface_steps import VISIBILITIES
from shared import (
    FastClock,
)

from mwa_client.asvo.api_client import Submission
from mwa_client.asvo.api_v1 import ApiV1
from mwa_client.asvo.api_v2 import ApiV2
from mwa_client.asvo.http import HttpClient
from mwa_client.asvo.job import Job
from mwa_client.asvo.job_filter import created_at
from mwa_client.asvo.job_list import JobColumns
from mwa_client.asvo.tokens import TokenStore
from mwa_client.asvo.v1_v2 import read_job, read_jobs
from mwa_client.errors import (
    BadReply,
)
from mwa_client.jobs.keys import JobType

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["", "http://[", "http://\u2100", "//x/%zz", "\ud800", "7", " 7 ", "completed", "1" * 30]
    )
)


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


FILES = st.fixed_dictionaries({}, optional=dict.fromkeys(("type", "url", "path", "size", "sha1"), VALUES))
PRODUCTS = VALUES | st.fixed_dictionaries({"files": VALUES | st.lists(FILES | VALUES, max_size=2)})
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "id": VALUES | st.integers(),
        "job_type": VALUES,
        "job_state": VALUES,
        "job_params": VALUES | st.fixed_dictionaries({"obs_id": VALUES}),
        "error_text": VALUES,
        "product": PRODUCTS,
    },
)


ENTRIES = VALUES | ROWS | st.fixed_dictionaries({"row": ROWS | VALUES})


class Said:
    """An HTTP client to which the service gives one answer, whatever it is asked."""

    def __init__(self, document: object) -> None:
        self.address = "https://practice.example"
        self.cookies: dict[str, str] = {}
        self.received_cookies: dict[str, str] = {}
        self._document = document

    def call(self, *arguments: object, **options: object) -> object:
        return self._document

    def list_entries(self, path: str) -> Iterator[object]:
        if not isinstance(self._document, list):
            raise BadReply("no list")
        yield from self._document


def interfaces(document: object) -> Iterator[ApiV1 | ApiV2]:
    wire = cast(HttpClient, Said(document))
    yield ApiV1(wire, service="x", key="k", client_name="c")
    store = TokenStore(None, "k", FastClock())
    yield ApiV2(wire, service="x", login_path="/l", login_body={}, tokens=store)


@settings(max_examples=75, deadline=None)
@given(row=ROWS)
@example(row={"id": 1, "product": {"files": [{"url": "http://["}]}})
def test_any_row_is_read(row: dict[str, object]) -> None:
    job = read_job(row)
    assert job is None or (isinstance(job, Job) and isinstance(job.label, str))


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00", "9999-12-31T23:59:59-14:00"])
@pytest.mark.parametrize("expires", ["999999999999", "0", None])
def test_a_time_that_makes_no_sense_is_none(time: str, expires: str | None) -> None:
    url = "https://store.example/1_2.tar" + ("" if expires is None else f"?Expires={expires}")
    times = dict.fromkeys(("created", "completed", "estimated_start"), time)
    job = read_job({"id": 7, "job_state": "completed", "product": {"files": [{"url": url}]}, **times})
    assert job is not None and job.completed_at is None and created_at(job) is None
    assert job.expires_at is None and JobColumns.of(job).expires is None
    waiting = read_job({"id": 7, "job_state": "queued", **times})
    assert waiting is not None and waiting.starts_at is None


@settings(max_examples=40, deadline=None)
@given(entries=st.lists(ENTRIES, max_size=4))
def test_any_listing_is_read(entries: list[object]) -> None:
    jobs = list(read_jobs(entries))
    assert len(jobs) <= len(entries)
    for document in (entries, {"jobs": entries}, {"jobs": entries, "total_count": len(entries)}):
        for interface in interfaces(document):
            try:
                found = list(interface.jobs())
            except BadReply:
                continue
            assert {job.job_id for job in found} == {job.job_id for job in jobs}


def test_a_list_that_never_ends_is_none() -> None:
    _, v2 = interfaces({"jobs": [{"id": 7}], "total_count": 10**9})
    with pytest.raises(BadReply, match="no end"):
        v2.jobs()


@settings(max_examples=50, deadline=None)
@given(
    document=VALUES
    | st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("job_id", "error", "error_code", "jobs", "total_count", "access_token", "refresh_token", "user"),
            VALUES,
        ),
    )
)
def test_any_answer_is_understood_or_called_bad(document: object) -> None:
    for interface in interfaces(document):
        try:
            assert isinstance(
                interface.submit(JobType.DOWNLOAD, VISIBILITIES, allow_resubmit=False), Submission
            )
        except BadReply:
            pass
        try:
            assert isinstance(list(interface.jobs(known=[1])), list)
        except BadReply:
            pass
    _, v2 = interfaces(document)
    try:
        v2.login()
    except BadReply:
        pass
