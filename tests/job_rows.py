"""Rows of job files: some plain ones, strategies for good ones, and what is wrong with bad ones."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from hypothesis import strategies as st

from mwa_client.errors import JobFileError, Mistake
from mwa_client.jobs.jobfile import parse, parse_row
from mwa_client.jobs.key_table import keys_of
from mwa_client.jobs.keys import ApiVersion, JobKey, JobType, ValueKind

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


# --- Strategies ------------------------------------------------------------------------------------------

Cells = list[tuple[str, str]]


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
