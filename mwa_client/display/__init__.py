"""What people and programs see of a run: lines, bars, JSON, listings."""

from __future__ import annotations

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
) -> Display:
    """Return the display that fits: bars where `errors` is a terminal, lines elsewhere, JSON if asked for.

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
    """
    if json:
        from mwa_client.display.json_lines import JsonDisplay

        return JsonDisplay(out, errors, clock)
    has_no_bars = environment.get("TERM") == "dumb" or environment.get("TQDM_DISABLE")
    if errors.isatty() and not (quiet or verbose or has_no_bars):
        try:
            from mwa_client.display.bars import BarDisplay

            return BarDisplay(out, errors, clock, colour=not environment.get("NO_COLOR"))
        except Exception:
            pass  # tqdm is missing or broken here: lines say as much.
    from mwa_client.display.lines import LineDisplay

    return LineDisplay(out, errors, clock, quiet=quiet)
