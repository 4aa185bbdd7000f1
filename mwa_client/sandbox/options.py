"""All options of the practice service."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Collection
from pathlib import Path

from mwa_client.light_dataclasses import dataclass

from .jobs import PracticeJob, default_product_size

APIS = ("2018", "v1", "v2")
"""The interfaces, by name."""
EXPIRES_AFTER = 7 * 86400.0
"""Seconds from a product's being ready to its being deleted."""
STORE_PATIENCE = 65.0
"""Seconds that the archive's object store waits for a client that does not read."""


@dataclass(frozen=True)
class ServiceOptions:
    """The options that concern the account and the jobs.

    Attributes
    ----------
    user, password : str
        The account.
    api_key : str
        Its key, for v1 and v2.
    seconds_per_state : float
        How long a job is in each of its states: two for a job of 2018, four to six for one of v1 or v2.
        0 makes it ready at once.
    clock : Callable
        Gives seconds since 1970. The states of jobs, and their end after 7 days, follow it.
    product_size : Callable
        Gives the size in bytes of a new job's product.
    state_file : Path or None
        Where jobs are kept, so that a sandbox that was killed finds them again.
    job_limit : int or None
        How many unfinished jobs v1 and v2 allow.
    """

    user: str = "practice"
    password: str = "practice"
    api_key: str = "practice-key"
    seconds_per_state: float = 1.0
    clock: Callable[[], float] = time.time
    product_size: Callable[[PracticeJob], int] | None = None
    state_file: Path | None = None
    job_limit: int | None = None

    def size_of(self, job: PracticeJob) -> int:
        """Return the size in bytes of a new job's product."""
        return (self.product_size or default_product_size)(job)


@dataclass(frozen=True)
class Options(ServiceOptions):
    """All options: those of the account and the jobs, and those of the servers.

    Attributes
    ----------
    apis : collection of str
        The interfaces that are spoken: ``2018``, ``v1``, ``v2``.
    rate : float or None
        Bytes a second for each reply that carries a product.
    link_seconds : float
        How long a URL of the object store is good.
    scratch_folder : Path or None
        Where deliveries to ``scratch`` and ``dug`` are written, in a folder named after the job; without
        one, listings name a folder that this machine does not have.
    log_file : Path or None
        Where requests are logged, one JSON object a line, without credentials.
    port, store_port : int
        Ports of the service and the object store; 0 takes a free one.
    ssl_context : ssl.SSLContext or None
        Speak TLS.
    delay : float
        Seconds that each call takes, products excepted.
    store_patience : float
        Seconds after which the object store drops a client that has stopped reading.
    """

    apis: Collection[str] = APIS
    rate: float | None = None
    link_seconds: float = EXPIRES_AFTER
    scratch_folder: Path | None = None
    log_file: Path | None = None
    port: int = 0
    store_port: int = 0
    ssl_context: ssl.SSLContext | None = None
    delay: float = 0.0
    store_patience: float = STORE_PATIENCE
