"""A practice service with the wire of the archive: no account, no network, small products.

It listens on this machine alone, takes jobs through their states in seconds, and can be told to go wrong.

    >>> with Sandbox(seconds_per_state=0) as sandbox:
    ...     fault = sandbox.faults.add("cut_product", after=1_000_000, times=2)
    ...     # Run a client against sandbox.url here.
    >>> fault.hits
    0
"""

from .fault_kinds import KINDS
from .faults import Fault, Faults
from .interfaces import Interface
from .jobs import PracticeJob, PracticeState, PracticeType
from .request_log import LoggedRequest
from .sandbox import Sandbox
from .service import PracticeService

# Shorter names, for programs that need no others of the same name.
Job = PracticeJob
JobState = PracticeState
JobType = PracticeType
Service = PracticeService

__all__ = [
    "KINDS",
    "Fault",
    "Faults",
    "Interface",
    "Job",
    "JobState",
    "JobType",
    "LoggedRequest",
    "PracticeJob",
    "PracticeService",
    "PracticeState",
    "PracticeType",
    "Sandbox",
    "Service",
]
