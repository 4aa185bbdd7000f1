"""Parts of a shell command that run in the background: whether each is waited for, and tells how it ended."""

from __future__ import annotations

_ENDS = (";", "|", "&", "&&", "(", ")", "\n")
"""What ends one command, and begins another."""
_REDIRECTIONS = ("<", ">", "<<", "<&", ">&", "&>")
_BEFORE_A_COMMAND = ("!", "{", "if", "then", "elif", "else", "while", "until", "do", "time")
"""Words behind which a command begins, and not its arguments."""


class Background:
    """Follows a command from its beginning to its end.

    ``wait`` has the exit status of the last process that it is given; without any, it always succeeds.

    Attributes
    ----------
    is_left : bool
        The shell does not wait for a part of the command: there is an ``&``, and no ``wait`` behind it.
    is_lost : bool
        It waits, but not for one process that is named: how the others ended is lost.
    """

    def __init__(self) -> None:
        self.is_left = self.is_lost = False
        self._begins_command = True
        self._is_redirecting = False
        self._is_number = False
        """The last word is a number, which belongs to a redirection that follows at once."""
        self._depth = 0
        self._operands: int | None = None
        """How many words follow the ``wait`` that is being read; None where none is."""

    def take(self, token: str, depth: int, *, is_word_begun: bool) -> None:
        """Take the next piece of the command that stands in no quotes.

        Parameters
        ----------
        token : str
            The piece.
        depth : int
            How many brackets are open.
        is_word_begun : bool
            It goes on with the word before it.
        """
        if self._operands is not None and depth > self._depth:
            return  # Within an operand: $(cat pid).
        if token in _REDIRECTIONS:
            self._is_redirecting = True
            if self._operands and self._is_number and is_word_begun:
                self._operands -= 1
        elif token in _ENDS:
            self.end()
            self.is_left = self.is_left or token == "&"
            # The bracket behind a pattern of case closes nothing.
            self._begins_command = token != ")" or depth == 0
        elif not token.isspace() and not is_word_begun:
            self._take_word(token, depth)

    def end(self) -> None:
        """Take notice that a command is at its end."""
        if self._operands is not None and self.is_left:
            self.is_left = False
            self.is_lost = self.is_lost or self._operands != 1
        self._operands, self._is_redirecting = None, False

    def _take_word(self, token: str, depth: int) -> None:
        self._is_number = token.isdigit()
        if self._is_redirecting:
            self._is_redirecting = False
        elif self._operands is not None:
            self._operands += not token.startswith("-")
        elif self._begins_command and token == "wait":
            self._operands, self._depth = 0, depth
        elif token not in _BEFORE_A_COMMAND and "=" not in token:
            self._begins_command = False
