"""Which rows of a job file are whose, where several clients share them (``--part K/N``)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mwa_client.directory.part import Part
from mwa_client.errors import SettingsError
from mwa_client.jobs.request import JobRequest
from mwa_client.jobs.text import excerpt
from mwa_client.light_dataclasses import dataclass

RIGHT_FORM = (
    "It must be K/N, part K of N, with K from 1 to N or from 0 to N-1: 0/4 is the same part as 4/4. In a "
    "Slurm array: --part=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT, which only the tasks of an array "
    "have; they must be numbered from 0 or 1 without gaps."
)


@dataclass(frozen=True)
class Share:
    """One of so many equal shares of a batch.

    Any N numbers in a row name every share once, because 0 and N name the same one. So nobody has to say
    whether the tasks of an array are counted from 0 or from 1.

    Attributes
    ----------
    number, of : int
        It is the share of this number, counted from 1, of so many.
    """

    number: int
    of: int

    @classmethod
    def read(cls, text: str) -> Share:
        """Read ``K/N``.

        Raises
        ------
        SettingsError
            It is no share.

        Examples
        --------
        >>> Share.read("0/4") == Share.read("4/4") == Share(4, 4)
        True
        """
        found = re.fullmatch(r"\s*([0-9]{1,6})\s*/\s*([0-9]{1,6})\s*", text)
        number, of = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 0 <= number <= of or of == 0:
            raise SettingsError(f"--part={excerpt(text)} is not a part.", RIGHT_FORM)
        return cls(number or of, of)

    @property
    def is_all(self) -> bool:
        """Whether it is the only one."""
        return self.of == 1

    def part(self, jobs: Iterable[JobRequest]) -> Part:
        """Return which observations of these jobs are this share's.

        It depends on the set of the observations alone: not on the order of the rows, nor on how many there
        are of each observation.
        """
        observations = sorted({job.obs_id for job in jobs})
        return Part(self.number, self.of, frozenset(observations[self.number - 1 :: self.of]))
