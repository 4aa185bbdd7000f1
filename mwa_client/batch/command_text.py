"""The text of the user's command: what it has in braces is replaced; the shell reads each value as it is.

A command of which that cannot be told is refused, before anything is done.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from mwa_client.batch.background import Background
from mwa_client.batch.shell import SHELL
from mwa_client.errors import SettingsError
from mwa_client.light_dataclasses import dataclass

PLACEHOLDERS = ("path", "obs_id", "job_id", "line")
"""What stands in braces in a command, and is replaced for each product; all but the path are numbers."""
_PLACEHOLDER = rf"\{{(?P<name>{'|'.join(PLACEHOLDERS)})\}}"
_IN_BRACES = re.compile(r"(?<!\$)\{([ A-Za-z_-]+)\}")
_BACKQUOTED = r"`(?:\\.|[^`\\])*`"
_ORDINARY = "[A-Za-z0-9_./,:=+@%-]+"
_IN_SINGLE_QUOTES = re.compile(rf"{_PLACEHOLDER}|[^'{{]+|.", re.DOTALL)
_ELSEWHERE_QUOTED = re.compile(rf"{_PLACEHOLDER}|\\.|\$[({{$]|{_BACKQUOTED}|{_ORDINARY}|.", re.DOTALL)
_WITHIN_A_WORD = rf"{_PLACEHOLDER}|\\.|\$[({{'$]|{_BACKQUOTED}|&&|&>|[<>]&|<<|{_ORDINARY}|[ \t]+|."
_UNQUOTED = re.compile(_WITHIN_A_WORD, re.DOTALL)
_AT_A_WORD = re.compile(rf"\#[^\n]*|case(?=[ \t\n\\])|{_WITHIN_A_WORD}", re.DOTALL)
_PROGRAM = re.compile(r"\s*([A-Za-z0-9_./+@%][A-Za-z0-9_./+@%-]*)(?!\S)")
"""The name of a program at the beginning of a command, where it is plainly one."""
_BLANKS, _OPERATORS = " \t\n", ";|&()<>"
_SCRIPT = "Put it into a script, and give that: --then='./script.sh {path}'."
_SAMPLE = {"path": ("/a product",), "obs_id": ("1",), "job_id": ("1",), "line": ("1",)}


def fill_in(template: str, values: Mapping[str, Sequence[str]]) -> str:
    """Return a command with its placeholders replaced.

    Parameters
    ----------
    template : str
        The command as the user has written it, and `check_command` has found it good; ``{path}`` is appended
        where it has no placeholder.
    values : mapping
        What each of `PLACEHOLDERS` stands for: one word, or several. What is missing stays as it is.

    Notes
    -----
    The path may stand in quotes, as in ``"{path}.log"``. These are closed before the value and opened again
    behind it: within double quotes the shell would take a ``$`` of a file's name for its own.
    """
    return "".join(piece.filled(values) for piece in _whole(template).pieces)


def check_command(template: str) -> None:
    """Make sure that the shell will read a command as it is meant, whatever the products are called.

    Raises
    ------
    SettingsError
        It is empty, or the shell cannot read it, or it cannot be told where the product belongs in it, or how
        that would have to be quoted there, or the shell would not wait for it.
    """
    if not isinstance(template, str):  # A Python program may give a path, or a list of words.
        raise SettingsError(
            f"--then is a {type(template).__name__}, not text.", "Give one string: 'work {path}'."
        )
    if not template.strip():
        raise SettingsError("--then is empty.", "Say what is to be run, or leave it out.")
    if "\0" in template or not _is_encodable(template):
        raise SettingsError("The command of --then has a character that no command can have.", _SCRIPT)
    given = _CommandText(template.strip())
    if given.background.is_left:
        raise SettingsError(
            "The command of --then ends with &, or has a part that does: the shell does not wait for it, and "
            "each product would count as done at once.",
            "Leave out the &: downloads go on meanwhile, and --parallel commands run at a time.",
        )
    if given.background.is_lost:
        raise SettingsError(
            "A wait in the command of --then hides a failure of what runs in the background: without a "
            "process id it always succeeds, and with several it tells only of the last.",
            "Wait for each by its id: --then='work {path} & p=$!; more {path} && wait $p'.",
        )
    if given.has_bash_redirection:
        raise SettingsError(
            f"{SHELL} reads the &> in the command of --then as an & and a >, and does not wait for it.",
            "Write > file 2>&1.",
        )
    for found in _IN_BRACES.finditer(template):
        if (meant := _placeholder_meant(found[1])) not in ("", found[1]):
            raise SettingsError(
                f"{found[0]} in the command of --then would not be replaced.",
                f"Write {{{meant}}}. Where the braces are meant as they are, a script can have them.",
            )
    if not given.is_placed and not (given.is_plain and "{}" not in template):
        raise SettingsError(
            "It is not clear where the product belongs in the command of --then.",
            "Write {path} where it belongs: --then='work {path} > {path}.log'.",
        )
    if given.doubt:
        what = f"It is not clear how to quote {{path}} in the command of --then: {given.doubt}."
        raise SettingsError(what, _SCRIPT)
    _check_syntax(fill_in(template, _SAMPLE))


def missing_program(template: str, search_path: str | None) -> str:
    """Return the program with which a command begins, where it could not be run now; empty otherwise.

    Parameters
    ----------
    template : str
        The command.
    search_path : str, optional
        The variable ``PATH``; default is what the shell takes without it.
    """
    found = _PROGRAM.match(template)
    if found is None:
        return ""
    if "/" in found[1]:
        return "" if Path(found[1]).is_file() and os.access(found[1], os.X_OK) else found[1]
    words, environment = [SHELL, "-c", 'command -v -- "$1"', SHELL, found[1]], {}
    if search_path is not None:
        environment["PATH"] = search_path
    try:
        known = subprocess.run(
            words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError:
        return ""  # As for its syntax: the first product tells.
    return found[1] if known.returncode else ""


def _placeholder_meant(name: str) -> str:
    """Return the placeholder that somebody means who writes this in braces; empty where it is none.

    Examples
    --------
    >>> _placeholder_meant("ObsID"), _placeholder_meant(" path "), _placeholder_meant("print")
    ('obs_id', 'path', '')
    """
    bare = re.sub("[ _-]", "", name).lower()
    return next((each for each in PLACEHOLDERS if each.replace("_", "") == bare), "")


def _is_encodable(template: str) -> bool:
    try:
        os.fsencode(template)
    except UnicodeEncodeError:
        return False
    return True


def _check_syntax(command: str) -> None:
    """Have the shell read a command without running it."""
    try:
        read = subprocess.run(
            [SHELL, "-n", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, check=False, cwd="/"
        )
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise SettingsError("The command of --then is too long.", _SCRIPT) from error
        return  # No process is to be had just now; should it stay so, the first product tells.
    if read.returncode != 0:
        said = read.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        raise SettingsError(
            f"The shell cannot read the command of --then: {said}", "Check its quotes and brackets."
        )


# --- As the shell reads it ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Piece:
    """A piece of a command: some text, or a placeholder.

    Attributes
    ----------
    text : str
        As it stands in the command.
    name : str
        What it is a placeholder for; empty where it is none.
    quote : str
        The quotes around it.
    """

    text: str
    name: str = ""
    quote: str = ""

    def filled(self, values: Mapping[str, Sequence[str]]) -> str:
        if self.name not in values:
            return self.text
        words = values[self.name]
        if self.name != "path" and any(words):  # A number is read as it is wherever it stands.
            return " ".join(words)
        return f"{self.quote}{' '.join(map(shlex.quote, words))}{self.quote}"


class _CommandText:
    """A command as the shell reads it, from its beginning to its end.

    Attributes
    ----------
    pieces : list of _Piece
        All of it.
    is_placed : bool
        It has a placeholder.
    is_plain : bool
        It is one command and its words, to which one more can be appended.
    background : Background
        Whether it has parts that the shell does not wait for.
    has_bash_redirection : bool
        It has an ``&>``, which other shells take for something else.
    doubt : str
        Why nobody can tell how to quote the path where it stands; empty where there is no doubt.
    """

    def __init__(self, template: str) -> None:
        self.pieces: list[_Piece] = []
        self.is_placed = self.has_bash_redirection = False
        self.is_plain = True
        self.background = Background()
        self.doubt = ""
        self._open = [""]
        """What has been opened and not been closed, the latest last."""
        self._is_word_begun = False
        self._unclear = ""
        """Why the quoting of what comes is not clear."""
        position = 0
        while position < len(template):
            found = self._tokens.match(template, position)
            assert found is not None
            position = found.end()
            self._take(found[0], found["name"] or "")
        self.background.end()

    @property
    def _quote(self) -> str:
        return self._open[-1] if self._open[-1] in ("'", '"') else ""

    @property
    def _is_unquoted(self) -> bool:
        return self._open[-1] in ("", "(", "$(")

    @property
    def _is_arithmetic(self) -> bool:
        return ("$(", "(") in zip(self._open, self._open[1:])

    @property
    def _tokens(self) -> re.Pattern[str]:
        """How the next piece is told from the rest."""
        if self._is_unquoted:
            return _UNQUOTED if self._is_word_begun else _AT_A_WORD
        return _IN_SINGLE_QUOTES if self._quote == "'" else _ELSEWHERE_QUOTED

    def _take(self, token: str, name: str) -> None:
        if self._is_unquoted and not self._is_arithmetic:
            depth = len(self._open) - 1
            self.background.take(token, depth, is_word_begun=self._is_word_begun)
        if name:
            self._place(token, name, self._unclear)
        elif token[0] == "`" and len(token) > 1:
            self._take_backquoted(token)
        else:
            self.pieces.append(_Piece(token))
            if self._is_unquoted:
                self._take_unquoted(token)
            else:
                self._take_quoted(token)
            return
        self._is_word_begun = True

    def _place(self, token: str, name: str, unclear: str) -> None:
        """Take a placeholder."""
        self.pieces.append(_Piece(token, name, self._quote))
        self.is_placed = True
        if name == "path":
            self.doubt = self.doubt or ("it stands within ${...}" if self._open[-1] == "${" else unclear)

    def _take_backquoted(self, token: str) -> None:
        """Take a command substitution, in which further rules hold for quotes."""
        names = re.split(_PLACEHOLDER, token)
        for text, name in zip_longest(names[::2], names[1::2]):
            self.pieces.append(_Piece(text))
            if name:
                self._place(f"{{{name}}}", name, "it stands between backquotes, where $(...) is better")

    def _take_quoted(self, token: str) -> None:
        """Take what stands in quotes or in ``${...}``."""
        opened = self._open[-1]
        if token == opened or (token == "}" and opened == "${"):
            self._open.pop()
        elif opened == "${" and token in ("'", '"'):
            if '"' in self._open:
                self._unclear = 'it stands behind quotes within "${...}", which shells read differently'
            else:
                self._open.append(token)
        elif opened != "'" and token in ("$(", "${", '"'):
            self._open.append(token)
            self._is_word_begun = token != "$("

    def _take_unquoted(self, token: str) -> None:
        if token == "\\\n":
            return
        if token[0] == "#" and not self._is_word_begun:
            self.is_plain = False
            return
        is_operator = token[0] in _OPERATORS
        self.is_plain = self.is_plain and not (
            len(self._open) == 1 and (is_operator or token in ("\n", "\\"))
        )
        self.has_bash_redirection = self.has_bash_redirection or token == "&>"
        if token == "$'":
            self._unclear = "it stands behind $'...', which shells read differently"
        elif token == "<<" and not self._is_arithmetic:
            self._unclear = "it stands behind a here-document"
        elif token == "case" and len(self._open) > 1:
            self._unclear = "it stands behind a case within brackets"
        self._open_or_close(token)

    def _open_or_close(self, token: str) -> None:
        opened = self._open[-1]
        self._is_word_begun = token[0] not in _BLANKS + _OPERATORS and token != "$("
        if token == ")" and opened:
            self._is_word_begun = opened == "$("
            self._open.pop()
        elif token in ("'", "$'", '"', "(", "$(", "${"):
            self._open.append("'" if token == "$'" else token)


def _whole(template: str) -> _CommandText:
    """Return a command that has a placeholder, if only because one was appended."""
    given = _CommandText(template)
    return given if given.is_placed else _CommandText(f"{template.strip()} {{path}}")
