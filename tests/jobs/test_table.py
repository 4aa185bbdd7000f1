"""Tables, as spreadsheets and pandas write them, ask for the jobs that their rows would ask for."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from job_rows import C_2018, Cells, good_rows, messages, written

from mwa_client.errors import JobFileError
from mwa_client.jobs.beginning import SOME_ROW
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.table import NOT_SAID
from mwa_client.jobs.text import NO_FILE, SPREADSHEET_ERROR

HEADER = "obs_id,job_type,avg_time_res,avg_freq_res,output,download_type\n"
TABLE = f"{HEADER}1191828584,c,4,40,ms,\n1191828528,d,,,,vis_meta\n"
ROWS = (
    "obs_id=1191828584, job_type=c, avg_time_res=4, avg_freq_res=40, output=ms\n"
    "obs_id=1191828528, job_type=d, download_type=vis_meta"
)


def jobs(text: bytes | str, api: ApiVersion = ApiVersion.V2) -> list[tuple[object, ...]]:
    """What each job asks for, and on which line of the file."""
    return [(job.identity, job.allow_resubmit, job.line) for job in parse(text, api).jobs]


def asked(text: bytes | str) -> list[object]:
    return [job[0] for job in jobs(text)]


@pytest.mark.parametrize(
    "text",
    [
        TABLE,
        TABLE.replace(",", ";"),
        TABLE.replace(",", "\t"),
        TABLE.replace(",", " , "),
        TABLE.replace("\n", "\r\n"),
        "\ufeff" + TABLE,
        "# made by hand\n\n" + TABLE,
        TABLE.replace("ms,", '"ms",').replace("1191828528", '"1191828528"'),
        TABLE.replace("1191828584", "1191828584.0").replace("1191828528", "1191828528.0"),
        TABLE.replace("1191828584", "1.191828584E+09"),
        TABLE.replace("1191828584", '="1191828584"').replace("1191828528", "'1191828528"),
        TABLE.replace(",4,40,", ",4.0,40.000,"),
        TABLE.replace(",,,,", ",NaN,nan,None,").replace("ms,\n", "ms,<NA>\n"),
        TABLE + ",,,,,\n\n",
        TABLE + HEADER,
        "\n".join(f",{line}" if line else "" for line in TABLE.split("\n")),
        "".join(f"{number},{line}\n" for number, line in zip(["", 0, 1], TABLE.splitlines())),
        "".join(f"{number},{line}\n" for number, line in zip(["Unnamed: 0", 0, 1], TABLE.splitlines())),
        "\n".join(f"{line}," for line in TABLE.splitlines()),
        TABLE.replace("output", "conversion").replace(",conversion", ",output"),
        TABLE.replace(HEADER, HEADER.upper()),
        TABLE.replace("obs_id,job_type,avg_time_res", "ObsID,Job Type,Avg-Time res"),
        TABLE.replace(",", ";") + HEADER.replace(",", ";").title(),
        "sep=;\n;;;;;\n" + TABLE.replace(",", ";").replace(";4;", ";4,0;"),
        TABLE.replace(",", "\t").replace("1191828584", "1,191828584E+09").replace("828528", "828528,0"),
        "\n".join(f"{line},{end}" for line, end in zip(TABLE.splitlines(), ["Unnamed: 6", "", "NaN"])),
    ],
)  # fmt: skip
def test_a_table_asks_for_what_its_rows_would(text: str) -> None:
    assert asked(text) == asked(ROWS)


def test_a_column_of_booleans_with_gaps_in_it() -> None:
    rows = "".join(
        f"{1191828584 + 8 * number},c,{text}\n" for number, text in enumerate(["True", "1.0", "0", "0.0", ""])
    )
    said = [
        dict(job.values).get("no_rfi") for job in parse(f"obs_id,job_type,no_rfi\n{rows}", ApiVersion.V2).jobs
    ]
    assert said == ["true", "true", "false", "false", None]


def test_lines_are_those_of_the_file() -> None:
    assert [line for _, _, line in jobs(f"# a\n\n{TABLE}")] == [4, 5]
    assert messages(TABLE.replace("vis_meta", "viss")) == [
        "download_type=viss: must be vis or vis_meta; did you mean vis?"
    ]


def test_a_table_in_the_words_of_2018() -> None:
    cells = [cell.strip().split("=") for cell in C_2018.split(",")]
    text = ",".join(name for name, _ in cells) + "\n" + ",".join(value for _, value in cells)
    for api in ApiVersion:
        assert [identity for identity, _, _ in jobs(text, api)] == [jobs(C_2018, api)[0][0]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("obs_id,job_typ\n1191828584,d",
         ["job_typ: no such key; did you mean job_type? If not, remove the column"]),
        ("Targets of 2017,,\nobs_id,job_type,download_type\n1191828584,d,vis",
         ["Targets of 2017,,: not a row; remove what is above the header of the table"]),
        ("PK\x03\x04\x14\0\x06", ["a spreadsheet's own format, not text; save the sheet as CSV in UTF-8"]),
        ("SIMPLE  =                    T / conforms to FITS", ["FITS, not text; save the table as CSV"]),
        ("obs_id,job_type,notes\n1191828584,d,good", ["notes: no such key; remove the column"]),
        ("obs_id,job_type,obs_id\n", ["obs_id: given more than once"]),
        ("obs_id,output\n1191828584,ms", ["job_type: missing; the table must have a column for it"]),
        ("job_type,download_type\nd,vis",
         ["obs_id: missing; the table must have a column for it"]),
        ("obs_id,job_type,time_res\n1191828584,c,4",
         ["time_res: no such key; did you mean avg_time_res? If not, remove the column"]),
        ("obs_id,job_type,timers,freqres\n1191828584,c,4",
         ["timers: no such key; did you mean timeres? If not, remove the column"]),
        ("obs_id job_type download_type\n1191828584 d vis",
         ["separate the columns with commas: obs_id,job_type,download_type"]),
        ("| obs_id | job_type |\n", ["separate the columns with commas: obs_id,job_type"]),
        ("obs_id,job_type,download_type\n1191828584,d,vis,extra",
         ["4 values, and the header on line 1 has 3 columns"]),
        ('obs_id,job_type,download_type\n"1191828584,d,vis',
         ['"1191828584,d,vis: a quotation mark is not closed']),
        ("obs_id,job_type,download_type\n1.19183E+09,d,vis",
         ["obs_id=1.19183E+09: must be a whole number of GPS seconds, 888888889 to 9999999999; "
          "it was rounded: have the spreadsheet show all digits of the column"]),
        ("obs_id,job_type\n1191828584,c\n###,###", [f"###: {SPREADSHEET_ERROR}"]),
        ("obs_id,job_type\n", ["this is the header of a table that has no rows"]),
        ("obs_id,job_type,\n1191828584,c,ms\n1191828528,c,NaN",
         ["ms: column 3 has no name in the header on line 1; give it the name of a key, or remove it"]),
        ("obs_id;job_type;avg_time_res\n1191828584;c;2,125",
         ["avg_time_res=2,125: must be a number of seconds, 0 or more; write it without a comma"]),
        ("# obs_id,job_type,download_type\n1191828584,d,vis\n1191828528,d,vis",
         ["a comment that names the columns; write it without #: obs_id,job_type,download_type"]),
        ("# of 2017\n# obs_id job_type\n1191828584 d\n",
         ["a comment that names the columns; write it without #, and separate the columns with commas: "
          "obs_id,job_type"]),
        ("# obs_id, job_type\n1191828584 was good", ["a comment that names the columns; write it without #, "
         "and separate the columns with commas: obs_id,job_type"]),
        ("+---+---+\n| obs_id | job_type |\n+---+---+\n| 1191828584 | d |\n",
         ["separate the columns with commas: obs_id,job_type"]),
        ("obs\\_id & job\\_type \\\\\n", ["separate the columns with commas: obs_id,job_type"]),
        ('{"obs_id": 1191828584.0, "job_type": "d"}\n{"obs_id": 1191828528}',
         ["JSON; write each job as a row: obs_id=1191828584, job_type=d"]),
        ('[\n  {\n    "obs_id": 1191828584\n  }\n]', [f"JSON; write each job as a row: {SOME_ROW}"]),
        ("- obs_id: 1191828584\n  job_type: d\n",
         [f"obs_id: no equals sign; write each job on one line: {SOME_ROW}"]),
        ('<?xml version="1.0"?>\n', ["a web page, or XML, not rows of jobs; save the table as CSV"]),
        ("\\begin{tabular}{ll}\n", ["LaTeX, not rows of jobs; save the table as CSV"]),
        (",obs_id,job_type\n0,1191828584,c\n1,,\n2,NaN,nan\n",
         ["a row without values; fill it in, or remove it"] * 2),
        ("obs_id,job_type,output\n#N/A,c,ms\n,#REF!,ms\n1191828584,c,#N/A",
         [f"#N/A: {SPREADSHEET_ERROR}", f"#REF!: {SPREADSHEET_ERROR}", f"output=#N/A: {SPREADSHEET_ERROR}"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_said_once(text: str, said: list[str]) -> None:
    assert messages(text) == said


@pytest.mark.parametrize(
    "text",
    ["1191828584\n1191828528\n", "1191828584 1191828528", "1191828584,1191828528,", "obs_id\n1191828584\n",
     '"1191828584"\n', "1191828584.0\n1191828528.0\n", "# mine\n1191828584\n",
     "1.191828584000000000e+09\n", "[\n  1191828584,\n  1191828528\n]\n", "- 1191828584\n",
     '{"obs_ids": ["1191828584"]}', "| obs_id |\n|---|\n| 1191828584 |\n"],
)  # fmt: skip
def test_a_list_of_observations_is_answered_with_the_line_that_works(text: str) -> None:
    (said,) = messages(text)
    assert said == (
        "a list of obs_ids; give it with a row for all of them: "
        "--obs-ids=jobs.csv -j 'job_type=d, download_type=vis'"
    )


def test_obs_ids_in_no_file_are_answered_with_a_row() -> None:
    with pytest.raises(JobFileError, match=rf"^row:1: obs_ids alone; .*: {SOME_ROW}\n"):
        parse("1191828584", ApiVersion.V2, NO_FILE)
    for pasted in ("1191828584,d,vis", "1191828584\td\tvis"):
        with pytest.raises(
            JobFileError, match=rf"^row:1: values without keys; write key=value: {SOME_ROW}\n"
        ):
            parse(pasted, ApiVersion.V2, NO_FILE)


# --- Whatever is written is read --------------------------------------------------------------------------


def columns_of(rows: list[Cells]) -> list[str]:
    return sorted({name for row in rows for name, _ in row})


@settings(max_examples=35, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_csv_writes_is_read_as_these_rows(data: st.DataObject) -> None:
    vocabulary = data.draw(st.sampled_from([None, ApiVersion.V2018]))
    rows = data.draw(st.lists(good_rows(ApiVersion.V2, vocabulary), min_size=1, max_size=5))
    names = data.draw(st.permutations(columns_of(rows)))
    has_index, bom = data.draw(st.booleans()), data.draw(st.sampled_from(["", "\ufeff"]))
    gap = st.sampled_from([each for each in NOT_SAID if each.isalpha() or not each])
    out = io.StringIO()
    writer = csv.writer(
        out,
        delimiter=data.draw(st.sampled_from(",;\t")),
        quoting=data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        lineterminator=data.draw(st.sampled_from(["\n", "\r\n"])),
    )
    writer.writerow([""] * has_index + list(names))
    for number, row in enumerate(rows):
        said = dict(row)
        texts = [said.get(name) if name in said else data.draw(gap) for name in names]
        if data.draw(st.booleans()):  # As pandas writes a column of numbers with a gap in it.
            texts = [f"{text}.0" if name == "obs_id" else text for name, text in zip(names, texts)]
        writer.writerow([number] * has_index + texts)
    expected = asked("\n".join(map(written, rows)))
    assert asked(bom + out.getvalue()) == expected
    assert asked((bom + out.getvalue()).encode()) == expected


@settings(max_examples=35, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_pandas_writes_is_read_as_these_rows(data: st.DataObject) -> None:
    pandas = pytest.importorskip("pandas")
    rows = data.draw(st.lists(good_rows(ApiVersion.V2), min_size=1, max_size=4))

    def of_type(text: str) -> object:
        if text in ("true", "false"):
            return text == "true"
        return float(text) if text.replace(".", "", 1).isdigit() and len(text) < 15 else text

    frame = pandas.DataFrame([{name: of_type(text) for name, text in row} for row in rows])
    text = frame.to_csv(
        index=data.draw(st.booleans()),
        sep=data.draw(st.sampled_from(",;\t")),
        na_rep=data.draw(st.sampled_from(["", "NaN", "<NA>"])),
    )
    assert asked(text) == asked("\n".join(map(written, rows)))


@settings(deadline=None)
@given(st.text(alphabet='obs_id,job_type;\t\n"=1234567890. |cd#', max_size=200))
def test_any_beginning_is_jobs_or_mistakes(text: str) -> None:
    try:
        parse(f"obs_id,job_type\n{text}", ApiVersion.V2)
        parse(text, ApiVersion.V2)
    except Exception as error:
        assert type(error).__name__ == "JobFileError"
