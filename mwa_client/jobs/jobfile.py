"""A job file: read it, turn its rows into jobs or report every mistake in it, and say what it asks for.

Each row is a job, each cell ``key=value``; the keys are in `mwa_client.jobs.key_table`.
"""

from __future__ import annotations

import itertools
import select
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from mwa_client.errors import JobFileError, Mistake, SettingsError
from mwa_client.formatting import printable
from mwa_client.jobs.beginning import LINES_LOOKED_AT, wrong_beginning
from mwa_client.jobs.keys import ApiVersion, JobType
from mwa_client.jobs.obs_ids import rows_for
from mwa_client.jobs.request import JobRequest
from mwa_client.jobs.rowcheck import CheckedRow
from mwa_client.jobs.table import Table
from mwa_client.jobs.text import NO_FILE, rows_of
from mwa_client.jobs.wording import count, in_words, no_counterpart, said_once
from mwa_client.light_dataclasses import dataclass

READ_BLOCK = 1 << 17
"""Bytes that are read together."""
MOST_FILE_BYTES = 64 << 20
"""Bytes of the longest job file that is accepted: a hundred thousand rows with all keys have less."""
STANDARD_INPUT = "standard input"
"""What messages call it."""
HOW_TO_NAME_IT = "Give the job file with --csv=FILE."
"""What to do where there is none of that name."""
MOST_FILES_NAMED = 3
"""Names of files that a message repeats."""
MOST_REPEATED = 20
"""Rows that ask for what another row asks for, after which the others are counted."""
MOST_MISTAKES = 10_000
"""Mistakes after which no more are looked for: nobody reads them, and they take memory."""


@dataclass(frozen=True)
class JobFile:
    """A job file without mistakes.

    Attributes
    ----------
    source : str
        Name of the file, for messages.
    jobs : tuple of JobRequest
        The jobs in order of their lines; of rows that ask for the same thing, the first.
    warnings : tuple of str
        What the user should know: ``jobs.csv:12: asks for the same as line 3; they are one job``.
    """

    source: str
    jobs: tuple[JobRequest, ...]
    warnings: tuple[str, ...] = ()


def read_file(path: str | Path, api: ApiVersion, *, stdin: BinaryIO | None = None) -> JobFile:
    """Read a job file.

    Parameters
    ----------
    path : str or Path
        The file; ``-`` is standard input.
    api : ApiVersion
        The interface that the jobs are for.
    stdin : binary stream, optional
        What to read for ``-`` in place of the process's standard input.

    Returns
    -------
    JobFile
        The jobs and warnings.

    Raises
    ------
    SettingsError
        The file cannot be read.
    JobFileError
        The file has mistakes; the error holds all of them.
    """
    data, source = read_bytes(path, stdin=stdin)
    return parse(data, api, source)


def read_bytes(
    path: str | Path, *, stdin: BinaryIO | None = None, remedy: str = HOW_TO_NAME_IT
) -> tuple[bytes, str]:
    """Return the content of a job file, and its name for messages.

    Parameters
    ----------
    path : str or Path
        The file; ``-`` is standard input.
    stdin : binary stream, optional
        What to read for ``-`` in place of the process's standard input.
    remedy : str, optional
        What to do where it cannot be read.

    Raises
    ------
    SettingsError
        The file cannot be read.
    JobFileError
        The file is longer than any job file; it may be endless.
    """
    try:
        if str(path) == "-":
            return _read_bounded(stdin or sys.stdin.buffer, STANDARD_INPUT), STANDARD_INPUT
        # It may be a pipe, as a shell's <(command) is.
        with Path(path).open("rb") as file:
            return _read_bounded(file, str(path)), str(path)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise SettingsError(f"cannot read {printable(str(path))}: {reason}", remedy) from error


def _read_bounded(file: BinaryIO, source: str) -> bytes:
    data = bytearray()
    # A pipe that another program has set not to block gives what it has, or None where that is nothing yet.
    while len(data) <= MOST_FILE_BYTES and (block := file.read(READ_BLOCK)) != b"":
        if block is None:
            select.select([file], [], [])
        else:
            data += block
    if len(data) > MOST_FILE_BYTES:
        raise JobFileError(
            source, [Mistake(1, f"more than {MOST_FILE_BYTES >> 20} MB; no job file is that long")]
        )
    return bytes(data)


def parse(data: bytes | str, api: ApiVersion, source: str = "jobs.csv") -> JobFile:
    """Turn the text of a job file into jobs.

    Parameters
    ----------
    data : bytes or str
        The text; bytes are UTF-8, with or without a byte order mark.
    api : ApiVersion
        The interface that the jobs are for.
    source : str
        Name of the file, for messages.

    Returns
    -------
    JobFile
        The jobs and warnings.

    Raises
    ------
    JobFileError
        The text has mistakes; the error holds all of them.

    Examples
    --------
    >>> parse("obs_id=1191828584, job_type=d, download_type=vis", ApiVersion.V2).jobs[0].identity
    'job_type=d obs_id=1191828584'
    """
    return parse_files([(data, source)], api)


def parse_files(
    files: Sequence[tuple[bytes | str, str]], api: ApiVersion, template: Sequence[str] = ()
) -> JobFile:
    """Turn the texts of several job files into the jobs of one.

    Parameters
    ----------
    files : sequence of (bytes or str, str)
        Each file's text, as `parse` takes it, and its name.
    api : ApiVersion
        The interface that the jobs are for.
    template : sequence of str
        Rows without ``obs_id``; then the files are lists of obs_ids, and the rows are for each of them.

    Returns
    -------
    JobFile
        The jobs and warnings; rows of two files that ask for the same thing are one job.

    Raises
    ------
    JobFileError
        The texts have mistakes; the error holds all of them.
    """
    parsing = _Parsing(api, template)
    for data, source in files:
        parsing.add(data, source, "" if len(files) == 1 else source)
    names = [source for _, source in files]
    source = in_words(names) if len(names) <= MOST_FILES_NAMED else f"{len(names)} job files"
    if parsing.mistakes:
        raise JobFileError(source, parsing.mistakes)
    return JobFile(source, tuple(parsing.jobs.values()), parsing.warnings)


class _Parsing:
    """What has been read of the job files so far.

    Attributes
    ----------
    jobs : dict of str to JobRequest
        The jobs, by what the interface is asked for.
    mistakes : list of Mistake
        Everything that is wrong, in the order of the files.
    """

    def __init__(self, api: ApiVersion, template: Sequence[str]) -> None:
        self.api = api
        self._template = template
        self.jobs: dict[str, JobRequest] = {}
        self.mistakes: list[Mistake] = []
        self._said: list[tuple[int, int, str]] = []
        self._said_once: dict[str, list[tuple[int, int, str]]] = {}
        self._files = self._repeated = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know, each thing once, in the order of the files."""
        once = [
            (*places[0][:2], f"{places[0][2]}: {said_once(message, len(places))}")
            for message, places in self._said_once.items()
        ]
        return tuple(text for _, _, text in sorted(self._said + once))

    def add(self, data: bytes | str, name: str, source: str) -> None:
        """Read a file.

        Parameters
        ----------
        data : bytes or str
            Its text.
        name : str
            Its name.
        source : str
            Its name again, where a line's number alone does not say which line it is.
        """
        self._files += 1
        mistakes: list[Mistake] = []
        has_rows = False
        for line, row in self._rows(data, name, mistakes):
            has_rows = True
            if len(self.mistakes) + len(mistakes) >= MOST_MISTAKES:
                room = max(MOST_MISTAKES - len(self.mistakes), 0)
                mistakes[room:] = [Mistake(line, "too many mistakes; the rest was not read")]
                break
            mistakes += [Mistake(line, message) for message in row.mistakes]
            for message in (*row.warnings, *map(no_counterpart, row.dropped)):
                self._warn_once(message, line, name)
            job = row.request(line)
            if job is not None:
                self._take(replace(job, source=source), name)
        if not has_rows and not mistakes:
            what = f"no {'obs_ids' if self._template else 'jobs'} in {name}"
            mistakes.append(Mistake(1, "no rows were given" if name == NO_FILE else what))
        self.mistakes += [replace(each, source=each.source or source) for each in mistakes]

    def _rows(
        self, data: bytes | str, name: str, mistakes: list[Mistake]
    ) -> Iterator[tuple[int, CheckedRow]]:
        """Yield line and content of each row, whichever kind of file it is."""
        if self._template:
            yield from rows_for(data, self._template, self.api, mistakes)
            return
        lines = rows_of(data, mistakes)
        beginning = list(itertools.islice(lines, LINES_LOOKED_AT))
        lines = itertools.chain(beginning, lines)
        table = Table.from_header(*beginning[0]) if beginning else None
        if table is not None and len(table.names) == len(beginning) == 1:
            table = None  # Somebody began to write a row.
        file = "-" if name == STANDARD_INPUT else name
        wrong = wrong_beginning(beginning, data, file, table, self.api)
        if wrong:
            mistakes += wrong
        elif table is not None:
            yield from table.rows(lines, self.api, mistakes)
        else:
            yield from ((line, CheckedRow.from_text(text, self.api)) for line, text in lines)

    def _take(self, job: JobRequest, name: str) -> None:
        first = self.jobs.setdefault(job.identity_on(self.api), job)
        if first is job:
            return
        self._repeated += 1
        if self._repeated > MOST_REPEATED:
            self._warn_once("asks for the same as an earlier row, too; they are one job", job.line, name)
        else:
            where = f"line {first.line}" if first.source == job.source else first.place
            what = f"asks for the same as {where}; they are one job"
            self._said.append((self._files, job.line, f"{name}:{job.line}: {what}"))

    def _warn_once(self, message: str, line: int, name: str) -> None:
        self._said_once.setdefault(message, []).append((self._files, line, f"{name}:{line}"))


def parse_row(row: str | Mapping[str, object], api: ApiVersion) -> JobRequest:
    """Turn one row, as text or as keys and values, into a job.

    Parameters
    ----------
    row : str or mapping of str to object
        ``obs_id=1191828584, job_type=c``, or the same as a mapping, whose values may be strings,
        numbers and booleans.
    api : ApiVersion
        The interface that the job is for.

    Returns
    -------
    JobRequest
        The job, with line 1.

    Raises
    ------
    JobFileError
        The row has mistakes; the error holds all of them, and its source is ``row``.

    Examples
    --------
    >>> row = {"obs_id": 1191828584, "job_type": "d", "download_type": "vis_meta"}
    >>> parse_row(row, ApiVersion.V2).parameters(ApiVersion.V2)
    {'obs_id': '1191828584', 'download_type': 'meta', 'delivery': 'acacia'}
    """
    checked = CheckedRow.from_text(row, api) if isinstance(row, str) else CheckedRow.from_mapping(row, api)
    job = checked.request(line=1)
    if job is None:
        raise JobFileError(NO_FILE, [Mistake(1, message) for message in checked.mistakes])
    return job


def plan(jobfile: JobFile) -> str:
    """Say how many jobs of which types a file asks for, on how many observations.

    Examples
    --------
    >>> print(plan(parse("obs_id=1191828584, job_type=d, download_type=vis", ApiVersion.V2)))
    jobs.csv: 1 job on 1 observation
      1 download
    """
    observations = len({job.obs_id for job in jobfile.jobs})
    per_type = Counter(job.job_type for job in jobfile.jobs)
    on = f"{count(len(jobfile.jobs), 'job')} on {count(observations, 'observation')}"
    lines = [f"{printable(jobfile.source)}: {on}"]
    lines += [f"  {count(per_type[job_type], job_type.noun)}" for job_type in JobType if per_type[job_type]]
    return "\n".join(lines)
