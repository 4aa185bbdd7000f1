"""--part K/N: which rows are whose."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared import vis

from mwa_client.cli.sharing import check_array
from mwa_client.errors import ExitStatus, SettingsError
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.request import JobRequest
from mwa_client.jobs.sharing import Share

OBS = 1191828528


def jobs(*obs_ids: int) -> tuple[JobRequest, ...]:
    text = vis(*obs_ids) + vis(*obs_ids).replace("vis\n", "vis_meta\n")
    return parse(text, ApiVersion.V2).jobs


observations = st.lists(st.integers(OBS, OBS + 400), min_size=1, max_size=30)


@settings(deadline=None, max_examples=25)
@given(observations, st.integers(1, 12), st.sampled_from([0, 1]))
def test_counted_from_0_or_from_1_each_observation_is_of_one_part(
    obs_ids: list[int], of: int, first: int
) -> None:
    parts = [Share.read(f"{first + task}/{of}").part(jobs(*obs_ids)) for task in range(of)]
    counted = Counter(obs_id for part in parts for obs_id in part.observations)
    assert counted == Counter(set(obs_ids))
    sizes = [len(part.observations) for part in parts]
    assert max(sizes) - min(sizes) <= 1, "and the parts are equal"
    assert len({part.name for part in parts}) == of


@settings(deadline=None, max_examples=25)
@given(observations, st.randoms(use_true_random=False), st.integers(2, 5))
def test_the_order_of_the_rows_does_not_count(obs_ids: list[int], dice, of: int) -> None:  # type: ignore[no-untyped-def]
    moved = [*dice.sample(obs_ids, len(obs_ids)), obs_ids[0]]
    for number in range(of):
        share = Share.read(f"{number}/{of}")
        assert share.part(jobs(*obs_ids)).observations == share.part(jobs(*moved)).observations


@pytest.mark.parametrize(
    ("text", "share"), [("0/4", "4/4"), (" 3 / 4 ", "3/4"), ("03/04", "3/4"), ("0/1", "1/1")]
)
def test_more_than_one_way_to_say_it(text: str, share: str) -> None:
    assert Share.read(text) == Share.read(share)
    assert Share.read(text).is_all is (share == "1/1")


@pytest.mark.parametrize(
    "text",
    [
        "0/0",
        "5/4",
        "-1/4",
        "a/b",
        "",
        "/",
        "1/",
        "/4",
        "4",
        "1/4/2",
        "1.0/4",
        "1/-4",
        "٣/٤",
        "1\n/4x",
        "1/9999999",
    ],
)
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(SettingsError, match="is not a part") as caught:
        Share.read(text)
    assert "K/N" in caught.value.remedy and "$SLURM_ARRAY_TASK_ID" in caught.value.remedy
    assert caught.value.exit_status is ExitStatus.FAILED


def array(task: int, tasks: str) -> dict[str, str]:
    """What Slurm says to a task of ``--array=TASKS``."""
    numbers = [int(number) for number in tasks.split(",")]
    said = {"ID": task, "COUNT": len(numbers), "MIN": min(numbers), "MAX": max(numbers)}
    return {f"SLURM_ARRAY_TASK_{word}": str(value) for word, value in said.items()}


@pytest.mark.parametrize(
    ("share", "environment"),
    [
        ("0/4", array(0, "0,1,2,3")),
        ("4/4", array(4, "1,2,3,4")),
        ("2/4", array(2, "2")),  # With the number of parts written out, a task can be run again alone.
        ("2/4", array(2, "0,2")),
        ("2/4", {}),
        ("2/4", {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "x"}),
    ],
)
def test_arrays_that_leave_nothing_out(share: str, environment: dict[str, str]) -> None:
    check_array(Share.read(share), environment)


@pytest.mark.parametrize(
    ("task", "tasks"), [(0, "0,2"), (2, "0,2"), (2, "2,3"), (0, "0,2,4,6"), (3, "1,3,4")]
)
def test_arrays_whose_tasks_would_leave_parts_out(task: int, tasks: str) -> None:
    said = array(task, tasks)
    share = Share.read(f"{task}/{said['SLURM_ARRAY_TASK_COUNT']}")
    with pytest.raises(SettingsError, match="some parts would be left out") as caught:
        check_array(share, said)
    assert "--part=$SLURM_ARRAY_TASK_ID/4" in caught.value.remedy
