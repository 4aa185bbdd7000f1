"""The header of a plain file is read as `tarfile` reads it, or left to it."""

from __future__ import annotations

import tarfile
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tars import MTIME

from mwa_client.transfer.unpacking.members import Member, MemberRefused
from mwa_client.transfer.unpacking.plain_header import plain_file
from mwa_client.transfer.unpacking.tar_stream import member_of

ODD_FIELDS = [
    b"\0" * 8,
    b" " * 8,
    b"0000644 ",
    b" 644\0\0\0\0",
    b"\x80\0\0\0\0\0\1\0",
    b"-000001\0",
    b"0_00644\0",
]
NAMES = ["a", "table.f0", "n" * 100, "ä/ö", "\udcff", "./a//b", "a/", ".", "../a", "/a", "a\nb", "a\0b"]
PLACES = st.one_of(st.integers(0, 511), st.integers(100, 156), st.integers(329, 345))


def checksummed(header: bytes) -> bytes:
    return header[:148] + b"%06o\0 " % (256 + sum(header[:148]) + sum(header[156:])) + header[156:]


def header_of(name: str, kind: int = tarfile.GNU_FORMAT, **more: Any) -> bytes:
    info = tarfile.TarInfo(name)
    for key, value in {"mtime": MTIME, "size": 17, **more}.items():
        setattr(info, key, value)
    return info.tobuf(kind, "utf-8", "surrogateescape")[-512:]  # type: ignore[arg-type]


def read_or_refused(header: bytes, *, plainly: bool) -> Member | str | None:
    try:
        if plainly:
            return plain_file(header)
        return member_of(tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape"))
    except MemberRefused as error:
        return str(error)
    except tarfile.HeaderError:
        return "no header"


@given(
    name=st.sampled_from(NAMES),
    changes=st.lists(st.tuples(PLACES, st.binary(min_size=1, max_size=12)), max_size=2),
    is_right=st.booleans(),
)
@example(name="a", changes=[], is_right=True)
@example(name="a", changes=[(345, b"prefix")], is_right=True)
@example(name="a", changes=[(257, b"\xff" * 8)], is_right=True)
@example(name="a", changes=[(156, b"\0")], is_right=True)
@example(name="a", changes=[(511, b"\xff")], is_right=False)
def test_it_is_read_as_tarfile_does_or_not_at_all(
    name: str, changes: list[tuple[int, bytes]], is_right: bool
) -> None:
    header = header_of("x")
    for place, data in [(0, name.encode("utf-8", "surrogateescape").ljust(100, b"\0")[:100]), *changes]:
        header = (header[:place] + data + header[place + len(data) :])[:512]
    header = checksummed(header) if is_right else header
    plain = read_or_refused(header, plainly=True)
    assert plain is None or plain == read_or_refused(header, plainly=False)


@pytest.mark.parametrize("field", ODD_FIELDS)
@pytest.mark.parametrize("place", [100, 108, 116, 329, 337])
def test_numbers_out_of_the_ordinary_are_left_to_tarfile_or_read_alike(place: int, field: bytes) -> None:
    header = checksummed(header_of("x")[:place] + field + header_of("x")[place + 8 :])
    plain = read_or_refused(header, plainly=True)
    assert plain is None or plain == read_or_refused(header, plainly=False)


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["1191828528.ms/table.f0", "n" * 100])
def test_what_is_usual_is_read_here(name: str, kind: int) -> None:
    header = header_of(name, kind, mode=0o4755, size=(1 << 33) - 1)
    member = plain_file(header)
    assert member is not None and member.size == (1 << 33) - 1 and member.mode == 0o755
    assert member == read_or_refused(header, plainly=False)


@pytest.mark.parametrize(
    "more", [{"name": "ä"}, {"size": 1 << 33}, {"mtime": -1}, {"type": tarfile.DIRTYPE}, {"uname": "ä"}]
)
def test_what_is_not_is_left_to_tarfile(more: dict[str, Any]) -> None:
    assert plain_file(header_of(**{"name": "x", **more})) is None
