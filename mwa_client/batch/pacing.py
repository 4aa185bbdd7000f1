"""How many at a time, how often, how long: the few numbers of a run that a person may want to set."""

from __future__ import annotations

from dataclasses import replace

from mwa_client.light_dataclasses import dataclass

SLOWEST_ANSWER, SLOWEST_LISTING = 60.0, 60.0
"""Seconds in which a service that was asked for a job surely makes it, and in which it surely lists it."""


@dataclass(frozen=True)
class Pacing:
    """The few numbers that a person may want to set.

    Attributes
    ----------
    parallel : int
        Downloads at a time.
    poll : float or None
        Seconds between two listings; None: adapt.
    give_up_after : float or None
        Seconds after which to stop with rows still pending; None: never.
    connections : int
        The most connections to fetch products with, over all downloads.
    call_timeout : float
        Seconds after which a call to the service is given up.
    is_prompt : bool
        The service is known to make and list a job at once: it practises in this very process.
    """

    parallel: int = 4
    poll: float | None = None
    give_up_after: float | None = None
    connections: int = 8
    call_timeout: float = 60.0
    is_prompt: bool = False

    def after(self, seconds: float) -> Pacing:
        """Return what is left of it when so many seconds of the run have passed."""
        if self.give_up_after is None:
            return self
        return replace(self, give_up_after=max(self.give_up_after - seconds, 0.0))

    @property
    def patience(self) -> float:
        """Seconds that a job may take until it is listed, from when it was asked for."""
        return 0.0 if self.is_prompt else max(self.call_timeout, SLOWEST_ANSWER) + SLOWEST_LISTING
