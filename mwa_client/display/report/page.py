"""The page itself: what happened to a batch, for a person who looks at it later."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from html import escape

from mwa_client.batch.status import DirectoryStatus, RowStatus
from mwa_client.display.report.charts import (
    NARROW_WIDTH,
    WIDTH,
    best_first,
    length_bar,
    rows_over_time,
    short_duration,
    timeline,
    traffic_over_time,
)
from mwa_client.display.report.figures import ends_of, state_times, traffic_of
from mwa_client.display.report.style import state_class, style_sheet
from mwa_client.display.status import in_life_order, local_time
from mwa_client.display.wording import life_order
from mwa_client.formatting import format_size, printable
from mwa_client.jobs.wording import count

MOST_NAMED = 200
"""Rows that are named for one and the same failure."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser may load for the page: nothing but the style sheet in it."""


def report_page(status: DirectoryStatus) -> str:
    """Return a page of HTML about the rows of a directory, all in one text.

    Parameters
    ----------
    status : DirectoryStatus
        What the directory knows.
    """
    place = status.directory
    title = place.resolve().name or str(place)
    parts = [
        f'<html lang="en"><head><meta charset="utf-8"><title>{_text(title)} · MWA ASVO</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>\n{style_sheet()}</style></head>\n<body>\n",
        *_head(status, title),
    ]
    if any(row.steps for row in status.rows):
        parts += [*_failures(status.rows), *_over_time(status), *_lengths(status), *_each_row(status)]
    parts += [*_table(status), *_foot(status), "</body></html>\n"]
    return "".join(parts)


def _head(status: DirectoryStatus, title: str) -> Iterator[str]:
    place, zone = status.directory, time.strftime("%Z", time.localtime(status.now))
    yield f'<header><p class="soft">Jobs of the MWA archive</p><h1>{_text(title)}</h1>'
    yield f'<p class="soft">{_text(place.resolve())} · as of {local_time(status.now)} {_text(zone)}'
    yield "".join(f" · at work: {_text(owner)}" for owner in status.at_work)
    yield "</p>\n"
    if not status.rows:
        yield '<p class="lead">Nothing has been done here yet.</p></header>\n'
        return
    complete = sum(row.is_complete for row in status.rows)
    failed = sum(row.is_failed for row in status.rows)
    pending = len(status.rows) - complete - failed
    words = [f"{complete} of {count(len(status.rows), 'row')} complete"]
    words += [f"{failed} failed"] if failed else []
    words += [f"{pending} to come"] if pending else []
    yield f'<p class="lead">{", ".join(words)}.</p>\n<div class="progress" aria-hidden="true">'
    for label, number in sorted(status.states.items(), key=lambda each: best_first(each[0])):
        share = 100 * number / len(status.rows)
        yield f'<span class="{state_class(label)}" style="width:{share:.2f}%"></span>'
    yield "</div>\n"
    yield _legend(in_life_order(status.states))
    yield _facts(status)
    yield "</header>\n"


def _facts(status: DirectoryStatus) -> str:
    begun, ended = ends_of(status)
    traffic = traffic_of(status.rows, ended)
    facts = [("Products here", format_size(status.size))]
    if any(row.steps for row in status.rows):
        facts += [("Began", day_and_time(begun)), ("Last news", day_and_time(ended))]
        facts += [("Took so far" if status.at_work else "Took", short_duration(ended - begun))]
    if traffic is not None:
        facts += [("Mean rate of downloads", f"{format_size(int(traffic.mean))}/s")]
    boxes = "".join(f"<div><dt>{name}</dt><dd>{_text(value)}</dd></div>" for name, value in facts)
    return f"<dl>{boxes}</dl>\n"


def day_and_time(moment: float) -> str:
    """Return a moment in few words: ``15 Jan 08:00``."""
    return time.strftime("%d %b %H:%M", time.localtime(moment))


def _legend(states: Iterable[tuple[str, int]]) -> str:
    items = (
        f'<li><i class="{state_class(label)}"></i>{_text(label)} <span class="soft">{number}</span></li>'
        for label, number in states
    )
    return f'<ul class="legend">{"".join(items)}</ul>\n'


def _failures(rows: Iterable[RowStatus]) -> Iterator[str]:
    """Yield the failures with their remedies, once for all rows that failed in the same way."""
    alike: defaultdict[tuple[str, str], list[RowStatus]] = defaultdict(list)
    for row in rows:
        if row.is_failed:
            alike[row.note or "It failed.", row.remedy].append(row)
    if not alike:
        return
    yield "<section><h2>Failures and what to do</h2>\n"
    for (what, remedy), failed in sorted(alike.items(), key=lambda each: -len(each[1])):
        yield f'<div class="failure"><p><b>{_text(what)}</b></p>'
        yield f"<p>{_text(remedy)}</p>" if remedy else ""
        names = ", ".join(_name(row) for row in failed[:MOST_NAMED])
        more = f" and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else ""
        yield f'<p class="soft">{count(len(failed), "row")}: {names}{more}</p></div>\n'
    yield "</section>\n"


def _over_time(status: DirectoryStatus) -> Iterator[str]:
    begun, ended = ends_of(status)
    seen = {step.label: 0 for row in status.rows for step in row.steps}
    yield '<section class="whole"><h2>How far the rows were</h2>\n'
    yield _plain_legend(seen)
    for width in (WIDTH, NARROW_WIDTH):
        yield rows_over_time(status.rows, begun, ended, width)
    yield "</section>\n"
    traffic = traffic_of(status.rows, ended)
    if traffic is not None:
        yield '<section class="whole"><h2>Bytes that came, and how fast</h2>\n'
        yield '<p class="soft">Columns: the rate of all downloads together. Line: the sum.</p>\n'
        for width in (WIDTH, NARROW_WIDTH):
            yield traffic_over_time(traffic, width)
        yield "</section>\n"


def _plain_legend(labels: Iterable[str]) -> str:
    in_order = sorted(labels, key=life_order)
    items = (f'<li><i class="{state_class(label)}"></i>{_text(label)}</li>' for label in in_order)
    return f'<ul class="legend">{"".join(items)}</ul>\n'


def _lengths(status: DirectoryStatus) -> Iterator[str]:
    _, ended = ends_of(status)
    times = sorted(state_times(status.rows, ended), key=lambda each: life_order(each.label))
    if not times:
        return
    most = max(each.longest for each in times)
    yield '<section class="whole"><h2>How long each state took</h2>\n'
    yield '<p class="soft">As this client saw it.'
    yield '<span class="wide"> Bar: the median; line: the longest.</span></p>\n<table><thead><tr>'
    yield '<th>State</th><th class="n">Rows</th><th class="n">Median</th><th class="n">Longest</th>'
    yield '<th class="wide"></th></tr></thead><tbody>\n'
    for each in times:
        yield f'<tr><td class="w"><i class="{state_class(each.label)}"></i>{_text(each.label)}</td>'
        yield f'<td class="n">{each.rows}</td><td class="n">{short_duration(each.median)}</td>'
        yield f'<td class="n">{short_duration(each.longest)}</td>'
        yield f'<td class="bar wide">{length_bar(each.median, each.longest, most)}</td></tr>\n'
    yield "</tbody></table></section>\n"


def _each_row(status: DirectoryStatus) -> Iterator[str]:
    begun, ended = ends_of(status)
    yield "<section><h2>Each row</h2>\n"
    yield '<p class="soft">Observation · job. The mark at the end of a row: complete, or failed.</p>\n'
    for width in (WIDTH, NARROW_WIDTH):
        yield from timeline(status.rows, begun, ended, width)
    yield "</section>\n"


def _table(status: DirectoryStatus) -> Iterator[str]:
    if not status.rows:
        return
    has_lines = any(row.line is not None for row in status.rows)
    heads = ["Line"] * has_lines + ["Observation", "Job", "Type", "State", "Since", "Took", "Size", "Product"]
    numbers = ("Line", "Observation", "Job", "Took", "Size")
    cells = "".join(f"<th{_number(head in numbers)}>{head}</th>" for head in heads)
    yield '<section><h2>All rows</h2>\n<div class="scroll"><table><thead>'
    yield f"<tr>{cells}</tr></thead><tbody>\n"
    above = f"{status.directory}/"
    for row in status.rows:
        took = row.steps[-1].at - row.steps[0].at if row.steps else None
        paths = ", ".join(path.removeprefix(above) for path in row.paths)
        yield "<tr>" + (f'<td class="n">{row.line}</td>' if has_lines else "")
        yield f'<td class="n">{row.obs_id or "-"}</td><td class="n">{row.job_id or "-"}</td>'
        yield f'<td class="w">{_text(row.kind)}</td>'
        yield f'<td class="w"><i class="{state_class(row.label)}"></i>{_text(row.label)}</td>'
        yield f'<td class="w">{local_time(row.since)}</td>'
        yield f'<td class="n">{"-" if took is None else short_duration(took)}</td>'
        yield f'<td class="n">{"-" if row.size is None else format_size(row.size)}</td>'
        yield f"<td>{_text(paths)}{' · ' if paths and row.note else ''}{_text(row.note)}</td></tr>\n"
    yield "</tbody></table></div></section>\n"


def _foot(status: DirectoryStatus) -> Iterator[str]:
    yield '<footer class="soft">'
    if status.others:
        yield f"<p>{count(status.others, 'more row')} known in this directory: not shown here.</p>"
    if status.damaged:
        damaged = count(status.damaged, "line")
        yield f"<p>{damaged} of the ledger cannot be read: what they told is missing here.</p>"
    yield "<p>Made by mwa_client from what the directory remembers.</p></footer>\n"


def _number(is_number: bool) -> str:
    return ' class="n"' if is_number else ""


def _name(row: RowStatus) -> str:
    line = f"line {row.line}, " if row.line is not None else ""
    job = "no job" if row.job_id is None else f"job {row.job_id}"
    return f"{row.obs_id or '-'} ({line}{job})"


def _text(text: object) -> str:
    return escape(printable(str(text)))
