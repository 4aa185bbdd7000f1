"""The README says what the program does: its table of keys, its exit statuses, its example.

python tests/test_readme.py        writes the table of keys into the README
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from json_events import FIELDS, STATUS_FIELDS

from mwa_client.asvo import variables
from mwa_client.asvo.job import JobState
from mwa_client.cli.options import option_parser
from mwa_client.display.wording import LIFE
from mwa_client.errors import ExitStatus
from mwa_client.jobs.jobfile import parse
from mwa_client.jobs.key_table import KEYS
from mwa_client.jobs.keys import ApiVersion, JobKey, JobType, Required, ValueKind
from mwa_client.jobs.wording import UNITS

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- keys -->\n", "<!-- /keys -->"


def key_table() -> str:
    """The table of job keys, as Markdown."""
    lines = ["| today | 2018 | jobs | value | default | meaning |", "|---|---|---|---|---|---|"]
    return "\n".join(lines + [_line(key) for key in KEYS]) + "\n"


def _line(key: JobKey) -> str:
    today = "" if key.is_only_in_2018 else f"`{key.name}`"
    if key.name_v1 and key.name_v1 != key.name:
        today += f" (v1: `{key.name_v1}`)"
    required = {Required.ALWAYS: "**required**", Required.WITH_CUSTOM_CENTRE: "with `centre=custom`"}
    default = required.get(key.required) or (f"`{key.default}`" if key.default else "")
    if key.required is Required.IN_2018:
        default += " (2018: **required**)"
    jobs = (
        "all" if len(key.job_types) == len(JobType) else " ".join(sorted(job.value for job in key.job_types))
    )
    word_2018 = f"`{key.name_2018}`" if key.name_2018 else ""
    return f"| {today} | {word_2018} | {jobs} | {_value(key)} | {default} | {_meaning(key)} |"


def _value(key: JobKey) -> str:
    if key.kind is ValueKind.BOOLEAN:
        return "`true`, `false`"
    if key.kind is ValueKind.CHOICE:
        return ", ".join(f"`{choice}`" for choice in key.choices) + (
            f" {UNITS[key.unit]}" if key.unit else ""
        )
    kind = "whole number" if key.kind is ValueKind.INTEGER else "number"
    limits = [f"from {key.minimum}"] if key.minimum is not None else []
    limits += [f"to {key.maximum}"] if key.maximum is not None else []
    return " ".join([kind, *limits]) + (f", {UNITS[key.unit]}" if key.unit else "")


def _meaning(key: JobKey) -> str:
    if key.name == "no_flag_dc":
        return f"{key.meaning}; `flagdcchannels` is its opposite"
    if key.name == "centre":
        return f"{key.meaning}; `usepcentre=true` is `centre=pointing`"
    if ApiVersion.V2018 in key.api_limits and key.api_limits[ApiVersion.V2018].kind is ValueKind.INTEGER:
        return f"{key.meaning} (2018: a whole number)"
    return key.meaning or key.name.replace("_", " ")


def test_table_of_keys_is_the_one_the_program_uses() -> None:
    assert BEGIN + key_table() + END in README.read_text(encoding="utf-8"), "run python tests/test_readme.py"


def test_every_exit_status_is_in_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    shown = {int(number) for row in re.findall(r"^\| ([0-9, ]+) \|", text, re.M) for number in row.split(",")}
    assert shown == {int(status) for status in ExitStatus}


@pytest.mark.parametrize(
    ("example", "api"), [("jobs.csv", ApiVersion.V2018), ("jobs_in_todays_words.csv", ApiVersion.V2)]
)
def test_the_examples_in_the_readme_are_the_example_files(example: str, api: ApiVersion) -> None:
    lines = (README.parent / "examples" / example).read_text(encoding="utf-8")
    rows = [line for line in lines.splitlines() if line and not line.startswith("#")]
    blocks = re.findall(r"```\n(# Convert to .*?)```", README.read_text(encoding="utf-8"), re.S)
    in_readme = [[line for line in block.splitlines() if not line.startswith("#")] for block in blocks]
    assert rows in in_readme and len(rows) == 3
    assert [job.line for job in parse(lines, api).jobs] and not parse(lines, api).warnings


def test_the_two_commands_are_lines_that_can_be_pasted() -> None:
    commands = re.findall(r"^python3 -m venv .*$", README.read_text(encoding="utf-8"), re.M)
    assert len(commands) == 2
    assert "--sandbox --csv=examples/jobs_in_todays_words.csv" in commands[0]
    assert "pytest" in commands[1]


def test_every_option_is_in_the_readme() -> None:
    table = README.read_text(encoding="utf-8").partition("## All options")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`(--?[a-z-]+)[` ]", table.replace("`-`", "")))
    options = {word for action in option_parser()._actions for word in action.option_strings}
    assert listed == options


def test_every_variable_is_in_the_readme() -> None:
    read = re.findall(
        r'"((?:MWA_ASVO|ASVO|SSL)_[A-Z_]+)"', Path(variables.__file__).read_text(encoding="utf-8")
    )
    by_family = {f"{family}_{name}" for family in ("ASVO", "MWA_ASVO") for name in ("HOST", "PORT")}
    text = README.read_text(encoding="utf-8").partition("| variable | meaning |")[2].partition("\n\n")[0]
    listed = set(re.findall(r"`([A-Z_]+)`", text))
    assert {*read, *by_family} <= listed and len(read) >= 7
    assert {"NO_COLOR", "HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE"} <= listed


def test_every_event_and_its_fields_are_in_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z]+)` \| (`.*?) \| ", text.partition("| event | fields")[2], re.M)
    in_readme = {event: set(re.findall(r"`([a-z_0-9]+)`", fields)) for event, fields in rows}
    common = {"line", "obs_id", "job_id"}
    for event, fields in {**FIELDS, **STATUS_FIELDS}.items():
        assert in_readme[event] == fields - common, event


def test_every_state_is_in_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    labels = {*LIFE, *(state.label for state in JobState)} - {JobState.UNKNOWN.label}
    assert [label for label in labels if f"`{label}`" not in text] == []


if __name__ == "__main__":
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    README.write_text(before + BEGIN + key_table() + END + rest.partition(END)[2], encoding="utf-8")
