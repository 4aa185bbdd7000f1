"""Where the archive's service is, and who the user is there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import field
from pathlib import Path
from urllib.parse import urlsplit

from mwa_client.errors import SettingsError
from mwa_client.jobs.keys import ApiVersion
from mwa_client.light_dataclasses import dataclass
from mwa_client.secrecy import keep_secret
from mwa_client.transfer.delivered import DeliveryRoots

DEFAULT_HOST = "asvo.mwatelescope.org"
DEFAULT_PORTS = {ApiVersion.V2018: 8778, ApiVersion.V1: 443, ApiVersion.V2: 443}
CLIENT_NAME = "mantaray-clientv2.0"
"""The client name and version that v1 and v2 are told at the login. They may refuse a client that they do not
know, and this is the client whose protocol we speak."""
CALL_TIMEOUT = 60.0
STALL_TIMEOUT = 60.0
DEFAULT_DELIVERY_ROOTS = DeliveryRoots()


@dataclass(frozen=True)
class Credentials:
    """A user's account: name and password, or an API key. Its ``repr`` shows neither password nor key."""

    user: str = ""
    password: str = field(default="", repr=False)
    key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        keep_secret(self.password, user=self.user)
        keep_secret(self.key)


@dataclass(frozen=True)
class Service:
    """One way to reach the service: which interface, at which address, as which user.

    Attributes
    ----------
    api : ApiVersion
        The interface.
    address : str
        Scheme, host and port.
    name : str
        The service's name in the ledger: its host, and its port if that is not the usual one.
    credentials : Credentials
        The user's account.
    is_default : bool
        The address is the archive's own; the user has set no other.
    verify : bool or str
        Whether certificates are verified, or the path of the authorities to verify them with.
    call_timeout : float
        Seconds that a call may take, from the connection to the last byte of its answer.
    stall_timeout : float
        Seconds without a byte after which a download's connection is dropped.
    client_name : str
        The client name and version that v1 and v2 are told at the login.
    tokens : Path or None
        Where v2's tokens are kept between runs; None keeps them in memory.
    delivery_roots : DeliveryRoots
        Where deliveries to file systems may be copied from.
    shared_dir : Path or None
        The folder in which the parts of a batch tell each other when they log in; None: nobody else does.
    """

    api: ApiVersion
    address: str
    name: str
    credentials: Credentials
    is_default: bool = False
    verify: bool | str = True
    call_timeout: float = CALL_TIMEOUT
    stall_timeout: float = STALL_TIMEOUT
    client_name: str = CLIENT_NAME
    tokens: Path | None = None
    delivery_roots: DeliveryRoots = DEFAULT_DELIVERY_ROOTS
    shared_dir: Path | None = None

    @property
    def sends_password_in_clear(self) -> bool:
        """Whether the password would cross a network unencrypted."""
        parts = urlsplit(self.address)
        is_this_machine = parts.hostname in ("localhost", "127.0.0.1", "::1")
        return parts.scheme == "http" and not is_this_machine


def risks_of(services: Sequence[Service]) -> Iterator[str]:
    """Yield what a user should know of the ways to reach the service: who else can read what is sent."""
    if services[0].verify is False:
        yield "certificates are not verified (SSL_VERIFY=0): anyone along the way can read what is sent."
    in_clear = [service.address for service in services if service.sends_password_in_clear]
    if in_clear:
        yield f"{in_clear[0]} is not encrypted: anyone along the way can read the password."


def address_of(host: str, port: str, api: ApiVersion = ApiVersion.V2018, *, scheme: str = "https") -> str:
    """Return the address that the user's host (or URL) and port stand for.

    Parameters
    ----------
    host, port : str
        As the user gives them; empty for the archive's own.
    api : ApiVersion
        The interface, which decides the usual port.
    scheme : str
        ``http`` or ``https``, where the host is no URL.

    Raises
    ------
    SettingsError
        They are no address.

    Examples
    --------
    >>> address_of("", "")
    'https://asvo.mwatelescope.org:8778'
    """
    family = "ASVO" if api is ApiVersion.V2018 else "MWA_ASVO"
    host, port = host.strip() or DEFAULT_HOST, port.strip()
    if port and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise SettingsError(f"{family}_PORT={port} is not a port.", "It must be a number from 1 to 65535.")
    if "@" in host:
        raise SettingsError(
            f"{family}_HOST must not contain a user name or password.",
            "Put them in ASVO_USER and ASVO_PASS, or use MWA_ASVO_API_KEY.",
        )
    try:
        parts = urlsplit(host if "://" in host else f"{scheme}://{host}")
        # A host name in other scripts than Latin is looked up by its ASCII form.
        name = (parts.hostname or "").encode("idna").decode("ascii")
        own_port = parts.port
    except ValueError:
        name, own_port, parts = "", None, urlsplit("")
    # Some libraries drop these characters and some read them as a slash, so the host could be misread.
    is_odd = re.search(r"[\\\x00-\x20\x7f]", host) or not re.fullmatch(
        r"[A-Za-z0-9._-]+|[0-9a-f:.]*:[0-9a-f:.]*", name
    )
    is_odd = is_odd or ("[" in host) != (":" in name)
    is_plain = parts.path in ("", "/") and not parts.query and not parts.fragment
    if parts.scheme not in ("http", "https") or not is_plain or is_odd:
        raise SettingsError(
            f"{family}_HOST={host} is not an address.",
            f"It must be a host name, or a URL without a path: "
            f"{DEFAULT_HOST}, https://{DEFAULT_HOST}:{DEFAULT_PORTS[api]}.",
        )
    shown = f"[{name}]" if ":" in name else name
    standard = 80 if parts.scheme == "http" else DEFAULT_PORTS[api]
    return f"{parts.scheme}://{shown}:{own_port or int(port or standard)}"
