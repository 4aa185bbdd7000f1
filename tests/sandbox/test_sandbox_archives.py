"""Products are real archives: tars today, zips in 2018, of exactly the size that was asked for."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable

import pytest

from mwa_client.sandbox import Job, JobType
from mwa_client.sandbox.archives import GPS_EPOCH, LARGEST_ZIP, Archive
from mwa_client.sandbox.interfaces import Interface
from mwa_client.sandbox.products import Runs

OBS = "1191828584"
KINDS = ("ms", "uvfits", "vis", "meta", "voltage", "beamformer", "image")


def data_of(archive: Archive) -> bytes:
    return b"".join(archive.pieces())


def in_tar(data: bytes) -> dict[str, int]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r|") as packed:
        return {member.name: member.size for member in packed if member.isreg()}


def in_zip(data: bytes) -> dict[str, int]:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        assert packed.testzip() is None, "a CRC is wrong"
        return {member.filename: member.file_size for member in packed.infolist() if not member.is_dir()}


READERS: dict[bool, Callable[[bytes], dict[str, int]]] = {False: in_tar, True: in_zip}


@pytest.mark.parametrize("is_zip", READERS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_has_several_files_of_true_sizes(kind: str, is_zip: bool) -> None:
    archive = Archive("job 1", 300_001, OBS, kind, is_zip)
    files = READERS[is_zip](data_of(archive))
    assert len(files) >= 4 and min(files.values()) > 0
    assert 0.9 * archive.size < sum(files.values()) < archive.size
    assert len(data_of(archive)) == archive.size


@pytest.mark.parametrize("is_zip", READERS)
def test_a_measurement_set_has_folders_in_it(is_zip: bool) -> None:
    files = READERS[is_zip](data_of(Archive("job 1", 100_000, OBS, "ms", is_zip)))
    assert {f"{OBS}.ms/table.dat", f"{OBS}.ms/ANTENNA/table.dat", f"{OBS}.metafits"} <= files.keys()


@pytest.mark.parametrize("is_zip", READERS)
@pytest.mark.parametrize("size", [2048, 3584, 5000, 10_240, 20_001])
def test_small_ones_have_fewer_files(size: int, is_zip: bool) -> None:
    data = data_of(Archive("job 1", size, OBS, "meta", is_zip))
    assert len(data) == size and 1 <= len(READERS[is_zip](data)) <= 4


@pytest.mark.parametrize("is_zip", READERS)
@pytest.mark.parametrize("size", [0, 1, 9, 99])
def test_without_room_for_an_archive_the_bytes_are_just_invented(size: int, is_zip: bool) -> None:
    archive = Archive("job 1", size, OBS, "vis", is_zip)
    assert archive.runs == Runs() and len(data_of(archive)) == size


@pytest.mark.parametrize("is_zip", READERS)
def test_any_range_is_that_part_of_the_whole(is_zip: bool) -> None:
    archive = Archive("job 1", 2_500_001, OBS, "ms", is_zip)
    whole = data_of(archive)
    edges = {0, 511, 512, 513, (1 << 20) - 1, (1 << 20) + 1, archive.size - 700, archive.size}
    edges |= {offset + more for offset in archive.runs.offsets for more in (0, 1)}
    for start in sorted(edges):
        stop = min(start + 1500, archive.size)
        assert b"".join(archive.pieces(start, stop)) == whole[start:stop]


@pytest.mark.parametrize("is_zip", READERS)
def test_the_sha1_is_true_and_the_bytes_are_the_same_each_time(is_zip: bool) -> None:
    archive, again = (Archive("job 1", 50_000, OBS, "vis", is_zip) for _ in range(2))
    assert archive.sha1 == hashlib.sha1(data_of(again)).hexdigest() and archive.etag == again.etag
    changed = archive.changed()
    assert changed.sha1 != archive.sha1 and changed.etag != archive.etag
    assert READERS[is_zip](data_of(changed)) == READERS[is_zip](data_of(archive))


def test_a_large_one_is_never_held() -> None:
    """A terabyte that was made would neither fit into the memory nor into the day."""
    large = Archive("job 1", 1 << 40, OBS, "vis")
    head = b"".join(large.pieces(0, 4096))
    first = tarfile.TarInfo.frombuf(head[:512], "utf-8", "strict")
    assert first.size > 1 << 37 and first.mtime == GPS_EPOCH + int(OBS)
    assert b"".join(large.pieces(large.size - 1024)) == bytes(1024)


def test_a_zip_whose_sums_would_take_long_is_none() -> None:
    assert Archive("job 1", LARGEST_ZIP + 1, OBS, "vis", is_zip=True).runs == Runs()


def test_what_a_client_calls_its_observation_decides_no_path() -> None:
    files = in_tar(data_of(Archive("job 1", 200_000, "../../etc/" + "x" * 300, "ms")))
    assert not any(name.startswith("/") or ".." in name or len(name) > 100 for name in files)


def test_jobs_of_2018_bring_a_zip_and_those_of_today_a_tar() -> None:
    params, size = {"obs_id": OBS, "download_type": "vis"}, 50_000
    job = Job(10001, JobType.VISIBILITIES, params, 0.0, size)
    assert len(in_zip(b"".join(job.content.pieces()))) == 8
    today = Job(10001, JobType.VISIBILITIES, params, 0.0, size, made_by=Interface.V2)
    assert len(in_tar(b"".join(today.content.pieces()))) == 8
