"""Bytes in order from several connections: pieces are asked for ahead of the reader, in a bounded window.

Whatever goes wrong with it, it only ends: the one connection that goes on from there meets it again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from mwa_client.errors import MwaClientError, ServiceUnavailable
from mwa_client.pace import Clock
from mwa_client.transfer import ranges
from mwa_client.transfer.connections import MOMENT, Connections

PIECE = 3 << 20
"""Bytes that are asked for at a time; each is kept in memory until those before it are there."""
PIECES_A_LINE = 2
"""How many pieces there are at most for each connection: one that it fetches, one that waits."""
WORTHWHILE = 1 << 20
"""Bytes that are handed on at a time, unless a piece ends."""
LAG = 1.0
"""Seconds that a piece may take, however fast the others come."""


@dataclass
class _Piece:
    """A part of the file, on its way into memory."""

    start: int
    end: int
    memory: memoryview
    filled: int = 0
    read: int = 0
    is_held: bool = True
    """Whether a line puts bytes into it."""
    begun: float = 0.0

    @property
    def length(self) -> int:
        return self.end - self.start

    @property
    def is_full(self) -> bool:
        return self.filled >= self.length

    def room(self) -> memoryview:
        """Return the memory where its next bytes are to be put."""
        return self.memory[self.filled : self.length]


class ReadAhead:
    """Brings the bytes of a file from `start` to its end, in order, over several connections.

    Parameters
    ----------
    source : Source
        Where the bytes come from.
    start, size : int
        The first byte that is wanted, and the size of the whole file.
    etag : str
        The strong ETag that every answer must have; empty where the server gives none.
    connections : Connections
        Where each line gives its connection back.
    clock : Clock
        Time, to know what takes long.

    Attributes
    ----------
    start : int
        The first byte that is wanted.
    arrived : int
        Bytes that were received so far.
    waited : float
        Seconds that the reader has waited so far.
    answer_time : float
        Seconds until the first byte of the last line that has begun.
    """

    def __init__(
        self, source: ranges.Source, start: int, size: int, etag: str, connections: Connections, clock: Clock
    ) -> None:
        self.start = start
        self.arrived = 0
        self.waited = 0.0
        self.answer_time = 0.0
        self._source, self._size, self._etag = source, size, etag
        self._connections, self._clock = connections, clock
        self._changed = threading.Condition()
        self._window: deque[_Piece] = deque()
        self._spare: list[memoryview] = []
        self._next = start
        self._wanted = self._running = self._flowing = 0
        self._failures = 0
        self._usual = LAG
        self._is_over = self._is_ending = False
        self._mistake: BaseException | None = None

    @property
    def lines(self) -> int:
        """Connections that have brought bytes and go on."""
        return self._flowing

    @property
    def failures(self) -> int:
        """Connections that were refused, or broke without a byte."""
        return self._failures

    @property
    def is_complete(self) -> bool:
        """Whether all bytes up to the end of the file are here."""
        return self._next == self._size and all(piece.is_full for piece in self._window)

    @property
    def is_flowing(self) -> bool:
        """Whether the first byte that is wanted is here."""
        return bool(self._window and self._window[0].filled) and not self._is_over

    def add_line(self) -> None:
        """Fetch over one connection more, which was taken for it."""
        with self._changed:
            self._wanted = max(self._wanted, self._running) + 1
            self._running += 1
        threading.Thread(target=self._run_line, name="download", daemon=True).start()

    def drop_lines(self, count: int) -> None:
        """Fetch over so many connections less; the last one only finishes what is begun."""
        with self._changed:
            if self._running > self._wanted:
                return  # Some are about to go.
            self._wanted = max(self._running - count, 1)
            self._is_ending = self._is_ending or self._wanted == 1
            self._changed.notify_all()

    def read(self, stop: threading.Event) -> Iterator[memoryview]:
        """Yield the bytes in order, now and then nothing; end when there will be no more.

        What is yielded is good until the next is asked for.
        """
        while True:
            with self._changed:
                data = self._ready(WORTHWHILE)
                if not data and not self._has_ended() and not stop.is_set():
                    began = self._clock.monotonic()
                    self._changed.wait(MOMENT)
                    self.waited += self._clock.monotonic() - began
                    data = self._ready(WORTHWHILE)
                if not data and (stop.is_set() or self._has_ended()):
                    data = self._ready(1)
                    if not data:
                        break
            yield data
        if self._mistake is not None:
            raise self._mistake

    def close(self) -> None:
        """Let all lines go, as soon as they notice."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    # --- The reader's side; all of it with the lock held ----------------------------------------------

    def _ready(self, least: int) -> memoryview:
        """Return what can be read now; nothing where that is less than `least` and the piece goes on."""
        while self._window and self._window[0].read == self._window[0].length:
            self._recycle(self._window.popleft())
        if not self._window:
            return memoryview(b"")
        head = self._window[0]
        if head.filled - head.read < least and not head.is_full:
            return memoryview(b"")
        data = head.memory[head.read : min(head.filled, head.length)]
        head.read += len(data)
        return data

    def _recycle(self, piece: _Piece) -> None:
        if not piece.is_held:
            self._spare.append(piece.memory)
        self._changed.notify_all()

    def _has_ended(self) -> bool:
        return self._is_over or not self._running

    # --- A line's side --------------------------------------------------------------------------------

    def _run_line(self) -> None:
        line = _Line(self._clock.monotonic())
        try:
            piece = self._take(line)
            while piece is not None:
                self._fetch(piece, line)
                piece = self._take(line)
        except MwaClientError:
            pass  # The others go on; where there is none, the one connection that comes after meets it too.
        except BaseException as error:  # A mistake in this program: let the reader die of it.
            self._mistake = error
        finally:
            self._leave(line)
            self._connections.give_back()

    def _leave(self, line: _Line) -> None:
        with self._changed:
            self._flowing -= line.is_flowing
            if not line.is_dismissed:
                self._count_out()
            self._changed.notify_all()

    def _take(self, line: _Line) -> _Piece | None:
        """Return the next piece to fetch, when there is one; None where the line is to end."""
        with self._changed:
            while not self._is_over:
                if self._running > self._wanted:
                    break
                piece = self._free_piece() or self._new_piece() or self._lagging_piece()
                if piece is not None:
                    piece.is_held, piece.begun = True, self._clock.monotonic()
                    return piece
                if self._is_ending or self.is_complete:
                    break
                self._changed.wait(MOMENT)
            self._count_out()
            line.is_dismissed = True
            return None

    def _count_out(self) -> None:
        self._running -= 1
        # One alone is better off without pieces.
        self._is_ending = self._is_ending or self._running <= 1

    def _free_piece(self) -> _Piece | None:
        return next((piece for piece in self._window if not piece.is_held and not piece.is_full), None)

    def _new_piece(self) -> _Piece | None:
        has_room = len(self._window) < PIECES_A_LINE * self._running
        if not has_room or self._next == self._size or self._is_ending:
            return None
        end = min(self._next + PIECE, self._size)
        self._window.append(_Piece(self._next, end, self._memory()))
        self._next = end
        return self._window[-1]

    def _memory(self) -> memoryview:
        return self._spare.pop() if self._spare else memoryview(bytearray(PIECE))

    def _lagging_piece(self) -> _Piece | None:
        """Return the rest of the first piece, where that one holds up all others for too long."""
        head = self._window[0] if self._window else None
        if head is None or head.is_full or self._clock.monotonic() - head.begun <= 2 * self._usual:
            return None
        start = head.start + head.filled
        rest = _Piece(start, head.end, self._memory())
        head.end = start
        self._window.insert(1, rest)
        self._changed.notify_all()
        return rest

    def _fetch(self, piece: _Piece, line: _Line) -> None:
        """Fill a piece, over as many requests as bring something."""
        while not piece.is_full and not self._is_over:
            before = piece.filled
            try:
                self._fill(piece, line)
            except MwaClientError:
                # One whose rest was given to another line is full, too, and its answer is cut short.
                if piece.filled == before and not piece.is_full:
                    with self._changed:
                        self._failures += 1
                        piece.is_held = False
                    raise
        with self._changed:
            piece.is_held = False
            if piece.start + piece.filled == piece.end:
                self._usual = max(0.9 * self._usual, self._clock.monotonic() - piece.begun, LAG)

    def _fill(self, piece: _Piece, line: _Line) -> None:
        start, end = piece.start + piece.filled, piece.end
        with ranges.ask(self._source, start, self._size, self._etag, end=end) as stretch:
            if stretch.start != start or stretch.etag != self._etag:
                self.close()  # The file has changed, or there are no ranges: one connection must see.
                raise ServiceUnavailable("The server does not send the range asked for.")
            for count in stretch.pour(piece.room):
                if not self._note_arrival(piece, line, count):
                    return

    def _note_arrival(self, piece: _Piece, line: _Line, count: int) -> bool:
        """Count what has arrived; say whether to go on."""
        with self._changed:
            self.arrived += count
            piece.filled = min(piece.filled + count, piece.length)
            if count and not line.is_flowing:
                line.is_flowing = True
                self._flowing += 1
                self.answer_time = self._clock.monotonic() - line.begun
            is_head = bool(self._window) and piece is self._window[0]
            if is_head and (piece.is_full or piece.filled - piece.read >= WORTHWHILE):
                self._changed.notify_all()
            return not self._is_over and not piece.is_full


@dataclass
class _Line:
    """What is known of one connection."""

    begun: float
    is_flowing: bool = False
    is_dismissed: bool = False
