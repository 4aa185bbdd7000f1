"""CSV text becomes validated jobs, or every mistake in it.

Each row is a job, each cell ``key=value``; the words are in `mwa_client.jobs.keys`.
"""

from __future__ import annotations

import codecs
import difflib
import enum
import functools
import re
import select
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

from mwa_client.errors import JobFileError, Mistake, SettingsError
from mwa_client.formatting import printable
from mwa_client.jobs.keys import (
    BY_WORD,
    VOLTAGE_DOWNLOAD,
    ApiVersion,
    JobKey,
    JobType,
    Kind,
    Limits,
    Required,
    find,
    keys_of,
)

if TYPE_CHECKING:
    from mwa_client.asvo.job import Job


BLOCK = 1 << 17
"""Bytes that are read together."""
MOST_BYTES = 64 << 20
"""Bytes of a job file: a hundred thousand rows with all keys have less."""
MOST_LINES = 250_000
"""Lines of a job file, empty ones and comments included."""
LONGEST_ROW = 1 << 14
"""Bytes of a row: one with all keys has some thousand; a spreadsheet's widest row of commas fits."""
LONGEST_NUMBER = 40
"""Characters of a number, which needs no more for any of its digits to matter."""
MOST_MISTAKES = 10_000
"""Mistakes after which no more are looked for: nobody reads them, and they take memory."""


@dataclass(frozen=True)
class JobRequest:
    """What one row asks for.

    Attributes
    ----------
    line : int
        Line of the file, from 1.
    job_type : JobType
        What the job does.
    obs_id : int
        Observation id: the GPS second at which the observation started.
    values : tuple of (str, str)
        Keys and values in the order of the row, without ``job_type`` and ``allow_resubmit``. Keys and
        choices are today's words, booleans are in lower case; a number beside a 2018 word stands as it
        was written, others in their shortest form. They do not depend on the interface.
    vocabulary : ApiVersion
        `ApiVersion.V2018` where the row is in 2018 words, which decides what a missing key means; else
        `ApiVersion.V2`.
    allow_resubmit : bool
        Submit even if the same job is already there.
    former_identity : str
        By what the first versions of this program knew the row, where that was something else.
    """

    line: int
    job_type: JobType
    obs_id: int
    values: tuple[tuple[str, str], ...]
    vocabulary: ApiVersion
    allow_resubmit: bool = False
    former_identity: str = field(default="", compare=False)

    @property
    def identity(self) -> str:
        """What is asked for, in one form for all the ways to ask for it, on whichever interface.

        Keys are sorted, numbers are in their shortest form, and what equals today's default is left out::

            job_type=c obs_id=1191828584 avg_freq_res=20 avg_time_res=20
        """
        return _identity(self.job_type, dict(self.values), self.vocabulary)

    @property
    def delivery(self) -> str:
        """Where the product is to be delivered to: ``acacia``, ``scratch``, ``dug``."""
        return dict(self.values).get("delivery") or BY_WORD["delivery"].default_of(self.job_type) or ""

    def identity_on(self, api: ApiVersion) -> str:
        """Return what an interface is asked for; `identity_of` a listed job of the row is equal to it.

        It differs from `identity` in a row with words of 2018 that today's service has no counterpart for.
        """
        said = {word: value for word, value in self.values if BY_WORD[word].spelled(api) is not None}
        return _identity(self.job_type, said, self.vocabulary)

    def parameters(self, api: ApiVersion) -> dict[str, str]:
        """Return the form that asks an interface for this job, without job type and ``allow_resubmit``.

        Parameters
        ----------
        api : ApiVersion
            The interface that the row was checked for.

        Returns
        -------
        dict of str to str
            The interface's words and values, in the order of the row. What the row leaves out is said where
            its words and the interface may take it to mean different things.
        """
        said = dict(self.values)
        meant, assumed = _unsaid(self.job_type, said, self.vocabulary), _unsaid(self.job_type, said, api)
        stated = _stated(self.job_type, {**meant, **said}, api)
        said.update(
            {word: value for word, value in meant.items() if word in stated or assumed.get(word) != value}
        )
        return {spelled: value for word, text in said.items() for spelled, value in _sent(word, text, api)}


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
        What the user should know: ``jobs.csv:12: asks for the same as line 3; it is one job``.
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


def read_bytes(path: str | Path, *, stdin: BinaryIO | None = None) -> tuple[bytes, str]:
    """Return what a job file holds, and its name for messages.

    Raises
    ------
    SettingsError
        The file cannot be read.
    JobFileError
        It is longer than any job file, endless perhaps.
    """
    try:
        if str(path) == "-":
            return _bounded(stdin or sys.stdin.buffer, "standard input"), "standard input"
        # It may be a pipe, as a shell's <(command) is.
        with Path(path).open("rb") as file:
            return _bounded(file, str(path)), str(path)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise SettingsError(
            f"cannot read {_shown(str(path))}: {reason}", "Give the job file with --csv=FILE."
        ) from error


def _bounded(file: BinaryIO, source: str) -> bytes:
    data = bytearray()
    # A pipe that another program has set not to block gives what it has, or None where that is nothing yet.
    while len(data) <= MOST_BYTES and (block := file.read(BLOCK)) != b"":
        if block is None:
            select.select([file], [], [])
        else:
            data += block
    if len(data) > MOST_BYTES:
        raise JobFileError(source, [Mistake(1, f"more than {MOST_BYTES >> 20} MB; no job file is so long")])
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
    jobs: dict[str, JobRequest] = {}
    mistakes: list[Mistake] = []
    warnings: list[tuple[int, str]] = []
    dropped: dict[str, list[int]] = {}
    for line, text in _rows(data, mistakes):
        if len(mistakes) >= MOST_MISTAKES:
            mistakes[MOST_MISTAKES:] = [Mistake(line, "too many mistakes; what follows was not read")]
            break
        row = _Row.from_text(text, api)
        mistakes += [Mistake(line, message) for message in row.mistakes]
        warnings += [(line, message) for message in row.warnings]
        for word in row.dropped:
            dropped.setdefault(word, []).append(line)
        job = row.request(line)
        if job is None:
            continue
        first = jobs.setdefault(job.identity_on(api), job)
        if first is not job:
            warnings.append((line, f"asks for the same as line {first.line}; it is one job"))
    if not jobs and not mistakes:
        mistakes.append(Mistake(1, f"no jobs in {source}"))
    if mistakes:
        raise JobFileError(source, mistakes)
    warnings += [(lines[0], _no_counterpart(word, len(lines))) for word, lines in dropped.items()]
    said = tuple(f"{source}:{line}: {message}" for line, message in sorted(warnings))
    return JobFile(source, tuple(jobs.values()), said)


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
    checked = _Row.from_text(row, api) if isinstance(row, str) else _Row.from_mapping(row, api)
    job = checked.request(line=1)
    if job is None:
        raise JobFileError("row", [Mistake(1, message) for message in checked.mistakes])
    return job


def identity_of(job_type: JobType, parameters: Mapping[str, object], api: ApiVersion) -> str | None:
    """Return the identity of a job that the service lists.

    Parameters
    ----------
    job_type : JobType
        The listed job's type.
    parameters : mapping of str to object
        Its ``job_params``.
    api : ApiVersion
        The interface that listed it.

    Returns
    -------
    str or None
        Equal to the `JobRequest.identity_on` the interface of a row that asks for this job; None where the
        parameters do not say all that decides the product, or something that nobody here understands.
    """
    if not isinstance(parameters, Mapping):
        return None
    said: dict[str, str] = {}
    for word, value in parameters.items():
        if value is None or _is_harmless(job_type, word, value):
            continue
        key = find(word) if isinstance(word, str) else None
        if key is None or job_type not in key.jobs or not key.is_word_of(api, word):
            return None
        if value == "":
            continue
        heard = _listed(key, word, value)
        if heard is None or said.setdefault(key.word, heard) != heard:
            return None
    if not (_needed(job_type, api) <= said.keys() and _stated(job_type, said, api) <= said.keys()):
        return None  # It was made with a default of that day, which nobody can know any more.
    return _identity(job_type, said, api)


def contradicts(job: Job, request: JobRequest, api: ApiVersion, *, is_known: bool = False) -> str | None:
    """Say in what a listed job differs from what a row asks for, judged by what both of them say.

    This is for a job that is known to be the row's, from the ledger or from the service's own answer.
    Services leave keys out of their listings and add others, so neither counts; but a row that leaves a
    switch out has said that it is off, and that tells the jobs of two rows apart. `identity_of` is for all
    other jobs.

    Parameters
    ----------
    job : Job
        The job as the service lists it.
    request : JobRequest
        What the row asks for.
    api : ApiVersion
        The interface that listed the job.
    is_known : bool
        The ledger knows the job as this row's: then only what the row was sent with can contradict it, and no
        switch that the listing adds.

    Returns
    -------
    str or None
        The differences, ``avg_time_res=4 instead of 2``; None where there are none.
    """
    if job.job_type not in (None, request.job_type):
        assert job.job_type is not None
        return f"{_a(job.job_type.label)} job instead of {_a(request.job_type.label)} job"
    compared = list(_compared(job, request, api))
    if is_known:
        sent = {key.word for word in request.parameters(api) if (key := find(word)) is not None}
        compared = [entry for entry in compared if entry[0] in sent]
    if job.obs_id not in (None, request.obs_id):
        compared.insert(0, ("obs_id", str(job.obs_id), str(request.obs_id)))
    differences = [
        f"{word}={_shown(theirs)} instead of {ours}" for word, theirs, ours in compared if theirs != ours
    ]
    return ", ".join(differences) or None


def agreement(job: Job, request: JobRequest, api: ApiVersion) -> int:
    """Return how many keys a listed job says as a row does."""
    return sum(theirs == ours for _, theirs, ours in _compared(job, request, api))


def plan(jobfile: JobFile) -> str:
    """Say how many jobs of what kind a file asks for, on how many observations.

    Examples
    --------
    >>> print(plan(parse("obs_id=1191828584, job_type=d, download_type=vis", ApiVersion.V2)))
    jobs.csv: 1 job on 1 observation
      1 download
    """
    observations = len({job.obs_id for job in jobfile.jobs})
    kinds = Counter(job.job_type for job in jobfile.jobs)
    on = f"{_count(len(jobfile.jobs), 'job')} on {_count(observations, 'observation')}"
    lines = [f"{printable(jobfile.source)}: {on}"]
    lines += [f"  {_count(kinds[job_type], job_type.noun)}" for job_type in JobType if kinds[job_type]]
    return "\n".join(lines)


# --- What a job is -----------------------------------------------------------------------------------

_NOT_PART_OF_THE_PRODUCT = ("job_type", "allow_resubmit")


_ADDED_BY_THE_SERVICE = ("priority", "user_pawsey_group")
_NO_FLAGS: tuple[object, ...] = ("", "[]", [], {})


def _is_harmless(job_type: JobType, word: object, value: object) -> bool:
    """Say whether a listed key has no part in what the product is."""
    if word == "flags":
        return value in _NO_FLAGS
    if word == "download_type" and job_type is JobType.VOLTAGE:
        return value == VOLTAGE_DOWNLOAD
    return word in _ADDED_BY_THE_SERVICE or word in _NOT_PART_OF_THE_PRODUCT


def _asked_of(job_type: JobType) -> Iterator[JobKey]:
    """Yield the keys that say what the product of a job is."""
    return (key for key in keys_of(job_type) if key.word not in _NOT_PART_OF_THE_PRODUCT)


def _identity(job_type: JobType, said: Mapping[str, str], vocabulary: ApiVersion) -> str:
    values = {word: _shortest(BY_WORD[word], value) for word, value in said.items()}
    values.update(_unsaid(job_type, said, vocabulary))
    defaults = _defaults(job_type)
    parts = [f"job_type={job_type.value}", f"obs_id={values.pop('obs_id')}"]
    parts += [f"{word}={value}" for word, value in sorted(values.items()) if value != defaults.get(word)]
    return " ".join(parts)


def _unsaid(job_type: JobType, said: Mapping[str, str], api: ApiVersion) -> dict[str, str]:
    """Return what an interface takes the missing keys to mean."""
    words = _meant(job_type, api).keys() - said.keys() - _not_applicable(said)
    return {word: value for word, value in _meant(job_type, api).items() if word in words}


def _stated(job_type: JobType, values: Mapping[str, str], api: ApiVersion) -> frozenset[str]:
    """Return the keys that an interface must be told, whatever it takes their being left out to mean."""
    stated = _always_stated(job_type, api) - _not_applicable(values)
    # Of an object in a store there is one format, and of voltages.
    follows = job_type is JobType.VOLTAGE or values.get("delivery") == "acacia"
    return stated - {"delivery_format"} if follows else stated


def _not_applicable(values: Mapping[str, str]) -> frozenset[str]:
    # An image of a finished conversion job has no conversion left to describe.
    return _CONVERTING if "source_job_id" in values else frozenset()


@functools.cache
def _meant(job_type: JobType, api: ApiVersion) -> Mapping[str, str]:
    """Return what an interface takes each key of a job to mean where it is missing."""
    meant = {key.word: key.meant_on(api, job_type) for key in _asked_of(job_type)}
    return MappingProxyType({word: value for word, value in meant.items() if value is not None})


@functools.cache
def _defaults(job_type: JobType) -> Mapping[str, str | None]:
    return MappingProxyType({key.word: key.default_of(job_type) for key in _asked_of(job_type)})


@functools.cache
def _always_stated(job_type: JobType, api: ApiVersion) -> frozenset[str]:
    if api is ApiVersion.V2018:
        return frozenset()
    keys = [key for key in _asked_of(job_type) if key.is_always_stated(job_type)]
    return frozenset(key.word for key in keys if key.spelled(api) is not None)


@functools.cache
def _needed(job_type: JobType, api: ApiVersion) -> frozenset[str]:
    return frozenset(key.word for key in _asked_of(job_type) if key.is_required_in(api))


def _asked_on(request: JobRequest, api: ApiVersion) -> dict[str, str]:
    """Return what a row asks an interface for, said or not; without what the interface decides by itself.

    A switch that is off unless it is asked for is off on every interface. Any other value that the interface
    has no word for is its own affair.
    """
    said = dict(request.values)
    meant = _unsaid(request.job_type, said, request.vocabulary)
    known = {
        word: value
        for word, value in meant.items()
        if BY_WORD[word].spelled(api) is not None or value == "false"
    }
    return {word: value for word, value in {**known, **said}.items() if word != "obs_id"}


def _compared(job: Job, request: JobRequest, api: ApiVersion) -> Iterator[tuple[str, str, str]]:
    """Yield each key that both a listed job and a row give a value, with the value of either."""
    asked = _asked_on(request, api)
    for word, value in job.parameters.items():
        key = find(word) if isinstance(word, str) else None
        if key is None or key.word not in asked or value in (None, ""):
            continue
        heard = _listed(key, word, value)
        if heard is not None:
            yield key.word, heard, _shortest(key, asked[key.word])


def _sent(word: str, value: str, api: ApiVersion) -> Iterator[tuple[str, str]]:
    """Yield the word and value that an interface has for one of today's, if it has any."""
    key = BY_WORD[word]
    spelled = key.spelled(api)
    if spelled is not None:
        # The 2018 service is sent a number exactly as the row has it.
        number = value if api is ApiVersion.V2018 else _shortest(key, value)
        yield spelled, key.said_on(api, number)


def _converts(key: JobKey) -> bool:
    return JobType.CONVERSION in key.jobs and JobType.DOWNLOAD not in key.jobs


_CONVERTING = frozenset(key.word for key in BY_WORD.values() if _converts(key))


# --- Values ------------------------------------------------------------------------------------------

_WHOLE = re.compile("[0-9]+")
# Three digits of exponent are more than any number that a computer keeps, and keep the text short.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?0*[0-9]{1,3})?")
_SWITCH = ("true", "false")


def _read(key: JobKey, word: str, text: str) -> str | None:
    """Return what a value beside a word means in today's terms, None where it means nothing."""
    kind = key.kind_as(word)
    if kind is Kind.BOOLEAN:
        switch = text.lower()
        return key.heard(word, switch) if switch in _SWITCH else None
    if kind is Kind.CHOICE:
        choice = key.heard(word, text)
        return choice if choice in key.choices else None
    if not _fits(text, key.limits_as(word)):
        return None
    return text if word == key.word_2018 else _shortest(key, text)


def _listed(key: JobKey, word: str, value: object) -> str | None:
    """Return what the service says about a job in today's terms, as lenient as a reader can be."""
    if not isinstance(value, (str, int, float)):
        return None
    text = _text(value)
    if key.kind.is_number:
        return _shortest(key, text) if _NUMBER.fullmatch(text) else None
    if key.kind_as(word) is Kind.BOOLEAN:
        text = {"1": "true", "0": "false"}.get(text, text)
    return _read(key, word, text)


def _fits(text: str, limits: Limits) -> bool:
    if not _is_number(text, _WHOLE if limits.kind is Kind.INTEGER else _NUMBER):
        return False
    number = Decimal(text)
    above = limits.minimum is None or number >= limits.minimum
    return above and (limits.maximum is None or number <= limits.maximum)


def _is_number(text: str, pattern: re.Pattern[str]) -> bool:
    """Say whether a text is a number that can be written out, with or without its exponent."""
    if len(text) > LONGEST_NUMBER or not pattern.fullmatch(text):
        return False
    number = Decimal(text)
    return not number or abs(number.adjusted()) <= LONGEST_NUMBER


def _is_kept_by_a_float(number: str) -> bool:
    """Say whether a number is still the same after a way through JSON, where most programs have floats."""
    return Decimal(repr(float(number))) == Decimal(number)


def _shortest(key: JobKey, value: str) -> str:
    """Return the one form of 20, 020, 20.0 and 2e1; a value that is not a number stays as it is."""
    if not key.kind.is_number:
        return value
    text = format(Decimal(value), "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _text(value: object) -> str:
    """Return a value of the Python API or of a reply as a row would have it."""
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        value = int(value) if value.is_integer() else float(value)
    # Unlike str(), Decimal writes an integer of any length.
    return str(Decimal(value) if isinstance(value, int) else value).strip()


# --- Text --------------------------------------------------------------------------------------------

_LINE_END = re.compile(rb"\r\n|\r|\n")
_LONGEST = 60
_QUOTED_CELL = re.compile(r'\s*"((?:[^"]|"")*)"\s*(?:,|\Z)')


def _rows(data: bytes | str, mistakes: list[Mistake]) -> Iterator[tuple[int, str]]:
    """Yield line number and text of every row that is neither empty nor a comment."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if b"\0" in raw or raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        before = sum(1 for _ in _LINE_END.finditer(raw, 0, max(raw.find(b"\0"), 0)))
        what = "not plain text (UTF-16, perhaps); save the file as CSV in UTF-8"
        mistakes.append(Mistake(before + 1, what))
        return
    for line, encoded in enumerate(_lines(raw.removeprefix(codecs.BOM_UTF8)), start=1):
        if line > MOST_LINES:
            mistakes.append(Mistake(line, f"more than {MOST_LINES} lines; give it in several files"))
            return
        if len(encoded) > LONGEST_ROW:
            content = encoded.lstrip(b' \t",')
            if content and not content.startswith(b"#"):
                what = f"a row of {len(encoded)} characters; is a line end or a quotation mark missing?"
                mistakes.append(Mistake(line, what))
            continue
        try:
            text = encoded.decode("utf-8")
        except UnicodeDecodeError as error:
            byte = f"0x{encoded[error.start]:02x}"
            mistakes.append(Mistake(line, f"not UTF-8 text (byte {byte}); save the file as UTF-8"))
            continue
        bare = text.replace('"', "").replace(",", "").strip()
        if bare and not bare.startswith("#"):
            yield line, text


def _lines(raw: bytes) -> Iterator[bytes]:
    start = 0
    for end in _LINE_END.finditer(raw):
        yield raw[start : end.start()]
        start = end.end()
    yield raw[start:]


def _split(text: str, mistakes: list[str]) -> Iterator[str]:
    """Yield the cells of a row that are not empty.

    No key and no value has a comma or a quotation mark in it, so a whole row in one pair of quotation
    marks is a row, too.
    """
    at = 0
    while at < len(text):
        quoted = _QUOTED_CELL.match(text, at)
        end = quoted.end() if quoted else text.find(",", at) + 1 or len(text)
        content = quoted[1].replace('""', '"') if quoted else text[at:end]
        at = end
        for part in content.split(","):
            cell = part.strip()
            if quoted:
                cell = cell.strip('"').strip()
            elif cell.startswith('"'):
                mistakes.append(f"{_shown(cell)}: a quotation mark is not closed")
                cell = cell.lstrip('"').strip()
            if cell:
                yield cell


def _shown(text: str) -> str:
    """Return text of the user's that is safe to print: no control characters, and not too long."""
    short = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in short
    )


# --- Wording -----------------------------------------------------------------------------------------


def _requirement(key: JobKey, word: str) -> str:
    """Say what a value beside a word must be."""
    kind = key.kind_as(word)
    if kind is Kind.BOOLEAN:
        return _either(_SWITCH)
    if kind is Kind.CHOICE:
        return f"{_either(key.choices)} {_plural(key.unit)}".rstrip()
    return _number_within(key.limits_as(word), key.unit)


def _number_within(limits: Limits, unit: str) -> str:
    what = "a whole number" if limits.kind is Kind.INTEGER else "a number"
    if unit:
        what += f" of {_plural(unit)}"
    if limits.minimum is None:
        return f"{what}, {limits.maximum} or less"
    if limits.maximum is None:
        return f"{what}, {limits.minimum} or more"
    return f"{what}, {limits.minimum} to {limits.maximum}"


def _either(choices: Iterable[str]) -> str:
    *first, last = choices
    return f"{', '.join(first)} or {last}"


def _plural(unit: str) -> str:
    return {"GPS second": "GPS seconds", "pixel": "pixels"}.get(unit, unit)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _no_counterpart(word: str, rows: int) -> str:
    more = f" (said once for {rows} rows)" if rows > 1 else ""
    return f"{word} has no counterpart in today's service; it is not sent{more}"


@functools.lru_cache(maxsize=1024)
def _guess_word(word: str, job_type: JobType | None) -> str | None:
    """Return the word that a misspelt one may have been meant to be."""
    known = [word for word, key in BY_WORD.items() if job_type is None or job_type in key.jobs]
    return _closest(word, known)


def _guess_value(key: JobKey, word: str, text: str) -> str | None:
    if key.kind_as(word) is Kind.BOOLEAN:
        return _closest(text, _SWITCH)
    if key.word == "job_type":
        names = {name: job_type.value for job_type in JobType for name in (job_type.value, job_type.label)}
        closest = _closest(text, names)
        return names[closest] if closest else None
    return _closest(text, key.choices)


def _closest(text: str, known: Iterable[str]) -> str | None:
    folded = {word.lower(): word for word in known}
    close = difflib.get_close_matches(text.lower()[:_LONGEST], folded, n=1)
    return folded[close[0]] if close else None


def _did_you_mean(guess: str | None) -> str:
    return f"; did you mean {guess}?" if guess else ""


# --- One row -----------------------------------------------------------------------------------------


class _Row:
    """One row on its way to a job: what was understood of it, and all that is wrong with it.

    `words` has the word of the row for every key that it gives (by today's word), well or badly, and
    `values` what was understood, so that what follows from a mistake is not reported as another.
    """

    def __init__(self, cells: Iterable[tuple[str, str | None]], api: ApiVersion, mistakes: list[str]) -> None:
        cells = list(cells)
        self.api = api
        self.mistakes = mistakes
        self.job_type = _job_type_among(cells)
        self.words: dict[str, str] = {}
        self.values: dict[str, str] = {}
        self._guesses: dict[str, str] = {}
        for word, text in cells:
            self._take(word, text)
        self.words = {**self._guesses, **self.words}
        self.vocabulary = self._vocabulary()
        self.mistakes += self._missing()
        if self.job_type:
            for check in _CHECKS:
                self.mistakes += check(self)
        self.warnings = list(_doubts(self))

    @classmethod
    def from_text(cls, text: str, api: ApiVersion) -> _Row:
        mistakes: list[str] = []
        cells = [cell.partition("=") for cell in _split(text, mistakes)]
        pairs = [(word.strip(), value.strip() if equals else None) for word, equals, value in cells]
        return cls(pairs, api, mistakes)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object], api: ApiVersion) -> _Row:
        return cls([(str(word).strip(), _text(value)) for word, value in mapping.items()], api, [])

    @property
    def dropped(self) -> list[str]:
        """The words that the interface has no counterpart for."""
        return [word for word in self.values if self.api is not ApiVersion.V2018 and BY_WORD[word].only_2018]

    def request(self, line: int) -> JobRequest | None:
        """Return the job that the row asks for, None where it has mistakes."""
        if self.mistakes or self.job_type is None:
            return None
        kept = {word: value for word, value in self.values.items() if word != "job_type"}
        allow_resubmit = kept.pop("allow_resubmit", "false") == "true"
        if self.job_type is JobType.VOLTAGE:
            # The service's own default is a place where voltages cannot go.
            kept.setdefault("delivery", "scratch")
            if "from_channel" in kept or "to_channel" in kept:
                kept["channel_range"] = "true"
        obs_id, values = int(kept["obs_id"]), tuple(kept.items())
        job = JobRequest(line, self.job_type, obs_id, values, self.vocabulary, allow_resubmit)
        return replace(job, former_identity=job.identity_on(self.api)) if self.dropped else job

    def _take(self, word: str, text: str | None) -> None:
        key = find(word)
        if not word or text is None:
            self._guess(re.split(r"[^\w-]", word, maxsplit=1)[0])
            self.mistakes.append(f"{_shown(word or f'={text}')}: write key=value")
        elif key is None:
            guess = self._guess(word)
            self.mistakes.append(f"{_shown(word)}: no such key{_did_you_mean(guess)}")
        elif self.words.get(key.word) == word:
            self.mistakes.append(f"{word}: given more than once")
        elif key.word in self.words:
            first = self.words[key.word]
            self.mistakes.append(f"{first} and {word} are the same thing; give one")
        else:
            self.words[key.word] = word
            problem = self._understand(key, word, text)
            if problem:
                self.mistakes.append(f"{word}={_shown(text)}: {problem}")

    def _understand(self, key: JobKey, word: str, text: str) -> str:
        """Keep what a cell means, or say what is wrong with it."""
        if self.job_type and self.job_type not in key.jobs:
            owners = " or ".join(owner.label for owner in JobType if owner in key.jobs)
            return f"belongs to {_a(owners)} job, not to {_a(self.job_type.label)} job"
        if not text:
            return f"missing value; must be {_requirement(key, word)}"
        if "=" in text:
            for other in re.findall(r"(\w+)\s*=", text[:_LONGEST]):
                self._guess(other)
            return "separate the cells with commas"
        value = _read(key, word, text)
        if value is None:
            return f"must be {_requirement(key, word)}{_did_you_mean(_guess_value(key, word, text))}"
        if key.kind.is_number and not _is_kept_by_a_float(value):
            return "has more digits than can be sent; give 15 or fewer"
        problem = self._beyond_the_interface(key, value)
        if not problem:
            self.values[key.word] = value
        return problem

    def _beyond_the_interface(self, key: JobKey, value: str) -> str:
        """Say why the interface cannot do what a good cell asks for, if it cannot."""
        interface = f"the {self.api.value} interface"
        if self.job_type is None:
            return ""
        if not self.job_type.is_known_to(self.api):
            return f"{interface} has no {self.job_type.label} jobs" if key.word == "job_type" else ""
        if key.spelled(self.api) is None:
            # What 2018 could not be asked for is what it did, where that is today's default.
            is_2018s_way = self.api is ApiVersion.V2018 and value == key.default_of(self.job_type)
            can = key.only_2018 or key.word == "allow_resubmit" or is_2018s_way
            return "" if can else f"{interface} cannot do this"
        if self.api is ApiVersion.V2018 and value not in key.named.get(ApiVersion.V2018, (value,)):
            return f"{interface} cannot do this"
        limits = key.limits_on(self.api)
        if key.kind.is_number and not _fits(_shortest(key, value), limits):
            return f"must be {_number_within(limits, key.unit)} on {interface}"
        return ""

    def _guess(self, word: str) -> str | None:
        """Note what a cell that makes no sense may have been meant to give, so that it is not missed."""
        guess = _guess_word(word[:_LONGEST], self.job_type)
        if guess:
            self._guesses[BY_WORD[guess].word] = guess
        return guess

    def _vocabulary(self) -> ApiVersion:
        """Return whose words the row is in; a row in words that both have is in the interface's."""
        if self.job_type is None or not self.job_type.is_known_to(ApiVersion.V2018):
            return ApiVersion.V2
        product = [word for word in self.words if word not in _NOT_PART_OF_THE_PRODUCT]
        whose = {BY_WORD[word].vocabulary(self.words[word]) for word in product}
        if ApiVersion.V2018 in whose:
            return ApiVersion.V2018
        return (
            ApiVersion.V2018 if self.api is ApiVersion.V2018 and ApiVersion.V2 not in whose else ApiVersion.V2
        )

    def _missing(self) -> Iterator[str]:
        for key in keys_of(self.job_type) if self.job_type else (BY_WORD["obs_id"], BY_WORD["job_type"]):
            if key.is_required_in(self.vocabulary) and key.word not in self.words:
                word = key.spelled(self.vocabulary) or key.word
                yield f"{word}: missing; must be {_requirement(key, word)}"


def _job_type_among(cells: Iterable[tuple[str, str | None]]) -> JobType | None:
    given = {text for word, text in cells if word == "job_type"}
    return next((job_type for job_type in JobType if given == {job_type.value}), None)


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


# --- Cells that do not go together -------------------------------------------------------------------


def _centre(row: _Row) -> Iterator[str]:
    if "source_job_id" in row.values or ("centre" in row.words and "centre" not in row.values):
        return
    custom = row.values.get("centre") == "custom"
    for key in keys_of(JobType.CONVERSION):
        if key.required is not Required.WITH_CUSTOM_CENTRE:
            continue
        if custom and key.word not in row.words:
            word = key.spelled(row.api) or key.word
            yield f"{word}: missing; centre=custom needs it, {_requirement(key, word)}"
        if not custom and key.word in row.values:
            yield f"{row.words[key.word]}: only with centre=custom"


def _channels(row: _Row) -> Iterator[str]:
    first, last = "from_channel", "to_channel"
    for given, other in ((first, last), (last, first)):
        if given in row.values and other not in row.words:
            yield f"{other}: missing; {given} needs it"
    wants_range, has_range = row.values.get("channel_range"), first in row.words or last in row.words
    if wants_range == "true" and not has_range:
        yield f"{first}: missing; channel_range=true needs it"
    if wants_range == "false" and has_range:
        yield f"channel_range=false: {first} and {last} would be ignored; leave it out"
    yield from _in_order(row, first, last)


def _uvw_range(row: _Row) -> Iterator[str]:
    yield from _in_order(row, "uvw_min", "uvw_max")


def _in_order(row: _Row, low: str, high: str) -> Iterator[str]:
    if low in row.values and high in row.values and Decimal(row.values[low]) > Decimal(row.values[high]):
        yield f"{low}={row.values[low]}: must not be more than {high}={row.values[high]}"


def _source_job(row: _Row) -> Iterator[str]:
    if "source_job_id" in row.values:
        for key in keys_of(JobType.IMAGING):
            if _converts(key) and key.word in row.words:
                yield f"{row.words[key.word]}: not with source_job_id, whose conversion is done"


def _missing_files(row: _Row) -> Iterator[str]:
    unclear = "allowmissing" in row.words and "allowmissing" not in row.values
    allowed = row.values.get("allowmissing") == "true"
    if row.values.get("noflagmissings") == "true" and not allowed and not unclear:
        yield "noflagmissings=true: only with allowmissing=true"


def _delivery(row: _Row) -> Iterator[str]:
    if row.job_type is None or ("delivery" in row.words and "delivery" not in row.values):
        return
    delivery = row.values.get("delivery") or BY_WORD["delivery"].default_of(row.job_type)
    files = row.values.get("delivery_format")
    if row.job_type is JobType.VOLTAGE:
        if delivery != "scratch":
            yield f"delivery={delivery}: a voltage job delivers to scratch alone"
        if files == "tar":
            yield "delivery_format=tar: a voltage job always delivers files"
    elif delivery == "acacia" and files == "files":
        yield "delivery_format=files: delivery to acacia is always a tar; give delivery=scratch"


def _doubts(row: _Row) -> Iterator[str]:
    """Yield what the interface may refuse; that is for the service to say, which learns new things."""
    converts = row.job_type in (JobType.CONVERSION, JobType.IMAGING)
    if row.job_type and converts and row.api is ApiVersion.V2 and row.values.get("delivery") == "dug":
        # Missing from the schema by mistake; it will be added.
        yield f"delivery=dug: the v2 interface may refuse it for {_a(row.job_type.label)} job"


_CHECKS = (_centre, _channels, _uvw_range, _source_job, _missing_files, _delivery)
