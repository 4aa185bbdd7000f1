"""Words of 2018 and today's in one row: which they are, and what is suggested for a slip."""

from __future__ import annotations

import pytest
from job_rows import C_2018, OBS, TODAY, messages

from mwa_client.errors import JobFileError
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.key_table import KEYS
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.wording import UNITS

TIME_RES, FREQ_RES = (
    "timeres: a word of 2018 (today: avg_time_res)",
    "avg_freq_res=40, flag_edge_width=80, output=ms",
)


@pytest.mark.parametrize("api", TODAY)
@pytest.mark.parametrize(
    ("cells", "guess"),
    [
        ("time_res=4", "time_res: no such key; did you mean avg_time_res?"),
        ("timersa=4", "timersa: no such key; did you mean avg_time_res?"),
        ("calibration=true", "calibration: no such key; did you mean apply_di_cal?"),
        ("avg_time_res=4, freq_res=40", "freq_res: no such key; did you mean avg_freq_res?"),
        ("edge_width=80, output=ms", "edge_width: no such key; did you mean flag_edge_width?"),
        ("rfi=true", "rfi: no such key; did you mean no_rfi?"),
        ("centre=custom, ra=1, custom_centre_dec=2", "ra: no such key; did you mean custom_centre_ra?"),
        ("no_geometric_dly=true", "no_geometric_dly: no such key; did you mean no_geometric_delay?"),
        ("time res", "time res: write key=value"),
        # What the row has already cannot be meant.
        ("avg_time_res=4, time_res=8", "time_res: no such key"),
        # In a row of 2018 the suggestion is in its words.
        (f"{C_2018[31:]}, rfi=true", "rfi: no such key; did you mean norfi?"),
        (C_2018[31:].replace("freqres", "freq_res"), "freq_res: no such key; did you mean freqres?"),
    ],
)  # fmt: skip
def test_a_slip_in_todays_words_is_no_word_of_2018(api: ApiVersion, cells: str, guess: str) -> None:
    assert messages(f"{OBS}, job_type=c, {cells}", api) == [guess]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("avg_time_res=4, freqres=40",
         "freqres: a word of 2018 (today: avg_freq_res); a row with such words must also have edgewidth "
         "and conversion"),
        ("calibrate=true",
         "calibrate: a word of 2018 (today: apply_di_cal); a row with such words must also have timeres, "
         "freqres, edgewidth and conversion"),
        ("avg_time_res=4, allowmissing=true",
         "allowmissing: a word of 2018 (today: none); a row with such words must also have freqres, "
         "edgewidth and conversion"),
        ("timeres=4, norfi=true, avg_freq_res=40, flag_edge_width=80",
         "timeres, norfi: words of 2018 (today: avg_time_res for timeres, no_rfi for norfi); a row with such "
         "words must also have conversion"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("api", ApiVersion)
def test_a_row_with_words_of_both_says_which_made_it_2018(api: ApiVersion, cells: str, message: str) -> None:
    assert messages(f"{OBS}, job_type=c, {cells}", api) == [message]


@pytest.mark.parametrize(
    ("cells", "warning"),
    [
        (FREQ_RES, f"{TIME_RES}; the row is read as one of 2018: without flagdcchannels, the centre channels "
                   "are not flagged"),
        (f"{FREQ_RES}, no_flag_dc=true", f"{TIME_RES}; the row is read as one of 2018"),
    ],
)  # fmt: skip
def test_a_good_row_with_words_of_both_is_a_warning(cells: str, warning: str) -> None:
    row = f"{OBS}, job_type=c, timeres=4, {cells}"
    assert parse(row, ApiVersion.V2).warnings == (f"jobs.csv:1: {warning}",)
    twice = parse(f"{row}\n{row.replace('584', '528')}", ApiVersion.V2)
    assert twice.warnings == (f"jobs.csv:1: {warning} (reported once for 2 rows)",)


def test_where_to_deliver_to_is_said_in_one_word_beside_those_of_2018() -> None:
    assert parse(f"{C_2018}, delivery=acacia", ApiVersion.V2).warnings == ()


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        (f"{OBS}, job_type=d, type=vis", ["type: no such key; did you mean download_type?"]),
        (f"{OBS}, jobtype=d, type=vis", ["jobtype: no such key; did you mean job_type?",
                                         "type: no such key; did you mean download_type?"]),
        (f"{OBS}, obsid=7, job_type=d, download_type=vis", ["obsid: no such key"]),
    ],
)  # fmt: skip
def test_what_a_row_has_already_is_not_suggested(row: str, wrong: list[str]) -> None:
    assert messages(row, ApiVersion.V2) == wrong


def test_what_a_table_has_already_is_not_suggested() -> None:
    with pytest.raises(JobFileError, match="type: no such key; did you mean download_type"):
        parse(f"obs_id,job_type,type\n{OBS[7:]},d,vis\n", ApiVersion.V2)


def test_words_of_2019_to_2022_are_understood_and_said_once_what_replaced_them() -> None:
    rows = f"""{OBS}, job_type=c, centre=custom, phase_centre_ra=10.5, phase_centre_dec=-27
{OBS}, job_type=c, centre=custom, phase_centre_ra=11.5, custom_centre_dec=-27
{OBS}, job_type=i, clean_threshold=0.01, nwlayers=64, no_geometric_delay=true"""
    said = parse(rows, ApiVersion.V2).warnings
    assert said[1] == (
        "jobs.csv:1: phase_centre_ra: a word of 2019 to 2022 (today: custom_centre_ra); it is understood as "
        "before (reported once for 2 rows)"
    )
    assert [text.split(": ")[1] for text in said] == [
        "phase_centre_dec", "phase_centre_ra", "clean_threshold", "no_geometric_delay", "nwlayers",
    ]  # fmt: skip
    assert parse(rows, ApiVersion.V1).warnings == ()  # These are that interface's own words.


@pytest.mark.parametrize(
    "rows",
    [
        f"{OBS}, job_type=d, download_type=vis, expiry_days=30, priority=",
        f"obs_id,job_type,download_type,expiry_days,priority\n{OBS[7:]},d,vis,30,",
    ],
)
def test_a_key_of_earlier_years_is_left_out_with_a_word(rows: str) -> None:
    read = parse(rows, ApiVersion.V2)
    (warning,) = read.warnings
    assert warning.endswith("expiry_days: no longer a key, and is not sent: each product is kept for 7 days")
    (job,) = read.jobs
    assert not {"expiry_days", "priority"} & dict(job.values).keys()


def test_every_unit_has_its_words() -> None:
    assert {key.unit for key in KEYS} - {""} == set(UNITS)
