"""A job that the service lists is recognised as the one that a row asks for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_rows import C_2018, OBS

from mwa_client.jobs.jobfile import parse_row
from mwa_client.jobs.key_table import KEY_BY_NAME
from mwa_client.jobs.keys import ApiVersion, JobType
from mwa_client.jobs.listed import identity_of


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
