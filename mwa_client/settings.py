"""Options and environment become frozen settings; below this room nothing reads the environment."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mwa_client.errors import CredentialsMissing, SettingsError
from mwa_client.jobkeys import Api

ADDRESS_2018 = "https://asvo.mwatelescope.org:8778"
PORT_2018 = 8778
CALL_TIMEOUT = 60.0
STALL_TIMEOUT = 60.0
MOST_SECONDS = 1e8
DOWNLOADS, MOST_DOWNLOADS = 4, 32
SANDBOX_POLL = 0.5

ACCOUNT = {"ASVO_USER": "your_name", "ASVO_PASS": "your_password"}
"""The variables that hold the user's account, with examples."""


@dataclass(frozen=True)
class Credentials:
    """A user's account. Its ``repr`` does not show the password."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Service:
    """Which service to talk to, and how.

    Attributes
    ----------
    api : Api
        The interface that it speaks.
    address : str
        Scheme, host and port.
    name : str
        What it is called in the directory's memory: host and port.
    is_default : bool
        Nobody has set another address.
    verify : bool or str
        Whether certificates are verified, or the path of the authorities to verify them with.
    call_timeout : float
        Seconds without a byte after which a call is given up.
    stall_timeout : float
        Seconds without a byte after which a download's connection is dropped.
    """

    api: Api
    address: str
    name: str
    credentials: Credentials
    is_default: bool = False
    verify: bool | str = True
    call_timeout: float = CALL_TIMEOUT
    stall_timeout: float = STALL_TIMEOUT

    @property
    def sends_password_in_clear(self) -> bool:
        """Whether the password would cross a network unencrypted."""
        parts = urlsplit(self.address)
        is_here = parts.hostname in ("localhost", "127.0.0.1", "::1")
        return parts.scheme == "http" and not is_here


@dataclass(frozen=True)
class Settings:
    """What the user wants of a run.

    Attributes
    ----------
    csv : str
        The job file; ``-`` is standard input.
    directory : Path
        Where the products go.
    check : bool
        Only check the file and show the plan.
    sandbox : bool
        Practise against the built-in service.
    allow_resubmit : bool
        Submit even where the same job is there already, and again where it has failed.
    quiet : bool
        Show only errors and the summary.
    parallel : int
        Downloads at a time.
    poll : float or None
        Seconds between two listings; None: adapt.
    give_up_after : float or None
        Seconds after which to stop with jobs still pending; None: never.
    """

    csv: str
    directory: Path
    check: bool = False
    sandbox: bool = False
    allow_resubmit: bool = False
    quiet: bool = False
    parallel: int = DOWNLOADS
    poll: float | None = None
    give_up_after: float | None = None


def settings_from(options: argparse.Namespace) -> Settings:
    """Check the options' values.

    Raises
    ------
    SettingsError
        A value cannot be used.
    """
    poll = _seconds("--poll", options.poll, SANDBOX_POLL if options.sandbox else 0.0) or None
    return Settings(
        csv=str(_path("--csv", options.csv)),
        directory=_path("--dir", options.dir),
        check=options.check,
        sandbox=options.sandbox,
        allow_resubmit=options.allow_resubmit,
        quiet=options.quiet,
        parallel=_count("--parallel", options.parallel, DOWNLOADS, MOST_DOWNLOADS),
        poll=poll,
        give_up_after=_seconds("--give-up-after", options.give_up_after, 0.0) or None,
    )


def service_from(environment: Mapping[str, str]) -> Service:
    """Read from the environment which service to talk to.

    Parameters
    ----------
    environment : mapping
        ``ASVO_USER`` and ``ASVO_PASS``; optionally ``ASVO_HOST`` (host or URL), ``ASVO_PORT``,
        ``SSL_VERIFY`` (0 switches the check of certificates off; a path names a bundle of authorities)
        and ``MWA_ASVO_API_TIMEOUT`` (seconds).

    Raises
    ------
    CredentialsMissing
        No user name or no password.
    SettingsError
        A variable's value cannot be used.
    """
    address = address_of(environment.get("ASVO_HOST", ""), environment.get("ASVO_PORT", ""))
    verify = _verify(environment.get("SSL_VERIFY", ""))
    timeout = _seconds("MWA_ASVO_API_TIMEOUT", environment.get("MWA_ASVO_API_TIMEOUT", ""), CALL_TIMEOUT)
    return Service(
        api=Api.V2018,
        address=address,
        name=urlsplit(address).netloc,
        credentials=_credentials(environment),
        is_default=address == ADDRESS_2018,
        verify=verify,
        call_timeout=timeout,
    )


def address_of(host: str, port: str) -> str:
    """Return the address that a host (or URL) and a port mean: ``https://host:8778``.

    Raises
    ------
    SettingsError
        They mean none.
    """
    host, port = host.strip() or "asvo.mwatelescope.org", port.strip()
    if port and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise SettingsError(f"ASVO_PORT={port} is not a port.", "It must be a number from 1 to 65535.")
    if "@" in host:
        raise SettingsError(
            "ASVO_HOST must not hold a user name or password.", "Use ASVO_USER and ASVO_PASS for them."
        )
    try:
        parts = urlsplit(host if "://" in host else f"https://{host}")
        name, own_port = parts.hostname, parts.port
    except ValueError:
        name, own_port, parts = None, None, urlsplit("")
    is_plain = parts.path in ("", "/") and not parts.query and not parts.fragment
    if not name or parts.scheme not in ("http", "https") or not is_plain or re.search(r"\s", name):
        raise SettingsError(
            f"ASVO_HOST={host} is not an address.",
            f"It must be a host name, or a URL without a path: asvo.mwatelescope.org, {ADDRESS_2018}.",
        )
    shown = f"[{name}]" if ":" in name else name
    standard = 80 if parts.scheme == "http" else PORT_2018
    return f"{parts.scheme}://{shown}:{own_port or int(port or standard)}"


def _credentials(environment: Mapping[str, str]) -> Credentials:
    missing = [name for name in ACCOUNT if not environment.get(name)]
    if missing:
        what = f"No credentials: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set."
        if environment.get("MWA_ASVO_API_KEY"):
            what += " MWA_ASVO_API_KEY is, but this version speaks the password interface only."
        exports = " ".join(f"{name}={ACCOUNT[name]}" for name in missing)
        raise CredentialsMissing(
            what,
            f"For your account at the service:\n    export {exports}\n"
            "To practise without an account, add --sandbox.",
        )
    user, password = (environment[name] for name in ACCOUNT)
    if ":" in user:
        raise SettingsError("ASVO_USER must not hold a colon.", "Give the user name alone.")
    return Credentials(user, password)


def _verify(value: str) -> bool | str:
    word = value.strip().lower()
    if word in ("", "1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    if Path(value.strip()).exists():
        return value.strip()
    raise SettingsError(f"SSL_VERIFY={value}: no such file.", "It must be 1, 0 or the path of a .pem file.")


def _path(name: str, value: str) -> Path:
    if not value:
        raise SettingsError(f"{name} is empty.", "Give a path, or leave the option out.")
    try:
        return Path(value).expanduser()  # Most shells leave the ~ of --dir=~/data as it is.
    except RuntimeError:
        raise SettingsError(f"{name}={value}: there is no such user.") from None


def _seconds(name: str, value: str | None, default: float) -> float:
    if value is None or not value.strip():
        return default
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= MOST_SECONDS:
        raise SettingsError(f"{name}={value} is not a time.", "It must be a number of seconds above 0.")
    return seconds


def _count(name: str, value: str | None, default: int, most: int) -> int:
    if value is None:
        return default
    if not (re.fullmatch("[0-9]{1,9}", value) and 1 <= int(value) <= most):
        raise SettingsError(f"{name}={value} cannot be.", f"It must be a whole number from 1 to {most}.")
    return int(value)
