"""Rows that are read before it is known which interface will answer."""

from __future__ import annotations

from typing import Any

import pytest

from mwa_client.cli import checking
from mwa_client.cli.checking import RowSource, with_doubt
from mwa_client.errors import JobFileError
from mwa_client.jobs.jobfile import parse_files
from mwa_client.jobs.keys import ApiVersion

TODAYS_ROW = "obs_id=1191828528, job_type=d, download_type=vis, delivery=scratch"
BOTH = (ApiVersion.V2018, ApiVersion.V2)


def test_rows_are_read_once_for_each_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[ApiVersion] = []

    def counted(files: Any, api: ApiVersion, template: Any) -> Any:
        read.append(api)
        return parse_files(files, api, template)

    monkeypatch.setattr(checking, "parse_files", counted)
    source = RowSource(((TODAYS_ROW, "row"),))
    api, jobs = source.parse_for_one_of(BOTH)
    doubt = with_doubt(jobs, api, source, BOTH).warnings[-1]
    assert doubt.startswith("only the v2 interface can do this; the 2018 interface, which ASVO_USER")
    assert with_doubt(jobs, api, source, BOTH[1:]) is jobs is source.parse(api)
    with pytest.raises(JobFileError, match="the 2018 interface cannot do this"):
        source.parse(ApiVersion.V2018)
    assert read == list(BOTH)
