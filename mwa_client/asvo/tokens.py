"""The tokens of the v2 interface, kept between runs in a file that the other clients share.

The service allows few logins a minute, and a run that finds good tokens here needs none. Nothing read from
the file is trusted blindly: another client may have written it, for another account, or only half of it.

The shared file has the keys of the other clients and no others, for one of them refuses it otherwise. What
only we need stands in a file of our own beside it: who the user of an API key is, as the login said.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import math
import os
import re
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import field
from pathlib import Path
from typing import Any

from mwa_client.asvo.login_pace import LoginPace
from mwa_client.directory.json_files import read_document
from mwa_client.directory.our_files import read_ours, state_directory, write_safely
from mwa_client.directory.owner import Owner
from mwa_client.errors import DirectoryUnusable, DiskFull, ServiceUnavailable
from mwa_client.json_text import read_json
from mwa_client.light_dataclasses import dataclass
from mwa_client.secrecy import keep_secret
from mwa_client.timing import Clock

LOGINS_A_MINUTE = 5
"""Logins that the service allows."""
STALE_LOCK = 60.0
"""Seconds after which a lock counts as abandoned: a login takes a moment, not a minute."""
LOCK_TRIES, LOCK_WAIT = 50, 0.2
"""How often, and how many seconds apart, a lock that another client holds is tried."""
LAST_MOMENT = 1e11
"""The latest plausible expiry, in seconds since 1970 (the year 5138)."""
LEAST_LEFT = 30.0
"""Seconds of life that a token must have left to be used."""
LOGINS = "mwa_client_logins.json"
"""Our file with the times of the last logins."""
MOST_OF_FILE = 1 << 20
"""Bytes that a file of our own may have."""
MOST_ACCOUNTS = 20
"""How many accounts are remembered; the least recently used are dropped."""
USER_KEYS = ("user_id", "user_login", "user_email")
WHOSE = ("sub", "user_id", "user", "login", "username", "email")
"""The claims of a JSON web token that can say whose it is; the first is the standard's (RFC 7519)."""
EARLIER_KEY = "mwa_client_account"
"""A key that an earlier version of mwa_client added to the shared file."""

Document = dict[str, Any]


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

    def __post_init__(self) -> None:
        keep_secret(self.access, self.refresh)


class TokenStore:
    """The tokens of one account: in the file, or in memory alone if there is no path.

    What cannot be written is kept in memory, too, and counts from then on, whatever an old file says.

    Parameters
    ----------
    path : Path or None
        ``~/.mwa-asvo/tokens.json``, or None.
    secret : str
        The API key or password; only a mark made from it is written, to know the account again.
    clock : Clock
        Time.
    pace : LoginPace, optional
        Tells other clients of our logins, which may not find our tokens.
    """

    def __init__(self, path: Path | None, secret: str, clock: Clock, pace: LoginPace | None = None) -> None:
        self._pace = pace
        self._shared = "tokens.json" if path is None else path.name
        self._accounts = f"mwa_client_{self._shared}"
        self._folder = None if path is None else path.parent
        self._is_looked_at = False
        self._mark = hashlib.sha256(f"mwa_client {secret}".encode()).hexdigest()[:12]
        self._clock = clock
        self._unsaved: dict[str, Any] = {}

    def load(self) -> Tokens | None:
        """Return the account's tokens, expired or not; None if there are none."""
        account = self._account()
        shared = self._read_shared()
        tokens = _tokens_in(shared) if shared and _is_of(account, shared) else None
        kept = account.get("document")
        return tokens or (_tokens_in(kept) if isinstance(kept, dict) else None)

    def save(self, reply: Mapping[str, object]) -> Tokens | None:
        """Keep and return the tokens of a login or a refresh; None if the reply has none."""
        now = self._clock.now()
        access, refresh = reply.get("access_token"), reply.get("refresh_token")
        document: Document = {
            "access_token": access,
            "refresh_token": refresh,
            "access_expires_at": _rfc3339(_end_of(access) or now + 900.0),
            "refresh_expires_at": _rfc3339(_end_of(refresh) or now + 7 * 86400.0),
        }
        tokens = _tokens_in(document)
        if tokens is not None:
            document |= self._user_in(reply)
            self._keep(document)
        return tokens

    def _user_in(self, reply: Mapping[str, object]) -> Document:
        """Return who the user is: a login says so, a refresh does not."""
        user = reply.get("user")
        if isinstance(user, dict):
            return {key: user.get(key.removeprefix("user_")) for key in USER_KEYS}
        account = self._account()
        return {key: account[key] for key in USER_KEYS if key in account}

    def _keep(self, document: Document) -> None:
        """Write tokens where the other clients find them, unless another account's good ones are there."""
        account = {key: document[key] for key in USER_KEYS if key in document}
        account |= {"claims": _claims(document), "tokens": _fingerprint(document)}
        there = self._read_shared()
        is_free = there is not None and (_is_of(account, there) or not self._is_worth_something(there))
        if is_free and there is not None:
            others_keys = there if _is_of(account, there) else {}
            others_keys.pop(EARLIER_KEY, None)
            self._write(self._shared, {**others_keys, **document})
        else:
            account["document"] = document
        accounts = self._read_accounts()
        accounts.pop(self._mark, None)
        last_used = list(accounts.items())[1 - MOST_ACCOUNTS :]
        self._write(self._accounts, dict([*last_used, (self._mark, account)]))

    def _is_worth_something(self, document: Document) -> bool:
        tokens = _tokens_in(document)
        return tokens is not None and self.is_good(tokens.refresh_until)

    def is_good(self, until: float) -> bool:
        """Say whether a token that expires at `until` can still be used."""
        return until - LEAST_LEFT > self._clock.now()

    def count_login(self) -> None:
        """Count a login that is about to be made.

        Raises
        ------
        ServiceUnavailable
            The service allows no further login yet.
        """
        now = self._clock.now()
        recent = [when for when in self._logins() if now - 60.0 < when <= now]
        if len(recent) >= LOGINS_A_MINUTE:
            wait = recent[0] + 60.0 - now
            raise ServiceUnavailable(
                f"The service allows only {LOGINS_A_MINUTE} logins a minute.",
                f"Try again in {math.ceil(wait)} s.",
                retry_after=wait,
            )
        if self._pace is not None:
            self._pace.count()
        self._write(LOGINS, [*recent, now])

    def discount_login(self) -> None:
        """Take the last login back: the server did not count it."""
        self._write(LOGINS, self._logins()[:-1])
        self.let_others_try()

    def let_others_try(self) -> None:
        """Let other parts of the batch log in at once: we have not got in, and they may."""
        if self._pace is not None:
            self._pace.discount()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the file, so that one of several clients logs in and the others find its tokens.

        Raises
        ------
        ServiceUnavailable
            Another client is logging in at this moment; look again soon.
        """
        folder = self._home()
        if folder is None:
            yield
            return
        lock = folder / f"{self._shared}.lock"
        for _ in range(LOCK_TRIES):
            if _take(lock):
                break
            self._clock.sleep(LOCK_WAIT, threading.Event())
        else:
            raise ServiceUnavailable("Another client of this account is logging in.", retry_after=1.0)
        try:
            yield
        finally:
            with suppress(OSError):
                lock.unlink()

    # --- Files ----------------------------------------------------------------------------------------

    def _home(self) -> Path | None:
        """Return the folder of the files; None if we cannot write there, or others can."""
        if self._folder is not None and not self._is_looked_at:
            self._is_looked_at = True
            try:
                state_directory(self._folder, 0o700)
                if not os.access(self._folder, os.W_OK):
                    self._folder = None
            except (DirectoryUnusable, DiskFull):
                self._folder = None  # The files only save logins.
        return self._folder

    def _read_shared(self) -> Document | None:
        """Return the shared file's content; None if there is something that we must not replace."""
        folder = self._home()
        if self._shared in self._unsaved or folder is None:
            return dict(self._unsaved.get(self._shared, {}))
        try:
            document = read_json(read_ours(folder / self._shared).decode("utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        except (OSError, DirectoryUnusable):
            return None
        return document if isinstance(document, dict) else {}

    def _account(self) -> Document:
        """Return what is known of this account."""
        account = self._read_accounts().get(self._mark)
        return account if isinstance(account, dict) else {}

    def _read_accounts(self) -> Document:
        accounts = self._read(self._accounts)
        return dict(accounts) if isinstance(accounts, dict) else {}

    def _logins(self) -> list[float]:
        logins = self._read(LOGINS)
        times = logins if isinstance(logins, list) else []
        return [float(when) for when in times if isinstance(when, (int, float)) and math.isfinite(when)]

    def _read(self, name: str) -> object:
        """Return the content of a file of our own; None if there is none."""
        folder = self._home()
        if name in self._unsaved or folder is None:
            return self._unsaved.get(name)
        try:
            return read_document(folder / name, MOST_OF_FILE)
        except OSError:
            return None

    def _write(self, name: str, document: object) -> None:
        folder = self._home()
        self._unsaved[name] = document
        if folder is not None:
            with suppress(OSError):
                write_safely(folder / name, json.dumps(document, indent=2), sync=False, mode=0o600)
                del self._unsaved[name]


def _tokens_in(document: Document) -> Tokens | None:
    access, refresh = document.get("access_token"), document.get("refresh_token")
    if not (
        isinstance(access, str) and isinstance(refresh, str) and _is_plain(access) and _is_plain(refresh)
    ):
        return None
    # Other clients write times differently, so the token's own expiry counts.
    ends = [
        _end_of(token) or _seconds(document.get(f"{kind}_expires_at"))
        for kind, token in (("access", access), ("refresh", refresh))
    ]
    return Tokens(access, refresh, *ends)


def _is_of(account: Document, document: Document) -> bool:
    """Say whether tokens belong to an account: some claim agrees with it and none contradicts it.

    An account that is not known yet has no tokens here: its first login tells whose it is.
    """
    if account and account.get("tokens") == _fingerprint(document):
        return True  # We wrote them ourselves.
    known = account.get("claims")
    pairs = [(account.get(key), document.get(key)) for key in USER_KEYS[:2]]
    for token in (document.get("access_token"), document.get("refresh_token")):
        pairs += [(known.get(key) if isinstance(known, dict) else None, said) for key, said in _whose(token)]
    agree = [str(ours) == str(theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
    return bool(agree) and all(agree)


def _claims(document: Document) -> dict[str, str]:
    """Return the claims of a pair of tokens that say whose they are."""
    return dict([*_whose(document["refresh_token"]), *_whose(document["access_token"])])


def _whose(token: object) -> Iterator[tuple[str, str]]:
    payload = _payload(token)
    return ((key, str(payload[key])) for key in WHOSE if isinstance(payload.get(key), (str, int)))


def _fingerprint(document: Document) -> str:
    pair = f"{document.get('access_token')} {document.get('refresh_token')}"
    return hashlib.sha256(pair.encode("utf-8", "replace")).hexdigest()[:16]


def _take(lock: Path) -> bool:
    """Make the lock file and return whether that worked; remove an abandoned one first."""
    with suppress(OSError, DirectoryUnusable):  # There is none, or another client has just taken it away.
        if _is_abandoned(lock):
            lock.unlink()
    try:
        handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        try:
            Owner.here(time.time()).write_into(handle)
        finally:
            os.close(handle)
    except FileExistsError:
        return lock.is_dir()  # A folder is nobody's lock, so do not wait for it.
    except OSError:
        pass  # Such as a full disk: go on without a lock.
    return True


def _is_abandoned(lock: Path) -> bool:
    """Say whether a lock's owner has died: its process on this machine is gone, or the lock is old."""
    state = lock.lstat()
    # A lock from the future was made before the clock was put back.
    if not stat.S_ISREG(state.st_mode) or abs(time.time() - state.st_mtime) > STALE_LOCK:
        return True
    owner = Owner.of(lock)
    return owner is not None and owner.is_gone


def _payload(token: object) -> Document:
    """Return the claims of a JSON web token; none if it is not one."""
    try:
        payload = str(token).split(".")[1]
        fields = read_json(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode("utf-8"))
    except (ValueError, IndexError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _end_of(token: object) -> float | None:
    """Return the ``exp`` of a JWT, in seconds since 1970, or None."""
    end = _payload(token).get("exp")
    return float(end) if isinstance(end, (int, float)) and 0 < end < LAST_MOMENT else None


def _is_plain(token: str) -> bool:
    """Say whether a token can stand in a cookie."""
    return token.isascii() and token.isprintable() and not set(token) & set(' ";,\\')


def _rfc3339(seconds: float) -> str:
    when = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: object) -> float:
    """Return an RFC 3339 time in seconds since 1970; 0 if it cannot be read.

    One client writes ``…+00:00Z``, and Python before 3.11 knows neither ``Z`` nor nanoseconds.
    """
    found = _TIME.fullmatch(str(text).strip().upper())
    try:
        when = datetime.datetime.fromisoformat(found[1] + (found[2] or "+00:00")) if found else None
    except ValueError:
        when = None
    return 0.0 if when is None else when.timestamp()


_TIME = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:\.\d+)?([+-]\d\d:\d\d)?Z?", re.ASCII)
