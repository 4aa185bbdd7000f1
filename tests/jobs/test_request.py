"""Rows become the request of each interface; and what makes two rows one job."""

from __future__ import annotations

from pathlib import Path

import pytest
from job_rows import C_2018, C_TODAY, DOWNLOAD, IMAGING, OBS, TODAY, VOLTAGE, form, messages

from mwa_client.jobs.jobfile import parse, parse_row, read_file
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.request import identity_asked_for

# --- Good rows ----------------------------------------------------------------------------------------


def test_the_example_file_is_good_for_every_interface() -> None:
    example = Path(__file__).parents[2] / "examples" / "jobs.csv"
    for api in ApiVersion:
        jobs = read_file(example, api).jobs
        assert [job.job_type.value for job in jobs] == ["c", "d", "d"]
        assert [job.obs_id for job in jobs] == [1191828584, 1191828584, 1191828528]
        assert [job.line for job in jobs] == [5, 8, 11]


def test_a_2018_row_reaches_the_2018_service_as_it_stands() -> None:
    row = (
        f"job_type=c, edgewidth=080, {OBS}, usepcentre=TRUE, conversion=uvfits, timeres=4, freqres=40, "
        "calibrate=True, norfi=False, flagdcchannels=true, allowmissing=true, noflagmissings=true"
    )
    job = parse_row(row, ApiVersion.V2018)
    assert list(job.parameters(ApiVersion.V2018).items()) == [
        ("edgewidth", "080"),
        ("obs_id", "1191828584"),
        ("usepcentre", "true"),
        ("conversion", "uvfits"),
        ("timeres", "4"),
        ("freqres", "40"),
        ("calibrate", "true"),
        ("norfi", "false"),
        ("flagdcchannels", "true"),
        ("allowmissing", "true"),
        ("noflagmissings", "true"),
    ]
    assert job.written_for is ApiVersion.V2018


@pytest.mark.parametrize("api", TODAY)
def test_a_2018_row_is_translated_for_todays_service(api: ApiVersion) -> None:
    row = f"{C_2018}, usepcentre=true, calibrate=true, nogeom=true, nosbgains=true, sbpassband=false"
    geometry = {ApiVersion.V1: "no_geometric_delay", ApiVersion.V2: "no_geometry_delay"}[api]
    assert form(row, api) == {
        "obs_id": "1191828584",
        "avg_time_res": "20",
        "avg_freq_res": "20",
        "flag_edge_width": "80",
        "output": "ms",
        "centre": "pointing",
        "apply_di_cal": "true",
        geometry: "true",
        "no_digital_gains": "true",
        "no_passband_gains": "false",
        "no_flag_dc": "true",
        "delivery": "acacia",
    }


@pytest.mark.parametrize("api", TODAY)
@pytest.mark.parametrize(
    ("cell", "no_flag_dc"),
    [("", "true"), (", flagdcchannels=false", "true"), (", flagdcchannels=true", "false")],
)
def test_leaving_out_flagdcchannels_means_do_not_flag(api: ApiVersion, cell: str, no_flag_dc: str) -> None:
    assert form(C_2018 + cell, api)["no_flag_dc"] == no_flag_dc


def test_usepcentre_false_is_the_phase_centre() -> None:
    assert form(f"{C_2018}, usepcentre=false", ApiVersion.V2)["centre"] == "phase"


def test_a_row_in_todays_words_is_translated_for_2018() -> None:
    assert form(f"{C_TODAY}, centre=phase, no_rfi=true, no_flag_dc=false", ApiVersion.V2018) == {
        "obs_id": "1191828584",
        "timeres": "20",
        "freqres": "20",
        "edgewidth": "80",
        "conversion": "ms",
        "usepcentre": "false",
        "norfi": "true",
        "flagdcchannels": "true",
    }


def test_todays_defaults_are_told_to_2018_which_had_none() -> None:
    assert form(f"{OBS}, job_type=c, centre=pointing", ApiVersion.V2018) == {
        "obs_id": "1191828584",
        "usepcentre": "true",
        "timeres": "2",
        "freqres": "40",
        "edgewidth": "80",
        "conversion": "ms",
        "flagdcchannels": "true",
    }


def test_no_flag_dc_reaches_2018_as_its_opposite() -> None:
    assert form(f"{C_TODAY}, no_flag_dc=true", ApiVersion.V2018)["flagdcchannels"] == "false"


def test_what_2018_did_anyway_is_not_sent_there() -> None:
    row = f"{C_TODAY}, delivery=acacia, delivery_format=tar, no_cable_delay=false, allow_resubmit=true"
    assert form(row, ApiVersion.V2018) == form(C_TODAY, ApiVersion.V2018)
    assert parse_row(row, ApiVersion.V2018).allow_resubmit


def test_a_whole_number_of_todays_is_written_as_one_for_2018() -> None:
    assert form(f"{OBS}, job_type=c, avg_time_res=4.0, avg_freq_res=1e1", ApiVersion.V2018)["timeres"] == "4"
    assert (
        form(f"{C_2018}, no_rfi=true".replace("timeres=20", "avg_time_res=20.0"), ApiVersion.V2018)["timeres"]
        == "20"
    )


CONVERTED = {
    "obs_id": "1191828584",
    "delivery": "acacia",
    "avg_time_res": "2",
    "avg_freq_res": "40",
    "flag_edge_width": "80",
    "centre": "phase",
}
"""What every conversion and image says."""

IMAGED = {
    "image_size": "3072",
    "pixel_scale": "20",
    "weighting": "briggs",
    "robust": "-0.5",
    "clean_iterations": "100000",
    "auto_threshold": "0.5",
    "multiscale": "false",
    "apply_primary_beam": "true",
    "output_mode": "fits",
}
"""What every image says."""

IMAGED_ON = {
    ApiVersion.V1: {"clean_threshold": "0.001"},
    ApiVersion.V2: {
        "abs_threshold": "0.001",
        "nmiter": "10",
        "mgain": "0.8",
        "auto_mask": "3",
        "uvw_min": "75",
        "channels_out": "4",
        "join_channels": "true",
        "pol": "XXYY",
    },
}


@pytest.mark.parametrize("api", TODAY)
def test_a_row_that_says_little_is_sent_with_all_that_decides_its_product(api: ApiVersion) -> None:
    job = parse_row(f"{OBS}, job_type=c", api)
    assert job.parameters(api) == {**CONVERTED, "output": "ms"}
    assert job.written_for is ApiVersion.V2
    assert form(IMAGING, api) == {**CONVERTED, "apply_di_cal": "true", **IMAGED, **IMAGED_ON[api]}
    mode = {ApiVersion.V1: {}, ApiVersion.V2: {"mode": "MWAX_BEAMFORMER"}}[api]
    assert form(f"{OBS}, job_type=b", api) == {"obs_id": "1191828584", "delivery": "acacia", **mode}


@pytest.mark.parametrize("api", TODAY)
def test_the_format_is_said_where_it_does_not_follow_from_the_delivery(api: ApiVersion) -> None:
    formats = {
        row: form(row, api).get("delivery_format")
        for row in (C_TODAY, f"{C_TODAY}, delivery=scratch", f"{DOWNLOAD}, delivery=dug", VOLTAGE)
    }
    assert list(formats.values()) == [None, "tar", "tar", None]


@pytest.mark.parametrize("api", TODAY)
def test_channels_are_no_more_ignored(api: ApiVersion) -> None:
    row = f"{VOLTAGE}, from_channel=109, to_channel=112"
    assert form(row, api) == form(f"{row}, channel_range=true", api)
    assert form(row, api) == {
        "obs_id": "1191828584",
        "offset": "0",
        "duration": "8",
        "from_channel": "109",
        "to_channel": "112",
        "delivery": "scratch",
        "channel_range": "true",
    }
    assert "channel_range" not in form(VOLTAGE, api)
    assert parse_row(VOLTAGE, api).identity == parse_row(f"{VOLTAGE}, channel_range=false", api).identity


@pytest.mark.parametrize("api", TODAY)
@pytest.mark.parametrize("word", ["vis_meta", "meta"])
def test_metadata_have_two_names(api: ApiVersion, word: str) -> None:
    name = {ApiVersion.V1: "vis_meta", ApiVersion.V2: "meta"}[api]
    assert form(f"{OBS}, job_type=d, download_type={word}", api)["download_type"] == name
    assert form(f"{OBS}, job_type=d, download_type={word}", ApiVersion.V2018)["download_type"] == "vis_meta"


def test_v1_has_words_of_its_own() -> None:
    row = (
        f"{IMAGING}, centre=custom, custom_centre_ra=10.50, custom_centre_dec=-27, "
        "abs_threshold=1e-3, wstack_nwlayers=64"
    )
    assert form(row, ApiVersion.V1) == {
        **CONVERTED,
        "centre": "custom",
        "phase_centre_ra": "10.5",
        "phase_centre_dec": "-27",
        "nwlayers": "64",
        "apply_di_cal": "true",
        **IMAGED,
        **IMAGED_ON[ApiVersion.V1],
    }


def test_the_words_of_v1_are_understood_for_v2() -> None:
    row = (
        f"{IMAGING}, centre=custom, phase_centre_ra=10.5, phase_centre_dec=-27, "
        "clean_threshold=0.001, nwlayers=64"
    )
    assert form(row, ApiVersion.V2) == {
        **CONVERTED,
        "centre": "custom",
        "custom_centre_ra": "10.5",
        "custom_centre_dec": "-27",
        "wstack_nwlayers": "64",
        "apply_di_cal": "true",
        **IMAGED,
        **IMAGED_ON[ApiVersion.V2],
    }


@pytest.mark.parametrize("api", TODAY)
def test_an_image_of_a_finished_conversion_says_nothing_about_converting(api: ApiVersion) -> None:
    sent = form(f"{IMAGING}, source_job_id=31", api)
    said = {"obs_id": "1191828584", "source_job_id": "31", "delivery": "acacia"}
    assert sent == {**said, **IMAGED, **IMAGED_ON[api]}


@pytest.mark.parametrize("api", TODAY)
def test_a_voltage_job_goes_to_scratch_unasked(api: ApiVersion) -> None:
    assert form(VOLTAGE, api)["delivery"] == "scratch"
    assert form(f"{VOLTAGE}, delivery=scratch, delivery_format=files", api)["delivery"] == "scratch"
    assert form(C_TODAY, api)["delivery"] == "acacia"


@pytest.mark.parametrize("api", ApiVersion)
def test_allow_resubmit_is_no_part_of_the_form(api: ApiVersion) -> None:
    job = parse_row(f"{DOWNLOAD}, allow_resubmit=TRUE", api)
    assert job.allow_resubmit is True
    assert job.parameters(api) == form(DOWNLOAD, api)
    assert not parse_row(f"{DOWNLOAD}, allow_resubmit=false", api).allow_resubmit
    assert not parse_row(DOWNLOAD, api).allow_resubmit


def test_values_keep_the_order_of_the_row_in_todays_words() -> None:
    job = parse_row(
        "flagdcchannels=true, edgewidth=80, job_type=c, freqres=020, conversion=ms, timeres=4, " + OBS,
        ApiVersion.V2,
    )
    assert job.values == (
        ("no_flag_dc", "false"),
        ("flag_edge_width", "80"),
        ("avg_freq_res", "020"),
        ("output", "ms"),
        ("avg_time_res", "4"),
        ("obs_id", "1191828584"),
    )
    assert form("avg_freq_res=020.50, job_type=c, " + OBS, ApiVersion.V2)["avg_freq_res"] == "20.5"
    hash(job)


def test_a_row_in_both_vocabularies_counts_as_2018s() -> None:
    row = f"{OBS}, job_type=c, timeres=20, avg_freq_res=20, flag_edge_width=80, output=ms"
    for api in ApiVersion:
        assert parse_row(row, api).written_for is ApiVersion.V2018
        assert parse_row(row, api).identity == parse_row(C_2018, api).identity


def test_only_conversions_have_a_vocabulary_of_2018() -> None:
    job = parse_row(f"{IMAGING}, norfi=true", ApiVersion.V2)
    assert job.written_for is ApiVersion.V2
    assert job.parameters(ApiVersion.V2) == {**form(IMAGING, ApiVersion.V2), "no_rfi": "true"}


# --- Words without a counterpart ----------------------------------------------------------------------


@pytest.mark.parametrize("api", TODAY)
def test_words_without_a_counterpart_are_dropped_with_one_warning_each(api: ApiVersion) -> None:
    text = (
        f"\n{C_2018}, allowmissing=true\n{C_2018.replace('ms', 'uvfits')}, nostats=true, allowmissing=true\n"
    )
    jobfile = parse(text, api)
    no_counterpart = "has no equivalent in today's service, and is not sent"
    assert jobfile.warnings == (
        f"jobs.csv:2: allowmissing {no_counterpart} (reported once for 2 rows)",
        f"jobs.csv:3: nostats {no_counterpart}",
    )
    assert "allowmissing" not in jobfile.jobs[0].parameters(api)
    assert "allowmissing" not in jobfile.jobs[0].identity_on(api)
    for job in jobfile.jobs:
        assert identity_asked_for(job.identity, api) == job.identity_on(api)


def test_a_row_is_known_by_one_name_whichever_interface_answers() -> None:
    row = f"{C_2018}, allowmissing=true, nostats=false"
    jobs = [parse_row(row, api) for api in ApiVersion]
    assert len({(job.identity, job.values) for job in jobs}) == 1
    for api in ApiVersion:
        assert len({tuple(job.parameters(api).items()) for job in jobs}) == 1
        assert len({job.identity_on(api) for job in jobs}) == 1
    assert parse_row(C_2018, ApiVersion.V2).identity_on(ApiVersion.V2) == jobs[0].identity_on(ApiVersion.V2)
    assert parse_row(C_2018, ApiVersion.V2018).identity_on(ApiVersion.V2018) != jobs[0].identity_on(
        ApiVersion.V2018
    )


@pytest.mark.parametrize(("api", "jobs"), [(ApiVersion.V2018, 2), (ApiVersion.V1, 1), (ApiVersion.V2, 1)])
def test_rows_that_differ_in_what_is_not_sent_are_one_job(api: ApiVersion, jobs: int) -> None:
    assert len(parse(f"{C_2018}\n{C_2018}, allowmissing=true", api).jobs) == jobs


def test_2018_has_its_own_words_and_no_warning() -> None:
    jobfile = parse(f"{C_2018}, allowmissing=true, nostats=false", ApiVersion.V2018)
    assert jobfile.warnings == ()
    assert "allowmissing=true" in jobfile.jobs[0].identity
    assert "nostats" not in jobfile.jobs[0].identity


def test_a_job_checked_for_2018_can_still_be_put_to_todays_service() -> None:
    job = parse_row(f"{C_2018}, allowmissing=true", ApiVersion.V2018)
    assert job.parameters(ApiVersion.V2) == form(C_2018, ApiVersion.V2)


# --- Identity -----------------------------------------------------------------------------------------


def test_identity_is_short_sorted_and_readable() -> None:
    row = f"no_rfi=true, output=ms, avg_freq_res=20.0, {OBS}, job_type=c, avg_time_res=2, allow_resubmit=true"
    assert (
        parse_row(row, ApiVersion.V2).identity == "job_type=c obs_id=1191828584 avg_freq_res=20 no_rfi=true"
    )


@pytest.mark.parametrize(
    ("row", "identity"),
    [
        (DOWNLOAD, "job_type=d obs_id=1191828584"),
        (f"{OBS}, job_type=d, download_type=meta", "job_type=d obs_id=1191828584 download_type=vis_meta"),
        (f"{C_2018}, allowmissing=true", "job_type=c obs_id=1191828584 allowmissing=true avg_freq_res=20 "
                                         "avg_time_res=20 no_flag_dc=true"),
        (f"{VOLTAGE}, delivery=scratch", "job_type=v obs_id=1191828584 duration=8 offset=0"),
        (f"{IMAGING}, apply_di_cal=false, robust=0.0",
         "job_type=i obs_id=1191828584 apply_di_cal=false robust=0"),
        (f"{OBS}, job_type=b", "job_type=b obs_id=1191828584"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("api", TODAY)
def test_ledgers_know_rows_by_their_identities_which_must_not_change(
    row: str, identity: str, api: ApiVersion
) -> None:
    assert parse_row(row, api).identity == identity


@pytest.mark.parametrize("number", ["20", "020", "20.0", "20.", "2e1", "+20", "2.0E+01", "200e-1", "20e0000"])
def test_a_number_is_the_same_however_it_is_written(number: str) -> None:
    job = parse_row(f"{OBS}, job_type=c, avg_freq_res={number}", ApiVersion.V2)
    assert job.identity == "job_type=c obs_id=1191828584 avg_freq_res=20"
    assert job.parameters(ApiVersion.V2)["avg_freq_res"] == "20"


@pytest.mark.parametrize(
    ("number", "sent"), [("-0", "0"), ("-0.0", "0"), (".5", "0.5"), ("1e-7", "0.0000001")]
)
def test_a_number_is_sent_in_its_shortest_form(number: str, sent: str) -> None:
    assert form(f"{IMAGING}, robust={number}", ApiVersion.V2)["robust"] == sent


def test_a_number_equal_to_the_default_is_left_out_however_it_is_written() -> None:
    assert parse_row(
        f"{IMAGING}, robust=-0.50, abs_threshold=1e-3, uvw_min=7.5e1", ApiVersion.V2
    ).identity == ("job_type=i obs_id=1191828584")


@pytest.mark.parametrize("api", ApiVersion)
def test_vocabulary_does_not_matter_for_identity(api: ApiVersion) -> None:
    pairs = [
        (C_2018, f"{C_TODAY}, no_flag_dc=true"),
        (f"{C_2018}, flagdcchannels=false", f"{C_TODAY}, no_flag_dc=true"),
        (f"{C_2018}, flagdcchannels=true", C_TODAY),
        (f"{C_2018}, usepcentre=true, flagdcchannels=true", f"{C_TODAY}, centre=pointing"),
        (f"{C_2018}, usepcentre=false", f"{C_TODAY}, centre=phase, no_flag_dc=true"),
    ]
    for in_2018, today in pairs:
        assert parse_row(in_2018, api).identity == parse_row(today, api).identity
    assert parse_row(C_2018, api).identity != parse_row(C_TODAY, api).identity


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (C_TODAY, C_TODAY.replace("1191828584", "1191828585")),
        (C_TODAY, C_TODAY.replace("avg_freq_res=20", "avg_freq_res=20.5")),
        (C_TODAY, f"{C_TODAY}, no_rfi=true"),
        (C_TODAY, f"{C_TODAY}, delivery=scratch"),
        (DOWNLOAD, DOWNLOAD.replace("vis", "vis_meta")),
        (DOWNLOAD, C_TODAY),
        (VOLTAGE, VOLTAGE.replace("offset=0", "offset=1")),
        (IMAGING, f"{IMAGING}, apply_di_cal=false"),
    ],
)
def test_jobs_that_differ_have_different_identities(one: str, other: str) -> None:
    assert parse_row(one, ApiVersion.V2).identity != parse_row(other, ApiVersion.V2).identity


def test_a_default_stands_for_itself() -> None:
    for said, unsaid in [
        (f"{IMAGING}, apply_di_cal=true, multiscale=false", IMAGING),
        (f"{VOLTAGE}, delivery=scratch, delivery_format=files", VOLTAGE),
        (f"{DOWNLOAD}, delivery=acacia", DOWNLOAD),
    ]:
        for api in TODAY:
            assert parse_row(said, api).identity == parse_row(unsaid, api).identity


def test_rows_that_ask_for_the_same_thing_are_one_job() -> None:
    text = f"{C_TODAY}\n{DOWNLOAD}\n{C_2018}, flagdcchannels=true\n{C_TODAY}, allow_resubmit=true\n"
    jobfile = parse(text, ApiVersion.V2)
    assert [job.line for job in jobfile.jobs] == [1, 2]
    assert jobfile.warnings == (
        "jobs.csv:3: asks for the same as line 1; they are one job",
        "jobs.csv:4: asks for the same as line 1; they are one job",
    )


@pytest.mark.parametrize("zero", ["0", "0.0", "0e0"])
def test_no_averaging_in_time_is_asked_for_in_each_interfaces_way(zero: str) -> None:
    row = f"{OBS}, job_type=c, avg_time_res={zero}"
    assert form(row, ApiVersion.V2)["avg_time_res"] == "0"
    assert "avg_time_res" not in form(row, ApiVersion.V1), "without it, v1 keeps the correlator's resolution"
    assert form(f"{OBS}, job_type=c", ApiVersion.V1)["avg_time_res"] == "2"
    assert messages(row, ApiVersion.V2018) == [
        f"avg_time_res={zero}: must be a whole number of seconds, 1 or more on the 2018 interface"
    ]
