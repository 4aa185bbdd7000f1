"""Rows that change their state together, gathered so that they can be shown as one line."""

from __future__ import annotations

from collections.abc import Iterator

from mwa_client.batch.events import RowName

MOST_SINGLE = 3
"""Rows that are still shown one by one when they change their state together."""


class Gathering:
    """Holds rows back that have come into a state, until it is time to show them."""

    def __init__(self) -> None:
        self._rows: dict[str, list[RowName]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no row is held back."""
        return not self._rows

    def add(self, label: str, row: RowName) -> None:
        """Hold a row back that has come into a state."""
        self._rows.setdefault(label, []).append(row)

    def has(self, row: RowName) -> bool:
        """Say whether an earlier state of a row is still held back."""
        return any(held.job_id == row.job_id for rows in self._rows.values() for held in rows)

    def has_other_than(self, label: str) -> bool:
        """Say whether rows in another state are held back."""
        return any(held != label for held in self._rows)

    def take(self) -> Iterator[tuple[str, list[RowName]]]:
        """Yield each state with its rows, and hold them back no longer."""
        held, self._rows = self._rows, {}
        yield from held.items()
