"""What programs read: one JSON object a line, with field names that scripts can rely on."""

from __future__ import annotations

import json
import time
from typing import TextIO

from mwa_client.batch.events import (
    CommandRun,
    Complete,
    Event,
    Expected,
    Notice,
    RowFailed,
    RowName,
    StateChanged,
    Submitted,
    Summary,
)
from mwa_client.display.display import Display
from mwa_client.display.printing import NO_LOOKS, Looks
from mwa_client.errors import Interruption, JobFileError, MwaClientError
from mwa_client.formatting import utc
from mwa_client.secrecy import hide_in
from mwa_client.timing import Clock
from mwa_client.transfer.events import FileNotice, Progress
from mwa_client.transfer.files import FetchedFolder

REPORT_INTERVAL = 5.0
"""Seconds between two reports of one download's progress."""


class JsonDisplay(Display):
    """Shows each event as a JSON object on a line; notices for people go to the error stream.

    The fields are a promise: scripts read them.

    Parameters
    ----------
    out : text stream
        Where the JSON goes.
    errors : text stream
        Where notices and warnings go.
    clock : Clock
        The time that each line bears.
    looks : Looks
        How the notices look.
    """

    def __init__(self, out: TextIO, errors: TextIO, clock: Clock, *, looks: Looks = NO_LOOKS) -> None:
        super().__init__(out, errors, clock, looks=looks)
        self._last_progress: dict[tuple[int, str], float] = {}

    def _show(self, event: Event) -> None:
        if isinstance(event, Submitted):
            self._tell("submitted", event.row, found=event.found)
        elif isinstance(event, StateChanged):
            self._tell("state", event.row, state=event.label)
        elif isinstance(event, Progress):
            self._tell_progress(event)
        elif isinstance(event, Complete):
            self._tell_complete(event)
        elif isinstance(event, CommandRun):
            state = "begun" if event.status is None else "ended"
            self._tell("then", event.row, state=state, status=event.status, log=str(event.log))
        elif isinstance(event, Expected):
            self._tell_expected(event)
        elif isinstance(event, RowFailed):
            self.tell_error(event.error, event.row)
        elif isinstance(event, Summary):
            if event.error is not None and not isinstance(event.error, Interruption):
                self.tell_error(event.error)
            self._tell_summary(event)
        elif isinstance(event, (Notice, FileNotice)):
            self.warn(event.text)

    def tell_error(self, error: MwaClientError, row: RowName | None = None) -> None:
        """Tell why a row cannot be completed or, without a row, what has ended everything."""
        if isinstance(error, JobFileError):
            for mistake in error.mistakes:
                about = {"line": mistake.line, "obs_id": None, "job_id": None}
                self._tell("error", None, **about, message=mistake.message, remedy="")
            return
        nobody = {"line": None, "obs_id": None, "job_id": None} if row is None else {}
        self._tell("error", row, **nobody, message=error.what, remedy=error.remedy)

    def _tell_progress(self, event: Progress) -> None:
        now = self._clock.monotonic()
        key = (event.job_id, event.name)
        if (
            key in self._last_progress
            and event.done != event.size
            and now - self._last_progress[key] < REPORT_INTERVAL
        ):
            return
        self._last_progress[key] = now
        self._tell(
            "downloading", self._row_of(event.job_id), file=event.name, bytes=event.done, size=event.size
        )

    def _tell_complete(self, event: Complete) -> None:
        for file in event.files:
            self._tell(
                "complete",
                event.row,
                path=str(file.path),
                size=file.size,
                sha1=file.sha1,
                verified=file.verified,
                here=not event.is_moved,
                from_before=event.from_before,
                **({"files": file.files} if isinstance(file, FetchedFolder) else {}),
                **({"changed": True} if event.is_changed else {}),
            )
        for path in event.elsewhere:
            self._tell(
                "complete",
                event.row,
                path=path,
                size=None,
                sha1=None,
                verified=False,
                here=False,
                from_before=event.from_before,
            )

    def _tell_expected(self, expected: Expected) -> None:
        self._tell(
            "estimate",
            None,
            waiting=expected.waiting,
            known=expected.known,
            first_ready=utc(expected.first),
            last_ready=utc(expected.last),
            first_start=utc(expected.starts),
        )

    def _tell_summary(self, summary: Summary) -> None:
        self._tell(
            "summary",
            None,
            complete=len(summary.complete),
            failed=len(summary.failed),
            pending=len(summary.pending),
            elsewhere=len(summary.elsewhere),
            submitted=len(summary.submitted),
            ready=len(summary.ready),
            unverified=len(summary.unverified),
            bytes=summary.size,
            directory=str(summary.directory),
            exit_status=int(summary.exit_status),
        )

    def _tell(self, event: str, row: RowName | None, **fields: object) -> None:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock.now()))
        about: dict[str, object] = {}
        if row is not None:
            about = {"line": row.line, "obs_id": row.obs_id, "job_id": row.job_id}
            about |= hide_in({"csv": row.source}) if row.source else {}
        self._write(json.dumps({"event": event, "time": when, **about, **hide_in(fields)}) + "\n", self._out)
