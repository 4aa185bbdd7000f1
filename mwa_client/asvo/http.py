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
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http import client as http_client
from pathlib import Path
from typing import Any, Callable

import requests
import urllib3

from mwa_client.asvo import replies
from mwa_client.asvo.address import Origin, origin_of, redirected
from mwa_client.asvo.http_errors import (
    errors_explained,
    is_out_of_descriptors,
    no_authorities,
    no_proxy_login,
)
from mwa_client.asvo.job import clean_text
from mwa_client.asvo.limits import CONNECT_TIMEOUT, Adapter, Call, Lines, running
from mwa_client.asvo.proxies import Proxy, is_on_this_machine
from mwa_client.errors import (
    BadReply,
    MwaClientError,
    ServiceRefused,
    ServiceUnavailable,
    SessionLost,
    SettingsError,
)
from mwa_client.json_text import read_json
from mwa_client.secrecy import hide, hide_in, keep_secret
from mwa_client.timing import retry_after

LOG = logging.getLogger(__name__)
MOST_REDIRECTS = 5
SMALL_READ = 1 << 14
READ_SIZE = 1 << 18
"""The most bytes that are taken at once where they must be copied."""
MOMENT = 1.0
"""Seconds without a byte after which the reader may look at something else, and read on."""
RECORDS = 16
"""Records of TLS (at most 16 kB each) that are taken at once."""


class StreamedResponse:
    """An answer whose body is read bit by bit.

    Attributes
    ----------
    status : int
        The HTTP status.
    headers : mapping
        The headers; names in any case.
    """

    def __init__(
        self,
        response: requests.Response,
        call: Call,
        stall: float,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._response = response
        self._on_close = on_close
        self._call = call
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
            with errors_explained(self._call):
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
        with errors_explained(self._call):
            if hasattr(raw, "read1"):
                return bytes(raw.read1(most, decode_content=False))
            # urllib3 before 2.2 has no read1: let the buffer be small.
            return bytes(raw.read(min(most, SMALL_READ), decode_content=False))

    def close(self) -> None:
        """Drop the connection. Safe to call twice, and from another thread."""
        self._response.close()
        on_close, self._on_close = self._on_close, lambda: None
        on_close()


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


class HttpClient:
    """The HTTP side of one service: its address, its cookies, its time-outs.

    It can be used from several threads; each call has a connection of its own meanwhile.

    Parameters
    ----------
    address : str
        Scheme, host and port: ``https://asvo.mwatelescope.org:8778``.
    verify : bool or str
        Whether certificates are verified, or the path of a bundle of authorities to verify them with.
    timeout : float
        Seconds that a call may take, from the connection to the last byte of its answer.
    stall : float
        Seconds without a byte after which a download's connection is dropped. Its headers must be there in
        the longer of the two times.
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
        self._lines = Lines()
        self._sessions: list[requests.Session] = []
        self._idle: list[requests.Session] = []
        self._lock = threading.Lock()
        self._checked: set[str] = set()
        if isinstance(verify, str) and not _has_authorities(verify):
            raise SettingsError(
                f"SSL_VERIFY={verify}: there are no certificates of authorities.",
                "It must be 1, 0 or a .pem file.",
            )
        if verify is False:
            # The user has switched it off and is told so aloud, once, elsewhere.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def close_idle(self) -> None:
        """Close the connections that are only kept for later calls."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def close(self) -> None:
        """Close all connections.

        A call or a download that another thread is in at this moment ends with `Stopped`.
        """
        self._lines.close()
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        json: Mapping[str, object] | None = None,
        allowance: replies.Allowance | None = None,
    ) -> Any:
        """Make one call and return its JSON.

        Parameters
        ----------
        method, path : str
            What is called.
        query, form, json : mapping, optional
            What is sent.
        allowance : Allowance, optional
            How much may come back, where several calls share it.

        Raises
        ------
        SessionLost
            The service does not know this session (401).
        ServiceRefused
            The service said no: another 4xx. Its own words are in the message.
        ServiceUnavailable
            No usable answer this time. Whether the call was acted on is not known.
        Stopped
            The wire was closed meanwhile.
        """
        with self._answer(method, path, query=query, form=form, json=json) as (response, call):
            self.received = _cookies_of(call)
            try:
                return replies.read_json(response, allowance or replies.Allowance.for_one())
            except replies.NotJson:
                raise _not_json(response) from None

    def entries(self, path: str) -> Iterator[object]:
        """Get a JSON list and yield its entries as they come: a list of jobs can be long.

        Raises
        ------
        SessionLost, ServiceRefused, ServiceUnavailable, Stopped
            As `call`.
        """
        with self._answer("GET", path) as (response, _):
            try:
                yield from replies.read_entries(response, replies.Allowance.for_listing())
            except replies.NotJson:
                raise _not_json(response) from None
            except replies.NotAList:
                raise BadReply("The service answered with something that is not a list of jobs.") from None

    def login(self, path: str, auth: tuple[str, str]) -> None:
        """Log in with HTTP Basic and keep the cookies that come back.

        What a login sets is the session, whatever it says of its host and its end: behind a tunnel the host
        has another name, and one of two clocks can be wrong.

        Raises
        ------
        SessionLost, ServiceRefused, ServiceUnavailable, Stopped
            As `call`.
        """
        self.cookies = {}
        # As bytes: from a string, requests makes Latin-1, which not every password can be written in.
        user, password = (text.encode("utf-8", "surrogateescape") for text in auth)
        basic = requests.auth.HTTPBasicAuth(user, password)
        with self._answer("POST", path, auth=basic) as (response, call):
            _drain(response, call)
        cookies = _cookies_of(call)
        if not cookies:
            raise BadReply(f"{self.address} answered the login without opening a session.")
        self.cookies = cookies
        keep_secret(*cookies.values())

    def open(self, path: str, *, query: Mapping[str, str], headers: Mapping[str, str]) -> StreamedResponse:
        """Start a download and return the answer, its body unread.

        Redirects are followed; cookies go to the service alone, and no more once a redirect has left it.

        Raises
        ------
        ServiceUnavailable
            No usable answer this time.
        """
        return self._open(self.address + path, query, headers)

    def open_elsewhere(self, url: str, headers: Mapping[str, str]) -> StreamedResponse:
        """Start a download from another party's host, which is told nothing of the session.

        Raises
        ------
        ServiceUnavailable
            No usable answer this time.
        """
        return self._open(url, {}, headers, is_ours=False)

    def _open(
        self, url: str, query: Mapping[str, str], headers: Mapping[str, str], is_ours: bool = True
    ) -> StreamedResponse:
        # For the headers, over all redirects; the body may take its time as long as bytes come.
        deadline = time.monotonic() + max(self._timeout, self._stall)
        service = origin_of(self.address)
        session = self._take_session()
        try:
            for _ in range(MOST_REDIRECTS + 1):
                origin = origin_of(url)
                is_ours = is_ours and origin == service
                call = Call(str(origin), deadline, self._stall, self._lines)
                response = self._request(
                    call, "GET", url, origin, is_ours, session, query=query, headers=headers
                )
                if not response.is_redirect:
                    call.lift_deadline()
                    return StreamedResponse(response, call, self._stall, lambda: self._idle.append(session))
                response.close()
                url, query = redirected(url, response.headers["Location"]), {}
            raise BadReply("The product's address redirects in a circle.")
        except BaseException:
            self._idle.append(session)
            raise

    def _call(
        self, session: requests.Session, method: str, path: str, **what: Any
    ) -> tuple[requests.Response, Call]:
        """Make a call of the API and return its answer, the body unread, if it is not a refusal."""
        origin = origin_of(self.address)
        call = Call(str(origin), time.monotonic() + self._timeout, self._timeout, self._lines)
        response = self._request(call, method, self.address + path, origin, True, session, **what)
        if not 200 <= response.status_code < 300:
            with closing(response):
                self._raise_for_status(response, call)
        return response, call

    def _request(
        self,
        call: Call,
        method: str,
        url: str,
        origin: Origin,
        is_ours: bool,
        session: requests.Session,
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Mapping[str, object] | None = None,
        auth: requests.auth.AuthBase | None = None,
    ) -> requests.Response:
        """Send a request and return the answer, its body unread."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {**(headers or {}), **({"Cookie": cookie} if is_ours and cookie else {})}
        with errors_explained(call):
            request = session.prepare_request(
                requests.Request(method, url, headers, params=query, data=form, json=json, auth=auth)
            )
            if origin_of(request.url or "") != origin:
                raise ServiceRefused(f"{origin} is not an address that can be called.")
            settings = session.merge_environment_settings(request.url, {}, True, self._verify, None)
            if is_on_this_machine(origin.host):
                settings["proxies"] = {}
            call.proxy = Proxy.of(request.url or "", settings["proxies"])
            self._check_authorities(settings["verify"], origin, call.proxy)
            with running(call):
                how: dict[str, Any] = {
                    "timeout": (CONNECT_TIMEOUT, call.silence),
                    "allow_redirects": False,
                    **settings,
                }
                try:
                    response = session.send(request, **how)
                except Exception as error:
                    if not is_out_of_descriptors(error):
                        raise
                    session.close()
                    self.close_idle()
                    response = session.send(request, **how)
        if call.proxy is not None:
            if response.status_code == 407:
                response.close()
                raise no_proxy_login(call.proxy)
            self._lines.note_answer(call.proxy.place)
        self._lines.note_answer(call.address)
        # Without the query: it can hold a signature.
        path = re.split("[?#]", request.path_url)[0]
        LOG.debug(
            "%s %s%s: %d in %.2f s",
            method, origin, path, response.status_code, response.elapsed.total_seconds(),
        )  # fmt: skip
        return response

    def _check_authorities(self, verify: bool | str | None, origin: Origin, proxy: Proxy | None) -> None:
        """Look at the authorities that the environment names, once; ours were looked at before."""
        is_needed = origin.scheme == "https" or (proxy is not None and proxy.scheme == "https")
        if not isinstance(verify, str) or not is_needed or verify in (self._verify, *self._checked):
            return
        if not _has_authorities(verify):
            raise no_authorities()
        self._checked.add(verify)

    @contextmanager
    def _answer(self, method: str, path: str, **what: Any) -> Iterator[tuple[requests.Response, Call]]:
        """Make a call of the API and give its answer, the body unread, if it is not a refusal."""
        session = self._take_session()
        try:
            response, call = self._call(session, method, path, **what)
            with closing(response), errors_explained(call):
                yield response, call
        finally:
            self._idle.append(session)

    def _take_session(self) -> requests.Session:
        """Return kept-alive connections that nobody uses now, those that were used last first.

        So there are never more of them than there are calls and downloads at the same time.
        """
        try:
            return self._idle.pop()
        except IndexError:
            return self._new_session()

    def _new_session(self) -> requests.Session:
        session = _Session()
        session.headers["User-Agent"] = self._user_agent
        with self._lock:
            self._sessions.append(session)
        return session

    def _raise_for_status(self, response: requests.Response, call: Call) -> None:
        status = response.status_code
        if 300 <= status < 400:
            raise BadReply(f"{self.address} sends us elsewhere; is the address right?")
        text = _text_of(response, call)
        body = _body_of(text)
        said = _explanation(response, text, body) + _reference(response, body)
        if call.proxy is not None and not call.is_past_proxy:
            said += f" (asked through {call.proxy})"
        is_own = _is_own(body)
        if status == 401:
            what = f"The service does not know this session: {said}"
            raise SessionLost(what, status=status, body=body, is_own=is_own)
        if status in (408, 425, 429) or status >= 500:
            raise ServiceUnavailable(
                f"The service is not available: {said}", retry_after=retry_after(response.headers)
            )
        raise ServiceRefused(f"The service refused: {said}", status=status, body=body, is_own=is_own)


class _Session(requests.Session):
    """Kept-alive connections that read nothing by themselves, and send nothing that they were not given."""

    def __init__(self) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, Adapter())
        # What the standard library can unpack, whatever else is installed.
        self.headers["Accept-Encoding"] = "gzip"
        # Proxies are taken from the environment as usual; a password from ~/.netrc is not.
        self.auth = _no_auth
        # Cookies are kept by the wire for all threads, so no session keeps its own.
        self.cookies.set_policy(_NoCookies())

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return none: the library would read the body of this answer before it made the next request."""
        return None


# --- What came back -----------------------------------------------------------------------------------


def _has_authorities(path: str) -> bool:
    """Say whether there are certificates of authorities at a path."""
    place = Path(path)
    try:
        if not (place.is_file() or place.is_dir()):
            return False
        kind = "capath" if place.is_dir() else "cafile"
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(**{kind: path})
    except (OSError, ValueError):
        return False
    return True


def _cookies_of(call: Call) -> dict[str, str]:
    """Return the cookies that an answer sets, whatever they say about host, path and end."""
    cookies = {}
    for line in call.cookies:
        name, _, value = (part.strip() for part in line.partition(";")[0].partition("="))
        if re.fullmatch(r"[!-:<>-~]+", name) and value and value.isprintable():
            cookies[name] = value
    return cookies


def _drain(response: requests.Response, call: Call) -> bytes:
    """Return the beginning of a body; where all of it is there, the connection can be used again."""
    data = bytearray()
    try:
        with errors_explained(call):
            for piece in replies.pieces_of(response):
                data += piece
                if len(data) > replies.MOST_OF_REFUSAL:
                    break
    except MwaClientError:
        pass  # The status has said what matters.
    return bytes(data[: replies.MOST_OF_REFUSAL])


def _body_of(text: str) -> object:
    """Return a refusal's JSON, or its text where it is none; without a secret that it quotes."""
    try:
        return hide_in(read_json(text), is_foreign=True)
    except ValueError:
        return hide(text, is_foreign=True)[:20_000]


def _is_own(body: object) -> bool:
    """Say whether a refusal looks like the service's own: it sends JSON or plain text, and no web pages."""
    return not (isinstance(body, str) and body.lstrip().startswith(("<", "{", "[")))


def _explanation(response: requests.Response, text: str, body: object) -> str:
    """Return the service's own words for a refusal, from JSON, HTML or plain text."""
    if isinstance(body, dict):
        said = [body[key] for key in ("error", "message", "detail", "suggestion") if _is_text(body.get(key))]
        fields = body.get("field_errors")
        for entry in fields if isinstance(fields, list) else []:
            if isinstance(entry, dict):
                said.append(f"{entry.get('field')}: {entry.get('message')}")
        if said:
            return clean_text(" ".join(said))
    text = body if isinstance(body, str) else text[:20_000]
    if "<" in text:
        text = re.sub(r"(?si)<(style|script|head)\b.*?</\1>", " ", text)
        text = re.sub(r"(?s)<[^>]*>", " ", text)
    return clean_text(text) or clean_text(f"HTTP {response.status_code} {response.reason or ''}")


def _reference(response: requests.Response, body: object) -> str:
    """Return what the help desk will ask for: the error's code and the request's id, where they are known."""
    known = body if isinstance(body, dict) else {}
    references = {
        "error_code": known.get("error_code"),
        "request_id": known.get("request_id") or response.headers.get("x-request-id"),
    }
    # v1's code 0 is that of all errors without a code of their own.
    said = [
        f"{name} {clean_text(value, 60)}" for name, value in references.items() if value not in (None, "", 0)
    ]
    return f" ({', '.join(said)})" if said else ""


def _text_of(response: requests.Response, call: Call) -> str:
    # Not response.text: it believes whatever character set the reply claims to be in.
    return _drain(response, call).decode("utf-8-sig", "replace")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _not_json(response: requests.Response) -> BadReply:
    kind = clean_text(response.headers.get("Content-Type", "something else"), 60)
    broken = "broken JSON, as " if "json" in kind.lower() else ""
    return BadReply(f"The service answered with {broken}{kind} where JSON was expected.")


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _NoCookies(http.cookiejar.DefaultCookiePolicy):
    def set_ok(self, cookie: object, request: object) -> bool:
        return False
