"""Every mistake in a row is found, and no mistake that follows from another."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

import pytest
from job_rows import ACACIA_IS_TAR, C_2018, C_TODAY, DOWNLOAD, IMAGING, OBS, TODAY, VOLTAGE, form, messages

from mwa_client.errors import ExitStatus, JobFileError, Mistake
from mwa_client.jobs.jobfile import parse, parse_row
from mwa_client.jobs.keys import ApiVersion, JobType

TRANSLATED = "in English (spreadsheets in other languages translate them)"

# --- Mistakes -----------------------------------------------------------------------------------------


def test_every_mistake_of_a_file_is_reported_with_its_line() -> None:
    text = f"""# five mistakes and a good row
{C_2018.replace("freqres=20", "freqres=ten")}
{C_2018.replace("freqres", "frqres")}

{DOWNLOAD}
obs_id=1191828584, job_type=c, timeres=20, freqres=20, edgewidth=80, conversion=mss, norfi=yes
obs_id, job_type=d, download_type=vis
"""
    with pytest.raises(JobFileError) as caught:
        parse(text, ApiVersion.V2)
    assert str(caught.value).splitlines() == [
        "jobs.csv:2: freqres=ten: must be a whole number of kHz, 1 or more",
        "jobs.csv:3: frqres: no such key; did you mean freqres?",
        "jobs.csv:6: conversion=mss: must be ms or uvfits; did you mean ms?",
        "jobs.csv:6: norfi=yes: must be true or false",
        "jobs.csv:7: obs_id: write key=value",
        "Error: freqres=ten: must be a whole number of kHz, 1 or more, Line num: 2",
    ]
    assert caught.value.exit_status == ExitStatus.BAD_FILE


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("avg_freq_res=ten", "avg_freq_res=ten: must be a number of kHz, 0 to 1280"),
        ("avg_freq_res=1281", "avg_freq_res=1281: must be a number of kHz, 0 to 1280"),
        ("avg_freq_res=-1", "avg_freq_res=-1: must be a number of kHz, 0 to 1280"),
        ("avg_time_res=nan", "avg_time_res=nan: must be a number of seconds, 0 or more"),
        ("avg_time_res=inf", "avg_time_res=inf: must be a number of seconds, 0 or more"),
        ("avg_time_res=1e999", "avg_time_res=1e999: must be a number of seconds, 0 or more"),
        ("avg_time_res=1e99999", "avg_time_res=1e99999: must be a number of seconds, 0 or more"),
        ("avg_time_res=1_0", "avg_time_res=1_0: must be a number of seconds, 0 or more"),
        ("avg_time_res=\u0664", "avg_time_res=\u0664: must be a number of seconds, 0 or more"),
        ("avg_time_res=.", "avg_time_res=.: must be a number of seconds, 0 or more"),
        ("output=MS", "output=MS: must be ms or uvfits; did you mean ms?"),
        ("output=zip", "output=zip: must be ms or uvfits"),
        ("centre=point", "centre=point: must be phase, pointing or custom; did you mean pointing?"),
        ("no_rfi=ture", "no_rfi=ture: must be true or false; did you mean true?"),
        ("no_rfi=1", "no_rfi=1: must be true or false"),
        ("no_rfi=ИСТИНА", f"no_rfi=ИСТИНА: must be true or false, {TRANSLATED}; did you mean true?"),
        ("no_rfi=Falsch", f"no_rfi=Falsch: must be true or false, {TRANSLATED}; did you mean false?"),
        ("no_rfi=true # noisy", "no_rfi=true # noisy: a comment must be on a line of its own"),
        ("no_rfi", "no_rfi: write key=value"),
        ("=true", "=true: write key=value"),
        ("avg-time-res=4", "avg-time-res: no such key; did you mean avg_time_res?"),
        ("Avg_Time_Res=4", "Avg_Time_Res: no such key; did you mean avg_time_res?"),
        ("nothing_like_it=4", "nothing_like_it: no such key"),
        ("no_rfi=true pol=XX", "no_rfi=true pol=XX: separate the cells with commas"),
        ("download_type=vis", "download_type=vis: belongs to a download job, not to a conversion job"),
        ("pol=XX", "pol=XX: belongs to an imaging job, not to a conversion job"),
        ("delivery=mars", "delivery=mars: must be acacia, scratch or dug"),
        ("delivery_format=files", f"delivery_format=files: {ACACIA_IS_TAR}"),
        ("custom_centre_ra=10", "custom_centre_ra: only with centre=custom"),
        ("custom_centre_ra=360", "custom_centre_ra=360: must be a number of degrees, 0 to 359.999999"),
        ("allow_resubmit=yes", "allow_resubmit=yes: must be true or false"),
    ],
)  # fmt: skip
def test_one_bad_cell_is_one_mistake(cell: str, message: str) -> None:
    assert messages(f"{OBS}, job_type=c, {cell}") == [message]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("timeres=20", "timeres=0", "timeres=0: must be a whole number of seconds, 1 or more"),
        ("timeres=20", "timeres=0.5", "timeres=0.5: must be a whole number of seconds, 1 or more"),
        ("timeres=20", "timeres=20.0", "timeres=20.0: must be a whole number of seconds, 1 or more"),
        ("timeres=20", "timeres=1e1", "timeres=1e1: must be a whole number of seconds, 1 or more"),
        ("timeres=20", "timeres=+4", "timeres=+4: must be a whole number of seconds, 1 or more"),
        ("edgewidth=80", "edgewidth=-1", "edgewidth=-1: must be a whole number of kHz, 0 or more"),
        ("timeres=20, ", "", "timeres: missing; must be a whole number of seconds, 1 or more"),
        ("freqres=20, ", "", "freqres: missing; must be a whole number of kHz, 1 or more"),
        ("edgewidth=80, ", "", "edgewidth: missing; must be a whole number of kHz, 0 or more"),
        ("conversion=ms", "norfi=true", "conversion: missing; must be ms or uvfits"),
        ("conversion=ms", "conversion=ms, usepcentre=pointing", "usepcentre=pointing: must be true or false"),
        (
            "obs_id=1191828584",
            "",
            "obs_id: missing; must be a whole number of GPS seconds, 888888889 to 9999999999",
        ),
        ("job_type=c", "", "job_type: missing; must be c, d, v, b or i"),
        (
            "conversion=ms",
            "conversion=ms, noflagmissings=true",
            "noflagmissings=true: only with allowmissing=true",
        ),
        (
            "conversion=ms",
            "conversion=ms, noflagmissings=true, allowmissing=false",
            "noflagmissings=true: only with allowmissing=true",
        ),
    ],
)
@pytest.mark.parametrize("api", ApiVersion)
def test_2018_rows_have_the_rules_of_2018_on_every_interface(
    api: ApiVersion, old: str, new: str, message: str
) -> None:
    assert messages(C_2018.replace(old, new), api) == [message]


def test_noflagmissings_is_fine_with_allowmissing() -> None:
    assert parse_row(f"{C_2018}, noflagmissings=true, allowmissing=true", ApiVersion.V2018)
    assert parse_row(f"{C_2018}, noflagmissings=false", ApiVersion.V2018)
    assert messages(f"{C_2018}, noflagmissings=true, allowmissing=maybe") == [
        "allowmissing=maybe: must be true or false"
    ]


def test_against_2018_a_conversion_that_says_little_lacks_what_2018_must_be_told() -> None:
    assert messages(f"{OBS}, job_type=c, allow_resubmit=true", ApiVersion.V2018) == [
        "timeres: missing; must be a whole number of seconds, 1 or more",
        "freqres: missing; must be a whole number of kHz, 1 or more",
        "edgewidth: missing; must be a whole number of kHz, 0 or more",
        "conversion: missing; must be ms or uvfits",
    ]


@pytest.mark.parametrize("empty", ["no_rfi=", "timeres= ", "norfi=,no_rfi=true", "pol=", "offset = "])
@pytest.mark.parametrize("api", TODAY)
def test_a_cell_without_a_value_says_nothing(api: ApiVersion, empty: str) -> None:
    bare = f"{C_TODAY}, no_rfi=true" if "true" in empty else C_TODAY
    assert parse_row(f"{C_TODAY}, {empty}", api) == parse_row(bare, api)
    assert parse_row({"obs_id": 1191828584, "job_type": "c", "norfi": None, "centre": ""}, api) == parse_row(
        f"{OBS}, job_type=c", api
    )


def test_what_must_be_there_must_have_a_value() -> None:
    assert messages("obs_id=, job_type=") == messages("job_type=,") == messages("# no\n,job_type=")
    assert messages(f"{OBS}, job_type=d, download_type=") == messages(f"{OBS}, job_type=d")
    assert messages(f"{DOWNLOAD}, colour=") == ["colour: no such key"]


@pytest.mark.parametrize(
    ("spaced", "plain"),
    [
        ("obs_id=1 191 828 584, job_type=d, download_type=vis", DOWNLOAD),
        ("obs_id=1191\u00a0828\u202f584, job_type=d, download_type=vis", DOWNLOAD),
        (f"{OBS}, job_type=c, avg_freq_res=1 280", f"{OBS}, job_type=c, avg_freq_res=1280"),
        (C_2018.replace("freqres=20", "freqres=1 0 0"), C_2018.replace("freqres=20", "freqres=100")),
    ],
)
def test_spaces_inside_a_number_do_not_count(spaced: str, plain: str) -> None:
    for api in ApiVersion:
        assert form(spaced, api) == form(plain, api)


def test_two_numbers_in_one_cell_are_no_number() -> None:
    (said,) = messages("obs_id=1191828584 1191828528, job_type=d, download_type=vis")
    assert said.startswith("obs_id=1191828584 1191828528: must be a whole number of GPS seconds")


def test_a_misspelt_key_is_not_missed_as_well() -> None:
    assert messages(C_2018.replace("timeres=", "timres=").replace("edgewidth=", "edgewidth ")) == [
        "timres: no such key; did you mean timeres?",
        "edgewidth 80: write key=value",
    ]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("timeres=4, timeres=4", ["timeres: given more than once"]),
        ("timeres=4, avg_time_res=4", ["timeres and avg_time_res are the same thing; give one"]),
        ("avg_time_res=4, timeres=5", ["avg_time_res and timeres are the same thing; give one"]),
        ("centre=phase, usepcentre=true", ["centre and usepcentre are the same thing; give one"]),
        ("custom_centre_ra=1, phase_centre_ra=1",
         ["custom_centre_ra and phase_centre_ra are the same thing; give one",
          "custom_centre_ra: only with centre=custom"]),
    ],
)  # fmt: skip
def test_the_same_thing_given_twice(cells: str, expected: list[str]) -> None:
    said = messages(f"{OBS}, job_type=c, {cells}")
    assert [message for message in said if "missing" not in message] == expected


@pytest.mark.parametrize("given", ["conversion", "C", "Conversion", "c d", "7"])
def test_a_bad_job_type_does_not_hide_the_other_mistakes_nor_make_new_ones(given: str) -> None:
    said = messages(f"obs_id=1, job_type={given}, timeres=4, offset=x, colour=red, pol=XX, no_rfi=ture")
    suggestion = "; did you mean c?" if given.lower() in ("conversion", "c") else "or i"
    assert said[1].startswith(f"job_type={given}: must be c, d, v, b or i")
    assert said[1].endswith(suggestion)
    assert [message.split(":")[0] for message in said] == [
        "obs_id=1",
        said[1].split(":")[0],
        "offset=x",
        "colour",
        "no_rfi=ture",
    ]


def test_two_job_types_are_one_mistake() -> None:
    assert messages(f"{OBS}, job_type=c, job_type=d, avg_time_res=4, download_type=vis") == [
        "job_type: given more than once"
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (f"{OBS}, job_type=d", ["download_type: missing; must be vis or vis_meta"]),
        (f"{OBS}, job_type=v", ["offset: missing; must be a whole number of seconds, 0 to 5400",
                                "duration: missing; must be a whole number of seconds, 0 or more"]),
        (f"{VOLTAGE}, from_channel=4", ["to_channel: missing; from_channel needs it"]),
        (f"{VOLTAGE}, to_channel=4", ["from_channel: missing; to_channel needs it"]),
        (f"{VOLTAGE}, from_channel=5, to_channel=4", ["from_channel=5: must not be more than to_channel=4"]),
        (f"{VOLTAGE}, from_channel=5, to_channel=x", ["to_channel=x: must be a whole number, 0 to 255"]),
        (f"{VOLTAGE}, delivery=acacia", ["delivery=acacia: a voltage job delivers only to scratch"]),
        (f"{VOLTAGE}, delivery=dug", ["delivery=dug: a voltage job delivers only to scratch"]),
        (f"{VOLTAGE}, delivery_format=tar", ["delivery_format=tar: a voltage job always delivers files"]),
        (f"{VOLTAGE}, channel_range=true",
         ["from_channel: missing; channel_range=true needs it"]),
        (f"{VOLTAGE}, from_channel=4, to_channel=5, channel_range=false",
         ["channel_range=false: from_channel and to_channel would be ignored; leave it out"]),
        (f"{DOWNLOAD}, delivery=bad, delivery_format=files",
         ["delivery=bad: must be acacia, scratch or dug"]),
        (f"{DOWNLOAD}, delivery=acacia, delivery_format=files",
         [f"delivery_format=files: {ACACIA_IS_TAR}"]),
        (f"{IMAGING}, uvw_min=50, uvw_max=20", ["uvw_min=50: must not be more than uvw_max=20"]),
        (f"{IMAGING}, uvw_min=100.5", ["uvw_min=100.5: must be a number, 100 or less"]),
        (f"{IMAGING}, image_size=500",
         ["image_size=500: must be 512, 1024, 2048, 3072, 4096 or 8192 pixels"]),
        (f"{IMAGING}, source_job_id=0", ["source_job_id=0: must be a whole number, 1 or more"]),
        (f"{IMAGING}, output=ms", ["output=ms: belongs to a conversion job, not to an imaging job"]),
        (f"{IMAGING}, pol=xx", ["pol=xx: must be XX, YY or XXYY; did you mean XX?"]),
        (f"{IMAGING}, centre=custom",
         ["custom_centre_ra: missing; centre=custom needs it, a number of degrees, 0 to 359.999999",
          "custom_centre_dec: missing; centre=custom needs it, a number of degrees, -90 to 90"]),
        (f"{IMAGING}, centre=custom, custom_centre_ra=x",
         ["custom_centre_ra=x: must be a number of degrees, 0 to 359.999999",
          "custom_centre_dec: missing; centre=custom needs it, a number of degrees, -90 to 90"]),
        (f"{IMAGING}, centre=costum, custom_centre_ra=1",
         ["centre=costum: must be phase, pointing or custom; did you mean custom?"]),
        (f"{IMAGING}, usepcentre=true, custom_centre_dec=1", ["custom_centre_dec: only with centre=custom"]),
        (f"{IMAGING}, source_job_id=3, avg_time_res=x, norfi=true, centre=custom",
         ["avg_time_res=x: must be a number of seconds, 0 or more",
          "avg_time_res: not with source_job_id, whose conversion is done",
          "centre: not with source_job_id, whose conversion is done",
          "norfi: not with source_job_id, whose conversion is done"]),
        (f"{DOWNLOAD}, timeres=20",
         ["timeres=20: belongs to a conversion or imaging job, not to a download job"]),
        (f"{DOWNLOAD}, from_channel=1", ["from_channel=1: belongs to a voltage job, not to a download job"]),
    ],
)  # fmt: skip
def test_keys_must_go_together(row: str, expected: list[str]) -> None:
    assert messages(row) == expected


@pytest.mark.parametrize(
    "row",
    [
        f"{VOLTAGE}, from_channel=4, to_channel=4",
        f"{IMAGING}, uvw_min=20, uvw_max=20",
        f"{IMAGING}, uvw_min=-1e3",
        f"{IMAGING}, uvw_max=10",
        f"{IMAGING}, source_job_id=3, image_size=512, delivery=scratch, delivery_format=files",
        f"{IMAGING}, centre=custom, custom_centre_ra=0, custom_centre_dec=-90",
        f"{OBS}, job_type=c, avg_freq_res=0, flag_edge_width=640, avg_time_res=0",
        f"{OBS}, job_type=b, mode=MWAX_CORR_BF, delivery=dug",
        f"{DOWNLOAD}, delivery=dug",
    ],
)
def test_keys_that_go_together(row: str) -> None:
    assert parse(row, ApiVersion.V2).warnings == ()


@pytest.mark.parametrize(("row", "job"), [(C_TODAY, "a conversion"), (IMAGING, "an imaging")])
def test_what_only_the_schema_of_today_forbids_is_a_warning(row: str, job: str) -> None:
    jobfile = parse(f"{row}, delivery=dug", ApiVersion.V2)
    assert jobfile.warnings == (f"jobs.csv:1: delivery=dug: the v2 interface may refuse it for {job} job",)
    assert jobfile.jobs[0].parameters(ApiVersion.V2)["delivery"] == "dug"


@pytest.mark.parametrize(
    ("api", "row", "expected"),
    [
        (ApiVersion.V2018, VOLTAGE, ["job_type=v: the 2018 interface has no voltage jobs"]),
        (ApiVersion.V2018, f"{OBS}, job_type=b, mode=MWAX_CORR_BF",
         ["job_type=b: the 2018 interface has no beamformer jobs"]),
        (ApiVersion.V2018, f"{IMAGING}, pol=XX", ["job_type=i: the 2018 interface has no imaging jobs"]),
        (ApiVersion.V2018, f"{C_TODAY}, delivery=scratch",
         ["delivery=scratch: the 2018 interface cannot do this"]),
        (ApiVersion.V2018, f"{C_TODAY}, no_cable_delay=true",
         ["no_cable_delay=true: the 2018 interface cannot do this"]),
        (ApiVersion.V2018, f"{C_TODAY}, centre=custom, custom_centre_ra=1, custom_centre_dec=1",
         ["centre=custom: the 2018 interface cannot do this",
          "custom_centre_ra=1: the 2018 interface cannot do this",
          "custom_centre_dec=1: the 2018 interface cannot do this"]),
        (ApiVersion.V2018, f"{OBS}, job_type=c, avg_time_res=0.5, avg_freq_res=0",
         ["avg_time_res=0.5: must be a whole number of seconds, 1 or more on the 2018 interface",
          "avg_freq_res=0: must be a whole number of kHz, 1 or more on the 2018 interface"]),
        (ApiVersion.V1, f"{OBS}, job_type=c, avg_time_res=33",
         ["avg_time_res=33: must be a number of seconds, 0.5 to 32 on the v1 interface"]),
        (ApiVersion.V1, C_2018.replace("timeres=20", "timeres=40"),
         ["timeres=40: must be a number of seconds, 0.5 to 32 on the v1 interface"]),
        (ApiVersion.V1, f"{C_TODAY}, no_apply_amps=true",
         ["no_apply_amps=true: the v1 interface cannot do this"]),
        (ApiVersion.V1, f"{IMAGING}, mgain=0.8", ["mgain=0.8: the v1 interface cannot do this"]),
        (ApiVersion.V1, f"{IMAGING}, centre=custom",
         ["phase_centre_ra: missing; centre=custom needs it, a number of degrees, 0 to 359.999999",
          "phase_centre_dec: missing; centre=custom needs it, a number of degrees, -90 to 90"]),
        (ApiVersion.V2, C_2018.replace("freqres=20", "freqres=2000"),
         ["freqres=2000: must be a number of kHz, 0 to 1280 on the v2 interface"]),
    ],
)  # fmt: skip
def test_what_an_interface_cannot_do_is_a_mistake_there(
    api: ApiVersion, row: str, expected: list[str]
) -> None:
    assert messages(row, api) == expected


@pytest.mark.parametrize(
    "row", [f"{OBS}, job_type=b", IMAGING, f"{C_TODAY}, delivery=dug", f"{IMAGING}, delivery=dug"]
)
def test_v1_is_asked_for_what_it_may_know(row: str) -> None:
    assert parse_row(row, ApiVersion.V1).obs_id == 1191828584


def test_2018_may_average_more_than_todays_limits() -> None:
    assert form(C_2018.replace("freqres=20", "freqres=2000"), ApiVersion.V2018)["freqres"] == "2000"


# --- Rows of the Python API ---------------------------------------------------------------------------


def test_a_row_may_be_a_mapping_of_any_simple_values() -> None:
    row = {"obs_id": 1191828584, "job_type": JobType.CONVERSION, "timeres": 4.0, "freqres": "20 ",
           "edgewidth": 0, " conversion": "ms", "norfi": True, "flagdcchannels": "True"}  # fmt: skip
    job = parse_row(row, ApiVersion.V2018)
    switches = "norfi=true, flagdcchannels=true"
    text = f"{OBS}, job_type=c, timeres=4, freqres=20, edgewidth=0, conversion=ms, {switches}"
    assert job == parse_row(text, ApiVersion.V2018)
    assert job.line == 1


@pytest.mark.parametrize(
    ("value", "sent"), [(0.5, "0.5"), (1e-5, "0.00001"), (2, "2"), (Decimal("2.50"), "2.5"), ("2.5", "2.5")]
)
def test_a_number_may_be_of_any_type(value: object, sent: str) -> None:
    row = {"obs_id": 1191828584, "job_type": "c", "avg_time_res": value}
    assert parse_row(row, ApiVersion.V2).parameters(ApiVersion.V2)["avg_time_res"] == sent


class Colour(enum.Enum):
    RED = "red"


class Array:
    """As arrays are: compared element by element, and neither true nor false as a whole."""

    def __ne__(self, other: object) -> Array:  # type: ignore[override]
        return self

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")

    def __str__(self) -> str:
        return "[4 8]"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (True, "avg_time_res=true: must be a number of seconds, 0 or more"),
        (Fraction(1, 2), "avg_time_res=1/2: must be a number of seconds, 0 or more"),
        (Decimal("sNaN"), "avg_time_res=sNaN: must be a number of seconds, 0 or more"),
        (Fraction(10**400), "avg_time_res=1" + "0" * 59 + "...: must be a number of seconds, 0 or more"),
        (Array(), "avg_time_res=[4 8]: must be a number of seconds, 0 or more"),
        (Colour.RED, "avg_time_res=red: must be a number of seconds, 0 or more"),
        ("4, pol=XX", "avg_time_res=4, pol=XX: separate the cells with commas"),
        ("1" + "0" * 5000, "avg_time_res=1" + "0" * 59 + "...: must be a number of seconds, 0 or more"),
    ],
)
def test_a_bad_value_of_a_mapping_is_a_mistake_in_the_row(value: object, message: str) -> None:
    with pytest.raises(JobFileError) as caught:
        parse_row({"obs_id": 1191828584, "job_type": "c", "avg_time_res": value}, ApiVersion.V2)
    assert caught.value.mistakes == (Mistake(1, message),)
    assert caught.value.source == "row"


def test_a_very_long_number_of_a_mapping_is_a_mistake_too() -> None:
    with pytest.raises(JobFileError, match=r"avg_time_res=10*[.]{3}: must be a number of seconds, 0 or more"):
        parse_row({"obs_id": 1191828584, "job_type": "c", "avg_time_res": 10**5000}, ApiVersion.V2)


def test_a_row_of_text_reports_all_of_its_mistakes() -> None:
    with pytest.raises(JobFileError) as caught:
        parse_row('obs_id=1, job_type=d, "x', ApiVersion.V2)
    assert [mistake.message for mistake in caught.value.mistakes] == [
        '"x: a quotation mark is not closed',
        "obs_id=1: must be a whole number of GPS seconds, 888888889 to 9999999999",
        "x: write key=value",
        "download_type: missing; must be vis or vis_meta",
    ]


@pytest.mark.parametrize("row", ["", "# nothing", {}])
def test_an_empty_row_lacks_everything(row: str | Mapping[str, object]) -> None:
    with pytest.raises(JobFileError) as caught:
        parse_row(row, ApiVersion.V2)
    assert [mistake.message.split(":")[0] for mistake in caught.value.mistakes][-2:] == ["obs_id", "job_type"]
