"""Reading the rows of a run before anything is sent, and showing what they ask for (--check)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING

from mwa_client.asvo.key_file import with_key_of_file
from mwa_client.asvo.variables import has_account_of_2018_alone
from mwa_client.cli.settings import Settings
from mwa_client.errors import JobFileError
from mwa_client.jobs.jobfile import HOW_TO_NAME_IT, JobFile, parse_files, plan, read_bytes
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.text import NO_FILE
from mwa_client.light_dataclasses import dataclass

# The rest is imported where it is needed: checking a file must not wait for it.
if TYPE_CHECKING:
    from mwa_client.asvo.api_client import HttpRequest
    from mwa_client.jobs.request import JobRequest


@dataclass(frozen=True)
class RowSource:
    """The texts of the rows, and what they mean for each interface that was asked about so far.

    They are kept: another interface may answer than was expected.
    """

    files: tuple[tuple[bytes | str, str], ...]
    """Each text, and its name."""
    template: tuple[str, ...] = ()
    """Rows without obs_id; then the texts are lists of obs_ids."""
    _read: dict[ApiVersion, JobFile | JobFileError] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, settings: Settings) -> RowSource:
        """Read the job files, each once, or take the rows of the command line."""
        lists, rows = settings.input.obs_ids, settings.input.rows
        if not (settings.input.csv or lists):
            return cls((("\n".join(rows), NO_FILE),))
        paths: dict[str, str] = {}
        for path in lists or settings.input.csv:
            paths.setdefault(path if path == "-" else os.path.realpath(path), path)
        remedy = _how_to_give_a_list(lists) if lists else HOW_TO_NAME_IT
        return cls(tuple(read_bytes(path, remedy=remedy) for path in paths.values()), rows if lists else ())

    def parse(self, api: ApiVersion) -> JobFile:
        """Turn the rows into jobs for an interface, once for each however often it is asked for.

        Raises
        ------
        JobFileError
            The interface cannot do what they ask, or they have other mistakes.
        """
        if api not in self._read:
            try:
                self._read[api] = parse_files(self.files, api, self.template)
            except JobFileError as error:
                self._read[api] = error
        found = self._read[api]
        if isinstance(found, JobFileError):
            raise found
        return found

    def parse_for_one_of(self, apis: Sequence[ApiVersion]) -> tuple[ApiVersion, JobFile]:
        """Turn the rows into jobs for the first interface that can do what they ask.

        Raises
        ------
        JobFileError
            None of them can; the mistakes are those for the interface that finds the fewest.
        """
        errors = []
        for api in apis:
            try:
                return api, self.parse(api)
            except JobFileError as error:
                errors.append(error)
        raise min(errors, key=lambda error: len(error.mistakes))


def likely_apis(settings: Settings) -> tuple[ApiVersion, ...]:
    """Return the interfaces that may be spoken, the likeliest first, without asking the network."""
    if settings.api is not None:
        return (settings.api,)
    if settings.sandbox:
        return (ApiVersion.V2,)
    if has_account_of_2018_alone(with_key_of_file(os.environ)):
        return (ApiVersion.V2018, ApiVersion.V2)
    return (ApiVersion.V2, ApiVersion.V1)


def with_doubt(jobs: JobFile, api: ApiVersion, source: RowSource, apis: Sequence[ApiVersion]) -> JobFile:
    """Return the jobs with a warning, where the likeliest interface would refuse the file.

    Parameters
    ----------
    jobs : JobFile
        The jobs for `api`.
    api : ApiVersion
        The first of `apis` that can do what the rows ask.
    source : RowSource
        The rows.
    apis : sequence of ApiVersion
        The interfaces that may be spoken, the likeliest first.
    """
    if api is apis[0]:
        return jobs
    try:
        source.parse(apis[0])
    except JobFileError as error:
        account = ", which ASVO_USER and ASVO_PASS are for," if apis[0] is ApiVersion.V2018 else ""
        doubt = (
            f"only the {api.value} interface can do this; the {apis[0].value} interface{account} would "
            f"refuse it: {error.lines[0]}"
        )
        return replace(jobs, warnings=(*jobs.warnings, doubt))
    return jobs


def with_doubt_of_command(jobs: JobFile, settings: Settings) -> JobFile:
    """Return the jobs with a warning, where the program of the command could not be run now.

    It may be there when the first product is, in some days. But most often it is misspelt.
    """
    if settings.downloads.then is None:
        return jobs
    from mwa_client.batch.command_text import missing_program

    program = missing_program(settings.downloads.then, os.environ.get("PATH"))
    if not program:
        return jobs
    what = "is no file that may be executed" if "/" in program else "is not found"
    doubt = f"{program}, which --then is to run, {what}; it is needed when the first product is here"
    return replace(jobs, warnings=(*jobs.warnings, doubt))


def check_report(settings: Settings, jobs: JobFile, api: ApiVersion) -> list[str | Mapping[str, object]]:
    """Say what a good job file asks for; with ``--verbose``, also the request for each row."""
    requests = list(_requests(settings, jobs, api)) if settings.output.verbose else []
    if not settings.output.json:
        shown = [f"{job.source or jobs.source}:{job.line}: {request}" for job, request in requests]
        heading = [f"The requests to the {api.value} interface:"] if shown else []
        then = [f"Then, for the first row: {line}" for line in _commands(settings, jobs)]
        return [*plan(jobs).split("\n"), *heading, *shown, *then, "Nothing was sent."]
    checked = {"event": "checked", "jobs": len(jobs.jobs), "warnings": list(jobs.warnings)}
    for line in _commands(settings, jobs):
        checked["then"] = line
    if settings.output.verbose:
        checked["requests"] = [
            {
                **({"csv": job.source} if job.source else {}),
                "line": job.line,
                "method": request.method,
                "path": request.path,
                "body": dict(request.body),
            }
            for job, request in requests
        ]
    return [checked]


def _commands(settings: Settings, jobs: JobFile) -> Iterator[str]:
    """Yield the command for the first row, as far as its values are known before there is a job."""
    from mwa_client.batch.command_text import fill_in

    for first in jobs.jobs[:1]:
        if settings.downloads.then is not None:
            values = {"obs_id": [str(first.obs_id)], "line": [str(first.line)]}
            yield fill_in(settings.downloads.then, values)


def _requests(settings: Settings, jobs: JobFile, api: ApiVersion) -> Iterator[tuple[JobRequest, HttpRequest]]:
    """Yield each job and its request."""
    from mwa_client.asvo import submission_of

    for job in jobs.jobs:
        allow_resubmit = settings.allow_resubmit or job.allow_resubmit
        yield job, submission_of(job, api, allow_resubmit=allow_resubmit)


def _how_to_give_a_list(lists: Sequence[str]) -> str:
    """Return what to do where a list of obs_ids cannot be read."""
    given = " ".join(lists).replace(",", " ").split()
    if all(map(str.isdecimal, given)):  # They are obs_ids themselves.
        return f"Write them on standard input: echo {' '.join(given[:3])} | mwa_client --obs-ids=- -j ROW"
    return "Give the list of obs_ids with --obs-ids=FILE."
