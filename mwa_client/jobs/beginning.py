"""How a job file begins: whether it can be one at all, and what to write where it is something else.

People give what they have: a list of obs_ids, JSON, a table out of a web page or a paper.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence

from mwa_client.errors import Mistake
from mwa_client.jobs.key_table import find_key
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.obs_ids import looks_like_obs_ids, words_of
from mwa_client.jobs.table import Table
from mwa_client.jobs.text import NO_FILE, comments_above, excerpt
from mwa_client.jobs.values import text_of

LINES_LOOKED_AT = 4
"""Rows of a file that say what it is: below a header in a frame, the third is the first with values."""
SOME_HEADER = "obs_id,job_type,download_type"
SOME_KEYS = "job_type=d, download_type=vis"
SOME_ROW = f"obs_id=1191828584, {SOME_KEYS}"
_SOME_OBS_ID = re.compile(r"(?<![0-9.])[0-9]{9,10}(?![0-9.])|[0-9]\.[0-9]{8,}[eE]\+?0?9")
_COLON = re.compile(r"[\s\[{-]*[\"']?(\w+)[\"']?\s*:(?:\s|\Z)")
_FRAME = re.compile(r"[\s|+:=-]*")
_MARKED_UP = {"<": "a web page, or XML", "\\": "LaTeX"}
"""What begins with these signs, and can be no row."""


def wrong_beginning(
    rows: Sequence[tuple[int, str]], data: bytes | str, name: str, table: Table | None, api: ApiVersion
) -> list[Mistake]:
    """Return why a file can be no job file, with what to write instead; nothing if it may be one.

    Parameters
    ----------
    rows : sequence of (int, str)
        Line number and text of its first rows (`LINES_LOOKED_AT`).
    data : bytes or str
        All of it.
    name : str
        The file as an option takes it, or `NO_FILE`.
    table : Table or None
        The table of which its first row is the header.
    api : ApiVersion
        The interface that the jobs are for.
    """
    if not rows:
        return []
    line, text = rows[0]
    if _is_list([text for _, text in rows], table):
        return [Mistake(line, _what_lists_need(text, name))]
    if table is not None:
        return [Mistake(line, message) for message in table.mistakes(api)]
    if other := _other_format(text):
        return [Mistake(line, other)]
    if "=" in text:
        return []
    for _, second in rows[1:2]:
        below = Table.from_header(0, second)
        if below is not None and "obs_id" in below.names:
            what = f"{excerpt(text)}: not a row; remove what is above the header of the table"
            return [Mistake(line, what)]
    return _without_keys(rows, data, name)


def _what_lists_need(text: str, name: str) -> str:
    """Say how obs_ids alone are given: as a list, or, where they are in no file, as a row."""
    if name == NO_FILE:
        return f"obs_ids alone; write a row for each: obs_id={(words_of(text) or ['...'])[0]}, {SOME_KEYS}"
    command = f"--obs-ids={shlex.quote(name)} -j '{SOME_KEYS}'"
    return f"a list of obs_ids; give it with a row for all of them: {command}"


def _is_list(texts: Sequence[str], table: Table | None) -> bool:
    """Say whether rows are obs_ids and nothing else; above them may be their name, or a bracket."""
    if any(map(_key_before_colon, texts)):
        return False
    first = [text for text in texts if words_of(text)][:1]
    return any(map(looks_like_obs_ids, first if table is None else texts[:2]))


def _without_keys(rows: Sequence[tuple[int, str]], data: bytes | str, name: str) -> list[Mistake]:
    """Return what is wrong with rows of a table that has no header, or one that is not recognized."""
    drawn = [(line, text) for line, text in rows if not _FRAME.fullmatch(text)]
    for line, text in drawn[:1]:
        if right := _header_of(text):
            return [Mistake(line, f"separate the columns with commas: {right}")]
    values = next((text for _, text in drawn if _SOME_OBS_ID.search(text)), "")
    if not values or "=" in values:
        return []
    for line, comment in comments_above(data, rows[0][0]):
        if right := _header_of(comment):
            commas = "" if "," in values else ", and separate the columns with commas"
            what = f"a comment that names the columns; write it without #{commas}: {right}"
            return [Mistake(line, what)]
    if name == NO_FILE:
        what = f"values without keys; write key=value: {SOME_ROW}"
    else:
        what = f"values without keys; above them, write a line that names the columns: {SOME_HEADER}"
    return [Mistake(rows[0][0], what)]


def _other_format(text: str) -> str:
    """Say what a file is that begins with what can be no row, and what to write instead; empty if it may."""
    sign = text.lstrip(' "')[:1]
    if sign in _MARKED_UP:
        return f"{_MARKED_UP[sign]}, not rows of jobs; save the table as CSV"
    if sign in ("[", "{") and "=" not in text.partition(":")[0]:
        return f"JSON; write each job as a row: {_row_of_json(text)}"
    if key := _key_before_colon(text):
        return f"{key}: no equals sign; write each job on one line: {SOME_ROW}"
    return ""


def _key_before_colon(text: str) -> str:
    """Return the key that is given with a colon, as in JSON and YAML; empty where there is none."""
    found = _COLON.match(text)
    return found[1] if found and (find_key(found[1]) or found[1] == "jobs") else ""


def _row_of_json(text: str) -> str:
    """Return the row for the first object of a line of JSON; an example where there is none."""
    try:
        found = json.loads(text.strip().rstrip(","))
    except (ValueError, RecursionError):
        return SOME_ROW
    first = found[0] if isinstance(found, list) and found else found
    if not isinstance(first, dict) or any(isinstance(value, (dict, list)) for value in first.values()):
        return SOME_ROW
    return ", ".join(f"{name}={text_of(value)}" for name, value in first.items()) or SOME_ROW


def _header_of(text: str) -> str | None:
    r"""Return a header whose columns are separated in some way as it should be, None if it is none.

    Examples
    --------
    >>> _header_of("| obs_id | job_type |"), _header_of(r"obs\_id & job\_type")
    ('obs_id,job_type', 'obs_id,job_type')
    """
    bare = text.replace("\\_", "_").strip(" |\\")
    names = [name for name in re.split(r"[\s|&,;]+", bare) if name]
    return ",".join(names) if len(names) > 1 and _are_keys(names) else None


def _are_keys(names: Iterable[str]) -> bool:
    return all(find_key(name.lower()) is not None for name in names)
