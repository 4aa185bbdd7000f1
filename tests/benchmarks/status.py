"""What it costs to look at a directory: --status on 10,000 rows, --report on 1,000.

python tests/benchmarks/status.py                    prints each figure beside its goal
python tests/benchmarks/status.py --shots FOLDER     also has chromium take pictures of the page
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # What the tests share.

from diaries import OBS, Diary, identity

STATES = ("queued", "staging", "staged", "downloading", "delivering", "completed")
STATUS_ROWS, STATUS_GOAL = 10_000, 1.0
RUNS = 5
REPORT_ROWS, REPORT_GOAL, SIZE_GOAL = 1000, 2.0, 2_000_000
"""Rows, seconds of CPU of the whole command, bytes of the page."""
SHOTS = {
    "light": [],
    "dark": ["--blink-settings=preferredColorScheme=0"],
    "telephone": ["--window-size=420,6000"],
}


def fill(directory: Path, rows: int) -> Diary:
    """Have a batch go through its states at random speeds; some jobs fail, the last fifth is under way."""
    diary, chance = Diary(directory), random.Random(1)
    steps = []
    for number in range(rows):
        at = diary.now + number
        for place, state in enumerate(("", *STATES, "fetch", "end")):
            steps.append((at, number, place, state))
            at += chance.expovariate(1 / 1200)
    steps.sort()
    failing = {number for number in range(rows) if chance.random() < 0.05}
    with diary.run() as ledger:
        for at, number, _, state in steps[: int(0.9 * len(steps))]:
            row, job_id, diary.now = identity(OBS + 8 * number), 300_000 + number, at
            if number in failing and state == "staged":
                ledger.record_state(row, job_id, "error")
                diary.fail(ledger, row, job_id, "It <b>broke</b> & fell.", "Ask the archive's help desk.")
            elif number in failing and state not in ("", "queued", "staging"):
                continue
            elif not state:
                ledger.record_job(row, job_id, is_listed=True)
            elif state == "fetch":
                diary.begin(ledger, row, job_id)
            elif state == "end":
                diary.finish(ledger, row, job_id)
            else:
                ledger.record_state(row, job_id, state)
    return diary


def cost(*words: object) -> float:
    """Seconds of CPU of a command: the middle one of several runs."""
    command = [sys.executable, "-m", "mwa_client", *map(str, words)]
    costs = []
    for _ in range(RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(*words[:1], "runs:", *(f"{seconds:.2f}" for seconds in costs))
    return statistics.median(costs)


def take_pictures(page: Path, folder: Path) -> None:
    """Have a real browser draw the page, on a screen and on paper."""
    browser = ["chromium", "--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1200,4000"]
    for name, words in SHOTS.items():
        shot = f"--screenshot={folder / name}.png"
        subprocess.run([*browser, *words, shot, page.as_uri()], check=True, capture_output=True)
    paper = f"--print-to-pdf={folder / 'paper'}.pdf"
    subprocess.run([*browser, paper, page.as_uri()], check=True, capture_output=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shots", type=Path, metavar="FOLDER", help="take pictures of the page")
    shots = parser.parse_args().shots
    with tempfile.TemporaryDirectory() as folder:
        many, some, page = Path(folder) / "many", Path(folder) / "some", Path(folder) / "page.html"
        fill(many, STATUS_ROWS)
        fill(some, REPORT_ROWS)
        found = {
            f"--status, {STATUS_ROWS} rows, s": (cost("--status", "--dir", many), STATUS_GOAL),
            f"--report, {REPORT_ROWS} rows, s": (cost("--report", page, "--dir", some), REPORT_GOAL),
            "the page, bytes": (float(page.stat().st_size), float(SIZE_GOAL)),
        }
        if shots is not None:
            shots.mkdir(exist_ok=True)
            take_pictures(page, shots.resolve())
    for what, (number, goal) in found.items():
        print(f"{what:30} {number:12.2f}   goal {goal:.2f}{'' if number <= goal else '   MISSED'}")
    return int(any(number > goal for number, goal in found.values()))


if __name__ == "__main__":
    sys.exit(main())
