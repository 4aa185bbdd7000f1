"""One call over HTTP: a request goes out, and checked JSON, a stream of bytes or a clear error comes back.

Nothing that leaves this room names a credential: not an error, not a log, not a ``repr``.
"""

from __future__ import annotations

import http.cookiejar
import io
import logging
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import client as http_client
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import urllib3

from mwa_client.asvo.job import clean_text
from mwa_client.errors import (
    BadReply,
    ServiceError,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnreachable,
    SessionLost,
    SettingsError,
)
from mwa_client.jsontext import read_json
from mwa_client.pace import retry_after
from mwa_client.secrecy import hide, hide_in, keep_secret

LOG = logging.getLogger(__name__)
CONNECT_TIMEOUT = 20.0
MOST_REDIRECTS = 5
SMALL_READ = 1 << 14
READ_SIZE = 1 << 18
"""The most bytes that are taken at once where they must be copied."""
MOMENT = 1.0
"""Seconds without a byte after which the reader may look at something else, and read on."""
RECORDS = 16
"""Records of TLS (at most 16 kB each) that are taken at once."""
NO_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    urllib3.exceptions.LocationValueError,
    UnicodeError,
)


class Reply:
    """An answer whose body is read bit by bit.

    Attributes
    ----------
    status : int
        The HTTP status.
    headers : mapping
        The headers; names in any case.
    """

    def __init__(self, response: requests.Response, stall: float) -> None:
        self._response = response
        self._stall = stall
        self._straight: _Straight | None = None
        self._is_read = False
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers

    def read_into(self, room: memoryview) -> int | None:
        """Put what has arrived into `room`; return how many bytes, 0 at the end, None for none yet.

        It returns as soon as there is something, and after a moment if there is nothing.

        Raises
        ------
        ServiceUnavailable
            The connection broke or nothing came for too long.
        """
        if not self._is_read:
            self._is_read = True
            self._straight = _Straight.of(self._response.raw, self._stall)
        if self._straight is not None:
            with _errors_explained():
                return self._straight.read_into(room)
        data = self.read(min(len(room), READ_SIZE))
        room[: len(data)] = data
        return len(data)

    def read(self, most: int) -> bytes:
        """Return what has arrived, at most so many bytes; ``b""`` at the end.

        Raises
        ------
        ServiceUnavailable
            The connection broke or nothing came for too long.
        """
        # Read as it comes: a read that waits for a full buffer loses it when the connection dies.
        raw = self._response.raw
        with _errors_explained():
            if hasattr(raw, "read1"):
                return bytes(raw.read1(most, decode_content=False))
            # urllib3 before 2.2 has no read1: let the buffer be small.
            return bytes(raw.read(min(most, SMALL_READ), decode_content=False))

    def close(self) -> None:
        """Drop the connection. Safe to call twice, and from another thread."""
        self._response.close()


class _Straight:
    """The body of a plain answer, received from the socket into the reader's own memory.

    The libraries would copy each byte twice on its way, and lose what has come when a read times out.
    """

    def __init__(
        self, raw: urllib3.HTTPResponse, http: http_client.HTTPResponse, socket: socket.socket, stall: float
    ) -> None:
        self._raw, self._http, self._socket = raw, http, socket
        self._left = http.length or 0
        self._stall, self._silent = stall, 0.0
        self._moment = min(MOMENT, stall)
        self._records = RECORDS if isinstance(socket, ssl.SSLSocket) else 1
        self._early: memoryview | None = None

    @classmethod
    def of(cls, raw: urllib3.HTTPResponse, stall: float) -> _Straight | None:
        """Return how to read an answer straight, or None where its body or the library does not allow it."""
        http = getattr(raw, "_fp", None)
        socket = getattr(getattr(raw, "connection", None), "sock", None)
        if not isinstance(http, http_client.HTTPResponse) or socket is None:
            return None
        return cls(raw, http, socket, stall) if http.fp and http.length and not http.chunked else None

    def read_into(self, room: memoryview) -> int | None:
        room = room[: self._left]
        if not room:
            return 0
        try:
            count = self._take_early(room) or self._receive(room)
        except socket.timeout:
            self._silent += self._moment
            if self._silent >= self._stall:
                raise
            return None
        if not count:
            raise ConnectionError  # It closed early.
        self._silent = 0.0
        self._left -= count
        if not self._left:
            self._http.close()
            self._raw.release_conn()
        return count

    def _take_early(self, room: memoryview) -> int:
        """Return what came together with the headers and is in the library's buffer."""
        if self._early is None:
            self._early = memoryview(b"")  # If nothing comes now, then the buffer was empty.
            self._socket.settimeout(self._moment)
            self._early = memoryview(self._http.fp.read1(min(self._left, io.DEFAULT_BUFFER_SIZE)))
        count = min(len(room), len(self._early))
        room[:count], self._early = self._early[:count], self._early[count:]
        return count

    def _receive(self, room: memoryview) -> int:
        count = self._socket.recv_into(room)
        try:
            for _ in range(1, self._records):
                if not 0 < count < len(room):
                    break
                more = self._socket.recv_into(room[count:])
                if not more:
                    break
                count += more
        except OSError:
            pass  # What has come is kept; the next read meets the same.
        return count


class Wire:
    """The HTTP side of one service: its address, its cookies, its time-outs.

    It can be used from several threads; each has connections of its own.

    Parameters
    ----------
    address : str
        Scheme, host and port: ``https://asvo.mwatelescope.org:8778``.
    verify : bool or str
        Whether certificates are verified, or the path of a bundle of authorities to verify them with.
    timeout : float
        Seconds without a byte after which a call is given up.
    stall : float
        Seconds without a byte after which a download's connection is dropped.
    user_agent : str
        A request without one is refused by the service's firewall.

    Raises
    ------
    SettingsError
        There are no certificates at the path given with `verify`.

    Attributes
    ----------
    cookies : mapping of str to str
        What goes with each call to the service, and to no other host.
    received : mapping of str to str
        The cookies that the last call has brought.
    """

    def __init__(
        self, address: str, *, verify: bool | str, timeout: float, stall: float, user_agent: str
    ) -> None:
        self.address = address
        self._verify = verify
        self._timeout = timeout
        self._stall = stall
        self._user_agent = user_agent
        self.cookies: Mapping[str, str] = {}
        self.received: Mapping[str, str] = {}
        self._local = threading.local()
        self._sessions: list[tuple[threading.Thread, requests.Session]] = []
        self._lock = threading.Lock()
        if isinstance(verify, str):
            _check_authorities(verify)
        if verify is False:
            # The user has switched it off and is told so aloud, once, elsewhere.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def close(self) -> None:
        """Close the connections of all threads."""
        for _, session in self._sessions:
            session.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        json: Mapping[str, object] | None = None,
    ) -> Any:
        """Make one call and return its JSON.

        Raises
        ------
        SessionLost
            The service does not know this session (401).
        ServiceRefused
            The service said no: another 4xx. Its own words are in the message.
        ServiceUnavailable
            No usable answer this time. Whether the call was acted on is not known.
        """
        response = self._request(method, self.address + path, query=query, form=form, json=json)
        self._raise_for_status(response)
        self.received = response.cookies.get_dict()
        return _json_of(response)

    def login(self, path: str, auth: tuple[str, str]) -> None:
        """Log in with HTTP Basic and keep the cookies that come back.

        Raises
        ------
        SessionLost, ServiceRefused, ServiceUnavailable
            As `call`.
        """
        self.cookies = {}
        # As bytes: from a string, requests makes Latin-1, which not every password can be written in.
        user, password = (text.encode("utf-8", "surrogateescape") for text in auth)
        basic = requests.auth.HTTPBasicAuth(user, password)
        response = self._request("POST", self.address + path, auth=basic)
        self._raise_for_status(response)
        if not response.cookies:
            raise BadReply(f"{self.address} answered the login without opening a session.")
        self.cookies = response.cookies.get_dict()
        keep_secret(*self.cookies.values())

    def open(self, path: str, *, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        """Start a download and return the answer, its body unread.

        Redirects are followed; cookies go to the service alone.

        Raises
        ------
        ServiceUnavailable
            No usable answer this time.
        """
        return self._open(self.address + path, query, headers)

    def open_elsewhere(self, url: str, headers: Mapping[str, str]) -> Reply:
        """Start a download from another party's host, which is told nothing of the session.

        Raises
        ------
        ServiceUnavailable
            No usable answer this time.
        """
        return self._open(url, {}, headers, bare=True)

    def _open(
        self, url: str, query: Mapping[str, str], headers: Mapping[str, str], bare: bool = False
    ) -> Reply:
        for _ in range(MOST_REDIRECTS + 1):
            response = self._request("GET", url, query=query, headers=headers, stream=True, bare=bare)
            if not response.is_redirect:
                return Reply(response, self._stall)
            response.close()
            url, query = urljoin(url, response.headers["Location"]), {}
        raise BadReply("The product's address redirects in a circle.")

    def _request(
        self,
        method: str,
        url: str,
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Mapping[str, object] | None = None,
        auth: requests.auth.AuthBase | None = None,
        stream: bool = False,
        bare: bool = False,
    ) -> requests.Response:
        is_ours = not bare and _origin(url) == _origin(self.address)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        with _errors_explained(_host(url)):
            response = self._connections().request(
                method,
                url,
                params=query,
                data=form,
                json=json,
                headers={**(headers or {}), **({"Cookie": cookie} if is_ours and cookie else {})},
                auth=auth,
                stream=stream,
                timeout=(CONNECT_TIMEOUT, self._stall if stream else self._timeout),
                verify=self._verify,
                allow_redirects=False,
            )
        # Without the query: it can hold a signature.
        place = f"{_host(url)}{urlsplit(url).path}"
        LOG.debug(
            "%s %s: %d in %.2f s", method, place, response.status_code, response.elapsed.total_seconds()
        )
        return response

    def _connections(self) -> requests.Session:
        """Return this thread's kept-alive connections."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.headers["User-Agent"] = self._user_agent
            # Proxies are taken from the environment as usual; a password from ~/.netrc is not.
            session.auth = _no_auth
            # Cookies are kept by this object for all threads, so no session keeps its own.
            session.cookies.set_policy(_NoCookies())
            self._local.session = session
            self._keep(session)
        return session

    def _keep(self, session: requests.Session) -> None:
        """Keep the session of this thread; close those of threads that have ended."""
        with self._lock:
            for thread, old in self._sessions:
                if not thread.is_alive():
                    old.close()
            kept = [(thread, old) for thread, old in self._sessions if thread.is_alive()]
            self._sessions = [*kept, (threading.current_thread(), session)]

    def _raise_for_status(self, response: requests.Response) -> None:
        status = response.status_code
        if 200 <= status < 300:
            return
        body = _body_of(response)
        said = _explanation(response, body)
        if status == 401:
            raise SessionLost(f"The service does not know this session: {said}", status=status, body=body)
        if status in (408, 425, 429) or status >= 500:
            raise ServiceUnavailable(
                f"The service is not available: {said}", retry_after=retry_after(response.headers)
            )
        if 300 <= status < 400:
            raise BadReply(f"{self.address} sends us elsewhere; is the address right?")
        raise ServiceRefused(f"The service refused: {said}", status=status, body=body)


# --- Errors, in words ---------------------------------------------------------------------------------


@contextmanager
def _errors_explained(address: str = "the service") -> Iterator[None]:
    """Turn what the libraries raise into one of our errors, without URLs (they can hold signatures)."""
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise _explained(error, address) from None


def _explained(error: Exception, address: str) -> ServiceError:
    chain = list(_causes(error))

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in chain)

    if "TLS CA certificate bundle" in str(error):
        return ServiceRefused(
            "The certificates of authorities, which servers are checked with, are not where they should be.",
            "Correct REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE in the environment, or unset it.",
        )
    if caused_by(requests.exceptions.SSLError, urllib3.exceptions.SSLError, ssl.SSLError):
        words = " ".join(str(cause) for cause in chain)
        if "CERTIFICATE_VERIFY_FAILED" in words or "doesn't match" in words:
            return ServiceRefused(
                f"The certificate of {address} cannot be verified.",
                "Check the address and this machine's clock and certificates. "
                "If you know why and trust the network, SSL_VERIFY=0 switches the check off.",
            )
        return ServiceUnavailable(f"The encrypted connection to {address} failed.")
    if caused_by(socket.gaierror):
        return ServiceUnreachable(f"No such host, or no network: {address}.")
    if caused_by(urllib3.exceptions.NewConnectionError):
        return ServiceUnreachable(f"Nobody answers at {address} ({_system_words(chain)}).")
    if caused_by(requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError):
        return ServiceUnreachable(f"Nobody answers at {address} (no connection in {CONNECT_TIMEOUT:.0f} s).")
    if caused_by(requests.Timeout, urllib3.exceptions.TimeoutError, socket.timeout):
        return ServiceUnavailable(f"No answer from {address} in time.")
    if isinstance(error, NO_ADDRESS):
        return ServiceRefused(f"{address} is not an address that can be called.")
    return ServiceUnavailable(f"The connection to {address} broke ({_system_words(chain)}).")


def _check_authorities(path: str) -> None:
    kind = "capath" if Path(path).is_dir() else "cafile"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(**{kind: path})
    except OSError:
        raise SettingsError(
            f"SSL_VERIFY={path}: there are no certificates of authorities.", "It must be 1, 0 or a .pem file."
        ) from None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all that caused it, also those that the libraries carry in other places."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            # A reason can also be a word.
            waiting += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]


def _system_words(chain: list[BaseException]) -> str:
    """Return the operating system's words for what went wrong, without addresses."""
    for cause in chain:
        if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, requests.RequestException):
            return cause.strerror.lower()
    return "connection closed early"


def _body_of(response: requests.Response) -> object:
    """Return a refusal's JSON, or its text where it is none."""
    try:
        return hide_in(read_json(_text_of(response)), is_foreign=True)
    except ValueError:
        return hide(_text_of(response), is_foreign=True)[:20_000]


def _explanation(response: requests.Response, body: object) -> str:
    """Return the service's own words for a refusal, from JSON, HTML or plain text."""
    if isinstance(body, dict):
        said = [body[key] for key in ("error", "message", "detail", "suggestion") if _is_text(body.get(key))]
        fields = body.get("field_errors")
        for entry in fields if isinstance(fields, list) else []:
            if isinstance(entry, dict):
                said.append(f"{entry.get('field')}: {entry.get('message')}")
        if said:
            return clean_text(" ".join(said))
    text = body if isinstance(body, str) else _text_of(response)[:20_000]
    if "<" in text:
        text = re.sub(r"(?si)<(style|script|head)\b.*?</\1>", " ", text)
        text = re.sub(r"(?s)<[^>]*>", " ", text)
    return clean_text(text) or clean_text(f"HTTP {response.status_code} {response.reason or ''}")


def _text_of(response: requests.Response) -> str:
    # Not response.text: it believes whatever character set the reply claims to be in.
    return response.content.decode("utf-8-sig", "replace")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _json_of(response: requests.Response) -> Any:
    try:
        return read_json(_text_of(response))
    except ValueError:
        kind = clean_text(response.headers.get("Content-Type", "something else"), 60)
        raise BadReply(f"The service answered with {kind} where JSON was expected.") from None


def _host(url: str) -> str:
    """Return a URL's scheme, host and port: the rest can hold a signature."""
    parts = _split(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else "What the service gave"


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = _split(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port


def _split(url: str) -> SplitResult:
    """Return a URL's parts; of one that is none, nothing: it will be refused when it is called."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (it raises)
    except ValueError:
        return urlsplit("")
    return parts


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _NoCookies(http.cookiejar.DefaultCookiePolicy):
    def set_ok(self, cookie: object, request: object) -> bool:
        return False
