"""The tokens of the v2 interface, kept between runs in a file that the other clients share.

The service allows few logins a minute; whoever finds good tokens here needs none. Nothing read from the
file is trusted blindly: it may be torn, old, or of another account.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mwa_client.errors import ServiceUnavailable
from mwa_client.lock import Owner
from mwa_client.pace import Clock

LOGINS_A_MINUTE = 5
"""What the service allows."""
STALE_LOCK = 60.0
"""Seconds after which a lock's owner counts as dead: a login takes a moment, not a minute."""
LOCK_TRIES, LOCK_WAIT = 50, 0.2
"""How often, and how many seconds apart, a lock that another client holds is tried."""
LAST_MOMENT = 1e11
"""Seconds since 1970 (in the year 5138) from which on an end makes no sense."""
MARGIN = 30.0
"""Seconds before its end at which a token is not used any more."""


@dataclass(frozen=True)
class Tokens:
    """A pair of tokens. Its ``repr`` shows none of them.

    Attributes
    ----------
    access_until, refresh_until : float
        When they end, in seconds since 1970.
    """

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    access_until: float
    refresh_until: float


class TokenStore:
    """The file of tokens, for one account. Without a path it is kept in memory alone.

    Parameters
    ----------
    path : Path or None
        ``~/.mwa-asvo/tokens.json``, or None.
    secret : str
        The API key or password; only a mark made from it is written, to know the tokens of another account.
    clock : Clock
        Time.
    """

    def __init__(self, path: Path | None, secret: str, clock: Clock) -> None:
        self._path = path
        self._mark = hashlib.sha256(f"mwa_client {secret}".encode()).hexdigest()[:12]
        self._clock = clock
        self._kept: dict[str, object] = {}
        self._logins: list[float] = []

    def load(self) -> Tokens | None:
        """Return the tokens that are there, good or not, or None."""
        document = self._read()
        if document.get("mwa_client_account", self._mark) != self._mark:
            return None
        access, refresh = document.get("access_token"), document.get("refresh_token")
        if not isinstance(access, str) or not isinstance(refresh, str):
            return None
        if not (_is_plain(access) and _is_plain(refresh)):
            return None
        return Tokens(
            access,
            refresh,
            _seconds(document.get("access_expires_at")),
            _seconds(document.get("refresh_expires_at")),
        )

    def save(self, reply: dict[str, object]) -> Tokens | None:
        """Keep the tokens of a login or a refresh; return them, or None where the reply has none."""
        access, refresh = reply.get("access_token"), reply.get("refresh_token")
        if not isinstance(access, str) or not isinstance(refresh, str):
            return None
        now = self._clock.now()
        user = reply.get("user")
        known = self._read() if not isinstance(user, dict) else {}
        document = {
            **known,
            "access_token": access,
            "refresh_token": refresh,
            "access_expires_at": _rfc3339(_end_of(access) or now + 900.0),
            "refresh_expires_at": _rfc3339(_end_of(refresh) or now + 7 * 86400.0),
            "mwa_client_account": self._mark,
        }
        if isinstance(user, dict):
            document |= {f"user_{key}": user.get(key) for key in ("id", "login", "email")}
        self._write(document)
        return self.load()

    def is_good(self, until: float) -> bool:
        """Say whether a token that ends then can still be used."""
        return until - MARGIN > self._clock.now()

    def count_login(self) -> None:
        """Note that a login is about to be made.

        Raises
        ------
        ServiceUnavailable
            The service allows no further login yet.
        """
        now = self._clock.now()
        recent = [when for when in self._recent_logins() if now - 60.0 < when <= now]
        if len(recent) >= LOGINS_A_MINUTE:
            wait = recent[0] + 60.0 - now
            raise ServiceUnavailable("The service allows few logins a minute.", retry_after=wait)
        self._note_logins([*recent, now])

    def discount_login(self) -> None:
        """Take back the last note: the server has no such login to count."""
        self._note_logins(self._logins[:-1])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file, so that of several clients one logs in and the others find its tokens.

        Raises
        ------
        ServiceUnavailable
            Another client is logging in at this moment; look again soon.
        """
        if self._path is None or not self._has_home():
            yield
            return
        lock = self._path.with_name(self._path.name + ".lock")
        for _ in range(LOCK_TRIES):
            if _take(lock):
                break
            self._clock.sleep(LOCK_WAIT, threading.Event())
        else:
            raise ServiceUnavailable("Another client of this account is logging in.", retry_after=1.0)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)

    def _has_home(self) -> bool:
        """Make the file's folder; where that is not possible, keep the tokens in memory from now on."""
        assert self._path is not None
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(self._path.parent, os.W_OK):
                return True
        except OSError:
            pass
        self._path = None
        return False

    def _note_logins(self, logins: list[float]) -> None:
        self._logins = logins
        if self._path is not None:
            _write_private(self._path.with_name("mwa_client_logins.json"), json.dumps(logins))

    def _recent_logins(self) -> list[float]:
        if self._path is None:
            return self._logins
        try:
            logins = json.loads(self._path.with_name("mwa_client_logins.json").read_text(encoding="utf-8"))
            return [float(when) for when in logins]
        except (OSError, ValueError, TypeError, RecursionError):
            return self._logins

    def _read(self) -> dict[str, object]:
        if self._path is None:
            return self._kept
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return self._kept
        return document if isinstance(document, dict) else {}

    def _write(self, document: dict[str, object]) -> None:
        self._kept = document
        if self._path is not None:
            _write_private(self._path, json.dumps(document, indent=2))


def _take(lock: Path) -> bool:
    """Make a lock file, if there is none; one whose owner must have died is taken away first."""
    try:
        if _is_abandoned(lock):
            lock.unlink()
    except OSError:
        pass  # There is none, or another client has just taken it away.
    try:
        handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            Owner.here(time.time()).write_into(handle)
        finally:
            os.close(handle)
    except FileExistsError:
        return False
    except OSError:
        pass  # No room, say: without the file everything works all the same.
    return True


def _is_abandoned(lock: Path) -> bool:
    """Say whether a lock's owner has died: on this machine that can be seen, elsewhere time tells."""
    owner = Owner.of(lock)
    # One from the future was made before the clock was put back.
    is_old = abs(time.time() - lock.stat().st_mtime) > STALE_LOCK
    return is_old or (owner is not None and owner.is_gone)


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, at once the old one or the new one."""
    temporary = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except OSError:
        pass  # The file saves logins; without it everything works all the same.


def _end_of(token: str) -> float | None:
    """Return the ``exp`` of a JWT, in seconds since 1970, or None where it has none."""
    try:
        payload = token.split(".")[1]
        fields = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        end = float(fields["exp"])
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError):
        return None
    return end if 0 < end < LAST_MOMENT else None


def _is_plain(token: str) -> bool:
    """Say whether a token can stand in a cookie."""
    return token.isascii() and token.isprintable() and not set(token) & set(' ";,\\')


def _rfc3339(seconds: float) -> str:
    when = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: object) -> float:
    """Return an RFC 3339 time in seconds since 1970; one that makes no sense is long over."""
    try:
        # Python before 3.11 knows neither "Z" nor nanoseconds.
        whole, _, rest = str(text).strip().replace("z", "Z").replace("Z", "+00:00").partition(".")
        zone = rest.lstrip("0123456789")
        when = datetime.datetime.fromisoformat(whole + zone)
    except ValueError:
        return 0.0
    return (when if when.tzinfo else when.replace(tzinfo=datetime.timezone.utc)).timestamp()
