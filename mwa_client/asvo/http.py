"""One call over HTTP: a request goes out, and checked JSON, a download or a clear error comes back.

Nothing that leaves this module names a credential: no error, no log, no ``repr``.
"""

from __future__ import annotations

import logging
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import requests
import urllib3

from mwa_client.asvo import replies
from mwa_client.asvo.address import Origin, origin_of, redirected
from mwa_client.asvo.api_refusal import error_of, not_json, read_beginning
from mwa_client.asvo.call import HttpCall, OpenSockets, running
from mwa_client.asvo.http_errors import (
    errors_explained,
    has_hung_up,
    is_out_of_descriptors,
    no_authorities,
    no_proxy_login,
)
from mwa_client.asvo.limits import CONNECT_TIMEOUT
from mwa_client.asvo.pool import SessionPool
from mwa_client.asvo.proxies import Proxy, is_on_this_machine
from mwa_client.asvo.stream import StreamedResponse
from mwa_client.errors import BadReply, ServiceRefused, SettingsError
from mwa_client.secrecy import keep_secret

LOG = logging.getLogger(__name__)
MOST_REDIRECTS = 5


class HttpClient:
    """The HTTP side of one service: its address, its cookies, its time-outs.

    Safe to use from several threads: each running call has a connection of its own.

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
    received_cookies : mapping of str to str
        The cookies that the last call has brought.
    """

    def __init__(
        self, address: str, *, verify: bool | str, timeout: float, stall: float, user_agent: str
    ) -> None:
        self.address = address
        self._verify = verify
        self._timeout = timeout
        self._stall = stall
        self.cookies: Mapping[str, str] = {}
        self.received_cookies: Mapping[str, str] = {}
        self._sockets = OpenSockets()
        self._answered: set[str] = set()
        self._sessions = SessionPool(user_agent)
        self._checked_bundles: set[str] = set()
        if isinstance(verify, str) and not _has_authorities(verify):
            raise SettingsError(
                f"SSL_VERIFY={verify}: there are no CA certificates there.",
                "It must be 1, 0 or the path of a .pem file.",
            )
        if verify is False:
            # The user has switched it off and is told so aloud, once, elsewhere.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def close_idle(self) -> None:
        """Close the connections that are only kept for later calls."""
        self._sessions.close_idle()

    def close(self) -> None:
        """Close all connections.

        A call or a download that another thread is in at this moment ends with `Stopped`.
        """
        self._sockets.close()
        self._sessions.close()

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
            The service does not recognise this session (401).
        ServiceRefused
            The service said no: another 4xx. Its own words are in the message.
        ServiceUnavailable
            No usable answer this time. Whether the call was acted on is not known.
        Stopped
            `close` was called meanwhile.
        """
        with self._answer(method, path, params=query, data=form, json=json) as (response, call):
            self.received_cookies = _cookies_of(call)
            try:
                return replies.read_answer(response, allowance or replies.Allowance.for_one())
            except replies.NotJson:
                raise not_json(response) from None

    def list_entries(self, path: str) -> Iterator[object]:
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
                raise not_json(response) from None
            except replies.NotAList:
                raise BadReply("The service answered with something that is not a list of jobs.") from None

    def login(self, path: str, auth: tuple[str, str]) -> None:
        """Log in with HTTP Basic and keep the cookies that come back.

        The host and the expiry that the cookies name are ignored: behind a tunnel the host has another
        name, and the clock of either side can be wrong.

        Raises
        ------
        SessionLost, ServiceRefused, ServiceUnavailable, Stopped
            As `call`.
        """
        self.cookies = {}
        # As bytes: requests would encode text as Latin-1, which cannot write every password.
        user, password = (text.encode("utf-8", "surrogateescape") for text in auth)
        basic = requests.auth.HTTPBasicAuth(user, password)
        with self._answer("POST", path, auth=basic) as (response, call):
            read_beginning(response, call)
        cookies = _cookies_of(call)
        if not cookies:
            raise BadReply(f"{self.address} accepted the login but opened no session.")
        self.cookies = cookies
        keep_secret(*cookies.values())

    def open_path(
        self, path: str, *, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> StreamedResponse:
        """Start a download from the service and return the answer, its body unread.

        Redirects are followed. The session's cookies go to the service alone, and no longer once a redirect
        has led elsewhere.

        Raises
        ------
        ServiceUnavailable
            No usable answer this time.
        """
        return self._open(self.address + path, query, headers)

    def open_url(self, url: str, headers: Mapping[str, str]) -> StreamedResponse:
        """Start a download from another party's host, which does not get the session's cookies.

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
        first = origin_of(url)
        session = self._sessions.take(first)
        try:
            for _ in range(MOST_REDIRECTS + 1):
                origin = origin_of(url)
                is_ours = is_ours and origin == service
                call = HttpCall(str(origin), deadline, self._stall, self._sockets, self._answered)
                request = requests.Request("GET", url, {**headers}, params=query)
                response = self._request(session, call, request, is_ours)
                if not response.is_redirect:
                    call.remove_deadline()
                    return StreamedResponse(
                        response, call, self._stall, lambda: self._sessions.give_back(session, first)
                    )
                response.close()
                url, query = redirected(url, response.headers["Location"]), {}
            raise BadReply("The product's address redirects in a loop.")
        except BaseException:
            self._sessions.give_back(session, first)
            raise

    def _call(
        self, session: requests.Session, request: requests.Request
    ) -> tuple[requests.Response, HttpCall]:
        """Make a call of the API and return its answer, the body unread; a refusal is an error."""
        deadline = time.monotonic() + self._timeout
        origin = origin_of(self.address)
        call = HttpCall(str(origin), deadline, self._timeout, self._sockets, self._answered)
        response = self._request(session, call, request, is_ours=True)
        if not 200 <= response.status_code < 300:
            with closing(response):
                raise error_of(response, call, self.address)
        return response, call

    def _request(
        self, session: requests.Session, call: HttpCall, request: requests.Request, is_ours: bool
    ) -> requests.Response:
        """Send a request and return the answer, its body unread; cookies go with it if it `is_ours`."""
        origin = origin_of(request.url)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if is_ours and cookie:
            request.headers = {**request.headers, "Cookie": cookie}
        with errors_explained(call):
            prepared = session.prepare_request(request)
            # The library must read the URL as we do, or the cookies go to a stranger.
            if origin_of(prepared.url or "") != origin:
                raise ServiceRefused(f"{origin} is not an address that can be used.")
            response = self._send(session, call, prepared, origin)
        if call.proxy is not None and response.status_code == 407:
            response.close()
            raise no_proxy_login(call.proxy, call)
        call.note_answer()
        # Without the query: it can hold a signature.
        path = re.split("[?#]", prepared.path_url)[0]
        LOG.debug(
            "%s %s%s: %d in %.2f s",
            request.method, origin, path, response.status_code, response.elapsed.total_seconds(),
        )  # fmt: skip
        return response

    def _send(
        self, session: requests.Session, call: HttpCall, request: requests.PreparedRequest, origin: Origin
    ) -> requests.Response:
        """Send a request through the proxy that the environment names, if any."""
        settings = session.merge_environment_settings(request.url, {}, True, self._verify, None)
        if is_on_this_machine(origin.host):
            settings["proxies"] = {}
        call.proxy = Proxy.of(request.url or "", settings["proxies"])
        self._check_authorities(settings["verify"], origin, call.proxy)
        limits = (CONNECT_TIMEOUT, call.silence)
        send = partial(session.send, request, timeout=limits, allow_redirects=False, **settings)
        with running(call):
            try:
                return send()
            except Exception as error:
                if is_out_of_descriptors(error):
                    session.close()
                    self.close_idle()
                elif request.method != "GET" or not call.may_be_stale or not has_hung_up(error):
                    raise
                call.raise_if_closed()
                return send()

    def _check_authorities(self, verify: bool | str | None, origin: Origin, proxy: Proxy | None) -> None:
        """Check once the bundle of authorities that the environment names; `verify` was checked before."""
        is_needed = origin.scheme == "https" or (proxy is not None and proxy.scheme == "https")
        if not isinstance(verify, str) or not is_needed or verify in (self._verify, *self._checked_bundles):
            return
        if not _has_authorities(verify):
            raise no_authorities()
        self._checked_bundles.add(verify)

    @contextmanager
    def _answer(self, method: str, path: str, **sent: Any) -> Iterator[tuple[requests.Response, HttpCall]]:
        """Make a call of the API, yield its answer, and give the session back afterwards."""
        origin = origin_of(self.address)
        session = self._sessions.take(origin)
        try:
            response, call = self._call(session, requests.Request(method, self.address + path, **sent))
            with closing(response), errors_explained(call):
                yield response, call
        finally:
            self._sessions.give_back(session, origin)


def _has_authorities(path: str) -> bool:
    """Say whether there are certificates of authorities at a path, a file or a folder."""
    place = Path(path)
    try:
        if not (place.is_file() or place.is_dir()):
            return False
        kind = "capath" if place.is_dir() else "cafile"
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(**{kind: path})
    except (OSError, ValueError):
        return False
    return True


def _cookies_of(call: HttpCall) -> dict[str, str]:
    """Return the cookies that an answer sets, whatever host, path and expiry they name."""
    cookies = {}
    for line in call.cookies:
        name, _, value = (part.strip() for part in line.partition(";")[0].partition("="))
        if re.fullmatch(r"[!-:<>-~]+", name) and value and value.isprintable():
            cookies[name] = value
    return cookies
