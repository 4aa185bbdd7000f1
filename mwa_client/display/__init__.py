"""What people and programs see of a run: lines, bars, JSON, listings."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:  # Loaded when it is needed, so that a listing need not load the bars.
    from mwa_client.display.display import Display
    from mwa_client.timing import Clock


def display_for(
    out: TextIO,
    errors: TextIO,
    clock: Clock,
    environment: Mapping[str, str],
    *,
    quiet: bool = False,
    json: bool = False,
    verbose: bool = False,
    names_jobs: bool = False,
) -> Display:
    """Return the display that fits: bars on a terminal, lines elsewhere, JSON if asked for.

    Bars are drawn on `errors` where `out` is the same terminal, or goes to a file. Where it goes to another
    program (``| less``), they would draw over what that one shows.

    Parameters
    ----------
    out : text stream
        Where the story of the run goes.
    errors : text stream
        Where errors and warnings go, and the bars.
    clock : Clock
        The time.
    environment : mapping
        The environment variables: ``TERM=dumb`` and ``TQDM_DISABLE`` mean no bars, ``NO_COLOR`` no colour.
    quiet : bool
        Show only errors and the summary.
    json : bool
        Show JSON lines.
    verbose : bool
        The log is shown too, and bars would be torn by it.
    names_jobs : bool
        The job ids are what is wanted: name each.
    """
    from mwa_client.display.printing import Look, Looks

    if json:
        from mwa_client.display.json_lines import JsonDisplay

        return JsonDisplay(out, errors, clock, looks=Looks(errors=Look.of(errors, environment)))
    from mwa_client.display.lines import LineDisplay

    looks = Looks(Look.of(out, environment), Look.of(errors, environment))
    is_dumb = environment.get("TERM") == "dumb"
    has_no_bars = is_dumb or environment.get("TQDM_DISABLE") or quiet or verbose
    if errors.isatty() and (out.isatty() or _is_file(out)) and not has_no_bars:
        try:
            from mwa_client.display.bars import BarDisplay

            is_beside = out.isatty() and _is_same(out, errors)
            if is_beside or not out.isatty():
                return BarDisplay(
                    out,
                    errors,
                    clock,
                    looks=looks,
                    colour=looks.errors.is_coloured,
                    is_beside=is_beside,
                    names_jobs=names_jobs,
                )
        except Exception:
            pass  # tqdm is missing or broken here: lines say as much.
    return LineDisplay(out, errors, clock, quiet=quiet, looks=looks, names_jobs=names_jobs)


def _is_file(stream: TextIO) -> bool:
    """Say whether nobody reads along: a file or a device, no pipe."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):
        return True
    return not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))


def _is_same(out: TextIO, errors: TextIO) -> bool:
    """Say whether two streams are the same terminal."""
    try:
        return os.path.sameopenfile(out.fileno(), errors.fileno())
    except (OSError, ValueError):
        return out is errors
