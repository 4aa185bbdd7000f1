"""The figures of the page about a batch, as SVG."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from mwa_client.batch.status import RowStatus
from mwa_client.display.report.figures import LAST_STATES, Span, Traffic, counts_over_time, spans_of
from mwa_client.display.report.style import state_class
from mwa_client.display.wording import life_order
from mwa_client.formatting import format_duration, format_size, printable
from mwa_client.light_dataclasses import dataclass

WIDTH, NARROW_WIDTH = 1000, 400
"""Units of width of a figure, and of one for a telephone, on which the first would be too small to read."""
SAMPLES = 240
"""Moments at which the rows are counted."""
TICKS = (1, 5, 15, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 7 * 86400)
"""Seconds that may be between two marks of a time axis."""
MONTH = 30 * 86400
MOST_MARKS, UNITS_OF_A_MARK = 9, 60
"""Marks of a time axis, and units of width for each of them, at the least."""
TALLEST = 560
"""Units of height that a piece of the timeline has at most, so that two of them fit on a page of paper."""


@dataclass(frozen=True)
class TimeAxis:
    """Moments, in seconds since 1970, and where they are between the left and the right of a figure."""

    begun: float
    ended: float
    left: float = 0.0
    right: float = float(WIDTH)

    @property
    def most_marks(self) -> int:
        """How many marks there is room for."""
        return min(int((self.right - self.left) // UNITS_OF_A_MARK), MOST_MARKS)

    def at(self, moment: float) -> float:
        """Return the place of a moment."""
        share = (moment - self.begun) / (self.ended - self.begun)
        return self.left + (self.right - self.left) * min(max(share, 0.0), 1.0)

    def marks(self) -> Iterator[tuple[float, str]]:
        """Yield the moments to be marked, on full hours, days and so on of this machine's time, in words."""
        length = self.ended - self.begun
        step = next((step for step in TICKS if length / step <= self.most_marks), 0)
        step = step or MONTH * max(round(length / MONTH / self.most_marks), 1)
        offset = time.localtime(self.begun).tm_gmtoff if hasattr(time.localtime(), "tm_gmtoff") else 0
        moment = (int(self.begun + offset) // step + 1) * step - offset
        while moment < self.ended:
            yield float(moment), _moment_in_words(moment, step)
            moment += step


def rows_over_time(rows: Sequence[RowStatus], begun: float, ended: float, width: int = WIDTH) -> str:
    """Draw how many rows were in each state at each time, one state upon the other."""
    axis, height, top = TimeAxis(begun, ended, 44.0, float(width)), 210.0, 8.0
    moments = [begun + (ended - begun) * place / (SAMPLES - 1) for place in range(SAMPLES)]
    counts = counts_over_time(rows, moments)
    most = max(len(rows), 1)
    floor, areas = [0] * SAMPLES, []
    places = [f"{axis.at(moment):.1f}" for moment in moments]
    for label in sorted(counts, key=best_first):
        ceiling = [low + number for low, number in zip(floor, counts[label])]
        upper, lower = (
            [f"{top + height * (1 - number / most):.1f}" for number in each] for each in (ceiling, floor)
        )
        path = f"M{_steps(places, upper)}V{_steps_back(places, lower)}z"
        areas.append(f'<path class="{state_class(label)}" d="{path}"><title>{_text(label)}</title></path>')
        floor = ceiling
    scale = [
        f'<text x="38" y="{top + height * (1 - share) + 4:g}" text-anchor="end">{most * share:g}</text>'
        for share in ((0, 1) if most < 4 or most % 2 else (0, 0.5, 1))
    ]
    parts = [*areas, *scale, *_axis(axis, top, top + height)]
    return _figure(top + height + 22, parts, "Rows in each state", width)


def traffic_over_time(traffic: Traffic, width: int = WIDTH) -> str:
    """Draw the rate at which bytes came, and their sum."""
    ended = traffic.begun + traffic.step * len(traffic.rates)
    axis, height, top = TimeAxis(traffic.begun, ended, 70.0, width - 70.0), 170.0, 18.0
    most = max(*traffic.rates, 1.0)
    floor = top + height
    bars = []
    for place, rate in enumerate(traffic.rates):
        x = axis.at(traffic.begun + place * traffic.step)
        if rate > 0:
            tall = height * rate / most
            wide = (axis.right - axis.left) / len(traffic.rates)
            bars.append(f"M{x:.1f} {floor - tall:.1f}h{wide + 0.2:.1f}V{floor:g}H{x:.1f}z")
    total, points = 0.0, [f"{axis.left:g} {floor:g}"]
    for place, rate in enumerate(traffic.rates, start=1):
        total += rate * traffic.step
        x = axis.at(traffic.begun + place * traffic.step)
        points.append(f"{x:.1f} {floor - height * total / max(traffic.total, 1.0):.1f}")
    parts = [
        f'<path class="rate" d="{"".join(bars)}"/>',
        *_axis(axis, top, floor),
        f'<path class="sum" d="M{"L".join(points)}"/>',
        f'<text x="62" y="{top + 4:g}" text-anchor="end">{format_size(int(most))}/s</text>',
        f'<text x="62" y="{floor + 4:g}" text-anchor="end">0</text>',
        f'<text class="strong" x="{width - 62}" y="{top + 4:g}">{format_size(int(traffic.total))}</text>',
        f'<text class="strong" x="{width - 62}" y="{floor + 4:g}">0</text>',
    ]
    return _figure(floor + 22, parts, "Bytes that came, and how fast", width)


def timeline(rows: Sequence[RowStatus], begun: float, ended: float, width: int = WIDTH) -> Iterator[str]:
    """Draw the times of each row, in pieces that fit on a page."""
    tall = 18.0 if len(rows) <= 60 else 12.0 if len(rows) <= 300 else 6.0 if len(rows) <= 3000 else 2.0
    axis, in_a_piece = TimeAxis(begun, ended, 152.0, float(width)), int(TALLEST // tall)
    for first in range(0, len(rows), in_a_piece):
        piece = rows[first : first + in_a_piece]
        top = 6.0
        floor = top + tall * len(piece)
        bars = [list(_bars(row, axis, ended, top + at * tall, tall)) for at, row in enumerate(piece)]
        parts = list(_axis(axis, top, floor))
        parts += map(_with_title, piece, bars) if width == WIDTH else _by_state(bars)
        for place, row in enumerate(piece):
            y = top + place * tall
            if tall >= 12 or (place % 5 == 0 and tall == 6) or (place % 15 == 0 and tall < 6):
                size = ' font-size="10"' if tall < 18 else ""
                parts.append(
                    f'<text x="146" y="{y + tall / 2 + 3.5:g}" text-anchor="end"{size}>{_name_of(row)}</text>'
                )
        yield _figure(floor + 22, parts, "The times of each row", width)


def length_bar(median: float, longest: float, most: float) -> str:
    """Draw how long a state took: the median as a bar, the longest as a line."""
    wide = 300.0
    middle, end = (max(wide * value / most, 1.0) if most else 1.0 for value in (median, longest))
    return (
        f'<svg viewBox="0 0 {wide:g} 12" preserveAspectRatio="none" aria-hidden="true" height="12">'
        f'<path class="grid" d="M0 6H{end:.1f}M{end:.1f} 2v8"/>'
        f'<path class="rate" d="M0 2H{middle:.1f}v8H0z"/></svg>'
    )


def _bars(row: RowStatus, axis: TimeAxis, ended: float, y: float, tall: float) -> Iterator[tuple[Span, str]]:
    """Yield each of a row's times that can be seen, and its path."""
    thick = tall - (4 if tall >= 12 else 1 if tall >= 6 else 0.3)
    for span in spans_of(row, ended):
        x = axis.at(span.begun)
        wide = axis.at(span.ended) - x
        if span.label in LAST_STATES:
            # How it ended: a mark of its own, which must be seen whatever the scale.
            x, wide = min(x, axis.right - 4.0), 4.0
        elif wide < 0.15:
            continue
        path = f"M{x:.1f} {y + (tall - thick) / 2:g}h{max(wide, 0.6):.1f}v{thick:g}H{x:.1f}z"
        yield span, path


def _with_title(row: RowStatus, bars: Sequence[tuple[Span, str]]) -> str:
    """Return a row of the timeline, of which a browser tells the times where the pointer rests."""
    words = [
        span.label if span.label in LAST_STATES else f"{span.label} {short_duration(span.length)}"
        for span, _ in bars
    ]
    title = f"<title>{_name_of(row)}: {_text(', '.join(words) or row.label)}</title>"
    return f"<g>{title}{''.join(_bar(state_class(span.label), path) for span, path in bars)}</g>"


def _by_state(rows: Iterable[Iterable[tuple[Span, str]]]) -> Iterator[str]:
    """Yield the rows of the timeline, all that is of one state together: so they are a third as long."""
    paths: defaultdict[str, list[str]] = defaultdict(list)
    for bars in rows:
        for span, path in bars:
            paths[state_class(span.label)].append(path)
    last = [state_class(label) for label in LAST_STATES]
    for name in sorted(paths, key=lambda name: name in last):  # Their marks stand over the others.
        yield _bar(name, "".join(paths[name]))


def _bar(name: str, path: str) -> str:
    return f'<path class="{name}" d="{path}"/>'


def _name_of(row: RowStatus) -> str:
    obs_id = "-" if row.obs_id is None else str(row.obs_id)
    return obs_id if row.job_id is None else f"{obs_id} · {row.job_id}"


def _axis(axis: TimeAxis, top: float, floor: float) -> Iterator[str]:
    """Yield the marks of a time axis: lines from top to floor, and the times below them."""
    marks = list(axis.marks())
    lines = "".join(f"M{axis.at(moment):.1f} {top:g}V{floor:g}" for moment, _ in marks)
    yield f'<path class="grid" d="M{axis.left:g} {floor:g}H{axis.right:g}{lines}"/>'
    for moment, words in marks:
        x = axis.at(moment)
        if axis.left + 14 < x < axis.right - 18:
            yield f'<text x="{x:.1f}" y="{floor + 15:g}" text-anchor="middle">{words}</text>'


def _figure(tall: float, parts: Iterable[str], what: str, width: int) -> str:
    size, shown = f"0 0 {width} {tall:g}", "narrow" if width < WIDTH else "wide"
    label = f'class="{shown}" role="img" aria-label="{_text(what)}"'
    return f'<svg viewBox="{size}" {label}>{"".join(parts)}</svg>\n'


def _steps(places: Sequence[str], heights: Sequence[str]) -> str:
    """Return the path of a line that goes up and down in steps, from left to right."""
    steps = [f"{places[0]} {heights[0]}"]
    for place, before, height in zip(places[1:], heights, heights[1:]):
        if height != before:
            steps.append(f"H{place}V{height}")
    return f"{''.join(steps)}H{places[-1]}"


def _steps_back(places: Sequence[str], heights: Sequence[str]) -> str:
    """Return the same from right to left, without the beginning of a path."""
    steps = [heights[-1]]
    for place, before, height in zip(places[:0:-1], heights[-2::-1], heights[:0:-1]):
        if height != before:
            steps.append(f"H{place}V{before}")
    return f"{''.join(steps)}H{places[0]}"


def _moment_in_words(moment: float, step: float) -> str:
    at = time.localtime(moment)
    if step < 60:
        return time.strftime("%H:%M:%S", at)
    is_midnight = at.tm_hour == at.tm_min == 0
    return time.strftime("%d %b" if step >= 86400 or is_midnight else "%H:%M", at)


def best_first(label: str) -> tuple[bool, float]:
    """Order states: what is complete, then the others from the end of their life on, then what failed."""
    return label in LAST_STATES[1:], -life_order(label)


def short_duration(seconds: float) -> str:
    """Return a time in the units that matter: ``12 s``, ``5 min``, ``3 h 20 min``, ``2 d 4 h``."""
    return f"{max(seconds, 0.0):.0f} s" if seconds < 60 else format_duration(seconds)


def _text(text: str) -> str:
    return escape(printable(text))
