"""What a shell and ``man`` know of the options, made from the parser when the package is installed.

Nothing here needs more than Python itself: the package is not installed yet when this is run.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator

from mwa_client import __version__
from mwa_client.cli.options import option_parser
from mwa_client.jobs.keys import ApiVersion
from mwa_client.light_dataclasses import dataclass

FILES, FOLDERS, NO_OFFER = "files", "folders", ""
"""What a shell offers for a value."""
OFFERED = {
    "csv": FILES,
    "dir": FOLDERS,
    "error_file": FILES,
    "obs_ids": FILES,
    "report": FILES,
    "api": " ".join(api.value for api in ApiVersion),
    "download_only": "all",
    "state": "pending queued staging ready error expired cancelled",
    "type": "conversion visibilities metadata voltage beamformer imaging",
}
"""What is offered for the value of each option: files, folders, words, or nothing."""
COMPLETION_PLACES = ("bash-completion/completions/mwa_client", "zsh/site-functions/_mwa_client")
"""Where the shells look for the file, below ``share``."""


@dataclass(frozen=True)
class Option:
    """One option of the command.

    Attributes
    ----------
    names : tuple of str
        How it can be written, the short name first.
    value : str
        What its value is called; empty for a switch.
    takes_several : bool
        Its value can be several words.
    can_be_repeated : bool
        It can be given more than once.
    offered : str
        What a shell offers for its value.
    help : str
        What it does.
    """

    names: tuple[str, ...]
    value: str
    takes_several: bool
    can_be_repeated: bool
    offered: str
    help: str

    @classmethod
    def of(cls, action: argparse.Action) -> Option:
        """Return what is known of an option of the parser."""
        takes_value = action.nargs != 0
        choices = " ".join(map(str, action.choices)) if action.choices else NO_OFFER
        metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        return cls(
            names=tuple(sorted(action.option_strings, key=lambda name: name.startswith("--"))),
            value=metavar if takes_value else "",
            takes_several=action.nargs in ("+", "*"),
            can_be_repeated=type(action).__name__ in ("_AppendAction", "_ExtendAction"),
            offered=OFFERED.get(action.dest, choices) if takes_value else NO_OFFER,
            help=action.help or "",
        )


def options_by_group(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[Option]]]:
    """Yield the title of each group of ``--help``, and its options but for the hidden ones."""
    for group in parser._action_groups:
        actions = [each for each in group._group_actions if each.help is not argparse.SUPPRESS]
        options = [Option.of(action) for action in actions if action.option_strings]
        if options:
            yield group.title or "", options


# --- bash and zsh -------------------------------------------------------------------------------------

_COMPLETION = """\
#compdef mwa_client
# Completion of mwa_client {version} for bash and zsh, made from its options.

if [ -n "${{ZSH_VERSION-}}" ]; then
    # Behind the values of -l, -w and --cancel, of which there may be any number, options are completed.
    _arguments -S '*: :()' \\
{zsh}
    return
fi

_mwa_client() {{
    local IFS=$' \\t\\n' current=${{COMP_WORDS[COMP_CWORD]}} option= at
    # bash takes --csv=FILE for three words.
    if [ "$current" = "=" ]; then
        current= option=${{COMP_WORDS[COMP_CWORD-1]}}
    elif [ "$COMP_CWORD" -ge 2 ] && [ "${{COMP_WORDS[COMP_CWORD-1]}}" = "=" ]; then
        option=${{COMP_WORDS[COMP_CWORD-2]}}
    else
        option=${{COMP_WORDS[COMP_CWORD-1]}}
        # An option with several values: the last option before them.
        for (( at = COMP_CWORD - 1; at > 0; at-- )); do
            case ${{COMP_WORDS[at]}} in
                {several}) option=${{COMP_WORDS[at]}}; break ;;
                -*) break ;;
            esac
        done
    fi
    COMPREPLY=()
    case $option in
{bash}
    esac
    if [ ${{#COMPREPLY[@]}} -eq 0 ]; then
        COMPREPLY=( $(compgen -W '{names}' -- "$current") )
    fi
}}
complete -F _mwa_client mwa_client
"""


def completion(parser: argparse.ArgumentParser | None = None) -> str:
    """Return the script with which bash and zsh complete the command's options and their values."""
    options = [each for _, group in options_by_group(parser or option_parser()) for each in group]
    return _COMPLETION.format(
        version=__version__,
        zsh=" \\\n".join(f"        {spec}" for option in options for spec in _for_zsh(option)),
        bash="\n".join(line for option in options for line in _for_bash(option)),
        several="|".join(name for option in options if option.takes_several for name in option.names),
        names=" ".join(option.names[-1] for option in options),
    )


def _for_bash(option: Option) -> Iterator[str]:
    if not option.value:
        return
    how = {FILES: "-f", FOLDERS: "-d"}.get(option.offered, f"-W '{option.offered}'")
    yield f"        {'|'.join(option.names)})"
    if option.offered in (FILES, FOLDERS):
        # A name may have spaces in it; bash puts the backslashes before them.
        yield "            type compopt >/dev/null 2>&1 && compopt -o filenames"
        yield "            IFS=$'\\n'"
    if option.offered:
        yield f'            COMPREPLY=( $(compgen {how} -- "$current") )'
    # What a value may be is not what an option may be, unless several values can end here.
    yield "            ;;" if option.takes_several else "            return ;;"


def _for_zsh(option: Option) -> Iterator[str]:
    told = re.sub(r"([\[\]:\\])", r"\\\1", option.help)
    once = not option.can_be_repeated
    others = f"({' '.join(option.names)})" if once else "*"
    message = f":{option.value.replace(':', ' ').lower()}:"
    action = {FILES: "_files", FOLDERS: "_files -/", NO_OFFER: " "}.get(option.offered, f"({option.offered})")
    value = f"{message}{action}" if option.value else ""
    if option.takes_several:  # An option may stand where a value may, so each of them can be left out.
        value = 2 * f":{message}({option.offered})"
    for name in option.names:
        sign = "" if not option.value else "=" if name.startswith("--") else "+"
        yield _quoted(f"{others}{name}{sign}[{told}]{value}")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# --- man ----------------------------------------------------------------------------------------------


def man_page(readme: str, parser: argparse.ArgumentParser | None = None) -> str:
    """Return the manual page, in the language of ``man``.

    Parameters
    ----------
    readme : str
        The text of the README, which has the table of the environment's variables.
    parser : argparse.ArgumentParser, optional
        The parser; default is the command's.
    """
    parser = parser or option_parser()
    what, _, rest = (parser.description or "").partition("\n\n")
    examples, _, again = rest.partition("\n\n")
    lines = [
        f'.TH MWA_CLIENT 1 "" "mwa_client {__version__}" "User Commands"',
        ".SH NAME",
        r"mwa_client \- get data out of the archive of the MWA radio telescope",
        ".SH SYNOPSIS",
        _roff((parser.usage or "").strip()),
        ".SH DESCRIPTION",
        *map(_roff, what.splitlines()),
        ".PP",
        *map(_roff, again.strip().splitlines()),
        ".SH OPTIONS",
    ]
    for title, options in options_by_group(parser):
        lines.append(f".SS {_roff(title[:1].upper() + title[1:])}")
        for option in options:
            lines += [".TP", ", ".join(_written(option)), _roff(option.help)]
    lines.append(".SH EXIT STATUS")
    for status, meaning in re.findall(r"^  (\S+) +(.*)$", parser.epilog or "", re.M):
        lines += [".TP", f"\\fB{_roff(status)}\\fR", _roff(meaning)]
    lines.append(".SH ENVIRONMENT")
    for names, meaning in _variables(readme):
        lines += [".TP", f"\\fB{_roff(names)}\\fR", _roff(meaning)]
    lines += [".SH EXAMPLES", ".nf", *map(_roff, examples.splitlines()), ".fi"]
    return "\n".join(lines) + "\n"


def _written(option: Option) -> Iterable[str]:
    value = f" \\fI{_roff(option.value)}\\fR" if option.value else ""
    more = f" [\\fI{_roff(option.value)}\\fR ...]" if option.takes_several else ""
    return [f"\\fB{_roff(name)}\\fR{value}{more}" for name in option.names]


def _variables(readme: str) -> Iterator[tuple[str, str]]:
    table = readme.partition("| variable | meaning |")[2].partition("\n\n")[0]
    for names, meaning in re.findall(r"^\| (`.*?) \| (.*) \|$", table, re.M):
        yield names.replace("`", ""), meaning.replace("`", "")


def _roff(text: str) -> str:
    """Return a text as it is, for a language in which a dash and a dot at the beginning mean something."""
    text = "".join(each if each.isascii() else f"\0[u{ord(each):04X}]" for each in text)
    escaped = text.replace("\\", r"\e").replace("\0", "\\").replace("-", r"\-").replace("'", r"\(aq")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
