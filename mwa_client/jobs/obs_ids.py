"""A list of observations, and one row for all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mwa_client.errors import Mistake
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.rowcheck import CheckedRow
from mwa_client.jobs.text import Cell, cells_of, rows_of, spreadsheet_error_at, what_is_wrong_with_error
from mwa_client.jobs.values import whole_number

LONGEST_LIST_LINE = 1 << 22
"""Bytes of the longest line of a list: it may have all obs_ids on one."""
_NARROW = 11
"""Signs ``#`` alone on a line that are more than a spreadsheet writes for an obs_id."""
_HEADER = re.compile(r"\bobs[ _-]?ids?\b", re.IGNORECASE)
"""What may stand above a column of obs_ids."""
_COUNTED = re.compile(r"(?:\"\"|Unnamed: ?0)?[,;\t]\"?obs[ _-]?ids?\"?", re.IGNORECASE)
"""What pandas writes above a column that counts the rows, and one of obs_ids."""
_ROW_NUMBER = re.compile(r"\s*\"?[0-9]{1,7}\"?[,;\t]")
TEMPLATE_SOURCE = "row"
_SOME_OBS_ID = "1191828584"
_BARE_LIST = re.compile(r"[\s,;]*(?:[0-9]{9,10}(?:\.0*)?[\s,;]*)+")


def looks_like_obs_ids(text: str) -> bool:
    """Say whether a line has obs_ids and nothing else.

    Examples
    --------
    >>> looks_like_obs_ids("1191828584, 1191828528"), looks_like_obs_ids("1191828584, d")
    (True, False)
    """
    return _BARE_LIST.fullmatch(text.replace('"', " ")) is not None


def rows_for(
    data: bytes | str, template: Sequence[str], api: ApiVersion, mistakes: list[Mistake]
) -> Iterator[tuple[int, CheckedRow]]:
    """Yield line and content of the rows that a template becomes with each obs_id of a list.

    Parameters
    ----------
    data : bytes or str
        The list: obs_ids, one a line or several with spaces or commas between them; ``#`` begins a comment.
    template : sequence of str
        Rows without ``obs_id``.
    api : ApiVersion
        The interface that the rows are checked for.
    mistakes : list of Mistake
        What is wrong with the template or cannot be read is added here; nothing is yielded if the template
        is wrong.
    """
    cells = [
        list(_template_cells(number, row, api, mistakes)) for number, row in enumerate(template, start=1)
    ]
    if mistakes:
        return
    for line, obs_id in _obs_ids(data, mistakes):
        for row in cells:
            yield line, CheckedRow([Cell("obs_id", obs_id), *row], api, [])


def _obs_ids(data: bytes | str, mistakes: list[Mistake]) -> Iterator[tuple[int, str]]:
    """Yield line and text of each obs_id of a list."""
    is_counted = False
    lines = rows_of(data, mistakes, LONGEST_LIST_LINE, _NARROW)
    for number, (line, text) in enumerate(lines):
        if number == 0 and _COUNTED.fullmatch(text.strip(" ")):
            is_counted = True
            continue
        text = _ROW_NUMBER.sub("", text, count=1) if is_counted and _ROW_NUMBER.match(text) else text
        text = _without_comment(line, text, mistakes)
        if number == 0 and _is_header_of_table(text):
            what = "a table; leave its column obs_id alone, or, if its columns are keys, give it with --csv"
            mistakes.append(Mistake(line, what))
            return
        if "=" in (text := text.replace('="', '"')):
            mistakes.append(
                Mistake(line, "key=value; a list has obs_ids alone, and rows of keys are for --csv")
            )
            continue
        yield from ((line, word) for word in _obs_ids_in(text))


def _is_header_of_table(text: str) -> bool:
    """Say whether a line names a column of obs_ids, and others."""
    rest, found = _HEADER.subn(" ", text)
    return found > 0 and "=" not in text and re.search(r"[^\W\d]", rest) is not None


def _template_cells(number: int, row: str, api: ApiVersion, mistakes: list[Mistake]) -> Iterator[Cell]:
    wrong: list[str] = []
    cells = list(cells_of(row, wrong))
    if any(cell.name == "obs_id" for cell in cells):
        wrong.append("obs_id: leave it out; the list has the obs_ids")
        cells = [cell for cell in cells if cell.name != "obs_id"]
    checked = CheckedRow([Cell("obs_id", _SOME_OBS_ID), *cells], api, wrong)
    mistakes += [Mistake(number, message, TEMPLATE_SOURCE) for message in checked.mistakes]
    return iter(cells)


def _without_comment(line: int, text: str, mistakes: list[Mistake]) -> str:
    """Return a line up to its comment; a spreadsheet's error, which looks like one, is a mistake."""
    while (at := text.find("#")) >= 0:
        error = spreadsheet_error_at(text, at)
        if error:
            mistakes.append(Mistake(line, what_is_wrong_with_error(error)))
            text = f"{text[:at]} {text[at + len(error) :]}"
        elif text.count('"', 0, at) % 2:  # It ends with its cell.
            text = text[:at] + text[at:].partition('"')[2]
        else:
            return text[:at]
    return text


def _obs_ids_in(text: str) -> Iterator[str]:
    for word in re.split(r"[\s,;\"']+", _HEADER.sub(" ", text)):
        if word:
            yield whole_number(word)
