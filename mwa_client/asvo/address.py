"""The one place that reads URLs: which server a URL names, or that it is too odd to be used."""

from __future__ import annotations

import re
from dataclasses import field
from urllib.parse import urljoin

from mwa_client.errors import ServiceRefused
from mwa_client.light_dataclasses import dataclass

URL = re.compile(
    r"""(?P<scheme>https?)://
        (?P<host>[a-z0-9_](?:[a-z0-9._-]{0,251}[a-z0-9_.])?|\[[0-9a-f:.]{2,45}\])
        (?::(?P<port>[0-9]{1,5}))?
        (?P<rest>[/?\#].*)?""",
    re.IGNORECASE | re.VERBOSE,
)
ODD = re.compile(r"[\\\x00-\x1f\x7f]")
"""Backslashes and control characters: some libraries read them as a slash, or leave them out."""
ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
SCHEME_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port of a URL. Its text can be shown; the rest of a URL can hold a signature."""

    scheme: str
    host: str
    port: int
    _written: str = field(compare=False)

    def __str__(self) -> str:
        return self._written


def origin_of(url: str) -> Origin:
    """Return the origin of a URL.

    Two libraries may read an odd one differently, one when it is judged and one when it is called: the
    session's cookie would go to a stranger. So what has a user name, a backslash, a blank in the host or a
    control character is refused.

    Raises
    ------
    ServiceRefused
        It is no URL, or an odd one.
    """
    match = None if ODD.search(url) else URL.fullmatch(url)
    if match is not None:
        scheme, host = match["scheme"].lower(), match["host"].lower()
        port = int(match["port"] or SCHEME_PORTS[scheme])
        if 0 < port < 65536 and all(0 < len(label) < 64 for label in host.rstrip(".").split(".")):
            return Origin(scheme, host, port, f"{scheme}://{host}" + (f":{port}" if match["port"] else ""))
    shown = f"{match['scheme']}://{match['host']}" if match is not None else "What the service gave"
    raise ServiceRefused(f"{shown} is not an address that can be used.")


def redirected(url: str, location: str) -> str:
    """Return where a redirect from a URL leads.

    Raises
    ------
    ServiceRefused
        It leads to no URL that can be used.
    """
    # The library reads headers as Latin-1, but those that are not ASCII are UTF-8.
    location = location.encode("latin-1", "replace").decode("utf-8", "replace")
    if ODD.search(location) or ABSOLUTE.match(location):
        there = location
    else:
        try:
            there = urljoin(url, location)
        except ValueError:
            there = ""
    origin_of(there)
    return there
