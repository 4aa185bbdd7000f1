"""An API key that is kept in a file, so that no crontab and no script has to hold a secret."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from mwa_client.errors import SettingsError

KEY_VARIABLE = "MWA_ASVO_API_KEY"
USER_FOLDER = Path(".mwa-asvo")
"""What clients of the service keep for a user, below the user's home."""
KEY_FILE = USER_FOLDER / "key"
LARGEST_KEY_FILE = 4096
"""Bytes; a key has some forty."""
_OF_A_SHELL = (b'"', b"'", f"{KEY_VARIABLE}=".encode())
"""How the line begins of one who writes the key down as for a shell."""


def with_key_of_file(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment, with the API key from ``~/.mwa-asvo/key`` where it holds none.

    Raises
    ------
    SettingsError
        The file cannot be read, holds no key, or others can read it.
    """
    home = environment.get("HOME")
    if environment.get(KEY_VARIABLE, "").strip() or not home:
        return environment
    path = Path(home) / KEY_FILE
    try:
        key = _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return environment
    except OSError as error:
        raise SettingsError(
            f"The file with your API key, {path}, cannot be read: {error.strerror}.",
            f"Make it readable for yourself alone, remove it, or set {KEY_VARIABLE}.",
        ) from error
    return {**environment, KEY_VARIABLE: key}


def _read(path: Path) -> str:
    # A pipe of that name must not be waited for.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        _must_be_private(path, os.fstat(handle))
        data = os.read(handle, LARGEST_KEY_FILE + 1)
    finally:
        os.close(handle)
    words = data.split()
    if len(words) != 1 or len(data) > LARGEST_KEY_FILE or words[0].startswith(_OF_A_SHELL):
        raise SettingsError(
            f"{path} does not hold an API key.",
            f"It must contain the key and nothing else, without quotes; or remove it and set {KEY_VARIABLE}.",
        )
    try:
        return words[0].decode("utf-8")
    except UnicodeDecodeError:
        raise SettingsError(
            f"{path} does not hold an API key: it is not text.", "Write the key into it, as text."
        ) from None


def _must_be_private(path: Path, state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise SettingsError(f"{path} is not a file.", f"Remove it, or set {KEY_VARIABLE}.")
    if state.st_uid not in (os.geteuid(), 0):
        raise SettingsError(
            f"{path} belongs to another user.", f"Make one of your own, or set {KEY_VARIABLE}."
        )
    if state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingsError(
            f"Others can read your API key in {path}.",
            f"Run: chmod 600 {path}. If others may have read it, make a new key on the service's web site.",
        )
