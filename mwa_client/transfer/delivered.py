"""Where deliveries to file systems may be copied from: the service names a path, but it does not choose.

A path counts only below a root that deliveries are known to go to, and never where the user's own files are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mwa_client.errors import JobFailed

USUAL_ROOTS = (Path("/scratch"), Path("/data"))
"""Where the service delivers to: ``/scratch/<group>/asvo/<job id>``, ``/data/<group>/asvo/<job id>``."""


@dataclass(frozen=True)
class DeliveryRoots:
    """The folders below which deliveries are found.

    Attributes
    ----------
    roots : tuple of Path
        The folders.
    private : tuple of Path
        Folders that no delivery is ever copied from, nor from one that holds them: the user's home.
    """

    roots: tuple[Path, ...] = USUAL_ROOTS
    private: tuple[Path, ...] = ()

    def check(self, path: str, directory: Path) -> None:
        """Refuse a path that cannot be a delivery.

        Parameters
        ----------
        path : str
            What the service says.
        directory : Path
            The download directory.

        Raises
        ------
        JobFailed
            It is not absolute, not below a root, or where the user's own files are.
        """
        remedy = (
            "If deliveries do go there, name the folder above it in MWA_ASVO_SCRATCH_ROOTS; "
            "else tell the archive's help desk."
        )
        if not _is_plain(path):
            raise JobFailed(
                f"The service says that the product is at {path}, which is no absolute path.", remedy
            )
        # Both ways, for a link on the way must not lead out, nor must "/scratch" itself be one that does.
        written, real = Path(path), Path(os.path.realpath(path))
        roots = [root for root in self.roots if _is_below(written, root)]
        real_roots = [Path(os.path.realpath(root)) for root in roots]
        if not any(_is_below(real, root) for root in real_roots):
            below = ", ".join(map(str, self.roots))
            raise JobFailed(
                f"The service says that the product is at {path}, but deliveries are below {below}.", remedy
            )
        for folder in map(_real, (directory, *self.private)):
            # A root that somebody has put into the folder is meant.
            is_meant = any(_is_below(root, folder) and _is_below(real, root) for root in real_roots)
            if real == folder or real in folder.parents or (_is_below(real, folder) and not is_meant):
                raise JobFailed(
                    f"The service says that the product is at {path}, where your own files are.",
                    "Nothing was copied. Tell the archive's help desk.",
                )

    def is_visible(self, path: str) -> bool:
        """Say whether this host can see a delivered file or folder."""
        return _is_plain(path) and os.access(path, os.R_OK)


def roots_from(words: str, home: str | None) -> DeliveryRoots:
    """Return the usual roots and those that the user names.

    Parameters
    ----------
    words : str
        Folders, separated by colons: ``/astro:/mnt/scratch``.
    home : str or None
        The user's home.

    Raises
    ------
    ValueError
        One of them is not an absolute path, or is the root of all.
    """
    given = tuple(Path(word.strip()) for word in words.split(":") if word.strip())
    for root in given:
        if not _is_plain(str(root)) or root == Path("/"):
            raise ValueError(str(root))
    return DeliveryRoots((*USUAL_ROOTS, *given), _absolute([home]))


def _absolute(folders: Iterable[str | None]) -> tuple[Path, ...]:
    return tuple(Path(folder) for folder in folders if folder and Path(folder).is_absolute())


def _is_plain(path: str) -> bool:
    return path.startswith("/") and "\0" not in path and ".." not in Path(path).parts


def _is_below(path: Path, folder: Path) -> bool:
    return folder in path.parents


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
