"""The page about a batch: one file, no script, nothing from elsewhere, and every text in it is only text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from diaries import NOON, OBS, Diary, identity, row_text
from hypothesis import given
from hypothesis import strategies as st

from mwa_client.batch.history import Run as DownloadRun
from mwa_client.batch.history import TimedDownload
from mwa_client.batch.rows import Step
from mwa_client.batch.status import DirectoryStatus, RowStatus
from mwa_client.display.report.charts import TimeAxis, short_duration
from mwa_client.display.report.figures import counts_over_time, state_times, traffic_of
from mwa_client.display.report.page import report_page
from mwa_client.display.report.style import COLOURS, state_class
from mwa_client.display.wording import LIFE
from mwa_client.secrecy import keep_secret

WICKED = """<script>alert('x')</script> "quoted" & \x1b[31m \u202e &lt;b&gt; </svg></title>"""
RUN = DownloadRun("ledger.jsonl", "")


class Checker(HTMLParser):
    """Reads a page as a browser does: which elements it has, whether each is closed, and its text."""

    VOID = ("meta", "br", "hr", "link", "img")
    EMPTY = ("path", "i", "span")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.texts.append(data)


def row(number: int = 0, label: str = "Download Complete", **more: Any) -> RowStatus:
    """A row that was queued, staged and fetched, one minute each."""
    at = NOON + number
    labels = ("Queued", "Staging", "Downloading", label)
    about: dict[str, Any] = {
        "line": None, "obs_id": OBS + 8 * number, "job_id": 42 + number, "kind": "visibilities",
        "label": label, "size": 6000, "here": 6000, "since": at + 180,
        "steps": tuple(Step(at + 60 * place, each) for place, each in enumerate(labels)),
        "downloads": (TimedDownload(at + 120, 6000, RUN, ended=at + 180),),
    }  # fmt: skip
    return RowStatus(**{**about, **more})


def status(*rows: RowStatus, **more: Any) -> DirectoryStatus:
    return DirectoryStatus(Path("/data/mwa"), NOON + 1000, rows, **more)


def check(page: str) -> Checker:
    """A page that stands for itself: nothing is loaded, nothing runs."""
    checker = Checker("<!doctype html>" + page)
    assert not {"script", "link", "img", "iframe", "object", "base", "foreignobject"} & set(checker.tags)
    assert not [name for name, _ in checker.attributes if name.startswith("on") or name in ("src", "href")]
    assert not re.search(r"https?:|url\(|@import|//", page.replace("/data/mwa//", ""))
    return checker


def test_all_that_a_person_wants_to_know() -> None:
    failed = row(1, "Error", note="It broke.", remedy="Ask.", paths=(), size=None, here=0, downloads=())
    again = row(2, "Error", note="It broke.", remedy="Ask.", paths=(), size=None, here=0, downloads=())
    page = report_page(status(row(0, paths=("/data/mwa/42.tar",)), failed, again, RowStatus(9, OBS, None)))
    text = " ".join(check(page).texts)
    assert "1 of 4 rows complete, 2 failed, 1 to come." in text
    assert text.count("Ask.") == 1 and "2 rows: 1191828592 (job 43), 1191828600 (job 44)" in text
    for words in (
        "42.tar",
        "6.0 kB",
        "100 B/s",
        "How long each state took",
        "Median",
        "1 min",
        "Not submitted",
    ):
        assert words in text
    assert "1191828584 · 42: Queued 1 min, Staging 1 min, Downloading 1 min, Download Complete" in text


def test_a_text_from_outside_stays_a_text() -> None:
    keep_secret("s3cret-of-mine-42")
    wicked = row(0, "Error", note=WICKED + "s3cret-of-mine-42", remedy=WICKED, paths=(WICKED,), kind=WICKED)
    odd = row(1, WICKED, steps=(Step(NOON, WICKED), Step(NOON + 9, "Queued")))
    page = report_page(DirectoryStatus(Path(f"/data/{WICKED}"), NOON + 1000, (wicked, odd)))
    checker = Checker("<!doctype html>" + page)
    assert "script" not in checker.tags and "s3cret" not in page
    assert any("<script>alert('x')</script>" in text for text in checker.texts)
    assert "\x1b" not in page and "\u202e" not in page


@pytest.mark.parametrize(
    "rows",
    [
        (),
        (RowStatus(1, OBS),),
        (row(0, steps=(Step(NOON, "Queued"),), downloads=()),),
        (row(0), row(1, "Queued")),
    ],
    ids=["none", "not begun", "one moment", "two"],
)
def test_a_page_of_little(rows: tuple[RowStatus, ...]) -> None:
    check(report_page(status(*rows)))
    check(report_page(status(*rows, others=3, damaged=1)))


def test_many_rows_are_a_small_page() -> None:
    """A thousand have less than 2 MB, as tests/benchmarks/status.py measures, and some hundred a share."""
    many = status(*(row(number, steps=tuple(
        Step(NOON + number + 60.0 * place, label) for place, label in enumerate(LIFE[:14])
    )) for number in range(300)))  # fmt: skip
    page = report_page(many)
    assert len(page.encode()) < 600_000
    checker = check(page)
    assert checker.tags.count("tr") == 300 + 2 + 14
    assert checker.tags.count("svg") > 5, "the timeline is in pieces that fit on paper"
    figures = [page.count(f'class="{shown}" role="img"') for shown in ("wide", "narrow")]
    assert figures[0] == figures[1] > 2, "the window of a telephone has its own"
    assert page.count("<title>1191828584 · 42: ") == 1, "and no text twice"


def test_every_state_has_a_colour_of_its_own_in_light_and_dark() -> None:
    assert set(LIFE) - {"Unknown state"} == set(COLOURS)
    for place in range(3):
        assert len({each[place] for each in COLOURS.values()}) >= len(COLOURS) - 2 * (place > 0)
    page = report_page(status(row(0)))
    assert "prefers-color-scheme: dark" in page and "@media print" in page
    assert state_class("Polishing") not in {name for name, _, _ in COLOURS.values()}


def test_how_long_each_state_took() -> None:
    rows = [row(0), row(1, steps=(Step(NOON, "Queued"), Step(NOON + 100, "Staging"))),
            row(2, steps=(Step(NOON, "Queued"), Step(NOON + 20, "Staging"), Step(NOON + 30, "Queued"),
                          Step(NOON + 100, "Error")))]  # fmt: skip
    found = {each.label: (each.rows, each.median, each.longest) for each in state_times(rows, NOON + 150)}
    assert found == {"Queued": (3, 90, 100), "Staging": (3, 50, 60), "Downloading": (1, 60, 60)}


def test_how_many_rows_were_in_each_state() -> None:
    moments = [NOON, NOON + 60, NOON + 119, NOON + 120, NOON + 500]
    counts = counts_over_time([row(0), row(0)], moments)
    assert counts == {
        "Queued": [2, 0, 0, 0, 0],
        "Staging": [0, 2, 2, 0, 0],
        "Downloading": [0, 0, 0, 2, 0],
        "Download Complete": [0, 0, 0, 0, 2],
    }


@given(
    st.lists(st.tuples(st.floats(0, 5000), st.floats(0, 5000), st.integers(1, 10**12)), min_size=1),
    st.integers(1, 50),
)
def test_no_byte_is_lost_between_the_intervals(
    pieces: list[tuple[float, float, int]], intervals: int
) -> None:
    rows = [
        row(0, downloads=(TimedDownload(NOON + begun, size, RUN, ended=NOON + begun + length),))
        for begun, length, size in pieces
    ]
    until = max(NOON + begun + length for begun, length, _ in pieces)
    traffic = traffic_of(rows, until, intervals)
    assert traffic is not None and traffic.total == sum(size for _, _, size in pieces)
    assert sum(traffic.rates) * traffic.step == pytest.approx(traffic.total)
    assert traffic.busy > 0 and min(traffic.rates) >= 0.0


def test_what_came_within_the_last_second_has_lasted_it() -> None:
    download = TimedDownload(NOON + 3, 4000, RUN, ended=NOON + 3)
    traffic = traffic_of([row(0, downloads=(download,)), row(1, downloads=(download,))], NOON + 3)
    assert traffic is not None and max(traffic.rates) == pytest.approx(8000) and traffic.mean == 8000
    before = TimedDownload(NOON, 4000, RUN, ended=NOON + 1)
    traffic = traffic_of([row(0, downloads=(before,)), row(1, downloads=(download,))], NOON + 3)
    assert traffic is not None and max(traffic.rates) == pytest.approx(4000)


def test_a_running_download_counts_with_what_is_here() -> None:
    running = row(0, "Downloading", here=3000, downloads=(TimedDownload(NOON + 120, 5000, RUN),))
    traffic = traffic_of([running], NOON + 220)
    assert traffic is not None and traffic.total == 2000 and traffic.mean == 20.0  # 1000 were here before.
    assert traffic_of([row(0, downloads=())], NOON + 220) is None


@given(st.floats(0, 4e9), st.floats(1, 1e9))
def test_a_time_axis_has_few_marks_between_its_ends(begun: float, length: float) -> None:
    axis = TimeAxis(begun, begun + length)
    moments = [moment for moment, _ in axis.marks()]
    assert len(moments) <= 19 and moments == sorted(moments)
    assert all(begun <= moment <= begun + length for moment in moments)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-1, "0 s"), (0.4, "0 s"), (59, "59 s"), (60, "1 min"), (7260, "2 h 1 min")]
)
def test_short_times(seconds: float, shown: str) -> None:
    assert short_duration(seconds) == shown


def test_a_real_ledger_becomes_a_page(tmp_path: Path) -> None:
    diary = Diary(tmp_path / "data")
    with diary.run() as ledger:
        diary.submit(ledger, identity(), 42, "queued", "completed")
        diary.begin(ledger, identity(), 42)
        diary.now += 100.0
        diary.finish(ledger, identity(), 42)
    page = report_page(diary.status(row_text() + row_text(OBS + 8)))
    text = " ".join(Checker("<!doctype html>" + page).texts)
    assert "1 of 2 rows complete, 1 to come." in text and "10 B/s" in text
