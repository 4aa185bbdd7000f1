"""What a transfer tells while it is under way."""

from __future__ import annotations

from typing import Union

from mwa_client.light_dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How many bytes of a file are here.

    Attributes
    ----------
    done : int
        Bytes so far.
    size : int or None
        Bytes in all, where that is known.
    """

    job_id: int
    name: str
    done: int
    size: int | None


@dataclass(frozen=True)
class Setback:
    """A transfer failed and will be tried again after a wait; told once until bytes arrive again."""

    job_id: int
    name: str
    reason: str
    waiting: float


@dataclass(frozen=True)
class FileNotice:
    """A message for the user about one product: a file that was renamed or kept."""

    job_id: int
    name: str
    text: str


TransferEvent = Union[Progress, Setback, FileNotice]
