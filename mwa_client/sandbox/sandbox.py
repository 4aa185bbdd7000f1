"""The sandbox: a practice service behind a server of its own, started and stopped at will.

It puts service, faults, interfaces and servers together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any

from .endpoints import Endpoints, Responder
from .endpoints_2018 import Endpoints2018
from .endpoints_v1 import EndpointsV1
from .endpoints_v2 import EndpointsV2
from .fault_kinds import Point
from .faults import Faults
from .folders import Folders
from .jobs import PracticeJob
from .messages import Call, Reply, Request, Target, refusal, text_reply
from .object_store import ObjectStore
from .options import Options
from .request_log import LoggedRequest, RequestLog
from .routes import is_for
from .server import Server
from .service import PracticeService


class Sandbox:
    """A practice service on this machine, for one user, with faults to be switched on.

    All interfaces are spoken on one port and know the same jobs; an object store listens on another.

    It runs inside a ``with`` block, or between `start` and `stop`. It can be started again, with the jobs,
    the ports and the log as they were.

    Parameters
    ----------
    **options
        As in `Options`.

    Attributes
    ----------
    service : PracticeService
        The jobs, and what can be done to them behind the client's back.
    faults : Faults
        What is to go wrong.

    Raises
    ------
    ValueError
        The state file is there and does not hold jobs, or an api is named that there is not.

    Examples
    --------
    >>> with Sandbox(seconds_per_state=0) as sandbox:
    ...     job = sandbox.service.add({"obs_id": "1191828584"})
    ...     sandbox.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, **options: Any) -> None:
        self.options = Options(**options)
        self.faults = Faults()
        self.service = PracticeService(self.options)
        self._store = ObjectStore(self.service, self.faults, self.options.link_seconds)
        self._apis = self._spoken(self.options.apis, Folders(self.options.scratch_folder))
        self._log = RequestLog(self.options.log_file)
        self._ports = [self.options.port, self.options.store_port]
        self._servers: list[Server] = []

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen and serve, in threads that end with the program.

        Raises
        ------
        OSError
            When the port is taken.
        """
        if self._servers:
            return
        with ExitStack() as opened:
            servers = []
            for number, answer in enumerate([self._answer, self._answer_for_store]):
                servers.append(self._listen(number, answer))
                opened.callback(servers[-1].server_close)
            opened.pop_all()
        self._store.address = self.object_store_url
        self._servers = servers
        for server in servers:
            server.start()

    def stop(self) -> None:
        """Close every connection, at whatever point it is, and the ports."""
        for server in self._servers:
            server.stop()
        self._servers = []

    @property
    def url(self) -> str:
        """Where the service listens: ``http://127.0.0.1:PORT``."""
        return self._address(0)

    @property
    def object_store_url(self) -> str:
        """Where the object store listens: ``http://127.0.0.1:PORT``."""
        return self._address(1)

    @property
    def logins(self) -> int:
        """How many logins succeeded so far."""
        return self.service.logins

    @property
    def jobs(self) -> list[PracticeJob]:
        """Every job, oldest first."""
        return self.service.jobs()

    @property
    def requests(self) -> list[LoggedRequest]:
        """The requests so far, in the order in which their replies ended."""
        return self._log.entries()

    @property
    def connections(self) -> int:
        """How many connections are open; the requests of closed ones have been logged."""
        return sum(server.connections for server in self._servers)

    def reset_log(self) -> None:
        """Forget the requests so far."""
        self._log.clear()

    def _spoken(self, names: Collection[str], folders: Folders) -> list[Endpoints]:
        apis: dict[str, Endpoints] = {
            "2018": Endpoints2018(self.service, self.faults),
            "v1": EndpointsV1(self.service, self.faults, self._store, folders),
            "v2": EndpointsV2(self.service, self.faults, self._store, folders),
        }
        unknown = [name for name in names if name not in apis]
        if unknown or not names:
            raise ValueError(f"no such api: {', '.join(unknown)}; there are: {', '.join(apis)}")
        return [api for name, api in apis.items() if name in names]

    def _listen(self, number: int, answer: Callable[[Request], Reply]) -> Server:
        server = Server(self._ports[number], answer, self._log, self.options, is_store=number == 1)
        self._ports[number] = server.port
        return server

    def _address(self, number: int) -> str:
        return f"{'https' if self.options.ssl_context else 'http'}://127.0.0.1:{self._ports[number]}"

    def _answer(self, request: Request) -> Reply:
        if not request.headers.get("User-Agent"):
            return text_reply(403, "Forbidden by the firewall")
        # Two interfaces share some paths; the session's cookie tells which one is meant.
        speakers = [api for api in self._apis if is_for(api.interface, request)]
        api = max(speakers, key=lambda api: api.familiarity(request), default=None)
        target = api.target(request) if api else Target(request.path, Call.OTHER)
        self._spoil_sessions(target)
        return self._reply(api, request, target)

    def _answer_for_store(self, request: Request) -> Reply:
        return self._reply(self._store, request, self._store.target(request))

    def _reply(self, responder: Responder | None, request: Request, target: Target) -> Reply:
        reply = self.faults.answer(target)
        if reply is None:
            reply = responder.answer(request, target) if responder else refusal(404, "No such page")
        if target.call is not Call.PRODUCT:
            reply = reply.on_wire(delay=self.options.delay)
        reply = replace(reply, job_id=reply.job_id or target.job_id)
        return self.faults.apply(Point.REPLY, replace(target, job_id=reply.job_id), reply)

    def _spoil_sessions(self, target: Target) -> None:
        sessions = self.service.sessions
        left = self.faults.apply(Point.SESSIONS, target, sessions)
        if left is not sessions:
            self.service.forget_sessions(but=left)
