"""Record what a run looks like on a terminal, as pictures: ``record_terminal.py ROWS COLUMNSxLINES OUT``.

It runs a job file of ROWS rows against the practice service on a real terminal (a pty), and writes a PNG of
the screen every other second into the folder OUT. It needs pyte and Pillow, which the tests do not.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pexpect  # type: ignore[import-untyped]

COLOURS = {"default": "#d0d0d0", "red": "#ff5f5f", "green": "#5fd75f"}
CELL = (8, 17)
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf"


def picture(screen: Any) -> Any:
    """Return the screen as an image."""
    from PIL import Image, ImageDraw, ImageFont  # type: ignore[import-not-found,unused-ignore]

    try:
        font: Any = ImageFont.truetype(FONT, 13)
    except OSError:
        font = ImageFont.load_default(13)
    image = Image.new("RGB", (screen.columns * CELL[0], screen.lines * CELL[1]), "#101010")
    draw = ImageDraw.Draw(image)
    for row in range(screen.lines):
        for column in range(screen.columns):
            cell = screen.buffer[row][column]
            colour = COLOURS.get(cell.fg, COLOURS["default"])
            left, top = column * CELL[0], row * CELL[1]
            filled = " ▏▎▍▌▋▊▉█".find(cell.data)
            if filled > 0:  # Few fonts have these.
                draw.rectangle((left, top + 2, left + CELL[0] * filled // 8, top + CELL[1] - 3), fill=colour)
            else:
                draw.text((left, top), cell.data, fill=colour, font=font)
    x, y = screen.cursor.x * CELL[0], screen.cursor.y * CELL[1]
    draw.rectangle((x, y, x + CELL[0], y + CELL[1]), outline="#808080")
    return image


def record(rows: int, columns: int, lines: int, out: Path, seconds: float = 60.0) -> None:
    """Run the client on a terminal of this size; save pictures and the last screen's text."""
    import pyte  # type: ignore[import-not-found,unused-ignore]

    out.mkdir(parents=True, exist_ok=True)
    screen = pyte.Screen(columns, lines)
    stream = pyte.Stream(screen)
    with TemporaryDirectory() as folder:
        jobs = "".join(
            f"obs_id={1191828584 + 8 * number}, job_type=d, download_type=vis\n" for number in range(rows)
        )
        (Path(folder) / "jobs.csv").write_text(jobs)
        words = ["-m", "mwa_client", "--sandbox", "--csv=jobs.csv", "--dir=data"]
        child = pexpect.spawn(
            sys.executable, words, cwd=folder, dimensions=(lines, columns), encoding="utf-8"
        )
        begun, number = time.monotonic(), 0
        while child.isalive() and time.monotonic() - begun < seconds:
            until = time.monotonic() + 2.0
            while time.monotonic() < until:
                try:
                    stream.feed(child.read_nonblocking(65536, timeout=0.2))
                except pexpect.TIMEOUT:
                    pass
                except pexpect.EOF:
                    break
            picture(screen).save(out / f"{number:03}.png")
            number += 1
        child.close()
        picture(screen).save(out / "last.png")
        print("\n".join(line.rstrip() for line in screen.display).rstrip())
        print("exit status", child.exitstatus)


if __name__ == "__main__":
    size = sys.argv[2].split("x")
    record(int(sys.argv[1]), int(size[0]), int(size[1]), Path(sys.argv[3]))
