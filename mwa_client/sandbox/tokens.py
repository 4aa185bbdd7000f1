"""Access and refresh tokens: JSON web tokens (RFC 7519) that say when they end.

Whether a token is still good is for the service to know.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hmac
import json
import secrets
from typing import Any


class TokenKind(enum.Enum):
    """What a token is good for."""

    ACCESS = "access"
    REFRESH = "refresh"

    @property
    def seconds(self) -> int:
        """Seconds until a token expires."""
        return 900 if self is TokenKind.ACCESS else 7 * 86400

    @property
    def cookie(self) -> str:
        """The cookie that carries the token."""
        return f"mwa_{self.value}_token"


class TokenMaker:
    """Makes tokens, signed with a secret of its own (HS256)."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def make(self, kind: TokenKind, now: float) -> str:
        """Return a new token that is good from now on."""
        payload = {
            "sub": "7",
            "type": kind.value,
            "iat": int(now),
            "exp": int(now) + kind.seconds,
            "jti": secrets.token_hex(8),
        }
        text = f"{_encoded({'alg': 'HS256', 'typ': 'JWT'})}.{_encoded(payload)}"
        return f"{text}.{_base64(hmac.digest(self._secret, text.encode(), 'sha256'))}"


def payload_of(token: str) -> dict[str, Any]:
    """Return the claims of a token; none if it is not a token."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return {}
    return payload if isinstance(payload, dict) else {}


def is_of_kind(token: str, kind: TokenKind) -> bool:
    """Return whether a token is of this kind."""
    return bool(payload_of(token).get("type") == kind.value)


def is_in_time(token: str, now: float) -> bool:
    """Return whether a token has not expired."""
    return bool(payload_of(token).get("exp", 0) > now)


def _encoded(document: dict[str, Any]) -> str:
    return _base64(json.dumps(document, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
