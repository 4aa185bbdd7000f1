"""Errors of the HTTP libraries in words: what happened, who is at fault, which setting to check.

No message has a URL in it: it can hold a signature. Of a proxy it has the place, not the password.
"""

from __future__ import annotations

import http.client as http_client
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import requests
import urllib3

from mwa_client.asvo.call import CallStage, HttpCall
from mwa_client.asvo.limits import CONNECT_TIMEOUT
from mwa_client.asvo.proxies import Proxy
from mwa_client.descriptors import OUT_OF_THEM
from mwa_client.errors import (
    MwaClientError,
    NoConnectionOpened,
    ServiceError,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnreachable,
    Stopped,
)

NO_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    urllib3.exceptions.LocationValueError,
    UnicodeError,
)
NOT_ENCRYPTED = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
"""What OpenSSL says if the server does not speak TLS."""
ALERT = "\x15\x03"
"""The first bytes of a TLS server's answer to plain HTTP."""
BUNDLES = "REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE"


@contextmanager
def errors_explained(call: HttpCall) -> Iterator[None]:
    """Turn whatever the libraries raise into one of our errors, so that an odd answer ends only its call."""
    try:
        yield
    except MwaClientError:
        raise
    except Exception as error:
        if call.is_closed:
            raise Stopped("The connection to the service was closed.") from None
        raise _explained(_Failure(error), call) from None


class _Failure:
    """An error and all that caused it."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.chain = list(_causes(error))

    def is_a(self, *kinds: type[BaseException]) -> bool:
        """Say whether one of these kinds is among the causes."""
        return any(isinstance(cause, kinds) for cause in self.chain)

    def says(self, *words: str) -> bool:
        """Say whether the libraries' own words have one of these in them."""
        return any(word in str(cause) for cause in self.chain for word in words)

    @property
    def is_of_encryption(self) -> bool:
        return self.is_a(requests.exceptions.SSLError, urllib3.exceptions.SSLError, ssl.SSLError)

    @property
    def is_of_certificates(self) -> bool:
        return self.is_of_encryption and self.says("CERTIFICATE_VERIFY_FAILED", "doesn't match")

    @property
    def is_of_time(self) -> bool:
        return self.is_a(urllib3.exceptions.ReadTimeoutError, socket.timeout)

    @property
    def tunnel_status(self) -> int:
        """The status with which the proxy refused to connect to the service; 0 if it did not refuse."""
        for cause in self.chain:
            match = re.match(r"Tunnel connection failed: ([0-9]{3})\b", str(cause))
            if match is not None:
                return int(match[1])
        return 0

    @property
    def numbers(self) -> list[int | None]:
        """The operating system's error numbers."""
        return [cause.errno for cause in self.chain if isinstance(cause, OSError)]

    @property
    def words(self) -> str:
        """The operating system's description of the error, without addresses."""
        for cause in self.chain:
            is_plain = isinstance(cause, OSError) and not isinstance(cause, requests.RequestException)
            if is_plain and isinstance(cause, OSError) and cause.strerror and not self.is_of_encryption:
                return cause.strerror.lower()
        return "connection closed early"


def is_out_of_descriptors(error: Exception) -> bool:
    """Say whether a connection could not be opened because no more files and connections can be."""
    return any(number in OUT_OF_THEM for number in _Failure(error).numbers)


def has_hung_up(error: Exception) -> bool:
    """Say whether the other side has closed the connection, rather than said nothing or nonsense."""
    return _Failure(error).is_a(ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


def _explained(failure: _Failure, call: HttpCall) -> ServiceError:
    if is_out_of_descriptors(failure.error):
        return NoConnectionOpened()
    if failure.says("TLS CA certificate bundle"):
        return no_authorities()
    if call.proxy is not None and not call.is_past_proxy and call.stage is not CallStage.ASKING:
        return _of_proxy(failure, call.proxy, call)
    address = _whom(call)
    if failure.is_of_certificates:
        return _of_certificates(address)
    if failure.is_of_encryption:
        if failure.says(*NOT_ENCRYPTED) and not call.has_answered(call.address):
            return ServiceRefused(
                f"The encrypted connection to {address} failed: the server there does not use encryption.",
                "Check the port; if the service is on a network that you trust, its address may begin with http://.",
            )
        return ServiceUnavailable(f"The encrypted connection to {address} failed.")
    if failure.is_a(socket.gaierror):
        return ServiceUnreachable(f"No such host, or no network: {address}.")
    if failure.is_a(urllib3.exceptions.NewConnectionError):
        return ServiceUnreachable(f"Cannot connect to {address} ({failure.words}).")
    if call.stage is CallStage.CONNECTING and failure.is_of_time:
        return ServiceUnreachable(f"Cannot connect to {address} (no answer in {CONNECT_TIMEOUT:.0f} s).")
    if failure.is_of_time and call.has_headers and call.has_deadline:
        return ServiceUnavailable(
            f"Only a part of the answer from {address} arrived in time.",
            "MWA_ASVO_API_TIMEOUT sets how many seconds a call may take.",
        )
    if failure.is_of_time:
        return ServiceUnavailable(f"No answer from {address} in time.")
    if isinstance(failure.error, NO_ADDRESS):
        return ServiceRefused(f"{address} is not an address that can be used.")
    if _speaks_encrypted(failure) and not call.has_answered(call.address):
        return ServiceRefused(
            f"{address} accepts only encrypted connections.",
            "Its address must begin with https://; check the port, too.",
        )
    if _makes_no_sense(failure):
        return ServiceUnavailable(f"The answer from {address} is not valid HTTP.")
    return ServiceUnavailable(f"The connection to {address} broke ({failure.words}).")


def _of_proxy(failure: _Failure, proxy: Proxy, call: HttpCall) -> ServiceError:
    """Explain what went wrong before the service was reached: the proxy is at fault, or how it is set."""
    known = call.has_answered(proxy.place)
    status = failure.tunnel_status
    what, hint = f"T{str(proxy)[1:]}", proxy.hint
    if status == 407:
        return no_proxy_login(proxy, call)
    if status in (502, 503, 504):
        return ServiceUnreachable(f"{what} cannot reach {call.address} (HTTP {status}).", proxy.hint)
    if status in (408, 425, 429) or status >= 500:
        return ServiceUnreachable(f"{what} is not available (HTTP {status}).", hint)
    if status:
        return ServiceRefused(f"{what} refuses to connect to {call.address} (HTTP {status}).", hint)
    if failure.is_of_certificates:
        return ServiceRefused(f"The certificate of {proxy} cannot be verified.", hint)
    if failure.says("SOCKS support"):
        return ServiceRefused(
            f"The package PySocks is needed for {proxy}.", "Install it: pip install pysocks"
        )
    if not known:
        if failure.is_of_encryption and failure.says(*NOT_ENCRYPTED):
            return ServiceRefused(
                f"{what} does not use encryption.",
                f"Write it with http:// instead of https://. {hint}",
            )
        if _speaks_encrypted(failure):
            return ServiceRefused(
                f"{what} accepts only encrypted connections.",
                f"Write it with https:// instead of http://. {hint}",
            )
        if failure.is_a(socket.gaierror) and socket.EAI_AGAIN not in failure.numbers:
            return ServiceRefused(f"{what} cannot be found: no such host, or no network.", hint)
        if isinstance(failure.error, NO_ADDRESS):
            return ServiceRefused(f"{proxy.variable} in the environment is not an address.", hint)
    reason = "no answer in time" if failure.is_of_time else failure.words
    if failure.is_a(socket.gaierror):
        reason = "no such host, or no network"
    return ServiceUnreachable(
        f"{what} does not answer ({reason}), so {call.address} cannot be reached.", hint
    )


def no_proxy_login(proxy: Proxy, call: HttpCall) -> ServiceError:
    """Return the error for a proxy that wants to know who asks; one that knew us before will again."""
    what = f"T{str(proxy)[1:]} needs a user name and password, or does not accept those given (HTTP 407)."
    hint = f"Put them into its address: http://NAME:PASSWORD@{proxy.place}. {proxy.hint}"
    if call.has_answered(proxy.place):
        return ServiceUnreachable(what, hint)
    return ServiceRefused(what, hint, status=407)


def no_authorities() -> ServiceRefused:
    """Return the error for a path in the environment that has no certificates of authorities."""
    return ServiceRefused(
        "The CA certificates, with which servers are verified, are missing.",
        f"Correct {BUNDLES} in the environment, or unset it.",
    )


def _of_certificates(address: str) -> ServiceRefused:
    return ServiceRefused(
        f"The certificate of {address} cannot be verified.",
        "Check the address and this machine's clock and certificates "
        f"({BUNDLES} in the environment names others). "
        "If you know why and trust the network, SSL_VERIFY=0 turns the check off.",
    )


def _whom(call: HttpCall) -> str:
    """Return the server's address, and the proxy's if there is one."""
    return call.address if call.proxy is None else f"{call.address} through {call.proxy}"


def _speaks_encrypted(failure: _Failure) -> bool:
    if not failure.is_a(http_client.BadStatusLine):
        return False
    return failure.says(ALERT, repr(ALERT)[1:-1])


def _makes_no_sense(failure: _Failure) -> bool:
    """Say whether an answer came that is no HTTP, rather than none or half of one."""
    if failure.is_a(http_client.RemoteDisconnected, http_client.IncompleteRead):
        return False
    if failure.is_a(http_client.HTTPException):
        return True
    return not isinstance(failure.error, (OSError, urllib3.exceptions.HTTPError))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes, wherever the libraries keep them."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            # `reason` can also be a text.
            waiting += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
