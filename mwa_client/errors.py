"""What can go wrong, in one family: each error says what happened, what to do, and its exit status."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable

from mwa_client.exit_status import ExitStatus as ExitStatus
from mwa_client.formatting import printable
from mwa_client.light_dataclasses import dataclass


class MwaClientError(Exception):
    """Base of every error that this package raises on purpose.

    Parameters
    ----------
    what : str
        What happened, in words for the user; never with a credential in it.
    remedy : str, optional
        What the user can do about it.
    """

    exit_status = ExitStatus.FAILED

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    @property
    def lines(self) -> tuple[str, ...]:
        """What happened and what to do, a line for each; a line break inside of one is none of ours."""
        return (self.what, self.remedy) if self.remedy else (self.what,)

    @property
    def final_lines(self) -> tuple[str, ...]:
        """Its lines as the command prints them when it ends: they begin with who says it."""
        first, *more = self.lines
        return (f"mwa_client: {first}", *more)

    def __str__(self) -> str:
        return "\n".join(map(printable, self.lines))

    def __reduce__(self) -> tuple[object, ...]:
        # Not by way of __init__, whose parameters differ: errors cross processes in a pool of workers.
        return _as_it_was, (type(self), self.args, self.__dict__)

    def reword(self, words: Callable[[str], str]) -> None:
        """Say the same in other words, given by a function from each text to its new form."""
        self.what, self.remedy = words(self.what), words(self.remedy)
        self.args = (self.what, self.remedy)


class MwaClientWarning(UserWarning):
    """Something that a Python program should know, and that stops nothing."""


def _as_it_was(
    kind: type[MwaClientError], args: tuple[object, ...], attributes: dict[str, object]
) -> MwaClientError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class InternalError(MwaClientError):
    """Something that nobody expected: a mistake in this program. It names the place and no values."""

    @classmethod
    def of(cls, error: BaseException) -> MwaClientError:
        """Return the error for what was raised, with the place for a report."""
        if isinstance(error, MemoryError):  # That is no mistake, and can come anywhere.
            return OutOfMemory()
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return OutOfDescriptors()  # Nor is that: even a module that is imported late needs one.
        places = list(_places(error)) or [(Path("an unknown place"), 0)]
        ours = [place for place in places if Path(__file__).parent in place[0].parents] or places
        # Where the mistake is in a library, or in what it was given, our own last step says more.
        by_way = "" if ours[-1] == places[-1] else f" It was called from {_words_for(*ours[-1])}."
        return cls(
            f"internal error: {type(error).__name__} in {_words_for(*places[-1])}.",
            f"Please report it.{by_way} Everything so far is kept: run the same command again to continue.",
        )


class OutOfMemory(MwaClientError):
    """The system has no more memory for this program."""

    def __init__(self) -> None:
        super().__init__(
            "The system has no more memory for this program.",
            "Raise the limit (ulimit -v, or the batch system's), or do less at a time: --parallel 1 "
            "--connections 1. Everything so far is kept: run the same command again to continue.",
        )


def _words_for(file: Path, line: int) -> str:
    return f"{file.name}, line {line}"


def _places(error: BaseException) -> Iterator[tuple[Path, int]]:
    step = error.__traceback__
    while step is not None:
        yield Path(step.tb_frame.f_code.co_filename), step.tb_lineno
        step = step.tb_next


# --- Before anything is sent -------------------------------------------------------------------------


class SettingsError(MwaClientError):
    """An option or an environment variable has a value that cannot be used."""


class CredentialsMissing(SettingsError):
    """No user name and password (or key) were given."""

    @property
    def lines(self) -> tuple[str, ...]:
        """What is missing, and how to set it, with examples on lines of their own."""
        return (self.what, *self.remedy.split("\n"))


class ResultLost(MwaClientError):
    """What was asked for could not be written to standard output."""

    @classmethod
    def of(cls, error: Exception) -> ResultLost:
        """Return the error for what was raised by writing."""
        reason = getattr(error, "strerror", None) or "it is closed"
        lost = cls(f"Cannot write to standard output ({reason.lower()}).")
        lost.is_told = not isinstance(error, BrokenPipeError)
        return lost

    is_told = True
    """False where a reader has read enough and gone (``| head``): that is no news to anybody."""

    @property
    def final_lines(self) -> tuple[str, ...]:
        """What happened, unless nobody wants to know."""
        return super().final_lines if self.is_told else ()


class DirectoryUnusable(MwaClientError):
    """The download directory cannot be made, read or written."""


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong in a job file.

    Attributes
    ----------
    line : int
        Line number, from 1.
    message : str
        Key, value and what would be right: ``freqres=ten: must be a whole number of kHz, 1 or more``.
    source : str
        The job file, where there are several.
    """

    line: int
    message: str
    source: str = ""


MOST_MISTAKES_SHOWN = 20
"""Mistakes that a message lists; the others are counted."""


class JobFileError(MwaClientError):
    """A job file has mistakes; all of them are in `mistakes`, in order of their lines."""

    exit_status = ExitStatus.BAD_FILE

    def __init__(self, source: str, mistakes: Sequence[Mistake]) -> None:
        self.source = source
        files = list(dict.fromkeys(mistake.source for mistake in mistakes))
        self.mistakes = tuple(sorted(mistakes, key=lambda each: (files.index(each.source), each.line)))
        shown = self.mistakes[:MOST_MISTAKES_SHOWN]
        lines = [f"{mistake.source or source}:{mistake.line}: {mistake.message}" for mistake in shown]
        if rest := len(self.mistakes) - len(shown):
            lines.append(f"... and {rest} more {'mistake' if rest == 1 else 'mistakes'}")
        # The last line is the one that the first client printed; scripts look for it.
        lines.append(f"Error: {shown[0].message}, Line num: {shown[0].line}")
        self._lines = tuple(lines)
        super().__init__("\n".join(lines))

    @property
    def lines(self) -> tuple[str, ...]:
        """The mistakes, a line for each."""
        return self._lines

    final_lines = lines  # As compilers print them: file, line, mistake.

    def reword(self, words: Callable[[str], str]) -> None:
        """Say the same in other words."""
        super().reword(words)
        self._lines = tuple(map(words, self._lines))


# --- The service -------------------------------------------------------------------------------------


class ServiceError(MwaClientError):
    """The service, or the way to it, is at fault."""

    exit_status = ExitStatus.REFUSED


class ServiceRefused(ServiceError):
    """The service said no, and would say no again.

    Attributes
    ----------
    status : int or None
        The HTTP status.
    body : object
        What the service sent with it: parsed JSON, or text.
    is_own : bool
        Whether it looks like the service's own, and not like a front end's, which may be gone the next time.
    """

    def __init__(
        self,
        what: str,
        remedy: str = "",
        *,
        status: int | None = None,
        body: object = None,
        is_own: bool = True,
    ) -> None:
        super().__init__(what, remedy)
        self.status = status
        self.body = body
        self.is_own = is_own


class NotCancelled(ServiceRefused):
    """Some of the jobs that were to be cancelled could not be; `refusals` holds a line for each reason."""

    def __init__(self, refusals: Sequence[str]) -> None:
        self.refusals = tuple(f"Not cancelled: {refusal}" for refusal in refusals)
        super().__init__("\n".join(self.refusals))

    @property
    def lines(self) -> tuple[str, ...]:
        """The reasons."""
        return self.refusals


class LoginRefused(ServiceRefused):
    """The credentials were not accepted."""


class WrongInterface(ServiceRefused):
    """The server does not speak the interface that it was asked in (404 or 405 at the login)."""


class ServiceMoved(WrongInterface):
    """Nobody answers at the address that the service had in 2018."""


class SessionLost(ServiceRefused):
    """The session has expired; logging in again mends it."""


class ServiceUnavailable(ServiceError):
    """No usable answer this time: no connection, a time-out, a 5xx, a reply that makes no sense.

    Waiting may help. Whether a request was acted on is not known.

    Attributes
    ----------
    retry_after : float or None
        Seconds that the service asks to wait.
    """

    def __init__(self, what: str, remedy: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(what, remedy)
        self.retry_after = retry_after


class ServiceUnreachable(ServiceUnavailable):
    """Nobody answers at the address: no such host, connection refused, no route, no way through a proxy."""


class ServiceOutage(ServiceUnavailable):
    """The service takes no jobs at present, whatever they are; the one that was sent was not made."""


class JobLimitReached(ServiceUnavailable):
    """The user has as many jobs as the service allows; the one that was sent was not made."""


class BadReply(ServiceUnavailable):
    """The answer is not what it should be: HTML, broken JSON, a missing field."""


class LinkNotRenewed(ServiceUnavailable):
    """The service gives no new link for a product at present; to wait is its wish, not that of the store."""


class JobNotNamed(BadReply):
    """The service has this job already, but does not give its job id."""


class JobDiffers(ServiceRefused):
    """The service takes a job for the same that was asked for something else; it was not attached to."""


# --- One row -----------------------------------------------------------------------------------------


class JobFailed(MwaClientError):
    """One job cannot be completed; the others continue."""

    exit_status = ExitStatus.JOBS_FAILED


class TransferFailed(JobFailed):
    """A product could not be fetched; its part file is kept for the next run."""


class ProductGone(JobFailed):
    """The product is no longer on the server (404, 410)."""


class VerificationFailed(JobFailed):
    """A product arrived with a wrong size or SHA-1, twice; it was thrown away."""


# --- Not finished ------------------------------------------------------------------------------------


class NotFinished(MwaClientError):
    """Not finished: running the same command again continues from here."""

    exit_status = ExitStatus.TRY_AGAIN


class DiskFull(NotFinished):
    """There is no room left (or no quota) in the download directory; what was fetched is kept."""


class DirectoryBusy(NotFinished):
    """Another client is working in the download directory."""


class Stopped(NotFinished):
    """The work was told to stop; what was fetched is kept."""


class Interruption(NotFinished):
    """The user or the system has ended the run early: Ctrl-C, SIGTERM."""

    def __init__(self, what: str = "", exit_status: ExitStatus = ExitStatus.INTERRUPTED) -> None:
        super().__init__(
            what or "Interrupted. Everything so far is kept: run the same command again to continue."
        )
        self.exit_status = exit_status

    final_lines = MwaClientError.lines  # It is no error of anybody.


def ending_of(raised: BaseException) -> MwaClientError:
    """Return what has ended a run early, as one of our own errors."""
    if isinstance(raised, MwaClientError):
        return raised
    if isinstance(raised, Exception):
        return InternalError.of(raised)
    # A signal, which the command raises as an exception with the exit status that it means.
    return Interruption(str(raised), getattr(raised, "exit_status", ExitStatus.INTERRUPTED))


# --- No more open files ------------------------------------------------------------------------------


class OutOfDescriptors(MwaClientError):
    """The system lets this program open no more files and connections; with fewer at a time it may go on."""

    def __init__(self) -> None:
        super().__init__(
            "This program cannot open any more files or connections.",
            "Raise the limit (ulimit -n 256, or the batch system's). Everything so far is kept: run the same "
            "command again to continue.",
        )


class NoFileOpened(OutOfDescriptors, DirectoryUnusable):
    """A file could not be opened for want of descriptors."""


class NoConnectionOpened(OutOfDescriptors, ServiceUnreachable):
    """A connection could not be opened for want of descriptors; nobody was asked anything."""

    exit_status = ExitStatus.FAILED
