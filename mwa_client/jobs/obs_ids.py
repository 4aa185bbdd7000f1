"""A list of observations, and one row for all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from mwa_client.errors import Mistake
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.rowcheck import CheckedRow
from mwa_client.jobs.text import (
    NO_FILE,
    Cell,
    cells_of,
    comments_above,
    excerpt,
    rows_of,
    spreadsheet_error_at,
    what_is_wrong_with_error,
)
from mwa_client.jobs.values import whole_number

LONGEST_LIST_LINE = 1 << 22
"""Bytes of the longest line of a list: it may have all obs_ids on one."""
_NARROW = 11
"""Signs ``#`` alone on a line that are more than a spreadsheet writes for an obs_id."""
_HEADER = re.compile(r"(?:[\"']?\bobs[ _-]?ids?\b[\"']?\s*:|\bobs[ _-]?ids?\b)", re.IGNORECASE)
"""What may stand above a column of obs_ids, or before a list of them in JSON or YAML."""
_BEFORE = re.compile(r"\s*(?:[-*]\s+)?(?:(?:np\.|numpy\.)?array\(|[\s\[({|,;])*")
_BEHIND = " \t])},;|"
"""What stands before and behind a list, or a line of it, as JSON, YAML, Python and numpy write it."""
_NUMPY = re.compile(r"\b(?:np|numpy)\.u?int[0-9]*\(([0-9]+)\)")
_BETWEEN = re.compile(r"[\s,;|\"']+")
_RULE = re.compile(r"[\s|+:-]*")
"""A line that is drawn in a table."""
_OBS_ID = re.compile(r"[0-9]{9,10}")
_COUNTED = re.compile(r"(?:\"\"|Unnamed: ?0)?[,;\t]\"?obs[ _-]?ids?\"?", re.IGNORECASE)
"""What pandas writes above a column that counts the rows, and one of obs_ids."""
_ROW_NUMBER = re.compile(r"\s*\"?[0-9]{1,7}\"?[,;\t]")
_ONE_COLUMN = "keep only its column obs_id, or, if its columns are keys, give it with --csv"
_SOME_OBS_ID = "1191828584"


def looks_like_obs_ids(text: str) -> bool:
    """Say whether a line has obs_ids and nothing else.

    Examples
    --------
    >>> looks_like_obs_ids("[1191828584, 1191828528]"), looks_like_obs_ids("1191828584, d")
    (True, False)
    """
    words = words_of(text)
    return bool(words) and all(map(_OBS_ID.fullmatch, words))


def words_of(text: str) -> list[str]:
    """Return what should be the obs_ids of a line of a list, without what stands around them.

    Examples
    --------
    >>> words_of('{"obs_ids": [1191828584, 1.191828528e+09]}'), words_of("- 1191828584"), words_of("|---|")
    (['1191828584', '1191828528'], ['1191828584'], [])
    >>> words_of("1191828584 (1191828528)")  # Its calibrator, perhaps.
    ['1191828584', '(1191828528']
    """
    if "--" in text and _RULE.fullmatch(text):
        return []
    text = _NUMPY.sub(r"\1", _HEADER.sub(" ", text))
    before = _BEFORE.match(text)
    inner = text[before.end() if before else 0 :].rstrip(_BEHIND)
    return [whole_number(word) for word in _BETWEEN.split(inner) if word]


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
    is_counted, has_begun = False, False
    lines = rows_of(data, mistakes, LONGEST_LIST_LINE, _NARROW)
    for number, (line, text) in enumerate(lines):
        if number == 0 and _COUNTED.fullmatch(text.strip(" ")):
            is_counted = True
            continue
        text = _ROW_NUMBER.sub("", text, count=1) if is_counted and _ROW_NUMBER.match(text) else text
        text = _without_comment(line, text, mistakes)
        if not has_begun and _is_header_of_table(text):
            mistakes.append(Mistake(line, f"a table; {_ONE_COLUMN}"))
            return
        if "=" in (text := text.replace('="', '"')):
            mistakes.append(
                Mistake(line, "key=value; a list has obs_ids alone, and rows of keys are for --csv")
            )
            continue
        words = words_of(text)
        if words and not has_begun:
            has_begun = True
            if header := _line_that_names(len(words), comments_above(data, line)):
                mistakes.append(Mistake(line, f"a table, by line {header}; {_ONE_COLUMN}"))
                return
            if len(words) > 1 and sum(map(bool, map(_OBS_ID.search, words))) == 1:
                what = "an obs_id and more, as in a table; keep only the column of obs_ids"
                mistakes.append(Mistake(line, f"{excerpt(text.strip())}: {what}"))
                return
        yield from ((line, word) for word in words)


def _is_header_of_table(text: str) -> bool:
    """Say whether a line names a column of obs_ids, and others."""
    rest, found = _HEADER.subn(" ", text)
    return found > 0 and "=" not in text and re.search(r"[^\W\d]", rest) is not None


def _line_that_names(columns: int, comments: Iterable[tuple[int, str]]) -> int | None:
    """Return the line of a comment with the names of so many columns, of which one is that of the obs_ids."""
    for line, text in comments:
        names = text.replace(",", " ").split()
        if 1 < len(names) == columns and sum(map(bool, map(_HEADER.fullmatch, names))) == 1:
            return line
    return None


def _template_cells(number: int, row: str, api: ApiVersion, mistakes: list[Mistake]) -> Iterator[Cell]:
    wrong: list[str] = []
    cells = list(cells_of(row, wrong))
    if any(cell.name == "obs_id" for cell in cells):
        wrong.append("obs_id: leave it out; the list has the obs_ids")
        cells = [cell for cell in cells if cell.name != "obs_id"]
    checked = CheckedRow([Cell("obs_id", _SOME_OBS_ID), *cells], api, wrong)
    mistakes += [Mistake(number, message, NO_FILE) for message in checked.mistakes]
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
