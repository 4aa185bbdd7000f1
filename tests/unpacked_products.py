"""What a product is, as a file or unpacked: one word for its content, to be compared with a job's archive."""

from __future__ import annotations

import functools
import hashlib
import io
import stat
import tarfile
import time
import zipfile
from pathlib import Path

from mwa_client.sandbox import Job
from mwa_client.sandbox.products import Content

Tree = dict[str, tuple[str, int, int]]
"""The SHA-1, the permissions and the time of each file and folder, by its name; a folder has no SHA-1."""


def content_of(path: Path) -> str:
    """Return what a file or a folder has in it, in a word."""
    if not path.is_dir():
        return _sha1(path.read_bytes())
    tree: Tree = {}
    for file in path.rglob("*"):
        state, name = file.lstat(), file.relative_to(path).as_posix()
        sha1 = _sha1(file.read_bytes()) if stat.S_ISREG(state.st_mode) else ""
        tree[name] = sha1, stat.S_IMODE(state.st_mode), int(state.st_mtime)
    return _word(tree)


def contents_of(job: Job) -> set[str]:
    """Return what the product of a job may be: its archive, and the folder that it becomes."""
    return {job.content.sha1, unpacked_content_of(job)}


def unpacked_content_of(job: Job) -> str:
    """Return what the folder has in it that a job's product becomes; its own where it is no archive."""
    return _unpacked(job.content)


def files_in(job: Job) -> int:
    """Return how many files the product of a job becomes."""
    return max(sum(bool(sha1) for sha1, _, _ in _tree(job.content).values()), 1)


@functools.lru_cache(maxsize=256)
def _unpacked(content: Content) -> str:
    tree = _tree(content)
    return _word(tree) if tree else content.sha1


@functools.lru_cache(maxsize=256)
def _tree(content: Content) -> Tree:
    data = b"".join(content.pieces())
    if not content.runs.offsets:
        return {}
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            return {
                info.filename.rstrip("/"): (
                    "" if info.is_dir() else _sha1(packed.read(info)),
                    info.external_attr >> 16 & 0o775,
                    _time(info),
                )
                for info in packed.infolist()
            }
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {
            member.name.removeprefix("./"): (
                "" if member.isdir() else _sha1(archive.extractfile(member).read()),  # type: ignore[union-attr]
                member.mode & 0o775,
                int(member.mtime),
            )
            for member in archive
            if member.name != "."
        }


def _time(info: zipfile.ZipInfo) -> int:
    return int(time.mktime((*info.date_time, 0, 0, -1)))


def _word(tree: Tree) -> str:
    return _sha1(repr(sorted(tree.items())).encode())


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
