"""Which listed job is a row's: through every key, choice, default and interface, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

import pytest

from mwa_client.asvo.api_2018 import _read_job as read_job_2018
from mwa_client.asvo.job import Job, JobState
from mwa_client.asvo.today import read_job
from mwa_client.jobfile import JobRequest, contradicts, parse_row
from mwa_client.jobkeys import Api, JobKey, JobType, Kind, keys_of

OBS = 1191828584
NO_PART_OF_THE_PRODUCT = ("obs_id", "job_type", "allow_resubmit")
ROWS = {
    JobType.CONVERSION: f"obs_id={OBS}, job_type=c",
    JobType.DOWNLOAD: f"obs_id={OBS}, job_type=d, download_type=vis",
    JobType.VOLTAGE: f"obs_id={OBS}, job_type=v, offset=0, duration=8",
    JobType.BEAMFORMER: f"obs_id={OBS}, job_type=b",
    JobType.IMAGING: f"obs_id={OBS}, job_type=i",
}
TODAY = (Api.V1, Api.V2)
NEW_KEYS = {"priority": 1, "user_pawsey_group": "mwaops", "flags": ["new"], "cpus": 12, "staging_count": None}
"""What a service may add to what was asked for."""
NOTHING: Mapping[str, object] = MappingProxyType({})


def listed(
    request: JobRequest, api: Api, more: Mapping[str, object] = NOTHING, *, but: tuple[str, ...] = ()
) -> Job:
    """A job that was asked for with a row, as an interface lists it; without some keys, with others."""
    asked = {key: value for key, value in request.parameters(api).items() if key not in but}
    return a_job(request.job_type, {**asked, **more})


def a_job(job_type: JobType | None, parameters: dict[str, object]) -> Job:
    obs_id = int(str(parameters["obs_id"])) if "obs_id" in parameters else None
    return Job(7, JobState.QUEUED, "", obs_id, job_type, MappingProxyType(parameters))


def values_of(key: JobKey, api: Api) -> list[str]:
    """Every choice; of numbers, some."""
    if key.kind is Kind.BOOLEAN:
        return ["false", "true"]
    if key.kind is Kind.CHOICE:
        return list(key.choices)
    limits = key.limits_on(api)
    low = Decimal(0 if limits.minimum is None else limits.minimum)
    high = low + 4 if limits.maximum is None else Decimal(limits.maximum)
    values = [str(value) for value in (low, high) if limits.kind is Kind.DECIMAL or value == int(value)]
    return [*values, *([key.default] if key.default else [])]


def keys_on(job_type: JobType, api: Api) -> list[JobKey]:
    return [
        key
        for key in keys_of(job_type)
        if key.spelled(api) is not None and key.word not in NO_PART_OF_THE_PRODUCT
    ]


KEYS_ON = [
    pytest.param(api, job_type, key, id=f"{api.value}-{job_type.value}-{key.word}")
    for api in TODAY
    for job_type in JobType
    for key in keys_on(job_type, api)
]


def other_values(key: JobKey, value: str | None, api: Api) -> list[str]:
    return [other for other in values_of(key, api) if value is None or other != value]


# --- What contradicts a row --------------------------------------------------------------------------


@pytest.mark.parametrize("api", TODAY)
@pytest.mark.parametrize("job_type", JobType)
def test_our_own_job_is_never_disowned(job_type: JobType, api: Api) -> None:
    request = parse_row(ROWS[job_type], api)
    assert contradicts(listed(request, api), request, api) is None
    assert contradicts(listed(request, api, NEW_KEYS), request, api) is None
    for word in request.parameters(api):
        assert contradicts(listed(request, api, but=(word,)), request, api) is None
    assert contradicts(Job(7, JobState.QUEUED), request, api) is None
    assert contradicts(a_job(None, {"obs_id": OBS}), request, api) is None


@pytest.mark.parametrize("api", TODAY)
@pytest.mark.parametrize("job_type", JobType)
def test_defaults_that_the_service_adds_contradict_nothing(job_type: JobType, api: Api) -> None:
    request = parse_row(ROWS[job_type], api)
    defaults = {key: key.default_of(job_type) for key in keys_on(job_type, api)}
    added = {str(key.spelled(api)): key.said_on(api, value) for key, value in defaults.items() if value}
    assert contradicts(listed(request, api, added), request, api) is None


@pytest.mark.parametrize(("api", "job_type", "key"), KEYS_ON)
def test_another_value_of_a_key_contradicts_the_row(api: Api, job_type: JobType, key: JobKey) -> None:
    request = parse_row(ROWS[job_type], api)
    word = key.spelled(api)
    assert word is not None
    said = dict(request.values).get(key.word, key.default_of(job_type))
    for other in other_values(key, said, api):
        job = listed(request, api, {word: key.said_on(api, other)})
        expected = None if said is None else f"{key.word}={plain(key, other)} instead of {plain(key, said)}"
        assert contradicts(job, request, api) == expected


def plain(key: JobKey, value: str) -> str:
    return format(Decimal(value).normalize(), "f") if key.kind.is_number else value


def test_another_observation_or_type_contradicts_the_row() -> None:
    request = parse_row(ROWS[JobType.CONVERSION], Api.V2)
    elsewhere = listed(request, Api.V2, {"obs_id": OBS + 8})
    assert contradicts(elsewhere, request, Api.V2) == f"obs_id={OBS + 8} instead of {OBS}"
    download = a_job(JobType.DOWNLOAD, {"obs_id": OBS, "download_type": "vis"})
    assert contradicts(download, request, Api.V2) == "a download job instead of a conversion job"
    image = a_job(JobType.IMAGING, {"obs_id": OBS})
    assert contradicts(image, request, Api.V2) == "an imaging job instead of a conversion job"


def test_all_differences_are_told() -> None:
    request = parse_row(f"{ROWS[JobType.CONVERSION]}, avg_time_res=2", Api.V2)
    job = listed(request, Api.V2, {"avg_time_res": "4.0", "no_rfi": True})
    assert contradicts(job, request, Api.V2) == "avg_time_res=4 instead of 2, no_rfi=true instead of false"


@pytest.mark.parametrize("value", [None, "", "ten", [4], {}, float("nan")])
def test_a_value_that_makes_no_sense_contradicts_nothing(value: object) -> None:
    request = parse_row(ROWS[JobType.CONVERSION], Api.V2)
    job = listed(request, Api.V2, {"avg_time_res": value, "output": value})
    assert contradicts(job, request, Api.V2) is None


def test_the_words_of_another_interface_are_understood() -> None:
    row = "obs_id=1191828584, job_type=c, timeres=4, freqres=40, edgewidth=80, conversion=ms"
    request = parse_row(row, Api.V2018)
    own = {"obs_id": str(OBS), "timeres": "4", "freqres": "40", "edgewidth": "80", "conversion": "ms"}
    for more in ({}, {"flagdcchannels": "false"}, {"delivery": "acacia"}):
        assert contradicts(a_job(JobType.CONVERSION, {**own, **more}), request, Api.V2018) is None
    flagged = a_job(JobType.CONVERSION, {**own, "flagdcchannels": "true"})
    assert contradicts(flagged, request, Api.V2018) == "no_flag_dc=false instead of true"


@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("said", [{}, {"download_type": None}, {"download_type": ""}])
def test_the_type_of_a_job_says_what_a_download_fetches(api: Api, said: dict[str, object]) -> None:
    read = read_job_2018 if api is Api.V2018 else read_job
    types: list[int | str] = [2, "2"] if api is Api.V2018 else [2, "2", "download_metadata"]
    request = parse_row(ROWS[JobType.DOWNLOAD], api)
    for job_type in types:
        job = read({"id": 7, "job_type": job_type, "job_state": 0, "job_params": {"obs_id": OBS, **said}})
        assert job is not None
        assert contradicts(job, request, api) == "download_type=vis_meta instead of vis"
