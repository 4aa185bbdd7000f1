"""What follows when a product is complete: the user's command is run for it, once as far as can be known."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

from mwa_client.batch.events import CommandRun, Complete
from mwa_client.batch.rows import Row, Stage
from mwa_client.batch.shell import RUN_AGAIN, ShellCommand, how_it_ended, last_line
from mwa_client.batch.updates import RowUpdates
from mwa_client.batch.workers import Workers
from mwa_client.errors import DiskFull, InternalError, JobFailed, MwaClientError
from mwa_client.light_dataclasses import dataclass

LOGS = "then"
"""The folder of the logs, in that of the ledger."""


@dataclass(frozen=True)
class CommandEnded:
    """What has become of a row's command: an exit status, the signal that ended it, or an error.

    Attributes
    ----------
    is_begun : bool
        It was begun, by this run or by an earlier one that was cut off.
    """

    row: Row
    outcome: int | MwaClientError
    is_begun: bool = True


class Following:
    """Runs the command for the rows whose products are here, a few at a time.

    Parameters
    ----------
    updates : RowUpdates
        Changes the rows, and has the command.
    parallel : int
        Commands at a time.
    inbox : queue.Queue
        Where each `CommandEnded` goes.
    stop : threading.Event
        Set when the work is to stop.
    """

    def __init__(
        self, updates: RowUpdates, parallel: int, inbox: queue.Queue[Any], stop: threading.Event
    ) -> None:
        self._updates = updates
        self._ledger = updates.ledger
        self._parallel = parallel
        self._workers = Workers(parallel, inbox)
        self._stop = stop
        self._failures: dict[int | None, MwaClientError] = {}
        """What has come of the command for jobs for which it has failed in this run."""

    def start(self) -> None:
        """Begin with as many commands as may run at a time; two rows with the same job have one."""
        rows = self._updates.rows
        at_work = {row.job_id for row in rows.at(Stage.FOLLOWED)}
        for row in rows.at(Stage.ARRIVED) if len(at_work) < self._parallel else ():
            if len(at_work) == self._parallel:
                break  # There may be ten thousand more.
            if row.arrived and self._updates.has_followed(row.job_id, row.arrived.fingerprint):
                self._updates.finish(row)
            elif row.job_id in self._failures:
                self._updates.fail(row, self._failures[row.job_id])
            elif row.job_id not in at_work:
                at_work.add(row.job_id)
                self._begin(row)

    def take(self, ended: CommandEnded) -> None:
        """Bring a row to where its command has led.

        Raises
        ------
        DiskFull
            There is no room for what the command says.
        """
        row, outcome = ended.row, ended.outcome
        if not ended.is_begun:
            self._forget(row)
        if isinstance(outcome, DiskFull):
            raise outcome
        if isinstance(outcome, MwaClientError):
            self._fail(row, outcome)
            return
        self._record(row, outcome)
        log = self._log(row)
        self._updates.tell(row, CommandRun(row.name, log, outcome))
        if outcome == 0:
            self._updates.finish(row)
            return
        said = last_line(log)
        what = f"The command of --then {how_it_ended(outcome)}{f': {said}' if said else '.'}"
        self._fail(row, JobFailed(what, f"Look at {log}. {RUN_AGAIN}"))

    def keep(self, ended: CommandEnded) -> None:
        """Keep what has come of a command in the last moments of the run."""
        if isinstance(ended.outcome, int):
            self.take(ended)
        elif not ended.is_begun:
            self._forget(ended.row)

    def finish(self, deadline: float) -> None:
        """Wait until `deadline` for commands to end, and let the guard end those that do not."""
        self._workers.finish(deadline)
        if self._updates.command is not None:
            self._updates.command.close()

    def _begin(self, row: Row) -> None:
        command, result = self._updates.command, row.arrived
        assert command is not None and result is not None
        is_cut_off = self._is_cut_off(row)
        if is_cut_off:
            what = f"The command for job {row.job_id} was cut off when an earlier run ended."
            self._updates.notice(f"{what} It is run again.", is_warning=False)
        self._record(row, None)
        self._updates.tell(row, CommandRun(row.name, self._log(row)))
        row.follow()
        self._workers.give(self._work(row, command, _values_of(row, result), is_cut_off=is_cut_off))

    def _work(
        self, row: Row, command: ShellCommand, values: Mapping[str, Sequence[str]], *, is_cut_off: bool
    ) -> Callable[[], CommandEnded | None]:
        """Return what a worker has to do."""
        log = self._log(row)

        def run() -> CommandEnded | None:
            try:
                status = command.run(values, log, self._stop)
            except MwaClientError as error:
                return CommandEnded(row, error, is_begun=is_cut_off)
            except Exception as error:
                return CommandEnded(row, InternalError.of(error))
            return None if status is None else CommandEnded(row, status)

        return run

    def _is_cut_off(self, row: Row) -> bool:
        known = self._updates.known_command(row)
        return known is not None and known.status is None

    def _record(self, row: Row, status: int | None) -> None:
        command, result = self._updates.command, row.arrived
        assert command is not None and result is not None
        self._ledger.record_command(row.identity, row.job_id or 0, result.fingerprint, command.digest, status)

    def _forget(self, row: Row) -> None:
        """Take back that a command was begun: it could not be."""
        assert row.arrived is not None
        self._ledger.record_no_command(row.identity, row.job_id or 0, row.arrived.fingerprint)

    def _fail(self, row: Row, error: MwaClientError) -> None:
        self._failures[row.job_id] = error
        self._updates.fail(row, error)

    def _log(self, row: Row) -> Path:
        return self._ledger.place.state_dir / LOGS / f"{row.job_id}.log"


def _values_of(row: Row, result: Complete) -> dict[str, tuple[str, ...]]:
    """Return what the placeholders of a command stand for; the paths are absolute, as it may go elsewhere."""
    here = [str(path.absolute()) for path in result.products]
    return {
        "path": (*here, *result.elsewhere),
        "obs_id": (str(row.request.obs_id or ""),),
        "job_id": (str(row.job_id),),
        "line": (str(row.request.line or ""),),
    }
