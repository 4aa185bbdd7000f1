"""The table of job keys says what the service's own list of keys says, line by line."""

from __future__ import annotations

import csv
import dataclasses
from decimal import Decimal
from pathlib import Path

import pytest

from mwa_client.jobs.key_table import KEY_BY_NAME, KEYS, find_key, keys_of
from mwa_client.jobs.keys import ApiVersion, JobKey, JobType, Limits, Required, ValueKind

LIST = Path(__file__).parents[1] / "data" / "job_keys.csv"
LINES = list(csv.DictReader(LIST.read_text(encoding="utf-8").splitlines()))
ALL_OF_C = "(all of c but output)"
DESCRIBED = [line for line in LINES if line["key"] != ALL_OF_C]
IDS = [line["key"] or line["key_2018"] for line in DESCRIBED]


def key_of(line: dict[str, str]) -> JobKey:
    key = find_key(line["key"] or line["key_2018"])
    assert key is not None
    return key


def a_key(word: str) -> JobKey:
    key = find_key(word)
    assert key is not None
    return key


def test_the_table_has_the_lines_of_the_list_in_its_order_and_no_others() -> None:
    assert [key.name for key in KEYS] == IDS


@pytest.mark.parametrize("line", DESCRIBED, ids=IDS)
def test_a_key_has_the_words_of_the_list(line: dict[str, str]) -> None:
    key = key_of(line)
    assert (key.name_on(ApiVersion.V2) or "") == line["key"]
    assert (key.name_on(ApiVersion.V1) or "") == line["v1_key"]
    assert (key.name_on(ApiVersion.V2018) or "") == line["key_2018"]
    assert key.is_only_in_2018 == (not line["key"])


@pytest.mark.parametrize("line", DESCRIBED, ids=IDS)
def test_a_key_has_the_kind_limits_choices_and_unit_of_the_list(line: dict[str, str]) -> None:
    key = key_of(line)
    assert key.kind is ValueKind(line["kind"])
    assert key.minimum == (Decimal(line["minimum"]) if line["minimum"] else None)
    assert key.maximum == (Decimal(line["maximum"]) if line["maximum"] else None)
    assert "|".join(key.choices) == line["choices"]
    assert key.unit == line["unit"]


@pytest.mark.parametrize("line", DESCRIBED, ids=IDS)
def test_a_key_is_required_and_has_the_default_and_meaning_of_the_list(line: dict[str, str]) -> None:
    key = key_of(line)
    assert key.required is Required(line["required"])
    # A switch that only 2018 had is off where it is left out; the list has today's defaults alone.
    assert (key.default or "") == (line["v2_default"] if line["key"] else "false")
    assert key.meaning in line["meaning"]
    assert bool(key.meaning) == (line["meaning"] not in ("", "v1's default was true"))


@pytest.mark.parametrize("line", DESCRIBED, ids=IDS)
def test_a_key_belongs_to_the_job_types_of_the_list(line: dict[str, str]) -> None:
    key = key_of(line)
    if line["job_type"] == "any":
        expected = set(JobType)
    else:
        expected = {JobType(line["job_type"])}
        if line["job_type"] == "c" and line["key"] != "output":
            assert any(other["key"] == ALL_OF_C and other["job_type"] == "i" for other in LINES)
            expected.add(JobType.IMAGING)
    assert key.job_types == expected


@pytest.mark.parametrize(
    ("word", "fact", "in_the_table"),
    [
        ("delivery", "voltage: scratch only", ("acacia", "scratch")),
        ("delivery_format", "voltage is always files", ("tar", "files")),
    ],
)
def test_a_voltage_job_has_its_own_default(word: str, fact: str, in_the_table: tuple[str, str]) -> None:
    key = a_key(word)
    assert any(line["key"] == word and fact in line["meaning"] for line in LINES)
    assert (key.default_of(JobType.DOWNLOAD), key.default_of(JobType.VOLTAGE)) == in_the_table


def test_an_imaging_job_calibrates_by_default_today_but_not_on_v1() -> None:
    key = a_key("apply_di_cal")
    assert key.default_of(JobType.CONVERSION) == "false"
    assert key.default_of(JobType.IMAGING) == "true"
    assert key.implied_value(ApiVersion.V2, JobType.IMAGING) == "true"
    assert key.implied_value(ApiVersion.V1, JobType.IMAGING) == "false"


def test_multiscale_was_on_by_default_on_v1() -> None:
    key = a_key("multiscale")
    assert [key.implied_value(api, JobType.IMAGING) for api in (ApiVersion.V1, ApiVersion.V2)] == [
        "true",
        "false",
    ]


def test_2018_did_not_flag_the_centre_channel_unless_told_to() -> None:
    key = a_key("flagdcchannels")
    assert key is a_key("no_flag_dc")
    assert key.implied_value(ApiVersion.V2018, JobType.CONVERSION) == "true"
    assert key.implied_value(ApiVersion.V2, JobType.CONVERSION) == "false"
    assert key.encode("true", ApiVersion.V2018) == "false"
    assert key.decode("true", "flagdcchannels") == "false"
    assert key.decode("true", "no_flag_dc") == "true"


def test_2018_had_to_be_told_the_resolutions_and_the_output() -> None:
    told = [key.name_on(ApiVersion.V2018) for key in KEYS if key.required is Required.IN_2018]
    assert told == ["timeres", "freqres", "edgewidth", "conversion"]
    for key in KEYS:
        if key.required is Required.IN_2018:
            assert key.is_required_in(ApiVersion.V2018)
            assert not key.is_required_in(ApiVersion.V2)
            assert key.implied_value(ApiVersion.V2018, JobType.CONVERSION) is None


@pytest.mark.parametrize(("word", "least"), [("timeres", 1), ("freqres", 1), ("edgewidth", 0)])
def test_2018_took_whole_numbers(word: str, least: int) -> None:
    key = a_key(word)
    assert key.limits_of_value(word) == key.limits_on(ApiVersion.V2018) == Limits(ValueKind.INTEGER, least)
    assert key.kind_of_value(word) is ValueKind.INTEGER
    assert key.kind_of_value(key.name) is ValueKind.DECIMAL


def test_v1_averages_from_half_a_second_to_32_seconds() -> None:
    assert a_key("avg_time_res").limits_on(ApiVersion.V1) == Limits(ValueKind.DECIMAL, Decimal("0.5"), 32)
    assert a_key("avg_time_res").limits_on(ApiVersion.V2) == Limits(ValueKind.DECIMAL, 0, None)


def test_only_a_switch_that_is_off_everywhere_need_not_be_stated() -> None:
    stated = {job_type: {key.name for key in keys_of(job_type) if key.is_always_sent(job_type)}
              for job_type in JobType}  # fmt: skip
    six = {"avg_time_res", "avg_freq_res", "flag_edge_width", "output", "centre", "delivery"}
    assert six <= stated[JobType.CONVERSION] and six - {"output"} <= stated[JobType.IMAGING]
    for job_type in JobType:
        for key in keys_of(job_type):
            meant = {key.implied_value(api, job_type) for api in (ApiVersion.V1, ApiVersion.V2)}
            off = key.kind is ValueKind.BOOLEAN and meant == {"false"}
            assert (key.name in stated[job_type]) == (key.default_of(job_type) is not None and not off)


def test_centre_was_a_switch_in_2018() -> None:
    key = a_key("usepcentre")
    assert key is a_key("centre")
    assert (key.kind_of_value("usepcentre"), key.kind_of_value("centre")) == (
        ValueKind.BOOLEAN,
        ValueKind.CHOICE,
    )
    assert [key.decode(text, "usepcentre") for text in ("true", "false")] == ["pointing", "phase"]
    assert [key.encode(choice, ApiVersion.V2018) for choice in ("pointing", "phase")] == ["true", "false"]


def test_metadata_have_another_name_on_v2() -> None:
    key = a_key("download_type")
    assert [key.encode("vis_meta", api) for api in ApiVersion] == ["vis_meta", "vis_meta", "meta"]
    assert key.decode("meta", "download_type") == "vis_meta"
    assert key.decode("vis", "download_type") == "vis"


def test_no_word_means_two_things() -> None:
    words = [word for key in KEYS for word in {key.name, key.name_v1, key.name_2018} - {None}]
    assert len(words) == len(set(words)) == len(KEY_BY_NAME)


def test_a_word_tells_whose_it_is() -> None:
    assert a_key("timeres").interface_of("timeres") is ApiVersion.V2018
    assert a_key("timeres").interface_of("avg_time_res") is ApiVersion.V2
    assert a_key("obs_id").interface_of("obs_id") is None
    assert a_key("nostats").interface_of("nostats") is ApiVersion.V2018
    assert a_key("phase_centre_ra").interface_of("phase_centre_ra") is ApiVersion.V2
    assert a_key("delivery").interface_of("delivery") is ApiVersion.V2


def test_an_unknown_word_is_not_found() -> None:
    assert find_key("frqres") is None
    assert find_key("") is None


def test_keys_of_a_job_type_are_those_that_name_it() -> None:
    for job_type in JobType:
        assert keys_of(job_type) == tuple(key for key in KEYS if job_type in key.job_types)
    conversion, imaging = (
        {key.name for key in keys_of(kind)} for kind in (JobType.CONVERSION, JobType.IMAGING)
    )
    assert conversion - imaging == {"output"}


def test_job_types_have_labels_and_know_their_interfaces() -> None:
    assert {job_type.value: job_type.label for job_type in JobType} == {
        "c": "conversion", "d": "download", "v": "voltage", "b": "beamformer", "i": "imaging",
    }  # fmt: skip
    assert [job_type.value for job_type in JobType if job_type.is_known_to(ApiVersion.V2018)] == ["c", "d"]
    assert all(job_type.is_known_to(api) for job_type in JobType for api in (ApiVersion.V1, ApiVersion.V2))


def test_numbers_are_the_kinds_with_limits() -> None:
    assert [kind for kind in ValueKind if kind.is_number] == [ValueKind.INTEGER, ValueKind.DECIMAL]
    assert not any(key.minimum or key.maximum for key in KEYS if not key.kind.is_number)


@pytest.mark.parametrize("key", KEYS, ids=[key.name for key in KEYS])
def test_every_default_is_a_value_of_its_key(key: JobKey) -> None:
    for default in filter(None, [key.default, *key.other_defaults.values()]):
        if key.kind is ValueKind.BOOLEAN:
            assert default in ("true", "false")
        elif key.kind is ValueKind.CHOICE:
            assert default in key.choices
        else:
            assert key.minimum is None or Decimal(default) >= key.minimum
            assert key.maximum is None or Decimal(default) <= key.maximum


def test_the_table_cannot_be_changed_by_mistake() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        KEYS[0].name = "obsid"  # type: ignore[misc]
    with pytest.raises(TypeError):
        KEY_BY_NAME["obsid"] = KEYS[0]  # type: ignore[index]
