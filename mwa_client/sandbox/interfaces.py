"""The interfaces that the service has had, by name.

What each of them says stands in a file of its own.
"""

from __future__ import annotations

import enum


class Interface(enum.Enum):
    """An interface of the practice service, or its object store."""

    V2018 = "2018"
    """User name and password; the products come from the service itself."""
    V1 = "v1"
    """API key and session cookie."""
    V2 = "v2"
    """API key and tokens, JSON both ways."""
    STORE = "store"
    """The object store: another party's host, which knows signed URLs and no users."""
