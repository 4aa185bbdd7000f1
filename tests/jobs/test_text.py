"""The text of a job file, however it was saved, becomes rows and cells."""

from __future__ import annotations

import pytest
from job_rows import C_TODAY, DOWNLOAD, messages, mistakes_in

from mwa_client.errors import Mistake
from mwa_client.jobs.jobfile import parse, parse_row
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.text import SPREADSHEET_ERROR, cells_of


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_line_ends_and_byte_order_mark_do_not_matter(end: str, bom: str) -> None:
    lines = ["# jobs", "", bom + DOWNLOAD + ",", "   ", C_TODAY]
    text = bom + end.join(lines)
    for data in (text, text.encode(), text + end):
        assert [job.line for job in parse(data, ApiVersion.V2).jobs] == [3, 5]


@pytest.mark.parametrize(
    "row",
    [
        "obs_id=1191828584,job_type=d,download_type=vis",
        "  obs_id = 1191828584 ,\tjob_type= d , download_type =vis  ,",
        "obs_id=1191828584,job_type=d,download_type=vis,,,,,",
        ",,obs_id=1191828584,,job_type=d,download_type=vis",
        '"obs_id=1191828584","job_type=d","download_type=vis"',
        ' "obs_id=1191828584" ,"job_type=d",  download_type=vis,""',
        '"obs_id=1191828584, job_type=d, download_type=vis",,,',
        '"""obs_id=1191828584""",job_type=d,download_type=vis,""" """',
        "obs_id=1191828584,\u00a0job_type=d,\u00a0download_type=vis",
    ],
)
def test_a_row_may_be_spaced_padded_and_quoted(row: str) -> None:
    assert parse(row, ApiVersion.V2).jobs == (parse_row(DOWNLOAD, ApiVersion.V2),)


@pytest.mark.parametrize(
    "row", ["", "   ", ",,,,", '"","",', "# obs_id=1", "  # x, y", '"# a ""note"", with commas",,', "#"]
)
def test_empty_rows_and_comments_are_no_jobs(row: str) -> None:
    assert parse(f"{row}\n{DOWNLOAD}\n{row}", ApiVersion.V2).jobs[0].line == 2
    assert mistakes_in(row) == [Mistake(1, "no jobs in jobs.csv")]


@pytest.mark.parametrize(
    "error",
    ["#N/A", "#n/a", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!", "#SPILL!", "#CALC!",
     "#WERT!", "#NV", "#######", "#\u041d/\u0414", "#N/B", "#N/DISP", "#YOK"],
)  # fmt: skip
def test_an_error_of_a_spreadsheet_is_no_comment(error: str) -> None:
    rest = ", job_type=d, download_type=vis"
    for row in (f"{error}{rest}", f'"{error}" {rest}', f"{error}; x", f",,{error}{rest}", f"{error}\t{rest}"):
        assert mistakes_in(f"{DOWNLOAD}\n{row}") == [Mistake(2, f"{error}: {SPREADSHEET_ERROR}")]
    assert messages(f"{error},{'x' * 20_000}") == [f"{error}: {SPREADSHEET_ERROR}"]
    assert messages(f"obs_id={error}{rest}") == [f"obs_id={error}: {SPREADSHEET_ERROR}"]
    assert messages(f"{DOWNLOAD}, {error}") == [f"{error}: {SPREADSHEET_ERROR}"]


@pytest.mark.parametrize(
    "row", ["#" * 70, "## jobs, mine ##", "#N/A rows are left out", "#, x", "#obs_id=1!"]
)
def test_what_only_looks_like_an_error_of_a_spreadsheet_is_a_comment(row: str) -> None:
    assert len(parse(f"{row}\n{DOWNLOAD}", ApiVersion.V2).jobs) == 1


def test_a_comment_behind_a_row_is_a_mistake_with_a_remedy() -> None:
    assert messages(f"{DOWNLOAD} # mine") == [
        "download_type=vis # mine: a comment must be on a line of its own"
    ]
    assert messages(f"{DOWNLOAD}, # mine") == ["# mine: a comment must be on a line of its own"]


def test_an_unbalanced_quotation_mark_harms_its_own_line_alone() -> None:
    text = f'"{DOWNLOAD}\n{DOWNLOAD}\nobs_id=12, job_type=d, download_type=vis\n'
    assert mistakes_in(text) == [
        Mistake(1, '"obs_id=1191828584: a quotation mark is not closed'),
        Mistake(3, "obs_id=12: must be a whole number of GPS seconds, 888888889 to 9999999999"),
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_one_clear_mistake(encoding: str) -> None:
    assert mistakes_in(f"{DOWNLOAD}\n{DOWNLOAD}\n".encode(encoding)) == [
        Mistake(1, "not plain text (UTF-16, perhaps); save the file as CSV in UTF-8")
    ]


def test_a_zero_byte_is_reported_where_it_is() -> None:
    assert [mistake.line for mistake in mistakes_in(f"{DOWNLOAD}\r\n\r\nobs_id=1\0".encode())] == [3]


def test_bytes_that_are_not_utf_8_are_reported_with_the_other_mistakes() -> None:
    assert mistakes_in(DOWNLOAD.encode() + b"\n# caf\xe9\nobs_id=1191828584, job_type=d\n") == [
        Mistake(2, "not UTF-8 text (byte 0xe9); save the file as UTF-8"),
        Mistake(3, "download_type: missing; must be vis or vis_meta"),
    ]


def test_a_lone_quotation_mark_is_one_mistake() -> None:
    assert messages(f'{DOWNLOAD}, "\t,') == ['": a quotation mark is not closed']


def test_text_that_cannot_be_utf_8_is_a_mistake() -> None:
    assert messages("obs_id=\ud800") == ["not UTF-8 text (byte 0xed); save the file as UTF-8"]


def test_only_real_line_ends_count() -> None:
    assert [m.line for m in mistakes_in("# a\x0b\x0c\u2028\x85\nobs_id=1191828584\u2028, job_type=x")] == [2]


def test_what_is_quoted_back_is_safe_to_print_and_not_too_long() -> None:
    said = messages(f"{DOWNLOAD.replace('1191828584', chr(27) + '[31m' + chr(7) + '8' * 5000)}, \x1b]0;=1")
    assert said[0].startswith("obs_id=\\x1b[31m\\x07888")
    assert said[1] == "\\x1b]0;: no such key"
    assert messages(f"{DOWNLOAD}, {'k' * 60}=1, {'l' * 61}=1") == [
        f"{'k' * 60}: no such key",
        f"{'l' * 60}...: no such key",
    ]
    assert all(len(message) < 200 and message.isprintable() for message in said)


@pytest.mark.parametrize("between", [";", "; ", " ;", "\t", " \t ", ";\t"])
def test_semicolons_and_tabs_separate_cells_too(between: str) -> None:
    row = between.join(["obs_id=1191828584", "job_type\t= c", "avg_time_res =\t4", "no_rfi=true"])
    said: list[str] = []
    assert [cell.name for cell in cells_of(row, said)] == ["obs_id", "job_type", "avg_time_res", "no_rfi"]
    assert {cell.value for cell in cells_of(f"{row};", said)} == {"1191828584", "c", "4", "true"}
    assert not said
