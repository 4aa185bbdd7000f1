"""Sessions of the `requests` library that keep connections alive, one for each call that runs."""

from __future__ import annotations

import http.cookiejar
import threading
from contextlib import suppress

import requests

from mwa_client.asvo.limits import LimitedAdapter


class SessionPool:
    """Sessions that are taken for a call and given back after it. Safe to use from several threads.

    Parameters
    ----------
    user_agent : str
        Sent with every request.
    """

    def __init__(self, user_agent: str) -> None:
        self._user_agent = user_agent
        self._sessions: list[requests.Session] = []
        self._idle: list[requests.Session] = []
        self._lock = threading.Lock()

    def take(self) -> requests.Session:
        """Return an idle session, the last used first, or a new one.

        There are never more sessions than calls and downloads at the same time.
        """
        try:
            return self._idle.pop()
        except IndexError:
            return self.new()

    def new(self) -> requests.Session:
        """Return a session that has no connections yet."""
        session = _QuietSession()
        session.headers["User-Agent"] = self._user_agent
        with self._lock:
            self._sessions.append(session)
        return session

    def give_back(self, session: requests.Session) -> None:
        """Take back a session whose call is over."""
        self._idle.append(session)

    def close_idle(self) -> None:
        """Close the connections of the sessions that no call uses."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def close(self) -> None:
        """Close all sessions."""
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()


class _QuietSession(requests.Session):
    """A session that reads nothing on its own, and sends nothing that it was not given."""

    def __init__(self) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, LimitedAdapter())
        # What the standard library can unpack, whatever else is installed.
        self.headers["Accept-Encoding"] = "gzip"
        # Proxies are taken from the environment as usual; a password from ~/.netrc is not.
        self.auth = _no_auth
        # HttpClient keeps the cookies for all threads.
        self.cookies.set_policy(_NoCookies())

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None: the library would read the whole body of a redirect before it followed it."""
        return None


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _NoCookies(http.cookiejar.DefaultCookiePolicy):
    def set_ok(self, cookie: object, request: object) -> bool:
        return False
