"""A product becomes a verified file: fetched, resumed, retried, checked, and only then renamed."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Union

from mwa_client.errors import (
    ServiceUnavailable,
    Stopped,
    TransferFailed,
    VerificationFailed,
)
from mwa_client.pace import Backoff, Clock
from mwa_client.transfer import ranges
from mwa_client.transfer.ahead import PIECE, ReadAhead
from mwa_client.transfer.connections import Connections, Growth
from mwa_client.transfer.files import FetchedFile, Place, Remark, choose_name, settle
from mwa_client.transfer.partial import PartFile, Wanted, open_part, remove_part

TRIES_WITHOUT_PROGRESS = 12
"""Tries in a row that bring no byte, with waits from 1 s to 5 min between them (about 20 min in all)."""
LEAST_AHEAD = 4 * PIECE
"""Bytes that must be missing for more than one connection to be tried."""
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
    wanted: Wanted,
    source: ranges.Source,
    place: Place,
    clock: Clock,
    stop: threading.Event,
    listen: Callable[[TransferEvent], None],
    connections: Connections | None = None,
) -> FetchedFile:
    """Bring a file into the directory under its final name, complete and verified.

    A right file that is there already is taken as it is; bytes of an earlier run are continued. Where
    something else stands under that name, `mwa_client.transfer.files.choose_name` decides.

    Parameters
    ----------
    wanted : Wanted
        What the file must be.
    source : Source
        Where its bytes come from.
    place : Place
        Where it goes.
    clock : Clock
        Time, for the waits between tries.
    stop : threading.Event
        Set when the work is to stop.
    listen : callable
        Is told of progress and setbacks.
    connections : Connections, optional
        How many there may be, over all downloads that share this; one if left out.

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
        remove_part(place.part(wanted.name))
        return there
    download = _Download(wanted, source, place, clock, stop, listen, connections or Connections(1))
    for _ in range(2):
        try:
            return download.run()
        except VerificationFailed as error:
            # Wrong bytes are thrown away; once more from zero, in case they were damaged on the way.
            failure = error
    raise failure


def safe_name(name: str, obs_id: int | None, job_id: int) -> str:
    """Return a product's name as it can stand in a directory.

    Only the base name counts. One that is empty, hidden, too long, unprintable or taken by this program
    is replaced by the ids and its suffix.
    """
    base = re.split(r"[/\\]", name)[-1]
    usable = (
        base
        and base.isprintable()
        and base == base.strip()
        and not base.startswith((".", "-"))
        and len(base.encode("utf-8", "replace")) <= 200
        and not base.upper().startswith("SHA1SUMS")
    )
    if usable:
        return base
    suffix = re.search(r"(\.tar)?\.[A-Za-z0-9]{1,8}$", base)
    return f"{obs_id or 'unknown'}_{job_id}{suffix[0] if suffix else ''}"


class _Download:
    """One file on its way."""

    def __init__(
        self,
        wanted: Wanted,
        source: ranges.Source,
        place: Place,
        clock: Clock,
        stop: threading.Event,
        listen: Callable[[TransferEvent], None],
        connections: Connections,
    ) -> None:
        self._wanted = wanted
        self._source = source
        self._place = place
        self._clock = clock
        self._stop = stop
        self._listen = listen
        self._connections = connections
        self._growth = Growth(clock)
        self._waited = 0.0
        self._backoff = Backoff(clock, first=1.0, cap=300.0)
        self._wrong_answers = 0
        self._fetched = 0
        self._furthest = 0
        self._told = float("-inf")

    def run(self) -> FetchedFile:
        """Fetch what is missing, check the whole, rename."""
        wanted = self._wanted
        self._furthest = 0
        with open_part(self._place.part(wanted.name), wanted, self._stop, self._place.guard) as part:
            self._tell(part)
            self._fill(part)
            sha1 = part.sha1()
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
        """Append bytes until all are there, over as many connections as it takes."""
        size = self._wanted.size
        while part.length != size:
            self._heed_stop()
            try:
                size = self._fetch_stretch(part)
            except ranges.WrongSize as error:
                part.discard()
                raise VerificationFailed(
                    f"{self._wanted.name} has a wrong size: {error.what}",
                    THROWN_AWAY,
                ) from error
            except ranges.WrongAnswer as error:
                self._wrong_answers += 1
                self._wait(ServiceUnavailable(error.what))
            except ServiceUnavailable as error:
                self._wait(error)

    def _fetch_stretch(self, part: PartFile) -> int:
        """Append what one connection brings, or several from where they help; return the file's size."""
        # Where ranges were answered wrongly twice in a row, only the whole file will do.
        whole = self._wrong_answers >= 2
        self._connections.take(self._stop)
        try:
            with ranges.ask(self._source, part.length, self._wanted.size, part.etag, whole=whole) as stretch:
                self._prepare(part, stretch)
                ahead = self._stream(part, stretch)
        finally:
            self._connections.give_back()
        if ahead is not None:
            self._read_ahead(part, ahead)
        return part.length if stretch.size is None else stretch.size

    def _prepare(self, part: PartFile, stretch: ranges.Stretch) -> None:
        """Throw away what does not go together with the bytes that are about to come."""
        has_changed = bool(part.etag and stretch.etag and part.etag != stretch.etag)
        if has_changed or stretch.start != part.length or not part.length:
            part.restart(stretch.etag)
        if has_changed and stretch.start:
            raise ServiceUnavailable("The file on the server has changed.")
        if stretch.size is None and self._wanted.sha1 is None:
            raise TransferFailed(
                f"{self._wanted.name} cannot be verified: nobody says how large it is.",
                "Tell the archive's help desk.",
            )

    def _stream(self, part: PartFile, stretch: ranges.Stretch) -> ReadAhead | None:
        """Append what one connection brings; where several help, return them when they can take over."""
        ahead: ReadAhead | None = None

        def room() -> memoryview:
            return part.room() if ahead is None else part.room()[: ahead.start - part.length]

        began = self._clock.monotonic()
        try:
            for count in stretch.pour(room):
                self._waited += self._clock.monotonic() - began
                self._fetched += count
                part.grow(count)
                self._note_arrival(part)
                self._heed_stop()
                if ahead is None:
                    ahead = self._several(part, stretch)
                elif part.length == ahead.start:
                    if ahead.is_flowing:
                        taking_over, ahead = ahead, None
                        return taking_over
                    self._let_go(ahead)
                    ahead = None
                began = self._clock.monotonic()
        finally:
            if ahead is not None:
                self._let_go(ahead)
        return None

    def _several(self, part: PartFile, stretch: ranges.Stretch) -> ReadAhead | None:
        """Begin to fetch what is a piece ahead over a connection of its own, if it is time to try that."""
        if self._growth.advice(1, self._fetched, self._waited) <= 0:
            return None
        start = part.length + PIECE
        # One connection's bytes are those of one file; those of several must be known to be.
        can_be_mixed = stretch.takes_ranges and bool(part.etag or self._wanted.sha1)
        is_worthwhile = stretch.size is not None and stretch.size - start >= LEAST_AHEAD
        if not (can_be_mixed and is_worthwhile and self._connections.take_another()):
            self._growth.rest()
            return None
        size = stretch.size or 0
        ahead = ReadAhead(self._source, start, size, part.etag, self._connections, self._clock)
        ahead.add_line()
        return ahead

    def _read_ahead(self, part: PartFile, ahead: ReadAhead) -> None:
        """Append what several connections bring, as many as help."""
        failures = 0
        try:
            self._add_lines(ahead, 1)
            for data in ahead.read(self._stop):
                part.append(data)
                self._note_arrival(part)
                if ahead.failures > failures:
                    failures = ahead.failures
                    self._growth.rest()
                self._adjust(ahead)
        finally:
            self._let_go(ahead)

    def _let_go(self, ahead: ReadAhead) -> None:
        ahead.close()
        self._fetched += ahead.arrived
        self._waited += ahead.waited
        self._growth.rest()

    def _adjust(self, ahead: ReadAhead) -> None:
        """Let there be more connections or fewer, as it helps."""
        arrived, waited = self._fetched + ahead.arrived, self._waited + ahead.waited
        advice = self._growth.advice(ahead.lines, arrived, waited, ahead.answer_time)
        if advice > 0:
            self._add_lines(ahead, advice)
        elif advice < 0 or self._connections.is_short:
            ahead.drop_lines(max(-advice, 1))

    def _add_lines(self, ahead: ReadAhead, count: int) -> None:
        for number in range(count):
            if not self._connections.take_another():
                if number == 0:
                    self._growth.rest()
                return
            ahead.add_line()

    def _note_arrival(self, part: PartFile) -> None:
        if part.length > self._furthest:
            # Progress is what was not there before: a server that begins again each time makes none.
            self._furthest = part.length
            self._wrong_answers = 0
            self._backoff.reset()
        self._tell(part)

    def _wait(self, error: ServiceUnavailable) -> None:
        """Wait before the next try, longer each time that no byte has come."""
        if self._backoff.tries >= TRIES_WITHOUT_PROGRESS:
            raise TransferFailed(
                f"{self._wanted.name} could not be fetched: {error.what}",
                "What has arrived is kept: run the command again to go on.",
            ) from error
        is_first = self._backoff.tries == 0
        waiting = self._backoff.next(error.retry_after)
        if is_first:
            self._listen(Setback(self._wanted.job_id, self._wanted.name, error.what, waiting))
        self._clock.sleep(waiting, self._stop)

    def _heed_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped("The work was told to stop.")

    def _tell(self, part: PartFile) -> None:
        now = self._clock.monotonic()
        if now - self._told >= PROGRESS_INTERVAL or part.length == self._wanted.size:
            self._told = now
            self._listen(Progress(self._wanted.job_id, self._wanted.name, part.length, self._wanted.size))
