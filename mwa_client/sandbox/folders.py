"""Products that are put into a folder instead of downloaded: deliveries to ``scratch`` and ``dug``.

Where a real folder is given they are written, small files with a content of their own.
"""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path

from .jobs import PracticeJob
from .products import Content

ROOTS = {"scratch": "/scratch/practice/asvo", "dug": "/data/practice/asvo"}
"""Folders that this machine does not have; ``practice`` is the user's group."""


class Folders:
    """The folders that deliveries go to. Safe to use from several threads.

    Parameters
    ----------
    root : Path or None
        Write each product into a folder of this one, named after the job's id; None writes nothing.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = None if root is None else root.absolute()
        self._delivered: set[int] = set()
        self._lock = threading.Lock()

    def deliver(self, job: PracticeJob) -> str:
        """Return the path of a job's product. With a root, the product is written there first."""
        if self._root is None:
            return f"{ROOTS.get(job.delivery, ROOTS['scratch'])}/{job.id}"
        folder = self._root / str(job.id)
        with self._lock:
            # Once only, so that a delivery that somebody removed stays removed.
            if job.id not in self._delivered and not folder.exists():
                _write(folder, job)
            self._delivered.add(job.id)
        return str(folder)


def folder_contents(job: PracticeJob) -> dict[str, Content]:
    """Return the files of a delivery, by their paths in its folder; their sizes add up to the product's."""
    half, third = job.size // 2, job.size // 3
    sizes = {"data_1": half, "data_2": third, "header": job.size - half - third}
    # A client chooses these words; they must not decide where files are written.
    inner = re.sub("[^0-9A-Za-z_]", "_", f"{job.obs_id}_{job.kind}")[:100]
    return {f"{inner}/{name}.dat": Content(f"job {job.id} {name}", size) for name, size in sizes.items()}


def _write(folder: Path, job: PracticeJob) -> None:
    # Under another name first, so that a killed run leaves no half of a product.
    draft = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    for name, content in folder_contents(job).items():
        path = draft / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.writelines(content.pieces())
    draft.rename(folder)
