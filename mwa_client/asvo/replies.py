"""The body of an API's answer: unpacked, read as JSON, and never more of it than is allowed.

An answer of a few megabytes can unpack to gigabytes, and a text of gigabytes costs many times its size once
it has become objects. So bytes are counted as they are unpacked, values before they are made, and a long
list is read entry by entry.
"""

from __future__ import annotations

import codecs
import itertools
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import requests

from mwa_client.errors import BadReply
from mwa_client.json_text import read_json, read_value
from mwa_client.light_dataclasses import dataclass

PIECE_SIZE = 1 << 16
"""Bytes that are read and unpacked at a time."""
MOST_OF_REFUSAL = 1 << 16
"""Bytes of an error page that are read."""
MOST_AT_ONCE = 70 << 20
"""Bytes of memory up to which a list is read as a whole, which is faster: some 20,000 jobs."""
MOST_OF_ENTRY = 1 << 18
"""Characters that one entry of a list may have."""
GZIP = b"\x1f\x8b"
GAP = re.compile(r"[ \t\n\r]*")


class NotJson(Exception):
    """The text is not JSON."""


class NotAList(Exception):
    """The text is JSON, but not a list."""


@dataclass
class Allowance:
    """How much an answer, or several that belong together, may still contain.

    Attributes
    ----------
    size : int
        Bytes, unpacked.
    memory : int
        Bytes of memory that the JSON takes once read, roughly.
    entries : int
        Entries of a list.
    """

    size: int
    memory: int
    entries: int

    @classmethod
    def for_one(cls) -> Allowance:
        """Return what one answer may contain: a page of 500 jobs has half a megabyte."""
        return cls(8 << 20, 40 << 20, 10_000)

    @classmethod
    def for_listing(cls) -> Allowance:
        """Return what a list of jobs may contain: one of 100,000 has 80 to 120 MB."""
        return cls(200 << 20, 450 << 20, 150_000)

    def take(self, size: int = 0, memory: int = 0, entries: int = 0) -> None:
        """Use up a part of it.

        Raises
        ------
        BadReply
            It is used up.
        """
        self.size -= size
        self.memory -= memory
        self.entries -= entries
        if min(self.size, self.memory, self.entries) < 0:
            raise BadReply("The service's answer is far too long; the rest was not read.")


def pieces_of(response: requests.Response) -> Iterator[bytes]:
    """Yield the body, unpacked, in pieces of limited size.

    Raises
    ------
    BadReply
        It is compressed in a way that was not asked for.
    """
    raw = response.raw
    packing = response.headers.get("Content-Encoding", "").strip().lower()
    if packing in ("", "identity"):
        yield from _received(raw)
    elif packing in ("gzip", "x-gzip", "deflate"):
        yield from _unpacked(_received(raw))
    else:
        raise BadReply("The service's answer is compressed in a way that was not asked for.")


def _received(raw: Any) -> Iterator[bytes]:
    data = raw.read(PIECE_SIZE, decode_content=False)
    while data:
        yield data
        data = raw.read(PIECE_SIZE, decode_content=False)
    if getattr(raw, "length_remaining", None):
        raise ConnectionError  # It closed early; older libraries do not mind.


def _unpacked(received: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack 64 kB at a time, since 64 kB can become 64 MB."""
    unpacker, is_empty = _unpacker(), True
    for data in received:
        is_empty = False
        while data:
            if unpacker.eof:
                if not data.startswith(GZIP):
                    return
                unpacker = _unpacker()  # gzip data may have several members.
            yield unpacker.decompress(data, PIECE_SIZE)
            data = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    while not (unpacker.eof or is_empty):
        data = unpacker.decompress(b"", PIECE_SIZE)
        if not data:
            raise ConnectionError  # It closed early.
        yield data


def _unpacker() -> Any:
    return zlib.decompressobj(zlib.MAX_WBITS | 32)


def read_answer(response: requests.Response, allowance: Allowance) -> Any:
    """Read an answer as JSON.

    Raises
    ------
    NotJson
        It is none.
    BadReply
        It is too much.
    """
    data = bytearray()
    for piece in pieces_of(response):
        allowance.take(len(piece))
        data += piece
    text = data.decode("utf-8-sig", "replace")
    del data
    allowance.take(memory=_memory_of(text))
    return _loads(text)


def read_entries(response: requests.Response, allowance: Allowance) -> Iterator[object]:
    """Yield the entries of a JSON list; a long one is read entry by entry, to save memory.

    Raises
    ------
    NotJson, NotAList
        It is none.
    BadReply
        It is too much.
    """
    texts = _texts(response, allowance)
    begun: list[str] = []
    most = allowance.memory - MOST_AT_ONCE
    for text in texts:
        begun.append(text)
        if allowance.memory < most:
            yield from _entries(itertools.chain(begun, texts), allowance)
            return
    entries = _loads("".join(begun))
    if not isinstance(entries, list):
        raise NotAList
    allowance.take(entries=len(entries))
    yield from entries


def _texts(response: requests.Response, allowance: Allowance) -> Iterator[str]:
    """Yield an answer's text in pieces; each is taken from the allowance before it is read."""
    decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
    for piece in pieces_of(response):
        text = decode(piece)
        allowance.take(len(piece), _memory_of(text))
        yield text


def _entries(texts: Iterator[str], allowance: Allowance) -> Iterator[object]:
    """Yield the entries of a list whose text comes in pieces."""
    text = next((text for text in texts if text.strip()), "").lstrip()
    if not text.startswith("["):
        raise NotJson
    at, count = 1, 0
    while True:
        at = GAP.match(text, at).end()  # type: ignore[union-attr]
        if count == 0 and text[at : at + 1] == "]":
            at += 1
            break
        entry, end = _decoded(text, at)
        mark = text[end : end + 1]
        if mark in (",", "]"):
            allowance.entries -= 1
            yield entry
            at, count = end + 1, count + 1
            if mark == "]":
                break
            continue
        if len(text) - at > MOST_OF_ENTRY:
            raise NotJson
        # The text may end in the middle of an entry, or of a number.
        allowance.take()
        more = next(texts, None)
        if more is None:
            raise NotJson
        text, at = text[at:] + more, 0
    while text is not None:  # Nothing may come after the list.
        if GAP.match(text, at).end() != len(text):  # type: ignore[union-attr]
            raise NotJson
        text, at = next(texts, None), 0  # type: ignore[assignment]


def _decoded(text: str, at: int) -> tuple[object, int]:
    """Return the entry at `at` and the position after it; the end of the text if the entry is incomplete."""
    try:
        entry, end = read_value(text, at)
    except ValueError:
        return None, len(text)
    return entry, GAP.match(text, end).end()  # type: ignore[union-attr]


def _loads(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError:
        raise NotJson from None


def _memory_of(text: str) -> int:
    """Return roughly how many bytes of memory JSON text takes as objects, from its punctuation."""
    return len(text) + 200 * text.count("{") + 70 * text.count("[") + 40 * text.count(",")
