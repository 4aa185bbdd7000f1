"""The sandbox: a practice service behind a server of its own, started and stopped at will.

This is where service, faults, interfaces and server are put together.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from .endpoints import Endpoints, Responder
from .endpoints_2018 import Endpoints2018
from .endpoints_v1 import EndpointsV1
from .endpoints_v2 import EndpointsV2
from .fault_kinds import Point
from .faults import Faults
from .folders import Folders
from .jobs import Job
from .messages import Call, Reply, Request, Target, refusal, text_reply
from .object_store import ObjectStore
from .routes import is_for
from .server import STORE_PATIENCE, LoggedRequest, RequestLog, Server
from .service import EXPIRES_AFTER, Service

APIS = ("2018", "v1", "v2")
"""The interfaces, by name."""


class Sandbox:
    """A practice service on this machine, for one user, with faults to be switched on.

    All interfaces are spoken on one port and know the same jobs; an object store listens on another.

    It starts where a ``with`` begins and stops where it ends; `start` and `stop` do the same, as often as
    wanted, with the jobs, the port and the log kept meanwhile.

    Parameters
    ----------
    user, password : str
        The account.
    api_key : str
        Its key, for today's interfaces.
    apis : collection of str
        The interfaces that are spoken: ``2018``, ``v1``, ``v2``.
    seconds_per_state : float
        How long a job is in each of its states: two that are submitted as in 2018, four to six that are
        submitted as today; 0 makes it ready at once.
    clock : Callable
        Gives seconds since 1970. The states of jobs, and their end after 7 days, follow it.
    rate : float, optional
        Bytes a second for each reply that carries a product.
    product_size : Callable, optional
        Gives the size in bytes of a new job's product; about 24 MB for a conversion, 16 MB for
        visibilities and 1 MB for metadata if left out.
    link_seconds : float
        How long a URL of the object store is good.
    scratch_folder : Path, optional
        Where deliveries to ``scratch`` and ``dug`` are written, in a folder named after the job; if left
        out, they are said to be in a folder that this machine does not have.
    job_limit : int, optional
        How many unfinished jobs today's interfaces allow; no limit if left out.
    state_file : Path, optional
        Where jobs are kept, so that a sandbox that was killed finds them again.
    log_file : Path, optional
        Where requests are noted, one JSON object a line, without credentials.
    port, store_port : int
        Ports of the service and the object store; 0 takes a free one.
    ssl_context : ssl.SSLContext, optional
        Speak TLS.
    delay : float
        Seconds that each call takes, products excepted.
    store_patience : float
        Seconds after which the object store drops a client that has stopped reading.

    Attributes
    ----------
    service : Service
        The jobs, and what can be done to them behind the client's back.
    faults : Faults
        What is to go wrong.

    Raises
    ------
    ValueError
        When `state_file` is there and does not hold jobs, or `apis` names none that there is.

    Examples
    --------
    >>> with Sandbox(seconds_per_state=0) as sandbox:
    ...     job = sandbox.service.add({"obs_id": "1191828584"})
    ...     sandbox.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        *,
        user: str = "practice",
        password: str = "practice",
        api_key: str = "practice-key",
        apis: Collection[str] = APIS,
        seconds_per_state: float = 1.0,
        clock: Callable[[], float] = time.time,
        rate: float | None = None,
        product_size: Callable[[Job], int] | None = None,
        link_seconds: float = EXPIRES_AFTER,
        scratch_folder: Path | None = None,
        job_limit: int | None = None,
        state_file: Path | None = None,
        log_file: Path | None = None,
        port: int = 0,
        store_port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        delay: float = 0.0,
        store_patience: float = STORE_PATIENCE,
    ) -> None:
        self.faults = Faults()
        self.service = Service(
            user=user,
            password=password,
            api_key=api_key,
            seconds_per_state=seconds_per_state,
            clock=clock,
            product_size=product_size,
            state_file=state_file,
            job_limit=job_limit,
        )
        self._store = ObjectStore(self.service, self.faults, link_seconds)
        self._apis = self._spoken(apis, Folders(scratch_folder))
        self._log = RequestLog(log_file)
        self._clock = clock
        self._rate = rate
        self._ssl_context = ssl_context
        self._delay = delay
        self._store_patience = store_patience
        self._ports = [port, store_port]
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
    def jobs(self) -> list[Job]:
        """Every job, oldest first."""
        return self.service.jobs()

    @property
    def requests(self) -> list[LoggedRequest]:
        """What was asked so far, in the order in which the replies ended."""
        return self._log.entries()

    @property
    def connections(self) -> int:
        """How many connections are open; what was asked by one that is not is done and noted."""
        return sum(server.connections for server in self._servers)

    def reset_log(self) -> None:
        """Forget what was asked so far."""
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
        server = Server(
            self._ports[number],
            answer,
            self._log,
            clock=self._clock,
            rate=self._rate,
            ssl_context=self._ssl_context,
            is_store=number == 1,
            patience=self._store_patience if number == 1 else None,
        )
        self._ports[number] = server.port
        return server

    def _address(self, number: int) -> str:
        return f"{'https' if self._ssl_context else 'http'}://127.0.0.1:{self._ports[number]}"

    def _answer(self, request: Request) -> Reply:
        if not request.headers.get("User-Agent"):
            return text_reply(403, "Forbidden by the firewall")
        # Some paths are those of two interfaces. Who has a session tells by its cookie which one is meant.
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
            reply = reply.on_wire(delay=self._delay)
        reply = replace(reply, job_id=reply.job_id or target.job_id)
        return self.faults.apply(Point.REPLY, replace(target, job_id=reply.job_id), reply)

    def _spoil_sessions(self, target: Target) -> None:
        sessions = self.service.sessions
        left = self.faults.apply(Point.SESSIONS, target, sessions)
        if left is not sessions:
            self.service.forget_sessions(but=left)
