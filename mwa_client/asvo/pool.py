"""Sessions of the `requests` library that keep connections alive, one for each call that runs."""

from __future__ import annotations

import http.cookiejar
import threading

import requests

from mwa_client.asvo.address import Origin
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
        self._sessions: set[requests.Session] = set()
        self._idle: dict[Origin, list[requests.Session]] = {}
        self._lock = threading.Lock()

    def take(self, origin: Origin) -> requests.Session:
        """Return an idle session for calls to one server, the last used first, or a new one.

        There are never more of them than calls to this server at the same time: one that has a connection to
        it is not taken away for a call elsewhere.
        """
        with self._lock:
            idle = self._idle.get(origin)
            if idle:
                return idle.pop()
            session = _QuietSession()
            self._sessions.add(session)
        session.headers["User-Agent"] = self._user_agent
        return session

    def give_back(self, session: requests.Session, origin: Origin) -> None:
        """Take back a session whose call to a server is over."""
        with self._lock:
            self._idle.setdefault(origin, []).append(session)

    def close_idle(self) -> None:
        """Close the connections of the sessions that no call uses, and forget these."""
        with self._lock:
            idle = [session for sessions in self._idle.values() for session in sessions]
            self._idle.clear()
            self._sessions.difference_update(idle)
        for session in idle:
            session.close()

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
