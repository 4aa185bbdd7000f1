"""The sandbox: a practice service behind a server of its own, started and stopped at will.

This is where service, faults, interfaces and server are put together.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from .api import Api
from .api_2018 import Api2018
from .fault_kinds import Point
from .faults import Faults
from .messages import Call, Reply, Request, Target, refusal, text_reply
from .server import LoggedRequest, RequestLog, Server
from .service import Job, Service


class Sandbox:
    """A practice service on this machine, for one user, with faults to be switched on.

    It starts where a ``with`` begins and stops where it ends; `start` and `stop` do the same, as often as
    wanted, with the jobs, the port and the log kept meanwhile.

    Parameters
    ----------
    user, password : str
        The account.
    seconds_per_state : float
        How long a job is queued, and then how long it is processed; 0 makes it ready at once.
    clock : Callable
        Gives seconds since 1970. The states of jobs, and their end after 7 days, follow it.
    rate : float, optional
        Bytes a second for each reply that carries a product.
    product_size : Callable, optional
        Gives the size in bytes of a new job's product; about 24 MB for a conversion, 16 MB for
        visibilities and 1 MB for metadata if left out.
    state_file : Path, optional
        Where jobs are kept, so that a sandbox that was killed finds them again.
    log_file : Path, optional
        Where requests are noted, one JSON object a line, without credentials.
    port : int
        Port to listen on; 0 takes a free one.
    ssl_context : ssl.SSLContext, optional
        Speak TLS.
    delay : float
        Seconds that each call takes, products excepted.

    Attributes
    ----------
    service : Service
        The jobs, and what can be done to them behind the client's back.
    faults : Faults
        What is to go wrong.

    Raises
    ------
    ValueError
        When `state_file` is there and does not hold jobs.

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
        seconds_per_state: float = 1.0,
        clock: Callable[[], float] = time.time,
        rate: float | None = None,
        product_size: Callable[[Job], int] | None = None,
        state_file: Path | None = None,
        log_file: Path | None = None,
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        delay: float = 0.0,
    ) -> None:
        self.faults = Faults()
        self.service = Service(
            user=user,
            password=password,
            seconds_per_state=seconds_per_state,
            clock=clock,
            product_size=product_size,
            state_file=state_file,
        )
        self._apis: tuple[Api, ...] = (Api2018(self.service, self.faults),)
        self._log = RequestLog(log_file)
        self._clock = clock
        self._rate = rate
        self._ssl_context = ssl_context
        self._delay = delay
        self._port = port
        self._server: Server | None = None

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
        if self._server is not None:
            return
        self._server = Server(
            self._port,
            self._answer,
            self._log,
            clock=self._clock,
            rate=self._rate,
            ssl_context=self._ssl_context,
        )
        self._port = self._server.port
        self._server.start()

    def stop(self) -> None:
        """Close every connection, at whatever point it is, and the port."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    @property
    def url(self) -> str:
        """Where it listens: ``http://127.0.0.1:PORT``."""
        return f"{'https' if self._ssl_context else 'http'}://127.0.0.1:{self._port}"

    @property
    def jobs(self) -> list[Job]:
        """Every job, oldest first."""
        return self.service.jobs()

    @property
    def requests(self) -> list[LoggedRequest]:
        """What was asked so far, in the order in which the replies ended."""
        return self._log.entries()

    def reset_log(self) -> None:
        """Forget what was asked so far."""
        self._log.clear()

    def _answer(self, request: Request) -> Reply:
        if not request.headers.get("User-Agent"):
            return text_reply(403, "Forbidden by the firewall")
        api = next((api for api in self._apis if api.speaks(request)), None)
        target = api.target(request) if api else Target(request.path, Call.OTHER)
        self._spoil_sessions(target)
        reply = self.faults.answer(target)
        if reply is None:
            reply = api.answer(request, target) if api else refusal(404, "No such page")
        if target.call is not Call.PRODUCT:
            reply = reply.on_wire(delay=self._delay)
        reply = replace(reply, job_id=reply.job_id or target.job_id)
        return self.faults.apply(Point.REPLY, replace(target, job_id=reply.job_id), reply)

    def _spoil_sessions(self, target: Target) -> None:
        sessions = self.service.sessions
        if self.faults.apply(Point.SESSIONS, target, sessions) is not sessions:
            self.service.forget_sessions()
