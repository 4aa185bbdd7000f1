"""Every request that the practice service understands, in one table."""

from __future__ import annotations

import re

from mwa_client.light_dataclasses import dataclass

from .interfaces import Interface
from .keys import FORMS_V1, FORMS_V2, JobForm
from .messages import Call, Request

V2018, V1, V2 = Interface.V2018, Interface.V1, Interface.V2


@dataclass(frozen=True)
class Route:
    """One path of an interface.

    Attributes
    ----------
    interface : Interface
        The interface.
    method : str
        The HTTP method that is allowed.
    path : str
        The path; ``<id>`` stands for the number of a job or an observation.
    call : Call
        What the request is for.
    form : JobForm or None
        For a submission to v1 or v2, the type of the job and its keys.
    """

    interface: Interface
    method: str
    path: str
    call: Call
    form: JobForm | None = None

    def number_in(self, path: str) -> str | None:
        """Return what a path has in place of ``<id>``, "" without such a place, None if it does not match."""
        if "<id>" not in self.path:
            return "" if path == self.path else None
        number = "[^/]*" if self.call is Call.OBSERVATION else "[0-9]+"
        match = re.fullmatch(self.path.replace("<id>", f"({number})"), path)
        return match[1] if match else None


ROUTES = (
    Route(V2018, "POST", "/api/login", Call.LOGIN),
    Route(V2018, "POST", "/api/conversion_job", Call.SUBMIT),
    Route(V2018, "POST", "/api/download_vis_job", Call.SUBMIT),
    Route(V2018, "GET", "/api/get_jobs", Call.LIST),
    Route(V2018, "GET", "/api/cancel_job", Call.CANCEL),
    Route(V2018, "GET", "/api/download", Call.PRODUCT),
    Route(V1, "POST", "/api/api_login", Call.LOGIN),
    *(Route(V1, "POST", f"/api/{path}", Call.SUBMIT, form) for path, form in FORMS_V1.items()),
    Route(V1, "GET", "/api/get_jobs", Call.LIST),
    Route(V1, "GET", "/api/cancel_job", Call.CANCEL),
    Route(V2, "POST", "/api/v2/api_login", Call.LOGIN),
    Route(V2, "POST", "/api/v2/login", Call.LOGIN),
    Route(V2, "POST", "/api/v2/refresh", Call.REFRESH),
    *(Route(V2, "POST", f"/api/v2/{path}", Call.SUBMIT, form) for path, form in FORMS_V2.items()),
    Route(V2, "POST", "/api/v2/get_jobs", Call.LIST),
    Route(V2, "GET", "/api/v2/jobs/<id>", Call.JOB),
    Route(V2, "DELETE", "/api/v2/jobs/<id>", Call.CANCEL),
    Route(V2, "GET", "/api/v2/observation/metadata/<id>", Call.OBSERVATION),
)
_V2_ROOT = "/api/v2/"


def route_of(interface: Interface, request: Request) -> Route | None:
    """Return the route of a request, one with another method if none has the right one, or None."""
    routes = [
        route
        for route in ROUTES
        if route.interface is interface and route.number_in(request.path) is not None
    ]
    return next((route for route in routes if route.method == request.method), routes[0] if routes else None)


def is_for(interface: Interface, request: Request) -> bool:
    """Say whether a request is meant for an interface; all below ``/api/v2/`` is meant for v2."""
    if interface is V2:
        return request.path.startswith(_V2_ROOT)
    return route_of(interface, request) is not None
