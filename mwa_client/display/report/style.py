"""How the page about a batch looks: the colours of the states, in light and in dark, and its style sheet."""

from __future__ import annotations

from mwa_client.asvo.job import JobState

COLOURS = {
    "Not submitted": ("c0", "#b9c0c8", "#59626d"),
    "Submitting": ("c1", "#a3adb8", "#6d7884"),
    "Submitted": ("c2", "#8e9aa7", "#828e9b"),
    JobState.PREPARING.label: ("c3", "#c9d3df", "#4d5b6b"),
    JobState.QUEUED.label: ("c4", "#b3c3d6", "#5b6d83"),
    JobState.WAITCAL.label: ("c5", "#dfb3cd", "#a8688f"),
    JobState.STAGING.label: ("c6", "#e8b54d", "#c08d26"),
    JobState.STAGED.label: ("c7", "#f0d28c", "#8f7434"),
    JobState.RETRIEVING.label: ("c8", "#d98b45", "#bf7131"),
    JobState.PREPROCESSING.label: ("c9", "#9a80c9", "#8468b8"),
    JobState.PROCESSING.label: ("ca", "#8468b8", "#9a80c9"),
    JobState.IMAGING.label: ("cb", "#b76aa9", "#b76aa9"),
    JobState.DELIVERING.label: ("cc", "#45a8a2", "#3a948e"),
    JobState.READY.label: ("cd", "#9ccfe8", "#4d88a6"),
    "Downloading": ("ce", "#2f6fd0", "#4d8df0"),
    "Download interrupted": ("cf", "#7b9bcb", "#6f8fc4"),
    "Waiting for the command": ("cl", "#a7c9ae", "#557a5e"),
    "Running the command": ("cm", "#6fb3a0", "#4f9683"),
    "Command interrupted": ("cn", "#c7a76c", "#94784a"),
    "Reading again": ("co", "#8fbf7a", "#5f8a4c"),
    "Download Complete": ("cg", "#3f9a55", "#4caf66"),
    "Moved away": ("ch", "#8fb58f", "#6c946f"),
    JobState.EXPIRED.label: ("ci", "#8d6048", "#a5775d"),
    JobState.CANCELLED.label: ("cj", "#7d7d7d", "#8d8d8d"),
    JobState.ERROR.label: ("ck", "#cf4238", "#e5665c"),
}
"""The class of each state in the style sheet, and its colour in light and in dark."""
OTHER = ("cz", "#a89f91", "#8a8174")
"""The same for states that this program does not know."""

_LAYOUT = """
:root { color-scheme: light dark; --back: #fff; --ink: #1d2329; --soft: #5c6670; --line: #dfe3e8;
  --rate: #9dbce8; --sum: #1f4f9c; --card: #f5f7f9; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.2rem 1.6rem 4rem; max-width: 70rem; background: var(--back);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Noto Sans", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0; font-weight: 650; overflow-wrap: anywhere; }
h2 { font-size: 1.12rem; margin: 2.6rem 0 .2rem; font-weight: 650; }
p { margin: .3rem 0; }
h1, header p, .failure p, .scroll td:last-child { white-space: pre-wrap; }
.soft { color: var(--soft); }
.lead { font-size: 1.12rem; margin: 1.1rem 0 .5rem; }
.progress { display: flex; height: 14px; border-radius: 7px; overflow: hidden; background: var(--line); }
.progress span { display: block; min-width: 2px; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem;
  margin: 1.1rem 0 0; }
dl div { background: var(--card); border-radius: 8px; padding: .55rem .8rem; }
dt { color: var(--soft); font-size: .82rem; }
dd { margin: 0; font-size: 1.22rem; font-weight: 600; font-variant-numeric: tabular-nums; }
ul.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .15rem 1.1rem; margin: .5rem 0 .3rem;
  padding: 0; font-size: .86rem; }
.legend i, td i { display: inline-block; width: .8em; height: .8em; border-radius: 2px;
  margin-right: .42em; vertical-align: -.05em; }
svg { display: block; width: 100%; height: auto; margin-top: .5rem; font-size: 11px; }
svg text { fill: var(--soft); font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--line); stroke-width: 1; fill: none; }
svg .rate { fill: var(--rate); }
svg .sum { stroke: var(--sum); stroke-width: 2; fill: none; stroke-linejoin: round; }
svg .strong { fill: var(--sum); }
.scroll { overflow-x: auto; }
.scroll td:last-child { min-width: 14rem; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; margin-top: .6rem;
  font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--line);
  padding: .25rem .7rem .25rem 0; white-space: nowrap; }
td { border-bottom: 1px solid var(--line); padding: .25rem .7rem .25rem 0; vertical-align: top;
  overflow-wrap: anywhere; }
td.n, th.n { text-align: right; white-space: nowrap; overflow-wrap: normal; }
td.w { white-space: nowrap; overflow-wrap: normal; }
td.bar { width: 34%; min-width: 9rem; vertical-align: middle; }
.bar svg { margin: 0; }
.failure { border-left: 3px solid var(--ck); padding: .1rem 0 .1rem .9rem; margin: .9rem 0; }
.failure b { font-weight: 650; }
footer { margin-top: 3rem; font-size: .82rem; }
.narrow { display: none; }
@media screen and (max-width: 40rem) {
  body { padding: 1.3rem 1rem 3rem; }
  .wide { display: none; }
  .narrow { display: block; }
  th, td { padding-right: .45rem; }
}
@media print {
  @page { margin: 14mm; }
  body { padding: 0; max-width: none; font-size: 9.5pt; }
  h1 { font-size: 17pt; }
  h2 { margin-top: 1.6rem; }
  h2, h2 + p { break-after: avoid; }
  dl { grid-template-columns: repeat(5, 1fr); }
  dd { font-size: 11pt; }
  .scroll { overflow: visible; }
  .scroll td:last-child { min-width: 0; }
  .scroll table, .failure .soft { font-size: 7pt; }
  .scroll th, .scroll td { padding: .1rem .45rem .1rem 0; }
  svg, tr, dl, .legend, .whole, .failure p { break-inside: avoid; }
  thead { display: table-header-group; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
_DARK = """--back: #14181d; --ink: #e4e8ec; --soft: #98a3ae; --line: #2b333c; --rate: #34527f; --sum: #8db8f5;
  --card: #1c2229;"""


def state_class(label: str) -> str:
    """Return the class of a state in the style sheet."""
    return COLOURS.get(label, OTHER)[0]


def style_sheet() -> str:
    """Return the style sheet of the page."""
    colours = (*COLOURS.values(), OTHER)
    light = " ".join(f"--{name}: {colour};" for name, colour, _ in colours)
    dark = " ".join(f"--{name}: {colour};" for name, _, colour in colours)
    uses = "\n".join(
        f".{name} {{ fill: var(--{name}); background: var(--{name}); }}" for name, _, _ in colours
    )
    return (
        f":root {{ {light} }}{_LAYOUT}{uses}\n"
        # Paper is white.
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} {_DARK} }} }}\n"
    )
