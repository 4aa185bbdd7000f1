"""Beginnings of products whose jobs are lost: nothing can go on from them, and they may be large."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress

from mwa_client.directory.disk import disk_errors
from mwa_client.directory.json_files import json_lines
from mwa_client.directory.trees import remove_tree, tree_size
from mwa_client.errors import DirectoryUnusable
from mwa_client.light_dataclasses import dataclass
from mwa_client.transfer.files import DownloadDirectory
from mwa_client.transfer.folder import journal_path
from mwa_client.transfer.part_file import remove_part
from mwa_client.transfer.part_note import job_of_part
from mwa_client.transfer.unpacking.kept import (
    UnpackPlace,
    read_unpack_note,
    remove_gone,
    remove_unpack_place,
)
from mwa_client.transfer.unpacking.unpacked import remove_unpacking


@dataclass(frozen=True)
class Leftover:
    """The beginning of a product.

    Attributes
    ----------
    name : str
        The product's name.
    job_id : int
        The job that it belongs to.
    size : int
        Bytes on the disk.
    """

    name: str
    job_id: int
    size: int


def remove_leftovers(directory: DownloadDirectory, lost: Collection[int]) -> list[Leftover]:
    """Remove what was fetched for lost jobs and not finished; return what was removed.

    A beginning whose owner cannot be read, or whose name another job has meanwhile, stays. So does one that
    the system does not let us remove.

    Parameters
    ----------
    directory : DownloadDirectory
        Where part files stand.
    lost : collection of int
        Jobs that no row has any more, or whose product the service does not have any more.
    """
    if not lost:
        return []
    removed = []
    for found in list(_leftovers(directory)):
        if found.job_id in lost and directory.names.may_have(found.name, found.job_id):
            with suppress(DirectoryUnusable):
                _remove(directory, found.name)
                removed.append(found)
    return removed


def _leftovers(directory: DownloadDirectory) -> Iterator[Leftover]:
    for path in sorted(directory.state_dir.glob("*.part")):
        name = path.name[: -len(".part")]
        job_id = _job_of_copy(directory, name) if path.is_dir() else job_of_part(path)
        if job_id is not None:
            with suppress(OSError):
                yield Leftover(name, job_id, tree_size(path) if path.is_dir() else path.lstat().st_size)
    for path in sorted(directory.state_dir.glob("*.unpack")):
        note = read_unpack_note(UnpackPlace(path))
        # A folder that has its final name, and is not recorded yet, is taken by the next run.
        if note is not None and (note.final is None or UnpackPlace(path).members.exists()):
            with suppress(OSError):
                yield Leftover(path.name[: -len(".unpack")], note.job_id, tree_size(path))


def _job_of_copy(directory: DownloadDirectory, name: str) -> int | None:
    try:
        header, _ = next(json_lines(journal_path(directory, name)))
    except (OSError, DirectoryUnusable, StopIteration):
        return None
    job_id = header.get("job_id")
    return job_id if isinstance(job_id, int) else None


def _remove(directory: DownloadDirectory, name: str) -> None:
    part = directory.part(name)
    with disk_errors(part):
        directory.guard()
        if part.is_dir() and not part.is_symlink():
            remove_tree(part)
            journal_path(directory, name).unlink(missing_ok=True)
        else:
            remove_part(part, directory.guard)
        remove_unpacking(directory, name, directory.guard)


def remove_finished(
    directory: DownloadDirectory, complete: Callable[[], Collection[tuple[int, str]]]
) -> None:
    """Remove what was kept of products that were unpacked, and whose completion is recorded.

    A kill can leave that behind.

    Parameters
    ----------
    complete : callable
        Returns the job and the name of each folder that is complete; called only where something was left.
    """
    remove_gone(directory.state_dir)
    places = [UnpackPlace(path) for path in directory.state_dir.glob("*.unpack")]
    finished = complete() if places else ()
    for place in places:
        note = read_unpack_note(place)
        if note is not None and note.final is not None and (note.job_id, note.final.name) in finished:
            remove_unpack_place(place, directory.guard)
