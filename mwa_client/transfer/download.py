"""A product becomes a verified file, or a verified folder: fetched, checked, and only then renamed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from mwa_client.errors import DiskFull, VerificationFailed
from mwa_client.light_dataclasses import dataclass
from mwa_client.transfer import ranges
from mwa_client.transfer.common import Transfers
from mwa_client.transfer.files import ExpectedFile, FetchedFile
from mwa_client.transfer.names import choose_name, give_final_name, is_tar_name
from mwa_client.transfer.part_file import open_part, remove_part
from mwa_client.transfer.part_filler import PartFiller
from mwa_client.transfer.part_hash import PartBroken
from mwa_client.transfer.unpacking.kept import unpack_place
from mwa_client.transfer.unpacking.members import MemberRefused, NoArchive, UnpackRefused
from mwa_client.transfer.unpacking.unpacked import remove_archive, remove_unpacking, renamed_folder

# What unpacks is imported where it is needed: most downloads must not wait for it.


@dataclass(frozen=True)
class Downloader(Transfers):
    """Downloads products into a directory. The parameters are those of `Transfers`."""

    def fetch(self, expected: ExpectedFile, source: ranges.Source, unpack: bool = False) -> FetchedFile:
        """Bring a product into the directory under its final name, complete and verified.

        A right file that is there already is taken as it is; bytes of an earlier run are continued. Where
        something else stands under that name, `mwa_client.transfer.names.choose_name` decides.

        Parameters
        ----------
        expected : ExpectedFile
            What the file must be.
        source : Source
            Where its bytes come from.
        unpack : bool
            Whether a tar is to become a folder.

        Returns
        -------
        FetchedFile
            The file under its final name, or a `FetchedFolder`. A folder that an earlier run has unpacked and
            not recorded is taken even where `unpack` is false.

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
        UnpackRefused
            It has a member that is not unpacked; it stands there as a file.
        Stopped
            `stop` was set.
        """
        folder = renamed_folder(self.directory, expected)
        if folder is None:
            usual = expected.name
            expected, archive = choose_name(expected, self.directory, self.stop, self.listen)
            if expected.name != usual:
                folder = renamed_folder(self.directory, expected)
        if folder is not None:
            remove_archive(self.directory, expected)
            return folder
        if not unpack or not is_tar_name(expected.name):
            self._give_up_unpacking(expected)
            return self._fetch_file(expected, archive, source)
        return self._fetch_tar(expected, archive, source)

    def _fetch_tar(
        self, expected: ExpectedFile, archive: FetchedFile | None, source: ranges.Source
    ) -> FetchedFile:
        """Fetch a tar, unless it is here, and unpack it, on the way if nothing of it is here as a file."""
        from mwa_client.transfer.unpacking.to_folder import fetch_unpacked, goes_on_as_file

        directory, refused = self.directory, None
        if archive is None and goes_on_as_file(directory, expected):
            self._give_up_unpacking(expected)
        elif archive is None:
            # A part file that an earlier run has begun has nothing that counts, or it would go on as a file.
            remove_part(directory.part(expected.name), directory.guard)
            fetched = fetch_unpacked(self, expected, source)
            if not isinstance(fetched, MemberRefused):
                return fetched
            refused = fetched
        return self.unpack_tar(self._fetch_file(expected, archive, source), expected, refused)

    def unpack_tar(
        self, archive: FetchedFile, expected: ExpectedFile, refused: MemberRefused | None = None
    ) -> FetchedFile:
        """Unpack a tar that stands in the directory, and remove it if it is as we left it.

        Parameters
        ----------
        archive : FetchedFile
            The tar.
        expected : ExpectedFile
            What it was expected to be.
        refused : MemberRefused, optional
            Why it was not unpacked while it came; it may have been damaged on the way.

        Returns
        -------
        FetchedFile
            The folder; or the archive as it is, where it is no tar after all.

        Raises
        ------
        UnpackRefused
            It has a member that is not unpacked; it stays as it is.
        VerificationFailed, DiskFull, DirectoryUnusable, Stopped
            It is not unpacked yet, and stays.
        """
        from mwa_client.transfer.unpacking.to_folder import unpack_tar_file

        directory = self.directory
        expected = replace(expected, name=archive.path.name)
        try:
            folder = unpack_tar_file(archive.path, expected, archive, self)
        except NoArchive:
            return archive
        except MemberRefused as error:
            raise UnpackRefused(error.member, error.why, archive) from None
        except DiskFull:
            if refused is None:
                raise
            # It is most likely not damaged, and then it will never be unpacked, whatever the room.
            remove_unpacking(directory, expected.name, directory.guard)
            raise UnpackRefused(refused.member, refused.why, archive) from None
        remove_archive(directory, expected)
        return folder

    def _give_up_unpacking(self, expected: ExpectedFile) -> None:
        """Make a part file of what a run with ``--unpack`` has left, if one has."""
        if os.path.lexists(unpack_place(self.directory, expected.name).path):
            from mwa_client.transfer.unpacking.to_folder import give_up_unpacking

            give_up_unpacking(self, expected)

    def _fetch_file(
        self, expected: ExpectedFile, present: FetchedFile | None, source: ranges.Source
    ) -> FetchedFile:
        directory = self.directory
        if present is not None:
            # A run that was killed in its last moment may have left something.
            remove_part(directory.part(expected.name), directory.guard)
            return present
        filler = PartFiller(self, expected, source)
        try:
            return self._fetch_once(expected, filler)
        except (VerificationFailed, PartBroken):
            # It was thrown away; once more from zero, in case it was damaged on the way or on the disk.
            return self._fetch_once(expected, filler)

    def _fetch_once(self, expected: ExpectedFile, filler: PartFiller) -> FetchedFile:
        """Fetch what is missing, check the whole, rename."""
        directory = self.directory
        with open_part(directory.part(expected.name), expected, self.stop, directory.guard) as part:
            sha1 = filler.complete(part)
            verified = expected.sha1 is not None
            file = FetchedFile(directory.path / expected.name, part.length, sha1, verified, filler.received)

            def rename(path: Path, mtime_ns: int) -> Path:
                nonlocal file
                file = replace(file, mtime_ns=mtime_ns)
                file = give_final_name(path, expected, file, directory, self.listen)
                return file.path

            part.finish(rename)
            return file
