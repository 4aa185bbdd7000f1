"""A product becomes a verified file: fetched, resumed, retried, checked, and only then renamed."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Union

from mwa_client.directory.names import name_on_disk
from mwa_client.errors import (
    OutOfDescriptors,
    ServiceUnavailable,
    Stopped,
    TransferFailed,
    VerificationFailed,
)
from mwa_client.timing import Backoff, Clock
from mwa_client.transfer import ranges
from mwa_client.transfer.connections import ConnectionBudget, ConnectionTuner, Restraint
from mwa_client.transfer.files import DownloadDirectory, FetchedFile, Remark, choose_name, settle
from mwa_client.transfer.parallel import ParallelReader, Reading, Segment
from mwa_client.transfer.part_file import ExpectedFile, PartBroken, PartFile, open_part, remove_part

TRIES_WITHOUT_PROGRESS = 12
"""Tries in a row that bring no byte, with waits from 1 s to 5 min between them (about 20 min in all)."""
LEAST_PAUSE = 0.001
"""Seconds that are worth waiting."""
GLANCE = 4096
"""Bytes that tell a product from somebody's page."""
PROGRESS_INTERVAL = 0.1
"""Seconds between two reports of progress."""
THROWN_AWAY = "It was thrown away. Run the command again; if this repeats, tell the archive's help desk."


@dataclass(frozen=True)
class Progress:
    """So many bytes of a file are here.

    Attributes
    ----------
    done : int
        Bytes so far.
    size : int or None
        Bytes in all, where that is known.
    """

    job_id: int
    name: str
    done: int
    size: int | None


@dataclass(frozen=True)
class Setback:
    """A download goes on after a wait; told once until bytes arrive again."""

    job_id: int
    name: str
    reason: str
    waiting: float


TransferEvent = Union[Progress, Setback, Remark]


def fetch(
    wanted: ExpectedFile,
    source: ranges.Source,
    place: DownloadDirectory,
    clock: Clock,
    stop: threading.Event,
    listen: Callable[[TransferEvent], None],
    budget: ConnectionBudget | None = None,
) -> FetchedFile:
    """Bring a file into the directory under its final name, complete and verified.

    A right file that is there already is taken as it is; bytes of an earlier run are continued. Where
    something else stands under that name, `mwa_client.transfer.files.choose_name` decides.

    Parameters
    ----------
    wanted : ExpectedFile
        What the file must be.
    source : Source
        Where its bytes come from.
    place : DownloadDirectory
        Where it goes.
    clock : Clock
        Time, for the waits between tries.
    stop : threading.Event
        Set when the work is to stop.
    listen : callable
        Is told of progress and setbacks.
    budget : ConnectionBudget, optional
        How many connections there may be, over all downloads that share this; one if left out.

    Returns
    -------
    FetchedFile
        The file under its final name.

    Raises
    ------
    TransferFailed
        The bytes do not come; the part file is kept.
    ProductGone
        The server has it no more.
    VerificationFailed
        It came with a wrong size or SHA-1, twice.
    DiskFull, DirectoryUnusable
        It cannot be written.
    Stopped
        `stop` was set.
    """
    wanted, there = choose_name(wanted, place, stop, listen)
    if there is not None:
        # A run that was killed in its last moment may have left something.
        remove_part(place.part(wanted.name), place.guard)
        return there
    download = _Download(wanted, source, place, clock, stop, listen, budget or ConnectionBudget(1))
    try:
        return download.run()
    except (VerificationFailed, PartBroken):
        # It was thrown away; once more from zero, in case it was damaged on the way or on the disk.
        return download.run()


def safe_name(name: str, obs_id: int | None, job_id: int) -> str:
    """Return a product's name as it can stand in a directory.

    Only the base name counts. One that is empty, hidden, too long, unprintable or taken by this program is
    replaced by the ids and its suffix.
    """
    base = re.split(r"[/\\]", name)[-1]
    usable = (
        base
        and base.isprintable()
        and base == base.strip()
        and not base.startswith((".", "-"))
        and len(base.encode("utf-8")) <= 200
        and not base.upper().startswith("SHA1SUMS")
    )
    if usable:
        return name_on_disk(base)
    suffix = re.search(r"(\.tar)?\.[A-Za-z0-9]{1,8}$", base)
    return f"{obs_id or 'unknown'}_{job_id}{suffix[0] if suffix else ''}"


class _Download:
    """One file on its way."""

    def __init__(
        self,
        wanted: ExpectedFile,
        source: ranges.Source,
        place: DownloadDirectory,
        clock: Clock,
        stop: threading.Event,
        listen: Callable[[TransferEvent], None],
        budget: ConnectionBudget,
    ) -> None:
        self._wanted = wanted
        self._source = source
        self._place = place
        self._clock = clock
        self._stop = stop
        self._listen = listen
        self._budget = budget
        self._has_connection = False
        self._tuner = ConnectionTuner(clock, budget.most)
        self._restraint = Restraint(clock, budget, str(getattr(source, "host", "")))
        self._backoff = Backoff(clock, first=1.0, cap=300.0)
        self._wrong_answers = 0
        self._fetched = 0
        self._telling = threading.Lock()
        self._furthest = 0
        self._told = float("-inf")

    def run(self) -> FetchedFile:
        """Fetch what is missing, check the whole, rename."""
        wanted = self._wanted
        self._furthest = 0
        with (
            self._budget.joined(self._tuner),
            open_part(self._place.part(wanted.name), wanted, self._stop, self._place.guard) as part,
        ):
            self._tell(part.there)
            try:
                self._fill(part)
                sha1 = part.sha1()
            except PartBroken as error:
                part.discard()
                self._listen(Setback(wanted.job_id, wanted.name, f"{error.what} Fetching it anew.", 0.0))
                raise
            if wanted.sha1 not in (None, sha1) or wanted.size not in (None, part.length):
                part.discard()
                raise VerificationFailed(
                    f"{wanted.name} arrived with a wrong SHA-1, twice: it is {sha1}, "
                    f"the service says {wanted.sha1}.",
                    THROWN_AWAY,
                )
            file = FetchedFile(
                self._place.directory / wanted.name, part.length, sha1, wanted.sha1 is not None, self._fetched
            )

            def settle_it(path: Path, mtime_ns: int) -> Path:
                nonlocal file
                file = settle(path, wanted, replace(file, mtime_ns=mtime_ns), self._place, self._listen)
                return file.path

            part.become(settle_it)
            return file

    def _fill(self, part: PartFile) -> None:
        """Bring what is missing, over as many connections as it takes."""
        wanted = self._wanted
        reading = Reading(
            self._source,
            part,
            wanted.size,
            wanted.sha1 is not None,
            self._budget,
            self._clock,
            self._stop,
            self._note_arrival,
        )
        reader = ParallelReader(reading, self._tuner, self._restraint)
        try:
            self._go_on_until_all_is_there(part, reader)
        finally:
            reader.close()
            self._give_back_connection()
            self._fetched += reader.fetched

    def _go_on_until_all_is_there(self, part: PartFile, reader: ParallelReader) -> None:
        while True:
            self._heed_stop()
            try:
                segment = reader.next_segment()
                if segment is None:
                    return
                self._fetch(part, reader, segment)
            except OutOfDescriptors:
                raise  # Whoever gives the work knows what else is open.
            except ranges.WrongSize as error:
                part.discard()
                raise VerificationFailed(
                    f"{self._wanted.name} has a wrong size: {error.what}",
                    THROWN_AWAY,
                ) from error
            except ranges.WrongAnswer as error:
                self._wrong_answers += 1
                self._wait(reader, ServiceUnavailable(error.what))
            except ServiceUnavailable as error:
                self._wait(reader, error)

    def _fetch(self, part: PartFile, reader: ParallelReader, segment: Segment) -> None:
        """Bring a segment over this thread's own connection."""
        try:
            self._heed_pause()
            self._take_connection()
            reader.ask()
            try:
                self._ask_for(part, reader, segment, part.etag)
            except ranges.NothingThere:
                if self._wanted.size is not None or not self._ends_at(segment.position):
                    raise
                reader.learn_size(segment.position)
        finally:
            reader.drop(segment)

    def _ask_for(self, part: PartFile, reader: ParallelReader, segment: Segment, condition: str) -> None:
        # Where ranges were answered wrongly twice in a row, only the whole file will do.
        whole = self._wrong_answers >= 2
        start, end = segment.position, reader.end_of_request(segment)
        with ranges.open_range(
            self._source, start, self._wanted.size, condition, end=end, whole=whole
        ) as stretch:
            if stretch.start == start or not self._is_only_another_tag(condition, stretch):
                segment, stretch = self._prepare(part, reader, segment, stretch)
                reader.hold(segment, stretch)
                reader.read(segment, stretch)
                return
        # What is there is still of use; at the end the SHA-1 will tell.
        part.forget_etag()
        self._ask_for(part, reader, segment, "")

    def _is_only_another_tag(self, condition: str, stretch: ranges.Stretch) -> bool:
        """Say whether the whole file comes for no other reason than that its ETag is another one now."""
        return bool(condition and self._wanted.sha1) and stretch.etag != condition

    def _ends_at(self, size: int) -> bool:
        """Ask the server for the last byte that is here, and see whether it is its last, too."""
        with ranges.open_range(self._source, size - 1, None, "", end=size) as stretch:
            return stretch.start == size - 1 and stretch.size == size

    def _prepare(
        self, part: PartFile, reader: ParallelReader, segment: Segment, stretch: ranges.Stretch
    ) -> tuple[Segment, ranges.Stretch]:
        """Throw away what does not go together with the bytes that are about to come."""
        has_changed = bool(part.etag and stretch.etag and part.etag != stretch.etag)
        if has_changed and self._wanted.sha1:
            part.forget_etag()
            has_changed = False
        if stretch.size is None and self._wanted.sha1 is None:
            raise TransferFailed(
                f"{self._wanted.name} cannot be verified: nobody says how large it is.",
                "Tell the archive's help desk.",
            )
        if stretch.start != segment.position:
            stretch = self._judged(part, reader, stretch)
        elif not has_changed:
            if not part.there:
                part.note_etag(stretch.etag)
            return segment, stretch
        restarted = reader.restart()
        part.restart(stretch.etag)
        if has_changed and stretch.start:
            reader.drop(restarted)
            raise ServiceUnavailable("The file on the server has changed.")
        return restarted, stretch

    def _judged(self, part: PartFile, reader: ParallelReader, stretch: ranges.Stretch) -> ranges.Stretch:
        """Return the whole file that came in place of a range, if that is what it is."""
        if reader.is_flowing:
            raise ServiceUnavailable("The server does not send the range asked for.")
        if stretch.tells_length or (part.etag and part.etag == stretch.etag):
            return stretch
        beginning = part.beginning(GLANCE)
        seen, stretch = stretch.peek(len(beginning))
        if seen != beginning or not beginning:
            raise ServiceUnavailable("The server sends something else in place of the product.")
        return stretch

    def _take_connection(self) -> None:
        if not self._has_connection:
            self._budget.acquire(self._stop)
            self._has_connection = True

    def _give_back_connection(self) -> None:
        if self._has_connection:
            self._has_connection = False
            self._budget.release()

    def _note_arrival(self, there: int) -> None:
        with self._telling:
            if there > self._furthest:
                # Progress is what was not there before: a server that begins again each time makes none.
                self._furthest = there
                self._wrong_answers = 0
                self._backoff.reset()
        self._tell(there)

    def _wait(self, reader: ParallelReader, error: ServiceUnavailable) -> None:
        """Wait before the next try, longer each time that no byte has come."""
        if self._backoff.tries >= TRIES_WITHOUT_PROGRESS:
            raise TransferFailed(
                f"{self._wanted.name} could not be fetched: {error.what}",
                "What has arrived is kept: run the command again to go on.",
            ) from error
        is_first = self._backoff.tries == 0
        waiting = self._backoff.next(error.retry_after)
        self._restraint.failed(error.retry_after)
        self._give_back_connection()
        if reader.is_flowing:
            waiting = reader.wait(waiting)
        elif is_first:
            self._listen(Setback(self._wanted.job_id, self._wanted.name, error.what, waiting))
        if waiting > LEAST_PAUSE:
            self._clock.sleep(waiting, self._stop)

    def _heed_pause(self) -> None:
        """Leave a host alone that has asked for it, be it on another connection."""
        pause = self._restraint.pause()
        if pause > LEAST_PAUSE:
            self._give_back_connection()
            self._clock.sleep(pause, self._stop)
            self._heed_stop()

    def _heed_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped("The work was told to stop.")

    def _tell(self, there: int) -> None:
        now = self._clock.monotonic()
        with self._telling:
            is_due = now - self._told >= PROGRESS_INTERVAL or there == self._wanted.size
            self._told = now if is_due else self._told
        if is_due:
            self._listen(Progress(self._wanted.job_id, self._wanted.name, there, self._wanted.size))
