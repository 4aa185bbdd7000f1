"""The user's command in the shell: it is run with a log, and ended with this program."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path

from mwa_client.asvo.job import clean_text
from mwa_client.asvo.variables import without_secrets
from mwa_client.directory.disk import disk_errors
from mwa_client.directory.our_files import open_ours, state_directory
from mwa_client.errors import JobFailed
from mwa_client.light_dataclasses import dataclass
from mwa_client.threads import has_started

SHELL = "/bin/sh"
LOOK_INTERVAL = 0.2
"""Seconds after which it is noticed that the work is to stop."""
TIME_TO_STOP = 0.7
"""Seconds that a command has to end when this program ends; then the guard waits for it instead."""
TIME_TO_DIE = 15.0
"""Seconds to wait for the processes of a command that an earlier run has begun."""
TAIL, MOST_OF_LINE = 4096, 300
"""Bytes at the end of a log in which its last line is looked for, and characters of it that are shown."""
GUARD_SCRIPT = """\
trap '' HUP INT TERM
exec 3<&0
{
    groups=
    while read -r sign group; do
        if [ "$sign" = + ]; then groups="$groups $group"; continue; fi
        left=
        for each in $groups; do [ "$each" = "$group" ] || left="$left $each"; done
        groups=$left
    done <&3
    [ -n "$groups" ] || exit 0
    for each in $groups; do kill -s TERM -- "-$each" 2>/dev/null; done
    sleep 3
    for each in $groups; do kill -s KILL -- "-$each" 2>/dev/null; done
} &
"""
"""Ends the process groups that it was told of when nobody can tell it any more: this program has ended."""
BEGIN_SCRIPT = """\
trap '' PIPE
echo "+ $$" >&0 2>/dev/null
trap - PIPE
exec </dev/null
exec "$0" -c "$1"
"""
"""Tells the guard of its own process group, and becomes the command; nothing can come in between."""


class Guard:
    """A process of the shell that outlives this program, if only just, and ends the commands that are left.

    Nothing else can end them when this program is killed without a warning.
    """

    def __init__(self) -> None:
        self._pipe: int | None = None
        self._lock = threading.Lock()

    def start(self, command: str, output: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a command of the shell in a process group of its own, which ends with this program.

        Parameters
        ----------
        command : str
            The command.
        output : int
            The open file that its output goes to.
        environment : mapping
            Its environment variables.

        Raises
        ------
        OSError, ValueError
            It cannot be started.
        """
        with self._lock:
            if self._pipe is None:
                self._pipe = _start_guard()
            # It tells the guard itself: if it were told from here, a kill in between would leave the command.
            words = [command] if self._pipe is None else [BEGIN_SCRIPT, SHELL, command]
            return subprocess.Popen(
                [SHELL, "-c", *words],
                stdin=subprocess.DEVNULL if self._pipe is None else self._pipe,
                stdout=output,
                stderr=output,
                env=dict(environment),
                start_new_session=True,  # A Ctrl-C in the terminal reaches this program alone.
            )

    def forget(self, group: int) -> None:
        """Leave a process group alone from now on."""
        with self._lock:
            if self._pipe is not None:
                with suppress(OSError):  # Somebody has killed it; the commands go on without.
                    os.write(self._pipe, f"- {group}\n".encode())

    def close(self) -> None:
        """Let the guard end what is left, and end itself."""
        with self._lock:
            if self._pipe is not None:
                os.close(self._pipe)
            self._pipe = None


def _start_guard() -> int | None:
    """Start the guard, and return the pipe through which it is told; when that is closed, it acts."""
    read_end = write_end = -1
    try:
        read_end, write_end = os.pipe()
        subprocess.run(
            [SHELL, "-c", GUARD_SCRIPT],
            stdin=read_end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):  # No process is to be had: the commands go on without.
        if write_end >= 0:
            os.close(write_end)
        return None
    finally:
        if read_end >= 0:
            os.close(read_end)
    return write_end


@dataclass(frozen=True)
class ShellCommand:
    """A command that is run for each product.

    Attributes
    ----------
    template : str
        The command as the user has written it.
    environment : mapping
        Its environment variables.
    """

    template: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    _guard: Guard = field(default_factory=Guard, repr=False, compare=False)

    @classmethod
    def of(cls, template: str | None, environment: Mapping[str, str]) -> ShellCommand | None:
        """Return what the user wants to be run in this environment; what lets somebody in is taken out of it.

        Raises
        ------
        SettingsError
            The command is one of those that `check_command` refuses.
        """
        if template is None:
            return None
        from mwa_client.batch.command_text import check_command  # Most runs have no need of it.

        check_command(template)
        return cls(template, without_secrets(environment))

    @property
    def digest(self) -> str:
        """What tells it from another command; the command itself may hold what nobody else should read."""
        return hashlib.sha256(self.template.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def run(self, values: Mapping[str, Sequence[str]], log: Path, stop: threading.Event) -> int | None:
        """Run it for one product, and wait for it.

        Parameters
        ----------
        values : mapping
            What each placeholder of its text stands for.
        log : Path
            The file that its output goes to.
        stop : threading.Event
            Set when it is to be ended.

        Returns
        -------
        int or None
            Its exit status, or the signal that has ended it as a negative number; None: it was cut off,
            because the work is to stop.

        Raises
        ------
        DiskFull, DirectoryUnusable, OutOfDescriptors
            The log cannot be written.
        JobFailed
            It cannot be started, or processes of an earlier run are still at it, or the work is to stop.
            With this and the errors above, it was not begun.
        """
        from mwa_client.batch.command_text import fill_in

        output = _open_log(log, stop)
        try:
            if stop.is_set():
                raise JobFailed("The work was to stop before the command was begun.", RUN_AGAIN)
            process = self._guard.start(fill_in(self.template, values), output, self.environment)
        except (OSError, ValueError) as error:
            raise JobFailed(f"The command cannot be started: {error}.", RUN_AGAIN) from error
        finally:
            os.close(output)
        is_over = False
        try:
            status = _wait(process, stop)
            is_over = not stop.is_set()
            return None if status is None or (status and stop.is_set()) else status
        finally:
            if is_over or _end(process):
                self._guard.forget(process.pid)
            else:  # The guard ends it; this only takes note of it.
                has_started(threading.Thread(target=process.wait, daemon=True))

    def close(self) -> None:
        """End what is left of the commands that were cut off."""
        self._guard.close()


RUN_AGAIN = "Run the same command again: the product stays, and only the command is run again."


def _wait(process: subprocess.Popen[bytes], stop: threading.Event) -> int | None:
    """Return the exit status of a process; None where the work is to stop."""
    while not stop.is_set():
        with suppress(subprocess.TimeoutExpired):
            return process.wait(LOOK_INTERVAL)
    return process.poll()


def _end(process: subprocess.Popen[bytes]) -> bool:
    """Ask the processes of a command to end, and say whether all have done so in the time that there is."""
    deadline = time.monotonic() + TIME_TO_STOP
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.02)
        return False
    process.poll()
    return True


def _open_log(path: Path, stop: threading.Event) -> int:
    """Make the log of a command, or empty it, once no process of an earlier run can write into it.

    The lock belongs to the open file, which the command and its processes have in common: it is free when
    the last of them has ended, whatever has become of the client that began them.
    """
    with disk_errors(path):
        state_directory(path.parent)
        output = open_ours(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            deadline = time.monotonic() + TIME_TO_DIE
            while not _is_locked(output):
                if time.monotonic() > deadline or stop.wait(LOOK_INTERVAL):
                    raise JobFailed(
                        "An earlier run has begun the command, and its processes are still at work.",
                        f"Wait for them, or end them; they write to {path}. Then run the same command again.",
                    )
            os.ftruncate(output, 0)
        except BaseException:
            os.close(output)
            raise
    return output


def _is_locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # This file system has no locks: then nobody can tell.
    return True


def how_it_ended(status: int) -> str:
    """Return how a command ended, in words."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was ended by the signal {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by the signal {-status}"


def last_line(log: Path) -> str:
    """Return the last line of a log that is not empty; an empty text where there is none."""
    try:
        handle = open_ours(log, os.O_RDONLY)
        with os.fdopen(handle, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - TAIL, 0))
            lines = file.read(TAIL).decode("utf-8", "replace").split("\n")
    except Exception:  # It is only for people to read.
        return ""
    return next((clean_text(line, MOST_OF_LINE) for line in reversed(lines) if clean_text(line)), "")
