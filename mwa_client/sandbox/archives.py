"""Products as the service packs them: a tar today, a zip in 2018, with invented files in it.

An archive's size is exactly what was asked for, and any range of it can be had: only the headers are kept.
"""

from __future__ import annotations

import functools
import re
import tarfile
import time
import zipfile
from collections.abc import Iterator, Sequence

from mwa_client.light_dataclasses import dataclass

from .products import Content, Runs

BLOCK = tarfile.BLOCKSIZE
GPS_EPOCH = 315_964_782
"""Seconds since 1970 at the GPS second 0, less the leap seconds since then: an obs_id counts from there."""
LONGEST_STEM = 40
LARGEST_ZIP = 1 << 31
"""A larger product of 2018 is of invented bytes alone, as the sums in a zip need a pass over all of them."""


@dataclass(frozen=True)
class Planned:
    """A file or folder that an archive is to have.

    Attributes
    ----------
    name : str
        Its name in the archive, below a folder or not; that of a folder ends with a slash.
    weight : int
        Its share of the bytes, beside those of the others; 0 for a folder.
    """

    name: str
    weight: int = 0

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.name.endswith("/")


@dataclass(frozen=True)
class Archive(Content):
    """A product with several files in it.

    Attributes
    ----------
    obs_id : str
        The observation; the names and times of the files come from it.
    kind : str
        What the product is: ``ms``, ``uvfits``, ``vis``, ``meta``, ``voltage``, ``beamformer``, ``image``.
    is_zip : bool
        Whether this is a zip, as in 2018; otherwise it is a tar.
    """

    obs_id: str = ""
    kind: str = "vis"
    is_zip: bool = False

    @property
    def runs(self) -> Runs:
        """The headers, and what stands between the files and after them."""
        return _runs(self)

    @property
    def mtime(self) -> int:
        """When its files were made, in seconds since 1970."""
        return GPS_EPOCH + int(self.obs_id) if re.fullmatch("[0-9]{9,10}", self.obs_id) else GPS_EPOCH


# Runs are worked out again where they are asked for after many others; it takes milliseconds.
@functools.lru_cache(maxsize=256)
def _runs(archive: Archive) -> Runs:
    planned = planned_files(archive.kind, archive.obs_id)
    return _zip_runs(archive, planned) if archive.is_zip else _tar_runs(archive, planned)


# --- What is in it -----------------------------------------------------------------------------------


def planned_files(kind: str, obs_id: str) -> tuple[Planned, ...]:
    """Return what a product of this kind has in it, the most important first."""
    # A client chooses these words.
    stem = re.sub("[^0-9A-Za-z_]", "_", obs_id)[:LONGEST_STEM]
    make = _KINDS.get(kind, _visibilities)
    return make(stem)


def _metadata(stem: str) -> tuple[Planned, ...]:
    return (
        Planned(f"{stem}_metafits_ppds.fits", 8),
        Planned(f"{stem}.metafits", 8),
        Planned(f"{stem}_flags.zip", 3),
        Planned("README", 1),
    )


def _visibilities(stem: str) -> tuple[Planned, ...]:
    boxes = [Planned(f"{stem}_20171009{stem[-6:]}_gpubox{n:02}_00.fits", 100) for n in range(1, 7)]
    return (*boxes, Planned(f"{stem}_metafits_ppds.fits", 8), Planned(f"{stem}_flags.zip", 3))


def _measurement_set(stem: str) -> tuple[Planned, ...]:
    main = f"{stem}.ms/"
    tables = ("", "ANTENNA/", "DATA_DESCRIPTION/", "FIELD/", "OBSERVATION/", "SPECTRAL_WINDOW/")
    inside = [
        Planned(f"{main}{table}{name}", weight)
        for table in tables
        for name, weight in (("table.dat", 4), ("table.f0", 2), ("table.info", 1))
    ]
    folders = [Planned(f"{main}{table}") for table in tables]
    large = [Planned(f"{main}table.f1_TSM0", 900), Planned(f"{main}table.f2_TSM0", 90)]
    return (Planned("./"), folders[0], *large, *folders[1:], *inside, Planned(f"{stem}.metafits", 6))


def _uvfits(stem: str) -> tuple[Planned, ...]:
    bands = [Planned(f"{stem}_{number:03}.uvfits", 100) for number in range(1, 5)]
    return (*bands, Planned(f"{stem}.metafits", 6), Planned(f"{stem}_flags/"), *_flags(f"{stem}_flags/"))


def _flags(folder: str) -> Iterator[Planned]:
    return (Planned(f"{folder}gpubox{number:02}.mwaf", 2) for number in range(1, 5))


def _voltages(stem: str) -> tuple[Planned, ...]:
    channels = [Planned(f"{stem}_{stem}_ch{number}.dat", 100) for number in range(109, 115)]
    return (*channels, Planned(f"{stem}_metafits_ppds.fits", 8))


def _beams(stem: str) -> tuple[Planned, ...]:
    beams = [Planned(f"beam{number:02}/{stem}.{end}", w) for number in (0, 1) for end, w in _VDIF]
    return (Planned("beam00/"), Planned("beam01/"), *beams)


_VDIF = (("vdif", 100), ("hdr", 1))


def _images(stem: str) -> tuple[Planned, ...]:
    kinds = ("image", "dirty", "residual", "model", "psf")
    return (*(Planned(f"{stem}-MFS-{kind}.fits", 10) for kind in kinds), Planned("wsclean.log", 1))


_KINDS = {
    "meta": _metadata,
    "ms": _measurement_set,
    "uvfits": _uvfits,
    "voltage": _voltages,
    "beamformer": _beams,
    "image": _images,
}


def _shares(planned: Sequence[Planned], size: int) -> list[int]:
    """Return the size of each file, which add up to `size`; folders have none."""
    total = sum(file.weight for file in planned)
    shares = [size * file.weight // total for file in planned]
    shares[max(range(len(planned)), key=lambda number: planned[number].weight)] += size - sum(shares)
    return shares


# --- Tar ---------------------------------------------------------------------------------------------


def _tar_runs(archive: Archive, planned: Sequence[Planned]) -> Runs:
    """Return the headers, the filling of each last block, and the zeros of the end."""
    # As many files as there is room for, each with its header and a block that may be half empty.
    most = (archive.size - 2 * BLOCK) // (2 * BLOCK)
    planned = planned[: max(most, 0)]
    if not any(file.weight for file in planned):
        return Runs()  # No room for an archive: it is one of invented bytes.
    shares = _shares(planned, archive.size - 2 * BLOCK - 2 * BLOCK * len(planned))
    offsets, texts, offset, filling = [], [], 0, b""
    for file, size in zip(planned, shares):
        header = filling + _tar_header(file, size, archive.mtime)
        offsets.append(offset)
        texts.append(header)
        filling = bytes(-size % BLOCK)
        offset += len(header) + size
    return Runs((*offsets, offset), (*texts, bytes(archive.size - offset)))


def _tar_header(file: Planned, size: int, mtime: int) -> bytes:
    header = tarfile.TarInfo(file.name.rstrip("/") or ".")
    header.type, header.mode = (tarfile.DIRTYPE, 0o755) if file.is_folder else (tarfile.REGTYPE, 0o644)
    header.size, header.mtime = size, mtime
    header.uid = header.gid = 1000
    header.uname = header.gname = "asvo"
    return header.tobuf(tarfile.GNU_FORMAT)


# --- Zip ---------------------------------------------------------------------------------------------


class _Recorder:
    """Takes what a zip is written as, and keeps all but the contents of its files."""

    def __init__(self) -> None:
        self.offset = 0
        self.is_content = False
        self.offsets: list[int] = []
        self.texts: list[bytes] = []

    def write(self, data: bytes) -> int:
        if not self.is_content:
            self.offsets.append(self.offset)
            self.texts.append(bytes(data))
        self.offset += len(data)
        return len(data)

    def flush(self) -> None:
        pass


def _zip_runs(archive: Archive, planned: Sequence[Planned]) -> Runs:
    """Return the headers and the directory at the end; the sums in them need one pass over the contents."""
    planned = [file for file in planned if file.name != "./"]
    while any(file.weight for file in planned) and archive.size <= LARGEST_ZIP:
        room = archive.size - _write_zip(archive, planned, [0] * len(planned)).offset
        if room >= 0:
            written = _write_zip(archive, planned, _shares(planned, room))
            return Runs(tuple(written.offsets), tuple(written.texts))
        planned = planned[:-1]
    return Runs()  # No room for an archive, or too much.


def _write_zip(archive: Archive, planned: Sequence[Planned], sizes: Sequence[int]) -> _Recorder:
    recorder = _Recorder()
    with zipfile.ZipFile(recorder, "w") as packed:  # type: ignore[call-overload]
        for file, size in zip(planned, sizes):
            header = zipfile.ZipInfo(file.name, time.gmtime(archive.mtime)[:6])
            header.create_system = 3  # Unix: the upper half is the mode.
            header.external_attr = (0o040755 << 16 | 0x10) if file.is_folder else 0o100644 << 16
            header.file_size = size
            with packed.open(header, "w") as member:
                recorder.is_content = True
                for piece in archive.invented(recorder.offset, recorder.offset + size):
                    member.write(piece)
                recorder.is_content = False
    return recorder
