"""A product becomes a verified file, over a real socket, whatever the server does."""

from __future__ import annotations

import email.utils
import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3
from shared import FastClock, longest_file, service_of, wait_until

from mwa_client.asvo import open_session
from mwa_client.asvo.job import ProductFile
from mwa_client.directory.disk import boot_id
from mwa_client.errors import (
    DirectoryUnusable,
    DiskFull,
    JobFailed,
    LoginRefused,
    ProductGone,
    Stopped,
    TransferFailed,
    VerificationFailed,
)
from mwa_client.sandbox import JobState, LoggedRequest, Sandbox
from mwa_client.transfer import part_file
from mwa_client.transfer.download import Downloader
from mwa_client.transfer.events import FileNotice, Progress, Setback, TransferEvent
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile, FetchedFile
from mwa_client.transfer.names import safe_name
from mwa_client.transfer.part_filler import TRIES_WITHOUT_PROGRESS

SIZE = 300_000
NAME = "1191828584_ms.zip"
WAITS = [0.75 * min(2.0**tries, 300.0) for tries in range(TRIES_WITHOUT_PROGRESS)]
"""What is waited before a download is given up, on a clock whose chance is always a half."""


class Scene:
    """A ready job at the sandbox, and a directory for its product."""

    def __init__(
        self, sandbox: Sandbox, clock: FastClock, directory: Path, stall_timeout: float = 5.0
    ) -> None:
        self.sandbox, self.clock = sandbox, clock
        self.faults = sandbox.faults
        self.job = sandbox.service.add({"obs_id": "1191828584"}, size=SIZE, state=JobState.READY)
        self.content = b"".join(self.job.content.pieces())
        self.sha1 = self.job.content.sha1
        self.etag = self.job.content.etag
        self.place = DownloadDirectory(directory, directory / ".mwa_client")
        self.place.state_dir.mkdir()
        self.final = directory / NAME
        self.session = open_session(service_of(sandbox, stall_timeout=stall_timeout))
        self.stop = threading.Event()
        self.events: list[TransferEvent] = []

    def fetch(self, **changes: Any) -> FetchedFile:
        """Fetch the product, as a listing with these changes describes it."""
        wanted = replace(ExpectedFile(self.job.id, NAME, SIZE, self.sha1), **changes)
        file = ProductFile(self.job.file_name, wanted.size, wanted.sha1)
        source = self.session.source(self.job.id, file)
        return Downloader(self.place, self.clock, self.stop, self.listen).fetch(wanted, source)

    def listen(self, event: TransferEvent) -> None:
        self.events.append(event)

    def leave(self, length: int, **changes: Any) -> None:
        """Let an earlier run have fetched so many bytes."""
        fault = self.faults.add("cut_product", after=length, times=1)
        refusal = self.faults.add("product_gone", skip=1)
        with pytest.raises(ProductGone):
            self.fetch(**changes)
        self.faults.remove(fault)
        self.faults.remove(refusal)
        assert self.part == self.content[:length]
        self.asked(2)
        self.sandbox.reset_log()
        self.events.clear()
        self.clock.slept.clear()

    def asked(self, count: int) -> list[tuple[str | None, int | None, int]]:
        """Return range, status and bytes sent of so many requests for the product, and no more."""
        downloads: list[tuple[str | None, int | None, int]] = []

        def are_there() -> bool:
            downloads[:] = [(entry.range, entry.status, entry.body_bytes_sent) for entry in self.downloads()]
            return len(downloads) >= count

        # What the client hangs up on is noted a moment later.
        wait_until(are_there)
        assert len(downloads) == count, downloads
        return downloads

    def ranges(self, count: int) -> list[str | None]:
        """Return which ranges were asked for."""
        return [asked[0] for asked in self.asked(count)]

    def headers(self, name: str) -> list[str | None]:
        """Return a header of each request for the product."""
        return [entry.headers.get(name) for entry in self.downloads()]

    def downloads(self) -> list[LoggedRequest]:
        """Return the requests for the product, in the order in which they were made."""
        downloads = [entry for entry in self.sandbox.requests if entry.path == "/api/download"]
        return sorted(downloads, key=lambda entry: entry.connection)

    @property
    def part_path(self) -> Path:
        return self.place.state_dir / f"{NAME}.part"

    @property
    def part(self) -> bytes | None:
        return self.part_path.read_bytes() if self.part_path.exists() else None

    @property
    def note_path(self) -> Path:
        return self.place.state_dir / f"{NAME}.part.json"

    def change_note(self, **changes: object) -> None:
        note = json.loads(self.note_path.read_text(encoding="utf-8"))
        self.note_path.write_text(json.dumps({**note, **changes}), encoding="utf-8")

    def told(self, kind: type[TransferEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def assert_right(self, file: FetchedFile, fetched: int | None = None, *, verified: bool = True) -> None:
        """The file stands there, right, with nothing beside it."""
        assert self.final.read_bytes() == self.content
        assert (file.path, file.size, file.sha1) == (self.final, SIZE, self.sha1)
        assert file.verified is verified
        assert fetched is None or file.fetched == fetched
        self.assert_no_part()

    def assert_no_part(self) -> None:
        assert list(self.place.state_dir.iterdir()) == []

    def assert_nothing(self) -> None:
        """Neither a file nor the beginning of one."""
        assert [path.name for path in self.place.path.iterdir()] == [".mwa_client"]
        self.assert_no_part()


@pytest.fixture
def scene(sandbox: Sandbox, clock: FastClock, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(sandbox, clock, tmp_path)
    with closing(scene.session):
        yield scene


def bytes_from(start: int) -> str:
    return f"bytes={start}-"


# --- When all goes well ------------------------------------------------------------------------------


def test_a_product_becomes_a_verified_file(scene: Scene) -> None:
    scene.assert_right(scene.fetch(), SIZE)
    assert scene.asked(1) == [(None, 200, SIZE)]
    assert scene.headers("Accept-Encoding") == ["identity"]
    assert scene.headers("If-Range") == [None]
    assert [entry.method for entry in scene.downloads()] == ["GET"]
    assert scene.clock.slept == []
    progress = scene.told(Progress)
    assert (progress[0].done, progress[-1].done) == (0, SIZE)
    assert {(event.job_id, event.name, event.size) for event in progress} == {(scene.job.id, NAME, SIZE)}


def test_the_note_is_written_before_the_first_byte(scene: Scene) -> None:
    notes = []

    def listen(event: TransferEvent) -> None:
        notes.append(json.loads(scene.note_path.read_text(encoding="utf-8")))

    scene.listen = listen  # type: ignore[method-assign]
    scene.fetch()
    assert len(notes) >= 2
    assert {(note["job_id"], note["size"], note["sha1"]) for note in notes} == {
        (scene.job.id, SIZE, scene.sha1)
    }
    assert notes[-1]["etag"] == scene.etag


@pytest.mark.parametrize("changes", [{}, {"size": None}])
def test_a_right_file_costs_no_request(scene: Scene, changes: dict[str, Any]) -> None:
    scene.final.write_bytes(scene.content)
    scene.assert_right(scene.fetch(**changes), 0)
    assert scene.sandbox.requests == []


def test_without_a_sha1_only_what_we_left_is_taken_for_the_product(scene: Scene) -> None:
    scene.assert_right(scene.fetch(sha1=None), SIZE, verified=False)
    scene.assert_right(scene.fetch(sha1=None), 0, verified=False)


@pytest.mark.parametrize("there", ["truncated", "longer", "of the same size"])
def test_what_another_client_has_left_half_fetched_is_moved_aside(scene: Scene, there: str) -> None:
    wrong = {"truncated": scene.content[:-1], "longer": scene.content + b"x", "of the same size": bytes(SIZE)}
    aside = scene.final.with_name(f"{NAME}.old")
    aside.write_bytes(b"of an earlier time")
    scene.final.write_bytes(wrong[there])
    scene.assert_right(scene.fetch(obs_id=1191828584), SIZE)
    assert aside.read_bytes() == b"of an earlier time"
    assert scene.final.with_name(f"{NAME}.old2").read_bytes() == wrong[there]
    (remark,) = [event for event in scene.events if isinstance(event, FileNotice)]
    assert f"{NAME}.old2" in remark.text


def test_an_empty_product(scene: Scene) -> None:
    file = scene.fetch(size=0, sha1=hashlib.sha1(b"").hexdigest())
    assert (file.size, file.verified, scene.final.read_bytes()) == (0, True, b"")


KEEPS_ALL_BYTES = pytest.mark.skipif(
    not hasattr(urllib3.HTTPResponse, "read1"),
    reason="urllib3 before 2.2 loses up to 16 kB of a chunked answer whose connection breaks",
)

# --- Resuming ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("chunked", [False, pytest.param(True, marks=KEEPS_ALL_BYTES)])
def test_no_byte_is_fetched_twice(scene: Scene, reset: bool, chunked: bool) -> None:
    scene.faults.add("cut_product", after=[100_000, 1, 50_000], reset=reset)
    if chunked:
        scene.faults.add("chunked")
    scene.assert_right(scene.fetch(), SIZE)
    assert scene.asked(4) == [
        (None, 200, 100_000),
        (bytes_from(100_000), 206, 1),
        (bytes_from(100_001), 206, 50_000),
        (bytes_from(150_001), 206, SIZE - 150_001),
    ]
    assert scene.headers("If-Range") == [None] + 3 * [scene.etag]
    assert scene.headers("Accept-Encoding") == 4 * ["identity"]
    # Bytes arrived each time, so that each wait is the shortest.
    assert scene.clock.slept == 3 * WAITS[:1]
    assert [setback.waiting for setback in scene.told(Setback)] == 3 * WAITS[:1]


def test_the_next_run_goes_on(scene: Scene) -> None:
    scene.leave(123_456)
    scene.assert_right(scene.fetch(), SIZE - 123_456)
    assert scene.asked(1) == [(bytes_from(123_456), 206, SIZE - 123_456)]
    assert scene.headers("If-Range") == [scene.etag]
    assert scene.told(Progress)[0].done == 123_456


def test_a_run_that_was_killed_before_the_rename_needs_no_request(scene: Scene) -> None:
    scene.leave(100)
    scene.part_path.write_bytes(scene.content)
    scene.assert_right(scene.fetch(), 0)
    assert scene.asked(0) == []


@pytest.mark.parametrize("fault", ["weak_etag", "no_etag"])
def test_without_a_strong_tag_there_is_no_condition(scene: Scene, fault: str) -> None:
    scene.faults.add(fault)
    scene.faults.add("cut_product", after=[1000])
    scene.assert_right(scene.fetch(), SIZE)
    assert scene.headers("If-Range") == [None, None]
    assert scene.ranges(2) == [None, bytes_from(1000)]


def test_a_whole_file_in_place_of_a_range_starts_from_zero(scene: Scene) -> None:
    scene.faults.add("ignore_range")
    scene.faults.add("cut_product", after=[100_000, 200_000])
    scene.assert_right(scene.fetch(), 300_000 + SIZE)
    assert [asked[:2] for asked in scene.asked(3)] == [
        (None, 200),
        (bytes_from(100_000), 200),
        (bytes_from(200_000), 200),
    ]


WRONG_RANGES: dict[str, dict[str, Any]] = {
    "starts later": {"shift": 1},
    "starts earlier": {"shift": -1},
    "starts at zero": {"shift": -1000},
    "starts later and ends right": {"header": f"bytes 1001-{SIZE - 1}/{SIZE}"},
    "starts earlier and ends right": {"header": f"bytes 999-{SIZE - 1}/{SIZE}"},
    "larger in all": {"total": SIZE + 1},
    "smaller in all": {"total": SIZE - 1},
    "missing": {"header": ""},
    "garbage": {"header": "as you like it"},
    "no numbers": {"header": "bytes a-b/c"},
    "backwards": {"header": f"bytes 1000-999/{SIZE}"},
    "beyond the end": {"header": f"bytes 1000-{SIZE}/{SIZE}"},
    "unsatisfied": {"header": f"bytes */{SIZE}"},
    "another unit": {"header": f"items 1000-{SIZE - 1}/{SIZE}"},
    "negative": {"header": f"bytes -1000-{SIZE - 1}/{SIZE}"},
    "several": {"header": f"bytes 1000-1999/{SIZE}, 2000-{SIZE - 1}/{SIZE}"},
    "endless": {"header": f"bytes 1000-{'9' * 30}/{'9' * 31}"},
    "other digits": {"header": f"bytes \xb9000-{SIZE - 1}/{SIZE}"},
    "shorter than the body": {"header": f"bytes 1000-{SIZE - 2}/{SIZE}"},
}


@pytest.mark.parametrize("wrong", WRONG_RANGES)
def test_a_range_that_is_answered_wrongly_once_costs_nothing(scene: Scene, wrong: str) -> None:
    scene.leave(1000)
    scene.faults.add("lie_in_content_range", times=1, **WRONG_RANGES[wrong])
    scene.assert_right(scene.fetch(), SIZE - 1000)
    assert scene.ranges(2) == 2 * [bytes_from(1000)]


@pytest.mark.parametrize("wrong", sorted(WRONG_RANGES.keys() - {"shorter than the body"}))
def test_a_wrong_range_is_noticed_without_a_length_too(scene: Scene, wrong: str) -> None:
    scene.leave(1000)
    scene.faults.add("chunked")
    scene.faults.add("lie_in_content_range", times=1, **WRONG_RANGES[wrong])
    scene.assert_right(scene.fetch(), SIZE - 1000)
    assert scene.ranges(2) == 2 * [bytes_from(1000)]


def test_ranges_are_not_given_up_while_they_bring_bytes(scene: Scene) -> None:
    scene.leave(1000)
    scene.faults.add("lie_in_content_range", times=1)
    scene.faults.add("cut_product", after=500, times=1, skip=1)
    scene.faults.add("lie_in_content_range", times=1, skip=2)
    scene.assert_right(scene.fetch(), SIZE - 1000)
    assert scene.ranges(4) == 2 * [bytes_from(1000)] + 2 * [bytes_from(1500)]


@pytest.mark.parametrize("wrong", WRONG_RANGES)
def test_where_ranges_are_answered_wrongly_the_whole_file_is_fetched(scene: Scene, wrong: str) -> None:
    scene.leave(1000)
    scene.faults.add("lie_in_content_range", **WRONG_RANGES[wrong])
    scene.assert_right(scene.fetch(), SIZE)
    assert scene.ranges(3) == [bytes_from(1000), bytes_from(1000), None]
    assert scene.clock.slept == WAITS[:2]


def test_a_total_that_is_not_told_is_no_lie(scene: Scene) -> None:
    scene.leave(1000)
    scene.faults.add("lie_in_content_range", header=f"bytes 1000-{SIZE - 1}/*")
    scene.assert_right(scene.fetch(), SIZE - 1000)
    assert scene.ranges(1) == [bytes_from(1000)]


@pytest.mark.parametrize("by", ["long_body", "short_body"])
def test_a_part_that_is_not_as_long_as_its_range_is_not_taken(scene: Scene, by: str) -> None:
    scene.leave(1000)
    scene.faults.add(by, times=1)
    scene.assert_right(scene.fetch(), SIZE - 1000)
    assert scene.ranges(2) == 2 * [bytes_from(1000)]


@pytest.mark.parametrize("total", [None, SIZE, 1000, 999])
def test_not_satisfiable_is_wrong_where_bytes_are_missing(scene: Scene, total: int | None) -> None:
    scene.leave(2000)
    scene.faults.add("product_status", status=[416, 416], total=total)
    scene.assert_right(scene.fetch(), SIZE)
    assert scene.ranges(3) == [bytes_from(2000), bytes_from(2000), None]


@pytest.mark.parametrize("sha1", ["known", "unknown"])
def test_not_satisfiable_is_right_where_nothing_is_missing(scene: Scene, sha1: str) -> None:
    changes: dict[str, Any] = {"size": None} if sha1 == "known" else {"size": None, "sha1": None}
    scene.leave(1000, **changes)
    scene.part_path.write_bytes(scene.content)
    scene.assert_right(scene.fetch(**changes), 0, verified=sha1 == "known")
    assert [asked[:2] for asked in scene.asked(1)] == [(bytes_from(SIZE), 416)]


def test_a_file_on_the_server_that_is_shorter_than_listed(scene: Scene) -> None:
    scene.faults.add("chunked")
    with pytest.raises(VerificationFailed, match=rf"has {SIZE} bytes, but the service says {SIZE + 5}"):
        scene.fetch(size=SIZE + 5)
    assert [asked[:2] for asked in scene.asked(4)] == 2 * [(None, 200), (bytes_from(SIZE), 416)]
    scene.assert_nothing()


def test_another_tag_means_another_file_where_there_is_no_sha1(scene: Scene) -> None:
    scene.leave(100_000, sha1=None)
    scene.faults.add("change_etag")
    scene.assert_right(scene.fetch(sha1=None), SIZE, verified=False)
    assert scene.asked(1) == [(bytes_from(100_000), 200, SIZE)]


def test_the_same_bytes_under_another_tag_are_not_fetched_again(scene: Scene) -> None:
    scene.leave(100_000)
    scene.faults.add("change_etag")
    scene.assert_right(scene.fetch(), SIZE - 100_000)
    assert [asked[:2] for asked in scene.asked(2)] == [
        (bytes_from(100_000), 200),
        (bytes_from(100_000), 206),
    ]
    assert scene.headers("If-Range") == [scene.etag, None]


def test_two_back_ends_with_tags_of_their_own_that_cut_every_answer(scene: Scene) -> None:
    cuts = 20
    scene.faults.add("cut_product", after=cuts * [10_000])
    for number in range(cuts // 2):
        scene.faults.add("change_etag", times=1, skip=2 * number + 1)
    scene.assert_right(scene.fetch(), SIZE)


def test_a_file_that_was_changed_before_and_is_right_now(scene: Scene) -> None:
    scene.faults.add("change_content", times=1)
    scene.faults.add("cut_product", after=100_000, times=1)
    # The SHA-1 decides, at the end.
    scene.assert_right(scene.fetch(), SIZE + SIZE)
    assert [asked[:2] for asked in scene.asked(4)] == [
        (None, 200),
        (bytes_from(100_000), 200),
        (bytes_from(100_000), 206),
        (None, 200),
    ]


def test_a_file_that_was_changed_for_good(scene: Scene) -> None:
    scene.leave(100_000)
    scene.faults.add("change_content")
    with pytest.raises(VerificationFailed, match="wrong SHA-1, twice") as caught:
        scene.fetch()
    assert scene.sha1 in caught.value.what
    assert scene.job.content.changed().sha1 in caught.value.what
    assert [asked[:2] for asked in scene.asked(3)] == [
        (bytes_from(100_000), 200),
        (bytes_from(100_000), 206),
        (None, 200),
    ]
    scene.assert_nothing()


@pytest.mark.parametrize("changes", [{"job_id": 10002}, {"size": SIZE - 1}, {"sha1": None}])
def test_bytes_of_another_product_are_not_used(scene: Scene, changes: dict[str, Any]) -> None:
    scene.leave(1000)
    scene.change_note(**changes)
    scene.assert_right(scene.fetch(), SIZE)
    assert scene.ranges(1) == [None]


@pytest.mark.parametrize("garbage", ["", '{"job_id": 100', "null", "\0\0\0"])
def test_bytes_with_a_torn_note_are_not_used(scene: Scene, garbage: str) -> None:
    scene.leave(1000)
    scene.note_path.write_text(garbage, encoding="utf-8")
    scene.assert_right(scene.fetch(), SIZE)


def test_a_part_that_is_longer_than_the_file_is_not_used(scene: Scene) -> None:
    scene.leave(1000)
    scene.part_path.write_bytes(scene.content + b"x")
    scene.assert_right(scene.fetch(), SIZE)


@pytest.mark.skipif(not boot_id(), reason="this system does not name its boots")
@pytest.mark.parametrize(("boot", "trusted"), [("same", 150_000), ("another", 70_000)])
def test_after_a_power_cut_only_what_is_on_the_disk_counts(scene: Scene, boot: str, trusted: int) -> None:
    scene.leave(150_000)
    scene.change_note(synced=70_000, **({} if boot == "same" else {"boot": "0"}))
    scene.assert_right(scene.fetch(), SIZE - trusted)
    assert scene.ranges(1) == [bytes_from(trusted)]


# --- Verification ------------------------------------------------------------------------------------


def test_a_wrong_sha1_is_tried_once_more_and_leaves_nothing(scene: Scene) -> None:
    with pytest.raises(VerificationFailed, match="discarded") as caught:
        scene.fetch(sha1="0" * 40)
    assert isinstance(caught.value, JobFailed)
    assert "help desk" in caught.value.remedy
    assert scene.asked(2) == 2 * [(None, 200, SIZE)]
    scene.assert_nothing()


@pytest.mark.parametrize("at", [0, 150_000, SIZE - 1])
def test_one_wrong_byte_is_noticed_and_mended(scene: Scene, at: int) -> None:
    scene.faults.add("corrupt_byte", at=at, times=1)
    scene.assert_right(scene.fetch(), 2 * SIZE)
    # Who watches is told why all is fetched again.
    (setback,) = scene.told(Setback)
    assert "wrong SHA-1: it is" in setback.reason and "again" in setback.reason


def test_a_byte_that_went_wrong_on_the_disk_is_noticed_and_mended(scene: Scene) -> None:
    scene.leave(1000)
    scene.part_path.write_bytes(bytes(1000))
    scene.assert_right(scene.fetch(), SIZE - 1000 + SIZE)
    assert scene.ranges(2) == [bytes_from(1000), None]


def test_the_second_fetch_has_patience_of_its_own(scene: Scene) -> None:
    cuts = TRIES_WITHOUT_PROGRESS + 3
    scene.faults.add("corrupt_byte", times=1)
    scene.faults.add("cut_product", after=cuts * [1000], skip=1)
    scene.assert_right(scene.fetch(), 2 * SIZE)
    assert scene.clock.slept == cuts * WAITS[:1]


def test_without_a_sha1_the_size_must_agree(scene: Scene) -> None:
    scene.assert_right(scene.fetch(sha1=None), SIZE, verified=False)


@pytest.mark.parametrize("by", [1, -1, -SIZE])
@pytest.mark.parametrize("sha1", ["known", "unknown"])
def test_a_wrong_size_is_an_error_at_once(scene: Scene, by: int, sha1: str) -> None:
    changes = {} if sha1 == "known" else {"sha1": None}
    if by == -SIZE:
        by = 1 - SIZE
    with pytest.raises(VerificationFailed, match=rf"has {SIZE} bytes, but the service says {SIZE + by}"):
        scene.fetch(size=SIZE + by, **changes)
    assert [asked[:2] for asked in scene.asked(2)] == 2 * [(None, 200)]
    assert scene.clock.slept == []
    scene.assert_nothing()


def test_a_page_in_place_of_the_product_does_not_cost_the_bytes_that_are_there(scene: Scene) -> None:
    scene.leave(200_000)
    scene.faults.add("html_reply", path="/api/download", times=5)
    scene.assert_right(scene.fetch(), SIZE - 200_000)
    assert scene.ranges(6) == 6 * [bytes_from(200_000)]
    assert scene.clock.slept == WAITS[:5]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("times", [1, None])
def test_more_bytes_than_promised(scene: Scene, chunked: bool, times: int | None) -> None:
    scene.faults.add("long_body", times=times, chunked=chunked)
    if times:
        scene.assert_right(scene.fetch(), 2 * SIZE if chunked else SIZE)
        return
    with pytest.raises(VerificationFailed, match="size"):
        scene.fetch()
    scene.assert_nothing()


def test_fewer_bytes_than_promised_are_completed(scene: Scene) -> None:
    scene.faults.add("short_body", times=1, by=1000, chunked=True)
    scene.assert_right(scene.fetch(), SIZE)
    assert scene.ranges(2) == [None, bytes_from(SIZE - 1000)]


@pytest.mark.parametrize("by", [10, -10])
def test_a_length_that_is_not_true(scene: Scene, by: int) -> None:
    scene.faults.add("wrong_content_length", by=by, times=1)
    scene.assert_right(scene.fetch(), SIZE)


def test_a_size_that_nobody_has_listed(scene: Scene) -> None:
    scene.assert_right(scene.fetch(size=None), SIZE)
    assert {event.size for event in scene.told(Progress)} == {None}


@KEEPS_ALL_BYTES
def test_a_size_that_nobody_knows(scene: Scene) -> None:
    scene.faults.add("chunked")
    scene.faults.add("cut_product", after=[1000, 5000])
    scene.assert_right(scene.fetch(size=None), SIZE)
    assert scene.ranges(3) == [None, bytes_from(1000), bytes_from(6000)]


def test_a_size_and_sha1_that_nobody_has_listed(scene: Scene) -> None:
    scene.faults.add("cut_product", after=[1000])
    scene.assert_right(scene.fetch(size=None, sha1=None), SIZE, verified=False)


def test_what_nobody_can_verify_is_not_fetched(scene: Scene) -> None:
    scene.faults.add("chunked")
    with pytest.raises(TransferFailed, match="cannot be verified"):
        scene.fetch(size=None, sha1=None)
    assert not scene.final.exists()


def test_a_packed_file_is_not_taken(scene: Scene) -> None:
    scene.leave(1000)
    scene.faults.add("gzip", times=3)
    scene.assert_right(scene.fetch(), SIZE - 1000)
    assert scene.ranges(4) == 4 * [bytes_from(1000)]


def test_a_server_that_packs_every_time(scene: Scene) -> None:
    scene.faults.add("gzip")
    with pytest.raises(TransferFailed, match="compressed the file"):
        scene.fetch()
    assert not scene.final.exists()


def test_a_part_that_cannot_be_read_back_is_fetched_anew(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.leave(200_000)

    def read(handle: int, most: int, offset: int) -> bytes:
        if os.fstat(handle).st_ino == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(handle, most, offset)

    bad, pread = scene.part_path.stat().st_ino, os.pread
    monkeypatch.setattr(os, "pread", read)
    # As long as this is open, no new file gets its number.
    with scene.part_path.open("rb"):
        scene.assert_right(scene.fetch())
    assert "cannot be read back (input/output error)" in scene.told(Setback)[0].reason


def test_a_part_that_is_shortened_meanwhile_is_fetched_anew(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_file, "WRITE_SIZE", 10_000)
    shortened: list[int] = []

    def listen(event: TransferEvent) -> None:
        scene.events.append(event)
        size = scene.part_path.stat().st_size if scene.part_path.exists() else 0
        if size > 100_000 and not shortened:
            shortened.append(size)
            os.truncate(scene.part_path, 50_000)

    def monotonic() -> float:
        scene.clock.advance(1)
        return scene.clock.now()

    scene.clock.monotonic = monotonic  # type: ignore[method-assign]
    scene.listen = listen  # type: ignore[method-assign]
    scene.assert_right(scene.fetch())
    assert shortened
    assert "shortened" in scene.told(Setback)[0].reason


def test_416_without_a_range_where_all_is_here(scene: Scene) -> None:
    scene.leave(1000, size=None)
    scene.part_path.write_bytes(scene.content)
    scene.faults.add("product_status", status=416, times=1)
    scene.assert_right(scene.fetch(size=None))
    assert [asked[:2] for asked in scene.asked(2)] == [
        (bytes_from(SIZE), 416),
        (f"bytes={SIZE - 1}-{SIZE - 1}", 206),
    ]


# --- Trying again ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_passes_is_waited_out(scene: Scene, status: int) -> None:
    scene.leave(1000)
    scene.faults.add("product_status", status=3 * [status])
    scene.assert_right(scene.fetch(), SIZE - 1000)
    assert scene.clock.slept == WAITS[:3]
    # Told once, not with every try.
    (setback,) = scene.told(Setback)
    assert (setback.job_id, setback.name, setback.waiting) == (scene.job.id, NAME, WAITS[0])
    assert str(status) in setback.reason


def test_without_progress_the_row_fails_and_keeps_its_bytes(scene: Scene) -> None:
    scene.leave(1000)
    fault = scene.faults.add("busy", path="/api/download", retry_after=1)
    with pytest.raises(TransferFailed, match="HTTP 503") as caught:
        scene.fetch()
    assert "run the same command again" in caught.value.remedy
    assert fault.hits == TRIES_WITHOUT_PROGRESS + 1
    assert scene.clock.slept == [max(waiting, 1.0) for waiting in WAITS]
    assert 15 * 60 < sum(scene.clock.slept) < 30 * 60
    assert scene.part == scene.content[:1000]
    scene.faults.clear()
    scene.assert_right(scene.fetch(), SIZE - 1000)


def test_as_long_as_bytes_arrive_the_budget_is_full(scene: Scene) -> None:
    cuts = 3 * TRIES_WITHOUT_PROGRESS
    scene.faults.add("cut_product", after=cuts * [1000])
    scene.faults.add("busy", times=TRIES_WITHOUT_PROGRESS - 1, skip=cuts // 2, path="/api/download")
    scene.assert_right(scene.fetch(), SIZE)
    assert len(scene.clock.slept) == cuts + TRIES_WITHOUT_PROGRESS - 1


@pytest.mark.parametrize("retry_after", [77, "77", "date"])
def test_what_the_server_asks_for_is_waited(scene: Scene, retry_after: int | str) -> None:
    if retry_after == "date":
        retry_after = email.utils.formatdate(time.time() + 77.9, usegmt=True)
    scene.faults.add("busy", times=2, retry_after=retry_after, path="/api/download")
    scene.assert_right(scene.fetch(), SIZE)
    assert scene.clock.slept == pytest.approx([77, 77], abs=3)
    assert scene.told(Setback)[0].waiting == scene.clock.slept[0]


@pytest.mark.parametrize("retry_after", ["soon", "", "-5", "1e3", "0"])
def test_what_makes_no_sense_is_not_waited(scene: Scene, retry_after: str) -> None:
    scene.faults.add("busy", times=1, retry_after=retry_after, path="/api/download")
    scene.assert_right(scene.fetch(), SIZE)
    assert scene.clock.slept == WAITS[:1]


@pytest.mark.parametrize("reset", [False, True])
def test_a_server_that_always_cuts_at_the_same_place(scene: Scene, reset: bool) -> None:
    scene.faults.add("ignore_range")
    scene.faults.add("cut_product", after=10_000, reset=reset)
    with pytest.raises(TransferFailed):
        scene.fetch()
    # The first brings bytes that were not there; all others bring nothing new.
    assert scene.asked(TRIES_WITHOUT_PROGRESS + 1)[1:] == TRIES_WITHOUT_PROGRESS * [
        (bytes_from(10_000), 200, 10_000)
    ]
    assert scene.clock.slept == WAITS
    assert scene.part == scene.content[:10_000]
    assert not scene.final.exists()


def test_a_server_that_sends_nothing(scene: Scene) -> None:
    scene.faults.add("cut_product", after=0)
    with pytest.raises(TransferFailed):
        scene.fetch()
    assert scene.ranges(TRIES_WITHOUT_PROGRESS + 1) == (TRIES_WITHOUT_PROGRESS + 1) * [None]


@pytest.mark.parametrize("after", [0, 100_000])
def test_a_stalled_connection_is_dropped_and_resumed(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path, after: int
) -> None:
    scene = Scene(sandbox, clock, tmp_path, stall_timeout=0.2)
    scene.faults.add("stall", after=after, times=1)
    began = time.monotonic()
    with closing(scene.session):
        scene.assert_right(scene.fetch(), SIZE)
    assert 0.2 <= time.monotonic() - began < 30
    assert sorted(scene.ranges(2), key=str) == [None, bytes_from(after)] if after else [None, None]
    assert "in time" in scene.told(Setback)[0].reason


def test_a_server_that_is_away_for_a_while(scene: Scene) -> None:
    scene.leave(1000)
    scene.sandbox.stop()
    sleep = scene.clock.sleep

    def come_back(seconds: float, stop: threading.Event) -> None:
        sleep(seconds, stop)
        if len(scene.clock.slept) == 5:
            scene.sandbox.start()

    scene.clock.sleep = come_back  # type: ignore[method-assign]
    scene.assert_right(scene.fetch(), SIZE - 1000)
    assert len(scene.clock.slept) == 5


# --- Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 410])
def test_a_product_that_is_gone(scene: Scene, status: int) -> None:
    scene.leave(1000)
    scene.faults.add("product_status", status=status, body='{"error": "No such file"}')
    with pytest.raises(ProductGone, match=rf"{status}, No such file") as caught:
        scene.fetch()
    assert "again" in caught.value.remedy
    assert len(scene.asked(1)) == 1
    assert scene.clock.slept == []
    assert scene.part == scene.content[:1000]
    assert not scene.final.exists()


NOT_THE_SERVICE = {
    "page": "<html><head><title>Not Found</title></head><body><h1>404</h1></body></html>",
    "nothing": "",
    "text": "404 page not found",
    "xml": "<?xml version='1.0'?><Fault><Code>NoSuchKey</Code></Fault>",
    "store's": "<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>",
    "broken": '{"error": "No such',
    "list": '["No such file"]',
    "number": '{"error": 404}',
}


@pytest.mark.parametrize("body", NOT_THE_SERVICE.values(), ids=list(NOT_THE_SERVICE))
@pytest.mark.parametrize("status", [404, 410])
def test_somebodys_page_does_not_mean_that_a_product_is_gone(scene: Scene, status: int, body: str) -> None:
    scene.leave(1000)
    scene.faults.add("product_status", status=status, body=body, times=3)
    scene.assert_right(scene.fetch(), SIZE - 1000)
    assert scene.clock.slept == WAITS[:3]
    (setback,) = scene.told(Setback)
    assert f"HTTP {status}" in setback.reason


@pytest.mark.parametrize("body", [NOT_THE_SERVICE["page"], NOT_THE_SERVICE["text"], ""])
def test_what_the_listing_calls_gone_is_gone(scene: Scene, body: str) -> None:
    scene.leave(1000)
    scene.faults.add("product_status", status=404, body=body)
    scene.sandbox.service.hold(scene.job.id, JobState.EXPIRED)
    with pytest.raises(ProductGone, match=r"[Ee]xpired"):
        scene.fetch()
    assert scene.clock.slept == [] and scene.part == scene.content[:1000]


@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 418, 204, 300, 304])
def test_a_refusal_is_waited_out_and_keeps_the_bytes(scene: Scene, status: int) -> None:
    scene.leave(1000)
    fault = scene.faults.add("product_status", status=status, body="")
    with pytest.raises(TransferFailed, match=str(status)) as caught:
        scene.fetch()
    assert "run the same command again" in caught.value.remedy and "resubmit" not in str(caught.value)
    assert fault.hits == TRIES_WITHOUT_PROGRESS + 1
    assert scene.clock.slept == WAITS
    assert scene.part == scene.content[:1000]
    scene.faults.clear()
    scene.assert_right(scene.fetch(), SIZE - 1000)


@pytest.mark.parametrize("there", [0, 1000])
@pytest.mark.parametrize("body", ["", "<html>Please log in</html>"])
def test_a_page_of_a_certain_length_in_place_of_a_product(scene: Scene, there: int, body: str) -> None:
    if there:
        scene.leave(there)
    scene.faults.add("product_status", status=200, body=body, times=3)
    scene.assert_right(scene.fetch(), SIZE - there)
    assert scene.clock.slept == WAITS[:3]


def test_a_page_in_place_of_a_product_of_unknown_size(scene: Scene) -> None:
    scene.faults.add("product_status", status=200, body="<html>Please log in</html>", times=3)
    scene.assert_right(scene.fetch(size=None, sha1=None), verified=False)
    assert scene.clock.slept == WAITS[:3]


def test_the_services_own_reason_is_told(scene: Scene) -> None:
    scene.faults.add("product_status", status=403, body='{"error": "Not your job"}')
    with pytest.raises(TransferFailed, match=r"HTTP 403\): Not your job"):
        scene.fetch()


def test_a_session_that_expires_in_the_middle(scene: Scene) -> None:
    scene.faults.add("cut_product", after=[1000, 1000])
    scene.faults.add("expire_session", times=1, skip=1, path="/api/download")
    scene.faults.add("expire_session", times=1, skip=2, path="/api/download")
    scene.assert_right(scene.fetch(), SIZE)
    assert [asked[:2] for asked in scene.asked(5)] == [
        (None, 200),
        (bytes_from(1000), 401),
        (bytes_from(1000), 206),
        (bytes_from(2000), 401),
        (bytes_from(2000), 206),
    ]
    assert [entry.status for entry in scene.sandbox.requests if entry.path == "/api/login"] == [200] * 3
    assert len(set(scene.headers("Cookie"))) == 3


def test_credentials_that_are_refused_in_the_middle(scene: Scene) -> None:
    scene.leave(1000)
    scene.faults.add("expire_session", path="/api/download", times=1)
    scene.faults.add("refuse_login")
    # It concerns every row, not this one alone.
    with pytest.raises(LoginRefused):
        scene.fetch()
    assert scene.part == scene.content[:1000]


def test_a_session_that_is_lost_again_and_again(scene: Scene) -> None:
    scene.leave(1000)
    scene.faults.add("expire_session", path="/api/download", times=5)
    scene.assert_right(scene.fetch(), SIZE - 1000)
    # Each try logs in once, and is waited out if that session is lost, too.
    assert scene.clock.slept == WAITS[:4]
    fault = scene.faults.add("expire_session", path="/api/download")
    scene.final.unlink()
    with pytest.raises(TransferFailed, match="session"):
        scene.fetch()
    assert fault.hits == TRIES_WITHOUT_PROGRESS + 2


# --- Redirects ---------------------------------------------------------------------------------------


class Store:
    """Another party's host that holds one file, and notes the headers of every request."""

    def __init__(self, content: bytes, etag: str) -> None:
        self.headers: list[Mapping[str, str]] = []
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                store.headers.append(dict(self.headers.items()))
                start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
                data = content[int(start[1]) :] if start else content
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("ETag", etag)
                if start:
                    self.send_header("Content-Range", f"bytes {start[1]}-{len(content) - 1}/{len(content)}")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/mwa/1191828584.zip?Signature=s3cr3t"

    @contextmanager
    def open(self) -> Iterator[Store]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def test_another_host_gets_the_range_and_no_credentials(scene: Scene) -> None:
    scene.leave(100_000)
    with Store(scene.content, scene.etag).open() as store:
        scene.faults.add("redirect", url=store.url)
        scene.assert_right(scene.fetch(), SIZE - 100_000)
    (headers,) = store.headers
    assert headers["Range"] == bytes_from(100_000)
    assert headers["If-Range"] == scene.etag
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("mwa_client/")
    assert not {"Cookie", "Authorization", "Referer"} & headers.keys()
    # The service itself was shown the cookie.
    assert all(scene.headers("Cookie"))


@pytest.mark.parametrize("status", [301, 303, 307, 308])
def test_every_kind_of_redirect(scene: Scene, status: int) -> None:
    with Store(scene.content, scene.etag).open() as store:
        scene.faults.add("redirect", url=store.url, status=status)
        scene.assert_right(scene.fetch(), SIZE)


def test_redirects_in_a_circle_end(scene: Scene) -> None:
    scene.faults.add("redirect", url="/api/download?again")
    with pytest.raises(TransferFailed, match="loop"):
        scene.fetch()


@pytest.mark.parametrize("url", ["http://[", "http://127.0.0.1:99999/", "file:///etc/passwd", "ftp://x/"])
def test_a_redirect_to_nowhere_is_a_refusal(scene: Scene, url: str) -> None:
    scene.leave(1000)
    scene.faults.add("redirect", url=url)
    with pytest.raises(TransferFailed, match="not an address"):
        scene.fetch()
    assert scene.part == scene.content[:1000]


# --- Stopping ----------------------------------------------------------------------------------------


def test_stopped_in_the_middle(scene: Scene) -> None:
    def listen(event: TransferEvent) -> None:
        if isinstance(event, Progress) and event.done:
            scene.stop.set()

    def monotonic() -> float:
        scene.clock.advance(1)
        return scene.clock.now()

    scene.clock.monotonic = monotonic  # type: ignore[method-assign]
    scene.listen = listen  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        scene.fetch()
    kept = len(scene.part or b"")
    assert 0 < kept < SIZE
    assert scene.part == scene.content[:kept]
    assert not scene.final.exists()
    scene.stop.clear()
    scene.listen = scene.events.append  # type: ignore[assignment, method-assign]
    scene.assert_right(scene.fetch(), SIZE - kept)


def test_stopped_before_it_begins(scene: Scene) -> None:
    scene.stop.set()
    with pytest.raises(Stopped):
        scene.fetch()
    assert scene.sandbox.requests == []


def test_stopped_while_the_old_file_is_looked_at(scene: Scene) -> None:
    scene.final.write_bytes(bytes(SIZE))
    scene.stop.set()
    with pytest.raises(Stopped):
        scene.fetch()
    assert scene.final.read_bytes() == bytes(SIZE)


def test_stopped_while_waiting(scene: Scene) -> None:
    scene.leave(1000)
    scene.faults.add("busy", path="/api/download")
    scene.clock.sleep = lambda seconds, stop: stop.set()  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        scene.fetch()
    assert scene.ranges(1) == [bytes_from(1000)]
    assert scene.part == scene.content[:1000]


# --- Disks and directories ---------------------------------------------------------------------------


def test_a_write_that_fails_half_way_keeps_what_was_written(scene: Scene) -> None:
    with longest_file(123_456), pytest.raises(DiskFull, match="too large"):
        scene.fetch()
    assert scene.part == scene.content[:123_456]
    scene.sandbox.reset_log()
    scene.assert_right(scene.fetch(), SIZE - 123_456)
    assert scene.ranges(1) == [bytes_from(123_456)]


FETCH_TO_A_TINY_DISK = """
import subprocess, sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[5])
from shared import FastClock
from mwa_client.asvo import open_session
from mwa_client.asvo.job import ProductFile
from mwa_client.errors import DiskFull
from mwa_client.jobs.keys import ApiVersion
from mwa_client.asvo.service import Credentials, Service
from mwa_client.transfer.files import ExpectedFile
from mwa_client.transfer.download import Downloader
from mwa_client.transfer.files import DownloadDirectory

directory, url, job_id, sha1 = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "none", directory]).returncode == 0
if not mounted:
    sys.exit("no mounts here")
place = DownloadDirectory(directory, directory / ".mwa_client")
place.state_dir.mkdir()
wanted = ExpectedFile(job_id, "1191828584_ms.zip", 300_000, sha1)
session = open_session(Service(ApiVersion.V2018, url, "x", Credentials("practice", "practice")))

def work():
    source = session.source(job_id, ProductFile("1191828584_ms.zip", 300_000, sha1))
    return Downloader(place, FastClock(), threading.Event(), lambda event: None).fetch(wanted, source)

try:
    work()
except DiskFull as error:
    print(error.what)
print((place.state_dir / "1191828584_ms.zip.part").stat().st_size)
subprocess.run(["mount", "-o", "remount,size=2m", "none", directory], check=True)
print(work().fetched)
print([path.name for path in sorted(directory.rglob("*"))])
session.close()
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs Linux namespaces")
def test_a_full_disk_keeps_the_bytes_and_the_next_run_goes_on(scene: Scene, tmp_path: Path) -> None:
    directory = tmp_path / "tiny"
    directory.mkdir()
    arguments = [
        str(directory),
        scene.sandbox.url,
        str(scene.job.id),
        scene.sha1,
        str(Path(__file__).parents[1]),
    ]
    run = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", FETCH_TO_A_TINY_DISK, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if run.returncode and ("unshare" in run.stderr or "no mounts here" in run.stderr):
        pytest.skip("this system lets nobody mount a small disk")
    assert run.returncode == 0, run.stderr
    said, kept, fetched, names = run.stdout.splitlines()
    assert said.startswith("No room left to write")
    assert 100_000 < int(kept) < 160 * 1024
    assert int(fetched) == SIZE - int(kept)
    assert names == "['.mwa_client', '1191828584_ms.zip']"
    assert scene.ranges(2) == [None, bytes_from(int(kept))]


def test_a_directory_that_cannot_be_written(scene: Scene) -> None:
    file = scene.place.path / "file"
    file.write_bytes(b"in the way")
    scene.place = DownloadDirectory(file / "products", file / "products" / ".mwa_client")
    with pytest.raises(DirectoryUnusable, match="Not a directory"):
        scene.fetch()
    assert scene.sandbox.requests == []


def test_a_directory_stands_under_the_final_name(scene: Scene) -> None:
    (scene.final / "thesis").mkdir(parents=True)
    file = scene.fetch()
    assert file.path == scene.final.with_name(f"{scene.job.id}_{NAME}")
    assert file.path.read_bytes() == scene.content and (scene.final / "thesis").is_dir()


# --- Names -------------------------------------------------------------------------------------------

HOSTILE = {
    "../../evil": "evil",
    "../../evil.zip": "evil.zip",
    "/etc/passwd": "passwd",
    "..\\..\\evil.zip": "evil.zip",
    "C:\\evil.zip": "evil.zip",
    "a/b\\c.zip": "c.zip",
    "..": "1191828584_10001",
    ".": "1191828584_10001",
    "": "1191828584_10001",
    "/": "1191828584_10001",
    "directory/": "1191828584_10001",
    "evil\\": "1191828584_10001",
    ".hidden": "1191828584_10001.hidden",
    ".mwa_client": "1191828584_10001",
    ".bashrc.zip": "1191828584_10001.zip",
    "-rf.zip": "1191828584_10001.zip",
    " space.zip": "1191828584_10001.zip",
    "space.zip ": "1191828584_10001",
    "line\nbreak.zip": "1191828584_10001.zip",
    "line break.zip\n": "1191828584_10001.zip",
    "nul\0.zip": "1191828584_10001.zip",
    "esc\x1b[31m.tar": "1191828584_10001.tar",
    "right\u202eto left.tar.gz": "1191828584_10001.tar.gz",
    "surrogate\ud800.zip": "1191828584_10001.zip",
    "\udcff.zip": "1191828584_10001.zip",
    "x" * 300: "1191828584_10001",
    "x" * 300 + ".tar": "1191828584_10001.tar",
    "ü" * 101 + ".zip": "1191828584_10001.zip",
    "SHA1SUMS": "1191828584_10001",
    "sub/SHA1SUMS": "1191828584_10001",
    "sha1sums": "1191828584_10001",
    "SHA1SUMS.new": "1191828584_10001.new",
    "1191828584_ms.zip": "1191828584_ms.zip",
    "obs 7.zip": "obs 7.zip",
    "ü" * 98 + ".zip": "ü" * 98 + ".zip",
    "观测.tar": "观测.tar",
    "weird $(rm -rf ~) ; name.zip": "1191828584_10001.zip",
    "a`b`.tar": "1191828584_10001.tar",
    "it's (1) [2] #3 *4?.tar": "1191828584_10001.tar",
    "its (1) [2] #3 *4?.tar": "its (1) [2] #3 *4?.tar",
}


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_names_are_made_safe(name: str) -> None:
    assert safe_name(name, 1191828584, 10001) == HOSTILE[name]


def test_a_name_for_an_unknown_observation() -> None:
    assert safe_name("..", None, 10001) == "unknown_10001"


@pytest.mark.parametrize("name", [name for name in HOSTILE if name and "\ud800" not in name], ids=ascii)
def test_a_product_with_a_hostile_name_stays_in_the_directory(
    scene: Scene, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scene.faults.add("hostile_name", name=name)
    (listed,) = scene.session.jobs()[scene.job.id].product
    assert listed.name == name
    safe = safe_name(listed.name, 1191828584, scene.job.id)
    wanted = ExpectedFile(scene.job.id, safe, listed.size, listed.sha1)
    source = scene.session.source(scene.job.id, listed)
    deep = tmp_path_factory.mktemp("deep") / "a" / "b"
    memory = deep / ".mwa_client"
    memory.mkdir(parents=True)
    if re.search("[\ud800-\udfff]", name):
        # No such name can be asked for; it is no reason to fall over.
        with pytest.raises(TransferFailed):
            Downloader(DownloadDirectory(deep, memory), scene.clock, scene.stop, scene.listen).fetch(
                wanted, source
            )
        return
    file = Downloader(DownloadDirectory(deep, memory), scene.clock, scene.stop, scene.listen).fetch(
        wanted, source
    )
    assert file.path.read_bytes() == scene.content
    everything = [path for path in deep.parent.parent.rglob("*") if path.is_file()]
    assert everything == [deep / safe]


# --- Several at a time -------------------------------------------------------------------------------


def test_several_downloads_share_a_session_that_expires(
    sandbox: Sandbox, clock: FastClock, tmp_path: Path
) -> None:
    first = Scene(sandbox, clock, tmp_path)
    jobs = [first.job] + [
        sandbox.service.add({"obs_id": "7"}, size=SIZE, state=JobState.READY) for _ in range(5)
    ]
    sandbox.faults.add("cut_product", after=12 * [50_000])
    sandbox.faults.add("expire_session", times=6, skip=3, path="/api/download")
    results: dict[int, FetchedFile | BaseException] = {}

    def work(number: int) -> None:
        job = jobs[number]
        wanted = ExpectedFile(job.id, f"{job.id}.zip", SIZE, job.content.sha1)
        source = first.session.source(job.id, ProductFile(job.file_name, SIZE, job.content.sha1))
        try:
            results[job.id] = Downloader(first.place, clock, first.stop, lambda event: None).fetch(
                wanted, source
            )
        except BaseException as error:
            results[job.id] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
    with closing(first.session):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    for job in jobs:
        file = results[job.id]
        assert isinstance(file, FetchedFile), file
        assert hashlib.sha1(file.path.read_bytes()).hexdigest() == job.content.sha1
        assert file.fetched == SIZE
    assert os.listdir(first.place.state_dir) == []  # noqa: PTH208
