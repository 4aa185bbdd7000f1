"""Properties of all rows, good and bad."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from job_rows import C_2018, OBS, TODAY, form, good_rows, messages, rewritten, written

from mwa_client.errors import JobFileError
from mwa_client.jobs.jobfile import parse, parse_row
from mwa_client.jobs.key_table import KEY_BY_NAME
from mwa_client.jobs.keys import ApiVersion
from mwa_client.jobs.listed import identity_of
from mwa_client.jobs.request import JobRequest

PIECES = (
    [b"obs_id=1191828584", b"job_type=", b"c", b"d", b"=", b",", b", ", b"\n", b"\r", b"\r\n", b'"', b"#"]
    + [b"\xff", b"\xef\xbb\xbf", b"\0", b"-", b"1e9", b"true", b"centre=custom", b"download_type=vis"]
    + [word.encode() for word in KEY_BY_NAME]
)
pieces = st.sampled_from(PIECES)


@given(st.binary(max_size=60) | st.lists(pieces, max_size=30).map(b"".join), st.sampled_from(ApiVersion))
@settings(max_examples=60, deadline=None)
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
@settings(max_examples=35, deadline=None)
def test_any_text_is_a_row_or_mistakes(text: str, api: ApiVersion) -> None:
    try:
        parse_row(text, api)
        parse(text, api)
    except JobFileError as error:
        assert error.mistakes


@given(st.data(), st.sampled_from(ApiVersion), st.randoms(use_true_random=False))
@settings(
    max_examples=35, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
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
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
@settings(max_examples=35, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_2018_row_reaches_2018_key_by_key(data: st.DataObject) -> None:
    cells = data.draw(good_rows(ApiVersion.V2018, words_of=ApiVersion.V2018))
    expected = [
        (word, text) for word, text in cells if word not in ("job_type", "allow_resubmit", "delivery")
    ]
    job = parse(written(cells), ApiVersion.V2018).jobs[0]
    assert list(job.parameters(ApiVersion.V2018).items()) == expected


@given(st.data(), st.sampled_from(TODAY))
@settings(max_examples=35, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_translated_row_asks_for_the_same_thing(data: st.DataObject, api: ApiVersion) -> None:
    job = parse(written(data.draw(good_rows(api))), api).jobs[0]
    today = {"job_type": job.job_type.value, **job.parameters(api)}
    again = parse_row(today, api)
    assert again.identity == again.identity_on(api) == job.identity_on(api)
    assert again.parameters(api) == job.parameters(api)


@given(st.data())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
@settings(max_examples=35, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_conversion_is_the_same_on_all_three_interfaces(data: st.DataObject) -> None:
    cells = [
        cell for cell in data.draw(good_rows(ApiVersion.V2018)) if not KEY_BY_NAME[cell[0]].is_only_in_2018
    ]
    cells = [
        (word, str(min(int(text), 32)) if KEY_BY_NAME[word].unit in ("s", "kHz") else text)
        for word, text in cells
    ]
    assert len({parse_row(dict(cells), api).identity for api in ApiVersion}) == 1
