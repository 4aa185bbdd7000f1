"""Which proxy a request goes through, and its name in messages, which never has the password."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import field

import requests

from mwa_client.errors import ServiceRefused
from mwa_client.light_dataclasses import dataclass

SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
PLACE = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


@dataclass(frozen=True)
class Proxy:
    """A proxy, as the environment names it.

    Attributes
    ----------
    scheme : str
        How it is spoken to.
    place : str
        Its host and port.
    variable : str
        Where it was found.
    """

    scheme: str
    place: str
    variable: str
    _url: str = field(repr=False)

    def __str__(self) -> str:
        return f"the proxy {self.place} ({self.variable})"

    @property
    def hint(self) -> str:
        """Which settings the user can check."""
        capitals = self.variable.upper()
        return f"Check {self.variable} (or {capitals}) and no_proxy in the environment."

    @classmethod
    def of(cls, url: str, proxies: Mapping[str, str]) -> Proxy | None:
        """Return the proxy for a URL, or None if none is used.

        Raises
        ------
        ServiceRefused
            The environment names one that cannot be used.
        """
        chosen = requests.utils.select_proxy(url, dict(proxies))
        if not chosen:
            return None
        kind = url.partition(":")[0].lower()
        variable = f"{kind if chosen == proxies.get(kind) else 'all'}_proxy"
        # A password can hold anything, so the host begins after the last @.
        scheme, separator, rest = chosen.rpartition("@")[2].rpartition("://")
        if "@" in chosen:
            scheme, separator, _ = chosen.partition("://")
        scheme, place = (scheme.lower() if separator else "http"), re.split(r"[/?#]", rest)[0]
        proxy = cls(scheme, place if PLACE.fullmatch(place) else "there", variable, chosen)
        if scheme not in SCHEMES or not _is_usable(place):
            raise ServiceRefused(
                f"{variable} in the environment is not the address of a proxy.",
                f"It must be http://host:port. {proxy.hint}",
            )
        return proxy


def is_on_this_machine(host: str) -> bool:
    """Say whether a host is this machine itself, which no proxy can reach."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _is_usable(place: str) -> bool:
    port = place.rpartition(":")[2] if re.search(r":[0-9]+$", place) else "80"
    return bool(PLACE.fullmatch(place)) and 0 < int(port) < 65536
