"""A list of observations and one row for all of them: what the list may look like, and what is said of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwa_client.errors import JobFileError
from mwa_client.jobs.jobfile import JobFile, parse_files
from mwa_client.jobs.keys import ApiVersion

OBS, OTHER = 1191828584, 1191828528
ROW = "job_type=d, download_type=vis"


def with_row(text: str | bytes, *template: str, api: ApiVersion = ApiVersion.V2) -> JobFile:
    return parse_files([(text, "obs.txt")], api, template or (ROW,))


def lines_said(text: str | bytes, *template: str) -> list[str]:
    with pytest.raises(JobFileError) as caught:
        with_row(text, *template)
    return list(caught.value.lines[:-1])


@pytest.mark.parametrize(
    "text",
    [
        f"{OBS}\n{OTHER}\n", f"{OBS} {OTHER}", f"{OBS},{OTHER},", f"{OBS}, {OTHER}", f"{OBS};{OTHER}",
        f"{OBS}\t{OTHER}\r\n", f"\ufeff{OBS}\r\n\r\n{OTHER}", f"# mine\n{OBS} # good\n{OTHER}#",
        f'"{OBS} # good","{OTHER}"', f"{OBS} # was #N/A\n\ufeff{OTHER}\n###########\n#\n#N/A are left out",
        f"obs_id\n{OBS}.0\n{OTHER}.0\n", f'"{OBS}"\n"{OTHER}"', f"OBSID\n{OBS}\n{OTHER}",
        f"sep=;\nObs ID;\n{OBS}\n{OTHER}",
        f",obs_id\n0,{OBS}\n1,{OTHER}\n", f'""\tobs_id\n"0"\t"{OBS}"\n{OTHER}\n', f'="{OBS}"\n"=""{OTHER}"""',
        "1.191828584000000000e+09\n1.191828528e9\n", f",obs_id\n{OBS},{OTHER}",
        f"[{OBS}, {OTHER}]", f'["{OBS}",\n"{OTHER}"]\n', f"['{OBS}', '{OTHER}']",
        f'{{"obs_ids": [{OBS}, {OTHER}]}}',
        f"- {OBS}\n- {OTHER}\n", f"obs_ids:\n  - {OBS}\n  - '{OTHER}'\n", f"array([{OBS}, {OTHER}])",
        f"[np.int64({OBS}), np.int64({OTHER})]", f"[{OBS}\n {OTHER}]",
        f'{{"obs_id": {OBS}}}\n{{"obs_id": {OTHER}}}',
        f"| obs_id |\n|:---|\n| {OBS} |\n| {OTHER} |", f"# obs_id\n{OBS}\n{OTHER}", f"* {OBS}\n* {OTHER}",
    ],
)  # fmt: skip
def test_the_ways_to_write_a_list(text: str) -> None:
    jobs = with_row(text)
    assert [job.obs_id for job in jobs.jobs] == [OBS, OTHER] and not jobs.warnings
    assert {dict(job.values)["download_type"] for job in jobs.jobs} == {"vis"}


def test_each_row_is_for_each_observation() -> None:
    jobs = with_row(f"{OBS}\n{OTHER}", ROW, "job_type=c, avg_time_res=4").jobs
    assert [(job.line, job.obs_id, job.job_type.value) for job in jobs] == [
        (1, OBS, "d"), (1, OBS, "c"), (2, OTHER, "d"), (2, OTHER, "c"),
    ]  # fmt: skip


def test_an_observation_twice_is_one_job() -> None:
    jobs = with_row(f"{OBS}\n{OTHER}\n{OBS}")
    assert len(jobs.jobs) == 2
    assert jobs.warnings == ("obs.txt:3: asks for the same as line 1; they are one job",)


def test_a_mistake_in_the_row_is_said_once() -> None:
    assert lines_said(f"{OBS}\n{OTHER}", "job_type=d, download_type=viss", ROW) == [
        "row:1: download_type=viss: must be vis or vis_meta; did you mean vis?"
    ]
    assert lines_said(f"{OBS}", f"obs_id={OBS}, {ROW}") == [
        "row:1: obs_id: leave it out; the list has the obs_ids"
    ]
    assert lines_said(f"{OBS}", "download_type=vis")[0].startswith("row:1: job_type: missing")


def test_what_is_no_observation_is_said_with_its_line() -> None:
    said = lines_said(f"{OBS}\n12 {OTHER} x\n")
    assert [line.partition(": must be")[0] for line in said] == [
        "obs.txt:2: obs_id=12",
        "obs.txt:2: obs_id=x",
    ]
    for error in ("#N/A", "#REF!", "####"):
        wrong = f"{error}: an error of the spreadsheet, not a value; correct the cell, or remove the row"
        text = f"{OBS}, {error},{OTHER}\n{error}\t{OTHER}"
        assert lines_said(text) == [f"obs.txt:1: {wrong}", f"obs.txt:2: {wrong}"]
    assert len(lines_said(f"#N/A\n{OBS} #N/A\n#N/A {OBS}\n#N/A")) == 4
    for narrow in ("##", "###", "##########", " ### ", '"###"', "###;"):
        assert lines_said(f"{OBS}\n{narrow}\n")[0].endswith("correct the cell, or remove the row")
    more = "an obs_id and more, as in a table; keep only the column of obs_ids"
    assert lines_said(f"{OBS} 2017-10-15 HydA\n{OTHER}") == [f"obs.txt:1: {OBS} 2017-10-15 HydA: {more}"]
    assert lines_said("# nothing") == ["obs.txt:1: no obs_ids in obs.txt"]


def test_what_is_no_list_is_said_once_a_line() -> None:
    table = "a table; keep only its column obs_id, or, if its columns are keys, give it with --csv"
    assert lines_said(f"obs_id,job_type\n{OBS},d\n{OTHER},c") == [f"obs.txt:1: {table}"]
    rows = "key=value; a list has obs_ids alone, and rows of keys are for --csv"
    assert lines_said(f"obs_id={OBS}, {ROW}\n{OTHER}") == [f"obs.txt:1: {rows}"]
    assert lines_said(f"# mine\n# obs_id cal_id\n{OBS} {OTHER}") == [
        f"obs.txt:3: a table, by line 2{table[7:]}"
    ]
    assert lines_said(f"[{{'obs_id': {OBS}, 'job_type': 'd'}}]") == [f"obs.txt:1: {table}"]
    for between in (" (", " - ", "-", ":", " ... ", "] ["):  # A calibrator, or a range, perhaps.
        assert lines_said(f"{OBS}{between}{OTHER}")[0].startswith("obs.txt:1: obs_id=")
    assert lines_said("1.19E+09")[0].endswith("have the spreadsheet show all digits of the column")


def test_all_obs_ids_on_one_long_line() -> None:
    numbers = range(OBS, OBS + 16_000, 8)
    assert len(with_row(" ".join(map(str, numbers))).jobs) == len(numbers)


@settings(deadline=None)
@given(st.lists(st.integers(888888889, 9999999999), min_size=1, unique=True), st.data())
def test_whatever_separates_them(numbers: list[int], data: st.DataObject) -> None:
    between = st.sampled_from(
        [" ", ",", ", ", "\n", "\r\n", ";", "\t", "\n# no\n", " # 1191828584\n", "\n\n"]
    )
    text = "".join(f"{number}{data.draw(between)}" for number in numbers)
    assert [job.obs_id for job in with_row(text).jobs] == numbers
