"""Which listed job is a row's: through every key, choice, default and interface, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

import pytest

from mwa_client.asvo.api_2018 import _read_job as read_job_2018
from mwa_client.asvo.job import Job, JobState, read_integer
from mwa_client.asvo.v1_v2 import read_job
from mwa_client.errors import JobFileError
from mwa_client.jobs.jobfile import parse_row
from mwa_client.jobs.key_table import KEY_BY_NAME, KEYS, find_key, keys_of
from mwa_client.jobs.keys import ApiVersion, JobKey, JobType, ValueKind
from mwa_client.jobs.listed import contradicts, identity_of
from mwa_client.jobs.request import JobRequest

OBS = 1191828584
NO_PART_OF_THE_PRODUCT = ("obs_id", "job_type", "allow_resubmit")
ROWS = {
    JobType.CONVERSION: f"obs_id={OBS}, job_type=c",
    JobType.DOWNLOAD: f"obs_id={OBS}, job_type=d, download_type=vis",
    JobType.VOLTAGE: f"obs_id={OBS}, job_type=v, offset=0, duration=8",
    JobType.BEAMFORMER: f"obs_id={OBS}, job_type=b",
    JobType.IMAGING: f"obs_id={OBS}, job_type=i",
}
TODAY = (ApiVersion.V1, ApiVersion.V2)
NEW_KEYS = {"priority": 1, "user_pawsey_group": "mwaops", "flags": ["new"], "cpus": 12, "staging_count": None}
"""What a service may add to what was asked for."""
NOTHING: Mapping[str, object] = MappingProxyType({})


def listed(
    request: JobRequest, api: ApiVersion, more: Mapping[str, object] = NOTHING, *, but: tuple[str, ...] = ()
) -> Job:
    """A job that was asked for with a row, as an interface lists it; without some keys, with others."""
    asked = {key: value for key, value in request.parameters(api).items() if key not in but}
    return a_job(request.job_type, {**asked, **more})


def a_job(job_type: JobType | None, parameters: dict[str, object]) -> Job:
    obs_id = read_integer(parameters.get("obs_id"))
    return Job(7, JobState.QUEUED, "", obs_id, job_type, MappingProxyType(parameters))


def values_of(key: JobKey, api: ApiVersion) -> list[str]:
    """Every choice; of numbers, some."""
    if key.kind is ValueKind.BOOLEAN:
        return ["false", "true"]
    if key.kind is ValueKind.CHOICE:
        return list(key.choices)
    limits = key.limits_on(api)
    low = Decimal(0 if limits.minimum is None else limits.minimum)
    high = low + 4 if limits.maximum is None else Decimal(limits.maximum)
    values = [str(value) for value in (low, high) if limits.kind is ValueKind.DECIMAL or value == int(value)]
    return [*values, *([key.default] if key.default else [])]


def keys_on(job_type: JobType, api: ApiVersion) -> list[JobKey]:
    return [
        key
        for key in keys_of(job_type)
        if key.name_on(api) is not None and key.name not in NO_PART_OF_THE_PRODUCT
    ]


KEYS_ON = [
    pytest.param(api, job_type, key, id=f"{api.value}-{job_type.value}-{key.name}")
    for api in TODAY
    for job_type in JobType
    for key in keys_on(job_type, api)
]


def other_values(key: JobKey, value: str | None, api: ApiVersion) -> list[str]:
    return [other for other in values_of(key, api) if value is None or other != value]


# --- Which job is the same: nothing but what asks for all that the row asks for ----------------------


def is_same(job: Job, request: JobRequest, api: ApiVersion) -> bool:
    assert job.job_type is not None
    return identity_of(job.job_type, job.parameters, api) == request.identity_on(api)


def row_with(job_type: JobType, key: JobKey, value: str, api: ApiVersion) -> JobRequest | None:
    """A row that says one thing more, and what must go with it; None where it cannot be said."""
    cells = dict(cell.split("=") for cell in ROWS[job_type].split(", "))
    cells[key.name] = value
    if value == "custom":
        cells |= {"custom_centre_ra": "10", "custom_centre_dec": "-27"}
    if key.name.startswith("custom_"):
        cells = {"centre": "custom", "custom_centre_ra": "10", "custom_centre_dec": "-27", **cells}
    if key.name in ("from_channel", "to_channel", "channel_range"):
        cells = {"from_channel": "0", "to_channel": "255", **cells}
    if key.name == "delivery_format" and job_type is not JobType.VOLTAGE:
        cells["delivery"] = "scratch"
    try:
        return parse_row(cells, api)
    except JobFileError:
        return None


@pytest.mark.parametrize(("api", "job_type", "key"), KEYS_ON)
def test_rows_are_each_others_job_only_where_no_key_differs(
    api: ApiVersion, job_type: JobType, key: JobKey
) -> None:
    rows = [row_with(job_type, key, value, api) for value in values_of(key, api)]
    requests = [request for request in [parse_row(ROWS[job_type], api), *rows] if request is not None]
    assert len(requests) > 1
    for row in requests:
        for other in requests:
            job = listed(other, api)
            assert is_same(job, row, api) == (asked(row, api) == asked(other, api)), (row, other)
            assert not is_same(job, row, api) or contradicts(job, row, api) is None


def asked(request: JobRequest, api: ApiVersion) -> dict[str, str]:
    """What is sent, without what changes nothing: switches that stay off, the one format of voltages."""
    sent = request.parameters(api)
    for word in list(sent):
        key = KEY_BY_NAME[word]
        is_off = sent[word] == "false" and not key.is_always_sent(request.job_type)
        if is_off or (word == "delivery_format" and request.job_type is JobType.VOLTAGE):
            del sent[word]
    return sent


@pytest.mark.parametrize("api", TODAY)
@pytest.mark.parametrize("job_type", JobType)
def test_a_job_that_lacks_what_decides_its_product_is_another(job_type: JobType, api: ApiVersion) -> None:
    request = parse_row(ROWS[job_type], api)
    assert is_same(listed(request, api), request, api)
    for word in request.parameters(api):
        lacking = listed(request, api, but=(word,))
        assert not is_same(lacking, request, api), word
        for nothing in (None, ""):
            assert not is_same(listed(request, api, {word: nothing}), request, api), word


@pytest.mark.parametrize("api", TODAY)
@pytest.mark.parametrize("job_type", JobType)
def test_switches_that_are_off_may_be_listed_or_not(job_type: JobType, api: ApiVersion) -> None:
    request = parse_row(ROWS[job_type], api)
    switches = [key for key in keys_on(job_type, api) if key.kind is ValueKind.BOOLEAN]
    for key in switches:
        word = str(key.name_on(api))
        for off in ("false", "False", False, 0, "0", None, ""):
            is_stated = key.is_always_sent(job_type)
            if key.default_of(job_type) == "false" and not (is_stated and off in (None, "")):
                assert is_same(listed(request, api, {word: off}), request, api), (word, off)
        if key.default_of(job_type) == "false":
            for on in ("true", True, 1, "1", "perhaps"):
                assert not is_same(listed(request, api, {word: on}), request, api), (word, on)


HARMLESS: list[dict[str, object]] = [
    {"priority": 1}, {"priority": "7"}, {"user_pawsey_group": "mwaops"}, {"flags": []}, {"flags": ""},
    {"job_type": "download"}, {"allow_resubmit": "true"}, {"staging_count": None}, {"new": None},
]  # fmt: skip
NOT_KNOWN: list[dict[str, object]] = [
    {"new": 1}, {"new": ""}, {"new": False}, {"new": []}, {"flags": ["x"]}, {"staging_count": 4},
    {"timeres": 2}, {"usepcentre": "false"}, {"nostats": "true"}, {"user_id": 7},
]  # fmt: skip


@pytest.mark.parametrize("api", TODAY)
@pytest.mark.parametrize("job_type", JobType)
@pytest.mark.parametrize(
    ("more", "same"), [*((more, True) for more in HARMLESS), *((more, False) for more in NOT_KNOWN)]
)
def test_only_keys_that_are_known_to_be_harmless_are(
    job_type: JobType, api: ApiVersion, more: dict[str, object], same: bool
) -> None:
    request = parse_row(ROWS[job_type], api)
    assert is_same(listed(request, api, more), request, api) == same
    assert not same or contradicts(listed(request, api, more), request, api) is None


@pytest.mark.parametrize("api", TODAY)
@pytest.mark.parametrize("job_type", JobType)
def test_a_key_of_another_job_type_makes_it_another_job(job_type: JobType, api: ApiVersion) -> None:
    request = parse_row(ROWS[job_type], api)
    others = [key for key in KEYS if job_type not in key.job_types and key.name_on(api) is not None]
    assert others
    for key in others:
        job = listed(request, api, {str(key.name_on(api)): values_of(key, api)[0]})
        assert not is_same(job, request, api), key.name


V2_ALONE = [key for key in KEYS if key.name_v1 is None and not key.is_only_in_2018]


@pytest.mark.parametrize("key", V2_ALONE, ids=[key.name for key in V2_ALONE])
def test_v1_cannot_say_what_only_v2_knows(key: JobKey) -> None:
    for job_type in key.job_types:
        request = parse_row(ROWS[job_type], ApiVersion.V1)
        for value in values_of(key, ApiVersion.V2):
            assert not is_same(listed(request, ApiVersion.V1, {key.name: value}), request, ApiVersion.V1), (
                value
            )


def test_2018_cannot_say_what_only_todays_service_knows() -> None:
    row = f"obs_id={OBS}, job_type=c, timeres=4, freqres=40, edgewidth=80, conversion=ms"
    request = parse_row(row, ApiVersion.V2018)
    assert is_same(listed(request, ApiVersion.V2018), request, ApiVersion.V2018)
    for key in keys_of(JobType.CONVERSION):
        if key.name_2018 is None and key.name != "allow_resubmit":
            job = listed(request, ApiVersion.V2018, {key.name: values_of(key, ApiVersion.V2)[0]})
            assert not is_same(job, request, ApiVersion.V2018), key.name
    for switch in ("nostats", "noantennapruning", "noflagautos", "allowmissing", "norfi", "flagdcchannels"):
        assert not is_same(listed(request, ApiVersion.V2018, {switch: "true"}), request, ApiVersion.V2018), (
            switch
        )
        assert is_same(listed(request, ApiVersion.V2018, {switch: "false"}), request, ApiVersion.V2018), (
            switch
        )


@pytest.mark.parametrize("api", TODAY)
def test_the_two_interfaces_of_today_list_each_others_jobs(api: ApiVersion) -> None:
    row = f"{ROWS[JobType.CONVERSION]}, centre=custom, custom_centre_ra=10, custom_centre_dec=-27"
    request = parse_row(f"{row}, no_geometry_delay=true", api)
    other = ApiVersion.V1 if api is ApiVersion.V2 else ApiVersion.V2
    assert is_same(a_job(JobType.CONVERSION, dict(request.parameters(other))), request, api)


@pytest.mark.parametrize("api", TODAY)
def test_a_voltage_job_is_a_voltage_download(api: ApiVersion) -> None:
    request = parse_row(ROWS[JobType.VOLTAGE], api)
    assert is_same(listed(request, api, {"download_type": "volt"}), request, api)
    assert not is_same(listed(request, api, {"download_type": "vis"}), request, api)
    channels = parse_row(f"{ROWS[JobType.VOLTAGE]}, from_channel=4, to_channel=5", api)
    assert not is_same(listed(channels, api, but=("channel_range",)), channels, api)


@pytest.mark.parametrize("api", TODAY)
@pytest.mark.parametrize(
    ("listed_type", "download_type", "same"),
    [(2, None, True), ("2", "", True), ("download_metadata", None, True), (1, "vis_meta", True),
     (2, "meta", True), (1, None, False), ("download_visibilities", None, False), ("download", None, False),
     ("download", "meta", True), (2, "vis", False)],
)  # fmt: skip
def test_metadata_are_recognised_by_the_type_of_the_job(
    api: ApiVersion, listed_type: object, download_type: object, same: bool
) -> None:
    request = parse_row(f"obs_id={OBS}, job_type=d, download_type=vis_meta", api)
    params = {"obs_id": OBS, "delivery": "acacia", "download_type": download_type}
    job = read_job({"id": 7, "job_type": listed_type, "job_params": params})
    assert job is not None and is_same(job, request, api) == same


# --- What contradicts a row --------------------------------------------------------------------------


@pytest.mark.parametrize("api", TODAY)
@pytest.mark.parametrize("job_type", JobType)
def test_our_own_job_is_never_disowned(job_type: JobType, api: ApiVersion) -> None:
    request = parse_row(ROWS[job_type], api)
    assert contradicts(listed(request, api), request, api) is None
    assert contradicts(listed(request, api, NEW_KEYS), request, api) is None
    for word in request.parameters(api):
        assert contradicts(listed(request, api, but=(word,)), request, api) is None
    assert contradicts(Job(7, JobState.QUEUED), request, api) is None
    assert contradicts(a_job(None, {"obs_id": OBS}), request, api) is None


@pytest.mark.parametrize("api", TODAY)
@pytest.mark.parametrize("job_type", JobType)
def test_what_a_listing_adds_does_not_disown_a_job_of_the_ledger(job_type: JobType, api: ApiVersion) -> None:
    request = parse_row(ROWS[job_type], api)
    sent = {key.name for word in request.parameters(api) if (key := find_key(word)) is not None}
    for key in keys_on(job_type, api):
        said = dict(request.values).get(key.name, key.default_of(job_type))
        for other in other_values(key, said, api):
            job = listed(request, api, {str(key.name_on(api)): key.encode(other, api)})
            differs = contradicts(job, request, api, is_known=True) is not None
            assert differs == (key.name in sent), key.name


@pytest.mark.parametrize("api", TODAY)
@pytest.mark.parametrize("job_type", JobType)
def test_defaults_that_the_service_adds_contradict_nothing(job_type: JobType, api: ApiVersion) -> None:
    request = parse_row(ROWS[job_type], api)
    defaults = {key: key.default_of(job_type) for key in keys_on(job_type, api)}
    added = {str(key.name_on(api)): key.encode(value, api) for key, value in defaults.items() if value}
    assert contradicts(listed(request, api, added), request, api) is None


@pytest.mark.parametrize(("api", "job_type", "key"), KEYS_ON)
def test_another_value_of_a_key_contradicts_the_row(api: ApiVersion, job_type: JobType, key: JobKey) -> None:
    request = parse_row(ROWS[job_type], api)
    word = key.name_on(api)
    assert word is not None
    said = dict(request.values).get(key.name, key.default_of(job_type))
    for other in other_values(key, said, api):
        job = listed(request, api, {word: key.encode(other, api)})
        expected = None if said is None else f"{key.name}={plain(key, other)} instead of {plain(key, said)}"
        assert contradicts(job, request, api) == expected


def plain(key: JobKey, value: str) -> str:
    return format(Decimal(value).normalize(), "f") if key.kind.is_number else value


def test_another_observation_or_type_contradicts_the_row() -> None:
    request = parse_row(ROWS[JobType.CONVERSION], ApiVersion.V2)
    elsewhere = listed(request, ApiVersion.V2, {"obs_id": OBS + 8})
    assert contradicts(elsewhere, request, ApiVersion.V2) == f"obs_id={OBS + 8} instead of {OBS}"
    download = a_job(JobType.DOWNLOAD, {"obs_id": OBS, "download_type": "vis"})
    assert contradicts(download, request, ApiVersion.V2) == "a download job instead of a conversion job"
    image = a_job(JobType.IMAGING, {"obs_id": OBS})
    assert contradicts(image, request, ApiVersion.V2) == "an imaging job instead of a conversion job"


def test_all_differences_are_told() -> None:
    request = parse_row(f"{ROWS[JobType.CONVERSION]}, avg_time_res=2", ApiVersion.V2)
    job = listed(request, ApiVersion.V2, {"avg_time_res": "4.0", "no_rfi": True})
    assert (
        contradicts(job, request, ApiVersion.V2)
        == "avg_time_res=4 instead of 2, no_rfi=true instead of false"
    )


@pytest.mark.parametrize("value", [None, "", "ten", [4], {}, float("nan")])
def test_a_value_that_makes_no_sense_contradicts_nothing(value: object) -> None:
    request = parse_row(ROWS[JobType.CONVERSION], ApiVersion.V2)
    job = listed(request, ApiVersion.V2, {"avg_time_res": value, "output": value})
    assert contradicts(job, request, ApiVersion.V2) is None


def test_the_words_of_another_interface_are_understood() -> None:
    row = "obs_id=1191828584, job_type=c, timeres=4, freqres=40, edgewidth=80, conversion=ms"
    request = parse_row(row, ApiVersion.V2018)
    own = {"obs_id": str(OBS), "timeres": "4", "freqres": "40", "edgewidth": "80", "conversion": "ms"}
    for more in ({}, {"flagdcchannels": "false"}, {"delivery": "acacia"}):
        assert contradicts(a_job(JobType.CONVERSION, {**own, **more}), request, ApiVersion.V2018) is None
    flagged = a_job(JobType.CONVERSION, {**own, "flagdcchannels": "true"})
    assert contradicts(flagged, request, ApiVersion.V2018) == "no_flag_dc=false instead of true"


@pytest.mark.parametrize("api", ApiVersion)
@pytest.mark.parametrize("said", [{}, {"download_type": None}, {"download_type": ""}])
def test_the_type_of_a_job_says_what_a_download_fetches(api: ApiVersion, said: dict[str, object]) -> None:
    read = read_job_2018 if api is ApiVersion.V2018 else read_job
    types: list[int | str] = [2, "2"] if api is ApiVersion.V2018 else [2, "2", "download_metadata"]
    request = parse_row(ROWS[JobType.DOWNLOAD], api)
    for job_type in types:
        job = read({"id": 7, "job_type": job_type, "job_state": 0, "job_params": {"obs_id": OBS, **said}})
        assert job is not None
        assert contradicts(job, request, api) == "download_type=vis_meta instead of vis"
