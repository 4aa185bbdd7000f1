"""What is printed: no word from outside forges a line, steers the terminal, or tells a secret."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import html
import io
import json
import logging
import os
import re
import time
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared import LISTING, LOGIN, SUBMISSION, FastClock, service_of, untimed

from mwa_client.asvo import open_session
from mwa_client.asvo.job import clean_text
from mwa_client.asvo.service import Credentials
from mwa_client.batch.events import (
    Complete,
    Counts,
    Downloading,
    Event,
    Notice,
    RowFailed,
    RowName,
    StateChanged,
    Submitted,
    Summary,
)
from mwa_client.cli import main as cli
from mwa_client.directory.owner import Owner
from mwa_client.display.json_lines import JsonDisplay
from mwa_client.display.lines import LineDisplay
from mwa_client.errors import (
    CredentialsMissing,
    JobFailed,
    JobFileError,
    Mistake,
    MwaClientError,
    NotCancelled,
    ServiceError,
)
from mwa_client.formatting import json_line, printable
from mwa_client.jobs.keys import ApiVersion
from mwa_client.sandbox import KINDS, Sandbox
from mwa_client.sandbox.fault_kinds import LISTED, FaultKind, Point
from mwa_client.secrecy import MASK, _Known, hide, hide_in, keep_secret
from mwa_client.transfer.events import Progress, Setback
from mwa_client.transfer.files import FetchedFile

OBS = 1191828584
ROW = RowName(3, OBS, 10001)
FORGED = "Download Complete: Job id: 7 obs_id: 7 /data/7.tar (1.0 GB, verified)"
ENDS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1e", "\x85", "\u2028", "\u2029"]
"""What ends a line, on one terminal or in one program or another."""
NASTY = [
    *ENDS, "\x00", "\x07", "\x08", "\x1b[2J", "\x1b]0;title\x07", "\x7f", "\x9b31m", "\x9d", "\u202e",
    "\u202a", "\u2066", "\u2069", "\u200e", "\u200f", "\u061c", "\u200b", "\u200d", "\u2060", "\ufeff",
    "\u00ad", "\u180e", "\ud800", "\udce9", "\U000e0041", "\ufff9",
]  # fmt: skip
NASTY_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def lines_of(text: str) -> list[str]:
    """The lines of what was printed, which must hold nothing that a terminal or a reader could stumble on."""
    assert text.endswith("\n") or not text
    assert not [
        character for character in text if unicodedata.category(character) in NASTY_CATEGORIES - {"Cc"}
    ]
    assert not [
        character for character in text if unicodedata.category(character) == "Cc" and character != "\n"
    ]
    return text.split("\n")[:-1]


# --- One text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
def test_what_steers_is_shown_by_its_number(nasty: str) -> None:
    (line,) = lines_of(printable(f"a{nasty}b") + "\n")
    assert line.startswith("a\\") and line.endswith("b")
    assert line.encode().decode("unicode_escape") == f"a{nasty}b"


@pytest.mark.parametrize(
    "name",
    [
        "café.tar", "cafe\u0301.tar", "日本語 資料.zip", "観測\u3000データ", "Ωmega µ±5 °", "naïve “quoted”",
        "δ\u00a0β", "C:\\x", "🛰", "\ue000",
    ],
)  # fmt: skip
def test_names_stay_readable(name: str) -> None:
    assert printable(name) == name


@given(st.text(st.characters(exclude_categories=())))
def test_whatever_is_printed_is_one_line(text: str) -> None:
    (line,) = lines_of(printable(text) + "\n")
    assert len(line.splitlines()) <= 1
    assert line.encode().decode() == line


# --- Errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ENDS, ids=ascii)
def test_the_lines_of_an_error_are_ours(end: str) -> None:
    odd = f"x{end}{FORGED}"
    errors = [
        (MwaClientError(odd, f"Look at {odd}."), 2),
        (JobFileError(f"jobs{odd}.csv", [Mistake(1, odd), Mistake(2, odd)]), 3),
        (NotCancelled([f"5: {odd}", f"6: {odd}"]), 2),
        (CredentialsMissing(odd, "Set it:\n    export A=b"), 3),
    ]
    for error, number in errors:
        assert len(error.lines) == number
        lines = lines_of(f"{error}\n")
        assert len(lines) == number and not any(line.startswith("Download") for line in lines)


# --- Events ------------------------------------------------------------------------------------------


def events_with(odd: str) -> list[tuple[Event, int]]:
    """Each event with an odd text wherever it has one, and the lines that it is."""
    failed = RowFailed(ROW, JobFailed(odd, f"Look at {odd}."))
    done = Complete(
        ROW, (FetchedFile(Path("/data") / f"x{odd}", 5, "", False),), False, (odd,), Path("/data")
    )
    return [
        (Submitted(ROW, found=True), 1),
        (StateChanged(ROW, odd), 1),
        (Downloading(ROW, odd, 5), 1),
        (Setback(10001, odd, odd, 5.0), 1),
        (Notice(odd), 1),
        (Counts(1, 0, ((odd, 1),)), 0),
        (done, 2),
        (failed, 1),
        (Summary(Path(f"/data/{odd}"), (done,), (failed,), pending=(ROW,), why_pending=odd), 5),
    ]


@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
def test_no_event_forges_a_line(nasty: str) -> None:
    for event, number in events_with(f"x{nasty}{FORGED}"):
        stream = io.StringIO()
        display = LineDisplay(stream, stream, FastClock())
        display(StateChanged(ROW, "Processing"))
        display(event)
        lines = lines_of(stream.getvalue())[1:]
        assert len(lines) == number, event
        assert FORGED not in lines


def test_the_heartbeat_forges_no_line() -> None:
    stream, clock = io.StringIO(), FastClock()
    display = LineDisplay(stream, stream, clock)
    clock.advance(10_000.0)
    display(Counts(1, 0, ((f"x\n{FORGED}", 1),)))
    assert len(lines_of(stream.getvalue())) == 1 and FORGED in stream.getvalue()


@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
def test_json_stays_json_and_one_line(nasty: str) -> None:
    odd = f"x{nasty}{FORGED}"
    for event, _ in events_with(odd):
        stream = io.StringIO()
        JsonDisplay(stream, io.StringIO(), FastClock())(event)
        for line in lines_of(stream.getvalue()):
            assert line.isascii() and json.loads(line)["event"]
    assert json.loads(json_line({"text": [odd, {odd: odd}]})) == {"text": [odd, {odd: odd}]}


def test_bars_show_no_raw_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from mwa_client.display.bars import BarDisplay

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    display = BarDisplay(screen, screen, FastClock(), colour=False)
    display(StateChanged(ROW, "x\x9b31m\u202e"))
    display(Counts(1, 0, (("x\x9b31m\u202e", 1),)))
    display(Progress(10001, "y\x9b2J\u2066\n", 5, 100))
    display(Notice(f"x\n{FORGED}"))
    display.close()
    shown = screen.getvalue()
    assert not re.search("[\x9b\u202e\u2066]", shown) and "\\x9b2J\\u2066\\n" in shown
    assert f"\n{FORGED}" not in shown


# --- The command -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return lines_of(self.out) + lines_of(self.err)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A practice service whose jobs are ready at once."""
    with Sandbox(
        seconds_per_state=0, product_size=lambda job: 1000, password=SECRET, api_key=SECRET
    ) as sandbox:
        yield sandbox


SECRET = "Corr3ct+horse&b%ttery"


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("ASVO_", "MWA_ASVO_", "SSL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("sure", "words", "in_foreign_words"):  # What one test keeps secret is no secret to another.
        monkeypatch.setattr(_Known, name, getattr(_Known, name))
    logger = logging.getLogger("mwa_client.asvo")
    handlers = list(logger.handlers)
    yield
    logger.handlers[:] = handlers
    logger.setLevel(logging.NOTSET)


def run(*arguments: object) -> Done:
    """The command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main([*map(str, arguments), "--poll=0.05"])
        except SystemExit as end:
            status = int(end.code or 0)
    return Done(status, untimed(out.getvalue()), untimed(err.getvalue()))


def account(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, api: ApiVersion) -> None:
    for name, value in {
        "ASVO_HOST": sandbox.url,
        "MWA_ASVO_HOST": sandbox.url,
        "ASVO_USER": "practice",
        "ASVO_PASS": SECRET,
        **({} if api is ApiVersion.V2018 else {"MWA_ASVO_API_KEY": SECRET}),
    }.items():
        monkeypatch.setenv(name, value)


ONE_ROW = f"obs_id={OBS}, job_type=d, download_type=vis"
ODD = f"x\x1b[2J\u202e\n{FORGED}"


@pytest.mark.parametrize(
    "options",
    [
        ["--csv", f"a{ODD}.csv"],
        [f"-{ODD}"],
        [ODD],
        [f"-csv{ODD}"],
        ["--api", ODD, "-j", ONE_ROW],
        ["--cancel", ODD],
        ["-w", ODD],
        ["-j", f"obs_id={ODD}"],
        ["-j", f'{ONE_ROW}, "{ODD}"=5'],
        ["--csv", "odd.csv"],
        ["--check", "--csv", "odd.csv"],
        ["--check", "--csv", "good\n.csv"],
        ["--parallel", ODD, "-j", ONE_ROW],
        ["-j", ONE_ROW, "-e", f"no/{ODD}"],
        ["-j", ONE_ROW, "--dir", f"file/{ODD}"],
    ],
)
def test_options_and_files_with_odd_words(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    account(monkeypatch, sandbox, ApiVersion.V2018)
    Path("file").write_text("")
    Path("odd.csv").write_text(f'obs_id={OBS}, job_type=d, "download_type=vis{ODD}"\n')
    Path("good\n.csv").write_text(ONE_ROW)
    done = run(*options)
    assert not any(line.startswith("Download Complete") for line in done.lines)
    assert done.lines


@pytest.mark.parametrize("api", ApiVersion)
@pytest.mark.parametrize("mode", [[], ["--json"], ["-v"], ["-q"]])
def test_what_a_service_says(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, api: ApiVersion, mode: list[str]
) -> None:
    """Error texts, states, paths of deliveries: each comes as one line at most."""

    def spoil(document: dict[str, Any]) -> dict[str, Any]:
        """Say odd things."""
        if document["job_params"]["obs_id"] in (OBS, str(OBS)):
            return {**document, "job_state": 3 if api is ApiVersion.V2018 else "error", "error_text": ODD}
        file = (
            [ODD, 5] if api is ApiVersion.V2018 else {"type": "scratch", "path": f"/nowhere/{ODD}", "size": 5}
        )
        return {**document, "product": {"files": [file]}}

    monkeypatch.setitem(KINDS, "odd", FaultKind("odd", Point.DOCUMENT, LISTED, spoil))
    sandbox.faults.add("odd")
    account(monkeypatch, sandbox, api)
    Path("jobs.csv").write_text(f"{ONE_ROW}\n{ONE_ROW.replace(str(OBS), str(OBS + 8))}\n")
    done = run("-c", "jobs.csv", "-e", "errors.json", "--api", api.value, "--give-up-after=5", *mode)
    assert FORGED not in done.lines and done.status in (0, 4, 75)
    (entry,) = [entry for entry in json.loads(Path("errors.json").read_text()) if entry["obs_id"] == str(OBS)]
    assert FORGED in entry["result"] and "\n" not in entry["result"]
    assert lines_of(Path("errors.json").read_text())


@pytest.mark.parametrize("api", ApiVersion)
def test_the_table_of_jobs(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, api: ApiVersion) -> None:
    def spoil(document: dict[str, Any]) -> dict[str, Any]:
        """Be in an odd state."""
        return {**document, "job_state": ODD, "created": ODD}

    monkeypatch.setitem(KINDS, "odd", FaultKind("odd", Point.DOCUMENT, LISTED, spoil))
    sandbox.faults.add("odd")
    sandbox.service.add({"obs_id": str(OBS)})
    account(monkeypatch, sandbox, api)
    done = run("-l", "--api", api.value)
    assert done.status == 0 and len(done.lines) == 2
    (line,) = run("-l", "--json", "--api", api.value).lines
    assert json.loads(line)["job_state"] == ODD


def test_the_owner_of_a_lock(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    account(monkeypatch, sandbox, ApiVersion.V2018)
    memory = tmp_path / "data" / ".mwa_client"
    memory.mkdir(parents=True)
    owner = dataclasses.replace(Owner.here(time.time()), since=f"now{ODD}")
    (memory / "lock").write_text(json.dumps(dataclasses.asdict(owner)))
    done = run("-j", ONE_ROW, "-d", tmp_path / "data")
    assert done.status == 75 and len(done.lines) == 2 and "\\x1b[2J\\u202e\\n" in done.err


def test_paths_in_the_log(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(document: dict[str, Any]) -> dict[str, Any]:
        """Name the product oddly."""
        url = f"{sandbox.url}/a\x85\u202e\ud7ff{FORGED}"
        return (
            {**document, "product": {"files": [{"url": url, "size": 5}]}}
            if document.get("product")
            else document
        )

    monkeypatch.setitem(KINDS, "odd", FaultKind("odd", Point.DOCUMENT, LISTED, spoil))
    sandbox.faults.add("odd")
    account(monkeypatch, sandbox, ApiVersion.V2)
    done = run("-j", ONE_ROW, "-v", "--api=v2", "--give-up-after=1")
    assert FORGED not in done.lines and "/api/v2/get_jobs" in done.err
    handler = next(
        h for h in logging.getLogger("mwa_client.asvo").handlers if isinstance(h, logging.StreamHandler)
    )
    record = logging.LogRecord("x", 10, "y", 1, "%s %s", (f"GET http://x/{ODD}", SECRET), None)
    (line,) = lines_of(handler.format(record) + "\n")
    assert SECRET not in line


def test_the_http_library_prints_nothing(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would warn of broken headers with the whole signed URL and what the server has sent."""
    account(monkeypatch, sandbox, ApiVersion.V2018)
    run("-l")
    with contextlib.redirect_stderr(io.StringIO()) as err:
        logging.getLogger("urllib3.connectionpool").warning("Failed to parse headers (url=%s)", ODD)
    assert err.getvalue() == ""


# --- Secrets -----------------------------------------------------------------------------------------

WAYS = {
    "as it is": SECRET,
    "in a word": f"xx{SECRET}yy",
    "in a URL": quote(SECRET, safe=""),
    "in a path": quote(SECRET),
    "in a form": quote_plus(SECRET).lower().replace("corr", "Corr"),
    "in HTML": html.escape(SECRET),
    "in base64": base64.b64encode(SECRET.encode()).decode(),
    "of Basic": base64.b64encode(f"practice:{SECRET}".encode()).decode(),
    "of Basic, today": base64.b64encode(f"mantaray-clientv2.0:{SECRET}".encode()).decode(),
    "far behind": "x" * 290 + SECRET,
}


def leaks(text: str) -> list[str]:
    """The forms of the secret, and long pieces of it, that are in a text."""
    return [form for form in {*WAYS.values(), SECRET[:9], SECRET[-9:]} if form in text]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("api", ApiVersion)
@pytest.mark.parametrize("call", ["login", "submission", "listing"])
def test_a_refusal_that_quotes_the_request(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, api: ApiVersion, call: str, way: str
) -> None:
    if way == "of Basic, today" and api is ApiVersion.V2018:
        pytest.skip("it is not sent so")
    path = {"login": LOGIN, "submission": SUBMISSION, "listing": LISTING}[call][api]
    detail = {"detail": f"input: {WAYS[way]}", "input": WAYS[way], "field_errors": [{"field": WAYS[way]}]}
    sandbox.faults.add("fail_call", path=path, status=422, body=json.dumps(detail), times=None)
    account(monkeypatch, sandbox, api)
    done = run("-j", ONE_ROW, "-e", "errors.json", "-v", "--api", api.value)
    said = done.out + done.err + Path("errors.json").read_text()
    assert done.status in (2, 4) and leaks(said) == []
    assert way == "far behind" or MASK in said


@pytest.mark.parametrize("api", ApiVersion)
@pytest.mark.parametrize(
    "body", [f"<p>Bad: {SECRET}</p>", f"bad {SECRET}", json.dumps([SECRET]), "{" + SECRET]
)
def test_no_exception_holds_what_a_refusal_quotes(sandbox: Sandbox, api: ApiVersion, body: str) -> None:
    sandbox.faults.add("fail_call", path=LOGIN[api], status=400, body=body)
    service = service_of(sandbox, api, password=SECRET, key=SECRET)
    with closing(open_session(service)) as session, pytest.raises(ServiceError) as error:
        session.login()
    assert leaks(f"{error.value!s} {error.value!r} {vars(error.value)}") == []


@pytest.mark.parametrize("api", ApiVersion)
@pytest.mark.parametrize("mode", [[], ["--json"], ["-v"], ["-l"], ["-l", "--json"]])
def test_a_listing_that_holds_secrets(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, api: ApiVersion, mode: list[str]
) -> None:
    def spoil(document: dict[str, Any]) -> dict[str, Any]:
        """Put the password into whatever there is, and the tokens of the session."""
        told = " ".join([SECRET, *sandbox.service.sessions])
        file = (
            [told, 5]
            if api is ApiVersion.V2018
            else {"type": "scratch", "path": f"/nowhere/{told}", "size": 5}
        )
        params = {**document["job_params"], "note": [told]}
        if str(params["obs_id"]) == str(OBS):
            return {
                **document,
                "job_params": params,
                "job_state": 3 if api is ApiVersion.V2018 else "error",
                "error_text": told,
            }
        state = told if "-l" in mode else document["job_state"]
        return {**document, "job_params": params, "product": {"files": [file]}, "job_state": state}

    monkeypatch.setitem(KINDS, "told", FaultKind("told", Point.DOCUMENT, LISTED, spoil))
    sandbox.faults.add("told")
    account(monkeypatch, sandbox, api)
    Path("jobs.csv").write_text(f"{ONE_ROW}\n{ONE_ROW.replace(str(OBS), str(OBS + 8))}\n")
    rows = [] if "-l" in mode else ["-c", "jobs.csv", "--give-up-after=5", "-e", "errors.json"]
    sandbox.service.add({"obs_id": str(OBS)})
    sandbox.service.add({"obs_id": str(OBS + 8)})
    done = run(*rows, "--api", api.value, *mode)
    said = done.out + done.err + (Path("errors.json").read_text() if rows else "")
    assert leaks(said) == [] and MASK in said
    assert not [token for token in sandbox.service.sessions if token in said]


def test_tokens_that_come_and_go_are_kept_secret(sandbox: Sandbox, clock: FastClock) -> None:
    for api in ApiVersion:
        with closing(
            open_session(service_of(sandbox, api, password=SECRET, key=SECRET), clock=clock)
        ) as session:
            session.login()
    tokens = list(sandbox.service.sessions)
    assert len(tokens) >= 2 and all(hide(f"x{token}x") == f"x{MASK}x" for token in tokens)


@pytest.mark.parametrize(
    ("secret", "ours", "theirs"),
    [
        # Ordinary words: a hole in a sentence of ours would tell them.
        ("telescope", "the telescope in /data/telescope/x.tar", "password telescope, 'telescope'"),
        ("data", "data in /data/x", "got data and \"data\""),
        ("1191828584", "obs_id: 1191828584", "not 1191828584"),
        ("7", "7 complete, 17 failed", "'7'"),
    ],
)  # fmt: skip
def test_a_password_that_is_an_ordinary_word(secret: str, ours: str, theirs: str) -> None:
    keep_secret(secret)
    assert printable(ours) == ours
    assert hide(theirs, is_foreign=True) == theirs.replace(secret, MASK)
    assert clean_text(f"in /x/{secret}_1/y: {theirs}").startswith(f"in /x/{secret}_1/y: ")


def test_what_is_no_secret() -> None:
    Credentials("user", "", "")
    assert hide("") == "" and hide("x'y", is_foreign=True) == "x'y"
    assert hide_in({"a": [1, None, True, ("b",)]}) == {"a": [1, None, True, ["b"]]}


def test_json_that_is_nested_too_deep_is_written_without_that() -> None:
    deep: Any = "x"
    for _ in range(900):
        deep = {"a": [deep]}
    assert len(json_line({"raw": deep})) < 1000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.text(), st.text())
def test_a_long_secret_is_nowhere(more: str, before: str, after: str) -> None:
    secret = f"s3cr3t-{more}"
    keep_secret(secret)
    assert secret not in hide(f"{before}{secret}{after}")
    assert secret not in str(hide_in({before: [secret + after]}))
