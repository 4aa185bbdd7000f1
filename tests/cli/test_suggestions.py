"""Words of other programs and slips on the command line: the answer says what to write; nothing is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from mwa_client.cli import words_elsewhere as elsewhere
from mwa_client.cli.options import read_options
from mwa_client.cli.suggestions import OF_THE_OBSERVATORYS_CLIENT, SHORTEST_ABBREVIATION

pytestmark = pytest.mark.usefixtures("elsewhere")


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The last line that a wrong command line is answered with."""
    with pytest.raises(SystemExit) as ended:
        read_options(words)
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    return err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        (["--dry-run", "-c", "jobs.csv"], "--dry-run is not understood; did you mean --check?"),
        (["-n", "-c", "jobs.csv"], "-n is not understood; did you mean --check?"),
        (["-dry-run", "-c", "jobs.csv"], "--dry-run is not understood; did you mean --check?"),
        (["-c", "jobs.csv", "--output=x"], "--output=x is not understood; did you mean --dir?"),
        (["-c", "jobs.csv", "-o", "x"], "-o is not understood; did you mean --dir?"),
        (["-c", "jobs.csv", "--out_dir", "x"], "--out_dir is not understood; did you mean --dir?"),
        (["-c", "jobs.csv", "--timeout", "5"], "did you mean --give-up-after?"),
        (["-c", "jobs.csv", "--paralel=3"], "--paralel=3 is not understood; did you mean --parallel?"),
        (["--cvs=jobs.csv"], "--cvs=jobs.csv is not understood; did you mean --csv?"),
        (["-c", "jobs.csv", "--sand"], "--sand is not understood; did you mean --sandbox?"),
        (["-c", "jobs.csv", "--force"], "did you mean --allow-resubmit?"),
        (["-c", "jobs.csv", "--debug"], "did you mean --verbose?"),
        (["--wait", "3"], "did you mean --download-only?"),
        (
            ["-c", "jobs.csv", "--delivery=dug"],
            "say it in the row, 'obs_id=1191828584, job_type=c, delivery=dug'",
        ),
        (["-c", "jobs.csv", "--avg-time-res", "4"], "'obs_id=1191828584, job_type=c, avg_time_res=4'"),
        (["-c", "jobs.csv", "--offset=x"], "'obs_id=1191828584, job_type=v, offset=...'"),
        (["-c", "jobs.csv", "--obs-id=5"], "'obs_id=1191828584, job_type=d, download_type=vis'"),
        (
            ["-c", "jobs.csv", "--expiry-days=30"],
            "--expiry-days is not an option: leave it out: each product",
        ),
        (
            ["-c", "jobs.csv", "--resume"],
            "--resume is not an option: run the same command again, and it picks up",
        ),
        (
            ["-c", "jobs.csv", "--no-color"],
            "--no-color is not an option: colours are only used on a terminal",
        ),
        (["-c", "jobs.csv", "--concurrent-downloads=4"], "did you mean --parallel?"),
        (["-c", "jobs.csv", "-n", "4"], "-n is not understood; did you mean --parallel?"),
        (["-c", "jobs.csv", "--poll-seconds=4"], "did you mean --poll?"),
        (["-c", "jobs.csv", "--no-unpack"], "--no-unpack is not an option: products stay tars"),
        (["-L"], "-L is not understood; did you mean --list-only?"),
        (["-S", "-c", "jobs.csv"], "-S is not understood; did you mean -s?"),
        (["--quiet=5", "-c", "jobs.csv"], "-q/--quiet takes no value, and 5 was given"),
        (["--then=a", "-c", "jobs.csv", "--then", "b"], "--then is given twice; write one command: --then="),
        (["-w"], "-w/--download-only needs a value"),
        (["-l", "--host=x"], "--host is not an option: set MWA_ASVO_HOST"),
        (["-l", "--nothing-like-it"], "--nothing-like-it is not understood (mwa_client --help"),
    ],
)
def test_an_option_that_there_is_not(
    capsys: pytest.CaptureFixture[str], words: list[str], suggested: str
) -> None:
    assert suggested in answer(capsys, *words)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["list"], "mwa_client -l"),
        (["list", "-j"], "mwa_client -l"),
        (["list", "--states=ready"], "mwa_client -l"),
        (["download", "123"], "mwa_client -w 123"),
        (["download", "123", "1191828584"], "mwa_client -w 123 1191828584"),
        (["wait", "123"], "mwa_client -w 123"),
        (["download"], "mwa_client -w JOB"),
        (["report"], "mwa_client --report=report.html"),
        (["scancel", "123"], "mwa_client --cancel 123"),
        (["resume", "mine.csv"], "mwa_client --csv=mine.csv"),
        (["submit-image", "1191828584"], "mwa_client -s -j 'obs_id=1191828584, job_type=i'"),
        (["cancel", "123"], "mwa_client --cancel 123"),
        (["submit", "mine.csv"], "mwa_client -s --csv=mine.csv"),
        (["run", "my jobs.csv"], "mwa_client --csv='my jobs.csv'"),
        (["check", "jobs.csv"], "mwa_client --csv=jobs.csv --check"),
        (["submit-vis", "1191828584"],
         "mwa_client -s -j 'obs_id=1191828584, job_type=d, download_type=vis'"),
        (["submit-meta", "1191828584", "1191828528"],
         "mwa_client -s -j 'obs_id=1191828584, job_type=d, download_type=vis_meta' "
         "-j 'obs_id=1191828528, job_type=d, download_type=vis_meta'"),
        (["submit-conv", "1191828584"],
         "mwa_client -s -j 'obs_id=1191828584, job_type=c, output=uvfits, avg_time_res=0, avg_freq_res=80, "
         "flag_edge_width=80'"),
        (["submit-conv", "-p", "avg_time_res=4", "1191828584"], "mwa_client -s -j 'obs_id=1191828584, job_"),
        (["submit-volt", "1191828584"],
         "mwa_client -s -j 'obs_id=1191828584, job_type=v, offset=0, duration=8'"),
        (["help"], "mwa_client --help"),
        (["123"], "mwa_client -w 123"),
        (["123,", "124"], "mwa_client -w 123, 124"),
        (["obs_id=1191828584, job_type=d, download_type=vis"],
         "mwa_client -j 'obs_id=1191828584, job_type=d, download_type=vis'"),
        (["obs_id=1191828584,", "job_type=d"], "mwa_client -j 'obs_id=1191828584, job_type=d'"),
    ],
)  # fmt: skip
def test_a_word_of_another_program(
    capsys: pytest.CaptureFixture[str], words: list[str], command: str
) -> None:
    assert f"{words[0]} is not understood; did you mean: {command}" in answer(capsys, *words)


def test_a_file_is_a_file_whatever_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    Path("list").write_text("")
    assert answer(capsys, "list").endswith("give the job file as --csv=list")
    assert answer(capsys, "none.csv").endswith("give the job file as --csv=none.csv")


@pytest.mark.parametrize("option", ["--api-key", "--key", "--password", "--token", "-api-key"])
def test_a_secret_is_not_repeated(capsys: pytest.CaptureFixture[str], option: str) -> None:
    said = answer(capsys, "-l", f"{option}=s3cret-word")
    assert "s3cret-word" not in said and "MWA_ASVO_API_KEY holds your key" in said


@pytest.mark.parametrize(
    ("word", "right"),
    [
        ("-csv=jobs.csv", "two dashes, please: --csv=jobs.csv"),
        ("-check", "two dashes, please: --check"),
        ("-download-only", "two dashes, please: --download-only"),
        ("-list", "two dashes, please: --list-only"),
        ("-json", "two dashes, please: --json"),
        ("\u2013csv=jobs.csv", "plain dashes, please: --csv=jobs.csv"),
        ("\u2014submit", "plain dashes, please: --submit-only"),
        ("\u2013w", "plain dashes, please: -w"),
    ],
)
def test_a_dash_too_few_or_of_another_kind(capsys: pytest.CaptureFixture[str], word: str, right: str) -> None:
    assert answer(capsys, word, "7").endswith(right)


@pytest.mark.parametrize("option", OF_THE_OBSERVATORYS_CLIENT)
def test_the_observatorys_options_may_be_abbreviated(option: str) -> None:
    value = {"--csv": ["x"], "--dir": ["x"], "--download-only": ["7"], "--error-file": ["x"]}.get(option, [])
    if option == "--help":
        return
    full = vars(read_options(["-c", "jobs.csv", option, *value]))
    for end in range(2 + SHORTEST_ABBREVIATION, len(option)):
        given = [f"{option[:end]}={value[0]}"] if value else [option[:end]]
        assert vars(read_options(["-c", "jobs.csv", *given])) == full, option[:end]
        assert vars(read_options(["-c", "jobs.csv", option[:end], *value])) == full
    assert read_options(["-l", "--errfile", "e.json"]).error_file == "e.json"


def test_no_suggestion_is_an_option_that_there_is_not() -> None:
    from mwa_client.cli.options import option_parser

    known = set(option_parser()._option_string_actions)
    assert set(elsewhere.OPTIONS) | set(OF_THE_OBSERVATORYS_CLIENT) <= known
    used = {word for line in elsewhere.COMMANDS.values() for word in line.split() if word.startswith("-")}
    assert {word.partition("=")[0] for word in used} <= known


def test_each_word_of_others_has_one_answer() -> None:
    tables = (elsewhere.OPTIONS, elsewhere.IS_NO_OPTION), (elsewhere.COMMANDS,)
    for group in tables:
        words = [word for table in group for line in table.values() for word in line.split()]
        assert len(words) == len(set(words))


def test_several_names_for_one_option_are_several_files() -> None:
    for name in ("b.csv", "c d.csv"):
        Path(name).write_text("")
    assert read_options(["--csv=a.csv", "b.csv", "c d.csv"]).csv == ["a.csv", "b.csv", "c d.csv"]
    assert read_options(["-c", "a.csv", "-c", "b.csv", "--csv", "-"]).csv == ["a.csv", "b.csv", "-"]
    assert read_options(["--obs-ids", "a.csv", "b.csv", "-j", "job_type=d"]).obs_ids == ["a.csv", "b.csv"]
