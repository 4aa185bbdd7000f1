"""How lines for people look: in a log, on a terminal, and on one without colours."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mwa_client.display.printing import GREEN, PLAIN, RED, YELLOW, Look, wrapped

WARNING = "Warning: jobs.csv:1: allowmissing has no equivalent in today's service, and is not sent"


class Stream(io.StringIO):
    """A stream that may be a terminal; of 80 columns, as it does not tell."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self.isatty = lambda: is_terminal  # type: ignore[method-assign]


def shown(
    text: str, is_terminal: bool, *, is_log: bool = True, colour: str = "", environment: Any = None
) -> str:
    stream = Stream(is_terminal)
    return Look.of(stream, environment or {}, is_log=is_log).laid_out(text, stream, 0.0, colour)


def test_a_log_has_the_time_and_an_answer_has_none() -> None:
    assert shown(WARNING, False)[:4] in ("1970", "1969") and shown(WARNING, False).endswith(f" {WARNING}")
    assert shown(WARNING, False, is_log=False) == WARNING


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
def test_a_terminal_has_short_lines_and_colours_if_it_can(environment: dict[str, str]) -> None:
    first, second = shown(WARNING, True, environment=environment).split("\n")
    plain = "Warning: jobs.csv:1: allowmissing has no equivalent in today's service, and is"
    assert second == "  not sent"
    assert first == (plain if environment else plain.replace("Warning:", f"{YELLOW}Warning:{PLAIN}"))


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("mwa_client: no", RED),
        ("Error: no, Line num: 1", RED),
        ("There were errors:", RED),
        ("Queued: 1", ""),
    ],
)
def test_errors_are_red_wherever_they_come_from(text: str, colour: str) -> None:
    assert shown(text, True).startswith(colour or "Q")
    assert shown("Done: 1", True, colour=GREEN) == f"{GREEN}Done:{PLAIN} 1"


def test_what_may_be_copied_is_not_broken() -> None:
    row = "'obs_id=1191828584, job_type=d, download_type=vis'"
    lines = wrapped(f"Give a row for all of the user's observations: -j {row}, and the rest", 50)
    assert [line for line in lines if row in line]
    assert wrapped("Downloading: 1191828584_10003_vis.tar (16.8 MB)", 44)[1] == "  (16.8 MB)"
    assert wrapped("    a b", 20) == ["    a b"] and wrapped("", 20) == [""]


@given(text=st.text("ab'8B \N{NO-BREAK SPACE}\N{EM SPACE}\N{IDEOGRAPHIC SPACE}", max_size=60))
def test_names_keep_their_spaces_and_nothing_is_lost(text: str) -> None:
    rest = text
    for piece in (line.strip(" ") for line in wrapped(text, 20)):
        assert rest.lstrip(" ").startswith(piece)
        rest = rest.lstrip(" ")[len(piece) :]
    assert not rest.strip(" ")
