"""Talking to the service: one session, whichever of its interfaces answers."""

from __future__ import annotations

from mwa_client import __version__
from mwa_client.asvo.api_2018 import Api2018
from mwa_client.asvo.session import Session
from mwa_client.asvo.wire import Wire
from mwa_client.settings import Service


def open_session(service: Service) -> Session:
    """Return a session with a service; it logs in when it is first needed.

    Parameters
    ----------
    service : Service
        Address, interface and credentials.
    """
    wire = Wire(
        service.address,
        verify=service.verify,
        timeout=service.call_timeout,
        stall=service.stall_timeout,
        user_agent=f"mwa_client/{__version__}",
    )
    return Session(
        Api2018(
            wire,
            service=service.name,
            user=service.credentials.user,
            password=service.credentials.password,
            is_default=service.is_default,
        )
    )
