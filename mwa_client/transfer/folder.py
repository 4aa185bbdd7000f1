"""A product that was delivered to a file system which this host can see: copied, never moved.

The copy grows beside the ledger and gets its name at the end; a killed copy is continued. Links are copied
as links, modes are never widened, and a delivery that changes under our hands is not called a product.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from mwa_client.directory.disk import disk_errors, sync_directory, sync_file_system, sync_path
from mwa_client.directory.trees import remove_tree, walk_tree
from mwa_client.errors import TransferFailed
from mwa_client.light_dataclasses import dataclass
from mwa_client.transfer.common import ProgressReporter, Retries, Transfers
from mwa_client.transfer.delivered import Entry, entries_of
from mwa_client.transfer.file_copy import COPY_BLOCK_SIZE, FileCopy, changed
from mwa_client.transfer.files import DownloadDirectory, ExpectedFile, FetchedFile
from mwa_client.transfer.journal import Copied, Journal
from mwa_client.transfer.names import rename_to_free_name, take_other_name
from mwa_client.transfer.part_hash import PartBroken, part_changed
from mwa_client.transfer.standing import Standing, sha1_of, standing_at, standing_of

COPY_SYNC_SIZE = 64 << 20
"""Bytes of one file after which it is flushed to disk: what a power cut can cost."""
FEW_FILES = 100
"""So many files are flushed to disk one by one; for more, the system is asked to write all that it has."""
KEPT = "What was copied is kept: run the same command again to continue."
TRIES = 6
"""Tries in a row to read on where a file system has failed, with waits from 1 s to 1 min between them."""


@dataclass(frozen=True)
class FolderCopier(Transfers):
    """Copies deliveries into a directory. The parameters are those of `Transfers`."""

    def copy(self, expected: ExpectedFile, source: Path) -> tuple[FetchedFile, ...]:
        """Copy a delivered file or folder into the directory under its final name.

        Parameters
        ----------
        expected : ExpectedFile
            The job, the final name, and the size of all files together.
        source : Path
            What was delivered. It is only read.

        Returns
        -------
        tuple of FetchedFile
            The files under the final name.

        Raises
        ------
        TransferFailed
            The source cannot be read, has no files or not the size that the service says, has gone, changes
            while it is copied, or has a link that leads out of it.
        DiskFull, DirectoryUnusable, Stopped
            As for `mwa_client.transfer.download.Downloader.fetch`.
        """
        directory = self.directory
        present = directory.names.made_by(expected.job_id, expected.name)
        if present and standing_of(directory.path, present) is Standing.AS_LEFT:
            # A run that was killed in its last moment may have left something.
            _remove_copy(expected, directory)
            return present
        retries = Retries(self, expected, TRIES, longest_wait=60.0)
        entries = retries.work(lambda: entries_of(source), KEPT)
        _check_size(expected, source, entries)
        with _Copy(self, expected, source, retries) as copying:
            copying.copy_all(entries)
            if retries.work(lambda: entries_of(source), KEPT) != entries:
                raise changed(source)
            return copying.give_final_name(entries)


def _remove_copy(expected: ExpectedFile, directory: DownloadDirectory) -> None:
    with disk_errors(directory.state_dir):
        remove_tree(directory.part(expected.name))
        journal_path(directory, expected.name).unlink(missing_ok=True)


def journal_path(directory: DownloadDirectory, name: str) -> Path:
    """Return where it is noted how far the copy of a folder is."""
    return directory.state_dir / f"{name}.copied"


# --- The source ---------------------------------------------------------------------------------------


def _check_size(expected: ExpectedFile, source: Path, entries: list[Entry]) -> None:
    size = sum(entry.size for entry in entries)
    if expected.size not in (None, size):
        raise TransferFailed(
            f"{source} has {size} bytes, but the service says {expected.size}.",
            "Part of it may have been purged. Check the delivery, and tell the archive's help desk.",
        )


class _Copy:
    """One delivery that is being copied."""

    def __init__(self, transfers: Transfers, expected: ExpectedFile, source: Path, retries: Retries) -> None:
        directory = transfers.directory
        self._transfers = transfers
        self._expected = expected
        self._source = source
        self._directory = directory
        self._target = directory.part(expected.name)
        self._retries = retries
        self._progress = ProgressReporter(transfers, expected, None)
        self._buffer = memoryview(bytearray(COPY_BLOCK_SIZE))
        self._fetched: dict[str, int] = {}
        self._modes: list[tuple[Path, int]] = []
        self._done = 0
        with disk_errors(self._target):
            directory.guard()
            self._journal = Journal(journal_path(directory, expected.name), expected.job_id, source)
            if not self._journal.is_continued:
                remove_tree(self._target)

    def __enter__(self) -> _Copy:
        return self

    def __exit__(self, *exception: object) -> None:
        self._journal.close()

    def copy_all(self, entries: list[Entry]) -> None:
        """Copy what is missing."""
        self._progress.size = sum(entry.size for entry in entries)
        for entry in entries:
            self._directory.guard()
            self._transfers.check_stop()
            if entry.is_file:
                self._copy_file(entry)
            elif entry.target:
                self._copy_link(entry)
            else:
                self._make_folder(entry)
        if self._journal.is_continued:
            self._remove_strays({entry.name for entry in entries})

    def give_final_name(self, entries: list[Entry]) -> tuple[FetchedFile, ...]:
        """Flush the copy to the disk, and give it its final name."""
        with disk_errors(self._target):
            self._sync(entries)
            for entry in entries:
                self._check(entry)
            for path, mode in reversed(self._modes[1:]):
                path.chmod(mode)
            files = self._rename(entries)
            sync_directory(self._directory.path)
            journal_path(self._directory, self._expected.name).unlink(missing_ok=True)
        return files

    def _rename(self, entries: list[Entry]) -> tuple[FetchedFile, ...]:
        """Give the copy its final name, or another where that one is taken; nothing is replaced."""
        expected = self._expected
        while True:
            final = self._directory.path / expected.name
            files = tuple(self._file(final, entry) for entry in entries if entry.is_file)
            self._directory.guard()
            self._directory.names.placing(self._directory.path, expected.job_id, files)
            if rename_to_free_name(self._target, final):
                for _, mode in self._modes[:1]:
                    final.chmod(mode)  # Not before: a folder that is not to be written into cannot be moved.
                return files
            expected = take_other_name(expected, self._directory, self._transfers.listen)

    def _file(self, final: Path, entry: Entry) -> FetchedFile:
        copied, fetched = self._journal.copied(entry), self._fetched.get(entry.name, 0)
        # With the time that was checked: what has been changed since shows by another.
        return FetchedFile(final / entry.name, entry.size, copied.sha1, False, fetched, copied.left_ns)

    def _check(self, entry: Entry) -> None:
        """Raise an error if what was made for an entry is not there any more."""
        path = self._path(entry)
        if entry.is_file:
            is_right = self._has_found(entry)
            if not is_right:
                self._note(entry, 0)  # The next run is to copy it again.
        elif entry.target:
            is_right = Path(path).is_symlink() and str(Path(path).readlink()) == entry.target
        else:
            is_right = Path(path).is_dir() and not Path(path).is_symlink()
        if not is_right:
            raise part_changed(Path(path), "was changed or replaced after it was written")

    def _has_found(self, entry: Entry) -> bool:
        """Look for the copy of a file, and say whether it is there as it was left.

        One of which only the time is another is read, and its time noted: it need not be read once more.
        """
        copied, path = self._journal.copied(entry), self._path(entry)
        if not copied.sha1:
            return False
        standing = standing_at(path, entry.size, copied.left_ns)
        if standing is not Standing.TOUCHED:
            return standing is Standing.AS_LEFT
        try:
            left_ns = os.lstat(path).st_mtime_ns
            if sha1_of(Path(path), self._transfers.stop) != copied.sha1:
                return False
        except OSError:
            return False
        self._note(entry, entry.size, copied.sha1, left_ns, synced=copied.synced)
        return True

    def _path(self, entry: Entry) -> str:
        # As text: a delivery can have twenty thousand files, and a Path is slow to make.
        return f"{self._target}/{entry.name}" if entry.name else str(self._target)

    def _sync(self, entries: list[Entry]) -> None:
        """Flush to the disk every file that is not known to be there."""
        unsynced = [entry for entry in entries if entry.is_file and not self._journal.copied(entry).synced]
        if len(unsynced) > FEW_FILES:
            sync_file_system(self._target)  # One by one, twenty thousand files would take half a minute.
            return
        for path in [*map(self._path, unsynced), *(str(path) for path, _ in self._modes)]:
            with suppress(FileNotFoundError, NotADirectoryError):  # That is found out next.
                sync_path(Path(path))

    # --- One entry ---

    def _make_folder(self, entry: Entry) -> None:
        path = Path(self._path(entry))
        with disk_errors(path):
            # Until the copy is finished we must be able to write there.
            if path.is_dir() and not path.is_symlink():
                path.chmod(stat.S_IMODE(path.lstat().st_mode) | 0o700)
            else:
                path.unlink(missing_ok=True)
                path.mkdir(entry.permissions | 0o700)
            self._modes.append((path, stat.S_IMODE(path.lstat().st_mode) & entry.permissions))

    def _copy_link(self, entry: Entry) -> None:
        path = Path(self._path(entry))
        with disk_errors(path):
            if not (path.is_symlink() and str(path.readlink()) == entry.target):
                remove_tree(path)
                path.symlink_to(entry.target)

    def _copy_file(self, entry: Entry) -> None:
        if not self._has_found(entry):
            try:
                self._retries.work(lambda: self._copy_content(entry), KEPT)
            except PartBroken:
                self._note(entry, 0)
                raise
        self._done += entry.size
        self._progress.report(self._done)

    def _copy_content(self, entry: Entry) -> None:
        """Copy the bytes of a file, from where its copy ends."""
        copied = self._journal.copied(entry)
        with FileCopy(entry, self._source, self._path(entry), 0 if copied.sha1 else copied.count) as file:
            file.catch_up(copied.sha1_so_far, self._transfers.check_stop)
            while count := file.read_into(self._buffer):
                self._directory.guard()
                file.write(self._buffer[:count])
                self._fetched[entry.name] = self._fetched.get(entry.name, 0) + count
                if file.unsynced >= COPY_SYNC_SIZE:
                    file.sync()
                    self._note(entry, file.position, sha1_so_far=file.sha1)
                self._retries.note_progress()
                self._progress.report(self._done + file.position)
                self._transfers.check_stop()
            inode, is_large = file.finish(), entry.size >= COPY_SYNC_SIZE
            if is_large:
                file.sync()
        with disk_errors(self._path(entry)):
            left = os.lstat(self._path(entry))  # Its time is certain once the file is closed.
        if left.st_ino != inode:
            path = Path(self._path(entry))
            raise PartBroken.because(path, "another program replaced it while it was being written")
        self._note(entry, entry.size, file.sha1, left.st_mtime_ns, synced=is_large)

    def _note(
        self,
        entry: Entry,
        count: int,
        sha1: str = "",
        left_ns: int = 0,
        *,
        synced: bool = True,
        sha1_so_far: str = "",
    ) -> None:
        copied = Copied(entry.size, entry.mtime_ns, count, sha1, synced, left_ns, sha1_so_far)
        with disk_errors(self._target):
            self._journal.note(entry.name, copied)

    # --- Small steps ---

    def _remove_strays(self, names: set[str]) -> None:
        """Remove files from the copy that an earlier run copied and the delivery no longer has."""
        with disk_errors(self._target):
            if self._target.is_dir() and not self._target.is_symlink():
                start = len(str(self._target)) + 1
                strays = [one.path for one in walk_tree(self._target) if one.path[start:] not in names]
                for stray in reversed(strays):
                    remove_tree(Path(stray))
