"""The exit statuses of the command."""

from __future__ import annotations

import enum


class ExitStatus(enum.IntEnum):
    """The exit statuses of the command, for scripts to rely on."""

    COMPLETE = 0
    """Every row is complete and verified (or, for the other modes, done)."""
    FAILED = 1
    """Something else went wrong: no credentials, bad option value, directory not writable."""
    REFUSED = 2
    """The service refused: HTTP error, bad login. (Also a wrong option, by convention.)"""
    BAD_FILE = 3
    """The CSV file is wrong; nothing was sent."""
    JOBS_FAILED = 4
    """Some jobs failed, were cancelled, or lost their product; the others are complete."""
    TRY_AGAIN = 75
    """Not finished: run the same command again."""
    INTERRUPTED = 130
    """Interrupted by Ctrl-C; everything so far is kept."""
    TERMINATED = 143
    """Interrupted by SIGTERM; everything so far is kept."""
