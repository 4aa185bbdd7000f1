"""The environment variables that say where the service is and who the user is.

They are handed in as a mapping: nothing here reads the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from mwa_client.asvo.key_file import KEY_VARIABLE, USER_FOLDER
from mwa_client.asvo.service import (
    CALL_TIMEOUT,
    CLIENT_NAME,
    DEFAULT_HOST,
    DEFAULT_PORTS,
    Credentials,
    Service,
    address_of,
)
from mwa_client.errors import CredentialsMissing, SettingsError
from mwa_client.formatting import seconds_in, time_in_short
from mwa_client.jobs.keys import ApiVersion
from mwa_client.transfer.delivered import DeliveryRoots, roots_from

ACCOUNT = {"ASVO_USER": "your_name", "ASVO_PASS": "your_password"}
"""The variables that hold an account of 2018, with examples."""
HOW_TO_SET_KEY = (
    "Your API key is on the profile page of the service's web site, https://asvo.mwatelescope.org:\n"
    "    export MWA_ASVO_API_KEY=your_key\n"
    "Or keep it in ~/.mwa-asvo/key, readable by you alone (chmod 600)."
)
HOW_TO_PRACTISE = "To practise without an account, add --sandbox."
OFF = ("0", "false", "no", "off")
"""Values that switch a variable off."""
MOST_SECONDS = 1000 * 86400.0
"""The longest time that a setting may be."""


def services_from(environment: Mapping[str, str], api: ApiVersion | None = None) -> tuple[Service, ...]:
    """Return the ways to reach the service that environment variables stand for, in the order to try them.

    Parameters
    ----------
    environment : mapping
        ``MWA_ASVO_API_KEY``, or ``ASVO_USER`` and ``ASVO_PASS``; optionally ``MWA_ASVO_HOST`` or
        ``ASVO_HOST`` (host or URL), ``MWA_ASVO_PORT`` or ``ASVO_PORT``, ``MWA_ASVO_HTTPS`` (0: plain HTTP),
        ``SSL_VERIFY`` (0 switches the check of certificates off; a path names a bundle of authorities),
        ``MWA_ASVO_API_TIMEOUT`` (seconds), ``MWA_ASVO_CLIENT`` (client name and version) and
        ``MWA_ASVO_SCRATCH_ROOTS`` (folders that deliveries are found below, separated by colons).
    api : ApiVersion, optional
        The interface to speak. Otherwise a key means today's service, v2 before v1; user name and password
        mean that of 2018, and v2 where the server knows nothing of 2018's login, or nobody answers at the
        service's address of 2018.

    Raises
    ------
    CredentialsMissing
        The variables hold no account for the interface.
    SettingsError
        A variable's value cannot be used.
    """
    if api is not None:
        apis = [api]
    elif has_account_of_2018_alone(environment):
        apis = [ApiVersion.V2018]
    else:
        apis = [ApiVersion.V2, ApiVersion.V1]
    services = [_service(environment, each) for each in apis]
    if api is None and services[0].api is ApiVersion.V2018:
        services.append(_v2_beside(services[0], environment))
    return tuple(services)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables without those that let somebody in: what the user runs needs none."""
    return {name: value for name, value in environment.items() if name not in (KEY_VARIABLE, "ASVO_PASS")}


def has_account_of_2018_alone(environment: Mapping[str, str]) -> bool:
    """Say whether the variables hold an account of 2018, or a part of one, and no key for today's service."""
    return not environment.get(KEY_VARIABLE) and any(environment.get(name) for name in ACCOUNT)


def _v2_beside(of_2018: Service, environment: Mapping[str, str]) -> Service:
    """Return the way to try v2 with an account of 2018.

    Where the user has named another server for 2018, and none for today's interfaces, it is that server.
    """
    if of_2018.is_default or environment.get("MWA_ASVO_HOST"):
        return _service(environment, ApiVersion.V2)
    there = {**environment, "MWA_ASVO_HOST": of_2018.address, "MWA_ASVO_PORT": ""}
    return replace(_service(there, ApiVersion.V2), name=of_2018.name)


def _service(environment: Mapping[str, str], api: ApiVersion) -> Service:
    family = "ASVO" if api is ApiVersion.V2018 else "MWA_ASVO"
    given = {name: environment.get(f"{family}_{name}", "") for name in ("HOST", "PORT")}
    is_plain = family == "MWA_ASVO" and environment.get("MWA_ASVO_HTTPS", "").strip().lower() in OFF
    address = address_of(given["HOST"], given["PORT"], api, scheme="http" if is_plain else "https")
    parts = urlsplit(address)
    is_default = parts.hostname == DEFAULT_HOST and parts.port == DEFAULT_PORTS[api]
    timeout = environment.get("MWA_ASVO_API_TIMEOUT", "")
    return Service(
        api=api,
        address=address,
        name=parts.netloc.removesuffix(f":{DEFAULT_PORTS[api]}"),
        credentials=_credentials(environment, api),
        is_default=is_default,
        verify=_verify(environment.get("SSL_VERIFY", "")),
        call_timeout=read_seconds("MWA_ASVO_API_TIMEOUT", timeout, CALL_TIMEOUT),
        client_name=_client_name(environment.get("MWA_ASVO_CLIENT", "").strip()),
        tokens=_tokens_path(environment, parts.netloc, is_default),
        delivery_roots=_delivery_roots(environment),
    )


def _credentials(environment: Mapping[str, str], api: ApiVersion) -> Credentials:
    key = environment.get("MWA_ASVO_API_KEY", "").strip()
    if api is not ApiVersion.V2018 and key:
        _check_text("MWA_ASVO_API_KEY", key)
        return Credentials(key=key)
    missing = [name for name in ACCOUNT if not environment.get(name)]
    if api is ApiVersion.V1 or (api is ApiVersion.V2 and missing):
        why = f", and the {api.value} interface needs it" if has_account_of_2018_alone(environment) else ""
        raise CredentialsMissing(
            f"No credentials: MWA_ASVO_API_KEY is not set{why}.", f"{HOW_TO_SET_KEY}\n{HOW_TO_PRACTISE}"
        )
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        exports = " ".join(f"{name}={ACCOUNT[name]}" for name in missing)
        how = f"For the service of 2018, your account there:\n    export {exports}\n{HOW_TO_PRACTISE}"
        if has_account_of_2018_alone(environment):
            why, how = "nor is MWA_ASVO_API_KEY", f"{HOW_TO_SET_KEY}\n{how}"
        else:
            why = "and the 2018 interface needs them"
        raise CredentialsMissing(f"No credentials: {' and '.join(missing)} {verb} not set, {why}.", how)
    for name in ACCOUNT:
        _check_text(name, environment[name])
    user, password = (environment[name] for name in ACCOUNT)
    if ":" in user:
        raise SettingsError("ASVO_USER must not contain a colon.", "Give the user name alone.")
    return Credentials(user, password)


def _check_text(name: str, value: str) -> None:
    """Refuse a value that no password or key can have, rather than let the service call it wrong.

    The message repeats no part of the value.
    """
    try:
        value.encode("utf-8")
    except UnicodeError:
        raise SettingsError(
            f"{name} contains a character that is not UTF-8.",
            "Set it again, from a terminal that uses UTF-8.",
        ) from None
    if re.search(r"[\x00-\x1f\x7f]", value):
        where = "at its end" if not re.search(r"[\x00-\x1f\x7f]", value.rstrip("\r\n")) else "in it"
        raise SettingsError(
            f"{name} has a line break or another control character {where}.",
            f'Set it without one; from a file: export {name}="$(cat FILE)"',
        )


def _tokens_path(environment: Mapping[str, str], host: str, is_default: bool) -> Path | None:
    """Return where v2's tokens are kept; for the default host, the file that other clients share."""
    home = environment.get("HOME")
    if not home:
        return None
    # The shared file names no host, and tokens of one server are refused by another.
    name = "tokens.json" if is_default else f"tokens-{re.sub('[^A-Za-z0-9.-]', '_', host)}.json"
    return Path(home) / USER_FOLDER / name


def _delivery_roots(environment: Mapping[str, str]) -> DeliveryRoots:
    words = environment.get("MWA_ASVO_SCRATCH_ROOTS", "")
    try:
        return roots_from(words, environment.get("HOME"), _home_by_the_system())
    except ValueError as error:
        raise SettingsError(
            f"MWA_ASVO_SCRATCH_ROOTS={words}: {error} cannot be a folder of deliveries.",
            "It must be absolute paths, separated by colons: /astro:/mnt/scratch.",
        ) from None


def _home_by_the_system() -> str | None:
    """Return the user's home from the system's list of users: cron and containers may change HOME."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return None


def _client_name(value: str) -> str:
    if not (value.isascii() and value.isprintable()) or ":" in value:
        raise SettingsError(
            f"MWA_ASVO_CLIENT={value} is not the name of a client.", f"It must be one like {CLIENT_NAME}."
        )
    return value or CLIENT_NAME


def _verify(value: str) -> bool | str:
    word = value.strip().lower()
    if word in ("", "1", "true", "yes", "on"):
        return True
    if word in OFF:
        return False
    if Path(value.strip()).exists():
        return value.strip()
    raise SettingsError(f"SSL_VERIFY={value}: no such file.", "It must be 1, 0 or the path of a .pem file.")


def read_seconds(name: str, value: str | None, default: float) -> float:
    """Return the time that a variable or option holds, in seconds, or the default where it is not given.

    Raises
    ------
    SettingsError
        The value is no time.
    """
    if value is None or not value.strip():
        return default
    seconds = seconds_in(value)
    if seconds is None or not 0 < seconds <= MOST_SECONDS:
        raise SettingsError(
            f"{name}={value} is not a time.",
            f"Give one like 90 (seconds), 90s, 10m, 1.5h or 1d; {time_in_short(MOST_SECONDS)} at most.",
        )
    return seconds
