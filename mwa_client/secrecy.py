"""The secrets that this process knows, and how they are struck out of every text that leaves it.

Whoever reads or receives a password, a key or a token says so here, whoever shows a text asks here: the
service may quote a request, a server may name a file after a password.
"""

from __future__ import annotations

import base64
import html
import json
import re
import threading
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST = 4
"""Characters below which a secret is struck out only between quotation marks: too much else looks like it."""
SURE, SURE_WORD = 6, 16
"""Characters from which on a secret is no ordinary word or number: if it is mixed, and in any case."""
MOST_LEVELS = 50
"""Levels of lists and objects in each other that can be written; what makes sense has far fewer."""


class _Known:
    """All secrets of the process. What one part of the program learns must stay unsaid by all of them."""

    sure: tuple[str, ...] = ()
    words: frozenset[str] = frozenset()
    in_foreign_words: re.Pattern[str] | None = None
    lock = threading.Lock()


def keep_secret(*secrets: str, user: str | None = None) -> None:
    """Strike these out of every text from now on, however they may be written.

    Parameters
    ----------
    secrets : str
        Passwords, keys, tokens.
    user : str, optional
        The name that they are sent with by HTTP Basic.
    """
    forms = {form for secret in secrets if secret for form in _forms(secret, user)}
    sure = {form for form in forms if _is_sure(form)}
    with _Known.lock:
        if not sure.issubset(_Known.sure):
            _Known.sure = tuple(sorted(sure.union(_Known.sure), key=len, reverse=True))
        if not forms - sure <= _Known.words:
            _Known.words |= forms - sure
            _Known.in_foreign_words = re.compile("|".join(map(_standing_alone, _Known.words)))


def hide(text: str, *, is_foreign: bool = False) -> str:
    """Return a text without the secrets.

    Parameters
    ----------
    is_foreign : bool
        Others have written it, the service for instance. A password that is an ordinary word is struck out
        there alone: a hole in a sentence of ours, or in the name of a directory, would tell what it is.
    """
    for secret in _Known.sure:
        if secret in text:
            text = text.replace(secret, MASK)
    pattern = _Known.in_foreign_words if is_foreign else None
    return text if pattern is None else pattern.sub(MASK, text)


def hide_in(value: object, *, is_foreign: bool = False, levels: int = MOST_LEVELS) -> Any:
    """Return what JSON can say, without the secrets in its texts, and without what is nested too deep."""
    if isinstance(value, str):
        return hide(value, is_foreign=is_foreign)
    if not isinstance(value, (Mapping, list, tuple)):
        return value
    if not levels:
        return None
    inside = partial(hide_in, is_foreign=is_foreign, levels=levels - 1)
    if isinstance(value, Mapping):
        return {hide(str(key)): inside(inner) for key, inner in value.items()}
    return [inside(inner) for inner in value]


@lru_cache(maxsize=64)
def _forms(secret: str, user: str | None) -> frozenset[str]:
    """Return the ways in which a secret may be written by those who quote it."""
    data = secret.encode("utf-8", "surrogateescape")
    quoted = {quote(data), quote(data, safe=""), quote_plus(data)}
    forms = {
        secret,
        " ".join(secret.split()),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        html.escape(secret),
        html.escape(secret, quote=False),
        *quoted,
        *(re.sub("%[0-9A-F]{2}", lambda byte: byte[0].lower(), form) for form in quoted),
    }
    forms |= set(_in_base64(data))
    if user is not None:
        forms |= set(_in_base64(user.encode("utf-8", "surrogateescape") + b":" + data))
    return frozenset(form for form in forms if form)


def _in_base64(data: bytes) -> Iterator[str]:
    for encoded in (base64.b64encode(data), base64.urlsafe_b64encode(data)):
        yield encoded.decode()
        yield encoded.decode().rstrip("=")


def _is_sure(form: str) -> bool:
    """Say whether a secret cannot be taken for an ordinary word."""
    is_mixed = not (form.isalpha() or form.isdigit())
    return len(form) >= (SURE if is_mixed else SURE_WORD)


def _standing_alone(form: str) -> str:
    """Return the pattern that finds a secret that may be an ordinary word."""
    if len(form) >= SHORTEST:
        return rf"(?<![\w./-]){re.escape(form)}(?![\w/-])"
    return rf"(?<=[\"']){re.escape(form)}(?=[\"'])"
