"""Rows become jobs, in all the ways to write them; and every mistake is found, each on its line."""

from __future__ import annotations

import enum
import io
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from conftest import environment, run_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mwa_client.errors import ExitStatus, JobFileError, Mistake, SettingsError
from mwa_client.jobs.jobfile import JobFile, parse, parse_row, plan, read_file
from mwa_client.jobs.key_table import KEY_BY_NAME, keys_of
from mwa_client.jobs.keys import ApiVersion, JobKey, JobType, ValueKind
from mwa_client.jobs.listed import identity_of
from mwa_client.jobs.request import JobRequest

OBS = "obs_id=1191828584"
C_2018 = f"{OBS}, job_type=c, timeres=20, freqres=20, edgewidth=80, conversion=ms"
C_TODAY = f"{OBS}, job_type=c, avg_time_res=20, avg_freq_res=20, flag_edge_width=80, output=ms"
DOWNLOAD = f"{OBS}, job_type=d, download_type=vis"
VOLTAGE = f"{OBS}, job_type=v, offset=0, duration=8"
IMAGING = f"{OBS}, job_type=i"
ACACIA_IS_TAR = "delivery to acacia is always a tar; give delivery=scratch"
TODAY = (ApiVersion.V1, ApiVersion.V2)


def mistakes_in(text: bytes | str, api: ApiVersion = ApiVersion.V2) -> list[Mistake]:
    with pytest.raises(JobFileError) as caught:
        parse(text, api)
    return list(caught.value.mistakes)


def messages(text: bytes | str, api: ApiVersion = ApiVersion.V2) -> list[str]:
    return [mistake.message for mistake in mistakes_in(text, api)]


def form(row: str, api: ApiVersion) -> dict[str, str]:
    return parse_row(row, api).parameters(api)


# --- Good rows ---------------------------------------------------------------------------------------


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


# --- Words without a counterpart ---------------------------------------------------------------------


@pytest.mark.parametrize("api", TODAY)
def test_words_without_a_counterpart_are_dropped_with_one_warning_each(api: ApiVersion) -> None:
    text = (
        f"\n{C_2018}, allowmissing=true\n{C_2018.replace('ms', 'uvfits')}, nostats=true, allowmissing=true\n"
    )
    jobfile = parse(text, api)
    no_counterpart = "has no counterpart in today's service; it is not sent"
    assert jobfile.warnings == (
        f"jobs.csv:2: allowmissing {no_counterpart} (said once for 2 rows)",
        f"jobs.csv:3: nostats {no_counterpart}",
    )
    assert "allowmissing" not in jobfile.jobs[0].parameters(api)
    assert "allowmissing" not in jobfile.jobs[0].identity_on(api)


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


# --- Identity ----------------------------------------------------------------------------------------


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
        "jobs.csv:3: asks for the same as line 1; it is one job",
        "jobs.csv:4: asks for the same as line 1; it is one job",
    )


# --- Jobs that the service lists ---------------------------------------------------------------------


def test_a_listed_job_is_recognised_by_its_parameters() -> None:
    listed = {
        "delivery": "acacia",
        "download_type": "vis",
        "job_type": "download",
        "obs_id": "1339896408",
        "priority": 1,
        "user_pawsey_group": "mwaops",
        "flags": [],
        "allow_resubmit": True,
    }
    row = "obs_id=1339896408, job_type=d, download_type=vis"
    assert identity_of(JobType.DOWNLOAD, listed, ApiVersion.V1) == parse_row(row, ApiVersion.V1).identity


SAID: dict[Any, object] = {
    "obs_id": 1191828584,
    "avg_time_res": 4,
    "avg_freq_res": 10,
    "flag_edge_width": 80,
    "output": "ms",
    "centre": "phase",
    "delivery": "acacia",
    "no_rfi": True,
}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"obs_id": "1191828584", "avg_time_res": "4.0", "avg_freq_res": "10", "no_rfi": "True"},
        {"obs_id": 1191828584.0, "avg_time_res": 4.0, "avg_freq_res": 1e1, "no_rfi": 1, "no_cable_delay": 0},
        {"flag_edge_width": "080", "no_rfi": "1", "no_geometry_delay": "", "custom_centre_ra": None},
        {"no_flag_dc": False, "apply_di_cal": "false", "delivery_format": "tar", "download_type": None},
    ],
)
def test_a_listing_may_have_strings_numbers_booleans_and_nulls(more: Any) -> None:
    row = f"{OBS}, job_type=c, avg_time_res=4, avg_freq_res=10, no_rfi=true"
    assert (
        identity_of(JobType.CONVERSION, {**SAID, **more}, ApiVersion.V2)
        == parse_row(row, ApiVersion.V2).identity
    )


def test_what_2018_leaves_out_is_its_default() -> None:
    listed = {"obs_id": "1191828584", "timeres": "20", "freqres": "20", "edgewidth": "80", "conversion": "ms"}
    assert (
        identity_of(JobType.CONVERSION, listed, ApiVersion.V2018)
        == parse_row(C_2018, ApiVersion.V2018).identity
    )


@pytest.mark.parametrize(
    ("job_type", "listed"),
    [
        (JobType.CONVERSION, {}),
        (JobType.CONVERSION, {**SAID, "obs_id": None}),
        (JobType.CONVERSION, {**SAID, "obs_id": "soon"}),
        (JobType.CONVERSION, {**SAID, "avg_time_res": "ten"}),
        (JobType.CONVERSION, {**SAID, "avg_time_res": float("nan")}),
        (JobType.CONVERSION, {**SAID, "avg_time_res": float("-inf")}),
        (JobType.CONVERSION, {**SAID, "avg_time_res": [4]}),
        (JobType.CONVERSION, {**SAID, "no_rfi": "perhaps"}),
        (JobType.CONVERSION, {**SAID, "output": "fits"}),
        (JobType.CONVERSION, {**SAID, "offset": 4}),
        (JobType.CONVERSION, {**SAID, "user_id": 7}),
        (JobType.CONVERSION, {**SAID, 7: 7}),
        (JobType.CONVERSION, {**SAID, "no_geometry_delay": True, "no_geometric_delay": False}),
        (JobType.DOWNLOAD, {"obs_id": 1191828584}),
        (JobType.VOLTAGE, {"obs_id": 1191828584, "offset": 3}),
        (JobType.CONVERSION, None),
        (JobType.CONVERSION, ["obs_id"]),
    ],
)
def test_a_listed_job_that_makes_no_sense_has_no_identity(job_type: JobType, listed: Any) -> None:
    assert identity_of(job_type, listed, ApiVersion.V2) is None


def test_a_2018_listing_must_say_what_2018_had_to_be_told() -> None:
    assert identity_of(JobType.CONVERSION, {"obs_id": "1191828584", "timeres": "4"}, ApiVersion.V2018) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@given(
    st.sampled_from(JobType),
    st.dictionaries(st.sampled_from(sorted(KEY_BY_NAME)) | st.text(max_size=5), json_values, max_size=6),
    st.sampled_from(ApiVersion),
)
def test_reading_a_listing_never_raises(
    job_type: JobType, listed: dict[str, object], api: ApiVersion
) -> None:
    identity = identity_of(job_type, {"obs_id": 1191828584, **listed}, api)
    assert identity is None or identity.startswith(f"job_type={job_type.value} obs_id=")


def test_a_listed_number_may_be_very_long() -> None:
    identity = identity_of(JobType.CONVERSION, {**SAID, "avg_time_res": 10**5000}, ApiVersion.V2)
    assert identity == (
        f"job_type=c obs_id=1191828584 avg_freq_res=10 avg_time_res=1{'0' * 5000} no_rfi=true"
    )


# --- Text --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_line_ends_and_byte_order_mark_do_not_matter(end: str, bom: str) -> None:
    lines = ["# jobs", "", DOWNLOAD + ",", "   ", C_TODAY]
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


# --- Reading -----------------------------------------------------------------------------------------


def test_a_file_is_read_and_named_as_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "my jobs.csv"
    path.write_bytes(DOWNLOAD.encode())
    jobfile = read_file(path, ApiVersion.V2)
    assert isinstance(jobfile, JobFile)
    assert jobfile.source == str(path)
    assert jobfile == read_file(str(path), ApiVersion.V2)


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_file("-", ApiVersion.V2, stdin=io.BytesIO(DOWNLOAD.encode())).source == "standard input"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(C_TODAY.encode())))
    assert read_file("-", ApiVersion.V2).jobs[0].job_type is JobType.CONVERSION
    with pytest.raises(JobFileError) as caught:
        read_file("-", ApiVersion.V2, stdin=io.BytesIO(b"obs_id"))
    assert str(caught.value).startswith("standard input:1: obs_id: write key=value\n")


@pytest.mark.parametrize(
    ("name", "reason"), [("none.csv", "No such file or directory"), (".", "Is a directory")]
)
def test_a_file_that_cannot_be_read_is_said_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as caught:
        read_file(name, ApiVersion.V2)
    assert caught.value.what == f"cannot read {name}: {reason}"
    assert "--csv" in caught.value.remedy


def test_a_name_that_no_file_can_have_is_said_plainly() -> None:
    with pytest.raises(SettingsError, match=r"cannot read a\\x00b: embedded null"):
        read_file("a\0b", ApiVersion.V2)


# --- Mistakes ----------------------------------------------------------------------------------------


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
        ("avg_time_res=nan", "avg_time_res=nan: must be a number of s, 0 or more"),
        ("avg_time_res=inf", "avg_time_res=inf: must be a number of s, 0 or more"),
        ("avg_time_res=1e999", "avg_time_res=1e999: must be a number of s, 0 or more"),
        ("avg_time_res=1e99999", "avg_time_res=1e99999: must be a number of s, 0 or more"),
        ("avg_time_res=1_0", "avg_time_res=1_0: must be a number of s, 0 or more"),
        ("avg_time_res=\u0664", "avg_time_res=\u0664: must be a number of s, 0 or more"),
        ("avg_time_res=.", "avg_time_res=.: must be a number of s, 0 or more"),
        ("output=MS", "output=MS: must be ms or uvfits; did you mean ms?"),
        ("output=zip", "output=zip: must be ms or uvfits"),
        ("centre=point", "centre=point: must be phase, pointing or custom; did you mean pointing?"),
        ("no_rfi=ture", "no_rfi=ture: must be true or false; did you mean true?"),
        ("no_rfi=1", "no_rfi=1: must be true or false"),
        ("no_rfi=", "no_rfi=: missing value; must be true or false"),
        ("no_rfi=true # noisy", "no_rfi=true # noisy: must be true or false"),
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
        ("custom_centre_ra=360", "custom_centre_ra=360: must be a number of deg, 0 to 359.999999"),
        ("allow_resubmit=yes", "allow_resubmit=yes: must be true or false"),
    ],
)  # fmt: skip
def test_one_bad_cell_is_one_mistake(cell: str, message: str) -> None:
    assert messages(f"{OBS}, job_type=c, {cell}") == [message]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("timeres=20", "timeres=0", "timeres=0: must be a whole number of s, 1 or more"),
        ("timeres=20", "timeres=0.5", "timeres=0.5: must be a whole number of s, 1 or more"),
        ("timeres=20", "timeres=20.0", "timeres=20.0: must be a whole number of s, 1 or more"),
        ("timeres=20", "timeres=1e1", "timeres=1e1: must be a whole number of s, 1 or more"),
        ("timeres=20", "timeres=+4", "timeres=+4: must be a whole number of s, 1 or more"),
        ("edgewidth=80", "edgewidth=-1", "edgewidth=-1: must be a whole number of kHz, 0 or more"),
        ("timeres=20, ", "", "timeres: missing; must be a whole number of s, 1 or more"),
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
        "timeres: missing; must be a whole number of s, 1 or more",
        "freqres: missing; must be a whole number of kHz, 1 or more",
        "edgewidth: missing; must be a whole number of kHz, 0 or more",
        "conversion: missing; must be ms or uvfits",
    ]


def test_a_misspelt_key_is_not_missed_as_well() -> None:
    assert messages(C_2018.replace("timeres=", "timres=").replace("edgewidth=", "edgewidth ")) == [
        "timres: no such key; did you mean timeres?",
        "edgewidth 80: write key=value",
    ]
    with_semicolons = C_2018.replace(", ", ";")
    assert messages(with_semicolons) == [f"{with_semicolons[:67]}...: separate the cells with commas"]


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
        (f"{OBS}, job_type=v", ["offset: missing; must be a whole number of s, 0 to 5400",
                                "duration: missing; must be a whole number of s, 0 or more"]),
        (f"{VOLTAGE}, from_channel=4", ["to_channel: missing; from_channel needs it"]),
        (f"{VOLTAGE}, to_channel=4", ["from_channel: missing; to_channel needs it"]),
        (f"{VOLTAGE}, from_channel=5, to_channel=4", ["from_channel=5: must not be more than to_channel=4"]),
        (f"{VOLTAGE}, from_channel=5, to_channel=x", ["to_channel=x: must be a whole number, 0 to 255"]),
        (f"{VOLTAGE}, delivery=acacia", ["delivery=acacia: a voltage job delivers to scratch alone"]),
        (f"{VOLTAGE}, delivery=dug", ["delivery=dug: a voltage job delivers to scratch alone"]),
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
         ["custom_centre_ra: missing; centre=custom needs it, a number of deg, 0 to 359.999999",
          "custom_centre_dec: missing; centre=custom needs it, a number of deg, -90 to 90"]),
        (f"{IMAGING}, centre=custom, custom_centre_ra=x",
         ["custom_centre_ra=x: must be a number of deg, 0 to 359.999999",
          "custom_centre_dec: missing; centre=custom needs it, a number of deg, -90 to 90"]),
        (f"{IMAGING}, centre=costum, custom_centre_ra=1",
         ["centre=costum: must be phase, pointing or custom; did you mean custom?"]),
        (f"{IMAGING}, usepcentre=true, custom_centre_dec=1", ["custom_centre_dec: only with centre=custom"]),
        (f"{IMAGING}, source_job_id=3, avg_time_res=x, norfi=true, centre=custom",
         ["avg_time_res=x: must be a number of s, 0 or more",
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
         ["avg_time_res=0.5: must be a whole number of s, 1 or more on the 2018 interface",
          "avg_freq_res=0: must be a whole number of kHz, 1 or more on the 2018 interface"]),
        (ApiVersion.V1, f"{OBS}, job_type=c, avg_time_res=33",
         ["avg_time_res=33: must be a number of s, 0.5 to 32 on the v1 interface"]),
        (ApiVersion.V1, C_2018.replace("timeres=20", "timeres=40"),
         ["timeres=40: must be a number of s, 0.5 to 32 on the v1 interface"]),
        (ApiVersion.V1, f"{C_TODAY}, no_apply_amps=true",
         ["no_apply_amps=true: the v1 interface cannot do this"]),
        (ApiVersion.V1, f"{IMAGING}, mgain=0.8", ["mgain=0.8: the v1 interface cannot do this"]),
        (ApiVersion.V1, f"{IMAGING}, centre=custom",
         ["phase_centre_ra: missing; centre=custom needs it, a number of deg, 0 to 359.999999",
          "phase_centre_dec: missing; centre=custom needs it, a number of deg, -90 to 90"]),
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


# --- Rows of the Python API --------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "avg_time_res=: missing value; must be a number of s, 0 or more"),
        ("", "avg_time_res=: missing value; must be a number of s, 0 or more"),
        (True, "avg_time_res=true: must be a number of s, 0 or more"),
        (float("nan"), "avg_time_res=nan: must be a number of s, 0 or more"),
        (Fraction(1, 2), "avg_time_res=1/2: must be a number of s, 0 or more"),
        (Colour.RED, "avg_time_res=red: must be a number of s, 0 or more"),
        ("4, pol=XX", "avg_time_res=4, pol=XX: separate the cells with commas"),
        ("1" + "0" * 5000, "avg_time_res=1" + "0" * 59 + "...: must be a number of s, 0 or more"),
    ],
)
def test_a_bad_value_of_a_mapping_is_a_mistake_in_the_row(value: object, message: str) -> None:
    with pytest.raises(JobFileError) as caught:
        parse_row({"obs_id": 1191828584, "job_type": "c", "avg_time_res": value}, ApiVersion.V2)
    assert caught.value.mistakes == (Mistake(1, message),)
    assert caught.value.source == "row"


def test_a_very_long_number_of_a_mapping_is_a_mistake_too() -> None:
    with pytest.raises(JobFileError, match=r"avg_time_res=10*[.]{3}: must be a number of s, 0 or more"):
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


# --- The plan ----------------------------------------------------------------------------------------


def test_the_plan_counts_jobs_by_kind_and_observations() -> None:
    rows = [C_TODAY, DOWNLOAD, DOWNLOAD.replace("vis", "vis_meta"), VOLTAGE.replace("84,", "85,"), DOWNLOAD]
    assert plan(parse("\n".join(rows), ApiVersion.V2)).splitlines() == [
        "jobs.csv: 4 jobs on 2 observations",
        "  1 conversion",
        "  2 downloads",
        "  1 voltage job",
    ]
    assert plan(parse(DOWNLOAD, ApiVersion.V2)) == "jobs.csv: 1 job on 1 observation\n  1 download"


# --- Properties --------------------------------------------------------------------------------------

Cells = list[tuple[str, str]]

PIECES = (
    [b"obs_id=1191828584", b"job_type=", b"c", b"d", b"=", b",", b", ", b"\n", b"\r", b"\r\n", b'"', b"#"]
    + [b"\xff", b"\xef\xbb\xbf", b"\0", b"-", b"1e9", b"true", b"centre=custom", b"download_type=vis"]
    + [word.encode() for word in KEY_BY_NAME]
)
pieces = st.sampled_from(PIECES)


@given(st.binary(max_size=60) | st.lists(pieces, max_size=30).map(b"".join), st.sampled_from(ApiVersion))
@settings(max_examples=250, deadline=None)
def test_any_bytes_are_jobs_or_mistakes_on_lines_of_the_file(data: bytes, api: ApiVersion) -> None:
    lines = len(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
    try:
        jobfile = parse(data, api)
    except JobFileError as error:
        assert error.mistakes
        assert all(1 <= mistake.line <= lines for mistake in error.mistakes)
        assert all(mistake.message.isprintable() for mistake in error.mistakes)
    else:
        assert 1 <= len(jobfile.jobs) <= lines


@given(st.text(max_size=40), st.sampled_from(ApiVersion))
@settings(deadline=None)
def test_any_text_is_a_row_or_mistakes(text: str, api: ApiVersion) -> None:
    try:
        parse_row(text, api)
        parse(text, api)
    except JobFileError as error:
        assert error.mistakes


def texts(key: JobKey, word: str, api: ApiVersion) -> st.SearchStrategy[str]:
    """Good values beside a word for an interface."""
    if key.kind_of_value(word) is ValueKind.BOOLEAN:
        return st.sampled_from(["true", "false"])
    if key.kind is ValueKind.CHOICE:
        return st.sampled_from(
            [c for c in key.choices if api is not ApiVersion.V2018 or c not in ("custom", "scratch", "dug")]
        )
    both = (key.limits_of_value(word), key.limits_on(api))
    low = (
        max(limits.minimum for limits in both if limits.minimum is not None)
        if both[0].minimum is not None
        else -500
    )
    high = min(limits.maximum if limits.maximum is not None else 3000 for limits in both)
    if any(limits.kind is ValueKind.INTEGER for limits in both):
        return st.integers(int(low), int(high)).map(str)
    return st.decimals(low, high, places=3).map(str)


@st.composite
def good_rows(draw: st.DrawFn, api: ApiVersion, words_of: ApiVersion | None = None) -> Cells:
    """Rows without mistakes for an interface; `words_of` asks for one vocabulary."""
    job_type = draw(st.sampled_from([job_type for job_type in JobType if job_type.is_known_to(api)]))
    in_2018 = job_type.is_known_to(ApiVersion.V2018) and (
        draw(st.booleans()) if words_of is None else words_of is ApiVersion.V2018
    )
    row: dict[str, tuple[str, str]] = {}
    for key in keys_of(job_type):
        if (
            key.name == "job_type"
            or (key.is_only_in_2018 and not in_2018)
            or not (key.name_on(api) or key.is_only_in_2018)
        ):
            continue
        spellings = [key.name_2018] if in_2018 else [key.name, key.name_v1]
        word = draw(st.sampled_from([spelling for spelling in spellings if spelling] or [key.name]))
        # A row that gives nothing of its own would be in the words of the interface.
        needed = (
            key.is_required_in(ApiVersion.V2018)
            if in_2018 or api is ApiVersion.V2018
            else key.is_required_in(ApiVersion.V2)
        )
        if needed or draw(st.integers(0, 2)) == 0:
            row[key.name] = (word, draw(texts(key, word, api)))
    mend(row, job_type, api)
    return draw(st.permutations([("job_type", job_type.value), *row.values()]))


def mend(row: dict[str, tuple[str, str]], job_type: JobType, api: ApiVersion) -> None:
    """Take out what does not go together."""
    value = {word: text for word, (_, text) in row.items()}
    if "source_job_id" in row:
        for key in keys_of(job_type):
            if JobType.CONVERSION in key.job_types and JobType.DOWNLOAD not in key.job_types:
                row.pop(key.name, None)
    coordinates = {"custom_centre_ra", "custom_centre_dec"}
    if "centre" in row and value["centre"] == "custom" and not coordinates <= row.keys():
        del row["centre"]
    if "centre" not in row or value["centre"] != "custom":
        for word in coordinates:
            row.pop(word, None)
    for low, high in (("from_channel", "to_channel"), ("uvw_min", "uvw_max")):
        if not {low, high} <= row.keys() or Decimal(value[low]) > Decimal(value[high]):
            row.pop(low, None)
            row.pop(high, None)
    if (value.get("channel_range") == "true") != ("from_channel" in row):
        row.pop("channel_range", None)
    if value.get("noflagmissings") == "true" and value.get("allowmissing") != "true":
        del row["noflagmissings"]
    delivery = value.get("delivery")
    if job_type is JobType.VOLTAGE or (delivery == "dug" and api is ApiVersion.V2):
        row.pop("delivery", None)
        row.pop("delivery_format", None)
    if delivery in (None, "acacia"):
        row.pop("delivery_format", None)


def written(cells: Cells) -> str:
    return ",".join(f"{word}={text}" for word, text in cells)


def rewritten(cells: Cells, how: random.Random) -> str:
    """The same row as another person might write it."""
    cells = how.sample(cells, len(cells))
    done = []
    for word, text in cells:
        pad = [how.choice(["", " ", "\t", "  "]) for _ in range(4)]
        if text in ("true", "false"):
            text = how.choice([text, text.upper(), text.title()])
        cell = f"{pad[0]}{word}{pad[1]}={pad[2]}{text}{pad[3]}"
        done.append(how.choice([cell, f'"{cell}"', f' "{cell}"\t', f",{cell}"]))
    return ",".join(done) + how.choice(["", ",", ", ,,"])


@given(st.data(), st.sampled_from(ApiVersion), st.randoms(use_true_random=False))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_the_way_of_writing_does_not_matter(data: st.DataObject, api: ApiVersion, how: random.Random) -> None:
    rows = data.draw(st.lists(good_rows(api), min_size=1, max_size=3))
    end = how.choice(["\n", "\r\n", "\r"])
    plain = parse("\n".join(map(written, rows)), api)
    fancy = parse(
        how.choice(["", "\ufeff"])
        + end.join(line for row in rows for line in (how.choice(["", "# note", ",,,"]), rewritten(row, how))),
        api,
    )

    def essence(job: JobRequest) -> tuple[object, ...]:
        return job.job_type, job.obs_id, sorted(job.values), job.written_for, job.allow_resubmit, job.identity

    assert [essence(job) for job in fancy.jobs] == [essence(job) for job in plain.jobs]
    assert [job.line for job in fancy.jobs] == [2 * job.line for job in plain.jobs]


@given(st.data(), st.sampled_from(ApiVersion))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_job_is_recognised_in_the_list_of_the_service(data: st.DataObject, api: ApiVersion) -> None:
    job = parse_row(dict(data.draw(good_rows(api))), api)
    sent = job.parameters(api)
    assert all(KEY_BY_NAME[word].name_on(api) == word for word in sent)
    assert identity_of(job.job_type, sent, api) == job.identity_on(api)
    listed: dict[str, object] = {"job_type": job.job_type.label, "priority": 1, "flags": []}
    for word, text in sent.items():
        as_number: dict[str, object] = {"true": True, "false": False}
        number = KEY_BY_NAME[word].kind_of_value(word).is_number
        listed[word] = (int(text) if text.isdigit() else float(text)) if number else as_number.get(text, text)
    assert identity_of(job.job_type, listed, api) == job.identity_on(api)


@given(st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_2018_row_reaches_2018_key_by_key(data: st.DataObject) -> None:
    cells = data.draw(good_rows(ApiVersion.V2018, words_of=ApiVersion.V2018))
    expected = [
        (word, text) for word, text in cells if word not in ("job_type", "allow_resubmit", "delivery")
    ]
    job = parse(written(cells), ApiVersion.V2018).jobs[0]
    assert list(job.parameters(ApiVersion.V2018).items()) == expected


@given(st.data(), st.sampled_from(TODAY))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_translated_row_asks_for_the_same_thing(data: st.DataObject, api: ApiVersion) -> None:
    job = parse(written(data.draw(good_rows(api))), api).jobs[0]
    today = {"job_type": job.job_type.value, **job.parameters(api)}
    again = parse_row(today, api)
    assert again.identity == again.identity_on(api) == job.identity_on(api)
    assert again.parameters(api) == job.parameters(api)


@given(st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_row_does_not_depend_on_the_interface_that_it_was_read_for(data: st.DataObject) -> None:
    cells = dict(data.draw(good_rows(data.draw(st.sampled_from(ApiVersion)))))
    jobs = []
    for api in ApiVersion:
        try:
            jobs.append(parse_row(cells, api))
        except JobFileError:
            pass  # The interface cannot do this.
    assert jobs and len({(job.values, job.identity) for job in jobs}) == 1
    for api in ApiVersion:
        assert len({tuple(job.parameters(api).items()) for job in jobs}) == 1


@pytest.mark.parametrize("api", ApiVersion)
@pytest.mark.parametrize(
    "number",
    ["2.00000000000000001", "12345678901234567890", "9007199254740993", "0.1" + "0" * 30 + "1"],
)
def test_a_number_that_would_be_sent_as_another_one_is_a_mistake(api: ApiVersion, number: str) -> None:
    word = "timeres" if number.isdigit() else "avg_time_res"
    (message,) = messages(f"{C_2018.replace('timeres=20', f'{word}={number}')}", api)
    assert message.startswith(f"{word}={number[:60]}") and "has more digits than can be sent" in message


@pytest.mark.parametrize("number", ["2.12345678901234", "0.1", "3.3", "1e-7", "000000000000000000020.0"])
def test_a_number_that_is_sent_as_it_is_is_none(number: str) -> None:
    sent = form(f"{OBS}, job_type=c, avg_time_res={number}", ApiVersion.V2)["avg_time_res"]
    assert Decimal(repr(float(sent))) == Decimal(number)


@given(st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_conversion_is_the_same_on_all_three_interfaces(data: st.DataObject) -> None:
    cells = [
        cell for cell in data.draw(good_rows(ApiVersion.V2018)) if not KEY_BY_NAME[cell[0]].is_only_in_2018
    ]
    cells = [
        (word, str(min(int(text), 32)) if KEY_BY_NAME[word].unit in ("s", "kHz") else text)
        for word, text in cells
    ]
    assert len({parse_row(dict(cells), api).identity for api in ApiVersion}) == 1


# --- What is no job file ------------------------------------------------------------------------------


def mistakes_of(source: Callable[[], object]) -> list[str]:
    with pytest.raises(JobFileError) as caught:
        source()
    assert caught.value.exit_status is ExitStatus.BAD_FILE
    return [f"{mistake.line}: {mistake.message}" for mistake in caught.value.mistakes]


def test_a_file_that_never_ends_is_read_to_its_bound() -> None:
    said = ["1: more than 64 MB; no job file is so long"]
    assert mistakes_of(lambda: read_file("/dev/zero", ApiVersion.V2)) == said
    with Path("/dev/zero").open("rb") as endless:
        assert mistakes_of(lambda: read_file("-", ApiVersion.V2, stdin=endless)) == said


MEASURED = r"""
import re, sys
from pathlib import Path
from mwa_client.errors import JobFileError
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.keys import ApiVersion
try:
    parse(eval(sys.argv[1]), ApiVersion.V2)
except JobFileError as error:
    print(len(error.mistakes), error.mistakes[-1].message)
# Not getrusage(): what that says of a process begins with what its parent had when it started it.
print(int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="nobody says how much memory was used")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("""b'obs_id=1,"' + b'a,' * 25_000_000""", "1 a row of 50000010 characters; is a line end or"),
        ("""b'"' * 50_000_000""", "1 no jobs in"),
        ("""b'x\\n' * 25_000_000""", "10001 too many mistakes; what follows was not read"),
        ("""(b'x,' * 8000 + b'\\n') * 3000""", "10001 too many mistakes; what follows was not read"),
        ("""b'\\r' * 50_000_000""", "1 more than 250000 lines; give it in several files"),
    ],
)
def test_no_text_takes_much_memory_or_time(content: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, content], capture_output=True, text=True, timeout=30, check=True
    )
    words, megabytes = done.stdout.splitlines()
    assert words.startswith(said) and int(megabytes) < 250


def test_a_long_row_of_commas_and_a_long_comment_are_no_mistakes() -> None:
    text = "," * 16_383 + "\n#" + "x" * 100_000 + "\n" + " ," * 20_000 + "\n" + DOWNLOAD
    assert [job.line for job in parse(text, ApiVersion.V2).jobs] == [4]


def test_a_row_that_is_too_long_is_one_mistake_among_others() -> None:
    text = f"obs_id=7\n{DOWNLOAD.strip()}, {'x,' * 10_000}\n{DOWNLOAD}"
    found = mistakes_of(lambda: parse(text, ApiVersion.V2))
    assert len([one for one in found if one.startswith("2: ")]) == 1
    assert any(one.startswith("1: obs_id=7") for one in found)


@pytest.mark.parametrize(
    "cell",
    [
        "obs_id=" + "0" * 5000 + "1191828584",
        "obs_id=" + "9" * 5000,
        "obs_id=" + "0" * 5000,
        "avg_freq_res=" + "0" * 5000 + "10",
        "avg_time_res=1e999",
        "avg_time_res=1e-999",
        "avg_time_res=1e99",
        "phase_centre_ra=1e-300",
        "uvw_min=1e400",
        "phase_centre_dec=" + "0." + "0" * 5000 + "1",
    ],
)
@pytest.mark.parametrize("api", ApiVersion)
def test_a_number_that_cannot_be_written_out_is_a_mistake(api: ApiVersion, cell: str) -> None:
    word = cell.partition("=")[0]
    row = f"job_type=c, {cell}" + ("" if word == "obs_id" else ", obs_id=1191828584")
    found = mistakes_of(lambda: parse_row(row, api))
    assert any(word in one for one in found) and max(map(len, found)) < 300


@pytest.mark.parametrize("number", ["0001191828584", "0" * 25 + "1191828584"])
def test_a_few_zeros_too_many_do_no_harm(number: str) -> None:
    assert parse_row(f"obs_id={number}, job_type=d, download_type=vis", ApiVersion.V2).obs_id == 1191828584


@pytest.mark.parametrize("name", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
def test_what_a_shell_hands_over_can_be_a_job_file(name: str) -> None:
    done = run_command(f"--csv={name}", "--check", env=environment(), stdin=DOWNLOAD.encode())
    assert done.returncode == 0 and "1 job on 1 observation" in done.stdout


def test_a_pipe_can_be_a_job_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", f"echo '{DOWNLOAD.strip()}' > '{pipe}'"]):
        assert len(read_file(pipe, ApiVersion.V2).jobs) == 1
